//! How long a core looks for work before it sleeps, and when it begins to look.
//! Pure: durations in, durations out.
//!
//! Waking a halted CPU takes longer than a request does (some 25 µs on a virtual
//! machine), so a core that expects work soon had better be awake when it comes.
//! Looking all the time would do that for a whole CPU. Where waits are alike, a
//! core sleeps through the first half of the usual one and looks for work only
//! then; `docs/decisions/0014-naps.md` has the figures.

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
    disk_max: Duration,
}

/// How long a core with a CPU of its own looks for the end of a disk request.
///
/// A write and its flush take 50 to 90 µs each on disks with flash, and a core
/// that sleeps in between adds a wake-up to each: one publish in flight took
/// 205 µs at the median with sleeps and 130 µs without
/// (`docs/decisions/0010-disk-ring.md`). Longer helps slower disks and takes the
/// CPU for as much longer whenever a request is under way; a disk that needs
/// longer than this is slept for.
const DISK_SPIN: Duration = Duration::from_micros(200);

impl SpinPolicy {
    /// For a core that has its CPU alone: up to 50 µs, the figure at which a
    /// request and its follow-up meet without a sleep in between (R7).
    ///
    /// While the disk has something to do, up to 200 µs: R7 bounds what a core
    /// burns on a guess, and a request under way is none.
    pub const DEDICATED: Self = Self {
        disk_max: DISK_SPIN,
        ..Self::up_to(Duration::from_micros(50))
    };

    /// For a CPU shared with other threads: up to 20 µs, about what one sleep
    /// and wake-up costs, so a wrong guess never costs more than that.
    pub const SHARED: Self = Self::up_to(Duration::from_micros(20));

    /// Never spin. For fractional CPU quotas, where spinning spends the time
    /// the kernel later refuses (R5).
    pub const OFF: Self = Self::up_to(Duration::ZERO);

    /// At most `budget_max` after the last piece of work.
    #[must_use]
    pub const fn up_to(budget_max: Duration) -> Self {
        Self {
            budget_max,
            disk_max: budget_max,
        }
    }

    /// The upper bound.
    #[must_use]
    pub const fn budget_max(self) -> Duration {
        self.budget_max
    }

    /// The rule for waits while the disk has something to do. It learns by
    /// itself: how long a disk takes says nothing about when a client asks.
    pub(crate) const fn for_disk(self) -> Self {
        Self::up_to(self.disk_max)
    }
}

/// Waits that are remembered to say what is usual. More are harder to mislead by
/// a burst, fewer follow a change of load sooner.
const WAITS: usize = 8;

/// A usual wait shorter than this is looked through: half of it is hardly more
/// than a sleep and a wake-up take.
const NAP_WAIT_MIN: Duration = Duration::from_micros(60);

/// By how much a sleep usually ends late.
const WAKE_LATE: Duration = Duration::from_micros(20);

/// The budget of one core at this moment; grows on short waits, shrinks on
/// long ones. The rule is that of Linux KVM's `halt_poll_ns`; that a wait begins
/// with a nap of half its usual length, that of its hybrid polling of disks.
#[derive(Debug)]
pub(crate) struct AdaptiveSpin {
    policy: SpinPolicy,
    current: Duration,
    /// The last wait that ended in a sleep was not that of an idle core.
    lively: bool,
    /// The last waits, in a ring.
    waits: [Duration; WAITS],
    next: usize,
}

impl AdaptiveSpin {
    pub(crate) fn new(policy: SpinPolicy) -> Self {
        Self {
            policy,
            current: Duration::ZERO,
            lively: false,
            waits: [Duration::ZERO; WAITS],
            next: 0,
        }
    }

    /// How long to look for work before the next sleep.
    pub(crate) fn budget(&self) -> Duration {
        self.current
    }

    /// Whether work is expected within [`IDLE_AFTER`].
    pub(crate) fn is_lively(&self) -> bool {
        self.lively
    }

