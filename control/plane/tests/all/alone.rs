//! A cluster of one node: what it answers, what a restart finds.

use core::time::Duration;

use crate::support::{
    CLUSTER, NAMES, Node, ONE, PATIENCE, config, create_tenant, delete, describe_tenant, disk,
    founder, small_snapshots,
};
use bytes::Bytes;
use pinion_commitlog::DiskError;
use pinion_metadata::command::DeleteRules;
use pinion_metadata::limits::COMMAND_BYTES_MAX;
use pinion_metadata::{
    BrokerNumber, Command, Envelope, Expect, MetaCode, MetaVersion, ObjectKey, PolicyObject, RowId,
};
use pinion_plane::limits::{AUDIT_TRIM_EVERY, REQUESTS_MAX, WAITING_BYTES_MAX};
use pinion_plane::{
    Answer, Caller, Consistency, Halt, PlaneError, PlaneNotice, PlaneOpenError, Query, QueryValue,
    Request, Write,
};
use pinion_raft_group::{Found, Group, Notice, Output, ProposalId, Role};
use pinion_simkit::{Fault, FaultPlan};
use pinion_types::{Monotonic, Outcome, WallMs};

fn get(tenant: &str) -> Query {
    Query::Get(ObjectKey::tenant(tenant))
}

#[test]
fn what_is_written_is_answered_when_it_is_durable_and_is_there_after_a_restart() {
    let mut node = Node::alone(config(), disk(1));
    let first = node.write(create_tenant("a"));
    let second = node.write(create_tenant("b"));
    node.turn();
    assert!(node.answer(first).is_none(), "it is not durable yet");
    node.rest();
    for (id, version) in [(first, 1), (second, 2)] {
        let answer = node.answer(id);
        assert!(
            matches!(answer, Some(Answer::Written { version: MetaVersion(v), repeat: false, .. }) if v == version),
            "{answer:?}"
        );
    }
    let hash = node.metadata().state_hash();
    let mut node = node.again(config());
    assert!(
        matches!(
            node.found,
            Found::Member {
                id: ONE,
                cluster: CLUSTER,
                ..
            }
        ),
        "{:?}",
        node.found
    );
    node.rest();
    assert!(node.ready);
    assert_eq!(node.metadata().state_hash(), hash);
    let next = node.plane.next_deadline().unwrap();
    assert!(
        next.since(node.now) > AUDIT_TRIM_EVERY / 2,
        "at rest nothing is due"
    );
}

#[test]
fn writes_of_one_turn_share_one_write_of_the_disk() {
    let mut node = Node::alone(config(), disk(2));
    // The first row makes the log's first segment.
    node.done(describe_tenant("default", "x"));
    let (writes, rows) = (node.disk.stats().writes, node.audit_disk.stats().writes);
    for at in 0..50 {
        node.write(create_tenant(&format!("t{at}")));
    }
    node.rest();
    assert_eq!(node.disk.stats().writes, writes + 1);
    assert_eq!(
        node.audit_disk.stats().writes,
        rows + 1,
        "and so do their rows"
    );
    assert_eq!(node.metadata().version(), MetaVersion(51));
    let versions = node.answers.iter().map(|(_, answer)| match answer {
        Answer::Written { version, .. } => version.0,
        answer => panic!("{answer:?}"),
    });
    assert!(versions.eq(1..=51), "answers are in the order of versions");
}

#[test]
fn what_comes_before_anyone_leads_waits_for_it() {
    let mut node = Node::open(config(), disk(3)).unwrap();
    let early = node.write(create_tenant("a"));
    assert_eq!(node.plane.status().requests, 0);
    node.plane.bootstrap(CLUSTER, &[founder(NAMES[0])]);
    let first = node.write(create_tenant("a"));
    let second = node.write(create_tenant("b"));
    let read = node.read(get("b"), Consistency::Linearizable);
    node.turn();
    assert_eq!(node.refused(early), PlaneError::NotReady);
    assert_eq!(node.refused(read), PlaneError::NotReady, "it is not born");
    assert!(node.answer(first).is_none());
    node.rest();
    assert!(matches!(node.answer(first), Some(Answer::Written { .. })));
    assert!(matches!(node.answer(second), Some(Answer::Written { .. })));
    let keys = node.changes.iter().map(|change| change.key.to_string());
    assert!(keys.eq(["tenant/a", "tenant/b"]), "in their order");
}

