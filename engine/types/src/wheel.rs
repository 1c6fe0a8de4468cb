//! Timers: a hierarchical wheel with O(1) insert and cancel and bounded work
//! per call.
//!
//! [`Wheel`] links timers that live inside the caller's own table (a cache
//! entry carries its [`TimerLink`], so a TTL costs no extra allocation);
//! [`TimerTable`] owns its timers for callers that have no such table.
//!
//! A tick is 2^20 ns (about 1.05 ms). Eight levels of 64 slots cover 2^48
//! ticks, which is more than a [`Monotonic`] can express, so there is no
//! overflow list and no horizon. A timer waits in the level of the highest
//! six-bit digit in which its tick differs from the wheel's, and moves down a
//! level each time the wheel reaches its slot (scheme 6 of Varghese & Lauck,
//! "Hashed and Hierarchical Timing Wheels", SOSP '87). A timer never fires
//! before its deadline and, while the caller keeps up, less than one tick
//! plus the time to the next call after it.
//!
//! Both are owned by one core.

use crate::Monotonic;

/// Nanoseconds of a tick as a power of two. Larger ticks fire later and
/// cascade less often.
const TICK_SHIFT: u32 = 20;
/// Bits of a tick one level looks at.
const LEVEL_BITS: u32 = 6;
const SLOTS: usize = 1 << LEVEL_BITS;
const SLOTS_U32: u32 = 1 << LEVEL_BITS;
const LEVELS: usize = 8;
const LEVELS_U32: u32 = 8;
/// The list of timers whose tick has come.
const DUE: u32 = LEVELS_U32 * SLOTS_U32;
const NIL: u32 = u32::MAX;
/// `prev` of a list's first timer names its list instead of a timer.
const HEAD: u32 = 1 << 31;

// Every Monotonic must fall into some level.
const _: () = assert!(u64::BITS - TICK_SHIFT <= LEVEL_BITS * LEVELS_U32);

/// Largest index a timer may have in the caller's table.
pub const TIMER_INDEX_MAX: u32 = HEAD - 1;

/// The part of a timer that lives in the caller's table. 16 bytes.
#[derive(Clone, Copy, Debug)]
pub struct TimerLink {
    /// Nanoseconds; kept exact so that the owner may ask whether it has passed.
    deadline: u64,
    prev: u32,
    next: u32,
}

impl TimerLink {
    /// A timer that is in no wheel and has no deadline.
    pub const IDLE: Self = Self {
        deadline: u64::MAX,
        prev: NIL,
        next: NIL,
    };

    /// When it is due; the end of time if it never is.
    #[must_use]
    pub const fn deadline(&self) -> Monotonic {
        Monotonic(self.deadline)
    }

    /// Whether it waits in a wheel.
    #[must_use]
    pub const fn is_armed(&self) -> bool {
        self.prev != NIL
    }
}

impl Default for TimerLink {
    fn default() -> Self {
        Self::IDLE
    }
}

/// A table whose rows carry a timer each.
pub trait TimerRows {
    /// The timer of a row. The wheel asks only for rows it was given and that
    /// were not cancelled since.
    fn timer(&mut self, index: u32) -> &mut TimerLink;
}

/// Hierarchical timer wheel over timers kept in the caller's rows.
#[derive(Debug)]
pub struct Wheel {
    /// Every timer whose tick is at or before this one is in `DUE` or fired,
    /// except those of a slot whose cascade the budget cut short.
    elapsed: u64,
    len: u32,
    due: u32,
    occupied: [u64; LEVELS],
    heads: [[u32; SLOTS]; LEVELS],
}

impl Default for Wheel {
    fn default() -> Self {
        Self::new()
    }
}

