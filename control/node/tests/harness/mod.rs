//! A node in memory: cores, the control thread's directory, boxes between them
//! and clients, all moved by one seed. Nothing sleeps and nothing is real but
//! [`Core`].

mod client;
mod panics;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pinion_commitlog::{LogConfig, LogId};
use pinion_node::access::{
    AccessTable, Grant, Permissions, Principal, Scope, TenantId, TokenDigest,
};
use pinion_node::declared::Declared;
use pinion_node::mail::{ControlMail, CoreMail, StorageNotice};
use pinion_node::map::{Directory, EMPTY_SPEC, Resource, SpecDefaults};
use pinion_node::quota_shares::QuotaShares;
use pinion_node::stats::CoreStats;
use pinion_node::views::{Question, View};
use pinion_node::{Core, CoreConfig, Feed, Output};
use pinion_session::CloseCode;
use pinion_simkit::{CrashMode, SimDisk, SimDiskConfig, SimRng};
use pinion_types::{
    CoreId, Epoch, ErrorCode, Monotonic, PartitionId, Refusal, ResourceId, ResourceKind,
    SubscriptionId, WallMs,
};
use pinion_wire::message::{Handle, Hello, MAGIC, Open, Reply, Request, Spec};

pub(crate) use client::{Answer, Client, Got, batch};

/// May do everything.
pub(crate) const ADMIN: &[u8] = b"admin";
/// May read everything.
pub(crate) const READER: &[u8] = b"reader";
/// May write everything.
pub(crate) const WRITER: &[u8] = b"writer";
/// Has a token and no grant.
pub(crate) const NOBODY: &[u8] = b"nobody";
/// May do everything, for another tenant.
pub(crate) const STRANGER: &[u8] = b"stranger";

/// Numbers from a seed (splitmix64).
#[derive(Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5eed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Less than `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).expect("less than a usize")
    }

    pub(crate) fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }
}

pub(crate) fn principal(name: &str, tenant: u64, permissions: Permissions) -> Principal {
    Principal {
        name: name.to_owned(),
        tenant: TenantId(tenant),
        grants: vec![Grant {
            permissions,
            kind: None,
            namespace: Scope::Any,
            name: Scope::Any,
        }],
    }
}

/// The table every world begins with.
pub(crate) fn table() -> AccessTable {
    table_of(&[
        (ADMIN, 1, Permissions::ALL),
        (READER, 1, Permissions::READ),
        (WRITER, 1, Permissions::WRITE),
        (NOBODY, 1, Permissions::NONE),
        (STRANGER, 2, Permissions::ALL),
    ])
}

pub(crate) fn table_of(entries: &[(&[u8], u64, Permissions)]) -> AccessTable {
    AccessTable::new(entries.iter().map(|(token, tenant, permissions)| {
        let name = String::from_utf8_lossy(token);
        (
            TokenDigest::of(token),
            principal(&name, *tenant, *permissions),
        )
    }))
}

/// How a world differs from the usual one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) cores: u16,
    pub(crate) seed: u64,
    /// Mails a box between two ports holds.
    pub(crate) box_capacity: usize,
    /// Mail is delivered some of the time only, and cores take turns unevenly.
    pub(crate) delays: bool,
    pub(crate) create_on_first_use: bool,
    /// Longest a request to the disk takes; a test that sets it must advance
    /// the time.
    pub(crate) disk_latency: Duration,
    pub(crate) segment_bytes: u64,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            cores: 1,
            seed: 1,
            box_capacity: 1024,
            delays: false,
            create_on_first_use: true,
            disk_latency: Duration::ZERO,
            segment_bytes: 4 << 20,
        }
    }
}

