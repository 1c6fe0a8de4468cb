//! A crash at every operation of the disk, in every mode, and at every sector
//! boundary of every write.

use pinion_commitlog::Lsn;
use pinion_simkit::{CrashMode, SimRng};

use super::audit;
use super::world::{Point, Tolerance, World, unwatched};
use crate::{Violation, promise};

/// What a campaign of crashes covered.
#[derive(Clone, Copy, Debug, Default)]
pub struct CrashCounts {
    /// Distinct places at which the disk was stopped.
    pub points: u64,
    /// Logs opened after it: each point in each mode, and again after a second
    /// crash.
    pub recoveries: u64,
    /// Sector boundaries at which a write was cut.
    pub boundaries: u64,
    /// Recoveries that found and cut a torn tail.
    pub torn: u64,
    /// Operations of all workloads.
    pub operations: u64,
    /// Records read back and compared.
    pub reads: u64,
    /// Checkpoints finished while crashes were enumerated.
    pub checkpoints: u64,
    /// Records moved by compaction while crashes were enumerated.
    pub relocated: u64,
}

impl CrashCounts {
    /// Adds another campaign's.
    pub fn add(&mut self, other: &Self) {
        self.points += other.points;
        self.recoveries += other.recoveries;
        self.boundaries += other.boundaries;
        self.torn += other.torn;
        self.operations += other.operations;
        self.reads += other.reads;
        self.checkpoints += other.checkpoints;
        self.relocated += other.relocated;
    }
}

/// Acts of a workload between two planned restarts.
const ACTS: u64 = 120;
/// Writes longer than this are cut at a choice of boundaries, not at each.
const BOUNDARY_SECTORS_MAX: u32 = 64;

/// One crash in so many is opened with a damaged checkpoint as well.
const SPARE_EVERY: u64 = 10;

struct Enumeration {
    rng: SimRng,
    counts: CrashCounts,
    /// One crash in so many goes on to a second life and a second crash.
    second_life: u64,
}

/// Runs the workload of `seed` and crashes it everywhere. Gives what was
/// covered and the hash of everything that happened.
///
/// # Errors
/// The first broken promise.
pub fn enumerate(seed: u64) -> Result<(CrashCounts, u64), Violation> {
    let mut rng = SimRng::new(seed);
    let mut world = super::begin(&mut rng, Tolerance::default())?;
    let mut enumeration = Enumeration {
        rng: rng.fork(3),
        counts: CrashCounts::default(),
        second_life: 6,
    };
    let mut watch = |world: &World, point: Point| enumeration.look(world, point);
    let mut hash = 0;
    let lives = 3;
    for life in 0..lives {
        world.run(ACTS, &mut watch)?;
        world.habits.shrink = !world.habits.shrink;
        world.run(ACTS / 2, &mut watch)?;
        let sealed = rng.coin() || life + 1 == lives;
        if sealed {
            world.seal();
            world.settle(&mut watch)?;
            promise!(world.sealed, "a sealed log never says so");
            // From here on the process may end, and the power may go.
            let mut disk = world.disk.clone();
            disk.crash(CrashMode::DropUnsynced, &mut rng);
            audit::is_sealed(&disk, &world.config)?;
        } else {
            world.settle(&mut watch)?;
        }
        world.verify_all()?;
        promise!(
            world.disk.violations().is_empty(),
            "the disk was misused: {:?}",
            world.disk.violations()
        );
        hash ^= world.trace.hash().rotate_left(life);
        let stats = world.stats;
        let World {
            mut disk,
            model,
            config,
            habits,
            ..
        } = world;
        disk.crash(CrashMode::Clean, &mut rng);
        let part = rng.fork(u64::from(life));
        world = audit::reopen(disk, model, &config, &habits, Tolerance::default(), part)?;
        world.stats = stats;
    }
    let mut counts = enumeration.counts;
    counts.operations = world.disk.stats().submitted;
    counts.reads += world.stats.reads;
    counts.checkpoints += world.stats.checkpoints;
    counts.relocated += world.stats.relocated;
    Ok((counts, hash))
}

impl Enumeration {
    fn look(&mut self, world: &World, point: Point) -> Result<(), Violation> {
        let changes = world.disk.in_flight().any(|op| op.changes);
        if point == Point::AfterDone || !changes {
            return Ok(());
        }
        self.counts.points += 1;
        for mode in CrashMode::ALL {
            self.crash(world, mode)?;
        }
        let longest = world.disk.in_flight().filter_map(|op| op.write_sectors);
        let longest = longest.max().unwrap_or(0);
        let every = longest.div_ceil(BOUNDARY_SECTORS_MAX).max(1);
        for sectors in (1..longest).step_by(usize::try_from(every).unwrap_or(1)) {
            self.counts.boundaries += 1;
            self.crash(world, CrashMode::Sectors(sectors))?;
        }
        Ok(())
    }

    fn crash(&mut self, world: &World, mode: CrashMode) -> Result<(), Violation> {
        let at = world.disk.stats().done;
        self.crash_and_check(world, mode)
            .map_err(|v| v.within(format_args!("crash {mode:?} after {at} operations")))
    }

    fn crash_and_check(&mut self, world: &World, mode: CrashMode) -> Result<(), Violation> {
        let mut disk = world.disk.clone();
        disk.crash(mode, &mut self.rng);
        self.counts.recoveries += 1;
        let shown = audit::open(&mut disk.clone(), &world.config)
            .map_err(|error| Violation::new(format!("the log does not open: {error:?}")))?;
        let torn = shown.recovered.report.torn.is_some();
        self.counts.torn += u64::from(torn);
        audit::check(&shown, &world.model, Tolerance::default())?;
        if self.rng.one_in(SPARE_EVERY) {
            let (config, model) = (&world.config, &world.model);
            audit::without_a_checkpoint(&disk, config, model, &mut self.rng)?;
            self.counts.recoveries += 1;
        }
        let again = if torn { 2 } else { self.second_life };
        if !self.rng.one_in(again) {
            return Ok(());
        }
        // A second life: it goes on, crashes again, and nothing that the first
        // crash took may come back.
        let rng = self.rng.fork(at_number(world));
        let tolerance = Tolerance::default();
        let model = world.model.clone();
        let mut second = audit::reopen(disk, model, &world.config, &world.habits, tolerance, rng)?;
        let lost = second.model.acked;
        if self.rng.one_in(3) {
            second.verify_all()?;
        }
        // Recovery's own writes are cut as well: few acts, and maybe none.
        let acts = self.rng.below(8);
        for _ in 0..acts {
            second.act()?;
        }
        for _ in 0..self.rng.below(12) {
            second.step(&mut unwatched)?;
        }
        promise!(
            second.disk.violations().is_empty(),
            "the disk was misused after a crash at {lost:?}: {:?}",
            second.disk.violations()
        );
        let again = *self.rng.pick(&CrashMode::ALL);
        let rng = self.rng.fork(2);
        let mut disk = second.disk;
        disk.crash(again, &mut self.rng);
        self.counts.recoveries += 1;
        let mut third = audit::reopen(
            disk,
            second.model,
            &second.config,
            &second.habits,
            tolerance,
            rng,
        )
        .map_err(|v| v.within(format_args!("a second crash, {again:?}, after {lost:?}")))?;
        if self.rng.one_in(2) {
            third.settle(&mut unwatched)?;
            third.verify_all()?;
        }
        self.counts.reads += second.stats.reads + third.stats.reads;
        Ok(())
    }
}

fn at_number(world: &World) -> u64 {
    let Lsn(appended) = world.log.appended();
    world.disk.stats().done ^ appended.rotate_left(32)
}
