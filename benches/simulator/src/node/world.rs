//! A node in memory: cores, the control thread's directory, boxes between
//! them, one disk below, and clients that come back after every crash.

mod ending;
mod lossy;
mod plan;

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use pinion_commitlog::{FileId, LogConfig, LogId};
use pinion_node::access::{
    AccessTable, Grant, Permissions, Principal, Scope, TenantId, TokenDigest,
};
use pinion_node::declared::Declared;
use pinion_node::mail::{ControlMail, CoreMail, StorageNotice};
use pinion_node::map::{Directory, Resource, SpecDefaults};
use pinion_node::{Core, CoreConfig, Feed, Output};
use pinion_simkit::{CrashMode, SimClock, SimDisk, SimDiskConfig, SimRng, Trace};
use pinion_types::{CoreId, Epoch, ResourceKind, WallMs};

use super::client::{Client, REQUESTS};
use super::player::{Player, Role, TOKEN, Time};
use super::truth::Truth;
use crate::{Violation, promise, what};
pub use lossy::LossyCounts;
pub(crate) use plan::Plan;

/// Mails a box between two cores holds.
const BOX_CAPACITY: usize = 256;
/// Turns after which a world that should come to rest is said never to.
const SETTLE_TURNS_MAX: u32 = 60_000;
/// Turns without a movement after which nothing is on its way: boxes are emptied
/// in part only, and a core misses a turn now and then.
const QUIET_TURNS: u32 = 12;
/// Most turns of waiting for that.
const QUIET_TURNS_MAX: u32 = 400;
/// The wall clock when a world begins.
const START: WallMs = WallMs(1_700_000_000_000);
/// What the node's memory is said to be, per core.
const MEMORY: u64 = 1 << 30;

pub(crate) struct NodeWorld {
    plan: Plan,
    /// Empty while the node is down.
    cores: Vec<Core>,
    /// `boxes[to][from]`; the last `from` is the control thread.
    boxes: Vec<Vec<VecDeque<CoreMail>>>,
    to_control: Vec<VecDeque<ControlMail>>,
    from_control: Vec<VecDeque<CoreMail>>,
    directory: Directory,
    access: Arc<AccessTable>,
    /// What the control thread has written down: it survives every crash.
    declared: Vec<Declared>,
    pub(crate) disk: SimDisk,
    pub(crate) clock: SimClock,
    clients: BTreeMap<u64, Client>,
    next_conn: u64,
    pub(crate) players: Vec<Player>,
    /// Which connection a player has.
    links: Vec<Option<u64>>,
    pub(crate) truth: Truth,
    pub(crate) trace: Trace,
    pub(crate) rng: SimRng,
    /// Players begin nothing new.
    pub(crate) finishing: bool,
    /// A log of the node has failed: only a restart helps.
    pub(crate) failed: bool,
    /// Requests of the disk are failed on purpose.
    pub(crate) tolerates_failure: bool,
    /// The disk lies about what is durable; what it lost must be noticed.
    lossy: bool,
    /// The node said that something is wrong with its data.
    pub(crate) noticed: Option<String>,
}

