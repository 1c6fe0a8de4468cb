//! Subscriptions as applications see them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pinion_types::block::BLOCK_HEADER_BYTES;
use pinion_types::limits::{CREDIT_BYTES_MAX, CREDIT_RECORDS_MAX};
use pinion_types::{Offset, PartitionId, WallMs};
use pinion_wire::message::{FilterBuf, LagReason, Overflow, Start};
use tokio::sync::{mpsc, oneshot};

use crate::cursor::Cursor;
use crate::delivery::{CreditLine, Driver, Item, Source};
use crate::error::{ProtocolError, RequestError, SubscribeError};
use crate::node::Node;
use crate::record::{BlockWalk, Received};
use crate::resource::Resource;

/// Items beyond one per record of credit that the channel to the application
/// holds: notices, which cost no credit. When they fill it, the partition's
/// stream waits in QUIC and nothing else does.
const NOTICES_MAX: usize = 16;

/// Which partitions to subscribe to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Partitions {
    /// Every one. Order is kept within each, not between them.
    #[default]
    All,
    /// This one.
    One(PartitionId),
}

impl Partitions {
    /// The partitions meant, of `shards`.
    pub(crate) fn list(self, shards: u16) -> Vec<PartitionId> {
        match self {
            Self::All => (0..shards).map(PartitionId).collect(),
            Self::One(partition) => vec![partition],
        }
    }
}

/// Where to begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartFrom {
    /// The oldest record there is.
    Earliest,
    /// After everything acknowledged so far.
    #[default]
    Latest,
    /// This offset, in every partition subscribed to.
    Offset(Offset),
    /// The first block taken at or after this time, in milliseconds since the Unix epoch.
    Time(u64),
}

/// How to subscribe.
///
/// ```
/// use pinion_client::{StartFrom, SubscribeOptions};
///
/// let options = SubscribeOptions { start: StartFrom::Earliest, ..Default::default() };
/// assert!(options.filter.as_filter().is_empty());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscribeOptions {
    /// Which partitions.
    pub partitions: Partitions,
    /// Where to begin.
    pub start: StartFrom,
    /// Begin where this [cursor](crate::Cursor) stands; partitions it has no
    /// place in begin at `start`. Committing it remains the application's.
    pub cursor: Option<String>,
    /// What happens when this subscription falls behind; `None` is the stream's default.
    pub overflow: Option<Overflow>,
    /// Records it may fall behind before `overflow` acts; 0 is as many as the ring holds.
    pub backlog_max: u32,
    /// Records that may be on the way per partition. More hides longer round
    /// trips; fewer makes the node notice a slow consumer sooner.
    pub credit_records: u32,
    /// Bytes that may be on the way per partition, and with them what an
    /// application that does not read makes the client hold.
    pub credit_bytes: u32,
    /// What is delivered at all.
    pub filter: FilterBuf,
}

impl Default for SubscribeOptions {
    fn default() -> Self {
        Self {
            partitions: Partitions::All,
            start: StartFrom::Latest,
            cursor: None,
            overflow: None,
            backlog_max: 0,
            credit_records: 8192,
            credit_bytes: 1 << 20,
            filter: FilterBuf::default(),
        }
    }
}

/// What a subscription gives.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A record.
    Record(Received),
    /// Records were skipped for this subscription, before the next one given.
    Lag {
        /// Where.
        partition: PartitionId,
        /// First skipped.
        from: Offset,
        /// First not skipped.
        to: Offset,
        /// How many would have been delivered; 0 is unknown.
        count: u64,
        /// Why.
        reason: LagReason,
    },
    /// The connection of a partition was lost and stands again.
    Reconnected {
        /// Which partition.
        partition: PartitionId,
        /// It went on at the next offset: nothing is missing or comes twice.
        /// False after [`Event::Reset`].
        resumed: bool,
    },
    /// The node restarted and with it an ephemeral stream: offsets seen so far
    /// are void, and the partition is read from its earliest record. What the
    /// node had and this subscription had not yet seen is lost.
    Reset {
        /// Which partition.
        partition: PartitionId,
        /// The offset that would have come next.
        expected: Offset,
    },
}

/// A subscription to one or all partitions of a stream.
///
/// It survives lost connections. An application that does not call
/// [`next`](Self::next) stalls this subscription alone: credit is given back
/// only as records are taken. Dropping it unsubscribes.
#[derive(Debug)]
pub struct Subscription {
    items: mpsc::Receiver<Item>,
    walk: Option<Walk>,
    /// Found by `next_batch` after the events it gave.
    failed: Option<SubscribeError>,
    ended: bool,
}

#[derive(Debug)]
struct Walk {
    records: BlockWalk,
    credit: Arc<CreditLine>,
    /// What the block costs beyond its records, until it is paid.
    head: usize,
}

impl Subscription {
    pub(crate) async fn open(
        node: &Arc<Node>,
        resource: &Arc<Resource>,
        shards: u16,
        options: SubscribeOptions,
    ) -> Result<Self, RequestError> {
        let start = match options.start {
            StartFrom::Earliest => Start::Earliest,
            StartFrom::Latest => Start::Latest,
            StartFrom::Offset(offset) => Start::Offset(offset),
            StartFrom::Time(ms) => Start::Time(WallMs(ms)),
        };
        let cursor = match options.cursor {
            Some(name) => Some(Cursor::new(Arc::clone(node), Arc::clone(resource), name)?),
            None => None,
        };
        let mut sources = Vec::new();
        for partition in options.partitions.list(shards) {
            let kept = match &cursor {
                Some(cursor) => cursor.get(partition).await?,
                None => None,
            };
            let source = Source::Records {
                start: kept.map_or(start, Start::Offset),
                overflow: options.overflow,
                backlog_max: options.backlog_max,
                filter: options.filter.clone(),
            };
            sources.push((partition, source));
        }
        let credit = (options.credit_records, options.credit_bytes);
        let items = open_drivers(node, resource, sources, credit).await?;
        Ok(Self {
            items,
            walk: None,
            failed: None,
            ended: false,
        })
    }

