//! The time that a leader stamps on commands.
//!
//! Stamps never go back: what was created later has the later time, whatever
//! people do to the clock, and whoever led before.

use pinion_types::WallMs;

use crate::limits::CLOCK_BEHIND_MS;

/// The wall clock as of this turn, and the last stamp given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    wall: WallMs,
    last: WallMs,
    /// Stamps are ahead of the wall clock, and people were told.
    told: bool,
}

impl Clock {
    pub(crate) fn new(wall: WallMs) -> Self {
        Self {
            wall,
            last: WallMs(0),
            told: false,
        }
    }

    /// A turn begins.
    pub(crate) fn set(&mut self, wall: WallMs) {
        self.wall = wall;
    }

    pub(crate) fn wall(&self) -> WallMs {
        self.wall
    }

    /// What a stamp would be now. `applied` is the latest in the metadata: another
    /// leader's, perhaps, whose clock was ahead.
    pub(crate) fn peek(&self, applied: WallMs) -> WallMs {
        self.wall.max(self.last).max(applied)
    }

    /// The next stamp, and by how many milliseconds it is ahead of the wall clock if
    /// people are to be told: once each time that it happens.
    pub(crate) fn stamp(&mut self, applied: WallMs) -> (WallMs, Option<u64>) {
        let stamp = self.peek(applied);
        self.last = stamp;
        let by = stamp.0 - self.wall.0;
        let ahead = by >= CLOCK_BEHIND_MS;
        let news = ahead && !self.told;
        self.told = ahead;
        (stamp, news.then_some(by))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_never_go_back_and_people_hear_of_it_once() {
        let mut clock = Clock::new(WallMs(10_000));
        assert_eq!(clock.stamp(WallMs(0)), (WallMs(10_000), None));
        clock.set(WallMs(9_500));
        assert_eq!(clock.stamp(WallMs(0)), (WallMs(10_000), None), "a little");
        clock.set(WallMs(7_000));
        assert_eq!(clock.stamp(WallMs(0)), (WallMs(10_000), Some(3_000)));
        assert_eq!(clock.stamp(WallMs(0)), (WallMs(10_000), None), "told");
        // Another leader's clock was ahead of both.
        assert_eq!(clock.stamp(WallMs(20_000)), (WallMs(20_000), None));
        clock.set(WallMs(30_000));
        assert_eq!(clock.stamp(WallMs(0)), (WallMs(30_000), None));
        clock.set(WallMs(28_000));
        assert_eq!(
            clock.stamp(WallMs(0)),
            (WallMs(30_000), Some(2_000)),
            "anew"
        );
    }
}
