//! A pinned log can be copied while it goes on, and the copy is the log as of one record.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod support;

use core::time::Duration;

use pinion_commitlog::{DiskError, FileId, LogEvent, PinLimits, PinRefused, Pinned};
use pinion_types::{Monotonic, Offset, PartitionId, ResourceId};
use support::{Crash, MemDisk, Rng, Seen, World, body, open};

const P: PartitionId = PartitionId(0);

const NO_LIMITS: PinLimits = PinLimits {
    until: Monotonic(u64::MAX),
    held_bytes_max: u64::MAX,
};

/// A copy that is made a file at a time.
struct Copy {
    pinned: Pinned,
    next: usize,
    disk: MemDisk,
}

impl Copy {
    fn of(pinned: Pinned) -> Self {
        Self {
            pinned,
            next: 0,
            disk: MemDisk::default(),
        }
    }

    /// Copies the next file; whether there was one.
    fn step(&mut self, from: &MemDisk) -> bool {
        let Some(file) = self.pinned.files.get(self.next) else {
            return false;
        };
        let bytes = from.files.get(&file.file).expect("what is pinned is there");
        let len = file.len.map_or(bytes.len(), |len| len as usize);
        self.disk.files.insert(file.file, bytes[..len].to_vec());
        self.next += 1;
        true
    }
}

fn segments(disk: &MemDisk) -> Vec<u64> {
    let number = |file: &FileId| match file {
        FileId::Segment { number, .. } => Some(*number),
        FileId::Checkpoint { .. } => None,
    };
    disk.files.keys().filter_map(number).collect()
}

fn fill(world: &mut World, next: &mut u64, segments: u64) {
    let until = world.log.stats().segments + segments as usize;
    while world.log.stats().segments < until {
        world.append(1, *next, 10, &body(1, *next, 50_000));
        *next += 10;
        world.settle();
    }
}

/// The records of a log without where they lie, which is not what they say.
fn told(records: &[Seen], upto: u64) -> Vec<(u64, u64, u64, Vec<u8>)> {
    let kept = records.iter().filter(|record| record.lsn <= upto);
    kept.map(|record| {
        (
            record.lsn,
            record.resource,
            record.first,
            record.body.clone(),
        )
    })
    .collect()
}

/// A log at work: appends, checkpoints, releases, and a disk that is at any step.
struct Work {
    world: World,
    next: u64,
    first: u64,
    rng: Rng,
}

impl Work {
    fn step(&mut self) {
        match self.rng.below(100) {
            0..60 => {
                let len = self.rng.below(60_000) as usize + 1;
                self.world
                    .append(1, self.next, 10, &body(1, self.next, len));
                self.next += 10;
                if self.rng.below(2) == 0 {
                    self.world.log.end_turn(self.world.now);
                }
            }
            60..95 => {
                for _ in 0..self.rng.below(6) {
                    self.world.step();
                }
            }
            95..98 => {
                // Most of what is committed is let go: segments become removable.
                let upto = self.next - (self.next - self.first) / 4;
                self.first = upto / 10 * 10;
                let first = Offset(self.first);
                self.world.log.release_stream(ResourceId(1), P, first);
            }
            _ => {
                self.world.log.checkpoint_begin();
                let as_of = self.world.log.appended();
                let state = self.first.to_le_bytes();
                self.world
                    .log
                    .checkpoint_add(ResourceId(1), P, 1, as_of, &state);
                self.world.log.checkpoint_end();
            }
        }
    }
}

#[test]
fn a_copy_is_the_log_as_of_its_cut_whatever_happens_meanwhile() {
    let (mut removed, mut copied) = (0, 0);
    for seed in 0..24 {
        let mut work = Work {
            world: World::new(),
            next: 0,
            first: 0,
            rng: Rng(seed),
        };
        let begin = 40 + work.rng.below(260);
        for _ in 0..begin {
            work.step();
        }
        // What a crash right now would leave is what the copy must be.
        let cut = work.world.log.committed();
        let (_, expected, _) = work.world.crash(Crash::Nothing);
        let mut copy = Copy::of(work.world.log.pin(NO_LIMITS).unwrap());
        assert_eq!(copy.pinned.upto, cut);
        while copy.step(&work.world.disk) {
            for _ in 0..20 {
                work.step();
            }
        }
        work.world.log.unpin();
        copied += copy.pinned.files.len();
        let (recovered, visited) = open(&mut copy.disk).unwrap();
        assert_eq!(visited.damage, [], "seed {seed}");
        assert_eq!(recovered.report.torn, None, "seed {seed}");
        assert_eq!(recovered.log.committed(), cut, "seed {seed}");
        assert_eq!(visited.states, expected.states, "seed {seed}");
        let (is, shall) = (
            told(&visited.records, u64::MAX),
            told(&expected.records, cut.0),
        );
        assert_eq!(is, shall, "seed {seed}");
        // And the log itself goes on as if nobody had looked.
        work.world.settle();
        removed += work.world.log.stats().removed;
        let (_, _, report) = work.world.crash(Crash::Nothing);
        assert_eq!(report.damage, [], "seed {seed}");
    }
    assert!(
        removed > 20 && copied > 80,
        "{removed} removed, {copied} copied"
    );
}

