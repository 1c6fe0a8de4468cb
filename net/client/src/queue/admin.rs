//! Looking at a queue, and moving its dead letters.

use std::sync::Arc;

use pinion_types::limits::{FRAME_BYTES_MAX, QUEUE_PAGE_MAX, QUEUE_TOKENS_MAX};
use pinion_types::{Offset, PartitionId};
use pinion_wire::message::{
    DeadReason, DeadSelect, GroupAction, IdList, MessageState, QueueDeadList, QueueDeadPurge,
    QueueDeadReplay, QueueGroup, QueueInfo, QueuePeek, QueueWhy, Reason, States,
};
use pinion_wire::{Reply, Request};

use super::Queue;
use crate::codec;
use crate::error::RequestError;
use crate::frames::Frame;
use crate::record::Received;
use crate::request::Class;
use crate::subscriber::Partitions;

/// Bytes of records one page asks for.
const PAGE_BYTES: u32 = FRAME_BYTES_MAX / 2;

/// What to [`peek`](Queue::peek) at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeekOptions {
    /// The consumer group; empty is the default one.
    pub group: String,
    /// Where.
    pub partitions: Partitions,
    /// Which messages.
    pub states: States,
    /// Give the records, read from the node's disk where needed, not only what
    /// is known of them.
    pub bodies: bool,
    /// Most messages of one page, 1 to 1,024.
    pub page_items: u32,
}

impl Default for PeekOptions {
    fn default() -> Self {
        Self {
            group: String::new(),
            partitions: Partitions::All,
            states: States::ALL,
            bodies: true,
            page_items: 256,
        }
    }
}

/// A message that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeekedMessage {
    /// The partition it is in.
    pub partition: PartitionId,
    /// Its number there.
    pub id: u64,
    /// What it is to the group.
    pub state: MessageState,
    /// Failed deliveries.
    pub attempts: u16,
    /// When it was put, in milliseconds since the Unix epoch.
    pub enqueued_ms: u64,
    /// When it becomes ready, or its reservation ends; `None` for what is ready
    /// or waits for an earlier message of its key.
    pub due_ms: Option<u64>,
    /// When its life ends, if it does.
    pub expires_ms: Option<u64>,
    /// What the last nack said; empty when there was none.
    pub last_error: String,
    /// Bytes of its record.
    pub record_bytes: u32,
    /// The record, when it was asked for, but for one that the node's log moved
    /// just then; its offset is the message's id.
    pub record: Option<Received>,
}

/// A dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The partition it is in.
    pub partition: PartitionId,
    /// Its number there.
    pub id: u64,
    /// Why it is one.
    pub reason: DeadReason,
    /// Failed deliveries.
    pub attempts: u16,
    /// When it was put, in milliseconds since the Unix epoch.
    pub enqueued_ms: u64,
    /// When it became a dead letter.
    pub died_ms: u64,
    /// What the last nack said; empty when there was none.
    pub last_error: String,
    /// Bytes of its record.
    pub record_bytes: u32,
    /// The record, when it was asked for, but for one that the node's log moved
    /// just then; its offset is the message's id.
    pub record: Option<Received>,
}

/// Which dead letters. The default is all of the default group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadSelection {
    /// The consumer group; empty is the default one.
    pub group: String,
    /// Where.
    pub partitions: Partitions,
    /// Only of this reason.
    pub reason: Option<DeadReason>,
    /// Only those whose last error begins with this.
    pub error_prefix: String,
    /// Only these, of the one partition named; empty is all. Not looked at by
    /// [`Queue::dead_letters`].
    pub ids: Vec<u64>,
}

impl DeadSelection {
    fn select(&self) -> DeadSelect<'_> {
        DeadSelect {
            reason: self.reason,
            error_prefix: &self.error_prefix,
        }
    }
}

/// Counts of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueCounts {
    /// Number the next message gets.
    pub next_id: u64,
    /// Messages some group has not finished.
    pub messages: u64,
    /// Bytes of their records.
    pub bytes: u64,
    /// Of these, bytes in the node's memory.
    pub resident_bytes: u64,
    /// Each group's.
    pub groups: Vec<GroupCounts>,
}

