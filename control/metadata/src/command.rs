//! What can be asked of the metadata.
//!
//! A command says everything that it needs to be applied: who proposes it fills
//! in times, keys and choices, so that every replica comes to the same result.

use pinion_types::{ResourceKind, WallMs};

use crate::ids::{BrokerNumber, MetaVersion};
use crate::object::ObjectKey;
use crate::resource::{QueueSpec, ResourceSpec, Seat};
use crate::tenant::{Encryption, NamespaceQuotas, TenantQuotas};

/// One entry of the replicated log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The proposing leader's time. What is earlier than the last one is taken
    /// for the last one.
    pub stamp: WallMs,
    /// Chosen by the client at random so that a repeat is recognised, or 0.
    pub request: u128,
    /// Who asked, at most [`PRINCIPAL_BYTES_MAX`](crate::limits::PRINCIPAL_BYTES_MAX) bytes.
    pub principal: Box<str>,
    /// The broker that was asked.
    pub origin: BrokerNumber,
    /// What the command's target must be like.
    pub expect: Expect,
    /// What is asked.
    pub command: Command,
}

/// A condition on the object that a command is about ([`Command::target`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expect {
    /// None.
    #[default]
    Any,
    /// There is no such object.
    Absent,
    /// Its last change made this version.
    Version(MetaVersion),
}

/// Everything that can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Makes a tenant.
    CreateTenant(CreateTenant),
    /// Changes a tenant.
    UpdateTenant(UpdateTenant),
    /// Makes a namespace.
    CreateNamespace(CreateNamespace),
    /// Changes a namespace.
    UpdateNamespace(UpdateNamespace),
    /// Makes a resource and places it.
    Declare(Declare),
    /// Changes a resource.
    UpdateResource(UpdateResource),
    /// Changes nothing; that it was applied says who leads.
    Noop,
}

impl Command {
    /// The object that the command is about; [`Envelope::expect`] speaks of it.
    #[must_use]
    pub fn target(&self) -> Option<ObjectKey> {
        match self {
            Self::CreateTenant(CreateTenant { name, .. })
            | Self::UpdateTenant(UpdateTenant { name, .. }) => Some(ObjectKey::tenant(name)),
            Self::CreateNamespace(CreateNamespace { tenant, name, .. })
            | Self::UpdateNamespace(UpdateNamespace { tenant, name, .. }) => {
                Some(ObjectKey::namespace(tenant, name))
            }
            Self::Declare(Declare {
                kind,
                tenant,
                namespace,
                name,
                ..
            })
            | Self::UpdateResource(UpdateResource {
                kind,
                tenant,
                namespace,
                name,
                ..
            }) => Some(ObjectKey::resource(*kind, tenant, namespace, name)),
            Self::Noop => None,
        }
    }
}

/// Makes a tenant, which gets the next number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateTenant {
    /// One segment in lower case.
    pub name: Box<str>,
    /// For tables.
    pub display_name: Box<str>,
    /// For people.
    pub description: Box<str>,
    /// What it may use.
    pub quotas: TenantQuotas,
    /// The key its data is to be encrypted with.
    pub encryption: Option<Encryption>,
}

/// Changes what is given of a tenant; what is `None` stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateTenant {
    /// Which.
    pub name: Box<str>,
    /// For tables.
    pub display_name: Option<Box<str>>,
    /// For people.
    pub description: Option<Box<str>>,
    /// All quotas together; none may be below what is used.
    pub quotas: Option<TenantQuotas>,
    /// `Some(None)` takes the key away.
    pub encryption: Option<Option<Encryption>>,
}

/// Makes a namespace in a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateNamespace {
    /// Whose it is.
    pub tenant: Box<str>,
    /// One segment.
    pub name: Box<str>,
    /// For people.
    pub description: Box<str>,
    /// What it may use.
    pub quotas: NamespaceQuotas,
}

/// Changes what is given of a namespace; what is `None` stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateNamespace {
    /// Whose it is.
    pub tenant: Box<str>,
    /// Which.
    pub name: Box<str>,
    /// For people.
    pub description: Option<Box<str>>,
    /// All quotas together.
    pub quotas: Option<NamespaceQuotas>,
}

/// Makes a resource, which gets the next number, and places it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declare {
    /// What it is.
    pub kind: ResourceKind,
    /// Whose it is.
    pub tenant: Box<str>,
    /// Where it is.
    pub namespace: Box<str>,
    /// Segments joined by `/`.
    pub name: Box<str>,
    /// What it is to be like.
    pub spec: ResourceSpec,
    /// Where each shard is to be.
    pub seats: Box<[Seat]>,
    /// The broker that is to have all of it; seats name it then.
    pub pinned: Option<BrokerNumber>,
    /// Makes the namespace too if there is none.
    pub create_namespace: bool,
    /// What if there is such a resource.
    pub if_exists: IfExists,
}

/// What becomes of a declaration of what exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum IfExists {
    /// Done if it is to be like this one, and where that one is.
    Same = 0,
    /// Refused.
    Refuse = 1,
}

/// Changes what is given of a resource; what is `None` stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateResource {
    /// What it is.
    pub kind: ResourceKind,
    /// Whose it is.
    pub tenant: Box<str>,
    /// Where it is.
    pub namespace: Box<str>,
    /// Which.
    pub name: Box<str>,
    /// For subscribers that ask for none.
    pub overflow: Option<u8>,
    /// Largest record or value.
    pub max_record_bytes: Option<u32>,
    /// Longest a record is kept.
    pub retention_ms: Option<u64>,
    /// Bytes that are kept.
    pub retention_bytes: Option<u64>,
    /// All that only a queue has; whether it is ordered by key stays.
    pub queue: Option<QueueSpec>,
}
