//! Tokens: given for those of identity providers, and taken back.

use std::sync::Arc;

use axum::http::StatusCode;
use pinion_auth::exchange::Issuer;
use pinion_auth::jose::Jws;
use pinion_auth::keyring::StoredKey;
use pinion_auth::rights::{Actions, Wanted};
use pinion_auth::seal::{SealError, Sealed};
use pinion_auth::sign::{IssueError, SigningKey};
use pinion_auth::token::{Claims, Jti, Realm};
use pinion_auth::upstream::Upstream;
use pinion_metadata::command::Revoke;
use pinion_metadata::identity::{self, Revoked};
use pinion_metadata::limits::ISSUERS_PER_TENANT_MAX;
use pinion_metadata::{
    ActionPattern, Body, Command, Expect, Filter, ListQuery, Metadata, ObjectKey, ObjectKind,
    PolicyObject, Subject, SubjectOf,
};
use pinion_plane::{Caller, Denied, PlaneError};
use pinion_types::WallMs;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::keys::Tenant;
use crate::Api;
use crate::access::bounded;
use crate::call::{Call, Reply, json, no_content};
use crate::error::Failure;
use crate::identity::{random, unavailable};
use crate::model::{given, parse_time};
use crate::wall;

/// Most actions and most objects that one exchange asks for; as many as a token may have
/// permissions.
const WANTED_MAX: usize = 64;

/// What a token that was given is called in the audit log.
const EXCHANGE: &str = "token.exchange";

/// What a token is asked for; everything that its holder may, where nothing is said.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ExchangeRequest {
    /// Actions; at most 64.
    #[serde(deserialize_with = "given")]
    pub(crate) requested: Option<Vec<String>>,
    /// Objects; at most 64.
    #[serde(deserialize_with = "given")]
    pub(crate) resources: Option<Vec<String>>,
}

/// A token.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ExchangeResponse {
    pub(crate) access_token: String,
    /// `Bearer`
    pub(crate) token_type: &'static str,
    /// Seconds.
    pub(crate) expires_in: u64,
    /// What it allows, `action:object` each.
    pub(crate) permissions: Vec<String>,
}

/// What is taken back: one token, or all tokens that somebody has. API keys that speak for
/// them are no tokens and count on: `GET /v1/tenants/{t}/api-keys` has them with their
/// subjects, and `DELETE /v1/tenants/{t}/api-keys/{id}` ends one.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RevokeRequest {
    /// The number of a token. With `expires`.
    #[serde(default, deserialize_with = "given")]
    pub(crate) jti: Option<String>,
    /// When that token ends; RFC 3339. What is revoked is kept no longer.
    #[serde(default, deserialize_with = "given")]
    pub(crate) expires: Option<String>,
    /// Whose tokens, such as `p:ana`. No token is of a `g:`, a `role:` or a `spiffe://`.
    #[serde(default, deserialize_with = "given")]
    pub(crate) subject: Option<String>,
    /// Those that were issued before; RFC 3339. Now where nothing is said.
    #[serde(default, deserialize_with = "given")]
    pub(crate) issued_before: Option<String>,
}

/// What an exchange needs to know of a tenant.
pub(crate) struct Facts {
    name: Box<str>,
    tenant: Tenant,
    issuers: Vec<(Box<str>, identity::Issuer)>,
    realm: Realm,
    life_s: u64,
}

impl Facts {
    /// Of a tenant as this node knows it.
    pub(crate) async fn look(api: &Api, name: &str) -> Result<Self, Failure> {
        let name: Box<str> = name.into();
        let looked = api.plane.look(move |metadata| Self::of(metadata, &name));
        let facts = looked.await?.ok_or(PlaneError::NotReady)?;
        facts.ok_or_else(Failure::not_found)
    }

    fn of(metadata: &Metadata, name: &str) -> Option<Self> {
        let tenant = Tenant::of(metadata, name)?;
        let query = ListQuery {
            kind: ObjectKind::Issuer,
            under: Some(ObjectKey::tenant(name)),
            filter: Filter::All,
            deleted: false,
            limit: usize::try_from(ISSUERS_PER_TENANT_MAX).unwrap_or(usize::MAX),
            after: None,
        };
        let issuers = metadata.list(&query).items;
        let issuers = issuers
            .iter()
            .filter_map(|object| match (&object.meta.key, &object.body) {
                (ObjectKey::Issuer { issuer, .. }, Body::Issuer(rules)) => {
                    Some((issuer.clone(), rules.clone()))
                }
                _ => None,
            });
        Some(Self {
            name: name.into(),
            tenant,
            issuers: issuers.collect(),
            realm: Realm::of(&metadata.cluster()),
            life_s: metadata.settings().token_life_s.into(),
        })
    }

