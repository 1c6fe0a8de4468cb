//! Objects of the metadata as messages.

use pinion_metadata::broker::{self, BrokerStatus};
use pinion_metadata::resource::{self, MoveStatus, Placement, Resource, ResourceSpec};
use pinion_metadata::tenant::{Namespace, Tenant};
use pinion_metadata::{Body, Change, ChangeKind, Meta, Object, ObjectKey};
use pinion_types::ResourceKind;

use super::proto;
use super::proto::metadata_update::Payload;

/// A change as those who follow get it.
pub(crate) fn update(change: &Change) -> proto::MetadataUpdate {
    let kind = match change.kind {
        ChangeKind::Create => proto::UpdateType::Create,
        ChangeKind::Update => proto::UpdateType::Update,
        ChangeKind::Delete => proto::UpdateType::Delete,
    };
    let payload = match change.object.as_deref() {
        Some(object) => payload(object),
        None => names(&change.key),
    };
    proto::MetadataUpdate {
        version: change.version.0,
        r#type: kind.into(),
        payload: Some(payload),
    }
}

/// Adds an object to a snapshot; one that only its owner may see is left out.
pub(crate) fn add(metadata: &mut proto::Metadata, object: &Object) {
    match payload(object) {
        Payload::Tenant(tenant) => metadata.tenants.push(tenant),
        Payload::Namespace(namespace) => metadata.namespaces.push(namespace),
        Payload::Stream(stream) => metadata.streams.push(stream),
        Payload::Queue(queue) => metadata.queues.push(queue),
        Payload::Cache(cache) => metadata.caches.push(cache),
        Payload::Placement(placement) => metadata.placements.push(placement),
        Payload::Broker(broker) => metadata.brokers.push(broker),
        Payload::Other(_) => {}
    }
}

fn payload(object: &Object) -> Payload {
    let Object { meta, body } = object;
    let mut named = names(&meta.key);
    match (&mut named, body) {
        (Payload::Tenant(tenant), Body::Tenant(of)) => fill_tenant(tenant, meta, of),
        (Payload::Namespace(namespace), Body::Namespace(of)) => {
            fill_namespace(namespace, meta, of);
        }
        (
            Payload::Stream(stream) | Payload::Queue(stream) | Payload::Cache(stream),
            Body::Resource(of),
        ) => fill_stream(stream, meta, of),
        (Payload::Placement(placement), Body::Placement(of)) => {
            fill_placement(placement, meta, of);
        }
        (Payload::Broker(row), Body::Broker(of)) => *row = broker(meta, of),
        // Its key is all that is told of it.
        _ => {}
    }
    named
}

/// What a key says.
fn names(key: &ObjectKey) -> Payload {
    match key {
        ObjectKey::Tenant(name) => Payload::Tenant(proto::Tenant {
            name: name.to_string(),
            ..Default::default()
        }),
        ObjectKey::Namespace { tenant, name } => Payload::Namespace(proto::Namespace {
            name: name.to_string(),
            tenant_id: tenant.to_string(),
            ..Default::default()
        }),
        ObjectKey::Resource {
            kind,
            tenant,
            namespace,
            name,
        } => {
            let stream = proto::Stream {
                name: name.to_string(),
                namespace: namespace.to_string(),
                tenant_id: tenant.to_string(),
                ..Default::default()
            };
            match kind {
                ResourceKind::Stream => Payload::Stream(stream),
                ResourceKind::Queue => Payload::Queue(stream),
                ResourceKind::Cache => Payload::Cache(stream),
            }
        }
        ObjectKey::Placement {
            kind,
            tenant,
            namespace,
            name,
        } => Payload::Placement(proto::ShardPlacement {
            stream: name.to_string(),
            namespace: namespace.to_string(),
            tenant_id: tenant.to_string(),
            kind: kind.scheme().into(),
            ..Default::default()
        }),
        ObjectKey::Broker(name) => Payload::Broker(proto::Broker {
            name: name.to_string(),
            ..Default::default()
        }),
        other => Payload::Other(proto::OtherObject {
            key: other.to_string(),
        }),
    }
}

fn purge_at_ms(meta: &Meta) -> u64 {
    meta.deleting.map_or(0, |deleting| deleting.purge_at.0)
}

fn fill_tenant(row: &mut proto::Tenant, meta: &Meta, of: &Tenant) {
    row.description = of.description.to_string();
    row.display_name = of.display_name.to_string();
    row.number = of.number.0;
    row.quotas = Some(proto::TenantQuotas {
        max_streams: of.quotas.max_streams,
        max_publish_rate: of.quotas.max_publish_rate,
        max_storage_bytes: of.quotas.max_storage_bytes,
        max_connections: of.quotas.max_connections,
        max_cache_memory_bytes: of.quotas.max_cache_memory_bytes,
        max_namespaces: of.quotas.max_namespaces,
        max_policies: of.quotas.max_policies,
    });
    row.encryption = of.encryption.as_ref().map(|one| proto::Encryption {
        key_id: one.key_id.to_string(),
        rotation_period_ms: one.rotation_period_ms,
    });
    row.purge_at_ms = purge_at_ms(meta);
    row.version = meta.version.0;
}

