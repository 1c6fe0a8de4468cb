//! Limits of a partition and its refusals.

use pinion_types::limits::KEY_BYTES_MAX;
use pinion_types::{ErrorCode, FactId, Refusal, Version};

/// Smallest budget that is honoured; a smaller one is raised to it, since below
/// it the fixed structures would leave no room for a value.
pub const BUDGET_BYTES_MIN: u64 = 128 << 10;

/// Largest budget of one partition; slots are numbered with 31 bits.
pub(super) const BUDGET_BYTES_MAX: u64 = 128 << 30;

/// Longest time a fill lease is held, in milliseconds. Longer lets one silent
/// filler hold up everyone else; shorter makes slow origins fill twice.
pub const LEASE_MS_MAX: u32 = 60_000;

/// Limits of one partition. All memory outside `budget_bytes` is bounded by the
/// other numbers.
#[derive(Clone, Debug)]
pub struct CacheConfig {
    /// Keys, values and their bookkeeping together, in bytes; hard. Raised to
    /// [`BUDGET_BYTES_MIN`] if smaller.
    pub budget_bytes: u64,
    /// Key of the hash (SipHash-1-3). From outside unpredictable, so that
    /// nobody can choose colliding keys.
    pub seed: [u64; 2],
    /// The first version given. Pass something above every version of an earlier
    /// life of the cache (a wall-clock reading shifted left does), or a client
    /// could compare-and-set against a value that is not the one it saw.
    pub first_version: Version,
    /// How long an expired value is kept for `stale_ok` readers, in milliseconds,
    /// and only if such a reader has asked for this value while it was current.
    /// Other values are reclaimed within a second. 0 keeps none.
    pub stale_keep_ms: u32,
    /// Keys being filled at once. Each costs its key and about 300 bytes.
    pub leases_max: u32,
    /// Callers waiting for a filler at once. Each costs about 200 bytes.
    pub waiters_max: u32,
    /// Watches at once. Each mutation costs one comparison per distinct prefix
    /// watched and one queue push per watch it matches.
    pub watchers_max: u32,
    /// Bytes of events that wait for one watch before the oldest are dropped.
    pub watch_buffer_bytes: u32,
    /// The same, in events.
    pub watch_buffer_records: u32,
    /// Bytes of events that wait for all watches together; an event that waits
    /// for several counts for each.
    pub watch_total_bytes: u64,
}

impl CacheConfig {
    /// The usual limits around a budget and a seed.
    #[must_use]
    pub const fn new(budget_bytes: u64, seed: [u64; 2]) -> Self {
        Self {
            budget_bytes,
            seed,
            first_version: Version(1),
            stale_keep_ms: 10_000,
            leases_max: 4096,
            waiters_max: 16_384,
            watchers_max: 1024,
            watch_buffer_bytes: 2 << 20,
            watch_buffer_records: 4096,
            watch_total_bytes: 32 << 20,
        }
    }
}

/// Why a cache request was refused. The key is unchanged in every case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CacheError {
    /// A key has at least one byte.
    #[error("the key is empty")]
    KeyEmpty,
    /// The key is longer than any key may be.
    #[error("the key has {len} bytes, the most is {KEY_BYTES_MAX}")]
    KeyTooLong {
        /// Its length in bytes.
        len: u64,
    },
    /// The value could never fit: over the cache's limit or over the budget.
    #[error("the value has {len} bytes, the most is {limit}")]
    ValueTooLarge {
        /// Its length in bytes.
        len: u64,
        /// The most that fits beside this key.
        limit: u64,
    },
    /// The value needs more room than one request may make. The room made so far
    /// stays; the same request again goes on from there.
    #[error("room is being made")]
    MakingRoom,
    /// The condition was `Absent` and the key is there.
    #[error("the key exists with version {version}")]
    KeyExists {
        /// Its version.
        version: Version,
    },
    /// Compare-and-set lost.
    #[error("the entry has version {actual}")]
    VersionConflict {
        /// The entry's version, 0 if it is absent.
        actual: Version,
    },
    /// The key is not there and the operation needs it.
    #[error("the key is absent")]
    KeyAbsent,
    /// The value is not 8 bytes.
    #[error("the value is not an 8-byte counter")]
    NotACounter,
    /// The sum leaves `i64`.
    #[error("the counter would overflow")]
    CounterOverflow,
    /// The lease expired, passed on, or the key was set or deleted meanwhile.
    #[error("the fill lease is no longer held")]
    LeaseLost,
    /// Delete takes `Always` or `Version` only.
    #[error("the condition does not fit the operation")]
    BadCondition,
    /// Another caller fills the key and this one would not wait.
    #[error("another caller is filling the key")]
    Filling,
    /// Too many keys are being filled.
    #[error("{limit} keys are being filled")]
    TooManyLeases {
        /// The most.
        limit: u32,
    },
    /// Too many callers wait.
    #[error("{limit} callers are waiting")]
    TooManyWaiters {
        /// The most.
        limit: u32,
    },
    /// Too many watches.
    #[error("{limit} watches are open")]
    TooManyWatches {
        /// The most.
        limit: u32,
    },
    /// The waiter or watch id is in use.
    #[error("the id is in use")]
    DuplicateId,
}

impl From<CacheError> for Refusal {
    fn from(error: CacheError) -> Self {
        match error {
            CacheError::KeyEmpty => Self::new(ErrorCode::BadArgument)
                .with(FactId::Actual, 0)
                .with(FactId::Min, 1),
            CacheError::KeyTooLong { len } => Self::new(ErrorCode::ValueTooLarge)
                .with(FactId::Actual, len)
                .with(FactId::Limit, u64::from(KEY_BYTES_MAX)),
            CacheError::ValueTooLarge { len, limit } => Self::new(ErrorCode::ValueTooLarge)
                .with(FactId::Actual, len)
                .with(FactId::Limit, limit),
            CacheError::MakingRoom => Self::new(ErrorCode::Busy),
            CacheError::KeyExists { version } => {
                Self::new(ErrorCode::KeyExists).with(FactId::Actual, version.0)
            }
            CacheError::VersionConflict { actual } => {
                Self::new(ErrorCode::VersionConflict).with(FactId::Actual, actual.0)
            }
            CacheError::KeyAbsent => Self::new(ErrorCode::KeyAbsent),
            CacheError::NotACounter => Self::new(ErrorCode::NotACounter),
            CacheError::CounterOverflow => Self::new(ErrorCode::CounterOverflow),
            CacheError::LeaseLost => Self::new(ErrorCode::LeaseLost),
            CacheError::BadCondition | CacheError::DuplicateId => Self::new(ErrorCode::BadArgument),
            CacheError::Filling => Self::new(ErrorCode::TimedOut),
            CacheError::TooManyLeases { limit } | CacheError::TooManyWaiters { limit } => {
                Self::new(ErrorCode::Busy).with(FactId::Limit, u64::from(limit))
            }
            CacheError::TooManyWatches { limit } => {
                Self::new(ErrorCode::LimitReached).with(FactId::Limit, u64::from(limit))
            }
        }
    }
}
