//! A node that speaks just enough of the protocol to test a client with, and
//! that can be told to misbehave.
#![allow(dead_code, clippy::unwrap_used, unreachable_pub, missing_docs)]

pub mod queue;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::BytesMut;
use pinion_client::{Client, ClientConfig};
use pinion_quic::Steering;
use pinion_types::block::{BlockHeader, RECORD_HEADER_BYTES, records};
use pinion_types::{
    Epoch, ErrorCode, FactId, Offset, PartitionId, Refusal, ResourceId, Sequence, Version, WallMs,
};
use pinion_wire::Reply;
use pinion_wire::frame::{Split, split};
use pinion_wire::message::{
    Ack, CacheEvent, CacheEvents, CacheStored, CacheValue, CoreList, Cursor, CursorItem,
    CursorItems, CursorPage, Delivery, Durability, End, EventKind, Handle, Opened, Published,
    Request, Spec, Start, Subscribed, Welcome,
};
use tokio::sync::{Notify, watch};

pub const TOKEN: &str = "a-secret-token";
pub const SHARDS: u16 = 4;
pub const CORES: u16 = 2;
const PATIENCE: Duration = Duration::from_secs(20);

/// Every await in a test ends.
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("within the test's patience")
}

/// How the node treats the next request with some opcode.
#[derive(Clone, Copy, Debug)]
pub enum Rule {
    /// Answers with this and does nothing.
    Refuse(ErrorCode),
    /// Does it, and closes the connection instead of answering.
    DoAndHangUp,
    /// Does it, and never answers.
    DoAndSaySoNever,
    /// Closes the connection and does nothing.
    HangUp,
}

#[derive(Default)]
struct Partition {
    /// (first offset, count, bytes of the records)
    blocks: Vec<(u64, u32, Vec<u8>)>,
    end: u64,
    /// Next sequence and the batches stored, by producer.
    producers: HashMap<u64, (u64, BTreeMap<u64, u64>)>,
    pub cursors: BTreeMap<String, u64>,
}

/// What all connections share.
pub struct Node {
    pub node_id: u64,
    steering: Steering,
    partitions: Vec<Partition>,
    pub queues: Vec<queue::FakeQueue>,
    cache: HashMap<Vec<u8>, (u64, Vec<u8>)>,
    /// What it takes in a HELLO.
    pub tokens: Vec<String>,
    pub rules: HashMap<u8, VecDeque<Rule>>,
    pub requests: HashMap<u8, u64>,
    connections: Vec<quinn::Connection>,
    /// Core of each connection, as landed.
    pub landed: Vec<u16>,
    lies_about_core: bool,
    /// Most credit any subscription was ahead of, in records.
    pub overdrawn: bool,
    pub unsubscribed: u64,
    /// Whoever is subscribed has lost the right to it.
    revoked: bool,
    version: u64,
}

pub struct Fake {
    pub address: SocketAddr,
    pub ca_pem: String,
    pub node: Arc<Mutex<Node>>,
    pub appended: watch::Sender<u64>,
    endpoint: quinn::Endpoint,
}

impl Fake {
    pub fn start() -> Self {
        Self::start_with(CORES, false)
    }

    pub fn with_cores(cores: u16) -> Self {
        Self::start_with(cores, false)
    }

    /// A node that tells every client it landed on core 0.
    pub fn lying() -> Self {
        Self::start_with(CORES, true)
    }

