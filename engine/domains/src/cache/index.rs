//! Key hash → slot, in segments small enough that growing one is a short pause.

use hashbrown::HashTable;

use super::slots::{Entry, Slots, allocation_bytes};

/// Entries a segment is meant for. Growing rehashes one segment: about 20 ns an
/// entry, so the longest pause is below a tenth of a millisecond.
const SEGMENT_ENTRIES: u64 = 4096;
/// The least an entry can cost: its slot, one word of key, its share here.
const ENTRY_BYTES_MIN: u64 = 80;
/// Below this capacity a segment is not worth shrinking.
const SHRINK_ABOVE: usize = 28;

/// Finds slots by hash; the owner compares the keys.
#[derive(Debug)]
pub(super) struct Index {
    segments: Box<[HashTable<u32>]>,
    bytes: u64,
}

impl Index {
    /// An index for what a budget can hold.
    pub(super) fn new(budget_bytes: u64) -> Self {
        let entries = budget_bytes / ENTRY_BYTES_MIN;
        let count = (entries / SEGMENT_ENTRIES).max(1).next_power_of_two();
        let segments: Box<[HashTable<u32>]> = (0..count).map(|_| HashTable::new()).collect();
        let bytes = count * size_of::<HashTable<u32>>() as u64;
        Self { segments, bytes }
    }

    /// Heap bytes.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Heap bytes that remain when every entry is gone.
    pub(super) fn bytes_min(&self) -> u64 {
        let empty = allocation_bytes(SHRINK_ABOVE.next_power_of_two() * 5 + 16);
        self.segments.len() as u64 * (size_of::<HashTable<u32>>() as u64 + empty)
    }

    /// What one more entry may add to `bytes`.
    pub(super) fn growth_bytes(&self, hash: u64) -> u64 {
        let segment = &self.segments[self.segment(hash)];
        if segment.len() < segment.capacity() {
            return 0;
        }
        // Doubling; never more than twice the old size and its control tail.
        (table_bytes(segment) + 32).max(64)
    }

    pub(super) fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        self.segments[self.segment(hash)]
            .find(hash, |&slot| is_it(slot))
            .copied()
    }

    /// The slot that a lookup of `hash` will most likely find. Looks at the table
    /// alone, not at the entry.
    pub(super) fn guess(&self, hash: u64) -> Option<u32> {
        self.find(hash, |_| true)
    }

    /// Adds a slot whose entry carries `hash`. May rehash its segment.
    pub(super) fn insert(&mut self, hash: u64, slot: u32, slots: &Slots) {
        let at = self.segment(hash);
        let segment = &mut self.segments[at];
        let before = table_bytes(segment);
        segment.insert_unique(hash, slot, |&other| Entry::hash_of(slots, other));
        self.bytes = self.bytes - before + table_bytes(segment);
    }

    /// Removes a slot; gives memory back when three quarters of it are unused.
    pub(super) fn remove(&mut self, hash: u64, slot: u32, slots: &Slots) {
        let at = self.segment(hash);
        let segment = &mut self.segments[at];
        let before = table_bytes(segment);
        segment
            .find_entry(hash, |&other| other == slot)
            .expect("an entry is in the index")
            .remove();
        if segment.capacity() > SHRINK_ABOVE && segment.len() < segment.capacity() / 4 {
            let keep = segment.len() * 2;
            segment.shrink_to(keep, |&other| Entry::hash_of(slots, other));
        }
        self.bytes = self.bytes - before + table_bytes(segment);
    }

    const fn segment(&self, hash: u64) -> usize {
        // The table takes its position from the lowest bits and its tag from the
        // seven highest; the segment takes what lies between.
        ((hash >> 32) & (self.segments.len() as u64 - 1)) as usize
    }
}

fn table_bytes(segment: &HashTable<u32>) -> u64 {
    allocation_bytes(segment.allocation_size())
}

impl Entry {
    fn hash_of(slots: &Slots, slot: u32) -> u64 {
        slots.get(slot).hash
    }
}
