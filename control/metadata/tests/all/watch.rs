//! Following changes: no gap, no repeat, and a plain word when there is no way.

use pinion_metadata::command::UpdateTenant;
use pinion_metadata::limits::{WATCH_BYTES_KEPT, WATCH_CHANGES_KEPT};
use pinion_metadata::{
    Change, ChangeKind, Command, MetaVersion, Metadata, ObjectKey, ResnapshotRequired,
};
use std::collections::BTreeMap;

use crate::support::{CLUSTER, OPEN, Replica, create_namespace, envelope, update_tenant};

/// Applies without checking the whole state each time.
fn describe(state: &mut Metadata, text: String) {
    let command = Command::UpdateTenant(UpdateTenant {
        description: Some(text.into()),
        ..update_tenant("default")
    });
    let applied = state.apply(state.applied_index() + 1, &envelope(command));
    assert_eq!(applied.changes.len(), 1);
}

#[test]
fn who_follows_has_what_a_snapshot_has() {
    let mut replica = Replica::new();
    let mut seen: BTreeMap<ObjectKey, MetaVersion> = BTreeMap::new();
    for object in replica.state.objects() {
        seen.insert(object.meta.key.clone(), object.meta.version);
    }
    let mut at = replica.state.version();
    for name in ["a", "b", "c"] {
        replica.done(create_namespace("default", name, OPEN));
        // One at a time, and not always at once.
        if name == "b" {
            continue;
        }
        loop {
            let changes = replica.state.changes_since(at, 1).unwrap();
            at = changes.version;
            let Some(Change { version, key, .. }) = changes.items.into_iter().next() else {
                break;
            };
            seen.insert(key, version);
        }
    }
    let now = replica.state.objects();
    let now = now.map(|object| (object.meta.key.clone(), object.meta.version));
    assert!(now.eq(seen));
}

#[test]
fn the_present_version_has_no_changes_after_it() {
    let mut replica = Replica::new();
    let made = replica.done(create_namespace("default", "a", OPEN));
    assert_eq!(made.changes[0].kind, ChangeKind::Create);
    let changes = replica.state.changes_since(made.version, 10).unwrap();
    assert!(changes.items.is_empty());
    assert_eq!(changes.version, made.version);
}

#[test]
fn the_future_is_not_waited_for() {
    let replica = Replica::new();
    let (oldest, newest) = (MetaVersion(0), MetaVersion(0));
    assert_eq!(
        replica.state.changes_since(MetaVersion(1), 10),
        Err(ResnapshotRequired { oldest, newest })
    );
}

#[test]
fn a_replica_that_was_restored_knows_no_past() {
    let mut replica = Replica::new();
    let before = replica.state.version();
    let made = replica.done(create_namespace("default", "a", OPEN));
    replica.restart();
    assert_eq!(
        replica.state.changes_since(before, 10),
        Err(ResnapshotRequired {
            oldest: made.version,
            newest: made.version,
        })
    );
    assert!(replica.state.changes_since(made.version, 10).is_ok());
    replica.done(create_namespace("default", "b", OPEN));
    let since = replica.state.changes_since(made.version, 10).unwrap();
    assert_eq!(since.items.len(), 1);
}

#[test]
fn so_many_changes_are_kept_and_no_more() {
    let mut state = Metadata::genesis(CLUSTER);
    let kept = WATCH_CHANGES_KEPT as u64;
    for at in 0..=kept {
        describe(&mut state, at.to_string());
    }
    let newest = state.version();
    assert_eq!(newest.0, kept + 1);
    let oldest = MetaVersion(1);
    let trimmed = state.changes_since(MetaVersion(0), 1);
    assert_eq!(trimmed, Err(ResnapshotRequired { oldest, newest }));
    let all = state.changes_since(oldest, usize::MAX).unwrap();
    assert_eq!(all.items.len(), WATCH_CHANGES_KEPT);
    assert_eq!(all.items[0].version, MetaVersion(2));
    assert_eq!(all.version, newest);
}

#[test]
fn so_many_bytes_are_kept_and_no_more() {
    let mut state = Metadata::genesis(CLUSTER);
    let text = |at: u64| format!("{at:01024}");
    let enough = WATCH_BYTES_KEPT / 1024 + 1;
    for at in 0..enough {
        describe(&mut state, text(at));
    }
    let Err(ResnapshotRequired { oldest, .. }) = state.changes_since(MetaVersion(0), 1) else {
        panic!("all of them are kept");
    };
    // Each is somewhat longer than its description.
    assert!(oldest.0 > 0 && oldest.0 < enough / 3, "{oldest}");
    assert!(state.changes_since(oldest, 1).is_ok());
}
