//! API keys, for machines that have no identity provider. A key is shown when it is made and
//! never again.

use axum::http::StatusCode;
use pinion_auth::api_key;
use pinion_metadata::command::CreateApiKey;
use pinion_metadata::identity;
use pinion_metadata::{Action, Body, Command, Expect, Object, ObjectKey, ObjectKind, Subject};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::page;
use super::rbac::{row_id, scope};
use crate::call::{Call, Reply, no_content, tagged};
use crate::error::Failure;
use crate::identity::random;
use crate::model::{Life, given, parse_time, time};

/// An API key to be made.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApiKeyCreate {
    /// For people.
    pub(crate) name: String,
    /// For whom it speaks, such as `p:backup`: what that may do, it may.
    pub(crate) subject: String,
    /// RFC 3339; without one it counts until it is deleted.
    #[serde(default, deserialize_with = "given")]
    pub(crate) expires: Option<String>,
}

/// An API key, without itself.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ApiKey {
    /// What it is deleted by.
    pub(crate) id: u64,
    pub(crate) name: String,
    /// The digits in it that keys are told apart by.
    pub(crate) prefix: String,
    pub(crate) subject: String,
    /// RFC 3339.
    pub(crate) expires: Option<String>,
    #[serde(flatten)]
    pub(crate) life: Life,
}

/// An API key that was just made.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ApiKeyMade {
    #[serde(flatten)]
    pub(crate) api_key: ApiKey,
    /// The key itself. Nobody can ask for it again.
    pub(crate) key: String,
}

pub(crate) async fn list(call: Call) -> Reply {
    let tenant = ObjectKey::tenant(call.part("t"));
    let listed = call.list(&[ObjectKind::ApiKey], Some(tenant), |_| true);
    let listed = listed.await?;
    let rows = listed.items.iter().filter_map(|object| shown(object));
    let rows: Vec<ApiKey> = rows.collect();
    page("api_keys", listed.read, rows, listed.next.as_ref())
}

pub(crate) async fn create(call: Call) -> Reply {
    // Whoever has the key may do what its subject may: who makes one gives that away, as who
    // gives a role does.
    let scope = scope(&call, Action::RbacAssignmentManage)?;
    let body: ApiKeyCreate = call.body()?;
    let subject = Subject::parse(&body.subject)
        .map_err(|error| Failure::bad("bad_subject", error.to_string()))?;
    let expires = body.expires.as_deref().map(|text| {
        parse_time(text).ok_or_else(|| Failure::bad("bad_time", "expires is a time of RFC 3339"))
    });
    let (kept, text) = api_key::ApiKey::mint(random()?, &random()?);
    let command = Command::CreateApiKey(CreateApiKey {
        tenant: call.part("t").into(),
        scope,
        key: identity::ApiKey {
            name: body.name.as_str().into(),
            prefix: kept.prefix,
            digest: kept.digest.0,
            subject,
            expires: expires.transpose()?,
        },
    });
    let written = call.write(Expect::Any, command).await?;
    let object = written.object()?;
    match &object.body {
        // Made by an earlier request of this id: this one's key is nobody's.
        Body::ApiKey(stored) if stored.digest != kept.digest.0 => {
            return Err(Failure::new(
                StatusCode::CONFLICT,
                "shown_before",
                "the key was made and shown before: delete it if it was lost, and make another",
            ));
        }
        _ => {}
    }
    let made = ApiKeyMade {
        api_key: shown(object).ok_or_else(Failure::not_found)?,
        key: text,
    };
    Ok(written.mark(tagged(StatusCode::CREATED, object.meta.version, &made)?))
}

pub(crate) async fn delete(call: Call) -> Reply {
    let key = ObjectKey::api_key(call.part("t"), row_id(call.part("id"))?);
    let written = call.write(call.expect(), Command::Remove(key)).await?;
    Ok(written.mark(no_content()))
}

fn shown(object: &Object) -> Option<ApiKey> {
    let (ObjectKey::ApiKey { id, .. }, Body::ApiKey(key)) = (&object.meta.key, &object.body) else {
        return None;
    };
    Some(ApiKey {
        id: id.0,
        name: key.name.to_string(),
        prefix: String::from_utf8_lossy(&key.prefix).into_owned(),
        subject: key.subject.to_string(),
        expires: key.expires.map(time),
        life: Life::from(&object.meta),
    })
}
