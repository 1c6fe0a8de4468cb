//! Logging in with an identity provider: the authorization code flow (RFC 6749 §4.1, OpenID
//! Connect Core 1.0 §3.1) with proof of possession of the code (RFC 7636), as far as it needs
//! neither a browser nor a socket.
//!
//! A browser is sent to [`Client::authorization_url`] and comes back with what [`returned`]
//! reads. The code in it is sent with a [`TokenRequest`], and of the answer [`id_token`] takes
//! the token, which is nothing until [`crate::exchange`] has checked it with
//! [`crate::upstream::LoginRules`]. That it is the same browser is for whoever keeps cookies.

use core::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::json;
use crate::provider::{Endpoints, Url};

/// Longest name of a client in bytes.
pub const CLIENT_ID_BYTES_MAX: usize = 256;
/// Longest secret of a client in bytes.
pub const CLIENT_SECRET_BYTES_MAX: usize = 1_024;

/// Most scopes that are asked for.
pub const SCOPES_MAX: usize = 16;
/// Longest scope in bytes.
pub const SCOPE_BYTES_MAX: usize = 128;

/// Longest code in bytes. Those of large providers have some 2,000.
pub const CODE_BYTES_MAX: usize = 4_096;

/// Longest answer to a code in bytes: three tokens, of which one is looked at.
pub const TOKEN_ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Most characters of what a provider says of a refusal that are shown.
pub const SAID_CHARS_MAX: usize = 200;

/// What a provider knows us by.
#[derive(Clone, PartialEq, Eq)]
pub struct Client {
    id: Box<str>,
    secret: Option<Box<str>>,
    /// With spaces between them.
    scope: Box<str>,
    redirect: Url,
}

/// Without the secret.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({}, {})", self.id, self.redirect)
    }
}

/// Why nobody can log in as it is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// Of RFC 6749 §A.1, and bounded.
    #[error("the client's id is 1 to {CLIENT_ID_BYTES_MAX} printable ASCII characters")]
    Id,
    /// Of RFC 6749 §A.2, and bounded. It is not told.
    #[error("the client's secret is 1 to {CLIENT_SECRET_BYTES_MAX} printable ASCII characters")]
    Secret,
    /// Of RFC 6749 §3.3, and bounded.
    #[error(
        "a scope is 1 to {SCOPE_BYTES_MAX} ASCII characters without space, quote and backslash, and there are at most {SCOPES_MAX}"
    )]
    Scope,
    /// OpenID Connect Core 1.0 §3.1.2.1: without it there is no ID token.
    #[error("the scope openid is missing")]
    NotOpenId,
}

impl Client {
    /// The client of that id, to whom browsers come back at `redirect`. A client without a
    /// secret is a public one (RFC 6749 §2.1): what its codes are worth is then up to the proof
    /// of possession alone.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn new(
        id: &str,
        secret: Option<&str>,
        scopes: &[impl AsRef<str>],
        redirect: Url,
    ) -> Result<Self, ClientError> {
        let printable = |text: &str, limit: usize| {
            (1..=limit).contains(&text.len())
                && text.bytes().all(|byte| matches!(byte, 0x20..=0x7e))
        };
        if !printable(id, CLIENT_ID_BYTES_MAX) {
            return Err(ClientError::Id);
        }
        if secret.is_some_and(|secret| !printable(secret, CLIENT_SECRET_BYTES_MAX)) {
            return Err(ClientError::Secret);
        }
        let is_scope = |scope: &str| {
            (1..=SCOPE_BYTES_MAX).contains(&scope.len())
                && scope
                    .bytes()
                    .all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
        };
        let scopes: Vec<&str> = scopes.iter().map(AsRef::as_ref).collect();
        if scopes.len() > SCOPES_MAX || !scopes.iter().all(|scope| is_scope(scope)) {
            return Err(ClientError::Scope);
        }
        if !scopes.contains(&"openid") {
            return Err(ClientError::NotOpenId);
        }
        Ok(Self {
            id: id.into(),
            secret: secret.map(Into::into),
            scope: scopes.join(" ").into(),
            redirect,
        })
    }

    /// What the provider calls us.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where a browser is sent that is to log in (OpenID Connect Core 1.0 §3.1.2.1). It comes
    /// back with `state`, the token of it has `nonce`, and its code is of use with the
    /// `verifier` alone.
    #[must_use]
    pub fn authorization_url(
        &self,
        endpoints: &Endpoints,
        state: &str,
        nonce: &str,
        verifier: &str,
    ) -> String {
        // RFC 7636 §4.2.
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier));
        let query = form(&[
            ("response_type", "code"),
            ("client_id", &self.id),
            ("redirect_uri", self.redirect.text()),
            ("scope", &self.scope),
            ("state", state),
            ("nonce", nonce),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ]);
        let url = endpoints.authorization.text();
        // A query that it has is kept (RFC 6749 §3.1).
        let mark = if url.contains('?') { '&' } else { '?' };
        format!("{url}{mark}{query}")
    }

    /// What is sent to [`Endpoints::token`] for a code.
    #[must_use]
    pub fn token_request(&self, code: &str, verifier: &str) -> TokenRequest {
        let mut pairs = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", self.redirect.text()),
            ("code_verifier", verifier),
        ];
        // RFC 6749 §2.3.1: each half is encoded as in a form before they are joined.
        let basic = |secret: &str| {
            let pair = format!("{}:{}", encoded(&self.id), encoded(secret));
            format!("Basic {}", STANDARD.encode(pair)).into()
        };
        let authorization = self.secret.as_deref().map(basic);
        if authorization.is_none() {
            // §4.1.3: who does not prove who it is says it.
            pairs.push(("client_id", &self.id));
        }
        TokenRequest {
            body: form(&pairs),
            authorization,
        }
    }
}

