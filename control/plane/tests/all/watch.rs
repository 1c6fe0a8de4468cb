//! Those who follow the changes: every change once, in order, or the word that it
//! cannot be.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{
    CLUSTER, NAMES, Node, config, create_tenant, delete, describe_tenant, disk, founder,
    small_snapshots,
};
use bytes::Bytes;
use pinion_metadata::command::{BatchItem, CreateNamespace};
use pinion_metadata::tenant::NamespaceQuotas;
use pinion_metadata::{Change, Command, Expect, MetaVersion, ObjectKey, ResnapshotRequired};
use pinion_plane::limits::{WATCH_CREDIT_MAX, WATCH_SHARED_MAX, WATCHERS_MAX};
use pinion_plane::{Form, WatchError, WatchId};

/// All that a watcher is given now, `at_once` at a time.
fn drain(node: &mut Node, id: WatchId, at_once: usize) -> Vec<Change> {
    let mut found = Vec::new();
    loop {
        let taken = node.plane.poll_watch(id, at_once).unwrap();
        if taken.is_empty() {
            node.watch_ready.remove(&id);
            return found;
        }
        found.extend(taken.iter().map(|watched| watched.change.clone()));
    }
}

#[test]
fn a_watcher_is_given_every_change_after_its_version_once() {
    let mut node = Node::alone(config(), disk(1));
    for at in 0..5 {
        node.done(create_tenant(&format!("t{at}")));
    }
    let from = MetaVersion(2);
    let id = node.plane.watch(Some(CLUSTER), from).unwrap();
    node.plane.watch_credit(id, 100);
    node.turn();
    assert!(node.watch_ready.contains(&id), "there is something at once");
    let mut found = drain(&mut node, id, 2);
    for at in 5..9 {
        node.done(create_tenant(&format!("t{at}")));
        assert!(node.watch_ready.contains(&id));
        found.extend(drain(&mut node, id, 2));
    }
    assert_eq!(found, node.changes[2..], "each once, in order");
    node.turn();
    assert!(!node.watch_ready.contains(&id), "it has everything");
    node.plane.unwatch(id);
    assert_eq!(
        node.plane.poll_watch(id, 1).err(),
        Some(WatchError::Unknown)
    );
    assert_eq!(node.plane.status().watchers, 0);
}

#[test]
fn without_credit_nothing_is_given_and_with_it_what_waited() {
    let mut node = Node::alone(config(), disk(2));
    let id = node.plane.watch(None, MetaVersion(0)).unwrap();
    for at in 0..5 {
        node.done(create_tenant(&format!("t{at}")));
    }
    assert!(!node.watch_ready.contains(&id), "it could take nothing");
    assert!(node.plane.poll_watch(id, 10).unwrap().is_empty());
    node.plane.watch_credit(id, 3);
    node.turn();
    assert!(node.watch_ready.contains(&id));
    assert_eq!(drain(&mut node, id, 10).len(), 3);
    node.turn();
    assert!(!node.watch_ready.contains(&id), "its credit is used up");
    node.plane.watch_credit(id, 1);
    node.plane.watch_credit(id, u32::MAX);
    node.turn();
    let rest = drain(&mut node, id, 10);
    assert_eq!(rest, node.changes[3..]);
    // More credit than may be is as much as may be.
    for at in 0..WATCH_CREDIT_MAX {
        node.write(describe_tenant("default", &at.to_string()));
        if at % 500 == 0 {
            node.rest();
        }
    }
    node.rest();
    let given = drain(&mut node, id, WATCH_CREDIT_MAX as usize).len();
    assert_eq!(given, WATCH_CREDIT_MAX as usize - 2);
}

#[test]
fn a_version_that_there_is_no_way_from_is_said_so() {
    let mut node = Node::open(small_snapshots(), disk(3)).unwrap();
    assert_eq!(
        node.plane.watch(None, MetaVersion(0)),
        Err(WatchError::NotReady)
    );
    node.plane.bootstrap(CLUSTER, &[founder(NAMES[0])]);
    assert_eq!(
        node.plane.watch(None, MetaVersion(0)),
        Err(WatchError::NotReady)
    );
    node.rest();
    for at in 0..40 {
        node.done(create_tenant(&format!("t{at}")));
    }
    let (oldest, newest) = (MetaVersion(0), MetaVersion(40));
    let anew = Err(WatchError::Resnapshot(ResnapshotRequired {
        oldest,
        newest,
    }));
    assert_eq!(node.plane.watch(None, MetaVersion(41)), anew, "the future");
    assert_eq!(node.plane.watch(Some([1; 16]), MetaVersion(40)), anew);
    assert!(node.plane.watch(Some(CLUSTER), MetaVersion(40)).is_ok());

    let mut node = node.again(small_snapshots());
    let (oldest, early) = (node.metadata().version(), MetaVersion(40));
    assert!(oldest > MetaVersion(20));
    // It does not know yet that it has been at 40, and must not call it the future.
    assert_eq!(node.plane.watch(None, early), Err(WatchError::NotReady));
    node.rest();
    assert!(node.plane.watch(None, early).is_ok());
    let anew = Err(WatchError::Resnapshot(ResnapshotRequired {
        oldest,
        newest,
    }));
    assert_eq!(node.plane.watch(None, MetaVersion(oldest.0 - 1)), anew);
    assert!(node.plane.watch(None, oldest).is_ok());
}

