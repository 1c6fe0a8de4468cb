//! A tenant's signing keys: one signs, one is about to, one has done so until lately.
//!
//! The next key is published, and accepted, one rotation before it signs: whoever keeps a
//! copy of the key set has it in time, and a node that has not yet heard of a rotation takes
//! the tokens of one that has. The previous key stays until its last token is over. Who
//! rotates twice in a row therefore also ends every token issued before.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pinion_types::WallMs;
use serde::Serialize;

use crate::TenantId;
use crate::seal::{MasterKey, SealError, Sealed};
use crate::sign::SigningKey;
use crate::token::{Kid, LIFE_S_MAX, SKEW_MS};

/// How long a key is kept after it signed for the last time, in milliseconds.
pub const RETIRED_KEPT_MS: u64 = LIFE_S_MAX * 1000 + SKEW_MS;

/// A key as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredKey {
    /// Its public half.
    pub public: [u8; 32],
    /// Its private half.
    pub sealed: Sealed,
}

impl StoredKey {
    /// Makes a key. `seed` and `nonce` are drawn at random by the caller.
    #[must_use]
    pub fn fresh(master: &MasterKey, tenant: TenantId, seed: &[u8; 32], nonce: [u8; 12]) -> Self {
        let key = SigningKey::from_seed(seed);
        Self {
            public: key.public(),
            sealed: master.seal(tenant, key.kid(), seed, nonce),
        }
    }

    /// Its name.
    #[must_use]
    pub fn kid(&self) -> Kid {
        Kid::of(&self.public)
    }

    /// Its private half, to sign with.
    ///
    /// # Errors
    /// See [`SealError`].
    pub fn open(&self, master: &MasterKey, tenant: TenantId) -> Result<SigningKey, SealError> {
        let seed = master.open(tenant, self.kid(), &self.sealed)?;
        let key = SigningKey::from_seed(&seed);
        if key.public() == self.public {
            Ok(key)
        } else {
            Err(SealError::Damaged)
        }
    }
}

/// The keys of one tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyring {
    /// Signs.
    pub current: StoredKey,
    /// Signs after the next rotation.
    pub next: StoredKey,
    /// Signed before the last rotation, and until when that still counts.
    pub previous: Option<(StoredKey, WallMs)>,
}

impl Keyring {
    /// Public keys that count at `wall`: current, next, previous.
    pub fn published(&self, wall: WallMs) -> impl Iterator<Item = [u8; 32]> {
        let previous = self.previous.filter(|(_, until)| wall < *until);
        [self.current.public, self.next.public]
            .into_iter()
            .chain(previous.map(|(key, _)| key.public))
    }

    /// The JWK set (RFC 7517, RFC 8037 §2) of the keys that count at `wall`, for whoever
    /// wants to check tokens without asking.
    #[must_use]
    pub fn key_set(&self, wall: WallMs) -> String {
        let keys = self.published(wall).map(|public| Jwk {
            kty: "OKP",
            kid: Kid::of(&public).to_string(),
            alg: "EdDSA",
            usage: "sig",
            crv: "Ed25519",
            x: URL_SAFE_NO_PAD.encode(public),
        });
        let set = JwkSet {
            keys: keys.collect(),
        };
        serde_json::to_string(&set).expect("text is JSON")
    }
}

#[derive(Serialize)]
struct JwkSet {
    keys: Vec<Jwk>,
}

#[derive(Serialize)]
struct Jwk {
    kty: &'static str,
    kid: String,
    alg: &'static str,
    #[serde(rename = "use")]
    usage: &'static str,
    crv: &'static str,
    x: String,
}
