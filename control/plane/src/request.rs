//! What can be asked of a plane, and what it answers.

use core::net::SocketAddr;
use std::sync::Arc;

use pinion_metadata::{
    Command, Expect, FormatError, ListQuery, MetaError, MetaVersion, Object, ObjectKey, Outcome,
    Page, SnapshotSource,
};
use pinion_types::Monotonic;

use crate::audit::{AuditEverywhere, AuditPage, AuditPages, AuditQuery};
use crate::limits::LEADER_RETRY_MS;

/// Names a request until it is answered; chosen by the owner, unique among those
/// that are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Who asks, as its credentials proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The principal, at most
    /// [`PRINCIPAL_BYTES_MAX`](pinion_metadata::limits::PRINCIPAL_BYTES_MAX) bytes.
    pub principal: Box<str>,
    /// The client's number of the request, or 0. A repeat under the same number, by
    /// the same principal, is done once and answered as often as it is asked.
    pub request: u128,
    /// The address it asks from, for the audit log.
    pub remote: Option<SocketAddr>,
}

/// What became of a request that is none of a plane's, for the audit log: it was refused
/// before, or is about something else than the metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// Who asked; its principal may be empty.
    pub caller: Caller,
    /// Whose it was about; empty when no one tenant's.
    pub tenant: Box<str>,
    /// What was asked.
    pub operation: Box<str>,
    /// What it was about.
    pub target: Box<str>,
    /// What it was answered, as a status of HTTP; 102 before it is done.
    pub status: u16,
}

/// One request. It is answered once, by
/// [`PlaneOutput::Answer`](crate::PlaneOutput::Answer), before `deadline` or at it.
#[derive(Clone, Debug)]
pub enum Request {
    /// Change something.
    Write(Write),
    /// Read something.
    Read {
        /// What.
        query: Query,
        /// How new the answer must be.
        consistency: Consistency,
        /// When the caller gives up.
        deadline: Monotonic,
    },
    /// Read rows of this node's audit log.
    Audit {
        /// Which.
        query: AuditQuery,
        /// When the caller gives up.
        deadline: Monotonic,
    },
    /// Write a row of the audit log about something that is no command. It is answered when
    /// the row is durable: what is done after that is never without it.
    Record {
        /// What it says.
        row: Denied,
        /// When the caller gives up. The row may be there then, or come.
        deadline: Monotonic,
    },
    /// Read rows of all nodes' audit logs. Nodes that do not answer within
    /// [`AUDIT_NODE_WAIT`](crate::limits::AUDIT_NODE_WAIT) are named in the answer.
    AuditEverywhere {
        /// Which.
        wanted: Box<AuditEverywhere>,
        /// When the caller gives up.
        deadline: Monotonic,
    },
}

/// A change that is asked for.
#[derive(Clone, Debug)]
pub struct Write {
    /// Who asks.
    pub caller: Caller,
    /// What the command's target must be like.
    pub expect: Expect,
    /// What is asked.
    pub command: Command,
    /// When the caller gives up. A command that is in the group's log by then is done
    /// or not, and the answer says that nobody knows.
    pub deadline: Monotonic,
}

/// How new the answer to a read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// It holds everything that anyone was told was done before this was asked.
    Linearizable,
    /// As this node has it, at once. It may be any time behind; it says so.
    Stale,
}

/// What can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// One object.
    Get(ObjectKey),
    /// Objects of one kind, page by page.
    List(ListQuery),
    /// Everything, to be followed from its version on by [`crate::Plane::watch`].
    Snapshot,
}

/// What was read.
#[derive(Clone, Debug)]
pub enum QueryValue {
    /// The object, if there is one.
    Object(Option<Arc<Object>>),
    /// A page.
    Page(Page),
    /// Everything, to be encoded where there is time for it.
    Snapshot(SnapshotSource),
}

/// What became of a request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// It is done and durable on a majority. Answers of one plane are in the order of
    /// these versions, but for repeats.
    Written {
        /// Version of the metadata that it left.
        version: MetaVersion,
        /// What it gave.
        outcome: Outcome,
        /// It had been done before; `version` is the first's.
        repeat: bool,
    },
    /// What was read.
    Read {
        /// Of which state.
        version: MetaVersion,
        /// It is of [`Consistency::Stale`].
        stale: bool,
        /// What.
        value: QueryValue,
    },
    /// The row is durable.
    Recorded,
    /// Rows of the audit log.
    Audit(AuditPage),
    /// Rows of the audit logs of all nodes.
    AuditEverywhere(AuditPages),
    /// It was not done, or nobody knows: [`PlaneError::outcome`].
    Refused(PlaneError),
}

/// Why a request has no other answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaneError {
    /// The metadata refused the command.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// The command says something that no replica could read, such as an object against the
    /// grammar; or the node that leads is of another release and could not.
    #[error("the command: {0}")]
    Malformed(FormatError),
    /// Nobody leads, and nobody did before the deadline.
    #[error("nobody leads the control plane")]
    NoLeader {
        /// Milliseconds after which it may be otherwise.
        retry_after_ms: u32,
    },
    /// It may have been done, or may still be. Ask again under the same request number.
    #[error("nobody knows whether it was done")]
    Unknown,
    /// The deadline came first; nothing happened.
    #[error("the deadline is over")]
    TimedOut,
    /// As much as may wait is waiting. Ask again in some milliseconds.
    #[error("{limit} requests or bytes wait already")]
    Busy {
        /// The limit that was met.
        limit: u64,
    },
    /// The disk is full.
    #[error("the disk is full")]
    ReadOnly,
    /// The audit log takes no rows: what cannot be recorded is not done. Of a query: rows
    /// cannot be read.
    #[error("the audit log is not available")]
    AuditUnavailable,
    /// This node has not caught up since its start, or is no member.
    #[error("this node is not ready")]
    NotReady,
    /// A write of the group's log failed, or the plane met a contradiction; only a
    /// restart helps.
    #[error("the control plane of this node has failed")]
    Failed,
}

impl PlaneError {
    /// Nobody leads; when to ask again.
    pub(crate) const NO_LEADER: Self = Self::NoLeader {
        retry_after_ms: LEADER_RETRY_MS,
    };

    /// What became of the request: nothing, unless nobody knows.
    #[must_use]
    pub const fn outcome(&self) -> pinion_types::Outcome {
        match self {
            Self::Unknown => pinion_types::Outcome::Unknown,
            _ => pinion_types::Outcome::NotAdmitted,
        }
    }
}
