//! The nodes of one world, what lies between them, and what time does to them.

mod ending;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pinion_metadata::broker::Capacity;
use pinion_metadata::command::UpdateSettings;
use pinion_metadata::member::MemberRole;
use pinion_metadata::{Command, Expect, ObjectKey, SnapshotSource};
use pinion_plane::{
    Answer, AuditConfig, Caller, ClusterConfig, NodeFacts, PeerName, Plane, PlaneConfig,
    PlaneError, PlaneMessage, PlaneNotice, PlaneOutput, Request, RequestId, WatchId, Write,
};
use pinion_raft_group::{Found, GroupConfig, Notice, PeerMessage, Role};
use pinion_simkit::{
    CrashMode, FaultPlan, SimClock, SimDisk, SimDiskConfig, SimNet, SimRng, Trace, Weather,
};
use pinion_types::{Monotonic, WallMs};

use super::PlaneCounts;
use super::client::Client;
use super::plan::Plan;
use super::truth::Truth;
use crate::{Violation, promise};

/// Parts per million by which a node's clocks may run fast or slow: a hundred times what
/// clocks do.
const DRIFT_PPM: u64 = 20_000;
/// What a node that stands still is sent and keeps; the rest is lost.
const INBOX_MAX: usize = 1_024;

/// Whose requests are the world's own.
const NOBODY: usize = usize::MAX;
/// Names of the nodes, in their order.
const NAMES: [&str; 6] = ["n1", "n2", "n3", "n4", "n5", "n6"];

/// A node as it is in its life `incarnation`.
fn facts(at: usize, incarnation: u64) -> Result<NodeFacts, Violation> {
    let name = PeerName::new(NAMES[at]);
    let name = name.map_err(|error| Violation::new(format!("{}: {error}", NAMES[at])))?;
    Ok(NodeFacts {
        address: format!("{name}:7420").into(),
        name,
        region: Box::default(),
        zone: Box::default(),
        labels: Box::default(),
        capacity: Capacity {
            max_shards: 1_000,
            max_connections: 1_000,
            cores: 1,
            logs: 1,
            memory_per_core: 1 << 30,
        },
        incarnation,
    })
}

/// What node `at` of a world that `members` begin is told of its cluster.
fn cluster(members: usize, observer: bool) -> Result<Option<ClusterConfig>, Violation> {
    let initial = (0..members).map(|at| {
        let facts = facts(at, 0)?;
        Ok((facts.name, facts.address))
    });
    let initial: Vec<_> = initial.collect::<Result<_, Violation>>()?;
    Ok((members > 1).then(|| ClusterConfig {
        name: "seeded".into(),
        initial,
        observer,
    }))
}

/// Something that will happen.
#[derive(Debug)]
pub(super) enum Event {
    /// The next trouble.
    Trouble,
    /// Every wire is whole.
    Heal,
    DiskIsFine(usize),
    /// A node is started, unless it runs.
    Start(usize),
    /// A node goes on, in the life in which it was stopped.
    Resume(usize, u64),
    /// A client does the next thing.
    Client(usize),
    /// A node is asked to have brokers missed soon.
    Settings(usize),
    /// A snapshot is encoded.
    Encoded {
        at: usize,
        life: u64,
        index: u64,
        source: SnapshotSource,
    },
}

/// What a node that stands still will find.
#[derive(Debug)]
enum Mail {
    Peer(usize, Arc<[u8]>),
    Request(RequestId, Request),
}

/// One node.
pub(super) struct Node {
    /// `None` while it is down.
    pub(super) plane: Option<Plane>,
    pub(super) life: u64,
    pub(super) disk: SimDisk,
    /// Its data directory: another one when its disk is.
    store: [u8; 16],
    /// Whom it was told to keep connected to; it reaches nobody else.
    peers: BTreeSet<String>,
    /// It was seen to have metadata in this life.
    has_machine: bool,
    clock: SimClock,
    /// Parts per million by which its monotonic clock is fast.
    rate: i64,
    /// When it was started.
    started: Monotonic,
    paused: bool,
    inbox: Vec<Mail>,
    /// The version up to which it showed its changes.
    told: u64,
    pub(super) role: Role,
    pub(super) ready: bool,
    /// In any of its lives.
    was_ready: bool,
    failed: bool,
    sealed: bool,
    restored: bool,
    /// Whose requests it has, and the serial number of what the client does.
    pub(super) requests: BTreeMap<RequestId, (usize, u64)>,
    /// Watches of which it said that there is something.
    pub(super) watch_ready: BTreeSet<WatchId>,
    /// Whose watches there are.
    pub(super) watches: BTreeMap<WatchId, usize>,
}

