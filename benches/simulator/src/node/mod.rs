//! A whole node and its clients: the same `Core` that the server runs, driven
//! through its public interface over in-memory streams, on one simulated disk.
//!
//! `world` is the node, its control thread and its end; `client` a connection
//! and `player` what a client program does with it; `truth` what clients were
//! told, and the oracles over it.

mod client;
mod player;
mod truth;
mod world;

use core::time::Duration;

use pinion_commitlog::DiskError;
use pinion_simkit::{CrashMode, Fault, FaultPlan};

pub use truth::NodeCounts;
pub use world::LossyCounts;
use world::NodeWorld;

use crate::Violation;

/// Steps of one world unless somebody asks for fewer.
pub const STEPS: u64 = 1_500;

/// A violation made on purpose: the disk does what the world takes to be
/// impossible, and the oracles must say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Injection {
    /// Some writes are said to be durable and are lost with the next crash.
    LostWrite,
    /// Some writes land one block further.
    StrayWrite,
    /// Some reads have one bit wrong.
    FlippedBit,
}

impl Injection {
    fn faults(self) -> FaultPlan {
        let often = match self {
            Self::LostWrite => (Fault::NotDurable, 12),
            Self::StrayWrite => (Fault::WrittenElsewhere(1), 60),
            Self::FlippedBit => (Fault::ReadFlipped, 4),
        };
        FaultPlan {
            often: vec![often],
            ..FaultPlan::default()
        }
    }
}

/// Runs the world of `seed` for `steps` steps and then to its end. Gives what
/// was done and the hash of everything that happened.
///
/// # Errors
/// The first broken promise, with the last events before it.
pub fn run(
    seed: u64,
    steps: u64,
    injection: Option<Injection>,
) -> Result<(NodeCounts, u64), Violation> {
    let mut world = NodeWorld::new(seed, false)?;
    if let Some(injection) = injection {
        world.disk.set_faults(injection.faults());
    }
    let result = live(&mut world, steps, injection.is_some()).and_then(|()| world.finish());
    result.map_err(|violation| violation.after(&world.trace))?;
    let mut counts = world.truth.counts;
    let acked = world.truth.queues.values().map(|queue| queue.counts().0);
    counts.acked = acked.sum();
    Ok((counts, world.trace.hash()))
}

/// Runs the world of `seed` on a disk that says durable and is not, loses power
/// after `steps` steps, and looks at what is left.
///
/// # Errors
/// The first broken promise, with the last events before it.
pub fn run_lossy(seed: u64, steps: u64) -> Result<(LossyCounts, u64), Violation> {
    let mut world = NodeWorld::new(seed, true)?;
    let mut work = || {
        let sound = world.rng.below(steps / 2 + 1);
        for step in 0..steps {
            if step == sound {
                world.lie();
            }
            world.step()?;
        }
        world.find_out()
    };
    let result = work();
    let counts = result.map_err(|violation| violation.after(&world.trace))?;
    Ok((counts, world.trace.hash()))
}

fn live(world: &mut NodeWorld, steps: u64, injected: bool) -> Result<(), Violation> {
    // Most worlds have one kind of trouble more often than the others.
    let crash_every = *world.rng.pick(&[0, 150, 400, 400]);
    let drain_every = *world.rng.pick(&[0, 0, 500]);
    let jump_every = *world.rng.pick(&[0, 0, 300]);
    let fault_every = *world.rng.pick(&[0, 0, 0, 400]);
    let slow_every = *world.rng.pick(&[0, 0, 300]);
    for _ in 0..steps {
        if world.rng.one_in(crash_every) || world.failed {
            let mode = *world.rng.pick(&CrashMode::ALL);
            world.crash(mode)?;
        } else if world.rng.one_in(drain_every) {
            world.drain()?;
        } else if world.rng.one_in(jump_every) {
            world.jump();
        } else if injected {
            // Nothing else is wrong with the disk.
        } else if world.rng.one_in(fault_every) {
            fail_something(world);
        } else if world.rng.one_in(slow_every) {
            let by = Duration::from_millis(world.rng.between(10, 5_000));
            let next = world.disk.stats().submitted + 1;
            world
                .disk
                .set_faults(FaultPlan::once(next, Fault::Slow(by)));
        }
        world.step()?;
    }
    Ok(())
}

/// One of the next requests fails.
fn fail_something(world: &mut NodeWorld) {
    let errors = [DiskError::Io { errno: 5 }, DiskError::Full];
    let error = *world.rng.pick(&errors);
    let number = world.disk.stats().submitted + 1 + world.rng.below(20);
    world.tolerates_failure = true;
    world
        .disk
        .set_faults(FaultPlan::once(number, Fault::Fails(error)));
}