pub(crate) struct World {
    setup: Setup,
    pub(crate) cores: Vec<Core>,
    /// One for each core.
    pub(crate) disks: Vec<SimDisk>,
    sim_rng: SimRng,
    disk: SimDiskConfig,
    /// Logs there are: as many as the node ever had cores.
    logs: u16,
    /// Times the node has started.
    lives: u64,
    /// What the cores said of their logs.
    pub(crate) notices: Vec<(LogId, StorageNotice)>,
    /// `boxes[to][from]`; the last `from` is the control thread.
    pub(crate) boxes: Vec<Vec<VecDeque<CoreMail>>>,
    to_control: Vec<VecDeque<ControlMail>>,
    /// What the control thread could not post yet, per core.
    from_control: Vec<VecDeque<CoreMail>>,
    directory: Directory,
    /// What tenants may use; divided among the cores as they report.
    pub(crate) quotas: QuotaShares,
    pub(crate) reports: usize,
    /// Resources that are deleted, as the metadata would have it.
    closed: BTreeSet<ResourceId>,
    /// Resources that the metadata has not, purged ones among them.
    unknown: BTreeSet<ResourceId>,
    /// Cores that have nothing left of a purged resource.
    pub(crate) purged: Vec<(CoreId, ResourceId)>,
    epoch: u64,
    /// Resources that a core found declared over data of before, and how many partitions.
    pub(crate) barred: Vec<(CoreId, ResourceId, u16)>,
    /// Answers of those who look in, with the core's number and the question's.
    pub(crate) views: Vec<(CoreId, u64, View)>,
    questions: u64,
    /// Partitions of the last start that nobody declares.
    pub(crate) orphans: usize,
    pub(crate) clients: Vec<Client>,
    pub(crate) rng: Rng,
    pub(crate) now: Monotonic,
    pub(crate) wall: WallMs,
    /// Most bytes of replies a core ever offered in one write.
    pub(crate) offered_max: usize,
    /// Times a client had no delivery stream to give.
    pub(crate) opens_refused: usize,
    /// Mail from this core is held back.
    pub(crate) mute: Option<usize>,
    /// The control thread does not answer.
    pub(crate) control_mute: bool,
    panics: panics::Panics,
}

/// Index of a client.
pub(crate) type Id = usize;

impl World {
    pub(crate) fn one() -> Self {
        Self::new(Setup::default())
    }

    pub(crate) fn two() -> Self {
        Self::new(Setup {
            cores: 2,
            ..Setup::default()
        })
    }

    pub(crate) fn new(setup: Setup) -> Self {
        let ports = usize::from(setup.cores);
        let disk = SimDiskConfig {
            latency_min: Duration::ZERO,
            latency_max: setup.disk_latency,
            ..SimDiskConfig::default()
        };
        let mut rng = SimRng::new(setup.seed);
        let disks = (0..u64::from(setup.cores))
            .map(|core| SimDisk::new(disk.clone(), rng.fork(core)))
            .collect();
        let mut world = Self {
            setup,
            cores: Vec::new(),
            disks,
            sim_rng: rng,
            disk,
            logs: setup.cores,
            lives: 0,
            boxes: (0..ports)
                .map(|_| (0..=ports).map(|_| VecDeque::new()).collect())
                .collect(),
            to_control: (0..ports).map(|_| VecDeque::new()).collect(),
            from_control: (0..ports).map(|_| VecDeque::new()).collect(),
            directory: Directory::new(setup.cores, 4 << 30, SpecDefaults::default()),
            quotas: QuotaShares::new(setup.cores),
            reports: 0,
            closed: BTreeSet::new(),
            unknown: BTreeSet::new(),
            purged: Vec::new(),
            epoch: 1,
            barred: Vec::new(),
            views: Vec::new(),
            questions: 0,
            orphans: 0,
            clients: Vec::new(),
            rng: Rng::new(setup.seed),
            now: Monotonic::from_millis(1),
            wall: WallMs(1_700_000_000_000),
            offered_max: 0,
            opens_refused: 0,
            mute: None,
            control_mute: false,
            panics: panics::Panics::default(),
            notices: Vec::new(),
        };
        world.boot();
        world
    }

