//! Who may do what: policies, and groupings, which give roles.
//!
//! Nobody gives or takes away more than where their own right to do so reaches. What that is
//! goes with the command, and the metadata holds every row against it.

use axum::http::StatusCode;
use pinion_metadata::command::{AddGroupings, AddPolicies, DeleteRules};
use pinion_metadata::limits::{ROWS_MAX, SCOPE_MAX};
use pinion_metadata::{
    Action, ActionPattern, Body, Command, Expect, Object, ObjectKey, ObjectKind, Outcome,
    PolicyObject, RowId, Subject,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::page;
use crate::call::{Call, Reply, Written, json, no_content};
use crate::error::Failure;

/// Policies to be added.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PoliciesAdd {
    /// 1 to 256; one that there is already stays as it is.
    pub(crate) policies: Vec<PolicyInput>,
}

/// Who may do what to what.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PolicyInput {
    /// `p:…`, `g:…`, `role:…` or `spiffe://…`
    pub(crate) subject: String,
    /// Such as `stream.publish`, `stream.*` or `*`.
    pub(crate) action: String,
    /// Such as `namespace:acme/payments` or `stream:acme/payments/*`; in the tenant.
    pub(crate) object: String,
}

/// A policy.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Policy {
    /// What it is deleted by. Missing where the same request was answered before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<u64>,
    pub(crate) subject: String,
    pub(crate) action: String,
    pub(crate) object: String,
}

/// Policies that were added.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct PoliciesAdded {
    pub(crate) policies: Vec<Policy>,
    /// Of the metadata.
    pub(crate) version: u64,
}

/// Groupings to be added.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupingsAdd {
    /// 1 to 256; one that there is already stays as it is.
    pub(crate) groupings: Vec<GroupingInput>,
}

/// Who has which role.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupingInput {
    /// As in a policy; a role may have another role.
    pub(crate) member: String,
    /// The name of the role, without `role:`.
    pub(crate) role: String,
}

/// A grouping.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Grouping {
    /// What it is deleted by. Missing where the same request was answered before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<u64>,
    pub(crate) member: String,
    pub(crate) role: String,
}

/// Groupings that were added.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct GroupingsAdded {
    pub(crate) groupings: Vec<Grouping>,
    /// Of the metadata.
    pub(crate) version: u64,
}

/// Rows to be deleted, all or none.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RowIds {
    /// 1 to 256.
    pub(crate) ids: Vec<u64>,
}

// ------------------------------------------------------------------------- policies

pub(crate) async fn policies(call: Call) -> Reply {
    let scope = scope(&call, Action::RbacView)?;
    // Whoever sees a part of the tenant sees its rules there.
    let sees = |object: &Object| match &object.body {
        Body::Policy(of) => scope.iter().any(|wide| wide.covers(&of.object)),
        _ => false,
    };
    let tenant = ObjectKey::tenant(call.part("t"));
    let listed = call.list(&[ObjectKind::Policy], Some(tenant), sees).await?;
    let rows = listed.items.iter().filter_map(|object| policy(object));
    let rows: Vec<Policy> = rows.collect();
    page("policies", listed.read, rows, listed.next.as_ref())
}

pub(crate) async fn add_policies(call: Call) -> Reply {
    let scope = scope(&call, Action::RbacPolicyManage)?;
    let body: PoliciesAdd = call.body()?;
    let inputs = body.policies.iter().enumerate();
    let policies = inputs.map(|(at, input)| read_policy(at, input));
    let policies = policies.collect::<Result<Box<[_]>, _>>()?;
    let command = Command::AddPolicies(AddPolicies {
        tenant: call.part("t").into(),
        scope,
        policies: policies.clone(),
    });
    let written = call.write(Expect::Any, command).await?;
    let ids = row_ids(&written, policies.len());
    let shown = policies.iter().zip(ids).map(|(one, id)| Policy {
        id,
        subject: one.subject.to_string(),
        action: one.action.to_string(),
        object: one.object.to_string(),
    });
    let added = PoliciesAdded {
        policies: shown.collect(),
        version: written.version.0,
    };
    Ok(written.mark(json(StatusCode::CREATED, &added)?))
}

pub(crate) async fn delete_policies(call: Call) -> Reply {
    let scope = scope(&call, Action::RbacPolicyManage)?;
    let ids = body_ids(&call)?;
    delete(&call, scope, ids, Command::DeletePolicies).await
}

pub(crate) async fn delete_policy(call: Call) -> Reply {
    let scope = scope(&call, Action::RbacPolicyManage)?;
    let ids = Box::new([row_id(call.part("id"))?]);
    delete(&call, scope, ids, Command::DeletePolicies).await
}

// ------------------------------------------------------------------------ groupings

pub(crate) async fn groupings(call: Call) -> Reply {
    let tenant = ObjectKey::tenant(call.part("t"));
    let listed = call.list(&[ObjectKind::Grouping], Some(tenant), |_| true);
    let listed = listed.await?;
    let rows = listed.items.iter().filter_map(|object| grouping(object));
    let rows: Vec<Grouping> = rows.collect();
    page("groupings", listed.read, rows, listed.next.as_ref())
}

