//! The bytes of a log's files: `docs/storage-format.md` in code.
//!
//! Everything here is a function from bytes to facts or back. It reads no file,
//! allocates nothing for what it decodes (but the list of harmed records in a
//! [`GroupDamage`]), and trusts no length before it is compared with a limit and
//! with the bytes at hand. Numbers are little-endian.
//!
//! Start at [`group`]: a group is what one write puts on the disk, and
//! [`check_group`] is where a torn write is told apart from damage.

pub mod checkpoint;
pub mod footer;
pub mod group;
pub mod record;
pub mod segment;
mod writer;

pub use checkpoint::{
    CheckpointHeader, CheckpointTrailer, CheckpointWriter, Directory, SegmentRef, StateEntry,
};
pub use footer::{
    Footer, FooterFacts, FooterWriter, INDEX_ENTRY, IndexEntry, SUMMARY, Summary, decode_entries,
    decode_footer, decode_trailer,
};
pub use group::{
    Chain, DamagedRecord, GROUP_HEADER, GROUP_TAIL, Group, GroupDamage, GroupHeader, GroupVerdict,
    Records, check_group,
};
pub use record::{RECORD_HEADER, RecordFlags, RecordHeader, RecordView, decode_record};
pub use segment::{SegmentHeader, SegmentKey};
pub use writer::{Finished, GroupWriter, Pushed};

use crate::BLOCK;

/// Version of every structure here. A file of another version is refused.
pub const VERSION: u32 = 1;

/// What a disk writes whole or not at all, in bytes: the smallest logical block
/// of any disk in use. A larger one only makes fewer states possible.
pub const SECTOR: usize = 512;

/// Longest segment, in bytes. A place in a segment is a u32; at 2 GiB every sum
/// of a place and a group's length still fits.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 31;

/// Longest group on the disk, in bytes: header, records and padding.
///
/// A reader must hold a whole group in memory before it may believe any of it.
/// Raising it raises that memory; it must stay above the largest append session
/// (10 MiB of staged records), which is one group.
pub const GROUP_BYTES_MAX: usize = 64 << 20;

/// Longest record on the disk, in bytes: header, extension and body.
pub const RECORD_BYTES_MAX: usize = GROUP_BYTES_MAX - BLOCK;

/// Longest extension of a record, in bytes: its length is a u16.
pub const RECORD_EXT_MAX: usize = u16::MAX as usize;

/// Longest state of one partition in a checkpoint, in bytes. Raising it raises
/// what a reader allocates for one entry.
pub const CHECKPOINT_STATE_MAX: usize = 1 << 30;

/// Most partitions in a checkpoint; each costs 40 bytes of its directory, which
/// is read in one piece.
pub const CHECKPOINT_ENTRIES_MAX: usize = 1 << 21;

/// Most segments named by a checkpoint: a petabyte in segments of 64 MiB.
pub const CHECKPOINT_SEGMENTS_MAX: usize = 1 << 24;

const _: () = assert!(GROUP_BYTES_MAX.is_multiple_of(BLOCK));
const _: () = assert!(BLOCK.is_multiple_of(SECTOR));
// A place plus a length must not overflow a u32.
const _: () = assert!(SEGMENT_BYTES_MAX + (GROUP_BYTES_MAX as u64) < u32::MAX as u64);

/// What the bytes were supposed to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Structure {
    /// The first block of a segment.
    SegmentHeader,
    /// Header, padding or end of a group.
    Group,
    /// The header of a record, or the padding after it.
    Record,
    /// Extension and body of a record.
    Body,
    /// The first sector of a footer.
    FooterHead,
    /// Summaries and index of a footer.
    Footer,
    /// The last block of a sealed segment.
    FooterTrailer,
    /// The first block of a checkpoint.
    CheckpointHeader,
    /// State of one partition in a checkpoint.
    CheckpointState,
    /// The list of states and segments of a checkpoint.
    CheckpointDirectory,
    /// The last block of a checkpoint.
    CheckpointTrailer,
}

impl core::fmt::Display for Structure {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::SegmentHeader => "segment header",
            Self::Group => "group",
            Self::Record => "record header",
            Self::Body => "record body",
            Self::FooterHead => "footer head",
            Self::Footer => "footer",
            Self::FooterTrailer => "footer trailer",
            Self::CheckpointHeader => "checkpoint header",
            Self::CheckpointState => "checkpoint state",
            Self::CheckpointDirectory => "checkpoint directory",
            Self::CheckpointTrailer => "checkpoint trailer",
        })
    }
}

