//! Tenants and their namespaces.

use crate::error::{MetaError, Quota};
use crate::ids::TenantNumber;
use crate::limits::{DISPLAY_NAME_BYTES_MAX, KEY_ID_BYTES_MAX, TEXT_BYTES_MAX};
use crate::name;

/// The tenant that exists from the start: whose name says nothing else.
pub const DEFAULT_TENANT: &str = "default";

/// Its number, which tokens of a configuration file have.
pub const DEFAULT_TENANT_NUMBER: TenantNumber = TenantNumber(1);

/// What a tenant is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Never used again for another.
    pub number: TenantNumber,
    /// For tables; at most [`DISPLAY_NAME_BYTES_MAX`] bytes, may be empty.
    pub display_name: Box<str>,
    /// At most [`TEXT_BYTES_MAX`] bytes, may be empty.
    pub description: Box<str>,
    /// What it may use.
    pub quotas: TenantQuotas,
    /// The key its data is to be encrypted with, if any.
    pub encryption: Option<Encryption>,
}

/// What a tenant may use at most. 0 is as much as the cluster has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TenantQuotas {
    /// Namespaces.
    pub max_namespaces: u64,
    /// Resources of every kind together.
    pub max_streams: u64,
    /// Records published in one second.
    pub max_publish_rate: u64,
    /// Bytes on disk that its resources may ask for.
    pub max_storage_bytes: u64,
    /// Connections at a time.
    pub max_connections: u64,
    /// Bytes of memory that its caches may ask for.
    pub max_cache_memory_bytes: u64,
    /// Policies and groupings.
    pub max_policies: u64,
}

/// Which key encrypts a tenant's data, and how often it is replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encryption {
    /// Name of the key where keys are kept, 1 to [`KEY_ID_BYTES_MAX`] bytes.
    pub key_id: Box<str>,
    /// Milliseconds after which it is to be replaced; 0 is never.
    pub rotation_period_ms: u64,
}

/// What a namespace is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// At most [`TEXT_BYTES_MAX`] bytes, may be empty.
    pub description: Box<str>,
    /// What it may use.
    pub quotas: NamespaceQuotas,
}

/// What a namespace may use at most; never more than its tenant where that has
/// a quota. 0 is as much as the tenant may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NamespaceQuotas {
    /// Resources of every kind together.
    pub max_streams: u64,
    /// Records published in one second.
    pub max_publish_rate: u64,
}

impl Tenant {
    /// Checks everything but the number and what the tenant uses.
    pub(crate) fn check(&self) -> Result<(), MetaError> {
        name::text("display_name", &self.display_name, DISPLAY_NAME_BYTES_MAX)?;
        name::text("description", &self.description, TEXT_BYTES_MAX)?;
        let Some(encryption) = &self.encryption else {
            return Ok(());
        };
        let key = &encryption.key_id;
        name::text_of("key_id", key, 1, KEY_ID_BYTES_MAX)
    }
}

impl Namespace {
    pub(crate) fn check(&self) -> Result<(), MetaError> {
        name::text("description", &self.description, TEXT_BYTES_MAX)
    }
}

impl NamespaceQuotas {
    /// Refused when a quota is set above the one of the tenant.
    pub(crate) fn check_below(&self, parent: &TenantQuotas) -> Result<(), MetaError> {
        for (quota, wanted, limit) in [
            (Quota::Streams, self.max_streams, parent.max_streams),
            (
                Quota::PublishRate,
                self.max_publish_rate,
                parent.max_publish_rate,
            ),
        ] {
            if limit != 0 && wanted > limit {
                return Err(MetaError::QuotaAboveParent {
                    quota,
                    wanted,
                    limit,
                });
            }
        }
        Ok(())
    }
}
