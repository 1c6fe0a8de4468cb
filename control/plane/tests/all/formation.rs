//! A cluster begins, takes nodes in and lets them go; a node that lost its disk comes back as
//! another member.

use core::time::Duration;
use std::collections::BTreeSet;

use crate::cluster::Cluster;
use crate::support::{create_tenant, name};
use pinion_metadata::member::MemberRole;
use pinion_metadata::{BrokerNumber, Command, MemberNumber, Metadata};
use pinion_plane::{Answer, PlaneNotice, TransferError};
use pinion_raft_group::{Found, MemberId, Role};
use pinion_simkit::CrashMode;

const SOON: Duration = Duration::from_secs(20);

fn formed(seed: u64) -> Cluster {
    let mut cluster = Cluster::forming(seed, 3);
    cluster.until(SOON, |cluster| {
        cluster.agrees() && cluster.leader().is_some()
    });
    cluster
}

fn members(machine: &Metadata) -> Vec<(u64, u32, MemberRole)> {
    let members = machine.members();
    members
        .map(|(number, member)| (number.0, member.broker.0, member.role))
        .collect()
}

fn done(cluster: &mut Cluster, at: usize, command: Command) {
    let id = cluster.nodes[at].write(command);
    let answer = cluster.answer(at, id);
    assert!(matches!(answer, Answer::Written { .. }), "{answer:?}");
}

fn clusters(cluster: &Cluster) -> BTreeSet<[u8; 16]> {
    let machines = cluster
        .nodes
        .iter()
        .filter_map(|node| node.plane.metadata());
    machines.map(Metadata::cluster).collect()
}

#[test]
fn nodes_that_list_each_other_begin_one_cluster_when_all_are_there() {
    let mut cluster = Cluster::listing(1, 3);
    for at in 0..2 {
        cluster.add();
        cluster.turn(at);
    }
    cluster.pass(Duration::from_secs(5));
    let nobody = |cluster: &Cluster| cluster.nodes.iter().all(|n| n.plane.metadata().is_none());
    assert!(nobody(&cluster), "two of three begin nothing");
    assert_eq!(cluster.nodes[0].peers.len(), 2, "they look for the third");
    cluster.add();
    cluster.turn(2);
    cluster.until(SOON, |cluster| {
        cluster.agrees() && cluster.leader().is_some()
    });
    assert_eq!(clusters(&cluster).len(), 1);
    for (at, node) in cluster.nodes.iter().enumerate() {
        let number = u32::try_from(at).unwrap() + 1;
        assert_eq!(node.plane.broker(), Some(BrokerNumber(number)));
        let votes = MemberRole::Voter;
        let expected = [(1, 1, votes), (2, 2, votes), (3, 3, votes)];
        assert_eq!(members(node.metadata()), expected);
        node.metadata().check().unwrap();
    }
    let leader = cluster.leader().unwrap();
    let status = cluster.nodes[leader].plane.status();
    assert_eq!(status.leader, Some(name(leader)));
    let names: BTreeSet<_> = status.peers.iter().map(|peer| peer.name.clone()).collect();
    assert_eq!(names.len(), 2);
    assert!(!names.contains(&None) && !names.contains(&Some(name(leader))));
    done(&mut cluster, (leader + 1) % 3, create_tenant("a"));
}

#[test]
fn power_lost_at_any_moment_of_the_beginning_leaves_one_cluster() {
    for seed in 0..40 {
        let mut cluster = Cluster::forming(100 + seed, 3);
        cluster.trouble = 10;
        for _ in 0..4 {
            let steps = cluster.rng.index(60);
            for _ in 0..steps {
                cluster.step(cluster.now + SOON);
            }
            let at = cluster.rng.index(3);
            let mode = *cluster.rng.pick(&CrashMode::ALL);
            cluster.crash(at, mode);
            cluster.start(at);
        }
        cluster.trouble = 0;
        cluster.until(2 * SOON, |cluster| {
            cluster.agrees() && cluster.leader().is_some()
        });
        assert_eq!(clusters(&cluster).len(), 1, "seed {seed}");
        assert_eq!(members(cluster.nodes[0].metadata()).len(), 3);
    }
}

#[test]
fn nodes_that_list_others_do_not_begin_anything_and_people_hear_of_it() {
    let mut cluster = Cluster::listing(2, 2);
    cluster.add();
    cluster.turn(0);
    let config = cluster.config.as_mut().unwrap();
    config.initial[0].1 = "elsewhere:1".into();
    cluster.add();
    cluster.turn(1);
    cluster.pass(Duration::from_secs(5));
    for at in 0..2 {
        assert!(cluster.nodes[at].plane.metadata().is_none());
        let said = PlaneNotice::OtherList(name(1 - at));
        let notices = cluster.nodes[at].notices.iter();
        assert_eq!(notices.filter(|notice| **notice == said).count(), 1);
    }
}

