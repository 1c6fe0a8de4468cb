//! What partitions have to say, addressed.

use bytes::Bytes;
use pinion_commitlog::{Damage, DiskError, Location, LogId, ReadError};
use pinion_domains::cache::{Wakeup, WatchEvent};
use pinion_domains::queue::Taken;
use pinion_domains::stream::Delivery;
use pinion_types::{ErrorCode, Refusal, Version};

use crate::durable::Ticket;
use crate::origin::{Origin, Subscriber};
use crate::shard::Slot;

/// One thing for one connection.
#[derive(Debug)]
pub enum ShardOutput {
    /// For a subscription to a stream.
    Delivery {
        /// Whose.
        to: Subscriber,
        /// What it gets.
        delivery: Delivery,
    },
    /// For a watch on a cache.
    Watch {
        /// Whose.
        to: Subscriber,
        /// What happened.
        event: WatchEvent,
    },
    /// A get-or-lease that waited is decided.
    Wakeup {
        /// Whom to answer.
        origin: Origin,
        /// The answer.
        answer: LateAnswer,
    },
    /// A request that waited is over: the node is shutting down, or the resource is
    /// deleted.
    Ended {
        /// Whom to answer.
        origin: Origin,
        /// Why.
        code: ErrorCode,
    },
    /// Messages of a queue, reserved for who gets them. Give the buffer back
    /// with [`crate::Shard::recycle`].
    Messages {
        /// Whose.
        to: MessagesFor,
        /// The queue.
        slot: Slot,
        /// How long they are reserved, in milliseconds.
        lease_ms: u32,
        /// The messages, oldest first.
        messages: Vec<Taken>,
    },
    /// A take that waited gets no messages.
    TakeEnded {
        /// Whom to answer.
        origin: Origin,
        /// Why; `None` when its time is over.
        refusal: Option<Refusal>,
    },
    /// A subscription to a queue is over.
    QueueEnd {
        /// Whose.
        to: Subscriber,
        /// Why.
        code: ErrorCode,
    },
    /// Everything up to the ticket is durable: what was held for it may be
    /// acknowledged.
    Committed(Ticket),
    /// A write of the log failed. What was not committed is unknown, and the
    /// log's partitions are closed.
    LogFailed {
        /// The log.
        log: LogId,
        /// What the disk said.
        error: DiskError,
    },
    /// The disk is full, or has room again.
    ReadOnly {
        /// The log.
        log: LogId,
        /// Only what frees space is taken.
        read_only: bool,
    },
    /// Committed data is damaged; the partitions it belongs to are closed.
    Damaged {
        /// The log.
        log: LogId,
        /// Where.
        damage: Damage,
    },
    /// What a partition lacked was read, or cannot be: a fetch that waited for
    /// it can be tried again.
    ReadReturned {
        /// The partition.
        slot: Slot,
    },
    /// What [`crate::Shard::look`] asked for was read, or cannot be.
    Looked {
        /// As it was asked with.
        look: u64,
        /// Where it was.
        place: Location,
        /// The body of the record there.
        body: Result<Bytes, ReadError>,
    },
}

/// Who gets messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessagesFor {
    /// A take that waited.
    Take(Origin),
    /// A subscription.
    Subscription(Subscriber),
}

/// Answer to a get-or-lease that waited.
#[derive(Debug, PartialEq, Eq)]
pub enum LateAnswer {
    /// The key was set. Copied: the partition goes on before this is sent, and
    /// waiting for another caller is rare beside reading.
    Value {
        /// For compare-and-set.
        version: Version,
        /// Remaining time to live in milliseconds; 0 = none.
        ttl_ms: u64,
        /// The value.
        value: Box<[u8]>,
    },
    /// The caller fills the key now.
    Lease {
        /// Proof of the lease.
        token: u64,
        /// How long it is held, in milliseconds.
        lease_ms: u32,
    },
    /// The time the caller gave is over.
    TimedOut,
    /// The key was set, and was gone again before this was collected.
    Miss,
}

impl From<Wakeup<'_>> for LateAnswer {
    fn from(wakeup: Wakeup<'_>) -> Self {
        match wakeup {
            Wakeup::Value(entry) => Self::Value {
                version: entry.version,
                ttl_ms: entry.ttl_ms,
                value: entry.value.into(),
            },
            Wakeup::Lease { token, lease_ms } => Self::Lease { token, lease_ms },
            Wakeup::TimedOut => Self::TimedOut,
            Wakeup::Miss => Self::Miss,
        }
    }
}
