//! A control plane of one, on a disk in memory, turned as a node does it.

use core::time::Duration;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, UNIX_EPOCH};

use pinion_admin_api::{Front, PlaneHandle, front};
use pinion_auth::TenantId;
use pinion_auth::access::{AccessTable, Grant, Permissions, Principal, Scope, TokenDigest};
use pinion_auth::compile::{CredentialTable, TableBuilder};
use pinion_auth::token::Realm;
use pinion_commitlog::{DiskDone, DiskError, DiskRequest, FileId, Files, LogId};
use pinion_metadata::broker::Capacity;
use pinion_metadata::{Founder, Metadata};
use pinion_plane::{AUDIT_LOG, AuditConfig, NodeFacts, PeerName, Plane, PlaneConfig, PlaneOutput};
use pinion_raft_group::GroupConfig;
use pinion_simkit::{CrashMode, SimDisk, SimDiskConfig, SimRng};
use pinion_types::{Monotonic, WallMs};
use tokio::sync::{Notify, oneshot, watch};

pub(crate) const CLUSTER: [u8; 16] = *b"a test's cluster";
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// Those of a node, as they are read when it begins.
struct Disks {
    group: SimDisk,
    audit: SimDisk,
}

impl Disks {
    fn of(&mut self, log: LogId) -> &mut SimDisk {
        match log {
            AUDIT_LOG => &mut self.audit,
            _ => &mut self.group,
        }
    }
}

impl Files for Disks {
    fn list(&mut self, log: LogId) -> Result<(Vec<(FileId, u64)>, Vec<String>), DiskError> {
        self.of(log).list(log)
    }

    fn read(&mut self, file: FileId, offset: u64, into: &mut [u8]) -> Result<usize, DiskError> {
        self.of(file.log()).read(file, offset, into)
    }
}

/// A plane and its disks; [`Host::run`] turns it for as long as anybody wants.
pub(crate) struct Host {
    plane: Plane,
    front: Front,
    group: SimDisk,
    audit: SimDisk,
    gate: Arc<Gate>,
    /// What the audit log's disk is given when the gate opens.
    held: Vec<DiskRequest>,
    begun: Instant,
    /// What the wall clock showed then. It is that of the machine: the API goes by it, too.
    wall: WallMs,
    ready: bool,
    /// What the cluster knows of credentials.
    builder: TableBuilder,
    access: watch::Sender<Arc<AccessTable>>,
}

/// In front of the audit log's disk; open at first.
#[derive(Default)]
pub(crate) struct Gate {
    closed: AtomicBool,
    /// Something waits before it.
    met: Notify,
    opened: Notify,
}

impl Gate {
    /// The disk is given nothing from now on.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// Until something waits that the disk was to do.
    pub(crate) async fn met(&self) {
        self.met.notified().await;
    }

    /// The disk is given all that waits.
    pub(crate) fn open(&self) {
        self.closed.store(false, Ordering::SeqCst);
        self.opened.notify_one();
    }
}

/// The token of the configuration whose holder runs the cluster.
pub(crate) const OPERATOR: &str = "the operator's token";
/// One whose holder does not, whatever it may do with data.
pub(crate) const PLAIN: &str = "a token for data";

/// The id of a workload that runs the cluster.
pub(crate) const OPERATOR_WORKLOAD: &str = "spiffe://cluster.local/ops";

/// A token of the configuration, whose holder may do everything with data.
pub(crate) fn entry(token: &str, name: &str) -> (TokenDigest, Principal) {
    let everything = Grant {
        permissions: Permissions::ALL,
        kind: None,
        namespace: Scope::Any,
        name: Scope::Any,
    };
    let principal = Principal {
        name: name.into(),
        tenant: TenantId(1),
        grants: vec![everything],
    };
    (TokenDigest::of(token.as_bytes()), principal)
}

