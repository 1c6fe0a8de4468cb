//! What must be true of a log that is opened again, and the opening itself.

use std::collections::BTreeMap;

use pinion_commitlog::{
    Damage, DamagedPartitions, FileId, LogConfig, Lsn, RecoverError, Recovered, Replay, recover,
};
use pinion_simkit::{SimDisk, SimRng};

use super::model::{self, Fold, Key, Model, State};
use super::world::{Habits, Tolerance, World};
use crate::{Violation, promise};

/// What recovery showed, folded.
pub(crate) struct Shown {
    pub(crate) recovered: Recovered,
    pub(crate) fold: Fold,
    /// Partitions whose records do not follow one another, and why.
    broken: BTreeMap<Key, Violation>,
    pub(crate) end: Lsn,
}

/// Opens the log of a disk and folds what it shows.
pub(crate) fn open(disk: &mut SimDisk, config: &LogConfig) -> Result<Shown, RecoverError> {
    let mut fold = Fold::default();
    let mut broken = BTreeMap::new();
    let mut visit = |replay: Replay<'_>| match replay {
        Replay::State {
            resource,
            partition,
            state,
            ..
        } => {
            let key = (resource, partition);
            match State::decode(state) {
                Some(state) => {
                    fold.0.insert(key, state);
                }
                None => {
                    let what = format!("{key:?}: a state that nobody gave");
                    broken.insert(key, Violation::new(what));
                }
            }
        }
        Replay::Record {
            lsn,
            at,
            head,
            carried,
            ext,
            body,
        } => {
            let key = (head.resource, head.partition);
            let state = fold.of(&head);
            if carried {
                // The copy of a record that is known already: only its place is new.
                if let Some(place) = state.live.get_mut(&head.first) {
                    *place = at;
                }
                return;
            }
            let digest = model::digest(&head, ext, body);
            if let Err(violation) = state.apply(&head, Some(at), digest) {
                broken
                    .entry(key)
                    .or_insert_with(|| violation.within(format_args!("replay of {lsn:?}")));
            }
        }
        // The report names it, too.
        Replay::Damage(_) => {}
    };
    let recovered = recover(disk, config.clone(), &mut visit)?;
    let end = recovered.log.committed();
    Ok(Shown {
        recovered,
        fold,
        broken,
        end,
    })
}

fn all_named(damage: &[Damage]) -> bool {
    let named = |d: &Damage| matches!(d.partitions, DamagedPartitions::All);
    damage.iter().any(named)
}

fn is_named(damage: &[Damage], key: Key) -> bool {
    damage.iter().any(|d| match &d.partitions {
        DamagedPartitions::All => true,
        DamagedPartitions::Some(keys) => keys.contains(&key),
    })
}

/// Compares what recovery showed with the model: nothing acknowledged is gone,
/// nothing is there in part, nothing is there that was never written, unless
/// damage says otherwise of the very partition.
pub(crate) fn check(shown: &Shown, model: &Model, tolerance: Tolerance) -> Result<(), Violation> {
    let report = &shown.recovered.report;
    let damage = &report.damage;
    promise!(
        tolerance.damage || damage.is_empty(),
        "damage out of nothing: {damage:?}"
    );
    promise!(
        report.foreign.is_empty(),
        "foreign files: {:?}",
        report.foreign
    );
    // Last writes that landed behind the end are all that a crash in the middle of
    // them would have left; but nothing that lies in its place may be cut with them.
    let strayed = report.torn.is_some() && model.only_strays_after(shown.end);
    promise!(
        shown.end >= model.acked || all_named(damage) || strayed,
        "{:?} were acknowledged, the log ends at {:?}; damage {damage:?}",
        model.acked,
        shown.end
    );
    promise!(
        shown.recovered.log.appended() == shown.end,
        "a recovered log has {:?} appended and {:?} committed",
        shown.recovered.log.appended(),
        shown.end
    );
    if damage.is_empty()
        && let Some(split) = model.split_batch(shown.end)
    {
        let end = shown.end;
        return Err(Violation::new(format!(
            "{end:?} is inside the batch {split:?}"
        )));
    }
    for (key, violation) in &shown.broken {
        if !is_named(damage, *key) {
            return Err(violation.clone().within(format_args!("{key:?}")));
        }
    }
    let expected = model.fold(shown.end)?;
    let empty = State::default();
    let keys = expected.0.keys().chain(shown.fold.0.keys());
    for key in keys {
        let want = expected.0.get(key).unwrap_or(&empty);
        let have = shown.fold.0.get(key).unwrap_or(&empty);
        if !is_named(damage, *key) {
            promise!(
                have.same_as(want),
                "{key:?} at {:?}: recovered {have:?}, must be {want:?}",
                shown.end
            );
        }
    }
    Ok(())
}

