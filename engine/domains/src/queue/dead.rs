//! Dead letters: listed, replayed and purged. Many at a measured pace: see
//! `redrive.rs`.

use bytes::Bytes;
use pinion_types::{Monotonic, WallMs};

use super::config::{BATCH_MAX, PAGE_MAX, QueueError};
use super::messages::{DeadReason, State};
use super::ops;
use super::partition::{OpNumber, QueuePartition, Settled};
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
        if self.is_unused_default(group) {
            return Ok(None);
        }
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

    pub(super) fn matches(&self, filter: &DeadFilter, entry: u32) -> bool {
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
        if self.is_unused_default(group) {
            results.resize(results.len() + ids.len(), false);
            return Ok(OpNumber(0));
        }
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

    pub(super) fn settle_dead(&mut self, group: u8, entry: u32, action: DeadAction) {
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
}
