//! Records of one partition on their way into batches.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{RequestError, UnknownCause};
use crate::link::Pending;
use crate::record::Record;
use crate::ticket::{BatchCell, PublishAck, PublishTicket};

/// Bytes a record takes of a publisher's buffer beyond its encoding: its share
/// of tickets and bookkeeping.
pub(crate) const RECORD_OVERHEAD: usize = 64;

/// A closed batch. Its tickets are always settled: if nothing else does it,
/// dropping it does.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) records: Vec<u8>,
    pub(crate) count: u32,
    pub(crate) pending: Option<Pending>,
    pub(crate) reply_by: Instant,
    cell: Arc<BatchCell>,
    /// The part of the buffer it holds.
    space: Vec<OwnedSemaphorePermit>,
}

impl Batch {
    /// Tells every ticket, and gives the space back.
    pub(crate) fn settle(mut self, outcome: Result<PublishAck, RequestError>) {
        self.space.clear();
        self.cell.resolve(outcome);
    }

    /// The publisher ended before an answer.
    pub(crate) fn abandon(self, maybe_stored: bool) {
        self.settle(Err(if maybe_stored {
            RequestError::OutcomeUnknown(UnknownCause::ConnectionLost)
        } else {
            RequestError::Closed
        }));
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        let error = if self.pending.is_some() {
            RequestError::OutcomeUnknown(UnknownCause::ConnectionLost)
        } else {
            RequestError::Closed
        };
        // Does nothing when the batch was settled.
        self.cell.resolve(Err(error));
    }
}

/// When a batch is full.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchLimits {
    pub(crate) bytes: usize,
    pub(crate) records: u32,
    pub(crate) linger: Duration,
}

/// What is published to one partition and not yet in its window. The
/// publisher's buffer bounds it.
#[derive(Debug)]
pub(crate) struct Filling {
    limits: BatchLimits,
    full: VecDeque<Batch>,
    open: Option<Open>,
    /// Unsettled batches, oldest first, for flush.
    cells: VecDeque<Arc<BatchCell>>,
    flushing: bool,
}

#[derive(Debug)]
struct Open {
    batch: Batch,
    since: Instant,
}

impl Filling {
    pub(crate) const fn new(limits: BatchLimits) -> Self {
        Self {
            limits,
            full: VecDeque::new(),
            open: None,
            cells: VecDeque::new(),
            flushing: false,
        }
    }

    /// Adds a record. The second value tells that the batch it was added to is
    /// closed now, the third that the sender has news.
    pub(crate) fn add(
        &mut self,
        record: &Record,
        space: OwnedSemaphorePermit,
        now: Instant,
    ) -> (PublishTicket, bool, bool) {
        let len = record.encoded_len();
        let mut news = false;
        let mut closed = false;
        if let Some(open) = &self.open
            && open.batch.records.len() + len > self.limits.bytes
        {
            self.close();
            (news, closed) = (true, true);
        }
        let open = self.open.get_or_insert_with(|| {
            news = true;
            let cell = Arc::<BatchCell>::default();
            while self.cells.front().is_some_and(|cell| cell.is_resolved()) {
                self.cells.pop_front();
            }
            self.cells.push_back(Arc::clone(&cell));
            Open {
                batch: Batch {
                    records: Vec::with_capacity(len.max(self.limits.bytes.min(4096))),
                    count: 0,
                    pending: None,
                    reply_by: now,
                    cell,
                    space: Vec::new(),
                },
                since: now,
            }
        });
        let batch = &mut open.batch;
        record.encode(&mut batch.records);
        let ticket = PublishTicket::new(Arc::clone(&batch.cell), batch.count);
        batch.count += 1;
        match batch.space.first_mut() {
            Some(first) => first.merge(space),
            None => batch.space.push(space),
        }
        if batch.records.len() >= self.limits.bytes || batch.count >= self.limits.records {
            self.close();
            (news, closed) = (true, true);
        }
        (ticket, closed, news)
    }

    /// The next batch to send: a full one, or the open one when its time has come.
    pub(crate) fn take(&mut self, now: Instant) -> Option<Batch> {
        if let Some(batch) = self.full.pop_front() {
            return Some(batch);
        }
        let due = self.due()?;
        if due > now && !self.flushing {
            return None;
        }
        self.flushing = false;
        self.open.take().map(|open| open.batch)
    }