    /// The next event; `None` after an error, which is the last thing given.
    /// Cancel-safe: dropped while waiting, nothing is lost.
    pub async fn next(&mut self) -> Option<Result<Event, SubscribeError>> {
        std::future::poll_fn(|context| self.poll_event(context)).await
    }

    /// Waits for one event and takes those that are there without waiting, at
    /// most `max`. `None` as [`next`](Self::next); an error comes alone, after
    /// the events before it. Cancel-safe.
    pub async fn next_batch(&mut self, max: usize) -> Option<Result<Vec<Event>, SubscribeError>> {
        let first = match self.next().await? {
            Ok(event) => event,
            Err(error) => return Some(Err(error)),
        };
        let mut batch = vec![first];
        while batch.len() < max.max(1) {
            match self.take_ready() {
                Some(event) => batch.push(event),
                None => break,
            }
        }
        Some(Ok(batch))
    }

    /// [`next`](Self::next) for poll-based callers.
    pub fn poll_event(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Event, SubscribeError>>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Some(Err(error)));
        }
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            if let Some(event) = self.walk_on() {
                return Poll::Ready(Some(event));
            }
            let Some(item) = std::task::ready!(self.items.poll_recv(context)) else {
                self.ended = true;
                continue;
            };
            if let Some(event) = self.take(item) {
                return Poll::Ready(Some(event));
            }
        }
    }

    /// An event that needs no waiting. An error stays for the next call.
    fn take_ready(&mut self) -> Option<Event> {
        while !self.ended {
            let next = match self.walk_on() {
                Some(next) => next,
                None => match self.items.try_recv().ok().map(|item| self.take(item))? {
                    Some(next) => next,
                    None => continue,
                },
            };
            match next {
                Ok(event) => return Some(event),
                Err(error) => self.failed = Some(error),
            }
        }
        None
    }

    fn walk_on(&mut self) -> Option<Result<Event, SubscribeError>> {
        let walk = self.walk.as_mut()?;
        let before = walk.records.remaining();
        match walk.records.next() {
            Some(Ok(received)) => {
                let bytes = before - walk.records.remaining() + std::mem::take(&mut walk.head);
                walk.credit.consumed(1, bytes);
                if walk.records.remaining() == 0 {
                    self.walk = None;
                }
                Some(Ok(Event::Record(received)))
            }
            Some(Err(_)) => {
                self.ended = true;
                let opcode = pinion_types::block::RECORDS_OPCODE;
                let error = RequestError::Protocol(ProtocolError::Malformed { opcode });
                Some(Err(error.into()))
            }
            None => {
                self.walk = None;
                None
            }
        }
    }

    fn take(&mut self, item: Item) -> Option<Result<Event, SubscribeError>> {
        Some(Ok(match item {
            Item::Block(records, credit) => {
                self.walk = Some(Walk {
                    records,
                    credit,
                    head: BLOCK_HEADER_BYTES,
                });
                return None;
            }
            Item::Lag(partition, lag) => Event::Lag {
                partition,
                from: lag.from,
                to: lag.to,
                count: lag.count,
                reason: lag.reason,
            },
            Item::Reset(partition, expected) => Event::Reset {
                partition,
                expected,
            },
            Item::Reconnected(partition, resumed) => Event::Reconnected { partition, resumed },
            Item::Failed(error) => {
                self.ended = true;
                return Some(Err(error));
            }
            // Only watches ask for changes, and only consumers for messages.
            Item::Changes(..) | Item::Messages(..) => return None,
        }))
    }
}

impl futures_core::Stream for Subscription {
    type Item = Result<Event, SubscribeError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_event(context)
    }
}

/// Starts a driver per partition and waits until each has answered once.
pub(crate) async fn open_drivers(
    node: &Arc<Node>,
    resource: &Arc<Resource>,
    sources: Vec<(PartitionId, Source)>,
    (credit_records, credit_bytes): (u32, u32),
) -> Result<mpsc::Receiver<Item>, RequestError> {
    let records = credit_records.clamp(1, CREDIT_RECORDS_MAX);
    let bytes = credit_bytes.clamp(1, CREDIT_BYTES_MAX);
    // A block has at least one record, so what credit allows always fits and
    // QUIC's windows, which partitions share, never fill up. The channel
    // allocates as it fills.
    let capacity = sources.len() * (records as usize + NOTICES_MAX);
    let (sender, receiver) = mpsc::channel(capacity);
    let mut answers = Vec::with_capacity(sources.len());
    for (partition, source) in sources {
        let driver = Driver::new(
            Arc::clone(node),
            Arc::clone(resource),
            partition,
            source,
            (records, bytes),
            sender.clone(),
        );
        let (ready, answer) = oneshot::channel();
        tokio::spawn(driver.run(ready));
        answers.push(answer);
    }
    for answer in answers {
        // Returning early drops the receiver, which ends the other drivers.
        answer.await.unwrap_or(Err(RequestError::Closed))?;
    }
    Ok(receiver)
}
