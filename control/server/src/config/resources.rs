//! `[[resource]]`: what exists from the start.

use pinion_node::access::TenantId;
use pinion_types::{ResourceKind, ResourceName};
use pinion_wire::message::{Overflow, QueueSpec, Spec};
use serde::{Deserialize, Serialize};

use super::ConfigError;

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum KindWord {
    Stream,
    Cache,
    Queue,
}

/// A resource that exists from the start.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Declared {
    pub(crate) kind: KindWord,
    /// `NAMESPACE/NAME`.
    pub(crate) name: String,
    #[serde(default = "first_tenant")]
    pub(crate) tenant: u64,
    #[serde(default)]
    pub(crate) shards: u16,
    /// Per partition; 0 = default.
    #[serde(default)]
    pub(crate) bytes: u64,
    /// Whether it survives a restart; of a queue unless it says otherwise.
    pub(crate) durable: Option<bool>,
    /// Of a queue, the time to live of its messages.
    #[serde(default)]
    pub(crate) retention_ms: u64,
    /// Per partition: what a durable stream keeps, or a queue holds.
    #[serde(default)]
    pub(crate) retention_bytes: u64,
    #[serde(default)]
    pub(crate) queue: QueueOptions,
    #[serde(default)]
    pub(crate) max_record_bytes: u32,
    /// `block` of a durable stream, else `drop_oldest`, unless it says otherwise.
    pub(crate) overflow: Option<OverflowWord>,
}

/// What only a queue has; 0 is the default.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct QueueOptions {
    pub(crate) visibility_ms: u32,
    pub(crate) max_attempts: u16,
    pub(crate) ordered_by_key: bool,
    pub(crate) drop_expired: bool,
    pub(crate) max_in_flight: u32,
    pub(crate) consumer_in_flight: u32,
    pub(crate) backoff_min_ms: u32,
    pub(crate) backoff_max_ms: u32,
    pub(crate) messages_max: u32,
    pub(crate) redeliveries_per_s: u32,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OverflowWord {
    Block,
    DropOldest,
    DropNewest,
    Disconnect,
}

/// Whose something is that does not say.
pub(super) fn first_tenant() -> u64 {
    1
}

impl KindWord {
    pub(super) fn kind(self) -> ResourceKind {
        match self {
            Self::Stream => ResourceKind::Stream,
            Self::Cache => ResourceKind::Cache,
            Self::Queue => ResourceKind::Queue,
        }
    }
}

impl Declared {
    pub(super) fn compile(
        &self,
    ) -> Result<(TenantId, ResourceKind, ResourceName, Spec), ConfigError> {
        let name = ResourceName::parse(&self.name).map_err(|source| ConfigError::ResourceName {
            name: self.name.clone(),
            source,
        })?;
        let is_queue = self.kind.kind() == ResourceKind::Queue;
        let queue = QueueSpec {
            visibility_ms: self.queue.visibility_ms,
            max_attempts: self.queue.max_attempts,
            ordered_by_key: self.queue.ordered_by_key,
            drop_expired: self.queue.drop_expired,
            max_in_flight: self.queue.max_in_flight,
            consumer_in_flight: self.queue.consumer_in_flight,
            backoff_min_ms: self.queue.backoff_min_ms,
            backoff_max_ms: self.queue.backoff_max_ms,
            messages_max: self.queue.messages_max,
            redeliveries_per_s: self.queue.redeliveries_per_s,
        };
        if !is_queue && queue != QueueSpec::UNSET {
            return Err(ConfigError::Value {
                key: "resource.queue",
                value: self.name.clone(),
                expected: "kind = 'queue' beside it",
            });
        }
        let durable = self.durable.unwrap_or(is_queue);
        let overflow = match self.kind {
            KindWord::Stream if durable => OverflowWord::Block,
            _ => OverflowWord::DropOldest,
        };
        let spec = Spec {
            shards: self.shards,
            durability: u8::from(durable),
            ring_bytes: self.bytes,
            retention_ms: self.retention_ms,
            retention_bytes: self.retention_bytes,
            queue,
            max_record_bytes: self.max_record_bytes,
            overflow: match self.overflow.unwrap_or(overflow) {
                OverflowWord::Block => Overflow::Block,
                OverflowWord::DropOldest => Overflow::DropOldest,
                OverflowWord::DropNewest => Overflow::DropNewest,
                OverflowWord::Disconnect => Overflow::Disconnect,
            },
        };
        Ok((TenantId(self.tenant), self.kind.kind(), name, spec))
    }
}
