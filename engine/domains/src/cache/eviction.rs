//! Which entry leaves when room is needed: S3-FIFO.
//!
//! Yang, Zhang, Qiu, Yue, Rashmi: "FIFO queues are all you need for cache
//! eviction", SOSP '23; sections below refer to it. Three differences, each
//! forced by a bound: sizes are bytes rather than objects, one request promotes
//! or reinserts at most [`EVICTION_STEPS_MAX`] entries before it takes tails as
//! they are (in the paper a cache full of hot entries is walked whole), and
//! the ghost queue is a fixed set-associative table (§4.2 proposes the index).

use super::slots::{NIL, Place, Slots};

/// Entries one request may promote or reinsert while it makes room, before it
/// takes whatever is at the tail; about 0.1 ms. More follows the paper longer when
/// everything is hot; fewer shortens the worst call.
pub const EVICTION_STEPS_MAX: u32 = 1024;

/// S holds one part in this many of the bytes (§4.1: "10 % of the cache space").
const SMALL_SHARE: u64 = 10;
/// Largest frequency: two bits (§4.1).
const FREQ_MAX: u8 = 3;
/// An entry in S needs more accesses than this to enter M (§4.1, algorithm 1).
const PROMOTE_ABOVE: u8 = 1;

/// Why an entry is at the end of its FIFO, as the owner must treat it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Victim(pub(super) u32);

#[derive(Debug)]
struct Fifo {
    place: Place,
    head: u32,
    tail: u32,
    len: u32,
    bytes: u64,
}

impl Fifo {
    const fn new(place: Place) -> Self {
        Self {
            place,
            head: NIL,
            tail: NIL,
            len: 0,
            bytes: 0,
        }
    }

    fn push(&mut self, slots: &mut Slots, slot: u32) {
        let head = self.head;
        let entry = slots.get_mut(slot);
        entry.place = self.place;
        entry.prev = NIL;
        entry.next = head;
        self.bytes += entry.weight();
        self.len += 1;
        self.head = slot;
        if head == NIL {
            self.tail = slot;
        } else {
            slots.get_mut(head).prev = slot;
        }
    }

    fn unlink(&mut self, slots: &mut Slots, slot: u32) {
        let entry = slots.get(slot);
        assert!(entry.place == self.place, "slot {slot} is in another queue");
        let (prev, next, weight) = (entry.prev, entry.next, entry.weight());
        self.bytes -= weight;
        self.len -= 1;
        if prev == NIL {
            self.head = next;
        } else {
            slots.get_mut(prev).next = next;
        }
        if next == NIL {
            self.tail = prev;
        } else {
            slots.get_mut(next).prev = prev;
        }
    }
}

/// The three queues.
#[derive(Debug)]
pub(super) struct S3Fifo {
    small: Fifo,
    main: Fifo,
    ghost: Ghost,
}

impl S3Fifo {
    pub(super) fn new(budget_bytes: u64) -> Self {
        Self {
            small: Fifo::new(Place::Small),
            main: Fifo::new(Place::Main),
            ghost: Ghost::new(budget_bytes),
        }
    }

    /// Heap bytes; fixed.
    pub(super) fn bytes(&self) -> u64 {
        self.ghost.bytes()
    }

    /// A new entry: into M if S dropped it recently, else into S (§4.1 "insertion").
    pub(super) fn insert(&mut self, slots: &mut Slots, slot: u32) {
        let hash = slots.get(slot).hash;
        if self.ghost.take(hash, self.main.len) {
            self.main.push(slots, slot);
        } else {
            self.small.push(slots, slot);
        }
    }

    /// A hit moves nothing; it counts up to three (§4.1 "hit").
    pub(super) fn touch(slots: &mut Slots, slot: u32) {
        let entry = slots.get_mut(slot);
        entry.freq = (entry.freq + 1).min(FREQ_MAX);
    }

