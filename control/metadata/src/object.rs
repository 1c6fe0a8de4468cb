//! What is kept: objects under keys, all in one order and under one sequence of
//! versions.

use core::fmt;
use core::str::FromStr;

use pinion_types::{NameError, ResourceId, ResourceKind, ResourceName, WallMs};

use crate::broker::Broker;
use crate::error::{MetaError, NameOf};
use crate::identity::{ApiKey, Bootstrap, Issuer, Revocation, Revoked, RevokedError, SigningKeys};
use crate::ids::{BrokerNumber, MemberNumber, MetaVersion, RowId};
use crate::limits::ISSUER_BYTES_MAX;
use crate::member::Member;
use crate::name;
use crate::rbac::{Grouping, Policy};
use crate::resource::{Placement, Resource};
use crate::settings::Settings;
use crate::tenant::{Namespace, Tenant};

/// What an object is called. The derived order (kind, then part by part) is the
/// order of lists, of snapshots, and of the versions that one command gives out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKey {
    /// `tenant/{t}`
    Tenant(Box<str>),
    /// `namespace/{t}/{ns}`
    Namespace {
        /// Whose it is.
        tenant: Box<str>,
        /// Its name.
        name: Box<str>,
    },
    /// `stream/{t}/{ns}/{name}`, `queue/…`, `cache/…`
    Resource {
        /// What it is.
        kind: ResourceKind,
        /// Whose it is.
        tenant: Box<str>,
        /// Where it is.
        namespace: Box<str>,
        /// Its name: segments joined by `/`.
        name: Box<str>,
    },
    /// `placement/{kind}/{t}/{ns}/{name}`: of the resource of this name.
    Placement {
        /// What the resource is.
        kind: ResourceKind,
        /// Whose it is.
        tenant: Box<str>,
        /// Where it is.
        namespace: Box<str>,
        /// Its name.
        name: Box<str>,
    },
    /// `tombstone/{id}`: of a resource that was purged.
    Tombstone(ResourceId),
    /// `broker/{name}`
    Broker(Box<str>),
    /// `policy/{t}/{id}`
    Policy {
        /// Whose.
        tenant: Box<str>,
        /// Which.
        id: RowId,
    },
    /// `grouping/{t}/{id}`
    Grouping {
        /// Whose.
        tenant: Box<str>,
        /// Which.
        id: RowId,
    },
    /// `issuer/{t}/{iss}`
    Issuer {
        /// Who believes it.
        tenant: Box<str>,
        /// As tokens name it.
        issuer: Box<str>,
    },
    /// `apikey/{t}/{id}`
    ApiKey {
        /// Whose.
        tenant: Box<str>,
        /// Which.
        id: RowId,
    },
    /// `keys/{t}`
    SigningKeys(Box<str>),
    /// `revocation/{t}/{jti}` or `revocation/{t}/sub:{subject}`
    Revocation {
        /// Whose token or subject.
        tenant: Box<str>,
        /// What counts no more.
        what: Revoked,
    },
    /// `bootstrap/{t}`
    Bootstrap(Box<str>),
    /// `member/{id}`
    Member(MemberNumber),
    /// `settings`
    Settings,
}

