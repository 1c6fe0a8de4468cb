//! The bounds: budget, work per call, tables.

use super::*;

#[test]
fn the_budget_is_never_exceeded_whatever_is_stored() {
    for seed in 1..=12_u64 {
        let mut rng = Rng(seed);
        let budget = [BUDGET_BYTES_MIN, 300 << 10, 2 << 20][(seed % 3) as usize];
        let mut cache = CachePartition::new(&CacheConfig::new(budget, [seed, 9]));
        let mut stored = 0;
        for step in 0..30_000_u64 {
            let now = ms(step / 10);
            let key = rng.below(5_000).to_le_bytes();
            // Phases of small, mixed and large values, so that the shape of memory changes.
            let scale = [20, 3_000, 60_000][(step / 5_000 % 3) as usize];
            let len = rng.below(1 + rng.0 % scale);
            let ttl = rng.below(3) * rng.below(500);
            let value = vec![step as u8; usize::try_from(len).unwrap()];
            match rng.below(10) {
                0 => {
                    let _ = cache.delete(now, &key, Condition::Always);
                }
                1 => {
                    let _ = cache.incr(now, &key, 1, 0, ttl);
                }
                2 => {
                    let _ = cache.get(now, &key);
                }
                3 => cache.handle_timeout(now),
                _ => {
                    let out = cache.set(now, &key, &value, ttl, Condition::Always);
                    stored += u32::from(out.is_ok());
                }
            }
            let stats = cache.stats();
            assert!(
                stats.bytes <= stats.budget,
                "seed {seed} step {step}: {stats:?}"
            );
        }
        assert!(stored > 15_000, "seed {seed}: {stored} stored");
        assert!(cache.stats().evictions > 0);
    }
}

#[test]
fn any_number_of_keys_may_be_fetched_ahead_there_or_not() {
    let mut cache = CachePartition::new(&CacheConfig::new(BUDGET_BYTES_MIN, [3, 4]));
    let names: Vec<_> = (0..2 * FETCH_AHEAD_MAX).map(usize::to_le_bytes).collect();
    let keys: Vec<_> = names.iter().map(<[u8; 8]>::as_slice).collect();
    cache.fetch_ahead(&keys);
    for (len, key) in keys.iter().enumerate().skip(1) {
        let value = vec![7; len % 5 * 64];
        cache
            .set(ms(0), key, &value, 0, Condition::Always)
            .expect("room");
    }
    cache
        .delete(ms(0), keys[1], Condition::Always)
        .expect("unconditional");
    for count in 0..keys.len() {
        cache.fetch_ahead(&keys[..count]);
    }
    cache.fetch_ahead(&[b"", b"absent"]);
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses), (0, 0), "it is no access");
}

#[test]
fn the_largest_value_fits_however_the_cache_was_used_before() {
    let mut cache = CachePartition::new(&CacheConfig::new(BUDGET_BYTES_MIN, [3, 4]));
    let Err(CacheError::ValueTooLarge { limit, .. }) =
        cache.set(ms(0), b"big", &vec![0; 1 << 20], 0, Condition::Always)
    else {
        panic!("1 MiB cannot fit")
    };
    let limit = usize::try_from(limit).unwrap();
    assert!(limit > 60 << 10, "{limit}");
    for round in 0..20_u32 {
        for i in 0..3_000_u32 {
            let key = (i * 31 + round).to_le_bytes();
            cache.set(ms(0), &key, b"v", 0, Condition::Always).unwrap();
        }
        let value = vec![7; limit];
        cache
            .set(ms(0), b"big", &value, 0, Condition::Always)
            .unwrap();
        assert_eq!(cache.get(ms(0), b"big").unwrap().value, value);
        // Also in place of a small value of its own.
        cache
            .set(ms(0), b"big", b"small", 0, Condition::Always)
            .unwrap();
        cache
            .set(ms(0), b"big", &value, 0, Condition::Always)
            .unwrap();
    }
}

#[test]
fn a_large_value_among_tiny_ones_is_let_in_by_bounded_requests() {
    let mut cache = CachePartition::new(&CacheConfig::new(16 << 20, [3, 4]));
    let mut i = 0_u32;
    while cache.stats().evictions == 0 {
        set(&mut cache, ms(0), &i.to_string(), "", 0);
        i += 1;
    }
    let value = vec![7; 1 << 20];
    let mut requests = 0;
    loop {
        let before = cache.stats().evictions;
        let out = cache.set(ms(0), b"big", &value, 0, Condition::Always);
        requests += 1;
        assert!(cache.stats().evictions - before <= u64::from(EVICTIONS_MAX));
        match out {
            Ok(_) => break,
            Err(error) => assert_eq!(error, CacheError::MakingRoom),
        }
    }
    assert!((2..=8).contains(&requests), "{requests}");
    assert_eq!(cache.get(ms(0), b"big").unwrap().value, value);
}

#[test]
fn what_is_in_demand_survives_a_flood_of_keys_seen_once() {
    let mut cache = CachePartition::new(&CacheConfig::new(1 << 20, [5, 6]));
    for i in 0..200_u32 {
        cache
            .set(ms(0), &i.to_le_bytes(), &[0; 100], 0, Condition::Always)
            .unwrap();
    }
    for _ in 0..3 {
        for i in 0..200_u32 {
            assert!(cache.get(ms(0), &i.to_le_bytes()).is_some());
        }
    }
    for i in 1_000..51_000_u32 {
        cache
            .set(ms(0), &i.to_le_bytes(), &[0; 100], 0, Condition::Always)
            .unwrap();
        if i % 100 == 0 {
            for hot in 0..200_u32 {
                let _ = cache.get(ms(0), &hot.to_le_bytes());
            }
        }
    }
    let kept = (0..200_u32)
        .filter(|i| cache.get(ms(0), &i.to_le_bytes()).is_some())
        .count();
    assert_eq!(kept, 200);
}

