//! The first day of a tenant: before anybody has a credential, whoever has the operator's
//! secret says who is believed and who administers. Once for each tenant, on a listener of
//! its own that is off unless it is configured.

use std::sync::Arc;

use axum::http::{HeaderName, StatusCode};
use pinion_auth::TenantId;
use pinion_auth::access::TokenDigest;
use pinion_metadata::command::{CreateTenant, InitializeTenant};
use pinion_metadata::tenant::TenantQuotas;
use pinion_metadata::{Body, Command, Expect, MetaCode, MetaError, ObjectKey, Subject};
use serde::{Deserialize, Serialize};

use super::is_conflict;
use super::issuers::{self, IssuerInput};
use super::keys::{Kids, Tenant};
use crate::call::{Call, Reply, json};
use crate::error::Failure;
use crate::identity::ROTATE_EVERY_MS_DEFAULT;
use crate::limits::BODY_BYTES_MAX;
use crate::routes::{Need, Route, Verb};

/// The secret of the first day.
pub(crate) const SECRET: HeaderName = HeaderName::from_static("x-pinion-bootstrap-token");

/// Who did it, in the audit log.
const PRINCIPAL: &str = "bootstrap";

/// The routes of its listener: one.
pub(crate) const ROUTES: &[Route] = &[Route {
    method: Verb::Post,
    path: "/internal/bootstrap/tenants/{t}/initialize",
    need: Need::Public,
    query: &[],
    body: Some("BootstrapRequest"),
    // All that a tenant begins with; the listener is there for the operator alone.
    body_max: BODY_BYTES_MAX,
    answer: Some("BootstrapResponse"),
    success: 201,
    others: &[401, 404, 409],
    confirm: false,
    rpc: None,
    command: "bootstrap",
    about: "A tenant's first day",
    handler: |call| Box::pin(initialize(call)),
}];

/// What a tenant begins with.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BootstrapRequest {
    /// Of a tenant that there is already, it stays.
    #[serde(default)]
    pub(crate) display_name: String,
    /// At most 16.
    #[serde(default)]
    pub(crate) idp_issuers: Vec<IssuerInput>,
    /// 1 to 64, such as `p:alice`. They have the role `admin`.
    pub(crate) initial_admin_principals: Vec<String>,
    /// How often its keys change, in milliseconds; 0 is never, and 30 days where nothing is
    /// said.
    #[serde(default)]
    pub(crate) rotate_every_ms: Option<u64>,
}

/// A tenant that has begun.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct BootstrapResponse {
    pub(crate) tenant: String,
    pub(crate) kids: Kids,
    /// Of the metadata.
    pub(crate) version: u64,
}

pub(crate) async fn initialize(mut call: Call) -> Reply {
    // By their digests: how long it takes says nothing about how much of a guess was right.
    let shown = TokenDigest::of(call.header(&SECRET).unwrap_or_default());
    if call.api.bootstrap != Some(shown) {
        let mut failure = Failure::new(
            StatusCode::UNAUTHORIZED,
            "unauthenticated",
            "the secret of the first day is needed",
        );
        failure.denied = Some(failure.status);
        return Err(failure);
    }
    call.who.principal = PRINCIPAL.into();
    let body: BootstrapRequest = call.body()?;
    // Everything that can be wrong with it comes before anything is made.
    let cleartext = call.api.identity.cleartext_issuers;
    let issuers = body.idp_issuers.iter();
    let issuers = issuers.map(|input| issuers::read(input, cleartext));
    let issuers = issuers.collect::<Result<_, _>>()?;
    let admins = body.initial_admin_principals.iter().map(|text| {
        Subject::parse(text).map_err(|error| {
            Failure::bad("bad_subject", format!("initial_admin_principals: {error}"))
        })
    });
    let admins = admins.collect::<Result<_, _>>()?;
    call.api.identity.master()?;

    let name: Box<str> = call.part("t").into();
    let tenant = tenant(&mut call, &body).await?;
    let rotate_every_ms = body.rotate_every_ms.unwrap_or(ROTATE_EVERY_MS_DEFAULT);
    let command = Command::InitializeTenant(InitializeTenant {
        tenant: name.clone(),
        display_name: body.display_name.as_str().into(),
        issuers,
        admins,
        keys: call.api.identity.fresh_keys(tenant, rotate_every_ms)?,
    });
    let written = call
        .write(Expect::Absent, command)
        .await
        .map_err(|mut failure| {
            // That its row is there is what a repeat meets first.
            if failure.code == MetaCode::VersionConflict.text() {
                let tenant = name.clone();
                failure = MetaError::AlreadyInitialized { tenant }.into();
            }
            failure
        })?;
    let known = call
        .look(move |metadata| Tenant::of(metadata, &name))
        .await?;
    let keys = known.and_then(|tenant| tenant.keys);
    let (keys, _) = keys.ok_or_else(Failure::not_found)?;
    let answer = BootstrapResponse {
        tenant: call.part("t").into(),
        kids: Kids::from(&keys),
        version: written.version.0,
    };
    Ok(written.mark(json(StatusCode::CREATED, &answer)?))
}

/// The number of the tenant, which is made if there is none. A crash before the rest leaves a
/// tenant that has nobody and nothing; the same request goes on from there, at any node.
async fn tenant(call: &mut Call, body: &BootstrapRequest) -> Result<TenantId, Failure> {
    let name: Box<str> = call.part("t").into();
    let (key, bootstrap) = (ObjectKey::tenant(&name), ObjectKey::bootstrap(&name));
    let tenant = key.clone();
    let (known, done) = call
        .look(move |metadata| {
            let number = match metadata.get(&key).map(|object| &object.body) {
                Some(Body::Tenant(tenant)) => Some(TenantId(tenant.number.0)),
                _ => None,
            };
            (number, metadata.get(&bootstrap).is_some())
        })
        .await?;
    // Before a tenant that was purged is made again for nothing.
    if done {
        return Err(MetaError::AlreadyInitialized { tenant: name }.into());
    }
    if let Some(known) = known {
        return Ok(known);
    }
    let create = Command::CreateTenant(CreateTenant {
        name,
        display_name: body.display_name.as_str().into(),
        description: Box::default(),
        quotas: TenantQuotas::default(),
        encryption: None,
    });
    // Under no number: the client's is that of the command which follows.
    let number = core::mem::take(&mut call.number);
    let made = call.try_write(Expect::Absent, create).await;
    call.number = number;
    let object = match made {
        Ok(made) => Arc::clone(made.object()?),
        // Somebody made it meanwhile, or this node was behind.
        Err(error) if is_conflict(&error) => call.get(tenant.clone()).await?.1,
        Err(error) => return Err(call.refused(error)),
    };
    match &object.body {
        Body::Tenant(of) => Ok(TenantId(of.number.0)),
        _ => Err(MetaError::NotFound(tenant).into()),
    }
}
