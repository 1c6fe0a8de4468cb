//! A data core as a node has one, beside the plane of a test: it answers what the API asks
//! it, and does what clients of the test ask it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Instant, UNIX_EPOCH};

use pinion_admin_api::{NodeFront, NodeHandle, node_front};
use pinion_node::access::{AccessTable, TenantId};
use pinion_node::declared::Declared;
use pinion_node::mail::{ControlMail, CoreMail, Origin};
use pinion_node::map::{Directory, EMPTY_SPEC, Resource, SpecDefaults};
use pinion_node::{Core, CoreConfig, Output};
use pinion_types::block::Record;
use pinion_types::{
    CoreId, Epoch, Monotonic, PartitionId, ResourceId, ResourceKind, ResourceName, SessionId,
    WallMs,
};
use pinion_wire::frame::{Split, split};
use pinion_wire::message::{Hello, MAGIC, QueueSpec, Reply, Request, Spec};

/// Where clients of the test are: a core that there is not.
pub(crate) const ELSEWHERE: CoreId = CoreId(1);

/// The one data core of a node. Shared with whoever plays it.
#[derive(Clone)]
pub(crate) struct Data(Arc<Mutex<Inner>>);

struct Inner {
    core: Core,
    directory: Directory,
    resources: BTreeMap<ResourceId, Arc<Resource>>,
    begun: Instant,
    wall: u64,
    epoch: u64,
    correlation: u32,
    replies: VecDeque<Vec<u8>>,
    /// Bytes written to request streams of connections.
    written: Vec<u8>,
    views: Vec<ControlMail>,
    /// Connections that the core has closed.
    closed: Vec<u64>,
}

/// What an output was, without what it borrows.
enum Step {
    Replied(Vec<u8>),
    Viewed(ControlMail),
    Wrote(u64, u64, Vec<u8>),
    Chunks(u64, u64, usize),
    Open(u64, pinion_types::SubscriptionId),
    Closed(u64),
    Finished(u64),
    Nothing,
}

impl Data {
    /// The core, and the two ends of the way to it.
    pub(crate) fn new(access: AccessTable) -> (Self, NodeHandle, NodeFront) {
        let config = CoreConfig {
            core: CoreId(0),
            data_cores: 2,
            node_id: 1,
            steering: (0, 0),
            create_on_first_use: false,
            seed: [1, 2],
            tail_bytes_max: 1 << 20,
        };
        let wall = UNIX_EPOCH.elapsed().unwrap().as_millis();
        let inner = Inner {
            core: Core::new(config, Arc::new(access)),
            directory: Directory::new(1, 1 << 30, SpecDefaults::default()),
            resources: BTreeMap::new(),
            begun: Instant::now(),
            wall: u64::try_from(wall).unwrap(),
            epoch: 0,
            correlation: 0,
            replies: VecDeque::new(),
            written: Vec::new(),
            views: Vec::new(),
            closed: Vec::new(),
        };
        let (handle, front) = node_front(1);
        (Self(Arc::new(Mutex::new(inner))), handle, front)
    }

    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        act(&mut self.0.lock().unwrap())
    }

    /// The core is told of a resource, as the control thread tells it. Its messages die
    /// at their first failure.
    pub(crate) fn declare(
        &self,
        (id, tenant): (ResourceId, TenantId),
        (kind, name): (ResourceKind, &str),
        shards: u16,
    ) {
        let spec = Spec {
            shards,
            max_record_bytes: 1 << 10,
            ring_bytes: 256 << 10,
            queue: QueueSpec {
                max_attempts: 1,
                ..QueueSpec::UNSET
            },
            ..EMPTY_SPEC
        };
        self.with(|inner| {
            let name = ResourceName::parse(name).unwrap();
            let (made, _) = inner
                .directory
                .declare(tenant, kind, &name, Some(spec))
                .unwrap();
            let declared = Declared {
                id,
                ..Declared::from(&*made)
            };
            inner.epoch += 1;
            let resource = Arc::new(Resource {
                id,
                tenant,
                kind,
                name: declared.name,
                spec: declared.spec,
                logs: declared.logs,
                cores: made.cores.clone(),
            });
            inner.resources.insert(id, Arc::clone(&resource));
            let epoch = Epoch(inner.epoch);
            inner.turn(|core| core.handle_mail(CoreMail::Declared { epoch, resource }));
        });
    }

    /// What a client's request is answered.
    pub(crate) fn ask(&self, id: ResourceId, partition: u16, request: &Request<'_>) -> Vec<u8> {
        self.with(|inner| {
            inner.correlation += 1;
            let origin = Origin {
                session: SessionId {
                    core: ELSEWHERE,
                    token: 7,
                },
                stream: 0,
                correlation: inner.correlation,
            };
            let mut frame = Vec::new();
            request.encode(inner.correlation, &mut frame).unwrap();
            let Ok(Split::Frame { header, body, .. }) = split(&frame) else {
                panic!("a whole frame");
            };
            let mail = CoreMail::Request {
                origin,
                resource: inner.resources[&id].clone(),
                partition: PartitionId(partition),
                number: 1,
                opcode: header.opcode,
                body: body.into(),
            };
            inner.turn(|core| core.handle_mail(mail));
            inner.replies.pop_front().expect("an answer")
        })
    }

    /// Somebody connects, says HELLO with a token, and asks for something.
    pub(crate) fn connect(&self, conn: u64, token: &[u8]) {
        let hello = Request::Hello(Hello {
            magic: MAGIC,
            version_min: 1,
            version_max: 1,
            capabilities: 0,
            token,
            client_name: "test",
        });
        self.with(|inner| {
            inner.turn(|core| core.handle_connected(conn));
            inner.turn(|core| core.handle_stream_opened(conn, 0, true, false));
        });
        let welcome = self.say(conn, &hello);
        assert!(matches!(reply(&welcome), Reply::Welcome(_)));
    }

    /// What a connection is answered on its stream.
    pub(crate) fn say(&self, conn: u64, request: &Request<'_>) -> Vec<u8> {
        let mut frame = Vec::new();
        self.with(|inner| {
            inner.correlation += 1;
            request.encode(inner.correlation, &mut frame).unwrap();
            inner.turn(|core| {
                core.handle_stream_data(conn, 0, frame.into());
            });
            core::mem::take(&mut inner.written)
        })
    }

    /// Connections that the core has closed.
    pub(crate) fn closed(&self) -> Vec<u64> {
        self.with(|inner| inner.closed.clone())
    }
}

