//! pinion-domains
