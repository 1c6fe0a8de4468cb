//! The audit log: who asked for what and what became of it, once each, or nothing new
//! is done.

use core::time::Duration;

use crate::support::{
    Node, PATIENCE, REMOTE, config, create_namespace, create_tenant, delete, describe_tenant, disk,
    small_snapshots,
};
use pinion_commitlog::{DiskError, FileId};
use pinion_metadata::command::BatchItem;
use pinion_metadata::{Command, Expect, MetaCode, MetaVersion, ObjectKey};
use pinion_plane::limits::{AUDIT_PAGE_MAX, AUDIT_QUERIES_MAX};
use pinion_plane::{
    AUDIT_LOG, Answer, AuditPage, AuditQuery, AuditResult, AuditRow, Caller, Consistency, Denied,
    PlaneConfig, PlaneError, PlaneNotice, Query, Request,
};
use pinion_simkit::{CrashMode, Fault, FaultPlan, SimRng};

fn query(node: &mut Node, query: AuditQuery) -> AuditPage {
    let deadline = node.now + PATIENCE;
    let id = node.request(Request::Audit { query, deadline });
    node.rest();
    match node.answer(id) {
        Some(Answer::Audit(page)) => page,
        answer => panic!("{answer:?}"),
    }
}

/// Every row that there is, page by page.
pub(crate) fn all_rows(node: &mut Node) -> Vec<(u64, AuditRow)> {
    let mut rows = Vec::new();
    let mut first = 0;
    loop {
        let page = query(
            node,
            AuditQuery {
                first,
                limit: AUDIT_PAGE_MAX,
                ..AuditQuery::default()
            },
        );
        rows.extend(page.rows);
        match page.next {
            Some(next) => first = next,
            None => return rows,
        }
    }
}

fn operations(rows: &[(u64, AuditRow)]) -> Vec<&str> {
    rows.iter().map(|(_, row)| &*row.operation).collect()
}

#[test]
fn every_command_has_its_row_and_a_batch_one_for_each() {
    let mut node = Node::alone(config(), disk(1));
    let created = node.wall();
    node.write_as(77, create_tenant("a"));
    node.write_as(77, create_tenant("a"));
    node.write(create_tenant("a"));
    let items = [create_namespace("a", "n"), describe_tenant("a", "x")];
    let items = items.map(|command| BatchItem {
        expect: Expect::Any,
        command,
    });
    node.write(Command::Batch(Box::new(items)));
    node.rest();
    let rows = all_rows(&mut node);
    let first = AuditRow {
        at: created,
        index: rows[0].1.index,
        version: MetaVersion(1),
        request: 77,
        origin: pinion_metadata::BrokerNumber(1),
        remote: Some(REMOTE),
        result: AuditResult::Done,
        principal: "p:ana".into(),
        tenant: "a".into(),
        operation: "create_tenant".into(),
        target: "tenant/a".into(),
    };
    assert_eq!(rows[0], (0, first));
    let refused = AuditResult::Refused(MetaCode::Exists as u16);
    let results: Vec<AuditResult> = rows.iter().map(|(_, row)| row.result).collect();
    let done = AuditResult::Done;
    assert_eq!(results, [done, AuditResult::Repeated, refused, done, done]);
    assert_eq!(
        operations(&rows)[3..],
        ["create_namespace", "update_tenant"]
    );
    assert_eq!(rows[3].1.index, rows[4].1.index);
    assert_eq!(&*rows[3].1.target, "namespace/a/n");
    assert!(rows.iter().all(|(_, row)| &*row.tenant == "a"));
}

#[test]
fn what_never_became_a_command_has_a_row_too() {
    let mut node = Node::alone(config(), disk(2));
    let denied = Denied {
        caller: Caller {
            principal: "".into(),
            request: 5,
            remote: Some("[2001:db8::7]:99".parse().unwrap()),
        },
        tenant: "a".into(),
        operation: "POST /v1/tenants".into(),
        target: "é".repeat(600).into(),
        status: 401,
    };
    node.turn();
    node.plane.handle_denied(denied).unwrap();
    node.rest();
    let mut node = node.again(config());
    node.rest();
    let rows = all_rows(&mut node);
    let [(0, row)] = &rows[..] else {
        panic!("{rows:?}");
    };
    assert_eq!((row.index, row.result), (0, AuditResult::Denied(401)));
    assert_eq!(row.remote, Some("[2001:db8::7]:99".parse().unwrap()));
    assert_eq!(*row.target, *"é".repeat(256), "it is cut at a whole letter");
}