    fn start_with(cores: u16, lies_about_core: bool) -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let tls = pinion_quic::tls::server_config_pem(
            made.cert.pem().as_bytes(),
            made.signing_key.serialize_pem().as_bytes(),
        )
        .unwrap();
        let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(tls).unwrap();
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        config.transport_config(Arc::new(pinion_quic::transport::server(1452)));
        let endpoint = quinn::Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap();
        let node = Arc::new(Mutex::new(Node {
            node_id: 1,
            steering: Steering::new(0x0102_0304, 0x9e37_79b1, cores).unwrap(),
            partitions: (0..SHARDS).map(|_| Partition::default()).collect(),
            queues: (0..SHARDS).map(|_| queue::FakeQueue::default()).collect(),
            cache: HashMap::new(),
            tokens: vec![TOKEN.to_owned()],
            rules: HashMap::new(),
            requests: HashMap::new(),
            connections: Vec::new(),
            landed: Vec::new(),
            lies_about_core,
            overdrawn: false,
            unsubscribed: 0,
            revoked: false,
            version: 0,
        }));
        let fake = Self {
            address: endpoint.local_addr().unwrap(),
            ca_pem: made.cert.pem(),
            node,
            appended: watch::Sender::new(0),
            endpoint: endpoint.clone(),
        };
        let (node, appended) = (Arc::clone(&fake.node), fake.appended.clone());
        tokio::spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                tokio::spawn(serve(incoming, Arc::clone(&node), appended.clone()));
            }
        });
        fake
    }

    pub fn config(&self) -> ClientConfig {
        ClientConfig::new(self.address.to_string())
            .server_name("localhost")
            .ca_pem(&self.ca_pem)
            .token(TOKEN)
    }

    pub async fn client(&self) -> Client {
        soon(Client::connect(self.config())).await.unwrap()
    }

    pub fn node(&self) -> MutexGuard<'_, Node> {
        self.node.lock().unwrap()
    }

    pub fn rule(&self, opcode: u8, rule: Rule, times: usize) {
        let mut node = self.node();
        node.rules
            .entry(opcode)
            .or_default()
            .extend(vec![rule; times]);
    }

    pub fn requests(&self, opcode: u8) -> u64 {
        self.node().requests.get(&opcode).copied().unwrap_or(0)
    }

    /// Ends every subscription for want of a right.
    pub fn revoke(&self) {
        self.node().revoked = true;
        self.appended.send_modify(|count| *count += 1);
    }

    /// Closes every connection, as a network would.
    pub fn cut(&self) {
        for connection in self.node().connections.drain(..) {
            connection.close(5_u32.into(), b"cut");
        }
    }

    /// Gone without a word: the socket takes nothing any more.
    pub async fn stop_answering(&self) {
        self.endpoint.close(5_u32.into(), b"gone");
        self.endpoint.wait_idle().await;
    }

    /// Tells every client that the node shuts down.
    pub fn drain(&self) {
        for connection in self.node().connections.drain(..) {
            connection.close(3_u32.into(), b"draining");
        }
    }

    /// As if the process had been started anew: nothing is remembered.
    pub fn restart(&self) {
        {
            let mut node = self.node();
            node.node_id += 1;
            node.partitions = (0..SHARDS).map(|_| Partition::default()).collect();
            node.queues = (0..SHARDS).map(|_| queue::FakeQueue::default()).collect();
            node.cache.clear();
        }
        self.cut();
    }

    /// Values stored in all partitions, each partition in order.
    pub fn stored(&self) -> Vec<Vec<String>> {
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let node = self.node();
        let values = |partition: &Partition| {
            let blocks = partition.blocks.iter();
            blocks
                .flat_map(|(_, _, bytes)| records(bytes).map(|r| text(r.unwrap().value)))
                .collect()
        };
        node.partitions.iter().map(values).collect()
    }
}

async fn serve(incoming: quinn::Incoming, node: Arc<Mutex<Node>>, appended: watch::Sender<u64>) {
    let cid = incoming.orig_dst_cid();
    let Ok(connection) = incoming.await else {
        return;
    };
    let core = {
        let mut node = node.lock().unwrap();
        let core = node.steering.core_of_cid(&cid).unwrap();
        node.connections.push(connection.clone());
        node.landed.push(core);
        if node.lies_about_core { 0 } else { core }
    };
    let session = Arc::new(Session {
        connection: connection.clone(),
        node,
        appended,
        credits: Mutex::default(),
        core,
        topped: Notify::new(),
        deferred: Mutex::default(),
    });
    tokio::spawn(Arc::clone(&session).release_at_the_end());
    while let Ok((send, recv)) = connection.accept_bi().await {
        tokio::spawn(Arc::clone(&session).talk(send, recv));
    }
}

struct Session {
    connection: quinn::Connection,
    node: Arc<Mutex<Node>>,
    appended: watch::Sender<u64>,
    /// Records and bytes, by subscription.
    credits: Mutex<HashMap<u32, (i64, i64)>>,
    core: u16,
    topped: Notify,
    /// Takes to be answered later.
    deferred: Mutex<Vec<queue::Waiting>>,
}