/// The tokens of the configuration, and what the cluster knows.
fn table(credentials: Option<Arc<CredentialTable>>) -> Arc<AccessTable> {
    let table = AccessTable::new([entry(OPERATOR, "ops"), entry(PLAIN, "data")]);
    let table = table.with_operators([TokenDigest::of(OPERATOR.as_bytes())]);
    let table = table.with_operator_workloads([OPERATOR_WORKLOAD.into()]);
    Arc::new(match credentials {
        Some(credentials) => table.with_credentials(credentials),
        None => table,
    })
}

/// The only node, and the first broker.
fn node() -> NodeFacts {
    NodeFacts {
        name: PeerName::new("n1").unwrap(),
        address: "n1:7420".into(),
        region: "eu".into(),
        zone: "a".into(),
        labels: Box::default(),
        capacity: Capacity {
            max_shards: 100,
            max_connections: 1_000,
            cores: 2,
            logs: 2,
            memory_per_core: 1 << 30,
        },
        incarnation: 1,
    }
}

impl Host {
    /// A cluster of one node that has caught up with itself.
    pub(crate) fn new() -> (PlaneHandle, Self) {
        let disk = |seed| SimDisk::new(SimDiskConfig::default(), SimRng::new(seed));
        let (handle, mut host) = Self::open(Disks {
            group: disk(1),
            audit: disk(2),
        });
        let node = node();
        let founder = Founder {
            name: node.name.to_string().into(),
            facts: node.broker_facts(),
            incarnation: Some(node.incarnation),
            address: node.address,
            store: [7; 16],
        };
        host.plane.bootstrap(CLUSTER, &[founder]);
        host.catch_up();
        (handle, host)
    }

    /// A node that begins on these disks.
    fn open(mut disks: Disks) -> (PlaneHandle, Self) {
        let config = PlaneConfig {
            node: node(),
            cluster: None,
            group: GroupConfig {
                store: [7; 16],
                seed: 1,
                segment_bytes: 2 << 20,
                ..GroupConfig::default()
            },
            audit: AuditConfig {
                segment_bytes: 1 << 20,
                ..AuditConfig::default()
            },
        };
        let wall = UNIX_EPOCH.elapsed().unwrap().as_millis();
        let wall = WallMs(u64::try_from(wall).unwrap());
        let opened = Plane::open(config, &mut disks, wall).unwrap();
        let (handle, front) = front();
        let host = Self {
            plane: opened.plane,
            front,
            group: disks.group,
            audit: disks.audit,
            gate: Arc::default(),
            held: Vec::new(),
            begun: Instant::now(),
            wall,
            ready: false,
            builder: TableBuilder::new(
                Realm::of(&CLUSTER),
                vec![("cluster.local".into(), "default".into())],
            ),
            access: watch::channel(table(None)).0,
        };
        (handle, host)
    }

    fn catch_up(&mut self) {
        while !self.ready {
            self.turn();
            self.disk_done();
            self.plane.handle_timeout();
        }
    }

    /// What stands in front of the audit log's disk.
    pub(crate) fn gate(&self) -> Arc<Gate> {
        self.gate.clone()
    }

    /// Who may do what, as it changes.
    pub(crate) fn access(&self) -> watch::Receiver<Arc<AccessTable>> {
        self.access.subscribe()
    }

    fn now(&self) -> Monotonic {
        Monotonic::ZERO + self.begun.elapsed()
    }

    fn start_turn(&mut self) -> Monotonic {
        let now = self.now();
        let wall = WallMs(self.wall.0 + now.as_millis());
        self.plane.start_turn(now, wall);
        now
    }

    fn turn(&mut self) {
        let now = self.start_turn();
        self.front.feed(&mut self.plane, now);
        self.plane.end_turn();
        loop {
            while let Some(output) = self.plane.poll_output() {
                self.take(output);
            }
            let Some((log, request)) = self.plane.poll_disk() else {
                break;
            };
            self.submit(log, now, request);
        }
    }

