//! Violations made on purpose: each is found, and found again from its seed.
#![allow(clippy::unwrap_used, missing_docs)]

use simulator::campaign::{self, Enough, Kind, run_seed};
use simulator::node::Injection;

/// Seeds among which one must show it.
const SEEDS: u64 = 20;

fn found_and_found_again(injection: Injection) {
    let (_, failures) = campaign::run(Kind::Node, 1, Enough::Seeds(SEEDS), 1, 1, Some(injection));
    let found = failures.first().expect("a wrong disk is noticed");
    assert!(found.options().contains("--inject"), "{found}");
    let again = || run_seed(found.kind, found.seed, found.steps, Some(injection));
    for _ in 0..2 {
        let violation = again().err().map(|failure| failure.violation);
        assert_eq!(violation.as_ref(), Some(&found.violation), "same history");
    }
    assert!(found.violation.hash.is_some(), "{found}");
    let without = run_seed(found.kind, found.seed, found.steps, None);
    assert!(without.is_ok(), "only what was injected is noticed");
}

#[test]
fn a_write_that_is_lost_after_its_acknowledgement_is_found() {
    found_and_found_again(Injection::LostWrite);
}

#[test]
fn a_write_that_lands_elsewhere_is_found() {
    found_and_found_again(Injection::StrayWrite);
}

#[test]
fn a_bit_that_is_wrong_in_a_read_is_found() {
    found_and_found_again(Injection::FlippedBit);
}
