//! Between what the metadata says of resources and what the data cores know.

use pinion_commitlog::LogId;
use pinion_metadata::command::{Declare, IfExists};
use pinion_metadata::resource::{self, AckPolicy, Placement, ResourceSpec, Seat};
use pinion_metadata::{BrokerNumber, MetaCode, MetaError, TenantNumber};
use pinion_node::access::TenantId;
use pinion_node::declared::Declared;
use pinion_node::map::Draft;
use pinion_plane::PlaneError;
use pinion_types::{ErrorCode, FactId, Outcome, Refusal, ResourceKind, ResourceName, RetryClass};
use pinion_wire::message::{Overflow, QueueSpec, Spec};

/// What a client of the data path waits before it asks again, where the control
/// plane does not say.
const RETRY_MS: u32 = 500;

/// A specification as the metadata keeps it.
pub(super) fn to_metadata(kind: ResourceKind, spec: &Spec) -> ResourceSpec {
    let queue = &spec.queue;
    ResourceSpec {
        shards: spec.shards,
        durable: spec.durability > 0,
        overflow: spec.overflow as u8,
        max_record_bytes: spec.max_record_bytes,
        ring_bytes: spec.ring_bytes,
        retention_ms: spec.retention_ms,
        retention_bytes: spec.retention_bytes,
        replication_factor: 1,
        ack: AckPolicy::Leader,
        queue: (kind == ResourceKind::Queue).then_some(resource::QueueSpec {
            visibility_ms: queue.visibility_ms,
            max_attempts: queue.max_attempts,
            ordered_by_key: queue.ordered_by_key,
            drop_expired: queue.drop_expired,
            max_in_flight: queue.max_in_flight,
            consumer_in_flight: queue.consumer_in_flight,
            backoff_min_ms: queue.backoff_min_ms,
            backoff_max_ms: queue.backoff_max_ms,
            messages_max: queue.messages_max,
            redeliveries_per_s: queue.redeliveries_per_s,
        }),
    }
}

/// A specification as the data cores have it.
pub(super) fn to_wire(spec: &ResourceSpec) -> Spec {
    Spec {
        shards: spec.shards,
        durability: u8::from(spec.durable),
        // The metadata takes no other numbers than the wire has.
        overflow: Overflow::from_u8(spec.overflow).unwrap_or(Overflow::DropOldest),
        max_record_bytes: spec.max_record_bytes,
        ring_bytes: spec.ring_bytes,
        retention_ms: spec.retention_ms,
        retention_bytes: spec.retention_bytes,
        queue: spec.queue.map_or(QueueSpec::UNSET, |queue| QueueSpec {
            visibility_ms: queue.visibility_ms,
            max_attempts: queue.max_attempts,
            ordered_by_key: queue.ordered_by_key,
            drop_expired: queue.drop_expired,
            max_in_flight: queue.max_in_flight,
            consumer_in_flight: queue.consumer_in_flight,
            backoff_min_ms: queue.backoff_min_ms,
            backoff_max_ms: queue.backoff_max_ms,
            messages_max: queue.messages_max,
            redeliveries_per_s: queue.redeliveries_per_s,
        }),
    }
}

/// What asks for a draft of this node, all of it here.
pub(super) fn declare(draft: &Draft, tenant: &str, broker: BrokerNumber) -> Declare {
    let seat = |log: &LogId| Seat {
        leader: broker,
        replicas: Box::default(),
        log: log.0,
    };
    Declare {
        kind: draft.kind,
        tenant: tenant.into(),
        namespace: draft.name.namespace().into(),
        name: draft.name.name().into(),
        spec: to_metadata(draft.kind, &draft.spec),
        seats: draft.logs.iter().map(seat).collect(),
        pinned: Some(broker),
        create_namespace: true,
        if_exists: IfExists::Same,
    }
}

/// A resource as this node's cores are to know it; `None` unless all of it is led
/// by `broker`.
pub(super) fn declared(
    tenant: TenantNumber,
    (kind, name): (ResourceKind, ResourceName),
    resource: &resource::Resource,
    placement: &Placement,
    broker: BrokerNumber,
) -> Option<Declared> {
    let mut seats = placement.shards.iter().map(|shard| &shard.seat);
    if !seats.clone().all(|seat| seat.leader == broker) {
        return None;
    }
    Some(Declared {
        id: resource.id,
        tenant: TenantId(tenant.0),
        kind,
        name,
        spec: to_wire(&resource.spec),
        logs: seats.by_ref().map(|seat| LogId(seat.log)).collect(),
    })
}

