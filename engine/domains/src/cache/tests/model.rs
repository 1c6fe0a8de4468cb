//! Random histories against a map that obeys the same rules.

use std::collections::{BTreeMap, HashMap};

use super::*;

const HISTORIES: u64 = 2_500;
const STEPS: u64 = 120;

#[derive(Clone, Debug, PartialEq)]
struct Kept {
    version: u64,
    deadline: Option<u64>,
    value: Vec<u8>,
}

#[derive(Default)]
struct Model {
    entries: BTreeMap<Vec<u8>, Kept>,
    /// Key → token of the caller that fills it, until when.
    leases: HashMap<Vec<u8>, (u64, u64)>,
    last_version: u64,
}

impl Model {
    fn current(&self, now: u64, key: &[u8]) -> Option<&Kept> {
        self.entries
            .get(key)
            .filter(|kept| kept.deadline.is_none_or(|at| now < at))
    }

    fn put(&mut self, now: u64, key: &[u8], version: Version, ttl: u64, value: Vec<u8>) {
        assert!(version.0 > self.last_version, "versions rise");
        self.last_version = version.0;
        let deadline = (ttl > 0).then(|| now + ttl);
        let kept = Kept {
            version: version.0,
            deadline,
            value,
        };
        self.entries.insert(key.to_vec(), kept);
        self.leases.remove(key);
    }
}

/// What a watcher believes: it applies events, and forgets what a lag may concern.
#[derive(Default)]
struct View {
    entries: BTreeMap<Vec<u8>, (u64, Vec<u8>)>,
    last: u64,
    lags: u64,
}

impl View {
    fn apply(&mut self, event: &WatchEvent) {
        match event {
            WatchEvent::Lag(lag) => {
                assert!(lag.from.0 > self.last && lag.to > lag.from && lag.count > 0);
                assert!(lag.count <= lag.to.0 - lag.from.0);
                self.last = lag.to.0 - 1;
                self.lags += 1;
            }
            WatchEvent::Change { encoded, .. } => {
                let (kind, version, key, value) = decode(encoded);
                assert!(version > self.last, "order of versions");
                self.last = version;
                if kind == EventKind::Set as u8 {
                    self.entries.insert(key, (version, value.unwrap()));
                } else {
                    self.entries.remove(&key);
                }
            }
        }
    }
}

#[test]
fn random_histories_agree_with_the_model() {
    let mut lagged = 0;
    for seed in 1..=HISTORIES {
        lagged += u64::from(history(seed) > 0);
    }
    assert!(lagged > HISTORIES / 20, "{lagged} histories saw a lag");
    assert!(lagged < HISTORIES, "some saw none");
}

