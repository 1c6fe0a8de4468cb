//! Identifiers, each its own type so that one is never passed for another.

use core::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl $name {
            /// The bare number, for wire, log lines and metrics.
            #[must_use]
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// A data core of this node, counted from 0 in the order of the placement plan.
    CoreId(u16)
);
id!(
    /// One shard of a resource, counted from 0.
    PartitionId(u16)
);
id!(
    /// A stream or cache, unique on the node for its lifetime and never reused.
    ResourceId(u64)
);
id!(
    /// Position of a record in one partition; dense, so the next one is `self + 1`.
    Offset(u64)
);
id!(
    /// Chosen by an idempotent producer, at random, once per producer life.
    ProducerId(u64)
);
id!(
    /// Position of a record in what one producer sent to one partition; dense from 0.
    Sequence(u64)
);
id!(
    /// Version of the shard map a reply was decided under.
    Epoch(u64)
);
id!(
    /// Version of one cache entry; strictly increasing within a partition.
    Version(u64)
);
id!(
    /// A subscription or watch, unique within its connection.
    SubscriptionId(u32)
);

/// One client connection on one core: slot and generation, so that a late
/// message for a closed connection never reaches the next one in its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId {
    /// The data core whose socket the connection lives on.
    pub core: CoreId,
    /// Slot and generation, opaque outside the owning core.
    pub token: u64,
}

impl Offset {
    /// The first offset of every partition.
    pub const ZERO: Self = Self(0);

    /// The offset `count` records further on.
    ///
    /// # Panics
    /// When the sum leaves `u64`; a partition would have to hold 2^64 records.
    #[must_use]
    pub const fn plus(self, count: u64) -> Self {
        Self(self.0.checked_add(count).expect("offsets fit u64"))
    }
}
