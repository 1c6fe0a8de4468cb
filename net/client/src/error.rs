//! What can go wrong, with facts as fields and an honest outcome.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use pinion_types::{ErrorCode, NameError, Outcome, Refusal, RetryClass};

use crate::config::ConfigError;

/// Why no connection to the node stands. Nothing was sent to any resource.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ConnectError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The address did not resolve.
    #[error("cannot resolve {server}: {source}")]
    Resolve {
        /// What was asked for.
        server: String,
        /// What the resolver said.
        source: Arc<io::Error>,
    },
    /// No UDP socket could be bound.
    #[error("cannot bind a UDP socket: {0}")]
    Socket(Arc<io::Error>),
    /// The handshake failed, for example because the certificate is not trusted.
    #[error("no connection to {server}: {reason}")]
    Handshake {
        /// The node.
        server: String,
        /// What QUIC or TLS reported.
        reason: quinn::ConnectionError,
    },
    /// The node did not answer in time.
    #[error("{server} did not answer within {after:?}: is a node listening there?")]
    TimedOut {
        /// The node.
        server: String,
        /// The time given.
        after: Duration,
    },
    /// The source of tokens has none.
    #[error("no token: {reason}")]
    Token {
        /// What it said.
        reason: String,
    },
    /// The node refused the HELLO, for example for its token.
    #[error("the node refused the session: {0}")]
    Refused(Refusal),
    /// The node does not speak the protocol as documented.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// The circuit breaker is open after repeated failures; nothing was tried.
    #[error("the last {failures} attempts to reach the node failed; next in {retry_in:?}")]
    CircuitOpen {
        /// Failures in a row.
        failures: u32,
        /// When the next attempt is allowed.
        retry_in: Duration,
    },
    /// [`Client::close`](crate::Client::close) was called.
    #[error("the client is closed")]
    Closed,
}

impl ConnectError {
    /// Whether a later attempt with the same configuration may succeed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Config(_) | Self::Closed | Self::Protocol(_) => false,
            Self::Refused(refusal) => refusal.retry != RetryClass::Fatal,
            // A certificate that is not trusted now will not be trusted later: neither the
            // node's here nor ours there (TLS alerts, RFC 9001 §4.8).
            Self::Handshake { reason, .. } => {
                let code = match reason {
                    quinn::ConnectionError::TransportError(error) => u64::from(error.code),
                    quinn::ConnectionError::ConnectionClosed(close) => u64::from(close.error_code),
                    _ => 0,
                };
                code & 0xff00 != 0x100
            }
            Self::Resolve { .. }
            | Self::Socket(_)
            | Self::TimedOut { .. }
            | Self::Token { .. }
            | Self::CircuitOpen { .. } => true,
        }
    }
}

/// The peer broke the protocol; the connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A frame longer than agreed. Nothing was allocated for it.
    #[error("a frame announces {length} bytes, the most is {limit}")]
    FrameTooLarge {
        /// Announced.
        length: u32,
        /// Agreed.
        limit: u32,
    },
    /// The bytes are not a frame, or a field contradicts another.
    #[error("malformed bytes in a frame with opcode {opcode:#04x}")]
    Malformed {
        /// Opcode of the frame.
        opcode: u8,
    },
    /// A frame that does not belong there.
    #[error("unexpected frame with opcode {opcode:#04x}")]
    Unexpected {
        /// Its opcode.
        opcode: u8,
    },
    /// A reply to a request that is not in flight.
    #[error("a reply to correlation {correlation}, which is not in flight")]
    UnknownCorrelation {
        /// Its correlation id.
        correlation: u32,
    },
    /// The stream ended inside a frame or where it must not end.
    #[error("a stream ended early")]
    EndedEarly,
}

/// Why nobody can say whether a write happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownCause {
    /// The connection was lost between request and reply.
    #[error("the connection was lost before the reply")]
    ConnectionLost,
    /// No reply within the time given.
    #[error("no reply within the time given")]
    NoReply,
    /// The request was made with [`Ack::None`](crate::Ack::None): no reply was asked for.
    #[error("no acknowledgement was asked for")]
    NotAsked,
    /// The node that may have stored it restarted, or no longer remembers the producer.
    #[error("the node no longer remembers this producer")]
    ProducerForgotten,
    /// The node said so itself.
    #[error("the node does not know: {0}")]
    Node(Refusal),
}

