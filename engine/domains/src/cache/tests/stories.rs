//! What a caller lives through, one story each.

use super::*;

#[test]
fn a_value_is_there_until_its_time_is_over_whether_reclaimed_or_not() {
    let mut cache = cache();
    let version = set(&mut cache, ms(0), "k", "v", 100);
    let entry = cache.get(ms(40), b"k").unwrap();
    assert_eq!(
        (entry.version, entry.ttl_ms, entry.value),
        (version, 60, &b"v"[..])
    );
    assert!(cache.get(Monotonic(ms(100).0 - 1), b"k").is_some());
    assert!(
        cache.get(ms(100), b"k").is_none(),
        "expired, not yet reclaimed"
    );
    assert_eq!(cache.stats().entries, 1);
    tick(&mut cache, ms(102));
    let stats = cache.stats();
    assert_eq!((stats.entries, stats.expirations), (0, 1));
    assert_eq!((stats.hits, stats.misses), (2, 1));
}

#[test]
fn a_set_replaces_the_time_to_live_and_touch_renews_it() {
    let mut cache = cache();
    set(&mut cache, ms(0), "k", "v", 100);
    let second = set(&mut cache, ms(50), "k", "w", 0);
    tick(&mut cache, ms(1000));
    assert_eq!(cache.get(ms(1000), b"k").unwrap().ttl_ms, 0);
    assert_eq!(cache.touch(ms(1000), b"k", 10), Ok(second));
    assert_eq!(cache.get(ms(1001), b"k").unwrap().ttl_ms, 9);
    assert!(cache.get(ms(1010), b"k").is_none());
    assert_eq!(cache.touch(ms(1010), b"k", 10), Err(CacheError::KeyAbsent));
}

#[test]
fn a_time_to_live_beyond_time_is_none() {
    let mut cache = cache();
    set(&mut cache, ms(5), "k", "v", u64::MAX);
    assert_eq!(cache.get(ms(6), b"k").unwrap().ttl_ms, 0);
    assert_eq!(cache.next_deadline(), None);
}

#[test]
fn conditions_guard_a_set() {
    let mut cache = cache();
    let now = ms(0);
    let first = cache.set(now, b"k", b"1", 10, Condition::Absent).unwrap();
    assert_eq!(
        cache.set(now, b"k", b"2", 0, Condition::Absent),
        Err(CacheError::KeyExists { version: first })
    );
    let wrong = Condition::Version(Version(first.0 + 1));
    assert_eq!(
        cache.set(now, b"k", b"2", 0, wrong),
        Err(CacheError::VersionConflict { actual: first })
    );
    assert_eq!(value(&mut cache, now, b"k").unwrap(), b"1");
    let second = cache
        .set(now, b"k", b"2", 10, Condition::Version(first))
        .unwrap();
    assert!(second > first);
    // Expired is absent, for both conditions.
    assert_eq!(
        cache.set(ms(10), b"k", b"3", 0, Condition::Version(second)),
        Err(CacheError::VersionConflict { actual: Version(0) })
    );
    assert!(cache.set(ms(10), b"k", b"3", 0, Condition::Absent).is_ok());
}

#[test]
fn changes_are_counted_from_none_wherever_versions_begin() {
    let mut config = CacheConfig::new(8 << 20, [1, 2]);
    config.first_version = Version(1 << 60);
    let mut cache = CachePartition::new(&config);
    assert_eq!(cache.stats().changes, 0);
    assert_eq!(set(&mut cache, ms(0), "k", "v", 0), Version(1 << 60));
    cache.delete(ms(0), b"k", Condition::Always).unwrap();
    assert_eq!(cache.stats().changes, 2);
}

