//! Which CPUs this process may use, and how much of them.
//!
//! The truth has three sources, and each may be the narrowest: the affinity
//! mask (`taskset`, systemd), the cpuset of the control group (Kubernetes with
//! static CPU manager), and the group's CPU bandwidth (`cpu.max`, `docker run
//! --cpus`). Reading and judging are apart, so that the judging is tested on
//! text.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// CPU bandwidth of a control group: `quota` of every `period`, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuQuota {
    /// CPU time granted per period.
    pub quota_us: u64,
    /// Length of the period.
    pub period_us: u64,
}

impl CpuQuota {
    /// Whole CPUs it is worth; 0 below one.
    #[must_use]
    pub fn whole_cpus(self) -> usize {
        usize::try_from(self.quota_us / self.period_us).unwrap_or(usize::MAX)
    }

    /// True when a part of a CPU is left over. The kernel stops the whole
    /// process for the rest of a period in which that part is used up.
    #[must_use]
    pub fn is_fractional(self) -> bool {
        !self.quota_us.is_multiple_of(self.period_us)
    }

    fn is_narrower_than(self, other: Self) -> bool {
        u128::from(self.quota_us) * u128::from(other.period_us)
            < u128::from(other.quota_us) * u128::from(self.period_us)
    }
}

/// The CPUs of this process and what limits them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsableCpus {
    /// CPUs in both the affinity mask and the cpuset, ascending; never empty.
    pub allowed: Vec<usize>,
    /// Most threads that may be pinned and busy: `allowed.len()`, or the whole
    /// CPUs of the quota if those are fewer; at least 1.
    pub cores_max: usize,
    /// The cpuset, where the control group has one.
    pub cpuset: Option<Vec<usize>>,
    /// The narrowest bandwidth on the way up the control groups.
    pub quota: Option<CpuQuota>,
    /// CPUs of the machine.
    pub online: usize,
}

impl UsableCpus {
    /// Judges what was read.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] when affinity and cpuset have no CPU in
    /// common, which no running process can truly have.
    pub fn judge(
        affinity: &[usize],
        cpuset: Option<Vec<usize>>,
        quota: Option<CpuQuota>,
        online: usize,
    ) -> io::Result<Self> {
        let mut allowed: Vec<usize> = affinity
            .iter()
            .copied()
            .filter(|cpu| cpuset.as_ref().is_none_or(|set| set.contains(cpu)))
            .collect();
        allowed.sort_unstable();
        allowed.dedup();
        if allowed.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("affinity {affinity:?} and cpuset {cpuset:?} have no CPU in common"),
            ));
        }
        let by_quota = quota.map_or(usize::MAX, CpuQuota::whole_cpus);
        Ok(Self {
            cores_max: allowed.len().min(by_quota).max(1),
            allowed,
            cpuset,
            quota,
            online,
        })
    }

    /// What the operator should know, one sentence each; empty when nothing.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(quota) = self.quota {
            let cpus = quota.quota_us as f64 / quota.period_us as f64;
            if quota.is_fractional() {
                warnings.push(format!(
                    "the CPU quota is {cpus:.2} CPUs, not a whole number: cores do not spin, and the kernel may stop them within a period; grant whole CPUs"
                ));
            }
            if quota.whole_cpus() < self.allowed.len() {
                warnings.push(format!(
                    "{} CPUs are allowed but the quota pays for {cpus:.2}: using {}",
                    self.allowed.len(),
                    self.cores_max
                ));
            }
        }
        warnings
    }
}

