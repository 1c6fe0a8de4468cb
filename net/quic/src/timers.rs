//! One deadline per connection, the earliest always at hand.
//!
//! An indexed binary heap: `position` remembers where each slot sits, so moving
//! a deadline is a sift of O(log n) without allocation and there are never stale
//! entries. Idle connections cost nothing per turn: only the root is looked at.

use std::time::Instant;

/// Marks a slot that has no deadline.
const ABSENT: u32 = u32::MAX;

/// Deadlines by connection slot. Owned by one core's endpoint.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: Vec<(Instant, u32)>,
    position: Vec<u32>,
}

impl Timers {
    /// The earliest deadline and whose it is.
    pub(crate) fn first(&self) -> Option<(Instant, u32)> {
        self.heap.first().copied()
    }

    /// Sets, moves or (with `None`) removes the deadline of `slot`.
    pub(crate) fn set(&mut self, slot: u32, deadline: Option<Instant>) {
        let index = slot as usize;
        if index >= self.position.len() {
            if deadline.is_none() {
                return;
            }
            self.position.resize(index + 1, ABSENT);
        }
        match (self.position[index], deadline) {
            (ABSENT, None) => {}
            (ABSENT, Some(at)) => {
                self.heap.push((at, slot));
                self.sift_up(self.heap.len() - 1);
            }
            (here, None) => self.remove(here as usize),
            (here, Some(at)) => {
                let here = here as usize;
                let old = std::mem::replace(&mut self.heap[here].0, at);
                if at < old {
                    self.sift_up(here);
                } else if at > old {
                    self.sift_down(here);
                }
            }
        }
    }

    fn remove(&mut self, here: usize) {
        let (_, slot) = self.heap.swap_remove(here);
        self.position[slot as usize] = ABSENT;
        if here < self.heap.len() {
            self.sift_up(here);
            let moved = self.position[self.heap[here].1 as usize] as usize;
            self.sift_down(moved.max(here));
        }
    }

    fn place(&mut self, at: usize, entry: (Instant, u32)) {
        self.heap[at] = entry;
        #[allow(clippy::cast_possible_truncation)] // one entry per u32 slot
        let at = at as u32;
        self.position[entry.1 as usize] = at;
    }

    fn sift_up(&mut self, mut at: usize) {
        let entry = self.heap[at];
        while at > 0 {
            let parent = (at - 1) / 2;
            if self.heap[parent] <= entry {
                break;
            }
            self.place(at, self.heap[parent]);
            at = parent;
        }
        self.place(at, entry);
    }

    fn sift_down(&mut self, mut at: usize) {
        let entry = self.heap[at];
        loop {
            let mut child = 2 * at + 1;
            if child >= self.heap.len() {
                break;
            }
            if child + 1 < self.heap.len() && self.heap[child + 1] < self.heap[child] {
                child += 1;
            }
            if entry <= self.heap[child] {
                break;
            }
            self.place(at, self.heap[child]);
            at = child;
        }
        self.place(at, entry);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::time::Duration;

    proptest! {
        #[test]
        fn agrees_with_a_sorted_map(steps in proptest::collection::vec((0u32..12, proptest::option::of(0u64..50)), 1..300)) {
            let origin = Instant::now();
            let mut timers = Timers::default();
            let mut model: BTreeMap<u32, Instant> = BTreeMap::new();
            for (slot, deadline) in steps {
                let deadline = deadline.map(|ms| origin + Duration::from_millis(ms));
                timers.set(slot, deadline);
                match deadline {
                    Some(at) => { model.insert(slot, at); }
                    None => { model.remove(&slot); }
                }
                let expected = model.iter().map(|(slot, at)| (*at, *slot)).min();
                prop_assert_eq!(timers.first(), expected);
                prop_assert_eq!(timers.heap.len(), model.len());
            }
        }
    }
}
