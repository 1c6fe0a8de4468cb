//! What a client asks of a queue. Replies are in [`super::queue_reply`].

use core::fmt;

use pinion_types::limits::{
    BATCH_RECORDS_MAX, QUEUE_LEASE_MS_MAX, QUEUE_PAGE_MAX, QUEUE_TAKE_MAX, QUEUE_TIME_MS_MAX,
    QUEUE_TOKENS_MAX, QUEUE_WAIT_MS_MAX,
};
use pinion_types::{PartitionId, ProducerId, Sequence, SubscriptionId};

use super::Handle;
use super::list::list;
use crate::codec::{Fixed, Reader, Writer, message, wire_enum};
use crate::error::{DecodeError, EncodeError};

/// Names one reservation of one message. Only the queue can make one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token(pub [u8; 16]);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({self})")
    }
}

/// 32 hexadecimal digits, in the order of the bytes.
impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Fixed for Token {
    fn read(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, DecodeError> {
        reader.array(field).map(Self)
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
}

wire_enum! {
    /// What a message is to one group.
    pub enum MessageState {
        /// The next take may have it.
        Ready = 1,
        /// It waits for its delay, its backoff, or an earlier message of its key.
        Delayed = 2,
        /// A consumer has it reserved.
        InFlight = 3,
        /// It is a dead letter.
        Dead = 4,
    }
}

/// Some of the states of a message, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct States(u8);

impl States {
    /// [`MessageState::Ready`].
    pub const READY: Self = Self::only(MessageState::Ready);
    /// [`MessageState::Delayed`].
    pub const DELAYED: Self = Self::only(MessageState::Delayed);
    /// [`MessageState::InFlight`].
    pub const IN_FLIGHT: Self = Self::only(MessageState::InFlight);
    /// [`MessageState::Dead`].
    pub const DEAD: Self = Self::only(MessageState::Dead);
    /// Every state.
    pub const ALL: Self = Self(0b1111);

    /// The set of one state.
    #[must_use]
    pub const fn only(state: MessageState) -> Self {
        Self(1 << (state as u8 - 1))
    }

    /// Both sets together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether `state` is one of them.
    #[must_use]
    pub const fn contains(self, state: MessageState) -> bool {
        self.0 & Self::only(state).0 != 0
    }

    /// As on the wire: bit 0 ready, 1 delayed, 2 in flight, 3 dead.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }
}

impl Fixed for States {
    fn read(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, DecodeError> {
        let bits: u8 = reader.within(field, 1, u64::from(u8::MAX))?;
        let unknown = bits & !Self::ALL.0;
        if unknown != 0 {
            return Err(DecodeError::UnknownBits {
                field,
                bits: u64::from(unknown),
            });
        }
        Ok(Self(bits))
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(self.0);
    }
}

/// Put messages into one partition, all or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuePut<'a> {
    /// The queue.
    pub handle: Handle,
    /// The partition.
    pub partition: PartitionId,
    /// Who sends and the sequence of the first record, for idempotence.
    pub producer: Option<(ProducerId, Sequence)>,
    /// Not given out before this time has passed, in milliseconds; at most
    /// `QUEUE_TIME_MS_MAX`.
    pub delay_ms: u64,
    /// Time to live in milliseconds, at most `QUEUE_TIME_MS_MAX`; 0 is the
    /// queue's.
    pub ttl_ms: u64,
    /// How many records `records` holds, 1 to `BATCH_RECORDS_MAX`.
    pub record_count: u32,
    /// In the layout of [`pinion_types::block`]; walked by the partition, not here.
    pub records: &'a [u8],
}

/// QUEUE_PUT bit: the producer fields are present.
const PUT_PRODUCER: u8 = 1;

impl<'a> QueuePut<'a> {
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let handle = reader.fixed("handle")?;
        let partition = reader.fixed("partition")?;
        let bits: u8 = reader.fixed("bits")?;
        let unknown = bits & !PUT_PRODUCER;
        if unknown != 0 {
            return Err(DecodeError::UnknownBits {
                field: "bits",
                bits: u64::from(unknown),
            });
        }
        let producer = if bits & PUT_PRODUCER == 0 {
            None
        } else {
            Some((reader.fixed("producer")?, reader.fixed("sequence")?))
        };
        Ok(Self {
            handle,
            partition,
            producer,
            delay_ms: reader.within("delay_ms", 0, QUEUE_TIME_MS_MAX)?,
            ttl_ms: reader.within("ttl_ms", 0, QUEUE_TIME_MS_MAX)?,
            record_count: reader.within("record_count", 1, u64::from(BATCH_RECORDS_MAX))?,
            records: reader.rest("records")?,
        })
    }

    pub(crate) fn write(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        writer.put(self.handle);
        writer.put(self.partition);
        match self.producer {
            Some((producer, sequence)) => {
                writer.put(PUT_PRODUCER);
                writer.put(producer);
                writer.put(sequence);
            }
            None => writer.put(0_u8),
        }
        writer.within("delay_ms", self.delay_ms, 0, QUEUE_TIME_MS_MAX)?;
        writer.within("ttl_ms", self.ttl_ms, 0, QUEUE_TIME_MS_MAX)?;
        writer.within(
            "record_count",
            self.record_count,
            1,
            u64::from(BATCH_RECORDS_MAX),
        )?;
        writer.rest("records", self.records)
    }
}

message! {
    /// Reserves messages, oldest first. Answered at once when there are some,
    /// else when one becomes ready or `wait_ms` has passed.
    pub struct QueueTake<'a> {
        /// The queue.
        pub handle: Handle => fixed,
        /// The partition.
        pub partition: PartitionId => fixed,
        /// Most messages, 1 to `QUEUE_TAKE_MAX`.
        pub max_messages: u32 => within(1, u64::from(QUEUE_TAKE_MAX)),
        /// Most bytes of their records; the first is answered even when it is larger.
        pub max_bytes: u32 => fixed,
        /// Longest wait for a message in milliseconds, at most `QUEUE_WAIT_MS_MAX`.
        pub wait_ms: u32 => within(0, u64::from(QUEUE_WAIT_MS_MAX)),
        /// Length of the reservation in milliseconds, at most
        /// `QUEUE_LEASE_MS_MAX`; 0 is the queue's.
        pub lease_ms: u32 => within(0, u64::from(QUEUE_LEASE_MS_MAX)),
        /// The consumer group; empty is the default one.
        pub group: &'a str => text8,
    }
}

