//! A node loses power at every point of its work, life after life: what it answered is
//! there afterwards, at the same version, and those who follow see one history.

use std::collections::BTreeMap;

use crate::audit;
use crate::support::{
    CLUSTER, Disks, NAMES, Node, create_namespace, create_tenant, delete, describe_tenant, disk,
    founder, small_snapshots,
};
use pinion_commitlog::DiskError;
use pinion_metadata::{Change, Command, MetaVersion, ObjectKey};
use pinion_plane::{
    Answer, AuditResult, Consistency, PlaneError, Query, QueryValue, WatchError, WatchId,
};
use pinion_raft_group::{Found, Role};
use pinion_simkit::{CrashMode, Fault, FaultPlan, SimRng};

/// What must hold in every life to come.
#[derive(Clone, Default)]
pub(crate) struct Truth {
    /// Everything that any life showed, by version.
    pub(crate) history: BTreeMap<u64, Change>,
    /// Number, command and version of every write that was answered as done.
    pub(crate) done: Vec<(u128, Command, MetaVersion)>,
    /// Hash of the state after entries.
    hashes: BTreeMap<u64, u64>,
    /// Where the follower is.
    pub(crate) at: MetaVersion,
}

/// What is asked in one life and not answered yet.
#[derive(Clone, Default)]
pub(crate) struct Open {
    writes: BTreeMap<u64, (u128, Command)>,
    /// With the version that it must see at least.
    reads: BTreeMap<u64, (ObjectKey, MetaVersion)>,
    answers_seen: usize,
    changes_seen: usize,
    watch: Option<WatchId>,
}

fn tenant(rng: &mut SimRng) -> String {
    format!("t{}", rng.index(6))
}

fn command(rng: &mut SimRng, number: u128) -> Command {
    let name = tenant(rng);
    match rng.index(8) {
        0..2 => create_tenant(&name),
        2..4 => describe_tenant(&name, &format!("by {number}")),
        4..6 => create_namespace(&name, &format!("n{}", rng.index(4))),
        6 => delete(ObjectKey::tenant(&name), rng.below(3)),
        _ => Command::Undelete(ObjectKey::tenant(&name)),
    }
}

impl Truth {
    fn see(&mut self, change: &Change, context: &str) {
        let version = change.version.0;
        let known = self
            .history
            .entry(version)
            .or_insert_with(|| change.clone());
        assert_eq!(known, change, "{context}: version {version} is one change");
    }

    pub(crate) fn newest_done(&self) -> MetaVersion {
        let done = self.done.iter().map(|(_, _, version)| *version);
        done.max().unwrap_or_default()
    }

    /// The version of the object's last change up to `version`, while it is there.
    fn object(&self, key: &ObjectKey, version: MetaVersion) -> Option<MetaVersion> {
        let history = self.history.range(..=version.0).rev();
        let mut of_key = history.filter(|(_, change)| change.key == *key);
        let (_, last) = of_key.next()?;
        last.object.as_ref().map(|object| object.meta.version)
    }

    /// Takes in what changed at a node since the last time.
    pub(crate) fn look(&mut self, node: &Node, open: &mut Open, context: &str) {
        for change in &node.changes[open.changes_seen..] {
            self.see(change, context);
        }
        open.changes_seen = node.changes.len();
    }

    /// Takes in what a node said since the last time.
    pub(crate) fn listen(&mut self, node: &mut Node, open: &mut Open, context: &str) {
        self.look(node, open, context);
        for (index, hash) in &node.hashes {
            let known = *self.hashes.entry(*index).or_insert(*hash);
            assert_eq!(known, *hash, "{context}: the state of entry {index}");
        }
        for (id, answer) in node.answers[open.answers_seen..].iter() {
            match answer {
                Answer::Written { version, .. } => {
                    let (number, command) = open.writes.remove(id).unwrap();
                    self.done.push((number, command, *version));
                }
                Answer::Read {
                    version,
                    stale,
                    value: QueryValue::Object(object),
                } => {
                    let (key, least) = open.reads.remove(id).unwrap();
                    assert!(
                        *stale || *version >= least,
                        "{context}: {version} is read, and {least} was answered"
                    );
                    // Before version 1 there is no history, and one tenant.
                    let found = object.as_ref().map(|object| object.meta.version);
                    assert_eq!(found, self.object(&key, *version), "{context}: {key}");
                }
                Answer::Read { value, .. } => panic!("{value:?}"),
                Answer::Recorded | Answer::Audit(_) | Answer::AuditEverywhere(_) => {}
                Answer::Refused(_) => {
                    open.writes.remove(id);
                    open.reads.remove(id);
                }
            }
        }
        open.answers_seen = node.answers.len();
    }

