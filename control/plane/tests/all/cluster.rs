//! Nodes and the wires between them.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use crate::support::{CLUSTER, NAMES, Node, disk, facts, founder, name, small_snapshots};
use pinion_plane::{Answer, ClusterConfig, PeerName, PlaneConfig, PlaneMessage};
use pinion_raft_group::{FRAME_HEAD, PeerMessage, Role};
use pinion_simkit::{CrashMode, SimRng};
use pinion_types::Monotonic;

/// Nodes and wires. Nodes are counted from 0 here; their members' numbers are one more.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    pub(crate) now: Monotonic,
    pub(crate) rng: SimRng,
    /// Nodes that do not run.
    pub(crate) down: BTreeSet<usize>,
    /// Wires that lose everything.
    pub(crate) cut: BTreeSet<(usize, usize)>,
    /// Nodes without a connection to send commands on.
    pub(crate) unconnected: BTreeSet<usize>,
    /// One frame in so many is lost or comes twice; 0 for never.
    pub(crate) trouble: u64,
    wires: BTreeMap<(Monotonic, u64), (usize, usize, Vec<u8>)>,
    frames: u64,
    /// Messages about what is used.
    pub(crate) usages: usize,
    lives: u64,
    /// What nodes are told of the cluster.
    pub(crate) config: Option<ClusterConfig>,
    /// Numbers of the disks that nodes were given, and so of their directories.
    disks: u64,
}

fn at_of(peer: &PeerName) -> usize {
    (0..NAMES.len()).find(|at| name(*at) == *peer).unwrap()
}

/// No two lives have the same seed.
fn life(at: usize, life: u64, cluster: Option<&ClusterConfig>) -> PlaneConfig {
    let mut config = small_snapshots();
    config.node = facts(NAMES[at]);
    config.cluster = cluster.cloned();
    config.group.seed = life * 64 + at as u64;
    config
}

impl Cluster {
    /// Three nodes that know of each other.
    pub(crate) fn new(seed: u64) -> Self {
        let founders = [0, 1, 2].map(|at| founder(NAMES[at]));
        let mut cluster = Self::empty(seed);
        for at in 0..3 {
            let disk = disk(seed * 16 + at as u64);
            let mut node = Node::open(life(at, 0, None), disk).unwrap();
            node.plane.bootstrap(CLUSTER, &founders);
            cluster.nodes.push(node);
        }
        for at in 0..3 {
            cluster.turn(at);
        }
        cluster
    }

    /// Nodes that have still to find each other.
    pub(crate) fn forming(seed: u64, nodes: usize) -> Self {
        let mut cluster = Self::listing(seed, nodes);
        for at in 0..nodes {
            cluster.add();
            cluster.turn(at);
        }
        cluster
    }

    /// No nodes yet, and a list of these.
    pub(crate) fn listing(seed: u64, nodes: usize) -> Self {
        let initial = (0..nodes).map(|at| (name(at), format!("{}:7420", NAMES[at]).into()));
        let mut cluster = Self::empty(seed);
        cluster.config = Some(ClusterConfig {
            name: "test".into(),
            initial: initial.collect(),
            observer: false,
        });
        cluster
    }

    fn empty(seed: u64) -> Self {
        Self {
            nodes: Vec::new(),
            now: Monotonic::ZERO,
            rng: SimRng::new(seed),
            down: BTreeSet::new(),
            cut: BTreeSet::new(),
            unconnected: BTreeSet::new(),
            trouble: 0,
            wires: BTreeMap::new(),
            frames: 0,
            usages: 0,
            lives: 0,
            config: None,
            disks: seed * 64,
        }
    }

    /// A node with nothing on its disk.
    fn fresh(&mut self, at: usize) -> Node {
        self.disks += 1;
        self.lives += 1;
        let mut config = life(at, self.lives, self.config.as_ref());
        config.node.incarnation = self.lives;
        config.group.store[..8].copy_from_slice(&self.disks.to_le_bytes());
        let mut node = Node::open(config, disk(self.disks)).unwrap();
        node.now = self.now;
        node
    }

    /// Another node comes; it has done nothing yet.
    pub(crate) fn add(&mut self) -> usize {
        let at = self.nodes.len();
        let node = self.fresh(at);
        self.nodes.push(node);
        at
    }

    /// A node loses its disk, and is started on another one.
    pub(crate) fn wipe(&mut self, at: usize) {
        self.nodes[at] = self.fresh(at);
        self.turn(at);
    }

    /// A node loses its log, and nothing else of its directory.
    pub(crate) fn wipe_log(&mut self, at: usize) {
        self.lives += 1;
        let mut config = life(at, self.lives, self.config.as_ref());
        config.node.incarnation = self.lives;
        config.group.store = self.nodes[at].store;
        let mut node = Node::open(config, disk(1_000_000 + self.lives)).unwrap();
        node.now = self.now;
        self.nodes[at] = node;
        self.turn(at);
    }