list! {
    /// Tokens of reservations of one group.
    TokenList, TokenListIter, item = Token, given = Token, field = "tokens",
    max = QUEUE_TOKENS_MAX, read = read_token, write = write_token
}

list! {
    /// Ids of messages.
    IdList, IdListIter, item = u64, given = u64, field = "ids",
    max = QUEUE_TOKENS_MAX, read = read_id, write = write_id
}

message! {
    /// Work is done: the messages never come again to this group.
    pub struct QueueAck<'a> {
        /// The queue.
        pub handle: Handle => fixed,
        /// The partition.
        pub partition: PartitionId => fixed,
        /// The consumer group; empty is the default one.
        pub group: &'a str => text8,
        /// At most `QUEUE_TOKENS_MAX`.
        pub tokens: TokenList<'a> => tokens,
    }
}

message! {
    /// Work failed: the attempt counts.
    pub struct QueueNack<'a> {
        /// The queue.
        pub handle: Handle => fixed,
        /// The partition.
        pub partition: PartitionId => fixed,
        /// Not given out again before, in milliseconds, at most
        /// `QUEUE_TIME_MS_MAX`; `None` is the queue's backoff.
        pub delay_ms: Option<u64> => maybe_within(0, QUEUE_TIME_MS_MAX),
        /// Why; kept beside the message, at most `QUEUE_ERROR_BYTES_MAX`.
        pub error: &'a str => text8,
        /// The consumer group; empty is the default one.
        pub group: &'a str => text8,
        /// At most `QUEUE_TOKENS_MAX`.
        pub tokens: TokenList<'a> => tokens,
    }
}

