//! What streams take from the heap, counted by the allocator: many idle
//! durable partitions, and the publish path.
#![allow(clippy::unwrap_used)]

use std::alloc::System;

use pinion_domains::stream::{
    Append, Delivery, Overflow, Partition, PartitionConfig, Start, SubKey, SubscribeOptions,
};
use pinion_types::block::Record;
use pinion_types::{Monotonic, ProducerId, Sequence, WallMs};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const PARTITIONS: usize = 10_000;
const RECORDS: usize = 3;
/// 100,000 durable streams and their node have 1 GiB.
const IDLE_BYTES_MAX: usize = 2048;

fn record(len: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let value = vec![7; len];
    Record {
        key: b"",
        headers: b"",
        value: &value,
    }
    .encode(&mut out)
    .unwrap();
    out
}

fn publish(p: &mut Partition, records: &[u8], producer: Option<(ProducerId, Sequence)>) {
    let append = Append {
        producer,
        expected_offset: None,
        record_count: 1,
        records,
    };
    p.append(Monotonic::ZERO, WallMs(1), &append).unwrap();
}

fn held(region: &Region<'_, System>) -> usize {
    let change = region.change();
    change.bytes_allocated - change.bytes_deallocated
}

fn durable() -> PartitionConfig {
    PartitionConfig {
        durable: true,
        default_overflow: Overflow::Block,
        ..PartitionConfig::default()
    }
}

fn idle_partitions() {
    let records = record(100);
    let mut partitions = Vec::with_capacity(PARTITIONS);
    let region = Region::new(ALLOCATOR);
    for _ in 0..PARTITIONS {
        // As its owner holds it.
        let mut p = Box::new(Partition::new(durable()));
        for _ in 0..RECORDS {
            publish(&mut p, &records, None);
            assert!(p.poll_single().is_some());
            p.seal();
            p.commit_next();
            p.seal();
        }
        partitions.push(p);
    }
    let in_memory = held(&region) / PARTITIONS;
    for p in &mut partitions {
        p.evict_committed(0);
    }
    let evicted = held(&region) / PARTITIONS;
    println!(
        "{PARTITIONS} idle durable partitions with {RECORDS} records of 100 B: {in_memory} B each \
         with the records in memory, {evicted} B without; {} B of it the struct",
        size_of::<Partition>()
    );
    assert!(in_memory <= IDLE_BYTES_MAX, "{in_memory} B");
    assert!(evicted <= IDLE_BYTES_MAX * 3 / 4, "{evicted} B");
    let counted: u64 = partitions.iter().map(|p| p.memory()).sum();
    assert_eq!(counted, 0, "what is evicted is not counted");
}

/// From the publish through the log's hands to one subscriber.
fn publish_path(producer: Option<ProducerId>) -> usize {
    const WARM_UP: u64 = 50_000;
    const COUNTED: u64 = 100_000;
    let records = record(100);
    let mut p = Partition::new(PartitionConfig {
        ring_bytes: 1 << 20,
        ..durable()
    });
    let options = SubscribeOptions {
        start: Start::Latest,
        overflow: None,
        backlog_max: 0,
        credit_records: 1 << 20,
        credit_bytes: 1 << 20,
        window_bytes: 1 << 20,
        filter: None,
    };
    p.subscribe(SubKey(1), options).unwrap();
    let mut region = Region::new(ALLOCATOR);
    let mut delivered = 0;
    for i in 0..WARM_UP + COUNTED {
        if i == WARM_UP {
            region = Region::new(ALLOCATOR);
            delivered = 0;
        }
        publish(&mut p, &records, producer.map(|id| (id, Sequence(i))));
        let op = p.poll_single().unwrap();
        assert_eq!(op.body.len(), 32 + records.len());
        p.commit_next();
        if i % 10 == 9 {
            p.seal();
            while let Some((key, delivery)) = p.poll_delivery() {
                let Delivery::Records { bytes, records, .. } = delivery else {
                    panic!("{delivery:?}");
                };
                delivered += u64::from(records);
                p.window(key, bytes.len() as u64);
                p.credit(key, records, u32::try_from(bytes.len()).unwrap());
            }
        }
    }
    assert_eq!(delivered, COUNTED);
    let change = region.change();
    change.allocations + change.reallocations
}

// One test: the allocator counts for the whole process.
#[test]
fn the_heap_of_streams_is_as_promised() {
    idle_partitions();
    let plain = publish_path(None);
    let idempotent = publish_path(Some(ProducerId(7)));
    println!("100,000 durable publishes delivered: {plain} allocations, {idempotent} idempotent");
    assert_eq!((plain, idempotent), (0, 0));
}