    /// Until `holds`, which it must within `time`.
    #[track_caller]
    pub(crate) fn until(&mut self, time: Duration, holds: impl Fn(&Self) -> bool) {
        let end = self.now + time;
        while !holds(self) {
            assert!(self.step(end), "it does not come to it within {time:?}");
        }
    }

    /// Every node that runs has the same.
    pub(crate) fn agrees(&self) -> bool {
        let running = (0..self.nodes.len()).filter(|at| !self.down.contains(at));
        let mut hashes = running.map(|at| {
            let machine = self.nodes[at].plane.metadata()?;
            self.nodes[at].ready.then_some(machine.state_hash())
        });
        let first = hashes.next().flatten();
        first.is_some() && hashes.all(|hash| hash == first)
    }

    /// Who leads in the newest term, of those that run.
    pub(crate) fn leader(&self) -> Option<usize> {
        let leads = |at: &usize| self.nodes[*at].role == Role::Leader && !self.down.contains(at);
        let leaders = (0..self.nodes.len()).filter(leads);
        leaders.max_by_key(|at| self.nodes[*at].plane.status().group.term)
    }

    pub(crate) fn elect(&mut self) -> usize {
        let end = self.now + Duration::from_secs(20);
        while self.leader().is_none() {
            assert!(self.now < end, "nobody is elected");
            self.step(end);
        }
        self.leader().unwrap()
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
        self.now = end;
        for node in &mut self.nodes {
            node.now = node.now.max(end);
        }
    }

    /// Ends a node's turn; what it says goes on the wires.
    pub(crate) fn turn(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.now = node.now.max(self.now);
        node.turn();
        let sent: Vec<_> = node.sent.drain(..).collect();
        for (to, message) in sent {
            if matches!(message, PlaneMessage::Forward(_)) && self.unconnected.contains(&at) {
                self.nodes[at].plane.handle_unsent(&message);
                continue;
            }
            self.usages += usize::from(matches!(message, PlaneMessage::Usage(_)));
            let to = at_of(&to);
            let mut frame = Vec::new();
            message.encode(&mut frame);
            let times = match self.trouble {
                0 => 1,
                one_in if self.rng.one_in(one_in) => 0,
                // QUIC gives nothing twice; a Raft message may well be said twice.
                one_in if self.rng.one_in(one_in) => match message {
                    PlaneMessage::Raft(_) => 2,
                    _ => 1,
                },
                _ => 1,
            };
            for _ in 0..times {
                let delay = Duration::from_micros(self.rng.between(50, 2_000));
                self.frames += 1;
                let key = (self.now + delay, self.frames);
                self.wires.insert(key, (at, to, frame.clone()));
            }
        }
    }

    /// The next thing that happens until `end`; false when nothing does.
    pub(crate) fn step(&mut self, end: Monotonic) -> bool {
        let wire = self.wires.keys().next().map(|(due, _)| *due);
        let nodes = (0..self.nodes.len()).filter(|at| !self.down.contains(at));
        let due = nodes.filter_map(|at| Some((self.nodes[at].next_due()?, at)));
        let node = due.min();
        let due = wire.into_iter().chain(node.map(|(due, _)| due)).min();
        let Some(due) = due.filter(|due| *due <= end) else {
            return false;
        };
        self.now = self.now.max(due);
        if wire == Some(due) {
            let (_, (from, to, frame)) = self.wires.pop_first().unwrap();
            // What is for a node that is not there yet is lost, too.
            if to < self.nodes.len() && !self.down.contains(&to) && !self.cut.contains(&(from, to))
            {
                let head: &[u8; FRAME_HEAD] = frame.first_chunk().unwrap();
                assert_eq!(PeerMessage::frame_len(head).unwrap(), frame.len());
                let message = PlaneMessage::decode(&frame).unwrap();
                let node = &mut self.nodes[to];
                node.now = node.now.max(self.now);
                node.hear(&name(from), message);
                self.turn(to);
            }
        } else if let Some((_, at)) = node {
            let node = &mut self.nodes[at];
            node.now = node.now.max(self.now);
            node.tick();
            self.turn(at);
        }
        true
    }

    pub(crate) fn crash(&mut self, at: usize, mode: CrashMode) {
        let mut disks = self.nodes[at].disks();
        disks.crash(mode, &mut self.rng);
        self.lives += 1;
        self.down.insert(at);
        let mut config = life(at, self.lives, self.config.as_ref());
        config.group.store = self.nodes[at].store;
        let mut node = Node::open(config, disks).unwrap();
        node.now = self.now;
        self.nodes[at] = node;
    }

    pub(crate) fn start(&mut self, at: usize) {
        self.down.remove(&at);
        self.turn(at);
    }

    pub(crate) fn answer(&mut self, at: usize, id: u64) -> Answer {
        let end = self.now + Duration::from_secs(10);
        self.turn(at);
        while self.nodes[at].answer(id).is_none() {
            assert!(self.step(end), "it is never answered");
        }
        self.nodes[at].answer(id).unwrap()
    }

    pub(crate) fn agree(&self) {
        let hash = self.nodes[0].metadata().state_hash();
        for node in &self.nodes {
            assert_eq!(node.metadata().state_hash(), hash);
        }
    }
}
