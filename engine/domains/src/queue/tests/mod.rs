//! Stories of a queue, and a model that checks random histories.
#![allow(clippy::unwrap_used)]

mod bodies;
mod dead;
mod groups;
mod leases;
mod limits;
mod model;
mod push;
mod restart;
mod state;
mod why;

use std::collections::BTreeMap;

use bytes::Bytes;
use pinion_commitlog::{Location, RecordHead};
use pinion_types::block::Record;
use pinion_types::{CoreId, Monotonic, PartitionId, ResourceId, SessionId, WallMs};

use super::*;
use crate::op::Op;

/// A record as the log has it.
#[derive(Clone, Debug)]
pub(super) struct Logged {
    pub(super) head: RecordHead,
    pub(super) at: Location,
    pub(super) carried: bool,
    pub(super) ext: Vec<u8>,
    pub(super) body: Bytes,
}

/// A partition with a clock and a log that does as it is told.
pub(super) struct World {
    pub(super) q: QueuePartition,
    pub(super) config: QueueConfig,
    /// Committed records first, then those that are not.
    pub(super) log: Vec<Logged>,
    pub(super) committed: usize,
    pub(super) ms: u64,
    /// Wall time minus `ms`.
    pub(super) wall_base: u64,
    /// Bodies the log must keep.
    pub(super) retained: BTreeMap<Location, Bytes>,
    pub(super) lives: u64,
    pub(super) waiters: u64,
}

pub(super) fn session(number: u64) -> SessionId {
    SessionId {
        core: CoreId(0),
        token: number,
    }
}

pub(super) fn encode(records: &[(&str, &str)]) -> Bytes {
    let mut out = Vec::new();
    for (key, value) in records {
        let record = Record {
            key: key.as_bytes(),
            headers: b"",
            value: value.as_bytes(),
        };
        record.encode(&mut out).unwrap();
    }
    out.into()
}

/// The value of a taken record.
pub(super) fn value(record: &[u8]) -> String {
    let record = pinion_types::block::records(record)
        .next()
        .unwrap()
        .unwrap();
    String::from_utf8(record.value.to_vec()).unwrap()
}

pub(super) fn values(taken: &[Taken]) -> Vec<String> {
    taken.iter().map(|one| value(&one.record)).collect()
}

pub(super) fn config() -> QueueConfig {
    QueueConfig {
        lease_ms: 10_000,
        backoff_min_ms: 100,
        backoff_max_ms: 1000,
        redelivery_per_sec: 1_000_000,
        redelivery_burst: 1_000_000,
        ..QueueConfig::default()
    }
}

impl World {
    pub(super) fn new(config: QueueConfig) -> Self {
        let wall_base = 1_000_000_000;
        let q = QueuePartition::new(config, Monotonic::ZERO, WallMs(wall_base));
        Self {
            q,
            config,
            log: Vec::new(),
            committed: 0,
            ms: 0,
            wall_base,
            retained: BTreeMap::new(),
            lives: 1,
            waiters: 0,
        }
    }

    pub(super) fn now(&self) -> Monotonic {
        Monotonic::from_millis(self.ms)
    }

    pub(super) fn wall(&self) -> WallMs {
        WallMs(self.wall_base + self.ms)
    }

    /// The log takes the next op; it is not durable yet.
    pub(super) fn append(&mut self) -> Option<Op> {
        let op = self.q.poll_op()?;
        let at = Location {
            segment: self.lives,
            offset: u32::try_from(self.log.len()).unwrap(),
            len: 1,
        };
        if op.retain {
            self.q.op_appended(at);
            self.retained.insert(at, op.body.clone());
        }
        self.log.push(Logged {
            head: RecordHead {
                resource: ResourceId(1),
                partition: PartitionId(0),
                kind: op.kind,
                first: op.first,
                count: op.count,
                epoch: 0,
                timestamp: op.timestamp,
            },
            at,
            carried: false,
            ext: op.ext.clone(),
            body: op.body.clone(),
        });
        Some(op)
    }

    pub(super) fn commit(&mut self) {
        self.q.commit_next();
        self.committed += 1;
    }

    /// Everything asked for becomes durable.
    pub(super) fn flush(&mut self) {
        while self.append().is_some() {}
        while self.committed < self.log.len() {
            self.commit();
        }
    }

    pub(super) fn put(&mut self, values: &[&str]) -> PutDone {
        self.put_later(values, 0, 0)
    }

