//! One log, its disk, and an owner that does what a shard does: here the world
//! and its pump, in `owner` what the owner appends, in `reading` what it reads
//! and compares.

mod owner;
mod reading;

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use pinion_commitlog::{
    Damage, FileId, Location, Log, LogConfig, LogEvent, Lsn, ReadError, RecordHead,
};
use pinion_simkit::{SimClock, SimDisk, SimRng, Trace};
use pinion_types::{Offset, ResourceId, WallMs};

use super::model::{Fold, Key, Model};
use crate::{Violation, promise, what};

/// Steps after which a world that should come to rest is said never to.
const SETTLE_STEPS_MAX: u32 = 200_000;
/// What the log's own copies may add to its backlog.
const BACKLOG_SLACK: usize = 300 << 10;
/// A deadline further away than this is no work: pacing and retries are nearer.
const REST: Duration = Duration::from_secs(20);

/// How a world's owner behaves.
#[derive(Clone, Debug)]
pub(crate) struct Habits {
    pub(crate) streams: u64,
    pub(crate) queues: u64,
    /// Longest body in bytes; most are far shorter.
    pub(crate) body_max: usize,
    /// A checkpoint about every so many acts; 0 for when the log asks only.
    pub(crate) checkpoint_every: u64,
    /// Prefers acknowledging and trimming to adding.
    pub(crate) shrink: bool,
    /// Every record is as long as every other and lies alone in its group: only
    /// its place tells it from its neighbours.
    pub(crate) uniform: bool,
}

impl Default for Habits {
    fn default() -> Self {
        Self {
            streams: 3,
            queues: 2,
            body_max: 9_000,
            checkpoint_every: 60,
            shrink: false,
            uniform: false,
        }
    }
}

/// What may go wrong without being a violation.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tolerance {
    /// The disk damages data: it must be told, and may be unreadable.
    pub(crate) damage: bool,
    /// Requests fail: the log may stop, and reads may fail.
    pub(crate) failure: bool,
}

/// Where the pump is when it lets somebody look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    /// A request is about to be done.
    BeforeDone,
    /// It is done and the log has heard of it.
    AfterDone,
}

/// What becomes possible once a record is committed.
enum Effect {
    Trim { key: Key, first: u64 },
    Release(Location),
}

enum Wanted {
    /// `gone` when what is asked for was trimmed for good before.
    Stream {
        key: Key,
        from: u64,
        gone: bool,
    },
    Message {
        key: Key,
        id: u64,
    },
}

/// What a finished read gave.
pub(crate) enum ReadOutcome {
    /// Right, as far as the stream's next offset to read.
    Until(u64),
    /// A message, right.
    Message,
    /// The log said that it cannot be read.
    Refused(ReadError),
}

/// Counts of one world, for reports.
#[derive(Clone, Copy, Debug, Default)]
pub struct WorldStats {
    /// Records appended.
    pub records: u64,
    /// Reads whose content was compared.
    pub reads: u64,
    /// Reads that the log refused with a reason that was allowed.
    pub reads_refused: u64,
    /// Checkpoints finished.
    pub checkpoints: u64,
    /// Records that compaction moved.
    pub relocated: u64,
    /// Appends refused because the disk was full.
    pub read_only_refusals: u64,
}

pub(crate) struct World {
    pub(crate) log: Log,
    pub(crate) disk: SimDisk,
    pub(crate) clock: SimClock,
    pub(crate) model: Model,
    pub(crate) config: LogConfig,
    pub(crate) habits: Habits,
    pub(crate) tolerance: Tolerance,
    pub(crate) trace: Trace,
    pub(crate) rng: SimRng,
    pub(crate) stats: WorldStats,
    /// As of everything appended.
    pub(crate) owner: Fold,
    /// As of everything committed.
    committed: Fold,
    committed_records: usize,
    effects: VecDeque<(Lsn, Effect)>,
    reads: BTreeMap<u64, Wanted>,
    next_token: u64,
    finished: Vec<(u64, ReadOutcome)>,
    pub(crate) failed: bool,
    pub(crate) read_only: bool,
    pub(crate) sealing: bool,
    pub(crate) sealed: bool,
    pub(crate) damage: Vec<Damage>,
    checkpoint_wanted: bool,
    checkpointing: VecDeque<Key>,
    acts: u64,
}

/// Nobody looks.
pub(crate) fn unwatched(_: &World, _: Point) -> Result<(), Violation> {
    Ok(())
}

