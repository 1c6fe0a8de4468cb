//! What is done to a stream, a queue or a cache.

use pinion_admin_ui::links::Place;
use pinion_admin_ui::model::{Address, Fact, Kind, Operation, Quantity};
use pinion_metadata::resource::Strategy;
use pinion_metadata::{Body, MetaVersion, Metadata, ObjectKey};
use pinion_types::{ResourceId, ResourceKind};
use serde_json::json;

use super::tenants::{alive, consequences, deleted, restored};
use super::{Plan, Planned, Unplanned, code, fact_of, force, force_input, input};
use crate::call::Wanted;
use crate::error::Failure;
use crate::routes::Verb;
use crate::ui::context::PageContext;
use crate::ui::form::Fields;
use crate::ui::session::Asked;

/// The resource that is asked for.
struct Target {
    kind: ResourceKind,
    address: Address,
    key: ObjectKey,
}

impl Target {
    /// Of `namespace/name`, where it may be seen.
    fn of(context: &PageContext, asked: &Asked, kind: ResourceKind) -> Result<Self, Failure> {
        if !context.access.sees(&asked.tenant) {
            return Err(Failure::hidden());
        }
        let (namespace, name) = asked
            .target
            .split_once('/')
            .ok_or_else(Failure::not_found)?;
        Ok(Self {
            kind,
            address: Address {
                tenant: asked.tenant.clone(),
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            },
            key: ObjectKey::resource(kind, &asked.tenant, namespace, name),
        })
    }

    /// Where its shards are, which is an object of its own.
    fn placed(&self) -> ObjectKey {
        let Address {
            tenant,
            namespace,
            name,
        } = &self.address;
        ObjectKey::placement(self.kind, tenant, namespace, name)
    }

    fn parts(&self) -> Vec<(&'static str, String)> {
        vec![
            ("t", self.address.tenant.clone()),
            ("ns", self.address.namespace.clone()),
            ("r", self.address.name.clone()),
        ]
    }
}

/// What there is to say of it.
struct Found {
    id: ResourceId,
    version: MetaVersion,
    /// Where its shards are is an object of its own.
    placed: Option<MetaVersion>,
    shards: u16,
    durable: bool,
    grace_ms: u64,
}

impl Found {
    fn of(metadata: &Metadata, key: &ObjectKey) -> Option<Self> {
        let object = alive(metadata, key)?;
        let Body::Resource(resource) = &object.body else {
            return None;
        };
        let placed = match key {
            ObjectKey::Resource {
                kind,
                tenant,
                namespace,
                name,
            } => metadata.get(&ObjectKey::placement(*kind, tenant, namespace, name)),
            _ => None,
        };
        Some(Self {
            id: resource.id,
            version: object.meta.version,
            placed: placed.map(|placed| placed.meta.version),
            shards: resource.spec.shards,
            durable: resource.spec.durable,
            grace_ms: metadata.settings().grace_ms,
        })
    }

    fn preview(&self) -> Vec<Fact> {
        let durable = if self.durable { "yes" } else { "no" };
        vec![
            fact_of("Shards", Quantity::Count(self.shards.into()), Kind::Durable),
            fact_of("Durable", Quantity::Text(durable.to_owned()), Kind::Durable),
        ]
    }
}

async fn found(context: &PageContext, target: &Target) -> Result<Found, Failure> {
    let key = target.key.clone();
    let found = context.look(move |metadata| Found::of(metadata, &key));
    found.await?.ok_or_else(Failure::not_found)
}

pub(super) async fn delete(context: &PageContext, asked: &Asked, filled: &Fields) -> Planned {
    let (kind, back, path) = match asked.operation {
        Operation::DeleteQueue => (
            ResourceKind::Queue,
            Place::Queues,
            "/v1/tenants/{t}/namespaces/{ns}/queues/{r}",
        ),
        Operation::DeleteCache => (
            ResourceKind::Cache,
            Place::Caches,
            "/v1/tenants/{t}/namespaces/{ns}/caches/{r}",
        ),
        _ => (
            ResourceKind::Stream,
            Place::Streams,
            "/v1/tenants/{t}/namespaces/{ns}/streams/{r}",
        ),
    };
    let target = Target::of(context, asked, kind)?;
    let found = found(context, &target).await?;
    let mut preview = found.preview();
    let snapshot = context.api.observer.look().await;
    if let Some(load) = snapshot.seen.load(found.id) {
        preview.extend([
            fact_of(
                "Subscriptions",
                Quantity::Count(load.subscribers.into()),
                Kind::Live,
            ),
            fact_of(
                "Records",
                Quantity::Count(load.records),
                Kind::kept(found.durable),
            ),
            fact_of(
                "On disk",
                Quantity::Bytes(load.durable_bytes),
                Kind::Durable,
            ),
        ]);
    }
    Ok(Plan {
        preview,
        kind: Kind::Mixed,
        consequences: consequences("It", found.grace_ms),
        inputs: vec![force_input("subscribers or durable data")],
        back,
        version: Some(found.version),
        row: ("delete", target.key.to_string()),
        route: (Verb::Delete, path),
        wanted: Wanted {
            parts: target.parts(),
            query: force(filled)?,
            expect: Some(found.version),
            body: None,
        },
        steps: None,
        done: format!(
            "The {} {} is deleted; until its grace is over it can be taken back.",
            target.kind.scheme(),
            asked.target
        ),
    })
}

