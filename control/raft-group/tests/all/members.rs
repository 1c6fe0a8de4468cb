//! Members come, catch up, vote and go; a snapshot takes the place of entries.

use pinion_commitlog::FileId;
use pinion_raft_group::limits::{CHUNK_BYTES, CHUNK_WINDOW, ENTRIES_BYTES_MAX};
use pinion_raft_group::{
    ChangeError, Found, GroupConfig, MemberChange, Notice, OpenError, PeerMessage, ProposeError,
    Role,
};
use pinion_simkit::CrashMode;

use crate::support::cluster::{Cluster, member};
use crate::support::{Node, config, disk};

fn small_snapshots() -> GroupConfig {
    GroupConfig {
        snapshot_every_entries: 20,
        tail_entries: 5,
        ..config()
    }
}

fn three(seed: u64) -> Cluster {
    let mut cluster = Cluster::new(3, seed, small_snapshots());
    assert_eq!(cluster.elect(), 0);
    cluster.pass_ms(100);
    cluster
}

/// So many commands, decided.
fn write(cluster: &mut Cluster, count: usize, bytes: usize) {
    let leader = cluster.leader().unwrap();
    for at in 0..count {
        let mut data = vec![0x33; bytes];
        data.extend((at as u64).to_le_bytes());
        cluster.nodes[leader].propose(&data).unwrap();
        cluster.turn(leader);
        cluster.pass_ms(5);
    }
}

fn change(cluster: &mut Cluster, change: MemberChange) {
    let leader = cluster.leader().unwrap();
    let number = cluster.nodes[leader].change(change).unwrap();
    cluster.turn(leader);
    cluster.pass_ms(100);
    assert!(cluster.nodes[leader].done.contains(&number), "{change:?}");
}

#[test]
fn a_new_member_is_sent_the_machine_then_listens_then_votes() {
    let mut cluster = three(1);
    write(&mut cluster, 30, 50_000);
    let at = cluster.join();
    cluster.pass_ms(300);
    assert_eq!(
        cluster.nodes[at].leader, None,
        "nobody has told it of anything"
    );
    assert_eq!(cluster.nodes[at].group.next_deadline(), None);
    change(&mut cluster, MemberChange::AddLearner(member(at)));
    cluster.pass_ms(1000);
    assert_eq!(cluster.nodes[at].restored, 1);
    assert_eq!(cluster.nodes[at].machine, cluster.nodes[0].machine);
    let told = cluster.nodes[1].members.last().unwrap();
    assert_eq!((&told.1[..], &told.2[..]), (&[1, 2, 3][..], &[4][..]));
    // It counts for nothing while it only listens.
    cluster.crash(1, CrashMode::Clean);
    cluster.crash(2, CrashMode::Clean);
    cluster.pass_ms(2000);
    assert_eq!(cluster.leader(), None);
    assert_eq!(cluster.nodes[at].role, Role::Follower);
    cluster.converge();
    change(&mut cluster, MemberChange::Promote(member(at)));
    let told = cluster.nodes[at].members.last().unwrap();
    assert_eq!(told.1, [1, 2, 3, 4]);
    assert!(told.2.is_empty());
    // Of four, three are needed, and it is one of them.
    let leader = cluster.leader().unwrap();
    let other = (1..3).find(|one| *one != leader).unwrap();
    cluster.crash(other, CrashMode::Clean);
    write(&mut cluster, 3, 10);
    assert_eq!(cluster.nodes[at].machine.0.len(), 33);
    cluster.converge();
}

#[test]
fn a_member_that_is_removed_is_not_missed_and_does_not_disturb() {
    let mut cluster = three(2);
    write(&mut cluster, 3, 10);
    change(&mut cluster, MemberChange::Remove(member(2)));
    let term = cluster.nodes[0].group.status().term;
    cluster.pass_ms(5000);
    assert_eq!(cluster.nodes[0].group.status().term, term);
    let peers = cluster.nodes[0].group.status().peers;
    assert_eq!(peers.len(), 1);
    write(&mut cluster, 3, 10);
    assert_eq!(
        cluster.nodes[2].machine.0.len(),
        3,
        "it hears nothing any more"
    );
    // Two are left; without one of them nothing is decided, and alone the last one
    // decides again.
    change(&mut cluster, MemberChange::Remove(member(1)));
    cluster.crash(1, CrashMode::Clean);
    write(&mut cluster, 3, 10);
    assert_eq!(cluster.nodes[0].machine.0.len(), 9);
    cluster.pass_ms(1000);
    assert_eq!(cluster.nodes[0].group.next_deadline(), None);
}

