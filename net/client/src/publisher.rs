//! Publishing with batches, back-pressure and idempotent retries.

use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pinion_types::limits::BATCH_RECORDS_MAX;
use pinion_types::route::partition_of;
use pinion_types::{ErrorCode, PartitionId, ProducerId};
use pinion_wire::message::{Ack, Handle, Publish};
use pinion_wire::{Reply, Request};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::batching::{Batch, BatchLimits, Filling, buffer, space_of};
use crate::codec;
use crate::error::{ConnectError, RequestError, UnknownCause};
use crate::link::{Lane, Link};
use crate::node::Node;
use crate::record::Record;
use crate::resource::{AttemptError, Resource, not_sent};
use crate::stats::add;
use crate::ticket::{CellWait, PublishAck, PublishTicket};
use crate::window::{Answer, Settled, Window};

/// Largest batch. A batch is one frame, and a node takes no longer one.
pub const BATCH_BYTES_MAX: usize = 1 << 20;

/// Smallest buffer: the largest record must fit.
const BUFFER_BYTES_MIN: usize = 2 << 20;
/// Largest buffer, which is what the permits can count with room to spare.
const BUFFER_BYTES_MAX: usize = 1 << 30;
/// Most batches of one partition on the way at once.
const IN_FLIGHT_BATCHES_MAX: usize = 64;
/// How long a publisher waits when the retry budget is spent.
const BUDGET_WAIT: Duration = Duration::from_millis(250);

/// How a [`Publisher`] batches, retries and asks for acknowledgement.
///
/// ```
/// use std::time::Duration;
/// use pinion_client::PublisherOptions;
///
/// let options = PublisherOptions { linger: Duration::from_millis(5), ..Default::default() };
/// assert!(options.idempotent);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublisherOptions {
    /// How long a batch that is not full waits for company. Zero sends at once;
    /// batches then still form while `max_in_flight_batches` are on the way.
    pub linger: Duration,
    /// Bytes at which a batch is full, at most [`BATCH_BYTES_MAX`].
    pub batch_bytes: usize,
    /// Records at which a batch is full, at most 16,384.
    pub batch_records: u32,
    /// Batches of one partition that may await their acknowledgement, at most 64.
    /// More keeps long pipes full; without `idempotent`, more than one lets a
    /// batch that had to be retried end up behind a later one.
    pub max_in_flight_batches: usize,
    /// Bytes of records, with 64 for each, that may await acknowledgement in
    /// all; [`Publisher::publish`] waits when they are used up. At least 2 MiB.
    pub buffer_bytes: usize,
    /// Number the records, so that a batch sent again after a lost connection
    /// is stored once. Ignored with [`Ack::None`].
    pub idempotent: bool,
    /// What the node must have reached before it acknowledges.
    pub ack: Ack,
    /// How long a batch may take from when it is first sent, retries included.
    pub delivery_timeout: Duration,
}

impl Default for PublisherOptions {
    fn default() -> Self {
        Self {
            linger: Duration::ZERO,
            batch_bytes: 64 << 10,
            batch_records: 1024,
            max_in_flight_batches: 8,
            buffer_bytes: 8 << 20,
            idempotent: true,
            ack: Ack::Leader,
            delivery_timeout: Duration::from_secs(30),
        }
    }
}

/// Why [`Publisher::try_publish`] did not take a record.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TryPublishError {
    /// The buffer is full; the record comes back.
    #[error("the publisher's buffer is full")]
    Full(Record),
    /// No node would take it.
    #[error(transparent)]
    Refused(RequestError),
}

/// Publishes records to one stream.
///
/// Records with a key go to the partition of the key. Records without one stay
/// on one partition until its batch is full, then move on to the next.
///
/// Dropping it lets what is buffered be sent in the background, as long as the
/// client lives; call [`flush`](Self::flush) to know that it was.
#[derive(Debug)]
pub struct Publisher {
    shared: Arc<Shared>,
    partitions: Box<[Arc<Partition>]>,
    /// The partition of records without a key.
    sticky: AtomicU16,
}

#[derive(Debug)]
struct Shared {
    node: Arc<Node>,
    resource: Arc<Resource>,
    options: PublisherOptions,
    buffer_bytes: u32,
    space: Arc<Semaphore>,
}

