//! Queues: those there are, one of them, what its consumers have, and its dead letters.

use pinion_admin_ui::model::{
    DeadLetterRow, DeadLetters, GroupRow, InFlight, InFlightRow, Kind, Queue, QueueRow, Queues,
    ROWS_MAX, Share, Sort,
};
use pinion_metadata::Body;
use pinion_types::ResourceKind;

use super::list::{listing, search};
use super::resources::{
    Asked, address, deletion, fresh, kept, named, pages, problem, purge_in_ms, shown_address, state,
};
use crate::error::Failure;
use crate::ui::context::{PageContext, Shown};
use crate::ui::data::text::{KEY_BYTES, VALUE_BYTES, shown, shown_text};
use crate::ui::data::{count, spec, why};
use crate::views::Paging;
use crate::views::queues::{self, GroupFacts, Messages, QueueNumbers};

/// Columns that the list can be sorted by.
const COLUMNS: [&str; 8] = [
    "name",
    "ready",
    "delayed",
    "in_flight",
    "dead",
    "oldest",
    "put",
    "ack",
];

/// Groups that the page of a queue shows.
const GROUPS_SHOWN_MAX: usize = 100;

/// Reasons that it shows.
const REASONS_SHOWN_MAX: usize = 20;

fn key(column: &str) -> Option<fn(&QueueNumbers) -> f64> {
    Some(match column {
        "ready" => |numbers| count(numbers.messages_ready),
        "delayed" => |numbers| count(numbers.messages_delayed),
        "in_flight" => |numbers| count(numbers.messages_inflight),
        "dead" => |numbers| count(numbers.messages_dead_lettered),
        "oldest" => |numbers| count(numbers.oldest_message_age_seconds),
        "put" => |numbers| numbers.enqueues_per_second,
        "ack" => |numbers| numbers.completes_per_second,
        _ => return None,
    })
}

/// Age of the oldest message that is ready; `None` when there is none.
fn oldest_ms(seconds: u64, ready: u64) -> Option<u64> {
    (ready > 0).then(|| seconds.saturating_mul(1_000))
}

/// `/ui/queues`
pub(super) async fn list(context: &PageContext) -> Result<Shown, Failure> {
    let asked = Asked::of(context, &COLUMNS);
    let (api, who) = (&context.api, &context.who);
    let total = match asked.is_reversed() {
        true => queues::list(api, who, None, &asked.count()).await?.total,
        false => 0,
    };
    let wanted = asked.wanted(key(&asked.sort.by), total);
    let listed = queues::list(api, who, None, &wanted).await?;
    let as_of = listed.as_of;
    let (rows, list) = asked.shown(listed).await?;
    let row = |row: queues::QueueRow| {
        let numbers = &row.numbers;
        QueueRow {
            address: named(&row.named),
            state: state(numbers.state),
            purge_in_ms: purge_in_ms(context, row.deleting),
            durable: numbers.durable,
            ready: numbers.messages_ready,
            delayed: numbers.messages_delayed,
            in_flight: numbers.messages_inflight,
            dead: numbers.messages_dead_lettered,
            oldest_ms: oldest_ms(numbers.oldest_message_age_seconds, numbers.messages_ready),
            put_per_s: numbers.enqueues_per_second,
            ack_per_s: numbers.completes_per_second,
        }
    };
    Ok(Queues {
        list,
        rows: rows.into_iter().map(row).collect(),
        fresh: fresh(context, Kind::Mixed, as_of),
    }
    .into())
}

