//! One binary for all tests of the crate's interface: each one links everything again.

#![allow(clippy::unwrap_used)]

mod table;
mod vectors;