/// What is done to something that runs, before it is.
fn begun(target: &str) -> Denied {
    Denied {
        caller: Caller {
            principal: "p:ana".into(),
            request: 0,
            remote: Some(REMOTE),
        },
        tenant: "a".into(),
        operation: "queue.purge".into(),
        target: target.into(),
        status: 102,
    }
}

fn record(node: &mut Node, target: &str) -> u64 {
    let (row, deadline) = (begun(target), node.now + PATIENCE);
    node.request(Request::Record { row, deadline })
}

#[test]
fn a_row_that_is_waited_for_is_there_after_any_crash_once_that_is_answered() {
    let mut node = Node::alone(config(), disk(30));
    let mut rng = SimRng::new(30);
    let (mut waited, mut answered) = (0, 0);
    for at in 0..12 {
        // Rows of commands are on their way before it and after it.
        node.write(create_tenant(&format!("t{at}")));
        let id = record(&mut node, &format!("queue:{at}"));
        node.write(create_namespace(&format!("t{at}"), "n"));
        assert!(node.answer(id).is_none(), "the disk was not even asked");
        for step in 0..8 {
            // Before the disk has done anything, and after each thing that it does.
            if step > 0 {
                node.step();
            }
            node.turn();
            let done = match node.answer(id) {
                Some(Answer::Recorded) => true,
                None => false,
                answer => panic!("{answer:?}"),
            };
            waited += usize::from(!done);
            for mode in CrashMode::ALL {
                let mut disks = node.disks();
                disks.crash(mode, &mut rng);
                let mut after = Node::open(config(), disks).unwrap();
                after.rest();
                let rows = all_rows(&mut after);
                let of = format!("queue:{at}");
                let found = rows.iter().filter(|(_, row)| *row.target == *of).count();
                assert!(
                    found == 1 || (found == 0 && !done),
                    "{at} {mode:?}: {found}"
                );
                answered += usize::from(done);
            }
        }
        node.rest();
    }
    assert!(waited >= 12 && answered > 24, "{waited} {answered}");
}

#[test]
fn a_row_that_is_waited_for_is_refused_when_the_disk_does_not_take_it() {
    let mut node = Node::alone(config(), disk(31));
    node.audit_held = true;
    let id = record(&mut node, "queue:late");
    node.pass(PATIENCE / 2);
    assert!(node.answer(id).is_none());
    node.pass(PATIENCE);
    assert_eq!(node.refused(id), PlaneError::TimedOut);
    node.release();
    node.rest();
    let id = record(&mut node, "queue:good");
    node.rest();
    assert!(matches!(node.answer(id), Some(Answer::Recorded)));
    let next = node.audit_disk.stats().submitted + 1;
    let error = DiskError::Io { errno: 5 };
    node.audit_disk
        .set_faults(FaultPlan::once(next, Fault::Fails(error)));
    let under_way = record(&mut node, "queue:lost");
    node.rest();
    assert_eq!(node.refused(under_way), PlaneError::AuditUnavailable);
    let id = record(&mut node, "queue:never");
    node.turn();
    assert_eq!(node.refused(id), PlaneError::AuditUnavailable);
}

