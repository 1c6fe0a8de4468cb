//! Looking into a data core: what can be asked, and what is answered.
//!
//! A question is a mail like any other. A core answers at most one of them in a turn, no
//! answer is longer than a page, and a page of partitions is made in several turns, so that
//! looking costs the data path a bounded pause however much there is to see. Who asks for the next page says where the last one
//! ended. What is read over several pages is of several moments.
//!
//! Who may ask is decided before: everything here is done as the node's own.

mod answers;
mod packed;

use std::net::SocketAddr;

use pinion_commitlog::LogId;
use pinion_types::{
    CoreId, PartitionId, Refusal, ResourceId, ResourceKind, SessionId, SubscriptionId, WallMs,
};

use crate::access::TenantId;

pub use pinion_domains::cache::CacheStats;
pub use pinion_shard::{
    PartitionDetail, QueueFacts, Standing, StreamFacts, Subscriber, SubscriptionFacts,
};

pub use crate::facts::{CoreFacts, LogFacts, PumpFacts};
pub(crate) use answers::Questions;
pub use packed::PartitionPage;

/// Questions that may wait in a core, or for the disk; more are refused with `Busy`. The
/// control thread has no more of them on their way. More lets more people look at once
/// and holds more answers.
pub const QUESTIONS_WAITING_MAX: usize = 64;

/// Partitions of one page. More makes fewer answers of a large node.
pub const PARTITIONS_PER_PAGE: usize = 512;

/// Partitions that are looked at in one turn. Whoever publishes meanwhile waits for that long:
/// 512 took a tenth of a millisecond. Fewer make more turns of the same work.
pub const PARTITIONS_PER_TURN: usize = 64;

/// Groups of queues and subscriptions of streams looked at for one page: a partition
/// costs as many looks as it has of them. The last partition may have more.
pub const LOOKS_PER_PAGE: u64 = 1024;

/// Places of connections looked at for one page, in use or not.
pub const SESSIONS_PER_PAGE: usize = 256;

/// Places of subscriptions looked at for one page, in use or not.
pub const SUBSCRIPTIONS_PER_PAGE: usize = 1024;

/// Messages that are looked for at once for who has them.
pub const HOLDERS_PER_PAGE: usize = pinion_types::limits::QUEUE_PAGE_MAX as usize;

/// Stands where a connection's core stands in whom to answer, for what the node asks
/// itself. No data core has this number.
pub(crate) const NODE: CoreId = CoreId(u16::MAX);

/// What a partition is called: of which resource, and which of it.
pub type PartitionKey = (ResourceId, PartitionId);

/// What can be asked of a data core.
#[derive(Clone, Debug)]
pub enum Question {
    /// How it is: [`View::Core`].
    Core,
    /// Its partitions, in the order they were opened: [`View::Partitions`].
    Partitions {
        /// Where the page before ended.
        after: Option<u32>,
        /// Those of this kind alone. A page may then be empty and yet not the last.
        kind: Option<ResourceKind>,
    },
    /// Those of these partitions that are open here, in this order: [`View::Partitions`],
    /// whose `next` is the place in `keys` where it ended. No more than
    /// [`PARTITIONS_PER_PAGE`] of them are looked for.
    PartitionsOf {
        /// Which; wherever they live.
        keys: Box<[PartitionKey]>,
    },
    /// Its connections: [`View::Sessions`].
    Sessions {
        /// Where the page before ended.
        after: Option<u32>,
    },
    /// Subscriptions and watches to its partitions, wherever their connections live:
    /// [`View::Subscriptions`].
    Subscriptions {
        /// Where the page before ended.
        after: Option<u32>,
        /// Of this resource alone. A page may then be empty and yet not the last.
        resource: Option<ResourceId>,
    },
    /// End a connection of this core: its subscriptions say END, then it is closed, with
    /// a code that says who wanted it. [`View::Done`].
    CloseSession {
        /// Its number, see [`SessionFacts::session`].
        session: u64,
    },
    /// End a subscription of a connection of this core: [`View::Done`].
    EndSubscription {
        /// The connection's number.
        session: u64,
        /// Its number of the subscription.
        subscription: SubscriptionId,
    },
    /// Who has messages of a queue reserved: [`View::Holders`]. No more than
    /// [`HOLDERS_PER_PAGE`] of them are looked for.
    Holders {
        /// The partition; nobody has messages of one that does not live here.
        of: PartitionKey,
        /// The group; empty is the default one.
        group: Box<str>,
        /// Which messages.
        ids: Box<[u64]>,
    },
    /// Run a request of the wire protocol about a partition of this core:
    /// [`View::Reply`]. Only such that leave nothing behind for the one who asked: no
    /// subscription, no reservation, no append session.
    Request {
        /// What it is about; the handle in the frame is not looked at.
        resource: ResourceId,
        /// Where in it.
        partition: PartitionId,
        /// One whole frame.
        frame: Box<[u8]>,
    },
}

