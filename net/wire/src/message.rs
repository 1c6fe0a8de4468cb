//! Every message of the client protocol as a borrowed view.
//!
//! The byte layout is in `docs/wire-protocol.md`; field order here is field
//! order there. [`Request`] is what a client sends, [`Reply`] what it is
//! answered, [`Delivery`] what arrives on a subscription's own stream.

mod cursor;
mod delivery;
mod filter;
mod list;
mod queue;
mod queue_reply;
mod reply;
mod request;
mod spec;

use crate::codec::{Reader, Writer, wire_enum};
use crate::error::{DecodeError, EncodeError};

pub(crate) use cursor::CURSOR_ITEMS_MAX;
pub use cursor::{
    Cursor, CursorCommit, CursorDelete, CursorGet, CursorItem, CursorItems, CursorItemsIter,
    CursorList, CursorPage,
};
pub use delivery::{Delivery, End, Lag, LagReason};
pub use filter::{FILTER_BYTES_MAX, Filter, FilterBuf, FilterOp, Term, Terms, Values};
pub use list::{
    CacheEvent, CacheEvents, CacheEventsIter, CachePage, CacheStoredMany, CacheStoredManyIter,
    CacheValues, CacheValuesIter, CachedValue, CoreList, CoreListIter, EventKind, ItemList,
    ItemListIter, KeyList, KeyListIter, PageItem, PageItems, PageItemsIter, SetItem, StoredItem,
};
pub(crate) use list::{EVENTS_MAX, PAGE_ITEMS_MAX};
pub use queue::{
    DeadReason, DeadSelect, GroupAction, IdList, IdListIter, MessageState, QueueAck, QueueDeadList,
    QueueDeadPurge, QueueDeadReplay, QueueExtend, QueueGroup, QueueInfo, QueueNack, QueuePeek,
    QueuePut, QueueRelease, QueueSubscribe, QueueTake, QueueWhy, States, Token, TokenList,
    TokenListIter,
};
pub use queue_reply::{
    DeadItem, DeadItems, DeadItemsIter, DeadPage, Enqueued, GroupItem, GroupItems, GroupItemsIter,
    Moved, PeekItem, PeekItems, PeekItemsIter, QueueMessage, QueueMessageList,
    QueueMessageListIter, QueueMessages, QueuePage, QueueStatus, Reason, Reasons, ReasonsIter,
    Settled, SettledList, SettledListIter, WhyReason,
};
pub(crate) use queue_reply::{GROUPS_MAX, MESSAGES_MAX, REASONS_MAX};
pub use reply::{
    AppendBegun, AppendStaged, CacheCounter, CacheDeleted, CacheLeased, CacheStatus, CacheStored,
    CacheValue, Fetched, Opened, Published, Reply, StreamStatus, Subscribed, Welcome,
};
pub use request::{
    AppendBegin, AppendCommit, AppendRollback, AppendStage, CacheDelete, CacheGet, CacheGetMany,
    CacheIncr, CacheInfo, CacheLease, CacheScan, CacheSet, CacheSetMany, CacheTouch, CacheWatch,
    Condition, Credit, Fetch, Hello, MAGIC, Open, PING_BYTES_MAX, Ping, Publish, Request, Start,
    StreamInfo, Subscribe, Unsubscribe,
};
pub use spec::{QueueSpec, SPEC_BYTES, Spec};

/// Name of a resource on one connection, given by OPEN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Handle(pub u32);

wire_enum! {
    /// What happens when a subscriber does not keep up.
    pub enum Overflow {
        /// The stream waits for the subscriber.
        Block = 1,
        /// The oldest undelivered records are skipped.
        DropOldest = 2,
        /// The newest records are skipped until there is room.
        DropNewest = 3,
        /// The subscription ends.
        Disconnect = 4,
    }
}

wire_enum! {
    /// What a publisher waits for.
    pub enum Ack {
        /// Nothing: a publish that succeeds is not answered.
        None = 0,
        /// The partition's leader has it, as durable as the stream promises.
        Leader = 1,
        /// A majority of the replicas has it.
        Quorum = 2,
    }
}

wire_enum! {
    /// What an acknowledged record survives.
    pub enum Durability {
        /// Nothing but time: it is in memory.
        Memory = 0,
        /// The loss of the process or the power of its machine.
        Disk = 1,
        /// The loss of a minority of the replicas.
        Quorum = 2,
    }
}

impl Reader<'_> {
    fn overflow(&mut self, field: &'static str) -> Result<Option<Overflow>, DecodeError> {
        let byte: u8 = self.fixed(field)?;
        match Overflow::from_u8(byte) {
            None if byte != 0 => Err(DecodeError::OutOfRange {
                field,
                actual: u64::from(byte),
                min: 0,
                max: Overflow::ALL.len() as u64,
            }),
            overflow => Ok(overflow),
        }
    }
}

impl Writer<'_> {
    fn overflow(
        &mut self,
        field: &'static str,
        overflow: Option<Overflow>,
    ) -> Result<(), EncodeError> {
        self.fixed(field, overflow.map_or(0, |overflow| overflow as u8))
    }
}
