//! Streams, queues and caches.

use pinion_metadata::command::UpdateResource;
use pinion_metadata::resource::{AckPolicy, QueueSpec, ResourceSpec};
use pinion_metadata::{Body, MetaError, Object, ObjectKey};
use pinion_types::ResourceKind;
use pinion_types::limits::RECORD_BYTES_MAX;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Life, Placement, given};
use crate::seen::ResourceLoad;

/// What a resource gets where a request says nothing: what the node gives those that
/// its own clients declare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecDefaults {
    /// Partitions of a stream.
    pub stream_shards: u16,
    /// Partitions of a queue or cache: one for each data core, so that work is found
    /// with one question per core.
    pub data_cores: u16,
    /// Bytes of each stream partition's ring.
    pub stream_ring_bytes: u64,
    /// Bytes of memory of each partition of a durable stream.
    pub stream_tail_bytes: u64,
    /// Bytes of messages each partition of a queue keeps in memory.
    pub queue_memory_bytes: u64,
    /// Bytes of a whole cache, divided among its partitions.
    pub cache_bytes: u64,
    /// Bytes of messages a partition of a durable queue holds.
    pub queue_bytes: u64,
    /// Smallest ring of a stream or queue.
    pub ring_bytes_min: u64,
    /// Smallest partition of a cache.
    pub cache_bytes_min: u64,
}

impl Default for SpecDefaults {
    fn default() -> Self {
        Self {
            stream_shards: 4,
            data_cores: 1,
            stream_ring_bytes: 16 << 20,
            stream_tail_bytes: 4 << 20,
            queue_memory_bytes: 64 << 20,
            cache_bytes: 256 << 20,
            queue_bytes: 1 << 30,
            ring_bytes_min: 64 << 10,
            cache_bytes_min: 128 << 10,
        }
    }
}

/// A stream, queue or cache.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Resource {
    kind: &'static str,
    tenant: String,
    namespace: String,
    name: String,
    /// Never used again for another.
    id: u64,
    spec: Spec,
    #[serde(skip_serializing_if = "Option::is_none")]
    placement: Option<Placement>,
    /// What the node that answers knows of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics: Option<Metrics>,
    /// What is not so yet, though it was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<&'static str>,
    #[serde(flatten)]
    life: Life,
}

/// What the data cores of one node last said.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(crate) struct Metrics {
    subscribers: u32,
    bytes: u64,
    durable_bytes: u64,
    records: u64,
}

/// What a resource is like.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Spec {
    shards: u16,
    durability: Durability,
    overflow: Overflow,
    max_record_bytes: u32,
    /// Per partition.
    ring_bytes: u64,
    /// 0 is as long as there is room.
    retention_ms: u64,
    /// Per partition; 0 is as many as there is room for.
    retention_bytes: u64,
    replication_factor: u8,
    ack_policy: Ack,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<Queue>,
}

/// Whether it survives a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Durability {
    Durable,
    Ephemeral,
}

/// When a record is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ack {
    Leader,
    Quorum,
}

/// For subscribers that ask for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub(crate) enum Overflow {
    Block = 1,
    DropOldest = 2,
    DropNewest = 3,
    Disconnect = 4,
}

