//! Which broker has which shard.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pinion_admin_ui::model::{
    self, Address, BrokerRow, Kind, Level, Pages, PlacementRow, ROWS_MAX, ShardPlace, Sort, State,
};
use pinion_metadata::broker::BrokerStatus;
use pinion_metadata::resource::Placement;
use pinion_metadata::{
    Body, BrokerNumber, Filter, ListQuery, Metadata, Object, ObjectKey, ObjectKind,
};
use pinion_types::ResourceKind;

use super::list::{listing, search};
use crate::error::Failure;
use crate::ui::context::{PageContext, Shown};

/// Brokers that are columns of the map.
const COLUMNS_MAX: usize = 16;

/// Resources of one page: each has a cell for every broker and a word for every shard.
const RESOURCES_SHOWN: usize = 50;

const KINDS: [ResourceKind; 3] = [
    ResourceKind::Stream,
    ResourceKind::Queue,
    ResourceKind::Cache,
];

pub(super) async fn page(context: &PageContext) -> Result<Shown, Failure> {
    let tenant = context.chosen_tenant().map(ToOwned::to_owned);
    let filter = match search(context) {
        "" => Filter::All,
        part => Filter::Contains(part.into()),
    };
    let after = read_token(context.param("page"));
    let is_first = after.is_none();
    let node = context.api.node.clone();
    // Of brokers a tenant is told the names of those that have something of it.
    let limited = context.access.tenant().is_some();
    let heard = heard(context).await;
    let found = context.look(move |metadata| {
        let (objects, next) = placed(metadata, tenant.as_deref(), &filter, after);
        let mut brokers = brokers(metadata, &node, &heard);
        if limited {
            brokers.retain(|(number, _)| objects.iter().any(|object| is_on(object, *number)));
        }
        let columns = brokers.iter().take(COLUMNS_MAX);
        let columns: Vec<BrokerNumber> = columns.map(|(number, _)| *number).collect();
        let rows = objects.iter();
        let rows = rows.filter_map(|object| row(metadata, &columns, object));
        let rows: Vec<PlacementRow> = rows.collect();
        let brokers: Vec<BrokerRow> = brokers.into_iter().map(|(_, row)| row).collect();
        (rows, next, metadata.version(), brokers)
    });
    let (rows, next, version, brokers) = found.await?;
    let pages = Pages {
        from: u64::from(!rows.is_empty()),
        to: rows.len() as u64,
        total: None,
        // The way back is the beginning.
        previous: (!is_first).then(String::new),
        next: next.map(|key| URL_SAFE_NO_PAD.encode(key.to_string())),
    };
    let mut list = listing(context, Sort::default(), pages);
    list.tenants = tenants(context).await?;
    list.tenant = context.param("tenant").to_owned();
    Ok(model::Placement {
        list,
        columns: brokers
            .iter()
            .take(COLUMNS_MAX)
            .map(|row| row.name.clone())
            .collect(),
        brokers: if limited { Vec::new() } else { brokers },
        brokers_fresh: context.fresh(Kind::Mixed),
        rows,
        fresh: context.fresh(Kind::Durable),
        version: version.0,
    }
    .into())
}

/// Tenants to choose from.
async fn tenants(context: &PageContext) -> Result<Vec<String>, Failure> {
    if let Some(own) = context.access.tenant() {
        return Ok(vec![own.to_owned()]);
    }
    context
        .look(|metadata| {
            let query = ListQuery {
                kind: ObjectKind::Tenant,
                under: None,
                filter: Filter::All,
                deleted: false,
                limit: ROWS_MAX,
                after: None,
            };
            let page = metadata.list(&query);
            let names = page.items.iter();
            let names = names.filter_map(|object| match &object.meta.key {
                ObjectKey::Tenant(name) => Some(name.to_string()),
                _ => None,
            });
            names.collect()
        })
        .await
}

/// How long ago each broker said that it lives, as far as this node knows: one that does not
/// lead the group knows it of itself alone.
async fn heard(context: &PageContext) -> BTreeMap<Box<str>, Duration> {
    let status = context.api.plane.status().await;
    let mut heard: BTreeMap<_, _> = match status {
        Ok(status) => status.heard.into_iter().collect(),
        Err(_) => BTreeMap::new(),
    };
    heard.insert(context.api.node.clone(), Duration::ZERO);
    heard
}

