//! Publishes and puts, each value once, however often it must try.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use pinion_simkit::SimRng;
use pinion_types::{ErrorCode, FactId, ProducerId, Sequence};
use pinion_wire::message::{Ack, Publish, QueuePut, Reply, Request};

use super::super::client::Client;
use super::super::truth::{PlayerId, PutTruth, StreamTruth, Truth, value_of};
use super::{Place, ResourcePlan, Time, disk, key_of, len_of, reached, record_of};
use crate::{Violation, promise};

/// Batches a producer has on the way.
const UNANSWERED_MAX: usize = 6;
/// Acknowledged batches that may be repeated; fewer than a partition remembers.
const REPEATED_MAX: usize = 40;
/// Who was forgotten goes on under an id so much higher, which nobody else has.
const ANEW: u64 = 1 << 24;

#[derive(Clone, Copy, Debug)]
struct Batch {
    first: u64,
    count: u64,
    delay_ms: u64,
    ttl_ms: u64,
    asked: Option<u32>,
    /// Where it was stored.
    stored: Option<u64>,
}

/// What a producer does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habits {
    /// Puts messages instead of publishing records.
    pub(crate) puts: bool,
    /// Some messages have a delay or a time to live.
    pub(crate) timed: bool,
    /// Messages have one of so many keys; 0 is none.
    pub(crate) keys: u8,
    pub(crate) body_max: usize,
    /// Publishes to what lives in memory: a restart forgets it, and a batch that was
    /// acknowledged before would be stored again.
    pub(crate) in_memory: bool,
}

/// Publishes or puts, each value once, however often it must try; and repeats
/// what it was told is there already.
#[derive(Debug)]
pub(crate) struct Producer {
    id: u64,
    next: u64,
    batches: VecDeque<Batch>,
    /// Acknowledged, the newest last.
    done: VecDeque<Batch>,
    repeats: BTreeMap<u32, Batch>,
    /// What it asked under an id that it has no more.
    stale: BTreeSet<u32>,
    habits: Habits,
}

impl Producer {
    pub(crate) fn new(id: PlayerId, habits: Habits) -> Self {
        Self {
            id: 1 + id as u64,
            next: 0,
            batches: VecDeque::new(),
            done: VecDeque::new(),
            repeats: BTreeMap::new(),
            stale: BTreeSet::new(),
            habits,
        }
    }

    /// Its connection is gone, and with it every answer.
    pub(super) fn lost(&mut self) {
        for batch in &mut self.batches {
            batch.asked = None;
        }
        self.repeats.clear();
        self.stale.clear();
    }

    /// Nobody knows it any more: what was on its way is given up.
    fn begin_anew(&mut self) {
        let asked = self.batches.drain(..).filter_map(|batch| batch.asked);
        self.stale.extend(asked);
        self.done.clear();
        self.id += ANEW;
        self.next = 0;
    }

    /// Whether all it said is answered.
    pub(super) fn is_done(&self) -> bool {
        self.batches.is_empty()
    }

    pub(super) fn act(
        &mut self,
        client: &mut Client,
        rng: &mut SimRng,
        time: Time,
        (place, plan): (Place, &ResourcePlan),
        more: bool,
        truth: &mut Truth,
    ) {
        if more && self.batches.len() < UNANSWERED_MAX {
            let batch = self.begin(rng);
            for number in self.next..self.next + batch.count {
                let value = value_of(self.id, number);
                if self.habits.puts {
                    let ttl = if batch.ttl_ms > 0 {
                        batch.ttl_ms
                    } else {
                        plan.spec.retention_ms
                    };
                    let put = PutTruth {
                        sent: time.world,
                        delay: batch.delay_ms * 1_000_000,
                        ttl: ttl * 1_000_000,
                        key: key_of(value, self.habits.keys),
                        jumps: time.jumps,
                        ..PutTruth::default()
                    };
                    truth.queue(place.key).tried(value, put);
                }
            }
            if !self.habits.puts {
                self.tries(batch, time, truth.stream(place.key));
            }
            self.batches.push_back(batch);
            self.next += batch.count;
        }
        if more && rng.one_in(12) && !self.done.is_empty() && !self.habits.in_memory {
            let batch = *rng.pick(self.done.make_contiguous());
            let asked = self.send(client, batch, place);
            self.repeats.insert(asked, batch);
        }
        // In order: what follows a batch that is not on its way waits.
        if let Some(index) = self.batches.iter().position(|b| b.asked.is_none()) {
            let again = self.batches.iter().skip(index).any(|b| b.asked.is_some());
            if !again {
                let batch = self.batches[index];
                if self.habits.in_memory {
                    // A reader may have had it in a life before, and told of it.
                    self.tries(batch, time, truth.stream(place.key));
                }
                let asked = self.send(client, batch, place);
                self.batches[index].asked = Some(asked);
            }
        }
    }

    /// Each value of a batch may be published from now on.
    fn tries(&self, batch: Batch, time: Time, stream: &mut StreamTruth) {
        for number in batch.first..batch.first + batch.count {
            let value = value_of(self.id, number);
            let len = len_of(value, self.habits.body_max) as u64;
            stream.tried(value, time.wall.0, len);
        }
    }

