//! `/api/v1/queue/…`

use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Part, Stand};
use crate::call::{Call, Reply, bad_parameter, json, no_content};
use crate::error::Failure;
use crate::model::Resource;
use crate::views::act::{self, By, Letters};
use crate::views::queues::{
    self, DeadLetterRow, GroupFacts, InFlightRow, Messages, QueuePartition, QueueRow, WhyFacts,
};
use crate::views::{At, Listed, declared};

const DURABLE: &[&str] = &[
    "deleting",
    "messages_ready",
    "messages_delayed",
    "messages_dead_lettered",
    "oldest_message_age_seconds",
    "size_bytes",
];
const LIVE: &[&str] = &[
    "messages_inflight",
    "consumers",
    "takes_waiting",
    "enqueues_total",
    "reserves_total",
    "redeliveries_total",
    "completes_total",
    "releases_total",
    "inflight_expired_total",
    "dead_letter_transitions_total",
    "enqueues_per_second",
    "reserves_per_second",
    "completes_per_second",
];

/// Queues of all that somebody may see, or of one tenant.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Queues {
    queues: Vec<QueueRow>,
    #[serde(flatten)]
    part: Part,
    #[serde(flatten)]
    stand: Stand,
}

/// Queues of a namespace.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct QueueResources {
    realm: String,
    area: String,
    resources: Vec<QueueRow>,
    #[serde(flatten)]
    part: Part,
    #[serde(flatten)]
    stand: Stand,
}

/// One queue.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct QueueDetail {
    #[serde(flatten)]
    row: QueueRow,
    /// Always true: what a queue has is counted whether anybody uses it or not.
    warm: bool,
    /// Those that were used since the node was started, or hold data.
    partition_details: Vec<QueuePartition>,
    /// What it was declared to be.
    declared: Resource,
    #[serde(flatten)]
    stand: Stand,
}

/// Consumer groups of a queue.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct QueueGroups {
    groups: Vec<GroupFacts>,
    #[serde(flatten)]
    stand: Stand,
}

/// Why groups of a queue are given nothing.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct QueueReasons {
    reasons: Vec<WhyFacts>,
    #[serde(flatten)]
    stand: Stand,
}

/// Messages that somebody has reserved.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct QueueInFlight {
    inflight: Vec<InFlightRow>,
    #[serde(flatten)]
    part: Part,
    #[serde(flatten)]
    stand: Stand,
}

/// Dead letters.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct QueueDeadLetters {
    messages: Vec<DeadLetterRow>,
    #[serde(flatten)]
    part: Part,
    #[serde(flatten)]
    stand: Stand,
}

/// Dead letters that are on their way.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(crate) struct LettersMoved {
    /// How many there were; they are moved one after the other from now on.
    messages: u64,
}

pub(crate) async fn flat(call: Call) -> Reply {
    let wanted = call.wanted()?;
    let family = call.family()?;
    let listed = queues::list(&call.api, &call.who, family, &wanted).await?;
    let answer = Queues {
        part: Part::of(&listed, wanted.paging),
        stand: Stand::of(&call.api, listed.as_of, DURABLE, LIVE),
        queues: listed.rows,
    };
    json(StatusCode::OK, &answer)
}

pub(crate) async fn list(call: Call) -> Reply {
    let family = call.family()?;
    let wanted = call.wanted_here().await?;
    let listed = queues::list(&call.api, &call.who, family, &wanted).await?;
    let answer = QueueResources {
        realm: call.part("t").to_owned(),
        area: call.part("ns").to_owned(),
        part: Part::of(&listed, wanted.paging),
        stand: Stand::of(&call.api, listed.as_of, DURABLE, LIVE),
        resources: listed.rows,
    };
    json(StatusCode::OK, &answer)
}

pub(crate) async fn get(call: Call) -> Reply {
    let family = call.family()?;
    let facts = queues::one(&call.api, &call.who, &call.address(), family).await?;
    let answer = QueueDetail {
        row: facts.row,
        warm: true,
        partition_details: facts.partitions,
        declared: declared(&facts.object)?,
        stand: Stand::of(&call.api, facts.as_of, DURABLE, LIVE),
    };
    json(StatusCode::OK, &answer)
}

