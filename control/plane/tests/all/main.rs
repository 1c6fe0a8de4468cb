//! Planes on disks that fail on purpose, driven by hand and by seeds.

#![allow(clippy::unwrap_used)]

mod alone;
mod audit;
mod beats;
mod cluster;
mod crash;
mod duties;
mod everywhere;
mod formation;
mod lost;
mod nodes;
mod pins;
mod support;
mod three;
mod usage;
mod vectors;
mod watch;
