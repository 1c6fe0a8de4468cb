//! What a core keeps for one client connection.

use std::sync::Arc;

use pinion_session::{CloseCode, Phase, Session};
use pinion_shard::Slot;
use pinion_types::{CoreId, FixedMap, PartitionId, SessionId, SubscriptionId};
use pinion_wire::message::Handle;

use crate::access::{Permissions, PrincipalId, TenantId, TokenDigest};
use crate::map::Resource;

/// Append sessions one connection may have open.
pub(crate) const APPEND_SESSIONS_MAX: usize = 64;

/// Who a connection is, once HELLO was accepted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    pub(crate) principal: PrincipalId,
    pub(crate) tenant: TenantId,
    /// Kept to find the principal again in the next access table.
    pub(crate) digest: TokenDigest,
}

/// A resource the connection has opened.
#[derive(Debug)]
pub(crate) struct HandleEntry {
    pub(crate) resource: Arc<Resource>,
    /// What the connection may do with it under the access table in force.
    pub(crate) permissions: Permissions,
    /// Where the partitions lie in this core's shard; found once, on first use.
    pub(crate) slots: Box<[Option<Slot>]>,
}

/// A subscription or watch as its connection sees it.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) resource: Arc<Resource>,
    /// The core that owns the partition.
    pub(crate) core: CoreId,
    /// Waits in the connection's list of streams with something to send.
    pub(crate) queued: bool,
    /// The transport takes no more until it says so.
    pub(crate) blocked: bool,
}

/// An append session as its connection sees it.
#[derive(Debug)]
pub(crate) struct Append {
    pub(crate) handle: Handle,
    pub(crate) resource: Arc<Resource>,
    pub(crate) partition: PartitionId,
}

/// What was admitted here before the partition's core has agreed.
#[derive(Debug)]
pub(crate) enum Provisional {
    Subscription(SubscriptionId),
    Append(u64),
}

/// One client connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: SessionId,
    pub(crate) session: Session,
    pub(crate) identity: Option<Identity>,
    /// Index is the handle.
    pub(crate) handles: Vec<HandleEntry>,
    pub(crate) subscriptions: FixedMap<SubscriptionId, Subscription>,
    /// Transport stream → subscription, for what the transport reports.
    pub(crate) delivery_streams: FixedMap<u64, SubscriptionId>,
    pub(crate) appends: FixedMap<u64, Append>,
    pub(crate) next_append: u64,
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
    /// While draining: finished streams the client has not acknowledged. The
    /// connection is closed at 0, when nothing can be lost by it.
    pub(crate) unacknowledged: Option<u32>,
}

impl Connection {
    pub(crate) fn new(id: SessionId) -> Self {
        Self {
            id,
            session: Session::default(),
            identity: None,
            handles: Vec::new(),
            subscriptions: FixedMap::default(),
            delivery_streams: FixedMap::default(),
            appends: FixedMap::default(),
            next_append: 1,
            provisional: FixedMap::default(),
            ready: Vec::new(),
            unopened: Vec::new(),
            queued: false,
            went_elsewhere: false,
            unacknowledged: None,
        }
    }

    /// Nothing more is read; the connection is closed with `code` once what is
    /// queued for the request streams has been sent.
    pub(crate) fn close_after_flush(&mut self, code: CloseCode) {
        if !matches!(self.session.phase, Phase::Closing(_)) {
            self.session.phase = Phase::Closing(code);
        }
    }

    /// A stream is being finished.
    pub(crate) fn finishing(&mut self) {
        if let Some(count) = &mut self.unacknowledged {
            *count += 1;
        }
    }

    /// Whether a draining connection has nothing left that a close could lose.
    pub(crate) fn is_drained(&self) -> bool {
        self.unacknowledged == Some(0)
            && self.session.streams() == 0
            && self.session.subscriptions() == 0
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
