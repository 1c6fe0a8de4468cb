//! One record: a header of 64 bytes, the domain's extension, the body.

use pinion_types::{PartitionId, ResourceId, WallMs};

use super::segment::SegmentKey;
use super::{
    FormatError, RECORD_BYTES_MAX, Structure, must_be_zero, put, round_up, salted_crc, saturated,
    short, u16_at, u32_at, u64_at,
};
use crate::{Location, Lsn, RecordHead};

/// Bytes of a record's header.
pub const RECORD_HEADER: usize = 64;

/// Records start at multiples of this, so that a header lies in one sector and a
/// body is aligned for zero-copy reading.
pub const RECORD_ALIGN: usize = 8;

const WHAT: Structure = Structure::Record;
const CARRIED: u8 = 1;
const RETAINED: u8 = 2;

/// What is special about a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordFlags {
    /// It is a copy of an older record, rewritten forward: its body moved, its
    /// effect happened before.
    pub carried: bool,
    /// Its body must stay readable until it is released.
    pub retained: bool,
}

impl RecordFlags {
    const fn bits(self) -> u8 {
        (if self.carried { CARRIED } else { 0 }) | (if self.retained { RETAINED } else { 0 })
    }
}

/// The header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// Bytes of header, extension and body, without padding.
    pub len: u32,
    /// Bytes of the extension.
    pub ext_len: u16,
    /// What is special about it.
    pub flags: RecordFlags,
    /// Its number in the log.
    pub lsn: Lsn,
    /// What it says of itself.
    pub head: RecordHead,
    /// CRC-32C of extension and body.
    pub body_crc: u32,
}

impl RecordHeader {
    /// Bytes to the next record.
    #[must_use]
    pub const fn stride(&self) -> usize {
        round_up(self.len as usize, RECORD_ALIGN)
    }

    /// The header for a record at byte `position` of its segment. Its last four
    /// bytes are the checksum that the group's covers.
    #[must_use]
    pub fn encode(&self, key: SegmentKey, position: u32) -> [u8; RECORD_HEADER] {
        let mut bytes = [0; RECORD_HEADER];
        put(&mut bytes, 0, &self.len.to_le_bytes());
        put(&mut bytes, 4, &self.ext_len.to_le_bytes());
        bytes[6] = self.head.kind;
        bytes[7] = self.flags.bits();
        put(&mut bytes, 8, &self.head.resource.0.to_le_bytes());
        put(&mut bytes, 16, &self.head.first.to_le_bytes());
        put(&mut bytes, 24, &self.lsn.0.to_le_bytes());
        put(&mut bytes, 32, &self.head.timestamp.0.to_le_bytes());
        put(&mut bytes, 40, &self.head.count.to_le_bytes());
        put(&mut bytes, 44, &self.head.epoch.to_le_bytes());
        put(&mut bytes, 48, &self.head.partition.0.to_le_bytes());
        put(&mut bytes, 56, &self.body_crc.to_le_bytes());
        let crc = header_crc(key, position, &bytes);
        put(&mut bytes, 60, &crc.to_le_bytes());
        bytes
    }

    /// Reads the header of the record at byte `position` of its segment. The
    /// body behind it is not looked at.
    ///
    /// # Errors
    /// Other bytes, a header of another place, unknown flags, impossible lengths.
    pub fn decode(bytes: &[u8], key: SegmentKey, position: u32) -> Result<Self, FormatError> {
        let Some(bytes) = bytes.first_chunk::<RECORD_HEADER>() else {
            return Err(short(WHAT, RECORD_HEADER, bytes.len()));
        };
        let (stored, computed) = (u32_at(bytes, 60), header_crc(key, position, bytes));
        if stored != computed {
            return Err(FormatError::Checksum {
                what: WHAT,
                stored,
                computed,
            });
        }
        let unknown = bytes[7] & !(CARRIED | RETAINED);
        if unknown != 0 {
            return Err(FormatError::Flags {
                what: WHAT,
                flags: unknown.into(),
            });
        }
        must_be_zero(WHAT, &bytes[..56], 50)?;
        let header = Self::parse(bytes);
        let least = RECORD_HEADER + usize::from(header.ext_len);
        if header.len as usize > RECORD_BYTES_MAX {
            return Err(FormatError::Limit {
                what: WHAT,
                field: "length",
                value: header.len.into(),
                limit: RECORD_BYTES_MAX as u64,
            });
        }
        if (header.len as usize) < least {
            return Err(short(WHAT, least, header.len as usize));
        }
        Ok(header)
    }

