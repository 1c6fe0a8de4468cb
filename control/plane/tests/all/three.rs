//! Three nodes: whichever is asked, what is done is done once, and all know it.

use core::time::Duration;

use crate::cluster::Cluster;
use crate::crash::{Open, Truth, ask, check_rows};
use crate::support::{create_tenant, describe_tenant};
use pinion_metadata::{MetaCode, MetaVersion, ObjectKey};
use pinion_plane::{Answer, Consistency, PlaneError, Query};
use pinion_raft_group::Role;
use pinion_raft_group::limits::FLUSHES_KEPT;
use pinion_simkit::{CrashMode, SimRng};

#[test]
fn whichever_node_is_asked_it_is_done_once_and_answered_there() {
    let mut cluster = Cluster::new(1);
    let leader = cluster.elect();
    cluster.pass(Duration::from_secs(1));
    for at in 0..3 {
        let name = format!("t{at}");
        let id = cluster.nodes[at].write(create_tenant(&name));
        let answer = cluster.answer(at, id);
        let version = MetaVersion(at as u64 + 1);
        assert!(
            matches!(answer, Answer::Written { version: v, repeat: false, .. } if v == version),
            "{at} of {leader}: {answer:?}"
        );
        // Who was told has it; who asks anyone from now on sees it.
        assert_eq!(cluster.nodes[at].metadata().version(), version);
        let reader = (at + 1) % 3;
        let query = Query::Get(ObjectKey::tenant(&name));
        let read = cluster.nodes[reader].read(query, Consistency::Linearizable);
        cluster.answer(reader, read);
        assert!(cluster.nodes[reader].object(read).1.is_some());
        let again = cluster.nodes[reader].write(create_tenant(&name));
        match cluster.answer(reader, again) {
            Answer::Refused(PlaneError::Meta(error)) => {
                assert_eq!(error.code(), MetaCode::Exists);
            }
            answer => panic!("{answer:?}"),
        }
    }
    cluster.pass(Duration::from_secs(1));
    cluster.agree();
    assert!(cluster.nodes.iter().all(|node| node.ready));
}

#[test]
fn a_leader_tells_how_long_its_own_decisions_took_and_nobody_elses() {
    let mut cluster = Cluster::new(4);
    let leader = cluster.elect();
    let other = (leader + 1) % 3;
    cluster.pass(Duration::from_secs(1));
    let mut took = Vec::new();
    for number in 0..2 * FLUSHES_KEPT {
        let at = if number % 2 == 0 { leader } else { other };
        // So that every node knows what time it is.
        cluster.pass(Duration::from_millis(1));
        let asked = cluster.now;
        let id = cluster.nodes[at].write(create_tenant(&format!("t{number}")));
        let answer = cluster.answer(at, id);
        assert!(matches!(answer, Answer::Written { .. }), "{answer:?}");
        if at == leader {
            took.push(cluster.now.since(asked));
        }
    }
    took.sort_unstable();
    let middle = took[took.len() / 2];
    let told = |at: usize| cluster.nodes[at].plane.status().commit;
    assert_eq!(told(leader), Some(middle));
    assert!(middle > Duration::from_micros(100), "wires take longer");
    assert_eq!(told(other), None, "what it forwards is not its to tell");
}

#[test]
fn a_request_under_one_number_is_done_once_whoever_is_asked() {
    let mut cluster = Cluster::new(2);
    cluster.elect();
    cluster.pass(Duration::from_secs(1));
    let once = describe_tenant("default", "once");
    let ids: Vec<u64> = (0..3)
        .map(|at| cluster.nodes[at].write_as(77, once.clone()))
        .collect();
    let mut repeats = 0;
    for (at, id) in ids.iter().enumerate() {
        match cluster.answer(at, *id) {
            Answer::Written {
                version: MetaVersion(1),
                repeat,
                ..
            } => repeats += usize::from(repeat),
            answer => panic!("{answer:?}"),
        }
    }
    assert_eq!(repeats, 2);
}

