//! What a queue answers and delivers.

use pinion_types::block::Record;
use pinion_types::limits::{QUEUE_GROUPS_MAX, QUEUE_PAGE_MAX, QUEUE_TAKE_MAX, QUEUE_TOKENS_MAX};
use pinion_types::{Epoch, ErrorCode, PartitionId, WallMs};

use super::list::list;
use super::{DeadReason, Durability, MessageState, Token};
use crate::codec::{Reader, Writer, message, read_code, wire_enum};
use crate::error::{DecodeError, EncodeError};

/// Most messages of one frame and most items of one page, as a count field
/// holds them.
pub(crate) const MESSAGES_MAX: u16 = {
    assert!(QUEUE_TAKE_MAX == QUEUE_PAGE_MAX && QUEUE_TAKE_MAX <= u16::MAX as u32);
    #[expect(clippy::cast_possible_truncation, reason = "asserted above")]
    let max = QUEUE_TAKE_MAX as u16;
    max
};

/// Most groups of one answer.
pub(crate) const GROUPS_MAX: u16 = QUEUE_GROUPS_MAX;

/// Most reasons of one answer: there are not more different ones.
pub(crate) const REASONS_MAX: u16 = 16;

message! {
    /// Messages are in the partition.
    pub struct Enqueued {
        /// Where.
        pub partition: PartitionId => fixed,
        /// What they survive.
        pub durability: Durability => fixed,
        /// They had been put before; the id is the original one.
        pub duplicate: bool => fixed,
        /// Id of the first message; each further one is one more.
        pub first_id: u64 => fixed,
        /// How many messages.
        pub message_count: u32 => fixed,
        /// Of the shard map.
        pub epoch: Epoch => fixed,
    }
}

list! {
    /// Messages that are reserved for who reads this.
    QueueMessageList, QueueMessageListIter, item = QueueMessage<'a>,
    given = QueueMessage<'i>, field = "messages", max = MESSAGES_MAX,
    read = QueueMessage::read, write = QueueMessage::write
}

message! {
    /// Reserved messages: the answer to a take, none when the wait was over,
    /// and what a subscription delivers.
    pub struct QueueMessages<'a> {
        /// How long each is reserved from when it was sent, in milliseconds.
        pub lease_ms: u32 => fixed,
        /// The messages, oldest first.
        pub messages: QueueMessageList<'a> => queue_messages,
    }
}

/// One reserved message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueMessage<'a> {
    /// Of the message in its partition.
    pub id: u64,
    /// Of the reservation.
    pub token: Token,
    /// 1 for the first delivery.
    pub attempt: u16,
    /// When it was put.
    pub enqueued: WallMs,
    /// What the last nack said; empty when there is none.
    pub last_error: &'a str,
    /// Key, headers and value.
    pub record: Record<'a>,
}

impl<'a> QueueMessage<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: reader.fixed("id")?,
            token: reader.fixed("token")?,
            attempt: reader.fixed("attempt")?,
            enqueued: reader.fixed("enqueued")?,
            last_error: reader.text8("last_error")?,
            record: reader.record("record")?,
        })
    }

    pub(crate) fn write(writer: &mut Writer<'_>, message: Self) -> Result<(), EncodeError> {
        writer.put(message.id);
        writer.put(message.token);
        writer.put(message.attempt);
        writer.put(message.enqueued);
        writer.text8("last_error", message.last_error)?;
        writer.record("record", message.record)
    }
}

list! {
    /// What became of each token, in the order of the request.
    SettledList, SettledListIter, item = Option<ErrorCode>, given = Option<ErrorCode>,
    field = "settled", max = QUEUE_TOKENS_MAX, read = read_settled, write = write_settled
}

message! {
    /// What became of an ack, nack, extend or release.
    pub struct Settled<'a> {
        /// What the changes survive.
        pub durability: Durability => fixed,
        /// For each token `None` when it was done, else why not.
        pub results: SettledList<'a> => settled,
    }
}

fn read_settled(reader: &mut Reader<'_>) -> Result<Option<ErrorCode>, DecodeError> {
    read_code(reader, "code")
}

fn write_settled(writer: &mut Writer<'_>, code: Option<ErrorCode>) -> Result<(), EncodeError> {
    writer.fixed("code", code.map_or(0, |code| code as u16))
}

list! {
    /// Messages of a page, ascending by id.
    PeekItems, PeekItemsIter, item = PeekItem<'a>, given = PeekItem<'i>,
    field = "peeked", max = MESSAGES_MAX, read = PeekItem::read, write = PeekItem::write
}

message! {
    /// One page of a peek.
    pub struct QueuePage<'a> {
        /// Id to go on from; 0 after the last page.
        pub next: u64 => fixed,
        /// What the page holds.
        pub items: PeekItems<'a> => peek_items,
    }
}

