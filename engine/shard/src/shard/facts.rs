//! What somebody who looks is told of partitions and of who hangs on them.
//!
//! Looking changes nothing: no partition is woken by it. Whoever asks bounds how much
//! is looked at in one turn.

use pinion_commitlog::{LogId, LogState};
use pinion_domains::cache::CacheStats;
use pinion_domains::queue::{GroupCounters, GroupCounts, QueueCounts};
use pinion_domains::stream::SubKey;
use pinion_types::{Offset, PartitionId, ResourceId, ResourceKind, SessionId};

use super::{Kind, Owned, Shard, Standing};
use crate::origin::Subscriber;

/// One partition as it is at this moment.
#[derive(Clone, Debug)]
pub struct PartitionFacts {
    /// Of which resource.
    pub resource: ResourceId,
    /// Which of it.
    pub partition: PartitionId,
    /// The log it writes to; `None` for what lives in memory only.
    pub log: Option<LogId>,
    /// Whether it is served.
    pub standing: Standing,
    /// Closed for good, by damage or a failed write.
    pub fenced: bool,
    /// Its log takes only what frees space.
    pub read_only: bool,
    /// Bytes it holds in memory, as its budget counts them.
    pub bytes: u64,
    /// Bytes that its log keeps of it, about.
    pub durable_bytes: u64,
    /// What only its kind has.
    pub detail: PartitionDetail,
}

/// What only one kind of partition has.
#[derive(Clone, Debug)]
pub enum PartitionDetail {
    /// Of a stream.
    Stream(StreamFacts),
    /// Of a queue.
    Queue(QueueFacts),
    /// Of a cache.
    Cache(CacheStats),
}

/// What only a partition of a stream has. Counters count since it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamFacts {
    /// Oldest offset that can be read.
    pub first: Offset,
    /// One past the last record that readers see.
    pub end: Offset,
    /// One past the last record taken, visible or not.
    pub appended_end: Offset,
    /// Records taken.
    pub records_in: u64,
    /// Records given to subscriptions, each time counted.
    pub records_out: u64,
    /// Bytes of them.
    pub bytes_out: u64,
    /// Subscriptions at this moment.
    pub subscriptions: u32,
    /// Records that the one furthest behind has not been given.
    pub lag_max: u64,
    /// Append sessions at this moment.
    pub append_sessions: u32,
    /// Idempotent producers remembered.
    pub producers: u32,
}

/// What only a partition of a queue has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueFacts {
    /// Of the whole partition.
    pub counts: QueueCounts,
    /// Of all its groups together, with what they counted since it was opened.
    pub groups: GroupCounts,
    /// Messages taken since it was opened.
    pub messages_in: u64,
}

/// What partitions that were purged had counted in this life of the core. Together with what
/// the others count it only grows, whatever is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retired {
    /// Of queues.
    pub queues: GroupCounters,
    /// Of caches: reads that found a current entry.
    pub hits: u64,
    /// Reads that did not.
    pub misses: u64,
    /// Entries that made room.
    pub evictions: u64,
    /// Entries whose time to live ended.
    pub expirations: u64,
}

impl Retired {
    /// One that goes now.
    pub(super) fn take(&mut self, kind: &Kind) {
        match kind {
            // Nothing of one stream is part of a total: cores count its records themselves.
            Kind::Stream(_) => {}
            Kind::Queue(queue) => self.queues.add(&queue.counters()),
            Kind::Cache(cache) => {
                let stats = cache.stats();
                self.hits += stats.hits;
                self.misses += stats.misses;
                self.evictions += stats.evictions;
                self.expirations += stats.expirations;
            }
        }
    }
}

impl PartitionDetail {
    /// What it is.
    #[must_use]
    pub const fn kind(&self) -> ResourceKind {
        match self {
            Self::Stream(_) => ResourceKind::Stream,
            Self::Queue(_) => ResourceKind::Queue,
            Self::Cache(_) => ResourceKind::Cache,
        }
    }
}

/// One subscription or watch, seen from the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscriptionFacts {
    /// Whose.
    pub to: Subscriber,
    /// Of which resource.
    pub resource: ResourceId,
    /// To which partition of it.
    pub partition: PartitionId,
    /// What that is.
    pub kind: ResourceKind,
    /// Of a stream: the first offset that it has not been given.
    pub next: Option<Offset>,
    /// Of a stream: records between that and the end.
    pub behind: u64,
    /// Of a stream: records it may be given before it grants more.
    pub credit_records: Option<u64>,
}

/// Partitions that are read ahead together: more than a processor waits for at once, and
/// few enough that the first are still in its cache when the last are there.
const AHEAD: usize = 16;

