//! A declared resource as it is written down, so that it outlives the node.
//!
//! ```text
//!  0  u8   version    1
//!  1  u8   kind       of the resource
//!  2  u16  shards
//!  4  u8   durability 0 or 1
//!  5  u8   overflow
//!  6  u16  zero
//!  8  u64  id
//! 16  u64  tenant
//! 24  u32  max_record_bytes
//! 28  u32  messages_max
//! 32  u64  ring_bytes
//! 40  u64  retention_ms
//! 48  u64  retention_bytes
//! 56  u32  visibility_ms
//! 60  u16  max_attempts
//! 62  u16  bits       1 ordered by key, 2 drop expired
//! 64  u32  max_in_flight
//! 68  u32  consumer_in_flight
//! 72  u32  backoff_min_ms
//! 76  u32  backoff_max_ms
//! 80  u32  redeliveries_per_s
//! 84  u16  namespace length
//! 86  u16  name length
//! 88  u16 × shards, the log of each partition; then namespace and name
//! ```
//! All little-endian. It is the body of a record in the node's own log, whose
//! checksum covers it.

use pinion_commitlog::LogId;
use pinion_types::limits::SHARDS_MAX;
use pinion_types::{ResourceId, ResourceKind, ResourceName};
use pinion_wire::message::{Overflow, QueueSpec, Spec};

use crate::access::TenantId;
use crate::map::Resource;

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 88;
const BIT_ORDERED: u16 = 1;
const BIT_DROP_EXPIRED: u16 = 2;

/// A resource, everything but where it lives today.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// Its number, never used again for another.
    pub id: ResourceId,
    /// Whose it is.
    pub tenant: TenantId,
    /// What it is.
    pub kind: ResourceKind,
    /// Its address.
    pub name: ResourceName,
    /// Its specification, complete.
    pub spec: Spec,
    /// The log of each partition.
    pub logs: Box<[LogId]>,
}

/// Why bytes are not a declared resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeclaredError {
    /// Written by a later version of the node.
    #[error("version {0} of a resource's record is not known to this node")]
    Version(u8),
    /// The bytes end early, or go on.
    #[error("the record has {0} bytes, which is not its length")]
    Length(usize),
    /// A field holds what it cannot.
    #[error("{field} holds {value}")]
    Field {
        /// Which.
        field: &'static str,
        /// What it holds.
        value: u64,
    },
    /// The address breaks the grammar.
    #[error("the address breaks the grammar")]
    Name,
}

impl From<&Resource> for Declared {
    fn from(resource: &Resource) -> Self {
        Self {
            id: resource.id,
            tenant: resource.tenant,
            kind: resource.kind,
            name: resource.name.clone(),
            spec: resource.spec,
            logs: resource.logs.clone(),
        }
    }
}