/// Why bytes are not what they should be. Nothing of them may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Nothing was ever written there: all zero.
    #[error("{what}: never written")]
    Blank {
        /// Expected there.
        what: Structure,
    },
    /// The bytes end too early.
    #[error("{what}: {found} bytes where {needed} are needed")]
    Short {
        /// Expected there.
        what: Structure,
        /// Bytes that it takes.
        needed: u64,
        /// Bytes that there are.
        found: u64,
    },
    /// It starts with other bytes: a foreign file, or damage.
    #[error("{what}: starts with {found:#018x}")]
    Magic {
        /// Expected there.
        what: Structure,
        /// The first 4 or 8 bytes.
        found: u64,
    },
    /// Written by another release. Use that release, or a later one.
    #[error("{what}: format version {found}, this release knows {known}")]
    Version {
        /// Expected there.
        what: Structure,
        /// Its version.
        found: u32,
        /// What can be read.
        known: u32,
    },
    /// The bytes changed since they were written, or were written for another
    /// place.
    #[error("{what}: checksum {stored:#010x} stored, {computed:#010x} computed")]
    Checksum {
        /// Expected there.
        what: Structure,
        /// In the file.
        stored: u32,
        /// Of the bytes.
        computed: u32,
    },
    /// A flag, kind or option that this release does not know. Never ignored.
    #[error("{what}: unknown flags {flags:#x}")]
    Flags {
        /// Where it is set.
        what: Structure,
        /// The unknown ones.
        flags: u32,
    },
    /// Bytes that must be zero are not.
    #[error("{what}: byte {at} is not zero")]
    NotZero {
        /// Where.
        what: Structure,
        /// Byte of the structure.
        at: u32,
    },
    /// A length or count beyond its limit.
    #[error("{what}: {field} is {value}, at most {limit} is possible")]
    Limit {
        /// Where it says so.
        what: Structure,
        /// Which number.
        field: &'static str,
        /// What it says.
        value: u64,
        /// The most it may say.
        limit: u64,
    },
    /// A number that contradicts the rest.
    #[error("{what}: {field} is {found}, expected {expected}")]
    Mismatch {
        /// Where it says so.
        what: Structure,
        /// Which number.
        field: &'static str,
        /// What it says.
        found: u64,
        /// What it must be.
        expected: u64,
    },
    /// An archive with impossible pointers or values in it.
    #[error("{what}: not a valid archive")]
    Archive {
        /// Where.
        what: Structure,
    },
}

// ------------------------------------------------------------------ checksums

/// CRC-32C of `salt` (8 bytes, little-endian) followed by the parts.
///
/// Who does not know a segment's salt cannot make bytes that pass: the body of a
/// record is a client's, and must never be taken for a group.
#[must_use]
pub fn salted_crc(salt: u64, parts: &[&[u8]]) -> u32 {
    parts
        .iter()
        .fold(crc32c::crc32c(&salt.to_le_bytes()), |crc, part| {
            crc32c::crc32c_append(crc, part)
        })
}

// -------------------------------------------------------------- sealed sectors

/// Where the checksum of a sector that stands for itself lies.
pub(crate) const SECTOR_CRC: usize = SECTOR - 4;

/// Bits of a magic that may be flipped while it still counts as harmed and not
/// as something else: "damaged" and "not of this kind" have other consequences.
/// More would take one structure's magic for another's: they differ in three.
const MAGIC_BITS_MAX: u32 = 1;

/// Facts that fit in one sector lie in one sector, so that a crash leaves all of
/// them or none: 8 bytes of magic, version, flags, the facts, zeros, checksum.
pub(crate) fn seal_sector(sector: &mut [u8; SECTOR], magic: [u8; 8], salt: Option<u64>) {
    put(sector, 0, &magic);
    put(sector, 8, &VERSION.to_le_bytes());
    put(sector, 12, &0u32.to_le_bytes());
    let crc = sector_crc(sector, salt);
    put(sector, SECTOR_CRC, &crc.to_le_bytes());
}

fn sector_crc(sector: &[u8; SECTOR], salt: Option<u64>) -> u32 {
    let covered = &sector[..SECTOR_CRC];
    match salt {
        Some(salt) => salted_crc(salt, &[covered]),
        None => crc32c::crc32c(covered),
    }
}

