//! The bytes of a group commit.

use core::hint::black_box;

use pinion_commitlog::format::{Chain, GroupWriter, RecordFlags, SegmentKey};
use pinion_commitlog::{BLOCK, BlockBuf, RecordHead};
use pinion_domains::op::kind;
use pinion_types::{PartitionId, ResourceId};

use super::{OPERATIONS, WALL, batch, repeat};

/// Groups of so many records, in one buffer that goes to and fro.
fn groups(groups: u64, records: u32) -> u64 {
    let key = SegmentKey {
        number: 1,
        salt: 0x5eed,
    };
    let offset = u32::try_from(BLOCK).expect("4,096");
    let body = batch(1);
    let mut spare = Some(BlockBuf::zeroed(16 * BLOCK));
    let mut chain = Chain::START;
    let mut first = 0;
    repeat(groups, || {
        let buffer = spare.take().expect("it came back");
        let mut group = GroupWriter::begin(buffer, key, offset, chain);
        for _ in 0..records {
            let head = RecordHead {
                resource: ResourceId(1),
                partition: PartitionId(0),
                kind: kind::STREAM_BLOCK,
                first,
                count: 1,
                epoch: 0,
                timestamp: WALL,
            };
            group
                .push(&head, RecordFlags::default(), &[], &[black_box(&body[..])])
                .expect("a small record");
            first += 1;
        }
        let finished = group.finish();
        chain = finished.header.next();
        spare = Some(black_box(finished.buffer));
    });
    assert_eq!(chain.lsn.0, first + 1);
    first
}

pub(super) fn record_of_a_group() -> u64 {
    groups(100, 16)
}

pub(super) fn group_of_one() -> u64 {
    groups(OPERATIONS, 1)
}