impl NodeWorld {
    pub(crate) fn new(seed: u64, lossy: bool) -> Result<Self, Violation> {
        let mut rng = SimRng::new(seed);
        let mut plan = Plan::of(&mut rng);
        if lossy {
            plan.on_one_log(&mut rng);
        }
        let disk = SimDiskConfig {
            latency_max: Duration::from_micros(*rng.pick(&[100, 1_000, 20_000])),
            ..SimDiskConfig::default()
        };
        let grant = Grant {
            permissions: Permissions::ALL,
            kind: None,
            namespace: Scope::Any,
            name: Scope::Any,
        };
        let principal = Principal {
            name: "player".to_owned(),
            tenant: TenantId(1),
            grants: vec![grant],
        };
        let access = AccessTable::new([(TokenDigest::of(TOKEN), principal)]);
        let mut truth = Truth::default();
        let mut players = Vec::new();
        for (index, resource) in plan.resources.iter().enumerate() {
            for partition in 0..resource.spec.shards {
                let key = (index, partition);
                if resource.kind == ResourceKind::Queue {
                    truth.queues.insert(key, resource.queue_truth());
                } else {
                    truth.streams.insert(key, resource.stream_truth());
                }
                for role in resource.roles(&mut rng, plan.body_max, players.len()) {
                    players.push(Player::new(players.len(), index, partition, role));
                }
            }
        }
        let mut world = Self {
            cores: Vec::new(),
            boxes: Vec::new(),
            to_control: Vec::new(),
            from_control: Vec::new(),
            directory: Directory::new(plan.cores, MEMORY, SpecDefaults::default()),
            access: Arc::new(access),
            declared: Vec::new(),
            disk: SimDisk::new(disk, rng.fork(1)),
            clock: SimClock::new(START),
            clients: BTreeMap::new(),
            next_conn: 0,
            links: vec![None; players.len()],
            players,
            truth,
            trace: Trace::default(),
            rng: rng.fork(2),
            finishing: false,
            failed: false,
            tolerates_failure: false,
            lossy,
            noticed: None,
            plan,
        };
        world.boot()?;
        Ok(world)
    }

    // ---- life and death ----------------------------------------------------

    /// The node starts on whatever the disk holds.
    pub(crate) fn boot(&mut self) -> Result<(), Violation> {
        // A node may come back with fewer or more cores; its logs stay.
        if !self.declared.is_empty() && self.rng.one_in(5) {
            self.plan.cores = u16::try_from(self.rng.between(1, 3)).expect("small");
            self.plan.logs = self.plan.logs.max(self.plan.cores);
        }
        self.clock.restart();
        self.failed = false;
        self.truth.restarted();
        let (cores, logs) = (self.plan.cores, self.plan.logs);
        self.trace
            .note(self.clock.now(), "boot", &[u64::from(cores)]);
        let memory = SpecDefaults::default();
        self.directory = Directory::new(cores, MEMORY, memory).with_logs(logs);
        for one in &self.declared {
            self.directory.restore(one.clone());
        }
        let overfull = self.directory.overfull();
        if !overfull.is_empty() {
            return Err(Violation::new(format!("no longer fits: {overfull:?}")));
        }
        let mut resources: Vec<Arc<Resource>> = self.directory.map().iter().cloned().collect();
        resources.sort_by_key(|resource| resource.id);
        self.cores.clear();
        for me in 0..cores {
            let config = CoreConfig {
                core: CoreId(me),
                data_cores: cores,
                node_id: self.rng.next_u64(),
                steering: (5, 7),
                create_on_first_use: true,
                seed: [self.rng.next_u64(), self.rng.next_u64()],
                tail_bytes_max: self.plan.tail_bytes,
            };
            let mut core = Core::new(config, Arc::clone(&self.access));
            core.start_turn(self.clock.now(), self.clock.wall());
            for (epoch, resource) in (1..).zip(&resources) {
                core.handle_mail(CoreMail::Declared {
                    epoch: Epoch(epoch),
                    resource: Arc::clone(resource),
                });
            }
            for number in (me..logs).step_by(usize::from(cores)) {
                let config = LogConfig {
                    log: LogId(number),
                    store: *b"a simulated node",
                    segment_bytes: self.plan.segment_bytes,
                    checkpoint_every_bytes: self.plan.checkpoint_every_bytes,
                    seed: self.rng.next_u64(),
                    started: self.clock.wall(),
                    ..LogConfig::default()
                };
                let opened = match core.open_log(&mut self.disk, config) {
                    Ok(opened) => opened,
                    Err(error) => {
                        let text = format!("log {number}: {error}");
                        promise!(self.lossy, "{text}");
                        self.noticed = Some(text);
                        return Ok(());
                    }
                };
                let report = &opened.report;
                let whole = report.damage.is_empty() && opened.fenced == 0 && opened.orphans == 0;
                if !whole {
                    let text = format!("log {number}: {opened:?}");
                    promise!(self.lossy, "{text}");
                    self.noticed = Some(text);
                }
            }
            self.cores.push(core);
        }
        let ports = usize::from(cores);
        let empty = |n: usize| (0..n).map(|_| VecDeque::new()).collect::<Vec<_>>();
        self.boxes = (0..ports).map(|_| empty(ports + 1)).collect();
        self.to_control = (0..ports).map(|_| VecDeque::new()).collect();
        self.from_control = empty(ports);
        Ok(())
    }

