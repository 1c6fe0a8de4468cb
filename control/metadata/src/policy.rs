//! What a policy is over: the grammar of objects, and which object holds which.

use core::fmt;

use pinion_types::{NameError, ResourceKind, ResourceName};

use crate::name;

/// Kinds of things in a namespace that policies speak of. Those that this
/// release has no resources of are known, so that a policy may be there first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ScopeKind {
    /// `stream`
    Stream,
    /// `queue`
    Queue,
    /// `cache`
    Cache,
    /// `kv`
    Kv,
    /// `notice`
    Notice,
    /// `rpc`
    Rpc,
    /// `lease`
    Lease,
    /// `schedule`
    Schedule,
    /// `flag`
    Flag,
}

impl ScopeKind {
    /// Every kind.
    pub const ALL: &'static [Self] = &[
        Self::Stream,
        Self::Queue,
        Self::Cache,
        Self::Kv,
        Self::Notice,
        Self::Rpc,
        Self::Lease,
        Self::Schedule,
        Self::Flag,
    ];

    /// Its word in objects.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Queue => "queue",
            Self::Cache => "cache",
            Self::Kv => "kv",
            Self::Notice => "notice",
            Self::Rpc => "rpc",
            Self::Lease => "lease",
            Self::Schedule => "schedule",
            Self::Flag => "flag",
        }
    }
}

impl From<ResourceKind> for ScopeKind {
    fn from(kind: ResourceKind) -> Self {
        match kind {
            ResourceKind::Stream => Self::Stream,
            ResourceKind::Queue => Self::Queue,
            ResourceKind::Cache => Self::Cache,
        }
    }
}

/// What a policy is over.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyObject {
    /// `cluster`: everything there is. For operators; never in a tenant's policy.
    Cluster,
    /// `tenant:{t}`: a tenant and everything in it.
    Tenant(Box<str>),
    /// `namespace:{t}/{ns}` or `namespace:{t}/*`: a namespace, or each of the
    /// tenant's, and everything in it.
    Namespace {
        /// Whose.
        tenant: Box<str>,
        /// Which; `None` is each.
        namespace: Option<Box<str>>,
    },
    /// `{kind}:{t}/*`: everything of a kind in a tenant.
    Kind {
        /// Which kind.
        kind: ScopeKind,
        /// Whose.
        tenant: Box<str>,
    },
    /// `{kind}:{t}/{ns}/{name}`, `{kind}:{t}/{ns}/*`, `{kind}:{t}/{ns}/{path}/*`
    Resource {
        /// Which kind.
        kind: ScopeKind,
        /// Whose.
        tenant: Box<str>,
        /// Where.
        namespace: Box<str>,
        /// What it is called.
        name: Part,
    },
}

/// What a thing in a namespace is called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// `*`: anything.
    Any,
    /// `{path}/*`: this, and whatever begins with its segments.
    Below(Box<str>),
    /// This.
    Exactly(Box<str>),
}

/// Why a text is no object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    /// No kind before a colon, or one that there is not.
    #[error("an object is cluster, or begins with tenant: namespace: or the kind of a resource")]
    Kind,
    /// The tenant is missing or a wildcard.
    #[error("an object names its tenant: a wildcard there would reach others")]
    NotRooted,
    /// Too few parts.
    #[error("an object of this kind has more parts")]
    Parts,
    /// A wildcard stands where something follows it, or beside other characters.
    #[error("a wildcard stands alone and at the end")]
    Wildcard,
    /// A part breaks the grammar.
    #[error("a part breaks the grammar: {0}")]
    Name(#[from] NameError),
}