impl Wheel {
    /// A wheel without timers, standing at the node's start.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            elapsed: 0,
            len: 0,
            due: NIL,
            occupied: [0; LEVELS],
            heads: [[NIL; SLOTS]; LEVELS],
        }
    }

    /// How many timers wait.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether none waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Arms the timer of row `index`, at any deadline, past ones included. O(1).
    ///
    /// # Panics
    /// When the timer is armed already, or `index` is above [`TIMER_INDEX_MAX`]:
    /// bugs of the caller.
    pub fn insert(&mut self, rows: &mut impl TimerRows, index: u32, deadline: Monotonic) {
        assert!(index <= TIMER_INDEX_MAX, "timer index {index} is too large");
        let link = rows.timer(index);
        assert!(!link.is_armed(), "timer {index} is armed already");
        link.deadline = deadline.0;
        self.place(rows, index);
        self.len += 1;
    }

    /// Takes the timer of row `index` out; false if it is not armed. O(1).
    /// Its deadline becomes the end of time.
    pub fn cancel(&mut self, rows: &mut impl TimerRows, index: u32) -> bool {
        if !rows.timer(index).is_armed() {
            *rows.timer(index) = TimerLink::IDLE;
            return false;
        }
        self.unlink(rows, index);
        *rows.timer(index) = TimerLink::IDLE;
        self.len -= 1;
        true
    }

    /// The next timer whose deadline is at or before `now`, taken out of the
    /// wheel; its row keeps the deadline. Each timer given or moved down a
    /// level costs one of `budget`, so one call with budget `b` touches at
    /// most `b` timers. `None` means nothing more is due, or the budget is
    /// spent ([`Wheel::next_deadline`] then lies in the past).
    ///
    /// Timers come in the order of their ticks as long as the budget never
    /// runs out; within a tick, in no particular order.
    pub fn pop_due(
        &mut self,
        rows: &mut impl TimerRows,
        now: Monotonic,
        budget: &mut u32,
    ) -> Option<u32> {
        let now_tick = now.0 >> TICK_SHIFT;
        loop {
            if self.due != NIL {
                if *budget == 0 {
                    return None;
                }
                *budget -= 1;
                let index = self.due;
                self.unlink(rows, index);
                self.len -= 1;
                return Some(index);
            }
            let Some((level, slot, start)) = self.next_slot() else {
                self.elapsed = self.elapsed.max(now_tick);
                return None;
            };
            if start > now_tick {
                self.elapsed = self.elapsed.max(now_tick);
                return None;
            }
            self.elapsed = self.elapsed.max(start);
            if level == 0 {
                // The whole list becomes the due list at once.
                let head = self.heads[0][slot];
                self.heads[0][slot] = NIL;
                self.occupied[0] &= !(1 << slot);
                rows.timer(head).prev = HEAD | DUE;
                self.due = head;
            } else {
                while self.heads[level][slot] != NIL {
                    if *budget == 0 {
                        return None;
                    }
                    *budget -= 1;
                    let index = self.heads[level][slot];
                    self.unlink(rows, index);
                    self.place(rows, index);
                }
            }
        }
    }

    /// When to call [`Wheel::pop_due`] next: never later than a tick after the
    /// earliest deadline, possibly earlier (timers far away move down a level on
    /// the way, at most seven times). A time already past means work remains.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Monotonic> {
        if self.due != NIL {
            return Some(Monotonic(self.elapsed << TICK_SHIFT));
        }
        let (_, _, start) = self.next_slot()?;
        Some(Monotonic(start.saturating_mul(1 << TICK_SHIFT)))
    }

    /// The occupied slot that starts first; on a tie the higher level, whose
    /// timers may belong to the lower one.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        let mut best: Option<(usize, usize, u64)> = None;
        let mut shift = LEVEL_BITS * LEVELS_U32;
        for level in (0..LEVELS).rev() {
            shift -= LEVEL_BITS;
            if self.occupied[level] == 0 {
                continue;
            }
            let digit = (self.elapsed >> shift) & (SLOTS as u64 - 1);
            let ahead = self.occupied[level] >> digit;
            assert!(
                ahead != 0,
                "timers of level {level} lie behind digit {digit}"
            );
            let slot = digit + u64::from(ahead.trailing_zeros());
            let above = shift + LEVEL_BITS;
            let start = ((self.elapsed >> above) << above) | (slot << shift);
            if best.is_none_or(|(_, _, first)| start < first) {
                #[allow(clippy::cast_possible_truncation)] // slot < 64
                let slot = slot as usize;
                best = Some((level, slot, start));
            }
        }
        best
    }

    fn place(&mut self, rows: &mut impl TimerRows, index: u32) {
        // Rounded up, so that a timer never fires before its deadline.
        let tick = rows.timer(index).deadline.div_ceil(1 << TICK_SHIFT);
        let (list, head) = if tick <= self.elapsed {
            (DUE, &mut self.due)
        } else {
            let level = (63 - (tick ^ self.elapsed).leading_zeros()) / LEVEL_BITS;
            let slot = (tick >> (level * LEVEL_BITS)) & (SLOTS as u64 - 1);
            #[allow(clippy::cast_possible_truncation)] // slot < 64
            let (at, slot) = (level as usize, slot as u32);
            self.occupied[at] |= 1 << slot;
            (level * SLOTS_U32 + slot, &mut self.heads[at][slot as usize])
        };
        let next = *head;
        *head = index;
        let link = rows.timer(index);
        link.prev = HEAD | list;
        link.next = next;
        if next != NIL {
            rows.timer(next).prev = index;
        }
    }

    fn unlink(&mut self, rows: &mut impl TimerRows, index: u32) {
        let link = rows.timer(index);
        let (prev, next) = (link.prev, link.next);
        link.prev = NIL;
        link.next = NIL;
        if next != NIL {
            rows.timer(next).prev = prev;
        }
        if prev & HEAD == 0 {
            rows.timer(prev).next = next;
            return;
        }
        let list = prev & !HEAD;
        if list == DUE {
            self.due = next;
            return;
        }
        let (level, slot) = (list as usize / SLOTS, list as usize % SLOTS);
        self.heads[level][slot] = next;
        if next == NIL {
            self.occupied[level] &= !(1 << slot);
        }
    }
}