/// One message of a peek.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeekItem<'a> {
    /// Of the message in its partition.
    pub id: u64,
    /// What it is to the group.
    pub state: MessageState,
    /// Failed deliveries so far.
    pub attempts: u16,
    /// When it was put.
    pub enqueued: WallMs,
    /// When a delayed message becomes ready or a reservation ends; 0 is now, or
    /// when an earlier message of its key is finished.
    pub due: WallMs,
    /// When its time to live is over; 0 is never.
    pub expires: WallMs,
    /// What the last nack said; empty when there is none.
    pub last_error: &'a str,
    /// Bytes of the record.
    pub record_bytes: u32,
    /// `None` when records were not asked for, or the log moved it just now.
    pub record: Option<Record<'a>>,
}

impl<'a> PeekItem<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: reader.fixed("id")?,
            state: reader.fixed("state")?,
            attempts: reader.fixed("attempts")?,
            enqueued: reader.fixed("enqueued")?,
            due: reader.fixed("due")?,
            expires: reader.fixed("expires")?,
            last_error: reader.text8("last_error")?,
            record_bytes: reader.fixed("record_bytes")?,
            record: reader.maybe_record("record")?,
        })
    }

    pub(crate) fn write(writer: &mut Writer<'_>, item: Self) -> Result<(), EncodeError> {
        writer.put(item.id);
        writer.put(item.state);
        writer.put(item.attempts);
        writer.put(item.enqueued);
        writer.put(item.due);
        writer.put(item.expires);
        writer.text8("last_error", item.last_error)?;
        writer.put(item.record_bytes);
        writer.maybe_record("record", item.record)
    }
}

list! {
    /// Dead letters of a page, ascending by id.
    DeadItems, DeadItemsIter, item = DeadItem<'a>, given = DeadItem<'i>,
    field = "dead", max = MESSAGES_MAX, read = DeadItem::read, write = DeadItem::write
}

message! {
    /// One page of dead letters.
    pub struct DeadPage<'a> {
        /// Id to go on from; 0 after the last page.
        pub next: u64 => fixed,
        /// What the page holds.
        pub items: DeadItems<'a> => dead_items,
    }
}

/// One dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadItem<'a> {
    /// Of the message in its partition.
    pub id: u64,
    /// Why.
    pub reason: DeadReason,
    /// Failed deliveries.
    pub attempts: u16,
    /// When it was put.
    pub enqueued: WallMs,
    /// When it became a dead letter.
    pub died: WallMs,
    /// What the last nack said; empty when there is none.
    pub last_error: &'a str,
    /// Bytes of the record.
    pub record_bytes: u32,
    /// `None` when records were not asked for, or the log moved it just now.
    pub record: Option<Record<'a>>,
}

impl<'a> DeadItem<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: reader.fixed("id")?,
            reason: reader.fixed("reason")?,
            attempts: reader.fixed("attempts")?,
            enqueued: reader.fixed("enqueued")?,
            died: reader.fixed("died")?,
            last_error: reader.text8("last_error")?,
            record_bytes: reader.fixed("record_bytes")?,
            record: reader.maybe_record("record")?,
        })
    }

    pub(crate) fn write(writer: &mut Writer<'_>, item: Self) -> Result<(), EncodeError> {
        writer.put(item.id);
        writer.put(item.reason);
        writer.put(item.attempts);
        writer.put(item.enqueued);
        writer.put(item.died);
        writer.text8("last_error", item.last_error)?;
        writer.put(item.record_bytes);
        writer.maybe_record("record", item.record)
    }
}

message! {
    /// Dead letters were replayed or purged.
    pub struct Moved {
        /// How many; when no ids were named, how many will be.
        pub messages: u64 => fixed,
        /// What the change survives.
        pub durability: Durability => fixed,
    }
}

list! {
    /// Groups by name.
    GroupItems, GroupItemsIter, item = GroupItem<'a>, given = GroupItem<'i>,
    field = "groups", max = GROUPS_MAX, read = GroupItem::read, write = GroupItem::write
}

message! {
    /// Counts of a queue's partition.
    pub struct QueueStatus<'a> {
        /// Id the next message gets.
        pub next_id: u64 => fixed,
        /// Messages some group has not finished.
        pub messages: u64 => fixed,
        /// Bytes of their records.
        pub bytes: u64 => fixed,
        /// Of these, bytes in memory.
        pub resident_bytes: u64 => fixed,
        /// Of the shard map.
        pub epoch: Epoch => fixed,
        /// Each group's.
        pub groups: GroupItems<'a> => group_items,
    }
}

