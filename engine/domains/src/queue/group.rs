//! A consumer group: where it stands in the queue, what it may have, and who
//! waits in it.

use std::collections::BTreeMap;

use pinion_types::wheel::TimerLink;
use pinion_types::{FixedMap, Monotonic};

use super::pool::{List, NIL};
use super::redrive::{Redrive, RedriveState};

/// Life of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// Its creation is on its way to the log; nothing is delivered yet.
    Creating,
    Open,
    /// Its deletion is on its way to the log; requests are refused.
    Closing,
}

/// Who has the turn of a key, and who waits for it, in order.
#[derive(Debug)]
pub(super) struct KeyTurn {
    pub(super) waiting: List,
}

/// What a group counts from its creation or the partition's opening. What a start reads back
/// from the log was counted before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupCounters {
    /// Messages handed out, every attempt counted.
    pub delivered: u64,
    /// Of these, second and later attempts.
    pub redelivered: u64,
    /// Messages acknowledged.
    pub acked: u64,
    /// Attempts that failed by a nack.
    pub nacked: u64,
    /// Reservations that ran out.
    pub lapsed: u64,
    /// Messages that became dead letters.
    pub dead: u64,
    /// Messages removed because their time to live ran out.
    pub dropped: u64,
    /// Times it was found stuck.
    pub stuck: u64,
}

impl GroupCounters {
    /// Counts what another counted, too.
    pub fn add(&mut self, other: &Self) {
        let Self {
            delivered,
            redelivered,
            acked,
            nacked,
            lapsed,
            dead,
            dropped,
            stuck,
        } = other;
        self.delivered += delivered;
        self.redelivered += redelivered;
        self.acked += acked;
        self.nacked += nacked;
        self.lapsed += lapsed;
        self.dead += dead;
        self.dropped += dropped;
        self.stuck += stuck;
    }
}

#[derive(Debug)]
pub(super) struct Group {
    pub(super) name: Box<[u8]>,
    pub(super) life: Life,
    /// Last message of the ready order it has passed; `NIL` = none.
    pub(super) after: u32,
    /// Messages in the ready order that it has touched.
    pub(super) touched: u32,
    /// Messages still delayed that it has touched.
    pub(super) touched_delayed: u32,
    /// Messages it is done with and other groups are not.
    pub(super) done: u32,
    /// Bytes of these.
    pub(super) done_bytes: u64,
    /// Ready, the oldest first, without a limit of rate.
    pub(super) front: BTreeMap<u64, u32>,
    /// Ready again, the oldest first, at the rate of the bucket.
    pub(super) returned: BTreeMap<u64, u32>,
    pub(super) dead: BTreeMap<u64, u32>,
    pub(super) in_flight: u32,
    pub(super) settling: u32,
    pub(super) delayed: u32,
    pub(super) parked: u32,
    pub(super) keys: FixedMap<u64, KeyTurn>,
    /// Demands that could take something.
    pub(super) hungry: List,
    /// All its demands, in whatever state.
    pub(super) demands: u32,
    pub(super) consumers: u32,
    /// In the queue of groups to be served.
    pub(super) active: bool,
    /// The next message is being loaded.
    pub(super) loading: bool,
    pub(super) bucket: Bucket,
    /// What came again was served last: now it is the turn of what is new.
    pub(super) fresh_next: bool,
    /// No undone message has an id below this.
    pub(super) prefix: u64,
    pub(super) progress: Monotonic,
    pub(super) stuck_told: bool,
    pub(super) redrive: Option<Box<Redrive>>,
    /// The one at work, as far as it is durable.
    pub(super) redrive_kept: Option<Box<RedriveState>>,
    pub(super) refill: TimerLink,
    pub(super) stuck: TimerLink,
    pub(super) redrive_timer: TimerLink,
    pub(super) counters: GroupCounters,
}

impl Group {
    pub(super) fn new(name: &[u8], life: Life) -> Self {
        Self {
            name: name.into(),
            life,
            after: NIL,
            touched: 0,
            touched_delayed: 0,
            done: 0,
            done_bytes: 0,
            front: BTreeMap::new(),
            returned: BTreeMap::new(),
            dead: BTreeMap::new(),
            in_flight: 0,
            settling: 0,
            delayed: 0,
            parked: 0,
            keys: FixedMap::default(),
            hungry: List::EMPTY,
            demands: 0,
            consumers: 0,
            active: false,
            loading: false,
            bucket: Bucket::default(),
            fresh_next: false,
            prefix: 0,
            progress: Monotonic::ZERO,
            stuck_told: false,
            redrive: None,
            redrive_kept: None,
            refill: TimerLink::IDLE,
            stuck: TimerLink::IDLE,
            redrive_timer: TimerLink::IDLE,
            counters: GroupCounters::default(),
        }
    }
}

/// A token bucket as one number (the generic cell rate algorithm, ITU-T I.371):
/// the time at which it would be full again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bucket {
    full_at: u64,
}

impl Bucket {
    /// When the next token may be taken; at or before `now` means now.
    pub(super) fn next(&self, per_sec: u32, burst: u32) -> Monotonic {
        let step = Self::step(per_sec);
        let slack = step.saturating_mul(u64::from(burst.max(1)) - 1);
        Monotonic(self.full_at.saturating_sub(slack))
    }

    pub(super) fn take(&mut self, now: Monotonic, per_sec: u32) {
        self.full_at = self.full_at.max(now.0).saturating_add(Self::step(per_sec));
    }

    fn step(per_sec: u32) -> u64 {
        1_000_000_000 / u64::from(per_sec.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let mut bucket = Bucket::default();
        let now = Monotonic::from_millis(1000);
        let mut taken = 0;
        while bucket.next(100, 5) <= now {
            bucket.take(now, 100);
            taken += 1;
        }
        assert_eq!(taken, 5);
        assert_eq!(bucket.next(100, 5), Monotonic::from_millis(1010));
    }
}
