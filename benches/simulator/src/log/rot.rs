//! One bit turned over, anywhere in any file: it is noticed, or it changes
//! nothing that anybody needs.

use pinion_commitlog::{FileId, Location, Lsn};
use pinion_simkit::{CrashMode, SimRng};

use super::audit;
use super::model::{Key, STREAM_BLOCK};
use super::world::{Tolerance, World, unwatched};
use crate::{Violation, promise};

/// One log in so many has whole segments that a checkpoint stands for; more of
/// them make the others rarer and each seed slower.
const TRUSTED_EVERY: u64 = 4;
/// Their bodies and acts: enough for two segments of a MiB, which are copied for
/// each bit.
const TRUSTED_BODY_MAX: usize = 30_000;
const TRUSTED_ACTS: u64 = 400;

/// What became of the bits.
#[derive(Clone, Copy, Debug, Default)]
pub struct RotCounts {
    /// Bits turned over, each in a fresh copy of the disk.
    pub flips: u64,
    /// Of those in segments.
    pub in_segments: u64,
    /// Of those in checkpoints.
    pub in_checkpoints: u64,
    /// Noticed when the log was opened.
    pub at_opening: u64,
    /// Noticed because the log would not open.
    pub refused: u64,
    /// Noticed when the data was read.
    pub at_reading: u64,
    /// In bytes that nobody needs: everything was there and right.
    pub harmless: u64,
    /// In the bytes of a record that is still needed; each must be noticed.
    pub in_live_records: u64,
}

impl RotCounts {
    /// Adds another campaign's.
    pub fn add(&mut self, other: &Self) {
        self.flips += other.flips;
        self.in_segments += other.in_segments;
        self.in_checkpoints += other.in_checkpoints;
        self.at_opening += other.at_opening;
        self.refused += other.refused;
        self.at_reading += other.at_reading;
        self.harmless += other.harmless;
        self.in_live_records += other.in_live_records;
    }
}

/// A disk at rest, and which of its bytes are needed.
struct Still {
    world: World,
    /// Places of records that are needed, for the strict oracle.
    live: Vec<(Key, u64, Location)>,
    /// Sectors that hold something, as (file, byte).
    used: Vec<(FileId, u64)>,
    /// All files, with their lengths.
    files: Vec<(FileId, u64)>,
}

/// Makes the log of `seed` and turns `flips` single bits over in copies of it.
///
/// # Errors
/// The first broken promise.
pub fn flip(seed: u64, flips: u64) -> Result<RotCounts, Violation> {
    let mut rng = SimRng::new(seed);
    let still = settle(&mut rng)?;
    let mut counts = RotCounts::default();
    // Nothing was written before the crash: there is no bit that anybody needs.
    let flips = if still.used.is_empty() { 0 } else { flips };
    for number in 0..flips {
        let (file, byte) = if rng.one_in(12) {
            let (file, len) = *rng.pick(&still.files);
            (file, rng.below(len.max(1)))
        } else {
            let (file, sector) = *rng.pick(&still.used);
            (file, sector + rng.below(64))
        };
        let bit = 8 * byte + rng.below(8);
        let mut part = rng.fork(number);
        one(&still, file, bit, &mut part, &mut counts)
            .map_err(|v| v.within(format_args!("bit {bit} of {file:?}")))?;
    }
    Ok(counts)
}

