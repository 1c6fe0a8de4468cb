//! A member's settings.

use pinion_commitlog::LogId;

use crate::limits::{
    SEGMENT_BYTES, SNAPSHOT_EVERY_BYTES, SNAPSHOT_EVERY_ENTRIES, TAIL_BYTES, TAIL_ENTRIES,
};

/// The log of the group's entries and votes, beyond every number that a data log
/// may have. It lies in a folder of its own.
pub const RAFT_LOG: LogId = LogId(u16::MAX - 1);

/// Settings of one member.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// Identity of the data directory; a file of another one is refused.
    pub store: [u8; 16],
    /// Different in every life of the node: the salts of segments come from it, and
    /// questions are told from those of an earlier life by it.
    pub seed: u64,
    /// Bytes of a segment of the log, at least [`crate::limits::SEGMENT_BYTES_MIN`].
    pub segment_bytes: u64,
    /// Bytes of applied entries after which a snapshot is wanted. Larger makes fewer
    /// snapshots, a longer start and more memory.
    pub snapshot_every_bytes: u64,
    /// Entries after which a snapshot is wanted, however small they are.
    pub snapshot_every_entries: u64,
    /// Entries kept before a snapshot, so that a member that is a little behind
    /// needs none.
    pub tail_entries: u64,
    /// Bytes that these may have.
    pub tail_bytes: u64,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            store: [0; 16],
            seed: 0,
            segment_bytes: SEGMENT_BYTES,
            snapshot_every_bytes: SNAPSHOT_EVERY_BYTES,
            snapshot_every_entries: SNAPSHOT_EVERY_ENTRIES,
            tail_entries: TAIL_ENTRIES,
            tail_bytes: TAIL_BYTES,
        }
    }
}
