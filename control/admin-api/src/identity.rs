//! What the routes of identity need besides the plane: keys to sign with, and a way to the
//! identity providers.

use std::sync::Arc;

use axum::http::StatusCode;
use pinion_auth::TenantId;
use pinion_auth::keyring::StoredKey;
use pinion_auth::seal::MasterKey;
use pinion_metadata::command::RotateKeys;
use pinion_metadata::{Body, Command, Metadata, ObjectKey, identity};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::error::Failure;
use crate::idp::Exchanges;

/// How often a tenant's keys change where nothing is said, in milliseconds: often enough that
/// it is not an event, and long enough that nobody waits for a copy of the key set.
pub const ROTATE_EVERY_MS_DEFAULT: u64 = 30 * 24 * 3600 * 1000;

/// What a node issues credentials with. Without any of it everything else works.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// Asks identity providers; without it no token is exchanged.
    pub exchanges: Option<Exchanges>,
    /// Opens the keys that sign tokens; without it none are made or used.
    pub master: Option<Arc<MasterKey>>,
    /// Whether keys of issuers may be fetched without TLS. Whoever is in between then says
    /// who somebody is: for development.
    pub cleartext_issuers: bool,
}

impl Identity {
    pub(crate) fn master(&self) -> Result<&MasterKey, Failure> {
        self.master.as_deref().ok_or_else(|| {
            unavailable(
                "no_master_key",
                "this node has no master key: set [auth] master_key_file",
            )
        })
    }

    pub(crate) fn exchanges(&self) -> Result<&Exchanges, Failure> {
        self.exchanges
            .as_ref()
            .ok_or_else(|| unavailable("no_exchange", "this node does not ask identity providers"))
    }

    /// A key for a tenant, as the metadata stores it.
    pub(crate) fn fresh_key(&self, tenant: TenantId) -> Result<identity::StoredKey, Failure> {
        let master = self.master()?;
        let key = StoredKey::fresh(master, tenant, &random()?, random()?);
        Ok(identity::StoredKey {
            public: key.public,
            sealed: *key.sealed.bytes(),
        })
    }

    /// The rotation of a tenant's keys that is due; `None` without a master key, or when the
    /// tenant is gone.
    #[must_use]
    pub fn rotation(&self, metadata: &Metadata, tenant: &str) -> Option<Command> {
        // A tenant that is deleted may come back, and its keys go on.
        let Body::Tenant(of) = &metadata.get(&ObjectKey::tenant(tenant))?.body else {
            return None;
        };
        let next = self.fresh_key(TenantId(of.number.0)).ok()?;
        let tenant = tenant.into();
        Some(Command::RotateKeys(RotateKeys { tenant, next }))
    }

    /// The keys that a tenant begins with.
    pub(crate) fn fresh_keys(
        &self,
        tenant: TenantId,
        rotate_every_ms: u64,
    ) -> Result<identity::NewKeys, Failure> {
        Ok(identity::NewKeys {
            current: self.fresh_key(tenant)?,
            next: self.fresh_key(tenant)?,
            rotate_every_ms,
        })
    }
}

/// Random bytes of the system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    let drawn = SystemRandom::new().fill(&mut bytes);
    drawn.map_err(|_| unavailable("no_randomness", "the system gives no random bytes"))?;
    Ok(bytes)
}

pub(crate) fn unavailable(code: &'static str, message: &'static str) -> Failure {
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
}
