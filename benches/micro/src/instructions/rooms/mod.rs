//! The paths that are counted, by room. Each drives the public interface of its
//! room as the node does, with small messages: there instructions decide, while
//! large ones are moved by `memcpy`.

mod cache;
mod log;
mod node;
mod queue;
mod session;
mod shard;
mod stream;
mod wire;

use core::hint::black_box;
use pinion_types::block::Record;
use pinion_types::{Monotonic, WallMs};

use super::{Path, repeat};

/// Times a path without preparation is run: enough that what is done once does
/// not show, few enough that all paths are counted within half a minute.
const OPERATIONS: u64 = 1000;

const NOW: Monotonic = Monotonic::from_millis(5);
const WALL: WallMs = WallMs(1_700_000_000_000);
const KEY: &[u8; 16] = b"session:00000042";
const VALUE: [u8; 100] = [7; 100];

macro_rules! paths {
    ($($name:literal => $run:path,)*) => {
        [$(Path { name: $name, run: $run },)*]
    };
}

/// Every path that is counted, in the order of the table.
pub const PATHS: [Path; 31] = paths! {
    "wire: encode a GET" => wire::encode_get,
    "wire: decode a GET" => wire::decode_get,
    "wire: encode a VALUE of 100 B" => wire::encode_value,
    "wire: decode a VALUE of 100 B" => wire::decode_value,
    "wire: encode a PUBLISH of one record" => wire::encode_publish,
    "wire: decode a PUBLISH of one record" => wire::decode_publish,
    "wire: filter a record by two headers" => wire::filter_record,
    "records: encode one of 100 B" => wire::encode_record,
    "records: check one of a batch of 10" => wire::check_record,
    "session: a GET in, a VALUE out (16 a chunk)" => session::requests_in_one_chunk,
    "session: a PUBLISH cut in two" => session::request_in_two_chunks,
    "cache: get, hit" => cache::get_hit,
    "cache: get, miss" => cache::get_miss,
    "cache: set of an equally long value" => cache::set_same_length,
    "cache: set that evicts" => cache::set_evicting,
    "cache: set and expire" => cache::set_and_expire,
    "queue: put, in memory" => queue::put_in_memory,
    "queue: put, durable" => queue::put_durable,
    "queue: take and ack, in memory" => queue::take_and_ack_in_memory,
    "queue: take and ack, durable" => queue::take_and_ack_durable,
    "stream: append and seal" => stream::append_and_seal,
    "stream: deliver a block (1:100)" => stream::deliver_to_many,
    "stream: deliver a block, filtered (1:100)" => stream::deliver_filtered,
    "stream: fetch one record of a cold chunk" => stream::fetch_cold,
    "log: a record of a group of 16" => log::record_of_a_group,
    "log: a group of one record" => log::group_of_one,
    "shard: publish, in memory" => shard::publish_in_memory,
    "shard: publish, durable (one a group)" => shard::publish_durable_alone,
    "shard: publish, durable (16 a group)" => shard::publish_durable_together,
    "core: get, hit (16 a turn)" => node::get,
    "core: publish and deliver a record (1:4)" => node::publish_and_deliver,
};

/// Two paths of which the second is a tenth longer: they are how the counting
/// itself is tested, and in no baseline.
pub const CALIBRATION: [Path; 2] = paths! {
    "calibration: ten steps" => ten_steps,
    "calibration: eleven steps" => eleven_steps,
};

fn ten_steps() -> u64 {
    repeat(OPERATIONS, || steps(10 * 20))
}

fn eleven_steps() -> u64 {
    repeat(OPERATIONS, || steps(11 * 20))
}

#[inline(never)]
fn steps(count: u32) {
    for step in 0..black_box(count) {
        black_box(step);
    }
}

/// A batch of `count` records of 100 bytes, encoded.
fn batch(count: u32) -> Vec<u8> {
    let mut records = Vec::new();
    for _ in 0..count {
        let record = Record {
            key: b"key",
            headers: b"",
            value: &VALUE,
        };
        record.encode(&mut records).expect("a small record");
    }
    records
}
