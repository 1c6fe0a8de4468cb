//! Diallers and a door, joined by a wire in virtual time; and once over real sockets.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use pinion_plane::{Forward, PeerName, PlaneMessage};
use pinion_quic::{
    ClientConfig, ClockAnchor, ConnId, CorePlace, Endpoint, Event, PathMeta, ServerConfig,
    Steering, tls, transport,
};
use pinion_raft_group::{Chunk, PeerMessage};

use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

use super::credentials::{Credentials, CredentialsError, node_id, node_of};
use super::dialer::Dialer;
use super::door::PeerDoor;
use super::frames::Lane;
use super::{CLOSE_NOT_A_NODE, CLOSE_PROTOCOL, CLOSE_REPLACED, CLOSE_STOPPING, Peers};
use crate::cert::authority::{Authority, Signs};

const DAY: Duration = Duration::from_secs(86_400);
const MTU: u16 = transport::MTU_ETHERNET;
const SERVER: &str = "192.0.2.1:7000";

fn name(text: &str) -> PeerName {
    PeerName::new(text).expect("a name")
}

/// The authority of cluster `c`, and those of others.
struct Pki {
    authority: Authority,
    ca: String,
}

impl Pki {
    fn new() -> Self {
        let made = Authority::make(Signs::Nodes, "c", SystemTime::now(), DAY);
        let (authority, pair) = made.expect("made");
        let ca = pair.certificate;
        Self { authority, ca }
    }

    fn try_credentials(
        &self,
        id: &str,
        cluster: &str,
        node: &str,
    ) -> Result<Credentials, CredentialsError> {
        let hosts = ["localhost".to_owned()];
        let pair = self.authority.sign(id, &hosts, SystemTime::now(), DAY);
        let pair = pair.expect("signed");
        let (chain, key) = (pair.certificate.as_bytes(), pair.key.as_bytes());
        Credentials::from_pem(cluster, name(node), self.ca.as_bytes(), chain, key)
    }

    fn credentials(&self, cluster: &str, node: &str) -> Arc<Credentials> {
        let id = node_id(cluster, node).expect("an id");
        Arc::new(
            self.try_credentials(id.text(), cluster, node)
                .expect("good ones"),
        )
    }
}

/// A node that listens: its endpoint and its door, and what came through it.
struct Host {
    quic: Endpoint,
    door: PeerDoor,
    /// The box of the control thread, and how much fits.
    frames: VecDeque<(PeerName, Bytes)>,
    room: usize,
    /// Events that are not a peer's.
    others: Vec<Event>,
}

impl Host {
    fn new(pki: &Pki, start: Instant, life: u8) -> Self {
        let credentials = pki.credentials("c", "n1");
        let pair = pki.authority.sign(
            "spiffe://x/y",
            &["localhost".to_owned()],
            SystemTime::now(),
            DAY,
        );
        let pair = pair.expect("signed");
        let tls = tls::server_config_pem(pair.certificate.as_bytes(), pair.key.as_bytes());
        let clock = ClockAnchor {
            monotonic: start,
            wall: SystemTime::now(),
        };
        let mut config = ServerConfig::new(tls.expect("good"), [9; 32], clock);
        config.doors = Some(Arc::new(credentials.doors().expect("good")));
        let place = CorePlace {
            steering: Steering::new(1, 3, 1).expect("one core"),
            core: 0,
        };
        Self {
            quic: Endpoint::server(&config, place, [life; 32]).expect("good"),
            door: PeerDoor::new(
                Arc::clone(credentials.cluster()),
                credentials.node().clone(),
            ),
            frames: VecDeque::new(),
            room: usize::MAX,
            others: Vec::new(),
        }
    }

    /// As the pump of a core does it.
    fn turn(&mut self, now: Instant) {
        if self.quic.next_deadline().is_some_and(|at| at <= now) {
            self.quic.handle_timeout(now);
        }
        while let Some(event) = self.quic.poll_event() {
            let event = self.door.handle_event(now, &mut self.quic, event);
            self.others.extend(event);
        }
        loop {
            let worked = self.door.read(now, &mut self.quic);
            while let Some((from, frame)) = self.door.poll_frame() {
                if self.frames.len() >= self.room {
                    self.door.put_back(now, from, frame);
                    break;
                }
                self.frames.push_back((from, frame));
            }
            if !worked || !self.door.has_work() {
                return;
            }
        }
    }
}

