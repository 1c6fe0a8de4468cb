//! pinion-quic
