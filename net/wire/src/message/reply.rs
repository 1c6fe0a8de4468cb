//! What the server answers on a request stream.

use pinion_types::block::{BlockError, BlockHeader};
use pinion_types::error::FACTS_MAX;
use pinion_types::limits::CACHE_VALUE_BYTES_MAX;
use pinion_types::{
    Epoch, ErrorCode, FactId, Offset, Outcome, PartitionId, Refusal, ResourceId, RetryClass,
    SubscriptionId, Version, WallMs,
};

use super::{
    CachePage, CacheStoredMany, CacheValues, CoreList, Cursor, CursorPage, DeadPage, Durability,
    Enqueued, Handle, Moved, Ping, QueueMessages, QueuePage, QueueStatus, Reasons, Settled, Spec,
};
use crate::codec::{Reader, Writer, message};
use crate::error::{DecodeError, EncodeError};
use crate::{frame, opcode};

/// What the server answers on a request stream, in any order; the correlation
/// id says which request is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// To HELLO.
    Welcome(Welcome),
    /// To PING.
    Pong(Ping<'a>),
    /// To OPEN.
    Opened(Opened<'a>),
    /// To PUBLISH and APPEND_COMMIT.
    Published(Published),
    /// To SUBSCRIBE, CACHE_WATCH and QUEUE_SUBSCRIBE.
    Subscribed(Subscribed),
    /// To UNSUBSCRIBE, APPEND_ROLLBACK, CURSOR_DELETE and QUEUE_GROUP.
    Done,
    /// To FETCH.
    Fetched(Fetched<'a>),
    /// To APPEND_BEGIN.
    AppendBegun(AppendBegun),
    /// To APPEND_STAGE.
    AppendStaged(AppendStaged),
    /// To STREAM_INFO.
    StreamStatus(StreamStatus),
    /// To CURSOR_COMMIT and CURSOR_GET.
    Cursor(Cursor),
    /// To CURSOR_LIST.
    CursorPage(CursorPage<'a>),
    /// To CACHE_GET that hit, and CACHE_LEASE answered with a value.
    CacheValue(CacheValue<'a>),
    /// To CACHE_GET that missed.
    CacheMiss,
    /// To CACHE_SET and CACHE_TOUCH.
    CacheStored(CacheStored),
    /// To CACHE_DELETE.
    CacheDeleted(CacheDeleted),
    /// To CACHE_INCR.
    CacheCounter(CacheCounter),
    /// To CACHE_GET_MANY.
    CacheValues(CacheValues<'a>),
    /// To CACHE_SET_MANY.
    CacheStoredMany(CacheStoredMany<'a>),
    /// To CACHE_SCAN.
    CachePage(CachePage<'a>),
    /// To CACHE_LEASE: the caller is to fill.
    CacheLeased(CacheLeased),
    /// To CACHE_INFO.
    CacheStatus(CacheStatus),
    /// To QUEUE_PUT.
    Enqueued(Enqueued),
    /// To QUEUE_TAKE.
    Taken(QueueMessages<'a>),
    /// To QUEUE_ACK, QUEUE_NACK, QUEUE_EXTEND and QUEUE_RELEASE.
    Settled(Settled<'a>),
    /// To QUEUE_PEEK.
    QueuePage(QueuePage<'a>),
    /// To QUEUE_DEAD_LIST.
    DeadPage(DeadPage<'a>),
    /// To QUEUE_DEAD_REPLAY and QUEUE_DEAD_PURGE.
    Moved(Moved),
    /// To QUEUE_INFO.
    QueueStatus(QueueStatus<'a>),
    /// To QUEUE_WHY.
    QueueReasons(Reasons<'a>),
    /// To any request: it was not done, or nobody knows.
    Error(Refusal),
}

impl<'a> Reply<'a> {
    /// Reads the body of a frame. Nothing is allocated or copied.
    ///
    /// # Errors
    /// The body is not what the opcode says; the peer does not speak this protocol.
    pub fn decode(opcode: u8, body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let from = &mut reader;
        let reply = match opcode {
            opcode::WELCOME => Self::Welcome(Welcome::read(from)?),
            opcode::PONG => Self::Pong(Ping::read(from)?),
            opcode::OPENED => Self::Opened(Opened::read(from)?),
            opcode::PUBLISHED => Self::Published(Published::read(from)?),
            opcode::SUBSCRIBED => Self::Subscribed(Subscribed::read(from)?),
            opcode::DONE => Self::Done,
            opcode::FETCHED => Self::Fetched(Fetched::read(from)?),
            opcode::APPEND_BEGUN => Self::AppendBegun(AppendBegun::read(from)?),
            opcode::APPEND_STAGED => Self::AppendStaged(AppendStaged::read(from)?),
            opcode::STREAM_STATUS => Self::StreamStatus(StreamStatus::read(from)?),
            opcode::CURSOR => Self::Cursor(Cursor::read(from)?),
            opcode::CURSOR_PAGE => Self::CursorPage(CursorPage::read(from)?),
            opcode::CACHE_VALUE => Self::CacheValue(CacheValue::read(from)?),
            opcode::CACHE_MISS => Self::CacheMiss,
            opcode::CACHE_STORED => Self::CacheStored(CacheStored::read(from)?),
            opcode::CACHE_DELETED => Self::CacheDeleted(CacheDeleted::read(from)?),
            opcode::CACHE_COUNTER => Self::CacheCounter(CacheCounter::read(from)?),
            opcode::CACHE_VALUES => Self::CacheValues(CacheValues::read(from)?),
            opcode::CACHE_STORED_MANY => Self::CacheStoredMany(CacheStoredMany::read(from)?),
            opcode::CACHE_PAGE => Self::CachePage(CachePage::read(from)?),
            opcode::CACHE_LEASED => Self::CacheLeased(CacheLeased::read(from)?),
            opcode::CACHE_STATUS => Self::CacheStatus(CacheStatus::read(from)?),
            opcode::ENQUEUED => Self::Enqueued(Enqueued::read(from)?),
            opcode::TAKEN => Self::Taken(QueueMessages::read(from)?),
            opcode::SETTLED => Self::Settled(Settled::read(from)?),
            opcode::QUEUE_PAGE => Self::QueuePage(QueuePage::read(from)?),
            opcode::DEAD_PAGE => Self::DeadPage(DeadPage::read(from)?),
            opcode::MOVED => Self::Moved(Moved::read(from)?),
            opcode::QUEUE_STATUS => Self::QueueStatus(QueueStatus::read(from)?),
            opcode::QUEUE_REASONS => Self::QueueReasons(Reasons::read(from)?),
            opcode::ERROR => Self::Error(read_refusal(from)?),
            _ => return Err(DecodeError::UnknownOpcode { opcode }),
        };
        reader.end()?;
        Ok(reply)
    }

    /// Appends the whole frame to `out`.
    ///
    /// # Errors
    /// A field over its limit; `out` is unchanged.
    pub fn encode(&self, correlation: u32, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        frame::append(out, self.opcode(), correlation, |out| {
            let to = &mut Writer { out };
            match self {
                Self::Welcome(body) => body.write(to),
                Self::Pong(body) => body.write(to),
                Self::Opened(body) => body.write(to),
                Self::Published(body) => body.write(to),
                Self::Subscribed(body) => body.write(to),
                Self::Done | Self::CacheMiss => Ok(()),
                Self::Fetched(body) => body.write(to),
                Self::AppendBegun(body) => body.write(to),
                Self::AppendStaged(body) => body.write(to),
                Self::StreamStatus(body) => body.write(to),
                Self::Cursor(body) => body.write(to),
                Self::CursorPage(body) => body.write(to),
                Self::CacheValue(body) => body.write(to),
                Self::CacheStored(body) => body.write(to),
                Self::CacheDeleted(body) => body.write(to),
                Self::CacheCounter(body) => body.write(to),
                Self::CacheValues(body) => body.write(to),
                Self::CacheStoredMany(body) => body.write(to),
                Self::CachePage(body) => body.write(to),
                Self::CacheLeased(body) => body.write(to),
                Self::CacheStatus(body) => body.write(to),
                Self::Enqueued(body) => body.write(to),
                Self::Taken(body) => body.write(to),
                Self::Settled(body) => body.write(to),
                Self::QueuePage(body) => body.write(to),
                Self::DeadPage(body) => body.write(to),
                Self::Moved(body) => body.write(to),
                Self::QueueStatus(body) => body.write(to),
                Self::QueueReasons(body) => body.write(to),
                Self::Error(refusal) => {
                    write_refusal(refusal, to);
                    Ok(())
                }
            }
        })
    }

    /// The opcode of this message.
    #[must_use]
    pub const fn opcode(&self) -> u8 {
        match self {
            Self::Welcome(_) => opcode::WELCOME,
            Self::Pong(_) => opcode::PONG,
            Self::Opened(_) => opcode::OPENED,
            Self::Published(_) => opcode::PUBLISHED,
            Self::Subscribed(_) => opcode::SUBSCRIBED,
            Self::Done => opcode::DONE,
            Self::Fetched(_) => opcode::FETCHED,
            Self::AppendBegun(_) => opcode::APPEND_BEGUN,
            Self::AppendStaged(_) => opcode::APPEND_STAGED,
            Self::StreamStatus(_) => opcode::STREAM_STATUS,
            Self::Cursor(_) => opcode::CURSOR,
            Self::CursorPage(_) => opcode::CURSOR_PAGE,
            Self::CacheValue(_) => opcode::CACHE_VALUE,
            Self::CacheMiss => opcode::CACHE_MISS,
            Self::CacheStored(_) => opcode::CACHE_STORED,
            Self::CacheDeleted(_) => opcode::CACHE_DELETED,
            Self::CacheCounter(_) => opcode::CACHE_COUNTER,
            Self::CacheValues(_) => opcode::CACHE_VALUES,
            Self::CacheStoredMany(_) => opcode::CACHE_STORED_MANY,
            Self::CachePage(_) => opcode::CACHE_PAGE,
            Self::CacheLeased(_) => opcode::CACHE_LEASED,
            Self::CacheStatus(_) => opcode::CACHE_STATUS,
            Self::Enqueued(_) => opcode::ENQUEUED,
            Self::Taken(_) => opcode::TAKEN,
            Self::Settled(_) => opcode::SETTLED,
            Self::QueuePage(_) => opcode::QUEUE_PAGE,
            Self::DeadPage(_) => opcode::DEAD_PAGE,
            Self::Moved(_) => opcode::MOVED,
            Self::QueueStatus(_) => opcode::QUEUE_STATUS,
            Self::QueueReasons(_) => opcode::QUEUE_REASONS,
            Self::Error(_) => opcode::ERROR,
        }
    }
}

message! {
    /// The conversation may begin.
    pub struct Welcome {
        /// The version both sides speak from now on.
        pub version: u16 => fixed,
        /// Capability bits in force.
        pub capabilities: u64 => fixed,
        /// Of the shard map.
        pub epoch: Epoch => fixed,
        /// The data core this connection landed on.
        pub core: u16 => fixed,
        /// Data cores of the node.
        pub data_cores: u16 => fixed,
        /// First key of the connection id arithmetic.
        pub steering_k0: u32 => fixed,
        /// Second key of the connection id arithmetic, odd.
        pub steering_k1: u32 => fixed,
        /// Requests that may await a reply at once.
        pub in_flight_max: u32 => fixed,
        /// Longest body the server takes.
        pub frame_bytes_max: u32 => fixed,
        /// Changes at every start; resume state of another start is void.
        pub node_id: u64 => fixed,
        /// The server's wall clock.
        pub server_time: WallMs => fixed,
    }
}

/// A resource has a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened<'a> {
    /// Stands for the resource on this connection.
    pub handle: Handle,
    /// Never reused on the node.
    pub resource: ResourceId,
    /// Of the shard map `cores` is taken from.
    pub epoch: Epoch,
    /// As in force.
    pub spec: Spec,
    /// Data core of each partition, as many as `spec.shards`.
    pub cores: CoreList<'a>,
}

impl<'a> Opened<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let opened = Self {
            handle: reader.fixed("handle")?,
            resource: reader.fixed("resource")?,
            epoch: reader.fixed("epoch")?,
            spec: reader.fixed("spec")?,
            cores: CoreList::read(reader)?,
        };
        let shards = opened.spec.shards;
        if opened.cores.len() == shards {
            return Ok(opened);
        }
        Err(DecodeError::OutOfRange {
            field: "cores",
            actual: u64::from(opened.cores.len()),
            min: u64::from(shards),
            max: u64::from(shards),
        })
    }

    fn write(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        let shards = u64::from(self.spec.shards);
        if u64::from(self.cores.len()) != shards {
            return Err(EncodeError::OutOfRange {
                field: "cores",
                actual: u64::from(self.cores.len()),
                min: shards,
                max: shards,
            });
        }
        writer.put(self.handle);
        writer.put(self.resource);
        writer.put(self.epoch);
        writer.spec("spec", self.spec)?;
        self.cores.write(writer)
    }
}

message! {
    /// A batch is in the partition.
    pub struct Published {
        /// Where.
        pub partition: PartitionId => fixed,
        /// What it survives.
        pub durability: Durability => fixed,
        /// It had been stored before; the offset is the original one.
        pub duplicate: bool => fixed,
        /// Offset of the first record.
        pub first_offset: Offset => fixed,
        /// How many records.
        pub record_count: u32 => fixed,
        /// Of the shard map.
        pub epoch: Epoch => fixed,
    }
}

message! {
    /// A subscription or watch is open; its stream follows.
    pub struct Subscribed {
        /// Which.
        pub subscription: SubscriptionId => fixed,
        /// First offset that will be considered; for a watch the version, for
        /// a queue the oldest id the group has not finished.
        pub next: Offset => fixed,
        /// The partition's end; for a watch its version, for a queue the next id.
        pub end: Offset => fixed,
        /// Of the shard map.
        pub epoch: Epoch => fixed,
    }
}

message! {
    /// Part of a partition.
    pub struct Fetched<'a> {
        /// Where to continue.
        pub next: Offset => fixed,
        /// The partition's end.
        pub end: Offset => fixed,
        /// The oldest offset there is.
        pub first_available: Offset => fixed,
        /// Zero or more whole blocks; walk them with [`Fetched::blocks`].
        pub blocks: &'a [u8] => rest,
    }
}

impl<'a> Fetched<'a> {
    /// Each block's header and records; ends at the first fault.
    pub fn blocks(&self) -> impl Iterator<Item = Result<(BlockHeader, &'a [u8]), BlockError>> {
        let mut rest = self.blocks;
        core::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let block = BlockHeader::split(rest);
            rest = block.map_or(&[][..], |(_, _, after)| after);
            Some(block.map(|(header, records, _)| (header, records)))
        })
    }
}

message! {
    /// An append session is open.
    pub struct AppendBegun {
        /// Names it on this connection.
        pub session: u64 => fixed,
    }
}

message! {
    /// What an append session holds now.
    pub struct AppendStaged {
        /// Records in all.
        pub records: u32 => fixed,
        /// Bytes in all.
        pub bytes: u64 => fixed,
    }
}

message! {
    /// Ends and sizes of a stream's partition.
    pub struct StreamStatus {
        /// The oldest offset there is.
        pub first_available: Offset => fixed,
        /// The next offset.
        pub end: Offset => fixed,
        /// Bytes held.
        pub bytes: u64 => fixed,
        /// Open subscriptions.
        pub subscriptions: u32 => fixed,
        /// Of the shard map.
        pub epoch: Epoch => fixed,
    }
}

message! {
    /// A value.
    pub struct CacheValue<'a> {
        /// For compare-and-set.
        pub version: Version => fixed,
        /// What remains of its life in milliseconds; 0 is no end.
        pub ttl_ms: u64 => fixed,
        /// Expired, given because the caller takes stale values.
        pub stale: bool => fixed,
        /// At most `CACHE_VALUE_BYTES_MAX`.
        pub value: &'a [u8] => rest_within(CACHE_VALUE_BYTES_MAX),
    }
}

message! {
    /// A write happened.
    pub struct CacheStored {
        /// Of the entry now.
        pub version: Version => fixed,
    }
}

message! {
    /// The key is absent now.
    pub struct CacheDeleted {
        /// It was there.
        pub existed: bool => fixed,
        /// Of the deletion; 0 when nothing existed.
        pub version: Version => fixed,
    }
}

message! {
    /// A counter's value.
    pub struct CacheCounter {
        /// After the addition.
        pub value: i64 => fixed,
        /// Of the entry now.
        pub version: Version => fixed,
    }
}

message! {
    /// The caller is the one to fill the key.
    pub struct CacheLeased {
        /// For [`Condition::Lease`](super::Condition::Lease).
        pub lease: u64 => fixed,
        /// How long it is held, in milliseconds.
        pub lease_ms: u32 => fixed,
    }
}

message! {
    /// Sizes and counts of a cache's partition.
    pub struct CacheStatus {
        /// Entries now.
        pub entries: u64 => fixed,
        /// Bytes now.
        pub bytes: u64 => fixed,
        /// Most bytes.
        pub budget: u64 => fixed,
        /// Reads that found a value, since the start.
        pub hits: u64 => fixed,
        /// Reads that found none.
        pub misses: u64 => fixed,
        /// Entries that gave way to others.
        pub evictions: u64 => fixed,
        /// Entries whose time was over.
        pub expirations: u64 => fixed,
    }
}

fn read_refusal(reader: &mut Reader<'_>) -> Result<Refusal, DecodeError> {
    let number: u16 = reader.fixed("code")?;
    let code = ErrorCode::from_u16(number).ok_or(DecodeError::OutOfRange {
        field: "code",
        actual: u64::from(number),
        min: 1,
        max: ErrorCode::ALL.last().map_or(0, |code| *code as u64),
    })?;
    let retry = match reader.within::<u8>("retry", 0, 4)? {
        0 => RetryClass::Fatal,
        1 => RetryClass::Retry,
        2 => RetryClass::RetryAfter,
        3 => RetryClass::Redirect,
        _ => RetryClass::OutcomeUnknown,
    };
    let outcome = match reader.within::<u8>("outcome", 0, 2)? {
        0 => Outcome::Done,
        1 => Outcome::NotAdmitted,
        _ => Outcome::Unknown,
    };
    let mut refusal = Refusal::new(code);
    refusal.retry = retry;
    refusal.outcome = outcome;
    refusal.retry_after_ms = reader.fixed("retry_after_ms")?;
    let count: u8 = reader.within("fact_count", 0, FACTS_MAX as u64)?;
    for _ in 0..count {
        let id = match reader.within::<u8>("fact_id", 1, 8)? {
            1 => FactId::Limit,
            2 => FactId::Expected,
            3 => FactId::Actual,
            4 => FactId::Core,
            5 => FactId::Epoch,
            6 => FactId::Min,
            7 => FactId::Max,
            _ => FactId::Node,
        };
        refusal = refusal.with(id, reader.fixed("fact_value")?);
    }
    Ok(refusal)
}

fn write_refusal(refusal: &Refusal, writer: &mut Writer<'_>) {
    writer.put(refusal.code as u16);
    writer.put(refusal.retry as u8);
    writer.put(refusal.outcome as u8);
    writer.put(refusal.retry_after_ms);
    let count = u8::try_from(refusal.facts().count()).expect("at most FACTS_MAX facts");
    writer.put(count);
    for fact in refusal.facts() {
        writer.put(fact.id as u8);
        writer.put(fact.value);
    }
}
