//! What a seed promises: the same world every time, whoever asks.
#![allow(clippy::unwrap_used, missing_docs)]

use simulator::campaign::{self, Enough, Kind, Totals, run_seed};
use simulator::log::rot;

const STEPS: u64 = 150;

#[test]
fn one_seed_is_one_world_and_another_seed_another() {
    for kind in [
        Kind::Full,
        Kind::Lying,
        Kind::Node,
        Kind::Lossy,
        Kind::Plane,
    ] {
        let hash = |seed| run_seed(kind, seed, STEPS, None).map(|outcome| outcome.hash);
        let first = hash(3).unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!(hash(3).ok(), Some(first), "{kind:?}");
        assert_ne!(hash(4).ok(), Some(first), "{kind:?}");
    }
}

#[test]
fn what_a_campaign_covers_does_not_depend_on_its_threads() {
    let run = |threads| {
        let (totals, failures) = campaign::run(Kind::Fault, 1, Enough::Seeds(2), threads, 1, None);
        assert!(failures.is_empty(), "{}", failures[0]);
        totals.to_string()
    };
    let alone = run(1);
    assert_eq!(alone, run(2));
    assert!(alone.contains("requests made to fail"), "{alone}");
}

#[test]
fn control_planes_of_one_and_of_several_keep_their_promises() {
    let (totals, failures) = campaign::run(Kind::Plane, 1, Enough::Seeds(12), 1, 1, None);
    assert!(failures.is_empty(), "{}", failures[0]);
    let plane = totals.plane;
    assert!(plane.ones > 0 && plane.threes > 0 && plane.fives > 0);
    assert!(plane.writes > 100 && plane.reads > 100 && plane.watched > 100);
    assert!(plane.crashes > 0 && plane.elections > 0, "{totals}");
}

#[test]
fn bits_that_are_turned_over_are_noticed_or_needed_by_nobody() {
    // A log whose segments a checkpoint stands for in part: bits are noticed at
    // opening and at reading.
    let rot = rot::flip(1, 100).unwrap_or_else(|violation| panic!("{violation}"));
    let totals = Totals {
        rot,
        ..Totals::default()
    };
    assert_eq!(
        rot.flips,
        rot.at_opening + rot.refused + rot.at_reading + rot.harmless
    );
    assert!(rot.in_live_records > 0);
    assert!(totals.never_met(&[Kind::Rot]).is_empty(), "{totals}");
}

/// A crash before the first write: found in the volume of a night.
#[test]
fn a_log_that_nothing_was_written_to_has_no_bit_to_turn_over() {
    let counts = rot::flip(1481, 10).unwrap_or_else(|violation| panic!("{violation}"));
    assert_eq!(counts.flips, 0);
}

#[test]
fn what_a_campaign_promises_and_never_meets_is_named() {
    let (totals, failures) = campaign::run(Kind::Lying, 1, Enough::Seeds(3), 1, 1, None);
    assert!(failures.is_empty(), "{}", failures[0]);
    assert!(totals.never_met(&[Kind::Lying]).is_empty(), "{totals}");
    let never = totals.never_met(&[Kind::Lying, Kind::Rot]);
    assert!(never.contains(&"bits turned over"), "{never:?}");
    assert!(never.contains(&"noticed at reading"), "{never:?}");
    assert!(!never.contains(&"crash points"), "nobody asked for crashes");
}
