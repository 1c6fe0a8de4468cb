//! pinion-cli
