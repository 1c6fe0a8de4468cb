//! What the data cores of this node last said of resources: shown beside them, and
//! what stands against deleting one.

use std::collections::BTreeMap;

use pinion_node::views::{PartitionDetail, PartitionFacts};
use pinion_types::ResourceId;

/// What is known of all resources with anything to tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// By resource; what is not here has nothing.
    pub resources: BTreeMap<ResourceId, ResourceLoad>,
}

/// What is known of one resource on this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResourceLoad {
    /// Subscriptions and watches that are open, and takes that wait.
    pub subscribers: u32,
    /// Bytes that it has, in memory or on disk.
    pub bytes: u64,
    /// Bytes of them that a restart would keep.
    pub durable_bytes: u64,
    /// Records, messages or entries that it has.
    pub records: u64,
}

impl Live {
    /// The sums over partitions.
    #[must_use]
    pub fn of(resources: &BTreeMap<ResourceId, Vec<PartitionFacts>>) -> Self {
        let load = |(id, partitions): (&ResourceId, &Vec<PartitionFacts>)| {
            let mut load = ResourceLoad::default();
            for one in partitions {
                let bytes = match &one.detail {
                    PartitionDetail::Queue(queue) => queue.counts.bytes,
                    PartitionDetail::Stream(_) | PartitionDetail::Cache(_) => one.bytes,
                };
                load.subscribers = load.subscribers.saturating_add(one.subscriptions());
                // A durable stream has its newest records in both places.
                load.bytes += bytes.max(one.durable_bytes);
                load.durable_bytes += one.durable_bytes;
                load.records += one.records();
            }
            (*id, load)
        };
        Self {
            resources: resources.iter().map(load).collect(),
        }
    }
}
