//! Every message of the client protocol as a borrowed view.
//!
//! The byte layout is in `docs/wire-protocol.md`; field order here is field
//! order there. [`Request`] is what a client sends, [`Reply`] what it is
//! answered, [`Delivery`] what arrives on a subscription's own stream.

mod delivery;
mod filter;
mod list;
mod reply;
mod request;

use pinion_types::limits::{RECORD_BYTES_MAX, SHARDS_MAX};

use crate::codec::{Fixed, Reader, Writer, wire_enum};
use crate::error::{DecodeError, EncodeError};

pub use delivery::{Delivery, End, Lag, LagReason};
pub use filter::{FILTER_BYTES_MAX, Filter, FilterBuf, FilterOp, Term, Terms, Values};
pub use list::{
    CacheEvent, CacheEvents, CacheEventsIter, CachePage, CacheStoredMany, CacheStoredManyIter,
    CacheValues, CacheValuesIter, CachedValue, CoreList, CoreListIter, EventKind, ItemList,
    ItemListIter, KeyList, KeyListIter, PageItem, PageItems, PageItemsIter, SetItem, StoredItem,
};
pub(crate) use list::{EVENTS_MAX, PAGE_ITEMS_MAX};
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

/// What a resource is like. 32 bytes on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Partitions, 1 to `SHARDS_MAX`.
    pub shards: u16,
    /// 0 ephemeral, 1 durable.
    pub durability: u8,
    /// For subscribers that ask for none.
    pub overflow: Overflow,
    /// Largest record or cache value in bytes, at most `RECORD_BYTES_MAX`; 0 is that limit.
    pub max_record_bytes: u32,
    /// Per partition: bytes of a stream's ring or of a cache; 0 is the node's default.
    pub ring_bytes: u64,
    /// Longest a record is kept, in milliseconds; 0 is as long as the ring holds it.
    pub retention_ms: u64,
}

/// Bytes of a [`Spec`] on the wire.
pub const SPEC_BYTES: usize = 32;

impl Spec {
    /// Refused on both sides, so that a wrong specification does not travel.
    fn check_write(&self) -> Result<(), EncodeError> {
        for (field, actual, min, max) in self.ranges() {
            if actual < min || actual > max {
                return Err(EncodeError::OutOfRange {
                    field,
                    actual,
                    min,
                    max,
                });
            }
        }
        Ok(())
    }

    fn ranges(&self) -> [(&'static str, u64, u64, u64); 3] {
        [
            ("shards", u64::from(self.shards), 1, u64::from(SHARDS_MAX)),
            ("durability", u64::from(self.durability), 0, 1),
            (
                "max_record_bytes",
                u64::from(self.max_record_bytes),
                0,
                u64::from(RECORD_BYTES_MAX),
            ),
        ]
    }
}

impl Fixed for Spec {
    fn read(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, DecodeError> {
        let mut fields = Reader::new(reader.bytes(field, SPEC_BYTES)?);
        let spec = Self {
            shards: fields.fixed("shards")?,
            durability: fields.fixed("durability")?,
            overflow: fields.fixed("overflow")?,
            max_record_bytes: fields.fixed("max_record_bytes")?,
            ring_bytes: fields.fixed("ring_bytes")?,
            retention_ms: fields.fixed("retention_ms")?,
        };
        let reserved: u64 = fields.fixed("reserved")?;
        for (field, actual, min, max) in spec.ranges() {
            if actual < min || actual > max {
                return Err(DecodeError::OutOfRange {
                    field,
                    actual,
                    min,
                    max,
                });
            }
        }
        if reserved != 0 {
            return Err(DecodeError::UnknownBits {
                field: "reserved",
                bits: reserved,
            });
        }
        Ok(spec)
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut writer = Writer { out };
        writer.put(self.shards);
        writer.put(self.durability);
        writer.put(self.overflow);
        writer.put(self.max_record_bytes);
        writer.put(self.ring_bytes);
        writer.put(self.retention_ms);
        writer.put(0_u64);
    }
}

impl Reader<'_> {
    fn maybe_spec(&mut self, field: &'static str) -> Result<Option<Spec>, DecodeError> {
        self.optional(field)
    }

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
    pub(crate) fn spec(&mut self, field: &'static str, spec: Spec) -> Result<(), EncodeError> {
        spec.check_write()?;
        self.fixed(field, spec)
    }

    fn maybe_spec(&mut self, field: &'static str, spec: Option<Spec>) -> Result<(), EncodeError> {
        if let Some(spec) = &spec {
            spec.check_write()?;
        }
        self.optional(field, spec)
    }

    fn overflow(
        &mut self,
        field: &'static str,
        overflow: Option<Overflow>,
    ) -> Result<(), EncodeError> {
        self.fixed(field, overflow.map_or(0, |overflow| overflow as u8))
    }
}
