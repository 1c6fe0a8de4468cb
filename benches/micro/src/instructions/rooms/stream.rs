//! The stream partition alone: appending, fan-out, and what memory let go.

use core::hint::black_box;

use bytes::Bytes;
use pinion_domains::stream::{
    Append, Delivery, FetchResult, Partition, PartitionConfig, RecordFilter, Start, StreamChunk,
    SubKey, SubscribeOptions,
};
use pinion_types::Offset;
use pinion_types::block::{Record, encode_header};
use pinion_wire::message::FilterBuf;

use super::super::counted_region;
use super::{NOW, OPERATIONS, VALUE, WALL, batch, repeat};

fn append(partition: &mut Partition, records: &[u8]) {
    let append = Append {
        producer: None,
        expected_offset: None,
        record_count: 1,
        records: black_box(records),
    };
    partition.append(NOW, WALL, &append).expect("there is room");
}

pub(super) fn append_and_seal() -> u64 {
    let mut partition = Partition::new(PartitionConfig::default());
    let records = batch(1);
    let mut operation = || {
        append(&mut partition, &records);
        partition.seal();
    };
    operation();
    repeat(OPERATIONS, operation)
}

/// What a subscription keeps of the filter its client sent.
#[derive(Debug)]
struct Wanted(FilterBuf);

impl RecordFilter for Wanted {
    fn matches(&self, record: &Record<'_>) -> bool {
        self.0.matches(record)
    }
}

fn deliver(records: &[u8], filter: Option<&FilterBuf>) -> u64 {
    const SUBSCRIBERS: u64 = 100;
    const BLOCKS: u64 = 20;
    let mut partition = Partition::new(PartitionConfig::default());
    for key in 0..SUBSCRIBERS {
        let options = SubscribeOptions {
            start: Start::Latest,
            overflow: None,
            backlog_max: 0,
            credit_records: 1000,
            credit_bytes: 1 << 20,
            window_bytes: 1 << 20,
            filter: filter.map(|filter| Box::new(Wanted(filter.clone())) as Box<dyn RecordFilter>),
        };
        partition.subscribe(SubKey(key), options).expect("room");
    }
    let mut delivered = 0;
    // The first block warms up: queues grow to their size.
    for block in 0..=BLOCKS {
        append(&mut partition, records);
        partition.seal();
        let mut work = || {
            while let Some((key, delivery)) = partition.poll_delivery() {
                let Delivery::Records { bytes, records, .. } = delivery else {
                    panic!("nobody lags: {delivery:?}")
                };
                let len = u32::try_from(bytes.len()).expect("a delivery is small");
                partition.credit(key, records, len);
                partition.window(key, u64::from(len));
                delivered += 1;
            }
        };
        if block == 0 {
            work();
        } else {
            counted_region(&mut work);
        }
    }
    assert_eq!(delivered, (BLOCKS + 1) * SUBSCRIBERS);
    BLOCKS * SUBSCRIBERS
}

pub(super) fn deliver_to_many() -> u64 {
    deliver(&batch(1), None)
}

/// Everyone wants the record, and has it copied because of the filter.
pub(super) fn deliver_filtered() -> u64 {
    let mut headers = Vec::new();
    encode_header(&mut headers, b"type", b"order").expect("small");
    let record = Record {
        key: b"key",
        headers: &headers,
        value: &VALUE,
    };
    let mut records = Vec::new();
    record.encode(&mut records).expect("small");
    let mut filter = FilterBuf::new();
    filter.equals(b"type", b"order").expect("a small filter");
    deliver(&records, Some(&filter))
}

/// A place in the middle of what was read back from the log: the chunk is
/// found, and the block in it.
pub(super) fn fetch_cold() -> u64 {
    const BLOCKS: u64 = 400;
    let mut partition = Partition::new(PartitionConfig {
        durable: true,
        ..PartitionConfig::default()
    });
    let records = batch(1);
    let mut log = Vec::new();
    for _ in 0..BLOCKS {
        append(&mut partition, &records);
        while let Some(op) = partition.poll_op() {
            log.extend_from_slice(&op.body);
            partition.commit_next();
        }
        partition.seal();
    }
    partition.evict_committed(0);
    let mut out = Vec::new();
    let mut fetch = |partition: &mut Partition, from: u64| {
        out.clear();
        partition.fetch(Offset(from), 1, 1 << 16, None, &mut out)
    };
    assert!(fetch(&mut partition, 0) == FetchResult::Cold);
    let read = partition.poll_read().expect("the place was asked for");
    let chunk = StreamChunk {
        bytes: Bytes::from(log),
        first: Offset(0),
        end: Offset(BLOCKS),
    };
    partition.handle_read(NOW, read.from, Ok(chunk));
    let mut from = 0;
    repeat(OPERATIONS, || {
        // A step without a common divisor comes to every place.
        from = (from + 149) % BLOCKS;
        let FetchResult::Done(fetched) = fetch(&mut partition, black_box(from)) else {
            panic!("record {from} is in the chunk")
        };
        assert!(fetched.records == 1);
    })
}
