//! What a client sends on a request stream.

use pinion_types::limits::{
    BATCH_RECORDS_MAX, CACHE_VALUE_BYTES_MAX, LEASE_WAIT_MS_MAX, SCAN_ITEMS_MAX, TOKEN_BYTES_MAX,
};
use pinion_types::{
    Offset, PartitionId, ProducerId, ResourceKind, Sequence, SubscriptionId, Version, WallMs,
};

use super::{
    Ack, CursorCommit, CursorDelete, CursorGet, CursorList, Filter, GroupAction, Handle, ItemList,
    KeyList, Overflow, QueueAck, QueueDeadList, QueueDeadPurge, QueueDeadReplay, QueueExtend,
    QueueGroup, QueueInfo, QueueNack, QueuePeek, QueuePut, QueueRelease, QueueSubscribe, QueueTake,
    QueueWhy, Spec,
};
use crate::codec::{Fixed, Reader, Writer, message};
use crate::error::{DecodeError, EncodeError};
use crate::frame;
use crate::opcode::{self, Permission};

/// First bytes of every HELLO body.
pub const MAGIC: [u8; 4] = *b"PNN1";

/// Longest PING payload. A pong must fit one frame.
pub const PING_BYTES_MAX: u32 = 1 << 20;

macro_rules! requests {
    ($($(#[$doc:meta])* $variant:ident($body:ty) = $opcode:ident,)*) => {
        /// What a client sends on a request stream.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Request<'a> {
            $($(#[$doc])* $variant($body),)*
        }

        impl<'a> Request<'a> {
            /// Reads the body of a frame. Nothing is allocated or copied.
            ///
            /// # Errors
            /// [`DecodeError::is_fatal`] says whether the connection survives it.
            pub fn decode(opcode: u8, body: &'a [u8]) -> Result<Self, DecodeError> {
                let mut reader = Reader::new(body);
                let request = match opcode {
                    $(opcode::$opcode => Self::$variant(<$body>::read(&mut reader)?),)*
                    _ => return Err(DecodeError::UnknownOpcode { opcode }),
                };
                reader.end()?;
                Ok(request)
            }

            /// Appends the whole frame to `out`.
            ///
            /// # Errors
            /// A field over its limit; `out` is unchanged.
            pub fn encode(&self, correlation: u32, out: &mut Vec<u8>) -> Result<(), EncodeError> {
                frame::append(out, self.opcode(), correlation, |out| {
                    let mut writer = Writer { out };
                    match self {
                        $(Self::$variant(body) => body.write(&mut writer),)*
                    }
                })
            }

            /// The opcode of this message.
            #[must_use]
            pub const fn opcode(&self) -> u8 {
                match self {
                    $(Self::$variant(_) => opcode::$opcode,)*
                }
            }
        }
    };
}

requests! {
    /// First frame of a connection.
    Hello(Hello<'a>) = HELLO,
    /// Echo.
    Ping(Ping<'a>) = PING,
    /// Name to handle, or declare.
    Open(Open<'a>) = OPEN,
    /// Append a batch to a partition.
    Publish(Publish<'a>) = PUBLISH,
    /// Deliver a partition from a point on.
    Subscribe(Subscribe<'a>) = SUBSCRIBE,
    /// More deliveries may come. Never answered.
    Credit(Credit) = CREDIT,
    /// End a subscription or watch.
    Unsubscribe(Unsubscribe) = UNSUBSCRIBE,
    /// Read a range once.
    Fetch(Fetch<'a>) = FETCH,
    /// Begin staging an atomic batch.
    AppendBegin(AppendBegin) = APPEND_BEGIN,
    /// Stage records.
    AppendStage(AppendStage<'a>) = APPEND_STAGE,
    /// Make all staged records visible at once.
    AppendCommit(AppendCommit) = APPEND_COMMIT,
    /// Forget all staged records.
    AppendRollback(AppendRollback) = APPEND_ROLLBACK,
    /// Ends and sizes of a partition.
    StreamInfo(StreamInfo) = STREAM_INFO,
    /// Set a named cursor.
    CursorCommit(CursorCommit<'a>) = CURSOR_COMMIT,
    /// Ask for a named cursor.
    CursorGet(CursorGet<'a>) = CURSOR_GET,
    /// One page of a partition's cursors.
    CursorList(CursorList<'a>) = CURSOR_LIST,
    /// Forget a named cursor.
    CursorDelete(CursorDelete<'a>) = CURSOR_DELETE,
    /// Read one key.
    CacheGet(CacheGet<'a>) = CACHE_GET,
    /// Write one key.
    CacheSet(CacheSet<'a>) = CACHE_SET,
    /// Delete one key.
    CacheDelete(CacheDelete<'a>) = CACHE_DELETE,
    /// Set the time to live of one key.
    CacheTouch(CacheTouch<'a>) = CACHE_TOUCH,
    /// Add to a counter.
    CacheIncr(CacheIncr<'a>) = CACHE_INCR,
    /// Read many keys of one partition.
    CacheGetMany(CacheGetMany<'a>) = CACHE_GET_MANY,
    /// Write many keys of one partition.
    CacheSetMany(CacheSetMany<'a>) = CACHE_SET_MANY,
    /// One page of a partition's keys.
    CacheScan(CacheScan<'a>) = CACHE_SCAN,
    /// Read one key or be the one who fills it.
    CacheLease(CacheLease<'a>) = CACHE_LEASE,
    /// Deliver changes of a key or prefix.
    CacheWatch(CacheWatch<'a>) = CACHE_WATCH,
    /// Sizes and counts of a partition.
    CacheInfo(CacheInfo) = CACHE_INFO,
    /// Put messages into a partition.
    QueuePut(QueuePut<'a>) = QUEUE_PUT,
    /// Reserve messages.
    QueueTake(QueueTake<'a>) = QUEUE_TAKE,
    /// Work is done.
    QueueAck(QueueAck<'a>) = QUEUE_ACK,
    /// Work failed.
    QueueNack(QueueNack<'a>) = QUEUE_NACK,
    /// Work goes on.
    QueueExtend(QueueExtend<'a>) = QUEUE_EXTEND,
    /// Work was not begun.
    QueueRelease(QueueRelease<'a>) = QUEUE_RELEASE,
    /// Look at messages without reserving them.
    QueuePeek(QueuePeek<'a>) = QUEUE_PEEK,
    /// List dead letters.
    QueueDeadList(QueueDeadList<'a>) = QUEUE_DEAD_LIST,
    /// Make dead letters ready again.
    QueueDeadReplay(QueueDeadReplay<'a>) = QUEUE_DEAD_REPLAY,
    /// Forget dead letters.
    QueueDeadPurge(QueueDeadPurge<'a>) = QUEUE_DEAD_PURGE,
    /// Counts of a partition and its groups.
    QueueInfo(QueueInfo) = QUEUE_INFO,
    /// Why nothing is being delivered.
    QueueWhy(QueueWhy<'a>) = QUEUE_WHY,
    /// Reserve and deliver messages as they become ready.
    QueueSubscribe(QueueSubscribe<'a>) = QUEUE_SUBSCRIBE,
    /// Make or forget a consumer group.
    QueueGroup(QueueGroup<'a>) = QUEUE_GROUP,
}

impl Request<'_> {
    /// What the principal must be granted. For all but two the table's word: an OPEN that
    /// declares, and a QUEUE_GROUP that forgets a group and so its backlog, need
    /// [`Permission::Admin`].
    #[must_use]
    pub fn needs(&self) -> Permission {
        match self {
            Self::Open(Open { spec: Some(_), .. })
            | Self::QueueGroup(QueueGroup {
                action: GroupAction::Delete,
                ..
            }) => Permission::Admin,
            _ => opcode::lookup(self.opcode()).map_or(Permission::Admin, |entry| entry.needs),
        }
    }

    /// Whether a replay of this request does no harm, so that 0-RTT data may
    /// carry it (RFC 9001 §9.2).
    #[must_use]
    pub fn is_idempotent(&self) -> bool {
        match self {
            Self::Open(Open { spec: Some(_), .. }) => false,
            _ => opcode::lookup(self.opcode()).is_some_and(|entry| entry.idempotent),
        }
    }
}

message! {
    /// First frame of a connection; nothing else may precede WELCOME.
    ///
    /// The magic is not judged here: who receives it refuses another one as
    /// `Malformed` and closes.
    pub struct Hello<'a> {
        /// [`MAGIC`].
        pub magic: [u8; 4] => array,
        /// Oldest protocol version the client speaks.
        pub version_min: u16 => fixed,
        /// Newest protocol version the client speaks.
        pub version_max: u16 => fixed,
        /// What the client wants; unknown bits are refused by the server.
        pub capabilities: u64 => fixed,
        /// Bearer token, at most `TOKEN_BYTES_MAX`.
        pub token: &'a [u8] => bytes16(TOKEN_BYTES_MAX),
        /// For logs; escape it there.
        pub client_name: &'a str => text8,
    }
}

message! {
    /// Echoed as it is.
    pub struct Ping<'a> {
        /// At most [`PING_BYTES_MAX`] bytes.
        pub payload: &'a [u8] => rest_within(PING_BYTES_MAX),
    }
}

/// Resolve a resource, or declare it with `spec`. Without one the node's
/// default applies when creation on first use is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open<'a> {
    /// Part of the address.
    pub kind: ResourceKind,
    /// The namespace; its grammar is checked by who opens it.
    pub namespace: &'a str,
    /// The name, segments joined by `/`.
    pub name: &'a str,
    /// Declares the resource. What `kind` has no use for must not be set.
    pub spec: Option<Spec>,
}

impl<'a> Open<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let kind = reader.fixed("kind")?;
        Ok(Self {
            kind,
            namespace: reader.text8("namespace")?,
            name: reader.text8("name")?,
            spec: reader.declared(kind, "spec")?,
        })
    }

    fn write(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        writer.put(self.kind);
        writer.text8("namespace", self.namespace)?;
        writer.text8("name", self.name)?;
        writer.declared(self.kind, "spec", self.spec)
    }
}

/// Append a batch to one partition, all or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// The stream.
    pub handle: Handle,
    /// The partition.
    pub partition: PartitionId,
    /// What to wait for.
    pub ack: Ack,
    /// Who sends and the sequence of the first record, for idempotence.
    pub producer: Option<(ProducerId, Sequence)>,
    /// Append only when the partition ends here.
    pub expected_offset: Option<Offset>,
    /// How many records `records` holds, 1 to `BATCH_RECORDS_MAX`.
    pub record_count: u32,
    /// In the layout of [`pinion_types::block`]; walked by the partition, not here.
    pub records: &'a [u8],
}

/// PUBLISH bit: the producer fields are present.
const PUBLISH_PRODUCER: u8 = 1;
/// PUBLISH bit: the expected offset is present.
const PUBLISH_EXPECTED: u8 = 2;

impl<'a> Publish<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let handle = reader.fixed("handle")?;
        let partition = reader.fixed("partition")?;
        let ack = reader.fixed("ack")?;
        let bits: u8 = reader.fixed("bits")?;
        let unknown = bits & !(PUBLISH_PRODUCER | PUBLISH_EXPECTED);
        if unknown != 0 {
            return Err(DecodeError::UnknownBits {
                field: "bits",
                bits: u64::from(unknown),
            });
        }
        let producer = if bits & PUBLISH_PRODUCER == 0 {
            None
        } else {
            Some((reader.fixed("producer")?, reader.fixed("sequence")?))
        };
        let expected_offset = if bits & PUBLISH_EXPECTED == 0 {
            None
        } else {
            Some(reader.fixed("expected_offset")?)
        };
        Ok(Self {
            handle,
            partition,
            ack,
            producer,
            expected_offset,
            record_count: reader.within("record_count", 1, u64::from(BATCH_RECORDS_MAX))?,
            records: reader.rest("records")?,
        })
    }

    fn write(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        writer.put(self.handle);
        writer.put(self.partition);
        writer.put(self.ack);
        let producer = if self.producer.is_some() {
            PUBLISH_PRODUCER
        } else {
            0
        };
        let expected = if self.expected_offset.is_some() {
            PUBLISH_EXPECTED
        } else {
            0
        };
        writer.put(producer | expected);
        if let Some((producer, sequence)) = self.producer {
            writer.put(producer);
            writer.put(sequence);
        }
        if let Some(offset) = self.expected_offset {
            writer.put(offset);
        }
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
    /// Deliver one partition from `start` on, on a stream of its own.
    pub struct Subscribe<'a> {
        /// The stream.
        pub handle: Handle => fixed,
        /// The partition.
        pub partition: PartitionId => fixed,
        /// Chosen by the client, unique among those open on the connection.
        pub subscription: SubscriptionId => fixed,
        /// Where to begin.
        pub start: Start => fixed,
        /// `None` is the stream's default.
        pub overflow: Option<Overflow> => overflow,
        /// Records the subscription may fall behind before `overflow` acts; 0 is the ring.
        pub backlog_max: u32 => fixed,
        /// Records that may be delivered before the first CREDIT.
        pub credit_records: u32 => fixed,
        /// Bytes that may be delivered before the first CREDIT.
        pub credit_bytes: u32 => fixed,
        /// What is delivered at all.
        pub filter: Filter<'a> => filter,
    }
}

/// Where a subscription begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The oldest record there is.
    Earliest,
    /// The next record to be appended.
    Latest,
    /// This offset.
    Offset(Offset),
    /// The first record of the first block taken at or after this time.
    Time(WallMs),
}

impl Fixed for Start {
    fn read(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, DecodeError> {
        let (tag, value) = tagged(reader, field, 3, 1)?;
        Ok(match tag {
            0 => Self::Earliest,
            1 => Self::Latest,
            2 => Self::Offset(Offset(value)),
            _ => Self::Time(WallMs(value)),
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        let (tag, value) = match *self {
            Self::Earliest => (0, 0),
            Self::Latest => (1, 0),
            Self::Offset(offset) => (2, offset.0),
            Self::Time(time) => (3, time.0),
        };
        out.push(tag);
        value.write(out);
    }
}

/// `u8` tag and `u64` value; the value of tags up to `bare_max` must be 0.
fn tagged(
    reader: &mut Reader<'_>,
    field: &'static str,
    tag_max: u8,
    bare_max: u8,
) -> Result<(u8, u64), DecodeError> {
    let tag: u8 = reader.within(field, 0, u64::from(tag_max))?;
    let max = if tag <= bare_max { 0 } else { u64::MAX };
    Ok((tag, reader.within(field, 0, max)?))
}

message! {
    /// Adds to what may be delivered.
    pub struct Credit {
        /// A subscription or watch.
        pub subscription: SubscriptionId => fixed,
        /// More records.
        pub records: u32 => fixed,
        /// More bytes.
        pub bytes: u32 => fixed,
    }
}

message! {
    /// Ends a subscription or watch.
    pub struct Unsubscribe {
        /// Which.
        pub subscription: SubscriptionId => fixed,
    }
}

message! {
    /// Reads a range once. Reading past the end is an empty success.
    pub struct Fetch<'a> {
        /// The stream.
        pub handle: Handle => fixed,
        /// The partition.
        pub partition: PartitionId => fixed,
        /// First offset wanted.
        pub from: Offset => fixed,
        /// Most records.
        pub max_records: u32 => fixed,
        /// Most bytes of blocks; the first record is answered even when it is larger.
        pub max_bytes: u32 => fixed,
        /// What is answered at all.
        pub filter: Filter<'a> => filter,
    }
}

message! {
    /// Begins an append session.
    pub struct AppendBegin {
        /// The stream.
        pub handle: Handle => fixed,
        /// The partition.
        pub partition: PartitionId => fixed,
        /// No other exclusive session may be active.
        pub exclusive: bool => fixed,
    }
}

message! {
    /// Stages records in an append session.
    pub struct AppendStage<'a> {
        /// From APPEND_BEGUN.
        pub session: u64 => fixed,
        /// How many records `records` holds, 1 to `BATCH_RECORDS_MAX`.
        pub record_count: u32 => within(1, u64::from(BATCH_RECORDS_MAX)),
        /// As in [`Publish::records`].
        pub records: &'a [u8] => rest,
    }
}

message! {
    /// Makes all staged records visible at once.
    pub struct AppendCommit {
        /// From APPEND_BEGUN.
        pub session: u64 => fixed,
        /// Commit only when the partition ends here.
        pub expected_offset: Option<Offset> => optional,
    }
}

message! {
    /// Forgets all staged records.
    pub struct AppendRollback {
        /// From APPEND_BEGUN.
        pub session: u64 => fixed,
    }
}

message! {
    /// Asks for the ends and sizes of a partition.
    pub struct StreamInfo {
        /// The stream.
        pub handle: Handle => fixed,
        /// The partition.
        pub partition: PartitionId => fixed,
    }
}

message! {
    /// Reads one key. The partition follows from the key.
    pub struct CacheGet<'a> {
        /// The cache.
        pub handle: Handle => fixed,
        /// At most `KEY_BYTES_MAX`.
        pub key: &'a [u8] => key,
    }
}

/// When a write may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Whatever is there.
    Always,
    /// The key is absent.
    Absent,
    /// The entry has this version.
    Version(Version),
    /// This fill lease is still held.
    Lease(u64),
}

impl Condition {
    const fn parts(self) -> (u8, u64) {
        match self {
            Self::Always => (0, 0),
            Self::Absent => (1, 0),
            Self::Version(version) => (2, version.0),
            Self::Lease(lease) => (3, lease),
        }
    }
}

impl Fixed for Condition {
    fn read(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, DecodeError> {
        let (tag, value) = tagged(reader, field, 3, 1)?;
        Ok(match tag {
            0 => Self::Always,
            1 => Self::Absent,
            2 => Self::Version(Version(value)),
            _ => Self::Lease(value),
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        let (tag, value) = self.parts();
        out.push(tag);
        value.write(out);
    }
}

impl Reader<'_> {
    /// DELETE knows no `absent` (nothing to delete) and no lease.
    fn delete_condition(&mut self, field: &'static str) -> Result<Condition, DecodeError> {
        let condition: Condition = self.fixed(field)?;
        match condition {
            Condition::Always | Condition::Version(_) => Ok(condition),
            Condition::Absent | Condition::Lease(_) => Err(DecodeError::OutOfRange {
                field,
                actual: u64::from(condition.parts().0),
                min: 0,
                max: 2,
            }),
        }
    }
}

impl Writer<'_> {
    fn delete_condition(
        &mut self,
        field: &'static str,
        condition: Condition,
    ) -> Result<(), EncodeError> {
        match condition {
            Condition::Always | Condition::Version(_) => self.fixed(field, condition),
            Condition::Absent | Condition::Lease(_) => Err(EncodeError::OutOfRange {
                field,
                actual: u64::from(condition.parts().0),
                min: 0,
                max: 2,
            }),
        }
    }
}

message! {
    /// Writes one key.
    pub struct CacheSet<'a> {
        /// The cache.
        pub handle: Handle => fixed,
        /// When to write.
        pub condition: Condition => fixed,
        /// Time to live in milliseconds; 0 is none.
        pub ttl_ms: u64 => fixed,
        /// At most `KEY_BYTES_MAX`.
        pub key: &'a [u8] => key,
        /// At most `CACHE_VALUE_BYTES_MAX`.
        pub value: &'a [u8] => rest_within(CACHE_VALUE_BYTES_MAX),
    }
}

message! {
    /// Deletes one key.
    pub struct CacheDelete<'a> {
        /// The cache.
        pub handle: Handle => fixed,
        /// [`Condition::Always`] or [`Condition::Version`].
        pub condition: Condition => delete_condition,
        /// At most `KEY_BYTES_MAX`.
        pub key: &'a [u8] => key,
    }
}

message! {
    /// Sets the time to live of one key.
    pub struct CacheTouch<'a> {
        /// The cache.
        pub handle: Handle => fixed,
        /// Time to live in milliseconds; 0 is none.
        pub ttl_ms: u64 => fixed,
        /// At most `KEY_BYTES_MAX`.
        pub key: &'a [u8] => key,
    }
}

message! {
    /// Adds to a counter, which is a value of 8 bytes, little-endian and signed.
    pub struct CacheIncr<'a> {
        /// The cache.
        pub handle: Handle => fixed,
        /// What to add.
        pub delta: i64 => fixed,
        /// What an absent counter is before `delta` is added.
        pub initial: i64 => fixed,
        /// Applied when the counter is created, in milliseconds; 0 is none.
        pub ttl_ms: u64 => fixed,
        /// At most `KEY_BYTES_MAX`.
        pub key: &'a [u8] => key,
    }
}

message! {
    /// Reads many keys of one partition.
    pub struct CacheGetMany<'a> {
        /// The cache.
        pub handle: Handle => fixed,
        /// Where every key must belong.
        pub partition: PartitionId => fixed,
        /// At most `CACHE_MULTI_MAX`.
        pub keys: KeyList<'a> => keys,
    }
}

message! {
    /// Writes many keys of one partition, each on its own.
    pub struct CacheSetMany<'a> {
        /// The cache.
        pub handle: Handle => fixed,
        /// Where every key must belong.
        pub partition: PartitionId => fixed,
        /// At most `CACHE_MULTI_MAX`.
        pub items: ItemList<'a> => items,
    }
}

message! {
    /// One page of a partition's keys.
    pub struct CacheScan<'a> {
        /// The cache.
        pub handle: Handle => fixed,
        /// The partition.
        pub partition: PartitionId => fixed,
        /// 0 to begin, else from the page before.
        pub cursor: u64 => fixed,
        /// Most items, 1 to `SCAN_ITEMS_MAX`.
        pub max_items: u32 => within(1, u64::from(SCAN_ITEMS_MAX)),
        /// Most bytes of the page; one item is answered however large it is.
        pub max_bytes: u32 => fixed,
        /// Leave the values empty.
        pub keys_only: bool => fixed,
        /// Only keys that begin with this; at most `KEY_BYTES_MAX`.
        pub prefix: &'a [u8] => key,
    }
}

message! {
    /// Reads one key, or is told to fill it, or waits for who was.
    pub struct CacheLease<'a> {
        /// The cache.
        pub handle: Handle => fixed,
        /// Longest wait for another filler in milliseconds, at most `LEASE_WAIT_MS_MAX`.
        pub wait_ms: u32 => within(0, u64::from(LEASE_WAIT_MS_MAX)),
        /// How long the caller may take to fill, in milliseconds.
        pub lease_ms: u32 => fixed,
        /// An expired value will do while another fills.
        pub stale_ok: bool => fixed,
        /// At most `KEY_BYTES_MAX`.
        pub key: &'a [u8] => key,
    }
}

message! {
    /// Delivers changes of a key or prefix, on a stream of its own.
    pub struct CacheWatch<'a> {
        /// The cache.
        pub handle: Handle => fixed,
        /// The partition.
        pub partition: PartitionId => fixed,
        /// Chosen by the client, unique among those open on the connection.
        pub subscription: SubscriptionId => fixed,
        /// `key` is a prefix, else the exact key.
        pub prefix: bool => fixed,
        /// Send values, not only versions.
        pub with_values: bool => fixed,
        /// Events that may be delivered before the first CREDIT.
        pub credit_records: u32 => fixed,
        /// Bytes that may be delivered before the first CREDIT.
        pub credit_bytes: u32 => fixed,
        /// At most `KEY_BYTES_MAX`.
        pub key: &'a [u8] => key,
    }
}

message! {
    /// Asks for sizes and counts of a partition.
    pub struct CacheInfo {
        /// The cache.
        pub handle: Handle => fixed,
        /// The partition.
        pub partition: PartitionId => fixed,
    }
}
