//! The endpoint: datagrams, deadlines and application calls in; events and
//! datagrams out. `arrival.rs` takes datagrams in,
//! `pump.rs` turns quinn-proto's events into ours, `streams.rs` has the stream operations.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use quinn_proto::{
    ConnectionHandle, DatagramEvent, Dir, EcnCodepoint, EndpointConfig, Transmit, VarInt,
};
use rand::{SeedableRng, rngs::StdRng};
use rustls_pki_types::CertificateDer;

use crate::admission::Admission;
use crate::cid::{CID_LEN, CoreCids, Steering};
use crate::config::{ClientConfig, CorePlace, EndpointError, ServerConfig};
use crate::connection::{Amplification, Conn};
use crate::event::{CloseReason, ConnId, Event};
use crate::keys::{self, TokenClock};
use crate::stats::Stats;
use crate::timers::Timers;
use crate::transport;

/// Stateless answers (Retry, version negotiation, reset, refusal) waiting to be
/// sent. Beyond this the oldest pressure wins: new ones are dropped and counted,
/// and the peer's retransmission asks again.
pub const RESPONSES_MAX: usize = 1024;

/// Largest UDP payload of IPv4, which bounds one segmented send as well.
pub(crate) const UDP_PAYLOAD_MAX: usize = 65_507;

/// Most segments Linux takes in one `UDP_SEGMENT` send (`UDP_MAX_SEGMENTS` of old
/// kernels).
pub(crate) const GSO_SEGMENTS_MAX: usize = 64;

/// Where a datagram came from, as the kernel told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathMeta {
    /// The peer.
    pub remote: SocketAddr,
    /// The local address it was sent to, when known.
    pub local_ip: Option<IpAddr>,
    /// The two ECN bits, when known.
    pub ecn: Option<u8>,
}

/// How to send what [`Endpoint::poll_transmit`] wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransmitMeta {
    /// Where to.
    pub destination: SocketAddr,
    /// Which local address to send from.
    pub source_ip: Option<IpAddr>,
    /// The two ECN bits to set.
    pub ecn: Option<u8>,
    /// Bytes in the buffer.
    pub len: usize,
    /// Present when the buffer holds several datagrams: all of this size but the
    /// last, which may be shorter.
    pub segment_size: Option<usize>,
}

/// Why a connection could not be begun.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The server name is not a DNS name or an IP address.
    #[error("{0:?} is not a server name")]
    ServerName(String),
    /// The address cannot be connected to (port 0, unspecified).
    #[error("cannot connect to {0}")]
    Remote(SocketAddr),
    /// The endpoint takes smaller packets than the configuration asks for.
    #[error("the endpoint takes {endpoint} byte packets, the configuration asks for {config}")]
    Mtu {
        /// What the endpoint was made with.
        endpoint: u16,
        /// What the configuration asks for.
        config: u16,
    },
    /// The target core does not exist.
    #[error("core {core} is outside 0..{cores}")]
    Core {
        /// The core asked for.
        core: u16,
        /// How many there are.
        cores: u16,
    },
    /// `connections_max` reached, or the endpoint is draining.
    #[error("no room for another connection")]
    Full,
}

#[derive(Default)]
pub(crate) struct Slot {
    pub(crate) generation: u32,
    pub(crate) conn: Option<Box<Conn>>,
    /// The peer has closed the connection and its state is gone: only its ids are
    /// kept, until here, so that packets still on their way are not answered.
    pub(crate) drained_at: Option<Instant>,
}

/// A QUIC endpoint without socket, clock or randomness of its own.
///
/// Owned by one core (server) or one thread (client). Drive it so:
/// `handle_datagram` for everything received, `handle_timeout` when
/// [`next_deadline`](Self::next_deadline) is due, `poll_event` until `None` and the
/// application's calls, then `poll_transmit` until `None`. `now` never goes back.
pub struct Endpoint {
    pub(crate) inner: quinn_proto::Endpoint,
    pub(crate) slots: Vec<Slot>,
    /// Connections that may have something to send, each at most once, in turn.
    pub(crate) transmit_queue: VecDeque<u32>,
    /// Connections that may have something to tell, each at most once.
    pub(crate) event_queue: VecDeque<u32>,
    pub(crate) events: VecDeque<Event>,
    pub(crate) timers: Timers,
    /// Reused by `handle_timeout`.
    pub(crate) due: Vec<u32>,
    pub(crate) responses: VecDeque<(TransmitMeta, Vec<u8>)>,
    /// Buffers of responses already sent, for the next ones.
    pub(crate) spare: Vec<Vec<u8>>,
    pub(crate) scratch: Vec<u8>,
    pub(crate) admission: Admission,
    pub(crate) place: CorePlace,
    pub(crate) clock: Option<Arc<TokenClock>>,
    pub(crate) dcid_rng: StdRng,
    pub(crate) mtu_max: u16,
    pub(crate) stats: Stats,
}

