//! Deletion in two steps, and the way back.

use pinion_metadata::command::{
    ConfirmPurged, Declare, Delete, DeleteFacts, Import, Imported, UpdateResource, UpdateTenant,
};
use pinion_metadata::limits::{CONFIRMED_MAX, GRACE_MS_MAX};
use pinion_metadata::tenant::{NamespaceQuotas, Tenant, TenantQuotas};
use pinion_metadata::{
    Applied, Body, BrokerNumber, ChangeKind, Command, Duty, Filter, ListQuery, MetaCode, ObjectKey,
    ObjectKind, Usage,
};
use pinion_types::{ResourceId, ResourceKind, WallMs};
use proptest::prelude::*;

use crate::support::{
    FREE, OPEN, Replica, SPEC, create_namespace, create_tenant, declare, delete, envelope, object,
    seat, update_namespace, update_resource, update_tenant,
};

const STREAM: ResourceKind = ResourceKind::Stream;
const WEEK: u64 = 7 * 24 * 3600 * 1000;

fn stream(name: &str) -> ObjectKey {
    ObjectKey::resource(STREAM, "acme", "n", name)
}

/// A tenant `acme`, its namespace `n`, and in it the streams `x` and `y`.
fn acme() -> Replica {
    let mut replica = Replica::with_brokers();
    replica.done(create_tenant("acme", FREE));
    replica.done(create_namespace("acme", "n", OPEN));
    for name in ["x", "y"] {
        let command = Declare {
            seats: Box::new([seat(2, &[], 0)]),
            ..declare(STREAM, "acme", "n", name)
        };
        replica.done(Command::Declare(command));
    }
    replica
}

/// Applies at a time.
fn at(replica: &mut Replica, ms: u64, command: Command) -> Applied {
    let mut envelope = envelope(command);
    envelope.stamp = WallMs(ms);
    replica.apply(&envelope)
}

/// What a leader proposes.
fn commands(duties: Vec<Duty>) -> Vec<Command> {
    let command = |duty| match duty {
        Duty::Purge(key) => Command::Purge(key),
        other @ Duty::RotateKeys { .. } => panic!("{other:?}"),
    };
    duties.into_iter().map(command).collect()
}

#[track_caller]
fn refused(applied: &Applied, code: MetaCode) {
    let error = applied.result.as_ref().unwrap_err();
    assert_eq!(error.code(), code, "{error}");
}

#[test]
fn what_is_deleted_can_be_taken_back_and_is_the_same() {
    let mut replica = acme();
    let before = replica.get(&stream("x")).clone();
    let deleted = replica.done(delete(&stream("x"), false, WEEK));
    assert_eq!(deleted.changes.len(), 1, "its placement stays");
    let deleting = object(&deleted).meta.deleting.unwrap();
    assert_eq!(deleting.since, WallMs(1_000));
    assert_eq!(deleting.purge_at, WallMs(1_000 + WEEK));
    replica.restart();

    // It is there for nobody.
    let again = delete(&stream("x"), false, WEEK);
    replica.refused(again, MetaCode::Deleting);
    let same = declare(STREAM, "acme", "n", "x");
    replica.refused(Command::Declare(same), MetaCode::Deleting);
    let change = update_resource(STREAM, "acme", "n", "x");
    replica.refused(Command::UpdateResource(change), MetaCode::Deleting);
    assert_eq!(replica.state.namespace_usage("acme", "n").resources, 1);

    let back = replica.done(Command::Undelete(stream("x")));
    assert_eq!(object(&back).body, before.body);
    assert_eq!(object(&back).meta.generation, before.meta.generation);
    assert_eq!(object(&back).meta.deleting, None);
    assert_eq!(replica.state.namespace_usage("acme", "n").resources, 2);
    replica.refused(Command::Undelete(stream("x")), MetaCode::NotDeleting);
    replica.refused(Command::Undelete(stream("z")), MetaCode::NotFound);
}

