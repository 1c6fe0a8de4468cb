//! What every core checks credentials with: an immutable table, built from what the cluster
//! knows of each tenant and shared by all.
//!
//! A change of one tenant rebuilds what belongs to that tenant; the rest is shared with the
//! table before. Deny unless listed.

use std::collections::BTreeSet;
use std::sync::Arc;

use pinion_types::{FixedMap, FixedSet, ResourceKind, ResourceName, WallMs};

use crate::TenantId;
use crate::access::Permissions;
use crate::api_key::{ApiKey, ApiKeyDigest};
use crate::error::AuthError;
use crate::keyring::Keyring;
use crate::lifetime::Lifetime;
use crate::policies::{Policies, RIGHTS_STEPS_MAX};
use crate::rights::Rights;
use crate::spiffe::SpiffeId;
use crate::token::{Claims, Jti, Kid, Realm, SKEW_MS, Shown};
use crate::upstream::Upstream;

/// Most API keys of one table, over all tenants. Each takes about 200 bytes.
pub const API_KEYS_MAX: usize = 100_000;

/// What is known of one tenant's credentials and of what they may do.
#[derive(Clone, Debug)]
pub struct TenantFacts {
    /// Its number.
    pub id: TenantId,
    /// Its name, as tokens have it.
    pub name: Box<str>,
    /// What its tokens are signed with; without it no token is taken.
    pub keys: Option<Keyring>,
    /// Its API keys that are not revoked.
    pub api_keys: Vec<ApiKeyFacts>,
    /// Tokens that are revoked, by number. A row may go when its token is over.
    pub revoked_tokens: Vec<Jti>,
    /// Subjects of whom no token counts that was issued before the given moment.
    pub revoked_subjects: Vec<(Box<str>, WallMs)>,
    /// Who may do what.
    pub policies: Policies,
}

/// One API key.
#[derive(Clone, Debug)]
pub struct ApiKeyFacts {
    /// What it is looked up by.
    pub digest: ApiKeyDigest,
    /// For whom it speaks.
    pub subject: Box<str>,
    /// The first moment at which it is over, if it ever is.
    pub expires: Option<WallMs>,
}

/// One tenant's part of the table.
#[derive(Debug)]
pub(crate) struct TenantAccess {
    name: Box<str>,
    /// Public key of each name, and until when it counts.
    keys: Vec<(Kid, [u8; 32], Option<WallMs>)>,
    api_keys: FixedMap<ApiKeyDigest, (Arc<str>, Option<WallMs>)>,
    revoked_tokens: FixedSet<Jti>,
    revoked_subjects: FixedMap<Box<str>, WallMs>,
    policies: Policies,
    /// Rights of the subjects that come without groups: those of API keys, and workloads of
    /// the tenant's trust domains. Found once here, so that a connection costs a lookup.
    rights: FixedMap<Box<str>, Arc<Rights>>,
    /// Subjects of whom there are no rights, for [`NotHeld::Rights`].
    without_rights: usize,
}

impl PartialEq for TenantAccess {
    /// Whether the same is said of the tenant. What was made of that is the same then, and to
    /// look at it, too, would be to look at what is shared once for each who shares it.
    fn eq(&self, other: &Self) -> bool {
        let Self {
            name,
            keys,
            api_keys,
            revoked_tokens,
            revoked_subjects,
            policies,
            rights: _,
            without_rights: _,
        } = self;
        *name == other.name
            && *keys == other.keys
            && *api_keys == other.api_keys
            && *revoked_tokens == other.revoked_tokens
            && *revoked_subjects == other.revoked_subjects
            && *policies == other.policies
    }
}

impl TenantAccess {
    /// What a tenant's facts say, when its workloads are of these trust domains.
    fn new(facts: TenantFacts, domains: &[Box<str>]) -> Self {
        let mut keys = Vec::new();
        if let Some(ring) = facts.keys {
            let mut add = |public, until| keys.push((Kid::of(&public), public, until));
            add(ring.current.public, None);
            add(ring.next.public, None);
            if let Some((key, until)) = ring.previous {
                add(key.public, Some(until));
            }
        }
        let policies = facts.policies;
        let subjects = facts.api_keys.iter().map(|key| &*key.subject);
        let subjects: BTreeSet<&str> = subjects.chain(policies.workloads(domains)).collect();
        let (rights, without_rights) = policies.of_each(&subjects);
        let api_key = |key: ApiKeyFacts| (key.digest, (key.subject.into(), key.expires));
        Self {
            name: facts.name,
            keys,
            api_keys: facts.api_keys.into_iter().map(api_key).collect(),
            revoked_tokens: facts.revoked_tokens.into_iter().collect(),
            revoked_subjects: facts.revoked_subjects.into_iter().collect(),
            policies,
            rights,
            without_rights,
        }
    }