enum Visitor {
    Node(Dialer),
    /// Somebody with an endpoint of its own.
    Raw(Endpoint, Vec<Event>),
}

struct World {
    now: Instant,
    pki: Pki,
    host: Host,
    visitors: Vec<Visitor>,
    wire: VecDeque<(SocketAddr, SocketAddr, Vec<u8>)>,
    /// Nothing is delivered.
    cut: bool,
}

impl World {
    fn new() -> Self {
        let (now, pki) = (Instant::now(), Pki::new());
        let host = Host::new(&pki, now, 1);
        Self {
            now,
            pki,
            host,
            visitors: Vec::new(),
            wire: VecDeque::new(),
            cut: false,
        }
    }

    /// A node that is to be connected to n1.
    fn node(&mut self, cluster: &str, node: &str) -> usize {
        let credentials = self.pki.credentials(cluster, node);
        let seed = [u8::try_from(self.visitors.len()).unwrap_or(0) + 50; 32];
        let mut dialer = Dialer::new(credentials, MTU, seed).expect("an endpoint");
        dialer.set(self.now, &[(name("n1"), SERVER.into())]);
        self.visitors.push(Visitor::Node(dialer));
        self.visitors.len() - 1
    }

    /// Somebody who dials by hand with the certificate of a node, and takes whoever
    /// answers.
    fn raw(&mut self, cluster: &str, node: &str) -> (usize, ConnId) {
        let id = node_id(cluster, node).expect("an id");
        let pair = self
            .pki
            .authority
            .sign(id.text(), &[], SystemTime::now(), DAY);
        let pair = pair.expect("signed");
        let roots = tls::roots(self.pki.ca.as_bytes()).expect("read");
        let chain = tls::certificates(pair.certificate.as_bytes()).expect("read");
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("read");
        let config = tls::peer_client_config(roots, chain, key, Arc::new(|_: &_| true));
        let config = ClientConfig::new(config.expect("good")).expect("good");
        let mut quic = Endpoint::client_with_mtu([77; 32], MTU).expect("an endpoint");
        let remote = SERVER.parse().expect("an address");
        let conn = quic.connect(self.now, &config, remote, "x", None);
        self.visitors.push(Visitor::Raw(quic, Vec::new()));
        let at = self.visitors.len() - 1;
        self.run(Duration::from_millis(100));
        (at, conn.expect("dialled"))
    }

    fn dialer(&mut self, at: usize) -> &mut Dialer {
        match &mut self.visitors[at] {
            Visitor::Node(dialer) => dialer,
            Visitor::Raw(..) => panic!("{at} is no node"),
        }
    }

    fn quic(&mut self, at: usize) -> &mut Endpoint {
        match &mut self.visitors[at] {
            Visitor::Raw(quic, _) => quic,
            Visitor::Node(_) => panic!("{at} is a node"),
        }
    }

    /// With which code the host closed a connection that was dialled by hand.
    fn closed(&self, at: usize) -> Option<u64> {
        let Visitor::Raw(_, events) = &self.visitors[at] else {
            panic!("{at} is a node");
        };
        events.iter().find_map(|event| match event {
            Event::Closed {
                reason: pinion_quic::CloseReason::Peer { code, .. },
                ..
            } => Some(*code),
            _ => None,
        })
    }

    fn address(at: usize) -> SocketAddr {
        let port = 5000 + u16::try_from(at).unwrap_or(0);
        SocketAddr::from(([198, 51, 100, 1], port))
    }

