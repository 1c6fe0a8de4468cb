//! What a log tells its owner, and what recovery found.

use bytes::Bytes;
use pinion_types::{Offset, PartitionId, ResourceId};

use crate::disk::{DiskError, FileId};
use crate::format::FormatError;
use crate::{Location, Lsn, RecordHead};

/// Something the owner must know.
#[derive(Debug)]
pub enum LogEvent {
    /// Everything up to `lsn` is durable.
    Committed {
        /// The last durable record.
        lsn: Lsn,
    },
    /// A write failed. What was appended after [`crate::Log::committed`] may or
    /// may not survive; it is never acknowledged, and nothing is written any
    /// more. Reads of what is committed go on.
    Failed {
        /// What the disk said.
        error: DiskError,
    },
    /// The disk became full (`true`) or has room again.
    ReadOnly(bool),
    /// Answers [`crate::Log::read_stream`].
    StreamRead {
        /// As given.
        token: u64,
        /// Verified records.
        result: Result<StreamChunk, ReadError>,
    },
    /// Answers [`crate::Log::read_record`].
    RecordRead {
        /// As given.
        token: u64,
        /// The verified record.
        result: Result<RecordBytes, ReadError>,
    },
    /// A retained body was rewritten forward and its copy is durable. An owner
    /// that no longer needs it releases `to`.
    Relocated {
        /// What the record says of itself.
        head: RecordHead,
        /// Where it was; not readable for long.
        from: Location,
        /// Where it is.
        to: Location,
    },
    /// Enough was written since the last checkpoint: begin one.
    CheckpointWanted,
    /// The checkpoint is durable.
    CheckpointDone,
    /// Damage was met while reading or rewriting.
    Damaged(Damage),
    /// After [`crate::Log::seal`]: everything is durable and every segment has
    /// its footer.
    Sealed,
}

/// Records of a stream, as they were appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamChunk {
    /// Whole bodies of consecutive records, one after the other; the first one
    /// may begin before the offset asked for. Empty when nothing is there yet.
    pub bytes: Bytes,
    /// First offset in `bytes`.
    pub first: Offset,
    /// One past the last offset in `bytes`.
    pub end: Offset,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordBytes {
    /// What it says of itself.
    pub head: RecordHead,
    /// The domain's extension.
    pub ext: Bytes,
    /// The body.
    pub body: Bytes,
}

/// Why a read has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// It was released or removed; records begin at `first`.
    #[error("records begin at {first}")]
    Trimmed {
        /// The first offset there is; 0 for a record read by its location.
        first: Offset,
    },
    /// The bytes there are not what was written. Never skipped.
    #[error("segment {segment} is damaged at byte {offset}")]
    Damaged {
        /// Number of the segment.
        segment: u64,
        /// Byte in it.
        offset: u64,
    },
    /// The disk could not read.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// Whose records damage concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DamagedPartitions {
    /// These alone: the damaged records still say whose they are.
    Some(Vec<(ResourceId, PartitionId)>),
    /// It cannot be told.
    All,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DamageKind {
    /// A group, or records in it, are not what was written.
    Group,
    /// The segment's header is not what was written: nothing in it can be
    /// verified.
    Header,
    /// The segment's file is missing and no record says that it was removed.
    Vanished,
    /// Groups that were durable are missing at its end.
    Shortened,
    /// A group does not continue the one before.
    Chain,
}

/// Committed data that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Number of the segment.
    pub segment: u64,
    /// Byte in it where the damage begins.
    pub offset: u64,
    /// Bytes concerned; 0 when unknown.
    pub len: u64,
    /// What is wrong.
    pub kind: DamageKind,
    /// Whose records.
    pub partitions: DamagedPartitions,
}

impl core::fmt::Display for Damage {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let what = match self.kind {
            DamageKind::Group => "records are not what was written",
            DamageKind::Header => "the header is not what was written",
            DamageKind::Vanished => "the file is missing",
            DamageKind::Shortened => "the file is too short: records at its end are missing",
            DamageKind::Chain => "a group does not continue the one before",
        };
        write!(
            f,
            "segment {:020}, byte {}: {what}",
            self.segment, self.offset
        )?;
        match &self.partitions {
            DamagedPartitions::All => write!(f, "; whose they are cannot be told"),
            DamagedPartitions::Some(partitions) => {
                write!(f, "; of {} partitions", partitions.len())
            }
        }
    }
}

/// A group that a crash cut short; nobody was told that it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Torn {
    /// Number of the segment.
    pub segment: u64,
    /// Byte in it where the group begins.
    pub offset: u64,
    /// Bytes from there to the last one that was written.
    pub bytes: u64,
}