/// Counts of a consumer group in one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupCounts {
    /// Empty is the default one.
    pub name: String,
    /// Messages the next take may have.
    pub ready: u64,
    /// Messages that wait for their delay, their backoff, or an earlier message
    /// of their key.
    pub delayed: u64,
    /// Reserved messages.
    pub in_flight: u64,
    /// Dead letters.
    pub dead: u64,
    /// Bytes of all of them.
    pub bytes: u64,
    /// How long the oldest message that is ready has waited since it was put, without the
    /// delay it was put with, in milliseconds; 0 when none is ready.
    pub oldest_age_ms: u64,
    /// Consumers that subscribed.
    pub consumers: u32,
    /// Takes that wait.
    pub waiting: u32,
}

impl Queue {
    /// Walks messages without reserving them, by number within each partition.
    #[must_use]
    pub fn peek(&self, options: PeekOptions) -> Peek {
        Peek {
            walk: Walk::new(self, options.partitions),
            options,
        }
    }

    /// Walks the dead letters of a group, by number within each partition.
    #[must_use]
    pub fn dead_letters(&self, selection: DeadSelection, bodies: bool) -> DeadLetters {
        DeadLetters {
            walk: Walk::new(self, selection.partitions),
            selection,
            bodies,
        }
    }

    /// Makes dead letters ready again, their attempts forgotten, at most
    /// `rate_per_s` of each partition in a second (0: as fast as it goes). Gives
    /// how many are; when no ids are named, how many will be. Needs the grant to administer
    /// the queue.
    ///
    /// # Errors
    /// Partitions before the one that failed have done their part. Repeating it
    /// is safe: what was replayed is no dead letter.
    pub async fn replay_dead(
        &self,
        selection: &DeadSelection,
        rate_per_s: u32,
    ) -> Result<u64, RequestError> {
        self.move_dead(selection, Some(rate_per_s)).await
    }

    /// Forgets dead letters for good. Gives how many, and needs what
    /// [`replay_dead`](Self::replay_dead) does.
    ///
    /// # Errors
    /// As [`replay_dead`](Self::replay_dead).
    pub async fn purge_dead(&self, selection: &DeadSelection) -> Result<u64, RequestError> {
        self.move_dead(selection, None).await
    }

    /// Replays with a rate, purges without.
    async fn move_dead(
        &self,
        selection: &DeadSelection,
        rate_per_s: Option<u32>,
    ) -> Result<u64, RequestError> {
        if !selection.ids.is_empty() && selection.partitions == Partitions::All {
            return Err(RequestError::BadArgument {
                what: "numbers of messages are of one partition: name it",
            });
        }
        let mut moved = 0;
        for partition in selection.partitions.list(self.spec.shards) {
            let mut rest = &selection.ids[..];
            // Without ids it is one request, about everything.
            loop {
                let (some, later) = rest.split_at(rest.len().min(usize::from(QUEUE_TOKENS_MAX)));
                moved += self
                    .move_some(partition, selection, some, rate_per_s)
                    .await?;
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
        }
        Ok(moved)
    }

    async fn move_some(
        &self,
        partition: PartitionId,
        selection: &DeadSelection,
        ids: &[u64],
        rate_per_s: Option<u32>,
    ) -> Result<u64, RequestError> {
        let mut scratch = Vec::new();
        let ids = IdList::build(&mut scratch, ids.iter().copied())?;
        let (select, group) = (selection.select(), selection.group.as_str());
        let build = |handle| match rate_per_s {
            Some(rate_per_s) => Request::QueueDeadReplay(QueueDeadReplay {
                handle,
                partition,
                rate_per_s,
                select,
                group,
                ids,
            }),
            None => Request::QueueDeadPurge(QueueDeadPurge {
                handle,
                partition,
                select,
                group,
                ids,
            }),
        };
        let read = |_: &_, reply: Reply<'_>| match reply {
            Reply::Moved(moved) => Some(moved.messages),
            _ => None,
        };
        self.node
            .request(&self.resource, partition, Class::Write, build, read)
            .await
    }

