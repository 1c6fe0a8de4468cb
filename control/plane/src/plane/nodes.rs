//! This node among the others: who they are, and its broker's entry in the metadata.

use std::collections::BTreeMap;
use std::sync::Arc;

use pinion_metadata::command::RegisterBroker;
use pinion_metadata::{BrokerNumber, Change, Command, Envelope, ObjectKey};
use pinion_raft_group::{MemberId, Role};
use pinion_types::Monotonic;

use super::writes::Attempt;
use super::{Plane, Proposer, Ready};
use crate::duties;
use crate::formation::{Formation, in_order};
use crate::limits::REGISTER_RETRY;
use crate::names::{Names, PeerList, PeerName};
use crate::node::{ClusterConfig, NodeFacts};
use crate::output::{PlaneNotice, PlaneOutput};
use crate::request::PlaneError;

/// What a plane knows of nodes.
#[derive(Debug)]
pub(crate) struct Nodes {
    pub(super) facts: NodeFacts,
    cluster: Option<ClusterConfig>,
    /// The nodes that begin the cluster, by name, and a hash of them.
    pub(super) list: Vec<(PeerName, Box<str>)>,
    pub(super) list_hash: u64,
    /// This data directory.
    pub(super) store: [u8; 16],
    /// `None` of a node alone. Used while it is nobody.
    pub(super) formation: Option<Formation>,
    /// Nodes that are no members and ask: where each is, and until when that counts.
    pub(super) guests: BTreeMap<PeerName, (Box<str>, Monotonic)>,
    /// When a leader compares the group's members with the metadata's next.
    pub(super) members_at: Option<Monotonic>,
    pub(super) names: Names,
    /// Who takes part in the group.
    pub(super) conf: Vec<MemberId>,
    /// Whom the owner was told to keep connected to.
    told: PeerList,
    pub(super) broker: Option<BrokerNumber>,
    /// The metadata has the broker as this node is.
    registered: bool,
    registration: Registration,
}

/// How far this node's registration is.
#[derive(Clone, Copy, Debug, Default)]
struct Registration {
    /// The proposal that is under way.
    number: Option<u64>,
    /// When it is asked for again.
    again: Option<Monotonic>,
    /// It was tried at least once in this life, and nothing came of it yet.
    tried: bool,
}

impl Registration {
    /// Whether it is to be asked for, or asked for again.
    fn is_due(&self, now: Monotonic) -> bool {
        self.again.is_none_or(|again| again <= now)
    }
}

impl Nodes {
    pub(crate) fn new(facts: NodeFacts, cluster: Option<ClusterConfig>, store: [u8; 16]) -> Self {
        let initial = cluster.as_ref().map_or(&[][..], |cluster| &cluster.initial);
        let alone = initial.len() <= 1 && initial.iter().all(|(name, _)| *name == facts.name);
        let (list, list_hash) = in_order(initial);
        let formation = cluster.as_ref().filter(|_| !alone);
        let formation = formation.map(|of| Formation::new(facts.name.clone(), store, of));
        Self {
            names: Names::new(facts.name.clone()),
            facts,
            list,
            list_hash,
            formation,
            cluster,
            store,
            guests: BTreeMap::new(),
            members_at: None,
            conf: Vec::new(),
            told: Arc::new([]),
            broker: None,
            registered: false,
            registration: Registration::default(),
        }
    }

    /// This node, as commands and rows name where they came from; 0 while it is nobody's.
    pub(super) fn origin(&self) -> BrokerNumber {
        self.broker.unwrap_or_default()
    }

    /// Whether it is never to vote.
    pub(super) fn is_observer(&self) -> bool {
        self.cluster
            .as_ref()
            .is_some_and(|cluster| cluster.observer)
    }

    /// Where the others reach this node.
    pub(super) fn address(&self) -> Box<str> {
        let listed = self.cluster.as_ref().and_then(|cluster| {
            let address = cluster.address(&self.facts.name)?;
            Some(address.into())
        });
        listed.unwrap_or_else(|| self.facts.address.clone())
    }
}

impl Plane {
    // ------------------------------------------------------------------- names

    /// The metadata or the group's members are others.
    pub(super) fn update_names(&mut self) {
        let status = self.group.status();
        self.nodes.conf = status.voters;
        self.nodes.conf.extend(status.learners);
        // What differs from the metadata now is looked at by the leader at once.
        self.nodes.members_at = Some(self.now);
        if let Some(machine) = &self.machine {
            self.cluster = Some(machine.cluster());
            self.nodes.names.update(machine, &self.nodes.conf);
            let key = ObjectKey::broker(self.nodes.facts.name.as_str());
            let broker = machine.get(&key).and_then(|object| object.broker());
            let facts = &self.nodes.facts;
            let right = broker.is_some_and(|broker| {
                broker.incarnation == facts.incarnation
                    && broker.down.is_none()
                    && broker.facts == facts.broker_facts()
            });
            self.nodes.broker = broker.map(|broker| broker.number);
            self.nodes.registered = right;
            self.audit.set_origin(self.nodes.origin());
        }
        self.tell_peers();
    }

