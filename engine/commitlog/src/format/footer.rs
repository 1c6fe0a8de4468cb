//! The end of a sealed segment: who is in it, and where.
//!
//! All of it is derived from the records and believed only when every checksum
//! holds; on any doubt it is made again from them.

use pinion_types::{PartitionId, ResourceId};

use super::group::Chain;
use super::segment::SegmentKey;
use super::{
    FormatError, RECORD_HEADER, SECTOR, SEGMENT_BYTES_MAX, Structure, must_be_zero, open_block,
    open_sector, put, round_up, seal_sector, u16_at, u32_at, u64_at,
};
use crate::{BLOCK, BlockBuf, Lsn};

/// Bytes of a summary.
pub const SUMMARY: usize = 72;

/// Bytes of an index entry.
pub const INDEX_ENTRY: usize = 24;

const HEAD_MAGIC: [u8; 8] = *b"PINIONFH";
const TRAILER_MAGIC: [u8; 8] = *b"PINIONFT";
const USED: usize = 68;
const CARRIED: u8 = 1;
const WHAT: Structure = Structure::Footer;

/// What head and trailer of a footer say, both the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FooterFacts {
    /// Byte of the segment where the footer starts, right behind the last group.
    pub offset: u32,
    /// What the first group of the next segment continues.
    pub next: Chain,
    /// Groups in the segment.
    pub groups: u32,
    /// Records in it.
    pub records: u32,
    /// Partitions in it.
    pub summaries: u32,
    /// Index entries of all of them.
    pub entries: u32,
    /// CRC-32C of summaries, index and padding.
    pub body_crc: u32,
}

impl FooterFacts {
    /// Bytes of the footer, head and trailer included.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        (self.body_end().next_multiple_of(BLOCK as u64)) + BLOCK as u64
    }

    /// Length of the file.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.offset as u64 + self.bytes()
    }

    /// Bytes of the file that hold the `count` index entries from `first` on: a
    /// summary's.
    #[must_use]
    pub const fn entries_at(&self, first: u32, count: u32) -> core::ops::Range<u64> {
        let start = self.offset as u64
            + (SECTOR + self.summaries as usize * SUMMARY + first as usize * INDEX_ENTRY) as u64;
        start..start + (count as usize * INDEX_ENTRY) as u64
    }

    const fn body_end(&self) -> u64 {
        SECTOR as u64
            + self.summaries as u64 * SUMMARY as u64
            + self.entries as u64 * INDEX_ENTRY as u64
    }

    fn encode(&self, key: SegmentKey, magic: [u8; 8]) -> [u8; SECTOR] {
        let mut sector = [0; SECTOR];
        put(&mut sector, 16, &key.number.to_le_bytes());
        put(&mut sector, 24, &self.next.lsn.0.to_le_bytes());
        put(&mut sector, 32, &self.next.sequence.to_le_bytes());
        put(&mut sector, 40, &self.next.previous_crc.to_le_bytes());
        put(&mut sector, 44, &self.offset.to_le_bytes());
        put(&mut sector, 48, &self.summaries.to_le_bytes());
        put(&mut sector, 52, &self.entries.to_le_bytes());
        put(&mut sector, 56, &self.groups.to_le_bytes());
        put(&mut sector, 60, &self.records.to_le_bytes());
        put(&mut sector, 64, &self.body_crc.to_le_bytes());
        seal_sector(&mut sector, magic, Some(key.salt));
        sector
    }

    fn parse(sector: &[u8; SECTOR], key: SegmentKey, what: Structure) -> Result<Self, FormatError> {
        mismatch(what, "segment", u64_at(sector, 16), key.number)?;
        let facts = Self {
            offset: u32_at(sector, 44),
            next: Chain {
                lsn: Lsn(u64_at(sector, 24)),
                sequence: u64_at(sector, 32),
                previous_crc: u32_at(sector, 40),
            },
            groups: u32_at(sector, 56),
            records: u32_at(sector, 60),
            summaries: u32_at(sector, 48),
            entries: u32_at(sector, 52),
            body_crc: u32_at(sector, 64),
        };
        // Every summary and every index entry stands for records of its own, so
        // none of these can be longer than what lies before the footer.
        for (field, value, limit) in [
            ("offset", u64::from(facts.offset), SEGMENT_BYTES_MAX),
            ("summaries", facts.summaries.into(), facts.records.into()),
            ("index entries", facts.entries.into(), facts.records.into()),
            (
                "groups",
                facts.groups.into(),
                u64::from(facts.offset) / BLOCK as u64,
            ),
            (
                "records",
                facts.records.into(),
                u64::from(facts.offset) / RECORD_HEADER as u64,
            ),
        ] {
            if value > limit {
                return Err(FormatError::Limit {
                    what,
                    field,
                    value,
                    limit,
                });
            }
        }
        if !(facts.offset as usize).is_multiple_of(BLOCK) {
            return Err(mismatch_error(what, "offset", facts.offset.into(), 0));
        }
        Ok(facts)
    }
}