#[test]
fn what_cannot_be_is_refused() {
    let mut cluster = three(3);
    let mut refused = |at: usize, change| cluster.nodes[at].change(change).unwrap_err();
    use MemberChange::{AddLearner, Promote, Remove};
    let leader = Some(member(0));
    assert_eq!(
        refused(1, AddLearner(member(3))),
        ChangeError::Propose(ProposeError::NotLeader { leader })
    );
    assert_eq!(refused(0, AddLearner(member(2))), ChangeError::Member);
    assert_eq!(refused(0, Promote(member(2))), ChangeError::UnknownMember);
    assert_eq!(refused(0, Promote(member(7))), ChangeError::UnknownMember);
    assert_eq!(refused(0, Remove(member(7))), ChangeError::UnknownMember);
    assert_eq!(refused(0, Remove(member(0))), ChangeError::Leads);
    cluster.nodes[0].change(AddLearner(member(8))).unwrap();
    let mut refused = |at: usize, change| cluster.nodes[at].change(change).unwrap_err();
    assert_eq!(refused(0, AddLearner(member(9))), ChangeError::UnderWay);
    cluster.turn(0);
    cluster.pass_ms(100);
    write(&mut cluster, 100, 10);
    let refused = cluster.nodes[0].change(Promote(member(8)));
    assert!(
        matches!(refused, Err(ChangeError::Lagging { .. })),
        "{refused:?}"
    );
}

#[test]
fn the_members_are_the_same_after_a_restart() {
    let mut cluster = three(4);
    let at = cluster.join();
    change(&mut cluster, MemberChange::AddLearner(member(at)));
    change(&mut cluster, MemberChange::Remove(member(2)));
    for snapshots in [false, true] {
        if snapshots {
            write(&mut cluster, 30, 10);
        }
        for one in [0, 1, at] {
            cluster.crash(one, CrashMode::DropUnsynced);
            cluster.restart(one);
        }
        cluster.elect();
        cluster.pass_ms(500);
        let leader = cluster.leader().unwrap();
        let peers = cluster.nodes[leader].group.status().peers;
        let peers: Vec<(u64, bool)> = peers.iter().map(|peer| (peer.id.0, peer.voter)).collect();
        let other = if leader == 0 { 2 } else { 1 };
        assert_eq!(peers, [(other, true), (4, false)]);
        for one in [0, 1, at] {
            let status = cluster.nodes[one].group.status();
            assert_eq!(status.voters, [member(0), member(1)]);
            assert_eq!(status.learners, [member(at)]);
        }
    }
}

#[test]
fn a_member_that_is_too_far_behind_gets_a_snapshot() {
    let mut cluster = three(5);
    cluster.crash(2, CrashMode::Clean);
    write(&mut cluster, 60, 100_000);
    assert!(cluster.nodes[0].group.status().first > 20);
    cluster.converge();
    assert_eq!(cluster.nodes[2].restored, 1);
    let notice = &cluster.nodes[2].notices[0];
    assert!(matches!(notice, Notice::Installing { .. }), "{notice:?}");
    // And again over what it has now, with what it proposed unknown.
    cluster.crash(2, CrashMode::Clean);
    write(&mut cluster, 30, 10);
    cluster.converge();
}

#[test]
fn a_snapshot_survives_wires_that_lose_and_repeat() {
    let mut cluster = three(6);
    cluster.crash(2, CrashMode::Clean);
    write(&mut cluster, 40, 200_000);
    (cluster.lose, cluster.repeat, cluster.delay) = (5, 5, 5);
    cluster.restart(2);
    cluster.pass_ms(20_000);
    assert!(cluster.nodes[2].restored >= 1);
    cluster.converge();
}

#[test]
fn at_most_a_window_of_chunks_is_under_way() {
    let mut cluster = three(7);
    cluster.crash(2, CrashMode::Clean);
    write(&mut cluster, 40, 200_000);
    cluster.restart(2);
    let mut most = 0;
    for _ in 0..1500 {
        let end = cluster.now + core::time::Duration::from_millis(100);
        cluster.step(end);
        most = most.max(cluster.chunks_under_way());
    }
    assert!(cluster.nodes[2].restored == 1);
    assert!((2..=CHUNK_WINDOW).contains(&most), "{most}");
}

