//! The fold: what a committed op does. Live commits and replay come through
//! the same functions, so a restart finds what was there.
//!
//! Until [`super::QueuePartition::ready`] there is no clock: entries that will
//! be ready or delayed stay `Restored`, no timer is armed and no key has a turn.

use core::hash::Hasher;

use bytes::Bytes;
use pinion_types::{Monotonic, WallMs};
use siphasher::sip::SipHasher13;

use super::group::{KeyTurn, Life};
use super::messages::{Message, State};
use super::ops::{self, Item};
use super::partition::{PutEffect, QueuePartition, Verdict, bits};
use super::pool::{List, NIL, Row, Timer};

/// Error text of an attempt whose reservation ran out.
pub const LAPSED: &[u8] = b"lease expired";

/// Key of the hash that tells message keys apart. It is part of the snapshot,
/// so it never changes; two keys with one hash only wait for each other.
const KEY_HASH: (u64, u64) = (0x7069_6e69_6f6e, 0x71_7565_7565);

fn key_hash(key: &[u8]) -> u64 {
    if key.is_empty() {
        return 0;
    }
    let mut hasher = SipHasher13::new_with_keys(KEY_HASH.0, KEY_HASH.1);
    hasher.write(key);
    hasher.finish().max(1)
}

impl QueuePartition {
    pub(super) fn apply_put(&mut self, put: PutEffect) {
        let record = self.t.records.alloc();
        let body = put.body;
        let row = &mut self.t.records[record];
        row.first = put.first;
        row.count = put.count;
        row.live = put.count;
        row.timestamp = put.timestamp;
        row.delay_ms = put.delay_ms;
        row.ttl_ms = put.ttl_ms;
        row.due = put.due;
        row.expires = put.expires;
        row.location = put.location;
        row.body_len = u32::try_from(body.len()).expect("a body is at most a frame");
        let timer = put.due.min(put.expires);
        let mut id = put.first;
        for (pos, len, key) in ops::spans(&body) {
            self.add_message(
                Message {
                    id,
                    record,
                    pos,
                    len,
                    key: key_hash(key),
                    delayed: put.delay_ms > 0,
                    ..Message::vacant()
                },
                if put.delay_ms > 0 { timer } else { put.expires },
            );
            id += 1;
        }
        assert_eq!(
            id,
            put.first + u64::from(put.count),
            "a put was checked before it was taken"
        );
        self.next_id = self.next_id.max(id);
        self.committed_id = id;
        self.keep_body(record, body);
        for group in self.groups() {
            self.watch_progress(group);
            self.kick(group);
        }
    }

    /// Adds a committed message behind the others.
    pub(super) fn add_message(&mut self, message: Message, timer: Monotonic) {
        let row = self.t.messages.alloc();
        let (id, delayed, len) = (message.id, message.delayed, message.len);
        self.t.messages[row] = message;
        self.index.push(id, row);
        self.bytes += u64::from(len);
        if delayed {
            self.delayed += 1;
        } else {
            self.ready.push_back(&mut self.t.messages, row);
        }
        if self.started {
            self.arm(Timer::Message(row), timer);
        }
    }

    /// The delay of a message is over.
    pub(super) fn undelay(&mut self, message: u32) {
        let row = &mut self.t.messages[message];
        row.delayed = false;
        let touched = row.touched;
        self.delayed -= 1;
        self.ready.push_back(&mut self.t.messages, message);
        for group in bits(touched) {
            let group = self.t.group_mut(group);
            group.touched_delayed -= 1;
            group.touched += 1;
        }
        self.kick_all();
    }

    /// One message of an op about several. `due` counts only for a live one.
    pub(super) fn apply(&mut self, verdict: &Verdict, message: u32, item: Item, due: Monotonic) {
        let group = verdict.group;
        match verdict.kind {
            ops::ACK | ops::PURGE => self.finish(message, group),
            ops::DROP => {
                self.t.group_mut(group).counters.dropped += u64::from(self.started);
                self.finish(message, group);
            }
            ops::NACK | ops::LAPSE => {
                let error = if verdict.kind == ops::NACK {
                    verdict.error.clone()
                } else {
                    Bytes::from_static(LAPSED)
                };
                self.apply_failed(message, verdict, item, due, error);
            }
            ops::DEAD => self.apply_dead(message, verdict, item.attempts),
            ops::REPLAY => self.apply_replay(message, group),
            _ => unreachable!("only these kinds are about several messages"),
        }
    }

