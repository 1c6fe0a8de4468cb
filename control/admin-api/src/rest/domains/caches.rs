//! `/api/v1/cache/…`

use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Part, Stand};
use crate::call::{Call, Reply, json};
use crate::model::Resource;
use crate::views::caches::{self, CachePartition, CacheRow};
use crate::views::declared;

/// Nothing of what is in a cache outlives a restart.
const DURABLE: &[&str] = &["deleting"];
const LIVE: &[&str] = &["*"];

/// Caches of all that somebody may see, or of one tenant.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Caches {
    caches: Vec<CacheRow>,
    #[serde(flatten)]
    part: Part,
    #[serde(flatten)]
    stand: Stand,
}

/// Caches of a namespace.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct CacheResources {
    realm: String,
    area: String,
    resources: Vec<CacheRow>,
    #[serde(flatten)]
    part: Part,
    #[serde(flatten)]
    stand: Stand,
}

/// One cache.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct CacheDetail {
    #[serde(flatten)]
    row: CacheRow,
    /// Those that were used since the node was started.
    partition_details: Vec<CachePartition>,
    /// What it was declared to be.
    declared: Resource,
    #[serde(flatten)]
    stand: Stand,
}

pub(crate) async fn flat(call: Call) -> Reply {
    let wanted = call.wanted()?;
    let listed = caches::list(&call.api, &call.who, &wanted).await?;
    let answer = Caches {
        part: Part::of(&listed, wanted.paging),
        stand: Stand::of(&call.api, listed.as_of, DURABLE, LIVE),
        caches: listed.rows,
    };
    json(StatusCode::OK, &answer)
}

pub(crate) async fn list(call: Call) -> Reply {
    let wanted = call.wanted_here().await?;
    let listed = caches::list(&call.api, &call.who, &wanted).await?;
    let answer = CacheResources {
        realm: call.part("t").to_owned(),
        area: call.part("ns").to_owned(),
        part: Part::of(&listed, wanted.paging),
        stand: Stand::of(&call.api, listed.as_of, DURABLE, LIVE),
        resources: listed.rows,
    };
    json(StatusCode::OK, &answer)
}

pub(crate) async fn get(call: Call) -> Reply {
    let facts = caches::one(&call.api, &call.who, &call.address()).await?;
    let answer = CacheDetail {
        row: facts.row,
        partition_details: facts.partitions,
        declared: declared(&facts.object)?,
        stand: Stand::of(&call.api, facts.as_of, DURABLE, LIVE),
    };
    json(StatusCode::OK, &answer)
}
