//! Tokens of identity providers: whose they are, for us, now.

use pinion_types::WallMs;
use serde_json::{Map, Value};

use crate::error::AuthError;
use crate::jose::{Algorithms, Jws};
use crate::jwk::KeySet;
use crate::lifetime::Lifetime;

/// Longest subject, and longest name of a group.
pub const SUBJECT_BYTES_MAX: usize = 256;

/// Most groups of one token. A caller in more of them gets a narrower claim from its
/// provider, or is refused: groups that are left out would silently take rights away.
pub const GROUPS_MAX: usize = 256;

/// What one tenant demands of the tokens of one issuer.
#[derive(Clone, Debug)]
pub struct IssuerRules {
    /// `iss`, compared byte by byte (RFC 7519 §4.1.1).
    pub issuer: Box<str>,
    /// Of these, `aud` must name at least one.
    pub audiences: Box<[Box<str>]>,
    /// What its tokens may be signed with.
    pub algorithms: Algorithms,
    /// The claim that says who it is: `sub`, if nothing else is configured.
    pub subject_claim: Box<str>,
    /// The claim that lists its groups, if groups are to count.
    pub groups_claim: Option<Box<str>>,
    /// By how much the issuer's clock may be off ours, in seconds.
    pub clock_skew_s: u16,
}

/// What a token must be besides that somebody logs in with: one that was made for us, for
/// this login (OpenID Connect Core 1.0 §3.1.3.7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginRules {
    /// What the issuer calls us. It must be in `aud`, as for every token it must be one of
    /// [`IssuerRules::audiences`].
    pub client: Box<str>,
    /// What was asked for with the login, and nobody else knows.
    pub nonce: Box<str>,
}

/// Whom an identity provider vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The subject claim: 1 to [`SUBJECT_BYTES_MAX`] bytes, nothing unprintable.
    pub subject: Box<str>,
    /// The groups claim, of the same form each, in the token's order.
    pub groups: Vec<Box<str>>,
    /// When the token ends.
    pub expires: WallMs,
}

/// Checks a token against the rules and keys of the issuer that it claims
/// ([`Jws::claimed_issuer`]), and those of the login that it is for, if it is for one.
///
/// # Errors
/// What is wrong first, in the order: algorithm, key, signature, issuer, audience, login,
/// times, subject and groups. Claims are looked at only after the signature.
pub fn check(
    token: Jws<'_>,
    rules: &IssuerRules,
    login: Option<&LoginRules>,
    keys: &KeySet,
    wall: WallMs,
) -> Result<Upstream, AuthError> {
    let claims = token.verify(rules.algorithms, keys)?.claims()?;
    if claims.get("iss").and_then(Value::as_str) != Some(&*rules.issuer) {
        return Err(AuthError::WrongIssuer);
    }
    if !for_us(&claims, &rules.audiences)? {
        return Err(AuthError::WrongAudience);
    }
    if let Some(login) = login {
        check_login(&claims, rules, login)?;
    }
    let expires = time(&claims, "exp")?.ok_or(malformed("exp is missing"))?;
    let lifetime = Lifetime {
        from: time(&claims, "nbf")?.max(time(&claims, "iat")?),
        expires,
    };
    lifetime.check(wall, u64::from(rules.clock_skew_s) * 1000)?;
    let subject = match claims.get(&*rules.subject_claim) {
        Some(Value::String(text)) => printable(text)?,
        _ => return Err(malformed("the subject claim is not text")),
    };
    let groups = match rules
        .groups_claim
        .as_deref()
        .and_then(|name| claims.get(name))
    {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(one)) => vec![printable(one)?],
        Some(Value::Array(all)) if all.len() <= GROUPS_MAX => {
            let names = all.iter().map(|one| match one {
                Value::String(name) => printable(name),
                _ => Err(malformed("a group is not text")),
            });
            names.collect::<Result<_, _>>()?
        }
        Some(_) => return Err(malformed("the groups claim is not a list of at most 256")),
    };
    Ok(Upstream {
        subject,
        groups,
        expires,
    })
}

/// Whether it was made for us, for this login.
fn check_login(
    claims: &Map<String, Value>,
    rules: &IssuerRules,
    login: &LoginRules,
) -> Result<(), AuthError> {
    if !for_us(claims, core::slice::from_ref(&login.client))? {
        return Err(AuthError::WrongAudience);
    }
    let ours = |one: &Value| rules.audiences.iter().any(|ours| one == &**ours);
    if let Some(Value::Array(all)) = claims.get("aud") {
        // Rule 3: no audience besides that is not trusted. Rule 4: of several, it says which
        // one it was made for.
        if !all.iter().all(ours) || (all.len() > 1 && !claims.contains_key("azp")) {
            return Err(AuthError::WrongAudience);
        }
    }
    // Rule 5.
    if claims.get("azp").is_some_and(|azp| azp != &*login.client) {
        return Err(AuthError::WrongAudience);
    }
    // Rule 11. Who could try nonces until one fits would have to sign them.
    if claims.get("nonce").and_then(Value::as_str) != Some(&*login.nonce) {
        return Err(AuthError::WrongNonce);
    }
    // §2: an ID token says when it was made.
    match claims.get("iat") {
        Some(_) => Ok(()),
        None => Err(malformed("iat is missing")),
    }
}

/// RFC 7519 §4.1.3: one text or a list of them.
fn for_us(claims: &Map<String, Value>, ours: &[Box<str>]) -> Result<bool, AuthError> {
    let ours = |text: &str| ours.iter().any(|one| **one == *text);
    match claims.get("aud") {
        Some(Value::String(one)) => Ok(ours(one)),
        Some(Value::Array(all)) => Ok(all.iter().filter_map(Value::as_str).any(ours)),
        _ => Err(malformed("aud is neither text nor a list")),
    }
}

/// A `NumericDate` (RFC 7519 §2): seconds, with a fraction if the issuer likes.
fn time(claims: &Map<String, Value>, name: &str) -> Result<Option<WallMs>, AuthError> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    let ms = match (value.as_u64(), value.as_f64()) {
        (Some(seconds), _) => seconds.saturating_mul(1000),
        // Saturates, and takes what is below zero for the epoch: long expired.
        #[expect(clippy::cast_possible_truncation, reason = "`as` saturates")]
        #[expect(clippy::cast_sign_loss, reason = "`as` saturates")]
        (None, Some(seconds)) => (seconds * 1000.0) as u64,
        (None, None) => return Err(malformed("a time is not a number")),
    };
    Ok(Some(WallMs(ms)))
}

/// It goes into logs, audit rows and policies: one line, nothing that hides.
fn printable(text: &str) -> Result<Box<str>, AuthError> {
    let fits = (1..=SUBJECT_BYTES_MAX).contains(&text.len());
    if fits && !text.chars().any(char::is_control) {
        Ok(text.into())
    } else {
        Err(malformed("a name is empty, too long or unprintable"))
    }
}

fn malformed(what: &'static str) -> AuthError {
    AuthError::Malformed { what }
}
