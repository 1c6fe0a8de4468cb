//! Policies and groupings. Nobody grants, or takes away, what is outside of the
//! scope of who asks: the proposer says what that is. Nor does anybody have an API key made
//! that may do what is outside of it.

use std::collections::BTreeMap;

use super::{Made, below};
use crate::command::{AddGroupings, AddPolicies, DeleteRules};
use crate::draft::Draft;
use crate::error::{MetaError, Quota};
use crate::ids::RowId;
use crate::limits::{POLICIES_MAX, POLICIES_PER_TENANT_MAX, ROWS_MAX, SCOPE_MAX};
use crate::name;
use crate::object::{Body, Object, ObjectKey};
use crate::policy::PolicyObject;
use crate::rbac::{Grouping, Policy, Roles};
use crate::subject::{Subject, SubjectOf};
use crate::usage::Scope;

/// What every change of rules begins with: names, counts, and the tenant.
fn check(
    draft: &Draft<'_>,
    tenant: &str,
    scope: &[PolicyObject],
    rows: usize,
) -> Result<(), MetaError> {
    name::tenant(tenant)?;
    name::range("rows", rows as u64, 1, ROWS_MAX as u64)?;
    name::range("scope", scope.len() as u64, 0, SCOPE_MAX as u64)?;
    draft.active(&ObjectKey::tenant(tenant)).map(drop)
}

/// Refused when an object is not covered.
fn check_scope(scope: &[PolicyObject], object: &PolicyObject) -> Result<(), MetaError> {
    if scope.iter().any(|wide| wide.covers(object)) {
        return Ok(());
    }
    Err(MetaError::OutsideScope {
        object: object.clone(),
    })
}

fn policies<'a>(draft: &'a Draft<'_>, tenant: &'a str) -> impl Iterator<Item = &'a Object> {
    let of = move |key: &ObjectKey| matches!(key, ObjectKey::Policy { tenant: of, .. } if **of == *tenant);
    draft.range(&ObjectKey::policy(tenant, RowId(0)), of)
}

fn groupings<'a>(draft: &'a Draft<'_>, tenant: &'a str) -> impl Iterator<Item = &'a Object> {
    let of = move |key: &ObjectKey| matches!(key, ObjectKey::Grouping { tenant: of, .. } if **of == *tenant);
    draft.range(&ObjectKey::grouping(tenant, RowId(0)), of)
}

/// Refused when a role, with all that comes with it, may do what is not covered.
///
/// Nobody knows what a role without policies will be allowed one day, so only
/// who may grant anything in the tenant gives and takes such a one.
fn check_roles<'a>(
    draft: &'a Draft<'_>,
    tenant: &'a str,
    scope: &[PolicyObject],
    given: impl Iterator<Item = &'a str>,
) -> Result<(), MetaError> {
    let whole = PolicyObject::Tenant(tenant.into());
    if scope.iter().any(|wide| wide.covers(&whole)) {
        return Ok(());
    }
    let roles = Roles::of(groupings(draft, tenant));
    let mut objects: BTreeMap<&str, Vec<&PolicyObject>> = BTreeMap::new();
    for object in policies(draft, tenant) {
        if let Body::Policy(policy) = &object.body
            && let SubjectOf::Role(role) = policy.subject.of()
        {
            objects.entry(role).or_default().push(&policy.object);
        }
    }
    for role in given {
        for role in roles.with(role) {
            let Some(objects) = objects.get(role) else {
                return check_scope(scope, &whole);
            };
            for object in objects {
                check_scope(scope, object)?;
            }
        }
    }
    Ok(())
}

/// Refused when a subject, by its own policies and by all of its roles, may do what is not
/// covered: who speaks for it may do that.
///
/// As with a role: one that may do nothing is spoken for by who may grant anything in the
/// tenant alone.
pub(super) fn check_subject(
    draft: &Draft<'_>,
    tenant: &str,
    scope: &[PolicyObject],
    subject: &Subject,
) -> Result<(), MetaError> {
    name::range("scope", scope.len() as u64, 0, SCOPE_MAX as u64)?;
    if let SubjectOf::Role(role) = subject.of() {
        return check_roles(draft, tenant, scope, core::iter::once(role));
    }
    let mut may_nothing = true;
    for object in policies(draft, tenant) {
        if let Body::Policy(policy) = &object.body
            && policy.subject == *subject
        {
            may_nothing = false;
            check_scope(scope, &policy.object)?;
        }
    }
    let given = groupings(draft, tenant).filter_map(|object| match &object.body {
        Body::Grouping(grouping) if grouping.member == *subject => Some(&*grouping.role),
        _ => None,
    });
    let given: Vec<&str> = given.collect();
    if may_nothing && given.is_empty() {
        return check_scope(scope, &PolicyObject::Tenant(tenant.into()));
    }
    check_roles(draft, tenant, scope, given.into_iter())
}

