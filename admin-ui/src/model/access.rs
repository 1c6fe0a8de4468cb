//! Whose things these are, and who may do what with them.

use serde::Serialize;

use super::{Deletion, Fresh, Level, Listing, State, page};

/// What is used of a quota.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Usage {
    /// Used; `None` where nobody counts it.
    pub used: Option<u64>,
    /// At most; `None` is no quota.
    pub quota: Option<u64>,
}

/// A tenant.
#[derive(Clone, Debug, Serialize)]
pub struct TenantRow {
    /// What it is called.
    pub name: String,
    /// What people say it is.
    pub description: String,
    /// How it is.
    pub state: State,
    /// Of one that is deleted: time until what is in it may go, milliseconds.
    pub purge_in_ms: Option<u64>,
    /// Namespaces it has.
    pub namespaces: u64,
    /// Streams, queues and caches.
    pub resources: Usage,
    /// Bytes on disk that durable resources ask for.
    pub storage_bytes: Usage,
    /// Connections.
    pub connections: Usage,
    /// Records a second.
    pub publish_per_s: Usage,
    /// Bytes of memory that caches ask for.
    pub cache_bytes: Usage,
}

/// Tenants there are.
#[derive(Clone, Debug, Serialize)]
pub struct Tenants {
    /// How the list was asked for.
    pub list: Listing,
    /// The tenants.
    pub rows: Vec<TenantRow>,
    /// What the numbers are worth.
    pub fresh: Fresh,
}

page!(Tenants, "tenants.html", "tenants", live: false, |_page| "Tenants");

/// A namespace.
#[derive(Clone, Debug, Serialize)]
pub struct NamespaceRow {
    /// What it is called.
    pub name: String,
    /// What people say it is.
    pub description: String,
    /// How it is.
    pub state: State,
    /// Streams, queues and caches in it.
    pub resources: Usage,
    /// Records a second.
    pub publish_per_s: Usage,
    /// How often what was asked of it has changed.
    pub generation: u64,
    /// Of one that is deleted: time until what is in it may go, milliseconds.
    pub purge_in_ms: Option<u64>,
}

/// Namespaces of a tenant.
#[derive(Clone, Debug, Serialize)]
pub struct Namespaces {
    /// Whose.
    pub tenant: String,
    /// That the tenant is deleted, if it is.
    pub deletion: Option<Deletion>,
    /// What that is worth.
    pub deletion_fresh: Fresh,
    /// How the list was asked for.
    pub list: Listing,
    /// The namespaces.
    pub rows: Vec<NamespaceRow>,
    /// What the numbers are worth.
    pub fresh: Fresh,
}

page!(Namespaces, "namespaces.html", "namespaces", live: false, |page| format!("Namespaces of {}", page.tenant));

/// One policy.
#[derive(Clone, Debug, Serialize)]
pub struct PolicyRow {
    /// Whom it is for.
    pub subject: String,
    /// What they may do.
    pub action: String,
    /// On what.
    pub object: String,
    /// When it was made, milliseconds since 1970.
    pub made_unix_ms: u64,
}

/// One grouping.
#[derive(Clone, Debug, Serialize)]
pub struct GroupingRow {
    /// Who.
    pub subject: String,
    /// Has this role.
    pub role: String,
    /// When it was made, milliseconds since 1970.
    pub made_unix_ms: u64,
}

/// Who may do what in a tenant.
#[derive(Clone, Debug, Serialize)]
pub struct Access {
    /// Which tenant.
    pub tenant: String,
    /// How the policies were asked for.
    pub list: Listing,
    /// The policies.
    pub policies: Vec<PolicyRow>,
    /// Roles that subjects have.
    pub groupings: Vec<GroupingRow>,
    /// Actions to choose from when a policy is added.
    pub actions: Vec<String>,
    /// What both are worth.
    pub fresh: Fresh,
}

page!(Access, "access.html", "access", live: false, |page| format!("Access in {}", page.tenant));

/// An identity provider.
#[derive(Clone, Debug, Serialize)]
pub struct ProviderRow {
    /// As its tokens name it.
    pub issuer: String,
    /// For whom its tokens must be.
    pub audiences: Vec<String>,
    /// Where its keys are.
    pub keys_from: String,
    /// Algorithms it is held to.
    pub algorithms: Vec<String>,
    /// Whether this node asks it.
    pub state: State,
    /// Exchanges since this node started (live); `None` where nobody counts them.
    pub exchanges: Option<u64>,
    /// Exchanges refused since this node started (live).
    pub refused: Option<u64>,
    /// Why the last one was refused; empty when none was.
    pub last_refusal: String,
    /// How long ago that was, milliseconds.
    pub last_refused_ms: Option<u64>,
}

/// Identity providers of a tenant.
#[derive(Clone, Debug, Serialize)]
pub struct Providers {
    /// Whose.
    pub tenant: String,
    /// The providers.
    pub rows: Vec<ProviderRow>,
    /// What the numbers are worth.
    pub fresh: Fresh,
}

page!(Providers, "providers.html", "providers", live: false, |page| format!("Identity providers of {}", page.tenant));

/// A key that signs tokens.
#[derive(Clone, Debug, Serialize)]
pub struct SigningKeyRow {
    /// As tokens name it.
    pub key_id: String,
    /// Previous, current, next.
    pub role: String,
    /// How good that is.
    pub level: Level,
    /// Since when, milliseconds since 1970, if that is known.
    pub from_unix_ms: Option<u64>,
    /// Until when, milliseconds since 1970, if that is known.
    pub until_unix_ms: Option<u64>,
}

/// A credential of a machine. The key itself is stored nowhere.
#[derive(Clone, Debug, Serialize)]
pub struct ApiKeyRow {
    /// What it is called.
    pub name: String,
    /// The part that may be seen.
    pub prefix: String,
    /// Whom it speaks for.
    pub principal: String,
    /// What it may do.
    pub rights: Vec<String>,
    /// When it was made, milliseconds since 1970.
    pub made_unix_ms: u64,
    /// When it ends, milliseconds since 1970, if it does.
    pub expires_unix_ms: Option<u64>,
    /// How it is.
    pub state: State,
}

/// Keys of a tenant.
#[derive(Clone, Debug, Serialize)]
pub struct Keys {
    /// Whose.
    pub tenant: String,
    /// What signs its tokens.
    pub signing: Vec<SigningKeyRow>,
    /// What that is worth.
    pub signing_fresh: Fresh,
    /// Its API keys.
    pub api_keys: Vec<ApiKeyRow>,
    /// How they were asked for.
    pub list: Listing,
    /// What they are worth.
    pub fresh: Fresh,
}

page!(Keys, "keys.html", "keys", live: false, |page| format!("Keys of {}", page.tenant));
