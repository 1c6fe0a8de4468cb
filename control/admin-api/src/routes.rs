//! Every route, as data: what the router, the authorisation, the OpenAPI document, the
//! commands of `pinion admin` and the tests of all of them go by.

mod domains;
mod identity;
mod kinds;

use core::pin::Pin;

use axum::routing::MethodFilter;
use pinion_metadata::Action;
use pinion_types::ResourceKind;

use crate::call::{Call, Reply};
use crate::limits::BODY_BYTES_MAX;
use crate::metrics;
use crate::rest::{
    apply, audit, backup, bootstrap, brokers, health, metadata, namespaces, placements, probes,
    raft, system, tenants,
};

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// `GET`; HEAD is answered, too.
    Get,
    /// `POST`
    Post,
    /// `PUT`
    Put,
    /// `PATCH`
    Patch,
    /// `DELETE`
    Delete,
}

impl Verb {
    /// As it is on the wire.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    pub(crate) fn filter(self) -> MethodFilter {
        match self {
            Self::Get => MethodFilter::GET,
            Self::Post => MethodFilter::POST,
            Self::Put => MethodFilter::PUT,
            Self::Patch => MethodFilter::PATCH,
            Self::Delete => MethodFilter::DELETE,
        }
    }
}

/// One route.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// The method.
    pub method: Verb,
    /// The path; what stands in braces is one segment, percent-encoded.
    pub path: &'static str,
    /// What it takes.
    pub need: Need,
    /// Parameters of the query; any other is refused.
    pub query: &'static [&'static str],
    /// Schema of the body; without one a body is not read.
    pub body: Option<&'static str>,
    /// Bytes of the body; what is more is refused before it is read.
    pub(crate) body_max: usize,
    /// Schema of the answer.
    pub answer: Option<&'static str>,
    /// Status of what was done.
    pub success: u16,
    /// Other statuses, besides those that all such routes have.
    pub others: &'static [u16],
    /// It is done only with `X-Confirm: true`.
    pub confirm: bool,
    /// The method of `pinion.admin.v1.Admin` that does the same.
    pub rpc: Option<&'static str>,
    /// `pinion admin …`; empty where there is no command for it.
    pub command: &'static str,
    /// What it does, in one line.
    pub about: &'static str,
    pub(crate) handler: Handler,
}

/// What a request must show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing.
    Public,
    /// Any credential that counts; what is shown is what its holder may see.
    Credential,
    /// Some right inside of this: anything there may be seen by who has it.
    Inside(ObjectOf),
    /// This action on this.
    On(Action, ObjectOf),
    /// This action on this, or on something in it: rows are held against how far it reaches.
    Somewhere(Action, ObjectOf),
    /// This action on the cluster, or on the tenant of who asks: then it is about what
    /// that tenant has, and nothing else.
    Reach(Action),
    /// What each object of the body takes.
    EachObject,
}

/// What a right must be on; its parts are those of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectOf {
    /// Everything.
    Cluster,
    /// `{t}`
    Tenant,
    /// `{t}/{ns}`
    Namespace,
    /// `{t}/{ns}/{r}`
    Resource(ResourceKind),
}

pub(crate) type Handler = fn(Call) -> Pin<Box<dyn Future<Output = Reply> + Send>>;

impl Route {
    /// Every status that it is answered with.
    #[must_use]
    pub fn statuses(&self) -> Vec<u16> {
        // A path or query against the grammar, too many requests, and no plane.
        let mut all = vec![self.success, 400, 429, 503];
        if self.need != Need::Public {
            all.extend([401, 403, 404]);
        }
        if self.body.is_some() {
            all.extend([408, 413, 415]);
        }
        if self.confirm {
            all.push(428);
        }
        all.extend(self.others);
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Whether 503 has the schema of the answer: it is what was asked for.
    pub(crate) fn is_probe(&self) -> bool {
        self.need == Need::Public
            && matches!(self.answer, Some("Probe" | "Ready" | "Startup" | "Health"))
    }

    /// Whether it changes something.
    #[must_use]
    pub fn is_write(&self) -> bool {
        self.method != Verb::Get
    }
}

/// Every route of the main listener.
pub fn routes() -> impl Iterator<Item = &'static Route> {
    let groups = [
        PROBES,
        TENANTS,
        NAMESPACES,
        kinds::STREAMS,
        kinds::QUEUES,
        kinds::CACHES,
        CLUSTER,
        identity::IDENTITY,
        domains::DOMAINS,
    ];
    groups.into_iter().flatten()
}

