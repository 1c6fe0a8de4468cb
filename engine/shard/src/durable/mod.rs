//! The logs of a core: what its partitions want written, when it is durable,
//! and what is read back.
//!
//! A partition queues an [`Op`] for each change that must survive. The shard
//! appends it to the partition's log at once and remembers whose record it is;
//! when the log has committed the record, the partition is told, in order. Who
//! waits for the answer holds a [`Ticket`].
//!
//! `commit.rs` has the way of a change, `open.rs` the start; `reads.rs`,
//! `checkpoints.rs`, `retention.rs` and `pins.rs` what else a log does.

mod checkpoints;
mod commit;
mod open;
mod pins;
mod purged;
mod reads;
mod retention;

use std::collections::VecDeque;

use pinion_commitlog::{
    DamagedPartitions, DiskDone, DiskRequest, Log, LogEvent, LogId, LogStats, Lsn,
};
use pinion_domains::op::Op;
use pinion_domains::queue::QueueConfig;
use pinion_domains::stream::PartitionConfig;
use pinion_types::{FixedMap, Monotonic, ResourceId, WallMs};
use slab::Slab;

use crate::output::ShardOutput;
use crate::shard::{Kind, Shard, Slot};
pub use open::{OpenedLog, Senseless};
use purged::Purged;
use reads::ReadFor;

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
    purged: Purged,
    /// It holds what cannot be carried over a checkpoint, and nobody declares that:
    /// no checkpoint, and nothing is removed (R37).
    keeps_all: bool,
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
    pub(crate) fn log(&self, id: LogId) -> Option<&Log> {
        self.index(id).map(|at| &self.slots[at].log)
    }

    fn index(&self, id: LogId) -> Option<usize> {
        self.by_id.get(&id).copied()
    }
}

impl Shard {
    /// Whether the partition at `slot` writes to a log.
    #[must_use]
    pub fn is_durable(&self, slot: Slot) -> bool {
        self.partitions[slot.index()].log.is_some()
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
                    self.release_purged(at, lsn);
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
                LogEvent::RecordRead { token, result } => self.record_read(token, result),
                LogEvent::Relocated { head, from, to } => {
                    if let Some(&slot) = self.index.get(&(head.resource, head.partition))
                        && let Kind::Queue(queue) = &mut self.partitions[slot.index()].kind
                    {
                        queue.relocated(from, to);
                    }
                }
                LogEvent::CheckpointWanted => {
                    let slot = &self.logs.slots[at];
                    if slot.checkpoint.is_none() && !slot.keeps_all {
                        self.begin_checkpoint(at);
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

    /// When the logs have something to do by themselves.
    pub(crate) fn logs_deadline(&self) -> Option<Monotonic> {
        self.logs
            .slots
            .iter()
            .filter_map(|slot| slot.log.next_deadline())
            .chain(self.logs.retention_due)
            .min()
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
        self.retention_timeout(now, wall);
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

    /// Of up to `most` partitions from the `from`th on: whose they are, and the bytes
    /// that those with a log keep there, about.
    pub fn stored(&self, from: usize, most: usize) -> impl Iterator<Item = (ResourceId, u64)> + '_ {
        let some = self.partitions.iter().skip(from).take(most);
        some.filter_map(|owned| {
            let at = owned.log.and_then(|id| self.logs.index(id))?;
            let (resource, partition) = owned.key;
            let bytes = match &owned.kind {
                Kind::Stream(_) => self.logs.slots[at].log.stream_bytes(resource, partition),
                Kind::Queue(queue) => queue.queue_counts().bytes,
                Kind::Cache(_) => return None,
            };
            Some((resource, bytes))
        })
    }

    /// What each log has counted.
    pub fn log_stats(&self) -> impl Iterator<Item = (LogId, LogStats)> + '_ {
        self.logs
            .slots
            .iter()
            .map(|slot| (slot.id, slot.log.stats()))
    }
}