#[test]
fn versions_rise_across_delete_and_set() {
    let mut cache = cache();
    let first = set(&mut cache, ms(0), "k", "v", 0);
    assert_eq!(
        cache.delete(ms(0), b"k", Condition::Version(Version(99))),
        Err(CacheError::VersionConflict { actual: first })
    );
    let deleted = cache.delete(ms(0), b"k", Condition::Always).unwrap();
    assert!(deleted.existed && deleted.version > first);
    assert!(
        !cache
            .delete(ms(0), b"k", Condition::Always)
            .unwrap()
            .existed
    );
    assert!(set(&mut cache, ms(0), "k", "v", 0) > deleted.version);
    assert_eq!(
        cache.delete(ms(0), b"k", Condition::Absent),
        Err(CacheError::BadCondition)
    );
}

#[test]
fn a_counter_counts_and_refuses_what_is_no_counter() {
    let mut cache = cache();
    let now = ms(0);
    assert_eq!(cache.incr(now, b"n", 5, 10, 50).unwrap().0, 15);
    assert_eq!(cache.incr(ms(20), b"n", -20, 0, 999).unwrap().0, -5);
    let entry = cache.get(ms(20), b"n").unwrap();
    assert_eq!(
        (entry.ttl_ms, entry.value),
        (30, &(-5_i64).to_le_bytes()[..])
    );
    assert_eq!(
        cache.incr(ms(20), b"n", i64::MIN, 0, 0),
        Err(CacheError::CounterOverflow)
    );
    assert_eq!(
        cache.incr(now, b"new", 1, i64::MAX, 0),
        Err(CacheError::CounterOverflow)
    );
    assert!(cache.get(now, b"new").is_none());
    set(&mut cache, now, "text", "seven b", 0);
    assert_eq!(
        cache.incr(now, b"text", 1, 0, 0),
        Err(CacheError::NotACounter)
    );
    assert_eq!(
        cache.incr(ms(60), b"n", 1, 0, 0).unwrap().0,
        1,
        "expired: starts over"
    );
}

#[test]
fn on_a_miss_one_caller_fills_and_the_others_get_its_value() {
    let mut cache = cache();
    let lease = |cache: &mut CachePartition, id: u64| {
        let out = cache.get_or_lease(ms(0), session(id), WaiterId(id), b"k", 1000, 500, false);
        match out.unwrap() {
            LeaseOutcome::Lease { token, lease_ms } => {
                assert_eq!(lease_ms, 500);
                Some(token)
            }
            LeaseOutcome::Waiting => None,
            other => panic!("{other:?}"),
        }
    };
    let token = lease(&mut cache, 1).unwrap();
    assert_eq!((lease(&mut cache, 2), lease(&mut cache, 3)), (None, None));
    assert_eq!(cache.poll_wakeup(ms(1)), None);
    let version = cache
        .set(ms(1), b"k", b"filled", 0, Condition::Lease(token))
        .unwrap();
    for id in [2, 3] {
        let (waiter, wakeup) = cache.poll_wakeup(ms(1)).unwrap();
        let Wakeup::Value(entry) = wakeup else {
            panic!("{wakeup:?}")
        };
        assert_eq!(
            (waiter, entry.version, entry.value),
            (WaiterId(id), version, &b"filled"[..])
        );
    }
    assert_eq!(cache.poll_wakeup(ms(1)), None);
    assert_eq!(
        cache.set(ms(1), b"k", b"again", 0, Condition::Lease(token)),
        Err(CacheError::LeaseLost),
        "a lease fills once"
    );
    let stats = cache.stats();
    assert_eq!((stats.leases, stats.waiting), (0, 0));
}

