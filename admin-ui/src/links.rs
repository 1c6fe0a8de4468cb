//! Where pages are. Models name places, never addresses: a link can then lead nowhere but
//! to a page of ours.

use serde::{Serialize, Serializer};

use crate::escape::percent_encoded;
use crate::model::Address;

/// A page of the dashboard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// What is going on.
    Overview,
    /// Streams there are.
    Streams,
    /// One stream.
    Stream(Address),
    /// Queues there are.
    Queues,
    /// One queue.
    Queue(Address),
    /// Messages of a queue that somebody has reserved.
    InFlight(Address),
    /// Dead letters of a queue.
    DeadLetters(Address),
    /// Caches there are.
    Caches,
    /// One cache.
    Cache(Address),
    /// Who is connected.
    Sessions,
    /// Resource, shard, broker, core.
    Placement,
    /// Logs and the space they take.
    Storage,
    /// The group that decides on the metadata.
    Raft,
    /// Tenants there are.
    Tenants,
    /// Namespaces of a tenant.
    Namespaces(String),
    /// Who may do what in a tenant.
    Access(String),
    /// Identity providers of a tenant.
    Providers(String),
    /// Signing keys and API keys of a tenant.
    Keys(String),
    /// Who asked for what.
    Audit,
    /// Metrics by name.
    Metrics,
    /// Latencies by percentile.
    Latency,
    /// What this is.
    About,
}

/// Where each page is, as a router has it. `{name}` of a resource is the rest of the path.
pub const ROUTES: [(&str, &str); 22] = [
    ("overview", "/"),
    ("streams", "/ui/streams"),
    ("stream", "/ui/streams/{tenant}/{namespace}/{*name}"),
    ("queues", "/ui/queues"),
    ("queue", "/ui/queues/{tenant}/{namespace}/{*name}"),
    ("in_flight", "/ui/in-flight/{tenant}/{namespace}/{*name}"),
    (
        "dead_letters",
        "/ui/dead-letters/{tenant}/{namespace}/{*name}",
    ),
    ("caches", "/ui/caches"),
    ("cache", "/ui/caches/{tenant}/{namespace}/{*name}"),
    ("sessions", "/ui/sessions"),
    ("placement", "/ui/placement"),
    ("storage", "/ui/storage"),
    ("raft", "/ui/raft"),
    ("tenants", "/ui/tenants"),
    ("namespaces", "/ui/tenants/{tenant}/namespaces"),
    ("access", "/ui/tenants/{tenant}/access"),
    ("providers", "/ui/tenants/{tenant}/providers"),
    ("keys", "/ui/tenants/{tenant}/keys"),
    ("audit", "/ui/audit"),
    ("metrics", "/ui/metrics"),
    ("latency", "/ui/latency"),
    ("about", "/ui/about"),
];

/// Paths that are not pages: the serving room answers them.
pub mod actions {
    /// GET shows what a force action would do. Its query is `operation` and `target`, or
    /// the word of an operation with the target as its value
    /// ([`crate::model::Operation::asked_for`]), and what belongs to it: `tenant`, and
    /// `queue`, `resource`, `partition`, `action`, `object`, `role`, `prefix`, `q`.
    pub const CONFIRM: &str = "/ui/confirm";
    /// POST does it.
    pub const PERFORM: &str = "/ui/do";
    /// POST with a token begins a session.
    pub const LOGIN: &str = "/ui/login";
    /// GET of this, a slash and the id of an identity provider goes there: a link, as the
    /// policy of pages keeps forms from leading elsewhere.
    pub const LOGIN_OIDC: &str = "/ui/login/oidc";
    /// GET is where browsers come back to from there. No provider has that id.
    pub const LOGIN_OIDC_CALLBACK: &str = "/ui/login/oidc/callback";
    /// POST ends the session.
    pub const LOGOUT: &str = "/ui/logout";
    /// POST keeps light or dark in a cookie.
    pub const THEME: &str = "/ui/theme";
    /// GET `?path=` answers server-sent events with what has changed on that page.
    pub const LIVE: &str = "/ui/live";
}