#[test]
fn a_repeat_is_done_once_and_answered_as_often_as_it_is_asked() {
    let mut node = Node::alone(small_snapshots(), disk(4));
    let once = describe_tenant("default", "once");
    let first = node.write_as(77, once.clone());
    let second = node.write_as(77, once.clone());
    node.rest();
    let answered = |node: &Node, id, again: bool| {
        let answer = node.answer(id);
        assert!(
            matches!(answer, Some(Answer::Written { version: MetaVersion(1), repeat, .. }) if repeat == again),
            "{answer:?}"
        );
    };
    answered(&node, first, false);
    answered(&node, second, true);
    node.done(describe_tenant("default", "twice"));
    for life in 0..4 {
        node = node.again(small_snapshots());
        node.rest();
        let again = node.write_as(77, once.clone());
        node.rest();
        answered(&node, again, true);
        for at in 0..5 {
            node.done(create_tenant(&format!("t{life}-{at}")));
        }
    }
}

#[test]
fn an_entry_of_a_past_life_answers_no_request_of_this_one() {
    let mut node = Node::alone(config(), disk(22));
    node.done(create_tenant("a"));
    // Of the same seed, so that its numbers are the same, too; and asked before it is
    // known here that what was written is decided.
    let mut node = node.again(config());
    let id = node.write(create_tenant("b"));
    node.rest();
    let answer = node.answer(id);
    assert!(
        matches!(
            answer,
            Some(Answer::Written {
                version: MetaVersion(2),
                ..
            })
        ),
        "{answer:?}"
    );
}

#[test]
fn a_write_that_the_metadata_refuses_changes_nothing() {
    let mut node = Node::alone(config(), disk(5));
    node.done(create_tenant("a"));
    let id = node.write(create_tenant("a"));
    node.rest();
    match node.refused(id) {
        PlaneError::Meta(error) => assert_eq!(error.code(), MetaCode::Exists),
        error => panic!("{error}"),
    }
    let id = node.request(Request::Write(Write {
        caller: Caller {
            principal: "p:bo".into(),
            request: 0,
            remote: None,
        },
        expect: Expect::Version(MetaVersion(9)),
        command: describe_tenant("a", "b"),
        deadline: node.now + PATIENCE,
    }));
    node.rest();
    match node.refused(id) {
        PlaneError::Meta(error) => assert_eq!(error.code(), MetaCode::VersionConflict),
        error => panic!("{error}"),
    }
    assert_eq!(node.metadata().version(), MetaVersion(1));
}

#[test]
fn a_command_that_replicas_could_not_read_is_refused_and_harms_nobody() {
    let mut node = Node::alone(config(), disk(21));
    let id = node.write(Command::Undelete(ObjectKey::tenant("No Such Name")));
    node.rest();
    let error = node.refused(id);
    assert_eq!(error.outcome(), Outcome::NotAdmitted);
    let PlaneError::Meta(error) = error else {
        panic!("{error}");
    };
    assert_eq!(error.code(), MetaCode::BadName);
    // What is no key is not looked at by the writer, and is read all the same.
    let id = node.write(Command::DeletePolicies(DeleteRules {
        tenant: "default".into(),
        scope: Box::new([PolicyObject::Tenant("\u{b4}".into())]),
        ids: Box::new([RowId(1)]),
    }));
    node.rest();
    let error = node.refused(id);
    assert!(matches!(error, PlaneError::Malformed(_)), "{error}");
    assert_eq!(error.outcome(), Outcome::NotAdmitted);
    node.done(create_tenant("a"));
}

#[test]
fn a_write_under_way_at_its_deadline_is_unknown_and_done_once_all_the_same() {
    let mut node = Node::alone(config(), disk(6));
    node.disk_held = true;
    let id = node.write(create_tenant("a"));
    node.turn();
    assert_eq!(node.plane.next_deadline(), Some(node.now + PATIENCE));
    node.now = node.now + PATIENCE;
    node.turn();
    let error = node.refused(id);
    assert_eq!(
        (&error, error.outcome()),
        (&PlaneError::Unknown, Outcome::Unknown)
    );
    node.release();
    node.rest();
    assert_eq!(node.metadata().version(), MetaVersion(1));
    assert_eq!(node.answers.len(), 1, "it is not answered again");
}

