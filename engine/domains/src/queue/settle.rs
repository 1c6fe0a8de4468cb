//! What a consumer says about its reservations, and what ends them without
//! its word.

use bytes::Bytes;
use pinion_types::wheel::TimerLink;
use pinion_types::{Monotonic, SessionId, WallMs};

use super::apply::LAPSED;
use super::config::{BATCH_MAX, ERROR_BYTES_MAX, LEASE_MS_MAX, QueueError, TIME_MS_MAX};
use super::group::Life;
use super::messages::{DeadReason, Ended, State};
use super::ops;
use super::partition::{OpNumber, QueuePartition, Settled, Verdict, after_ms};
use super::pool::{NIL, Timer};
use super::tokens::Token;

/// What became of one token of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenResult {
    /// Done, or done before by an equal request; holds once the op named in
    /// the answer is committed.
    Done,
    /// Of no reservation, or of one that ended otherwise.
    Invalid,
    /// The reservation ran out or its session went.
    Expired,
}

/// A token's standing.
enum Standing {
    /// Reserved: the entry.
    Held(u32),
    /// Over, and how it ended. The op may still be on its way.
    Over(Ended),
    Invalid,
}

impl QueuePartition {
    fn standing(&mut self, token: Token) -> Standing {
        if self.done_acks.contains(self.clock, token.tag) {
            return Standing::Over(Ended::Ack);
        }
        if !token.is_genuine(&self.secret) {
            return Standing::Invalid;
        }
        let Some(entry) = self.t.entries.get(token.slot) else {
            return Standing::Invalid;
        };
        if entry.generation != token.generation || entry.state == State::Free {
            // A later reservation of the row, or none: whatever became of this
            // one, its time is over.
            return Standing::Over(Ended::Lost);
        }
        match entry.state {
            // No op about a group may follow the one that deletes it.
            State::InFlight if self.t.group(entry.group).life != Life::Open => {
                Standing::Over(Ended::Lost)
            }
            State::InFlight => Standing::Held(token.slot),
            _ => Standing::Over(entry.ended),
        }
    }

    fn check_batch(&self, len: usize) -> Result<(), QueueError> {
        if self.fenced {
            return Err(QueueError::Fenced);
        }
        if len > BATCH_MAX {
            return Err(QueueError::OutOfRange {
                actual: len as u64,
                limit: BATCH_MAX as u64,
            });
        }
        Ok(())
    }

    /// Handles each token; `held` is what happens to a reservation that holds.
    fn each(
        &mut self,
        tokens: &[Token],
        like: Ended,
        results: &mut Vec<TokenResult>,
        mut held: impl FnMut(&mut Self, u32, Token),
    ) -> OpNumber {
        let mut done = OpNumber(0);
        for token in tokens {
            let result = match self.standing(*token) {
                Standing::Held(entry) => {
                    held(self, entry, *token);
                    TokenResult::Done
                }
                Standing::Over(ended) if ended == like => TokenResult::Done,
                Standing::Over(Ended::Lost) => TokenResult::Expired,
                Standing::Over(_) | Standing::Invalid => TokenResult::Invalid,
            };
            if result == TokenResult::Done {
                // Of a repeat, the first op is at most the last one there is.
                done = self.numbered();
            }
            results.push(result);
        }
        done
    }

    /// The messages of these reservations are processed: their group is done
    /// with them. A result per token is appended to `results`; acknowledge
    /// when the op named in the answer is committed. Until then the messages
    /// stay reserved, also when their time runs out meanwhile.
    ///
    /// # Errors
    /// [`QueueError::OutOfRange`], [`QueueError::Fenced`]; nothing has changed.
    pub fn ack(
        &mut self,
        now: Monotonic,
        wall: WallMs,
        tokens: &[Token],
        results: &mut Vec<TokenResult>,
    ) -> Result<OpNumber, QueueError> {
        self.check_batch(tokens.len())?;
        self.see(now, wall);
        Ok(
            self.each(tokens, Ended::Ack, results, |queue, entry, token| {
                let verdict = queue.verdict(ops::ACK, queue.t.entries[entry].group);
                let settled = Settled {
                    entry,
                    attempts: 0,
                    delay_ms: 0,
                    tag: token.tag,
                };
                queue.settle(verdict, Ended::Ack, settled);
            }),
        )
    }

    /// The attempts failed: the messages come again after `delay_ms`, or after
    /// a backoff if that is `None`, or are dead letters if this was their last
    /// attempt. `error` is kept with them.
    ///
    /// # Errors
    /// [`QueueError::OutOfRange`], [`QueueError::Fenced`]; nothing has changed.
    pub fn nack(
        &mut self,
        now: Monotonic,
        wall: WallMs,
        tokens: &[Token],
        delay_ms: Option<u64>,
        error: &[u8],
        results: &mut Vec<TokenResult>,
    ) -> Result<OpNumber, QueueError> {
        self.check_batch(tokens.len())?;
        check_range(error.len() as u64, ERROR_BYTES_MAX as u64)?;
        check_range(delay_ms.unwrap_or(0), TIME_MS_MAX)?;
        self.see(now, wall);
        let error = Bytes::copy_from_slice(error);
        Ok(self.each(tokens, Ended::Nack, results, |queue, entry, _| {
            let group = queue.t.entries[entry].group;
            queue.t.group_mut(group).counters.nacked += 1;
            queue.fail(ops::NACK, entry, delay_ms, error.clone());
        }))
    }

