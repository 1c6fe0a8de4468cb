//! The end of a world: everything that was promised is looked for.

use core::time::Duration;

use pinion_simkit::{CrashMode, FaultPlan};

use super::super::player::{
    Inspector, Manner, Player, Report, Role, Subscriber, TENANT, Undertaker, Worker,
};
use super::super::truth::{GroupName, Key, Retention, Wish};
use super::{NodeWorld, SETTLE_TURNS_MAX};
use crate::{Violation, promise};

/// Retention is looked at once a second.
const RETENTION_WITHIN: Duration = Duration::from_secs(3);

/// Turns of a tenth of a second after which a node is at rest.
const REST_TURNS: u32 = 100;

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
        self.check_memory()?;
        promise!(
            self.disk.violations().is_empty(),
            "the disk was misused: {:?}",
            self.disk.violations()
        );
        self.truth.counts.faults = self.disk.stats().faults;
        Ok(())
    }

    pub(super) fn until(
        &mut self,
        otherwise: &str,
        done: impl Fn(&Self) -> bool,
    ) -> Result<(), Violation> {
        for _ in 0..SETTLE_TURNS_MAX {
            if done(self) || self.noticed.is_some() {
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

    /// A new subscriber of every partition sees everything that is there, in
    /// order, without a gap; and what has had its time goes.
    fn read_streams(&mut self) -> Result<(), Violation> {
        let keys: Vec<_> = self.truth.streams.keys().copied().collect();
        for key in keys {
            let (resource, partition) = key;
            let inspector = self.add_inspector(key);
            let end = self.report(inspector)?.end;
            let role = Role::Subscriber(Subscriber::default());
            let id = self.add_player(resource, partition, role);
            let missing = format!("stream {resource}/{partition} is not readable to {end}");
            self.until(&missing, |world| match &world.players[id].role {
                Role::Subscriber(subscriber) => {
                    subscriber.reached() >= end || world.truth.streams[&key].first() >= end
                }
                _ => false,
            })?;
            self.read_some(key, end)?;
            self.check_retention(key, inspector)
                .map_err(|v| v.within(format_args!("stream {resource}/{partition}")))?;
        }
        Ok(())
    }

    /// Now that all is known: who wants some of it gets that for so much credit and
    /// no more, and who begins at a time gets everything since.
    fn read_some(&mut self, key: Key, end: u64) -> Result<(), Violation> {
        let (resource, partition) = key;
        let reached = |world: &Self, id: usize| match &world.players[id].role {
            Role::Subscriber(subscriber) => subscriber.reached(),
            _ => 0,
        };
        let wish = *self.rng.pick(&Wish::SOME);
        let stream = &self.truth.streams[&key];
        let wanted: Vec<u64> = stream.wanted(wish, stream.first()).collect();
        if let Some(last) = wanted.last().copied() {
            let credit = u32::try_from(wanted.len()).expect("few records");
            let role = Role::Subscriber(Subscriber::exactly(wish, credit));
            let id = self.add_player(resource, partition, role);
            let missing =
                format!("stream {resource}/{partition} never gives what {wish:?} wants, to {last}");
            self.until(&missing, |world| {
                reached(world, id) > last || world.truth.streams[&key].first() > last
            })?;
        }
        let any = self.rng.index(1 << 20);
        if let Some(time) = self.truth.streams[&key].some_time(any) {
            let role = Role::Subscriber(Subscriber::since(time));
            let id = self.add_player(resource, partition, role);
            let missing = format!("stream {resource}/{partition} never gives all since {time}");
            self.until(&missing, |world| {
                reached(world, id) >= end || world.truth.streams[&key].first() >= end
            })?;
        }
        Ok(())
    }

    /// When nothing is published any more, what is too old or too much goes.
    fn check_retention(&mut self, key: Key, inspector: usize) -> Result<(), Violation> {
        let Retention { ms, bytes } = self.truth.streams[&key].retention;
        // Who sets the clock back keeps records for longer.
        if let Some(ms) = ms.filter(|_| self.truth.counts.jumps == 0) {
            self.rest(Duration::from_millis(ms) + RETENTION_WITHIN)?;
            let report = self.report(inspector)?;
            promise!(
                report.first == report.end,
                "records are kept for {ms} ms, {} to {} are there for longer",
                report.first,
                report.end
            );
        }
        if let Some(max) = bytes {
            self.rest(RETENTION_WITHIN)?;
            let first = self.report(inspector)?.first;
            let kept = self.truth.streams[&key].bytes_from(first);
            // Inside a sealed segment the place is estimated from the mean.
            let about = 2 * max + 2 * self.plan.body_max as u64;
            promise!(
                kept <= about,
                "{kept} bytes are kept from {first} on, {max} are allowed"
            );
        }
        Ok(())
    }

    /// Every group takes and acknowledges every message; the dead are listed,
    /// compared, and purged; then nothing is left.
    pub(super) fn sweep_queues(&mut self) -> Result<(), Violation> {
        let keys: Vec<_> = self.truth.queues.keys().copied().collect();
        for key in keys {
            let (resource, partition) = key;
            // A group that somebody is about to delete may still be there if the request
            // is lost with its connection: who asked is told first, so that it is known
            // which groups must run dry and which must hold nothing.
            let name = format!("queue {resource}/{partition} never says whether a group is there");
            self.until(&name, |world| world.players.iter().all(Player::is_done))?;
            // Whoever holds something lets go of it.
            for id in 0..self.players.len() {
                let mine = self.players[id].resource == resource;
                let consumes = matches!(self.players[id].role, Role::Worker(_) | Role::Tenant(_));
                if mine && consumes {
                    self.retire(id);
                }
            }
            let mut groups = self.plan.resources[resource].groups.clone();
            groups.extend(Some(TENANT).filter(|name| self.truth.queues[&key].has_group(name)));
            let each = |world: &mut Self, role: &dyn Fn(GroupName) -> Role| {
                let ids = groups.iter().map(|group| role(group)).collect::<Vec<_>>();
                let ids = ids.into_iter();
                ids.map(|role| world.add_player(resource, partition, role))
                    .collect::<Vec<usize>>()
            };
            let sweepers = each(self, &|group| Role::Worker(Worker::sweeper(group)));
            let name = format!("queue {resource}/{partition} never runs dry");
            self.until(&name, |world| {
                sweepers.iter().all(|id| match &world.players[*id].role {
                    Role::Worker(worker) => worker.is_dry(),
                    _ => false,
                })
            })?;
            let lists = |group| Role::Undertaker(Undertaker::new(group, Manner::Lists));
            let listing = each(self, &lists);
            let name = format!("the dead of {resource}/{partition} are never listed");
            self.until(&name, |world| world.players.iter().all(Player::is_done))?;
            if self.noticed.is_some() {
                return Ok(());
            }
            let listed = listing.iter().map(|id| match &self.players[*id].role {
                Role::Undertaker(undertaker) => undertaker.listed(),
                _ => 0,
            });
            let listed: u64 = listed.sum();
            let (now, jumps) = (self.clock.world_nanos(), self.truth.counts.jumps);
            self.truth.queues[&key]
                .all_accounted_for(now, jumps)
                .map_err(|v| v.within(format_args!("queue {resource}/{partition}")))?;
            let inspector = self.add_inspector(key);
            let report = self.report(inspector)?;
            if self.noticed.is_some() {
                return Ok(());
            }
            promise!(
                report.waiting == 0 && report.dead == listed && report.messages <= listed,
                "queue {resource}/{partition} is empty but for {listed} dead letters and says {report:?}"
            );
            let purges = |group| Role::Undertaker(Undertaker::new(group, Manner::Purges));
            each(self, &purges);
            let name = format!("the dead of {resource}/{partition} are never purged");
            self.until(&name, |world| world.players.iter().all(Player::is_done))?;
            let report = self.report(inspector)?;
            if self.noticed.is_some() {
                return Ok(());
            }
            promise!(
                report.messages + report.bytes + report.resident == 0,
                "queue {resource}/{partition} is empty and says {report:?}"
            );
        }
        Ok(())
    }

    /// When nothing is on its way, nothing is held for anybody.
    fn check_memory(&mut self) -> Result<(), Violation> {
        let held = |world: &Self| {
            let logs = world.cores.iter().flat_map(pinion_node::Core::log_stats);
            let waiting = logs.map(|(_, stats)| stats.pending_bytes + stats.reads_pending);
            let requests = world.cores.iter().map(pinion_node::Core::held_bytes);
            waiting.sum::<usize>() + requests.sum::<usize>()
        };
        for _ in 0..REST_TURNS {
            self.quiet()?;
            if held(self) == 0 {
                return Ok(());
            }
            self.turn(Duration::from_millis(100))?;
        }
        let left = held(self);
        promise!(left == 0, "a node at rest holds {left} bytes and reads");
        Ok(())
    }

    pub(super) fn add_inspector(&mut self, (resource, partition): Key) -> usize {
        let kind = self.plan.resources[resource].kind;
        self.add_player(resource, partition, Role::Inspector(Inspector::new(kind)))
    }

    /// An answer that was asked for from now on.
    pub(super) fn report(&mut self, inspector: usize) -> Result<Report, Violation> {
        let of = |world: &Self| match &world.players[inspector].role {
            Role::Inspector(inspector) => inspector.report.clone(),
            _ => Report::default(),
        };
        // The next one may have been asked before.
        let enough = of(self).answers + 2;
        self.until("a partition never says how it is", |world| {
            of(world).answers >= enough
        })?;
        Ok(of(self))
    }

    /// Time passes, and nobody does anything.
    fn rest(&mut self, time: Duration) -> Result<(), Violation> {
        const STEP: Duration = Duration::from_millis(250);
        let mut passed = Duration::ZERO;
        while passed < time {
            self.quiet()?;
            self.turn(STEP)?;
            passed += STEP;
        }
        self.quiet()
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Worlds in which a group is deleted while the end begins.
    const WORLDS: usize = 3;
    /// Times a tenant is asked to act until it deletes its group; it does one time in 30.
    const ACTS: usize = 2_000;

    /// A sound world in which nothing is on its way any more, and the players whose
    /// group is there and is to stay.
    fn at_its_end(seed: u64) -> (NodeWorld, Vec<usize>) {
        let mut world = NodeWorld::new(seed, false).unwrap();
        for _ in 0..300 {
            world.step().unwrap();
        }
        world.finishing = true;
        world
            .until("never done", |world| {
                world.players.iter().all(Player::is_done)
            })
            .unwrap();
        let has = |player: &&Player| {
            let key = (player.resource, player.partition);
            let queue = world.truth.queues.get(&key);
            matches!(player.role, Role::Tenant(_)) && queue.is_some_and(|q| q.has_group(TENANT))
        };
        let tenants = world.players.iter().filter(has).map(|player| player.id);
        let tenants = tenants.collect();
        (world, tenants)
    }

    #[test]
    fn a_group_whose_deletion_is_on_its_way_is_not_taken_for_gone() {
        let mut met = 0;
        for seed in 1..200 {
            let (mut world, tenants) = at_its_end(seed);
            // They ask, and no turn passes: nothing of it has come to the node.
            for id in &tenants {
                for _ in 0..ACTS {
                    if world.players[*id].is_done() {
                        world.play(*id, false).unwrap();
                    }
                }
                met += usize::from(!world.players[*id].is_done());
            }
            if !tenants.is_empty() {
                let swept = world.sweep_queues();
                assert!(swept.is_ok(), "seed {seed}: {swept:?}");
            }
            if met >= WORLDS {
                return;
            }
        }
        panic!("only {met} groups were being deleted");
    }
}