    /// What a subject may do that comes without groups.
    fn rights(&self, subject: &str) -> Arc<Rights> {
        self.rights.get(subject).cloned().unwrap_or_default()
    }

    /// The key of that name, while it counts.
    fn key(&self, kid: Kid, wall: WallMs) -> Option<&[u8; 32]> {
        let named = self.keys.iter().find(|(name, _, _)| *name == kid);
        let counts = |until: &Option<WallMs>| until.is_none_or(|until| wall < until);
        named.and_then(|(_, public, until)| counts(until).then_some(public))
    }

    fn revoked(&self, token: &TokenFacts, subject: &str) -> bool {
        let subject = self.revoked_subjects.get(subject);
        self.revoked_tokens.contains(&token.jti)
            || subject.is_some_and(|before| token.issued < *before)
    }
}

/// What somebody shows.
#[derive(Clone, Copy, Debug)]
pub struct Credentials<'a> {
    /// What its first message carries: a token, an API key, or nothing.
    pub bearer: &'a [u8],
    /// What the certificate says that its connection was made with, if it has one.
    pub workload: Option<&'a SpiffeId>,
}

impl Credentials<'_> {
    /// Whether they can only be meant for a [`CredentialTable`], and not as a token of the
    /// configuration.
    pub(crate) fn are_known_by_form(&self) -> bool {
        match self.bearer {
            b"" => self.workload.is_some(),
            bearer => Shown::recognise(bearer) || ApiKey::recognise(bearer),
        }
    }
}

/// Somebody whose credential was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Whose data it sees.
    pub tenant: TenantId,
    /// For whom the credential speaks.
    pub subject: Arc<str>,
    /// What it may do; nothing besides.
    pub rights: Arc<Rights>,
    /// By what.
    pub proof: Proof,
}

/// What somebody showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A token of ours.
    Token(TokenFacts),
    /// An API key; what it may do is what its subject may.
    ApiKey(ApiKeyDigest),
    /// A certificate; what it may do is what its id may, which is the subject.
    Workload(SpiffeId),
}

/// What a token says, of what is asked again while its connection lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenFacts {
    /// Its number.
    pub jti: Jti,
    /// What it was signed with.
    pub kid: Kid,
    /// When it was issued.
    pub issued: WallMs,
    /// When it is over.
    pub expires: WallMs,
}

/// Credentials of one revision, for all tenants.
#[derive(Clone, Debug)]
pub struct CredentialTable {
    realm: Realm,
    tenants: FixedMap<TenantId, Arc<TenantAccess>>,
    /// Whose key a name is. Rebuilt only when some tenant's keys change.
    by_kid: Arc<FixedMap<Kid, TenantId>>,
    /// Whose an API key is. Rebuilt only when some tenant's API keys change.
    by_digest: Arc<FixedMap<ApiKeyDigest, TenantId>>,
    /// Whose the workloads of a trust domain are. Rebuilt only when one of those tenants
    /// comes or goes.
    by_domain: Arc<FixedMap<Box<str>, TenantId>>,
}

const UNKNOWN: AuthError = AuthError::UnknownKey;

impl CredentialTable {
    fn empty(realm: Realm) -> Self {
        Self {
            realm,
            tenants: FixedMap::default(),
            by_kid: Arc::default(),
            by_digest: Arc::default(),
            by_domain: Arc::default(),
        }
    }

    /// Checks what somebody shows: a token or an API key of any tenant, or, without one, the
    /// certificate of its connection. Costs one signature, one hash or one lookup.
    ///
    /// # Errors
    /// What is wrong with it. A bearer of any other form is [`AuthError::UnknownKey`].
    pub fn admit(&self, wall: WallMs, shown: Credentials<'_>) -> Result<Known, AuthError> {
        match shown.workload {
            Some(workload) if shown.bearer.is_empty() => self.admit_workload(workload),
            None if shown.bearer.is_empty() => Err(AuthError::Missing),
            _ => self.admit_bearer(wall, shown.bearer),
        }
    }

