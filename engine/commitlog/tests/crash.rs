//! The machine stops: at every request, in the middle of every write, with
//! sectors lost; afterwards what was acknowledged is there and nothing else is
//! made up.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod support;

use std::collections::BTreeMap;

use pinion_commitlog::*;
use pinion_types::{Offset, PartitionId, ResourceId};
use support::*;

const P: PartitionId = PartitionId(0);

/// What a client knows.
#[derive(Clone, Default)]
struct Model {
    /// Every record appended, by its number: whose, first offset, body, and the
    /// last record of its unit.
    records: BTreeMap<u64, (u64, u64, Vec<u8>, u64)>,
    acked: u64,
    /// Next offset of each stream.
    ends: BTreeMap<u64, u64>,
    /// Below it, a stream may be gone.
    first: BTreeMap<u64, u64>,
    /// Bodies in use, by message.
    bodies: BTreeMap<u64, Location>,
    next_body: u64,
}

impl Model {
    /// Units of one to three records in two streams, and bodies.
    fn append(&mut self, world: &mut World, rng: &mut Rng) {
        let stream = 1 + rng.below(2);
        let count = 1 + rng.below(3);
        let first = *self.ends.get(&stream).unwrap_or(&0);
        let bodies: Vec<Vec<u8>> = (0..count)
            .map(|n| body(stream, first + n, 200 + rng.below(9_000) as usize))
            .collect();
        let parts: Vec<[&[u8]; 1]> = bodies.iter().map(|body| [body.as_slice()]).collect();
        let records: Vec<RecordIn<'_>> = parts
            .iter()
            .zip(first..)
            .map(|(body, n)| RecordIn {
                head: head(stream, n, 1),
                ext: &[],
                body,
                retain: false,
            })
            .collect();
        let appended = world.log.append(world.now, &records);
        for (n, body) in bodies.into_iter().enumerate() {
            let lsn = appended.first.0 + n as u64;
            self.records
                .insert(lsn, (stream, first + n as u64, body, appended.last.0));
        }
        self.ends.insert(stream, first + count);
    }

    fn put(&mut self, world: &mut World, rng: &mut Rng) {
        let id = self.next_body;
        self.next_body += 1;
        let bytes = body(9, id, 100 + rng.below(3_000) as usize);
        let at = world.retain(9, id, &bytes);
        let lsn = world.log.appended().0;
        self.records.insert(lsn, (9, id, bytes, lsn));
        self.bodies.insert(id, at);
    }

    fn events(&mut self, world: &mut World) {
        for event in world.events.drain(..) {
            match event {
                LogEvent::Committed { lsn } => self.acked = lsn.0,
                LogEvent::Relocated { head, from, to } => match self.bodies.get_mut(&head.first) {
                    Some(at) => {
                        assert_eq!(*at, from);
                        *at = to;
                    }
                    None => world.log.release(to),
                },
                LogEvent::Failed { error } => panic!("{error}"),
                LogEvent::Damaged(damage) => panic!("{damage:?}"),
                _ => {}
            }
        }
    }
}

/// Recovers after a crash and compares with what the client knows. Gives the
/// world that goes on.
fn check(world: &World, model: &Model, crash: Crash, context: &str) -> (World, Model) {
    let mut disk = world.disk.crash(crash);
    let config = world.log.config().clone();
    let (recovered, visited) = open_with(&mut disk, config).unwrap();
    assert_eq!(recovered.report.damage, [], "{context}");
    let last = recovered.log.committed().0;
    assert!(
        last >= model.acked,
        "{context}: {} acknowledged, {last} there",
        model.acked
    );
    let mut model = model.clone();
    if let Some((_, (.., unit))) = model.records.range(..=last).next_back() {
        assert!(*unit <= last, "{context}: a unit was divided at {last}");
    }
    let replay_from = visited.states.first().map_or(0, |(_, as_of, _)| *as_of);
    let mut expected = replay_from;
    let mut relocated = BTreeMap::new();
    for seen in &visited.records {
        assert!(
            seen.lsn > expected,
            "{context}: {} after {expected}",
            seen.lsn
        );
        for lost in expected + 1..seen.lsn {
            assert!(
                !model.records.contains_key(&lost),
                "{context}: record {lost} is lost"
            );
        }
        expected = seen.lsn;
        if seen.carried {
            assert_eq!(
                seen.body,
                body(seen.resource, seen.first, seen.body.len()),
                "{context}"
            );
            if seen.resource == 9 {
                relocated.insert(seen.first, seen.at);
            }
            continue;
        }
        let Some((resource, first, body, _)) = model.records.get(&seen.lsn) else {
            panic!("{context}: record {} was never appended", seen.lsn)
        };
        assert_eq!(
            (seen.resource, seen.first),
            (*resource, *first),
            "{context}"
        );
        assert_eq!(&seen.body, body, "{context}");
        if seen.resource == 9 {
            relocated.insert(seen.first, seen.at);
        }
    }
    for lost in (expected + 1).max(1)..=last {
        assert!(
            !model.records.contains_key(&lost),
            "{context}: record {lost} is lost"
        );
    }
    // What was not there is forgotten for good.
    let gone = model.records.split_off(&(last + 1));
    for (resource, first, ..) in gone.into_values() {
        if resource == 9 {
            model.bodies.remove(&first);
        } else {
            let end = model.ends.get_mut(&resource).unwrap();
            *end = (*end).min(first);
        }
    }
    for (id, at) in &mut model.bodies {
        if let Some(to) = relocated.get(id) {
            *at = *to;
        }
    }
    model.acked = last;
    let mut after = World {
        log: recovered.log,
        disk,
        events: Vec::new(),
        now: world.now,
    };
    for at in model.bodies.values() {
        after.log.retain(*at);
    }
    for (stream, first) in &model.first {
        after
            .log
            .release_stream(ResourceId(*stream), P, Offset(*first));
    }
    after.log.ready();
    (after, model)
}

