//! Cold reads: what the ring no longer has is read back from the log.
//!
//! The partition does not read. It says what it lacks ([`Cold::poll`]) and is
//! told later what was there ([`Cold::accept`]). A few chunks are kept, shared
//! by readers that are near each other; a reader that finds its record in none
//! of them waits. Every answer, good or bad, wakes all who wait, and each asks
//! again for what it still lacks: answers may come late, out of order, or for
//! records trimmed meanwhile, without anyone being forgotten.

use core::time::Duration;
use std::collections::VecDeque;

use bytes::Bytes;
use pinion_types::block::BlockHeader;
use pinion_types::{Monotonic, Offset};

use super::ring::{COLD_CHUNK, Place};
use super::source::Found;

/// Bytes asked for at a place nobody was reading towards. Larger makes a
/// lonely fetch read more than it needs.
pub const COLD_READ_BYTES_FIRST: u32 = 64 << 10;
/// Bytes asked for by read-ahead. Larger makes a replay take fewer and longer
/// turns at the disk, and holds more memory.
pub const COLD_READ_BYTES: u32 = 256 << 10;
/// Reads of one partition under way at once: one being waited for and one
/// ahead, or two readers far apart. More lets one partition crowd out others.
pub const COLD_READS_MAX: usize = 2;
/// Chunks kept, read-ahead included; fewer makes readers at different places
/// read the same chunk again, more holds more memory.
pub const COLD_CHUNKS_MAX: usize = 4;
/// How long a chunk is kept that nobody reads.
pub const COLD_KEEP: Duration = Duration::from_secs(1);
/// Times a read is tried that the disk fails, before readers are told.
pub const COLD_TRIES: u8 = 3;
/// Places remembered to be asked for; readers beyond wait for an answer to any
/// and then ask again.
const WANTED_MAX: usize = 8;
/// Old chunks that transports may keep alive; beyond, deliveries are copied.
const PINNED_MAX: usize = 8;
/// Unreadable places remembered; beyond, the oldest is tried again.
const FAILURES_MAX: usize = 8;

/// A read wanted of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColdRead {
    /// The block with this record first.
    pub from: Offset,
    /// Bytes of blocks, at least one block whatever its size.
    pub max_bytes: u32,
}

/// What a read gave: whole blocks with dense offsets.
///
/// `bytes` should own a buffer of its own, as `Vec::into` makes it: only then
/// can it be seen when transports have let go of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamChunk {
    /// The blocks.
    pub bytes: Bytes,
    /// Offset of the first record; at most the one asked for.
    pub first: Offset,
    /// One past the last record.
    pub end: Offset,
}

/// Why a read gave nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ColdError {
    /// The records are gone, everything before `first` is.
    #[error("trimmed, the first record is {first}")]
    Trimmed {
        /// Oldest offset left.
        first: Offset,
    },
    /// The log is damaged there. Whoever needs these records is told so.
    #[error("the log is damaged there")]
    Damaged,
    /// The disk failed, as when a read gives nothing; it is tried [`COLD_TRIES`] times.
    #[error("the disk could not read")]
    Failed,
}

#[derive(Debug)]
struct Chunk {
    first: u64,
    end: u64,
    bytes: Bytes,
    /// Its number, with [`COLD_CHUNK`] set.
    serial: u64,
    /// Larger = used more recently.
    used: u64,
    /// Used since the last tick.
    lively: bool,
    /// The chunk after it was asked for.
    ahead: bool,
}

#[derive(Clone, Copy, Debug)]
struct Failure {
    at: u64,
    tries: u8,
    damaged: bool,
}

/// The cold chunks of one partition and what it waits for. Owned by the
/// partition's core. While nobody reads anything cold, which is nearly always,
/// it is two words.
#[derive(Debug)]
pub(crate) struct Cold {
    /// Number of the newest chunk; never used again, so that no reader takes
    /// its place in one chunk for a place in another.
    serial: u64,
    active: Option<Box<Active>>,
}

#[derive(Debug)]
struct Active {
    chunks: Vec<Chunk>,
    /// Chunks let go while transports still hold parts of them.
    pinned: Vec<Bytes>,
    in_flight: Vec<u64>,
    wanted: VecDeque<u64>,
    /// Read-ahead, when there is nothing more urgent.
    ahead: Option<u64>,
    failures: Vec<Failure>,
    /// Records in the last chunk: how far one read is taken to reach, so that
    /// readers near each other ask once. A wrong guess costs a second read.
    span: u64,
    clock: u64,
    /// When idle chunks are looked at.
    due: Option<Monotonic>,
}

impl Cold {
    pub(crate) const fn new() -> Self {
        Self {
            serial: COLD_CHUNK,
            active: None,
        }
    }

