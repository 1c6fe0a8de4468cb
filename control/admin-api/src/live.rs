//! What the data cores of this node last said of resources: shown beside them, and
//! what stands against deleting one.

use std::collections::BTreeMap;

use pinion_types::ResourceId;

/// What is known of all resources with anything to tell. Made by the owner from the
/// reports of its cores, a few times a second.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// By resource; what is not here has nothing.
    pub resources: BTreeMap<ResourceId, ResourceLoad>,
}

/// What is known of one resource on this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResourceLoad {
    /// Subscriptions that are open.
    pub subscribers: u32,
    /// Bytes that it has, in memory or on disk.
    pub bytes: u64,
    /// Bytes of them that a restart would keep.
    pub durable_bytes: u64,
    /// Records, messages or entries that it has.
    pub records: u64,
}
