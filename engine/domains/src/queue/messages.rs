//! The rows of a queue: what was put, its messages, and where a message stands
//! in a group that has touched it.

use std::collections::VecDeque;

use bytes::Bytes;
use pinion_commitlog::Location;
use pinion_types::wheel::TimerLink;
use pinion_types::{Monotonic, WallMs};

use super::pool::{Link, NIL, Pool, Row};

/// One put: the record of the log that carries the bodies of its messages.
#[derive(Debug)]
pub(super) struct PutRecord {
    /// Place in the list of `residency`.
    pub(super) link: Link,
    pub(super) generation: u32,
    pub(super) first: u64,
    pub(super) count: u32,
    /// Messages not yet gone; 0 = a free row.
    pub(super) live: u32,
    pub(super) timestamp: WallMs,
    pub(super) delay_ms: u64,
    /// 0 = for ever.
    pub(super) ttl_ms: u64,
    pub(super) due: Monotonic,
    pub(super) expires: Monotonic,
    pub(super) location: Option<Location>,
    pub(super) body: Option<Bytes>,
    pub(super) body_len: u32,
    pub(super) residency: Residency,
}

/// Where the body of a put is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Residency {
    /// In the log only.
    Absent,
    /// To be loaded.
    Wanted,
    /// Being loaded.
    Loading,
    /// Loaded for a consumer and not yet served: never evicted.
    Pinned,
    /// In memory, not served to anyone since.
    Ahead,
    /// In memory, some of it served.
    Served,
}

impl Row for PutRecord {
    fn vacant() -> Self {
        Self {
            link: Link::NONE,
            generation: 0,
            first: 0,
            count: 0,
            live: 0,
            timestamp: WallMs(0),
            delay_ms: 0,
            ttl_ms: 0,
            due: Monotonic::ZERO,
            expires: NEVER,
            location: None,
            body: None,
            body_len: 0,
            residency: Residency::Absent,
        }
    }

    fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    fn next(&self) -> u32 {
        self.link.next
    }
}

/// The end of time: a timer that is never armed.
pub(super) const NEVER: Monotonic = Monotonic(u64::MAX);

/// One message, committed and not yet done by every group.
#[derive(Debug)]
pub(super) struct Message {
    /// Neighbours in the order of readiness, while not `delayed`.
    pub(super) link: Link,
    pub(super) timer: TimerLink,
    pub(super) id: u64,
    pub(super) record: u32,
    /// Where its record lies in the body of the put.
    pub(super) pos: u32,
    /// Bytes of its record; 0 = a free row.
    pub(super) len: u32,
    /// First of its entries.
    pub(super) entry: u32,
    /// Hash of its key; 0 = it has none.
    pub(super) key: u64,
    /// Groups that are done with it.
    pub(super) done: u64,
    /// Groups that have an entry for it or are done with it.
    pub(super) touched: u64,
    /// Waits for the delay of its put.
    pub(super) delayed: bool,
}

impl Row for Message {
    fn vacant() -> Self {
        Self {
            link: Link::NONE,
            timer: TimerLink::IDLE,
            id: 0,
            record: NIL,
            pos: 0,
            len: 0,
            entry: NIL,
            key: 0,
            done: 0,
            touched: 0,
            delayed: false,
        }
    }

    fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    fn next(&self) -> u32 {
        self.link.next
    }
}

/// Where a message stands in a group that has touched it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// A free row.
    Free,
    /// Ready, without a limit on its rate: released, or its key's turn.
    Front,
    /// Ready again after a failure or a lost consumer.
    Returned,
    /// Waits for its backoff.
    Delayed,
    /// Reserved.
    InFlight,
    /// An op about it is on its way to the log: nobody may have it meanwhile.
    Settling,
    /// Waits for an earlier message of its key.
    Parked,
    /// A dead letter.
    Dead,
    /// Read back from the log; `QueuePartition::ready` gives it a state.
    Restored,
}

/// How the latest reservation of an entry ended, for repeats of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    No,
    Ack,
    Nack,
    Release,
    /// Ran out, or its session went.
    Lost,
}

/// Why a message is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum DeadReason {
    /// `max_attempts` attempts failed, the last by a nack.
    Failed = 1,
    /// Its time to live ran out.
    Expired = 2,
    /// `max_attempts` attempts failed, the last because its reservation ran out.
    LeaseExpired = 3,
}

