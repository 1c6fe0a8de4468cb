//! One node's part of the control plane: requests in, answers and changes out.
//!
//! [`Plane`] puts together the Raft group, the metadata that its commands change,
//! the requests that wait for either, those who follow the changes, and what a
//! leader has to see to. It never touches a file, a socket, a clock or a thread,
//! and draws no randomness: what happened comes in by `handle_*`, what is to be
//! done comes out by `poll_*`, so that it runs the same under a node and under a
//! seed. It does not ask who may do what: who calls it has.
//!
//! Start reading at [`Plane`], then [`Request`] and [`PlaneOutput`]. Why it is one
//! machine is in `docs/decisions/0018-control-plane-machine.md`.

#![forbid(unsafe_code)]

mod audit;
mod clock;
mod duties;
mod formation;
mod heartbeats;
mod hub;
pub mod limits;
mod meet;
mod members;
mod names;
mod node;
mod open;
mod output;
mod peer;
mod pending;
mod plane;
mod request;
mod usage;

pub use audit::{
    AUDIT_LOG, AuditAsk, AuditConfig, AuditEverywhere, AuditOpenError, AuditPage, AuditPages,
    AuditQuery, AuditResult, AuditRow, AuditSaid, AuditSilence, RowError, Said,
};
pub use hub::{Form, WatchError, WatchId, Watched};
pub use meet::{Beat, Join, JoinAnswer, JoinVerdict, Meet, MeetState};
pub use names::PeerName;
pub use node::{ClusterConfig, NodeFacts};
pub use open::{Opened, PlaneConfig, PlaneOpenError};
pub use output::{Halt, PlaneLogs, PlaneNotice, PlaneOutput, PlanePeer, PlaneStatus};
pub use peer::{Forward, PlaneMessage, Returned, Why};
pub use pinion_raft_group::TransferError;
pub use plane::{Plane, PlanePinned};
pub use request::{
    Answer, Caller, Consistency, Denied, PlaneError, Query, QueryValue, Request, RequestId, Write,
};
pub use usage::{Usage, UseRow};
