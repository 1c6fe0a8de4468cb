//! What this is, and how to speak to it.

use std::sync::LazyLock;

use axum::body::Body;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use sha2::{Digest, Sha256};
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

/// The page that reads the document.
const PAGE: &str = include_str!("../page.html");

/// Nothing is fetched but the document, and nothing is run or drawn by but the page's own
/// script and style, which are known by their digests: what somebody else brings into the
/// page, which has the origin of the dashboard, is not run.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    format!(
        "default-src 'none'; connect-src 'self'; style-src {}; script-src {}; \
         form-action 'none'; frame-ancestors 'none'; base-uri 'none'",
        source(PAGE, "style"),
        source(PAGE, "script")
    )
});

/// What is inside of the one element of a name, as a source of a policy (CSP3 §2.3.1); none
/// where there is no such element.
fn source(page: &str, name: &str) -> String {
    let inside = page
        .split_once(&format!("<{name}>"))
        .and_then(|(_, rest)| rest.split_once(&format!("</{name}>")));
    inside.map_or_else(
        || "'none'".to_owned(),
        |(inside, _)| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(inside))),
    )
}

/// A page that reads the document, with nothing from anywhere else.
pub(crate) async fn docs(_: Call) -> Reply {
    let mut response = Response::new(Body::from(PAGE));
    let headers = response.headers_mut();
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    headers.insert(CONTENT_TYPE, html);
    if let Ok(policy) = HeaderValue::from_str(&POLICY) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_the_document_runs_its_own_script_and_no_other() {
        // The digest of nothing, from FIPS 180-4's examples.
        let empty = "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='";
        assert_eq!(source("<p><script></script>", "script"), empty);
        assert_ne!(source("<script> </script>", "script"), empty);
        assert_eq!(source(PAGE, "object"), "'none'");
        // Each digest is that of the only such element, and there is nothing else inline.
        for name in ["script", "style"] {
            assert_eq!(PAGE.matches(&format!("<{name}")).count(), 1, "{name}");
            assert!(POLICY.contains(&source(PAGE, name)), "{name}");
        }
        assert_eq!(POLICY.matches("'sha256-").count(), 2, "{}", *POLICY);
        assert!(!POLICY.contains("unsafe"), "{}", *POLICY);
        for inline in [
            " style=",
            " onclick=",
            " onload=",
            " onerror=",
            "javascript:",
        ] {
            assert!(!PAGE.contains(inline), "{inline}");
        }
    }
}
