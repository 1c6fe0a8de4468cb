//! What all resources of a domain come to together.
//!
//! They are added up once for each snapshot, tenant by tenant; whoever asks within the same
//! second is answered from that.

use std::collections::BTreeMap;
use std::sync::Arc;

use pinion_metadata::Object;
use pinion_node::views::PartitionFacts;
use pinion_types::ResourceKind;
use serde::Serialize;
use tokio::sync::Mutex;
use utoipa::ToSchema;

use super::catalog::{Catalog, address};
use super::sums::{CacheSum, Pace, QueueSum, StreamSum, Sum};
use super::{At, Gathered, Paging, Pick, resource, seconds_since, sessions};
use crate::Api;
use crate::access::{Reach, Who};
use crate::error::Failure;
use crate::observer::Snapshot;

/// Resources that are added up before whoever else runs on the control thread has its turn.
const ADDED_AT_ONCE: usize = 1_024;

/// What one tenant has of one domain, of resources that are kept in one way.
#[derive(Clone, Copy, Debug)]
struct Tally<S, const RATES: usize> {
    resources: u64,
    sum: S,
    /// A second's, in the order in which the domain names them.
    rates: [f64; RATES],
}

/// By tenant: of what is in memory alone, and of what is durable.
type Tallies<S, const RATES: usize> = BTreeMap<Box<str>, [Tally<S, RATES>; 2]>;

/// Everything that a snapshot comes to.
#[derive(Debug)]
struct Added {
    catalog: Arc<Catalog>,
    snapshot: Arc<Snapshot>,
    streams: Tallies<StreamSum, 2>,
    queues: Tallies<QueueSum, 3>,
    caches: Tallies<CacheSum, 2>,
}

/// Where the last one is kept.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Option<Arc<Added>>>);

impl Ledger {
    async fn added(&self, all: &Gathered) -> Arc<Added> {
        let mut kept = self.0.lock().await;
        if let Some(added) = &*kept
            && Arc::ptr_eq(&added.catalog, &all.catalog)
            && Arc::ptr_eq(&added.snapshot, &all.snapshot)
        {
            return added.clone();
        }
        let added = Arc::new(Added {
            streams: add(all, ResourceKind::Stream, None, stream_rates).await,
            queues: add(all, ResourceKind::Queue, None, queue_rates).await,
            caches: add(all, ResourceKind::Cache, None, cache_rates).await,
            catalog: all.catalog.clone(),
            snapshot: all.snapshot.clone(),
        });
        *kept = Some(added.clone());
        added
    }
}

fn stream_rates(pace: &Pace<StreamSum>) -> [f64; 2] {
    [
        pace.rate(|sum| sum.records_in),
        pace.rate(|sum| sum.records_out),
    ]
}

fn queue_rates(pace: &Pace<QueueSum>) -> [f64; 3] {
    [
        pace.rate(|sum| sum.put),
        pace.rate(|sum| sum.delivered),
        pace.rate(|sum| sum.acked),
    ]
}

fn cache_rates(pace: &Pace<CacheSum>) -> [f64; 2] {
    [
        pace.rate(|sum| sum.hits) + pace.rate(|sum| sum.misses),
        pace.rate(|sum| sum.changes),
    ]
}

/// Adds up everybody's resources of a kind, or one partition of each.
async fn add<S: Sum, const RATES: usize>(
    all: &Gathered,
    kind: ResourceKind,
    family: Option<u16>,
    rates: fn(&Pace<S>) -> [f64; RATES],
) -> Tallies<S, RATES> {
    let mut tallies: Tallies<S, RATES> = BTreeMap::new();
    let picked = all.catalog.of(kind, &Reach::All, Pick::default());
    for (at, object) in picked.iter().enumerate() {
        if at % ADDED_AT_ONCE == ADDED_AT_ONCE - 1 {
            tokio::task::yield_now().await;
        }
        one(&mut tallies, all, object, family, rates);
    }
    tallies
}

