//! What partitions have to say, addressed.

use pinion_domains::cache::{Wakeup, WatchEvent};
use pinion_domains::stream::Delivery;
use pinion_types::Version;

use crate::origin::{Origin, Subscriber};

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
    /// The same, because the node is shutting down.
    Draining {
        /// Whom to answer.
        origin: Origin,
    },
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
