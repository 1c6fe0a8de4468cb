//! Identity providers, API keys, signing keys, revocations, and the first day.

use super::{Made, below, rbac, tenants};
use crate::action::{Action, ActionPattern};
use crate::command::{
    AddGroupings, AddPolicies, CreateApiKey, CreateKeys, CreateTenant, InitializeTenant, PutIssuer,
    Revoke, RotateKeys,
};
use crate::draft::Draft;
use crate::error::MetaError;
use crate::identity::{Bootstrap, RetiredKey, Revocation, Revoked, SigningKeys, check_rotation};
use crate::limits::{
    ADMINS_MAX, API_KEYS_PER_TENANT_MAX, ISSUER_BYTES_MAX, ISSUERS_PER_TENANT_MAX, RETIRED_KEPT_MS,
    REVOCATIONS_MAX, REVOCATIONS_PER_TENANT_MAX, TOKEN_SKEW_MS,
};
use crate::name;
use crate::object::{Body, ObjectKey};
use crate::policy::PolicyObject;
use crate::rbac::{Grouping, Policy};
use crate::subject::Subject;
use crate::tenant::TenantQuotas;
use crate::usage::Scope;
use pinion_types::WallMs;

fn tenant(draft: &Draft<'_>, name: &str) -> Result<(), MetaError> {
    name::tenant(name)?;
    draft.active(&ObjectKey::tenant(name)).map(drop)
}

pub(super) fn put_issuer(draft: &mut Draft<'_>, command: &PutIssuer) -> Result<Made, MetaError> {
    tenant(draft, &command.tenant)?;
    let issuer = &command.issuer;
    // RFC 8414 §2: an issuer has neither query nor fragment.
    let whole = !issuer.contains('?') && name::is_url(issuer);
    if issuer.len() > ISSUER_BYTES_MAX || !whole {
        return Err(MetaError::BadUrl {
            url: issuer.clone(),
        });
    }
    command.rules.check()?;
    let key = ObjectKey::issuer(&command.tenant, issuer);
    let body = Body::Issuer(command.rules.clone());
    if draft.get(&key).is_some() {
        draft.update(&key, body)?;
        return Ok(Made::Object(key));
    }
    draft.create(key.clone(), body)?;
    let used = draft.usage(&Scope::Tenant(command.tenant.clone()));
    below("issuers of a tenant", used.issuers, ISSUERS_PER_TENANT_MAX)?;
    Ok(Made::Object(key))
}

pub(super) fn create_api_key(
    draft: &mut Draft<'_>,
    command: &CreateApiKey,
) -> Result<Made, MetaError> {
    tenant(draft, &command.tenant)?;
    command.key.check()?;
    rbac::check_subject(draft, &command.tenant, &command.scope, &command.key.subject)?;
    let key = ObjectKey::api_key(&command.tenant, draft.next_row());
    draft.create(key.clone(), Body::ApiKey(command.key.clone()))?;
    let used = draft.usage(&Scope::Tenant(command.tenant.clone()));
    below(
        "API keys of a tenant",
        used.api_keys,
        API_KEYS_PER_TENANT_MAX,
    )?;
    Ok(Made::Object(key))
}

/// Takes away what goes at once.
pub(super) fn remove(draft: &mut Draft<'_>, key: &ObjectKey) -> Result<Made, MetaError> {
    if !matches!(key, ObjectKey::Issuer { .. } | ObjectKey::ApiKey { .. }) {
        return Err(MetaError::NotDeletable(key.clone()));
    }
    draft.remove(key)?;
    Ok(Made::Nothing)
}

pub(super) fn create_keys(draft: &mut Draft<'_>, command: &CreateKeys) -> Result<Made, MetaError> {
    tenant(draft, &command.tenant)?;
    check_rotation(command.keys.rotate_every_ms)?;
    let key = ObjectKey::signing_keys(&command.tenant);
    let keys = SigningKeys::new(&command.keys, draft.stamp());
    draft.create(key.clone(), Body::SigningKeys(keys))?;
    Ok(Made::Object(key))
}

/// Also of a tenant that is deleted: it may come back, and its keys go on.
pub(super) fn rotate_keys(draft: &mut Draft<'_>, command: &RotateKeys) -> Result<Made, MetaError> {
    name::tenant(&command.tenant)?;
    let key = ObjectKey::signing_keys(&command.tenant);
    let Body::SigningKeys(keys) = &draft.existing(&key)?.body else {
        return Err(MetaError::NotFound(key));
    };
    // Proposed twice: a key that is there already would get two places.
    if keys.next == command.next {
        return Ok(Made::Object(key));
    }
    let keys = SigningKeys {
        current: keys.next,
        next: command.next,
        previous: Some(RetiredKey {
            key: keys.current,
            until: WallMs(draft.stamp().0.saturating_add(RETIRED_KEPT_MS)),
        }),
        rotate_every_ms: keys.rotate_every_ms,
        rotated: draft.stamp(),
    };
    draft.update(&key, Body::SigningKeys(keys))?;
    Ok(Made::Object(key))
}

