//! What the metadata says about who is who: its objects as this crate needs them.

use std::collections::BTreeSet;

use pinion_metadata::identity::{self, KeySource, Revoked};
use pinion_metadata::limits;
use pinion_metadata::{Body, Change, Filter, ListQuery, Metadata, Object, ObjectKey, ObjectKind};
use pinion_types::WallMs;

use crate::TenantId;
use crate::api_key::ApiKeyDigest;
use crate::compile::{ApiKeyFacts, NotHeld, TableBuilder, TenantFacts};
use crate::exchange::Issuer;
use crate::jose::Algorithm;
use crate::keyring::{Keyring, RETIRED_KEPT_MS, StoredKey};
use crate::policies::Policies;
use crate::provider::{Source, Url, UrlError};
use crate::seal::Sealed;
use crate::spiffe::SPIFFE_BYTES_MAX;
use crate::token::Jti;
use crate::upstream::{IssuerRules, SUBJECT_BYTES_MAX};

// Where both sides have a limit of their own, what one of them writes the other reads.
const _: () = assert!(limits::RETIRED_KEPT_MS == RETIRED_KEPT_MS);
const _: () = assert!(pinion_metadata::SPIFFE_BYTES_MAX == SPIFFE_BYTES_MAX);
const _: () = assert!(pinion_metadata::SUBJECT_BYTES_MAX == SUBJECT_BYTES_MAX);

/// Objects that are asked for at a time.
const PAGE: usize = 1_000;

impl TenantFacts {
    /// What the metadata says of the tenant of that name; `None` when there is none, or it is
    /// deleted.
    #[must_use]
    pub fn of(metadata: &Metadata, name: &str) -> Option<Self> {
        let tenant = alive(metadata, &ObjectKey::tenant(name))?;
        let Body::Tenant(tenant) = &tenant.body else {
            return None;
        };
        let mut facts = Self {
            id: TenantId(tenant.number.0),
            name: name.into(),
            keys: None,
            api_keys: Vec::new(),
            revoked_tokens: Vec::new(),
            revoked_subjects: Vec::new(),
            policies: Policies::new(name),
        };
        for kind in [
            ObjectKind::SigningKeys,
            ObjectKind::ApiKey,
            ObjectKind::Revocation,
            ObjectKind::Policy,
            ObjectKind::Grouping,
        ] {
            each(metadata, kind, name, |object| facts.add(object));
        }
        Some(facts)
    }

    fn add(&mut self, object: &Object) {
        match (&object.meta.key, &object.body) {
            (_, Body::SigningKeys(keys)) => self.keys = Some(Keyring::from(keys)),
            (_, Body::ApiKey(key)) => self.api_keys.push(ApiKeyFacts {
                digest: ApiKeyDigest(key.digest),
                subject: key.subject.as_str().into(),
                expires: key.expires,
            }),
            (ObjectKey::Revocation { what, .. }, Body::Revocation(revocation)) => match what {
                Revoked::Token(jti) => self.revoked_tokens.push(Jti(*jti)),
                // Without a moment: all of them, whenever they were issued.
                Revoked::Subject(subject) => self.revoked_subjects.push((
                    subject.as_str().into(),
                    revocation.issued_before.unwrap_or(WallMs(u64::MAX)),
                )),
            },
            (_, Body::Policy(policy)) => {
                let (action, object) = (policy.action, &policy.object);
                self.policies.allow(&policy.subject, action, object);
            }
            (_, Body::Grouping(grouping)) => self.policies.give(&grouping.member, &grouping.role),
            _ => {}
        }
    }
}

impl From<&identity::SigningKeys> for Keyring {
    fn from(keys: &identity::SigningKeys) -> Self {
        let stored = |key: &identity::StoredKey| StoredKey {
            public: key.public,
            sealed: Sealed::new(key.sealed),
        };
        let retired = keys.previous.as_ref();
        Self {
            current: stored(&keys.current),
            next: stored(&keys.next),
            previous: retired.map(|one| (stored(&one.key), one.until)),
        }
    }
}

