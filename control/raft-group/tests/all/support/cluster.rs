//! Several members, and the wires between them. Whatever happens, no index is ever
//! applied with two contents, and no term has two leaders.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use pinion_commitlog::DiskError;
use pinion_raft_group::{Found, GroupConfig, MemberId, Notice, PeerMessage, ReadId, Role};
use pinion_simkit::{CrashMode, Fault, FaultPlan, SimRng};
use pinion_types::Monotonic;

use super::{CLUSTER, Machine, Node, disk};

/// Members and wires. Members are counted from 0 here; their numbers are one more.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    pub(crate) now: Monotonic,
    pub(crate) rng: SimRng,
    /// Members that are not running.
    pub(crate) down: BTreeSet<usize>,
    /// Those of them that will never run again.
    pub(crate) gone: BTreeSet<usize>,
    /// The first members; later ones join.
    founders: usize,
    /// Wires that lose everything.
    pub(crate) cut: BTreeSet<(usize, usize)>,
    /// Members whose disks finish nothing.
    pub(crate) held: BTreeSet<usize>,
    /// One message in so many is lost, comes twice, comes late. 0 for never.
    pub(crate) lose: u64,
    pub(crate) repeat: u64,
    pub(crate) delay: u64,
    config: GroupConfig,
    wires: BTreeMap<(Monotonic, u64), (usize, usize, Vec<u8>)>,
    messages: u64,
    last_due: BTreeMap<(usize, usize), Monotonic>,
    lives: u64,
    reads: u64,
    /// What was applied anywhere: term and command by index.
    pub(crate) history: BTreeMap<u64, (u64, Vec<u8>)>,
    pub(crate) leaders: BTreeMap<u64, usize>,
    /// What a read must see: everything that was applied anywhere when it was asked.
    floors: BTreeMap<u64, u64>,
    /// Reads that were answered.
    pub(crate) answered: usize,
    /// How much of what each member did was looked at.
    seen: Vec<[usize; 4]>,
    /// A running hash of everything that happened.
    pub(crate) trace: u64,
}

/// No two lives have the same seed.
fn life_of(config: &GroupConfig, at: usize, life: u64) -> GroupConfig {
    let seed = life * 64 + at as u64;
    GroupConfig {
        seed,
        ..config.clone()
    }
}

/// Begins a member that is nobody.
fn begin(node: &mut Node, at: usize, founders: usize) {
    let first: Vec<MemberId> = (0..founders).map(member).collect();
    if at < founders {
        node.group
            .bootstrap(member(at), CLUSTER, &first, Bytes::new());
    } else {
        node.group.join(member(at), CLUSTER);
    }
}

pub(crate) fn member(at: usize) -> MemberId {
    MemberId(at as u64 + 1)
}

impl Cluster {
    /// A group of so many voters, from nothing.
    pub(crate) fn new(voters: usize, seed: u64, config: GroupConfig) -> Self {
        let mut nodes = Vec::new();
        for at in 0..voters {
            let disk = disk(seed * 16 + at as u64);
            let config = life_of(&config, at, 0);
            let mut node = Node::open_as(member(at), 0, config, disk).unwrap();
            begin(&mut node, at, voters);
            nodes.push(node);
        }
        let mut cluster = Self {
            nodes,
            now: Monotonic::ZERO,
            rng: SimRng::new(seed),
            down: BTreeSet::new(),
            gone: BTreeSet::new(),
            founders: voters,
            cut: BTreeSet::new(),
            held: BTreeSet::new(),
            lose: 0,
            repeat: 0,
            delay: 0,
            config,
            wires: BTreeMap::new(),
            messages: 0,
            last_due: BTreeMap::new(),
            lives: 0,
            reads: 0,
            history: BTreeMap::new(),
            leaders: BTreeMap::new(),
            floors: BTreeMap::new(),
            answered: 0,
            seen: vec![[0; 4]; voters],
            trace: 0,
        };
        for at in 0..voters {
            cluster.turn(at);
        }
        cluster
    }

    /// Who leads in the newest term, of those that run.
    pub(crate) fn leader(&self) -> Option<usize> {
        let leads = |at: &usize| self.nodes[*at].role == Role::Leader && !self.down.contains(at);
        let leaders = (0..self.nodes.len()).filter(leads);
        leaders.max_by_key(|at| self.nodes[*at].group.status().term)
    }

    /// Runs until somebody leads; who.
    pub(crate) fn elect(&mut self) -> usize {
        let end = self.now + Duration::from_secs(20);
        while self.leader().is_none() {
            assert!(self.now < end, "nobody is elected");
            self.step(end);
        }
        self.leader().unwrap()
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
        self.now = end;
    }

    pub(crate) fn pass_ms(&mut self, ms: u64) {
        self.pass(Duration::from_millis(ms));
    }

