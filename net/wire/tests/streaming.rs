//! The streaming encoders write what the plain ones would, and never more than
//! a frame.

#![allow(clippy::unwrap_used)]

use pinion_types::block::{BlockHeader, Record};
use pinion_types::limits::{CACHE_MULTI_MAX, CACHE_VALUE_BYTES_MAX, FRAME_BYTES_MAX};
use pinion_types::{Epoch, ErrorCode, FactId, Offset, Refusal, ResourceId, Version, WallMs};
use pinion_wire::frame::{self, Split};
use pinion_wire::message::{
    CacheEvent, CacheEvents, CachePage, CacheStoredMany, CacheValue, CacheValues, CachedValue,
    CoreList, EventKind, Fetched, Handle, ItemList, KeyList, Opened, Overflow, PageItem, PageItems,
    QueueSpec, SetItem, Spec, StoredItem,
};
use pinion_wire::reply::{
    self, CacheEventsBuilder, CachePageBuilder, CacheStoredManyBuilder, CacheValuesBuilder,
    FetchedBuilder,
};
use pinion_wire::{Delivery, EncodeError, Reply};

const BEFORE: &[u8] = b"earlier replies";

/// What `stream` appends is what `plain` encodes to.
#[track_caller]
fn same(plain: &Reply<'_>, stream: impl FnOnce(&mut Vec<u8>)) {
    let mut expected = BEFORE.to_vec();
    plain.encode(7, &mut expected).unwrap();
    let mut out = BEFORE.to_vec();
    stream(&mut out);
    assert_eq!(out, expected);
}

