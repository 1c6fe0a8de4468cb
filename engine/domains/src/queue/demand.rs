//! Who wants messages: waiting takes and subscriptions, and the consumers
//! behind them.

use std::collections::{BTreeMap, VecDeque};

use pinion_types::wheel::TimerLink;
use pinion_types::{ErrorCode, FixedMap, SessionId};

use super::pool::{Link, List, NIL, Row};

/// Names a waiting take; chosen by the owner of the partition, unique among
/// those that wait in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaiterId(pub u64);

/// Names a subscription; chosen by the owner of the partition, unique among
/// those it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PushId(pub u64);

/// What a demand is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Want {
    /// One delivery, then it is over.
    Waiter {
        id: WaiterId,
        max: u32,
        max_bytes: u32,
    },
    /// Deliveries while credit and window last.
    Push {
        id: PushId,
        credit_records: u32,
        credit_bytes: i64,
        window: i64,
    },
}

/// Which list a demand is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// `hungry` of its group.
    Hungry,
    /// `blocked` of its consumer: as much in flight as it may have.
    Blocked,
    /// None: a subscription without credit or window.
    Starved,
}

#[derive(Debug)]
pub(super) struct Demand {
    pub(super) link: Link,
    pub(super) timer: TimerLink,
    pub(super) want: Want,
    pub(super) consumer: u32,
    pub(super) lease_ms: u32,
    pub(super) place: Place,
}

impl Row for Demand {
    fn vacant() -> Self {
        Self {
            link: Link::NONE,
            timer: TimerLink::IDLE,
            want: Want::Waiter {
                id: WaiterId(0),
                max: 0,
                max_bytes: 0,
            },
            consumer: NIL,
            lease_ms: 0,
            place: Place::Starved,
        }
    }

    fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    fn next(&self) -> u32 {
        self.link.next
    }
}

/// A session in a group, or one subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ConsumerKey {
    /// The connection.
    pub session: SessionId,
    /// The subscription, if it is one.
    pub push: Option<PushId>,
    pub(super) group: u8,
}

#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) link: Link,
    pub(super) key: Option<ConsumerKey>,
    /// Reservations, the oldest first.
    pub(super) reservations: List,
    /// Demands that wait until it has fewer.
    pub(super) blocked: List,
    /// Demands of any state.
    pub(super) demands: Vec<u32>,
    /// Messages it asked to have in flight at most; 0 = the queue's bound.
    pub(super) in_flight_max: u32,
}

impl Row for Consumer {
    fn vacant() -> Self {
        Self {
            link: Link::NONE,
            key: None,
            reservations: List::EMPTY,
            blocked: List::EMPTY,
            demands: Vec::new(),
            in_flight_max: 0,
        }
    }

    fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    fn next(&self) -> u32 {
        self.link.next
    }
}

/// The names under which demands and consumers are known.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) waiters: FixedMap<WaiterId, u32>,
    pub(super) pushes: FixedMap<PushId, u32>,
    /// Ordered, so that those of a session are neighbours.
    pub(super) consumers: BTreeMap<ConsumerKey, u32>,
    /// Waiters to be told that nothing came, and whose they are.
    pub(super) timed_out: VecDeque<(WaiterId, Gone, SessionId)>,
    /// Subscriptions to be told that they are over, and whose they are.
    pub(super) ended: VecDeque<(PushId, ErrorCode, SessionId)>,
}

/// Why a waiter gets nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// Nothing came within its time.
    TimedOut,
    /// Its group was deleted.
    GroupDeleted,
    /// The partition was fenced.
    Fenced,
    /// The partition goes away; ask again elsewhere.
    Closed,
}
