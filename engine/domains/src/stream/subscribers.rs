//! Subscribers: cursors into the ring, not queues.
//!
//! The ring is everybody's queue; a subscriber is an offset, some credit and
//! a policy. It is in exactly one state:
//!
//! - *idle*: it has all there is. New records move it on.
//! - *starved*: there is more, but it lacks credit or its transport is full.
//!   New credit or window moves it on.
//! - *ready*: [`Subscribers::poll`] will hand it something.
//! - *cold*: it waits for a read of the log. Any answer moves it on.
//!
//! Idle, ready and cold are intrusive lists, so a turn costs what its news cost and
//! moving between them allocates nothing.
//!
//! Backlog policies look at what waits because the *subscriber* is slow. They
//! are applied when a starved subscriber can take something again: its cursor
//! has not moved meanwhile, so the outcome is the same as if they had been
//! applied record by record. Only `disconnect` must act while starved; two
//! remembered lower bounds keep it from being looked for on every append.

use std::collections::BTreeMap;

use bytes::Bytes;
use pinion_types::block::BLOCK_HEADER_BYTES;
use pinion_types::limits::{CREDIT_BYTES_MAX, CREDIT_RECORDS_MAX};
use pinion_types::{ErrorCode, Offset, WallMs};
use slab::Slab;

use super::error::SubscribeError;
use super::read::{Bounds, copy_matching};
use super::ring::{Place, blocks, header_at};
use super::source::{Found, Source};
use super::{Overflow, RecordFilter};

/// Most bytes of one delivery, a single larger block excepted. Larger favours
/// throughput, smaller lets subscribers of one partition take turns sooner.
pub const DELIVERY_BYTES_MAX: usize = 64 << 10;

/// Most bytes filters look at between two `None`s of
/// [`super::Partition::poll_delivery`]. Larger keeps the core for longer when
/// many selective subscribers replay.
pub const FILTER_SCAN_BYTES_MAX: usize = 1 << 20;

/// Names one subscription of a partition. Opaque here, chosen by the caller,
/// unique within the partition while the subscription lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubKey(pub u64);

/// Where a subscription begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the oldest record kept.
    Earliest,
    /// At the first record appended after the subscription.
    Latest,
    /// At this offset. Below the oldest kept it begins with a lag notice,
    /// beyond the end it is refused.
    Offset(Offset),
    /// At the first record kept whose block was taken at this time or later;
    /// like `Latest` when there is none.
    Time(WallMs),
    /// As [`Start::Time`], for a durable partition: its log knows that no
    /// record before `hint` is meant, so that less has to be read and skipped.
    TimeFrom {
        /// The time.
        time: WallMs,
        /// At or before the first record of that time or later.
        hint: Offset,
    },
}

/// What a subscription asks for.
#[derive(Debug)]
pub struct SubscribeOptions {
    /// Where it begins.
    pub start: Start,
    /// What happens when it is too slow; `None` = the partition's default.
    pub overflow: Option<Overflow>,
    /// Records that may wait for a slow subscriber; 0 = what the ring holds.
    /// Counts once the subscription has caught up with the end for the first
    /// time: history being replayed is no backlog. `Block` does not use it:
    /// there the ring is the backlog.
    pub backlog_max: u32,
    /// Records it may be sent. Never exceeded.
    pub credit_records: u32,
    /// Bytes it may be sent. The last block may exceed it; the debt is kept.
    pub credit_bytes: u32,
    /// Bytes its transport takes before any are given back with
    /// [`super::Partition::window`]. The last delivery may exceed it by one
    /// block. Bounds what of the ring's memory the transport keeps alive.
    pub window_bytes: u32,
    /// Only matching records are sent, and only they cost credit.
    pub filter: Option<Box<dyn RecordFilter>>,
}

/// A subscription stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribed {
    /// First offset that will be considered.
    pub next: Offset,
    /// One past the last record at this moment.
    pub end: Offset,
}

/// Why records were skipped. The numbers are those of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum LagReason {
    /// The ring or its retention had let them go.
    RingOverran = 1,
    /// `drop_oldest`: the backlog was full, its oldest went.
    DropOldest = 2,
    /// `drop_newest`: the backlog was full, newer ones were not admitted.
    DropNewest = 3,
}