/// The one frame in `out` after `BEFORE`.
#[track_caller]
fn only_frame(out: &[u8]) -> (u8, &[u8]) {
    match frame::split(&out[BEFORE.len()..]) {
        Ok(Split::Frame {
            header,
            body,
            consumed,
        }) => {
            assert_eq!(consumed + BEFORE.len(), out.len());
            (header.opcode, body)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_cache_value_is_written_where_it_is_sent_from() {
    let plain = CacheValue {
        version: Version(9),
        ttl_ms: 5,
        stale: true,
        value: b"value",
    };
    same(&Reply::CacheValue(plain), |out| {
        reply::cache_value(out, 7, Version(9), 5, true, |out| {
            out.extend_from_slice(b"value");
        })
        .unwrap();
    });
    let mut out = BEFORE.to_vec();
    let huge = vec![0; CACHE_VALUE_BYTES_MAX as usize + 1];
    let error = reply::cache_value(&mut out, 7, Version(9), 0, false, |out| {
        out.extend_from_slice(&huge);
    });
    assert!(matches!(error, Err(EncodeError::TooLarge { .. })));
    assert_eq!(out, BEFORE);
}

#[test]
fn opened_asks_for_the_core_of_each_partition() {
    let spec = Spec {
        shards: 3,
        durability: 0,
        overflow: Overflow::DropOldest,
        max_record_bytes: 0,
        ring_bytes: 0,
        retention_ms: 0,
        retention_bytes: 0,
        queue: QueueSpec::UNSET,
    };
    let mut scratch = Vec::new();
    let plain = Opened {
        handle: Handle(1),
        resource: ResourceId(2),
        epoch: Epoch(3),
        spec,
        cores: CoreList::build(&mut scratch, [10, 11, 12]).unwrap(),
    };
    same(&Reply::Opened(plain), |out| {
        reply::opened(out, 7, Handle(1), ResourceId(2), Epoch(3), spec, |p| p + 10).unwrap();
    });
    let mut out = BEFORE.to_vec();
    let none = Spec { shards: 0, ..spec };
    assert!(reply::opened(&mut out, 7, Handle(1), ResourceId(2), Epoch(3), none, |p| p).is_err());
    assert_eq!(out, BEFORE);
}

#[test]
fn errors_are_written_with_their_facts() {
    let refusal = Refusal::new(ErrorCode::SequenceGap)
        .with(FactId::Expected, 1)
        .with(FactId::Actual, 2)
        .with(FactId::Limit, 3);
    same(&Reply::Error(refusal), |out| reply::error(out, 7, &refusal));
}

#[test]
fn values_are_pushed_one_by_one_until_the_frame_is_full() {
    let hit = CachedValue {
        version: Version(1),
        ttl_ms: 2,
        value: b"v",
    };
    let mut scratch = Vec::new();
    let plain = CacheValues::build(&mut scratch, [Some(hit), None]).unwrap();
    same(&Reply::CacheValues(plain), |out| {
        let mut values = CacheValuesBuilder::new(out, 7);
        assert!(values.hit(Version(1), 2, b"v"));
        assert!(values.miss());
        assert_eq!(values.finish(), 2);
    });

    let half = vec![b'x'; FRAME_BYTES_MAX as usize / 2];
    let mut out = BEFORE.to_vec();
    let mut values = CacheValuesBuilder::new(&mut out, 7);
    assert!(values.hit(Version(1), 0, &half));
    assert!(!values.hit(Version(2), 0, &half));
    assert!(
        values.miss(),
        "a refused value leaves room for smaller ones"
    );
    assert_eq!(values.finish(), 2);
    let (opcode, body) = only_frame(&out);
    let Reply::CacheValues(read) = Reply::decode(opcode, body).unwrap() else {
        panic!("{opcode:#x}");
    };
    let found: Vec<_> = read.iter().map(|v| v.map(|v| v.version)).collect();
    assert_eq!(found, [Some(Version(1)), None]);

    let mut values = CacheValuesBuilder::new(&mut out, 7);
    for _ in 0..CACHE_MULTI_MAX {
        assert!(values.miss());
    }
    assert!(!values.miss());
}

#[test]
fn a_frame_is_filled_to_its_last_byte_and_no_further() {
    // Body: count 2, present 1, version 8, ttl 8, length 4 = 23 before the value;
    // two values share the frame.
    let first = vec![b'x'; FRAME_BYTES_MAX as usize / 2];
    let rest = FRAME_BYTES_MAX as usize - 2 - 2 * 21 - first.len();
    let last = vec![b'y'; rest + 1];
    let mut out = BEFORE.to_vec();
    let mut values = CacheValuesBuilder::new(&mut out, 7);
    assert!(values.hit(Version(1), 0, &first));
    assert!(!values.hit(Version(1), 0, &last));
    assert!(values.hit(Version(1), 0, &last[1..]));
    assert!(!values.miss());
    assert_eq!(values.finish(), 2);
    assert_eq!(only_frame(&out).1.len(), FRAME_BYTES_MAX as usize);
}

#[test]
fn a_dropped_builder_leaves_no_trace() {
    let mut out = BEFORE.to_vec();
    let mut values = CacheValuesBuilder::new(&mut out, 7);
    assert!(values.miss());
    drop(values);
    let mut fetched = FetchedBuilder::new(&mut out, 7);
    assert!(fetched.push(b"block"));
    drop(fetched);
    assert_eq!(out, BEFORE);
}

#[test]
fn results_of_a_multi_set_carry_their_codes() {
    let mut scratch = Vec::new();
    let items = [
        StoredItem {
            error: None,
            version: Version(5),
        },
        StoredItem {
            error: Some(ErrorCode::Busy),
            version: Version(0),
        },
    ];
    let plain = CacheStoredMany::build(&mut scratch, items).unwrap();
    same(&Reply::CacheStoredMany(plain), |out| {
        let mut stored = CacheStoredManyBuilder::new(out, 7);
        assert!(stored.push(Ok(Version(5))));
        assert!(stored.push(Err(ErrorCode::Busy)));
        assert_eq!(stored.finish(), 2);
    });
}

#[test]
fn a_page_learns_its_cursor_last() {
    let item = PageItem {
        version: Version(1),
        ttl_ms: 2,
        key: b"k",
        value: b"v",
    };
    let mut scratch = Vec::new();
    let plain = CachePage {
        cursor: 99,
        items: PageItems::build(&mut scratch, [item]).unwrap(),
    };
    same(&Reply::CachePage(plain), |out| {
        let mut page = CachePageBuilder::new(out, 7);
        assert!(page.is_empty());
        assert!(page.push(item));
        assert!(!page.push(PageItem {
            key: &[0; 1025],
            ..item
        }));
        assert_eq!(page.len(), 1);
        assert_eq!(page.finish(99), 1);
    });
}

#[test]
fn events_are_pushed_whole_or_as_they_were_encoded_before() {
    let set = CacheEvent {
        kind: EventKind::Set,
        version: Version(1),
        key: b"k",
        value: Some(b"v"),
    };
    let gone = CacheEvent {
        kind: EventKind::Expired,
        version: Version(2),
        key: b"k",
        value: None,
    };
    let mut scratch = Vec::new();
    let plain = CacheEvents::build(&mut scratch, [set, gone]).unwrap();
    let mut expected = BEFORE.to_vec();
    Delivery::Events(plain).encode(&mut expected).unwrap();

    // One event alone, without frame and count, is what a partition shares.
    let mut alone = Vec::new();
    let mut events = CacheEventsBuilder::new(&mut alone);
    assert!(events.push(gone));
    events.finish();

    let mut out = BEFORE.to_vec();
    let mut events = CacheEventsBuilder::new(&mut out);
    assert!(events.push(set));
    assert!(events.push_encoded(&alone[14..]));
    assert_eq!(events.len(), 2);
    assert_eq!(events.finish(), 2);
    assert_eq!(out, expected);
}

#[test]
fn blocks_are_fetched_without_another_copy() {
    let mut records = Vec::new();
    Record {
        key: b"k",
        headers: b"",
        value: b"v",
    }
    .encode(&mut records)
    .unwrap();
    let header = BlockHeader {
        first_offset: Offset(10),
        timestamp: WallMs(1),
        record_count: 1,
        records_bytes: u32::try_from(records.len()).unwrap(),
    };
    let mut block = header.encode().to_vec();
    block.extend_from_slice(&records);

    let mut delivered = Vec::new();
    Delivery::Records(header, &records)
        .encode(&mut delivered)
        .unwrap();
    assert_eq!(delivered, block, "a block is a delivery as it is");

    let blocks = [block.clone(), block.clone()].concat();
    let plain = Fetched {
        next: Offset(11),
        end: Offset(20),
        first_available: Offset(5),
        blocks: &blocks,
    };
    assert_eq!(plain.blocks().count(), 2);
    same(&Reply::Fetched(plain), |out| {
        let mut fetched = FetchedBuilder::new(out, 7);
        assert_eq!(fetched.room(), FetchedBuilder::BLOCKS_BYTES_MAX);
        assert!(fetched.push(&block));
        fetched.blocks().extend_from_slice(&block);
        let room = FetchedBuilder::BLOCKS_BYTES_MAX - 2 * block.len();
        assert_eq!(fetched.room(), room);
        assert!(!fetched.push(&vec![0; room + 1]));
        fetched.finish(Offset(11), Offset(20), Offset(5)).unwrap();
    });

    let mut out = BEFORE.to_vec();
    let mut fetched = FetchedBuilder::new(&mut out, 7);
    let size = FetchedBuilder::BLOCKS_BYTES_MAX + 1;
    fetched.blocks().resize(BEFORE.len() + 12 + 24 + size, 0);
    let error = fetched.finish(Offset(0), Offset(0), Offset(0));
    assert!(matches!(error, Err(EncodeError::FrameTooLarge { .. })));
    assert_eq!(out, BEFORE);
}

#[test]
fn lists_are_not_built_beyond_their_limits() {
    let mut scratch = Vec::new();
    let keys = vec![&b"k"[..]; usize::from(CACHE_MULTI_MAX) + 1];
    assert!(KeyList::build(&mut scratch, keys.iter().copied()).is_err());
    let most = KeyList::build(&mut scratch, keys[1..].iter().copied()).unwrap();
    assert_eq!(most.len(), CACHE_MULTI_MAX);
    assert_eq!(most.iter().len(), usize::from(CACHE_MULTI_MAX));
    let long = [0; 1025];
    assert!(KeyList::build(&mut scratch, [&long[..]]).is_err());
    let value = vec![0; 300_000];
    let item = SetItem {
        ttl_ms: 0,
        key: b"k",
        value: &value,
    };
    let error = ItemList::build(&mut scratch, [item; 4]);
    assert!(matches!(error, Err(EncodeError::FrameTooLarge { .. })));
}

#[test]
fn what_cannot_be_said_is_not_encoded() {
    use pinion_wire::Request;
    use pinion_wire::message::{CacheDelete, CacheScan, Condition, Ping};

    let long = [0; 1025];
    let huge = vec![0; (1 << 20) + 1];
    for request in [
        Request::Ping(Ping { payload: &huge }),
        Request::CacheDelete(CacheDelete {
            handle: Handle(1),
            condition: Condition::Lease(1),
            key: b"k",
        }),
        Request::CacheScan(CacheScan {
            handle: Handle(1),
            partition: pinion_types::PartitionId(0),
            cursor: 0,
            max_items: 0,
            max_bytes: 0,
            keys_only: false,
            prefix: b"",
        }),
        Request::CacheGet(pinion_wire::message::CacheGet {
            handle: Handle(1),
            key: &long,
        }),
    ] {
        let mut out = BEFORE.to_vec();
        assert!(request.encode(1, &mut out).is_err(), "{}", request.opcode());
        assert_eq!(out, BEFORE);
    }
}