    /// The next thing that happens before `end`; false when nothing does.
    pub(crate) fn step(&mut self, end: Monotonic) -> bool {
        let running = (0..self.nodes.len()).filter(|at| !self.down.contains(at));
        let mut next: Option<(Monotonic, usize, What)> = None;
        for at in running {
            let disk = self.nodes[at].disk.next_deadline();
            let disk = disk.filter(|_| !self.held.contains(&at));
            let time = self.nodes[at].group.next_deadline();
            for (due, what) in [(disk, What::Disk), (time, What::Time)] {
                if let Some(due) = due
                    && next.as_ref().is_none_or(|(first, ..)| due < *first)
                {
                    next = Some((due, at, what));
                }
            }
        }
        let wire = self.wires.first_key_value().map(|((due, _), _)| *due);
        if let Some(due) = wire
            && next.as_ref().is_none_or(|(first, ..)| due <= *first)
        {
            next = Some((due, 0, What::Wire));
        }
        let Some((due, at, what)) = next.filter(|(due, ..)| *due <= end) else {
            return false;
        };
        self.now = self.now.max(due);
        match what {
            What::Wire => self.deliver(),
            What::Disk => {
                let done = self.nodes[at].disk.poll_done(self.now).unwrap();
                self.nodes[at].group.handle_disk_done(self.now, done);
                self.turn(at);
            }
            What::Time => {
                self.nodes[at].group.handle_timeout(self.now);
                self.turn(at);
            }
        }
        true
    }

    fn deliver(&mut self) {
        let (_, (from, to, frame)) = self.wires.pop_first().unwrap();
        if self.down.contains(&to) || self.cut.contains(&(from, to)) {
            return;
        }
        let message = PeerMessage::decode(&frame).unwrap();
        let node = &mut self.nodes[to];
        node.group.handle_peer(self.now, member(from), message);
        self.turn(to);
    }

    /// Ends a member's turn and looks at what it did.
    pub(crate) fn turn(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.now = self.now;
        node.turn();
        for (to, message) in core::mem::take(&mut node.sent) {
            let to = usize::try_from(to.0 - 1).unwrap();
            // One that was never started.
            if to >= self.nodes.len() {
                continue;
            }
            let mut frame = Vec::new();
            message.encode(&mut frame);
            self.send(at, to, &frame);
        }
        self.check(at);
    }

    fn send(&mut self, from: usize, to: usize, frame: &[u8]) {
        let rng = &mut self.rng;
        let mut one_in = |n: u64| n > 0 && rng.one_in(n);
        let copies = 1 - u64::from(one_in(self.lose)) + u64::from(one_in(self.repeat));
        for _ in 0..copies {
            let late = self.delay > 0 && self.rng.one_in(self.delay);
            let most = if late { 400_000 } else { 400 };
            let takes = Duration::from_micros(self.rng.between(100, most));
            let mut due = self.now + takes;
            // In order, as on a connection, but for those that come late.
            let last = self.last_due.entry((from, to)).or_insert(due);
            if !late {
                due = due.max(*last);
                *last = due;
            }
            self.messages += 1;
            let key = (due, self.messages);
            self.wires.insert(key, (from, to, frame.to_vec()));
        }
    }

    fn check(&mut self, at: usize) {
        let node = &self.nodes[at];
        let [mut applied, mut led, mut read, restored] = self.seen[at];
        if restored != node.restored {
            // A snapshot took the place of what was seen.
            applied = 0;
            self.check_machine(at);
        }
        let node = &self.nodes[at];
        // The machine of a member that was started again has more than this life did.
        let before = node.machine.0.len() - node.terms.len();
        for (place, (index, term)) in node.terms.iter().enumerate().skip(applied) {
            let data = &node.machine.0[before + place].1;
            let is = (*term, data.clone());
            let was = self.history.entry(*index).or_insert_with(|| is.clone());
            assert_eq!(
                *was, is,
                "entry {index} on member {at} is another elsewhere"
            );
            applied += 1;
            self.trace = self.trace.rotate_left(5) ^ index ^ (term << 32) ^ at as u64;
        }
        for term in &node.led[led..] {
            let leader = *self.leaders.entry(*term).or_insert(at);
            assert_eq!(leader, at, "term {term} has two leaders");
            led += 1;
            self.trace = self.trace.rotate_left(7) ^ term ^ self.now.0;
        }
        for (number, index) in &node.reads[read..] {
            if let Some(floor) = self.floors.remove(number) {
                assert!(floor <= *index, "member {at} reads {index} after {floor}");
                self.answered += 1;
            }
            read += 1;
        }
        self.seen[at] = [applied, led, read, node.restored];
        assert_eq!(node.disk.violations(), [""; 0]);
    }

    /// Asks a member to read; what it answers is compared with what was there by now.
    pub(crate) fn read(&mut self, at: usize) {
        self.reads += 1;
        let floor = self.history.last_key_value().map_or(0, |(index, _)| *index);
        let id = ReadId(self.reads);
        if self.nodes[at].group.read(self.now, id).is_ok() {
            self.floors.insert(id.0, floor);
        }
        self.turn(at);
    }

    /// Its disk refuses the next thing that it is asked for.
    pub(crate) fn fail_disk(&mut self, at: usize) {
        let disk = &mut self.nodes[at].disk;
        let next = disk.stats().submitted + 1;
        disk.set_faults(FaultPlan::once(
            next,
            Fault::Fails(DiskError::Io { errno: 5 }),
        ));
    }

