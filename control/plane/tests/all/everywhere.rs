//! The audit logs of all nodes as one list: everything once, by time, and who did not tell.

use core::time::Duration;
use std::collections::BTreeMap;

use crate::audit::all_rows;
use crate::cluster::Cluster;
use crate::support::{NAMES, Node, PATIENCE, REMOTE, config, create_tenant, disk, name};
use pinion_metadata::Command;
use pinion_plane::limits::{AUDIT_GATHERS_MAX, AUDIT_NODE_WAIT, AUDIT_QUERIES_MAX};
use pinion_plane::{
    Answer, AuditAsk, AuditEverywhere, AuditPages, AuditQuery, AuditRow, AuditSilence, Caller,
    Denied, PlaneError, PlaneMessage, Request, Said,
};
use pinion_simkit::CrashMode;

/// Between two rounds of requests: longer than it takes for one to be decided.
const ROUND_MS: u64 = 20;

fn formed(seed: u64) -> Cluster {
    let mut cluster = Cluster::forming(seed, 3);
    cluster.until(Duration::from_secs(20), |cluster| {
        cluster.agrees() && cluster.leader().is_some()
    });
    cluster
}

fn done(cluster: &mut Cluster, at: usize, command: Command) {
    let id = cluster.nodes[at].write(command);
    let answer = cluster.answer(at, id);
    assert!(matches!(answer, Answer::Written { .. }), "{answer:?}");
}

/// Somebody is refused on one node.
fn refuse(cluster: &mut Cluster, at: usize, operation: &str) {
    cluster.turn(at);
    let denied = Denied {
        caller: Caller {
            principal: "p:bo".into(),
            request: 0,
            remote: Some(REMOTE),
        },
        tenant: "".into(),
        operation: operation.into(),
        target: "".into(),
        status: 403,
    };
    cluster.nodes[at].plane.handle_denied(denied).unwrap();
    cluster.turn(at);
}

fn ask(node: &mut Node, wanted: AuditEverywhere) -> u64 {
    let wanted = Box::new(wanted);
    let deadline = node.now + PATIENCE;
    node.request(Request::AuditEverywhere { wanted, deadline })
}

#[track_caller]
fn page(cluster: &mut Cluster, at: usize, wanted: AuditEverywhere) -> AuditPages {
    let id = ask(&mut cluster.nodes[at], wanted);
    match cluster.answer(at, id) {
        Answer::AuditEverywhere(pages) => pages,
        answer => panic!("{answer:?}"),
    }
}

fn wanted(limit: usize, from: BTreeMap<pinion_plane::PeerName, u64>) -> AuditEverywhere {
    let query = AuditQuery {
        limit,
        ..AuditQuery::default()
    };
    AuditEverywhere { query, from }
}

/// Every row, page by page, with the number of its node.
fn walk(cluster: &mut Cluster, at: usize, limit: usize) -> Vec<(usize, u64, AuditRow)> {
    let (mut rows, mut from) = (Vec::new(), BTreeMap::new());
    loop {
        let pages = page(cluster, at, wanted(limit, from));
        assert!(pages.rows.len() <= limit && pages.silent.is_empty());
        let node = |of: &pinion_plane::PeerName| NAMES.iter().position(|at| *at == of.as_str());
        let of = pages.rows.into_iter();
        rows.extend(of.map(|(name, number, row)| (node(&name).unwrap(), number, row)));
        match pages.next {
            Some(next) => from = next,
            None => return rows,
        }
    }
}

