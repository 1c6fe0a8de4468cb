//! Resources: what they may be like, where they are, and what they use.

use pinion_metadata::command::{Declare, IfExists, RegisterBroker, UpdateResource, UpdateTenant};
use pinion_metadata::limits::DURABLE_PARTITION_BYTES;
use pinion_metadata::resource::{QueueSpec, Resource, ResourceSpec};
use pinion_metadata::tenant::{NamespaceQuotas, TenantQuotas};
use pinion_metadata::{Body, BrokerNumber, Command, MetaCode, MetaError, Object, ObjectKey, Usage};
use pinion_types::{ResourceId, ResourceKind};
use proptest::prelude::*;

use crate::support::{
    FREE, OPEN, QUEUE, Replica, SPEC, create_namespace, create_tenant, declare, delete, envelope,
    facts, object, seat, update_namespace, update_resource, update_tenant,
};

const STREAM: ResourceKind = ResourceKind::Stream;

fn resource(object: &Object) -> &Resource {
    match &object.body {
        Body::Resource(resource) => resource,
        other => panic!("{other:?}"),
    }
}

fn stream(name: &str) -> Declare {
    declare(STREAM, "default", "n", name)
}

/// A replica with a namespace `n`.
fn with_namespace() -> Replica {
    let mut replica = Replica::with_brokers();
    replica.done(create_namespace("default", "n", OPEN));
    replica
}

#[test]
fn a_resource_is_declared_with_its_placement() {
    let mut replica = with_namespace();
    let spec = ResourceSpec {
        shards: 2,
        replication_factor: 3,
        ..SPEC
    };
    let seats = [seat(1, &[2, 3], 4), seat(2, &[1], 5)];
    let made = replica.done(Command::Declare(Declare {
        spec: spec.clone(),
        seats: Box::new(seats.clone()),
        ..stream("eu/orders")
    }));
    assert_eq!(made.changes.len(), 2, "the resource and its placement");
    assert_eq!(resource(object(&made)).id, ResourceId(1));
    assert_eq!(resource(object(&made)).spec, spec);

    let key = ObjectKey::placement(STREAM, "default", "n", "eu/orders");
    let Body::Placement(placement) = &replica.get(&key).body else {
        panic!("{key}");
    };
    assert_eq!(placement.resource, ResourceId(1));
    assert!(placement.shards.iter().map(|shard| &shard.seat).eq(&seats));
    assert!(placement.shards.iter().all(|shard| shard.epoch == 1));
    replica.restart();
    let next = replica.done(Command::Declare(stream("other")));
    assert_eq!(resource(object(&next)).id, ResourceId(2));
}

#[test]
fn one_name_is_a_stream_and_a_queue_and_a_cache() {
    let mut replica = with_namespace();
    replica.done(Command::Declare(stream("x")));
    replica.done(Command::Declare(declare(
        ResourceKind::Cache,
        "default",
        "n",
        "x",
    )));
    let queue = Declare {
        spec: ResourceSpec {
            queue: Some(QUEUE),
            ..SPEC
        },
        ..declare(ResourceKind::Queue, "default", "n", "x")
    };
    replica.done(Command::Declare(queue));
    assert_eq!(replica.state.namespace_usage("default", "n").resources, 3);
}

#[test]
fn the_namespace_is_made_where_that_is_asked_for() {
    let mut replica = Replica::with_brokers();
    replica.refused(Command::Declare(stream("x")), MetaCode::NotFound);
    let with = Declare {
        create_namespace: true,
        ..stream("x")
    };
    let made = replica.done(Command::Declare(with.clone()));
    assert_eq!(made.changes.len(), 3);
    assert_eq!(replica.done(Command::Declare(with)).changes.len(), 0);
    let nobodys = Declare {
        tenant: "acme".into(),
        create_namespace: true,
        ..stream("x")
    };
    replica.refused(Command::Declare(nobodys), MetaCode::NotFound);
    // And where it is refused, the namespace is not made either.
    let bad = Declare {
        namespace: "m".into(),
        create_namespace: true,
        seats: Box::new([]),
        ..stream("x")
    };
    replica.refused(Command::Declare(bad), MetaCode::BadSpec);
    assert_eq!(
        replica.state.get(&ObjectKey::namespace("default", "m")),
        None
    );
}

