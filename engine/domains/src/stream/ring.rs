//! The ring: the newest blocks of a partition, in chunks that are shared with
//! every reader and evicted whole, oldest first.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use pinion_types::block::{self, BlockHeader};
use pinion_types::{Monotonic, WallMs};

use super::arena::{Arena, FREE_SEGMENTS_MAX};

/// What a chunk costs beside its bytes: its entry, twice, because the deque
/// that holds it doubles when it grows.
pub(crate) const CHUNK_OVERHEAD_BYTES: usize = 2 * size_of::<Chunk>();

/// Whole blocks with dense offsets in one piece of memory.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) first: u64,
    /// One past the last record.
    pub(crate) end: u64,
    last_timestamp: WallMs,
    /// When its last block was appended.
    last_at: Monotonic,
    segment: u64,
    dedicated: bool,
    pub(crate) bytes: Bytes,
}

impl Chunk {
    fn cost(&self) -> u64 {
        (self.bytes.len() + CHUNK_OVERHEAD_BYTES) as u64
    }
}

/// Where a reader goes on: a chunk by number, and byte positions inside it.
/// Stays meaningful when the chunk does not exist yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Number of the chunk, counted from 0 over the partition's life.
    pub(crate) chunk: u64,
    /// Start of the current block.
    pub(crate) block: usize,
    /// Start of the next record inside the block; 0 at the block's start.
    pub(crate) record: usize,
}

/// Set in the number of a chunk read back from the log, so that it is none of
/// the ring's.
pub(crate) const COLD_CHUNK: u64 = 1 << 63;

impl Place {
    /// Not looked for yet.
    pub(crate) const NOWHERE: Self = Self::start_of(COLD_CHUNK);

    pub(crate) const fn start_of(chunk: u64) -> Self {
        Self {
            chunk,
            block: 0,
            record: 0,
        }
    }

    /// Where to go on after the last block of its chunk.
    pub(crate) const fn after(self) -> Self {
        if self.chunk & COLD_CHUNK == 0 {
            Self::start_of(self.chunk + 1)
        } else {
            Self::NOWHERE
        }
    }

    /// Moves to `offset` inside its chunk, which has it.
    pub(crate) fn find(&mut self, chunk: &[u8], offset: u64) {
        for (at, header) in blocks(chunk) {
            let first = header.first_offset.0;
            if offset < first + u64::from(header.record_count) {
                self.block = at;
                if offset > first {
                    self.record = record_at(chunk, at, offset - first);
                }
                return;
            }
        }
        unreachable!("the chunk has {offset}");
    }
}

/// What must go before a block fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Eviction {
    chunks: usize,
    open: bool,
    /// First offset that would remain.
    pub(crate) first: u64,
}

impl Eviction {
    pub(crate) const fn is_empty(&self) -> bool {
        self.chunks == 0 && !self.open
    }
}

/// Blocks not yet closed into a chunk: what this turn appended.
#[derive(Clone, Copy, Debug)]
struct Open {
    first: u64,
    last_timestamp: WallMs,
    last_at: Monotonic,
}

/// The blocks of one partition. Owned by the partition's core.
#[derive(Debug)]
pub(crate) struct Ring {
    arena: Arena,
    chunks: VecDeque<Chunk>,
    /// Number of `chunks.front()`.
    front: u64,
    open: Option<Open>,
    /// One past the last record appended.
    end: u64,
    last_timestamp: WallMs,
    /// Cost of the closed chunks.
    cost: u64,
    dedicated_bytes: u64,
    bytes_max: u64,
    records_max: u64,
}

impl Ring {
    pub(crate) fn new(bytes_max: u64, records_max: u32) -> Self {
        Self {
            arena: Arena::new(bytes_max),
            chunks: VecDeque::new(),
            front: 0,
            open: None,
            end: 0,
            last_timestamp: WallMs(0),
            cost: 0,
            dedicated_bytes: 0,
            bytes_max,
            records_max: u64::from(records_max),
        }
    }

    /// An empty ring whose next record gets `end`, after a restart.
    pub(crate) fn resume(&mut self, end: u64, last_timestamp: WallMs) {
        assert!(
            self.chunks.is_empty() && self.open.is_none(),
            "resumed empty"
        );
        self.end = end;
        self.last_timestamp = last_timestamp;
    }

    /// Timestamp of the newest block, also of one long gone.
    pub(crate) const fn last_timestamp(&self) -> WallMs {
        self.last_timestamp
    }

    /// Oldest offset kept; the end when nothing is.
    pub(crate) fn first(&self) -> u64 {
        match (self.chunks.front(), self.open) {
            (Some(chunk), _) => chunk.first,
            (None, Some(open)) => open.first,
            (None, None) => self.end,
        }
    }

    /// One past the last record readers may see.
    pub(crate) fn visible_end(&self) -> u64 {
        self.open.map_or(self.end, |open| open.first)
    }

    /// One past the last record appended.
    pub(crate) const fn end(&self) -> u64 {
        self.end
    }

    pub(crate) fn chunk(&self, number: u64) -> Option<&Chunk> {
        let index = usize::try_from(number.checked_sub(self.front)?).ok()?;
        self.chunks.get(index)
    }

