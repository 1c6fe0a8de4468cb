//! Resources and where they are placed.

use super::{Made, below, tenants};
use crate::command::{Declare, IfExists, UpdateResource};
use crate::draft::Draft;
use crate::error::{MetaError, Quota};
use crate::ids::BrokerNumber;
use crate::limits::{RESOURCES_MAX, SHARDS_TOTAL_MAX, TOTAL_BYTES_MAX};
use crate::name;
use crate::object::{Body, ObjectKey};
use crate::resource::{Placement, Resource, ResourceSpec, Shard};
use crate::tenant::{Namespace, NamespaceQuotas, Tenant};
use crate::usage::{Scope, Usage};
use pinion_types::ResourceId;

pub(super) fn declare(draft: &mut Draft<'_>, command: &Declare) -> Result<Made, MetaError> {
    let Declare {
        kind,
        tenant,
        namespace,
        name,
        spec,
        ..
    } = command;
    name::tenant(tenant)?;
    name::resource(namespace, name)?;
    spec.check(*kind)?;
    let key = ObjectKey::resource(*kind, tenant, namespace, name);
    if let Some(object) = draft.get(&key) {
        if object.meta.deleting.is_some() {
            return Err(MetaError::Deleting(key));
        }
        return match (&object.body, command.if_exists) {
            (Body::Resource(resource), IfExists::Same) if resource.spec == *spec => {
                Ok(Made::Object(key))
            }
            (_, IfExists::Same) => Err(MetaError::SpecConflict(key)),
            (_, IfExists::Refuse) => Err(MetaError::Exists(key)),
        };
    }
    let home = ObjectKey::namespace(tenant, namespace);
    if command.create_namespace && draft.get(&home).is_none() {
        let empty = Namespace {
            description: Box::default(),
            quotas: NamespaceQuotas::default(),
        };
        tenants::make_namespace(draft, tenant, namespace, empty)?;
    }
    draft.active(&home)?;

    let id = draft.counters.resource;
    let first = |seat: &crate::resource::Seat| Shard {
        seat: seat.clone(),
        epoch: 1,
    };
    let placement = Placement {
        resource: id,
        pinned: command.pinned,
        shards: command.seats.iter().map(first).collect(),
        plan: None,
    };
    placement.check(spec)?;
    for number in &placement.brokers() {
        let up = draft
            .broker(*number)
            .is_some_and(|broker| broker.down.is_none());
        if !up {
            return Err(MetaError::BrokerUnavailable(*number));
        }
    }
    let resource = Resource {
        id,
        spec: spec.clone(),
    };
    draft.create(key.clone(), Body::Resource(resource))?;
    let brokers = placement.brokers();
    draft.create(
        ObjectKey::placement(*kind, tenant, namespace, name),
        Body::Placement(placement),
    )?;
    draft.counters.resource = ResourceId(id.0 + 1);
    check_quotas(draft, tenant, namespace)?;
    check_memory(draft, &brokers, spec)?;
    Ok(Made::Object(key))
}

pub(super) fn update(draft: &mut Draft<'_>, command: &UpdateResource) -> Result<Made, MetaError> {
    let UpdateResource {
        kind,
        tenant,
        namespace,
        name,
        ..
    } = command;
    name::tenant(tenant)?;
    name::resource(namespace, name)?;
    let key = ObjectKey::resource(*kind, tenant, namespace, name);
    let Body::Resource(resource) = &draft.active(&key)?.body else {
        return Err(MetaError::NotFound(key));
    };
    let mut resource = resource.clone();
    let spec = &mut resource.spec;
    spec.overflow = command.overflow.unwrap_or(spec.overflow);
    spec.max_record_bytes = command.max_record_bytes.unwrap_or(spec.max_record_bytes);
    spec.retention_ms = command.retention_ms.unwrap_or(spec.retention_ms);
    spec.retention_bytes = command.retention_bytes.unwrap_or(spec.retention_bytes);
    if let Some(queue) = command.queue {
        // Messages of a key that are out together cannot be put in a row again.
        let ordered = spec.queue.map(|queue| queue.ordered_by_key);
        if ordered.is_some_and(|ordered| ordered != queue.ordered_by_key) {
            return Err(MetaError::ImmutableField {
                field: "ordered_by_key",
            });
        }
        spec.queue = Some(queue);
    }
    spec.check(*kind)?;
    draft.update(&key, Body::Resource(resource))?;
    check_quotas(draft, tenant, namespace)?;
    Ok(Made::Object(key))
}