fn one<S: Sum, const RATES: usize>(
    tallies: &mut Tallies<S, RATES>,
    all: &Gathered,
    object: &Object,
    family: Option<u16>,
    rates: fn(&Pace<S>) -> [f64; RATES],
) {
    let Ok(resource) = resource(object) else {
        return;
    };
    let (tenant, ..) = address(object);
    if !tallies.contains_key(tenant) {
        let none = Tally {
            resources: 0,
            sum: S::default(),
            rates: [0.0; RATES],
        };
        tallies.insert(tenant.into(), [none; 2]);
    }
    let Some(both) = tallies.get_mut(tenant) else {
        return;
    };
    let tally = &mut both[usize::from(resource.spec.durable)];
    tally.resources += 1;
    // Most of many are not in use.
    if all.snapshot.partitions(resource.id).is_empty() {
        return;
    }
    let only = |facts: &PartitionFacts| family.is_none_or(|one| facts.partition.0 == one);
    let facts = all.snapshot.partitions(resource.id).iter();
    facts
        .filter(|facts| only(facts))
        .for_each(|facts| tally.sum.add(&facts));
    let pace = Pace::of(all.snapshot.told(), resource.id, only);
    for (sum, rate) in tally.rates.iter_mut().zip(rates(&pace)) {
        *sum += rate;
    }
}

/// Whose numbers are asked for, each on its own, and each in both ways that it is kept.
fn picked<'a, S, const RATES: usize>(
    tallies: &'a Tallies<S, RATES>,
    reach: &'a Reach,
    realm: Option<&'a str>,
) -> impl Iterator<Item = (&'a str, &'a Tally<S, RATES>)> {
    let all = tallies
        .iter()
        .flat_map(|(tenant, both)| both.iter().map(move |tally| (&**tenant, tally)));
    all.filter(move |(tenant, _)| {
        reach.covers(tenant) && realm.is_none_or(|realm| realm == *tenant)
    })
}

/// A count, tenant by tenant.
fn by_realm<'a, S: 'a, const RATES: usize>(
    all: impl Iterator<Item = (&'a str, &'a Tally<S, RATES>)>,
    count: fn(&S) -> u64,
) -> BTreeMap<String, u64> {
    let mut realms = BTreeMap::new();
    for (tenant, tally) in all {
        *realms.entry(tenant.to_owned()).or_insert(0) += count(&tally.sum);
    }
    realms
}

fn added_rates<'a, S: 'a, const RATES: usize>(
    all: impl Iterator<Item = (&'a str, &'a Tally<S, RATES>)>,
) -> [f64; RATES] {
    let mut rates = [0.0; RATES];
    for (_, tally) in all {
        for (sum, rate) in rates.iter_mut().zip(tally.rates) {
            *sum += rate;
        }
    }
    rates
}

// ------------------------------------------------------------------------- answers

/// The node and all domains.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct GlobalStats {
    pub(crate) broker: BrokerStats,
    pub(crate) domains: DomainStats,
}

/// The node.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct BrokerStats {
    pub(crate) uptime_seconds: u64,
    /// Of whoever sees all: those before HELLO, too.
    pub(crate) connections: u64,
    /// Connections that said who they are.
    pub(crate) sessions: u64,
    /// Tenants that whoever asks may see.
    pub(crate) realms: Vec<String>,
    /// Records and messages in and out.
    pub(crate) messages_per_second: f64,
}

/// Each domain in short. One that comes later adds its field.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct DomainStats {
    pub(crate) stream: StreamBrief,
    pub(crate) queue: QueueBrief,
    pub(crate) cache: CacheBrief,
}

/// Streams in short.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct StreamBrief {
    pub(crate) streams_active: u64,
    pub(crate) events_total: u64,
    pub(crate) operations_per_second: f64,
}

/// Queues in short.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct QueueBrief {
    pub(crate) messages_pending: u64,
    pub(crate) inflight_active: u64,
    pub(crate) operations_per_second: f64,
}

/// Caches in short.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct CacheBrief {
    pub(crate) keys_total: u64,
    pub(crate) operations_per_second: f64,
}

/// Streams.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct StreamStats {
    /// Streams there are.
    pub(crate) streams_active: u64,
    /// Records taken since the node was started.
    pub(crate) events_total: u64,
    /// The same, by tenant.
    pub(crate) events_by_realm: BTreeMap<String, u64>,
    pub(crate) operations_per_second: StreamRates,
    pub(crate) append_sessions_active: u64,
    pub(crate) subscriptions_active: u64,
    /// Records that can be read.
    pub(crate) records: u64,
    /// Bytes that a restart would keep.
    pub(crate) durable_bytes: u64,
    /// Bytes in memory.
    pub(crate) memory_bytes: u64,
}