/// What one partition has in a segment. A partition may have several: its own
/// records by offset, records rewritten forward (one for each unbroken range),
/// and its records without offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Whose records.
    pub resource: ResourceId,
    /// Which partition of it.
    pub partition: PartitionId,
    /// The least `first` of its records with a count; 0 without such records.
    pub first: u64,
    /// The greatest `first + count` of them.
    pub end: u64,
    /// The least timestamp of its records, in milliseconds.
    pub first_timestamp: u64,
    /// The greatest.
    pub last_timestamp: u64,
    /// Bytes of its records: headers, extensions and bodies, without padding.
    pub bytes: u64,
    /// Its records.
    pub records: u32,
    /// Those that are retained.
    pub retained: u32,
    /// Where its index entries start, counted in entries of the whole footer.
    pub index_first: u32,
    /// How many it has.
    pub index_count: u32,
    /// CRC-32C of its index entries, so that they can be read alone.
    pub index_crc: u32,
    /// Its records were rewritten forward from older segments; flag bit 0.
    pub carried: bool,
}

impl Summary {
    fn encode(&self) -> [u8; SUMMARY] {
        let mut bytes = [0; SUMMARY];
        put(&mut bytes, 0, &self.resource.0.to_le_bytes());
        put(&mut bytes, 8, &self.first.to_le_bytes());
        put(&mut bytes, 16, &self.end.to_le_bytes());
        put(&mut bytes, 24, &self.first_timestamp.to_le_bytes());
        put(&mut bytes, 32, &self.last_timestamp.to_le_bytes());
        put(&mut bytes, 40, &self.bytes.to_le_bytes());
        put(&mut bytes, 48, &self.records.to_le_bytes());
        put(&mut bytes, 52, &self.retained.to_le_bytes());
        put(&mut bytes, 56, &self.index_first.to_le_bytes());
        put(&mut bytes, 60, &self.index_count.to_le_bytes());
        put(&mut bytes, 64, &self.index_crc.to_le_bytes());
        put(&mut bytes, 68, &self.partition.0.to_le_bytes());
        bytes[70] = if self.carried { CARRIED } else { 0 };
        bytes
    }

    fn parse(bytes: &[u8; SUMMARY]) -> Self {
        Self {
            resource: ResourceId(u64_at(bytes, 0)),
            partition: PartitionId(u16_at(bytes, 68)),
            first: u64_at(bytes, 8),
            end: u64_at(bytes, 16),
            first_timestamp: u64_at(bytes, 24),
            last_timestamp: u64_at(bytes, 32),
            bytes: u64_at(bytes, 40),
            records: u32_at(bytes, 48),
            retained: u32_at(bytes, 52),
            index_first: u32_at(bytes, 56),
            index_count: u32_at(bytes, 60),
            index_crc: u32_at(bytes, 64),
            carried: bytes[70] & CARRIED != 0,
        }
    }
}

/// Where records of a partition are: from this entry's `first` up to the next
/// entry's they start in these blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// `first` of the first record it stands for.
    pub first: u64,
    /// Timestamp of that record, in milliseconds.
    pub timestamp: u64,
    /// Block of the segment where its group starts.
    pub block: u32,
    /// Blocks from there on that hold them all: its group's at least.
    pub blocks: u32,
}

impl IndexEntry {
    /// The bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; INDEX_ENTRY] {
        let mut bytes = [0; INDEX_ENTRY];
        put(&mut bytes, 0, &self.first.to_le_bytes());
        put(&mut bytes, 8, &self.timestamp.to_le_bytes());
        put(&mut bytes, 16, &self.block.to_le_bytes());
        put(&mut bytes, 20, &self.blocks.to_le_bytes());
        bytes
    }

    fn parse(bytes: &[u8; INDEX_ENTRY]) -> Self {
        Self {
            first: u64_at(bytes, 0),
            timestamp: u64_at(bytes, 8),
            block: u32_at(bytes, 16),
            blocks: u32_at(bytes, 20),
        }
    }
}

/// A footer in the bytes it was read from, verified.
#[derive(Clone, Copy, Debug)]
pub struct Footer<'a> {
    /// What head and trailer say.
    pub facts: FooterFacts,
    summaries: &'a [[u8; SUMMARY]],
    entries: &'a [[u8; INDEX_ENTRY]],
}

