//! Which CPU runs what. Pure: facts in, a plan out.

use crate::cpu::{CpuQuota, UsableCpus};
use crate::spin::SpinPolicy;

/// How the CPUs are to be treated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PlacementMode {
    /// Find out from affinity, cpuset and quota.
    #[default]
    Auto,
    /// The CPUs are ours alone: [`SpinPolicy::DEDICATED`].
    Dedicated,
    /// Others run on them: [`SpinPolicy::SHARED`].
    Shared,
}

/// Which CPUs the data cores and the control thread are pinned to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// One per data core, in order.
    pub data: Vec<usize>,
    /// The control thread's; equal to one of `data` when there is no other.
    pub control: usize,
}

/// Why the asked placement is impossible on this machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// Not in the affinity mask and cpuset of this process.
    #[error("CPU {cpu} is not usable by this process; usable are {allowed:?}")]
    NotUsable {
        /// The one asked for.
        cpu: usize,
        /// Those there are.
        allowed: Vec<usize>,
    },
    /// A CPU can hold one data core.
    #[error("CPU {cpu} is named twice as a data core")]
    Twice {
        /// The one named twice.
        cpu: usize,
    },
    /// A node needs a data core.
    #[error("no data core is named")]
    NoDataCore,
    /// More pinned threads than the CPU quota pays for.
    #[error("{asked} pinned CPUs, but the CPU quota pays for {paid}")]
    OverQuota {
        /// Distinct CPUs asked for, control included.
        asked: usize,
        /// Whole CPUs of the quota.
        paid: usize,
    },
}

impl Placement {
    /// Plans for `usable`. Of C usable CPUs, C ≥ 2: the last is control and the
    /// rest are data; C = 1: both on it. What is named is taken as named.
    ///
    /// # Errors
    /// [`PlacementError`] when what is named cannot be had.
    pub fn plan(
        usable: &UsableCpus,
        data_cores: Option<&[usize]>,
        control: Option<usize>,
    ) -> Result<Self, PlacementError> {
        let allowed = &usable.allowed;
        let named = data_cores
            .unwrap_or_default()
            .iter()
            .copied()
            .chain(control);
        for cpu in named {
            if !allowed.contains(&cpu) {
                return Err(PlacementError::NotUsable {
                    cpu,
                    allowed: allowed.clone(),
                });
            }
        }
        // The quota pays for this many CPUs; which ones is ours to choose.
        let pool = &allowed[..usable.cores_max];
        let plan = match (data_cores, control) {
            (Some([]), _) => return Err(PlacementError::NoDataCore),
            (Some(data), control) => {
                if let Some(cpu) = data
                    .iter()
                    .enumerate()
                    .find_map(|(i, cpu)| data[..i].contains(cpu).then_some(*cpu))
                {
                    return Err(PlacementError::Twice { cpu });
                }
                let spare = allowed
                    .iter()
                    .rev()
                    .copied()
                    .find(|cpu| !data.contains(cpu));
                let spare = spare.filter(|_| data.len() < usable.cores_max);
                let last = *data.last().expect("not empty");
                Self {
                    data: data.to_vec(),
                    control: control.or(spare).unwrap_or(last),
                }
            }
            (None, Some(control)) => {
                let others = allowed.iter().copied().filter(|cpu| *cpu != control);
                let mut data: Vec<_> = others.take(usable.cores_max - 1).collect();
                if data.is_empty() {
                    data.push(control);
                }
                Self { data, control }
            }
            (None, None) => match pool {
                [only] => Self {
                    data: vec![*only],
                    control: *only,
                },
                [data @ .., control] => Self {
                    data: data.to_vec(),
                    control: *control,
                },
                [] => return Err(PlacementError::NoDataCore),
            },
        };
        let asked = plan.data.len() + usize::from(!plan.control_shares());
        if asked > usable.cores_max {
            return Err(PlacementError::OverQuota {
                asked,
                paid: usable.cores_max,
            });
        }
        Ok(plan)
    }

    /// True when the control thread runs on a data core's CPU.
    #[must_use]
    pub fn control_shares(&self) -> bool {
        self.data.contains(&self.control)
    }