fn fill_namespace(row: &mut proto::Namespace, meta: &Meta, of: &Namespace) {
    row.description = of.description.to_string();
    row.quotas = Some(proto::NamespaceQuotas {
        max_streams: of.quotas.max_streams,
        max_publish_rate: of.quotas.max_publish_rate,
    });
    row.purge_at_ms = purge_at_ms(meta);
    row.version = meta.version.0;
}

fn fill_stream(row: &mut proto::Stream, meta: &Meta, of: &Resource) {
    row.spec = Some(spec(&of.spec));
    row.queue = of.spec.queue.as_ref().map(|queue| proto::QueueSpec {
        visibility_ms: queue.visibility_ms,
        max_attempts: queue.max_attempts.into(),
        ordered_by_key: queue.ordered_by_key,
        drop_expired: queue.drop_expired,
        max_in_flight: queue.max_in_flight,
        consumer_in_flight: queue.consumer_in_flight,
        backoff_min_ms: queue.backoff_min_ms,
        backoff_max_ms: queue.backoff_max_ms,
        messages_max: queue.messages_max,
        redeliveries_per_s: queue.redeliveries_per_s,
    });
    row.resource_id = of.id.0;
    row.purge_at_ms = purge_at_ms(meta);
    row.version = meta.version.0;
}

pub(crate) fn spec(of: &ResourceSpec) -> proto::StreamSpec {
    let durability = if of.durable {
        proto::Durability::Durable
    } else {
        proto::Durability::Ephemeral
    };
    let ack = match of.ack {
        resource::AckPolicy::Leader => proto::AckPolicy::LeaderOnly,
        resource::AckPolicy::Quorum => proto::AckPolicy::Quorum,
    };
    proto::StreamSpec {
        shards: of.shards.into(),
        retention: Some(proto::RetentionPolicy {
            time_ms: of.retention_ms,
            size_bytes: of.retention_bytes,
        }),
        durability: durability.into(),
        replication_factor: of.replication_factor.into(),
        ack_policy: ack.into(),
        // The numbers are those of the wire, 1 to 4, as in the metadata.
        overflow: of.overflow.into(),
        max_record_bytes: of.max_record_bytes,
        ring_bytes: of.ring_bytes,
    }
}

fn fill_placement(row: &mut proto::ShardPlacement, meta: &Meta, of: &Placement) {
    let shard = |(id, shard): (u32, &resource::Shard)| proto::Shard {
        shard_id: id,
        leader: shard.seat.leader.0,
        replicas: shard.seat.replicas.iter().map(|one| one.0).collect(),
        epoch: shard.epoch,
    };
    row.placements = (0..).zip(&of.shards).map(shard).collect();
    let moves = of.plan.iter().flat_map(|plan| &plan.moves);
    let planned = moves.map(|one| proto::PlannedMove {
        shard_id: one.shard.into(),
        from_broker: one.from.0,
        to_broker: one.to.0,
        status: status(one.status).into(),
    });
    row.moves = planned.collect();
    row.version = meta.version.0;
}

pub(crate) fn status(status: MoveStatus) -> proto::MoveStatus {
    match status {
        MoveStatus::Pending => proto::MoveStatus::MovePending,
        MoveStatus::Cancelled => proto::MoveStatus::MoveCancelled,
    }
}

pub(crate) fn broker(meta: &Meta, of: &broker::Broker) -> proto::Broker {
    let name = match &meta.key {
        ObjectKey::Broker(name) => name.to_string(),
        _ => String::new(),
    };
    let status = match of.status() {
        BrokerStatus::Active => proto::BrokerStatus::Active,
        BrokerStatus::Draining => proto::BrokerStatus::Draining,
        BrokerStatus::Down => proto::BrokerStatus::Down,
    };
    let facts = &of.facts;
    let label = |one: &broker::Label| (one.name.to_string(), one.value.to_string());
    proto::Broker {
        name,
        address: facts.address.to_string(),
        region: facts.region.to_string(),
        availability_zone: facts.zone.to_string(),
        capacity: Some(proto::BrokerCapacity {
            max_shards: facts.capacity.max_shards,
            max_connections: facts.capacity.max_connections,
            cores: facts.capacity.cores.into(),
            logs: facts.capacity.logs.into(),
            memory_per_core: facts.capacity.memory_per_core,
        }),
        status: status.into(),
        labels: facts.labels.iter().map(label).collect(),
        number: of.number.0,
        incarnation: of.incarnation,
        version: meta.version.0,
    }
}