#[test]
fn a_crash_at_any_point_of_an_installation_leaves_the_old_or_the_new() {
    let mut cluster = three(8);
    cluster.crash(2, CrashMode::Clean);
    write(&mut cluster, 40, 30_000);
    let old = cluster.nodes[2].machine.clone();
    let new = cluster.nodes[0].machine.clone();
    cluster.restart(2);
    let (mut olds, mut news) = (0, 0);
    for _ in 0..600 {
        let end = cluster.now + core::time::Duration::from_millis(100);
        cluster.step(end);
        for mode in CrashMode::ALL {
            let mut disk = cluster.nodes[2].disk.clone();
            disk.crash(mode, &mut cluster.rng);
            let node = Node::open_as(member(2), 0, small_snapshots(), disk);
            let node = node.unwrap_or_else(|error| panic!("{error}"));
            assert!(matches!(node.found, Found::Member { .. }));
            let has = node.machine.0.len();
            if has <= old.0.len() {
                olds += 1;
            } else {
                assert_eq!(node.machine.0, new.0[..has]);
                news += 1;
            }
        }
    }
    assert!(olds > 10 && news > 10, "{olds} and {news}");
}

#[test]
fn a_snapshot_of_another_cluster_is_not_taken() {
    let mut cluster = three(9);
    cluster.crash(2, CrashMode::Clean);
    write(&mut cluster, 40, 10);
    // The same number and another cluster.
    let mut node = Node::open_as(member(2), 5, small_snapshots(), disk(77)).unwrap();
    node.group.join(member(2), *b"another cluster!");
    node.rest();
    cluster.nodes[2] = node;
    cluster.down.remove(&2);
    cluster.pass_ms(3000);
    assert_eq!(cluster.nodes[2].restored, 0);
    assert_eq!(cluster.nodes[2].machine.0.len(), 0);
    assert_eq!(cluster.leader(), Some(0));
}

#[test]
fn chunks_carry_a_bounded_part_each() {
    let mut cluster = three(10);
    cluster.crash(2, CrashMode::Clean);
    write(&mut cluster, 30, 100_000);
    cluster.restart(2);
    let mut longest = 0;
    for _ in 0..1500 {
        let end = cluster.now + core::time::Duration::from_millis(100);
        cluster.step(end);
        for frame in cluster.frames_under_way() {
            if let Ok(PeerMessage::Chunk(chunk)) = PeerMessage::decode(frame) {
                longest = longest.max(chunk.bytes.len());
            }
        }
    }
    assert_eq!(longest, CHUNK_BYTES);
}

#[test]
fn a_member_that_lost_its_disk_comes_back_under_a_new_number() {
    let mut cluster = three(11);
    write(&mut cluster, 40, 1000);
    cluster.lose_for_good(2);
    let new = cluster.join();
    for what in [
        MemberChange::AddLearner(member(new)),
        MemberChange::Promote(member(new)),
        MemberChange::Remove(member(2)),
    ] {
        change(&mut cluster, what);
        cluster.pass_ms(1000);
    }
    // Without one of the old ones it decides with the other.
    cluster.crash(0, CrashMode::DropUnsynced);
    cluster.elect();
    write(&mut cluster, 5, 10);
    assert_eq!(cluster.nodes[new].machine.0.len(), 45);
    cluster.converge();
}

#[test]
fn entries_that_a_snapshot_took_the_place_of_never_come_back() {
    // The first member leads and is cut off with entries that are never decided.
    let mut cluster = three(12);
    write(&mut cluster, 5, 10);
    cluster.part(&[0]);
    for _ in 0..80 {
        cluster.nodes[0].propose(b"lost").unwrap();
    }
    cluster.turn(0);
    cluster.pass_ms(2000);
    write(&mut cluster, 60, 10);
    cluster.heal();
    cluster.pass_ms(3000);
    assert_eq!(cluster.nodes[0].restored, 1);
    // What it has written since continues the snapshot, and not the entries before.
    write(&mut cluster, 3, 10);
    cluster.crash(0, CrashMode::DropUnsynced);
    let mut disk = cluster.nodes[0].disk.clone();
    let checkpoints = disk.files().map(|(file, _)| file);
    let newest = checkpoints
        .filter(|file| matches!(file, FileId::Checkpoint { .. }))
        .max()
        .unwrap();
    disk.flip(newest, 4096 * 8 + 5);
    let error = Node::open_as(member(0), 9, small_snapshots(), disk).err();
    assert!(
        matches!(error, Some(OpenError::AnotherHistory { .. })),
        "{error:?}"
    );
    cluster.converge();
}

