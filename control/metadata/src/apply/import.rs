//! Resources that a broker declared by itself, before there was metadata: they keep
//! the numbers that their data is stored under.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use pinion_types::ResourceId;

use super::{Made, below, resources, tenants};
use crate::command::{Import, Imported};
use crate::draft::Draft;
use crate::error::MetaError;
use crate::ids::{BrokerNumber, TenantNumber};
use crate::limits::{
    COUNT_MAX, IMPORTED_MAX, RESOURCES_MAX, SHARDS_TOTAL_MAX, TENANTS_MAX, TOTAL_BYTES_MAX,
};
use crate::name;
use crate::object::{Body, ObjectKey};
use crate::resource::{Placement, Resource, Seat, Shard};
use crate::tenant::{Namespace, NamespaceQuotas, Tenant, TenantQuotas};
use crate::usage::Scope;

pub(super) fn import(draft: &mut Draft<'_>, command: &Import) -> Result<Made, MetaError> {
    let Import {
        broker,
        from,
        upto,
        next,
        resources,
    } = command;
    let done = draft.counters.imported;
    name::range("next", next.0, 1, COUNT_MAX)?;
    name::range("upto", upto.0, from.0.max(1), next.0)?;
    name::range("resources", resources.len() as u64, 0, IMPORTED_MAX as u64)?;
    if draft.broker(*broker).is_none() {
        return Err(MetaError::BrokerUnavailable(*broker));
    }
    // It came before: the answer to it was lost.
    if *upto <= done {
        return Ok(Made::Nothing);
    }
    // A piece that was left out would be data that nobody knows of.
    name::range("from", from.0, 0, done.0)?;
    if done == ResourceId(0) {
        // What was declared here already may have the same numbers.
        name::range("resources declared", draft.counters.resource.0 - 1, 0, 0)?;
        // Whatever is declared before the last piece comes gets none of the old numbers.
        draft.counters.resource = *next;
    }
    let mut known = tenant_names(draft);
    let mut homes = BTreeSet::new();
    let mut before = None;
    for one in resources {
        let least = before.map_or(from.0.max(1), |before: ResourceId| before.0 + 1);
        name::range("id", one.id.0, least, upto.0 - 1)?;
        before = Some(one.id);
        if one.id >= done {
            let tenant = take(draft, *broker, &mut known, one)?;
            homes.insert((tenant, &one.namespace));
        }
    }
    // Quotas may have been given before the data was found, or between two pieces of it.
    for (tenant, namespace) in homes {
        resources::check_imported(draft, &tenant, namespace)?;
    }
    draft.counters.imported = *upto;
    // They are there, with their data: only what no sum could hold is refused.
    let promised = draft.usage(&Scope::Broker(*broker)).memory_bytes;
    below("bytes of memory of a broker", promised, TOTAL_BYTES_MAX)?;
    let used = draft.usage(&Scope::Cluster);
    below("tenants", used.tenants, TENANTS_MAX)?;
    below("resources", used.resources, RESOURCES_MAX)?;
    below("shards", used.shards, SHARDS_TOTAL_MAX)?;
    Ok(Made::Nothing)
}

/// The tenants of a state, by number.
fn tenant_names(draft: &Draft<'_>) -> BTreeMap<TenantNumber, Box<str>> {
    let first = ObjectKey::tenant("");
    let objects = draft.range(&first, |key| matches!(key, ObjectKey::Tenant(_)));
    let named = objects.filter_map(|object| match (&object.meta.key, &object.body) {
        (ObjectKey::Tenant(name), Body::Tenant(tenant)) => Some((tenant.number, name.clone())),
        _ => None,
    });
    named.collect()
}

/// Gives the name of its tenant.
fn take(
    draft: &mut Draft<'_>,
    broker: BrokerNumber,
    known: &mut BTreeMap<TenantNumber, Box<str>>,
    one: &Imported,
) -> Result<Box<str>, MetaError> {
    let number = one.tenant;
    name::range("tenant", number.0, 1, COUNT_MAX - 1)?;
    name::resource(&one.namespace, &one.name)?;
    one.spec.check(one.kind)?;
    let tenant = match known.entry(number) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(unknown) => unknown.insert(make_tenant(draft, number)?),
    };
    let tenant = tenant.clone();
    let home = ObjectKey::namespace(&tenant, &one.namespace);
    if draft.get(&home).is_none() {
        let empty = Namespace {
            description: Box::default(),
            quotas: NamespaceQuotas::default(),
        };
        tenants::make_namespace(draft, &tenant, &one.namespace, empty)?;
    }
    draft.active(&home)?;
    let shard = |log: &u16| Shard {
        seat: Seat {
            leader: broker,
            replicas: Box::default(),
            log: *log,
        },
        epoch: 1,
    };
    let placement = Placement {
        resource: one.id,
        pinned: Some(broker),
        shards: one.logs.iter().map(shard).collect(),
        plan: None,
    };
    placement.check(&one.spec)?;
    let resource = Resource {
        id: one.id,
        spec: one.spec.clone(),
    };
    let key = ObjectKey::resource(one.kind, &tenant, &one.namespace, &one.name);
    draft.create(key, Body::Resource(resource))?;
    let key = ObjectKey::placement(one.kind, &tenant, &one.namespace, &one.name);
    draft.create(key, Body::Placement(placement))?;
    Ok(tenant)
}

/// A tenant that had a number and no name.
fn make_tenant(draft: &mut Draft<'_>, number: TenantNumber) -> Result<Box<str>, MetaError> {
    let name: Box<str> = format!("tenant-{number}").into();
    let tenant = Tenant {
        number,
        display_name: Box::default(),
        description: Box::default(),
        quotas: TenantQuotas::default(),
        encryption: None,
    };
    draft.create(ObjectKey::tenant(&name), Body::Tenant(tenant))?;
    draft.counters.tenant = draft.counters.tenant.max(TenantNumber(number.0 + 1));
    Ok(name)
}
