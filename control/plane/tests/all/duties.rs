//! What a leader does of its own accord.

use core::time::Duration;

use crate::cluster::Cluster;
use crate::support::{Node, PATIENCE, config, create_namespace, create_tenant, delete, disk, name};
use pinion_metadata::command::{CreateKeys, Revoke, RotateKeys};
use pinion_metadata::identity::{NewKeys, Revoked, StoredKey};
use pinion_metadata::limits::{RETIRED_KEPT_MS, TOKEN_SKEW_MS};
use pinion_metadata::{
    Body, ChangeKind, Command, Expect, MetaCode, MetaVersion, ObjectKey, Subject,
};
use pinion_plane::limits::DUTY_LOOK;
use pinion_plane::{Answer, Caller, PlaneError, Request, Write};

const GRACE: Duration = Duration::from_secs(600);

fn deleted(seed: u64) -> Node {
    let mut node = Node::alone(config(), disk(seed));
    node.done(create_tenant("a"));
    node.done(create_namespace("a", "n"));
    let grace_ms = u64::try_from(GRACE.as_millis()).unwrap();
    node.done(delete(ObjectKey::tenant("a"), grace_ms));
    node
}

fn is_there(node: &Node) -> bool {
    node.metadata().get(&ObjectKey::tenant("a")).is_some()
}

#[test]
fn what_is_deleted_is_purged_when_its_grace_is_over_and_not_before() {
    let mut node = deleted(1);
    assert_eq!(node.plane.next_deadline(), Some(node.now + DUTY_LOOK));
    node.pass(GRACE - Duration::from_secs(1));
    assert_eq!(node.metadata().version(), MetaVersion(4));
    assert!(is_there(&node));
    node.pass(Duration::from_secs(2));
    let last: Vec<_> = node.changes[4..]
        .iter()
        .map(|change| (change.kind, change.key.to_string()))
        .collect();
    let gone = |key: &str| (ChangeKind::Delete, key.to_owned());
    assert_eq!(last, [gone("namespace/a/n"), gone("tenant/a")]);
    let next = node.plane.next_deadline().unwrap();
    assert!(next.since(node.now) > DUTY_LOOK, "nothing is due any more");
}

#[test]
fn a_restart_goes_on_with_what_was_due() {
    let mut node = deleted(2).again(config());
    node.wall_set = i64::try_from(GRACE.as_millis()).unwrap();
    node.pass(Duration::from_secs(2));
    assert!(!is_there(&node));
}

#[test]
fn a_clock_that_was_set_on_is_noticed_and_one_that_was_set_back_waited_for() {
    let mut node = deleted(3);
    node.pass(Duration::from_secs(1));
    node.wall_set = i64::try_from(GRACE.as_millis()).unwrap() / 2;
    node.pass(GRACE / 2 + DUTY_LOOK);
    assert!(!is_there(&node), "by the leader's clock it is over");

    let mut node = deleted(4);
    node.pass(GRACE / 2);
    node.done(create_tenant("b"));
    node.wall_set = -i64::try_from(GRACE.as_millis()).unwrap();
    node.pass(GRACE);
    assert!(is_there(&node), "stamps stand still");
    node.pass(GRACE);
    assert!(!is_there(&node));
}

#[test]
fn a_clock_that_jumps_gives_no_revoked_token_back() {
    let hour = Duration::from_secs(3600);
    let mut node = Node::alone(config(), disk(7));
    let what = Revoked::Subject(Subject::parse("p:ana").unwrap());
    let at = node.wall();
    let key = ObjectKey::revocation("default", what.clone());
    node.done(Command::Revoke(Revoke {
        tenant: "default".into(),
        what,
        at,
    }));
    node.pass(Duration::from_secs(10));
    // For one turn everything that anybody was given seems to be over.
    node.wall_set = i64::try_from(2 * hour.as_millis()).unwrap();
    node.done(create_tenant("a"));
    node.wall_set = 0;
    node.pass(hour);
    assert!(
        node.metadata().get(&key).is_some(),
        "a token may live for so long"
    );
    node.pass(Duration::from_millis(TOKEN_SKEW_MS) + DUTY_LOOK);
    assert!(node.metadata().get(&key).is_none());
}

#[test]
fn many_duties_are_done_some_at_a_time_beside_what_clients_ask() {
    let mut node = Node::alone(config(), disk(5));
    for at in 0..300 {
        node.write(create_tenant(&format!("t{at}")));
        node.write(delete(ObjectKey::tenant(&format!("t{at}")), 1_000));
    }
    node.rest();
    node.now = node.now + Duration::from_secs(2);
    let mut asked = Vec::new();
    let mut steps = 0;
    while node.metadata().objects().count() > 3 {
        asked.push(node.write(Command::Noop));
        assert!(node.step(), "duties go on by themselves");
        steps += 1;
        assert!(steps < 1_000);
    }
    node.rest();
    assert!(asked.iter().all(|id| node.answer(*id).is_some()));
    assert_eq!(node.metadata().version(), MetaVersion(900));
}

