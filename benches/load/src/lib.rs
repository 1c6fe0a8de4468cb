//! pinion-load
