//! Opening a plane: what the group's log says it was.

use pinion_commitlog::{Files, RecoveryReport};
use pinion_metadata::{FormatError, Metadata};
use pinion_raft_group::{Found, Group, GroupConfig, OpenError};
use pinion_types::WallMs;

use crate::audit::{AuditConfig, AuditLog, AuditOpenError};
use crate::node::{ClusterConfig, NodeFacts};
use crate::plane::{Nodes, Plane};

/// Settings of one node's plane.
#[derive(Clone, Debug)]
pub struct PlaneConfig {
    /// This node.
    pub node: NodeFacts,
    /// The cluster that it belongs to; `None` is one of its own.
    pub cluster: Option<ClusterConfig>,
    /// Its member of the group.
    pub group: GroupConfig,
    /// Its audit log.
    pub audit: AuditConfig,
}

/// What [`Plane::open`] found.
#[derive(Debug)]
pub struct Opened {
    /// The plane.
    pub plane: Plane,
    /// Who the node is. Nobody yet: it begins a cluster, or joins one.
    pub found: Found,
    /// What the recovery of the group's log met.
    pub report: RecoveryReport,
    /// What the recovery of the audit log met. Damage there loses rows and nothing else.
    pub audit_report: RecoveryReport,
}

/// Why a plane cannot be opened. Nothing was changed, and the node must not take part
/// in anything.
#[derive(Debug, thiserror::Error)]
pub enum PlaneOpenError {
    /// The group's log.
    #[error(transparent)]
    Group(#[from] OpenError),
    /// The audit log.
    #[error(transparent)]
    Audit(#[from] AuditOpenError),
    /// The metadata in the group's snapshot.
    #[error("the metadata as of entry {index}: {error}")]
    Metadata {
        /// Of which entry the snapshot is.
        index: u64,
        /// What is wrong.
        error: FormatError,
    },
    /// The metadata is of another cluster than the member, or of a later entry than its
    /// snapshot.
    #[error("the metadata as of entry {index} contradicts the member's {what}")]
    Contradiction {
        /// Of which entry the snapshot is.
        index: u64,
        /// What it contradicts.
        what: &'static str,
    },
}

pub(crate) fn open(
    config: PlaneConfig,
    files: &mut dyn Files,
    wall: WallMs,
) -> Result<Opened, PlaneOpenError> {
    let (store, seed) = (config.group.store, config.group.seed);
    let opened = Group::open(config.group, files, wall)?;
    let mut member = None;
    let mut of = None;
    let mut machine = None;
    if let Found::Member { id, cluster, .. } = opened.found {
        member = Some(id);
        of = Some(cluster);
    }
    if let (Found::Member { cluster, .. }, Some((index, bytes))) = (opened.found, &opened.snapshot)
    {
        let index = *index;
        let restored =
            Metadata::restore(bytes).map_err(|error| PlaneOpenError::Metadata { index, error })?;
        let contradiction = |what| Err(PlaneOpenError::Contradiction { index, what });
        if restored.cluster() != cluster {
            return contradiction("cluster");
        }
        // Entries that are the group's own are not counted by the metadata, so it may be
        // behind the snapshot, and is never ahead.
        if restored.applied_index() > index {
            return contradiction("snapshot");
        }
        machine = Some(restored);
    }
    let applied = machine.as_ref().map_or(0, Metadata::applied_index);
    let whose = (store, seed);
    let (audit, audit_report) = AuditLog::open(config.audit, whose, applied, files, wall)?;
    let nodes = Nodes::new(config.node, config.cluster, store);
    let parts = (opened.group, audit);
    Ok(Opened {
        plane: Plane::new(nodes, parts, (member, of, machine), (wall, seed)),
        found: opened.found,
        report: opened.report,
        audit_report,
    })
}
