//! Messages as they become ready.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::mpsc;

use super::{Keeper, Message, Queue};
use crate::delivery::{CreditLine, Item, Source};
use crate::error::{RequestError, SubscribeError};
use crate::subscriber::{Partitions, open_drivers};

/// How to [`consume`](Queue::consume).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumeOptions {
    /// The consumer group; empty is the default one.
    pub group: String,
    /// Where from.
    pub partitions: Partitions,
    /// How long messages are reserved at a time, at most 12 hours; `None` is
    /// the queue's. They are extended by themselves, so longer only means that
    /// another consumer gets them later when this one is lost without a word.
    pub lease: Option<Duration>,
    /// Longest a message is kept reserved in all while it is not settled. A
    /// handler that hangs for longer loses it, which counts as a failed
    /// attempt. Zero: reservations are not extended.
    pub keep: Duration,
    /// Most messages reserved at a time per partition, those being worked on
    /// included; 0, and more than that, is the queue's bound for each.
    pub in_flight_max: u32,
    /// Messages that may be on the way or waiting here per partition. More
    /// hides longer round trips; fewer leaves more to other consumers.
    pub credit_records: u32,
    /// Bytes that may be on the way or waiting here per partition.
    pub credit_bytes: u32,
}

impl Default for ConsumeOptions {
    fn default() -> Self {
        Self {
            group: String::new(),
            partitions: Partitions::All,
            lease: None,
            keep: Duration::from_secs(15 * 60),
            in_flight_max: 0,
            credit_records: 64,
            credit_bytes: 1 << 20,
        }
    }
}

/// Gives messages as they become ready, and keeps those it gave reserved until
/// they are settled or dropped.
///
/// It survives lost connections: messages that were not settled come again,
/// perhaps to another consumer. An application that does not call
/// [`next`](Self::next) is not sent more than its credit. Dropping it ends it
/// and gives back what was not yet taken from it; messages that were stay
/// reserved, and can be settled.
#[derive(Debug)]
pub struct Consumer {
    items: mpsc::Receiver<Item>,
    waiting: VecDeque<(Message, Arc<CreditLine>)>,
    ended: bool,
}

impl Consumer {
    pub(super) async fn open(queue: &Queue, options: ConsumeOptions) -> Result<Self, RequestError> {
        let keeper = Keeper::start(queue.clone(), &options.group, options.keep);
        let source = Source::Messages {
            keeper,
            lease_ms: super::lease_ms(options.lease),
            in_flight_max: options.in_flight_max,
        };
        let sources = options
            .partitions
            .list(queue.shards())
            .into_iter()
            .map(|partition| (partition, source.clone()))
            .collect();
        let credit = (options.credit_records, options.credit_bytes);
        let items = open_drivers(&queue.node, &queue.resource, sources, credit).await?;
        Ok(Self {
            items,
            waiting: VecDeque::new(),
            ended: false,
        })
    }

    /// The next message; `None` after an error, which is the last thing given.
    /// Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Message, SubscribeError>> {
        std::future::poll_fn(|context| self.poll_message(context)).await
    }

    /// Waits for one message and takes those that are there without waiting,
    /// at most `max`. Cancel-safe.
    pub async fn next_batch(&mut self, max: usize) -> Option<Result<Vec<Message>, SubscribeError>> {
        let mut batch = match self.next().await? {
            Ok(message) => vec![message],
            Err(error) => return Some(Err(error)),
        };
        while batch.len() < max {
            match self.take_waiting() {
                Some(message) => batch.push(message),
                None => break,
            }
        }
        Some(Ok(batch))
    }

    /// [`next`](Self::next) for poll-based callers.
    pub fn poll_message(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Message, SubscribeError>>> {
        loop {
            if let Some(message) = self.take_waiting() {
                return Poll::Ready(Some(Ok(message)));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            match ready!(self.items.poll_recv(context)) {
                Some(Item::Messages(messages, credit)) => {
                    let with_credit = |message| (message, Arc::clone(&credit));
                    self.waiting.extend(messages.into_iter().map(with_credit));
                }
                Some(Item::Failed(error)) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
                // What a lost connection had reserved comes again; there is
                // nothing to say about it.
                Some(_) => {}
                None => self.ended = true,
            }
        }
    }

    /// The next message that is here and still reserved.
    fn take_waiting(&mut self) -> Option<Message> {
        loop {
            let (message, credit) = self.waiting.pop_front()?;
            credit.consumed(1, message.record_bytes());
            // Others have, or will get, what is no longer reserved.
            if message.is_held() {
                return Some(message.given());
            }
        }
    }
}

impl futures_core::Stream for Consumer {
    type Item = Result<Message, SubscribeError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_message(context)
    }
}