/// Every route of the listener of first days.
pub fn first_day_routes() -> impl Iterator<Item = &'static Route> {
    bootstrap::ROUTES.iter()
}

/// Where the metrics are.
pub(crate) const METRICS: &str = "/metrics";

const LIST: &[&str] = &[
    "filter",
    "page_size",
    "page_token",
    "deleted",
    "consistency",
];
const READ: &[&str] = &["consistency"];
const DELETE: &[&str] = &["force", "grace_ms"];

const fn get(path: &'static str, need: Need, answer: &'static str, handler: Handler) -> Route {
    Route {
        method: Verb::Get,
        path,
        need,
        query: READ,
        body: None,
        body_max: BODY_BYTES_MAX,
        answer: Some(answer),
        success: 200,
        others: &[],
        confirm: false,
        rpc: None,
        command: "",
        about: "",
        handler,
    }
}

const fn list(path: &'static str, need: Need, answer: &'static str, handler: Handler) -> Route {
    Route {
        query: LIST,
        ..get(path, need, answer, handler)
    }
}

/// A route that changes something.
const fn write(
    method: Verb,
    path: &'static str,
    need: Need,
    success: u16,
    handler: Handler,
) -> Route {
    Route {
        method,
        path,
        need,
        query: &[],
        body: None,
        body_max: BODY_BYTES_MAX,
        answer: None,
        success,
        others: &[409, 412],
        confirm: false,
        rpc: None,
        command: "",
        about: "",
        handler,
    }
}

/// The same route, with what is told of it.
const fn told(route: Route, command: &'static str, about: &'static str) -> Route {
    Route {
        command,
        about,
        ..route
    }
}

const TENANT: ObjectOf = ObjectOf::Tenant;
const NAMESPACE: ObjectOf = ObjectOf::Namespace;
const OPERATOR_READS: Need = Need::On(Action::AdminRead, ObjectOf::Cluster);
const OPERATOR_WRITES: Need = Need::On(Action::AdminWrite, ObjectOf::Cluster);

const PROBES: &[Route] = &[
    told(
        Route {
            query: &[],
            ..get("/healthz", Need::Public, "Probe", |call| {
                Box::pin(probes::live(call))
            })
        },
        "",
        "Whether the process lives and its data cores answer",
    ),
    told(
        Route {
            query: &[],
            ..get("/livez", Need::Public, "Probe", |call| {
                Box::pin(probes::live(call))
            })
        },
        "",
        "The same",
    ),
    told(
        Route {
            query: &[],
            ..get("/readyz", Need::Public, "Ready", |call| {
                Box::pin(probes::ready(call))
            })
        },
        "",
        "Whether the node has caught up and takes requests",
    ),
    told(
        Route {
            query: &[],
            ..get("/startupz", Need::Public, "Startup", |call| {
                Box::pin(probes::startup(call))
            })
        },
        "",
        "Whether the node was ready once, and how long that took",
    ),
    told(
        Route {
            query: &[],
            ..get("/health", Need::Public, "Health", |call| {
                Box::pin(probes::health(call))
            })
        },
        "",
        "Version, time since the start, and what is wrong if anything is",
    ),
    told(
        Route {
            query: &["resources"],
            answer: None,
            ..get(METRICS, OPERATOR_READS, "", |call| {
                Box::pin(metrics::metrics(call))
            })
        },
        "",
        "Metrics as Prometheus text or OpenMetrics; series of the most active resources, at most as many as asked for",
    ),
    told(
        Route {
            query: &[],
            ..get("/v1/openapi.json", Need::Public, "OpenApi", |call| {
                Box::pin(system::openapi(call))
            })
        },
        "",
        "This document",
    ),
    told(
        Route {
            query: &[],
            answer: None,
            ..get("/v1/docs", Need::Public, "", |call| {
                Box::pin(system::docs(call))
            })
        },
        "",
        "A page to read it",
    ),
];

