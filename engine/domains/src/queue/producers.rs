//! Idempotent producers of a queue: a repeated put is answered with the ids of
//! the first and never stored twice. A producer the queue does not know starts
//! at sequence 0 (the rule of KIP-98, as for streams).

use std::collections::{BTreeMap, VecDeque};

use super::config::QueueError;
use super::ops::Read;

/// Puts of one producer whose repeats are recognised, as many as a stream does.
/// Those on their way to the log come on top.
const BATCHES_REMEMBERED: usize = 64;

#[derive(Clone, Copy, Debug)]
struct Batch {
    sequence: u64,
    count: u32,
    first: u64,
}

#[derive(Debug, Default)]
struct Producer {
    next: u64,
    used: u64,
    batches: VecDeque<Batch>,
}

/// Producers by id, the least recently used forgotten first.
#[derive(Debug, Default)]
pub(super) struct Producers {
    // Ordered, not hashed: ids come from outside and must not be able to collide.
    by_id: BTreeMap<u64, Producer>,
    by_use: BTreeMap<u64, u64>,
    uses: u64,
}

impl Producers {
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// The first id of the put this repeats, if it repeats one.
    pub(super) fn check(
        &self,
        id: u64,
        sequence: u64,
        count: u32,
    ) -> Result<Option<u64>, QueueError> {
        let producer = self.by_id.get(&id);
        let expected = producer.map_or(0, |p| p.next);
        if sequence == expected {
            return Ok(None);
        }
        if sequence > expected {
            return Err(QueueError::SequenceGap {
                expected,
                received: sequence,
            });
        }
        producer
            .and_then(|p| {
                let same = |b: &&Batch| b.sequence == sequence && b.count == count;
                p.batches.iter().find(same)
            })
            .map(|batch| Some(batch.first))
            .ok_or(QueueError::SequenceTooOld {
                expected,
                received: sequence,
            })
    }

    /// `committed` is the id below which messages are durable. What is not yet
    /// durable is never forgotten: a snapshot must know what may still be lost.
    pub(super) fn record(
        &mut self,
        id: u64,
        sequence: u64,
        count: u32,
        first: u64,
        committed: u64,
        max: u32,
    ) {
        self.uses += 1;
        let producer = self.by_id.entry(id).or_default();
        self.by_use.remove(&producer.used);
        self.by_use.insert(self.uses, id);
        producer.used = self.uses;
        producer.next = sequence + u64::from(count);
        // More durable ones than are remembered: the oldest goes.
        let last = BATCHES_REMEMBERED - 1;
        while (producer.batches.get(last)).is_some_and(|b| b.first < committed) {
            producer.batches.pop_front();
        }
        producer.batches.push_back(Batch {
            sequence,
            count,
            first,
        });
        if self.by_id.len() > max.max(1) as usize
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.by_id.remove(&oldest);
        }
    }

    /// What is known of the puts below `committed`, the least recently used
    /// producer first. A put that never becomes durable must not be
    /// recognised after a restart: its repeat is the only one.
    pub(super) fn encode(&self, committed: u64, out: &mut Vec<u8>) {
        let mut count = 0_u32;
        let at = out.len();
        out.extend_from_slice(&count.to_le_bytes());
        for id in self.by_use.values() {
            let Some(producer) = self.by_id.get(id) else {
                continue;
            };
            let durable = producer.batches.iter().filter(|b| b.first < committed);
            let excess = durable.clone().count().saturating_sub(BATCHES_REMEMBERED);
            let kept = durable.skip(excess);
            let next = producer
                .batches
                .iter()
                .find(|b| b.first >= committed)
                .map_or(producer.next, |b| b.sequence);
            if next == 0 {
                continue;
            }
            count += 1;
            out.extend_from_slice(&id.to_le_bytes());
            out.extend_from_slice(&next.to_le_bytes());
            let len = u8::try_from(kept.clone().count()).expect("at most 64 batches");
            out.push(len);
            for batch in kept {
                out.extend_from_slice(&batch.sequence.to_le_bytes());
                out.extend_from_slice(&batch.count.to_le_bytes());
                out.extend_from_slice(&batch.first.to_le_bytes());
            }
        }
        out[at..at + 4].copy_from_slice(&count.to_le_bytes());
    }

    pub(super) fn decode(read: &mut Read<'_>) -> Option<Self> {
        let mut producers = Self::default();
        for _ in 0..read.u32()? {
            let (id, next, len) = (read.u64()?, read.u64()?, read.u8()?);
            producers.uses += 1;
            let mut producer = Producer {
                next,
                used: producers.uses,
                batches: VecDeque::new(),
            };
            for _ in 0..len {
                producer.batches.push_back(Batch {
                    sequence: read.u64()?,
                    count: read.u32()?,
                    first: read.u64()?,
                });
            }
            producers.by_use.insert(producers.uses, id);
            producers.by_id.insert(id, producer);
        }
        Some(producers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_durable_is_not_recognised_after_a_restart() {
        let mut producers = Producers::default();
        producers.record(9, 0, 2, 100, 0, 8);
        producers.record(9, 2, 1, 102, 0, 8);
        assert_eq!(producers.check(9, 2, 1), Ok(Some(102)));
        let mut bytes = Vec::new();
        producers.encode(102, &mut bytes);
        let mut read = Read(&bytes);
        let again = Producers::decode(&mut read).expect("whole");
        assert!(read.0.is_empty());
        assert_eq!(again.check(9, 0, 2), Ok(Some(100)));
        assert_eq!(again.check(9, 2, 1), Ok(None), "the repeat is stored");
        assert!(matches!(
            again.check(9, 3, 1),
            Err(QueueError::SequenceGap { expected: 2, .. })
        ));
        assert!(matches!(
            again.check(9, 0, 1),
            Err(QueueError::SequenceTooOld { .. })
        ));
    }

    #[test]
    fn what_may_still_be_lost_is_never_forgotten_however_much_it_is() {
        let mut producers = Producers::default();
        producers.record(9, 0, 1, 100, 0, 8);
        // All but the first are on their way to the log when the state is taken.
        for put in 1..=200 {
            producers.record(9, put, 1, 100 + put, 101, 8);
        }
        let mut bytes = Vec::new();
        producers.encode(101, &mut bytes);
        let again = Producers::decode(&mut Read(&bytes)).expect("whole");
        assert_eq!(again.check(9, 0, 1), Ok(Some(100)));
        assert_eq!(
            again.check(9, 1, 1),
            Ok(None),
            "lost, so its repeat is taken"
        );
        // And what is durable is remembered within a bound.
        for put in 201..=400 {
            producers.record(9, put, 1, 100 + put, 100 + put, 8);
        }
        assert!(producers.by_id[&9].batches.len() <= BATCHES_REMEMBERED);
    }

    #[test]
    fn the_least_recently_used_producer_is_forgotten() {
        let mut producers = Producers::default();
        producers.record(1, 0, 1, 0, 0, 2);
        producers.record(2, 0, 1, 1, 0, 2);
        producers.record(1, 1, 1, 2, 0, 2);
        producers.record(3, 0, 1, 3, 0, 2);
        assert_eq!(producers.len(), 2);
        assert_eq!(producers.check(1, 1, 1), Ok(Some(2)));
        assert_eq!(producers.check(2, 0, 1), Ok(None));
    }
}