/// Reads the CPUs of this process.
///
/// # Errors
/// When the kernel does not tell the affinity mask. Missing control group files
/// are no error: then there is no such limit.
pub fn usable() -> io::Result<UsableCpus> {
    let mask = sched_getaffinity(None)?;
    let affinity: Vec<usize> = (0..CpuSet::MAX_CPU)
        .filter(|cpu| mask.is_set(*cpu))
        .collect();
    let read = |path: &Path| fs::read_to_string(path).ok();
    let group = ControlGroup::read(read);
    let online =
        read(Path::new("/sys/devices/system/cpu/online")).and_then(|text| parse_cpu_list(&text));
    UsableCpus::judge(
        &affinity,
        group.cpuset,
        group.quota,
        online.map_or(affinity.len(), |cpus| cpus.len()),
    )
}

/// Pins the calling thread, and the threads it will start, to `cpu`.
///
/// # Errors
/// When the CPU does not exist or is not in this process's cpuset.
pub fn pin_current_thread(cpu: usize) -> io::Result<()> {
    if cpu >= CpuSet::MAX_CPU {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("CPU {cpu}: at most {}", CpuSet::MAX_CPU),
        ));
    }
    let mut mask = CpuSet::new();
    mask.set(cpu);
    sched_setaffinity(None, &mask).map_err(|errno| {
        io::Error::new(io::Error::from(errno).kind(), format!("CPU {cpu}: {errno}"))
    })
}

/// How often the kernel stopped this process's group because its CPU quota was
/// used up (`nr_throttled`); `None` where there is no such group. Export it: a
/// rising number explains latency nothing else explains (R6).
#[must_use]
pub fn throttled() -> Option<u64> {
    let read = |path: &Path| fs::read_to_string(path).ok();
    let group = ControlGroup::directory(&read)?;
    let stat = read(&group.path.join("cpu.stat"))?;
    stat.lines()
        .find_map(|line| line.strip_prefix("nr_throttled "))
        .and_then(|count| count.trim().parse().ok())
}

/// Bytes of memory this process's control groups allow it; `None` where no
/// group sets a limit.
#[must_use]
pub fn memory_limit() -> Option<u64> {
    let read = |path: &Path| fs::read_to_string(path).ok();
    let group = ControlGroup::directory(&read)?;
    group
        .path
        .ancestors()
        .take_while(|path| path.starts_with(&group.root))
        .filter_map(|directory| read(&directory.join("memory.max"))?.trim().parse().ok())
        .min()
}

/// What control groups (version 2) say about CPUs.
#[derive(Debug, Default, PartialEq, Eq)]
struct ControlGroup {
    cpuset: Option<Vec<usize>>,
    quota: Option<CpuQuota>,
}

struct GroupDirectory {
    /// Where the hierarchy is mounted.
    root: PathBuf,
    /// This process's group, below `root`.
    path: PathBuf,
}

impl ControlGroup {
    fn read(read: impl Fn(&Path) -> Option<String>) -> Self {
        let Some(group) = Self::directory(&read) else {
            return Self::default();
        };
        let mut found = Self::default();
        // The kernel's effective cpuset already honours the groups above; a
        // group without the controller has no such file and inherits. A
        // bandwidth binds everything below it, so the narrowest counts.
        for directory in group
            .path
            .ancestors()
            .take_while(|path| path.starts_with(&group.root))
        {
            if found.cpuset.is_none() {
                let cpus = read(&directory.join("cpuset.cpus.effective"))
                    .and_then(|text| parse_cpu_list(&text));
                found.cpuset = cpus.filter(|cpus| !cpus.is_empty());
            }
            let quota = read(&directory.join("cpu.max")).and_then(|text| parse_cpu_max(&text));
            if let Some(quota) = quota
                && found
                    .quota
                    .is_none_or(|narrowest| quota.is_narrower_than(narrowest))
            {
                found.quota = Some(quota);
            }
        }
        found
    }

    fn directory(read: &impl Fn(&Path) -> Option<String>) -> Option<GroupDirectory> {
        let root = parse_mount_point(&read(Path::new("/proc/self/mountinfo"))?)?;
        let group = parse_group_path(&read(Path::new("/proc/self/cgroup"))?)?;
        // Seen from another namespace the path may start with "..": then only
        // the visible root speaks for us.
        let inside = Path::new(&group)
            .strip_prefix("/")
            .ok()
            .filter(|path| !path.starts_with(".."));
        let path = inside.map_or_else(|| root.clone(), |inside| root.join(inside));
        Some(GroupDirectory { root, path })
    }
}

