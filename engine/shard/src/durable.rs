//! The logs of a core: what its partitions want written, when it is durable,
//! and what is read back.
//!
//! A partition queues an [`Op`] for each change that must survive. The shard
//! appends it to the partition's log at once and remembers whose record it is;
//! when the log has committed the record, the partition is told, in order. Who
//! waits for the answer holds a [`Ticket`].

use std::collections::VecDeque;

use pinion_commitlog::{
    AdmitError, Damage, DamageKind, DamagedPartitions, DiskDone, DiskRequest, Files, Log,
    LogConfig, LogEvent, LogId, LogStats, Lsn, RECORD_OVERHEAD, ReadError, RecordHead, RecordIn,
    RecoverError, Recovered, RecoveryReport, Replay,
};
use pinion_domains::op::Op;
use pinion_domains::queue::{LoadError, LoadToken, QueueConfig, QueuePartition};
use pinion_domains::stream::{ColdError, PartitionConfig, StreamChunk};
use pinion_types::{
    ErrorCode, FactId, FixedMap, Monotonic, Offset, PartitionId, Refusal, ResourceId, WallMs,
};
use slab::Slab;

use crate::output::ShardOutput;
use crate::shard::{Kind, Shard, Slot};

/// Partitions whose state goes into a checkpoint in one turn. More ends a
/// checkpoint sooner and makes its turns longer.
const CHECKPOINT_PARTITIONS_PER_TURN: usize = 256;

/// Bytes of states after which a turn adds no more to a checkpoint.
const CHECKPOINT_BYTES_PER_TURN: usize = 256 << 10;

/// Bytes of a checkpoint that may wait for the disk before more is added.
const CHECKPOINT_PENDING_MAX: usize = 4 << 20;

/// Bytes the timers of a queue may write in one call, roughly. While the log has
/// no room for them they wait.
const TIMER_OPS_BYTES: usize = 64 << 10;

/// How long the timers of a partition wait when its log has no room.
const TIMERS_WAIT: core::time::Duration = core::time::Duration::from_secs(1);

/// How often retention is looked at.
const RETENTION_EVERY: core::time::Duration = core::time::Duration::from_secs(1);

/// Partitions whose retention is looked at each time; the others follow.
const RETENTION_PARTITIONS_PER_TICK: usize = 4096;

/// Bytes an op adds to what its partition is asked to take: a block's header, a
/// producer, a message's fields. More than any op has.
const OP_OVERHEAD: usize = 256;

/// How long an append that found the log's backlog full should wait.
const BACKLOG_RETRY_MS: u32 = 5;

/// A change is durable once `log` has committed up to `lsn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The log.
    pub log: LogId,
    /// The last record of the change.
    pub lsn: Lsn,
}

/// What a partition found in a log is to be opened as.
#[derive(Clone, Debug)]
pub enum PartitionSpec {
    /// A stream.
    Stream(PartitionConfig),
    /// A queue.
    Queue(QueueConfig),
}

/// What opening a log found.
#[derive(Clone, Debug)]
pub struct OpenedLog {
    /// The log's own findings.
    pub report: RecoveryReport,
    /// Partitions whose resource nobody declares. Their data is kept (R37).
    pub orphans: usize,
    /// Records that make no sense to their domain; their partitions are closed.
    pub senseless: Vec<Senseless>,
    /// Partitions that are closed.
    pub fenced: usize,
}

/// A record or state that passed its checksum and yet makes no sense to its
/// domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Senseless {
    /// The record, or the last one in the state.
    pub lsn: Lsn,
    /// Whose.
    pub resource: ResourceId,
    /// Which partition of it.
    pub partition: PartitionId,
    /// What is wrong with it.
    pub reason: String,
}

#[derive(Debug)]
pub(crate) struct LogSlot {
    id: LogId,
    log: Log,
    /// Whose each record not yet committed is, oldest first.
    owners: VecDeque<(Lsn, Slot)>,
    /// Next partition to go into the checkpoint being taken.
    checkpoint: Option<u32>,
    /// Every partition is closed: damage nobody can assign, or a failed write.
    fenced: bool,
    sealed: bool,
}

#[derive(Clone, Copy, Debug)]
enum ReadFor {
    Stream { slot: Slot, from: Offset },
    Load { slot: Slot, token: LoadToken },
}