impl Shard {
    /// The partition at a place; places are below [`Shard::partitions`]. `None` for one
    /// that was purged, and for one that is of another kind than the one asked for. Those of
    /// the next places are read ahead when it is the first of a few: whoever asks for many in
    /// order waits for the memory of several at once and not for one after the other
    /// (docs/decisions/0015).
    pub fn partition_facts(
        &mut self,
        place: usize,
        only: Option<ResourceKind>,
    ) -> Option<PartitionFacts> {
        let asked_for = |owned: &Owned| only.is_none_or(|only| owned.kind.resource() == only);
        if place.is_multiple_of(AHEAD) {
            let next = self.partitions.iter().skip(place).take(AHEAD);
            let next = next.filter(|owned| asked_for(owned));
            let read = next.map(|owned| match &owned.kind {
                Kind::Stream(stream) => stream.fetch_ahead(),
                Kind::Queue(queue) => queue.fetch_ahead(),
                // There are few of them.
                Kind::Cache(_) => 0,
            });
            core::hint::black_box(read.fold(0, |all, one| all ^ one));
        }
        let there = self.partitions.get(place);
        there.filter(|owned| asked_for(owned))?;
        self.facts_at(place)
    }

    /// The partition of this name; `None` when it is not open, or was purged.
    pub fn facts_of(
        &mut self,
        resource: ResourceId,
        partition: PartitionId,
    ) -> Option<PartitionFacts> {
        let slot = *self.index.get(&(resource, partition))?;
        self.facts_at(slot.index())
    }

    /// What partitions that are gone had counted.
    #[must_use]
    pub const fn retired(&self) -> &Retired {
        &self.retired
    }

    /// Who has these messages of a group reserved, in their order; nobody those of a partition
    /// that is not open here.
    #[must_use]
    pub fn holders(
        &self,
        (resource, partition): (ResourceId, PartitionId),
        group: &[u8],
        ids: &[u64],
    ) -> Vec<Option<SessionId>> {
        let slot = self.index.get(&(resource, partition));
        let owned = slot.map(|slot| &self.partitions[slot.index()]);
        let Some(Kind::Queue(queue)) = owned.map(|owned| &owned.kind) else {
            return vec![None; ids.len()];
        };
        ids.iter().map(|id| queue.holder(group, *id)).collect()
    }

    fn facts_at(&mut self, place: usize) -> Option<PartitionFacts> {
        let logs = &self.logs;
        let owned = self.partitions.get_mut(place)?;
        if owned.standing == Standing::Purged {
            return None;
        }
        let (resource, partition) = owned.key;
        let log = owned.log.and_then(|id| logs.log(id));
        let (bytes, durable_bytes, detail) = match &mut owned.kind {
            Kind::Stream(stream) => {
                let small = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
                let appended_end = stream.appended_end();
                let facts = StreamFacts {
                    first: stream.first_available(),
                    end: stream.end(),
                    appended_end,
                    records_in: appended_end.0.saturating_sub(owned.begun),
                    records_out: owned.out_records,
                    bytes_out: owned.out_bytes,
                    subscriptions: small(stream.subscriptions()),
                    lag_max: stream.lag_max(),
                    append_sessions: small(stream.sessions()),
                    producers: small(stream.producers()),
                };
                let durable = log.map_or(0, |log| log.stream_bytes(resource, partition));
                (stream.bytes(), durable, PartitionDetail::Stream(facts))
            }
            Kind::Queue(queue) => {
                let counts = queue.queue_counts();
                let facts = QueueFacts {
                    counts,
                    groups: queue.all_counts(),
                    messages_in: counts.next_id.saturating_sub(owned.begun),
                };
                let durable = log.map_or(0, |_| counts.bytes);
                let detail = PartitionDetail::Queue(facts);
                (counts.resident, durable, detail)
            }
            Kind::Cache(cache) => {
                let stats = cache.stats();
                (stats.bytes, 0, PartitionDetail::Cache(stats))
            }
        };
        Some(PartitionFacts {
            resource,
            partition,
            log: owned.log,
            standing: owned.standing,
            fenced: owned.fenced,
            read_only: log.is_some_and(|log| log.state() == LogState::ReadOnly),
            bytes,
            durable_bytes,
            detail,
        })
    }

    /// The subscription or watch at a place; places are below
    /// [`Shard::subscription_places`]. `None` where there is none.
    #[must_use]
    pub fn subscription_facts(&self, place: usize) -> Option<SubscriptionFacts> {
        let attached = self.subscribers.get(place)?;
        let owned = &self.partitions[attached.slot.index()];
        let (resource, partition) = owned.key;
        let (kind, position, end) = match &owned.kind {
            Kind::Stream(stream) => {
                let position = stream.position(SubKey(place as u64));
                (ResourceKind::Stream, position, stream.end())
            }
            Kind::Queue(_) => (ResourceKind::Queue, None, Offset::ZERO),
            Kind::Cache(_) => (ResourceKind::Cache, None, Offset::ZERO),
        };
        let next = position.map(|position| position.next);
        Some(SubscriptionFacts {
            to: attached.to,
            resource,
            partition,
            kind,
            next,
            behind: next.map_or(0, |next| end.0.saturating_sub(next.0)),
            credit_records: position.map(|position| position.credit_records),
        })
    }

    /// One past the last place of a subscription, in use or not.
    #[must_use]
    pub fn subscription_places(&self) -> usize {
        self.subscribers.capacity()
    }

    /// Subscriptions and watches at this moment.
    #[must_use]
    pub fn subscriptions(&self) -> usize {
        self.subscribers.len()
    }
}
