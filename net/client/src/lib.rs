//! pinion-client
