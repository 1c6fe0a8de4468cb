//! The end of a world: every trouble ends, and what was promised for then must come.

use core::time::Duration;

use pinion_metadata::Metadata;
use pinion_plane::Plane;
use pinion_simkit::{FaultPlan, Weather};

use super::{Event, World};
use crate::{Violation, promise};

/// Time within which everybody agrees when nothing goes wrong any more: an election with a
/// slow disk waits five seconds more, a purge until its grace is over.
const AGREE: Duration = Duration::from_secs(40);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(250);
/// Looks in a row that find nothing to come.
const LOOKS: u32 = 3;

impl World {
    /// Ends every trouble and waits until all is well.
    pub(in crate::plane) fn finish(&mut self) -> Result<(), Violation> {
        self.note("calm", &[]);
        self.calm = true;
        self.calm_since = Some(self.now);
        self.net.heal();
        self.net.set_weather(Weather::default());
        for at in 0..self.nodes.len() {
            self.nodes[at].disk.set_faults(FaultPlan::default());
            if self.nodes[at].paused {
                self.resume(at)?;
            }
            if self.nodes[at].plane.is_none() {
                self.start(at)?;
            }
        }
        let end = self.now + AGREE;
        let mut still = 0_u32;
        loop {
            let why = self.disagreement();
            promise!(
                why.is_none() || self.now < end,
                "nothing goes wrong any more, and {}",
                why.unwrap_or_default()
            );
            still = if why.is_none() { still + 1 } else { 0 };
            // Compared at once: what is due may be done at any later moment, and is then
            // with one member before it is with the others.
            if still == LOOKS {
                return self.compare();
            }
            // Who looks for a node to follow looks again.
            for client in 0..self.clients.len() {
                if self.clients[client].watch.is_none() {
                    self.later(Duration::ZERO, Event::Client(client));
                }
            }
            self.live(self.now + LOOK)?;
        }
    }

    /// What is still to come, if anything.
    fn disagreement(&self) -> Option<String> {
        let Some(leader) = self.leader() else {
            return Some("nobody leads".to_owned());
        };
        let machine = |at: usize| self.nodes[at].plane.as_ref().and_then(Plane::metadata);
        let index = |at| machine(at).map(Metadata::applied_index);
        for (at, node) in self.nodes.iter().enumerate() {
            if !node.ready {
                return Some(format!("member {at} does not catch up"));
            }
            if index(at) != index(leader) {
                let (has, leads) = (index(at), index(leader));
                return Some(format!(
                    "member {at} is at entry {has:?}, the leader at {leads:?}"
                ));
            }
            if !node.requests.is_empty() {
                return Some(format!("member {at} owes answers"));
            }
        }
        if let Some((plane, machine)) = self.nodes[leader].plane.as_ref().zip(machine(leader)) {
            let voters = plane.status().group.voters;
            if voters.len() != self.plan.voters() || machine.members().count() != self.nodes.len() {
                let members: Vec<_> = machine.members().collect();
                return Some(format!("{voters:?} vote, and the members are {members:?}"));
            }
            if let Some((name, _)) = machine.brokers().find(|(_, broker)| broker.down.is_some()) {
                return Some(format!("broker {name} is down"));
            }
        }
        let newest = self.truth.newest();
        for (number, client) in self.clients.iter().enumerate() {
            if !client.rests() {
                return Some(format!("client {number} is not answered: {client:?}"));
            }
            if client.at != newest {
                let at = client.at;
                return Some(format!(
                    "client {number} follows and is at {at} of {newest}"
                ));
            }
        }
        None
    }

    /// Everybody has the same, and it is what was shown.
    fn compare(&mut self) -> Result<(), Violation> {
        self.truth.ends()?;
        for (at, node) in self.nodes.iter().enumerate() {
            let plane = node.plane.as_ref();
            let Some((plane, machine)) = plane.and_then(|one| Some((one, one.metadata()?))) else {
                return Err(Violation::new(format!("member {at} is gone")));
            };
            self.truth.snapshot(at, machine)?;
            let version = machine.version().0;
            promise!(
                version == self.truth.newest(),
                "member {at} has version {version}, and {} was shown",
                self.truth.newest()
            );
            if let Err(broken) = machine.check() {
                return Err(Violation::new(format!("member {at}: {broken}")));
            }
            let requests = plane.status().requests;
            promise!(requests == 0, "member {at} keeps {requests} requests");
            let violations = node.disk.violations();
            promise!(violations.is_empty(), "member {at}'s disk: {violations:?}");
        }
        let hashes = self.nodes.iter().filter_map(|node| {
            let machine = node.plane.as_ref()?.metadata()?;
            Some(machine.state_hash())
        });
        let hashes: Vec<u64> = hashes.collect();
        promise!(
            hashes.windows(2).all(|two| two[0] == two[1]),
            "at rest the members' states are {hashes:x?}"
        );
        self.truth.counts.unknown_done = self.truth.unknown_done();
        for hash in hashes {
            self.note("state", &[hash]);
        }
        Ok(())
    }
}