    pub(super) fn put_later(&mut self, values: &[&str], delay_ms: u64, ttl_ms: u64) -> PutDone {
        let records: Vec<(&str, &str)> = values.iter().map(|value| ("", *value)).collect();
        self.put_records(&records, delay_ms, ttl_ms)
    }

    pub(super) fn put_records(
        &mut self,
        records: &[(&str, &str)],
        delay_ms: u64,
        ttl_ms: u64,
    ) -> PutDone {
        let put = Put {
            count: u32::try_from(records.len()).unwrap(),
            records: encode(records),
            delay_ms,
            ttl_ms,
            producer: None,
        };
        let done = self.q.put(self.now(), self.wall(), put).unwrap();
        self.flush();
        done
    }

    /// Takes at once whatever there is, loading bodies as needed.
    pub(super) fn take_in(&mut self, group: &str, who: u64, max: u32) -> Vec<Taken> {
        let mut out = Vec::new();
        self.waiters += 1;
        let waiter = WaiterId(self.waiters);
        let take = Take {
            session: session(who),
            waiter,
            group: group.as_bytes(),
            max,
            max_bytes: u32::MAX,
            wait_ms: 0,
            lease_ms: 0,
        };
        let outcome = self
            .q
            .take(self.now(), self.wall(), &take, &mut out)
            .unwrap();
        if outcome == TakeOutcome::Waiting {
            self.flush();
            while self.load() {}
            let (now, wall) = (self.now(), self.wall());
            while let Some(delivery) = self.q.poll_delivery(now, wall, &mut out) {
                assert!(matches!(delivery, Delivery::Taken(w) if w == waiter));
            }
            self.q.cancel(waiter);
        }
        out
    }

    pub(super) fn take(&mut self, who: u64, max: u32) -> Vec<Taken> {
        self.take_in("", who, max)
    }

    /// A take that waits.
    pub(super) fn wait(&mut self, group: &str, who: u64, max: u32, wait_ms: u32) -> WaiterId {
        self.waiters += 1;
        let waiter = WaiterId(self.waiters);
        let take = Take {
            session: session(who),
            waiter,
            group: group.as_bytes(),
            max,
            max_bytes: u32::MAX,
            wait_ms,
            lease_ms: 0,
        };
        let (now, wall) = (self.now(), self.wall());
        let outcome = self.q.take(now, wall, &take, &mut Vec::new()).unwrap();
        assert_eq!(outcome, TakeOutcome::Waiting);
        self.flush();
        waiter
    }

    pub(super) fn poll(&mut self) -> Option<(Delivery, Vec<Taken>)> {
        let mut out = Vec::new();
        let delivery = self.q.poll_delivery(self.now(), self.wall(), &mut out)?;
        Some((delivery, out))
    }

    pub(super) fn ack(&mut self, tokens: &[Token]) -> Vec<TokenResult> {
        let mut results = Vec::new();
        self.q
            .ack(self.now(), self.wall(), tokens, &mut results)
            .unwrap();
        self.flush();
        results
    }

    pub(super) fn nack(
        &mut self,
        tokens: &[Token],
        delay_ms: Option<u64>,
        error: &str,
    ) -> Vec<TokenResult> {
        let mut results = Vec::new();
        let (now, wall) = (self.now(), self.wall());
        self.q
            .nack(now, wall, tokens, delay_ms, error.as_bytes(), &mut results)
            .unwrap();
        self.flush();
        results
    }

    pub(super) fn release(&mut self, tokens: &[Token]) -> Vec<TokenResult> {
        let mut results = Vec::new();
        let (now, wall) = (self.now(), self.wall());
        self.q.release(now, wall, tokens, &mut results).unwrap();
        results
    }

    pub(super) fn extend(&mut self, tokens: &[Token], ms: u32) -> Vec<TokenResult> {
        let mut results = Vec::new();
        let (now, wall) = (self.now(), self.wall());
        self.q.extend(now, wall, tokens, ms, &mut results).unwrap();
        results
    }

    /// Time passes, a little later than asked so that timers of that
    /// millisecond have fired.
    pub(super) fn pass(&mut self, ms: u64) {
        self.pass_quietly(ms);
        self.flush();
    }

    /// The same; nothing becomes durable.
    pub(super) fn pass_quietly(&mut self, ms: u64) {
        self.ms += ms + 2;
        let (now, wall) = (self.now(), self.wall());
        loop {
            self.q.handle_timeout(now, wall);
            if self.q.next_deadline().is_none_or(|next| next > now) {
                break;
            }
        }
    }

