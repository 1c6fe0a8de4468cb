//! QUIC without I/O: datagrams in, datagrams out, one endpoint per core.
//!
//! **Does:** wraps quinn-proto in the calling convention of this tree
//! (`handle_*(now, input)`, `poll_*`, `next_deadline`). It keeps connections in a slab
//! with generations, looks only at those that have work, makes connection ids that
//! name their core, decides who may begin a handshake, marks streams opened by early
//! data, and chooses transport parameters under which nothing waits for a delayed ACK.
//!
//! **Never:** opens a socket, reads a clock, draws randomness (a seed is given; only
//! TLS key generation inside ring is beyond it), spawns, blocks, or knows what the
//! bytes on a stream mean.
//!
//! **Start reading** at [`Endpoint`], then [`Event`]; [`transport`] has the numbers and
//! their reasons, [`cid`] the steering arithmetic, [`Limits`] admission.
//!
//! ```
//! use std::time::Instant;
//! use pinion_quic::{ClientConfig, Endpoint, tls};
//!
//! let tls = tls::client_config(rustls::RootCertStore::empty())?;
//! let config = ClientConfig::new(tls)?;
//! let mut endpoint = Endpoint::client([7; 32])?;
//! let now = Instant::now();
//! let conn = endpoint.connect(now, &config, "192.0.2.1:8080".parse()?, "pinion.example", None)?;
//!
//! let mut buf = Vec::new();
//! while let Some(datagram) = endpoint.poll_transmit(now, 1, &mut buf) {
//!     assert_eq!(datagram.len, 1200, "the first flight is padded"); // send buf to datagram.destination
//! }
//! assert!(endpoint.next_deadline().is_some_and(|at| at > now));
//! # let _ = conn;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod admission;
mod arrival;
pub mod cid;
mod config;
mod connection;
mod crypto;
mod doors;
mod endpoint;
mod event;
mod keys;
mod outbox;
mod padding;
mod pump;
mod stats;
mod streams;
mod timers;
pub mod tls;
pub mod transport;

pub use admission::Limits;
pub use cid::{Steering, SteeringError};
pub use config::{
    ClientConfig, CorePlace, EndpointError, RETRY_TOKEN_LIFETIME, ServerConfig, TOKEN_LOG_BYTES,
    TOKENS_SENT,
};
pub use doors::{Doors, IsExpected};
pub use endpoint::{ConnectError, Endpoint, PathMeta, RESPONSES_MAX, TransmitMeta};
pub use event::{CloseReason, ConnId, Event, Gone, ReadOutcome, StreamId, WriteOutcome};
pub use keys::ClockAnchor;
pub use outbox::Outbox;
pub use stats::Stats;
