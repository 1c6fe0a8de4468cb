//! One log, its disk, and an owner that does what a shard does.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use pinion_commitlog::{
    AdmitError, Damage, DiskRequest, FileId, Location, Log, LogConfig, LogEvent, Lsn,
    RECORD_OVERHEAD, ReadError, ReadRefused, RecordBytes, RecordHead, RecordIn, StreamChunk,
};
use pinion_simkit::{SimClock, SimDisk, SimRng, Trace};
use pinion_types::{Offset, PartitionId, ResourceId, WallMs};

use super::model::{self, Fold, Key, Model, QUEUE_ACK, QUEUE_PUT, Rec, STREAM_BLOCK, STREAM_TRIM};
use crate::{Violation, promise};

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

    // ---- the owner ---------------------------------------------------------

    /// Something the owner does.
    pub(crate) fn act(&mut self) -> Result<(), Violation> {
        self.acts += 1;
        let every = self.habits.checkpoint_every;
        if every > 0 && self.acts.is_multiple_of(every) {
            self.checkpoint_wanted = true;
        }
        self.checkpoint_some()?;
        let (add, done) = if self.habits.shrink {
            (8, 40)
        } else {
            (55, 70)
        };
        match self.rng.below(100) {
            n if n < add => {
                let records = if self.rng.one_in(6) {
                    self.rng.between(2, 5)
                } else {
                    1
                };
                self.append_some(records)
            }
            n if n < done => self.acknowledge_some(),
            n if n < done + 6 => self.trim_some(),
            n if n < done + 16 => self.read_some(),
            _ => Ok(()),
        }
    }

    /// Appends records to partitions of the seed's choosing, as one batch.
    pub(crate) fn append_some(&mut self, count: u64) -> Result<(), Violation> {
        let mut batch = Vec::new();
        for _ in 0..count {
            let all = self.habits.streams + self.habits.queues;
            let resource = ResourceId(1 + self.rng.below(all));
            let partition = PartitionId(u16::try_from(self.rng.below(2)).expect("below 2"));
            let (kind, records) = if is_stream(resource, &self.habits) {
                (STREAM_BLOCK, self.rng.between(1, 20))
            } else {
                (QUEUE_PUT, 1)
            };
            let ext_len = if self.habits.uniform {
                0
            } else {
                self.rng.index(24)
            };
            let mut ext = vec![0; ext_len];
            self.rng.fill(&mut ext);
            let head = RecordHead {
                resource,
                partition,
                kind,
                first: 0,
                count: u32::try_from(records).expect("at most 20"),
                epoch: 0,
                timestamp: self.clock.wall(),
            };
            let mut body = self.body();
            if kind == STREAM_BLOCK && body.is_empty() {
                // Offsets without a byte are nothing that a domain appends.
                body = Bytes::from_static(b"\0");
            }
            batch.push((head, Bytes::from(ext), body));
        }
        self.append(batch, false)
    }

    /// Bytes of many shapes: none, all zero, zero in places, noise, and bytes
    /// that were taken from the log's own files.
    fn body(&mut self) -> Bytes {
        let max = self.habits.body_max;
        let len = match self.rng.below(10) {
            0 => 0,
            1..=5 => self.rng.index(max / 16 + 1),
            6..=8 => self.rng.index(max / 2 + 1),
            _ => self.rng.index(max + 1),
        };
        let len = if self.habits.uniform { max } else { len };
        let mut body = vec![0; len];
        match self.rng.below(8) {
            0 => {}
            1 => {
                for chunk in body.chunks_mut(700) {
                    if self.rng.coin() {
                        self.rng.fill(chunk);
                    }
                }
            }
            // What a hostile client sends: blocks that look like the log's own.
            2 => {
                let files: Vec<_> = self.disk.files().collect();
                if !files.is_empty() && len > 0 {
                    let (file, _) = *self.rng.pick(&files);
                    let bytes = self.disk.bytes(file).unwrap_or_default();
                    let blocks = bytes.len() / 4096;
                    let from = 4096 * self.rng.index(blocks.max(1));
                    let part = &bytes[from.min(bytes.len())..];
                    let take = part.len().min(len);
                    body[..take].copy_from_slice(&part[..take]);
                }
            }
            _ => self.rng.fill(&mut body),
        }
        body.into()
    }

    fn acknowledge_some(&mut self) -> Result<(), Violation> {
        // Only what is committed was ever delivered to anybody.
        let mut ready = Vec::new();
        for (key, state) in &self.owner.0 {
            let end = self.committed.0.get(key).map_or(0, |c| c.end);
            ready.extend(state.live.range(..end).map(|(id, _)| (*key, *id)));
        }
        if ready.is_empty() {
            return Ok(());
        }
        // Mostly the oldest, so that whole segments become dead.
        let chosen = if self.rng.one_in(4) {
            self.rng.index(ready.len())
        } else {
            0
        };
        let ((resource, partition), id) = ready[chosen];
        let head = RecordHead {
            resource,
            partition,
            kind: QUEUE_ACK,
            first: id,
            count: 0,
            epoch: 0,
            timestamp: self.clock.wall(),
        };
        self.append(vec![(head, Bytes::new(), Bytes::new())], true)
    }

    fn trim_some(&mut self) -> Result<(), Violation> {
        let mut wide = Vec::new();
        for (key, state) in &self.committed.0 {
            let first = self.owner.0.get(key).map_or(0, |o| o.first);
            if is_stream(key.0, &self.habits) && state.end > first {
                wide.push((*key, first, state.end));
            }
        }
        if wide.is_empty() {
            return Ok(());
        }
        let ((resource, partition), first, end) = *self.rng.pick(&wide);
        let head = RecordHead {
            resource,
            partition,
            kind: STREAM_TRIM,
            first: self.rng.between(first, end),
            count: 0,
            epoch: 0,
            timestamp: self.clock.wall(),
        };
        self.append(vec![(head, Bytes::new(), Bytes::new())], true)
    }

    fn append(
        &mut self,
        mut batch: Vec<(RecordHead, Bytes, Bytes)>,
        essential: bool,
    ) -> Result<(), Violation> {
        let size = |(_, ext, body): &(_, Bytes, Bytes)| ext.len() + body.len() + RECORD_OVERHEAD;
        let bytes: usize = batch.iter().map(size).sum();
        match self.log.admit(bytes, essential) {
            Ok(()) => {}
            Err(AdmitError::Backlogged { .. }) => return Ok(()),
            Err(AdmitError::ReadOnly) => {
                // A large append is refused while a small one would still fit.
                promise!(
                    self.read_only || self.disk.stats().failed > 0,
                    "refused as read-only on a disk with room"
                );
                self.stats.read_only_refusals += 1;
                return Ok(());
            }
            Err(AdmitError::Failed) => {
                promise!(
                    self.failed || self.sealing,
                    "refused as failed without having said so"
                );
                return Ok(());
            }
            Err(AdmitError::TooLarge { bytes, limit }) => {
                return Err(Violation::new(format!("{bytes} bytes exceed {limit}")));
            }
        }
        promise!(!self.failed, "a log that failed takes records");
        // What waits for the disk is bounded; copies of bodies come on top.
        let waiting = self.log.stats().pending_bytes;
        let bound = self.config.backlog_bytes_max + BACKLOG_SLACK;
        promise!(
            waiting == 0 || waiting + bytes <= bound,
            "{bytes} bytes are taken while {waiting} wait for the disk"
        );
        let mut ends = self.owner.clone();
        for (head, _, _) in &mut batch {
            let state = ends.of(head);
            if head.count > 0 {
                head.first = state.end;
                state.end += u64::from(head.count);
            }
        }
        // A body comes in parts, as a shard has header and records apart.
        let parts: Vec<_> = batch
            .iter()
            .map(|(_, ext, body)| {
                let (front, back) = body.split_at(body.len() / 3);
                ([&ext[..]], [front, back])
            })
            .collect();
        let records: Vec<RecordIn<'_>> = batch
            .iter()
            .zip(&parts)
            .map(|((head, ..), (ext, body))| RecordIn {
                head: *head,
                ext,
                body,
                retain: head.kind == QUEUE_PUT,
            })
            .collect();
        let before = self.log.appended();
        let appended = self.log.append(self.clock.now(), &records);
        let last = appended.last;
        let first = appended.first;
        promise!(
            last.0 - first.0 + 1 == batch.len() as u64,
            "{} records were given {first:?} to {last:?}",
            batch.len()
        );
        promise!(first > before, "{first:?} was given again after {before:?}");
        promise!(self.log.appended() >= last, "appended is behind {last:?}");
        let places = self.log.appended_locations().to_vec();
        promise!(places.len() == batch.len(), "a record without a place");
        for (index, (head, ext, body)) in batch.into_iter().enumerate() {
            let lsn = Lsn(first.0 + index as u64);
            let digest = model::digest(&head, &ext, &body);
            self.effect_of(lsn, &head);
            self.owner
                .of(&head)
                .apply(&head, Some(places[index]), digest)?;
            let facts = [lsn.0, head.resource.0, u64::from(head.kind), digest];
            self.trace.note(self.clock.now(), "append", &facts);
            self.stats.records += 1;
            self.model.push(Rec {
                lsn,
                at: places[index],
                head,
                ext,
                body,
                digest,
            });
        }
        if places.len() > 1 {
            self.model.batches.push((first, last));
        }
        Ok(())
    }

    fn effect_of(&mut self, lsn: Lsn, head: &RecordHead) {
        let key = (head.resource, head.partition);
        let effect = match head.kind {
            STREAM_TRIM => Effect::Trim {
                key,
                first: head.first,
            },
            QUEUE_ACK => {
                let live = self.owner.0.get(&key).map(|s| &s.live);
                match live.and_then(|live| live.get(&head.first)) {
                    Some(at) => Effect::Release(*at),
                    None => return,
                }
            }
            _ => return,
        };
        self.effects.push_back((lsn, effect));
    }

    // ---- checkpoints -------------------------------------------------------

    /// A checkpoint is written over several turns while appends go on.
    fn checkpoint_some(&mut self) -> Result<(), Violation> {
        if self.checkpointing.is_empty() {
            if !self.checkpoint_wanted || self.owner.0.is_empty() || self.failed {
                return Ok(());
            }
            self.checkpoint_wanted = false;
            self.log.checkpoint_begin();
            self.checkpointing = self.owner.0.keys().copied().collect();
            self.trace.note(self.clock.now(), "checkpoint", &[]);
        }
        for _ in 0..self.rng.between(1, 4) {
            let Some(key) = self.checkpointing.pop_front() else {
                break;
            };
            // Bodies may be on their way to another place: what is committed is
            // told of, so a state that names places is as of that.
            let (fold, as_of) = if is_stream(key.0, &self.habits) {
                (&self.owner, self.log.appended())
            } else {
                (&self.committed, self.log.committed())
            };
            let state = fold.0.get(&key).cloned().unwrap_or_default().encode();
            self.log.checkpoint_add(key.0, key.1, 1, as_of, &state);
        }
        if self.checkpointing.is_empty() {
            self.log.checkpoint_end();
        }
        Ok(())
    }

    // ---- reading -----------------------------------------------------------

    /// Reads something that is committed; its content is compared on arrival.
    fn read_some(&mut self) -> Result<(), Violation> {
        let keys: Vec<Key> = self.committed.0.keys().copied().collect();
        if keys.is_empty() {
            return Ok(());
        }
        let key = *self.rng.pick(&keys);
        let committed = &self.committed.0[&key];
        let owner = &self.owner.0[&key];
        if is_stream(key.0, &self.habits) {
            let (first, end) = (owner.first, committed.end);
            if first > 0 && self.rng.one_in(6) {
                let from = self.rng.below(first);
                self.read_stream(key, from, 1 << 12)?;
            } else if first < end {
                let from = self.rng.between(first, end - 1);
                let max_bytes = 1 << self.rng.between(8, 20);
                self.read_stream(key, from, max_bytes)?;
            }
        } else {
            let ready: Vec<_> = owner.live.range(..committed.end).collect();
            if !ready.is_empty() {
                let (id, at) = **self.rng.pick(&ready.iter().collect::<Vec<_>>());
                let (id, at) = (*id, *at);
                self.read_message(key, id, at)?;
            }
        }
        Ok(())
    }

    /// Asks for a read; `None` when too many wait.
    fn read_stream(
        &mut self,
        key: Key,
        from: u64,
        max_bytes: u32,
    ) -> Result<Option<u64>, Violation> {
        let token = self.next_token;
        let from_offset = Offset(from);
        let read = self
            .log
            .read_stream(token, key.0, key.1, from_offset, max_bytes);
        if !taken(read)? {
            return Ok(None);
        }
        self.next_token += 1;
        let first = self.committed.0.get(&key).map_or(0, |state| state.first);
        let gone = from < first;
        self.reads.insert(token, Wanted::Stream { key, from, gone });
        Ok(Some(token))
    }

    fn read_message(&mut self, key: Key, id: u64, at: Location) -> Result<Option<u64>, Violation> {
        let token = self.next_token;
        if !taken(self.log.read_record(token, at))? {
            return Ok(None);
        }
        self.next_token += 1;
        self.reads.insert(token, Wanted::Message { key, id });
        Ok(Some(token))
    }

    fn stream_arrived(
        &mut self,
        token: u64,
        result: Result<StreamChunk, ReadError>,
    ) -> Result<(), Violation> {
        let Some(Wanted::Stream { key, from, gone }) = self.reads.remove(&token) else {
            return Err(Violation::new(format!("a read nobody asked: {token}")));
        };
        let first_kept = self.owner.0.get(&key).map_or(0, |o| o.first);
        let chunk = match result {
            Ok(chunk) => chunk,
            Err(error) => {
                let trimmed = matches!(error, ReadError::Trimmed { .. }) && from < first_kept;
                self.refused(token, error, trimmed, format_args!("{key:?} from {from}"))?;
                return Ok(());
            }
        };
        self.stats.reads += 1;
        if gone {
            // Of a stream without a record left the log knows nothing.
            promise!(
                chunk.bytes.is_empty(),
                "{key:?} was trimmed and is read from {from}"
            );
            self.finished.push((token, ReadOutcome::Until(from)));
            return Ok(());
        }
        let (first, end) = (chunk.first.0, chunk.end.0);
        let committed = self.committed.0.get(&key).map_or(0, |c| c.end);
        // What was trimmed while the read was on its way may be left out.
        let begins = first <= from || (from < first_kept && first <= first_kept);
        promise!(
            begins && from < end && end <= committed,
            "{key:?} read from {from} gave {first}..{end} of {committed}"
        );
        let (mut at, mut bytes) = (first, &chunk.bytes[..]);
        while at < end {
            let Some(record) = self.model.block(key, at) else {
                return Err(Violation::new(format!("{key:?} has no {at}")));
            };
            promise!(record.head.first == at, "{key:?}: {at} is inside a block");
            let matches = bytes.get(..record.body.len()) == Some(&record.body[..]);
            promise!(matches, "{key:?} at {at} is not what was written");
            bytes = &bytes[record.body.len()..];
            at += u64::from(record.head.count);
        }
        promise!(
            at == end && bytes.is_empty(),
            "{key:?}: a chunk says it ends at {end}, it ends at {at} with {} bytes over",
            bytes.len()
        );
        self.finished.push((token, ReadOutcome::Until(end)));
        Ok(())
    }

    fn message_arrived(
        &mut self,
        token: u64,
        result: Result<RecordBytes, ReadError>,
    ) -> Result<(), Violation> {
        let Some(Wanted::Message { key, id }) = self.reads.remove(&token) else {
            return Err(Violation::new(format!("a read nobody asked: {token}")));
        };
        let gone = |world: &Self| {
            let state = world.owner.0.get(&key);
            state.is_none_or(|state| !state.live.contains_key(&id))
        };
        match result {
            Ok(got) => {
                self.stats.reads += 1;
                let Some(record) = self.model.message(key, id) else {
                    return Err(Violation::new(format!("{key:?} has no message {id}")));
                };
                let same = got.head == record.head
                    && got.ext[..] == record.ext[..]
                    && got.body[..] == record.body[..];
                promise!(same, "message {id} of {key:?} is not what was put");
                self.finished.push((token, ReadOutcome::Message));
            }
            Err(error) => {
                let gone = gone(self);
                self.refused(token, error, gone, format_args!("message {id} of {key:?}"))?;
            }
        }
        Ok(())
    }

    fn refused(
        &mut self,
        token: u64,
        error: ReadError,
        known_gone: bool,
        what: core::fmt::Arguments<'_>,
    ) -> Result<(), Violation> {
        let allowed = match error {
            ReadError::Damaged { .. } => self.tolerance.damage || known_gone,
            ReadError::Disk(_) => self.tolerance.failure || known_gone,
            ReadError::Trimmed { .. } => known_gone,
        };
        promise!(allowed, "{what} cannot be read: {error:?}");
        self.stats.reads_refused += 1;
        self.finished.push((token, ReadOutcome::Refused(error)));
        Ok(())
    }

    /// Reads everything that is still needed and compares it. What cannot be
    /// read, when that is tolerated, is given back.
    pub(crate) fn verify_all(&mut self) -> Result<Vec<(Key, u64, ReadError)>, Violation> {
        let result = self.verify_each();
        result.map_err(|v| v.after(&self.trace))
    }

    fn verify_each(&mut self) -> Result<Vec<(Key, u64, ReadError)>, Violation> {
        let mut refused = Vec::new();
        for (key, state) in self.owner.clone().0 {
            if is_stream(key.0, &self.habits) {
                let mut from = state.first;
                let end = self.committed.0.get(&key).map_or(0, |c| c.end);
                while from < end {
                    let max = 1 << self.rng.between(10, 20);
                    let outcome = self.finish_read(|w| w.read_stream(key, from, max))?;
                    match outcome {
                        ReadOutcome::Until(next) => from = next,
                        ReadOutcome::Message => unreachable!("a stream was read"),
                        ReadOutcome::Refused(error) => {
                            // On to the next block: what is beyond must be right.
                            let block = self.model.block(key, from);
                            let next =
                                block.map_or(end, |r| r.head.first + u64::from(r.head.count));
                            refused.push((key, from, error));
                            from = next;
                        }
                    }
                }
            }
            let end = self.committed.0.get(&key).map_or(0, |c| c.end);
            for id in state.live.range(..end).map(|(id, _)| *id) {
                let outcome = self.finish_read(|w| {
                    let live = w.owner.0.get(&key).map(|state| &state.live);
                    match live.and_then(|live| live.get(&id)).copied() {
                        Some(at) => w.read_message(key, id, at),
                        None => Ok(None),
                    }
                })?;
                if let ReadOutcome::Refused(error) = outcome {
                    refused.push((key, id, error));
                }
            }
        }
        Ok(refused)
    }

    fn finish_read(
        &mut self,
        start: impl Fn(&mut Self) -> Result<Option<u64>, Violation>,
    ) -> Result<ReadOutcome, Violation> {
        let mut token = start(self)?;
        for _ in 0..SETTLE_STEPS_MAX {
            if let Some(wanted) = token
                && let Some(index) = self.finished.iter().position(|(t, _)| *t == wanted)
            {
                return Ok(self.finished.swap_remove(index).1);
            }
            let moved = self.step(&mut unwatched)?;
            if token.is_none() {
                token = start(self)?;
            }
            promise!(
                moved
                    || token.is_some_and(|t| self.reads.contains_key(&t))
                    || !self.finished.is_empty(),
                "a read is never started"
            );
        }
        Err(Violation::new("a read never ends".to_owned()))
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

/// Whether a read was taken; only committed places are asked for.
fn taken(read: Result<(), ReadRefused>) -> Result<bool, Violation> {
    match read {
        Ok(()) => Ok(true),
        Err(ReadRefused::Full { .. }) => Ok(false),
        Err(ReadRefused::NotCommitted) => Err(Violation::new(
            "what is committed cannot be read: not committed".to_owned(),
        )),
    }
}

fn what(request: &DiskRequest) -> &'static str {
    match request {
        DiskRequest::Create { .. } => "create",
        DiskRequest::Write { .. } => "write",
        DiskRequest::Read { .. } => "read",
        DiskRequest::Truncate { .. } => "truncate",
        DiskRequest::Remove { .. } => "remove",
    }
}