/// Records a subscription does not get: offsets `from..to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lag {
    /// Why.
    pub reason: LagReason,
    /// The first skipped.
    pub from: Offset,
    /// One past the last skipped.
    pub to: Offset,
    /// How many; 0 = unknown, because a filter would have dropped some.
    pub count: u64,
}

/// Where a subscription stands, for whoever looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubPosition {
    /// The first offset that it has not been given, or passed over.
    pub next: Offset,
    /// Records it may be given before it grants more.
    pub credit_records: u64,
    /// Bytes it may be given; below nothing when the last delivery was more.
    pub credit_bytes: i64,
}

/// One thing for one subscriber.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// One or more whole blocks, shared with other subscribers. Costs credit
    /// and window.
    Records {
        /// The blocks, as they go on the wire.
        bytes: Bytes,
        /// Records in them.
        records: u32,
        /// The cursor after them.
        next: Offset,
    },
    /// Some records will not come. Comes before the next record and costs
    /// neither credit nor window.
    Lag(Lag),
    /// The subscription is over and its key free.
    End {
        /// Why.
        code: ErrorCode,
        /// Where to resume.
        next: Offset,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Ready,
    Starved,
    Cold,
}

/// What a ready subscriber got.
#[derive(Debug)]
enum Taken {
    Delivery(Delivery),
    /// Nothing this time; it has moved on, or has all there is.
    Nothing,
    /// A read of the log has to come first.
    Waiting,
    /// The log cannot give the next record.
    Lost,
}

#[derive(Debug)]
struct Sub {
    key: SubKey,
    /// The cursor: first offset not yet considered.
    next: u64,
    place: Place,
    overflow: Overflow,
    backlog_max: u64,
    credit_records: u64,
    credit_bytes: i64,
    window: i64,
    filter: Option<Box<dyn RecordFilter>>,
    /// Blocks taken before this time are passed over, they were not asked for.
    not_before: WallMs,
    /// `drop_newest`: nothing at or after this is admitted until it is reached.
    ceiling: Option<u64>,
    /// Announced before anything else.
    lag: Option<Lag>,
    ended: Option<ErrorCode>,
    /// Has caught up with the end once.
    live: bool,
    state: State,
    before: Option<usize>,
    after: Option<usize>,
}

impl Sub {
    const fn can_take(&self) -> bool {
        self.credit_records > 0 && self.credit_bytes > 0 && self.window > 0
    }

    fn lag(&self, reason: LagReason, to: u64) -> Lag {
        Lag {
            reason,
            from: Offset(self.next),
            to: Offset(to),
            count: match self.filter {
                None if self.not_before == WallMs(0) => to - self.next,
                _ => 0,
            },
        }
    }

    fn jump(&mut self, to: u64) {
        assert!(to >= self.next, "a cursor never goes back");
        self.next = to;
        self.place = Place::NOWHERE;
    }

    /// Passes over blocks of `chunk` that are too early; gives the bytes
    /// looked at.
    fn skip_early(&mut self, chunk: &[u8], end: u64) -> usize {
        let mut looked_at = 0;
        while self.not_before > WallMs(0) && self.place.block < chunk.len() && self.next < end {
            let header = header_at(chunk, self.place.block);
            looked_at += BLOCK_HEADER_BYTES;
            if header.timestamp >= self.not_before {
                // Time never goes back within a partition.
                self.not_before = WallMs(0);
                break;
            }
            self.next = header.first_offset.0 + u64::from(header.record_count);
            self.place.block += header.block_len();
            self.place.record = 0;
        }
        looked_at
    }

    /// `drop_oldest` and `drop_newest`, applied as of now.
    fn enforce_backlog(&mut self, source: &Source<'_>) {
        let end = source.end;
        if !self.live || end - self.next <= self.backlog_max {
            return;
        }
        match self.overflow {
            Overflow::DropOldest => {
                let to = (end - self.backlog_max).max(source.first);
                self.lag = Some(self.lag(LagReason::DropOldest, to));
                self.jump(to);
            }
            Overflow::DropNewest if self.ceiling.is_none() => {
                self.ceiling = Some(self.next + self.backlog_max);
            }
            Overflow::DropNewest | Overflow::Block | Overflow::Disconnect => {}
        }
    }

