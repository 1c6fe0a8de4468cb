//! What cores and the control thread say to each other. Every box that holds
//! these is bounded; nothing else is shared.

use std::sync::Arc;

use bytes::Bytes;
use pinion_types::{CoreId, Epoch, Refusal, ResourceKind, ResourceName, SessionId, SubscriptionId};
use pinion_wire::message::Spec;

use crate::access::{AccessTable, TenantId};
use crate::map::Resource;
use crate::stats::CoreStats;

/// Where a reply must go back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The connection.
    pub session: SessionId,
    /// The request stream on it.
    pub stream: u64,
    /// The request on that.
    pub correlation: u32,
}

/// From a data core, or the control thread, to a data core.
#[derive(Debug)]
pub enum CoreMail {
    /// Run a request here: this core owns the partition. It was authorised
    /// where its connection lives.
    Request {
        /// Whom to answer.
        origin: Origin,
        /// What it is about.
        resource: Arc<Resource>,
        /// Number the connection gave an append session, when it begins one or uses one.
        append: u64,
        /// The request's opcode.
        opcode: u8,
        /// Its body, owned because it leaves the connection's buffers.
        body: Box<[u8]>,
    },
    /// The answer to [`CoreMail::Request`]: a whole frame.
    Reply {
        /// Whom it is for.
        origin: Origin,
        /// The encoded reply.
        frame: Vec<u8>,
    },
    /// Bytes for a subscription's stream; shared, never copied.
    Deliver {
        /// The connection.
        session: SessionId,
        /// The subscription on it.
        subscription: SubscriptionId,
        /// Whole frames.
        chunk: Bytes,
        /// Nothing follows.
        end: bool,
    },
    /// The client granted credit.
    Credit {
        /// The connection.
        session: SessionId,
        /// The subscription on it.
        subscription: SubscriptionId,
        /// Records granted.
        records: u32,
        /// Bytes granted.
        bytes: u32,
    },
    /// The transport took delivered bytes.
    Window {
        /// The connection.
        session: SessionId,
        /// The subscription on it.
        subscription: SubscriptionId,
        /// Bytes taken.
        bytes: u32,
    },
    /// The connection is gone: drop what it had here. Sent after every request
    /// of the connection on the same lane, so none can follow it.
    SessionGone {
        /// The connection.
        session: SessionId,
    },
    /// A resource exists.
    Declared {
        /// Epoch of the map that has it.
        epoch: Epoch,
        /// What it is.
        resource: Arc<Resource>,
    },
    /// The answer to [`ControlMail::Declare`].
    DeclareDone {
        /// Whom it is for.
        origin: Origin,
        /// The resource, or why there is none.
        result: Result<Arc<Resource>, Refusal>,
    },
    /// A new access table is in force.
    Access(Arc<AccessTable>),
    /// Take no more work, flush, close.
    Drain,
}

/// From a data core to the control thread.
#[derive(Debug)]
pub enum ControlMail {
    /// Find or create a resource.
    Declare {
        /// Whom the answer is for.
        origin: Origin,
        /// Whose resource.
        tenant: TenantId,
        /// Stream or cache.
        kind: ResourceKind,
        /// Its address.
        name: ResourceName,
        /// Its specification, if the client gave one.
        spec: Option<Spec>,
    },
    /// The core has closed its last connection after a drain.
    Drained {
        /// Which core.
        core: CoreId,
        /// What it counted.
        stats: Box<CoreStats>,
    },
}