impl Session {
    async fn talk(self: Arc<Self>, send: quinn::SendStream, mut recv: quinn::RecvStream) {
        let send = Arc::new(tokio::sync::Mutex::new(send));
        let mut buffer = BytesMut::new();
        while let Ok(Some(chunk)) = recv.read_chunk(1 << 20, true).await {
            buffer.extend_from_slice(&chunk.bytes);
            loop {
                let frame = match split(&buffer).unwrap() {
                    Split::NeedMore(_) => break,
                    Split::Frame { consumed, .. } => buffer.split_to(consumed).freeze(),
                };
                let Split::Frame { header, body, .. } = split(&frame).unwrap() else {
                    panic!("a whole frame")
                };
                let request = Request::decode(header.opcode, body).unwrap();
                let mut out = Vec::new();
                if !self.handle(&request, header.correlation, &mut out) {
                    return;
                }
                if send.lock().await.write_all(&out).await.is_err() {
                    return;
                }
                for waiting in self.deferred.lock().unwrap().drain(..) {
                    tokio::spawn(Arc::clone(&self).take_later(waiting, Arc::clone(&send)));
                }
            }
        }
        let _ = send.lock().await.finish();
    }

    /// False when the connection is gone.
    fn handle(
        self: &Arc<Self>,
        request: &Request<'_>,
        correlation: u32,
        out: &mut Vec<u8>,
    ) -> bool {
        let rule = {
            let mut node = self.node.lock().unwrap();
            *node.requests.entry(request.opcode()).or_default() += 1;
            node.rules
                .get_mut(&request.opcode())
                .and_then(VecDeque::pop_front)
        };
        match rule {
            Some(Rule::Refuse(code)) => {
                let refusal = Reply::Error(Refusal::new(code));
                refusal.encode(correlation, out).unwrap();
                return true;
            }
            Some(Rule::HangUp) => {
                self.connection.close(5_u32.into(), b"rule");
                return false;
            }
            _ => {}
        }
        self.act(request, correlation, out);
        match rule {
            Some(Rule::DoAndHangUp) => {
                self.connection.close(5_u32.into(), b"rule");
                false
            }
            Some(Rule::DoAndSaySoNever) => {
                out.clear();
                true
            }
            _ => true,
        }
    }