/// The version 2 mount in `/proc/self/mountinfo` (see proc(5)): the fifth field
/// of the line whose type, the first field after " - ", is `cgroup2`.
fn parse_mount_point(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let kind = filesystem.split(' ').next()?;
        (kind == "cgroup2")
            .then(|| mount.split(' ').nth(4))
            .flatten()
            .map(PathBuf::from)
    })
}

/// The version 2 group in `/proc/self/cgroup`: the line of hierarchy 0.
fn parse_group_path(cgroup: &str) -> Option<String> {
    cgroup
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .map(str::to_owned)
}

/// A list as in `0-3,8,10-11`; `None` when it is not one. Empty is a list.
#[must_use]
pub fn parse_cpu_list(text: &str) -> Option<Vec<usize>> {
    /// No machine has more; a longer list is not one of CPUs.
    const CPUS_MAX: usize = 1 << 16;
    let mut cpus = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last >= CPUS_MAX {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

/// `cpu.max`: `QUOTA PERIOD` or `max PERIOD`; `None` when there is no limit.
fn parse_cpu_max(text: &str) -> Option<CpuQuota> {
    let mut fields = text.split_whitespace();
    let quota_us = fields.next()?.parse().ok()?;
    let period_us = fields
        .next()
        .map_or(Some(100_000), |period| period.parse().ok())?;
    (period_us > 0).then_some(CpuQuota {
        quota_us,
        period_us,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::HashMap;

    fn quota(quota_us: u64) -> CpuQuota {
        CpuQuota {
            quota_us,
            period_us: 100_000,
        }
    }

    fn group(files: &[(&str, &str)]) -> ControlGroup {
        let files: HashMap<_, _> = files
            .iter()
            .map(|(path, text)| (PathBuf::from(path), (*text).to_owned()))
            .collect();
        ControlGroup::read(|path| files.get(path).cloned())
    }

    const MOUNTS: &str = "\
        31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n";

    #[test]
    fn cpu_lists_read_as_the_kernel_writes_them() {
        assert_eq!(
            parse_cpu_list("0-3,8,10-11\n"),
            Some(vec![0, 1, 2, 3, 8, 10, 11])
        );
        assert_eq!(parse_cpu_list("\n"), Some(vec![]));
        for wrong in ["3-1", "a", "1-", "0-99999999999", "-"] {
            assert_eq!(parse_cpu_list(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn bandwidth_reads_as_the_kernel_writes_it() {
        assert_eq!(parse_cpu_max("max 100000\n"), None);
        assert_eq!(parse_cpu_max("250000 100000\n"), Some(quota(250_000)));
        assert_eq!(parse_cpu_max("50000"), Some(quota(50_000)));
        assert_eq!(parse_cpu_max("50000 0"), None);
        assert!(quota(250_000).is_fractional() && quota(250_000).whole_cpus() == 2);
        assert!(!quota(200_000).is_fractional());
    }

    #[test]
    fn the_nearest_cpuset_and_the_narrowest_bandwidth_on_the_way_up_count() {
        let found = group(&[
            ("/proc/self/mountinfo", MOUNTS),
            ("/proc/self/cgroup", "9:name=systemd:/\n0::/pods/one/main\n"),
            (
                "/sys/fs/cgroup/unified/pods/one/main/cpu.max",
                "400000 100000",
            ),
            ("/sys/fs/cgroup/unified/pods/one/cpu.max", "150000 50000"),
            (
                "/sys/fs/cgroup/unified/pods/one/cpuset.cpus.effective",
                "2-5",
            ),
            ("/sys/fs/cgroup/unified/pods/cpuset.cpus.effective", "0-7"),
            ("/sys/fs/cgroup/cpu.max", "1 100000"),
        ]);
        assert_eq!(found.cpuset, Some(vec![2, 3, 4, 5]));
        assert_eq!(
            found.quota,
            Some(CpuQuota {
                quota_us: 150_000,
                period_us: 50_000
            })
        );
    }

    #[test]
    fn a_machine_without_control_groups_has_no_such_limit() {
        assert_eq!(group(&[]), ControlGroup::default());
        assert_eq!(
            group(&[("/proc/self/mountinfo", MOUNTS)]),
            ControlGroup::default()
        );
        assert_eq!(
            group(&[
                ("/proc/self/mountinfo", MOUNTS),
                ("/proc/self/cgroup", "0::/")
            ]),
            ControlGroup::default()
        );
    }

    #[test]
    fn a_group_outside_the_visible_tree_is_judged_by_the_visible_root() {
        let found = group(&[
            ("/proc/self/mountinfo", MOUNTS),
            ("/proc/self/cgroup", "0::/../elsewhere"),
            ("/sys/fs/cgroup/unified/cpu.max", "100000 100000"),
            ("/sys/fs/cgroup/elsewhere/cpu.max", "1 100000"),
        ]);
        assert_eq!(found.quota, Some(quota(100_000)));
    }

    #[test]
    fn allowed_is_what_affinity_and_cpuset_share() {
        let cpus = UsableCpus::judge(&[0, 1, 2, 3], Some(vec![1, 3, 5]), None, 8).unwrap();
        assert_eq!((cpus.allowed.as_slice(), cpus.cores_max), (&[1, 3][..], 2));
        assert!(cpus.warnings().is_empty());
        assert!(UsableCpus::judge(&[0], Some(vec![1]), None, 2).is_err());
    }

    #[test]
    fn a_quota_caps_the_cores_at_its_floor_and_says_so() {
        let cpus = UsableCpus::judge(&[0, 1, 2, 3], None, Some(quota(250_000)), 4).unwrap();
        assert_eq!(cpus.cores_max, 2);
        let warnings = cpus.warnings();
        assert!(
            warnings[0].contains("2.50 CPUs, not a whole number"),
            "{warnings:?}"
        );
        assert!(warnings[1].contains("using 2"), "{warnings:?}");
        assert_eq!(
            UsableCpus::judge(&[0, 1], None, Some(quota(50_000)), 2)
                .unwrap()
                .cores_max,
            1
        );
    }

    #[test]
    fn this_process_may_use_at_least_one_cpu() {
        let cpus = usable().unwrap();
        assert!(
            !cpus.allowed.is_empty() && cpus.cores_max >= 1 && cpus.online >= 1,
            "{cpus:?}"
        );
    }

    #[test]
    fn a_process_started_on_one_cpu_sees_only_that_one() {
        if std::env::var_os("PINION_TEST_ONE_CPU").is_some() {
            let cpus = usable().unwrap();
            println!("allowed={:?} cores_max={}", cpus.allowed, cpus.cores_max);
            return;
        }
        let last = *usable().unwrap().allowed.last().unwrap();
        // The child inherits the mask of the thread that starts it.
        let output = std::thread::spawn(move || {
            pin_current_thread(last).unwrap();
            std::process::Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "cpu::tests::a_process_started_on_one_cpu_sees_only_that_one",
                    "--nocapture",
                ])
                .env("PINION_TEST_ONE_CPU", "1")
                .output()
                .unwrap()
        });
        let output = output.join().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            text.contains(&format!("allowed=[{last}] cores_max=1")),
            "{text}"
        );
    }

    #[test]
    fn pinning_to_a_cpu_that_does_not_exist_is_an_error() {
        assert!(pin_current_thread(CpuSet::MAX_CPU - 1).is_err());
        assert!(pin_current_thread(CpuSet::MAX_CPU).is_err());
    }
}