#[test]
fn rows_are_found_by_what_they_say_page_by_page() {
    let mut node = Node::alone(config(), disk(3));
    for at in 0..40 {
        node.done(create_tenant(&format!("t{}", at % 4 + 4 * (at / 4))));
        node.done(create_namespace(&format!("t{at}"), "n"));
        node.pass(Duration::from_secs(1));
    }
    let ask = |node: &mut Node, wanted: AuditQuery| -> Vec<u64> {
        let mut found = Vec::new();
        let mut first = Some(0);
        while let Some(from) = first {
            let wanted = AuditQuery {
                first: from,
                limit: 7,
                ..wanted.clone()
            };
            let page = query(node, wanted);
            assert!(page.rows.len() <= 7);
            found.extend(page.rows.iter().map(|(number, _)| *number));
            first = page.next;
        }
        found
    };
    let any = AuditQuery::default();
    assert_eq!(ask(&mut node, any.clone()), (0..80).collect::<Vec<u64>>());
    let tenant = Some("t3".into());
    assert_eq!(
        ask(
            &mut node,
            AuditQuery {
                tenant,
                ..any.clone()
            }
        ),
        [6, 7]
    );
    let operation = Some("create_namespace".into());
    let odd: Vec<u64> = (0..40).map(|at| 2 * at + 1).collect();
    assert_eq!(
        ask(
            &mut node,
            AuditQuery {
                operation,
                ..any.clone()
            }
        ),
        odd
    );
    let principal = Some("p:bo".into());
    assert!(
        ask(
            &mut node,
            AuditQuery {
                principal,
                ..any.clone()
            }
        )
        .is_empty()
    );
    let rows = all_rows(&mut node);
    let (from, to) = (Some(rows[20].1.at), Some(rows[31].1.at));
    let between = ask(&mut node, AuditQuery { from, to, ..any });
    assert_eq!(between, (20..32).collect::<Vec<u64>>());
}

#[test]
fn rows_before_one_are_found_from_the_end() {
    let mut node = Node::alone(config(), disk(3));
    for at in 0..20 {
        node.done(create_tenant(&format!("t{at}")));
    }
    let numbers = |page: &AuditPage| -> Vec<u64> {
        let rows = page.rows.iter();
        rows.map(|(number, _)| *number).collect()
    };
    let none = AuditQuery {
        before: Some(0),
        limit: 1,
        ..AuditQuery::default()
    };
    let page = query(&mut node, none);
    assert_eq!((page.end, numbers(&page), page.next), (20, vec![], None));
    let last = AuditQuery {
        first: 10,
        before: Some(15),
        limit: 100,
        ..AuditQuery::default()
    };
    let page = query(&mut node, last);
    assert_eq!((page.end, page.next), (20, None));
    assert_eq!(numbers(&page), (10..15).collect::<Vec<u64>>());
    let beyond = AuditQuery {
        first: 18,
        before: Some(u64::MAX),
        limit: 100,
        ..AuditQuery::default()
    };
    assert_eq!(numbers(&query(&mut node, beyond)), [18, 19]);
}

#[test]
fn a_restart_writes_no_row_twice_and_a_snapshot_waits_for_them() {
    let mut node = Node::alone(small_snapshots(), disk(4));
    for at in 0..30 {
        node.done(create_tenant(&format!("t{at}")));
    }
    let mut node = node.again(small_snapshots());
    node.rest();
    let rows = all_rows(&mut node);
    assert_eq!(rows.len(), 30);
    // No row becomes durable, and so no snapshot does.
    let before = node.plane.status().group.snapshot;
    node.audit_held = true;
    for at in 0..30 {
        node.done(describe_tenant("default", &at.to_string()));
    }
    assert!(!node.snapshots.is_empty());
    assert_eq!(node.plane.status().group.snapshot, before);
    // Power is lost; what was applied since has its rows all the same.
    let mut node = node.again(small_snapshots());
    node.rest();
    let rows = all_rows(&mut node);
    assert_eq!(rows.len(), 60);
    assert!(
        rows[30..]
            .iter()
            .all(|(_, row)| row.result == AuditResult::Done)
    );
    // The address was known to the life that is over.
    assert!(rows[30..].iter().all(|(_, row)| row.remote.is_none()));
    assert!(node.plane.status().group.snapshot >= before);
}

/// Rows of commands wait for others.
fn gathering() -> PlaneConfig {
    let mut config = config();
    config.audit.gather = Duration::from_millis(50);
    config
}