    /// Everything that happens without the clock.
    fn settle(&mut self) {
        let server: SocketAddr = SERVER.parse().expect("an address");
        let now = self.now;
        loop {
            self.host.turn(now);
            let mut buffer = Vec::new();
            while let Some(meta) = self.host.quic.poll_transmit(now, 1, &mut buffer) {
                self.wire
                    .push_back((server, meta.destination, buffer.clone()));
            }
            for (at, visitor) in self.visitors.iter_mut().enumerate() {
                let from = Self::address(at);
                match visitor {
                    Visitor::Node(dialer) => {
                        dialer.turn(now);
                        while let Some((name, address)) = dialer.poll_lookup(now) {
                            let found = address.parse().ok();
                            dialer.handle_address(now, &name, &address, found);
                            dialer.turn(now);
                        }
                        while let Some(meta) = dialer.poll_transmit(now, &mut buffer) {
                            self.wire
                                .push_back((from, meta.destination, buffer.clone()));
                        }
                    }
                    Visitor::Raw(quic, events) => {
                        if quic.next_deadline().is_some_and(|at| at <= now) {
                            quic.handle_timeout(now);
                        }
                        events.extend(std::iter::from_fn(|| quic.poll_event()));
                        while let Some(meta) = quic.poll_transmit(now, 1, &mut buffer) {
                            self.wire
                                .push_back((from, meta.destination, buffer.clone()));
                        }
                    }
                }
            }
            if self.wire.is_empty() {
                return;
            }
            for (from, to, data) in std::mem::take(&mut self.wire) {
                if self.cut {
                    continue;
                }
                let meta = PathMeta {
                    remote: from,
                    local_ip: None,
                    ecn: None,
                };
                let data = BytesMut::from(&data[..]);
                if to == server {
                    self.host.quic.handle_datagram(now, meta, data);
                    continue;
                }
                match &mut self.visitors[usize::from(to.port() - 5000)] {
                    Visitor::Node(dialer) => dialer.handle_datagram(now, from, &data),
                    Visitor::Raw(quic, _) => quic.handle_datagram(now, meta, data),
                }
            }
        }
    }

    /// Lets so much time pass.
    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            self.settle();
            let visitors = self.visitors.iter().filter_map(|visitor| match visitor {
                Visitor::Node(dialer) => dialer.next_deadline(),
                Visitor::Raw(quic, _) => quic.next_deadline(),
            });
            let host = [
                self.host.quic.next_deadline(),
                self.host.door.next_deadline(),
            ];
            let next = visitors.chain(host.into_iter().flatten()).min();
            match next.filter(|next| *next <= end) {
                Some(next) => self.now = next.max(self.now + Duration::from_micros(10)),
                None => break,
            }
        }
        self.now = end;
    }

    fn send(&mut self, at: usize, message: &PlaneMessage) {
        self.dialer(at).send(&name("n1"), message);
    }

    /// What came through the door since the last look, decoded.
    fn heard(&mut self) -> Vec<(PeerName, PlaneMessage)> {
        let frames = self.host.frames.drain(..);
        frames
            .map(|(from, frame)| (from, PlaneMessage::decode(&frame).expect("a frame")))
            .collect()
    }
}

fn forward(number: u64, len: usize) -> PlaneMessage {
    PlaneMessage::Forward(Forward {
        number,
        envelope: vec![7; len].into(),
    })
}

