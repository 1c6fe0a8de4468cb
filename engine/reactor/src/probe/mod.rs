//! Whether this machine can run a node, and what keeps it from running well.
//!
//! [`start_up`] asks what a node cannot do without and costs less than 5 ms;
//! [`doctor`] asks everything. Both say what was found and how to change it, in
//! words an operator can act on: the core's own errors would only say which
//! call failed. Reading and judging are apart, so that the judging is tested on
//! machines nobody has at hand.
//!
//! The probes open rings, sockets and a file, and close them again. They change
//! one thing: soft limits of this process are raised to their hard limits, as
//! [`raise_limits`] does.

mod cpu;
mod disk;
mod limits;
mod network;
mod uring;

use std::fmt;
use std::fs;
use std::path::Path;

pub use limits::raise_limits;

/// What a process that found a fatal fault exits with (R1): `EX_CONFIG` of
/// sysexits(3). Supervisors may take it as "do not restart, call a human".
pub const EXIT_UNSUPPORTED: u8 = 78;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it should be.
    Ok,
    /// A node runs, but slower or with less room than it could.
    Warn,
    /// A node cannot run.
    Fatal,
}

/// The answer to one question about this machine.
///
/// Its `Display` is one line: the question, what was found, and the fix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was asked: at most 16 characters, the same on every machine.
    pub check: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What was found, with its numbers.
    pub found: String,
    /// What to do; `None` when there is nothing to do.
    pub fix: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self {
            check,
            severity: Severity::Ok,
            found: found.into(),
            fix: None,
        }
    }

    fn warn(check: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            check,
            severity: Severity::Warn,
            found: found.into(),
            fix: Some(fix.into()),
        }
    }

    fn fatal(check: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            severity: Severity::Fatal,
            ..Self::warn(check, found, fix)
        }
    }

    /// True when a node cannot run.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        self.severity == Severity::Fatal
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.check, self.found)?;
        match &self.fix {
            Some(fix) => write!(f, "; fix: {fix}"),
            None => Ok(()),
        }
    }
}

/// What a node cannot do without, for every start. Raises soft limits first.
///
/// `data_dir` need not exist yet.
#[must_use]
pub fn start_up(data_dir: &Path) -> Vec<Finding> {
    raise_limits();
    let cores = crate::cpu::usable().map_or(1, |usable| usable.cores_max);
    let mut findings = uring::check();
    findings.push(limits::memlock(cores));
    findings.push(limits::open_files(cores));
    findings.push(disk::writable(data_dir));
    findings
}

/// What is known of the disk under `dir`, which need not exist yet: may it be
/// written, what file system it is, whether it takes direct I/O, how long a
/// durable write takes, how much room there is. Takes 50 such writes, 2 s at
/// most, and leaves nothing behind.
#[must_use]
pub fn disk(dir: &Path) -> Vec<Finding> {
    disk::check(dir)
}

/// Everything, for `pinion doctor`. Raises soft limits first. Writes and
/// removes a few small files in `data_dir`, or in the nearest directory above it
/// that exists.
///
/// `cores` is how many data cores the node will have.
#[must_use]
pub fn doctor(data_dir: &Path, cores: usize) -> Vec<Finding> {
    raise_limits();
    let mut findings = uring::check();
    findings.push(limits::memlock(cores));
    findings.push(limits::open_files(cores));
    findings.extend(cpu::check());
    findings.extend(network::check());
    findings.extend(disk(data_dir));
    findings
}

/// A file of `/proc` or `/sys` without its line end; `None` where it is absent
/// or not for us to read.
fn read(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim_end().to_owned())
}

/// A field of `/proc/self/status`.
fn status_field(status: &str, name: &str) -> Option<String> {
    status.lines().find_map(|line| {
        let value = line.strip_prefix(name)?.strip_prefix(':')?;
        Some(value.trim().to_owned())
    })
}

/// True when this process has effective capability number `bit`
/// (capabilities(7)).
fn has_capability(status: &str, bit: u32) -> bool {
    status_field(status, "CapEff")
        .and_then(|mask| u64::from_str_radix(&mask, 16).ok())
        .is_some_and(|mask| mask >> bit & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str =
        "Name:\tpinion\nSeccomp:\t2\nSeccomp_filters:\t1\nCapEff:\t0000000000004000\n";

    #[test]
    fn a_finding_is_one_line_with_its_fix() {
        let finding = Finding::fatal("memlock", "64 KiB may be locked", "ulimit -l 512");
        assert_eq!(
            finding.to_string(),
            "memlock: 64 KiB may be locked; fix: ulimit -l 512"
        );
        assert!(finding.is_fatal());
        let fine = Finding::ok("clock", "tsc");
        assert_eq!(fine.to_string(), "clock: tsc");
        assert!(!fine.is_fatal());
    }

    #[test]
    fn a_field_of_the_status_is_not_mistaken_for_one_that_begins_alike() {
        assert_eq!(status_field(STATUS, "Seccomp").as_deref(), Some("2"));
        assert_eq!(status_field(STATUS, "Sec"), None);
    }

    #[test]
    fn a_capability_is_one_bit_of_the_effective_mask() {
        assert!(has_capability(STATUS, 14));
        assert!(!has_capability(STATUS, 13));
        assert!(!has_capability("", 14));
    }
}