#[test]
fn the_only_voter_says_nothing_in_a_term_that_a_crash_may_take_back() {
    let mut cluster = Cluster::new(1, 20, small_snapshots());
    cluster.elect();
    let at = cluster.join();
    change(&mut cluster, MemberChange::AddLearner(member(at)));
    write(&mut cluster, 3, 10);
    let term = cluster.nodes[at].group.status().term;
    // Started again it leads at once, by its own vote, and its disk stands still.
    cluster.crash(0, CrashMode::Clean);
    cluster.held.insert(0);
    cluster.restart(0);
    assert_eq!(cluster.nodes[0].role, Role::Leader);
    cluster.pass_ms(1000);
    cluster.nodes[0].propose(b"forgotten").unwrap();
    cluster.turn(0);
    cluster.pass_ms(1000);
    assert_eq!(cluster.nodes[at].group.status().term, term);
    // What its disk has not, it never said: the same term begins anew.
    cluster.crash(0, CrashMode::DropUnsynced);
    cluster.held.clear();
    cluster.restart(0);
    cluster.nodes[0].propose(b"another").unwrap();
    cluster.turn(0);
    cluster.converge();
    assert_eq!(cluster.nodes[at].machine, cluster.nodes[0].machine);
    let last = cluster.nodes[at].machine.0.last().unwrap();
    assert_eq!(last.1, b"another");
}

#[test]
fn one_that_leads_when_it_hears_that_it_was_removed_leads_no_more() {
    let mut cluster = Cluster::new(5, 21, small_snapshots());
    cluster.elect();
    cluster.pass_ms(500);
    cluster.nodes[0].group.transfer(member(1)).unwrap();
    cluster.turn(0);
    cluster.pass_ms(500);
    assert_eq!(cluster.leader(), Some(1));
    let removal = cluster.nodes[1].group.status().last + 1;
    cluster.nodes[1]
        .change(MemberChange::Remove(member(0)))
        .unwrap();
    cluster.turn(1);
    // All have it, and nobody knows that it is decided.
    let has = |cluster: &Cluster, at: usize| cluster.nodes[at].group.status().last == removal;
    while ![0, 2, 3, 4].iter().all(|at| has(&cluster, *at)) {
        let end = cluster.now + core::time::Duration::from_millis(100);
        assert!(cluster.step(end));
    }
    cluster.crash(1, CrashMode::Clean);
    assert_eq!(cluster.elect(), 0);
    // The others have its first entry sooner than its own disk, which decides them both.
    cluster.held.insert(0);
    let waiting = cluster.nodes[0].propose(b"whose?").unwrap();
    cluster.turn(0);
    cluster.pass_ms(50);
    let told = cluster.nodes[0].members.last().unwrap();
    assert_eq!(told.1, [2, 3, 4, 5]);
    assert_eq!(cluster.nodes[0].role, Role::Follower);
    assert!(cluster.nodes[0].uncertain.contains(&waiting));
    cluster.held.clear();
    cluster.pass_ms(5000);
    assert!(cluster.leader().is_some_and(|leader| leader != 0));
    cluster.lose_for_good(0);
    write(&mut cluster, 3, 10);
    cluster.converge();
}

#[test]
fn a_disk_that_stands_still_holds_a_bounded_part_of_what_the_others_decide() {
    let config = GroupConfig {
        snapshot_every_bytes: 32 << 20,
        ..config()
    };
    let mut cluster = Cluster::new(3, 22, config);
    cluster.elect();
    // It answers once, so that it is sent entries without being asked for each.
    write(&mut cluster, 1, 10);
    cluster.pass_ms(500);
    cluster.held.insert(2);
    let mut most = 0;
    for at in 0..150_u64 {
        let mut data = vec![0x44; 500_000];
        data.extend(at.to_le_bytes());
        cluster.nodes[0].propose(&data).unwrap();
        cluster.turn(0);
        cluster.pass_ms(400);
        most = most.max(cluster.nodes[2].group.status().entries_bytes);
    }
    let decided = cluster.nodes[0].machine.0.len() as u64 * 500_000;
    assert!(decided > ENTRIES_BYTES_MAX + (4 << 20), "{decided}");
    assert!(
        (ENTRIES_BYTES_MAX..ENTRIES_BYTES_MAX + (2 << 20)).contains(&most),
        "{most}"
    );
    cluster.converge();
}
