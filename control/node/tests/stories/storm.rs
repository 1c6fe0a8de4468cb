//! A fleet of consumers is lost: what they had comes back, and nobody else
//! notices (F17).

use core::time::Duration;
use std::collections::BTreeSet;

use pinion_types::PartitionId;
use pinion_wire::message::{Handle, QueuePeek, QueueSpec, Reply, Request, States};

use super::done;
use super::queues::{ack, declare, put, spec, take_in};
use crate::harness::{ADMIN, Id, World};

const CONSUMERS: usize = 100;
const HELD_BY_EACH: u32 = 1000;
const TICK: Duration = Duration::from_millis(10);
/// What the worker that is left gets done in a tick, and what is new in one.
const WORKED: u32 = 60;
const FRESH: usize = 16;
const REDELIVERIES_PER_S: u32 = 2000;
/// What a group may be given again at once after a quiet time.
const BURST: usize = 1000;
const LEASE_MS: u32 = 2000;
const BACKOFF_MS: u64 = 1000;

/// The fleet is gone, and one worker goes on with a steady stream of new work.
struct Storm {
    w: World,
    worker: Id,
    handle: Handle,
    tick: usize,
    /// Id of the first message of each tick's put.
    puts: Vec<u64>,
    next_id: u64,
    /// Messages that came again, in each tick.
    again: Vec<usize>,
}

impl Storm {
    /// The fleet takes all there is.
    fn new() -> (Self, Vec<Id>) {
        let mut w = World::one();
        let worker = w.client(0, ADMIN);
        let queue = QueueSpec {
            visibility_ms: LEASE_MS,
            max_in_flight: 200_000,
            backoff_min_ms: u32::try_from(BACKOFF_MS).unwrap(),
            redeliveries_per_s: REDELIVERIES_PER_S,
            ..QueueSpec::UNSET
        };
        let mut declared = spec(queue);
        declared.ring_bytes = 16 << 20;
        let handle = declare(&mut w, worker, declared);
        let some = vec![&b"work"[..]; HELD_BY_EACH as usize];
        let fleet: Vec<Id> = (0..CONSUMERS)
            .map(|_| {
                let id = w.client(0, ADMIN);
                let theirs = w.open(id, pinion_types::ResourceKind::Queue, "q");
                put(&mut w, worker, handle, &some);
                let taken = take_in(&mut w, id, theirs, "", HELD_BY_EACH);
                assert_eq!(taken.len(), HELD_BY_EACH as usize);
                id
            })
            .collect();
        let storm = Self {
            w,
            worker,
            handle,
            tick: 0,
            puts: Vec::new(),
            next_id: CONSUMERS as u64 * u64::from(HELD_BY_EACH),
            again: Vec::new(),
        };
        (storm, fleet)
    }

    /// New work comes and the worker does what it can; gives for how many ticks
    /// the new work it did had waited, the longest, its own tick included.
    fn tick(&mut self, attempt: u16) -> usize {
        self.puts.push(self.next_id);
        put(&mut self.w, self.worker, self.handle, &[&b"new"[..]; FRESH]);
        self.next_id += FRESH as u64;
        let taken = take_in(&mut self.w, self.worker, self.handle, "", WORKED);
        let (mut wait, mut again) = (0, 0);
        for (id, tries, _) in &taken {
            if *id < self.puts[0] {
                assert_eq!(*tries, attempt, "of {id}");
                again += 1;
            } else {
                let put = self.puts.partition_point(|first| first <= id) - 1;
                wait = wait.max(self.tick - put + 1);
            }
        }
        self.again.push(again);
        let tokens: Vec<_> = taken.into_iter().map(|one| one.2).collect();
        ack(&mut self.w, self.worker, self.handle, &tokens);
        self.tick += 1;
        self.w.advance(TICK);
        wait
    }

    fn ticks(&mut self, ticks: usize, attempt: u16) -> usize {
        (0..ticks).map(|_| self.tick(attempt)).max().unwrap()
    }

    /// Nobody waited for more than twice as long as before, and what came again
    /// came at its pace: never faster, and as fast as that when it could.
    fn check(&self, before: usize, after: usize, from: usize) {
        assert!(after <= 2 * before, "{before} ticks before, {after} after");
        let again = &self.again[from..];
        let a_second = again.windows(100).map(|ticks| ticks.iter().sum::<usize>());
        let most = a_second.max().unwrap();
        let rate = REDELIVERIES_PER_S as usize;
        assert!(most <= rate + BURST + rate / 100, "{most} in a second");
        let all: usize = again.iter().sum();
        let seconds = again.len() / 100;
        assert!(all >= seconds * rate, "{all} in {seconds} seconds");
    }
}

#[test]
fn a_hundred_consumers_whose_connections_are_lost_are_no_storm() {
    let (mut storm, fleet) = Storm::new();
    let before = storm.ticks(100, 1);
    for id in fleet {
        storm.w.disconnect(id);
    }
    // What a lost connection had is not charged with an attempt.
    let after = storm.ticks(400, 1);
    storm.check(before, after, 100);
}

#[test]
fn a_hundred_consumers_that_fall_silent_are_no_storm() {
    let (mut storm, _) = Storm::new();
    let before = storm.ticks(100, 1);
    // Every reservation runs out within one tick.
    let quiet = storm.ticks(LEASE_MS as usize / 10 - 100 + 1, 2);
    let peek = QueuePeek {
        handle: storm.handle,
        partition: PartitionId(0),
        from: 50_000,
        max_items: 1000,
        max_bytes: 0,
        states: States::DELAYED,
        bodies: false,
        group: "",
    };
    let answer = done(&mut storm.w, storm.worker, &Request::QueuePeek(peek));
    let Reply::QueuePage(page) = answer.reply() else {
        panic!("{answer:?}")
    };
    assert_eq!(page.items.len(), 1000, "all wait for their backoff");
    let dues: BTreeSet<u64> = page.items.iter().map(|one| one.due.0).collect();
    let span = dues.last().unwrap() - dues.first().unwrap();
    assert!(dues.last().unwrap() - storm.w.wall.0 <= BACKOFF_MS);
    assert!(
        span >= BACKOFF_MS * 4 / 10 && dues.len() > 300,
        "failed together, and back one by one: {} times in {span} ms",
        dues.len()
    );
    let backing_off = storm.ticks(50, 2);
    let from = storm.tick;
    let after = storm.ticks(400, 2);
    storm.check(before, after.max(quiet).max(backing_off), from);
}
