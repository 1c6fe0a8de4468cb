//! Deletion in two steps. An object that is deleted stays where it is until its
//! grace is over, and can be taken back; then it is purged, and what outlives a
//! resource is a tombstone that says which brokers still have its data.

use std::collections::BTreeSet;

use pinion_types::{ResourceId, WallMs};

use super::{Made, below, plans, resources, tenants};
use crate::command::{ConfirmPurged, Delete};
use crate::draft::Draft;
use crate::error::MetaError;
use crate::identity::Revoked;
use crate::ids::{BrokerNumber, RowId};
use crate::limits::{CONFIRMED_MAX, GRACE_MS_MAX, TOMBSTONES_MAX, TREE_MAX};
use crate::object::{Body, Deleting, Object, ObjectKey, Tombstone};
use crate::usage::Scope;

/// The object and everything in it.
fn tree(draft: &Draft<'_>, key: &ObjectKey) -> Result<Vec<ObjectKey>, MetaError> {
    let (tenant, namespace) = key.place();
    let mut keys = vec![key.clone()];
    let mut starts = Vec::new();
    match key {
        ObjectKey::Tenant(_) => {
            starts.push(ObjectKey::namespace(tenant, ""));
            starts.extend(ObjectKey::first_resources(tenant, ""));
        }
        ObjectKey::Namespace { .. } => {
            starts.extend(ObjectKey::first_resources(tenant, namespace));
        }
        ObjectKey::Resource { .. } => {}
        _ => {
            return Err(MetaError::NotDeletable(key.clone()));
        }
    }
    for first in starts {
        let inside = |other: &ObjectKey| other.is_in(key) && other.same_kind(&first);
        for object in draft.range(&first, inside) {
            if keys.len() == TREE_MAX {
                return Err(MetaError::LimitReached {
                    what: "objects deleted or taken back at once",
                    limit: TREE_MAX as u64,
                });
            }
            keys.push(object.meta.key.clone());
        }
    }
    Ok(keys)
}

pub(super) fn delete(draft: &mut Draft<'_>, command: &Delete) -> Result<Made, MetaError> {
    let key = &command.key;
    let keys = tree(draft, key)?;
    draft.active(key)?;
    if command.grace_ms > GRACE_MS_MAX {
        return Err(MetaError::BadSpec {
            field: "grace_ms",
            actual: command.grace_ms,
            min: 0,
            max: GRACE_MS_MAX,
        });
    }
    if !command.force {
        check_safe(draft, command)?;
    }
    // What was deleted before keeps its grace, and what it is in waits for it.
    let mut purge_at = WallMs(draft.stamp().0.saturating_add(command.grace_ms));
    for key in &keys {
        if let Some(deleting) = &draft.existing(key)?.meta.deleting {
            purge_at = purge_at.max(deleting.purge_at);
        }
    }
    let deleting = Deleting {
        since: draft.stamp(),
        purge_at,
        cause: draft.index(),
        forced: command.force,
    };
    for key in &keys {
        if draft.existing(key)?.meta.deleting.is_none() {
            draft.set_deleting(key, Some(deleting))?;
            plans::forget(draft, key)?;
        }
    }
    Ok(Made::Object(key.clone()))
}

/// Refused when something would be lost that the caller may not know of.
fn check_safe(draft: &Draft<'_>, command: &Delete) -> Result<(), MetaError> {
    if command.grace_ms == 0 {
        return Err(MetaError::GraceRequired);
    }
    let (tenant, namespace) = command.key.place();
    let inside = match &command.key {
        ObjectKey::Tenant(_) => draft.usage(&Scope::Tenant(tenant.into())).namespaces,
        ObjectKey::Namespace { .. } => {
            let scope = Scope::Namespace(tenant.into(), namespace.into());
            draft.usage(&scope).resources
        }
        _ => 0,
    };
    if inside != 0 {
        return Err(MetaError::NotEmpty { inside });
    }
    if command.facts.subscribers != 0 {
        return Err(MetaError::HasSubscribers {
            count: command.facts.subscribers,
        });
    }
    if command.facts.durable_bytes != 0 {
        return Err(MetaError::HasData {
            bytes: command.facts.durable_bytes,
        });
    }
    Ok(())
}

