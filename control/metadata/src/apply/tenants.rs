//! Tenants and namespaces.

use super::Made;
use crate::command::{CreateNamespace, CreateTenant, UpdateNamespace, UpdateTenant};
use crate::draft::{Draft, Scope};
use crate::error::{MetaError, Quota};
use crate::ids::TenantNumber;
use crate::limits::{NAMESPACES_MAX, TENANTS_MAX};
use crate::name;
use crate::object::{Body, ObjectKey};
use crate::tenant::{Namespace, Tenant, TenantQuotas};

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

/// Refused when a quota would be below what is used, or below what a namespace
/// was given.
fn check_use(draft: &Draft<'_>, name: &str, quotas: &TenantQuotas) -> Result<(), MetaError> {
    let used = draft.usage(&Scope::Tenant(name.into()));
    if quotas.max_namespaces != 0 && used.namespaces > quotas.max_namespaces {
        return Err(MetaError::QuotaBelowUse {
            quota: Quota::Namespaces,
            wanted: quotas.max_namespaces,
            used: used.namespaces,
        });
    }
    let first = ObjectKey::namespace(name, "");
    let of_tenant =
        |key: &ObjectKey| matches!(key, ObjectKey::Namespace { tenant, .. } if **tenant == *name);
    for object in draft.range(&first, of_tenant) {
        if let Body::Namespace(namespace) = &object.body {
            namespace.quotas.check_below(quotas)?;
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
    let quotas = tenant(draft, &ObjectKey::tenant(&command.tenant))?.quotas;
    let namespace = Namespace {
        description: command.description.clone(),
        quotas: command.quotas,
    };
    namespace.check()?;
    namespace.quotas.check_below(&quotas)?;
    let key = ObjectKey::namespace(&command.tenant, &command.name);
    draft.create(key.clone(), Body::Namespace(namespace))?;
    let of_tenant = draft.usage(&Scope::Tenant(command.tenant.clone()));
    if quotas.max_namespaces != 0 && of_tenant.namespaces > quotas.max_namespaces {
        return Err(MetaError::QuotaExceeded {
            quota: Quota::Namespaces,
            limit: quotas.max_namespaces,
            used: of_tenant.namespaces - 1,
        });
    }
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
    let Body::Namespace(namespace) = &draft.existing(&key)?.body else {
        return Err(MetaError::NotFound(key));
    };
    let mut namespace = namespace.clone();
    if let Some(text) = &command.description {
        namespace.description = text.clone();
    }
    if let Some(quotas) = command.quotas {
        let parent = ObjectKey::tenant(&command.tenant);
        quotas.check_below(&tenant(draft, &parent)?.quotas)?;
        namespace.quotas = quotas;
    }
    namespace.check()?;
    draft.update(&key, Body::Namespace(namespace))?;
    Ok(Made::Object(key))
}

fn tenant<'a>(draft: &'a Draft<'_>, key: &ObjectKey) -> Result<&'a Tenant, MetaError> {
    match &draft.existing(key)?.body {
        Body::Tenant(tenant) => Ok(tenant),
        Body::Namespace(_) => Err(MetaError::NotFound(key.clone())),
    }
}

/// Refused when the cluster would have more of something than it can.
fn below(what: &'static str, count: u64, limit: u64) -> Result<(), MetaError> {
    if count > limit {
        return Err(MetaError::LimitReached { what, limit });
    }
    Ok(())
}