#[test]
fn expired_lease_passes_to_the_next_waiter() {
    let mut cache = cache();
    let ask = |cache: &mut CachePartition, now, id: u64| {
        let out = cache.get_or_lease(now, session(id), WaiterId(id), b"k", 1000, 100, false);
        match out.unwrap() {
            LeaseOutcome::Lease { token, .. } => token,
            _ => 0,
        }
    };
    let first = ask(&mut cache, ms(0), 1);
    assert_eq!(
        [ask(&mut cache, ms(10), 2), ask(&mut cache, ms(20), 3)],
        [0, 0]
    );
    assert_eq!(
        cache.set(ms(100), b"k", b"late", 0, Condition::Lease(first)),
        Err(CacheError::LeaseLost),
        "over by its time, before the timer ran"
    );
    tick(&mut cache, ms(102));
    let Some((
        WaiterId(2),
        Wakeup::Lease {
            token,
            lease_ms: 100,
        },
    )) = cache.poll_wakeup(ms(102))
    else {
        panic!("the first waiter holds the lease")
    };
    assert_ne!(token, first);
    cache
        .set(ms(150), b"k", b"v", 0, Condition::Lease(token))
        .unwrap();
    assert!(matches!(
        cache.poll_wakeup(ms(150)),
        Some((WaiterId(3), Wakeup::Value(_)))
    ));
}

#[test]
fn waiting_ends_with_the_callers_time() {
    let mut cache = cache();
    let _ = cache.get_or_lease(ms(0), session(1), WaiterId(1), b"k", 0, 10_000, false);
    assert_eq!(
        cache.get_or_lease(ms(0), session(2), WaiterId(2), b"k", 0, 1, false),
        Err(CacheError::Filling)
    );
    let out = cache.get_or_lease(ms(0), session(2), WaiterId(2), b"k", 50, 1, false);
    assert_eq!(out, Ok(LeaseOutcome::Waiting));
    let again = cache.get_or_lease(ms(0), session(2), WaiterId(2), b"k", 50, 1, false);
    assert_eq!(again, Err(CacheError::DuplicateId));
    tick(&mut cache, ms(49));
    assert_eq!(cache.poll_wakeup(ms(49)), None);
    tick(&mut cache, ms(52));
    assert_eq!(
        cache.poll_wakeup(ms(52)),
        Some((WaiterId(2), Wakeup::TimedOut))
    );
}

#[test]
fn a_dead_session_passes_its_lease_on_and_stops_waiting() {
    let mut cache = cache();
    for (owner, waiter) in [(1, 1), (1, 2), (2, 3), (1, 4), (2, 5)] {
        let id = WaiterId(waiter);
        let _ = cache.get_or_lease(ms(0), session(owner), id, b"k", 1000, 1000, false);
    }
    cache.abort_owner(ms(1), session(1));
    let woken = cache.poll_wakeup(ms(1));
    assert!(
        matches!(woken, Some((WaiterId(3), Wakeup::Lease { .. }))),
        "{woken:?}"
    );
    assert_eq!(
        cache.poll_wakeup(ms(1)),
        None,
        "nobody of session 1 is woken"
    );
    assert_eq!(cache.stats().waiting, 1);
    cache.abort_owner(ms(2), session(2));
    let stats = cache.stats();
    assert_eq!((stats.leases, stats.waiting), (0, 0));
    assert_eq!(cache.poll_wakeup(ms(2)), None);
    assert_eq!(cache.next_deadline(), None);
}

#[test]
fn a_cancelled_waiter_hands_on_the_lease_it_has_not_collected() {
    let mut cache = cache();
    for id in 1..=3 {
        let _ = cache.get_or_lease(ms(0), session(id), WaiterId(id), b"k", 1000, 10, false);
    }
    tick(&mut cache, ms(12));
    assert!(cache.cancel_waiter(ms(12), WaiterId(2)));
    let woken = cache.poll_wakeup(ms(12));
    assert!(
        matches!(woken, Some((WaiterId(3), Wakeup::Lease { .. }))),
        "{woken:?}"
    );
    assert!(
        !cache.cancel_waiter(ms(12), WaiterId(3)),
        "collected: it waits no more"
    );
}

