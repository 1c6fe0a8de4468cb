//! Frames and records: bytes to views and back.

use core::hint::black_box;

use pinion_types::block::{Record, check_records, encode_header};
use pinion_types::{PartitionId, Version};
use pinion_wire::frame::{self, FrameHeader, Split};
use pinion_wire::message::{Ack, CacheGet, FilterBuf, Handle, Publish};
use pinion_wire::{Reply, Request, reply};

use super::{KEY, OPERATIONS, VALUE, batch, repeat};

fn get() -> Request<'static> {
    Request::CacheGet(CacheGet {
        handle: Handle(8),
        key: KEY,
    })
}

fn publish(records: &[u8]) -> Request<'_> {
    Request::Publish(Publish {
        handle: Handle(8),
        partition: PartitionId(0),
        ack: Ack::Leader,
        producer: None,
        expected_offset: None,
        record_count: 1,
        records,
    })
}

fn value(out: &mut Vec<u8>) {
    let version = Version(9);
    reply::cache_value(out, 7, version, 0, false, |out| {
        out.extend_from_slice(black_box(&VALUE));
    })
    .expect("a small value");
}

fn encode(request: &Request<'_>) -> u64 {
    let mut out = Vec::with_capacity(1024);
    repeat(OPERATIONS, || {
        out.clear();
        black_box(request).encode(7, &mut out).expect("small");
        black_box(&out);
    })
}

// A call of its own would be counted with what it splits off, and whether it is one changes
// with the program around it.
#[inline(always)]
fn whole(bytes: &[u8]) -> (FrameHeader, &[u8]) {
    match frame::split(bytes).expect("well formed") {
        Split::Frame { header, body, .. } => (header, body),
        Split::NeedMore(missing) => panic!("{missing} bytes are missing"),
    }
}

fn decode(request: &Request<'_>) -> u64 {
    let mut bytes = Vec::new();
    request.encode(7, &mut bytes).expect("small");
    repeat(OPERATIONS, || {
        let (header, body) = whole(black_box(&bytes));
        let request = Request::decode(header.opcode, body).expect("well formed");
        black_box(&request);
    })
}

pub(super) fn encode_get() -> u64 {
    encode(&get())
}

pub(super) fn decode_get() -> u64 {
    decode(&get())
}

pub(super) fn encode_publish() -> u64 {
    encode(&publish(&batch(1)))
}

pub(super) fn decode_publish() -> u64 {
    decode(&publish(&batch(1)))
}

pub(super) fn encode_value() -> u64 {
    let mut out = Vec::with_capacity(1024);
    repeat(OPERATIONS, || {
        out.clear();
        value(&mut out);
        black_box(&out);
    })
}

pub(super) fn decode_value() -> u64 {
    let mut bytes = Vec::new();
    value(&mut bytes);
    repeat(OPERATIONS, || {
        let (header, body) = whole(black_box(&bytes));
        let reply = Reply::decode(header.opcode, body).expect("well formed");
        black_box(&reply);
    })
}

/// A subscription's filter on a record that passes it.
pub(super) fn filter_record() -> u64 {
    let mut headers = Vec::new();
    encode_header(&mut headers, b"type", b"order").expect("small");
    encode_header(&mut headers, b"region", b"eu-central").expect("small");
    let record = Record {
        key: b"key",
        headers: &headers,
        value: &VALUE,
    };
    let mut filter = FilterBuf::new();
    filter
        .any_of(b"type", &[b"invoice", b"order"])
        .and_then(|filter| filter.starts_with(b"region", b"eu-"))
        .expect("a small filter");
    repeat(OPERATIONS, || {
        assert!(black_box(&filter).matches(black_box(&record)));
    })
}

pub(super) fn encode_record() -> u64 {
    let record = Record {
        key: KEY,
        headers: b"",
        value: &VALUE,
    };
    let mut out = Vec::with_capacity(1024);
    repeat(OPERATIONS, || {
        out.clear();
        black_box(&record).encode(&mut out).expect("small");
        black_box(&out);
    })
}

pub(super) fn check_record() -> u64 {
    const BATCH: u32 = 10;
    let records = batch(BATCH);
    let batches = repeat(OPERATIONS, || {
        check_records(black_box(&records), BATCH).expect("well formed");
    });
    batches * u64::from(BATCH)
}
