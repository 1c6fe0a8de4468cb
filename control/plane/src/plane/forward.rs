//! Commands that come to a node which does not lead: they go to the one that does.
//!
//! The leader proposes them under the number of the node that was asked, so that this one
//! finds it on the entry when it applies it: what became of the command, it then knows
//! itself, as every replica does. Only that a command was *not* taken is told. A command
//! is sent once: one that may have been lost may also have been taken, and nobody knows. So
//! when the node that it was sent to is lost, or leads no more, whoever asked is told that
//! nobody knows, as soon as what that node had decided must have come.

use pinion_metadata::Envelope;
use pinion_raft_group::{MemberId, ProposalId, Role};
use pinion_types::Monotonic;

use super::writes::Attempt;
use super::{Plane, Proposer};
use crate::limits::{FORWARD_RETRY, UNCERTAIN_WAIT};
use crate::names::PeerName;
use crate::peer::{Forward, PlaneMessage, Returned, Why};
use crate::pending::{State, Waiting};
use crate::request::PlaneError;

impl Plane {
    /// Sends a command to the node that leads.
    pub(super) fn forward(&mut self, to: MemberId, number: u64, envelope: &Envelope) -> Attempt {
        match self.encode(envelope) {
            Ok(bytes) => {
                let envelope = bytes.into();
                let forward = Forward { number, envelope };
                self.send(to, PlaneMessage::Forward(forward));
                Attempt::Proposed
            }
            Err(error) => Attempt::Refused(error),
        }
    }

    /// Commands sent to some nodes are not waited for much longer.
    pub(super) fn hurry(&mut self, lost: impl Fn(MemberId) -> bool) {
        let by = self.now + UNCERTAIN_WAIT;
        for proposal in self.proposals.values() {
            if let Proposer::Request(id) = proposal.from
                && proposal.to.is_some_and(&lost)
            {
                self.requests.hurry(id, by);
            }
        }
    }

    /// A command of this node did not leave: it waits as it did before.
    pub(super) fn take_back(&mut self, forward: &Forward) {
        let Some(proposal) = self.proposals.remove(&forward.number) else {
            return;
        };
        let id = match proposal.from {
            Proposer::Request(id) => id,
            Proposer::Registration => return self.not_registered(None),
            Proposer::Duty | Proposer::Join => return,
        };
        let (Some((deadline, State::Proposed(_, remote))), Ok(envelope)) = (
            self.requests.remove(id),
            Envelope::decode(&forward.envelope),
        ) else {
            return;
        };
        let state = State::Waiting(
            Box::new(Waiting { envelope, remote }),
            forward.envelope.len(),
        );
        self.requests.insert(id, deadline, state);
        self.forward_at = Some(self.now + FORWARD_RETRY);
    }

    /// When a command is sent again.
    pub(super) fn forward_deadline(&self) -> Option<Monotonic> {
        let waits = self.requests.first_waiting().is_some() && self.leader.is_some();
        self.forward_at.filter(|_| waits)
    }

    /// A command that another node was asked for.
    pub(super) fn take_forward(&mut self, from: &PeerName, forward: &Forward) {
        let number = forward.number;
        let refused = match Envelope::decode(&forward.envelope) {
            Err(_) => Some(Why::Malformed),
            Ok(_) if self.role != Role::Leader || self.closed.is_some() => Some(Why::NotLeader),
            Ok(mut envelope) => match self.nodes.names.member(from) {
                Some(member) => match self.propose(ProposalId { member, number }, &mut envelope) {
                    Attempt::Proposed => None,
                    Attempt::Later => Some(Why::NotLeader),
                    Attempt::Refused(error) => Some(Why::from_refusal(&error)),
                },
                // This node has not read of it yet, so it does not lead for it.
                None => Some(Why::NotLeader),
            },
        };
        if let Some(why) = refused {
            let returned = Returned { number, why };
            self.tell(from.clone(), PlaneMessage::Returned(returned));
        }
    }

    /// A command of this node was not taken by the one that it was sent to.
    pub(super) fn take_returned(&mut self, Returned { number, why }: Returned) {
        match self.proposals.get(&number).map(|one| one.from) {
            Some(Proposer::Request(id)) => {
                self.proposals.remove(&number);
                self.refuse(id, why.refusal());
            }
            Some(Proposer::Registration) => {
                self.proposals.remove(&number);
                self.not_registered(Some(why.refusal()));
            }
            Some(Proposer::Duty | Proposer::Join) | None => {}
        }
    }

    /// What this node proposed is not in the log, and never will be.
    pub(super) fn dropped(&mut self, id: ProposalId) {
        if Some(id.member) != self.member {
            let (number, why) = (id.number, Why::NotLeader);
            self.send(id.member, PlaneMessage::Returned(Returned { number, why }));
            return;
        }
        match self.take_proposal(id, None) {
            Some(Proposer::Request(request)) => self.refuse(request, PlaneError::NO_LEADER),
            Some(Proposer::Duty | Proposer::Join) => self.duties.ended(),
            Some(Proposer::Registration) => self.not_registered(None),
            None => {}
        }
    }
}
