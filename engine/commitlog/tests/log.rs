//! The log's life while nothing breaks: commits, rolls, reads, retention,
//! checkpoints, rewriting forward.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod support;

use pinion_commitlog::*;
use pinion_types::{Monotonic, Offset, PartitionId, ResourceId, WallMs};
use support::*;

const P: PartitionId = PartitionId(0);

#[test]
fn one_flush_serves_everything_that_came_during_the_one_before() {
    let mut world = World::new();
    let writes = world.disk.writes;
    world.append(1, 0, 1, b"first");
    world.log.end_turn(world.now);
    world.collect();
    for n in 1..100 {
        world.append(1, n, 1, b"more");
        world.log.end_turn(world.now);
    }
    world.settle();
    // The header of the segment, the first record, the other 99 together.
    assert_eq!(world.disk.writes - writes, 3);
    assert_eq!(world.committed(), [1, 100]);
    assert_eq!(world.log.stats().groups, 2);
}

#[test]
fn nothing_is_written_while_nothing_is_appended() {
    let mut world = World::new();
    let done = world.disk.done;
    for _ in 0..100 {
        world.settle();
    }
    assert_eq!(world.disk.done, done);
    assert_eq!(world.log.next_deadline(), None);
}

#[test]
fn a_full_backlog_refuses_and_a_written_one_admits_again() {
    let mut world = World::new();
    let big = vec![1; 1000 << 10];
    for n in 0..4 {
        world.log.admit(big.len() + RECORD_OVERHEAD, false).unwrap();
        world.append(1, n, 1, &big);
    }
    assert_eq!(
        world.log.admit(big.len(), true),
        Err(AdmitError::Backlogged { limit: 4 << 20 })
    );
    world.settle();
    assert_eq!(world.log.admit(big.len(), false), Ok(()));
    assert_eq!(world.log.committed(), Lsn(4));
    let limit = (1 << 20) - 4096 - 64 - 8;
    assert_eq!(
        world.log.admit(1 << 20, false),
        Err(AdmitError::TooLarge {
            bytes: 1 << 20,
            limit
        })
    );
}

#[test]
fn the_largest_admitted_append_fits_and_one_append_is_never_divided() {
    let mut world = World::new();
    let limit = (1 << 20) - 4096 - 64 - 8;
    world.append(1, 0, 1, b"small");
    world.log.admit(limit, false).unwrap();
    let large = body(1, 1, limit - RECORD_OVERHEAD);
    world.append(1, 1, 1, &large);
    let parts: Vec<Vec<u8>> = (0..900).map(|n| body(2, n, 1000)).collect();
    let records: Vec<[&[u8]; 1]> = parts.iter().map(|part| [part.as_slice()]).collect();
    let records: Vec<RecordIn<'_>> = records
        .iter()
        .enumerate()
        .map(|(n, body)| RecordIn {
            head: head(2, n as u64, 1),
            ext: &[],
            body,
            retain: false,
        })
        .collect();
    let appended = world.log.append(Monotonic::ZERO, &records);
    assert_eq!((appended.first, appended.last), (Lsn(3), Lsn(902)));
    assert_eq!(world.log.appended_locations().len(), 900);
    world.settle();
    assert_eq!(world.log.stats().groups, 3);
    assert_eq!(world.read(1, 1, 1).unwrap().bytes, large);
    assert_eq!(world.read_all(2, 0, 100 << 10), parts.concat());
}

#[test]
fn segments_follow_one_another_and_old_ones_get_footers() {
    let mut world = World::new();
    for n in 0..600 {
        world.append(n % 3, n / 3, 1, &body(n % 3, n / 3, 10_000));
        if n % 7 == 0 {
            world.settle();
        }
    }
    world.settle();
    let stats = world.log.stats();
    assert!(stats.segments >= 6, "{stats:?}");
    // All but the active one are as short as their content.
    let full = world
        .disk
        .files
        .values()
        .filter(|file| file.len() as u64 == SEGMENT)
        .count();
    assert!(full <= 2, "the active one and one ahead");
    for resource in 1..3 {
        let expected: Vec<u8> = (0..200).flat_map(|n| body(resource, n, 10_000)).collect();
        for max in [1, 30_000, 1 << 20] {
            assert_eq!(world.read_all(resource, 0, max), expected);
        }
    }
}

