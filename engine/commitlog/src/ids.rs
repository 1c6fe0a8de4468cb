//! What names a log, a record in it, and what a record says of itself.

use pinion_types::{PartitionId, ResourceId, WallMs};

/// One log of a node, counted from 0. Logs are numbered, not tied to a CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId(pub u16);

/// Number of a record in its log, dense from 1, in the order of appending.
/// Never reused, also not after a crash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

/// Where one record lies, for reading it alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// Number of its segment.
    pub segment: u64,
    /// Byte of its header in the segment.
    pub offset: u32,
    /// Bytes of header, extension and body together.
    pub len: u32,
}

/// What a record says of itself; the log looks at nothing but this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHead {
    /// Whose record.
    pub resource: ResourceId,
    /// Which partition of it.
    pub partition: PartitionId,
    /// What it means to its domain; see [`crate`]'s document of the format.
    pub kind: u8,
    /// First offset (stream), message id (queue), or 0.
    pub first: u64,
    /// Offsets or messages in it; 0 for a record that is only a change of state.
    pub count: u32,
    /// Term under which it was taken; 0 while there is one replica.
    pub epoch: u32,
    /// Wall time at which the partition took it.
    pub timestamp: WallMs,
}
