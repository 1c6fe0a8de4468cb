//! What this node is.

use pinion_admin_ui::model::{About, Fact, Kind, Quantity};
use pinion_plane::PlaneError;

use crate::error::Failure;
use crate::rest::system::cluster_text;
use crate::ui::context::{PageContext, Shown};

pub(super) async fn page(context: &PageContext) -> Result<Shown, Failure> {
    let api = &context.api;
    let status = api.plane.status().await.map_err(Failure::from)?;
    let looked = context.look(|metadata| metadata.cluster()).await;
    let cluster = match looked {
        Ok(cluster) => Quantity::Code(cluster_text(cluster)),
        Err(failure) if failure.code == not_ready() => Quantity::Unknown,
        Err(failure) => return Err(failure),
    };
    let up_ms = u64::try_from(api.uptime().as_millis()).unwrap_or(u64::MAX);
    let word = |there: bool, yes: &str, no: &str| {
        let text = if there { yes } else { no };
        Quantity::Text(text.to_owned())
    };
    let identity = &api.identity;
    Ok(About {
        facts: vec![
            fact("Version", Quantity::Text(env!("CARGO_PKG_VERSION").into())),
            fact("Node", Quantity::Code(api.node.to_string())),
            fact("Cluster", cluster),
            fact(
                "Serves since",
                Quantity::UnixMs(context.now.0.saturating_sub(up_ms)),
            ),
            fact("Up for", Quantity::SpanMs(up_ms)),
            fact("Metadata version", Quantity::Count(status.version.0)),
            fact(
                "Caught up",
                word(
                    status.ready,
                    "yes",
                    "not yet: it is starting or has no leader",
                ),
            ),
        ],
        features: vec![
            fact(
                "Tokens are issued",
                word(
                    identity.master.is_some(),
                    "yes",
                    "no: set [auth] master_key_file",
                ),
            ),
            fact(
                "Identity providers are asked",
                word(identity.exchanges.is_some(), "yes", "no"),
            ),
            fact(
                "First days of tenants",
                word(api.bootstrap.is_some(), "on their own listener", "off"),
            ),
            fact("API", Quantity::Code("/v1/docs".into())),
        ],
        fresh: context.fresh(Kind::Live),
    }
    .into())
}

/// The word of a node that has no metadata yet.
fn not_ready() -> String {
    Failure::from(PlaneError::NotReady).code.into_owned()
}

fn fact(name: &str, value: Quantity) -> Fact {
    Fact {
        name: name.to_owned(),
        value,
        kind: None,
    }
}
