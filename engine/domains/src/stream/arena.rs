//! Where block bytes live: segments filled from front to back and reused.
//!
//! A segment is one allocation. Chunks are cut from it as [`Bytes`] that share
//! it, so its memory is free again only when the last of them is dropped. The
//! arena keeps a handle on every segment it has filled; a segment whose handle
//! is the only one left is taken again instead of allocating.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Largest segment. Larger ones make one late reader pin more memory, smaller
/// ones allocate and waste tails more often.
pub(crate) const SEGMENT_BYTES_MAX: usize = 256 << 10;
/// Smallest segment, for rings of a few KiB.
pub(crate) const SEGMENT_BYTES_MIN: usize = 4 << 10;
/// First segment of an empty arena; each further one is twice as large, up to
/// the largest. Larger makes the first record of each of many idle partitions
/// cost more, smaller makes a busy one allocate a few times more at its start.
const SEGMENT_BYTES_FIRST: usize = 512;
/// A block longer than `segment / DEDICATED_SHARE` gets an allocation of its
/// own, so that a segment's unused tail stays below that share.
const DEDICATED_SHARE: usize = 8;
/// Free segments kept: the one to take next and one in reserve.
pub(crate) const FREE_SEGMENTS_MAX: usize = 2;
/// Segments that readers alone may keep alive in the smallest ring.
const PINNED_SEGMENTS_MIN: usize = 4;

#[derive(Debug)]
struct Retired {
    serial: u64,
    handle: BytesMut,
    /// Its whole capacity.
    bytes: usize,
}

/// The segments of one partition. Owned by the partition's core.
#[derive(Debug)]
pub(crate) struct Arena {
    current: BytesMut,
    /// Whole capacity of `current`; 0 = there is none.
    current_bytes: usize,
    serial: u64,
    /// Filled segments, oldest first; those before the ring's oldest are free
    /// or pinned by readers.
    retired: VecDeque<Retired>,
    /// The largest segment.
    segment_bytes: usize,
    /// The next one.
    next_bytes: usize,
    pinned: usize,
    pinned_max: usize,
}

