//! Whom to answer.

use pinion_types::{SessionId, SubscriptionId};

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

/// Whom deliveries are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subscriber {
    /// The connection.
    pub session: SessionId,
    /// The subscription or watch on it.
    pub subscription: SubscriptionId,
    /// Given by the connection's core, never twice on one connection: a client
    /// may use a subscription id again while deliveries for its former use are
    /// still on their way from another core.
    pub number: u64,
}
