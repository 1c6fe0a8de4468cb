//! Members of the group. What is decided here comes first, and the group follows;
//! but who votes is said by the group, and written down here afterwards.

use super::{Made, below};
use crate::command::{AddMember, ReplaceMember, SetMemberRole};
use crate::draft::Draft;
use crate::error::MetaError;
use crate::ids::MemberNumber;
use crate::limits::{OBSERVERS_MAX, VOTERS_MAX};
use crate::member::{Member, MemberRole};
use crate::object::{Body, Object, ObjectKey};
use crate::usage::Scope;

fn member<'a>(draft: &'a Draft<'_>, key: &ObjectKey) -> Result<&'a Member, MetaError> {
    match &draft.existing(key)?.body {
        Body::Member(member) => Ok(member),
        _ => Err(MetaError::NotFound(key.clone())),
    }
}

/// Refused when there are more than there may be.
fn check_count(draft: &Draft<'_>) -> Result<(), MetaError> {
    let used = draft.usage(&Scope::Cluster);
    below("members that vote or will", used.voters, VOTERS_MAX)?;
    below("members that observe", used.observers, OBSERVERS_MAX)
}

fn create(draft: &mut Draft<'_>, member: Member) -> Result<Made, MetaError> {
    member.check()?;
    let number = draft.counters.member;
    let key = ObjectKey::Member(number);
    draft.create(key.clone(), Body::Member(member))?;
    draft.counters.member = MemberNumber(number.0 + 1);
    check_count(draft)?;
    Ok(Made::Object(key))
}

pub(super) fn add(draft: &mut Draft<'_>, command: &AddMember) -> Result<Made, MetaError> {
    let broker = command.broker;
    if draft.broker(broker).is_none() {
        return Err(MetaError::BrokerUnavailable(broker));
    }
    if draft.usage(&Scope::Broker(broker)).members != 0 {
        return Err(MetaError::MemberExists(broker));
    }
    let role = if command.observer {
        MemberRole::Observer
    } else {
        MemberRole::Joining
    };
    let member = Member {
        broker,
        role,
        address: command.address.clone(),
        store: command.store,
    };
    create(draft, member)
}

/// One command, so that at no moment both count.
pub(super) fn replace(draft: &mut Draft<'_>, command: &ReplaceMember) -> Result<Made, MetaError> {
    let key = ObjectKey::Member(command.member);
    let old = member(draft, &key)?;
    let role = match old.role {
        MemberRole::Observer => MemberRole::Observer,
        MemberRole::Joining | MemberRole::Voter => MemberRole::Joining,
    };
    let member = Member {
        broker: old.broker,
        role,
        address: command.address.clone(),
        store: command.store,
    };
    draft.remove(&key)?;
    create(draft, member)
}

pub(super) fn set_role(draft: &mut Draft<'_>, command: &SetMemberRole) -> Result<Made, MetaError> {
    let key = ObjectKey::Member(command.member);
    let mut member = member(draft, &key)?.clone();
    member.role = command.role;
    draft.update(&key, Body::Member(member))?;
    check_count(draft)?;
    Ok(Made::Object(key))
}

pub(super) fn remove(draft: &mut Draft<'_>, number: MemberNumber) -> Result<Made, MetaError> {
    let key = ObjectKey::Member(number);
    let votes = |object: &Object| match &object.body {
        Body::Member(member) => member.role == MemberRole::Voter,
        _ => false,
    };
    let first = ObjectKey::Member(MemberNumber(0));
    let members = draft.range(&first, |key| matches!(key, ObjectKey::Member(_)));
    // One that is still to vote counts for nothing yet.
    let others = members.filter(|object| object.meta.key != key && votes(object));
    let others = others.count();
    if votes(draft.existing(&key)?) && others == 0 {
        return Err(MetaError::LastVoter(number));
    }
    draft.remove(&key)?;
    Ok(Made::Nothing)
}
