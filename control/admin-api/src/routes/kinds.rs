//! Routes of streams, queues and caches: the same for each kind.

use pinion_metadata::Action;
use pinion_types::ResourceKind;

use super::{DELETE, NAMESPACE, Need, ObjectOf, Route, Verb, get, list, told, write};
use crate::rest::{plans, resources};

/// The routes of one kind of resource.
macro_rules! resource_routes {
    ($routes:ident, $kind:ident, $plural:literal, $plural_list:literal, $command:literal, $manage:ident,
     [$list:expr, $create:expr, $delete:expr, $rebalance:expr, $transfer:expr]) => {
        pub(super) const $routes: &[Route] = &[
            told(
                Route {
                    rpc: $list,
                    ..list(
                        concat!("/v1/tenants/{t}/namespaces/{ns}/", $plural),
                        Need::Inside(NAMESPACE),
                        $plural_list,
                        |call| Box::pin(resources::list(call, ResourceKind::$kind)),
                    )
                },
                concat!($command, " list"),
                concat!(
                    "The ",
                    $plural,
                    " of a namespace, as far as the caller may see them"
                ),
            ),
            told(
                Route {
                    body: Some("ResourceCreate"),
                    answer: Some("Resource"),
                    rpc: $create,
                    // On the resource that the body names.
                    ..write(
                        Verb::Post,
                        concat!("/v1/tenants/{t}/namespaces/{ns}/", $plural),
                        Need::Inside(NAMESPACE),
                        201,
                        |call| Box::pin(resources::create(call, ResourceKind::$kind)),
                    )
                },
                concat!($command, " create"),
                concat!("Make a ", $command),
            ),
            told(
                get(
                    concat!("/v1/tenants/{t}/namespaces/{ns}/", $plural, "/{r}"),
                    Need::Inside(ObjectOf::Resource(ResourceKind::$kind)),
                    "Resource",
                    |call| Box::pin(resources::get(call, ResourceKind::$kind)),
                ),
                concat!($command, " get"),
                concat!("One ", $command),
            ),
            told(
                Route {
                    body: Some("ResourcePatch"),
                    answer: Some("Resource"),
                    ..write(
                        Verb::Patch,
                        concat!("/v1/tenants/{t}/namespaces/{ns}/", $plural, "/{r}"),
                        Need::On(Action::$manage, ObjectOf::Resource(ResourceKind::$kind)),
                        200,
                        |call| Box::pin(resources::update(call, ResourceKind::$kind)),
                    )
                },
                concat!($command, " update"),
                concat!("Change a ", $command),
            ),
            told(
                Route {
                    query: DELETE,
                    answer: Some("Resource"),
                    others: &[409, 412, 421],
                    rpc: $delete,
                    ..write(
                        Verb::Delete,
                        concat!("/v1/tenants/{t}/namespaces/{ns}/", $plural, "/{r}"),
                        Need::On(Action::$manage, ObjectOf::Resource(ResourceKind::$kind)),
                        202,
                        |call| Box::pin(resources::delete(call, ResourceKind::$kind)),
                    )
                },
                concat!($command, " delete"),
                concat!(
                    "Delete a ",
                    $command,
                    "; until its grace is over it can be taken back"
                ),
            ),
            told(
                Route {
                    answer: Some("Resource"),
                    ..write(
                        Verb::Post,
                        concat!("/v1/tenants/{t}/namespaces/{ns}/", $plural, "/{r}/undelete"),
                        Need::On(Action::$manage, ObjectOf::Resource(ResourceKind::$kind)),
                        200,
                        |call| Box::pin(resources::undelete(call, ResourceKind::$kind)),
                    )
                },
                concat!($command, " undelete"),
                concat!("Take back the deletion of a ", $command),
            ),
            told(
                Route {
                    query: &["dry_run"],
                    others: &[200, 409, 412],
                    body: Some("RebalanceRequest"),
                    answer: Some("MovePlan"),
                    rpc: $rebalance,
                    ..write(
                        Verb::Post,
                        concat!(
                            "/v1/tenants/{t}/namespaces/{ns}/",
                            $plural,
                            "/{r}/rebalance"
                        ),
                        Need::On(Action::$manage, ObjectOf::Resource(ResourceKind::$kind)),
                        202,
                        |call| Box::pin(plans::rebalance(call, ResourceKind::$kind)),
                    )
                },
                "shard rebalance",
                concat!(
                    "Plan where the shards of a ",
                    $command,
                    " are to go; 200 with dry_run"
                ),
            ),
            told(
                Route {
                    answer: Some("MovePlan"),
                    ..write(
                        Verb::Delete,
                        concat!(
                            "/v1/tenants/{t}/namespaces/{ns}/",
                            $plural,
                            "/{r}/rebalance"
                        ),
                        Need::On(Action::$manage, ObjectOf::Resource(ResourceKind::$kind)),
                        200,
                        |call| Box::pin(plans::cancel(call, ResourceKind::$kind)),
                    )
                },
                "shard rebalance --cancel",
                "Give up what is pending of a plan",
            ),
            told(
                Route {
                    body: Some("TransferRequest"),
                    answer: Some("MovePlan"),
                    rpc: $transfer,
                    ..write(
                        Verb::Post,
                        concat!(
                            "/v1/tenants/{t}/namespaces/{ns}/",
                            $plural,
                            "/{r}/shards/{n}/transfer-leadership"
                        ),
                        Need::On(Action::$manage, ObjectOf::Resource(ResourceKind::$kind)),
                        202,
                        |call| Box::pin(plans::transfer(call, ResourceKind::$kind)),
                    )
                },
                "shard transfer",
                "Plan that another broker leads a shard",
            ),
        ];
    };
}

resource_routes!(
    STREAMS,
    Stream,
    "streams",
    "StreamList",
    "stream",
    StreamManage,
    [
        Some("ListStreams"),
        Some("CreateStream"),
        Some("DeleteStream"),
        Some("RebalanceShards"),
        Some("TransferShardLeadership")
    ]
);
resource_routes!(
    QUEUES,
    Queue,
    "queues",
    "QueueList",
    "queue",
    QueueManage,
    [None, None, None, None, None]
);
resource_routes!(
    CACHES,
    Cache,
    "caches",
    "CacheList",
    "cache",
    CacheManage,
    [None, None, None, None, None]
);
