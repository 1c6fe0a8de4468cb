//! One reserved message.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use pinion_types::PartitionId;
use pinion_types::block::{Headers, RECORD_HEADER_BYTES, Record};
use pinion_wire::message::{QueueMessage, Token};

use super::{Keeper, Queue, Settle};
use crate::codec;
use crate::error::RequestError;
use crate::frames::Frame;

/// A message that is reserved for this client: work on it, then
/// [`ack`](Self::ack) or [`nack`](Self::nack) it. Its bytes share the frame they
/// came in.
///
/// Merely dropped, it stays reserved until its time is over, which counts as a
/// failed attempt.
pub struct Message {
    /// The partition it is in.
    pub partition: PartitionId,
    /// Its number there.
    pub id: u64,
    /// 1 for the first delivery.
    pub attempt: u16,
    /// When it was put, in milliseconds since the Unix epoch.
    pub enqueued_ms: u64,
    /// What the last [`nack`](Self::nack) said.
    pub last_error: Option<String>,
    /// Empty means no key.
    pub key: Bytes,
    /// The payload.
    pub value: Bytes,
    headers: Bytes,
    hold: Hold,
}

/// The reservation behind a message. What is dropped before the application has
/// it is given back.
#[derive(Debug)]
pub(super) struct Hold {
    keeper: Arc<Keeper>,
    partition: PartitionId,
    token: Token,
    /// The queue said that the reservation is over.
    lost: Arc<AtomicBool>,
    /// The connection is, and the reservation with it.
    gone: Arc<AtomicBool>,
    /// The application has it.
    given: bool,
}

impl Hold {
    fn is_held(&self) -> bool {
        !self.lost.load(Ordering::Relaxed) && !self.gone.load(Ordering::Relaxed)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.keeper.let_go(self.token);
        if !self.given && self.is_held() {
            self.keeper.give_back(self.partition, self.token);
        }
    }
}

impl Message {
    /// Stands for this reservation.
    #[must_use]
    pub const fn token(&self) -> Token {
        self.hold.token
    }

    /// The consumer group it was taken by.
    #[must_use]
    pub fn group(&self) -> &str {
        self.hold.keeper.group()
    }

    /// Whether, as far as is known here, it is still reserved. When it is not,
    /// someone else has it or will; its ack will be refused.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.hold.is_held()
    }

    /// The headers as `(name, value)`, in the order they were put.
    #[must_use]
    pub fn headers(&self) -> Headers<'_> {
        Record {
            key: &[],
            headers: &self.headers,
            value: &[],
        }
        .headers()
    }

    /// The first header called `name`.
    #[must_use]
    pub fn header(&self, name: impl AsRef<[u8]>) -> Option<&[u8]> {
        self.headers()
            .find_map(|(n, value)| (n == name.as_ref()).then_some(value))
    }

    /// Work is done; it never comes again to this group.
    ///
    /// # Errors
    /// `TokenExpired`, `InvalidToken`: it will come, or came, to someone else.
    /// When the outcome is unknown, acking again is safe within 5 minutes.
    pub async fn ack(&self) -> Result<(), RequestError> {
        self.settle(Settle::Ack).await
    }

    /// Work failed, for the reason `error` (cut to 255 bytes): it comes again
    /// after `delay`, or after the queue's backoff, or becomes a dead letter.
    ///
    /// # Errors
    /// As [`ack`](Self::ack); it comes again in any case.
    pub async fn nack(&self, delay: Option<Duration>, error: &str) -> Result<(), RequestError> {
        self.settle(Settle::Nack {
            delay_ms: delay.map(super::time_ms),
            error: super::cut(error),
        })
        .await
    }

    /// Work goes on: it stays reserved for `lease` from now.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub async fn extend(&self, lease: Duration) -> Result<(), RequestError> {
        let lease_ms = super::lease_ms(Some(lease));
        self.settle(Settle::Extend { lease_ms }).await
    }

    /// Work was not begun: it is ready again at once, and no attempt counts.
    ///
    /// # Errors
    /// As [`ack`](Self::ack); it comes again in any case.
    pub async fn release(&self) -> Result<(), RequestError> {
        self.settle(Settle::Release).await
    }

    async fn settle(&self, how: Settle<'_>) -> Result<(), RequestError> {
        let queue: &Queue = self.hold.keeper.queue();
        let settled = queue
            .settle(self.partition, self.group(), &[self.token()], how)
            .await;
        let result = settled.and_then(|results| results[0].map_err(super::refused));
        self.settled(how, &result);
        result
    }

    /// Takes note of what became of it.
    pub(super) fn settled(&self, how: Settle<'_>, result: &Result<(), RequestError>) {
        let over = match (how, result) {
            (Settle::Extend { .. }, Ok(())) => false,
            (_, Ok(())) => true,
            (_, Err(error)) => error.code().is_some_and(super::keeper::is_over),
        };
        if over {
            self.hold.lost.store(true, Ordering::Relaxed);
            self.hold.keeper.let_go(self.hold.token);
        }
    }

    /// What it costs of a subscription's credit.
    pub(super) const fn record_bytes(&self) -> usize {
        RECORD_HEADER_BYTES + self.key.len() + self.headers.len() + self.value.len()
    }

    /// The application has it from here on.
    pub(super) fn given(mut self) -> Self {
        self.hold.given = true;
        self
    }

    pub(super) fn unpack(
        keeper: &Arc<Keeper>,
        partition: PartitionId,
        frame: &Frame,
        message: &QueueMessage<'_>,
        lost: Arc<AtomicBool>,
        gone: &Arc<AtomicBool>,
    ) -> Self {
        Self {
            partition,
            id: message.id,
            attempt: message.attempt,
            enqueued_ms: message.enqueued.0,
            last_error: Some(message.last_error)
                .filter(|error| !error.is_empty())
                .map(str::to_owned),
            key: codec::share(frame, message.record.key),
            value: codec::share(frame, message.record.value),
            headers: codec::share(frame, message.record.headers),
            hold: Hold {
                keeper: Arc::clone(keeper),
                partition,
                token: message.token,
                lost,
                gone: Arc::clone(gone),
                given: false,
            },
        }
    }
}

/// The application has them from here on.
pub(super) fn given(messages: Vec<Message>) -> Vec<Message> {
    messages.into_iter().map(Message::given).collect()
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message")
            .field("partition", &self.partition.0)
            .field("id", &self.id)
            .field("attempt", &self.attempt)
            .field("enqueued_ms", &self.enqueued_ms)
            .field("last_error", &self.last_error)
            .field("key", &self.key)
            .field("headers", &self.headers().count())
            .field("value_bytes", &self.value.len())
            .field("is_held", &self.is_held())
            .finish()
    }
}