/// The logs of one core and what is being read from them.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    slots: Vec<LogSlot>,
    by_id: FixedMap<LogId, usize>,
    reads: Slab<ReadFor>,
    ops: Vec<Op>,
    state: Vec<u8>,
    retention_due: Option<Monotonic>,
    retention_next: u32,
}

impl Logs {
    fn index(&self, id: LogId) -> Option<usize> {
        self.by_id.get(&id).copied()
    }
}

impl Shard {
    /// Opens a log: everything it holds is folded into partitions, which
    /// `find` gives a specification. Blocks while it reads; for the start.
    ///
    /// # Errors
    /// [`RecoverError`]; the shard is then not to be used.
    ///
    /// # Panics
    /// When the log is open already.
    pub fn open_log(
        &mut self,
        files: &mut dyn Files,
        config: LogConfig,
        now: Monotonic,
        wall: WallMs,
        find: &dyn Fn(ResourceId, PartitionId) -> Option<PartitionSpec>,
    ) -> Result<OpenedLog, RecoverError> {
        let id = config.log;
        assert!(self.logs.index(id).is_none(), "{id:?} is opened once");
        let mut orphans: FixedMap<(ResourceId, PartitionId), ()> = FixedMap::default();
        let mut senseless = Vec::new();
        let mut all_damaged = false;
        let recovered = pinion_commitlog::recover(files, config, &mut |found| {
            if let Replay::Damage(damage) = &found {
                // From here on what follows of these partitions need not make
                // sense; they are closed, and folded only so far as it does.
                match &damage.partitions {
                    DamagedPartitions::Some(keys) => {
                        for key in keys {
                            if let Some(&slot) = self.index.get(key) {
                                self.fence(slot);
                            }
                        }
                    }
                    DamagedPartitions::All => {
                        all_damaged = true;
                        self.fence_log(id);
                    }
                }
                return;
            }
            let (resource, partition, lsn) = match &found {
                Replay::Damage(_) => unreachable!("looked at above"),
                Replay::State {
                    resource,
                    partition,
                    as_of,
                    ..
                } => (*resource, *partition, *as_of),
                Replay::Record { lsn, head, .. } => (head.resource, head.partition, *lsn),
            };
            let slot = match self.index.get(&(resource, partition)) {
                Some(slot) => Some(*slot),
                None => find(resource, partition)
                    .and_then(|spec| self.open_spec(resource, partition, Some(id), &spec, None)),
            };
            let Some(slot) = slot else {
                orphans.insert((resource, partition), ());
                return;
            };
            if all_damaged {
                self.fence(slot);
            }
            if let Err(reason) = self.fold(slot, &found)
                && !self.partitions[slot.index()].fenced
            {
                // Its checksum holds, so it was written by another version or
                // by somebody else: not to be guessed at.
                self.fence(slot);
                senseless.push(Senseless {
                    lsn,
                    resource,
                    partition,
                    reason,
                });
            }
        })?;
        let Recovered { log, report } = recovered;
        self.logs.by_id.insert(id, self.logs.slots.len());
        self.logs.slots.push(LogSlot {
            id,
            log,
            owners: VecDeque::new(),
            checkpoint: None,
            fenced: false,
            sealed: false,
        });
        let at = self.logs.slots.len() - 1;
        self.tell_what_lives(at, now, wall);
        let fenced = self.close_damaged(at, &report);
        Ok(OpenedLog {
            report,
            orphans: orphans.len(),
            senseless,
            fenced,
        })
    }

    fn fold(&mut self, slot: Slot, found: &Replay<'_>) -> Result<(), String> {
        let owned = &mut self.partitions[slot.index()];
        match (found, &mut owned.kind) {
            (Replay::State { state, .. }, Kind::Stream(stream)) => {
                stream.restore(state).map_err(|error| error.to_string())
            }
            (Replay::State { state, .. }, Kind::Queue(queue)) => {
                let config = *queue.config();
                **queue =
                    QueuePartition::restore(config, state).map_err(|error| error.to_string())?;
                Ok(())
            }
            (
                Replay::Record {
                    head,
                    carried,
                    ext,
                    body,
                    ..
                },
                Kind::Stream(stream),
            ) => stream
                .replay(head, *carried, ext, body)
                .map_err(|error| error.to_string()),
            (
                Replay::Record {
                    at,
                    head,
                    carried,
                    ext,
                    body,
                    ..
                },
                Kind::Queue(queue),
            ) => queue
                .replay(head, *carried, *at, ext, body)
                .map_err(|error| error.to_string()),
            (Replay::Damage(_), _) => Ok(()),
            (_, Kind::Cache(_)) => Err("a cache has no log".to_owned()),
        }
    }