/// A POST of a form, whose answer has at most [`TOKEN_ANSWER_BYTES_MAX`].
#[derive(Clone, PartialEq, Eq)]
pub struct TokenRequest {
    /// `application/x-www-form-urlencoded`
    pub body: String,
    /// Of the header of that name, which is to be kept from logs.
    pub authorization: Option<Box<str>>,
}

/// Without what is in it.
impl fmt::Debug for TokenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenRequest(..)")
    }
}

/// What a browser brought along, besides the state that was checked; empty is not there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Brought<'a> {
    /// `code`
    pub code: &'a str,
    /// `iss` (RFC 9207)
    pub issuer: &'a str,
    /// `error`
    pub error: &'a str,
    /// `error_description`
    pub description: &'a str,
}

/// Why what came back lets nobody in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotLoggedIn {
    /// It is of another provider than the one that was asked, which may want our code for
    /// that one (RFC 9207 §4).
    #[error("the answer is another issuer's")]
    OtherIssuer,
    /// The provider let nobody in. What it says of that is text of a stranger.
    #[error("the provider said: {said}")]
    Refused {
        /// At most [`SAID_CHARS_MAX`] characters without control characters.
        said: Box<str>,
    },
    /// There is neither a code nor an error, or the code is longer than [`CODE_BYTES_MAX`].
    #[error("the answer has no code")]
    NoCode,
    /// What came for the code is no answer of a token endpoint.
    #[error("the token endpoint's answer: {what}")]
    Answer {
        /// The rule that it breaks.
        what: &'static str,
    },
}

/// The code that a browser brought along from the provider that it was sent to.
///
/// # Errors
/// See [`NotLoggedIn`]; never `Answer`.
pub fn returned<'a>(
    issuer: &str,
    endpoints: &Endpoints,
    brought: Brought<'a>,
) -> Result<&'a str, NotLoggedIn> {
    // Also of an error: whose it is counts before what it says (RFC 9207 §2.4).
    let named = !brought.issuer.is_empty();
    if (named && brought.issuer != issuer) || (!named && endpoints.names_itself) {
        return Err(NotLoggedIn::OtherIssuer);
    }
    if !brought.error.is_empty() {
        let mut said = brought.error.to_owned();
        if !brought.description.is_empty() {
            said = format!("{said}: {}", brought.description);
        }
        let shown = said.chars().take(SAID_CHARS_MAX);
        let shown = shown.map(|one| if one.is_control() { ' ' } else { one });
        return Err(NotLoggedIn::Refused {
            said: shown.collect::<String>().into(),
        });
    }
    if (1..=CODE_BYTES_MAX).contains(&brought.code.len()) {
        Ok(brought.code)
    } else {
        Err(NotLoggedIn::NoCode)
    }
}

/// The ID token in the answer to a code (OpenID Connect Core 1.0 §3.1.3.3), unchecked.
///
/// # Errors
/// [`NotLoggedIn::Answer`].
pub fn id_token(answer: &[u8]) -> Result<Box<str>, NotLoggedIn> {
    let bad = |what| NotLoggedIn::Answer { what };
    if answer.len() > TOKEN_ANSWER_BYTES_MAX {
        return Err(bad("longer than 64 KiB"));
    }
    let answer = json::object(answer).map_err(|_| bad("not a JSON object with unique members"))?;
    match answer.get("token_type").and_then(Value::as_str) {
        Some(kind) if kind.eq_ignore_ascii_case("bearer") => {}
        _ => return Err(bad("token_type is not Bearer")),
    }
    match answer.get("id_token") {
        Some(Value::String(token)) => Ok(token.as_str().into()),
        _ => Err(bad("id_token is not text")),
    }
}

/// `application/x-www-form-urlencoded`, with a space as `%20`, which every reader takes.
fn form(pairs: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = pairs
        .iter()
        .map(|(name, value)| format!("{name}={}", encoded(value)))
        .collect();
    pairs.join("&")
}

/// All but what is unreserved (RFC 3986 §2.3).
fn encoded(text: &str) -> String {
    use fmt::Write as _;
    text.bytes().fold(String::new(), |mut all, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                all.push(byte.into());
            }
            _ => write!(all, "%{byte:02X}").expect("writing to a String cannot fail"),
        }
        all
    })
}
