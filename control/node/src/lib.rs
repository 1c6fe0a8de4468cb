//! `Core`: what one data core decides. Session, access check, shard map and
//! shard, joined into one state machine.
//!
//! It takes stream bytes, mails from other cores and the time, and gives back
//! bytes to send, streams to open, mails to post and connections to close. It
//! never touches a socket, a clock, a thread or a random number, so the server
//! and a simulator can run the same code. Start reading at [`Core`].

#![forbid(unsafe_code)]

mod ahead;
mod changing;
mod closing;
mod connection;
mod core;
mod cursors;
pub mod declared;
mod deliveries;
mod durable;
mod execute;
pub mod facts;
mod fetches;
mod identity;
mod judging;
mod lifecycle;
mod lost;
pub mod mail;
pub mod map;
mod output;
pub mod pins;
mod post;
mod queue_looks;
mod queue_views;
mod queues;
pub mod quota;
mod quota_meters;
pub mod quota_shares;
mod requests;
mod samples;
pub mod stats;
pub mod views;

pub use pinion_auth::access;

pub use crate::core::{Core, CoreConfig, Feed, REPLY_BYTES_LATE_MAX};
pub use crate::identity::{EXPIRY_LOOK_MAX, LEAVE_WAIT, SIGNATURES_PER_TURN_MAX};
pub use crate::judging::JUDGED_PER_TURN_MAX;
pub use crate::lifecycle::HELLO_WAIT;
pub use crate::output::Output;
pub use crate::samples::{SAMPLE_EVERY, Sample, TimedOp};
