//! pinion-types
