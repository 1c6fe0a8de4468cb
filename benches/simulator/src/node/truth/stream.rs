//! What clients were told about one partition of a stream.

use core::ops::Range;
use std::collections::{BTreeMap, BTreeSet};

use super::super::client::Shown;
use super::{PlayerId, Wish, headers_of};
use crate::{Violation, promise};

/// How long an append session lives without a request, less what an answer may
/// have been on its way, in nanoseconds.
const SESSION_SURE: u64 = 27_000_000_000;
/// What a record may take of a partition's bytes beside its value: its share of
/// headers and of a block that begins a group of its own.
const RECORD_OVERHEAD_MAX: u64 = 300;

/// A value that somebody tried to publish.
#[derive(Clone, Copy, Debug)]
struct Tried {
    /// It was taken at this wall clock or later, in milliseconds.
    wall: u64,
    bytes: u64,
    /// The partition ended there at least.
    end: u64,
}

/// What readers that were not given a record have said of it by that.
#[derive(Clone, Copy, Debug, Default)]
struct Passed {
    /// None of these wants it.
    wishes: u8,
    /// It is older than this, in milliseconds.
    older_than: Option<u64>,
}

/// What an append session committed, or may have.
#[derive(Clone, Copy, Debug)]
struct Group {
    count: u64,
    /// Where its first record lies, once that is known.
    first: Option<u64>,
}

/// Who has an exclusive append session, and until when at least.
#[derive(Clone, Copy, Debug)]
struct Exclusive {
    player: PlayerId,
    until: u64,
}

/// What a partition may let go.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Retention {
    /// Records older than so many milliseconds.
    pub(crate) ms: Option<u64>,
    /// The oldest ones, when there are more than so many bytes.
    pub(crate) bytes: Option<u64>,
}

impl Retention {
    /// Whether anything ever goes.
    pub(crate) const fn is_any(&self) -> bool {
        self.ms.is_some() || self.bytes.is_some()
    }
}

/// One partition of one stream.
#[derive(Debug, Default)]
pub(crate) struct StreamTruth {
    /// Which value lies at an offset: acknowledged, or delivered to somebody.
    known: BTreeMap<u64, u64>,
    /// The wall clock when that was first heard of.
    known_at: BTreeMap<u64, u64>,
    /// The time that a record was shown to have been taken at.
    stamps: BTreeMap<u64, u64>,
    /// What was passed over, to be judged when it is shown to somebody.
    passed: BTreeMap<u64, Passed>,
    /// Where a value lies.
    places: BTreeMap<u64, u64>,
    tried: BTreeMap<u64, Tried>,
    /// Per producer, the numbers known and where they lie.
    order: BTreeMap<u64, BTreeMap<u64, u64>>,
    /// Per append session, which is a producer of its own.
    groups: BTreeMap<u64, Group>,
    /// Ends that somebody was told of.
    ends: BTreeSet<u64>,
    exclusive: Option<Exclusive>,
    pub(crate) retention: Retention,
    /// It lives in memory: a node that starts has nothing of it.
    memory: bool,
    /// How often that was so.
    life: u64,
    /// Nobody who asks from now on is shown what lies below.
    first: u64,
    /// The wall clock, and the latest there was, in milliseconds.
    wall: u64,
    wall_max: u64,
    /// Somebody has set it back.
    set_back: bool,
}

/// Values carry their producer and their number in it.
pub(crate) fn value_of(producer: u64, number: u64) -> u64 {
    (producer << 32) | number
}

impl StreamTruth {
    pub(crate) fn with(retention: Retention) -> Self {
        Self {
            retention,
            ..Self::default()
        }
    }

    /// One that no restart leaves anything of; its ring holds so many bytes.
    pub(crate) fn in_memory(ms: Option<u64>, ring_bytes: u64) -> Self {
        Self {
            memory: true,
            ..Self::with(Retention {
                ms,
                bytes: Some(ring_bytes),
            })
        }
    }

    /// Whether nothing of it is written down.
    pub(crate) const fn is_in_memory(&self) -> bool {
        self.memory
    }

    /// Number of the life that it is in: in another one, offsets mean other records.
    pub(crate) const fn life(&self) -> u64 {
        self.life
    }

