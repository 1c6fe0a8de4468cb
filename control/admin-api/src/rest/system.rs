//! What this is, and how to speak to it.

use axum::http::StatusCode;
use serde_json::json;

use crate::call::{Call, Reply, json as answer};

pub(crate) async fn info(call: Call) -> Reply {
    let (cluster, version) = call
        .look(|metadata| (metadata.cluster(), metadata.version()))
        .await?;
    let status = call.api.plane.status().await?;
    answer(
        StatusCode::OK,
        &json!({
            "node": call.api.node,
            "release": env!("CARGO_PKG_VERSION"),
            "cluster_id": cluster_text(cluster),
            "version": version.0,
            "ready": status.ready,
            "uptime_seconds": call.api.uptime().as_secs(),
            "features": ["rest", "watch", "apply", "audit"],
        }),
    )
}

/// The id of a cluster as it is told.
pub(crate) fn cluster_text(cluster: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(cluster))
}
