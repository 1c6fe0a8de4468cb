//! `/v1/audit`: who asked what, and what became of it, as this node wrote it down, or all
//! nodes together.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use pinion_metadata::{Action, MetaCode, PolicyObject};
use pinion_plane::limits::AUDIT_PAGE_MAX;
use pinion_plane::{
    Answer, AuditEverywhere, AuditPages, AuditQuery, AuditResult, AuditRow, AuditSilence, PeerName,
    PlaneError,
};
use pinion_types::WallMs;
use serde::Serialize;
use utoipa::ToSchema;

use crate::access::Who;
use crate::call::{Call, Reply, json as answer};
use crate::error::Failure;
use crate::limits::{PAGE_DEFAULT, PLANE_WAIT};
use crate::model::{parse_time, time};

/// One row.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = AuditRow)]
pub(crate) struct Row {
    /// The node whose row it is, in a list of all nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    /// Dense on its node, and never used again.
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
    /// The node that was asked; unless all were, whose log it is.
    node: String,
    rows: Vec<Row>,
    /// A page may be short, or empty, and not the last.
    next_page_token: Option<String>,
    /// In a list of all nodes: those of which this page has nothing but the commands that
    /// every node has.
    #[serde(skip_serializing_if = "Option::is_none")]
    silent: Option<Vec<SilentNode>>,
}

/// A node that did not tell its rows.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct SilentNode {
    node: String,
    /// `unreachable`, `timed_out`, `busy` or `audit_unavailable`.
    code: &'static str,
}

impl SilentNode {
    fn of(node: &PeerName, why: AuditSilence) -> Self {
        Self {
            node: node.to_string(),
            code: match why {
                AuditSilence::Unreachable => "unreachable",
                AuditSilence::TimedOut => "timed_out",
                AuditSilence::Busy => "busy",
                AuditSilence::Unreadable => "audit_unavailable",
            },
        }
    }
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
            node: None,
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

/// Refuses unless they may see the rows of a tenant; `None` is those of everybody.
pub(crate) fn check(who: &Who, tenant: Option<&str>) -> Result<(), Failure> {
    match tenant {
        Some(_) if who.sees_all() => Ok(()),
        // Who manages a tenant may see what was done to it.
        Some(tenant) => who.check(Action::TenantManage, &PolicyObject::Tenant(tenant.into())),
        None => who.check(Action::AdminRead, &PolicyObject::Cluster),
    }
}

pub(crate) async fn list(call: Call) -> Reply {
    let text = |name| call.param(name).map(Into::into);
    let tenant: Option<Box<str>> = text("tenant");
    check(&call.who, tenant.as_deref())?;
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
    let everywhere = match call.param("node") {
        None => false,
        Some("all") => true,
        Some(_) => return Err(bad("node", "all is expected, or nothing for this one")),
    };
    let query = AuditQuery {
        tenant,
        principal: text("principal"),
        operation: text("action"),
        from: moment(&call, "from")?,
        to: moment(&call, "to")?,
        limit,
        ..AuditQuery::default()
    };
    let node = call.api.node.to_string();
    let asked = if everywhere {
        let from = call.param("page_token").map_or_else(
            || Ok(BTreeMap::new()),
            |token| places(token).ok_or_else(|| bad("page_token", "it is none of this list")),
        )?;
        let wanted = AuditEverywhere { query, from };
        call.api.plane.audit_everywhere(wanted, PLANE_WAIT).await
    } else {
        let first = call.number_param("page_token")?.unwrap_or(0);
        let query = AuditQuery { first, ..query };
        call.api.plane.audit(query, PLANE_WAIT).await
    };
    let body = match asked {
        Answer::Audit(page) => {
            let rows = page.rows.iter().map(|(number, row)| Row::of(*number, row));
            AuditList {
                node,
                rows: rows.collect(),
                next_page_token: page.next.map(|next| next.to_string()),
                silent: None,
            }
        }
        Answer::AuditEverywhere(pages) => together(node, &pages),
        Answer::Refused(error) => return Err(error.into()),
        _ => return Err(PlaneError::Failed.into()),
    };
    answer(StatusCode::OK, &body)
}

fn together(node: String, pages: &AuditPages) -> AuditList {
    let rows = pages.rows.iter().map(|(node, number, row)| Row {
        node: Some(node.to_string()),
        ..Row::of(*number, row)
    });
    let silent = pages.silent.iter();
    AuditList {
        node,
        rows: rows.collect(),
        next_page_token: pages.next.as_ref().map(token),
        silent: Some(
            silent
                .map(|(node, why)| SilentNode::of(node, *why))
                .collect(),
        ),
    }
}

/// Where a list of all nodes goes on, as text: `n1:120,n2:7`.
fn token(places: &BTreeMap<PeerName, u64>) -> String {
    let places = places.iter().map(|(name, at)| format!("{name}:{at}"));
    places.collect::<Vec<_>>().join(",")
}

/// What [`token`] wrote. A node that is there no more is not asked, whoever names it.
fn places(token: &str) -> Option<BTreeMap<PeerName, u64>> {
    let mut places = BTreeMap::new();
    for place in token.split(',') {
        let (name, at) = place.split_once(':')?;
        let digits = at.bytes().all(|byte| byte.is_ascii_digit());
        let at = at.parse().ok().filter(|_| digits)?;
        if places.insert(PeerName::new(name).ok()?, at).is_some() {
            return None;
        }
    }
    Some(places)
}

fn bad(name: &'static str, why: &str) -> Failure {
    Failure::bad("bad_parameter", format!("{name}: {why}")).with("parameter", name)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_where_each_node_goes_on() {
        let name = |text| PeerName::new(text).expect("a name");
        let all = BTreeMap::from([(name("n1"), 120), (name("n-2"), 0)]);
        assert_eq!(token(&all), "n-2:0,n1:120");
        assert_eq!(places(&token(&all)), Some(all));
        for wrong in ["", "n1", "n1:", "n1:+1", "n1:1,", "n1:1,n1:2", "N1:1", "12"] {
            assert_eq!(places(wrong), None, "{wrong}");
        }
    }
}