    /// The lag to announce now, if any; the cursor moves past it.
    fn take_lag(&mut self, source: &Source<'_>) -> Option<Lag> {
        if let Some(lag) = self.lag.take() {
            return Some(lag);
        }
        let (first, end) = (source.first, source.end);
        if self.next < first {
            let lag = self.lag(LagReason::RingOverran, first);
            self.jump(first);
            // What it had admitted is gone; what the ring has is newer and
            // better than nothing.
            self.ceiling = self.ceiling.filter(|ceiling| *ceiling > first);
            return Some(lag);
        }
        if self.ceiling == Some(self.next) {
            let lag = self.lag(LagReason::DropNewest, end);
            self.ceiling = None;
            self.jump(end);
            return Some(lag);
        }
        None
    }

    /// Blocks shared as they lie in the ring: `(records, bytes)`.
    fn whole_blocks(&self, chunk: &[u8], stop: u64) -> (u64, usize) {
        if self.filter.is_some() || self.place.record != 0 {
            return (0, 0);
        }
        let allowed = usize::try_from(self.credit_bytes.min(self.window)).unwrap_or(0);
        let (mut records, mut bytes) = (0, 0);
        for (_, header) in blocks(&chunk[self.place.block..]) {
            let count = u64::from(header.record_count);
            let len = header.block_len();
            if bytes >= allowed
                || (bytes > 0 && bytes + len > DELIVERY_BYTES_MAX)
                || records + count > self.credit_records
                || header.first_offset.0 + count > stop
            {
                break;
            }
            records += count;
            bytes += len;
        }
        (records, bytes)
    }
}

/// One past the last offset of the block at `place`.
fn block_end(chunk: &[u8], place: Place) -> u64 {
    let header = header_at(chunk, place.block);
    header.first_offset.0 + u64::from(header.record_count)
}

#[derive(Clone, Copy, Debug, Default)]
struct List {
    head: Option<usize>,
    tail: Option<usize>,
}

/// The subscribers of one partition. Owned by the partition's core.
#[derive(Debug)]
pub(crate) struct Subscribers {
    slots: Slab<Sub>,
    by_key: BTreeMap<SubKey, usize>,
    idle: List,
    ready: List,
    cold: List,
    max: u32,
    blocking: usize,
    /// No `block` cursor lies below this.
    blocking_floor: u64,
    /// No `disconnect` cursor lies below this.
    disconnect_floor: u64,
    /// No starved `disconnect` subscriber is over its backlog before the end
    /// passes this.
    disconnect_ceiling: u64,
    scan_left: usize,
    scratch: Vec<u8>,
}

impl Subscribers {
    pub(crate) fn position(&self, key: SubKey) -> Option<SubPosition> {
        let sub = &self.slots[*self.by_key.get(&key)?];
        Some(SubPosition {
            next: Offset(sub.next),
            credit_records: sub.credit_records,
            credit_bytes: sub.credit_bytes,
        })
    }

    /// The first offset that the one furthest behind has not been given.
    pub(crate) fn furthest_behind(&self) -> Option<Offset> {
        let all = self.slots.iter().map(|(_, sub)| sub.next);
        all.min().map(Offset)
    }

