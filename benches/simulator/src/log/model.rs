//! What a log was told, and what it must therefore still know.
//!
//! The model is a list of records with the numbers that the log gave them, cut
//! into batches (one call of `append`, all or nothing), and how far the log has
//! acknowledged. [`Fold`] is what an owner makes of records: the same code folds
//! the model's list and what recovery shows, so the two can be compared.

use core::ops::Range;
use std::collections::BTreeMap;

use bytes::Bytes;
use pinion_commitlog::{Location, Lsn, RecordHead};
use pinion_types::{PartitionId, ResourceId};

use crate::Violation;

/// A record with offsets; its body lives until the stream is trimmed past it.
pub(crate) const STREAM_BLOCK: u8 = 1;
/// `first` is the stream's new first offset.
pub(crate) const STREAM_TRIM: u8 = 2;
/// A message; its body lives until it is acknowledged.
pub(crate) const QUEUE_PUT: u8 = 16;
/// `first` is the message that is done.
pub(crate) const QUEUE_ACK: u8 = 17;

/// One partition of one resource.
pub(crate) type Key = (ResourceId, PartitionId);

/// One record as it was given to the log.
#[derive(Clone, Debug)]
pub(crate) struct Rec {
    pub(crate) lsn: Lsn,
    /// Where the log put it; compaction may have moved it since.
    pub(crate) at: Location,
    pub(crate) head: RecordHead,
    pub(crate) ext: Bytes,
    pub(crate) body: Bytes,
    pub(crate) digest: u64,
}

/// A number for the whole content of a record.
pub(crate) fn digest(head: &RecordHead, ext: &[u8], body: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut mix = |word: u64| {
        hash = (hash ^ word)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(31);
    };
    let words = [
        head.resource.0,
        u64::from(head.partition.0),
        u64::from(head.kind),
        head.first,
        u64::from(head.count),
        u64::from(head.epoch),
        head.timestamp.0,
        ext.len() as u64,
        body.len() as u64,
    ];
    words.into_iter().for_each(&mut mix);
    for chunk in ext.chunks(8).chain(body.chunks(8)) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        mix(u64::from_le_bytes(word));
    }
    hash
}

/// What the records of one partition add up to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// Next offset or message.
    pub(crate) end: u64,
    /// First offset that must be readable.
    pub(crate) first: u64,
    /// Every record so far, in order.
    pub(crate) chain: u64,
    /// Messages not done, with the place of their record as the owner knows it.
    pub(crate) live: BTreeMap<u64, Location>,
}

impl State {
    const NOWHERE: Location = Location {
        segment: 0,
        offset: 0,
        len: 0,
    };

    /// Folds one record in; refuses one that cannot follow.
    pub(crate) fn apply(
        &mut self,
        head: &RecordHead,
        at: Option<Location>,
        digest: u64,
    ) -> Result<(), Violation> {
        self.chain = self.chain.rotate_left(5) ^ digest.wrapping_mul(0xd6e8_feb8_6659_fd93);
        let dense = |end: u64| {
            if head.first == end {
                return Ok(());
            }
            let (key, first) = ((head.resource, head.partition), head.first);
            Err(Violation::new(format!(
                "{key:?}: {first} follows, but {end} is next"
            )))
        };
        match head.kind {
            STREAM_BLOCK => {
                dense(self.end)?;
                self.end += u64::from(head.count);
            }
            STREAM_TRIM => self.first = self.first.max(head.first),
            QUEUE_PUT => {
                dense(self.end)?;
                self.live.insert(self.end, at.unwrap_or(Self::NOWHERE));
                self.end += 1;
            }
            QUEUE_ACK => {
                if self.live.remove(&head.first).is_none() {
                    return Err(Violation::new(format!(
                        "message {} is done twice",
                        head.first
                    )));
                }
            }
            other => return Err(Violation::new(format!("a record of kind {other}"))),
        }
        Ok(())
    }

    /// The same, whatever the owner believes of places.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        (self.end, self.first, self.chain) == (other.end, other.first, other.chain)
            && self.live.keys().eq(other.live.keys())
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(24 + 24 * self.live.len());
        for word in [self.end, self.first, self.chain] {
            out.extend(word.to_le_bytes());
        }
        for (id, at) in &self.live {
            out.extend(id.to_le_bytes());
            out.extend(at.segment.to_le_bytes());
            out.extend(at.offset.to_le_bytes());
            out.extend(at.len.to_le_bytes());
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        fn word(bytes: &mut &[u8]) -> Option<u64> {
            let (word, rest) = bytes.split_first_chunk()?;
            *bytes = rest;
            Some(u64::from_le_bytes(*word))
        }
        fn half(bytes: &mut &[u8]) -> Option<u32> {
            let (half, rest) = bytes.split_first_chunk()?;
            *bytes = rest;
            Some(u32::from_le_bytes(*half))
        }
        let mut left = bytes;
        let left = &mut left;
        let mut state = Self {
            end: word(left)?,
            first: word(left)?,
            chain: word(left)?,
            live: BTreeMap::new(),
        };
        while !left.is_empty() {
            let id = word(left)?;
            let at = Location {
                segment: word(left)?,
                offset: half(left)?,
                len: half(left)?,
            };
            state.live.insert(id, at);
        }
        Some(state)
    }
}

/// All partitions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fold(pub(crate) BTreeMap<Key, State>);

impl Fold {
    pub(crate) fn of(&mut self, head: &RecordHead) -> &mut State {
        self.0.entry((head.resource, head.partition)).or_default()
    }
}

