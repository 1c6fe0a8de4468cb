//! Brokers live, and the leader knows.

use pinion_metadata::command::BrokerDown;
use pinion_metadata::{Change, Command, MetaError, ObjectKey};
use pinion_types::Monotonic;

use super::{Plane, Proposer, Ready};
use crate::limits::DUTIES_AT_ONCE;
use crate::meet::Beat;
use crate::names::PeerName;
use crate::peer::PlaneMessage;
use crate::request::PlaneError;

impl Plane {
    /// A broker that is no node of this cluster's control plane says that it lives; it is
    /// passed on to whoever leads, and may be lost on the way.
    ///
    /// # Errors
    /// It is not listened to. [`MetaError::NotFound`], [`MetaError::OtherIncarnation`] and, of
    /// one that was said to be down, [`MetaError::BrokerUnavailable`]: it has to register.
    /// This node may be behind for a moment after it did.
    pub fn handle_beat(&mut self, broker: &PeerName, incarnation: u64) -> Result<(), PlaneError> {
        if let Some(closed) = &self.closed {
            return Err(closed.clone());
        }
        let machine = self.machine.as_ref().filter(|_| self.ready == Ready::Yes);
        let Some(machine) = machine else {
            return Err(PlaneError::NotReady);
        };
        let key = ObjectKey::broker(broker.as_str());
        let Some(found) = machine.get(&key).and_then(|object| object.broker()) else {
            return Err(MetaError::NotFound(key).into());
        };
        if found.incarnation != incarnation {
            let incarnation = found.incarnation;
            return Err(MetaError::OtherIncarnation { incarnation }.into());
        }
        if found.down.is_some() {
            return Err(MetaError::BrokerUnavailable(found.number).into());
        }
        let beat = Beat {
            broker: broker.clone(),
            incarnation,
        };
        if self.leads() {
            self.take_beat(&beat);
            return Ok(());
        }
        match self.elsewhere() {
            Some(leader) => {
                self.tell(leader, PlaneMessage::Beat(beat));
                Ok(())
            }
            None => Err(PlaneError::NO_LEADER),
        }
    }

    /// Who leads, if another does.
    fn elsewhere(&self) -> Option<PeerName> {
        let leader = self.leader.filter(|leader| Some(*leader) != self.member)?;
        self.nodes.names.name(leader).cloned()
    }

    /// A broker lives. One that is down stays so until it registers.
    pub(super) fn take_beat(&mut self, beat: &Beat) {
        let Some(machine) = self.machine.as_ref().filter(|_| self.leads()) else {
            return;
        };
        let name = beat.broker.as_str();
        let key = ObjectKey::broker(name);
        let broker = machine.get(&key).and_then(|object| object.broker());
        if broker.is_some_and(|broker| broker.incarnation == beat.incarnation) {
            self.beats.heard(self.now, name, beat.incarnation);
        }
    }

    /// Who leads is another, or this node has caught up.
    pub(super) fn follow_leader(&mut self) {
        let leads = self.leads();
        self.beats.set_leads(self.now, leads);
        let elsewhere = self.elsewhere().is_some() && self.ready != Ready::No;
        self.beats.set_leader(self.now, elsewhere);
    }

    /// The metadata changed.
    pub(super) fn brokers_changed(&mut self, changes: &[Change]) {
        let Some(machine) = &self.machine else {
            return;
        };
        let is_node = |key: &ObjectKey| matches!(key, ObjectKey::Broker(_) | ObjectKey::Member(_));
        if changes.iter().any(|change| is_node(&change.key)) {
            self.uses.brokers_changed();
        }
        for change in changes {
            if matches!(change.key, ObjectKey::Broker(_) | ObjectKey::Settings) {
                self.beats.changed(self.now, machine, &change.key);
            }
        }
    }

    /// Says that this node lives, or sees who does not; whether anything was given to the
    /// group.
    pub(super) fn give_beats(&mut self) -> bool {
        let Some(machine) = self.machine.as_ref() else {
            return false;
        };
        let me = &self.nodes.facts;
        if self.beats.speaks(self.now, &machine.settings())
            && let Some(leader) = self.elsewhere()
        {
            let beat = Beat {
                broker: me.name.clone(),
                incarnation: me.incarnation,
            };
            self.tell(leader, PlaneMessage::Beat(beat));
        }
        let Some(machine) = self.machine.as_ref().filter(|_| self.leads()) else {
            return false;
        };
        let me = self.nodes.facts.name.as_str();
        let missed = self.beats.missed(self.now, machine, me, DUTIES_AT_ONCE);
        let mut given = false;
        for one in missed {
            let command = Command::BrokerDown(BrokerDown {
                name: one.broker,
                incarnation: one.incarnation,
            });
            given |= self.propose_duty(command, Proposer::Duty);
        }
        given
    }

    pub(super) fn beats_deadline(&self) -> Option<Monotonic> {
        let runs = self.closed.is_none() && self.machine.is_some();
        self.beats.next_deadline().filter(|_| runs)
    }
}
