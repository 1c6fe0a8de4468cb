//! What signs a tenant's tokens, and its API keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use pinion_admin_ui::model::{self, ApiKeyRow, Kind, Level, SigningKeyRow, State};
use pinion_auth::token::Kid;
use pinion_metadata::identity::SigningKeys;
use pinion_metadata::{Action, Body, Object, ObjectKey, ObjectKind, PolicyObject};
use pinion_types::WallMs;

use super::list::{listing, order, part};
use crate::error::Failure;
use crate::ui::act::{prefix_text, rows_of};
use crate::ui::context::{PageContext, Shown};

/// Rights of one key that are named; of more the number is told.
const RIGHTS_SHOWN: usize = 4;

pub(super) async fn page(context: &PageContext) -> Result<Shown, Failure> {
    let tenant = context.tenant()?.to_owned();
    // What keys may do is told by the tenant's policies, which not everybody sees who manages it.
    let of = PolicyObject::Tenant(tenant.as_str().into());
    let sees_rules = context.who.may(Action::RbacView, &of);
    let sort = context.sort(&[], "");
    let looked = tenant.clone();
    let found = context.look(move |metadata| {
        metadata.get(&ObjectKey::tenant(&looked))?;
        let signing = metadata.get(&ObjectKey::signing_keys(&looked)).cloned();
        let keys = rows_of(metadata, ObjectKind::ApiKey, &looked);
        let policies = if sees_rules {
            rows_of(metadata, ObjectKind::Policy, &looked)
        } else {
            Vec::new()
        };
        Some((signing, keys, policies))
    });
    let (signing, keys, policies) = found.await?.ok_or_else(Failure::not_found)?;
    let signing = signing.map(|object| match &object.body {
        Body::SigningKeys(keys) => signing_rows(keys),
        _ => Vec::new(),
    });
    let mut rows: Vec<ApiKeyRow> = keys
        .iter()
        .filter_map(|object| row(object, context.now))
        .collect();
    order(&mut rows, &sort, |a, b| a.name.cmp(&b.name));
    let (mut rows, pages) = part(context, rows);
    let rights = rights(&policies);
    for row in &mut rows {
        row.rights = rights.get(&row.principal).cloned().unwrap_or_default();
        let more = row.rights.len().saturating_sub(RIGHTS_SHOWN);
        row.rights.truncate(RIGHTS_SHOWN);
        if more > 0 {
            row.rights.push(format!("and {more} more"));
        }
    }
    Ok(model::Keys {
        signing: signing.unwrap_or_default(),
        signing_fresh: context.fresh(Kind::Durable),
        api_keys: rows,
        list: listing(context, sort, pages),
        fresh: context.fresh(Kind::Mixed),
        tenant,
    }
    .into())
}

fn signing_rows(keys: &SigningKeys) -> Vec<SigningKeyRow> {
    let row = |public: &[u8; 32], role: &str, level, from_unix_ms, until_unix_ms| SigningKeyRow {
        key_id: Kid::of(public).to_string(),
        role: role.to_owned(),
        level,
        from_unix_ms,
        until_unix_ms,
    };
    let next_ms = keys.rotated.0.saturating_add(keys.rotate_every_ms);
    let (rotated, next) = (Some(keys.rotated.0), Some(next_ms));
    let mut rows = vec![
        row(&keys.current.public, "current", Level::Ok, rotated, next),
        row(&keys.next.public, "next", Level::Info, next, None),
    ];
    if let Some(retired) = &keys.previous {
        let until = Some(retired.until.0);
        let public = &retired.key.public;
        rows.push(row(public, "previous", Level::Unknown, None, until));
    }
    rows
}

fn row(object: &Arc<Object>, now: WallMs) -> Option<ApiKeyRow> {
    let Body::ApiKey(key) = &object.body else {
        return None;
    };
    let over = key.expires.is_some_and(|expires| expires <= now);
    let (level, text) = if over {
        (Level::Warn, "over")
    } else {
        (Level::Ok, "active")
    };
    Some(ApiKeyRow {
        name: key.name.to_string(),
        prefix: prefix_text(key),
        principal: key.subject.to_string(),
        rights: Vec::new(),
        made_unix_ms: object.meta.created.0,
        expires_unix_ms: key.expires.map(|expires| expires.0),
        state: State {
            level,
            text: text.to_owned(),
        },
    })
}

/// What policies say by name of whom they are for; not what comes by roles.
fn rights(policies: &[Arc<Object>]) -> BTreeMap<String, Vec<String>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for object in policies {
        if let Body::Policy(policy) = &object.body {
            let right = format!("{} {}", policy.action, policy.object);
            all.entry(policy.subject.to_string())
                .or_default()
                .push(right);
        }
    }
    all
}
