//! The admin API against a real control plane of one node.

#![allow(clippy::unwrap_used)]

mod abuse;
mod backup;
mod certified;
mod commands;
mod cores;
mod dashboard;
mod domains;
mod every_route;
mod first_day;
mod front;
mod grpc;
mod host;
mod http;
mod identity;
mod idp;
mod login;
mod matrix;
mod metrics;
mod observer;
mod pages;
mod proto;
mod roles;
mod schema;
mod stories;
mod support;
mod ways;
