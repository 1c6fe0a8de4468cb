//! What clients were told about one partition of a queue, as each of its
//! consumer groups sees it.

mod lives;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use super::PlayerId;
use crate::{Violation, promise};
pub(crate) use lives::Birth;

/// Times are kept to the millisecond across a restart, and rounded twice.
const ROUNDING: u64 = 2_000_000;
/// Steps of a message's history that are kept.
const HISTORY: usize = 12;

/// Name of a consumer group.
pub(crate) type GroupName = &'static str;

/// A reservation that a client holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reservation {
    pub(crate) player: PlayerId,
    /// Nobody else may get the message before, in the world's nanoseconds.
    pub(crate) until: u64,
    pub(crate) attempt: u16,
}

/// When a message was given to a consumer: not before `since`, not after `now`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) since: u64,
    pub(crate) now: u64,
    /// How often somebody has set the wall clock so far.
    pub(crate) jumps: u64,
}

/// What was asked for a message when it was put.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PutTruth {
    /// When it was first sent.
    pub(crate) sent: u64,
    /// Not given out before, and not after, this long from its put; 0 is none.
    pub(crate) delay: u64,
    pub(crate) ttl: u64,
    /// Number of its key; messages of one key keep their order.
    pub(crate) key: u8,
    /// How often the wall clock had been set when it was sent.
    pub(crate) jumps: u64,
    /// When the put was acknowledged.
    pub(crate) acked: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It must be delivered again, or be a dead letter.
    Open,
    /// An acknowledgement was sent and its answer never came.
    AckUnknown,
    /// The acknowledgement was answered: it never comes again.
    Done,
    /// Seen in the list of dead letters.
    Dead,
    /// A dead letter that is to be ready again; nobody knows whether it is.
    Replayed,
    /// A dead letter that is to be forgotten; nobody knows whether it is.
    Purging,
}

/// One message, as one group sees it.
#[derive(Debug)]
struct MessageTruth {
    fate: Fate,
    reserved: Option<Reservation>,
    /// Whose acknowledgements have not been answered yet.
    acks: Vec<PlayerId>,
    /// One was on its way when its connection was lost.
    ack_lost: bool,
    /// Failed deliveries that are certain.
    failures_min: u16,
    /// Failed deliveries that are possible.
    failures_max: u16,
    /// It was given to somebody.
    seen: bool,
    /// Its last attempt failed for certain, and it will be tried again.
    owed: bool,
    /// It was replayed, or may have been: its time to live is no more, and the
    /// list of dead letters may be out of date.
    replayed: bool,
    /// It may have been purged.
    purged: bool,
    /// When its acknowledgement was answered.
    done_at: Option<u64>,
    /// The group was there when it was put.
    expected: bool,
    /// What happened to it last, for the reader of a failure.
    history: Vec<(&'static str, PlayerId)>,
}

impl MessageTruth {
    fn new(expected: bool) -> Self {
        Self {
            fate: Fate::Open,
            reserved: None,
            acks: Vec::new(),
            ack_lost: false,
            failures_min: 0,
            failures_max: 0,
            seen: false,
            owed: false,
            replayed: false,
            purged: false,
            done_at: None,
            expected,
            history: Vec::new(),
        }
    }

    /// An open message whose acknowledgement may have happened is unknown.
    fn settle(&mut self) {
        if matches!(self.fate, Fate::Open | Fate::AckUnknown) {
            self.fate = if self.acks.is_empty() && !self.ack_lost {
                Fate::Open
            } else {
                Fate::AckUnknown
            };
        }
    }

    fn note(&mut self, what: &'static str, player: PlayerId) {
        if self.history.len() == HISTORY {
            self.history.remove(0);
        }
        self.history.push((what, player));
    }

    /// Whether somebody has it at `now`, whatever is on its way.
    fn is_held(&self, now: u64) -> bool {
        self.acks.is_empty()
            && !self.ack_lost
            && self.fate == Fate::Open
            && self.reserved.is_some_and(|held| held.until > now)
    }