pub(super) async fn restore(context: &PageContext, asked: &Asked) -> Planned {
    let (kind, what, path) = match asked.operation {
        Operation::RestoreQueue => (
            ResourceKind::Queue,
            "queue",
            "/v1/tenants/{t}/namespaces/{ns}/queues/{r}/undelete",
        ),
        Operation::RestoreCache => (
            ResourceKind::Cache,
            "cache",
            "/v1/tenants/{t}/namespaces/{ns}/caches/{r}/undelete",
        ),
        _ => (
            ResourceKind::Stream,
            "stream",
            "/v1/tenants/{t}/namespaces/{ns}/streams/{r}/undelete",
        ),
    };
    let target = Target::of(context, asked, kind)?;
    let (version, preview) = deleted(context, &target.key).await?;
    let back = match kind {
        ResourceKind::Stream => Place::Stream(target.address.clone()),
        ResourceKind::Queue => Place::Queue(target.address.clone()),
        ResourceKind::Cache => Place::Cache(target.address.clone()),
    };
    Ok(Plan {
        preview,
        kind: Kind::Durable,
        consequences: restored(what),
        inputs: Vec::new(),
        back,
        version: Some(version),
        row: ("undelete", target.key.to_string()),
        route: (Verb::Post, path),
        wanted: Wanted {
            parts: target.parts(),
            expect: Some(version),
            ..Wanted::default()
        },
        steps: None,
        done: format!("The {what} {} is there again.", asked.target),
    })
}

pub(super) async fn rebalance(context: &PageContext, asked: &Asked, filled: &Fields) -> Planned {
    let target = Target::of(context, asked, ResourceKind::Stream)?;
    let found = found(context, &target).await?;
    let word = match filled.get("strategy").trim() {
        "" => "balanced",
        word => word,
    };
    let strategy = match word {
        "balanced" => Strategy::Balanced,
        "minimize_movement" => Strategy::MinimizeMovement,
        "locality_aware" => Strategy::LocalityAware,
        _ => return Err(Unplanned::BadInput),
    };
    let key = target.key.clone();
    let moves = context.look(move |metadata| metadata.plan(&key, strategy).map(|all| all.len()));
    let moves = moves.await?.map_err(Failure::from)?;
    let mut preview = found.preview();
    preview.push(fact_of(
        "Moves of the plan",
        Quantity::Count(moves as u64),
        Kind::Durable,
    ));
    Ok(Plan {
        preview,
        kind: Kind::Durable,
        consequences: vec![
            "A plan of which shards go where is written down.".to_owned(),
            "Nothing moves before brokers carry it out; until then it can be cancelled.".to_owned(),
        ],
        inputs: vec![input(
            "strategy",
            "Strategy",
            "balanced",
            "balanced, minimize_movement or locality_aware",
        )],
        back: Place::Stream(target.address.clone()),
        version: found.placed,
        row: ("rebalance", target.placed().to_string()),
        route: (
            Verb::Post,
            "/v1/tenants/{t}/namespaces/{ns}/streams/{r}/rebalance",
        ),
        wanted: Wanted {
            parts: target.parts(),
            query: Vec::new(),
            expect: None,
            body: Some(json!({ "strategy": word })),
        },
        steps: None,
        done: format!("The shards of {} have a plan.", asked.target),
    })
}

pub(super) async fn transfer(context: &PageContext, asked: &Asked, filled: &Fields) -> Planned {
    let target = Target::of(context, asked, ResourceKind::Stream)?;
    let found = found(context, &target).await?;
    let shard: u16 = asked
        .more("partition")
        .parse()
        .map_err(|_| Failure::bad("bad_parameter", "The number of a shard is expected."))?;
    let broker = filled.get("broker").trim();
    let mut preview = found.preview();
    preview.push(fact_of("Shard", code(&shard), Kind::Durable));
    let mut parts = target.parts();
    parts.push(("n", shard.to_string()));
    Ok(Plan {
        preview,
        kind: Kind::Durable,
        consequences: vec![
            "A plan is written down by which the broker leads the shard.".to_owned(),
            "Until it is carried out the one that leads now goes on.".to_owned(),
        ],
        inputs: vec![input("broker", "Broker", "", "one that has a copy")],
        back: Place::Stream(target.address.clone()),
        version: found.placed,
        row: ("transfer_leadership", target.placed().to_string()),
        route: (
            Verb::Post,
            "/v1/tenants/{t}/namespaces/{ns}/streams/{r}/shards/{n}/transfer-leadership",
        ),
        wanted: Wanted {
            parts,
            query: Vec::new(),
            expect: None,
            body: Some(json!({ "target_broker": broker })),
        },
        steps: None,
        done: format!(
            "Shard {shard} of {} is to be led by {broker}.",
            asked.target
        ),
    })
}