    /// After a restart the log learns from the partitions what still lives.
    fn tell_what_lives(&mut self, at: usize, now: Monotonic, wall: WallMs) {
        let LogSlot { id, log, .. } = &mut self.logs.slots[at];
        for owned in &mut self.partitions {
            if owned.log != Some(*id) {
                continue;
            }
            match &mut owned.kind {
                Kind::Stream(stream) => {
                    log.release_stream(owned.key.0, owned.key.1, stream.first_available());
                }
                Kind::Queue(queue) => {
                    for place in queue.live_locations() {
                        log.retain(place);
                    }
                    queue.ready(now, wall);
                }
                Kind::Cache(_) => {}
            }
        }
        log.ready();
    }

    fn close_damaged(&mut self, at: usize, report: &RecoveryReport) -> usize {
        let id = self.logs.slots[at].id;
        for damage in &report.damage {
            match &damage.partitions {
                DamagedPartitions::Some(partitions) => {
                    for key in partitions {
                        if let Some(&slot) = self.index.get(key) {
                            self.fence(slot);
                        }
                    }
                }
                DamagedPartitions::All => {
                    self.logs.slots[at].fenced = true;
                    self.fence_log(id);
                }
            }
        }
        let owned = self.partitions.iter();
        owned
            .filter(|one| one.log == Some(id) && one.fenced)
            .count()
    }

    /// Closes one partition for good.
    pub(crate) fn fence(&mut self, slot: Slot) {
        self.touch(slot);
        let owned = &mut self.partitions[slot.index()];
        match &mut owned.kind {
            Kind::Stream(stream) => stream.fence(),
            Kind::Queue(queue) => queue.fence(),
            Kind::Cache(_) => {}
        }
        owned.fenced = true;
    }

    pub(crate) fn log_is_fenced(&self, id: LogId) -> bool {
        let at = self
            .logs
            .index(id)
            .expect("partitions are routed to open logs");
        self.logs.slots[at].fenced
    }

    fn fence_log(&mut self, id: LogId) {
        let slots: Vec<Slot> = (0..self.partitions.len())
            .map(Slot::from_index)
            .filter(|slot| self.partitions[slot.index()].log == Some(id))
            .collect();
        for slot in slots {
            self.fence(slot);
        }
    }

    /// Whether the partition at `slot` writes to a log.
    #[must_use]
    pub fn is_durable(&self, slot: Slot) -> bool {
        self.partitions[slot.index()].log.is_some()
    }

    /// Whether `bytes` more may be written for the partition at `slot`.
    /// `essential` changes free space and pass while the disk is full.
    ///
    /// # Errors
    /// `LogBacklogged`, `ReadOnly`, `PartitionFenced`; nothing happened.
    pub fn admit(&self, slot: Slot, bytes: usize, essential: bool) -> Result<(), Refusal> {
        let owned = &self.partitions[slot.index()];
        let Some(id) = owned.log else {
            return Ok(());
        };
        if owned.fenced {
            return Err(ErrorCode::PartitionFenced.into());
        }
        let log = &self.logs.slots[self.logs.by_id[&id]];
        if log.sealed {
            return Err(ErrorCode::Draining.into());
        }
        let bytes = bytes + RECORD_OVERHEAD + OP_OVERHEAD;
        log.log
            .admit(bytes, essential)
            .map_err(|error| match error {
                AdmitError::Backlogged { limit } => Refusal::new(ErrorCode::LogBacklogged)
                    .with(FactId::Limit, limit as u64)
                    .after_ms(BACKLOG_RETRY_MS),
                AdmitError::ReadOnly => ErrorCode::ReadOnly.into(),
                AdmitError::Failed => ErrorCode::PartitionFenced.into(),
                AdmitError::TooLarge { bytes, limit } => Refusal::new(ErrorCode::FrameTooLarge)
                    .with(FactId::Actual, bytes as u64)
                    .with(FactId::Limit, limit as u64),
            })
    }