impl Endpoint {
    /// A server endpoint for one core; it can connect outwards as well. Two
    /// endpoints with the same inputs and `seed` do the same things in the same
    /// order (TLS keys, which ring draws itself, excepted), so give each core its own.
    pub fn server(
        config: &ServerConfig,
        place: CorePlace,
        seed: [u8; 32],
    ) -> Result<Self, EndpointError> {
        let clock = Arc::new(TokenClock::new(config.clock));
        let server = config.build(Arc::clone(&clock))?;
        let admission = Admission::new(config.limits.clone(), keys::derive(&seed, "admission"));
        let mut endpoint = Self::new(
            &seed,
            &config.node_secret,
            place,
            config.mtu_max,
            admission,
            Some(Arc::new(server)),
        )?;
        endpoint.clock = Some(clock);
        Ok(endpoint)
    }

    /// A client endpoint for Ethernet-sized packets.
    pub fn client(seed: [u8; 32]) -> Result<Self, EndpointError> {
        Self::client_with_mtu(seed, transport::MTU_ETHERNET)
    }

    /// A client endpoint that takes UDP payloads up to `mtu_max`.
    pub fn client_with_mtu(seed: [u8; 32], mtu_max: u16) -> Result<Self, EndpointError> {
        let place = CorePlace {
            steering: Steering::new(0, 1, 1)?,
            core: 0,
        };
        let admission = Admission::new(
            crate::Limits {
                prefixes_max: 1,
                ..Default::default()
            },
            seed,
        );
        Self::new(
            &seed,
            &keys::derive(&seed, "client secret"),
            place,
            mtu_max,
            admission,
            None,
        )
    }

    fn new(
        seed: &[u8; 32],
        secret: &[u8; 32],
        place: CorePlace,
        mtu_max: u16,
        admission: Admission,
        server: Option<Arc<quinn_proto::ServerConfig>>,
    ) -> Result<Self, EndpointError> {
        let cid_seed = keys::derive(seed, "connection ids");
        CoreCids::new(place.steering, place.core, cid_seed)?;
        let mut config = EndpointConfig::new(keys::reset_key(secret));
        config
            .rng_seed(Some(keys::derive(seed, "quinn-proto")))
            .cid_generator(move || {
                Box::new(
                    CoreCids::new(place.steering, place.core, cid_seed)
                        .expect("checked when the endpoint was made"),
                )
            })
            .max_udp_payload_size(mtu_max.max(transport::MTU_ETHERNET))
            .map_err(|_| EndpointError::Mtu { mtu_max })?;
        if mtu_max < transport::MTU_INITIAL {
            return Err(EndpointError::Mtu { mtu_max });
        }
        Ok(Self {
            inner: quinn_proto::Endpoint::new(Arc::new(config), server, true, None),
            slots: Vec::new(),
            transmit_queue: VecDeque::new(),
            event_queue: VecDeque::new(),
            events: VecDeque::new(),
            timers: Timers::default(),
            due: Vec::new(),
            responses: VecDeque::new(),
            spare: Vec::new(),
            scratch: Vec::new(),
            admission,
            place,
            clock: None,
            dcid_rng: StdRng::from_seed(keys::derive(seed, "initial destination ids")),
            mtu_max,
            stats: Stats::default(),
        })
    }

    /// The core that owns a datagram by its destination connection id, as the BPF
    /// program computes it. `None`: too short to tell, so nobody can use it.
    #[inline]
    pub fn owner(&self, datagram: &[u8]) -> Option<u16> {
        self.place.steering.owner(datagram)
    }

