//! The admin API against a real control plane of one node.

#![allow(clippy::unwrap_used)]

mod front;
mod host;
mod http;
mod idp;
mod proto;
mod stories;
mod support;
