//! Identity providers that a tenant believes.

use axum::http::StatusCode;
use pinion_auth::provider::Url;
use pinion_metadata::command::{NamedIssuer, PutIssuer};
use pinion_metadata::identity::{Algorithm, Issuer as Rules, KeySource};
use pinion_metadata::{Body, Command, Object, ObjectKey, ObjectKind};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::page;
use crate::call::{Call, Reply, no_content, tagged};
use crate::error::Failure;
use crate::model::{Life, given};

/// By how much an issuer's clock may be off where nothing is said, in seconds.
const CLOCK_SKEW_S_DEFAULT: u16 = 30;

/// What an issuer signs with where nothing is said (OpenID Connect Core 1.0 §2).
const ALGORITHM_DEFAULT: Algorithm = Algorithm::Rs256;

/// Where OpenID Connect Discovery 1.0 §4 has the document of an issuer.
const DISCOVERY_PATH: &str = "/.well-known/openid-configuration";

/// An identity provider, to be believed or to be believed otherwise.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct IssuerInput {
    /// `iss` of its tokens, byte by byte.
    pub(crate) issuer: String,
    /// Of these, `aud` of a token names one; 1 to 16.
    pub(crate) audiences: Vec<String>,
    /// Where its discovery document is; the usual place below the issuer where neither this
    /// nor `jwks_url` is given. Not both.
    #[serde(default)]
    pub(crate) discovery_url: Option<String>,
    /// Where its keys are.
    #[serde(default)]
    pub(crate) jwks_url: Option<String>,
    /// What its tokens may be signed with: `RS256` where nothing is said. Never anything
    /// symmetric.
    #[serde(default, deserialize_with = "given")]
    pub(crate) algorithms: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) claim_mappings: ClaimMappings,
    /// By how much its clock may be off, at most 300; 30 where nothing is said.
    #[serde(default, deserialize_with = "given")]
    pub(crate) clock_skew_s: Option<u16>,
}

/// Which claims of a token say who somebody is.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ClaimMappings {
    pub(crate) subject_claim: String,
    pub(crate) groups_claim: Option<String>,
}

impl Default for ClaimMappings {
    fn default() -> Self {
        Self {
            subject_claim: "sub".into(),
            groups_claim: None,
        }
    }
}

/// An identity provider.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Issuer {
    pub(crate) issuer: String,
    pub(crate) audiences: Vec<String>,
    pub(crate) discovery_url: Option<String>,
    pub(crate) jwks_url: Option<String>,
    pub(crate) algorithms: Vec<&'static str>,
    pub(crate) claim_mappings: ClaimMappings,
    pub(crate) clock_skew_s: u16,
    #[serde(flatten)]
    pub(crate) life: Life,
}

pub(crate) async fn list(call: Call) -> Reply {
    let tenant = ObjectKey::tenant(call.part("t"));
    let listed = call.list(&[ObjectKind::Issuer], Some(tenant), |_| true);
    let listed = listed.await?;
    let rows = listed.items.iter().filter_map(|object| shown(object));
    let rows: Vec<Issuer> = rows.collect();
    page("idp_issuers", listed.read, rows, listed.next.as_ref())
}

pub(crate) async fn get(call: Call) -> Reply {
    let key = ObjectKey::issuer(call.part("t"), call.part("iss"));
    let (read, object) = call.get(key).await?;
    let issuer = shown(&object).ok_or_else(Failure::not_found)?;
    Ok(read.mark(tagged(StatusCode::OK, object.meta.version, &issuer)?))
}

/// Makes it, or makes it be like this.
pub(crate) async fn put(call: Call) -> Reply {
    let input: IssuerInput = call.body()?;
    let NamedIssuer { issuer, rules } = read(&input, call.api.identity.cleartext_issuers)?;
    let command = Command::PutIssuer(PutIssuer {
        tenant: call.part("t").into(),
        issuer,
        rules,
    });
    let written = call.write(call.expect(), command).await?;
    let object = written.object()?;
    let issuer = shown(object).ok_or_else(Failure::not_found)?;
    let reply = tagged(StatusCode::CREATED, object.meta.version, &issuer)?;
    Ok(written.mark(reply))
}

