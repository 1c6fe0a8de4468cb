//! Brokers.

use pinion_metadata::broker::{self, BrokerFacts, BrokerStatus, Capacity, Label};
use pinion_metadata::command::RegisterBroker;
use pinion_metadata::{Body, Object, ObjectKey, Usage};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

use super::{Life, time};

/// A broker.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Broker {
    name: String,
    /// Never used again for another.
    number: u32,
    address: String,
    region: String,
    zone: String,
    labels: BTreeMap<String, String>,
    capacity: CapacityView,
    /// `active`, `draining` or `down`.
    status: &'static str,
    draining: bool,
    /// RFC 3339; since when it is down.
    down_since: Option<String>,
    /// RFC 3339.
    registered: String,
    /// The life of its process, in decimal.
    incarnation: String,
    /// What is on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    load: Option<BrokerLoad>,
    #[serde(flatten)]
    life: Life,
}

/// What is on a broker.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(crate) struct BrokerLoad {
    shards_led: u64,
    shard_copies: u64,
    shards_arriving: u64,
}

/// What a broker can take.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CapacityView {
    pub(crate) max_shards: u32,
    pub(crate) max_connections: u32,
    #[serde(default = "one")]
    pub(crate) cores: u16,
    #[serde(default = "one")]
    pub(crate) logs: u16,
    #[serde(default)]
    pub(crate) memory_per_core: u64,
}

const fn one() -> u16 {
    1
}

/// A broker that says that it is there.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BrokerRegister {
    pub(crate) name: String,
    address: String,
    #[serde(default)]
    region: String,
    #[serde(default)]
    zone: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    capacity: CapacityView,
    /// The life of its process, in decimal, drawn at random at its start. Without one
    /// it is the broker's present one, or 0.
    #[serde(default)]
    incarnation: Option<String>,
}

impl BrokerRegister {
    /// The command; `is` is the incarnation of the broker of this name, if there is one.
    pub(crate) fn command(self, is: Option<u64>) -> Option<RegisterBroker> {
        let incarnation = match self.incarnation {
            Some(text) => text.parse().ok()?,
            None => is.unwrap_or(0),
        };
        let label = |(name, value): (String, String)| Label {
            name: name.into(),
            value: value.into(),
        };
        Some(RegisterBroker {
            name: self.name.into(),
            facts: BrokerFacts {
                address: self.address.into(),
                region: self.region.into(),
                zone: self.zone.into(),
                labels: self.labels.into_iter().map(label).collect(),
                capacity: Capacity {
                    max_shards: self.capacity.max_shards,
                    max_connections: self.capacity.max_connections,
                    cores: self.capacity.cores,
                    logs: self.capacity.logs,
                    memory_per_core: self.capacity.memory_per_core,
                },
            },
            incarnation,
            gone: None,
        })
    }
}

impl Broker {
    /// The word of a broker's status.
    pub(crate) fn status_of(broker: &broker::Broker) -> &'static str {
        match broker.status() {
            BrokerStatus::Active => "active",
            BrokerStatus::Draining => "draining",
            BrokerStatus::Down => "down",
        }
    }

    pub(crate) fn of(object: &Object, usage: Option<Usage>) -> Option<Self> {
        let (ObjectKey::Broker(name), Body::Broker(broker)) = (&object.meta.key, &object.body)
        else {
            return None;
        };
        let broker::Broker { facts, .. } = broker;
        let labels = facts.labels.iter();
        Some(Self {
            name: name.to_string(),
            number: broker.number.0,
            address: facts.address.to_string(),
            region: facts.region.to_string(),
            zone: facts.zone.to_string(),
            labels: labels
                .map(|label| (label.name.to_string(), label.value.to_string()))
                .collect(),
            capacity: CapacityView {
                max_shards: facts.capacity.max_shards,
                max_connections: facts.capacity.max_connections,
                cores: facts.capacity.cores,
                logs: facts.capacity.logs,
                memory_per_core: facts.capacity.memory_per_core,
            },
            status: Self::status_of(broker),
            draining: broker.draining,
            down_since: broker.down.map(time),
            registered: time(broker.registered),
            incarnation: broker.incarnation.to_string(),
            load: usage.map(|usage| BrokerLoad {
                shards_led: usage.leads,
                shard_copies: usage.copies,
                shards_arriving: usage.arriving,
            }),
            life: Life::from(&object.meta),
        })
    }
}
