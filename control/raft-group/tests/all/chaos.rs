//! Members crash, lose their disks and are replaced, disks tear, fail and stand still, wires lose, repeat and delay, sides
//! do not hear each other. Meanwhile no term has two leaders, no index is applied with
//! two contents, and no read misses what was applied before it was asked. Afterwards all
//! have the same, with everything acknowledged in it, and every proposal has come to an
//! end.

use std::collections::{BTreeMap, VecDeque};

use core::time::Duration;
use pinion_raft_group::{GroupConfig, MemberChange, Notice};
use pinion_simkit::CrashMode;

use crate::support::cluster::{Cluster, member};
use crate::support::config;

/// What happened in some stories, to see that something did.
#[derive(Debug, Default)]
struct Counts {
    acknowledged: usize,
    dropped: usize,
    reads: usize,
    crashes: usize,
    failures: usize,
    leaders: usize,
    handed_over: usize,
    installed: usize,
    changed: usize,
    /// Members that were removed while they ran.
    dismissed: usize,
}

#[test]
fn nothing_acknowledged_is_lost_and_all_agree() {
    let mut counts = Counts::default();
    for seed in 0..SEEDS {
        let voters = if seed % 3 == 0 { 5 } else { 3 };
        // In half of them a member that was away is sent the entries, in the others most
        // of the time a snapshot.
        let (snapshot_every_entries, tail_entries) =
            if seed % 2 == 0 { (30, 1000) } else { (15, 3) };
        let config = GroupConfig {
            snapshot_every_entries,
            tail_entries,
            ..config()
        };
        Story::new(voters, seed, config.clone()).play(&mut counts);
        if seed % 2 == 0 {
            Story::alone(seed, config).play(&mut counts);
        }
    }
    println!("{counts:?}");
    assert!(
        counts.acknowledged > 500 && counts.reads > 500,
        "{counts:?}"
    );
    assert!(counts.crashes > 100 && counts.failures > 20, "{counts:?}");
    assert!(counts.leaders > 100 && counts.dropped > 3, "{counts:?}");
    assert!(
        counts.handed_over > 0 && counts.installed > 20,
        "{counts:?}"
    );
    assert!(counts.changed > 30 && counts.dismissed > 5, "{counts:?}");
}

/// More find more; so many take some seconds of a debug build.
const SEEDS: u64 = 40;
const ROUNDS: usize = 120;
const MEMBERS_MAX: usize = 8;

/// A proposal: its member, and its number, which is another in every life.
type Name = (usize, u64);

struct Story {
    seed: u64,
    cluster: Cluster,
    proposed: BTreeMap<Name, Vec<u8>>,
    acknowledged: BTreeMap<Name, Vec<u8>>,
    /// Of all lives.
    dropped: Vec<Name>,
    /// What is still to become of the members, in order.
    goals: VecDeque<MemberChange>,
    /// One votes and another only listens: nobody could take that one's place.
    alone: bool,
}

impl Story {
    fn new(voters: usize, seed: u64, config: GroupConfig) -> Self {
        Self {
            seed,
            cluster: Cluster::new(voters, seed, config),
            proposed: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            dropped: Vec::new(),
            goals: VecDeque::new(),
            alone: false,
        }
    }

    fn alone(seed: u64, config: GroupConfig) -> Self {
        let mut story = Self::new(1, seed, config);
        let listener = member(story.cluster.join());
        story.goals.push_back(MemberChange::AddLearner(listener));
        story.alone = true;
        story
    }

    fn play(mut self, counts: &mut Counts) {
        for _ in 0..ROUNDS {
            self.ask();
            let time = Duration::from_millis(self.cluster.rng.between(1, 250));
            self.cluster.pass(time);
            self.note(counts);
            self.disturb(counts);
            self.pursue(counts);
        }
        self.cluster.calm();
        let end = self.cluster.now + Duration::from_secs(60);
        while !self.goals.is_empty() {
            let now = self.cluster.now;
            assert!(
                now < end,
                "seed {}: {:?} is never reached",
                self.seed,
                self.goals
            );
            self.cluster.pass_ms(200);
            self.note(counts);
            self.cluster.calm();
            self.pursue(counts);
        }
        self.cluster.converge();
        // What is proposed now takes the places of whatever came to nothing.
        let leader = self.cluster.leader().unwrap();
        for last in 0..100u8 {
            let number = self.cluster.nodes[leader].propose(&[last]).unwrap();
            self.proposed.insert((leader, number), vec![last]);
        }
        self.cluster.turn(leader);
        self.cluster.converge();
        self.note(counts);
        self.check();
        counts.acknowledged += self.acknowledged.len();
        counts.dropped += self.dropped.len();
        counts.reads += self.cluster.answered;
        counts.leaders += self.cluster.leaders.len();
    }

    /// Members are asked for something, whether they lead or not.
    fn ask(&mut self) {
        let cluster = &mut self.cluster;
        for at in 0..cluster.nodes.len() {
            if cluster.down.contains(&at) {
                continue;
            }
            for _ in 0..cluster.rng.index(3) {
                let data = [&self.proposed.len().to_le_bytes()[..], &[7; 40]].concat();
                if let Ok(number) = cluster.nodes[at].propose(&data) {
                    self.proposed.insert((at, number), data);
                    cluster.turn(at);
                }
            }
            if cluster.rng.one_in(3) {
                cluster.read(at);
            }
        }
    }