    /// Whether the group may be done with it.
    fn may_be_done(&self) -> bool {
        self.purged || matches!(self.fate, Fate::Done | Fate::AckUnknown | Fate::Purging)
    }
}

/// What one group was given.
#[derive(Debug, Default)]
struct GroupTruth {
    /// It is there for certain: messages put from now on are its, too.
    open: bool,
    messages: BTreeMap<u64, MessageTruth>,
    /// Dead letters that were replayed or purged before anybody was told that
    /// they were put.
    revived: BTreeSet<u64>,
    buried: BTreeSet<u64>,
    /// What it cannot have, when it was made while the queue was at work.
    birth: Birth,
}

/// What a queue promises beyond delivery.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct QueueRules {
    pub(crate) max_attempts: u16,
    pub(crate) ordered_by_key: bool,
    pub(crate) drop_expired: bool,
    /// Messages reserved at once, by a group and by a consumer; 0 is more than there
    /// ever are.
    pub(crate) max_in_flight: u32,
    pub(crate) consumer_in_flight: u32,
}

/// One partition of one queue.
#[derive(Debug, Default)]
pub(crate) struct QueueTruth {
    pub(crate) rules: QueueRules,
    puts: BTreeMap<u64, PutTruth>,
    places: BTreeMap<u64, u64>,
    /// The value of each message.
    values: BTreeMap<u64, u64>,
    groups: BTreeMap<GroupName, GroupTruth>,
    /// When acknowledgements were answered that did not survive a disk that lied.
    pub(super) undone: Vec<u64>,
    /// Groups that were there for certain when a value was first sent.
    open_then: BTreeMap<u64, Vec<GroupName>>,
    /// There may have been a group that is no more, and it may have been done with
    /// what others never saw.
    visited: bool,
}

impl QueueTruth {
    pub(crate) fn with(rules: QueueRules, groups: &[GroupName]) -> Self {
        let groups = groups.iter().map(|name| (*name, GroupTruth::default()));
        Self {
            rules,
            groups: groups.collect(),
            ..Self::default()
        }
    }

    pub(crate) fn tried(&mut self, value: u64, put: PutTruth) {
        if self.puts.insert(value, put).is_none() {
            let open = self.groups.iter().filter(|(_, group)| group.open);
            self.open_then
                .insert(value, open.map(|(name, _)| *name).collect());
        }
    }

    /// A message of that id is there and holds `value`.
    fn at(&mut self, id: u64, value: u64) -> Result<PutTruth, Violation> {
        let Some(put) = self.puts.get(&value) else {
            return Err(Violation::new(format!(
                "message {id} holds {value:x}, which nobody put"
            )));
        };
        if let Some(before) = self.places.insert(value, id) {
            promise!(
                before == id,
                "{value:x} is message {before} and message {id}: put twice"
            );
        }
        if let Some(before) = self.values.insert(id, value) {
            promise!(
                before == value,
                "message {id} held {before:x} and holds {value:x}"
            );
        }
        let put = *put;
        let then = self.open_then.get(&value);
        for (name, group) in &mut self.groups {
            let expected = then.is_some_and(|then| then.contains(name));
            group.messages.entry(id).or_insert_with(|| MessageTruth {
                replayed: group.revived.contains(&id),
                purged: group.buried.contains(&id),
                ..MessageTruth::new(expected)
            });
        }
        Ok(put)
    }

    fn message(&mut self, group: GroupName, id: u64) -> Option<&mut MessageTruth> {
        self.groups.get_mut(group)?.messages.get_mut(&id)
    }

    /// A put was acknowledged at `now`.
    pub(crate) fn put(&mut self, id: u64, value: u64, now: u64) -> Result<(), Violation> {
        self.at(id, value)?;
        if let Some(put) = self.puts.get_mut(&value) {
            put.acked.get_or_insert(now);
        }
        Ok(())
    }