    /// The entry's allocation changed from weight `before`.
    pub(super) fn reweigh(&mut self, slots: &Slots, slot: u32, before: u64) {
        let entry = slots.get(slot);
        let fifo = self.fifo(entry.place);
        fifo.bytes = fifo.bytes - before + entry.weight();
    }

    pub(super) fn remove(&mut self, slots: &mut Slots, slot: u32) {
        let place = slots.get(slot).place;
        self.fifo(place).unlink(slots, slot);
    }

    /// Chooses the entry to leave, never `pinned`, and remembers it in G if it
    /// comes from S. It stays linked; the owner removes it. Each other entry that is
    /// moved costs one of `steps`. `None`: there is no other entry.
    pub(super) fn choose(
        &mut self,
        slots: &mut Slots,
        pinned: u32,
        steps: &mut u32,
    ) -> Option<Victim> {
        loop {
            // Algorithm 1, EVICT: from S while it is over its share, else from M.
            let over = self.small.bytes * SMALL_SHARE >= self.small.bytes + self.main.bytes;
            let alone = |fifo: &Fifo| fifo.len == 0 || (fifo.len == 1 && fifo.tail == pinned);
            let from_small = match (alone(&self.small), alone(&self.main)) {
                (true, true) => return None,
                (true, false) => false,
                (false, true) => true,
                (false, false) => over,
            };
            let fifo = if from_small {
                &mut self.small
            } else {
                &mut self.main
            };
            let slot = fifo.tail;
            if slot == pinned {
                fifo.unlink(slots, slot);
                fifo.push(slots, slot);
                continue;
            }
            let freq = slots.get(slot).freq;
            let spent = *steps == 0;
            if from_small {
                if freq > PROMOTE_ABOVE && !spent {
                    // EVICT_S: to M, with its count cleared.
                    self.small.unlink(slots, slot);
                    slots.get_mut(slot).freq = 0;
                    self.main.push(slots, slot);
                } else {
                    self.ghost.insert(slots.get(slot).hash);
                    return Some(Victim(slot));
                }
            } else if freq > 0 && !spent {
                // EVICT_M: FIFO-reinsertion, one access forgotten per round.
                self.main.unlink(slots, slot);
                slots.get_mut(slot).freq = freq - 1;
                self.main.push(slots, slot);
            } else {
                return Some(Victim(slot));
            }
            *steps -= 1;
        }
    }

    fn fifo(&mut self, place: Place) -> &mut Fifo {
        match place {
            Place::Small => &mut self.small,
            Place::Main => &mut self.main,
            Place::Free => unreachable!("a free slot is in no queue"),
        }
    }
}

/// The part of the budget the ghost table takes: at the usual 130 to 500 bytes an
/// entry that is at least as many ghosts as M has entries.
const GHOST_SHARE: u64 = 32;
const GHOST_WAYS: usize = 8;
/// Bits by which an age in the table wraps; an age is a count of insertions
/// divided so that the table's size is a quarter of the range.
const AGE_BITS: u32 = 16;

/// G: hashes of what S dropped, no values (§4.1). As many as M has entries count;
/// older ones are ignored and overwritten.
#[derive(Debug)]
struct Ghost {
    /// Sets of `GHOST_WAYS` words: fingerprint in the high half, age in the low.
    words: Box<[u32]>,
    inserted: u64,
    age_shift: u32,
}

impl Ghost {
    fn new(budget_bytes: u64) -> Self {
        let words = budget_bytes / GHOST_SHARE / size_of::<u32>() as u64;
        let words = 1 << words.max(GHOST_WAYS as u64).ilog2();
        Self {
            // Zeroed memory the system has not backed yet costs nothing until used.
            words: vec![0; words].into_boxed_slice(),
            inserted: 0,
            age_shift: words.ilog2().saturating_sub(AGE_BITS - 2),
        }
    }

    fn bytes(&self) -> u64 {
        size_of_val(&*self.words) as u64
    }

