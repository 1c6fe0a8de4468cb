//! `pinion demo` as people run it: it comes out right, and its checks can fail.
#![allow(clippy::unwrap_used, missing_docs)]

use std::process::{Command, Output};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Faster than by default; nothing here depends on how fast.
fn demo(options: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pinion"))
        .args(["demo", "--rate", "10000"])
        .args(options)
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    text(&output.stdout) + &text(&output.stderr)
}

#[test]
fn every_record_of_the_data_set_comes_out_right() {
    let output = demo(&[]);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    for line in [
        "published    20,000 records acknowledged",
        "audit        20,000 records",
        "board        20,000 records",
        "= 20,000 (slow on purpose)",
        "220 of 220 airports held; 220 ended",
        "kept         20,000 records acknowledged on disk",
        "live         20,000 records",
        "reread       20,000 records",
        "work         20,000 messages put and finished once",
        "all right",
    ] {
        assert!(said.contains(line), "{line:?} is missing:\n{said}");
    }
    the_kill_came_in_the_middle(&said);
}

/// It found work half done, and requests of every kind on the way.
fn the_kill_came_in_the_middle(said: &str) {
    let numbers = |name: &str| -> Vec<u64> {
        let line = said.lines().find(|line| line.trim().starts_with(name));
        let line = line.unwrap_or_else(|| panic!("no line {name:?}:\n{said}"));
        line.replace(',', "")
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect()
    };
    let [killed, records, messages, publishes, puts, work] = numbers("killed")[..] else {
        panic!("{said}");
    };
    for done in [records, messages] {
        assert!((10_000..20_000).contains(&done), "{done}:\n{said}");
    }
    for on_the_way in [publishes, puts, work] {
        assert!(on_the_way > 0, "{said}");
    }
    assert_ne!(killed, numbers("restarted")[0], "{said}");
}

#[test]
fn it_fails_when_a_subscriber_is_killed() {
    let output = demo(&["--sabotage", "kill-subscriber", "--records", "5000"]);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("audit: partition "), "{said}");
    assert!(
        said.contains("audit: 2500 records and 0 announced as skipped are not 5000"),
        "{said}"
    );
    assert!(!said.contains("all right"), "{said}");
}

#[test]
fn it_fails_when_a_record_is_corrupted() {
    let output = demo(&["--sabotage", "corrupt-record", "--records", "5000"]);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for subscriber in ["audit", "board"] {
        let line = format!("{subscriber}: partition ");
        assert!(said.contains(&line), "{said}");
    }
    assert!(
        said.contains("has another value than row 2500, which was published there"),
        "{said}"
    );
}

#[test]
fn it_fails_when_a_record_is_not_there_after_the_kill() {
    let output = demo(&["--sabotage", "lose-record", "--records", "5000"]);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("reread: row "), "{said}");
    assert!(said.contains("and is not there"), "{said}");
    assert!(!said.contains("all right"), "{said}");
}

#[test]
fn it_fails_when_a_message_comes_again_after_its_acknowledgement() {
    let output = demo(&["--sabotage", "repeat-message", "--records", "5000"]);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("was acknowledged and came again"), "{said}");
    assert!(!said.contains("all right"), "{said}");
}

#[test]
fn it_fails_when_the_disk_loses_what_was_on_it() {
    let output = demo(&["--sabotage", "lose-data", "--records", "5000"]);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("WRONG"), "{said}");
    assert!(!said.contains("all right"), "{said}");
}

#[test]
fn it_runs_where_one_cpu_is_all_there_is() {
    // The node's cores, its control thread and the clients share it. A child
    // inherits the mask of the thread that starts it.
    let mask = sched_getaffinity(None).unwrap();
    let cpu = (0..CpuSet::MAX_CPU).find(|cpu| mask.is_set(*cpu)).unwrap();
    let mut one = CpuSet::new();
    one.set(cpu);
    sched_setaffinity(None, &one).unwrap();
    let output = demo(&["--records", "5000"]);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let both = format!("on data CPU [{cpu}], control CPU {cpu}");
    assert!(said.contains(&both), "{said}");
}
