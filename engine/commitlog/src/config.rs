//! A log's settings, its limits, and what it refuses.

use core::time::Duration;

use crate::LogId;

/// Smallest segment. Smaller ones spend their time on headers and footers.
pub const SEGMENT_BYTES_MIN: u64 = 1 << 20;

/// Largest segment. Byte positions in a segment are `u32`; larger segments also
/// mean that one live record keeps more dead bytes on the disk.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;

/// Largest read of one request to the disk. More delays the reads behind it.
pub const READ_BYTES_MAX: u32 = 1 << 20;

/// Reads waiting for a place in flight. Beyond it a read is refused.
pub const READS_QUEUED_MAX: usize = 4096;

/// Pause before the disk is asked again for room after it refused. Shorter asks
/// a full disk more often; longer keeps a log read-only after space came back.
pub const CREATE_RETRY: Duration = Duration::from_secs(1);

/// Pause before a failed checkpoint is wanted again, unless the bytes demand it.
pub const CHECKPOINT_RETRY: Duration = Duration::from_secs(10);

/// A segment is rewritten forward when at most this share of it is alive, in
/// percent. Higher frees space sooner and writes more.
pub const COMPACT_LIVE_PERCENT_MAX: u64 = 50;

/// The next segment is prepared once this share of the active one is used, in
/// percent: late enough that an idle log holds one segment, early enough that
/// the writer never waits for it.
pub const SPARE_AT_PERCENT: u64 = 12;

/// Bytes a compaction reads at once. Larger makes fewer requests and longer turns.
pub const COMPACT_READ_BYTES: u32 = 256 << 10;

/// Distance of two entries of one partition in the index. Closer makes larger
/// footers; wider makes a reader skip more.
pub const INDEX_EVERY_BYTES: u32 = 64 << 10;

/// Settings of one log.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Which log this is.
    pub log: LogId,
    /// Identity of the data directory; a file of another one is refused.
    pub store: [u8; 16],
    /// Bytes of a segment: whole blocks, [`SEGMENT_BYTES_MIN`] to
    /// [`SEGMENT_BYTES_MAX`]. Larger makes fewer files and coarser retention.
    pub segment_bytes: u64,
    /// A group that reached this size is closed even while another is being
    /// written. Larger gives larger writes and later acknowledgements.
    pub group_bytes_max: usize,
    /// Groups of this size are bulk: while they are usual, the next segment is only
    /// reserved ([`Background::Reserved`](crate::Background)), because writing
    /// zeros ahead of so much would take half of the disk. Smaller writes go to
    /// written segments, where each costs less. Smaller values slow small
    /// commits down for the sake of bulk.
    pub bulk_group_bytes: u32,
    /// Bytes appended and not yet durable. Beyond it appends are refused.
    pub backlog_bytes_max: usize,
    /// Reads in flight at once; more delays the log's own writes.
    pub reads_in_flight_max: usize,
    /// Log written between two checkpoints: bounds what a restart replays.
    pub checkpoint_every_bytes: u64,
    /// Kept of the prepared space for operations that free space, once the disk
    /// is full.
    pub reserve_bytes: u64,
    /// Live bytes a second that may be rewritten forward. 0 turns it off.
    pub compact_bytes_per_sec: u64,
    /// Where the segments' salts come from; different in every life of the node.
    pub seed: u64,
    /// Wall time of the start, written into segment headers for people.
    pub started: pinion_types::WallMs,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            log: LogId(0),
            store: [0; 16],
            segment_bytes: 64 << 20,
            group_bytes_max: 1 << 20,
            bulk_group_bytes: 512 << 10,
            backlog_bytes_max: 32 << 20,
            reads_in_flight_max: 16,
            checkpoint_every_bytes: 256 << 20,
            reserve_bytes: 4 << 20,
            compact_bytes_per_sec: 32 << 20,
            seed: 0,
            started: pinion_types::WallMs(0),
        }
    }
}

/// Why an append is not admitted. Nothing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdmitError {
    /// `limit` bytes wait for the disk. Try again in a few milliseconds.
    #[error("{limit} bytes wait for the disk")]
    Backlogged {
        /// [`LogConfig::backlog_bytes_max`].
        limit: usize,
    },
    /// The disk is full. Operations that free space still pass while the
    /// reserve lasts; the log recovers by itself.
    #[error("the disk is full")]
    ReadOnly,
    /// A write failed or the log is sealed. Only a restart helps.
    #[error("the log takes no more")]
    Failed,
    /// The records of one append can never fit one segment.
    #[error("an append of {bytes} bytes exceeds {limit}")]
    TooLarge {
        /// What was asked.
        bytes: usize,
        /// The most.
        limit: usize,
    },
}

/// Why a read was not taken. It will not be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadRefused {
    /// `limit` reads wait already.
    #[error("{limit} reads wait already")]
    Full {
        /// [`READS_QUEUED_MAX`].
        limit: usize,
    },
    /// The record is not durable yet; it is still with whoever appended it.
    #[error("the record is not durable yet")]
    NotCommitted,
}
