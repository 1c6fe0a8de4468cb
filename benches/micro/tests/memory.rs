//! What the cache accounts for is what it takes from the heap.

use std::alloc::System;

use pinion_domains::cache::{CacheConfig, CachePartition, Condition};
use pinion_micro::trace::Rng;
use pinion_types::Monotonic;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Heap bytes may exceed the accounted ones by a tenth, for what is outside the budget.
const TOLERANCE: f64 = 1.1;

// One test, so that nothing else allocates while it counts.
#[test]
fn the_heap_holds_no_more_than_what_is_accounted() {
    for (budget, scale, keys) in [
        (1 << 20, 20, 50_000),
        (8 << 20, 20, 200_000),
        (8 << 20, 400, 50_000),
        (8 << 20, 20_000, 5_000),
        (64 << 20, 200, 1_000_000),
    ] {
        let mut rng = Rng::new(budget ^ scale);
        let region = Region::new(ALLOCATOR);
        let mut cache = CachePartition::new(&CacheConfig::new(budget, [1, 2]));
        let value = vec![7; usize::try_from(scale).expect("small")];
        let mut full_ratio = 0.0;
        for step in 0..600_000_u64 {
            let now = Monotonic::from_millis(step / 100);
            let key = (rng.next_u64() % keys).to_le_bytes();
            // Growing, steady, then shrinking by deletes and expiry.
            if step > 400_000 || rng.next_u64().is_multiple_of(10) {
                let _ = cache.delete(now, &key, Condition::Always);
            } else {
                let len = usize::try_from(rng.next_u64() % scale).expect("small");
                let ttl = (rng.next_u64() % 4) * 500;
                let _ = cache.set(now, &key, &value[..len], ttl, Condition::Always);
            }
            cache.handle_timeout(now);
            if step % 64 == 0 {
                let change = region.change();
                let heap = change.bytes_allocated as isize
                    - change.bytes_deallocated as isize
                    - value.len() as isize;
                let accounted = cache.stats().bytes;
                let ratio = heap as f64 / accounted as f64;
                if step == 400_000 {
                    full_ratio = ratio;
                }
                assert!(
                    ratio <= TOLERANCE,
                    "budget {budget}, values to {scale}, step {step}: {heap} on the heap, \
                     {accounted} accounted"
                );
            }
        }
        // The other way round: the accounting is no wild guess either.
        assert!(
            full_ratio > 0.8,
            "budget {budget}, values to {scale}: {full_ratio:.3} when full"
        );
    }
}