    /// Makes the cores and has them read their logs.
    fn boot(&mut self) {
        self.lives += 1;
        self.orphans = 0;
        let access = Arc::new(table());
        let mut resources: Vec<_> = self.directory.map().iter().cloned().collect();
        resources.retain(|resource| !self.unknown.contains(&resource.id));
        resources.sort_by_key(|resource| resource.id);
        self.cores = (0..self.setup.cores)
            .zip(&mut self.disks)
            .map(|(core, disk)| {
                let config = CoreConfig {
                    core: CoreId(core),
                    data_cores: self.setup.cores,
                    node_id: 76 + self.lives,
                    steering: (5, 7),
                    create_on_first_use: self.setup.create_on_first_use,
                    seed: [self.setup.seed, self.lives],
                    tail_bytes_max: 64 << 20,
                };
                let mut state = Core::new(config, Arc::clone(&access));
                state.start_turn(self.now, self.wall);
                let epoch = Epoch(self.epoch);
                for resource in &resources {
                    state.handle_mail(CoreMail::Declared {
                        epoch,
                        resource: Arc::clone(resource),
                    });
                    if self.closed.contains(&resource.id) {
                        state.handle_mail(CoreMail::Closed {
                            epoch,
                            resource: resource.id,
                        });
                    }
                }
                for log in (core..self.logs).step_by(usize::from(self.setup.cores)) {
                    let config = LogConfig {
                        log: LogId(log),
                        segment_bytes: self.setup.segment_bytes,
                        checkpoint_every_bytes: self.setup.segment_bytes,
                        reserve_bytes: self.setup.segment_bytes / 8,
                        seed: self.lives,
                        ..LogConfig::default()
                    };
                    let opened = state.open_log(disk, config).expect("the log opens");
                    assert!(opened.report.damage.is_empty(), "{:?}", opened.report);
                    assert!(opened.senseless.is_empty(), "{:?}", opened.senseless);
                    self.orphans += opened.orphans;
                }
                state
            })
            .collect();
    }

    /// Power is lost: connections, memory and what was not on the disk yet are
    /// gone. Then the node starts again.
    pub(crate) fn crash(&mut self, mode: CrashMode) {
        for disk in &mut self.disks {
            disk.crash(mode, &mut self.sim_rng);
        }
        for boxes in &mut self.boxes {
            boxes.iter_mut().for_each(VecDeque::clear);
        }
        self.to_control.iter_mut().for_each(VecDeque::clear);
        self.from_control.iter_mut().for_each(VecDeque::clear);
        for client in &mut self.clients {
            client.gone = true;
        }
        self.boot();
    }

    /// The same, on a machine with another number of cores.
    pub(crate) fn crash_and_move(&mut self, mode: CrashMode, cores: u16) {
        for disk in &mut self.disks {
            disk.crash(mode, &mut self.sim_rng);
        }
        let mut disks: Vec<SimDisk> = (0..cores)
            .map(|core| SimDisk::new(self.disk.clone(), self.sim_rng.fork(u64::from(core))))
            .collect();
        for disk in &self.disks {
            for (file, _) in disk.files() {
                let bytes = disk.bytes(file).expect("listed just now");
                disks[usize::from(file.log().0 % cores)].put(file, &bytes);
            }
        }
        self.disks = disks;
        self.setup.cores = cores;
        self.logs = self.logs.max(cores);
        let mut directory =
            Directory::new(cores, 4 << 30, SpecDefaults::default()).with_logs(self.logs);
        let mut declared: Vec<Declared> = self
            .directory
            .map()
            .iter()
            .map(|resource| Declared::from(&**resource))
            .collect();
        declared.sort_by_key(|one| one.id);
        for one in declared {
            // As they would come from the log of declarations.
            let one = Declared::decode(&one.encode()).expect("what was encoded");
            directory.restore(one);
        }
        assert_eq!(directory.overfull(), [], "room");
        self.directory = directory;
        let ports = usize::from(cores);
        self.boxes = (0..ports)
            .map(|_| (0..=ports).map(|_| VecDeque::new()).collect())
            .collect();
        self.to_control = (0..ports).map(|_| VecDeque::new()).collect();
        self.from_control = (0..ports).map(|_| VecDeque::new()).collect();
        for client in &mut self.clients {
            client.gone = true;
        }
        self.boot();
    }

