//! What clients were told, and what must therefore be true: the oracles of a
//! whole node. Nothing of it comes from inside the engine.

mod queue;
mod stream;
mod wish;

use std::collections::BTreeMap;

use crate::{Violation, promise};

pub(crate) use queue::{Birth, GroupName, Moment, PutTruth, QueueRules, QueueTruth, Reservation};
pub(crate) use stream::{Retention, StreamTruth, value_of};
pub(crate) use wish::{Wish, headers_of};

/// Who reads or works: a player of the world.
pub(crate) type PlayerId = usize;

/// Times so close to each other may be in any order.
const SAME_MOMENT_MS: u64 = 2;

/// A partition: its resource's index in the plan, and its number.
pub(crate) type Key = (usize, u16);

/// One named cursor.
#[derive(Debug, Default)]
pub(crate) struct CursorTruth {
    /// What was acknowledged last.
    acked: Option<u64>,
    /// What was asked since then, with unknown outcome.
    asked: Vec<Option<u64>>,
}

impl CursorTruth {
    /// Somebody wants it there, or forgotten.
    pub(crate) fn asked(&mut self, place: Option<u64>) {
        self.asked.push(place);
    }

    pub(crate) fn acked(&mut self, place: Option<u64>) {
        // Requests of one connection are answered in order.
        if let Some(index) = self.asked.iter().position(|asked| *asked == place) {
            self.asked.drain(..=index);
        }
        self.acked = place;
    }

    /// Somebody read it.
    pub(crate) fn read(&mut self, offset: Option<u64>) -> Result<(), Violation> {
        let possible = offset == self.acked || self.asked.contains(&offset);
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
    pub(crate) streams: BTreeMap<Key, StreamTruth>,
    pub(crate) queues: BTreeMap<Key, QueueTruth>,
    pub(crate) cursors: BTreeMap<(usize, u16, u64), CursorTruth>,
    pub(crate) counts: NodeCounts,
    /// The disk may have kept less than it said: an end may have gone back.
    pub(crate) lossy: bool,
    /// Of what was lost and of what was kept, see [`Truth::forgotten`]; in
    /// milliseconds of the wall clock.
    lost: Vec<u64>,
    kept: Vec<u64>,
}

impl Truth {
    pub(crate) fn stream(&mut self, key: Key) -> &mut StreamTruth {
        self.streams.entry(key).or_default()
    }

    pub(crate) fn queue(&mut self, key: Key) -> &mut QueueTruth {
        self.queues.entry(key).or_default()
    }

    /// After a disk lied: a partition was found to end at `end`, or a queue to go
    /// on with the id `end`. `wall_at_zero` is the wall clock when the world began.
    pub(crate) fn forgotten(&mut self, key: Key, end: u64, wall_at_zero: u64) {
        let (lost, kept) = if let Some(queue) = self.queues.get_mut(&key) {
            let wall = |nanos: u64| wall_at_zero + nanos / 1_000_000;
            let (lost, kept) = queue.forgotten(end);
            let all = |times: Vec<u64>| times.into_iter().map(wall).collect::<Vec<_>>();
            (all(lost), all(kept))
        } else {
            self.stream(key).forgotten(end)
        };
        self.lost.extend(lost);
        self.kept.extend(kept);
    }

    /// What was lost without a notice is the end of the log: nothing that was
    /// sent after the first of it was acknowledged is there, and the disk has kept
    /// no write of the newest segment that began later, at `durable` or before.
    /// Gives how much was lost.
    pub(crate) fn lost_a_suffix(
        &mut self,
        wall_at_zero: u64,
        durable: Option<u64>,
    ) -> Result<usize, Violation> {
        for queue in self.queues.values_mut() {
            let wall = |nanos: u64| wall_at_zero + nanos / 1_000_000;
            self.lost.extend(queue.undone.drain(..).map(wall));
        }
        let first_lost = self.lost.iter().min().copied();
        if let (Some(lost), Some(durable)) = (first_lost, durable) {
            promise!(
                durable <= lost + SAME_MOMENT_MS,
                "what was acknowledged at {lost} ms is lost, a write of {durable} ms is on the disk, and nobody says so"
            );
        }
        let last_kept = self.kept.iter().max().copied();
        if let (Some(lost), Some(kept)) = (first_lost, last_kept) {
            promise!(
                kept <= lost + SAME_MOMENT_MS,
                "what was acknowledged at {lost} ms is lost, what was sent at {kept} ms is there, and nobody says so"
            );
        }
        Ok(self.lost.len())
    }

    /// The node starts.
    pub(crate) fn restarted(&mut self) {
        self.streams.values_mut().for_each(StreamTruth::restarted);
    }

    /// Power was lost.
    pub(crate) fn crashed(&mut self) {
        self.streams.values_mut().for_each(StreamTruth::crashed);
        self.queues.values_mut().for_each(QueueTruth::crashed);
    }
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
    /// Dead letters found in lists.
    pub dead: u64,
    /// Append sessions committed.
    pub sessions: u64,
    /// Append sessions given up, on purpose or with their connection.
    pub rolled_back: u64,
    /// Publishes and puts repeated after their acknowledgement.
    pub repeats: u64,
    /// Records that readers were told to have missed, by retention.
    pub lagged: u64,
    /// Records delivered by a filter.
    pub filtered: u64,
    /// Subscriptions from a time that were given something.
    pub since: u64,
    /// Subscriptions refused because they were to begin behind the end.
    pub beyond: u64,
    /// Records that readers were told to have missed because they were too slow.
    pub dropped: u64,
    /// Subscriptions ended because they were too slow.
    pub disconnected: u64,
    /// Publishes refused because a reader that blocks is behind.
    pub backlogged: u64,
    /// Records acknowledged in memory.
    pub in_memory: u64,
    /// Producers that were told that nobody knows them any more.
    pub forgotten: u64,
    /// Consumer groups made while the queue was at work.
    pub groups_made: u64,
    /// Consumer groups deleted.
    pub groups_deleted: u64,
    /// Cursors deleted.
    pub cursors_deleted: u64,
    /// Dead letters made ready again, or forgotten.
    pub redriven: u64,
    /// Times a partition's counts and sizes were compared.
    pub inspected: u64,
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
        self.sessions += other.sessions;
        self.rolled_back += other.rolled_back;
        self.repeats += other.repeats;
        self.lagged += other.lagged;
        self.filtered += other.filtered;
        self.since += other.since;
        self.beyond += other.beyond;
        self.dropped += other.dropped;
        self.disconnected += other.disconnected;
        self.backlogged += other.backlogged;
        self.in_memory += other.in_memory;
        self.forgotten += other.forgotten;
        self.groups_made += other.groups_made;
        self.groups_deleted += other.groups_deleted;
        self.cursors_deleted += other.cursors_deleted;
        self.redriven += other.redriven;
        self.inspected += other.inspected;
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

    #[test]
    fn a_cursor_shows_what_was_acknowledged_or_is_on_its_way() {
        let mut cursor = CursorTruth::default();
        cursor.read(None).unwrap();
        cursor.asked(Some(5));
        cursor.read(Some(5)).unwrap();
        cursor.acked(Some(5));
        cursor.asked(Some(9));
        cursor.read(Some(9)).unwrap();
        cursor.read(Some(5)).unwrap();
        assert!(cursor.read(None).is_err());
        assert!(cursor.read(Some(4)).is_err());
        cursor.asked(None);
        cursor.read(None).unwrap();
        cursor.acked(None);
        assert!(cursor.read(Some(9)).is_err(), "forgotten");
    }
}
