//! What clients were told, and what must therefore be true: the oracles of a
//! whole node. Nothing of it comes from inside the engine.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Violation, promise};

/// Who reads or works: a player of the world.
pub(crate) type PlayerId = usize;

/// One partition of one stream.
#[derive(Debug, Default)]
pub(crate) struct StreamTruth {
    /// Which value lies at an offset: acknowledged, or delivered to somebody.
    known: BTreeMap<u64, u64>,
    /// Where a value lies.
    places: BTreeMap<u64, u64>,
    /// Values that somebody tried to publish.
    tried: BTreeSet<u64>,
    /// Per producer, the last value known and where it lies.
    order: BTreeMap<u64, BTreeMap<u64, u64>>,
    /// Records below were trimmed away by the stream's own retention.
    pub(crate) first: u64,
}

/// Values carry their producer and their number in it.
pub(crate) fn value_of(producer: u64, number: u64) -> u64 {
    (producer << 32) | number
}

impl StreamTruth {
    pub(crate) fn tried(&mut self, value: u64) {
        self.tried.insert(value);
    }

    /// Somebody was told, or shown, that `value` lies at `offset`. From now on
    /// it does for ever and for everybody.
    pub(crate) fn known(&mut self, offset: u64, value: u64) -> Result<(), Violation> {
        promise!(
            self.tried.contains(&value),
            "offset {offset} holds {value:x}, which nobody published"
        );
        if let Some(before) = self.known.insert(offset, value) {
            promise!(
                before == value,
                "offset {offset} held {before:x} and holds {value:x}"
            );
        }
        if let Some(before) = self.places.insert(value, offset) {
            promise!(
                before == offset,
                "{value:x} lies at {before} and at {offset}: published twice"
            );
        }
        // What one producer published lies in the order in which it did.
        let numbers = self.order.entry(value >> 32).or_default();
        let number = value & 0xffff_ffff;
        let before = numbers.range(..number).next_back();
        let after = numbers.range(number + 1..).next();
        promise!(
            before.is_none_or(|(_, at)| *at < offset) && after.is_none_or(|(_, at)| *at > offset),
            "{value:x} at {offset} is out of its producer's order: {before:?}, {after:?}"
        );
        numbers.insert(number, offset);
        Ok(())
    }

    /// The end that clients know of.
    pub(crate) fn end(&self) -> u64 {
        self.known
            .last_key_value()
            .map_or(0, |(offset, _)| offset + 1)
    }
}

/// A reservation that a client holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reservation {
    pub(crate) player: PlayerId,
    /// Nobody else may get the message before, in the world's nanoseconds.
    pub(crate) until: u64,
    pub(crate) attempt: u16,
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
}

/// One message of one partition, as one group sees it.
#[derive(Debug)]
pub(crate) struct MessageTruth {
    value: u64,
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
    /// What happened to it last, for the reader of a failure.
    history: Vec<(&'static str, PlayerId)>,
}

/// Steps of a message's history that are kept.
const HISTORY: usize = 12;

impl MessageTruth {
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
}

/// One partition of one queue, as its default group sees it.
#[derive(Debug, Default)]
pub(crate) struct QueueTruth {
    messages: BTreeMap<u64, MessageTruth>,
    tried: BTreeSet<u64>,
    places: BTreeMap<u64, u64>,
    pub(crate) max_attempts: u16,
}

impl QueueTruth {
    pub(crate) fn tried(&mut self, value: u64) {
        self.tried.insert(value);
    }

    fn at(&mut self, id: u64, value: u64) -> Result<&mut MessageTruth, Violation> {
        promise!(
            self.tried.contains(&value),
            "message {id} holds {value:x}, which nobody put"
        );
        if let Some(before) = self.places.insert(value, id) {
            promise!(
                before == id,
                "{value:x} is message {before} and message {id}: put twice"
            );
        }
        let message = self.messages.entry(id).or_insert(MessageTruth {
            value,
            fate: Fate::Open,
            reserved: None,
            acks: Vec::new(),
            ack_lost: false,
            failures_min: 0,
            failures_max: 0,
            history: Vec::new(),
        });
        promise!(
            message.value == value,
            "message {id} held {:x} and holds {value:x}",
            message.value
        );
        Ok(message)
    }

