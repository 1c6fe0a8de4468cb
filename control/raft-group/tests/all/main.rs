//! Groups on disks that fail on purpose, driven by hand and by seeds.

#![allow(clippy::unwrap_used)]

mod alone;
mod crash;
mod restart;
mod support;
mod vectors;