    fn take(&mut self, output: PlaneOutput) {
        match self.front.handle_output(&mut self.plane, output) {
            Some(PlaneOutput::Encode { index, source }) => {
                self.plane.handle_encoded(index, source.encode());
            }
            Some(PlaneOutput::Ready) => self.ready = true,
            Some(PlaneOutput::Changes(changes)) => {
                let metadata = self.plane.metadata().unwrap();
                self.builder.handle_changes(metadata, &changes).unwrap();
                while let Some(credentials) = self.builder.poll_table() {
                    self.access.send_replace(table(Some(credentials)));
                }
            }
            Some(PlaneOutput::Answer { id, .. }) => panic!("nobody else asked: {id:?}"),
            _ => {}
        }
    }

    fn submit(&mut self, log: LogId, now: Monotonic, request: DiskRequest) {
        match log {
            AUDIT_LOG if self.gate.closed.load(Ordering::SeqCst) => {
                self.held.push(request);
                self.gate.met.notify_one();
            }
            AUDIT_LOG => self.audit.submit(now, request),
            _ => self.group.submit(now, request),
        }
    }

    /// Everything that a disk has done by now.
    fn disk_done(&mut self) {
        let now = self.start_turn();
        let mut done: Vec<(LogId, DiskDone)> = Vec::new();
        while let Some(one) = self.group.poll_done(now) {
            done.push((pinion_raft_group::RAFT_LOG, one));
        }
        while let Some(one) = self.audit.poll_done(now) {
            done.push((AUDIT_LOG, one));
        }
        for (log, one) in done {
            self.plane.handle_disk_done(log, one);
        }
    }

    /// Turns it until `stop`.
    pub(crate) async fn run(mut self, mut stop: oneshot::Receiver<()>) -> Self {
        loop {
            self.turn();
            let due = [
                self.plane.next_deadline(),
                self.group.next_deadline(),
                self.audit.next_deadline(),
            ];
            let due = due.into_iter().flatten().min();
            let pause = due.map_or(Duration::from_secs(60), |due| due.since(self.now()));
            tokio::select! {
                () = self.front.ready() => {}
                () = tokio::time::sleep(pause) => {}
                () = self.gate.opened.notified() => {
                    let now = self.now();
                    for request in core::mem::take(&mut self.held) {
                        self.submit(AUDIT_LOG, now, request);
                    }
                }
                _ = &mut stop => return self,
            }
            self.disk_done();
            self.plane.handle_timeout();
        }
    }

    /// Turns it until the metadata is as told, and not once more: power is lost, and what
    /// waits is lost with it. Gives the node that is started again on its disks.
    pub(crate) async fn crash_when(
        mut self,
        is: impl Fn(&Metadata) -> bool,
    ) -> (PlaneHandle, Self) {
        while !is(self.metadata()) {
            self.turn();
            // Whoever asks has a turn, too.
            tokio::task::yield_now().await;
            self.disk_done();
            self.plane.handle_timeout();
        }
        let mut rng = SimRng::new(3);
        let mut disks = Disks {
            group: self.group,
            audit: self.audit,
        };
        disks.group.crash(CrashMode::DropUnsynced, &mut rng);
        disks.audit.crash(CrashMode::DropUnsynced, &mut rng);
        let (handle, mut host) = Self::open(disks);
        host.catch_up();
        let metadata = host.plane.metadata().unwrap();
        host.builder.handle_all(metadata).unwrap();
        let credentials = host.builder.poll_table();
        host.access.send_replace(table(credentials));
        (handle, host)
    }

    pub(crate) fn metadata(&self) -> &Metadata {
        self.plane.metadata().unwrap()
    }
}

/// Runs a story beside a plane, and gives the plane back.
pub(crate) fn beside<F: Future<Output = ()>>(story: impl FnOnce(PlaneHandle) -> F) -> Host {
    let (handle, host) = Host::new();
    with(host, || story(handle))
}

/// The same of a plane that there is.
pub(crate) fn with<F: Future<Output = ()>>(host: Host, story: impl FnOnce() -> F) -> Host {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (stop, stopped) = oneshot::channel();
        let both = async {
            story().await;
            stop.send(()).unwrap();
        };
        let (host, ()) = tokio::join!(host.run(stopped), both);
        host
    })
}