const TENANTS: &[Route] = &[
    told(
        list("/v1/tenants", Need::Credential, "TenantList", |call| {
            Box::pin(tenants::list(call))
        }),
        "tenant list",
        "Tenants, as far as the caller may see them",
    ),
    told(
        Route {
            body: Some("TenantCreate"),
            answer: Some("Tenant"),
            ..write(Verb::Post, "/v1/tenants", OPERATOR_WRITES, 201, |call| {
                Box::pin(tenants::create(call))
            })
        },
        "tenant create",
        "Make a tenant",
    ),
    told(
        get("/v1/tenants/{t}", Need::Inside(TENANT), "Tenant", |call| {
            Box::pin(tenants::get(call))
        }),
        "tenant get",
        "One tenant",
    ),
    told(
        Route {
            body: Some("TenantPatch"),
            answer: Some("Tenant"),
            ..write(
                Verb::Patch,
                "/v1/tenants/{t}",
                Need::On(Action::TenantManage, TENANT),
                200,
                |call| Box::pin(tenants::update(call)),
            )
        },
        "tenant update",
        "Change a tenant; quotas are for operators",
    ),
    told(
        Route {
            query: DELETE,
            answer: Some("Tenant"),
            ..write(
                Verb::Delete,
                "/v1/tenants/{t}",
                OPERATOR_WRITES,
                202,
                |call| Box::pin(tenants::delete(call)),
            )
        },
        "tenant delete",
        "Delete a tenant; until its grace is over it can be taken back",
    ),
    told(
        Route {
            answer: Some("Tenant"),
            ..write(
                Verb::Post,
                "/v1/tenants/{t}/undelete",
                OPERATOR_WRITES,
                200,
                |call| Box::pin(tenants::undelete(call)),
            )
        },
        "tenant undelete",
        "Take back the deletion of a tenant and of what went with it",
    ),
];

const NAMESPACES: &[Route] = &[
    told(
        list(
            "/v1/tenants/{t}/namespaces",
            Need::Inside(TENANT),
            "NamespaceList",
            |call| Box::pin(namespaces::list(call)),
        ),
        "namespace list",
        "Namespaces of a tenant, as far as the caller may see them",
    ),
    told(
        Route {
            body: Some("NamespaceCreate"),
            answer: Some("Namespace"),
            // On the namespace that the body names.
            ..write(
                Verb::Post,
                "/v1/tenants/{t}/namespaces",
                Need::Inside(TENANT),
                201,
                |call| Box::pin(namespaces::create(call)),
            )
        },
        "namespace create",
        "Make a namespace",
    ),
    told(
        get(
            "/v1/tenants/{t}/namespaces/{ns}",
            Need::Inside(NAMESPACE),
            "Namespace",
            |call| Box::pin(namespaces::get(call)),
        ),
        "namespace get",
        "One namespace",
    ),
    told(
        Route {
            body: Some("NamespacePatch"),
            answer: Some("Namespace"),
            ..write(
                Verb::Patch,
                "/v1/tenants/{t}/namespaces/{ns}",
                Need::On(Action::NsManage, NAMESPACE),
                200,
                |call| Box::pin(namespaces::update(call)),
            )
        },
        "namespace update",
        "Change a namespace",
    ),
    told(
        Route {
            query: DELETE,
            answer: Some("Namespace"),
            ..write(
                Verb::Delete,
                "/v1/tenants/{t}/namespaces/{ns}",
                Need::On(Action::NsManage, NAMESPACE),
                202,
                |call| Box::pin(namespaces::delete(call)),
            )
        },
        "namespace delete",
        "Delete a namespace",
    ),
    told(
        Route {
            answer: Some("Namespace"),
            ..write(
                Verb::Post,
                "/v1/tenants/{t}/namespaces/{ns}/undelete",
                Need::On(Action::NsManage, NAMESPACE),
                200,
                |call| Box::pin(namespaces::undelete(call)),
            )
        },
        "namespace undelete",
        "Take back the deletion of a namespace and of what went with it",
    ),
];

