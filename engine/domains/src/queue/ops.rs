//! The records a queue writes: their kinds and the bytes of their `ext`.
//!
//! All integers little-endian. `head.first` is the first message id of a put
//! and 0 otherwise; `head.count` is the messages of a put and 0 otherwise;
//! `head.timestamp` is the wall time of the decision. Delays count from it.
//!
//! ```text
//! kind              ext                                                   body
//! 16 PUT            u8 flags (bit 0: idempotent), u64 delay_ms,           records
//!                   u64 ttl_ms (0 = none), then with bit 0:               (retained)
//!                   u64 producer, u64 sequence
//! 17 ACK            u8 group, then n × { u64 id, u64 token tag }          -
//! 18 NACK           u8 group, u8 e, e bytes error text,                   -
//!                   then n × { u64 id, u16 attempts, u64 delay_ms }
//! 19 LAPSE          as NACK, without text: reservations that ran out      -
//! 20 DEAD           u8 group, u8 reason (1 the last attempt failed,       -
//!                   2 its time to live ran out, 3 the last
//!                   reservation ran out), u8 e, e bytes error text,
//!                   then n × { u64 id, u16 attempts }
//! 21 DROP           u8 group (255 = all), then n × u64 id                 -
//! 22 REPLAY         u8 group, then n × u64 id                             -
//! 23 PURGE          u8 group, then n × u64 id                             -
//! 24 GROUP_CREATE   u8 group, then its name                               -
//! 25 GROUP_DELETE   u8 group                                              -
//! 26 GROUP_LATEST   u8 group, u64 id, then its name                       -
//! 27 REDRIVE        u8 group, then a redrive as below                     -
//! ```
//!
//! n follows from the length; at most [`super::BATCH_MAX`]. A group is a number
//! below [`super::GROUPS_MAX`], free again after its deletion. GROUP_LATEST makes
//! a group that is done with every message below the id. REDRIVE is where the
//! redrive of a group's dead letters is; it follows the REPLAY or PURGE of what
//! it moved, so that no letter is moved by it twice:
//!
//! ```text
//! u8 action (1 replay, 2 purge), u8 reason (0 any, else as in DEAD),
//! u64 died from, u64 died before (each 0 = any), u32 letters a second,
//! u64 next id to look at, u64 last id to look at, u64 moved so far,
//! u8 done, u8 e, e bytes the last error begins with
//! ```

use pinion_types::block::Records;

use super::config::{BATCH_MAX, GROUPS_MAX};
use super::messages::DeadReason;

/// Messages with their bodies.
pub const PUT: u8 = 16;
/// Messages a group is done with.
pub const ACK: u8 = 17;
/// Attempts that failed.
pub const NACK: u8 = 18;
/// Reservations that ran out.
pub const LAPSE: u8 = 19;
/// Messages that became dead letters.
pub const DEAD: u8 = 20;
/// Messages removed because their time to live ran out.
pub const DROP: u8 = 21;
/// Dead letters made ready again.
pub const REPLAY: u8 = 22;
/// Dead letters removed.
pub const PURGE: u8 = 23;
/// A consumer group begins.
pub const GROUP_CREATE: u8 = 24;
/// A consumer group ends.
pub const GROUP_DELETE: u8 = 25;
/// A consumer group begins with what is put after it.
pub const GROUP_LATEST: u8 = 26;
/// Where the redrive of a group is.
pub const REDRIVE: u8 = 27;

/// [`DROP`] for every group.
pub(super) const ALL_GROUPS: u8 = u8::MAX;

const PUT_IDEMPOTENT: u8 = 1;

