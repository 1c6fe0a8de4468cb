//! Writes and duties: from a command to an entry of the group, and from an entry to
//! what it changed.

use pinion_metadata::{Applied, Command, Duty, Envelope, Expect, MetaError};
use pinion_raft_group::{MemberId, ProposalId, ProposeError, Role};
use pinion_types::WallMs;

use super::{Plane, Proposal, Proposer};
use crate::audit;
use crate::limits::WAITING_BYTES_MAX;
use crate::output::{Halt, PlaneNotice, PlaneOutput};
use crate::pending::{State, Waiting};
use crate::request::{Answer, PlaneError, RequestId, Write};

/// What became of an attempt to propose.
pub(super) enum Attempt {
    Proposed,
    /// Nobody leads any more, or soon another does.
    Later,
    Refused(PlaneError),
}

impl Plane {
    pub(super) fn give_waiting(&mut self) -> bool {
        let mut given = false;
        while let Some(id) = self.requests.first_waiting() {
            let elsewhere = self.leader.filter(|leader| Some(*leader) != self.member);
            if elsewhere.is_none() && self.role != Role::Leader {
                break;
            }
            if elsewhere.is_some() && self.forward_at.is_some_and(|at| self.now < at) {
                break;
            }
            let Some((deadline, State::Waiting(mut waiting, bytes))) = self.requests.remove(id)
            else {
                break;
            };
            if deadline <= self.now {
                let why = match elsewhere.and(self.forward_at) {
                    Some(_) => PlaneError::NO_LEADER,
                    None => PlaneError::TimedOut,
                };
                self.refuse(id, why);
                continue;
            }
            let number = self.next_number();
            let attempt = match elsewhere {
                Some(leader) => self.forward(leader, number, &waiting.envelope),
                None => self.propose_own(number, &mut waiting.envelope),
            };
            match attempt {
                Attempt::Proposed => {
                    self.sent_to(number, Proposer::Request(id), elsewhere);
                    let state = State::Proposed(number, waiting.remote);
                    self.requests.insert(id, deadline, state);
                    given = true;
                }
                Attempt::Refused(error) => self.refuse(id, error),
                Attempt::Later => {
                    let state = State::Waiting(waiting, bytes);
                    self.requests.put_back(id, deadline, state);
                    break;
                }
            }
        }
        given
    }

    pub(super) fn give_duties(&mut self) -> bool {
        let Some(machine) = self.machine.as_ref().filter(|_| self.leads()) else {
            return false;
        };
        let duties = self.duties.due(self.now, &self.clock, machine);
        let mut given = false;
        for duty in duties {
            let command = match duty {
                Duty::Purge(key) => Command::Purge(key),
                // Keys are random and sealed: whoever can do that proposes them.
                Duty::RotateKeys { tenant, version } => {
                    self.outputs
                        .push_back(PlaneOutput::RotateKeys { tenant, version });
                    self.duties.asked(self.now);
                    continue;
                }
            };
            if !self.propose_duty(command, Proposer::Duty) {
                break;
            }
            given = true;
        }
        given
    }

    pub(super) fn take_write(&mut self, id: RequestId, write: Write) -> Result<(), PlaneError> {
        let Write {
            caller,
            expect,
            command,
            deadline,
        } = write;
        self.takes(deadline)?;
        let remote = caller.remote;
        let mut envelope = Envelope {
            request: caller.request,
            expect,
            ..self.envelope(caller.principal, command)
        };
        if self.role == Role::Leader {
            let number = self.next_number();
            match self.propose_own(number, &mut envelope) {
                Attempt::Proposed => {
                    self.proposed(number, Proposer::Request(id));
                    let state = State::Proposed(number, remote);
                    self.requests.insert(id, deadline, state);
                    return Ok(());
                }
                Attempt::Refused(error) => return Err(error),
                Attempt::Later => {}
            }
        }
        let bytes = envelope.encode()?.len();
        if self.requests.waiting_bytes() + bytes > WAITING_BYTES_MAX {
            let limit = WAITING_BYTES_MAX as u64;
            return Err(PlaneError::Busy { limit });
        }
        let state = State::Waiting(Box::new(Waiting { envelope, remote }), bytes);
        self.requests.insert(id, deadline, state);
        Ok(())
    }

    pub(super) fn next_number(&mut self) -> u64 {
        self.last_number = self.last_number.wrapping_add(1);
        self.last_number
    }

    /// Notes whose the proposal is.
    pub(super) fn proposed(&mut self, number: u64, from: Proposer) {
        self.sent_to(number, from, None);
    }

    /// The same, of one that was sent to another node.
    pub(super) fn sent_to(&mut self, number: u64, from: Proposer, to: Option<MemberId>) {
        let term = self.term;
        let since = self.now;
        let proposal = Proposal {
            term,
            from,
            to,
            since,
        };
        self.proposals.insert(number, proposal);
    }

    pub(super) fn propose_own(&mut self, number: u64, envelope: &mut Envelope) -> Attempt {
        match self.member {
            Some(member) => self.propose(ProposalId { member, number }, envelope),
            None => Attempt::Refused(PlaneError::NotReady),
        }
    }

