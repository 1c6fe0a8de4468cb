//! What the machine is and how quiet it is: the facts printed beside every
//! figure, pinning, and processor time of the generator and of others.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

/// Share of all processors that other processes may use before a run counts
/// as disturbed. Lower refuses more runs on a desktop; higher lets a build in
/// the background into the published figures.
pub const OTHERS_SHARE_MAX: f64 = 0.10;

/// Clock ticks a second in `/proc`: fixed to 100 in the kernel's interface.
const TICKS_PER_SECOND: f64 = 100.0;

/// What must be known to compare two figures.
#[derive(Clone, Debug, Serialize)]
pub struct MachineFacts {
    /// Processor model as the kernel names it.
    pub cpu: String,
    /// Processors this process may run on.
    pub cpus: Vec<usize>,
    /// Kernel release.
    pub kernel: String,
    /// Frequency governor; none on most virtual machines.
    pub governor: Option<String>,
    /// Load averages over 1, 5 and 15 minutes.
    pub loadavg: String,
    /// Soft limit of locked memory in bytes; none when unlimited.
    pub memlock_bytes: Option<u64>,
    /// Most segments of one GSO send; 1 means no GSO.
    pub gso_segments: usize,
    /// Most segments of one GRO receive; 1 means no GRO.
    pub gro_segments: usize,
    /// Time source of the kernel.
    pub clocksource: Option<String>,
}

impl MachineFacts {
    /// Reads the facts. A fact the machine does not tell is left out.
    #[must_use]
    pub fn read() -> Self {
        let offload = pinion_client::native::offload();
        Self {
            cpu: read("/proc/cpuinfo")
                .as_deref()
                .and_then(cpu_model)
                .unwrap_or_else(|| "unknown".to_owned()),
            cpus: affinity(),
            kernel: read("/proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".to_owned()),
            governor: read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            loadavg: read("/proc/loadavg")
                .map(|text| text.split(' ').take(3).collect::<Vec<_>>().join(" "))
                .unwrap_or_default(),
            memlock_bytes: getrlimit(Resource::Memlock).current,
            gso_segments: offload.gso_segments,
            gro_segments: offload.gro_segments,
            clocksource: read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        }
    }

    /// One line for people.
    #[must_use]
    pub fn line(&self) -> String {
        format!(
            "{}, {} usable CPUs, Linux {}, governor {}, clock {}, GSO {}, GRO {}, memlock {}, load {}",
            self.cpu,
            self.cpus.len(),
            self.kernel,
            self.governor.as_deref().unwrap_or("not shown"),
            self.clocksource.as_deref().unwrap_or("not shown"),
            self.gso_segments,
            self.gro_segments,
            self.memlock_bytes
                .map_or_else(|| "unlimited".to_owned(), |b| format!("{} KiB", b >> 10)),
            self.loadavg,
        )
    }
}

/// Binds the calling thread to one processor.
///
/// # Errors
/// `EINVAL` when the processor does not exist or is not allowed here.
pub fn pin_thread(cpu: usize) -> io::Result<()> {
    set_affinity(&[cpu])
}

/// Runs `start` while the calling thread is bound to `cpus`, then gives the
/// thread its own set back. A process spawned inside starts bound to `cpus`.
///
/// # Errors
/// What the kernel answers to the binding, or what `start` returns.
pub fn bound_to<T>(cpus: &[usize], start: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let before = sched_getaffinity(None)?;
    set_affinity(cpus)?;
    let result = start();
    sched_setaffinity(None, &before)?;
    result
}

fn set_affinity(cpus: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        if cpu >= CpuSet::MAX_CPU {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        set.set(cpu);
    }
    Ok(sched_setaffinity(None, &set)?)
}

/// Processors the calling thread may run on.
#[must_use]
pub fn affinity() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(None) else {
        return Vec::new();
    };
    (0..CpuSet::MAX_CPU)
        .filter(|&cpu| set.is_set(cpu))
        .collect()
}

/// Processor time the calling thread has used.
#[must_use]
pub fn thread_cpu() -> Duration {
    let spent = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(spent.tv_sec).unwrap_or(0),
        u32::try_from(spent.tv_nsec).unwrap_or(0),
    )
}

/// Processor time (user and system) and resident memory of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct ProcessUse {
    /// Seconds of processor time since it started.
    pub cpu_seconds: f64,
    /// Resident bytes.
    pub rss_bytes: u64,
}

impl ProcessUse {
    /// Reads the use of `pid`; none when it is gone.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        Some(Self {
            cpu_seconds: stat_cpu_seconds(&stat)?,
            rss_bytes: status_rss_bytes(&status).unwrap_or(0),
        })
    }
}

/// How busy the whole machine was over an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Disturbance {
    /// Share of all processors used by processes that are not part of the run.
    pub others_share: f64,
    /// Share of all processors the host took away (steal).
    pub steal_share: f64,
}