    // ---- clients -------------------------------------------------------

    /// A connection on `core` with one request stream and nothing said.
    pub(crate) fn connect(&mut self, core: usize) -> Id {
        let id = self.clients.len();
        // Slot and generation, as the transport numbers connections.
        let conn = (1 << 32) | id as u64;
        self.clients.push(Client::new(core, conn));
        self.cores[core].handle_connected(conn);
        self.open_stream(id, false);
        id
    }

    /// Opens one more request stream; gives its number.
    pub(crate) fn open_stream(&mut self, id: Id, early: bool) -> u64 {
        let client = &mut self.clients[id];
        let stream = client.new_stream();
        let (core, conn) = (client.core, client.conn);
        self.cores[core].handle_stream_opened(conn, stream, true, early);
        stream
    }

    /// A connection that has said HELLO with `token` and was welcomed.
    pub(crate) fn client(&mut self, core: usize, token: &[u8]) -> Id {
        let id = self.connect(core);
        let answer = self.hello(id, token);
        assert!(matches!(answer.reply(), Reply::Welcome(_)), "{answer:?}");
        id
    }

    pub(crate) fn hello(&mut self, id: Id, token: &[u8]) -> Answer {
        let hello = Hello {
            magic: MAGIC,
            version_min: 1,
            version_max: 1,
            capabilities: 0,
            token,
            client_name: "test",
        };
        self.call(id, &Request::Hello(hello))
    }

    /// One partition that survives a restart.
    pub(crate) fn durable() -> Spec {
        Spec {
            durability: 1,
            ..Self::spec(1)
        }
    }

    pub(crate) fn spec(shards: u16) -> Spec {
        Spec {
            shards,
            ..EMPTY_SPEC
        }
    }

    /// Opens, and declares with a spec, a resource in namespace `n`.
    pub(crate) fn try_open(
        &mut self,
        id: Id,
        kind: ResourceKind,
        name: &str,
        spec: Option<Spec>,
    ) -> Answer {
        let open = Open {
            kind,
            namespace: "n",
            name,
            spec,
        };
        self.call(id, &Request::Open(open))
    }

    pub(crate) fn open(&mut self, id: Id, kind: ResourceKind, name: &str) -> Handle {
        let answer = self.try_open(id, kind, name, None);
        match answer.reply() {
            Reply::Opened(opened) => opened.handle,
            other => panic!("{other:?}"),
        }
    }

    /// A stream or cache of `shards` partitions, declared by whoever is first.
    pub(crate) fn declare(
        &mut self,
        id: Id,
        kind: ResourceKind,
        name: &str,
        shards: u16,
    ) -> Handle {
        let answer = self.try_open(id, kind, name, Some(Self::spec(shards)));
        match answer.reply() {
            Reply::Opened(opened) => opened.handle,
            other => panic!("{other:?}"),
        }
    }

    /// The core that owns a partition.
    pub(crate) fn owner(
        &self,
        tenant: u64,
        kind: ResourceKind,
        name: &str,
        partition: u16,
    ) -> usize {
        let name = pinion_types::ResourceName::new("n", name).unwrap();
        let resource = self.directory.map().find(TenantId(tenant), kind, &name);
        let owner = resource.unwrap().owner(PartitionId(partition)).unwrap();
        usize::from(owner.0)
    }

    /// Sends a request on the first stream; gives its correlation id.
    pub(crate) fn send(&mut self, id: Id, request: &Request<'_>) -> u32 {
        let stream = self.clients[id].first_stream();
        self.send_on(id, stream, request)
    }

    pub(crate) fn send_on(&mut self, id: Id, stream: u64, request: &Request<'_>) -> u32 {
        let correlation = self.clients[id].new_correlation();
        self.send_as(id, stream, correlation, request);
        correlation
    }

