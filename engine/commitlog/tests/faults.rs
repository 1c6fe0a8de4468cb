//! Writes fail, disks fill, bits flip, files are swapped: what is damaged is
//! named, what is not is served, nothing is acknowledged that may be lost.
// Every case begins from a copy of the same disk, also the last one.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::redundant_clone
)]

mod support;

use pinion_commitlog::*;
use pinion_types::{Offset, PartitionId, ResourceId};
use support::*;

const P: PartitionId = PartitionId(0);

fn segment(number: u64) -> FileId {
    FileId::Segment {
        log: LogId(0),
        number,
    }
}

fn checkpoint(number: u64) -> FileId {
    FileId::Checkpoint {
        log: LogId(0),
        number,
    }
}

fn has(world: &World, wanted: fn(&LogEvent) -> bool) -> bool {
    world.events.iter().any(wanted)
}

// ------------------------------------------------------------- writes that fail

#[test]
fn after_a_failed_write_nothing_is_acknowledged_or_written() {
    let mut world = World::new();
    world.append(1, 0, 1, b"acknowledged");
    world.settle();
    world.append(1, 1, 1, b"unknown");
    world.disk.fail_write = Some(DiskError::Io { errno: 5 });
    world.settle();
    world.append(1, 2, 1, b"never");
    world.settle();
    assert_eq!(world.committed(), [1]);
    assert!(has(&world, |event| matches!(
        event,
        LogEvent::Failed {
            error: DiskError::Io { errno: 5 }
        }
    )));
    assert_eq!(world.log.admit(1, true), Err(AdmitError::Failed));
    assert_eq!(world.log.stats().state, LogState::Failed);
    assert_eq!(world.log.next_deadline(), None);
    let before = world.disk.done;
    world.pass(60_000);
    assert_eq!(world.disk.done, before, "a failed write is not tried again");
    assert_eq!(world.read(1, 0, 100).unwrap().bytes, &b"acknowledged"[..]);
}

#[test]
fn a_failed_header_of_a_segment_fails_the_log_and_loses_nothing() {
    let mut disk = MemDisk::default();
    let (recovered, _) = open(&mut disk).unwrap();
    let mut world = World::from(recovered, disk);
    world.settle();
    world.disk.fail_write = Some(DiskError::Full);
    world.append(1, 0, 1, b"unknown");
    world.settle();
    assert!(has(&world, |event| matches!(
        event,
        LogEvent::Failed { .. }
    )));
    assert!(world.committed().is_empty());
    let (mut after, visited, report) = world.crash(Crash::Nothing);
    assert_eq!((visited.records.len(), report.damage.len()), (0, 0));
    after.settle();
    assert_eq!(after.append(1, 0, 1, b"again").first, Lsn(1));
}

#[test]
fn a_full_disk_makes_the_log_read_only_until_there_is_room_again() {
    let mut world = World::new();
    world.disk.full = true;
    let mut next = 0;
    let large = body(1, 0, 20_000);
    let refused = loop {
        if let Err(refused) = world.log.admit(large.len() + RECORD_OVERHEAD, false) {
            break refused;
        }
        world.append(1, next, 1, &large);
        next += 1;
        world.settle();
    };
    assert_eq!(refused, AdmitError::ReadOnly);
    assert!(
        next > 30,
        "the prepared segment is used up to its reserve: {next}"
    );
    assert_eq!(world.log.stats().state, LogState::ReadOnly);
    assert!(has(&world, |event| matches!(
        event,
        LogEvent::ReadOnly(true)
    )));
    // What frees space passes while the reserve lasts, and not for ever.
    let mut essential = 0;
    while world.log.admit(1_000, true).is_ok() {
        world.append(2, essential, 0, b"delete");
        essential += 1;
        world.settle();
        assert!(essential < 1_000);
    }
    assert!(essential > 10, "{essential}");
    assert_eq!(world.log.committed().0, next + essential);
    // Room comes back: within two seconds the log has noticed.
    world.disk.full = false;
    world.events.clear();
    world.pass(2_000);
    assert!(has(&world, |event| matches!(
        event,
        LogEvent::ReadOnly(false)
    )));
    world.log.admit(large.len(), false).unwrap();
    for _ in 0..100 {
        world.append(1, next, 1, &large);
        next += 1;
        world.settle();
    }
    assert_eq!(world.log.committed().0, next + essential);
    let (_, visited, report) = world.crash(Crash::Nothing);
    assert_eq!(
        (visited.records.len() as u64, report.damage.len()),
        (next + essential, 0)
    );
}