    fn admit_workload(&self, id: &SpiffeId) -> Result<Known, AuthError> {
        const NOBODY: AuthError = AuthError::WrongIssuer;
        let tenant = *self.by_domain.get(id.trust_domain()).ok_or(NOBODY)?;
        let known = self.tenants.get(&tenant).ok_or(NOBODY)?;
        Ok(Known {
            tenant,
            subject: id.text().into(),
            rights: known.rights(id.text()),
            proof: Proof::Workload(id.clone()),
        })
    }

    fn admit_bearer(&self, wall: WallMs, bearer: &[u8]) -> Result<Known, AuthError> {
        if Shown::recognise(bearer) {
            return self.admit_token(wall, &Shown::parse(bearer)?);
        }
        if !ApiKey::recognise(bearer) {
            return Err(UNKNOWN);
        }
        let key = ApiKey::parse(bearer).ok_or(AuthError::Malformed {
            what: "not an API key of the one form that is made here",
        })?;
        let tenant = *self.by_digest.get(&key.digest).ok_or(UNKNOWN)?;
        let known = self.tenants.get(&tenant).ok_or(UNKNOWN)?;
        let (subject, expires) = known.api_keys.get(&key.digest).ok_or(UNKNOWN)?;
        api_key_lifetime(*expires, wall)?;
        Ok(Known {
            tenant,
            subject: subject.clone(),
            rights: known.rights(subject),
            proof: Proof::ApiKey(key.digest),
        })
    }

    fn admit_token(&self, wall: WallMs, token: &Shown<'_>) -> Result<Known, AuthError> {
        let kid = token.kid();
        let tenant = *self.by_kid.get(&kid).ok_or(UNKNOWN)?;
        let known = self.tenants.get(&tenant).ok_or(UNKNOWN)?;
        let public = known.key(kid, wall).ok_or(UNKNOWN)?;
        let claims: Claims = token.verify(public, &self.realm, wall)?;
        if claims.tenant != known.name {
            return Err(AuthError::WrongTenant);
        }
        let facts = TokenFacts {
            jti: claims.jti,
            kid,
            issued: claims.issued,
            expires: claims.expires,
        };
        if known.revoked(&facts, &claims.subject) {
            return Err(AuthError::Revoked);
        }
        let rights = Rights::parse(&claims.permissions, &known.name)?;
        Ok(Known {
            tenant,
            subject: claims.subject.into(),
            rights: Arc::new(rights),
            proof: Proof::Token(facts),
        })
    }

    /// Whether what was admitted by an earlier table, or at an earlier time, still counts.
    /// Its rights become those that its subject has by this table; those of a token stay
    /// what the token says.
    ///
    /// # Errors
    /// Why not: its connection ends.
    pub fn still_valid(&self, wall: WallMs, known: &mut Known) -> Result<(), AuthError> {
        let tenant = self.tenants.get(&known.tenant).ok_or(UNKNOWN)?;
        match &known.proof {
            Proof::Token(token) => {
                tenant.key(token.kid, wall).ok_or(UNKNOWN)?;
                let lifetime = Lifetime {
                    from: None,
                    expires: token.expires,
                };
                lifetime.check(wall, SKEW_MS)?;
                if tenant.revoked(token, &known.subject) {
                    return Err(AuthError::Revoked);
                }
                Ok(())
            }
            Proof::ApiKey(digest) => {
                let (subject, expires) = tenant.api_keys.get(digest).ok_or(UNKNOWN)?;
                if *subject != known.subject {
                    return Err(UNKNOWN);
                }
                api_key_lifetime(*expires, wall)?;
                known.rights = tenant.rights(subject);
                Ok(())
            }
            // To which tenant a trust domain is given does not change while a node runs.
            Proof::Workload(_) => {
                known.rights = tenant.rights(&known.subject);
                Ok(())
            }
        }
    }

    /// What is held of a tenant; the same in every table until something of it changes.
    pub(crate) fn tenant(&self, tenant: TenantId) -> Option<Arc<TenantAccess>> {
        self.tenants.get(&tenant).cloned()
    }