/// Records taken, and records given to subscriptions.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(crate) struct StreamRates {
    pub(crate) append: f64,
    pub(crate) read: f64,
}

/// Queues.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct QueueStats {
    /// Queues there are.
    pub(crate) queues_active: u64,
    /// Ready and delayed.
    pub(crate) messages_pending: u64,
    pub(crate) messages_ready: u64,
    pub(crate) messages_delayed: u64,
    pub(crate) inflight_active: u64,
    pub(crate) messages_dead_lettered: u64,
    pub(crate) inflight_expired_total: u64,
    pub(crate) operations_per_second: QueueRates,
    /// How long the oldest that is ready has waited; 0 when none is.
    pub(crate) oldest_message_age_seconds: u64,
    pub(crate) enqueues_total: u64,
    pub(crate) reserves_total: u64,
    pub(crate) completes_total: u64,
    pub(crate) releases_total: u64,
    pub(crate) redeliveries_total: u64,
    pub(crate) dead_letter_transitions_total: u64,
    pub(crate) consumers_active: u64,
    pub(crate) takes_waiting: u64,
    /// Bytes of all messages.
    pub(crate) size_bytes: u64,
}

/// Messages put, handed out, and finished.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(crate) struct QueueRates {
    pub(crate) enqueue: f64,
    pub(crate) reserve: f64,
    pub(crate) complete: f64,
}

/// Caches.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct CacheStats {
    /// Caches there are.
    pub(crate) caches_active: u64,
    pub(crate) keys_total: u64,
    pub(crate) keys_by_realm: BTreeMap<String, u64>,
    pub(crate) operations_per_second: f64,
    pub(crate) operations_per_second_by_op: CacheRates,
    pub(crate) used_bytes: u64,
    pub(crate) budget_bytes: u64,
    pub(crate) hits_total: u64,
    pub(crate) misses_total: u64,
    pub(crate) evictions_total: u64,
    pub(crate) expirations_total: u64,
    pub(crate) watches_active: u64,
    pub(crate) leases_active: u64,
}

/// Entries read, and entries set, changed and deleted.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(crate) struct CacheRates {
    pub(crate) get: f64,
    pub(crate) change: f64,
}

/// The node and all domains, as far as somebody may see them.
///
/// # Errors
/// They may see none; the node is not ready.
pub(crate) async fn global(api: &Api, who: &Who) -> Result<(GlobalStats, At), Failure> {
    let all = Gathered::of(api, who).await?;
    let added = api.ledger.added(&all).await;
    let streams = stream_stats(&added.streams, &all, None);
    let queues = queue_stats(&added.queues, &all, None);
    let caches = cache_stats(&added.caches, &all, None);
    let (sessions, connections) = match &all.reach {
        Reach::All => {
            let cores = all.snapshot.cores.iter();
            let connections: u64 = cores.map(|core| core.connections).sum();
            (sessions::known(api).await?, connections)
        }
        Reach::Tenant(_) => {
            let listed = sessions::list(api, who, (None, None), Paging::default()).await?;
            (listed.total as u64, listed.total as u64)
        }
    };
    let in_and_out = |rates: StreamRates| rates.append + rates.read;
    let handled = |rates: QueueRates| rates.enqueue + rates.reserve;
    let realms = all.catalog.tenants(&all.reach);
    let stats = GlobalStats {
        broker: BrokerStats {
            uptime_seconds: api.uptime().as_secs(),
            connections,
            sessions,
            realms: realms.map(str::to_owned).collect(),
            messages_per_second: in_and_out(streams.operations_per_second)
                + handled(queues.operations_per_second),
        },
        domains: DomainStats {
            stream: StreamBrief {
                streams_active: streams.streams_active,
                events_total: streams.events_total,
                operations_per_second: in_and_out(streams.operations_per_second),
            },
            queue: QueueBrief {
                messages_pending: queues.messages_pending,
                inflight_active: queues.inflight_active,
                operations_per_second: handled(queues.operations_per_second)
                    + queues.operations_per_second.complete,
            },
            cache: CacheBrief {
                keys_total: caches.keys_total,
                operations_per_second: caches.operations_per_second,
            },
        },
    };
    Ok((stats, all.as_of()))
}

