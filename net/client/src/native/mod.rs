//! The native client: for those who live by their p99.
//!
//! One thread, no runtime, no locks, no sleeping: it spins on a non-blocking
//! UDP socket and drives the same sans-io QUIC endpoint as the server does. A
//! request in flight costs two system calls and no heap allocation once its
//! buffers have grown. It gives up comfort for that: no reconnecting, no
//! retries, no batching by time, and a thread that is always busy. Most
//! applications want [`Client`](crate::Client) instead.
//!
//! A turn is [`poll`](NativeClient::poll), then any number of
//! [`submit`](NativeClient::submit)s, then [`flush`](NativeClient::flush):
//!
//! ```no_run
//! use std::time::{Duration, Instant};
//! use pinion_client::native::{NativeClient, NativeConfig, Received};
//! use pinion_wire::message::{Ping, Request};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let ca = std::fs::read("pinion-data/dev/ca.pem")?;
//! let token = std::fs::read("pinion-data/dev/client.token")?;
//! let server = "127.0.0.1:8080".parse()?;
//! let mut client = NativeClient::new(NativeConfig::new(server, "localhost", &ca, &token))?;
//! let link = client.connect(None, Duration::from_secs(5))?;
//! let sent = client.submit(link, &Request::Ping(Ping { payload: b"hello" }))?;
//! let mut answered = false;
//! while !answered {
//!     let now = Instant::now();
//!     client.poll(now, |received| {
//!         if let Received::Reply { correlation, .. } = received {
//!             answered = correlation == sent;
//!         }
//!     })?;
//!     client.flush(now)?;
//! }
//! # Ok(()) }
//! ```
//!
//! What it never does: open a second socket, start a thread, or hold more than
//! [`OUT_BYTES_MAX`] and one frame of unsent requests per connection.

mod frames;
mod link;
mod socket;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use pinion_quic::{
    ClientConfig, CloseReason, ConnId, ConnectError, CorePlace, Endpoint, EndpointError, Event,
    Outbox, PathMeta, Steering, StreamId, tls, transport,
};
use pinion_types::{Refusal, SubscriptionId};
use pinion_wire::message::{Reply, Request, Welcome};
use pinion_wire::{DecodeError, EncodeError};
use rand::TryRng;

pub use link::{LinkState, OUT_BYTES_MAX};
pub use socket::{Offload, offload};

use link::{CLOSE_PROTOCOL, Link};
use socket::{Arrival, Sent, Socket};

/// Longest sleep of [`NativeClient::wait`].
const WAIT_MAX: Duration = Duration::from_secs(1);

/// What a [`NativeClient`] needs to know. The token is never shown by `Debug`.
#[derive(Clone)]
pub struct NativeConfig {
    server: SocketAddr,
    server_name: String,
    roots_pem: Vec<u8>,
    token: Vec<u8>,
    client_name: String,
    local: Option<SocketAddr>,
    mtu_max: u16,
}

impl std::fmt::Debug for NativeConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NativeConfig")
            .field("server", &self.server)
            .field("server_name", &self.server_name)
            .field("client_name", &self.client_name)
            .field("local", &self.local)
            .field("mtu_max", &self.mtu_max)
            .finish_non_exhaustive()
    }
}

impl NativeConfig {
    /// A node at `server` whose certificate names `server_name` and is signed
    /// by one of `roots_pem`; `token` as the operator gave it (white space at
    /// its ends is dropped).
    #[must_use]
    pub fn new(server: SocketAddr, server_name: &str, roots_pem: &[u8], token: &[u8]) -> Self {
        Self {
            server,
            server_name: server_name.to_owned(),
            roots_pem: roots_pem.to_vec(),
            token: token.trim_ascii().to_vec(),
            client_name: "pinion-native".to_owned(),
            local: None,
            // Loopback carries jumbo packets; elsewhere probing for them only
            // costs lost probes.
            mtu_max: if server.ip().is_loopback() {
                transport::MTU_JUMBO
            } else {
                transport::MTU_ETHERNET
            },
        }
    }

    /// The name the server's logs show, at most 255 bytes.
    #[must_use]
    pub fn client_name(mut self, name: &str) -> Self {
        self.client_name = name.to_owned();
        self
    }