#[test]
fn nothing_pinned_goes_until_it_is_released() {
    let mut world = World::new();
    let mut next = 0;
    fill(&mut world, &mut next, 4);
    world.checkpoint(&[(1, b"one")]);
    let pinned = world.log.pin(NO_LIMITS).unwrap();
    assert_eq!(world.log.pin(NO_LIMITS), Err(PinRefused::Pinned));
    world.log.release_stream(ResourceId(1), P, Offset(next));
    for state in [&b"two"[..], b"three", b"four"] {
        fill(&mut world, &mut next, 1);
        world.checkpoint(&[(1, state)]);
    }
    for file in &pinned.files {
        assert!(world.disk.files.contains_key(&file.file), "{file:?}");
    }
    world.log.unpin();
    world.settle();
    let gone = pinned
        .files
        .iter()
        .filter(|file| !world.disk.files.contains_key(&file.file));
    assert!(gone.count() >= 5, "four segments and a checkpoint");
    assert!(!world.log.is_pinned());
}

#[test]
fn what_is_not_in_the_copy_goes_while_the_pin_holds() {
    let mut world = World::new();
    let mut next = 0;
    fill(&mut world, &mut next, 1);
    let pinned = world.log.pin(NO_LIMITS).unwrap();
    fill(&mut world, &mut next, 4);
    world.log.release_stream(ResourceId(1), P, Offset(next));
    for state in [&b"one"[..], b"two"] {
        world.checkpoint(&[(1, state)]);
    }
    let last = pinned
        .files
        .iter()
        .filter(|file| matches!(file.file, FileId::Segment { .. }));
    let last = last.count() as u64;
    let numbers = segments(&world.disk);
    assert!(
        numbers.contains(&last) && !numbers.contains(&(last + 1)),
        "{numbers:?}"
    );
}

#[test]
fn a_pin_ends_before_it_harms_the_log() {
    // Its time is over.
    let mut world = World::new();
    let until = Monotonic::ZERO + Duration::from_secs(5);
    world.log.pin(PinLimits { until, ..NO_LIMITS }).unwrap();
    assert_eq!(world.log.next_deadline(), Some(until));
    world.pass(4_000);
    assert!(world.log.is_pinned());
    world.pass(1_001);
    assert!(!world.log.is_pinned());

    // It holds too much.
    let mut next = 0;
    let limits = PinLimits {
        held_bytes_max: 3 << 20,
        ..NO_LIMITS
    };
    fill(&mut world, &mut next, 6);
    world.log.pin(limits).unwrap();
    world.log.release_stream(ResourceId(1), P, Offset(next / 2));
    world.checkpoint(&[]);
    world.checkpoint(&[]);
    assert!(
        world.log.is_pinned(),
        "two segments or three are within its limit"
    );
    world.log.release_stream(ResourceId(1), P, Offset(next));
    world.checkpoint(&[]);
    assert!(!world.log.is_pinned());
    assert!(world.log.stats().removed >= 5);

    // The disk is full, and it holds something of what would be room.
    fill(&mut world, &mut next, 4);
    world.log.pin(NO_LIMITS).unwrap();
    world.disk.full = true;
    while !world
        .events
        .iter()
        .any(|event| matches!(event, LogEvent::ReadOnly(true)))
    {
        world.append(1, next, 10, &body(1, next, 50_000));
        next += 10;
        world.settle();
    }
    assert!(world.log.is_pinned(), "it holds nothing that anybody wants");
    world.log.release_stream(ResourceId(1), P, Offset(next));
    // Files without a length, like those of checkpoints, can be made again, and the log
    // has not tried yet to make another segment.
    world.disk.full = false;
    world.checkpoint(&[]);
    world.checkpoint(&[]);
    assert!(!world.log.is_pinned());

    // It is sealed.
    world.pass(3_000);
    world.log.pin(NO_LIMITS).unwrap();
    world.log.seal();
    world.settle();
    assert!(
        world
            .events
            .iter()
            .any(|event| matches!(event, LogEvent::Sealed))
    );
    assert_eq!(world.log.pin(NO_LIMITS), Err(PinRefused::Sealed));
}

#[test]
fn a_log_whose_write_failed_can_be_copied_up_to_what_it_acknowledged() {
    let mut world = World::new();
    let mut next = 0;
    fill(&mut world, &mut next, 2);
    let cut = world.log.committed();
    world.disk.fail_write = Some(DiskError::Io { errno: 5 });
    world.append(1, next, 10, b"never acknowledged");
    world.settle();
    let mut copy = Copy::of(world.log.pin(NO_LIMITS).unwrap());
    while copy.step(&world.disk) {}
    let (recovered, visited) = open(&mut copy.disk).unwrap();
    assert_eq!((recovered.log.committed(), visited.damage), (cut, vec![]));
}