    /// Appends what the partition at `slot` has to write. What it gives must
    /// be committed before the change may be acknowledged; `None` when there
    /// was nothing to write.
    pub fn take_ops(&mut self, now: Monotonic, slot: Slot) -> Option<Ticket> {
        let owned = &mut self.partitions[slot.index()];
        if owned.fenced {
            // A log that failed would only keep it in memory.
            return None;
        }
        let Some(id) = owned.log else {
            if let Kind::Queue(queue) = &mut owned.kind {
                while queue.poll_op().is_some() {
                    queue.commit_next();
                }
            }
            return None;
        };
        let at = *self.logs.by_id.get(&id)?;
        let logs = &mut self.logs;
        let LogSlot { log, owners, .. } = &mut logs.slots[at];
        let key = owned.key;
        let mut ticket = None;
        if let Kind::Stream(stream) = &mut owned.kind {
            while let Some(op) = stream.poll_single() {
                let (resource, partition) = key;
                let record = RecordIn {
                    head: RecordHead {
                        resource,
                        partition,
                        kind: op.kind,
                        first: op.first,
                        count: op.count,
                        epoch: 0,
                        timestamp: op.timestamp,
                    },
                    ext: &[op.ext],
                    body: &[op.body],
                    retain: false,
                };
                let lsn = log.append(now, &[record]).last;
                owners.push_back((lsn, slot));
                ticket = Some(Ticket { log: id, lsn });
            }
        }
        while let Some(op) = owned.kind.poll_op() {
            let more = op.more;
            logs.ops.push(op);
            if more {
                continue;
            }
            let appended = match logs.ops.as_slice() {
                [op] => log.append(now, &[record(key, op, &[&op.ext], &[&op.body])]),
                ops => {
                    // The commit of an append session: rare and large.
                    let parts: Vec<_> = ops
                        .iter()
                        .map(|op| ([&op.ext[..]], [&op.body[..]]))
                        .collect();
                    let records: Vec<_> = ops
                        .iter()
                        .zip(&parts)
                        .map(|(op, (ext, body))| record(key, op, ext, body))
                        .collect();
                    log.append(now, &records)
                }
            };
            let places = log.appended_locations();
            for ((lsn, op), place) in (appended.first.0..).zip(logs.ops.drain(..)).zip(places) {
                owners.push_back((Lsn(lsn), slot));
                if op.retain
                    && let Kind::Queue(queue) = &mut owned.kind
                {
                    queue.op_appended(*place);
                }
            }
            ticket = Some(Ticket {
                log: id,
                lsn: appended.last,
            });
        }
        assert!(logs.ops.is_empty(), "an atomic group is queued whole");
        ticket
    }

    /// When the timers of a partition have to wait, because what they change
    /// could not be written: until then.
    pub(crate) fn timers_wait(&self, now: Monotonic, slot: Slot) -> Option<Monotonic> {
        let owned = &self.partitions[slot.index()];
        let writes = matches!(owned.kind, Kind::Queue(_)) && owned.log.is_some();
        (writes && self.admit(slot, TIMER_OPS_BYTES, true).is_err()).then(|| now + TIMERS_WAIT)
    }

    /// What everything appended so far for the log of `slot` waits for; `None`
    /// when all of it is committed, or there is no log.
    #[must_use]
    pub fn behind(&self, slot: Slot) -> Option<Ticket> {
        let id = self.partitions[slot.index()].log?;
        let log = &self.logs.slots[*self.logs.by_id.get(&id)?].log;
        (log.committed() < log.appended()).then(|| Ticket {
            log: id,
            lsn: log.appended(),
        })
    }

    /// As [`Shard::behind`], when changes of this partition itself wait.
    #[must_use]
    pub fn unsettled(&self, slot: Slot) -> Option<Ticket> {
        match &self.partitions[slot.index()].kind {
            Kind::Queue(queue) if queue.committed() < queue.numbered() => self.behind(slot),
            _ => None,
        }
    }

    /// The disk has done something.
    pub fn handle_disk_done(&mut self, now: Monotonic, done: DiskDone) {
        let Some(at) = self.logs.index(done.file.log()) else {
            return;
        };
        self.logs.slots[at].log.handle_done(now, done);
        self.take_events(now, at);
    }

    /// The next thing for the disk.
    pub fn poll_disk(&mut self) -> Option<DiskRequest> {
        self.logs
            .slots
            .iter_mut()
            .find_map(|slot| slot.log.poll_request())
    }

    /// Hands what was appended to the disk, unless it is at work: then it goes
    /// with the next group. Call once at the end of a turn.
    pub fn finish_turn(&mut self, now: Monotonic) {
        for at in 0..self.logs.slots.len() {
            self.advance_checkpoint(at);
            self.logs.slots[at].log.end_turn(now);
            self.take_events(now, at);
        }
    }

