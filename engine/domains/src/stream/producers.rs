//! Idempotent producers: what each sent last, so that a repeat is answered
//! with its first offset and never stored twice.
//!
//! The rule is Kafka's (KIP-98): a partition that does not know a producer
//! takes only sequence 0 from it. A producer forgotten under pressure is thus
//! told so (`SequenceGap { expected: 0 }`) and goes on under a new id, rather
//! than having a repeat stored twice in silence.

use std::collections::{BTreeMap, VecDeque};

use pinion_types::{Offset, ProducerId, Sequence};
use slab::Slab;

use super::error::AppendError;

/// Batches of one producer whose repeats are recognised. More lets a producer
/// keep more in flight; each costs 24 bytes.
pub const BATCHES_REMEMBERED: usize = 64;

#[derive(Clone, Copy, Debug)]
struct Batch {
    first: u64,
    count: u32,
    offset: Offset,
}

#[derive(Debug)]
struct Producer {
    id: ProducerId,
    next: u64,
    batches: VecDeque<Batch>,
    newer: Option<usize>,
    older: Option<usize>,
}

/// What a batch is to the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The next one: store it, then [`Producers::record`] it.
    Fresh,
    /// A repeat of the batch stored at this offset.
    Repeat(Offset),
}

/// The producers of one partition, the least recently used forgotten first.
/// Owned by the partition's core.
#[derive(Debug)]
pub(crate) struct Producers {
    // Ordered, not hashed: ids come from outside and must not be able to collide.
    by_id: BTreeMap<ProducerId, usize>,
    slots: Slab<Producer>,
    newest: Option<usize>,
    oldest: Option<usize>,
    max: usize,
}

impl Producers {
    pub(crate) fn new(max: u32) -> Self {
        Self {
            by_id: BTreeMap::new(),
            slots: Slab::new(),
            newest: None,
            oldest: None,
            max: (max as usize).max(1),
        }
    }

    /// Judges the batch of `count` records at `first`; changes nothing.
    pub(crate) fn check(
        &self,
        id: ProducerId,
        first: Sequence,
        count: u32,
    ) -> Result<Verdict, AppendError> {
        let producer = self.by_id.get(&id).map(|slot| &self.slots[*slot]);
        let next = producer.map_or(0, |p| p.next);
        if first.0 == next {
            return Ok(Verdict::Fresh);
        }
        let expected = Sequence(next);
        let received = first;
        let Some(producer) = producer.filter(|_| first.0 < next) else {
            return Err(AppendError::SequenceGap { expected, received });
        };
        // Newest first: what is repeated was usually sent just before.
        for batch in producer.batches.iter().rev() {
            if batch.first == first.0 && batch.count == count {
                return Ok(Verdict::Repeat(batch.offset));
            }
        }
        let oldest = producer.batches.front().map_or(next, |b| b.first);
        if first.0 < oldest {
            let oldest = Sequence(oldest);
            return Err(AppendError::SequenceTooOld { oldest, received });
        }
        Err(AppendError::SequenceOverlap { expected, received })
    }

    /// Remembers a batch that [`Producers::check`] called fresh.
    pub(crate) fn record(&mut self, id: ProducerId, first: Sequence, count: u32, offset: Offset) {
        let slot = match self.by_id.get(&id) {
            Some(slot) => *slot,
            None => self.insert(id),
        };
        self.touch(slot);
        let producer = &mut self.slots[slot];
        assert!(
            producer.next == first.0,
            "only the next batch is recorded: {} at {}",
            first,
            producer.next
        );
        if producer.batches.len() == BATCHES_REMEMBERED {
            producer.batches.pop_front();
        }
        producer.next += u64::from(count);
        producer.batches.push_back(Batch {
            first: first.0,
            count,
            offset,
        });
    }

    /// Takes a batch that was stored in an earlier life, whatever is known of
    /// its producer: it was fresh under the limits and the data of its time.
    pub(crate) fn replay(&mut self, id: ProducerId, first: Sequence, count: u32, offset: Offset) {
        let slot = match self.by_id.get(&id) {
            Some(slot) => *slot,
            None => self.insert(id),
        };
        let producer = &mut self.slots[slot];
        if producer.next != first.0 {
            producer.batches.clear();
            producer.next = first.0;
        }
        self.record(id, first, count, offset);
    }

