//! Stories, limits and a model of the cache partition.

#![allow(clippy::unwrap_used)]
// Numbers here are small by construction.
#![allow(clippy::cast_possible_truncation)]

mod limits;
mod model;
mod stories;

use pinion_types::{CoreId, Monotonic, SessionId, Version};

use super::*;

fn cache() -> CachePartition {
    CachePartition::new(&CacheConfig::new(8 << 20, [1, 2]))
}

const fn ms(ms: u64) -> Monotonic {
    Monotonic::from_millis(ms)
}

const fn session(token: u64) -> SessionId {
    SessionId {
        core: CoreId(0),
        token,
    }
}

fn value(cache: &mut CachePartition, now: Monotonic, key: &[u8]) -> Option<Vec<u8>> {
    cache.get(now, key).map(|entry| entry.value.to_vec())
}

fn set(cache: &mut CachePartition, now: Monotonic, key: &str, value: &str, ttl_ms: u64) -> Version {
    cache
        .set(
            now,
            key.as_bytes(),
            value.as_bytes(),
            ttl_ms,
            Condition::Always,
        )
        .unwrap()
}

/// Runs the timers up to `now` as a core does.
fn tick(cache: &mut CachePartition, now: Monotonic) {
    while cache.next_deadline().is_some_and(|at| at <= now) {
        cache.handle_timeout(now);
    }
}

/// A watch that never runs out of credit or window.
fn open_watch<'a>(key: &'a [u8], prefix: bool) -> WatchOptions<'a> {
    WatchOptions {
        key,
        prefix,
        with_values: true,
        credit_records: u32::MAX,
        credit_bytes: u32::MAX,
        window_bytes: u32::MAX,
    }
}

/// An event's fields, read from its bytes.
fn decode(encoded: &[u8]) -> (u8, u64, Vec<u8>, Option<Vec<u8>>) {
    let version = u64::from_le_bytes(encoded[1..9].try_into().unwrap());
    let key_end = 11 + usize::from(u16::from_le_bytes(encoded[9..11].try_into().unwrap()));
    let len = u32::from_le_bytes(encoded[key_end..key_end + 4].try_into().unwrap());
    let rest = &encoded[key_end + 4..];
    let value = (len != NO_VALUE).then(|| {
        assert_eq!(rest.len(), len as usize);
        rest.to_vec()
    });
    (encoded[0], version, encoded[11..key_end].to_vec(), value)
}

/// xorshift64*, so that a failing history is named by one number.
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % n
    }
}