    /// The group is done with the message, whatever state it had.
    pub(super) fn finish(&mut self, message: u32, group: u8) {
        let bit = 1 << group;
        let row = &self.t.messages[message];
        if row.done & bit != 0 {
            return;
        }
        let len = u64::from(row.len);
        self.touch(message, group);
        if let Some(entry) = self.entry_of(message, group) {
            self.detach(entry);
            self.yield_key(entry);
            self.free_entry(entry);
        }
        self.t.messages[message].done |= bit;
        let clock = self.clock;
        let row = self.t.group_mut(group);
        row.done += 1;
        row.done_bytes += len;
        row.progress = clock;
        self.gone_if_done(message);
    }

    fn gone_if_done(&mut self, message: u32) {
        let done = self.t.messages[message].done;
        if self.group_mask != 0 && done & self.group_mask == self.group_mask {
            self.gone(message);
        }
    }

    /// Forgets a message that nobody wants any more.
    pub(super) fn gone(&mut self, message: u32) {
        self.disarm(Timer::Message(message));
        let row = &self.t.messages[message];
        assert_eq!(row.entry, NIL, "a message that is gone is in no group");
        let (record, touched, done, delayed) = (row.record, row.touched, row.done, row.delayed);
        let (len, prev) = (row.len, row.link.prev);
        for group in bits(touched) {
            let group = self.t.group_mut(group);
            if delayed {
                group.touched_delayed -= 1;
            } else {
                group.touched -= 1;
            }
        }
        for group in bits(done) {
            let group = self.t.group_mut(group);
            group.done -= 1;
            group.done_bytes -= u64::from(len);
        }
        if delayed {
            self.delayed -= 1;
        } else {
            for group in self.t.groups.iter_mut().flatten() {
                if group.after == message {
                    group.after = prev;
                }
            }
            self.ready.remove(&mut self.t.messages, message);
        }
        self.bytes -= u64::from(len);
        self.t.messages[message].len = 0;
        self.t.messages.free(message);
        self.index.tidy(&self.t.messages);
        let row = &mut self.t.records[record];
        row.live -= 1;
        if row.live == 0 {
            self.release_record(record);
        }
    }

    fn apply_failed(
        &mut self,
        message: u32,
        verdict: &Verdict,
        item: Item,
        due: Monotonic,
        error: Bytes,
    ) {
        if self.t.messages[message].done & (1 << verdict.group) != 0 {
            return;
        }
        let entry = self.entry_for(message, verdict.group);
        self.detach(entry);
        let row = &mut self.t.entries[entry];
        row.attempts = item.attempts;
        let trouble = row.trouble_mut();
        trouble.error = Some(error);
        trouble.since = verdict.timestamp;
        trouble.delay_ms = item.delay_ms;
        if !self.started {
            return;
        }
        if item.delay_ms == 0 || due <= self.clock {
            self.make_returned(entry);
        } else {
            self.make_delayed(entry, due);
        }
    }

    pub(super) fn make_delayed(&mut self, entry: u32, due: Monotonic) {
        let row = &mut self.t.entries[entry];
        row.state = State::Delayed;
        let group = row.group;
        self.t.group_mut(group).delayed += 1;
        self.arm(Timer::Entry(entry), due);
    }

    fn apply_dead(&mut self, message: u32, verdict: &Verdict, attempts: u16) {
        let group = verdict.group;
        if self.t.messages[message].done & (1 << group) != 0 {
            return;
        }
        let entry = self.entry_for(message, group);
        self.detach(entry);
        self.yield_key(entry);
        let row = &mut self.t.entries[entry];
        row.attempts = attempts;
        let trouble = row.trouble_mut();
        if !verdict.error.is_empty() {
            trouble.error = Some(verdict.error.clone());
        }
        trouble.dead = verdict.reason;
        trouble.since = verdict.timestamp;
        self.bury(entry);
        let (clock, started) = (self.clock, self.started);
        let row = self.t.group_mut(group);
        row.counters.dead += u64::from(started);
        row.progress = clock;
    }

    /// Puts a dead entry among the dead.
    pub(super) fn bury(&mut self, entry: u32) {
        let id = self.id_of(entry);
        let row = &mut self.t.entries[entry];
        row.state = State::Dead;
        let group = row.group;
        self.t.group_mut(group).dead.insert(id, entry);
        self.dead += 1;
    }

    fn apply_replay(&mut self, message: u32, group: u8) {
        let Some(entry) = self.entry_of(message, group) else {
            return;
        };
        self.detach(entry);
        let row = &mut self.t.entries[entry];
        row.attempts = 0;
        row.trouble = None;
        row.trouble_mut().replayed = true;
        if self.started {
            self.take_turn(entry);
        }
    }

    /// Makes an entry ready, behind whoever has the turn of its key.
    pub(super) fn take_turn(&mut self, entry: u32) {
        if self.claim_key(entry) {
            self.make_ready(entry);
        }
    }

