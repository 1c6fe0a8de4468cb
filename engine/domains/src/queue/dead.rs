//! Dead letters: listed, replayed, purged, and moved back at a measured pace.

use bytes::Bytes;
use pinion_types::wheel::TimerLink;
use pinion_types::{Monotonic, WallMs};

use super::config::{BATCH_MAX, PAGE_MAX, QueueError};
use super::group::{Bucket, Life};
use super::messages::{DeadReason, State};
use super::ops;
use super::partition::{OpNumber, QueuePartition, Settled};
use super::pool::Timer;
use super::serve::SCAN_MAX;
use super::settle::check_range;
use super::why::Body;

/// One dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Message id.
    pub id: u64,
    /// Why it is dead.
    pub reason: DeadReason,
    /// Attempts that failed.
    pub attempts: u16,
    /// Text of the last failure.
    pub last_error: Option<Bytes>,
    /// When it was put.
    pub enqueued: WallMs,
    /// When it died.
    pub died: WallMs,
    /// Key, headers and value.
    pub body: Body,
}

/// Which dead letters; the default is all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadFilter {
    /// Of this reason only.
    pub reason: Option<DeadReason>,
    /// Whose last error begins so.
    pub error_prefix: Vec<u8>,
    /// That died at this time or later.
    pub died_from: Option<WallMs>,
    /// That died before this time.
    pub died_before: Option<WallMs>,
}

/// What a redrive does with the letters it finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadAction {
    /// Ready again, attempts at 0.
    Replay,
    /// Removed.
    Purge,
}

/// A redrive at work, or the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedriveStatus {
    /// Letters moved.
    pub moved: u64,
    /// It has looked at all of them.
    pub done: bool,
}

#[derive(Debug)]
pub(super) struct Redrive {
    filter: DeadFilter,
    action: DeadAction,
    per_sec: u32,
    bucket: Bucket,
    /// Next id to look at, and the last.
    next: u64,
    last: u64,
    moved: u64,
    done: bool,
}

impl QueuePartition {
    /// A page of a group's dead letters from message `from` on, at most `max`
    /// and [`PAGE_MAX`], appended to `out`. The id to go on from, if there may
    /// be more. Looks at no more than [`SCAN_MAX`].
    ///
    /// # Errors
    /// [`QueueError::UnknownGroup`].
    pub fn dead_letters(
        &self,
        group: &[u8],
        from: u64,
        max: usize,
        filter: &DeadFilter,
        out: &mut Vec<DeadLetter>,
    ) -> Result<Option<u64>, QueueError> {
        let group = self.open_group(group)?;
        let max = max.clamp(1, PAGE_MAX);
        let (mut looked, mut found) = (0, 0);
        for (id, entry) in self.t.group(group).dead.range(from..) {
            if found == max || looked == SCAN_MAX {
                return Ok(Some(*id));
            }
            looked += 1;
            if self.matches(filter, *entry) {
                found += 1;
                out.push(self.letter(*entry));
            }
        }
        Ok(None)
    }

    fn letter(&self, entry: u32) -> DeadLetter {
        let row = &self.t.entries[entry];
        let trouble = row.trouble.as_ref().expect("a dead letter has a reason");
        let message = &self.t.messages[row.message];
        DeadLetter {
            id: message.id,
            reason: trouble.dead.expect("a dead letter has a reason"),
            attempts: row.attempts,
            last_error: trouble.error.clone(),
            enqueued: self.t.records[message.record].timestamp,
            died: trouble.since,
            body: self.body_of(row.message),
        }
    }

    fn matches(&self, filter: &DeadFilter, entry: u32) -> bool {
        let Some(trouble) = &self.t.entries[entry].trouble else {
            return false;
        };
        let error = trouble.error.as_deref().unwrap_or_default();
        filter.reason.is_none_or(|r| trouble.dead == Some(r))
            && error.starts_with(&filter.error_prefix)
            && filter.died_from.is_none_or(|from| trouble.since >= from)
            && filter
                .died_before
                .is_none_or(|before| trouble.since < before)
    }