#[test]
fn a_delete_makes_the_running_fill_void() {
    let mut cache = cache();
    let out = cache.get_or_lease(ms(0), session(1), WaiterId(1), b"k", 0, 1000, false);
    let Ok(LeaseOutcome::Lease { token, .. }) = out else {
        panic!("{out:?}")
    };
    let _ = cache.get_or_lease(ms(0), session(2), WaiterId(2), b"k", 1000, 1000, false);
    cache.delete(ms(1), b"k", Condition::Always).unwrap();
    assert_eq!(
        cache.set(
            ms(2),
            b"k",
            b"computed before the delete",
            0,
            Condition::Lease(token)
        ),
        Err(CacheError::LeaseLost)
    );
    assert!(matches!(
        cache.poll_wakeup(ms(2)),
        Some((WaiterId(2), Wakeup::Lease { .. }))
    ));
}

#[test]
fn a_value_gone_before_its_waiter_was_told_is_a_miss() {
    let mut cache = cache();
    for id in 1..=2 {
        let _ = cache.get_or_lease(ms(0), session(id), WaiterId(id), b"k", 1000, 10, false);
    }
    set(&mut cache, ms(1), "k", "v", 0);
    cache.delete(ms(1), b"k", Condition::Always).unwrap();
    assert_eq!(cache.poll_wakeup(ms(1)), Some((WaiterId(2), Wakeup::Miss)));
}

#[test]
fn stale_readers_see_the_last_value_while_one_caller_fills() {
    let mut cache = cache();
    set(&mut cache, ms(0), "k", "old", 100);
    let ask = |cache: &mut CachePartition, now, id, stale_ok| {
        let out = cache.get_or_lease(now, session(id), WaiterId(id), b"k", 1000, 5000, stale_ok);
        match out.unwrap() {
            LeaseOutcome::Value(entry) => format!("value {}", entry.value.escape_ascii()),
            LeaseOutcome::Stale(entry) => format!("stale {}", entry.value.escape_ascii()),
            LeaseOutcome::Lease { .. } => "lease".to_owned(),
            LeaseOutcome::Waiting => "waiting".to_owned(),
        }
    };
    assert_eq!(ask(&mut cache, ms(50), 1, true), "value old");
    tick(&mut cache, ms(200));
    assert!(cache.get(ms(200), b"k").is_none());
    assert_eq!(ask(&mut cache, ms(200), 1, true), "lease");
    assert_eq!(ask(&mut cache, ms(200), 2, true), "stale old");
    assert_eq!(ask(&mut cache, ms(200), 3, false), "waiting");
    set(&mut cache, ms(300), "k", "new", 0);
    assert_eq!(ask(&mut cache, ms(300), 4, true), "value new");
    assert_eq!(cache.stats().expirations, 1);
}

#[test]
fn stale_values_are_kept_only_on_request_and_for_a_bounded_time() {
    let mut cache = cache();
    set(&mut cache, ms(0), "asked", "v", 100);
    set(&mut cache, ms(0), "plain", "v", 100);
    let _ = cache.get_or_lease(ms(0), session(1), WaiterId(1), b"asked", 0, 1, true);
    tick(&mut cache, ms(102));
    assert_eq!(
        cache.stats().entries,
        1,
        "only the one somebody asked to keep"
    );
    tick(&mut cache, ms(10_102));
    assert_eq!((cache.stats().entries, cache.stats().expirations), (0, 2));
}

