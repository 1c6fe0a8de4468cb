//! Where shards are and where they are to go.

use pinion_metadata::resource::{self, MoveStatus, Strategy};
use pinion_metadata::{Body, BrokerNumber, Metadata, Object, ObjectKey};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::time;

/// Where the shards of a resource are.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Placement {
    /// `stream/{t}/{ns}/{name}`
    pub(crate) resource: String,
    pub(crate) resource_id: u64,
    /// The broker that has all of it, if that was asked for.
    pub(crate) pinned: Option<String>,
    pub(crate) shards: Vec<Shard>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) plan: Option<MovePlan>,
    /// The version that its last change made.
    pub(crate) version: u64,
}

/// Who has one shard.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Shard {
    shard: u64,
    leader: String,
    replicas: Vec<String>,
    /// Number of the log on the leader.
    log: u16,
    /// How often its leader was named, from 1.
    epoch: u64,
}

/// Where shards are to go.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct MovePlan {
    /// How it came about; null if somebody named the broker.
    pub(crate) strategy: Option<StrategyName>,
    /// RFC 3339; null of a plan that was only tried.
    pub(crate) requested: Option<String>,
    /// `pending` while some of it is to be done, otherwise `none`.
    pub(crate) status: &'static str,
    pub(crate) moves: Vec<Move>,
}

/// One shard goes from one broker to another.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Move {
    shard: u16,
    from: String,
    to: String,
    /// `pending` or `cancelled`.
    status: &'static str,
}

/// What is wanted of a placement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StrategyName {
    Balanced,
    MinimizeMovement,
    LocalityAware,
}

/// A plan to be made.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RebalanceRequest {
    pub(crate) strategy: StrategyName,
}

/// Who is to lead a shard.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TransferRequest {
    pub(crate) target_broker: String,
}

impl From<StrategyName> for Strategy {
    fn from(name: StrategyName) -> Self {
        match name {
            StrategyName::Balanced => Self::Balanced,
            StrategyName::MinimizeMovement => Self::MinimizeMovement,
            StrategyName::LocalityAware => Self::LocalityAware,
        }
    }
}

impl From<Strategy> for StrategyName {
    fn from(strategy: Strategy) -> Self {
        match strategy {
            Strategy::Balanced => Self::Balanced,
            Strategy::MinimizeMovement => Self::MinimizeMovement,
            Strategy::LocalityAware => Self::LocalityAware,
        }
    }
}

/// The name of a broker; its number, if nobody has it any more.
fn name(metadata: &Metadata, number: BrokerNumber) -> String {
    match metadata.broker(number).map(|object| &object.meta.key) {
        Some(ObjectKey::Broker(name)) => name.to_string(),
        _ => format!("#{}", number.0),
    }
}

impl Move {
    pub(crate) fn of(metadata: &Metadata, one: &resource::Move) -> Self {
        Self {
            shard: one.shard,
            from: name(metadata, one.from),
            to: name(metadata, one.to),
            status: match one.status {
                MoveStatus::Pending => "pending",
                MoveStatus::Cancelled => "cancelled",
            },
        }
    }
}

impl MovePlan {
    /// Nothing is to go anywhere.
    pub(crate) const NONE: Self = Self {
        strategy: None,
        requested: None,
        status: "none",
        moves: Vec::new(),
    };

    pub(crate) fn of(metadata: &Metadata, plan: &resource::MovePlan) -> Self {
        Self {
            strategy: plan.strategy.map(Into::into),
            requested: Some(time(plan.requested)),
            status: if plan.is_pending() { "pending" } else { "none" },
            moves: plan
                .moves
                .iter()
                .map(|one| Move::of(metadata, one))
                .collect(),
        }
    }

    /// The plan of a placement.
    pub(crate) fn of_placement(metadata: &Metadata, object: &Object) -> Self {
        match &object.body {
            Body::Placement(resource::Placement {
                plan: Some(plan), ..
            }) => Self::of(metadata, plan),
            _ => Self::NONE,
        }
    }
}

impl Placement {
    pub(crate) fn of(metadata: &Metadata, object: &Object) -> Option<Self> {
        let (key, Body::Placement(placement)) = (&object.meta.key, &object.body) else {
            return None;
        };
        let shards = placement.shards.iter().zip(0..).map(|(shard, at)| Shard {
            shard: at,
            leader: name(metadata, shard.seat.leader),
            replicas: shard
                .seat
                .replicas
                .iter()
                .map(|replica| name(metadata, *replica))
                .collect(),
            log: shard.seat.log,
            epoch: shard.epoch,
        });
        Some(Self {
            resource: key.parent()?.to_string(),
            resource_id: placement.resource.0,
            pinned: placement.pinned.map(|number| name(metadata, number)),
            shards: shards.collect(),
            plan: placement
                .plan
                .as_ref()
                .map(|plan| MovePlan::of(metadata, plan)),
            version: object.meta.version.0,
        })
    }
}
