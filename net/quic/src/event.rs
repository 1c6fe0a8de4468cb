//! What an endpoint tells its driver, and what stream operations answer.

use std::net::SocketAddr;

use bytes::Bytes;
use quinn_proto::{ConnectionError, VarInt};

/// One connection of one endpoint. A slot number that is reused and a generation
/// that is not, so a stale id never reaches another connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId {
    /// Index in the endpoint's table; dense, so it can index the caller's own.
    pub slot: u32,
    /// How often the slot was used before.
    pub generation: u32,
}

impl ConnId {
    /// Both halves in one word, generation high.
    pub fn to_u64(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    /// The inverse of [`to_u64`](Self::to_u64).
    pub fn from_u64(word: u64) -> Self {
        #[allow(clippy::cast_possible_truncation)] // the low half is wanted
        Self {
            slot: word as u32,
            generation: (word >> 32) as u32,
        }
    }
}

/// A QUIC stream id (RFC 9000 §2.1): bit 0 is set when the server opened it,
/// bit 1 when it is unidirectional.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u64);

impl StreamId {
    /// Whether both sides send.
    pub fn is_bidi(self) -> bool {
        self.0 & 2 == 0
    }

    /// Whether the client opened it.
    pub fn is_client_opened(self) -> bool {
        self.0 & 1 == 0
    }

    pub(crate) fn to_quinn(self) -> Option<quinn_proto::StreamId> {
        VarInt::from_u64(self.0).ok().map(Into::into)
    }
}

impl From<quinn_proto::StreamId> for StreamId {
    fn from(id: quinn_proto::StreamId) -> Self {
        Self(id.into())
    }
}

/// Something happened. For each connection: `Connected`, then anything, then
/// `Closed` exactly once and nothing after it. A server connection that never got
/// as far as `Connected` is never mentioned; a client one always gets its `Closed`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The connection can be used.
    Connected {
        /// Which.
        conn: ConnId,
        /// The peer's address now; it may change, see [`Endpoint::remote`](crate::Endpoint::remote).
        remote: SocketAddr,
        /// Application protocol agreed on.
        alpn: Bytes,
        /// Server: the handshake is not complete, and streams carry early data that
        /// may be a replay. `Confirmed` follows when it is.
        early: bool,
    },
    /// The handshake of a connection announced with `early` is complete.
    Confirmed {
        /// Which.
        conn: ConnId,
    },
    /// The peer opened a stream. Its first bytes may be there: read it now, since
    /// [`Readable`](Self::Readable) tells of later bytes only.
    StreamOpened {
        /// On which connection.
        conn: ConnId,
        /// The stream.
        stream: StreamId,
        /// Whether it can be written to.
        bidi: bool,
        /// Opened before the handshake completed: its first bytes are 0-RTT data,
        /// which an attacker can replay (RFC 9001 §9.2). True for the stream's whole
        /// life; nothing that is not idempotent may be done for it.
        early: bool,
    },
    /// Bytes, the end, or a reset arrived on a stream that was blocked.
    Readable {
        /// On which connection.
        conn: ConnId,
        /// The stream.
        stream: StreamId,
    },
    /// A stream whose write was blocked takes bytes again.
    Writable {
        /// On which connection.
        conn: ConnId,
        /// The stream.
        stream: StreamId,
    },
    /// The peer wants no more bytes on this stream.
    StreamStopped {
        /// On which connection.
        conn: ConnId,
        /// The stream.
        stream: StreamId,
        /// The peer's application code.
        code: u64,
    },
    /// The peer has everything written to a finished stream.
    StreamFinished {
        /// On which connection.
        conn: ConnId,
        /// The stream.
        stream: StreamId,
    },
    /// The peer gave up sending; what it sent is discarded and the receiving half is
    /// gone. A reset that a read meets first is [`ReadOutcome::Reset`] instead.
    StreamReset {
        /// On which connection.
        conn: ConnId,
        /// The stream.
        stream: StreamId,
        /// The peer's application code.
        code: u64,
    },
    /// The peer allows more streams of this kind than before.
    StreamsAvailable {
        /// On which connection.
        conn: ConnId,
        /// Which kind.
        bidi: bool,
    },
    /// The connection is over. Its id is stale from here on.
    Closed {
        /// Which.
        conn: ConnId,
        /// Why.
        reason: CloseReason,
    },
}

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// We closed it.
    #[error("closed here")]
    Local,
    /// The handshake took longer than [`Limits::handshake_timeout`](crate::Limits).
    #[error("the handshake took too long")]
    HandshakeTimeout,
    /// The peer's application closed it.
    #[error("closed by the peer's application, code {code}")]
    Peer {
        /// The application's code.
        code: u64,
        /// The application's words.
        reason: Bytes,
    },
    /// The peer's transport closed it; code 2 means it refuses connections.
    #[error("closed by the peer's transport, code {code:#x}")]
    PeerTransport {
        /// RFC 9000 §20.1.
        code: u64,
        /// The peer's words.
        reason: Bytes,
    },
    /// The peer broke the protocol, or the handshake failed.
    #[error("transport error {code:#x}: {reason}")]
    Transport {
        /// RFC 9000 §20.1; 0x100 and up are TLS alerts.
        code: u64,
        /// What was wrong.
        reason: String,
    },
    /// The peer does not know the connection: it probably restarted.
    #[error("reset by the peer")]
    Reset,
    /// Nothing was heard for the idle timeout.
    #[error("timed out")]
    TimedOut,
    /// No common QUIC version.
    #[error("no common QUIC version")]
    Version,
}

impl From<ConnectionError> for CloseReason {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::VersionMismatch => Self::Version,
            ConnectionError::TransportError(error) => Self::Transport {
                code: error.code.into(),
                reason: error.reason,
            },
            ConnectionError::ConnectionClosed(close) => Self::PeerTransport {
                code: close.error_code.into(),
                reason: close.reason,
            },
            ConnectionError::ApplicationClosed(close) => Self::Peer {
                code: close.error_code.into(),
                reason: close.reason,
            },
            ConnectionError::Reset => Self::Reset,
            ConnectionError::TimedOut => Self::TimedOut,
            // Ids are eight bytes; they do not run out.
            ConnectionError::LocallyClosed | ConnectionError::CidsExhausted => Self::Local,
        }
    }
}

/// Answer to a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadOutcome {
    /// The next bytes of the stream, never empty.
    Chunk(Bytes),
    /// Nothing now; [`Event::Readable`] will tell.
    Blocked,
    /// Everything was read; the receiving half is gone.
    Finished,
    /// The peer reset the stream with this code; the receiving half is gone.
    Reset(u64),
    /// No such connection, stream, or receiving half.
    Gone,
}

/// Answer to a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteOutcome {
    /// This many bytes were taken, at least one unless none were given.
    Written(usize),
    /// Nothing was taken; [`Event::Writable`] will tell.
    Blocked,
    /// The peer wants no more, with this code.
    Stopped(u64),
    /// No such connection, stream, or sending half.
    Gone,
}

/// The connection, stream or half does not exist (any more).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such stream")]
pub struct Gone;
