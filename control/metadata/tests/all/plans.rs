//! Plans: where shards are to go, decided in the state and done by nobody yet.

use pinion_metadata::command::{Declare, Rebalance, SetDraining, TransferLeadership};
use pinion_metadata::resource::{Move, MoveStatus, Placement, Strategy};
use pinion_metadata::{Body, BrokerNumber, Command, MetaCode, MetaError, ObjectKey};
use pinion_types::ResourceKind;

use crate::support::{OPEN, Replica, create_namespace, declare, delete, envelope, register, seat};

const STREAM: ResourceKind = ResourceKind::Stream;

fn stream() -> ObjectKey {
    ObjectKey::resource(STREAM, "default", "n", "x")
}

fn placement(replica: &Replica) -> &Placement {
    let key = ObjectKey::placement(STREAM, "default", "n", "x");
    match &replica.get(&key).body {
        Body::Placement(placement) => placement,
        other => panic!("{other:?}"),
    }
}

fn rebalance(strategy: Strategy) -> Command {
    let key = stream();
    Command::Rebalance(Rebalance { key, strategy })
}

fn lead(shard: u16, to: u32) -> Command {
    Command::TransferLeadership(TransferLeadership {
        key: stream(),
        shard,
        to: BrokerNumber(to),
    })
}

fn drain(name: &str) -> Command {
    Command::SetDraining(SetDraining {
        name: name.into(),
        draining: true,
    })
}

fn moved(shard: u16, from: u32, to: u32) -> Move {
    Move {
        shard,
        from: BrokerNumber(from),
        to: BrokerNumber(to),
        status: MoveStatus::Pending,
    }
}

/// Brokers 1 to 3, and a stream whose four shards are all led by the first, with
/// a copy on the second.
fn uneven() -> Replica {
    let mut replica = Replica::new();
    for name in ["a", "b", "c"] {
        replica.done(register(name, 1));
    }
    replica.done(create_namespace("default", "n", OPEN));
    let mut command = declare(STREAM, "default", "n", "x");
    command.spec.shards = 4;
    command.spec.replication_factor = 2;
    command.seats = vec![seat(1, &[2], 0); 4].into();
    replica.done(Command::Declare(command));
    replica
}

#[test]
fn a_plan_is_what_was_shown_before_and_is_one_at_a_time() {
    let mut replica = uneven();
    let key = stream();
    let shown = replica
        .state
        .plan(&key, Strategy::MinimizeMovement)
        .unwrap();
    assert_eq!(*shown, [moved(0, 1, 3), moved(1, 1, 3)]);
    let made = replica.done(rebalance(Strategy::MinimizeMovement));
    assert_eq!(made.changes.len(), 1);
    let plan = placement(&replica).plan.clone().unwrap();
    assert_eq!(plan.moves, shown);
    assert_eq!(plan.strategy, Some(Strategy::MinimizeMovement));
    assert_eq!(plan.requested, replica.state.last_stamp());
    replica.restart();
    replica.refused(rebalance(Strategy::Balanced), MetaCode::PlanPending);
    replica.refused(lead(0, 2), MetaCode::PlanPending);

    replica.done(Command::CancelPlan(stream()));
    let plan = placement(&replica).plan.clone().unwrap();
    let cancelled = |one: &Move| one.status == MoveStatus::Cancelled;
    assert!(
        plan.moves.iter().all(cancelled),
        "and it is still to be read"
    );
    let again = Command::CancelPlan(stream());
    replica.refused(again, MetaCode::NoPlan);
    replica.done(rebalance(Strategy::LocalityAware));
    assert!(placement(&replica).plan.as_ref().unwrap().is_pending());
}

#[test]
fn where_all_may_stay_there_is_no_plan() {
    let mut replica = uneven();
    replica.done(rebalance(Strategy::MinimizeMovement));
    replica.done(Command::CancelPlan(stream()));
    for name in ["b", "c"] {
        replica.done(drain(name));
    }
    // The copies on `b` find no other place.
    replica.done(rebalance(Strategy::MinimizeMovement));
    assert_eq!(placement(&replica).plan, None);
    replica.done(drain("a"));
    replica.refused(rebalance(Strategy::Balanced), MetaCode::NoBroker);
}