    /// A put was acknowledged.
    pub(crate) fn put(&mut self, id: u64, value: u64) -> Result<(), Violation> {
        self.at(id, value).map(|_| ())
    }

    /// A message was given to a consumer.
    pub(crate) fn delivered(
        &mut self,
        id: u64,
        value: u64,
        now: u64,
        given: Reservation,
    ) -> Result<(), Violation> {
        let max_attempts = self.max_attempts;
        let message = self.at(id, value)?;
        promise!(
            message.fate != Fate::Done,
            "message {id} was acknowledged as done and is delivered again: {:?}",
            message.history
        );
        promise!(
            message.fate != Fate::Dead,
            "message {id} is a dead letter and is delivered"
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
            "message {id} comes with attempt {}, {min} to {max} of {max_attempts} are possible",
            given.attempt
        );
        // What it says of the past is certain now.
        message.failures_min = given.attempt - 1;
        message.failures_max = given.attempt - 1;
        // One that was lost with its connection came to nothing; one on its way
        // may still be judged.
        message.ack_lost = false;
        message.settle();
        message.reserved = Some(given);
        message.note("delivered", given.player);
        Ok(())
    }

    fn held_by(&mut self, id: u64, player: PlayerId) -> Option<&mut MessageTruth> {
        let message = self.messages.get_mut(&id)?;
        message
            .reserved
            .is_some_and(|held| held.player == player)
            .then_some(message)
    }

    /// A consumer says that it is done; nobody knows until it is answered.
    pub(crate) fn ack_sent(&mut self, id: u64, player: PlayerId) {
        if let Some(message) = self.messages.get_mut(&id) {
            message.note("ack sent", player);
            message.acks.push(player);
            message.settle();
        }
    }

    /// The acknowledgement was answered as done and durable.
    pub(crate) fn ack_done(&mut self, id: u64) {
        if let Some(message) = self.messages.get_mut(&id) {
            message.fate = Fate::Done;
            message.note("ack done", 0);
            message.reserved = None;
        }
    }

    /// The acknowledgement was refused: it did not happen.
    pub(crate) fn ack_refused(&mut self, id: u64, player: PlayerId) {
        if let Some(message) = self.messages.get_mut(&id) {
            message.note("ack refused", player);
            if let Some(index) = message.acks.iter().position(|who| *who == player) {
                message.acks.remove(index);
            }
            message.settle();
        }
    }

    /// Nobody knows what became of the acknowledgement, and nobody will be told.
    pub(crate) fn ack_unknown(&mut self, id: u64, player: PlayerId) {
        if let Some(message) = self.messages.get_mut(&id) {
            message.note("ack unknown", player);
            message.ack_lost = true;
            message.settle();
        }
    }

    /// A consumer says that it failed; it may be given out from now on.
    pub(crate) fn nack_sent(&mut self, id: u64, player: PlayerId) {
        if let Some(message) = self.held_by(id, player) {
            message.note("nack sent", player);
            message.reserved = None;
            message.failures_max = message.failures_max.saturating_add(1);
        }
    }

    /// The nack was answered as done.
    pub(crate) fn nack_done(&mut self, id: u64, attempt: u16) {
        if let Some(message) = self.messages.get_mut(&id) {
            message.failures_min = message.failures_min.max(attempt);
            message.failures_max = message.failures_max.max(attempt);
        }
    }

    /// A consumer gives a message back, or is gone: it may be given out again.
    pub(crate) fn released(&mut self, id: u64, player: PlayerId) {
        if let Some(message) = self.held_by(id, player) {
            message.note("released", player);
            message.reserved = None;
            // The reservation may have run out at the same moment.
            message.failures_max = message.failures_max.saturating_add(1);
        }
    }