#[test]
fn what_was_admitted_before_the_disk_was_full_is_written_when_there_is_room() {
    let mut world = World::new();
    world.disk.full = true;
    let large = vec![3; 400_000];
    for n in 0..4 {
        world.append(1, n, 1, &large);
    }
    world.settle();
    let written = world.log.committed().0;
    assert!(written < 4);
    world.disk.full = false;
    world.pass(2_000);
    assert_eq!(world.log.committed(), Lsn(4));
}

#[test]
fn removals_free_space_on_a_full_disk() {
    let mut world = World::new();
    let large = body(1, 0, 50_000);
    let mut next = 0;
    while world.log.stats().segments < 4 {
        world.append(1, next, 1, &large);
        next += 1;
        world.settle();
    }
    world.checkpoint(&[]);
    world.checkpoint(&[]);
    world.disk.full = true;
    while world
        .log
        .admit(large.len() + RECORD_OVERHEAD, false)
        .is_ok()
    {
        world.append(1, next, 1, &large);
        next += 1;
        world.settle();
    }
    assert_eq!(world.log.stats().removed, 0);
    world.log.release_stream(ResourceId(1), P, Offset(next));
    world.settle();
    assert_eq!(world.log.stats().removed, 3);
    world.disk.full = false;
    world.pass(1_000);
    world.log.admit(large.len(), false).unwrap();
}

#[test]
fn a_checkpoint_that_cannot_be_written_is_wanted_again_and_leaves_nothing() {
    let mut world = World::with(LogConfig {
        checkpoint_every_bytes: 50_000,
        ..config()
    });
    world.append(1, 0, 1, &body(1, 0, 60_000));
    world.settle();
    assert!(has(&world, |event| matches!(
        event,
        LogEvent::CheckpointWanted
    )));
    world.log.checkpoint_begin();
    world
        .log
        .checkpoint_add(ResourceId(1), P, 1, world.log.appended(), b"state");
    world.log.checkpoint_end();
    world.collect();
    world.step();
    world.disk.fail_write = Some(DiskError::Full);
    world.settle();
    assert_eq!(world.log.stats().checkpoints, 0);
    assert!(!world.disk.files.contains_key(&checkpoint(1)));
    world.events.clear();
    world.pass(10_000);
    assert!(has(&world, |event| matches!(
        event,
        LogEvent::CheckpointWanted
    )));
    world.checkpoint(&[(1, b"state")]);
    assert_eq!(world.log.stats().checkpoints, 1);
    assert!(!has(&world, |event| matches!(
        event,
        LogEvent::Failed { .. }
    )));
}

// ---------------------------------------------------------------------- damage

/// Three streams in several groups, sealed, with a checkpoint in between.
fn sealed() -> (World, Visited) {
    let mut world = World::new();
    for n in 0..6 {
        for resource in 1..4 {
            world.append(resource, n, 1, &body(resource, n, 150));
        }
        if n % 2 == 1 {
            world.settle();
        }
    }
    world.log.seal();
    world.settle();
    let (_, visited, report) = world.crash(Crash::Nothing);
    assert_eq!((visited.records.len(), report.damage.len()), (18, 0));
    (world, visited)
}

/// Opens the disk; whether nothing of `expected` is missing without a word.
fn honest(disk: &mut MemDisk, expected: &Visited) -> Result<bool, String> {
    match open(disk) {
        Err(_) => Ok(true),
        Ok((_, visited)) => {
            for seen in &visited.records {
                if !expected.records.contains(seen) {
                    return Err(format!("made up: {seen:?}"));
                }
            }
            if visited.records.len() == expected.records.len() {
                return Ok(!visited.damage.is_empty());
            }
            if visited.damage.is_empty() {
                return Err(format!("{} records left", visited.records.len()));
            }
            Ok(true)
        }
    }
}

#[test]
fn every_flipped_bit_of_a_sealed_log_is_found_or_harmless() {
    let (world, expected) = sealed();
    let content = &world.disk.files[&segment(1)];
    let groups_end = 4096 * 4;
    let (mut flips, mut found) = (0, 0);
    for at in 0..content.len() {
        // Every bit where there are headers, one of each byte elsewhere.
        let dense = at % 4096 < 256;
        for bit in 0..8 {
            if !dense && bit != at % 8 {
                continue;
            }
            let mut disk = world.disk.clone();
            disk.files.get_mut(&segment(1)).unwrap()[at] ^= 1 << bit;
            flips += 1;
            let noticed = honest(&mut disk, &expected)
                .unwrap_or_else(|lost| panic!("bit {bit} of byte {at}: {lost}"));
            // In the footer it is noticed by writing another one.
            assert!(
                noticed || at >= groups_end,
                "bit {bit} of byte {at} of a group"
            );
            found += u64::from(noticed);
        }
    }
    println!("{flips} flips, {found} reported");
    assert!(flips > 10_000, "{flips}");
}

