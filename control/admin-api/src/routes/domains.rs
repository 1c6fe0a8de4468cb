//! Routes below `/api/v1`: what runs. Each is also below `/admin` and `/api/v1/admin`.
//!
//! A tenant is called a realm there, a namespace an area, and a partition of a queue a
//! family. A domain that comes later adds its rows.

use pinion_metadata::Action;

use super::{Handler, Need, OPERATOR_READS, ObjectOf, Route, Verb, get, told, write};
use crate::rest::domains::{self, caches, cluster, queues, sessions, stats, streams};

const READS: Need = Need::Reach(Action::AdminRead);
const WRITES: Need = Need::Reach(Action::AdminWrite);
const READS_TENANT: Need = Need::On(Action::AdminRead, ObjectOf::Tenant);
const WRITES_TENANT: Need = Need::On(Action::AdminWrite, ObjectOf::Tenant);

/// Something to look at.
const fn look(
    path: &'static str,
    need: Need,
    query: &'static [&'static str],
    answer: &'static str,
    handler: Handler,
) -> Route {
    Route {
        query,
        ..get(path, need, answer, handler)
    }
}

/// Something that is asked of partitions, which another node may serve.
const fn ask(
    path: &'static str,
    query: &'static [&'static str],
    answer: &'static str,
    handler: Handler,
) -> Route {
    Route {
        others: &[421],
        ..look(path, READS_TENANT, query, answer, handler)
    }
}

/// Something to do. It is known by no number, so that a repeat is done again, or meets that
/// there is nothing to do any more.
const fn act(
    method: Verb,
    path: &'static str,
    need: Need,
    query: &'static [&'static str],
    success: u16,
    handler: Handler,
) -> Route {
    Route {
        query,
        others: &[409, 421],
        ..write(method, path, need, success, handler)
    }
}

/// The same, for who says that they mean it.
const fn confirmed(route: Route, answer: &'static str) -> Route {
    Route {
        confirm: true,
        answer: Some(answer),
        ..route
    }
}

const PAGE: &[&str] = &["limit", "offset"];
const LIST: &[&str] = &["realm", "q", "limit", "offset"];
const LIST_HERE: &[&str] = &["q", "limit", "offset"];
const QUEUE_LIST: &[&str] = &["realm", "q", "family", "limit", "offset"];
const QUEUE_LIST_HERE: &[&str] = &["q", "family", "limit", "offset"];

macro_rules! queue {
    ($($rest:literal)?) => {
        concat!("/api/v1/queue/realms/{t}/areas/{ns}/resources/{r}", $($rest)?)
    };
}