    fn insert(&mut self, hash: u64) {
        self.inserted += 1;
        let now = self.now();
        let fingerprint = fingerprint(hash);
        let set = self.set(hash);
        let at = (0..GHOST_WAYS)
            .max_by_key(|&i| {
                let word = set[i];
                let same = word >> AGE_BITS == fingerprint;
                (same, word == 0, age(now, word))
            })
            .expect("a set has ways");
        set[at] = (fingerprint << AGE_BITS) | u32::from(now);
    }

    /// Whether the hash is among the last `reach` insertions; forgets it.
    fn take(&mut self, hash: u64, reach: u32) -> bool {
        let now = self.now();
        let shift = self.age_shift;
        let fingerprint = fingerprint(hash);
        for word in self.set(hash) {
            if *word >> AGE_BITS == fingerprint {
                let known = u64::from(age(now, *word)) << shift <= u64::from(reach);
                *word = 0;
                return known;
            }
        }
        false
    }

    #[allow(clippy::cast_possible_truncation)] // An age wraps by design.
    const fn now(&self) -> u16 {
        (self.inserted >> self.age_shift) as u16
    }

    fn set(&mut self, hash: u64) -> &mut [u32] {
        let sets = self.words.len() / GHOST_WAYS;
        #[allow(clippy::cast_possible_truncation)] // masked below the table's size
        let at = (hash as usize & (sets - 1)) * GHOST_WAYS;
        &mut self.words[at..at + GHOST_WAYS]
    }
}

/// 16 bits the set number does not use; never 0, which marks an empty word.
#[allow(clippy::cast_possible_truncation)] // 16 bits remain after the shift.
const fn fingerprint(hash: u64) -> u32 {
    ((hash >> 48) | 1) as u32
}