#[test]
fn a_write_that_waits_for_a_leader_until_its_deadline_did_not_happen() {
    let mut node = Node::open(config(), disk(7)).unwrap();
    node.plane.bootstrap(CLUSTER, &[founder(NAMES[0])]);
    node.disk_held = true;
    let id = node.write(create_tenant("a"));
    node.now = node.now + PATIENCE;
    node.turn();
    let error = node.refused(id);
    assert!(matches!(error, PlaneError::NoLeader { .. }), "{error}");
    assert_eq!(error.outcome(), Outcome::NotAdmitted);
    node.release();
    node.rest();
    assert_eq!(node.metadata().version(), MetaVersion(0));
    // A deadline that was over when it came.
    let late = node.request(Request::Write(Write {
        caller: Caller {
            principal: "p:ana".into(),
            request: 0,
            remote: None,
        },
        expect: Expect::Any,
        command: Command::Noop,
        deadline: node.now,
    }));
    node.turn();
    assert_eq!(node.refused(late), PlaneError::TimedOut);
}

#[test]
fn a_read_sees_everything_that_was_answered_and_a_stale_one_says_that_it_may_not() {
    let mut node = Node::alone(config(), disk(8));
    node.done(create_tenant("a"));
    node.write(describe_tenant("a", "on its way"));
    let read = node.read(get("a"), Consistency::Linearizable);
    let stale = node.read(get("a"), Consistency::Stale);
    node.turn();
    let answer = node.answer(stale);
    assert!(
        matches!(answer, Some(Answer::Read { stale: true, .. })),
        "{answer:?}"
    );
    node.rest();
    let (version, object) = node.object(read);
    assert!(version >= MetaVersion(1) && object.is_some());
    assert!(matches!(
        node.answer(read),
        Some(Answer::Read { stale: false, .. })
    ));

    // After a restart the state is behind what was answered until the node leads again,
    // and a read waits for that.
    let mut node = node.again(config());
    let behind = node.read(get("a"), Consistency::Stale);
    let read = node.read(get("a"), Consistency::Linearizable);
    node.turn();
    assert_eq!(node.object(behind).0, MetaVersion(0));
    assert!(node.answer(read).is_none());
    node.pass(Duration::from_secs(1));
    let (version, object) = node.object(read);
    assert_eq!(version, MetaVersion(2));
    assert_eq!(object.unwrap().meta.version, MetaVersion(2));
    let all = node.read(Query::Snapshot, Consistency::Linearizable);
    node.rest();
    match node.answer(all) {
        Some(Answer::Read {
            value: QueryValue::Snapshot(source),
            version,
            ..
        }) => {
            assert_eq!(source.version(), version);
        }
        answer => panic!("{answer:?}"),
    }
}

#[test]
fn snapshots_shorten_the_log_and_a_start_goes_on_from_one() {
    let mut node = Node::alone(small_snapshots(), disk(9));
    for at in 0..60 {
        node.done(create_tenant(&format!("t{at}")));
    }
    assert!(node.snapshots.len() >= 4, "{:?}", node.snapshots);
    let hash = node.metadata().state_hash();
    let mut node = node.again(small_snapshots());
    let restored = node.metadata().version();
    assert!(restored >= MetaVersion(40), "{restored}");
    node.rest();
    assert_eq!(node.metadata().state_hash(), hash);
    assert_eq!(node.metadata().version(), MetaVersion(60));
    node.metadata().check().unwrap();
}

#[test]
fn after_a_failed_write_what_was_under_way_is_unknown_and_only_old_state_is_read() {
    let mut node = Node::alone(config(), disk(10));
    node.done(create_tenant("a"));
    let next = node.disk.stats().submitted + 1;
    let error = DiskError::Io { errno: 5 };
    node.disk
        .set_faults(FaultPlan::once(next, Fault::Fails(error)));
    let lost = node.write(create_tenant("b"));
    node.rest();
    assert_eq!(node.refused(lost), PlaneError::Unknown);
    assert_eq!(node.notices, [PlaneNotice::Group(Notice::Failed(error))]);
    assert_eq!(node.role, Role::Follower);
    let write = node.write(create_tenant("c"));
    let read = node.read(get("a"), Consistency::Linearizable);
    let stale = node.read(get("a"), Consistency::Stale);
    node.turn();
    assert_eq!(node.refused(write), PlaneError::Failed);
    assert_eq!(node.refused(read), PlaneError::Failed);
    assert!(node.object(stale).1.is_some(), "what it has it shows");
    let mut node = node.again(config());
    node.rest();
    let id = node.write(create_tenant("c"));
    node.rest();
    assert!(matches!(node.answer(id), Some(Answer::Written { .. })));
}