    /// The follower goes on where it was, or from a snapshot if it must.
    pub(crate) fn follow(&mut self, node: &mut Node, open: &mut Open, limit: usize, context: &str) {
        let id = match open.watch {
            Some(id) => id,
            None => match node.plane.watch(Some(CLUSTER), self.at) {
                Ok(id) => id,
                Err(WatchError::NotReady) => return,
                Err(WatchError::Resnapshot(way)) => {
                    assert!(
                        way.oldest > self.at,
                        "{context}: {way}, asked for {}",
                        self.at
                    );
                    self.at = node.metadata().version();
                    node.plane.watch(Some(CLUSTER), self.at).unwrap()
                }
                Err(error) => panic!("{context}: {error}"),
            },
        };
        open.watch = Some(id);
        node.plane.watch_credit(id, 7);
        let taken = match node.plane.poll_watch(id, limit) {
            Ok(taken) => taken,
            Err(WatchError::Resnapshot(way)) => {
                assert!(way.oldest > self.at, "{context}: {way}, was at {}", self.at);
                open.watch = None;
                return;
            }
            Err(error) => panic!("{context}: {error}"),
        };
        node.watch_ready.remove(&id);
        for watched in taken {
            let version = watched.change.version;
            assert_eq!(
                version.0,
                self.at.0 + 1,
                "{context}: none left out or repeated"
            );
            self.see(&watched.change, context);
            self.at = version;
        }
    }
}

/// Opens what a crash left, lets it come to rest, and compares.
fn check(mut node: Node, truth: &mut Truth, context: &str) -> (Node, Open) {
    if node.found == Found::Empty {
        assert!(truth.history.is_empty(), "{context}: the node is forgotten");
        node.plane.bootstrap(CLUSTER, &[founder(NAMES[0])]);
    }
    let mut open = Open::default();
    node.rest();
    assert!(node.ready && node.role == Role::Leader, "{context}");
    truth.listen(&mut node, &mut open, context);
    let newest = node.metadata().version();
    assert!(
        newest >= truth.newest_done(),
        "{context}: answered and gone"
    );
    assert!(newest >= truth.at, "{context}: followed and gone");
    // Whoever repeats what was done is told the same.
    let first = truth.done.len().saturating_sub(20);
    let done: Vec<_> = truth.done[first..].to_vec();
    for (number, command, version) in done {
        let id = node.write_as(number, command);
        node.rest();
        match node.answer(id) {
            Some(Answer::Written {
                version: found,
                repeat: true,
                ..
            }) => assert_eq!(found, version, "{context}: request {number}"),
            answer => panic!("{context}: request {number}: {answer:?}"),
        }
    }
    open.answers_seen = node.answers.len();
    node.metadata().check().unwrap();
    assert_eq!(node.disk.violations(), [""; 0], "{context}");
    assert_eq!(node.audit_disk.violations(), [""; 0], "{context}");
    check_rows(&mut node, context);
    open.answers_seen = node.answers.len();
    (node, open)
}

/// Every entry has its rows, once, or a row that says that it has none.
pub(crate) fn check_rows(node: &mut Node, context: &str) {
    // While rows are read, a duty may come that was not due before.
    let machine = node.metadata();
    let (applied, version) = (machine.applied_index(), machine.version());
    let rows = audit::all_rows(node);
    let mut last = 0;
    for (at, (number, row)) in rows.iter().enumerate() {
        assert_eq!(*number, at as u64, "{context}: rows are dense");
        assert!(
            row.index > last,
            "{context}: {row:?} comes after entry {last}"
        );
        last = match row.result {
            AuditResult::Gap { to } => to,
            _ => row.index,
        };
    }
    assert_eq!(last, applied, "{context}");
    // Entries that are the group's own have none; every version has its entry's.
    let gap = rows
        .iter()
        .any(|(_, row)| matches!(row.result, AuditResult::Gap { .. }));
    let done = rows
        .iter()
        .filter(|(_, row)| row.result == AuditResult::Done);
    let newest = done.map(|(_, row)| row.version).max().unwrap_or_default();
    assert!(gap || newest == version, "{context}");
}

