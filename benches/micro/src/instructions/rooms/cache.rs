//! The cache partition alone.

use core::hint::black_box;

use pinion_domains::cache::{CacheConfig, CachePartition, Condition};
use pinion_types::Monotonic;

use super::{NOW, OPERATIONS, VALUE, repeat};
use crate::trace::zipf;

/// Keys in the cache; few, because every one of them is set under valgrind.
const KEYS: u32 = 2000;

fn empty(budget_bytes: u64) -> CachePartition {
    CachePartition::new(&CacheConfig::new(budget_bytes, [1, 2]))
}

fn set(cache: &mut CachePartition, key: u32, ttl_ms: u64) {
    cache
        .set(
            NOW,
            &key.to_le_bytes(),
            black_box(&VALUE),
            ttl_ms,
            Condition::Always,
        )
        .expect("the value fits");
}

fn warm() -> CachePartition {
    let mut cache = empty(16 << 20);
    for key in 0..KEYS {
        set(&mut cache, key, 60_000);
    }
    cache
}

/// Keys as clients ask for them, a few much more often than the others.
fn keys() -> impl Iterator<Item = u32> {
    let drawn = usize::try_from(OPERATIONS).expect("a thousand");
    zipf(KEYS, 1.0, drawn, 3).into_iter()
}

pub(super) fn get_hit() -> u64 {
    let (mut cache, mut keys) = (warm(), keys());
    repeat(OPERATIONS, || {
        let key = keys.next().expect("one for each operation").to_le_bytes();
        let entry = cache.get(NOW, black_box(&key)).expect("it was set");
        black_box(entry.value);
    })
}

pub(super) fn get_miss() -> u64 {
    let mut cache = warm();
    let mut key = KEYS;
    repeat(OPERATIONS, || {
        key += 1;
        assert!(cache.get(NOW, black_box(&key.to_le_bytes())).is_none());
    })
}

pub(super) fn set_same_length() -> u64 {
    let (mut cache, mut keys) = (warm(), keys());
    repeat(OPERATIONS, || {
        let key = keys.next().expect("one for each operation");
        set(&mut cache, key, 60_000);
    })
}

/// A new key where there is no room.
pub(super) fn set_evicting() -> u64 {
    let mut cache = empty(1 << 20);
    let mut key = 0;
    while cache.stats().evictions < OPERATIONS {
        set(&mut cache, key, 0);
        key += 1;
    }
    let before = cache.stats().evictions;
    repeat(OPERATIONS, || {
        set(&mut cache, key, 0);
        key += 1;
    });
    let evicted = cache.stats().evictions - before;
    assert!(evicted >= OPERATIONS / 2, "only {evicted} had to go");
    OPERATIONS
}

/// Keys that live ten milliseconds, and the sweep that reclaims them.
pub(super) fn set_and_expire() -> u64 {
    let mut cache = empty(16 << 20);
    super::super::counted_region(&mut || {
        for key in 0..KEYS {
            set(&mut cache, key, 10);
        }
        let later = Monotonic::from_millis(1000);
        while cache.next_deadline().is_some_and(|due| due <= later) {
            cache.handle_timeout(later);
        }
    });
    let stats = cache.stats();
    assert_eq!((stats.entries, stats.expirations), (0, u64::from(KEYS)));
    u64::from(KEYS)
}
