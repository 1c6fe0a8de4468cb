//! Whose signed tokens a tenant accepts.

use std::sync::Arc;

use pinion_admin_ui::model::{Kind, Level, ProviderRow, Providers, State};
use pinion_metadata::identity::KeySource;
use pinion_metadata::{Body, Object, ObjectKey, ObjectKind};

use crate::error::Failure;
use crate::ui::act::rows_of;
use crate::ui::context::{PageContext, Shown};

pub(super) async fn page(context: &PageContext) -> Result<Shown, Failure> {
    let tenant = context.tenant()?.to_owned();
    let looked = tenant.clone();
    let found = context.look(move |metadata| {
        metadata.get(&ObjectKey::tenant(&looked))?;
        Some(rows_of(metadata, ObjectKind::Issuer, &looked))
    });
    let found = found.await?.ok_or_else(Failure::not_found)?;
    let identity = &context.api.identity;
    let asks = identity.exchanges.is_some() && identity.master.is_some();
    let rows = found.iter().filter_map(|object| {
        let mut row = row(object, asks, identity.cleartext_issuers)?;
        if let Some(exchanged) = context.api.exchanged.of(&tenant, &row.issuer) {
            row.exchanges = Some(exchanged.given);
            row.refused = Some(exchanged.refused);
            if let Some((at, why)) = exchanged.last_refusal {
                row.last_refusal = why.into();
                row.last_refused_ms = Some(context.now.0.saturating_sub(at.0));
            }
        }
        Some(row)
    });
    let rows = rows.collect();
    Ok(Providers {
        tenant,
        rows,
        fresh: context.fresh(Kind::Mixed),
    }
    .into())
}

/// `asks` where this node exchanges tokens at all, `cleartext` where it does so with
/// providers that have no TLS.
fn row(object: &Arc<Object>, asks: bool, cleartext: bool) -> Option<ProviderRow> {
    let (ObjectKey::Issuer { issuer, .. }, Body::Issuer(rules)) = (&object.meta.key, &object.body)
    else {
        return None;
    };
    let (way, url) = match &rules.keys {
        KeySource::Discovery(url) => ("discovery", url),
        KeySource::Jwks(url) => ("key set", url),
    };
    let (level, text) = if !asks {
        (Level::Warn, "not asked by this node")
    } else if !cleartext && !url.starts_with("https://") {
        (Level::Bad, "without TLS, never asked")
    } else {
        (Level::Ok, "believed")
    };
    Some(ProviderRow {
        issuer: issuer.to_string(),
        audiences: rules.audiences.iter().map(ToString::to_string).collect(),
        keys_from: format!("{way} {url}"),
        algorithms: rules
            .algorithms
            .iter()
            .map(|one| one.text().to_owned())
            .collect(),
        state: State {
            level,
            text: text.to_owned(),
        },
        exchanges: None,
        refused: None,
        last_refusal: String::new(),
        last_refused_ms: None,
    })
}
