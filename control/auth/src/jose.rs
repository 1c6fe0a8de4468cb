//! Signed tokens of others: compact JWS (RFC 7515 §7.1) with a pinned set of algorithms.
//!
//! What a token says about itself is not believed before its signature is checked, and the
//! types keep that order: [`Jws`] gives out its claims only after the check.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::error::AuthError;
use crate::json;
use crate::jwk::KeySet;

/// Longest token of an identity provider. Those with hundreds of groups reach 8 KiB.
pub const UPSTREAM_BYTES_MAX: usize = 16 * 1024;

/// Longest JOSE header, decoded. It holds an algorithm, a type and the name of a key.
pub const HEADER_BYTES_MAX: usize = 512;

/// Longest name of a key.
pub const KID_BYTES_MAX: usize = 256;

/// Longest signature: that of the largest RSA key we take.
pub const SIGNATURE_BYTES_MAX: usize = crate::jwk::RSA_BYTES_MAX;

/// A signature algorithm (RFC 7518 §3.1, RFC 8037 §3.1). `none` and the symmetric ones have
/// no variant, so nothing can be configured or spoofed into accepting them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519. (RFC 8037 also puts Ed448 under this name; we do not have it.)
    EdDsa,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 9] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
    ];

    /// Its name in `alg`.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The algorithm of that name. Names are case-sensitive (RFC 7515 §4.1.1).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.text() == text)
    }
}

/// A set of [`Algorithm`]s, as an issuer is pinned to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Algorithms(u16);

impl Algorithms {
    /// Whether `one` is among them.
    #[must_use]
    pub const fn contain(self, one: Algorithm) -> bool {
        self.0 & (1 << one as u16) != 0
    }
}

impl FromIterator<Algorithm> for Algorithms {
    fn from_iter<I: IntoIterator<Item = Algorithm>>(all: I) -> Self {
        Self(all.into_iter().fold(0, |set, one| set | 1 << one as u16))
    }
}

/// A token in its three parts; nothing of it has been checked yet.
#[derive(Debug)]
pub struct Jws<'a> {
    /// Header and payload as they were signed, with the dot between them.
    signed: &'a [u8],
    algorithm: Algorithm,
    kid: Option<Box<str>>,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

/// A payload whose signature was checked. Only [`Jws::verify`] makes one.
#[derive(Debug)]
pub(crate) struct Verified(Vec<u8>);

impl Verified {
    /// The claims.
    ///
    /// # Errors
    /// [`AuthError::Malformed`] when they are not one JSON object with unique members.
    pub(crate) fn claims(&self) -> Result<Map<String, Value>, AuthError> {
        claims(&self.0)
    }
}

fn claims(payload: &[u8]) -> Result<Map<String, Value>, AuthError> {
    json::object(payload).map_err(|_| malformed("the claims are not an object of unique members"))
}