    pub(crate) fn send_as(&mut self, id: Id, stream: u64, correlation: u32, request: &Request<'_>) {
        let mut bytes = Vec::new();
        request.encode(correlation, &mut bytes).unwrap();
        self.clients[id].send(stream, bytes.into());
    }

    pub(crate) fn send_bytes(&mut self, id: Id, stream: u64, bytes: &[u8]) {
        self.clients[id].send(stream, Bytes::copy_from_slice(bytes));
    }

    /// Sends a request and waits for its answer.
    #[track_caller]
    pub(crate) fn call(&mut self, id: Id, request: &Request<'_>) -> Answer {
        let correlation = self.send(id, request);
        self.settle();
        match self.clients[id].take(correlation) {
            Some(answer) => answer,
            None => panic!("{request:?} was not answered"),
        }
    }

    #[track_caller]
    pub(crate) fn refused(&mut self, id: Id, request: &Request<'_>) -> Refusal {
        self.call(id, request).refusal()
    }

    #[track_caller]
    pub(crate) fn assert_refused(&mut self, id: Id, request: &Request<'_>, code: ErrorCode) {
        let answer = self.call(id, request);
        assert_eq!(answer.code(), Some(code), "{request:?}: {answer:?}");
    }

    /// The answers to many requests sent at once.
    pub(crate) fn answer(&mut self, id: Id, correlation: u32) -> Option<Answer> {
        self.clients[id].take(correlation)
    }

    /// The client closes its connection.
    pub(crate) fn disconnect(&mut self, id: Id) {
        let client = &mut self.clients[id];
        client.gone = true;
        let (core, conn) = (client.core, client.conn);
        self.cores[core].handle_closed(conn);
    }

    /// The client sends nothing more on a stream, after what it has sent.
    pub(crate) fn finish(&mut self, id: Id, stream: u64) {
        self.clients[id].fin(stream);
    }

    /// The client resets a request stream or stops any stream.
    pub(crate) fn lose(&mut self, id: Id, stream: u64) {
        let client = &mut self.clients[id];
        client.forget_stream(stream);
        let (core, conn) = (client.core, client.conn);
        self.cores[core].handle_stream_lost(conn, stream);
    }

    /// The client reads again after it had stopped.
    pub(crate) fn allow(&mut self, id: Id, stream: u64, bytes: usize) {
        let client = &mut self.clients[id];
        if client.allow(stream, bytes) {
            let (core, conn) = (client.core, client.conn);
            self.cores[core].handle_writable(conn, stream);
        }
    }

    /// The client takes that many more delivery streams.
    pub(crate) fn allow_streams(&mut self, id: Id, more: usize) {
        let client = &mut self.clients[id];
        client.uni_left += more;
        let (core, conn) = (client.core, client.conn);
        self.cores[core].handle_streams_available(conn);
    }

    /// What arrived on a subscription's stream since the last call.
    pub(crate) fn got(&mut self, id: Id, subscription: u32) -> Vec<Got> {
        self.clients[id].got(SubscriptionId(subscription))
    }

    pub(crate) fn closed(&self, id: Id) -> Option<CloseCode> {
        self.clients[id].closed
    }

    pub(crate) fn stats(&self) -> CoreStats {
        let mut sum = CoreStats::default();
        for core in &self.cores {
            sum.add(&core.stats());
        }
        sum
    }

    // ---- the node ------------------------------------------------------

    /// Something from the control thread to every core.
    pub(crate) fn tell(&mut self, mail: impl Fn() -> CoreMail) {
        for lane in &mut self.from_control {
            lane.push_back(mail());
        }
    }

    /// Asks a core; gives the question's number.
    pub(crate) fn question(&mut self, core: usize, question: Question) -> u64 {
        self.questions += 1;
        let (id, question) = (self.questions, Box::new(question));
        self.from_control[core].push_back(CoreMail::Question { id, question });
        id
    }

    /// The answer to a question, if it is there.
    pub(crate) fn view(&mut self, id: u64) -> Option<View> {
        let at = self.views.iter().position(|(_, of, _)| *of == id)?;
        Some(self.views.remove(at).2)
    }

