//! A data core's state machine driven from memory: requests in as stream bytes,
//! replies and deliveries taken as a transport would take them.

use std::sync::Arc;

use bytes::Bytes;
use pinion_node::access::{
    AccessTable, Grant, Permissions, Principal, Scope, TenantId, TokenDigest,
};
use pinion_node::mail::{ControlMail, CoreMail};
use pinion_node::map::{Directory, SpecDefaults};
use pinion_node::{Core, CoreConfig, Output};
use pinion_types::{CoreId, Monotonic, ResourceKind, WallMs};
use pinion_wire::message::{Hello, MAGIC, Open, Request};

const TOKEN: &[u8] = b"bench";
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

impl Default for Node {
    fn default() -> Self {
        Self::new()
    }
}

impl Node {
    /// A node of one core on which the bench may do anything.
    #[must_use]
    pub fn new() -> Self {
        let access = AccessTable::new([(
            TokenDigest::of(TOKEN),
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
        )]);
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
            core: Core::new(config, Arc::new(access)),
            directory: Directory::new(1, 1 << 40, SpecDefaults::default()),
            now: 0,
            next_stream: 3,
            replied: 0,
            delivered: 0,
        }
    }

    /// A connection that has said HELLO and opened one resource (handle 0).
    pub fn connect(&mut self, conn: u64, kind: ResourceKind) {
        self.core.handle_connected(conn);
        self.core.handle_stream_opened(conn, STREAM, true, false);
        let mut hello = Vec::new();
        let request = Request::Hello(Hello {
            magic: MAGIC,
            version_min: 1,
            version_max: 1,
            capabilities: 0,
            token: TOKEN,
            client_name: "bench",
        });
        request.encode(1, &mut hello).expect("small");
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
        self.now += 1;
        self.core
            .start_turn(Monotonic::from_millis(self.now), WallMs(self.now));
        if !requests.is_empty() {
            self.core.handle_stream_data(conn, STREAM, requests.clone());
        }
        self.core.end_turn();
        self.flush();
        // What the transport gave back may let more go out.
        self.core.end_turn();
        self.flush();
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
