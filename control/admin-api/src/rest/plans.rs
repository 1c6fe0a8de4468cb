//! Where the shards of a resource are to go.

use axum::http::StatusCode;
use pinion_metadata::command::{Rebalance, TransferLeadership};
use pinion_metadata::resource::Strategy;
use pinion_metadata::{Body, Command, MetaError, ObjectKey};
use pinion_types::ResourceKind;

use super::resources::key;
use super::version_of;
use crate::call::{Call, Reply, Written, json, tagged};
use crate::error::Failure;
use crate::model::{Move, MovePlan, RebalanceRequest, TransferRequest};

pub(crate) async fn rebalance(call: Call, kind: ResourceKind) -> Reply {
    let wanted: RebalanceRequest = call.body()?;
    let key = key(&call, kind);
    let strategy = Strategy::from(wanted.strategy);
    if !call.flag("dry_run")? {
        let command = Command::Rebalance(Rebalance { key, strategy });
        let written = call.write(call.expect(), command).await?;
        return show(&call, StatusCode::ACCEPTED, &written).await;
    }
    let plan = call
        .look(move |metadata| {
            let moves = metadata.plan(&key, strategy)?;
            Ok::<_, MetaError>(MovePlan {
                strategy: Some(wanted.strategy),
                requested: None,
                status: "none",
                moves: moves.iter().map(|one| Move::of(metadata, one)).collect(),
            })
        })
        .await??;
    json(StatusCode::OK, &plan)
}

pub(crate) async fn cancel(call: Call, kind: ResourceKind) -> Reply {
    let command = Command::CancelPlan(key(&call, kind));
    let written = call.write(call.expect(), command).await?;
    show(&call, StatusCode::OK, &written).await
}

pub(crate) async fn transfer(call: Call, kind: ResourceKind) -> Reply {
    let wanted: TransferRequest = call.body()?;
    let shard = call.part("n").parse().map_err(|_| {
        Failure::bad("bad_path", "the number of a shard is expected").with("part", "n")
    })?;
    let broker = ObjectKey::broker(&wanted.target_broker);
    let target = broker.clone();
    let found = call.look(move |metadata| match &metadata.get(&target)?.body {
        Body::Broker(broker) => Some(broker.number),
        _ => None,
    });
    let to = found.await?.ok_or(MetaError::NotFound(broker))?;
    let key = key(&call, kind);
    let command = TransferLeadership { key, shard, to };
    let written = call.write(call.expect(), Command::TransferLeadership(command));
    let written = written.await?;
    show(&call, StatusCode::ACCEPTED, &written).await
}

async fn show(call: &Call, status: StatusCode, written: &Written) -> Reply {
    let object = written.object()?.clone();
    let version = version_of(&object);
    let plan = call.look(move |metadata| MovePlan::of_placement(metadata, &object));
    Ok(written.mark(tagged(status, version, &plan.await?)?))
}