    /// Binds the socket to `local` instead of any free port.
    #[must_use]
    pub const fn local(mut self, local: SocketAddr) -> Self {
        self.local = Some(local);
        self
    }

    /// Tries UDP payloads up to `bytes`, 1200 to 65,527.
    #[must_use]
    pub const fn mtu_max(mut self, bytes: u16) -> Self {
        self.mtu_max = bytes;
        self
    }
}

/// One connection of a [`NativeClient`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LinkId(ConnId);

/// What arrived. The bytes are borrowed from the receive path: decode or copy
/// them before returning.
#[derive(Debug)]
pub enum Received<'a> {
    /// The answer to a request.
    Reply {
        /// On which connection.
        link: LinkId,
        /// As [`NativeClient::submit`] gave it.
        correlation: u32,
        /// What kind of answer.
        opcode: u8,
        /// Its bytes; [`Reply::decode`] reads them.
        body: &'a [u8],
    },
    /// A frame of a subscription or watch.
    Delivery {
        /// On which connection.
        link: LinkId,
        /// Which subscription.
        subscription: SubscriptionId,
        /// What kind of frame.
        opcode: u8,
        /// Its bytes; [`Delivery::decode`](pinion_wire::message::Delivery::decode) reads them.
        body: &'a [u8],
    },
    /// The connection is over; what it had in flight has an unknown outcome.
    Closed {
        /// Which connection.
        link: LinkId,
        /// Why.
        reason: &'a CloseReason,
    },
}

/// An answer that was waited for, with its bytes.
#[derive(Clone, Debug)]
pub struct OwnedReply {
    opcode: u8,
    body: Vec<u8>,
}

impl OwnedReply {
    /// The answer. A refusal is [`Reply::Error`].
    ///
    /// # Errors
    /// The server broke the protocol.
    pub fn decode(&self) -> Result<Reply<'_>, DecodeError> {
        Reply::decode(self.opcode, &self.body)
    }
}

/// Why a request was not taken. Nothing was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The connection is not (or no longer) welcomed by the server.
    #[error("the connection is not ready")]
    NotReady,
    /// Too many requests await their answers. Poll, then try again.
    #[error("{limit} requests are in flight, the server takes no more")]
    InFlight {
        /// The server's bound.
        limit: u32,
    },
    /// Too many bytes wait for the transport. Flush and poll, then try again.
    #[error("{limit} bytes wait to be written")]
    Full {
        /// [`OUT_BYTES_MAX`].
        limit: usize,
    },
    /// A field of the request does not fit its frame.
    #[error(transparent)]
    Encode(EncodeError),
}

/// Why the client could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum NativeError {
    /// The socket failed.
    #[error("UDP socket: {0}")]
    Socket(#[from] io::Error),
    /// The roots are not usable.
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    /// The endpoint cannot be made as configured.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The connection cannot be begun.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A request was not taken.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// The system gave no randomness.
    #[error("no randomness from the system")]
    Randomness,
    /// A core can be aimed at only after one connection has learnt the keys.
    #[error("connect once without a target core first")]
    SteeringUnknown,
    /// The server refused the HELLO.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// The connection ended.
    #[error("connection closed: {0}")]
    Closed(CloseReason),
    /// Nothing came in time. A request's outcome is unknown.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
}

/// A single-threaded client with any number of connections to one node over
/// one socket. It belongs to the thread that drives it.
pub struct NativeClient {
    config: NativeConfig,
    quic: ClientConfig,
    endpoint: Endpoint,
    socket: Socket,
    links: Vec<Option<Link>>,
    steering: Option<Steering>,
    readable: VecDeque<(ConnId, StreamId)>,
    dirty: Vec<ConnId>,
    outbox: Outbox,
}