/// Reads everything that must be readable.
fn read_back(world: &mut World, model: &Model, context: &str) {
    for (&stream, &end) in &model.ends {
        let first = *model.first.get(&stream).unwrap_or(&0);
        let mut at = first;
        while at < end {
            let chunk = world
                .read(stream, at, 100_000)
                .unwrap_or_else(|error| panic!("{context}: {error} of stream {stream} at {at}"));
            assert!(
                chunk.end.0 > at,
                "{context}: stream {stream} ends at {at}, not {end}"
            );
            at = chunk.end.0;
        }
        assert_eq!(at, end, "{context}");
    }
    for (&id, &at) in &model.bodies {
        let record = world
            .read_at(at)
            .unwrap_or_else(|error| panic!("{context}: {error}"));
        assert_eq!(record.body, body(9, id, record.body.len()), "{context}");
        assert_eq!(record.head.first, id, "{context}");
    }
}

/// A workload in which everything happens: rolls, footers, checkpoints,
/// removals, rewriting. `stop` is asked after every request.
fn run(seed: u64, turns: u64, stop: &mut dyn FnMut(&World, &Model) -> bool) -> (World, Model) {
    let mut world = World::new();
    let (mut model, mut rng) = (Model::default(), Rng(seed));
    for turn in 0..turns {
        for _ in 0..1 + rng.below(4) {
            model.append(&mut world, &mut rng);
        }
        if rng.below(3) == 0 {
            model.put(&mut world, &mut rng);
        }
        if model.bodies.len() > 5 {
            let id = *model.bodies.keys().next().unwrap();
            let at = model.bodies.remove(&id).unwrap();
            world.log.release(at);
        }
        if turn % 20 == 19 {
            let (&stream, &end) = model.ends.iter().next().unwrap();
            model.first.insert(stream, end - 10.min(end));
            world
                .log
                .release_stream(ResourceId(stream), P, Offset(end - 10.min(end)));
        }
        if turn % 25 == 24 {
            world.log.checkpoint_begin();
            let as_of = world.log.appended();
            world
                .log
                .checkpoint_add(ResourceId(1), P, 1, as_of, &body(5, turn, 6_000));
            for other in [2, 9] {
                world
                    .log
                    .checkpoint_add(ResourceId(other), P, 1, as_of, b"");
            }
            world.log.checkpoint_end();
        }
        world.now = world.now + core::time::Duration::from_millis(200);
        world.log.handle_timeout(world.now);
        world.log.end_turn(world.now);
        // Not everything is done before the next turn.
        for _ in 0..2 + rng.below(6) {
            world.collect();
            if stop(&world, &model) {
                return (world, model);
            }
            if !world.step() {
                break;
            }
            model.events(&mut world);
        }
    }
    while world.step() {
        model.events(&mut world);
        if stop(&world, &model) {
            return (world, model);
        }
    }
    (world, model)
}

