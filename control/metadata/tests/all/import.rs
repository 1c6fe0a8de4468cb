//! Resources from before there was metadata: each is taken over once, under its own number,
//! in as many pieces as it takes.

use pinion_metadata::command::{Import, Imported, UpdateTenant};
use pinion_metadata::limits::IMPORTED_MAX;
use pinion_metadata::tenant::TenantQuotas;
use pinion_metadata::{
    Body, BrokerNumber, Command, MetaCode, MetaVersion, ObjectKey, TenantNumber,
};
use pinion_types::{ResourceId, ResourceKind};

use crate::support::{
    FREE, OPEN, Replica, SPEC, create_namespace, create_tenant, declare, update_tenant,
};

fn stream(id: u64, tenant: u64, name: &str) -> Imported {
    Imported {
        id: ResourceId(id),
        tenant: TenantNumber(tenant),
        kind: ResourceKind::Stream,
        namespace: "old".into(),
        name: name.into(),
        spec: SPEC,
        logs: [3].into(),
    }
}

fn piece(from: u64, upto: u64, resources: Vec<Imported>) -> Command {
    Command::Import(Import {
        broker: BrokerNumber(1),
        from: ResourceId(from),
        upto: ResourceId(upto),
        next: ResourceId(10),
        resources: resources.into(),
    })
}

fn id(replica: &Replica, tenant: &str, name: &str) -> u64 {
    let key = ObjectKey::resource(ResourceKind::Stream, tenant, "old", name);
    match &replica.get(&key).body {
        Body::Resource(resource) => resource.id.0,
        other => panic!("{other:?}"),
    }
}

#[test]
fn resources_from_before_keep_their_numbers_tenants_and_places() {
    let mut replica = Replica::with_brokers();
    assert_eq!(replica.state.imported(), None);
    let first = piece(0, 5, vec![stream(2, 1, "a"), stream(4, 77, "a")]);
    replica.done(first.clone());
    assert_eq!(replica.state.imported(), Some(ResourceId(5)));
    assert_eq!(id(&replica, "default", "a"), 2);
    assert_eq!(id(&replica, "tenant-77", "a"), 4);
    let key = ObjectKey::placement(ResourceKind::Stream, "tenant-77", "old", "a");
    let Body::Placement(placement) = &replica.get(&key).body else {
        panic!("{key}");
    };
    assert_eq!(placement.resource, ResourceId(4));
    assert_eq!(placement.pinned, Some(BrokerNumber(1)));
    assert_eq!(placement.shards[0].seat.log, 3);
    assert_eq!(placement.shards[0].seat.leader, BrokerNumber(1));
    let Body::Tenant(tenant) = &replica.get(&ObjectKey::tenant("tenant-77")).body else {
        panic!("no tenant");
    };
    assert_eq!(tenant.number, TenantNumber(77));

    // Whatever comes between two pieces takes none of the old numbers.
    replica.done(create_tenant("new", FREE));
    replica.done(Command::Declare(declare(
        ResourceKind::Stream,
        "default",
        "old",
        "new",
    )));
    assert_eq!(id(&replica, "default", "new"), 10);
    let last = piece(5, 10, vec![stream(9, 77, "b")]);
    replica.done(last.clone());
    assert_eq!(id(&replica, "tenant-77", "b"), 9);
    assert_eq!(replica.state.imported(), Some(ResourceId(10)));
    replica.state.check().unwrap();

    // Whose answer was lost comes again.
    let version = replica.state.version();
    replica.restart();
    replica.done(first);
    replica.done(last);
    assert_eq!(replica.state.version(), version);
    assert_eq!(replica.state.imported(), Some(ResourceId(10)));
}

#[test]
fn a_piece_that_does_not_fit_is_refused_whole() {
    let mut replica = Replica::with_brokers();
    let version = replica.state.version();
    let mut refused = |command, code| replica.refused(command, code);
    let bad = MetaCode::BadSpec;
    refused(piece(5, 10, vec![]), bad);
    refused(piece(0, 11, vec![]), bad);
    refused(piece(0, 5, vec![stream(5, 1, "a")]), bad);
    refused(piece(0, 5, vec![stream(0, 1, "a")]), bad);
    refused(piece(0, 5, vec![stream(2, 1, "a"), stream(2, 1, "b")]), bad);
    refused(piece(0, 5, vec![stream(2, 0, "a")]), bad);
    refused(piece(0, 5, vec![stream(2, 1, "")]), MetaCode::BadName);
    let twice = vec![stream(2, 1, "a"), stream(3, 1, "a")];
    refused(piece(0, 5, twice), MetaCode::Exists);
    let mut wide = stream(2, 1, "a");
    wide.logs = [1, 2].into();
    refused(piece(0, 5, vec![wide]), bad);
    let many = (0..=IMPORTED_MAX as u64).map(|at| stream(at + 1, 1, "a"));
    refused(piece(0, 10, many.collect()), bad);
    let Command::Import(mut nowhere) = piece(0, 5, vec![]) else {
        panic!("no import");
    };
    nowhere.broker = BrokerNumber(99);
    refused(Command::Import(nowhere), MetaCode::BrokerUnavailable);
    assert_eq!(replica.state.version(), version);
    assert_eq!(replica.state.imported(), None);
}

#[test]
fn a_piece_beyond_a_quota_is_refused_and_contradicts_nothing() {
    let cache = |id, name| Imported {
        kind: ResourceKind::Cache,
        ..stream(id, 1, name)
    };
    let two = || piece(0, 5, vec![cache(2, "a"), cache(3, "b")]);
    let (one, bytes) = (1, SPEC.ring_bytes);
    let of_tenant = |quotas| {
        let update = UpdateTenant {
            quotas: Some(quotas),
            ..update_tenant("default")
        };
        Command::UpdateTenant(update)
    };
    let streams = TenantQuotas {
        max_streams: one,
        ..FREE
    };
    let memory = TenantQuotas {
        max_cache_memory_bytes: bytes,
        ..FREE
    };
    for quotas in [streams, memory] {
        let mut replica = Replica::with_brokers();
        replica.done(of_tenant(quotas));
        let version = replica.state.version();
        replica.refused(two(), MetaCode::QuotaExceeded);
        assert_eq!(replica.state.version(), version);
        assert_eq!(replica.state.imported(), None);
        replica.state.check().unwrap();
        // Once there is room, the same piece comes again.
        replica.done(of_tenant(FREE));
        replica.done(two());
        replica.state.check().unwrap();
    }
}

#[test]
fn where_something_was_declared_nothing_is_taken_over() {
    let mut replica = Replica::with_brokers();
    replica.done(create_namespace("default", "n", OPEN));
    replica.done(Command::Declare(declare(
        ResourceKind::Stream,
        "default",
        "n",
        "a",
    )));
    replica.refused(piece(0, 10, vec![stream(2, 1, "a")]), MetaCode::BadSpec);
    assert_ne!(replica.state.version(), MetaVersion(0));
}