    /// The issuers whose keys may be fetched.
    pub(crate) fn believed(&self, cleartext: bool) -> Vec<Arc<Issuer>> {
        let secure = |rules: &identity::Issuer| rules.keys.url().starts_with("https://");
        let usable = self
            .issuers
            .iter()
            .filter(|(_, rules)| cleartext || secure(rules));
        // One whose keys are nowhere that is fetched from was written by another release.
        usable
            .filter_map(|(name, rules)| Issuer::of(name, rules).ok())
            .map(Arc::new)
            .collect()
    }
}

/// For the token of an identity provider, one of ours.
pub(crate) async fn exchange(call: Call) -> Reply {
    let mut seen = Seen::default();
    let mut reply = give(&call, &mut seen).await;
    if reply.is_ok()
        && let Err(error) = note(&call, &seen).await
    {
        // Nobody has the token, and nobody gets it.
        reply = Err(error.into());
    }
    if let Some(issuer) = seen.issuer {
        let refused = reply.as_ref().err();
        let why = refused.map(|failure| seen.wrong.as_deref().unwrap_or(&failure.message));
        let refused = why.map(|why| (wall(), why));
        call.api.exchanged.add(call.part("t"), &issuer, refused);
    }
    reply
}

/// The row of a token that was given: for whom, by whom they are vouched for, never a token.
async fn note(call: &Call, seen: &Seen) -> Result<(), PlaneError> {
    let tenant = call.part("t");
    let subject = seen.subject.as_deref().unwrap_or_default();
    let issuer = seen.issuer.as_deref().unwrap_or_default();
    let row = Denied {
        caller: Caller {
            principal: bounded(format!("{tenant}/p:{subject}")),
            request: call.number,
            remote: call.who.remote,
        },
        tenant: tenant.into(),
        operation: EXCHANGE.into(),
        target: format!("issuer:{issuer}").into(),
        status: StatusCode::OK.as_u16(),
    };
    call.api.given(row).await
}

/// What was seen of a token besides the answer, for those who look after the tenant.
#[derive(Default)]
struct Seen {
    /// Which of the tenant's issuers it names, if it names one.
    issuer: Option<Box<str>>,
    /// Whom it vouches for, when that was proved.
    subject: Option<Box<str>>,
    /// What is wrong with it, which whoever showed it is not told.
    wrong: Option<String>,
}

async fn give(call: &Call, seen: &mut Seen) -> Reply {
    let bearer = call.bearer()?;
    let wanted = wanted(&call.body()?)?;
    let identity = &call.api.identity;
    let exchanges = identity.exchanges()?;
    identity.master()?;
    let facts = Facts::look(&call.api, call.part("t")).await?;

    let claimed = Jws::parse(bearer).and_then(|token| token.claimed_issuer());
    let known = |claimed: &str| facts.issuers.iter().any(|(name, _)| **name == *claimed);
    seen.issuer = claimed.ok().filter(|claimed| known(claimed));
    let issuers = facts.believed(identity.cleartext_issuers);
    let upstream = exchanges.upstream(bearer, &issuers).await;
    seen.wrong = upstream.as_ref().err().map(ToString::to_string);
    let upstream = upstream?;
    seen.subject = Some(upstream.subject.clone());
    let given = facts.token(&call.api, &upstream, &wanted)?;
    json(StatusCode::OK, &given)
}

impl Facts {
    /// A token of ours for somebody whom an issuer of the tenant vouches for: for what they
    /// may, of what is wanted.
    pub(crate) fn token(
        &self,
        api: &Api,
        upstream: &Upstream,
        wanted: &Wanted,
    ) -> Result<ExchangeResponse, Failure> {
        let master = api.identity.master()?;
        // Tables follow the metadata within a round; a tenant that is not in one yet has
        // nobody.
        let table = api.credentials();
        let all = table.map(|table| table.rights(self.tenant.id, upstream));
        let rights = all.unwrap_or_default().narrow(wanted);
        if rights.is_empty() {
            return Err(nothing_granted(all_of(wanted)));
        }
        let Some((keys, _)) = &self.tenant.keys else {
            return Err(Failure::new(
                StatusCode::CONFLICT,
                "no_signing_keys",
                "the tenant has no keys to sign with: rotate them once",
            ));
        };
        let stored = StoredKey {
            public: keys.current.public,
            sealed: Sealed::new(keys.current.sealed),
        };
        let key = stored.open(master, self.tenant.id).map_err(sealed)?;
        self.issue(&key, &upstream.subject, rights.texts())
    }

    fn issue(
        &self,
        key: &SigningKey,
        subject: &str,
        permissions: Box<[Box<str>]>,
    ) -> Result<ExchangeResponse, Failure> {
        // Whole seconds, so that what is said of its life is what it has.
        let issued = WallMs(wall().0 / 1_000 * 1_000);
        let claims = Claims {
            subject: format!("p:{subject}").into(),
            tenant: self.name.clone(),
            issued,
            expires: WallMs(issued.0.saturating_add(self.life_s * 1_000)),
            jti: Jti(random()?),
            permissions,
        };
        let token = key.issue(&self.realm, &claims).map_err(|error| {
            let failure = |code| Failure::new(StatusCode::FORBIDDEN, code, error.to_string());
            match error {
                IssueError::TooManyPermissions { permissions } => {
                    failure("too_many_permissions").with("permissions", permissions)
                }
                IssueError::TooLarge { bytes } => failure("token_too_large").with("bytes", bytes),
                IssueError::Lifetime => unavailable("bad_token_life", "a token would have no life"),
            }
        })?;
        Ok(ExchangeResponse {
            access_token: token,
            token_type: "Bearer",
            expires_in: self.life_s,
            permissions: claims.permissions.iter().map(ToString::to_string).collect(),
        })
    }
}

