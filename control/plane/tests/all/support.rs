//! A plane on a disk that fails on purpose, and what it said.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use pinion_commitlog::{DiskError, DiskRequest, FileId, Files, LogId};
use pinion_metadata::broker::Capacity;
use pinion_metadata::command::{CreateNamespace, CreateTenant, Delete, DeleteFacts, UpdateTenant};
use pinion_metadata::tenant::{NamespaceQuotas, TenantQuotas};
use pinion_metadata::{Change, Command, Expect, Founder, MetaVersion, Metadata, Object, ObjectKey};
use pinion_plane::{
    AUDIT_LOG, Answer, AuditConfig, Caller, Consistency, NodeFacts, PeerName, Plane, PlaneConfig,
    PlaneError, PlaneMessage, PlaneNotice, PlaneOpenError, PlaneOutput, PlanePinned, Query,
    QueryValue, Request, RequestId, UseRow, WatchId, Write,
};
use pinion_raft_group::{Found, GroupConfig, MemberId, RAFT_LOG, Role};
use pinion_simkit::{CrashMode, SimDisk, SimDiskConfig, SimRng};
use pinion_types::{Monotonic, WallMs};

pub(crate) const CLUSTER: [u8; 16] = *b"a test's cluster";
pub(crate) const ONE: MemberId = MemberId(1);
/// How long requests of a test wait, unless it says otherwise.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// Where clients of a test are.
pub(crate) const REMOTE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 4433);
pub(crate) const START: WallMs = WallMs(1_700_000_000_000);

/// The nodes of a test.
pub(crate) const NAMES: [&str; 5] = ["n1", "n2", "n3", "n4", "n5"];

pub(crate) fn name(at: usize) -> PeerName {
    PeerName::new(NAMES[at]).unwrap()
}