impl PolicyObject {
    /// Reads the text of an object.
    ///
    /// # Errors
    /// [`ObjectError`], the first fault.
    pub fn parse(text: &str) -> Result<Self, ObjectError> {
        if text == "cluster" {
            return Ok(Self::Cluster);
        }
        let (kind, rest) = text.split_once(':').ok_or(ObjectError::Kind)?;
        let (tenant, rest) = match rest.split_once('/') {
            Some((tenant, rest)) => (tenant, Some(rest)),
            None => (rest, None),
        };
        let kind = match kind {
            "tenant" | "namespace" => None,
            word => {
                let known = ScopeKind::ALL.iter().find(|kind| kind.text() == word);
                Some(*known.ok_or(ObjectError::Kind)?)
            }
        };
        if tenant.is_empty() || tenant.contains('*') {
            return Err(ObjectError::NotRooted);
        }
        name::lower_segment(tenant)?;
        let tenant: Box<str> = tenant.into();
        match (kind, rest) {
            (None, None) if text.starts_with("tenant:") => Ok(Self::Tenant(tenant)),
            (None, Some(namespace)) if text.starts_with("namespace:") => {
                let namespace = match namespace {
                    "*" => None,
                    name => Some(segment(name)?),
                };
                Ok(Self::Namespace { tenant, namespace })
            }
            (Some(kind), Some("*")) => Ok(Self::Kind { kind, tenant }),
            (Some(kind), Some(rest)) => {
                let (namespace, name) = rest.split_once('/').ok_or(ObjectError::Parts)?;
                let namespace = segment(namespace)?;
                let name = Part::parse(&namespace, name)?;
                Ok(Self::Resource {
                    kind,
                    tenant,
                    namespace,
                    name,
                })
            }
            // A tenant's object ends with its name.
            (None, Some(_)) => Err(ObjectError::Name(NameError::BadByte {
                byte: b'/',
                position: tenant.len(),
            })),
            (_, None) => Err(ObjectError::Parts),
        }
    }

    /// The tenant it lies in; `None` of the cluster.
    #[must_use]
    pub fn tenant(&self) -> Option<&str> {
        match self {
            Self::Cluster => None,
            Self::Tenant(tenant)
            | Self::Namespace { tenant, .. }
            | Self::Kind { tenant, .. }
            | Self::Resource { tenant, .. } => Some(tenant),
        }
    }

    /// Whether everything in `other` is in it.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.intersect(other).as_ref() == Some(other)
    }

    /// What is in both, if there can be anything.
    ///
    /// It may be neither of them: a kind in a tenant and a namespace of it meet in
    /// that kind in that namespace.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Cluster, object) | (object, Self::Cluster) => return Some(object.clone()),
            _ if self.tenant() != other.tenant() => return None,
            (Self::Tenant(_), object) | (object, Self::Tenant(_)) => return Some(object.clone()),
            _ => {}
        }
        match (self, other) {
            (Self::Namespace { namespace, .. }, object)
            | (object, Self::Namespace { namespace, .. }) => {
                object.in_namespace(namespace.as_deref())
            }
            (Self::Kind { kind, .. }, object) | (object, Self::Kind { kind, .. }) => {
                let same = object.kind() == Some(*kind);
                same.then(|| object.clone())
            }
            (
                Self::Resource {
                    kind,
                    tenant,
                    namespace,
                    name,
                },
                Self::Resource {
                    kind: other_kind,
                    namespace: other_namespace,
                    name: other_name,
                    ..
                },
            ) if kind == other_kind && namespace == other_namespace => Some(Self::Resource {
                kind: *kind,
                tenant: tenant.clone(),
                namespace: namespace.clone(),
                name: name.intersect(other_name)?,
            }),
            _ => None,
        }
    }

    /// What of it is in a namespace of its tenant; `None` is each of them.
    fn in_namespace(&self, namespace: Option<&str>) -> Option<Self> {
        let Some(wanted) = namespace else {
            return Some(self.clone());
        };
        match self {
            Self::Namespace { tenant, namespace } => match namespace {
                Some(own) if **own != *wanted => None,
                _ => Some(Self::Namespace {
                    tenant: tenant.clone(),
                    namespace: Some(wanted.into()),
                }),
            },
            Self::Kind { kind, tenant } => Some(Self::Resource {
                kind: *kind,
                tenant: tenant.clone(),
                namespace: wanted.into(),
                name: Part::Any,
            }),
            Self::Resource { namespace, .. } => (**namespace == *wanted).then(|| self.clone()),
            Self::Cluster | Self::Tenant(_) => Some(self.clone()),
        }
    }

    fn kind(&self) -> Option<ScopeKind> {
        match self {
            Self::Kind { kind, .. } | Self::Resource { kind, .. } => Some(*kind),
            Self::Cluster | Self::Tenant(_) | Self::Namespace { .. } => None,
        }
    }
}

