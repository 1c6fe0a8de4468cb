//! What bounds a queue, and why it refuses.

use pinion_types::block::BlockError;
use pinion_types::limits::RECORD_BYTES_MAX;
use pinion_types::{ErrorCode, FactId, Refusal};

/// Most consumer groups of a queue. A message keeps one bit per group, so more
/// would cost every message eight more bytes.
pub const GROUPS_MAX: usize = 64;
/// Longest name of a consumer group.
pub const GROUP_NAME_BYTES_MAX: usize = u8::MAX as usize;
/// Longest error text of a nack; it is kept with the message.
pub const ERROR_BYTES_MAX: usize = u8::MAX as usize;
/// Most messages of one delivery. More keeps the core with one consumer longer.
pub const DELIVERY_MESSAGES_MAX: u32 = 1024;
/// Most bytes of one pushed delivery, a single larger message excepted.
pub const DELIVERY_BYTES_MAX: u32 = 64 << 10;
/// Most tokens or ids of one request, and of one op. Bounds the work of a call.
pub const BATCH_MAX: usize = 1024;
/// Longest reservation: 12 hours. Longer hides dead consumers.
pub const LEASE_MS_MAX: u32 = 12 * 3600 * 1000;
/// Longest delay and longest time to live: ten years.
pub const TIME_MS_MAX: u64 = 10 * 365 * 24 * 3600 * 1000;
/// Longest a take may wait.
pub const WAIT_MS_MAX: u32 = 30_000;
/// How long the outcome of an ack is remembered for a repeat.
pub const DONE_REMEMBERED_MS: u64 = 5 * 60 * 1000;
/// Most items of one page of peek or of the dead list.
pub const PAGE_MAX: usize = 1024;

/// What bounds a queue's partition. Everything but `durable` and `seed` may be
/// changed while it serves ([`super::QueuePartition::set_config`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueConfig {
    /// Whether ops go to a log. An ephemeral queue forgets all when it goes.
    pub durable: bool,
    /// Messages at once, the dead ones included. Each costs about 100 bytes of
    /// memory beside its body.
    pub messages_max: u32,
    /// Bytes of all messages, in memory or not.
    pub bytes_max: u64,
    /// Bytes of bodies kept in memory (durable queues only). More serves a long
    /// backlog without the disk, less leaves memory to other partitions.
    pub resident_bytes_max: u64,
    /// Bytes loaded ahead of the consumers. More hides a slow disk, less
    /// evicts less.
    pub read_ahead_bytes: u64,
    /// Longest message: key, headers and value.
    pub max_record_bytes: u32,
    /// Reservation time of takers that name none.
    pub lease_ms: u32,
    /// Attempts after which a message is dead. Raising it lets a poisonous
    /// message do harm for longer.
    pub max_attempts: u16,
    /// Messages one group may have in flight.
    pub max_in_flight: u32,
    /// Messages one consumer may have in flight. Lower spreads work more evenly.
    pub consumer_in_flight: u32,
    /// Consumer groups; at most [`GROUPS_MAX`].
    pub groups_max: u8,
    /// Consumers (a session in a group, or a subscription) of all groups.
    pub consumers_max: u32,
    /// Waiting takes and subscriptions of all groups together.
    pub waiters_max: u32,
    /// Dead letters of all groups; beyond it puts are refused until some are
    /// replayed or purged. Dead letters are never dropped.
    pub dead_max: u32,
    /// First delay after a failed attempt; it doubles with each further one.
    pub backoff_min_ms: u32,
    /// Longest such delay.
    pub backoff_max_ms: u32,
    /// Redeliveries per second and group; more lets a lost fleet of consumers
    /// come back as a storm, less makes a backlog of failures drain slowly.
    pub redelivery_per_sec: u32,
    /// Redeliveries at once after a quiet time.
    pub redelivery_burst: u32,
    /// Hold back later messages of a key while one is in flight or to be retried.
    pub ordered_by_key: bool,
    /// Messages whose time to live ran out become dead letters; otherwise they
    /// are removed and only counted.
    pub dead_letter_expired: bool,
    /// Time to live of messages that name none; 0 = for ever.
    pub ttl_ms: u64,
    /// Acks remembered for [`DONE_REMEMBERED_MS`]; the oldest go first. Each
    /// costs about 40 bytes.
    pub done_acks_max: u32,
    /// Idempotent producers remembered.
    pub producers_max: u32,
    /// A group with ready messages and consumers but no progress for this long
    /// is reported as stuck.
    pub stuck_after_ms: u32,
    /// Randomness of tokens and jitter. It must differ each time the partition
    /// is opened, or a token of an earlier life could be taken for a new one.
    pub seed: u64,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            durable: true,
            messages_max: 1 << 20,
            bytes_max: 1 << 30,
            resident_bytes_max: 64 << 20,
            read_ahead_bytes: 4 << 20,
            max_record_bytes: RECORD_BYTES_MAX,
            lease_ms: 30_000,
            max_attempts: 5,
            max_in_flight: 100_000,
            consumer_in_flight: 4096,
            groups_max: 16,
            consumers_max: 16_384,
            waiters_max: 16_384,
            dead_max: 100_000,
            backoff_min_ms: 100,
            backoff_max_ms: 60_000,
            redelivery_per_sec: 10_000,
            redelivery_burst: 1000,
            ordered_by_key: false,
            dead_letter_expired: true,
            ttl_ms: 0,
            done_acks_max: 65_536,
            producers_max: 1024,
            stuck_after_ms: 60_000,
            seed: 0,
        }
    }
}

