//! A copy of what this node knows, for a backup.
//!
//! The metadata is taken at once, as of one version. The audit log is pinned when the rows
//! of what is in it are durable, so that the copy of the log has them; the place in the
//! group's log from which a restored group goes on lies behind every command that has rows
//! there, because a place that has rows is never given any again.

use pinion_commitlog::{Lsn, PinLimits, PinRefused, Pinned};
use pinion_metadata::{MetaVersion, Metadata, SnapshotSource};
use pinion_raft_group::MemberId;

use super::Plane;
use crate::output::PlaneOutput;

/// What a backup has of the control plane.
#[derive(Clone, Debug)]
pub struct PlanePinned {
    /// The cluster.
    pub cluster: [u8; 16],
    /// This node's member of the group.
    pub member: MemberId,
    /// What a restored group goes on behind: the last entry applied here.
    pub index: u64,
    /// The term to go on from.
    pub term: u64,
    /// Version of the metadata.
    pub version: MetaVersion,
    /// The metadata; encoding it takes a while and is done elsewhere.
    pub source: SnapshotSource,
    /// The audit log, held until [`Plane::unpin`] or one of the limits.
    pub audit: Result<Pinned, PinRefused>,
}

/// A pin that was asked for.
#[derive(Debug)]
pub(super) struct Pinning {
    limits: PinLimits,
    source: SnapshotSource,
    version: MetaVersion,
    /// The last row of what is in it.
    rows: Lsn,
}

impl Plane {
    /// Takes the metadata as it is now, and pins the audit log as soon as it has the rows of
    /// it: [`PlaneOutput::Pinned`] follows. False: the node has no metadata yet, or takes
    /// nothing any more, and nothing follows. Within a turn.
    #[must_use]
    pub fn pin(&mut self, limits: PinLimits) -> bool {
        let Some(machine) = self.machine.as_ref().filter(|_| self.closed.is_none()) else {
            return false;
        };
        self.audit.unpin();
        self.pinning = Some(Pinning {
            limits,
            source: machine.snapshot(),
            version: machine.version(),
            rows: self.audit.appended(),
        });
        true
    }

    /// Nobody copies anything any more.
    pub fn unpin(&mut self) {
        self.pinning = None;
        self.audit.unpin();
    }

    /// Gives what was asked for when its rows are durable.
    pub(super) fn give_pinned(&mut self) {
        let audit = &self.audit;
        let ready = |pinning: &mut Pinning| audit.is_durable(pinning.rows);
        let Some(pinning) = self.pinning.take_if(ready) else {
            return;
        };
        let (Some(member), Some(cluster)) = (self.member, self.cluster) else {
            return;
        };
        let group = self.group.status();
        let applied = self.machine.as_ref().map_or(0, Metadata::applied_index);
        let pinned = PlanePinned {
            cluster,
            member,
            index: group.applied.max(applied),
            term: group.term.max(1),
            version: pinning.version,
            source: pinning.source,
            audit: self.audit.pin(pinning.limits),
        };
        self.outputs
            .push_back(PlaneOutput::Pinned(Box::new(pinned)));
    }
}