#[test]
fn everything_is_listed_once_by_time_with_the_address_it_came_from() {
    let mut cluster = formed(31);
    for at in 0..3 {
        for round in 0..7 {
            done(&mut cluster, at, create_tenant(&format!("t{at}-{round}")));
            refuse(&mut cluster, (at + round) % 3, "GET /v1/raft");
            cluster.pass(Duration::from_millis(ROUND_MS));
        }
    }
    for (at, name) in NAMES.iter().enumerate().take(3) {
        let rows = walk(&mut cluster, at, 5);
        // A command has the leader's time, a refusal that of when it is written down; and
        // rows of one node stay in their order.
        let times: Vec<u64> = rows.iter().map(|(_, _, row)| row.at.0).collect();
        let late = times.iter().scan(0, |latest, at| {
            *latest = at.max(latest).to_owned();
            Some(*latest - at)
        });
        assert!(late.max() < Some(ROUND_MS), "{times:?}");
        // What this node wrote, and what the others refused.
        let mut all: Vec<(usize, u64)> = Vec::new();
        for of in 0..3 {
            let own = all_rows(&mut cluster.nodes[of]).into_iter();
            let own = own.filter(|(_, row)| of == at || row.index == 0);
            all.extend(own.map(|(number, _)| (of, number)));
        }
        let mut found: Vec<(usize, u64)> = rows.iter().map(|row| (row.0, row.1)).collect();
        found.sort_unstable();
        all.sort_unstable();
        assert_eq!(found, all, "{}", name);
        // Each address is in the log of one node, and here in each row.
        let made = rows
            .iter()
            .filter(|(_, _, row)| *row.operation == *"create_tenant");
        let remotes: Vec<_> = made.map(|(_, _, row)| row.remote).collect();
        assert_eq!(remotes, [Some(REMOTE); 21], "{}", name);
        let refused = rows
            .iter()
            .filter(|(_, _, row)| *row.operation == *"GET /v1/raft");
        assert_eq!(refused.count(), 21);
    }
}

#[test]
fn who_does_not_answer_is_named_and_asked_again_by_the_next_page() {
    let mut cluster = formed(32);
    let gone = (cluster.leader().unwrap() + 1) % 3;
    let asked = (gone + 1) % 3;
    refuse(&mut cluster, gone, "GET /v1/raft");
    refuse(&mut cluster, asked, "GET /v1/raft");
    cluster.pass(Duration::from_secs(1));
    cluster.crash(gone, CrashMode::DropUnsynced);
    let before = cluster.now;
    let pages = page(&mut cluster, asked, wanted(1_000, BTreeMap::new()));
    assert_eq!(pages.silent, [(name(gone), AuditSilence::TimedOut)]);
    assert_eq!(cluster.now.since(before), AUDIT_NODE_WAIT);
    let refused = |pages: &AuditPages, of: usize| {
        let rows = pages.rows.iter();
        rows.filter(|(node, _, row)| *node == name(of) && row.index == 0)
            .count()
    };
    assert_eq!((refused(&pages, asked), refused(&pages, gone)), (1, 0));
    assert_eq!(pages.next, None, "whoever answered has no more");
    // A lost connection is known at once.
    let before = cluster.now;
    let id = ask(&mut cluster.nodes[asked], wanted(1_000, BTreeMap::new()));
    cluster.turn(asked);
    cluster.nodes[asked].plane.handle_unreachable(&name(gone));
    let Answer::AuditEverywhere(pages) = cluster.answer(asked, id) else {
        panic!("it is not answered");
    };
    assert_eq!(pages.silent, [(name(gone), AuditSilence::Unreachable)]);
    assert!(cluster.now.since(before) < AUDIT_NODE_WAIT / 2);
    // A walk that went on without it comes to its rows when it is back.
    let first = page(&mut cluster, asked, wanted(1, BTreeMap::new()));
    let next = first.next.expect("there is more");
    assert_eq!(next.get(&name(gone)), None, "it told nothing yet");
    cluster.start(gone);
    let all = page(&mut cluster, asked, wanted(1_000, next));
    assert_eq!((refused(&all, asked), refused(&all, gone)), (1, 1));
    assert_eq!(all.silent, []);
}

