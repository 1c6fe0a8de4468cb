//! What a resource is like.

use pinion_types::ResourceKind;
use pinion_types::limits::{QUEUE_LEASE_MS_MAX, RECORD_BYTES_MAX, SHARDS_MAX};

use super::Overflow;
use crate::codec::{Fixed, Reader, Writer};
use crate::error::{DecodeError, EncodeError};

/// What a resource is like. 64 bytes on the wire.
///
/// Some fields belong to some kinds only; OPEN refuses them for the others.
/// 0 is always the node's default, or the largest there is.
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
    /// Per partition: bytes of a stream's ring, of a cache, or of a queue's
    /// messages in memory; 0 is the node's default.
    pub ring_bytes: u64,
    /// Longest a record is kept, in milliseconds; 0 is as long as there is
    /// room. Of a queue: time to live of a message that is put without one.
    pub retention_ms: u64,
    /// Per partition: bytes of records a durable stream keeps, or of messages
    /// a queue holds before a put is refused; 0 is the node's default.
    pub retention_bytes: u64,
    /// Of a queue; [`QueueSpec::UNSET`] for every other kind.
    pub queue: QueueSpec,
}

impl Spec {
    /// `shards` partitions in memory only; everything else is the node's default.
    ///
    /// ```
    /// use pinion_wire::message::{QueueSpec, Spec};
    ///
    /// let spec = Spec {
    ///     retention_ms: 7 * 24 * 3600 * 1000,
    ///     ..Spec::durable(4)
    /// };
    /// let queue = Spec {
    ///     queue: QueueSpec { max_attempts: 3, ..QueueSpec::UNSET },
    ///     ..Spec::durable(1)
    /// };
    /// assert_eq!((spec.durability, queue.shards), (1, 1));
    /// ```
    #[must_use]
    pub const fn ephemeral(shards: u16) -> Self {
        Self {
            shards,
            durability: 0,
            overflow: Overflow::DropOldest,
            max_record_bytes: 0,
            ring_bytes: 0,
            retention_ms: 0,
            retention_bytes: 0,
            queue: QueueSpec::UNSET,
        }
    }

    /// `shards` partitions on disk, whose subscribers lose nothing; everything
    /// else is the node's default.
    #[must_use]
    pub const fn durable(shards: u16) -> Self {
        Self {
            durability: 1,
            overflow: Overflow::Block,
            ..Self::ephemeral(shards)
        }
    }
}

/// What only a queue has. A field that is 0 is the node's default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueSpec {
    /// How long a message is reserved when a take does not say, in
    /// milliseconds; at most `QUEUE_LEASE_MS_MAX`.
    pub visibility_ms: u32,
    /// Failed deliveries after which a message becomes a dead letter.
    pub max_attempts: u16,
    /// Later messages of a key wait while one of it is not finished.
    pub ordered_by_key: bool,
    /// A message whose time to live is over is dropped and counted; otherwise
    /// it becomes a dead letter.
    pub drop_expired: bool,
    /// Reserved messages of one group at a time.
    pub max_in_flight: u32,
    /// Reserved messages of one consumer at a time.
    pub consumer_in_flight: u32,
    /// First pause before a failed message is given out again, in milliseconds.
    pub backoff_min_ms: u32,
    /// Longest pause before a failed message is given out again, in milliseconds.
    pub backoff_max_ms: u32,
    /// Messages of one partition before a put is refused.
    pub messages_max: u32,
    /// Failed messages a group is given again in one second.
    pub redeliveries_per_s: u32,
}

impl QueueSpec {
    /// Everything is the node's default.
    pub const UNSET: Self = Self {
        visibility_ms: 0,
        max_attempts: 0,
        ordered_by_key: false,
        drop_expired: false,
        max_in_flight: 0,
        consumer_in_flight: 0,
        backoff_min_ms: 0,
        backoff_max_ms: 0,
        messages_max: 0,
        redeliveries_per_s: 0,
    };
}

/// Bytes of a [`Spec`] on the wire.
pub const SPEC_BYTES: usize = 64;

/// Queue bit: `ordered_by_key`.
const QUEUE_ORDERED: u16 = 1;
/// Queue bit: `drop_expired`.
const QUEUE_DROP_EXPIRED: u16 = 2;

