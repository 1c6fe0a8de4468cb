//! Who may do what: an immutable table, compiled outside and handed to every core.

use pinion_types::{FixedMap, ResourceKind, ResourceName};
use pinion_wire::opcode::Permission;
use sha2::{Digest, Sha256};

pub use crate::TenantId;

/// SHA-256 of a bearer token. The token itself is never kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenDigest(pub [u8; 32]);

impl TokenDigest {
    /// The digest under which a token is looked up.
    #[must_use]
    pub fn of(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }
}

impl core::fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("TokenDigest(..)")
    }
}

/// A set of [`Permission`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permissions(u8);

impl Permissions {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Read.
    pub const READ: Self = Self(1);
    /// Add and change: publish, put, set.
    pub const PUT: Self = Self(2);
    /// Create and change resources.
    pub const ADMIN: Self = Self(4);
    /// Take messages and settle them.
    pub const CONSUME: Self = Self(8);
    /// Put and consume: what the configuration calls write.
    pub const WRITE: Self = Self(2 | 8);
    /// Everything.
    pub const ALL: Self = Self(1 | 2 | 4 | 8);

    /// Both sets together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether an operation that needs `permission` is allowed.
    #[must_use]
    pub const fn allow(self, permission: Permission) -> bool {
        let needed = match permission {
            Permission::None => return true,
            Permission::Read => Self::READ,
            Permission::Write => Self::PUT,
            Permission::Consume => Self::CONSUME,
            Permission::Admin => Self::ADMIN,
        };
        self.0 & needed.0 != 0
    }
}

/// Matches part of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    Any,
    /// Exactly this text.
    Exactly(String),
    /// This segment path and everything below it.
    Below(String),
}

/// Why the text of a scope was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a scope: expected '*', 'a/b' or 'a/b/**'")]
pub struct ScopeError {
    text: String,
}

impl Scope {
    /// Reads `*` or `**` (everything), `a/b` (exactly) or `a/b/**` (below).
    ///
    /// # Errors
    /// A `*` anywhere else, or nothing at all.
    pub fn parse(text: &str) -> Result<Self, ScopeError> {
        if matches!(text, "*" | "**") {
            return Ok(Self::Any);
        }
        let (scope, path) = match text.strip_suffix("/**") {
            Some(path) => (Self::Below(path.to_owned()), path),
            None => (Self::Exactly(text.to_owned()), text),
        };
        if path.is_empty() || path.contains('*') {
            return Err(ScopeError {
                text: text.to_owned(),
            });
        }
        Ok(scope)
    }

    fn covers(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(exact) => exact == text,
            Self::Below(path) => text
                .strip_prefix(path.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        }
    }
}

/// One line of the table: these permissions on these resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What may be done.
    pub permissions: Permissions,
    /// On which kind; `None` is every kind.
    pub kind: Option<ResourceKind>,
    /// In which namespaces.
    pub namespace: Scope,
    /// On which names.
    pub name: Scope,
}

/// Somebody who holds a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// For logs and audit.
    pub name: String,
    /// Whose data it sees.
    pub tenant: TenantId,
    /// What it may do; nothing that is not listed.
    pub grants: Vec<Grant>,
}

/// Index of a principal in the table it was looked up in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrincipalId(u32);

/// Tokens and grants of one revision. Deny unless granted.
#[derive(Debug, Default)]
pub struct AccessTable {
    principals: Vec<Principal>,
    by_token: FixedMap<TokenDigest, PrincipalId>,
}

/// Most principals of one table.
pub const PRINCIPALS_MAX: usize = 100_000;

impl AccessTable {
    /// Builds the table. A digest that appears twice keeps its first principal.
    ///
    /// # Panics
    /// With more than [`PRINCIPALS_MAX`] entries: whoever compiles the table checks.
    #[must_use]
    pub fn new(entries: impl IntoIterator<Item = (TokenDigest, Principal)>) -> Self {
        let mut table = Self::default();
        for (digest, principal) in entries {
            assert!(
                table.principals.len() < PRINCIPALS_MAX,
                "more than {PRINCIPALS_MAX} principals"
            );
            let id = PrincipalId(u32::try_from(table.principals.len()).expect("bounded above"));
            table.principals.push(principal);
            table.by_token.entry(digest).or_insert(id);
        }
        table
    }