pub(crate) async fn groups(call: Call) -> Reply {
    let family = call.family()?;
    let groups = queues::groups(&call.api, &call.who, &call.address(), family).await?;
    let stand = Stand::of(&call.api, At(crate::wall()), DURABLE, LIVE);
    json(StatusCode::OK, &QueueGroups { groups, stand })
}

pub(crate) async fn why(call: Call) -> Reply {
    let of = (call.family()?, call.param("group"));
    let reasons = queues::why(&call.api, &call.who, &call.address(), of).await?;
    let stand = Stand::of(&call.api, At(crate::wall()), &[], &["*"]);
    json(StatusCode::OK, &QueueReasons { reasons, stand })
}

fn messages(call: &Call) -> Result<Messages<'_>, Failure> {
    Ok(Messages {
        family: call.family()?,
        group: call.param("group"),
        error_prefix: call.param("error").unwrap_or_default(),
        bodies: false,
        paging: call.paging()?,
    })
}

fn in_flight_answer(call: &Call, listed: Listed<InFlightRow>) -> Reply {
    let answer = QueueInFlight {
        part: Part::of(&listed, call.paging()?),
        stand: Stand::of(&call.api, listed.as_of, &[], &["*"]),
        inflight: listed.rows,
    };
    json(StatusCode::OK, &answer)
}

pub(crate) async fn in_flight(call: Call) -> Reply {
    let which = messages(&call)?;
    let listed = queues::in_flight(&call.api, &call.who, &call.address(), which).await?;
    in_flight_answer(&call, listed)
}

pub(crate) async fn all_in_flight(call: Call) -> Reply {
    let (realm, paging) = (call.param("realm"), call.paging()?);
    let listed = queues::all_in_flight(&call.api, &call.who, realm, paging).await?;
    in_flight_answer(&call, listed)
}

pub(crate) async fn dead_letters(call: Call) -> Reply {
    let which = messages(&call)?;
    let listed = queues::dead_letters(&call.api, &call.who, &call.address(), which).await?;
    let answer = QueueDeadLetters {
        part: Part::of(&listed, which.paging),
        stand: Stand::of(&call.api, listed.as_of, &["messages"], &[]),
        messages: listed.rows,
    };
    json(StatusCode::OK, &answer)
}

/// Who does something to dead letters.
fn by(call: &Call, confirmed: bool) -> By<'_> {
    By {
        who: &call.who,
        request: call.number,
        confirmed,
    }
}

/// Which letter the path names: partition, group and number.
fn letter(call: &Call) -> Result<(u16, &str, u64), Failure> {
    let id = call.part("id");
    let number = id.parse().ok();
    let number = number.filter(|_| id.bytes().all(|byte| byte.is_ascii_digit()));
    let number = number.ok_or_else(|| bad_parameter("message_id", "a number is expected"))?;
    let group = call.param("group").unwrap_or_default();
    Ok((call.this_family()?, group, number))
}

fn letters(call: &Call) -> Letters<'_> {
    Letters {
        group: call.param("group").unwrap_or_default(),
        error_prefix: call.param("error").unwrap_or_default(),
    }
}

pub(crate) async fn replay(call: Call) -> Reply {
    let letter = letter(&call)?;
    act::replay(
        &call.api,
        by(&call, call.is_confirmed()),
        &call.address(),
        letter,
    )
    .await?;
    Ok(no_content())
}

pub(crate) async fn delete(call: Call) -> Reply {
    let letter = letter(&call)?;
    act::delete_letter(
        &call.api,
        by(&call, call.is_confirmed()),
        &call.address(),
        letter,
    )
    .await?;
    Ok(no_content())
}

pub(crate) async fn redrive(call: Call) -> Reply {
    let rate = call.number_param("rate")?.unwrap_or(0);
    let rate = u32::try_from(rate);
    let rate = rate.map_err(|_| bad_parameter("rate", "fewer in a second are expected"))?;
    let which = (call.this_family()?, letters(&call), rate);
    let messages = act::redrive(&call.api, by(&call, true), &call.address(), which).await?;
    json(StatusCode::ACCEPTED, &LettersMoved { messages })
}

pub(crate) async fn purge(call: Call) -> Reply {
    let which = (call.this_family()?, letters(&call));
    let messages = act::purge(&call.api, by(&call, true), &call.address(), which).await?;
    json(StatusCode::ACCEPTED, &LettersMoved { messages })
}
