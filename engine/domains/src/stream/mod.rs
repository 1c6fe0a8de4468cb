//! The stream: an ordered log with fan-out, ephemeral, one partition at a time.
//!
//! A [`Partition`] takes batches of records, gives each record the next offset
//! and keeps the newest in a bounded ring. A batch becomes one block
//! ([`pinion_types::block`]), encoded once; every subscriber is handed the
//! same shared bytes. It does no I/O and never blocks: what is owed to
//! subscribers comes out of [`Partition::poll_delivery`].
//!
//! What it promises:
//! - Offsets are dense from 0 and never reused; block timestamps never go back.
//! - A subscriber sees every record from its start on, in order, once, or a
//!   [`Lag`] that names what it does not see, before anything later.
//! - An append that fails changes nothing; a repeat by an idempotent producer
//!   is acknowledged with its first offset and not stored again.
//! - Memory is bounded whatever subscribers do, see below.
//!
//! **Memory.** Blocks lie in segments (at most 256 KiB) that are reused. A
//! segment lives as long as the ring or any handed-out [`bytes::Bytes`] needs
//! a part of it, so one small block in a stuck transport pins a whole segment.
//! Each subscriber's `window_bytes` bounds the bytes it may pin; when the
//! segments that only transports keep alive exceed half the ring, deliveries
//! are copied until they are released, so that nothing further is pinned. A
//! block of more than an eighth of a segment has an allocation of its own and
//! pins only itself.
//!
//! **Allocation.** Delivering whole blocks allocates nothing. Copies are made
//! for filtered subscriptions, for blocks larger than the record credit, and
//! under the pressure just described: one allocation per delivery.

mod arena;
mod error;
mod partition;
mod producers;
mod read;
mod ring;
mod sessions;
mod subscribers;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use core::fmt;

use pinion_types::block::Record;

pub use error::{AppendError, SessionError, SubscribeError};
pub use partition::{Append, Appended, BATCH_BYTES_MAX, Partition, PartitionConfig, StagedTotals};
pub use producers::BATCHES_REMEMBERED;
pub use read::{FETCH_SCAN_BYTES_MAX, Fetched};
pub use sessions::SESSION_IDLE;
pub use subscribers::{
    DELIVERY_BYTES_MAX, Delivery, FILTER_SCAN_BYTES_MAX, Lag, LagReason, Start, SubKey,
    SubscribeOptions, Subscribed,
};

use ring::Ring;

/// What happens to a subscriber that does not keep up. The numbers are those
/// of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Overflow {
    /// Nothing it has not seen is evicted to make room: appends are refused
    /// with [`AppendError::Backlogged`] instead. Retention still counts.
    Block = 1,
    /// Its oldest waiting records go; it goes on `backlog_max` before the end.
    DropOldest = 2,
    /// Once `backlog_max` records wait, newer ones are skipped until those
    /// have been delivered; then it goes on at the end. What waits can still
    /// be evicted from the ring.
    DropNewest = 3,
    /// The subscription ends with [`pinion_types::ErrorCode::SlowSubscriber`]
    /// as soon as more than `backlog_max` records wait or the ring overtakes it.
    Disconnect = 4,
}

/// Chooses the records a subscription or a fetch wants. Called once per record
/// and reader, on the partition's core: it must be quick and must not block.
pub trait RecordFilter: fmt::Debug {
    /// Whether the record is wanted.
    fn matches(&self, record: &Record<'_>) -> bool;
}
