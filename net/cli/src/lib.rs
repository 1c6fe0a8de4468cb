//! pinion-cli

pub mod bench;
