//! What a member tells its owner.

use bytes::Bytes;
use pinion_commitlog::{Damage, DiskError};

use crate::{MemberId, ProposalId};

/// Something for the owner to do or know, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// The machine takes this command now. Indexes grow; some are left out, which
    /// the group needs for itself. Exactly once in a life of the member: after a
    /// restart everything behind the snapshot comes again.
    Apply {
        /// Its place.
        index: u64,
        /// Under which leadership it was proposed.
        term: u64,
        /// Who proposed it.
        id: ProposalId,
        /// The command.
        data: Bytes,
    },
    /// The proposal may or may not be in the log, and this member will not say more
    /// before a restart.
    Uncertain {
        /// As given to [`crate::Group::propose`].
        id: ProposalId,
    },
    /// Who leads, as far as this member knows; told at every change.
    Role {
        /// What this member is.
        role: Role,
        /// Who leads.
        leader: Option<MemberId>,
        /// The term.
        term: u64,
    },
    /// Give the machine as it is now, with every [`Output::Apply`] before this one
    /// and none after it, to [`crate::Group::snapshot_ready`].
    WantSnapshot {
        /// To be given back.
        index: u64,
    },
    /// For people.
    Notice(Notice),
    /// After [`crate::Group::seal`]: everything is written.
    Sealed,
}

/// What a member is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// It follows, or waits for somebody to follow.
    #[default]
    Follower,
    /// It asks whether it would be elected.
    PreCandidate,
    /// It asks to be elected.
    Candidate,
    /// It leads.
    Leader,
}

/// For people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A write failed: this member is silent until it is started again.
    Failed(DiskError),
    /// The disk is full (`true`) or has room again.
    ReadOnly(bool),
    /// Damage was met in what is not needed at the moment.
    Damaged(Damage),
    /// A snapshot has `bytes`, above `limit`: the log cannot be shortened.
    SnapshotTooLarge {
        /// What it has.
        bytes: usize,
        /// [`crate::limits::SNAPSHOT_BYTES_MAX`].
        limit: usize,
    },
}

/// How a member is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Its number; `None` while it is nobody yet.
    pub id: Option<MemberId>,
    /// What it is.
    pub role: Role,
    /// Who leads, as far as it knows.
    pub leader: Option<MemberId>,
    /// The term.
    pub term: u64,
    /// Everything up to here is decided, as far as it knows.
    pub commit: u64,
    /// Everything up to here was given to the machine.
    pub applied: u64,
    /// The first entry in memory.
    pub first: u64,
    /// The last entry.
    pub last: u64,
    /// The last entry in the durable snapshot.
    pub snapshot: u64,
    /// Bytes of entries in memory.
    pub entries_bytes: u64,
    /// Proposals of this member that are not applied yet.
    pub proposals: usize,
}