pub(crate) async fn delete(call: Call) -> Reply {
    let key = ObjectKey::issuer(call.part("t"), call.part("iss"));
    let written = call.write(call.expect(), Command::Remove(key)).await?;
    Ok(written.mark(no_content()))
}

/// The rules that a body asks for. Lengths are checked by the metadata.
pub(crate) fn read(input: &IssuerInput, cleartext: bool) -> Result<NamedIssuer, Failure> {
    let keys = match (&input.discovery_url, &input.jwks_url) {
        (Some(url), None) => KeySource::Discovery(url.as_str().into()),
        (None, Some(url)) => KeySource::Jwks(url.as_str().into()),
        (None, None) => {
            let issuer = input.issuer.trim_end_matches('/');
            KeySource::Discovery(format!("{issuer}{DISCOVERY_PATH}").into())
        }
        (Some(_), Some(_)) => {
            return Err(Failure::bad(
                "bad_issuer",
                "an issuer has a discovery_url or a jwks_url, not both",
            ));
        }
    };
    let bad_url = |why: String| {
        Failure::bad("bad_url", format!("{}: {why}", keys.url())).with("url", keys.url())
    };
    let url = Url::parse(keys.url()).map_err(|error| bad_url(error.to_string()))?;
    if !url.secure() && !cleartext {
        return Err(bad_url("expected https://".into()));
    }
    let mut algorithms = match &input.algorithms {
        None => vec![ALGORITHM_DEFAULT],
        Some(words) => {
            let parse = |word: &String| {
                let known = Algorithm::ALL.iter().find(|one| one.text() == word);
                known.copied().ok_or_else(|| {
                    let known: Vec<_> = Algorithm::ALL.iter().map(|one| one.text()).collect();
                    Failure::bad(
                        "bad_algorithm",
                        "there is no such algorithm, or it is symmetric",
                    )
                    .with("algorithm", word.as_str())
                    .with("known", known)
                })
            };
            words.iter().map(parse).collect::<Result<_, _>>()?
        }
    };
    algorithms.sort_unstable();
    algorithms.dedup();
    let claims = &input.claim_mappings;
    Ok(NamedIssuer {
        issuer: input.issuer.as_str().into(),
        rules: Rules {
            audiences: input
                .audiences
                .iter()
                .map(|one| one.as_str().into())
                .collect(),
            keys,
            algorithms: algorithms.into(),
            subject_claim: claims.subject_claim.as_str().into(),
            groups_claim: claims.groups_claim.as_deref().map(Into::into),
            clock_skew_s: input.clock_skew_s.unwrap_or(CLOCK_SKEW_S_DEFAULT),
        },
    })
}

fn shown(object: &Object) -> Option<Issuer> {
    let (ObjectKey::Issuer { issuer, .. }, Body::Issuer(rules)) = (&object.meta.key, &object.body)
    else {
        return None;
    };
    let (discovery_url, jwks_url) = match &rules.keys {
        KeySource::Discovery(url) => (Some(url.to_string()), None),
        KeySource::Jwks(url) => (None, Some(url.to_string())),
    };
    Some(Issuer {
        issuer: issuer.to_string(),
        audiences: rules.audiences.iter().map(ToString::to_string).collect(),
        discovery_url,
        jwks_url,
        algorithms: rules.algorithms.iter().map(|one| one.text()).collect(),
        claim_mappings: ClaimMappings {
            subject_claim: rules.subject_claim.to_string(),
            groups_claim: rules.groups_claim.as_deref().map(Into::into),
        },
        clock_skew_s: rules.clock_skew_s,
        life: Life::from(&object.meta),
    })
}