/// Why a text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The first part is no kind of object.
    #[error("the first part names no kind of object")]
    Kind,
    /// Too few or too many parts for the kind.
    #[error("the key has too few or too many parts")]
    Parts,
    /// A part is no number.
    #[error("a part is no number")]
    Number,
    /// An issuer is no address, or too long.
    #[error("an issuer is no address, or too long")]
    Issuer,
    /// What is revoked is nothing that can be.
    #[error("{0}")]
    Revoked(#[from] RevokedError),
    /// A part breaks the grammar.
    #[error("a part breaks the grammar: {0}")]
    Name(#[from] NameError),
}

impl ObjectKey {
    /// The key of a tenant.
    #[must_use]
    pub fn tenant(name: &str) -> Self {
        Self::Tenant(name.into())
    }

    /// The key of a namespace.
    #[must_use]
    pub fn namespace(tenant: &str, name: &str) -> Self {
        Self::Namespace {
            tenant: tenant.into(),
            name: name.into(),
        }
    }

    /// The key of a broker.
    #[must_use]
    pub fn broker(name: &str) -> Self {
        Self::Broker(name.into())
    }

    /// The key of a policy.
    #[must_use]
    pub fn policy(tenant: &str, id: RowId) -> Self {
        Self::Policy {
            tenant: tenant.into(),
            id,
        }
    }

    /// The key of a grouping.
    #[must_use]
    pub fn grouping(tenant: &str, id: RowId) -> Self {
        Self::Grouping {
            tenant: tenant.into(),
            id,
        }
    }

    /// The key of an identity provider.
    #[must_use]
    pub fn issuer(tenant: &str, issuer: &str) -> Self {
        Self::Issuer {
            tenant: tenant.into(),
            issuer: issuer.into(),
        }
    }

    /// The key of an API key.
    #[must_use]
    pub fn api_key(tenant: &str, id: RowId) -> Self {
        Self::ApiKey {
            tenant: tenant.into(),
            id,
        }
    }

    /// The key of a tenant's signing keys.
    #[must_use]
    pub fn signing_keys(tenant: &str) -> Self {
        Self::SigningKeys(tenant.into())
    }

    /// The key of a revocation.
    #[must_use]
    pub fn revocation(tenant: &str, what: Revoked) -> Self {
        Self::Revocation {
            tenant: tenant.into(),
            what,
        }
    }

    /// The key of a tenant's first day.
    #[must_use]
    pub fn bootstrap(tenant: &str) -> Self {
        Self::Bootstrap(tenant.into())
    }

    /// The key of a resource.
    #[must_use]
    pub fn resource(kind: ResourceKind, tenant: &str, namespace: &str, name: &str) -> Self {
        Self::Resource {
            kind,
            tenant: tenant.into(),
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// The key of a resource's placement.
    #[must_use]
    pub fn placement(kind: ResourceKind, tenant: &str, namespace: &str, name: &str) -> Self {
        Self::Placement {
            kind,
            tenant: tenant.into(),
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// What comes before every resource of each kind in a tenant and namespace.
    pub(crate) fn first_resources(tenant: &str, namespace: &str) -> [Self; 3] {
        RESOURCE_KINDS.map(|kind| Self::resource(kind, tenant, namespace, ""))
    }

    /// Whether it is in the tenant or namespace `other`, at any depth.
    pub(crate) fn is_in(&self, other: &Self) -> bool {
        let ((tenant, namespace), (of, within)) = (self.place(), other.place());
        tenant == of && (within.is_empty() || namespace == within)
    }

    /// Whether both are tenants, both streams, and so on.
    pub(crate) fn same_kind(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Resource { kind, .. }, Self::Resource { kind: other, .. })
            | (Self::Placement { kind, .. }, Self::Placement { kind: other, .. }) => kind == other,
            _ => core::mem::discriminant(self) == core::mem::discriminant(other),
        }
    }

    /// The tenant and the namespace it lives in or is; empty where it has none.
    pub(crate) fn place(&self) -> (&str, &str) {
        match self {
            Self::Tenant(tenant) => (tenant, ""),
            Self::Namespace { tenant, name } => (tenant, name),
            Self::Resource {
                tenant, namespace, ..
            }
            | Self::Placement {
                tenant, namespace, ..
            } => (tenant, namespace),
            Self::Policy { tenant, .. }
            | Self::Grouping { tenant, .. }
            | Self::Issuer { tenant, .. }
            | Self::ApiKey { tenant, .. }
            | Self::SigningKeys(tenant)
            | Self::Revocation { tenant, .. } => (tenant, ""),
            // It is of a tenant that there may not be.
            Self::Tombstone(_)
            | Self::Broker(_)
            | Self::Bootstrap(_)
            | Self::Member(_)
            | Self::Settings => ("", ""),
        }
    }

    /// The last part; nothing where that is a number.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Tenant(name)
            | Self::Broker(name)
            | Self::Namespace { name, .. }
            | Self::Resource { name, .. }
            | Self::Placement { name, .. } => name,
            Self::Issuer { issuer, .. } => issuer,
            Self::SigningKeys(tenant) | Self::Bootstrap(tenant) => tenant,
            Self::Tombstone(_)
            | Self::Member(_)
            | Self::Settings
            | Self::Policy { .. }
            | Self::Grouping { .. }
            | Self::ApiKey { .. }
            | Self::Revocation { .. } => "",
        }
    }

    /// The key of a resource's placement.
    pub(crate) fn placed(&self) -> Option<Self> {
        match self {
            Self::Resource {
                kind,
                tenant,
                namespace,
                name,
            } => Some(Self::placement(*kind, tenant, namespace, name)),
            _ => None,
        }
    }

    /// Whether it is deleted in two steps. What is not goes at once, or with what
    /// it lives in.
    pub(crate) fn is_deletable(&self) -> bool {
        matches!(
            self,
            Self::Tenant(_) | Self::Namespace { .. } | Self::Resource { .. }
        )
    }

    /// The object this one lives in; it exists as long as this one does.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        match self {
            Self::Tenant(_)
            | Self::Tombstone(_)
            | Self::Broker(_)
            | Self::Bootstrap(_)
            | Self::Member(_)
            | Self::Settings => None,
            Self::Namespace { tenant, .. }
            | Self::Policy { tenant, .. }
            | Self::Grouping { tenant, .. }
            | Self::Issuer { tenant, .. }
            | Self::ApiKey { tenant, .. }
            | Self::SigningKeys(tenant)
            | Self::Revocation { tenant, .. } => Some(Self::Tenant(tenant.clone())),
            Self::Resource {
                tenant, namespace, ..
            } => Some(Self::namespace(tenant, namespace)),
            Self::Placement {
                kind,
                tenant,
                namespace,
                name,
            } => Some(Self::resource(*kind, tenant, namespace, name)),
        }
    }

    /// Refused when a part breaks its grammar.
    pub(crate) fn well_formed(&self) -> Result<(), MetaError> {
        let what = match self {
            Self::Namespace { .. } => NameOf::Namespace,
            Self::Resource { .. } | Self::Placement { .. } => NameOf::Resource,
            Self::Broker(_) => NameOf::Broker,
            _ => NameOf::Tenant,
        };
        match (self, self.check()) {
            (Self::Issuer { issuer: url, .. }, Err(KeyError::Issuer)) => {
                let url = url.clone();
                Err(MetaError::BadUrl { url })
            }
            (_, Err(KeyError::Name(why))) => Err(MetaError::BadName { what, why }),
            _ => Ok(()),
        }
    }

    /// Whether every part follows its grammar.
    pub(crate) fn check(&self) -> Result<(), KeyError> {
        if let Self::Issuer { issuer, .. } = self
            && (issuer.len() > ISSUER_BYTES_MAX || !name::is_url(issuer))
        {
            return Err(KeyError::Issuer);
        }
        Ok(self.check_names()?)
    }

    fn check_names(&self) -> Result<(), NameError> {
        match self {
            Self::Tenant(name)
            | Self::Broker(name)
            | Self::Policy { tenant: name, .. }
            | Self::Grouping { tenant: name, .. }
            | Self::Issuer { tenant: name, .. }
            | Self::ApiKey { tenant: name, .. }
            | Self::SigningKeys(name)
            | Self::Revocation { tenant: name, .. }
            | Self::Bootstrap(name) => name::lower_segment(name),
            Self::Namespace { tenant, name } => {
                name::lower_segment(tenant)?;
                name::segment(name)
            }
            Self::Resource {
                tenant,
                namespace,
                name,
                ..
            }
            | Self::Placement {
                tenant,
                namespace,
                name,
                ..
            } => {
                name::lower_segment(tenant)?;
                ResourceName::new(namespace, name).map(|_| ())
            }
            Self::Tombstone(_) | Self::Member(_) | Self::Settings => Ok(()),
        }
    }
}

