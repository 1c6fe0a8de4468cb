//! Caches: those there are, and one of them.

use pinion_admin_ui::model::{Cache, CachePartitionRow, CacheRow, Caches, Kind, ROWS_MAX, Share};
use pinion_types::ResourceKind;

use super::resources::{Asked, address, deletion, fresh, named, purge_in_ms, state};
use crate::error::Failure;
use crate::ui::context::{PageContext, Shown};
use crate::ui::data::{count, permille, spec};
use crate::views::caches::{self, CacheNumbers, CachePartition};

/// Columns that the list can be sorted by.
const COLUMNS: [&str; 8] = [
    "name", "entries", "used", "budget", "hits", "get", "set", "evicted",
];

fn key(column: &str) -> Option<fn(&CacheNumbers) -> f64> {
    Some(match column {
        "entries" => |numbers| count(numbers.keys_total),
        "used" => |numbers| count(numbers.used_bytes),
        "budget" => |numbers| count(numbers.budget_bytes),
        // Those that nobody asked come after those that found nothing.
        "hits" => |numbers| numbers.hit_ratio.unwrap_or(-1.0),
        "get" => |numbers| numbers.gets_per_second,
        "set" => |numbers| numbers.changes_per_second,
        "evicted" => |numbers| numbers.evictions_per_second,
        _ => return None,
    })
}

/// `/ui/caches`
pub(super) async fn list(context: &PageContext) -> Result<Shown, Failure> {
    let asked = Asked::of(context, &COLUMNS);
    let (api, who) = (&context.api, &context.who);
    let total = match asked.is_reversed() {
        true => caches::list(api, who, &asked.count()).await?.total,
        false => 0,
    };
    let wanted = asked.wanted(key(&asked.sort.by), total);
    let listed = caches::list(api, who, &wanted).await?;
    let as_of = listed.as_of;
    let (rows, list) = asked.shown(listed).await?;
    let row = |row: caches::CacheRow| CacheRow {
        address: named(&row.named),
        state: state(row.numbers.state),
        purge_in_ms: purge_in_ms(context, row.deleting),
        entries: row.numbers.keys_total,
        used_bytes: row.numbers.used_bytes,
        budget_bytes: row.numbers.budget_bytes,
        hit_permille: row.numbers.hit_ratio.map(permille),
        get_per_s: row.numbers.gets_per_second,
        set_per_s: row.numbers.changes_per_second,
        evicted_per_s: row.numbers.evictions_per_second,
    };
    Ok(Caches {
        list,
        rows: rows.into_iter().map(row).collect(),
        fresh: fresh(context, Kind::Live, as_of),
    }
    .into())
}

/// `/ui/caches/{tenant}/{namespace}/{*name}`
pub(super) async fn one(context: &PageContext) -> Result<Shown, Failure> {
    let (api, who) = (&context.api, &context.who);
    let facts = caches::one(api, who, &address(context)).await?;
    let numbers = &facts.row.numbers;
    let rates = [
        numbers.hit_ratio.map_or(f64::NAN, |ratio| ratio * 100.0),
        numbers.gets_per_second,
    ];
    let [hit_percent, get_per_s] = api.trails.add(numbers.id, facts.as_of.0, rates);
    Ok(Cache {
        address: named(&facts.row.named),
        state: state(numbers.state),
        deletion: deletion(context, ResourceKind::Cache).await?,
        memory: vec![Share {
            name: "entries".to_owned(),
            amount: numbers.used_bytes,
            kind: None,
        }],
        budget_bytes: numbers.budget_bytes,
        hit_percent,
        get_per_s,
        partitions: facts
            .partitions
            .iter()
            .take(ROWS_MAX)
            .map(partition)
            .collect(),
        partitions_total: facts.partitions.len() as u64,
        fresh: fresh(context, Kind::Live, facts.as_of),
        spec: spec::facts(ResourceKind::Cache, &facts.object),
        spec_fresh: context.fresh(Kind::Durable),
    }
    .into())
}

fn partition(one: &CachePartition) -> CachePartitionRow {
    let numbers = &one.numbers;
    CachePartitionRow {
        partition: one.partition.into(),
        core: one.core,
        entries: numbers.keys_total,
        used_bytes: numbers.used_bytes,
        budget_bytes: numbers.budget_bytes,
        hit_permille: numbers.hit_ratio.map(permille),
        evicted_per_s: numbers.evictions_per_second,
        expired_per_s: numbers.expirations_per_second,
        watches: numbers.watches_active,
    }
}
