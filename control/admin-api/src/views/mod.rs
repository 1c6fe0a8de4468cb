//! What runs, gathered for people and tools: the metadata of this node joined with what its
//! data cores said last.
//!
//! Routes write these facts down as JSON, pages of the dashboard show them. Reading never
//! makes a core do more: whoever asks within the same second is answered from the same
//! snapshot. What is asked of one partition (its dead letters, why it delivers nothing) is
//! a request of the wire protocol, run by the core that has it.
//!
//! Numbers are those of the node that answers. Start reading at [`Gathered`] and [`list`].

pub(crate) mod act;
pub(crate) mod ask;
pub(crate) mod caches;
pub(crate) mod catalog;
pub(crate) mod cluster;
pub(crate) mod queues;
pub(crate) mod sessions;
pub(crate) mod stats;
pub(crate) mod storage;
pub(crate) mod streams;
mod sums;
pub(crate) mod tenants;
pub(crate) mod trouble;

use core::cmp::Ordering;
use core::fmt;
use std::sync::Arc;

use pinion_metadata::{Action, Body, Object, ObjectKey, PolicyObject};
use pinion_types::{ResourceId, ResourceKind, WallMs};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use crate::Api;
use crate::access::{Reach, Who};
use crate::error::Failure;
use crate::limits::PAGE_DEFAULT;
use crate::model::{Resource, time};
use crate::observer::{Sight, Snapshot, Told};
use crate::rest::resource_named;
use catalog::{Catalog, Picked, look};
pub(crate) use catalog::{Pick, Shelf};
pub(crate) use sessions::Roster;
pub(crate) use stats::Ledger;
pub(crate) use trouble::Found as TroubleFound;

/// A moment. RFC 3339 in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct At(pub(crate) WallMs);

impl Serialize for At {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&time(self.0))
    }
}

/// Which rows of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Paging {
    pub(crate) limit: usize,
    pub(crate) offset: usize,
}

impl Default for Paging {
    fn default() -> Self {
        Self {
            limit: PAGE_DEFAULT,
            offset: 0,
        }
    }
}

impl Paging {
    /// What of it is on the page.
    fn rows<'a>(self, picked: &Picked<'a>) -> impl Iterator<Item = &'a Arc<Object>> {
        let (from, to) = self.of(picked.len());
        (from..to).filter_map(|at| picked.get(at))
    }

    /// The part of `all` that it is.
    pub(crate) fn cut<T>(self, all: &[T]) -> &[T] {
        let (from, to) = self.of(all.len());
        &all[from..to]
    }

    /// The part of `all` that it would be if all were in order. Only that part is put in
    /// order, which takes a fraction of the time when the page is a small one.
    fn sorted<T>(self, all: &mut [T], mut by: impl FnMut(&T, &T) -> Ordering) -> &[T] {
        let (from, to) = self.of(all.len());
        if from == to {
            return &[];
        }
        all.select_nth_unstable_by(from, &mut by);
        let rest = &mut all[from..];
        rest.select_nth_unstable_by(to - from - 1, &mut by);
        let page = &mut rest[..to - from];
        page.sort_unstable_by(by);
        page
    }

    /// Its first place, and one past its last, of so many rows.
    fn of(self, rows: usize) -> (usize, usize) {
        let from = self.offset.min(rows);
        (from, from.saturating_add(self.limit).min(rows))
    }
}

/// In which order rows are, if not in that of their names.
#[derive(Debug)]
pub(crate) struct Order<N> {
    /// What they are ordered by; equals stay in the order of names.
    pub(crate) key: fn(&N) -> f64,
    /// Largest first.
    pub(crate) descending: bool,
}

impl<N> Clone for Order<N> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<N> Copy for Order<N> {}

/// Which resources, which of their rows, in which order.
#[derive(Debug)]
pub(crate) struct Wanted<'a, N> {
    pub(crate) pick: Pick<'a>,
    pub(crate) paging: Paging,
    pub(crate) order: Option<Order<N>>,
}

impl<N> Default for Wanted<'_, N> {
    fn default() -> Self {
        Self {
            pick: Pick::default(),
            paging: Paging::default(),
            order: None,
        }
    }
}

/// Rows of a list.
#[derive(Clone, Debug)]
pub(crate) struct Listed<R> {
    pub(crate) rows: Vec<R>,
    /// How many there are altogether.
    pub(crate) total: usize,
    /// When their numbers were taken.
    pub(crate) as_of: At,
}