/// `kind/part/part`, which [`ObjectKey::from_str`] reads again.
impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tenant(tenant) => write!(f, "tenant/{tenant}"),
            Self::Namespace { tenant, name } => write!(f, "namespace/{tenant}/{name}"),
            Self::Resource {
                kind,
                tenant,
                namespace,
                name,
            } => write!(f, "{kind}/{tenant}/{namespace}/{name}"),
            Self::Placement {
                kind,
                tenant,
                namespace,
                name,
            } => write!(f, "placement/{kind}/{tenant}/{namespace}/{name}"),
            Self::Tombstone(id) => write!(f, "tombstone/{id}"),
            Self::Broker(name) => write!(f, "broker/{name}"),
            Self::Policy { tenant, id } => write!(f, "policy/{tenant}/{id}"),
            Self::Grouping { tenant, id } => write!(f, "grouping/{tenant}/{id}"),
            Self::Issuer { tenant, issuer } => write!(f, "issuer/{tenant}/{issuer}"),
            Self::ApiKey { tenant, id } => write!(f, "apikey/{tenant}/{id}"),
            Self::SigningKeys(tenant) => write!(f, "keys/{tenant}"),
            Self::Revocation { tenant, what } => write!(f, "revocation/{tenant}/{what}"),
            Self::Bootstrap(tenant) => write!(f, "bootstrap/{tenant}"),
            Self::Member(number) => write!(f, "member/{number}"),
            Self::Settings => f.write_str("settings"),
        }
    }
}

