//! Where a reader finds its next record: in the ring, in a chunk read back
//! from the log, or nowhere in memory yet.
//!
//! The cursor's offset decides, never a remembered place: what the ring has is
//! read there, what is older is read from a cold chunk. A cold chunk may reach
//! into what the ring has, and the ring may let go what a reader was about to
//! read; either way the next lookup is by offset again, so that the seam has
//! no gap and no repeat.

use bytes::Bytes;
use pinion_types::WallMs;

use super::Ring;
use super::cold::Cold;
use super::ring::Place;

/// What readers of one partition may see at this moment.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    pub(crate) ring: &'a Ring,
    /// Oldest offset to be read, in memory or in the log.
    pub(crate) first: u64,
    /// One past the last visible record.
    pub(crate) end: u64,
    /// Of a durable partition.
    pub(crate) cold: Option<&'a mut Cold>,
}

/// What a lookup found.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    /// A chunk with the record; the place says where in it.
    Chunk {
        /// The chunk, which may reach past the visible end.
        bytes: &'a Bytes,
        /// Readers pin too much already: hand out copies.
        copy: bool,
    },
    /// Nothing is there yet.
    Nothing,
    /// It has been asked of the log.
    Waiting,
    /// The log cannot give it.
    Lost,
}

impl Source<'_> {
    /// Finds the record at `next`, which lies in `first..=end`, and moves
    /// `place` there. `place` must be where the same reader stopped, or
    /// [`Place::NOWHERE`]. With `ahead` the chunk after a cold one is asked
    /// for as well, because the reader goes on.
    pub(crate) fn locate(&mut self, next: u64, place: &mut Place, ahead: bool) -> Found<'_> {
        if next >= self.ring.first() {
            if !self.ring.holds(*place) {
                *place = self.ring.seek(next);
            }
            return match self.ring.chunk(place.chunk) {
                Some(chunk) => Found::Chunk {
                    bytes: &chunk.bytes,
                    copy: self.ring.under_pressure(),
                },
                None => Found::Nothing,
            };
        }
        let hot = self.ring.first();
        let cold = self
            .cold
            .as_mut()
            .expect("without a log nothing older than the ring is readable");
        cold.locate(next, place, ahead.then_some(hot))
    }

    /// Where a reader from `time` on begins, and the time below which blocks
    /// are to be passed over from there on; `WallMs(0)` when none are.
    pub(crate) fn seek_time(&self, time: WallMs, hint: u64) -> (u64, WallMs) {
        let hot = self.ring.first();
        let found = self.ring.seek_time(time);
        let is_older = if found == self.ring.visible_end() {
            // Nothing in the ring is of that time or later; when it is empty,
            // what it let go may be.
            hot == found && self.ring.last_timestamp() >= time
        } else {
            found == hot
        };
        if is_older && hot > self.first {
            return (hint.clamp(self.first, hot.min(self.end)), time);
        }
        (found.clamp(self.first, self.end), WallMs(0))
    }
}