#[test]
fn what_is_in_use_is_not_deleted_unless_forced() {
    let mut replica = acme();
    let with = |key: ObjectKey, force, facts| {
        Command::Delete(Delete {
            key,
            force,
            grace_ms: WEEK,
            facts,
        })
    };
    let read = DeleteFacts {
        subscribers: 1,
        ..DeleteFacts::default()
    };
    let full = DeleteFacts {
        durable_bytes: 1,
        ..DeleteFacts::default()
    };
    replica.refused(with(stream("x"), false, read), MetaCode::HasSubscribers);
    replica.refused(with(stream("x"), false, full), MetaCode::HasData);
    let none = DeleteFacts::default();
    let (tenant, namespace) = (ObjectKey::tenant("acme"), ObjectKey::namespace("acme", "n"));
    replica.refused(with(tenant, false, none), MetaCode::NotEmpty);
    replica.refused(with(namespace.clone(), false, none), MetaCode::NotEmpty);
    replica.refused(delete(&stream("x"), false, 0), MetaCode::GraceRequired);
    let long = GRACE_MS_MAX + 1;
    replica.refused(delete(&stream("x"), true, long), MetaCode::BadSpec);
    replica.done(with(stream("x"), true, full));
    // What is deleted is in the way of nothing.
    replica.done(delete(&stream("y"), false, WEEK));
    replica.done(with(namespace, false, none));
}

#[test]
fn only_tenants_namespaces_and_resources_are_deleted() {
    let mut replica = acme();
    for key in [
        ObjectKey::placement(STREAM, "acme", "n", "x"),
        ObjectKey::Tombstone(ResourceId(1)),
    ] {
        replica.refused(delete(&key, true, 0), MetaCode::NotDeletable);
        replica.refused(Command::Undelete(key.clone()), MetaCode::NotDeletable);
        replica.refused(Command::Purge(key), MetaCode::NotDeletable);
    }
}

#[test]
fn a_tenant_goes_with_all_that_is_in_it_and_comes_back_with_it() {
    let mut replica = acme();
    let tenant = ObjectKey::tenant("acme");
    // One was deleted before, for its own reason.
    replica.done(delete(&stream("y"), false, WEEK));
    let gone = replica.done(delete(&tenant, true, WEEK));
    assert_eq!(gone.changes.len(), 3, "tenant, namespace, stream");
    let purge_at =
        |replica: &Replica, key: &ObjectKey| replica.get(key).meta.deleting.unwrap().purge_at;
    let one = purge_at(&replica, &tenant);
    assert_eq!(purge_at(&replica, &ObjectKey::namespace("acme", "n")), one);
    assert_eq!(purge_at(&replica, &stream("x")), one);

    let new = create_namespace("acme", "m", OPEN);
    replica.refused(new, MetaCode::Deleting);
    replica.refused(create_tenant("acme", FREE), MetaCode::Deleting);
    let change = Command::UpdateTenant(update_tenant("acme"));
    replica.refused(change, MetaCode::Deleting);
    let change = Command::UpdateNamespace(update_namespace("acme", "n"));
    replica.refused(change, MetaCode::Deleting);
    let part = Command::Undelete(stream("x"));
    replica.refused(part, MetaCode::ParentDeleting);

    let back = replica.done(Command::Undelete(tenant));
    assert_eq!(back.changes.len(), 3);
    assert_eq!(replica.get(&stream("x")).meta.deleting, None);
    assert!(replica.get(&stream("y")).meta.deleting.is_some());
}

#[test]
fn other_tenants_are_untouched() {
    let mut replica = acme();
    for name in ["acm", "acme-", "acmf"] {
        replica.done(create_tenant(name, FREE));
        replica.done(create_namespace(name, "n", OPEN));
    }
    replica.done(create_namespace("acme", "n-", OPEN));
    let gone = replica.done(delete(&ObjectKey::namespace("acme", "n"), true, WEEK));
    assert_eq!(gone.changes.len(), 3, "namespace and two streams");
    let gone = replica.done(delete(&ObjectKey::tenant("acme"), true, WEEK));
    assert_eq!(gone.changes.len(), 2, "tenant and the other namespace");
}

