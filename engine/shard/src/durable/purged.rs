//! Purges in a log: that a partition is gone holds over a restart, and the room of
//! its records is used again.
//!
//! A record says it. A checkpoint says it again for as long as the log has records
//! of the partition, because a start reads nothing older than the checkpoint.

use pinion_commitlog::{AdmitError, Location, LogId, Lsn, RecordHead, RecordIn};
use pinion_domains::op::kind;
use pinion_domains::queue::QueueConfig;
use pinion_domains::stream::PartitionConfig;
use pinion_types::{ErrorCode, FixedSet, Monotonic, PartitionId, Refusal, ResourceId, WallMs};

use super::checkpoints::{DOMAIN_QUEUE, DOMAIN_STREAM};
use super::{LogSlot, PartitionSpec, Ticket};
use crate::shard::{Kind, Shard, Slot};

pub(super) type Key = (ResourceId, PartitionId);

/// Purged partitions of a log.
#[derive(Debug, Default)]
pub(super) struct Purged {
    /// Of which the log has, or may have, records.
    pub(super) keys: FixedSet<Key>,
    /// Whose record is not durable yet: then their room is given back.
    releases: Vec<Release>,
    /// What the checkpoint being taken says of them. Whatever is purged after it
    /// began is replayed from its record.
    pub(super) in_checkpoint: Vec<Key>,
}

#[derive(Debug)]
struct Release {
    lsn: Lsn,
    key: Key,
    bodies: Vec<Location>,
}

impl Shard {
    /// Whether the partition was purged and its log may still hold some of it.
    pub(crate) fn was_purged(&self, key: Key) -> bool {
        let logs = self.logs.slots.iter();
        logs.map(|slot| &slot.purged)
            .any(|one| one.keys.contains(&key))
    }

    /// Whether a log takes a purge now.
    pub(crate) fn admit_purge(&self, id: LogId) -> Result<(), Refusal> {
        let at = self.logs.index(id);
        let slot = &self.logs.slots[at.expect("partitions are routed to open logs")];
        if slot.sealed {
            return Err(ErrorCode::Draining.into());
        }
        if slot.fenced {
            return Err(ErrorCode::PartitionFenced.into());
        }
        slot.log.admit(0, true).map_err(|error| match error {
            AdmitError::Backlogged { .. } => ErrorCode::LogBacklogged.into(),
            AdmitError::ReadOnly => ErrorCode::ReadOnly.into(),
            AdmitError::Failed | AdmitError::TooLarge { .. } => ErrorCode::PartitionFenced.into(),
        })
    }

    /// Writes that the partition at `slot` is gone. Its records are released when
    /// that is durable; what it had not written yet is nobody's any more.
    pub(crate) fn write_purge(
        &mut self,
        now: Monotonic,
        wall: WallMs,
        slot: Slot,
    ) -> Option<Ticket> {
        let owned = &self.partitions[slot.index()];
        let (key, id) = (owned.key, owned.log?);
        let at = self.logs.index(id)?;
        let LogSlot {
            log,
            owners,
            purged,
            ..
        } = &mut self.logs.slots[at];
        let head = RecordHead {
            resource: key.0,
            partition: key.1,
            kind: kind::RESOURCE_PURGED,
            first: 0,
            count: 0,
            epoch: 0,
            timestamp: wall,
        };
        let record = RecordIn {
            head,
            ext: &[],
            body: &[],
            retain: false,
        };
        let lsn = log.append(now, &[record]).last;
        owners.retain(|(_, owner)| *owner != slot);
        let bodies = match &owned.kind {
            Kind::Queue(queue) => queue.live_locations().collect(),
            Kind::Stream(_) | Kind::Cache(_) => Vec::new(),
        };
        purged.keys.insert(key);
        purged.releases.push(Release { lsn, key, bodies });
        Some(Ticket { log: id, lsn })
    }

    /// Everything up to `lsn` is durable: the log may use the room again of what
    /// was purged there.
    pub(super) fn release_purged(&mut self, at: usize, lsn: Lsn) {
        let LogSlot { log, purged, .. } = &mut self.logs.slots[at];
        for release in purged.releases.extract_if(.., |one| one.lsn <= lsn) {
            log.forget(release.key.0, release.key.1);
            for body in release.bodies {
                log.release(body);
            }
        }
    }

    /// A start found that the partition was purged.
    pub(super) fn found_purged(&mut self, key: Key, now: Monotonic, wall: WallMs) {
        if let Some(&slot) = self.index.get(&key) {
            self.empty(slot, now, wall);
        }
    }

    /// What a start found purged: the room of what the log has of it is used again.
    /// What it has nothing of need not be remembered.
    pub(super) fn forget_purged(&mut self, at: usize) {
        let LogSlot { log, purged, .. } = &mut self.logs.slots[at];
        purged.keys.retain(|key| {
            let has = log.stream_bytes(key.0, key.1) > 0;
            log.forget(key.0, key.1);
            has
        });
    }
}

/// As what a partition is kept whose resource nobody declares; `None` for what this
/// version does not know.
pub(super) fn unknown_spec(found: Found) -> Option<PartitionSpec> {
    let stream = || {
        PartitionSpec::Stream(PartitionConfig {
            durable: true,
            ..PartitionConfig::default()
        })
    };
    // Policies decide what is done with messages, not what they are: they are not
    // looked at while it rests.
    let queue = || PartitionSpec::Queue(QueueConfig::default());
    match found {
        Found::State(DOMAIN_STREAM) => Some(stream()),
        Found::State(DOMAIN_QUEUE) => Some(queue()),
        Found::State(_) => None,
        Found::Record(kind::STREAM_BLOCK..=kind::STREAM_CURSOR) => Some(stream()),
        Found::Record(kind::QUEUE_FIRST..=kind::QUEUE_LAST) => Some(queue()),
        Found::Record(_) => None,
    }
}

/// What a log holds of a partition: a state of a domain, or a record of a kind.
#[derive(Clone, Copy, Debug)]
pub(super) enum Found {
    State(u8),
    Record(u8),
}