    /// The name of somebody's tenant, while there is one.
    #[must_use]
    pub fn tenant_name(&self, known: &Known) -> Option<&str> {
        self.tenants.get(&known.tenant).map(|tenant| &*tenant.name)
    }

    /// What somebody may do with a resource of its tenant.
    #[must_use]
    pub fn permissions(
        &self,
        known: &Known,
        kind: ResourceKind,
        name: &ResourceName,
    ) -> Permissions {
        let tenant = self.tenants.get(&known.tenant);
        tenant.map_or(Permissions::NONE, |tenant| {
            known.rights.permissions(&tenant.name, kind, name)
        })
    }

    /// What somebody may do in a tenant for whom one of its issuers vouches: what a token may
    /// be issued for.
    #[must_use]
    pub fn rights(&self, tenant: TenantId, who: &Upstream) -> Rights {
        let Some(tenant) = self.tenants.get(&tenant) else {
            return Rights::default();
        };
        let person = format!("p:{}", who.subject);
        let groups: Vec<_> = who.groups.iter().map(|name| format!("g:{name}")).collect();
        let who = [&person].into_iter().chain(&groups);
        tenant.policies.rights(who.map(String::as_str))
    }

    /// When [`CredentialTable::still_valid`] is to be asked again although no new table
    /// came: the first moment at which the credential is over.
    #[must_use]
    pub fn over_at(&self, known: &Known) -> Option<WallMs> {
        match &known.proof {
            Proof::Token(token) => Some(WallMs(token.expires.0.saturating_add(SKEW_MS))),
            Proof::ApiKey(digest) => {
                let tenant = self.tenants.get(&known.tenant)?;
                tenant.api_keys.get(digest)?.1
            }
            // As long as its connection: the certificate was checked when that began.
            Proof::Workload(_) => None,
        }
    }
}

/// The end of an API key is ours alone to say: no other clock is involved.
fn api_key_lifetime(expires: Option<WallMs>, wall: WallMs) -> Result<(), AuthError> {
    let Some(expires) = expires else {
        return Ok(());
    };
    let lifetime = Lifetime {
        from: None,
        expires,
    };
    lifetime.check(wall, 0)
}

/// What of a tenant the table does not hold; it holds the rest. To keep what was there before
/// would keep some that was taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotHeld {
    /// There would be more than [`API_KEYS_MAX`] API keys. None of this tenant's counts.
    #[error("{keys} API keys with those of tenant {}; at most {API_KEYS_MAX} are held", tenant.0)]
    ApiKeys {
        /// Whose are left out.
        tenant: TenantId,
        /// How many there would be.
        keys: usize,
    },
    /// Its roles are combined in so many ways that [`RIGHTS_STEPS_MAX`] does not reach. These
    /// subjects may do nothing, until fewer have roles that lead to so many policies.
    #[error(
        "{subjects} subjects of tenant {} have no rights: what their roles lead to takes more \
         than {RIGHTS_STEPS_MAX} steps to find",
        tenant.0
    )]
    Rights {
        /// Whose.
        tenant: TenantId,
        /// How many.
        subjects: usize,
    },
}

/// Keeps the newest table. Owned by the control core.
#[derive(Debug)]
pub struct TableBuilder {
    table: CredentialTable,
    /// Trust domains and the names of their tenants.
    domains: Vec<(Box<str>, Box<str>)>,
    by_name: FixedMap<Box<str>, TenantId>,
    /// API keys of all tenants together.
    api_keys: usize,
    changed: bool,
}

impl TableBuilder {
    /// A builder for the cluster of that realm, which knows no tenant yet. `domains` says
    /// which tenant (by name) the workloads of a trust domain belong to; of a domain that is
    /// there twice the first counts.
    #[must_use]
    pub fn new(realm: Realm, domains: Vec<(Box<str>, Box<str>)>) -> Self {
        let mut named = FixedSet::default();
        let first = |(domain, _): &(Box<str>, _)| named.insert(domain.clone());
        Self {
            table: CredentialTable::empty(realm),
            domains: domains.into_iter().filter(first).collect(),
            by_name: FixedMap::default(),
            api_keys: 0,
            changed: true,
        }
    }

