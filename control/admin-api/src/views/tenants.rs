//! What tenants do on this node at the moment.

use std::collections::BTreeMap;

use pinion_metadata::Object;
use pinion_types::ResourceKind;

use super::sums::{Pace, QueueSum, StreamSum};
use super::{Gathered, Pick, resource, sessions};
use crate::Api;
use crate::error::Failure;

/// How many connections each tenant has on this node; one without any is not here.
///
/// # Errors
/// A core does not answer.
pub(crate) async fn connections(
    api: &Api,
    all: &Gathered,
) -> Result<BTreeMap<String, u64>, Failure> {
    let counted = sessions::by_tenant(api).await?;
    let named = counted.into_iter().filter_map(|(number, count)| {
        let name = all.catalog.tenant(number)?;
        all.reach.covers(name).then(|| (name.to_owned(), count))
    });
    Ok(named.collect())
}

/// Records that a tenant publishes to its streams and puts into its queues on this node, a
/// second: what its quota of records counts. With `area`, in that namespace alone.
pub(crate) fn published_per_second(all: &Gathered, realm: &str, area: Option<&str>) -> f64 {
    let pick = Pick {
        realm: Some(realm),
        area,
        search: None,
    };
    let streams = all.of_kind(ResourceKind::Stream, pick);
    let queues = all.of_kind(ResourceKind::Queue, pick);
    let into_stream = |object: &Object| {
        let pace: Option<Pace<StreamSum>> = pace(all, object);
        pace.map_or(0.0, |pace| pace.rate(|sum| sum.records_in))
    };
    let into_queue = |object: &Object| {
        let pace: Option<Pace<QueueSum>> = pace(all, object);
        pace.map_or(0.0, |pace| pace.rate(|sum| sum.put))
    };
    let streams = streams.iter().map(|object| into_stream(object));
    let queues = queues.iter().map(|object| into_queue(object));
    streams.chain(queues).sum()
}

/// What is not open on this node has no pace.
fn pace<S: super::sums::Sum>(all: &Gathered, object: &Object) -> Option<Pace<S>> {
    let id = resource(object).ok()?.id;
    let used = !all.snapshot.partitions(id).is_empty();
    used.then(|| Pace::of(all.snapshot.told(), id, |_| true))
}
