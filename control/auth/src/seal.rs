//! Private keys at rest: AES-256-GCM under a master key that the operator keeps elsewhere.
//!
//! Snapshots, logs and backups of the metadata hold sealed keys alone, so that whoever
//! finds one of them cannot sign.

use core::fmt;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use sha2::{Digest as _, Sha256};

use crate::TenantId;
use crate::hex;
use crate::token::Kid;

/// Length of a sealed key: header, nonce, 32 bytes of key, tag.
pub const SEALED_BYTES: usize = 8 + 12 + 32 + 16;

const VERSION: u8 = 1;
const NONCE: core::ops::Range<usize> = 8..20;
const CONTENT: core::ops::Range<usize> = 20..SEALED_BYTES;

/// What the master's own name is derived from, before the key itself.
const MASTER_LABEL: &[u8] = b"pinion master key\0";

/// The key that seals keys. One per cluster; every node that issues tokens has it.
pub struct MasterKey {
    id: [u8; 4],
    key: LessSafeKey,
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({})", hex::encode(&self.id))
    }
}

/// The text is not a master key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a master key is 64 hexadecimal digits in lower case")]
pub struct NotAMasterKey;

impl MasterKey {
    /// The master of those bytes, drawn at random by the caller.
    #[must_use]
    pub fn new(bytes: &[u8; 32]) -> Self {
        let digest = Sha256::new()
            .chain_update(MASTER_LABEL)
            .chain_update(bytes)
            .finalize();
        let mut id = [0; 4];
        id.copy_from_slice(&digest[..4]);
        let key = UnboundKey::new(&AES_256_GCM, bytes).expect("a key of AES-256 is 32 bytes");
        Self {
            id,
            key: LessSafeKey::new(key),
        }
    }

    /// Reads the text of a master key, with or without one line end after it.
    ///
    /// # Errors
    /// [`NotAMasterKey`], which does not repeat the text.
    pub fn parse(text: &[u8]) -> Result<Self, NotAMasterKey> {
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        hex::decode(text)
            .map(|bytes| Self::new(&bytes))
            .ok_or(NotAMasterKey)
    }

    /// Four bytes that tell masters apart and say nothing of the key: for messages.
    #[must_use]
    pub fn id(&self) -> [u8; 4] {
        self.id
    }

    /// Seals the seed of a tenant's key. `nonce` is drawn at random by the caller, anew for
    /// each call: two seals under one nonce give both away. 96 random bits are good for
    /// 2^32 of them (NIST SP 800-38D §8.3); a tenant makes about a dozen a year.
    #[must_use]
    pub fn seal(&self, tenant: TenantId, kid: Kid, seed: &[u8; 32], nonce: [u8; 12]) -> Sealed {
        let mut sealed = [0; SEALED_BYTES];
        sealed[0] = VERSION;
        sealed[4..8].copy_from_slice(&self.id);
        sealed[NONCE].copy_from_slice(&nonce);
        let mut content = seed.to_vec();
        let about = about(&sealed, tenant, kid);
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), about, &mut content)
            .expect("32 bytes are not too many");
        sealed[CONTENT].copy_from_slice(&content);
        Sealed(sealed)
    }

    /// The seed again.
    ///
    /// # Errors
    /// See [`SealError`].
    pub fn open(&self, tenant: TenantId, kid: Kid, sealed: &Sealed) -> Result<[u8; 32], SealError> {
        // The version is four bytes wide; those of tomorrow may use the other three.
        if sealed.0[..4] != [VERSION, 0, 0, 0] {
            let mut version = [0; 4];
            version.copy_from_slice(&sealed.0[..4]);
            return Err(SealError::Version {
                found: u32::from_le_bytes(version),
            });
        }
        let found = &sealed.0[4..8];
        if *found != self.id {
            let mut other = [0; 4];
            other.copy_from_slice(found);
            return Err(SealError::OtherMaster {
                sealed: other,
                ours: self.id,
            });
        }
        let mut nonce = [0; 12];
        nonce.copy_from_slice(&sealed.0[NONCE]);
        let mut content = sealed.0[CONTENT].to_vec();
        let about = about(&sealed.0, tenant, kid);
        let seed = self
            .key
            .open_in_place(Nonce::assume_unique_for_key(nonce), about, &mut content)
            .map_err(|_| SealError::Damaged)?;
        Ok((&*seed).try_into().expect("32 bytes were sealed"))
    }
}

/// What a seal holds together besides its content: moved to another tenant or another key,
/// it does not open.
fn about(sealed: &[u8; SEALED_BYTES], tenant: TenantId, kid: Kid) -> Aad<[u8; 32]> {
    let mut about = [0; 32];
    about[..8].copy_from_slice(&sealed[..8]);
    about[8..16].copy_from_slice(&tenant.0.to_le_bytes());
    about[16..].copy_from_slice(&kid.0);
    Aad::from(about)
}

/// A sealed key, as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed([u8; SEALED_BYTES]);

impl Sealed {
    /// What was stored. Whether it is a sealed key is found out when it is opened.
    #[must_use]
    pub fn new(bytes: [u8; SEALED_BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes to store.
    #[must_use]
    pub fn bytes(&self) -> &[u8; SEALED_BYTES] {
        &self.0
    }
}

/// Why a sealed key stays closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Of a version that is not known here. A newer release wrote it.
    #[error("sealed in version {found}; this release reads version 1")]
    Version {
        /// Its version.
        found: u32,
    },
    /// Sealed under another master key than the one configured.
    #[error(
        "sealed under master key {}, and the one configured is {}",
        hex::encode(sealed),
        hex::encode(ours)
    )]
    OtherMaster {
        /// The one that can open it.
        sealed: [u8; 4],
        /// The one that was tried.
        ours: [u8; 4],
    },
    /// Changed, or sealed for another tenant or another key.
    #[error("damaged, or sealed for another tenant or key")]
    Damaged,
}
