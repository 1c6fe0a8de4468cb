//! Limits of this process: locked memory and open files.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{Finding, has_capability, read};
use crate::core_loop::IO_MEMORY_BYTES;

/// What glommio demands before it makes an executor's rings, of every user,
/// root included.
const MEMLOCK_BYTES_MIN: u64 = 512 << 10;

/// Rings of one executor. Each registers the executor's I/O memory anew, and
/// the kernel counts it anew.
const RINGS_PER_EXECUTOR: u64 = 3;

/// Open files of one data core: three rings of glommio's and their eventfds,
/// two rings and two eventfds of ours, two handles of the socket, the data
/// directory and up to 32 files of logs, with a few folders while files are
/// made. Counted: 13 without a log.
const FILES_PER_CORE: u64 = 56;

/// Open files of the process besides.
const FILES_BASE: u64 = 64;

/// Capability whose holder's locked memory is not counted.
const CAP_IPC_LOCK: u32 = 14;

/// Raises the soft limits of locked memory and open files to the hard ones,
/// which needs no privilege. A limit that cannot be raised stays as it is.
pub fn raise_limits() {
    for resource in [Resource::Memlock, Resource::Nofile] {
        let Rlimit { current, maximum } = getrlimit(resource);
        if current != maximum {
            let raised = Rlimit {
                current: maximum,
                maximum,
            };
            // Refused by some sandboxes: then the limit counts as it stands,
            // and the findings say what it is.
            let _ = setrlimit(resource, raised);
        }
    }
}

pub(super) fn memlock(cores: usize) -> Finding {
    let status = read("/proc/self/status").unwrap_or_default();
    judge_memlock(
        getrlimit(Resource::Memlock).current,
        cores,
        has_capability(&status, CAP_IPC_LOCK),
    )
}

fn judge_memlock(limit: Option<u64>, cores: usize, uncounted: bool) -> Finding {
    const CHECK: &str = "memlock";
    let Some(limit) = limit else {
        return Finding::ok(CHECK, "no limit of locked memory");
    };
    let registered = cores as u64 * RINGS_PER_EXECUTOR * IO_MEMORY_BYTES as u64;
    let need = registered.max(MEMLOCK_BYTES_MIN);
    let (limit_kib, need_kib) = (limit >> 10, need >> 10);
    let fix = format!(
        "`ulimit -l {need_kib}` before the start, LimitMEMLOCK={need_kib}K in the systemd unit, or --ulimit memlock={need}:{need} for the container"
    );
    if limit < MEMLOCK_BYTES_MIN {
        let found = format!(
            "{limit_kib} KiB of memory may be locked, {need_kib} KiB are needed for the rings of {cores} data core(s)"
        );
        return Finding::fatal(CHECK, found, fix);
    }
    if limit < registered && !uncounted {
        let found = format!(
            "{limit_kib} KiB of memory may be locked, {need_kib} KiB are needed for the disk buffers of {cores} data cores; some go without registered buffers"
        );
        return Finding::warn(CHECK, found, fix);
    }
    Finding::ok(
        CHECK,
        format!("{limit_kib} KiB of memory may be locked, {need_kib} KiB are needed"),
    )
}

pub(super) fn open_files(cores: usize) -> Finding {
    judge_open_files(getrlimit(Resource::Nofile).current, cores)
}

fn judge_open_files(limit: Option<u64>, cores: usize) -> Finding {
    const CHECK: &str = "open files";
    let need = FILES_BASE + cores as u64 * FILES_PER_CORE;
    let limit = limit.unwrap_or(u64::MAX);
    let found = format!("{limit} files may be open, {need} are needed for {cores} data core(s)");
    if limit < need {
        let fix = format!(
            "`ulimit -n {need}` before the start, LimitNOFILE={need} in the systemd unit, or --ulimit nofile={need}:{need} for the container"
        );
        return Finding::fatal(CHECK, found, fix);
    }
    Finding::ok(CHECK, found)
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::*;

    #[test]
    fn locked_memory_below_what_an_executor_demands_is_fatal_whoever_asks() {
        for uncounted in [false, true] {
            let finding = judge_memlock(Some(64 << 10), 1, uncounted);
            assert_eq!(finding.severity, Severity::Fatal);
            let text = finding.to_string();
            for word in [
                "64 KiB",
                "512 KiB",
                "ulimit -l 512",
                "LimitMEMLOCK=512K",
                "--ulimit memlock=524288:524288",
            ] {
                assert!(text.contains(word), "{word:?} is missing in {text:?}");
            }
        }
    }

    #[test]
    fn the_need_grows_with_the_cores_and_is_counted_against_plain_users_only() {
        // 192 KiB a core: 512 KiB suffice for two, not for three.
        let severity = |cores, uncounted| judge_memlock(Some(512 << 10), cores, uncounted).severity;
        assert_eq!(severity(2, false), Severity::Ok);
        assert_eq!(severity(3, false), Severity::Warn);
        assert_eq!(severity(3, true), Severity::Ok);
        assert_eq!(judge_memlock(None, 1000, false).severity, Severity::Ok);
        assert!(
            judge_memlock(Some(512 << 10), 8, false)
                .to_string()
                .contains("ulimit -l 1536")
        );
    }

    #[test]
    fn too_few_open_files_for_the_cores_are_fatal() {
        assert!(judge_open_files(Some(100), 1).is_fatal());
        assert!(!judge_open_files(Some(120), 1).is_fatal());
        assert!(judge_open_files(Some(120), 2).is_fatal());
        assert!(!judge_open_files(None, 64).is_fatal());
    }
}
