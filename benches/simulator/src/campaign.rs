//! Many seeds, one after the other or side by side, and what they covered.

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use crate::Violation;
use crate::log::crash::{self, CrashCounts};
use crate::log::faults::{self, FaultCounts};
use crate::log::rot::{self, RotCounts};
use crate::node::{self, Injection, LossyCounts, NodeCounts};
use crate::plane::{self, PlaneCounts};

/// Bits turned over per log that is made for it.
const FLIPS_PER_SEED: u64 = 500;
/// Requests of one workload that fail, each in a run of its own.
const SITES_PER_SEED: u64 = 40;

/// A way to hurt the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// A crash of the log at every operation, mode and sector boundary.
    Crash,
    /// Single bits of the log's files turned over.
    Rot,
    /// Every request of a log fails once.
    Fault,
    /// The disk below a log fills up and is given room again.
    Full,
    /// The disk below a log misdirects, gives old bytes, and is slow.
    Lying,
    /// A whole node with its clients.
    Node,
    /// A whole node on a disk that says durable and is not.
    Lossy,
    /// The control planes of one, three or five nodes.
    Plane,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Crash,
        Self::Rot,
        Self::Fault,
        Self::Full,
        Self::Lying,
        Self::Node,
        Self::Lossy,
        Self::Plane,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Rot => "rot",
            Self::Fault => "fault",
            Self::Full => "full",
            Self::Lying => "lying",
            Self::Node => "node",
            Self::Lossy => "lossy",
            Self::Plane => "plane",
        }
    }
}

/// What was covered so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Seeds run.
    pub seeds: u64,
    /// Seeds run a second time to compare the hashes of what happened.
    pub repeated: u64,
    /// Crashes.
    pub crash: CrashCounts,
    /// Bits.
    pub rot: RotCounts,
    /// Failing requests, full disks and lies.
    pub fault: FaultCounts,
    /// What clients of whole nodes did.
    pub node: NodeCounts,
    /// What became of nodes on disks that say durable and are not.
    pub lossy: LossyCounts,
    /// What became of control planes and their clients.
    pub plane: PlaneCounts,
}

impl Totals {
    /// Adds another campaign's.
    pub fn add(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.repeated += other.repeated;
        self.crash.add(&other.crash);
        self.rot.add(&other.rot);
        self.fault.add(&other.fault);
        self.node.add(&other.node);
        self.lossy.add(&other.lossy);
        self.plane.add(&other.plane);
    }
}

/// One line of what was covered.
struct Row {
    name: &'static str,
    count: u64,
    /// The kind whose whole campaign meets it at least once; none where that
    /// depends on which kinds run.
    of: Option<Kind>,
}

