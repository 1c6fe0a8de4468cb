//! Why a partition refuses. Nothing has changed in any case.

use pinion_types::block::BlockError;
use pinion_types::{ErrorCode, FactId, Offset, Refusal, Sequence};

/// Why an append was refused. The partition is unchanged in every case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The bytes are not the records they were announced to be.
    #[error("the batch is malformed: {0}")]
    Malformed(#[from] BlockError),
    /// A record is longer than the stream takes.
    #[error("a record has {len} bytes, the stream takes {limit}")]
    RecordTooLarge {
        /// Its length, without the length field.
        len: u64,
        /// The most the stream takes.
        limit: u32,
    },
    /// The batch would not fit one delivery frame. Send it in two.
    #[error("the batch has {len} bytes, the most is {limit}")]
    BatchTooLarge {
        /// Bytes of its records.
        len: u64,
        /// The most in one batch.
        limit: u64,
    },
    /// Records are missing. Resend from `expected`; a producer this partition
    /// does not know (any more) has to start at 0, under a new id if it had
    /// sent before.
    #[error("sequence {received} where {expected} was expected")]
    SequenceGap {
        /// The next sequence of this producer.
        expected: Sequence,
        /// The first of the batch.
        received: Sequence,
    },
    /// A repeat older than the partition remembers; it cannot be told whether
    /// it is the same batch.
    #[error("sequence {received} is older than {oldest}, the oldest remembered")]
    SequenceTooOld {
        /// First sequence of the oldest batch remembered.
        oldest: Sequence,
        /// The first of the batch.
        received: Sequence,
    },
    /// The batch repeats some records of earlier batches, but not as one of
    /// those batches. Repeats must be cut like the originals.
    #[error("the batch at sequence {received} overlaps earlier ones, next is {expected}")]
    SequenceOverlap {
        /// The next sequence of this producer.
        expected: Sequence,
        /// The first of the batch.
        received: Sequence,
    },
    /// The conditional append lost.
    #[error("the partition ends at {actual}, not at {expected}")]
    OffsetConflict {
        /// What the caller expected.
        expected: Offset,
        /// The actual end.
        actual: Offset,
    },
    /// A `block` subscriber at `next` would be overtaken. Retry after a while.
    #[error("a blocking subscriber at {next} has not kept up")]
    Backlogged {
        /// Cursor of the slowest blocking subscriber.
        next: Offset,
    },
    /// As many bytes as the partition keeps in memory await the disk. Retry
    /// after a while.
    #[error("{limit} bytes of this partition await the disk")]
    LogBacklogged {
        /// The most that may wait.
        limit: u64,
    },
    /// The partition is closed: its data is damaged or a write of it failed.
    #[error("the partition is fenced")]
    Fenced,
}

impl From<AppendError> for Refusal {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Malformed(BlockError::TooLarge { len, limit }) => {
                Self::new(ErrorCode::RecordTooLarge)
                    .with(FactId::Limit, limit)
                    .with(FactId::Actual, len)
            }
            AppendError::Malformed(BlockError::Count { expected, actual }) => {
                Self::new(ErrorCode::BadBatch)
                    .with(FactId::Expected, u64::from(expected))
                    .with(FactId::Actual, u64::from(actual))
            }
            AppendError::Malformed(_) => Self::new(ErrorCode::BadBatch),
            AppendError::RecordTooLarge { len, limit } => Self::new(ErrorCode::RecordTooLarge)
                .with(FactId::Limit, u64::from(limit))
                .with(FactId::Actual, len),
            AppendError::BatchTooLarge { len, limit } => Self::new(ErrorCode::BadArgument)
                .with(FactId::Actual, len)
                .with(FactId::Limit, limit),
            AppendError::SequenceGap { expected, received } => Self::new(ErrorCode::SequenceGap)
                .with(FactId::Expected, expected.0)
                .with(FactId::Actual, received.0),
            AppendError::SequenceTooOld { oldest, received } => {
                Self::new(ErrorCode::SequenceTooOld)
                    .with(FactId::Expected, oldest.0)
                    .with(FactId::Actual, received.0)
            }
            AppendError::SequenceOverlap { expected, received } => Self::new(ErrorCode::BadBatch)
                .with(FactId::Expected, expected.0)
                .with(FactId::Actual, received.0),
            AppendError::OffsetConflict { expected, actual } => {
                Self::new(ErrorCode::OffsetConflict)
                    .with(FactId::Actual, actual.0)
                    .with(FactId::Expected, expected.0)
            }
            AppendError::Backlogged { .. } => Self::new(ErrorCode::Backlogged),
            AppendError::LogBacklogged { limit } => {
                Self::new(ErrorCode::LogBacklogged).with(FactId::Limit, limit)
            }
            AppendError::Fenced => Self::new(ErrorCode::PartitionFenced),
        }
    }
}

/// Why a subscription was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// The start lies beyond the end; the caller's idea of the partition is
    /// of another life of it.
    #[error("offset {start} is beyond the end {end}")]
    BeyondEnd {
        /// The start asked for.
        start: Offset,
        /// The actual end.
        end: Offset,
    },
    /// The partition has as many subscribers as it takes.
    #[error("the partition has {limit} subscribers already")]
    TooMany {
        /// `subscribers_max` of the partition.
        limit: u32,
    },
    /// The key is in use.
    #[error("the subscription key is in use")]
    KeyInUse,
}