    /// Number of the oldest chunk, or of the next one.
    pub(crate) const fn front(&self) -> u64 {
        self.front
    }

    /// Whether `place` is one of the ring's, or the one after its last chunk.
    pub(crate) const fn holds(&self, place: Place) -> bool {
        place.chunk >= self.front && place.chunk & COLD_CHUNK == 0
    }

    /// The bytes from `place` to the end of its chunk, or of what is open.
    pub(crate) fn bytes_at(&self, place: Place) -> &[u8] {
        match self.chunk(place.chunk) {
            Some(chunk) => &chunk.bytes[place.block..],
            None => &self.arena.open()[place.block..],
        }
    }

    /// Accounted bytes: blocks and what keeping their chunks costs.
    pub(crate) fn bytes(&self) -> u64 {
        self.cost + self.open_cost()
    }

    fn open_cost(&self) -> u64 {
        match self.open {
            Some(_) => (self.arena.open_len() + CHUNK_OVERHEAD_BYTES) as u64,
            None => 0,
        }
    }

    /// What has to be evicted so that one more block of `len` bytes and
    /// `records` records fits. A block larger than the ring evicts all and is
    /// then kept alone. Nothing at or after `upto` goes.
    pub(crate) fn eviction_for(&self, len: usize, records: u64, upto: u64) -> Eviction {
        let mut first = self.first();
        let mut cost = self.bytes() + (len + CHUNK_OVERHEAD_BYTES) as u64;
        let mut chunks = 0;
        let over = |cost: u64, first: u64| {
            cost > self.bytes_max || self.end + records - first > self.records_max
        };
        for chunk in &self.chunks {
            if !over(cost, first) || chunk.end > upto {
                break;
            }
            cost -= chunk.cost();
            first = chunk.end;
            chunks += 1;
        }
        let open = self.open.is_some() && self.end <= upto && over(cost, first);
        if open {
            first = self.end;
        }
        Eviction {
            chunks,
            open,
            first,
        }
    }

    /// Carries out what [`Ring::eviction_for`] named.
    pub(crate) fn evict(&mut self, eviction: Eviction) {
        if eviction.open {
            self.close();
        }
        for _ in 0..eviction.chunks + usize::from(eviction.open) {
            self.evict_front();
        }
    }

    fn evict_front(&mut self) {
        let Some(chunk) = self.chunks.pop_front() else {
            return;
        };
        self.front += 1;
        self.cost -= chunk.cost();
        if chunk.dedicated {
            self.dedicated_bytes -= chunk.bytes.len() as u64;
        }
    }

    /// Evicts chunks until at most `bytes_max` are left, none that ends after
    /// `upto`. An empty ring gives its memory back.
    pub(crate) fn shrink(&mut self, bytes_max: u64, upto: u64) {
        while let Some(chunk) = self.chunks.front()
            && chunk.end <= upto
            && self.bytes() > bytes_max
        {
            self.evict_front();
        }
        if self.chunks.is_empty() && self.open.is_none() {
            self.arena.release();
            self.chunks.shrink_to_fit();
        } else {
            self.sweep();
        }
    }

    /// Evicts the chunks that end at or before `first`.
    pub(crate) fn drop_before(&mut self, first: u64) {
        while let Some(chunk) = self.chunks.front()
            && chunk.end <= first
        {
            self.evict_front();
        }
        self.sweep();
    }

    /// Evicts the chunks whose youngest record is at least `age_ms` old.
    /// True when any went.
    pub(crate) fn expire(&mut self, now: Monotonic, age_ms: u64) -> bool {
        let before = self.front;
        while let Some(chunk) = self.chunks.front()
            && expiry(chunk, age_ms) <= now
        {
            self.evict_front();
        }
        if self.front == before {
            return false;
        }
        self.sweep();
        true
    }

    /// When [`Ring::expire`] next has something to do.
    pub(crate) fn next_expiry(&self, age_ms: u64) -> Option<Monotonic> {
        self.chunks.front().map(|chunk| expiry(chunk, age_ms))
    }

    /// Copies one block in. The caller has made room.
    pub(crate) fn push(&mut self, now: Monotonic, wall: WallMs, count: u32, records: &[u8]) {
        let header = BlockHeader {
            first_offset: pinion_types::Offset(self.end),
            // Time never goes back within a partition, so that a search by
            // time may be a binary search.
            timestamp: wall.max(self.last_timestamp),
            record_count: count,
            records_bytes: u32::try_from(records.len()).expect("a batch fits a frame"),
        };
        let len = header.block_len();
        let dedicated = self.arena.dedicates(len);
        if dedicated || self.arena.open_len() + len > self.arena.chunk_bytes_max() {
            self.close();
        }
        self.last_timestamp = header.timestamp;
        let first = self.end;
        self.end += u64::from(count);
        if dedicated {
            // One allocation per large block: the copy costs more than it does.
            let mut bytes = BytesMut::with_capacity(len);
            bytes.extend_from_slice(&header.encode());
            bytes.extend_from_slice(records);
            self.dedicated_bytes += len as u64;
            self.push_chunk(Chunk {
                first,
                end: self.end,
                last_timestamp: header.timestamp,
                last_at: now,
                segment: self.arena.serial(),
                dedicated,
                bytes: bytes.freeze(),
            });
            return;
        }
        if !self.arena.fits(len) {
            self.close_before(first);
            let oldest = self.oldest_segment();
            self.arena.rotate(oldest, len);
        }
        self.arena.write(&header.encode());
        self.arena.write(records);
        let open = self.open.get_or_insert(Open {
            first,
            last_timestamp: header.timestamp,
            last_at: now,
        });
        open.last_timestamp = header.timestamp;
        open.last_at = now;
    }