    /// A group was made, or has given something.
    pub(crate) fn group_is_open(&mut self, group: GroupName) {
        self.groups.entry(group).or_default().open = true;
    }

    /// Id that the next message gets, as far as anybody knows.
    pub(crate) fn next_id(&self) -> u64 {
        self.values.last_key_value().map_or(0, |(id, _)| id + 1)
    }

    // ---- deliveries --------------------------------------------------------

    /// A message was given to a consumer.
    pub(crate) fn delivered(
        &mut self,
        group: GroupName,
        (id, value): (u64, u64),
        moment: Moment,
        given: Reservation,
    ) -> Result<(), Violation> {
        let put = self.at(id, value)?;
        if let Some(truth) = self.groups.get(group) {
            truth.birth.check(id)?;
        }
        self.check_time(group, id, &put, moment)?;
        if self.rules.ordered_by_key {
            self.check_order(group, id, &put, moment.now)?;
        }
        let (max_attempts, now) = (self.rules.max_attempts, moment.now);
        self.group_is_open(group);
        let message = self.message(group, id).expect("at() has made it");
        promise!(
            message.fate != Fate::Done,
            "message {id} was acknowledged as done and is delivered again: {:?}",
            message.history
        );
        promise!(
            message.replayed || !matches!(message.fate, Fate::Dead | Fate::Purging),
            "message {id} is a dead letter and is delivered: {:?}",
            message.history
        );
        if let Some(held) = message.reserved {
            promise!(
                held.until <= now,
                "message {id} is given to player {} while player {} has it for {} µs more: {:?}",
                given.player,
                held.player,
                (held.until - now) / 1_000,
                message.history
            );
            // It ran out: that is a failed delivery, unless a crash came first.
            message.failures_max = message.failures_max.saturating_add(1);
        }
        let (min, max) = (message.failures_min + 1, message.failures_max + 1);
        promise!(
            (min..=max).contains(&given.attempt) && given.attempt <= max_attempts,
            "message {id} comes with attempt {}, {min} to {max} of {max_attempts} are possible: {:?}",
            given.attempt,
            message.history
        );
        // What it says of the past is certain now.
        message.failures_min = given.attempt - 1;
        message.failures_max = given.attempt - 1;
        if matches!(message.fate, Fate::Dead | Fate::Replayed | Fate::Purging) {
            message.fate = Fate::Open;
        }
        let undone = message.done_at.take();
        // One that was lost with its connection came to nothing; one on its way
        // may still be judged.
        message.ack_lost = false;
        message.settle();
        message.reserved = Some(given);
        (message.seen, message.owed) = (true, false);
        message.note("delivered", given.player);
        // Only a disk that lied brings one back.
        self.undone.extend(undone);
        self.check_in_flight(group, given.player, now)
    }

    /// A group, and each of its consumers, has no more messages than it may.
    fn check_in_flight(
        &self,
        group: GroupName,
        player: PlayerId,
        now: u64,
    ) -> Result<(), Violation> {
        let (all, own) = (self.rules.max_in_flight, self.rules.consumer_in_flight);
        if all == 0 && own == 0 {
            return Ok(());
        }
        let Some(truth) = self.groups.get(group) else {
            return Ok(());
        };
        let held = truth.messages.values().filter(|one| one.is_held(now));
        let (mut held_by_all, mut held_by_it) = (0, 0);
        for one in held {
            held_by_all += 1;
            held_by_it += u32::from(one.reserved.is_some_and(|held| held.player == player));
        }
        promise!(
            all == 0 || held_by_all <= all,
            "group {group:?} has {held_by_all} messages in flight of at most {all}"
        );
        promise!(
            own == 0 || held_by_it <= own,
            "player {player} has {held_by_it} messages in flight of at most {own}"
        );
        Ok(())
    }