impl DeadReason {
    pub(super) const fn from_u8(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Failed),
            2 => Some(Self::Expired),
            3 => Some(Self::LeaseExpired),
            _ => None,
        }
    }
}

/// What only a message that met trouble has.
#[derive(Clone, Debug, Default)]
pub(super) struct Trouble {
    /// Text of the last failure.
    pub(super) error: Option<Bytes>,
    /// When the last op about it was decided, and the delay from then on.
    pub(super) since: WallMs,
    pub(super) delay_ms: u64,
    pub(super) dead: Option<DeadReason>,
    /// Replayed after it was dead: its time to live counts no more.
    pub(super) replayed: bool,
}

#[derive(Debug)]
pub(super) struct Entry {
    /// Neighbours in the consumer's reservations or behind its key.
    pub(super) link: Link,
    pub(super) timer: TimerLink,
    pub(super) message: u32,
    /// The same message's entry in another group.
    pub(super) sibling: u32,
    pub(super) consumer: u32,
    /// Counts reservations of this row, over all messages that ever used it.
    pub(super) generation: u32,
    pub(super) attempts: u16,
    pub(super) group: u8,
    pub(super) state: State,
    pub(super) ended: Ended,
    /// Has its key's turn.
    pub(super) owns_key: bool,
    /// In flight: since when. Settling: when it is due again.
    pub(super) at: Monotonic,
    pub(super) trouble: Option<Box<Trouble>>,
}

impl Row for Entry {
    fn vacant() -> Self {
        Self {
            link: Link::NONE,
            timer: TimerLink::IDLE,
            message: NIL,
            sibling: NIL,
            consumer: NIL,
            generation: 0,
            attempts: 0,
            group: 0,
            state: State::Free,
            ended: Ended::No,
            owns_key: false,
            at: Monotonic::ZERO,
            trouble: None,
        }
    }

    fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    fn next(&self) -> u32 {
        self.link.next
    }
}

impl Entry {
    pub(super) fn trouble_mut(&mut self) -> &mut Trouble {
        self.trouble.get_or_insert_default()
    }

    pub(super) fn error(&self) -> Option<&Bytes> {
        self.trouble.as_ref().and_then(|t| t.error.as_ref())
    }
}

/// Message id → row. Ids only grow, so this is a sorted queue; a message that
/// is gone is noticed by its row having another id, and left until the front
/// reaches it or half of the queue is such.
#[derive(Debug, Default)]
pub(super) struct Index {
    ids: VecDeque<(u64, u32)>,
}

impl Index {
    pub(super) fn push(&mut self, id: u64, row: u32) {
        if let Some((last, _)) = self.ids.back() {
            assert!(*last < id, "message ids only grow: {id} after {last}");
        }
        self.ids.push_back((id, row));
    }

    fn live(messages: &Pool<Message>, (id, row): (u64, u32)) -> bool {
        let message = &messages[row];
        message.id == id && message.len > 0
    }

    /// Where ids from `id` on begin.
    fn position(&self, id: u64) -> usize {
        // The front is where most questions are about.
        match self.ids.front() {
            Some((first, _)) if *first >= id => 0,
            _ => self.ids.partition_point(|(other, _)| *other < id),
        }
    }

    pub(super) fn find(&self, messages: &Pool<Message>, id: u64) -> Option<u32> {
        let found = *self.ids.get(self.position(id))?;
        (found.0 == id && Self::live(messages, found)).then_some(found.1)
    }

    /// Live messages from `id` on, in the order of their ids.
    pub(super) fn from<'a>(
        &'a self,
        messages: &'a Pool<Message>,
        id: u64,
    ) -> impl Iterator<Item = u32> + 'a {
        self.ids
            .range(self.position(id)..)
            .filter(|found| Self::live(messages, **found))
            .map(|found| found.1)
    }

    /// A message has gone. O(1) amortised.
    pub(super) fn tidy(&mut self, messages: &Pool<Message>) {
        while let Some(front) = self.ids.front() {
            if Self::live(messages, *front) {
                break;
            }
            self.ids.pop_front();
        }
        if self.ids.len() > 64 && self.ids.len() / 2 > messages.len() as usize {
            self.ids.retain(|found| Self::live(messages, *found));
        }
    }
}