impl Disturbance {
    /// Whether others used more than [`OTHERS_SHARE_MAX`].
    #[must_use]
    pub fn is_too_busy(&self) -> bool {
        self.others_share > OTHERS_SHARE_MAX
    }
}

/// Watches the machine between two moments.
#[derive(Debug)]
pub struct Watch {
    started: Instant,
    machine: CpuTicks,
    own: f64,
    pids: Vec<(u32, f64)>,
    kernel: HashMap<u32, Duration>,
}

impl Watch {
    /// Starts to watch; `pids` and this process belong to the run, everything
    /// else disturbs it.
    #[must_use]
    pub fn start(pids: &[u32]) -> Self {
        Self {
            started: Instant::now(),
            machine: CpuTicks::read(),
            own: own_cpu_seconds(),
            pids: pids.iter().map(|&pid| (pid, process_cpu(pid))).collect(),
            kernel: kernel_threads(),
        }
    }

    /// Processor time that threads of the kernel have used since the start for
    /// ends of their own, such as looking for memory to take back, over that time.
    ///
    /// One processor in a hundred of the time is not seen in a rate and is all of
    /// a p99: such a thread and one that always has work take turns by the tick,
    /// several milliseconds each.
    #[must_use]
    pub fn kernel_share(&self) -> f64 {
        let used: Duration = kernel_threads()
            .into_iter()
            // One that is new has used all of it since.
            .map(|(pid, now)| now.saturating_sub(self.kernel.get(&pid).copied().unwrap_or_default()))
            .sum();
        used.as_secs_f64() / self.elapsed().as_secs_f64().max(1e-9)
    }

    /// Processor time of the watched processes, in seconds, in the order given.
    #[must_use]
    pub fn process_cpu_seconds(&self) -> Vec<f64> {
        self.pids
            .iter()
            .map(|&(pid, before)| (process_cpu(pid) - before).max(0.0))
            .collect()
    }

    /// What happened since the start.
    #[must_use]
    pub fn stop(&self) -> Disturbance {
        let now = CpuTicks::read();
        let total = (now.total - self.machine.total).max(0.0);
        if total <= 0.0 {
            return Disturbance::default();
        }
        let mut busy = (now.busy - self.machine.busy) / TICKS_PER_SECOND;
        busy -= own_cpu_seconds() - self.own;
        busy -= self.process_cpu_seconds().iter().sum::<f64>();
        Disturbance {
            // Ticks are 10 ms wide, so a short interval may come out below 0.
            others_share: (busy * TICKS_PER_SECOND / total).max(0.0),
            steal_share: (now.steal - self.machine.steal) / total,
        }
    }

    /// Time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

/// Processor time of every thread of the kernel, but of those that carry
/// datagrams from one process to another.
fn kernel_threads() -> HashMap<u32, Duration> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return HashMap::new();
    };
    processes
        .filter_map(|process| {
            let process = process.ok()?;
            let pid: u32 = process.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(process.path().join("stat")).ok()?;
            if !is_kernel_thread(&stat)? || stat.contains("(ksoftirqd/") {
                return None;
            }
            let text = fs::read_to_string(process.path().join("schedstat")).ok()?;
            Some((pid, schedstat_ran(&text)?))
        })
        .collect()
}

/// Whether `/proc/PID/stat` is a kernel thread's: `PF_KTHREAD` of the ninth field
/// (proc(5), include/linux/sched.h of Linux).
fn is_kernel_thread(stat: &str) -> Option<bool> {
    const PF_KTHREAD: u64 = 0x0020_0000;
    let after_name = stat.rsplit_once(')')?.1;
    let flags: u64 = after_name.split_whitespace().nth(6)?.parse().ok()?;
    Some(flags & PF_KTHREAD != 0)
}

/// The first number of `/proc/PID/schedstat`: nanoseconds on a processor
/// (Documentation/scheduler/sched-stats.rst of Linux).
fn schedstat_ran(text: &str) -> Option<Duration> {
    let ran = text.split_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(ran))
}

/// Looks for `window` whether others keep the machine busy. Blocks that long.
#[must_use]
pub fn disturbance_now(window: Duration) -> Disturbance {
    let watch = Watch::start(&[]);
    std::thread::sleep(window);
    watch.stop()
}

#[derive(Clone, Copy, Debug, Default)]
struct CpuTicks {
    total: f64,
    busy: f64,
    steal: f64,
}

impl CpuTicks {
    fn read() -> Self {
        fs::read_to_string("/proc/stat")
            .ok()
            .and_then(|text| cpu_ticks(&text))
            .unwrap_or_default()
    }
}

fn read(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim_end().to_owned())
}