/// A field, what it holds, and what it may hold.
type Range = (&'static str, u64, u64, u64);

impl Spec {
    fn ranges(&self) -> [Range; 4] {
        [
            ("shards", u64::from(self.shards), 1, u64::from(SHARDS_MAX)),
            ("durability", u64::from(self.durability), 0, 1),
            (
                "max_record_bytes",
                u64::from(self.max_record_bytes),
                0,
                u64::from(RECORD_BYTES_MAX),
            ),
            (
                "visibility_ms",
                u64::from(self.queue.visibility_ms),
                0,
                u64::from(QUEUE_LEASE_MS_MAX),
            ),
        ]
    }

    /// The first field out of its range.
    fn fault(&self) -> Option<Range> {
        let out = |(_, actual, min, max): &Range| actual < min || actual > max;
        self.ranges().into_iter().find(out)
    }

    /// The first field that is set though `kind` has none of it. Where one is
    /// known to be wrong, ignoring it would promise what is not given.
    fn fault_of(&self, kind: ResourceKind) -> Option<Range> {
        if kind == ResourceKind::Cache && self.retention_bytes != 0 {
            return Some(("retention_bytes", self.retention_bytes, 0, 0));
        }
        if kind != ResourceKind::Queue && self.queue != QueueSpec::UNSET {
            return Some(("queue", 1, 0, 0));
        }
        None
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
            retention_bytes: fields.fixed("retention_bytes")?,
            queue: fields.fixed("queue")?,
        };
        spec.fault().map_or(Ok(spec), |range| Err(refused(range)))
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut writer = Writer { out };
        writer.put(self.shards);
        writer.put(self.durability);
        writer.put(self.overflow);
        writer.put(self.max_record_bytes);
        writer.put(self.ring_bytes);
        writer.put(self.retention_ms);
        writer.put(self.retention_bytes);
        writer.put(self.queue);
    }
}

impl Fixed for QueueSpec {
    fn read(reader: &mut Reader<'_>, _field: &'static str) -> Result<Self, DecodeError> {
        let visibility_ms = reader.fixed("visibility_ms")?;
        let max_attempts = reader.fixed("max_attempts")?;
        let bits: u16 = reader.fixed("queue_bits")?;
        let unknown = bits & !(QUEUE_ORDERED | QUEUE_DROP_EXPIRED);
        if unknown != 0 {
            return Err(DecodeError::UnknownBits {
                field: "queue_bits",
                bits: u64::from(unknown),
            });
        }
        Ok(Self {
            visibility_ms,
            max_attempts,
            ordered_by_key: bits & QUEUE_ORDERED != 0,
            drop_expired: bits & QUEUE_DROP_EXPIRED != 0,
            max_in_flight: reader.fixed("max_in_flight")?,
            consumer_in_flight: reader.fixed("consumer_in_flight")?,
            backoff_min_ms: reader.fixed("backoff_min_ms")?,
            backoff_max_ms: reader.fixed("backoff_max_ms")?,
            messages_max: reader.fixed("messages_max")?,
            redeliveries_per_s: reader.fixed("redeliveries_per_s")?,
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut writer = Writer { out };
        writer.put(self.visibility_ms);
        writer.put(self.max_attempts);
        let ordered = if self.ordered_by_key {
            QUEUE_ORDERED
        } else {
            0
        };
        let drop = if self.drop_expired {
            QUEUE_DROP_EXPIRED
        } else {
            0
        };
        writer.put(ordered | drop);
        writer.put(self.max_in_flight);
        writer.put(self.consumer_in_flight);
        writer.put(self.backoff_min_ms);
        writer.put(self.backoff_max_ms);
        writer.put(self.messages_max);
        writer.put(self.redeliveries_per_s);
    }
}

const fn refused((field, actual, min, max): Range) -> DecodeError {
    DecodeError::OutOfRange {
        field,
        actual,
        min,
        max,
    }
}

fn unsayable((field, actual, min, max): Range) -> EncodeError {
    EncodeError::OutOfRange {
        field,
        actual,
        min,
        max,
    }
}

impl Reader<'_> {
    /// The specification a resource of `kind` is declared with.
    pub(super) fn declared(
        &mut self,
        kind: ResourceKind,
        field: &'static str,
    ) -> Result<Option<Spec>, DecodeError> {
        let spec: Option<Spec> = self.optional(field)?;
        match spec.and_then(|spec| spec.fault_of(kind)) {
            Some(range) => Err(refused(range)),
            None => Ok(spec),
        }
    }
}

impl Writer<'_> {
    /// Refused on both sides, so that a wrong specification does not travel.
    pub(crate) fn spec(&mut self, field: &'static str, spec: Spec) -> Result<(), EncodeError> {
        match spec.fault() {
            Some(range) => Err(unsayable(range)),
            None => self.fixed(field, spec),
        }
    }

    pub(super) fn declared(
        &mut self,
        kind: ResourceKind,
        field: &'static str,
        spec: Option<Spec>,
    ) -> Result<(), EncodeError> {
        let fault = |spec: Spec| spec.fault().or_else(|| spec.fault_of(kind));
        match spec.and_then(fault) {
            Some(range) => Err(unsayable(range)),
            None => self.optional(field, spec),
        }
    }
}