impl Issuer {
    /// The issuer of that name, as a tenant has it.
    ///
    /// # Errors
    /// [`UrlError`] when its keys are nowhere that is fetched from.
    pub fn of(name: &str, issuer: &identity::Issuer) -> Result<Self, UrlError> {
        let source = match &issuer.keys {
            KeySource::Discovery(url) => Source::Discovery(Url::parse(url)?),
            KeySource::Jwks(url) => Source::Keys(Url::parse(url)?),
        };
        let algorithms = issuer.algorithms.iter().map(|one| algorithm(*one));
        let rules = IssuerRules {
            issuer: name.into(),
            audiences: issuer.audiences.clone(),
            algorithms: algorithms.collect(),
            subject_claim: issuer.subject_claim.clone(),
            groups_claim: issuer.groups_claim.clone(),
            clock_skew_s: issuer.clock_skew_s,
        };
        Ok(Self::new(rules, source))
    }
}

fn algorithm(one: identity::Algorithm) -> Algorithm {
    match one {
        identity::Algorithm::Rs256 => Algorithm::Rs256,
        identity::Algorithm::Rs384 => Algorithm::Rs384,
        identity::Algorithm::Rs512 => Algorithm::Rs512,
        identity::Algorithm::Ps256 => Algorithm::Ps256,
        identity::Algorithm::Ps384 => Algorithm::Ps384,
        identity::Algorithm::Ps512 => Algorithm::Ps512,
        identity::Algorithm::Es256 => Algorithm::Es256,
        identity::Algorithm::Es384 => Algorithm::Es384,
        identity::Algorithm::EdDsa => Algorithm::EdDsa,
    }
}

impl TableBuilder {
    /// Takes everything: at the start, and after a snapshot.
    ///
    /// # Errors
    /// [`NotHeld`], of the last tenant of whom it is so.
    pub fn handle_all(&mut self, metadata: &Metadata) -> Result<(), NotHeld> {
        let mut names = BTreeSet::new();
        each(metadata, ObjectKind::Tenant, "", |object| {
            if let ObjectKey::Tenant(name) = &object.meta.key {
                names.insert(name.clone());
            }
        });
        names.extend(self.tenants());
        self.take(metadata, names)
    }

    /// Takes the changes that led to this metadata.
    ///
    /// # Errors
    /// As [`TableBuilder::handle_all`].
    pub fn handle_changes(
        &mut self,
        metadata: &Metadata,
        changes: &[Change],
    ) -> Result<(), NotHeld> {
        let names = changes.iter().filter_map(|change| concerns(&change.key));
        self.take(metadata, names.map(Box::from).collect())
    }

    fn take(&mut self, metadata: &Metadata, names: BTreeSet<Box<str>>) -> Result<(), NotHeld> {
        let mut result = Ok(());
        for name in names {
            match TenantFacts::of(metadata, &name) {
                Some(facts) => result = self.handle_tenant(facts).and(result),
                None => self.handle_removed(&name),
            }
        }
        result
    }
}

/// The tenant whose credentials or rights a key is about.
fn concerns(key: &ObjectKey) -> Option<&str> {
    match key {
        ObjectKey::Tenant(tenant)
        | ObjectKey::SigningKeys(tenant)
        | ObjectKey::ApiKey { tenant, .. }
        | ObjectKey::Revocation { tenant, .. }
        | ObjectKey::Policy { tenant, .. }
        | ObjectKey::Grouping { tenant, .. } => Some(tenant),
        _ => None,
    }
}

fn alive<'m>(metadata: &'m Metadata, key: &ObjectKey) -> Option<&'m Object> {
    let object = metadata.get(key)?;
    object.meta.deleting.is_none().then_some(&**object)
}

/// Every object of a kind in a tenant, or of all of them without one.
fn each(metadata: &Metadata, kind: ObjectKind, tenant: &str, mut take: impl FnMut(&Object)) {
    let mut query = ListQuery {
        kind,
        under: (!tenant.is_empty()).then(|| ObjectKey::tenant(tenant)),
        filter: Filter::All,
        deleted: false,
        limit: PAGE,
        after: None,
    };
    loop {
        let page = metadata.list(&query);
        page.items.iter().for_each(|object| take(object));
        match page.next {
            Some(next) => query.after = Some(next),
            None => return,
        }
    }
}
