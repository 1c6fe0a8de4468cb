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
        "all right",
    ] {
        assert!(said.contains(line), "{line:?} is missing:\n{said}");
    }
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
