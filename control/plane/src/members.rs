//! The group follows the metadata: who has a member in it takes part, who has none goes,
//! and who votes is written down.

use std::collections::BTreeMap;

use pinion_metadata::member::MemberRole;
use pinion_metadata::{MemberNumber, Metadata};
use pinion_raft_group::limits::TRANSFER_LAG_MAX;
use pinion_raft_group::{MemberChange, MemberId, Status};

/// What a leader does next about the members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The group's members are to be others.
    Change(MemberChange),
    /// The lead is to be given away, because this member is to go.
    HandOver(MemberId),
    /// The metadata is to say that a member votes.
    Votes(MemberNumber),
}

/// The first thing that is to be done, if any: one at a time. Who goes does so before
/// anybody comes in its place, so that at no moment both count.
pub(crate) fn next_step(machine: &Metadata, group: &Status) -> Option<Step> {
    let me = group.id?;
    let roles: BTreeMap<MemberId, MemberRole> = machine
        .members()
        .map(|(number, member)| (MemberId(number.0), member.role))
        .collect();
    let voters = || group.voters.iter().copied();
    let gone = voters().chain(group.learners.iter().copied());
    let mut gone = gone.filter(|id| !roles.contains_key(id));
    if let Some(id) = gone.next() {
        let last = group.voters == [id];
        if id != me {
            return Some(Step::Change(MemberChange::Remove(id)));
        }
        // Somebody has to stay.
        let heirs = group.peers.iter().filter(|peer| peer.voter && peer.active);
        let heir = heirs.max_by_key(|peer| peer.matched);
        if let Some(heir) = heir.filter(|_| !last) {
            return Some(Step::HandOver(heir.id));
        }
    }
    for (id, role) in &roles {
        let (votes, learns) = (group.voters.contains(id), group.learners.contains(id));
        let step = match role {
            _ if !votes && !learns => Step::Change(MemberChange::AddLearner(*id)),
            MemberRole::Joining | MemberRole::Voter if learns => {
                let peer = group.peers.iter().find(|peer| peer.id == *id);
                let near = group.last.saturating_sub(TRANSFER_LAG_MAX);
                if !peer.is_some_and(|peer| peer.active && peer.matched >= near.max(1)) {
                    continue;
                }
                Step::Change(MemberChange::Promote(*id))
            }
            MemberRole::Joining => Step::Votes(MemberNumber(id.0)),
            MemberRole::Voter | MemberRole::Observer => continue,
        };
        return Some(step);
    }
    None
}

/// Whether a member is on its way, so that a leader looks again by itself.
pub(crate) fn awaits(machine: &Metadata, group: &Status) -> bool {
    let joins =
        |(_, member): (_, &pinion_metadata::member::Member)| member.role == MemberRole::Joining;
    machine.members().any(joins) || next_step(machine, group).is_some()
}