#[test]
fn a_deletion_waits_for_what_was_deleted_before_it() {
    let mut replica = acme();
    replica.done(delete(&stream("x"), false, WEEK));
    let home = ObjectKey::namespace("acme", "n");
    let gone = replica.done(delete(&home, true, 10));
    let purge_at = object(&gone).meta.deleting.unwrap().purge_at;
    assert_eq!(purge_at, WallMs(1_000 + WEEK));
}

#[test]
fn what_is_deleted_counts_for_quotas_until_it_is_purged() {
    let mut replica = Replica::with_brokers();
    let quotas = TenantQuotas {
        max_namespaces: 1,
        max_streams: 3,
        max_storage_bytes: 100,
        max_cache_memory_bytes: 50,
        ..FREE
    };
    replica.done(create_tenant("acme", quotas));
    let two = NamespaceQuotas {
        max_streams: 2,
        ..OPEN
    };
    replica.done(create_namespace("acme", "n", two));
    let sized = |kind, name: &str, bytes| {
        let mut command = declare(kind, "acme", "n", name);
        match kind {
            ResourceKind::Cache => command.spec.ring_bytes = bytes,
            _ => {
                command.spec.durable = true;
                command.spec.retention_bytes = bytes;
            }
        }
        Command::Declare(command)
    };
    let cache = ObjectKey::resource(ResourceKind::Cache, "acme", "n", "c");
    let more = sized(ResourceKind::Cache, "d", 11);
    replica.done(sized(ResourceKind::Cache, "c", 40));
    replica.done(delete(&cache, false, GRACE_MS_MAX));
    // Filled, deleted, and filled again: no longer.
    replica.refused(more.clone(), MetaCode::QuotaExceeded);
    replica.done(sized(STREAM, "x", 60));
    replica.done(delete(&stream("x"), false, WEEK));
    replica.restart();
    let used = replica.state.tenant_usage("acme");
    assert_eq!((used.resources, used.cache_bytes), (0, 0));
    let kept = replica.state.tenant_kept("acme");
    let bytes = (kept.cache_bytes, kept.storage_bytes);
    assert_eq!((kept.resources, bytes), (2, (40, 60)));
    assert_eq!(
        replica.state.namespace_kept("acme", "n"),
        Usage {
            namespaces: 0,
            ..kept
        }
    );
    // The namespace may have two, and one of them is enough of the storage.
    replica.refused(sized(STREAM, "y", 1), MetaCode::QuotaExceeded);
    for lower in [
        TenantQuotas {
            max_streams: 1,
            ..quotas
        },
        TenantQuotas {
            max_storage_bytes: 59,
            ..quotas
        },
        TenantQuotas {
            max_cache_memory_bytes: 39,
            ..quotas
        },
    ] {
        let update = UpdateTenant {
            quotas: Some(lower),
            ..update_tenant("acme")
        };
        replica.refused(Command::UpdateTenant(update), MetaCode::QuotaBelowUse);
    }
    let mut update = update_namespace("acme", "n");
    update.quotas = Some(NamespaceQuotas {
        max_streams: 1,
        ..OPEN
    });
    replica.refused(Command::UpdateNamespace(update), MetaCode::QuotaBelowUse);

    // The way back meets no quota, and changes nothing of what counts.
    replica.done(Command::Undelete(stream("x")));
    assert_eq!(replica.state.tenant_kept("acme"), kept);
    replica.done(delete(&stream("x"), true, 0));
    // With the purge it counts no more.
    replica.done(Command::Purge(stream("x")));
    replica.refused(more.clone(), MetaCode::QuotaExceeded);
    replica.done(sized(STREAM, "y", 100));
    replica.done(Command::Undelete(cache.clone()));
    replica.done(delete(&cache, true, 0));
    replica.done(Command::Purge(cache));
    replica.done(more);

    let home = ObjectKey::namespace("acme", "n");
    replica.done(delete(&home, true, WEEK));
    let other = create_namespace("acme", "m", OPEN);
    replica.refused(other.clone(), MetaCode::QuotaExceeded);
    replica.done(Command::Undelete(home.clone()));
    replica.done(delete(&home, true, 0));
    for command in commands(replica.state.due(WallMs(1_000), 10)) {
        replica.done(command);
    }
    assert_eq!(replica.state.tenant_kept("acme"), Usage::default());
    replica.done(other);
}

