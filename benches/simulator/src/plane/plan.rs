//! What goes wrong in a world, and when.

use core::time::Duration;

use pinion_commitlog::DiskError;
use pinion_simkit::{CrashMode, Fault, FaultPlan, SimRng, Weather};

use super::world::{Event, World};
use crate::Violation;

/// One way to hurt a control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// A node loses power.
    Crash,
    /// Several do, at the same moment.
    Blackout,
    /// A node is stopped cleanly and started again.
    Drain,
    /// A node stands still and goes on.
    Pause,
    /// Some nodes and the others do not hear each other.
    Part,
    /// A wire is cut in one direction.
    OneWay,
    /// A wire comes and goes.
    Flap,
    /// A connection breaks.
    Reset,
    /// Wires lose, repeat and reorder.
    Weather,
    /// A disk is slow for a while.
    Slow,
    /// A request to a disk fails.
    Fail,
    /// Somebody sets a wall clock.
    Jump,
    /// A node loses its disk.
    Wipe,
}

const TROUBLES: [Trouble; 13] = [
    Trouble::Crash,
    Trouble::Blackout,
    Trouble::Drain,
    Trouble::Pause,
    Trouble::Part,
    Trouble::OneWay,
    Trouble::Flap,
    Trouble::Reset,
    Trouble::Weather,
    Trouble::Slow,
    Trouble::Fail,
    Trouble::Jump,
    Trouble::Wipe,
];

/// What a world is like, from its seed.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Nodes that begin the cluster.
    pub(super) members: usize,
    /// Another that comes later, and whether it only observes.
    pub(super) joiner: Option<bool>,
    /// Milliseconds between two words of a broker, and how many may be missed.
    pub(super) beats: (u32, u16),
    pub(super) clients: usize,
    /// Entries between two snapshots, and kept before one.
    pub(super) snapshot_every: u64,
    pub(super) tail: u64,
    /// Longest pause of a client between two things.
    pub(super) think: Duration,
    /// Troubles of this world; the same twice comes twice as often.
    troubles: Vec<Trouble>,
    /// Average time between two of them.
    every: Duration,
}

impl Plan {
    pub(super) fn new(rng: &mut SimRng) -> Self {
        let members = *rng.pick(&[1, 3, 3, 3, 5]);
        let most = TROUBLES.len();
        // Few at a time go deeper than all at once.
        let kinds = *rng.pick(&[1, 2, 3, 5, most]);
        let troubles = (0..kinds).map(|_| *rng.pick(&TROUBLES)).collect();
        let joiner = *rng.pick(&[None, None, Some(false), Some(true)]);
        let beats = (*rng.pick(&[100, 200, 400]), *rng.pick(&[3, 5]));
        Self {
            members,
            joiner: joiner.filter(|_| members > 1),
            beats,
            clients: rng.index(4) + 2,
            snapshot_every: *rng.pick(&[8, 20, 60, 1_000]),
            tail: *rng.pick(&[2, 10, 1_000]),
            think: Duration::from_millis(*rng.pick(&[10, 40, 120])),
            troubles,
            every: Duration::from_millis(*rng.pick(&[60, 150, 400, 900])),
        }
    }

    /// Who votes when all are whole.
    pub(super) fn voters(&self) -> usize {
        self.members + usize::from(self.joiner == Some(false))
    }

    /// Time until the next trouble.
    pub(super) fn pause(&self, rng: &mut SimRng) -> Duration {
        millis(
            rng,
            1,
            2 * u64::try_from(self.every.as_millis()).unwrap_or(1),
        )
    }
}

fn millis(rng: &mut SimRng, first: u64, last: u64) -> Duration {
    Duration::from_millis(rng.between(first, last))
}