    /// Asks a core and waits for the answer.
    #[track_caller]
    pub(crate) fn ask(&mut self, core: usize, question: Question) -> View {
        let id = self.question(core, question);
        self.settle();
        self.view(id).expect("answered")
    }

    /// The resource of that name of tenant 1, whatever became of it.
    pub(crate) fn resource(&self, kind: ResourceKind, name: &str) -> Arc<Resource> {
        let name = pinion_types::ResourceName::new("n", name).unwrap();
        let found = self.directory.map().find(TenantId(1), kind, &name);
        Arc::clone(found.unwrap())
    }

    /// The metadata says that a resource is otherwise; gives what it is now.
    pub(crate) fn change(&mut self, id: ResourceId, spec: Spec) -> Arc<Resource> {
        let epoch = Epoch(self.directory.map().epoch().0 + 1);
        let resource = self.directory.change(epoch, id, spec).expect("otherwise");
        self.epoch += 1;
        let epoch = Epoch(self.epoch);
        self.tell(|| CoreMail::Changed {
            epoch,
            resource: Arc::clone(&resource),
        });
        self.settle();
        resource
    }

    /// The metadata says that a resource is deleted.
    pub(crate) fn delete(&mut self, resource: ResourceId) {
        self.closed.insert(resource);
        self.epoch += 1;
        let epoch = Epoch(self.epoch);
        self.tell(|| CoreMail::Closed { epoch, resource });
        self.settle();
    }

    /// The deletion is taken back.
    pub(crate) fn undelete(&mut self, resource: &Arc<Resource>) {
        self.closed.remove(&resource.id);
        self.epoch += 1;
        let epoch = Epoch(self.epoch);
        self.tell(|| CoreMail::Reopened {
            epoch,
            resource: Arc::clone(resource),
        });
        self.settle();
    }

    /// The metadata says that a resource is gone for good; told to the cores, who say
    /// when it is.
    pub(crate) fn purge(&mut self, resource: ResourceId) {
        self.lose_metadata(resource);
        self.epoch += 1;
        let epoch = Epoch(self.epoch);
        self.tell(|| CoreMail::Purge { epoch, resource });
    }

    /// From its next start on the node knows nothing of a resource.
    pub(crate) fn lose_metadata(&mut self, resource: ResourceId) {
        self.closed.remove(&resource);
        self.unknown.insert(resource);
    }

    /// A resource is declared once more under its number, as a restored backup may.
    pub(crate) fn declare_again(&mut self, resource: &Arc<Resource>) {
        self.epoch += 1;
        let epoch = Epoch(self.epoch);
        self.tell(|| CoreMail::Declared {
            epoch,
            resource: Arc::clone(resource),
        });
        self.settle();
    }

    /// It knows of it again.
    pub(crate) fn find_metadata(&mut self, resource: ResourceId) {
        self.unknown.remove(&resource);
    }

    pub(crate) fn advance(&mut self, by: Duration) {
        self.now = self.now + by;
        self.wall.0 += u64::try_from(by.as_millis()).expect("short");
        self.settle();
    }

    /// Takes turns until nothing moves any more.
    #[track_caller]
    pub(crate) fn settle(&mut self) {
        let mut still = 0;
        for _ in 0..1_000_000 {
            let moved = self.turn();
            let quiet = !moved && self.is_quiet();
            still = if quiet { still + 1 } else { 0 };
            if still == 2 {
                return;
            }
        }
        panic!("the node never comes to rest (seed {})", self.setup.seed);
    }