/// Streams, of one tenant or of all that somebody may see.
///
/// # Errors
/// As [`global`].
pub(crate) async fn streams(
    api: &Api,
    who: &Who,
    realm: Option<&str>,
) -> Result<(StreamStats, At), Failure> {
    let all = Gathered::of(api, who).await?;
    let added = api.ledger.added(&all).await;
    Ok((stream_stats(&added.streams, &all, realm), all.as_of()))
}

/// Queues, of one tenant or of all that somebody may see; of one partition of each, if
/// `family` says so.
///
/// # Errors
/// As [`global`].
pub(crate) async fn queues(
    api: &Api,
    who: &Who,
    realm: Option<&str>,
    family: Option<u16>,
) -> Result<(QueueStats, At), Failure> {
    let all = Gathered::of(api, who).await?;
    let stats = match family {
        None => queue_stats(&api.ledger.added(&all).await.queues, &all, realm),
        Some(_) => {
            let tallies = add(&all, ResourceKind::Queue, family, queue_rates).await;
            queue_stats(&tallies, &all, realm)
        }
    };
    Ok((stats, all.as_of()))
}

/// Caches, of one tenant or of all that somebody may see.
///
/// # Errors
/// As [`global`].
pub(crate) async fn caches(
    api: &Api,
    who: &Who,
    realm: Option<&str>,
) -> Result<(CacheStats, At), Failure> {
    let all = Gathered::of(api, who).await?;
    let added = api.ledger.added(&all).await;
    Ok((cache_stats(&added.caches, &all, realm), all.as_of()))
}

/// What a domain comes to in resources that are kept in one way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    pub(crate) kind: ResourceKind,
    pub(crate) durable: bool,
    pub(crate) resources: u64,
    /// Records, messages or entries.
    pub(crate) items: u64,
    pub(crate) bytes: u64,
    pub(crate) in_per_second: f64,
    pub(crate) out_per_second: f64,
}

/// Every domain, and of each what is durable before what is in memory: caches are in memory
/// alone.
///
/// # Errors
/// As [`global`].
pub(crate) async fn kept(api: &Api, who: &Who) -> Result<[Kept; 5], Failure> {
    let all = Gathered::of(api, who).await?;
    let added = api.ledger.added(&all).await;
    let reach = &all.reach;
    let streams = |durable| {
        let items = |sum: &StreamSum| sum.end.saturating_sub(sum.first);
        let bytes: fn(&StreamSum) -> u64 = match durable {
            true => |sum| sum.durable_bytes,
            false => |sum| sum.bytes,
        };
        let flow = |[append, read]: [f64; 2]| (append, read);
        let of = (ResourceKind::Stream, durable);
        kept_of(of, &added.streams, reach, (items, bytes, flow))
    };
    let queues = |durable| {
        let items = |sum: &QueueSum| sum.ready + sum.delayed + sum.in_flight + sum.dead;
        let flow = |[enqueue, reserve, _]: [f64; 3]| (enqueue, reserve);
        let of = (ResourceKind::Queue, durable);
        kept_of(of, &added.queues, reach, (items, |sum| sum.bytes, flow))
    };
    let entries = |sum: &CacheSum| sum.entries;
    let flow = |[get, change]: [f64; 2]| (change, get);
    let of = (ResourceKind::Cache, false);
    let caches = kept_of(of, &added.caches, reach, (entries, |sum| sum.used, flow));
    Ok([
        streams(true),
        streams(false),
        queues(true),
        queues(false),
        caches,
    ])
}

/// How items and bytes are counted, and which rates go in and out.
type Ways<S, const RATES: usize> = (fn(&S) -> u64, fn(&S) -> u64, fn([f64; RATES]) -> (f64, f64));