impl Totals {
    fn rows(&self) -> Vec<Row> {
        let Self {
            seeds,
            repeated,
            crash,
            rot,
            fault,
            node,
            lossy,
            plane,
        } = self;
        let any = |name, count| Row {
            name,
            count,
            of: None,
        };
        let row = |of, name, count| Row {
            of: Some(of),
            ..any(name, count)
        };
        vec![
            any("seeds", *seeds),
            any("seeds run twice, same hash", *repeated),
            row(Kind::Crash, "crash points", crash.points),
            row(Kind::Crash, "sector boundaries cut", crash.boundaries),
            row(Kind::Crash, "logs opened after a crash", crash.recoveries),
            row(Kind::Crash, "torn tails found", crash.torn),
            row(Kind::Crash, "checkpoints under crashes", crash.checkpoints),
            row(Kind::Crash, "records moved under crashes", crash.relocated),
            row(Kind::Crash, "reads compared", crash.reads),
            row(Kind::Rot, "bits turned over", rot.flips),
            row(Kind::Rot, "  in segments", rot.in_segments),
            row(Kind::Rot, "  in checkpoints", rot.in_checkpoints),
            row(
                Kind::Rot,
                "  in records that are needed",
                rot.in_live_records,
            ),
            row(
                Kind::Rot,
                "  noticed at opening",
                rot.at_opening + rot.refused,
            ),
            row(Kind::Rot, "  noticed at reading", rot.at_reading),
            row(Kind::Rot, "  in bytes that nobody needs", rot.harmless),
            row(Kind::Fault, "requests made to fail", fault.sites),
            row(Kind::Fault, "  logs that stopped", fault.failed),
            row(Kind::Full, "disks that filled up", fault.read_only),
            row(Kind::Lying, "disks that lied", fault.lying),
            row(Kind::Lying, "  lies told", fault.lies),
            row(Kind::Lying, "  noticed", fault.noticed),
            row(Kind::Node, "crashes of nodes", node.crashes),
            row(Kind::Node, "clean stops of nodes", node.drains),
            row(Kind::Node, "wall clocks set by an hour", node.jumps),
            row(Kind::Node, "faults of nodes' disks", node.faults),
            row(Kind::Node, "records acknowledged", node.published),
            row(Kind::Node, "records delivered", node.delivered),
            row(Kind::Node, "messages put", node.put),
            row(Kind::Node, "messages taken", node.taken),
            row(Kind::Node, "messages done", node.acked),
            row(Kind::Node, "dead letters listed", node.dead),
            row(Kind::Node, "dead letters replayed or purged", node.redriven),
            row(Kind::Node, "append sessions committed", node.sessions),
            row(Kind::Node, "append sessions given up", node.rolled_back),
            row(Kind::Node, "acknowledged batches repeated", node.repeats),
            row(Kind::Node, "records that retention overtook", node.lagged),
            row(Kind::Node, "records delivered by a filter", node.filtered),
            row(Kind::Node, "subscriptions from a time", node.since),
            row(Kind::Node, "subscriptions behind the end", node.beyond),
            row(Kind::Node, "records dropped for slow readers", node.dropped),
            row(Kind::Node, "slow readers disconnected", node.disconnected),
            row(
                Kind::Node,
                "publishes that a reader blocked",
                node.backlogged,
            ),
            row(Kind::Node, "records in memory", node.in_memory),
            row(Kind::Node, "producers forgotten", node.forgotten),
            row(Kind::Node, "cursors deleted", node.cursors_deleted),
            row(Kind::Node, "consumer groups made", node.groups_made),
            row(Kind::Node, "consumer groups deleted", node.groups_deleted),
            row(Kind::Node, "partitions inspected", node.inspected),
            row(Kind::Node, "requests refused", node.refused),
            row(Kind::Lossy, "nodes on disks that forget", lossy.worlds),
            row(Kind::Lossy, "  writes forgotten", lossy.lies),
            row(Kind::Lossy, "  noticed", lossy.noticed),
            // About one node in a hundred: too rare for the slice to promise.
            any("  only the end of the log lost", lossy.suffixes),
            row(Kind::Plane, "control planes of one node", plane.ones),
            row(Kind::Plane, "control planes of three nodes", plane.threes),
            row(Kind::Plane, "control planes of five nodes", plane.fives),
            row(Kind::Plane, "changes of leader", plane.elections),
            row(Kind::Plane, "partitions", plane.parted),
            row(Kind::Plane, "wires cut in one direction", plane.one_way),
            row(Kind::Plane, "wires that came and went", plane.flapping),
            row(Kind::Plane, "messages lost", plane.lost),
            row(Kind::Plane, "messages repeated", plane.repeated),
            row(Kind::Plane, "messages overtaken", plane.late),
            row(Kind::Plane, "commands forwarded", plane.forwarded),
            row(Kind::Plane, "connections broken", plane.resets),
            row(Kind::Plane, "crashes of members", plane.crashes),
            row(Kind::Plane, "clean stops of members", plane.drains),
            row(Kind::Plane, "members that stood still", plane.pauses),
            row(Kind::Plane, "members' disks that were slow", plane.slow),
            row(Kind::Plane, "members whose disks failed", plane.failed),
            row(
                Kind::Plane,
                "leads given away for a slow disk",
                plane.handed_over,
            ),
            row(Kind::Plane, "members' wall clocks set", plane.jumps),
            row(Kind::Plane, "stamps ahead of the clock", plane.behind_stamp),
            row(Kind::Plane, "snapshots made", plane.snapshots),
            row(Kind::Plane, "snapshots sent to a member", plane.restored),
            row(Kind::Plane, "changes shown by members", plane.changes),
            row(Kind::Plane, "states compared by hash", plane.hashes),
            row(Kind::Plane, "metadata writes done", plane.writes),
            row(Kind::Plane, "  repeats of what was done", plane.repeats),
            row(Kind::Plane, "  refused, for a true reason", plane.refused),
            row(Kind::Plane, "  unknown", plane.unknown),
            row(Kind::Plane, "  unknown and done", plane.unknown_done),
            row(Kind::Plane, "linearizable reads", plane.reads),
            row(Kind::Plane, "stale reads", plane.stale),
            row(Kind::Plane, "  behind the newest version", plane.behind),
            row(
                Kind::Plane,
                "changes that watchers were given",
                plane.watched,
            ),
            row(Kind::Plane, "watchers that began anew", plane.resnapshots),
            row(Kind::Plane, "tenants purged", plane.purged),
            row(Kind::Plane, "disks of members lost", plane.wiped),
            row(Kind::Plane, "members that came later", plane.joined),
            row(Kind::Plane, "members replaced", plane.replaced),
            row(Kind::Plane, "brokers that were missed", plane.down),
            row(Kind::Plane, "brokers that registered", plane.registered),
        ]
    }