impl Node {
    /// What its monotonic and its wall clock show at a time of the world.
    pub(super) fn clocks(&mut self, now: Monotonic) -> (Monotonic, WallMs) {
        let passed = now.0 - self.clock.world_nanos();
        self.clock.advance(Duration::from_nanos(passed));
        let real = i128::from(self.clock.now().0);
        let shown = real + real * i128::from(self.rate) / 1_000_000;
        let shown = Monotonic(u64::try_from(shown).unwrap_or(u64::MAX));
        (shown, self.clock.wall())
    }

    /// When in the world its monotonic clock will show `at`.
    fn in_world(&self, at: Monotonic) -> Monotonic {
        let rate = u128::try_from(1_000_000 + self.rate).unwrap_or(1_000_000);
        let real = (u128::from(at.0) * 1_000_000).div_ceil(rate) + 1;
        let real = u64::try_from(real).unwrap_or(u64::MAX);
        Monotonic(self.started.0.saturating_add(real))
    }

    fn runs(&self) -> bool {
        self.plane.is_some() && !self.paused
    }

    pub(super) fn paused(&self) -> bool {
        self.paused
    }
}

pub(super) struct World {
    pub(super) now: Monotonic,
    pub(super) rng: SimRng,
    pub(super) trace: Trace,
    pub(super) truth: Truth,
    pub(super) plan: Plan,
    pub(super) net: SimNet<Arc<[u8]>>,
    pub(super) nodes: Vec<Node>,
    pub(super) clients: Vec<Client>,
    agenda: BTreeMap<(Monotonic, u64), Event>,
    events: u64,
    lives: u64,
    pub(super) requests: u64,
    /// No more trouble.
    pub(super) calm: bool,
    /// Since when everything works.
    pub(super) calm_since: Option<Monotonic>,
}

impl World {
    pub(super) fn new(seed: u64) -> Result<Self, Violation> {
        let mut rng = SimRng::new(seed);
        let plan = Plan::new(&mut rng);
        let net = SimNet::new(rng.fork(1));
        let truth = Truth::default();
        let clients = (0..plan.clients).map(Client::new).collect();
        let mut world = Self {
            now: Monotonic::ZERO,
            trace: Trace::default(),
            truth,
            net,
            nodes: Vec::new(),
            clients,
            agenda: BTreeMap::new(),
            events: 0,
            lives: 0,
            requests: 0,
            calm: false,
            calm_since: None,
            rng,
            plan,
        };
        let counts = &mut world.truth.counts;
        match world.plan.members {
            1 => counts.ones = 1,
            3 => counts.threes = 1,
            _ => counts.fives = 1,
        }
        let nodes = world.plan.members + usize::from(world.plan.joiner.is_some());
        for at in 0..nodes {
            let disk = world.rng.fork(at as u64 + 2);
            let wall = 1_700_000_000_000 + world.rng.below(2_000);
            world.nodes.push(Node {
                plane: None,
                life: 0,
                disk: SimDisk::new(SimDiskConfig::default(), disk),
                store: [u8::try_from(at).unwrap_or(0); 16],
                peers: BTreeSet::new(),
                has_machine: false,
                clock: SimClock::new(WallMs(wall)),
                rate: 0,
                started: Monotonic::ZERO,
                paused: false,
                inbox: Vec::new(),
                told: 0,
                role: Role::Follower,
                ready: false,
                was_ready: false,
                failed: false,
                sealed: false,
                restored: false,
                requests: BTreeMap::new(),
                watch_ready: BTreeSet::new(),
                watches: BTreeMap::new(),
            });
            if at < world.plan.members {
                world.start(at)?;
            } else {
                let after = Duration::from_millis(world.rng.below(4_000));
                world.later(after, Event::Start(at));
            }
        }
        for client in 0..world.plan.clients {
            world.later(Duration::from_millis(1), Event::Client(client));
        }
        let pause = world.plan.pause(&mut world.rng);
        world.later(Duration::from_millis(1_200) + pause, Event::Trouble);
        Ok(world)
    }

