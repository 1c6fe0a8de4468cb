//! What one data core owns: its partitions, who waits for them, and when they
//! want to be woken.
//!
//! A [`Shard`] finds a partition by resource and number, remembers which
//! connection each subscription, append session and waiting request belongs
//! to, and collects what partitions have to say into one queue. It is a pure
//! state machine owned by one core; it knows no bytes of the wire, no sockets
//! and no other core.
//!
//! A turn: any number of calls, then [`Shard::end_turn`], then
//! [`Shard::poll_output`] until it gives `None`.

#![forbid(unsafe_code)]

mod durable;
mod origin;
mod output;
mod queues;
mod shard;

pub use durable::{OpenedLog, PartitionSpec, Senseless, Ticket};
pub use origin::{Origin, Subscriber};
pub use output::{LateAnswer, MessagesFor, ShardOutput};
pub use queues::{QueueSubscription, TakeRequest};
pub use shard::{
    PARTITIONS_MAX, PartitionDetail, PartitionFacts, QueueFacts, Retired, Shard, ShardConfig, Slot,
    Standing, StreamFacts, SubscriptionFacts,
};
