//! A publish through the shard: the partition, and for a durable stream the log
//! with its group, up to what the disk is asked and again from its answer.

use core::hint::black_box;

use pinion_commitlog::disk::Listing;
use pinion_commitlog::{
    DiskDone, DiskError, DiskOutput, DiskRequest, FileId, Files, LogConfig, LogId,
};
use pinion_domains::stream::{Append, PartitionConfig};
use pinion_shard::{PartitionSpec, Shard, ShardConfig, ShardOutput, Slot};
use pinion_types::{PartitionId, ResourceId};

use super::{NOW, OPERATIONS, WALL, batch, repeat};

const LOG: LogId = LogId(0);

/// A disk that has done everything as soon as it is asked, and keeps nothing.
struct Nowhere;

impl Files for Nowhere {
    fn list(&mut self, _: LogId) -> Result<Listing, DiskError> {
        Ok((Vec::new(), Vec::new()))
    }

    fn read(&mut self, _: FileId, _: u64, _: &mut [u8]) -> Result<usize, DiskError> {
        Err(DiskError::Missing)
    }
}

fn done(request: DiskRequest) -> DiskDone {
    let (op, file) = request.target();
    let output = match request {
        DiskRequest::Write { data, .. } => DiskOutput::Written(black_box(data)),
        DiskRequest::Create { .. } | DiskRequest::Truncate { .. } | DiskRequest::Remove { .. } => {
            DiskOutput::Done
        }
        DiskRequest::Read { .. } => unreachable!("nothing is read here"),
    };
    DiskDone {
        op,
        file,
        result: Ok(output),
    }
}

fn shard(durable: bool) -> (Shard, Slot) {
    let mut shard = Shard::new(ShardConfig {
        seed: [1, 2],
        tail_bytes_max: 64 << 20,
    });
    let log = durable.then(|| {
        let config = LogConfig {
            log: LOG,
            seed: 7,
            started: WALL,
            ..LogConfig::default()
        };
        shard
            .open_log(&mut Nowhere, config, NOW, WALL, &|_, _| None)
            .expect("an empty log");
        LOG
    });
    let spec = || {
        PartitionSpec::Stream(PartitionConfig {
            durable,
            ..PartitionConfig::default()
        })
    };
    let slot = shard
        .open_partition(ResourceId(1), PartitionId(0), log, NOW, WALL, spec)
        .expect("the first partition");
    (shard, slot)
}

fn publish(shard: &mut Shard, slot: Slot, records: &[u8]) {
    shard
        .admit(slot, records.len(), false)
        .expect("there is room");
    let append = Append {
        producer: None,
        expected_offset: None,
        record_count: 1,
        records: black_box(records),
    };
    let stream = shard.stream(slot);
    stream.append(NOW, WALL, &append).expect("there is room");
    black_box(shard.take_ops(NOW, slot));
}

/// The end of a turn, and turns without requests until the disk rests. Gives
/// how many groups were committed.
fn finish(shard: &mut Shard) -> u64 {
    let mut committed = 0;
    loop {
        shard.end_turn(NOW);
        while let Some(output) = shard.poll_output(NOW, WALL) {
            match output {
                ShardOutput::Committed(_) => committed += 1,
                other => panic!("nobody subscribed: {other:?}"),
            }
        }
        shard.finish_turn(NOW);
        let mut asked = false;
        while let Some(request) = shard.poll_disk() {
            asked = true;
            shard.handle_disk_done(NOW, done(request));
        }
        if !asked {
            return committed;
        }
    }
}

fn publishes(durable: bool, turns: u64, per_turn: u64) -> u64 {
    let (mut shard, slot) = shard(durable);
    let records = batch(1);
    let mut committed = 0;
    let mut turn = || {
        for _ in 0..per_turn {
            publish(&mut shard, slot, &records);
        }
        committed += finish(&mut shard);
    };
    // The first makes the segment and lets buffers grow.
    turn();
    repeat(turns, turn);
    if durable {
        assert!(committed > turns, "{committed} groups in {turns} turns");
    }
    let end = shard.stream(slot).end().0;
    assert_eq!(end, (turns + 1) * per_turn, "every publish is readable");
    turns * per_turn
}

pub(super) fn publish_in_memory() -> u64 {
    publishes(false, OPERATIONS, 1)
}

pub(super) fn publish_durable_alone() -> u64 {
    publishes(true, OPERATIONS, 1)
}

pub(super) fn publish_durable_together() -> u64 {
    publishes(true, 100, 16)
}