/// What a client is told of a resource that another node serves. Asking this one again
/// does not help, so it is not to be tried again by itself.
pub(super) fn elsewhere(node: BrokerNumber) -> Refusal {
    let mut refusal = Refusal::new(ErrorCode::Redirect).with(FactId::Node, u64::from(node.0));
    refusal.retry = RetryClass::Fatal;
    refusal
}

/// What a client of the data path is told of a declaration that was not done.
/// `full` says that it is for want of room on the disk when rows of the audit log
/// cannot be written.
pub(super) fn refusal(error: &PlaneError, full: bool) -> Refusal {
    match error {
        PlaneError::Meta(error) => meta_refusal(error),
        PlaneError::Malformed(_) => ErrorCode::BadName.into(),
        PlaneError::NoLeader { retry_after_ms } => {
            Refusal::new(ErrorCode::Busy).after_ms(*retry_after_ms)
        }
        PlaneError::Unknown => {
            let mut refusal = Refusal::new(ErrorCode::Busy);
            refusal.outcome = Outcome::Unknown;
            refusal.retry = RetryClass::OutcomeUnknown;
            refusal
        }
        PlaneError::TimedOut | PlaneError::Busy { .. } | PlaneError::NotReady => {
            Refusal::new(ErrorCode::Busy).after_ms(RETRY_MS)
        }
        PlaneError::ReadOnly => ErrorCode::ReadOnly.into(),
        PlaneError::AuditUnavailable if full => ErrorCode::ReadOnly.into(),
        PlaneError::AuditUnavailable | PlaneError::Failed => {
            let mut refusal = Refusal::new(ErrorCode::DurabilityFailed);
            // It was not even tried.
            refusal.outcome = Outcome::NotAdmitted;
            refusal.retry = RetryClass::Fatal;
            refusal
        }
    }
}

fn meta_refusal(error: &MetaError) -> Refusal {
    match error {
        MetaError::BadSpec {
            actual, min, max, ..
        } => Refusal::new(ErrorCode::BadArgument)
            .with(FactId::Actual, *actual)
            .with(FactId::Min, *min)
            .with(FactId::Max, *max),
        MetaError::LimitReached { limit, .. } => {
            Refusal::new(ErrorCode::LimitReached).with(FactId::Limit, *limit)
        }
        MetaError::NoMemory { bytes, .. } => {
            Refusal::new(ErrorCode::LimitReached).with(FactId::Actual, *bytes)
        }
        MetaError::QuotaExceeded { limit, .. } => {
            Refusal::new(ErrorCode::QuotaExceeded).with(FactId::Limit, *limit)
        }
        error => Refusal::from(match error.code() {
            MetaCode::SpecConflict | MetaCode::Exists => ErrorCode::SpecConflict,
            MetaCode::BadName => ErrorCode::BadName,
            MetaCode::NotFound => ErrorCode::NotFound,
            // It can still be taken back.
            MetaCode::Deleting | MetaCode::ParentDeleting => ErrorCode::ResourceClosed,
            MetaCode::BrokerUnavailable | MetaCode::NoBroker => ErrorCode::Busy,
            _ => ErrorCode::BadArgument,
        }),
    }
}

#[cfg(test)]
mod tests {
    use pinion_node::map::{EMPTY_SPEC, memory_of};

    use super::*;

    #[test]
    fn metadata_and_nodes_count_the_same_memory() {
        for kind in [
            ResourceKind::Stream,
            ResourceKind::Queue,
            ResourceKind::Cache,
        ] {
            for durability in [0, 1] {
                if durability > 0 && kind == ResourceKind::Cache {
                    continue;
                }
                let spec = Spec {
                    durability,
                    ring_bytes: 7 << 20,
                    ..EMPTY_SPEC
                };
                let there = to_metadata(kind, &spec).partition_memory();
                assert_eq!(there, memory_of(kind, &spec), "{kind} {durability}");
            }
        }
    }
}
