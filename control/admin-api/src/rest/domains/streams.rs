//! `/api/v1/stream/…`

use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Part, Stand};
use crate::call::{Call, Reply, bad_parameter, json};
use crate::model::Resource;
use crate::views::act::{self, By};
use crate::views::sessions::SessionId;
use crate::views::streams::{self, CursorFacts, StreamPartition, StreamRow, StreamSubscription};
use crate::views::{At, declared};

const DURABLE: &[&str] = &[
    "deleting",
    "offset",
    "watermark",
    "records",
    "size_bytes",
    "first_offset",
];
const LIVE: &[&str] = &[
    "memory_bytes",
    "sessions_active",
    "subscriptions",
    "events_total",
    "in_per_second",
    "out_per_second",
    "out_bytes_per_second",
];

/// Streams of all that somebody may see, or of one tenant.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Streams {
    streams: Vec<StreamRow>,
    #[serde(flatten)]
    part: Part,
    #[serde(flatten)]
    stand: Stand,
}

/// Streams of a namespace.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct StreamResources {
    realm: String,
    area: String,
    resources: Vec<StreamRow>,
    #[serde(flatten)]
    part: Part,
    #[serde(flatten)]
    stand: Stand,
}

/// One stream.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct StreamDetail {
    #[serde(flatten)]
    row: StreamRow,
    /// Those that were used since the node was started, or hold data. An array, as
    /// `partitions` is how many were declared.
    partition_details: Vec<StreamPartition>,
    /// What it was declared to be.
    declared: Resource,
    #[serde(flatten)]
    stand: Stand,
}

/// Who reads a stream, slowest first.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct StreamReaders {
    subscriptions: Vec<StreamSubscription>,
    #[serde(flatten)]
    part: Part,
    #[serde(flatten)]
    stand: Stand,
}

/// Places kept for readers.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct StreamCursors {
    cursors: Vec<CursorFacts>,
    #[serde(flatten)]
    part: Part,
    #[serde(flatten)]
    stand: Stand,
}

pub(crate) async fn flat(call: Call) -> Reply {
    let wanted = call.wanted()?;
    let listed = streams::list(&call.api, &call.who, &wanted).await?;
    let answer = Streams {
        part: Part::of(&listed, wanted.paging),
        stand: Stand::of(&call.api, listed.as_of, DURABLE, LIVE),
        streams: listed.rows,
    };
    json(StatusCode::OK, &answer)
}

pub(crate) async fn list(call: Call) -> Reply {
    let wanted = call.wanted_here().await?;
    let listed = streams::list(&call.api, &call.who, &wanted).await?;
    let answer = StreamResources {
        realm: call.part("t").to_owned(),
        area: call.part("ns").to_owned(),
        part: Part::of(&listed, wanted.paging),
        stand: Stand::of(&call.api, listed.as_of, DURABLE, LIVE),
        resources: listed.rows,
    };
    json(StatusCode::OK, &answer)
}

pub(crate) async fn get(call: Call) -> Reply {
    let facts = streams::one(&call.api, &call.who, &call.address()).await?;
    let answer = StreamDetail {
        row: facts.row,
        partition_details: facts.partitions,
        declared: declared(&facts.object)?,
        stand: Stand::of(&call.api, facts.as_of, DURABLE, LIVE),
    };
    json(StatusCode::OK, &answer)
}

pub(crate) async fn readers(call: Call) -> Reply {
    let paging = call.paging()?;
    let readers = streams::readers(&call.api, &call.who, &call.address()).await?;
    let answer = StreamReaders {
        subscriptions: paging.cut(&readers.rows).to_vec(),
        part: Part::new(readers.total, paging),
        stand: Stand::of(&call.api, readers.as_of, &[], &["*"]),
    };
    json(StatusCode::OK, &answer)
}

pub(crate) async fn cursors(call: Call) -> Reply {
    let paging = call.paging()?;
    let all = streams::cursors(&call.api, &call.who, &call.address()).await?;
    let answer = StreamCursors {
        cursors: paging.cut(&all).to_vec(),
        part: Part::new(all.len(), paging),
        stand: Stand::of(&call.api, At(crate::wall()), &["cursors"], &[]),
    };
    json(StatusCode::OK, &answer)
}

/// Ends a subscription or watch of any resource.
pub(crate) async fn end(call: Call) -> Reply {
    let id = SessionId::parse(call.part("s"));
    let id = id.ok_or_else(|| bad_parameter("session", "CORE.NUMBER is expected"))?;
    let number = call.part("id").parse();
    let number = number.map_err(|_| bad_parameter("subscription", "a number is expected"))?;
    let by = By {
        who: &call.who,
        request: call.number,
        confirmed: true,
    };
    act::end_subscription(&call.api, by, (id, number)).await?;
    super::sessions::closed(id)
}