pub(super) const DOMAINS: &[Route] = &[
    told(
        look("/api/v1/stats", READS, &[], "GlobalStatsAnswer", |call| {
            Box::pin(stats::global(call))
        }),
        "stats",
        "The node and all domains in numbers",
    ),
    told(
        look(
            "/api/v1/topology",
            OPERATOR_READS,
            &[],
            "TopologyAnswer",
            |call| Box::pin(cluster::topology(call)),
        ),
        "topology",
        "The node, its cores, the brokers and who leads",
    ),
    told(
        look("/api/v1/storage", OPERATOR_READS, &[], "Storage", |call| {
            Box::pin(cluster::storage(call))
        }),
        "storage",
        "Logs of the node and the space they take",
    ),
    told(
        look(
            "/api/v1/troubleshooting",
            READS,
            &["realm"],
            "Troubles",
            |call| Box::pin(cluster::troubleshooting(call)),
        ),
        "troubleshoot",
        "What is wrong, worst first, and what to do about it",
    ),
    told(
        look("/api/v1/search", READS, LIST, "SearchResults", |call| {
            Box::pin(cluster::search(call))
        }),
        "search",
        "Where something is by a part of its name",
    ),
    // ------------------------------------------------------------------ sessions
    told(
        look("/api/v1/sessions", READS, LIST, "Sessions", |call| {
            Box::pin(sessions::list(call))
        }),
        "sessions list",
        "Who is connected to the node",
    ),
    told(
        confirmed(
            act(
                Verb::Post,
                "/api/v1/sessions/{s}/close",
                WRITES,
                &[],
                200,
                |call| Box::pin(sessions::close(call)),
            ),
            "SessionEnded",
        ),
        "sessions close",
        "End a connection",
    ),
    told(
        confirmed(
            act(
                Verb::Post,
                "/api/v1/sessions/{s}/subscriptions/{id}/end",
                WRITES,
                &[],
                200,
                |call| Box::pin(streams::end(call)),
            ),
            "SessionEnded",
        ),
        "sessions end-subscription",
        "End a subscription or watch of a connection",
    ),
    // ------------------------------------------------------------------- streams
    told(
        look(
            "/api/v1/stream/stats",
            READS,
            &["realm"],
            "StreamStatsAnswer",
            |call| Box::pin(stats::streams(call)),
        ),
        "stats --domain",
        "Streams in numbers",
    ),
    told(
        look("/api/v1/stream/streams", READS, LIST, "Streams", |call| {
            Box::pin(streams::flat(call))
        }),
        "streams",
        "Streams of all namespaces, with their numbers",
    ),
    told(
        look("/api/v1/stream/realms", READS, PAGE, "Realms", |call| {
            Box::pin(domains::realms(call))
        }),
        "",
        "Tenants that may have streams",
    ),
    told(
        look(
            "/api/v1/stream/realms/{t}/areas",
            READS_TENANT,
            PAGE,
            "Areas",
            |call| Box::pin(domains::areas(call)),
        ),
        "",
        "Namespaces of a tenant",
    ),
    told(
        look(
            "/api/v1/stream/realms/{t}/areas/{ns}/resources",
            READS_TENANT,
            LIST_HERE,
            "StreamResources",
            |call| Box::pin(streams::list(call)),
        ),
        "",
        "Streams of a namespace, with their numbers",
    ),
    told(
        look(
            "/api/v1/stream/realms/{t}/areas/{ns}/resources/{r}",
            READS_TENANT,
            &[],
            "StreamDetail",
            |call| Box::pin(streams::get(call)),
        ),
        "streams --resource",
        "One stream, partition by partition",
    ),
    told(
        ask(
            "/api/v1/stream/realms/{t}/areas/{ns}/resources/{r}/subscriptions",
            PAGE,
            "StreamReaders",
            |call| Box::pin(streams::readers(call)),
        ),
        "streams --readers",
        "Who reads a stream, slowest first",
    ),
    told(
        ask(
            "/api/v1/stream/realms/{t}/areas/{ns}/resources/{r}/cursors",
            PAGE,
            "StreamCursors",
            |call| Box::pin(streams::cursors(call)),
        ),
        "streams --cursors",
        "Places of a stream that are kept for readers",
    ),
    // -------------------------------------------------------------------- queues
    told(
        look(
            "/api/v1/queue/stats",
            READS,
            &["realm", "family"],
            "QueueStatsAnswer",
            |call| Box::pin(stats::queues(call)),
        ),
        "stats --domain",
        "Queues in numbers",
    ),
    told(
        look(
            "/api/v1/queue/queues",
            READS,
            QUEUE_LIST,
            "Queues",
            |call| Box::pin(queues::flat(call)),
        ),
        "queues",
        "Queues of all namespaces, with their numbers",
    ),
    told(
        look(
            "/api/v1/queue/inflight",
            READS,
            &["realm", "limit", "offset"],
            "QueueInFlight",
            |call| Box::pin(queues::all_in_flight(call)),
        ),
        "inflight",
        "Messages that somebody has reserved, of all queues",
    ),
    told(
        look("/api/v1/queue/realms", READS, PAGE, "Realms", |call| {
            Box::pin(domains::realms(call))
        }),
        "",
        "Tenants that may have queues",
    ),
    told(
        look(
            "/api/v1/queue/realms/{t}/areas",
            READS_TENANT,
            PAGE,
            "Areas",
            |call| Box::pin(domains::areas(call)),
        ),
        "",
        "Namespaces of a tenant",
    ),
    told(
        look(
            "/api/v1/queue/realms/{t}/areas/{ns}/resources",
            READS_TENANT,
            QUEUE_LIST_HERE,
            "QueueResources",
            |call| Box::pin(queues::list(call)),
        ),
        "",
        "Queues of a namespace, with their numbers",
    ),
    told(
        look(queue!(), READS_TENANT, &["family"], "QueueDetail", |call| {
            Box::pin(queues::get(call))
        }),
        "queues --resource",
        "One queue, partition by partition",
    ),
    told(
        ask(queue!("/groups"), &["family"], "QueueGroups", |call| {
            Box::pin(queues::groups(call))
        }),
        "queues --groups",
        "Consumer groups of a queue",
    ),
    told(
        ask(
            queue!("/why"),
            &["family", "group"],
            "QueueReasons",
            |call| Box::pin(queues::why(call)),
        ),
        "queues --why",
        "Why groups of a queue are given nothing",
    ),
    told(
        ask(
            queue!("/inflight"),
            &["family", "group", "limit", "offset"],
            "QueueInFlight",
            |call| Box::pin(queues::in_flight(call)),
        ),
        "inflight --resource",
        "Messages of a queue that somebody has reserved",
    ),
    told(
        ask(
            queue!("/dead-letters"),
            &["family", "group", "error", "limit", "offset"],
            "QueueDeadLetters",
            |call| Box::pin(queues::dead_letters(call)),
        ),
        "dlq list",
        "Dead letters of a queue",
    ),
    told(
        act(
            Verb::Post,
            queue!("/dead-letters/{id}/replay"),
            WRITES_TENANT,
            &["family", "group"],
            204,
            |call| Box::pin(queues::replay(call)),
        ),
        "dlq replay",
        "Make a dead letter ready again",
    ),
    told(
        act(
            Verb::Delete,
            queue!("/dead-letters/{id}"),
            WRITES_TENANT,
            &["family", "group"],
            204,
            |call| Box::pin(queues::delete(call)),
        ),
        "dlq delete",
        "Delete a dead letter",
    ),
    told(
        confirmed(
            act(
                Verb::Post,
                queue!("/dead-letters/replay"),
                WRITES_TENANT,
                &["family", "group", "error", "rate"],
                202,
                |call| Box::pin(queues::redrive(call)),
            ),
            "LettersMoved",
        ),
        "dlq redrive",
        "Make the dead letters of a partition that match ready again, at a rate",
    ),
    told(
        confirmed(
            act(
                Verb::Delete,
                queue!("/dead-letters"),
                WRITES_TENANT,
                &["family", "group", "error"],
                202,
                |call| Box::pin(queues::purge(call)),
            ),
            "LettersMoved",
        ),
        "dlq purge",
        "Delete the dead letters of a partition that match",
    ),
    // -------------------------------------------------------------------- caches
    told(
        look(
            "/api/v1/cache/stats",
            READS,
            &["realm"],
            "CacheStatsAnswer",
            |call| Box::pin(stats::caches(call)),
        ),
        "stats --domain",
        "Caches in numbers",
    ),
    told(
        look("/api/v1/cache/caches", READS, LIST, "Caches", |call| {
            Box::pin(caches::flat(call))
        }),
        "caches",
        "Caches of all namespaces, with their numbers",
    ),
    told(
        look("/api/v1/cache/realms", READS, PAGE, "Realms", |call| {
            Box::pin(domains::realms(call))
        }),
        "",
        "Tenants that may have caches",
    ),
    told(
        look(
            "/api/v1/cache/realms/{t}/areas",
            READS_TENANT,
            PAGE,
            "Areas",
            |call| Box::pin(domains::areas(call)),
        ),
        "",
        "Namespaces of a tenant",
    ),
    told(
        look(
            "/api/v1/cache/realms/{t}/areas/{ns}/resources",
            READS_TENANT,
            LIST_HERE,
            "CacheResources",
            |call| Box::pin(caches::list(call)),
        ),
        "",
        "Caches of a namespace, with their numbers",
    ),
    told(
        look(
            "/api/v1/cache/realms/{t}/areas/{ns}/resources/{r}",
            READS_TENANT,
            &[],
            "CacheDetail",
            |call| Box::pin(caches::get(call)),
        ),
        "caches --resource",
        "One cache, partition by partition",
    ),
];
