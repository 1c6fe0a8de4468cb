//! The probes on machines that cannot run a node: each story runs in a child
//! process of its own, as a filter and a lowered hard limit stay for ever.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use pinion_reactor::probe::{self, Finding};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Set in a child, to the soft and hard limit of locked memory to run under;
/// empty leaves them.
const CHILD: &str = "PINION_TEST_PROBE_MEMLOCK";

/// What a child prints before each finding.
const MARK: &str = "finding ";

/// Not a story: the child's part of the others. Without its environment it does
/// nothing.
#[test]
fn child() {
    let Ok(memlock) = std::env::var(CHILD) else {
        return;
    };
    if let Some((soft, hard)) = memlock.split_once(':') {
        let limit = Rlimit {
            current: Some(soft.parse().unwrap()),
            maximum: Some(hard.parse().unwrap()),
        };
        setrlimit(Resource::Memlock, limit).unwrap();
    }
    let place = tempfile::tempdir().unwrap();
    for (name, findings) in [
        ("start_up", probe::start_up(place.path())),
        ("doctor", probe::doctor(place.path(), 1)),
    ] {
        for finding in findings {
            println!("{MARK}{name} {:?} {finding}", finding.severity);
        }
    }
    let Rlimit { current, maximum } = getrlimit(Resource::Memlock);
    println!("{MARK}limits {current:?} {maximum:?}");
}

/// Runs the probes in a child; with io_uring denied if `denied`, and under
/// `memlock` ("soft:hard"). Returns its lines.
fn probe_in_child(denied: bool, memlock: &str) -> Vec<String> {
    let this = std::env::current_exe().unwrap();
    let mut command = if denied {
        let mut command = Command::new(env!("CARGO_BIN_EXE_deny-io-uring"));
        command.arg(this);
        command
    } else {
        Command::new(this)
    };
    let output = command
        .args(["--exact", "child", "--nocapture"])
        .env(CHILD, memlock)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    // The harness prints its own words before the first finding's line.
    let lines = text.lines().filter_map(|line| line.split_once(MARK));
    lines.map(|(_, finding)| finding.to_owned()).collect()
}

fn fatal(lines: &[String], probe: &str) -> Vec<String> {
    let prefix = format!("{probe} Fatal ");
    let lines = lines.iter().filter_map(|line| line.strip_prefix(&prefix));
    lines.map(str::to_owned).collect()
}

fn says(line: &str, words: &[&str]) {
    for word in words {
        assert!(line.contains(word), "{word:?} is missing in {line:?}");
    }
}

#[test]
fn a_seccomp_filter_that_denies_io_uring_is_fatal_and_named_with_its_fix() {
    let lines = probe_in_child(true, "");
    for probe in ["start_up", "doctor"] {
        let fatal = fatal(&lines, probe);
        assert_eq!(fatal.len(), 1, "{lines:#?}");
        says(
            &fatal[0],
            &[
                "io_uring: a seccomp filter refuses io_uring_setup",
                "fix: allow io_uring_setup, io_uring_enter and io_uring_register in the seccomp profile",
                "--security-opt seccomp=",
            ],
        );
    }
}

#[test]
fn a_low_limit_of_locked_memory_is_fatal_and_named_with_its_number_and_fix() {
    let lines = probe_in_child(false, "65536:65536");
    for probe in ["start_up", "doctor"] {
        let fatal = fatal(&lines, probe);
        assert_eq!(fatal.len(), 1, "{lines:#?}");
        says(
            &fatal[0],
            &[
                "memlock: 64 KiB",
                "512 KiB are needed",
                "ulimit -l 512",
                "LimitMEMLOCK=512K",
                "--ulimit memlock=524288:524288",
            ],
        );
    }
}

#[test]
fn a_low_soft_limit_is_raised_without_a_word() {
    let lines = probe_in_child(false, "65536:2097152");
    assert_eq!(fatal(&lines, "start_up"), [""; 0], "{lines:#?}");
    assert_eq!(lines.last().unwrap(), "limits Some(2097152) Some(2097152)");
}

#[test]
fn a_healthy_machine_has_no_fatal_finding_and_every_check_speaks_once_or_more() {
    let place = tempfile::tempdir().unwrap();
    let findings = probe::doctor(place.path(), 1);
    assert!(!findings.iter().any(Finding::is_fatal), "{findings:#?}");
    for check in [
        "io_uring",
        "memlock",
        "open files",
        "cpus",
        "clock",
        "udp buffers",
        "udp offload",
        "udp steering",
        "data directory",
        "file system",
        "direct i/o",
        "disk latency",
        "disk space",
    ] {
        assert!(
            findings.iter().any(|finding| finding.check == check),
            "{check} is missing: {findings:#?}"
        );
    }
    for finding in &findings {
        // One legible line, and the column of checks stays one.
        assert!(finding.check.len() <= 16 && !finding.to_string().contains('\n'));
    }
}
