//! Every request of a workload fails once, each way a disk has; and disks that
//! lie at random.

use core::time::Duration;

use pinion_commitlog::{DiskError, FileId};
use pinion_simkit::{CrashMode, Fault, FaultPlan, SimRng};
use pinion_types::Monotonic;

use super::audit;
use super::world::{Tolerance, World, unwatched};
use crate::{Violation, promise};

/// What a campaign of failing requests covered.
#[derive(Clone, Copy, Debug, Default)]
pub struct FaultCounts {
    /// Requests that failed, each in a run of its own.
    pub sites: u64,
    /// Runs in which the log stopped for good, as it must when a write failed.
    pub failed: u64,
    /// Runs in which the log took nothing for a while and then went on.
    pub read_only: u64,
    /// Runs on a disk that lied now and then.
    pub lying: u64,
    /// Requests that such a disk lied about.
    pub lies: u64,
    /// Runs in which the lies were noticed.
    pub noticed: u64,
}

impl FaultCounts {
    /// Adds another campaign's.
    pub fn add(&mut self, other: &Self) {
        self.sites += other.sites;
        self.failed += other.failed;
        self.read_only += other.read_only;
        self.lying += other.lying;
        self.lies += other.lies;
        self.noticed += other.noticed;
    }
}

const ACTS: u64 = 60;
const EIO: DiskError = DiskError::Io { errno: 5 };
const FAILURE: Tolerance = Tolerance {
    damage: false,
    failure: true,
};
/// How long a log may take to serve again after a request failed for want of
/// space, or after space came back (F6).
const BACK_WITHIN: Duration = Duration::from_secs(2);

/// Steps in which a log must have asked for room again.
const RETRIES_MAX: u32 = 10_000;

/// Runs the workload of `seed` once for each of its requests (at most
/// `sites_max`, spread over it) and each of the errors a disk gives.
///
/// # Errors
/// The first broken promise.
pub fn at_every_request(seed: u64, sites_max: u64) -> Result<FaultCounts, Violation> {
    let mut counts = FaultCounts::default();
    let mut rng = SimRng::new(seed);
    let mut world = super::begin(&mut rng, Tolerance::default())?;
    world.run(ACTS, &mut unwatched)?;
    world.seal();
    world.settle(&mut unwatched)?;
    let requests = world.disk.stats().submitted;
    let stride = requests.div_ceil(sites_max.max(1)).max(1);
    let mut number = 1 + seed % stride;
    while number <= requests {
        for error in [EIO, DiskError::Full] {
            counts.sites += 1;
            one(seed, number, error, &mut counts)
                .map_err(|v| v.within(format_args!("request {number} gives {error:?}")))?;
        }
        number += stride;
    }
    Ok(counts)
}

fn one(
    seed: u64,
    number: u64,
    error: DiskError,
    counts: &mut FaultCounts,
) -> Result<(), Violation> {
    let mut rng = SimRng::new(seed);
    let mut world = super::begin(&mut rng, FAILURE)?;
    world
        .disk
        .set_faults(FaultPlan::once(number, Fault::Fails(error)));
    world.run(ACTS, &mut unwatched)?;
    world.settle(&mut unwatched)?;
    serves_again(&mut world)?;
    counts.failed += u64::from(world.failed);
    counts.read_only += u64::from(world.stats.read_only_refusals > 0);
    close_and_check(world, FAILURE, &mut rng)
}

/// A log that did not fail takes records again within [`BACK_WITHIN`].
fn serves_again(world: &mut World) -> Result<(), Violation> {
    // What waits already may be all that may wait.
    world.settle(&mut unwatched)?;
    let until = world.clock.now() + BACK_WITHIN;
    let before = world.log.appended();
    for _ in 0..RETRIES_MAX {
        if !world.failed && !world.read_only {
            world.append_some(1)?;
        }
        if world.failed || world.log.appended() > before {
            break;
        }
        let due = world.log.next_deadline();
        let disk = world.disk.next_deadline();
        let next = due.into_iter().chain(disk).min();
        let next = next.unwrap_or(Monotonic(u64::MAX));
        promise!(
            next <= until,
            "takes no record with room for {BACK_WITHIN:?}; next at {next:?}"
        );
        world.clock.advance_to(next);
        world.step(&mut unwatched)?;
    }
    promise!(
        world.failed || world.log.appended() > before,
        "a log that did not fail takes no record, for ever"
    );
    world.settle(&mut unwatched)?;
    promise!(
        world.failed || world.log.committed() == world.log.appended(),
        "a record is never committed"
    );
    Ok(())
}