/// Refused when the tenant or the cluster would have more rows than it may.
fn check_count(draft: &Draft<'_>, tenant: &str) -> Result<(), MetaError> {
    let (used, before) = draft.used(&Scope::Tenant(tenant.into()));
    if let Body::Tenant(of) = &draft.active(&ObjectKey::tenant(tenant))?.body {
        let limit = of.quotas.max_policies;
        if limit != 0 && used.policies > limit {
            return Err(MetaError::QuotaExceeded {
                quota: Quota::Policies,
                limit,
                used: before.policies,
            });
        }
    }
    below(
        "policies and groupings of a tenant",
        used.policies,
        POLICIES_PER_TENANT_MAX,
    )?;
    let all = draft.usage(&Scope::Cluster).policies;
    below("policies and groupings", all, POLICIES_MAX)
}

pub(super) fn add_policies(
    draft: &mut Draft<'_>,
    command: &AddPolicies,
) -> Result<Made, MetaError> {
    let AddPolicies {
        tenant,
        scope,
        policies: rows,
    } = command;
    check(draft, tenant, scope, rows.len())?;
    for policy in rows {
        policy.check(tenant)?;
        check_scope(scope, &policy.object)?;
    }
    let mut known = BTreeMap::new();
    for object in policies(draft, tenant) {
        if let (ObjectKey::Policy { id, .. }, Body::Policy(policy)) =
            (&object.meta.key, &object.body)
        {
            known.insert(policy.clone(), *id);
        }
    }
    let mut ids = Vec::with_capacity(rows.len());
    for policy in rows {
        let id = match known.get(policy) {
            Some(id) => *id,
            None => {
                let id = draft.next_row();
                draft.create(ObjectKey::policy(tenant, id), Body::Policy(policy.clone()))?;
                known.insert(policy.clone(), id);
                id
            }
        };
        ids.push(id);
    }
    check_count(draft, tenant)?;
    Ok(Made::Rows(ids.into()))
}

pub(super) fn add_groupings(
    draft: &mut Draft<'_>,
    command: &AddGroupings,
) -> Result<Made, MetaError> {
    let AddGroupings {
        tenant,
        scope,
        groupings: rows,
    } = command;
    check(draft, tenant, scope, rows.len())?;
    for grouping in rows {
        grouping.check()?;
    }
    let mut known = BTreeMap::new();
    for object in groupings(draft, tenant) {
        if let (ObjectKey::Grouping { id, .. }, Body::Grouping(grouping)) =
            (&object.meta.key, &object.body)
        {
            known.insert(grouping.clone(), *id);
        }
    }
    let mut ids = Vec::with_capacity(rows.len());
    for grouping in rows {
        let id = match known.get(grouping) {
            Some(id) => *id,
            None => {
                let id = draft.next_row();
                let body = Body::Grouping(grouping.clone());
                draft.create(ObjectKey::grouping(tenant, id), body)?;
                known.insert(grouping.clone(), id);
                id
            }
        };
        ids.push(id);
    }
    // Afterwards: one row of the command may give a role that another row widens.
    Roles::of(groupings(draft, tenant)).check()?;
    check_roles(draft, tenant, scope, rows.iter().map(|row| &*row.role))?;
    check_count(draft, tenant)?;
    Ok(Made::Rows(ids.into()))
}

pub(super) fn delete_policies(
    draft: &mut Draft<'_>,
    command: &DeleteRules,
) -> Result<Made, MetaError> {
    let DeleteRules { tenant, scope, ids } = command;
    check(draft, tenant, scope, ids.len())?;
    for id in ids {
        let key = ObjectKey::policy(tenant, *id);
        if let Body::Policy(Policy { object, .. }) = &draft.active(&key)?.body {
            check_scope(scope, object)?;
        }
        draft.remove(&key)?;
    }
    Ok(Made::Nothing)
}

pub(super) fn delete_groupings(
    draft: &mut Draft<'_>,
    command: &DeleteRules,
) -> Result<Made, MetaError> {
    let DeleteRules { tenant, scope, ids } = command;
    check(draft, tenant, scope, ids.len())?;
    let mut given = Vec::with_capacity(ids.len());
    for id in ids {
        let object = draft.active(&ObjectKey::grouping(tenant, *id))?;
        if let Body::Grouping(Grouping { role, .. }) = &object.body {
            given.push(role.clone());
        }
    }
    // Before: what the roles hold now is what is taken away.
    check_roles(draft, tenant, scope, given.iter().map(|role| &**role))?;
    for id in ids {
        draft.remove(&ObjectKey::grouping(tenant, *id))?;
    }
    Ok(Made::Nothing)
}
