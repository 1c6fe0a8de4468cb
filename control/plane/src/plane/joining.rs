//! Nodes that are nobody yet, here or elsewhere: they begin a cluster together, or are
//! taken into one that is there.

use pinion_metadata::broker::{BrokerFacts, Capacity};
use pinion_metadata::command::{AddMember, ReplaceMember, SetMemberRole};
use pinion_metadata::member::{Member, MemberRole};
use pinion_metadata::{Command, Envelope, Founder, MemberNumber, ObjectKey};
use pinion_raft_group::{ChangeError, MemberId, ProposalId};
use pinion_types::Monotonic;

use super::writes::Attempt;
use super::{Plane, Proposer};
use crate::duties;
use crate::formation::{Step, cluster_of};
use crate::limits::{GUEST_FOR, GUESTS_MAX, MEMBERS_LOOK};
use crate::meet::{GUIDES_MAX, Join, JoinAnswer, JoinVerdict, Meet, MeetState};
use crate::members;
use crate::names::PeerName;
use crate::output::PlaneNotice;
use crate::peer::PlaneMessage;

/// What is written of a founder's broker until it registers: that there is one.
const UNKNOWN: Capacity = Capacity {
    max_shards: 1,
    max_connections: 1,
    cores: 1,
    logs: 1,
    memory_per_core: 1,
};

impl Plane {
    // ------------------------------------------------------------ a node that is nobody

    /// A node that is nobody begins a cluster, with others or alone, or asks to be in one.
    pub(super) fn begin(&mut self) {
        if self.member.is_some() || self.closed.is_some() {
            return;
        }
        let Some(formation) = &mut self.nodes.formation else {
            return self.begin_alone();
        };
        for step in formation.turn(self.now) {
            match step {
                Step::Ask(peer) => {
                    let meet = self.meet(true, &peer);
                    self.tell(peer, PlaneMessage::Meet(meet));
                }
                Step::Join(peer) => self.ask_to_join(peer),
                Step::Begin { cluster, stores } => return self.begin_together(cluster, &stores),
            }
        }
    }

    fn begin_alone(&mut self) {
        let nodes = &self.nodes;
        let name = nodes.facts.name.as_str();
        let cluster = cluster_of([(name, nodes.store)].into_iter());
        let founder = Founder {
            name: name.into(),
            facts: nodes.facts.broker_facts(),
            incarnation: Some(nodes.facts.incarnation),
            address: nodes.address(),
            store: nodes.store,
        };
        self.bootstrap(cluster, &[founder]);
    }

    fn begin_together(&mut self, cluster: [u8; 16], stores: &[[u8; 16]]) {
        // All write down the same, so only what all know: of brokers nothing but where
        // they are.
        let founder = |((name, address), store): (&(PeerName, Box<str>), &[u8; 16])| Founder {
            name: name.as_str().into(),
            facts: BrokerFacts {
                address: address.clone(),
                region: Box::default(),
                zone: Box::default(),
                labels: Box::default(),
                capacity: UNKNOWN,
            },
            incarnation: None,
            address: address.clone(),
            store: *store,
        };
        let founders: Vec<Founder> = self.nodes.list.iter().zip(stores).map(founder).collect();
        self.bootstrap(cluster, &founders);
    }

    fn ask_to_join(&mut self, peer: PeerName) {
        let envelope = self.registration(None);
        let Ok(registration) = envelope.encode() else {
            return;
        };
        let join = Join {
            observer: self.nodes.is_observer(),
            store: self.nodes.store,
            address: self.nodes.address(),
            registration: registration.into(),
        };
        self.tell(peer, PlaneMessage::Join(join));
    }

