//! What a member tells its owner.

use core::time::Duration;

use bytes::Bytes;
use pinion_commitlog::{Damage, DiskError};

use crate::{MemberId, PeerMessage, ProposalId, ReadId};

/// Something for the owner to do or know, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// For another member. It may be lost, repeated or late; a member that cannot be
    /// reached is told by [`crate::Group::handle_unreachable`].
    Send {
        /// To whom.
        to: MemberId,
        /// What.
        message: PeerMessage,
    },
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
    /// The proposal was not decided on, and never will be.
    Dropped {
        /// As given to [`crate::Group::propose`].
        id: ProposalId,
    },
    /// The member leads no more, or its log failed, with the proposal in its log: nobody
    /// knows. [`Output::Apply`] or [`Output::Dropped`] may follow when it is known.
    Uncertain {
        /// As given to [`crate::Group::propose`].
        id: ProposalId,
    },
    /// Everything decided before the read was asked is in the machine: it may be
    /// answered now.
    Read {
        /// As given to [`crate::Group::read`].
        id: ReadId,
        /// What was decided then.
        index: u64,
    },
    /// Nobody confirmed in time what was decided.
    ReadFailed {
        /// As given to [`crate::Group::read`].
        id: ReadId,
    },
    /// The members are others from this entry on.
    MembersChanged {
        /// Its place.
        index: u64,
        /// Who proposed it.
        id: ProposalId,
        /// Who votes, ascending.
        voters: Vec<MemberId>,
        /// Who only listens, ascending.
        learners: Vec<MemberId>,
    },
    /// The machine is this one now, whatever it was: a snapshot from the leader.
    Restore {
        /// The last entry in it.
        index: u64,
        /// The machine, as some owner gave it.
        machine: Bytes,
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
    /// A member says what cannot be: it holds or promises more than there is, or knows
    /// nothing of what is decided. It, or this one, runs on a log that is not its own.
    /// What it said is not listened to.
    Contradiction {
        /// Who.
        from: MemberId,
        /// The entry that it says it has, or that is decided.
        claims: u64,
        /// The last entry here of which it can be said.
        last: u64,
    },
    /// This member leads and its disk is slow: it gives the lead to one that has
    /// acknowledged what this one's disk has been writing for `waited`.
    HandOver {
        /// To whom.
        to: MemberId,
        /// How long the oldest write has been under way.
        waited: Duration,
    },
    /// A snapshot from the leader takes the place of what is here; until it is durable
    /// the member takes part in nothing.
    Installing {
        /// The last entry in it.
        index: u64,
        /// Bytes of the machine.
        bytes: usize,
    },
    /// A snapshot has `bytes`, above `limit`: the log cannot be shortened.
    SnapshotTooLarge {
        /// What it has.
        bytes: usize,
        /// [`crate::limits::SNAPSHOT_BYTES_MAX`].
        limit: usize,
    },
}

/// How a member is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Its number; `None` while it is nobody yet.
    pub id: Option<MemberId>,
    /// What it is.
    pub role: Role,
    /// Who leads, as far as it knows.
    pub leader: Option<MemberId>,
    /// The term.
    pub term: u64,
    /// The newest term that its log knows, and for whom it voted there.
    pub vote: (u64, Option<MemberId>),
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
    /// Who votes, as far as it knows; ascending. None while it waits for its first snapshot.
    pub voters: Vec<MemberId>,
    /// Who only listens, ascending.
    pub learners: Vec<MemberId>,
    /// Median of the last flushes, when there were enough of them.
    pub flush: Option<Duration>,
    /// The other members, as a leader knows them; empty elsewhere.
    pub peers: Vec<PeerStatus>,
}

/// Another member, as the leader knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Who.
    pub id: MemberId,
    /// Whether it votes.
    pub voter: bool,
    /// Up to here its log is the leader's.
    pub matched: u64,
    /// Whether it was heard within the last election timeout or two.
    pub active: bool,
}
