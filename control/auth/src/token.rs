//! Pinion's own tokens: what a client shows on a data connection after its identity provider
//! was asked once.
//!
//! They are JWTs, so that any library reads them, of one exact form, so that nothing but
//! base64 is decoded before the signature is checked.

use core::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pinion_types::WallMs;
use ring::signature::{ED25519, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::AuthError;
use crate::hex;
use crate::lifetime::Lifetime;

/// Longest token: what a HELLO can carry.
pub const TOKEN_BYTES_MAX: usize = pinion_types::limits::TOKEN_BYTES_MAX as usize;

/// Most permissions of one token. Each costs a comparison at each OPEN, and all of them
/// must fit [`TOKEN_BYTES_MAX`]; who needs more asks for fewer resources at a time.
pub const PERMISSIONS_MAX: usize = 64;

/// Longest life of a token, in seconds. A retired key is kept for that long.
pub const LIFE_S_MAX: u64 = 3600;

/// Life of a token when nothing else is configured, in seconds.
pub const LIFE_S_DEFAULT: u64 = 900;

/// By how much two nodes' clocks may differ before one refuses what the other has just
/// issued, in milliseconds.
pub const SKEW_MS: u64 = 30_000;

/// Longest subject of a token: the longest SPIFFE id that is taken.
pub const TOKEN_SUBJECT_BYTES_MAX: usize = 512;

const HEADER_BEFORE_KID: &str = r#"{"alg":"EdDSA","typ":"JWT","kid":""#;
const HEADER_AFTER_KID: &str = r#""}"#;

/// Bytes of the header, encoded.
const HEADER_TEXT_BYTES: usize = 91;

/// Bytes of the signature, encoded.
const SIGNATURE_TEXT_BYTES: usize = 86;

/// How each of our tokens begins: the header up to some byte of it before the kid, encoded.
/// No static token and no API key does.
const BEGINNING: &[u8] = b"eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCIsImtpZCI6";

/// Name of a signing key: the first half of the SHA-256 of its public key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kid(pub [u8; 16]);

impl Kid {
    /// The name of that key.
    #[must_use]
    pub fn of(public: &[u8; 32]) -> Self {
        let digest: [u8; 32] = Sha256::digest(public).into();
        let mut half = [0; 16];
        half.copy_from_slice(&digest[..16]);
        Self(half)
    }
}

/// Number of one token, drawn at random by whoever issues it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Jti(pub [u8; 16]);

macro_rules! as_hex {
    ($type:ty) => {
        /// 32 hexadecimal digits in lower case.
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(&self.0))
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($type))
            }
        }
    };
}

as_hex!(Kid);
as_hex!(Jti);

/// Who issues a cluster's tokens and for whom: the cluster itself, under the name
/// `pinion/` and its id in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Realm(Box<str>);

impl Realm {
    /// The realm of the cluster with that id.
    #[must_use]
    pub fn of(cluster: &[u8; 16]) -> Self {
        Self(format!("pinion/{}", hex::encode(cluster)).into())
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// For whom it speaks, such as `p:ana`.
    pub subject: Box<str>,
    /// Name of the tenant it is valid in.
    pub tenant: Box<str>,
    /// When it was issued, in whole seconds.
    pub issued: WallMs,
    /// The first moment at which it is over, in whole seconds.
    pub expires: WallMs,
    /// Its own number.
    pub jti: Jti,
    /// What may be done with it, each `action:object`.
    pub permissions: Box<[Box<str>]>,
}

/// The claims as they are written, in this order.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    iss: Box<str>,
    aud: Box<str>,
    sub: Box<str>,
    tid: Box<str>,
    iat: u64,
    exp: u64,
    jti: Box<str>,
    perms: Box<[Box<str>]>,
}

/// Header and payload of a token as they are signed, with the dot between them.
pub(crate) fn signed_part(kid: Kid, realm: &Realm, claims: &Claims) -> String {
    let written = Written {
        iss: realm.name().into(),
        aud: realm.name().into(),
        sub: claims.subject.clone(),
        tid: claims.tenant.clone(),
        iat: claims.issued.0 / 1000,
        exp: claims.expires.0 / 1000,
        jti: claims.jti.to_string().into(),
        perms: claims.permissions.clone(),
    };
    let payload = serde_json::to_vec(&written).expect("text, numbers and lists are JSON");
    let mut text = String::new();
    let header = format!("{HEADER_BEFORE_KID}{kid}{HEADER_AFTER_KID}");
    URL_SAFE_NO_PAD.encode_string(header, &mut text);
    text.push('.');
    URL_SAFE_NO_PAD.encode_string(payload, &mut text);
    text
}

