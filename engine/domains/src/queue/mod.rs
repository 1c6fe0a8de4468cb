//! One partition of a queue: messages given to consumers one at a time, with
//! acknowledgement, retries and dead letters.
//!
//! [`QueuePartition`] is a state machine owned by one data core, and a fold
//! over its records in the log. Time is an argument; randomness is the seed in
//! [`QueueConfig`]. It opens no file and reads no clock.
//!
//! # What it promises
//! - **Each group sees every message once**: until it acknowledges it, it is
//!   given again; a message is gone when every group is done with it. A group
//!   begins with the oldest message still there, unless it is made to begin
//!   with the next put. A queue nobody has made a group of has the default one,
//!   which everybody may ask about; it becomes one like the others when it is
//!   first taken from. If another group is made before, what there was is that
//!   one's.
//! - **A token** proves one reservation of one message and no other.
//! - **An attempt counts** when it is nacked or its time runs out; not when it
//!   is given back or its session ends. After `max_attempts` the message is a
//!   dead letter; dead letters are never dropped.
//! - **What is acknowledged is durable**: puts, acks, failed attempts, dead
//!   letters and groups are [`crate::op::Op`]s and show when they are
//!   committed. Reservations are not: after a crash what was in flight is ready
//!   again, its attempts as they were.
//! - **A message about which an op is on its way** is given to nobody.
//! - **Redelivery is no storm**: failed attempts back off with jitter, and what
//!   comes back passes a bucket per group and takes turns with new messages.
//! - **FIFO** in the order in which messages become ready. With
//!   `ordered_by_key`, a key's later messages wait for its earlier ones, unless
//!   those are dead letters.
//! - **Everything is bounded** by [`QueueConfig`]; no call costs more than its
//!   batch, but for deleting a group and the questions of people.
//!
//! # What callers do
//! See [`QueuePartition`] for a turn. Call [`QueuePartition::handle_timeout`]
//! at [`QueuePartition::next_deadline`].
//!
//! Where to start reading: `partition.rs` for the life of an op, `serve.rs` for
//! who is given what, `settle.rs` for what consumers say, `apply.rs` for the
//! fold, `redrive.rs` for dead letters moved over time, `ops.rs` and
//! `snapshot.rs` for the bytes.

mod apply;
mod bodies;
mod config;
mod dead;
mod demand;
mod entries;
mod group;
mod groups;
mod messages;
pub mod ops;
mod partition;
mod pool;
mod producers;
mod redrive;
mod serve;
mod settle;
mod snapshot;
mod tokens;
mod turn;
mod waiting;
mod why;

#[cfg(test)]
mod tests;

pub use apply::LAPSED;
pub use bodies::{LOADS_MAX, LoadError, LoadToken};
pub use config::{
    BATCH_MAX, Bound, DELIVERY_BYTES_MAX, DELIVERY_MESSAGES_MAX, DONE_REMEMBERED_MS,
    ERROR_BYTES_MAX, GROUP_NAME_BYTES_MAX, GROUPS_MAX, LEASE_MS_MAX, PAGE_MAX, QueueConfig,
    QueueError, TIME_MS_MAX, WAIT_MS_MAX,
};
pub use dead::{DeadAction, DeadFilter, DeadLetter};
pub use demand::{Gone, PushId, WaiterId};
pub use group::GroupCounters;
pub use messages::DeadReason;
pub use ops::ReplayError;
pub use partition::{OpNumber, Put, PutDone, QueuePartition};
pub use redrive::RedriveStatus;
pub use serve::{Delivery, SCAN_MAX, Subscribe, Take, TakeOutcome, Taken};
pub use settle::TokenResult;
pub use snapshot::SnapshotError;
pub use tokens::Token;
pub use turn::TIMERS_PER_CALL;
pub use why::{Body, GroupCounts, Holder, Peeked, QueueCounts, Standing, Why};
