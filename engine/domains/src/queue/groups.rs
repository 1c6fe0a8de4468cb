//! Groups of a partition: made, found, deleted.

use pinion_types::WallMs;

use super::config::{Bound, QueueError};
use super::group::{Group, Life};
use super::partition::{Effect, OpNumber, QueuePartition, bits, same_bytes};

impl QueuePartition {
    /// Makes a group, which begins with the oldest message the queue holds.
    /// It is there once the op is committed; repeating this is no error.
    ///
    /// # Errors
    /// [`QueueError`]; nothing has changed.
    pub fn create_group(&mut self, wall: WallMs, name: &[u8]) -> Result<OpNumber, QueueError> {
        if self.fenced {
            return Err(QueueError::Fenced);
        }
        match self.find_group(name) {
            Some(group) => match self.t.group(group).life {
                Life::Open => return Ok(OpNumber(0)),
                Life::Creating => return Ok(self.numbered()),
                Life::Closing => return Err(QueueError::UnknownGroup),
            },
            None => self.new_group(wall, name, None)?,
        };
        Ok(self.numbered())
    }

    /// As [`QueuePartition::create_group`], for a group that begins with the
    /// next put. Messages that nobody has a view of yet are not lost by it: they
    /// are the default group's, which is made, too. Costs a walk over all
    /// messages when it is committed.
    ///
    /// # Errors
    /// [`QueueError`]; nothing has changed.
    pub fn create_group_latest(
        &mut self,
        wall: WallMs,
        name: &[u8],
    ) -> Result<OpNumber, QueueError> {
        if self.fenced || name.is_empty() || self.find_group(name).is_some() {
            // The default group is there from the beginning.
            return self.create_group(wall, name);
        }
        let nobodys = self.t.groups.iter().all(Option::is_none)
            && (self.t.messages.len() > 0 || self.pending_messages > 0);
        if nobodys && self.groups_limit() < 2 {
            return Err(QueueError::TooMany {
                bound: Bound::Groups,
                limit: u32::from(self.config.groups_max),
            });
        }
        let group = self.new_group(wall, name, Some(self.next_id))?;
        if nobodys {
            // Before it in the log: whatever is gone for the one is still the
            // other's.
            let create = self.queued.pop_back().expect("queued just now");
            let made = self.new_group(wall, b"", None);
            assert!(made.is_ok(), "there is room for two");
            self.queued.push_back(create);
        }
        debug_assert!(self.t.group(group).life == Life::Creating);
        Ok(self.numbered())
    }

    fn groups_limit(&self) -> usize {
        usize::from(self.config.groups_max).min(super::GROUPS_MAX)
    }

    /// Makes a group that begins with message `from`, or with the oldest.
    pub(super) fn new_group(
        &mut self,
        wall: WallMs,
        name: &[u8],
        from: Option<u64>,
    ) -> Result<u8, QueueError> {
        let limit = super::GROUP_NAME_BYTES_MAX;
        if name.len() > limit {
            return Err(QueueError::OutOfRange {
                actual: name.len() as u64,
                limit: limit as u64,
            });
        }
        let free = (0..self.groups_limit())
            .find(|slot| self.t.groups.get(*slot).is_none_or(Option::is_none));
        let Some(slot) = free else {
            return Err(QueueError::TooMany {
                bound: Bound::Groups,
                limit: u32::from(self.config.groups_max),
            });
        };
        let group = u8::try_from(slot).expect("at most GROUPS_MAX groups");
        self.place_group(group, name, Life::Creating);
        self.queue(Effect::GroupCreate(group, wall, from));
        Ok(group)
    }

    pub(super) fn place_group(&mut self, group: u8, name: &[u8], life: Life) {
        let slot = usize::from(group);
        if self.t.groups.len() <= slot {
            self.t.groups.resize_with(slot + 1, || None);
        }
        let mut row = Group::new(name, life);
        row.progress = self.clock;
        self.t.groups[slot] = Some(row);
    }

    /// Deletes a group: it is done with every message, its dead letters
    /// included. Costs a walk over all messages when it is committed. Repeating
    /// this before it is committed is no error.
    ///
    /// # Errors
    /// [`QueueError::UnknownGroup`], [`QueueError::Fenced`].
    pub fn delete_group(&mut self, wall: WallMs, name: &[u8]) -> Result<OpNumber, QueueError> {
        if self.fenced {
            return Err(QueueError::Fenced);
        }
        let group = match self.find_group(name) {
            Some(group) => match self.t.group(group).life {
                // One whose making is not durable yet goes right after it.
                Life::Open | Life::Creating => group,
                // Asked for again: "gone" would be more than the disk has.
                Life::Closing => return Ok(self.numbered()),
            },
            // It is there, with all its messages, though nobody has used it.
            None if self.is_unused_default(name) => self.new_group(wall, name, None)?,
            None => return Err(QueueError::UnknownGroup),
        };
        self.t.group_mut(group).life = Life::Closing;
        self.end_demands_of(group);
        self.queue(Effect::GroupDelete(group, wall));
        Ok(self.numbered())
    }

    pub(super) fn find_group(&self, name: &[u8]) -> Option<u8> {
        let slot = self
            .t
            .groups
            .iter()
            .position(|g| g.as_ref().is_some_and(|g| same_bytes(&g.name, name)))?;
        Some(u8::try_from(slot).expect("at most GROUPS_MAX groups"))
    }

    /// Whether the name is that of the default group of a queue that has no
    /// group yet, for the log: it has every message and nobody has used it.
    pub(super) fn is_unused_default(&self, name: &[u8]) -> bool {
        name.is_empty()
            && self.group_mask == 0
            && self
                .find_group(name)
                .is_none_or(|group| self.t.group(group).life == Life::Creating)
    }

    pub(super) fn open_group(&self, name: &[u8]) -> Result<u8, QueueError> {
        let group = self.find_group(name).ok_or(QueueError::UnknownGroup)?;
        match self.t.group(group).life {
            Life::Open => Ok(group),
            Life::Creating | Life::Closing => Err(QueueError::UnknownGroup),
        }
    }

    /// Every group's number, whatever its life.
    pub(super) fn groups(&self) -> impl Iterator<Item = u8> + use<> {
        let mut mask = 0_u64;
        for (slot, group) in self.t.groups.iter().enumerate() {
            if group.is_some() {
                mask |= 1 << slot;
            }
        }
        bits(mask)
    }

    /// Names of the groups that exist or are being created; the default one's
    /// as long as there is no other.
    pub fn group_names(&self) -> impl Iterator<Item = &[u8]> + '_ {
        let unused = self.group_mask == 0 && self.find_group(b"").is_none();
        self.t
            .groups
            .iter()
            .flatten()
            .filter(|group| group.life != Life::Closing)
            .map(|group| &*group.name)
            .chain(unused.then_some(&b""[..]))
    }
}