    fn lose_clients(&mut self) {
        self.clients.clear();
        for (player, link) in self.players.iter_mut().zip(&mut self.links) {
            if link.take().is_some() {
                player.lost(&mut self.truth);
            }
        }
    }

    /// Power is lost, and comes back.
    pub(crate) fn crash(&mut self, mode: CrashMode) -> Result<(), Violation> {
        self.truth.counts.crashes += 1;
        self.truth.crashed();
        self.trace
            .note(self.clock.now(), "crash", &[self.disk.stats().done]);
        self.cores.clear();
        self.lose_clients();
        let mut rng = self.rng.fork(7);
        self.disk.crash(mode, &mut rng);
        self.clock
            .advance(Duration::from_millis(self.rng.below(3_000)));
        self.boot()
            .map_err(|v| v.within(format_args!("started after a crash, {mode:?}")))
    }

    /// The node is asked to stop, stops cleanly, and starts again.
    pub(crate) fn drain(&mut self) -> Result<(), Violation> {
        self.truth.counts.drains += 1;
        self.trace.note(self.clock.now(), "drain", &[]);
        for lane in &mut self.from_control {
            lane.push_back(CoreMail::Drain);
        }
        for turn in 0.. {
            promise!(turn < SETTLE_TURNS_MAX, "the node never drains");
            if self.cores.iter().all(Core::is_drained) || self.failed {
                break;
            }
            self.read_on();
            self.turn(Duration::from_micros(200))?;
        }
        let clean = !self.failed;
        if !clean {
            self.truth.crashed();
        }
        self.cores.clear();
        self.lose_clients();
        // Leftovers may still be on their way out; nothing else may move.
        let writing = self.disk.in_flight().find(|op| op.write_sectors.is_some());
        promise!(
            !clean || writing.is_none(),
            "a drained node still writes: {writing:?}"
        );
        let mut rng = self.rng.fork(8);
        self.disk.crash(CrashMode::Clean, &mut rng);
        self.boot()
            .map_err(|v| v.within("started after a clean stop"))
    }

    /// Somebody sets the wall clock.
    pub(crate) fn jump(&mut self) {
        const HOUR: i64 = 3_600_000;
        self.truth.counts.jumps += 1;
        let by = if self.rng.coin() { HOUR } else { -HOUR };
        self.clock.jump_wall(by);
        self.trace
            .note(self.clock.now(), "wall clock", &[by.unsigned_abs()]);
    }

    // ---- players -----------------------------------------------------------

    pub(crate) fn add_player(&mut self, resource: usize, partition: u16, role: Role) -> usize {
        let id = self.players.len();
        self.players
            .push(Player::new(id, resource, partition, role));
        self.links.push(None);
        id
    }

    fn time(&self) -> Time {
        Time {
            world: self.clock.world_nanos(),
            wall: self.clock.wall(),
            jumps: self.truth.counts.jumps,
        }
    }