    /// Takes what is now known of one tenant, in place of what was.
    ///
    /// A key that two tenants claim stays with the one that had it first: both halves of it
    /// are drawn at random, so this is a mistake of somebody's, and never a way in.
    ///
    /// # Errors
    /// [`NotHeld`]; when it is both, of the API keys.
    pub fn handle_tenant(&mut self, mut facts: TenantFacts) -> Result<(), NotHeld> {
        let id = facts.id;
        // A name may be given to another tenant once the one that had it is purged.
        match self.by_name.insert(facts.name.clone(), id) {
            Some(other) if other != id => self.replace(other, None),
            _ => {}
        }
        let before = self.table.tenants.get(&id);
        let others = self.api_keys - before.map_or(0, |tenant| tenant.api_keys.len());
        let keys = others + facts.api_keys.len();
        let mut result = Ok(());
        if keys > API_KEYS_MAX {
            facts.api_keys.clear();
            result = Err(NotHeld::ApiKeys { tenant: id, keys });
        }
        let domains = self.domains_of(&facts.name);
        let tenant = TenantAccess::new(facts, &domains);
        if tenant.without_rights > 0 {
            let subjects = tenant.without_rights;
            result = result.and(Err(NotHeld::Rights {
                tenant: id,
                subjects,
            }));
        }
        // What says the same stays the same thing: nobody is judged again for it.
        if self
            .table
            .tenants
            .get(&id)
            .is_none_or(|before| **before != tenant)
        {
            self.replace(id, Some(Arc::new(tenant)));
        }
        result
    }

    /// Forgets a tenant: none of its credentials counts any more.
    pub fn handle_removed(&mut self, name: &str) {
        if let Some(id) = self.by_name.remove(name) {
            self.replace(id, None);
        }
    }

    /// Names of the tenants that are known.
    pub(crate) fn tenants(&self) -> impl Iterator<Item = Box<str>> {
        self.by_name.keys().cloned()
    }

    /// Trust domains of the tenant of that name.
    fn domains_of(&self, tenant: &str) -> Vec<Box<str>> {
        let of_it = self.domains.iter().filter(|(_, name)| **name == *tenant);
        of_it.map(|(domain, _)| domain.clone()).collect()
    }

    fn replace(&mut self, id: TenantId, tenant: Option<Arc<TenantAccess>>) {
        let before = self.table.tenants.remove(&id);
        let names = |one: &Arc<TenantAccess>| -> Vec<Kid> {
            one.keys.iter().map(|(kid, _, _)| *kid).collect()
        };
        let (old, new) = (before.as_ref().map(names), tenant.as_ref().map(names));
        if old != new {
            move_names(&mut self.table.by_kid, id, old, new);
        }
        let digests = |one: &Arc<TenantAccess>| -> Vec<ApiKeyDigest> {
            let mut all: Vec<_> = one.api_keys.keys().copied().collect();
            all.sort_unstable_by_key(|digest| digest.0);
            all
        };
        let (old, new) = (before.as_ref().map(digests), tenant.as_ref().map(digests));
        let count = |digests: &Option<Vec<_>>| digests.as_ref().map_or(0, Vec::len);
        self.api_keys = self.api_keys - count(&old) + count(&new);
        if old != new {
            move_names(&mut self.table.by_digest, id, old, new);
        }
        let domains = |one: &Arc<TenantAccess>| self.domains_of(&one.name);
        let (old, new) = (before.as_ref().map(domains), tenant.as_ref().map(domains));
        if old != new {
            move_names(&mut self.table.by_domain, id, old, new);
        }
        if let Some(tenant) = tenant {
            self.table.tenants.insert(id, tenant);
        }
        self.changed = true;
    }

    /// The newest table, if it was not handed out yet.
    pub fn poll_table(&mut self) -> Option<Arc<CredentialTable>> {
        core::mem::take(&mut self.changed).then(|| Arc::new(self.table.clone()))
    }
}

/// Takes a tenant's old names out of a map and puts its new ones in, in a copy if somebody
/// still looks at the map.
fn move_names<K: Clone + Eq + core::hash::Hash>(
    map: &mut Arc<FixedMap<K, TenantId>>,
    id: TenantId,
    old: Option<Vec<K>>,
    new: Option<Vec<K>>,
) {
    let map = Arc::make_mut(map);
    for name in old.into_iter().flatten() {
        if map.get(&name) == Some(&id) {
            map.remove(&name);
        }
    }
    for name in new.into_iter().flatten() {
        map.entry(name).or_insert(id);
    }
}
