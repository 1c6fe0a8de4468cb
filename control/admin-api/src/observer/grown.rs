//! What a node has counted, whichever cores answer and whatever is deleted: it only grows.
//!
//! Who reads a counter that is lower than before takes it for one that began anew, and counts
//! everything twice. So a core that is silent counts as much as it had counted when it last
//! answered, and resources that are gone are counted by the core that had them.

use std::sync::Arc;

use pinion_node::facts::{CoreFacts, Retired};
use pinion_types::CoreId;

use super::Snapshot;
use crate::metrics::{KINDS, Sum};

/// What the partitions of a core have counted since it started, those included that are gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) delivered: u64,
    pub(crate) redelivered: u64,
    pub(crate) acked: u64,
    pub(crate) nacked: u64,
    pub(crate) lapsed: u64,
    pub(crate) died: u64,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) evictions: u64,
    pub(crate) expirations: u64,
}

impl Totals {
    /// Of the partitions that there are, by kind in the order of [`KINDS`], and of those that
    /// are gone.
    pub(super) const fn of(kinds: &[Sum; KINDS.len()], gone: &Retired) -> Self {
        let [_, queues, caches] = kinds;
        Self {
            delivered: queues.delivered + gone.queues.delivered,
            redelivered: queues.redelivered + gone.queues.redelivered,
            acked: queues.acked + gone.queues.acked,
            nacked: queues.nacked + gone.queues.nacked,
            lapsed: queues.lapsed + gone.queues.lapsed,
            died: queues.died + gone.queues.dead,
            hits: caches.hits + gone.hits,
            misses: caches.misses + gone.misses,
            evictions: caches.evictions + gone.evictions,
            expirations: caches.expirations + gone.expirations,
        }
    }

    /// Each number of one and the other.
    fn zip(self, other: Self, with: fn(u64, u64) -> u64) -> Self {
        Self {
            delivered: with(self.delivered, other.delivered),
            redelivered: with(self.redelivered, other.redelivered),
            acked: with(self.acked, other.acked),
            nacked: with(self.nacked, other.nacked),
            lapsed: with(self.lapsed, other.lapsed),
            died: with(self.died, other.died),
            hits: with(self.hits, other.hits),
            misses: with(self.misses, other.misses),
            evictions: with(self.evictions, other.evictions),
            expirations: with(self.expirations, other.expirations),
        }
    }
}

/// One number per counter and core, however many partitions there are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Grown {
    /// What cores that do not answer had said when they last did.
    silent: Arc<[CoreFacts]>,
    totals: Vec<(CoreId, Totals)>,
}

impl Grown {
    /// What is known after `before`, when these cores answered and those of `missing` did
    /// not.
    pub(super) fn after(
        before: Option<&Snapshot>,
        answered: &[(CoreId, Totals)],
        missing: &[CoreId],
    ) -> Self {
        let mut totals = before.map_or_else(Vec::new, |before| before.grown.totals.clone());
        for (core, now) in answered {
            match totals.iter_mut().find(|(one, _)| one == core) {
                // A partition that goes while its core is asked page by page may be in
                // neither part of what it says: that is less for once.
                Some((_, had)) => *had = had.zip(*now, u64::max),
                None => totals.push((*core, *now)),
            }
        }
        let last = |core: &CoreId| {
            let mut said = before?.counted();
            said.find(|facts| facts.core == *core).cloned()
        };
        Self {
            silent: missing.iter().filter_map(last).collect(),
            totals,
        }
    }
}

impl Snapshot {
    /// The cores for what they count: those that answered, and those that did not as they
    /// were when they last did. What they are at this moment only the former know.
    pub(crate) fn counted(&self) -> impl Iterator<Item = &CoreFacts> + Clone {
        self.cores.iter().chain(&*self.grown.silent)
    }

    /// What partitions of this node counted.
    pub(crate) fn totals(&self) -> Totals {
        let each = self.grown.totals.iter().map(|(_, totals)| *totals);
        each.fold(Totals::default(), |all, one| all.zip(one, |a, b| a + b))
    }

