//! A redrive: dead letters moved by filter at a measured pace, over restarts.
//!
//! What a redrive is to do, and how far it is, is an op like any other: one
//! when it begins, one behind each batch it moved. A restart goes on behind the
//! last batch that is durable. Because the two ops of a batch are neighbours in
//! the log, no letter is moved twice for one death, and none is left out.

use pinion_types::{Monotonic, WallMs};

use super::config::{BATCH_MAX, ERROR_BYTES_MAX, QueueError};
use super::dead::{DeadAction, DeadFilter};
use super::group::{Bucket, Life};
use super::messages::DeadReason;
use super::ops::Read;
use super::partition::{Effect, QueuePartition};
use super::pool::Timer;
use super::serve::SCAN_MAX;
use super::settle::check_range;

/// A redrive at work, or the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedriveStatus {
    /// Letters moved, those before a restart included.
    pub moved: u64,
    /// It has looked at all of them.
    pub done: bool,
}

/// What a redrive is to do and how far it is: all of it that must survive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RedriveState {
    filter: DeadFilter,
    action: DeadAction,
    per_sec: u32,
    /// Next id to look at, and the last.
    next: u64,
    last: u64,
    moved: u64,
    pub(super) done: bool,
}

/// A redrive and its pace.
#[derive(Debug)]
pub(super) struct Redrive {
    state: RedriveState,
    bucket: Bucket,
}

impl RedriveState {
    /// Appends the bytes of [`super::ops`].
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let filter = &self.filter;
        out.push(match self.action {
            DeadAction::Replay => 1,
            DeadAction::Purge => 2,
        });
        out.push(filter.reason.map_or(0, |reason| reason as u8));
        for at in [filter.died_from, filter.died_before] {
            out.extend_from_slice(&at.map_or(0, |at| at.0).to_le_bytes());
        }
        out.extend_from_slice(&self.per_sec.to_le_bytes());
        for number in [self.next, self.last, self.moved] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.push(u8::from(self.done));
        let prefix = &filter.error_prefix;
        out.push(u8::try_from(prefix.len()).expect("checked against ERROR_BYTES_MAX"));
        out.extend_from_slice(prefix);
    }

    pub(super) fn decode(read: &mut Read<'_>) -> Option<Self> {
        let action = match read.u8()? {
            1 => DeadAction::Replay,
            2 => DeadAction::Purge,
            _ => return None,
        };
        let reason = match read.u8()? {
            0 => None,
            reason => Some(DeadReason::from_u8(reason)?),
        };
        let mut time = || Some(Some(WallMs(read.u64()?)).filter(|at| at.0 > 0));
        let (died_from, died_before) = (time()?, time()?);
        let per_sec = read.u32()?;
        let (next, last, moved) = (read.u64()?, read.u64()?, read.u64()?);
        let done = match read.u8()? {
            0 => false,
            1 => true,
            _ => return None,
        };
        let len = read.u8()?;
        let error_prefix = read.bytes(usize::from(len))?.to_vec();
        Some(Self {
            filter: DeadFilter {
                reason,
                error_prefix,
                died_from,
                died_before,
            },
            action,
            per_sec,
            next,
            last,
            moved,
            done,
        })
    }
}

impl QueuePartition {
    /// Does `action` to every dead letter of now that matches, the oldest
    /// first, `per_sec` a second (0 = as fast as a turn allows). Replaces a
    /// redrive at work. A restart goes on where it was; acknowledge when all
    /// ops there are now are committed.
    ///
    /// # Errors
    /// [`QueueError`]; nothing has changed.
    pub fn redrive(
        &mut self,
        now: Monotonic,
        wall: WallMs,
        group: &[u8],
        filter: DeadFilter,
        action: DeadAction,
        per_sec: u32,
    ) -> Result<(), QueueError> {
        if self.fenced {
            return Err(QueueError::Fenced);
        }
        check_range(filter.error_prefix.len() as u64, ERROR_BYTES_MAX as u64)?;
        if self.is_unused_default(group) {
            return Ok(());
        }
        let group = self.open_group(group)?;
        self.see(now, wall);
        let row = self.t.group(group);
        let last = row.dead.last_key_value().map(|(id, _)| *id);
        if last.is_none() && row.redrive.is_none() {
            // Nothing to do, and nothing at work to be replaced.
            return Ok(());
        }
        let state = RedriveState {
            filter,
            action,
            per_sec: if per_sec == 0 { u32::MAX } else { per_sec },
            next: 0,
            last: last.unwrap_or(0),
            moved: 0,
            done: last.is_none(),
        };
        self.queue(Effect::Redrive(group, wall, Box::new(state.clone())));
        self.start_redrive(group, state);
        self.disarm(Timer::Redrive(group));
        self.redrive_due(group);
        Ok(())
    }

