//! A log alone: an owner appends, acknowledges, trims, reads and checkpoints;
//! the disk below crashes, tears, rots, fills up and lies; the log is opened
//! again and must hold what it acknowledged.
//!
//! `world` is the owner and the pump, `model` says what must be there, `audit`
//! opens a log and compares, and each of `crash`, `rot` and `faults` is one way
//! to hurt it, tried at every place.

mod audit;
pub mod crash;
pub mod faults;
mod model;
pub mod rot;
mod world;

use core::time::Duration;

use pinion_commitlog::{LogConfig, LogId};
use pinion_simkit::{SimDisk, SimDiskConfig, SimRng};
use pinion_types::WallMs;

use world::{Habits, Tolerance, World};

use crate::Violation;

pub use world::WorldStats;

/// Smallest segment the log takes, so that a short workload rolls often.
const SEGMENT_BYTES: u64 = 1 << 20;

fn config(rng: &mut SimRng) -> LogConfig {
    LogConfig {
        log: LogId(0),
        store: *b"a simulated node",
        segment_bytes: SEGMENT_BYTES,
        group_bytes_max: *rng.pick(&[64 << 10, 256 << 10]),
        backlog_bytes_max: *rng.pick(&[4 << 20, 32 << 10]),
        reads_in_flight_max: 4,
        checkpoint_every_bytes: 2 << 20,
        reserve_bytes: 64 << 10,
        bulk_group_bytes: *rng.pick(&[32 << 10, 512 << 10]),
        compact_bytes_per_sec: 64 << 20,
        seed: rng.next_u64(),
        started: WallMs(1_700_000_000_000),
    }
}

fn habits(rng: &mut SimRng) -> Habits {
    Habits {
        streams: rng.between(0, 3),
        queues: rng.between(1, 3),
        body_max: *rng.pick(&[300, 3_000, 20_000, 120_000]),
        checkpoint_every: *rng.pick(&[0, 25, 60]),
        shrink: rng.one_in(5),
        uniform: false,
    }
}

fn empty_disk(rng: &mut SimRng) -> SimDisk {
    let config = SimDiskConfig {
        latency_min: Duration::from_micros(20),
        latency_max: Duration::from_micros(*rng.pick(&[60, 300, 3_000])),
        ..SimDiskConfig::default()
    };
    SimDisk::new(config, rng.fork(1))
}

/// A new world of one seed.
fn begin(rng: &mut SimRng, tolerance: Tolerance) -> Result<World, Violation> {
    let config = config(rng);
    let habits = habits(rng);
    let disk = empty_disk(rng);
    audit::create(disk, &config, &habits, tolerance, rng.fork(2))
}