/// What a resource is called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Address {
    pub(crate) tenant: Box<str>,
    pub(crate) namespace: Box<str>,
    pub(crate) name: Box<str>,
}

impl Address {
    pub(crate) fn new(tenant: &str, namespace: &str, name: &str) -> Self {
        Self {
            tenant: tenant.into(),
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    fn key(&self, kind: ResourceKind) -> ObjectKey {
        ObjectKey::resource(kind, &self.tenant, &self.namespace, &self.name)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.tenant, self.namespace, self.name)
    }
}

/// What a resource is called, as a part of its row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = RowName)]
pub(crate) struct Named {
    /// The tenant.
    pub(crate) realm: String,
    /// The namespace.
    pub(crate) area: String,
    /// The name; it may have slashes.
    pub(crate) resource: String,
}

impl Named {
    fn of(object: &Object) -> Self {
        let (tenant, namespace, name) = catalog::address(object);
        Self {
            realm: tenant.into(),
            area: namespace.into(),
            resource: name.into(),
        }
    }

    pub(crate) fn address(&self) -> Address {
        Address::new(&self.realm, &self.area, &self.resource)
    }
}

/// That a resource is deleted, as a part of its row. Until its data goes that can be taken
/// back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = RowDeleting)]
pub(crate) struct RowDeleting {
    /// When it was deleted.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) since: At,
    /// From when on its data may go.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) purge_at: At,
}

impl RowDeleting {
    fn of(object: &Object) -> Option<Self> {
        object.meta.deleting.map(|deleting| Self {
            since: At(deleting.since),
            purge_at: At(deleting.purge_at),
        })
    }

    /// Time until its data may go, milliseconds; 0 once it may.
    pub(crate) fn purge_in_ms(self, now: WallMs) -> u64 {
        self.purge_at.0.0.saturating_sub(now.0)
    }
}

/// How a resource is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Condition {
    /// It serves.
    #[default]
    Ok,
    /// The disk of a log of it is full: it takes only what frees space.
    ReadOnly,
    /// A partition is closed until the node was started again, for damaged data or a
    /// failed write.
    Fenced,
    /// It is deleted, and that can be taken back.
    Deleting,
}

/// What there is, and what of it somebody may see.
pub(crate) struct Visible {
    pub(crate) reach: Reach,
    pub(crate) catalog: Arc<Catalog>,
}

impl Visible {
    /// Of everything.
    ///
    /// # Errors
    /// They may see nothing; the node is not ready.
    pub(crate) async fn of(api: &Api, who: &Who) -> Result<Self, Failure> {
        let reach = who.reach(Action::AdminRead)?;
        Ok(Self {
            reach,
            catalog: api.shelf.catalog(&api.plane).await?,
        })
    }

    /// Of one tenant that there must be.
    ///
    /// # Errors
    /// 404 when there is no such tenant, or none that they may see.
    pub(crate) async fn of_tenant(api: &Api, who: &Who, tenant: &str) -> Result<Self, Failure> {
        check(who, Action::AdminRead, tenant)?;
        let all = Self {
            reach: Reach::Tenant(tenant.into()),
            catalog: api.shelf.catalog(&api.plane).await?,
        };
        if all.catalog.tenants(&all.reach).next().is_none() {
            return Err(Failure::not_found());
        }
        Ok(all)
    }
}

/// What everything is made from: what somebody may see, and how it is.
pub(crate) struct Gathered {
    pub(crate) reach: Reach,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) snapshot: Arc<Snapshot>,
}

impl Gathered {
    /// What somebody may see, as new as it is there.
    ///
    /// # Errors
    /// They may see nothing; the node is not ready.
    pub(crate) async fn of(api: &Api, who: &Who) -> Result<Self, Failure> {
        let Visible { reach, catalog } = Visible::of(api, who).await?;
        Ok(Self {
            reach,
            catalog,
            snapshot: api.observer.look().await,
        })
    }

    pub(crate) fn as_of(&self) -> At {
        At(self.snapshot.taken_at)
    }

