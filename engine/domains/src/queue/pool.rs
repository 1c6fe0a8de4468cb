//! Rows that link themselves: a table with a free list, and lists through it.
//! Memory is kept for the most rows there were.

use pinion_types::wheel::{TimerLink, TimerRows};

use super::demand::Demand;
use super::group::Group;
use super::messages::{Entry, Message, PutRecord};

/// No row.
pub(super) const NIL: u32 = u32::MAX;

/// Neighbours of a row in the one list it is in; a free row uses `next`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) prev: u32,
    pub(super) next: u32,
}

impl Link {
    pub(super) const NONE: Self = Self {
        prev: NIL,
        next: NIL,
    };
}

/// A row of a [`Pool`].
pub(super) trait Row {
    fn vacant() -> Self;
    fn link(&mut self) -> &mut Link;
    fn next(&self) -> u32;
}

#[derive(Debug)]
pub(super) struct Pool<T> {
    rows: Vec<T>,
    free: u32,
    len: u32,
}

impl<T: Row> Pool<T> {
    pub(super) const fn new() -> Self {
        Self {
            rows: Vec::new(),
            free: NIL,
            len: 0,
        }
    }

    /// A row to be filled; what an earlier user left in it is still there.
    pub(super) fn alloc(&mut self) -> u32 {
        self.len += 1;
        if self.free == NIL {
            let index = u32::try_from(self.rows.len()).expect("tables are bounded below 2^29");
            self.rows.push(T::vacant());
            return index;
        }
        let index = self.free;
        let link = self.rows[index as usize].link();
        self.free = link.next;
        *link = Link::NONE;
        index
    }

    pub(super) fn free(&mut self, index: u32) {
        let free = self.free;
        self.rows[index as usize].link().next = free;
        self.free = index;
        self.len -= 1;
    }

    pub(super) const fn len(&self) -> u32 {
        self.len
    }

    /// All rows, the free ones included.
    pub(super) fn rows(&self) -> &[T] {
        &self.rows
    }

    pub(super) fn get(&self, index: u32) -> Option<&T> {
        self.rows.get(index as usize)
    }
}

impl<T> core::ops::Index<u32> for Pool<T> {
    type Output = T;

    fn index(&self, index: u32) -> &T {
        &self.rows[index as usize]
    }
}

impl<T> core::ops::IndexMut<u32> for Pool<T> {
    fn index_mut(&mut self, index: u32) -> &mut T {
        &mut self.rows[index as usize]
    }
}

/// A doubly linked list through the rows of one pool.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    pub(super) head: u32,
    pub(super) tail: u32,
    pub(super) len: u32,
}

impl List {
    pub(super) const EMPTY: Self = Self {
        head: NIL,
        tail: NIL,
        len: 0,
    };

    pub(super) const fn is_empty(&self) -> bool {
        self.head == NIL
    }

    pub(super) fn push_back<T: Row>(&mut self, pool: &mut Pool<T>, index: u32) {
        let prev = self.tail;
        *pool[index].link() = Link { prev, next: NIL };
        if prev == NIL {
            self.head = index;
        } else {
            pool[prev].link().next = index;
        }
        self.tail = index;
        self.len += 1;
    }

    pub(super) fn remove<T: Row>(&mut self, pool: &mut Pool<T>, index: u32) {
        let Link { prev, next } = *pool[index].link();
        if prev == NIL {
            self.head = next;
        } else {
            pool[prev].link().next = next;
        }
        if next == NIL {
            self.tail = prev;
        } else {
            pool[next].link().prev = prev;
        }
        *pool[index].link() = Link::NONE;
        self.len -= 1;
    }

    pub(super) fn pop_front<T: Row>(&mut self, pool: &mut Pool<T>) -> Option<u32> {
        let head = self.head;
        if head == NIL {
            return None;
        }
        self.remove(pool, head);
        Some(head)
    }
}

/// Every table whose rows carry a timer; one wheel serves them all. The low
/// two bits of a timer's index say which table.
#[derive(Debug)]
pub(super) struct Tables {
    pub(super) messages: Pool<Message>,
    pub(super) entries: Pool<Entry>,
    pub(super) demands: Pool<Demand>,
    pub(super) records: Pool<PutRecord>,
    pub(super) groups: Vec<Option<Group>>,
}

/// Which timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// Delay or time to live of a message.
    Message(u32),
    /// Reservation or backoff.
    Entry(u32),
    /// End of a waiter's patience.
    Demand(u32),
    /// The redelivery bucket has a token again.
    Refill(u8),
    /// Look whether the group makes progress.
    Stuck(u8),
    /// The next dead letters of a paced redrive.
    Redrive(u8),
}

impl Timer {
    pub(super) const fn index(self) -> u32 {
        match self {
            Self::Message(i) => i << 2,
            Self::Entry(i) => (i << 2) | 1,
            Self::Demand(i) => (i << 2) | 2,
            Self::Refill(g) => ((g as u32) << 4) | 3,
            Self::Stuck(g) => ((g as u32) << 4) | 0b0111,
            Self::Redrive(g) => ((g as u32) << 4) | 0b1011,
        }
    }

    pub(super) fn of(index: u32) -> Self {
        let row = index >> 2;
        match index & 3 {
            0 => Self::Message(row),
            1 => Self::Entry(row),
            2 => Self::Demand(row),
            _ => {
                let group = u8::try_from(row >> 2).expect("at most GROUPS_MAX groups");
                match row & 3 {
                    0 => Self::Refill(group),
                    1 => Self::Stuck(group),
                    _ => Self::Redrive(group),
                }
            }
        }
    }
}

impl TimerRows for Tables {
    fn timer(&mut self, index: u32) -> &mut TimerLink {
        match Timer::of(index) {
            Timer::Message(i) => &mut self.messages[i].timer,
            Timer::Entry(i) => &mut self.entries[i].timer,
            Timer::Demand(i) => &mut self.demands[i].timer,
            Timer::Refill(g) => &mut self.group_mut(g).refill,
            Timer::Stuck(g) => &mut self.group_mut(g).stuck,
            Timer::Redrive(g) => &mut self.group_mut(g).redrive_timer,
        }
    }
}

impl Tables {
    pub(super) fn group(&self, group: u8) -> &Group {
        self.groups[usize::from(group)]
            .as_ref()
            .expect("a group in use exists")
    }

    pub(super) fn group_mut(&mut self, group: u8) -> &mut Group {
        self.groups[usize::from(group)]
            .as_mut()
            .expect("a group in use exists")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_timer_has_an_index_of_its_own() {
        let timers = [
            Timer::Message(5),
            Timer::Entry(5),
            Timer::Demand(5),
            Timer::Refill(5),
            Timer::Stuck(5),
            Timer::Redrive(5),
            Timer::Refill(63),
        ];
        for (i, timer) in timers.iter().enumerate() {
            assert_eq!(Timer::of(timer.index()), *timer);
            for other in &timers[i + 1..] {
                assert_ne!(timer.index(), other.index());
            }
        }
    }
}