    /// How long after the last work to begin looking for more; zero for at once.
    pub(crate) fn nap(&self) -> Duration {
        if self.current.is_zero() {
            // It will not look at all, but sleep until work comes.
            return Duration::ZERO;
        }
        self.half_a_wait()
    }

    fn half_a_wait(&self) -> Duration {
        let mut waits = self.waits;
        waits.sort_unstable();
        let usual = waits[WAITS / 2];
        if (NAP_WAIT_MIN..=IDLE_AFTER).contains(&usual) {
            usual / 2
        } else {
            Duration::ZERO
        }
    }

    /// Takes note of a wait, however it was spent.
    pub(crate) fn note(&mut self, waited: Duration) {
        self.waits[self.next] = waited;
        self.next = (self.next + 1) % WAITS;
    }

    /// Learns from a wait that ended in a sleep without end: `waited` is the time
    /// between two pieces of work.
    pub(crate) fn observe(&mut self, waited: Duration) {
        let max = self.policy.budget_max;
        let nap = self.half_a_wait();
        let reach = if nap.is_zero() || max.is_zero() {
            max
        } else {
            nap + WAKE_LATE + max
        };
        self.lively = waited <= IDLE_AFTER;
        self.current = if waited <= reach {
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
        assert!(spin.is_lively());
        spin.observe(us(1001));
        assert_eq!(spin.budget(), us(0));
        assert!(!spin.is_lively());
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
        for policy in [SpinPolicy::OFF, SpinPolicy::OFF.for_disk()] {
            let mut spin = AdaptiveSpin::new(policy);
            spin.observe(us(0));
            assert_eq!(spin.budget(), us(0));
        }
    }

    #[test]
    fn a_disk_is_awaited_longer_than_a_client_where_the_cpu_is_the_cores_own() {
        let budget_after = |policy, waited| {
            let mut spin = AdaptiveSpin::new(policy);
            (0..6).for_each(|_| spin.observe(waited));
            spin.budget()
        };
        assert_eq!(budget_after(SpinPolicy::DEDICATED, us(90)), us(0));
        let disk = SpinPolicy::DEDICATED.for_disk();
        assert_eq!(budget_after(disk, us(90)), us(200));
        assert_eq!(budget_after(disk, us(300)), us(0), "a slow disk");
        assert_eq!(budget_after(SpinPolicy::SHARED.for_disk(), us(90)), us(0));
    }

    #[test]
    fn a_core_naps_through_half_of_the_usual_wait_and_catches_what_it_slept_for() {
        let mut spin = AdaptiveSpin::new(SpinPolicy::DEDICATED);
        // Sleeps without end, each of which ended late.
        let seen: Vec<_> = (0..8)
            .map(|_| {
                spin.note(us(120));
                spin.observe(us(120));
                (spin.nap(), spin.budget())
            })
            .collect();
        // Five of eight waits make it usual; before that 120 µs are out of reach.
        let nap = us(60);
        let zero = us(0);
        assert_eq!(
            seen,
            [
                (zero, zero),
                (zero, zero),
                (zero, zero),
                (nap, us(10)),
                (nap, us(20)),
                (nap, us(40)),
                (nap, us(50)),
                (nap, us(50)),
            ]
        );
        spin.observe(us(131));
        assert_eq!(spin.budget(), us(25), "further than nap and spin reach");
    }

    #[test]
    fn a_burst_and_rare_events_are_not_napped_through() {
        for (usual, other) in [(us(5), us(500)), (us(59), us(59)), (us(1001), us(5))] {
            let mut spin = AdaptiveSpin::new(SpinPolicy::DEDICATED);
            spin.observe(us(5));
            (0..WAITS).for_each(|i| spin.note(if i % 4 == 0 { other } else { usual }));
            assert_eq!(spin.nap(), us(0), "{usual:?}");
        }
    }
}
