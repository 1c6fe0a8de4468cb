//! Random histories against a plain model.
//!
//! The model folds the bytes of the ops into maps, with none of the engine's
//! structures, and remembers what it was handed. It checks that every op had a
//! cause, that every delivery was due and nobody else's, that every token was
//! judged rightly, that a crash loses what was not durable and nothing else,
//! and in the end that every message was acknowledged, purged or is a dead
//! letter, and every record of the log released once.

mod ending;
mod fold;
mod judging;

use std::collections::{BTreeMap, BTreeSet};

use pinion_types::{ProducerId, Sequence};

use super::*;
use fold::{Fold, Place};

/// Histories; the issue asks for at least 2,000.
const HISTORIES: u64 = 2500;
const STEPS: u32 = 70;

struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        let at = self.below(of.len() as u64);
        of[usize::try_from(at).unwrap()]
    }
}

/// What a consumer was handed.
#[derive(Clone, Debug)]
struct Held {
    token: Token,
    group: u8,
    id: u64,
    who: u64,
    /// Milliseconds of this life.
    until: u64,
    ended: Option<u8>,
}

struct Run {
    w: World,
    rng: Rng,
    fold: Fold,
    /// Ops appended and not committed, by (group, id).
    pending: BTreeSet<(u8, u64)>,
    held: Vec<Held>,
    waiting: BTreeSet<WaiterId>,
    pushes: BTreeMap<PushId, (u64, u64)>,
    waits: BTreeMap<WaiterId, (u64, String)>,
    sequence: u64,
    snapshot: Option<(Vec<u8>, usize)>,
    puts: u64,
    /// Last fresh message delivered, by group, in this life.
    fresh: BTreeMap<u8, u64>,
    /// Messages put with a delay do not keep the order of their ids.
    ordered: bool,
    acked: BTreeSet<(String, u64)>,
    lease_ms: u32,
}

const GROUPS: [&str; 2] = ["", "b"];

impl Run {
    fn new(seed: u64) -> Self {
        let mut rng = Rng(seed);
        let config = QueueConfig {
            max_attempts: u16::try_from(1 + rng.below(3)).unwrap(),
            lease_ms: 500,
            backoff_min_ms: 20,
            backoff_max_ms: 200,
            ordered_by_key: rng.below(2) == 0,
            dead_letter_expired: rng.below(2) == 0,
            redelivery_per_sec: rng.pick(&[100, 1_000_000]),
            redelivery_burst: 5,
            max_in_flight: rng.pick(&[4, 1000]),
            consumer_in_flight: rng.pick(&[2, 1000]),
            resident_bytes_max: rng.pick(&[30, 200, 1 << 20]),
            read_ahead_bytes: 60,
            seed,
            ..QueueConfig::default()
        };
        Self {
            w: World::new(config),
            rng,
            fold: Fold::default(),
            pending: BTreeSet::new(),
            held: Vec::new(),
            waiting: BTreeSet::new(),
            pushes: BTreeMap::new(),
            waits: BTreeMap::new(),
            sequence: 0,
            snapshot: None,
            puts: 0,
            fresh: BTreeMap::new(),
            ordered: true,
            acked: BTreeSet::new(),
            lease_ms: 500,
        }
    }

    fn group(&self, name: &str) -> Option<u8> {
        let mut groups = self.fold.groups.iter();
        groups.find(|(_, n)| *n == name).map(|(g, _)| *g)
    }

    fn step(&mut self) {
        match self.rng.below(100) {
            0..=17 => self.put(),
            18..=33 => self.take(),
            34..=36 => self.subscribe(),
            37..=38 => self.more_credit(),
            39..=50 => self.settle(),
            51..=53 => self.end_session(),
            54..=64 => self.pass(),
            65..=75 => self.append(),
            76..=86 => self.commit(),
            87..=90 => self.dead(),
            91..=92 => self.groups(),
            93..=94 => self.relocate(),
            95 => self.take_snapshot(),
            96..=97 => self.crash(),
            _ => self.load(),
        }
        if self.rng.below(3) > 0 {
            self.deliver();
        }
        self.check();
    }