/// Which bound of a queue was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// `messages_max`.
    Messages,
    /// `bytes_max`.
    Bytes,
    /// `dead_max`: replay or purge dead letters first.
    Dead,
    /// `groups_max`.
    Groups,
    /// `consumers_max`.
    Consumers,
    /// `waiters_max`.
    Waiters,
}

/// Why a queue refused a request. Nothing has changed in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// The bytes are not the records they were announced to be.
    #[error("the batch is malformed: {0}")]
    Malformed(#[from] BlockError),
    /// A message is longer than the queue takes.
    #[error("a message has {len} bytes, the queue takes {limit}")]
    RecordTooLarge {
        /// Its length.
        len: u64,
        /// The most taken.
        limit: u32,
    },
    /// A number is outside its range.
    #[error("{actual} is over the limit of {limit}")]
    OutOfRange {
        /// What was given.
        actual: u64,
        /// The most allowed.
        limit: u64,
    },
    /// The queue holds as much as it may. Retry after some has been consumed.
    #[error("the queue is full: {bound:?} at most {limit}")]
    Full {
        /// Which bound.
        bound: Bound,
        /// Its value.
        limit: u64,
    },
    /// A table of the queue is full.
    #[error("too many: {bound:?} at most {limit}")]
    TooMany {
        /// Which table.
        bound: Bound,
        /// Its bound.
        limit: u32,
    },
    /// No such group, or it is being deleted.
    #[error("no such consumer group")]
    UnknownGroup,
    /// The name of the waiter or subscription is in use.
    #[error("the name of the waiter or subscription is in use")]
    DuplicateId,
    /// Puts of an idempotent producer are missing.
    #[error("sequence {received} where {expected} was expected")]
    SequenceGap {
        /// The next sequence.
        expected: u64,
        /// The one received.
        received: u64,
    },
    /// A repeat older than the queue remembers, or cut differently.
    #[error("sequence {received} repeats what is no longer remembered")]
    SequenceTooOld {
        /// The next sequence.
        expected: u64,
        /// The one received.
        received: u64,
    },
    /// Data of the partition is damaged, or a write of it failed.
    #[error("the partition is fenced")]
    Fenced,
}

impl From<QueueError> for Refusal {
    fn from(error: QueueError) -> Self {
        match error {
            QueueError::Malformed(BlockError::TooLarge { len, limit }) => {
                Self::new(ErrorCode::RecordTooLarge)
                    .with(FactId::Limit, limit)
                    .with(FactId::Actual, len)
            }
            QueueError::Malformed(BlockError::Count { expected, actual }) => {
                Self::new(ErrorCode::BadBatch)
                    .with(FactId::Expected, u64::from(expected))
                    .with(FactId::Actual, u64::from(actual))
            }
            QueueError::Malformed(_) => Self::new(ErrorCode::BadBatch),
            QueueError::RecordTooLarge { len, limit } => Self::new(ErrorCode::RecordTooLarge)
                .with(FactId::Limit, u64::from(limit))
                .with(FactId::Actual, len),
            QueueError::OutOfRange { actual, limit } => Self::new(ErrorCode::BadArgument)
                .with(FactId::Actual, actual)
                .with(FactId::Limit, limit),
            QueueError::Full { limit, .. } => {
                Self::new(ErrorCode::QueueFull).with(FactId::Limit, limit)
            }
            QueueError::TooMany { limit, .. } => {
                Self::new(ErrorCode::LimitReached).with(FactId::Limit, u64::from(limit))
            }
            QueueError::UnknownGroup => Self::new(ErrorCode::UnknownGroup),
            QueueError::DuplicateId => Self::new(ErrorCode::BadArgument),
            QueueError::SequenceGap { expected, received } => Self::new(ErrorCode::SequenceGap)
                .with(FactId::Expected, expected)
                .with(FactId::Actual, received),
            QueueError::SequenceTooOld { expected, received } => {
                Self::new(ErrorCode::SequenceTooOld)
                    .with(FactId::Expected, expected)
                    .with(FactId::Actual, received)
            }
            QueueError::Fenced => Self::new(ErrorCode::PartitionFenced),
        }
    }
}