#[derive(Debug)]
struct Partition {
    id: PartitionId,
    filling: Mutex<Filling>,
    wake: Notify,
    started: AtomicBool,
    /// The publisher is gone: end after what is there.
    ending: AtomicBool,
}

impl Publisher {
    pub(crate) fn new(
        node: Arc<Node>,
        resource: Arc<Resource>,
        shards: u16,
        mut options: PublisherOptions,
    ) -> Self {
        options.batch_bytes = options.batch_bytes.clamp(1, BATCH_BYTES_MAX);
        options.batch_records = options.batch_records.clamp(1, BATCH_RECORDS_MAX);
        options.max_in_flight_batches = options
            .max_in_flight_batches
            .clamp(1, IN_FLIGHT_BATCHES_MAX);
        options.idempotent &= options.ack != Ack::None;
        let bytes = options
            .buffer_bytes
            .clamp(BUFFER_BYTES_MIN, BUFFER_BYTES_MAX);
        let buffer_bytes = u32::try_from(bytes).expect("clamped to 1 GiB");
        let limits = BatchLimits {
            bytes: options.batch_bytes,
            records: options.batch_records,
            linger: options.linger,
        };
        let partition = |id| {
            Arc::new(Partition {
                id: PartitionId(id),
                filling: Mutex::new(Filling::new(limits)),
                wake: Notify::new(),
                started: AtomicBool::new(false),
                ending: AtomicBool::new(false),
            })
        };
        let start = u16::try_from(node.random_u64() % u64::from(shards)).expect("below a u16");
        Self {
            shared: Arc::new(Shared {
                node,
                resource,
                options,
                buffer_bytes,
                space: buffer(buffer_bytes),
            }),
            partitions: (0..shards).map(partition).collect(),
            sticky: AtomicU16::new(start),
        }
    }

    /// Takes a record, waiting while the buffer is full. The ticket tells what
    /// became of it. Cancel-safe: dropped while waiting, the record was not taken.
    ///
    /// # Errors
    /// The record breaks a limit, or the client is closed. It was not taken.
    pub async fn publish(&self, record: Record) -> Result<PublishTicket, RequestError> {
        record.check()?;
        let permits = space_of(&record, self.shared.buffer_bytes);
        let space = Arc::clone(&self.shared.space)
            .acquire_many_owned(permits)
            .await;
        let space = space.map_err(|_| RequestError::Closed)?;
        self.take(&record, space)
    }

    /// Takes a record if there is room for it now.
    ///
    /// # Errors
    /// [`TryPublishError::Full`] gives the record back.
    pub fn try_publish(&self, record: Record) -> Result<PublishTicket, TryPublishError> {
        record.check().map_err(TryPublishError::Refused)?;
        let permits = space_of(&record, self.shared.buffer_bytes);
        match Arc::clone(&self.shared.space).try_acquire_many_owned(permits) {
            Ok(space) => self.take(&record, space).map_err(TryPublishError::Refused),
            Err(tokio::sync::TryAcquireError::NoPermits) => Err(TryPublishError::Full(record)),
            Err(tokio::sync::TryAcquireError::Closed) => {
                Err(TryPublishError::Refused(RequestError::Closed))
            }
        }
    }

    /// Waits until everything published before is settled.
    ///
    /// # Errors
    /// The first error among those batches; their tickets tell which records.
    pub async fn flush(&self) -> Result<(), RequestError> {
        let mut unsettled = Vec::new();
        for partition in &self.partitions {
            let cells = lock(&partition.filling).flush();
            if !cells.is_empty() {
                partition.wake.notify_one();
                unsettled.extend(cells);
            }
        }
        let mut result = Ok(());
        for cell in unsettled {
            match CellWait::new(cell).await {
                // With `Ack::None` this is how every batch ends.
                Ok(_) | Err(RequestError::OutcomeUnknown(UnknownCause::NotAsked)) => {}
                Err(error) if result.is_ok() => result = Err(error),
                Err(_) => {}
            }
        }
        result
    }