#[test]
fn a_node_that_lost_its_disk_comes_back_as_another_member() {
    let mut cluster = formed(3);
    let leader = cluster.leader().unwrap();
    let lost = (leader + 1) % 3;
    let old = u64::try_from(lost).unwrap() + 1;
    for at in 0..30 {
        done(&mut cluster, leader, create_tenant(&format!("t{at}")));
    }
    let before = clusters(&cluster);
    cluster.wipe(lost);
    cluster.pass(Duration::from_secs(3));
    assert_eq!(cluster.nodes[lost].found, Found::Empty);
    assert!(
        cluster.nodes[lost].plane.metadata().is_none(),
        "as far as anybody knows, one of its name lives"
    );
    let in_use = PlaneNotice::NameInUse;
    assert!(cluster.nodes[lost].notices.contains(&in_use));
    let votes = MemberRole::Voter;
    let back = move |cluster: &Cluster| {
        let machine = cluster.nodes[leader].metadata();
        let mut expected = vec![(1, 1, votes), (2, 2, votes), (3, 3, votes)];
        expected.retain(|(number, ..)| *number != old);
        expected.push((4, u32::try_from(old).unwrap(), votes));
        cluster.agrees() && members(machine) == expected
    };
    // Its old life does not beat any more.
    cluster.until(2 * SOON, back);
    assert_eq!(clusters(&cluster), before, "no second cluster");
    let status = cluster.nodes[leader].plane.status();
    assert!(status.group.voters.contains(&MemberId(4)));
    assert!(!status.group.voters.contains(&MemberId(old)));
    assert_eq!(
        cluster.nodes[lost]
            .plane
            .broker()
            .map(|number| number.0.into()),
        Some(old),
        "its broker is the same"
    );
    // Its vote counts: with the other follower away, the two decide.
    cluster.down.insert((leader + 2) % 3);
    done(&mut cluster, lost, create_tenant("last"));
}

#[test]
fn a_log_that_is_deleted_alone_does_not_make_a_node_the_member_that_it_was() {
    let mut cluster = formed(4);
    let leader = cluster.leader().unwrap();
    let lost = (leader + 1) % 3;
    let store = cluster.nodes[lost].store;
    let seen = cluster.nodes[leader].metadata().version();
    cluster.wipe_log(lost);
    assert_eq!(cluster.nodes[lost].store, store);
    cluster.pass(Duration::from_secs(3));
    assert!(
        cluster.nodes[lost].plane.metadata().is_none(),
        "it begins nothing"
    );
    assert_eq!(cluster.nodes[leader].metadata().version(), seen);
}

#[test]
fn a_node_that_nobody_listed_joins_votes_and_goes() {
    let mut cluster = formed(5);
    let new = cluster.add();
    cluster.turn(new);
    let votes = MemberRole::Voter;
    let joined = move |cluster: &Cluster| {
        let machine = cluster.nodes[0].metadata();
        cluster.agrees() && members(machine).last() == Some(&(4, 4, votes))
    };
    cluster.until(SOON, joined);
    assert_eq!(cluster.nodes[new].plane.broker(), Some(BrokerNumber(4)));
    assert_eq!(cluster.nodes[new].plane.status().group.voters.len(), 4);
    let mut others: Vec<_> = cluster.nodes[new]
        .peers
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    others.sort_unstable();
    assert_eq!(others, ["n1", "n2", "n3"]);
    let at_one: Vec<_> = cluster.nodes[0]
        .peers
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert!(at_one.contains(&"n4"), "{at_one:?}");

    // Whoever leads gives the lead away before it goes.
    let leader = cluster.leader().unwrap();
    let gone = MemberNumber(u64::try_from(leader).unwrap() + 1);
    done(&mut cluster, leader, Command::RemoveMember(gone));
    let left = move |cluster: &Cluster| {
        let leads = cluster.leader().filter(|at| *at != leader);
        let status = leads.map(|at| cluster.nodes[at].plane.status());
        status.is_some_and(|status| {
            status.group.voters.len() == 3 && !status.group.voters.contains(&MemberId(gone.0))
        })
    };
    cluster.until(SOON, left);
    cluster.down.insert(leader);
    let asked = cluster.leader().unwrap();
    done(&mut cluster, asked, create_tenant("after"));
}

#[test]
fn an_observer_follows_and_never_votes() {
    let mut cluster = formed(6);
    cluster.config.as_mut().unwrap().observer = true;
    let new = cluster.add();
    cluster.turn(new);
    cluster.until(SOON, |cluster| cluster.agrees() && cluster.nodes.len() == 4);
    cluster.pass(Duration::from_secs(3));
    let status = cluster.nodes[new].plane.status();
    assert_eq!(status.group.learners, [MemberId(4)]);
    assert_eq!(status.group.voters.len(), 3);
    done(&mut cluster, new, create_tenant("through-it"));
    cluster.crash(new, CrashMode::DropUnsynced);
    cluster.start(new);
    cluster.until(SOON, Cluster::agrees);
}

#[test]
fn the_lead_is_given_to_whom_it_is_asked_for() {
    let mut cluster = formed(7);
    let leader = cluster.leader().unwrap();
    let other = (leader + 1) % 3;
    let refused = cluster.nodes[other].plane.transfer(&name(leader));
    assert_eq!(refused, Err(TransferError::NotLeader));
    let plane = &mut cluster.nodes[leader].plane;
    assert_eq!(plane.transfer(&name(4)), Err(TransferError::UnknownMember));
    assert_eq!(plane.transfer(&name(other)), Ok(()));
    cluster.turn(leader);
    cluster.until(SOON, |cluster| cluster.nodes[other].role == Role::Leader);
    cluster.until(SOON, |cluster| {
        cluster.nodes[leader].plane.status().leader == Some(name(other))
    });
}
