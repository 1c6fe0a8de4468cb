//! A network in virtual time: endpoints joined by links with latency and bandwidth,
//! a clock that moves only to the next arrival or the next deadline.
#![allow(dead_code, clippy::unwrap_used, unreachable_pub, missing_docs)]

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::BytesMut;
use pinion_quic::{
    ClientConfig, ClockAnchor, ConnId, CorePlace, Endpoint, Event, Limits, PathMeta, ReadOutcome,
    ServerConfig, Steering, StreamId, tls,
};

pub const SERVER: usize = 0;
pub const SECRET: [u8; 32] = [42; 32];

/// Certificates made once per test.
pub struct Identity {
    pub server: Arc<rustls::ServerConfig>,
    pub client: Arc<rustls::ClientConfig>,
    pub cert: rustls_pki_types::CertificateDer<'static>,
}

pub fn identity() -> Identity {
    identity_of(1)
}

/// An identity whose chain has `links` certificates, to make the server's flight large.
pub fn identity_of(links: usize) -> Identity {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let cert = made.cert.der().clone();
    let mut chain = vec![cert.clone()];
    for link in 1..links {
        let names = (0..40)
            .map(|n| format!("padding-{link}-{n}.example"))
            .collect::<Vec<_>>();
        chain.push(
            rcgen::generate_simple_self_signed(names)
                .unwrap()
                .cert
                .der()
                .clone(),
        );
    }
    let server = tls::server_config_pem(
        made.cert.pem().as_bytes(),
        made.signing_key.serialize_pem().as_bytes(),
    )
    .unwrap();
    let server = if links == 1 {
        server
    } else {
        let key =
            rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        tls::server_config(chain, key).unwrap()
    };
    let client = tls::client_config_pem(made.cert.pem().as_bytes()).unwrap();
    Identity {
        server,
        client,
        cert,
    }
}

pub fn one_core() -> CorePlace {
    CorePlace {
        steering: Steering::new(0x5eed, 0x9e37_79b1, 1).unwrap(),
        core: 0,
    }
}

pub fn server_config(identity: &Identity, start: Instant) -> ServerConfig {
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    ServerConfig::new(
        Arc::clone(&identity.server),
        SECRET,
        ClockAnchor {
            monotonic: start,
            wall,
        },
    )
}

pub fn client_config(identity: &Identity) -> ClientConfig {
    ClientConfig::new(Arc::clone(&identity.client)).unwrap()
}

#[derive(Clone, Copy)]
pub struct Link {
    pub latency: Duration,
    /// Bits a second; `None` = every packet of a burst arrives at the same instant.
    pub bandwidth: Option<u64>,
}

pub struct Node {
    pub endpoint: Endpoint,
    pub addr: SocketAddr,
    pub events: Vec<Event>,
    pub sent_bytes: u64,
    pub sent_datagrams: u64,
    pub received_bytes: u64,
    pub largest_datagram: usize,
    link_free: Instant,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub struct Packet {
    at: Instant,
    sequence: u64,
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub data: Vec<u8>,
}

/// One move of the clock.
#[derive(Debug, Clone)]
pub struct Advance {
    pub by: Duration,
    pub to_timer: bool,
    /// Nothing was on the wire: whoever waited, waited for this timer alone.
    pub link_idle: bool,
    /// quinn-proto timers that fired at the new time.
    pub fired: Vec<String>,
}

/// Looks at a packet before it is put on the wire; false drops it.
pub type Filter = Box<dyn FnMut(&Packet) -> bool>;

pub struct Sim {
    pub start: Instant,
    pub now: Instant,
    pub nodes: Vec<Node>,
    pub link: Link,
    pub filter: Filter,
    pub advances: Vec<Advance>,
    pub gso: usize,
    /// Where packets to a server that is several endpoints go, by owner core.
    pub steered: Option<(SocketAddr, Vec<usize>)>,
    wire: BinaryHeap<Reverse<Packet>>,
    sequence: u64,
}

impl Sim {
    pub fn new(link: Link) -> Self {
        let start = Instant::now();
        Self {
            start,
            now: start,
            nodes: Vec::new(),
            link,
            filter: Box::new(|_| true),
            advances: Vec::new(),
            gso: 10,
            steered: None,
            wire: BinaryHeap::new(),
            sequence: 0,
        }
    }

