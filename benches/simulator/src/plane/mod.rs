//! Several nodes' control planes, the wires between them and their clients: the same
//! `Plane` that a node runs, each on a disk of its own, under crashes, cut and bad wires,
//! slow and failing disks, wrong clocks and pauses.
//!
//! `world` is the nodes and what time does to them; `plan` what goes wrong; `client` who
//! asks; `truth` the oracles.

mod client;
mod plan;
mod truth;
mod world;

use core::time::Duration;

use pinion_types::Monotonic;

use crate::Violation;
use world::World;

/// Simulated time of one of a world's steps.
const STEP: Duration = Duration::from_millis(4);

/// Counts of one world, for reports.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlaneCounts {
    /// Worlds of one, three and five members.
    pub ones: u64,
    /// See [`PlaneCounts::ones`].
    pub threes: u64,
    /// See [`PlaneCounts::ones`].
    pub fives: u64,
    /// Changes of leader: terms that somebody led, beyond the first of each world.
    pub elections: u64,
    /// Partitions of both directions.
    pub parted: u64,
    /// Wires cut in one direction.
    pub one_way: u64,
    /// Wires that came and went.
    pub flapping: u64,
    /// Messages that chance lost.
    pub lost: u64,
    /// Messages that arrived twice.
    pub repeated: u64,
    /// Messages that were overtaken.
    pub late: u64,
    /// Commands, and words that one was not taken, from node to node.
    pub forwarded: u64,
    /// Connections that broke.
    pub resets: u64,
    /// Nodes that lost power.
    pub crashes: u64,
    /// Clean stops.
    pub drains: u64,
    /// Nodes that stood still and went on.
    pub pauses: u64,
    /// Disks that were slow for a while.
    pub slow: u64,
    /// Nodes that stopped because a request to their disk failed.
    pub failed: u64,
    /// Leaders that gave the lead away because their disk was slow.
    pub handed_over: u64,
    /// Wall clocks that were set.
    pub jumps: u64,
    /// Leaders that stamped ahead of their wall clock.
    pub behind_stamp: u64,
    /// Snapshots of the metadata that were made.
    pub snapshots: u64,
    /// Snapshots that took the place of entries that a node missed.
    pub restored: u64,
    /// Changes that replicas showed.
    pub changes: u64,
    /// States that were compared.
    pub hashes: u64,
    /// Writes answered as done.
    pub writes: u64,
    /// Of those, done before under the same number.
    pub repeats: u64,
    /// Writes that the metadata refused, for a reason that was true.
    pub refused: u64,
    /// Writes of which nobody knows.
    pub unknown: u64,
    /// Of those, done after all.
    pub unknown_done: u64,
    /// Linearizable reads.
    pub reads: u64,
    /// Stale reads.
    pub stale: u64,
    /// Of those, behind the newest version.
    pub behind: u64,
    /// Changes that watchers were given.
    pub watched: u64,
    /// Watchers that had to begin anew.
    pub resnapshots: u64,
    /// Tenants whose grace was over.
    pub purged: u64,
    /// Messages to nodes that the sender was not told to be connected to.
    pub unheard: u64,
    /// Nodes that lost their disks.
    pub wiped: u64,
    /// Members that came after the beginning.
    pub joined: u64,
    /// Members that another took the place of.
    pub replaced: u64,
    /// Brokers that were missed.
    pub down: u64,
    /// Brokers that registered.
    pub registered: u64,
}

impl PlaneCounts {
    /// Worlds of more than one member.
    #[must_use]
    pub const fn groups(&self) -> u64 {
        self.threes + self.fives
    }

    /// Adds another world's.
    pub fn add(&mut self, other: &Self) {
        let sums = [
            (&mut self.ones, other.ones),
            (&mut self.threes, other.threes),
            (&mut self.fives, other.fives),
            (&mut self.elections, other.elections),
            (&mut self.parted, other.parted),
            (&mut self.one_way, other.one_way),
            (&mut self.flapping, other.flapping),
            (&mut self.lost, other.lost),
            (&mut self.repeated, other.repeated),
            (&mut self.late, other.late),
            (&mut self.forwarded, other.forwarded),
            (&mut self.resets, other.resets),
            (&mut self.crashes, other.crashes),
            (&mut self.drains, other.drains),
            (&mut self.pauses, other.pauses),
            (&mut self.slow, other.slow),
            (&mut self.failed, other.failed),
            (&mut self.handed_over, other.handed_over),
            (&mut self.jumps, other.jumps),
            (&mut self.behind_stamp, other.behind_stamp),
            (&mut self.snapshots, other.snapshots),
            (&mut self.restored, other.restored),
            (&mut self.changes, other.changes),
            (&mut self.hashes, other.hashes),
            (&mut self.writes, other.writes),
            (&mut self.repeats, other.repeats),
            (&mut self.refused, other.refused),
            (&mut self.unknown, other.unknown),
            (&mut self.unknown_done, other.unknown_done),
            (&mut self.reads, other.reads),
            (&mut self.stale, other.stale),
            (&mut self.behind, other.behind),
            (&mut self.watched, other.watched),
            (&mut self.resnapshots, other.resnapshots),
            (&mut self.purged, other.purged),
            (&mut self.unheard, other.unheard),
            (&mut self.wiped, other.wiped),
            (&mut self.joined, other.joined),
            (&mut self.replaced, other.replaced),
            (&mut self.down, other.down),
            (&mut self.registered, other.registered),
        ];
        for (sum, more) in sums {
            *sum += more;
        }
    }
}

/// Runs the world of `seed` for `steps` steps, ends every trouble, and lets it come to
/// agreement. Gives what it did and the hash of everything that happened.
///
/// # Errors
/// The first broken promise, with the last events before it.
pub fn run(seed: u64, steps: u64) -> Result<(PlaneCounts, u64), Violation> {
    let mut world = World::new(seed)?;
    let nanos = u64::try_from(STEP.as_nanos()).unwrap_or(u64::MAX);
    let end = Monotonic(steps.saturating_mul(nanos));
    let result = world.live(end).and_then(|()| world.finish());
    result.map_err(|violation| violation.after(&world.trace))?;
    Ok((world.counts(), world.trace.hash()))
}
