//! What time does: delays and times to live end, reservations run out, buckets
//! fill, and a group that stands still is noticed.

use bytes::Bytes;
use core::time::Duration;
use pinion_types::wheel::TimerLink;
use pinion_types::{Monotonic, WallMs};

use super::group::Life;
use super::messages::{DeadReason, State};
use super::ops;
use super::partition::{Effect, QueuePartition, Settled, Verdict, after_ms, bits};
use super::pool::Timer;
use super::serve::is_replayed;
use super::why::Why;

/// Timers handled in one call; each costs well below a microsecond. More
/// finishes a storm sooner and keeps the core for longer.
pub const TIMERS_PER_CALL: u32 = 2048;

/// How soon an expired message that someone has in flight is looked at again.
const EXPIRED_AGAIN: Duration = Duration::from_secs(1);

impl QueuePartition {
    /// Does what has become due, [`TIMERS_PER_CALL`] things at most; with more
    /// to do, [`QueuePartition::next_deadline`] lies in the past. What it
    /// decides are ops like any other.
    pub fn handle_timeout(&mut self, now: Monotonic, wall: WallMs) {
        self.see(now, wall);
        if self.fenced {
            return;
        }
        let mut budget = TIMERS_PER_CALL;
        while let Some(wheel) = &mut self.wheel
            && let Some(index) = wheel.pop_due(&mut self.t, now, &mut budget)
        {
            match Timer::of(index) {
                Timer::Message(message) => self.message_due(message),
                Timer::Entry(entry) => self.entry_due(entry),
                Timer::Demand(demand) => self.demand_due(demand),
                Timer::Refill(group) => self.kick(group),
                Timer::Stuck(group) => self.progress_due(group),
                Timer::Redrive(group) => self.redrive_due(group),
            }
        }
    }

    /// When [`QueuePartition::handle_timeout`] next has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Monotonic> {
        if self.fenced {
            return None;
        }
        self.wheel.as_ref()?.next_deadline()
    }

    fn message_due(&mut self, message: u32) {
        let row = &mut self.t.messages[message];
        row.timer = TimerLink::IDLE;
        let (delayed, record) = (row.delayed, row.record);
        let put = &self.t.records[record];
        let (due, expires) = (put.due, put.expires);
        let expired = expires <= self.clock;
        if delayed && (expired || due <= self.clock) {
            self.undelay(message);
        }
        if expired {
            self.expire(message);
        } else {
            let next = if self.t.messages[message].delayed {
                due.min(expires)
            } else {
                expires
            };
            self.arm(Timer::Message(message), next);
        }
    }

    /// The time to live of a message is over: every group that neither is done
    /// with it nor has it in flight is told so. Those that have it in flight
    /// may still finish it.
    fn expire(&mut self, message: u32) {
        if self.fenced {
            return;
        }
        let mut again = false;
        let mut any = false;
        for group in self.groups() {
            any = true;
            if self.t.group(group).life != Life::Open {
                again = true;
                continue;
            }
            if self.t.messages[message].done & (1 << group) != 0 {
                continue;
            }
            match self.entry_of(message, group) {
                None => self.expire_in(message, group),
                Some(entry) => match self.t.entries[entry].state {
                    State::InFlight | State::Settling => again = true,
                    State::Dead => {}
                    _ if is_replayed(&self.t.entries[entry]) => {}
                    _ => self.expire_in(message, group),
                },
            }
        }
        if !any {
            let wall = self.wall;
            if !self.config.dead_letter_expired {
                let id = self.t.messages[message].id;
                self.queue(Effect::DropMessage(id, wall));
                return;
            }
            // A dead letter needs a group to be found in.
            let made = self.new_group(wall, b"", None);
            assert!(made.is_ok(), "a queue without groups has room for one");
            again = true;
        }
        if again {
            self.arm(Timer::Message(message), self.clock + EXPIRED_AGAIN);
        }
    }

    /// Ends an expired message for one group that does not have it in flight.
    pub(super) fn expire_in(&mut self, message: u32, group: u8) {
        let entry = match self.entry_of(message, group) {
            Some(entry) => entry,
            None => self.new_entry(message, group),
        };
        let row = &self.t.entries[entry];
        let (attempts, ended) = (row.attempts, row.ended);
        let dead = self.config.dead_letter_expired;
        let verdict = Verdict {
            kind: if dead { ops::DEAD } else { ops::DROP },
            reason: dead.then_some(DeadReason::Expired),
            error: Bytes::new(),
            ..self.verdict(ops::DEAD, group)
        };
        self.settle(
            verdict,
            ended,
            Settled {
                entry,
                attempts,
                delay_ms: 0,
                tag: 0,
            },
        );
    }

    // ------------------------------------------------------------------- stuck

    /// Sees to it that the group is looked at when it makes no progress.
    pub(super) fn watch_progress(&mut self, group: u8) {
        if !self.started || self.t.group(group).stuck.is_armed() {
            return;
        }
        let at = after_ms(self.clock, u64::from(self.config.stuck_after_ms).max(1));
        self.arm(Timer::Stuck(group), at);
    }

    fn progress_due(&mut self, group: u8) {
        let row = self.t.group(group);
        let quiet_until = after_ms(row.progress, u64::from(self.config.stuck_after_ms).max(1));
        if quiet_until > self.clock {
            self.arm(Timer::Stuck(group), quiet_until);
            return;
        }
        let counts = self.counts(group);
        if counts.ready + counts.blocked == 0 {
            // The next put looks after it again.
            return;
        }
        let row = self.t.group_mut(group);
        let wanted = row.demands > 0 || row.in_flight > 0;
        if wanted && !row.stuck_told {
            row.stuck_told = true;
            row.counters.stuck += 1;
            self.stuck.push_back(group);
        }
        self.watch_progress(group);
    }

    /// A group that has ready messages and consumers and has made no progress
    /// for `stuck_after_ms`, and why. Told once until it moves again.
    pub fn poll_stuck(&mut self, now: Monotonic, wall: WallMs) -> Option<(Vec<u8>, Why)> {
        let group = self.stuck.pop_front()?;
        let name = self.t.group(group).name.to_vec();
        let why = self.why(now, wall, &name).ok()?;
        Some((name, why))
    }

    /// Bits of the groups in use by the log.
    pub(super) fn group_bits(&self) -> impl Iterator<Item = u8> + use<> {
        bits(self.group_mask)
    }
}