    /// A server at node 0 and `clients` client endpoints, nothing connected yet.
    pub fn with_server(
        link: Link,
        config: impl FnOnce(ServerConfig) -> ServerConfig,
        identity: &Identity,
        clients: u8,
    ) -> Self {
        let mut sim = Self::new(link);
        let config = config(server_config(identity, sim.start));
        sim.add(
            Endpoint::server(&config, one_core(), [1; 32]).unwrap(),
            "192.0.2.1:8080",
        );
        for client in 0..clients {
            let mtu = config.mtu_max;
            sim.add(
                Endpoint::client_with_mtu([100 + client; 32], mtu).unwrap(),
                &format!("198.51.100.{}:5000", client + 1),
            );
        }
        sim
    }

    pub fn add(&mut self, endpoint: Endpoint, addr: &str) -> usize {
        self.nodes.push(Node {
            endpoint,
            addr: addr.parse().unwrap(),
            events: Vec::new(),
            sent_bytes: 0,
            sent_datagrams: 0,
            received_bytes: 0,
            largest_datagram: 0,
            link_free: self.now,
        });
        self.nodes.len() - 1
    }

    pub fn server(&mut self) -> &mut Endpoint {
        &mut self.nodes[SERVER].endpoint
    }

    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    pub fn connect(&mut self, node: usize, config: &ClientConfig) -> ConnId {
        let (now, to) = (self.now, self.nodes[SERVER].addr);
        self.nodes[node]
            .endpoint
            .connect(now, config, to, "localhost", None)
            .unwrap()
    }

    /// Connects and completes the handshake; returns the client's and the server's id.
    pub fn connected(&mut self, node: usize, config: &ClientConfig) -> (ConnId, ConnId) {
        let addr = self.nodes[node].addr;
        let client = self.connect(node, config);
        let mut ids = (None, None);
        self.run_until(Duration::from_secs(20), &mut |_, at, event| {
            if let Event::Connected { conn, remote, .. } = event {
                if at == node && *conn == client {
                    ids.0 = Some(*conn);
                } else if *remote == addr {
                    ids.1 = Some(*conn);
                }
            }
            ids.0.is_some() && ids.1.is_some()
        });
        (
            ids.0.expect("client connected"),
            ids.1.expect("server connected"),
        )
    }

    /// Puts bytes on the wire as they are.
    pub fn inject(&mut self, from: SocketAddr, to: SocketAddr, data: Vec<u8>) {
        let packet = Packet {
            at: self.now + self.link.latency,
            sequence: self.sequence,
            from,
            to,
            data,
        };
        self.sequence += 1;
        self.wire.push(Reverse(packet));
    }

    /// Everything due at `now`: arrivals, timers, events, transmits. `app` sees every
    /// event and may act on the endpoint at once; true ends the run.
    pub fn turn(&mut self, app: &mut dyn FnMut(&mut Sim, usize, &Event) -> bool) -> bool {
        while self
            .wire
            .peek()
            .is_some_and(|Reverse(packet)| packet.at <= self.now)
        {
            let Reverse(packet) = self.wire.pop().unwrap();
            let node = match &self.steered {
                Some((addr, cores)) if *addr == packet.to => {
                    let owner = self.nodes[cores[0]].endpoint.owner(&packet.data);
                    owner.map(|core| cores[usize::from(core)])
                }
                _ => self.nodes.iter().position(|node| node.addr == packet.to),
            };
            let Some(node) = node else { continue };
            let node = &mut self.nodes[node];
            node.received_bytes += packet.data.len() as u64;
            let meta = PathMeta {
                remote: packet.from,
                local_ip: None,
                ecn: None,
            };
            node.endpoint
                .handle_datagram(self.now, meta, BytesMut::from(&packet.data[..]));
        }
        let mut done = false;
        for index in 0..self.nodes.len() {
            let now = self.now;
            if self.nodes[index]
                .endpoint
                .next_deadline()
                .is_some_and(|at| at <= now)
            {
                self.nodes[index].endpoint.handle_timeout(now);
            }
            while let Some(event) = self.nodes[index].endpoint.poll_event() {
                done |= app(self, index, &event);
                self.nodes[index].events.push(event);
            }
        }
        self.flush();
        done
    }

