//! The vocabulary between a log and whoever moves its bytes: the reactor on a
//! real disk, the simulator on one that fails on purpose.
//!
//! A [`DiskRequest`] is done when a [`DiskDone`] with its [`OpId`] came back. A
//! request that was handed out is never taken back: completions decide, not
//! cancellations.

use core::fmt;

use crate::LogId;

/// Unit of every write and read, in bytes: offsets and lengths are multiples.
///
/// It is the largest logical block of the disks in use, so that a committed
/// block never shares a physical one with a later write.
pub const BLOCK: usize = 4096;

/// [`BLOCK`] among places in a segment.
#[allow(clippy::cast_possible_truncation)] // 4,096 fits.
pub(crate) const UNIT: u32 = BLOCK as u32;

/// Names one request until it is done; never reused within a log's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub u64);

/// A file of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileId {
    /// Records.
    Segment {
        /// Whose.
        log: LogId,
        /// Counted from 1, never reused.
        number: u64,
    },
    /// State of every partition at some point, so that replay is short.
    Checkpoint {
        /// Whose.
        log: LogId,
        /// Counted from 1, never reused.
        number: u64,
    },
}

impl FileId {
    /// The log it belongs to.
    #[must_use]
    pub const fn log(self) -> LogId {
        match self {
            Self::Segment { log, .. } | Self::Checkpoint { log, .. } => log,
        }
    }

    /// Its path below the data directory: `log-0003/00000000000000000042.segment`.
    #[must_use]
    pub fn path(self) -> String {
        let (log, number, kind) = match self {
            Self::Segment { log, number } => (log, number, "segment"),
            Self::Checkpoint { log, number } => (log, number, "checkpoint"),
        };
        format!("log-{:04}/{number:020}.{kind}", log.0)
    }

    /// The file behind a name in a log's folder; `None` for a name that no log
    /// gives.
    #[must_use]
    pub fn from_name(log: LogId, name: &str) -> Option<Self> {
        let (number, kind) = name.split_once('.')?;
        if number.len() != 20 || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let number = number.parse().ok()?;
        match kind {
            "segment" => Some(Self::Segment { log, number }),
            "checkpoint" => Some(Self::Checkpoint { log, number }),
            _ => None,
        }
    }
}

/// Bytes in whole blocks, aligned in memory to [`BLOCK`], as direct I/O wants
/// them. Owned; it travels with the request and comes back with its completion.
pub struct BlockBuf {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl BlockBuf {
    /// A buffer of `len` zero bytes.
    ///
    /// # Panics
    /// When `len` is not a multiple of [`BLOCK`].
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        assert!(
            len.is_multiple_of(BLOCK),
            "{len} bytes are not whole blocks"
        );
        let bytes = vec![0; len + BLOCK];
        let start = bytes.as_ptr().align_offset(BLOCK);
        assert!(start < BLOCK, "a byte pointer can always be aligned");
        Self { bytes, start, len }
    }

    /// Bytes in use.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no bytes are in use.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes it can hold without moving.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.bytes.len() - BLOCK
    }

    /// Uses `len` bytes from now on, within the capacity. What they hold is
    /// whatever they held before.
    ///
    /// # Panics
    /// When `len` is not a multiple of [`BLOCK`] or beyond the capacity.
    pub fn set_len(&mut self, len: usize) {
        assert!(
            len.is_multiple_of(BLOCK) && len <= self.capacity(),
            "{len} bytes in a buffer of {}",
            self.capacity()
        );
        self.len = len;
    }

    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }

    /// The bytes, to be changed.
    #[must_use]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }
}

impl Clone for BlockBuf {
    fn clone(&self) -> Self {
        // A copied vector lies elsewhere, so the alignment is found anew.
        let mut copy = Self::zeroed(self.len);
        copy.as_mut_slice().copy_from_slice(self.as_slice());
        copy
    }
}

impl fmt::Debug for BlockBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlockBuf({} bytes)", self.len)
    }
}

/// How a new file comes to be all zero. Either way its space is taken, and what
/// was never written reads as zero, also after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Background {
    /// Zeros are written: every later write only replaces them.
    Written,
    /// The file system notes that there is nothing yet, and with each later write
    /// that there is something. Costs half of the disk's bandwidth less, and
    /// each durable write more.
    Reserved,
}