/// Names one timer of a [`TimerTable`]; a late use after it fired is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerId {
    index: u32,
    generation: u32,
}

/// A wheel that owns its timers, for callers without rows of their own.
/// Never holds more than `max` timers; memory is kept for the most there were.
#[derive(Debug)]
pub struct TimerTable<T> {
    wheel: Wheel,
    rows: Rows<T>,
    free: u32,
    max: u32,
}

#[derive(Debug)]
struct Rows<T>(Vec<Row<T>>);

#[derive(Debug)]
struct Row<T> {
    link: TimerLink,
    generation: u32,
    next_free: u32,
    item: Option<T>,
}

impl<T> TimerRows for Rows<T> {
    fn timer(&mut self, index: u32) -> &mut TimerLink {
        &mut self.0[index as usize].link
    }
}

impl<T> TimerTable<T> {
    /// A table for at most `max` timers at once.
    ///
    /// # Panics
    /// When `max` is above [`TIMER_INDEX_MAX`].
    #[must_use]
    pub const fn new(max: u32) -> Self {
        assert!(max <= TIMER_INDEX_MAX, "a wheel links at most 2^31 timers");
        Self {
            wheel: Wheel::new(),
            rows: Rows(Vec::new()),
            free: NIL,
            max,
        }
    }

    /// How many timers wait.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.wheel.len()
    }

    /// Whether none waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.wheel.is_empty()
    }

    /// Arms a timer that gives `item` at `deadline`. O(1).
    ///
    /// # Errors
    /// `item` itself when `max` timers wait.
    pub fn insert(&mut self, deadline: Monotonic, item: T) -> Result<TimerId, T> {
        if self.wheel.len() >= self.max {
            return Err(item);
        }
        let index = if self.free == NIL {
            let index = u32::try_from(self.rows.0.len()).expect("fewer rows than max");
            self.rows.0.push(Row {
                link: TimerLink::IDLE,
                generation: 0,
                next_free: NIL,
                item: None,
            });
            index
        } else {
            let index = self.free;
            self.free = self.rows.0[index as usize].next_free;
            index
        };
        let row = &mut self.rows.0[index as usize];
        row.item = Some(item);
        let generation = row.generation;
        self.wheel.insert(&mut self.rows, index, deadline);
        Ok(TimerId { index, generation })
    }

    /// Takes a timer out and gives its item; `None` if it fired or was
    /// cancelled before. O(1).
    pub fn cancel(&mut self, id: TimerId) -> Option<T> {
        let row = self.rows.0.get(id.index as usize)?;
        if row.generation != id.generation || row.item.is_none() {
            return None;
        }
        self.wheel.cancel(&mut self.rows, id.index);
        Some(self.release(id.index))
    }

    /// When a waiting timer is due; `None` if it fired or was cancelled. O(1).
    #[must_use]
    pub fn deadline(&self, id: TimerId) -> Option<Monotonic> {
        let row = self.rows.0.get(id.index as usize)?;
        (row.generation == id.generation && row.item.is_some()).then(|| row.link.deadline())
    }

    /// Fires what is due at `now`, touching at most `budget` timers. True when
    /// the budget ran out with work left.
    pub fn advance(&mut self, now: Monotonic, budget: u32, mut fire: impl FnMut(T)) -> bool {
        let mut left = budget;
        while let Some(item) = self.pop_due(now, &mut left) {
            fire(item);
        }
        left == 0 && self.next_deadline().is_some_and(|next| next <= now)
    }

    /// The next item that is due; see [`Wheel::pop_due`].
    pub fn pop_due(&mut self, now: Monotonic, budget: &mut u32) -> Option<T> {
        let index = self.wheel.pop_due(&mut self.rows, now, budget)?;
        Some(self.release(index))
    }

    /// See [`Wheel::next_deadline`].
    #[must_use]
    pub fn next_deadline(&self) -> Option<Monotonic> {
        self.wheel.next_deadline()
    }

    fn release(&mut self, index: u32) -> T {
        let row = &mut self.rows.0[index as usize];
        row.generation = row.generation.wrapping_add(1);
        row.next_free = self.free;
        self.free = index;
        row.item.take().expect("an armed timer has its item")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const TICK: u64 = 1 << TICK_SHIFT;

    fn fired(timers: &mut TimerTable<u64>, now: Monotonic) -> Vec<u64> {
        let mut out = Vec::new();
        assert!(!timers.advance(now, u32::MAX, |item| out.push(item)));
        out
    }

    #[test]
    fn a_timer_fires_once_and_never_early() {
        let mut timers = TimerTable::new(4);
        let at = Monotonic::from_millis(1500);
        timers.insert(at, 1).expect("room");
        assert!(fired(&mut timers, Monotonic(at.0 - 1)).is_empty());
        assert_eq!(fired(&mut timers, Monotonic(at.0 + TICK)), [1]);
        assert!(fired(&mut timers, Monotonic(u64::MAX)).is_empty());
    }

    #[test]
    fn a_cancelled_timer_never_fires_and_its_id_is_not_the_next_ones() {
        let mut timers = TimerTable::new(4);
        let first = timers.insert(Monotonic::from_millis(5), 1).expect("room");
        assert_eq!(timers.cancel(first), Some(1));
        assert_eq!(timers.cancel(first), None);
        timers.insert(Monotonic::from_millis(5), 2).expect("room");
        assert_eq!(timers.cancel(first), None, "same row, other generation");
        assert_eq!(fired(&mut timers, Monotonic::from_millis(10)), [2]);
    }

    #[test]
    fn a_full_table_gives_the_item_back() {
        let mut timers = TimerTable::new(1);
        timers.insert(Monotonic::ZERO, 1).expect("room");
        assert_eq!(timers.insert(Monotonic::ZERO, 2), Err(2));
        assert_eq!(fired(&mut timers, Monotonic::ZERO), [1]);
        assert!(timers.insert(Monotonic::ZERO, 3).is_ok());
    }

    #[test]
    fn centuries_are_within_the_horizon() {
        let mut timers = TimerTable::new(8);
        let year = 365 * 24 * 3600 * 1_000_000_000_u64;
        for years in [1, 50, 580] {
            timers.insert(Monotonic(years * year), years).expect("room");
        }
        for years in [1, 50, 580] {
            assert!(fired(&mut timers, Monotonic(years * year - TICK)).is_empty());
            assert_eq!(fired(&mut timers, Monotonic(years * year + TICK)), [years]);
        }
    }

    #[test]
    fn following_next_deadline_meets_every_timer_on_time_in_few_steps() {
        let mut timers = TimerTable::new(1000);
        let mut seed = 7_u64;
        let mut deadlines = Vec::new();
        for i in 0..1000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = Monotonic(seed >> (20 + i % 30));
            deadlines.push(at);
            timers
                .insert(at, u64::try_from(i).expect("small"))
                .expect("room");
        }
        let mut steps = 0;
        while let Some(now) = timers.next_deadline() {
            steps += 1;
            timers.advance(now, u32::MAX, |i| {
                let at = deadlines[usize::try_from(i).expect("small")];
                assert!(at <= now, "timer {i} fired early");
                assert!(now.0 - at.0 < TICK, "timer {i} fired late");
            });
        }
        assert!(timers.is_empty());
        assert!(steps <= 1000 * LEVELS, "{steps} wake-ups for 1000 timers");
    }

    #[test]
    fn a_million_timers_of_one_millisecond_drain_within_the_budget_of_each_call() {
        const BUDGET: u32 = 2048;
        let mut timers = TimerTable::new(1_000_000);
        let at = Monotonic::from_millis(60_000);
        for i in 0..1_000_000_u64 {
            timers.insert(Monotonic(at.0 + i), i).expect("room");
        }
        let (mut calls, mut total) = (0_u32, 0_u32);
        let now = Monotonic::from_millis(60_002);
        loop {
            let mut count = 0;
            let more = timers.advance(now, BUDGET, |_| count += 1);
            assert!(count <= BUDGET);
            total += count;
            calls += 1;
            if !more {
                break;
            }
            assert!(timers.next_deadline().expect("work is left") <= now);
        }
        assert_eq!(total, 1_000_000);
        // Each timer is moved at most once per level below its first, then fired.
        assert!(calls <= 4 * 1_000_000 / BUDGET + 1, "{calls} calls");
    }

    #[test]
    fn the_wheel_agrees_with_an_ordered_map() {
        for seed in 1..=300_u64 {
            let mut rng = seed;
            let mut next = move |n: u64| {
                rng ^= rng << 13;
                rng ^= rng >> 7;
                rng ^= rng << 17;
                rng % n
            };
            let mut timers = TimerTable::new(10_000);
            let mut model: BTreeMap<(u64, u64), TimerId> = BTreeMap::new();
            let mut now = Monotonic(next(1 << 40));
            for step in 0..400_u64 {
                match next(10) {
                    0..=4 => {
                        let span = next(50);
                        let ahead = next(1 << span);
                        let at = Monotonic(now.0.saturating_sub(TICK) + ahead);
                        let id = timers.insert(at, step).expect("room");
                        model.insert((at.0.div_ceil(TICK), step), id);
                    }
                    5..=6 => {
                        let skip = usize::try_from(next(8)).expect("small");
                        if let Some((&key, &id)) = model.iter().nth(skip) {
                            model.remove(&key);
                            assert_eq!(timers.cancel(id), Some(key.1), "seed {seed}");
                        }
                    }
                    _ => {
                        let span = next(45);
                        now = Monotonic(now.0 + next(1 << span));
                        let mut expected: Vec<u64> = Vec::new();
                        while let Some((&key, _)) = model.first_key_value() {
                            if key.0 > now.0 >> TICK_SHIFT {
                                break;
                            }
                            model.remove(&key);
                            expected.push(key.1);
                        }
                        expected.sort_unstable();
                        let mut got = Vec::new();
                        let budget = u32::try_from(next(5)).expect("small");
                        // Cut short at first, then to the end: nothing is lost between.
                        timers.advance(now, budget, |item| got.push(item));
                        timers.advance(now, u32::MAX, |item| got.push(item));
                        got.sort_unstable();
                        assert_eq!(got, expected, "seed {seed}, step {step}");
                    }
                }
                assert_eq!(timers.len() as usize, model.len());
                if let Some((&(tick, _), _)) = model.first_key_value() {
                    let next = timers.next_deadline().expect("a timer waits");
                    assert!(next.0 <= tick.saturating_mul(TICK), "seed {seed}");
                }
            }
        }
    }
}
