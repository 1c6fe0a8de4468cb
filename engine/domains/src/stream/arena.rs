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
/// A block longer than `segment / DEDICATED_SHARE` gets an allocation of its
/// own, so that a segment's unused tail stays below that share.
const DEDICATED_SHARE: usize = 8;
/// Segments that readers alone may keep alive in the smallest ring.
const PINNED_SEGMENTS_MIN: usize = 4;

#[derive(Debug)]
struct Retired {
    serial: u64,
    handle: BytesMut,
}

/// The segments of one partition. Owned by the partition's core.
#[derive(Debug)]
pub(crate) struct Arena {
    current: BytesMut,
    serial: u64,
    /// Filled segments, oldest first; those before the ring's oldest are free
    /// or pinned by readers.
    retired: VecDeque<Retired>,
    segment_bytes: usize,
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
            serial: 0,
            retired: VecDeque::new(),
            segment_bytes,
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

    /// Moves on to another segment. `oldest` is the segment of the ring's
    /// oldest chunk: only segments before it can be free.
    pub(crate) fn rotate(&mut self, oldest: u64) {
        assert!(self.current.is_empty(), "cut before rotating");
        let full = core::mem::take(&mut self.current);
        if self.serial > 0 {
            self.retired.push_back(Retired {
                serial: self.serial,
                handle: full,
            });
        }
        self.serial += 1;
        self.current = self.take_free(oldest).unwrap_or_else(|| {
            // Amortised: only while the ring grows or readers pin old segments.
            BytesMut::with_capacity(self.segment_bytes)
        });
    }

    /// Takes one free segment, keeps one more in reserve, lets the rest go,
    /// and counts the pinned ones.
    fn take_free(&mut self, oldest: u64) -> Option<BytesMut> {
        let mut taken = None;
        self.sweep(oldest);
        for i in 0..self.retired.len() {
            if self.retired[i].serial >= oldest {
                break;
            }
            // A swept segment that is free has its whole capacity back.
            if self.retired[i].handle.capacity() >= self.segment_bytes {
                taken = self.retired.remove(i).map(|r| r.handle);
                break;
            }
        }
        taken
    }

    /// Reclaims what nobody holds any more and counts what readers pin.
    pub(crate) fn sweep(&mut self, oldest: u64) {
        /// The one to take next and one in reserve.
        const FREE_SEGMENTS_MAX: usize = 2;
        let segment_bytes = self.segment_bytes;
        let (mut free, mut pinned) = (0, 0);
        self.retired.retain_mut(|retired| {
            if retired.serial >= oldest {
                return true;
            }
            if retired.handle.try_reclaim(segment_bytes) {
                free += 1;
                return free <= FREE_SEGMENTS_MAX;
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
        let current = usize::from(self.serial > 0);
        ((self.retired.len() + current) * self.segment_bytes) as u64
    }

    /// The most [`Arena::memory`] can be for a ring of `ring_bytes`.
    #[cfg(test)]
    pub(crate) fn memory_max(&self, ring_bytes: u64) -> u64 {
        let filled = self.segment_bytes - self.segment_bytes / DEDICATED_SHARE;
        let ring = usize::try_from(ring_bytes).expect("a test ring") / filled + 2;
        // The ring; what readers may pin; what of the ring they had pinned
        // when the pressure was seen; two free, one current.
        ((2 * ring + self.pinned_max + 3) * self.segment_bytes) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(arena: &mut Arena) -> Bytes {
        arena.rotate(arena.serial() + 1);
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
        arena.rotate(arena.serial() + 1);
        assert!(arena.under_pressure(), "20 segments are held");
        drop(held);
        arena.sweep(arena.serial());
        assert!(!arena.under_pressure());
        assert!(arena.memory() <= 3 * arena.segment_bytes as u64);
    }
}