impl<'a> Footer<'a> {
    /// Every partition, by resource and partition.
    pub fn summaries(&self) -> impl ExactSizeIterator<Item = Summary> + Clone + use<'a> {
        self.summaries.iter().map(Summary::parse)
    }

    /// The summaries of one partition.
    pub fn find(
        &self,
        resource: ResourceId,
        partition: PartitionId,
    ) -> impl ExactSizeIterator<Item = Summary> + Clone + use<'a> {
        let name = |bytes: &[u8; SUMMARY]| {
            let summary = Summary::parse(bytes);
            (summary.resource, summary.partition)
        };
        let wanted = (resource, partition);
        let from = self.summaries.partition_point(|bytes| name(bytes) < wanted);
        let to = self
            .summaries
            .partition_point(|bytes| name(bytes) <= wanted);
        self.summaries[from..to].iter().map(Summary::parse)
    }

    /// The index entries of one of its summaries, in order.
    pub fn entries(
        &self,
        of: &Summary,
    ) -> impl ExactSizeIterator<Item = IndexEntry> + Clone + use<'a> {
        let from = (of.index_first as usize).min(self.entries.len());
        let to = (from + of.index_count as usize).min(self.entries.len());
        self.entries[from..to].iter().map(IndexEntry::parse)
    }
}

/// Reads the last block of a file of `file_len` bytes. Where and how long the
/// footer is, is in the answer.
///
/// # Errors
/// Anything else than a trailer of this segment that fits the file: not sealed,
/// cut short, or damaged.
pub fn decode_trailer(
    key: SegmentKey,
    file_len: u64,
    block: &[u8],
) -> Result<FooterFacts, FormatError> {
    let what = Structure::FooterTrailer;
    let sector = open_block(block, what, TRAILER_MAGIC, Some(key.salt), USED)?;
    let facts = FooterFacts::parse(sector, key, what)?;
    mismatch(what, "end of the file", file_len, facts.end())?;
    Ok(facts)
}

/// The first sector of a footer at byte `offset`.
pub(super) fn decode_head(
    key: SegmentKey,
    offset: u32,
    bytes: &[u8],
) -> Result<FooterFacts, FormatError> {
    let what = Structure::FooterHead;
    let sector = open_sector(bytes, what, HEAD_MAGIC, Some(key.salt), USED)?;
    let facts = FooterFacts::parse(sector, key, what)?;
    mismatch(what, "offset", facts.offset.into(), offset.into())?;
    Ok(facts)
}

/// Reads a footer: `bytes` are the file from [`FooterFacts::offset`] to its end.
///
/// # Errors
/// Whatever of it does not hold. It is then made again from the records.
pub fn decode_footer<'a>(
    key: SegmentKey,
    facts: &FooterFacts,
    bytes: &'a [u8],
) -> Result<Footer<'a>, FormatError> {
    let found = bytes.len() as u64;
    if found != facts.bytes() {
        return Err(mismatch_error(WHAT, "length", found, facts.bytes()));
    }
    let (rest, trailer) = bytes.split_at(bytes.len() - BLOCK);
    let end = u64::from(facts.offset) + found;
    if decode_trailer(key, end, trailer)? != *facts
        || decode_head(key, facts.offset, rest)? != *facts
    {
        // Both are sound and say different things: one of them is not of here.
        let field = "agreement of head and trailer";
        return Err(mismatch_error(WHAT, field, 0, 1));
    }
    let body = &rest[SECTOR..];
    let computed = crc32c::crc32c(body);
    if computed != facts.body_crc {
        return Err(FormatError::Checksum {
            what: WHAT,
            stored: facts.body_crc,
            computed,
        });
    }
    let (summaries, body) = body.split_at(facts.summaries as usize * SUMMARY);
    let (entries, padding) = body.split_at(facts.entries as usize * INDEX_ENTRY);
    must_be_zero(WHAT, padding, 0)?;
    let footer = Footer {
        facts: *facts,
        summaries: summaries.as_chunks().0,
        entries: entries.as_chunks().0,
    };
    footer.check_order()?;
    Ok(footer)
}

