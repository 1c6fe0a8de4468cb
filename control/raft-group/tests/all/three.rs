//! Three members: who leads, what is decided, what may be read.

use core::time::Duration;

use pinion_raft_group::{
    GroupConfig, Notice, PeerMessage, ProposeError, ReadError, ReadId, Role, TransferError,
};
use pinion_simkit::CrashMode;
use pinion_types::Monotonic;

use crate::support::cluster::{Cluster, member};
use crate::support::{Node, config, disk};

fn three(seed: u64) -> Cluster {
    let mut cluster = Cluster::new(3, seed, config());
    assert_eq!(cluster.elect(), 0, "the first voter waits least");
    cluster.pass_ms(100);
    cluster
}

#[test]
fn the_first_voter_leads_and_the_next_one_after_it() {
    let mut cluster = Cluster::new(3, 1, config());
    assert_eq!(cluster.elect(), 0);
    assert!(
        cluster.now < Monotonic::from_millis(650),
        "{:?}",
        cluster.now
    );
    cluster.pass_ms(1000);
    for at in 0..3 {
        assert_eq!(cluster.nodes[at].leader, Some(member(0)));
    }
    let gone = cluster.now;
    cluster.crash(0, CrashMode::DropUnsynced);
    assert_eq!(cluster.elect(), 1);
    let took = cluster.now.since(gone);
    assert!(took < Duration::from_millis(900), "{took:?}");
}

#[test]
fn what_is_proposed_is_applied_on_every_member_in_one_order() {
    let mut cluster = three(2);
    for at in 0..50u8 {
        cluster.nodes[0].propose(&[at]).unwrap();
        if at % 7 == 0 {
            cluster.turn(0);
        }
    }
    cluster.turn(0);
    cluster.pass_ms(200);
    let all: Vec<[u8; 1]> = (0..50).map(|at| [at]).collect();
    for node in &cluster.nodes {
        assert_eq!(node.applied(), all);
    }
    assert_eq!(cluster.nodes[0].done.len(), 50);
    let refused = cluster.nodes[1].propose(b"x");
    let leader = Some(member(0));
    assert_eq!(refused, Err(ProposeError::NotLeader { leader }));
}

#[test]
fn a_large_backlog_reaches_a_member_that_was_away() {
    let mut cluster = three(3);
    cluster.crash(2, CrashMode::Clean);
    for _ in 0..8 {
        cluster.nodes[0].propose(&vec![7; 700_000]).unwrap();
        cluster.turn(0);
        cluster.pass_ms(20);
    }
    for _ in 0..500 {
        cluster.nodes[0].propose(&[7; 3000]).unwrap();
    }
    cluster.turn(0);
    cluster.converge();
    assert_eq!(cluster.nodes[2].machine.0.len(), 508);
}

#[test]
fn nothing_is_decided_without_a_majority_of_durable_logs() {
    let mut cluster = three(4);
    cluster.down.insert(2);
    cluster.held.insert(1);
    cluster.nodes[0].propose(b"x").unwrap();
    cluster.turn(0);
    // The follower hears of it, again and again, and its disk does nothing.
    cluster.repeat = 1;
    cluster.pass_ms(5000);
    assert_eq!(cluster.nodes[0].done.len(), 0);
    assert_eq!(cluster.leader(), Some(0), "it still says that it hears");
    cluster.held.clear();
    cluster.pass_ms(100);
    assert_eq!(cluster.nodes[0].done.len(), 1);
}

#[test]
fn a_repeated_append_is_not_answered_before_the_first_one_is_durable() {
    let mut cluster = three(5);
    cluster.held.insert(1);
    cluster.nodes[0].propose(b"x").unwrap();
    let node = &mut cluster.nodes[0];
    node.turn();
    let to_second = node.sent.drain(..).find(|(to, _)| *to == member(1));
    let (_, message) = to_second.unwrap();
    let follower = &mut cluster.nodes[1];
    for _ in 0..3 {
        follower
            .group
            .handle_peer(follower.now, member(0), message.clone());
        follower.turn();
        assert!(follower.sent.is_empty(), "it is not durable");
    }
    while let Some(due) = follower.disk.next_deadline() {
        let done = follower.disk.poll_done(due).unwrap();
        follower.group.handle_disk_done(due, done);
        follower.turn();
    }
    assert!(!follower.sent.is_empty());
}