impl From<SubscribeError> for Refusal {
    fn from(error: SubscribeError) -> Self {
        match error {
            SubscribeError::BeyondEnd { start, end } => Self::new(ErrorCode::BadArgument)
                .with(FactId::Actual, start.0)
                .with(FactId::Limit, end.0),
            SubscribeError::TooMany { limit } => {
                Self::new(ErrorCode::LimitReached).with(FactId::Limit, u64::from(limit))
            }
            SubscribeError::KeyInUse => Self::new(ErrorCode::BadArgument),
        }
    }
}

/// Why a step of an append session was refused. The session, if there is one,
/// is as it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// Another exclusive session is active.
    #[error("another exclusive append session is active")]
    Active,
    /// The partition has as many sessions as it takes.
    #[error("the partition has {limit} append sessions already")]
    TooMany {
        /// `sessions_max` of the partition.
        limit: u32,
    },
    /// Over (committed, rolled back, aborted, idle for too long), or of
    /// another owner.
    #[error("no such append session")]
    Unknown,
    /// The session would stage more records than it may.
    #[error("the session would stage {records} records, the most is {limit}")]
    TooManyRecords {
        /// With the refused batch.
        records: u64,
        /// The most it may stage.
        limit: u64,
    },
    /// The session would stage more bytes than it may.
    #[error("the session would stage {bytes} bytes, the most is {limit}")]
    TooManyBytes {
        /// With the refused batch.
        bytes: u64,
        /// The most it may stage.
        limit: u64,
    },
    /// The batch, or the append a commit amounts to, was refused.
    #[error(transparent)]
    Append(#[from] AppendError),
}

impl From<SessionError> for Refusal {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Active => Self::new(ErrorCode::SessionActive),
            SessionError::TooMany { limit } => {
                Self::new(ErrorCode::LimitReached).with(FactId::Limit, u64::from(limit))
            }
            SessionError::Unknown => Self::new(ErrorCode::SessionUnknown),
            SessionError::TooManyRecords { records, limit } => Self::new(ErrorCode::StagedTooLarge)
                .with(FactId::Limit, limit)
                .with(FactId::Actual, records),
            SessionError::TooManyBytes { bytes, limit } => Self::new(ErrorCode::StagedTooLarge)
                .with(FactId::Limit, limit)
                .with(FactId::Actual, bytes),
            SessionError::Append(error) => error.into(),
        }
    }
}

/// Why a named cursor was not moved. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    /// An ephemeral stream keeps nothing for its readers.
    #[error("the stream is not durable")]
    NotDurable,
    /// The name is empty or too long.
    #[error("a cursor's name has {len} bytes, 1 to {limit} are allowed")]
    BadName {
        /// Its length.
        len: usize,
        /// The longest.
        limit: usize,
    },
    /// The partition has as many cursors as it takes.
    #[error("the partition has {limit} cursors already")]
    TooMany {
        /// The most.
        limit: usize,
    },
    /// Nobody can have read as far as that.
    #[error("cursor at {offset}, the partition ends at {end}")]
    BeyondEnd {
        /// Where it was to stand.
        offset: Offset,
        /// One past the last record.
        end: Offset,
    },
    /// No cursor has this name.
    #[error("no such cursor")]
    Unknown,
    /// The partition is closed: its data is damaged or a write of it failed.
    #[error("the partition is fenced")]
    Fenced,
}

impl From<CursorError> for Refusal {
    fn from(error: CursorError) -> Self {
        match error {
            CursorError::NotDurable => Self::new(ErrorCode::Unsupported),
            CursorError::BadName { len, limit } => Self::new(ErrorCode::BadName)
                .with(FactId::Actual, len as u64)
                .with(FactId::Limit, limit as u64),
            CursorError::TooMany { limit } => {
                Self::new(ErrorCode::LimitReached).with(FactId::Limit, limit as u64)
            }
            CursorError::BeyondEnd { offset, end } => Self::new(ErrorCode::BadArgument)
                .with(FactId::Actual, offset.0)
                .with(FactId::Limit, end.0),
            CursorError::Unknown => Self::new(ErrorCode::CursorUnknown),
            CursorError::Fenced => Self::new(ErrorCode::PartitionFenced),
        }
    }
}

/// Why a record of the log is none of this partition's. The log's checksums
/// have passed, so it was written by another version or by somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// No stream writes such a record.
    #[error("a stream has no record of kind {kind}")]
    Kind {
        /// Its kind.
        kind: u8,
    },
    /// Its fields contradict each other.
    #[error("the record at offset {first} contradicts itself")]
    Malformed {
        /// First offset it claims.
        first: u64,
    },
    /// A block repeats offsets the partition has.
    #[error("a block at offset {first}, the partition ends at {end}")]
    Overlap {
        /// First offset of the block.
        first: u64,
        /// The end before it.
        end: u64,
    },
}

/// Why a checkpoint's state is none of this partition's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// Written by a version this one does not know.
    #[error("a stream's state has version {version}")]
    Version {
        /// The version.
        version: u8,
    },
    /// The bytes are no state, or one that contradicts itself.
    #[error("the bytes are no stream's state")]
    Malformed,
}
