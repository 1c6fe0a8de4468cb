//! The metadata from outside: what commands do, what its bytes are, and what
//! holds of any sequence of commands.

#![allow(clippy::unwrap_used)]

mod batch;
mod brokers;
mod commands;
mod deletion;
mod families;
mod format;
mod identity;
mod import;
mod keys;
mod list;
mod members;
mod plans;
mod props;
mod resources;
mod rules;
mod settings;
mod support;
mod vectors;
mod watch;
