//! `/v1/tenants/{t}/namespaces/{ns}/{streams|queues|caches}`

use std::sync::Arc;

use axum::http::StatusCode;
use pinion_metadata::command::{Declare, IfExists};
use pinion_metadata::resource::{ResourceSpec, Seat};
use pinion_metadata::{
    Action, Body, BrokerNumber, Command, MetaError, Metadata, Object, ObjectKey, ObjectKind,
};
use pinion_plane::PlaneError;
use pinion_types::ResourceKind;

use super::{other_kind, page, policy_object, resource_named, version_of};
use crate::call::{Call, Reply, Written, tagged};
use crate::error::Failure;
use crate::model::{Placement, Resource, ResourceCreate, ResourcePatch};

/// What it takes to make and change resources of a kind.
pub(crate) const fn manage(kind: ResourceKind) -> Action {
    match kind {
        ResourceKind::Stream => Action::StreamManage,
        ResourceKind::Queue => Action::QueueManage,
        ResourceKind::Cache => Action::CacheManage,
    }
}

/// The name of a list of them.
const fn plural(kind: ResourceKind) -> &'static str {
    match kind {
        ResourceKind::Stream => "streams",
        ResourceKind::Queue => "queues",
        ResourceKind::Cache => "caches",
    }
}

/// The resource of the path.
pub(crate) fn key(call: &Call, kind: ResourceKind) -> ObjectKey {
    ObjectKey::resource(kind, call.part("t"), call.part("ns"), call.part("r"))
}

/// Where a resource's shards are, as this node has it.
fn placement(metadata: &Metadata, key: &ObjectKey) -> Option<Placement> {
    let ObjectKey::Resource {
        kind,
        tenant,
        namespace,
        name,
    } = key
    else {
        return None;
    };
    let placed = ObjectKey::placement(*kind, tenant, namespace, name);
    Placement::of(metadata, metadata.get(&placed)?)
}

/// With where they are and what the data cores say.
async fn views(call: &Call, objects: Vec<Arc<Object>>) -> Result<Vec<Resource>, Failure> {
    let named: Vec<_> = objects
        .iter()
        .filter_map(|one| resource_named(one))
        .collect();
    let sight = call.api.observer.look_at(&named).await;
    call.look(move |metadata| {
        let view = |object: &Arc<Object>| {
            let Body::Resource(resource) = &object.body else {
                return None;
            };
            let view = Resource::of(object)?;
            let view = view.with_placement(placement(metadata, &object.meta.key));
            Some(view.with_metrics(sight.told().load(resource.id)))
        };
        objects.iter().filter_map(view).collect()
    })
    .await
}

async fn view(call: &Call, object: &Arc<Object>) -> Result<Resource, Failure> {
    let views = views(call, vec![object.clone()]).await?;
    views.into_iter().next().ok_or_else(other_kind)
}

pub(crate) async fn list(call: Call, kind: ResourceKind) -> Reply {
    let namespace = ObjectKey::namespace(call.part("t"), call.part("ns"));
    let kinds = [ObjectKind::Resource(kind)];
    let listed = call.list(&kinds, Some(namespace), |object| call.sees(object));
    let listed = listed.await?;
    let rows = views(&call, listed.items).await?;
    page(plural(kind), listed.read, rows, listed.next.as_ref())
}

pub(crate) async fn get(call: Call, kind: ResourceKind) -> Reply {
    let (read, object) = call.get(key(&call, kind)).await?;
    let view = view(&call, &object).await?;
    Ok(read.mark(tagged(StatusCode::OK, version_of(&object), &view)?))
}

/// How often a declaration is placed that comes too late to its broker.
const PLACED_MAX: usize = 3;

pub(crate) async fn create(call: Call, kind: ResourceKind) -> Reply {
    let wanted: ResourceCreate = call.body()?;
    let (tenant, namespace) = (call.part("t"), call.part("ns"));
    let key = ObjectKey::resource(kind, tenant, namespace, &wanted.name);
    call.who.check(manage(kind), &policy_object(&key))?;
    let spec = wanted.spec.complete(kind, &call.api.defaults)?;
    let pinned = wanted.placement.pinned;
    let mut tried = 1;
    let written = loop {
        let (seats, broker) = place(&call, spec.clone(), pinned.clone()).await?;
        let command = Command::Declare(Declare {
            kind,
            tenant: tenant.into(),
            namespace: namespace.into(),
            name: wanted.name.as_str().into(),
            spec: spec.clone(),
            seats,
            pinned: broker,
            create_namespace: false,
            if_exists: IfExists::Refuse,
        });
        match call.try_write(call.expect(), command).await {
            // A broker went down since it was chosen: choose again.
            Err(PlaneError::Meta(MetaError::BrokerUnavailable(_))) if tried < PLACED_MAX => {
                tried += 1;
            }
            result => break result.map_err(|error| call.refused(error))?,
        }
    };
    show(&call, StatusCode::CREATED, &written).await
}

/// Where the shards of a resource are to be: spread, or all on the broker of that name.
pub(crate) async fn place(
    call: &Call,
    spec: ResourceSpec,
    pinned: Option<String>,
) -> Result<(Box<[Seat]>, Option<BrokerNumber>), Failure> {
    let placed = call.look(move |metadata| seats(metadata, &spec, pinned.as_deref()));
    Ok(placed.await??)
}

/// The same, of the metadata at hand.
pub(crate) fn seats(
    metadata: &Metadata,
    spec: &ResourceSpec,
    pinned: Option<&str>,
) -> Result<(Box<[Seat]>, Option<BrokerNumber>), MetaError> {
    let broker = match pinned {
        None => None,
        Some(name) => {
            let key = ObjectKey::broker(name);
            match metadata.get(&key).map(|object| &object.body) {
                Some(Body::Broker(broker)) => Some(broker.number),
                _ => return Err(MetaError::NotFound(key)),
            }
        }
    };
    // A specification that is refused anyway must not be placed: its counts are wild.
    let most = pinion_types::limits::SHARDS_MAX;
    if spec.shards == 0 || spec.shards > most {
        return Err(MetaError::BadSpec {
            field: "shards",
            actual: spec.shards.into(),
            min: 1,
            max: most.into(),
        });
    }
    Ok((metadata.place(spec, broker)?, broker))
}

pub(crate) async fn update(call: Call, kind: ResourceKind) -> Reply {
    let patch: ResourcePatch = call.body()?;
    let path = (call.part("t"), call.part("ns"), call.part("r"));
    let over = |object: &Object| match &object.body {
        Body::Resource(is) => {
            let command = patch.spec.over(kind, path, &is.spec)?;
            Ok(Command::UpdateResource(command))
        }
        _ => Err(other_kind()),
    };
    let written = call.change(key(&call, kind), over).await?;
    show(&call, StatusCode::OK, &written).await
}

pub(crate) async fn delete(call: Call, kind: ResourceKind) -> Reply {
    let written = call.delete(key(&call, kind)).await?;
    show(&call, StatusCode::ACCEPTED, &written).await
}

pub(crate) async fn undelete(call: Call, kind: ResourceKind) -> Reply {
    let command = Command::Undelete(key(&call, kind));
    let written = call.write(call.expect(), command).await?;
    show(&call, StatusCode::OK, &written).await
}

async fn show(call: &Call, status: StatusCode, written: &Written) -> Reply {
    let object = written.object()?;
    let view = view(call, object).await?;
    Ok(written.mark(tagged(status, version_of(object), &view)?))
}
