//! What tenants use on this node and on the others.

use pinion_metadata::ObjectKey;
use pinion_types::Monotonic;

use super::{Plane, Ready};
use crate::names::PeerName;
use crate::output::PlaneOutput;
use crate::peer::PlaneMessage;
use crate::usage::{Usage, UseRow};

impl Plane {
    /// What tenants use on this node now, in place of what it was: the other nodes are told,
    /// soon. [`PlaneOutput::Elsewhere`] is what is used there. A row of a tenant or a
    /// namespace that is there twice counts once.
    pub fn handle_use(&mut self, rows: Vec<UseRow>) {
        self.uses.set(rows);
    }

    /// What the last [`PlaneOutput::Elsewhere`] said.
    #[must_use]
    pub fn elsewhere_used(&self) -> (u64, &[UseRow]) {
        self.uses.told()
    }

    pub(super) fn take_usage(&mut self, from: &PeerName, usage: Usage) {
        let Some(machine) = &self.machine else {
            return;
        };
        let key = ObjectKey::broker(from.as_str());
        // One that this node has not read of yet says it again.
        if let Some(broker) = machine.get(&key).and_then(|object| object.broker()) {
            self.uses.hear(self.now, from, broker.incarnation, usage);
        }
    }

    /// Tells the others what is used here, and the owner what is used there.
    pub(super) fn share_usage(&mut self) {
        let Some(machine) = self.machine.as_ref().filter(|_| self.shares()) else {
            return;
        };
        let me = self.nodes.facts.name.as_str();
        if let Some((cores, used)) = self.uses.elsewhere(self.now, machine, me) {
            self.outputs
                .push_back(PlaneOutput::Elsewhere { cores, used });
        }
        let peers: Vec<PeerName> = self.nodes.names.peers().into_keys().collect();
        if peers.is_empty() {
            self.uses.keep();
        }
        for usage in self.uses.poll(self.now) {
            for peer in &peers {
                self.tell(peer.clone(), PlaneMessage::Usage(usage.clone()));
            }
        }
    }

    /// Whether it says anything: before it has caught up, those that it knows may be gone.
    fn shares(&self) -> bool {
        self.closed.is_none() && self.ready != Ready::No
    }

    pub(super) fn usage_deadline(&self) -> Option<Monotonic> {
        let runs = self.machine.is_some() && self.shares();
        self.uses.next_deadline().filter(|_| runs)
    }
}
