//! pinion-micro
