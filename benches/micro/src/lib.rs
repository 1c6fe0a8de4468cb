//! What the benches of pure code share: seeded request traces, the two eviction
//! policies the cache is measured against, a core driven from memory, and the
//! paths whose instructions are counted.
//!
//! - `hit-ratio`: the cache's S3-FIFO beside LRU and the offline optimum.
//! - `alloc-count`: heap allocations per operation on the hot paths.
//! - `metadata-snapshot`: bytes of a snapshot of a large cluster's metadata, and how long it takes.
//! - `instructions`: instructions per operation beside what was accepted; start
//!   at [`instructions`].
//!
//! Run with `cargo run --release -p pinion-micro --bin NAME`. Only the last but one
//! measures time, and nothing of the product depends on any.

#![forbid(unsafe_code)]

pub mod instructions;
pub mod node;
pub mod policy;
pub mod trace;