message! {
    /// Work goes on: the reservations last that much longer from now.
    pub struct QueueExtend<'a> {
        /// The queue.
        pub handle: Handle => fixed,
        /// The partition.
        pub partition: PartitionId => fixed,
        /// In milliseconds, at most `QUEUE_LEASE_MS_MAX`; 0 is the queue's.
        pub lease_ms: u32 => within(0, u64::from(QUEUE_LEASE_MS_MAX)),
        /// The consumer group; empty is the default one.
        pub group: &'a str => text8,
        /// At most `QUEUE_TOKENS_MAX`.
        pub tokens: TokenList<'a> => tokens,
    }
}

message! {
    /// Work was not begun: ready again at once, and no attempt counts.
    pub struct QueueRelease<'a> {
        /// The queue.
        pub handle: Handle => fixed,
        /// The partition.
        pub partition: PartitionId => fixed,
        /// The consumer group; empty is the default one.
        pub group: &'a str => text8,
        /// At most `QUEUE_TOKENS_MAX`.
        pub tokens: TokenList<'a> => tokens,
    }
}

message! {
    /// Looks at messages without reserving them, by id.
    pub struct QueuePeek<'a> {
        /// The queue.
        pub handle: Handle => fixed,
        /// The partition.
        pub partition: PartitionId => fixed,
        /// First id wanted.
        pub from: u64 => fixed,
        /// Most messages, 1 to `QUEUE_PAGE_MAX`.
        pub max_items: u32 => within(1, u64::from(QUEUE_PAGE_MAX)),
        /// Most bytes of their records; the first is answered even when it is larger.
        pub max_bytes: u32 => fixed,
        /// Which messages.
        pub states: States => fixed,
        /// Records are answered, from the disk where needed, not only what is
        /// known of them.
        pub bodies: bool => fixed,
        /// The consumer group; empty is the default one.
        pub group: &'a str => text8,
    }
}

wire_enum! {
    /// Why a message is a dead letter.
    pub enum DeadReason {
        /// Its last attempt was answered with a nack.
        Failed = 1,
        /// The reservation of its last attempt ran out.
        LeaseExpired = 2,
        /// Its time to live was over before anyone had it.
        Expired = 3,
    }
}

/// Which dead letters: those that fit both, and are listed when ids are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct DeadSelect<'a> {
    /// Only of this reason.
    pub reason: Option<DeadReason>,
    /// Only those whose last error begins with this.
    pub error_prefix: &'a str,
}

impl<'a> Reader<'a> {
    fn dead_select(&mut self, _field: &'static str) -> Result<DeadSelect<'a>, DecodeError> {
        let byte: u8 = self.within("reason", 0, DeadReason::ALL.len() as u64)?;
        Ok(DeadSelect {
            reason: DeadReason::from_u8(byte),
            error_prefix: self.text8("error_prefix")?,
        })
    }

    fn tokens(&mut self, _field: &'static str) -> Result<TokenList<'a>, DecodeError> {
        TokenList::read(self)
    }

    fn ids(&mut self, _field: &'static str) -> Result<IdList<'a>, DecodeError> {
        IdList::read(self)
    }
}

impl Writer<'_> {
    fn dead_select(
        &mut self,
        _field: &'static str,
        select: DeadSelect<'_>,
    ) -> Result<(), EncodeError> {
        self.put(select.reason.map_or(0, |reason| reason as u8));
        self.text8("error_prefix", select.error_prefix)
    }

    fn tokens(&mut self, _field: &'static str, tokens: TokenList<'_>) -> Result<(), EncodeError> {
        tokens.write(self)
    }

    fn ids(&mut self, _field: &'static str, ids: IdList<'_>) -> Result<(), EncodeError> {
        ids.write(self)
    }
}

fn read_token(reader: &mut Reader<'_>) -> Result<Token, DecodeError> {
    reader.fixed("token")
}

fn write_token(writer: &mut Writer<'_>, token: Token) -> Result<(), EncodeError> {
    writer.fixed("token", token)
}

fn read_id(reader: &mut Reader<'_>) -> Result<u64, DecodeError> {
    reader.fixed("id")
}

fn write_id(writer: &mut Writer<'_>, id: u64) -> Result<(), EncodeError> {
    writer.fixed("id", id)
}

message! {
    /// Lists a group's dead letters, by id.
    pub struct QueueDeadList<'a> {
        /// The queue.
        pub handle: Handle => fixed,
        /// The partition.
        pub partition: PartitionId => fixed,
        /// First id wanted.
        pub from: u64 => fixed,
        /// Most messages, 1 to `QUEUE_PAGE_MAX`.
        pub max_items: u32 => within(1, u64::from(QUEUE_PAGE_MAX)),
        /// Most bytes of their records; the first is answered even when it is larger.
        pub max_bytes: u32 => fixed,
        /// Records are answered, from the disk where needed, not only what is
        /// known of them.
        pub bodies: bool => fixed,
        /// Which of them.
        pub select: DeadSelect<'a> => dead_select,
        /// The consumer group; empty is the default one.
        pub group: &'a str => text8,
    }
}

message! {
    /// Makes dead letters ready again, their attempts forgotten.
    pub struct QueueDeadReplay<'a> {
        /// The queue.
        pub handle: Handle => fixed,
        /// The partition.
        pub partition: PartitionId => fixed,
        /// Most messages made ready in one second; 0 is all at once.
        pub rate_per_s: u32 => fixed,
        /// Which of them.
        pub select: DeadSelect<'a> => dead_select,
        /// The consumer group; empty is the default one.
        pub group: &'a str => text8,
        /// Only these; none is all of them.
        pub ids: IdList<'a> => ids,
    }
}

