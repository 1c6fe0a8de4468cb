//! Who is believed, and for how long: identity providers, API keys, the keys that
//! sign a tenant's tokens, and what was revoked.
//!
//! Nothing secret is here: of an API key its digest, of a signing key its private
//! half sealed by a key that the metadata does not have.

use core::fmt;
use core::str::FromStr;

use pinion_types::WallMs;

use crate::error::MetaError;
use crate::limits::{
    API_KEY_NAME_BYTES_MAX, AUDIENCE_BYTES_MAX, AUDIENCES_MAX, CLAIM_BYTES_MAX, CLOCK_SKEW_S_MAX,
    GRACE_MS_MAX, RETIRED_KEPT_MS, URL_BYTES_MAX,
};
use crate::name;
use crate::subject::{Subject, SubjectError};

/// An identity provider that a tenant believes; its `iss` is in its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// Of these, a token's `aud` names one; 1 to [`AUDIENCES_MAX`] of at most
    /// [`AUDIENCE_BYTES_MAX`] bytes.
    pub audiences: Box<[Box<str>]>,
    /// Where its keys are.
    pub keys: KeySource,
    /// What its tokens are signed with: at least one, in order, each once.
    pub algorithms: Box<[Algorithm]>,
    /// The claim that says who it is; 1 to [`CLAIM_BYTES_MAX`] bytes.
    pub subject_claim: Box<str>,
    /// The claim that lists groups, if groups count; 1 to [`CLAIM_BYTES_MAX`] bytes.
    pub groups_claim: Option<Box<str>>,
    /// By how much its clock may be off, in seconds; at most [`CLOCK_SKEW_S_MAX`].
    pub clock_skew_s: u16,
}

/// Where the keys of an identity provider are. Either is an `https` or `http`
/// address of at most [`URL_BYTES_MAX`] bytes; whether `http` is good enough is
/// for the proposer to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// In the document that its discovery document names.
    Discovery(Box<str>),
    /// In the document of this address.
    Jwks(Box<str>),
}

impl KeySource {
    /// The address.
    #[must_use]
    pub fn url(&self) -> &str {
        match self {
            Self::Discovery(url) | Self::Jwks(url) => url,
        }
    }
}

macro_rules! algorithms {
    ($($name:ident = $number:literal $text:literal,)*) => {
        /// What a token may be signed with (RFC 7518 §3.1, RFC 8037 §3.1). Nothing
        /// symmetric: who checks could sign.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Algorithm {
            $(#[doc = concat!("`", $text, "`")] $name = $number,)*
        }

        impl Algorithm {
            /// Every algorithm.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its word in tokens.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            pub(crate) const fn from_u8(byte: u8) -> Option<Self> {
                match byte { $($number => Some(Self::$name),)* _ => None }
            }
        }
    };
}

algorithms! {
    Rs256 = 1 "RS256",
    Rs384 = 2 "RS384",
    Rs512 = 3 "RS512",
    Ps256 = 4 "PS256",
    Ps384 = 5 "PS384",
    Ps512 = 6 "PS512",
    Es256 = 7 "ES256",
    Es384 = 8 "ES384",
    EdDsa = 9 "EdDSA",
}

/// A key for a machine that has no identity provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// For people; 1 to [`API_KEY_NAME_BYTES_MAX`] bytes.
    pub name: Box<str>,
    /// Hexadecimal digits that people tell keys apart by.
    pub prefix: [u8; 8],
    /// SHA-256 of the key.
    pub digest: [u8; 32],
    /// For whom it speaks.
    pub subject: Subject,
    /// From when on it counts no more.
    pub expires: Option<WallMs>,
}

/// What signs a tenant's tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKeys {
    /// Signs.
    pub current: StoredKey,
    /// Signs after the next rotation, and is published already.
    pub next: StoredKey,
    /// Signed before the last rotation.
    pub previous: Option<RetiredKey>,
    /// Milliseconds from one rotation to the next; 0 is never.
    pub rotate_every_ms: u64,
    /// When the present key began to sign.
    pub rotated: WallMs,
}

/// An Ed25519 key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredKey {
    /// Its public half.
    pub public: [u8; 32],
    /// Its private half, sealed.
    pub sealed: [u8; 68],
}

/// A key that signs no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetiredKey {
    /// Which.
    pub key: StoredKey,
    /// The first moment at which the last token that it signed is over.
    pub until: WallMs,
}

/// The keys that a tenant begins with, made by the proposer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKeys {
    /// Signs.
    pub current: StoredKey,
    /// Signs after the first rotation.
    pub next: StoredKey,
    /// Milliseconds from one rotation to the next; 0 is never, and otherwise at
    /// least [`RETIRED_KEPT_MS`], so that every key but two has signed nothing
    /// that still counts.
    pub rotate_every_ms: u64,
}

/// What counts no more.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Revoked {
    /// The token of this `jti`.
    Token([u8; 16]),
    /// The tokens that somebody has.
    Subject(Subject),
}