    /// The one after it, when no core answers, for tests of what is made from it.
    #[cfg(test)]
    pub(crate) fn silenced_of_test(&self) -> Self {
        let missing: Vec<CoreId> = self.counted().map(|facts| facts.core).collect();
        Self {
            grown: Grown::after(Some(self), &[], &missing),
            missing: missing.into(),
            ..Self::of_test(&[])
        }
    }

    #[cfg(test)]
    pub(super) fn grown_of_test(kinds: &[Sum; KINDS.len()]) -> Grown {
        let totals = Totals::of(kinds, &Retired::default());
        Grown::after(None, &[(CoreId(0), totals)], &[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn core(number: u16, published: u64) -> CoreFacts {
        let mut facts = CoreFacts {
            core: CoreId(number),
            connections: 7,
            ..CoreFacts::default()
        };
        facts.stats.published = published;
        facts
    }

    fn acked(acked: u64) -> Totals {
        Totals {
            acked,
            ..Totals::default()
        }
    }

    /// What is known when these cores answered, each with what it published and what its
    /// queues had acknowledged.
    fn next(before: Option<&Snapshot>, said: &[(u16, u64, u64)], missing: &[u16]) -> Snapshot {
        let totals: Vec<_> = said
            .iter()
            .map(|one| (CoreId(one.0), acked(one.2)))
            .collect();
        let missing: Vec<_> = missing.iter().copied().map(CoreId).collect();
        let mut snapshot = Snapshot::of_test(&[]);
        snapshot.cores = said.iter().map(|one| core(one.0, one.1)).collect();
        snapshot.grown = Grown::after(before, &totals, &missing);
        snapshot
    }

    fn counted(snapshot: &Snapshot) -> (u64, u64) {
        let published = snapshot.counted().map(|core| core.stats.published).sum();
        (published, snapshot.totals().acked)
    }

    #[test]
    fn a_core_that_is_silent_takes_away_nothing_of_what_was_counted() {
        let first = next(None, &[(0, 10, 1), (1, 20, 2)], &[]);
        assert_eq!(counted(&first), (30, 3));
        // However long it is silent.
        let second = next(Some(&first), &[(0, 11, 5)], &[1]);
        assert_eq!(counted(&second), (31, 7));
        let third = next(Some(&second), &[(0, 12, 6)], &[1]);
        assert_eq!(counted(&third), (32, 8));
        assert_eq!(third.cores.len(), 1, "nobody takes it for one that answers");
        let fourth = next(Some(&third), &[(0, 12, 6), (1, 25, 3)], &[]);
        assert_eq!(counted(&fourth), (37, 9));
    }

    #[test]
    fn a_core_that_never_answered_counts_from_its_first_answer() {
        let first = next(None, &[(0, 10, 1)], &[1]);
        assert_eq!(counted(&first), (10, 1));
        let second = next(Some(&first), &[(0, 10, 1), (1, 5, 5)], &[]);
        assert_eq!(counted(&second), (15, 6));
    }

    #[test]
    fn what_is_in_neither_part_of_an_answer_is_not_forgotten() {
        let first = next(None, &[(0, 0, 10)], &[]);
        let second = next(Some(&first), &[(0, 0, 4)], &[]);
        assert_eq!(counted(&second).1, 10);
        let third = next(Some(&second), &[(0, 0, 11)], &[]);
        assert_eq!(counted(&third).1, 11);
    }

    #[test]
    fn what_is_gone_counts_with_what_is_there() {
        let mut kinds = [Sum::default(); KINDS.len()];
        kinds[1].acked = 3;
        kinds[2].hits = 4;
        let mut gone = Retired::default();
        (gone.queues.acked, gone.queues.dead, gone.hits) = (10, 1, 20);
        let totals = Totals::of(&kinds, &gone);
        assert_eq!((totals.acked, totals.died, totals.hits), (13, 1, 24));
    }
}