impl FromStr for ObjectKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        if text == "settings" {
            return Ok(Self::Settings);
        }
        let (kind, rest) = text.split_once('/').ok_or(KeyError::Parts)?;
        let key = match kind {
            "tenant" => Self::Tenant(rest.into()),
            "namespace" => {
                let (tenant, name) = rest.split_once('/').ok_or(KeyError::Parts)?;
                Self::namespace(tenant, name)
            }
            "placement" => {
                let (kind, rest) = rest.split_once('/').ok_or(KeyError::Parts)?;
                let kind = resource_kind(kind).ok_or(KeyError::Kind)?;
                let (tenant, namespace, name) = three_parts(rest)?;
                Self::placement(kind, tenant, namespace, name)
            }
            "broker" => Self::Broker(rest.into()),
            "policy" => {
                let (tenant, id) = row(rest)?;
                Self::policy(tenant, id)
            }
            "grouping" => {
                let (tenant, id) = row(rest)?;
                Self::grouping(tenant, id)
            }
            "issuer" => {
                let (tenant, issuer) = rest.split_once('/').ok_or(KeyError::Parts)?;
                Self::issuer(tenant, issuer)
            }
            "apikey" => {
                let (tenant, id) = row(rest)?;
                Self::api_key(tenant, id)
            }
            "keys" => Self::signing_keys(rest),
            "revocation" => {
                let (tenant, what) = rest.split_once('/').ok_or(KeyError::Parts)?;
                Self::revocation(tenant, what.parse()?)
            }
            "bootstrap" => Self::bootstrap(rest),
            "member" => Self::Member(MemberNumber(number(rest).ok_or(KeyError::Number)?)),
            "tombstone" => Self::Tombstone(ResourceId(number(rest).ok_or(KeyError::Number)?)),
            kind => {
                let kind = resource_kind(kind).ok_or(KeyError::Kind)?;
                let (tenant, namespace, name) = three_parts(rest)?;
                Self::resource(kind, tenant, namespace, name)
            }
        };
        key.check()?;
        Ok(key)
    }
}

const RESOURCE_KINDS: [ResourceKind; 3] = [
    ResourceKind::Stream,
    ResourceKind::Cache,
    ResourceKind::Queue,
];

fn resource_kind(word: &str) -> Option<ResourceKind> {
    let mut kinds = RESOURCE_KINDS.into_iter();
    kinds.find(|kind| kind.scheme() == word)
}

/// A number written as it is shown: one number, one text.
fn number(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// A tenant and the number of one of its rows.
fn row(text: &str) -> Result<(&str, RowId), KeyError> {
    let (tenant, id) = text.split_once('/').ok_or(KeyError::Parts)?;
    Ok((tenant, RowId(number(id).ok_or(KeyError::Number)?)))
}

/// Tenant, namespace, and the rest as the name.
fn three_parts(text: &str) -> Result<(&str, &str, &str), KeyError> {
    let (tenant, rest) = text.split_once('/').ok_or(KeyError::Parts)?;
    let (namespace, name) = rest.split_once('/').ok_or(KeyError::Parts)?;
    Ok((tenant, namespace, name))
}

/// What every object has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// What it is called.
    pub key: ObjectKey,
    /// When it was made, by the stamp of that command.
    pub created: WallMs,
    /// When it was last changed.
    pub updated: WallMs,
    /// Version of the metadata that its last change made; no other object has it.
    pub version: MetaVersion,
    /// 1 when it was made, and one more with each change of what was asked for.
    pub generation: u64,
    /// It was deleted, and is here until its grace is over. `None` is alive.
    pub deleting: Option<Deleting>,
}

/// Of an object that was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deleting {
    /// When.
    pub since: WallMs,
    /// From when on it may be purged.
    pub purge_at: WallMs,
    /// The entry of the replicated log that deleted it: taking back an object
    /// takes back what went with it.
    pub cause: u64,
    /// It was deleted in spite of what was in it.
    pub forced: bool,
}

/// What is kept under one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// What every object has.
    pub meta: Meta,
    /// What this one is.
    pub body: Body,
}

impl Object {
    /// The broker, if it is one.
    #[must_use]
    pub fn broker(&self) -> Option<&Broker> {
        match &self.body {
            Body::Broker(broker) => Some(broker),
            _ => None,
        }
    }
}

