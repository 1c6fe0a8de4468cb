//! Builds a group in the buffer that is written.

use super::group::{Chain, GROUP_HEADER, GROUP_TAIL, GroupHeader, count_sectors};
use super::record::{RECORD_ALIGN, RecordFlags, RecordHeader};
use super::segment::SegmentKey;
use super::{
    FormatError, GROUP_BYTES_MAX, RECORD_BYTES_MAX, RECORD_EXT_MAX, RECORD_HEADER,
    SEGMENT_BYTES_MAX, Structure, put, round_up, saturated,
};
use crate::{BLOCK, BlockBuf, Location, Lsn, RecordHead};

/// Appends records to a group; the group's place is known from the start, so
/// that each record's is.
#[derive(Debug)]
pub struct GroupWriter {
    buffer: BlockBuf,
    /// Bytes of header and records so far.
    used: usize,
    key: SegmentKey,
    offset: u32,
    chain: Chain,
    records: u32,
    records_crc: u32,
}

/// A record that is in the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Its number in the log.
    pub lsn: Lsn,
    /// Where it will lie.
    pub location: Location,
}

/// A group ready to be written at `header.offset`.
#[derive(Debug)]
pub struct Finished {
    /// As many bytes as [`GroupHeader::extent`].
    pub buffer: BlockBuf,
    /// What was written of it; [`GroupHeader::next`] is what comes next.
    pub header: GroupHeader,
}

impl GroupWriter {
    /// Starts a group at byte `offset` of the segment, in `buffer`, whose
    /// content is of no interest; it is replaced by a larger one when needed.
    ///
    /// # Panics
    /// When `offset` is not a block of a segment behind its header.
    #[must_use]
    pub fn begin(buffer: BlockBuf, key: SegmentKey, offset: u32, chain: Chain) -> Self {
        assert!(
            offset > 0
                && (offset as usize).is_multiple_of(BLOCK)
                && u64::from(offset) < SEGMENT_BYTES_MAX,
            "no group can start at byte {offset}"
        );
        let mut writer = Self {
            buffer,
            used: GROUP_HEADER,
            key,
            offset,
            chain,
            records: 0,
            records_crc: 0,
        };
        writer.reserve(BLOCK);
        writer
    }

    /// Byte of the segment where it starts.
    #[must_use]
    pub const fn offset(&self) -> u32 {
        self.offset
    }

    /// Records in it.
    #[must_use]
    pub const fn records(&self) -> u32 {
        self.records
    }

    /// Number that the next record gets.
    #[must_use]
    pub const fn next_lsn(&self) -> Lsn {
        Lsn(self.chain.lsn.0 + self.records as u64)
    }

    /// Bytes that it takes in the segment now; a block when it is empty.
    #[must_use]
    pub const fn extent(&self) -> usize {
        round_up(self.used + GROUP_TAIL.len(), BLOCK)
    }

    /// Bytes that it takes when `records` more with `bytes` of extensions and
    /// bodies together are appended; at most 8 bytes a record too many.
    #[must_use]
    pub const fn extent_with(&self, records: usize, bytes: usize) -> usize {
        let each = RECORD_HEADER + RECORD_ALIGN - 1;
        let more = round_up(records * each + bytes, RECORD_ALIGN);
        round_up(self.used + more + GROUP_TAIL.len(), BLOCK)
    }