    fn take_events(&mut self, now: Monotonic, at: usize) {
        while let Some(event) = self.logs.slots[at].log.poll_event() {
            let id = self.logs.slots[at].id;
            match event {
                LogEvent::Committed { lsn } => {
                    self.commit(at, lsn);
                    self.ready
                        .push_back(ShardOutput::Committed(Ticket { log: id, lsn }));
                }
                LogEvent::Failed { error } => {
                    self.logs.slots[at].fenced = true;
                    self.logs.slots[at].owners.clear();
                    self.fence_log(id);
                    self.ready
                        .push_back(ShardOutput::LogFailed { log: id, error });
                }
                LogEvent::ReadOnly(read_only) => {
                    self.ready
                        .push_back(ShardOutput::ReadOnly { log: id, read_only });
                }
                LogEvent::StreamRead { token, result } => self.stream_read(now, token, result),
                LogEvent::RecordRead { token, result } => {
                    let token = usize::try_from(token).expect("a slab index");
                    let Some(ReadFor::Load { slot, token }) = self.logs.reads.try_remove(token)
                    else {
                        continue;
                    };
                    self.touch(slot);
                    if let Err(ReadError::Damaged { segment, offset }) = result {
                        self.read_met_damage(slot, segment, offset);
                    }
                    if let Kind::Queue(queue) = &mut self.partitions[slot.index()].kind {
                        let body = result
                            .map(|record| record.body)
                            .map_err(|error| match error {
                                // It was moved while it was asked for.
                                ReadError::Trimmed { .. } => LoadError::Retry,
                                ReadError::Damaged { .. } | ReadError::Disk(_) => {
                                    LoadError::Damaged
                                }
                            });
                        queue.handle_loaded(token, body);
                    }
                }
                LogEvent::Relocated { head, from, to } => {
                    if let Some(&slot) = self.index.get(&(head.resource, head.partition))
                        && let Kind::Queue(queue) = &mut self.partitions[slot.index()].kind
                    {
                        queue.relocated(from, to);
                    }
                }
                LogEvent::CheckpointWanted => {
                    if self.logs.slots[at].checkpoint.is_none() {
                        self.logs.slots[at].log.checkpoint_begin();
                        self.logs.slots[at].checkpoint = Some(0);
                    }
                }
                LogEvent::CheckpointDone => {}
                LogEvent::Damaged(damage) => {
                    match &damage.partitions {
                        DamagedPartitions::Some(partitions) => {
                            for key in partitions {
                                if let Some(&slot) = self.index.get(key) {
                                    self.fence(slot);
                                }
                            }
                        }
                        DamagedPartitions::All => {
                            self.logs.slots[at].fenced = true;
                            self.fence_log(id);
                        }
                    }
                    self.ready
                        .push_back(ShardOutput::Damaged { log: id, damage });
                }
                LogEvent::Sealed => self.logs.slots[at].sealed = true,
            }
        }
    }

    /// Every record up to `lsn` is durable: its partition may show it.
    fn commit(&mut self, at: usize, lsn: Lsn) {
        while let Some(&(next, slot)) = self.logs.slots[at].owners.front() {
            if next > lsn {
                break;
            }
            self.logs.slots[at].owners.pop_front();
            self.touch(slot);
            match &mut self.partitions[slot.index()].kind {
                Kind::Stream(stream) => stream.commit_next(),
                Kind::Queue(queue) => queue.commit_next(),
                Kind::Cache(_) => unreachable!("a cache writes nothing"),
            }
        }
    }

    fn stream_read(
        &mut self,
        now: Monotonic,
        token: u64,
        result: Result<pinion_commitlog::StreamChunk, ReadError>,
    ) {
        let token = usize::try_from(token).expect("a slab index");
        let Some(ReadFor::Stream { slot, from }) = self.logs.reads.try_remove(token) else {
            return;
        };
        if let Err(ReadError::Damaged { segment, offset }) = result {
            self.read_met_damage(slot, segment, offset);
        }
        let result = match result {
            Ok(chunk) => Ok(StreamChunk {
                bytes: chunk.bytes,
                first: chunk.first,
                end: chunk.end,
            }),
            Err(ReadError::Trimmed { first }) => Err(ColdError::Trimmed { first }),
            Err(ReadError::Damaged { .. }) => Err(ColdError::Damaged),
            Err(ReadError::Disk(_)) => Err(ColdError::Failed),
        };
        self.stream(slot).handle_read(now, from, result);
        self.ready.push_back(ShardOutput::ReadReturned { slot });
    }