    /// The fields, without a look at the checksum.
    pub(super) fn parse(bytes: &[u8; RECORD_HEADER]) -> Self {
        Self {
            len: u32_at(bytes, 0),
            ext_len: u16_at(bytes, 4),
            flags: RecordFlags {
                carried: bytes[7] & CARRIED != 0,
                retained: bytes[7] & RETAINED != 0,
            },
            lsn: Lsn(u64_at(bytes, 24)),
            head: RecordHead {
                resource: ResourceId(u64_at(bytes, 8)),
                partition: PartitionId(u16_at(bytes, 48)),
                kind: bytes[6],
                first: u64_at(bytes, 16),
                count: u32_at(bytes, 40),
                epoch: u32_at(bytes, 44),
                timestamp: WallMs(u64_at(bytes, 32)),
            },
            body_crc: u32_at(bytes, 56),
        }
    }
}

/// Covers where the header lies, so that a block that the disk put or found
/// elsewhere does not pass.
fn header_crc(key: SegmentKey, position: u32, bytes: &[u8; RECORD_HEADER]) -> u32 {
    let mut place = [0; 12];
    put(&mut place, 0, &key.number.to_le_bytes());
    put(&mut place, 8, &position.to_le_bytes());
    salted_crc(key.salt, &[&place, &bytes[..60]])
}

/// A verified record, in the bytes it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordView<'a> {
    /// Its number in the log.
    pub lsn: Lsn,
    /// Byte of its header in the segment.
    pub position: u32,
    /// What is special about it.
    pub flags: RecordFlags,
    /// What it says of itself.
    pub head: RecordHead,
    /// The domain's extension.
    pub ext: &'a [u8],
    /// The body.
    pub body: &'a [u8],
}

impl<'a> RecordView<'a> {
    /// Where it lies, for reading it alone.
    #[must_use]
    pub fn location(&self, segment: u64) -> Location {
        Location {
            segment,
            offset: self.position,
            len: saturated(RECORD_HEADER + self.ext.len() + self.body.len()),
        }
    }

    /// `bytes` hold the whole record, whose header was checked.
    pub(super) fn new(header: &RecordHeader, position: u32, bytes: &'a [u8]) -> Self {
        let (ext, body) =
            bytes[RECORD_HEADER..header.len as usize].split_at(usize::from(header.ext_len));
        Self {
            lsn: header.lsn,
            position,
            flags: header.flags,
            head: header.head,
            ext,
            body,
        }
    }
}

/// Reads and verifies the record at byte `position` of its segment, where
/// `bytes` begin. Whether its group is whole is not asked.
///
/// # Errors
/// Other bytes, a record of another place, a body that changed.
pub fn decode_record(
    key: SegmentKey,
    position: u32,
    bytes: &[u8],
) -> Result<RecordView<'_>, FormatError> {
    let header = RecordHeader::decode(bytes, key, position)?;
    if bytes.len() < header.len as usize {
        return Err(short(Structure::Body, header.len as usize, bytes.len()));
    }
    check_body(&header, bytes)?;
    Ok(RecordView::new(&header, position, bytes))
}

/// `bytes` hold the whole record.
pub(super) fn check_body(header: &RecordHeader, bytes: &[u8]) -> Result<(), FormatError> {
    let computed = crc32c::crc32c(&bytes[RECORD_HEADER..header.len as usize]);
    if computed == header.body_crc {
        return Ok(());
    }
    Err(FormatError::Checksum {
        what: Structure::Body,
        stored: header.body_crc,
        computed,
    })
}
