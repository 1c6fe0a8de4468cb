//! Caches, from the same core and from another.

use std::time::Duration;

use pinion_types::{ErrorCode, FactId, ResourceKind, Version};
use pinion_wire::message::{
    CacheDelete, CacheGet, CacheIncr, CacheScan, CacheSet, Condition, EventKind, Reply, Request,
};
use pinion_wire::opcode;

use super::{Scene, done, key_in, lease, set, unsubscribe, watch};
use crate::harness::{ADMIN, Got, World};

#[track_caller]
fn version(answer: &crate::harness::Answer) -> Version {
    match answer.reply() {
        Reply::CacheStored(stored) => stored.version,
        Reply::CacheValue(value) => value.version,
        Reply::CacheCounter(counter) => counter.version,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn value(answer: &crate::harness::Answer) -> &[u8] {
    match answer.reply() {
        Reply::CacheValue(value) => value.value,
        other => panic!("{other:?}"),
    }
}

#[test]
fn compare_and_set_is_decided_by_the_version() {
    for far in [false, true] {
        let mut w = World::two();
        let scene = Scene::new(&mut w, 0, ADMIN, far);
        let (id, cache, key) = (scene.id, scene.cache, &scene.key[..]);
        let get = Request::CacheGet(CacheGet { handle: cache, key });
        let seen = version(&done(&mut w, id, &get));
        let with = |condition| {
            Request::CacheSet(CacheSet {
                condition,
                ..set(cache, key, b"new")
            })
        };
        w.assert_refused(id, &with(Condition::Absent), ErrorCode::KeyExists);
        let now = version(&done(&mut w, id, &with(Condition::Version(seen))));
        let refusal = w.refused(id, &with(Condition::Version(seen)));
        assert_eq!(refusal.code, ErrorCode::VersionConflict);
        assert_eq!(refusal.fact(FactId::Actual), Some(now.0));
        assert_eq!(value(&done(&mut w, id, &get)), b"new");
        let delete = Request::CacheDelete(CacheDelete {
            handle: cache,
            condition: Condition::Version(now),
            key,
        });
        done(&mut w, id, &delete);
        assert_eq!(done(&mut w, id, &get).opcode, opcode::CACHE_MISS);
        let incr = Request::CacheIncr(CacheIncr {
            handle: cache,
            delta: 5,
            initial: 10,
            ttl_ms: 100,
            key,
        });
        for expected in [15, 20] {
            let answer = done(&mut w, id, &incr);
            assert!(matches!(answer.reply(), Reply::CacheCounter(c) if c.value == expected));
        }
        w.advance(Duration::from_millis(101));
        assert_eq!(done(&mut w, id, &get).opcode, opcode::CACHE_MISS);
    }
}

#[test]
fn a_value_over_the_caches_own_limit_is_refused() {
    let mut w = World::one();
    let id = w.client(0, ADMIN);
    let mut spec = World::spec(1);
    spec.max_record_bytes = 10;
    let answer = w.try_open(id, ResourceKind::Cache, "small", Some(spec));
    let Reply::Opened(opened) = answer.reply() else {
        panic!("{answer:?}")
    };
    let handle = opened.handle;
    done(&mut w, id, &Request::CacheSet(set(handle, b"k", &[0; 10])));
    let refusal = w.refused(id, &Request::CacheSet(set(handle, b"k", &[0; 11])));
    assert_eq!(refusal.code, ErrorCode::ValueTooLarge);
    assert_eq!(refusal.fact(FactId::Limit), Some(10));
}

#[test]
fn a_scan_gives_every_key_of_its_partition_once() {
    let mut w = World::one();
    let id = w.client(0, ADMIN);
    let handle = w.declare(id, ResourceKind::Cache, "c", 1);
    for i in 0..50 {
        let key = format!("k{i:02}");
        done(
            &mut w,
            id,
            &Request::CacheSet(set(handle, key.as_bytes(), b"v")),
        );
    }
    let (mut cursor, mut keys) = (0, Vec::new());
    loop {
        let scan = Request::CacheScan(CacheScan {
            handle,
            partition: pinion_types::PartitionId(0),
            cursor,
            max_items: 7,
            max_bytes: 1000,
            keys_only: true,
            prefix: b"k",
        });
        let answer = done(&mut w, id, &scan);
        let Reply::CachePage(page) = answer.reply() else {
            panic!("{answer:?}")
        };
        keys.extend(page.items.iter().map(|item| item.key.to_vec()));
        cursor = page.cursor;
        if cursor == 0 {
            break;
        }
    }
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 50);
}

/// One fills, one on each core waits.
#[test]
fn whoever_waits_for_a_filler_gets_its_value_on_every_core() {
    let mut w = World::two();
    let filler = w.client(0, ADMIN);
    let cache = w.declare(filler, ResourceKind::Cache, "c", 2);
    for partition in 0..2 {
        let key = key_in(partition, 2);
        let waiters: Vec<_> = (0..2).map(|core| w.client(core, ADMIN)).collect();
        let answer = done(&mut w, filler, &Request::CacheLease(lease(cache, &key, 0)));
        let Reply::CacheLeased(leased) = answer.reply() else {
            panic!("{answer:?}")
        };
        let token = leased.lease;
        let mut asked = Vec::new();
        for id in waiters {
            let handle = w.open(id, ResourceKind::Cache, "c");
            asked.push((
                id,
                w.send(id, &Request::CacheLease(lease(handle, &key, 1000))),
            ));
        }
        w.settle();
        for (id, correlation) in &asked {
            assert_eq!(w.answer(*id, *correlation), None, "it waits");
        }
        let fill = CacheSet {
            condition: Condition::Lease(token),
            ..set(cache, &key, b"filled")
        };
        done(&mut w, filler, &Request::CacheSet(fill));
        for (id, correlation) in &asked {
            let answer = w.answer(*id, *correlation).unwrap();
            assert_eq!(value(&answer), b"filled");
        }
    }
}

#[test]
fn a_lease_passes_on_when_its_holder_goes_and_a_wait_ends_in_time() {
    for far in [false, true] {
        let mut w = World::two();
        let scene = Scene::new(&mut w, 0, ADMIN, far);
        let key = b"lease me".to_vec();
        let key = (0..)
            .map(|i| [&key[..], format!("{i}").as_bytes()].concat())
            .find(|k| {
                let part = pinion_types::route::partition_of(k, 2);
                (w.owner(1, ResourceKind::Cache, "c", part.0) != 0) == far
            })
            .unwrap();
        let ask = lease(scene.cache, &key, 500);
        done(&mut w, scene.id, &Request::CacheLease(ask));
        let other = w.client(0, ADMIN);
        w.open(other, ResourceKind::Stream, "s");
        w.open(other, ResourceKind::Cache, "c");
        let waits = w.send(other, &Request::CacheLease(ask));
        w.settle();
        w.advance(Duration::from_millis(501));
        let answer = w.answer(other, waits).unwrap();
        assert_eq!(answer.code(), Some(ErrorCode::TimedOut));
        let waits = w.send(other, &Request::CacheLease(ask));
        w.settle();
        w.disconnect(scene.id);
        w.settle();
        let answer = w.answer(other, waits).unwrap();
        assert_eq!(answer.opcode, opcode::CACHE_LEASED, "{answer:?}");
    }
}

#[test]
fn a_watch_tells_changes_in_order_and_its_losses() {
    for far in [false, true] {
        let mut w = World::two();
        let scene = Scene::new(&mut w, 0, ADMIN, far);
        let (id, cache, key) = (scene.id, scene.cache, &scene.key[..]);
        let partition = pinion_types::route::partition_of(key, 2).0;
        done(&mut w, id, &Request::CacheWatch(watch(cache, partition, 3)));
        for value in [&b"1"[..], b"2", b"3"] {
            done(&mut w, id, &Request::CacheSet(set(cache, key, value)));
        }
        let delete = Request::CacheDelete(CacheDelete {
            handle: cache,
            condition: Condition::Always,
            key,
        });
        done(&mut w, id, &delete);
        let got = w.got(id, 3);
        let kinds: Vec<_> = got
            .iter()
            .map(|g| match g {
                Got::Event { kind, value, .. } => (*kind, value.clone()),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(
            kinds,
            [
                (EventKind::Set, Some(b"1".to_vec())),
                (EventKind::Set, Some(b"2".to_vec())),
                (EventKind::Set, Some(b"3".to_vec())),
                (EventKind::Deleted, None),
            ]
        );
        done(&mut w, id, &unsubscribe(3));
        let got = w.got(id, 3);
        assert!(matches!(got[..], [Got::End(end), Got::Fin] if end.code == 0));
        done(&mut w, id, &Request::CacheSet(set(cache, key, b"4")));
        assert_eq!(w.got(id, 3), []);
    }
}

#[test]
fn a_watch_nobody_reads_is_told_what_it_lost() {
    for far in [false, true] {
        let mut w = World::two();
        let scene = Scene::new(&mut w, 0, ADMIN, far);
        let (id, cache, key) = (scene.id, scene.cache, &scene.key[..]);
        let partition = pinion_types::route::partition_of(key, 2).0;
        let mut wanted = watch(cache, partition, 3);
        (wanted.credit_records, wanted.credit_bytes) = (1 << 20, 16 << 20);
        w.clients[id].window_new = Some(100);
        done(&mut w, id, &Request::CacheWatch(wanted));
        let big = vec![7; 100_000];
        for _ in 0..60 {
            done(&mut w, id, &Request::CacheSet(set(cache, key, &big)));
        }
        let stream = w.clients[id].delivery_stream(3).unwrap();
        w.allow(id, stream, usize::MAX / 2);
        w.settle();
        let mut events = 0;
        let mut lost = 0;
        for got in w.got(id, 3) {
            match got {
                Got::Event { .. } => events += 1,
                Got::Lag(lag) => lost += lag.count,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(events + lost, 60);
        assert!(lost > 20, "{lost}");
    }
}
