//! The group that decides on the metadata, as this node has it.

use pinion_admin_ui::model::{self, Kind, Level, MemberRow, State};
use pinion_plane::PlaneStatus;
use pinion_raft_group::{MemberId, Role};

use super::placement::millis;
use crate::error::Failure;
use crate::ui::context::{PageContext, Shown};

pub(super) async fn page(context: &PageContext) -> Result<Shown, Failure> {
    context.sees_cluster()?;
    let status = context.api.plane.status().await.map_err(Failure::from)?;
    let names = context
        .look(|metadata| {
            let brokers: Vec<(u32, String)> = metadata
                .brokers()
                .map(|(name, broker)| (broker.number.0, name.to_owned()))
                .collect();
            let members = metadata.members();
            let name = |number: u32| {
                let found = brokers.iter().find(|(other, _)| *other == number);
                found.map_or_else(|| format!("broker {number}"), |(_, name)| name.clone())
            };
            let named = members.map(|(number, member)| (number.0, name(member.broker.0)));
            named.collect::<Vec<(u64, String)>>()
        })
        .await
        .unwrap_or_default();
    let group = &status.group;
    let flush = group
        .flush
        .map(|flush| u64::try_from(flush.as_micros()).unwrap_or(u64::MAX));
    Ok(model::Raft {
        state: state(&status),
        leader: status.leader.as_ref().map(ToString::to_string),
        term: group.term,
        committed: group.commit,
        applied: group.applied,
        version: status.version.0,
        undecided: group.last.saturating_sub(group.commit),
        snapshot: group.snapshot,
        flush_p50_us: flush,
        fresh: context.fresh(Kind::Mixed),
        members: members(&status, &names),
        members_fresh: context.fresh(Kind::Live),
    }
    .into())
}

fn state(status: &PlaneStatus) -> State {
    let (level, text) = if status.leader.is_none() {
        (Level::Bad, "no leader")
    } else if !status.ready {
        (Level::Warn, "catching up")
    } else {
        (Level::Ok, "has a leader")
    };
    State {
        level,
        text: text.to_owned(),
    }
}

/// Those who vote, then those who only listen.
fn members(status: &PlaneStatus, names: &[(u64, String)]) -> Vec<MemberRow> {
    let group = &status.group;
    let voters = group.voters.iter().map(|id| (*id, true));
    let others = group.learners.iter().map(|id| (*id, false));
    voters
        .chain(others)
        .map(|(id, votes)| member(status, names, id, votes))
        .collect()
}

fn member(status: &PlaneStatus, names: &[(u64, String)], id: MemberId, votes: bool) -> MemberRow {
    let group = &status.group;
    let this_node = group.id == Some(id);
    let leads = group.leader == Some(id);
    let known = status.peers.iter().find(|peer| peer.member == id);
    let name = names.iter().find(|(member, _)| *member == id.0);
    let role = match (leads, votes) {
        (true, _) => "leader",
        (false, true) => "follower",
        (false, false) => "observer",
    };
    let (level, text) = match known {
        Some(peer) if peer.active => (Level::Ok, "follows"),
        Some(_) => (Level::Bad, "not heard of"),
        None if leads => (Level::Ok, "leads"),
        None if this_node && group.leader.is_some() => (Level::Ok, "follows"),
        None => (Level::Unknown, "only the leader knows"),
    };
    MemberRow {
        member: id.0,
        name: name.map_or_else(|| format!("member {}", id.0), |(_, name)| name.clone()),
        role: role.to_owned(),
        state: State {
            level,
            text: text.to_owned(),
        },
        matched: match known {
            Some(peer) => Some(peer.matched),
            None if this_node => Some(group.last),
            None => None,
        },
        lag_entries: match known {
            Some(peer) => Some(peer.lag),
            None if this_node && group.role == Role::Leader => Some(0),
            None => None,
        },
        contact_ms: match (this_node, name) {
            (true, _) => Some(0),
            (false, Some((_, name))) => {
                let mut heard = status.heard.iter();
                let found = heard.find(|(broker, _)| **broker == **name);
                found.map(|(_, age)| millis(*age))
            }
            (false, None) => None,
        },
        this_node,
    }
}
