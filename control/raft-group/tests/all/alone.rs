//! A group of one: what it acknowledges, what a restart finds, what the log costs.

use core::time::Duration;

use crate::support::{CLUSTER, Node, ONE, config, disk};
use bytes::Bytes;
use pinion_commitlog::{DiskError, FileId};
use pinion_raft_group::limits::{COMMAND_BYTES_MAX, PROPOSALS_MAX};
use pinion_raft_group::{Found, GroupConfig, Notice, Output, ProposalId, ProposeError, Role};
use pinion_simkit::{Fault, FaultPlan};

fn small_snapshots() -> GroupConfig {
    GroupConfig {
        snapshot_every_entries: 20,
        tail_entries: 5,
        ..config()
    }
}

#[test]
fn what_is_proposed_is_applied_in_its_order_and_found_again() {
    let mut node = Node::alone(config(), disk(1));
    for turn in 0..10 {
        for at in 0..3 {
            node.propose(format!("{turn}.{at}").as_bytes()).unwrap();
        }
        node.turn();
        let done = node.done.len();
        assert!(done <= 3 * turn, "nothing is applied before it is durable");
        node.rest();
        assert_eq!(node.done.len(), 3 * (turn + 1));
    }
    assert_eq!(node.done, (1..=30).collect::<Vec<u64>>());
    let before = node.machine.clone();
    let mut node = node.again(config());
    let (id, cluster) = (ONE, CLUSTER);
    assert!(
        matches!(node.found, Found::Member { id: i, cluster: c, commit } if i == id && c == cluster && commit > 1),
        "{:?}",
        node.found
    );
    node.rest();
    assert_eq!(node.role, Role::Leader);
    assert_eq!(node.machine, before);
    assert!(node.disk.violations().is_empty());
}

#[test]
fn nobody_takes_no_proposals_and_neither_does_a_member_that_is_not_born() {
    let mut node = Node::open(config(), disk(2)).unwrap();
    let refused = Err(ProposeError::NotLeader { leader: None });
    assert_eq!(node.propose(b"x"), refused);
    node.group.bootstrap(ONE, CLUSTER, &[ONE], Bytes::new());
    node.turn();
    assert_eq!(node.propose(b"x"), refused);
    node.rest();
    assert_eq!(node.propose(b"x"), Ok(1));
}

#[test]
fn proposals_of_one_turn_share_one_write_and_a_decision_costs_none() {
    let mut node = Node::alone(config(), disk(3));
    let writes = node.disk.stats().writes;
    for _ in 0..50 {
        node.propose(&[9; 100]).unwrap();
    }
    node.rest();
    assert_eq!(node.disk.stats().writes, writes + 1);
    assert_eq!(node.done.len(), 50);
    assert_eq!(node.group.next_deadline(), None, "at rest nothing is due");
}

#[test]
fn what_comes_while_a_write_is_under_way_shares_the_next_one() {
    let mut node = Node::alone(config(), disk(4));
    let writes = node.disk.stats().writes;
    for _ in 0..20 {
        node.propose(b"x").unwrap();
        node.turn();
    }
    node.rest();
    assert_eq!(node.disk.stats().writes, writes + 2);
    assert_eq!(node.done.len(), 20);
}

#[test]
fn a_snapshot_shortens_the_log_and_a_start_goes_on_from_it() {
    let mut node = Node::alone(small_snapshots(), disk(5));
    for at in 0..100u8 {
        node.propose(&[at; 100]).unwrap();
        node.rest();
    }
    let status = node.group.status();
    assert!(node.snapshots.len() >= 4, "{:?}", node.snapshots);
    assert_eq!(Some(&status.snapshot), node.snapshots.last());
    assert_eq!(status.first, status.snapshot - 4, "five stay before it");
    let before = node.machine.clone();
    let mut node = node.again(small_snapshots());
    assert!(node.machine.0.len() >= 80, "the machine is not empty");
    node.rest();
    assert_eq!(node.machine, before);
    assert_eq!(node.group.status().first, status.first);
}

#[test]
fn segments_before_two_snapshots_are_removed() {
    let mut node = Node::alone(small_snapshots(), disk(6));
    let big = vec![5; 1 << 20];
    for _ in 0..12 {
        node.propose(&big).unwrap();
        node.rest();
    }
    let segments = |node: &Node| {
        let files = node.disk.files().map(|(file, _)| file);
        files
            .filter(|file| matches!(file, FileId::Segment { .. }))
            .count()
    };
    assert!(segments(&node) >= 6);
    for _ in 0..70 {
        node.propose(b"small").unwrap();
        node.rest();
    }
    // Their footers are written and their files removed.
    node.pass(Duration::from_secs(1));
    assert!(segments(&node) <= 3, "{}", segments(&node));
    let before = node.machine.clone();
    let mut node = node.again(small_snapshots());
    node.rest();
    assert_eq!(node.machine, before);
}

#[test]
fn a_damaged_snapshot_costs_nothing_while_the_one_before_it_is_there() {
    let mut node = Node::alone(small_snapshots(), disk(7));
    for at in 0..90u8 {
        node.propose(&[at; 10]).unwrap();
        node.rest();
    }
    let before = node.machine.clone();
    let checkpoints = node.disk.files().map(|(file, _)| file);
    let newest = checkpoints
        .filter(|file| matches!(file, FileId::Checkpoint { .. }))
        .max()
        .unwrap();
    node.disk.flip(newest, 4096 * 8 + 5);
    let mut node = node.again(small_snapshots());
    node.rest();
    assert_eq!(node.machine, before);
}

