//! `/v1/brokers`

use std::sync::Arc;

use axum::http::StatusCode;
use pinion_metadata::command::SetDraining;
use pinion_metadata::{Body, Command, Object, ObjectKey, ObjectKind};

use super::{other_kind, page, version_of};
use crate::call::{Call, Reply, Written, no_content, tagged};
use crate::error::Failure;
use crate::model::{Broker, BrokerRegister};

/// With what is on them.
async fn views(call: &Call, objects: Vec<Arc<Object>>) -> Result<Vec<Broker>, Failure> {
    call.look(move |metadata| {
        let view = |object: &Arc<Object>| {
            let Body::Broker(broker) = &object.body else {
                return None;
            };
            Broker::of(object, Some(metadata.broker_usage(broker.number)))
        };
        objects.iter().filter_map(view).collect()
    })
    .await
}

async fn view(call: &Call, object: &Arc<Object>) -> Result<Broker, Failure> {
    let views = views(call, vec![object.clone()]).await?;
    views.into_iter().next().ok_or_else(other_kind)
}

fn key(call: &Call) -> ObjectKey {
    ObjectKey::broker(call.part("b"))
}

pub(crate) async fn list(call: Call) -> Reply {
    let listed = call.list(&[ObjectKind::Broker], None, |_| true).await?;
    let rows = views(&call, listed.items).await?;
    page("brokers", listed.read, rows, listed.next.as_ref())
}

pub(crate) async fn get(call: Call) -> Reply {
    let (read, object) = call.get(key(&call)).await?;
    let view = view(&call, &object).await?;
    Ok(read.mark(tagged(StatusCode::OK, version_of(&object), &view)?))
}

pub(crate) async fn register(call: Call) -> Reply {
    let wanted: BrokerRegister = call.body()?;
    let key = ObjectKey::broker(&wanted.name);
    let found = call.look(move |metadata| match &metadata.get(&key)?.body {
        Body::Broker(broker) => Some(broker.incarnation),
        _ => None,
    });
    let is = found.await?;
    let command = wanted
        .command(is)
        .ok_or_else(|| Failure::bad("bad_spec", "incarnation: a number in decimal is expected"))?;
    let written = call
        .write(call.expect(), Command::RegisterBroker(command))
        .await?;
    let status = match is {
        None => StatusCode::CREATED,
        Some(_) => StatusCode::OK,
    };
    show(&call, status, &written).await
}

pub(crate) async fn drain(call: Call) -> Reply {
    set_draining(call, true, StatusCode::ACCEPTED).await
}

pub(crate) async fn activate(call: Call) -> Reply {
    set_draining(call, false, StatusCode::OK).await
}

async fn set_draining(call: Call, draining: bool, status: StatusCode) -> Reply {
    let command = Command::SetDraining(SetDraining {
        name: call.part("b").into(),
        draining,
    });
    let written = call.write(call.expect(), command).await?;
    show(&call, status, &written).await
}

pub(crate) async fn remove(call: Call) -> Reply {
    let command = Command::RemoveBroker(call.part("b").into());
    let written = call.write(call.expect(), command).await?;
    Ok(written.mark(no_content()))
}

async fn show(call: &Call, status: StatusCode, written: &Written) -> Reply {
    let object = written.object()?;
    let view = view(call, object).await?;
    Ok(written.mark(tagged(status, version_of(object), &view)?))
}
