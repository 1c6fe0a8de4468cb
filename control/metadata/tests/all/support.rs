//! A state and the next entry of its log.

use pinion_metadata::broker::{BrokerFacts, Capacity};
use pinion_metadata::command::{
    CreateNamespace, CreateTenant, Declare, Delete, DeleteFacts, IfExists, RegisterBroker,
    UpdateNamespace, UpdateResource, UpdateTenant,
};
use pinion_metadata::resource::{AckPolicy, QueueSpec, ResourceSpec, Seat};
use pinion_metadata::tenant::{NamespaceQuotas, TenantQuotas};
use pinion_metadata::{
    Applied, BrokerNumber, ChangeKind, Command, Envelope, Expect, MetaCode, Metadata, Object,
    ObjectKey, Outcome,
};
use pinion_types::{ResourceKind, WallMs};

pub(crate) const CLUSTER: [u8; 16] = *b"cluster-16-bytes";

/// An envelope without conditions.
pub(crate) fn envelope(command: Command) -> Envelope {
    Envelope {
        stamp: WallMs(1_000),
        request: 0,
        principal: "p:ana".into(),
        origin: BrokerNumber(0),
        expect: Expect::Any,
        command,
    }
}

/// A state that is checked after every command, and restored from its snapshot.
pub(crate) struct Replica {
    pub(crate) state: Metadata,
}

impl Replica {
    pub(crate) fn new() -> Self {
        Self {
            state: Metadata::genesis(CLUSTER),
        }
    }

    /// With the brokers 1 to 7, called `b1` to `b7`, and at version 7.
    pub(crate) fn with_brokers() -> Self {
        let mut replica = Self::new();
        for number in 1..=7 {
            replica.done(register(&format!("b{number}"), 1));
        }
        replica
    }

    /// Applies the next entry as it comes out of a log.
    pub(crate) fn apply(&mut self, envelope: &Envelope) -> Applied {
        let before = self.state.version();
        let entry = Envelope::decode(&envelope.encode().unwrap()).unwrap();
        assert_eq!(entry, *envelope, "one meaning before and after the log");
        let applied = self.state.apply(self.state.applied_index() + 1, &entry);
        self.state.check().unwrap();
        assert_eq!(applied.broken, None);
        let versions = applied.changes.iter().map(|change| change.version.0);
        let dense = before.0 + 1..=before.0 + applied.changes.len() as u64;
        assert!(versions.eq(dense), "versions are dense");
        let last = before.0 + applied.changes.len() as u64;
        assert_eq!(self.state.version().0, last, "changes alone make versions");
        for change in &*applied.changes {
            assert_eq!(self.state.get(&change.key), change.object.as_ref());
            match &change.object {
                Some(object) => assert_eq!(object.meta.version, change.version),
                None => assert_eq!(change.kind, ChangeKind::Delete),
            }
        }
        let followed = self.state.changes_since(before, usize::MAX).unwrap();
        assert_eq!(
            followed.items, *applied.changes,
            "who follows sees the same"
        );
        if applied.result.is_err() {
            assert!(applied.changes.is_empty(), "refused, and nothing changed");
        }
        applied
    }

    /// Takes the place of this replica by one restored from its snapshot.
    pub(crate) fn restart(&mut self) {
        let restored = Metadata::restore(&self.state.snapshot().encode()).unwrap();
        assert_eq!(restored.state_hash(), self.state.state_hash());
        assert_eq!(restored.snapshot().encode(), self.state.snapshot().encode());
        self.state = restored;
    }

    #[track_caller]
    pub(crate) fn done(&mut self, command: Command) -> Applied {
        let applied = self.apply(&envelope(command));
        assert!(applied.result.is_ok(), "{:?}", applied.result);
        applied
    }

    #[track_caller]
    pub(crate) fn refused(&mut self, command: Command, code: MetaCode) {
        let applied = self.apply(&envelope(command));
        match applied.result {
            Err(error) => assert_eq!(error.code(), code, "{error}"),
            Ok(outcome) => panic!("{outcome:?}"),
        }
    }

    pub(crate) fn get(&self, key: &ObjectKey) -> &Object {
        self.state.get(key).unwrap()
    }
}