fn close_and_check(world: World, tolerance: Tolerance, rng: &mut SimRng) -> Result<(), Violation> {
    promise!(
        world.disk.violations().is_empty(),
        "the disk was misused: {:?}",
        world.disk.violations()
    );
    let mut disk = world.disk;
    let mode = *rng.pick(&CrashMode::ALL);
    disk.crash(mode, rng);
    disk.set_faults(FaultPlan::default());
    disk.set_capacity(u64::MAX);
    audit::without_a_checkpoint(&disk, &world.config, &world.model, rng)?;
    let part = rng.fork(9);
    let mut again = audit::reopen(
        disk,
        world.model,
        &world.config,
        &world.habits,
        tolerance,
        part,
    )
    .map_err(|v| v.within(format_args!("opened after {mode:?}")))?;
    again.tolerance.failure = false;
    again.verify_all()?;
    again.append_some(2)?;
    again.settle(&mut unwatched)
}

/// A disk that fills up and is given room again.
///
/// # Errors
/// The first broken promise.
pub fn full_disk(seed: u64) -> Result<(FaultCounts, u64), Violation> {
    let mut rng = SimRng::new(seed);
    let mut world = super::begin(&mut rng, FAILURE)?;
    world.run(10, &mut unwatched)?;
    let room = rng.below(3 * super::SEGMENT_BYTES);
    let capacity = world.disk.used() + room;
    world.disk.set_capacity(capacity);
    world.habits.body_max = 100_000;
    world.habits.shrink = false;
    world.run(200, &mut unwatched)?;
    let was_read_only = world.read_only || world.stats.read_only_refusals > 0;
    promise!(
        !world.failed,
        "a full disk stopped the log although nothing was half written"
    );
    // What frees space goes on: acknowledgements and trims.
    world.habits.shrink = true;
    world.run(20, &mut unwatched)?;
    world.disk.set_capacity(u64::MAX);
    serves_again(&mut world)?;
    promise!(!world.failed, "a log stops when room comes back");
    let counts = FaultCounts {
        read_only: u64::from(was_read_only),
        failed: u64::from(world.failed),
        ..FaultCounts::default()
    };
    let hash = world.trace.hash();
    close_and_check(world, FAILURE, &mut rng)?;
    Ok((counts, hash))
}

/// A disk that misdirects, gives old or wrong bytes, and is slow.
///
/// # Errors
/// The first broken promise.
pub fn lying_disk(seed: u64) -> Result<(FaultCounts, u64), Violation> {
    let mut rng = SimRng::new(seed);
    let tolerance = Tolerance {
        damage: true,
        failure: true,
    };
    let mut world = super::begin(&mut rng, tolerance)?;
    let away = 1 + i64::try_from(rng.below(8)).unwrap_or(0);
    let away = if rng.coin() { away } else { -away };
    let plans = [
        vec![(Fault::ReadElsewhere(away), 20), (Fault::ReadStale, 20)],
        vec![(Fault::ReadFlipped, 10)],
        vec![(Fault::WrittenElsewhere(away), 60)],
        vec![(Fault::Slow(Duration::from_secs(5)), 30)],
        vec![
            (Fault::Fails(EIO), 100),
            (Fault::Slow(Duration::from_millis(10)), 5),
        ],
    ];
    let often = rng.pick(&plans).clone();
    if rng.one_in(3) {
        world.habits.uniform = true;
        world.habits.body_max = 2_000;
    }
    world.disk.set_faults(FaultPlan {
        often,
        ..FaultPlan::default()
    });
    world.run(2 * ACTS, &mut unwatched)?;
    world.settle(&mut unwatched)?;
    let refused = world.verify_all()?;
    let lies = world.disk.stats().faults;
    let mut noticed = !refused.is_empty() || world.failed || !world.damage.is_empty();
    let hash = world.trace.hash();
    let World {
        mut disk,
        mut model,
        config,
        habits,
        ..
    } = world;
    disk.set_faults(FaultPlan::default());
    let strayed = disk.strayed().filter_map(|(file, meant)| match file {
        FileId::Segment { number, .. } => Some((number, meant)),
        FileId::Checkpoint { .. } => None,
    });
    model.strayed = strayed.collect();
    disk.crash(CrashMode::Clean, &mut rng);
    // Bytes that went astray may keep the log from opening; it must say so.
    match audit::open(&mut disk.clone(), &config) {
        Err(_) => noticed = true,
        Ok(shown) => {
            audit::check(&shown, &model, tolerance)?;
            let part = rng.fork(4);
            let mut again = audit::reopen(disk, model, &config, &habits, tolerance, part)?;
            noticed |= !again.damage.is_empty();
            if again.damage.is_empty() {
                noticed |= !again.verify_all()?.is_empty();
            }
        }
    }
    let counts = FaultCounts {
        lying: 1,
        lies,
        noticed: u64::from(noticed),
        ..FaultCounts::default()
    };
    Ok((counts, hash))
}