/// Why a request was not done.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RequestError {
    /// The node said no; the refusal carries its code, outcome and facts.
    #[error(transparent)]
    Refused(Refusal),
    /// There is no connection; nothing happened.
    #[error(transparent)]
    NotConnected(#[from] ConnectError),
    /// Nothing happened within the time given: the request was not sent, or it only reads.
    #[error("not done within {after:?}; repeating it is safe")]
    TimedOut {
        /// The time given.
        after: Duration,
    },
    /// The write may or may not have happened. Look before repeating it.
    #[error("the outcome is unknown: {0}")]
    OutcomeUnknown(UnknownCause),
    /// The name breaks the grammar; nothing was sent.
    #[error(transparent)]
    BadName(#[from] NameError),
    /// A key, header or value is over its limit; nothing was sent.
    #[error("{what} has {len} bytes, the most is {limit}")]
    TooLarge {
        /// Which part.
        what: &'static str,
        /// Its length in bytes.
        len: usize,
        /// The most allowed.
        limit: usize,
    },
    /// The request cannot be put into a frame; nothing was sent.
    #[error(transparent)]
    Encode(#[from] pinion_wire::EncodeError),
    /// An argument no node would take; nothing was sent.
    #[error("{what}")]
    BadArgument {
        /// What is wrong with it.
        what: &'static str,
    },
    /// The resource was declared anew with another number of partitions, so
    /// keys map elsewhere. Open it again.
    #[error("the resource had {before} partitions and now has {now}: open it again")]
    ShapeChanged {
        /// Partitions when it was opened.
        before: u16,
        /// Partitions now.
        now: u16,
    },
    /// The node broke the protocol.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// The client or publisher is closed; nothing happened.
    #[error("the client is closed")]
    Closed,
}

impl RequestError {
    /// What became of the request.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Refused(refusal) => refusal.outcome,
            Self::OutcomeUnknown(_) | Self::Protocol(_) => Outcome::Unknown,
            _ => Outcome::NotAdmitted,
        }
    }

    /// The stable code, when the node refused.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused(refusal)
            | Self::NotConnected(ConnectError::Refused(refusal))
            | Self::OutcomeUnknown(UnknownCause::Node(refusal)) => Some(refusal.code),
            _ => None,
        }
    }

    /// The error for a refusal from the node.
    pub(crate) fn from_refusal(refusal: Refusal) -> Self {
        if refusal.outcome == Outcome::Unknown {
            Self::OutcomeUnknown(UnknownCause::Node(refusal))
        } else {
            Self::Refused(refusal)
        }
    }
}

/// Why a subscription is over. It gives nothing after this.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SubscribeError {
    /// The node refused it or ended it; open a new one from `next` when that helps.
    #[error("partition {partition}: {refusal}; the next offset would have been {next}")]
    Ended {
        /// Which partition ended. The others end with it.
        partition: pinion_types::PartitionId,
        /// What the node said.
        refusal: Refusal,
        /// Where to resume a stream: behind the last record that came. Of a watch what the
        /// node said, and 0 where it said nothing.
        next: u64,
    },
    /// It could not be (re)established.
    #[error(transparent)]
    Request(#[from] RequestError),
}

/// Why a connection is down, told to everyone who waited on it.
#[derive(Clone, Debug)]
pub(crate) enum LinkDown {
    /// QUIC reported the loss.
    Lost(quinn::ConnectionError),
    /// The peer broke the protocol.
    Protocol(ProtocolError),
    /// This side closed it.
    Closed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_that_does_not_know_becomes_an_unknown_outcome() {
        let lost = RequestError::from_refusal(Refusal::new(ErrorCode::CoreLost));
        assert_eq!(lost.outcome(), Outcome::Unknown);
        assert_eq!(lost.code(), Some(ErrorCode::CoreLost));
        let busy = RequestError::from_refusal(Refusal::new(ErrorCode::Busy));
        assert_eq!(busy.outcome(), Outcome::NotAdmitted);
    }

    #[test]
    fn a_wrong_token_is_not_tried_again_but_a_draining_node_is() {
        assert!(!ConnectError::Refused(Refusal::new(ErrorCode::Unauthenticated)).is_transient());
        assert!(ConnectError::Refused(Refusal::new(ErrorCode::Draining)).is_transient());
    }
}