    fn put(&mut self) {
        let count = 1 + self.rng.below(3);
        let mut records = Vec::new();
        for _ in 0..count {
            self.puts += 1;
            let key = self.rng.pick(&["", "k", "l"]);
            records.push((key, format!("value {}", self.puts)));
        }
        let borrowed: Vec<(&str, &str)> = records.iter().map(|(k, v)| (*k, &**v)).collect();
        let delay_ms = self.rng.pick(&[0, 0, 0, 0, 50, 700]);
        self.ordered &= delay_ms == 0;
        let idempotent = self.rng.below(4) == 0;
        let put = Put {
            count: u32::try_from(count).unwrap(),
            records: encode(&borrowed),
            delay_ms,
            ttl_ms: self.rng.pick(&[0, 0, 0, 300, 1500]),
            producer: idempotent.then_some((ProducerId(1), Sequence(self.sequence))),
        };
        let (now, wall) = (self.w.now(), self.w.wall());
        let done = self.w.q.put(now, wall, put.clone()).unwrap();
        assert!(!done.duplicate);
        if idempotent {
            self.sequence += count;
            let again = self.w.q.put(now, wall, put).unwrap();
            assert_eq!((again.first, again.duplicate), (done.first, true));
        }
    }

    fn take(&mut self) {
        let who = 1 + self.rng.below(4);
        let name = self.rng.pick(&GROUPS);
        self.w.waiters += 1;
        let waiter = WaiterId(self.w.waiters);
        let take = Take {
            session: session(who),
            waiter,
            group: name.as_bytes(),
            max: u32::try_from(1 + self.rng.below(4)).unwrap(),
            max_bytes: self.rng.pick(&[1, 1000]),
            wait_ms: self.rng.pick(&[0, 0, 100]),
            lease_ms: 0,
        };
        let mut out = Vec::new();
        let (now, wall) = (self.w.now(), self.w.wall());
        match self.w.q.take(now, wall, &take, &mut out) {
            Ok(TakeOutcome::Taken) => {
                assert!(out.len() <= take.max as usize && !out.is_empty());
                let group = self.group(name).expect("only durable groups deliver");
                self.delivered(group, who, &out);
            }
            Ok(TakeOutcome::Waiting) => {
                self.waits.insert(waiter, (who, name.into()));
            }
            Ok(TakeOutcome::Empty) => assert!(out.is_empty()),
            Err(QueueError::UnknownGroup) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn subscribe(&mut self) {
        let push = PushId(self.rng.below(3));
        if self.pushes.contains_key(&push) {
            assert!(self.w.q.unsubscribe(push));
            self.pushes.remove(&push);
            return;
        }
        let who = 1 + self.rng.below(4);
        let credit = 1 + self.rng.below(4);
        let wanted = Subscribe {
            session: session(who),
            push,
            group: b"",
            lease_ms: self.lease_ms,
            in_flight_max: self.rng.pick(&[0, 0, 1, 3]),
            credit_records: u32::try_from(credit).unwrap(),
            credit_bytes: 1 << 20,
            window_bytes: 1 << 20,
        };
        let (now, wall) = (self.w.now(), self.w.wall());
        match self.w.q.subscribe(now, wall, &wanted) {
            Ok(()) => {
                self.pushes.insert(push, (who, credit));
            }
            Err(QueueError::UnknownGroup) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn more_credit(&mut self) {
        let push = PushId(self.rng.below(3));
        let known = self.w.q.credit(push, 2, 0);
        assert_eq!(known, self.pushes.contains_key(&push));
        if let Some((_, credit)) = self.pushes.get_mut(&push) {
            *credit += 2;
        }
    }

    fn deliver(&mut self) {
        loop {
            let mut out = Vec::new();
            let (now, wall) = (self.w.now(), self.w.wall());
            let Some(delivery) = self.w.q.poll_delivery(now, wall, &mut out) else {
                assert!(!self.w.q.has_work());
                return;
            };
            match delivery {
                Delivery::Taken(waiter) => {
                    let (who, name) = self.waits.remove(&waiter).expect("it waits");
                    let group = self.group(&name).unwrap();
                    assert!(!out.is_empty());
                    self.delivered(group, who, &out);
                }
                Delivery::Nothing(waiter, gone) => {
                    self.waits.remove(&waiter).expect("it waits");
                    assert_ne!(gone, Gone::Fenced);
                    assert!(out.is_empty());
                }
                Delivery::Pushed(push) => {
                    let (who, credit) = self.pushes.get_mut(&push).expect("it is subscribed");
                    let who = *who;
                    let len = out.len() as u64;
                    assert!(len > 0 && len <= *credit, "more than the credit");
                    *credit -= len;
                    let group = self.group("").unwrap();
                    self.delivered(group, who, &out);
                }
                Delivery::End(push, _) => {
                    self.pushes.remove(&push).expect("it is subscribed");
                }
            }
        }
    }

    fn settle(&mut self) {
        let mut tokens = Vec::new();
        for _ in 0..1 + self.rng.below(3) {
            if !self.held.is_empty() {
                let at = self.rng.below(self.held.len() as u64);
                tokens.push(self.held[usize::try_from(at).unwrap()].token);
            }
        }
        let kind = self.rng.pick(&[0_u8, 0, 1, 2, 3]);
        let (now, wall) = (self.w.now(), self.w.wall());
        let mut results = Vec::new();
        let q = &mut self.w.q;
        match kind {
            0 => {
                q.ack(now, wall, &tokens, &mut results).unwrap();
            }
            1 => {
                let delay = self.rng.pick(&[None, Some(0), Some(100)]);
                q.nack(now, wall, &tokens, delay, b"no", &mut results)
                    .unwrap();
            }
            2 => q.release(now, wall, &tokens, &mut results).unwrap(),
            _ => q.extend(now, wall, &tokens, 500, &mut results).unwrap(),
        }
        let ms = self.w.ms;
        for (token, result) in tokens.iter().zip(results) {
            let held = self.held.iter_mut().find(|h| h.token == *token).unwrap();
            match held.ended {
                None => {
                    assert_eq!(result, TokenResult::Done, "{held:?} at {ms}");
                    if kind == 3 {
                        held.until = ms + 500;
                    } else {
                        held.ended = Some(kind);
                    }
                    if kind < 2 {
                        self.pending.insert((held.group, held.id));
                    }
                }
                Some(before) if before == kind => {
                    // Of nacks and releases only while nobody had it since.
                    let done = result == TokenResult::Done;
                    assert!(done || kind != 0 && result == TokenResult::Expired);
                }
                Some(_) => assert_ne!(result, TokenResult::Done, "{held:?} kind {kind}"),
            }
        }
    }

    fn end_session(&mut self) {
        let who = 1 + self.rng.below(4);
        let (now, wall) = (self.w.now(), self.w.wall());
        self.w.q.session_ended(now, wall, session(who));
        self.waits.retain(|_, (whose, _)| *whose != who);
        self.pushes.retain(|_, (whose, _)| *whose != who);
        for held in &mut self.held {
            if held.who == who && held.ended.is_none() {
                held.ended = Some(9);
            }
        }
    }

    fn pass(&mut self) {
        let ms = self.rng.pick(&[1, 10, 60, 300, 700]);
        self.w.pass_quietly(ms);
        // A reservation ends within a tick of its time.
        let now = self.w.ms;
        let mut lapsed = Vec::new();
        for held in &mut self.held {
            if held.ended.is_none() && held.until + 2 <= now {
                held.ended = Some(8);
                lapsed.push((held.group, held.id));
            } else if held.ended.is_none() && held.until <= now {
                // Within the tick: ask the engine, which may say either.
                let (at, wall) = (self.w.now(), self.w.wall());
                let mut result = Vec::new();
                self.w
                    .q
                    .extend(at, wall, &[held.token], 500, &mut result)
                    .unwrap();
                if result[0] == TokenResult::Done {
                    held.until = now + 500;
                } else {
                    held.ended = Some(8);
                    lapsed.push((held.group, held.id));
                }
            }
        }
        self.pending.extend(lapsed);
    }

    fn append(&mut self) {
        let from = self.w.log.len();
        for _ in 0..=self.rng.below(4) {
            self.w.append();
        }
        for at in from..self.w.log.len() {
            self.justify(at);
        }
    }

    fn commit(&mut self) {
        let open = self.w.log.len() - self.w.committed;
        let count = self.rng.below(open as u64 + 1);
        for _ in 0..count {
            self.commit_one();
        }
    }

    fn commit_one(&mut self) {
        let record = self.w.log[self.w.committed].clone();
        self.w.commit();
        self.fold.apply(&record);
        if record.head.kind == ops::GROUP_DELETE {
            let group = record.ext[0];
            self.pending.retain(|(g, _)| *g != group);
            self.fresh.remove(&group);
            for held in &mut self.held {
                if held.group == group {
                    held.ended.get_or_insert(9);
                }
            }
            self.held.retain(|h| h.group != group);
        } else if let Some((head, items)) = ops::decode(record.head.kind, &record.ext)
            && record.head.kind >= ops::ACK
            && record.head.kind <= ops::PURGE
        {
            for item in items {
                self.pending.remove(&(head.group, item.id));
                if record.head.kind == ops::ACK {
                    let name = self.fold.groups[&head.group].clone();
                    self.acked.insert((name, item.id));
                }
            }
        }
    }

    fn settle_all(&mut self) {
        loop {
            let from = self.w.log.len();
            while self.w.append().is_some() {}
            for at in from..self.w.log.len() {
                self.justify(at);
            }
            if self.w.committed == self.w.log.len() {
                return;
            }
            while self.w.committed < self.w.log.len() {
                self.commit_one();
            }
        }
    }

    fn dead(&mut self) {
        let Some(group) = self.group("") else {
            return;
        };
        let mut letters = Vec::new();
        let all = DeadFilter::default();
        if self
            .w
            .q
            .dead_letters(b"", 0, 100, &all, &mut letters)
            .is_err()
        {
            return;
        }
        for letter in &letters {
            let place = self.fold.place(group, letter.id);
            assert!(place.dead && place.attempts == letter.attempts);
            assert_eq!(
                letter.last_error.as_deref().unwrap_or_default(),
                place.error
            );
        }
        let action = self.rng.pick(&[DeadAction::Replay, DeadAction::Purge]);
        let (now, wall) = (self.w.now(), self.w.wall());
        if self.rng.below(3) == 0 {
            let rate = self.rng.pick(&[0, 10]);
            self.w.q.redrive(now, wall, b"", all, action, rate).unwrap();
            return;
        }
        let ids: Vec<u64> = letters.iter().map(|l| l.id).take(2).chain([9999]).collect();
        let mut results = Vec::new();
        self.w
            .q
            .dead_settle(now, wall, b"", action, &ids, &mut results)
            .unwrap();
        assert_eq!(results.iter().filter(|found| !**found).count(), 1);
    }

    fn groups(&mut self) {
        let wall = self.w.wall();
        if self.rng.below(4) == 0 {
            let deleted = self.w.q.delete_group(wall, b"b");
            if let (Ok(_), Some(group)) = (deleted, self.group("b")) {
                // Its reservations are over, what it had asked for holds.
                for held in self.held.iter_mut().filter(|h| h.group == group) {
                    held.ended.get_or_insert(9);
                }
            }
            return;
        }
        let name = self.rng.pick(&GROUPS).as_bytes();
        let _ = match self.rng.below(2) {
            0 => self.w.q.create_group(wall, name),
            _ => self.w.q.create_group_latest(wall, name),
        };
    }

    fn load(&mut self) {
        let Some((token, at)) = self.w.q.poll_load() else {
            return;
        };
        if self.rng.below(4) == 0 {
            self.w.q.handle_loaded(token, Err(LoadError::Retry));
            return;
        }
        let body = self.w.retained[&at].clone();
        self.w.q.handle_loaded(token, Ok(body));
        assert!(!self.w.q.is_fenced());
    }

    fn relocate(&mut self) {
        // The log moves a record that it has committed.
        let committed: Vec<usize> = (0..self.w.committed)
            .filter(|at| {
                let record = &self.w.log[*at];
                record.head.kind == ops::PUT && self.w.retained.contains_key(&record.at)
            })
            .collect();
        if committed.is_empty() {
            return;
        }
        let at = self.rng.pick(&committed);
        let mut moved = self.w.log[at].clone();
        let from = moved.at;
        moved.at.segment += 1000;
        moved.carried = true;
        let body = self.w.retained.remove(&from).unwrap();
        self.w.retained.insert(moved.at, body);
        self.w.q.relocated(from, moved.at);
        // Where its record was, the log now has the moved one: a later replay
        // finds the original and then, here, the copy.
        let place = self.w.committed;
        self.w.log.insert(place, moved);
        self.w.committed += 1;
    }

    fn take_snapshot(&mut self) {
        let mut bytes = Vec::new();
        self.w.q.snapshot(&mut bytes);
        self.snapshot = Some((bytes, self.w.committed));
    }

    fn crash(&mut self) {
        let clock = self.rng.pick(&[0, 0, -3_600_000, 3_600_000]);
        let down = self.rng.pick(&[0, 100]);
        let snapshot = if self.rng.below(2) == 0 {
            self.snapshot.clone()
        } else {
            None
        };
        let before = self.fold.clone();
        // Released places that were told are gone; those not told may be.
        self.w.releases();
        let whole = digest(&self.w.replayed(None));
        let parts = snapshot.as_ref().map(|(bytes, from)| (&bytes[..], *from));
        if parts.is_some() {
            assert_eq!(digest(&self.w.replayed(parts)), whole, "snapshot");
        }
        self.w.crash(down, clock, parts);
        assert_eq!(digest(&self.w.q), whole);
        let ids: Vec<u64> = before.messages.keys().copied().collect();
        let live = self.w.q.index.from(&self.w.q.t.messages, 0);
        let live: Vec<u64> = live.map(|m| self.w.q.t.messages[m].id).collect();
        assert_eq!(live, ids, "what was durable is there, and nothing else");
        self.pending.clear();
        self.held.clear();
        self.waits.clear();
        self.pushes.clear();
        self.waiting.clear();
        self.fresh.clear();
        let known = self.w.q.producers.check(1, u64::MAX, 1).unwrap_err();
        let QueueError::SequenceGap { expected, .. } = known else {
            panic!("{known}");
        };
        self.sequence = expected;
    }
}

#[test]
fn random_histories_lose_nothing_and_give_nothing_twice_without_cause() {
    let first = std::env::var("PINION_SEED")
        .ok()
        .map(|s| s.parse().unwrap());
    let seeds = first.map_or(0..HISTORIES, |seed: u64| seed..seed + 1);
    let (mut acked, mut crashes) = (0, 0);
    for seed in seeds {
        let run = std::panic::catch_unwind(|| {
            let mut run = Run::new(seed);
            for _ in 0..STEPS {
                run.step();
            }
            run.drain();
            (run.acked.len(), run.w.lives - 1)
        });
        let Ok((acks, lives)) = run else {
            panic!("history {seed}: repeat with PINION_SEED={seed}");
        };
        acked += acks;
        crashes += lives;
    }
    println!("{HISTORIES} histories, {crashes} crashes, {acked} acks");
}