#[test]
fn a_flipped_bit_of_the_newest_segment_is_never_taken_for_a_torn_write() {
    let mut world = World::new();
    for n in 0..9 {
        world.append(1 + n % 3, n / 3, 1, &body(1 + n % 3, n / 3, 300));
        if n % 3 == 2 {
            world.settle();
        }
    }
    world
        .disk
        .files
        .get_mut(&segment(1))
        .unwrap()
        .truncate(4096 * 5);
    let (_, expected, _) = world.crash(Crash::Nothing);
    assert_eq!(expected.records.len(), 9);
    for at in 0..4096 * 4 {
        if at % 4096 > 1400 && at % 16 != 0 {
            continue;
        }
        let mut disk = world.disk.clone();
        disk.files.get_mut(&segment(1)).unwrap()[at] ^= 1 << (at % 8);
        let noticed = honest(&mut disk, &expected)
            .unwrap_or_else(|lost| panic!("bit {} of byte {at}: {lost}", at % 8));
        assert!(noticed, "bit {} of byte {at}", at % 8);
    }
}

#[test]
fn a_flipped_bit_in_a_checkpoint_makes_the_older_one_serve() {
    let mut world = World::new();
    for n in 0..3 {
        world.append(1, n, 1, &body(1, n, 100));
        world.checkpoint(&[(1, &body(1, n, 700)), (2, b"other")]);
    }
    world.log.seal();
    world.settle();
    let newest = checkpoint(3);
    let len = world.disk.files[&newest].len();
    let mut fell_back = 0;
    for at in 0..len {
        let mut disk = world.disk.clone();
        disk.files.get_mut(&newest).unwrap()[at] ^= 1 << (at % 8);
        let (recovered, visited) = open(&mut disk).unwrap();
        assert_eq!(recovered.report.damage, []);
        let (_, as_of, state) = &visited.states[0];
        assert_eq!(state, &body(1, as_of - 1, 700), "byte {at}");
        assert_eq!(as_of + visited.records.len() as u64, 3, "byte {at}");
        fell_back += u64::from(*as_of == 2);
        let told = recovered.report.checkpoints_damaged.len();
        assert!(told <= 1);
    }
    assert!(fell_back > 1000, "{fell_back} of {len}");
}

#[test]
fn damage_names_whose_records_are_lost_and_everything_else_is_served() {
    let (world, expected) = sealed();
    let mut disk = world.disk.clone();
    let victim = expected
        .records
        .iter()
        .find(|seen| seen.resource == 2 && seen.first == 2);
    let at = victim.unwrap().at;
    disk.files.get_mut(&segment(1)).unwrap()[at.offset as usize + 70] ^= 4;
    let (recovered, visited) = open(&mut disk).unwrap();
    let [damage] = &recovered.report.damage[..] else {
        panic!("{:?}", recovered.report)
    };
    assert_eq!((damage.segment, damage.kind), (1, DamageKind::Group));
    assert_eq!(
        damage.partitions,
        DamagedPartitions::Some(vec![(ResourceId(2), P)])
    );
    assert_eq!(visited.records.len(), 17);
    let mut after = World::from(recovered, disk);
    after.settle();
    // Its neighbours are readable, it itself never is, nor is it skipped.
    assert_eq!(after.read(1, 0, 10_000).unwrap().end, Offset(6));
    assert_eq!(after.read(2, 0, 10_000).unwrap().end, Offset(2));
    assert!(matches!(
        after.read(2, 2, 100),
        Err(ReadError::Damaged { segment: 1, .. })
    ));
    assert!(matches!(after.read_at(at), Err(ReadError::Damaged { .. })));
    // The log goes on behind it, and the damage stays known.
    after.append(1, 6, 1, b"after");
    after.settle();
    assert_eq!(after.log.committed(), Lsn(19));
    let (_, visited, report) = after.crash(Crash::Nothing);
    assert_eq!(report.damage.len(), 1);
    assert_eq!(visited.records.len(), 18);
}

