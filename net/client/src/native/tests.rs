//! The native client against a small server: the same endpoint in server role,
//! speaking just enough of the protocol, on a thread of its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::SystemTime;

use pinion_quic::{ClockAnchor, ReadOutcome, ServerConfig, WriteOutcome};
use pinion_types::block::{BlockHeader, Record, records};
use pinion_types::{Epoch, ErrorCode, Offset, WallMs};
use pinion_wire::message::{
    Delivery, Filter, Handle, Overflow, Ping, Start, Subscribe, Subscribed,
};

use super::frames::Assembler;
use super::*;

const PATIENCE: Duration = Duration::from_secs(20);
const TOKEN: &[u8] = b"let-me-in";
const IN_FLIGHT_MAX: u32 = 64;

/// Welcomes [`TOKEN`], echoes PING, answers SUBSCRIBE with one delivery stream,
/// and closes the connection on UNSUBSCRIBE.
struct TestServer {
    endpoint: Endpoint,
    socket: Socket,
    streams: HashMap<(ConnId, StreamId), Conversation>,
}

#[derive(Default)]
struct Conversation {
    frames: Assembler,
    out: Vec<u8>,
}

struct Running {
    address: SocketAddr,
    roots: Vec<u8>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking());
        }
    }
}

impl Running {
    fn client(&self, token: &[u8]) -> NativeClient {
        let config = NativeConfig::new(self.address, "localhost", &self.roots, token);
        NativeClient::new(config).expect("the roots are good")
    }
}

fn serve() -> Running {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("rcgen");
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let tls = tls::server_config(vec![made.cert.der().clone()], key.into()).expect("good pair");
    let clock = ClockAnchor {
        monotonic: Instant::now(),
        wall: SystemTime::now(),
    };
    let config = ServerConfig::new(tls, [9; 32], clock).with_mtu_max(transport::MTU_JUMBO);
    let place = CorePlace {
        steering: Steering::new(5, 7, 1).expect("odd"),
        core: 0,
    };
    let socket = Socket::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("bind");
    let mut server = TestServer {
        endpoint: Endpoint::server(&config, place, [3; 32]).expect("good configuration"),
        socket,
        streams: HashMap::new(),
    };
    let address = server.socket.local_addr().expect("bound");
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let thread = std::thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            server.turn();
        }
    });
    Running {
        address,
        roots: made.cert.pem().into_bytes(),
        stop,
        thread: Some(thread),
    }
}

impl TestServer {
    fn turn(&mut self) {
        let now = Instant::now();
        self.socket.wait(Duration::from_millis(1)).expect("poll");
        let endpoint = &mut self.endpoint;
        self.socket
            .receive(|from, datagram| {
                let path = PathMeta {
                    remote: from.remote,
                    local_ip: from.local_ip,
                    ecn: from.ecn,
                };
                endpoint.handle_datagram(now, path, datagram);
            })
            .expect("loopback");
        self.endpoint.handle_timeout(now);
        while let Some(event) = self.endpoint.poll_event() {
            match event {
                Event::StreamOpened { conn, stream, .. } => {
                    self.streams.insert((conn, stream), Conversation::default());
                    self.read(now, conn, stream);
                }
                Event::Readable { conn, stream } => self.read(now, conn, stream),
                _ => {}
            }
        }
        for (&(conn, stream), conversation) in &mut self.streams {
            while !conversation.out.is_empty() {
                match self.endpoint.write(conn, stream, &conversation.out) {
                    WriteOutcome::Written(bytes) => drop(conversation.out.drain(..bytes)),
                    WriteOutcome::Blocked => break,
                    WriteOutcome::Stopped(_) | WriteOutcome::Gone => conversation.out.clear(),
                }
            }
        }
        let mut buffer = Vec::new();
        while let Some(meta) = self.endpoint.poll_transmit(now, 16, &mut buffer) {
            self.socket
                .send(
                    meta.destination,
                    meta.source_ip,
                    meta.ecn,
                    &buffer[..meta.len],
                    meta.segment_size,
                )
                .expect("loopback");
        }
    }

    fn read(&mut self, now: Instant, conn: ConnId, stream: StreamId) {
        while let ReadOutcome::Chunk(chunk) = self.endpoint.read(conn, stream) {
            let Some(conversation) = self.streams.get_mut(&(conn, stream)) else {
                return;
            };
            let Conversation { frames, out } = conversation;
            let mut opened = Vec::new();
            let mut close = false;
            frames
                .feed(&chunk, |header, body| {
                    let request = Request::decode(header.opcode, body).expect("well formed");
                    if let Request::Subscribe(subscribe) = &request {
                        opened.push(subscribe.subscription);
                    }
                    close |= matches!(request, Request::Unsubscribe(_));
                    if let Some(reply) = answer(&request) {
                        reply.encode(header.correlation, out).expect("small");
                    }
                })
                .expect("well formed");
            for subscription in opened {
                let delivery = self.endpoint.open_uni(conn).expect("the client allows it");
                let mut conversation = Conversation::default();
                deliveries(subscription, &mut conversation.out);
                self.streams.insert((conn, delivery), conversation);
            }
            if close {
                self.endpoint.close(now, conn, 3, b"draining");
            }
        }
    }
}

