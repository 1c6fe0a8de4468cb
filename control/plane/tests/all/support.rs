//! A plane on a disk that fails on purpose, and what it said.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use pinion_metadata::command::{CreateNamespace, CreateTenant, Delete, DeleteFacts, UpdateTenant};
use pinion_metadata::tenant::{NamespaceQuotas, TenantQuotas};
use pinion_metadata::{
    BrokerNumber, Change, Command, Expect, MetaVersion, Metadata, Object, ObjectKey,
};
use pinion_plane::{
    Answer, Caller, Consistency, Plane, PlaneConfig, PlaneError, PlaneNotice, PlaneOpenError,
    PlaneOutput, Query, QueryValue, Request, RequestId, WatchId, Write,
};
use pinion_raft_group::{Found, GroupConfig, MemberId, Role};
use pinion_simkit::{SimDisk, SimDiskConfig, SimRng};
use pinion_types::{Monotonic, WallMs};

pub(crate) const CLUSTER: [u8; 16] = *b"a test's cluster";
pub(crate) const ONE: MemberId = MemberId(1);
/// How long requests of a test wait, unless it says otherwise.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
const START: WallMs = WallMs(1_700_000_000_000);

pub(crate) fn config() -> PlaneConfig {
    PlaneConfig {
        broker: BrokerNumber(1),
        group: GroupConfig {
            store: [7; 16],
            seed: 1,
            segment_bytes: 2 << 20,
            ..GroupConfig::default()
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

/// One node: a plane, its disk and its clocks.
pub(crate) struct Node {
    pub(crate) plane: Plane,
    pub(crate) disk: SimDisk,
    pub(crate) now: Monotonic,
    /// Milliseconds that people set the wall clock on or back.
    pub(crate) wall_set: i64,
    pub(crate) found: Found,
    pub(crate) role: Role,
    pub(crate) ready: bool,
    pub(crate) sealed: bool,
    /// In the order in which they came.
    pub(crate) answers: Vec<(u64, Answer)>,
    /// Everything that changed since the plane was opened.
    pub(crate) changes: Vec<Change>,
    pub(crate) watch_ready: BTreeSet<WatchId>,
    pub(crate) notices: Vec<PlaneNotice>,
    /// Snapshots that were asked for.
    pub(crate) snapshots: Vec<u64>,
    /// Hash of the state after the entries at which it was seen.
    pub(crate) hashes: BTreeMap<u64, u64>,
    /// The disk is given nothing.
    pub(crate) disk_held: bool,
    /// The version when the plane was opened.
    opened_at: MetaVersion,
    last: u64,
}

impl Node {
    pub(crate) fn open(config: PlaneConfig, mut disk: SimDisk) -> Result<Self, PlaneOpenError> {
        let opened = Plane::open(config, &mut disk, START)?;
        let version = |plane: &Plane| plane.metadata().map(Metadata::version).unwrap_or_default();
        let mut node = Self {
            opened_at: version(&opened.plane),
            plane: opened.plane,
            disk,
            now: Monotonic::ZERO,
            wall_set: 0,
            found: opened.found,
            role: Role::Follower,
            ready: false,
            sealed: false,
            answers: Vec::new(),
            changes: Vec::new(),
            watch_ready: BTreeSet::new(),
            notices: Vec::new(),
            snapshots: Vec::new(),
            hashes: BTreeMap::new(),
            disk_held: false,
            last: 0,
        };
        node.note_hash();
        Ok(node)
    }

    /// A cluster of one node, from nothing.
    pub(crate) fn alone(config: PlaneConfig, disk: SimDisk) -> Self {
        let mut node = Self::open(config, disk).unwrap();
        assert_eq!(node.found, Found::Empty);
        node.plane.bootstrap(ONE, CLUSTER, &[ONE]);
        node.rest();
        assert!(node.ready && node.role == Role::Leader);
        node
    }

    /// The same after it was started again.
    pub(crate) fn again(self, config: PlaneConfig) -> Self {
        Self::open(config, self.disk).unwrap()
    }

    pub(crate) fn wall(&self) -> WallMs {
        let since = START.0 + self.now.as_millis();
        WallMs(since.checked_add_signed(self.wall_set).unwrap())
    }

    fn start_turn(&mut self) {
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
            if self.disk_held {
                break;
            }
            let Some(request) = self.plane.poll_disk() else {
                break;
            };
            self.disk.submit(self.now, request);
        }
        self.note_hash();
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
            PlaneOutput::Send { .. } => panic!("there is nobody else"),
            PlaneOutput::Replaced { .. } | PlaneOutput::Members { .. } => {
                panic!("there is nobody else")
            }
            PlaneOutput::Encode { index, source } => {
                self.snapshots.push(index);
                self.plane.handle_encoded(index, source.encode());
            }
            PlaneOutput::WatchReady { id } => {
                let anew = self.watch_ready.insert(id);
                assert!(anew, "{id:?} was told already");
            }
            PlaneOutput::Role { role, .. } => self.role = role,
            PlaneOutput::Ready => {
                assert!(!self.ready, "told once");
                self.ready = true;
            }
            PlaneOutput::Notice(notice) => self.notices.push(notice),
            PlaneOutput::Sealed => self.sealed = true,
        }
    }

    /// The version up to which changes were told.
    pub(crate) fn version_told(&self) -> MetaVersion {
        let last = self.changes.last();
        last.map_or(self.opened_at, |change| change.version)
    }

    /// One step: the next thing that the disk does; false when it has nothing to do.
    pub(crate) fn step(&mut self) -> bool {
        self.turn();
        let Some(due) = self.disk.next_deadline() else {
            return false;
        };
        self.now = self.now.max(due);
        let done = self.disk.poll_done(self.now).unwrap();
        self.start_turn();
        self.plane.handle_disk_done(done);
        true
    }

    /// Until the disk has nothing to do.
    pub(crate) fn rest(&mut self) {
        let mut steps = 0;
        while self.step() {
            steps += 1;
            assert!(steps < 100_000, "it never comes to rest");
        }
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            self.turn();
            let disk = self.disk.next_deadline();
            let due = disk.into_iter().chain(self.plane.next_deadline()).min();
            let Some(due) = due.filter(|due| *due <= until) else {
                break;
            };
            self.now = self.now.max(due);
            self.start_turn();
            if let Some(done) = self.disk.poll_done(self.now) {
                self.plane.handle_disk_done(done);
            } else {
                self.plane.handle_timeout();
            }
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