#[test]
fn a_leader_without_a_majority_steps_down_and_its_proposals_come_to_nothing() {
    let mut cluster = three(6);
    cluster.part(&[0]);
    let lost = cluster.nodes[0].propose(b"lost").unwrap();
    cluster.turn(0);
    cluster.pass_ms(2000);
    assert_eq!(cluster.nodes[0].role, Role::PreCandidate);
    assert_eq!(cluster.nodes[0].uncertain, [lost]);
    assert!(cluster.nodes[0].dropped.is_empty());
    assert_eq!(cluster.leader(), Some(1));
    cluster.nodes[1].propose(b"kept").unwrap();
    cluster.turn(1);
    cluster.pass_ms(200);
    cluster.heal();
    cluster.pass_ms(1000);
    assert_eq!(cluster.nodes[0].dropped, [lost]);
    for node in &cluster.nodes {
        assert_eq!(node.applied(), [b"kept"]);
    }
}

#[test]
fn a_proposal_that_reached_a_majority_is_applied_under_the_next_leader() {
    let mut cluster = three(7);
    // Appends arrive, answers do not.
    cluster.cut.extend([(1, 0), (2, 0)]);
    let number = cluster.nodes[0].propose(b"x").unwrap();
    cluster.turn(0);
    cluster.pass_ms(50);
    assert!(cluster.nodes[0].done.is_empty());
    cluster.part(&[0]);
    cluster.pass_ms(1500);
    assert_eq!(cluster.nodes[0].uncertain, [number]);
    cluster.converge();
    assert_eq!(cluster.nodes[0].done, [number], "and it is told so");
    assert!(cluster.nodes[0].dropped.is_empty());
}

#[test]
fn a_member_that_was_cut_off_does_not_disturb_when_it_returns() {
    let mut cluster = three(8);
    let term = cluster.nodes[0].group.status().term;
    cluster.part(&[1]);
    cluster.pass_ms(10_000);
    assert_eq!(cluster.nodes[1].role, Role::PreCandidate);
    cluster.heal();
    cluster.pass_ms(1000);
    assert_eq!(cluster.leader(), Some(0));
    assert_eq!(cluster.nodes[1].group.status().term, term);
    assert_eq!(cluster.nodes[1].leader, Some(member(0)));
}

#[test]
fn the_lead_is_given_away_and_refused_to_whom_it_does_not_belong() {
    let mut cluster = three(9);
    let give = |cluster: &mut Cluster, from: usize, to: usize| {
        cluster.nodes[from].group.transfer(member(to))
    };
    assert_eq!(give(&mut cluster, 1, 2), Err(TransferError::NotLeader));
    assert_eq!(give(&mut cluster, 0, 7), Err(TransferError::UnknownMember));
    assert_eq!(give(&mut cluster, 0, 0), Ok(()));
    assert_eq!(give(&mut cluster, 0, 2), Ok(()));
    assert_eq!(give(&mut cluster, 0, 1), Err(TransferError::Busy));
    let refused = cluster.nodes[0].propose(b"x");
    assert_eq!(refused, Err(ProposeError::Transferring));
    cluster.turn(0);
    cluster.pass_ms(50);
    assert_eq!(cluster.leader(), Some(2));
    assert_eq!(cluster.nodes[0].leader, Some(member(2)));
    // One that is gone is found out, and the old leader goes on.
    cluster.down.insert(0);
    assert_eq!(give(&mut cluster, 2, 0), Ok(()));
    cluster.turn(2);
    cluster.pass_ms(700);
    assert!(cluster.nodes[2].propose(b"x").is_ok());
    for _ in 0..100 {
        cluster.nodes[2].propose(b"x").unwrap();
    }
    cluster.turn(2);
    cluster.pass_ms(50);
    let refused = give(&mut cluster, 2, 0);
    assert!(
        matches!(refused, Err(TransferError::Lagging { by }) if by >= 100),
        "{refused:?}"
    );
}