    /// A start reads no old segment, so a read may be the first to come to
    /// damage there. What is lost is the partition's, whoever finds it.
    fn read_met_damage(&mut self, slot: Slot, segment: u64, offset: u64) {
        let owned = &self.partitions[slot.index()];
        let (key, Some(log)) = (owned.key, owned.log) else {
            return;
        };
        if owned.fenced {
            return;
        }
        self.fence(slot);
        let damage = Damage {
            segment,
            offset,
            len: 0,
            kind: DamageKind::Group,
            partitions: DamagedPartitions::Some(vec![key]),
        };
        self.ready.push_back(ShardOutput::Damaged { log, damage });
    }

    /// Where in a durable stream to begin looking for records of `time`.
    pub(crate) fn seek_time(&self, slot: Slot, time: WallMs) -> Option<Offset> {
        let owned = &self.partitions[slot.index()];
        let at = owned.log.and_then(|id| self.logs.index(id))?;
        let (resource, partition) = owned.key;
        self.logs.slots[at].log.seek_time(resource, partition, time)
    }

    /// Asks the log for what the partition lacks.
    pub(crate) fn take_reads(&mut self, now: Monotonic, slot: Slot) {
        let owned = &mut self.partitions[slot.index()];
        let Some(at) = owned.log.and_then(|id| self.logs.index(id)) else {
            return;
        };
        let log = &mut self.logs.slots[at].log;
        let (resource, partition) = owned.key;
        match &mut owned.kind {
            Kind::Stream(stream) => {
                while let Some(read) = stream.poll_read() {
                    let from = read.from;
                    let token = self.logs.reads.insert(ReadFor::Stream { slot, from }) as u64;
                    if log
                        .read_stream(token, resource, partition, from, read.max_bytes)
                        .is_err()
                    {
                        // As many reads wait as may: this one counts as failed
                        // and is tried again.
                        self.logs
                            .reads
                            .remove(usize::try_from(token).expect("a slab index"));
                        stream.handle_read(now, from, Err(ColdError::Failed));
                        break;
                    }
                }
            }
            Kind::Queue(queue) => {
                while let Some((load, place)) = queue.poll_load() {
                    let token = self.logs.reads.insert(ReadFor::Load { slot, token: load }) as u64;
                    if log.read_record(token, place).is_err() {
                        self.logs
                            .reads
                            .remove(usize::try_from(token).expect("a slab index"));
                        queue.handle_loaded(load, Err(LoadError::Retry));
                        break;
                    }
                }
                while let Some(place) = queue.poll_release() {
                    log.release(place);
                }
            }
            Kind::Cache(_) => {}
        }
    }

    /// Adds some partitions to the checkpoint being taken.
    fn advance_checkpoint(&mut self, at: usize) {
        let Some(mut next) = self.logs.slots[at].checkpoint else {
            return;
        };
        let Logs { slots, state, .. } = &mut self.logs;
        let LogSlot { id, log, .. } = &mut slots[at];
        if log.checkpoint_pending() > CHECKPOINT_PENDING_MAX {
            return;
        }
        let (mut taken, mut bytes) = (0, 0);
        while let Some(owned) = self.partitions.get(next as usize) {
            if taken == CHECKPOINT_PARTITIONS_PER_TURN || bytes >= CHECKPOINT_BYTES_PER_TURN {
                slots[at].checkpoint = Some(next);
                return;
            }
            next += 1;
            if owned.log != Some(*id) {
                continue;
            }
            state.clear();
            let (domain, as_of) = match &owned.kind {
                Kind::Stream(stream) => {
                    stream.snapshot(state);
                    (DOMAIN_STREAM, log.appended())
                }
                // Its state is that of what was committed.
                Kind::Queue(queue) => {
                    queue.snapshot(state);
                    (DOMAIN_QUEUE, log.committed())
                }
                Kind::Cache(_) => continue,
            };
            let (resource, partition) = owned.key;
            log.checkpoint_add(resource, partition, domain, as_of, state);
            taken += 1;
            bytes += state.len();
        }
        log.checkpoint_end();
        slots[at].checkpoint = None;
    }