fn answer<'a>(request: &Request<'a>) -> Option<Reply<'a>> {
    match request {
        Request::Hello(hello) if hello.token == TOKEN => Some(Reply::Welcome(Welcome {
            version: 1,
            capabilities: 0,
            epoch: Epoch(1),
            core: 0,
            data_cores: 1,
            steering_k0: 5,
            steering_k1: 7,
            in_flight_max: IN_FLIGHT_MAX,
            frame_bytes_max: pinion_types::limits::FRAME_BYTES_MAX,
            node_id: 1,
            server_time: WallMs(0),
        })),
        Request::Hello(_) => Some(Reply::Error(Refusal::new(ErrorCode::Unauthenticated))),
        Request::Ping(ping) => Some(Reply::Pong(*ping)),
        Request::Subscribe(subscribe) => Some(Reply::Subscribed(Subscribed {
            subscription: subscribe.subscription,
            next: Offset(0),
            end: Offset(0),
            epoch: Epoch(1),
        })),
        _ => None,
    }
}

/// A head, then three blocks of two records whose values count upwards.
fn deliveries(subscription: SubscriptionId, out: &mut Vec<u8>) {
    Delivery::Head(subscription).encode(out).expect("small");
    for block in 0..3_u8 {
        let mut bytes = Vec::new();
        for record in 0..2 {
            Record {
                key: b"",
                headers: b"",
                value: &[2 * block + record],
            }
            .encode(&mut bytes)
            .expect("small");
        }
        let header = BlockHeader {
            first_offset: Offset(u64::from(2 * block)),
            timestamp: WallMs(0),
            record_count: 2,
            records_bytes: u32::try_from(bytes.len()).expect("small"),
        };
        out.extend_from_slice(&header.encode());
        out.extend_from_slice(&bytes);
    }
}

fn subscribe(id: u32) -> Request<'static> {
    Request::Subscribe(Subscribe {
        handle: Handle(1),
        partition: pinion_types::PartitionId(0),
        subscription: SubscriptionId(id),
        start: Start::Latest,
        overflow: Some(Overflow::DropOldest),
        backlog_max: 0,
        credit_records: 10,
        credit_bytes: 1000,
        filter: Filter::default(),
    })
}