    fn start_redrive(&mut self, group: u8, state: RedriveState) {
        self.t.group_mut(group).redrive = Some(Box::new(Redrive {
            state,
            bucket: Bucket::default(),
        }));
    }

    /// How far the latest redrive of a group is; `None` if there was none
    /// since the partition was opened, and none was at work then.
    ///
    /// # Errors
    /// [`QueueError::UnknownGroup`].
    pub fn redrive_status(&self, group: &[u8]) -> Result<Option<RedriveStatus>, QueueError> {
        if self.is_unused_default(group) {
            return Ok(None);
        }
        let group = self.open_group(group)?;
        let redrive = self.t.group(group).redrive.as_ref();
        Ok(redrive.map(|r| RedriveStatus {
            moved: r.state.moved,
            done: r.state.done,
        }))
    }

    /// The next letters of a redrive, [`BATCH_MAX`] at most. Its timer is not
    /// armed.
    pub(super) fn redrive_due(&mut self, group: u8) {
        if self.fenced || self.t.group(group).life != Life::Open {
            return;
        }
        let Some(mut redrive) = self.t.group_mut(group).redrive.take() else {
            return;
        };
        let Redrive { state, bucket } = &mut *redrive;
        // A hundredth of a second's worth at once, so that timers stay few.
        let burst = (state.per_sec / 100).max(1);
        let (mut looked, mut moved) = (0, 0);
        let was_done = state.done;
        while !state.done && looked < SCAN_MAX && moved < BATCH_MAX {
            if bucket.next(state.per_sec, burst) > self.clock {
                break;
            }
            let next = self
                .t
                .group(group)
                .dead
                .range(state.next..=state.last.max(state.next))
                .next()
                .map(|(id, entry)| (*id, *entry));
            let Some((id, entry)) = next.filter(|(id, _)| *id <= state.last) else {
                state.done = true;
                break;
            };
            state.next = id + 1;
            looked += 1;
            if self.matches(&state.filter, entry) {
                self.settle_dead(group, entry, state.action);
                bucket.take(self.clock, state.per_sec);
                state.moved += 1;
                moved += 1;
            }
        }
        if moved > 0 || state.done != was_done {
            // Behind the batch: were it before, a crash between the two would
            // leave letters out.
            let wall = self.wall;
            self.queue(Effect::Redrive(group, wall, Box::new(state.clone())));
        }
        if !state.done {
            let next = bucket.next(state.per_sec, burst);
            self.arm(Timer::Redrive(group), next.max(self.clock));
        }
        self.t.group_mut(group).redrive = Some(redrive);
    }

    /// What a redrive has said of itself is durable.
    pub(super) fn apply_redrive(&mut self, group: u8, state: Box<RedriveState>) {
        self.t.group_mut(group).redrive_kept = (!state.done).then_some(state);
    }

    /// Redrives that were at work when the node stopped go on.
    pub(super) fn resume_redrives(&mut self) {
        for group in self.groups() {
            if let Some(kept) = self.t.group(group).redrive_kept.clone() {
                self.start_redrive(group, *kept);
                self.arm(Timer::Redrive(group), self.clock);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redrive_has_the_documented_bytes() {
        // Derived by hand from the table in the head of `ops`.
        let state = RedriveState {
            filter: DeadFilter {
                reason: Some(DeadReason::LeaseExpired),
                error_prefix: b"no".to_vec(),
                died_from: Some(WallMs(0x0102)),
                died_before: None,
            },
            action: DeadAction::Purge,
            per_sec: 300,
            next: 5,
            last: 9,
            moved: 4,
            done: false,
        };
        let bytes = [
            2, 3, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 44, 1, 0, 0, //
            5, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, //
            0, 2, b'n', b'o',
        ];
        let mut out = Vec::new();
        state.encode(&mut out);
        assert_eq!(out, bytes);
        assert_eq!(RedriveState::decode(&mut Read(&bytes)), Some(state));
        for cut in 0..bytes.len() {
            assert_eq!(RedriveState::decode(&mut Read(&bytes[..cut])), None);
        }
        for (at, value) in [(0, 3), (1, 4), (46, 2)] {
            let mut wrong = bytes;
            wrong[at] = value;
            assert_eq!(RedriveState::decode(&mut Read(&wrong)), None);
        }
    }
}