#[test]
fn a_crash_at_every_request_loses_nothing_acknowledged() {
    let mut points = 0u64;
    let mut checked = BTreeMap::new();
    let (world, _) = run(1, 160, &mut |world, model| {
        points += 1;
        // All four at every point: the simulator does that with many seeds.
        let modes = [
            Crash::Nothing,
            Crash::Random(points),
            Crash::Everything,
            Crash::Prefix(1 + points as usize % 40),
        ];
        for crash in [
            modes[points as usize % 2 * 2],
            modes[points as usize % 2 * 2 + 1],
        ] {
            let context = format!("point {points}, {crash:?}");
            let (mut after, model) = check(world, model, crash, &context);
            *checked
                .entry(format!("{crash:?}").chars().take(6).collect::<String>())
                .or_insert(0) += 1;
            // Every so often the recovered node goes on and crashes again.
            if points.is_multiple_of(16) {
                after.settle();
                read_back(&mut after, &model, &context);
                let (mut model, mut rng) = (model, Rng(points));
                for _ in 0..3 {
                    model.append(&mut after, &mut rng);
                    model.put(&mut after, &mut rng);
                    after.log.end_turn(after.now);
                    after.step();
                    model.events(&mut after);
                }
                after.collect();
                let context = format!("{context}, once more");
                let (mut last, model) = check(&after, &model, Crash::Random(points), &context);
                last.settle();
                read_back(&mut last, &model, &context);
            }
        }
        false
    });
    let stats = world.log.stats();
    println!("{points} points, {checked:?}, {stats:?}");
    // The workload was one in which everything happened.
    assert!(points > 300, "{points}");
    assert!(
        stats.checkpoints >= 4 && stats.removed >= 2 && stats.carried > 0,
        "{stats:?}"
    );
}

#[test]
fn a_group_torn_at_any_sector_is_cut_and_never_comes_back() {
    let mut world = World::new();
    let mut model = Model::default();
    let mut rng = Rng(3);
    for _ in 0..3 {
        model.append(&mut world, &mut rng);
        world.settle();
        model.events(&mut world);
    }
    for _ in 0..4 {
        model.append(&mut world, &mut rng);
    }
    world.log.end_turn(world.now);
    world.collect();
    let sectors = match &world.disk.pending[0].0 {
        DiskRequest::Write { data, .. } => data.len() / SECTOR,
        other => panic!("{other:?}"),
    };
    assert!(sectors > 20);
    for torn in 1..sectors {
        let context = format!("torn at sector {torn}");
        let (mut after, model) = check(&world, &model, Crash::Prefix(torn), &context);
        if after.log.committed().0 > 3 && model.acked == world.log.appended().0 {
            // What was missing was padding alone.
            continue;
        }
        // Something shorter is written behind it, and the machine stops again.
        after.append(1, model.ends[&1], 1, b"after");
        after.settle();
        let (_, visited, report) = after.crash(Crash::Nothing);
        assert_eq!((report.torn, report.damage.len()), (None, 0), "{context}");
        let last = visited.records.last().unwrap();
        assert_eq!(
            (last.lsn, &last.body[..]),
            (model.acked + 1, &b"after"[..]),
            "{context}"
        );
    }
}

#[test]
fn a_torn_tail_is_cut_before_anything_is_written_behind_it() {
    let mut world = World::new();
    world.append(1, 0, 1, &body(1, 0, 9_000));
    world.settle();
    world.append(1, 1, 1, &body(1, 1, 9_000));
    world.log.end_turn(world.now);
    world.collect();
    let (mut after, _, report) = world.crash(Crash::Prefix(5));
    assert!(report.torn.is_some());
    after.append(1, 1, 1, b"new");
    after.log.end_turn(after.now);
    after.collect();
    // Everything but the cut is done; the header of the next segment waits.
    for _ in 0..10 {
        let at = after
            .disk
            .pending
            .iter()
            .position(|pending| !matches!(pending.0, DiskRequest::Truncate { .. }));
        let Some(at) = at else { break };
        let done = after.disk.complete_at(at).unwrap();
        after.log.handle_done(after.now, done);
        after.collect();
    }
    assert_eq!(after.log.committed(), Lsn(1));
    after.settle();
    assert_eq!(after.log.committed(), Lsn(2));
}

#[test]
fn what_no_crash_disturbs_is_the_same_however_often_it_is_opened() {
    let (world, model) = run(7, 60, &mut |_, _| false);
    for seed in 0..8 {
        let mut disk = world.disk.crash(Crash::Random(seed));
        let (once, visited) = open(&mut disk).unwrap();
        let (twice, again) = open(&mut disk).unwrap();
        assert_eq!((once.report, visited), (twice.report, again));
    }
    let (mut first, model) = check(&world, &model, Crash::Nothing, "first");
    first.settle();
    let (mut second, model) = check(&first, &model, Crash::Nothing, "second");
    second.settle();
    read_back(&mut second, &model, "second");
    // An opened log that nobody uses does not grow.
    let (third, _) = check(&second, &model, Crash::Nothing, "third");
    assert_eq!(third.log.stats().segments, second.log.stats().segments);
}