    /// The node starts: what was in memory only is no more, and what was there does
    /// not come back; what is still being tried may be taken.
    pub(crate) fn restarted(&mut self) {
        if !self.memory {
            return;
        }
        let mut tried = core::mem::take(&mut self.tried);
        tried.retain(|value, _| !self.places.contains_key(value));
        tried.values_mut().for_each(|tried| tried.end = 0);
        *self = Self {
            tried,
            retention: self.retention,
            memory: true,
            life: self.life + 1,
            wall: self.wall,
            wall_max: self.wall_max,
            set_back: self.set_back,
            ..Self::default()
        };
    }

    pub(crate) fn tried(&mut self, value: u64, wall: u64, bytes: u64) {
        let end = self.end().max(self.ends.last().copied().unwrap_or(0));
        self.tried
            .entry(value)
            .or_insert(Tried { wall, bytes, end });
    }

    /// The wall clock was seen to stand there. When it was set back, what is on
    /// its way may be taken at the earlier time.
    pub(crate) fn saw(&mut self, wall: u64) {
        if wall < self.wall {
            self.set_back = true;
            for (value, tried) in &mut self.tried {
                if !self.places.contains_key(value) {
                    tried.wall = tried.wall.min(wall);
                }
            }
        }
        self.wall = wall;
        self.wall_max = self.wall_max.max(wall);
    }

    /// Somebody was told, or shown, that `value` lies at `offset`. From now on
    /// it does for ever and for everybody.
    pub(crate) fn known(&mut self, offset: u64, value: u64) -> Result<(), Violation> {
        let Some(tried) = self.tried.get(&value) else {
            return Err(Violation::new(format!(
                "offset {offset} holds {value:x}, which nobody published"
            )));
        };
        promise!(
            tried.end <= offset,
            "{value:x} at {offset} was sent when the partition ended at {}",
            tried.end
        );
        if let Some(before) = self.known.insert(offset, value) {
            promise!(
                before == value,
                "offset {offset} held {before:x} and holds {value:x}"
            );
        }
        self.known_at.entry(offset).or_insert(self.wall);
        if let Some(before) = self.places.insert(value, offset) {
            promise!(
                before == offset,
                "{value:x} lies at {before} and at {offset}: published twice"
            );
        }
        // What one producer published lies in the order in which it did.
        let (producer, number) = (value >> 32, value & 0xffff_ffff);
        let numbers = self.order.entry(producer).or_default();
        let before = numbers.range(..number).next_back();
        let after = numbers.range(number + 1..).next();
        promise!(
            before.is_none_or(|(_, at)| *at < offset) && after.is_none_or(|(_, at)| *at > offset),
            "{value:x} at {offset} is out of its producer's order: {before:?}, {after:?}"
        );
        numbers.insert(number, offset);
        if let Some(group) = self.groups.get_mut(&producer) {
            let first = offset.wrapping_sub(number);
            let same = group.first.replace(first).is_none_or(|f| f == first);
            promise!(
                same,
                "{value:x} at {offset} lies apart from what was committed with it"
            );
            let inside = self.ends.range(first + 1..first + group.count).next();
            promise!(
                inside.is_none(),
                "a reader saw the end {inside:?} inside of what session {producer} committed at {first}"
            );
        }
        Ok(())
    }

    /// Somebody was given a record of this partition: all of it is what was sent,
    /// taken when it may have been, and nobody has passed over it wrongly.
    pub(crate) fn shown(&mut self, shown: &Shown, value: u64) -> Result<(), Violation> {
        let Shown { offset, stamp, .. } = *shown;
        self.known(offset, value)?;
        promise!(
            shown.headers == headers_of(value),
            "the headers of {value:x} at {offset} are {:x?}",
            shown.headers
        );
        let sent = self.tried[&value].wall;
        let before = self.stamps.range(..offset).next_back();
        let after = self.stamps.range(offset + 1..).next();
        promise!(
            (sent..=self.wall_max).contains(&stamp)
                && before.is_none_or(|(_, at)| *at <= stamp)
                && after.is_none_or(|(_, at)| *at >= stamp),
            "{value:x} at {offset} is of {stamp}, sent at {sent}, now {}; {before:?}, {after:?}",
            self.wall_max
        );
        if let Some(told) = self.stamps.insert(offset, stamp) {
            promise!(
                told == stamp,
                "offset {offset} was of {told}, is of {stamp}"
            );
        }
        let Some(passed) = self.passed.get(&offset) else {
            return Ok(());
        };
        let missed = |wish: &&Wish| passed.wishes & wish.bit() != 0 && wish.wants(value);
        let missed = Wish::SOME.iter().find(missed);
        promise!(
            missed.is_none(),
            "offset {offset} holds {value:x}, and one who wants {missed:?} was not given it"
        );
        promise!(
            passed.older_than.is_none_or(|time| stamp < time),
            "offset {offset} is of {stamp}, and one who began at {:?} was not given it",
            passed.older_than
        );
        Ok(())
    }

