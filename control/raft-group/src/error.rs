//! Why a group cannot be opened, and why a proposal is not taken.

use pinion_commitlog::{Damage, RecoverError};

use crate::MemberId;
use crate::format::FormatError;

/// Why the group's log cannot be opened. Nothing was changed, and the member takes
/// part in nothing: one that forgot what it promised is worse than one that is gone.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The log itself.
    #[error("the log of the group (log-65534): {0}")]
    Log(#[from] RecoverError),
    /// Records are lost that this member may have acknowledged. A member alone is
    /// restored from a backup; one of several is replaced by a new one.
    #[error("the log of the group (log-65534) is damaged: {0}")]
    Damaged(Damage),
    /// A record is not what this release writes.
    #[error("record {lsn} of the group's log: {error}")]
    Record {
        /// Its number.
        lsn: u64,
        /// What is wrong.
        error: FormatError,
    },
    /// A record of a kind that does not belong there.
    #[error("record {lsn} of the group's log has kind {kind}")]
    Kind {
        /// Its number.
        lsn: u64,
        /// Its kind.
        kind: u8,
    },
    /// A state of the checkpoint is not what this release writes.
    #[error("state {domain} of the group's checkpoint: {error}")]
    State {
        /// Its domain.
        domain: u8,
        /// What is wrong.
        error: FormatError,
    },
    /// There are records and no checkpoint that says whose.
    #[error("the group's log has records and no readable checkpoint")]
    NoCheckpoint,
    /// Entries are missing.
    #[error("entry {found} follows where entry {expected} should")]
    Gap {
        /// The newest that could follow.
        expected: u64,
        /// The one that does.
        found: u64,
    },
    /// What was written continues another history than the one before it: a snapshot that
    /// took the place of entries is lost.
    #[error("what follows entry {index} of term {term} was written, and that entry has term {has}")]
    AnotherHistory {
        /// The entry.
        index: u64,
        /// Its term, as what follows it says.
        term: u64,
        /// Its term here; 0 when it is not here.
        has: u64,
    },
    /// Two facts contradict each other; a member that went on would break promises.
    #[error("{what} is {value}, against {limit}")]
    Inconsistent {
        /// Which fact.
        what: &'static str,
        /// Its value.
        value: u64,
        /// What it must not be above or below.
        limit: u64,
    },
}

/// Why a proposal is not taken. It is in no log, and will not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Another member leads, or nobody.
    #[error("this member does not lead")]
    NotLeader {
        /// Who does, as far as this member knows.
        leader: Option<MemberId>,
    },
    /// It gives the lead to another member. Try again in some milliseconds.
    #[error("the lead is being given to another member")]
    Transferring,
    /// As much as may wait is waiting. Try again in a few milliseconds.
    #[error("{limit} proposals or bytes wait already")]
    Busy {
        /// The limit that was met.
        limit: u64,
    },
    /// A command has at most `limit` bytes.
    #[error("a command has at most {limit} bytes")]
    TooLarge {
        /// [`crate::limits::COMMAND_BYTES_MAX`].
        limit: usize,
    },
    /// The disk is full.
    #[error("the disk is full")]
    ReadOnly,
    /// A write failed; only a restart helps.
    #[error("a write of the group's log failed")]
    Failed,
}

/// Why a read is not taken. It will not be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// This member is nobody yet, or its log failed.
    #[error("this member takes part in nothing")]
    NotReady,
    /// As many as may wait are waiting. Try again in a few milliseconds.
    #[error("{limit} reads wait already")]
    Busy {
        /// [`crate::limits::READS_MAX`].
        limit: usize,
    },
}

/// Why the lead is not given to another member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// This member does not lead.
    #[error("this member does not lead")]
    NotLeader,
    /// There is no such member.
    #[error("there is no such member")]
    UnknownMember,
    /// It only listens.
    #[error("the member only listens")]
    NotVoter,
    /// It would have to catch up first, and nothing could be decided meanwhile.
    #[error("the member is {by} entries behind")]
    Lagging {
        /// Entries that it lacks.
        by: u64,
    },
    /// The lead is being given to somebody.
    #[error("the lead is being given to a member")]
    Busy,
}

/// Why a change of the members is not taken. It is in no log, and will not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// For the reasons of any proposal.
    #[error("{0}")]
    Propose(#[from] ProposeError),
    /// Another change is under way: one at a time.
    #[error("another change of the members is under way")]
    UnderWay,
    /// It is a member.
    #[error("it is a member already")]
    Member,
    /// It is not a member, or votes already.
    #[error("there is no such member, or it votes already")]
    UnknownMember,
    /// There are as many as there may be.
    #[error("there are {limit} already")]
    TooMany {
        /// [`crate::limits::VOTERS_MAX`] or [`crate::limits::LEARNERS_MAX`].
        limit: usize,
    },
    /// It would have to catch up first, and nothing could be decided meanwhile.
    #[error("the member is {by} entries behind")]
    Lagging {
        /// Entries that it lacks.
        by: u64,
    },
    /// A leader gives the lead away before it goes.
    #[error("the member leads")]
    Leads,
}