    /// Each producer with its batches, the least recently used first: replayed
    /// in this order they make the same table.
    pub(crate) fn iter(
        &self,
    ) -> impl Iterator<Item = (ProducerId, impl Iterator<Item = (Sequence, u32, Offset)>)> {
        let mut next = self.oldest;
        core::iter::from_fn(move || {
            let producer = &self.slots[next?];
            next = producer.newer;
            let batches = producer.batches.iter();
            Some((
                producer.id,
                batches.map(|b| (Sequence(b.first), b.count, b.offset)),
            ))
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    fn insert(&mut self, id: ProducerId) -> usize {
        if self.slots.len() >= self.max
            && let Some(oldest) = self.oldest
        {
            self.unlink(oldest);
            let gone = self.slots.remove(oldest);
            self.by_id.remove(&gone.id);
        }
        let slot = self.slots.insert(Producer {
            id,
            next: 0,
            batches: VecDeque::new(),
            newer: None,
            older: None,
        });
        self.by_id.insert(id, slot);
        self.link_newest(slot);
        slot
    }

    fn touch(&mut self, slot: usize) {
        if self.newest != Some(slot) {
            self.unlink(slot);
            self.link_newest(slot);
        }
    }

    fn link_newest(&mut self, slot: usize) {
        let older = self.newest.replace(slot);
        self.slots[slot].older = older;
        match older {
            Some(older) => self.slots[older].newer = Some(slot),
            None => self.oldest = Some(slot),
        }
    }

    fn unlink(&mut self, slot: usize) {
        let producer = &mut self.slots[slot];
        let (newer, older) = (producer.newer.take(), producer.older.take());
        match newer {
            Some(newer) => self.slots[newer].older = older,
            None => self.newest = older,
        }
        match older {
            Some(older) => self.slots[older].newer = newer,
            None => self.oldest = newer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANA: ProducerId = ProducerId(1);

    fn table(max: u32) -> Producers {
        Producers::new(max)
    }

    #[test]
    fn a_repeat_gets_its_first_offset() {
        let mut t = table(4);
        t.record(ANA, Sequence(0), 3, Offset(10));
        t.record(ANA, Sequence(3), 2, Offset(20));
        assert_eq!(
            t.check(ANA, Sequence(0), 3),
            Ok(Verdict::Repeat(Offset(10)))
        );
        assert_eq!(
            t.check(ANA, Sequence(3), 2),
            Ok(Verdict::Repeat(Offset(20)))
        );
        assert_eq!(t.check(ANA, Sequence(5), 1), Ok(Verdict::Fresh));
    }

    #[test]
    fn a_repeat_cut_differently_is_an_overlap() {
        let mut t = table(4);
        t.record(ANA, Sequence(0), 3, Offset(10));
        for (first, count) in [(0, 2), (0, 4), (1, 2), (2, 5)] {
            assert_eq!(
                t.check(ANA, Sequence(first), count),
                Err(AppendError::SequenceOverlap {
                    expected: Sequence(3),
                    received: Sequence(first)
                })
            );
        }
    }

    #[test]
    fn a_gap_names_what_was_expected() {
        let mut t = table(4);
        t.record(ANA, Sequence(0), 3, Offset(0));
        assert_eq!(
            t.check(ANA, Sequence(4), 1),
            Err(AppendError::SequenceGap {
                expected: Sequence(3),
                received: Sequence(4)
            })
        );
    }

    #[test]
    fn batches_beyond_memory_are_too_old() {
        let mut t = table(4);
        for i in 0..=BATCHES_REMEMBERED as u64 {
            t.record(ANA, Sequence(i), 1, Offset(100 + i));
        }
        assert_eq!(
            t.check(ANA, Sequence(0), 1),
            Err(AppendError::SequenceTooOld {
                oldest: Sequence(1),
                received: Sequence(0)
            })
        );
        assert_eq!(
            t.check(ANA, Sequence(1), 1),
            Ok(Verdict::Repeat(Offset(101)))
        );
    }

    #[test]
    fn the_least_recently_used_producer_is_forgotten_and_told_so() {
        let mut t = table(2);
        let (bo, cy) = (ProducerId(2), ProducerId(3));
        t.record(ANA, Sequence(0), 1, Offset(0));
        t.record(bo, Sequence(0), 1, Offset(1));
        t.record(ANA, Sequence(1), 1, Offset(2));
        t.record(cy, Sequence(0), 1, Offset(3));
        assert_eq!(t.len(), 2);
        assert_eq!(t.check(ANA, Sequence(2), 1), Ok(Verdict::Fresh));
        assert_eq!(
            t.check(bo, Sequence(1), 1),
            Err(AppendError::SequenceGap {
                expected: Sequence(0),
                received: Sequence(1)
            })
        );
    }

    #[test]
    fn a_hole_in_what_is_replayed_leaves_nothing_before_it() {
        let mut t = table(4);
        t.replay(ANA, Sequence(0), 1, Offset(0));
        t.replay(ANA, Sequence(10), 1, Offset(5));
        assert_eq!(
            t.check(ANA, Sequence(0), 1),
            Err(AppendError::SequenceTooOld {
                oldest: Sequence(10),
                received: Sequence(0)
            })
        );
        assert_eq!(t.check(ANA, Sequence(11), 1), Ok(Verdict::Fresh));
    }
}