    /// Closes what is open into a chunk, which makes it visible. True when
    /// there was anything.
    pub(crate) fn close(&mut self) -> bool {
        self.close_before(self.end)
    }

    fn close_before(&mut self, end: u64) -> bool {
        let Some(open) = self.open.take() else {
            return false;
        };
        let chunk = Chunk {
            first: open.first,
            end,
            last_timestamp: open.last_timestamp,
            last_at: open.last_at,
            segment: self.arena.serial(),
            dedicated: false,
            bytes: self.arena.cut(),
        };
        self.push_chunk(chunk);
        if self.arena.under_pressure() {
            self.sweep();
        }
        true
    }

    fn push_chunk(&mut self, chunk: Chunk) {
        assert!(
            chunk.first < chunk.end && self.chunks.back().is_none_or(|b| b.end == chunk.first),
            "chunks are dense: {}..{}",
            chunk.first,
            chunk.end
        );
        self.cost += chunk.cost();
        self.chunks.push_back(chunk);
    }

    fn oldest_segment(&self) -> u64 {
        // A dedicated chunk names the segment current at its time, which is
        // never newer than that of the chunk after it.
        self.chunks
            .front()
            .map_or(self.arena.serial() + 1, |chunk| chunk.segment)
    }

    fn sweep(&mut self) {
        // The current segment is not among the retired; serial + 1 in an empty
        // ring frees every retired one.
        let oldest = self.oldest_segment();
        self.arena.sweep(oldest, FREE_SEGMENTS_MAX);
    }

    /// Whether deliveries must be copied so that readers pin no more segments.
    pub(crate) const fn under_pressure(&self) -> bool {
        self.arena.under_pressure()
    }

    /// Where to read `offset`, which lies in `first..=visible_end`.
    pub(crate) fn seek(&self, offset: u64) -> Place {
        assert!(
            self.first() <= offset && offset <= self.visible_end(),
            "seek inside the ring: {offset} in {}..={}",
            self.first(),
            self.visible_end()
        );
        let index = self.chunks.partition_point(|chunk| chunk.end <= offset);
        let mut place = Place::start_of(self.front + index as u64);
        if let Some(chunk) = self.chunks.get(index) {
            place.find(&chunk.bytes, offset);
        }
        place
    }

    /// First visible offset whose block was taken at `time` or later; the
    /// visible end when there is none.
    pub(crate) fn seek_time(&self, time: WallMs) -> u64 {
        let index = self
            .chunks
            .partition_point(|chunk| chunk.last_timestamp < time);
        self.chunks
            .get(index)
            .and_then(|chunk| blocks(&chunk.bytes).find(|(_, header)| header.timestamp >= time))
            .map_or(self.visible_end(), |(_, header)| header.first_offset.0)
    }

    /// Heap the ring keeps alive for blocks: all segments, whole, and large
    /// blocks with an allocation of their own.
    pub(crate) fn memory(&self) -> u64 {
        self.arena.memory() + self.dedicated_bytes
    }

    #[cfg(test)]
    pub(crate) fn memory_max(&self) -> u64 {
        self.arena.memory_max(self.bytes_max) + self.bytes_max
    }
}

fn expiry(chunk: &Chunk, age_ms: u64) -> Monotonic {
    chunk.last_at + core::time::Duration::from_millis(age_ms)
}

/// The blocks of a chunk with their positions.
pub(crate) fn blocks(chunk: &[u8]) -> impl Iterator<Item = (usize, BlockHeader)> + '_ {
    let mut at = 0;
    core::iter::from_fn(move || {
        if at == chunk.len() {
            return None;
        }
        let start = at;
        let header = header_at(chunk, start);
        at += header.block_len();
        Some((start, header))
    })
}

/// The header of the block at `at`.
pub(crate) fn header_at(chunk: &[u8], at: usize) -> BlockHeader {
    let (header, _, _) = BlockHeader::split(&chunk[at..]).expect("the ring holds whole blocks");
    header
}

fn record_at(chunk: &[u8], block: usize, index: u64) -> usize {
    let start = block + block::BLOCK_HEADER_BYTES;
    let skip = usize::try_from(index).expect("a block has at most u32 records");
    let skipped: usize = block::records(&chunk[start..])
        .take(skip)
        .map(|record| {
            record
                .expect("records are checked when appended")
                .encoded_len()
        })
        .sum();
    start + skipped
}
