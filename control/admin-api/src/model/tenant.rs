//! Tenants and namespaces.

use pinion_metadata::command::{CreateNamespace, CreateTenant, UpdateNamespace, UpdateTenant};
use pinion_metadata::tenant;
use pinion_metadata::{Body, Object, ObjectKey};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Life, given};

macro_rules! quotas {
    ($(#[$about:meta])* $name:ident, $patch:ident, $of:ident { $($(#[$doc:meta])* $field:ident,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
        #[serde(deny_unknown_fields, default)]
        pub(crate) struct $name {
            $($(#[$doc])* pub(crate) $field: u64,)*
        }

        /// Quotas to be changed; what is not there stays.
        #[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct $patch {
            $($(#[$doc])* #[serde(default, deserialize_with = "given")] pub(crate) $field: Option<u64>,)*
        }

        impl From<$name> for tenant::$of {
            fn from(quotas: $name) -> Self {
                Self { $($field: quotas.$field,)* }
            }
        }

        impl From<tenant::$of> for $name {
            fn from(quotas: tenant::$of) -> Self {
                Self { $($field: quotas.$field,)* }
            }
        }

        impl $patch {
            /// Those that are to be, when these are.
            pub(crate) fn over(self, quotas: tenant::$of) -> tenant::$of {
                tenant::$of { $($field: self.$field.unwrap_or(quotas.$field),)* }
            }
        }
    };
}

quotas! {
    /// What a tenant may use at most; 0 is as much as the cluster has.
    TenantQuotas, TenantQuotasPatch, TenantQuotas {
        max_namespaces,
        /// Resources of every kind together.
        max_streams,
        /// Records published in one second.
        max_publish_rate,
        max_storage_bytes,
        max_connections,
        max_cache_memory_bytes,
        /// Policies and groupings.
        max_policies,
    }
}

quotas! {
    /// What a namespace may use at most; 0 is as much as its tenant.
    NamespaceQuotas, NamespaceQuotasPatch, NamespaceQuotas {
        /// Resources of every kind together.
        max_streams,
        /// Records published in one second.
        max_publish_rate,
    }
}

/// A tenant.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Tenant {
    name: String,
    /// Never used again for another.
    number: u64,
    display_name: String,
    description: String,
    quotas: TenantQuotas,
    encryption: Option<Encryption>,
    #[serde(flatten)]
    life: Life,
}

/// Which key encrypts a tenant's data.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Encryption {
    key_id: String,
    /// 0 is never.
    #[serde(default)]
    rotation_period_ms: u64,
}

/// A tenant to be made.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TenantCreate {
    pub(crate) name: String,
    #[serde(default)]
    display_name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    quotas: TenantQuotas,
    #[serde(default)]
    encryption: Option<Encryption>,
}

/// What is to be changed of a tenant; what is not there stays.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TenantPatch {
    #[serde(default, deserialize_with = "given")]
    display_name: Option<String>,
    #[serde(default, deserialize_with = "given")]
    description: Option<String>,
    #[serde(default, deserialize_with = "given")]
    quotas: Option<TenantQuotasPatch>,
    /// `null` takes the key away.
    #[serde(default, deserialize_with = "given")]
    encryption: Option<Option<EncryptionPatch>>,
}

/// What is to be changed of an encryption.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EncryptionPatch {
    #[serde(default, deserialize_with = "given")]
    key_id: Option<String>,
    #[serde(default, deserialize_with = "given")]
    rotation_period_ms: Option<u64>,
}

impl Tenant {
    pub(crate) fn of(object: &Object) -> Option<Self> {
        let (ObjectKey::Tenant(name), Body::Tenant(tenant)) = (&object.meta.key, &object.body)
        else {
            return None;
        };
        let encryption = tenant.encryption.as_ref();
        Some(Self {
            name: name.to_string(),
            number: tenant.number.0,
            display_name: tenant.display_name.to_string(),
            description: tenant.description.to_string(),
            quotas: tenant.quotas.into(),
            encryption: encryption.map(|encryption| Encryption {
                key_id: encryption.key_id.to_string(),
                rotation_period_ms: encryption.rotation_period_ms,
            }),
            life: Life::from(&object.meta),
        })
    }
}

impl From<Encryption> for tenant::Encryption {
    fn from(encryption: Encryption) -> Self {
        Self {
            key_id: encryption.key_id.into(),
            rotation_period_ms: encryption.rotation_period_ms,
        }
    }
}

impl From<TenantCreate> for CreateTenant {
    fn from(tenant: TenantCreate) -> Self {
        Self {
            name: tenant.name.into(),
            display_name: tenant.display_name.into(),
            description: tenant.description.into(),
            quotas: tenant.quotas.into(),
            encryption: tenant.encryption.map(Into::into),
        }
    }
}

impl TenantPatch {
    /// Whether it is about what the cluster gives: for operators.
    pub(crate) fn changes_quotas(&self) -> bool {
        self.quotas.is_some()
    }

    /// The command, when the tenant is like this.
    pub(crate) fn over(self, name: &str, is: &tenant::Tenant) -> UpdateTenant {
        let encryption = self.encryption.map(|patch| {
            patch.map(|patch| {
                let is = is.encryption.as_ref();
                let key_id = patch.key_id.map(Into::into);
                tenant::Encryption {
                    key_id: key_id
                        .or_else(|| is.map(|is| is.key_id.clone()))
                        .unwrap_or_default(),
                    rotation_period_ms: patch
                        .rotation_period_ms
                        .or_else(|| is.map(|is| is.rotation_period_ms))
                        .unwrap_or_default(),
                }
            })
        });
        UpdateTenant {
            name: name.into(),
            display_name: self.display_name.map(Into::into),
            description: self.description.map(Into::into),
            quotas: self.quotas.map(|quotas| quotas.over(is.quotas)),
            encryption,
        }
    }
}

/// A namespace.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Namespace {
    tenant: String,
    name: String,
    description: String,
    quotas: NamespaceQuotas,
    #[serde(flatten)]
    life: Life,
}

/// A namespace to be made.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NamespaceCreate {
    pub(crate) name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    quotas: NamespaceQuotas,
}

/// What is to be changed of a namespace; what is not there stays.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NamespacePatch {
    #[serde(default, deserialize_with = "given")]
    description: Option<String>,
    #[serde(default, deserialize_with = "given")]
    quotas: Option<NamespaceQuotasPatch>,
}

impl Namespace {
    pub(crate) fn of(object: &Object) -> Option<Self> {
        let (ObjectKey::Namespace { tenant, name }, Body::Namespace(namespace)) =
            (&object.meta.key, &object.body)
        else {
            return None;
        };
        Some(Self {
            tenant: tenant.to_string(),
            name: name.to_string(),
            description: namespace.description.to_string(),
            quotas: namespace.quotas.into(),
            life: Life::from(&object.meta),
        })
    }
}

impl NamespaceCreate {
    pub(crate) fn command(self, tenant: &str) -> CreateNamespace {
        CreateNamespace {
            tenant: tenant.into(),
            name: self.name.into(),
            description: self.description.into(),
            quotas: self.quotas.into(),
        }
    }
}

impl NamespacePatch {
    /// The command, when the namespace is like this.
    pub(crate) fn over(self, tenant: &str, name: &str, is: &tenant::Namespace) -> UpdateNamespace {
        UpdateNamespace {
            tenant: tenant.into(),
            name: name.into(),
            description: self.description.map(Into::into),
            quotas: self.quotas.map(|quotas| quotas.over(is.quotas)),
        }
    }
}