message! {
    /// Forgets dead letters for good.
    pub struct QueueDeadPurge<'a> {
        /// The queue.
        pub handle: Handle => fixed,
        /// The partition.
        pub partition: PartitionId => fixed,
        /// Which of them.
        pub select: DeadSelect<'a> => dead_select,
        /// The consumer group; empty is the default one.
        pub group: &'a str => text8,
        /// Only these; none is all of them.
        pub ids: IdList<'a> => ids,
    }
}

message! {
    /// Asks for the counts of a partition and its groups.
    pub struct QueueInfo {
        /// The queue.
        pub handle: Handle => fixed,
        /// The partition.
        pub partition: PartitionId => fixed,
    }
}

message! {
    /// Asks why nothing, or not everything, is being delivered.
    pub struct QueueWhy<'a> {
        /// The queue.
        pub handle: Handle => fixed,
        /// The partition.
        pub partition: PartitionId => fixed,
        /// The consumer group; empty is the default one.
        pub group: &'a str => text8,
    }
}

message! {
    /// Reserves messages as they become ready and delivers them on a stream of
    /// its own.
    pub struct QueueSubscribe<'a> {
        /// The queue.
        pub handle: Handle => fixed,
        /// The partition.
        pub partition: PartitionId => fixed,
        /// Chosen by the client, unique among those open on the connection.
        pub subscription: SubscriptionId => fixed,
        /// Length of the reservations in milliseconds, at most
        /// `QUEUE_LEASE_MS_MAX`; 0 is the queue's.
        pub lease_ms: u32 => within(0, u64::from(QUEUE_LEASE_MS_MAX)),
        /// Most messages reserved by this consumer at a time; 0, and more than
        /// that, is the queue's bound for each.
        pub in_flight_max: u32 => fixed,
        /// Messages that may be delivered before the first CREDIT.
        pub credit_records: u32 => fixed,
        /// Bytes that may be delivered before the first CREDIT.
        pub credit_bytes: u32 => fixed,
        /// The consumer group; empty is the default one.
        pub group: &'a str => text8,
    }
}

wire_enum! {
    /// What to do with a group. Making one that exists changes nothing.
    pub enum GroupAction {
        /// Make it; it sees every message the queue still holds, and all that come.
        CreateEarliest = 1,
        /// Make it; it sees messages put from now on.
        CreateLatest = 2,
        /// Forget it and all it knows, dead letters included.
        Delete = 3,
    }
}

message! {
    /// Makes or forgets a consumer group of a partition.
    pub struct QueueGroup<'a> {
        /// The queue.
        pub handle: Handle => fixed,
        /// The partition.
        pub partition: PartitionId => fixed,
        /// What to do.
        pub action: GroupAction => fixed,
        /// The consumer group; empty is the default one.
        pub group: &'a str => text8,
    }
}
