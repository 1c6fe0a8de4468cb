//! What became of a published record, for whoever waits for it.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use pinion_types::{Offset, PartitionId};
use pinion_wire::message::Durability;

use crate::error::RequestError;

/// Where a record was stored and how durably.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishAck {
    /// The partition it is in.
    pub partition: PartitionId,
    /// Its place there.
    pub offset: Offset,
    /// What was reached before the node answered.
    pub durability: Durability,
    /// The node had it already from an earlier attempt; it is stored once.
    pub duplicate: bool,
}

/// The outcome of one published record; a future that always completes: with
/// where the record is, or with an error that says what is known.
///
/// Dropping it does not take the record back; a
/// [`flush`](crate::Publisher::flush) still reports the error.
#[derive(Debug)]
pub struct PublishTicket {
    wait: CellWait,
    index: u32,
}

impl PublishTicket {
    pub(crate) fn new(cell: Arc<BatchCell>, index: u32) -> Self {
        Self {
            wait: CellWait::new(cell),
            index,
        }
    }
}

impl Future for PublishTicket {
    type Output = Result<PublishAck, RequestError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let index = u64::from(self.index);
        Pin::new(&mut self.wait).poll(context).map_ok(|mut ack| {
            ack.offset = ack.offset.plus(index);
            ack
        })
    }
}

/// The outcome of a batch, shared by the tickets of its records. One allocation
/// per batch rather than one per record.
#[derive(Debug, Default)]
pub(crate) struct BatchCell {
    /// The ack is that of the first record.
    outcome: OnceLock<Result<PublishAck, RequestError>>,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    next_key: u64,
    /// At most one per ticket and flush that is being polled.
    wakers: HashMap<u64, Waker>,
}

impl BatchCell {
    /// Settles the batch; later calls change nothing.
    pub(crate) fn resolve(&self, outcome: Result<PublishAck, RequestError>) {
        if self.outcome.set(outcome).is_ok() {
            let wakers = std::mem::take(&mut self.waiting().wakers);
            for waker in wakers.into_values() {
                waker.wake();
            }
        }
    }

    pub(crate) fn is_resolved(&self) -> bool {
        self.outcome.get().is_some()
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for a batch.
#[derive(Debug)]
pub(crate) struct CellWait {
    cell: Arc<BatchCell>,
    key: Option<u64>,
}

impl CellWait {
    pub(crate) const fn new(cell: Arc<BatchCell>) -> Self {
        Self { cell, key: None }
    }
}

impl Future for CellWait {
    type Output = Result<PublishAck, RequestError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(outcome) = self.cell.outcome.get() {
            return Poll::Ready(outcome.clone());
        }
        let cell = Arc::clone(&self.cell);
        let mut waiting = cell.waiting();
        // Under the lock: `resolve` takes the wakers after it set the outcome.
        if let Some(outcome) = cell.outcome.get() {
            return Poll::Ready(outcome.clone());
        }
        let key = self.key.unwrap_or(waiting.next_key);
        if self.key.is_none() {
            waiting.next_key += 1;
            self.key = Some(key);
        }
        waiting.wakers.insert(key, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for CellWait {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.cell.waiting().wakers.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn poll(ticket: &mut PublishTicket) -> Poll<Result<PublishAck, RequestError>> {
        Pin::new(ticket).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn each_record_of_a_batch_gets_its_own_offset() {
        let cell = Arc::new(BatchCell::default());
        let mut tickets = [0, 5].map(|index| PublishTicket::new(Arc::clone(&cell), index));
        assert!(tickets.iter_mut().all(|ticket| poll(ticket).is_pending()));
        cell.resolve(Ok(PublishAck {
            partition: PartitionId(2),
            offset: Offset(100),
            durability: Durability::Memory,
            duplicate: false,
        }));
        cell.resolve(Err(RequestError::Closed));
        let offsets = tickets.each_mut().map(|ticket| match poll(ticket) {
            Poll::Ready(Ok(ack)) => ack.offset.0,
            other => panic!("{other:?}"),
        });
        assert_eq!(offsets, [100, 105]);
    }

    #[test]
    fn a_dropped_ticket_leaves_no_waker_behind() {
        let cell = Arc::new(BatchCell::default());
        let mut ticket = PublishTicket::new(Arc::clone(&cell), 0);
        assert!(poll(&mut ticket).is_pending() && poll(&mut ticket).is_pending());
        assert_eq!(cell.waiting().wakers.len(), 1);
        drop(ticket);
        assert!(cell.waiting().wakers.is_empty());
    }
}
