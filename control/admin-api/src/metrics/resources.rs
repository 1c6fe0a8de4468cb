//! What partitions of this node say, by resource and by kind.

use core::time::Duration;
use std::collections::BTreeMap;

use pinion_node::views::{PartitionDetail, PartitionFacts};
use pinion_types::{ResourceId, ResourceKind, WallMs};

use super::catalogue as of;
use super::family::Families;
use crate::observer::Snapshot;
use crate::seen::Parts;

/// A resource as people know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) tenant: Box<str>,
    pub(crate) namespace: Box<str>,
    pub(crate) name: Box<str>,
}

impl Named {
    fn labels(&self, kind: ResourceKind) -> [&str; 4] {
        [kind_text(kind), &self.tenant, &self.namespace, &self.name]
    }
}

/// Partitions taken together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) partitions: u64,
    pub(crate) fenced: u64,
    pub(crate) records: u64,
    pub(crate) memory: u64,
    pub(crate) durable: u64,
    pub(crate) subscriptions: u64,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) append_sessions: u64,
    /// Of the subscription furthest behind.
    pub(crate) lag_max: u64,
    pub(crate) ready: u64,
    pub(crate) delayed: u64,
    pub(crate) in_flight: u64,
    pub(crate) blocked: u64,
    pub(crate) dead: u64,
    /// Since when the oldest message that is ready waits.
    pub(crate) oldest: Option<WallMs>,
    pub(crate) delivered: u64,
    pub(crate) redelivered: u64,
    pub(crate) acked: u64,
    pub(crate) nacked: u64,
    pub(crate) lapsed: u64,
    pub(crate) died: u64,
    pub(crate) budget: u64,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) evictions: u64,
    pub(crate) expirations: u64,
}

impl Sum {
    fn of(parts: Parts<'_>) -> Self {
        let mut sum = Self::default();
        parts.iter().for_each(|facts| sum.take(&facts));
        sum
    }

    pub(crate) fn take(&mut self, facts: &PartitionFacts) {
        let (received, sent) = traffic(facts);
        self.received += received;
        self.sent += sent;
        self.partitions += 1;
        self.fenced += u64::from(facts.fenced);
        self.records += facts.records();
        self.memory += facts.bytes;
        self.durable += facts.durable_bytes;
        self.subscriptions += u64::from(facts.subscriptions());
        match &facts.detail {
            PartitionDetail::Stream(stream) => {
                self.append_sessions += u64::from(stream.append_sessions);
                self.lag_max = self.lag_max.max(stream.lag_max);
            }
            PartitionDetail::Queue(queue) => {
                let groups = &queue.groups;
                self.ready += groups.ready;
                self.delayed += groups.delayed;
                self.in_flight += groups.in_flight;
                self.blocked += groups.blocked;
                self.dead += groups.dead;
                self.oldest = [self.oldest, groups.oldest].into_iter().flatten().min();
                self.delivered += groups.counters.delivered;
                self.redelivered += groups.counters.redelivered;
                self.acked += groups.counters.acked;
                self.nacked += groups.counters.nacked;
                self.lapsed += groups.counters.lapsed;
                self.died += groups.counters.dead;
            }
            PartitionDetail::Cache(cache) => {
                self.budget += cache.budget;
                self.hits += cache.hits;
                self.misses += cache.misses;
                self.evictions += cache.evictions;
                self.expirations += cache.expirations;
            }
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        // Taken apart so that a new one cannot be forgotten here.
        let Self {
            partitions,
            fenced,
            records,
            memory,
            durable,
            subscriptions,
            received,
            sent,
            append_sessions,
            lag_max,
            ready,
            delayed,
            in_flight,
            blocked,
            dead,
            oldest,
            delivered,
            redelivered,
            acked,
            nacked,
            lapsed,
            died,
            budget,
            hits,
            misses,
            evictions,
            expirations,
        } = other;
        self.partitions += partitions;
        self.fenced += fenced;
        self.records += records;
        self.memory += memory;
        self.durable += durable;
        self.subscriptions += subscriptions;
        self.received += received;
        self.sent += sent;
        self.append_sessions += append_sessions;
        self.lag_max = self.lag_max.max(*lag_max);
        self.ready += ready;
        self.delayed += delayed;
        self.in_flight += in_flight;
        self.blocked += blocked;
        self.dead += dead;
        self.oldest = [self.oldest, *oldest].into_iter().flatten().min();
        self.delivered += delivered;
        self.redelivered += redelivered;
        self.acked += acked;
        self.nacked += nacked;
        self.lapsed += lapsed;
        self.died += died;
        self.budget += budget;
        self.hits += hits;
        self.misses += misses;
        self.evictions += evictions;
        self.expirations += expirations;
    }

    /// How long the oldest ready message has waited at `now`; 0 without one.
    fn oldest_age(&self, now: WallMs) -> Duration {
        let since = self.oldest.map_or(0, |at| now.0.saturating_sub(at.0));
        Duration::from_millis(since)
    }
}

/// Records, messages or changes that came into a partition, and that went out of it.
pub(crate) fn traffic(facts: &PartitionFacts) -> (u64, u64) {
    match &facts.detail {
        PartitionDetail::Stream(stream) => (stream.records_in, stream.records_out),
        PartitionDetail::Queue(queue) => (queue.messages_in, queue.groups.counters.delivered),
        PartitionDetail::Cache(cache) => (cache.changes, cache.hits),
    }
}

/// As labels have it.
pub(crate) const fn kind_text(kind: ResourceKind) -> &'static str {
    match kind {
        ResourceKind::Stream => "stream",
        ResourceKind::Queue => "queue",
        ResourceKind::Cache => "cache",
    }
}

