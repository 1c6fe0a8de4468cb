//! What whoever runs the process asks.

use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::call::{Call, Reply, json};
use crate::error::Failure;

/// All is well.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Probe {
    /// `ok`
    status: &'static str,
}

/// The same, and who answers.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    /// `ok`
    status: &'static str,
    /// Of the release.
    version: &'static str,
    uptime_seconds: u64,
}

const OK: Probe = Probe { status: "ok" };

/// It answers: that is all that is asked.
pub(crate) async fn live(_: Call) -> Reply {
    json(StatusCode::OK, &OK)
}

/// The plane has caught up with what was decided before the node was started.
pub(crate) async fn ready(call: Call) -> Reply {
    let status = call.api.plane.status().await?;
    if !status.ready {
        return Err(Failure::from(pinion_plane::PlaneError::NotReady));
    }
    json(StatusCode::OK, &OK)
}

pub(crate) async fn health(call: Call) -> Reply {
    let health = Health {
        status: OK.status,
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: call.api.uptime().as_secs(),
    };
    json(StatusCode::OK, &health)
}
