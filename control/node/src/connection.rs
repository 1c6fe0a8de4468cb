//! What a core keeps for one client connection.

use std::sync::Arc;

use pinion_session::{CloseCode, Phase, Session};
use pinion_shard::Slot;
use pinion_types::{
    CoreId, ErrorCode, FixedMap, Monotonic, PartitionId, Refusal, SessionId, SubscriptionId,
};
use pinion_wire::message::Handle;

use crate::access::{Basis, Caller, Permissions};
use pinion_auth::spiffe::SpiffeId;
use pinion_wire::opcode::Permission;

use crate::lost::Forwarded;
use crate::map::Resource;

/// Append sessions one connection may have open.
pub(crate) const APPEND_SESSIONS_MAX: usize = 64;

/// A resource the connection has opened.
#[derive(Debug)]
pub(crate) struct HandleEntry {
    pub(crate) resource: Arc<Resource>,
    /// What the connection may do with it under the access table it was judged by.
    pub(crate) permissions: Permissions,
    /// Its tenant or namespace has a quota for what is published.
    pub(crate) metered: bool,
    /// The resource is deleted: the connection may do nothing with it.
    pub(crate) closed: bool,
    /// Where the partitions lie in this core's shard; found once, on first use.
    pub(crate) slots: Box<[Option<Slot>]>,
}

impl HandleEntry {
    /// Why a request is refused that the permissions do not allow.
    #[cold]
    pub(crate) fn refusal(&self) -> Refusal {
        let code = match self.closed {
            true => ErrorCode::ResourceClosed,
            false => ErrorCode::Forbidden,
        };
        code.into()
    }
}

/// A subscription or watch as its connection sees it.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) resource: Arc<Resource>,
    /// The core that owns the partition.
    pub(crate) core: CoreId,
    /// Tells it from an earlier use of its id.
    pub(crate) number: u64,
    /// What the principal must be granted for it to go on.
    pub(crate) needs: Permission,
    /// Waits in the connection's list of streams with something to send.
    pub(crate) queued: bool,
    /// The transport takes no more, or has no stream for it, until it says so.
    pub(crate) blocked: bool,
    /// Its right is gone, and this is what END says: nothing else that comes for it goes out.
    pub(crate) withdrawn: Option<ErrorCode>,
}

/// An append session as its connection sees it.
#[derive(Debug)]
pub(crate) struct Append {
    pub(crate) handle: Handle,
    pub(crate) resource: Arc<Resource>,
    pub(crate) partition: PartitionId,
}

/// What hangs on the answer of the core that owns the partition.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Provisional {
    /// A subscription that was admitted here already.
    Subscription(SubscriptionId),
    /// An append session that was admitted here already.
    Append(u64),
    /// A request within an append session; `last` ends it when it succeeds.
    AppendUse { append: u64, last: bool },
}

/// One client connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: SessionId,
    pub(crate) session: Session,
    /// Who it is, once HELLO was accepted.
    pub(crate) caller: Option<Caller>,
    /// The access table that its rights are known to be of, as the core numbers them.
    pub(crate) judged: u64,
    /// What of that table they were found by; `None` finds them again with the next.
    pub(crate) basis: Option<Basis>,
    /// What the certificate says that the connection was made with.
    pub(crate) workload: Option<Box<SpiffeId>>,
    /// When it is looked at again by itself, as it stands among the core's looks.
    pub(crate) look: Option<Monotonic>,
    /// Its HELLO waits for the next turn.
    pub(crate) hello_waits: bool,
    /// Index is the handle.
    pub(crate) handles: Vec<HandleEntry>,
    pub(crate) subscriptions: FixedMap<SubscriptionId, Subscription>,
    /// Transport stream → subscription, for what the transport reports.
    pub(crate) delivery_streams: FixedMap<u64, SubscriptionId>,
    pub(crate) appends: FixedMap<u64, Append>,
    /// The next append session or subscription gets this; never given twice.
    pub(crate) next_number: u64,
    /// Requests that wait for other cores.
    pub(crate) forwarded: Forwarded,
    /// By correlation id.
    pub(crate) provisional: FixedMap<u32, Provisional>,
    /// Subscriptions with something to send, each once.
    pub(crate) ready: Vec<SubscriptionId>,
    /// Subscriptions that wait for the client to allow another stream.
    pub(crate) unopened: Vec<SubscriptionId>,
    /// Waits in the core's list of connections with something to send.
    pub(crate) queued: bool,
    /// Requests or subscriptions went to other cores: tell them at the end.
    pub(crate) went_elsewhere: bool,
    /// Finished streams the client has not acknowledged.
    pub(crate) unacknowledged: u32,
    /// Nothing new is taken on. The connection is closed so once all streams are
    /// finished and acknowledged, when nothing can be lost by it.
    pub(crate) leaving: Option<CloseCode>,
    pub(crate) counts: Counts,
}

/// What a connection counts for whoever looks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    pub(crate) connected_at: Monotonic,
    /// When it last sent something.
    pub(crate) heard_at: Monotonic,
    /// Requests.
    pub(crate) received: u64,
    /// Of these, such that have no answer.
    pub(crate) unanswered: u64,
    /// Frames given to its subscriptions.
    pub(crate) delivered: u64,
}

impl Connection {
    pub(crate) fn new(id: SessionId, now: Monotonic) -> Self {
        Self {
            id,
            session: Session::default(),
            caller: None,
            judged: 0,
            basis: None,
            workload: None,
            look: None,
            hello_waits: false,
            handles: Vec::new(),
            subscriptions: FixedMap::default(),
            delivery_streams: FixedMap::default(),
            appends: FixedMap::default(),
            next_number: 1,
            forwarded: Forwarded::default(),
            provisional: FixedMap::default(),
            ready: Vec::new(),
            unopened: Vec::new(),
            queued: false,
            went_elsewhere: false,
            unacknowledged: 0,
            leaving: None,
            counts: Counts {
                connected_at: now,
                heard_at: now,
                received: 0,
                unanswered: 0,
                delivered: 0,
            },
        }
    }

    /// Nothing more is read; the connection is closed with `code` once what is
    /// queued for the request streams has been sent.
    pub(crate) fn close_after_flush(&mut self, code: CloseCode) {
        if !matches!(self.session.phase, Phase::Closing(_)) {
            self.session.phase = Phase::Closing(code);
        }
    }

    /// A number for an append session or a subscription.
    pub(crate) fn take_number(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        number
    }

    /// How it is to be closed, when it is leaving and has nothing left that a close
    /// could lose.
    pub(crate) fn drained(&self) -> Option<CloseCode> {
        let nothing_left = self.unacknowledged == 0
            && self.session.streams() == 0
            && self.session.subscriptions() == 0;
        self.leaving.filter(|_| nothing_left)
    }

    /// The subscription has something to send, unless it cannot now.
    pub(crate) fn mark_ready(&mut self, id: SubscriptionId) {
        if let Some(subscription) = self.subscriptions.get_mut(&id)
            && !subscription.queued
            && !subscription.blocked
        {
            subscription.queued = true;
            self.ready.push(id);
        }
    }
}