/// What an object is; the variant is the one of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Under [`ObjectKey::Tenant`].
    Tenant(Tenant),
    /// Under [`ObjectKey::Namespace`].
    Namespace(Namespace),
    /// Under [`ObjectKey::Resource`].
    Resource(Resource),
    /// Under [`ObjectKey::Placement`].
    Placement(Placement),
    /// Under [`ObjectKey::Tombstone`].
    Tombstone(Tombstone),
    /// Under [`ObjectKey::Broker`].
    Broker(Broker),
    /// Under [`ObjectKey::Policy`].
    Policy(Policy),
    /// Under [`ObjectKey::Grouping`].
    Grouping(Grouping),
    /// Under [`ObjectKey::Issuer`].
    Issuer(Issuer),
    /// Under [`ObjectKey::ApiKey`].
    ApiKey(ApiKey),
    /// Under [`ObjectKey::SigningKeys`].
    SigningKeys(SigningKeys),
    /// Under [`ObjectKey::Revocation`].
    Revocation(Revocation),
    /// Under [`ObjectKey::Bootstrap`].
    Bootstrap(Bootstrap),
    /// Under [`ObjectKey::Member`].
    Member(Member),
    /// Under [`ObjectKey::Settings`].
    Settings(Settings),
}

/// What is left of a resource whose data some broker may still have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// What it was called; another may be called so now.
    pub of: ObjectKey,
    /// When it was purged.
    pub purged: WallMs,
    /// Brokers that have not said that its data is gone, at least one, in order.
    pub pending: Box<[BrokerNumber]>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::Subject;

    #[test]
    fn keys_are_read_from_their_texts() {
        for key in [
            ObjectKey::tenant("acme"),
            ObjectKey::namespace("acme", "Pay.ments_1-2"),
            ObjectKey::resource(ResourceKind::Stream, "acme", "pay", "eu/orders"),
            ObjectKey::resource(ResourceKind::Cache, "acme", "pay", "x"),
            ObjectKey::placement(ResourceKind::Queue, "acme", "pay", "eu/jobs"),
            ObjectKey::Tombstone(ResourceId(42)),
            ObjectKey::broker("node-1.eu"),
            ObjectKey::policy("acme", RowId(7)),
            ObjectKey::grouping("acme", RowId(0)),
            ObjectKey::issuer("acme", "https://login.example.com/a/v2.0"),
            ObjectKey::api_key("acme", RowId(9)),
            ObjectKey::signing_keys("acme"),
            ObjectKey::revocation("acme", Revoked::Token([0xab; 16])),
            ObjectKey::revocation("acme", Revoked::Subject(Subject::role("a"))),
            ObjectKey::bootstrap("acme"),
            ObjectKey::Member(MemberNumber(3)),
            ObjectKey::Settings,
        ] {
            assert_eq!(key.to_string().parse(), Ok(key));
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let parse = ObjectKey::from_str;
        assert_eq!(parse("tenant"), Err(KeyError::Parts));
        assert_eq!(parse("namespace/acme"), Err(KeyError::Parts));
        assert_eq!(parse("stream/acme/pay"), Err(KeyError::Parts));
        assert_eq!(parse("placement/acme/pay/x"), Err(KeyError::Kind));
        assert_eq!(parse("realm/acme"), Err(KeyError::Kind));
        assert_eq!(parse("policy/7"), Err(KeyError::Parts));
        assert_eq!(parse("issuer/acme"), Err(KeyError::Parts));
        assert_eq!(parse("issuer/acme/nowhere"), Err(KeyError::Issuer));
        let token = RevokedError::Token;
        assert_eq!(parse("revocation/acme/x"), Err(token.into()));
        for text in [
            "policy/acme/x",
            "tombstone/",
            "tombstone/x",
            "tombstone/07",
            "tombstone/+7",
        ] {
            assert_eq!(parse(text), Err(KeyError::Number));
        }
        assert_eq!(parse("tenant/"), Err(NameError::EmptySegment.into()));
        let upper = NameError::BadByte {
            byte: b'A',
            position: 0,
        };
        assert_eq!(parse("tenant/Acme"), Err(upper.into()));
        assert_eq!(
            parse("namespace/acme/.."),
            Err(NameError::DotSegment.into())
        );
        let slash = NameError::BadByte {
            byte: b'/',
            position: 1,
        };
        assert_eq!(parse("namespace/acme/a/b"), Err(slash.into()));
    }
}
