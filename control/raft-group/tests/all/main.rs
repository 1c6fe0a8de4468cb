//! Groups on disks that fail on purpose, driven by hand and by seeds.

#![allow(clippy::unwrap_used)]

mod alone;
mod chaos;
mod crash;
mod members;
mod peer_vectors;
mod restart;
mod support;
mod three;
mod vectors;
