//! Load against a node and against its controls, in the same minute, by the
//! same loops, on the same two processors.
//!
//! The loops, histograms and the drivers that speak to a node are in
//! [`pinion_cli::bench`]; this crate adds the controls ([`echo`],
//! [`quinn_echo`], [`redis`], [`nats`]; for what is durable [`disk`],
//! [`jetstream`], [`beanstalkd`]), starts and stops every server ([`server`]),
//! and compares ([`suite`], [`log_suite`]). Start reading with [`suite`].
//!
//! It sends traffic to loopback addresses only, and every server it starts
//! ends with it, however it ends.

#![forbid(unsafe_code)]

pub mod beanstalkd;
pub mod disk;
pub mod echo;
pub mod idle;
pub mod jetstream;
mod log_session;
pub mod log_suite;
pub mod nats;
pub mod quinn_echo;
pub mod redis;
pub mod server;
pub mod started;
pub mod suite;
pub mod table;
pub mod tcp;
pub mod turns;