    pub(super) fn counts(&self) -> PlaneCounts {
        let net = self.net.stats();
        PlaneCounts {
            lost: net.lost,
            repeated: net.repeated,
            late: net.late,
            elections: self.truth.terms_led().saturating_sub(1),
            ..self.truth.counts
        }
    }

    /// Something happens after a while.
    pub(super) fn later(&mut self, after: Duration, event: Event) {
        self.events += 1;
        self.agenda.insert((self.now + after, self.events), event);
    }

    /// Who leads in the newest term, of those that run.
    pub(super) fn leader(&self) -> Option<usize> {
        let leads = |at: &usize| self.nodes[*at].role == Role::Leader && self.nodes[*at].runs();
        let term = |at: &usize| {
            let plane = self.nodes[*at].plane.as_ref();
            plane.map(|plane| plane.status().group.term)
        };
        (0..self.nodes.len()).filter(leads).max_by_key(term)
    }

    // -------------------------------------------------------------------- time

    /// Lives until `end`.
    pub(super) fn live(&mut self, end: Monotonic) -> Result<(), Violation> {
        while self.step(end)? {}
        self.now = self.now.max(end);
        Ok(())
    }

    /// The next thing that happens until `end`; false when nothing does.
    fn step(&mut self, end: Monotonic) -> Result<bool, Violation> {
        #[derive(Clone, Copy)]
        enum Next {
            Wire,
            Agenda,
            Disk(usize),
            Time(usize),
        }
        let wire = self.net.next_deadline().map(|due| (due, Next::Wire));
        let event = self
            .agenda
            .keys()
            .next()
            .map(|(due, _)| (*due, Next::Agenda));
        let mut next = wire.into_iter().chain(event).min_by_key(|(due, _)| *due);
        for (at, node) in self.nodes.iter().enumerate() {
            let Some(plane) = node.plane.as_ref().filter(|_| !node.paused) else {
                continue;
            };
            let disk = node.disk.next_deadline().map(|due| (due, Next::Disk(at)));
            let time = plane.next_deadline();
            let time = time.map(|due| (node.in_world(due), Next::Time(at)));
            let both = disk.into_iter().chain(time);
            next = next.into_iter().chain(both).min_by_key(|(due, _)| *due);
        }
        let Some((due, what)) = next.filter(|(due, _)| *due <= end) else {
            return Ok(false);
        };
        self.now = self.now.max(due);
        match what {
            Next::Wire => {
                if let Some((from, to, frame)) = self.net.poll(self.now) {
                    self.deliver(from, to, frame)?;
                }
            }
            Next::Agenda => {
                if let Some((_, event)) = self.agenda.pop_first() {
                    self.happens(event)?;
                }
            }
            Next::Disk(at) => {
                if let Some(done) = self.nodes[at].disk.poll_done(self.now) {
                    let ok = u64::from(done.result.is_ok());
                    self.note("done", &[at as u64, done.op.0, ok]);
                    let log = done.file.log();
                    self.turn(at, |plane| plane.handle_disk_done(log, done))?;
                }
            }
            Next::Time(at) => self.turn(at, Plane::handle_timeout)?,
        }
        Ok(true)
    }

    pub(super) fn note(&mut self, what: &'static str, facts: &[u64]) {
        self.trace.note(self.now, what, facts);
    }