/// One thing for the disk to do.
#[derive(Debug)]
pub enum DiskRequest {
    /// Make a file that does not exist, `len` zero bytes long. Done when content,
    /// length and name are durable. When it fails, nothing of that name is left,
    /// or an empty or shorter file.
    Create {
        /// Names the request.
        op: OpId,
        /// The file.
        file: FileId,
        /// Its length, a multiple of [`BLOCK`]; may be 0.
        len: u64,
        /// Where its zeros come from.
        background: Background,
    },
    /// Write at `offset`, growing the file when it reaches beyond its end. Done
    /// when the bytes are durable; gives the buffer back.
    Write {
        /// Names the request.
        op: OpId,
        /// The file.
        file: FileId,
        /// A multiple of [`BLOCK`].
        offset: u64,
        /// What to write.
        data: BlockBuf,
    },
    /// Read `len` bytes at `offset`; fewer when the file ends before, in whole
    /// blocks.
    Read {
        /// Names the request.
        op: OpId,
        /// The file.
        file: FileId,
        /// A multiple of [`BLOCK`].
        offset: u64,
        /// A multiple of [`BLOCK`].
        len: u32,
    },
    /// Shorten the file to `len`. Done when that is durable.
    Truncate {
        /// Names the request.
        op: OpId,
        /// The file.
        file: FileId,
        /// A multiple of [`BLOCK`].
        len: u64,
    },
    /// Remove the file. Done when that is durable. A file that is not there is
    /// removed.
    Remove {
        /// Names the request.
        op: OpId,
        /// The file.
        file: FileId,
    },
}

impl DiskRequest {
    /// Its name and its file.
    #[must_use]
    pub const fn target(&self) -> (OpId, FileId) {
        match self {
            Self::Create { op, file, .. }
            | Self::Write { op, file, .. }
            | Self::Read { op, file, .. }
            | Self::Truncate { op, file, .. }
            | Self::Remove { op, file } => (*op, *file),
        }
    }
}

/// A request is over. After an error of a write or a truncation nobody knows
/// what of it is on the disk.
#[derive(Debug)]
pub struct DiskDone {
    /// Which.
    pub op: OpId,
    /// The file it was about.
    pub file: FileId,
    /// How it ended.
    pub result: Result<DiskOutput, DiskError>,
}

/// What a request gave.
#[derive(Debug)]
pub enum DiskOutput {
    /// It is done.
    Done,
    /// A write is durable; its buffer, to be used again.
    Written(BlockBuf),
    /// What was read.
    Data(BlockBuf),
}

/// Why the disk did not do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiskError {
    /// No space left, or the quota is used up.
    #[error("no space left on the device")]
    Full,
    /// There is no such file.
    #[error("the file is not there")]
    Missing,
    /// The file is there already.
    #[error("the file exists already")]
    Exists,
    /// Anything else, with the system's error number.
    #[error("input/output error {errno}")]
    Io {
        /// `errno`.
        errno: i32,
    },
}

/// Files with their lengths in bytes, and names that are no file of the log.
pub type Listing = (Vec<(FileId, u64)>, Vec<String>);

/// A log's files as they are found at start, before anything is written. Only
/// recovery and the tools for people read this way; it may block.
pub trait Files {
    /// Every file of `log` with its length in bytes, in any order, and the
    /// names in its folder that no log gives.
    ///
    /// # Errors
    /// What the disk said.
    fn list(&mut self, log: LogId) -> Result<Listing, DiskError>;

    /// Reads at `offset`, any length and alignment; gives the bytes read, fewer
    /// only at the end of the file.
    ///
    /// # Errors
    /// What the disk said.
    fn read(&mut self, file: FileId, offset: u64, into: &mut [u8]) -> Result<usize, DiskError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_aligned_also_after_it_was_copied() {
        let mut buffer = BlockBuf::zeroed(3 * BLOCK);
        buffer.as_mut_slice()[5] = 7;
        buffer.set_len(BLOCK);
        let copy = buffer.clone();
        for b in [&buffer, &copy] {
            assert_eq!(b.as_slice().as_ptr().align_offset(BLOCK), 0);
            assert_eq!((b.len(), b.as_slice()[5]), (BLOCK, 7));
        }
    }

    #[test]
    fn a_name_leads_back_to_its_file_and_others_lead_nowhere() {
        let file = FileId::Segment {
            log: LogId(3),
            number: 42,
        };
        assert_eq!(file.path(), "log-0003/00000000000000000042.segment");
        let name = "00000000000000000042.segment";
        assert_eq!(FileId::from_name(LogId(3), name), Some(file));
        for foreign in [
            "42.segment",
            "00000000000000000042.seg",
            "x",
            "",
            "+0000000000000000042.segment",
        ] {
            assert_eq!(FileId::from_name(LogId(3), foreign), None, "{foreign}");
        }
    }
}
