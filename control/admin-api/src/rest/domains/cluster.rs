//! `/api/v1/topology`, `/api/v1/storage`, `/api/v1/troubleshooting`, `/api/v1/search`

use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Part, Stand};
use crate::call::{Call, Reply, bad_parameter, json};
use crate::views::cluster::{self, Found, Topology};
use crate::views::storage::{self, LogRow};
use crate::views::trouble::{self, Issue};

/// How the cluster is put together.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct TopologyAnswer {
    #[serde(flatten)]
    topology: Topology,
    /// When the numbers of cores were taken.
    #[schema(value_type = String, format = DateTime)]
    as_of: crate::views::At,
    #[schema(value_type = Vec<String>)]
    durable_fields: &'static [&'static str],
    #[schema(value_type = Vec<String>)]
    live_fields: &'static [&'static str],
}

/// Logs of the node that answers.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Storage {
    logs: Vec<LogRow>,
    /// Of all files of all logs.
    disk_bytes: u64,
    #[serde(flatten)]
    stand: Stand,
}

/// What is wrong, worst first.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Troubles {
    issues: Vec<Issue>,
    /// How many there are altogether.
    total: u64,
    #[serde(flatten)]
    stand: Stand,
}

/// What was found.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct SearchResults {
    results: Vec<Found>,
    #[serde(flatten)]
    part: Part,
}

pub(crate) async fn topology(call: Call) -> Reply {
    let (topology, as_of) = cluster::topology(&call.api, &call.who).await?;
    let answer = TopologyAnswer {
        topology,
        as_of,
        durable_fields: &["brokers", "version"],
        live_fields: &["leader", "cores", "cores_silent"],
    };
    json(StatusCode::OK, &answer)
}

pub(crate) async fn storage(call: Call) -> Reply {
    let facts = storage::facts(&call.api, &call.who).await?;
    let answer = Storage {
        disk_bytes: facts.logs.iter().map(|log| log.disk_bytes).sum(),
        logs: facts.logs,
        stand: Stand::of(
            &call.api,
            facts.as_of,
            &["segments", "disk_bytes"],
            &["state", "pending_bytes", "reads_pending", "*_total"],
        ),
    };
    json(StatusCode::OK, &answer)
}

pub(crate) async fn troubleshooting(call: Call) -> Reply {
    let trouble = trouble::all(&call.api, &call.who, call.param("realm")).await?;
    let answer = Troubles {
        issues: trouble.issues,
        total: trouble.total as u64,
        stand: Stand::of(&call.api, trouble.as_of, &[], &["*"]),
    };
    json(StatusCode::OK, &answer)
}

pub(crate) async fn search(call: Call) -> Reply {
    let paging = call.paging()?;
    let text = call.search("q")?;
    let text = text.ok_or_else(|| bad_parameter("q", "a part of a name is expected"))?;
    let listed = cluster::search(&call.api, &call.who, (text, call.param("realm")), paging).await?;
    let answer = SearchResults {
        part: Part::of(&listed, paging),
        results: listed.rows,
    };
    json(StatusCode::OK, &answer)
}