    /// Makes these dead letters ready again, attempts at 0, or removes them;
    /// for each id appends to `results` whether there was such a letter.
    /// Acknowledge when the op in the answer is committed.
    ///
    /// # Errors
    /// [`QueueError`]; nothing has changed.
    pub fn dead_settle(
        &mut self,
        now: Monotonic,
        wall: WallMs,
        group: &[u8],
        action: DeadAction,
        ids: &[u64],
        results: &mut Vec<bool>,
    ) -> Result<OpNumber, QueueError> {
        if self.fenced {
            return Err(QueueError::Fenced);
        }
        check_range(ids.len() as u64, BATCH_MAX as u64)?;
        let group = self.open_group(group)?;
        self.see(now, wall);
        let mut done = OpNumber(0);
        for id in ids {
            let entry = self.t.group(group).dead.get(id).copied();
            if let Some(entry) = entry {
                self.settle_dead(group, entry, action);
                done = self.numbered();
            }
            results.push(entry.is_some());
        }
        Ok(done)
    }

    fn settle_dead(&mut self, group: u8, entry: u32, action: DeadAction) {
        let kind = match action {
            DeadAction::Replay => ops::REPLAY,
            DeadAction::Purge => ops::PURGE,
        };
        let row = &self.t.entries[entry];
        assert_eq!(row.state, State::Dead, "the dead are in their own map");
        let (attempts, ended) = (row.attempts, row.ended);
        self.settle(
            self.verdict(kind, group),
            ended,
            Settled {
                entry,
                attempts,
                delay_ms: 0,
                tag: 0,
            },
        );
    }

    /// Does `action` to every dead letter of now that matches, the oldest
    /// first, `per_sec` a second (0 = as fast as a turn allows). Replaces a
    /// redrive at work. Not resumed after a restart.
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
        check_range(
            filter.error_prefix.len() as u64,
            super::ERROR_BYTES_MAX as u64,
        )?;
        let group = self.open_group(group)?;
        self.see(now, wall);
        let row = self.t.group_mut(group);
        let last = row.dead.last_key_value().map(|(id, _)| *id);
        row.redrive = Some(Box::new(Redrive {
            filter,
            action,
            per_sec: if per_sec == 0 { u32::MAX } else { per_sec },
            bucket: Bucket::default(),
            next: 0,
            last: last.unwrap_or(0),
            moved: 0,
            done: last.is_none(),
        }));
        self.redrive_due(group);
        Ok(())
    }

    /// How far the latest redrive of a group is; `None` if there was none.
    ///
    /// # Errors
    /// [`QueueError::UnknownGroup`].
    pub fn redrive_status(&self, group: &[u8]) -> Result<Option<RedriveStatus>, QueueError> {
        let group = self.open_group(group)?;
        let redrive = self.t.group(group).redrive.as_ref();
        Ok(redrive.map(|r| RedriveStatus {
            moved: r.moved,
            done: r.done,
        }))
    }

    /// The next letters of a redrive, [`BATCH_MAX`] at most.
    pub(super) fn redrive_due(&mut self, group: u8) {
        self.t.group_mut(group).redrive_timer = TimerLink::IDLE;
        if self.fenced || self.t.group(group).life != Life::Open {
            return;
        }
        let Some(mut redrive) = self.t.group_mut(group).redrive.take() else {
            return;
        };
        // A hundredth of a second's worth at once, so that timers stay few.
        let burst = (redrive.per_sec / 100).max(1);
        let (mut looked, mut moved) = (0, 0);
        while !redrive.done && looked < SCAN_MAX && moved < BATCH_MAX {
            if redrive.bucket.next(redrive.per_sec, burst) > self.clock {
                break;
            }
            let next = self
                .t
                .group(group)
                .dead
                .range(redrive.next..=redrive.last.max(redrive.next))
                .next()
                .map(|(id, entry)| (*id, *entry));
            let Some((id, entry)) = next.filter(|(id, _)| *id <= redrive.last) else {
                redrive.done = true;
                break;
            };
            redrive.next = id + 1;
            looked += 1;
            if self.matches(&redrive.filter, entry) {
                self.settle_dead(group, entry, redrive.action);
                redrive.bucket.take(self.clock, redrive.per_sec);
                redrive.moved += 1;
                moved += 1;
            }
        }
        if !redrive.done {
            let next = redrive.bucket.next(redrive.per_sec, burst);
            self.arm(Timer::Redrive(group), next.max(self.clock));
        }
        self.t.group_mut(group).redrive = Some(redrive);
    }
}
