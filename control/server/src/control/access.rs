//! Who may do what: tokens of the configuration and credentials of the metadata in
//! one table, for the cores and for the administrators' door.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pinion_auth::compile::{CredentialTable, NotHeld, TableBuilder};
use pinion_auth::token::Realm;
use pinion_metadata::{Change, Metadata, ObjectKey};
use pinion_node::access::{AccessTable, Principal, TenantId, TokenDigest};
use tokio::sync::watch;

use super::boot::tenant_name;
use super::known::Known;

/// How long changes are gathered before a table is made of them. A table costs a
/// copy of what it points to, and each core a look at every tenant that is connected
/// and at the connections of those that changed.
const GATHER: Duration = Duration::from_millis(10);

/// What the configuration says of credentials.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tokens {
    /// Tenants are as the configuration numbers them.
    pub(crate) principals: Vec<(TokenDigest, Principal)>,
    /// Those that run the cluster.
    pub(crate) operators: Vec<TokenDigest>,
    /// Trust domains and the names of their tenants.
    pub(crate) domains: Vec<(Box<str>, Box<str>)>,
    /// Workloads that run the cluster.
    pub(crate) operator_workloads: Vec<Box<str>>,
}

/// Keeps the newest table.
pub(super) struct Access {
    tokens: Tokens,
    builder: TableBuilder,
    credentials: Arc<CredentialTable>,
    table: watch::Sender<Arc<AccessTable>>,
    /// When what has changed becomes a table.
    due: Option<Instant>,
}

impl Access {
    /// As the metadata is now.
    pub(super) fn new(tokens: Tokens, metadata: &Metadata, known: &Known) -> Self {
        let realm = Realm::of(&metadata.cluster());
        let mut builder = TableBuilder::new(realm, tokens.domains.clone());
        say(builder.handle_all(metadata));
        // The first one is always there.
        let credentials = builder
            .poll_table()
            .expect("a builder that is new has a table");
        let table = Arc::new(make(&tokens, &credentials, known));
        Self {
            tokens,
            builder,
            credentials,
            table: watch::Sender::new(table),
            due: None,
        }
    }

    /// The newest table.
    pub(super) fn table(&self) -> Arc<AccessTable> {
        Arc::clone(&self.table.borrow())
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Arc<AccessTable>> {
        self.table.subscribe()
    }

    /// What changed may concern credentials.
    pub(super) fn take(&mut self, now: Instant, metadata: &Metadata, changes: &[Change]) {
        if changes.iter().any(|change| concerns(&change.key)) {
            say(self.builder.handle_changes(metadata, changes));
            self.due.get_or_insert(now + GATHER);
        }
    }

    /// The metadata is another.
    pub(super) fn replaced(&mut self, now: Instant, metadata: &Metadata) {
        say(self.builder.handle_all(metadata));
        self.due.get_or_insert(now + GATHER);
    }

    /// When [`Access::poll`] has something.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// A table that nobody has yet, if it is time for one.
    pub(super) fn poll(&mut self, now: Instant, known: &Known) -> Option<Arc<AccessTable>> {
        self.due.take_if(|due| *due <= now)?;
        if let Some(credentials) = self.builder.poll_table() {
            self.credentials = credentials;
        }
        let table = make(&self.tokens, &self.credentials, known);
        let table = Arc::new(table.sharing(&self.table()));
        self.table.send_replace(Arc::clone(&table));
        Some(table)
    }
}

fn make(tokens: &Tokens, credentials: &Arc<CredentialTable>, known: &Known) -> AccessTable {
    let named = tokens.principals.iter().map(|(digest, principal)| {
        // 0 is nobody's: of a tenant that there is not, there is nothing to see.
        let tenant = known.tenant_id(&tenant_name(principal.tenant));
        let principal = Principal {
            tenant: tenant.unwrap_or(TenantId(0)),
            ..principal.clone()
        };
        (*digest, principal)
    });
    AccessTable::new(named)
        .with_operators(tokens.operators.iter().copied())
        .with_operator_workloads(tokens.operator_workloads.iter().cloned())
        .with_credentials(Arc::clone(credentials))
}

const fn concerns(key: &ObjectKey) -> bool {
    matches!(
        key,
        ObjectKey::Tenant(_)
            | ObjectKey::SigningKeys(_)
            | ObjectKey::ApiKey { .. }
            | ObjectKey::Revocation { .. }
            | ObjectKey::Policy { .. }
            | ObjectKey::Grouping { .. }
    )
}

fn say(taken: Result<(), NotHeld>) {
    if let Err(error) = taken {
        tracing::error!(%error, "of a tenant, not all is held that its credentials are checked with");
    }
}

#[cfg(test)]
mod tests {
    use pinion_metadata::BrokerNumber;
    use pinion_node::access::Part;
    use pinion_node::map::{Directory, SpecDefaults};

    use super::*;

    #[test]
    fn the_next_table_shares_the_tokens_of_the_configuration() {
        let directory = Directory::new(1, u64::MAX, SpecDefaults::default());
        let mut known = Known::new(directory, BrokerNumber(1));
        let metadata = Metadata::genesis([1; 16]);
        let principal = Principal {
            name: "client".into(),
            tenant: TenantId(1),
            grants: Vec::new(),
        };
        let tokens = Tokens {
            principals: vec![(TokenDigest::of(b"token"), principal)],
            ..Tokens::default()
        };
        let begun = Instant::now();
        let mut access = Access::new(tokens, &metadata, &known);
        let first = access.table();
        access.replaced(begun, &metadata);
        let next = access.poll(begun + GATHER, &known);
        let next = next.expect("it was gathered for long enough");
        assert!(!Arc::ptr_eq(&first, &next));
        let configured = |table: &AccessTable| table.basis(Part::Configured);
        assert_eq!(configured(&first), configured(&next));

        // Now there is the tenant that the token is for.
        known.read(&metadata);
        access.replaced(begun, &metadata);
        let other = access.poll(begun + GATHER, &known);
        let other = other.expect("it was gathered for long enough");
        assert_ne!(configured(&next), configured(&other));
    }
}
