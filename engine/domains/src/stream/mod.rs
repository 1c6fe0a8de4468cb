//! The stream: an ordered log with fan-out, one partition at a time, in memory
//! alone or with a log behind it.
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
//! **Durable partitions** ([`PartitionConfig::durable`]) promise it across a
//! crash. Each change is an [`Op`](crate::op::Op), taken with
//! [`Partition::poll_op`] and appended to the log by the owner; readers see it
//! after [`Partition::commit_next`]. The ring is then only the newest part of
//! what can be read: older records are asked of the log with
//! [`Partition::poll_read`] and come with [`Partition::handle_read`]. After a
//! restart [`Partition::restore`] and [`Partition::replay`] make the same
//! partition again. `durable.rs` begins with the rules.
//!
//! **Memory.** Blocks lie in segments (at most 256 KiB) that are reused. A
//! segment lives as long as the ring or any handed-out [`bytes::Bytes`] needs
//! a part of it, so one small block in a stuck transport pins a whole segment.
//! Each subscriber's `window_bytes` bounds the bytes it may pin; when the
//! segments that only transports keep alive exceed half the ring, deliveries
//! are copied until they are released, so that nothing further is pinned. A
//! block of more than an eighth of a segment has an allocation of its own and
//! pins only itself. A partition begins with a segment of 512 bytes, and has
//! none after [`Partition::evict_committed`] took everything.
//!
//! **Allocation.** Delivering whole blocks allocates nothing. Copies are made
//! for filtered subscriptions, for blocks larger than the record credit, and
//! under the pressure just described: one allocation per delivery.

mod arena;
mod cold;
mod cursors;
mod durable;
mod error;
mod partition;
mod producers;
mod read;
mod ring;
mod sessions;
mod snapshot;
mod source;
mod subscribers;

#[cfg(test)]
mod fake_log;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use core::fmt;

use pinion_types::block::Record;

pub use cold::{
    COLD_CHUNKS_MAX, COLD_KEEP, COLD_READ_BYTES, COLD_READ_BYTES_FIRST, COLD_READS_MAX, COLD_TRIES,
    ColdError, ColdRead, StreamChunk,
};
pub use cursors::{CURSOR_NAME_BYTES_MAX, CURSORS_MAX};
pub use durable::{OpRef, UNCOMMITTED_BYTES_MIN};
pub use error::{
    AppendError, CursorError, ReplayError, RestoreError, SessionError, SubscribeError,
};
pub use partition::{Append, Appended, BATCH_BYTES_MAX, Partition, PartitionConfig, StagedTotals};
pub use producers::BATCHES_REMEMBERED;
pub use read::{FETCH_SCAN_BYTES_MAX, FetchResult, Fetched};
pub use sessions::SESSION_IDLE;
pub use subscribers::{
    DELIVERY_BYTES_MAX, Delivery, FILTER_SCAN_BYTES_MAX, Lag, LagReason, Start, SubKey,
    SubPosition, SubscribeOptions, Subscribed,
};

use ring::Ring;

/// What happens to a subscriber that does not keep up. The numbers are those
/// of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Overflow {
    /// Nothing it has not seen is evicted to make room: appends are refused
    /// with [`AppendError::Backlogged`] instead. Retention still counts. On a
    /// durable partition it blocks nobody: what it has not seen is in the log.
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
pub trait RecordFilter: fmt::Debug + Send {
    /// Whether the record is wanted.
    fn matches(&self, record: &Record<'_>) -> bool;
}
