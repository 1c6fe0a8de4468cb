//! The end of a world: everything that was promised is looked for.

use core::time::Duration;

use pinion_simkit::{CrashMode, FaultPlan};
use pinion_types::ResourceKind;

use super::super::player::{Player, Role, Subscriber, Undertaker, Worker};
use super::{NodeWorld, SETTLE_TURNS_MAX};
use crate::{Violation, promise};

impl NodeWorld {
    /// The disk is sound again, the node starts anew, and everything that was
    /// promised is looked for.
    pub(crate) fn finish(&mut self) -> Result<(), Violation> {
        self.disk.set_faults(FaultPlan::default());
        self.finishing = true;
        let mode = *self.rng.pick(&CrashMode::ALL);
        if self.failed || self.rng.coin() {
            self.crash(mode)?;
        }
        // What was tried is tried to the end.
        self.until("what was published is never acknowledged", |world| {
            world.players.iter().all(Player::is_done)
        })?;
        self.tolerates_failure = false;
        self.drain()?;
        self.read_streams()?;
        self.sweep_queues()?;
        promise!(
            self.disk.violations().is_empty(),
            "the disk was misused: {:?}",
            self.disk.violations()
        );
        self.truth.counts.faults = self.disk.stats().faults;
        Ok(())
    }

    fn until(&mut self, otherwise: &str, done: impl Fn(&Self) -> bool) -> Result<(), Violation> {
        for _ in 0..SETTLE_TURNS_MAX {
            if done(self) {
                return Ok(());
            }
            if self.failed {
                // What was asked of the disk before it was sound again failed.
                self.crash(CrashMode::Clean)?;
            }
            for id in 0..self.players.len() {
                if self.rng.one_in(3) {
                    self.play(id, false)?;
                }
            }
            let by = if self.rng.one_in(20) {
                self.quiet()?;
                self.rng.below(2_000_000)
            } else {
                self.rng.below(200)
            };
            self.turn(Duration::from_micros(by))?;
        }
        let stuck = self.players.iter().filter(|player| !player.is_done());
        let stuck: Vec<String> = stuck.map(ToString::to_string).collect();
        Err(Violation::new(format!("{otherwise}: {stuck:?}")))
    }

    /// A new subscriber of every partition sees everything that is known, in
    /// order, without a gap.
    fn read_streams(&mut self) -> Result<(), Violation> {
        let keys: Vec<_> = self.truth.streams.keys().copied().collect();
        for (resource, partition) in keys {
            let role = Role::Subscriber(Subscriber::default());
            let id = self.add_player(resource, partition, role);
            let end = self.truth.streams[&(resource, partition)].end();
            let missing = format!("stream {resource}/{partition} is not readable to {end}");
            self.until(&missing, |world| match &world.players[id].role {
                Role::Subscriber(subscriber) => subscriber.reached() >= end,
                _ => false,
            })?;
        }
        Ok(())
    }

    /// Takes and acknowledges every message, lists the dead, and compares.
    fn sweep_queues(&mut self) -> Result<(), Violation> {
        let keys: Vec<_> = self.truth.queues.keys().copied().collect();
        for (resource, partition) in keys {
            if self.plan.resources[resource].kind != ResourceKind::Queue {
                continue;
            }
            // Whoever holds something lets go of it.
            for id in 0..self.players.len() {
                let mine = self.players[id].resource == resource;
                if mine && matches!(self.players[id].role, Role::Worker(_)) {
                    self.retire(id);
                }
            }
            let sweeper = self.add_player(resource, partition, Role::Worker(Worker::sweeper()));
            let name = format!("queue {resource}/{partition} never runs dry");
            self.until(&name, |world| match &world.players[sweeper].role {
                Role::Worker(worker) => worker.is_dry(),
                _ => false,
            })?;
            let undertaker = Role::Undertaker(Undertaker::default());
            let undertaker = self.add_player(resource, partition, undertaker);
            let name = format!("the dead of {resource}/{partition} are never listed");
            self.until(&name, |world| world.players[undertaker].is_done())?;
            self.truth.queues[&(resource, partition)]
                .all_accounted_for()
                .map_err(|v| v.within(format_args!("queue {resource}/{partition}")))?;
        }
        Ok(())
    }

    /// A worker disconnects for good and becomes a reader of nothing.
    fn retire(&mut self, id: usize) {
        if let Some(conn) = self.links[id].take() {
            if let Some(client) = self.clients.remove(&conn)
                && client.closed.is_none()
            {
                let core = &mut self.cores[client.core];
                core.start_turn(self.clock.now(), self.clock.wall());
                core.handle_closed(conn);
            }
            self.players[id].lost(&mut self.truth);
        }
        self.players[id].role = Role::Worker(Worker::retired());
    }
}