/// By a release that counted only what is alive.
#[test]
fn what_is_above_a_quota_with_what_is_deleted_comes_back_as_far_as_the_quota_goes() {
    let mut replica = Replica::with_brokers();
    let quotas = TenantQuotas {
        max_streams: 2,
        ..FREE
    };
    let made = replica.done(create_tenant("acme", quotas));
    let Body::Tenant(Tenant { number, .. }) = object(&made).body else {
        panic!("{made:?}");
    };
    // What was there before there was metadata is taken over whatever is deleted.
    let piece = |from, upto, names: &[&str]| {
        let stream = |(id, name): (u64, &&str)| Imported {
            id: ResourceId(id),
            tenant: number,
            kind: STREAM,
            namespace: "n".into(),
            name: (*name).into(),
            spec: SPEC,
            logs: [0].into(),
        };
        Command::Import(Import {
            broker: BrokerNumber(1),
            from: ResourceId(from),
            upto: ResourceId(upto),
            next: ResourceId(4),
            resources: (from.max(1)..).zip(names).map(stream).collect(),
        })
    };
    replica.done(piece(0, 3, &["x", "y"]));
    replica.done(delete(&stream("x"), false, WEEK));
    replica.done(delete(&stream("y"), false, WEEK));
    replica.done(piece(3, 4, &["z"]));
    let more = Command::Declare(declare(STREAM, "acme", "n", "more"));
    replica.refused(more, MetaCode::QuotaExceeded);
    let change = UpdateResource {
        retention_ms: Some(1),
        ..update_resource(STREAM, "acme", "n", "z")
    };
    replica.done(Command::UpdateResource(change));
    replica.done(Command::Undelete(stream("x")));
    replica.refused(Command::Undelete(stream("y")), MetaCode::QuotaExceeded);
    replica.done(delete(&stream("z"), false, WEEK));
    replica.done(Command::Undelete(stream("y")));
}

#[test]
fn a_tenant_may_be_given_less_while_a_namespace_is_deleted() {
    let mut replica = Replica::with_brokers();
    replica.done(create_tenant("acme", FREE));
    let five = NamespaceQuotas {
        max_streams: 5,
        ..OPEN
    };
    replica.done(create_namespace("acme", "n", five));
    let home = ObjectKey::namespace("acme", "n");
    replica.done(delete(&home, true, WEEK));
    replica.done(Command::UpdateTenant(UpdateTenant {
        quotas: Some(TenantQuotas {
            max_streams: 4,
            ..FREE
        }),
        ..update_tenant("acme")
    }));
    replica.refused(Command::Undelete(home), MetaCode::QuotaAboveParent);
}

#[test]
fn nothing_is_purged_before_its_grace_is_over() {
    let mut replica = acme();
    let purge = Command::Purge(stream("x"));
    replica.refused(purge.clone(), MetaCode::NotDeleting);
    replica.done(delete(&stream("x"), false, WEEK));
    assert_eq!(replica.state.next_due(), Some(WallMs(1_000 + WEEK)));
    assert!(replica.state.due(WallMs(999 + WEEK), 10).is_empty());
    refused(
        &at(&mut replica, 999 + WEEK, purge.clone()),
        MetaCode::TooEarly,
    );
    let due = replica.state.due(WallMs(1_000 + WEEK), 10);
    assert_eq!(commands(due), std::slice::from_ref(&purge));

    let gone = at(&mut replica, 1_000 + WEEK, purge.clone());
    let kinds: Vec<ChangeKind> = gone.changes.iter().map(|change| change.kind).collect();
    assert_eq!(
        kinds,
        [ChangeKind::Delete, ChangeKind::Delete, ChangeKind::Create]
    );
    assert_eq!(replica.state.get(&stream("x")), None);
    assert_eq!(replica.state.next_due(), None);
    replica.refused(purge, MetaCode::NotFound);
}