/// What is answered.
#[derive(Clone, Debug)]
pub enum View {
    /// How the core is.
    Core(Box<CoreFacts>),
    /// A page of partitions.
    Partitions(PartitionPage),
    /// A page of connections.
    Sessions(Page<SessionFacts>),
    /// A page of subscriptions.
    Subscriptions(Page<SubscriptionFacts>),
    /// Who has each of the messages; `None` of one that nobody has.
    Holders(Vec<Option<SessionId>>),
    /// Whether there was what is to end.
    Done(bool),
    /// One whole frame, which may be an ERROR.
    Reply(Vec<u8>),
    /// The question is not answered.
    Refused(Refusal),
}

/// Some of many.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// What was found.
    pub items: Vec<T>,
    /// Where it ended; `None` when nothing follows.
    pub next: Option<u32>,
}

/// One partition as it is at this moment.
#[derive(Clone, Debug)]
pub struct PartitionFacts {
    /// The core that owns it.
    pub core: CoreId,
    /// Of which resource.
    pub resource: ResourceId,
    /// Which of it.
    pub partition: PartitionId,
    /// The log it writes to; `None` for what lives in memory only.
    pub log: Option<LogId>,
    /// Whether it is served.
    pub standing: Standing,
    /// Closed for good, by damage or a failed write.
    pub fenced: bool,
    /// Its log takes only what frees space.
    pub read_only: bool,
    /// Bytes it holds in memory, as its budget counts them.
    pub bytes: u64,
    /// Bytes that its log keeps of it, about.
    pub durable_bytes: u64,
    /// What only its kind has.
    pub detail: PartitionDetail,
}

impl PartitionFacts {
    /// Records, messages or entries that it has.
    #[must_use]
    pub fn records(&self) -> u64 {
        match &self.detail {
            PartitionDetail::Stream(stream) => stream.end.0.saturating_sub(stream.first.0),
            PartitionDetail::Queue(queue) => queue.counts.messages,
            PartitionDetail::Cache(cache) => cache.entries,
        }
    }

    /// Subscriptions to it, watches of it, or takes and subscriptions that wait in it.
    #[must_use]
    pub fn subscriptions(&self) -> u32 {
        match &self.detail {
            PartitionDetail::Stream(stream) => stream.subscriptions,
            PartitionDetail::Queue(queue) => queue.groups.demands,
            PartitionDetail::Cache(cache) => cache.watches,
        }
    }

    /// What only a stream has.
    #[must_use]
    pub const fn stream(&self) -> Option<&StreamFacts> {
        match &self.detail {
            PartitionDetail::Stream(stream) => Some(stream),
            _ => None,
        }
    }

    /// What only a queue has.
    #[must_use]
    pub fn queue(&self) -> Option<&QueueFacts> {
        match &self.detail {
            PartitionDetail::Queue(queue) => Some(queue),
            _ => None,
        }
    }

    /// What only a cache has.
    #[must_use]
    pub fn cache(&self) -> Option<&CacheStats> {
        match &self.detail {
            PartitionDetail::Cache(cache) => Some(cache),
            _ => None,
        }
    }
}

/// One connection as it is at this moment. Times are told as how long ago they were.
#[derive(Clone, Debug)]
pub struct SessionFacts {
    /// The core it lives on.
    pub core: CoreId,
    /// Its number on that core; a later connection has another.
    pub session: u64,
    /// Whose data it sees; `None` before HELLO.
    pub tenant: Option<TenantId>,
    /// For whom its credential speaks; empty before HELLO.
    pub principal: Box<str>,
    /// From where it comes; filled in by the pump.
    pub remote: Option<SocketAddr>,
    /// Milliseconds since it was made.
    pub connected_ms: u64,
    /// Milliseconds since something was last heard of it.
    pub idle_ms: u64,
    /// Requests that came.
    pub received: u64,
    /// Answers and deliveries that were given to it, about: notices of loss and answers
    /// to what asks for none are not counted.
    pub sent: u64,
    /// Requests that wait for their answer.
    pub in_flight: u32,
    /// Subscriptions and watches.
    pub subscriptions: u32,
    /// Append sessions.
    pub append_sessions: u32,
    /// Resources it has opened.
    pub handles: u32,
    /// When its credential is over.
    pub expires: Option<WallMs>,
    /// It is on its way out and may ask for nothing more.
    pub leaving: bool,
}