impl<'a> Jws<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// [`AuthError::TooLarge`] before anything is read; [`AuthError::WrongAlgorithm`] for
    /// `none`, symmetric and unknown algorithms; [`AuthError::Malformed`] for everything else.
    pub fn parse(token: &'a [u8]) -> Result<Self, AuthError> {
        if token.len() > UPSTREAM_BYTES_MAX {
            return Err(AuthError::TooLarge {
                limit: UPSTREAM_BYTES_MAX,
            });
        }
        let (signed, signature) = split_last(token)?;
        let (header, payload) = split_last(signed)?;
        let header = decode(header, HEADER_BYTES_MAX)?;
        let (algorithm, kid) = read_header(&header)?;
        Ok(Self {
            signed,
            algorithm,
            kid,
            payload: decode(payload, UPSTREAM_BYTES_MAX)?,
            signature: decode(signature, SIGNATURE_BYTES_MAX)?,
        })
    }

    /// The algorithm that the token names.
    pub(crate) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The issuer that the token names, **before its signature was checked**: good for
    /// choosing whose rules and keys to check it with, and for nothing else.
    ///
    /// # Errors
    /// [`AuthError::Malformed`] when the claims are no object, or `iss` is no text.
    pub fn claimed_issuer(&self) -> Result<Box<str>, AuthError> {
        match claims(&self.payload)?.remove("iss") {
            Some(Value::String(issuer)) => Ok(issuer.into()),
            _ => Err(malformed("iss is not text")),
        }
    }

    /// The key that the token names, unchecked like [`Jws::claimed_issuer`]: for asking
    /// the issuer for keys again when it is not among those known.
    #[must_use]
    pub fn claimed_kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// Checks the signature.
    ///
    /// # Errors
    /// [`AuthError::WrongAlgorithm`] when the algorithm is not among `pinned` or does not
    /// belong to the key; [`AuthError::UnknownKey`]; [`AuthError::BadSignature`].
    pub(crate) fn verify(self, pinned: Algorithms, keys: &KeySet) -> Result<Verified, AuthError> {
        if !pinned.contain(self.algorithm) {
            return Err(AuthError::WrongAlgorithm);
        }
        keys.find(self.kid.as_deref(), self.algorithm)?.verify(
            self.algorithm,
            self.signed,
            &self.signature,
        )?;
        Ok(Verified(self.payload))
    }
}

/// What is before the last dot, and after it.
fn split_last(text: &[u8]) -> Result<(&[u8], &[u8]), AuthError> {
    let dot = text.iter().rposition(|&byte| byte == b'.');
    let dot = dot.ok_or(malformed("a compact JWS has three parts"))?;
    Ok((&text[..dot], &text[dot + 1..]))
}

/// Unpadded base64url (RFC 7515 §2) of at most `limit` bytes. Padding, other alphabets and
/// bits after the last whole byte are refused: one encoding for one token.
fn decode(text: &[u8], limit: usize) -> Result<Vec<u8>, AuthError> {
    // Compared before anything is allocated for it.
    if text.len() > base64::encoded_len(limit, false).expect("limits are small") {
        return Err(AuthError::TooLarge { limit });
    }
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| malformed("a part is not base64url"))
}

/// Parameters that bring or fetch a key, or demand an understanding that we do not have
/// (RFC 7515 §4.1). A key is found by its name among those of a configured issuer only.
const REFUSED_PARAMETERS: [&str; 6] = ["crit", "jku", "jwk", "x5c", "x5u", "b64"];

/// Types of token that speak for somebody (RFC 7519 §5.1, RFC 9068 §2.1), without the
/// `application/` that may be left out. A logout or DPoP token of the same issuer does not
/// (RFC 8725 §3.11).
const TYPES: [&str; 2] = ["jwt", "at+jwt"];

fn read_header(bytes: &[u8]) -> Result<(Algorithm, Option<Box<str>>), AuthError> {
    let header = json::object(bytes)
        .map_err(|_| malformed("the header is not an object of unique members"))?;
    if REFUSED_PARAMETERS
        .iter()
        .any(|name| header.contains_key(*name))
    {
        return Err(malformed("the header carries or demands what is refused"));
    }
    match header.get("typ") {
        None => {}
        Some(Value::String(text)) if is_token_type(text) => {}
        Some(_) => return Err(malformed("typ is not that of an access or identity token")),
    }
    let algorithm = match header.get("alg") {
        Some(Value::String(text)) => Algorithm::parse(text).ok_or(AuthError::WrongAlgorithm)?,
        _ => return Err(malformed("alg is not text")),
    };
    let kid = match header.get("kid") {
        None => None,
        Some(Value::String(kid)) if kid.len() <= KID_BYTES_MAX => Some(kid.as_str().into()),
        Some(_) => return Err(malformed("kid is not text of at most 256 bytes")),
    };
    Ok((algorithm, kid))
}

fn is_token_type(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    TYPES.contains(&text.strip_prefix("application/").unwrap_or(&text))
}

fn malformed(what: &'static str) -> AuthError {
    AuthError::Malformed { what }
}
