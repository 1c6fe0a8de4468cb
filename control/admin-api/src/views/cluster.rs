//! The node, its cores, the brokers and the group; and where something is that somebody
//! knows by a part of its name.

use pinion_metadata::broker::BrokerStatus;
use pinion_metadata::{Action, Body, Metadata, Object, ObjectKey, PolicyObject};
use pinion_node::views::CoreFacts;
use pinion_types::ResourceKind;
use serde::Serialize;
use utoipa::ToSchema;

use super::catalog::{address, look};
use super::{At, Gathered, Listed, Paging, Pick};
use crate::Api;
use crate::access::Who;
use crate::error::Failure;

/// How the cluster is put together, as this node knows it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Topology {
    /// The node that answers.
    pub(crate) node: String,
    /// Who leads the group, if anybody does.
    pub(crate) leader: Option<String>,
    /// Of the metadata, as this node has it.
    pub(crate) version: u64,
    /// Data cores of this node that answered.
    pub(crate) cores: Vec<CoreRow>,
    /// Data cores of this node that did not.
    pub(crate) cores_silent: Vec<u16>,
    pub(crate) brokers: Vec<BrokerRow>,
}

/// A data core of this node.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct CoreRow {
    pub(crate) core: u16,
    pub(crate) connections: u64,
    pub(crate) partitions: u64,
    pub(crate) subscriptions: u64,
    /// Since the node was started.
    pub(crate) requests_total: u64,
    /// Of these, such that another core had to run.
    pub(crate) wrong_shard_total: u64,
    pub(crate) refused_total: u64,
    /// Mails for other cores that wait.
    pub(crate) mails_waiting: u64,
    pub(crate) logs: Vec<u16>,
}

/// A broker.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct BrokerRow {
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) region: String,
    pub(crate) zone: String,
    /// `active`, `draining` or `down`.
    pub(crate) status: &'static str,
    pub(crate) cores: u16,
    pub(crate) shards_led: u64,
    pub(crate) shard_copies: u64,
}

/// Something that a search found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Found {
    /// `tenant`, `namespace`, `stream`, `queue` or `cache`.
    pub(crate) kind: &'static str,
    /// The tenant.
    pub(crate) realm: String,
    /// The namespace; null of a tenant.
    pub(crate) area: Option<String>,
    /// The name; null of what is none.
    pub(crate) resource: Option<String>,
}

impl CoreRow {
    fn of(facts: &CoreFacts) -> Self {
        Self {
            core: facts.core.0,
            connections: facts.connections,
            partitions: facts.partitions,
            subscriptions: facts.subscriptions,
            requests_total: facts.stats.requests,
            wrong_shard_total: facts.stats.wrong_shard,
            refused_total: facts.stats.refused,
            mails_waiting: facts.mails_waiting,
            logs: facts.logs.iter().map(|log| log.log.0).collect(),
        }
    }
}

impl BrokerRow {
    fn of(metadata: &Metadata, object: &Object) -> Option<Self> {
        let (ObjectKey::Broker(name), Body::Broker(broker)) = (&object.meta.key, &object.body)
        else {
            return None;
        };
        let usage = metadata.broker_usage(broker.number);
        Some(Self {
            name: name.to_string(),
            address: broker.facts.address.to_string(),
            region: broker.facts.region.to_string(),
            zone: broker.facts.zone.to_string(),
            status: match broker.status() {
                BrokerStatus::Active => "active",
                BrokerStatus::Draining => "draining",
                BrokerStatus::Down => "down",
            },
            cores: broker.facts.capacity.cores,
            shards_led: usage.leads,
            shard_copies: usage.copies,
        })
    }
}

/// Brokers by name.
pub(super) async fn brokers(api: &Api) -> Result<Vec<BrokerRow>, Failure> {
    look(&api.plane, |metadata| {
        let of = |(_, broker): (&str, &pinion_metadata::broker::Broker)| {
            BrokerRow::of(metadata, metadata.broker(broker.number)?)
        };
        metadata.brokers().filter_map(of).collect()
    })
    .await
}

/// How the cluster is put together. Who may see it may see the cluster.
///
/// # Errors
/// They may not; the node is not ready.
pub(crate) async fn topology(api: &Api, who: &Who) -> Result<(Topology, At), Failure> {
    who.check(Action::AdminRead, &PolicyObject::Cluster)?;
    let brokers = brokers(api).await?;
    let status = api.plane.status().await?;
    let snapshot = api.observer.look().await;
    let topology = Topology {
        node: api.node.to_string(),
        leader: status.leader.map(|leader| leader.to_string()),
        version: status.version.0,
        cores: snapshot.cores.iter().map(CoreRow::of).collect(),
        cores_silent: snapshot.missing.iter().map(|core| core.0).collect(),
        brokers,
    };
    Ok((topology, At(snapshot.taken_at)))
}

/// What has `text` in its name, among what somebody may see: tenants first, then
/// namespaces, streams, queues and caches, each in the order of names.
///
/// # Errors
/// They may see nothing; the node is not ready.
pub(crate) async fn search(
    api: &Api,
    who: &Who,
    (text, realm): (&str, Option<&str>),
    paging: Paging,
) -> Result<Listed<Found>, Failure> {
    let all = Gathered::of(api, who).await?;
    let tenants = || {
        let within = all.catalog.tenants(&all.reach);
        within.filter(|tenant| realm.is_none_or(|realm| realm == *tenant))
    };
    let found = |kind, realm: &str, area: Option<&str>, resource: Option<&str>| Found {
        kind,
        realm: realm.to_owned(),
        area: area.map(str::to_owned),
        resource: resource.map(str::to_owned),
    };
    let named = tenants().filter(|tenant| tenant.contains(text));
    let mut total = 0;
    let mut rows = Vec::new();
    let mut take = |make: &dyn Fn() -> Found| {
        if total >= paging.offset && rows.len() < paging.limit {
            rows.push(make());
        }
        total += 1;
    };
    for tenant in named {
        take(&|| found("tenant", tenant, None, None));
    }
    for tenant in tenants() {
        let namespaces = all.catalog.namespaces(tenant);
        for namespace in namespaces.filter(|namespace| namespace.contains(text)) {
            take(&|| found("namespace", tenant, Some(namespace), None));
        }
    }
    for kind in [
        ResourceKind::Stream,
        ResourceKind::Queue,
        ResourceKind::Cache,
    ] {
        let pick = Pick {
            realm,
            search: Some(text),
            ..Pick::default()
        };
        for object in all.of_kind(kind, pick).iter() {
            let (tenant, namespace, name) = address(object);
            take(&|| found(kind.scheme(), tenant, Some(namespace), Some(name)));
        }
    }
    Ok(Listed {
        rows,
        total,
        as_of: all.as_of(),
    })
}