    /// Finds the chunk with `next` or asks for it. A reader that goes on up to
    /// `hot`, where the ring begins, has the chunk after it asked for, too.
    pub(crate) fn locate(&mut self, next: u64, place: &mut Place, hot: Option<u64>) -> Found<'_> {
        self.active
            .get_or_insert_with(|| Box::new(Active::new()))
            .locate(next, place, hot)
    }

    /// The next read to begin.
    pub(crate) fn poll(&mut self) -> Option<ColdRead> {
        self.active.as_mut()?.poll()
    }

    /// Takes the answer to a read, false when none was awaited. What lies
    /// before `floor` has been trimmed.
    pub(crate) fn accept(
        &mut self,
        now: Monotonic,
        from: u64,
        result: Result<StreamChunk, ColdError>,
        floor: u64,
    ) -> bool {
        let serial = &mut self.serial;
        self.active
            .as_mut()
            .is_some_and(|active| active.accept(now, from, result, floor, serial))
    }

    /// Everything before `first` has gone.
    pub(crate) fn drop_before(&mut self, first: u64) {
        if let Some(active) = &mut self.active {
            active.drop_before(first);
        }
        self.rest();
    }

    /// Lets all chunks go; who still needs one asks again.
    pub(crate) fn clear(&mut self) {
        if let Some(active) = &mut self.active {
            active.clear();
        }
        self.rest();
    }

    /// Lets go what nobody has read since the last time.
    pub(crate) fn handle_timeout(&mut self, now: Monotonic) {
        if let Some(active) = &mut self.active
            && active.due.is_some_and(|due| due <= now)
        {
            active.tick(now);
            self.rest();
        }
    }

    fn rest(&mut self) {
        self.active = self.active.take().filter(|active| !active.is_idle());
    }

    pub(crate) fn next_deadline(&self) -> Option<Monotonic> {
        self.active.as_ref()?.due
    }

    /// Bytes of the chunks and of those transports keep alive.
    pub(crate) fn memory(&self) -> u64 {
        self.active.as_ref().map_or(0, |active| active.memory())
    }
}

impl Active {
    const fn new() -> Self {
        Self {
            chunks: Vec::new(),
            pinned: Vec::new(),
            in_flight: Vec::new(),
            wanted: VecDeque::new(),
            ahead: None,
            failures: Vec::new(),
            span: 1,
            clock: 0,
            due: None,
        }
    }