/// All of them, in the order in which they are told.
pub(crate) const KINDS: [ResourceKind; 3] = [
    ResourceKind::Stream,
    ResourceKind::Queue,
    ResourceKind::Cache,
];

/// The resources of a snapshot.
pub(crate) struct Resources<'a> {
    snapshot: &'a Snapshot,
    /// Those with series of their own, the most active first.
    shown: &'a [ResourceId],
}

impl<'a> Resources<'a> {
    /// With at most `shown` that are told one by one, and never more than
    /// [`RESOURCES_TOLD_MAX`](crate::limits::RESOURCES_TOLD_MAX).
    pub(crate) fn of(snapshot: &'a Snapshot, shown: usize) -> Self {
        let active = snapshot.active();
        let shown = &active[..shown.min(active.len())];
        Self { snapshot, shown }
    }

    /// Whose names are needed.
    pub(crate) fn shown(&self) -> &'a [ResourceId] {
        self.shown
    }

    /// All families of them.
    pub(crate) fn put(&self, families: &mut Families, names: &BTreeMap<ResourceId, Named>) {
        self.put_kinds(families);
        self.put_totals(families);
        let seen = &self.snapshot.seen;
        let before = self.snapshot.before.as_deref();
        let mut left_out = seen.len();
        for id in self.shown {
            let parts = seen.partitions(*id);
            // One without a name is being deleted, or came after the names.
            let (Some(named), Some(first)) = (names.get(id), parts.iter().next()) else {
                continue;
            };
            left_out -= 1;
            let kind = first.detail.kind();
            let before = before.map(|before| Sum::of(before.seen.partitions(*id)));
            let (sum, now) = (Sum::of(parts), self.snapshot.taken_at);
            put_one(families, named, kind, &sum, before.as_ref(), now);
            // Without the partitions of a core that does not answer they would look as if
            // they had begun anew; a series that is not told does not.
            if self.snapshot.missing.is_empty() {
                put_traffic(families, named, kind, &sum);
            }
        }
        families.put(&of::SERIES_LEFT_OUT, &[], left_out);
    }

    fn put_kinds(&self, families: &mut Families) {
        for (kind, (resources, sum)) in KINDS.iter().zip(self.snapshot.seen.kinds()) {
            let kind = &[kind_text(*kind)];
            families.put(&of::RESOURCES, kind, *resources);
            families.put(&of::PARTITIONS, kind, sum.partitions);
            families.put(&of::RECORDS, kind, sum.records);
            families.put(&of::MEMORY, kind, sum.memory);
            families.put(&of::DURABLE, kind, sum.durable);
            families.put(&of::SUBSCRIPTIONS, kind, sum.subscriptions);
        }
    }

    fn put_totals(&self, families: &mut Families) {
        let [(_, streams), (_, queues), (_, caches)] = self.snapshot.seen.kinds();
        let fenced = streams.fenced + queues.fenced + caches.fenced;
        families.put(&of::FENCED, &[], fenced);
        families.put(&of::STREAM_LAG_MAX, &[], streams.lag_max);
        families.put(&of::STREAM_SESSIONS, &[], streams.append_sessions);
        for (state, count) in [
            ("ready", queues.ready),
            ("delayed", queues.delayed),
            ("in_flight", queues.in_flight),
            ("blocked", queues.blocked),
            ("dead", queues.dead),
        ] {
            families.put(&of::QUEUE_MESSAGES, &[state], count);
        }
        let oldest = queues.oldest_age(self.snapshot.taken_at);
        families.put(&of::QUEUE_OLDEST, &[], oldest);
        families.put(&of::CACHE_BUDGET, &[], caches.budget);
        let totals = self.snapshot.totals();
        for (def, count) in [
            (&of::QUEUE_DELIVERED, totals.delivered),
            (&of::QUEUE_REDELIVERED, totals.redelivered),
            (&of::QUEUE_ACKED, totals.acked),
            (&of::QUEUE_NACKED, totals.nacked),
            (&of::QUEUE_LAPSED, totals.lapsed),
            (&of::QUEUE_DEAD, totals.died),
            (&of::CACHE_HITS, totals.hits),
            (&of::CACHE_MISSES, totals.misses),
            (&of::CACHE_EVICTIONS, totals.evictions),
            (&of::CACHE_EXPIRATIONS, totals.expirations),
        ] {
            families.put(def, &[], count);
        }
    }
}