fn brokers(
    metadata: &Metadata,
    node: &str,
    heard: &BTreeMap<Box<str>, Duration>,
) -> Vec<(BrokerNumber, BrokerRow)> {
    let rows = metadata.brokers().map(|(name, broker)| {
        let (level, text) = match broker.status() {
            BrokerStatus::Active => (Level::Ok, "active"),
            BrokerStatus::Draining => (Level::Info, "draining"),
            BrokerStatus::Down => (Level::Bad, "down"),
        };
        let usage = metadata.broker_usage(broker.number);
        let facts = &broker.facts;
        let zone = [&*facts.region, &*facts.zone];
        let zone: Vec<&str> = zone.into_iter().filter(|part| !part.is_empty()).collect();
        let row = BrokerRow {
            name: name.to_owned(),
            state: State {
                level,
                text: text.to_owned(),
            },
            address: facts.address.to_string(),
            zone: zone.join(" / "),
            cores: facts.capacity.cores,
            leads: usage.leads,
            copies: usage.copies,
            beat_ms: heard.get(name).map(|age| millis(*age)),
            this_node: name == node,
        };
        (broker.number, row)
    });
    let mut rows: Vec<_> = rows.collect();
    rows.sort_by(|(_, a), (_, b)| a.name.cmp(&b.name));
    rows.truncate(ROWS_MAX);
    rows
}

pub(super) fn millis(of: Duration) -> u64 {
    u64::try_from(of.as_millis()).unwrap_or(u64::MAX)
}

/// A page of placements, one kind after the other, and where the next one begins.
fn placed(
    metadata: &Metadata,
    tenant: Option<&str>,
    filter: &Filter,
    after: Option<ObjectKey>,
) -> (Vec<Arc<Object>>, Option<ObjectKey>) {
    let first = match &after {
        Some(ObjectKey::Placement { kind, .. }) => {
            KINDS.iter().position(|one| one == kind).unwrap_or(0)
        }
        _ => 0,
    };
    let mut all = Vec::new();
    let mut after = after;
    for kind in &KINDS[first..] {
        let query = ListQuery {
            kind: ObjectKind::Placement(*kind),
            under: tenant.map(ObjectKey::tenant),
            filter: filter.clone(),
            deleted: false,
            limit: RESOURCES_SHOWN + 1 - all.len(),
            after: after.take(),
        };
        all.extend(metadata.list(&query).items);
        if all.len() > RESOURCES_SHOWN {
            all.truncate(RESOURCES_SHOWN);
            let last = all
                .last()
                .map(|object: &Arc<Object>| object.meta.key.clone());
            return (all, last);
        }
    }
    (all, None)
}

/// Whether a shard of it is on a broker.
fn is_on(object: &Object, broker: BrokerNumber) -> bool {
    let Body::Placement(placement) = &object.body else {
        return false;
    };
    let mut seats = placement.shards.iter().map(|shard| &shard.seat);
    seats.any(|seat| seat.leader == broker || seat.replicas.contains(&broker))
}

fn read_token(text: &str) -> Option<ObjectKey> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let key: ObjectKey = String::from_utf8(bytes).ok()?.parse().ok()?;
    matches!(key, ObjectKey::Placement { .. }).then_some(key)
}

fn row(
    metadata: &Metadata,
    columns: &[BrokerNumber],
    object: &Arc<Object>,
) -> Option<PlacementRow> {
    let ObjectKey::Placement {
        kind,
        tenant,
        namespace,
        name,
    } = &object.meta.key
    else {
        return None;
    };
    let Body::Placement(placement) = &object.body else {
        return None;
    };
    Some(PlacementRow {
        domain: kind.scheme().to_owned(),
        address: Address {
            tenant: tenant.to_string(),
            namespace: namespace.to_string(),
            name: name.to_string(),
        },
        state: state(metadata, placement),
        shards: shards(columns, placement),
    })
}

fn state(metadata: &Metadata, placement: &Placement) -> State {
    let up = |number: BrokerNumber| {
        let broker = metadata.broker(number).and_then(|object| object.broker());
        broker.is_some_and(|broker| broker.status() != BrokerStatus::Down)
    };
    let led = placement
        .shards
        .iter()
        .filter(|shard| up(shard.seat.leader))
        .count();
    let (level, text) = if led < placement.shards.len() {
        (Level::Bad, "its broker is down")
    } else if placement
        .plan
        .as_ref()
        .is_some_and(|plan| plan.is_pending())
    {
        (Level::Info, "is to move")
    } else {
        (Level::Ok, "placed")
    };
    State {
        level,
        text: text.to_owned(),
    }
}

fn shards(columns: &[BrokerNumber], placement: &Placement) -> Vec<ShardPlace> {
    let column = |number: &BrokerNumber| columns.iter().position(|one| one == number);
    let mut all = Vec::new();
    for (number, shard) in (0..).zip(&placement.shards) {
        let seat = &shard.seat;
        let leader = [(seat.leader, true)].into_iter();
        let others = seat.replicas.iter().filter(|one| **one != seat.leader);
        for (broker, leads) in leader.chain(others.map(|one| (*one, false))) {
            if let Some(column) = column(&broker) {
                all.push(ShardPlace {
                    shard: number,
                    broker: u16::try_from(column).unwrap_or(u16::MAX),
                    log: leads.then_some(seat.log),
                    leads,
                });
            }
        }
    }
    all
}