#[test]
fn a_read_sees_everything_decided_before_it_on_any_member() {
    let mut cluster = three(10);
    for round in 0..10 {
        cluster.nodes[0].propose(b"x").unwrap();
        cluster.turn(0);
        while cluster.nodes[0].done.len() <= round {
            let end = cluster.now + Duration::from_secs(1);
            assert!(cluster.step(end));
        }
        let decided = cluster.nodes[0].machine.0.last().unwrap().0;
        for at in 0..3 {
            cluster.nodes[at].now = cluster.now;
            cluster.nodes[at].read(round as u64);
            cluster.nodes[at].read(round as u64 + 100);
            cluster.turn(at);
        }
        cluster.pass_ms(30);
        for node in &cluster.nodes {
            assert_eq!(node.reads.len(), 2 * (round + 1));
            let seen = node.reads.last().unwrap().1;
            assert!(seen >= decided, "{seen} of {decided}");
        }
    }
}

#[test]
fn a_read_is_asked_again_when_the_leader_goes_and_given_up_when_nobody_leads() {
    let mut cluster = three(11);
    cluster.crash(0, CrashMode::DropUnsynced);
    cluster.nodes[2].now = cluster.now;
    cluster.nodes[2].read(1);
    cluster.turn(2);
    cluster.pass_ms(1500);
    assert_eq!(cluster.leader(), Some(1));
    assert_eq!(cluster.nodes[2].reads.len(), 1);
    cluster.crash(1, CrashMode::DropUnsynced);
    cluster.nodes[2].now = cluster.now;
    cluster.nodes[2].read(2);
    cluster.turn(2);
    cluster.pass_ms(5500);
    assert_eq!(cluster.nodes[2].reads.len(), 1);
    assert_eq!(cluster.nodes[2].failed_reads, [2]);
}

#[test]
fn a_leader_that_was_replaced_answers_no_read() {
    let mut cluster = three(12);
    cluster.part(&[0]);
    cluster.nodes[0].now = cluster.now;
    cluster.nodes[0].read(1);
    cluster.turn(0);
    cluster.pass_ms(6000);
    assert!(cluster.nodes[0].reads.is_empty());
    assert_eq!(cluster.nodes[0].failed_reads, [1]);
}

#[test]
fn a_member_alone_answers_reads_and_one_that_failed_answers_none() {
    let mut node = Node::open(config(), disk(13)).unwrap();
    let refused = Err(ReadError::NotReady);
    assert_eq!(node.group.read(node.now, ReadId(1)), refused);
    let mut node = Node::alone(config(), disk(13));
    let number = node.propose(b"x").unwrap();
    node.read(1);
    node.rest();
    node.read(2);
    node.turn();
    assert_eq!(node.done, [number]);
    assert_eq!(node.reads.len(), 2);
    node.group.seal(node.now);
    assert_eq!(node.group.read(node.now, ReadId(3)), refused);
}

#[test]
fn what_contradicts_the_log_stops_nobody() {
    let mut cluster = three(14);
    cluster.nodes[0].propose(b"x").unwrap();
    cluster.turn(0);
    cluster.pass_ms(300);
    // The second member returns on an empty disk under its old number.
    cluster.crash(1, CrashMode::Clean);
    cluster.nodes[1].disk = disk(99);
    cluster.down.remove(&1);
    let mut node = Node::open_as(member(1), 9, config(), disk(98)).unwrap();
    let all: Vec<_> = (0..3).map(member).collect();
    node.group.bootstrap(
        member(1),
        crate::support::CLUSTER,
        &all,
        bytes::Bytes::new(),
    );
    node.rest();
    node.sent.clear();
    cluster.nodes[1] = node;
    cluster.nodes[1].now = cluster.now;
    cluster.pass_ms(1000);
    let told = cluster.nodes.iter().flat_map(|node| &node.notices);
    let told: Vec<&Notice> = told.collect();
    assert!(
        matches!(told.first(), Some(Notice::Contradiction { from, .. }) if *from == member(0)),
        "{told:?}"
    );
    assert_eq!(cluster.leader(), Some(0));
}