/// Takes back what one command deleted: the object and what went with it.
pub(super) fn undelete(draft: &mut Draft<'_>, key: &ObjectKey) -> Result<Made, MetaError> {
    let keys = tree(draft, key)?;
    let Some(Deleting { cause, .. }) = draft.existing(key)?.meta.deleting else {
        return Err(MetaError::NotDeleting(key.clone()));
    };
    if let Some(parent) = key.parent()
        && draft.existing(&parent)?.meta.deleting.is_some()
    {
        return Err(MetaError::ParentDeleting(parent));
    }
    let mut places = BTreeSet::new();
    for key in &keys {
        let deleting = draft.existing(key)?.meta.deleting;
        if deleting.is_some_and(|deleting| deleting.cause == cause) {
            draft.set_deleting(key, None)?;
            let (tenant, namespace) = key.place();
            places.insert((tenant.to_owned(), namespace.to_owned()));
        }
    }
    // It was counted all the while. Where an earlier release counted only what is alive,
    // others may have used what it had left.
    for (tenant, namespace) in places {
        if namespace.is_empty() {
            continue;
        }
        tenants::check_namespaces(draft, &tenant)?;
        resources::check_quotas(draft, &tenant, &namespace)?;
        tenants::check_parent(draft, &tenant, &namespace)?;
    }
    Ok(Made::Object(key.clone()))
}

/// Ends what is deleted, once its grace is over and nothing is in it.
pub(super) fn purge(draft: &mut Draft<'_>, key: &ObjectKey) -> Result<Made, MetaError> {
    if let ObjectKey::Revocation { .. } = key {
        return purge_revocation(draft, key);
    }
    let inside = tree(draft, key)?.len() as u64 - 1;
    let Some(Deleting { purge_at, .. }) = draft.existing(key)?.meta.deleting else {
        return Err(MetaError::NotDeleting(key.clone()));
    };
    if draft.stamp() < purge_at {
        return Err(MetaError::TooEarly { purge_at });
    }
    if inside != 0 {
        return Err(MetaError::NotEmpty { inside });
    }
    if let ObjectKey::Tenant(tenant) = key {
        // So many at a time; the rest is due as long as the tenant is there.
        let belongings = belongings(draft, tenant);
        for belonging in belongings.iter().take(TREE_MAX) {
            draft.remove(belonging)?;
        }
        if belongings.len() > TREE_MAX {
            return Ok(Made::Nothing);
        }
    }
    if let ObjectKey::Resource {
        kind,
        tenant,
        namespace,
        name,
    } = key
    {
        let placement = ObjectKey::placement(*kind, tenant, namespace, name);
        if let Body::Placement(placed) = &draft.existing(&placement)?.body {
            let (id, pending) = (placed.resource, placed.brokers());
            let tombstone = Tombstone {
                of: key.clone(),
                purged: draft.stamp(),
                pending,
            };
            draft.create(ObjectKey::Tombstone(id), Body::Tombstone(tombstone))?;
        }
        draft.remove(&placement)?;
        let used = draft.usage(&Scope::Cluster);
        below("tombstones", used.tombstones, TOMBSTONES_MAX)?;
    }
    draft.remove(key)?;
    Ok(Made::Nothing)
}

/// Every token that it is about is over.
fn purge_revocation(draft: &mut Draft<'_>, key: &ObjectKey) -> Result<Made, MetaError> {
    if let Body::Revocation(revocation) = &draft.existing(key)?.body
        && draft.stamp() < revocation.until
    {
        let purge_at = revocation.until;
        return Err(MetaError::TooEarly { purge_at });
    }
    draft.remove(key)?;
    Ok(Made::Nothing)
}