#[test]
fn without_a_majority_nothing_is_done_and_the_answer_says_what_is_known() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect();
    cluster.pass(Duration::from_secs(1));
    let asked = (leader + 1) % 3;
    for other in 0..3 {
        cluster.cut.extend([(leader, other), (other, leader)]);
        cluster.cut.extend([(asked, other), (other, asked)]);
    }
    let at_leader = cluster.nodes[leader].write(create_tenant("a"));
    let forwarded = cluster.nodes[asked].write(create_tenant("b"));
    let read = Query::Get(ObjectKey::tenant("a"));
    let read = cluster.nodes[leader].read(read, Consistency::Linearizable);
    let unknown = |answer| matches!(answer, Answer::Refused(PlaneError::Unknown));
    let answer = cluster.answer(leader, at_leader);
    assert!(unknown(answer), "it is in one log");
    let answer = cluster.answer(asked, forwarded);
    assert!(unknown(answer), "it may have arrived");
    match cluster.answer(leader, read) {
        Answer::Refused(error) => assert_eq!(error.outcome(), pinion_types::Outcome::NotAdmitted),
        answer => panic!("{answer:?}"),
    }
    // By now nobody leads here, and nothing leaves the node.
    let waits = cluster.nodes[asked].write(create_tenant("c"));
    let answer = cluster.answer(asked, waits);
    assert!(
        matches!(answer, Answer::Refused(PlaneError::NoLeader { .. })),
        "{answer:?}"
    );
    cluster.cut.clear();
    cluster.pass(Duration::from_secs(5));
    cluster.agree();
    let found = cluster.nodes[0].metadata();
    assert!(found.get(&ObjectKey::tenant("b")).is_none());
    assert!(found.get(&ObjectKey::tenant("c")).is_none());
}

#[test]
fn nodes_that_come_and_go_show_one_history_to_all_who_ask_and_follow() {
    let (mut done, mut forwarded, mut replaced) = (0, 0, 0);
    for seed in 0..12 {
        let mut cluster = Cluster::new(100 + seed);
        let mut rng = SimRng::new(seed);
        let mut truth = Truth::default();
        let mut open = vec![Open::default(); 3];
        let mut positions = [MetaVersion(0); 3];
        cluster.elect();
        cluster.pass(Duration::from_secs(1));
        cluster.trouble = rng.between(20, 200);
        for round in 0..120 {
            let context = format!("seed {seed}, round {round}");
            let at = rng.index(3);
            if rng.one_in(8) {
                if cluster.down.contains(&at) {
                    cluster.start(at);
                } else if cluster.down.is_empty() {
                    truth.listen(&mut cluster.nodes[at], &mut open[at], &context);
                    cluster.crash(at, *rng.pick(&CrashMode::ALL));
                    open[at] = Open::default();
                }
            } else if rng.one_in(6) {
                cluster.cut.clear();
                if rng.coin() {
                    let (from, to) = (rng.index(3), rng.index(3));
                    cluster.cut.insert((from, to));
                    if rng.coin() {
                        cluster.cut.insert((to, from));
                    }
                }
            }
            let at = rng.index(3);
            if !cluster.down.contains(&at) {
                cluster.nodes[at].now = cluster.now.max(cluster.nodes[at].now);
                forwarded += usize::from(cluster.nodes[at].role != Role::Leader);
                ask(&mut cluster.nodes[at], &truth, &mut open[at], &mut rng);
                cluster.turn(at);
            }
            cluster.pass(Duration::from_millis(rng.between(1, 400)));
            // A node whose metadata was replaced speaks of changes that others saw.
            for (node, open) in cluster.nodes.iter().zip(&mut open) {
                truth.look(node, open, &context);
            }
            for at in (0..3).filter(|at| !cluster.down.contains(at)) {
                truth.listen(&mut cluster.nodes[at], &mut open[at], &context);
                truth.at = positions[at];
                truth.follow(
                    &mut cluster.nodes[at],
                    &mut open[at],
                    rng.index(9),
                    &context,
                );
                positions[at] = truth.at;
            }
        }
        let context = format!("seed {seed}, at the end");
        cluster.trouble = 0;
        cluster.cut.clear();
        for at in 0..3 {
            if cluster.down.contains(&at) {
                cluster.start(at);
            }
        }
        cluster.pass(Duration::from_secs(15));
        cluster.elect();
        cluster.pass(Duration::from_secs(5));
        cluster.agree();
        for (node, open) in cluster.nodes.iter_mut().zip(&mut open) {
            truth.listen(node, open, &context);
            let waits = node.plane.status().requests;
            assert_eq!(waits, 0, "{context}: everything is answered");
            check_rows(node, &context);
        }
        let newest = cluster.nodes[0].metadata().version();
        assert!(newest >= truth.newest_done(), "{context}");
        let dense = truth.history.keys().copied().eq(1..=newest.0);
        assert!(dense, "{context}: {:?}", truth.history.keys());
        for (number, command, version) in truth.done.clone() {
            let at = rng.index(3);
            cluster.now = cluster.now.max(cluster.nodes[at].now);
            cluster.nodes[at].now = cluster.now;
            let id = cluster.nodes[at].write_as(number, command);
            match cluster.answer(at, id) {
                Answer::Written {
                    version: found,
                    repeat: true,
                    ..
                } => assert_eq!(found, version, "{context}: request {number}"),
                answer => panic!("{context}: request {number}: {answer:?}"),
            }
        }
        done += truth.done.len();
        replaced += cluster
            .nodes
            .iter()
            .map(|node| node.replaced)
            .sum::<usize>();
    }
    assert!(
        done > 200 && forwarded > 200 && replaced > 0,
        "{done} {forwarded} {replaced}"
    );
}