#[test]
fn what_is_pinned_stays() {
    let mut replica = uneven();
    let mut command = declare(STREAM, "default", "n", "y");
    command.pinned = Some(BrokerNumber(1));
    replica.done(Command::Declare(command.clone()));
    replica.done(drain("a"));
    let key = ObjectKey::resource(STREAM, "default", "n", "y");
    assert_eq!(
        replica.state.plan(&key, Strategy::Balanced),
        Ok(Box::default())
    );
    // And it is where it is pinned to.
    let elsewhere = Declare {
        name: "z".into(),
        seats: Box::new([seat(2, &[], 0)]),
        ..command
    };
    replica.refused(Command::Declare(elsewhere), MetaCode::BadSpec);
}

#[test]
fn only_who_has_a_copy_is_to_lead() {
    let mut replica = uneven();
    replica.refused(lead(0, 3), MetaCode::NotAReplica);
    replica.refused(lead(4, 2), MetaCode::BadSpec);
    replica.refused(lead(0, 9), MetaCode::BrokerUnavailable);
    assert!(replica.done(lead(0, 1)).changes.is_empty(), "it does");
    replica.done(lead(3, 2));
    let plan = placement(&replica).plan.clone().unwrap();
    assert_eq!(*plan.moves, [moved(3, 1, 2)]);
    assert_eq!(plan.strategy, None);
    replica.done(Command::CancelPlan(stream()));
    replica.done(drain("b"));
    replica.refused(lead(0, 2), MetaCode::BrokerUnavailable);
}

#[test]
fn what_is_deleted_goes_nowhere() {
    let mut replica = uneven();
    replica.done(rebalance(Strategy::MinimizeMovement));
    replica.done(delete(&stream(), true, 1_000));
    assert_eq!(placement(&replica).plan, None);
    replica.refused(rebalance(Strategy::Balanced), MetaCode::Deleting);
    replica.refused(lead(0, 2), MetaCode::Deleting);
    replica.done(Command::Undelete(stream()));
    assert_eq!(placement(&replica).plan, None);
}

#[test]
fn only_resources_have_plans() {
    let mut replica = uneven();
    let (tenant, home) = (
        ObjectKey::tenant("default"),
        ObjectKey::namespace("default", "n"),
    );
    for key in [tenant, home] {
        let strategy = Strategy::Balanced;
        assert_eq!(
            replica.state.plan(&key, strategy),
            Err(MetaError::NotFound(key.clone()))
        );
        replica.refused(Command::CancelPlan(key.clone()), MetaCode::NotFound);
        let command = Rebalance { key, strategy };
        replica.refused(Command::Rebalance(command), MetaCode::NotFound);
    }
}

#[test]
fn a_broker_that_is_to_take_shards_stays() {
    let mut replica = uneven();
    replica.done(rebalance(Strategy::MinimizeMovement));
    replica.done(drain("c"));
    let remove = Command::RemoveBroker("c".into());
    let refused = replica.apply(&envelope(remove.clone()));
    let still = MetaError::StillLeading {
        leads: 0,
        copies: 0,
        arriving: 2,
    };
    assert_eq!(refused.result, Err(still));
    replica.done(Command::CancelPlan(stream()));
    replica.done(remove);
    replica.restart();
}

#[test]
fn seats_of_a_new_resource_are_where_least_is_to_do() {
    let replica = uneven();
    let mut spec = declare(STREAM, "default", "n", "y").spec;
    spec.shards = 3;
    let leaders = |seats: &[pinion_metadata::resource::Seat]| -> Vec<u32> {
        seats.iter().map(|seat| seat.leader.0).collect()
    };
    let spread = replica.state.place(&spec, None).unwrap();
    assert_eq!(leaders(&spread), [3, 2, 3]);
    let pinned = replica.state.place(&spec, Some(BrokerNumber(2))).unwrap();
    assert_eq!(leaders(&pinned), [2, 2, 2]);
    let nobody = replica.state.place(&spec, Some(BrokerNumber(4)));
    assert_eq!(nobody, Err(MetaError::BrokerUnavailable(BrokerNumber(4))));
    assert_eq!(
        Replica::new().state.place(&spec, None),
        Err(MetaError::NoBroker)
    );
}
