//! The state of a durable partition in a checkpoint: what replay would have
//! made of every record so far, the records themselves excepted.
//!
//! ```text
//! 0  u8  version  1
//! 1  …   the archive of `State`: rkyv 0.8, little-endian, aligned, 32-bit
//!                 relative pointers
//! ```

use std::collections::BTreeMap;

use pinion_types::{Offset, ProducerId, Sequence, WallMs};
use rkyv::rancor::Error;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};

use super::cursors::{CURSOR_NAME_BYTES_MAX, CURSORS_MAX};
use super::durable::Effect;
use super::error::RestoreError;
use super::partition::Partition;
use super::producers::BATCHES_REMEMBERED;

/// Version of the layout.
const VERSION: u8 = 1;

#[derive(Archive, Deserialize, Serialize)]
struct State {
    first: u64,
    end: u64,
    last_timestamp: u64,
    /// Records were missing before `end`.
    gap: bool,
    /// Least recently used first.
    producers: Vec<Producer>,
    cursors: Vec<(Vec<u8>, u64)>,
}

#[derive(Archive, Deserialize, Serialize)]
struct Producer {
    id: u64,
    /// First sequence, records, offset; oldest first, at least one.
    batches: Vec<(u64, u32, u64)>,
}

impl Partition {
    /// Appends to `out` the state as of every op polled so far, for a
    /// checkpoint as of the last of them. An ephemeral partition has none.
    ///
    /// # Panics
    /// When an op has not been polled: the state would be ahead of the log.
    pub fn snapshot(&self, out: &mut Vec<u8>) {
        let Some(durable) = self.durable.as_deref() else {
            return;
        };
        assert!(
            durable.polled == durable.pending.len(),
            "a snapshot with {} ops unpolled",
            durable.pending.len() - durable.polled
        );
        let mut cursors: BTreeMap<&[u8], u64> = durable.cursors.iter().collect();
        for effect in &durable.pending {
            match effect {
                Effect::Cursor {
                    name,
                    offset: Some(offset),
                    ..
                } => {
                    cursors.insert(name, *offset);
                }
                Effect::Cursor {
                    name, offset: None, ..
                } => {
                    cursors.remove(&name[..]);
                }
                Effect::Block { .. } | Effect::Trim { .. } => {}
            }
        }
        let state = State {
            first: durable.first,
            end: self.ring.end(),
            last_timestamp: self.ring.last_timestamp().0,
            gap: durable.gap,
            producers: self
                .producers
                .iter()
                .map(|(id, batches)| Producer {
                    id: id.0,
                    batches: batches.map(|(s, count, o)| (s.0, count, o.0)).collect(),
                })
                .collect(),
            cursors: cursors.into_iter().map(|(n, o)| (n.to_vec(), o)).collect(),
        };
        let bytes = rkyv::to_bytes::<Error>(&state).expect("memory is all it needs");
        out.push(VERSION);
        out.extend_from_slice(&bytes);
    }

    /// Makes a new partition what it was when `state` was taken. Everything in
    /// it is committed.
    ///
    /// # Errors
    /// [`RestoreError`]; the partition is as before.
    ///
    /// # Panics
    /// When the partition is not new.
    pub fn restore(&mut self, state: &[u8]) -> Result<(), RestoreError> {
        let (&version, archive) = state.split_first().ok_or(RestoreError::Malformed)?;
        if version != VERSION {
            return Err(RestoreError::Version { version });
        }
        let mut aligned: AlignedVec = AlignedVec::with_capacity(archive.len());
        aligned.extend_from_slice(archive);
        let state: State =
            rkyv::from_bytes::<State, Error>(&aligned).map_err(|_| RestoreError::Malformed)?;
        let durable = self.durable.as_deref_mut().ok_or(RestoreError::Malformed)?;
        if !state.is_sound() {
            return Err(RestoreError::Malformed);
        }
        self.ring.resume(state.end, WallMs(state.last_timestamp));
        durable.resume(state.first, state.end);
        durable.gap = state.gap;
        durable.fenced |= state.gap;
        self.announced = state.end;
        for (name, offset) in &state.cursors {
            durable.cursors.set(name, Some(*offset));
        }
        for producer in &state.producers {
            let id = ProducerId(producer.id);
            for (sequence, count, offset) in &producer.batches {
                self.producers
                    .replay(id, Sequence(*sequence), *count, Offset(*offset));
            }
        }
        Ok(())
    }
}

impl State {
    fn is_sound(&self) -> bool {
        let batches = |p: &Producer| {
            (1..=BATCHES_REMEMBERED).contains(&p.batches.len())
                && p.batches
                    .iter()
                    .all(|b| b.1 > 0 && b.0.checked_add(u64::from(b.1)).is_some())
        };
        self.first <= self.end
            && self.cursors.len() <= CURSORS_MAX
            && self
                .cursors
                .iter()
                .all(|(name, _)| (1..=CURSOR_NAME_BYTES_MAX).contains(&name.len()))
            && self.producers.iter().all(batches)
    }
}
