//! pinion-reactor