    /// One more attempt of the entry failed.
    fn fail(&mut self, kind: u8, entry: u32, delay_ms: Option<u64>, error: Bytes) {
        let row = &self.t.entries[entry];
        let (group, attempts) = (row.group, row.attempts.saturating_add(1));
        let ended = if kind == ops::NACK {
            Ended::Nack
        } else {
            Ended::Lost
        };
        let mut verdict = Verdict {
            error,
            ..self.verdict(kind, group)
        };
        let mut delay = 0;
        if attempts >= self.config.max_attempts {
            verdict.kind = ops::DEAD;
            verdict.reason = Some(if kind == ops::NACK {
                DeadReason::Failed
            } else {
                DeadReason::LeaseExpired
            });
        } else {
            delay = delay_ms.unwrap_or_else(|| self.backoff(attempts));
            if kind == ops::LAPSE {
                verdict.error = Bytes::new();
            }
        }
        let due = after_ms(self.clock, delay);
        self.settle(
            verdict,
            ended,
            Settled {
                entry,
                attempts,
                delay_ms: delay,
                tag: 0,
            },
        );
        self.t.entries[entry].at = due;
    }

    /// Doubles with each attempt up to the most, the upper half of it random:
    /// messages that failed together do not come back together.
    fn backoff(&mut self, attempts: u16) -> u64 {
        let min = u64::from(self.config.backoff_min_ms);
        let max = u64::from(self.config.backoff_max_ms);
        let doubled = min.saturating_mul(1 << u32::from(attempts - 1).min(31));
        let delay = doubled.min(max);
        let half = delay / 2;
        delay - half + self.random() % (half + 1)
    }

    /// SplitMix64 (Steele, Lea & Flood, OOPSLA '14): jitter needs no more.
    pub(super) fn random(&mut self) -> u64 {
        self.rng = self.rng.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.rng;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The reservations last `lease_ms` from now on; sooner or later than before.
    ///
    /// # Errors
    /// [`QueueError::OutOfRange`], [`QueueError::Fenced`]; nothing has changed.
    pub fn extend(
        &mut self,
        now: Monotonic,
        wall: WallMs,
        tokens: &[Token],
        lease_ms: u32,
        results: &mut Vec<TokenResult>,
    ) -> Result<(), QueueError> {
        self.check_batch(tokens.len())?;
        check_range(u64::from(lease_ms), u64::from(LEASE_MS_MAX))?;
        self.see(now, wall);
        let deadline = after_ms(now, u64::from(lease_ms));
        // A reservation that is over is not extended, however it ended.
        self.each(tokens, Ended::No, results, |queue, entry, _| {
            queue.arm(Timer::Entry(entry), deadline);
        });
        Ok(())
    }

    /// Gives the messages back untouched: ready at once, the attempt not counted.
    ///
    /// # Errors
    /// [`QueueError::OutOfRange`], [`QueueError::Fenced`]; nothing has changed.
    pub fn release(
        &mut self,
        now: Monotonic,
        wall: WallMs,
        tokens: &[Token],
        results: &mut Vec<TokenResult>,
    ) -> Result<(), QueueError> {
        self.check_batch(tokens.len())?;
        self.see(now, wall);
        self.each(tokens, Ended::Release, results, |queue, entry, _| {
            queue.detach(entry);
            queue.t.entries[entry].ended = Ended::Release;
            queue.make_ready(entry);
        });
        Ok(())
    }

    /// A connection has gone: its waiting takes and subscriptions with it, and
    /// its messages are ready again, at the group's rate of redelivery,
    /// attempts as they were. O(what it had).
    pub fn session_ended(&mut self, now: Monotonic, wall: WallMs, session: SessionId) {
        self.see(now, wall);
        while let Some((key, consumer)) = self.next_consumer_of(session) {
            self.end_consumer(key, consumer);
        }
        self.names.timed_out.retain(|told| told.2 != session);
        self.names.ended.retain(|told| told.2 != session);
    }

    /// Gives back all a consumer has reserved.
    pub(super) fn return_all(&mut self, consumer: u32) {
        loop {
            let entry = self.consumers[consumer].reservations.head;
            if entry == NIL {
                return;
            }
            self.detach(entry);
            self.t.entries[entry].ended = Ended::Lost;
            self.make_returned(entry);
        }
    }

    /// The timer of an entry: its reservation or its backoff is over.
    pub(super) fn entry_due(&mut self, entry: u32) {
        let row = &mut self.t.entries[entry];
        row.timer = TimerLink::IDLE;
        let group = row.group;
        match row.state {
            State::InFlight => {
                if self.t.group(group).life != Life::Open {
                    return;
                }
                self.t.group_mut(group).counters.lapsed += 1;
                self.fail(ops::LAPSE, entry, None, Bytes::from_static(LAPSED));
            }
            State::Delayed => {
                self.detach(entry);
                self.make_returned(entry);
            }
            _ => {}
        }
    }
}

pub(super) fn check_range(actual: u64, limit: u64) -> Result<(), QueueError> {
    if actual > limit {
        return Err(QueueError::OutOfRange { actual, limit });
    }
    Ok(())
}
