//! Who to be connected to, and what is sent there: one connection for each other node,
//! dialled again when it is lost. Datagrams, addresses and time come in; datagrams and
//! names to look up go out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use pinion_plane::{PeerName, PlaneMessage};
use pinion_quic::{
    ClientConfig, CloseReason, ConnId, Endpoint, EndpointError, Event, PathMeta, StreamId,
    TransmitMeta, WriteOutcome,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::credentials::Credentials;
use super::frames::{LANES, Lane};
use super::{CLOSE_NOT_WANTED, CLOSE_REPLACED, CLOSE_STOPPING, reason};

/// Nodes that are dialled; more than a cluster has.
const LINKS_MAX: usize = 128;

/// Bytes that wait for one lane to one node, besides what the transport holds (4 MiB).
/// Twice the largest frame: more only makes what arrives at last older.
const LANE_BYTES_MAX: usize = 4 << 20;

/// How long a connection may take to come about. Two tries of the handshake's first
/// packet, the second after a second (RFC 9002 §6.2.2).
const DIAL_TIMEOUT: Duration = Duration::from_secs(2);

/// The first pause after a failure, doubled with each further one, half of it by chance,
/// up to the last. A node that comes back waits for it at most so long.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_LAST: Duration = Duration::from_secs(1);

/// The longest pause before a node is dialled that was heard meanwhile: it is there. Not
/// none at all, because what is heard may come often and what is dialled may refuse.
const PAUSE_HEARD: Duration = Duration::from_millis(250);

/// A connection that lived so long was a good one: the next pause is the first again.
const STEADY: Duration = Duration::from_secs(1);

/// Presented in the handshake because TLS wants a name; peers go by certificates.
const SERVER_NAME: &str = "pinion";

/// The nodes that are to be reached, and their connections.
pub(super) struct Dialer {
    quic: Endpoint,
    credentials: Arc<Credentials>,
    mtu_max: u16,
    rng: StdRng,
    links: BTreeMap<PeerName, Link>,
    conns: BTreeMap<ConnId, PeerName>,
    /// Nodes whose connection was lost, or that were too slow for what they were sent.
    lost: BTreeSet<PeerName>,
}

struct Link {
    /// `host:port`.
    address: Box<str>,
    config: ClientConfig,
    state: State,
    failures: u32,
    lanes: [Queue; LANES],
    /// Something was dropped since the lane last had room.
    is_behind: bool,
}

enum State {
    /// To be dialled at this time; at once when there is none.
    Waiting(Option<Instant>),
    /// Its name is being looked up.
    Lookup,
    Dialling {
        conn: ConnId,
        give_up: Instant,
    },
    Up {
        conn: ConnId,
        since: Instant,
        streams: [Option<StreamId>; LANES],
    },
}

/// Frames that wait for a lane.
#[derive(Default)]
struct Queue {
    frames: VecDeque<Bytes>,
    bytes: usize,
}

impl Dialer {
    pub(super) fn new(
        credentials: Arc<Credentials>,
        mtu_max: u16,
        seed: [u8; 32],
    ) -> Result<Self, EndpointError> {
        Ok(Self {
            quic: Endpoint::client_with_mtu(seed, mtu_max)?,
            credentials,
            mtu_max,
            rng: StdRng::from_seed(seed),
            links: BTreeMap::new(),
            conns: BTreeMap::new(),
            lost: BTreeSet::new(),
        })
    }

    /// Whom to be connected to from now on, and where.
    pub(super) fn set(&mut self, now: Instant, peers: &[(PeerName, Box<str>)]) {
        let wanted: BTreeMap<&PeerName, &Box<str>> = peers
            .iter()
            .filter(|(name, _)| name != self.credentials.node())
            .map(|(name, address)| (name, address))
            .take(LINKS_MAX)
            .collect();
        let stays = |name: &PeerName, link: &Link| wanted.get(name) == Some(&&link.address);
        let gone: Vec<PeerName> = self
            .links
            .iter()
            .filter(|(name, link)| !stays(name, link))
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            let link = self.links.remove(&name).expect("found above");
            if let State::Dialling { conn, .. } | State::Up { conn, .. } = link.state {
                self.hang_up(now, conn, CLOSE_NOT_WANTED);
            }
        }
        for (name, address) in wanted {
            if self.links.contains_key(name) {
                continue;
            }
            match self.credentials.client(name, self.mtu_max) {
                Ok(config) => {
                    let link = Link {
                        address: address.clone(),
                        config,
                        state: State::Waiting(None),
                        failures: 0,
                        lanes: Default::default(),
                        is_behind: false,
                    };
                    self.links.insert(name.clone(), link);
                }
                // The same files were taken when the node started.
                Err(error) => tracing::error!(peer = %name, %error, "cannot dial"),
            }
        }
    }

    /// Queues a message. What finds no connection, or no room, is dropped: false.
    pub(super) fn send(&mut self, to: &PeerName, message: &PlaneMessage) -> bool {
        let Some(link) = self.links.get_mut(to) else {
            return false;
        };
        if !matches!(link.state, State::Up { .. }) {
            return false;
        }
        let lane = &mut link.lanes[Lane::of(message) as usize];
        let mut frame = Vec::new();
        message.encode(&mut frame);
        if lane.bytes + frame.len() <= LANE_BYTES_MAX {
            lane.bytes += frame.len();
            lane.frames.push_back(frame.into());
            return true;
        }
        if !std::mem::replace(&mut link.is_behind, true) {
            tracing::warn!(peer = %to, "a peer is too slow for what it is sent");
            self.lost.insert(to.clone());
        }
        false
    }

    /// A node was heard: if it waits to be dialled, it need not for long.
    pub(super) fn heard(&mut self, now: Instant, from: &PeerName) {
        if let Some(link) = self.links.get_mut(from)
            && let State::Waiting(Some(at)) = &mut link.state
        {
            *at = (*at).min(now + PAUSE_HEARD);
        }
    }

    /// A node that did not get everything that was sent to it, once for each loss.
    pub(super) fn poll_lost(&mut self) -> Option<PeerName> {
        self.lost.pop_first()
    }

    /// A name to look up; [`handle_address`](Self::handle_address) brings the answer.
    pub(super) fn poll_lookup(&mut self, now: Instant) -> Option<(PeerName, Box<str>)> {
        let is_due =
            |state: &State| matches!(state, State::Waiting(at) if at.is_none_or(|at| at <= now));
        let (name, link) = self
            .links
            .iter_mut()
            .find(|(_, link)| is_due(&link.state))?;
        link.state = State::Lookup;
        Some((name.clone(), link.address.clone()))
    }

    /// Where a node is; `None`: nobody knows.
    pub(super) fn handle_address(
        &mut self,
        now: Instant,
        name: &PeerName,
        address: &str,
        found: Option<SocketAddr>,
    ) {
        let Some(link) = self.links.get_mut(name) else {
            return;
        };
        if !matches!(link.state, State::Lookup) || *link.address != *address {
            return;
        }
        let conn = found.and_then(|remote| {
            self.quic
                .connect(now, &link.config, remote, SERVER_NAME, None)
                .inspect_err(|error| tracing::warn!(peer = %name, %error, "cannot dial"))
                .ok()
        });
        let Some(conn) = conn else {
            self.fail(now, &name.clone());
            return;
        };
        let give_up = now + DIAL_TIMEOUT;
        link.state = State::Dialling { conn, give_up };
        self.conns.insert(conn, name.clone());
    }

    pub(super) fn handle_datagram(&mut self, now: Instant, remote: SocketAddr, data: &[u8]) {
        let meta = PathMeta {
            remote,
            local_ip: None,
            ecn: None,
        };
        self.quic.handle_datagram(now, meta, BytesMut::from(data));
    }

    /// Everything that is due and everything that waits, after datagrams were handed in.
    pub(super) fn turn(&mut self, now: Instant) {
        if self.quic.next_deadline().is_some_and(|at| at <= now) {
            self.quic.handle_timeout(now);
        }
        let overdue: Vec<ConnId> = self
            .links
            .values()
            .filter_map(|link| match link.state {
                State::Dialling { conn, give_up } if give_up <= now => Some(conn),
                _ => None,
            })
            .collect();
        for conn in overdue {
            self.quic
                .close(now, conn, CLOSE_NOT_WANTED, b"no answer in time");
        }
        while let Some(event) = self.quic.poll_event() {
            self.take(now, event);
        }
        for link in self.links.values_mut() {
            link.flush(&mut self.quic);
        }
    }

    pub(super) fn poll_transmit(
        &mut self,
        now: Instant,
        into: &mut Vec<u8>,
    ) -> Option<TransmitMeta> {
        self.quic.poll_transmit(now, 1, into)
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let links = self.links.values().filter_map(|link| match link.state {
            State::Waiting(at) => at,
            State::Dialling { give_up, .. } => Some(give_up),
            State::Lookup | State::Up { .. } => None,
        });
        links.chain(self.quic.next_deadline()).min()
    }

    /// Whether [`turn`](Self::turn) has something to do at once.
    pub(super) fn has_work(&self) -> bool {
        self.links
            .values()
            .any(|link| matches!(link.state, State::Waiting(None)))
    }

    /// The node stops: the others are told at once.
    pub(super) fn close(&mut self, now: Instant) {
        self.links.clear();
        self.conns.clear();
        self.lost.clear();
        self.quic
            .close_all(now, CLOSE_STOPPING, reason(CLOSE_STOPPING).as_bytes());
    }

    fn take(&mut self, now: Instant, event: Event) {
        let (Event::Connected { conn, .. }
        | Event::StreamsAvailable { conn, .. }
        | Event::StreamStopped { conn, .. }
        | Event::Closed { conn, .. }) = &event
        else {
            // The other node opens no streams, and what waits is offered in every turn.
            return;
        };
        let conn = *conn;
        let Some(name) = self.conns.get(&conn).cloned() else {
            return;
        };
        match event {
            Event::Connected { .. } | Event::StreamsAvailable { .. } => {
                if let Some(link) = self.links.get_mut(&name) {
                    link.open(now, conn, &mut self.quic);
                }
            }
            Event::StreamStopped { .. } => {
                // A lane lasts as long as its connection; its end follows.
                self.quic
                    .close(now, conn, CLOSE_NOT_WANTED, b"a lane was stopped");
            }
            Event::Closed { reason, .. } => {
                self.conns.remove(&conn);
                let failures = self.links.get(&name).map_or(0, |link| link.failures);
                // A node that has started takes its sockets from where it began.
                let expected = matches!(&reason, CloseReason::Peer { code, .. }
                    if *code == u64::from(CLOSE_REPLACED));
                if failures == 0 && !expected {
                    tracing::warn!(peer = %name, %reason, "no connection to a peer");
                } else {
                    tracing::debug!(peer = %name, %reason, failures, "no connection to a peer");
                }
                self.fail(now, &name);
            }
            _ => {}
        }
    }

    /// There is no connection to a node (any more).
    fn fail(&mut self, now: Instant, name: &PeerName) {
        let Some(link) = self.links.get_mut(name) else {
            return;
        };
        if let State::Up { since, .. } = link.state {
            self.lost.insert(name.clone());
            if now.saturating_duration_since(since) >= STEADY {
                link.failures = 0;
            }
        }
        let pause = PAUSE_FIRST
            .saturating_mul(1 << link.failures.min(16))
            .min(PAUSE_LAST);
        let by_chance = self.rng.random_range(0.5..=1.0);
        link.failures = link.failures.saturating_add(1);
        link.state = State::Waiting(Some(now + pause.mul_f64(by_chance)));
        // Half of a frame may have been sent: the rest is of no use to anybody.
        link.lanes = Default::default();
        link.is_behind = false;
    }

    fn hang_up(&mut self, now: Instant, conn: ConnId, code: u32) {
        self.conns.remove(&conn);
        self.quic.close(now, conn, code, reason(code).as_bytes());
    }
}

