//! Caches: what is in them, what they find and what they put out.

use std::sync::Arc;

use pinion_metadata::Object;
use pinion_node::views::PartitionFacts;
use pinion_types::ResourceKind;
use serde::Serialize;
use utoipa::ToSchema;

use super::sums::{CacheSum, Pace, condition_of};
use super::{Address, At, Condition, Listed, Named, RowDeleting, Wanted, find, resource};
use crate::Api;
use crate::access::Who;
use crate::error::Failure;
use crate::observer::Told;

const KIND: ResourceKind = ResourceKind::Cache;

/// How a cache is. All of it is live: a cache is in memory.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct CacheNumbers {
    /// Of the resource, never used again for another.
    pub(crate) id: u64,
    pub(crate) partitions: u16,
    pub(crate) state: Condition,
    /// Entries, with those whose time is over and that are not taken away yet.
    pub(crate) keys_total: u64,
    /// What counts against the budget.
    pub(crate) used_bytes: u64,
    /// Of the partitions that are in use.
    pub(crate) budget_bytes: u64,
    /// Reads that found something, since the node was started, as all that end in `_total`.
    pub(crate) hits_total: u64,
    pub(crate) misses_total: u64,
    /// Of a second's reads those that found something, from 0 to 1; null without any.
    pub(crate) hit_ratio: Option<f64>,
    /// Entries that made room.
    pub(crate) evictions_total: u64,
    /// Entries whose time was over.
    pub(crate) expirations_total: u64,
    pub(crate) watches_active: u64,
    /// Keys that somebody fills under a lease.
    pub(crate) leases_active: u64,
    /// Callers that wait for one.
    pub(crate) callers_waiting: u64,
    pub(crate) gets_per_second: f64,
    /// Entries set, changed and deleted, a second.
    pub(crate) changes_per_second: f64,
    pub(crate) evictions_per_second: f64,
    pub(crate) expirations_per_second: f64,
}

/// A cache in a list.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct CacheRow {
    #[serde(flatten)]
    pub(crate) named: Named,
    #[serde(flatten)]
    pub(crate) numbers: CacheNumbers,
    /// Null of one that is not deleted.
    pub(crate) deleting: Option<RowDeleting>,
}

/// One partition of a cache.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct CachePartition {
    pub(crate) partition: u16,
    /// Data core of this node that has it.
    pub(crate) core: u16,
    #[serde(flatten)]
    pub(crate) numbers: CacheNumbers,
}

/// One cache.
pub(crate) struct CacheFacts {
    pub(crate) row: CacheRow,
    /// Those that were used since the node was started.
    pub(crate) partitions: Vec<CachePartition>,
    /// What it was declared to be.
    pub(crate) object: Arc<Object>,
    pub(crate) as_of: At,
}

impl CacheNumbers {
    fn of(id: u64, partitions: u16, state: Condition, pace: &Pace<CacheSum>) -> Self {
        let sum = pace.now;
        let (hits, misses) = (pace.rate(|sum| sum.hits), pace.rate(|sum| sum.misses));
        Self {
            id,
            partitions,
            state,
            keys_total: sum.entries,
            used_bytes: sum.used,
            budget_bytes: sum.budget,
            hits_total: sum.hits,
            misses_total: sum.misses,
            hit_ratio: (hits + misses > 0.0).then(|| hits / (hits + misses)),
            evictions_total: sum.evicted,
            expirations_total: sum.expired,
            watches_active: sum.watches,
            leases_active: sum.leases,
            callers_waiting: sum.waiting,
            gets_per_second: hits + misses,
            changes_per_second: pace.rate(|sum| sum.changes),
            evictions_per_second: pace.rate(|sum| sum.evicted),
            expirations_per_second: pace.rate(|sum| sum.expired),
        }
    }
}

fn numbers(told: Told<'_>, object: &Object) -> CacheNumbers {
    let Ok(resource) = resource(object) else {
        return CacheNumbers::of(0, 0, Condition::Ok, &Pace::default());
    };
    let pace = Pace::of(told, resource.id, |_| true);
    let state = pace.condition(object.meta.deleting.is_some());
    CacheNumbers::of(resource.id.0, resource.spec.shards, state, &pace)
}

/// Caches that somebody may see.
///
/// # Errors
/// They may see none; the node is not ready.
pub(crate) async fn list(
    api: &Api,
    who: &Who,
    wanted: &Wanted<'_, CacheNumbers>,
) -> Result<Listed<CacheRow>, Failure> {
    super::list(api, who, KIND, wanted, numbers, row).await
}

fn row(object: &Object, numbers: CacheNumbers) -> CacheRow {
    CacheRow {
        named: Named::of(object),
        deleting: RowDeleting::of(object),
        numbers,
    }
}

/// One cache.
///
/// # Errors
/// 404 when there is none, or none that they may see.
pub(crate) async fn one(api: &Api, who: &Who, address: &Address) -> Result<CacheFacts, Failure> {
    let found = find(api, who, KIND, address).await?;
    let told = found.sight.told();
    let partition = |facts: PartitionFacts| {
        let only = |other: &PartitionFacts| other.partition == facts.partition;
        let pace = Pace::of(told, found.id, only);
        CachePartition {
            partition: facts.partition.0,
            core: facts.core.0,
            numbers: CacheNumbers::of(found.id.0, 1, condition_of(&facts), &pace),
        }
    };
    let facts = told.partitions(found.id).iter();
    let mut partitions: Vec<CachePartition> = facts.map(partition).collect();
    partitions.sort_by_key(|one| one.partition);
    Ok(CacheFacts {
        row: row(&found.object, numbers(told, &found.object)),
        partitions,
        as_of: At(told.taken_at),
        object: found.object,
    })
}
