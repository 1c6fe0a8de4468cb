//! What partitions of this node say, by resource and by kind.

use core::time::Duration;
use std::collections::BTreeMap;

use pinion_node::views::{PartitionDetail, PartitionFacts};
use pinion_types::{ResourceId, ResourceKind, WallMs};

use super::catalogue as of;
use super::family::Families;
use crate::observer::Snapshot;

/// A resource as people know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) tenant: Box<str>,
    pub(crate) namespace: Box<str>,
    pub(crate) name: Box<str>,
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
    /// When the oldest message that is not done was put.
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
    pub(crate) fn of(partitions: &[PartitionFacts]) -> Self {
        let mut sum = Self::default();
        for partition in partitions {
            sum.take(partition);
        }
        sum
    }

    fn take(&mut self, facts: &PartitionFacts) {
        self.partitions += 1;
        self.fenced += u64::from(facts.fenced);
        self.records += facts.records();
        self.memory += facts.bytes;
        self.durable += facts.durable_bytes;
        self.subscriptions += u64::from(facts.subscriptions());
        match &facts.detail {
            PartitionDetail::Stream(stream) => {
                self.received += stream.records_in;
                self.sent += stream.records_out;
                self.append_sessions += u64::from(stream.append_sessions);
                self.lag_max = self.lag_max.max(stream.lag_max);
            }
            PartitionDetail::Queue(queue) => {
                let groups = &queue.groups;
                self.received += queue.messages_in;
                self.sent += groups.counters.delivered;
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
                // The version of the first change is 1.
                self.received += cache.next_version.saturating_sub(1);
                self.sent += cache.hits;
                self.budget += cache.budget;
                self.hits += cache.hits;
                self.misses += cache.misses;
                self.evictions += cache.evictions;
                self.expirations += cache.expirations;
            }
        }
    }

    fn add(&mut self, other: &Self) {
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

    /// How long the oldest message has waited at `now`; 0 without one.
    fn oldest_age(&self, now: WallMs) -> Duration {
        let since = self.oldest.map_or(0, |at| now.0.saturating_sub(at.0));
        Duration::from_millis(since)
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

const KINDS: [ResourceKind; 3] = [
    ResourceKind::Stream,
    ResourceKind::Queue,
    ResourceKind::Cache,
];

/// The resources of a snapshot, each with the sum of its partitions.
pub(crate) struct Resources {
    all: BTreeMap<ResourceId, (ResourceKind, Sum)>,
    /// How many of each kind, and their sum.
    kinds: [(u64, Sum); KINDS.len()],
    /// Those with series of their own, the most active first.
    shown: Vec<ResourceId>,
    taken_at: WallMs,
}

impl Resources {
    /// With at most `shown` that are told one by one.
    pub(crate) fn of(snapshot: &Snapshot, shown: usize) -> Self {
        let mut all = BTreeMap::new();
        let mut kinds = [(0, Sum::default()); KINDS.len()];
        for (id, partitions) in snapshot.resources.iter() {
            let Some(first) = partitions.first() else {
                continue;
            };
            let kind = first.detail.kind();
            let sum = Sum::of(partitions);
            if let Some(at) = KINDS.iter().position(|one| *one == kind) {
                kinds[at].0 += 1;
                kinds[at].1.add(&sum);
            }
            all.insert(*id, (kind, sum));
        }
        let before = snapshot.before.as_deref();
        let mut active: Vec<(u64, u64, ResourceId)> = all
            .iter()
            .map(|(id, (_, sum))| {
                let before = before.map(|before| Sum::of(before.partitions(*id)));
                let before = before.map_or(0, |sum| sum.received + sum.sent);
                let now = sum.received + sum.sent;
                (now.saturating_sub(before), now, *id)
            })
            .collect();
        // Among those at rest, whoever did more is shown; which is which holds still.
        let key = |one: &(u64, u64, ResourceId)| (u64::MAX - one.0, u64::MAX - one.1, one.2);
        if active.len() > shown && shown > 0 {
            active.select_nth_unstable_by_key(shown - 1, key);
        }
        active.truncate(shown);
        active.sort_unstable_by_key(key);
        Self {
            shown: active.into_iter().map(|(_, _, id)| id).collect(),
            all,
            kinds,
            taken_at: snapshot.taken_at,
        }
    }

    /// Whose names are needed.
    pub(crate) fn shown(&self) -> &[ResourceId] {
        &self.shown
    }

    /// All families of them.
    pub(crate) fn put(
        &self,
        families: &mut Families,
        names: &BTreeMap<ResourceId, Named>,
        before: Option<&Snapshot>,
    ) {
        self.put_kinds(families);
        self.put_totals(families);
        let mut left_out = self.all.len();
        for id in &self.shown {
            // One without a name is being deleted, or came after the names.
            let (Some(named), Some((kind, sum))) = (names.get(id), self.all.get(id)) else {
                continue;
            };
            left_out -= 1;
            let before = before.map(|before| Sum::of(before.partitions(*id)));
            put_one(families, named, *kind, sum, before.as_ref(), self.taken_at);
        }
        families.put(&of::SERIES_LEFT_OUT, &[], left_out);
    }

    fn put_kinds(&self, families: &mut Families) {
        for (kind, (resources, sum)) in KINDS.iter().zip(&self.kinds) {
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
        let [(_, streams), (_, queues), (_, caches)] = &self.kinds;
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
        let oldest = queues.oldest_age(self.taken_at);
        families.put(&of::QUEUE_OLDEST, &[], oldest);
        for (def, count) in [
            (&of::QUEUE_DELIVERED, queues.delivered),
            (&of::QUEUE_REDELIVERED, queues.redelivered),
            (&of::QUEUE_ACKED, queues.acked),
            (&of::QUEUE_NACKED, queues.nacked),
            (&of::QUEUE_LAPSED, queues.lapsed),
            (&of::QUEUE_DEAD, queues.died),
            (&of::CACHE_BUDGET, caches.budget),
            (&of::CACHE_HITS, caches.hits),
            (&of::CACHE_MISSES, caches.misses),
            (&of::CACHE_EVICTIONS, caches.evictions),
            (&of::CACHE_EXPIRATIONS, caches.expirations),
        ] {
            families.put(def, &[], count);
        }
    }
}

fn put_one(
    families: &mut Families,
    named: &Named,
    kind: ResourceKind,
    sum: &Sum,
    before: Option<&Sum>,
    now: WallMs,
) {
    let labels = &[
        kind_text(kind),
        &*named.tenant,
        &*named.namespace,
        &*named.name,
    ];
    families.put(&of::RESOURCE_RECORDS, labels, sum.records);
    families.put(&of::RESOURCE_MEMORY, labels, sum.memory);
    families.put(&of::RESOURCE_DURABLE, labels, sum.durable);
    families.put(&of::RESOURCE_SUBSCRIPTIONS, labels, sum.subscriptions);
    families.put(&of::RESOURCE_IN, labels, sum.received);
    families.put(&of::RESOURCE_OUT, labels, sum.sent);
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