#[test]
fn a_tombstone_says_who_still_has_the_data() {
    let mut replica = acme();
    let mut spread = declare(STREAM, "acme", "n", "z");
    spread.spec.shards = 2;
    spread.spec.replication_factor = 3;
    spread.seats = Box::new([seat(3, &[1, 2], 0), seat(1, &[5, 3], 0)]);
    replica.done(Command::Declare(spread));
    replica.done(delete(&stream("z"), true, 0));
    replica.done(Command::Purge(stream("z")));
    let key = ObjectKey::Tombstone(ResourceId(3));
    let pending = |replica: &Replica| match replica.state.get(&key).map(|object| &object.body) {
        Some(Body::Tombstone(tombstone)) => tombstone.pending.iter().map(|one| one.0).collect(),
        _ => Vec::new(),
    };
    assert_eq!(pending(&replica), [1, 2, 3, 5]);
    replica.restart();

    // The name is free at once; the number is not.
    let new = replica.done(Command::Declare(declare(STREAM, "acme", "n", "z")));
    assert_eq!(object(&new).meta.generation, 1);

    let confirm = |broker, ids: &[u64]| {
        Command::ConfirmPurged(ConfirmPurged {
            broker: BrokerNumber(broker),
            resources: ids.iter().copied().map(ResourceId).collect(),
        })
    };
    replica.done(confirm(2, &[1, 3, 99]));
    assert_eq!(pending(&replica), [1, 3, 5]);
    assert!(
        replica.done(confirm(2, &[3])).changes.is_empty(),
        "said twice"
    );
    replica.done(confirm(1, &[3]));
    replica.done(confirm(5, &[3]));
    let last = replica.done(confirm(3, &[3]));
    assert_eq!(last.changes[0].kind, ChangeKind::Delete);
    assert_eq!(replica.state.get(&key), None);
    let many = vec![1; CONFIRMED_MAX + 1];
    replica.refused(confirm(1, &many), MetaCode::BadSpec);
}

#[test]
fn an_operator_may_give_up_on_a_tombstone() {
    let mut replica = acme();
    replica.done(delete(&stream("x"), true, 0));
    replica.done(Command::Purge(stream("x")));
    let tombstones = ListQuery {
        kind: ObjectKind::Tombstone,
        under: None,
        filter: Filter::All,
        deleted: false,
        limit: 10,
        after: None,
    };
    assert_eq!(replica.state.list(&tombstones).items.len(), 1);
    replica.refused(Command::ForgetTombstone(ResourceId(9)), MetaCode::NotFound);
    replica.done(Command::ForgetTombstone(ResourceId(1)));
    assert!(replica.state.list(&tombstones).items.is_empty());
}

#[test]
fn a_list_has_what_is_deleted_only_where_that_is_asked_for() {
    let mut replica = acme();
    replica.done(delete(&stream("x"), false, WEEK));
    let mut query = ListQuery {
        kind: ObjectKind::Resource(STREAM),
        under: None,
        filter: Filter::All,
        deleted: false,
        limit: 10,
        after: None,
    };
    assert_eq!(replica.state.list(&query).items.len(), 1);
    query.deleted = true;
    assert_eq!(replica.state.list(&query).items.len(), 2);
}

