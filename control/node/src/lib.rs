//! pinion-node