    fn act(self: &Arc<Self>, request: &Request<'_>, correlation: u32, out: &mut Vec<u8>) {
        let mut node = self.node.lock().unwrap();
        let mut cores = Vec::new();
        let reply = match *request {
            Request::Hello(hello)
                if !node.tokens.iter().any(|one| one.as_bytes() == hello.token) =>
            {
                Reply::Error(Refusal::new(ErrorCode::Unauthenticated))
            }
            Request::Hello(_) => Reply::Welcome(Welcome {
                version: 1,
                capabilities: 0,
                epoch: Epoch(1),
                core: self.core,
                data_cores: node.steering.cores(),
                steering_k0: node.steering.k0(),
                steering_k1: node.steering.k1(),
                in_flight_max: 64,
                frame_bytes_max: pinion_types::limits::FRAME_BYTES_MAX,
                node_id: node.node_id,
                server_time: WallMs(1),
            }),
            Request::Ping(ping) => Reply::Pong(ping),
            Request::Open(_) => {
                let place = (0..SHARDS).map(|partition| partition % node.steering.cores());
                Reply::Opened(Opened {
                    handle: Handle(9),
                    resource: ResourceId(1),
                    epoch: Epoch(1),
                    spec: Spec::ephemeral(SHARDS),
                    cores: CoreList::build(&mut cores, place).unwrap(),
                })
            }
            Request::Publish(publish) => {
                let partition = &mut node.partitions[usize::from(publish.partition.0)];
                match append(
                    partition,
                    publish.producer,
                    publish.record_count,
                    publish.records,
                ) {
                    Err(refusal) => Reply::Error(refusal),
                    Ok((offset, duplicate)) => {
                        self.appended.send_modify(|count| *count += 1);
                        if publish.ack == Ack::None {
                            return;
                        }
                        Reply::Published(Published {
                            partition: publish.partition,
                            durability: Durability::Memory,
                            duplicate,
                            first_offset: Offset(offset),
                            record_count: publish.record_count,
                            epoch: Epoch(1),
                        })
                    }
                }
            }
            Request::Subscribe(subscribe) => {
                let end = node.partitions[usize::from(subscribe.partition.0)].end;
                let next = match subscribe.start {
                    Start::Earliest => 0,
                    Start::Offset(offset) => offset.0,
                    _ => end,
                };
                let id = subscribe.subscription;
                if next > end {
                    Reply::Error(Refusal::new(ErrorCode::BadArgument))
                } else {
                    let credit = (
                        subscribe.credit_records.into(),
                        subscribe.credit_bytes.into(),
                    );
                    self.credits.lock().unwrap().insert(id.0, credit);
                    let deliver = Arc::clone(self).deliver(id.0, subscribe.partition, next);
                    tokio::spawn(deliver);
                    Reply::Subscribed(Subscribed {
                        subscription: id,
                        next: Offset(next),
                        end: Offset(end),
                        epoch: Epoch(1),
                    })
                }
            }
            Request::Credit(credit) => {
                let mut credits = self.credits.lock().unwrap();
                if let Some((records, bytes)) = credits.get_mut(&credit.subscription.0) {
                    *records += i64::from(credit.records);
                    *bytes += i64::from(credit.bytes);
                }
                self.topped.notify_waiters();
                return;
            }
            Request::Unsubscribe(unsubscribe) => {
                node.unsubscribed += 1;
                self.credits
                    .lock()
                    .unwrap()
                    .remove(&unsubscribe.subscription.0);
                Reply::Done
            }
            Request::CacheGet(get) => match node.cache.get(get.key) {
                None => Reply::CacheMiss,
                Some((version, value)) => {
                    let found = Reply::CacheValue(CacheValue {
                        version: Version(*version),
                        ttl_ms: 0,
                        stale: false,
                        value,
                    });
                    found.encode(correlation, out).unwrap();
                    return;
                }
            },
            Request::CacheSet(set) => {
                node.version += 1;
                let version = node.version;
                node.cache
                    .insert(set.key.to_vec(), (version, set.value.to_vec()));
                self.appended.send_modify(|count| *count += 1);
                Reply::CacheStored(CacheStored {
                    version: Version(version),
                })
            }
            Request::CacheWatch(watch) => {
                let id = watch.subscription;
                let key = watch.key.to_vec();
                let version = node.version;
                self.credits.lock().unwrap().insert(id.0, (1, 1));
                tokio::spawn(Arc::clone(self).changes(id.0, key, version));
                Reply::Subscribed(Subscribed {
                    subscription: id,
                    next: Offset(version),
                    end: Offset(version),
                    epoch: Epoch(1),
                })
            }
            Request::CursorCommit(commit) => {
                let partition = &mut node.partitions[usize::from(commit.partition.0)];
                partition
                    .cursors
                    .insert(commit.name.to_owned(), commit.offset.0);
                Reply::Cursor(Cursor {
                    offset: commit.offset,
                    durability: Durability::Memory,
                })
            }
            Request::CursorGet(get) => {
                match node.partitions[usize::from(get.partition.0)]
                    .cursors
                    .get(get.name)
                {
                    None => Reply::Error(Refusal::new(ErrorCode::CursorUnknown)),
                    Some(offset) => Reply::Cursor(Cursor {
                        offset: Offset(*offset),
                        durability: Durability::Memory,
                    }),
                }
            }
            Request::CursorDelete(delete) => {
                let cursors = &mut node.partitions[usize::from(delete.partition.0)].cursors;
                match cursors.remove(delete.name) {
                    None => Reply::Error(Refusal::new(ErrorCode::CursorUnknown)),
                    Some(_) => Reply::Done,
                }
            }
            // Two to a page, whatever was asked for.
            Request::CursorList(list) => {
                let cursors = &node.partitions[usize::from(list.partition.0)].cursors;
                let after: Vec<_> = cursors
                    .iter()
                    .filter(|c| c.0.as_str() > list.after)
                    .collect();
                let mut scratch = Vec::new();
                let items = after.iter().take(2).map(|(name, offset)| CursorItem {
                    name,
                    offset: Offset(**offset),
                });
                let page = Reply::CursorPage(CursorPage {
                    more: after.len() > 2,
                    items: CursorItems::build(&mut scratch, items).unwrap(),
                });
                page.encode(correlation, out).unwrap();
                return;
            }
            ref of_a_queue => {
                drop(node);
                return self.act_on_queue(of_a_queue, correlation, out);
            }
        };
        reply.encode(correlation, out).unwrap();
    }

