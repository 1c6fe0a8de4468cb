//! Puts that are stored once.

use std::sync::Arc;

use pinion_types::{ErrorCode, Outcome, ProducerId, Sequence};
use tokio::sync::Mutex;

use super::{Chunk, PutAck, PutOptions, Queue};
use crate::error::RequestError;
use crate::record::Record;

/// Puts messages so that one sent again after a lost connection is stored
/// once. Cheap to clone; clones put in turn.
///
/// Each partition has one request on the way at a time: for throughput put
/// batches.
#[derive(Clone, Debug)]
pub struct QueueProducer {
    queue: Queue,
    /// By partition.
    lanes: Arc<[Mutex<Sequenced>]>,
}

/// Where a producer is in one partition.
#[derive(Clone, Copy, Debug)]
struct Sequenced {
    producer: ProducerId,
    next: u64,
    /// A put is on the way, or was given up: the node may be ahead of `next`,
    /// and would take another put at `next` for a repeat.
    unsure: bool,
}

impl QueueProducer {
    pub(super) fn new(queue: Queue) -> Self {
        let lane = |_| {
            Mutex::new(Sequenced {
                producer: ProducerId(queue.node.random_u64()),
                next: 0,
                unsure: false,
            })
        };
        let lanes = (0..queue.shards()).map(lane).collect();
        Self { queue, lanes }
    }

    /// Puts one message. Dropped while waiting, it may still be stored.
    ///
    /// # Errors
    /// As [`Queue::put`]; the outcome is unknown only when the node did not
    /// come back in the time of a request.
    pub async fn put(&self, record: Record, options: PutOptions) -> Result<PutAck, RequestError> {
        let mut acks = self.put_batch(&[record], options).await;
        acks.pop().expect("one answer for each record")
    }

    /// Puts many messages, as [`Queue::put_batch`].
    pub async fn put_batch(
        &self,
        records: &[Record],
        options: PutOptions,
    ) -> Vec<Result<PutAck, RequestError>> {
        let mut results = vec![Err(RequestError::Closed); records.len()];
        for chunk in self.queue.chunks(records, &mut results) {
            let put = self.put_chunk(&chunk, options).await;
            chunk.report(&put, &mut results);
        }
        results
    }

    async fn put_chunk(&self, chunk: &Chunk, options: PutOptions) -> Result<PutAck, RequestError> {
        let mut lane = self.lanes[usize::from(chunk.partition.0)].lock().await;
        if lane.unsure {
            self.begin_anew(&mut lane);
        }
        let mut again = true;
        loop {
            lane.unsure = true;
            let at = Some((lane.producer, Sequence(lane.next)));
            let put = self.queue.put_chunk(chunk, options, at).await;
            match &put {
                Ok(_) => {
                    lane.next += chunk.indexes.len() as u64;
                    lane.unsure = false;
                }
                // A node that restarted empty has forgotten the producer; what
                // it does not know of it did not store.
                Err(error) if error.code() == Some(ErrorCode::SequenceGap) && again => {
                    again = false;
                    self.begin_anew(&mut lane);
                    continue;
                }
                Err(error) => lane.unsure = error.outcome() == Outcome::Unknown,
            }
            return put;
        }
    }

    fn begin_anew(&self, lane: &mut Sequenced) {
        lane.producer = ProducerId(self.queue.node.random_u64());
        lane.next = 0;
    }
}