/// Why a record of the log cannot be folded into a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// Not a kind of the queue.
    #[error("record kind {0} is not a queue's")]
    UnknownKind(u8),
    /// Its metadata is not laid out as documented.
    #[error("the metadata of a record of kind {0} is malformed")]
    Malformed(u8),
    /// The body is not the records announced.
    #[error("the body of the put at {first} is malformed")]
    Body {
        /// Its first message id.
        first: u64,
    },
    /// A put begins before the end of those already there.
    #[error("a put at {first} where {expected} was expected")]
    OutOfOrder {
        /// Its first message id.
        first: u64,
        /// The id expected.
        expected: u64,
    },
    /// It names a group that does not exist.
    #[error("group {0} does not exist")]
    NoGroup(u8),
}

/// `ext` of a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PutExt {
    pub(super) delay_ms: u64,
    pub(super) ttl_ms: u64,
    pub(super) producer: Option<(u64, u64)>,
}

impl PutExt {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(33);
        out.push(if self.producer.is_some() {
            PUT_IDEMPOTENT
        } else {
            0
        });
        out.extend_from_slice(&self.delay_ms.to_le_bytes());
        out.extend_from_slice(&self.ttl_ms.to_le_bytes());
        if let Some((producer, sequence)) = self.producer {
            out.extend_from_slice(&producer.to_le_bytes());
            out.extend_from_slice(&sequence.to_le_bytes());
        }
        out
    }

    pub(super) fn decode(ext: &[u8]) -> Option<Self> {
        let mut read = Read(ext);
        let flags = read.u8()?;
        let (delay_ms, ttl_ms) = (read.u64()?, read.u64()?);
        let producer = match flags {
            0 => None,
            PUT_IDEMPOTENT => Some((read.u64()?, read.u64()?)),
            _ => return None,
        };
        read.end(Self {
            delay_ms,
            ttl_ms,
            producer,
        })
    }
}

/// One message of an op about several. Which fields it has follows from the kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) id: u64,
    pub(super) attempts: u16,
    pub(super) delay_ms: u64,
    pub(super) tag: u64,
}

/// The part of an op that is the same for all of its items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head<'a> {
    pub(super) kind: u8,
    pub(super) group: u8,
    pub(super) reason: Option<DeadReason>,
    pub(super) error: &'a [u8],
}

pub(super) fn encode(head: &Head<'_>, items: impl ExactSizeIterator<Item = Item>) -> Vec<u8> {
    let mut out = Vec::with_capacity(3 + head.error.len() + items.len() * 18);
    out.push(head.group);
    if let Some(reason) = head.reason {
        out.push(reason as u8);
    }
    if matches!(head.kind, NACK | DEAD) {
        out.push(u8::try_from(head.error.len()).expect("checked against ERROR_BYTES_MAX"));
        out.extend_from_slice(head.error);
    }
    for item in items {
        out.extend_from_slice(&item.id.to_le_bytes());
        match head.kind {
            ACK => out.extend_from_slice(&item.tag.to_le_bytes()),
            NACK | LAPSE => {
                out.extend_from_slice(&item.attempts.to_le_bytes());
                out.extend_from_slice(&item.delay_ms.to_le_bytes());
            }
            DEAD => out.extend_from_slice(&item.attempts.to_le_bytes()),
            _ => {}
        }
    }
    out
}

/// Reads an op about several messages.
pub(super) fn decode(kind: u8, ext: &[u8]) -> Option<(Head<'_>, Vec<Item>)> {
    let mut read = Read(ext);
    let group = read.u8()?;
    if usize::from(group) >= GROUPS_MAX && !(kind == DROP && group == ALL_GROUPS) {
        return None;
    }
    let reason = match kind {
        DEAD => Some(DeadReason::from_u8(read.u8()?)?),
        _ => None,
    };
    let error = match kind {
        NACK | DEAD => {
            let len = read.u8()?;
            read.bytes(usize::from(len))?
        }
        _ => &[],
    };
    let mut items = Vec::new();
    while !read.0.is_empty() {
        let mut item = Item {
            id: read.u64()?,
            ..Item::default()
        };
        match kind {
            ACK => item.tag = read.u64()?,
            NACK | LAPSE => {
                item.attempts = read.u16()?;
                item.delay_ms = read.u64()?;
            }
            DEAD => item.attempts = read.u16()?,
            _ => {}
        }
        if items.len() == BATCH_MAX {
            return None;
        }
        items.push(item);
    }
    let head = Head {
        kind,
        group,
        reason,
        error,
    };
    Some((head, items))
}