impl Declared {
    /// The bytes above.
    ///
    /// # Panics
    /// When the specification names another number of shards than there are
    /// logs: a bug of the caller.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let spec = &self.spec;
        let queue = &spec.queue;
        assert_eq!(usize::from(spec.shards), self.logs.len(), "a log per shard");
        let (namespace, name) = (self.name.namespace(), self.name.name());
        let mut bits = 0;
        if queue.ordered_by_key {
            bits |= BIT_ORDERED;
        }
        if queue.drop_expired {
            bits |= BIT_DROP_EXPIRED;
        }
        let length = |text: &str| u16::try_from(text.len()).expect("an address is short");
        let mut out = Vec::with_capacity(HEAD_BYTES + 2 * self.logs.len() + 256);
        out.extend([VERSION, self.kind as u8]);
        out.extend(spec.shards.to_le_bytes());
        out.extend([spec.durability, spec.overflow as u8, 0, 0]);
        out.extend(self.id.0.to_le_bytes());
        out.extend(self.tenant.0.to_le_bytes());
        out.extend(spec.max_record_bytes.to_le_bytes());
        out.extend(queue.messages_max.to_le_bytes());
        out.extend(spec.ring_bytes.to_le_bytes());
        out.extend(spec.retention_ms.to_le_bytes());
        out.extend(spec.retention_bytes.to_le_bytes());
        out.extend(queue.visibility_ms.to_le_bytes());
        out.extend(queue.max_attempts.to_le_bytes());
        out.extend(bits.to_le_bytes());
        out.extend(queue.max_in_flight.to_le_bytes());
        out.extend(queue.consumer_in_flight.to_le_bytes());
        out.extend(queue.backoff_min_ms.to_le_bytes());
        out.extend(queue.backoff_max_ms.to_le_bytes());
        out.extend(queue.redeliveries_per_s.to_le_bytes());
        out.extend(length(namespace).to_le_bytes());
        out.extend(length(name).to_le_bytes());
        for log in &self.logs {
            out.extend(log.0.to_le_bytes());
        }
        out.extend(namespace.as_bytes());
        out.extend(name.as_bytes());
        out
    }

    /// Reads the bytes above.
    ///
    /// # Errors
    /// [`DeclaredError`], the first fault.
    pub fn decode(bytes: &[u8]) -> Result<Self, DeclaredError> {
        let short = DeclaredError::Length(bytes.len());
        match bytes.first() {
            Some(&VERSION) => {}
            Some(version) => return Err(DeclaredError::Version(*version)),
            None => return Err(short),
        }
        let (head, rest) = bytes.split_first_chunk::<HEAD_BYTES>().ok_or(short)?;
        let u16_at = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
        let u32_at =
            |at: usize| u32::from_le_bytes(*head[at..].first_chunk().expect("inside the head"));
        let u64_at =
            |at: usize| u64::from_le_bytes(*head[at..].first_chunk().expect("inside the head"));
        let field = |field, value| DeclaredError::Field { field, value };
        let kind = ResourceKind::from_u8(head[1]).ok_or(field("kind", u64::from(head[1])))?;
        let shards = u16_at(2);
        if shards == 0 || shards > SHARDS_MAX {
            return Err(field("shards", u64::from(shards)));
        }
        if head[4] > 1 {
            return Err(field("durability", u64::from(head[4])));
        }
        let overflow = Overflow::from_u8(head[5]).ok_or(field("overflow", u64::from(head[5])))?;
        let bits = u16_at(62);
        if bits & !(BIT_ORDERED | BIT_DROP_EXPIRED) != 0 || u16_at(6) != 0 {
            return Err(field("bits", u64::from(bits)));
        }
        let (logs, rest) = rest
            .split_at_checked(2 * usize::from(shards))
            .ok_or(short)?;
        let (namespace, rest) = rest
            .split_at_checked(usize::from(u16_at(84)))
            .ok_or(short)?;
        if rest.len() != usize::from(u16_at(86)) {
            return Err(short);
        }
        let text = |bytes| core::str::from_utf8(bytes).map_err(|_| DeclaredError::Name);
        let name =
            ResourceName::new(text(namespace)?, text(rest)?).map_err(|_| DeclaredError::Name)?;
        Ok(Self {
            id: ResourceId(u64_at(8)),
            tenant: TenantId(u64_at(16)),
            kind,
            name,
            spec: Spec {
                shards,
                durability: head[4],
                overflow,
                max_record_bytes: u32_at(24),
                ring_bytes: u64_at(32),
                retention_ms: u64_at(40),
                retention_bytes: u64_at(48),
                queue: QueueSpec {
                    visibility_ms: u32_at(56),
                    max_attempts: u16_at(60),
                    ordered_by_key: bits & BIT_ORDERED != 0,
                    drop_expired: bits & BIT_DROP_EXPIRED != 0,
                    max_in_flight: u32_at(64),
                    consumer_in_flight: u32_at(68),
                    backoff_min_ms: u32_at(72),
                    backoff_max_ms: u32_at(76),
                    messages_max: u32_at(28),
                    redeliveries_per_s: u32_at(80),
                },
            },
            logs: logs
                .chunks_exact(2)
                .map(|log| LogId(u16::from_le_bytes([log[0], log[1]])))
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> Declared {
        Declared {
            id: ResourceId(0x0102),
            tenant: TenantId(3),
            kind: ResourceKind::Queue,
            name: ResourceName::new("pay", "eu/jobs").expect("name"),
            spec: Spec {
                shards: 2,
                durability: 1,
                overflow: Overflow::Block,
                max_record_bytes: 0x1000,
                ring_bytes: 0x2000,
                retention_ms: 7,
                retention_bytes: 8,
                queue: QueueSpec {
                    visibility_ms: 9,
                    max_attempts: 5,
                    ordered_by_key: true,
                    drop_expired: false,
                    max_in_flight: 10,
                    consumer_in_flight: 11,
                    backoff_min_ms: 12,
                    backoff_max_ms: 13,
                    messages_max: 14,
                    redeliveries_per_s: 15,
                },
            },
            logs: [LogId(1), LogId(0)].into(),
        }
    }

    #[test]
    fn a_declared_resource_has_the_documented_bytes() {
        // Derived by hand from the table in the module's head.
        #[rustfmt::skip]
        let expected: &[u8] = &[
            1, 3, 2, 0, 1, 1, 0, 0,
            2, 1, 0, 0, 0, 0, 0, 0,
            3, 0, 0, 0, 0, 0, 0, 0,
            0, 0x10, 0, 0, 14, 0, 0, 0,
            0, 0x20, 0, 0, 0, 0, 0, 0,
            7, 0, 0, 0, 0, 0, 0, 0,
            8, 0, 0, 0, 0, 0, 0, 0,
            9, 0, 0, 0, 5, 0, 1, 0,
            10, 0, 0, 0, 11, 0, 0, 0,
            12, 0, 0, 0, 13, 0, 0, 0,
            15, 0, 0, 0, 3, 0, 7, 0,
            1, 0, 0, 0,
            b'p', b'a', b'y', b'e', b'u', b'/', b'j', b'o', b'b', b's',
        ];
        assert_eq!(queue().encode(), expected);
        assert_eq!(Declared::decode(expected), Ok(queue()));
    }

    #[test]
    fn every_cut_every_longer_one_and_every_unknown_value_is_refused() {
        let bytes = queue().encode();
        for cut in 0..bytes.len() {
            assert!(Declared::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(Declared::decode(&longer).is_err());
        for (at, value) in [
            (0, 2),
            (1, 9),
            (2, 0),
            (4, 2),
            (5, 0),
            (6, 1),
            (62, 4),
            (88, b'/'),
        ] {
            let mut wrong = bytes.clone();
            if at == 88 {
                // The first byte of the namespace.
                wrong[92] = value;
            } else {
                wrong[at] = value;
            }
            assert!(Declared::decode(&wrong).is_err(), "{value} at {at}");
        }
    }
}