impl Footer<'_> {
    fn check_order(&self) -> Result<(), FormatError> {
        let (mut last, mut entries, mut records) = (None, 0u64, 0u64);
        for (at, bytes) in self.summaries.iter().enumerate() {
            must_be_zero(WHAT, bytes, 71)?;
            let unknown = bytes[70] & !CARRIED;
            if unknown != 0 {
                return Err(FormatError::Flags {
                    what: WHAT,
                    flags: unknown.into(),
                });
            }
            let summary = Summary::parse(bytes);
            let name = (summary.resource, summary.partition);
            if last.is_some_and(|last| last > name) {
                return Err(mismatch_error(WHAT, "order of summary", at as u64, 0));
            }
            mismatch(WHAT, "first entry", summary.index_first.into(), entries)?;
            last = Some(name);
            entries += u64::from(summary.index_count);
            records += u64::from(summary.records);
        }
        mismatch(WHAT, "index entries", entries, self.facts.entries.into())?;
        mismatch(WHAT, "records", records, self.facts.records.into())
    }
}

/// Reads index entries that were read alone, from [`FooterFacts::entries_at`].
///
/// # Errors
/// They are not the `crc` that their summary says, or not whole entries.
pub fn decode_entries(
    crc: u32,
    bytes: &[u8],
) -> Result<impl ExactSizeIterator<Item = IndexEntry> + Clone + '_, FormatError> {
    let computed = crc32c::crc32c(bytes);
    let (entries, rest) = bytes.as_chunks();
    if computed != crc || !rest.is_empty() {
        return Err(FormatError::Checksum {
            what: WHAT,
            stored: crc,
            computed,
        });
    }
    Ok(entries.iter().map(IndexEntry::parse))
}

/// Builds a footer: for every partition in order, its entries, then
/// [`partition`](FooterWriter::partition).
#[derive(Debug, Default)]
pub struct FooterWriter {
    summaries: Vec<u8>,
    entries: Vec<u8>,
    /// Where the entries of the next partition start, in bytes.
    entries_from: usize,
    last: Option<(ResourceId, PartitionId)>,
    records: u64,
}

impl FooterWriter {
    /// An empty footer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends an entry of the partition that comes next.
    pub fn entry(&mut self, entry: &IndexEntry) {
        self.entries.extend_from_slice(&entry.encode());
    }

    /// Appends a partition with the entries since the last one. The three
    /// `index_` fields are filled in here; gives it with them.
    ///
    /// # Panics
    /// When it is not behind the one before in order.
    pub fn partition(&mut self, summary: &Summary) -> Summary {
        let name = (summary.resource, summary.partition);
        assert!(
            self.last.is_none_or(|last| last <= name),
            "summaries are in order: {:?} before {name:?}",
            self.last
        );
        let own = &self.entries[self.entries_from..];
        let summary = Summary {
            index_first: super::saturated(self.entries_from / INDEX_ENTRY),
            index_count: super::saturated(own.len() / INDEX_ENTRY),
            index_crc: crc32c::crc32c(own),
            ..*summary
        };
        self.entries_from = self.entries.len();
        self.summaries.extend_from_slice(&summary.encode());
        self.last = Some(name);
        self.records += u64::from(summary.records);
        summary
    }

    /// The footer, to be written at byte `offset`, right behind the last group.
    ///
    /// # Panics
    /// When entries have no partition.
    #[must_use]
    pub fn finish(self, key: SegmentKey, offset: u32, next: Chain, groups: u32) -> BlockBuf {
        let Self {
            summaries, entries, ..
        } = self;
        assert_eq!(
            self.entries_from,
            entries.len(),
            "entries without a partition"
        );
        let body_end = SECTOR + summaries.len() + entries.len();
        let mut buffer = BlockBuf::zeroed(round_up(body_end, BLOCK) + BLOCK);
        let bytes = buffer.as_mut_slice();
        put(bytes, SECTOR, &summaries);
        put(bytes, SECTOR + summaries.len(), &entries);
        let trailer = bytes.len() - BLOCK;
        let facts = FooterFacts {
            offset,
            next,
            groups,
            records: u32::try_from(self.records).expect("a segment has less than 2^32 records"),
            summaries: super::saturated(summaries.len() / SUMMARY),
            entries: super::saturated(entries.len() / INDEX_ENTRY),
            body_crc: crc32c::crc32c(&bytes[SECTOR..trailer]),
        };
        put(bytes, 0, &facts.encode(key, HEAD_MAGIC));
        put(bytes, trailer, &facts.encode(key, TRAILER_MAGIC));
        buffer
    }
}

const fn mismatch_error(
    what: Structure,
    field: &'static str,
    found: u64,
    expected: u64,
) -> FormatError {
    FormatError::Mismatch {
        what,
        field,
        found,
        expected,
    }
}

fn mismatch(
    what: Structure,
    field: &'static str,
    found: u64,
    expected: u64,
) -> Result<(), FormatError> {
    if found == expected {
        return Ok(());
    }
    Err(mismatch_error(what, field, found, expected))
}