    pub(super) fn take_join_answer(&mut self, answer: &JoinAnswer) {
        let Some(formation) = &mut self.nodes.formation else {
            return;
        };
        if self.member.is_some() || self.closed.is_some() {
            return;
        }
        formation.handle_guides(&answer.members);
        match answer.verdict {
            JoinVerdict::Welcome { member, cluster } => {
                self.group.join(member, cluster);
                self.member = Some(member);
                self.cluster = Some(cluster);
            }
            JoinVerdict::Alive => self.notice(PlaneNotice::NameInUse),
            JoinVerdict::NotLeader | JoinVerdict::Later => {}
        }
        self.update_names();
    }

    // -------------------------------------------------------------- what others ask

    /// What this node is, as `peer` is told.
    fn meet(&self, asks: bool, peer: &PeerName) -> Meet {
        let state = match (self.member, self.cluster) {
            (Some(_), Some(cluster)) => MeetState::Member {
                cluster,
                known: self.took_part(peer),
            },
            _ => MeetState::Fresh,
        };
        Meet {
            asks,
            state,
            list: self.nodes.list_hash,
            store: self.nodes.store,
            address: self.nodes.address(),
        }
    }

    /// Whether a node of this name took part in this cluster already, as far as this one
    /// knows: a founder that did not has never registered.
    fn took_part(&self, peer: &PeerName) -> bool {
        let Some(machine) = &self.machine else {
            return true;
        };
        let broker = machine.get(&ObjectKey::broker(peer.as_str()));
        let broker = broker.and_then(|object| object.broker());
        broker.is_none_or(|broker| broker.incarnation != 0)
    }

    /// Another node says what it is.
    pub(super) fn take_meet(&mut self, from: &PeerName, meet: &Meet) {
        if self.closed.is_some() {
            return;
        }
        let (now, list) = (self.now, self.nodes.list_hash);
        if self.member.is_none()
            && let Some(formation) = &mut self.nodes.formation
            && formation.handle_meet(now, from, meet, list)
        {
            self.notice(PlaneNotice::OtherList(from.clone()));
        }
        if meet.asks {
            self.welcome_guest(from, &meet.address);
            let answer = self.meet(false, from);
            self.tell(from.clone(), PlaneMessage::Meet(answer));
        }
    }

    /// Keeps connected to a node that asks: it hears answers only so.
    fn welcome_guest(&mut self, from: &PeerName, address: &str) {
        let until = self.now + GUEST_FOR;
        let guests = &mut self.nodes.guests;
        if guests.len() < GUESTS_MAX || guests.contains_key(from) {
            guests.insert(from.clone(), (address.into(), until));
            self.tell_peers();
        }
    }

    /// A node wants to be a member.
    pub(super) fn take_join(&mut self, from: &PeerName, join: &Join) {
        if self.member.is_none() || self.closed.is_some() {
            return;
        }
        self.welcome_guest(from, &join.address);
        let verdict = self.judge(from, join);
        let answer = JoinAnswer {
            verdict,
            members: self.guides(),
        };
        self.tell(from.clone(), PlaneMessage::JoinAnswer(answer));
    }

    /// The members, who leads first, and where each is.
    fn guides(&self) -> Box<[(PeerName, Box<str>)]> {
        let mut guides = self.nodes.names.peers();
        guides.insert(self.nodes.facts.name.clone(), self.nodes.address());
        guides.into_iter().take(GUIDES_MAX).collect()
    }

    fn judge(&mut self, from: &PeerName, join: &Join) -> JoinVerdict {
        let Some(machine) = self.machine.as_ref().filter(|_| self.leads()) else {
            return JoinVerdict::NotLeader;
        };
        // What was asked before is to be seen first.
        if self.duties.under_way() {
            return JoinVerdict::Later;
        }
        let key = ObjectKey::broker(from.as_str());
        let Some(broker) = machine.get(&key).and_then(|object| object.broker()) else {
            let sent = Envelope::decode(&join.registration).map(|envelope| envelope.command);
            if let Ok(command @ Command::RegisterBroker(_)) = sent
                && command.target() == Some(key)
            {
                self.propose_duty(command, Proposer::Join);
            }
            return JoinVerdict::Later;
        };
        let (number, down) = (broker.number, broker.down.is_some());
        let found = machine
            .members()
            .find(|(_, member)| member.broker == number);
        let command = match found {
            None => Command::AddMember(AddMember {
                broker: number,
                observer: join.observer,
                address: join.address.clone(),
                store: join.store,
            }),
            Some((member, of)) if self.is_new(member, of, join) => {
                return JoinVerdict::Welcome {
                    member: MemberId(member.0),
                    cluster: machine.cluster(),
                };
            }
            Some(_) if !down => return JoinVerdict::Alive,
            Some((member, _)) => Command::ReplaceMember(ReplaceMember {
                member,
                address: join.address.clone(),
                store: join.store,
            }),
        };
        self.propose_duty(command, Proposer::Join);
        JoinVerdict::Later
    }