#[test]
fn a_read_gives_whole_records_from_the_one_that_holds_the_offset() {
    let mut world = World::new();
    for n in 0..10 {
        world.append(1, n * 5, 5, &body(1, n, 300));
        world.settle();
    }
    let chunk = world.read(1, 7, 301).unwrap();
    assert_eq!((chunk.first, chunk.end), (Offset(5), Offset(15)));
    assert_eq!(chunk.bytes, [body(1, 1, 300), body(1, 2, 300)].concat());
    let end = world.read(1, 50, 1000).unwrap();
    assert_eq!(
        (end.first, end.end, end.bytes.len()),
        (Offset(50), Offset(50), 0)
    );
    assert!(
        world.read(9, 3, 10).unwrap().bytes.is_empty(),
        "an unknown partition has nothing"
    );
    world.log.release_stream(ResourceId(1), P, Offset(20));
    assert_eq!(
        world.read(1, 19, 10),
        Err(ReadError::Trimmed { first: Offset(20) })
    );
    assert_eq!(world.read(1, 20, 10).unwrap().first, Offset(20));
}

#[test]
fn reads_see_nothing_that_is_not_durable() {
    let mut world = World::new();
    world.append(1, 0, 1, b"durable");
    world.settle();
    let at = world.append(1, 1, 1, b"pending").first_location;
    world
        .log
        .read_stream(5, ResourceId(1), P, Offset(1), 100)
        .unwrap();
    assert_eq!(world.log.read_record(6, at), Err(ReadRefused::NotCommitted));
    world.step();
    let LogEvent::StreamRead {
        token: 5,
        result: Ok(chunk),
    } = world.events.pop().unwrap()
    else {
        panic!("an answer without a wait for the record");
    };
    assert_eq!((chunk.bytes.len(), chunk.end), (0, Offset(1)));
    assert_eq!(world.read(1, 0, 100).unwrap().bytes, &b"durable"[..]);
    assert_eq!(world.read(1, 1, 100).unwrap().bytes, &b"pending"[..]);
}