type Watch<'a> = &'a mut dyn FnMut(&World, Point) -> Result<(), Violation>;

impl World {
    /// A world that goes on from a recovered log and what it was found to hold.
    pub(crate) fn new(
        log: Log,
        disk: SimDisk,
        model: Model,
        owner: Fold,
        config: LogConfig,
        habits: Habits,
        mut rng: SimRng,
    ) -> Self {
        let mut clock = SimClock::new(WallMs(1_700_000_000_000));
        clock.advance(Duration::from_millis(rng.between(1, 50)));
        let committed_records = model.records.len();
        let mut world = Self {
            log,
            disk,
            clock,
            model,
            config,
            habits,
            tolerance: Tolerance::default(),
            trace: Trace::default(),
            rng,
            stats: WorldStats::default(),
            committed: owner.clone(),
            owner,
            committed_records,
            effects: VecDeque::new(),
            reads: BTreeMap::new(),
            next_token: 1,
            finished: Vec::new(),
            failed: false,
            read_only: false,
            sealing: false,
            sealed: false,
            damage: Vec::new(),
            checkpoint_wanted: false,
            checkpointing: VecDeque::new(),
            acts: 0,
        };
        world.tell_liveness();
        world
    }

    /// After a restart the owner says again what is still needed.
    fn tell_liveness(&mut self) {
        for ((resource, partition), state) in &self.owner.0 {
            if is_stream(*resource, &self.habits) {
                self.log
                    .release_stream(*resource, *partition, Offset(state.first));
            }
            for at in state.live.values() {
                self.log.retain(*at);
            }
        }
        self.log.ready();
    }

    // ---- the pump ----------------------------------------------------------

    /// One turn of the core and of the disk; false when nothing is left to do.
    pub(crate) fn step(&mut self, watch: Watch<'_>) -> Result<bool, Violation> {
        let mut moved = false;
        let now = self.clock.now();
        if self.log.next_deadline().is_some_and(|at| at <= now) {
            self.log.handle_timeout(now);
        }
        self.log.end_turn(now);
        moved |= self.submit();
        self.events()?;
        // Time passes to the next thing that happens, or a little less.
        let mut next = self.disk.next_deadline();
        if let Some(at) = self.log.next_deadline()
            && at.since(now) < REST
        {
            next = Some(next.map_or(at, |next| next.min(at)));
            moved = true;
        }
        if let Some(at) = next {
            moved = true;
            self.clock.advance_to(at);
        }
        let now = self.clock.now();
        while self.disk.next_deadline().is_some_and(|at| at <= now) {
            watch(self, Point::BeforeDone)?;
            let Some(done) = self.disk.poll_done(now) else {
                break;
            };
            let ok = u64::from(done.result.is_ok());
            self.trace.note(now, "done", &[done.op.0, ok]);
            self.log.handle_done(now, done);
            self.events()?;
            watch(self, Point::AfterDone)?;
        }
        moved |= self.submit();
        Ok(moved)
    }

    /// What the log wants goes to the disk.
    fn submit(&mut self) -> bool {
        let now = self.clock.now();
        let mut any = false;
        while let Some(request) = self.log.poll_request() {
            any = true;
            let (op, file) = request.target();
            let (kind, number) = match file {
                FileId::Segment { number, .. } => (1, number),
                FileId::Checkpoint { number, .. } => (2, number),
            };
            self.trace.note(now, what(&request), &[op.0, kind, number]);
            self.disk.submit(now, request);
        }
        any
    }

    /// Turns until nothing is left to do.
    pub(crate) fn settle(&mut self, watch: Watch<'_>) -> Result<(), Violation> {
        let result = self.settle_steps(watch);
        result.map_err(|v| v.after(&self.trace))
    }

    fn settle_steps(&mut self, watch: Watch<'_>) -> Result<(), Violation> {
        for _ in 0..SETTLE_STEPS_MAX {
            if !self.step(watch)? || self.sealed {
                return self.at_rest();
            }
            // A deadline that is always near, such as pacing, is no work when
            // everything asked for is done.
            if self.disk.in_flight().next().is_none()
                && self.log.committed() == self.log.appended()
                && self.reads.is_empty()
                && !self.sealing
            {
                return self.at_rest();
            }
        }
        Err(Violation::new("the log never comes to rest".to_owned()))
    }