/// Gives the number of lag notices.
fn history(seed: u64) -> u64 {
    let mut rng = Rng(seed);
    let mut config = CacheConfig::new(1 << 20, [seed, !seed]);
    config.watch_buffer_records = [3, 1000][(seed % 2) as usize];
    config.first_version = Version(seed * 1000);
    let mut cache = CachePartition::new(&config);
    let mut model = Model::default();
    let mut view = View::default();
    let prefix: &[u8] = [&b""[..], b"a"][(seed / 2 % 2) as usize];
    cache.watch(WatchId(1), &open_watch(prefix, true)).unwrap();
    let mut now = 0;
    let mut waiters = 0;
    let mut asked: HashMap<WaiterId, Vec<u8>> = HashMap::new();
    for step in 0..STEPS {
        now += rng.below(4) * rng.below(20);
        let at = ms(now);
        let key = [b"ab"[rng.below(2) as usize], b'0' + rng.below(5) as u8];
        let context = || format!("seed {seed} step {step}");
        let current = model.current(now, &key).cloned();
        match rng.below(12) {
            0..=2 => {
                let value = vec![step as u8; rng.below(40) as usize];
                let ttl = rng.below(2) * rng.below(100);
                let held = model
                    .leases
                    .get(&key[..])
                    .filter(|l| now < l.1)
                    .map(|l| l.0);
                let (condition, admitted) = match rng.below(5) {
                    0 => (Condition::Absent, current.is_none()),
                    1 => {
                        let version = current.as_ref().map_or(7, |c| c.version + rng.below(2));
                        let fits = current.as_ref().is_some_and(|c| c.version == version);
                        (Condition::Version(Version(version)), fits)
                    }
                    2 => {
                        let token = held.unwrap_or(step);
                        (Condition::Lease(token), held.is_some())
                    }
                    _ => (Condition::Always, true),
                };
                let out = cache.set(at, &key, &value, ttl, condition);
                assert_eq!(out.is_ok(), admitted, "{} {condition:?} {out:?}", context());
                if let Ok(version) = out {
                    model.put(now, &key, version, ttl, value);
                }
            }
            3 => {
                let out = cache.delete(at, &key, Condition::Always).unwrap();
                assert_eq!(out.existed, current.is_some(), "{}", context());
                model.last_version = model.last_version.max(out.version.0);
                model.entries.remove(&key[..]);
                model.leases.remove(&key[..]);
            }
            4 => {
                let ttl = rng.below(100);
                let out = cache.touch(at, &key, ttl).ok();
                assert_eq!(out.map(Version::get), current.as_ref().map(|c| c.version));
                if current.is_some() {
                    let kept = model.entries.get_mut(&key[..]).unwrap();
                    kept.deadline = (ttl > 0).then(|| now + ttl);
                }
            }
            5 => {
                let out = cache.incr(at, &key, 3, 10, 50);
                match (&current, out) {
                    (None, Ok((13, version))) => {
                        model.put(now, &key, version, 50, 13_i64.to_le_bytes().to_vec());
                    }
                    (Some(kept), Ok((sum, version))) => {
                        let before = i64::from_le_bytes(kept.value[..].try_into().unwrap());
                        assert_eq!(sum, before + 3, "{}", context());
                        let deadline = kept.deadline;
                        model.put(now, &key, version, 0, sum.to_le_bytes().to_vec());
                        model.entries.get_mut(&key[..]).unwrap().deadline = deadline;
                    }
                    (Some(kept), Err(error)) => {
                        assert_eq!(error, CacheError::NotACounter);
                        assert_ne!(kept.value.len(), 8);
                    }
                    (None, other) => panic!("{} {other:?}", context()),
                }
            }
            6 | 7 => {
                waiters += 1;
                asked.insert(WaiterId(waiters), key.to_vec());
                let stale_ok = rng.below(2) == 0;
                let owner = session(rng.below(3));
                let out = cache
                    .get_or_lease(at, owner, WaiterId(waiters), &key, 30, 60, stale_ok)
                    .unwrap();
                match (out, &current) {
                    (LeaseOutcome::Value(entry), Some(kept)) => {
                        assert_eq!(entry.version.0, kept.version, "{}", context());
                        assert_eq!(entry.value, kept.value);
                    }
                    (LeaseOutcome::Lease { token, .. }, None) => {
                        let former = model.leases.insert(key.to_vec(), (token, now + 60));
                        assert!(former.is_none_or(|l| l.1 <= now), "two fill: {}", context());
                    }
                    (LeaseOutcome::Waiting, None) => {}
                    (LeaseOutcome::Stale(_), None) => assert!(stale_ok),
                    (out, _) => panic!("{} {out:?}", context()),
                }
            }
            8 => {
                cache.handle_timeout(at);
                tick(&mut cache, at);
            }
            9 => {
                let mut seen = BTreeMap::new();
                let mut cursor = 0;
                loop {
                    cursor = cache.scan(at, prefix, cursor, 2, 7, |key, entry| {
                        let former = seen.insert(key.to_vec(), entry.version.0);
                        assert_eq!(former, None, "twice in one scan");
                        true
                    });
                    if cursor == 0 {
                        break;
                    }
                }
                let expected: BTreeMap<Vec<u8>, u64> = model
                    .entries
                    .iter()
                    .filter(|(key, _)| key.starts_with(prefix) && model.current(now, key).is_some())
                    .map(|(key, kept)| (key.clone(), kept.version))
                    .collect();
                assert_eq!(seen, expected, "{}", context());
            }
            _ => {
                let got = cache.get(at, &key);
                assert_eq!(
                    got.map(|e| (e.version.0, e.value.to_vec())),
                    current.as_ref().map(|c| (c.version, c.value.clone())),
                    "{}",
                    context()
                );
                if let (Some(entry), Some(kept)) = (got, &current) {
                    assert_eq!(entry.ttl_ms, kept.deadline.map_or(0, |at| at - now));
                }
            }
        }
        while let Some((waiter, wakeup)) = cache.poll_wakeup(at) {
            let key = &asked[&waiter];
            match wakeup {
                Wakeup::Value(entry) => {
                    let kept = model.current(now, key).expect("a set woke the waiter");
                    assert_eq!(
                        (entry.version.0, entry.value),
                        (kept.version, &kept.value[..])
                    );
                }
                Wakeup::Lease { token, lease_ms } => {
                    let until = now + u64::from(lease_ms);
                    let former = model.leases.insert(key.clone(), (token, until));
                    assert!(former.is_none_or(|l| l.1 <= now), "two fill: {}", context());
                }
                Wakeup::TimedOut => {}
                Wakeup::Miss => panic!("answers are collected at once: {}", context()),
            }
        }
        if rng.below(3) == 0 {
            while let Some((_, event)) = cache.poll_event() {
                view.apply(&event);
            }
        }
        let stats = cache.stats();
        assert!(stats.bytes <= stats.budget);
    }
    finish(&mut cache, &model, &mut view, now, prefix, seed);
    view.lags
}

/// At rest the watcher's view is the cache, unless a lag was announced.
fn finish(
    cache: &mut CachePartition,
    model: &Model,
    view: &mut View,
    now: u64,
    prefix: &[u8],
    seed: u64,
) {
    tick(cache, ms(now + 2));
    while let Some((_, event)) = cache.poll_event() {
        view.apply(&event);
    }
    if view.lags == 0 {
        let expected: BTreeMap<Vec<u8>, (u64, Vec<u8>)> = model
            .entries
            .iter()
            .filter(|(key, kept)| {
                let alive = kept.deadline.is_none_or(|at| now + 2 <= at);
                key.starts_with(prefix) && alive
            })
            .map(|(key, kept)| (key.clone(), (kept.version, kept.value.clone())))
            .collect();
        let seen: BTreeMap<_, _> = view.entries.clone();
        for (key, kept) in &expected {
            assert_eq!(seen.get(key), Some(kept), "seed {seed}");
        }
        for key in seen.keys() {
            assert!(expected.contains_key(key) || cache.get(ms(now + 2), key).is_some());
        }
    }
    for owner in 0..3 {
        cache.abort_owner(ms(now), session(owner));
    }
    while cache.poll_wakeup(ms(now)).is_some() {}
    let stats = cache.stats();
    assert_eq!((stats.leases, stats.waiting), (0, 0), "seed {seed}");
}
