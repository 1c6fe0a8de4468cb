//! A node of two hundred lines, on a thread of its own: one stream and one
//! queue in memory, which it calls durable or not as it is told to.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use bytes::BytesMut;
use pinion_client::native::NativeConfig;
use pinion_load::server::Certificate;
use pinion_quic::cid::Steering;
use pinion_quic::{
    ClockAnchor, ConnId, CorePlace, Endpoint, Event, PathMeta, ReadOutcome, ServerConfig, StreamId,
    WriteOutcome, tls,
};
use pinion_types::block::{BlockHeader, Record, records};
use pinion_types::limits::{FRAME_BYTES_MAX, IN_FLIGHT_MAX};
use pinion_types::{
    Epoch, ErrorCode, Offset, PartitionId, Refusal, ResourceId, SubscriptionId, WallMs,
};
use pinion_wire::frame::{Split, split};
use pinion_wire::message::{
    Delivery, Durability, Enqueued, Handle, Published, QueueMessage, QueueMessageList,
    QueueMessages, QueueTake, Settled, SettledList, Spec, StreamStatus, Subscribed, Token, Welcome,
};
use pinion_wire::{Reply, Request, reply};

/// Records of the stream, in blocks of [`BLOCK_RECORDS`].
pub(crate) const STREAM_RECORDS: u64 = 40;
const BLOCK_RECORDS: u64 = 4;
/// Bytes of each record's value.
pub(crate) const VALUE_BYTES: usize = 100;

/// What the node has seen, for the test to look at.
#[derive(Default)]
pub(crate) struct Seen {
    /// Publishes that came, refused ones included.
    pub(crate) publishes: AtomicU64,
    pub(crate) puts: AtomicU64,
    pub(crate) acks: AtomicU64,
    /// Acks of tokens that were not, or no longer, reserved.
    pub(crate) bad_acks: AtomicU64,
    pub(crate) subscriptions: AtomicU64,
    /// Bytes of credit given after the first.
    pub(crate) credit: AtomicU64,
}

pub(crate) struct FakeNode {
    address: SocketAddr,
    roots: Vec<u8>,
    pub(crate) seen: Arc<Seen>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking());
        }
    }
}

impl FakeNode {
    /// A node whose every answer promises `durability`.
    pub(crate) fn start(durability: Durability) -> Self {
        let certificate = Certificate::new().expect("rcgen works");
        let dir = tempfile::tempdir().expect("a temporary directory");
        certificate.write(dir.path()).expect("written");
        let roots = std::fs::read(dir.path().join("cert.pem")).expect("just written");
        let tls = tls::server_config(certificate.chain(), certificate.key()).expect("a pair");
        let clock = ClockAnchor {
            monotonic: Instant::now(),
            wall: SystemTime::now(),
        };
        let place = CorePlace {
            steering: Steering::new(5, 7, 1).expect("odd"),
            core: 0,
        };
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
        socket
            .set_read_timeout(Some(Duration::from_millis(1)))
            .expect("not zero");
        let address = socket.local_addr().expect("bound");
        let config = ServerConfig::new(tls, [9; 32], clock);
        let seen = Arc::new(Seen::default());
        let mut node = Node {
            endpoint: Endpoint::server(&config, place, [3; 32]).expect("good configuration"),
            socket,
            durability,
            streams: HashMap::new(),
            deliveries: HashMap::new(),
            ready: VecDeque::new(),
            reserved: HashSet::new(),
            takes: VecDeque::new(),
            next_id: 1,
            seen: Arc::clone(&seen),
        };
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                node.turn();
            }
        });
        Self {
            address,
            roots,
            seen,
            stop,
            thread: Some(thread),
        }
    }

    pub(crate) fn config(&self) -> NativeConfig {
        NativeConfig::new(self.address, "localhost", &self.roots, b"token").mtu_max(1452)
    }
}

#[derive(Default)]
struct Conversation {
    input: Vec<u8>,
    out: Vec<u8>,
}

struct Node {
    endpoint: Endpoint,
    socket: UdpSocket,
    durability: Durability,
    streams: HashMap<(ConnId, StreamId), Conversation>,
    deliveries: HashMap<(ConnId, SubscriptionId), StreamId>,
    ready: VecDeque<(u64, Vec<u8>)>,
    reserved: HashSet<u64>,
    /// Takes that wait: where the answer goes, and how many messages.
    takes: VecDeque<((ConnId, StreamId), u32, usize)>,
    next_id: u64,
    seen: Arc<Seen>,
}

