//! The time that a leader stamps on commands.
//!
//! Stamps never go back: what was created later has the later time, whatever
//! people do to the clock, and whoever led before.

use pinion_types::{Monotonic, WallMs};

use crate::limits::{CLOCK_BEHIND_MS, CLOCK_DOUBT, CLOCK_JUMP_MS};

/// The wall clock as of this turn, and the last stamp given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    wall: WallMs,
    /// The monotonic clock at that turn.
    at: Monotonic,
    /// The wall clock was set forward, and is not believed before.
    doubted_until: Monotonic,
    last: WallMs,
    /// Stamps are ahead of the wall clock, and people were told.
    told: bool,
}

impl Clock {
    pub(crate) fn new(wall: WallMs) -> Self {
        Self {
            wall,
            at: Monotonic::ZERO,
            doubted_until: Monotonic::ZERO,
            last: WallMs(0),
            told: false,
        }
    }

    /// A turn begins. Between two of them a wall clock goes as far as the monotonic one, but
    /// for what it is slewed, unless somebody sets it.
    pub(crate) fn set(&mut self, now: Monotonic, wall: WallMs) {
        let passed = u64::try_from(now.since(self.at).as_millis()).unwrap_or(u64::MAX);
        let most = passed.saturating_add(passed / 16 + CLOCK_JUMP_MS);
        if self.at > Monotonic::ZERO && wall.0.saturating_sub(self.wall.0) > most {
            self.doubted_until = now + CLOCK_DOUBT;
        }
        (self.at, self.wall) = (now, wall);
    }

    /// A time that has come, as far as this node can tell: not the latest stamp, which may be
    /// of a clock that was wrong, and none for a while after its own was set forward. `Err`
    /// says when to ask again.
    pub(crate) fn certain(&self, now: Monotonic) -> Result<WallMs, Monotonic> {
        if now < self.doubted_until {
            return Err(self.doubted_until);
        }
        Ok(self.wall)
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

    fn at(s: u64) -> Monotonic {
        Monotonic::from_millis(s * 1000)
    }

    #[test]
    fn a_clock_that_was_set_forward_is_believed_when_no_token_is_left_from_before() {
        let mut clock = Clock::new(WallMs(5));
        // The first turn of a life.
        clock.set(at(1), WallMs(1_000_000));
        assert_eq!(clock.certain(at(1)), Ok(WallMs(1_000_000)));
        // An hour passes, in which it is slewed by a minute.
        clock.set(at(3_601), WallMs(4_660_000));
        assert_eq!(clock.certain(at(3_601)), Ok(WallMs(4_660_000)));
        let again = at(3_602) + CLOCK_DOUBT;
        clock.set(at(3_602), WallMs(8_900_000));
        assert_eq!(clock.certain(at(3_602)), Err(again));
        // That it is put right does not help those who believed it.
        clock.set(at(3_603), WallMs(4_662_000));
        assert_eq!(clock.certain(at(3_603)), Err(again));
        clock.set(again, WallMs(8_300_000));
        assert_eq!(clock.certain(again), Ok(WallMs(8_300_000)));
        clock.set(again + CLOCK_DOUBT, WallMs(100));
        assert_eq!(clock.certain(again + CLOCK_DOUBT), Ok(WallMs(100)), "back");
    }

    #[test]
    fn stamps_never_go_back_and_people_hear_of_it_once() {
        let mut clock = Clock::new(WallMs(10_000));
        assert_eq!(clock.stamp(WallMs(0)), (WallMs(10_000), None));
        clock.set(at(1), WallMs(9_500));
        assert_eq!(clock.stamp(WallMs(0)), (WallMs(10_000), None), "a little");
        clock.set(at(1), WallMs(7_000));
        assert_eq!(clock.stamp(WallMs(0)), (WallMs(10_000), Some(3_000)));
        assert_eq!(clock.stamp(WallMs(0)), (WallMs(10_000), None), "told");
        // Another leader's clock was ahead of both.
        assert_eq!(clock.stamp(WallMs(20_000)), (WallMs(20_000), None));
        clock.set(at(1), WallMs(30_000));
        assert_eq!(clock.stamp(WallMs(0)), (WallMs(30_000), None));
        clock.set(at(1), WallMs(28_000));
        assert_eq!(
            clock.stamp(WallMs(0)),
            (WallMs(30_000), Some(2_000)),
            "anew"
        );
    }
}