#[test]
fn what_exists_is_found_again_or_refused() {
    let mut replica = with_namespace();
    let first = replica.done(Command::Declare(stream("x")));
    // Elsewhere, and yet the same: where it is was decided the first time.
    let again = Declare {
        seats: Box::new([seat(9, &[], 9)]),
        ..stream("x")
    };
    let found = replica.done(Command::Declare(again));
    assert!(found.changes.is_empty());
    assert_eq!(object(&found), object(&first));

    let mut other = stream("x");
    other.spec.retention_ms = 1;
    replica.refused(Command::Declare(other), MetaCode::SpecConflict);
    let once = Declare {
        if_exists: IfExists::Refuse,
        ..stream("x")
    };
    replica.refused(Command::Declare(once), MetaCode::Exists);
}

#[test]
fn a_specification_is_checked_field_by_field() {
    let mut replica = with_namespace();
    let mut refused = |kind, change: &dyn Fn(&mut ResourceSpec), wrong: &str| {
        let mut command = declare(kind, "default", "n", "x");
        command.spec.queue = (kind == ResourceKind::Queue).then_some(QUEUE);
        change(&mut command.spec);
        let shards = usize::from(command.spec.shards).min(2_000);
        command.seats = vec![seat(1, &[], 0); shards].into();
        let applied = replica.apply(&envelope(Command::Declare(command)));
        match applied.result {
            Err(MetaError::BadSpec { field, .. }) => assert_eq!(field, wrong),
            other => panic!("{wrong}: {other:?}"),
        }
    };
    let cache = ResourceKind::Cache;
    let queue = ResourceKind::Queue;
    refused(STREAM, &|spec| spec.shards = 0, "shards");
    refused(STREAM, &|spec| spec.shards = 1025, "shards");
    refused(cache, &|spec| spec.durable = true, "durable");
    refused(STREAM, &|spec| spec.overflow = 0, "overflow");
    refused(STREAM, &|spec| spec.overflow = 5, "overflow");
    refused(
        STREAM,
        &|spec| spec.max_record_bytes = 0,
        "max_record_bytes",
    );
    refused(
        STREAM,
        &|spec| spec.max_record_bytes = (1 << 20) + 1,
        "max_record_bytes",
    );
    refused(STREAM, &|spec| spec.ring_bytes = 0, "ring_bytes");
    refused(
        STREAM,
        &|spec| spec.ring_bytes = (1 << 44) + 1,
        "ring_bytes",
    );
    refused(
        STREAM,
        &|spec| spec.retention_bytes = u64::MAX,
        "retention_bytes",
    );
    refused(cache, &|spec| spec.retention_bytes = 1, "retention_bytes");
    refused(
        STREAM,
        &|spec| spec.replication_factor = 0,
        "replication_factor",
    );
    refused(
        STREAM,
        &|spec| spec.replication_factor = 8,
        "replication_factor",
    );
    refused(STREAM, &|spec| spec.queue = Some(QUEUE), "queue");
    refused(queue, &|spec| spec.queue = None, "queue");
    let mut of_queue = |change: fn(&mut QueueSpec), wrong: &str| {
        refused(queue, &|spec| spec.queue.iter_mut().for_each(change), wrong);
    };
    of_queue(|queue| queue.visibility_ms = 0, "visibility_ms");
    of_queue(|queue| queue.visibility_ms = u32::MAX, "visibility_ms");
    of_queue(|queue| queue.max_attempts = 0, "max_attempts");
    of_queue(|queue| queue.max_in_flight = 0, "max_in_flight");
    of_queue(|queue| queue.consumer_in_flight = 0, "consumer_in_flight");
    of_queue(|queue| queue.backoff_min_ms = 0, "backoff_min_ms");
    of_queue(|queue| queue.backoff_max_ms = 99, "backoff_max_ms");
    of_queue(|queue| queue.messages_max = 0, "messages_max");
    of_queue(|queue| queue.redeliveries_per_s = 0, "redeliveries_per_s");
}

#[test]
fn a_placement_fits_its_resource() {
    let mut replica = with_namespace();
    let mut with = |seats: &[_], copies, code| {
        let mut command = stream("x");
        command.spec.replication_factor = copies;
        command.seats = seats.into();
        replica.refused(Command::Declare(command), code);
    };
    with(&[], 1, MetaCode::BadSpec);
    with(&[seat(1, &[], 0), seat(1, &[], 0)], 1, MetaCode::BadSpec);
    with(&[seat(1, &[2], 0)], 1, MetaCode::BadSpec);
    with(&[seat(1, &[1], 0)], 2, MetaCode::BrokerTwice);
    with(&[seat(1, &[2, 2], 0)], 3, MetaCode::BrokerTwice);
    // Fewer copies than asked for: there may be fewer brokers.
    let mut command = stream("x");
    command.spec.replication_factor = 3;
    command.pinned = Some(BrokerNumber(1));
    replica.done(Command::Declare(command));
}