    fn take(
        &self,
        record: &Record,
        space: OwnedSemaphorePermit,
    ) -> Result<PublishTicket, RequestError> {
        if self.shared.node.is_closed() {
            return Err(RequestError::Closed);
        }
        let shards = u16::try_from(self.partitions.len()).expect("made from a u16");
        let keyed = !record.key_bytes().is_empty();
        let id = if keyed {
            partition_of(record.key_bytes(), shards).0
        } else {
            self.sticky.load(Ordering::Relaxed)
        };
        let partition = &self.partitions[usize::from(id)];
        let (ticket, closed, news) = lock(&partition.filling).add(record, space, Instant::now());
        if closed && !keyed {
            // Two callers may both move it on; that only spreads the load.
            self.sticky.store((id + 1) % shards, Ordering::Relaxed);
        }
        if !partition.started.swap(true, Ordering::AcqRel) {
            let sender = Sender::new(Arc::clone(&self.shared), Arc::clone(partition));
            tokio::spawn(sender.run());
        }
        if news {
            partition.wake.notify_one();
        }
        Ok(ticket)
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        for partition in &self.partitions {
            partition.ending.store(true, Ordering::Release);
            drop(lock(&partition.filling).flush());
            partition.wake.notify_one();
        }
    }
}

/// Sends the batches of one partition.
struct Sender {
    shared: Arc<Shared>,
    partition: Arc<Partition>,
    window: Window<Batch>,
    /// The connection last sent on.
    link: Option<Arc<Link>>,
}

impl Sender {
    fn new(shared: Arc<Shared>, partition: Arc<Partition>) -> Self {
        let producer = shared
            .options
            .idempotent
            .then(|| ProducerId(shared.node.random_u64()));
        Self {
            window: Window::new(shared.options.max_in_flight_batches, producer),
            shared,
            partition,
            link: None,
        }
    }

    async fn run(mut self) {
        let mut closed = self.shared.node.closed();
        tokio::select! {
            () = self.send_all() => {}
            // An error means that the node is gone, which is the same.
            _ = closed.wait_for(|closed| *closed) => {
                self.shared.space.close();
                for (batch, maybe_stored) in self.window.drain() {
                    batch.abandon(maybe_stored);
                }
                lock(&self.partition.filling).abandon();
            }
        }
    }

    /// Until the publisher is gone and everything is settled.
    async fn send_all(&mut self) {
        loop {
            if self.window.is_recovering() && self.window.awaited().is_none() {
                self.next_round().await;
            }
            self.fill_window();
            if !self.window.is_recovering()
                && let Some(index) = self.window.unsent()
            {
                self.send(index).await;
                continue;
            }
            if self.window.is_empty()
                && self.partition.ending.load(Ordering::Acquire)
                && lock(&self.partition.filling).is_empty()
            {
                return;
            }
            self.wait().await;
        }
    }

    fn fill_window(&mut self) {
        let now = Instant::now();
        while self.window.has_room() {
            let Some(batch) = lock(&self.partition.filling).take(now) else {
                return;
            };
            let count = batch.count;
            self.window
                .push(batch, count, now, self.shared.options.delivery_timeout);
        }
    }