/// Refused when a broker would promise more memory than it has. The draft has the
/// placement already.
fn check_memory(
    draft: &Draft<'_>,
    brokers: &[BrokerNumber],
    spec: &ResourceSpec,
) -> Result<(), MetaError> {
    let bytes = spec.partition_memory();
    for number in brokers {
        let promised = draft.usage(&Scope::Broker(*number)).memory_bytes;
        let broker = draft.broker(*number);
        if broker.is_some_and(|broker| !broker.facts.capacity.has_memory(bytes, promised)) {
            let broker = Some(*number);
            return Err(MetaError::NoMemory { bytes, broker });
        }
    }
    Ok(())
}

/// Refused when the tenant, the namespace or the cluster would have more than
/// it may. The draft has the change already.
pub(super) fn check_quotas(
    draft: &Draft<'_>,
    tenant: &str,
    namespace: &str,
) -> Result<(), MetaError> {
    check(draft, tenant, namespace, within)
}

/// The same of what is taken over with its data: only what is alive counts, which has to
/// be within the quotas whatever else is to come to pass.
pub(super) fn check_imported(
    draft: &Draft<'_>,
    tenant: &str,
    namespace: &str,
) -> Result<(), MetaError> {
    check(draft, tenant, namespace, alive_within)
}

fn check(
    draft: &Draft<'_>,
    tenant: &str,
    namespace: &str,
    within: fn(&Draft<'_>, &Scope, &[Limit]) -> Result<(), MetaError>,
) -> Result<(), MetaError> {
    let key = ObjectKey::tenant(tenant);
    if let Body::Tenant(Tenant { quotas, .. }) = &draft.active(&key)?.body {
        let scope = Scope::Tenant(tenant.into());
        within(
            draft,
            &scope,
            &[
                (Quota::Streams, quotas.max_streams, |used| used.resources),
                (Quota::Storage, quotas.max_storage_bytes, |used| {
                    used.storage_bytes
                }),
                (Quota::CacheMemory, quotas.max_cache_memory_bytes, |used| {
                    used.cache_bytes
                }),
            ],
        )?;
    }
    let key = ObjectKey::namespace(tenant, namespace);
    if let Body::Namespace(Namespace { quotas, .. }) = &draft.active(&key)?.body {
        let scope = Scope::Namespace(tenant.into(), namespace.into());
        let streams = quotas.max_streams;
        within(
            draft,
            &scope,
            &[(Quota::Streams, streams, |used| used.resources)],
        )?;
    }
    let Usage {
        resources,
        shards,
        cache_bytes,
        storage_bytes,
        ..
    } = draft.usage(&Scope::Cluster);
    below("resources", resources, RESOURCES_MAX)?;
    below("shards", shards, SHARDS_TOTAL_MAX)?;
    below("bytes of caches", cache_bytes, TOTAL_BYTES_MAX)?;
    below("bytes on disk", storage_bytes, TOTAL_BYTES_MAX)
}

/// A quota, what it is, and what counts for it.
pub(super) type Limit = (Quota, u64, fn(&Usage) -> u64);

/// Refused when something would grow beyond its quota. What is deleted and not purged
/// counts, so what is taken back was counted before and meets no quota.
pub(super) fn within(draft: &Draft<'_>, scope: &Scope, quotas: &[Limit]) -> Result<(), MetaError> {
    let (kept, before) = draft.kept(scope);
    let alive = draft.usage(scope);
    for (quota, limit, count) in quotas {
        let (wanted, used) = (count(&kept), count(&before));
        // Where only what is alive was counted there may be more together. What makes
        // that less is taken, and what is alive never leaves its quota.
        let grows = wanted > used || count(&alive) > *limit;
        if *limit != 0 && wanted > *limit && grows {
            let (quota, limit) = (*quota, *limit);
            return Err(MetaError::QuotaExceeded { quota, limit, used });
        }
    }
    Ok(())
}

fn alive_within(draft: &Draft<'_>, scope: &Scope, quotas: &[Limit]) -> Result<(), MetaError> {
    let (alive, before) = draft.used(scope);
    for (quota, limit, count) in quotas {
        if *limit != 0 && count(&alive) > *limit {
            let (quota, limit, used) = (*quota, *limit, count(&before));
            return Err(MetaError::QuotaExceeded { quota, limit, used });
        }
    }
    Ok(())
}