impl fmt::Display for PolicyObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => f.write_str("cluster"),
            Self::Tenant(tenant) => write!(f, "tenant:{tenant}"),
            Self::Namespace { tenant, namespace } => {
                let namespace = namespace.as_deref().unwrap_or("*");
                write!(f, "namespace:{tenant}/{namespace}")
            }
            Self::Kind { kind, tenant } => write!(f, "{}:{tenant}/*", kind.text()),
            Self::Resource {
                kind,
                tenant,
                namespace,
                name,
            } => {
                write!(f, "{}:{tenant}/{namespace}/", kind.text())?;
                match name {
                    Part::Any => f.write_str("*"),
                    Part::Below(path) => write!(f, "{path}/*"),
                    Part::Exactly(name) => f.write_str(name),
                }
            }
        }
    }
}

/// A name in which a wildcard would look like part of it.
fn segment(text: &str) -> Result<Box<str>, ObjectError> {
    if text.contains('*') {
        return Err(ObjectError::Wildcard);
    }
    name::segment(text)?;
    Ok(text.into())
}

impl Part {
    fn parse(namespace: &str, text: &str) -> Result<Self, ObjectError> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let (path, below) = match text.strip_suffix("/*") {
            Some(path) => (path, true),
            None => (text, false),
        };
        if path.contains('*') {
            return Err(ObjectError::Wildcard);
        }
        ResourceName::new(namespace, path)?;
        Ok(if below {
            Self::Below(path.into())
        } else {
            Self::Exactly(path.into())
        })
    }

    fn intersect(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Any, part) | (part, Self::Any) => Some(part.clone()),
            (Self::Exactly(a), Self::Exactly(b)) => (a == b).then(|| self.clone()),
            (Self::Below(path), Self::Exactly(name)) => is_below(name, path).then(|| other.clone()),
            (Self::Exactly(name), Self::Below(path)) => is_below(name, path).then(|| self.clone()),
            (Self::Below(a), Self::Below(b)) if is_below(a, b) => Some(self.clone()),
            (Self::Below(a), Self::Below(b)) => is_below(b, a).then(|| other.clone()),
        }
    }
}