#[test]
fn numbers_that_may_have_been_used_behind_a_damaged_end_are_left_out() {
    let mut world = World::new();
    for n in 0..3 {
        world.append(1, n, 1, &body(1, n, 300));
        world.settle();
    }
    // The newest group loses its header.
    let mut disk = world.disk.clone();
    disk.files.get_mut(&segment(1)).unwrap()[4096 * 3 + 8] ^= 1;
    let (recovered, visited) = open(&mut disk).unwrap();
    assert_eq!(visited.records.len(), 2);
    assert_eq!(
        recovered.report.damage[0].partitions,
        DamagedPartitions::All
    );
    assert_eq!(recovered.report.torn, None);
    let mut after = World::from(recovered, disk);
    after.settle();
    assert!(after.append(1, 3, 1, b"new").first > Lsn(1000));
    after.settle();
    let (_, visited, report) = after.crash(Crash::Nothing);
    assert_eq!(visited.records.len(), 3);
    assert_eq!(report.damage.len(), 1, "{:?}", report.damage);
    // Nothing of the damaged segment was cut.
    assert_eq!(after.disk.files[&segment(1)].len() as u64, SEGMENT);
}

#[test]
fn a_group_in_the_wrong_place_or_of_another_time_is_damage() {
    let (world, expected) = sealed();
    // The disk wrote the second group over the third, and over the first.
    for (from, to) in [(2, 3), (2, 1), (3, 1)] {
        let mut disk = world.disk.clone();
        let content = disk.files.get_mut(&segment(1)).unwrap();
        content.copy_within(from * 4096..(from + 1) * 4096, to * 4096);
        let (recovered, visited) = open(&mut disk).unwrap();
        assert!(!recovered.report.damage.is_empty(), "{from} over {to}");
        assert!(
            visited
                .records
                .iter()
                .all(|seen| expected.records.contains(seen))
        );
        assert_eq!(visited.records.len(), 12);
    }
    // A group that was never written is missing in the middle.
    let mut disk = world.disk.clone();
    disk.files.get_mut(&segment(1)).unwrap()[2 * 4096..3 * 4096].fill(0);
    let (recovered, _) = open(&mut disk).unwrap();
    assert!(!recovered.report.damage.is_empty());
}

#[test]
fn a_wrong_footer_is_written_anew_and_reads_never_depend_on_it() {
    let (world, _) = sealed();
    let len = world.disk.files[&segment(1)].len();
    for what in 0..3 {
        let mut disk = world.disk.clone();
        let content = disk.files.get_mut(&segment(1)).unwrap();
        match what {
            0 => content[4096 * 4 + 600] ^= 1,
            1 => content.truncate(len - 4096),
            _ => content.truncate(4096 * 4),
        }
        let (recovered, visited) = open(&mut disk).unwrap();
        assert_eq!(visited.records.len(), 18);
        assert_eq!(recovered.report.damage, []);
        assert_eq!(recovered.report.footers_rebuilt, [1]);
        let mut after = World::from(recovered, disk);
        after.settle();
        assert_eq!(after.disk.files[&segment(1)], world.disk.files[&segment(1)]);
        assert_eq!(after.read(3, 0, 10_000).unwrap().end, Offset(6));
    }
}

#[test]
fn an_index_that_changed_after_opening_misleads_nobody() {
    let (world, _) = sealed();
    let mut disk = world.disk.clone();
    let (recovered, _) = open(&mut disk).unwrap();
    let mut after = World::from(recovered, disk);
    after.settle();
    after.disk.files.get_mut(&segment(1)).unwrap()[4096 * 4 + 512 + 3 * 72 + 16] ^= 0xff;
    for resource in 1..4 {
        assert_eq!(after.read(resource, 3, 10_000).unwrap().end, Offset(6));
    }
}

#[test]
fn rewriting_stops_at_damage_and_the_segment_stays() {
    let mut world = World::new();
    let kept = body(7, 0, 3_000);
    let at = world.retain(7, 0, &kept);
    let mut next = 0;
    while world.log.stats().segments < 3 {
        world.append(1, next, 1, &body(1, next, 20_000));
        next += 1;
        world.settle();
    }
    world.disk.files.get_mut(&segment(1)).unwrap()[at.offset as usize + 100] ^= 1;
    world.log.release_stream(ResourceId(1), P, Offset(next));
    world.checkpoint(&[]);
    world.checkpoint(&[]);
    world.pass(3_000);
    let named = world.events.iter().find_map(|event| match event {
        LogEvent::Damaged(damage) => Some(damage.clone()),
        _ => None,
    });
    let named = named.unwrap();
    assert_eq!((named.segment, named.offset), (1, u64::from(at.offset)));
    assert_eq!(
        named.partitions,
        DamagedPartitions::Some(vec![(ResourceId(7), P)])
    );
    assert!(world.disk.files.contains_key(&segment(1)));
    assert!(!world.disk.files.contains_key(&segment(2)));
}