    /// A machine that came as a whole is what the commands up to there made.
    fn check_machine(&self, at: usize) {
        let machine = &self.nodes[at].machine.0;
        let last = machine.last().map_or(0, |(index, _)| *index);
        let expected = self.history.range(..=last);
        let expected = expected.map(|(index, (_, data))| (index, data));
        let has = machine.iter().map(|(index, data)| (index, data));
        assert!(
            has.eq(expected),
            "member {at}'s snapshot of {last} is another"
        );
    }

    /// One more member, which has nothing.
    pub(crate) fn join(&mut self) -> usize {
        let at = self.nodes.len();
        let disk = disk(at as u64 + 1000);
        let mut node = Node::open_as(member(at), 0, life_of(&self.config, at, 0), disk).unwrap();
        begin(&mut node, at, self.founders);
        self.nodes.push(node);
        self.seen.push([0; 4]);
        self.turn(at);
        at
    }

    /// What is on the wires.
    pub(crate) fn frames_under_way(&self) -> impl Iterator<Item = &[u8]> {
        self.wires.values().map(|(_, _, frame)| &frame[..])
    }

    pub(crate) fn chunks_under_way(&self) -> usize {
        self.frames_under_way()
            .filter(|frame| matches!(PeerMessage::decode(frame), Ok(PeerMessage::Chunk(_))))
            .count()
    }

    /// A member loses power.
    pub(crate) fn crash(&mut self, at: usize, mode: CrashMode) {
        self.down.insert(at);
        self.nodes[at].role = Role::Follower;
        let mut rng = self.rng.fork(at as u64);
        self.nodes[at].disk.crash(mode, &mut rng);
    }

    /// It is started again.
    pub(crate) fn restart(&mut self, at: usize) {
        self.down.remove(&at);
        self.lives += 1;
        let old = &self.nodes[at];
        let config = life_of(&self.config, at, self.lives);
        let mut disk = old.disk.clone();
        disk.set_faults(FaultPlan::default());
        let node = Node::open_as(old.id, self.lives, config, disk);
        let mut node = node.unwrap_or_else(|error| panic!("member {at}: {error}"));
        node.now = self.now;
        if node.found == Found::Empty {
            begin(&mut node, at, self.founders);
        }
        self.nodes[at] = node;
        self.seen[at] = [0; 4];
        self.check_machine(at);
        self.turn(at);
    }

    /// Cuts every wire between members on different sides.
    pub(crate) fn part(&mut self, side: &[usize]) {
        for a in 0..self.nodes.len() {
            for b in 0..self.nodes.len() {
                if side.contains(&a) != side.contains(&b) {
                    self.cut.insert((a, b));
                }
            }
        }
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    /// It loses its disk, too.
    pub(crate) fn lose_for_good(&mut self, at: usize) {
        self.crash(at, CrashMode::DropUnsynced);
        self.gone.insert(at);
    }

    /// Everything works again, and after a while all have the same.
    pub(crate) fn converge(&mut self) {
        self.calm();
        self.agree();
    }

    /// Everything that can work again does.
    pub(crate) fn calm(&mut self) {
        self.heal();
        self.held.clear();
        for node in &mut self.nodes {
            node.disk.set_faults(FaultPlan::default());
        }
        (self.lose, self.repeat, self.delay) = (0, 0, 0);
        for at in self
            .down
            .difference(&self.gone.clone())
            .copied()
            .collect::<Vec<_>>()
        {
            self.restart(at);
        }
    }

    /// Members that are or will be there.
    pub(crate) fn living(&self) -> impl Iterator<Item = (usize, &Node)> {
        let all = self.nodes.iter().enumerate();
        all.filter(|(at, _)| !self.gone.contains(at))
    }

    fn agree(&mut self) {
        let end = self.now + Duration::from_secs(10);
        loop {
            self.pass_ms(500);
            // What was under way when the faults ended may still have failed.
            for at in 0..self.nodes.len() {
                let notices = &mut self.nodes[at].notices;
                let before = notices.len();
                notices.retain(|notice| !matches!(notice, Notice::Failed(_)));
                if notices.len() < before {
                    self.crash(at, CrashMode::DropUnsynced);
                    self.restart(at);
                }
            }
            let first = self.living().next().unwrap().1.group.status();
            let same = self.living().all(|(_, node)| {
                let status = node.group.status();
                status.applied == first.last && status.term == first.term
            });
            if same && self.leader().is_some() {
                break;
            }
            let all = self.living().map(|(_, node)| node.group.status());
            assert!(
                self.now < end,
                "they never agree: {:#?}",
                all.collect::<Vec<_>>()
            );
        }
        let machines: Vec<&Machine> = self.living().map(|(_, node)| &node.machine).collect();
        assert!(machines.windows(2).all(|two| two[0] == two[1]));
        let indexes = machines[0].0.iter().map(|(index, _)| index);
        assert!(indexes.eq(self.history.keys()), "what was applied is gone");
    }
}

enum What {
    Disk,
    Time,
    Wire,
}
