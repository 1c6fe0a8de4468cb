//! A data core's state machine driven from memory: requests in as stream bytes,
//! replies and deliveries taken as a transport would take them.

use std::sync::Arc;

use bytes::Bytes;
use pinion_auth::compile::CredentialTable;
use pinion_node::access::{
    AccessTable, Grant, Permissions, Principal, Scope, TenantId, TokenDigest,
};
use pinion_node::mail::{ControlMail, CoreMail};
use pinion_node::map::{Directory, SpecDefaults};
use pinion_node::stats::CoreStats;
use pinion_node::{Core, CoreConfig, Output};
use pinion_types::block::Record;
use pinion_types::{CoreId, Monotonic, PartitionId, ResourceKind, SubscriptionId, WallMs};
use pinion_wire::message::{
    Ack, CacheGet, CacheSet, Condition, Credit, Filter, Handle, Hello, MAGIC, Open, Publish,
    Request, Start, Subscribe,
};

/// A token of the configuration, which may do anything.
pub const PLAIN_TOKEN: &[u8] = b"bench";
const STREAM: u64 = 0;

/// One core with nothing around it.
#[derive(Debug)]
pub struct Node {
    core: Core,
    directory: Directory,
    now: u64,
    next_stream: u64,
    /// Reply bytes taken so far.
    pub replied: usize,
    /// Delivery bytes taken so far.
    pub delivered: usize,
}

/// Whoever shows [`PLAIN_TOKEN`] may do anything.
fn access() -> AccessTable {
    AccessTable::new([(
        TokenDigest::of(PLAIN_TOKEN),
        Principal {
            name: "bench".to_owned(),
            tenant: TenantId(1),
            grants: vec![Grant {
                permissions: Permissions::ALL,
                kind: None,
                namespace: Scope::Any,
                name: Scope::Any,
            }],
        },
    )])
}

impl Default for Node {
    fn default() -> Self {
        Self::new()
    }
}

impl Node {
    /// A node of one core on which the bench may do anything.
    #[must_use]
    pub fn new() -> Self {
        let config = CoreConfig {
            core: CoreId(0),
            data_cores: 1,
            node_id: 1,
            steering: (1, 1),
            create_on_first_use: true,
            seed: [1, 2],
            tail_bytes_max: 64 << 20,
        };
        Self {
            core: Core::new(config, Arc::new(access())),
            directory: Directory::new(1, 1 << 40, SpecDefaults::default()),
            now: 0,
            next_stream: 3,
            replied: 0,
            delivered: 0,
        }
    }

    /// Tokens of `credentials` let in, too.
    pub fn let_in(&mut self, credentials: Arc<CredentialTable>) {
        let access = Arc::new(access().with_credentials(credentials));
        self.start_turn();
        self.core.handle_mail(CoreMail::Access(access));
        self.core.end_turn();
        self.flush();
    }

    /// What the core counted.
    #[must_use]
    pub fn stats(&self) -> CoreStats {
        self.core.stats()
    }

    /// A connection that has said nothing yet.
    pub fn arrive(&mut self, conn: u64) {
        self.core.handle_connected(conn);
        self.core.handle_stream_opened(conn, STREAM, true, false);
    }

    /// A HELLO that shows `token`.
    #[must_use]
    pub fn hello(token: &[u8]) -> Bytes {
        let mut hello = Vec::new();
        let request = Request::Hello(Hello {
            magic: MAGIC,
            version_min: 1,
            version_max: 1,
            capabilities: 0,
            token,
            client_name: "bench",
        });
        request.encode(1, &mut hello).expect("small");
        hello.into()
    }

    /// A connection that has said HELLO and opened one resource (handle 0).
    pub fn connect(&mut self, conn: u64, kind: ResourceKind) {
        self.arrive(conn);
        let mut hello = Self::hello(PLAIN_TOKEN).to_vec();
        let open = Request::Open(Open {
            kind,
            namespace: "bench",
            name: "resource",
            spec: None,
        });
        open.encode(2, &mut hello).expect("small");
        self.turn(conn, &Bytes::from(hello));
    }

    /// One turn of the core: `requests` arrive, everything owed goes out.
    pub fn turn(&mut self, conn: u64, requests: &Bytes) {
        self.start_turn();
        if !requests.is_empty() {
            self.core.handle_stream_data(conn, STREAM, requests.clone());
        }
        self.core.end_turn();
        self.flush();
        // What the transport gave back may let more go out.
        self.core.end_turn();
        self.flush();
    }