    /// Appends a record. The parts of `ext` and of `body` are joined.
    ///
    /// # Errors
    /// [`FormatError::Limit`] when the record or the group would be too long; the
    /// group is as before.
    pub fn push(
        &mut self,
        head: &RecordHead,
        flags: RecordFlags,
        ext: &[&[u8]],
        body: &[&[u8]],
    ) -> Result<Pushed, FormatError> {
        let total = |parts: &[&[u8]]| parts.iter().map(|part| part.len()).sum::<usize>();
        let ext_bytes = total(ext);
        let len = RECORD_HEADER + ext_bytes + total(body);
        let limit = |what, field, value: usize, limit: usize| FormatError::Limit {
            what,
            field,
            value: value as u64,
            limit: limit as u64,
        };
        let ext_len = u16::try_from(ext_bytes)
            .map_err(|_| limit(Structure::Record, "extension", ext_bytes, RECORD_EXT_MAX))?;
        if len > RECORD_BYTES_MAX {
            return Err(limit(Structure::Record, "length", len, RECORD_BYTES_MAX));
        }
        let (start, end) = (self.used, self.used + round_up(len, RECORD_ALIGN));
        if end + GROUP_TAIL.len() > GROUP_BYTES_MAX {
            let value = end + GROUP_TAIL.len();
            return Err(limit(Structure::Group, "length", value, GROUP_BYTES_MAX));
        }

        self.reserve(round_up(end + GROUP_TAIL.len(), BLOCK));
        let lsn = self.next_lsn();
        let bytes = self.buffer.as_mut_slice();
        let mut at = start + RECORD_HEADER;
        let mut body_crc = 0;
        for part in ext.iter().chain(body) {
            put(bytes, at, part);
            // Right after the copy, while the bytes are in the nearest cache.
            body_crc = crc32c::crc32c_append(body_crc, part);
            at += part.len();
        }
        bytes[at..end].fill(0);
        let position = self.offset + saturated(start);
        let header = RecordHeader {
            len: saturated(len),
            ext_len,
            flags,
            lsn,
            head: *head,
            body_crc,
        };
        let encoded = header.encode(self.key, position);
        put(bytes, start, &encoded);
        self.records_crc = crc32c::crc32c_append(self.records_crc, &encoded[60..]);
        self.records += 1;
        self.used = end;
        Ok(Pushed {
            lsn,
            location: Location {
                segment: self.key.number,
                offset: position,
                len: header.len,
            },
        })
    }

    /// Ends the group: what comes out is written as it is, in one write.
    ///
    /// # Panics
    /// When no record is in it.
    #[must_use]
    pub fn finish(mut self) -> Finished {
        assert!(self.records > 0, "a group has at least one record");
        let extent = self.extent();
        self.buffer.set_len(extent);
        let bytes = self.buffer.as_mut_slice();
        put(bytes, self.used, &GROUP_TAIL);
        let end = self.used + GROUP_TAIL.len();
        bytes[end..].fill(0);
        let mut header = GroupHeader {
            bytes: saturated(end),
            records: self.records,
            zero_sectors: 0,
            light_sectors: 0,
            offset: self.offset,
            chain: self.chain,
            records_crc: self.records_crc,
            crc: 0,
        };
        // The first sector holds the header and is not zero, whatever the header
        // says; so it need not be there yet when the others are counted.
        (header.zero_sectors, header.light_sectors) = count_sectors(&bytes[super::SECTOR..]);
        let (encoded, crc) = header.encode(self.key);
        put(bytes, 0, &encoded);
        header.crc = crc;
        Finished {
            buffer: self.buffer,
            header,
        }
    }

    /// Gives the buffer back; nothing was appended, or nobody waits for it.
    #[must_use]
    pub fn into_buffer(self) -> BlockBuf {
        self.buffer
    }

    /// Makes room for `extent` bytes, keeping what is there.
    fn reserve(&mut self, extent: usize) {
        if extent > self.buffer.capacity() {
            // Twice as long each time, so that what is copied stays below what is
            // appended; buffers come back after their write and are used again.
            let len = extent.max(2 * self.buffer.capacity()).min(GROUP_BYTES_MAX);
            let mut larger = BlockBuf::zeroed(len);
            if self.records > 0 {
                let used = &self.buffer.as_slice()[..self.used];
                larger.as_mut_slice()[..self.used].copy_from_slice(used);
            }
            self.buffer = larger;
        }
        if self.buffer.len() < extent {
            self.buffer.set_len(extent);
        }
    }
}