    async fn deliver(self: Arc<Self>, id: u32, partition: PartitionId, mut next: u64) {
        let Ok(mut send) = self.connection.open_uni().await else {
            return;
        };
        let mut out = Vec::new();
        Delivery::Head(pinion_types::SubscriptionId(id))
            .encode(&mut out)
            .unwrap();
        let mut appended = self.appended.subscribe();
        loop {
            if send.write_all(&out).await.is_err() {
                return;
            }
            out.clear();
            let topped = self.topped.notified();
            let mut topped = std::pin::pin!(topped);
            topped.as_mut().enable();
            appended.borrow_and_update();
            if self.node.lock().unwrap().revoked {
                let end = Delivery::End(End {
                    code: ErrorCode::Forbidden as u16,
                    next: Offset::ZERO,
                });
                end.encode(&mut out).unwrap();
                let _ = send.write_all(&out).await;
                let _ = send.finish();
                return;
            }
            let Some((records, bytes)) = self.credits.lock().unwrap().get(&id).copied() else {
                let end = Delivery::End(End {
                    code: 0,
                    next: Offset(next),
                });
                end.encode(&mut out).unwrap();
                let _ = send.write_all(&out).await;
                let _ = send.finish();
                return;
            };
            if records > 0 && bytes > 0 && self.block(partition, &mut next, records, &mut out) {
                let header = BlockHeader::split(&out).unwrap().0;
                let mut credits = self.credits.lock().unwrap();
                if let Some((records, bytes)) = credits.get_mut(&id) {
                    *records -= i64::from(header.record_count);
                    *bytes -= i64::try_from(out.len()).unwrap();
                    self.node.lock().unwrap().overdrawn |= *records < 0;
                }
                continue;
            }
            tokio::select! {
                () = topped => {}
                _ = appended.changed() => {}
                _ = self.connection.closed() => return,
                _ = send.stopped() => return,
            }
        }
    }

    /// Sends each new version of one key, once it is seen.
    async fn changes(self: Arc<Self>, id: u32, key: Vec<u8>, mut seen: u64) {
        let Ok(mut send) = self.connection.open_uni().await else {
            return;
        };
        let mut out = Vec::new();
        Delivery::Head(pinion_types::SubscriptionId(id))
            .encode(&mut out)
            .unwrap();
        let mut appended = self.appended.subscribe();
        loop {
            if send.write_all(&out).await.is_err() {
                return;
            }
            out.clear();
            appended.borrow_and_update();
            let found = self.node.lock().unwrap().cache.get(&key).cloned();
            if let Some((version, value)) = found.filter(|(version, _)| *version > seen) {
                seen = version;
                let mut scratch = Vec::new();
                let event = CacheEvent {
                    kind: EventKind::Set,
                    version: Version(version),
                    key: &key,
                    value: Some(&value),
                };
                let events = CacheEvents::build(&mut scratch, [event]).unwrap();
                Delivery::Events(events).encode(&mut out).unwrap();
                continue;
            }
            tokio::select! {
                _ = appended.changed() => {}
                _ = self.connection.closed() => return,
                _ = send.stopped() => return,
            }
        }
    }

    /// One block from `next` on, cut to `most` records.
    fn block(&self, partition: PartitionId, next: &mut u64, most: i64, out: &mut Vec<u8>) -> bool {
        let node = self.node.lock().unwrap();
        let partition = &node.partitions[usize::from(partition.0)];
        let holds = |block: &&(u64, u32, Vec<u8>)| block.0 + u64::from(block.1) > *next;
        let Some((first, _, bytes)) = partition.blocks.iter().find(holds) else {
            return false;
        };
        let skip = usize::try_from(*next - first).unwrap();
        let mut body = Vec::new();
        let mut count = 0;
        for record in records(bytes)
            .skip(skip)
            .take(usize::try_from(most).unwrap())
        {
            record.unwrap().encode(&mut body).unwrap();
            count += 1;
        }
        assert!(body.len() >= RECORD_HEADER_BYTES);
        let header = BlockHeader {
            first_offset: Offset(*next),
            timestamp: WallMs(7),
            record_count: count,
            records_bytes: u32::try_from(body.len()).unwrap(),
        };
        Delivery::Records(header, &body).encode(out).unwrap();
        *next += u64::from(count);
        true
    }
}

fn append(
    partition: &mut Partition,
    producer: Option<(pinion_types::ProducerId, Sequence)>,
    count: u32,
    bytes: &[u8],
) -> Result<(u64, bool), Refusal> {
    pinion_types::block::check_records(bytes, count).unwrap();
    let offset = partition.end;
    if let Some((id, sequence)) = producer {
        let (next, stored) = partition.producers.entry(id.0).or_default();
        if let Some(original) = stored.get(&sequence.0) {
            return Ok((*original, true));
        }
        if sequence.0 != *next {
            let gap = Refusal::new(ErrorCode::SequenceGap);
            return Err(gap.with(FactId::Expected, *next));
        }
        *next += u64::from(count);
        stored.insert(sequence.0, offset);
    }
    partition.blocks.push((offset, count, bytes.to_vec()));
    partition.end += u64::from(count);
    Ok((offset, false))
}