/// A token that somebody showed; nothing of it is checked yet.
#[derive(Debug)]
pub struct Shown<'a> {
    signed: &'a [u8],
    kid: Kid,
    payload: &'a [u8],
    signature: [u8; 64],
}

impl<'a> Shown<'a> {
    /// Whether these bytes can only be meant as one of our tokens.
    #[must_use]
    pub fn recognise(bytes: &[u8]) -> bool {
        bytes.starts_with(BEGINNING)
    }

    /// Takes a token apart.
    ///
    /// # Errors
    /// [`AuthError::TooLarge`], [`AuthError::Malformed`].
    pub fn parse(token: &'a [u8]) -> Result<Self, AuthError> {
        const NOT_OURS: AuthError = AuthError::Malformed {
            what: "not a token of the one form that is issued here",
        };
        if token.len() > TOKEN_BYTES_MAX {
            return Err(AuthError::TooLarge {
                limit: TOKEN_BYTES_MAX,
            });
        }
        let end = token.len().checked_sub(SIGNATURE_TEXT_BYTES + 1);
        let end = end.filter(|end| *end > HEADER_TEXT_BYTES).ok_or(NOT_OURS)?;
        if token[HEADER_TEXT_BYTES] != b'.' || token[end] != b'.' {
            return Err(NOT_OURS);
        }
        let header = URL_SAFE_NO_PAD.decode(&token[..HEADER_TEXT_BYTES]);
        let header = header.map_err(|_| NOT_OURS)?;
        let kid = header
            .strip_prefix(HEADER_BEFORE_KID.as_bytes())
            .and_then(|rest| rest.strip_suffix(HEADER_AFTER_KID.as_bytes()))
            .and_then(hex::decode)
            .ok_or(NOT_OURS)?;
        let mut signature = [0; 64];
        let length = URL_SAFE_NO_PAD.decode_slice(&token[end + 1..], &mut signature);
        if length != Ok(signature.len()) {
            return Err(NOT_OURS);
        }
        Ok(Self {
            signed: &token[..end],
            kid: Kid(kid),
            payload: &token[HEADER_TEXT_BYTES + 1..end],
            signature,
        })
    }

    /// The key that it says it is signed with: for finding that key.
    #[must_use]
    pub fn kid(&self) -> Kid {
        self.kid
    }

    /// Checks everything that can be known from the token, the key and the time. What is
    /// left is whether the key is the tenant's, and whether the token was revoked.
    ///
    /// # Errors
    /// What is wrong first, in the order: signature, form of the claims, issuer, audience,
    /// times.
    pub fn verify(
        &self,
        public: &[u8; 32],
        realm: &Realm,
        wall: WallMs,
    ) -> Result<Claims, AuthError> {
        UnparsedPublicKey::new(&ED25519, public)
            .verify(self.signed, &self.signature)
            .map_err(|_| AuthError::BadSignature)?;
        let claims = URL_SAFE_NO_PAD.decode(self.payload).ok();
        let claims = claims.and_then(|payload| serde_json::from_slice::<Written>(&payload).ok());
        read(claims.ok_or(MALFORMED_CLAIMS)?, realm, wall)
    }
}

const MALFORMED_CLAIMS: AuthError = AuthError::Malformed {
    what: "the claims are not those of a token issued here",
};

fn read(written: Written, realm: &Realm, wall: WallMs) -> Result<Claims, AuthError> {
    if *written.iss != *realm.name() {
        return Err(AuthError::WrongIssuer);
    }
    if *written.aud != *realm.name() {
        return Err(AuthError::WrongAudience);
    }
    let jti = hex::decode(written.jti.as_bytes()).ok_or(MALFORMED_CLAIMS)?;
    let subject_fits = (1..=TOKEN_SUBJECT_BYTES_MAX).contains(&written.sub.len())
        && !written.sub.chars().any(char::is_control);
    let life = written.exp.checked_sub(written.iat);
    let life_fits = life.is_some_and(|seconds| (1..=LIFE_S_MAX).contains(&seconds));
    if !subject_fits || !life_fits || written.perms.len() > PERMISSIONS_MAX {
        return Err(MALFORMED_CLAIMS);
    }
    let claims = Claims {
        subject: written.sub,
        tenant: written.tid,
        issued: WallMs(written.iat.saturating_mul(1000)),
        expires: WallMs(written.exp.saturating_mul(1000)),
        jti: Jti(jti),
        permissions: written.perms,
    };
    claims.lifetime().check(wall, SKEW_MS)?;
    Ok(claims)
}

impl Claims {
    pub(crate) fn lifetime(&self) -> Lifetime {
        Lifetime {
            from: Some(self.issued),
            expires: self.expires,
        }
    }
}