fn wanted(request: &ExchangeRequest) -> Result<Wanted, Failure> {
    let bounded = |field: &'static str, count: usize| {
        if (1..=WANTED_MAX).contains(&count) {
            return Ok(());
        }
        let message = format!("{field} has 1 to {WANTED_MAX} entries, or is left out");
        Err(Failure::bad("bad_request", message).with("field", field))
    };
    let mut wanted = Wanted::default();
    if let Some(words) = &request.requested {
        bounded("requested", words.len())?;
        let mut actions = Actions::NONE;
        for word in words {
            let pattern = ActionPattern::parse(word).ok_or_else(|| {
                Failure::bad("bad_action", "there is no such action").with("action", &**word)
            })?;
            actions = actions.and(Actions::of(pattern));
        }
        wanted.actions = Some(actions);
    }
    if let Some(texts) = &request.resources {
        bounded("resources", texts.len())?;
        let parse = |text: &String| {
            PolicyObject::parse(text).map_err(|error| {
                Failure::bad("bad_object", error.to_string()).with("object", &**text)
            })
        };
        wanted.objects = Some(texts.iter().map(parse).collect::<Result<_, _>>()?);
    }
    Ok(wanted)
}

fn all_of(wanted: &Wanted) -> bool {
    wanted.actions.is_none() && wanted.objects.is_none()
}

fn nothing_granted(all: bool) -> Failure {
    let message = if all {
        "no policy of the tenant allows you anything"
    } else {
        "no policy of the tenant allows you anything of what is asked for"
    };
    let mut failure = Failure::new(StatusCode::FORBIDDEN, "nothing_granted", message);
    failure.denied = Some(failure.status);
    failure
}

fn sealed(error: SealError) -> Failure {
    Failure::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "keys_sealed",
        format!("the tenant's keys do not open: {error}"),
    )
}

/// Refuses a subject that no token is of: to say that what it has is revoked would be taken
/// for the end of what it may do.
fn has_tokens(subject: &Subject) -> Result<(), Failure> {
    let instead = match subject.of() {
        SubjectOf::Principal(_) => return Ok(()),
        SubjectOf::Group(_) => {
            "no token is of a group: revoke those of who is in it, each by its p:, and delete the \
             policies and groupings of the group, so that nobody is given others for it"
        }
        SubjectOf::Role(_) => {
            "no token is of a role: revoke those of who has it, each by its p:, and delete the \
             policies of the role, or the groupings that give it"
        }
        SubjectOf::Workload(_) => {
            "a workload shows its certificate and no token: delete its policies and groupings, \
             and the API keys that speak for it, which ends what it may do at once"
        }
    };
    Err(Failure::bad("no_tokens", instead).with("subject", subject.as_str()))
}

/// A token, or all tokens that somebody has, count no more.
pub(crate) async fn revoke(call: Call) -> Reply {
    let body: RevokeRequest = call.body()?;
    let (what, at) = match &body {
        RevokeRequest {
            jti: Some(jti),
            expires: Some(expires),
            subject: None,
            issued_before: None,
        } => match jti.parse() {
            Ok(Revoked::Token(jti)) => (Revoked::Token(jti), moment("expires", expires)?),
            _ => {
                return Err(Failure::bad(
                    "bad_jti",
                    "the jti of a token is 32 hexadecimal digits in lower case",
                ));
            }
        },
        RevokeRequest {
            jti: None,
            expires: None,
            subject: Some(subject),
            issued_before,
        } => {
            let subject = Subject::parse(subject)
                .map_err(|error| Failure::bad("bad_subject", error.to_string()))?;
            has_tokens(&subject)?;
            let before = issued_before.as_deref();
            let before = before
                .map(|text| moment("issued_before", text))
                .transpose()?;
            // The metadata takes the present for any later moment.
            (
                Revoked::Subject(subject),
                before.unwrap_or(WallMs(u64::MAX)),
            )
        }
        _ => {
            return Err(Failure::bad(
                "bad_request",
                "either jti and expires, or subject and perhaps issued_before",
            ));
        }
    };
    let tenant = call.part("t").into();
    let command = Command::Revoke(Revoke { tenant, what, at });
    let written = call.write(Expect::Any, command).await?;
    Ok(written.mark(no_content()))
}

fn moment(field: &'static str, text: &str) -> Result<WallMs, Failure> {
    parse_time(text).ok_or_else(|| {
        Failure::bad("bad_time", format!("{field} is a time of RFC 3339")).with("field", field)
    })
}
