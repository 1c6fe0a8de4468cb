//! `/api/v1/stats` and `/api/v1/{domain}/stats`

use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::Stand;
use crate::call::{Call, Reply, json};
use crate::views::stats::{self, CacheStats, GlobalStats, QueueStats, StreamStats};

/// The node and all domains.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct GlobalStatsAnswer {
    #[serde(flatten)]
    stats: GlobalStats,
    #[serde(flatten)]
    stand: Stand,
}

/// Streams.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct StreamStatsAnswer {
    #[serde(flatten)]
    stats: StreamStats,
    #[serde(flatten)]
    stand: Stand,
}

/// Queues.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct QueueStatsAnswer {
    #[serde(flatten)]
    stats: QueueStats,
    #[serde(flatten)]
    stand: Stand,
}

/// Caches.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct CacheStatsAnswer {
    #[serde(flatten)]
    stats: CacheStats,
    #[serde(flatten)]
    stand: Stand,
}

pub(crate) async fn global(call: Call) -> Reply {
    let (stats, as_of) = stats::global(&call.api, &call.who).await?;
    let stand = Stand::of(
        &call.api,
        as_of,
        &[
            "domains.stream.streams_active",
            "domains.queue.messages_pending",
        ],
        &["broker", "domains.stream", "domains.queue", "domains.cache"],
    );
    json(StatusCode::OK, &GlobalStatsAnswer { stats, stand })
}

pub(crate) async fn streams(call: Call) -> Reply {
    let (stats, as_of) = stats::streams(&call.api, &call.who, call.param("realm")).await?;
    let stand = Stand::of(
        &call.api,
        as_of,
        &["streams_active", "records", "durable_bytes"],
        &[
            "events_total",
            "events_by_realm",
            "operations_per_second",
            "append_sessions_active",
            "subscriptions_active",
            "memory_bytes",
        ],
    );
    json(StatusCode::OK, &StreamStatsAnswer { stats, stand })
}

pub(crate) async fn queues(call: Call) -> Reply {
    let family = call.family()?;
    let (stats, as_of) = stats::queues(&call.api, &call.who, call.param("realm"), family).await?;
    let stand = Stand::of(
        &call.api,
        as_of,
        &[
            "queues_active",
            "messages_pending",
            "messages_ready",
            "messages_delayed",
            "messages_dead_lettered",
            "oldest_message_age_seconds",
            "size_bytes",
        ],
        &[
            "inflight_active",
            "operations_per_second",
            "consumers_active",
            "takes_waiting",
            "enqueues_total",
            "reserves_total",
            "completes_total",
            "releases_total",
            "redeliveries_total",
            "inflight_expired_total",
            "dead_letter_transitions_total",
        ],
    );
    json(StatusCode::OK, &QueueStatsAnswer { stats, stand })
}

pub(crate) async fn caches(call: Call) -> Reply {
    let (stats, as_of) = stats::caches(&call.api, &call.who, call.param("realm")).await?;
    let stand = Stand::of(
        &call.api,
        as_of,
        &["caches_active"],
        &[
            "keys_total",
            "keys_by_realm",
            "operations_per_second",
            "operations_per_second_by_op",
            "used_bytes",
            "budget_bytes",
            "hits_total",
            "misses_total",
            "evictions_total",
            "expirations_total",
            "watches_active",
            "leases_active",
        ],
    );
    json(StatusCode::OK, &CacheStatsAnswer { stats, stand })
}