/// Opens twice, compares with the model and with one another, and gives a
/// world that goes on. The model forgets what the crash took.
pub(crate) fn reopen(
    mut disk: SimDisk,
    mut model: Model,
    config: &LogConfig,
    habits: &Habits,
    tolerance: Tolerance,
    mut rng: SimRng,
) -> Result<World, Violation> {
    let mut config = config.clone();
    // A process that starts again draws other salts.
    config.seed = rng.next_u64();
    let first = open(&mut disk, &config)
        .map_err(|error| Violation::new(format!("the log does not open: {error:?}")))?;
    check(&first, &model, tolerance)?;
    let second = open(&mut disk, &config)
        .map_err(|error| Violation::new(format!("the log opens once only: {error:?}")))?;
    let same = first.end == second.end
        && first.fold.0 == second.fold.0
        && first.recovered.report.torn == second.recovered.report.torn
        && first.recovered.report.damage == second.recovered.report.damage;
    promise!(
        same,
        "opened twice: {:?} then {:?}",
        first.recovered.report,
        second.recovered.report
    );
    model.cut(second.end);
    let mut world = World::new(
        second.recovered.log,
        disk,
        model,
        second.fold,
        config,
        habits.clone(),
        rng,
    );
    world.tolerance = tolerance;
    world.damage = second.recovered.report.damage;
    Ok(world)
}

/// One checkpoint, any of them, is damaged: another one or the log itself stands
/// for it, and nothing is lost.
pub(crate) fn without_a_checkpoint(
    disk: &SimDisk,
    config: &LogConfig,
    model: &Model,
    rng: &mut SimRng,
) -> Result<(), Violation> {
    let mut disk = disk.clone();
    let files = disk.files();
    let files: Vec<_> = files
        .filter(|(file, len)| matches!(file, FileId::Checkpoint { .. }) && *len > 0)
        .collect();
    if files.is_empty() {
        return Ok(());
    }
    let (file, len) = *rng.pick(&files);
    // Its first bytes are never padding.
    let byte = rng.below(len.min(64));
    disk.flip(file, 8 * byte + rng.below(8));
    let shown = open(&mut disk, config)
        .map_err(|e| Violation::new(format!("one checkpoint is damaged: {e:?}")))?;
    check(&shown, model, Tolerance::default())
        .map_err(|v| v.within(format_args!("without {file:?}")))
}

/// A log that said it is sealed has nothing left to be done.
pub(crate) fn is_sealed(disk: &SimDisk, config: &LogConfig) -> Result<(), Violation> {
    let shown = open(&mut disk.clone(), config)
        .map_err(|error| Violation::new(format!("a sealed log does not open: {error:?}")))?;
    let report = shown.recovered.report;
    promise!(
        report.footers_rebuilt.is_empty() && report.torn.is_none(),
        "a sealed log is not finished: {report:?}"
    );
    Ok(())
}

/// A new log on an empty disk.
pub(crate) fn create(
    disk: SimDisk,
    config: &LogConfig,
    habits: &Habits,
    tolerance: Tolerance,
    rng: SimRng,
) -> Result<World, Violation> {
    reopen(disk, Model::default(), config, habits, tolerance, rng)
}