#[test]
fn what_another_says_in_a_members_name_is_not_heard() {
    let mut cluster = three(15);
    cluster.nodes[0].propose(b"x").unwrap();
    let node = &mut cluster.nodes[0];
    node.turn();
    let mut sent = core::mem::take(&mut node.sent).into_iter();
    let (_, message) = sent.find(|(to, _)| *to == member(1)).unwrap();
    let before = cluster.nodes[1].group.status();
    assert!(matches!(&message, PeerMessage::Raft(messages) if !messages.is_empty()));
    let now = cluster.now;
    cluster.nodes[1]
        .group
        .handle_peer(now, member(2), message.clone());
    cluster.nodes[1].turn();
    assert_eq!(cluster.nodes[1].group.status(), before);
    cluster.nodes[1].group.handle_peer(now, member(0), message);
    cluster.nodes[1].turn();
    assert_ne!(cluster.nodes[1].group.status(), before);
}

#[test]
fn a_pause_is_not_made_up_for_at_once() {
    let mut cluster = three(16);
    // The second member stands still for ten seconds, and so does everything said to it.
    cluster.down.insert(1);
    cluster.pass_ms(10_000);
    cluster.down.remove(&1);
    let now = cluster.now;
    let node = &mut cluster.nodes[1];
    node.now = now;
    node.group.handle_timeout(now);
    node.turn();
    assert_eq!(node.role, Role::Follower);
    cluster.pass_ms(1000);
    assert_eq!(cluster.leader(), Some(0));
    assert_eq!(cluster.nodes[1].leader, Some(member(0)));
}

#[test]
fn a_leader_knows_how_far_the_others_are() {
    let mut cluster = three(17);
    cluster.crash(2, CrashMode::Clean);
    cluster.nodes[0].propose(b"x").unwrap();
    cluster.turn(0);
    cluster.pass_ms(2000);
    let status = cluster.nodes[0].group.status();
    let peers: Vec<(u64, bool, bool)> = status
        .peers
        .iter()
        .map(|peer| (peer.id.0, peer.active, peer.matched == status.last))
        .collect();
    assert_eq!(peers, [(2, true, true), (3, false, false)]);
    assert!(cluster.nodes[1].group.status().peers.is_empty());
}

#[test]
fn one_seed_gives_one_story() {
    let story = |seed| {
        let mut cluster = Cluster::new(3, seed, config());
        (cluster.lose, cluster.repeat, cluster.delay) = (10, 10, 10);
        for _ in 0..20 {
            cluster.pass_ms(200);
            if let Some(leader) = cluster.leader() {
                let _ = cluster.nodes[leader].propose(b"x");
                cluster.turn(leader);
            }
        }
        (cluster.trace, cluster.now, cluster.history.len())
    };
    assert_eq!(story(21), story(21));
    assert_ne!(story(21), story(22));
}

#[test]
fn a_leader_with_a_slow_disk_gives_the_lead_away_and_asks_last_for_it() {
    let mut cluster = three(18);
    cluster.held.insert(0);
    cluster.nodes[0].propose(b"x").unwrap();
    cluster.turn(0);
    cluster.pass_ms(900);
    assert_eq!(cluster.leader(), Some(0), "it may be a hiccup");
    cluster.pass_ms(400);
    let given = |notice: &&Notice| matches!(notice, Notice::HandOver { .. });
    let told: Vec<&Notice> = cluster.nodes[0].notices.iter().filter(given).collect();
    assert!(
        matches!(told[..], [Notice::HandOver { to, waited }]
            if *to == member(1) && *waited >= Duration::from_secs(1)),
        "{told:?}"
    );
    assert_eq!(cluster.leader(), Some(1));
    assert_eq!(cluster.nodes[1].applied(), [b"x"], "others decided it");
    // It would be first to ask; now it waits until the third member has asked.
    cluster.held.clear();
    cluster.pass_ms(100);
    cluster.crash(1, CrashMode::Clean);
    cluster.pass_ms(1500);
    assert_eq!(cluster.leader(), Some(2));
    cluster.converge();
}

#[test]
fn a_slow_leader_keeps_the_lead_when_nobody_is_faster() {
    let mut cluster = three(19);
    cluster.held.extend([0, 1, 2]);
    cluster.nodes[0].propose(b"x").unwrap();
    cluster.turn(0);
    cluster.pass_ms(3000);
    assert_eq!(cluster.leader(), Some(0));
    assert!(cluster.nodes[0].notices.is_empty());
    cluster.held.clear();
    cluster.pass_ms(100);
    assert_eq!(cluster.nodes[0].done.len(), 1);
}

