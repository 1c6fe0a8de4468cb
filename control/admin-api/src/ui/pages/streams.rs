//! Streams: those there are, and one of them.

use pinion_admin_ui::model::{
    CursorRow, Kind, PartitionRow, ROWS_MAX, RecordRow, Stream, StreamRow, Streams, SubscriptionRow,
};
use pinion_types::ResourceKind;

use super::resources::{Asked, address, deletion, fresh, named, problem, purge_in_ms, state};
use crate::error::Failure;
use crate::ui::context::{PageContext, Shown};
use crate::ui::data::text::{HEADERS_MAX, KEY_BYTES, VALUE_BYTES, shown};
use crate::ui::data::{count, spec};
use crate::views::sessions;
use crate::views::streams::{
    self, CursorFacts, Readers, RecordFacts, StreamNumbers, StreamPartition,
};

/// Columns that the list can be sorted by.
const COLUMNS: [&str; 7] = [
    "name",
    "partitions",
    "records",
    "size",
    "in",
    "out",
    "readers",
];

/// Readers that the page of a stream shows, slowest first.
const READERS_SHOWN_MAX: usize = 50;

/// Cursors that it shows.
const CURSORS_SHOWN_MAX: usize = 50;

/// Newest records that it shows.
const NEWEST_SHOWN_MAX: u32 = 10;

/// Partitions whose newest records are read for it: those with the most.
const NEWEST_PARTITIONS: usize = 4;

fn key(column: &str) -> Option<fn(&StreamNumbers) -> f64> {
    Some(match column {
        "partitions" => |numbers| f64::from(numbers.partitions),
        "records" => |numbers| count(numbers.records),
        "size" => |numbers| count(numbers.size_bytes),
        "in" => |numbers| numbers.in_per_second,
        "out" => |numbers| numbers.out_per_second,
        "readers" => |numbers| count(numbers.subscriptions),
        _ => return None,
    })
}

/// `/ui/streams`
pub(super) async fn list(context: &PageContext) -> Result<Shown, Failure> {
    let asked = Asked::of(context, &COLUMNS);
    let (api, who) = (&context.api, &context.who);
    let total = match asked.is_reversed() {
        true => streams::list(api, who, &asked.count()).await?.total,
        false => 0,
    };
    let wanted = asked.wanted(key(&asked.sort.by), total);
    let listed = streams::list(api, who, &wanted).await?;
    let as_of = listed.as_of;
    let (rows, list) = asked.shown(listed).await?;
    let row = |row: streams::StreamRow| StreamRow {
        address: named(&row.named),
        state: state(row.numbers.state),
        purge_in_ms: purge_in_ms(context, row.deleting),
        durable: row.numbers.durable,
        partitions: row.numbers.partitions.into(),
        records: row.numbers.records,
        size_bytes: row.numbers.size_bytes,
        in_per_s: row.numbers.in_per_second,
        out_per_s: row.numbers.out_per_second,
        subscriptions: row.numbers.subscriptions,
    };
    Ok(Streams {
        list,
        rows: rows.into_iter().map(row).collect(),
        fresh: fresh(context, Kind::Mixed, as_of),
    }
    .into())
}