    /// Whether the entry has the turn of its key now; otherwise it is parked.
    pub(super) fn claim_key(&mut self, entry: u32) -> bool {
        let row = &self.t.entries[entry];
        let (group, key) = (row.group, self.t.messages[row.message].key);
        if !self.config.ordered_by_key || key == 0 || row.owns_key {
            return true;
        }
        let row = self.t.groups[usize::from(group)]
            .as_mut()
            .expect("a group in use exists");
        if let Some(turn) = row.keys.get_mut(&key) {
            turn.waiting.push_back(&mut self.t.entries, entry);
            row.parked += 1;
            self.t.entries[entry].state = State::Parked;
            return false;
        }
        let waiting = List::EMPTY;
        row.keys.insert(key, KeyTurn { waiting });
        self.t.entries[entry].owns_key = true;
        true
    }

    /// The message expired while there was no group.
    pub(super) fn apply_drop(&mut self, id: u64) {
        if let Some(message) = self.index.find(&self.t.messages, id)
            && self.t.messages[message].entry == NIL
        {
            self.bodies.dropped += 1;
            self.gone(message);
        }
    }

    /// `from`: the group is done with what has an id below. That is a walk over
    /// the messages there are; making such a group is an act of an administrator.
    pub(super) fn apply_group_create(&mut self, group: u8, from: Option<u64>) {
        let row = self.t.group_mut(group);
        if row.life == Life::Creating {
            row.life = Life::Open;
        }
        self.group_mask |= 1 << group;
        if let Some(from) = from {
            let messages: Vec<u32> = self.index.from(&self.t.messages, 0).collect();
            for message in messages {
                if self.t.messages[message].id < from {
                    self.finish(message, group);
                }
            }
            // Puts are committed in the order of their ids: there is no later one.
            let after = self.ready.tail;
            let row = self.t.group_mut(group);
            row.after = after;
            row.prefix = from;
        }
        self.watch_progress(group);
        self.kick(group);
    }

    /// O(messages + entries): deleting a group is an act of an administrator.
    pub(super) fn apply_group_delete(&mut self, group: u8) {
        let bit = 1_u64 << group;
        for entry in 0..u32::try_from(self.t.entries.rows().len()).expect("bounded") {
            let row = &self.t.entries[entry];
            if row.group == group && row.state != State::Free {
                self.detach(entry);
                // The turns go with the group; nobody is to be told.
                self.t.entries[entry].owns_key = false;
                self.free_entry(entry);
            }
        }
        for timer in [
            Timer::Refill(group),
            Timer::Stuck(group),
            Timer::Redrive(group),
        ] {
            self.disarm(timer);
        }
        self.end_demands_of(group);
        self.drop_consumers_of(group);
        self.group_mask &= !bit;
        for message in 0..u32::try_from(self.t.messages.rows().len()).expect("bounded") {
            let row = &mut self.t.messages[message];
            if row.len == 0 {
                continue;
            }
            let undone = row.done & bit == 0;
            row.done &= !bit;
            row.touched &= !bit;
            if self.group_mask == 0 {
                // The last group goes and is done with everything.
                if undone {
                    self.gone(message);
                }
            } else {
                self.gone_if_done(message);
            }
        }
        self.active.retain(|g| *g != group);
        self.stuck.retain(|g| *g != group);
        if let Some(row) = self.t.groups[usize::from(group)].take() {
            self.gone.add(&row.counters);
        }
    }

    fn entry_for(&mut self, message: u32, group: u8) -> u32 {
        match self.entry_of(message, group) {
            Some(entry) => entry,
            None => self.new_entry(message, group),
        }
    }

    pub(super) fn verdict(&self, kind: u8, group: u8) -> Verdict {
        Verdict {
            kind,
            group,
            reason: None,
            error: Bytes::new(),
            timestamp: self.wall,
        }
    }
}

/// Milliseconds of a delay of `delay_ms`, counted from `since`, that are left
/// at `wall`. A clock that was set back gives the whole delay again, never more
/// and never less; one that was set forward ends it early.
pub(super) fn remaining_ms(since: WallMs, delay_ms: u64, wall: WallMs) -> u64 {
    delay_ms.saturating_sub(wall.0.saturating_sub(since.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_set_back_neither_shortens_a_delay_nor_makes_it_longer_than_it_was() {
        assert_eq!(remaining_ms(WallMs(1000), 500, WallMs(1200)), 300);
        assert_eq!(remaining_ms(WallMs(5000), 500, WallMs(1000)), 500);
        assert_eq!(remaining_ms(WallMs(1000), 500, WallMs(9000)), 0);
    }

    #[test]
    fn only_the_empty_key_is_no_key() {
        assert_eq!(key_hash(b""), 0);
        assert_ne!(key_hash(b"a"), 0);
        assert_ne!(key_hash(b"a"), key_hash(b"b"));
    }
}