    /// Counts of a partition, answered for messages on disk too.
    ///
    /// # Errors
    /// As every request; repeating it is safe.
    pub async fn info(&self, partition: PartitionId) -> Result<QueueCounts, RequestError> {
        let build = |handle| Request::QueueInfo(QueueInfo { handle, partition });
        let read = |_: &_, reply: Reply<'_>| {
            let Reply::QueueStatus(status) = reply else {
                return None;
            };
            let group = |group: pinion_wire::message::GroupItem<'_>| GroupCounts {
                name: group.name.to_owned(),
                ready: group.ready,
                delayed: group.delayed,
                in_flight: group.in_flight,
                dead: group.dead,
                bytes: group.bytes,
                oldest_age_ms: group.oldest_age_ms,
                consumers: group.consumers,
                waiting: group.waiting,
            };
            Some(QueueCounts {
                next_id: status.next_id,
                messages: status.messages,
                bytes: status.bytes,
                resident_bytes: status.resident_bytes,
                groups: status.groups.iter().map(group).collect(),
            })
        };
        self.node
            .request(&self.resource, partition, Class::Read, build, read)
            .await
    }

    /// What keeps messages of a group from being delivered; empty when nothing
    /// does.
    ///
    /// # Errors
    /// `UnknownGroup`, never for the default group of a queue without others;
    /// repeating it is safe.
    pub async fn why(
        &self,
        partition: PartitionId,
        group: &str,
    ) -> Result<Vec<Reason>, RequestError> {
        let build = |handle| {
            Request::QueueWhy(QueueWhy {
                handle,
                partition,
                group,
            })
        };
        let read = |_: &_, reply: Reply<'_>| match reply {
            Reply::QueueReasons(reasons) => Some(reasons.iter().collect()),
            _ => None,
        };
        self.node
            .request(&self.resource, partition, Class::Read, build, read)
            .await
    }

    /// Makes a consumer group in every partition. With `from_now` it sees
    /// messages put from now on, else every message the queue still holds.
    /// One that is there already stays as it is.
    ///
    /// # Errors
    /// Partitions before the one that failed have it. Repeating it is safe.
    pub async fn create_group(&self, group: &str, from_now: bool) -> Result<(), RequestError> {
        let action = if from_now {
            GroupAction::CreateLatest
        } else {
            GroupAction::CreateEarliest
        };
        for partition in Partitions::All.list(self.spec.shards) {
            self.group(partition, group, action).await?;
        }
        Ok(())
    }

    /// Forgets a consumer group in every partition, its dead letters included. Needs the
    /// grant to administer the queue.
    ///
    /// # Errors
    /// `UnknownGroup`; partitions before the one that failed have forgotten it.
    pub async fn delete_group(&self, group: &str) -> Result<(), RequestError> {
        for partition in Partitions::All.list(self.spec.shards) {
            self.group(partition, group, GroupAction::Delete).await?;
        }
        Ok(())
    }

    async fn group(
        &self,
        partition: PartitionId,
        group: &str,
        action: GroupAction,
    ) -> Result<(), RequestError> {
        let build = |handle| {
            Request::QueueGroup(QueueGroup {
                handle,
                partition,
                action,
                group,
            })
        };
        let read = |_: &_, reply: Reply<'_>| matches!(reply, Reply::Done).then_some(());
        self.node
            .request(&self.resource, partition, Class::Write, build, read)
            .await
    }
}

/// Where a walk over partitions and their messages is.
#[derive(Clone, Debug)]
struct Walk {
    queue: Queue,
    partitions: Arc<[PartitionId]>,
    at: usize,
    from: u64,
}

impl Walk {
    fn new(queue: &Queue, partitions: Partitions) -> Self {
        Self {
            queue: queue.clone(),
            partitions: partitions.list(queue.shards()).into(),
            at: 0,
            from: 0,
        }
    }

    /// The partition to ask; `None` at the end.
    fn partition(&self) -> Option<PartitionId> {
        self.partitions.get(self.at).copied()
    }

    fn advance(&mut self, next: u64) {
        // A page that does not lead on would be asked for without end.
        if next > self.from {
            self.from = next;
        } else {
            self.at += 1;
            self.from = 0;
        }
    }
}