impl Node {
    fn turn(&mut self) {
        let mut bytes = [0; 65_536];
        while let Ok((length, remote)) = self.socket.recv_from(&mut bytes) {
            let path = PathMeta {
                remote,
                local_ip: None,
                ecn: None,
            };
            let datagram = BytesMut::from(&bytes[..length]);
            self.endpoint
                .handle_datagram(Instant::now(), path, datagram);
            self.work();
        }
        self.work();
    }

    fn work(&mut self) {
        let now = Instant::now();
        self.endpoint.handle_timeout(now);
        while let Some(event) = self.endpoint.poll_event() {
            match event {
                Event::StreamOpened { conn, stream, .. } => {
                    self.streams.entry((conn, stream)).or_default();
                    self.read(conn, stream);
                }
                Event::Readable { conn, stream } => self.read(conn, stream),
                _ => {}
            }
        }
        self.answer_takes();
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
        while let Some(meta) = self.endpoint.poll_transmit(now, 1, &mut buffer) {
            self.socket
                .send_to(&buffer[..meta.len], meta.destination)
                .expect("loopback");
        }
    }

    fn read(&mut self, conn: ConnId, stream: StreamId) {
        let at = (conn, stream);
        while let ReadOutcome::Chunk(chunk) = self.endpoint.read(conn, stream) {
            let conversation = self.streams.get_mut(&at).expect("opened before");
            conversation.input.extend_from_slice(&chunk);
        }
        let mut input = std::mem::take(&mut self.streams.get_mut(&at).expect("opened").input);
        let mut taken = 0;
        while let Split::Frame {
            header,
            body,
            consumed,
        } = split(&input[taken..]).expect("well formed")
        {
            let request = Request::decode(header.opcode, body).expect("well formed");
            let mut out = Vec::new();
            self.answer(at, header.correlation, &request, &mut out);
            let conversation = self.streams.get_mut(&at).expect("opened");
            conversation.out.extend_from_slice(&out);
            taken += consumed;
        }
        input.drain(..taken);
        self.streams.get_mut(&at).expect("opened").input = input;
    }

