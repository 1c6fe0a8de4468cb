//! Stories of a node in memory: what clients, cores and the control thread do
//! to each other, good and bad.

#![allow(clippy::unwrap_used)]

mod harness;
mod stories;
