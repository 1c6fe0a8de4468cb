//! Randomness and the naive subscriber.

use std::collections::VecDeque;

use bytes::Bytes;
use pinion_types::block::Record;

use super::{Overflow, RecordFilter};

pub(super) struct Rng(pub(super) u64);

impl Rng {
    /// xorshift64*, Vigna 2016.
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub(super) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(super) fn small(&mut self, n: u64) -> u32 {
        u32::try_from(self.below(n)).unwrap()
    }
}

#[derive(Debug)]
pub(super) struct StartsWithX;

impl RecordFilter for StartsWithX {
    fn matches(&self, record: &Record<'_>) -> bool {
        record.value.first() == Some(&b'x')
    }
}

pub(super) struct Sub {
    /// Everything before has been delivered, announced or filtered.
    pub(super) expected: u64,
    pub(super) overflow: Overflow,
    pub(super) backlog_max: u64,
    pub(super) filtered: bool,
    pub(super) records_left: i64,
    pub(super) bytes_left: i64,
    pub(super) window_left: i64,
    pub(super) in_transport: VecDeque<Bytes>,
    /// Started below the ring: a lag to this offset comes first.
    pub(super) start_lag: Option<u64>,
    pub(super) live: bool,
    /// `drop_oldest`, record by record: where the cursor has been pushed to.
    pub(super) pushed: u64,
    /// `drop_newest`: where admission stopped.
    pub(super) ceiling: Option<u64>,
    /// `disconnect`: it must end now.
    pub(super) must_end: bool,
}

impl Sub {
    pub(super) fn can_take(&self) -> bool {
        self.records_left > 0 && self.bytes_left > 0 && self.window_left > 0
    }

    /// The policy, applied record by record while nothing can be taken.
    pub(super) fn overflow_now(&mut self, end: u64) {
        if !self.live || self.can_take() || end - self.pushed <= self.backlog_max {
            return;
        }
        match self.overflow {
            Overflow::DropOldest => self.pushed = end - self.backlog_max,
            Overflow::DropNewest if self.ceiling.is_none() => {
                self.ceiling = Some(self.expected + self.backlog_max);
            }
            Overflow::Disconnect => self.must_end = true,
            Overflow::DropNewest | Overflow::Block => {}
        }
    }
}
