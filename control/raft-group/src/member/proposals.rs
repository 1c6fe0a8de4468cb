//! What a leader takes into its log: commands, and other memberships.

use bytes::Bytes;
use raft::eraftpb::{ConfChangeSingle, ConfChangeType, ConfChangeV2, Entry, Message, MessageType};

use super::{Member, Proposal};
use crate::error::{ChangeError, ProposeError};
use crate::format::{MemberChange, ProposalId};
use crate::limits::{
    ENTRIES_BYTES_MAX, LEARNERS_MAX, PROPOSALS_BYTES_MAX, PROPOSALS_MAX, VOTERS_MAX,
};
use crate::output::Role;
use crate::storage::{change_context, context};

impl Member {
    /// Takes a command into the log.
    pub(crate) fn propose(&mut self, id: ProposalId, data: Bytes) -> Result<(), ProposeError> {
        let bytes = data.len() as u64;
        self.may_propose(bytes)?;
        let entry = Entry {
            context: context(id).to_vec().into(),
            data,
            ..Entry::default()
        };
        let mut message = Message {
            from: self.id.0,
            entries: vec![entry].into(),
            ..Message::default()
        };
        message.set_msg_type(MessageType::MsgPropose);
        if self.raw.step(message).is_err() {
            return Err(ProposeError::NotLeader { leader: None });
        }
        self.remember(id, bytes);
        Ok(())
    }

    fn may_propose(&self, bytes: u64) -> Result<(), ProposeError> {
        let (role, leader, _) = self.role();
        if role != Role::Leader {
            return Err(ProposeError::NotLeader { leader });
        }
        if self.raw.raft.lead_transferee.is_some() {
            return Err(ProposeError::Transferring);
        }
        if self.proposals.len() >= PROPOSALS_MAX {
            let limit = PROPOSALS_MAX as u64;
            return Err(ProposeError::Busy { limit });
        }
        if self.proposals_bytes + bytes > PROPOSALS_BYTES_MAX {
            let limit = PROPOSALS_BYTES_MAX;
            return Err(ProposeError::Busy { limit });
        }
        if self.raw.store().bytes() > ENTRIES_BYTES_MAX {
            let limit = ENTRIES_BYTES_MAX;
            return Err(ProposeError::Busy { limit });
        }
        Ok(())
    }

    /// A proposal was just taken into the log.
    fn remember(&mut self, id: ProposalId, bytes: u64) {
        let index = self.raw.raft.raft_log.last_index();
        self.proposals_bytes += bytes;
        let proposal = Proposal {
            id,
            bytes,
            uncertain: false,
        };
        self.proposals.insert((index, self.raw.raft.term), proposal);
    }

    /// Takes another membership into the log.
    pub(crate) fn propose_members(
        &mut self,
        id: ProposalId,
        change: MemberChange,
    ) -> Result<(), ChangeError> {
        self.may_propose(0)?;
        let raft = &self.raw.raft;
        if raft.has_pending_conf() {
            return Err(ChangeError::UnderWay);
        }
        let conf = raft.prs().conf().to_conf_state();
        let member = change.member();
        let learns = conf.learners.contains(&member.0);
        let known = learns || conf.voters.contains(&member.0);
        match change {
            MemberChange::AddLearner(_) if known => return Err(ChangeError::Member),
            MemberChange::AddLearner(_) if conf.learners.len() >= LEARNERS_MAX => {
                let limit = LEARNERS_MAX;
                return Err(ChangeError::TooMany { limit });
            }
            MemberChange::Promote(_) if !learns => return Err(ChangeError::UnknownMember),
            MemberChange::Promote(_) if conf.voters.len() >= VOTERS_MAX => {
                let limit = VOTERS_MAX;
                return Err(ChangeError::TooMany { limit });
            }
            MemberChange::Promote(_) => {
                let progress = raft.prs().get(member.0);
                let has = progress.map_or(0, |progress| progress.matched);
                if let Some(by) = self.behind(has) {
                    return Err(ChangeError::Lagging { by });
                }
            }
            MemberChange::Remove(_) if !known => return Err(ChangeError::UnknownMember),
            MemberChange::Remove(_) if member == self.id => return Err(ChangeError::Leads),
            MemberChange::AddLearner(_) | MemberChange::Remove(_) => {}
        }
        let said = change_context(id, change);
        let taken = self.raw.propose_conf_change(said, conf_change(change));
        if taken.is_err() {
            return Err(ProposeError::NotLeader { leader: None }.into());
        }
        self.remember(id, 0);
        Ok(())
    }

    /// Bytes of proposals that are not applied yet.
    pub(crate) fn proposals_bytes(&self) -> u64 {
        self.proposals_bytes
    }
}

/// A change of the members in raft-rs' words.
pub(super) fn conf_change(change: MemberChange) -> ConfChangeV2 {
    let mut single = ConfChangeSingle {
        node_id: change.member().0,
        ..ConfChangeSingle::default()
    };
    single.set_change_type(match change {
        MemberChange::AddLearner(_) => ConfChangeType::AddLearnerNode,
        MemberChange::Promote(_) => ConfChangeType::AddNode,
        MemberChange::Remove(_) => ConfChangeType::RemoveNode,
    });
    ConfChangeV2 {
        changes: vec![single].into(),
        ..ConfChangeV2::default()
    }
}
