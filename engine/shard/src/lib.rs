//! pinion-shard