/// That something counts no more; what, is in its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Of a subject: tokens that were issued before.
    pub issued_before: Option<WallMs>,
    /// From when on every token that it is about is over anyway.
    pub until: WallMs,
}

/// That a tenant was initialised. It stays when the tenant is gone: who has the
/// secret of the first day does not have it twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bootstrap {
    /// When.
    pub done: WallMs,
}

/// Why a text says nothing that can be revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RevokedError {
    /// Neither 32 hexadecimal digits nor `sub:`.
    #[error("neither 32 hexadecimal digits in lower case nor sub:")]
    Token,
    /// What follows `sub:` is no subject.
    #[error("{0}")]
    Subject(#[from] SubjectError),
}

/// 32 hexadecimal digits, or `sub:` and the subject.
impl fmt::Display for Revoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(jti) => jti.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
            Self::Subject(subject) => write!(f, "sub:{subject}"),
        }
    }
}

impl FromStr for Revoked {
    type Err = RevokedError;

    fn from_str(text: &str) -> Result<Self, RevokedError> {
        if let Some(subject) = text.strip_prefix("sub:") {
            return Ok(Self::Subject(Subject::parse(subject)?));
        }
        let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 32 || !text.bytes().all(digit) {
            return Err(RevokedError::Token);
        }
        let number = u128::from_str_radix(text, 16).map_err(|_| RevokedError::Token)?;
        Ok(Self::Token(number.to_be_bytes()))
    }
}

impl Issuer {
    pub(crate) fn check(&self) -> Result<(), MetaError> {
        let count = self.audiences.len() as u64;
        name::range("audiences", count, 1, AUDIENCES_MAX as u64)?;
        for audience in &self.audiences {
            name::text_of("audience", audience, 1, AUDIENCE_BYTES_MAX)?;
        }
        let url = self.keys.url();
        if url.len() > URL_BYTES_MAX || !name::is_url(url) {
            return Err(MetaError::BadUrl { url: url.into() });
        }
        let in_order = self.algorithms.is_sorted_by(|a, b| a < b);
        if self.algorithms.is_empty() || !in_order {
            return Err(MetaError::BadAlgorithms);
        }
        name::text_of("subject claim", &self.subject_claim, 1, CLAIM_BYTES_MAX)?;
        if let Some(claim) = &self.groups_claim {
            name::text_of("groups claim", claim, 1, CLAIM_BYTES_MAX)?;
        }
        let most = CLOCK_SKEW_S_MAX.into();
        name::range("clock_skew_s", self.clock_skew_s.into(), 0, most)
    }
}

impl ApiKey {
    pub(crate) fn check(&self) -> Result<(), MetaError> {
        name::text_of("name", &self.name, 1, API_KEY_NAME_BYTES_MAX)?;
        match self
            .prefix
            .iter()
            .position(|byte| !byte.is_ascii_hexdigit())
        {
            Some(position) => Err(MetaError::BadText {
                field: "prefix",
                position,
            }),
            None => Ok(()),
        }
    }
}

/// Refused when keys would change sooner than their tokens are over.
pub(crate) fn check_rotation(every_ms: u64) -> Result<(), MetaError> {
    if every_ms == 0 {
        return Ok(());
    }
    name::range("rotate_every_ms", every_ms, RETIRED_KEPT_MS, GRACE_MS_MAX)
}

impl SigningKeys {
    /// The keys that a tenant begins with.
    pub(crate) fn new(keys: &NewKeys, stamp: WallMs) -> Self {
        Self {
            current: keys.current,
            next: keys.next,
            previous: None,
            rotate_every_ms: keys.rotate_every_ms,
            rotated: stamp,
        }
    }

    /// When they are to be rotated.
    pub(crate) fn due(&self) -> Option<WallMs> {
        let every = self.rotate_every_ms;
        (every != 0).then(|| WallMs(self.rotated.0.saturating_add(every)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_revoked_has_a_text() {
        for text in [
            "000102030405060708090a0b0c0d0e0f",
            "sub:p:ana@example.com",
            "sub:spiffe://x/ns/a/sa/b",
        ] {
            let what: Revoked = text
                .parse()
                .unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(what.to_string(), text);
        }
        for text in [
            "",
            "00",
            "000102030405060708090A0B0C0D0E0F",
            "+00102030405060708090a0b0c0d0e0f",
        ] {
            assert_eq!(text.parse::<Revoked>(), Err(RevokedError::Token), "{text}");
        }
        let none = RevokedError::Subject(SubjectError::Prefix);
        assert_eq!("sub:ana".parse::<Revoked>(), Err(none));
    }

    #[test]
    fn algorithms_have_their_words() {
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::from_u8(*algorithm as u8), Some(*algorithm));
            assert!(!algorithm.text().starts_with("HS") && algorithm.text() != "none");
        }
        assert_eq!(Algorithm::from_u8(0), None);
        assert_eq!(Algorithm::from_u8(10), None);
    }
}