#[test]
fn a_disk_that_is_slow_every_time_is_noticed_before_a_second_has_passed() {
    let mut cluster = three(20);
    for _ in 0..12 {
        cluster.held.insert(0);
        if cluster.nodes[0].propose(b"x").is_err() {
            break;
        }
        cluster.turn(0);
        cluster.pass_ms(250);
        cluster.held.clear();
        cluster.pass_ms(100);
    }
    assert_eq!(cluster.leader(), Some(1));
    let flush = cluster.nodes[0].group.status().flush.unwrap();
    assert!(flush >= Duration::from_millis(100), "{flush:?}");
}

/// What a member wants to say to another now, when it is heard in no other way.
fn said(cluster: &mut Cluster, from: usize, to: usize) -> Vec<PeerMessage> {
    let node = &mut cluster.nodes[from];
    node.turn();
    let sent = core::mem::take(&mut node.sent).into_iter();
    let to_whom = sent.filter(|(whom, _)| *whom == member(to));
    to_whom.map(|(_, message)| message).collect()
}

fn hears(cluster: &mut Cluster, at: usize, from: usize, messages: Vec<PeerMessage>) {
    for message in messages {
        let now = cluster.now;
        cluster.nodes[at]
            .group
            .handle_peer(now, member(from), message);
    }
}

#[test]
fn an_answer_to_an_earlier_life_answers_no_read_of_this_one() {
    let mut cluster = three(23);
    cluster.nodes[2].now = cluster.now;
    cluster.nodes[2].read(1);
    let question = said(&mut cluster, 2, 0);
    hears(&mut cluster, 0, 2, question);
    let asks_who_leads = said(&mut cluster, 0, 1);
    hears(&mut cluster, 1, 0, asks_who_leads);
    let confirms = said(&mut cluster, 1, 0);
    hears(&mut cluster, 0, 1, confirms);
    let answer = said(&mut cluster, 0, 2);
    assert!(!answer.is_empty());
    cluster.crash(2, CrashMode::Clean);
    cluster.nodes[0].propose(b"later").unwrap();
    cluster.turn(0);
    cluster.pass_ms(200);
    cluster.restart(2);
    cluster.pass_ms(200);
    cluster.part(&[2]);
    cluster.nodes[2].now = cluster.now;
    cluster.nodes[2].read(1);
    cluster.turn(2);
    hears(&mut cluster, 2, 0, answer);
    cluster.turn(2);
    assert!(
        cluster.nodes[2].reads.is_empty(),
        "it is older than the question"
    );
    cluster.heal();
    cluster.pass_ms(600);
    assert_eq!(cluster.nodes[2].reads.len(), 1);
}

#[test]
fn a_leader_that_knows_nothing_of_what_is_decided_stops_nobody() {
    // What is before a snapshot is in memory nowhere.
    let config = GroupConfig {
        snapshot_every_entries: 10,
        tail_entries: 2,
        ..config()
    };
    let mut cluster = Cluster::new(3, 24, config);
    assert_eq!(cluster.elect(), 0);
    for _ in 0..30 {
        cluster.nodes[0].propose(b"x").unwrap();
        cluster.turn(0);
        cluster.pass_ms(20);
    }
    cluster.pass_ms(300);
    let before = cluster.nodes[1].group.status();
    assert!(before.first > 20, "{before:?}");
    // An append to the second member, after its last entry, of term 1.
    let mut body = vec![3, 0, 0, 0, 0, 0, 0, 0];
    for field in [1, 2, before.term, 1, before.last, 1, 0, 0, 0, 0] {
        body.extend(field.to_le_bytes());
    }
    let mut frame = vec![u8::try_from(body.len()).unwrap(), 0, 0, 0, 1, 0, 2, 0];
    frame.extend(crc32c::crc32c(&body).to_le_bytes());
    frame.extend(body);
    let message = PeerMessage::decode(&frame).unwrap();
    hears(&mut cluster, 1, 0, vec![message]);
    cluster.turn(1);
    let told = &cluster.nodes[1].notices;
    assert!(
        matches!(told[..], [Notice::Contradiction { from, claims, last }]
            if from == member(0) && claims == before.last && last == before.commit),
        "{told:?}"
    );
    cluster.converge();
}