    fn happens(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Trouble if self.calm => Ok(()),
            Event::Trouble => {
                let pause = self.plan.pause(&mut self.rng);
                self.later(pause, Event::Trouble);
                self.disturb()
            }
            Event::Heal => {
                self.note("heal", &[]);
                self.net.heal();
                self.net.set_weather(Weather::default());
                Ok(())
            }
            Event::DiskIsFine(at) => {
                self.nodes[at].disk.set_faults(FaultPlan::default());
                Ok(())
            }
            Event::Start(at) if self.nodes[at].plane.is_none() => self.start(at),
            Event::Start(_) => Ok(()),
            Event::Resume(at, life) if self.nodes[at].life == life => self.resume(at),
            Event::Resume(..) => Ok(()),
            Event::Client(client) => self.act(client),
            Event::Settings(at) => self.ask_for_beats(at),
            Event::Encoded {
                at,
                life,
                index,
                source,
            } => {
                // One that stands still has its encoder stand still, too.
                if self.nodes[at].paused && self.nodes[at].life == life {
                    let event = Event::Encoded {
                        at,
                        life,
                        index,
                        source,
                    };
                    self.later(Duration::from_millis(100), event);
                } else if self.nodes[at].life == life {
                    let bytes = source.encode();
                    self.note("encoded", &[at as u64, index, bytes.len() as u64]);
                    self.turn(at, |plane| plane.handle_encoded(index, bytes))?;
                }
                Ok(())
            }
        }
    }

    fn deliver(&mut self, from: usize, to: usize, frame: Arc<[u8]>) -> Result<(), Violation> {
        let node = &mut self.nodes[to];
        if node.paused {
            if node.inbox.len() < INBOX_MAX {
                node.inbox.push(Mail::Peer(from, frame));
            }
            return Ok(());
        }
        self.hear(from, to, &frame)
    }

    fn hear(&mut self, from: usize, to: usize, frame: &[u8]) -> Result<(), Violation> {
        self.note("heard", &[from as u64, to as u64]);
        self.trace.mix_bytes(frame);
        let message = PlaneMessage::decode(frame)
            .map_err(|error| Violation::new(format!("a member's own frame: {error}")))?;
        let from = facts(from, 0)?.name;
        self.turn(to, |plane| plane.handle_peer(&from, message))
    }

    /// A client asks a node that runs.
    pub(super) fn ask(
        &mut self,
        at: usize,
        id: RequestId,
        request: Request,
    ) -> Result<(), Violation> {
        let node = &mut self.nodes[at];
        if node.paused {
            node.inbox.push(Mail::Request(id, request));
            return Ok(());
        }
        self.turn(at, |plane| plane.handle_request(id, request))
    }

    // ------------------------------------------------------------------- turns

    /// A turn of a node with one input; nothing when it is down.
    pub(super) fn turn(
        &mut self,
        at: usize,
        input: impl FnOnce(&mut Plane),
    ) -> Result<(), Violation> {
        let now = self.now;
        let node = &mut self.nodes[at];
        let (shown, wall) = node.clocks(now);
        let Some(plane) = node.plane.as_mut() else {
            return Ok(());
        };
        self.truth.clock_shows(wall);
        plane.start_turn(shown, wall);
        input(plane);
        plane.end_turn();
        while let Some(plane) = self.nodes[at].plane.as_mut() {
            if let Some(output) = plane.poll_output() {
                self.take(at, output)?;
            } else if let Some((_, request)) = plane.poll_disk() {
                let (op, _) = request.target();
                let what = crate::what(&request);
                self.note(what, &[at as u64, op.0]);
                self.nodes[at].disk.submit(now, request);
            } else {
                break;
            }
        }
        let node = &mut self.nodes[at];
        if let Some(machine) = node.plane.as_ref().and_then(Plane::metadata) {
            if !core::mem::replace(&mut node.has_machine, true) {
                // It was begun, or sent, in this turn.
                self.truth.begins(at, machine)?;
            }
            let version = machine.version().0;
            promise!(
                node.told == version,
                "member {at} is at version {version} and showed {}",
                node.told
            );
            self.truth.replica(at, machine)?;
            if core::mem::take(&mut node.restored) {
                self.truth.snapshot(at, machine)?;
            }
        }
        if node.failed {
            self.truth.counts.failed += 1;
            self.crash(at, CrashMode::DropUnsynced)?;
        } else if node.sealed {
            self.crash(at, CrashMode::Clean)?;
        }
        Ok(())
    }

    fn take(&mut self, at: usize, output: PlaneOutput) -> Result<(), Violation> {
        let who = at as u64;
        match output {
            PlaneOutput::Answer { id, answer } => self.answer(at, id, answer)?,
            PlaneOutput::Changes(changes) => {
                for change in &*changes {
                    let told = self.nodes[at].told;
                    promise!(
                        change.version.0 == told + 1,
                        "member {at} shows {} after {told}",
                        change.version
                    );
                    self.truth.change(at, change)?;
                    self.nodes[at].told = change.version.0;
                    self.note("change", &[who, change.version.0]);
                }
            }
            PlaneOutput::Replaced { version } => {
                self.note("replaced", &[who, version.0]);
                self.truth.counts.restored += 1;
                self.nodes[at].told = version.0;
                self.nodes[at].restored = true;
            }
            PlaneOutput::Send { to, message } => {
                let mut frame = Vec::new();
                message.encode(&mut frame);
                if !self.nodes[at].peers.contains(to.as_str()) {
                    self.truth.counts.unheard += 1;
                    return Ok(());
                }
                let to = NAMES.iter().position(|name| *name == to.as_str());
                let to = to.unwrap_or(usize::MAX);
                // A member may say the same twice; a connection gives nothing twice.
                if let PlaneMessage::Raft(said) = &message {
                    let life = self.nodes[at].life;
                    if let PeerMessage::Raft(said) = said {
                        said.iter().try_for_each(|one| self.truth.says(life, one))?;
                    }
                    self.net.send(self.now, at, to, frame.into());
                } else {
                    self.truth.counts.forwarded += 1;
                    self.net.send_once(self.now, at, to, frame.into());
                }
            }
            PlaneOutput::Encode { index, source } => {
                self.truth.counts.snapshots += 1;
                let after = Duration::from_micros(self.rng.below(20_000));
                let life = self.nodes[at].life;
                let event = Event::Encoded {
                    at,
                    life,
                    index,
                    source,
                };
                self.later(after, event);
            }
            PlaneOutput::WatchReady { id } => {
                let node = &mut self.nodes[at];
                promise!(node.watch_ready.insert(id), "{id:?} is told twice");
                if let Some(client) = node.watches.get(&id).copied() {
                    let after = Duration::from_micros(self.rng.below(3_000));
                    self.later(after, Event::Client(client));
                }
            }
            PlaneOutput::Role { role, term, .. } => {
                self.note("role", &[who, role as u64, term]);
                self.nodes[at].role = role;
                if role == Role::Leader {
                    self.truth.leads(at, term)?;
                }
            }
            PlaneOutput::Ready => {
                self.note("ready", &[who]);
                let node = &mut self.nodes[at];
                promise!(!node.ready, "member {at} is ready twice");
                (node.ready, node.was_ready) = (true, true);
                self.set_beats(at);
            }
            PlaneOutput::Sealed => self.nodes[at].sealed = true,
            PlaneOutput::Peers(peers) => {
                let names = peers.iter().map(|(name, _)| name.to_string());
                self.nodes[at].peers = names.collect();
            }
            // Nothing of a tenant is used here.
            PlaneOutput::Elsewhere { .. } => {}
            // No tenant has keys.
            PlaneOutput::RotateKeys { .. } => {}
            PlaneOutput::Pinned(_) => unreachable!("nobody makes a backup"),
            PlaneOutput::Notice(notice) => self.notice(at, notice)?,
        }
        Ok(())
    }

    fn notice(&mut self, at: usize, notice: PlaneNotice) -> Result<(), Violation> {
        match notice {
            // Only a restart helps.
            PlaneNotice::Group(Notice::Failed(_)) | PlaneNotice::AuditFailed(_) => {
                self.nodes[at].failed = true;
            }
            PlaneNotice::Group(Notice::HandOver { .. }) => self.truth.counts.handed_over += 1,
            PlaneNotice::Group(Notice::Installing { .. } | Notice::ReadOnly(_))
            | PlaneNotice::AuditFull(_) => {}
            // It is tried again, and looked for at the end.
            PlaneNotice::NotRegistered(_) | PlaneNotice::NameInUse => {}
            PlaneNotice::ClockBehind { .. } => self.truth.counts.behind_stamp += 1,
            notice => {
                return Err(Violation::new(format!("member {at} says {notice:?}")));
            }
        }
        Ok(())
    }

    fn answer(&mut self, at: usize, id: RequestId, answer: Answer) -> Result<(), Violation> {
        let (what, version) = match &answer {
            Answer::Written { version, .. } => ("written", version.0),
            Answer::Read { version, .. } => ("read", version.0),
            Answer::Recorded => ("recorded", 0),
            Answer::Audit(_) | Answer::AuditEverywhere(_) => ("rows", 0),
            Answer::Refused(error) => (refusal(error), 0),
        };
        self.note(what, &[at as u64, id.0, version]);
        let asked = self.nodes[at].requests.remove(&id);
        if asked == Some((NOBODY, 0)) {
            return Ok(());
        }
        let Some((client, serial)) = asked else {
            return Err(Violation::new(format!(
                "member {at} answers {id:?}, which nobody asks: {answer:?}"
            )));
        };
        self.answered(client, serial, answer)
    }

    // ------------------------------------------------------------ nodes' lives

    fn start(&mut self, at: usize) -> Result<(), Violation> {
        self.lives += 1;
        let life = self.lives;
        self.note("start", &[at as u64, life]);
        let drift = self.rng.below(2 * DRIFT_PPM);
        let rate = i64::try_from(drift).unwrap_or(0) - i64::try_from(DRIFT_PPM).unwrap_or(0);
        let config = PlaneConfig {
            node: facts(at, life)?,
            cluster: cluster(self.plan.members, self.plan.joiner == Some(true))?,
            group: GroupConfig {
                store: self.nodes[at].store,
                seed: life,
                segment_bytes: 2 << 20,
                snapshot_every_entries: self.plan.snapshot_every,
                tail_entries: self.plan.tail,
                ..GroupConfig::default()
            },
            audit: AuditConfig {
                segment_bytes: 2 << 20,
                ..AuditConfig::default()
            },
        };
        let now = self.now;
        let node = &mut self.nodes[at];
        node.clocks(now);
        node.clock.restart();
        node.clock.drift(rate / 100);
        (node.rate, node.started, node.life) = (rate, now, life);
        (node.role, node.ready, node.paused) = (Role::Follower, false, false);
        (node.failed, node.sealed, node.restored) = (false, false, false);
        node.disk.set_faults(FaultPlan::default());
        let opened = Plane::open(config, &mut node.disk, node.clock.wall());
        let opened = opened
            .map_err(|error| Violation::new(format!("member {at} cannot be opened: {error}")))?;
        let plane = opened.plane;
        let empty = opened.found == Found::Empty;
        promise!(
            !empty || !node.was_ready,
            "member {at} is forgotten by its disk"
        );
        self.truth.remembers(&plane.status().group)?;
        (node.told, node.has_machine) = (0, false);
        node.peers.clear();
        if let Some(machine) = plane.metadata() {
            node.told = machine.version().0;
            node.has_machine = true;
            self.truth.begins(at, machine)?;
        }
        node.plane = Some(plane);
        self.net.join(at);
        self.turn(at, |_| {})
    }

    /// A node loses power, or its process ends.
    pub(super) fn crash(&mut self, at: usize, mode: CrashMode) -> Result<(), Violation> {
        let mut rng = self.rng.fork(at as u64);
        let node = &mut self.nodes[at];
        if node.plane.take().is_none() {
            return Ok(());
        }
        if node.sealed {
            self.truth.counts.drains += 1;
        } else if !node.failed {
            self.truth.counts.crashes += 1;
        }
        let violations = node.disk.violations();
        promise!(violations.is_empty(), "member {at}'s disk: {violations:?}");
        node.disk.crash(mode, &mut rng);
        node.life = 0;
        node.paused = false;
        node.role = Role::Follower;
        node.inbox.clear();
        node.watch_ready.clear();
        let requests = core::mem::take(&mut node.requests);
        let watches = core::mem::take(&mut node.watches);
        self.note("crash", &[at as u64, mode_number(mode)]);
        self.net.leave(at);
        for (client, serial) in requests.into_values() {
            if client != NOBODY {
                self.lost(client, serial);
            }
        }
        for client in watches.into_values() {
            self.clients[client].watch = None;
        }
        for other in 0..self.nodes.len() {
            if other != at && self.rng.coin() {
                self.unreachable(other, at)?;
            }
        }
        let after = Duration::from_millis(self.rng.between(1, 900));
        self.later(after, Event::Start(at));
        Ok(())
    }

    /// A node loses its disk, and with it all that it promised; whether the others have what
    /// it had, which they have not while another of them is not whole again.
    pub(super) fn wipe(&mut self, at: usize) -> Result<bool, Violation> {
        let leader = self.leader().and_then(|at| self.nodes[at].plane.as_ref());
        let Some((plane, machine)) = leader.and_then(|plane| Some((plane, plane.metadata()?)))
        else {
            return Ok(false);
        };
        let votes = machine.members().filter(|(_, member)| {
            let whole = self.nodes.iter().any(|node| node.store == member.store);
            whole && member.role == MemberRole::Voter
        });
        let status = plane.status();
        let whole = votes.count() == status.group.voters.len()
            && status.group.voters.len() == self.plan.voters()
            && status.ready;
        if !whole || self.plan.members == 1 {
            return Ok(false);
        }
        self.note("wipe", &[at as u64]);
        self.crash(at, CrashMode::DropUnsynced)?;
        self.truth.counts.wiped += 1;
        self.lives += 1;
        let disk = self.rng.fork(self.lives);
        let node = &mut self.nodes[at];
        node.disk = SimDisk::new(SimDiskConfig::default(), disk);
        node.store[8..].copy_from_slice(&self.lives.to_le_bytes());
        node.was_ready = false;
        Ok(true)
    }

    /// Brokers are to be missed sooner than worlds end, if nobody has said so yet.
    fn set_beats(&mut self, at: usize) {
        let machine = self.nodes[at].plane.as_ref().and_then(Plane::metadata);
        if machine.is_none_or(|machine| machine.get(&ObjectKey::Settings).is_some()) {
            return;
        }
        self.later(Duration::ZERO, Event::Settings(at));
    }

    fn ask_for_beats(&mut self, at: usize) -> Result<(), Violation> {
        let now = self.now;
        let node = &mut self.nodes[at];
        if node.plane.is_none() || node.paused {
            return Ok(());
        }
        let deadline = node.clocks(now).0 + Duration::from_secs(3);
        self.requests += 1;
        let id = RequestId(self.requests);
        node.requests.insert(id, (NOBODY, 0));
        let (heartbeat_ms, missed) = self.plan.beats;
        let write = Write {
            caller: Caller {
                principal: "p:world".into(),
                request: 0,
                remote: None,
            },
            expect: Expect::Any,
            command: Command::UpdateSettings(UpdateSettings {
                heartbeat_ms: Some(heartbeat_ms),
                missed: Some(missed),
                grace_ms: None,
                token_life_s: None,
            }),
            deadline,
        };
        self.turn(at, |plane| plane.handle_request(id, Request::Write(write)))
    }

    /// A node hears that what it sent to another may not have come there.
    pub(super) fn unreachable(&mut self, at: usize, other: usize) -> Result<(), Violation> {
        if self.nodes[at].paused {
            return Ok(());
        }
        let other = facts(other, 0)?.name;
        self.turn(at, |plane| plane.handle_unreachable(&other))
    }

    /// A node ends as it should, and is started again.
    pub(super) fn drain(&mut self, at: usize) -> Result<(), Violation> {
        if !self.nodes[at].runs() {
            return Ok(());
        }
        self.note("drain", &[at as u64]);
        self.turn(at, Plane::seal)
    }

    /// A node stands still for a while.
    pub(super) fn pause(&mut self, at: usize, long: Duration) {
        let node = &mut self.nodes[at];
        if node.runs() {
            node.paused = true;
            let life = node.life;
            self.truth.counts.pauses += 1;
            self.note("pause", &[at as u64]);
            self.later(long, Event::Resume(at, life));
        }
    }

    fn resume(&mut self, at: usize) -> Result<(), Violation> {
        self.note("resume", &[at as u64]);
        let node = &mut self.nodes[at];
        node.paused = false;
        for mail in core::mem::take(&mut node.inbox) {
            match mail {
                Mail::Peer(from, frame) => self.hear(from, at, &frame)?,
                Mail::Request(id, request) => {
                    // It may have ended meanwhile.
                    if self.nodes[at].requests.contains_key(&id) {
                        self.turn(at, |plane| plane.handle_request(id, request))?;
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) fn set_faults(&mut self, at: usize, plan: FaultPlan) {
        self.nodes[at].disk.set_faults(plan);
    }

    /// Somebody sets a node's wall clock.
    pub(super) fn set_wall(&mut self, at: usize, by_ms: i64) {
        self.note("jump", &[at as u64, by_ms.unsigned_abs()]);
        self.nodes[at].clock.jump_wall(by_ms);
    }
}

/// A refusal, for a trace.
fn refusal(error: &PlaneError) -> &'static str {
    match error {
        PlaneError::Meta(_) => "refused",
        PlaneError::Malformed(_) => "malformed",
        PlaneError::NoLeader { .. } => "nobody leads",
        PlaneError::Unknown => "unknown",
        PlaneError::TimedOut => "timed out",
        PlaneError::Busy { .. } => "busy",
        PlaneError::ReadOnly => "disk full",
        PlaneError::AuditUnavailable => "no room for rows",
        PlaneError::NotReady => "not ready",
        PlaneError::Failed => "failed",
    }
}

fn mode_number(mode: CrashMode) -> u64 {
    match mode {
        CrashMode::Clean => 0,
        CrashMode::DropUnsynced => 1,
        CrashMode::Prefix => 2,
        CrashMode::RandomSubset => 3,
        CrashMode::Sectors(sectors) => 4 + u64::from(sectors),
    }
}