pub(super) fn revoke(draft: &mut Draft<'_>, command: &Revoke) -> Result<Made, MetaError> {
    tenant(draft, &command.tenant)?;
    let key = ObjectKey::revocation(&command.tenant, command.what.clone());
    let stamp = draft.stamp();
    // No token lives longer: whoever says so does not fill the table with rows
    // that stay.
    let last = stamp.0.saturating_add(RETIRED_KEPT_MS);
    let mut revocation = match &command.what {
        Revoked::Token(_) => Revocation {
            issued_before: None,
            until: WallMs(command.at.0.saturating_add(TOKEN_SKEW_MS).min(last)),
        },
        // Tokens of the future are not revoked before they are there.
        Revoked::Subject(_) => Revocation {
            issued_before: Some(command.at.min(stamp)),
            until: WallMs(last),
        },
    };
    let known = draft.get(&key).map(|object| &object.body);
    if let Some(Body::Revocation(old)) = known {
        // What was revoked stays revoked.
        revocation.issued_before = revocation.issued_before.max(old.issued_before);
        revocation.until = revocation.until.max(old.until);
        draft.update(&key, Body::Revocation(revocation))?;
        return Ok(Made::Object(key));
    }
    draft.create(key.clone(), Body::Revocation(revocation))?;
    // An earlier release knew no limit of a tenant: what is there is never refused, only
    // one more.
    let used = draft.usage(&Scope::Tenant(command.tenant.clone()));
    let most = REVOCATIONS_PER_TENANT_MAX;
    below("revocations of a tenant", used.revocations, most)?;
    let used = draft.usage(&Scope::Cluster);
    below("revocations", used.revocations, REVOCATIONS_MAX)?;
    Ok(Made::Object(key))
}

/// What the role `admin` is allowed in its tenant: to manage all of it, which
/// includes granting itself the rest.
const ADMIN: [ActionPattern; 8] = [
    ActionPattern::One(Action::TenantManage),
    ActionPattern::One(Action::NsManage),
    ActionPattern::Family("rbac"),
    ActionPattern::One(Action::StreamManage),
    ActionPattern::One(Action::QueueManage),
    ActionPattern::One(Action::CacheManage),
    ActionPattern::One(Action::ScheduleManage),
    ActionPattern::One(Action::FlagManage),
];

/// A tenant's first day: the tenant, who is believed, who administers, and what
/// signs. Once.
pub(super) fn initialize(
    draft: &mut Draft<'_>,
    command: &InitializeTenant,
) -> Result<Made, MetaError> {
    let InitializeTenant { tenant, .. } = command;
    name::tenant(tenant)?;
    name::range("admins", command.admins.len() as u64, 1, ADMINS_MAX as u64)?;
    let row = ObjectKey::bootstrap(tenant);
    if draft.get(&row).is_some() {
        return Err(MetaError::AlreadyInitialized {
            tenant: tenant.clone(),
        });
    }
    let done = Bootstrap {
        done: draft.stamp(),
    };
    draft.create(row, Body::Bootstrap(done))?;
    let key = ObjectKey::tenant(tenant);
    if draft.get(&key).is_none() {
        let create = CreateTenant {
            name: tenant.clone(),
            display_name: command.display_name.clone(),
            description: Box::default(),
            quotas: TenantQuotas::default(),
            encryption: None,
        };
        tenants::create(draft, &create)?;
    }
    for issuer in &command.issuers {
        let put = PutIssuer {
            tenant: tenant.clone(),
            issuer: issuer.issuer.clone(),
            rules: issuer.rules.clone(),
        };
        put_issuer(draft, &put)?;
    }
    if draft.get(&ObjectKey::signing_keys(tenant)).is_none() {
        let create = CreateKeys {
            tenant: tenant.clone(),
            keys: command.keys.clone(),
        };
        create_keys(draft, &create)?;
    }
    let all = PolicyObject::Tenant(tenant.clone());
    let role = Subject::role("admin");
    let policy = |action| Policy {
        subject: role.clone(),
        action,
        object: all.clone(),
    };
    let allow = AddPolicies {
        tenant: tenant.clone(),
        scope: Box::new([all.clone()]),
        policies: ADMIN.into_iter().map(policy).collect(),
    };
    rbac::add_policies(draft, &allow)?;
    let grouping = |member: &Subject| Grouping {
        member: member.clone(),
        role: "admin".into(),
    };
    let give = AddGroupings {
        tenant: tenant.clone(),
        scope: Box::new([all]),
        groupings: command.admins.iter().map(grouping).collect(),
    };
    rbac::add_groupings(draft, &give)?;
    Ok(Made::Object(key))
}