    /// Waits for a reply, for records, or for a batch's time to come.
    async fn wait(&mut self) {
        let due = if self.window.has_room() {
            lock(&self.partition.filling).due()
        } else {
            None
        };
        let room = self.window.has_room();
        let linger = async {
            match due {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        let Some(index) = self.window.awaited() else {
            tokio::select! {
                () = self.partition.wake.notified() => {}
                () = linger => {}
            }
            return;
        };
        let batch = self.window.batch_mut(index);
        let reply_by = batch.reply_by;
        let pending = batch
            .pending
            .as_mut()
            .expect("what is sent has a reply pending");
        let answer = tokio::select! {
            biased;
            reply = pending.reply() => match reply {
                Ok(frame) => match codec::reply(&frame) {
                    Ok(Reply::Published(published)) => Answer::Stored(PublishAck {
                        partition: published.partition,
                        offset: published.first_offset,
                        durability: published.durability,
                        duplicate: published.duplicate,
                    }),
                    Ok(Reply::Error(refusal)) => Answer::from(refusal),
                    Ok(_) => Answer::Failed(codec::unexpected(&frame)),
                    Err(error) => Answer::Failed(error.into()),
                },
                Err(_) => Answer::Lost(UnknownCause::ConnectionLost),
            },
            () = tokio::time::sleep_until(reply_by.into()) => {
                add(&self.shared.node.stats.timeouts, 1);
                Answer::Lost(UnknownCause::NoReply)
            }
            () = self.partition.wake.notified(), if room => return,
            () = linger => return,
        };
        self.answer(index, answer);
    }

    fn answer(&mut self, index: usize, answer: Answer) {
        if let Answer::Failed(error) = &answer {
            if error.code() == Some(ErrorCode::BadHandle)
                && let Some(link) = &self.link
            {
                link.forget_handle(self.shared.resource.id);
            }
            let error = AttemptError::NotAdmitted(error.clone());
            self.shared
                .node
                .take_hint(&self.shared.resource, self.partition.id, &error);
        }
        self.window.batch_mut(index).pending = None;
        let random = self.shared.node.random();
        let settled = self.window.answer(index, answer, random);
        self.settle(settled);
    }

    fn settle(&self, settled: impl IntoIterator<Item = Settled<Batch>>) {
        for (batch, outcome) in settled {
            if outcome.is_ok() {
                add(
                    &self.shared.node.stats.records_acked,
                    u64::from(batch.count),
                );
            }
            batch.settle(outcome);
        }
    }

    async fn next_round(&mut self) {
        let node = Arc::clone(&self.shared.node);
        // Wait for the budget; batches that run out of time meanwhile are settled
        // by the round.
        while self.window.costs() && !self.window.has_late(Instant::now()) && !node.budget_take() {
            tokio::time::sleep(BUDGET_WAIT.mul_f64(0.5 + node.random())).await;
        }
        let round = self
            .window
            .begin_round(Instant::now(), ProducerId(node.random_u64()));
        self.settle(round.settled);
        tokio::time::sleep(round.wait).await;
    }

    /// Queues one batch to the connection of its core.
    async fn send(&mut self, index: usize) {
        let node = Arc::clone(&self.shared.node);
        if self.window.attempt(index) {
            add(&node.stats.retries, 1);
        } else {
            node.budget_deposit();
        }
        let result = match self.route().await {
            Ok((link, handle)) => {
                self.link = Some(Arc::clone(&link));
                self.send_on(&link, handle, index).await
            }
            Err(error) => Err(error),
        };
        match result {
            Ok(()) => {}
            Err(RequestError::NotConnected(ConnectError::CircuitOpen { retry_in, .. })) => {
                // Nothing was tried: wait as the breaker says, within the batch's time.
                tokio::time::sleep(retry_in).await;
                let busy = pinion_types::Refusal::new(ErrorCode::Busy);
                self.answer(index, Answer::from(busy));
            }
            Err(error) => self.answer(index, Answer::Failed(error)),
        }
    }

    async fn route(&self) -> Result<(Arc<Link>, Handle), RequestError> {
        let resource = &self.shared.resource;
        let core = resource.core_of(self.partition.id)?;
        let link = self.shared.node.link(core).await?;
        match resource.open_on(&link).await {
            Ok(handle) => Ok((link, handle)),
            Err(AttemptError::NotAdmitted(error)) => Err(error),
            Err(AttemptError::Unanswered(down)) => Err(not_sent(&down)),
        }
    }

    async fn send_on(
        &mut self,
        link: &Link,
        handle: Handle,
        index: usize,
    ) -> Result<(), RequestError> {
        let producer = self.window.producer(index);
        let entry = self.window.entry(index);
        let request = Request::Publish(Publish {
            handle,
            partition: self.partition.id,
            ack: self.shared.options.ack,
            producer,
            expected_offset: None,
            record_count: entry.batch.count,
            records: &entry.batch.records,
        });
        let frame = codec::encode(&request)?;
        if self.shared.options.ack == Ack::None {
            link.post(Lane::Bulk, frame)
                .await
                .map_err(|down| not_sent(&down))?;
            self.window.mark_sent(index);
            self.answer(index, Answer::Lost(UnknownCause::NotAsked));
            return Ok(());
        }
        let pending = link
            .call(Lane::Bulk, frame)
            .await
            .map_err(|down| not_sent(&down))?;
        self.window.mark_sent(index);
        let batch = self.window.batch_mut(index);
        batch.pending = Some(pending);
        batch.reply_by = Instant::now() + self.shared.node.config.request_timeout;
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