    /// How the data cores may spin under `mode`.
    ///
    /// A fractional quota allows none, whatever the mode: time spent looking is
    /// time the kernel later takes from working (R5).
    #[must_use]
    pub fn spin(&self, mode: PlacementMode, usable: &UsableCpus) -> SpinPolicy {
        if usable.quota.is_some_and(CpuQuota::is_fractional) {
            return SpinPolicy::OFF;
        }
        match mode {
            PlacementMode::Dedicated => SpinPolicy::DEDICATED,
            PlacementMode::Shared => SpinPolicy::SHARED,
            PlacementMode::Auto => {
                // A quota without a cpuset of its own is paid in time on CPUs
                // which others use as well. Without a quota, the mask gives us
                // whole CPUs: all of the machine, or those set apart for us.
                let floating = usable
                    .quota
                    .is_some_and(|quota| quota.whole_cpus() < usable.allowed.len());
                if floating || self.control_shares() {
                    SpinPolicy::SHARED
                } else {
                    SpinPolicy::DEDICATED
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn machine(cpus: usize, quota_us: Option<u64>) -> UsableCpus {
        let quota = quota_us.map(|quota_us| CpuQuota {
            quota_us,
            period_us: 100_000,
        });
        UsableCpus::judge(&(0..cpus).collect::<Vec<_>>(), None, quota, cpus).unwrap()
    }

    fn plan(
        usable: &UsableCpus,
        data: Option<&[usize]>,
        control: Option<usize>,
    ) -> (Vec<usize>, usize) {
        let plan = Placement::plan(usable, data, control).unwrap();
        (plan.data, plan.control)
    }

    #[test]
    fn the_last_cpu_is_control_and_the_rest_are_data() {
        assert_eq!(plan(&machine(4, None), None, None), (vec![0, 1, 2], 3));
        assert_eq!(plan(&machine(2, None), None, None), (vec![0], 1));
        assert_eq!(plan(&machine(1, None), None, None), (vec![0], 0));
    }

    #[test]
    fn a_quota_leaves_cpus_unused_rather_than_shared_in_time() {
        assert_eq!(
            plan(&machine(8, Some(300_000)), None, None),
            (vec![0, 1], 2)
        );
        assert_eq!(plan(&machine(8, Some(50_000)), None, None), (vec![0], 0));
        assert_eq!(
            plan(&machine(8, Some(200_000)), Some(&[6, 7]), None),
            (vec![6, 7], 7)
        );
    }

    #[test]
    fn what_is_named_is_taken_as_named() {
        let four = machine(4, None);
        assert_eq!(plan(&four, Some(&[1, 0]), None), (vec![1, 0], 3));
        assert_eq!(plan(&four, None, Some(0)), (vec![1, 2, 3], 0));
        assert_eq!(
            plan(&four, Some(&[0, 1, 2, 3]), None),
            (vec![0, 1, 2, 3], 3)
        );
        assert_eq!(
            plan(&machine(2, None), Some(&[0, 1]), Some(0)),
            (vec![0, 1], 0)
        );
        assert_eq!(plan(&machine(1, None), None, Some(0)), (vec![0], 0));
    }

    #[test]
    fn what_cannot_be_had_is_refused_with_the_fact() {
        let two = machine(2, None);
        let refused = |data, control| Placement::plan(&two, data, control).unwrap_err();
        assert_eq!(
            refused(Some(&[2]), None),
            PlacementError::NotUsable {
                cpu: 2,
                allowed: vec![0, 1]
            }
        );
        assert_eq!(
            refused(None, Some(9)),
            PlacementError::NotUsable {
                cpu: 9,
                allowed: vec![0, 1]
            }
        );
        assert_eq!(
            refused(Some(&[1, 1]), None),
            PlacementError::Twice { cpu: 1 }
        );
        assert_eq!(refused(Some(&[]), None), PlacementError::NoDataCore);
        let paid = machine(8, Some(200_000));
        let over = Placement::plan(&paid, Some(&[5, 6]), Some(7)).unwrap_err();
        assert_eq!(over, PlacementError::OverQuota { asked: 3, paid: 2 });
    }

    #[test]
    fn whole_cpus_spin_long_shared_ones_short_and_fractional_quotas_not_at_all() {
        let spin = |usable: &UsableCpus, mode| {
            Placement::plan(usable, None, None)
                .unwrap()
                .spin(mode, usable)
        };
        assert_eq!(
            spin(&machine(4, None), PlacementMode::Auto),
            SpinPolicy::DEDICATED
        );
        assert_eq!(
            spin(&machine(2, None), PlacementMode::Auto),
            SpinPolicy::DEDICATED
        );
        assert_eq!(
            spin(&machine(1, None), PlacementMode::Auto),
            SpinPolicy::SHARED
        );
        assert_eq!(
            spin(&machine(8, Some(400_000)), PlacementMode::Auto),
            SpinPolicy::SHARED
        );
        assert_eq!(
            spin(&machine(4, Some(400_000)), PlacementMode::Auto),
            SpinPolicy::DEDICATED
        );
        assert_eq!(
            spin(&machine(8, Some(250_000)), PlacementMode::Dedicated),
            SpinPolicy::OFF
        );
        assert_eq!(
            spin(&machine(1, None), PlacementMode::Dedicated),
            SpinPolicy::DEDICATED
        );
        assert_eq!(
            spin(&machine(4, None), PlacementMode::Shared),
            SpinPolicy::SHARED
        );
    }
}