fn chunk(offset: u64) -> PlaneMessage {
    PlaneMessage::Raft(PeerMessage::Chunk(Chunk {
        transfer: 1,
        offset,
        bytes: vec![1; 256 << 10].into(),
    }))
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn messages_come_through_the_door_in_the_order_of_their_lane_and_by_the_name_of_their_sender() {
    let mut world = World::new();
    let [two, three] = ["n2", "n3"].map(|node| world.node("c", node));
    world.run(SECOND);
    for number in 1..=20 {
        world.send(two, &chunk(number));
        world.send(two, &forward(number, 3000));
        world.send(three, &forward(100 + number, 1));
        world.run(Duration::from_millis(10));
    }
    let heard = world.heard();
    let of = |from: &str, pick: fn(&PlaneMessage) -> Option<u64>| -> Vec<u64> {
        let from = name(from);
        let mine = heard.iter().filter(|(name, _)| *name == from);
        mine.filter_map(|(_, message)| pick(message)).collect()
    };
    let forwards = |message: &PlaneMessage| match message {
        PlaneMessage::Forward(forward) => Some(forward.number),
        _ => None,
    };
    let chunks = |message: &PlaneMessage| match message {
        PlaneMessage::Raft(PeerMessage::Chunk(chunk)) => Some(chunk.offset),
        _ => None,
    };
    assert_eq!(of("n2", forwards), (1..=20).collect::<Vec<_>>());
    assert_eq!(of("n2", chunks), (1..=20).collect::<Vec<_>>());
    assert_eq!(of("n3", forwards), (101..=120).collect::<Vec<_>>());
    assert_eq!(world.dialer(two).poll_lost(), None);
}

#[test]
fn a_lost_connection_is_told_once_and_dialled_again() {
    let mut world = World::new();
    let two = world.node("c", "n2");
    world.run(2 * SECOND);
    // Started again with the same secret: it says at once that it forgot the connection.
    world.host = Host::new(&world.pki, world.now, 2);
    world.send(two, &forward(1, 10));
    world.run(SECOND);
    let lost = std::iter::from_fn(|| world.dialer(two).poll_lost());
    assert_eq!(lost.collect::<Vec<_>>(), [name("n1")]);
    assert_eq!(world.heard(), [], "it went with the connection");
    world.send(two, &forward(2, 10));
    world.run(SECOND);
    assert_eq!(world.heard(), [(name("n2"), forward(2, 10))]);

    // Silent: found out by itself.
    world.cut = true;
    world.run(transport::PEER_IDLE_TIMEOUT + SECOND);
    let lost = std::iter::from_fn(|| world.dialer(two).poll_lost());
    assert_eq!(lost.collect::<Vec<_>>(), [name("n1")]);
    world.run(20 * SECOND);
    assert_eq!(world.dialer(two).poll_lost(), None, "once");
    // What finds no connection has not left, and whoever sends it is told.
    let left = world.dialer(two).send(&name("n1"), &forward(9, 10));
    assert!(!left);
    world.cut = false;
    // A try under way, and the longest pause after it.
    world.run(4 * SECOND);
    world.send(two, &forward(3, 10));
    world.run(SECOND);
    assert_eq!(world.heard(), [(name("n2"), forward(3, 10))]);
}

#[test]
fn a_node_that_is_heard_is_dialled_sooner() {
    let mut world = World::new();
    let two = world.node("c", "n2");
    let mut now = world.now;
    let dialer = world.dialer(two);
    let n1 = name("n1");
    // Nobody knows where it is, often enough for the longest pause.
    for _ in 0..8 {
        let (name, address) = dialer.poll_lookup(now).expect("it is due");
        dialer.handle_address(now, &name, &address, None);
        assert_eq!(dialer.poll_lookup(now), None, "after a pause");
        now = dialer.next_deadline().expect("it waits");
    }
    let (name, address) = dialer.poll_lookup(now).expect("it is due");
    dialer.handle_address(now, &name, &address, None);
    let soon = now + Duration::from_millis(250);
    assert!(dialer.next_deadline().expect("it waits") > soon);
    dialer.heard(now, &n1);
    assert_eq!(dialer.next_deadline(), Some(soon));
    // Again and again is no sooner.
    dialer.heard(now + Duration::from_millis(100), &n1);
    assert_eq!(dialer.next_deadline(), Some(soon));
}

#[test]
fn what_waited_for_a_lost_connection_does_not_spoil_the_next() {
    let mut world = World::new();
    let two = world.node("c", "n2");
    world.run(2 * SECOND);
    world.host.room = 0;
    for number in 0..20 {
        world.send(two, &forward(number, 1 << 20));
        world.run(Duration::from_millis(20));
    }
    world.host = Host::new(&world.pki, world.now, 2);
    let mut lost: Vec<PeerName> = world.dialer(two).poll_lost().into_iter().collect();
    assert_eq!(lost.len(), 1, "too slow");
    for _ in 0..100 {
        world.run(Duration::from_millis(50));
        lost.extend(world.dialer(two).poll_lost());
    }
    assert_eq!(
        lost.len(),
        2,
        "half a frame would have cost another connection"
    );
    world.send(two, &forward(99, 1));
    world.run(SECOND);
    assert_eq!(world.heard(), [(name("n2"), forward(99, 1))]);
}

#[test]
fn whoever_is_not_of_the_cluster_or_says_what_is_no_frame_is_closed_and_hurts_nobody_else() {
    let mut world = World::new();
    let two = world.node("c", "n2");
    world.run(SECOND);
    let garbage: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\n",
        &[0xff; 40],
        &[
            &Lane::Raft.hello()[..],
            &[0xff, 0xff, 0xff, 0xff, 1, 0, 2, 0, 0, 0, 0, 0],
        ]
        .concat(),
        &[
            &Lane::Raft.hello()[..],
            &[1, 0, 0, 0, 9, 0, 2, 0, 0, 0, 0, 0, 0],
        ]
        .concat(),
    ];
    for bytes in garbage {
        let (at, conn) = world.raw("c", "n4");
        let stream = world.quic(at).open_uni(conn).expect("a lane");
        world.quic(at).write(conn, stream, bytes);
        world.run(SECOND);
        assert_eq!(
            world.closed(at),
            Some(u64::from(CLOSE_PROTOCOL)),
            "{bytes:?}"
        );
    }
    // A lane twice, a lane that ends, a stream for requests.
    let (at, conn) = world.raw("c", "n4");
    for _ in 0..2 {
        let stream = world.quic(at).open_uni(conn).expect("a lane");
        world.quic(at).write(conn, stream, &Lane::Bulk.hello());
    }
    world.run(SECOND);
    assert_eq!(world.closed(at), Some(u64::from(CLOSE_PROTOCOL)));
    let (at, conn) = world.raw("c", "n4");
    let stream = world.quic(at).open_uni(conn).expect("a lane");
    world.quic(at).write(conn, stream, &Lane::Bulk.hello());
    world.quic(at).finish(conn, stream).expect("open");
    world.run(SECOND);
    assert_eq!(world.closed(at), Some(u64::from(CLOSE_PROTOCOL)));
    let (at, conn) = world.raw("c", "n4");
    let stream = world.quic(at).open_bi(conn).expect("a stream");
    world.quic(at).write(conn, stream, b"?");
    world.run(SECOND);
    assert_eq!(world.closed(at), Some(u64::from(CLOSE_PROTOCOL)));

    // Nobody visits itself.
    let (at, _) = world.raw("c", "n1");
    world.run(SECOND);
    assert_eq!(world.closed(at), Some(u64::from(CLOSE_NOT_A_NODE)));

    world.send(two, &forward(1, 1));
    world.run(SECOND);
    assert_eq!(world.heard(), [(name("n2"), forward(1, 1))]);
    assert_eq!(world.dialer(two).poll_lost(), None);
    assert_eq!(world.host.others, [], "no core hears of any of them");
}