    /// Begins a connection. With `target` the first packets carry a destination id
    /// that the server's kernel hands to that core.
    ///
    /// With a remembered session, streams may be opened and written at once; the data
    /// travels as 0-RTT (see [`early_data_accepted`](Self::early_data_accepted)).
    pub fn connect(
        &mut self,
        now: Instant,
        config: &ClientConfig,
        remote: SocketAddr,
        server_name: &str,
        target: Option<CorePlace>,
    ) -> Result<ConnId, ConnectError> {
        if config.mtu_max > self.mtu_max {
            return Err(ConnectError::Mtu {
                endpoint: self.mtu_max,
                config: config.mtu_max,
            });
        }
        if self.stats.connections >= self.admission.limits().connections_max {
            return Err(ConnectError::Full);
        }
        let target = target.unwrap_or(CorePlace {
            steering: Steering::new(0, 1, 1).expect("one core, odd key"),
            core: 0,
        });
        if target.core >= target.steering.cores() {
            return Err(ConnectError::Core {
                core: target.core,
                cores: target.steering.cores(),
            });
        }
        let dcid: [u8; CID_LEN] = target
            .steering
            .cid_for_core(target.core, &mut self.dcid_rng);
        let mut inner = config.inner.clone();
        inner.initial_dst_cid_provider(Arc::new(move || quinn_proto::ConnectionId::new(&dcid)));
        let (handle, connection) = self
            .inner
            .connect(now, inner, remote, server_name)
            .map_err(|error| match error {
                quinn_proto::ConnectError::InvalidServerName(name) => {
                    ConnectError::ServerName(name)
                }
                quinn_proto::ConnectError::InvalidRemoteAddress(remote) => {
                    ConnectError::Remote(remote)
                }
                // Version, ids and configuration are ours and always fit.
                _ => ConnectError::Full,
            })?;
        let slot = self.insert(handle, connection, None, Some(now));
        Ok(self.id_of(slot))
    }