#[test]
fn a_scan_pages_through_a_prefix_once() {
    let mut cache = cache();
    for i in 0..1000 {
        set(&mut cache, ms(0), &format!("a/{i}"), "v", 0);
        set(&mut cache, ms(0), &format!("b/{i}"), "v", 0);
    }
    set(&mut cache, ms(0), "a/dead", "v", 5);
    let (mut seen, mut cursor, mut pages) = (Vec::new(), 0, 0);
    loop {
        let before = seen.len();
        cursor = cache.scan(ms(10), b"a/", cursor, 70, 500, |key, _| {
            seen.push(key.to_vec());
            true
        });
        assert!(seen.len() - before <= 70);
        // Growth, shrinking and changed values in between move nobody.
        pages += 1;
        set(&mut cache, ms(10), &format!("c/{pages}"), "v", 0);
        set(&mut cache, ms(10), "a/7", &"long".repeat(pages), 0);
        cache
            .delete(ms(10), format!("b/{pages}").as_bytes(), Condition::Always)
            .unwrap();
        if cursor == 0 {
            break;
        }
    }
    assert_eq!(seen.len(), 1000, "no duplicates, nothing missing");
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 1000);
    assert!(pages >= 15);
}

#[test]
fn a_full_page_resumes_with_the_entry_it_did_not_take() {
    let mut cache = cache();
    for key in ["a", "b", "c"] {
        set(&mut cache, ms(0), key, "v", 0);
    }
    let mut seen = Vec::new();
    let mut cursor = cache.scan(ms(0), b"", 0, 10, 100, |_, _| false);
    assert_ne!(cursor, 0);
    while cursor != 0 {
        let mut taken = false;
        cursor = cache.scan(ms(0), b"", cursor, 10, 100, |key, _| {
            let take = !taken;
            taken = true;
            if take {
                seen.push(key.to_vec());
            }
            take
        });
    }
    assert_eq!(seen, [b"a", b"b", b"c"]);
    assert_eq!(cache.scan(ms(0), b"", u64::MAX, 10, 100, |_, _| true), 0);
}

#[test]
fn a_watch_hears_of_every_change_in_the_order_of_versions() {
    let mut cache = cache();
    cache.watch(WatchId(1), &open_watch(b"k", false)).unwrap();
    let names = WatchOptions {
        with_values: false,
        ..open_watch(b"k", true)
    };
    cache.watch(WatchId(2), &names).unwrap();
    let v1 = set(&mut cache, ms(0), "k", "a", 0);
    let v2 = set(&mut cache, ms(0), "kk", "b", 5);
    set(&mut cache, ms(0), "other", "x", 0);
    cache.delete(ms(1), b"k", Condition::Always).unwrap();
    tick(&mut cache, ms(10));
    let (mut exact, mut prefix) = (Vec::new(), Vec::new());
    while let Some((id, event)) = cache.poll_event() {
        let WatchEvent::Change {
            encoded, version, ..
        } = event
        else {
            panic!("{event:?}")
        };
        let decoded = decode(&encoded);
        assert_eq!(decoded.1, version.0);
        if id == WatchId(1) {
            &mut exact
        } else {
            &mut prefix
        }
        .push(decoded);
    }
    let v4 = v2.0 + 2;
    assert_eq!(
        exact,
        [
            (1, v1.0, b"k".to_vec(), Some(b"a".to_vec())),
            (2, v4, b"k".to_vec(), None)
        ]
    );
    assert_eq!(
        prefix,
        [
            (1, v1.0, b"k".to_vec(), None),
            (1, v2.0, b"kk".to_vec(), None),
            (2, v4, b"k".to_vec(), None),
            (3, v4 + 1, b"kk".to_vec(), None)
        ]
    );
}

#[test]
fn two_watches_share_one_encoding() {
    let mut cache = cache();
    cache.watch(WatchId(1), &open_watch(b"k", false)).unwrap();
    cache.watch(WatchId(2), &open_watch(b"", true)).unwrap();
    set(&mut cache, ms(0), "k", "value", 0);
    let mut addresses = Vec::new();
    while let Some((_, WatchEvent::Change { encoded, .. })) = cache.poll_event() {
        addresses.push(encoded.as_ptr());
    }
    assert_eq!(addresses.len(), 2);
    assert_eq!(addresses[0], addresses[1]);
}

