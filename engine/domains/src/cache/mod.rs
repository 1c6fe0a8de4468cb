//! One partition of a cache: key → latest value, with TTL, versions, leases
//! and watches, inside a hard byte budget.
//!
//! [`CachePartition`] is a state machine owned by one data core. Time is an
//! argument; randomness is the seed in [`CacheConfig`]. It never blocks,
//! never reads a clock, and never holds more than its budget.
//!
//! # What it promises
//! - **Versions** strictly increase within a partition, over every set, delete,
//!   expiry and eviction, also when a key is deleted and set again.
//! - **An expired value is never returned** as current, whether or not its memory
//!   has been reclaimed yet; [`CachePartition::handle_timeout`] reclaims it under a
//!   budget per call that grows with the backlog up to a bound.
//! - **Budget**: keys, values, slots, index and the eviction's memory together
//!   never exceed `budget_bytes`; room is made before something is admitted.
//! - **Every call is bounded**: the bound is named beside each method that loops.
//! - **Loss for a watcher is announced** in band before the next event.
//!
//! # What callers do
//! After each batch of calls, drain [`CachePartition::poll_wakeup`] and
//! [`CachePartition::poll_event`]; call [`CachePartition::handle_timeout`] at
//! [`CachePartition::next_deadline`].
//!
//! Where to start reading: `partition.rs`, then `eviction.rs` for S3-FIFO,
//! `lease.rs` for stampede control, `watch.rs` for events.

mod config;
mod eviction;
mod index;
mod lease;
mod partition;
mod slots;
mod watch;

#[cfg(test)]
mod tests;

pub use config::{BUDGET_BYTES_MIN, CacheConfig, CacheError, LEASE_MS_MAX};
pub use eviction::EVICTION_STEPS_MAX;
pub use lease::WaiterId;
pub use partition::{
    CachePartition, CacheStats, Condition, Deleted, EVICTIONS_MAX, EXPIRY_BUDGET_MAX,
    EXPIRY_BUDGET_MIN, Entry, FETCH_AHEAD_MAX, LeaseOutcome, SCAN_WORK_MAX, Wakeup,
};
pub use watch::{
    EVENT_HEADER_BYTES, EventKind, LAG_WINDOW_BYTES, NO_VALUE, WatchEvent, WatchId, WatchLag,
    WatchOptions,
};