#[test]
fn a_question_that_did_not_leave_is_not_waited_for() {
    let mut cluster = formed(33);
    let id = ask(&mut cluster.nodes[0], wanted(10, BTreeMap::new()));
    let node = &mut cluster.nodes[0];
    node.turn();
    let asks = core::mem::take(&mut node.sent);
    let asks: Vec<_> = asks
        .iter()
        .filter(|(_, message)| matches!(message, PlaneMessage::AuditAsk(_)))
        .collect();
    assert_eq!(asks.len(), 2);
    for (_, message) in asks {
        node.plane.handle_unsent(message);
    }
    node.rest();
    let Some(Answer::AuditEverywhere(pages)) = node.answer(id) else {
        panic!("it waits");
    };
    let whys: Vec<AuditSilence> = pages.silent.iter().map(|(_, why)| *why).collect();
    assert_eq!(whys, [AuditSilence::Unreachable; 2]);
    assert!(!pages.rows.is_empty(), "its own are there");
}

#[test]
fn queries_of_all_nodes_are_bounded_and_end_with_their_deadline() {
    let mut node = Node::alone(config(), disk(34));
    node.done(create_tenant("a"));
    node.audit_held = true;
    let any = || wanted(10, BTreeMap::new());
    let taken: Vec<u64> = (0..AUDIT_GATHERS_MAX)
        .map(|_| ask(&mut node, any()))
        .collect();
    let refused = ask(&mut node, any());
    node.turn();
    let limit = AUDIT_GATHERS_MAX as u64;
    assert_eq!(node.refused(refused), PlaneError::Busy { limit });
    node.now = node.now + PATIENCE;
    node.turn();
    for id in taken {
        assert_eq!(node.refused(id), PlaneError::TimedOut, "its own disk");
    }
    node.release();
    node.rest();
    // There is room again, for these and for queries of one node.
    for _ in 0..AUDIT_QUERIES_MAX + 1 {
        let id = ask(&mut node, any());
        node.rest();
        let Some(Answer::AuditEverywhere(pages)) = node.answer(id) else {
            panic!("{:?}", node.answer(id));
        };
        assert_eq!((pages.rows.len(), pages.silent.len()), (1, 0));
    }
}

#[test]
fn a_node_answers_others_as_many_queries_as_it_may() {
    let mut cluster = formed(35);
    cluster.nodes[0].audit_held = true;
    // A row that is not durable yet is waited for.
    refuse(&mut cluster, 0, "GET /v1/raft");
    let most = u64::try_from(AUDIT_QUERIES_MAX).unwrap();
    let node = &mut cluster.nodes[0];
    node.turn();
    node.sent.clear();
    for number in 0..=most {
        let query = AuditQuery {
            limit: 10,
            own: true,
            ..AuditQuery::default()
        };
        node.hear(&name(1), PlaneMessage::AuditAsk(AuditAsk { number, query }));
    }
    // One that is no member is not heard.
    let query = AuditQuery {
        limit: 1,
        own: true,
        ..AuditQuery::default()
    };
    let number = 99;
    node.hear(&name(4), PlaneMessage::AuditAsk(AuditAsk { number, query }));
    node.turn();
    let said = |node: &mut Node| -> Vec<(u64, usize)> {
        let sent = core::mem::take(&mut node.sent).into_iter();
        sent.filter_map(|(to, message)| match message {
            PlaneMessage::AuditSaid(said) => {
                assert_eq!(to, name(1));
                let rows = match said.said {
                    Said::Rows { rows, .. } => rows.len(),
                    Said::Busy => usize::MAX,
                    Said::Unreadable => panic!("it can read them"),
                };
                Some((said.number, rows))
            }
            _ => None,
        })
        .collect()
    };
    assert_eq!(said(node), [(most, usize::MAX)]);
    node.release();
    node.rest();
    let all: Vec<(u64, usize)> = (0..most).map(|number| (number, 1)).collect();
    let mut told = said(node);
    told.sort_unstable();
    assert_eq!(told, all);
}
