//! `/v1/raft`

use axum::http::StatusCode;
use pinion_raft_group::{MemberId, Role};
use serde_json::json;

use crate::call::{Call, Reply, json as answer};

/// This node's member of the group, as it is now.
pub(crate) async fn status(call: Call) -> Reply {
    let status = call.api.plane.status().await?;
    let group = &status.group;
    let ids = |ids: &[MemberId]| ids.iter().map(|id| id.0).collect::<Vec<_>>();
    let peers = group.peers.iter().map(|peer| {
        json!({
            "member": peer.id.0,
            "voter": peer.voter,
            "matched_index": peer.matched,
            "lag": group.last.saturating_sub(peer.matched),
            "active": peer.active,
        })
    });
    answer(
        StatusCode::OK,
        &json!({
            "node": call.api.node,
            "member": group.id.map(|id| id.0),
            "role": match group.role {
                Role::Follower => "follower",
                Role::PreCandidate => "pre_candidate",
                Role::Candidate => "candidate",
                Role::Leader => "leader",
            },
            "leader": group.leader.map(|id| id.0),
            "term": group.term,
            "commit_index": group.commit,
            "applied_index": group.applied,
            "first_index": group.first,
            "last_index": group.last,
            "snapshot_index": group.snapshot,
            "entries_bytes": group.entries_bytes,
            "proposals": group.proposals,
            "voters": ids(&group.voters),
            "observers": ids(&group.learners),
            "flush_us": group.flush.map(|flush| u64::try_from(flush.as_micros()).unwrap_or(u64::MAX)),
            "peers": peers.collect::<Vec<_>>(),
            "version": status.version.0,
            "ready": status.ready,
            "requests": status.requests,
            "watchers": status.watchers,
        }),
    )
}