/// Everything the log was told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) records: Vec<Rec>,
    /// First and last number of every batch of more than one record.
    pub(crate) batches: Vec<(Lsn, Lsn)>,
    /// Everything up to here was acknowledged.
    pub(crate) acked: Lsn,
    /// Bytes of segments that a lying disk wrote elsewhere.
    pub(crate) strayed: Vec<(u64, Range<u64>)>,
    /// Offsets of records by place in the list, per stream.
    streams: BTreeMap<Key, Vec<(u64, usize)>>,
    messages: BTreeMap<(Key, u64), usize>,
}

impl Model {
    /// Whether every acknowledged record after `end` was written elsewhere, whole:
    /// none of them is where it was meant to be.
    pub(crate) fn only_strays_after(&self, end: Lsn) -> bool {
        let strayed = |record: &Rec| {
            let from = u64::from(record.at.offset);
            let to = from + u64::from(record.at.len);
            self.strayed.iter().any(|(segment, meant)| {
                *segment == record.at.segment && meant.start <= from && to <= meant.end
            })
        };
        let lost = |record: &&Rec| end < record.lsn && record.lsn <= self.acked;
        self.records.iter().filter(lost).all(strayed)
    }

    pub(crate) fn push(&mut self, record: Rec) {
        let key = (record.head.resource, record.head.partition);
        let index = self.records.len();
        match record.head.kind {
            STREAM_BLOCK => self
                .streams
                .entry(key)
                .or_default()
                .push((record.head.first, index)),
            QUEUE_PUT => {
                self.messages.insert((key, record.head.first), index);
            }
            _ => {}
        }
        self.records.push(record);
    }

    /// What the records up to `end` add up to.
    pub(crate) fn fold(&self, end: Lsn) -> Result<Fold, Violation> {
        let mut fold = Fold::default();
        for record in self.records.iter().take_while(|r| r.lsn <= end) {
            fold.of(&record.head)
                .apply(&record.head, None, record.digest)?;
        }
        Ok(fold)
    }

    /// A crash decided: what is beyond `end` never happened.
    pub(crate) fn cut(&mut self, end: Lsn) {
        let old = core::mem::take(self);
        self.acked = end;
        self.batches = old.batches;
        self.batches.retain(|(_, last)| *last <= end);
        for record in old.records.into_iter().take_while(|r| r.lsn <= end) {
            self.push(record);
        }
    }

    /// The batch that `end` would cut in two.
    pub(crate) fn split_batch(&self, end: Lsn) -> Option<(Lsn, Lsn)> {
        let mut batches = self.batches.iter();
        batches
            .find(|(first, last)| *first <= end && end < *last)
            .copied()
    }

    pub(crate) fn message(&self, key: Key, id: u64) -> Option<&Rec> {
        let index = self.messages.get(&(key, id))?;
        Some(&self.records[*index])
    }

    /// The record that holds an offset.
    pub(crate) fn block(&self, key: Key, offset: u64) -> Option<&Rec> {
        let blocks = self.streams.get(&key)?;
        let after = blocks.partition_point(|(first, _)| *first <= offset);
        let (_, index) = blocks.get(after.checked_sub(1)?)?;
        let record = &self.records[*index];
        (offset < record.head.first + u64::from(record.head.count)).then_some(record)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test may
mod tests {
    use pinion_types::WallMs;

    use super::*;

    fn record(lsn: u64, kind: u8, first: u64, count: u32) -> Rec {
        let head = RecordHead {
            resource: ResourceId(1),
            partition: PartitionId(0),
            kind,
            first,
            count,
            epoch: 0,
            timestamp: WallMs(lsn),
        };
        Rec {
            lsn: Lsn(lsn),
            at: State::NOWHERE,
            head,
            ext: Bytes::new(),
            body: Bytes::from_static(b"x"),
            digest: digest(&head, b"", b"x"),
        }
    }

    #[test]
    fn a_cut_model_has_forgotten_what_came_after() {
        let mut model = Model::default();
        for (lsn, first) in [(1, 0), (2, 3), (4, 6)] {
            model.push(record(lsn, STREAM_BLOCK, first, 3));
        }
        model.batches = vec![(Lsn(2), Lsn(4))];
        let key = (ResourceId(1), PartitionId(0));
        assert_eq!(model.block(key, 5).map(|r| r.lsn), Some(Lsn(2)));
        assert_eq!(model.split_batch(Lsn(3)), Some((Lsn(2), Lsn(4))));
        assert_eq!(model.split_batch(Lsn(4)), None);
        let two = model.fold(Lsn(2)).unwrap();
        assert_eq!(two.0[&key].end, 6);
        model.cut(Lsn(2));
        assert!(model.fold(Lsn(9)).unwrap().0[&key].same_as(&two.0[&key]));
        assert!(model.block(key, 6).is_none());
    }

    #[test]
    fn a_fold_tells_a_gap_an_other_order_and_other_content() {
        let mut state = State::default();
        let one = record(1, STREAM_BLOCK, 0, 3);
        state.apply(&one.head, None, one.digest).unwrap();
        let gap = record(2, STREAM_BLOCK, 4, 1);
        assert!(state.clone().apply(&gap.head, None, gap.digest).is_err());
        let mut other = State::default();
        other.apply(&one.head, None, one.digest ^ 1).unwrap();
        assert!(!state.same_as(&other));
        let ack = record(3, QUEUE_ACK, 9, 0);
        assert!(state.apply(&ack.head, None, ack.digest).is_err());
    }

    #[test]
    fn a_state_comes_back_from_its_bytes() {
        let mut state = State {
            end: 9,
            first: 2,
            chain: 77,
            live: BTreeMap::new(),
        };
        let at = Location {
            segment: 3,
            offset: 4096,
            len: 99,
        };
        state.live.insert(5, at);
        assert_eq!(State::decode(&state.encode()), Some(state.clone()));
        assert_eq!(State::decode(&state.encode()[1..]), None);
    }
}