#[test]
fn a_storm_of_expiries_is_reclaimed_within_a_second_in_bounded_calls() {
    const KEYS: u32 = 1_000_000;
    let mut cache = CachePartition::new(&CacheConfig::new(256 << 20, [7, 8]));
    for i in 0..KEYS {
        let now = Monotonic(u64::from(i) * 10_000);
        let ttl = 60_000 - now.as_millis();
        cache
            .set(now, &i.to_le_bytes(), b"v", ttl, Condition::Always)
            .unwrap();
    }
    assert_eq!(cache.stats().entries, u64::from(KEYS));
    let mut now = ms(10_000);
    let mut last_gone = now;
    let mut calls = 0_u32;
    // A core that gives a quarter of its time: one call each millisecond at most.
    while let Some(at) = cache.next_deadline() {
        now = Monotonic(now.0 + 1_000_000).max(at);
        let before = cache.stats().entries;
        cache.handle_timeout(now);
        let gone = before - cache.stats().entries;
        assert!(gone <= u64::from(EXPIRY_BUDGET_MAX), "{gone} in one call");
        calls += 1;
        if gone > 0 {
            last_gone = now;
            assert!(now >= ms(60_000));
            assert!(cache.get(now, &0_u32.to_le_bytes()).is_none());
        }
    }
    assert!(
        last_gone.since(ms(60_000)).as_millis() <= 1_000,
        "{last_gone:?}"
    );
    let stats = cache.stats();
    assert_eq!((stats.entries, stats.expirations), (0, u64::from(KEYS)));
    assert!(calls >= KEYS / EXPIRY_BUDGET_MAX);
    assert!(stats.bytes < 16 << 20, "memory is given back: {stats:?}");
}

#[test]
fn a_page_of_a_scan_looks_at_no_more_slots_than_allowed() {
    let mut cache = cache();
    for i in 0..20_000_u32 {
        cache
            .set(ms(0), &i.to_le_bytes(), b"", 0, Condition::Always)
            .unwrap();
    }
    let mut pages = 0;
    let mut cursor = 0;
    loop {
        cursor = cache.scan(ms(0), b"no such prefix", cursor, 10, 1_000, |_, _| true);
        pages += 1;
        if cursor == 0 {
            break;
        }
    }
    assert!((20..=22).contains(&pages), "{pages}");
}

#[test]
fn full_tables_are_refused_and_give_way_again() {
    let mut config = CacheConfig::new(1 << 20, [1, 1]);
    (config.leases_max, config.waiters_max, config.watchers_max) = (2, 2, 1);
    let mut cache = CachePartition::new(&config);
    let ask = |cache: &mut CachePartition, key: &[u8], id: u64| {
        cache
            .get_or_lease(ms(0), session(1), WaiterId(id), key, 100, 1000, false)
            .map(|outcome| outcome == LeaseOutcome::Waiting)
    };
    assert_eq!(ask(&mut cache, b"a", 1), Ok(false));
    assert_eq!(ask(&mut cache, b"b", 2), Ok(false));
    assert_eq!(
        ask(&mut cache, b"c", 3),
        Err(CacheError::TooManyLeases { limit: 2 })
    );
    assert_eq!(ask(&mut cache, b"a", 4), Ok(true));
    assert_eq!(ask(&mut cache, b"a", 5), Ok(true));
    assert_eq!(
        ask(&mut cache, b"a", 6),
        Err(CacheError::TooManyWaiters { limit: 2 })
    );
    tick(&mut cache, ms(102));
    assert_eq!(
        ask(&mut cache, b"a", 6),
        Err(CacheError::TooManyWaiters { limit: 2 }),
        "until the answers are collected"
    );
    while cache.poll_wakeup(ms(102)).is_some() {}
    assert_eq!(ask(&mut cache, b"a", 6), Ok(true));
    cache.watch(WatchId(1), &open_watch(b"a", false)).unwrap();
    assert_eq!(
        cache.watch(WatchId(2), &open_watch(b"a", false)),
        Err(CacheError::TooManyWatches { limit: 1 })
    );
}

#[test]
fn events_that_wait_are_bounded_for_each_watch_and_for_all() {
    let mut config = CacheConfig::new(8 << 20, [1, 1]);
    config.watch_buffer_bytes = 10_000;
    config.watch_total_bytes = 15_000;
    let mut cache = CachePartition::new(&config);
    for id in 1..=3 {
        let options = WatchOptions {
            credit_records: 0,
            ..open_watch(b"", true)
        };
        cache.watch(WatchId(id), &options).unwrap();
    }
    for i in 0..1_000_u32 {
        let len = if i == 500 { 20_000 } else { 100 };
        cache
            .set(ms(0), &i.to_le_bytes(), &vec![0; len], 0, Condition::Always)
            .unwrap();
        assert!(cache.stats().watch_bytes <= 15_000);
    }
    // Whatever was dropped was announced: events and lag add up for each watch.
    for id in 1..=3 {
        cache.watch_credit(WatchId(id), 10_000, 0);
    }
    let mut told = [0_u64; 4];
    while let Some((WatchId(id), event)) = cache.poll_event() {
        told[usize::try_from(id).unwrap()] += match event {
            WatchEvent::Change { .. } => 1,
            WatchEvent::Lag(lag) => lag.count,
        };
    }
    assert_eq!(told[1..], [1_000; 3]);
}