#[test]
fn a_watcher_that_falls_too_far_behind_is_told_even_without_credit() {
    let mut node = Node::alone(config(), disk(4));
    node.done(create_tenant("big"));
    for part in 0..8 {
        let items = (0..250).map(|at| BatchItem {
            expect: Expect::Any,
            // Long enough that the history is full of bytes before it is of changes.
            command: Command::CreateNamespace(CreateNamespace {
                tenant: "big".into(),
                name: format!("n{part}-{at}").into(),
                description: "x".repeat(1_000).into(),
                quotas: NamespaceQuotas::default(),
            }),
        });
        node.done(Command::Batch(items.collect()));
    }
    let from = node.metadata().version();
    let lost = node.plane.watch(None, from).unwrap();
    let follows = node.plane.watch(None, from).unwrap();
    let mut found = 0;
    // Each way changes the tenant and everything in it.
    while node.metadata().changes_since(from, 0).is_ok() {
        node.done(delete(ObjectKey::tenant("big"), 1_000));
        node.done(Command::Undelete(ObjectKey::tenant("big")));
        node.plane.watch_credit(follows, 4_096);
        node.turn();
        let changes = drain(&mut node, follows, 300);
        assert!(changes.len() > WATCH_SHARED_MAX);
        let first = from.0 + found + 1;
        let versions = changes.iter().map(|change| change.version.0);
        assert!(versions.eq(first..first + changes.len() as u64), "no gap");
        found += changes.len() as u64;
    }
    assert!(node.watch_ready.contains(&lost), "it is told");
    let newest = node.metadata().version();
    match node.plane.poll_watch(lost, 1) {
        Err(WatchError::Resnapshot(way)) => {
            assert!(way.newest == newest && way.oldest > from, "{way}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(
        node.plane.poll_watch(lost, 1).err(),
        Some(WatchError::Unknown)
    );
    assert_eq!(node.plane.status().watchers, 1);
}

#[test]
fn all_who_follow_share_one_change_and_its_encoding() {
    let mut node = Node::alone(config(), disk(5));
    let watchers: Vec<WatchId> = (0..200)
        .map(|_| node.plane.watch(None, MetaVersion(0)).unwrap())
        .collect();
    for id in &watchers {
        node.plane.watch_credit(*id, 10);
    }
    for at in 0..3 {
        node.write(create_tenant(&format!("t{at}")));
    }
    node.rest();
    assert_eq!(node.watch_ready.len(), watchers.len());
    let encoded = AtomicUsize::new(0);
    let mut first = Vec::new();
    for id in &watchers {
        let taken = node.plane.poll_watch(*id, 10).unwrap();
        for watched in &taken {
            let bytes = watched.encoded(Form::Json, |change| {
                encoded.fetch_add(1, Ordering::Relaxed);
                Bytes::from(change.key.to_string())
            });
            assert_eq!(bytes, watched.change.key.to_string().as_bytes());
            let other = watched.encoded(Form::Protobuf, |_| Bytes::from_static(b"p"));
            assert_eq!(&other[..], b"p", "forms are apart");
        }
        if first.is_empty() {
            first = taken;
            continue;
        }
        assert!(
            taken
                .iter()
                .zip(&first)
                .all(|(one, other)| Arc::ptr_eq(one, other))
        );
    }
    assert_eq!(encoded.into_inner(), 3, "once, and not once for each");
}

#[test]
fn followers_are_bounded() {
    let mut node = Node::alone(config(), disk(6));
    let ids: Vec<WatchId> = (0..WATCHERS_MAX)
        .map(|_| node.plane.watch(None, MetaVersion(0)).unwrap())
        .collect();
    let limit = WATCHERS_MAX;
    let full = Err(WatchError::TooMany { limit });
    assert_eq!(node.plane.watch(None, MetaVersion(0)), full);
    node.plane.unwatch(ids[5]);
    let next = node.plane.watch(None, MetaVersion(0)).unwrap();
    assert!(!ids.contains(&next), "a number is not used again");
}
