//! Who may do what: an immutable table, compiled outside and handed to every core.

use std::sync::Arc;

use pinion_metadata::limits::PRINCIPAL_BYTES_MAX;
use pinion_types::{FixedMap, FixedSet, ResourceKind, ResourceName, WallMs};
use pinion_wire::opcode::Permission;
use sha2::{Digest, Sha256};

use crate::compile::{CredentialTable, Credentials, Known, Proof, TenantAccess};
use crate::error::AuthError;

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
            Permission::ReadWrite => Self::READ.and(Self::PUT),
            Permission::Consume => Self::CONSUME,
            Permission::Admin => Self::ADMIN,
        };
        self.0 & needed.0 == needed.0
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

/// Somebody whom a table let in. What it may do is asked of the newest table.
#[derive(Clone, Debug)]
pub enum Caller {
    /// The holder of a token of the configuration.
    Configured {
        /// Its entry in the table that was asked last.
        id: PrincipalId,
        /// To find it in the next.
        digest: TokenDigest,
        /// Whose data it sees.
        tenant: TenantId,
    },
    /// The holder of a credential that the cluster knows.
    Known(Known),
}

impl Caller {
    /// Whose data it sees.
    #[must_use]
    pub fn tenant(&self) -> TenantId {
        match self {
            Self::Configured { tenant, .. } => *tenant,
            Self::Known(known) => known.tenant,
        }
    }

    /// The part of a table that says what it may do.
    #[must_use]
    pub fn part(&self) -> Part {
        match self {
            Self::Configured { .. } => Part::Configured,
            Self::Known(known) => Part::Tenant(known.tenant),
        }
    }
}

/// A part of every table. What somebody may do, and whether it still counts, is said by
/// one of them and by the time alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The tokens of the configuration.
    Configured,
    /// What the cluster knows of one tenant.
    Tenant(TenantId),
}

/// What a part held in one table. Two are equal when they are the same thing, which tables
/// share as long as nothing of it changes: then whoever was judged by the one is judged by
/// the other.
#[derive(Clone, Debug)]
pub struct Basis(Held);

#[derive(Clone, Debug)]
enum Held {
    Configured(Arc<Configured>),
    Tenant(Arc<TenantAccess>),
}

impl PartialEq for Basis {
    fn eq(&self, other: &Self) -> bool {
        // Each keeps what it points to, so a place is not used again meanwhile.
        match (&self.0, &other.0) {
            (Held::Configured(mine), Held::Configured(other)) => Arc::ptr_eq(mine, other),
            (Held::Tenant(mine), Held::Tenant(other)) => Arc::ptr_eq(mine, other),
            _ => false,
        }
    }
}

/// Tokens of the configuration and what their holders may do.
#[derive(Debug, Default, PartialEq)]
struct Configured {
    principals: Vec<Principal>,
    by_token: FixedMap<TokenDigest, PrincipalId>,
}