    fn is_quiet(&self) -> bool {
        let boxed =
            |from: usize, mails: &VecDeque<CoreMail>| !mails.is_empty() && self.mute != Some(from);
        let boxes = self.boxes.iter().enumerate();
        let mailed = boxes
            .filter(|(core, _)| !self.is_gone(*core))
            .flat_map(|(_, from)| from.iter().enumerate())
            .any(|(from, mails)| boxed(from, mails));
        let control = !self.control_mute && self.to_control.iter().any(|b| !b.is_empty());
        let disks = self.disks.iter().enumerate();
        let disk = disks
            .filter(|(core, _)| !self.is_gone(*core))
            .any(|(_, disk)| disk.next_deadline().is_some_and(|due| due <= self.now));
        let working = self
            .cores
            .iter()
            .enumerate()
            .filter(|(core, _)| !self.is_gone(*core))
            .any(|(core, state)| state.has_work() && self.mute != Some(core));
        let sending = self.clients.iter().any(Client::has_input);
        !(mailed || control || disk || working || sending)
    }

    /// One turn of everyone, in an order of the seed's. True when bytes, mails
    /// or outputs moved.
    pub(crate) fn turn(&mut self) -> bool {
        let mut moved = self.control_turn();
        let count = self.cores.len();
        let start = self.rng.below(count);
        for i in 0..count {
            if self.setup.delays && self.rng.chance(3) {
                continue;
            }
            let core = (start + i) % count;
            if !self.is_gone(core) {
                moved |= self.core_turn(core);
            }
        }
        moved
    }

    pub(crate) fn control_turn(&mut self) -> bool {
        let mut moved = false;
        if !self.control_mute {
            for core in 0..self.to_control.len() {
                while let Some(mail) = self.to_control[core].pop_front() {
                    moved = true;
                    self.control(mail);
                }
            }
        }
        if let Some(table) = self.quotas.poll_table() {
            moved = true;
            self.tell(|| CoreMail::Quotas(Arc::clone(&table)));
        }
        let port = self.cores.len();
        for (core, lane) in self.from_control.iter_mut().enumerate() {
            let inbox = &mut self.boxes[core][port];
            while inbox.len() < self.setup.box_capacity
                && let Some(mail) = lane.pop_front()
            {
                moved = true;
                inbox.push_back(mail);
            }
        }
        moved
    }

    fn control(&mut self, mail: ControlMail) {
        if let ControlMail::Storage { log, notice } = mail {
            self.notices.push((log, notice));
            return;
        }
        if let ControlMail::Purged { core, resource } = mail {
            self.purged.push((core, resource));
            return;
        }
        if let ControlMail::Barred {
            core,
            resource,
            partitions,
        } = mail
        {
            self.barred.push((core, resource.id, partitions));
            return;
        }
        if let ControlMail::View { core, id, view } = mail {
            self.views.push((core, id, *view));
            return;
        }
        if let ControlMail::Report(report) = mail {
            self.reports += 1;
            self.quotas.handle_report(*report);
            return;
        }
        let ControlMail::Declare {
            origin,
            tenant,
            kind,
            name,
            spec,
            ..
        } = mail
        else {
            panic!("{mail:?}");
        };
        let mut result = self.directory.declare(tenant, kind, &name, spec);
        let gone = |id| self.closed.contains(id) || self.unknown.contains(id);
        if result.as_ref().is_ok_and(|(one, _)| gone(&one.id)) {
            result = Err(ErrorCode::ResourceClosed.into());
        }
        if let Ok((resource, true)) = &result {
            self.epoch += 1;
            let epoch = Epoch(self.epoch);
            let resource = Arc::clone(resource);
            self.tell(|| CoreMail::Declared {
                epoch,
                resource: Arc::clone(&resource),
            });
        }
        self.from_control[usize::from(origin.session.core.0)].push_back(CoreMail::DeclareDone {
            origin,
            result: result.map(|(resource, _)| resource),
        });
    }

