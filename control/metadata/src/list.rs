//! Objects of one kind, page by page.

use std::sync::Arc;

use pinion_types::{ResourceId, ResourceKind};

use crate::identity::Revoked;
use crate::ids::{MemberNumber, MetaVersion, RowId};
use crate::limits::PAGE_MAX;
use crate::object::{Object, ObjectKey};
use crate::state::Metadata;

/// Which kind of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// [`ObjectKey::Tenant`]
    Tenant,
    /// [`ObjectKey::Namespace`]
    Namespace,
    /// [`ObjectKey::Resource`] of one kind.
    Resource(ResourceKind),
    /// [`ObjectKey::Placement`] of resources of one kind.
    Placement(ResourceKind),
    /// [`ObjectKey::Tombstone`]
    Tombstone,
    /// [`ObjectKey::Broker`]
    Broker,
    /// [`ObjectKey::Policy`]
    Policy,
    /// [`ObjectKey::Grouping`]
    Grouping,
    /// [`ObjectKey::Issuer`]
    Issuer,
    /// [`ObjectKey::ApiKey`]
    ApiKey,
    /// [`ObjectKey::SigningKeys`]
    SigningKeys,
    /// [`ObjectKey::Revocation`]
    Revocation,
    /// [`ObjectKey::Bootstrap`]
    Bootstrap,
    /// [`ObjectKey::Member`]
    Member,
    /// [`ObjectKey::Settings`]
    Settings,
}

/// What a list is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListQuery {
    /// Objects of this kind only.
    pub kind: ObjectKind,
    /// Only what lives in this tenant or namespace, at any depth.
    pub under: Option<ObjectKey>,
    /// Only what is called so.
    pub filter: Filter,
    /// What is deleted too.
    pub deleted: bool,
    /// Most objects of the page; between 1 and [`PAGE_MAX`], or taken for the
    /// nearer of them.
    pub limit: usize,
    /// Only what comes after this key: [`Page::next`] of the page before.
    pub after: Option<ObjectKey>,
}

/// What objects of a list are called, in the last part of their keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Anything.
    All,
    /// What begins so.
    Prefix(Box<str>),
    /// What has this in it.
    Contains(Box<str>),
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// In the order of keys.
    pub items: Vec<Arc<Object>>,
    /// Where the next page begins, if there is more.
    pub next: Option<ObjectKey>,
    /// The state that this is a part of. Pages of one list may be of several.
    pub version: MetaVersion,
}

impl ObjectKind {
    fn of(key: &ObjectKey) -> Self {
        match key {
            ObjectKey::Tenant(_) => Self::Tenant,
            ObjectKey::Namespace { .. } => Self::Namespace,
            ObjectKey::Resource { kind, .. } => Self::Resource(*kind),
            ObjectKey::Placement { kind, .. } => Self::Placement(*kind),
            ObjectKey::Tombstone(_) => Self::Tombstone,
            ObjectKey::Broker(_) => Self::Broker,
            ObjectKey::Policy { .. } => Self::Policy,
            ObjectKey::Grouping { .. } => Self::Grouping,
            ObjectKey::Issuer { .. } => Self::Issuer,
            ObjectKey::ApiKey { .. } => Self::ApiKey,
            ObjectKey::SigningKeys(_) => Self::SigningKeys,
            ObjectKey::Revocation { .. } => Self::Revocation,
            ObjectKey::Bootstrap(_) => Self::Bootstrap,
            ObjectKey::Member(_) => Self::Member,
            ObjectKey::Settings => Self::Settings,
        }
    }

    /// What comes before every key of this kind in a tenant and namespace.
    fn first(self, tenant: &str, namespace: &str) -> ObjectKey {
        match self {
            Self::Tenant => ObjectKey::tenant(tenant),
            Self::Namespace => ObjectKey::namespace(tenant, namespace),
            Self::Resource(kind) => ObjectKey::resource(kind, tenant, namespace, ""),
            Self::Placement(kind) => ObjectKey::placement(kind, tenant, namespace, ""),
            Self::Broker => ObjectKey::broker(""),
            Self::Policy => ObjectKey::policy(tenant, RowId(0)),
            Self::Grouping => ObjectKey::grouping(tenant, RowId(0)),
            Self::Issuer => ObjectKey::issuer(tenant, ""),
            Self::ApiKey => ObjectKey::api_key(tenant, RowId(0)),
            Self::SigningKeys => ObjectKey::signing_keys(tenant),
            Self::Revocation => ObjectKey::revocation(tenant, Revoked::Token([0; 16])),
            Self::Bootstrap => ObjectKey::bootstrap(""),
            Self::Member => ObjectKey::Member(MemberNumber(0)),
            Self::Settings => ObjectKey::Settings,
            Self::Tombstone => ObjectKey::Tombstone(ResourceId(0)),
        }
    }
}

impl Filter {
    fn matches(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Prefix(prefix) => name.starts_with(&**prefix),
            Self::Contains(part) => name.contains(&**part),
        }
    }
}

impl Metadata {
    /// A page of objects. Looks at every object of the kind in the tenant or
    /// namespace, at most.
    #[must_use]
    pub fn list(&self, query: &ListQuery) -> Page {
        let limit = query.limit.clamp(1, PAGE_MAX);
        let under = query.under.as_ref();
        let (tenant, namespace) = under.map_or(("", ""), ObjectKey::place);
        let mut first = query.kind.first(tenant, namespace);
        if let Some(after) = &query.after
            && *after > first
        {
            first = after.clone();
        }
        let in_scope = |key: &ObjectKey| {
            let (of, within) = key.place();
            ObjectKind::of(key) == query.kind
                && (tenant.is_empty() || of == tenant)
                && (namespace.is_empty() || within == namespace)
        };
        let mut items = Vec::new();
        let mut next = None;
        for object in self
            .from(&first)
            .take_while(|object| in_scope(&object.meta.key))
        {
            let key = &object.meta.key;
            let wanted = query.deleted || object.meta.deleting.is_none();
            let before = query.after.as_ref() == Some(key);
            if before || !wanted || !query.filter.matches(key.name()) {
                continue;
            }
            if items.len() == limit {
                next = items.last().map(|last: &Arc<Object>| last.meta.key.clone());
                break;
            }
            items.push(object.clone());
        }
        Page {
            items,
            next,
            version: self.version(),
        }
    }
}