impl World {
    /// Something goes wrong, and is set right some time later.
    pub(super) fn disturb(&mut self) -> Result<(), Violation> {
        let nodes = self.nodes.len();
        let trouble = *self.rng.pick(&self.plan.troubles);
        let at = self.rng.index(nodes);
        let other = (at + 1 + self.rng.index(nodes.max(2) - 1)) % nodes;
        match trouble {
            Trouble::Crash => self.lose_power(at)?,
            Trouble::Blackout => {
                for at in 0..nodes {
                    if self.rng.coin() {
                        self.lose_power(at)?;
                    }
                }
            }
            Trouble::Drain => self.drain(at)?,
            Trouble::Pause => {
                let long = millis(&mut self.rng, 10, 3_000);
                self.pause(at, long);
            }
            Trouble::Part => {
                let mut side: Vec<usize> = (0..nodes).filter(|_| self.rng.coin()).collect();
                // A leader alone finds out by itself.
                if self.rng.coin() {
                    side = self.leader().into_iter().collect();
                }
                if !side.is_empty() && side.len() < nodes {
                    self.net.part(&side, nodes);
                    self.truth.counts.parted += 1;
                    self.heal_later();
                }
            }
            Trouble::OneWay if other != at => {
                self.net.cut(at, other);
                self.truth.counts.one_way += 1;
                self.heal_later();
            }
            Trouble::Flap if other != at => {
                let period = millis(&mut self.rng, 5, 700);
                self.net.flap(self.now, at, other, period);
                if self.rng.coin() {
                    self.net.flap(self.now, other, at, period);
                }
                self.truth.counts.flapping += 1;
                self.heal_later();
            }
            Trouble::Reset if other != at => {
                self.net.reset(at, other);
                self.truth.counts.resets += 1;
                self.unreachable(at, other)?;
                self.unreachable(other, at)?;
            }
            Trouble::OneWay | Trouble::Flap | Trouble::Reset => {}
            Trouble::Weather => {
                let rng = &mut self.rng;
                let weather = Weather {
                    delay_max: millis(rng, 1, 60),
                    late_max: millis(rng, 60, 900),
                    lose: *rng.pick(&[0, 4, 10, 30]),
                    repeat: *rng.pick(&[0, 4, 10, 30]),
                    late: *rng.pick(&[0, 4, 10, 30]),
                    ..Weather::default()
                };
                self.net.set_weather(weather);
                self.heal_later();
            }
            Trouble::Slow => {
                let often = self.rng.between(1, 6);
                let by = millis(&mut self.rng, 20, 1_500);
                self.faults(at, vec![(Fault::Slow(by), often)]);
                self.truth.counts.slow += 1;
            }
            Trouble::Fail => {
                let errors = [DiskError::Io { errno: 5 }, DiskError::Full];
                let error = *self.rng.pick(&errors);
                let often = self.rng.between(1, 30);
                self.faults(at, vec![(Fault::Fails(error), often)]);
            }
            Trouble::Wipe => {
                self.wipe(at)?;
            }
            Trouble::Jump => {
                let most = *self.rng.pick(&[50_i64, 3_000, 3_600_000]);
                let width = u64::try_from(2 * most).unwrap_or(1);
                let by = i64::try_from(self.rng.below(width)).unwrap_or(0) - most;
                self.set_wall(at, by);
                self.truth.counts.jumps += 1;
            }
        }
        Ok(())
    }

    fn lose_power(&mut self, at: usize) -> Result<(), Violation> {
        let mode = *self.rng.pick(&CrashMode::ALL);
        self.crash(at, mode)
    }

    fn heal_later(&mut self) {
        let after = millis(&mut self.rng, 20, 2_500);
        self.later(after, Event::Heal);
    }

    /// What goes wrong with a disk's requests, for a while.
    fn faults(&mut self, at: usize, often: Vec<(Fault, u64)>) {
        let plan = FaultPlan {
            often,
            ..FaultPlan::default()
        };
        self.set_faults(at, plan);
        let after = millis(&mut self.rng, 50, 2_000);
        self.later(after, Event::DiskIsFine(at));
    }
}