#[test]
fn a_resource_is_changed_where_it_can_be() {
    let mut replica = with_namespace();
    replica.done(Command::Declare(stream("x")));
    let update = UpdateResource {
        overflow: Some(4),
        max_record_bytes: Some(100),
        retention_ms: Some(2),
        retention_bytes: Some(3),
        ..update_resource(STREAM, "default", "n", "x")
    };
    let changed = replica.done(Command::UpdateResource(update));
    let expected = ResourceSpec {
        overflow: 4,
        max_record_bytes: 100,
        retention_ms: 2,
        retention_bytes: 3,
        ..SPEC
    };
    assert_eq!(resource(object(&changed)).spec, expected);
    assert_eq!(resource(object(&changed)).id, ResourceId(1));
    assert_eq!(object(&changed).meta.generation, 2);
    assert_eq!(changed.changes.len(), 1, "its placement stays");

    let bad = UpdateResource {
        overflow: Some(9),
        ..update_resource(STREAM, "default", "n", "x")
    };
    replica.refused(Command::UpdateResource(bad), MetaCode::BadSpec);
    let no_queue = UpdateResource {
        queue: Some(QUEUE),
        ..update_resource(STREAM, "default", "n", "x")
    };
    replica.refused(Command::UpdateResource(no_queue), MetaCode::BadSpec);
    let absent = update_resource(STREAM, "default", "n", "y");
    replica.refused(Command::UpdateResource(absent), MetaCode::NotFound);
}

#[test]
fn the_order_of_a_queue_stays() {
    let mut replica = with_namespace();
    let mut queue = declare(ResourceKind::Queue, "default", "n", "q");
    queue.spec.queue = Some(QUEUE);
    replica.done(Command::Declare(queue));
    let update = |queue| {
        Command::UpdateResource(UpdateResource {
            queue: Some(queue),
            ..update_resource(ResourceKind::Queue, "default", "n", "q")
        })
    };
    let unordered = QueueSpec {
        ordered_by_key: false,
        ..QUEUE
    };
    replica.refused(update(unordered), MetaCode::ImmutableField);
    let patient = QueueSpec {
        max_attempts: 50,
        ..QUEUE
    };
    let changed = replica.done(update(patient));
    assert_eq!(resource(object(&changed)).spec.queue, Some(patient));
}

#[test]
fn names_of_resources_are_checked() {
    let mut replica = with_namespace();
    let deep = ["a"; 9].join("/");
    for name in ["", "a//b", "..", "a b", &deep] {
        replica.refused(Command::Declare(stream(name)), MetaCode::BadName);
        let update = update_resource(STREAM, "default", "n", name);
        replica.refused(Command::UpdateResource(update), MetaCode::BadName);
    }
    for (tenant, namespace) in [("Default", "n"), ("default", "a/b"), ("default", "")] {
        let command = declare(STREAM, tenant, namespace, "x");
        replica.refused(Command::Declare(command), MetaCode::BadName);
    }
}

#[test]
fn use_is_counted_where_it_belongs() {
    let mut replica = Replica::with_brokers();
    replica.done(create_tenant("acme", FREE));
    let mut on_disk = Declare {
        create_namespace: true,
        ..declare(STREAM, "acme", "n", "x")
    };
    on_disk.spec.durable = true;
    on_disk.spec.shards = 2;
    on_disk.spec.retention_bytes = 100;
    on_disk.seats = vec![seat(1, &[], 0); 2].into();
    replica.done(Command::Declare(on_disk));
    let mut cache = Declare {
        create_namespace: true,
        ..declare(ResourceKind::Cache, "default", "n", "x")
    };
    cache.spec.ring_bytes = 7;
    replica.done(Command::Declare(cache));
    let of_acme = Usage {
        namespaces: 1,
        resources: 1,
        shards: 2,
        storage_bytes: 200,
        ..Usage::default()
    };
    let of_default = Usage {
        namespaces: 1,
        resources: 1,
        shards: 1,
        cache_bytes: 7,
        ..Usage::default()
    };
    assert_eq!(replica.state.tenant_usage("acme"), of_acme);
    assert_eq!(replica.state.tenant_usage("default"), of_default);
    assert_eq!(
        replica.state.namespace_usage("acme", "n").storage_bytes,
        200
    );
    let of_all = replica.state.cluster_usage();
    assert_eq!((of_all.tenants, of_all.resources, of_all.shards), (2, 2, 3));
    assert_eq!(replica.state.tenant_usage("nobody"), Usage::default());
}