#[test]
fn a_watch_without_credit_or_window_waits_for_both() {
    let mut cache = cache();
    let options = WatchOptions {
        credit_records: 1,
        credit_bytes: 1,
        window_bytes: 0,
        ..open_watch(b"", true)
    };
    cache.watch(WatchId(1), &options).unwrap();
    for key in ["a", "b"] {
        set(&mut cache, ms(0), key, "v", 0);
    }
    assert_eq!(cache.poll_event(), None, "no window");
    assert!(cache.watch_window(WatchId(1), 1));
    let (_, first) = cache.poll_event().unwrap();
    assert_eq!(
        cache.poll_event(),
        None,
        "one record was allowed, bytes overdrawn by one event"
    );
    assert!(cache.watch_credit(WatchId(1), 1, 1000));
    assert_eq!(cache.poll_event(), None, "the window is still overdrawn");
    assert!(cache.watch_window(WatchId(1), first.window_bytes()));
    assert!(cache.poll_event().is_some());
    assert!(!cache.watch_credit(WatchId(9), 1, 1));
}

#[test]
fn a_slow_watch_is_told_what_it_lost_before_its_next_event() {
    let mut config = CacheConfig::new(8 << 20, [1, 2]);
    config.watch_buffer_records = 3;
    let mut cache = CachePartition::new(&config);
    let slow = WatchOptions {
        credit_records: 0,
        ..open_watch(b"", true)
    };
    cache.watch(WatchId(1), &slow).unwrap();
    cache.watch(WatchId(2), &open_watch(b"k9", false)).unwrap();
    let versions: Vec<u64> = (0..10)
        .map(|i| set(&mut cache, ms(0), &format!("k{i}"), "v", 0).0)
        .collect();
    let (other, _) = cache.poll_event().unwrap();
    assert_eq!(other, WatchId(2), "the other watch is served meanwhile");
    assert_eq!(cache.poll_event(), None);
    cache.watch_credit(WatchId(1), 2, 0);
    let lag = WatchLag {
        from: Version(versions[0]),
        to: Version(versions[6] + 1),
        count: 7,
    };
    assert_eq!(cache.poll_event(), Some((WatchId(1), WatchEvent::Lag(lag))));
    for expected in &versions[7..9] {
        let (_, event) = cache.poll_event().unwrap();
        let WatchEvent::Change { version, .. } = event else {
            panic!("{event:?}")
        };
        assert_eq!(version.0, *expected);
    }
    assert_eq!(cache.poll_event(), None, "a lag notice cost no credit");
    assert_eq!(
        cache.unwatch(WatchId(1)),
        Some(Version(versions[9])),
        "resumes with the last"
    );
    assert_eq!(cache.unwatch(WatchId(1)), None);
    assert_eq!(cache.stats().watch_bytes, 0);
}

#[test]
fn wrong_keys_and_ids_are_refused_with_facts() {
    let mut cache = cache();
    let now = ms(0);
    assert_eq!(
        cache.set(now, b"", b"", 0, Condition::Always),
        Err(CacheError::KeyEmpty)
    );
    let long = [0; 1025];
    assert_eq!(
        cache.set(now, &long, b"", 0, Condition::Always),
        Err(CacheError::KeyTooLong { len: 1025 })
    );
    let value = vec![0; (1 << 20) + 1];
    assert_eq!(
        cache.set(now, b"k", &value, 0, Condition::Always),
        Err(CacheError::ValueTooLarge {
            len: 1048577,
            limit: 1 << 20
        })
    );
    assert!(
        cache
            .set(now, &long[1..], &value[1..], 0, Condition::Always)
            .is_ok()
    );
    cache.watch(WatchId(1), &open_watch(b"", true)).unwrap();
    assert_eq!(
        cache.watch(WatchId(1), &open_watch(b"", true)),
        Err(CacheError::DuplicateId)
    );
    assert_eq!(
        cache.watch(WatchId(2), &open_watch(b"", false)),
        Err(CacheError::KeyEmpty)
    );
}
