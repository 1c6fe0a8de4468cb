//! Copying records out of a chunk: what a fetch answers, and what a
//! subscriber gets when it may not have a whole block.

use pinion_types::Offset;
use pinion_types::block::{self, BLOCK_HEADER_BYTES, BlockHeader};

use super::RecordFilter;
use super::ring::{Place, blocks, header_at};
use super::source::{Found, Source};

/// Most bytes one fetch looks at, matching or not. Larger lets a selective
/// fetch get further at once and keep the core for longer.
pub const FETCH_SCAN_BYTES_MAX: usize = 1 << 20;

/// What bounds a copy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Copy nothing at or after this offset.
    pub(crate) stop: u64,
    pub(crate) records: u64,
    /// Bytes of output.
    pub(crate) bytes: usize,
    /// The first record may exceed `bytes`.
    pub(crate) first_exempt: bool,
    /// Bytes to look at; at least one record is.
    pub(crate) scan: usize,
}

/// What a copy did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Copied {
    pub(crate) records: u64,
    pub(crate) scanned: usize,
    /// Stopped by a bound, not by the end of the chunk.
    pub(crate) bounded: bool,
}

/// Copies matching records of `chunk` from `place` on and moves `place` and
/// `next` past all it looked at. Each run of consecutive matches inside a
/// block becomes a block of its own, because a block's offsets are dense.
pub(crate) fn copy_matching(
    chunk: &[u8],
    place: &mut Place,
    next: &mut u64,
    filter: Option<&dyn RecordFilter>,
    bounds: &Bounds,
    out: &mut Vec<u8>,
) -> Copied {
    let base = out.len();
    let mut copied = Copied::default();
    while place.block < chunk.len() && !copied.bounded {
        let header = header_at(chunk, place.block);
        let block_end = place.block + header.block_len();
        let mut at = match place.record {
            0 => place.block + BLOCK_HEADER_BYTES,
            record => record,
        };
        let mut run = Run::default();
        let mut records = block::records(&chunk[at..block_end]);
        loop {
            if at == block_end {
                break;
            }
            if *next >= bounds.stop
                || copied.records >= bounds.records
                || (copied.scanned > 0 && copied.scanned >= bounds.scan)
            {
                copied.bounded = true;
                break;
            }
            let record = records
                .next()
                .expect("the walk is inside the block")
                .expect("records are checked when appended");
            let len = record.encoded_len();
            if filter.is_none_or(|filter| filter.matches(&record)) {
                let head = if run.count == 0 {
                    BLOCK_HEADER_BYTES
                } else {
                    0
                };
                let exempt = bounds.first_exempt && copied.records == 0;
                if !exempt && out.len() - base + head + len > bounds.bytes {
                    copied.bounded = true;
                    break;
                }
                if run.count == 0 {
                    run.begin(*next, out);
                }
                out.extend_from_slice(&chunk[at..at + len]);
                run.count += 1;
                copied.records += 1;
            } else {
                run.finish(&header, out);
            }
            copied.scanned += len;
            at += len;
            *next += 1;
        }
        run.finish(&header, out);
        if at == block_end {
            place.block = block_end;
            place.record = 0;
        } else if at > place.block + BLOCK_HEADER_BYTES {
            place.record = at;
        }
    }
    copied
}

/// A block being written: consecutive matches so far.
#[derive(Debug, Default)]
struct Run {
    header_at: usize,
    first: u64,
    count: u32,
}

impl Run {
    fn begin(&mut self, first: u64, out: &mut Vec<u8>) {
        self.header_at = out.len();
        self.first = first;
        out.extend_from_slice(&[0; BLOCK_HEADER_BYTES]);
    }