#[test]
fn quotas_hold_for_what_is_declared_and_for_what_grows() {
    let mut replica = Replica::with_brokers();
    let quotas = TenantQuotas {
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
    replica.done(create_namespace("acme", "m", OPEN));
    let sized = |kind, namespace: &str, name: &str, bytes| {
        let mut command = declare(kind, "acme", namespace, name);
        match kind {
            ResourceKind::Cache => command.spec.ring_bytes = bytes,
            _ => {
                command.spec.durable = true;
                command.spec.retention_bytes = bytes;
            }
        }
        Command::Declare(command)
    };
    let exceeded = |replica: &mut Replica, command, quota: &str| {
        let applied = replica.apply(&envelope(command));
        match applied.result {
            Err(MetaError::QuotaExceeded { quota: found, .. }) => assert_eq!(found.text(), quota),
            other => panic!("{quota}: {other:?}"),
        }
    };
    replica.done(sized(STREAM, "n", "a", 60));
    exceeded(
        &mut replica,
        sized(STREAM, "n", "b", 41),
        "max_storage_bytes",
    );
    replica.done(sized(ResourceKind::Cache, "n", "b", 50));
    exceeded(
        &mut replica,
        sized(ResourceKind::Cache, "m", "b", 1),
        "max_cache_memory_bytes",
    );
    exceeded(&mut replica, sized(STREAM, "n", "c", 1), "max_streams");
    replica.done(sized(STREAM, "m", "c", 40));
    exceeded(&mut replica, sized(STREAM, "m", "d", 0), "max_streams");
    let grow = |bytes| {
        Command::UpdateResource(UpdateResource {
            retention_bytes: Some(bytes),
            ..update_resource(STREAM, "acme", "n", "a")
        })
    };
    exceeded(&mut replica, grow(61), "max_storage_bytes");
    replica.done(grow(59));

    // And no quota falls below what is used.
    for lower in [
        TenantQuotas {
            max_streams: 2,
            ..quotas
        },
        TenantQuotas {
            max_storage_bytes: 98,
            ..quotas
        },
        TenantQuotas {
            max_cache_memory_bytes: 49,
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
}

#[test]
fn no_broker_promises_more_memory_than_it_has() {
    let mut replica = with_namespace();
    let key = |name| ObjectKey::resource(STREAM, "default", "n", name);
    let core = facts("", "").capacity.memory_per_core;
    let cores = u64::from(facts("", "").capacity.cores);
    let sized = |name: &str, kind, shards: u16, ring_bytes| {
        let mut command = declare(kind, "default", "n", name);
        command.spec.queue = (kind == ResourceKind::Queue).then_some(QUEUE);
        command.spec.shards = shards;
        command.spec.ring_bytes = ring_bytes;
        command.seats = vec![seat(1, &[2], 0); shards.into()].into();
        command.spec.replication_factor = 2;
        command
    };
    let without = |replica: &mut Replica, command: Declare, broker: Option<u32>| {
        let bytes = command.spec.ring_bytes;
        let broker = broker.map(BrokerNumber);
        let applied = replica.apply(&envelope(Command::Declare(command)));
        let error = applied.result.unwrap_err();
        assert_eq!(error, MetaError::NoMemory { bytes, broker });
        assert_eq!(error.code().text(), "no_memory");
    };
    // Nothing has a core of this size.
    for kind in [STREAM, ResourceKind::Queue, ResourceKind::Cache] {
        without(&mut replica, sized("huge", kind, 1, core + 1), Some(1));
        let huge = sized("huge", kind, 1, 1 << 44);
        let placed = replica.state.place(&huge.spec, None);
        let (bytes, broker) = (1 << 44, None);
        assert_eq!(placed, Err(MetaError::NoMemory { bytes, broker }));
    }
    // A durable stream has the rest in its log; a durable queue has not.
    let mut durable = sized("log", STREAM, 1, core + 1);
    durable.spec.durable = true;
    replica.done(Command::Declare(durable));
    let mut durable = sized("queue", ResourceKind::Queue, 1, core + 1);
    durable.spec.durable = true;
    without(&mut replica, durable, Some(1));
    let small = replica.state.broker_usage(BrokerNumber(1)).memory_bytes;
    assert_eq!(small, DURABLE_PARTITION_BYTES);
    replica.done(delete(&key("log"), true, 0));
    replica.done(Command::Purge(key("log")));

    // All of it, and then nothing, also while that is deleted.
    let shards = u16::try_from(cores).unwrap();
    let all = Command::Declare(sized("all", STREAM, shards, core));
    replica.done(all.clone());
    for broker in [1, 2] {
        let promised = replica
            .state
            .broker_usage(BrokerNumber(broker))
            .memory_bytes;
        assert_eq!(promised, core * cores);
    }
    without(&mut replica, sized("more", STREAM, 1, 1), Some(1));
    let elsewhere = sized("more", STREAM, 1, 1).spec;
    let seats = replica.state.place(&elsewhere, None).unwrap();
    assert_eq!(*seats, [seat(3, &[4], 0)]);
    replica.done(delete(&key("all"), false, 10));
    replica.restart();
    without(&mut replica, sized("more", STREAM, 1, 1), Some(1));
    let back = Command::Undelete(key("all"));
    replica.done(back);
    replica.done(delete(&key("all"), true, 0));
    replica.done(Command::Purge(key("all")));
    let none = replica.state.broker_usage(BrokerNumber(1));
    assert_eq!(none.memory_bytes, 0);
    replica.done(all);

    // A broker that comes back with less has what it has, and takes no more.
    let mut less = facts("", "");
    less.capacity.memory_per_core = 1;
    replica.done(Command::RegisterBroker(RegisterBroker {
        name: "b1".into(),
        facts: less.clone(),
        incarnation: 1,
        gone: None,
    }));
    without(&mut replica, sized("more", STREAM, 1, 1), Some(1));
    // One that does not say how much it has is promised what is asked for, and no more
    // than can be counted.
    less.capacity.memory_per_core = 0;
    replica.done(Command::RegisterBroker(RegisterBroker {
        name: "b9".into(),
        facts: less,
        incarnation: 1,
        gone: None,
    }));
    let huge = |at: u32| {
        let mut huge = sized(&at.to_string(), STREAM, 1024, 1 << 44);
        huge.seats = vec![seat(8, &[], 0); 1024].into();
        huge
    };
    for at in 0..256 {
        // Without a look at the whole state, which takes its time when there is much.
        let index = replica.state.applied_index() + 1;
        let command = Command::Declare(huge(at));
        let applied = replica.state.apply(index, &envelope(command));
        assert!(applied.result.is_ok(), "{at}: {:?}", applied.result);
    }
    without(&mut replica, huge(256), Some(8));
}

#[test]
fn the_largest_declaration_fits_an_entry() {
    let mut replica = with_namespace();
    let mut command = stream("x");
    command.spec.shards = 1024;
    command.spec.replication_factor = 7;
    command.seats = vec![seat(1, &[2, 3, 4, 5, 6, 7], 0); 1024].into();
    replica.done(Command::Declare(command));
    replica.restart();
}

/// What one tenant has, as numbers: bytes on disk of each stream.
fn step() -> impl Strategy<Value = (bool, usize, u64)> {
    (any::<bool>(), 0..5_usize, 0..60_u64)
}

proptest! {
    #[test]
    fn storage_never_leaves_its_quota(steps in prop::collection::vec(step(), 1..60)) {
        const QUOTA: u64 = 100;
        let mut replica = Replica::with_brokers();
        let quotas = TenantQuotas { max_storage_bytes: QUOTA, ..FREE };
        replica.done(create_tenant("acme", quotas));
        replica.done(create_namespace("acme", "n", OPEN));
        let mut sizes = [None; 5];
        let mut version = replica.state.version();
        for (new, at, bytes) in steps {
            let name = at.to_string();
            let command = if new {
                let mut command = declare(STREAM, "acme", "n", &name);
                command.spec.durable = true;
                command.spec.retention_bytes = bytes;
                Command::Declare(command)
            } else {
                Command::UpdateResource(UpdateResource {
                    retention_bytes: Some(bytes),
                    ..update_resource(STREAM, "acme", "n", &name)
                })
            };
            let mut after = sizes;
            after[at] = Some(bytes);
            let total: u64 = after.iter().flatten().sum();
            let expected = match (sizes[at], new) {
                (None, false) => Err(MetaCode::NotFound),
                (Some(old), true) if old != bytes => Err(MetaCode::SpecConflict),
                (Some(old), _) if old == bytes => Ok(0),
                _ if total > QUOTA => Err(MetaCode::QuotaExceeded),
                (None, true) => Ok(2),
                _ => Ok(1),
            };
            let applied = replica.apply(&envelope(command));
            let found = applied.result.map(|_| applied.changes.len());
            prop_assert_eq!(found.map_err(|error| error.code()), expected);
            if let Ok(changes) = expected {
                sizes = after;
                version.0 += changes as u64;
            }
            let used: u64 = sizes.iter().flatten().sum();
            prop_assert_eq!(replica.state.tenant_usage("acme").storage_bytes, used);
            prop_assert_eq!(replica.state.version(), version);
        }
        replica.restart();
    }
}
