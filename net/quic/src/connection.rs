//! One connection's place in the endpoint: quinn-proto's state machine and the few
//! facts the endpoint keeps beside it.

use std::time::Instant;

use quinn_proto::{Dir, Side};

use crate::event::StreamId;

/// Bytes in and out of an address that has not proved itself.
///
/// quinn-proto keeps the factor of three (RFC 9000 §8.1) but, once any budget is
/// left, sends one whole packet more. This keeps it to the byte: a packet that
/// might not fit is not asked for until more bytes arrive.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Amplification {
    received: u64,
    sent: u64,
}

/// RFC 9000 §8.1.
const FACTOR: u64 = 3;

impl Amplification {
    pub(crate) fn received(&mut self, bytes: usize) {
        self.received = self.received.saturating_add(bytes as u64);
    }

    pub(crate) fn sent(&mut self, bytes: usize) {
        self.sent = self.sent.saturating_add(bytes as u64);
    }

    /// How many packets of `mtu` bytes certainly stay within the limit.
    pub(crate) fn packets(&self, mtu: u16) -> usize {
        let budget = self
            .received
            .saturating_mul(FACTOR)
            .saturating_sub(self.sent);
        usize::try_from(budget / u64::from(mtu)).unwrap_or(usize::MAX)
    }
}

/// A connection, boxed so that the slot table stays small.
pub(crate) struct Conn {
    pub(crate) inner: quinn_proto::Connection,
    /// `Connected` was emitted, or the connection was made here: its end is told.
    pub(crate) announced: bool,
    /// Its end was told; every operation finds it gone, and only quinn-proto's
    /// closing packets are still to be sent.
    pub(crate) ended: bool,
    /// The peer has closed it: nothing is left to send.
    pub(crate) peer_closed: bool,
    /// Counted among the handshakes under way.
    pub(crate) handshaking: bool,
    /// When an unfinished handshake is given up. Server side only.
    pub(crate) handshake_deadline: Option<Instant>,
    /// Present while the peer's address has not proved itself.
    pub(crate) amplification: Option<Amplification>,
    /// Waiting in the transmit queue.
    pub(crate) transmit_queued: bool,
    /// Waiting in the event queue.
    pub(crate) events_queued: bool,
}

impl Conn {
    /// The earlier of quinn-proto's deadline and the handshake's.
    pub(crate) fn deadline(&mut self) -> Option<Instant> {
        let inner = self.inner.poll_timeout();
        match (inner, self.handshake_deadline) {
            (Some(inner), Some(handshake)) => Some(inner.min(handshake)),
            (inner, handshake) => inner.or(handshake),
        }
    }

    /// quinn-proto's id of a stream this side may read from. It panics when asked
    /// to read a stream that only sends, so such ids must not reach it.
    pub(crate) fn readable(&self, stream: StreamId) -> Option<quinn_proto::StreamId> {
        let id = stream.to_quinn()?;
        (id.dir() == Dir::Bi || id.initiator() != self.inner.side()).then_some(id)
    }

    /// quinn-proto's id of a stream this side may write to.
    pub(crate) fn writable(&self, stream: StreamId) -> Option<quinn_proto::StreamId> {
        let id = stream.to_quinn()?;
        (id.dir() == Dir::Bi || id.initiator() == self.inner.side()).then_some(id)
    }

    /// Whether this is the server's end.
    pub(crate) fn is_server(&self) -> bool {
        self.inner.side() == Side::Server
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unproven_address_gets_at_most_three_times_its_bytes() {
        let mut path = Amplification::default();
        assert_eq!(path.packets(1200), 0);
        path.received(1250);
        assert_eq!(path.packets(1200), 3);
        path.sent(3600);
        assert_eq!(path.packets(1200), 0, "150 bytes are left, not a packet");
        path.received(350);
        assert_eq!(path.packets(1200), 1);
    }
}
