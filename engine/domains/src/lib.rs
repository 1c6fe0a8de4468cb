//! What a core's partitions mean: stream, queue and cache, as pure state machines.
//!
//! Each partition takes requests and the time, and gives back answers and
//! effects (`poll_*`). It opens no socket or file, reads no clock, draws no
//! randomness, starts no thread, and knows nothing of QUIC, users or other
//! partitions. One core owns each partition; nothing here is shared.
//!
//! What must survive leaves a partition as an [`op::Op`] and comes back by
//! replay; who writes it is none of its business.
//!
//! Start with [`stream::Partition`] for the log with fan-out,
//! [`queue::QueuePartition`] for shared work, and [`cache::CachePartition`] for
//! key → latest value.

#![forbid(unsafe_code)]

pub mod cache;
pub mod op;
pub mod queue;
pub mod stream;