/// `/ui/queues/{tenant}/{namespace}/{*name}`
pub(super) async fn one(context: &PageContext) -> Result<Shown, Failure> {
    let (api, who) = (&context.api, &context.who);
    let address = address(context);
    let facts = queues::one(api, who, &address, None).await?;
    let groups = queues::groups(api, who, &address, None).await;
    let reasons = queues::why(api, who, &address, (None, None)).await;
    let problems = [problem(&groups), problem(&reasons)];
    let numbers = &facts.row.numbers;
    let rates = [numbers.enqueues_per_second, numbers.completes_per_second];
    let [put_per_s, ack_per_s] = api.trails.add(numbers.id, facts.as_of.0, rates);
    let kept = Kind::kept(numbers.durable);
    let counts = [
        ("ready", numbers.messages_ready, kept),
        ("delayed", numbers.messages_delayed, kept),
        ("in flight", numbers.messages_inflight, Kind::Live),
        ("dead", numbers.messages_dead_lettered, kept),
    ];
    let most = match &facts.object.body {
        Body::Resource(resource) => resource.spec.queue.map_or(0, |queue| {
            u64::from(queue.max_in_flight) * u64::from(resource.spec.shards)
        }),
        _ => 0,
    };
    let mut reasons = why::rows(&reasons.unwrap_or_default(), context.now.0);
    reasons.truncate(REASONS_SHOWN_MAX);
    let groups = groups.unwrap_or_default();
    Ok(Queue {
        address: named(&facts.row.named),
        state: state(numbers.state),
        durable: numbers.durable,
        deletion: deletion(context, ResourceKind::Queue).await?,
        problem: problems
            .into_iter()
            .find(|text| !text.is_empty())
            .unwrap_or_default(),
        counts: counts
            .map(|(name, amount, kind)| Share {
                name: name.to_owned(),
                amount,
                kind: Some(kind),
            })
            .to_vec(),
        counts_fresh: fresh(context, Kind::Mixed, facts.as_of),
        put_per_s,
        ack_per_s,
        why: reasons,
        why_fresh: context.fresh(Kind::Live),
        groups: groups
            .iter()
            .take(GROUPS_SHOWN_MAX)
            .map(|one| group(one, most))
            .collect(),
        groups_fresh: context.fresh(Kind::Mixed),
        spec: spec::facts(ResourceKind::Queue, &facts.object),
        spec_fresh: context.fresh(Kind::Durable),
    }
    .into())
}

fn group(one: &GroupFacts, in_flight_max: u64) -> GroupRow {
    GroupRow {
        name: one.group.clone(),
        ready: one.messages_ready,
        delayed: one.messages_delayed,
        in_flight: one.messages_inflight,
        in_flight_max,
        dead: one.messages_dead_lettered,
        consumers: one.consumers + one.takes_waiting,
        oldest_ms: oldest_ms(one.oldest_message_age_seconds, one.messages_ready),
    }
}

/// Which messages a page is to show.
fn messages(context: &PageContext) -> (Messages<'_>, usize) {
    let skip: usize = context.param("page").parse().unwrap_or(0);
    let which = Messages {
        family: None,
        group: None,
        error_prefix: "",
        bodies: false,
        paging: Paging {
            limit: ROWS_MAX,
            offset: skip,
        },
    };
    (which, skip)
}

/// `/ui/in-flight/{tenant}/{namespace}/{*name}`
pub(super) async fn in_flight(context: &PageContext) -> Result<Shown, Failure> {
    let (which, skip) = messages(context);
    let address = address(context);
    let listed = queues::in_flight(&context.api, &context.who, &address, which).await?;
    let pages = pages(skip, listed.rows.len(), listed.total);
    let row = |one: &queues::InFlightRow| InFlightRow {
        message: format!("{}/{}", one.family, one.message_id),
        group: one.group.clone(),
        attempt: u32::from(one.attempts) + 1,
        put_unix_ms: one.enqueued_at.0.0,
        expires_in_ms: one.expires_at.0.0.saturating_sub(context.now.0),
        last_error: shown_text(&one.last_error, KEY_BYTES),
        size_bytes: one.size_bytes,
    };
    Ok(InFlight {
        address: shown_address(context),
        list: listing(context, Sort::default(), pages),
        rows: listed.rows.iter().map(row).collect(),
        fresh: fresh(context, Kind::Live, listed.as_of),
    }
    .into())
}

/// `/ui/dead-letters/{tenant}/{namespace}/{*name}`
pub(super) async fn dead_letters(context: &PageContext) -> Result<Shown, Failure> {
    let (mut which, skip) = messages(context);
    which.error_prefix = search(context);
    which.bodies = true;
    let address = address(context);
    let listed = queues::dead_letters(&context.api, &context.who, &address, which).await?;
    let pages = pages(skip, listed.rows.len(), listed.total);
    let kept = kept(context, ResourceKind::Queue, &shown_address(context)).await?;
    let row = |one: &queues::DeadLetterRow| DeadLetterRow {
        message: format!("{}/{}", one.family, one.message_id),
        group: one.group.clone(),
        at_unix_ms: one.dead_lettered_at.0.0,
        put_unix_ms: one.enqueued_at.0.0,
        attempts: one.attempts.into(),
        reason: one.reason.to_owned(),
        last_error: shown_text(&one.last_error, VALUE_BYTES),
        preview: match &one.value {
            Some(value) => shown(value, KEY_BYTES),
            // The log moved it just now.
            None => "–".to_owned(),
        },
        size_bytes: one.size_bytes,
    };
    Ok(DeadLetters {
        address: shown_address(context),
        list: listing(context, Sort::default(), pages),
        rows: listed.rows.iter().map(row).collect(),
        fresh: fresh(context, kept, listed.as_of),
    }
    .into())
}
