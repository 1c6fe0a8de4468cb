//! Commands that were sent to a leader which is lost.

use core::time::Duration;

use crate::cluster::Cluster;
use crate::support::{PATIENCE, create_tenant, name};
use pinion_plane::limits::UNCERTAIN_WAIT;
use pinion_plane::{Answer, PlaneError};
use pinion_simkit::CrashMode;

/// A cluster, who leads it, and one that does not.
fn led(seed: u64) -> (Cluster, usize, usize) {
    let mut cluster = Cluster::new(seed);
    let leader = cluster.elect();
    cluster.until(Duration::from_secs(20), |cluster| {
        cluster.nodes.iter().all(|node| node.ready)
    });
    (cluster, leader, (leader + 1) % 3)
}

/// A command that left for the leader and never comes there.
fn lost_on_the_way(cluster: &mut Cluster, leader: usize, asked: usize) -> u64 {
    cluster.cut.insert((asked, leader));
    let id = cluster.nodes[asked].write(create_tenant("lost"));
    cluster.turn(asked);
    assert!(cluster.nodes[asked].answer(id).is_none());
    id
}

#[test]
fn a_command_whose_leader_cannot_be_reached_is_unknown_soon() {
    let (mut cluster, leader, asked) = led(1);
    let id = lost_on_the_way(&mut cluster, leader, asked);
    cluster.nodes[asked].plane.handle_unreachable(&name(leader));
    cluster.pass(UNCERTAIN_WAIT - Duration::from_millis(10));
    let early = cluster.nodes[asked].answer(id);
    assert!(early.is_none(), "it may come yet");
    cluster.pass(Duration::from_millis(20));
    assert_eq!(cluster.nodes[asked].refused(id), PlaneError::Unknown);
}

#[test]
fn a_command_is_unknown_soon_after_another_leads() {
    let (mut cluster, leader, asked) = led(2);
    let id = lost_on_the_way(&mut cluster, leader, asked);
    let began = cluster.now;
    cluster.crash(leader, CrashMode::DropUnsynced);
    cluster.answer(asked, id);
    assert_eq!(cluster.nodes[asked].refused(id), PlaneError::Unknown);
    let took = cluster.now.since(began);
    assert!(took < PATIENCE - UNCERTAIN_WAIT, "{took:?}");
}

#[test]
fn what_the_lost_leader_had_decided_is_told_as_done() {
    let (mut cluster, leader, asked) = led(3);
    let id = cluster.nodes[asked].write(create_tenant("done"));
    cluster.turn(asked);
    cluster.nodes[asked].plane.handle_unreachable(&name(leader));
    let answer = cluster.answer(asked, id);
    assert!(matches!(answer, Answer::Written { .. }), "{answer:?}");
}

#[test]
fn a_command_that_did_not_leave_is_sent_again_and_refused_if_it_never_can() {
    let (mut cluster, _, asked) = led(4);
    cluster.unconnected.insert(asked);
    let id = cluster.nodes[asked].write(create_tenant("late"));
    cluster.pass(Duration::from_secs(1));
    assert!(cluster.nodes[asked].answer(id).is_none());
    cluster.unconnected.clear();
    let answer = cluster.answer(asked, id);
    assert!(matches!(answer, Answer::Written { .. }), "{answer:?}");
    cluster.unconnected.insert(asked);
    let id = cluster.nodes[asked].write(create_tenant("never"));
    let answer = cluster.answer(asked, id);
    let refused = matches!(answer, Answer::Refused(PlaneError::NoLeader { .. }));
    assert!(refused, "{answer:?}");
}