impl Inner {
    /// Turns of the core until it has nothing to do.
    fn turn(&mut self, input: impl FnOnce(&mut Core)) {
        let elapsed = self.begun.elapsed();
        let wall = WallMs(self.wall + u64::try_from(elapsed.as_millis()).unwrap());
        self.core.start_turn(Monotonic::ZERO + elapsed, wall);
        input(&mut self.core);
        self.core.handle_timeout();
        self.end();
        while self.core.has_work() {
            self.core.start_turn(Monotonic::ZERO + elapsed, wall);
            self.end();
        }
    }

    fn end(&mut self) {
        self.core.end_turn();
        loop {
            let step = match self.core.poll_output() {
                None => return,
                Some(Output::Mail {
                    mail: CoreMail::Reply { frame, .. },
                    ..
                }) => Step::Replied(frame),
                Some(Output::Control(mail)) => Step::Viewed(mail),
                Some(Output::Write {
                    conn,
                    stream,
                    bytes,
                }) => Step::Wrote(conn, stream, bytes.to_vec()),
                Some(Output::WriteChunks {
                    conn,
                    stream,
                    chunks,
                }) => {
                    let bytes = chunks.iter().map(bytes::Bytes::len).sum();
                    chunks.iter_mut().for_each(bytes::Bytes::clear);
                    Step::Chunks(conn, stream, bytes)
                }
                Some(Output::OpenUni { conn, subscription }) => Step::Open(conn, subscription),
                Some(Output::Close { conn, .. }) => Step::Closed(conn),
                Some(Output::Finish { conn, .. }) => Step::Finished(conn),
                Some(_) => Step::Nothing,
            };
            match step {
                Step::Replied(frame) => self.replies.push_back(frame),
                Step::Viewed(mail) => self.views.push(mail),
                Step::Wrote(conn, stream, bytes) => {
                    self.core.handle_written(conn, stream, bytes.len(), false);
                    self.written.extend(bytes);
                }
                Step::Chunks(conn, stream, bytes) => {
                    self.core.handle_written(conn, stream, bytes, false);
                }
                Step::Open(conn, subscription) => {
                    // Each its own, of the server's kind (RFC 9000 §2.1).
                    let stream = 3 + 4 * u64::from(subscription.0);
                    self.core.handle_opened(conn, subscription, Some(stream));
                }
                Step::Closed(conn) => self.closed.push(conn),
                // Clients of the test acknowledge everything at once.
                Step::Finished(conn) => self.core.handle_stream_acknowledged(conn),
                Step::Nothing => {}
            }
        }
    }
}

/// Answers the API for as long as anybody asks.
pub(crate) async fn play(mut front: NodeFront, data: Data) {
    loop {
        front.ready().await;
        let views = data.with(|inner| {
            let mut mails = Vec::new();
            front.feed(|core, mail| {
                mails.push(mail);
                core == CoreId(0)
            });
            for mail in mails {
                inner.turn(|core| core.handle_mail(mail));
            }
            core::mem::take(&mut inner.views)
        });
        for view in views {
            if let ControlMail::View { core, id, view } = view {
                front.handle_view(core, id, *view);
            }
        }
    }
}

/// What a frame says.
pub(crate) fn reply(frame: &[u8]) -> Reply<'_> {
    match split(frame) {
        Ok(Split::Frame { header, body, .. }) => Reply::decode(header.opcode, body).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// Records of a batch.
pub(crate) fn batch(values: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    for value in values {
        let record = Record {
            key: b"",
            headers: b"",
            value: value.as_bytes(),
        };
        record.encode(&mut out).unwrap();
    }
    out
}
