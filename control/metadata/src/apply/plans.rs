//! Plans: where the shards of a resource are to go.

use super::Made;
use crate::broker::BrokerStatus;
use crate::command::{Rebalance, TransferLeadership};
use crate::draft::Draft;
use crate::error::MetaError;
use crate::name;
use crate::object::{Body, ObjectKey};
use crate::resource::{Move, MovePlan, MoveStatus, Placement};

/// The placement of a resource that is not deleted.
fn placement<'a>(
    draft: &'a Draft<'_>,
    key: &ObjectKey,
) -> Result<(ObjectKey, &'a Placement), MetaError> {
    draft.active(key)?;
    let placed = key
        .placed()
        .ok_or_else(|| MetaError::NotFound(key.clone()))?;
    match &draft.existing(&placed)?.body {
        Body::Placement(placement) => Ok((placed, placement)),
        _ => Err(MetaError::NotFound(placed)),
    }
}

/// Refused when a plan is pending.
fn no_plan(key: &ObjectKey, placement: &Placement) -> Result<(), MetaError> {
    match &placement.plan {
        Some(plan) if plan.is_pending() => Err(MetaError::PlanPending(key.clone())),
        _ => Ok(()),
    }
}

pub(super) fn rebalance(draft: &mut Draft<'_>, command: &Rebalance) -> Result<Made, MetaError> {
    let (key, placement) = placement(draft, &command.key)?;
    no_plan(&key, placement)?;
    let moves = draft.plan(&command.key, placement, command.strategy)?;
    // Where nothing is to move there is no plan.
    let plan = (!moves.is_empty()).then(|| MovePlan {
        strategy: Some(command.strategy),
        requested: draft.stamp(),
        moves,
    });
    let placement = Placement {
        plan,
        ..placement.clone()
    };
    draft.update(&key, Body::Placement(placement))?;
    Ok(Made::Object(key))
}

pub(super) fn cancel(draft: &mut Draft<'_>, key: &ObjectKey) -> Result<Made, MetaError> {
    let (key, placement) = placement(draft, key)?;
    let mut placement = placement.clone();
    let Some(plan) = placement.plan.as_mut().filter(|plan| plan.is_pending()) else {
        return Err(MetaError::NoPlan(key));
    };
    for one in &mut plan.moves {
        one.status = MoveStatus::Cancelled;
    }
    draft.update(&key, Body::Placement(placement))?;
    Ok(Made::Object(key))
}

pub(super) fn transfer(
    draft: &mut Draft<'_>,
    command: &TransferLeadership,
) -> Result<Made, MetaError> {
    let (key, placement) = placement(draft, &command.key)?;
    no_plan(&key, placement)?;
    let (shard, to) = (command.shard, command.to);
    let last = placement.shards.len() as u64 - 1;
    name::range("shard", shard.into(), 0, last)?;
    let seat = &placement.shards[usize::from(shard)].seat;
    let broker = draft.broker(to);
    if broker.is_none_or(|broker| broker.status() != BrokerStatus::Active) {
        return Err(MetaError::BrokerUnavailable(to));
    }
    let from = seat.leader;
    if from == to {
        return Ok(Made::Object(key));
    }
    if !seat.replicas.contains(&to) {
        return Err(MetaError::NotAReplica(to));
    }
    let one = Move {
        shard,
        from,
        to,
        status: MoveStatus::Pending,
    };
    let plan = MovePlan {
        strategy: None,
        requested: draft.stamp(),
        moves: Box::new([one]),
    };
    let placement = Placement {
        plan: Some(plan),
        ..placement.clone()
    };
    draft.update(&key, Body::Placement(placement))?;
    Ok(Made::Object(key))
}

/// What is deleted goes nowhere.
pub(super) fn forget(draft: &mut Draft<'_>, key: &ObjectKey) -> Result<(), MetaError> {
    let Some(key) = key.placed() else {
        return Ok(());
    };
    let Body::Placement(placement) = &draft.existing(&key)?.body else {
        return Ok(());
    };
    if placement.plan.is_none() {
        return Ok(());
    }
    let placement = Placement {
        plan: None,
        ..placement.clone()
    };
    draft.update(&key, Body::Placement(placement))
}