/// The counters of a resource.
fn put_traffic(families: &mut Families, named: &Named, kind: ResourceKind, sum: &Sum) {
    let labels = &named.labels(kind);
    families.put(&of::RESOURCE_IN, labels, sum.received);
    families.put(&of::RESOURCE_OUT, labels, sum.sent);
}

fn put_one(
    families: &mut Families,
    named: &Named,
    kind: ResourceKind,
    sum: &Sum,
    before: Option<&Sum>,
    now: WallMs,
) {
    let labels = &named.labels(kind);
    families.put(&of::RESOURCE_RECORDS, labels, sum.records);
    families.put(&of::RESOURCE_MEMORY, labels, sum.memory);
    families.put(&of::RESOURCE_DURABLE, labels, sum.durable);
    families.put(&of::RESOURCE_SUBSCRIPTIONS, labels, sum.subscriptions);
    match kind {
        ResourceKind::Stream => families.put(&of::RESOURCE_LAG, labels, sum.lag_max),
        ResourceKind::Queue => {
            families.put(&of::RESOURCE_READY, labels, sum.ready);
            families.put(&of::RESOURCE_IN_FLIGHT, labels, sum.in_flight);
            families.put(&of::RESOURCE_DEAD, labels, sum.dead);
            families.put(&of::RESOURCE_OLDEST, labels, sum.oldest_age(now));
        }
        ResourceKind::Cache => {
            let hits = sum.hits.saturating_sub(before.map_or(0, |sum| sum.hits));
            let misses = sum
                .misses
                .saturating_sub(before.map_or(0, |sum| sum.misses));
            let ratio = super::ratio(hits, hits + misses);
            families.put_some(&of::RESOURCE_HIT_RATIO, labels, ratio);
        }
    }
}