    /// Not before its delay is over, not after its time to live is. Who sets the
    /// wall clock across a restart moves both.
    fn check_time(
        &mut self,
        group: GroupName,
        id: u64,
        put: &PutTruth,
        moment: Moment,
    ) -> Result<(), Violation> {
        if put.jumps != moment.jumps {
            return Ok(());
        }
        let replayed = self.message(group, id).is_some_and(|one| one.replayed);
        if replayed {
            return Ok(());
        }
        promise!(
            moment.now + ROUNDING >= put.sent + put.delay,
            "message {id} comes {} µs before its delay is over",
            (put.sent + put.delay - moment.now) / 1_000
        );
        if let Some(acked) = put.acked
            && put.ttl > 0
        {
            promise!(
                moment.since <= acked + put.ttl + ROUNDING,
                "message {id}, {put:?}, comes {} µs after its time to live is over, {moment:?}",
                (moment.since - acked - put.ttl) / 1_000
            );
        }
        Ok(())
    }

    /// No message of a key is given out while another of it is reserved or to be
    /// tried again, and none for the first time before an older one.
    fn check_order(
        &self,
        group: GroupName,
        id: u64,
        put: &PutTruth,
        now: u64,
    ) -> Result<(), Violation> {
        let Some(truth) = self.groups.get(group) else {
            return Ok(());
        };
        let alone = self.groups.len() == 1 && !self.visited;
        let seen = truth.messages.get(&id).is_some_and(|one| one.seen);
        for (other, message) in &truth.messages {
            let Some(its) = self.values.get(other).and_then(|v| self.puts.get(v)) else {
                continue;
            };
            if *other == id || its.key != put.key {
                continue;
            }
            promise!(
                !message.is_held(now),
                "message {id} of key {} is given out while message {other} is reserved: {:?}",
                put.key,
                message.history
            );
            let patient = its.delay == 0 && its.ttl == 0;
            promise!(
                !(message.owed && its.ttl == 0),
                "message {id} of key {} is given out, message {other} failed and comes first: {:?}",
                put.key,
                message.history
            );
            let waits = *other < id && !message.seen && message.fate == Fate::Open;
            let its_own = message.expected || alone;
            promise!(
                seen || put.delay > 0 || !(patient && waits && its_own && its.acked.is_some()),
                "message {id} of key {} overtakes message {other}",
                put.key
            );
        }
        Ok(())
    }

    fn held_by(
        &mut self,
        group: GroupName,
        id: u64,
        player: PlayerId,
    ) -> Option<&mut MessageTruth> {
        let message = self.message(group, id)?;
        message
            .reserved
            .is_some_and(|held| held.player == player)
            .then_some(message)
    }

    /// A consumer says that it is done; nobody knows until it is answered.
    pub(crate) fn ack_sent(&mut self, group: GroupName, id: u64, player: PlayerId) {
        if let Some(message) = self.message(group, id) {
            message.note("ack sent", player);
            message.acks.push(player);
            message.settle();
        }
    }

    /// The acknowledgement was answered as done and durable.
    pub(crate) fn ack_done(&mut self, group: GroupName, id: u64, now: u64) {
        if let Some(message) = self.message(group, id) {
            message.fate = Fate::Done;
            message.note("ack done", 0);
            message.done_at = Some(now);
            message.reserved = None;
            message.owed = false;
        }
    }

    /// The acknowledgement was refused: it did not happen.
    pub(crate) fn ack_refused(&mut self, group: GroupName, id: u64, player: PlayerId) {
        if let Some(message) = self.message(group, id) {
            message.note("ack refused", player);
            if let Some(index) = message.acks.iter().position(|who| *who == player) {
                message.acks.remove(index);
            }
            message.settle();
        }
    }

    /// Nobody knows what became of the acknowledgement, and nobody will be told.
    pub(crate) fn ack_unknown(&mut self, group: GroupName, id: u64, player: PlayerId) {
        if let Some(message) = self.message(group, id) {
            message.note("ack unknown", player);
            message.ack_lost = true;
            message.settle();
        }
    }

