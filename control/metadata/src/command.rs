//! What can be asked of the metadata.
//!
//! A command says everything that it needs to be applied: who proposes it fills
//! in times, keys and choices, so that every replica comes to the same result.

use pinion_types::WallMs;

use crate::ids::{BrokerNumber, MetaVersion};
use crate::object::ObjectKey;
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
