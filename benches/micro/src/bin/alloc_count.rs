//! Heap allocations per operation on the hot paths, after warm-up.
//!
//! `alloc-count [--json]`; exits 1 if a path that promises none allocates.
//!
//! Each path is one function that warms up, then runs [`OPERATIONS`] operations
//! between two readings of the counting allocator. The first lines are the pure
//! rooms alone; the `core:` lines go from stream bytes to stream bytes through
//! session, access check, shard and domain. The transport below (one buffer a
//! packet, not an operation) is not part of it.

#![forbid(unsafe_code)]

use std::alloc::System;

use pinion_domains::cache::{CacheConfig, CachePartition, Condition, WatchId, WatchOptions};
use pinion_domains::stream::{
    Append, Delivery, Partition, PartitionConfig, Start, SubKey, SubscribeOptions,
};
use pinion_micro::node::{Node, cached_gets, published_records};
use pinion_micro::trace::zipf;
use pinion_types::block::Record;
use pinion_types::{Monotonic, ResourceKind, WallMs};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const OPERATIONS: usize = 100_000;
const KEYS: u32 = 10_000;
const VALUE: [u8; 100] = [7; 100];

struct Line {
    path: &'static str,
    operations: u64,
    allocations: u64,
    /// Whether the path promises to allocate nothing.
    none_promised: bool,
}

fn main() {
    let json = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--json") => true,
        Some(_) => {
            eprintln!("usage: alloc-count [--json]");
            std::process::exit(2);
        }
    };
    let (delivered, appended) = stream_delivery();
    let lines = [
        cache_get(),
        cache_set_same_length(),
        delivered,
        appended,
        watch_event(),
        core_get(),
        core_delivery(),
    ];
    for line in &lines {
        let each = line.allocations as f64 / line.operations as f64;
        if json {
            println!(
                "{{\"path\": \"{}\", \"operations\": {}, \"allocations\": {}, \"each\": {each}}}",
                line.path, line.operations, line.allocations
            );
        } else {
            println!(
                "{:<42} {:>8} operations {:>8} allocations {each:>9.5} each",
                line.path, line.operations, line.allocations
            );
        }
    }
    if lines.iter().any(|l| l.none_promised && l.allocations > 0) {
        eprintln!("a path that promises no allocation allocates");
        std::process::exit(1);
    }
}

/// Allocations and reallocations while `work` runs.
fn counted(work: impl FnOnce()) -> u64 {
    let region = Region::new(ALLOCATOR);
    work();
    let change = region.change();
    (change.allocations + change.reallocations) as u64
}

/// A cached GET from request bytes to reply bytes, 16 to a turn.
fn core_get() -> Line {
    const PER_TURN: u32 = 16;
    let mut node = Node::new();
    node.connect(1, ResourceKind::Cache);
    let gets = cached_gets(&mut node, 1, PER_TURN, &VALUE);
    for _ in 0..100 {
        node.turn(1, &gets);
    }
    let before = node.replied;
    let turns = OPERATIONS as u64 / u64::from(PER_TURN);
    let allocations = counted(|| (0..turns).for_each(|_| node.turn(1, &gets)));
    let operations = turns * u64::from(PER_TURN);
    let replied = (node.replied - before) as u64;
    assert!(replied > operations * VALUE.len() as u64, "every GET hit");
    Line {
        path: "core: get, hit (16 a turn)",
        operations,
        allocations,
        none_promised: true,
    }
}

/// A record from a publish to four subscriptions' streams, 10 a turn.
fn core_delivery() -> Line {
    const SUBSCRIBERS: u32 = 4;
    const PER_TURN: u32 = 10;
    let mut node = Node::new();
    node.connect(1, ResourceKind::Stream);
    let turn = published_records(&mut node, 1, SUBSCRIBERS, PER_TURN, &VALUE);
    let turns = OPERATIONS as u64 / u64::from(PER_TURN);
    // The ring turns over while warming up, so that its memory is reused.
    for _ in 0..2 * turns {
        node.turn(1, &turn);
    }
    let before = node.delivered;
    let allocations = counted(|| (0..turns).for_each(|_| node.turn(1, &turn)));
    let operations = turns * u64::from(PER_TURN) * u64::from(SUBSCRIBERS);
    let delivered = (node.delivered - before) as u64;
    assert!(
        delivered > operations * VALUE.len() as u64,
        "every record went to everyone"
    );
    Line {
        path: "core: publish and deliver a record (1:4)",
        operations,
        allocations,
        none_promised: true,
    }
}

fn warm_cache() -> CachePartition {
    let mut cache = CachePartition::new(&CacheConfig::new(64 << 20, [1, 2]));
    for key in 0..KEYS {
        cache
            .set(
                Monotonic::ZERO,
                &key.to_le_bytes(),
                &VALUE,
                60_000,
                Condition::Always,
            )
            .expect("the value fits");
    }
    cache
}