/// The sector at the start of `bytes`, when it is what was sealed. `used` facts'
/// bytes may be other than zero.
pub(crate) fn open_sector(
    bytes: &[u8],
    what: Structure,
    magic: [u8; 8],
    salt: Option<u64>,
    used: usize,
) -> Result<&[u8; SECTOR], FormatError> {
    let Some(sector) = bytes.first_chunk::<SECTOR>() else {
        return Err(short(what, SECTOR, bytes.len()));
    };
    if is_blank(sector) {
        return Err(FormatError::Blank { what });
    }
    let found = u64_at(sector, 0);
    let other_bits = (found ^ u64::from_le_bytes(magic)).count_ones();
    let another = FormatError::Magic { what, found };
    if other_bits > MAGIC_BITS_MAX {
        return Err(another);
    }
    let (stored, computed) = (u32_at(sector, SECTOR_CRC), sector_crc(sector, salt));
    if stored != computed {
        return Err(FormatError::Checksum {
            what,
            stored,
            computed,
        });
    }
    if other_bits > 0 {
        return Err(another);
    }
    // Magic, version and checksum keep their places in every version, so that
    // an older release can say "newer" instead of "damaged".
    let found = u32_at(sector, 8);
    if found != VERSION {
        return Err(FormatError::Version {
            what,
            found,
            known: VERSION,
        });
    }
    let flags = u32_at(sector, 12);
    if flags != 0 {
        return Err(FormatError::Flags { what, flags });
    }
    must_be_zero(what, &sector[..SECTOR_CRC], used)?;
    Ok(sector)
}

/// A block whose first sector is sealed and whose others are zero.
pub(crate) fn open_block(
    bytes: &[u8],
    what: Structure,
    magic: [u8; 8],
    salt: Option<u64>,
    used: usize,
) -> Result<&[u8; SECTOR], FormatError> {
    let Some(block) = bytes.first_chunk::<BLOCK>() else {
        return Err(short(what, BLOCK, bytes.len()));
    };
    let sector = open_sector(block, what, magic, salt, used)?;
    must_be_zero(what, block, SECTOR)?;
    Ok(sector)
}

/// Whether at most one bit is set: never written, whatever one flipped bit says.
/// All that is ever written starts with a magic of many bits.
pub(crate) fn is_blank(sector: &[u8]) -> bool {
    weight_up_to_two(sector) < 2
}

/// How many bits are set, counted until there are two. Real content is told
/// after its first word.
pub(crate) fn weight_up_to_two(sector: &[u8]) -> u32 {
    let mut weight = 0;
    let (words, rest) = sector.as_chunks::<8>();
    for word in words {
        weight += u64::from_le_bytes(*word).count_ones();
        if weight >= 2 {
            return 2;
        }
    }
    for byte in rest {
        weight += byte.count_ones();
    }
    weight.min(2)
}

pub(crate) fn must_be_zero(what: Structure, bytes: &[u8], from: usize) -> Result<(), FormatError> {
    match bytes[from..].iter().position(|byte| *byte != 0) {
        None => Ok(()),
        Some(at) => Err(FormatError::NotZero {
            what,
            at: saturated(from + at),
        }),
    }
}

// ---------------------------------------------------------------- small things

pub(crate) const fn short(what: Structure, needed: usize, found: usize) -> FormatError {
    FormatError::Short {
        what,
        needed: needed as u64,
        found: found as u64,
    }
}

/// For error texts and places below [`SEGMENT_BYTES_MAX`].
pub(crate) fn saturated(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

pub(crate) const fn round_up(value: usize, unit: usize) -> usize {
    value.div_ceil(unit) * unit
}

pub(crate) fn put(into: &mut [u8], at: usize, bytes: &[u8]) {
    into[at..at + bytes.len()].copy_from_slice(bytes);
}

// The callers compared the length before; a constant place folds to one load.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sector_is_blank_with_one_bit_and_not_with_two() {
        let mut sector = [0; SECTOR];
        assert_eq!(weight_up_to_two(&sector), 0);
        sector[511] = 0x80;
        assert!(is_blank(&sector));
        sector[0] = 1;
        assert!(!is_blank(&sector));
        assert_eq!(weight_up_to_two(&[3; SECTOR]), 2);
    }

    #[test]
    fn a_salted_checksum_is_that_of_the_salt_and_the_parts_in_a_row() {
        // "123456789" has the check value e3069283 in every description of CRC-32C.
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        let salt = u64::from_le_bytes(*b"12345678");
        assert_eq!(salted_crc(salt, &[b"9"]), 0xe306_9283);
        assert_eq!(salted_crc(salt, &[b"", b"9", b""]), 0xe306_9283);
    }
}
