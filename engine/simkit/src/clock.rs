//! A node's two clocks, moved by hand.

use core::time::Duration;

use pinion_types::{Monotonic, WallMs};

/// The world's time, and what one node's clocks say of it.
///
/// The monotonic clock starts anew at every restart; the wall clock may be set
/// either way, run fast or slow, and goes on while the node is down.
#[derive(Clone, Debug)]
pub struct SimClock {
    /// Nanoseconds since the world began.
    world: u64,
    /// When the node started.
    started: u64,
    /// What the wall clock showed when the world began, in milliseconds, with
    /// every jump since.
    wall_base: i64,
    /// Parts per million by which the wall clock runs fast.
    drift_ppm: i64,
}

impl SimClock {
    /// A world that begins at `wall` with a node that starts with it.
    #[must_use]
    pub fn new(wall: WallMs) -> Self {
        Self {
            world: 0,
            started: 0,
            wall_base: i64::try_from(wall.0).unwrap_or(i64::MAX),
            drift_ppm: 0,
        }
    }

    /// Time since the node started.
    #[must_use]
    pub fn now(&self) -> Monotonic {
        Monotonic(self.world - self.started)
    }

    /// Nanoseconds since the world began, however often the node restarted.
    #[must_use]
    pub fn world_nanos(&self) -> u64 {
        self.world
    }

    /// What the wall clock shows; 0 when it was set to before 1970.
    #[must_use]
    pub fn wall(&self) -> WallMs {
        let passed = i64::try_from(self.world / 1_000_000).unwrap_or(i64::MAX);
        let drift = passed.saturating_mul(self.drift_ppm) / 1_000_000;
        let shown = self
            .wall_base
            .saturating_add(passed)
            .saturating_add(drift)
            .max(0);
        WallMs(u64::try_from(shown).expect("not negative"))
    }

    /// Time passes.
    pub fn advance(&mut self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.world = self.world.saturating_add(nanos);
    }

    /// Time passes until the node's monotonic clock shows `at`; none when it
    /// does already.
    pub fn advance_to(&mut self, at: Monotonic) {
        self.world = self.world.max(self.started.saturating_add(at.0));
    }

    /// Somebody sets the wall clock.
    pub fn jump_wall(&mut self, by_ms: i64) {
        self.wall_base = self.wall_base.saturating_add(by_ms);
    }

    /// From now on the wall clock gains that many parts per million; the time
    /// gained so far stays.
    pub fn drift(&mut self, ppm: i64) {
        let before = self.wall();
        self.drift_ppm = ppm;
        let after = self.wall();
        let gained = i64::try_from(before.0).unwrap_or(i64::MAX)
            - i64::try_from(after.0).unwrap_or(i64::MAX);
        self.wall_base = self.wall_base.saturating_add(gained);
    }

    /// The node starts again.
    pub fn restart(&mut self) {
        self.started = self.world;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    #[test]
    fn a_restart_begins_the_monotonic_clock_anew_and_leaves_the_wall_clock() {
        let mut clock = SimClock::new(WallMs(1_000));
        clock.advance(Duration::from_millis(5));
        assert_eq!(
            (clock.now(), clock.wall()),
            (Monotonic::from_millis(5), WallMs(1_005))
        );
        clock.restart();
        assert_eq!(
            (clock.now(), clock.wall()),
            (Monotonic::ZERO, WallMs(1_005))
        );
        clock.advance_to(Monotonic::from_millis(2));
        clock.advance_to(Monotonic::from_millis(1));
        assert_eq!(
            (clock.now(), clock.world_nanos()),
            (Monotonic::from_millis(2), 7_000_000)
        );
    }

    #[test]
    fn the_wall_clock_jumps_and_drifts_and_the_monotonic_one_does_not() {
        let mut clock = SimClock::new(WallMs(2 * HOUR.unsigned_abs()));
        clock.jump_wall(-HOUR);
        assert_eq!(clock.wall(), WallMs(HOUR.unsigned_abs()));
        clock.drift(200);
        clock.advance(Duration::from_secs(100));
        assert_eq!(clock.wall(), WallMs(HOUR.unsigned_abs() + 100_020));
        clock.drift(0);
        assert_eq!(clock.wall(), WallMs(HOUR.unsigned_abs() + 100_020));
        clock.jump_wall(-3 * HOUR);
        assert_eq!(clock.wall(), WallMs(0));
        assert_eq!(clock.now(), Monotonic::from_millis(100_000));
    }
}