#[test]
fn keys_that_are_to_be_rotated_are_asked_for_until_they_are() {
    let day = Duration::from_secs(24 * 3600);
    let key = |byte| StoredKey {
        public: [byte; 32],
        sealed: [byte; 68],
    };
    let mut node = Node::alone(config(), disk(6));
    node.done(Command::CreateKeys(CreateKeys {
        tenant: "default".into(),
        keys: NewKeys {
            current: key(1),
            next: key(2),
            rotate_every_ms: u64::try_from(day.as_millis()).unwrap(),
        },
    }));
    node.pass(day - Duration::from_secs(10));
    assert!(node.rotations.is_empty());
    node.pass(Duration::from_secs(10) + 3 * DUTY_LOOK);
    let asked = ("default".to_owned(), MetaVersion(1));
    assert!((3..=4).contains(&node.rotations.len()), "each minute");
    assert!(node.rotations.iter().all(|one| *one == asked));
    node.rotations.clear();
    node.done(Command::RotateKeys(RotateKeys {
        tenant: "default".into(),
        next: key(3),
    }));
    node.pass(day - 10 * DUTY_LOOK);
    assert!(node.rotations.is_empty(), "it is done");
}

/// What the owner of a node does when it is told to rotate the keys of `version`.
fn rotate(cluster: &mut Cluster, at: usize, version: MetaVersion, byte: u8) -> u64 {
    let node = &mut cluster.nodes[at];
    let next = StoredKey {
        public: [byte; 32],
        sealed: [byte; 68],
    };
    let tenant = "default".into();
    let deadline = node.now + PATIENCE;
    node.request(Request::Write(Write {
        caller: Caller {
            principal: "pinion:rotation".into(),
            request: 0,
            remote: None,
        },
        expect: Expect::Version(version),
        command: Command::RotateKeys(RotateKeys { tenant, next }),
        deadline,
    }))
}

#[test]
fn keys_that_are_due_are_rotated_once_in_a_cluster_and_the_old_ones_count_on() {
    let mut cluster = Cluster::forming(7, 3);
    cluster.until(Duration::from_secs(20), |cluster| {
        cluster.agrees() && cluster.leader().is_some()
    });
    let leader = cluster.leader().unwrap();
    let key = |byte| StoredKey {
        public: [byte; 32],
        sealed: [byte; 68],
    };
    let id = cluster.nodes[leader].write(Command::CreateKeys(CreateKeys {
        tenant: "default".into(),
        keys: NewKeys {
            current: key(1),
            next: key(2),
            rotate_every_ms: RETIRED_KEPT_MS,
        },
    }));
    assert!(matches!(cluster.answer(leader, id), Answer::Written { .. }));
    cluster.pass(Duration::from_secs(1));
    for node in &mut cluster.nodes {
        node.wall_set = i64::try_from(RETIRED_KEPT_MS).unwrap();
    }
    cluster.turn(leader);
    cluster.pass(Duration::from_secs(1));
    let asked: Vec<usize> = (0..3)
        .filter(|at| !cluster.nodes[*at].rotations.is_empty())
        .collect();
    assert_eq!(asked, [leader], "nobody but who leads is asked");
    let (_, version) = cluster.nodes[leader].rotations[0].clone();

    // Another leads before the keys are rotated, and is asked for the same.
    let next = (leader + 1) % 3;
    cluster.nodes[leader].plane.transfer(&name(next)).unwrap();
    cluster.turn(leader);
    cluster.until(Duration::from_secs(9), |cluster| {
        cluster.leader() == Some(next)
    });
    cluster.pass(Duration::from_secs(1));
    let again = cluster.nodes[next].rotations.first().cloned();
    assert_eq!(again, Some(("default".to_owned(), version)));
    let (one, other) = (
        rotate(&mut cluster, next, version, 3),
        rotate(&mut cluster, leader, version, 4),
    );
    let done = [cluster.answer(next, one), cluster.answer(leader, other)];
    let written = |answer: &&Answer| matches!(answer, Answer::Written { .. });
    assert_eq!(done.iter().filter(written).count(), 1, "{done:?}");
    let conflict = |answer: &&Answer| {
        let refused = matches!(answer, Answer::Refused(PlaneError::Meta(error)) if error.code() == MetaCode::VersionConflict);
        refused
    };
    assert_eq!(done.iter().filter(conflict).count(), 1, "{done:?}");

    cluster.pass(Duration::from_secs(1));
    let machine = cluster.nodes[next].metadata();
    let object = machine.get(&ObjectKey::signing_keys("default")).unwrap();
    let Body::SigningKeys(keys) = &object.body else {
        panic!("{object:?}");
    };
    assert_eq!(keys.current, key(2), "what was published before signs now");
    assert!([key(3), key(4)].contains(&keys.next));
    // The last token that the old one signed is over when it counts no more.
    let old = keys.previous.unwrap();
    assert_eq!(old.key, key(1));
    assert_eq!(old.until.0, keys.rotated.0 + RETIRED_KEPT_MS);
}