    pub(crate) fn new(max: u32) -> Self {
        Self {
            slots: Slab::new(),
            by_key: BTreeMap::new(),
            idle: List::default(),
            ready: List::default(),
            cold: List::default(),
            max,
            blocking: 0,
            blocking_floor: u64::MAX,
            disconnect_floor: u64::MAX,
            disconnect_ceiling: u64::MAX,
            scan_left: FILTER_SCAN_BYTES_MAX,
            scratch: Vec::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Gives back what is not in use.
    pub(crate) fn shrink(&mut self) {
        self.slots.shrink_to_fit();
        self.scratch = Vec::new();
    }

    pub(crate) const fn has_ready(&self) -> bool {
        self.ready.head.is_some()
    }

    pub(crate) fn subscribe(
        &mut self,
        source: &Source<'_>,
        key: SubKey,
        options: SubscribeOptions,
        default_overflow: Overflow,
    ) -> Result<Subscribed, SubscribeError> {
        let (first, end) = (source.first, source.end);
        let (start, not_before) = match options.start {
            Start::Earliest => (first, WallMs(0)),
            Start::Latest => (end, WallMs(0)),
            Start::Offset(offset) => (offset.0, WallMs(0)),
            Start::Time(time) => source.seek_time(time, first),
            Start::TimeFrom { time, hint } => source.seek_time(time, hint.0),
        };
        if start > end {
            return Err(SubscribeError::BeyondEnd {
                start: Offset(start),
                end: Offset(end),
            });
        }
        if self.by_key.contains_key(&key) {
            return Err(SubscribeError::KeyInUse);
        }
        if self.slots.len() >= self.max as usize {
            return Err(SubscribeError::TooMany { limit: self.max });
        }
        let next = start.max(first);
        let mut sub = Sub {
            key,
            next: start,
            place: Place::NOWHERE,
            overflow: options.overflow.unwrap_or(default_overflow),
            backlog_max: match options.backlog_max {
                0 => u64::MAX,
                records => u64::from(records),
            },
            credit_records: u64::from(options.credit_records.min(CREDIT_RECORDS_MAX)),
            credit_bytes: i64::from(options.credit_bytes.min(CREDIT_BYTES_MAX)),
            window: i64::from(options.window_bytes),
            filter: options.filter,
            not_before,
            ceiling: None,
            lag: None,
            ended: None,
            live: false,
            state: State::Starved,
            before: None,
            after: None,
        };
        if start < first {
            sub.lag = Some(sub.lag(LagReason::RingOverran, first));
            sub.next = first;
        }
        match sub.overflow {
            Overflow::Block => {
                self.blocking += 1;
                self.blocking_floor = self.blocking_floor.min(next);
            }
            Overflow::Disconnect => self.disconnect_floor = self.disconnect_floor.min(next),
            Overflow::DropOldest | Overflow::DropNewest => {}
        }
        let slot = self.slots.insert(sub);
        self.by_key.insert(key, slot);
        self.settle(slot, end);
        Ok(Subscribed {
            next: Offset(next),
            end: Offset(end),
        })
    }

    /// Removes the subscription; gives the cursor.
    pub(crate) fn unsubscribe(&mut self, key: SubKey) -> Option<Offset> {
        let slot = *self.by_key.get(&key)?;
        self.unlink(slot);
        Some(self.remove(slot))
    }

    /// More credit, more window; false when the key is not known.
    pub(crate) fn allow(
        &mut self,
        source: &Source<'_>,
        key: SubKey,
        add: impl FnOnce(&mut u64, &mut i64, &mut i64),
    ) -> bool {
        let Some(slot) = self.by_key.get(&key).copied() else {
            return false;
        };
        let sub = &mut self.slots[slot];
        add(
            &mut sub.credit_records,
            &mut sub.credit_bytes,
            &mut sub.window,
        );
        if sub.state == State::Starved && sub.can_take() {
            sub.enforce_backlog(source);
            self.settle(slot, source.end);
        }
        true
    }

    /// The end has moved.
    pub(crate) fn on_data(&mut self, end: u64) {
        let idle = core::mem::take(&mut self.idle);
        self.settle_all(idle, end);
        if end > self.disconnect_ceiling {
            self.disconnect_ceiling = u64::MAX;
            self.disconnect_where(|sub, ceiling| {
                if sub.state != State::Starved || !sub.live {
                    return false;
                }
                let limit = sub.next.saturating_add(sub.backlog_max);
                if end <= limit {
                    *ceiling = (*ceiling).min(limit);
                }
                end > limit
            });
        }
    }

    /// A read of the log was answered, or has become useless: everyone who
    /// waits looks again.
    pub(crate) fn on_read(&mut self, end: u64) {
        let cold = core::mem::take(&mut self.cold);
        self.settle_all(cold, end);
    }

    /// Settles a whole list that was taken out.
    fn settle_all(&mut self, list: List, end: u64) {
        let mut slot = list.head;
        while let Some(s) = slot {
            let sub = &mut self.slots[s];
            slot = sub.after.take();
            sub.before = None;
            sub.state = State::Starved;
            self.settle(s, end);
        }
    }

    /// The oldest records went.
    pub(crate) fn on_evict(&mut self, first: u64) {
        if first <= self.disconnect_floor {
            return;
        }
        let mut floor = u64::MAX;
        self.disconnect_where(|sub, _| {
            if sub.next >= first {
                floor = floor.min(sub.next);
            }
            sub.next < first
        });
        self.disconnect_floor = floor;
    }

    /// Ends every subscription, for a partition that goes away.
    pub(crate) fn end_all(&mut self, code: ErrorCode) {
        for slot in 0..self.slots.capacity() {
            if self.slots.contains(slot) {
                self.end(slot, code);
            }
        }
    }

    fn disconnect_where(&mut self, mut slow: impl FnMut(&Sub, &mut u64) -> bool) {
        for slot in 0..self.slots.capacity() {
            let Some(sub) = self.slots.get(slot) else {
                continue;
            };
            if sub.overflow == Overflow::Disconnect
                && sub.ended.is_none()
                && slow(sub, &mut self.disconnect_ceiling)
            {
                self.end(slot, ErrorCode::SlowSubscriber);
            }
        }
    }

    fn end(&mut self, slot: usize, code: ErrorCode) {
        self.unlink(slot);
        self.slots[slot].ended = Some(code);
        self.link(slot, State::Ready);
    }

    /// The slowest `block` cursor that an eviction up to `first` would
    /// overtake.
    pub(crate) fn blocker(&mut self, first: u64) -> Option<Offset> {
        if self.blocking == 0 || first <= self.blocking_floor {
            return None;
        }
        // Cursors have moved since the floor was taken. In a ring that turns
        // over this happens about once per turnover.
        self.blocking_floor = self
            .slots
            .iter()
            .filter(|(_, sub)| sub.overflow == Overflow::Block && sub.ended.is_none())
            .map(|(_, sub)| sub.next)
            .min()
            .unwrap_or(u64::MAX);
        (first > self.blocking_floor).then_some(Offset(self.blocking_floor))
    }

    /// The next thing for anyone. `None`: nothing is ready, or filters have
    /// looked at enough for now.
    pub(crate) fn poll(&mut self, source: &mut Source<'_>) -> Option<(SubKey, Delivery)> {
        while self.scan_left > 0 {
            let Some(slot) = self.ready.head else {
                break;
            };
            self.unlink(slot);
            let sub = &mut self.slots[slot];
            let key = sub.key;
            if let Some(code) = sub.ended {
                let next = self.remove(slot);
                return Some((key, Delivery::End { code, next }));
            }
            if let Some(lag) = sub.take_lag(source) {
                self.settle(slot, source.end);
                return Some((key, Delivery::Lag(lag)));
            }
            let taken = if sub.can_take() {
                self.take_records(slot, source)
            } else {
                Taken::Nothing
            };
            match taken {
                Taken::Delivery(delivery) => {
                    self.settle(slot, source.end);
                    return Some((key, delivery));
                }
                Taken::Nothing => self.settle(slot, source.end),
                Taken::Waiting => self.link(slot, State::Cold),
                Taken::Lost => self.end(slot, ErrorCode::PartitionFenced),
            }
        }
        self.scan_left = FILTER_SCAN_BYTES_MAX;
        None
    }

    fn take_records(&mut self, slot: usize, source: &mut Source<'_>) -> Taken {
        let sub = &mut self.slots[slot];
        let end = source.end;
        let stop = sub.ceiling.unwrap_or(end);
        if sub.next >= end {
            return Taken::Nothing;
        }
        let (chunk, copy) = match source.locate(sub.next, &mut sub.place, true) {
            Found::Chunk { bytes, copy } => (bytes, copy),
            Found::Nothing => return Taken::Nothing,
            Found::Waiting => return Taken::Waiting,
            Found::Lost => return Taken::Lost,
        };
        if sub.not_before > WallMs(0) {
            let looked_at = sub.skip_early(chunk, end);
            self.scan_left = self.scan_left.saturating_sub(looked_at);
            if sub.place.block == chunk.len() {
                sub.place = sub.place.after();
                return Taken::Nothing;
            }
        }
        let (mut records, len) = sub.whole_blocks(chunk, stop);
        let bytes = if records > 0 {
            let start = sub.place.block;
            sub.place.block += len;
            sub.next += records;
            if copy {
                // Readers pin too much already: a copy pins only itself.
                Bytes::copy_from_slice(&chunk[start..start + len])
            } else {
                chunk.slice(start..start + len)
            }
        } else {
            // A filter, or a block larger than the record credit: the rare
            // path, which copies and allocates once per delivery.
            let allowed = usize::try_from(sub.credit_bytes.min(sub.window)).unwrap_or(0);
            let stop = match sub.filter {
                Some(_) => stop,
                // Blocks after this one can be shared again.
                None => stop.min(block_end(chunk, sub.place)),
            };
            let bounds = Bounds {
                stop,
                records: sub.credit_records,
                bytes: allowed.min(DELIVERY_BYTES_MAX),
                first_exempt: true,
                scan: self.scan_left,
            };
            self.scratch.clear();
            let copied = copy_matching(
                chunk,
                &mut sub.place,
                &mut sub.next,
                sub.filter.as_deref(),
                &bounds,
                &mut self.scratch,
            );
            if sub.filter.is_some() {
                self.scan_left = self.scan_left.saturating_sub(copied.scanned);
            }
            records = copied.records;
            let bytes = Bytes::copy_from_slice(&self.scratch);
            if self.scratch.capacity() > 2 * DELIVERY_BYTES_MAX {
                self.scratch = Vec::new();
            }
            bytes
        };
        if sub.place.block == chunk.len() {
            sub.place = sub.place.after();
        }
        if records == 0 {
            return Taken::Nothing;
        }
        let len = i64::try_from(bytes.len()).expect("a delivery fits i64");
        sub.credit_records -= records;
        sub.credit_bytes -= len;
        sub.window -= len;
        Taken::Delivery(Delivery::Records {
            bytes,
            records: u32::try_from(records).expect("at most the record credit, which is u32"),
            next: Offset(sub.next),
        })
    }

    /// Puts an unlinked subscriber into the state it is in; `end` is the
    /// visible one.
    fn settle(&mut self, slot: usize, end: u64) {
        let sub = &mut self.slots[slot];
        let state = if sub.ended.is_some() || sub.lag.is_some() || sub.ceiling == Some(sub.next) {
            State::Ready
        } else if sub.next == end {
            sub.live = true;
            State::Idle
        } else if sub.can_take() {
            State::Ready
        } else {
            State::Starved
        };
        let slow_at = sub.next.saturating_add(sub.backlog_max);
        if state == State::Starved && sub.live && sub.overflow == Overflow::Disconnect {
            if end > slow_at {
                self.end(slot, ErrorCode::SlowSubscriber);
                return;
            }
            self.disconnect_ceiling = self.disconnect_ceiling.min(slow_at);
        }
        self.link(slot, state);
    }

    fn remove(&mut self, slot: usize) -> Offset {
        let sub = self.slots.remove(slot);
        self.by_key.remove(&sub.key);
        if sub.overflow == Overflow::Block {
            self.blocking -= 1;
        }
        Offset(sub.next)
    }

    fn list(&mut self, state: State) -> Option<&mut List> {
        match state {
            State::Idle => Some(&mut self.idle),
            State::Ready => Some(&mut self.ready),
            State::Cold => Some(&mut self.cold),
            State::Starved => None,
        }
    }

    fn link(&mut self, slot: usize, state: State) {
        let before = self.list(state).and_then(|list| {
            list.tail.replace(slot).or_else(|| {
                list.head = Some(slot);
                None
            })
        });
        let sub = &mut self.slots[slot];
        sub.state = state;
        sub.before = before;
        sub.after = None;
        if let Some(before) = before {
            self.slots[before].after = Some(slot);
        }
    }

    /// Takes a subscriber out of its list; it counts as starved until it is
    /// linked again.
    fn unlink(&mut self, slot: usize) {
        let sub = &mut self.slots[slot];
        let state = core::mem::replace(&mut sub.state, State::Starved);
        let (before, after) = (sub.before.take(), sub.after.take());
        if let Some(before) = before {
            self.slots[before].after = after;
        }
        if let Some(after) = after {
            self.slots[after].before = before;
        }
        if let Some(list) = self.list(state) {
            if before.is_none() {
                list.head = after;
            }
            if after.is_none() {
                list.tail = before;
            }
        }
    }
}
