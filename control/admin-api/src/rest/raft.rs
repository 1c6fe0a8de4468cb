//! `/v1/raft`

use axum::http::StatusCode;
use pinion_metadata::{Command, MemberNumber};
use pinion_plane::{Caller, Denied, PeerName, PlanePeer};
use pinion_raft_group::{MemberId, Role, TransferError};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::call::{Call, Reply, json as answer, no_content};
use crate::error::Failure;
use crate::limits::PLANE_WAIT;

/// A node's member of the group. Indexes are places in the group's log.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Raft {
    node: String,
    /// Its number; null while it is nobody yet.
    member: Option<u64>,
    /// `follower`, `pre_candidate`, `candidate` or `leader`.
    role: &'static str,
    /// Who leads, as far as it knows.
    leader: Option<u64>,
    /// The node of that one.
    leader_node: Option<String>,
    term: u64,
    commit_index: u64,
    applied_index: u64,
    first_index: u64,
    last_index: u64,
    snapshot_index: u64,
    entries_bytes: u64,
    /// Proposals of this member that are not applied yet.
    proposals: usize,
    voters: Vec<u64>,
    observers: Vec<u64>,
    /// Median of the last flushes, when there were enough of them.
    flush_us: Option<u64>,
    /// The other members, as a leader knows them; empty elsewhere.
    peers: Vec<Peer>,
    /// Of the metadata.
    version: u64,
    ready: bool,
    /// Requests that are not answered yet.
    requests: usize,
    watchers: usize,
}

/// Another member, as the leader knows it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Peer {
    /// Its node; null of one whose name is not known.
    node: Option<String>,
    member: u64,
    voter: bool,
    matched_index: u64,
    /// Entries that it has not.
    lag: u64,
    /// Whether it was heard of lately.
    active: bool,
}

/// This node's member of the group, as it is now.
pub(crate) async fn status(call: Call) -> Reply {
    let status = call.api.plane.status().await?;
    let group = &status.group;
    let ids = |ids: &[MemberId]| ids.iter().map(|id| id.0).collect();
    let peer = |peer: &PlanePeer| Peer {
        node: peer.name.as_ref().map(ToString::to_string),
        member: peer.member.0,
        voter: peer.voter,
        matched_index: peer.matched,
        lag: peer.lag,
        active: peer.active,
    };
    let flush = |flush: core::time::Duration| u64::try_from(flush.as_micros()).unwrap_or(u64::MAX);
    let raft = Raft {
        node: call.api.node.to_string(),
        member: group.id.map(|id| id.0),
        role: match group.role {
            Role::Follower => "follower",
            Role::PreCandidate => "pre_candidate",
            Role::Candidate => "candidate",
            Role::Leader => "leader",
        },
        leader: group.leader.map(|id| id.0),
        leader_node: status.leader.as_ref().map(ToString::to_string),
        term: group.term,
        commit_index: group.commit,
        applied_index: group.applied,
        first_index: group.first,
        last_index: group.last,
        snapshot_index: group.snapshot,
        entries_bytes: group.entries_bytes,
        proposals: group.proposals,
        voters: ids(&group.voters),
        observers: ids(&group.learners),
        flush_us: group.flush.map(flush),
        peers: status.peers.iter().map(peer).collect(),
        version: status.version.0,
        ready: status.ready,
        requests: status.requests,
        watchers: status.watchers,
    };
    answer(StatusCode::OK, &raft)
}

/// Who is to lead.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LeaderTransfer {
    /// The name of its node.
    to: String,
}

/// `POST /v1/raft/transfer-leadership`, asked of the node that leads.
pub(crate) async fn transfer(call: Call) -> Reply {
    let wanted: LeaderTransfer = call.body()?;
    let to = PeerName::new(&wanted.to)
        .map_err(|error| Failure::bad("bad_name", format!("to: {error}")))?;
    // It is no command of the metadata, so its row is written here; 202 says that it was
    // let through. What cannot be recorded is not done.
    let row = Denied {
        caller: Caller {
            principal: call.who.principal.clone(),
            request: call.number,
            remote: call.who.remote,
        },
        tenant: Box::default(),
        operation: "transfer_leader".into(),
        target: format!("node/{to}").into(),
        status: StatusCode::ACCEPTED.as_u16(),
    };
    call.api.plane.record(row, PLANE_WAIT).await?;
    match call.api.plane.transfer(to).await? {
        Ok(()) => Ok(accepted()),
        Err(error) => Err(refused(error)),
    }
}

fn refused(error: TransferError) -> Failure {
    let (status, code) = match error {
        TransferError::NotLeader => (StatusCode::PRECONDITION_FAILED, "not_leader"),
        TransferError::UnknownMember => (StatusCode::NOT_FOUND, "not_found"),
        TransferError::NotVoter => (StatusCode::PRECONDITION_FAILED, "not_voter"),
        TransferError::Lagging { .. } => (StatusCode::PRECONDITION_FAILED, "lagging"),
        TransferError::Busy => (StatusCode::CONFLICT, "transfer_pending"),
    };
    Failure::new(status, code, error.to_string())
}

/// `DELETE /v1/raft/members/{m}`: the leader takes it out of the group.
pub(crate) async fn remove(call: Call) -> Reply {
    let number = call.part("m").parse().map_err(|_| {
        Failure::bad("bad_path", "the number of a member is expected").with("part", "m")
    })?;
    let command = Command::RemoveMember(MemberNumber(number));
    let written = call.write(call.expect(), command).await?;
    Ok(written.mark(accepted()))
}

fn accepted() -> axum::response::Response {
    let mut response = no_content();
    *response.status_mut() = StatusCode::ACCEPTED;
    response
}
