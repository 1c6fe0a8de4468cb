//! What this is, and how to speak to it.

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::call::{Call, Reply, json as answer};

/// A node, its release and its cluster.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct SystemInfo {
    node: String,
    release: &'static str,
    /// 32 hexadecimal digits, chosen when the cluster was formed.
    cluster_id: String,
    /// Of the metadata, as this node has it.
    version: u64,
    /// It has caught up since its start.
    ready: bool,
    uptime_seconds: u64,
    /// What it can be asked.
    #[schema(value_type = Vec<String>)]
    features: &'static [&'static str],
}

pub(crate) async fn info(call: Call) -> Reply {
    let (cluster, version) = call
        .look(|metadata| (metadata.cluster(), metadata.version()))
        .await?;
    let status = call.api.plane.status().await?;
    let info = SystemInfo {
        node: call.api.node.to_string(),
        release: env!("CARGO_PKG_VERSION"),
        cluster_id: cluster_text(cluster),
        version: version.0,
        ready: status.ready,
        uptime_seconds: call.api.uptime().as_secs(),
        features: &["rest", "watch", "apply", "audit"],
    };
    answer(StatusCode::OK, &info)
}

/// The id of a cluster as it is told.
pub(crate) fn cluster_text(cluster: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(cluster))
}

pub(crate) async fn openapi(_: Call) -> Reply {
    answer(StatusCode::OK, crate::openapi::document())
}

/// A page that reads the document, with nothing from anywhere else.
pub(crate) async fn docs(_: Call) -> Reply {
    let mut response = Response::new(Body::from(include_str!("../page.html")));
    let headers = response.headers_mut();
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    headers.insert(CONTENT_TYPE, html);
    // Nothing is fetched but the document, and nothing is run but the page's own script.
    headers.insert(
        "content-security-policy",
        HeaderValue::from_static(
            "default-src 'none'; connect-src 'self'; style-src 'unsafe-inline'; \
             script-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
        ),
    );
    Ok(response)
}