#[test]
fn a_full_disk_refuses_what_takes_room_and_goes_on_with_what_makes_some() {
    let mut node = Node::alone(config(), disk(11));
    node.disk.set_capacity(node.disk.used());
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
    assert_eq!(refused, PlaneError::ReadOnly);
    // What makes room goes on for a good while.
    for gone in 0..20 {
        node.done(delete(ObjectKey::tenant(&format!("t{gone}")), 1_000_000));
    }
    let read = node.read(get("default"), Consistency::Linearizable);
    node.rest();
    assert!(node.object(read).1.is_some());
    node.disk.set_capacity(u64::MAX);
    node.pass(Duration::from_secs(3));
    node.done(create_tenant("again"));
}

#[test]
fn limits_are_answered() {
    let mut node = Node::alone(config(), disk(12));
    let too_many = (0..REQUESTS_MAX).map(|_| node.write(Command::Noop));
    let too_many = too_many.last().unwrap() + 1;
    assert_eq!(node.write(Command::Noop), too_many);
    node.rest();
    let limit = REQUESTS_MAX as u64;
    assert_eq!(node.refused(too_many), PlaneError::Busy { limit });
    assert_eq!(node.answers.len(), REQUESTS_MAX + 1);

    // Bytes that wait for a leader.
    let mut node = Node::open(config(), disk(13)).unwrap();
    node.plane.bootstrap(CLUSTER, &[founder(NAMES[0])]);
    let large = "x".repeat(COMMAND_BYTES_MAX / 2);
    let fits = WAITING_BYTES_MAX / (large.len() + 256);
    for _ in 0..fits {
        node.write(describe_tenant("default", &large));
    }
    let refused = node.write(describe_tenant("default", &large));
    node.turn();
    let limit = WAITING_BYTES_MAX as u64;
    assert_eq!(node.refused(refused), PlaneError::Busy { limit });
    assert_eq!(node.plane.status().requests, fits);
    // A command that no log could take is refused at once.
    let too_large = node.write(describe_tenant("default", &"x".repeat(COMMAND_BYTES_MAX)));
    node.turn();
    match node.refused(too_large) {
        PlaneError::Meta(error) => assert_eq!(error.code(), MetaCode::TooLarge),
        error => panic!("{error}"),
    }
}

#[test]
fn stamps_do_not_go_back_with_the_wall_clock() {
    let mut node = Node::alone(config(), disk(14));
    node.pass(Duration::from_secs(60));
    let wall = node.wall();
    node.done(create_tenant("a"));
    let created = |node: &Node, tenant: &str| {
        let object = node.metadata().get(&ObjectKey::tenant(tenant)).unwrap();
        object.meta.created
    };
    let before = created(&node, "a");
    assert_eq!(before, wall);
    node.wall_set = -30_000;
    let by_ms = before.0 - node.wall().0;
    node.done(create_tenant("b"));
    node.done(create_tenant("c"));
    assert_eq!(created(&node, "b"), before);
    assert_eq!(node.notices, [PlaneNotice::ClockBehind { by_ms }]);
    // The next life begins from the last stamp of this one.
    let mut node = node.again(config());
    node.rest();
    node.done(create_tenant("d"));
    assert_eq!(created(&node, "d"), before);
}

#[test]
fn a_clean_end_refuses_what_comes_and_leaves_no_torn_end() {
    let mut node = Node::alone(config(), disk(15));
    node.done(create_tenant("a"));
    let under_way = node.write(create_tenant("b"));
    node.turn();
    node.plane.seal();
    // Whoever is in a hurry says it again.
    node.plane.seal();
    node.rest();
    assert!(node.sealed);
    assert_eq!(node.refused(under_way), PlaneError::Unknown);
    let late = node.write(create_tenant("c"));
    node.turn();
    assert_eq!(node.refused(late), PlaneError::NotReady);
    let mut node = node.again(config());
    node.rest();
    assert_eq!(node.metadata().version(), MetaVersion(2), "it was written");
}