impl Place {
    /// Its path, percent-encoded; always below `/`.
    #[must_use]
    pub fn path(&self) -> String {
        let of = |kind: &str, address: &Address| {
            let name: Vec<String> = address.name.split('/').map(percent_encoded).collect();
            format!(
                "/ui/{kind}/{}/{}/{}",
                percent_encoded(&address.tenant),
                percent_encoded(&address.namespace),
                name.join("/")
            )
        };
        let tenant =
            |tenant: &str, what: &str| format!("/ui/tenants/{}/{what}", percent_encoded(tenant));
        match self {
            Self::Overview => "/".to_owned(),
            Self::Streams => "/ui/streams".to_owned(),
            Self::Stream(address) => of("streams", address),
            Self::Queues => "/ui/queues".to_owned(),
            Self::Queue(address) => of("queues", address),
            Self::InFlight(address) => of("in-flight", address),
            Self::DeadLetters(address) => of("dead-letters", address),
            Self::Caches => "/ui/caches".to_owned(),
            Self::Cache(address) => of("caches", address),
            Self::Sessions => "/ui/sessions".to_owned(),
            Self::Placement => "/ui/placement".to_owned(),
            Self::Storage => "/ui/storage".to_owned(),
            Self::Raft => "/ui/raft".to_owned(),
            Self::Tenants => "/ui/tenants".to_owned(),
            Self::Namespaces(name) => tenant(name, "namespaces"),
            Self::Access(name) => tenant(name, "access"),
            Self::Providers(name) => tenant(name, "providers"),
            Self::Keys(name) => tenant(name, "keys"),
            Self::Audit => "/ui/audit".to_owned(),
            Self::Metrics => "/ui/metrics".to_owned(),
            Self::Latency => "/ui/latency".to_owned(),
            Self::About => "/ui/about".to_owned(),
        }
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.path())
    }
}

/// `?a=b&c=d` of the pairs that have a value; `?` alone when none has.
#[must_use]
pub fn query_string<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let parts: Vec<String> = pairs
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        // A slash stands for itself in a query (RFC 3986 §3.4).
        .map(|(name, value)| {
            let value = percent_encoded(value).replace("%2F", "/");
            format!("{}={value}", percent_encoded(name))
        })
        .collect();
    format!("?{}", parts.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(name: &str) -> Address {
        Address {
            tenant: "acme".into(),
            namespace: "payments".into(),
            name: name.into(),
        }
    }

    #[test]
    fn a_name_keeps_its_slashes_and_loses_its_meaning() {
        assert_eq!(
            Place::Stream(address("eu/orders")).path(),
            "/ui/streams/acme/payments/eu/orders"
        );
        assert_eq!(
            Place::Queue(address("a?b#c\"d")).path(),
            "/ui/queues/acme/payments/a%3Fb%23c%22d"
        );
    }

    #[test]
    fn every_page_is_where_the_router_has_it() {
        let t = || "t".to_owned();
        let a = || address("n");
        let places = [
            Place::Overview,
            Place::Streams,
            Place::Stream(a()),
            Place::Queues,
            Place::Queue(a()),
            Place::InFlight(a()),
            Place::DeadLetters(a()),
            Place::Caches,
            Place::Cache(a()),
            Place::Sessions,
            Place::Placement,
            Place::Storage,
            Place::Raft,
            Place::Tenants,
            Place::Namespaces(t()),
            Place::Access(t()),
            Place::Providers(t()),
            Place::Keys(t()),
            Place::Audit,
            Place::Metrics,
            Place::Latency,
            Place::About,
        ];
        assert_eq!(places.len(), ROUTES.len());
        for (place, (name, route)) in places.iter().zip(ROUTES) {
            let filled = if name == "namespaces" || route.starts_with("/ui/tenants/") {
                route.replace("{tenant}", "t")
            } else {
                route
                    .replace("{tenant}", "acme")
                    .replace("{namespace}", "payments")
                    .replace("{*name}", "n")
            };
            assert_eq!(place.path(), filled);
        }
    }

    #[test]
    fn a_query_leaves_out_what_has_no_value() {
        assert_eq!(
            query_string([("q", ""), ("sort", "a b&c")]),
            "?sort=a%20b%26c"
        );
        assert_eq!(query_string([("q", "")]), "?");
    }
}
