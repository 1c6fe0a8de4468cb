//! A consumer group that is made and deleted while the queue is at work, again and
//! again under the same name. Each time it begins anew.

use std::collections::BTreeSet;

use super::{Fate, GroupName, GroupTruth, MessageTruth, QueueTruth};
use crate::{Violation, promise};

/// What cannot be in a group, because of when and how it was made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Birth {
    /// It was to begin with the next put: nothing below this is its.
    from: u64,
    /// Every group was done with these before it was made.
    gone: BTreeSet<u64>,
    /// It was to begin with the oldest message there is.
    earliest: bool,
}

impl Birth {
    pub(super) fn check(&self, id: u64) -> Result<(), Violation> {
        promise!(
            id >= self.from,
            "message {id} is given to a group that began with {} or later",
            self.from
        );
        promise!(
            !self.gone.contains(&id),
            "message {id} was done with for every group before this one was made"
        );
        Ok(())
    }
}

impl MessageTruth {
    /// Whether the queue has it for certain, for this group.
    fn is_there(&self) -> bool {
        let known = self.expected || self.seen;
        let ended = self.purged || self.ack_lost || !self.acks.is_empty();
        known && !ended && matches!(self.fate, Fate::Open | Fate::Dead)
    }
}

impl QueueTruth {
    /// Somebody asks for a group that is not there, for certain.
    pub(crate) fn making(&mut self, latest: bool) -> Birth {
        self.visited = true;
        let from = if latest { self.next_id() } else { 0 };
        let done = |id: &u64| {
            let its = |group: &GroupTruth| group.messages.get(id).map(|one| one.fate);
            self.groups
                .values()
                .all(|group| its(group) == Some(Fate::Done))
        };
        Birth {
            from,
            gone: self.values.keys().copied().filter(done).collect(),
            earliest: !latest,
        }
    }

    /// It is there.
    pub(crate) fn made(&mut self, name: GroupName, birth: Birth) {
        let mut group = GroupTruth {
            open: true,
            ..GroupTruth::default()
        };
        for (id, value) in &self.values {
            // What some group has, and nobody has begun to end, is there.
            let lives = self.puts.get(value).is_some_and(|put| put.ttl == 0);
            let there =
                |group: &GroupTruth| group.messages.get(id).is_some_and(MessageTruth::is_there);
            let expected = birth.earliest && lives && self.groups.values().any(there);
            group.messages.insert(*id, MessageTruth::new(expected));
        }
        group.birth = birth;
        self.groups.insert(name, group);
    }

    /// Somebody asks for it to be deleted: nothing is expected of it any more.
    pub(crate) fn unmaking(&mut self, name: GroupName) {
        self.groups.remove(name);
        for then in self.open_then.values_mut() {
            then.retain(|group| *group != name);
        }
    }

    /// Whether the group is there for certain.
    pub(crate) fn has_group(&self, name: GroupName) -> bool {
        self.groups.get(name).is_some_and(|group| group.open)
    }
}
