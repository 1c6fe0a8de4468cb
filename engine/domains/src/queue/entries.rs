//! Entries: where a message stands in a group, and the lists, maps and timers
//! each state has it in. Every change of state goes through `detach`.

use super::messages::{Entry, State};
use super::partition::QueuePartition;
use super::pool::{NIL, Row, Timer};

impl QueuePartition {
    pub(super) fn entry_of(&self, message: u32, group: u8) -> Option<u32> {
        let mut entry = self.t.messages[message].entry;
        while entry != NIL {
            let row = &self.t.entries[entry];
            if row.group == group {
                return Some(entry);
            }
            entry = row.sibling;
        }
        None
    }

    /// A new entry, in no state yet.
    pub(super) fn new_entry(&mut self, message: u32, group: u8) -> u32 {
        self.touch(message, group);
        let entry = self.t.entries.alloc();
        let row = &mut self.t.entries[entry];
        // An old token of the row must not be taken for one of this message.
        let generation = row.generation.wrapping_add(1);
        *row = Entry {
            message,
            sibling: self.t.messages[message].entry,
            generation,
            group,
            state: State::Restored,
            ..Entry::vacant()
        };
        self.t.messages[message].entry = entry;
        entry
    }

    pub(super) fn free_entry(&mut self, entry: u32) {
        let row = &mut self.t.entries[entry];
        let (message, sibling) = (row.message, row.sibling);
        row.state = State::Free;
        row.trouble = None;
        let head = &mut self.t.messages[message].entry;
        if *head == entry {
            *head = sibling;
        } else {
            let mut at = *head;
            while self.t.entries[at].sibling != entry {
                at = self.t.entries[at].sibling;
            }
            self.t.entries[at].sibling = sibling;
        }
        self.t.entries.free(entry);
    }

    pub(super) fn touch(&mut self, message: u32, group: u8) {
        let row = &mut self.t.messages[message];
        let bit = 1 << group;
        if row.touched & bit != 0 {
            return;
        }
        row.touched |= bit;
        let delayed = row.delayed;
        let group = self.t.group_mut(group);
        if delayed {
            group.touched_delayed += 1;
        } else {
            group.touched += 1;
        }
    }

    /// Takes an entry out of every list, map and timer its state has it in.
    pub(super) fn detach(&mut self, entry: u32) {
        let row = &mut self.t.entries[entry];
        let (state, group, consumer, message) = (row.state, row.group, row.consumer, row.message);
        row.state = State::Restored;
        let id = self.t.messages[message].id;
        match state {
            State::Free | State::Restored => {}
            State::Front => {
                self.t.group_mut(group).front.remove(&id);
            }
            State::Returned => {
                self.t.group_mut(group).returned.remove(&id);
            }
            State::Delayed => {
                self.disarm(Timer::Entry(entry));
                self.t.group_mut(group).delayed -= 1;
            }
            State::InFlight => {
                self.disarm(Timer::Entry(entry));
                self.consumers[consumer]
                    .reservations
                    .remove(&mut self.t.entries, entry);
                self.t.entries[entry].consumer = NIL;
                self.t.group_mut(group).in_flight -= 1;
                self.unblock(group, consumer);
            }
            State::Settling => {
                self.t.group_mut(group).settling -= 1;
                self.kick(group);
            }
            State::Parked => {
                let key = self.t.messages[message].key;
                let row = self.t.groups[usize::from(group)]
                    .as_mut()
                    .expect("a group in use exists");
                row.parked -= 1;
                let turn = row
                    .keys
                    .get_mut(&key)
                    .expect("a parked message has a turn to wait for");
                turn.waiting.remove(&mut self.t.entries, entry);
            }
            State::Dead => {
                self.t.group_mut(group).dead.remove(&id);
                self.dead -= 1;
            }
        }
    }

    /// Ready, without a limit of rate.
    pub(super) fn make_ready(&mut self, entry: u32) {
        let id = self.id_of(entry);
        let row = &mut self.t.entries[entry];
        row.state = State::Front;
        let group = row.group;
        self.t.group_mut(group).front.insert(id, entry);
        self.kick(group);
    }

    /// Ready again, at the group's rate of redelivery.
    pub(super) fn make_returned(&mut self, entry: u32) {
        let id = self.id_of(entry);
        let row = &mut self.t.entries[entry];
        row.state = State::Returned;
        let group = row.group;
        self.t.group_mut(group).returned.insert(id, entry);
        self.kick(group);
    }

    /// Frees the turn of the entry's key and gives it to the next in line.
    pub(super) fn yield_key(&mut self, entry: u32) {
        let row = &mut self.t.entries[entry];
        if !core::mem::take(&mut row.owns_key) {
            return;
        }
        let (group, message) = (row.group, row.message);
        let key = self.t.messages[message].key;
        let row = self.t.groups[usize::from(group)]
            .as_mut()
            .expect("a group in use exists");
        let turn = row.keys.get_mut(&key).expect("the owner of a turn has one");
        match turn.waiting.pop_front(&mut self.t.entries) {
            Some(next) => {
                row.parked -= 1;
                self.t.entries[next].owns_key = true;
                self.make_ready(next);
            }
            None => {
                row.keys.remove(&key);
            }
        }
    }
}