macro_rules! queue {
    ($($(#[$doc:meta])* $field:ident: $type:ty,)*) => {
        /// What only a queue has.
        #[derive(Clone, Copy, Debug, Serialize, ToSchema)]
        pub(crate) struct Queue {
            $($(#[$doc])* $field: $type,)*
        }

        /// What is told of it; what is not there stays, or is what queues get.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct QueueInput {
            $($(#[$doc])* #[serde(default, deserialize_with = "given")] pub(crate) $field: Option<$type>,)*
        }

        impl From<QueueSpec> for Queue {
            fn from(queue: QueueSpec) -> Self {
                Self { $($field: queue.$field,)* }
            }
        }

        impl QueueInput {
            fn over(self, is: QueueSpec) -> QueueSpec {
                QueueSpec { $($field: self.$field.unwrap_or(is.$field),)* }
            }
        }
    };
}

queue! {
    visibility_ms: u32,
    max_attempts: u16,
    ordered_by_key: bool,
    drop_expired: bool,
    max_in_flight: u32,
    consumer_in_flight: u32,
    backoff_min_ms: u32,
    backoff_max_ms: u32,
    messages_max: u32,
    redeliveries_per_s: u32,
}

/// What a queue gets where nothing is said.
const QUEUE: QueueSpec = QueueSpec {
    visibility_ms: 30_000,
    max_attempts: 5,
    ordered_by_key: false,
    drop_expired: false,
    max_in_flight: 65_536,
    consumer_in_flight: 4_096,
    backoff_min_ms: 100,
    backoff_max_ms: 60_000,
    messages_max: 1_000_000,
    redeliveries_per_s: 10_000,
};

/// A resource to be made.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResourceCreate {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) spec: SpecInput,
    #[serde(default)]
    pub(crate) placement: PlacementInput,
}

/// Where it is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlacementInput {
    /// The broker that is to have all of it.
    #[serde(default, deserialize_with = "given")]
    pub(crate) pinned: Option<String>,
}

/// What is to be changed of a resource; what is not there stays.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResourcePatch {
    pub(crate) spec: SpecInput,
}

/// What is told of a resource; what is not there stays, or is what resources get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SpecInput {
    /// Stays as many.
    #[serde(default, deserialize_with = "given")]
    shards: Option<u16>,
    /// Stays so.
    #[serde(default, deserialize_with = "given")]
    durability: Option<Durability>,
    #[serde(default, deserialize_with = "given")]
    overflow: Option<Overflow>,
    #[serde(default, deserialize_with = "given")]
    max_record_bytes: Option<u32>,
    /// Stays so.
    #[serde(default, deserialize_with = "given")]
    ring_bytes: Option<u64>,
    #[serde(default, deserialize_with = "given")]
    retention_ms: Option<u64>,
    #[serde(default, deserialize_with = "given")]
    retention_bytes: Option<u64>,
    /// Stays as many.
    #[serde(default, deserialize_with = "given")]
    replication_factor: Option<u8>,
    /// Stays so.
    #[serde(default, deserialize_with = "given")]
    ack_policy: Option<Ack>,
    #[serde(default, deserialize_with = "given")]
    queue: Option<QueueInput>,
}

impl SpecInput {
    /// The whole specification of a new resource.
    pub(crate) fn complete(
        self,
        kind: ResourceKind,
        defaults: &SpecDefaults,
    ) -> Result<ResourceSpec, MetaError> {
        let durable = self.durability == Some(Durability::Durable);
        let shards = self.shards.unwrap_or(match kind {
            ResourceKind::Stream => defaults.stream_shards,
            ResourceKind::Queue | ResourceKind::Cache => defaults.data_cores,
        });
        let least = match kind {
            ResourceKind::Stream | ResourceKind::Queue => defaults.ring_bytes_min,
            ResourceKind::Cache => defaults.cache_bytes_min,
        };
        let usual = match kind {
            ResourceKind::Stream if durable => defaults.stream_tail_bytes,
            ResourceKind::Stream => defaults.stream_ring_bytes,
            ResourceKind::Queue => defaults.queue_memory_bytes,
            ResourceKind::Cache => defaults.cache_bytes / u64::from(shards.max(1)),
        };
        let ring_bytes = self.ring_bytes.unwrap_or(usual.max(least));
        if ring_bytes < least {
            return Err(MetaError::BadSpec {
                field: "ring_bytes",
                actual: ring_bytes,
                min: least,
                max: pinion_metadata::limits::PARTITION_BYTES_MAX,
            });
        }
        let is_queue = kind == ResourceKind::Queue;
        let kept = match (is_queue, durable) {
            (true, true) => defaults.queue_bytes,
            // A queue in memory holds what its memory holds.
            (true, false) => ring_bytes,
            (false, _) => 0,
        };
        let queue = match (is_queue, self.queue) {
            (true, queue) => Some(queue.unwrap_or_default().over(QUEUE)),
            // Refused for it, as of a kind that has none.
            (false, Some(queue)) => Some(queue.over(QUEUE)),
            (false, None) => None,
        };
        // What is to be kept is not to be skipped for somebody who reads slowly.
        let overflow = match (kind, durable) {
            (ResourceKind::Stream, true) => Overflow::Block,
            _ => Overflow::DropOldest,
        };
        Ok(ResourceSpec {
            shards,
            durable,
            overflow: self.overflow.unwrap_or(overflow) as u8,
            max_record_bytes: self.max_record_bytes.unwrap_or(RECORD_BYTES_MAX),
            ring_bytes,
            retention_ms: self.retention_ms.unwrap_or(0),
            retention_bytes: self.retention_bytes.unwrap_or(kept),
            replication_factor: self.replication_factor.unwrap_or(1),
            ack: match self.ack_policy {
                Some(Ack::Quorum) => AckPolicy::Quorum,
                Some(Ack::Leader) | None => AckPolicy::Leader,
            },
            queue,
        })
    }

    /// What it changes of a resource that is like this.
    pub(crate) fn over(
        self,
        kind: ResourceKind,
        (tenant, namespace, name): (&str, &str, &str),
        is: &ResourceSpec,
    ) -> Result<UpdateResource, MetaError> {
        let stays = [
            (
                "shards",
                self.shards.is_none_or(|shards| shards == is.shards),
            ),
            (
                "durability",
                self.durability
                    .is_none_or(|wanted| (wanted == Durability::Durable) == is.durable),
            ),
            (
                "ring_bytes",
                self.ring_bytes.is_none_or(|bytes| bytes == is.ring_bytes),
            ),
            (
                "replication_factor",
                self.replication_factor
                    .is_none_or(|factor| factor == is.replication_factor),
            ),
            (
                "ack_policy",
                self.ack_policy
                    .is_none_or(|wanted| (wanted == Ack::Quorum) == (is.ack == AckPolicy::Quorum)),
            ),
        ];
        if let Some((field, _)) = stays.into_iter().find(|(_, stays)| !stays) {
            return Err(MetaError::ImmutableField { field });
        }
        Ok(UpdateResource {
            kind,
            tenant: tenant.into(),
            namespace: namespace.into(),
            name: name.into(),
            overflow: self.overflow.map(|overflow| overflow as u8),
            max_record_bytes: self.max_record_bytes,
            retention_ms: self.retention_ms,
            retention_bytes: self.retention_bytes,
            queue: self
                .queue
                .map(|queue| queue.over(is.queue.unwrap_or(QUEUE))),
        })
    }
}

impl From<&ResourceSpec> for Spec {
    fn from(spec: &ResourceSpec) -> Self {
        Self {
            shards: spec.shards,
            durability: if spec.durable {
                Durability::Durable
            } else {
                Durability::Ephemeral
            },
            overflow: match spec.overflow {
                1 => Overflow::Block,
                3 => Overflow::DropNewest,
                4 => Overflow::Disconnect,
                _ => Overflow::DropOldest,
            },
            max_record_bytes: spec.max_record_bytes,
            ring_bytes: spec.ring_bytes,
            retention_ms: spec.retention_ms,
            retention_bytes: spec.retention_bytes,
            replication_factor: spec.replication_factor,
            ack_policy: match spec.ack {
                AckPolicy::Leader => Ack::Leader,
                AckPolicy::Quorum => Ack::Quorum,
            },
            queue: spec.queue.map(Into::into),
        }
    }
}

impl Resource {
    pub(crate) fn of(object: &Object) -> Option<Self> {
        let (
            ObjectKey::Resource {
                kind,
                tenant,
                namespace,
                name,
            },
            Body::Resource(resource),
        ) = (&object.meta.key, &object.body)
        else {
            return None;
        };
        let copied = resource.spec.replication_factor > 1;
        Some(Self {
            kind: kind.scheme(),
            tenant: tenant.to_string(),
            namespace: namespace.to_string(),
            name: name.to_string(),
            id: resource.id.0,
            spec: Spec::from(&resource.spec),
            placement: None,
            metrics: None,
            notes: copied
                .then_some("copies are placed and not filled yet: data is on the leader alone")
                .into_iter()
                .collect(),
            life: Life::from(&object.meta),
        })
    }

    pub(crate) fn with_placement(self, placement: Option<Placement>) -> Self {
        Self { placement, ..self }
    }

    pub(crate) fn with_metrics(self, load: Option<ResourceLoad>) -> Self {
        let metrics = load.map(|load| Metrics {
            subscribers: load.subscribers,
            bytes: load.bytes,
            durable_bytes: load.durable_bytes,
            records: load.records,
        });
        Self { metrics, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nothing_of_a_durable_stream_is_skipped_unless_it_says_so() {
        let overflow = |kind, said: serde_json::Value| {
            let input: SpecInput = serde_json::from_value(said).expect("a spec");
            let spec = input.complete(kind, &SpecDefaults::default());
            spec.expect("good").overflow
        };
        let durable = json!({"durability": "durable"});
        let said = json!({"durability": "durable", "overflow": "disconnect"});
        for (kind, given, expected) in [
            (ResourceKind::Stream, durable.clone(), Overflow::Block),
            (ResourceKind::Stream, said, Overflow::Disconnect),
            (ResourceKind::Stream, json!({}), Overflow::DropOldest),
            (ResourceKind::Queue, durable, Overflow::DropOldest),
        ] {
            assert_eq!(overflow(kind, given), expected as u8);
        }
    }
}
