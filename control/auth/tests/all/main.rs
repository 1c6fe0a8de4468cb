//! One binary for all tests of the crate's interface: each one links everything again.

#![allow(clippy::unwrap_used)]

mod exchange;
mod facts;
mod login;
mod spiffe;
mod table;
mod vectors;
