//! LRU and Belady's MIN over keys `0..keys`, counted in entries.

use std::collections::{BTreeSet, HashMap};

/// Hits of least-recently-used with room for `capacity` entries.
#[must_use]
pub fn lru_hits(trace: &[u32], capacity: usize) -> u64 {
    let mut last_use: HashMap<u32, usize> = HashMap::with_capacity(capacity + 1);
    let mut by_age: BTreeSet<(usize, u32)> = BTreeSet::new();
    let mut hits = 0;
    for (now, &key) in trace.iter().enumerate() {
        if let Some(former) = last_use.insert(key, now) {
            hits += 1;
            by_age.remove(&(former, key));
        } else if last_use.len() > capacity {
            let (_, oldest) = by_age
                .pop_first()
                .expect("a full cache has an oldest entry");
            last_use.remove(&oldest);
        }
        by_age.insert((now, key));
    }
    hits
}

/// Hits of the optimum that knows the future (Belady, "A study of replacement
/// algorithms for a virtual-storage computer", 1966): on a miss the entry whose
/// next use is farthest leaves, or the new one is not kept if that is it.
#[must_use]
pub fn optimal_hits(trace: &[u32], capacity: usize) -> u64 {
    let mut next_use = vec![usize::MAX; trace.len()];
    let mut seen: HashMap<u32, usize> = HashMap::new();
    for (at, &key) in trace.iter().enumerate().rev() {
        if let Some(later) = seen.insert(key, at) {
            next_use[at] = later;
        }
    }
    let mut cached: HashMap<u32, usize> = HashMap::with_capacity(capacity + 1);
    let mut by_next: BTreeSet<(usize, u32)> = BTreeSet::new();
    let mut hits = 0;
    for (at, &key) in trace.iter().enumerate() {
        if let Some(former) = cached.insert(key, next_use[at]) {
            hits += 1;
            by_next.remove(&(former, key));
        }
        by_next.insert((next_use[at], key));
        if cached.len() > capacity {
            let (_, farthest) = by_next
                .pop_last()
                .expect("a full cache has a farthest entry");
            cached.remove(&farthest);
        }
    }
    hits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lru_keeps_what_was_used_last() {
        // 1 2 3(out 1) 2(hit) 1(out 3) 2(hit)
        assert_eq!(lru_hits(&[1, 2, 3, 2, 1, 2], 2), 2);
        // The classic weakness: a loop one longer than the cache never hits.
        assert_eq!(lru_hits(&[1, 2, 3, 1, 2, 3, 1, 2, 3], 2), 0);
    }

    #[test]
    fn the_optimum_keeps_what_is_used_next() {
        // 1 2, 3 is not kept (next used last), 1 hit 2 hit, 3 replaces one, …
        assert_eq!(optimal_hits(&[1, 2, 3, 1, 2, 3, 1, 2, 3], 2), 4);
        assert_eq!(optimal_hits(&[1, 1, 1], 1), 2);
    }
}