fn cpu_model(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|l| l.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn process_cpu(pid: u32) -> f64 {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| stat_cpu_seconds(&stat))
        .unwrap_or(0.0)
}

fn own_cpu_seconds() -> f64 {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        u64::try_from(spent.tv_sec).unwrap_or(0),
        u32::try_from(spent.tv_nsec).unwrap_or(0),
    )
    .as_secs_f64()
}

/// `utime + stime` of `/proc/PID/stat` (proc(5): fields 14 and 15; the second
/// field may hold spaces, so fields are counted after its closing bracket).
fn stat_cpu_seconds(stat: &str) -> Option<f64> {
    let after_name = stat.rsplit_once(')')?.1;
    let mut fields = after_name.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

fn status_rss_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find(|l| l.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib << 10)
}

/// The first line of `/proc/stat`: user nice system idle iowait irq softirq
/// steal, in ticks (proc(5)).
fn cpu_ticks(stat: &str) -> Option<CpuTicks> {
    let line = stat.lines().find(|l| l.starts_with("cpu "))?;
    let ticks: Vec<f64> = line
        .split_whitespace()
        .skip(1)
        .take(8)
        .filter_map(|field| field.parse().ok())
        .collect();
    let [user, nice, system, idle, iowait, irq, softirq, steal] = ticks[..] else {
        return None;
    };
    let busy = user + nice + system + irq + softirq;
    Some(CpuTicks {
        total: busy + idle + iowait + steal,
        busy,
        steal,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_of_the_kernel_are_told_from_others_and_timed() {
        let kernel = "15 (rcu) x) I 2 0 0 0 -1 2129984 0 0 0 0 0 91 0 0 20 0 1 0 9 0 0";
        assert_eq!(is_kernel_thread(kernel), Some(true));
        let other = "7 (a b) S 1 7 7 0 -1 4194560 10 0 0 0 150 50 0 0 20 0 1 0 5 6 7";
        assert_eq!(is_kernel_thread(other), Some(false));
        assert_eq!(is_kernel_thread("7 (a) S 1"), None);
        assert_eq!(
            schedstat_ran("7000 250 3\n"),
            Some(Duration::from_nanos(7000))
        );
        assert_eq!(schedstat_ran("x"), None);
        assert!(!kernel_threads().contains_key(&std::process::id()));
    }

    #[test]
    fn what_the_kernel_used_since_the_start_counts_and_what_came_later_wholly() {
        let mut watch = Watch::start(&[]);
        let second = Duration::from_secs(1);
        watch.started = Instant::now().checked_sub(second).expect("up for a second");
        let quiet = watch.kernel_share();
        watch.kernel.clear();
        let everything: Duration = kernel_threads().values().sum();
        assert!(quiet <= 1.0, "{quiet}");
        assert!(
            watch.kernel_share() >= everything.as_secs_f64() * 0.5,
            "{everything:?}"
        );
    }

    #[test]
    fn processor_time_is_read_past_a_name_with_spaces_and_brackets() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 10 0 0 0 150 50 0 0 20 0 1 0 5 6 7";
        assert_eq!(stat_cpu_seconds(stat), Some(2.0));
        assert_eq!(stat_cpu_seconds("7 (a) S 1"), None);
    }

    #[test]
    fn the_machine_line_is_split_into_busy_idle_and_steal() {
        let ticks = cpu_ticks("cpu  10 1 5 80 2 1 1 3 0 0\ncpu0 1 2\n").expect("well formed");
        assert!((ticks.busy - 18.0).abs() < 1e-9);
        assert!((ticks.total - 103.0).abs() < 1e-9);
        assert!((ticks.steal - 3.0).abs() < 1e-9);
        assert!(cpu_ticks("cpu  1 2 3\n").is_none());
    }

    #[test]
    fn a_spawned_process_starts_on_the_processors_asked_for() {
        let first = *affinity().first().expect("there is a processor");
        let before = affinity();
        let output = bound_to(&[first], || {
            std::process::Command::new("cat")
                .arg("/proc/self/status")
                .output()
        })
        .expect("cat runs");
        assert_eq!(affinity(), before, "the caller has its own set back");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text
            .lines()
            .find(|l| l.starts_with("Cpus_allowed_list:"))
            .expect("the kernel shows it");
        assert!(line.ends_with(&format!("\t{first}")), "{line}");
    }

    #[test]
    fn facts_of_this_machine_are_readable() {
        let facts = MachineFacts::read();
        assert!(!facts.cpus.is_empty());
        assert_ne!(facts.kernel, "unknown");
        assert!(facts.line().contains("usable CPUs"));
    }

    #[test]
    fn resident_memory_of_this_process_is_not_zero() {
        let own = ProcessUse::of(std::process::id()).expect("this process runs");
        assert!(own.rss_bytes > 0);
        assert_eq!(ProcessUse::of(u32::MAX), None);
    }
}
