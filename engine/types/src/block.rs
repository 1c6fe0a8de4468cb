//! The record block: one layout in memory, on the wire and in a log.
//!
//! ```text
//! block   0  u32  length        bytes after the first 12
//!         4  u8   opcode        0xc1, RECORDS
//!         5  u8   flags         0
//!         6  u16  zero          0
//!         8  u32  correlation   0
//!        12  u64  first_offset  of the first record; the rest follow densely
//!        20  u64  timestamp_ms  wall time at which the partition took the block
//!        28  u32  record_count  at least 1
//!        32  …    records
//! record  0  u32  length        bytes after this field
//!         4  u16  key_length    0 = no key
//!         6  u16  headers_length
//!         8  …    key, headers, value (the rest)
//! header  0  u8   name_length   at least 1
//!         1  u16  value_length
//!         3  …    name, value
//! ```
//! All little-endian. A subscriber's stream is a sequence of such blocks, so a
//! block encoded once when it is appended is written as it is to everyone.

use crate::limits::{
    BATCH_RECORDS_MAX, HEADERS_BYTES_MAX, HEADERS_MAX, KEY_BYTES_MAX, RECORD_BYTES_MAX,
};
use crate::{Offset, WallMs};

/// Opcode of a block among the frames of a delivery stream.
pub const RECORDS_OPCODE: u8 = 0xc1;
/// Bytes of a frame header, which a block's first 12 bytes are.
pub const FRAME_HEADER_BYTES: usize = 12;
/// Bytes before the first record.
pub const BLOCK_HEADER_BYTES: usize = 32;
/// Bytes of a record before its key.
pub const RECORD_HEADER_BYTES: usize = 8;

/// One record, borrowed from a block or a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Empty means no key.
    pub key: &'a [u8],
    /// Encoded headers; walk them with [`Record::headers`].
    pub headers: &'a [u8],
    /// The payload.
    pub value: &'a [u8],
}

/// Why bytes are not records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// The bytes end inside a field.
    #[error("the bytes end inside a record")]
    Truncated,
    /// Lengths inside a record contradict each other.
    #[error("the lengths of a record contradict each other")]
    Inconsistent,
    /// A record, key or header block over its limit.
    #[error("a field has {len} bytes, the most is {limit}")]
    TooLarge {
        /// Its length.
        len: u64,
        /// The most allowed.
        limit: u64,
    },
    /// The count in the header is not the count of the records.
    #[error("{actual} records where {expected} were announced")]
    Count {
        /// Announced.
        expected: u32,
        /// Found.
        actual: u32,
    },
}

impl<'a> Record<'a> {
    /// Bytes this record takes in a block.
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        RECORD_HEADER_BYTES + self.key.len() + self.headers.len() + self.value.len()
    }

    /// Appends the record to `out`.
    ///
    /// # Errors
    /// [`BlockError::TooLarge`]; `out` is unchanged.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), BlockError> {
        let key_length = fit_u16(self.key.len(), KEY_BYTES_MAX)?;
        let headers_length = fit_u16(self.headers.len(), HEADERS_BYTES_MAX)?;
        let length = self.encoded_len() - 4;
        if length > RECORD_BYTES_MAX as usize {
            return Err(BlockError::TooLarge {
                len: length as u64,
                limit: u64::from(RECORD_BYTES_MAX),
            });
        }
        let length = u32::try_from(length).expect("checked against RECORD_BYTES_MAX");
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&key_length.to_le_bytes());
        out.extend_from_slice(&headers_length.to_le_bytes());
        out.extend_from_slice(self.key);
        out.extend_from_slice(self.headers);
        out.extend_from_slice(self.value);
        Ok(())
    }

    /// The headers as `(name, value)`. A block that passed [`check_records`]
    /// yields every one; on other bytes the walk ends at the first fault.
    #[must_use]
    pub const fn headers(&self) -> Headers<'a> {
        Headers { rest: self.headers }
    }
}

/// Appends one header to an encoded header block.
///
/// # Errors
/// [`BlockError::TooLarge`] for the name, the value or the whole block;
/// `out` is unchanged. An empty name is [`BlockError::Inconsistent`].
pub fn encode_header(out: &mut Vec<u8>, name: &[u8], value: &[u8]) -> Result<(), BlockError> {
    if name.is_empty() {
        return Err(BlockError::Inconsistent);
    }
    let total = out.len() + 3 + name.len() + value.len();
    fit_u16(total, HEADERS_BYTES_MAX)?;
    let name_length = u8::try_from(name.len()).map_err(|_| BlockError::TooLarge {
        len: name.len() as u64,
        limit: 255,
    })?;
    let value_length = fit_u16(value.len(), HEADERS_BYTES_MAX)?;
    out.push(name_length);
    out.extend_from_slice(&value_length.to_le_bytes());
    out.extend_from_slice(name);
    out.extend_from_slice(value);
    Ok(())
}

