//! Load against a node and against its controls, in the same minute, by the
//! same loops, on the same two processors.
//!
//! The loops, histograms and the drivers that speak to a node are in
//! [`pinion_cli::bench`]; this crate adds the controls ([`echo`],
//! [`quinn_echo`], [`redis`], [`nats`]), starts and stops every server
//! ([`server`]), and compares ([`suite`]). Start reading with [`suite`].
//!
//! It sends traffic to loopback addresses only, and every server it starts
//! ends with it, however it ends.

#![forbid(unsafe_code)]

pub mod echo;
pub mod idle;
pub mod nats;
pub mod quinn_echo;
pub mod redis;
pub mod server;
pub mod suite;
pub mod table;
pub mod tcp;
