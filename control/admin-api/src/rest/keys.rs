//! The keys that sign a tenant's tokens: published for everybody, rotated by who manages it.

use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderValue, StatusCode};
use pinion_auth::TenantId;
use pinion_auth::keyring::Keyring;
use pinion_auth::token::Kid;
use pinion_metadata::command::{CreateKeys, RotateKeys};
use pinion_metadata::identity::SigningKeys;
use pinion_metadata::{Body, Command, Expect, MetaVersion, Metadata, ObjectKey};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::call::{Call, Reply, json, tagged};
use crate::error::Failure;
use crate::identity::ROTATE_EVERY_MS_DEFAULT;
use crate::wall;

/// How long a copy of a key set may be used. A key is published a whole rotation before it
/// signs, so nobody who keeps to it misses one.
const KEY_SET_FRESH: HeaderValue = HeaderValue::from_static("public, max-age=60");

/// Names of a tenant's keys.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct KeyNames {
    pub(crate) kids: Kids,
    /// Of their last change.
    pub(crate) version: u64,
}

/// The names by their use.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Kids {
    /// Signs.
    pub(crate) current: String,
    /// Signs after the next rotation.
    pub(crate) next: String,
    /// Signed before the last one, and is believed until its tokens are over.
    pub(crate) previous: Option<String>,
}

impl From<&SigningKeys> for Kids {
    fn from(keys: &SigningKeys) -> Self {
        let name = |public: &[u8; 32]| Kid::of(public).to_string();
        Self {
            current: name(&keys.current.public),
            next: name(&keys.next.public),
            previous: keys.previous.map(|retired| name(&retired.key.public)),
        }
    }
}

/// What the metadata knows of a tenant that is there.
pub(crate) struct Tenant {
    pub(crate) id: TenantId,
    pub(crate) keys: Option<(SigningKeys, MetaVersion)>,
}

impl Tenant {
    /// `None` when there is none of that name, or it is deleted.
    pub(crate) fn of(metadata: &Metadata, name: &str) -> Option<Self> {
        let tenant = metadata.get(&ObjectKey::tenant(name))?;
        let (Body::Tenant(of), None) = (&tenant.body, tenant.meta.deleting) else {
            return None;
        };
        let keys = metadata.get(&ObjectKey::signing_keys(name));
        let keys = keys.and_then(|object| match &object.body {
            Body::SigningKeys(keys) => Some((keys.clone(), object.meta.version)),
            _ => None,
        });
        Some(Self {
            id: TenantId(of.number.0),
            keys,
        })
    }
}

/// The tenant of the path, as this node knows it.
pub(crate) async fn tenant(call: &Call) -> Result<Tenant, Failure> {
    let name: Box<str> = call.part("t").into();
    let found = call
        .look(move |metadata| Tenant::of(metadata, &name))
        .await?;
    found.ok_or_else(Failure::not_found)
}

/// The public halves, for whoever checks tokens without asking (RFC 7517).
pub(crate) async fn key_set(call: Call) -> Reply {
    let (keys, _) = tenant(&call).await?.keys.ok_or_else(Failure::not_found)?;
    let set = Keyring::from(&keys).key_set(wall());
    let set = RawValue::from_string(set).map_err(|_| Failure::not_found())?;
    let mut response = json(StatusCode::OK, &set)?;
    response.headers_mut().insert(CACHE_CONTROL, KEY_SET_FRESH);
    Ok(response)
}

/// The next key signs from now on; a tenant that has no keys gets its first.
pub(crate) async fn rotate(call: Call) -> Reply {
    let name = call.part("t");
    let Tenant { id, keys } = tenant(&call).await?;
    let identity = &call.api.identity;
    let (expect, command) = match keys {
        // Somebody else's rotation, just now, is not rotated away: every token of the
        // hour before would end.
        Some((_, version)) => {
            let next = identity.fresh_key(id)?;
            let tenant = name.into();
            let command = Command::RotateKeys(RotateKeys { tenant, next });
            (Expect::Version(version), command)
        }
        None => {
            let keys = identity.fresh_keys(id, ROTATE_EVERY_MS_DEFAULT)?;
            let tenant = name.into();
            let command = Command::CreateKeys(CreateKeys { tenant, keys });
            (Expect::Absent, command)
        }
    };
    let expect = match call.expect() {
        Expect::Any => expect,
        asked => asked,
    };
    let written = call.write(expect, command).await?;
    let object = written.object()?;
    let Body::SigningKeys(keys) = &object.body else {
        return Err(Failure::not_found());
    };
    let names = KeyNames {
        kids: Kids::from(keys),
        version: object.meta.version.0,
    };
    Ok(written.mark(tagged(StatusCode::OK, object.meta.version, &names)?))
}