    fn answer(
        &mut self,
        at: (ConnId, StreamId),
        correlation: u32,
        request: &Request<'_>,
        out: &mut Vec<u8>,
    ) {
        let mut scratch = Vec::new();
        let reply = match request {
            Request::Hello(_) => Reply::Welcome(Welcome {
                version: 1,
                capabilities: 0,
                epoch: Epoch(1),
                core: 0,
                data_cores: 1,
                steering_k0: 5,
                steering_k1: 7,
                in_flight_max: IN_FLIGHT_MAX,
                frame_bytes_max: FRAME_BYTES_MAX,
                node_id: 1,
                server_time: WallMs(0),
            }),
            Request::Open(open) => {
                let spec = open.spec.unwrap_or(Spec::ephemeral(1));
                reply::opened(
                    out,
                    correlation,
                    Handle(1),
                    ResourceId(1),
                    Epoch(1),
                    spec,
                    |_| 0,
                )
                .expect("small");
                return;
            }
            // Every third is one too many.
            Request::Publish(_) if self.seen.publishes.fetch_add(1, Ordering::Relaxed) % 3 == 2 => {
                Reply::Error(Refusal::new(ErrorCode::LogBacklogged))
            }
            Request::Publish(publish) => Reply::Published(Published {
                partition: PartitionId(0),
                durability: self.durability,
                duplicate: false,
                first_offset: Offset(0),
                record_count: publish.record_count,
                epoch: Epoch(1),
            }),
            Request::StreamInfo(_) => Reply::StreamStatus(StreamStatus {
                first_available: Offset(0),
                end: Offset(STREAM_RECORDS),
                bytes: 0,
                subscriptions: 0,
                epoch: Epoch(1),
            }),
            Request::Subscribe(subscribe) => {
                self.seen.subscriptions.fetch_add(1, Ordering::Relaxed);
                let stream = self.endpoint.open_uni(at.0).expect("the client allows it");
                let named = (at.0, subscribe.subscription);
                self.deliveries.insert(named, stream);
                let delivery = self.streams.entry((at.0, stream)).or_default();
                deliver_all(subscribe.subscription, &mut delivery.out);
                Reply::Subscribed(Subscribed {
                    subscription: subscribe.subscription,
                    next: Offset(0),
                    end: Offset(STREAM_RECORDS),
                    epoch: Epoch(1),
                })
            }
            Request::Credit(credit) => {
                let bytes = u64::from(credit.bytes);
                self.seen.credit.fetch_add(bytes, Ordering::Relaxed);
                return;
            }
            Request::Unsubscribe(unsubscribe) => {
                // Else the client would run out of streams it allows.
                let ended = (at.0, unsubscribe.subscription);
                let stream = self.deliveries.remove(&ended).expect("subscribed");
                self.streams.remove(&(at.0, stream));
                let _ = self.endpoint.reset(at.0, stream, 0);
                Reply::Done
            }
            Request::QueuePut(put) => {
                let first_id = self.next_id;
                for record in records(put.records) {
                    let value = record.expect("well formed").value.to_vec();
                    self.ready.push_back((self.next_id, value));
                    self.next_id += 1;
                }
                self.seen.puts.fetch_add(1, Ordering::Relaxed);
                Reply::Enqueued(Enqueued {
                    partition: PartitionId(0),
                    durability: self.durability,
                    duplicate: false,
                    first_id,
                    message_count: put.record_count,
                    epoch: Epoch(1),
                })
            }
            Request::QueueTake(QueueTake { max_messages, .. }) => {
                let most = usize::try_from(*max_messages).expect("small");
                self.takes.push_back((at, correlation, most));
                return;
            }
            Request::QueueAck(ack) => {
                let mut results = Vec::new();
                for token in ack.tokens {
                    let id = u64::from_le_bytes(*token.0.first_chunk().expect("16 bytes"));
                    let known = self.reserved.remove(&id);
                    let counter = if known {
                        &self.seen.acks
                    } else {
                        &self.seen.bad_acks
                    };
                    counter.fetch_add(1, Ordering::Relaxed);
                    results.push((!known).then_some(ErrorCode::InvalidToken));
                }
                Reply::Settled(Settled {
                    durability: self.durability,
                    results: SettledList::build(&mut scratch, results).expect("few"),
                })
            }
            other => panic!("nobody asks {other:?} here"),
        };
        reply.encode(correlation, out).expect("small");
    }

    fn answer_takes(&mut self) {
        while !self.ready.is_empty() {
            let Some((at, correlation, most)) = self.takes.pop_front() else {
                return;
            };
            let given: Vec<_> = self.ready.drain(..most.min(self.ready.len())).collect();
            self.reserved.extend(given.iter().map(|(id, _)| *id));
            let mut scratch = Vec::new();
            let messages = given.iter().map(|(id, value)| QueueMessage {
                id: *id,
                token: token_of(*id),
                attempt: 1,
                enqueued: WallMs(0),
                last_error: "",
                record: Record {
                    key: b"",
                    headers: b"",
                    value,
                },
            });
            let taken = Reply::Taken(QueueMessages {
                lease_ms: 30_000,
                messages: QueueMessageList::build(&mut scratch, messages).expect("few"),
            });
            let conversation = self.streams.get_mut(&at).expect("it asked");
            taken
                .encode(correlation, &mut conversation.out)
                .expect("small");
        }
    }
}

fn token_of(id: u64) -> Token {
    let mut token = [0x77; 16];
    token[..8].copy_from_slice(&id.to_le_bytes());
    Token(token)
}

/// The whole stream.
fn deliver_all(subscription: SubscriptionId, out: &mut Vec<u8>) {
    Delivery::Head(subscription).encode(out).expect("small");
    for block in 0..STREAM_RECORDS / BLOCK_RECORDS {
        let mut bytes = Vec::new();
        for _ in 0..BLOCK_RECORDS {
            Record {
                key: b"",
                headers: b"",
                value: &[1; VALUE_BYTES],
            }
            .encode(&mut bytes)
            .expect("small");
        }
        let header = BlockHeader {
            first_offset: Offset(block * BLOCK_RECORDS),
            timestamp: WallMs(0),
            record_count: u32::try_from(BLOCK_RECORDS).expect("small"),
            records_bytes: u32::try_from(bytes.len()).expect("small"),
        };
        out.extend_from_slice(&header.encode());
        out.extend_from_slice(&bytes);
    }
}