#[test]
fn rows_of_commands_wait_for_others_and_share_a_write() {
    let mut node = Node::alone(gathering(), disk(20));
    // The first row makes the log's first segment.
    node.done(create_tenant("first"));
    node.pass(Duration::from_secs(1));
    let before = node.audit_disk.stats().writes;
    let began = node.now;
    for at in 0..5 {
        node.done(create_tenant(&format!("t{at}")));
    }
    assert!(node.now.since(began) < Duration::from_millis(40));
    assert_eq!(node.audit_disk.stats().writes, before, "they wait");
    let due = node.plane.next_deadline().unwrap();
    assert!(due.since(began) <= Duration::from_millis(60), "{due:?}");
    node.pass(Duration::from_millis(100));
    assert_eq!(node.audit_disk.stats().writes, before + 1);
    // What was refused waits for nobody: it is in no other log.
    let denied = Denied {
        caller: Caller {
            principal: "".into(),
            request: 0,
            remote: None,
        },
        tenant: "a".into(),
        operation: "POST /v1/tenants".into(),
        target: "".into(),
        status: 403,
    };
    node.turn();
    node.plane.handle_denied(denied).unwrap();
    node.rest();
    assert_eq!(node.audit_disk.stats().writes, before + 2);
}

#[test]
fn a_query_finds_rows_that_wait_and_a_crash_brings_them_back_without_addresses() {
    let mut node = Node::alone(gathering(), disk(21));
    node.done(create_tenant("a"));
    node.done(create_tenant("b"));
    let rows = all_rows(&mut node);
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|(_, row)| row.remote == Some(REMOTE)));
    node.done(create_tenant("c"));
    let mut node = node.again(gathering());
    node.rest();
    let rows = all_rows(&mut node);
    let remotes: Vec<_> = rows.iter().map(|(_, row)| row.remote).collect();
    assert_eq!(remotes, [Some(REMOTE), Some(REMOTE), None]);
    assert_eq!(&*rows[2].1.target, "tenant/c");
}

#[test]
fn without_room_for_rows_nothing_new_is_done_but_what_makes_room_and_reads_go_on() {
    let mut node = Node::alone(config(), disk(5));
    node.audit_disk.set_capacity(node.audit_disk.used());
    let mut at = 0;
    let refused = loop {
        let id = node.write(create_tenant(&format!("t{at}")));
        node.rest();
        match node.answer(id) {
            Some(Answer::Written { .. }) => at += 1,
            Some(Answer::Refused(error)) => break error,
            answer => panic!("{answer:?}"),
        }
        assert!(at < 100_000, "it is never full");
    };
    assert_eq!(refused, PlaneError::AuditUnavailable);
    assert_eq!(node.notices, [PlaneNotice::AuditFull(true)]);
    // What makes room goes on for a good while.
    for gone in 1..21 {
        node.done(delete(ObjectKey::tenant(&format!("t{gone}")), 1_000_000));
    }
    let read = node.read(
        Query::Get(ObjectKey::tenant("t0")),
        Consistency::Linearizable,
    );
    node.rest();
    assert!(node.object(read).1.is_some());
    node.audit_disk.set_capacity(u64::MAX);
    node.pass(Duration::from_secs(3));
    assert_eq!(node.notices.last(), Some(&PlaneNotice::AuditFull(false)));
    node.done(create_tenant("again"));
    assert_eq!(all_rows(&mut node).len(), at + 21);
}

#[test]
fn rows_that_could_not_be_written_leave_a_row_that_says_so() {
    let mut node = Node::alone(small_snapshots(), disk(6));
    node.done(create_tenant("a"));
    let next = node.audit_disk.stats().submitted + 1;
    let error = DiskError::Io { errno: 5 };
    node.audit_disk
        .set_faults(FaultPlan::once(next, Fault::Fails(error)));
    // They are under way when the log fails.
    for at in 0..20 {
        node.write(describe_tenant("a", &at.to_string()));
    }
    node.rest();
    assert_eq!(node.notices, [PlaneNotice::AuditFailed(error)]);
    assert_eq!(
        node.metadata().version(),
        MetaVersion(21),
        "they were decided"
    );
    let id = node.write(create_tenant("b"));
    node.turn();
    assert_eq!(node.refused(id), PlaneError::AuditUnavailable);
    let denied = Denied {
        caller: Caller {
            principal: "p:bo".into(),
            request: 0,
            remote: None,
        },
        tenant: "".into(),
        operation: "GET /v1/audit".into(),
        target: "".into(),
        status: 403,
    };
    assert_eq!(
        node.plane.handle_denied(denied),
        Err(PlaneError::AuditUnavailable)
    );
    assert!(!node.snapshots.is_empty(), "snapshots do not wait for ever");
    // What the snapshot holds has no rows any more, what came after it has them again.
    let snapshot = node.plane.status().group.snapshot;
    let mut node = node.again(small_snapshots());
    node.rest();
    node.done(create_tenant("b"));
    let rows = all_rows(&mut node);
    let gap = rows.iter().find_map(|(_, row)| match row.result {
        AuditResult::Gap { to } => Some((row.index, to)),
        _ => None,
    });
    let (first, to) = gap.unwrap();
    assert_eq!(first, rows[0].1.index + 1);
    assert!(to <= snapshot && snapshot - to < 3, "{to} and {snapshot}");
    assert_eq!(&*rows.last().unwrap().1.target, "tenant/b");
}

