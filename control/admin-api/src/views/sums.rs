//! Partitions of one resource taken together, and how fast their counters go.

use core::time::Duration;

use pinion_node::views::{PartitionDetail, PartitionFacts};
use pinion_types::{ResourceId, WallMs};

use super::Condition;
use crate::observer::Told;

/// Partitions of a stream together. Of one partition the offsets are its offsets; of several
/// they are sums, and grow as fast as the stream does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StreamSum {
    pub(crate) first: u64,
    pub(crate) end: u64,
    pub(crate) appended: u64,
    pub(crate) bytes: u64,
    pub(crate) durable_bytes: u64,
    pub(crate) subscriptions: u64,
    pub(crate) append_sessions: u64,
    pub(crate) records_in: u64,
    pub(crate) records_out: u64,
    pub(crate) bytes_out: u64,
}

/// Partitions of a queue together. What two groups have counts for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct QueueSum {
    pub(crate) ready: u64,
    pub(crate) delayed: u64,
    pub(crate) in_flight: u64,
    pub(crate) dead: u64,
    pub(crate) bytes: u64,
    pub(crate) durable_bytes: u64,
    pub(crate) consumers: u64,
    pub(crate) waiting: u64,
    /// Since when the oldest that is ready waits.
    pub(crate) oldest: Option<WallMs>,
    pub(crate) put: u64,
    pub(crate) delivered: u64,
    pub(crate) redelivered: u64,
    pub(crate) acked: u64,
    pub(crate) nacked: u64,
    pub(crate) lapsed: u64,
    pub(crate) died: u64,
    pub(crate) dropped: u64,
}

/// Partitions of a cache together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CacheSum {
    pub(crate) entries: u64,
    pub(crate) used: u64,
    pub(crate) budget: u64,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) evicted: u64,
    pub(crate) expired: u64,
    pub(crate) changes: u64,
    pub(crate) watches: u64,
    pub(crate) leases: u64,
    pub(crate) waiting: u64,
}

/// What partitions are summed up to.
pub(crate) trait Sum: Copy + Default {
    /// Adds one of this kind; any other is passed over.
    fn add(&mut self, facts: &PartitionFacts);

    /// Some of them together.
    fn of(facts: impl IntoIterator<Item = PartitionFacts>) -> Self {
        let mut sum = Self::default();
        facts.into_iter().for_each(|one| sum.add(&one));
        sum
    }
}

impl Sum for StreamSum {
    fn add(&mut self, facts: &PartitionFacts) {
        let PartitionDetail::Stream(stream) = &facts.detail else {
            return;
        };
        self.first += stream.first.0;
        self.end += stream.end.0;
        self.appended += stream.appended_end.0;
        self.bytes += facts.bytes;
        self.durable_bytes += facts.durable_bytes;
        self.subscriptions += u64::from(stream.subscriptions);
        self.append_sessions += u64::from(stream.append_sessions);
        self.records_in += stream.records_in;
        self.records_out += stream.records_out;
        self.bytes_out += stream.bytes_out;
    }
}

impl Sum for QueueSum {
    fn add(&mut self, facts: &PartitionFacts) {
        let PartitionDetail::Queue(queue) = &facts.detail else {
            return;
        };
        let groups = &queue.groups;
        self.ready += groups.ready;
        // What waits for its key's turn is no more ready than what waits for its time.
        self.delayed += groups.delayed + groups.blocked;
        self.in_flight += groups.in_flight;
        self.dead += groups.dead;
        self.bytes += queue.counts.bytes;
        self.durable_bytes += facts.durable_bytes;
        self.consumers += u64::from(groups.consumers);
        self.waiting += u64::from(groups.demands);
        self.oldest = match (self.oldest, groups.oldest) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.put += queue.messages_in;
        self.delivered += groups.counters.delivered;
        self.redelivered += groups.counters.redelivered;
        self.acked += groups.counters.acked;
        self.nacked += groups.counters.nacked;
        self.lapsed += groups.counters.lapsed;
        self.died += groups.counters.dead;
        self.dropped += groups.counters.dropped;
    }
}

impl Sum for CacheSum {
    fn add(&mut self, facts: &PartitionFacts) {
        let PartitionDetail::Cache(cache) = &facts.detail else {
            return;
        };
        self.entries += cache.entries;
        self.used += cache.bytes;
        self.budget += cache.budget;
        self.hits += cache.hits;
        self.misses += cache.misses;
        self.evicted += cache.evictions;
        self.expired += cache.expirations;
        self.changes += cache.changes;
        self.watches += u64::from(cache.watches);
        self.leases += u64::from(cache.leases);
        self.waiting += u64::from(cache.waiting);
    }
}

/// Two sums and the time between them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace<S> {
    pub(crate) now: S,
    /// Of the worst of them.
    condition: Condition,
    /// Without one nobody knows how fast anything goes.
    before: Option<(S, Duration)>,
}

impl<S: Sum> Pace<S> {
    /// Of a resource, in some of its partitions.
    pub(crate) fn of(
        told: Told<'_>,
        id: ResourceId,
        only: impl Fn(&PartitionFacts) -> bool,
    ) -> Self {
        let mut pace = Self {
            before: told.before(id).map(|(before, span)| {
                let facts = before.iter();
                (S::of(facts.filter(|facts| only(facts))), span)
            }),
            ..Self::default()
        };
        let facts = told.partitions(id).iter();
        for one in facts.filter(|facts| only(facts)) {
            pace.now.add(&one);
            pace.condition = pace.condition.max(condition_of(&one));
        }
        pace
    }

    /// How it is, if it is `deleting` or not.
    pub(crate) const fn condition(&self, deleting: bool) -> Condition {
        if deleting {
            Condition::Deleting
        } else {
            self.condition
        }
    }

    /// How often in a second something was counted. A counter that was larger before was
    /// begun anew meanwhile: nothing is known then.
    pub(crate) fn rate(&self, count: impl Fn(&S) -> u64) -> f64 {
        let Some((before, span)) = &self.before else {
            return 0.0;
        };
        rate(count(before), count(&self.now), *span)
    }
}

/// How often in a second something was counted between two counts.
#[expect(clippy::cast_precision_loss, reason = "a rate is no exact number")]
fn rate(before: u64, now: u64, span: Duration) -> f64 {
    match now.checked_sub(before) {
        Some(more) if !span.is_zero() => more as f64 / span.as_secs_f64(),
        _ => 0.0,
    }
}

/// How one partition is.
pub(crate) fn condition_of(facts: &PartitionFacts) -> Condition {
    if facts.fenced {
        Condition::Fenced
    } else if facts.read_only {
        Condition::ReadOnly
    } else {
        Condition::Ok
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_what_came_and_nothing_of_what_began_anew() {
        let second = Duration::from_secs(1);
        assert!((rate(10, 30, second * 2) - 10.0).abs() < 1e-9);
        assert_eq!(rate(30, 10, second).to_bits(), 0);
        assert_eq!(rate(10, 30, Duration::ZERO).to_bits(), 0);
        assert_eq!(
            Pace::<StreamSum>::default().rate(|sum| sum.end).to_bits(),
            0
        );
    }
}
