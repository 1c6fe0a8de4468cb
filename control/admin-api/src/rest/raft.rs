//! `/v1/raft`

use axum::http::StatusCode;
use pinion_raft_group::{MemberId, PeerStatus, Role};
use serde::Serialize;
use utoipa::ToSchema;

use crate::call::{Call, Reply, json as answer};

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
    let peer = |peer: &PeerStatus| Peer {
        member: peer.id.0,
        voter: peer.voter,
        matched_index: peer.matched,
        lag: group.last.saturating_sub(peer.matched),
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
        peers: group.peers.iter().map(peer).collect(),
        version: status.version.0,
        ready: status.ready,
        requests: status.requests,
        watchers: status.watchers,
    };
    answer(StatusCode::OK, &raft)
}
