//! Streams, queues and caches: what each is to be like, and where its shards are.

use std::collections::BTreeSet;

use pinion_types::limits::{QUEUE_LEASE_MS_MAX, RECORD_BYTES_MAX, SHARDS_MAX};
use pinion_types::{ResourceId, ResourceKind, WallMs};

use crate::error::MetaError;
use crate::ids::BrokerNumber;
use crate::limits::{DURABLE_PARTITION_BYTES, PARTITION_BYTES_MAX, REPLICAS_MAX};
use crate::name;

/// A stream, queue or cache; its kind and its name are in its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Never used again for another.
    pub id: ResourceId,
    /// What it is to be like.
    pub spec: ResourceSpec,
}

/// What a resource is to be like. Complete: whoever declares fills in defaults,
/// so that a release with others changes nothing that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceSpec {
    /// Partitions, 1 to `SHARDS_MAX`. They stay as many.
    pub shards: u16,
    /// Survives a crash. It stays so; a cache is never.
    pub durable: bool,
    /// For subscribers that ask for none: 1 block, 2 drop the oldest, 3 drop the
    /// newest, 4 disconnect, as on the wire.
    pub overflow: u8,
    /// Largest record or value in bytes, 1 to `RECORD_BYTES_MAX`.
    pub max_record_bytes: u32,
    /// Per partition: bytes of a stream's ring, of a cache, or of a queue's
    /// messages in memory; 1 to [`PARTITION_BYTES_MAX`].
    pub ring_bytes: u64,
    /// Longest a record is kept, in milliseconds; 0 is as long as there is room.
    pub retention_ms: u64,
    /// Per partition: bytes that are kept, at most [`PARTITION_BYTES_MAX`]; 0 is
    /// as many as there is room for. A cache has none.
    pub retention_bytes: u64,
    /// Copies of each partition, 1 to [`REPLICAS_MAX`].
    pub replication_factor: u8,
    /// When a record is acknowledged.
    pub ack: AckPolicy,
    /// A queue has one, nothing else does.
    pub queue: Option<QueueSpec>,
}

/// When a record is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum AckPolicy {
    /// When the leader of its partition has it.
    Leader = 0,
    /// When a majority of the copies have it.
    Quorum = 1,
}

/// What only a queue has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueSpec {
    /// How long a message is reserved when a take does not say, in
    /// milliseconds; 1 to `QUEUE_LEASE_MS_MAX`.
    pub visibility_ms: u32,
    /// Failed deliveries after which a message becomes a dead letter; at least 1.
    pub max_attempts: u16,
    /// Later messages of a key wait while one of it is not finished. It stays so.
    pub ordered_by_key: bool,
    /// A message whose time to live is over is dropped; otherwise it becomes a
    /// dead letter.
    pub drop_expired: bool,
    /// Reserved messages of one group at a time; at least 1.
    pub max_in_flight: u32,
    /// Reserved messages of one consumer at a time; at least 1.
    pub consumer_in_flight: u32,
    /// First pause before a failed message is given out again, in milliseconds;
    /// at least 1.
    pub backoff_min_ms: u32,
    /// Longest such pause, in milliseconds; not below the first.
    pub backoff_max_ms: u32,
    /// Messages of one partition before a put is refused; at least 1.
    pub messages_max: u32,
    /// Failed messages a group is given again in one second; at least 1.
    pub redeliveries_per_s: u32,
}

/// Where the shards of a resource are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Of which resource.
    pub resource: ResourceId,
    /// The broker that has all of it, if that was asked for; otherwise shards
    /// are spread.
    pub pinned: Option<BrokerNumber>,
    /// One per shard, in the order of partitions.
    pub shards: Box<[Shard]>,
    /// Where shards are to go, as it was last decided.
    pub plan: Option<MovePlan>,
}

/// Where shards are to go. It says what is wanted; whoever moves data says what
/// became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MovePlan {
    /// How it came about; `None` if somebody named the broker.
    pub strategy: Option<Strategy>,
    /// When it was asked for.
    pub requested: WallMs,
    /// At least one, in the order of shards; done one after the other.
    pub moves: Box<[Move]>,
}

/// One shard goes from one broker to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// Which shard.
    pub shard: u16,
    /// Who gives it up: its leader, or one that has a copy.
    pub from: BrokerNumber,
    /// Who takes that one's place. If it has a copy already, they change places.
    pub to: BrokerNumber,
    /// What became of it.
    pub status: MoveStatus,
}

/// What became of a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum MoveStatus {
    /// It is still to be done.
    Pending = 0,
    /// It is not wanted any more.
    Cancelled = 1,
}

/// What is wanted of a placement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Strategy {
    /// As if every shard were placed now: in other zones first, then where least
    /// is to do. Moves as many as that takes.
    Balanced = 0,
    /// Away from brokers that drain or are down, and then only what makes the
    /// fullest emptier.
    MinimizeMovement = 1,
    /// Like [`Balanced`](Self::Balanced), but in the region where a shard is led
    /// now, as long as that has a broker.
    LocalityAware = 2,
}

impl MovePlan {
    /// Whether some of it is still to be done.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        let pending = |one: &Move| one.status == MoveStatus::Pending;
        self.moves.iter().any(pending)
    }
}

/// Who has one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Where it is.
    pub seat: Seat,
    /// How often its leader was named, from 1.
    pub epoch: u64,
}

/// Where a shard is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// The broker that serves it.
    pub leader: BrokerNumber,
    /// The brokers that have further copies; each once, and not the leader.
    pub replicas: Box<[BrokerNumber]>,
    /// Number of the log on the leader.
    pub log: u16,
}

