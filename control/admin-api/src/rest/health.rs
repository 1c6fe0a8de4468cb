//! `POST /v1/brokers/{b}/health`: a broker that is no node of this cluster's control plane
//! says that it lives.

use axum::http::StatusCode;
use pinion_metadata::{Body, MetaError, ObjectKey};
use pinion_plane::PeerName;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::call::{Call, Reply, json};
use crate::error::Failure;
use crate::model::{Broker, given};

/// What a broker says of itself. That it says it is what counts.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "figures are read strictly, and nobody decides by them"
)]
pub(crate) struct HealthReport {
    /// The life that reports, in decimal; the one that registered where nothing is said.
    #[serde(default, deserialize_with = "given")]
    pub(crate) incarnation: Option<String>,
    /// One that is not counts as silent.
    #[serde(default = "yes")]
    pub(crate) healthy: bool,
    /// For people.
    #[serde(default)]
    pub(crate) message: String,
    #[serde(default)]
    pub(crate) uptime_seconds: i64,
    #[serde(default)]
    pub(crate) metrics: ReportedMetrics,
    #[serde(default)]
    pub(crate) shards: Vec<ReportedShard>,
}

/// What a broker measured.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ReportedMetrics {
    pub(crate) connections: u32,
    pub(crate) memory_bytes: u64,
    pub(crate) disk_bytes: u64,
    pub(crate) records_per_second: u64,
}

/// What a broker has of a shard.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "as above")]
pub(crate) struct ReportedShard {
    /// `{tenant}/{namespace}/{stream}`
    pub(crate) stream_id: String,
    pub(crate) shard: u32,
    #[serde(default)]
    pub(crate) leader: bool,
    /// The next record.
    #[serde(default)]
    pub(crate) offset: u64,
}

/// What a broker is told.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct HealthAnswer {
    /// Milliseconds until the next report is due.
    pub(crate) next_ms: u32,
    /// `active`, `draining` or `down`.
    pub(crate) status: &'static str,
}

const fn yes() -> bool {
    true
}

pub(crate) async fn report(call: Call) -> Reply {
    let report: HealthReport = call.body()?;
    let key = ObjectKey::broker(call.part("b"));
    let looked = key.clone();
    let found = call.look(move |metadata| {
        let object = metadata.get(&looked)?;
        let Body::Broker(broker) = &object.body else {
            return None;
        };
        let settings = metadata.settings();
        Some((
            broker.incarnation,
            Broker::status_of(broker),
            settings.heartbeat_ms,
        ))
    });
    let (registered, status, next_ms) = found.await?.ok_or(MetaError::NotFound(key))?;
    let incarnation = match &report.incarnation {
        None => registered,
        Some(text) => text.parse().map_err(|_| {
            Failure::bad("bad_spec", "incarnation: a number in decimal is expected")
        })?,
    };
    let name = PeerName::new(call.part("b"));
    let name = name.map_err(|_| Failure::bad("bad_name", "this is no name of a broker"))?;
    if report.healthy {
        call.api.plane.beat(name, incarnation).await?;
    }
    json(StatusCode::OK, &HealthAnswer { next_ms, status })
}