impl Link {
    /// The connection stands, or more streams may be opened.
    fn open(&mut self, now: Instant, conn: ConnId, quic: &mut Endpoint) {
        if !matches!(self.state, State::Up { .. }) {
            let streams = [None; LANES];
            let since = now;
            self.state = State::Up {
                conn,
                since,
                streams,
            };
        }
        let State::Up { streams, .. } = &mut self.state else {
            return;
        };
        for lane in Lane::ALL {
            if streams[lane as usize].is_some() {
                continue;
            }
            let Some(stream) = quic.open_uni(conn) else {
                return;
            };
            let hello = lane.hello();
            let queue = &mut self.lanes[lane as usize];
            queue.bytes += hello.len();
            queue.frames.push_front(hello);
            streams[lane as usize] = Some(stream);
            // Only an ended connection refuses; its end is told.
            let _ = quic.set_priority(conn, stream, lane.priority());
        }
    }

    /// Gives the transport what it takes.
    fn flush(&mut self, quic: &mut Endpoint) {
        let State::Up { conn, streams, .. } = self.state else {
            return;
        };
        for (queue, stream) in self.lanes.iter_mut().zip(streams) {
            let Some(stream) = stream else { continue };
            while let Some(frame) = queue.frames.front_mut() {
                match quic.write(conn, stream, frame) {
                    WriteOutcome::Written(taken) => {
                        frame.advance(taken);
                        queue.bytes -= taken;
                        if frame.is_empty() {
                            queue.frames.pop_front();
                        }
                    }
                    // Its end is told by an event.
                    WriteOutcome::Blocked | WriteOutcome::Stopped(_) | WriteOutcome::Gone => break,
                }
            }
        }
        if self.lanes.iter().all(|queue| queue.frames.is_empty()) {
            self.is_behind = false;
        }
    }
}