/// Tokens and grants of one revision. Deny unless granted.
#[derive(Debug, Default)]
pub struct AccessTable {
    configured: Arc<Configured>,
    /// Tokens of the configuration whose holders run the cluster.
    operators: FixedSet<TokenDigest>,
    /// Ids of workloads that run the cluster.
    operator_workloads: FixedSet<Box<str>>,
    /// What is not in the configuration.
    credentials: Option<Arc<CredentialTable>>,
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
        let mut configured = Configured::default();
        for (digest, principal) in entries {
            let count = configured.principals.len();
            assert!(
                count < PRINCIPALS_MAX,
                "more than {PRINCIPALS_MAX} principals"
            );
            let id = PrincipalId(u32::try_from(count).expect("bounded above"));
            configured.principals.push(principal);
            configured.by_token.entry(digest).or_insert(id);
        }
        Self {
            configured: Arc::new(configured),
            ..Self::default()
        }
    }

    /// The same table, which shares the tokens of the configuration with the table `before`
    /// if they are the same: whoever holds one is not judged again.
    #[must_use]
    pub fn sharing(mut self, before: &Self) -> Self {
        if self.configured == before.configured {
            self.configured = Arc::clone(&before.configured);
        }
        self
    }

    /// The same table, which also takes the credentials that the cluster knows.
    #[must_use]
    pub fn with_credentials(self, credentials: Arc<CredentialTable>) -> Self {
        Self {
            credentials: Some(credentials),
            ..self
        }
    }

    /// The same table, in which the holders of these tokens of the configuration run the
    /// cluster: they may read and write everything that administrators can. On the data
    /// plane they have their grants and nothing more.
    #[must_use]
    pub fn with_operators(self, tokens: impl IntoIterator<Item = TokenDigest>) -> Self {
        Self {
            operators: tokens.into_iter().collect(),
            ..self
        }
    }

    /// The same table, in which workloads of these ids run the cluster, as
    /// [`AccessTable::with_operators`] says of tokens. A token for one of them does not.
    #[must_use]
    pub fn with_operator_workloads(self, ids: impl IntoIterator<Item = Box<str>>) -> Self {
        Self {
            operator_workloads: ids.into_iter().collect(),
            ..self
        }
    }

    /// Whether somebody runs the cluster.
    #[must_use]
    pub fn is_operator(&self, caller: &Caller) -> bool {
        match caller {
            Caller::Configured { digest, .. } => self.operators.contains(digest),
            Caller::Known(known) => match &known.proof {
                Proof::Workload(id) => self.operator_workloads.contains(id.text()),
                Proof::Token(_) | Proof::ApiKey(_) => false,
            },
        }
    }

    /// The name of the tenant whose data somebody sees, if the cluster knows them.
    #[must_use]
    pub fn tenant_name(&self, caller: &Caller) -> Option<&str> {
        match caller {
            Caller::Configured { .. } => None,
            Caller::Known(known) => self.credentials.as_ref()?.tenant_name(known),
        }
    }

    /// What the cluster knows, if it is there yet: for whoever issues credentials.
    #[must_use]
    pub fn credentials(&self) -> Option<&Arc<CredentialTable>> {
        self.credentials.as_ref()
    }

    /// Checks what somebody shows: a token of the configuration, or a credential that the
    /// cluster knows.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn admit(&self, wall: WallMs, shown: Credentials<'_>) -> Result<Caller, AuthError> {
        match &self.credentials {
            Some(table) if shown.are_known_by_form() => {
                Ok(Caller::Known(table.admit(wall, shown)?))
            }
            _ if shown.bearer.is_empty() => Err(AuthError::Missing),
            _ => {
                let digest = TokenDigest::of(shown.bearer);
                let id = self.authenticate(&digest).ok_or(AuthError::UnknownKey)?;
                let tenant = self.principal(id).tenant;
                Ok(Caller::Configured { id, digest, tenant })
            }
        }
    }

    /// Whether somebody whom an earlier table let in, or this one at an earlier time, is let
    /// in still. From here on it may do what this table says.
    ///
    /// # Errors
    /// Why not: its connection ends.
    pub fn still_valid(&self, wall: WallMs, caller: &mut Caller) -> Result<(), AuthError> {
        match caller {
            Caller::Configured { id, digest, tenant } => {
                let found = self.authenticate(digest);
                let same = found.filter(|id| self.principal(*id).tenant == *tenant);
                *id = same.ok_or(AuthError::UnknownKey)?;
                Ok(())
            }
            Caller::Known(known) => {
                let table = self.credentials.as_ref().ok_or(AuthError::UnknownKey)?;
                table.still_valid(wall, known)
            }
        }
    }

    /// What a part holds here; `None` of a tenant that the cluster does not know.
    #[must_use]
    pub fn basis(&self, part: Part) -> Option<Basis> {
        let held = match part {
            Part::Configured => Held::Configured(Arc::clone(&self.configured)),
            Part::Tenant(tenant) => Held::Tenant(self.credentials.as_ref()?.tenant(tenant)?),
        };
        Some(Basis(held))
    }

    /// When [`AccessTable::still_valid`] is to be asked again although no new table came.
    #[must_use]
    pub fn over_at(&self, caller: &Caller) -> Option<WallMs> {
        match caller {
            Caller::Configured { .. } => None,
            Caller::Known(known) => self.credentials.as_ref()?.over_at(known),
        }
    }

    /// Everything that somebody may do on one resource of its tenant.
    ///
    /// # Panics
    /// With somebody of the configuration who was not let in by this table.
    #[must_use]
    pub fn allowed(&self, caller: &Caller, kind: ResourceKind, name: &ResourceName) -> Permissions {
        match (caller, &self.credentials) {
            (Caller::Configured { id, .. }, _) => self.permissions(*id, kind, name),
            (Caller::Known(known), Some(table)) => table.permissions(known, kind, name),
            (Caller::Known(_), None) => Permissions::NONE,
        }
    }

    /// Who holds the token. The lookup is by digest, so its time says nothing
    /// about how much of a guess was right.
    #[must_use]
    pub fn authenticate(&self, digest: &TokenDigest) -> Option<PrincipalId> {
        self.configured.by_token.get(digest).copied()
    }

    /// The principal's entry.
    ///
    /// # Panics
    /// With an id of another table.
    #[must_use]
    pub fn principal(&self, id: PrincipalId) -> &Principal {
        &self.configured.principals[id.0 as usize]
    }

    /// Whom the audit log names: as long as a principal may be. Subjects of two tenants may
    /// have one text, and a name of the configuration may be a subject somewhere.
    ///
    /// # Errors
    /// [`AuthError::UnknownKey`]: the table does not know them any more.
    pub fn audited(&self, caller: &Caller) -> Result<Box<str>, AuthError> {
        let name = match caller {
            Caller::Configured { digest, .. } => {
                let id = self.authenticate(digest).ok_or(AuthError::UnknownKey)?;
                format!("config:{}", self.principal(id).name)
            }
            Caller::Known(known) => {
                let tenant = self.tenant_name(caller).ok_or(AuthError::UnknownKey)?;
                format!("{tenant}/{}", known.subject)
            }
        };
        Ok(bounded(name))
    }

    /// What to call somebody: the name in the configuration, or the subject of the
    /// credential. Empty when the configuration does not know the token any more.
    #[must_use]
    pub fn name_of<'a>(&'a self, caller: &'a Caller) -> &'a str {
        match caller {
            Caller::Configured { digest, .. } => self
                .authenticate(digest)
                .map_or("", |id| &self.principal(id).name),
            Caller::Known(known) => &known.subject,
        }
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

/// As long as a principal may be; what is cut is told by a hash of all of it.
#[must_use]
pub fn bounded(principal: String) -> Box<str> {
    if principal.len() <= PRINCIPAL_BYTES_MAX {
        return principal.into();
    }
    let digest = Sha256::digest(principal.as_bytes());
    let tail: String = digest[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let mut end = PRINCIPAL_BYTES_MAX - tail.len() - 1;
    while !principal.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}#{tail}", &principal[..end]).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::{TableBuilder, TenantFacts};
    use crate::policies::Policies;
    use crate::spiffe::SpiffeId;
    use crate::token::Realm;
    use pinion_metadata::{ActionPattern, PolicyObject, Subject};

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
        assert!(!Permissions::PUT.allow(Permission::ReadWrite));
        assert!(!Permissions::READ.allow(Permission::ReadWrite));
        assert!(
            Permissions::READ
                .and(Permissions::PUT)
                .allow(Permission::ReadWrite)
        );
        assert!(Permissions::NONE.allow(Permission::None));
    }

    #[test]
    fn only_who_is_named_an_operator_is_one() {
        let digest = TokenDigest::of(b"secret");
        let caller = |table: &AccessTable| {
            let shown = Credentials {
                bearer: b"secret",
                workload: None,
            };
            table.admit(WallMs(0), shown).expect("known")
        };
        let plain = table();
        assert!(!plain.is_operator(&caller(&plain)));
        assert_eq!(plain.tenant_name(&caller(&plain)), None);
        let named = table().with_operators([digest]);
        assert!(named.is_operator(&caller(&named)));
        let named = named.with_credentials(credentials());
        assert!(named.is_operator(&caller(&named)), "it stays so");
        let id = SpiffeId::parse("spiffe://cluster.local/a").expect("an id");
        let shown = Credentials {
            bearer: b"",
            workload: Some(&id),
        };
        let workload = named.admit(WallMs(0), shown).expect("known");
        assert!(!named.is_operator(&workload));
        assert_eq!(named.tenant_name(&workload), Some("t7"));
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

    /// The cluster knows one workload, of tenant 7.
    fn credentials() -> Arc<CredentialTable> {
        let domain = ("cluster.local".into(), "t7".into());
        let mut builder = TableBuilder::new(Realm::of(&[0; 16]), vec![domain]);
        let mut policies = Policies::new("t7");
        policies.allow(
            &Subject::parse("spiffe://cluster.local/a").expect("a subject"),
            ActionPattern::parse("cache.read").expect("an action"),
            &PolicyObject::parse("cache:t7/*").expect("an object"),
        );
        let facts = TenantFacts {
            id: TenantId(7),
            name: "t7".into(),
            keys: None,
            api_keys: Vec::new(),
            revoked_tokens: Vec::new(),
            revoked_subjects: Vec::new(),
            policies,
        };
        builder.handle_tenant(facts).expect("no API keys");
        builder.poll_table().expect("a table")
    }

    #[test]
    fn tokens_of_the_configuration_and_credentials_of_the_cluster_are_let_in_alike() {
        let workload = SpiffeId::parse("spiffe://cluster.local/a").expect("an id");
        let show = |bearer: &'static [u8]| Credentials {
            bearer,
            workload: Some(&workload),
        };
        let now = WallMs(0);
        let without = table();
        let refused = |shown| without.admit(now, shown).expect_err("refused");
        assert_eq!(refused(show(b"")), AuthError::Missing);
        assert_eq!(refused(show(b"guess")), AuthError::UnknownKey);

        let both = table().with_credentials(credentials());
        let mut reader = both.admit(now, show(b"secret")).expect("a token");
        let mut workload = both.admit(now, show(b"")).expect("a workload");
        let guess = both.admit(now, show(b"guess")).expect_err("a guess");
        assert_eq!(guess, AuthError::UnknownKey);
        assert_eq!(
            (reader.tenant(), workload.tenant()),
            (TenantId(1), TenantId(7))
        );
        let name = ResourceName::parse("payments/eu/orders").expect("a name");
        let may = |table: &AccessTable, caller: &Caller| {
            table.allowed(caller, ResourceKind::Cache, &name)
        };
        assert_eq!(
            may(&both, &reader),
            Permissions::READ.and(Permissions::WRITE)
        );
        assert_eq!(may(&both, &workload), Permissions::READ);
        assert_eq!(both.over_at(&reader), None);

        // The next table has the token at another place, and no cluster.
        let someone = Principal {
            name: "someone".into(),
            tenant: TenantId(1),
            grants: Vec::new(),
        };
        let next = AccessTable::new([
            (TokenDigest::of(b"other"), someone.clone()),
            (TokenDigest::of(b"secret"), someone.clone()),
        ]);
        assert_eq!(next.still_valid(now, &mut reader), Ok(()));
        assert_eq!(may(&next, &reader), Permissions::NONE);
        let gone = Err(AuthError::UnknownKey);
        assert_eq!(next.still_valid(now, &mut workload), gone);
        assert_eq!(may(&next, &workload), Permissions::NONE);
        assert_eq!(both.still_valid(now, &mut workload), Ok(()));

        // A token that is given to another tenant does not take its connections along.
        let moved = Principal {
            tenant: TenantId(2),
            ..someone
        };
        let moved = AccessTable::new([(TokenDigest::of(b"secret"), moved)]);
        assert_eq!(moved.still_valid(now, &mut reader), gone);
    }

    #[test]
    fn a_part_is_the_same_as_long_as_tables_share_it() {
        let first = table().with_credentials(credentials());
        let shared = Arc::clone(first.credentials().expect("given"));
        let tenant = Part::Tenant(TenantId(7));
        let same = table().with_credentials(shared).sharing(&first);
        for part in [Part::Configured, tenant] {
            assert!(first.basis(part).is_some(), "{part:?}");
            assert_eq!(first.basis(part), same.basis(part), "{part:?}");
        }
        assert_ne!(first.basis(Part::Configured), first.basis(tenant));
        // Equal and not shared: nobody compared them.
        assert_ne!(
            table().basis(Part::Configured),
            first.basis(Part::Configured)
        );
        let other = AccessTable::default().with_credentials(credentials());
        let other = other.sharing(&first);
        for part in [Part::Configured, tenant] {
            assert_ne!(first.basis(part), other.basis(part), "{part:?}");
        }
        assert_eq!(first.basis(Part::Tenant(TenantId(8))), None);
        assert_eq!(table().basis(tenant), None);
    }

    #[test]
    fn partial_wildcards_are_refused() {
        for text in ["a*", "a/*/b", "", "/**", "**/a"] {
            assert!(Scope::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn long_principals_stay_apart() {
        let long = |end: &str| bounded(format!("acme/{}{end}", "ä".repeat(200)));
        assert!(long("a").len() <= PRINCIPAL_BYTES_MAX);
        assert_ne!(long("a"), long("b"));
        assert_eq!(&*bounded("acme/p:ana".into()), "acme/p:ana");
    }
}