/// What goes with a tenant without a grace of its own; at most one more than
/// [`TREE_MAX`].
fn belongings(draft: &Draft<'_>, tenant: &str) -> Vec<ObjectKey> {
    let starts = [
        ObjectKey::policy(tenant, RowId(0)),
        ObjectKey::grouping(tenant, RowId(0)),
        ObjectKey::issuer(tenant, ""),
        ObjectKey::api_key(tenant, RowId(0)),
        ObjectKey::signing_keys(tenant),
        ObjectKey::revocation(tenant, Revoked::Token([0; 16])),
    ];
    let of = |first: ObjectKey| {
        let like = |key: &ObjectKey| key.same_kind(&first) && key.place() == first.place();
        let inside = draft.range(&first, like);
        inside
            .map(|object| object.meta.key.clone())
            .collect::<Vec<_>>()
    };
    let all = starts.into_iter().flat_map(of);
    all.take(TREE_MAX + 1).collect()
}

/// A broker has no data of these resources any more. What it does not have to
/// confirm is passed over: it may say it again.
pub(super) fn confirm(draft: &mut Draft<'_>, command: &ConfirmPurged) -> Result<Made, MetaError> {
    if command.resources.len() > CONFIRMED_MAX {
        return Err(MetaError::BadSpec {
            field: "resources",
            actual: command.resources.len() as u64,
            min: 0,
            max: CONFIRMED_MAX as u64,
        });
    }
    for resource in &command.resources {
        let key = ObjectKey::Tombstone(*resource);
        if draft.get(&key).is_some() {
            no_more_pending(draft, &key, command.broker)?;
        }
    }
    Ok(Made::Nothing)
}

/// A broker that is removed can confirm nothing: nobody waits for it any more.
pub(super) fn nobody_waits_for(
    draft: &mut Draft<'_>,
    broker: BrokerNumber,
) -> Result<(), MetaError> {
    let first = ObjectKey::Tombstone(ResourceId(0));
    let waits = |object: &&Object| match &object.body {
        Body::Tombstone(tombstone) => tombstone.pending.contains(&broker),
        _ => false,
    };
    let tombstones = draft.range(&first, |key| matches!(key, ObjectKey::Tombstone(_)));
    let keys = tombstones.filter(waits).map(|object| &object.meta.key);
    let keys: Vec<ObjectKey> = keys.take(TREE_MAX + 1).cloned().collect();
    if keys.len() > TREE_MAX {
        return Err(MetaError::LimitReached {
            what: "tombstones that wait for the broker",
            limit: TREE_MAX as u64,
        });
    }
    for key in keys {
        no_more_pending(draft, &key, broker)?;
    }
    Ok(())
}

/// Takes a broker out of a tombstone, and the tombstone away with its last one.
fn no_more_pending(
    draft: &mut Draft<'_>,
    key: &ObjectKey,
    broker: BrokerNumber,
) -> Result<(), MetaError> {
    let Body::Tombstone(tombstone) = &draft.existing(key)?.body else {
        return Ok(());
    };
    let pending = tombstone.pending.iter().copied();
    let pending: Box<[BrokerNumber]> = pending.filter(|one| *one != broker).collect();
    if pending.is_empty() {
        return draft.remove(key);
    }
    let tombstone = Tombstone {
        pending,
        ..tombstone.clone()
    };
    draft.update(key, Body::Tombstone(tombstone))
}

/// The operator says that nobody will confirm: the brokers that had the data
/// are gone for good.
pub(super) fn forget(draft: &mut Draft<'_>, resource: ResourceId) -> Result<Made, MetaError> {
    let key = ObjectKey::Tombstone(resource);
    draft.existing(&key)?;
    draft.remove(&key)?;
    Ok(Made::Nothing)
}
