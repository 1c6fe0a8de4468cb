//! Resources that are deleted: closed while that can be taken back, then purged.
//!
//! A closed partition serves nobody and nothing of it changes by itself: no timer
//! and no retention runs. What a log holds of a resource that nobody declares
//! rests in the same way (R37). A purge is always asked for by name.

use pinion_commitlog::LogId;
use pinion_domains::cache::{BUDGET_BYTES_MIN, CacheConfig, CachePartition};
use pinion_domains::queue::{QueueConfig, QueuePartition};
use pinion_domains::stream::{Delivery, Partition, PartitionConfig};
use pinion_types::{ErrorCode, Monotonic, PartitionId, Refusal, ResourceId, WallMs};

use super::{Kind, Shard, Slot};
use crate::durable::Ticket;
use crate::output::ShardOutput;

/// Whether a partition is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Yes.
    Served,
    /// Its resource is deleted; that may be taken back.
    Closed,
    /// A log holds it and nobody declares its resource: it is kept as it is.
    Unknown,
    /// It is gone; what is left is empty and in no log.
    Purged,
}

impl Shard {
    /// The open partitions of a resource of `shards` partitions.
    pub fn slots_of(&self, resource: ResourceId, shards: u16) -> impl Iterator<Item = Slot> + '_ {
        let all = (0..shards).map(move |partition| (resource, PartitionId(partition)));
        all.filter_map(|key| self.index.get(&key).copied())
    }

    /// Whether the partition must not be opened for anybody: it rests, or its log
    /// still holds what was purged of it.
    #[must_use]
    pub fn is_barred(&self, resource: ResourceId, partition: PartitionId) -> bool {
        let key = (resource, partition);
        match self.index.get(&key) {
            Some(slot) => self.partitions[slot.index()].standing != Standing::Served,
            None => self.was_purged(key),
        }
    }

    /// The resource is deleted: its subscriptions end with where to resume, and
    /// whoever waits is told. Its data stays; it serves nobody until
    /// [`Shard::reopen_resource`].
    pub fn close_resource(&mut self, resource: ResourceId, shards: u16) {
        let slots: Vec<Slot> = self.slots_of(resource, shards).collect();
        if slots.is_empty() {
            return;
        }
        for slot in &slots {
            self.touch(*slot);
            let owned = &mut self.partitions[slot.index()];
            if owned.standing == Standing::Served {
                owned.standing = Standing::Closed;
            }
        }
        let of = |shard: &Self, slot: Slot| shard.partitions[slot.index()].key.0 == resource;
        let attached = self.subscribers.iter();
        let attached: Vec<usize> = attached
            .filter(|(_, one)| of(self, one.slot))
            .map(|(key, _)| key)
            .collect();
        for key in attached {
            self.end_attached(key, ErrorCode::ResourceClosed);
        }
        let waiting = self.waiting.iter();
        let mut waiting: Vec<u64> = waiting
            .filter(|(_, one)| of(self, one.slot))
            .map(|(waiter, _)| *waiter)
            .collect();
        waiting.sort_unstable();
        for waiter in waiting {
            self.end_waiting(waiter, ErrorCode::ResourceClosed);
        }
        for slot in slots {
            if let Kind::Queue(queue) = &mut self.partitions[slot.index()].kind {
                queue.end_subscriptions(ErrorCode::ResourceClosed);
            }
        }
    }

    /// Ends a subscription or watch from here, and says where it may go on.
    pub(super) fn end_attached(&mut self, key: usize, code: ErrorCode) {
        let (to, next) = self.detach(key);
        if let Some(belongings) = self.sessions.get_mut(&to.session) {
            belongings.subscriptions.remove(&to.subscription);
        }
        self.ready.push_back(ShardOutput::Delivery {
            to,
            delivery: Delivery::End { code, next },
        });
    }

    /// Tells somebody who waits that it is for nothing.
    pub(super) fn end_waiting(&mut self, waiter: u64, code: ErrorCode) {
        self.take_leases.remove(&waiter);
        if let Some(waiting) = self.waiting.remove(&waiter) {
            let origin = waiting.origin;
            self.ready.push_back(ShardOutput::Ended { origin, code });
        }
    }

    /// The deletion is taken back: everything is as it was.
    pub fn reopen_resource(&mut self, resource: ResourceId, shards: u16) {
        let slots: Vec<Slot> = self.slots_of(resource, shards).collect();
        for slot in slots {
            let owned = &mut self.partitions[slot.index()];
            if owned.standing == Standing::Closed {
                owned.standing = Standing::Served;
                // `end_turn` finds its deadlines.
                self.touch(slot);
            }
        }
    }

    /// The resource and its data are gone for good. Holds over a restart once each
    /// ticket is committed; after that the logs use the room again. Gives nothing
    /// when there was nothing in a log.
    ///
    /// # Errors
    /// A log takes nothing now, not even what frees space: ask again later. Only
    /// what [`Shard::close_resource`] does has happened.
    pub fn purge_resource(
        &mut self,
        now: Monotonic,
        wall: WallMs,
        resource: ResourceId,
        shards: u16,
    ) -> Result<Vec<Ticket>, Refusal> {
        self.close_resource(resource, shards);
        let slots: Vec<Slot> = self.slots_of(resource, shards).collect();
        let mut logs: Vec<LogId> = Vec::new();
        for slot in &slots {
            if let Some(log) = self.partitions[slot.index()].log
                && !logs.contains(&log)
            {
                self.admit_purge(log)?;
                logs.push(log);
            }
        }
        let mut tickets: Vec<Ticket> = Vec::new();
        for slot in slots {
            let ticket = self.write_purge(now, wall, slot);
            self.empty(slot, now, wall);
            if let Some(ticket) = ticket {
                tickets.retain(|before| before.log != ticket.log);
                tickets.push(ticket);
            }
        }
        Ok(tickets)
    }

    /// Leaves an empty partition that is in no log: whoever still knows the slot
    /// finds nothing there.
    pub(crate) fn empty(&mut self, slot: Slot, now: Monotonic, wall: WallMs) {
        self.touch(slot);
        let owned = &mut self.partitions[slot.index()];
        self.retired.take(&owned.kind);
        owned.kind = match &owned.kind {
            Kind::Stream(_) => Kind::Stream(Box::new(Partition::new(PartitionConfig {
                durable: false,
                ..PartitionConfig::default()
            }))),
            Kind::Queue(queue) => {
                let config = QueueConfig {
                    durable: false,
                    ..*queue.config()
                };
                Kind::Queue(Box::new(QueuePartition::new(config, now, wall)))
            }
            Kind::Cache(_) => {
                let config = CacheConfig::new(BUDGET_BYTES_MIN, self.config.seed);
                Kind::Cache(Box::new(CachePartition::new(&config)))
            }
        };
        owned.standing = Standing::Purged;
        owned.log = None;
        owned.retention = (None, None);
        self.tail_bytes -= core::mem::take(&mut owned.tail_bytes);
        self.index.remove(&owned.key);
    }
}