    fn finish(&mut self, origin: &BlockHeader, out: &mut [u8]) {
        if self.count == 0 {
            return;
        }
        let body = self.header_at + BLOCK_HEADER_BYTES;
        let header = BlockHeader {
            first_offset: Offset(self.first),
            timestamp: origin.timestamp,
            record_count: self.count,
            records_bytes: u32::try_from(out.len() - body).expect("at most the original block"),
        };
        out[self.header_at..body].copy_from_slice(&header.encode());
        self.count = 0;
    }
}

/// What a fetch found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Where to go on; equals the `from` asked for when nothing was read.
    pub next: Offset,
    /// One past the last visible record.
    pub end: Offset,
    /// Oldest record kept.
    pub first_available: Offset,
    /// Records written.
    pub records: u32,
}

/// What became of a fetch.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchResult {
    /// Something was read, or there is nothing to read.
    Done(Fetched),
    /// The place is in the log only and was asked for: try again after
    /// [`super::Partition::handle_read`]. Nothing was written.
    Cold,
    /// The record at this offset cannot be read: the log is damaged there.
    /// Nothing was written.
    Fenced {
        /// The offset.
        at: Offset,
    },
}

pub(crate) fn fetch(
    source: &mut Source<'_>,
    from: Offset,
    max_records: u32,
    max_bytes: u32,
    filter: Option<&dyn RecordFilter>,
    out: &mut Vec<u8>,
) -> FetchResult {
    let (first, end) = (source.first, source.end);
    let mut fetched = Fetched {
        next: from,
        end: Offset(end),
        first_available: Offset(first),
        records: 0,
    };
    if from.0 >= end || max_records == 0 {
        return FetchResult::Done(fetched);
    }
    let start = from.0.max(first);
    let mut next = start;
    let mut place = Place::NOWHERE;
    let mut bounds = Bounds {
        stop: end,
        records: u64::from(max_records),
        bytes: max_bytes as usize,
        first_exempt: true,
        scan: FETCH_SCAN_BYTES_MAX,
    };
    let mut records = 0;
    while next < end {
        let chunk = match source.locate(next, &mut place, false) {
            Found::Chunk { bytes, .. } => bytes,
            Found::Waiting if next == start => return FetchResult::Cold,
            Found::Lost if next == start => return FetchResult::Fenced { at: Offset(next) },
            // What is here is answered; the next fetch meets what is missing.
            Found::Waiting | Found::Lost | Found::Nothing => break,
        };
        if filter.is_none() {
            let (count, bytes) = whole_blocks(chunk, &place, &bounds);
            out.extend_from_slice(&chunk[place.block..place.block + bytes]);
            place.block += bytes;
            next += count;
            records += count;
            bounds.records -= count;
            bounds.bytes -= bytes;
            bounds.scan = bounds.scan.saturating_sub(bytes);
        }
        let base = out.len();
        bounds.first_exempt = records == 0;
        let copied = copy_matching(chunk, &mut place, &mut next, filter, &bounds, out);
        records += copied.records;
        bounds.records -= copied.records;
        bounds.bytes = bounds.bytes.saturating_sub(out.len() - base);
        bounds.scan = bounds.scan.saturating_sub(copied.scanned);
        if copied.bounded || bounds.scan == 0 {
            break;
        }
        place = place.after();
    }
    fetched.next = Offset(next);
    fetched.records = u32::try_from(records).expect("at most max_records");
    FetchResult::Done(fetched)
}

/// How many records and bytes of whole blocks fit from `place` on.
fn whole_blocks(chunk: &[u8], place: &Place, bounds: &Bounds) -> (u64, usize) {
    if place.record != 0 {
        return (0, 0);
    }
    let (mut records, mut bytes) = (0, 0);
    for (_, header) in blocks(&chunk[place.block..]) {
        let count = u64::from(header.record_count);
        if records + count > bounds.records
            || bytes + header.block_len() > bounds.bytes
            || bytes >= bounds.scan
            || header.first_offset.0 + count > bounds.stop
        {
            break;
        }
        records += count;
        bytes += header.block_len();
    }
    (records, bytes)
}
