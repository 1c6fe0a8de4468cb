//! CPUs and clock: what limits the cores, and what a look at the clock costs.

use std::io;
use std::time::{Duration, Instant};

use super::{Finding, read};
use crate::cpu::{UsableCpus, throttled, usable};

/// Clock sources which the process reads without entering the kernel (vDSO).
const CLOCKS_IN_USER_SPACE: [&str; 5] = [
    "tsc",
    "kvm-clock",
    "hyperv_clocksource_tsc_page",
    "arch_sys_counter",
    "riscv_clocksource",
];

/// Readings over which the cost of one is averaged; 25 ns each make 50 µs.
const CLOCK_READINGS: u32 = 2000;

pub(super) fn check() -> Vec<Finding> {
    let mut findings = judge_cpus(usable(), throttled());
    let source = read("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    findings.push(judge_clock(source.as_deref(), clock_cost()));
    findings
}

fn judge_cpus(usable: io::Result<UsableCpus>, throttled: Option<u64>) -> Vec<Finding> {
    let usable = match usable {
        Ok(usable) => usable,
        Err(error) => {
            let fix = "compare `taskset -p $$` with cpuset.cpus.effective of the control group";
            return vec![Finding::fatal("cpus", error.to_string(), fix)];
        }
    };
    let UsableCpus {
        allowed,
        cores_max,
        online,
        ..
    } = &usable;
    let mut findings = vec![Finding::ok(
        "cpus",
        format!("{cores_max} usable, of {allowed:?} allowed and {online} online"),
    )];
    let whole = "grant whole CPUs: `docker run --cpus 2 --cpuset-cpus 0-1`, Kubernetes static CPU manager with integer limits, or CPUQuota= in steps of 100%";
    let warnings = usable.warnings();
    findings.extend(
        warnings
            .into_iter()
            .map(|found| Finding::warn("cpu quota", found, whole)),
    );
    if let Some(count) = throttled.filter(|count| *count > 0) {
        let found =
            format!("the kernel has stopped this control group {count} times for its quota");
        findings.push(Finding::warn("cpu throttling", found, whole));
    }
    findings
}

fn clock_cost() -> Duration {
    let start = Instant::now();
    (1..CLOCK_READINGS).for_each(|_| {
        std::hint::black_box(Instant::now());
    });
    start.elapsed() / CLOCK_READINGS
}

fn judge_clock(source: Option<&str>, cost: Duration) -> Finding {
    const CHECK: &str = "clock";
    let Some(source) = source else {
        return Finding::ok(CHECK, format!("source not told, {cost:?} a reading"));
    };
    let found = format!("{source}, {cost:?} a reading");
    if CLOCKS_IN_USER_SPACE.contains(&source) {
        return Finding::ok(CHECK, found);
    }
    Finding::warn(
        CHECK,
        format!("{found}: each reading enters the kernel"),
        "boot with clocksource=tsc tsc=reliable if the CPU's counter is constant (`dmesg | grep -i tsc`)",
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::Severity;
    use super::*;
    use crate::cpu::CpuQuota;

    fn machine(quota_us: Option<u64>) -> io::Result<UsableCpus> {
        let quota = quota_us.map(|quota_us| CpuQuota {
            quota_us,
            period_us: 100_000,
        });
        UsableCpus::judge(&[0, 1, 2, 3], None, quota, 8)
    }

    #[test]
    fn whole_cpus_are_fine_and_a_broken_quota_is_a_warning_with_a_fix() {
        let fine = judge_cpus(machine(None), Some(0));
        assert_eq!(fine.len(), 1);
        assert_eq!(fine[0].severity, Severity::Ok);
        let findings = judge_cpus(machine(Some(250_000)), Some(7));
        let checks: Vec<_> = findings.iter().map(|finding| finding.check).collect();
        assert_eq!(checks, ["cpus", "cpu quota", "cpu quota", "cpu throttling"]);
        assert!(
            findings[1..]
                .iter()
                .all(|finding| finding.severity == Severity::Warn
                    && finding.fix.as_ref().unwrap().contains("whole CPUs"))
        );
        assert!(findings[3].found.contains("7 times"), "{}", findings[3]);
    }

    #[test]
    fn a_mask_outside_the_cpuset_is_fatal() {
        let impossible = UsableCpus::judge(&[0], Some(vec![1]), None, 2);
        assert!(judge_cpus(impossible, None)[0].is_fatal());
    }

    #[test]
    fn a_clock_inside_the_kernel_is_a_warning() {
        let cost = Duration::from_nanos(25);
        assert_eq!(judge_clock(Some("tsc"), cost).severity, Severity::Ok);
        assert_eq!(judge_clock(None, cost).severity, Severity::Ok);
        let slow = judge_clock(Some("hpet"), Duration::from_micros(1));
        assert_eq!(slow.severity, Severity::Warn);
        assert!(slow.found.contains("hpet, 1µs"), "{slow}");
    }
}