    /// Resources of a kind that somebody may see.
    pub(crate) fn of_kind(&self, kind: ResourceKind, pick: Pick<'_>) -> Picked<'_> {
        self.catalog.of(kind, &self.reach, pick)
    }
}

/// A page of the resources of a kind that somebody may see. The data cores are asked for what
/// is on it; where it depends on the numbers of all what is on it, for all of that kind.
///
/// # Errors
/// They may see none; the node is not ready.
async fn list<N, R>(
    api: &Api,
    who: &Who,
    kind: ResourceKind,
    wanted: &Wanted<'_, N>,
    numbers: impl Fn(Told<'_>, &Object) -> N,
    row: impl Fn(&Object, N) -> R,
) -> Result<Listed<R>, Failure> {
    let all = Visible::of(api, who).await?;
    let picked = all.catalog.of(kind, &all.reach, wanted.pick);
    let sight = match wanted.order {
        None => {
            let on_page = wanted.paging.rows(&picked);
            let named: Vec<_> = on_page
                .filter_map(|object| resource_named(object))
                .collect();
            api.observer.look_at(&named).await
        }
        Some(_) => api.observer.look_at_all(kind).await,
    };
    Ok(page(&picked, wanted, sight.told(), numbers, row))
}

/// A page of what was picked. Only rows of the page are made: of all others their numbers at
/// most.
fn page<N, R>(
    picked: &Picked<'_>,
    wanted: &Wanted<'_, N>,
    told: Told<'_>,
    numbers: impl Fn(Told<'_>, &Object) -> N,
    row: impl Fn(&Object, N) -> R,
) -> Listed<R> {
    let make = |object: &Arc<Object>| row(object, numbers(told, object));
    let rows = match wanted.order {
        None => wanted.paging.rows(picked).map(make).collect(),
        Some(order) => {
            let keys = picked.iter();
            let keys = keys.map(|object| (order.key)(&numbers(told, object)));
            let mut all: Vec<_> = keys.enumerate().collect();
            let on_page = wanted.paging.sorted(&mut all, |(at, a), (other, b)| {
                let by_key = match order.descending {
                    true => b.total_cmp(a),
                    false => a.total_cmp(b),
                };
                by_key.then(at.cmp(other))
            });
            let on_page = on_page.iter().filter_map(|(at, _)| picked.get(*at));
            on_page.map(make).collect()
        }
    };
    Listed {
        rows,
        total: picked.len(),
        as_of: At(told.taken_at),
    }
}

/// One resource, as this node's metadata has it at this moment, and what the cores tell of it.
struct Found {
    object: Arc<Object>,
    id: ResourceId,
    sight: Sight,
}

/// What a resource was declared to be.
pub(crate) fn declared(object: &Object) -> Result<Resource, Failure> {
    Resource::of(object).ok_or_else(crate::rest::other_kind)
}

/// Refuses unless somebody may see, or change, how things of a tenant are.
fn check(who: &Who, action: Action, tenant: &str) -> Result<(), Failure> {
    who.check(action, &PolicyObject::Tenant(tenant.into()))
}

/// The resource of an address. It is not the catalog's, which may be a second behind.
///
/// # Errors
/// 404 when there is none, or none that they may see.
async fn find(
    api: &Api,
    who: &Who,
    kind: ResourceKind,
    address: &Address,
) -> Result<Found, Failure> {
    check(who, Action::AdminRead, &address.tenant)?;
    let object = object(api, kind, address).await?;
    let named = resource_named(&object).ok_or_else(crate::rest::other_kind)?;
    Ok(Found {
        id: named.0,
        object,
        sight: api.observer.look_at(&[named]).await,
    })
}

async fn object(api: &Api, kind: ResourceKind, address: &Address) -> Result<Arc<Object>, Failure> {
    let key = address.key(kind);
    let object = look(&api.plane, move |metadata| metadata.get(&key).cloned()).await?;
    object.ok_or_else(Failure::not_found)
}

fn resource(object: &Object) -> Result<&pinion_metadata::resource::Resource, Failure> {
    match &object.body {
        Body::Resource(resource) => Ok(resource),
        _ => Err(crate::rest::other_kind()),
    }
}

/// Whole seconds from a moment to now; none when the moment is ahead.
fn seconds_since(then: WallMs, now: WallMs) -> u64 {
    now.0.saturating_sub(then.0) / 1_000
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use pinion_metadata::resource::{AckPolicy, Resource, ResourceSpec};
    use pinion_metadata::{Meta, MetaVersion};
    use pinion_node::views::{PartitionDetail, PartitionFacts, Standing, StreamFacts};
    use pinion_types::{CoreId, Offset, PartitionId};

    use super::streams::StreamNumbers;
    use super::*;

    const STREAMS: u64 = 100_000;

    /// What a page may take. A release build is held to 50 ms, which is measured with
    /// `cargo test --release -p pinion-admin-api --lib a_list_of_100_000 -- --nocapture`;
    /// without optimisation the same takes many times as long.
    const PAGE_TIME: Duration = if cfg!(debug_assertions) {
        Duration::from_secs(2)
    } else {
        Duration::from_millis(50)
    };

    fn stream(number: u64) -> Arc<Object> {
        let name = format!("s{number:06}");
        Arc::new(Object {
            meta: Meta {
                key: ObjectKey::resource(ResourceKind::Stream, "acme", "pay", &name),
                created: WallMs(0),
                updated: WallMs(0),
                version: MetaVersion(1),
                generation: 1,
                deleting: None,
            },
            body: Body::Resource(Resource {
                id: ResourceId(number),
                spec: ResourceSpec {
                    shards: 1,
                    durable: true,
                    overflow: 1,
                    max_record_bytes: 1 << 20,
                    ring_bytes: 1 << 20,
                    retention_ms: 0,
                    retention_bytes: 0,
                    replication_factor: 1,
                    ack: AckPolicy::Leader,
                    queue: None,
                },
            }),
        })
    }

    fn partition(number: u64) -> PartitionFacts {
        PartitionFacts {
            core: CoreId(0),
            resource: ResourceId(number),
            partition: PartitionId(0),
            log: None,
            standing: Standing::Served,
            fenced: false,
            read_only: false,
            bytes: 10,
            durable_bytes: number,
            detail: PartitionDetail::Stream(StreamFacts {
                first: Offset(0),
                end: Offset(number),
                appended_end: Offset(number),
                records_in: number,
                records_out: 0,
                bytes_out: 0,
                subscriptions: 0,
                lag_max: 0,
                append_sessions: 0,
                producers: 0,
            }),
        }
    }

    #[test]
    fn a_page_in_order_is_a_part_of_everything_in_order() {
        // Many equals: which of them comes first is decided by their place.
        let all: Vec<(usize, u64)> = (0..97).map(|at| (at, at as u64 * 31 % 7)).collect();
        let by = |a: &(usize, u64), b: &(usize, u64)| b.1.cmp(&a.1).then(a.0.cmp(&b.0));
        let mut wanted = all.clone();
        wanted.sort_by(by);
        for limit in [1, 2, 10, 96, 97, 200] {
            for offset in [0, 1, 7, 50, 95, 96, 97, 500] {
                let paging = Paging { limit, offset };
                let mut mixed = all.clone();
                let (found, wanted) = (paging.sorted(&mut mixed, by), paging.cut(&wanted));
                assert_eq!(found, wanted, "{paging:?}");
            }
        }
    }

    #[test]
    fn a_list_of_100_000_streams_costs_its_page() {
        let catalog = Catalog::of_test("acme", (0..STREAMS).map(stream).collect());
        let partitions: Vec<_> = (0..STREAMS).map(partition).collect();
        let snapshot = Snapshot::of_test(&partitions);
        let page = |search: Option<&str>, paging, order| {
            let wanted = Wanted {
                pick: Pick {
                    search,
                    ..Pick::default()
                },
                paging,
                order,
            };
            let begun = Instant::now();
            let picked = catalog.of(ResourceKind::Stream, &Reach::All, wanted.pick);
            let (numbers, row) = (streams::numbers, streams::row);
            let listed = page(&picked, &wanted, snapshot.told(), numbers, row);
            (listed, begun.elapsed())
        };
        let last = Paging {
            limit: 1_000,
            offset: 99_500,
        };
        let (listed, took) = page(None, last, None);
        assert_eq!((listed.total, listed.rows.len()), (100_000, 500));
        assert_eq!(listed.rows[0].named.resource, "s099500");
        let (found, searched) = page(Some("9999"), Paging::default(), None);
        assert_eq!(found.total, 19, "09999, and 99990 to 99999, and x9999");
        let order = Order {
            key: |numbers: &StreamNumbers| {
                f64::from(u32::try_from(numbers.size_bytes).unwrap_or(0))
            },
            descending: true,
        };
        let (largest, sorted) = page(None, Paging::default(), Some(order));
        assert_eq!(largest.rows[0].named.resource, "s099999");
        let equal = Order {
            key: |_: &StreamNumbers| 0.0,
            descending: true,
        };
        let (equals, _) = page(None, last, Some(equal));
        assert_eq!(
            equals.rows[0].named.resource, "s099500",
            "in order of names"
        );
        println!("the last page {took:?}, a search {searched:?}, the largest {sorted:?}");
        for took in [took, searched, sorted] {
            assert!(took < PAGE_TIME, "{took:?}");
        }
    }
}
