//! `/v1/audit`: who asked what, and what became of it, as this node wrote it down.

use axum::http::StatusCode;
use pinion_metadata::{Action, MetaCode, PolicyObject};
use pinion_plane::limits::AUDIT_PAGE_MAX;
use pinion_plane::{Answer, AuditQuery, AuditResult, AuditRow, PlaneError};
use pinion_types::WallMs;
use serde::Serialize;
use utoipa::ToSchema;

use crate::call::{Call, Reply, json as answer};
use crate::error::Failure;
use crate::limits::{PAGE_DEFAULT, PLANE_WAIT};
use crate::model::{parse_time, time};

/// One row.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = AuditRow)]
pub(crate) struct Row {
    /// Dense, and never used again.
    row: u64,
    /// RFC 3339.
    at: String,
    principal: String,
    tenant: String,
    action: String,
    target: String,
    /// `begun`, `done`, `repeated`, `refused`, `denied`, `failed` or `gap`.
    result: &'static str,
    /// Why it was refused.
    code: Option<String>,
    /// Version of the metadata that it left.
    version: u64,
    /// Its place in the group's log; 0 when it never came there.
    index: u64,
    /// The client's id of the request.
    request_id: Option<String>,
    remote: Option<String>,
    /// Number of the node that was asked.
    origin: u32,
}

/// Some rows, oldest first.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct AuditList {
    /// Whose log it is.
    node: String,
    rows: Vec<Row>,
    /// A page may be short, or empty, and not the last.
    next_page_token: Option<String>,
}

impl Row {
    fn of(number: u64, row: &AuditRow) -> Self {
        let (result, code) = match row.result {
            AuditResult::Done => ("done", None),
            AuditResult::Repeated => ("repeated", None),
            AuditResult::Refused(code) => {
                let mut known = MetaCode::ALL.iter();
                let known = known.find(|known| **known as u16 == code);
                let word = known.map_or_else(|| code.to_string(), |code| code.text().into());
                ("refused", Some(word))
            }
            // What was let through, and is no command of the metadata.
            AuditResult::Denied(100..200) => ("begun", None),
            AuditResult::Denied(200..300) => ("done", None),
            AuditResult::Denied(status @ (401 | 403 | 429)) => ("denied", Some(status.to_string())),
            AuditResult::Denied(status) => ("failed", Some(status.to_string())),
            AuditResult::Gap { to } => ("gap", Some(to.to_string())),
        };
        Self {
            row: number,
            at: time(row.at),
            principal: row.principal.to_string(),
            tenant: row.tenant.to_string(),
            action: row.operation.to_string(),
            target: row.target.to_string(),
            result,
            code,
            version: row.version.0,
            index: row.index,
            request_id: (row.request != 0).then(|| format!("{:032x}", row.request)),
            remote: row.remote.map(|remote| remote.to_string()),
            origin: row.origin.0,
        }
    }
}

pub(crate) async fn list(call: Call) -> Reply {
    let text = |name| call.param(name).map(Into::into);
    let tenant: Option<Box<str>> = text("tenant");
    match &tenant {
        // Who manages a tenant may see what was done to it.
        Some(tenant) => {
            let object = PolicyObject::Tenant(tenant.clone());
            if !call.who.sees_all() {
                call.who.check(Action::TenantManage, &object)?;
            }
        }
        None => call.who.check(Action::AdminRead, &PolicyObject::Cluster)?,
    }
    let limit = match call.number_param("limit")? {
        None => PAGE_DEFAULT,
        Some(limit) => usize::try_from(limit)
            .ok()
            .filter(|limit| (1..=AUDIT_PAGE_MAX).contains(limit))
            .ok_or_else(|| {
                Failure::bad(
                    "bad_parameter",
                    format!("limit: 1 to {AUDIT_PAGE_MAX} is expected"),
                )
            })?,
    };
    let query = AuditQuery {
        tenant,
        principal: text("principal"),
        operation: text("action"),
        from: moment(&call, "from")?,
        to: moment(&call, "to")?,
        limit,
        first: call.number_param("page_token")?.unwrap_or(0),
        before: None,
    };
    match call.api.plane.audit(query, PLANE_WAIT).await {
        Answer::Audit(page) => {
            let rows = page.rows.iter().map(|(number, row)| Row::of(*number, row));
            let body = AuditList {
                node: call.api.node.to_string(),
                rows: rows.collect(),
                next_page_token: page.next.map(|next| next.to_string()),
            };
            answer(StatusCode::OK, &body)
        }
        Answer::Refused(error) => Err(error.into()),
        _ => Err(PlaneError::Failed.into()),
    }
}

fn moment(call: &Call, name: &'static str) -> Result<Option<WallMs>, Failure> {
    let parse = |text: &str| {
        parse_time(text).ok_or_else(|| {
            Failure::bad(
                "bad_parameter",
                format!("{name}: a time such as 2026-01-31T12:00:00Z is expected"),
            )
            .with("parameter", name)
        })
    };
    call.param(name).map(parse).transpose()
}
