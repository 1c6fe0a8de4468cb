//! pinion-wire
