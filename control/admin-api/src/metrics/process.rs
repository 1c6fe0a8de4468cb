//! What the kernel says of this process.

use core::time::Duration;
use std::fs;

/// Facts of a process, as far as `/proc` shows them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct ProcessFacts {
    pub(crate) resident_bytes: Option<u64>,
    pub(crate) virtual_bytes: Option<u64>,
    pub(crate) threads: Option<u64>,
    /// Processor time, of the process and in the kernel.
    pub(crate) cpu: Option<Duration>,
    pub(crate) open_files: Option<u64>,
    /// Most files that may be open.
    pub(crate) files_max: Option<u64>,
}

/// Ticks of a second in what the kernel shows: 100 on every architecture that Pinion
/// runs on, whatever the kernel itself goes by (proc(5), `USER_HZ`).
const TICKS: u64 = 100;

/// Looks. A few reads of files that are in memory.
pub(crate) fn look() -> ProcessFacts {
    let read = |name| fs::read_to_string(format!("/proc/self/{name}")).ok();
    let status = read("status").unwrap_or_default();
    // The folder that is read is open itself.
    let files = fs::read_dir("/proc/self/fd").map(|entries| entries.count().saturating_sub(1));
    ProcessFacts {
        resident_bytes: first_number(&status, "VmRSS:").map(|kib| kib * 1024),
        virtual_bytes: first_number(&status, "VmSize:").map(|kib| kib * 1024),
        threads: first_number(&status, "Threads:"),
        cpu: read("stat").and_then(|text| cpu(&text)),
        open_files: files.ok().map(|count| count as u64),
        files_max: read("limits").and_then(|text| first_number(&text, "Max open files")),
    }
}

/// Processor time of the thread that asks, with that of the kernel for it; `None` where
/// `/proc` does not show it. Of a thread that sleeps when it has nothing to do it is the time
/// that it worked.
pub(crate) fn thread_cpu() -> Option<Duration> {
    let read = |name| fs::read_to_string(format!("/proc/thread-self/{name}")).ok();
    // To the nanosecond where the kernel keeps that, otherwise to a tick.
    let exact = read("schedstat").and_then(|text| nanos(&text));
    exact.or_else(|| read("stat").and_then(|text| cpu(&text)))
}

/// From `/proc/thread-self/schedstat`: the first number is time on a processor (Linux,
/// `Documentation/scheduler/sched-stats.rst`).
fn nanos(text: &str) -> Option<Duration> {
    let first = text.split_ascii_whitespace().next()?;
    first.parse().ok().map(Duration::from_nanos)
}

/// What follows `name` where a line begins with it.
fn first_number(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

/// From `/proc/self/stat`.
fn cpu(text: &str) -> Option<Duration> {
    // The name may have anything in it, also a parenthesis.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // The first of them is the third of the line.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let ticks = field(14)? + field(15)?;
    Some(Duration::from_millis(ticks.saturating_mul(1000 / TICKS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_shifts_nothing() {
        let text = "42 (a) R 1) S 1 2 3 0 -1 4194560 5 6 7 8 250 50 0 0 20 0 9 0 100 8192000";
        assert_eq!(cpu(text), Some(Duration::from_secs(3)));
        assert_eq!(cpu("42 (a) S 1 2"), None);
    }

    #[test]
    fn numbers_are_found_by_the_beginning_of_their_line() {
        let text = "Limit            Soft Limit  Hard Limit  Units\n\
                    Max open files   1024        1048576     files\n\
                    Max pending signals unlimited unlimited signals\n";
        assert_eq!(first_number(text, "Max open files"), Some(1024));
        assert_eq!(first_number(text, "Max pending signals"), None, "unlimited");
        assert_eq!(first_number(text, "Threads:"), None);
    }

    #[test]
    fn a_thread_that_works_has_spent_time() {
        assert_eq!(nanos("1500 7 3"), Some(Duration::from_nanos(1500)));
        assert_eq!(nanos(""), None);
        let before = thread_cpu().expect("/proc shows it");
        let mut sum = 0_u64;
        while thread_cpu().expect("it did") < before + Duration::from_millis(20) {
            sum = (0..100_000).fold(sum, u64::wrapping_add);
        }
        assert!(sum > 0);
    }

    #[test]
    fn this_process_has_files_and_memory() {
        let facts = look();
        assert!(
            facts.open_files.is_some_and(|files| files >= 3),
            "{facts:?}"
        );
        assert!(
            facts.resident_bytes.is_some_and(|bytes| bytes > 100_000),
            "{facts:?}"
        );
        assert!(
            facts.threads.is_some_and(|threads| threads >= 1),
            "{facts:?}"
        );
        assert!(facts.cpu.is_some(), "{facts:?}");
    }
}