impl NativeClient {
    /// Binds a socket. Nothing is sent yet.
    ///
    /// # Errors
    /// The roots are not PEM certificates, or no socket is to be had.
    pub fn new(config: NativeConfig) -> Result<Self, NativeError> {
        let tls = tls::client_config_pem(&config.roots_pem)?;
        let mut seed = [0; 32];
        rand::rngs::SysRng
            .try_fill_bytes(&mut seed)
            .map_err(|_| NativeError::Randomness)?;
        let any: IpAddr = match config.server {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let local = config.local.unwrap_or(SocketAddr::new(any, 0));
        Ok(Self {
            quic: ClientConfig::new(tls)?.with_mtu_max(config.mtu_max),
            endpoint: Endpoint::client_with_mtu(seed, config.mtu_max)?,
            socket: Socket::bind(local)?,
            links: Vec::new(),
            steering: None,
            readable: VecDeque::new(),
            dirty: Vec::new(),
            outbox: Outbox::default(),
            config,
        })
    }

    /// Connects and waits for WELCOME, spinning; other connections are served
    /// meanwhile, but what arrives for them is dropped, so connect before
    /// submitting. With `core` the connection is aimed at that data core.
    ///
    /// # Errors
    /// As [`NativeError`]; after an error the connection is closed.
    pub fn connect(
        &mut self,
        core: Option<u16>,
        patience: Duration,
    ) -> Result<LinkId, NativeError> {
        let started = Instant::now();
        let link = self.begin_connect(core)?;
        loop {
            let now = Instant::now();
            self.poll(now, |_| {})?;
            self.flush(now)?;
            match self.state(link) {
                Some(LinkState::Ready(_)) => return Ok(link),
                Some(LinkState::Refused(refusal)) => return Err(NativeError::Refused(*refusal)),
                Some(LinkState::Closed(reason)) => return Err(NativeError::Closed(reason.clone())),
                None => return Err(NativeError::Closed(CloseReason::Local)),
                Some(LinkState::Connecting | LinkState::Greeting) => {}
            }
            if now.duration_since(started) > patience {
                self.close(link);
                return Err(NativeError::TimedOut(patience));
            }
            self.wait(Duration::from_millis(1))?;
        }
    }

    /// Begins a connection without waiting; [`state`](Self::state) tells how far
    /// it has come.
    ///
    /// # Errors
    /// [`NativeError::Connect`] or [`NativeError::SteeringUnknown`].
    pub fn begin_connect(&mut self, core: Option<u16>) -> Result<LinkId, NativeError> {
        let target = match (core, self.steering) {
            (None, _) => None,
            (Some(core), Some(steering)) => Some(CorePlace { steering, core }),
            (Some(_), None) => return Err(NativeError::SteeringUnknown),
        };
        let conn = self.endpoint.connect(
            Instant::now(),
            &self.quic,
            self.config.server,
            &self.config.server_name,
            target,
        )?;
        let link = Link::new(conn, &self.config.token, &self.config.client_name)?;
        let slot = conn.slot as usize;
        if self.links.len() <= slot {
            self.links.resize_with(slot + 1, || None);
        }
        self.links[slot] = Some(link);
        Ok(LinkId(conn))
    }

    /// How far a connection has come; none for one long gone.
    #[must_use]
    pub fn state(&self, link: LinkId) -> Option<&LinkState> {
        self.link(link).map(|link| &link.state)
    }

    /// What the server said when it welcomed the connection.
    #[must_use]
    pub fn welcome(&self, link: LinkId) -> Option<&Welcome> {
        match self.state(link)? {
            LinkState::Ready(welcome) => Some(welcome),
            _ => None,
        }
    }

    /// Requests of a connection that await their answers.
    #[must_use]
    pub fn in_flight(&self, link: LinkId) -> u32 {
        self.link(link).map_or(0, Link::in_flight)
    }

    /// The address the socket is bound to.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn local_addr(&self) -> Result<SocketAddr, NativeError> {
        Ok(self.socket.local_addr()?)
    }

    /// Encodes a request; it leaves with the next [`flush`](Self::flush). The
    /// correlation comes back with its answer. CREDIT and publishes without
    /// acknowledgement have no answer.
    ///
    /// Correlations count upwards and wrap after 2^32 requests; a request that
    /// is still unanswered then would be mistaken for a new one.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing was queued.
    pub fn submit(&mut self, link: LinkId, request: &Request<'_>) -> Result<u32, SubmitError> {
        let entry = lookup(&mut self.links, link.0).ok_or(SubmitError::NotReady)?;
        let correlation = entry.submit(request)?;
        if !entry.dirty {
            entry.dirty = true;
            self.dirty.push(link.0);
        }
        Ok(correlation)
    }

