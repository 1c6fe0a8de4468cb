//! What the benches of pure code share: seeded request traces, and the two
//! eviction policies the cache is measured against.
//!
//! - `hit-ratio`: the cache's S3-FIFO beside LRU and the offline optimum.
//! - `alloc-count`: heap allocations per operation on the hot paths.
//!
//! Run with `cargo run --release -p pinion-micro --bin NAME`. Nothing here
//! measures time, and nothing of the product depends on it.

#![forbid(unsafe_code)]

pub mod node;
pub mod policy;
pub mod trace;