    /// Takes one received UDP payload. Anything may be in it.
    pub fn handle_datagram(&mut self, now: Instant, meta: PathMeta, data: BytesMut) {
        if let Some(clock) = &self.clock {
            clock.advance(now);
        }
        self.stats.datagrams_received += 1;
        if self.place.steering.cores() > 1
            && self
                .owner(&data)
                .is_some_and(|core| core != self.place.core)
        {
            self.stats.strays += 1;
        }
        let len = data.len();
        let handshake_packet = is_handshake_packet(&data);
        let ecn = meta.ecn.and_then(EcnCodepoint::from_bits);
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        match self
            .inner
            .handle(now, meta.remote, meta.local_ip, ecn, data, &mut scratch)
        {
            None => self.stats.datagrams_dropped += 1,
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                self.deliver(handle, event, len, handshake_packet);
            }
            Some(DatagramEvent::NewConnection(incoming)) => {
                self.admit(now, incoming, len, &mut scratch);
            }
            Some(DatagramEvent::Response(transmit)) => {
                self.stats.stateless_responses += 1;
                self.respond(&transmit, &scratch);
            }
        }
        self.scratch = scratch;
    }

    /// Fires every due timer.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some(clock) = &self.clock {
            clock.advance(now);
        }
        // Collected first: a connection whose new deadline is due at once waits for
        // the next call, so one connection can never hold the core here.
        let mut due = std::mem::take(&mut self.due);
        while let Some((at, slot)) = self.timers.first() {
            if at > now {
                break;
            }
            self.timers.set(slot, None);
            due.push(slot);
        }
        for slot in due.drain(..) {
            let place = &mut self.slots[slot as usize];
            let Some(conn) = place.conn.as_deref_mut() else {
                if place.drained_at.is_some() {
                    self.forget(slot);
                }
                continue;
            };
            conn.inner.handle_timeout(now);
            let late = conn
                .handshake_deadline
                .is_some_and(|deadline| deadline <= now);
            if late {
                conn.handshake_deadline = None;
                conn.inner.close(now, VarInt::from_u32(0), Bytes::new());
                self.stats.handshakes_timed_out += 1;
                self.end(slot, CloseReason::HandshakeTimeout);
            }
            self.touch(slot);
            self.update_timer(slot);
        }
        self.due = due;
    }

    /// When [`handle_timeout`](Self::handle_timeout) is next needed.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| at)
    }

    /// The next event, connection by connection.
    pub fn poll_event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            let slot = self.event_queue.pop_front()?;
            if let Some(conn) = self.slots[slot as usize].conn.as_deref_mut() {
                conn.events_queued = false;
            }
            self.pump(slot);
        }
    }

    /// Writes the next datagrams to send into `buf`, which is cleared first: at most
    /// `gso_max` of one connection. Connections take turns. Call until `None`.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        gso_max: usize,
        buf: &mut Vec<u8>,
    ) -> Option<TransmitMeta> {
        buf.clear();
        if let Some((meta, bytes)) = self.responses.pop_front() {
            buf.extend_from_slice(&bytes);
            self.spare.push(bytes);
            return Some(meta);
        }
        while let Some(slot) = self.transmit_queue.pop_front() {
            let Some(conn) = self.slots[slot as usize].conn.as_deref_mut() else {
                continue;
            };
            conn.transmit_queued = false;
            let mtu = conn.inner.current_mtu();
            // A segmented send is one UDP payload to the kernel, so all segments
            // together must fit one; otherwise every send fails with EMSGSIZE, which
            // looks like loss.
            let mut segments = gso_max
                .min(UDP_PAYLOAD_MAX / usize::from(mtu))
                .clamp(1, GSO_SEGMENTS_MAX);
            if let Some(amplification) = &conn.amplification {
                let packets = amplification.packets(mtu);
                if packets == 0 {
                    self.stats.amplification_holds += 1;
                    self.update_timer(slot);
                    continue;
                }
                segments = segments.min(packets);
            }
            let transmit = conn.inner.poll_transmit(now, segments, buf);
            if let Some(transmit) = &transmit {
                if let Some(amplification) = &mut conn.amplification {
                    amplification.sent(transmit.size);
                }
                conn.transmit_queued = true;
                self.transmit_queue.push_back(slot);
            } else if conn.inner.is_closed() {
                self.queue_events(slot);
            }
            self.update_timer(slot);
            if let Some(transmit) = transmit {
                return Some(meta_of(&transmit));
            }
        }
        None
    }

    /// Closes a connection: the peer is told `code` and `reason`, what was not yet
    /// acknowledged may be lost. [`Event::Closed`] follows.
    pub fn close(&mut self, now: Instant, conn: ConnId, code: u32, reason: &[u8]) {
        let Some(open) = self.conn_mut(conn) else {
            return;
        };
        open.inner
            .close(now, VarInt::from_u32(code), Bytes::copy_from_slice(reason));
        self.end(conn.slot, CloseReason::Local);
        self.touch(conn.slot);
        self.update_timer(conn.slot);
    }

    /// [`close`](Self::close) for every connection.
    pub fn close_all(&mut self, now: Instant, code: u32, reason: &[u8]) {
        for slot in 0..self.slots.len() {
            let slot = u32::try_from(slot).expect("slots are counted in u32");
            self.close(now, self.id_of(slot), code, reason);
        }
    }

    /// While set, new connections are refused with CONNECTION_REFUSED: the first step
    /// of a drain. Those that exist go on.
    pub fn refuse_new(&mut self, refuse: bool) {
        self.admission.refuse_new(refuse);
    }

    /// Whether nothing is left to send or to wait for: every connection is gone,
    /// closing ones included.
    pub fn is_idle(&self) -> bool {
        self.stats.connections == 0 && self.responses.is_empty()
    }

    /// The peer's address as of the last migration.
    pub fn remote(&self, conn: ConnId) -> Option<SocketAddr> {
        self.conn(conn).map(|conn| conn.inner.remote_address())
    }

    /// Smoothed round-trip time.
    pub fn rtt(&self, conn: ConnId) -> Option<Duration> {
        self.conn(conn).map(|conn| conn.inner.rtt())
    }

    /// Largest UDP payload now sent to this peer.
    pub fn current_mtu(&self, conn: ConnId) -> Option<u16> {
        self.conn(conn).map(|conn| conn.inner.current_mtu())
    }

    /// quinn-proto's counters of one connection.
    pub fn connection_stats(&self, conn: ConnId) -> Option<quinn_proto::ConnectionStats> {
        self.conn(conn).map(|conn| conn.inner.stats())
    }

    /// Client: whether streams may be opened before `Connected` (a session is remembered).
    pub fn has_early_data(&self, conn: ConnId) -> bool {
        self.conn(conn).is_some_and(|conn| conn.inner.has_0rtt())
    }

    /// Client, after `Connected`: whether the server took the early data. If not,
    /// streams opened before are gone and nothing on them was seen.
    pub fn early_data_accepted(&self, conn: ConnId) -> bool {
        self.conn(conn)
            .is_some_and(|conn| conn.inner.accepted_0rtt())
    }

    /// Changes what the peer may have in flight to us over all streams.
    pub fn set_receive_window(&mut self, conn: ConnId, bytes: u32) {
        if let Some(open) = self.conn_mut(conn) {
            open.inner.set_receive_window(VarInt::from_u32(bytes));
            self.queue_transmit(conn.slot);
        }
    }

    /// Counters and gauges.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    pub(crate) fn insert(
        &mut self,
        handle: ConnectionHandle,
        connection: quinn_proto::Connection,
        amplification: Option<Amplification>,
        client_since: Option<Instant>,
    ) -> u32 {
        let slot = slot_of(handle);
        if handle.0 >= self.slots.len() {
            self.slots.resize_with(handle.0 + 1, Slot::default);
        }
        let place = &mut self.slots[handle.0].conn;
        assert!(place.is_none(), "quinn-proto gave out slot {slot} twice");
        *place = Some(Box::new(Conn {
            inner: connection,
            announced: client_since.is_some(),
            ended: false,
            peer_closed: false,
            handshaking: true,
            handshake_deadline: None,
            amplification,
            transmit_queued: false,
            events_queued: false,
        }));
        self.stats.connections += 1;
        self.stats.handshakes += 1;
        self.touch(slot);
        self.update_timer(slot);
        slot
    }

    pub(crate) fn touch(&mut self, slot: u32) {
        self.queue_transmit(slot);
        self.queue_events(slot);
    }

    pub(crate) fn queue_transmit(&mut self, slot: u32) {
        if let Some(conn) = self.slots[slot as usize].conn.as_deref_mut()
            && !std::mem::replace(&mut conn.transmit_queued, true)
        {
            self.transmit_queue.push_back(slot);
        }
    }

    pub(crate) fn queue_events(&mut self, slot: u32) {
        if let Some(conn) = self.slots[slot as usize].conn.as_deref_mut()
            && !std::mem::replace(&mut conn.events_queued, true)
        {
            self.event_queue.push_back(slot);
        }
    }

    pub(crate) fn update_timer(&mut self, slot: u32) {
        if let Some(conn) = self.slots[slot as usize].conn.as_deref_mut() {
            let deadline = conn.deadline();
            self.timers.set(slot, deadline);
        }
    }

    pub(crate) fn id_of(&self, slot: u32) -> ConnId {
        ConnId {
            slot,
            generation: self.slots[slot as usize].generation,
        }
    }

    fn conn(&self, id: ConnId) -> Option<&Conn> {
        let slot = self
            .slots
            .get(id.slot as usize)
            .filter(|slot| slot.generation == id.generation)?;
        slot.conn.as_deref().filter(|conn| !conn.ended)
    }

    /// What the peer showed, leaf first: nothing when it was not asked to, or had nothing
    /// to show. A server knows it from [`Event::Connected`] that is not `early`, or from
    /// [`Event::Confirmed`].
    pub fn peer_certificates(&self, conn: ConnId) -> Vec<CertificateDer<'static>> {
        self.conn(conn)
            .and_then(|conn| conn.inner.crypto_session().peer_identity())
            .and_then(|found| found.downcast().ok())
            .map_or_else(Vec::new, |found| *found)
    }

    /// Lets the peer have up to `streams` streams open that only it sends on, instead of
    /// what the transport parameters say. Never less than what it was promised.
    pub fn allow_uni_streams(&mut self, conn: ConnId, streams: u32) {
        if let Some(open) = self.conn_mut(conn) {
            open.inner
                .set_max_concurrent_streams(Dir::Uni, VarInt::from_u32(streams));
            self.queue_transmit(conn.slot);
        }
    }

    pub(crate) fn conn_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        let slot = self
            .slots
            .get_mut(id.slot as usize)
            .filter(|slot| slot.generation == id.generation)?;
        slot.conn.as_deref_mut().filter(|conn| !conn.ended)
    }
}

pub(crate) fn slot_of(handle: ConnectionHandle) -> u32 {
    u32::try_from(handle.0).expect("connections are bounded far below 2^32")
}

/// Long header of type Handshake in QUIC version 1 (RFC 9000 §17.2). The type bits
/// are not under header protection.
fn is_handshake_packet(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|first| first & 0xb0 == 0xa0)
}

pub(crate) fn meta_of(transmit: &Transmit) -> TransmitMeta {
    TransmitMeta {
        destination: transmit.destination,
        source_ip: transmit.src_ip,
        ecn: transmit.ecn.map(|ecn| ecn as u8),
        len: transmit.size,
        segment_size: transmit.segment_size,
    }
}