/// A walk over messages, page by page.
#[derive(Clone, Debug)]
pub struct Peek {
    walk: Walk,
    options: PeekOptions,
}

impl Peek {
    /// The next page, `None` at the end. A page may be empty before the end.
    /// Dropped while waiting, the page comes again.
    ///
    /// # Errors
    /// As every request; calling again repeats the page.
    pub async fn next_page(&mut self) -> Result<Option<Vec<PeekedMessage>>, RequestError> {
        let Some(partition) = self.walk.partition() else {
            return Ok(None);
        };
        let build = |handle| {
            Request::QueuePeek(QueuePeek {
                handle,
                partition,
                from: self.walk.from,
                max_items: self.options.page_items.clamp(1, QUEUE_PAGE_MAX),
                max_bytes: PAGE_BYTES,
                states: self.options.states,
                bodies: self.options.bodies,
                group: &self.options.group,
            })
        };
        let read = |frame: &Frame, reply: Reply<'_>| {
            let Reply::QueuePage(page) = reply else {
                return None;
            };
            let message = |item: pinion_wire::message::PeekItem<'_>| PeekedMessage {
                partition,
                id: item.id,
                state: item.state,
                attempts: item.attempts,
                enqueued_ms: item.enqueued.0,
                due_ms: Some(item.due.0).filter(|ms| *ms > 0),
                expires_ms: Some(item.expires.0).filter(|ms| *ms > 0),
                last_error: item.last_error.to_owned(),
                record_bytes: item.record_bytes,
                record: item
                    .record
                    .map(|record| received(frame, partition, item.id, item.enqueued.0, &record)),
            };
            let messages: Vec<_> = page.items.iter().map(message).collect();
            Some((page.next, messages))
        };
        let queue = &self.walk.queue;
        let (next, messages) = queue
            .node
            .request(&queue.resource, partition, Class::Read, build, read)
            .await?;
        self.walk.advance(next);
        Ok(Some(messages))
    }
}

/// A walk over dead letters, page by page.
#[derive(Clone, Debug)]
pub struct DeadLetters {
    walk: Walk,
    selection: DeadSelection,
    bodies: bool,
}

impl DeadLetters {
    /// The next page, `None` at the end. A page may be empty before the end.
    /// Dropped while waiting, the page comes again.
    ///
    /// # Errors
    /// As every request; calling again repeats the page.
    pub async fn next_page(&mut self) -> Result<Option<Vec<DeadLetter>>, RequestError> {
        let Some(partition) = self.walk.partition() else {
            return Ok(None);
        };
        let build = |handle| {
            Request::QueueDeadList(QueueDeadList {
                handle,
                partition,
                from: self.walk.from,
                max_items: QUEUE_PAGE_MAX / 4,
                max_bytes: PAGE_BYTES,
                bodies: self.bodies,
                select: self.selection.select(),
                group: &self.selection.group,
            })
        };
        let read = |frame: &Frame, reply: Reply<'_>| {
            let Reply::DeadPage(page) = reply else {
                return None;
            };
            let letter = |item: pinion_wire::message::DeadItem<'_>| DeadLetter {
                partition,
                id: item.id,
                reason: item.reason,
                attempts: item.attempts,
                enqueued_ms: item.enqueued.0,
                died_ms: item.died.0,
                last_error: item.last_error.to_owned(),
                record_bytes: item.record_bytes,
                record: item
                    .record
                    .map(|record| received(frame, partition, item.id, item.enqueued.0, &record)),
            };
            let letters: Vec<_> = page.items.iter().map(letter).collect();
            Some((page.next, letters))
        };
        let queue = &self.walk.queue;
        let (next, letters) = queue
            .node
            .request(&queue.resource, partition, Class::Read, build, read)
            .await?;
        self.walk.advance(next);
        Ok(Some(letters))
    }
}

fn received(
    frame: &Frame,
    partition: PartitionId,
    id: u64,
    timestamp_ms: u64,
    record: &pinion_types::block::Record<'_>,
) -> Received {
    Received {
        partition,
        offset: Offset(id),
        timestamp_ms,
        key: codec::share(frame, record.key),
        headers: codec::share(frame, record.headers),
        value: codec::share(frame, record.value),
    }
}