impl Arena {
    pub(crate) fn new(ring_bytes: u64) -> Self {
        let ring = usize::try_from(ring_bytes).unwrap_or(usize::MAX);
        let segment_bytes = (ring / 8)
            .clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX)
            .next_power_of_two();
        Self {
            current: BytesMut::new(),
            current_bytes: 0,
            serial: 0,
            retired: VecDeque::new(),
            segment_bytes,
            next_bytes: SEGMENT_BYTES_FIRST,
            pinned: 0,
            pinned_max: (ring / segment_bytes / 2).max(PINNED_SEGMENTS_MIN),
        }
    }

    /// Number of the segment now being filled.
    pub(crate) const fn serial(&self) -> u64 {
        self.serial
    }

    /// Longest chunk; a quarter of a segment keeps eviction fine-grained.
    pub(crate) const fn chunk_bytes_max(&self) -> usize {
        self.segment_bytes / 4
    }

    /// Whether a block of `len` bytes gets an allocation of its own.
    pub(crate) const fn dedicates(&self, len: usize) -> bool {
        len > self.segment_bytes / DEDICATED_SHARE
    }

    /// Bytes written since the last [`Arena::cut`].
    pub(crate) fn open_len(&self) -> usize {
        self.current.len()
    }

    /// Those bytes.
    pub(crate) fn open(&self) -> &[u8] {
        &self.current
    }

    /// Whether `len` more bytes fit the current segment.
    pub(crate) fn fits(&self, len: usize) -> bool {
        self.current.capacity() - self.current.len() >= len
    }

    /// Appends to the open bytes; the caller has seen that they fit.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        assert!(self.fits(bytes.len()), "a segment never grows in place");
        self.current.extend_from_slice(bytes);
    }

    /// What was written since the last cut, shared from now on.
    pub(crate) fn cut(&mut self) -> Bytes {
        self.current.split().freeze()
    }

    /// Moves on to another segment, with room for `len` bytes. `oldest` is the
    /// segment of the ring's oldest chunk: only segments before it can be free.
    pub(crate) fn rotate(&mut self, oldest: u64, len: usize) {
        self.retire();
        self.serial += 1;
        let bytes = self.next_bytes.max(len.next_power_of_two());
        self.next_bytes = (2 * bytes).min(self.segment_bytes);
        self.sweep(oldest, FREE_SEGMENTS_MAX);
        (self.current, self.current_bytes) = self.take_free(oldest, bytes).unwrap_or_else(|| {
            // Amortised: only while the ring grows or readers pin old segments.
            (BytesMut::with_capacity(bytes), bytes)
        });
    }

    fn retire(&mut self) {
        assert!(self.current.is_empty(), "cut before rotating");
        let handle = core::mem::take(&mut self.current);
        let bytes = core::mem::take(&mut self.current_bytes);
        if bytes > 0 {
            self.retired.push_back(Retired {
                serial: self.serial,
                handle,
                bytes,
            });
        }
    }

    fn take_free(&mut self, oldest: u64, bytes: usize) -> Option<(BytesMut, usize)> {
        // A swept segment that is free has its whole capacity back.
        let free = self
            .retired
            .iter()
            .take_while(|retired| retired.serial < oldest)
            .position(|retired| {
                retired.bytes >= bytes && retired.handle.capacity() >= retired.bytes
            })?;
        self.retired.remove(free).map(|r| (r.handle, r.bytes))
    }

    /// Lets every segment go that no reader pins, and begins small again. The
    /// ring must be empty.
    pub(crate) fn release(&mut self) {
        self.retire();
        self.sweep(self.serial + 1, 0);
        self.retired.shrink_to_fit();
        self.next_bytes = SEGMENT_BYTES_FIRST;
    }

    /// Reclaims what nobody holds any more, keeps at most `free_max` of it and
    /// counts what readers pin.
    pub(crate) fn sweep(&mut self, oldest: u64, free_max: usize) {
        let (mut free, mut pinned) = (0, 0);
        let outgrown = self.next_bytes;
        self.retired.retain_mut(|retired| {
            if retired.serial >= oldest {
                return true;
            }
            if retired.handle.try_reclaim(retired.bytes) {
                // One that was outgrown is not taken again.
                let keep = retired.bytes >= outgrown && free < free_max;
                free += usize::from(keep);
                return keep;
            }
            pinned += 1;
            true
        });
        self.pinned = pinned;
    }

    /// Whether readers already pin as many old segments as they may; then
    /// deliveries are copied instead of shared. As of the last sweep.
    pub(crate) const fn under_pressure(&self) -> bool {
        self.pinned > self.pinned_max
    }

    /// Bytes of all segments alive, free and pinned ones included.
    pub(crate) fn memory(&self) -> u64 {
        let retired: usize = self.retired.iter().map(|retired| retired.bytes).sum();
        (retired + self.current_bytes) as u64
    }

    /// The most [`Arena::memory`] can be for a ring of `ring_bytes`.
    #[cfg(test)]
    pub(crate) fn memory_max(&self, ring_bytes: u64) -> u64 {
        let filled = self.segment_bytes - self.segment_bytes / DEDICATED_SHARE;
        let ring = usize::try_from(ring_bytes).expect("a test ring") / filled + 2;
        // The ring; what readers may pin; what of the ring they had pinned
        // when the pressure was seen; two free, one current; those it grew
        // through, together smaller than one more.
        ((2 * ring + self.pinned_max + 4) * self.segment_bytes) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(arena: &mut Arena) -> Bytes {
        arena.rotate(arena.serial() + 1, 100);
        arena.write(&[7; 100]);
        arena.cut()
    }

    #[test]
    fn a_dropped_segment_is_used_again() {
        let mut arena = Arena::new(64 << 10);
        for _ in 0..1000 {
            drop(fill(&mut arena));
        }
        assert!(arena.memory() <= 3 * arena.segment_bytes as u64);
        assert!(!arena.under_pressure());
    }

    #[test]
    fn pinned_segments_are_counted_and_then_freed() {
        let mut arena = Arena::new(64 << 10);
        let held: Vec<Bytes> = (0..20).map(|_| fill(&mut arena)).collect();
        arena.rotate(arena.serial() + 1, 100);
        assert!(arena.under_pressure(), "20 segments are held");
        drop(held);
        arena.sweep(arena.serial(), FREE_SEGMENTS_MAX);
        assert!(!arena.under_pressure());
        assert!(arena.memory() <= 3 * arena.segment_bytes as u64);
    }

    #[test]
    fn it_begins_small_grows_and_can_begin_again() {
        let mut arena = Arena::new(16 << 20);
        drop(fill(&mut arena));
        assert_eq!(arena.memory(), SEGMENT_BYTES_FIRST as u64);
        for _ in 0..20 {
            drop(fill(&mut arena));
        }
        assert_eq!(arena.current_bytes, arena.segment_bytes);
        arena.release();
        assert_eq!(arena.memory(), 0);
        let held = fill(&mut arena);
        arena.release();
        assert_eq!(arena.memory(), SEGMENT_BYTES_FIRST as u64, "still pinned");
        drop(held);
        arena.release();
        assert_eq!(arena.memory(), 0);
    }

    #[test]
    fn a_block_larger_than_the_next_step_gets_room() {
        let mut arena = Arena::new(16 << 20);
        arena.rotate(1, 20_000);
        assert!(arena.fits(20_000) && arena.memory() < 64 << 10);
    }
}