    /// Receives at most one batch of datagrams, fires due timers, and shows
    /// everything that is complete. Never blocks. True when anything happened.
    ///
    /// # Errors
    /// The socket failed. What concerns one connection arrives as
    /// [`Received::Closed`].
    pub fn poll(
        &mut self,
        now: Instant,
        mut visit: impl FnMut(Received<'_>),
    ) -> Result<bool, NativeError> {
        let Self {
            endpoint, socket, ..
        } = self;
        let mut moved = socket.receive(|arrival, datagram| {
            let Arrival {
                remote,
                local_ip,
                ecn,
            } = arrival;
            let path = PathMeta {
                remote,
                local_ip,
                ecn,
            };
            endpoint.handle_datagram(now, path, datagram);
        })?;
        if self.endpoint.next_deadline().is_some_and(|due| due <= now) {
            self.endpoint.handle_timeout(now);
            moved = true;
        }
        while let Some(event) = self.endpoint.poll_event() {
            moved = true;
            self.handle_event(&event, &mut visit);
        }
        // Streams that are not read out go to the end, once per poll each.
        for _ in 0..self.readable.len() {
            let Some((conn, stream)) = self.readable.pop_front() else {
                break;
            };
            moved = true;
            let Some(link) = lookup(&mut self.links, conn) else {
                continue;
            };
            match link.read(&mut self.endpoint, stream, &mut visit) {
                Ok(true) => self.readable.push_back((conn, stream)),
                Ok(false) => {}
                Err(fault) => {
                    self.endpoint
                        .close(now, conn, CLOSE_PROTOCOL, fault.0.as_bytes());
                }
            }
            self.learn_steering(conn);
        }
        Ok(moved)
    }

    /// Hands submitted requests and whatever QUIC has to say to the kernel.
    /// True when anything was sent.
    ///
    /// # Errors
    /// The socket failed.
    pub fn flush(&mut self, now: Instant) -> Result<bool, NativeError> {
        while let Some(conn) = self.dirty.pop() {
            if let Some(link) = lookup(&mut self.links, conn) {
                link.dirty = false;
                link.write(&mut self.endpoint);
            }
        }
        let segments = self.socket.gso_segments_max();
        // Where there are several cores, a send must not hold datagrams of two.
        let single = self.steering.is_some_and(|steering| steering.cores() == 1);
        let together = if single { segments } else { 1 };
        let mut moved = false;
        loop {
            let endpoint = &mut self.endpoint;
            let poll = |buffer: &mut Vec<u8>| endpoint.poll_transmit(now, segments, buffer);
            let Some((meta, contents)) = self.outbox.poll(together, poll) else {
                return Ok(moved);
            };
            let sent = self.socket.send(
                meta.destination,
                meta.source_ip,
                meta.ecn,
                contents,
                meta.segment_size,
            )?;
            if sent == Sent::WouldBlock {
                return Ok(moved);
            }
            self.outbox.sent();
            moved = true;
        }
    }

    /// Sleeps until something arrives, a timer is due, or `longest` has passed:
    /// for the moments that need no spinning.
    ///
    /// # Errors
    /// The socket failed.
    pub fn wait(&self, longest: Duration) -> Result<(), NativeError> {
        let until_timer = self.endpoint.next_deadline().map_or(WAIT_MAX, |due| {
            due.saturating_duration_since(Instant::now())
        });
        Ok(self.socket.wait(until_timer.min(longest).min(WAIT_MAX))?)
    }

    /// Submits one request and waits for its answer, spinning. For set-up:
    /// everything else that arrives meanwhile is shown to `others`.
    ///
    /// # Errors
    /// [`NativeError::TimedOut`], [`NativeError::Closed`] or
    /// [`NativeError::Submit`]. A refusal is an answer, not an error.
    pub fn call(
        &mut self,
        link: LinkId,
        request: &Request<'_>,
        patience: Duration,
        mut others: impl FnMut(Received<'_>),
    ) -> Result<OwnedReply, NativeError> {
        let started = Instant::now();
        let wanted = self.submit(link, request)?;
        let mut reply = None;
        let mut closed = None;
        loop {
            let now = Instant::now();
            self.flush(now)?;
            self.poll(now, |received| match received {
                Received::Reply {
                    link: from,
                    correlation,
                    opcode,
                    body,
                } if from == link && correlation == wanted => {
                    reply = Some(OwnedReply {
                        opcode,
                        body: body.to_vec(),
                    });
                }
                Received::Closed { link: from, reason } if from == link => {
                    closed = Some(reason.clone());
                }
                other => others(other),
            })?;
            if let Some(reply) = reply {
                return Ok(reply);
            }
            if let Some(reason) = closed {
                return Err(NativeError::Closed(reason));
            }
            if now.duration_since(started) > patience {
                return Err(NativeError::TimedOut(patience));
            }
        }
    }

    /// Closes one connection; [`flush`](Self::flush) tells the server.
    pub fn close(&mut self, link: LinkId) {
        self.endpoint.close(Instant::now(), link.0, 0, b"");
    }

    /// Closes every connection and tells the server.
    ///
    /// # Errors
    /// The socket failed.
    pub fn close_all(&mut self) -> Result<(), NativeError> {
        let now = Instant::now();
        self.endpoint.close_all(now, 0, b"");
        self.flush(now)?;
        Ok(())
    }

    fn handle_event(&mut self, event: &Event, visit: &mut impl FnMut(Received<'_>)) {
        match *event {
            Event::Connected { conn, .. } | Event::StreamsAvailable { conn, bidi: true } => {
                if let Some(link) = lookup(&mut self.links, conn)
                    && matches!(link.state, LinkState::Connecting)
                {
                    link.greet(&mut self.endpoint);
                    link.dirty = true;
                    self.dirty.push(conn);
                }
            }
            Event::StreamOpened { conn, stream, .. } => {
                if let Some(link) = lookup(&mut self.links, conn) {
                    link.stream_opened(stream);
                    self.readable.push_back((conn, stream));
                }
            }
            Event::Readable { conn, stream } => self.readable.push_back((conn, stream)),
            Event::Writable { conn, .. } => {
                if let Some(link) = lookup(&mut self.links, conn) {
                    link.writable();
                    if !link.dirty {
                        link.dirty = true;
                        self.dirty.push(conn);
                    }
                }
            }
            Event::StreamReset { conn, stream, .. } => {
                if let Some(link) = lookup(&mut self.links, conn) {
                    link.stream_gone(stream);
                }
            }
            Event::Closed { conn, ref reason } => {
                if let Some(link) = lookup(&mut self.links, conn) {
                    // A refusal says more than the close that follows it.
                    if !matches!(link.state, LinkState::Refused(_)) {
                        link.state = LinkState::Closed(reason.clone());
                    }
                    visit(Received::Closed {
                        link: LinkId(conn),
                        reason,
                    });
                }
            }
            // No early data is sent, nothing is ever finished or stopped by us, and
            // a stopped request stream precedes the close that says why.
            Event::Confirmed { .. }
            | Event::StreamStopped { .. }
            | Event::StreamFinished { .. }
            | Event::StreamsAvailable { bidi: false, .. } => {}
        }
    }

    /// Keeps the steering keys of the first WELCOME.
    fn learn_steering(&mut self, conn: ConnId) {
        if self.steering.is_some() {
            return;
        }
        if let Some(welcome) = self.welcome(LinkId(conn)) {
            // Keys that cannot steer only cost the aim: every core serves every request.
            self.steering =
                Steering::new(welcome.steering_k0, welcome.steering_k1, welcome.data_cores).ok();
        }
    }

    fn link(&self, link: LinkId) -> Option<&Link> {
        self.links
            .get(link.0.slot as usize)?
            .as_ref()
            .filter(|entry| entry.conn() == link.0)
    }
}

fn lookup(links: &mut [Option<Link>], conn: ConnId) -> Option<&mut Link> {
    links
        .get_mut(conn.slot as usize)?
        .as_mut()
        .filter(|link| link.conn() == conn)
}