/// The object that an envelope was about.
#[track_caller]
pub(crate) fn object(applied: &Applied) -> &Object {
    match &applied.result {
        Ok(Outcome::Object(object)) => object,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn facts(region: &str, zone: &str) -> BrokerFacts {
    BrokerFacts {
        address: "localhost:7420".into(),
        region: region.into(),
        zone: zone.into(),
        labels: Box::default(),
        capacity: Capacity {
            max_shards: 10_000,
            max_connections: 1_000,
            cores: 2,
            logs: 4,
            memory_per_core: 1 << 30,
        },
    }
}

pub(crate) fn register(name: &str, incarnation: u64) -> Command {
    Command::RegisterBroker(RegisterBroker {
        name: name.into(),
        facts: facts("", ""),
        incarnation,
        gone: None,
    })
}

pub(crate) fn create_tenant(name: &str, quotas: TenantQuotas) -> Command {
    Command::CreateTenant(CreateTenant {
        name: name.into(),
        display_name: "".into(),
        description: "".into(),
        quotas,
        encryption: None,
    })
}

pub(crate) fn update_tenant(name: &str) -> UpdateTenant {
    UpdateTenant {
        name: name.into(),
        display_name: None,
        description: None,
        quotas: None,
        encryption: None,
    }
}

pub(crate) fn create_namespace(tenant: &str, name: &str, quotas: NamespaceQuotas) -> Command {
    Command::CreateNamespace(CreateNamespace {
        tenant: tenant.into(),
        name: name.into(),
        description: "".into(),
        quotas,
    })
}

pub(crate) fn update_namespace(tenant: &str, name: &str) -> UpdateNamespace {
    UpdateNamespace {
        tenant: tenant.into(),
        name: name.into(),
        description: None,
        quotas: None,
    }
}

pub(crate) fn delete(key: &ObjectKey, force: bool, grace_ms: u64) -> Command {
    Command::Delete(Delete {
        key: key.clone(),
        force,
        grace_ms,
        facts: DeleteFacts::default(),
    })
}

/// A resource in memory with one shard.
pub(crate) const SPEC: ResourceSpec = ResourceSpec {
    shards: 1,
    durable: false,
    overflow: 2,
    max_record_bytes: 1 << 20,
    ring_bytes: 1 << 20,
    retention_ms: 0,
    retention_bytes: 0,
    replication_factor: 1,
    ack: AckPolicy::Leader,
    queue: None,
};

pub(crate) const QUEUE: QueueSpec = QueueSpec {
    visibility_ms: 30_000,
    max_attempts: 5,
    ordered_by_key: true,
    drop_expired: false,
    max_in_flight: 65_536,
    consumer_in_flight: 4_096,
    backoff_min_ms: 100,
    backoff_max_ms: 60_000,
    messages_max: 1_000_000,
    redeliveries_per_s: 10_000,
};

pub(crate) fn seat(leader: u32, replicas: &[u32], log: u16) -> Seat {
    Seat {
        leader: BrokerNumber(leader),
        replicas: replicas.iter().copied().map(BrokerNumber).collect(),
        log,
    }
}

/// A resource of one shard on broker 1.
pub(crate) fn declare(kind: ResourceKind, tenant: &str, namespace: &str, name: &str) -> Declare {
    Declare {
        kind,
        tenant: tenant.into(),
        namespace: namespace.into(),
        name: name.into(),
        spec: SPEC,
        seats: Box::new([seat(1, &[], 0)]),
        pinned: None,
        create_namespace: false,
        if_exists: IfExists::Same,
    }
}

pub(crate) fn update_resource(
    kind: ResourceKind,
    tenant: &str,
    namespace: &str,
    name: &str,
) -> UpdateResource {
    UpdateResource {
        kind,
        tenant: tenant.into(),
        namespace: namespace.into(),
        name: name.into(),
        overflow: None,
        max_record_bytes: None,
        retention_ms: None,
        retention_bytes: None,
        queue: None,
    }
}

/// No quotas at all.
pub(crate) const FREE: TenantQuotas = TenantQuotas {
    max_namespaces: 0,
    max_streams: 0,
    max_publish_rate: 0,
    max_storage_bytes: 0,
    max_connections: 0,
    max_cache_memory_bytes: 0,
    max_policies: 0,
};

/// No quotas at all.
pub(crate) const OPEN: NamespaceQuotas = NamespaceQuotas {
    max_streams: 0,
    max_publish_rate: 0,
};