    /// The node crashed, for the reader of a failure.
    pub(crate) fn crashed(&mut self) {
        for message in self.messages.values_mut() {
            message.note("crash", 0);
        }
    }

    /// A consumer has lost its connection.
    pub(crate) fn consumer_gone(&mut self, player: PlayerId) {
        for message in self.messages.values_mut() {
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

    /// The reservation was extended: nobody else gets it before `until`.
    pub(crate) fn extended(&mut self, id: u64, player: PlayerId, until: u64) {
        if let Some(message) = self.held_by(id, player)
            && let Some(held) = &mut message.reserved
        {
            held.until = held.until.max(until);
            message.note("extended", player);
        }
    }

    /// A message is in the list of dead letters.
    pub(crate) fn dead(&mut self, id: u64, attempts: u16) -> Result<(), Violation> {
        let max_attempts = self.max_attempts;
        let Some(message) = self.messages.get_mut(&id) else {
            // Put without an answer, and then it failed with nobody told.
            return Ok(());
        };
        promise!(
            message.fate != Fate::Done,
            "message {id} was acknowledged as done and is a dead letter"
        );
        promise!(
            attempts == max_attempts,
            "message {id} is a dead letter after {attempts} of {max_attempts} attempts"
        );
        message.fate = Fate::Dead;
        Ok(())
    }

    /// At the end, when everything that was ready has been taken and
    /// acknowledged: nothing may be left open.
    pub(crate) fn all_accounted_for(&self) -> Result<(), Violation> {
        for (id, message) in &self.messages {
            promise!(
                matches!(message.fate, Fate::Done | Fate::Dead | Fate::AckUnknown),
                "message {id} ({:x}) was put and is nowhere: {message:?}",
                message.value
            );
        }
        Ok(())
    }

    pub(crate) fn counts(&self) -> (u64, u64) {
        let count = |fate| self.messages.values().filter(|m| m.fate == fate).count() as u64;
        (count(Fate::Done), count(Fate::Dead))
    }
}

/// One named cursor.
#[derive(Debug, Default)]
pub(crate) struct CursorTruth {
    /// What was acknowledged last.
    acked: Option<u64>,
    /// What was asked since then, with unknown outcome.
    asked: Vec<u64>,
}

impl CursorTruth {
    pub(crate) fn asked(&mut self, offset: u64) {
        self.asked.push(offset);
    }

    pub(crate) fn acked(&mut self, offset: u64) {
        // Requests of one connection are answered in order.
        if let Some(index) = self.asked.iter().position(|asked| *asked == offset) {
            self.asked.drain(..=index);
        }
        self.acked = Some(offset);
    }

    /// Somebody read it.
    pub(crate) fn read(&mut self, offset: Option<u64>) -> Result<(), Violation> {
        let possible = offset == self.acked || offset.is_some_and(|o| self.asked.contains(&o));
        promise!(
            possible,
            "a cursor is at {offset:?}; {:?} was acknowledged, {:?} asked since",
            self.acked,
            self.asked
        );
        Ok(())
    }
}

/// Everything clients were told.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    pub(crate) streams: BTreeMap<(usize, u16), StreamTruth>,
    pub(crate) queues: BTreeMap<(usize, u16), QueueTruth>,
    pub(crate) cursors: BTreeMap<(usize, u16, u64), CursorTruth>,
    pub(crate) counts: NodeCounts,
}

/// What the players of one world did.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeCounts {
    /// Publishes acknowledged.
    pub published: u64,
    /// Records delivered to subscribers and fetches.
    pub delivered: u64,
    /// Puts acknowledged.
    pub put: u64,
    /// Messages taken.
    pub taken: u64,
    /// Acknowledgements answered as done.
    pub acked: u64,
    /// Dead letters found at the end.
    pub dead: u64,
    /// Requests refused.
    pub refused: u64,
    /// Crashes of the node.
    pub crashes: u64,
    /// Clean stops.
    pub drains: u64,
    /// Times the wall clock was set.
    pub jumps: u64,
    /// Faults of the disk.
    pub faults: u64,
}

impl NodeCounts {
    /// Adds another world's.
    pub fn add(&mut self, other: &Self) {
        self.published += other.published;
        self.delivered += other.delivered;
        self.put += other.put;
        self.taken += other.taken;
        self.acked += other.acked;
        self.dead += other.dead;
        self.refused += other.refused;
        self.crashes += other.crashes;
        self.drains += other.drains;
        self.jumps += other.jumps;
        self.faults += other.faults;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test may
mod tests {
    use super::*;

    fn given(player: PlayerId, until: u64, attempt: u16) -> Reservation {
        Reservation {
            player,
            until,
            attempt,
        }
    }

    fn queue() -> QueueTruth {
        let mut queue = QueueTruth {
            max_attempts: 3,
            ..QueueTruth::default()
        };
        queue.tried(7);
        queue.put(0, 7).unwrap();
        queue
    }

    #[test]
    fn a_record_that_moves_changes_or_appears_twice_is_noticed() {
        let mut stream = StreamTruth::default();
        let (a, b) = (value_of(1, 0), value_of(1, 1));
        stream.tried(a);
        stream.tried(b);
        stream.known(4, a).unwrap();
        assert!(stream.known(4, b).is_err(), "changed");
        assert!(stream.known(5, a).is_err(), "twice");
        assert!(stream.known(6, 99).is_err(), "out of nothing");
        let mut stream = StreamTruth::default();
        stream.tried(a);
        stream.tried(b);
        stream.known(4, b).unwrap();
        assert!(stream.known(5, a).is_err(), "out of order");
    }

    #[test]
    fn a_message_in_two_hands_or_after_its_ack_is_noticed() {
        let mut queue = queue();
        queue.delivered(0, 7, 10, given(1, 100, 1)).unwrap();
        assert!(queue.delivered(0, 7, 50, given(2, 200, 1)).is_err());
        let mut queue = self::queue();
        queue.delivered(0, 7, 10, given(1, 100, 1)).unwrap();
        queue.delivered(0, 7, 100, given(2, 200, 2)).unwrap();
        queue.ack_sent(0, 2);
        queue.ack_done(0);
        assert!(queue.delivered(0, 7, 300, given(1, 400, 2)).is_err());
        assert!(queue.dead(0, 3).is_err());
    }

    #[test]
    fn attempts_count_what_failed_and_nothing_else() {
        let mut queue = queue();
        queue.delivered(0, 7, 10, given(1, 100, 1)).unwrap();
        queue.nack_sent(0, 1);
        queue.nack_done(0, 1);
        assert!(queue.delivered(0, 7, 20, given(1, 100, 1)).is_err());
        let mut queue = self::queue();
        assert!(queue.delivered(0, 7, 20, given(1, 100, 2)).is_err());
    }

    #[test]
    fn a_message_that_is_nowhere_is_noticed() {
        let mut queue = queue();
        assert!(queue.all_accounted_for().is_err());
        queue.dead(0, 3).unwrap();
        queue.all_accounted_for().unwrap();
    }

    #[test]
    fn a_cursor_shows_what_was_acknowledged_or_is_on_its_way() {
        let mut cursor = CursorTruth::default();
        cursor.read(None).unwrap();
        cursor.asked(5);
        cursor.read(Some(5)).unwrap();
        cursor.acked(5);
        cursor.asked(9);
        cursor.read(Some(9)).unwrap();
        cursor.read(Some(5)).unwrap();
        assert!(cursor.read(None).is_err());
        assert!(cursor.read(Some(4)).is_err());
    }
}
