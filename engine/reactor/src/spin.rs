//! How long a core looks for work before it sleeps. Pure: durations in,
//! durations out.

use std::time::Duration;

/// First spin granted when a wait turns out to have been short.
///
/// Larger reaches the full budget sooner and burns more on a false alarm.
const SPIN_FIRST: Duration = Duration::from_micros(10);

/// A wait longer than this means the core is idle: the next wait does not spin.
///
/// Shorter parks sooner between bursts; longer keeps a core spinning for rare
/// events, which a wake-up would serve as well.
const IDLE_AFTER: Duration = Duration::from_millis(1);

/// How long a core may look for work before it sleeps.
///
/// The budget is an upper bound, not a constant: a core that waits long spins
/// not at all (R7), and grows back by doubling, four short waits to 50 µs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpinPolicy {
    budget_max: Duration,
}

impl SpinPolicy {
    /// For a core that has its CPU alone: up to 50 µs, the figure at which a
    /// request and its follow-up meet without a sleep in between (R7). At 200 µs
    /// a core that gets 10,000 messages a second never sleeps: its median falls
    /// from about 45 to 13 µs, but it takes a whole CPU for that load, and where
    /// the host takes a busy CPU away its p99 rises from 0.1 to milliseconds.
    pub const DEDICATED: Self = Self::up_to(Duration::from_micros(50));

    /// For a CPU shared with other threads: up to 20 µs, about what one sleep
    /// and wake-up costs, so a wrong guess never costs more than that.
    pub const SHARED: Self = Self::up_to(Duration::from_micros(20));

    /// Never spin. For fractional CPU quotas, where spinning spends the time
    /// the kernel later refuses (R5).
    pub const OFF: Self = Self::up_to(Duration::ZERO);

    /// At most `budget_max` after the last piece of work.
    #[must_use]
    pub const fn up_to(budget_max: Duration) -> Self {
        Self { budget_max }
    }

    /// The upper bound.
    #[must_use]
    pub const fn budget_max(self) -> Duration {
        self.budget_max
    }
}

/// The budget of one core at this moment; grows on short waits, shrinks on
/// long ones. The rule is that of Linux KVM's `halt_poll_ns`.
#[derive(Debug)]
pub(crate) struct AdaptiveSpin {
    policy: SpinPolicy,
    current: Duration,
}

impl AdaptiveSpin {
    pub(crate) fn new(policy: SpinPolicy) -> Self {
        Self {
            policy,
            current: Duration::ZERO,
        }
    }

    /// How long to look for work before the next sleep.
    pub(crate) fn budget(&self) -> Duration {
        self.current
    }

    /// Learns from a wait that ended in a sleep: `waited` is the time between
    /// two pieces of work.
    pub(crate) fn observe(&mut self, waited: Duration) {
        let max = self.policy.budget_max;
        self.current = if waited <= max {
            // Spinning would have caught it.
            if self.current.is_zero() {
                SPIN_FIRST.min(max)
            } else {
                (self.current * 2).min(max)
            }
        } else if waited > IDLE_AFTER {
            Duration::ZERO
        } else {
            let halved = self.current / 2;
            if halved < SPIN_FIRST / 2 {
                Duration::ZERO
            } else {
                halved
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn us(n: u64) -> Duration {
        Duration::from_micros(n)
    }

    #[test]
    fn short_waits_grow_the_spin_to_the_budget_and_no_further() {
        let mut spin = AdaptiveSpin::new(SpinPolicy::DEDICATED);
        assert_eq!(spin.budget(), us(0));
        let seen: Vec<_> = (0..5)
            .map(|_| {
                spin.observe(us(30));
                spin.budget()
            })
            .collect();
        assert_eq!(seen, [10, 20, 40, 50, 50].map(us));
    }

    #[test]
    fn one_long_wait_ends_all_spinning() {
        let mut spin = AdaptiveSpin::new(SpinPolicy::DEDICATED);
        (0..4).for_each(|_| spin.observe(us(30)));
        spin.observe(us(1001));
        assert_eq!(spin.budget(), us(0));
    }

    #[test]
    fn waits_just_out_of_reach_shrink_the_spin_step_by_step() {
        let mut spin = AdaptiveSpin::new(SpinPolicy::up_to(us(50)));
        (0..4).for_each(|_| spin.observe(us(30)));
        let seen: Vec<_> = (0..5)
            .map(|_| {
                spin.observe(us(100));
                spin.budget()
            })
            .collect();
        assert_eq!(
            seen,
            [
                us(25),
                Duration::from_nanos(12_500),
                Duration::from_nanos(6_250),
                us(0),
                us(0)
            ]
        );
    }

    #[test]
    fn a_policy_without_budget_never_spins() {
        let mut spin = AdaptiveSpin::new(SpinPolicy::OFF);
        spin.observe(us(0));
        assert_eq!(spin.budget(), us(0));
    }
}
