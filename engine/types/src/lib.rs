//! The words every room of Pinion shares: identifiers, time, names, limits,
//! error codes, the record block, and bounded containers.
//!
//! This crate does no I/O, reads no clock and draws no randomness. Start with
//! [`block`] for the bytes of a record, [`error`] for what a refusal says, and
//! [`limits`] for every number that bounds something shared.

#![forbid(unsafe_code)]

pub mod block;
pub mod error;
pub mod ids;
pub mod limits;
pub mod map;
pub mod name;
pub mod route;
pub mod time;
pub mod wheel;

pub use error::{ErrorCode, Fact, FactId, Outcome, Refusal, RetryClass};
pub use ids::{
    CoreId, Epoch, Offset, PartitionId, ProducerId, ResourceId, Sequence, SessionId,
    SubscriptionId, Version,
};
pub use map::{FixedMap, FixedSet};
pub use name::{NameError, ResourceKind, ResourceName};
pub use time::{Monotonic, WallMs};