    /// A reader who wants `wish` was not given these records.
    pub(crate) fn unwanted(&mut self, wish: Wish, range: Range<u64>) -> Result<(), Violation> {
        promise!(
            wish != Wish::All || range.is_empty(),
            "one who wants everything was not given {range:?}"
        );
        for offset in range {
            self.passed.entry(offset).or_default().wishes |= wish.bit();
        }
        Ok(())
    }

    /// A reader who began at `time` was not given these records. Where retention
    /// acts, they may just be gone.
    pub(crate) fn all_older(&mut self, time: u64, range: Range<u64>) {
        if self.retention.is_any() {
            return;
        }
        for offset in range {
            let passed = self.passed.entry(offset).or_default();
            let before = passed.older_than.unwrap_or(u64::MAX);
            passed.older_than = Some(before.min(time));
        }
    }

    /// The time of a record, any of those that were shown.
    pub(crate) fn some_time(&self, any: usize) -> Option<u64> {
        let index = any.checked_rem(self.stamps.len())?;
        self.stamps.values().nth(index).copied()
    }

    /// Offsets from `first` on that hold what `wish` wants.
    pub(crate) fn wanted(&self, wish: Wish, first: u64) -> impl Iterator<Item = u64> + '_ {
        let known = self.known.range(first..);
        known.filter_map(move |(offset, value)| wish.wants(*value).then_some(*offset))
    }

    /// The partition ends there or before: each value is there once at most.
    pub(crate) fn end_max(&self) -> u64 {
        self.tried.len() as u64
    }

    /// The end that clients know of.
    pub(crate) fn end(&self) -> u64 {
        self.known
            .last_key_value()
            .map_or(0, |(offset, _)| offset + 1)
    }

    /// Somebody was told that the partition ends there.
    pub(crate) fn told_end(&mut self, end: u64) -> Result<(), Violation> {
        for (session, group) in &self.groups {
            let inside = group
                .first
                .is_some_and(|first| first < end && end < first + group.count);
            promise!(
                !inside,
                "the end {end} is inside of what session {session} committed: {group:?}"
            );
        }
        self.ends.insert(end);
        Ok(())
    }

    // ---- append sessions ---------------------------------------------------

    /// A session of `count` records asks to be committed: until then nobody may
    /// see any of them.
    pub(crate) fn committing(&mut self, session: u64, count: u64) {
        self.groups.insert(session, Group { count, first: None });
    }

    /// It was refused: it did not happen.
    pub(crate) fn not_committed(&mut self, session: u64, count: u64) -> Result<(), Violation> {
        for number in 0..count {
            self.tried.remove(&value_of(session, number));
        }
        let group = self.groups.remove(&session);
        promise!(
            group.is_none_or(|group| group.first.is_none()),
            "session {session} was refused its commit and is there: {group:?}"
        );
        Ok(())
    }

    /// An exclusive session was begun by a request sent at `sent`.
    pub(crate) fn granted(
        &mut self,
        player: PlayerId,
        sent: u64,
        now: u64,
    ) -> Result<(), Violation> {
        if let Some(held) = self.exclusive {
            promise!(
                held.player == player || held.until <= now,
                "player {player} has an exclusive session while player {} has it",
                held.player
            );
        }
        let until = sent + SESSION_SURE;
        self.exclusive = Some(Exclusive { player, until });
        Ok(())
    }

    /// Its owner used the session, or has given it up.
    pub(crate) fn exclusive_used(&mut self, player: PlayerId, sent: Option<u64>) {
        if let Some(held) = &mut self.exclusive
            && held.player == player
        {
            match sent {
                Some(sent) => held.until = sent + SESSION_SURE,
                None => self.exclusive = None,
            }
        }
    }

    // ---- retention ---------------------------------------------------------

    /// Below this nobody who asks now is shown anything.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// Somebody was told that the partition begins at `first`: what lies below
    /// may be gone only as its retention allows.
    pub(crate) fn begins_at(&mut self, first: u64) -> Result<(), Violation> {
        if first <= self.first {
            return Ok(());
        }
        let Retention { ms, bytes } = self.retention;
        promise!(
            self.retention.is_any(),
            "a stream that keeps everything begins at {first}"
        );
        let all: u64 = self
            .tried
            .values()
            .map(|tried| tried.bytes + RECORD_OVERHEAD_MAX)
            .sum();
        let by_size = bytes.is_some_and(|max| all > max);
        // What lives in memory grows old whatever the wall clock says.
        let by_age = self.memory && self.set_back;
        if !by_size {
            for (offset, value) in self.known.range(self.first..first) {
                let sent = self.tried[value].wall;
                promise!(
                    ms.is_some_and(|ms| sent + ms <= self.wall_max + 1 || by_age),
                    "offset {offset} is gone: sent at {sent} ms, now {} ms, kept {ms:?} ms or {bytes:?} bytes of at most {all}",
                    self.wall_max
                );
            }
        }
        self.first = first;
        Ok(())
    }

    /// Power was lost: what was let go and not written down may be there again.
    pub(crate) fn crashed(&mut self) {
        self.first = 0;
        self.exclusive = None;
    }

    /// The disk kept less than it said, and the partition ends at `end`. Gives
    /// when each record that is not there was heard of, and when each that is
    /// there was sent, by the wall clock.
    pub(super) fn forgotten(&mut self, end: u64) -> (Vec<u64>, Vec<u64>) {
        let lost = self.known_at.split_off(&end).into_values().collect();
        for value in self.known.split_off(&end).into_values() {
            self.places.remove(&value);
        }
        self.stamps.split_off(&end);
        let kept = self.known.values();
        (lost, kept.map(|value| self.tried[value].wall).collect())
    }

    /// Bytes of the values from `first` on.
    pub(crate) fn bytes_from(&self, first: u64) -> u64 {
        let values = self.known.range(first..);
        values.map(|(_, value)| self.tried[value].bytes).sum()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test may
mod tests {
    use super::*;

    fn stream(values: &[u64]) -> StreamTruth {
        let mut stream = StreamTruth::default();
        values
            .iter()
            .for_each(|value| stream.tried(*value, 1_000, 10));
        stream
    }

    #[test]
    fn a_record_that_moves_changes_or_appears_twice_is_noticed() {
        let (a, b) = (value_of(1, 0), value_of(1, 1));
        let mut truth = stream(&[a, b]);
        truth.known(4, a).unwrap();
        assert!(truth.known(4, b).is_err(), "changed");
        assert!(truth.known(5, a).is_err(), "twice");
        assert!(truth.known(6, 99).is_err(), "out of nothing");
        let mut truth = stream(&[a, b]);
        truth.known(4, b).unwrap();
        assert!(truth.known(5, a).is_err(), "out of order");
    }

    #[test]
    fn half_of_a_session_is_noticed_whoever_comes_first() {
        let values = [value_of(7, 0), value_of(7, 1), value_of(7, 2)];
        let mut truth = stream(&values);
        truth.committing(7, 3);
        truth.known(4, values[0]).unwrap();
        truth.told_end(4).unwrap();
        assert!(truth.told_end(5).is_err(), "an end between its records");
        assert!(truth.known(6, values[1]).is_err(), "torn apart");
        let mut truth = stream(&values);
        truth.committing(7, 3);
        truth.told_end(6).unwrap();
        assert!(
            truth.known(4, values[0]).is_err(),
            "the end was there before"
        );
    }

    fn shown(offset: u64, value: u64, stamp: u64) -> Shown {
        Shown {
            offset,
            stamp,
            headers: headers_of(value),
            value: Vec::new(),
        }
    }

    #[test]
    fn a_reader_that_was_not_given_what_it_wants_is_noticed_when_somebody_is() {
        let value = (0..).find(|value| Wish::Equal.wants(*value)).unwrap();
        let mut truth = stream(&[value]);
        truth.saw(1_000);
        truth.unwanted(Wish::Both, 0..4).unwrap();
        truth.all_older(1_001, 0..4);
        truth.shown(&shown(3, value, 1_000), value).unwrap();
        truth.unwanted(Wish::Equal, 3..4).unwrap();
        assert!(truth.shown(&shown(3, value, 1_000), value).is_err());
        assert!(truth.unwanted(Wish::All, 3..4).is_err());
        let mut truth = stream(&[value]);
        truth.saw(1_000);
        truth.all_older(1_000, 0..4);
        assert!(truth.shown(&shown(3, value, 1_000), value).is_err());
    }

    #[test]
    fn what_was_sent_after_an_end_was_told_lies_behind_it() {
        let (a, b) = (value_of(1, 0), value_of(2, 0));
        let mut truth = stream(&[a]);
        truth.known(4, a).unwrap();
        truth.tried(b, 1_000, 10);
        assert!(truth.known(3, b).is_err());
        truth.known(5, b).unwrap();
    }

    #[test]
    fn what_was_in_memory_does_not_come_back() {
        let (a, b) = (value_of(1, 0), value_of(1, 1));
        let mut truth = StreamTruth::in_memory(None, 1_000);
        truth.tried(a, 1_000, 10);
        truth.known(0, a).unwrap();
        truth.tried(b, 1_000, 10);
        truth.restarted();
        assert_eq!((truth.end(), truth.life()), (0, 1));
        truth.known(0, b).unwrap();
        assert!(truth.known(1, a).is_err());
    }

    #[test]
    fn another_time_or_other_headers_are_noticed() {
        let (a, b) = (value_of(1, 0), value_of(2, 0));
        let mut truth = stream(&[a, b]);
        truth.saw(1_005);
        assert!(
            truth.shown(&shown(4, a, 999), a).is_err(),
            "before it was sent"
        );
        let mut truth = stream(&[a, b]);
        truth.saw(1_005);
        assert!(truth.shown(&shown(4, a, 1_006), a).is_err(), "not yet");
        let mut truth = stream(&[a, b]);
        truth.saw(1_005);
        truth.shown(&shown(4, a, 1_003), a).unwrap();
        assert!(truth.shown(&shown(4, a, 1_004), a).is_err(), "changed");
        assert!(truth.shown(&shown(5, b, 1_002), b).is_err(), "goes back");
        let other = Shown {
            headers: vec![1],
            ..shown(4, a, 1_003)
        };
        assert!(truth.shown(&other, a).is_err(), "headers");
    }

    #[test]
    fn what_a_refused_commit_staged_may_never_be_seen() {
        let mut truth = stream(&[value_of(7, 0)]);
        truth.committing(7, 1);
        truth.not_committed(7, 1).unwrap();
        assert!(truth.known(0, value_of(7, 0)).is_err());
    }

    #[test]
    fn two_exclusive_sessions_are_noticed() {
        let mut truth = StreamTruth::default();
        truth.granted(1, 0, 10).unwrap();
        assert!(truth.granted(2, 20, 30).is_err());
        truth.exclusive_used(1, None);
        truth.granted(2, 20, 30).unwrap();
        truth.granted(1, SESSION_SURE, SESSION_SURE + 21).unwrap();
    }

    #[test]
    fn a_record_may_go_when_its_rule_says_so_and_not_before() {
        let value = value_of(1, 0);
        let mut truth = stream(&[value]);
        truth.known(0, value).unwrap();
        assert!(truth.begins_at(1).is_err(), "kept for ever");
        truth.retention.ms = Some(500);
        truth.saw(1_300);
        assert!(truth.begins_at(1).is_err(), "too young");
        truth.saw(1_500);
        truth.begins_at(1).unwrap();
        truth.crashed();
        truth.retention = Retention {
            ms: None,
            bytes: Some(1_000),
        };
        assert!(truth.begins_at(1).is_err(), "there is room");
        truth.retention.bytes = Some(100);
        truth.begins_at(1).unwrap();
    }
}
