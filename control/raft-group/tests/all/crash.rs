//! A member alone loses power at every point of its work: what it acknowledged is
//! there afterwards, in its order, and nothing that was never proposed.

use crate::support::{CLUSTER, Node, ONE, config, disk};
use bytes::Bytes;
use pinion_commitlog::DiskError;
use pinion_raft_group::{Found, GroupConfig, Role};
use pinion_simkit::{CrashMode, Fault, FaultPlan, SimRng};

fn small_snapshots() -> GroupConfig {
    GroupConfig {
        snapshot_every_entries: 12,
        tail_entries: 4,
        ..config()
    }
}

/// A command that no other one equals, of some length.
fn command(number: usize, rng: &mut SimRng) -> Vec<u8> {
    let mut data = vec![0x5a; rng.index(if number.is_multiple_of(7) { 20_000 } else { 60 })];
    data.extend((number as u64).to_le_bytes());
    data
}

/// Opens what a crash left and says what it must hold: the acknowledged, then some
/// of what was proposed after it.
fn check(mut found: Node, acked: &[(u64, Vec<u8>)], proposed: &[Vec<u8>], context: &str) -> Node {
    if found.found == Found::Empty {
        assert!(acked.is_empty(), "{context}: the member is forgotten");
        found.group.bootstrap(ONE, CLUSTER, &[ONE], Bytes::new());
    }
    found.rest();
    assert_eq!(found.role, Role::Leader, "{context}");
    let has = &found.machine.0;
    assert!(has.len() >= acked.len(), "{context}: acknowledged and gone");
    assert_eq!(&has[..acked.len()], acked, "{context}");
    assert!(has.len() <= proposed.len(), "{context}: out of nowhere");
    for ((_, has), proposed) in has.iter().zip(proposed) {
        assert_eq!(has, proposed, "{context}");
    }
    assert_eq!(found.disk.violations(), [""; 0], "{context}");
    found
}

#[test]
fn a_crash_at_every_point_keeps_what_was_acknowledged() {
    let mut points = 0;
    for seed in 0..4 {
        let mut rng = SimRng::new(seed);
        let mut node = Node::open(small_snapshots(), disk(seed)).unwrap();
        node.group.bootstrap(ONE, CLUSTER, &[ONE], Bytes::new());
        let mut proposed = Vec::new();
        for step in 0..90 {
            if node.role == Role::Leader {
                for _ in 0..rng.index(3) {
                    let data = command(proposed.len(), &mut rng);
                    node.propose(&data).unwrap();
                    proposed.push(data);
                }
            }
            node.step();
            node.turn();
            for mode in CrashMode::ALL {
                let mut disk = node.disk.clone();
                disk.crash(mode, &mut rng);
                let context = format!("seed {seed}, step {step}, {mode:?}");
                let found = Node::open(small_snapshots(), disk);
                let found = found.unwrap_or_else(|error| panic!("{context}: {error}"));
                check(found, &node.machine.0, &proposed, &context);
                points += 1;
            }
        }
        assert!(node.snapshots.len() > 2, "{:?}", node.snapshots);
        assert!(proposed.len() > 40);
    }
    println!("crash points: {points}");
}

#[test]
fn a_life_follows_a_life_on_a_disk_that_fails() {
    for seed in 100..130 {
        let mut rng = SimRng::new(seed);
        let mut disk = disk(seed);
        let mut acked = Vec::new();
        let mut proposed: Vec<Vec<u8>> = Vec::new();
        for life in 0..8 {
            let context = format!("seed {seed}, life {life}");
            disk.set_faults(FaultPlan::default());
            let node = Node::open(small_snapshots(), disk);
            let node = node.unwrap_or_else(|error| panic!("{context}: {error}"));
            let mut node = check(node, &acked, &proposed, &context);
            // What was not acknowledged and is gone will not come back.
            proposed.truncate(node.machine.0.len());
            let error = if rng.one_in(2) {
                DiskError::Full
            } else {
                DiskError::Io { errno: 5 }
            };
            node.disk.set_faults(FaultPlan {
                often: vec![(Fault::Fails(error), rng.between(20, 200))],
                ..FaultPlan::default()
            });
            for _ in 0..rng.between(5, 80) {
                let data = command(proposed.len(), &mut rng);
                if node.propose(&data).is_ok() {
                    proposed.push(data);
                }
                node.step();
                node.turn();
            }
            acked.clone_from(&node.machine.0);
            let mode = CrashMode::ALL[rng.index(CrashMode::ALL.len())];
            node.crash(mode, &mut rng);
            disk = node.disk;
        }
    }
}
