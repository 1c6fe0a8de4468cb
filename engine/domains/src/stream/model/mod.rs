//! Random histories against a naive model: a `Vec` of everything ever
//! acknowledged, and per subscriber what it must have seen.
#![allow(clippy::unwrap_used)]

mod durable;
mod parts;
mod seam;

use std::collections::{BTreeMap, VecDeque};

use pinion_types::block::{BLOCK_HEADER_BYTES, BlockHeader, Record, records};
use pinion_types::{ErrorCode, Monotonic, Offset, ProducerId, Sequence, WallMs};

use super::*;
use parts::{Rng, StartsWithX, Sub};

const HISTORIES: u64 = 4000;
const STEPS: u64 = 120;
const PRODUCERS_MAX: usize = 2;

/// First sequence, count, offset.
type Batch = (u64, u32, u64);

struct World {
    seed: u64,
    rng: Rng,
    p: Partition,
    config: PartitionConfig,
    /// Every record ever acknowledged: value and block time.
    log: Vec<(Vec<u8>, u64)>,
    visible: u64,
    largest_block: u64,
    now: u64,
    wall: u64,
    subs: BTreeMap<u64, Sub>,
    next_key: u64,
    /// Least recently used first: id, next sequence, batches.
    producers: Vec<(u64, u64, Vec<Batch>)>,
    sessions: Vec<(u64, u64, Vec<Vec<u8>>)>,
    /// Drain everything each turn and predict each lag exactly.
    exact: bool,
    lags: [u64; 4],
    ends: u64,
    backlogged: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..4 {
            rng.next();
        }
        let config = PartitionConfig {
            ring_bytes: 400 + rng.below(12_000),
            ring_records_max: 3 + rng.small(80),
            retention_bytes: None,
            durable: false,
            retention_ms: rng.one_in(4).then(|| 5 + rng.below(40)),
            max_record_bytes: 1000,
            producers_max: u32::try_from(PRODUCERS_MAX).unwrap(),
            sessions_max: 2,
            subscribers_max: 5,
            default_overflow: Overflow::DropOldest,
        };
        Self {
            seed,
            exact: rng.one_in(2),
            rng,
            p: Partition::new(config),
            config,
            log: Vec::new(),
            visible: 0,
            largest_block: 0,
            now: 0,
            wall: 1000,
            subs: BTreeMap::new(),
            next_key: 0,
            producers: Vec::new(),
            sessions: Vec::new(),
            lags: [0; 4],
            ends: 0,
            backlogged: 0,
        }
    }

    fn end(&self) -> u64 {
        self.log.len() as u64
    }

    fn first(&self) -> u64 {
        self.p.first_available().0
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic::from_millis(self.now)
    }

    fn values(&mut self) -> Vec<Vec<u8>> {
        let count = 1 + self.rng.below(7);
        (0..count)
            .map(|_| {
                let mut value = vec![if self.rng.one_in(3) { b'x' } else { b'y' }];
                let long = if self.rng.one_in(20) { 900 } else { 40 };
                let len = self.rng.below(long);
                value.extend((0..len).map(|_| b'a' + u8::try_from(self.rng.below(26)).unwrap()));
                value
            })
            .collect()
    }

    fn encode(values: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        for value in values {
            let record = Record {
                key: b"k",
                headers: b"",
                value,
            };
            record.encode(&mut out).unwrap();
        }
        out
    }

    fn accept(&mut self, values: Vec<Vec<u8>>) {
        let time = self.log.last().map_or(0, |(_, t)| *t).max(self.wall);
        self.log.extend(values.into_iter().map(|v| (v, time)));
    }

    /// What Kafka's rule says of a batch, from all batches ever sent.
    fn judge(&self, id: u64, first: u64, count: u32) -> &'static str {
        let known = self.producers.iter().find(|p| p.0 == id);
        let Some((_, next, batches)) = known else {
            return if first == 0 { "fresh" } else { "gap" };
        };
        let remembered = &batches[batches.len().saturating_sub(BATCHES_REMEMBERED)..];
        if first == *next {
            "fresh"
        } else if first > *next {
            "gap"
        } else if remembered.iter().any(|b| b.0 == first && b.1 == count) {
            "repeat"
        } else if first < remembered[0].0 {
            "old"
        } else {
            "overlap"
        }
    }

    fn append(&mut self) {
        let values = self.values();
        let records = Self::encode(&values);
        let count = u32::try_from(values.len()).unwrap();
        let producer = self.rng.one_in(3).then(|| {
            let id = self.rng.below(3);
            let next = self.producers.iter().find(|p| p.0 == id).map_or(0, |p| p.1);
            let sequence = match self.rng.below(5) {
                0 => next.saturating_sub(self.rng.below(8)),
                1 => next + self.rng.below(2),
                _ => next,
            };
            (id, sequence)
        });
        let expected = self
            .rng
            .one_in(6)
            .then(|| (self.end() + self.rng.below(2)).saturating_sub(self.rng.below(2)));
        let judged = producer.map_or("fresh", |(id, s)| self.judge(id, s, count));
        let before = (self.first(), self.p.bytes(), self.p.producers());
        let result = self.p.append(
            self.monotonic(),
            WallMs(self.wall),
            &Append {
                producer: producer.map(|(id, s)| (ProducerId(id), Sequence(s))),
                expected_offset: expected.map(Offset),
                record_count: count,
                records: &records,
            },
        );
        let seed = self.seed;
        match result {
            Ok(appended) if appended.duplicate => {
                assert_eq!(judged, "repeat", "seed {seed}");
                let (id, first) = producer.unwrap();
                let known = self.producers.iter().find(|p| p.0 == id).unwrap();
                assert!(
                    known.2.contains(&(first, count, appended.first_offset.0)),
                    "seed {seed}"
                );
            }
            Ok(appended) => {
                assert_eq!(judged, "fresh", "seed {seed}");
                assert_eq!(appended.first_offset.0, self.end(), "seed {seed}");
                assert!(expected.is_none_or(|e| e == self.end()), "seed {seed}");
                if let Some((id, first)) = producer {
                    self.remember(id, first, count);
                }
                self.accept(values);
                let block = (records.len() + BLOCK_HEADER_BYTES) as u64;
                self.largest_block = self.largest_block.max(block);
            }
            Err(error) => {
                match error {
                    AppendError::SequenceGap { .. } => assert_eq!(judged, "gap", "seed {seed}"),
                    AppendError::SequenceTooOld { .. } => assert_eq!(judged, "old", "seed {seed}"),
                    AppendError::SequenceOverlap { .. } => {
                        assert_eq!(judged, "overlap", "seed {seed}");
                    }
                    AppendError::OffsetConflict { actual, .. } => {
                        assert_eq!(actual.0, self.end(), "seed {seed}");
                        assert_ne!(expected, Some(self.end()), "seed {seed}");
                    }
                    AppendError::Backlogged { next } => self.check_backlogged(next.0),
                    other => panic!("seed {seed}: {other}"),
                }
                let after = (self.first(), self.p.bytes(), self.p.producers());
                assert_eq!(
                    before, after,
                    "seed {seed}: a failed append changes nothing"
                );
            }
        }
    }

    fn check_backlogged(&mut self, next: u64) {
        self.backlogged += 1;
        let blocker = self
            .subs
            .values()
            .any(|s| s.overflow == Overflow::Block && s.expected <= next);
        assert!(blocker, "seed {}: nobody blocks at {next}", self.seed);
    }

    fn remember(&mut self, id: u64, first: u64, count: u32) {
        let end = self.end();
        let mut known = match self.producers.iter().position(|p| p.0 == id) {
            Some(i) => self.producers.remove(i),
            None => (id, 0, Vec::new()),
        };
        if self.producers.len() == PRODUCERS_MAX {
            self.producers.remove(0);
        }
        known.1 += u64::from(count);
        known.2.push((first, count, end));
        self.producers.push(known);
    }

    fn session_step(&mut self) {
        let seed = self.seed;
        let owner = self.rng.below(2);
        if self.sessions.is_empty() || self.rng.one_in(4) {
            if let Ok(id) = self.p.begin(self.monotonic(), owner, false) {
                self.sessions.push((owner, id, Vec::new()));
            } else {
                assert_eq!(self.sessions.len(), 2, "seed {seed}");
            }
            return;
        }
        let i = usize::try_from(self.rng.below(self.sessions.len() as u64)).unwrap();
        let (owner, id, _) = self.sessions[i];
        match self.rng.below(6) {
            0 => {
                self.p.rollback(owner, id).unwrap();
                self.sessions.remove(i);
            }
            1 => {
                self.p.abort_owner(owner);
                self.sessions.retain(|s| s.0 != owner);
            }
            2 | 3 => match self
                .p
                .commit(self.monotonic(), WallMs(self.wall), owner, id, None)
            {
                Ok(done) => {
                    let (_, _, values) = self.sessions.remove(i);
                    assert_eq!(done.first_offset.0, self.end(), "seed {seed}");
                    assert_eq!(done.record_count as usize, values.len(), "seed {seed}");
                    let bytes = Self::encode(&values).len() + BLOCK_HEADER_BYTES;
                    self.largest_block = self.largest_block.max(bytes as u64);
                    self.accept(values);
                    assert_eq!(self.p.end().0, self.end(), "seed {seed}: visible at once");
                    self.sealed();
                }
                Err(SessionError::Append(AppendError::Backlogged { next })) => {
                    self.check_backlogged(next.0);
                }
                Err(error) => panic!("seed {seed}: {error}"),
            },
            _ => {
                let values = self.values();
                let count = u32::try_from(values.len()).unwrap();
                let records = Self::encode(&values);
                match self.p.stage(self.monotonic(), owner, id, count, &records) {
                    Ok(totals) => {
                        self.sessions[i].2.extend(values);
                        assert_eq!(totals.records as usize, self.sessions[i].2.len());
                    }
                    Err(SessionError::TooManyBytes { limit, .. }) => {
                        assert_eq!(limit, self.config.ring_bytes / 2);
                    }
                    Err(SessionError::TooManyRecords { limit, .. }) => {
                        assert_eq!(limit, u64::from(self.config.ring_records_max / 2));
                    }
                    Err(error) => panic!("seed {seed}: {error}"),
                }
            }
        }
    }

    fn subscribe(&mut self) {
        self.p.seal();
        self.sealed();
        let (first, end) = (self.first(), self.end());
        let start = match self.rng.below(5) {
            0 => Start::Earliest,
            1 => Start::Latest,
            2 | 3 => Start::Offset(Offset(self.rng.below(end + 1))),
            _ => Start::Time(WallMs(900 + self.rng.below(self.wall - 800))),
        };
        let at = match start {
            Start::Earliest => first,
            Start::Latest => end,
            Start::Offset(offset) => offset.0,
            Start::Time(time) | Start::TimeFrom { time, .. } => (first..end)
                .find(|o| self.log[usize::try_from(*o).unwrap()].1 >= time.0)
                .unwrap_or(end),
        };
        let overflow = [
            Overflow::Block,
            Overflow::DropOldest,
            Overflow::DropNewest,
            Overflow::Disconnect,
        ][usize::try_from(self.rng.below(4)).unwrap()];
        let backlog_max = if self.rng.one_in(3) {
            0
        } else {
            1 + self.rng.small(20)
        };
        let filtered = !self.exact && self.rng.one_in(3);
        let options = SubscribeOptions {
            start,
            overflow: Some(overflow),
            backlog_max,
            credit_records: self.rng.small(8),
            credit_bytes: self.rng.small(600),
            window_bytes: 1 + self.rng.small(600),
            filter: filtered.then(|| -> Box<dyn RecordFilter> { Box::new(StartsWithX) }),
        };
        let sub = Sub {
            expected: at,
            overflow,
            backlog_max: match backlog_max {
                0 => u64::MAX,
                n => u64::from(n),
            },
            filtered,
            records_left: i64::from(options.credit_records),
            bytes_left: i64::from(options.credit_bytes),
            window_left: i64::from(options.window_bytes),
            in_transport: VecDeque::new(),
            start_lag: (at < first).then_some(first),
            live: at == end,
            pushed: at.max(first),
            ceiling: None,
            must_end: false,
        };
        let key = self.next_key;
        match self.p.subscribe(SubKey(key), options) {
            Ok(subscribed) => {
                assert_eq!(subscribed.next.0, at.max(first), "seed {}", self.seed);
                assert_eq!(subscribed.end.0, end, "seed {}", self.seed);
                self.subs.insert(key, sub);
                self.next_key += 1;
            }
            Err(error) => assert_eq!(
                (error, self.subs.len()),
                (SubscribeError::TooMany { limit: 5 }, 5),
                "seed {}",
                self.seed
            ),
        }
    }

    fn grant(&mut self) {
        let keys: Vec<u64> = self.subs.keys().copied().collect();
        let first = self.first();
        for key in keys {
            let sub = self.subs.get_mut(&key).unwrap();
            let starved = !sub.can_take();
            match self.rng.below(3) {
                0 => {
                    let (r, b) = (self.rng.small(12), self.rng.small(700));
                    assert!(self.p.credit(SubKey(key), r, b));
                    sub.records_left += i64::from(r);
                    sub.bytes_left += i64::from(b);
                }
                1 => {
                    if let Some(bytes) = sub.in_transport.pop_front() {
                        assert!(self.p.window(SubKey(key), bytes.len() as u64));
                        sub.window_left += i64::try_from(bytes.len()).unwrap();
                    }
                }
                _ => {}
            }
            if starved && sub.can_take() && sub.pushed > sub.expected {
                sub.pushed = sub.pushed.max(first);
            }
        }
    }

    /// The visible end has moved: every policy record by record, for those
    /// that could not take anything meanwhile.
    fn sealed(&mut self) {
        let (first, end) = (self.first(), self.end());
        assert_eq!(self.p.end().0, end, "seed {}", self.seed);
        if end == self.visible {
            return;
        }
        self.visible = end;
        for sub in self.subs.values_mut() {
            sub.overflow_now(end);
            if sub.overflow == Overflow::Disconnect && sub.pushed < first {
                sub.must_end = true;
            }
        }
    }

    fn turn(&mut self) {
        self.p.seal();
        self.sealed();
        let mut polls = if self.exact {
            u64::MAX
        } else {
            self.rng.below(6)
        };
        while polls > 0 {
            let Some((key, delivery)) = self.p.poll_delivery() else {
                break;
            };
            polls -= 1;
            self.check(key.0, delivery);
        }
        if self.exact {
            assert!(!self.p.has_work(), "seed {}", self.seed);
            let end = self.end();
            for (key, sub) in &mut self.subs {
                let seed = self.seed;
                assert!(!sub.must_end, "seed {seed}: {key} should have ended");
                assert!(
                    sub.expected == end || !sub.can_take(),
                    "seed {seed}: {key} waits at {} of {end} for nothing",
                    sub.expected
                );
                sub.live |= sub.expected == end;
            }
        }
        self.check_bounds();
    }

    fn check_bounds(&self) {
        let bytes = self.p.bytes();
        let overhead = ring::CHUNK_OVERHEAD_BYTES as u64;
        assert!(
            bytes <= self.config.ring_bytes.max(self.largest_block + overhead),
            "seed {}: {bytes} bytes in a ring of {}",
            self.seed,
            self.config.ring_bytes
        );
        let most = self.p.ring().memory_max() + self.largest_block;
        assert!(self.p.memory() <= most, "seed {}", self.seed);
    }

    fn wanted(&self, sub: &Sub, offset: u64) -> bool {
        !sub.filtered || self.log[usize::try_from(offset).unwrap()].0[0] == b'x'
    }

    fn check(&mut self, key: u64, delivery: Delivery) {
        let seed = self.seed;
        let mut sub = self.subs.remove(&key).expect("a living subscription");
        let (first, end) = (self.first(), self.end());
        match delivery {
            Delivery::Records {
                bytes,
                records,
                next,
            } => {
                assert!(sub.can_take(), "seed {seed}: {key} had no credit");
                assert!(sub.start_lag.is_none(), "seed {seed}");
                if self.exact {
                    assert!(!sub.must_end, "seed {seed}: {key} should have ended");
                    assert!(sub.pushed <= sub.expected, "seed {seed}: lag not announced");
                }
                let (count, last_block) = self.check_blocks(&mut sub, &bytes, end);
                assert_eq!(count, records, "seed {seed}");
                assert!(next.0 >= sub.expected && next.0 <= end, "seed {seed}");
                for offset in sub.expected..next.0 {
                    assert!(
                        !self.wanted(&sub, offset),
                        "seed {seed}: {key} lost {offset}"
                    );
                }
                sub.expected = next.0;
                assert!(sub.ceiling.is_none_or(|c| next.0 <= c), "seed {seed}");
                let len = i64::try_from(bytes.len()).unwrap();
                sub.records_left -= i64::from(records);
                assert!(sub.records_left >= 0, "seed {seed}: {key} over its credit");
                sub.bytes_left -= len;
                sub.window_left -= len;
                assert!(
                    sub.bytes_left + last_block > 0 && sub.window_left + last_block > 0,
                    "seed {seed}: {key} over by more than a block"
                );
                sub.in_transport.push_back(bytes);
            }
            Delivery::Lag(lag) => {
                self.lags[lag.reason as usize] += 1;
                self.check_lag(&mut sub, lag, first, end);
                sub.expected = lag.to.0;
            }
            Delivery::End { code, next } => {
                self.ends += 1;
                assert_eq!(code, ErrorCode::SlowSubscriber, "seed {seed}");
                assert_eq!(sub.overflow, Overflow::Disconnect, "seed {seed}");
                assert!(next.0 >= sub.expected, "seed {seed}");
                if self.exact {
                    assert!(sub.must_end, "seed {seed}: {key} was not slow");
                }
                return;
            }
        }
        sub.pushed = sub.pushed.max(sub.expected);
        sub.overflow_now(end);
        self.subs.insert(key, sub);
    }

    /// Each record is the model's at its offset, none is skipped that was
    /// wanted. Gives the count and the length of the last block.
    fn check_blocks(&self, sub: &mut Sub, bytes: &[u8], end: u64) -> (u32, i64) {
        let seed = self.seed;
        let (mut rest, mut count, mut last) = (bytes, 0, 0);
        while !rest.is_empty() {
            let (header, body, after) = BlockHeader::split(rest).unwrap();
            let mut offset = header.first_offset.0;
            for record in records(body) {
                let record = record.unwrap();
                assert!(offset >= sub.expected, "seed {seed}: {offset} twice");
                assert!(offset < end, "seed {seed}");
                for skipped in sub.expected..offset {
                    assert!(!self.wanted(sub, skipped), "seed {seed}: lost {skipped}");
                }
                let (value, time) = &self.log[usize::try_from(offset).unwrap()];
                assert_eq!(record.value, value, "seed {seed}: {offset}");
                assert_eq!(header.timestamp.0, *time, "seed {seed}: {offset}");
                assert!(self.wanted(sub, offset), "seed {seed}: unwanted {offset}");
                offset += 1;
                count += 1;
                sub.expected = offset;
            }
            assert_eq!(
                offset,
                header.first_offset.0 + u64::from(header.record_count)
            );
            last = i64::try_from(header.block_len()).unwrap();
            rest = after;
        }
        (count, last)
    }

    fn check_lag(&self, sub: &mut Sub, lag: Lag, first: u64, end: u64) {
        let seed = self.seed;
        let (from, to) = (lag.from.0, lag.to.0);
        assert!(
            from >= sub.expected && from < to && to <= end,
            "seed {seed}"
        );
        for offset in sub.expected..from {
            assert!(!self.wanted(sub, offset), "seed {seed}: lost {offset}");
        }
        let count = if sub.filtered { 0 } else { to - from };
        assert_eq!(lag.count, count, "seed {seed}");
        if let Some(start) = sub.start_lag.take() {
            assert_eq!(
                (lag.reason, to),
                (LagReason::RingOverran, start),
                "seed {seed}"
            );
            return;
        }
        match lag.reason {
            LagReason::RingOverran => {
                assert_eq!(to, first, "seed {seed}");
                assert_ne!(sub.overflow, Overflow::Disconnect, "seed {seed}");
                assert!(
                    sub.overflow != Overflow::Block || self.config.retention_ms.is_some(),
                    "seed {seed}: a blocking subscriber lost {from}..{to}"
                );
                sub.ceiling = sub.ceiling.filter(|c| *c > first);
            }
            LagReason::DropOldest => {
                assert_eq!(sub.overflow, Overflow::DropOldest, "seed {seed}");
                assert!(end - from > sub.backlog_max, "seed {seed}");
                if self.exact {
                    assert_eq!(to, sub.pushed, "seed {seed}");
                }
            }
            LagReason::DropNewest => {
                assert_eq!(sub.overflow, Overflow::DropNewest, "seed {seed}");
                assert_eq!(to, end, "seed {seed}");
                if self.exact {
                    assert_eq!(sub.ceiling, Some(from), "seed {seed}");
                }
                sub.ceiling = None;
            }
        }
    }

    fn fetch(&mut self) {
        let seed = self.seed;
        let (first, end) = (self.first(), self.p.end().0);
        let from = self.rng.below(end + 3);
        let (max_records, max_bytes) = (self.rng.small(20), self.rng.small(900));
        let filtered = self.rng.one_in(3);
        let filter: Option<&dyn RecordFilter> = filtered.then_some(&StartsWithX);
        let mut out = b"kept".to_vec();
        let result = self
            .p
            .fetch(Offset(from), max_records, max_bytes, filter, &mut out);
        let FetchResult::Done(fetched) = result else {
            panic!("seed {seed}: {result:?}");
        };
        let blocks = out.strip_prefix(b"kept").unwrap();
        assert_eq!((fetched.end.0, fetched.first_available.0), (end, first));
        let mut sub = Sub {
            expected: from.max(first),
            overflow: Overflow::Block,
            backlog_max: 0,
            filtered,
            records_left: 0,
            bytes_left: 0,
            window_left: 0,
            in_transport: VecDeque::new(),
            start_lag: None,
            live: false,
            pushed: 0,
            ceiling: None,
            must_end: false,
        };
        let (count, _) = self.check_blocks(&mut sub, blocks, end);
        assert_eq!(count, fetched.records, "seed {seed}");
        assert!(count <= max_records, "seed {seed}");
        assert!(
            blocks.len() <= max_bytes as usize || count == 1,
            "seed {seed}"
        );
        if from >= end || max_records == 0 {
            assert_eq!((fetched.next.0, count), (from, 0), "seed {seed}");
            return;
        }
        for offset in sub.expected..fetched.next.0 {
            assert!(!self.wanted(&sub, offset), "seed {seed}: lost {offset}");
        }
        if fetched.next.0 < end && count < max_records {
            let next = &self.log[usize::try_from(fetched.next.0).unwrap()].0;
            let more = BLOCK_HEADER_BYTES + 9 + next.len();
            assert!(
                blocks.len() + more > max_bytes as usize,
                "seed {seed}: stopped early"
            );
        }
    }

    fn step(&mut self) {
        match self.rng.below(20) {
            0..=7 => self.append(),
            8..=11 => self.turn(),
            12 | 13 => {
                // A grant acts on what is visible; in exact histories the
                // prediction is made at the end of turns.
                if self.exact {
                    self.turn();
                }
                self.grant();
            }
            14 => self.fetch(),
            15 | 16 => self.session_step(),
            17 => self.subscribe(),
            18 => {
                self.now += self.rng.below(10);
                // Wall time jumps either way.
                self.wall = (self.wall + self.rng.below(12)).saturating_sub(self.rng.below(5));
                self.p.handle_timeout(self.monotonic());
                if self.config.retention_ms.is_some() {
                    self.sealed();
                }
                // An unseen retention is as good as an overrun.
                let first = self.first();
                for sub in self.subs.values_mut() {
                    sub.must_end |= sub.overflow == Overflow::Disconnect && sub.pushed < first;
                }
                let due = self.p.next_deadline();
                assert!(due.is_none_or(|due| due > self.monotonic()), "timers fire");
            }
            _ => {
                let key = self.rng.below(self.next_key + 1);
                let cursor = self.p.unsubscribe(SubKey(key));
                let sub = self.subs.remove(&key);
                assert_eq!(cursor.is_some(), sub.is_some(), "seed {}", self.seed);
                if let (Some(cursor), Some(sub)) = (cursor, sub) {
                    assert!(cursor.0 >= sub.expected, "seed {}", self.seed);
                }
            }
        }
    }

    /// With plenty of credit everyone reaches the end.
    fn finish(&mut self) {
        self.exact = false;
        self.p.seal();
        self.sealed();
        loop {
            let keys: Vec<u64> = self.subs.keys().copied().collect();
            for key in keys {
                let sub = self.subs.get_mut(&key).unwrap();
                assert!(self.p.credit(SubKey(key), 1000, 100_000));
                assert!(self.p.window(SubKey(key), 100_000));
                sub.records_left += 1000;
                sub.bytes_left += 100_000;
                sub.window_left += 100_000;
                sub.in_transport.clear();
            }
            let mut quiet = true;
            while let Some((key, delivery)) = self.p.poll_delivery() {
                quiet = false;
                self.check(key.0, delivery);
            }
            if quiet {
                break;
            }
        }
        for (key, sub) in &self.subs {
            let cursor = self.p.unsubscribe(SubKey(*key)).unwrap();
            assert_eq!(cursor.0, self.end(), "seed {}: {key} is left", self.seed);
            for offset in sub.expected..cursor.0 {
                assert!(!self.wanted(sub, offset), "seed {}", self.seed);
            }
        }
        self.check_bounds();
    }
}

#[test]
fn random_histories_agree_with_the_model() {
    let (mut lags, mut ends, mut backlogged) = ([0; 4], 0, 0);
    for seed in 1..=HISTORIES {
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step();
        }
        world.finish();
        for (sum, one) in lags.iter_mut().zip(world.lags) {
            *sum += one;
        }
        ends += world.ends;
        backlogged += world.backlogged;
    }
    // The histories reach what they are meant to test.
    println!("{HISTORIES} histories: lags {lags:?}, ends {ends}, backlogged {backlogged}");
    for reached in [lags[1], lags[2], lags[3], ends, backlogged] {
        assert!(reached > 200, "lags {lags:?} ends {ends} {backlogged}");
    }
}
