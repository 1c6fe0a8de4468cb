//! Several commands as one.

use pinion_metadata::command::BatchItem;
use pinion_metadata::limits::BATCH_COMMANDS_MAX;
use pinion_metadata::tenant::{NamespaceQuotas, TenantQuotas};
use pinion_metadata::{Command, Expect, MetaCode, MetaError, MetaVersion, Metadata, ObjectKey};

use crate::support::{
    CLUSTER, FREE, OPEN, Replica, create_namespace, create_tenant, delete, envelope,
    update_namespace, update_tenant,
};

fn batch(commands: impl IntoIterator<Item = Command>) -> Command {
    let item = |command| BatchItem {
        expect: Expect::Any,
        command,
    };
    Command::Batch(commands.into_iter().map(item).collect())
}

#[test]
fn a_later_command_sees_what_an_earlier_one_did() {
    let mut replica = Replica::new();
    let done = replica.done(batch([
        create_tenant("acme", FREE),
        create_namespace("acme", "b", OPEN),
        create_namespace("acme", "a", OPEN),
    ]));
    assert_eq!(done.version, MetaVersion(3));
    let keys: Vec<String> = done
        .changes
        .iter()
        .map(|change| change.key.to_string())
        .collect();
    // Versions are given in the order of keys, whatever the order of commands.
    assert_eq!(
        keys,
        ["tenant/acme", "namespace/acme/a", "namespace/acme/b"]
    );
}

#[test]
fn one_refusal_is_the_refusal_of_all() {
    let mut replica = Replica::new();
    let objects = replica.state.objects().count();
    let applied = replica.apply(&envelope(batch([
        create_tenant("acme", FREE),
        create_namespace("acme", "a", OPEN),
        create_namespace("acme", "a", OPEN),
    ])));
    let Err(MetaError::Batch { at, error }) = applied.result else {
        panic!("{applied:?}");
    };
    assert_eq!((at, error.code()), (2, MetaCode::Exists));
    assert_eq!(replica.state.objects().count(), objects);
    // Not even a number is used up.
    replica.done(create_tenant("other", FREE));
    let other = replica.get(&ObjectKey::tenant("other"));
    assert!(format!("{other:?}").contains("TenantNumber(2)"));
}

#[test]
fn what_was_made_and_taken_away_by_one_batch_never_was() {
    let mut replica = Replica::new();
    let key = ObjectKey::namespace("default", "a");
    let done = replica.done(batch([
        create_namespace("default", "a", OPEN),
        delete(&key, true, 0),
        Command::Purge(key.clone()),
    ]));
    assert!(done.changes.is_empty());
    assert_eq!(done.version, MetaVersion(0));
    // And one that was there, and is taken away and made again, is another.
    replica.done(create_namespace("default", "a", OPEN));
    let done = replica.done(batch([
        delete(&key, true, 0),
        Command::Purge(key.clone()),
        create_namespace("default", "a", OPEN),
    ]));
    assert_eq!(done.changes.len(), 1);
    assert_eq!(replica.get(&key).meta.generation, 1);
}

#[test]
fn a_condition_holds_when_its_turn_comes() {
    let mut replica = Replica::new();
    let item = |expect, command| BatchItem { expect, command };
    let done = |items: Vec<BatchItem>| Command::Batch(items.into());
    replica.done(done(vec![
        item(Expect::Absent, create_tenant("acme", FREE)),
        item(Expect::Any, create_namespace("acme", "a", OPEN)),
    ]));
    let twice = done(vec![
        item(Expect::Absent, create_namespace("acme", "b", OPEN)),
        item(Expect::Absent, create_namespace("acme", "b", OPEN)),
    ]);
    replica.refused(twice, MetaCode::Batch);
    let of_version = |version| {
        let update = Command::UpdateTenant(update_tenant("acme"));
        done(vec![item(Expect::Version(MetaVersion(version)), update)])
    };
    replica.refused(of_version(2), MetaCode::Batch);
    replica.done(of_version(1));
}

/// What a command looks through is what the commands before it left: each object
/// once, and as it is now.
#[test]
fn a_command_looks_at_no_object_as_it_was_before_the_batch() {
    let mut replica = Replica::new();
    let streams = |max_streams| NamespaceQuotas {
        max_streams,
        ..OPEN
    };
    replica.done(create_namespace("default", "a", streams(5)));
    let mut less = update_namespace("default", "a");
    less.quotas = Some(streams(3));
    let mut tenant = update_tenant("default");
    tenant.quotas = Some(TenantQuotas {
        max_streams: 4,
        ..FREE
    });
    replica.done(batch([
        Command::UpdateNamespace(less),
        Command::UpdateTenant(tenant),
    ]));
    let gone = replica.done(batch([
        create_namespace("default", "b", OPEN),
        delete(&ObjectKey::tenant("default"), true, 10),
    ]));
    assert_eq!(
        gone.changes.len(),
        3,
        "the tenant and both namespaces, once"
    );
}

#[test]
fn a_batch_has_its_bounds_and_no_batch_in_it() {
    let mut replica = Replica::new();
    let noops = |count| batch(vec![Command::Noop; count]);
    replica.done(noops(1));
    replica.done(noops(BATCH_COMMANDS_MAX));
    let mut state = Metadata::genesis(CLUSTER);
    for bad in [noops(0), noops(BATCH_COMMANDS_MAX + 1), batch([noops(1)])] {
        let envelope = envelope(bad);
        let error = envelope.encode().unwrap_err();
        assert_eq!(error.code(), MetaCode::BadBatch);
        let applied = state.apply(state.applied_index() + 1, &envelope);
        assert_eq!(applied.result.unwrap_err().code(), MetaCode::BadBatch);
    }
}
