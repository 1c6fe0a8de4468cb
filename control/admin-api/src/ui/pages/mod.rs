//! What pages show, page by page: each looks, and fills its model.
//!
//! A page is an `async fn page(&PageContext) -> Result<Shown, Failure>` and a line in
//! [`PAGES`]. It shows what [`PageContext::access`] sees, and no more; what takes another right
//! on a route takes it here, too ([`check`]).

mod about;
mod access;
mod audit;
mod caches;
mod deletion;
mod keys;
mod latency;
mod list;
mod metrics;
mod namespaces;
mod overview;
mod placement;
mod providers;
mod queues;
mod raft;
mod resources;
mod sessions;
mod storage;
mod streams;
mod tenants;

use core::pin::Pin;

use super::context::{PageContext, Shown};
use crate::error::Failure;
use crate::routes::Verb;
pub(super) use resources::kept;

/// Fills one page.
pub(crate) type Handler =
    for<'c> fn(
        &'c PageContext,
    ) -> Pin<Box<dyn Future<Output = Result<Shown, Failure>> + Send + 'c>>;

/// By name, as [`pinion_admin_ui::links::ROUTES`] has them.
const PAGES: &[(&str, Handler)] = &[
    ("overview", |context| Box::pin(overview::page(context))),
    ("streams", |context| Box::pin(streams::list(context))),
    ("stream", |context| Box::pin(streams::one(context))),
    ("queues", |context| Box::pin(queues::list(context))),
    ("queue", |context| Box::pin(queues::one(context))),
    ("in_flight", |context| Box::pin(queues::in_flight(context))),
    ("dead_letters", |context| {
        Box::pin(queues::dead_letters(context))
    }),
    ("caches", |context| Box::pin(caches::list(context))),
    ("cache", |context| Box::pin(caches::one(context))),
    ("sessions", |context| Box::pin(sessions::page(context))),
    ("placement", |context| Box::pin(placement::page(context))),
    ("storage", |context| Box::pin(storage::page(context))),
    ("raft", |context| Box::pin(raft::page(context))),
    ("tenants", |context| Box::pin(tenants::page(context))),
    ("namespaces", |context| Box::pin(namespaces::page(context))),
    ("access", |context| Box::pin(access::page(context))),
    ("providers", |context| Box::pin(providers::page(context))),
    ("keys", |context| Box::pin(keys::page(context))),
    ("audit", |context| Box::pin(audit::page(context))),
    ("metrics", |context| Box::pin(metrics::page(context))),
    ("latency", |context| Box::pin(latency::page(context))),
    ("about", |context| Box::pin(about::page(context))),
];

/// Pages that show what routes list for those who may ask them: whoever may not sees no such
/// page either. `admin:read` on a tenant, which is enough for the others, is neither of the
/// rights to see its rules nor to manage it.
const LISTS: &[(&str, &[&str])] = &[
    (
        "access",
        &[
            "/v1/tenants/{t}/rbac/policies",
            "/v1/tenants/{t}/rbac/groupings",
        ],
    ),
    ("providers", &["/v1/tenants/{t}/idp-issuers"]),
    ("keys", &["/v1/tenants/{t}/api-keys"]),
];

/// Refuses unless whoever looks may ask for everything that the page lists.
pub(super) fn check(context: &PageContext, page: &str) -> Result<(), Failure> {
    let lists = LISTS.iter().filter(|(name, _)| *name == page);
    let mut paths = lists.flat_map(|(_, paths)| *paths);
    paths.try_for_each(|path| context.may_ask((Verb::Get, path), context.part("tenant")))
}

/// The page of that name, if this node has it.
pub(crate) fn handler(name: &str) -> Option<Handler> {
    let found = PAGES.iter().find(|(known, _)| *known == name);
    found.map(|(_, handler)| *handler)
}

/// How many issues there are, for the navigation.
pub(crate) async fn issues(context: &PageContext) -> u64 {
    overview::asking(context).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::routes;

    #[test]
    fn what_pages_list_is_what_routes_list() {
        for (page, paths) in LISTS {
            assert!(handler(page).is_some(), "{page}");
            for path in *paths {
                let mut lists = routes().filter(|route| route.method == Verb::Get);
                assert!(lists.any(|route| route.path == *path), "{page}: {path}");
            }
        }
    }
}