    fn disturb(&mut self, counts: &mut Counts) {
        let cluster = &mut self.cluster;
        let voters = cluster.nodes.len();
        let at = cluster.rng.index(voters);
        match cluster.rng.index(17) {
            0 | 1 => self.crash(at, counts),
            2..=4 => {
                let gone = cluster.gone.clone();
                if let Some(at) = cluster.down.difference(&gone).next().copied() {
                    cluster.restart(at);
                }
            }
            5 => {
                let other = cluster.rng.index(voters);
                cluster.part(&[at, other]);
            }
            6 => {
                cluster.cut.insert((at, (at + 1) % voters));
            }
            7..=9 => cluster.heal(),
            10 | 11 => {
                cluster.held.insert(at);
            }
            12 => cluster.held.clear(),
            13 => {
                let mut often = || cluster.rng.below(20);
                (cluster.lose, cluster.repeat, cluster.delay) = (often(), often(), often());
            }
            14 => cluster.fail_disk(at),
            // One at a time: it takes a majority to get over it.
            15 if self.goals.is_empty() && voters < MEMBERS_MAX && !self.alone => {
                if !cluster.gone.contains(&at) {
                    // Others are only to go, and may lead by then.
                    if cluster.rng.one_in(2) {
                        cluster.lose_for_good(at);
                    }
                    let new = member(cluster.join());
                    let old = member(at);
                    self.goals.extend([
                        MemberChange::AddLearner(new),
                        MemberChange::Promote(new),
                        MemberChange::Remove(old),
                    ]);
                }
            }
            _ => {
                if let Some(leader) = cluster.leader() {
                    let _ = cluster.nodes[leader].group.transfer(member(at));
                    cluster.turn(leader);
                }
            }
        }
    }

    /// Has whoever leads do what is to become of the members.
    fn pursue(&mut self, counts: &mut Counts) {
        let cluster = &mut self.cluster;
        let (Some(goal), Some(leader)) = (self.goals.front(), cluster.leader()) else {
            return;
        };
        let peers = cluster.nodes[leader].group.status().peers;
        let known = peers.iter().find(|peer| peer.id == goal.member());
        let reached = match goal {
            MemberChange::AddLearner(_) => known.is_some(),
            MemberChange::Promote(_) => known.is_some_and(|peer| peer.voter),
            // No leader is among its own peers.
            MemberChange::Remove(old) => known.is_none() && *old != member(leader),
        };
        if reached {
            if let MemberChange::Remove(old) = goal {
                let at = usize::try_from(old.0 - 1).unwrap();
                if !cluster.gone.contains(&at) {
                    cluster.lose_for_good(at);
                    counts.dismissed += 1;
                }
            }
            self.goals.pop_front();
            counts.changed += 1;
        } else if *goal == MemberChange::Remove(member(leader)) {
            if let Some(heir) = peers.iter().find(|peer| peer.voter && peer.active) {
                let _ = cluster.nodes[leader].group.transfer(heir.id);
                cluster.turn(leader);
            }
        } else {
            // Under way, or too early.
            let _ = cluster.nodes[leader].change(*goal);
            cluster.turn(leader);
        }
    }

    fn crash(&mut self, at: usize, counts: &mut Counts) {
        let cluster = &mut self.cluster;
        if !cluster.down.contains(&at) {
            let mode = *cluster.rng.pick(&CrashMode::ALL);
            cluster.crash(at, mode);
            counts.crashes += 1;
        }
    }

    /// Remembers what the members said.
    fn note(&mut self, counts: &mut Counts) {
        let mut failed = Vec::new();
        for (at, node) in self.cluster.nodes.iter_mut().enumerate() {
            for number in node.done.drain(..) {
                if let Some(data) = self.proposed.get(&(at, number)) {
                    self.acknowledged.insert((at, number), data.clone());
                }
            }
            let dropped = node.dropped.drain(..).map(|number| (at, number));
            let proposed = dropped.filter(|name| self.proposed.contains_key(name));
            self.dropped.extend(proposed);
            for notice in node.notices.drain(..) {
                match notice {
                    Notice::Failed(_) => failed.push(at),
                    Notice::HandOver { .. } => counts.handed_over += 1,
                    // The failure befell what only makes room.
                    Notice::ReadOnly(_) => {}
                    Notice::Installing { .. } => counts.installed += 1,
                    notice => panic!("seed {}: member {at}: {notice:?}", self.seed),
                }
            }
        }
        // Only a restart helps.
        for at in failed {
            counts.failures += 1;
            self.crash(at, counts);
        }
    }

    fn check(&self) {
        let seed = self.seed;
        let (_, first) = self.cluster.living().next().unwrap();
        let mut applied: Vec<&Vec<u8>> = first.machine.0.iter().map(|(_, d)| d).collect();
        applied.sort_unstable();
        let once = applied.windows(2).all(|two| two[0] != two[1]);
        assert!(once, "seed {seed}: a proposal was applied twice");
        for ((at, number), data) in &self.acknowledged {
            let found = applied.binary_search(&data);
            assert!(found.is_ok(), "seed {seed}: {number} of {at} is gone");
        }
        for name in &self.dropped {
            let found = applied.binary_search(&&self.proposed[name]);
            assert!(found.is_err(), "seed {seed}: {name:?} came back");
        }
        let mut proposed = self.proposed.values().collect::<Vec<_>>();
        proposed.sort_unstable();
        for data in applied {
            let found = proposed.binary_search(&data);
            assert!(found.is_ok(), "seed {seed}: out of nowhere");
        }
        for (at, node) in self.cluster.living() {
            assert_eq!(node.group.status().proposals, 0, "seed {seed}: member {at}");
        }
    }
}