/// A log with several segments and checkpoints, sealed or crashed.
fn settle(rng: &mut SimRng) -> Result<Still, Violation> {
    let mut world = super::begin(rng, Tolerance::default())?;
    // What a checkpoint stands for is not looked at when the log is opened: there
    // damage is noticed by whoever reads it, and not before.
    let trusted = rng.one_in(TRUSTED_EVERY);
    let acts = if trusted {
        world.habits.body_max = TRUSTED_BODY_MAX;
        world.habits.shrink = false;
        TRUSTED_ACTS
    } else {
        world.habits.body_max = world.habits.body_max.min(20_000);
        *rng.pick(&[50, 150, 500])
    };
    world.run(acts, &mut unwatched)?;
    world.settle(&mut unwatched)?;
    if trusted {
        world.checkpoint_now()?;
        world.settle(&mut unwatched)?;
    }
    if rng.coin() {
        world.seal();
        world.settle(&mut unwatched)?;
    } else {
        // A tail without a footer, and maybe a torn group behind it.
        for _ in 0..rng.below(4) {
            world.act()?;
        }
        world.step(&mut unwatched)?;
        world.disk.crash(CrashMode::RandomSubset, rng);
    }
    let messages = world.owner.0.iter().flat_map(|(key, state)| {
        let places = state.live.iter();
        places.map(move |(id, at)| (*key, *id, *at))
    });
    let mut live: Vec<_> = messages
        .filter(|(key, id, _)| {
            let record = world.model.message(*key, *id);
            record.is_some_and(|record| record.lsn <= world.model.acked)
        })
        .collect();
    for record in &world.model.records {
        let head = &record.head;
        let key = (head.resource, head.partition);
        let first = world.owner.0.get(&key).map_or(0, |state| state.first);
        let acked = record.lsn <= world.model.acked;
        if acked && head.kind == STREAM_BLOCK && head.first + u64::from(head.count) > first {
            live.push((key, head.first, record.at));
        }
    }
    let files: Vec<_> = world.disk.files().filter(|(_, len)| *len > 0).collect();
    let mut used = Vec::new();
    for (file, _) in &files {
        let bytes = world.disk.bytes(*file).unwrap_or_default();
        for (index, part) in bytes.chunks(64).enumerate() {
            if part.iter().any(|b| *b != 0) {
                used.push((*file, 64 * index as u64));
            }
        }
    }
    let acked = world.model.acked;
    promise!(
        !used.is_empty() || acked == Lsn(0),
        "a log without a byte, and {acked:?} was acknowledged"
    );
    Ok(Still {
        world,
        live,
        used,
        files,
    })
}

fn one(
    still: &Still,
    file: FileId,
    bit: u64,
    rng: &mut SimRng,
    counts: &mut RotCounts,
) -> Result<(), Violation> {
    counts.flips += 1;
    match file {
        FileId::Segment { .. } => counts.in_segments += 1,
        FileId::Checkpoint { .. } => counts.in_checkpoints += 1,
    }
    let mut disk = still.world.disk.clone();
    disk.flip(file, bit);
    let hit = still.live.iter().find(|(_, _, at)| {
        let from = u64::from(at.offset);
        let inside = (from..from + u64::from(at.len)).contains(&(bit / 8));
        matches!(file, FileId::Segment { number, .. } if number == at.segment) && inside
    });
    counts.in_live_records += u64::from(hit.is_some());
    let tolerance = Tolerance {
        damage: true,
        failure: false,
    };
    let config = &still.world.config;
    let mut probe = disk.clone();
    match audit::open(&mut probe, config) {
        Err(error) => {
            counts.refused += 1;
            // The older checkpoint, or the log itself, stands for a damaged one.
            let spare = matches!(file, FileId::Checkpoint { .. });
            promise!(!spare, "one checkpoint is damaged: {error:?}");
            return Ok(());
        }
        Ok(shown) => audit::check(&shown, &still.world.model, tolerance)?,
    }
    let acked = still.world.model.acked;
    let habits = &still.world.habits;
    let model = still.world.model.clone();
    let mut world = audit::reopen(disk, model, config, habits, tolerance, rng.fork(1))?;
    let at_opening = !world.damage.is_empty();
    // Named damage may take any record of the partitions that it names; what is
    // read must be right all the same.
    let refused = if at_opening {
        Vec::new()
    } else {
        world.verify_all()?
    };
    let noticed = at_opening || !refused.is_empty() || !world.damage.is_empty();
    if at_opening {
        counts.at_opening += 1;
    } else if noticed {
        counts.at_reading += 1;
    } else {
        counts.harmless += 1;
        promise!(world.model.acked >= acked, "acknowledged data is gone");
    }
    if let Some((key, first, at)) = hit {
        promise!(
            noticed,
            "{first} of {key:?} at {at:?} was hit and nobody noticed"
        );
    }
    Ok(())
}