    /// One load is answered; false if none is asked for.
    pub(super) fn load(&mut self) -> bool {
        let Some((token, at)) = self.q.poll_load() else {
            return false;
        };
        let body = self
            .retained
            .get(&at)
            .expect("only retained bodies")
            .clone();
        self.q.handle_loaded(token, Ok(body));
        true
    }

    pub(super) fn releases(&mut self) -> usize {
        let mut count = 0;
        while let Some(at) = self.q.poll_release() {
            assert!(self.retained.remove(&at).is_some(), "{at:?} released twice");
            count += 1;
        }
        count
    }

    /// What is not durable is lost; the node is down for a while, and its
    /// clock may have been changed meanwhile.
    pub(super) fn crash(&mut self, down_ms: u64, clock_ms: i64, snapshot: Option<(&[u8], usize)>) {
        self.log.truncate(self.committed);
        self.lives += 1;
        self.wall_base = self
            .wall_base
            .checked_add_signed(clock_ms)
            .unwrap()
            .checked_add(self.ms + down_ms)
            .unwrap();
        self.ms = 0;
        self.config.seed += 1;
        self.q = self.replayed(snapshot);
        let (now, wall) = (self.now(), self.wall());
        self.q.ready(now, wall);
        let live: Vec<Location> = self.q.live_locations().collect();
        for at in &live {
            assert!(self.retained.contains_key(at), "{at:?} is not in the log");
        }
        self.retained.retain(|at, _| live.contains(at));
    }

    /// The committed log folded again, from a snapshot and the records after it.
    pub(super) fn replayed(&self, snapshot: Option<(&[u8], usize)>) -> QueuePartition {
        let (mut q, from) = match snapshot {
            Some((bytes, from)) => (QueuePartition::restore(self.config, bytes).unwrap(), from),
            None => (QueuePartition::unopened(self.config), 0),
        };
        for record in &self.log[from..self.committed] {
            let Logged {
                head,
                at,
                carried,
                ext,
                body,
            } = record;
            q.replay(head, *carried, *at, ext, body).unwrap();
        }
        q
    }

    pub(super) fn counts(&mut self, group: &str) -> GroupCounts {
        self.q.group_counts(group.as_bytes()).unwrap()
    }

    pub(super) fn why(&mut self, group: &str) -> Why {
        let (now, wall) = (self.now(), self.wall());
        self.q.why(now, wall, group.as_bytes()).unwrap()
    }

    pub(super) fn dead(&self, group: &str) -> Vec<DeadLetter> {
        let mut out = Vec::new();
        let all = DeadFilter::default();
        let next = self
            .q
            .dead_letters(group.as_bytes(), 0, PAGE_MAX, &all, &mut out)
            .unwrap();
        assert_eq!(next, None);
        out
    }

    pub(super) fn settle_dead(&mut self, action: DeadAction, ids: &[u64]) -> Vec<bool> {
        let mut results = Vec::new();
        let (now, wall) = (self.now(), self.wall());
        self.q
            .dead_settle(now, wall, b"", action, ids, &mut results)
            .unwrap();
        self.flush();
        results
    }
}

pub(super) fn tokens(taken: &[Taken]) -> Vec<Token> {
    taken.iter().map(|one| one.token).collect()
}

/// What must survive, of every message in every group: what the fold means.
pub(super) fn digest(q: &QueuePartition) -> Vec<String> {
    let mut out = Vec::new();
    for group in q.group_bits() {
        let row = q.t.group(group);
        out.push(format!(
            "group {group} {:?} {:?}",
            row.name, row.redrive_kept
        ));
    }
    for message in q.index.from(&q.t.messages, 0) {
        let row = &q.t.messages[message];
        let put = &q.t.records[row.record];
        let mut line = format!(
            "{} put {:?} {:?} {} {} done {:b}",
            row.id, put.location, put.timestamp, put.delay_ms, put.ttl_ms, row.done
        );
        for group in q.group_bits() {
            let Some(entry) = q.entry_of(message, group).map(|e| &q.t.entries[e]) else {
                continue;
            };
            if let Some(t) = &entry.trouble {
                line += &format!(
                    " [{group}: {} {:?} {:?} {} {:?} {}]",
                    entry.attempts, t.error, t.since, t.delay_ms, t.dead, t.replayed
                );
            }
        }
        out.push(line);
    }
    out
}