/// What recovery found. Nothing on the disk was changed by finding it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Segments of the log.
    pub segments: usize,
    /// Bytes of their files.
    pub bytes: u64,
    /// Records visited.
    pub records_replayed: u64,
    /// Bytes of log read to find them.
    pub bytes_replayed: u64,
    /// The checkpoint it started from.
    pub checkpoint: Option<u64>,
    /// What the last crash cut short.
    pub torn: Option<Torn>,
    /// Committed data that cannot be read.
    pub damage: Vec<Damage>,
    /// Footers that were missing or wrong and are written anew.
    pub footers_rebuilt: Vec<u64>,
    /// Checkpoints that were complete once and cannot be read; an older one or
    /// the log itself served instead.
    pub checkpoints_damaged: Vec<(u64, FormatError)>,
    /// Names in the log's folder that no log gives. They are left alone.
    pub foreign: Vec<String>,
}

/// Why a log cannot be opened. Nothing on the disk was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecoverError {
    /// The disk could not be read.
    #[error("{}: {error}", file.map_or_else(|| "the log's folder".to_owned(), FileId::path))]
    Disk {
        /// The file, or the folder.
        file: Option<FileId>,
        /// What the disk said.
        error: DiskError,
    },
    /// The file belongs to another data directory.
    #[error("{} belongs to another store ({})", file.path(), hex(*found))]
    ForeignStore {
        /// The file.
        file: FileId,
        /// The store it names.
        found: [u8; 16],
    },
    /// The file was renamed: it says that it is another one.
    #[error("{} says that it is file {number} of log {log}", file.path())]
    Misplaced {
        /// The file.
        file: FileId,
        /// The log it names.
        log: u16,
        /// The number it names.
        number: u64,
    },
    /// Written by a later release; use that one.
    #[error("{}: format version {found}, this release knows {known}", file.path())]
    FutureVersion {
        /// The file.
        file: FileId,
        /// Its version.
        found: u32,
        /// The newest known one.
        known: u32,
    },
    /// Records before `found` are gone and no readable checkpoint stands for
    /// them, from `needed` on.
    #[error(
        "records {} to {} are needed and gone, and no readable checkpoint stands for them",
        needed.0, found.0 - 1
    )]
    HistoryMissing {
        /// The first record a restart needs.
        needed: Lsn,
        /// The first record there is.
        found: Lsn,
    },
    /// The settings cannot be.
    #[error("segment_bytes is {segment_bytes}: it must be whole blocks from {min} to {max}")]
    Config {
        /// As configured.
        segment_bytes: u64,
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
    },
}

fn hex(bytes: [u8; 16]) -> String {
    use core::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(32), |mut text, byte| {
            write!(text, "{byte:02x}").expect("a string takes all");
            text
        })
}

/// Whether the log takes records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogState {
    /// It does.
    #[default]
    Running,
    /// The disk is full.
    ReadOnly,
    /// A write failed.
    Failed,
    /// It is being sealed, or is.
    Sealed,
}

/// Sizes that [`LogStats::groups_by_records`] tells apart.
pub const GROUP_SIZES: usize = 12;

/// Which of them a group of so many records has.
pub(crate) fn group_size(records: u64) -> usize {
    let power = u64::BITS - records.saturating_sub(1).leading_zeros();
    (power as usize).min(GROUP_SIZES - 1)
}

/// What a log did and holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Writes that became durable, of groups and of everything else. Each is
    /// one flush of the device.
    pub writes: u64,
    /// Groups that became durable.
    pub groups: u64,
    /// The same by their records: at most 1, 2, 4 and so on to 1,024, and more.
    pub groups_by_records: [u64; GROUP_SIZES],
    /// Records of those groups.
    pub committed_records: u64,
    /// Records appended.
    pub records: u64,
    /// Bytes of records appended, headers included.
    pub bytes: u64,
    /// Reads done.
    pub reads: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Records rewritten forward.
    pub carried: u64,
    /// Segments removed.
    pub removed: u64,
    /// Checkpoints that became durable.
    pub checkpoints: u64,
    /// Segments there are.
    pub segments: usize,
    /// Bytes of their files.
    pub disk_bytes: u64,
    /// Bytes appended and not yet durable.
    pub pending_bytes: usize,
    /// Reads waiting or in flight.
    pub reads_pending: usize,
    /// Partitions with records that live by offset.
    pub partitions: usize,
    /// Whether it takes records.
    pub state: LogState,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_told_apart_by_powers_of_two() {
        let sizes = [0, 1, 2, 3, 4, 5, 8, 9, 1024, 1025, u64::MAX].map(group_size);
        assert_eq!(sizes, [0, 0, 1, 2, 2, 3, 3, 4, 10, 11, 11]);
    }
}
