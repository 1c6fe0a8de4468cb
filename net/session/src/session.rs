//! The state of one connection, kept by the core it lives on.

use bytes::Bytes;
use pinion_types::limits::{REQUEST_STREAMS_MAX, SUBSCRIPTIONS_MAX};
use pinion_types::{ErrorCode, FactId, FixedMap, Refusal, SubscriptionId};

use crate::delivery::DeliveryQueue;
use crate::in_flight::InFlight;
use crate::reader::FrameReader;
use crate::reply::ReplyBuffer;

/// How far the conversation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Only HELLO is looked at.
    AwaitingHello,
    /// Requests are served.
    Ready,
    /// A closing reply is on its way; nothing more is looked at.
    Closing(CloseCode),
}

/// Application close codes of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum CloseCode {
    /// Done.
    Normal = 0,
    /// The peer broke the protocol.
    Protocol = 1,
    /// Missing or wrong token.
    Unauthenticated = 2,
    /// The node is shutting down.
    Draining = 3,
    /// A limit of the connection was passed.
    Limit = 4,
    /// A bug of this server.
    Internal = 5,
    /// An administrator ended the session.
    Administrator = 6,
}

impl CloseCode {
    /// The reason phrase sent with the close; never parsed.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Normal => "bye",
            Self::Protocol => "protocol error",
            Self::Unauthenticated => "unauthenticated",
            Self::Draining => "node is shutting down",
            Self::Limit => "limit reached",
            Self::Internal => "internal error",
            Self::Administrator => "an administrator ended the session",
        }
    }
}

/// One bidirectional stream the client opened.
#[derive(Debug, Default)]
pub struct RequestStream {
    /// Requests on their way in.
    pub reader: FrameReader,
    /// Replies on their way out.
    pub replies: ReplyBuffer,
    /// Opened in 0-RTT data, which may be a replay: idempotent requests only,
    /// for the stream's whole life.
    pub early: bool,
    /// The transport takes no more until it says so.
    pub blocked: bool,
    /// Requests wait unread because replies are not read.
    pub paused: bool,
    /// The client sends no more on this stream.
    pub finished: bool,
    /// Requests of this stream whose answer comes later. The stream is finished
    /// only after the last of them.
    pub owed: u32,
}

/// One connection.
#[derive(Debug)]
pub struct Session {
    /// How far the conversation is.
    pub phase: Phase,
    /// Requests owed a reply.
    pub in_flight: InFlight,
    // At most REQUEST_STREAMS_MAX, nearly always one: a scan beats a map.
    streams: Vec<(u64, RequestStream)>,
    deliveries: FixedMap<SubscriptionId, DeliveryQueue>,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            phase: Phase::AwaitingHello,
            in_flight: InFlight::default(),
            streams: Vec::new(),
            deliveries: FixedMap::default(),
        }
    }
}

impl Session {
    /// The client opened a request stream. `false` when it has too many.
    #[must_use]
    pub fn open_stream(&mut self, stream: u64, early: bool) -> bool {
        if self.streams.len() >= usize::from(REQUEST_STREAMS_MAX) {
            return false;
        }
        self.streams.push((
            stream,
            RequestStream {
                early,
                ..RequestStream::default()
            },
        ));
        true
    }

    /// The request stream, if it is open.
    pub fn stream(&mut self, stream: u64) -> Option<&mut RequestStream> {
        self.streams
            .iter_mut()
            .find(|(id, _)| *id == stream)
            .map(|(_, state)| state)
    }

    /// The `index`-th open request stream.
    pub fn stream_at(&mut self, index: usize) -> Option<(u64, &mut RequestStream)> {
        self.streams.get_mut(index).map(|(id, state)| (*id, state))
    }

    /// The stream is gone on both sides.
    pub fn close_stream(&mut self, stream: u64) {
        self.streams.retain(|(id, _)| *id != stream);
    }

    /// Bytes received on all streams and not worked off yet.
    #[must_use]
    pub fn held_len(&self) -> usize {
        self.streams
            .iter()
            .map(|(_, stream)| stream.reader.held_len())
            .sum()
    }

    /// Makes room for a subscription's deliveries.
    ///
    /// # Errors
    /// `BadArgument` when the id is in use, `LimitReached` at
    /// [`SUBSCRIPTIONS_MAX`]. Nothing changed.
    pub fn subscribe(&mut self, subscription: SubscriptionId) -> Result<(), Refusal> {
        if self.deliveries.contains_key(&subscription) {
            return Err(Refusal::new(ErrorCode::BadArgument)
                .with(FactId::Actual, u64::from(subscription.0)));
        }
        if self.deliveries.len() >= SUBSCRIPTIONS_MAX as usize {
            return Err(Refusal::new(ErrorCode::LimitReached)
                .with(FactId::Limit, u64::from(SUBSCRIPTIONS_MAX)));
        }
        self.deliveries
            .insert(subscription, DeliveryQueue::default());
        Ok(())
    }

    /// The deliveries of a subscription, if it is known.
    pub fn deliveries(&mut self, subscription: SubscriptionId) -> Option<&mut DeliveryQueue> {
        self.deliveries.get_mut(&subscription)
    }

    /// Queues one chunk that took `charge` from its window. `false` when the subscription is gone.
    pub fn deliver(&mut self, subscription: SubscriptionId, chunk: Bytes, charge: u32) -> bool {
        match self.deliveries.get_mut(&subscription) {
            Some(queue) => {
                queue.push(chunk, charge);
                true
            }
            None => false,
        }
    }

    /// Forgets a subscription whose stream is finished or was never opened.
    pub fn drop_subscription(&mut self, subscription: SubscriptionId) -> Option<DeliveryQueue> {
        self.deliveries.remove(&subscription)
    }

    /// How many subscriptions there are.
    #[must_use]
    pub fn subscriptions(&self) -> usize {
        self.deliveries.len()
    }

    /// How many request streams are open.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.streams.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_and_subscriptions_have_an_end() {
        let mut session = Session::default();
        for id in 0..u64::from(REQUEST_STREAMS_MAX) {
            assert!(session.open_stream(id * 4, false));
        }
        assert!(!session.open_stream(400, false));
        session.close_stream(0);
        assert!(session.open_stream(400, true));
        assert!(session.stream(400).is_some_and(|s| s.early));

        for id in 0..SUBSCRIPTIONS_MAX {
            session.subscribe(SubscriptionId(id)).expect("has room");
        }
        let refusal = session
            .subscribe(SubscriptionId(SUBSCRIPTIONS_MAX))
            .expect_err("full");
        assert_eq!(refusal.code, ErrorCode::LimitReached);
        let refusal = session.subscribe(SubscriptionId(1)).expect_err("in use");
        assert_eq!(refusal.code, ErrorCode::BadArgument);
        session.drop_subscription(SubscriptionId(1));
        assert!(session.subscribe(SubscriptionId(1)).is_ok());
        assert!(!session.deliver(SubscriptionId(9999), Bytes::from_static(b"x"), 1));
    }
}