#[test]
fn reads_beyond_the_number_in_flight_wait_and_beyond_the_queue_are_refused() {
    let mut world = World::new();
    world.append(1, 0, 1, b"data");
    world.settle();
    let mut taken = 0;
    let refused = loop {
        match world
            .log
            .read_stream(taken, ResourceId(1), P, Offset(0), 10)
        {
            Ok(()) => taken += 1,
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused, ReadRefused::Full { limit: 4096 });
    assert_eq!(taken, 4096 + 16);
    world.collect();
    assert_eq!(world.disk.pending.len(), 16);
    world.settle();
    let answers = world
        .events
        .iter()
        .filter(|event| matches!(event, LogEvent::StreamRead { .. }))
        .count();
    assert_eq!(answers as u64, taken);
}

#[test]
fn reads_go_on_while_the_log_writes() {
    let mut world = World::new();
    let mut rng = Rng(4);
    let (mut written, mut asked) = (0, Vec::new());
    for _ in 0..400 {
        for _ in 0..rng.below(4) {
            world.append(1, written, 1, &body(1, written, 5_000));
            written += 1;
        }
        world.log.end_turn(world.now);
        let from = rng.below(written + 1);
        let token = asked.len() as u64;
        asked.push((from, world.log.committed().0));
        world
            .log
            .read_stream(token, ResourceId(1), P, Offset(from), 20_000)
            .unwrap();
        world.collect();
        // Completions in any order but that of one file's growth.
        for _ in 0..rng.below(4) {
            let at = rng.below(world.disk.pending.len().max(1) as u64) as usize;
            if let Some(done) = world.disk.complete_at(at) {
                world.log.handle_done(world.now, done);
            }
            world.collect();
        }
        for event in world.events.drain(..) {
            if let LogEvent::StreamRead { token, result } = event {
                let chunk = result.unwrap();
                let expected: Vec<u8> = (chunk.first.0..chunk.end.0)
                    .flat_map(|n| body(1, n, 5_000))
                    .collect();
                assert_eq!(chunk.bytes, expected);
                let (from, committed) = asked[token as usize];
                assert_eq!(chunk.first.0, from);
                assert!(
                    from >= committed || !chunk.bytes.is_empty(),
                    "{from} was durable"
                );
            }
        }
    }
    world.settle();
    assert_eq!(world.read_all(1, 0, 50_000).len() as u64, written * 5_000);
}

#[test]
fn time_and_size_find_their_offsets() {
    let mut world = World::new();
    // One record of 100 KiB for every millisecond from 1000 on.
    for n in 0..40 {
        world.append(1, n, 1, &body(1, n, 100_000));
        world.settle();
    }
    let (r, log) = (ResourceId(1), &world.log);
    for n in 0..40 {
        let found = log.seek_time(r, P, WallMs(1000 + n)).unwrap().0;
        assert!(found <= n, "{found} is behind {n}");
    }
    assert_eq!(log.seek_time(r, P, WallMs(1039)), Some(Offset(39)));
    assert_eq!(log.seek_time(r, P, WallMs(1040)), None);
    assert_eq!(log.expired(r, P, WallMs(1000)), None);
    assert_eq!(log.expired(r, P, WallMs(5000)), Some(Offset(40)));
    let half = log.expired(r, P, WallMs(1020)).unwrap().0;
    assert!((1..=20).contains(&half), "{half}");
    let bytes = log.stream_bytes(r, P);
    assert!((4_000_000..4_010_000).contains(&bytes), "{bytes}");
    assert_eq!(log.over_size(r, P, bytes), None);
    let first = log.over_size(r, P, 1_000_000).unwrap();
    assert!((30..=33).contains(&first.0), "{first}");
    world.log.release_stream(r, P, first);
    let left = world.log.stream_bytes(r, P);
    assert!(left <= 1_010_000, "{left}");
}

#[test]
fn a_clock_set_back_hides_no_record_from_a_search_by_time() {
    let mut world = World::new();
    for (n, time) in [(0, 5000), (1, 100), (2, 6000)] {
        let head = RecordHead {
            timestamp: WallMs(time),
            ..head(1, n, 1)
        };
        let large = body(1, n, 100_000);
        let records = [RecordIn {
            head,
            ext: &[],
            body: &[&large],
            retain: false,
        }];
        world.log.append(Monotonic::ZERO, &records);
        world.settle();
    }
    let seek = |time| world.log.seek_time(ResourceId(1), P, WallMs(time));
    assert_eq!(seek(50), Some(Offset(0)));
    assert_eq!(seek(5500), Some(Offset(2)));
    assert_eq!(world.log.expired(ResourceId(1), P, WallMs(5000)), None);
}

/// Fills `segments` segments with records of resource 1, 10 KiB each.
fn fill(world: &mut World, next: &mut u64, segments: usize) {
    let until = world.log.stats().segments + segments;
    while world.log.stats().segments < until {
        world.append(1, *next, 1, &body(1, *next, 10_000));
        *next += 1;
        world.settle();
    }
}

fn numbers(disk: &MemDisk) -> Vec<u64> {
    disk.files
        .keys()
        .filter_map(|file| match file {
            FileId::Segment { number, .. } => Some(*number),
            FileId::Checkpoint { .. } => None,
        })
        .collect()
}

#[test]
fn released_segments_go_once_two_checkpoints_stand_for_them() {
    let mut world = World::new();
    let mut next = 0;
    fill(&mut world, &mut next, 4);
    world.log.release_stream(ResourceId(1), P, Offset(next));
    world.checkpoint(&[(1, b"one")]);
    assert_eq!(
        world.log.stats().removed,
        0,
        "one checkpoint may be damaged"
    );
    world.checkpoint(&[(1, b"two")]);
    assert_eq!(world.log.stats().removed, 4);
    assert_eq!(numbers(&world.disk)[0], 5);
    world.checkpoint(&[(1, b"three")]);
    let checkpoints = world
        .disk
        .files
        .keys()
        .filter(|file| matches!(file, FileId::Checkpoint { .. }))
        .count();
    assert_eq!(checkpoints, 2);
    let (_, visited, report) = world.crash(Crash::Nothing);
    assert_eq!(report.damage, [], "removed files are explained");
    assert_eq!(visited.states.len(), 1);
    assert_eq!(visited.states[0].2, b"three");
}

#[test]
fn retained_bodies_keep_their_segment_and_move_forward_when_little_is_alive() {
    let mut world = World::new();
    let kept = body(7, 1, 5_000);
    let at = world.retain(7, 1, &kept);
    let gone = world.retain(7, 2, b"acknowledged");
    let mut next = 0;
    fill(&mut world, &mut next, 3);
    world.log.release(gone);
    world.log.release_stream(ResourceId(1), P, Offset(next));
    world.checkpoint(&[]);
    world.checkpoint(&[]);
    world.pass(3_000);
    let moved: Vec<(Location, Location)> = world
        .events
        .iter()
        .filter_map(|event| match event {
            LogEvent::Relocated { from, to, head } => {
                assert_eq!((head.resource.0, head.first), (7, 1));
                Some((*from, *to))
            }
            _ => None,
        })
        .collect();
    let [(from, to)] = moved[..] else {
        panic!("{moved:?}")
    };
    assert_eq!(from, at);
    assert_eq!(world.read_at(to).unwrap().body, kept);
    world.pass(1_000);
    assert!(!numbers(&world.disk).contains(&from.segment));
    assert_eq!(
        world.read_at(from),
        Err(ReadError::Trimmed { first: Offset(0) })
    );
    // The copy is alive: its segment stays however much time passes.
    fill(&mut world, &mut next, 2);
    world.checkpoint(&[]);
    world.checkpoint(&[]);
    assert_eq!(world.read_at(to).unwrap().ext, &b"x"[..]);
    let (mut after, visited, _) = world.crash(Crash::Nothing);
    assert!(
        visited.records.is_empty(),
        "the checkpoint stands for all of it"
    );
    after.settle();
    assert_eq!(after.read_at(to).unwrap().body, kept);
}

#[test]
fn streams_move_forward_and_are_read_across_the_places_they_moved_to() {
    let mut world = World::new();
    let mut next = 0;
    // A slow stream among a fast one that is trimmed.
    let mut slow = 0;
    for _ in 0..6 {
        for _ in 0..5 {
            world.append(2, slow, 1, &body(2, slow, 2_000));
            slow += 1;
        }
        fill(&mut world, &mut next, 1);
    }
    world.log.release_stream(ResourceId(1), P, Offset(next));
    world.checkpoint(&[]);
    world.checkpoint(&[]);
    for _ in 0..20 {
        world.pass(1_000);
    }
    assert!(world.log.stats().carried >= 25, "{:?}", world.log.stats());
    assert!(world.log.stats().removed >= 5, "{:?}", world.log.stats());
    let all: Vec<u8> = (0..slow).flat_map(|n| body(2, n, 2_000)).collect();
    assert_eq!(world.read_all(2, 0, 5_000), all);
    world.append(2, slow, 1, b"newest");
    world.settle();
    let (mut after, visited, report) = world.crash(Crash::Nothing);
    assert_eq!(report.damage, []);
    assert!(visited.records.iter().filter(|seen| !seen.carried).count() >= 1);
    after.settle();
    let all = [all, b"newest".to_vec()].concat();
    assert_eq!(after.read_all(2, 0, 5_000), all);
    // And once more, from where they are now.
    after.log.release_stream(ResourceId(1), P, Offset(next));
    fill(&mut after, &mut next, 2);
    after.log.release_stream(ResourceId(1), P, Offset(next));
    after.checkpoint(&[]);
    after.checkpoint(&[]);
    for _ in 0..20 {
        after.pass(1_000);
    }
    assert_eq!(after.read_all(2, 0, 5_000), all);
}

#[test]
fn a_checkpoint_is_wanted_after_its_bytes_and_replay_starts_there() {
    let mut world = World::with(LogConfig {
        checkpoint_every_bytes: 100_000,
        ..config()
    });
    let mut wanted = 0;
    for n in 0..50 {
        world.append(1, n, 1, &body(1, n, 5_000));
        world.settle();
        if world
            .events
            .drain(..)
            .any(|event| matches!(event, LogEvent::CheckpointWanted))
        {
            wanted += 1;
            world.checkpoint(&[(1, &n.to_le_bytes())]);
        }
    }
    assert_eq!(wanted, 2);
    let (_, visited, report) = world.crash(Crash::Nothing);
    let [(1, as_of, state)] = &visited.states[..] else {
        panic!("{visited:?}")
    };
    assert_eq!(
        u64::from_le_bytes(state.as_slice().try_into().unwrap()),
        as_of - 1
    );
    assert_eq!(visited.records[0].lsn, as_of + 1);
    assert_eq!(visited.records.last().unwrap().lsn, 50);
    assert_eq!(report.checkpoint, Some(2));
}

#[test]
fn a_state_with_records_that_are_not_durable_waits_for_them() {
    let mut world = World::new();
    world.append(1, 0, 1, b"pending");
    world.log.checkpoint_begin();
    world
        .log
        .checkpoint_add(ResourceId(1), P, 1, world.log.appended(), b"state");
    world.log.checkpoint_end();
    // Everything the disk is asked for is done, except the group's write.
    world.log.end_turn(world.now);
    for _ in 0..10 {
        world.collect();
        let at = world.disk.pending.iter().position(|pending| {
            !matches!(
                pending.0,
                DiskRequest::Write {
                    file: FileId::Segment { .. },
                    ..
                }
            )
        });
        if let Some(at) = at {
            let done = world.disk.complete_at(at).unwrap();
            world.log.handle_done(world.now, done);
        }
    }
    assert_eq!(world.log.committed(), Lsn(0));
    assert_eq!(world.log.stats().checkpoints, 0);
    let (_, visited, report) = world.crash(Crash::Nothing);
    assert_eq!((visited.states.len(), report.checkpoint), (0, None));
    world.settle();
    assert_eq!(world.log.stats().checkpoints, 1);
}

#[test]
fn a_sealed_log_opens_without_replay_and_goes_on() {
    let mut world = World::new();
    let mut next = 0;
    fill(&mut world, &mut next, 3);
    world.append(1, next, 1, &body(1, next, 10_000));
    world.checkpoint(&[(1, b"all")]);
    world.log.seal();
    world.settle();
    assert!(
        world
            .events
            .iter()
            .any(|event| matches!(event, LogEvent::Sealed))
    );
    assert_eq!(world.log.admit(1, true), Err(AdmitError::Failed));
    let (mut after, visited, report) = world.crash(Crash::Nothing);
    assert!(visited.records.is_empty());
    assert_eq!(
        (report.bytes_replayed, &report.footers_rebuilt[..]),
        (0, &[][..])
    );
    after.settle();
    assert_eq!(after.append(1, next + 1, 1, b"next").first, Lsn(next + 2));
    after.settle();
    let all: Vec<u8> = (0..=next)
        .flat_map(|n| body(1, n, 10_000))
        .chain(*b"next")
        .collect();
    assert_eq!(after.read_all(1, 0, 100_000), all);
}

#[test]
fn bulk_goes_to_segments_that_are_only_reserved_and_small_groups_soon_leave_them() {
    let config = LogConfig {
        bulk_group_bytes: 32 << 10,
        ..config()
    };
    let mut world = World::with(config.clone());
    let mut next = 0;
    let mut append = |world: &mut World, bytes: usize| {
        let at = world
            .append(1, next, 1, &body(1, next, bytes))
            .first_location;
        world.settle();
        next += 1;
        at.segment
    };
    let reserved = |world: &World, number: u64| {
        let file = FileId::Segment {
            log: config.log,
            number,
        };
        let made = world.disk.made.iter().find(|(made, _)| *made == file);
        made.expect("records lie in it").1 == Background::Reserved
    };
    for _ in 0..20 {
        let number = append(&mut world, 1000);
        assert!(!reserved(&world, number), "small from the start");
    }
    let mut bulk: Vec<u64> = (0..100).map(|_| append(&mut world, 60_000)).collect();
    bulk.dedup();
    let (old, new) = bulk.split_at(2);
    assert!(!old.iter().all(|number| reserved(&world, *number)));
    assert!(new.len() >= 3 && new.iter().all(|number| reserved(&world, *number)));
    // One large group among small ones is not usual.
    let small: Vec<u64> = (0..200)
        .map(|n| append(&mut world, if n % 40 == 39 { 60_000 } else { 1000 }))
        .collect();
    let slow = small.iter().filter(|number| reserved(&world, **number));
    assert!(slow.count() < 30, "they cost more there");
    assert!(!reserved(&world, *small.last().unwrap()));
    let all: Vec<u8> = (0..20)
        .map(|n| (n, 1000))
        .chain((20..120).map(|n| (n, 60_000)))
        .chain((0..200).map(|n| (120 + n, if n % 40 == 39 { 60_000 } else { 1000 })))
        .flat_map(|(n, bytes)| body(1, n, bytes))
        .collect();
    assert_eq!(world.read_all(1, 0, 1 << 20), all);
}

#[test]
fn a_forgotten_partition_leaves_nothing_behind() {
    let mut world = World::new();
    let mut next = 0;
    fill(&mut world, &mut next, 3);
    world.log.forget(ResourceId(1), P);
    assert_eq!(world.log.stream_bytes(ResourceId(1), P), 0);
    world.checkpoint(&[]);
    world.checkpoint(&[]);
    assert_eq!(world.log.stats().removed, 3);
    assert_eq!(world.log.stats().partitions, 0);
}

#[test]
fn a_long_history_goes_a_few_files_at_a_time() {
    let mut world = World::new();
    let mut next = 0;
    fill(&mut world, &mut next, 80);
    world.log.forget(ResourceId(1), P);
    world.checkpoint(&[]);
    world.checkpoint(&[]);
    assert_eq!(world.log.stats().removed, 80);
    assert_eq!(world.disk.removing_most, 64);
}

#[test]
fn a_hundred_thousand_partitions_open_from_their_footers() {
    let config = LogConfig {
        segment_bytes: 16 << 20,
        group_bytes_max: 1 << 20,
        ..config()
    };
    let mut world = World::with(config);
    for n in 0..3 {
        for resource in 1..=100_000 {
            world.append(resource, n, 1, &resource.to_le_bytes());
            if resource % 5_000 == 0 {
                world.settle();
            }
        }
    }
    world.checkpoint(&[(1, b"all of them")]);
    world.log.seal();
    world.settle();
    let (mut after, _, report) = world.crash(Crash::Nothing);
    assert_eq!((report.bytes_replayed, report.damage.len()), (0, 0));
    assert_eq!(after.log.stats().partitions, 100_000);
    for resource in [1, 2, 50_000, 99_999, 100_000] {
        assert_eq!(
            after.read_all(resource, 0, 100),
            resource.to_le_bytes().repeat(3)
        );
        assert_eq!(after.log.stream_bytes(ResourceId(resource), P), 3 * 72);
    }
}