/// A member of the same cluster whose machine is not the metadata.
fn other_machine(disk: pinion_simkit::SimDisk, machine: &[u8], commands: &[&[u8]]) -> Node {
    let mut disk = disk;
    let opened = Group::open(config().group, &mut disk, WallMs(0)).unwrap();
    let mut group = opened.group;
    let machine = Bytes::copy_from_slice(machine);
    group.bootstrap(ONE, CLUSTER, &[ONE], machine);
    let mut now = Monotonic::ZERO;
    let mut commands = commands.iter().zip(1..).peekable();
    loop {
        if group.status().role == Role::Leader {
            for (command, number) in commands.by_ref() {
                let id = ProposalId {
                    member: ONE,
                    number,
                };
                group.propose(id, Bytes::copy_from_slice(command)).unwrap();
            }
        }
        group.end_turn(now);
        while let Some(output) = group.poll_output() {
            assert!(!matches!(output, Output::WantSnapshot { .. }));
        }
        while let Some(request) = group.poll_disk() {
            disk.submit(now, request);
        }
        let Some(due) = disk.next_deadline() else {
            break;
        };
        now = now.max(due);
        let done = disk.poll_done(now).unwrap();
        group.handle_disk_done(now, done);
    }
    assert!(commands.peek().is_none());
    match Node::open(config(), disk) {
        Ok(node) => node,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_command_of_another_release_stops_the_plane() {
    let genesis = pinion_metadata::Metadata::founded(CLUSTER, &[founder(NAMES[0])]).unwrap();
    let known = Envelope {
        stamp: WallMs(1),
        request: 0,
        principal: "p:ana".into(),
        origin: BrokerNumber(1),
        expect: Expect::Any,
        command: create_tenant("a"),
    };
    let known = known.encode().unwrap();
    let mut unknown = known.clone();
    unknown[4] = 2;
    let machine = genesis.snapshot().encode();
    let mut node = other_machine(disk(16), &machine, &[&known, &unknown, &known]);
    let waits = node.write(create_tenant("b"));
    let reads = node.read(get("a"), Consistency::Linearizable);
    node.pass(Duration::from_secs(1));
    assert!(
        matches!(node.notices[..], [PlaneNotice::Halted(Halt::Entry { .. })]),
        "{:?}",
        node.notices
    );
    // What was proposed before it was met may be decided on elsewhere.
    assert!(matches!(
        node.refused(waits),
        PlaneError::Failed | PlaneError::Unknown
    ));
    assert_eq!(node.refused(reads), PlaneError::Failed);
    let stale = node.read(get("a"), Consistency::Stale);
    node.turn();
    assert_eq!(node.refused(stale), PlaneError::Failed);
    assert_eq!(node.metadata().version(), MetaVersion(1), "and no further");
    let next = node.plane.next_deadline().unwrap();
    assert!(next.since(node.now) > AUDIT_TRIM_EVERY / 2);
}

#[test]
fn metadata_that_is_not_the_members_is_not_opened() {
    let open = |seed, machine: &[u8]| {
        let mut disk = disk(seed);
        let opened = Group::open(config().group, &mut disk, WallMs(0)).unwrap();
        let mut group = opened.group;
        let machine = Bytes::copy_from_slice(machine);
        group.bootstrap(ONE, CLUSTER, &[ONE], machine);
        let mut now = Monotonic::ZERO;
        loop {
            group.end_turn(now);
            while let Some(request) = group.poll_disk() {
                disk.submit(now, request);
            }
            let Some(due) = disk.next_deadline() else {
                break;
            };
            now = now.max(due);
            let done = disk.poll_done(now).unwrap();
            group.handle_disk_done(now, done);
        }
        Node::open(config(), disk).map(|node| node.found)
    };
    let mut machine = pinion_metadata::Metadata::founded(CLUSTER, &[founder(NAMES[0])]).unwrap();
    assert!(open(17, &machine.snapshot().encode()).is_ok());
    let error = open(18, b"nothing of the kind").unwrap_err();
    assert!(matches!(error, PlaneOpenError::Metadata { .. }), "{error}");
    let other = pinion_metadata::Metadata::genesis([1; 16]);
    let error = open(19, &other.snapshot().encode()).unwrap_err();
    assert!(
        matches!(
            error,
            PlaneOpenError::Contradiction {
                what: "cluster",
                ..
            }
        ),
        "{error}"
    );
    let envelope = Envelope {
        stamp: WallMs(1),
        request: 0,
        principal: "p:ana".into(),
        origin: BrokerNumber(1),
        expect: Expect::Any,
        command: Command::Noop,
    };
    machine.apply(2, &envelope);
    let error = open(20, &machine.snapshot().encode()).unwrap_err();
    assert!(
        matches!(
            error,
            PlaneOpenError::Contradiction {
                what: "snapshot",
                ..
            }
        ),
        "{error}"
    );
}
