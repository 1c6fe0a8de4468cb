//! What a log writes, the tools for people read: nothing to complain about while
//! it runs and after it was sealed, nothing but notes after a crash.

#![allow(clippy::unwrap_used)]

mod support;

use pinion_commitlog::inspect::{Fault, Finding, VerifyReport, dump, list, verify};
use pinion_commitlog::{Files, LogId, Lsn};
use pinion_types::{Offset, PartitionId, ResourceId};
use support::*;

const LOG: LogId = LogId(0);

fn verified(disk: &mut impl Files) -> (VerifyReport, Vec<Finding>) {
    let mut found = Vec::new();
    let store = Some(config().store);
    let report = verify(disk, LOG, store, &mut |finding| found.push(finding)).unwrap();
    (report, found)
}

/// Faults that are more than what a crash or preparing ahead leaves.
fn serious(found: &[Finding]) -> Vec<&Finding> {
    let notes = |finding: &&Finding| {
        !matches!(
            finding.fault,
            Fault::Unused | Fault::Torn { .. } | Fault::Unfinished
        )
    };
    found.iter().filter(notes).collect()
}

/// Three streams until several segments are full; gives how many records.
fn fill(world: &mut World, from: u64, to: u64) {
    for n in from..to {
        let bytes = body(1 + n % 3, n / 3, 7_000);
        world.append(1 + n % 3, n / 3, 1, &bytes);
        if n % 5 == 0 {
            world.settle();
        }
    }
    world.settle();
}

fn bodies(disk: &mut MemDisk) -> Vec<(u64, u64)> {
    dump(disk, LOG, Lsn(0))
        .unwrap()
        .map(|record| {
            let record = record.unwrap();
            assert_eq!(
                record.body,
                body(record.head.resource.0, record.head.first, record.body.len())
            );
            (record.head.resource.0, record.head.first)
        })
        .collect()
}

#[test]
fn a_log_that_runs_and_one_that_was_sealed_verify_and_dump_as_appended() {
    let mut world = World::new();
    fill(&mut world, 0, 600);
    let expected: Vec<_> = (0..600).map(|n| (1 + n % 3, n / 3)).collect();
    let (report, found) = verified(&mut world.disk);
    assert_eq!(serious(&found), Vec::<&Finding>::new());
    assert_eq!(report.records, 600);
    assert!(report.segments >= 3, "{report:?}");
    assert_eq!(bodies(&mut world.disk), expected);

    world.log.seal();
    world.settle();
    assert_eq!(bodies(&mut world.disk), expected);
    let (sealed, found) = verified(&mut world.disk);
    assert_eq!(serious(&found), Vec::<&Finding>::new());
    assert_eq!((sealed.records, sealed.groups), (600, report.groups));
    // Every footer says what counting finds.
    let info = list(&mut world.disk, LOG).unwrap();
    let used = info.segments.iter().filter(|one| one.header.is_ok());
    let (groups, records) = used.fold((0, 0), |(groups, records), segment| {
        let facts = segment.footer.unwrap();
        assert_eq!(u64::from(facts.offset), segment.end);
        (groups + segment.groups, records + segment.records)
    });
    assert_eq!((groups, records), (report.groups, 600));
}

#[test]
fn segments_that_the_log_removed_are_not_missed() {
    let mut world = World::new();
    fill(&mut world, 0, 600);
    for _ in 0..2 {
        world.checkpoint(&[(1, b"one"), (2, b"two"), (3, b"three")]);
    }
    for stream in 1..4 {
        let resource = ResourceId(stream);
        world
            .log
            .release_stream(resource, PartitionId(0), Offset(150));
    }
    world.pass(60_000);
    assert!(world.log.stats().removed > 0, "{:?}", world.log.stats());
    let (report, found) = verified(&mut world.disk);
    assert_eq!(serious(&found), Vec::<&Finding>::new());
    assert_eq!((report.checkpoints, report.states), (2, 6));
}

#[test]
fn what_a_crash_leaves_is_a_note_that_the_next_start_clears_away() {
    let mut torn = 0;
    for seed in 0..24 {
        let mut world = World::new();
        fill(&mut world, 0, 20 + seed);
        for n in 0..10 {
            world.append(9, n, 1, &body(9, n, 3_000));
        }
        world.log.end_turn(world.now);
        world.collect();
        let crash = Crash::Random(seed);
        let mut left = world.disk.crash(crash);
        let (_, found) = verified(&mut left);
        assert_eq!(serious(&found), Vec::<&Finding>::new(), "seed {seed}");
        let note = found
            .iter()
            .find(|finding| matches!(finding.fault, Fault::Torn { .. }));
        let (mut after, _, report) = world.crash(crash);
        if let Some(note) = note {
            torn += 1;
            assert_eq!(note.offset, report.torn.unwrap().offset, "seed {seed}");
        }
        after.settle();
        let (_, found) = verified(&mut after.disk);
        let torn = |finding: &Finding| matches!(finding.fault, Fault::Torn { .. });
        assert!(!found.iter().any(torn), "seed {seed}: {found:?}");
        assert_eq!(serious(&found), Vec::<&Finding>::new(), "seed {seed}");
    }
    assert!(torn > 4, "{torn} of 24 crashes tore a group");
}