    /// Gives a command of this node or another to the group that this node leads.
    pub(super) fn propose(&mut self, id: ProposalId, envelope: &mut Envelope) -> Attempt {
        let Some(machine) = &self.machine else {
            return Attempt::Refused(PlaneError::NotReady);
        };
        let (stamp, ahead) = self.clock.stamp(machine.last_stamp());
        if let Some(by_ms) = ahead {
            self.notice(PlaneNotice::ClockBehind { by_ms });
        }
        envelope.stamp = stamp;
        let bytes = match self.encode(envelope) {
            Ok(bytes) => bytes,
            Err(error) => return Attempt::Refused(error),
        };
        let length = bytes.len();
        let taken = if envelope.command.takes_away() {
            self.group.propose_essential(id, bytes.into())
        } else {
            self.group.propose(id, bytes.into())
        };
        match taken {
            Ok(()) => Attempt::Proposed,
            Err(ProposeError::NotLeader { .. } | ProposeError::Transferring) => Attempt::Later,
            Err(ProposeError::Busy { limit }) => Attempt::Refused(PlaneError::Busy { limit }),
            Err(ProposeError::TooLarge { limit }) => {
                let error = MetaError::TooLarge {
                    bytes: length,
                    limit,
                };
                Attempt::Refused(error.into())
            }
            Err(ProposeError::ReadOnly) => Attempt::Refused(PlaneError::ReadOnly),
            Err(ProposeError::Failed) => Attempt::Refused(PlaneError::Failed),
        }
    }

    /// The bytes of a command that may become an entry.
    pub(super) fn encode(&self, envelope: &Envelope) -> Result<Vec<u8>, PlaneError> {
        // What cannot be recorded is not done.
        if !self.audit.takes(envelope.command.takes_away()) {
            return Err(PlaneError::AuditUnavailable);
        }
        let bytes = envelope.encode()?;
        // An entry that replicas cannot read stops all of them, for good: no grammar that its
        // writer forgot to check may be the reason. So it is read here first, as they will.
        Envelope::decode(&bytes).map_err(PlaneError::Malformed)?;
        Ok(bytes)
    }

    /// Stamped when it is proposed.
    pub(super) fn envelope(&self, principal: Box<str>, command: Command) -> Envelope {
        Envelope {
            stamp: WallMs(0),
            request: 0,
            principal,
            origin: self.nodes.origin(),
            expect: Expect::Any,
            command,
        }
    }

    /// Who waits for a proposal. `term` is the one of the entry, if there is one.
    pub(super) fn take_proposal(&mut self, id: ProposalId, term: Option<u64>) -> Option<Proposer> {
        let ours = Some(id.member) == self.member;
        let proposal = self.proposals.get(&id.number).filter(|_| ours)?;
        if term.is_some_and(|term| term < proposal.term) {
            return None;
        }
        let proposal = self.proposals.remove(&id.number)?;
        if term.is_some() && proposal.to.is_none() {
            self.commits.note(self.now.since(proposal.since));
        }
        Some(proposal.from)
    }

    pub(super) fn apply(&mut self, index: u64, term: u64, id: ProposalId, data: &[u8]) {
        let from = self.take_proposal(id, Some(term));
        let Some(machine) = &mut self.machine else {
            return;
        };
        let envelope = match Envelope::decode(data) {
            Ok(envelope) => envelope,
            Err(error) => return self.halt(Halt::Entry { index, error }),
        };
        let applied = machine.apply(index, &envelope);
        if let Some(broken) = applied.broken {
            return self.halt(Halt::Broken { index, broken });
        }
        let remote = match from {
            Some(Proposer::Request(request)) => self.requests.remote(request),
            _ => None,
        };
        let rows = audit::rows_of(index, machine.last_stamp(), &envelope, &applied, remote);
        self.audit.applied(self.now, index, &rows);
        let Applied {
            version,
            result,
            changes,
            duplicate: repeat,
            ..
        } = applied;
        if !changes.is_empty() {
            self.hub.push(&changes);
            self.nodes_changed(&changes);
            self.brokers_changed(&changes);
            self.outputs.push_back(PlaneOutput::Changes(changes));
        }
        match from {
            Some(Proposer::Request(request)) => {
                let answer = match result {
                    Ok(outcome) => Answer::Written {
                        version,
                        outcome,
                        repeat,
                    },
                    Err(error) => Answer::Refused(error.into()),
                };
                self.answer(request, answer);
            }
            Some(Proposer::Duty) => {
                self.duties.ended();
                if result.is_err() {
                    self.duties.refused(self.now);
                }
            }
            Some(Proposer::Join) => {
                self.duties.ended();
                if let Err(error) = result {
                    self.notice(PlaneNotice::JoinRefused(error.into()));
                }
            }
            Some(Proposer::Registration) => {
                self.not_registered(result.err().map(Into::into));
            }
            None => {}
        }
    }
}