    pub(crate) fn core_turn(&mut self, core: usize) -> bool {
        let mut moved = false;
        self.cores[core].start_turn(self.now, self.wall);
        if self.cores[core]
            .next_deadline()
            .is_some_and(|at| at <= self.now)
        {
            moved = true;
            self.cores[core].handle_timeout();
        }
        while let Some(done) = self.disks[core].poll_done(self.now) {
            moved = true;
            self.cores[core].handle_disk_done(done);
        }
        for from in 0..=self.cores.len() {
            if self.mute == Some(from) {
                continue;
            }
            let waiting = self.boxes[core][from].len();
            let take = if self.setup.delays {
                self.rng.below(waiting + 1)
            } else {
                waiting
            };
            for mail in self.boxes[core][from].drain(..take) {
                moved = true;
                self.cores[core].handle_mail(mail);
            }
        }
        moved |= self.tell_of_panics(core);
        for id in 0..self.clients.len() {
            if self.clients[id].core == core && !self.clients[id].is_over() {
                moved |= self.feed(id);
            }
        }
        self.cores[core].end_turn();
        moved |= self.flush(core);
        moved
    }

    /// Hands a client's bytes to its core as the transport would.
    fn feed(&mut self, id: Id) -> bool {
        let mut moved = false;
        let client = &mut self.clients[id];
        let core = &mut self.cores[client.core];
        for _ in 0..core::mem::take(&mut client.acks) {
            moved = true;
            core.handle_stream_acknowledged(client.conn);
        }
        for (stream, state) in &mut client.streams {
            while !state.paused
                && let Some(chunk) = state.input.pop_front()
            {
                moved = true;
                let feed = core.handle_stream_data(client.conn, *stream, chunk);
                state.paused = feed == Feed::Paused;
            }
            if state.fin && !state.fin_told && !state.paused && state.input.is_empty() {
                moved = true;
                state.fin_told = true;
                core.handle_stream_finished(client.conn, *stream);
            }
        }
        moved
    }

    /// Does what a core wants done, as the pump does.
    fn flush(&mut self, me: usize) -> bool {
        let mut moved = false;
        let count = self.clients.len();
        let index = |conn: u64| {
            let id = usize::try_from(conn & 0xffff_ffff).expect("small");
            assert!(id < count);
            id
        };
        let core = &mut self.cores[me];
        while let Some(output) = core.poll_output() {
            moved |= !matches!(output, Output::Mail { .. } | Output::Control(_));
            match output {
                Output::Write {
                    conn,
                    stream,
                    bytes,
                } => {
                    self.offered_max = self.offered_max.max(bytes.len());
                    match self.clients[index(conn)].take_reply_bytes(stream, bytes) {
                        Some(taken) => {
                            core.handle_written(conn, stream, taken, taken == 0);
                        }
                        None => core.handle_stream_lost(conn, stream),
                    }
                }
                Output::WriteChunks {
                    conn,
                    stream,
                    chunks,
                } => match self.clients[index(conn)].take_chunks(stream, chunks) {
                    Some(taken) => core.handle_written(conn, stream, taken, taken == 0),
                    None => core.handle_stream_lost(conn, stream),
                },
                Output::OpenUni { conn, subscription } => {
                    let stream = self.clients[index(conn)].open_uni();
                    self.opens_refused += usize::from(stream.is_none());
                    core.handle_opened(conn, subscription, stream);
                }
                Output::Finish { conn, stream } => {
                    self.clients[index(conn)].finished_by_server(stream);
                }
                Output::Resume { conn, stream } => {
                    let feed = core.handle_resumed(conn, stream);
                    self.clients[index(conn)].paused(stream, feed == Feed::Paused);
                }
                Output::Close { conn, code } => {
                    let client = &mut self.clients[index(conn)];
                    assert_eq!(client.closed, None, "closed twice");
                    client.closed = Some(code);
                    core.handle_closed(conn);
                }
                Output::Mail { to, mail } => {
                    let inbox = &mut self.boxes[usize::from(to.0)][me];
                    if inbox.len() < self.setup.box_capacity {
                        moved = true;
                        inbox.push_back(mail);
                    } else {
                        core.mail_refused(to, mail);
                    }
                }
                Output::Disk(request) => self.disks[me].submit(self.now, request),
                Output::Control(mail) => {
                    if self.to_control[me].len() < self.setup.box_capacity {
                        moved = true;
                        self.to_control[me].push_back(mail);
                    } else {
                        core.control_refused(mail);
                    }
                }
            }
        }
        moved
    }
}
