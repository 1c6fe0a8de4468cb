//! Whether this member's disk keeps up.
//!
//! A leader whose disk is slow holds up everyone who waits for its answers, and does
//! so for as long as it leads. So it gives the lead to a voter that is shown to be
//! faster: one that has acknowledged what the leader's own disk has not. A member
//! whose disk is slow also asks to be elected later than all others.

use core::time::Duration;

use pinion_types::Monotonic;

use crate::limits::{HAND_OVER_AFTER, HAND_OVER_EVERY, SLOW_FLUSH, SLOW_FOR};
use crate::recent::Recent;

/// See the head of this file.
#[derive(Default)]
pub(crate) struct Health {
    /// How long the last flushes took.
    flushes: Recent,
    /// The disk is taken for slow until then.
    slow_until: Option<Monotonic>,
    /// The lead is not given away again before.
    again_at: Option<Monotonic>,
}

impl Health {
    /// A flush that entries waited for took so long.
    pub(crate) fn note(&mut self, took: Duration) {
        self.flushes.note(took);
    }

    /// The median of the last flushes; `None` when they are too few to say.
    pub(crate) fn median(&self) -> Option<Duration> {
        self.flushes.median()
    }

    /// Looks at a flush that has been under way for `waited`; whether it is too slow.
    pub(crate) fn judge(&mut self, now: Monotonic, waited: Duration) -> bool {
        // One long flush is nothing yet, unless it is very long.
        let often = waited >= SLOW_FLUSH && self.median().is_some_and(|of| of >= SLOW_FLUSH);
        let slow = often || waited >= HAND_OVER_AFTER;
        if slow {
            self.slow_until = Some(now + SLOW_FOR);
        }
        slow
    }

    /// Whether the disk was too slow a short while ago.
    pub(crate) fn is_slow(&self, now: Monotonic) -> bool {
        self.slow_until.is_some_and(|until| now < until)
    }

    /// Whether the lead may be given away, which it then is.
    pub(crate) fn may_hand_over(&mut self, now: Monotonic) -> bool {
        let may = self.again_at.is_none_or(|at| at <= now);
        if may {
            self.again_at = Some(now + HAND_OVER_EVERY);
        }
        may
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::limits::{FLUSHES_KEPT, FLUSHES_MIN};

    fn at(ms: u64) -> Monotonic {
        Monotonic::from_millis(ms)
    }

    #[test]
    fn one_slow_flush_is_borne_and_a_very_slow_one_is_not() {
        let mut health = Health::default();
        assert!(!health.judge(at(0), SLOW_FLUSH * 2));
        assert!(!health.is_slow(at(0)));
        assert!(health.judge(at(0), HAND_OVER_AFTER));
        assert!(health.is_slow(at(1)));
        assert!(!health.is_slow(at(0) + SLOW_FOR));
    }

    #[test]
    fn a_disk_is_slow_when_half_of_its_last_flushes_are() {
        let mut health = Health::default();
        for _ in 0..FLUSHES_MIN - 1 {
            health.note(SLOW_FLUSH);
        }
        assert!(!health.judge(at(0), SLOW_FLUSH), "too few to say");
        health.note(SLOW_FLUSH);
        assert!(health.judge(at(0), SLOW_FLUSH));
        assert!(!health.judge(at(0), SLOW_FLUSH / 2), "nothing waits long");
        for _ in 0..FLUSHES_KEPT {
            health.note(SLOW_FLUSH / 100);
        }
        assert!(!health.judge(at(0), SLOW_FLUSH), "it has recovered");
    }

    #[test]
    fn the_lead_is_not_given_away_all_the_time() {
        let mut health = Health::default();
        assert!(health.may_hand_over(at(0)));
        assert!(!health.may_hand_over(at(0)));
        assert!(health.may_hand_over(at(0) + HAND_OVER_EVERY));
    }
}
