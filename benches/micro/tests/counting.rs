//! The counter itself, through valgrind: the same work gives the same count,
//! longer work a longer one.

use std::path::Path;

use pinion_micro::instructions::baseline::{Baseline, Tools};
use pinion_micro::instructions::callgrind::{self, CountError};
use pinion_micro::instructions::{CALIBRATION, Count, Verdict, compare};

/// Counts of one name may differ by this between two processes, in percent.
const REPEATABLE_PERCENT: f64 = 0.1;

fn count(valgrind: &Path, name: &str) -> f64 {
    let program = Path::new(env!("CARGO_BIN_EXE_instructions"));
    callgrind::count(valgrind, program, name).expect("it can be counted")
}

#[test]
fn a_path_that_became_longer_fails_and_an_unchanged_one_does_not() {
    let valgrind = match callgrind::find_valgrind(std::env::var_os("PATH").as_deref()) {
        Ok(valgrind) => valgrind,
        // `scripts/test` installs it; without it the rest is still tested.
        Err(error) => return eprintln!("nothing was counted: {error}"),
    };
    let [short, long] = CALIBRATION.map(|path| path.name);
    let first = count(&valgrind, short);
    let baseline = Baseline {
        tools: Tools {
            compiler: String::new(),
            machine: String::new(),
            libc: String::new(),
        },
        counts: vec![Count {
            name: short.to_owned(),
            instructions: first,
        }],
    };
    // As if the path itself had changed between the two.
    let judge = |counted: &str| {
        let count = Count {
            name: short.to_owned(),
            instructions: count(&valgrind, counted),
        };
        compare(&baseline, &[count]).remove(0)
    };

    let again = judge(short);
    assert_eq!(again.verdict, Verdict::Same);
    let change = again.change_percent().expect("both are known");
    assert!(change.abs() < REPEATABLE_PERCENT, "{change} %");

    let slowed = judge(long);
    assert_eq!(slowed.verdict, Verdict::Slower, "{slowed:?}");
    assert!(slowed.verdict.fails(true));
    let change = slowed.change_percent().expect("both are known");
    assert!((9.0..11.0).contains(&change), "a tenth more: {change} %");
}

#[test]
fn a_path_nobody_knows_is_an_error() {
    let Ok(valgrind) = callgrind::find_valgrind(std::env::var_os("PATH").as_deref()) else {
        return eprintln!("valgrind is not installed");
    };
    let program = Path::new(env!("CARGO_BIN_EXE_instructions"));
    let error = callgrind::count(&valgrind, program, "no such path").expect_err("unknown");
    assert!(matches!(error, CountError::Failed { .. }), "{error}");
}