// ----------------------------------------------------------------------- files

/// Four segments and one checkpoint.
fn several() -> World {
    let mut world = World::new();
    let mut next = 0;
    while world.log.stats().segments < 4 {
        world.append(1, next, 1, &body(1, next, 40_000));
        next += 1;
        world.settle();
    }
    world
}

#[test]
fn a_vanished_segment_is_noticed_and_named() {
    let world = several();
    for number in [2, 3] {
        let mut disk = world.disk.clone();
        disk.files.remove(&segment(number));
        let (recovered, visited) = open(&mut disk).unwrap();
        let [damage] = &recovered.report.damage[..] else {
            panic!("{:?}", recovered.report)
        };
        assert_eq!(
            (damage.segment, damage.kind),
            (number, DamageKind::Vanished)
        );
        assert!(!visited.records.is_empty());
    }
    // Without its beginning and without a checkpoint, nothing can be told.
    let mut disk = world.disk.clone();
    disk.files.remove(&segment(1));
    assert!(matches!(
        open(&mut disk),
        Err(RecoverError::HistoryMissing { needed: Lsn(1), .. })
    ));
}

#[test]
fn records_that_a_checkpoint_knows_and_the_log_lost_are_noticed() {
    let mut world = several();
    world.checkpoint(&[(1, b"state")]);
    let mut disk = world.disk.clone();
    for number in [4, 3] {
        disk.files.remove(&segment(number));
    }
    let (recovered, _) = open(&mut disk).unwrap();
    let report = recovered.report;
    assert!(
        report.damage.iter().any(|damage| damage.segment == 4),
        "{:?}",
        report.damage
    );
    let mut after = World::from(recovered_again(&mut disk), disk);
    after.settle();
    assert!(after.append(1, 0, 1, b"x").first > world.log.appended());
}

#[test]
fn records_that_a_single_state_knows_and_the_log_lost_are_noticed() {
    let mut world = World::new();
    world.append(1, 0, 1, b"first");
    world.settle();
    // The states are taken in different turns: replay begins after the older one.
    world.log.checkpoint_begin();
    let appended = world.log.appended();
    let resource = ResourceId(2);
    world.log.checkpoint_add(resource, P, 1, appended, b"older");
    let group = world.disk.files[&segment(1)].clone();
    world.append(1, 1, 1, b"second");
    world.settle();
    let appended = world.log.appended();
    let resource = ResourceId(1);
    world.log.checkpoint_add(resource, P, 1, appended, b"newer");
    world.log.checkpoint_end();
    world.settle();
    assert_eq!(world.log.stats().checkpoints, 1);
    let (sound, ..) = world.crash(Crash::Nothing);
    assert_eq!(sound.log.committed(), appended);

    // The disk forgets the group between them.
    let mut disk = world.disk.clone();
    disk.files.insert(segment(1), group);
    let (recovered, visited) = open(&mut disk).unwrap();
    assert_eq!(recovered.report.checkpoint, Some(1));
    assert_eq!((visited.states.len(), visited.records.len()), (2, 0));
    let [damage] = &recovered.report.damage[..] else {
        panic!("{:?}", recovered.report)
    };
    let found = (damage.segment, damage.kind, &damage.partitions);
    let shortened = DamageKind::Shortened;
    assert_eq!(found, (1, shortened, &DamagedPartitions::All));

    // What comes now has other numbers, and no state stands for it.
    let mut after = World::from(recovered, disk);
    after.settle();
    assert!(after.append(1, 2, 1, b"third").first > appended);
    after.settle();
    let (_, visited, _) = after.crash(Crash::Nothing);
    assert_eq!(visited.records.len(), 1);
    assert_eq!(visited.records[0].body, b"third");
}

fn recovered_again(disk: &mut MemDisk) -> Recovered {
    open(disk).unwrap().0
}