/// Whether `name` is `path` or begins with its segments.
fn is_below(name: &str, path: &str) -> bool {
    match name.strip_prefix(path) {
        Some(rest) => rest.is_empty() || rest.starts_with('/'),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn object(text: &str) -> PolicyObject {
        PolicyObject::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn objects_are_read_from_their_texts() {
        for text in [
            "cluster",
            "tenant:t1",
            "namespace:t1/payments",
            "namespace:t1/*",
            "stream:t1/*",
            "stream:t1/payments/*",
            "stream:t1/payments/orders",
            "stream:t1/payments/orders/*",
            "queue:t1/payments/eu/orders/*",
            "flag:t1/n/dark-mode",
        ] {
            assert_eq!(object(text).to_string(), text);
        }
        assert_eq!(object("cache:t1/n/x").tenant(), Some("t1"));
        assert_eq!(object("cluster").tenant(), None);
    }

    #[test]
    fn what_is_not_rooted_in_a_tenant_is_refused() {
        for text in [
            "tenant:*",
            "tenant:",
            "namespace:*/a",
            "namespace:*",
            "stream:*/*",
            "stream:*",
            "stream:t*/n/x",
            "stream:/n/x",
        ] {
            assert_eq!(
                PolicyObject::parse(text),
                Err(ObjectError::NotRooted),
                "{text}"
            );
        }
    }

    #[test]
    fn other_faults_are_named() {
        let refused = |text, error| assert_eq!(PolicyObject::parse(text), Err(error), "{text}");
        for text in ["", "*", "t1", "realm:t1", "Stream:t1/n/x", "cluster:t1"] {
            refused(text, ObjectError::Kind);
        }
        for text in ["namespace:t1", "stream:t1", "stream:t1/n"] {
            refused(text, ObjectError::Parts);
        }
        for text in [
            "namespace:t1/a*",
            "namespace:t1/**",
            "stream:t1/*/x",
            "stream:t1/n/*/x",
            "stream:t1/n/x*",
            "stream:t1/n/**",
            "stream:t1/n/*/*",
            "stream:t1/**",
        ] {
            let error = PolicyObject::parse(text);
            let wildcard = matches!(error, Err(ObjectError::Wildcard | ObjectError::Parts));
            assert!(wildcard, "{text}: {error:?}");
        }
        for text in [
            "tenant:T1",
            "tenant:t1/x",
            "namespace:t1/a/b",
            "stream:t1/n/a//b",
            "stream:t1/../x",
        ] {
            let error = PolicyObject::parse(text);
            assert!(
                matches!(error, Err(ObjectError::Name(_))),
                "{text}: {error:?}"
            );
        }
    }

    #[test]
    fn a_path_reaches_itself_and_below_but_not_beside() {
        let path = object("stream:t/n/orders/*");
        for inside in [
            "stream:t/n/orders",
            "stream:t/n/orders/eu",
            "stream:t/n/orders/eu/*",
        ] {
            assert!(path.covers(&object(inside)), "{inside}");
        }
        for outside in [
            "stream:t/n/orders2",
            "stream:t/n/*",
            "queue:t/n/orders",
            "stream:t/m/orders",
        ] {
            assert!(!path.covers(&object(outside)), "{outside}");
        }
    }

    #[test]
    fn objects_meet_in_what_is_in_both() {
        let meet = |a, b| object(a).intersect(&object(b)).map(|both| both.to_string());
        assert_eq!(
            meet("stream:t/*", "namespace:t/n").as_deref(),
            Some("stream:t/n/*")
        );
        assert_eq!(
            meet("namespace:t/*", "namespace:t/n").as_deref(),
            Some("namespace:t/n")
        );
        assert_eq!(meet("cluster", "tenant:t").as_deref(), Some("tenant:t"));
        assert_eq!(meet("tenant:t", "tenant:u"), None);
        assert_eq!(meet("namespace:t/n", "namespace:t/m"), None);
        assert_eq!(meet("stream:t/*", "queue:t/n/x"), None);
    }

    #[test]
    fn the_widest_reach_no_other_tenant() {
        let tenant = object("tenant:t");
        assert!(!tenant.covers(&object("cluster")));
        assert!(!tenant.covers(&object("stream:u/n/x")));
        assert!(
            !object("namespace:t/*").covers(&tenant),
            "a tenant is more than its namespaces"
        );
    }

    /// One thing that a policy may be asked about.
    type Thing = (ScopeKind, &'static str, &'static str, &'static str);

    /// Whether it is in an object, by its text alone: as a person would say it.
    fn contains(object: &PolicyObject, (kind, tenant, namespace, name): Thing) -> bool {
        let text = object.to_string();
        let whole = format!("{tenant}/{namespace}/{name}");
        let Some((of, rest)) = text.split_once(':') else {
            return true;
        };
        match of {
            "tenant" => rest == tenant,
            "namespace" => rest == format!("{tenant}/*") || rest == format!("{tenant}/{namespace}"),
            of => {
                let below = rest.strip_suffix("/*");
                of == kind.text()
                    && (rest == whole
                        || below.is_some_and(|path| {
                            format!("{whole}/").starts_with(&format!("{path}/"))
                        }))
            }
        }
    }

    fn objects() -> impl Strategy<Value = PolicyObject> {
        let place = "[tu]/[nm]/(a|b|a/b|a/b/c|ab|\\*|a/\\*|a/b/\\*)";
        prop_oneof![
            Just("cluster".to_owned()),
            "tenant:[tu]",
            "namespace:[tu]/(n|m|\\*)",
            "(stream|queue):[tu]/\\*",
            ("(stream|queue)", place).prop_map(|(kind, place)| format!("{kind}:{place}")),
        ]
        .prop_map(|text| object(&text))
    }

    proptest! {
        /// Meeting, holding and containing agree for everything there is.
        #[test]
        fn objects_are_sets_of_things(a in objects(), b in objects()) {
            prop_assert_eq!(&object(&a.to_string()), &a);
            let both = a.intersect(&b);
            prop_assert_eq!(&both, &b.intersect(&a));
            if let Some(both) = &both {
                prop_assert!(a.covers(both) && b.covers(both));
            }
            for kind in [ScopeKind::Stream, ScopeKind::Queue] {
                for tenant in ["t", "u"] {
                    for namespace in ["n", "m"] {
                        for name in ["a", "b", "a/b", "a/b/c", "ab", "z"] {
                            let thing = (kind, tenant, namespace, name);
                            let in_both = both.as_ref().is_some_and(|both| contains(both, thing));
                            prop_assert_eq!(in_both, contains(&a, thing) && contains(&b, thing));
                            if a.covers(&b) {
                                prop_assert!(contains(&a, thing) || !contains(&b, thing));
                            }
                        }
                    }
                }
            }
        }
    }
}