pub(crate) fn facts(name: &str) -> NodeFacts {
    NodeFacts {
        name: PeerName::new(name).unwrap(),
        address: format!("{name}:7420").into(),
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

/// Registered as [`facts`] say.
pub(crate) fn founder(name: &str) -> Founder {
    let facts = facts(name);
    Founder {
        name: name.into(),
        facts: facts.broker_facts(),
        incarnation: Some(facts.incarnation),
        address: facts.address,
        store: [7; 16],
    }
}

pub(crate) fn config() -> PlaneConfig {
    PlaneConfig {
        node: facts(NAMES[0]),
        cluster: None,
        group: GroupConfig {
            store: [7; 16],
            seed: 1,
            segment_bytes: 2 << 20,
            ..GroupConfig::default()
        },
        audit: AuditConfig {
            segment_bytes: 1 << 20,
            // Rows go with the turn: what waits has tests of its own.
            gather: Duration::ZERO,
            ..AuditConfig::default()
        },
    }
}

/// Snapshots after some dozen entries.
pub(crate) fn small_snapshots() -> PlaneConfig {
    let mut config = config();
    config.group.snapshot_every_entries = 12;
    config.group.tail_entries = 4;
    config
}

pub(crate) fn disk(seed: u64) -> SimDisk {
    SimDisk::new(SimDiskConfig::default(), SimRng::new(seed))
}

/// Where the logs of a node lie: each on a disk of its own, so that each can fail alone.
#[derive(Clone)]
pub(crate) struct Disks {
    pub(crate) group: SimDisk,
    pub(crate) audit: SimDisk,
}

impl Disks {
    pub(crate) fn crash(&mut self, mode: CrashMode, rng: &mut SimRng) {
        self.group.crash(mode, rng);
        self.audit.crash(mode, rng);
    }
}

impl From<SimDisk> for Disks {
    /// With an audit log that is empty.
    fn from(group: SimDisk) -> Self {
        let audit = disk(1_000);
        Self { group, audit }
    }
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

/// One node: a plane, its disks and its clocks.
pub(crate) struct Node {
    pub(crate) plane: Plane,
    /// Its data directory.
    pub(crate) store: [u8; 16],
    /// Of the group's log.
    pub(crate) disk: SimDisk,
    pub(crate) audit_disk: SimDisk,
    pub(crate) now: Monotonic,
    /// Milliseconds that people set the wall clock on or back.
    pub(crate) wall_set: i64,
    pub(crate) found: Found,
    pub(crate) role: Role,
    pub(crate) ready: bool,
    pub(crate) sealed: bool,
    /// What was told for a backup.
    pub(crate) pinned: Option<PlanePinned>,
    /// In the order in which they came.
    pub(crate) answers: Vec<(u64, Answer)>,
    /// Everything that changed since the plane was opened.
    pub(crate) changes: Vec<Change>,
    pub(crate) watch_ready: BTreeSet<WatchId>,
    pub(crate) notices: Vec<PlaneNotice>,
    /// Whose keys were to be rotated, as of which version.
    pub(crate) rotations: Vec<(String, MetaVersion)>,
    /// What was told last of the other nodes.
    pub(crate) elsewhere: Option<(u64, Vec<UseRow>)>,
    /// Snapshots that were asked for.
    pub(crate) snapshots: Vec<u64>,
    /// Hash of the state after the entries at which it was seen.
    pub(crate) hashes: BTreeMap<u64, u64>,
    /// The group's disk is given nothing.
    pub(crate) disk_held: bool,
    /// The audit log's disk is given nothing.
    pub(crate) audit_held: bool,
    held: Vec<(LogId, DiskRequest)>,
    /// For other nodes.
    pub(crate) sent: Vec<(PeerName, PlaneMessage)>,
    /// Whom it was last told to keep connected to.
    pub(crate) peers: Vec<(String, String)>,
    /// How often its metadata was replaced.
    pub(crate) replaced: usize,
    /// The version when the plane was opened, or when its metadata was replaced.
    opened_at: MetaVersion,
    last: u64,
}

impl Node {
    pub(crate) fn open(
        config: PlaneConfig,
        disks: impl Into<Disks>,
    ) -> Result<Self, PlaneOpenError> {
        let mut disks = disks.into();
        let store = config.group.store;
        let opened = Plane::open(config, &mut disks, START)?;
        let version = |plane: &Plane| plane.metadata().map(Metadata::version).unwrap_or_default();
        let mut node = Self {
            opened_at: version(&opened.plane),
            plane: opened.plane,
            store,
            disk: disks.group,
            audit_disk: disks.audit,
            now: Monotonic::ZERO,
            wall_set: 0,
            found: opened.found,
            role: Role::Follower,
            ready: false,
            sealed: false,
            pinned: None,
            replaced: 0,
            answers: Vec::new(),
            changes: Vec::new(),
            watch_ready: BTreeSet::new(),
            notices: Vec::new(),
            rotations: Vec::new(),
            elsewhere: None,
            snapshots: Vec::new(),
            hashes: BTreeMap::new(),
            disk_held: false,
            audit_held: false,
            held: Vec::new(),
            sent: Vec::new(),
            peers: Vec::new(),
            last: 0,
        };
        node.note_hash();
        Ok(node)
    }

    /// A cluster of one node, from nothing.
    pub(crate) fn alone(config: PlaneConfig, disk: SimDisk) -> Self {
        let mut node = Self::open(config, disk).unwrap();
        assert_eq!(node.found, Found::Empty);
        node.plane.bootstrap(CLUSTER, &[founder(NAMES[0])]);
        node.rest();
        assert!(node.ready && node.role == Role::Leader);
        node
    }

    /// The same after it was started again.
    pub(crate) fn again(self, config: PlaneConfig) -> Self {
        Self::open(config, self.disks()).unwrap()
    }

    pub(crate) fn disks(&self) -> Disks {
        Disks {
            group: self.disk.clone(),
            audit: self.audit_disk.clone(),
        }
    }

    pub(crate) fn wall(&self) -> WallMs {
        let since = START.0 + self.now.as_millis();
        WallMs(since.checked_add_signed(self.wall_set).unwrap())
    }

    pub(crate) fn start_turn(&mut self) {
        let wall = self.wall();
        self.plane.start_turn(self.now, wall);
    }

    // ---------------------------------------------------------------- requests

    pub(crate) fn request(&mut self, request: Request) -> u64 {
        self.last += 1;
        self.start_turn();
        self.plane.handle_request(RequestId(self.last), request);
        self.last
    }

    /// Asks for a change under a number of the client.
    pub(crate) fn write_as(&mut self, number: u128, command: Command) -> u64 {
        self.request(Request::Write(Write {
            caller: Caller {
                principal: "p:ana".into(),
                request: number,
                remote: Some(REMOTE),
            },
            expect: Expect::Any,
            command,
            deadline: self.now + PATIENCE,
        }))
    }

    pub(crate) fn write(&mut self, command: Command) -> u64 {
        self.write_as(0, command)
    }

    pub(crate) fn read(&mut self, query: Query, consistency: Consistency) -> u64 {
        let deadline = self.now + PATIENCE;
        self.request(Request::Read {
            query,
            consistency,
            deadline,
        })
    }

    /// Asks for a change and waits for what becomes of it.
    pub(crate) fn done(&mut self, command: Command) -> MetaVersion {
        let id = self.write(command);
        self.rest();
        match self.answer(id) {
            Some(Answer::Written { version, .. }) => version,
            answer => panic!("{answer:?}"),
        }
    }

    pub(crate) fn answer(&self, id: u64) -> Option<Answer> {
        let mut found = self.answers.iter().filter(|(of, _)| *of == id);
        let answer = found.next().map(|(_, answer)| answer.clone());
        assert!(found.next().is_none(), "request {id} is answered twice");
        answer
    }

    #[track_caller]
    pub(crate) fn refused(&self, id: u64) -> PlaneError {
        match self.answer(id) {
            Some(Answer::Refused(error)) => error,
            answer => panic!("{answer:?}"),
        }
    }

    /// The object of a read, and the version at which it was read.
    #[track_caller]
    pub(crate) fn object(&self, id: u64) -> (MetaVersion, Option<Object>) {
        match self.answer(id) {
            Some(Answer::Read {
                version,
                value: QueryValue::Object(object),
                ..
            }) => (version, object.map(|object| (*object).clone())),
            answer => panic!("{answer:?}"),
        }
    }

    pub(crate) fn metadata(&self) -> &Metadata {
        self.plane.metadata().unwrap()
    }

    // ------------------------------------------------------------------- turns

    /// Ends a turn: requests go to the disk, what is said is noted.
    pub(crate) fn turn(&mut self) {
        self.start_turn();
        self.plane.end_turn();
        loop {
            while let Some(output) = self.plane.poll_output() {
                self.take(output);
            }
            // An answer to an output may have given a disk something to do, too.
            let Some((log, request)) = self.plane.poll_disk() else {
                break;
            };
            match log {
                AUDIT_LOG if self.audit_held => self.held.push((log, request)),
                AUDIT_LOG => self.audit_disk.submit(self.now, request),
                _ if self.disk_held => self.held.push((log, request)),
                _ => self.disk.submit(self.now, request),
            }
        }
        self.note_hash();
    }

    /// What was held goes to the disks.
    pub(crate) fn release(&mut self) {
        (self.disk_held, self.audit_held) = (false, false);
        for (log, request) in self.held.drain(..) {
            match log {
                AUDIT_LOG => self.audit_disk.submit(self.now, request),
                _ => self.disk.submit(self.now, request),
            }
        }
    }

    fn note_hash(&mut self) {
        if let Some(machine) = self.plane.metadata() {
            let (index, hash) = (machine.applied_index(), machine.state_hash());
            let before = *self.hashes.entry(index).or_insert(hash);
            assert_eq!(before, hash, "the state of entry {index} is one state");
        }
    }

    fn take(&mut self, output: PlaneOutput) {
        match output {
            PlaneOutput::Answer { id, answer } => {
                if let Answer::Written { version, .. } = &answer {
                    let known = self.version_told();
                    assert!(*version <= known, "{version} is answered before its change");
                }
                self.answers.push((id.0, answer));
            }
            PlaneOutput::Changes(changes) => {
                for change in &*changes {
                    let next = self.version_told().0 + 1;
                    assert_eq!(change.version.0, next, "versions are dense");
                    self.changes.push(change.clone());
                }
            }
            PlaneOutput::Replaced { version } => {
                assert!(version >= self.version_told(), "it was behind");
                self.opened_at = version;
                self.replaced += 1;
            }
            PlaneOutput::Peers(peers) => {
                let peers = peers.iter();
                let texts = peers.map(|(name, address)| (name.to_string(), address.to_string()));
                self.peers = texts.collect();
            }
            PlaneOutput::Send { to, message } => self.sent.push((to, message)),
            PlaneOutput::Encode { index, source } => {
                self.snapshots.push(index);
                self.plane.handle_encoded(index, source.encode());
            }
            PlaneOutput::WatchReady { id } => {
                let anew = self.watch_ready.insert(id);
                assert!(anew, "{id:?} was told already");
            }
            PlaneOutput::Elsewhere { cores, used } => self.elsewhere = Some((cores, used)),
            PlaneOutput::RotateKeys { tenant, version } => {
                self.rotations.push((tenant.into(), version));
            }
            PlaneOutput::Role { role, .. } => self.role = role,
            PlaneOutput::Ready => {
                assert!(!self.ready, "told once");
                self.ready = true;
            }
            PlaneOutput::Pinned(pinned) => self.pinned = Some(*pinned),
            PlaneOutput::Notice(notice) => self.notices.push(notice),
            PlaneOutput::Sealed => {
                assert!(!self.sealed, "told once");
                self.sealed = true;
            }
        }
    }

    /// The version up to which changes were told.
    pub(crate) fn version_told(&self) -> MetaVersion {
        let last = self.changes.last().map(|change| change.version);
        last.unwrap_or_default().max(self.opened_at)
    }

    /// When a disk will have done something.
    fn disk_deadline(&self) -> Option<Monotonic> {
        let disks = [self.disk.next_deadline(), self.audit_disk.next_deadline()];
        disks.into_iter().flatten().min()
    }

    /// The next thing that a disk has done by now; false when there is none.
    fn disk_done(&mut self) -> bool {
        if let Some(done) = self.disk.poll_done(self.now) {
            self.plane.handle_disk_done(RAFT_LOG, done);
        } else if let Some(done) = self.audit_disk.poll_done(self.now) {
            self.plane.handle_disk_done(AUDIT_LOG, done);
        } else {
            return false;
        }
        true
    }

    /// One step: the next thing that a disk does; false when they have nothing to do.
    pub(crate) fn step(&mut self) -> bool {
        self.turn();
        let Some(due) = self.disk_deadline() else {
            return false;
        };
        self.now = self.now.max(due);
        self.start_turn();
        assert!(self.disk_done());
        true
    }

    /// Until the disks have nothing to do.
    pub(crate) fn rest(&mut self) {
        let mut steps = 0;
        while self.step() {
            steps += 1;
            assert!(steps < 100_000, "it never comes to rest");
        }
    }

    /// When there is something to do, if nobody says anything.
    pub(crate) fn next_due(&self) -> Option<Monotonic> {
        let disks = self.disk_deadline().into_iter();
        disks.chain(self.plane.next_deadline()).min()
    }

    /// Something is due: of a disk, or of the plane.
    pub(crate) fn tick(&mut self) {
        self.start_turn();
        if !self.disk_done() {
            self.plane.handle_timeout();
        }
    }

    /// Another node says something.
    pub(crate) fn hear(&mut self, from: &PeerName, message: PlaneMessage) {
        self.start_turn();
        self.plane.handle_peer(from, message);
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            self.turn();
            let Some(due) = self.next_due().filter(|due| *due <= until) else {
                break;
            };
            self.now = self.now.max(due);
            self.tick();
        }
        self.now = until;
        self.turn();
    }
}

// -------------------------------------------------------------------- commands

pub(crate) fn create_tenant(name: &str) -> Command {
    Command::CreateTenant(CreateTenant {
        name: name.into(),
        display_name: "".into(),
        description: "".into(),
        quotas: TenantQuotas::default(),
        encryption: None,
    })
}

pub(crate) fn describe_tenant(name: &str, description: &str) -> Command {
    Command::UpdateTenant(UpdateTenant {
        name: name.into(),
        display_name: None,
        description: Some(description.into()),
        quotas: None,
        encryption: None,
    })
}

pub(crate) fn create_namespace(tenant: &str, name: &str) -> Command {
    Command::CreateNamespace(CreateNamespace {
        tenant: tenant.into(),
        name: name.into(),
        description: "".into(),
        quotas: NamespaceQuotas::default(),
    })
}

pub(crate) fn delete(key: ObjectKey, grace_ms: u64) -> Command {
    Command::Delete(Delete {
        key,
        force: true,
        grace_ms,
        facts: DeleteFacts::default(),
    })
}