    fn start_turn(&mut self) {
        self.now += 1;
        self.core
            .start_turn(Monotonic::from_millis(self.now), WallMs(self.now));
    }

    fn flush(&mut self) {
        while let Some(output) = self.core.poll_output() {
            match output {
                Output::Write {
                    conn,
                    stream,
                    bytes,
                } => {
                    let taken = bytes.len();
                    self.replied += taken;
                    self.core.handle_written(conn, stream, taken, false);
                }
                Output::WriteChunks {
                    conn,
                    stream,
                    chunks,
                } => {
                    let mut taken = 0;
                    for chunk in chunks {
                        taken += chunk.len();
                        *chunk = Bytes::new();
                    }
                    self.delivered += taken;
                    self.core.handle_written(conn, stream, taken, false);
                }
                Output::OpenUni { conn, subscription } => {
                    let stream = self.next_stream;
                    self.next_stream += 4;
                    self.core.handle_opened(conn, subscription, Some(stream));
                }
                Output::Control(ControlMail::Declare {
                    origin,
                    tenant,
                    kind,
                    name,
                    spec,
                    ..
                }) => {
                    let (resource, new) = self
                        .directory
                        .declare(tenant, kind, &name, spec)
                        .expect("the directory has room");
                    if new {
                        self.core.handle_mail(CoreMail::Declared {
                            epoch: self.directory.map().epoch(),
                            resource: Arc::clone(&resource),
                        });
                    }
                    self.core.handle_mail(CoreMail::DeclareDone {
                        origin,
                        result: Ok(resource),
                    });
                }
                other => panic!("nothing else is expected here: {other:?}"),
            }
        }
    }
}

/// Sets `count` keys to `value`; gives a turn's requests that get each of them.
pub fn cached_gets(node: &mut Node, conn: u64, count: u32, value: &[u8]) -> Bytes {
    let handle = Handle(0);
    let (mut sets, mut gets) = (Vec::new(), Vec::new());
    for i in 0..count {
        let key = i.to_le_bytes();
        let set = Request::CacheSet(CacheSet {
            handle,
            condition: Condition::Always,
            ttl_ms: 0,
            key: &key,
            value,
        });
        set.encode(100 + i, &mut sets).expect("small");
        let get = Request::CacheGet(CacheGet { handle, key: &key });
        get.encode(200 + i, &mut gets).expect("small");
    }
    node.turn(conn, &Bytes::from(sets));
    Bytes::from(gets)
}

/// Subscribes so many times to the stream that is open; gives a turn's requests
/// that publish `count` records and give back the credit they use.
pub fn published_records(
    node: &mut Node,
    conn: u64,
    subscribers: u32,
    count: u32,
    value: &[u8],
) -> Bytes {
    let handle = Handle(0);
    let partition = PartitionId(0);
    let mut records = Vec::new();
    for _ in 0..count {
        let record = Record {
            key: b"key",
            headers: b"",
            value,
        };
        record.encode(&mut records).expect("small");
    }
    let (mut subscribes, mut turn) = (Vec::new(), Vec::new());
    for id in 0..subscribers {
        let subscription = SubscriptionId(id);
        let subscribe = Request::Subscribe(Subscribe {
            handle,
            partition,
            subscription,
            start: Start::Latest,
            overflow: None,
            backlog_max: 0,
            credit_records: 1000,
            credit_bytes: 1 << 20,
            filter: Filter::everything(),
        });
        subscribe.encode(10 + id, &mut subscribes).expect("small");
        // What a client sends back: as much credit as a turn uses.
        let credit = Request::Credit(Credit {
            subscription,
            records: count,
            bytes: u32::try_from(records.len()).expect("small") + 32,
        });
        credit.encode(0, &mut turn).expect("small");
    }
    let publish = Request::Publish(Publish {
        handle,
        partition,
        ack: Ack::Leader,
        producer: None,
        expected_offset: None,
        record_count: count,
        records: &records,
    });
    publish.encode(99, &mut turn).expect("small");
    node.turn(conn, &Bytes::from(subscribes));
    Bytes::from(turn)
}