    /// What a whole campaign of `kinds` promises to meet and has met not once:
    /// an oracle that is never asked says nothing.
    #[must_use]
    pub fn never_met(&self, kinds: &[Kind]) -> Vec<&'static str> {
        let promised = |row: &Row| row.of.is_some_and(|kind| kinds.contains(&kind));
        let rows = self.rows().into_iter();
        let never = rows.filter(|row| row.count == 0 && promised(row));
        never.map(|row| row.name.trim_start()).collect()
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rows()
            .iter()
            .try_for_each(|Row { name, count, .. }| writeln!(f, "  {name:<34} {count:>12}"))
    }
}

/// A seed that broke a promise.
#[derive(Clone, Debug)]
pub struct Failure {
    /// How the engine was hurt.
    pub kind: Kind,
    /// From which seed.
    pub seed: u64,
    /// Steps of a node's world after which it is found already.
    pub steps: u64,
    /// What was wrong on purpose.
    pub injection: Option<Injection>,
    /// What was found.
    pub violation: Violation,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, seed) = (self.kind.name(), self.seed);
        writeln!(f, "FAILED {kind}, seed {seed}: {}", self.violation)?;
        for event in &self.violation.events {
            writeln!(f, "    {event}")?;
        }
        if let Some(hash) = self.violation.hash {
            writeln!(f, "  hash of what happened: {hash:016x}")?;
        }
        write!(f, "  again: pinion-sim {}", self.options())
    }
}

impl Failure {
    /// The options of `pinion-sim` that make the same thing happen again.
    #[must_use]
    pub fn options(&self) -> String {
        let (kind, seed) = (self.kind.name(), self.seed);
        let mut options = format!("--only {kind} --seed {seed}");
        if matches!(self.kind, Kind::Node | Kind::Lossy | Kind::Plane) {
            options += &format!(" --steps {}", self.steps);
        }
        if let Some(injection) = self.injection {
            let value = clap::ValueEnum::to_possible_value(&injection);
            let name = value.as_ref().map_or("", |value| value.get_name());
            options += &format!(" --inject {name}");
        }
        options
    }
}

/// What one seed gave.
pub struct Outcome {
    /// What it covered.
    pub totals: Totals,
    /// Hash of everything that happened.
    pub hash: u64,
}

/// Runs one seed of one kind; a node's world for `steps` steps. A panic of the
/// engine is a violation.
///
/// # Errors
/// The first broken promise.
pub fn run_seed(
    kind: Kind,
    seed: u64,
    steps: u64,
    injection: Option<Injection>,
) -> Result<Outcome, Failure> {
    let work = AssertUnwindSafe(|| attempt(kind, seed, steps, injection));
    let result = catch_unwind(work).unwrap_or_else(|panic| {
        let what = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("without a word");
        Err(Violation::new(format!("the engine panicked: {what}")))
    });
    result.map_err(|violation| Failure {
        kind,
        seed,
        steps,
        injection,
        violation,
    })
}

/// The same failure from as few steps as a few tries find.
fn shrunk(failure: Failure) -> Failure {
    let mut smallest = failure;
    if matches!(smallest.kind, Kind::Node | Kind::Lossy | Kind::Plane) {
        let mut tried = smallest.steps / 2;
        while tried > 0 {
            match run_seed(smallest.kind, smallest.seed, tried, smallest.injection) {
                Err(failure) => smallest = failure,
                Ok(_) => break,
            }
            tried /= 2;
        }
    }
    smallest
}