    /// When the logs have something to do by themselves.
    pub(crate) fn logs_deadline(&self) -> Option<Monotonic> {
        self.logs
            .slots
            .iter()
            .filter_map(|slot| slot.log.next_deadline())
            .chain(self.logs.retention_due)
            .min()
    }

    /// Whether a checkpoint waits for the next turn.
    pub(crate) fn logs_have_work(&self) -> bool {
        self.logs.slots.iter().any(|slot| slot.checkpoint.is_some())
    }

    pub(crate) fn logs_timeout(&mut self, now: Monotonic, wall: WallMs) {
        for at in 0..self.logs.slots.len() {
            if self.logs.slots[at]
                .log
                .next_deadline()
                .is_some_and(|due| due <= now)
            {
                self.logs.slots[at].log.handle_timeout(now);
                self.take_events(now, at);
            }
        }
        if self.logs.retention_due.is_some_and(|due| due <= now) {
            self.logs.retention_due = Some(now + RETENTION_EVERY);
            self.enforce_retention(now, wall);
        }
    }

    /// A partition with retention exists.
    pub(crate) fn watch_retention(&mut self) {
        self.logs.retention_due.get_or_insert(Monotonic::ZERO);
    }

    fn enforce_retention(&mut self, now: Monotonic, wall: WallMs) {
        let total = self.partitions.len();
        for _ in 0..total.min(RETENTION_PARTITIONS_PER_TICK) {
            let slot = Slot::from_index(self.logs.retention_next as usize % total);
            self.logs.retention_next = (self.logs.retention_next + 1)
                % u32::try_from(total).expect("bounded by PARTITIONS_MAX");
            let owned = &self.partitions[slot.index()];
            let Some(at) = owned.log.and_then(|id| self.logs.index(id)) else {
                continue;
            };
            let (resource, partition) = owned.key;
            let (ms, bytes) = owned.retention;
            let log = &self.logs.slots[at].log;
            let old = ms.and_then(|ms| {
                let before = WallMs(wall.0.saturating_sub(ms));
                log.expired(resource, partition, before)
            });
            let over = bytes.and_then(|max| log.over_size(resource, partition, max));
            let Some(first) = old.max(over) else {
                continue;
            };
            // It frees space; when even that finds no room, the next tick tries again.
            if self.admit(slot, 0, true).is_err() {
                continue;
            }
            let stream = self.stream(slot);
            if first > stream.first_available() {
                stream.trim(first, wall);
                self.take_ops(now, slot);
            }
        }
    }

    /// The partition's first record moved: what lies before it is dead.
    pub(crate) fn tell_first(&mut self, slot: Slot) {
        let owned = &mut self.partitions[slot.index()];
        let Kind::Stream(stream) = &owned.kind else {
            return;
        };
        let first = stream.committed_first();
        if first == owned.told_first {
            return;
        }
        owned.told_first = first;
        if let Some(at) = owned.log.and_then(|id| self.logs.index(id)) {
            let (resource, partition) = owned.key;
            self.logs.slots[at]
                .log
                .release_stream(resource, partition, first);
        }
    }

    /// Clean end: everything appended is flushed and each log gets its footer.
    pub fn seal_logs(&mut self) {
        for slot in &mut self.logs.slots {
            slot.log.seal();
        }
    }

    /// Whether every log is sealed, or past writing.
    #[must_use]
    pub fn logs_sealed(&self) -> bool {
        self.logs
            .slots
            .iter()
            .all(|slot| slot.sealed || slot.fenced)
    }

    /// What each log has counted.
    pub fn log_stats(&self) -> impl Iterator<Item = (LogId, LogStats)> + '_ {
        self.logs
            .slots
            .iter()
            .map(|slot| (slot.id, slot.log.stats()))
    }
}

/// Domains of a checkpoint's states, as in `docs/storage-format.md`.
const DOMAIN_STREAM: u8 = 1;
const DOMAIN_QUEUE: u8 = 2;

fn record<'a>(
    (resource, partition): (ResourceId, PartitionId),
    op: &Op,
    ext: &'a [&'a [u8]],
    body: &'a [&'a [u8]],
) -> RecordIn<'a> {
    RecordIn {
        head: RecordHead {
            resource,
            partition,
            kind: op.kind,
            first: op.first,
            count: op.count,
            epoch: 0,
            timestamp: op.timestamp,
        },
        ext,
        body,
        retain: op.retain,
    }
}