fn kept_of<S, const RATES: usize>(
    (kind, durable): (ResourceKind, bool),
    tallies: &Tallies<S, RATES>,
    reach: &Reach,
    (items, bytes, flow): Ways<S, RATES>,
) -> Kept {
    let mut kept = Kept {
        kind,
        durable,
        resources: 0,
        items: 0,
        bytes: 0,
        in_per_second: 0.0,
        out_per_second: 0.0,
    };
    for (tenant, both) in tallies {
        if !reach.covers(tenant) {
            continue;
        }
        let tally = &both[usize::from(durable)];
        let (into, out) = flow(tally.rates);
        kept.resources += tally.resources;
        kept.items += items(&tally.sum);
        kept.bytes += bytes(&tally.sum);
        kept.in_per_second += into;
        kept.out_per_second += out;
    }
    kept
}

fn stream_stats(
    tallies: &Tallies<StreamSum, 2>,
    all: &Gathered,
    realm: Option<&str>,
) -> StreamStats {
    let picked = || picked(tallies, &all.reach, realm);
    let total = |count: fn(&StreamSum) -> u64| picked().map(|(_, one)| count(&one.sum)).sum();
    let [append, read] = added_rates(picked());
    let (first, end): (u64, u64) = (total(|sum| sum.first), total(|sum| sum.end));
    StreamStats {
        streams_active: picked().map(|(_, one)| one.resources).sum(),
        events_total: total(|sum| sum.records_in),
        events_by_realm: by_realm(picked(), |sum| sum.records_in),
        operations_per_second: StreamRates { append, read },
        append_sessions_active: total(|sum| sum.append_sessions),
        subscriptions_active: total(|sum| sum.subscriptions),
        records: end.saturating_sub(first),
        durable_bytes: total(|sum| sum.durable_bytes),
        memory_bytes: total(|sum| sum.bytes),
    }
}

fn queue_stats(tallies: &Tallies<QueueSum, 3>, all: &Gathered, realm: Option<&str>) -> QueueStats {
    let picked = || picked(tallies, &all.reach, realm);
    let total =
        |count: fn(&QueueSum) -> u64| -> u64 { picked().map(|(_, one)| count(&one.sum)).sum() };
    let oldest = picked().filter_map(|(_, one)| one.sum.oldest).min();
    let [enqueue, reserve, complete] = added_rates(picked());
    QueueStats {
        queues_active: picked().map(|(_, one)| one.resources).sum(),
        messages_pending: total(|sum| sum.ready) + total(|sum| sum.delayed),
        messages_ready: total(|sum| sum.ready),
        messages_delayed: total(|sum| sum.delayed),
        inflight_active: total(|sum| sum.in_flight),
        messages_dead_lettered: total(|sum| sum.dead),
        inflight_expired_total: total(|sum| sum.lapsed),
        operations_per_second: QueueRates {
            enqueue,
            reserve,
            complete,
        },
        oldest_message_age_seconds: oldest
            .map_or(0, |oldest| seconds_since(oldest, all.snapshot.taken_at)),
        enqueues_total: total(|sum| sum.put),
        reserves_total: total(|sum| sum.delivered),
        completes_total: total(|sum| sum.acked),
        releases_total: total(|sum| sum.nacked),
        redeliveries_total: total(|sum| sum.redelivered),
        dead_letter_transitions_total: total(|sum| sum.died),
        consumers_active: total(|sum| sum.consumers),
        takes_waiting: total(|sum| sum.waiting),
        size_bytes: total(|sum| sum.bytes),
    }
}

fn cache_stats(tallies: &Tallies<CacheSum, 2>, all: &Gathered, realm: Option<&str>) -> CacheStats {
    let picked = || picked(tallies, &all.reach, realm);
    let total = |count: fn(&CacheSum) -> u64| picked().map(|(_, one)| count(&one.sum)).sum();
    let [get, change] = added_rates(picked());
    CacheStats {
        caches_active: picked().map(|(_, one)| one.resources).sum(),
        keys_total: total(|sum| sum.entries),
        keys_by_realm: by_realm(picked(), |sum| sum.entries),
        operations_per_second: get + change,
        operations_per_second_by_op: CacheRates { get, change },
        used_bytes: total(|sum| sum.used),
        budget_bytes: total(|sum| sum.budget),
        hits_total: total(|sum| sum.hits),
        misses_total: total(|sum| sum.misses),
        evictions_total: total(|sum| sum.evicted),
        expirations_total: total(|sum| sum.expired),
        watches_active: total(|sum| sum.watches),
        leases_active: total(|sum| sum.leases),
    }
}
