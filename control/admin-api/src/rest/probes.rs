//! What whoever runs the process asks.

use axum::http::StatusCode;
use serde_json::json;

use crate::call::{Call, Reply, json as answer};
use crate::error::Failure;

/// It answers: that is all that is asked.
pub(crate) async fn live(_: Call) -> Reply {
    answer(StatusCode::OK, &json!({ "status": "ok" }))
}

/// The plane has caught up with what was decided before the node was started.
pub(crate) async fn ready(call: Call) -> Reply {
    let status = call.api.plane.status().await?;
    if !status.ready {
        return Err(Failure::from(pinion_plane::PlaneError::NotReady));
    }
    answer(StatusCode::OK, &json!({ "status": "ok" }))
}

pub(crate) async fn health(call: Call) -> Reply {
    answer(
        StatusCode::OK,
        &json!({
            "status": "ok",
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_seconds": call.api.uptime().as_secs(),
        }),
    )
}