    /// A player connects, works, or goes away.
    pub(crate) fn play(&mut self, id: usize, more: bool) -> Result<(), Violation> {
        let time = self.time();
        let Some(conn) = self.links[id] else {
            if self.cores.is_empty() {
                return Ok(());
            }
            let core = self.rng.index(self.cores.len());
            let conn = (1 << 32) | self.next_conn;
            self.next_conn += 1;
            let mut client = Client::new(core, conn);
            client.window = self.players[id].window();
            self.cores[core].start_turn(self.clock.now(), time.wall);
            self.cores[core].handle_connected(conn);
            self.cores[core].handle_stream_opened(conn, REQUESTS, true, false);
            self.players[id].connected(&mut client);
            self.clients.insert(conn, client);
            self.links[id] = Some(conn);
            return Ok(());
        };
        let Some(client) = self.clients.get_mut(&conn) else {
            return Ok(());
        };
        let refused = self.players[id].is_refused();
        if client.closed.is_some() || refused || (more && self.rng.one_in(400)) {
            // It goes away, in the middle of whatever it does.
            let core = client.core;
            if client.closed.is_none() {
                self.cores[core].start_turn(self.clock.now(), time.wall);
                self.cores[core].handle_closed(conn);
            }
            self.clients.remove(&conn);
            self.links[id] = None;
            self.players[id].lost(&mut self.truth);
            return Ok(());
        }
        let player = &mut self.players[id];
        let plan = &self.plan.resources;
        player.act(client, &mut self.rng, time, more, plan, &mut self.truth);
        if client.window.is_some() {
            for stream in client.allow(self.rng.index(3_000)) {
                let core = client.core;
                self.cores[core].handle_writable(conn, stream);
            }
        }
        Ok(())
    }

    /// Every player hears what came for it.
    fn listen(&mut self) -> Result<bool, Violation> {
        let time = self.time();
        let mut moved = false;
        for id in 0..self.players.len() {
            let Some(conn) = self.links[id] else {
                continue;
            };
            let Some(client) = self.clients.get_mut(&conn) else {
                continue;
            };
            let player = &mut self.players[id];
            while let Some(answer) = client.answer() {
                moved = true;
                self.trace.mix_bytes(&answer.body);
                player
                    .answered(client, &answer, time, &self.plan.resources, &mut self.truth)
                    .map_err(|v| v.within(player.title()))?;
                // A failed read closes its partition as a failed write does its log.
                if player.met_a_fence() {
                    self.failed |= self.tolerates_failure;
                    if self.lossy {
                        self.noticed = Some(player.title());
                    }
                }
            }
            while let Some((subscription, got)) = client.delivery() {
                moved = true;
                player
                    .delivered(subscription, got, time, &mut self.truth)
                    .map_err(|v| v.within(player.title()))?;
            }
        }
        Ok(moved)
    }

    // ---- the node ----------------------------------------------------------

    /// One step of the world: something is done, time passes, everyone has a turn.
    pub(crate) fn step(&mut self) -> Result<(), Violation> {
        for _ in 0..self.rng.below(4) {
            let id = self.rng.index(self.players.len());
            self.play(id, !self.finishing)?;
        }
        let max = u64::try_from(self.plan.step_max.as_nanos()).unwrap_or(u64::MAX);
        let by = if self.rng.one_in(200) {
            // What is on its way arrives first: nobody's clock is that far ahead
            // of the others.
            self.quiet()?;
            Duration::from_millis(self.rng.below(20_000))
        } else {
            Duration::from_nanos(self.rng.below(max))
        };
        self.turn(by)?;
        Ok(())
    }

    /// Everything that can move without time passing moves.
    pub(super) fn quiet(&mut self) -> Result<(), Violation> {
        let mut still = 0;
        for _ in 0..QUIET_TURNS_MAX {
            let moved = self.turn(Duration::ZERO)?;
            still = if moved { 0 } else { still + 1 };
            if still == QUIET_TURNS {
                break;
            }
        }
        Ok(())
    }

    /// Clients take some of what waits for them.
    fn read_on(&mut self) {
        for client in self.clients.values_mut() {
            if client.window.is_some() {
                for stream in client.allow(2_000) {
                    self.cores[client.core].handle_writable(client.conn, stream);
                }
            }
        }
    }