/// Counts of one consumer group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupItem<'a> {
    /// Empty is the default one.
    pub name: &'a str,
    /// Messages the next take may have.
    pub ready: u64,
    /// Messages that wait for their delay, their backoff, or an earlier message
    /// of their key.
    pub delayed: u64,
    /// Reserved messages.
    pub in_flight: u64,
    /// Dead letters.
    pub dead: u64,
    /// Bytes of all of them.
    pub bytes: u64,
    /// How long the oldest message that is ready has waited since it was put, without the
    /// delay it was put with, in milliseconds; 0 when none is ready.
    pub oldest_age_ms: u64,
    /// Subscriptions.
    pub consumers: u32,
    /// Takes that wait.
    pub waiting: u32,
}

impl<'a> GroupItem<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            name: reader.text8("name")?,
            ready: reader.fixed("ready")?,
            delayed: reader.fixed("delayed")?,
            in_flight: reader.fixed("in_flight")?,
            dead: reader.fixed("dead")?,
            bytes: reader.fixed("bytes")?,
            oldest_age_ms: reader.fixed("oldest_age_ms")?,
            consumers: reader.fixed("consumers")?,
            waiting: reader.fixed("waiting")?,
        })
    }

    pub(crate) fn write(writer: &mut Writer<'_>, item: Self) -> Result<(), EncodeError> {
        writer.text8("name", item.name)?;
        writer.put(item.ready);
        writer.put(item.delayed);
        writer.put(item.in_flight);
        writer.put(item.dead);
        writer.put(item.bytes);
        writer.put(item.oldest_age_ms);
        writer.put(item.consumers);
        writer.fixed("waiting", item.waiting)
    }
}

wire_enum! {
    /// What keeps messages of a group from being delivered.
    pub enum WhyReason {
        /// There is no message.
        Empty = 1,
        /// Messages wait for the delay they were put with.
        Delayed = 2,
        /// Failed messages wait for their backoff.
        Backoff = 3,
        /// The group has as many reserved as it may.
        GroupInFlight = 4,
        /// A consumer has as many reserved as it may.
        ConsumerInFlight = 5,
        /// Failed messages are given again at a bounded rate.
        RateLimited = 6,
        /// An earlier message of the same key is not finished.
        KeyBlocked = 7,
        /// Nobody asks.
        NoConsumers = 8,
        /// No subscription has credit left.
        NoCredit = 9,
        /// Records are being read from the disk.
        Loading = 10,
        /// The disk is full.
        ReadOnly = 11,
        /// Data of the partition is damaged or a write of it failed.
        Fenced = 12,
        /// Consumers have all there is.
        AllInFlight = 13,
    }
}

list! {
    /// Reasons, the one that holds most messages first. None: nothing is kept back.
    Reasons, ReasonsIter, item = Reason, given = Reason, field = "reasons",
    max = REASONS_MAX, read = Reason::read, write = Reason::write
}

/// One reason and its facts. A fact a reason does not have is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason {
    /// What keeps messages back.
    pub reason: WhyReason,
    /// How many messages.
    pub messages: u64,
    /// The bound that was reached.
    pub limit: u64,
    /// When it ends by itself.
    pub until: WallMs,
    /// The consumer that holds most.
    pub consumer: u64,
    /// The oldest message that is in the way.
    pub message: u64,
    /// For how long that one is reserved already, in milliseconds.
    pub age_ms: u64,
}

impl Reason {
    /// The reason with every fact 0.
    #[must_use]
    pub const fn new(reason: WhyReason) -> Self {
        Self {
            reason,
            messages: 0,
            limit: 0,
            until: WallMs(0),
            consumer: 0,
            message: 0,
            age_ms: 0,
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            reason: reader.fixed("reason")?,
            messages: reader.fixed("messages")?,
            limit: reader.fixed("limit")?,
            until: reader.fixed("until")?,
            consumer: reader.fixed("consumer")?,
            message: reader.fixed("message")?,
            age_ms: reader.fixed("age_ms")?,
        })
    }

    pub(crate) fn write(writer: &mut Writer<'_>, item: Self) -> Result<(), EncodeError> {
        writer.put(item.reason);
        writer.put(item.messages);
        writer.put(item.limit);
        writer.put(item.until);
        writer.put(item.consumer);
        writer.put(item.message);
        writer.fixed("age_ms", item.age_ms)
    }
}

macro_rules! list_codecs {
    ($($codec:ident: $list:ident,)*) => {
        impl<'a> Reader<'a> {
            $(fn $codec(&mut self, _field: &'static str) -> Result<$list<'a>, DecodeError> {
                $list::read(self)
            })*
        }

        impl Writer<'_> {
            $(fn $codec(
                &mut self,
                _field: &'static str,
                list: $list<'_>,
            ) -> Result<(), EncodeError> {
                list.write(self)
            })*
        }
    };
}

list_codecs! {
    queue_messages: QueueMessageList,
    settled: SettledList,
    peek_items: PeekItems,
    dead_items: DeadItems,
    group_items: GroupItems,
}