/// Walks an encoded header block.
#[derive(Clone, Debug)]
pub struct Headers<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (name_length, rest) = self.rest.split_first()?;
        let (value_length, rest) = rest.split_first_chunk::<2>()?;
        let value_length = usize::from(u16::from_le_bytes(*value_length));
        let (name, rest) = rest.split_at_checked(usize::from(*name_length))?;
        let (value, rest) = rest.split_at_checked(value_length)?;
        self.rest = rest;
        Some((name, value))
    }
}

/// Walks the records of bytes that start at a record.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
}

/// The records in `bytes`; the bytes after a block header, or a publish body.
#[must_use]
pub const fn records(bytes: &[u8]) -> Records<'_> {
    Records { rest: bytes }
}

impl<'a> Records<'a> {
    /// Bytes not yet walked.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, BlockError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match split_record(self.rest) {
            Ok((record, rest)) => {
                self.rest = rest;
                Some(Ok(record))
            }
            Err(error) => {
                self.rest = &[];
                Some(Err(error))
            }
        }
    }
}

fn split_record(bytes: &[u8]) -> Result<(Record<'_>, &[u8]), BlockError> {
    let (head, rest) = bytes
        .split_first_chunk::<RECORD_HEADER_BYTES>()
        .ok_or(BlockError::Truncated)?;
    let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
    let key_length = u16::from_le_bytes([head[4], head[5]]);
    let headers_length = u16::from_le_bytes([head[6], head[7]]);
    over(u64::from(length), u64::from(RECORD_BYTES_MAX))?;
    over(u64::from(key_length), u64::from(KEY_BYTES_MAX))?;
    over(u64::from(headers_length), u64::from(HEADERS_BYTES_MAX))?;
    let body = (length as usize)
        .checked_sub(4)
        .ok_or(BlockError::Inconsistent)?;
    let (body, rest) = rest.split_at_checked(body).ok_or(BlockError::Truncated)?;
    let (key, body) = body
        .split_at_checked(usize::from(key_length))
        .ok_or(BlockError::Inconsistent)?;
    let (headers, value) = body
        .split_at_checked(usize::from(headers_length))
        .ok_or(BlockError::Inconsistent)?;
    Ok((
        Record {
            key,
            headers,
            value,
        },
        rest,
    ))
}

/// Walks `bytes` once and checks that they are exactly `count` well-formed
/// records with well-formed headers.
///
/// # Errors
/// The first fault. A publish that fails here stores nothing.
pub fn check_records(bytes: &[u8], count: u32) -> Result<(), BlockError> {
    over(u64::from(count), u64::from(BATCH_RECORDS_MAX))?;
    let mut actual = 0_u32;
    for record in records(bytes) {
        let record = record?;
        let mut headers = record.headers();
        let walked = headers.by_ref().take(HEADERS_MAX).map(|(name, _)| name);
        for name in walked {
            if name.is_empty() {
                return Err(BlockError::Inconsistent);
            }
        }
        if !headers.rest.is_empty() {
            return Err(BlockError::Inconsistent);
        }
        actual += 1;
        if actual > count {
            break;
        }
    }
    if actual == count && count > 0 {
        Ok(())
    } else {
        Err(BlockError::Count {
            expected: count,
            actual,
        })
    }
}

/// The fixed part of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHeader {
    /// Offset of the first record.
    pub first_offset: Offset,
    /// When the partition took the block.
    pub timestamp: WallMs,
    /// How many records follow.
    pub record_count: u32,
    /// Bytes of all records together.
    pub records_bytes: u32,
}

impl BlockHeader {
    /// Bytes of the whole block.
    #[must_use]
    pub const fn block_len(&self) -> usize {
        BLOCK_HEADER_BYTES + self.records_bytes as usize
    }

    /// The 32 bytes that stand before the records.
    #[must_use]
    pub fn encode(&self) -> [u8; BLOCK_HEADER_BYTES] {
        let length = self.records_bytes + 20;
        let mut out = [0; BLOCK_HEADER_BYTES];
        out[0..4].copy_from_slice(&length.to_le_bytes());
        out[4] = RECORDS_OPCODE;
        out[12..20].copy_from_slice(&self.first_offset.0.to_le_bytes());
        out[20..28].copy_from_slice(&self.timestamp.0.to_le_bytes());
        out[28..32].copy_from_slice(&self.record_count.to_le_bytes());
        out
    }