#[test]
fn old_rows_go_by_age_and_by_bytes_and_numbers_go_on() {
    let small = |keep: Duration, keep_bytes: u64| {
        let mut config = config();
        config.audit.keep = keep;
        config.audit.keep_bytes = keep_bytes;
        config.audit.checkpoint_every_bytes = 256 << 10;
        config
    };
    let fill = |config: &PlaneConfig, seed| {
        let mut node = Node::alone(config.clone(), disk(seed));
        for _ in 0..30 {
            // Long rows, so that some thousand make several segments.
            let caller = Caller {
                principal: "x".repeat(400).into(),
                request: 0,
                remote: None,
            };
            for _ in 0..200 {
                let denied = Denied {
                    caller: caller.clone(),
                    tenant: "x".repeat(400).into(),
                    operation: "GET /v1/tenants".into(),
                    target: "".into(),
                    status: 403,
                };
                node.plane.handle_denied(denied).unwrap();
            }
            node.rest();
            node.pass(Duration::from_secs(1));
        }
        node
    };
    let segments = |node: &Node| {
        let files = node.audit_disk.files().map(|(file, _)| file);
        files
            .filter(|file| matches!(file, FileId::Segment { log, .. } if *log == AUDIT_LOG))
            .count()
    };
    let first_row = |node: &mut Node| {
        let page = query(
            node,
            AuditQuery {
                limit: 1,
                ..AuditQuery::default()
            },
        );
        page.rows[0].0
    };
    let day = Duration::from_secs(24 * 3600);
    for (config, seed) in [(small(90 * day, 2 << 20), 7), (small(day, u64::MAX), 8)] {
        let mut node = fill(&config, seed);
        assert_eq!(first_row(&mut node), 0);
        let before = segments(&node);
        assert!(before >= 4, "{before}");
        // By bytes within the hour; by age not before a day is over.
        let old = config.audit.keep_bytes == u64::MAX;
        node.pass(Duration::from_secs(3 * 3600));
        assert_eq!(segments(&node) < before, !old);
        node.pass(day);
        let after = segments(&node);
        assert!(after < before, "{after} of {before}");
        node.done(create_tenant("a"));
        let first = first_row(&mut node);
        assert!(first > 2_000 && (first == 6_000) == old, "{first}");
        let mut node = node.again(config);
        node.rest();
        assert!(first_row(&mut node) > 2_000, "what is gone is gone");
        let rows = all_rows(&mut node);
        assert_eq!(rows.last().unwrap().0, 6_000, "numbers go on");
    }
}

#[test]
fn queries_are_bounded_and_end_with_their_deadline() {
    let mut node = Node::alone(config(), disk(9));
    node.done(create_tenant("a"));
    node.audit_held = true;
    let deadline = node.now + PATIENCE;
    let ask = |node: &mut Node| {
        let query = AuditQuery::default();
        node.request(Request::Audit { query, deadline })
    };
    let taken: Vec<u64> = (0..AUDIT_QUERIES_MAX).map(|_| ask(&mut node)).collect();
    let refused = ask(&mut node);
    node.turn();
    let limit = AUDIT_QUERIES_MAX as u64;
    assert_eq!(node.refused(refused), PlaneError::Busy { limit });
    node.now = deadline;
    node.turn();
    assert!(
        taken
            .iter()
            .all(|id| node.refused(*id) == PlaneError::TimedOut)
    );
    node.release();
    node.rest();
    let page = query(&mut node, AuditQuery::default());
    assert_eq!(page.rows.len(), 1, "there is room again");
}
