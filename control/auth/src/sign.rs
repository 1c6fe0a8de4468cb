//! Signing tokens.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use crate::token::{self, Claims, Kid, LIFE_S_MAX, PERMISSIONS_MAX, Realm, TOKEN_BYTES_MAX};

/// Why no token was issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// More than [`PERMISSIONS_MAX`] permissions. Ask for fewer resources at a time.
    #[error("{permissions} permissions; at most {PERMISSIONS_MAX} fit a token")]
    TooManyPermissions {
        /// How many there are.
        permissions: usize,
    },
    /// Longer than [`TOKEN_BYTES_MAX`]. The same advice.
    #[error("a token of {bytes} bytes; at most {TOKEN_BYTES_MAX} fit a HELLO")]
    TooLarge {
        /// How long it would be.
        bytes: usize,
    },
    /// It would be over before it begins, or live longer than [`LIFE_S_MAX`].
    #[error("a token lives from one second to {LIFE_S_MAX}")]
    Lifetime,
}

/// The private half of a signing key, open in memory.
#[derive(Debug)]
pub struct SigningKey {
    kid: Kid,
    public: [u8; 32],
    pair: Ed25519KeyPair,
}

impl SigningKey {
    /// The key of that seed (RFC 8032 §5.1.5), drawn at random by the caller.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).expect("a seed is 32 bytes");
        let mut public = [0; 32];
        public.copy_from_slice(pair.public_key().as_ref());
        Self {
            kid: Kid::of(&public),
            public,
            pair,
        }
    }

    /// Its name.
    #[must_use]
    pub fn kid(&self) -> Kid {
        self.kid
    }

    /// Its public half.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        self.public
    }

    /// Makes a token. Times are cut to whole seconds.
    ///
    /// # Errors
    /// See [`IssueError`].
    pub fn issue(&self, realm: &Realm, claims: &Claims) -> Result<String, IssueError> {
        let permissions = claims.permissions.len();
        if permissions > PERMISSIONS_MAX {
            return Err(IssueError::TooManyPermissions { permissions });
        }
        let life = (claims.expires.0 / 1000).checked_sub(claims.issued.0 / 1000);
        if !life.is_some_and(|seconds| (1..=LIFE_S_MAX).contains(&seconds)) {
            return Err(IssueError::Lifetime);
        }
        let mut token = token::signed_part(self.kid, realm, claims);
        let signature = self.pair.sign(token.as_bytes());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        if token.len() > TOKEN_BYTES_MAX {
            return Err(IssueError::TooLarge { bytes: token.len() });
        }
        Ok(token)
    }
}