pub(crate) async fn add_groupings(call: Call) -> Reply {
    let scope = scope(&call, Action::RbacAssignmentManage)?;
    let body: GroupingsAdd = call.body()?;
    let inputs = body.groupings.iter().enumerate();
    let groupings = inputs.map(|(at, input)| {
        Ok::<_, Failure>(pinion_metadata::Grouping {
            member: read_subject(at, "member", &input.member)?,
            role: input.role.as_str().into(),
        })
    });
    let groupings = groupings.collect::<Result<Box<[_]>, _>>()?;
    let command = Command::AddGroupings(AddGroupings {
        tenant: call.part("t").into(),
        scope,
        groupings: groupings.clone(),
    });
    let written = call.write(Expect::Any, command).await?;
    let ids = row_ids(&written, groupings.len());
    let shown = groupings.iter().zip(ids).map(|(one, id)| Grouping {
        id,
        member: one.member.to_string(),
        role: one.role.to_string(),
    });
    let added = GroupingsAdded {
        groupings: shown.collect(),
        version: written.version.0,
    };
    Ok(written.mark(json(StatusCode::CREATED, &added)?))
}

pub(crate) async fn delete_groupings(call: Call) -> Reply {
    let scope = scope(&call, Action::RbacAssignmentManage)?;
    let ids = body_ids(&call)?;
    delete(&call, scope, ids, Command::DeleteGroupings).await
}

pub(crate) async fn delete_grouping(call: Call) -> Reply {
    let scope = scope(&call, Action::RbacAssignmentManage)?;
    let ids = Box::new([row_id(call.part("id"))?]);
    delete(&call, scope, ids, Command::DeleteGroupings).await
}

// --------------------------------------------------------------------------- shared

/// Where whoever asks may do this in the tenant of the path; refused when that is nowhere.
pub(super) fn scope(call: &Call, action: Action) -> Result<Box<[PolicyObject]>, Failure> {
    let tenant = PolicyObject::Tenant(call.part("t").into());
    call.who.scope(action, &tenant)
}

async fn delete(
    call: &Call,
    scope: Box<[PolicyObject]>,
    ids: Box<[RowId]>,
    command: fn(DeleteRules) -> Command,
) -> Reply {
    let tenant = call.part("t").into();
    let rules = DeleteRules { tenant, scope, ids };
    let written = call.write(Expect::Any, command(rules)).await?;
    Ok(written.mark(no_content()))
}

/// The number of a row, as part of a path.
pub(crate) fn row_id(text: &str) -> Result<RowId, Failure> {
    let number: Option<u64> = text.parse().ok();
    // One number, one text.
    let number = number.filter(|number| number.to_string() == text);
    number.map(RowId).ok_or_else(|| {
        Failure::bad("bad_path", "the number of a row is expected").with("part", "id")
    })
}

fn body_ids(call: &Call) -> Result<Box<[RowId]>, Failure> {
    let body: RowIds = call.body()?;
    Ok(body.ids.into_iter().map(RowId).collect())
}

fn read_policy(at: usize, input: &PolicyInput) -> Result<pinion_metadata::Policy, Failure> {
    let subject = read_subject(at, "subject", &input.subject)?;
    let action = ActionPattern::parse(&input.action).ok_or_else(|| {
        Failure::bad("bad_action", format!("row {at}: there is no such action"))
            .with("row", at)
            .with("action", &*input.action)
    })?;
    let object = PolicyObject::parse(&input.object).map_err(|error| {
        Failure::bad("bad_object", format!("row {at}: {error}"))
            .with("row", at)
            .with("object", &*input.object)
    })?;
    Ok(pinion_metadata::Policy {
        subject,
        action,
        object,
    })
}

fn read_subject(at: usize, field: &'static str, text: &str) -> Result<Subject, Failure> {
    Subject::parse(text).map_err(|error| {
        Failure::bad("bad_subject", format!("row {at}: {field}: {error}"))
            .with("row", at)
            .with("field", field)
    })
}

/// The numbers that rows got, as far as the answer tells: that of a repeat does not.
fn row_ids(written: &Written, rows: usize) -> Vec<Option<u64>> {
    match &written.outcome {
        Outcome::Rows(ids) if ids.len() == rows => ids.iter().map(|id| Some(id.0)).collect(),
        _ => vec![None; rows],
    }
}

fn policy(object: &Object) -> Option<Policy> {
    let (ObjectKey::Policy { id, .. }, Body::Policy(of)) = (&object.meta.key, &object.body) else {
        return None;
    };
    Some(Policy {
        id: Some(id.0),
        subject: of.subject.to_string(),
        action: of.action.to_string(),
        object: of.object.to_string(),
    })
}

fn grouping(object: &Object) -> Option<Grouping> {
    let (ObjectKey::Grouping { id, .. }, Body::Grouping(of)) = (&object.meta.key, &object.body)
    else {
        return None;
    };
    Some(Grouping {
        id: Some(id.0),
        member: of.member.to_string(),
        role: of.role.to_string(),
    })
}

// What a body may name is what one command takes.
const _: () = assert!(ROWS_MAX == 256 && SCOPE_MAX == 256);