/// `/ui/streams/{tenant}/{namespace}/{*name}`
pub(super) async fn one(context: &PageContext) -> Result<Shown, Failure> {
    let (api, who) = (&context.api, &context.who);
    let address = address(context);
    let facts = streams::one(api, who, &address).await?;
    let readers = streams::readers(api, who, &address).await;
    let cursors = match facts.row.numbers.durable {
        true => streams::cursors(api, who, &address).await,
        // What is in memory alone keeps no places.
        false => Ok(Vec::new()),
    };
    let newest = newest(context, &facts.partitions).await;
    let problems = [problem(&readers), problem(&cursors), problem(&newest)];
    let numbers = &facts.row.numbers;
    let rates = [numbers.in_per_second, numbers.out_per_second];
    let [in_per_s, out_per_s] = api.trails.add(numbers.id, facts.as_of.0, rates);
    let marks = |partition: u16| {
        let mut of = facts.partitions.iter();
        let found = of.find(|one| one.partition == partition);
        found.map_or(0, |one| one.watermark)
    };
    let (subscriptions, subscriptions_total) = match &readers {
        Ok(readers) => (reader_rows(context, readers).await, readers.total as u64),
        Err(_) => (Vec::new(), 0),
    };
    let cursors = cursors.unwrap_or_default();
    Ok(Stream {
        address: named(&facts.row.named),
        state: state(numbers.state),
        durable: numbers.durable,
        deletion: deletion(context, ResourceKind::Stream).await?,
        problem: problems
            .into_iter()
            .find(|text| !text.is_empty())
            .unwrap_or_default(),
        spec: spec::facts(ResourceKind::Stream, &facts.object),
        spec_fresh: context.fresh(Kind::Durable),
        in_per_s,
        out_per_s,
        traffic_fresh: fresh(context, Kind::Live, facts.as_of),
        partitions: facts
            .partitions
            .iter()
            .take(ROWS_MAX)
            .map(|one| partition(context, one))
            .collect(),
        partitions_total: facts.partitions.len() as u64,
        fresh: fresh(context, Kind::Mixed, facts.as_of),
        subscriptions_total,
        subscriptions,
        subscriptions_fresh: context.fresh(Kind::Live),
        cursors_total: cursors.len() as u64,
        cursors: cursors
            .iter()
            .take(CURSORS_SHOWN_MAX)
            .map(|one| cursor(one, marks(one.partition)))
            .collect(),
        cursors_fresh: context.fresh(Kind::Durable),
        newest: newest.unwrap_or_default().iter().map(record).collect(),
        newest_fresh: context.fresh(Kind::kept(numbers.durable)),
    }
    .into())
}

fn partition(context: &PageContext, one: &StreamPartition) -> PartitionRow {
    PartitionRow {
        partition: one.partition.into(),
        // Facts are of this node's own partitions.
        broker: context.api.node.to_string(),
        core: one.core,
        first_offset: one.first_offset,
        watermark: one.watermark,
        size_bytes: one.size_bytes,
        in_per_s: one.in_per_second,
        append_sessions: one.sessions_active,
        subscriptions: one.subscriptions,
        state: state(one.state),
    }
}

async fn reader_rows(context: &PageContext, readers: &Readers) -> Vec<SubscriptionRow> {
    let rows = || readers.rows.iter().take(READERS_SHOWN_MAX);
    let sessions = rows().map(|one| one.session_id).collect();
    let names = sessions::principals(&context.api, sessions).await;
    rows()
        .map(|one| SubscriptionRow {
            session: one.session_id.to_string(),
            // It was closed since.
            principal: names
                .get(&one.session_id)
                .map_or("–", |name| name)
                .to_owned(),
            partition: one.partition.into(),
            offset: one.offset,
            lag_records: one.lag_records,
            credit_records: Some(one.credit_records),
        })
        .collect()
}

fn cursor(one: &CursorFacts, watermark: u64) -> CursorRow {
    CursorRow {
        name: one.name.clone(),
        partition: one.partition.into(),
        offset: one.offset,
        lag_records: watermark.saturating_sub(one.offset),
    }
}

/// The newest records of the partitions that have the most, newest first.
async fn newest(
    context: &PageContext,
    partitions: &[StreamPartition],
) -> Result<Vec<RecordFacts>, Failure> {
    let mut fullest: Vec<&StreamPartition> = partitions
        .iter()
        .filter(|one| one.watermark > one.first_offset)
        .collect();
    fullest.sort_by(|a, b| {
        let rate = b.in_per_second.total_cmp(&a.in_per_second);
        rate.then(b.watermark.cmp(&a.watermark))
    });
    let address = address(context);
    let mut all = Vec::new();
    for one in fullest.into_iter().take(NEWEST_PARTITIONS) {
        let which = (one.partition, NEWEST_SHOWN_MAX);
        all.extend(streams::newest(&context.api, &context.who, &address, which).await?);
    }
    all.sort_by_key(|one| core::cmp::Reverse((one.at, one.offset)));
    all.truncate(NEWEST_SHOWN_MAX as usize);
    Ok(all)
}

fn record(one: &RecordFacts) -> RecordRow {
    let header = |(name, value): &(Vec<u8>, Vec<u8>)| {
        format!("{}={}", shown(name, KEY_BYTES), shown(value, KEY_BYTES))
    };
    RecordRow {
        partition: one.partition.into(),
        offset: one.offset,
        at_unix_ms: one.at.0,
        key: shown(&one.key, KEY_BYTES),
        headers: one.headers.iter().take(HEADERS_MAX).map(header).collect(),
        value: shown(&one.value, VALUE_BYTES),
        value_bytes: one.value.len() as u64,
    }
}
