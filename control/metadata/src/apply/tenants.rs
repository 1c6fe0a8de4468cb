//! Tenants and namespaces.

use super::resources::{self, Limit};
use super::{Made, below};
use crate::command::{CreateNamespace, CreateTenant, UpdateNamespace, UpdateTenant};
use crate::draft::Draft;
use crate::error::{MetaError, Quota};
use crate::ids::TenantNumber;
use crate::limits::{NAMESPACES_MAX, TENANTS_MAX};
use crate::name;
use crate::object::{Body, ObjectKey};
use crate::tenant::{Namespace, Tenant, TenantQuotas};
use crate::usage::Scope;

pub(super) fn create(draft: &mut Draft<'_>, command: &CreateTenant) -> Result<Made, MetaError> {
    name::tenant(&command.name)?;
    let key = ObjectKey::tenant(&command.name);
    let number = draft.counters.tenant;
    let tenant = Tenant {
        number,
        display_name: command.display_name.clone(),
        description: command.description.clone(),
        quotas: command.quotas,
        encryption: command.encryption.clone(),
    };
    tenant.check()?;
    draft.create(key.clone(), Body::Tenant(tenant))?;
    draft.counters.tenant = TenantNumber(number.0 + 1);
    below("tenants", draft.usage(&Scope::Cluster).tenants, TENANTS_MAX)?;
    Ok(Made::Object(key))
}

pub(super) fn update(draft: &mut Draft<'_>, command: &UpdateTenant) -> Result<Made, MetaError> {
    name::tenant(&command.name)?;
    let key = ObjectKey::tenant(&command.name);
    let mut tenant = tenant(draft, &key)?.clone();
    if let Some(text) = &command.display_name {
        tenant.display_name = text.clone();
    }
    if let Some(text) = &command.description {
        tenant.description = text.clone();
    }
    if let Some(encryption) = &command.encryption {
        tenant.encryption = encryption.clone();
    }
    if let Some(quotas) = command.quotas {
        check_use(draft, &command.name, &quotas)?;
        tenant.quotas = quotas;
    }
    tenant.check()?;
    draft.update(&key, Body::Tenant(tenant))?;
    Ok(Made::Object(key))
}

/// Refused when a quota would be below what is used and what can be taken back, or below
/// what a namespace was given.
fn check_use(draft: &Draft<'_>, name: &str, quotas: &TenantQuotas) -> Result<(), MetaError> {
    let (used, _) = draft.kept(&Scope::Tenant(name.into()));
    not_below_use(&[
        (Quota::Namespaces, quotas.max_namespaces, used.namespaces),
        (Quota::Streams, quotas.max_streams, used.resources),
        (Quota::Storage, quotas.max_storage_bytes, used.storage_bytes),
        (
            Quota::CacheMemory,
            quotas.max_cache_memory_bytes,
            used.cache_bytes,
        ),
        (Quota::Policies, quotas.max_policies, used.policies),
    ])?;
    let first = ObjectKey::namespace(name, "");
    let of_tenant =
        |key: &ObjectKey| matches!(key, ObjectKey::Namespace { tenant, .. } if **tenant == *name);
    for object in draft.range(&first, of_tenant) {
        // What is deleted is checked when it is taken back.
        if object.meta.deleting.is_some() {
            continue;
        }
        if let Body::Namespace(namespace) = &object.body {
            namespace.quotas.check_below(quotas)?;
        }
    }
    Ok(())
}

/// Of each: the quota, what it is to be, what is used.
fn not_below_use(quotas: &[(Quota, u64, u64)]) -> Result<(), MetaError> {
    for &(quota, wanted, used) in quotas {
        if wanted != 0 && used > wanted {
            return Err(MetaError::QuotaBelowUse {
                quota,
                wanted,
                used,
            });
        }
    }
    Ok(())
}

pub(super) fn create_namespace(
    draft: &mut Draft<'_>,
    command: &CreateNamespace,
) -> Result<Made, MetaError> {
    name::tenant(&command.tenant)?;
    name::namespace(&command.name)?;
    let namespace = Namespace {
        description: command.description.clone(),
        quotas: command.quotas,
    };
    make_namespace(draft, &command.tenant, &command.name, namespace)
}

/// Makes a namespace whose names are checked.
pub(super) fn make_namespace(
    draft: &mut Draft<'_>,
    of: &str,
    name: &str,
    namespace: Namespace,
) -> Result<Made, MetaError> {
    let quotas = tenant(draft, &ObjectKey::tenant(of))?.quotas;
    namespace.check()?;
    namespace.quotas.check_below(&quotas)?;
    let key = ObjectKey::namespace(of, name);
    draft.create(key.clone(), Body::Namespace(namespace))?;
    check_namespaces(draft, of)?;
    let of_all = draft.usage(&Scope::Cluster);
    below("namespaces", of_all.namespaces, NAMESPACES_MAX)?;
    Ok(Made::Object(key))
}

pub(super) fn update_namespace(
    draft: &mut Draft<'_>,
    command: &UpdateNamespace,
) -> Result<Made, MetaError> {
    name::tenant(&command.tenant)?;
    name::namespace(&command.name)?;
    let key = ObjectKey::namespace(&command.tenant, &command.name);
    let Body::Namespace(namespace) = &draft.active(&key)?.body else {
        return Err(MetaError::NotFound(key));
    };
    let mut namespace = namespace.clone();
    if let Some(text) = &command.description {
        namespace.description = text.clone();
    }
    if let Some(quotas) = command.quotas {
        let parent = ObjectKey::tenant(&command.tenant);
        quotas.check_below(&tenant(draft, &parent)?.quotas)?;
        let scope = Scope::Namespace(command.tenant.clone(), command.name.clone());
        let (used, _) = draft.kept(&scope);
        not_below_use(&[(Quota::Streams, quotas.max_streams, used.resources)])?;
        namespace.quotas = quotas;
    }
    namespace.check()?;
    draft.update(&key, Body::Namespace(namespace))?;
    Ok(Made::Object(key))
}

fn tenant<'a>(draft: &'a Draft<'_>, key: &ObjectKey) -> Result<&'a Tenant, MetaError> {
    match &draft.active(key)?.body {
        Body::Tenant(tenant) => Ok(tenant),
        _ => Err(MetaError::NotFound(key.clone())),
    }
}

/// Refused when a tenant would have more namespaces than it may.
pub(super) fn check_namespaces(draft: &Draft<'_>, name: &str) -> Result<(), MetaError> {
    let limit = tenant(draft, &ObjectKey::tenant(name))?
        .quotas
        .max_namespaces;
    let scope = Scope::Tenant(name.into());
    let namespaces: Limit = (Quota::Namespaces, limit, |used| used.namespaces);
    resources::within(draft, &scope, &[namespaces])
}

/// Refused when a namespace has more than its tenant, which may have been given
/// less while the namespace was deleted.
pub(super) fn check_parent(draft: &Draft<'_>, of: &str, name: &str) -> Result<(), MetaError> {
    let quotas = tenant(draft, &ObjectKey::tenant(of))?.quotas;
    match &draft.active(&ObjectKey::namespace(of, name))?.body {
        Body::Namespace(namespace) => namespace.quotas.check_below(&quotas),
        _ => Ok(()),
    }
}