    /// When the open batch is to be sent.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.open
            .as_ref()
            .map(|open| open.since + self.limits.linger)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.full.is_empty() && self.open.is_none()
    }

    /// Stops lingering once, and gives what is not settled yet.
    pub(crate) fn flush(&mut self) -> Vec<Arc<BatchCell>> {
        self.flushing = self.open.is_some();
        self.cells
            .iter()
            .filter(|cell| !cell.is_resolved())
            .cloned()
            .collect()
    }

    /// Gives up everything; nothing of it was sent.
    pub(crate) fn abandon(&mut self) {
        self.close();
        for batch in self.full.drain(..) {
            batch.abandon(false);
        }
    }

    fn close(&mut self) {
        self.full.extend(self.open.take().map(|open| open.batch));
    }
}

/// Permits a record needs, at most the whole buffer.
pub(crate) fn space_of(record: &Record, buffer: u32) -> u32 {
    let len = record.encoded_len() + RECORD_OVERHEAD;
    u32::try_from(len).unwrap_or(u32::MAX).min(buffer)
}

/// A buffer of `bytes`.
pub(crate) fn buffer(bytes: u32) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(bytes as usize))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const LINGER: Duration = Duration::from_millis(10);

    fn filling(bytes: usize, records: u32) -> Filling {
        Filling::new(BatchLimits {
            bytes,
            records,
            linger: LINGER,
        })
    }

    fn add(
        filling: &mut Filling,
        space: &Arc<Semaphore>,
        value: usize,
        now: Instant,
    ) -> PublishTicket {
        let record = Record::new(vec![0; value]);
        let permits = space_of(&record, 1 << 20);
        let permit = Arc::clone(space).try_acquire_many_owned(permits).unwrap();
        filling.add(&record, permit, now).0
    }

    #[test]
    fn a_batch_closes_at_its_bytes_at_its_count_or_after_its_time() {
        let (space, now) = (buffer(1 << 20), Instant::now());
        let mut by_bytes = filling(100, 1000);
        let _tickets: Vec<_> = (0..3)
            .map(|_| add(&mut by_bytes, &space, 40, now))
            .collect();
        assert_eq!(by_bytes.take(now).unwrap().count, 2);
        assert!(by_bytes.take(now).is_none(), "the third waits for company");
        assert_eq!(by_bytes.due(), Some(now + LINGER));
        assert_eq!(by_bytes.take(now + LINGER).unwrap().count, 1);

        let mut by_count = filling(100_000, 2);
        let _tickets: Vec<_> = (0..3).map(|_| add(&mut by_count, &space, 1, now)).collect();
        assert_eq!(by_count.take(now).unwrap().count, 2);
    }

    #[test]
    fn a_record_larger_than_a_batch_travels_alone() {
        let (space, now) = (buffer(1 << 20), Instant::now());
        let mut filling = filling(100, 10);
        let _tickets = [1, 5000, 1].map(|len| add(&mut filling, &space, len, now));
        let counts: Vec<u32> = (0..3)
            .map(|_| filling.take(now + LINGER).unwrap().count)
            .collect();
        assert_eq!(counts, [1, 1, 1]);
        assert!(filling.is_empty());
    }

    #[test]
    fn flush_does_not_wait_for_company() {
        let (space, now) = (buffer(1 << 20), Instant::now());
        let mut filling = filling(100, 10);
        let _ticket = add(&mut filling, &space, 1, now);
        assert_eq!(filling.flush().len(), 1);
        let batch = filling.take(now).unwrap();
        batch.abandon(false);
        assert!(filling.flush().is_empty());
    }

    #[test]
    fn space_comes_back_when_a_batch_is_settled_and_a_dropped_batch_settles() {
        let (space, now) = (buffer(1 << 20), Instant::now());
        let mut filling = filling(100, 10);
        let ticket = add(&mut filling, &space, 36, now);
        assert_eq!(
            space.available_permits(),
            (1 << 20) - 36 - 8 - RECORD_OVERHEAD
        );
        drop(filling.take(now + LINGER).unwrap());
        assert_eq!(space.available_permits(), 1 << 20);
        let mut ticket = std::pin::pin!(ticket);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let outcome = ticket.as_mut().poll(&mut context);
        assert!(matches!(
            outcome,
            std::task::Poll::Ready(Err(RequestError::Closed))
        ));
    }
}