#[test]
fn what_is_due_can_be_done_in_its_order() {
    let mut replica = acme();
    replica.done(create_namespace("acme", "m", OPEN));
    replica.done(delete(&ObjectKey::tenant("acme"), true, 0));
    let purge = Command::Purge(ObjectKey::tenant("acme"));
    replica.refused(purge, MetaCode::NotEmpty);
    let due = replica.state.due(WallMs(1_000), 100);
    assert_eq!(due.len(), 5);
    for command in commands(due) {
        replica.done(command);
    }
    assert_eq!(replica.state.next_due(), None);
    assert_eq!(replica.state.get(&ObjectKey::tenant("acme")), None);
    // Another of this name is another.
    let new = replica.done(create_tenant("acme", FREE));
    let Body::Tenant(tenant) = &object(&new).body else {
        panic!("{new:?}");
    };
    assert_eq!(tenant.number.0, 3);
}

#[derive(Clone, Debug)]
enum Step {
    Make(ObjectKey),
    Delete(ObjectKey, u64),
    Undelete(ObjectKey),
    /// As much as is due.
    Purge,
    Wait(u64),
}

fn keys() -> impl Strategy<Value = ObjectKey> {
    let tenant = || prop_oneof!["a", "b"];
    let namespace = || prop_oneof!["n", "m"];
    prop_oneof![
        tenant().prop_map(|tenant| ObjectKey::tenant(&tenant)),
        (tenant(), namespace()).prop_map(|(t, n)| ObjectKey::namespace(&t, &n)),
        (tenant(), namespace(), prop_oneof!["x", "y"])
            .prop_map(|(t, n, x)| ObjectKey::resource(STREAM, &t, &n, &x)),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => keys().prop_map(Step::Make),
        3 => (keys(), 0..30_u64).prop_map(|(key, grace)| Step::Delete(key, grace)),
        2 => keys().prop_map(Step::Undelete),
        2 => Just(Step::Purge),
        2 => (1..20_u64).prop_map(Step::Wait),
    ]
}

fn make(key: &ObjectKey) -> Command {
    match key {
        ObjectKey::Tenant(name) => create_tenant(name, FREE),
        ObjectKey::Namespace { tenant, name } => create_namespace(tenant, name, OPEN),
        ObjectKey::Resource {
            tenant,
            namespace,
            name,
            ..
        } => Command::Declare(declare(STREAM, tenant, namespace, name)),
        other => panic!("{other}"),
    }
}

proptest! {
    /// Nothing goes that was not deleted and whose grace is not over; numbers
    /// are never used again; whatever is due can be done. (The replica checks
    /// the whole state after each command.)
    #[test]
    fn nothing_goes_before_its_time(script in prop::collection::vec(steps(), 1..60)) {
        let mut replica = Replica::with_brokers();
        let mut now = 0;
        let mut numbers = std::collections::BTreeSet::new();
        for step in script {
            let before: Vec<_> = replica.state.objects().cloned().collect();
            let purges = matches!(step, Step::Purge);
            let commands = match step {
                Step::Make(key) => vec![make(&key)],
                Step::Delete(key, grace) => vec![delete(&key, true, grace)],
                Step::Undelete(key) => vec![Command::Undelete(key)],
                Step::Purge => commands(replica.state.due(WallMs(now), 100)),
                Step::Wait(ms) => {
                    now += ms;
                    Vec::new()
                }
            };
            for command in commands {
                let made = matches!(command, Command::Declare(_));
                let applied = at(&mut replica, now, command);
                if purges {
                    prop_assert!(applied.result.is_ok(), "{:?}", applied.result);
                }
                if made && !applied.changes.is_empty() {
                    let Body::Resource(resource) = &object(&applied).body else {
                        panic!("{applied:?}");
                    };
                    prop_assert!(numbers.insert(resource.id), "{} again", resource.id);
                }
            }
            for old in before {
                let key = &old.meta.key;
                let is_placement = matches!(key, ObjectKey::Placement { .. });
                if replica.state.get(key).is_none() && !is_placement {
                    let deleting = old.meta.deleting;
                    prop_assert!(purges && deleting.is_some_and(|d| d.purge_at.0 <= now), "{}", key);
                }
            }
        }
        replica.restart();
    }
}