/// A cursor over bytes; every read says whether there was enough.
pub(super) struct Read<'a>(pub(super) &'a [u8]);

impl<'a> Read<'a> {
    pub(super) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*bytes)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|b| b[0])
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// `value` if everything was read.
    pub(super) fn end<T>(&self, value: T) -> Option<T> {
        self.0.is_empty().then_some(value)
    }
}

/// Where each record of a body lies and how long it is.
pub(super) fn spans(body: &[u8]) -> impl Iterator<Item = (u32, u32, &[u8])> {
    let mut records: Records<'_> = pinion_types::block::records(body);
    core::iter::from_fn(move || {
        let pos = body.len() - records.rest().len();
        let record = records.next()?.ok()?;
        let pos = u32::try_from(pos).expect("a body is at most a frame");
        let len = u32::try_from(record.encoded_len()).expect("a record is at most a frame");
        Some((pos, len, record.key))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ops_have_the_documented_bytes() {
        // Derived by hand from the table in the module's head.
        let put = PutExt {
            delay_ms: 0x0102,
            ttl_ms: 3,
            producer: None,
        };
        assert_eq!(
            put.encode(),
            [0, 2, 1, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]
        );
        let put = PutExt {
            producer: Some((7, 8)),
            ..put
        };
        let bytes = [
            1, 2, 1, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, //
            7, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(put.encode(), bytes);
        assert_eq!(PutExt::decode(&bytes), Some(put));
        assert_eq!(PutExt::decode(&bytes[..32]), None);
        assert_eq!(PutExt::decode(&[2; 33]), None, "unknown flags are refused");
        let item = Item {
            id: 5,
            attempts: 2,
            delay_ms: 300,
            tag: 9,
        };
        let head = |kind, reason, error| Head {
            kind,
            group: 4,
            reason,
            error,
        };
        let golden: [(Head<'_>, Item, &[u8]); 5] = [
            (
                head(ACK, None, b""),
                Item {
                    attempts: 0,
                    delay_ms: 0,
                    ..item
                },
                &[4, 5, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0],
            ),
            (
                head(NACK, None, b"no"),
                Item { tag: 0, ..item },
                &[
                    4, 2, b'n', b'o', 5, 0, 0, 0, 0, 0, 0, 0, 2, 0, 44, 1, 0, 0, 0, 0, 0, 0,
                ],
            ),
            (
                head(LAPSE, None, b""),
                Item { tag: 0, ..item },
                &[4, 5, 0, 0, 0, 0, 0, 0, 0, 2, 0, 44, 1, 0, 0, 0, 0, 0, 0],
            ),
            (
                head(DEAD, Some(DeadReason::Expired), b"x"),
                Item {
                    tag: 0,
                    delay_ms: 0,
                    ..item
                },
                &[4, 2, 1, b'x', 5, 0, 0, 0, 0, 0, 0, 0, 2, 0],
            ),
            (
                head(PURGE, None, b""),
                Item {
                    id: 5,
                    ..Item::default()
                },
                &[4, 5, 0, 0, 0, 0, 0, 0, 0],
            ),
        ];
        for (head, item, bytes) in golden {
            assert_eq!(encode(&head, [item].into_iter()), bytes, "{head:?}");
            assert_eq!(decode(head.kind, bytes), Some((head.clone(), vec![item])));
            assert_eq!(decode(head.kind, &bytes[..bytes.len() - 1]), None);
        }
        assert_eq!(decode(ACK, &[64]), None, "a group beyond the last");
        assert_eq!(decode(DEAD, &[0, 4, 0]), None, "an unknown reason");
    }
}