fn attempt(
    kind: Kind,
    seed: u64,
    steps: u64,
    injection: Option<Injection>,
) -> Result<Outcome, Violation> {
    let mut totals = Totals {
        seeds: 1,
        ..Totals::default()
    };
    let mut hash = seed;
    match kind {
        Kind::Crash => (totals.crash, hash) = crash::enumerate(seed)?,
        Kind::Rot => totals.rot = rot::flip(seed, FLIPS_PER_SEED)?,
        Kind::Fault => totals.fault = faults::at_every_request(seed, SITES_PER_SEED)?,
        Kind::Full => (totals.fault, hash) = faults::full_disk(seed)?,
        Kind::Lying => (totals.fault, hash) = faults::lying_disk(seed)?,
        Kind::Node => (totals.node, hash) = node::run(seed, steps, injection)?,
        Kind::Lossy => (totals.lossy, hash) = node::run_lossy(seed, steps)?,
        Kind::Plane => (totals.plane, hash) = plane::run(seed, steps)?,
    }
    Ok(Outcome { totals, hash })
}

/// When a campaign has done enough.
#[derive(Clone, Copy, Debug)]
pub enum Enough {
    /// After so many seeds.
    Seeds(u64),
    /// After so many crash points.
    CrashPoints(u64),
    /// After so many bits.
    Flips(u64),
    /// After so many requests made to fail.
    Sites(u64),
    /// After so many control planes of several nodes.
    Groups(u64),
    /// After so long.
    Time(Duration),
}

impl Enough {
    fn reached(self, totals: &Totals, started: u64, since: Instant) -> bool {
        match self {
            Self::Seeds(seeds) => started >= seeds,
            Self::CrashPoints(points) => totals.crash.points >= points,
            Self::Flips(flips) => totals.rot.flips >= flips,
            Self::Sites(sites) => totals.fault.sites >= sites,
            Self::Groups(groups) => totals.plane.groups() >= groups,
            Self::Time(time) => since.elapsed() >= time,
        }
    }
}

/// Runs seeds from `first` on until it is enough, or `failures_max` of them broke
/// a promise, on `threads` threads. Every hundredth seed is run twice and must
/// give the same hash.
#[must_use]
pub fn run(
    kind: Kind,
    first: u64,
    enough: Enough,
    threads: usize,
    failures_max: usize,
    injection: Option<Injection>,
) -> (Totals, Vec<Failure>) {
    let since = Instant::now();
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let shared = Mutex::new((Totals::default(), Vec::new()));
    let locked = || shared.lock().expect("a seed's panic is caught before");
    let work = || {
        loop {
            let started = next.fetch_add(1, Ordering::Relaxed);
            if stop.load(Ordering::Relaxed) || enough.reached(&locked().0, started, since) {
                return;
            }
            let seed = first + started;
            let mut result = run_seed(kind, seed, node::STEPS, injection).map_err(shrunk);
            if let Ok(outcome) = &mut result
                && started.is_multiple_of(100)
            {
                outcome.totals.repeated = 1;
                if let Err(failure) = compare(kind, seed, injection, outcome.hash) {
                    result = Err(failure);
                }
            }
            let mut shared = locked();
            match result {
                Ok(outcome) => shared.0.add(&outcome.totals),
                Err(failure) => {
                    shared.0.seeds += 1;
                    shared.1.push(failure);
                    stop.store(shared.1.len() >= failures_max, Ordering::Relaxed);
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let (totals, mut failures) = shared.into_inner().expect("every worker came home");
    failures.sort_by_key(|failure| failure.seed);
    (totals, failures)
}

fn compare(kind: Kind, seed: u64, injection: Option<Injection>, hash: u64) -> Result<(), Failure> {
    let again = run_seed(kind, seed, node::STEPS, injection)?.hash;
    if again == hash {
        return Ok(());
    }
    let what = format!("two runs of one seed differ: {hash:016x} and {again:016x}");
    Err(Failure {
        kind,
        seed,
        steps: node::STEPS,
        injection,
        violation: Violation::new(what),
    })
}