const CLUSTER: &[Route] = &[
    told(
        Route {
            query: &[
                "tenant",
                "namespace",
                "kind",
                "filter",
                "page_size",
                "page_token",
                "consistency",
            ],
            ..get(
                "/v1/placements",
                Need::Credential,
                "PlacementList",
                |call| Box::pin(placements::list(call)),
            )
        },
        "shard list",
        "Where shards are, as far as the caller may see it",
    ),
    told(
        list("/v1/brokers", OPERATOR_READS, "BrokerList", |call| {
            Box::pin(brokers::list(call))
        }),
        "broker list",
        "Brokers",
    ),
    told(
        Route {
            body: Some("BrokerRegister"),
            others: &[200, 409, 412],
            answer: Some("Broker"),
            rpc: Some("RegisterBroker"),
            ..write(Verb::Post, "/v1/brokers", OPERATOR_WRITES, 201, |call| {
                Box::pin(brokers::register(call))
            })
        },
        "broker register",
        "A broker says that it is there",
    ),
    told(
        get("/v1/brokers/{b}", OPERATOR_READS, "Broker", |call| {
            Box::pin(brokers::get(call))
        }),
        "broker get",
        "One broker",
    ),
    told(
        Route {
            answer: Some("Broker"),
            ..write(
                Verb::Post,
                "/v1/brokers/{b}/drain",
                OPERATOR_WRITES,
                202,
                |call| Box::pin(brokers::drain(call)),
            )
        },
        "broker drain",
        "Place nothing more on a broker",
    ),
    told(
        Route {
            answer: Some("Broker"),
            ..write(
                Verb::Post,
                "/v1/brokers/{b}/activate",
                OPERATOR_WRITES,
                200,
                |call| Box::pin(brokers::activate(call)),
            )
        },
        "broker activate",
        "Place things on a broker again",
    ),
    told(
        Route {
            body: Some("HealthReport"),
            answer: Some("HealthAnswer"),
            rpc: Some("ReportHealth"),
            ..write(
                Verb::Post,
                "/v1/brokers/{b}/health",
                OPERATOR_WRITES,
                200,
                |call| Box::pin(health::report(call)),
            )
        },
        "",
        "A broker that is no node of the control plane says that it lives",
    ),
    told(
        write(
            Verb::Delete,
            "/v1/brokers/{b}",
            OPERATOR_WRITES,
            204,
            |call| Box::pin(brokers::remove(call)),
        ),
        "broker remove",
        "A broker is gone for good",
    ),
    told(
        Route {
            query: &[],
            answer: Some("Snapshot"),
            rpc: Some("GetSnapshot"),
            ..get(
                "/v1/metadata/snapshot",
                OPERATOR_READS,
                "Snapshot",
                |call| Box::pin(metadata::snapshot(call)),
            )
        },
        "snapshot",
        "Everything, at one version",
    ),
    told(
        Route {
            query: &["from_version", "cluster_id"],
            answer: None,
            rpc: Some("WatchUpdates"),
            ..get("/v1/metadata/watch", OPERATOR_READS, "", |call| {
                Box::pin(metadata::watch(call))
            })
        },
        "watch",
        "Every change after a version, as server-sent events",
    ),
    told(
        Route {
            query: &["dry_run"],
            body: Some("ApplyRequest"),
            answer: Some("ApplyResult"),
            ..write(Verb::Post, "/v1/apply", Need::EachObject, 200, |call| {
                Box::pin(apply::apply(call))
            })
        },
        "apply",
        "Make objects be as they are told, all or none",
    ),
    told(
        Route {
            query: &[
                "tenant",
                "principal",
                "action",
                "from",
                "to",
                "limit",
                "page_token",
                "node",
            ],
            ..get("/v1/audit", Need::Credential, "AuditList", |call| {
                Box::pin(audit::list(call))
            })
        },
        "audit",
        "Rows of this node's audit log, or of all nodes'",
    ),
    told(
        Route {
            query: &[],
            ..get("/v1/raft", OPERATOR_READS, "Raft", |call| {
                Box::pin(raft::status(call))
            })
        },
        "raft status",
        "This node's member of the group",
    ),
    told(
        Route {
            body: Some("LeaderTransfer"),
            others: &[404, 409, 412],
            ..write(
                Verb::Post,
                "/v1/raft/transfer-leadership",
                OPERATOR_WRITES,
                202,
                |call| Box::pin(raft::transfer(call)),
            )
        },
        "raft transfer",
        "Give the lead to another member; asked of the node that leads",
    ),
    told(
        write(
            Verb::Delete,
            "/v1/raft/members/{m}",
            OPERATOR_WRITES,
            202,
            |call| Box::pin(raft::remove(call)),
        ),
        "raft remove",
        "Take a member out of the group",
    ),
    told(
        Route {
            body: Some("BackupRequest"),
            others: &[409],
            confirm: true,
            ..write(Verb::Post, "/v1/backup", OPERATOR_WRITES, 200, |call| {
                Box::pin(backup::begin(call))
            })
        },
        "",
        "Everything that this node has, as one archive; `pinion backup` asks for it",
    ),
    told(
        Route {
            query: &[],
            ..get("/v1/system/info", Need::Credential, "SystemInfo", |call| {
                Box::pin(system::info(call))
            })
        },
        "system",
        "Version, cluster and features",
    ),
];