    /// Sends all that wants to be sent.
    pub fn flush(&mut self) {
        let mut buf = Vec::new();
        for index in 0..self.nodes.len() {
            loop {
                let node = &mut self.nodes[index];
                let Some(meta) = node.endpoint.poll_transmit(self.now, self.gso, &mut buf) else {
                    break;
                };
                assert_eq!(meta.len, buf.len());
                assert!(
                    meta.len <= 65_507,
                    "one kernel send holds at most one UDP payload: {}",
                    meta.len
                );
                let size = meta.segment_size.unwrap_or(meta.len);
                for segment in buf.chunks(size) {
                    let node = &mut self.nodes[index];
                    node.sent_bytes += segment.len() as u64;
                    node.sent_datagrams += 1;
                    node.largest_datagram = node.largest_datagram.max(segment.len());
                    let depart = node.link_free.max(self.now);
                    let done = match self.link.bandwidth {
                        Some(bits) => {
                            depart
                                + Duration::from_nanos(
                                    segment.len() as u64 * 8 * 1_000_000_000 / bits,
                                )
                        }
                        None => depart,
                    };
                    node.link_free = done;
                    let packet = Packet {
                        at: done + self.link.latency,
                        sequence: self.sequence,
                        from: node.addr,
                        to: meta.destination,
                        data: segment.to_vec(),
                    };
                    self.sequence += 1;
                    if (self.filter)(&packet) {
                        self.wire.push(Reverse(packet));
                    }
                }
            }
        }
    }

    /// Moves the clock to what comes next; false when nothing ever will.
    pub fn advance(&mut self) -> bool {
        let arrival = self.wire.peek().map(|Reverse(packet)| packet.at);
        let deadline = self
            .nodes
            .iter()
            .filter_map(|node| node.endpoint.next_deadline())
            .min();
        let Some(next) = [arrival, deadline].into_iter().flatten().min() else {
            return false;
        };
        let next = next.max(self.now);
        self.advances.push(Advance {
            by: next - self.now,
            to_timer: arrival.is_none_or(|arrival| next < arrival),
            link_idle: self.wire.is_empty(),
            fired: Vec::new(),
        });
        self.now = next;
        true
    }

    /// Turns until `app` says so; panics after `limit` of virtual time.
    pub fn run_until(
        &mut self,
        limit: Duration,
        app: &mut dyn FnMut(&mut Sim, usize, &Event) -> bool,
    ) {
        let end = self.now + limit;
        loop {
            timer_log_take();
            let done = self.turn(app);
            if let Some(last) = self.advances.last_mut() {
                last.fired.extend(timer_log_take());
            }
            if done {
                return;
            }
            assert!(
                self.advance() && self.now <= end,
                "not finished after {limit:?} of virtual time"
            );
        }
    }

    /// Turns until `span` of virtual time has passed or nothing is left to happen.
    pub fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            timer_log_take();
            self.turn(&mut |_, _, _| false);
            if let Some(last) = self.advances.last_mut() {
                last.fired.extend(timer_log_take());
            }
            let arrival = self.wire.peek().map(|Reverse(packet)| packet.at);
            let deadline = self
                .nodes
                .iter()
                .filter_map(|node| node.endpoint.next_deadline())
                .min();
            match [arrival, deadline].into_iter().flatten().min() {
                Some(next) if next <= end => self.advance(),
                _ => break,
            };
        }
        self.now = end;
    }
}

/// Reads all there is; true when the stream ended.
pub fn drain(endpoint: &mut Endpoint, conn: ConnId, stream: StreamId, into: &mut Vec<u8>) -> bool {
    loop {
        match endpoint.read(conn, stream) {
            ReadOutcome::Chunk(bytes) => into.extend_from_slice(&bytes),
            ReadOutcome::Finished => return true,
            ReadOutcome::Blocked => return false,
            other => panic!("unexpected read outcome {other:?}"),
        }
    }
}

pub fn lan() -> Link {
    Link {
        latency: Duration::from_micros(100),
        bandwidth: None,
    }
}

pub fn gigabit() -> Link {
    Link {
        latency: Duration::from_micros(100),
        bandwidth: Some(1_000_000_000),
    }
}

pub fn tight(limits: Limits) -> impl FnOnce(ServerConfig) -> ServerConfig {
    move |mut config| {
        config.limits = limits;
        config
    }
}

// --- Which quinn-proto timers fired: it says so in its trace events. ---

thread_local! {
    static TIMERS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

fn timer_log_take() -> Vec<String> {
    TIMERS.take()
}

/// Records timer names of this thread while the guard lives.
pub fn record_timers() -> tracing::subscriber::DefaultGuard {
    tracing::subscriber::set_default(TimerLog)
}

struct TimerLog;

struct TimerField(Option<String>);

impl tracing::field::Visit for TimerField {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        if field.name() == "timer" {
            self.0 = Some(format!("{value:?}"));
        }
    }
}

impl tracing::Subscriber for TimerLog {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target() == "quinn_proto::connection"
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut field = TimerField(None);
        event.record(&mut field);
        if let Some(timer) = field.0 {
            TIMERS.with_borrow_mut(|timers| timers.push(timer));
        }
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}
