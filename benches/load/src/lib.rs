//! Load against a node and against its controls, in the same minute, by the
//! same loops, on the same two processors.
//!
//! The loops, histograms and the drivers that speak to a node are in
//! [`pinion_cli::bench`]; this crate adds the controls ([`echo`],
//! [`quinn_echo`], [`bare`], [`redis`], [`memcached`], [`nats`]; for what is durable [`disk`],
//! [`jetstream`], [`beanstalkd`]), starts and stops every server ([`server`]),
//! and compares ([`suite`], [`log_suite`], [`sweep`]); [`scale`] shows what a
//! node does when there is much of everything, [`plane`] what a control plane of
//! several does, [`admin`] what administrators wait for and what they cost. Start reading with [`suite`].
//!
//! It sends traffic to loopback addresses only, and every server it starts
//! ends with it, however it ends.

#![forbid(unsafe_code)]

pub mod admin;
mod answer;
pub mod bare;
pub mod bare_load;
pub mod beanstalkd;
pub mod disk;
pub mod echo;
pub mod handshakes;
pub mod idle;
pub mod jetstream;
mod links;
mod log_session;
pub mod log_suite;
pub mod memcached;
pub mod nats;
pub mod peak;
pub mod plane;
mod plans;
pub mod plot;
mod quic_socket;
pub mod quinn_echo;
pub mod redis;
pub mod scale;
pub mod server;
pub mod started;
pub mod suite;
pub mod sweep;
pub mod table;
pub mod tcp;
pub mod text_cache;
pub mod turns;