/// Some requests.
pub(crate) fn ask(node: &mut Node, truth: &Truth, open: &mut Open, rng: &mut SimRng) {
    for _ in 0..rng.index(3) {
        let number = u128::from(rng.next_u64()) + 1;
        let command = command(rng, number);
        let id = node.write_as(number, command.clone());
        open.writes.insert(id, (number, command));
    }
    if rng.one_in(3) {
        let key = ObjectKey::tenant(&tenant(rng));
        let consistency = *rng.pick(&[Consistency::Linearizable, Consistency::Stale]);
        let id = node.read(Query::Get(key.clone()), consistency);
        open.reads.insert(id, (key, truth.newest_done()));
    }
    if rng.one_in(10) {
        node.wall_set += i64::try_from(rng.below(4_000)).unwrap() - 2_000;
    }
}

/// Some requests, and one step of a disk.
fn live(node: &mut Node, truth: &mut Truth, open: &mut Open, rng: &mut SimRng, context: &str) {
    ask(node, truth, open, rng);
    node.step();
    node.turn();
    truth.listen(node, open, context);
    if rng.one_in(2) {
        truth.follow(node, open, rng.index(5), context);
    }
}

#[test]
fn a_crash_at_every_point_loses_nothing_that_was_answered() {
    let mut points = 0;
    for seed in 0..2 {
        let mut rng = SimRng::new(seed);
        let mut node = Node::open(small_snapshots(), disk(seed)).unwrap();
        node.plane.bootstrap(CLUSTER, &[founder(NAMES[0])]);
        let (mut truth, mut open) = (Truth::default(), Open::default());
        for step in 0..60 {
            let context = format!("seed {seed}, step {step}");
            live(&mut node, &mut truth, &mut open, &mut rng, &context);
            for mode in CrashMode::ALL {
                let context = format!("{context}, {mode:?}");
                let mut disks = node.disks();
                disks.crash(mode, &mut rng);
                let found = Node::open(small_snapshots(), disks);
                let found = found.unwrap_or_else(|error| panic!("{context}: {error}"));
                // What this life shows is not what the one that goes on will show.
                check(found, &mut truth.clone(), &context);
                points += 1;
            }
        }
        assert!(node.snapshots.len() > 2, "{:?}", node.snapshots);
        assert!(truth.done.len() > 15, "{}", truth.done.len());
    }
    println!("crash points: {points}");
}

#[test]
fn lives_follow_lives_on_a_disk_that_fails_and_show_one_history() {
    let (mut done, mut versions, mut unknown) = (0, 0, 0);
    for seed in 100..118 {
        let mut rng = SimRng::new(seed);
        let mut disks = Disks::from(disk(seed));
        let mut truth = Truth::default();
        for life in 0..8 {
            let context = format!("seed {seed}, life {life}");
            disks.group.set_faults(FaultPlan::default());
            disks.audit.set_faults(FaultPlan::default());
            let node = Node::open(small_snapshots(), disks);
            let node = node.unwrap_or_else(|error| panic!("{context}: {error}"));
            let (mut node, mut open) = check(node, &mut truth, &context);
            let error = *rng.pick(&[DiskError::Full, DiskError::Io { errno: 5 }]);
            for disk in [&mut node.disk, &mut node.audit_disk] {
                disk.set_faults(FaultPlan {
                    often: vec![(Fault::Fails(error), rng.between(20, 400))],
                    ..FaultPlan::default()
                });
            }
            for _ in 0..rng.between(5, 60) {
                live(&mut node, &mut truth, &mut open, &mut rng, &context);
            }
            let answers = node.answers.iter();
            unknown += answers
                .filter(|(_, answer)| matches!(answer, Answer::Refused(PlaneError::Unknown)))
                .count();
            let mode = *rng.pick(&CrashMode::ALL);
            disks = node.disks();
            disks.crash(mode, &mut rng);
        }
        done += truth.done.len();
        versions += truth.history.len();
        let dense = truth
            .history
            .keys()
            .copied()
            .eq(1..=truth.history.len() as u64);
        assert!(dense, "seed {seed}: {:?}", truth.history.keys());
    }
    assert!(
        done > 300 && versions > 300 && unknown > 10,
        "{done} {versions} {unknown}"
    );
}