    /// Time passes and everyone has a turn, in an order of the seed's.
    pub(crate) fn turn(&mut self, by: Duration) -> Result<bool, Violation> {
        self.clock.advance(by);
        let wall = self.clock.wall().0;
        self.truth.streams.values_mut().for_each(|s| s.saw(wall));
        let mut moved = self.disk_turn();
        moved |= self.control_turn()?;
        let count = self.cores.len();
        if count > 0 {
            let start = self.rng.index(count);
            for offset in 0..count {
                if !self.rng.one_in(6) {
                    moved |= self.core_turn((start + offset) % count)?;
                }
            }
        }
        moved |= self.listen()?;
        Ok(moved)
    }

    fn disk_turn(&mut self) -> bool {
        let now = self.disk_now();
        let mut moved = false;
        while let Some(done) = self.disk.poll_done(now) {
            moved = true;
            let log = done.file.log();
            let ok = u64::from(done.result.is_ok());
            self.trace
                .note(self.clock.now(), "done", &[u64::from(log.0), done.op.0, ok]);
            let core = usize::from(log.0) % self.cores.len().max(1);
            if let Some(core) = self.cores.get_mut(core) {
                core.start_turn(self.clock.now(), self.clock.wall());
                core.handle_disk_done(done);
            }
        }
        moved
    }

    /// The disk keeps the node's time.
    fn disk_now(&self) -> pinion_types::Monotonic {
        self.clock.now()
    }

    fn control_turn(&mut self) -> Result<bool, Violation> {
        let mut moved = false;
        for core in 0..self.to_control.len() {
            while let Some(mail) = self.to_control[core].pop_front() {
                moved = true;
                self.control(mail)?;
            }
        }
        let port = self.cores.len();
        for (core, lane) in self.from_control.iter_mut().enumerate() {
            let inbox = &mut self.boxes[core][port];
            while inbox.len() < BOX_CAPACITY
                && let Some(mail) = lane.pop_front()
            {
                moved = true;
                inbox.push_back(mail);
            }
        }
        Ok(moved)
    }

    fn control(&mut self, mail: ControlMail) -> Result<(), Violation> {
        match mail {
            ControlMail::Declare {
                origin,
                tenant,
                kind,
                name,
                spec,
                ..
            } => {
                let result = self.directory.declare(tenant, kind, &name, spec);
                if let Ok((resource, true)) = &result {
                    // Written down before anybody is told.
                    self.declared.push(Declared::from(&**resource));
                    let epoch = self.directory.map().epoch();
                    for lane in &mut self.from_control {
                        lane.push_back(CoreMail::Declared {
                            epoch,
                            resource: Arc::clone(resource),
                        });
                    }
                }
                let lane = &mut self.from_control[usize::from(origin.session.core.0)];
                lane.push_back(CoreMail::DeclareDone {
                    origin,
                    result: result.map(|(resource, _)| resource),
                });
            }
            ControlMail::Storage { log, notice } => {
                let text = format!("{notice:?} of log {}", log.0);
                self.trace
                    .note(self.clock.now(), "notice", &[u64::from(log.0)]);
                let better = matches!(notice, StorageNotice::ReadOnly(false));
                if self.lossy {
                    self.noticed = Some(text);
                    return Ok(());
                }
                promise!(self.tolerates_failure || better, "on a sound disk: {text}");
                match notice {
                    StorageNotice::Failed(_) => self.failed = true,
                    StorageNotice::ReadOnly(_) => {}
                    StorageNotice::Damaged(_) => return Err(Violation::new(text)),
                }
            }
            mail @ ControlMail::Purged { .. } => unreachable!("{mail:?}: nobody deletes"),
            mail @ ControlMail::Pinned { .. } => unreachable!("{mail:?}: nobody makes a backup"),
            ControlMail::Report(report) => unreachable!("{report:?}: nobody has a quota"),
            mail @ ControlMail::Barred { .. } => unreachable!("{mail:?}: nobody loses metadata"),
            ControlMail::View { view, .. } => unreachable!("{view:?}: nobody looks in"),
            ControlMail::Drained { .. } => {}
        }
        Ok(())
    }