#[test]
fn a_node_of_another_cluster_with_the_same_authority_is_no_peer() {
    let mut world = World::new();
    let (at, _) = world.raw("other", "n3");
    assert_eq!(world.closed(at), Some(u64::from(CLOSE_NOT_A_NODE)));
    // Nor does it take this one for one of its own.
    let three = world.node("other", "n3");
    world.run(SECOND);
    world.send(three, &forward(1, 1));
    world.run(SECOND);
    assert_eq!(world.heard(), []);
    assert_eq!(world.host.others, []);
}

#[test]
fn a_newer_connection_of_a_node_takes_the_place_of_the_older() {
    let mut world = World::new();
    let (older, _) = world.raw("c", "n2");
    let two = world.node("c", "n2");
    world.run(SECOND);
    assert_eq!(world.closed(older), Some(u64::from(CLOSE_REPLACED)));
    world.send(two, &forward(1, 1));
    world.run(SECOND);
    assert_eq!(world.heard().len(), 1);
}

#[test]
fn what_the_control_thread_does_not_take_waits_with_its_sender_and_is_bounded() {
    let mut world = World::new();
    let two = world.node("c", "n2");
    world.run(SECOND);
    // More than the door, the transport and the lane hold together.
    let mut lost = Vec::new();
    world.host.room = 0;
    for number in 0..40 {
        world.send(two, &forward(number, 1 << 20));
        world.run(Duration::from_millis(20));
        lost.extend(world.dialer(two).poll_lost());
    }
    assert_eq!(lost, [name("n1")], "told once that some are missing");
    let held = world.host.door.under_way();
    assert!(
        (8 << 20..=10 << 20).contains(&held),
        "{held} bytes in the door"
    );

    world.host.room = usize::MAX;
    let mut numbers = Vec::new();
    loop {
        world.run(SECOND);
        let heard = world.heard();
        if heard.is_empty() {
            break;
        }
        numbers.extend(heard.iter().map(|(_, message)| match message {
            PlaneMessage::Forward(forward) => forward.number,
            other => panic!("{other:?}"),
        }));
    }
    assert!(numbers.len() >= 8, "{numbers:?}");
    assert_eq!(
        numbers,
        (0..numbers.len() as u64).collect::<Vec<_>>(),
        "none in between"
    );
    assert_eq!(world.host.door.under_way(), 0, "every frame was given back");
    world.send(two, &forward(99, 1));
    world.run(SECOND);
    assert_eq!(world.heard().len(), 1, "and it goes on");
}