fn cache_get() -> Line {
    let mut cache = warm_cache();
    let trace = zipf(KEYS, 1.0, OPERATIONS, 3);
    let mut bytes = 0;
    let allocations = counted(|| {
        for &key in &trace {
            let entry = cache.get(Monotonic::from_millis(1), &key.to_le_bytes());
            bytes += entry.expect("every key is cached").value.len();
        }
    });
    assert_eq!(bytes, OPERATIONS * VALUE.len());
    Line {
        path: "cache: get, hit",
        operations: OPERATIONS as u64,
        allocations,
        none_promised: true,
    }
}

fn cache_set_same_length() -> Line {
    let mut cache = warm_cache();
    let trace = zipf(KEYS, 1.0, OPERATIONS, 4);
    let allocations = counted(|| {
        for &key in &trace {
            let now = Monotonic::from_millis(1);
            cache
                .set(now, &key.to_le_bytes(), &VALUE, 60_000, Condition::Always)
                .expect("the value fits");
        }
    });
    Line {
        path: "cache: set of an equally long value",
        operations: OPERATIONS as u64,
        allocations,
        none_promised: true,
    }
}

/// Ten records a turn to four subscribers: deliveries, and appends with their seal.
fn stream_delivery() -> (Line, Line) {
    const SUBSCRIBERS: u64 = 4;
    const PER_TURN: u32 = 10;
    let mut records = Vec::new();
    for _ in 0..PER_TURN {
        let record = Record {
            key: b"key",
            headers: b"",
            value: &VALUE,
        };
        record.encode(&mut records).expect("a small record");
    }
    let mut partition = Partition::new(PartitionConfig::default());
    for key in 0..SUBSCRIBERS {
        let options = SubscribeOptions {
            start: Start::Latest,
            overflow: None,
            backlog_max: 0,
            credit_records: 1000,
            credit_bytes: 1 << 20,
            window_bytes: 1 << 20,
            filter: None,
        };
        partition.subscribe(SubKey(key), options).expect("room");
    }
    let append = Append {
        producer: None,
        expected_offset: None,
        record_count: PER_TURN,
        records: &records,
    };
    let (mut appending, mut delivering, mut appended, mut delivered) = (0, 0, 0, 0);
    let turns = OPERATIONS as u64 / u64::from(PER_TURN);
    // Half of the turns warm up: the ring turns over and its memory is reused.
    for turn in 0..2 * turns {
        let now = Monotonic::from_millis(turn);
        let append_cost = counted(|| {
            partition.append(now, WallMs(turn), &append).expect("room");
            partition.seal();
        });
        let mut count = 0;
        let delivery_cost = counted(|| {
            while let Some((key, delivery)) = partition.poll_delivery() {
                let Delivery::Records { bytes, records, .. } = delivery else {
                    panic!("nobody lags: {delivery:?}")
                };
                count += u64::from(records);
                let len = u32::try_from(bytes.len()).expect("a delivery is small");
                partition.credit(key, records, len);
                partition.window(key, u64::from(len));
            }
        });
        assert_eq!(count, SUBSCRIBERS * u64::from(PER_TURN));
        if turn >= turns {
            appending += append_cost;
            delivering += delivery_cost;
            appended += u64::from(PER_TURN);
            delivered += count;
        }
    }
    let line = |path, operations, allocations, none_promised| Line {
        path,
        operations,
        allocations,
        none_promised,
    };
    (
        line(
            "stream: deliver a record (1:4)",
            delivered,
            delivering,
            true,
        ),
        line(
            "stream: append a record (10 a turn)",
            appended,
            appending,
            false,
        ),
    )
}

/// One change told to two watches: one encoding for both.
fn watch_event() -> Line {
    let mut cache = warm_cache();
    for id in [1, 2] {
        let options = WatchOptions {
            key: b"",
            prefix: true,
            with_values: true,
            credit_records: u32::MAX,
            credit_bytes: u32::MAX,
            window_bytes: u32::MAX,
        };
        cache.watch(WatchId(id), &options).expect("room");
    }
    let trace = zipf(KEYS, 1.0, OPERATIONS, 5);
    let mut told = 0;
    let mut turn = |key: u32| {
        cache
            .set(
                Monotonic::ZERO,
                &key.to_le_bytes(),
                &VALUE,
                0,
                Condition::Always,
            )
            .expect("the value fits");
        while let Some((id, event)) = cache.poll_event() {
            cache.watch_credit(id, 1, event.window_bytes());
            cache.watch_window(id, event.window_bytes());
            told += 1;
        }
    };
    for key in 0..100 {
        turn(key);
    }
    let allocations = counted(|| trace.iter().for_each(|&key| turn(key)));
    assert_eq!(told, 2 * (OPERATIONS + 100));
    Line {
        path: "cache: tell a change to a watch (1:2)",
        operations: 2 * OPERATIONS as u64,
        allocations,
        none_promised: false,
    }
}