    /// Whether a member was made for just this directory and has nothing yet: who asks is
    /// told its number again.
    fn is_new(&self, number: MemberNumber, member: &Member, join: &Join) -> bool {
        let peers = self.group.status().peers;
        let peer = peers.iter().find(|peer| peer.id.0 == number.0);
        member.store == join.store
            && member.role != MemberRole::Voter
            && peer.is_none_or(|peer| peer.matched == 0)
    }

    // ------------------------------------------------------------- the group follows

    /// Brings the group's members to where the metadata has them; whether anything was given
    /// to the group.
    pub(super) fn give_members(&mut self) -> bool {
        let due = self.nodes.members_at.is_some_and(|at| at <= self.now);
        let Some(machine) = self.machine.as_ref().filter(|_| due && self.leads()) else {
            return false;
        };
        let status = self.group.status();
        let step = members::next_step(machine, &status);
        let again = members::awaits(machine, &status);
        self.nodes.members_at = again.then_some(self.now + MEMBERS_LOOK);
        let Some(member) = self.member else {
            return false;
        };
        match step {
            None => false,
            Some(members::Step::Change(change)) => {
                let number = self.next_number();
                let id = ProposalId { member, number };
                match self.group.propose_members(id, change) {
                    Ok(()) => true,
                    Err(ChangeError::TooMany { limit }) => {
                        self.notice(PlaneNotice::TooManyMembers { limit });
                        false
                    }
                    // It is looked at again.
                    Err(_) => false,
                }
            }
            Some(members::Step::HandOver(to)) => self.group.transfer(to).is_ok(),
            Some(members::Step::Votes(member)) => {
                let role = MemberRole::Voter;
                let command = Command::SetMemberRole(SetMemberRole { member, role });
                self.propose_duty(command, Proposer::Duty)
            }
        }
    }

    /// Proposes a command of this leader's own.
    pub(super) fn propose_duty(&mut self, command: Command, from: Proposer) -> bool {
        let mut envelope = self.envelope(duties::PRINCIPAL.into(), command);
        let number = self.next_number();
        match self.propose_own(number, &mut envelope) {
            Attempt::Proposed => {
                self.proposed(number, from);
                self.duties.proposed();
                true
            }
            Attempt::Later | Attempt::Refused(_) => {
                self.duties.refused(self.now);
                false
            }
        }
    }

    /// When something of this file is due.
    pub(super) fn joining_deadline(&self) -> Option<Monotonic> {
        if self.closed.is_some() {
            return None;
        }
        let formation = self
            .nodes
            .formation
            .as_ref()
            .filter(|_| self.member.is_none());
        let asks = formation.map(|formation| formation.next_deadline());
        let looks = self.nodes.members_at.filter(|_| self.leads());
        let guests = self.nodes.guests.values().map(|(_, until)| *until);
        asks.into_iter().chain(looks).chain(guests).min()
    }

    /// Guests that do not ask any more are let go.
    pub(super) fn see_guests_off(&mut self) {
        let (now, guests) = (self.now, &mut self.nodes.guests);
        let before = guests.len();
        guests.retain(|_, (_, until)| *until > now);
        if guests.len() != before {
            self.tell_peers();
        }
    }
}