#[test]
fn a_snapshot_that_the_disk_refuses_is_asked_for_again() {
    let mut node = Node::alone(small_snapshots(), disk(8));
    node.hold_snapshots = true;
    for _ in 0..25 {
        node.propose(b"x").unwrap();
        node.rest();
    }
    let asked = node.snapshots.clone();
    assert_eq!(asked.len(), 1);
    // The creation of the checkpoint's file is the next request.
    let next = node.disk.stats().submitted + 1;
    node.disk.set_faults(FaultPlan {
        at: [(next, Fault::Fails(DiskError::Io { errno: 5 }))].into(),
        ..FaultPlan::default()
    });
    let machine = node.machine.encode().into();
    node.group.snapshot_ready(asked[0], machine);
    node.rest();
    assert_eq!(node.snapshots, asked);
    node.hold_snapshots = false;
    node.pass(Duration::from_secs(20));
    assert!(node.snapshots.len() > 1);
    assert_eq!(
        Some(&node.group.status().snapshot),
        node.snapshots.last(),
        "the second try is durable"
    );
}

#[test]
fn after_a_failed_write_nothing_is_acknowledged_and_nothing_taken() {
    let mut node = Node::alone(config(), disk(9));
    node.propose(b"first").unwrap();
    node.rest();
    let next = node.disk.stats().submitted + 1;
    let error = DiskError::Io { errno: 5 };
    node.disk.set_faults(FaultPlan {
        at: [(next, Fault::Fails(error))].into(),
        ..FaultPlan::default()
    });
    let lost = node.propose(b"second").unwrap();
    node.rest();
    assert_eq!(node.applied(), [b"first"]);
    assert_eq!(node.uncertain, [lost]);
    assert_eq!(node.notices, [Notice::Failed(error)]);
    assert_eq!(node.role, Role::Follower);
    assert_eq!(node.propose(b"third"), Err(ProposeError::Failed));
    assert_eq!(node.group.next_deadline(), None);
    // What the disk has of it decides.
    let mut node = node.again(config());
    node.rest();
    assert_eq!(node.applied()[0], b"first");
    assert!(node.propose(b"third").is_ok());
}

#[test]
fn a_full_disk_refuses_and_goes_on_when_there_is_room() {
    let mut node = Node::alone(config(), disk(10));
    node.disk.set_capacity(node.disk.used());
    let mut taken = 0;
    let refused = loop {
        match node.propose(&[3; 10_000]) {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
        node.rest();
        assert!(taken < 1000, "it is never full");
    };
    assert_eq!(refused, ProposeError::ReadOnly);
    assert_eq!(node.done.len(), taken, "what was taken is applied");
    assert_eq!(node.notices, [Notice::ReadOnly(true)]);
    // What makes room goes on for a good while.
    for _ in 0..20 {
        node.propose_essential(b"less").unwrap();
        node.rest();
    }
    assert_eq!(node.done.len(), taken + 20);
    node.disk.set_capacity(u64::MAX);
    node.pass(Duration::from_secs(3));
    assert_eq!(node.notices.last(), Some(&Notice::ReadOnly(false)));
    node.propose(b"again").unwrap();
    node.rest();
    assert_eq!(node.done.len(), taken + 21);
}

#[test]
fn limits_are_answered() {
    let mut node = Node::alone(config(), disk(11));
    let limit = COMMAND_BYTES_MAX;
    let large = vec![0; limit + 1];
    assert_eq!(node.propose(&large), Err(ProposeError::TooLarge { limit }));
    for _ in 0..PROPOSALS_MAX {
        node.propose(b"").unwrap();
    }
    let limit = PROPOSALS_MAX as u64;
    assert_eq!(node.propose(b""), Err(ProposeError::Busy { limit }));
    node.rest();
    for _ in 0..16 {
        node.propose(&large[1..]).unwrap();
    }
    assert!(matches!(node.propose(b"1"), Err(ProposeError::Busy { .. })));
    node.rest();
    assert_eq!(node.done.len(), PROPOSALS_MAX + 16);
    let before = node.machine.clone();
    let mut node = node.again(config());
    node.rest();
    assert_eq!(node.machine, before);
}

#[test]
fn a_clean_end_writes_down_what_was_decided() {
    let mut node = Node::alone(config(), disk(12));
    node.propose(b"x").unwrap();
    node.rest();
    let commit = node.group.status().commit;
    node.group.seal(node.now);
    node.rest();
    assert!(node.sealed);
    assert_eq!(node.propose(b"y"), Err(ProposeError::Failed));
    let node = node.again(config());
    assert!(matches!(node.found, Found::Member { commit: c, .. } if c == commit));
}

#[test]
fn a_snapshot_nobody_asked_for_is_ignored() {
    let mut node = Node::alone(config(), disk(13));
    node.group.snapshot_ready(2, Bytes::new());
    node.rest();
    assert_eq!(node.group.status().snapshot, 1);
    assert_eq!(node.group.poll_output(), None::<Output>);
    let id = ProposalId {
        member: ONE,
        number: 1,
    };
    assert!(node.group.propose(id, Bytes::new()).is_ok());
}