    /// The metadata changed: whoever is named by it may be named otherwise.
    pub(super) fn nodes_changed(&mut self, changes: &[Change]) {
        let named =
            |change: &Change| matches!(change.key, ObjectKey::Member(_) | ObjectKey::Broker(_));
        if changes.iter().any(named) {
            self.update_names();
        }
    }

    pub(super) fn tell_peers(&mut self) {
        let nodes = &self.nodes;
        let mut peers = nodes.names.peers();
        if self.machine.is_none()
            && let Some(formation) = &nodes.formation
        {
            peers.extend(formation.peers());
        }
        for (guest, (address, _)) in &nodes.guests {
            if *guest != nodes.facts.name {
                peers
                    .entry(guest.clone())
                    .or_insert_with(|| address.clone());
            }
        }
        let peers: PeerList = peers.into_iter().collect();
        if peers != self.nodes.told {
            self.nodes.told = peers.clone();
            self.outputs.push_back(PlaneOutput::Peers(peers));
        }
    }

    // ------------------------------------------------------------ registration

    /// The life of this node's broker that the metadata knows.
    fn known_life(&self) -> Option<u64> {
        let key = ObjectKey::broker(self.nodes.facts.name.as_str());
        let broker = self.machine.as_ref()?.get(&key)?.broker()?;
        Some(broker.incarnation)
    }

    /// What was decided before this life is known now.
    pub(super) fn caught_up(&mut self) {
        self.ready = Ready::Caught;
        self.uses.brokers_changed();
        self.follow_leader();
    }

    /// Registers this node's broker where it is not yet, or not any more; whether anything
    /// was given to the group.
    pub(super) fn give_registration(&mut self) -> bool {
        if !matches!(self.ready, Ready::Caught | Ready::Yes) {
            return false;
        }
        let mut given = false;
        if self.nodes.registered {
            self.nodes.registration = Registration::default();
        } else if self.nodes.registration.is_due(self.now) {
            // Nobody else runs on this node's data directory: the life before it is over.
            let gone = self.known_life();
            given = self.register(gone);
        }
        let known = self.nodes.broker.is_some() && self.nodes.registration.tried;
        if self.ready == Ready::Caught && (known || self.nodes.registered) {
            self.ready = Ready::Yes;
            self.follow_leader();
            self.outputs.push_back(PlaneOutput::Ready);
            // A leader may have waited for this.
            given = true;
        }
        given
    }

    /// The command that registers this node's broker.
    pub(super) fn registration(&self, gone: Option<u64>) -> Envelope {
        let facts = &self.nodes.facts;
        let command = Command::RegisterBroker(RegisterBroker {
            name: facts.name.as_str().into(),
            facts: facts.broker_facts(),
            incarnation: facts.incarnation,
            gone,
        });
        self.envelope(duties::PRINCIPAL.into(), command)
    }

    fn register(&mut self, gone: Option<u64>) -> bool {
        if let Some(late) = self.nodes.registration.number.take() {
            self.proposals.remove(&late);
            self.nodes.registration.tried = true;
        }
        let elsewhere = self.leader.filter(|leader| Some(*leader) != self.member);
        if elsewhere.is_none() && self.role != Role::Leader {
            return false;
        }
        let mut envelope = self.registration(gone);
        let number = self.next_number();
        self.nodes.registration.again = Some(self.now + REGISTER_RETRY);
        let attempt = match elsewhere {
            Some(leader) => self.forward(leader, number, &envelope),
            None => self.propose_own(number, &mut envelope),
        };
        match attempt {
            Attempt::Proposed => {
                self.sent_to(number, Proposer::Registration, elsewhere);
                self.nodes.registration.number = Some(number);
                true
            }
            Attempt::Later => false,
            Attempt::Refused(error) => {
                self.not_registered(Some(error));
                false
            }
        }
    }

    /// A registration came to its end. If the broker is not as it should be then, it is
    /// tried again later.
    pub(super) fn not_registered(&mut self, why: Option<PlaneError>) {
        let registration = &mut self.nodes.registration;
        registration.number = None;
        if let Some(error) = why {
            registration.tried = true;
            if !matches!(error, PlaneError::NoLeader { .. }) {
                self.notice(PlaneNotice::NotRegistered(error));
            }
        }
    }

    /// When a registration is to be asked for again.
    pub(super) fn nodes_deadline(&self) -> Option<Monotonic> {
        let waits = matches!(self.ready, Ready::Caught | Ready::Yes);
        let led = self.leader.is_some() && self.closed.is_none();
        let due = self.nodes.registration.again.filter(|_| waits && led)?;
        (!self.nodes.registered).then_some(due)
    }
}
