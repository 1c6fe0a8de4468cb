//! A disk that says durable and is not. Power is lost once; what it forgot must
//! be noticed, or be the end of the log.

use pinion_commitlog::FileId;
use pinion_simkit::{CrashMode, Fault, FaultPlan, SimRng};

use super::super::player::{Role, Subscriber};
use super::super::truth::Key;
use super::{NodeWorld, Plan, START};
use crate::Violation;

/// What became of a node on such a disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct LossyCounts {
    /// Nodes.
    pub worlds: u64,
    /// Writes that were said to be durable and were not.
    pub lies: u64,
    /// Nodes that did not start, or closed a partition.
    pub noticed: u64,
    /// Nodes whose log had lost its end and did not know.
    pub suffixes: u64,
}

impl LossyCounts {
    /// Adds another campaign's.
    pub fn add(&mut self, other: &Self) {
        self.worlds += other.worlds;
        self.lies += other.lies;
        self.noticed += other.noticed;
        self.suffixes += other.suffixes;
    }
}

impl Plan {
    /// One log, so that there is one order of everything; checkpoints often; nothing
    /// that lives in memory, and no group that is gone before anybody asks what is left.
    pub(super) fn on_one_log(&mut self, rng: &mut SimRng) {
        self.resources.retain(|resource| !resource.in_memory());
        for resource in &mut self.resources {
            resource.tenant = false;
        }
        (self.cores, self.logs) = (1, 1);
        self.checkpoint_every_bytes = *rng.pick(&[64 << 10, 256 << 10]);
    }
}

impl NodeWorld {
    /// Some writes are said to be durable and are not.
    pub(crate) fn lie(&mut self) {
        let submitted = self.disk.stats().submitted;
        let plan = match *self.rng.pick(&[0, 2, 12, 60]) {
            0 => FaultPlan::once(submitted + 1 + self.rng.below(200), Fault::NotDurable),
            every => FaultPlan {
                often: vec![(Fault::NotDurable, every)],
                ..FaultPlan::default()
            },
        };
        self.disk.set_faults(plan);
    }

    /// Power is lost and the lies come out: everything that is there is what was
    /// put there, and what is not is the end of the log, or somebody said so.
    pub(crate) fn find_out(&mut self) -> Result<LossyCounts, Violation> {
        let mut counts = LossyCounts {
            worlds: 1,
            lies: self.disk.stats().faults,
            ..LossyCounts::default()
        };
        self.disk.set_faults(FaultPlan::default());
        let segments = self.disk.files().map(|(file, _)| file);
        let newest = segments.filter_map(|file| match file {
            FileId::Segment { number, .. } => Some((number, file)),
            FileId::Checkpoint { .. } => None,
        });
        let newest = newest.max_by_key(|(number, _)| *number);
        // The clock began with the world: nothing was lost before.
        let kept = newest.and_then(|(_, file)| self.disk.last_durable_write(file));
        let kept = kept.map(|at| START.0 + at.0 / 1_000_000);
        (self.finishing, self.truth.lossy) = (true, true);
        self.lose_clients();
        self.players.clear();
        self.links.clear();
        let mode = *self.rng.pick(&CrashMode::ALL);
        self.crash(mode)?;
        let mut lost = 0;
        if self.noticed.is_none() {
            self.look()?;
        }
        if self.noticed.is_none() {
            lost = self.truth.lost_a_suffix(START.0, kept)?;
        }
        counts.noticed = u64::from(self.noticed.is_some());
        counts.suffixes = u64::from(lost > 0);
        Ok(counts)
    }

    fn look(&mut self) -> Result<(), Violation> {
        let streams = self.truth.streams.keys();
        let keys: Vec<Key> = streams.chain(self.truth.queues.keys()).copied().collect();
        for key in keys {
            let inspector = self.add_inspector(key);
            let end = self.report(inspector)?.end;
            if self.noticed.is_some() {
                return Ok(());
            }
            self.truth.forgotten(key, end, START.0);
            if !self.truth.streams.contains_key(&key) {
                continue;
            }
            let role = Role::Subscriber(Subscriber::default());
            let id = self.add_player(key.0, key.1, role);
            let (resource, partition) = key;
            let missing = format!(
                "what is left of {resource}/{partition} cannot be read to {end}, and the node takes it for whole"
            );
            self.until(&missing, |world| match &world.players[id].role {
                Role::Subscriber(subscriber) => {
                    subscriber.reached() >= end || world.truth.streams[&key].first() >= end
                }
                _ => false,
            })?;
        }
        self.sweep_queues()
    }
}