    fn at_rest(&self) -> Result<(), Violation> {
        let (appended, committed) = (self.log.appended(), self.log.committed());
        promise!(
            appended == committed || self.failed || self.read_only,
            "at rest with {committed:?} committed of {appended:?}"
        );
        Ok(())
    }

    /// Acts and turns, `acts` times.
    pub(crate) fn run(&mut self, acts: u64, watch: Watch<'_>) -> Result<(), Violation> {
        for _ in 0..acts {
            let mut result = self.act();
            // Several acts share a turn now and then.
            if result.is_ok() && !self.rng.one_in(3) {
                result = self.step(watch).map(|_| ());
            }
            result.map_err(|v| v.after(&self.trace))?;
        }
        Ok(())
    }

    fn events(&mut self) -> Result<(), Violation> {
        while let Some(event) = self.log.poll_event() {
            match event {
                LogEvent::Committed { lsn } => self.committed(lsn)?,
                LogEvent::Failed { error } => {
                    promise!(self.tolerance.failure, "the log failed: {error:?}");
                    self.trace.note(self.clock.now(), "failed", &[]);
                    self.failed = true;
                }
                LogEvent::ReadOnly(on) => {
                    promise!(
                        self.tolerance.failure,
                        "read-only ({on}) on a disk with room"
                    );
                    self.trace
                        .note(self.clock.now(), "read-only", &[u64::from(on)]);
                    self.read_only = on;
                }
                LogEvent::StreamRead { token, result } => self.stream_arrived(token, result)?,
                LogEvent::RecordRead { token, result } => self.message_arrived(token, result)?,
                LogEvent::Relocated { head, from, to } => self.relocated(&head, from, to)?,
                LogEvent::CheckpointWanted => self.checkpoint_wanted = true,
                LogEvent::CheckpointDone => self.stats.checkpoints += 1,
                LogEvent::Damaged(damage) => {
                    promise!(self.tolerance.damage, "damage out of nothing: {damage:?}");
                    self.damage.push(damage);
                }
                LogEvent::Sealed => self.sealed = true,
            }
        }
        Ok(())
    }

    fn committed(&mut self, lsn: Lsn) -> Result<(), Violation> {
        self.trace.note(self.clock.now(), "committed", &[lsn.0]);
        promise!(!self.failed, "{lsn:?} is committed after the log failed");
        promise!(
            lsn >= self.model.acked && lsn <= self.log.appended(),
            "{lsn:?} is committed after {:?} of {:?}",
            self.model.acked,
            self.log.appended()
        );
        if let Some(split) = self.model.split_batch(lsn) {
            return Err(Violation::new(format!(
                "{lsn:?} commits part of the batch {split:?}"
            )));
        }
        self.model.acked = lsn;
        while let Some(record) = self.model.records.get(self.committed_records)
            && record.lsn <= lsn
        {
            self.committed_records += 1;
            let state = self.committed.of(&record.head);
            state.apply(&record.head, Some(record.at), record.digest)?;
        }
        while let Some((at, _)) = self.effects.front()
            && *at <= lsn
            && let Some((_, effect)) = self.effects.pop_front()
        {
            match effect {
                Effect::Trim { key, first } => {
                    self.log.release_stream(key.0, key.1, Offset(first));
                }
                Effect::Release(at) => self.log.release(at),
            }
        }
        Ok(())
    }

    fn relocated(
        &mut self,
        head: &RecordHead,
        from: Location,
        to: Location,
    ) -> Result<(), Violation> {
        self.stats.relocated += 1;
        self.trace
            .note(self.clock.now(), "relocated", &[head.first, to.segment]);
        if let Some(at) = self.committed.of(head).live.get_mut(&head.first) {
            *at = to;
        }
        // An acknowledgement that is on its way releases the new place.
        for (_, effect) in &mut self.effects {
            if let Effect::Release(at) = effect
                && *at == from
            {
                *at = to;
                return Ok(());
            }
        }
        if let Some(at) = self.owner.of(head).live.get_mut(&head.first) {
            promise!(
                *at == from,
                "message {} moved from {from:?}, it was at {at:?}",
                head.first
            );
            *at = to;
            return Ok(());
        }
        // Done while its copy was on the way.
        self.log.release(to);
        Ok(())
    }

    /// A clean stop begins.
    pub(crate) fn seal(&mut self) {
        self.sealing = true;
        self.log.seal();
    }
}

pub(crate) fn is_stream(resource: ResourceId, habits: &Habits) -> bool {
    resource.0 <= habits.streams
}