    /// A consumer says that it failed; it may be given out from now on.
    pub(crate) fn nack_sent(&mut self, group: GroupName, id: u64, player: PlayerId) {
        if let Some(message) = self.held_by(group, id, player) {
            message.note("nack sent", player);
            message.reserved = None;
            message.failures_max = message.failures_max.saturating_add(1);
        }
    }

    /// The nack was answered as done.
    pub(crate) fn nack_done(&mut self, group: GroupName, id: u64, attempt: u16) {
        let max_attempts = self.rules.max_attempts;
        if let Some(message) = self.message(group, id) {
            if message.replayed {
                // It may be of the time before, when attempts had not begun anew.
                return;
            }
            message.failures_min = message.failures_min.max(attempt);
            message.failures_max = message.failures_max.max(attempt);
            // Nobody else has had it since.
            let last = message.failures_max == attempt && message.reserved.is_none();
            message.owed = last && message.fate == Fate::Open && attempt < max_attempts;
            message.note("nack done", 0);
        }
    }

    /// A consumer gives a message back, or is gone: it may be given out again.
    pub(crate) fn released(&mut self, group: GroupName, id: u64, player: PlayerId) {
        if let Some(message) = self.held_by(group, id, player) {
            message.note("released", player);
            message.reserved = None;
            // The reservation may have run out at the same moment.
            message.failures_max = message.failures_max.saturating_add(1);
        }
    }

    /// The reservation was extended: nobody else gets it before `until`.
    pub(crate) fn extended(&mut self, group: GroupName, id: u64, player: PlayerId, until: u64) {
        if let Some(message) = self.held_by(group, id, player)
            && let Some(held) = &mut message.reserved
        {
            held.until = held.until.max(until);
            message.note("extended", player);
        }
    }

    fn every_message(&mut self) -> impl Iterator<Item = &mut MessageTruth> {
        self.groups
            .values_mut()
            .flat_map(|group| group.messages.values_mut())
    }

    /// The node crashed, for the reader of a failure.
    pub(crate) fn crashed(&mut self) {
        self.every_message().for_each(|one| one.note("crash", 0));
    }

    /// A consumer has lost its connection.
    pub(crate) fn consumer_gone(&mut self, player: PlayerId) {
        for message in self.every_message() {
            if message.acks.contains(&player) {
                message.acks.retain(|who| *who != player);
                message.ack_lost = true;
                message.settle();
            }
            if message.reserved.is_some_and(|held| held.player == player) {
                message.note("consumer gone", player);
                message.reserved = None;
                message.failures_max = message.failures_max.saturating_add(1);
            }
        }
    }

    // ---- dead letters ------------------------------------------------------

    /// A message is in the list of dead letters, because its time was over or
    /// because its attempts are used up.
    pub(crate) fn dead(
        &mut self,
        group: GroupName,
        id: u64,
        expired: bool,
        attempts: u16,
        (now, jumps): (u64, u64),
    ) -> Result<(), Violation> {
        let rules = self.rules;
        let put = self.values.get(&id).and_then(|v| self.puts.get(v)).copied();
        let (Some(put), Some(message)) = (put, self.message(group, id)) else {
            // Put without an answer, and then it failed with nobody told.
            return Ok(());
        };
        promise!(
            message.fate != Fate::Done,
            "message {id} was acknowledged as done and is a dead letter: {:?}",
            message.history
        );
        if expired {
            promise!(
                put.ttl > 0 && !rules.drop_expired,
                "message {id} is dead for its age and has no such end"
            );
            promise!(
                put.jumps != jumps || now + ROUNDING >= put.sent + put.ttl,
                "message {id} is dead for its age {} µs too early",
                (put.sent + put.ttl - now) / 1_000
            );
        } else {
            promise!(
                attempts == rules.max_attempts,
                "message {id} is a dead letter after {attempts} of {} attempts",
                rules.max_attempts
            );
            let possible = message.failures_max + u16::from(message.reserved.is_some());
            promise!(
                message.replayed || message.fate == Fate::Dead || possible >= attempts,
                "message {id} is dead after {attempts} attempts, {possible} are possible: {:?}",
                message.history
            );
        }
        message.fate = Fate::Dead;
        message.owed = false;
        message.note("dead", 0);
        Ok(())
    }