/// A field, what it holds, and what it may hold.
type Range = (&'static str, u64, u64, u64);

impl ResourceSpec {
    /// The first field that is out of its range for a resource of `kind`.
    pub(crate) fn check(&self, kind: ResourceKind) -> Result<(), MetaError> {
        let is = |kinds: &[ResourceKind]| u64::from(kinds.contains(&kind));
        let not_cache = is(&[ResourceKind::Stream, ResourceKind::Queue]);
        let queue = is(&[ResourceKind::Queue]);
        first_fault(&[
            ("shards", self.shards.into(), 1, SHARDS_MAX.into()),
            ("durable", self.durable.into(), 0, not_cache),
            ("overflow", self.overflow.into(), 1, 4),
            (
                "max_record_bytes",
                self.max_record_bytes.into(),
                1,
                RECORD_BYTES_MAX.into(),
            ),
            ("ring_bytes", self.ring_bytes, 1, PARTITION_BYTES_MAX),
            (
                "retention_bytes",
                self.retention_bytes,
                0,
                PARTITION_BYTES_MAX * not_cache,
            ),
            (
                "replication_factor",
                self.replication_factor.into(),
                1,
                REPLICAS_MAX.into(),
            ),
            ("queue", self.queue.is_some().into(), queue, queue),
        ])?;
        self.queue.as_ref().map_or(Ok(()), QueueSpec::check)
    }

    /// Bytes of memory it asks for as a cache.
    pub(crate) fn cache_bytes(&self, kind: ResourceKind) -> u64 {
        match kind {
            ResourceKind::Cache => self.ring_bytes.saturating_mul(self.shards.into()),
            ResourceKind::Stream | ResourceKind::Queue => 0,
        }
    }

    /// Bytes of memory that each copy of a partition is promised: what its broker counts,
    /// too. The log has the rest of a durable stream.
    #[must_use]
    pub fn partition_memory(&self) -> u64 {
        // A cache is never durable.
        if self.durable && self.queue.is_none() {
            DURABLE_PARTITION_BYTES
        } else {
            self.ring_bytes
        }
    }

    /// Bytes on disk it asks for; 0 when it names none.
    pub(crate) fn storage_bytes(&self) -> u64 {
        if self.durable {
            self.retention_bytes.saturating_mul(self.shards.into())
        } else {
            0
        }
    }
}

impl QueueSpec {
    fn check(&self) -> Result<(), MetaError> {
        let any = u32::MAX.into();
        first_fault(&[
            (
                "visibility_ms",
                self.visibility_ms.into(),
                1,
                QUEUE_LEASE_MS_MAX.into(),
            ),
            ("max_attempts", self.max_attempts.into(), 1, any),
            ("max_in_flight", self.max_in_flight.into(), 1, any),
            ("consumer_in_flight", self.consumer_in_flight.into(), 1, any),
            ("backoff_min_ms", self.backoff_min_ms.into(), 1, any),
            (
                "backoff_max_ms",
                self.backoff_max_ms.into(),
                self.backoff_min_ms.into(),
                any,
            ),
            ("messages_max", self.messages_max.into(), 1, any),
            ("redeliveries_per_s", self.redeliveries_per_s.into(), 1, any),
        ])
    }
}

impl Placement {
    /// Every broker that has a copy of a shard, once, in order.
    #[must_use]
    pub fn brokers(&self) -> Box<[BrokerNumber]> {
        let seats = self.shards.iter().map(|shard| &shard.seat);
        let all = seats.flat_map(|seat| seat.replicas.iter().chain([&seat.leader]));
        let all: BTreeSet<BrokerNumber> = all.copied().collect();
        all.into_iter().collect()
    }

    /// The brokers that are to take shards.
    pub(crate) fn arriving(&self) -> impl Iterator<Item = BrokerNumber> {
        let moves = self.plan.iter().flat_map(|plan| &plan.moves);
        let pending = moves.filter(|one| one.status == MoveStatus::Pending);
        pending.map(|one| one.to)
    }

    /// Refused when it does not fit what it is a placement of.
    pub(crate) fn check(&self, spec: &ResourceSpec) -> Result<(), MetaError> {
        let (shards, copies) = (spec.shards.into(), u64::from(spec.replication_factor));
        first_fault(&[("placement", self.shards.len() as u64, shards, shards)])?;
        for shard in &self.shards {
            let Seat {
                leader, replicas, ..
            } = &shard.seat;
            first_fault(&[("copies", replicas.len() as u64 + 1, 1, copies)])?;
            for (at, replica) in replicas.iter().enumerate() {
                if replica == leader || replicas[..at].contains(replica) {
                    return Err(MetaError::BrokerTwice(*replica));
                }
            }
            if let Some(pinned) = self.pinned {
                let pinned = pinned.0.into();
                first_fault(&[("leader", leader.0.into(), pinned, pinned)])?;
            }
        }
        let Some(plan) = &self.plan else {
            return Ok(());
        };
        let most = shards * u64::from(REPLICAS_MAX);
        first_fault(&[("moves", plan.moves.len() as u64, 1, most)])?;
        let last = shards.saturating_sub(1);
        let shard = |one: &Move| name::range("shard", one.shard.into(), 0, last);
        plan.moves.iter().try_for_each(shard)
    }
}

fn first_fault(ranges: &[Range]) -> Result<(), MetaError> {
    let check = |&(field, actual, min, max): &Range| name::range(field, actual, min, max);
    ranges.iter().try_for_each(check)
}