/// Turns until `done` says so.
fn turn_until(
    client: &mut NativeClient,
    mut visit: impl FnMut(Received<'_>),
    mut done: impl FnMut(&NativeClient) -> bool,
) {
    let started = Instant::now();
    loop {
        let now = Instant::now();
        client.poll(now, &mut visit).expect("loopback");
        client.flush(now).expect("loopback");
        if done(client) {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "nothing happened");
    }
}

#[test]
fn pings_of_every_size_come_back_as_they_were() {
    let server = serve();
    let mut client = server.client(b"let-me-in\n");
    let link = client.connect(None, PATIENCE).expect("welcome");
    assert_eq!(client.welcome(link).map(|w| w.data_cores), Some(1));
    for size in [0, 1, 1000, 9000, 70_000, 1 << 20] {
        let payload: Vec<u8> = (0..=u8::MAX).cycle().take(size).collect();
        let request = Request::Ping(Ping { payload: &payload });
        let reply = client
            .call(link, &request, PATIENCE, |_| {})
            .expect("an answer");
        assert_eq!(reply.decode(), Ok(Reply::Pong(Ping { payload: &payload })));
        assert_eq!(client.in_flight(link), 0);
    }
}

#[test]
fn many_connections_share_one_socket_and_answers_find_theirs() {
    let server = serve();
    let mut client = server.client(TOKEN);
    let mut links = vec![client.connect(None, PATIENCE).expect("welcome")];
    for _ in 1..8 {
        links.push(client.connect(Some(0), PATIENCE).expect("welcome"));
    }
    let mut expected = HashMap::new();
    for (number, &link) in (0_u8..).zip(&links) {
        for copy in 0..4 {
            let payload = [number, copy];
            let request = Request::Ping(Ping { payload: &payload });
            let correlation = client.submit(link, &request).expect("room");
            expected.insert((link, correlation), payload);
        }
    }
    let left = std::cell::Cell::new(expected.len());
    turn_until(
        &mut client,
        |received| {
            let Received::Reply {
                link,
                correlation,
                body,
                ..
            } = received
            else {
                panic!("{received:?}");
            };
            let payload = expected.remove(&(link, correlation)).expect("asked once");
            assert_eq!(body, payload);
            left.set(expected.len());
        },
        |_| left.get() == 0,
    );
}

#[test]
fn a_wrong_token_is_refused_with_the_servers_reason() {
    let server = serve();
    let mut client = server.client(b"wrong");
    match client.connect(None, PATIENCE) {
        Err(NativeError::Refused(refusal)) => {
            assert_eq!(refusal.code, ErrorCode::Unauthenticated);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn deliveries_arrive_in_order_under_their_subscription() {
    let server = serve();
    let mut client = server.client(TOKEN);
    let link = client.connect(None, PATIENCE).expect("welcome");
    let correlation = client.submit(link, &subscribe(42)).expect("room");
    let mut values = Vec::new();
    let count = std::cell::Cell::new(0);
    let mut subscribed = false;
    turn_until(
        &mut client,
        |received| match received {
            Received::Reply { correlation: c, .. } => subscribed = c == correlation,
            Received::Delivery {
                subscription,
                opcode,
                body,
                ..
            } => {
                assert_eq!(subscription, SubscriptionId(42));
                let Ok(Delivery::Records(_, bytes)) = Delivery::decode(opcode, body) else {
                    panic!("opcode {opcode:#x}");
                };
                for record in records(bytes) {
                    values.push(record.expect("well formed").value[0]);
                }
                count.set(values.len());
            }
            Received::Closed { .. } => panic!("{received:?}"),
        },
        |_| count.get() == 6,
    );
    assert!(subscribed);
    assert_eq!(values, [0, 1, 2, 3, 4, 5]);
}

#[test]
fn what_the_server_does_not_take_is_refused_before_it_is_sent() {
    let server = serve();
    let mut client = server.client(TOKEN);
    let link = client.connect(None, PATIENCE).expect("welcome");
    let ping = Request::Ping(Ping { payload: b"" });
    for _ in 0..IN_FLIGHT_MAX {
        client.submit(link, &ping).expect("room");
    }
    let limit = IN_FLIGHT_MAX;
    assert_eq!(
        client.submit(link, &ping),
        Err(SubmitError::InFlight { limit })
    );
    turn_until(&mut client, |_| {}, |client| client.in_flight(link) == 0);
    client.submit(link, &ping).expect("room again");

    let payload = vec![0; OUT_BYTES_MAX];
    let large = Request::Ping(Ping { payload: &payload });
    client
        .submit(link, &large)
        .expect("one may go over the bound");
    let limit = OUT_BYTES_MAX;
    assert_eq!(
        client.submit(link, &large),
        Err(SubmitError::Full { limit })
    );
    turn_until(&mut client, |_| {}, |client| client.in_flight(link) == 0);
}

#[test]
fn a_connection_the_server_closes_says_why_and_takes_nothing_more() {
    let server = serve();
    let mut client = server.client(TOKEN);
    let link = client.connect(None, PATIENCE).expect("welcome");
    let request = Request::Unsubscribe(pinion_wire::message::Unsubscribe {
        subscription: SubscriptionId(1),
    });
    match client.call(link, &request, PATIENCE, |_| {}) {
        Err(NativeError::Closed(CloseReason::Peer { code, reason })) => {
            assert_eq!((code, &reason[..]), (3, &b"draining"[..]));
        }
        other => panic!("{other:?}"),
    }
    let ping = Request::Ping(Ping { payload: b"" });
    assert_eq!(client.submit(link, &ping), Err(SubmitError::NotReady));
}

#[test]
fn a_core_can_be_aimed_at_only_once_the_keys_are_known() {
    let server = serve();
    let mut client = server.client(TOKEN);
    assert!(matches!(
        client.begin_connect(Some(0)),
        Err(NativeError::SteeringUnknown)
    ));
    client.connect(None, PATIENCE).expect("welcome");
    client.connect(Some(0), PATIENCE).expect("welcome");
    assert!(matches!(
        client.begin_connect(Some(1)),
        Err(NativeError::Connect(ConnectError::Core {
            core: 1,
            cores: 1
        }))
    ));
}

#[test]
fn the_token_is_never_shown() {
    let config = NativeConfig::new(
        SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
        "localhost",
        b"",
        b"top-secret",
    );
    let shown = format!("{config:?}");
    assert!(!shown.contains("top-secret") && !shown.contains(&format!("{:?}", b"top-secret")));
}