#[test]
fn a_node_that_stops_or_is_not_wanted_says_so() {
    let mut world = World::new();
    let two = world.node("c", "n2");
    let (raw, _) = world.raw("c", "n3");
    world.run(SECOND);
    let now = world.now;
    world.host.door.hang_up(now, &mut world.host.quic);
    world.run(Duration::from_millis(10));
    assert_eq!(world.closed(raw), Some(u64::from(CLOSE_STOPPING)));
    assert_eq!(
        world.dialer(two).poll_lost(),
        Some(name("n1")),
        "without a timeout"
    );
    let now = world.now;
    world.dialer(two).set(now, &[]);
    world.run(20 * SECOND);
    assert_eq!(world.dialer(two).next_deadline(), None, "nobody is dialled");
    assert!(world.host.quic.is_idle());
}

#[test]
fn files_that_do_not_fit_are_found_when_the_node_starts() {
    let pki = Pki::new();
    let other = pki.try_credentials("spiffe://pinion/c/node/n2", "c", "n1");
    let error = other.expect_err("of another node").to_string();
    assert_eq!(
        error,
        "the certificate is not that of node n1 of cluster c; it has to say spiffe://pinion/c/node/n1"
    );
    let stranger = Pki::new();
    let pki = Pki {
        authority: stranger.authority,
        ca: pki.ca,
    };
    let signed = pki.try_credentials("spiffe://pinion/c/node/n1", "c", "n1");
    assert!(matches!(signed, Err(CredentialsError::Refused(_))));
}

#[test]
fn only_the_id_of_a_node_of_this_cluster_is_one() {
    let pki = Pki::new();
    for (id, node) in [
        ("spiffe://pinion/c/node/n1", Some("n1")),
        ("spiffe://pinion/d/node/n1", None),
        ("spiffe://pinion/c/node/n1/more", None),
        ("spiffe://pinion/c/node", None),
        ("spiffe://pinion/c/sa/n1", None),
        ("spiffe://cluster.local/c/node/n1", None),
        ("spiffe://pinion/c/node/N1", None),
    ] {
        let pair = pki
            .authority
            .sign(id, &[], SystemTime::now(), DAY)
            .expect("signed");
        let chain = tls::certificates(pair.certificate.as_bytes()).expect("read");
        assert_eq!(node_of("c", &chain[0]), node.map(name), "{id}");
    }
}

#[test]
fn names_are_looked_up_and_frames_go_over_real_sockets() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let (pki, start) = (Pki::new(), Instant::now());
    let mut host = Host::new(&pki, start, 1);
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_nonblocking(true).expect("set");
    let port = socket.local_addr().expect("bound").port();
    runtime.expect("a runtime").block_on(async {
        let socket = tokio::net::UdpSocket::from_std(socket).expect("registered");
        let from = "127.0.0.1".parse().expect("an address");
        let credentials = pki.credentials("c", "n2");
        let mut peers = Peers::bind(credentials, from, MTU, [5; 32]).expect("a socket");
        peers.set(&[
            (name("n1"), format!("localhost:{port}").into()),
            (name("n9"), "there.is.no.such.host.invalid:1".into()),
        ]);
        let (mut incoming, mut outgoing) = ([0; 2048], Vec::new());
        let patience = start + 20 * SECOND;
        while host.frames.is_empty() {
            let now = Instant::now();
            assert!(now < patience, "nothing arrived");
            peers.send(&name("n1"), &forward(1, 100));
            peers.pump(now);
            host.turn(now);
            while let Some(meta) = host.quic.poll_transmit(now, 1, &mut outgoing) {
                let sent = socket.try_send_to(&outgoing, meta.destination);
                sent.expect("loopback has room");
            }
            let due = host.quic.next_deadline().unwrap_or(now + SECOND);
            tokio::select! {
                () = peers.ready() => {}
                () = tokio::time::sleep_until(due.into()) => {}
                got = socket.recv_from(&mut incoming) => {
                    let (len, remote) = got.expect("loopback");
                    let meta = PathMeta { remote, local_ip: None, ecn: None };
                    let data = BytesMut::from(&incoming[..len]);
                    host.quic.handle_datagram(Instant::now(), meta, data);
                }
            }
        }
        peers.close(Instant::now());
    });
    let (from, frame) = host.frames.remove(0).expect("there is one");
    let message = PlaneMessage::decode(&frame).expect("a frame");
    assert_eq!((from, message), (name("n2"), forward(1, 100)));
}