    fn begin(&self, rng: &mut SimRng) -> Batch {
        let count = if rng.one_in(4) { rng.between(2, 8) } else { 1 };
        let timed = self.habits.timed;
        let delay_ms = if timed && rng.one_in(5) {
            rng.between(1, 3_000)
        } else {
            0
        };
        let ttl_ms = if timed && rng.one_in(5) {
            rng.between(50, 20_000)
        } else {
            0
        };
        Batch {
            first: self.next,
            count,
            delay_ms,
            ttl_ms,
            asked: None,
            stored: None,
        }
    }

    fn send(&self, client: &mut Client, batch: Batch, place: Place) -> u32 {
        let mut records = Vec::new();
        for number in batch.first..batch.first + batch.count {
            let value = value_of(self.id, number);
            let key = (self.habits.keys > 0).then(|| key_of(value, self.habits.keys));
            record_of(
                value,
                key,
                len_of(value, self.habits.body_max),
                &mut records,
            );
        }
        let producer = Some((ProducerId(self.id), Sequence(batch.first)));
        let record_count = u32::try_from(batch.count).expect("a batch is small");
        let Place {
            handle, partition, ..
        } = place;
        if self.habits.puts {
            client.send(&Request::QueuePut(QueuePut {
                handle,
                partition,
                producer,
                delay_ms: batch.delay_ms,
                ttl_ms: batch.ttl_ms,
                record_count,
                records: &records,
            }))
        } else {
            client.send(&Request::Publish(Publish {
                handle,
                partition,
                ack: Ack::Leader,
                producer,
                expected_offset: None,
                record_count,
                records: &records,
            }))
        }
    }

    pub(super) fn answered(
        &mut self,
        number: u32,
        reply: &Reply<'_>,
        now: u64,
        key: (usize, u16),
        truth: &mut Truth,
    ) -> Result<(), Violation> {
        if self.stale.remove(&number) {
            return Ok(());
        }
        let index = self.batches.iter().position(|b| b.asked == Some(number));
        let repeat = self.repeats.remove(&number);
        let batch = match (index, repeat) {
            (Some(index), _) => self.batches[index],
            (None, Some(repeat)) => repeat,
            (None, None) => return Err(Violation::new(format!("{reply:?} to nothing"))),
        };
        let (stored, count, duplicate) = match reply {
            Reply::Published(published) => {
                reached(published.durability, self.habits.in_memory)?;
                (
                    published.first_offset.0,
                    published.record_count,
                    published.duplicate,
                )
            }
            Reply::Enqueued(enqueued) => {
                disk(enqueued.durability)?;
                (
                    enqueued.first_id,
                    enqueued.message_count,
                    enqueued.duplicate,
                )
            }
            // Not done, or nobody knows: tried again, and stored once all the same.
            _ => {
                if self.is_forgotten(reply) {
                    truth.counts.forgotten += 1;
                    self.begin_anew();
                    return Ok(());
                }
                self.check_sequence(reply)?;
                if let Some(index) = index {
                    self.batches[index].asked = None;
                }
                return Ok(());
            }
        };
        promise!(
            u64::from(count) == batch.count,
            "{count} records of {} were stored",
            batch.count
        );
        if let Some(before) = batch.stored {
            promise!(
                duplicate && before == stored,
                "a repeat is stored at {stored} (duplicate: {duplicate}), it was at {before}"
            );
            truth.counts.repeats += 1;
            return Ok(());
        }
        for step in 0..batch.count {
            let value = value_of(self.id, batch.first + step);
            if self.habits.puts {
                truth.counts.put += 1;
                truth.queue(key).put(stored + step, value, now)?;
            } else {
                truth.counts.published += 1;
                truth.counts.in_memory += u64::from(self.habits.in_memory);
                truth.stream(key).known(stored + step, value)?;
            }
        }
        if let Some(index) = index {
            self.batches.remove(index);
            if self.done.len() == REPEATED_MAX {
                self.done.pop_front();
            }
            let stored = Some(stored);
            self.done.push_back(Batch { stored, ..batch });
        }
        Ok(())
    }

    /// Whether a partition in memory says that it knows nothing of it.
    fn is_forgotten(&self, reply: &Reply<'_>) -> bool {
        let Reply::Error(refusal) = reply else {
            return false;
        };
        self.habits.in_memory
            && refusal.code == ErrorCode::SequenceGap
            && refusal.fact(FactId::Expected) == Some(0)
    }

    /// What was acknowledged is remembered, whatever happened since.
    fn check_sequence(&self, reply: &Reply<'_>) -> Result<(), Violation> {
        let Reply::Error(refusal) = reply else {
            return Ok(());
        };
        promise!(
            refusal.code != ErrorCode::SequenceTooOld,
            "a recent batch is not remembered: {refusal:?}"
        );
        let sure = self.batches.front().map_or(self.next, |batch| batch.first);
        promise!(
            refusal.code != ErrorCode::SequenceGap
                || refusal
                    .fact(FactId::Expected)
                    .is_some_and(|expected| expected >= sure),
            "everything before {sure} was acknowledged and is forgotten: {refusal:?}"
        );
        Ok(())
    }
}