#[allow(clippy::cast_possible_truncation)] // The age is the low half of the word.
const fn age(now: u16, word: u32) -> u16 {
    now.wrapping_sub(word as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries of equal weight named by their hash.
    struct Queues {
        slots: Slots,
        fifo: S3Fifo,
    }

    impl Queues {
        fn new() -> Self {
            Self {
                slots: Slots::new(),
                fifo: S3Fifo::new(1 << 20),
            }
        }

        fn insert(&mut self, name: u8) -> u32 {
            // Spread over the sets and fingerprints of the ghost table.
            let hash = u64::from(name).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let slot = self.slots.insert(hash, 0, &[name], b"");
            self.fifo.insert(&mut self.slots, slot);
            slot
        }

        fn evict(&mut self) -> Option<u8> {
            let mut steps = EVICTION_STEPS_MAX;
            let Victim(slot) = self.fifo.choose(&mut self.slots, NIL, &mut steps)?;
            let name = self.slots.get(slot).key()[0];
            self.fifo.remove(&mut self.slots, slot);
            self.slots.remove(slot);
            Some(name)
        }

        fn list(&self, fifo: &Fifo) -> Vec<u8> {
            let mut names = Vec::new();
            let mut at = fifo.head;
            while at != NIL {
                names.push(self.slots.get(at).key()[0]);
                at = self.slots.get(at).next;
            }
            assert_eq!(names.len(), fifo.len as usize);
            names
        }

        fn queues(&self) -> (Vec<u8>, Vec<u8>) {
            (self.list(&self.fifo.small), self.list(&self.fifo.main))
        }
    }

    #[test]
    fn what_is_seen_once_leaves_in_order_of_arrival() {
        let mut q = Queues::new();
        for name in 1..=3 {
            q.insert(name);
        }
        assert_eq!(q.queues(), (vec![3, 2, 1], vec![]));
        assert_eq!(
            [q.evict(), q.evict(), q.evict(), q.evict()],
            [Some(1), Some(2), Some(3), None]
        );
    }

    #[test]
    fn two_hits_in_small_promote_at_the_tail_and_one_does_not() {
        let mut q = Queues::new();
        let (a, b, _c) = (q.insert(1), q.insert(2), q.insert(3));
        S3Fifo::touch(&mut q.slots, a);
        S3Fifo::touch(&mut q.slots, a);
        S3Fifo::touch(&mut q.slots, b);
        assert_eq!(q.evict(), Some(2));
        assert_eq!(q.queues(), (vec![3], vec![1]));
        assert_eq!(q.slots.get(a).freq, 0, "the count is cleared on promotion");
    }

    #[test]
    fn a_ghost_comes_back_into_main() {
        let mut q = Queues::new();
        // M must have entries, or no ghost is recent enough to count.
        let (a, b) = (q.insert(1), q.insert(2));
        for slot in [a, a, b, b] {
            S3Fifo::touch(&mut q.slots, slot);
        }
        q.insert(3);
        assert_eq!(q.evict(), Some(3));
        assert_eq!(q.queues(), (vec![], vec![2, 1]));
        q.insert(3);
        assert_eq!(q.queues(), (vec![], vec![3, 2, 1]));
        q.insert(4);
        assert_eq!(
            q.queues(),
            (vec![4], vec![3, 2, 1]),
            "unknown names start in S"
        );
    }

    #[test]
    fn a_ghost_older_than_main_is_long_is_forgotten() {
        let mut q = Queues::new();
        let a = q.insert(1);
        S3Fifo::touch(&mut q.slots, a);
        S3Fifo::touch(&mut q.slots, a);
        q.insert(2);
        assert_eq!(q.evict(), Some(2));
        for name in 3..=5 {
            q.insert(name);
            assert_eq!(q.evict(), Some(name));
        }
        q.insert(2);
        assert_eq!(
            q.queues(),
            (vec![2], vec![1]),
            "three insertions ago, M has one"
        );
    }

    #[test]
    fn main_gives_every_access_another_round() {
        let mut q = Queues::new();
        let slots = [q.insert(1), q.insert(2), q.insert(3)];
        for slot in slots {
            S3Fifo::touch(&mut q.slots, slot);
            S3Fifo::touch(&mut q.slots, slot);
        }
        // All three are promoted with count 0, then M's tail leaves: 1.
        assert_eq!(q.evict(), Some(1));
        S3Fifo::touch(&mut q.slots, slots[1]);
        // 2 was hit: reinserted with one access less; 3 leaves before it.
        assert_eq!(q.evict(), Some(3));
        assert_eq!(q.evict(), Some(2));
    }

    #[test]
    fn small_keeps_a_tenth_of_the_bytes_while_main_has_cold_entries() {
        let mut q = Queues::new();
        for name in 0..60 {
            let slot = q.insert(name);
            S3Fifo::touch(&mut q.slots, slot);
            S3Fifo::touch(&mut q.slots, slot);
        }
        // 0..=54 are promoted until S has 5 of 60, under its share; then M's tail goes.
        assert_eq!(q.evict(), Some(0));
        let (small, main) = q.queues();
        assert_eq!((small, main.len()), (vec![59, 58, 57, 56, 55], 54));
    }

    #[test]
    fn one_eviction_moves_a_bounded_number_even_if_everything_is_hot() {
        let mut q = Queues::new();
        for name in 0..200 {
            let slot = q.insert(name);
            for _ in 0..3 {
                S3Fifo::touch(&mut q.slots, slot);
            }
        }
        let mut steps = 50;
        let victim = q.fifo.choose(&mut q.slots, NIL, &mut steps);
        let name = victim.map(|Victim(slot)| q.slots.get(slot).key()[0]);
        assert_eq!(
            (name, steps),
            (Some(50), 0),
            "the tail as it is after 50 moves"
        );
        assert_eq!(q.queues().1.len(), 50);
    }

    #[test]
    fn the_pinned_entry_is_never_chosen() {
        let mut q = Queues::new();
        let (a, b) = (q.insert(1), q.insert(2));
        let mut steps = 10;
        assert_eq!(q.fifo.choose(&mut q.slots, a, &mut steps), Some(Victim(b)));
        q.fifo.remove(&mut q.slots, b);
        q.slots.remove(b);
        assert_eq!(q.fifo.choose(&mut q.slots, a, &mut steps), None);
    }
}
