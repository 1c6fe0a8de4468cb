//! Publishes and puts, each value once, however often it must try.

use std::collections::VecDeque;

use pinion_simkit::SimRng;
use pinion_types::{ProducerId, Sequence};
use pinion_wire::message::{Ack, Publish, QueuePut, Reply, Request};

use super::super::client::Client;
use super::super::truth::{PlayerId, Truth, value_of};
use super::{Place, disk, len_of, record_of};
use crate::{Violation, promise};

/// Batches a producer has on the way.
const UNANSWERED_MAX: usize = 6;

#[derive(Clone, Debug)]
struct Batch {
    first: u64,
    count: u64,
    asked: Option<u32>,
}
/// Publishes or puts, each value once, however often it must try.
#[derive(Debug)]
pub(crate) struct Producer {
    id: u64,
    next: u64,
    batches: VecDeque<Batch>,
    puts: bool,
    body_max: usize,
}
impl Producer {
    pub(crate) fn new(id: PlayerId, puts: bool, body_max: usize) -> Self {
        Self {
            id: 1 + id as u64,
            next: 0,
            batches: VecDeque::new(),
            puts,
            body_max,
        }
    }

    /// Its connection is gone, and with it every answer.
    pub(super) fn lost(&mut self) {
        for batch in &mut self.batches {
            batch.asked = None;
        }
    }

    /// Whether all it said is answered.
    pub(super) fn is_done(&self) -> bool {
        self.batches.is_empty()
    }

    pub(super) fn act(
        &mut self,
        client: &mut Client,
        rng: &mut SimRng,
        place: Place,
        more: bool,
        truth: &mut Truth,
    ) {
        if more && self.batches.len() < UNANSWERED_MAX {
            let count = if rng.one_in(4) { rng.between(2, 8) } else { 1 };
            for number in self.next..self.next + count {
                let value = value_of(self.id, number);
                if self.puts {
                    truth.queues.entry(place.key).or_default().tried(value);
                } else {
                    truth.streams.entry(place.key).or_default().tried(value);
                }
            }
            self.batches.push_back(Batch {
                first: self.next,
                count,
                asked: None,
            });
            self.next += count;
        }
        // In order: what follows a batch that is not on its way waits.
        if let Some(index) = self.batches.iter().position(|b| b.asked.is_none()) {
            let again = self.batches.iter().skip(index).any(|b| b.asked.is_some());
            if !again {
                self.send(client, index, place);
            }
        }
    }

    fn send(&mut self, client: &mut Client, index: usize, place: Place) {
        let batch = &mut self.batches[index];
        let mut records = Vec::new();
        for number in batch.first..batch.first + batch.count {
            let value = value_of(self.id, number);
            record_of(value, len_of(value, self.body_max), &mut records);
        }
        let producer = Some((ProducerId(self.id), Sequence(batch.first)));
        let record_count = u32::try_from(batch.count).expect("a batch is small");
        let Place {
            handle, partition, ..
        } = place;
        let asked = if self.puts {
            client.send(&Request::QueuePut(QueuePut {
                handle,
                partition,
                producer,
                delay_ms: 0,
                ttl_ms: 0,
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
        };
        batch.asked = Some(asked);
    }

    pub(super) fn answered(
        &mut self,
        number: u32,
        reply: &Reply<'_>,
        key: (usize, u16),
        truth: &mut Truth,
    ) -> Result<(), Violation> {
        let Some(index) = self.batches.iter().position(|b| b.asked == Some(number)) else {
            return Err(Violation::new(format!("{reply:?} to nothing")));
        };
        let (first, count) = (self.batches[index].first, self.batches[index].count);
        let stored = match reply {
            Reply::Published(published) => {
                disk(published.durability)?;
                (published.first_offset.0, published.record_count)
            }
            Reply::Enqueued(enqueued) => {
                disk(enqueued.durability)?;
                (enqueued.first_id, enqueued.message_count)
            }
            // Not done, or nobody knows: tried again, and stored once all the same.
            _ => {
                self.batches[index].asked = None;
                return Ok(());
            }
        };
        promise!(
            u64::from(stored.1) == count,
            "{} records of {count} were stored",
            stored.1
        );
        for step in 0..count {
            let value = value_of(self.id, first + step);
            if self.puts {
                truth.counts.put += 1;
                truth
                    .queues
                    .entry(key)
                    .or_default()
                    .put(stored.0 + step, value)?;
            } else {
                truth.counts.published += 1;
                truth
                    .streams
                    .entry(key)
                    .or_default()
                    .known(stored.0 + step, value)?;
            }
        }
        self.batches.remove(index);
        Ok(())
    }
}