    fn core_turn(&mut self, me: usize) -> Result<bool, Violation> {
        let mut moved = false;
        let (now, wall) = (self.clock.now(), self.clock.wall());
        let core = &mut self.cores[me];
        core.start_turn(now, wall);
        if core.next_deadline().is_some_and(|at| at <= now) {
            moved = true;
            core.handle_timeout();
        }
        for from in 0..self.boxes[me].len() {
            let waiting = self.boxes[me][from].len();
            // A box is emptied in part now and then.
            let take = if self.rng.one_in(3) {
                self.rng.index(waiting + 1)
            } else {
                waiting
            };
            for mail in self.boxes[me][from].drain(..take) {
                moved = true;
                core.handle_mail(mail);
            }
        }
        for client in self.clients.values_mut() {
            if client.core != me || client.closed.is_some() {
                continue;
            }
            for _ in 0..core::mem::take(&mut client.acks) {
                moved = true;
                core.handle_stream_acknowledged(client.conn);
            }
            while !client.requests.paused
                && let Some(chunk) = client.requests.input.pop_front()
            {
                moved = true;
                let feed = core.handle_stream_data(client.conn, REQUESTS, chunk);
                client.requests.paused = feed == Feed::Paused;
            }
        }
        core.end_turn();
        moved |= self.flush(me)?;
        Ok(moved)
    }

    /// Does what a core wants done, as the pump does.
    fn flush(&mut self, me: usize) -> Result<bool, Violation> {
        let mut moved = false;
        let now = self.clock.now();
        let core = &mut self.cores[me];
        while let Some(output) = core.poll_output() {
            moved |= !matches!(output, Output::Mail { .. } | Output::Control(_));
            match output {
                Output::Write {
                    conn,
                    stream,
                    bytes,
                } => match self.clients.get_mut(&conn) {
                    Some(client) => {
                        let taken = client.take_reply_bytes(bytes)?;
                        core.handle_written(conn, stream, taken, taken == 0);
                    }
                    None => core.handle_stream_lost(conn, stream),
                },
                Output::WriteChunks {
                    conn,
                    stream,
                    chunks,
                } => {
                    let client = self.clients.get_mut(&conn);
                    let taken = client.map(|c| c.take_chunks(stream, chunks)).transpose()?;
                    match taken.flatten() {
                        Some(taken) => core.handle_written(conn, stream, taken, taken == 0),
                        None => core.handle_stream_lost(conn, stream),
                    }
                }
                Output::OpenUni { conn, subscription } => {
                    let stream = self.clients.get_mut(&conn).and_then(Client::open_uni);
                    core.handle_opened(conn, subscription, stream);
                }
                Output::Finish { conn, stream } => {
                    if let Some(client) = self.clients.get_mut(&conn) {
                        client.finished(stream);
                    }
                }
                Output::Resume { conn, stream } => {
                    let feed = core.handle_resumed(conn, stream);
                    if let Some(client) = self.clients.get_mut(&conn) {
                        client.requests.paused = feed == Feed::Paused;
                    }
                }
                Output::Close { conn, code } => {
                    if let Some(client) = self.clients.get_mut(&conn) {
                        client.closed = Some(code);
                    }
                    core.handle_closed(conn);
                }
                Output::Mail { to, mail } => {
                    let inbox = &mut self.boxes[usize::from(to.0)][me];
                    if inbox.len() < BOX_CAPACITY {
                        moved = true;
                        inbox.push_back(mail);
                    } else {
                        core.mail_refused(to, mail);
                    }
                }
                Output::Control(mail) => {
                    moved = true;
                    self.to_control[me].push_back(mail);
                }
                Output::Disk(request) => {
                    let (op, file) = request.target();
                    let log = u64::from(file.log().0);
                    let (kind, number) = match file {
                        FileId::Segment { number, .. } => (1, number),
                        FileId::Checkpoint { number, .. } => (2, number),
                    };
                    let facts = [log, op.0, kind, number];
                    self.trace.note(now, what(&request), &facts);
                    self.disk.submit(now, request);
                }
            }
        }
        Ok(moved)
    }
}