#[test]
fn exchanged_files_are_refused_by_name() {
    let world = several();
    let mut disk = world.disk.clone();
    let (two, three) = (
        disk.files[&segment(2)].clone(),
        disk.files[&segment(3)].clone(),
    );
    disk.files.insert(segment(2), three);
    disk.files.insert(segment(3), two);
    let before = disk.files.clone();
    let error = open(&mut disk).unwrap_err();
    assert!(
        matches!(error, RecoverError::Misplaced { file, .. }
            if file == segment(2) || file == segment(3)),
        "{error}"
    );
    assert_eq!(disk.files, before, "looking changes nothing");
}

#[test]
fn files_of_another_store_or_a_later_release_are_refused_by_name() {
    let world = several();
    let config = LogConfig {
        store: [8; 16],
        ..config()
    };
    let error = open_with(&mut world.disk.clone(), config).unwrap_err();
    assert!(
        matches!(error, RecoverError::ForeignStore { found: [7, ..], .. }),
        "{error}"
    );
    let mut disk = world.disk.clone();
    let content = disk.files.get_mut(&segment(2)).unwrap();
    content[8] = 9;
    let crc = crc32c::crc32c(&content[..508]);
    content[508..512].copy_from_slice(&crc.to_le_bytes());
    let error = open(&mut disk).unwrap_err();
    assert!(
        matches!(error, RecoverError::FutureVersion { file, found: 9, known: 1 }
            if file == segment(2)),
        "{error}"
    );
}

#[test]
fn empty_and_shortened_files_are_damage_unless_nothing_can_have_been_in_them() {
    let world = several();
    for len in [0, 100, 4096, 8192, 300_000] {
        let mut disk = world.disk.clone();
        disk.files.get_mut(&segment(2)).unwrap().truncate(len);
        let (recovered, _) = open(&mut disk).unwrap();
        assert!(
            recovered
                .report
                .damage
                .iter()
                .any(|damage| damage.segment == 2),
            "{len}: {:?}",
            recovered.report
        );
    }
    // A file that was being made when the machine stopped.
    let mut disk = world.disk.clone();
    let unfinished = disk.files.keys().map(|file| match file {
        FileId::Segment { number, .. } | FileId::Checkpoint { number, .. } => *number,
    });
    let unfinished = unfinished.max().unwrap() + 1;
    disk.files.insert(segment(unfinished), vec![0; 700]);
    let (recovered, _) = open(&mut disk).unwrap();
    assert_eq!(recovered.report.damage, []);
    let mut after = World::from(recovered, disk);
    after.settle();
    after.append(1, 9999, 1, b"x");
    after.settle();
    assert!(after.log.committed() > world.log.committed());
}

#[test]
fn a_destroyed_header_loses_its_segment_and_no_other() {
    let world = several();
    let mut disk = world.disk.clone();
    disk.files.get_mut(&segment(2)).unwrap()[40] ^= 1;
    let (recovered, visited) = open(&mut disk).unwrap();
    let [damage] = &recovered.report.damage[..] else {
        panic!("{:?}", recovered.report)
    };
    assert_eq!((damage.segment, damage.kind), (2, DamageKind::Header));
    assert!(visited.records.iter().any(|seen| seen.at.segment == 3));
}

#[test]
fn without_a_readable_checkpoint_removed_history_is_a_clear_error() {
    let mut world = several();
    let next = world.log.appended().0;
    world.log.release_stream(ResourceId(1), P, Offset(next));
    world.checkpoint(&[(1, b"one")]);
    world.checkpoint(&[(1, b"two")]);
    assert!(world.log.stats().removed > 0);
    let mut disk = world.disk.clone();
    for number in [1, 2] {
        disk.files.get_mut(&checkpoint(number)).unwrap()[4096] ^= 1;
    }
    let error = open(&mut disk).unwrap_err();
    assert!(
        matches!(error, RecoverError::HistoryMissing { needed: Lsn(1), .. }),
        "{error}"
    );
    // One of them is enough.
    let mut disk = world.disk.clone();
    disk.files.get_mut(&checkpoint(2)).unwrap()[4096] ^= 1;
    let (recovered, visited) = open(&mut disk).unwrap();
    assert_eq!(recovered.report.damage, []);
    assert_eq!(recovered.report.checkpoints_damaged.len(), 1);
    assert_eq!(visited.states[0].2, b"one");
}

#[test]
fn impossible_settings_are_refused() {
    for segment_bytes in [0, 4096, (1 << 20) + 1, 2 << 30] {
        let config = LogConfig {
            segment_bytes,
            ..config()
        };
        let error = open_with(&mut MemDisk::default(), config).unwrap_err();
        assert!(
            matches!(error, RecoverError::Config { .. }),
            "{segment_bytes}"
        );
    }
}