    /// Who holds the token. The lookup is by digest, so its time says nothing
    /// about how much of a guess was right.
    #[must_use]
    pub fn authenticate(&self, digest: &TokenDigest) -> Option<PrincipalId> {
        self.by_token.get(digest).copied()
    }

    /// The principal's entry.
    ///
    /// # Panics
    /// With an id of another table.
    #[must_use]
    pub fn principal(&self, id: PrincipalId) -> &Principal {
        &self.principals[id.0 as usize]
    }

    /// Everything `id` may do on one resource: the union of its grants.
    #[must_use]
    pub fn permissions(
        &self,
        id: PrincipalId,
        kind: ResourceKind,
        name: &ResourceName,
    ) -> Permissions {
        self.principal(id)
            .grants
            .iter()
            .filter(|grant| {
                grant.kind.is_none_or(|k| k == kind)
                    && grant.namespace.covers(name.namespace())
                    && grant.name.covers(name.name())
            })
            .fold(Permissions::NONE, |all, grant| all.and(grant.permissions))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> AccessTable {
        AccessTable::new([(
            TokenDigest::of(b"secret"),
            Principal {
                name: "reader".into(),
                tenant: TenantId(1),
                grants: vec![
                    Grant {
                        permissions: Permissions::READ,
                        kind: None,
                        namespace: Scope::parse("payments").expect("scope"),
                        name: Scope::parse("eu/**").expect("scope"),
                    },
                    Grant {
                        permissions: Permissions::WRITE,
                        kind: Some(ResourceKind::Cache),
                        namespace: Scope::Any,
                        name: Scope::parse("eu/orders").expect("scope"),
                    },
                ],
            },
        )])
    }

    #[track_caller]
    fn granted(kind: ResourceKind, name: &str, expected: Permissions) {
        let table = table();
        let id = table
            .authenticate(&TokenDigest::of(b"secret"))
            .expect("known");
        let name = ResourceName::parse(name).expect("name");
        assert_eq!(table.permissions(id, kind, &name), expected, "{name}");
    }

    #[test]
    fn grants_add_up_and_nothing_else_is_allowed() {
        use ResourceKind::{Cache, Stream};
        granted(Stream, "payments/eu/orders", Permissions::READ);
        granted(
            Cache,
            "payments/eu/orders",
            Permissions::READ.and(Permissions::WRITE),
        );
        granted(Stream, "payments/eu", Permissions::READ);
        granted(Stream, "payments/europe", Permissions::NONE);
        granted(Stream, "other/eu/orders", Permissions::NONE);
        granted(Cache, "other/eu/orders", Permissions::WRITE);
        assert_eq!(Permissions::ALL.and(Permissions::NONE), Permissions::ALL);
        assert!(!Permissions::READ.allow(Permission::Write));
        assert!(!Permissions::WRITE.allow(Permission::Admin));
        assert!(Permissions::WRITE.allow(Permission::Write));
        assert!(Permissions::WRITE.allow(Permission::Consume));
        assert!(!Permissions::PUT.allow(Permission::Consume));
        assert!(!Permissions::CONSUME.allow(Permission::Write));
        assert!(Permissions::NONE.allow(Permission::None));
    }

    #[test]
    fn a_wrong_token_is_nobody_and_digests_do_not_print() {
        let table = table();
        for guess in [&b""[..], b"Secret", b"secret "] {
            assert_eq!(table.authenticate(&TokenDigest::of(guess)), None);
        }
        assert_eq!(
            format!("{:?}", TokenDigest::of(b"secret")),
            "TokenDigest(..)"
        );
    }

    #[test]
    fn partial_wildcards_are_refused() {
        for text in ["a*", "a/*/b", "", "/**", "**/a"] {
            assert!(Scope::parse(text).is_err(), "{text}");
        }
    }
}