    fn locate(&mut self, next: u64, place: &mut Place, hot: Option<u64>) -> Found<'_> {
        let Some(i) = self.position(next) else {
            *place = Place::NOWHERE;
            if self.is_lost(next) {
                return Found::Lost;
            }
            self.want(next);
            return Found::Waiting;
        };
        self.clock += 1;
        let chunk = &mut self.chunks[i];
        if place.chunk != chunk.serial {
            *place = Place::start_of(chunk.serial);
            place.find(&chunk.bytes, next);
        }
        chunk.used = self.clock;
        chunk.lively = true;
        if hot.is_some_and(|hot| chunk.end < hot) && !chunk.ahead {
            chunk.ahead = true;
            self.ahead = Some(chunk.end);
        }
        Found::Chunk {
            bytes: &self.chunks[i].bytes,
            copy: self.pinned.len() >= PINNED_MAX,
        }
    }

    fn position(&self, offset: u64) -> Option<usize> {
        self.chunks
            .iter()
            .position(|chunk| chunk.first <= offset && offset < chunk.end)
    }

    fn is_lost(&self, offset: u64) -> bool {
        self.failures
            .iter()
            .any(|f| f.at == offset && (f.damaged || f.tries >= COLD_TRIES))
    }

    fn want(&mut self, offset: u64) {
        let near = |from: &u64| *from <= offset && offset - *from < self.span;
        if self.in_flight.iter().any(near) || self.wanted.iter().any(near) {
            return;
        }
        // Full: an answer to one of those wakes this reader as well.
        if self.wanted.len() < WANTED_MAX {
            self.wanted.push_back(offset);
        }
    }

    fn poll(&mut self) -> Option<ColdRead> {
        if self.in_flight.len() >= COLD_READS_MAX {
            return None;
        }
        while let Some(from) = self.wanted.pop_front() {
            // One under way at the same place wakes its readers as well.
            if !self.in_flight.contains(&from) {
                // A reader that is through with a chunk before its read-ahead
                // began reads on all the same.
                let goes_on = self.chunks.iter().any(|chunk| chunk.end == from);
                let bytes = if goes_on {
                    COLD_READ_BYTES
                } else {
                    COLD_READ_BYTES_FIRST
                };
                return Some(self.begin(from, bytes));
            }
        }
        let from = self.ahead.take()?;
        if self.position(from).is_some() || self.in_flight.contains(&from) || self.is_lost(from) {
            return None;
        }
        Some(self.begin(from, COLD_READ_BYTES))
    }

    fn begin(&mut self, from: u64, max_bytes: u32) -> ColdRead {
        self.in_flight.push(from);
        ColdRead {
            from: Offset(from),
            max_bytes,
        }
    }

    fn accept(
        &mut self,
        now: Monotonic,
        from: u64,
        result: Result<StreamChunk, ColdError>,
        floor: u64,
        serial: &mut u64,
    ) -> bool {
        let Some(i) = self.in_flight.iter().position(|f| *f == from) else {
            return false;
        };
        self.in_flight.swap_remove(i);
        match result {
            Ok(chunk) if fits(&chunk, from) => {
                if chunk.end.0 > floor {
                    *serial += 1;
                    self.insert(chunk, *serial);
                }
            }
            // Trimmed meanwhile: nobody needs it any more.
            _ if from < floor => {}
            Ok(chunk) if chunk.bytes.is_empty() => self.fail(from, false),
            // Blocks that begin after what was asked for, or that are none:
            // the records are not where the index has them.
            Ok(_) | Err(ColdError::Damaged) => self.fail(from, true),
            Err(ColdError::Failed | ColdError::Trimmed { .. }) => self.fail(from, false),
        }
        if self.is_worth_a_tick() {
            self.due.get_or_insert(now + COLD_KEEP);
        }
        true
    }

    fn insert(&mut self, chunk: StreamChunk, serial: u64) {
        if self.chunks.len() >= COLD_CHUNKS_MAX {
            let oldest = (0..self.chunks.len()).min_by_key(|i| self.chunks[*i].used);
            let gone = self.chunks.swap_remove(oldest.expect("there are chunks"));
            self.retire(gone.bytes);
        }
        let (first, end) = (chunk.first.0, chunk.end.0);
        self.span = end - first;
        self.clock += 1;
        self.wanted.retain(|w| *w < first || *w >= end);
        self.failures.retain(|f| f.at < first || f.at >= end);
        self.chunks.push(Chunk {
            first,
            end,
            bytes: chunk.bytes,
            serial,
            used: self.clock,
            lively: true,
            ahead: false,
        });
    }

    fn retire(&mut self, bytes: Bytes) {
        self.pinned.retain(|bytes| !bytes.is_unique());
        if !bytes.is_unique() && self.pinned.len() < PINNED_MAX {
            self.pinned.push(bytes);
        }
    }

    fn fail(&mut self, at: u64, damaged: bool) {
        if let Some(failure) = self.failures.iter_mut().find(|f| f.at == at) {
            failure.tries = failure.tries.saturating_add(1);
            failure.damaged |= damaged;
            return;
        }
        if self.failures.len() >= FAILURES_MAX {
            self.failures.remove(0);
        }
        self.failures.push(Failure {
            at,
            tries: 1,
            damaged,
        });
    }

    fn drop_before(&mut self, first: u64) {
        self.wanted.retain(|wanted| *wanted >= first);
        self.ahead = self.ahead.filter(|ahead| *ahead >= first);
        self.failures.retain(|failure| failure.at >= first);
        while let Some(i) = self.chunks.iter().position(|chunk| chunk.end <= first) {
            let gone = self.chunks.swap_remove(i);
            self.retire(gone.bytes);
        }
    }

    fn clear(&mut self) {
        while let Some(chunk) = self.chunks.pop() {
            self.retire(chunk.bytes);
        }
    }

    fn is_worth_a_tick(&self) -> bool {
        !self.chunks.is_empty()
            || !self.pinned.is_empty()
            || self.failures.iter().any(|failure| !failure.damaged)
    }

    /// Nothing would be lost with it.
    fn is_idle(&self) -> bool {
        self.chunks.is_empty()
            && self.pinned.is_empty()
            && self.in_flight.is_empty()
            && self.wanted.is_empty()
            && self.failures.is_empty()
    }

    fn tick(&mut self, now: Monotonic) {
        while let Some(i) = self.chunks.iter().position(|chunk| !chunk.lively) {
            let gone = self.chunks.swap_remove(i);
            self.retire(gone.bytes);
        }
        for chunk in &mut self.chunks {
            chunk.lively = false;
        }
        self.pinned.retain(|bytes| !bytes.is_unique());
        // The disk may have recovered; damage stays.
        self.failures.retain(|failure| failure.damaged);
        self.due = self.is_worth_a_tick().then(|| now + COLD_KEEP);
    }

    fn memory(&self) -> u64 {
        let chunks = self.chunks.iter().map(|chunk| &chunk.bytes);
        chunks.chain(&self.pinned).map(|b| b.len() as u64).sum()
    }
}

/// Whether the blocks are what the chunk says and hold the record at `from`.
/// The log has checked their checksums; this checks that they are the ones
/// that were asked for.
fn fits(chunk: &StreamChunk, from: u64) -> bool {
    let (first, end) = (chunk.first.0, chunk.end.0);
    if from < first || end <= from {
        return false;
    }
    let (mut rest, mut next) = (&chunk.bytes[..], first);
    while !rest.is_empty() {
        match BlockHeader::split(rest) {
            Ok((header, _, after)) if header.first_offset.0 == next && header.record_count > 0 => {
                next += u64::from(header.record_count);
                rest = after;
            }
            _ => return false,
        }
    }
    next == end
}
