//! What pages show, page by page: each looks, and fills its model.
//!
//! A page is an `async fn page(&PageContext) -> Result<Shown, Failure>` and a line in
//! [`PAGES`]. It shows what [`PageContext::access`] sees, and no more.

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

/// The page of that name, if this node has it.
pub(crate) fn handler(name: &str) -> Option<Handler> {
    let found = PAGES.iter().find(|(known, _)| *known == name);
    found.map(|(_, handler)| *handler)
}

/// How many issues there are, for the navigation.
pub(crate) async fn issues(context: &PageContext) -> u64 {
    overview::asking(context).await
}
