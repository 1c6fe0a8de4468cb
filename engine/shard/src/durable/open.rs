//! Opening a log: what it holds is folded into partitions, and what is damaged
//! is closed.

use std::collections::VecDeque;

use pinion_commitlog::{
    DamagedPartitions, Files, LogConfig, LogId, Lsn, RecoverError, Recovered, RecoveryReport,
    Replay,
};
use pinion_domains::op::kind;
use pinion_domains::queue::QueuePartition;
use pinion_types::{FixedSet, Monotonic, PartitionId, ResourceId, WallMs};

use super::checkpoints::DOMAIN_PURGED;
use super::purged::{Found, Purged, unknown_spec};
use super::{LogSlot, PartitionSpec};
use crate::shard::{Kind, Shard, Slot, Standing};

/// What opening a log found.
#[derive(Clone, Debug)]
pub struct OpenedLog {
    /// The log's own findings.
    pub report: RecoveryReport,
    /// Partitions whose resource nobody declares. Their data is kept (R37), and they
    /// serve nobody in this life of the node, whatever is declared later.
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
        let mut orphans: FixedSet<(ResourceId, PartitionId)> = FixedSet::default();
        // Those of them that cannot be opened to be kept.
        let mut unkept = FixedSet::default();
        let mut purged = Purged::default();
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
            let key = (resource, partition);
            if is_purge(&found) {
                purged.keys.insert(key);
                orphans.remove(&key);
                unkept.remove(&key);
                self.found_purged(key, now, wall);
            }
            if purged.keys.contains(&key) {
                // Also what was moved after the purge: it is of before.
                return;
            }
            let slot = match self.index.get(&key) {
                Some(slot) => Some(*slot),
                None => match find(resource, partition) {
                    Some(spec) => self.open_spec(resource, partition, Some(id), &spec, None),
                    None => {
                        orphans.insert(key);
                        self.open_unknown(key, id, &found)
                    }
                },
            };
            let Some(slot) = slot else {
                orphans.insert(key);
                unkept.insert(key);
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
                if self.partitions[slot.index()].standing == Standing::Unknown {
                    unkept.insert(key);
                }
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
            purged,
            keeps_all: !unkept.is_empty(),
        });
        let at = self.logs.slots.len() - 1;
        self.forget_purged(at);
        self.tell_what_lives(at, now, wall);
        let fenced = self.close_damaged(at, &report);
        Ok(OpenedLog {
            report,
            orphans: orphans.len(),
            senseless,
            fenced,
        })
    }

    /// Keeps what nobody declares as it is: with its log it goes on through
    /// checkpoints and compaction, for nobody.
    fn open_unknown(
        &mut self,
        (resource, partition): (ResourceId, PartitionId),
        log: LogId,
        found: &Replay<'_>,
    ) -> Option<Slot> {
        let spec = unknown_spec(match found {
            Replay::State { domain, .. } => Found::State(*domain),
            Replay::Record { head, .. } => Found::Record(head.kind),
            Replay::Damage(_) => return None,
        })?;
        let slot = self.open_spec(resource, partition, Some(log), &spec, None)?;
        self.partitions[slot.index()].standing = Standing::Unknown;
        Some(slot)
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
        let LogSlot {
            id, log, keeps_all, ..
        } = &mut self.logs.slots[at];
        for owned in &mut self.partitions {
            if owned.log != Some(*id) {
                continue;
            }
            match &mut owned.kind {
                Kind::Stream(_) if owned.standing == Standing::Unknown => {}
                Kind::Stream(stream) => {
                    log.release_stream(owned.key.0, owned.key.1, stream.first_available());
                }
                Kind::Queue(queue) => {
                    for place in queue.live_locations() {
                        log.retain(place);
                    }
                    if owned.standing == Standing::Served {
                        queue.ready(now, wall);
                    }
                }
                Kind::Cache(_) => {}
            }
            owned.begun = owned.kind.end();
        }
        if !*keeps_all {
            log.ready();
        }
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

    pub(super) fn fence_log(&mut self, id: LogId) {
        let slots: Vec<Slot> = (0..self.partitions.len())
            .map(Slot::from_index)
            .filter(|slot| self.partitions[slot.index()].log == Some(id))
            .collect();
        for slot in slots {
            self.fence(slot);
        }
    }
}

/// Whether it says that a partition was purged.
const fn is_purge(found: &Replay<'_>) -> bool {
    match found {
        Replay::State { domain, .. } => *domain == DOMAIN_PURGED,
        Replay::Record { head, .. } => head.kind == kind::RESOURCE_PURGED,
        Replay::Damage(_) => false,
    }
}