    /// Somebody wants a dead letter to be ready again.
    pub(crate) fn replaying(&mut self, group: GroupName, id: u64) {
        if let Some(message) = self.message(group, id) {
            message.fate = Fate::Replayed;
            message.replayed = true;
            message.failures_min = 0;
            message.reserved = None;
            message.note("replay sent", 0);
        } else if let Some(group) = self.groups.get_mut(group) {
            group.revived.insert(id);
        }
    }

    /// Somebody wants a dead letter to be forgotten.
    pub(crate) fn purging(&mut self, group: GroupName, id: u64) {
        if let Some(message) = self.message(group, id) {
            message.fate = Fate::Purging;
            message.purged = true;
            message.note("purge sent", 0);
        } else if let Some(group) = self.groups.get_mut(group) {
            group.buried.insert(id);
        }
    }

    /// It is: never seen again.
    pub(crate) fn purged(&mut self, group: GroupName, id: u64) {
        if let Some(message) = self.message(group, id)
            && message.fate == Fate::Purging
        {
            message.fate = Fate::Done;
            message.note("purged", 0);
        }
    }

    // ---- a disk that lied --------------------------------------------------

    /// The disk kept less than it said: what was told before `next_id` and after
    /// the last put that is there may be undone. Gives when each put that is not
    /// there was acknowledged, and when each that is there was sent.
    pub(super) fn forgotten(&mut self, next_id: u64) -> (Vec<u64>, Vec<u64>) {
        let (mut lost, mut kept) = (Vec::new(), Vec::new());
        for (id, value) in &self.values {
            let put = &self.puts[value];
            if *id < next_id {
                kept.push(put.sent);
            } else {
                lost.extend(put.acked);
            }
        }
        for value in self.values.split_off(&next_id).into_values() {
            self.places.remove(&value);
        }
        for group in self.groups.values_mut() {
            group.messages.split_off(&next_id);
        }
        for message in self.every_message() {
            if message.fate != Fate::Open {
                message.fate = Fate::AckUnknown;
                message.ack_lost = true;
            }
            (message.failures_min, message.owed) = (0, false);
        }
        (lost, kept)
    }

    // ---- the end -----------------------------------------------------------

    /// At the end, when everything that was ready has been taken and
    /// acknowledged by every group: nothing may be left open.
    pub(crate) fn all_accounted_for(&self, now: u64, jumps: u64) -> Result<(), Violation> {
        for (name, group) in &self.groups {
            for (id, message) in &group.messages {
                if message.may_be_done() || message.fate == Fate::Dead {
                    continue;
                }
                let put = &self.puts[&self.values[id]];
                let over = put.jumps != jumps || now + ROUNDING >= put.sent + put.ttl;
                if self.rules.drop_expired && put.ttl > 0 && over && !message.replayed {
                    continue;
                }
                // A group that came later need not see what the others were
                // done with before.
                let elsewhere = self.visited
                    || self.groups.iter().any(|(other, truth)| {
                        let its = truth.messages.get(id);
                        other != name && its.is_some_and(MessageTruth::may_be_done)
                    });
                promise!(
                    !message.expected && !message.seen && elsewhere,
                    "message {id}, {put:?}, was put and group {name:?} of {:?} has it nowhere: {message:?}",
                    self.rules
                );
            }
        }
        Ok(())
    }

    /// Messages of a group that are done, and that are dead letters.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let count = |fate| {
            let all = self.groups.values().flat_map(|g| g.messages.values());
            all.filter(|m| m.fate == fate).count() as u64
        };
        (count(Fate::Done), count(Fate::Dead))
    }
}