    /// Reads a block's header and gives the bytes of its records and what
    /// follows the block.
    ///
    /// # Errors
    /// [`BlockError::Truncated`] when `bytes` end inside the block,
    /// [`BlockError::Inconsistent`] when they are not a block.
    pub fn split(bytes: &[u8]) -> Result<(Self, &[u8], &[u8]), BlockError> {
        let (head, rest) = bytes
            .split_first_chunk::<BLOCK_HEADER_BYTES>()
            .ok_or(BlockError::Truncated)?;
        let length = u32::from_le_bytes(head[0..4].try_into().expect("4 bytes"));
        if head[4] != RECORDS_OPCODE || head[5..12] != [0; 7] {
            return Err(BlockError::Inconsistent);
        }
        let records_bytes = length.checked_sub(20).ok_or(BlockError::Inconsistent)?;
        let (body, rest) = rest
            .split_at_checked(records_bytes as usize)
            .ok_or(BlockError::Truncated)?;
        let header = Self {
            first_offset: Offset(u64::from_le_bytes(
                head[12..20].try_into().expect("8 bytes"),
            )),
            timestamp: WallMs(u64::from_le_bytes(
                head[20..28].try_into().expect("8 bytes"),
            )),
            record_count: u32::from_le_bytes(head[28..32].try_into().expect("4 bytes")),
            records_bytes,
        };
        Ok((header, body, rest))
    }
}

fn over(len: u64, limit: u64) -> Result<(), BlockError> {
    if len > limit {
        return Err(BlockError::TooLarge { len, limit });
    }
    Ok(())
}

fn fit_u16(len: usize, limit: u16) -> Result<u16, BlockError> {
    match u16::try_from(len) {
        Ok(fits) if fits <= limit => Ok(fits),
        _ => Err(BlockError::TooLarge {
            len: len as u64,
            limit: u64::from(limit),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_records() -> Vec<u8> {
        let mut headers = Vec::new();
        encode_header(&mut headers, b"h", b"1").expect("small");
        let mut out = Vec::new();
        Record {
            key: b"k",
            headers: &headers,
            value: b"value",
        }
        .encode(&mut out)
        .expect("small");
        Record {
            key: b"",
            headers: b"",
            value: b"",
        }
        .encode(&mut out)
        .expect("small");
        out
    }

    #[test]
    fn a_record_has_the_documented_bytes() {
        // Derived by hand from the layout in the module's head.
        let expected = [
            15, 0, 0, 0, 1, 0, 5, 0, b'k', 1, 1, 0, b'h', b'1', b'v', b'a', b'l', b'u',
            b'e', //
            4, 0, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(two_records(), expected);
        assert_eq!(check_records(&expected, 2), Ok(()));
    }

    #[test]
    fn a_block_header_survives_its_bytes() {
        let body = two_records();
        let header = BlockHeader {
            first_offset: Offset(7),
            timestamp: WallMs(9),
            record_count: 2,
            records_bytes: u32::try_from(body.len()).expect("small"),
        };
        let mut block = header.encode().to_vec();
        block.extend_from_slice(&body);
        block.push(0xaa);
        let (read, records, rest) = BlockHeader::split(&block).expect("whole");
        assert_eq!((read, records, rest), (header, &body[..], &[0xaa][..]));
        assert_eq!(header.block_len() + 1, block.len());
        for cut in 0..header.block_len() {
            assert_eq!(
                BlockHeader::split(&block[..cut]),
                Err(BlockError::Truncated)
            );
        }
    }

    #[test]
    fn every_truncation_and_every_wrong_count_is_refused() {
        let body = two_records();
        for cut in 0..body.len() {
            assert!(check_records(&body[..cut], 2).is_err(), "cut at {cut}");
        }
        for count in [0, 1, 3, u32::MAX] {
            assert!(check_records(&body, count).is_err(), "count {count}");
        }
    }

    #[test]
    fn length_fields_out_of_range_are_refused() {
        for (at, bytes) in [(0, u32::MAX), (0, 3), (0, 0)] {
            let mut body = two_records();
            body[at..at + 4].copy_from_slice(&bytes.to_le_bytes());
            assert!(check_records(&body, 2).is_err());
        }
        for (at, value) in [(4, u16::MAX), (6, u16::MAX), (4, 100), (6, 4), (6, 6)] {
            let mut body = two_records();
            body[at..at + 2].copy_from_slice(&value.to_le_bytes());
            assert!(check_records(&body, 2).is_err(), "u16 at {at} = {value}");
        }
    }

    #[test]
    fn what_is_too_large_is_not_encoded() {
        let mut out = Vec::new();
        let key = vec![0; 1025];
        let record = Record {
            key: &key,
            headers: b"",
            value: b"",
        };
        assert!(record.encode(&mut out).is_err());
        assert!(out.is_empty());
        assert!(encode_header(&mut out, b"", b"x").is_err());
        assert!(encode_header(&mut out, &[b'n'; 256], b"x").is_err());
        assert!(out.is_empty());
    }
}
