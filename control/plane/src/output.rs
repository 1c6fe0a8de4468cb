//! What a plane tells its owner.

use core::time::Duration;
use std::sync::Arc;

use pinion_commitlog::{Damage, DiskError, LogStats};
use pinion_metadata::{Broken, BrokerNumber, Change, FormatError, MetaVersion, SnapshotSource};
use pinion_raft_group::{MemberId, Notice, Role, Status};

use crate::hub::WatchId;
use crate::names::PeerName;
use crate::peer::PlaneMessage;
use crate::plane::PlanePinned;
use crate::request::{Answer, PlaneError, RequestId};
use crate::usage::UseRow;

/// Something for the owner to do or know, in order.
#[derive(Clone, Debug)]
pub enum PlaneOutput {
    /// A request is answered.
    Answer {
        /// Which.
        id: RequestId,
        /// How.
        answer: Answer,
    },
    /// The metadata changed: the next versions, dense from the one that the metadata
    /// had when the plane was opened. What a command changed comes before its answer,
    /// so that whoever is told of a change here knows it before the caller does.
    Changes(Arc<[Change]>),
    /// This node was too far behind: the metadata is another from now on, and how it came
    /// there is not told. Read all of it anew; [`PlaneOutput::Changes`] go on from here.
    Replaced {
        /// Its version.
        version: MetaVersion,
    },
    /// Whom to keep connected to, by name, and where each is: `host:port`. Told at the
    /// beginning, if there is anybody, and at each change; this node is never among them.
    Peers(Arc<[(PeerName, Box<str>)]>),
    /// For another node. It may be lost, repeated or late; one that cannot be reached is
    /// told by [`crate::Plane::handle_unreachable`].
    Send {
        /// To whom.
        to: PeerName,
        /// What.
        message: PlaneMessage,
    },
    /// Encode the source, where that holds up nobody, and give the bytes to
    /// [`crate::Plane::handle_encoded`].
    Encode {
        /// To be given back.
        index: u64,
        /// What to encode.
        source: SnapshotSource,
    },
    /// There is something in [`crate::Plane::poll_watch`]; told once until it is empty.
    WatchReady {
        /// Whose.
        id: WatchId,
    },
    /// Who leads, as far as this node knows; told at every change.
    Role {
        /// What this node is.
        role: Role,
        /// Who leads; `None` also while the name of who does is not known here yet.
        leader: Option<PeerName>,
        /// The term.
        term: u64,
    },
    /// What the other nodes of the cluster use of the quotas of tenants, added up, and how many
    /// data cores those of them have that live: in place of what was told before. Told when
    /// either changes; before the first time there is nobody else.
    Elsewhere {
        /// Data cores.
        cores: u64,
        /// By tenant and namespace; what is not there is not used.
        used: Vec<UseRow>,
    },
    /// A tenant's keys are to be rotated: make one, and ask for `Command::RotateKeys` with
    /// this version expected. Told by the node that leads, every minute until it is done.
    RotateKeys {
        /// Whose.
        tenant: Box<str>,
        /// The last change of its keys.
        version: MetaVersion,
    },
    /// This node has caught up with what was decided before it was opened, and its broker
    /// is registered; where the metadata had it before and it cannot be registered anew now,
    /// that is tried again. Told once.
    Ready,
    /// Answers [`crate::Plane::pin`].
    Pinned(Box<PlanePinned>),
    /// For people.
    Notice(PlaneNotice),
    /// After [`crate::Plane::seal`]: everything is written.
    Sealed,
}

/// For people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlaneNotice {
    /// Of the group.
    Group(Notice),
    /// Stamps are ahead of this node's wall clock: it was set back, or another leader's
    /// was ahead. Times stand still until it has caught up.
    ClockBehind {
        /// Milliseconds.
        by_ms: u64,
    },
    /// A write of the audit log failed: nothing is changed any more before a restart.
    AuditFailed(DiskError),
    /// There is no room for the audit log (`true`), or there is again.
    AuditFull(bool),
    /// Rows of the audit log cannot be read.
    AuditDamaged(Damage),
    /// This node's broker was not registered; it is tried again.
    NotRegistered(PlaneError),
    /// A node that is to begin the cluster with this one lists other nodes: neither begins
    /// before they list the same.
    OtherList(PeerName),
    /// This node wants to join, and one of its name lives there: told at every attempt.
    NameInUse,
    /// A node wants to join, and the metadata refuses it.
    JoinRefused(PlaneError),
    /// A member cannot take part in the group, which has as many as it may.
    TooManyMembers {
        /// How many there may be of its kind.
        limit: usize,
    },
    /// The plane stopped.
    Halted(Halt),
}

/// Why a plane stopped: it would have to guess otherwise. It takes part in nothing any
/// more and changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    /// An entry is no command that this release knows.
    #[error("entry {index} is no command that this release knows: {error}")]
    Entry {
        /// Its place in the group's log.
        index: u64,
        /// What is wrong.
        error: FormatError,
    },
    /// The leader's snapshot is no metadata that this release knows.
    #[error("the snapshot of entry {index} is no metadata that this release knows: {error}")]
    Snapshot {
        /// The last entry in it.
        index: u64,
        /// What is wrong.
        error: FormatError,
    },
    /// The leader's snapshot is of another cluster, or of a later entry than it says.
    #[error("the snapshot of entry {index} is not of this cluster and entry")]
    Contradiction {
        /// The last entry in it.
        index: u64,
    },
    /// A command left the metadata in contradiction with itself.
    #[error("entry {index} left a contradiction: {broken}")]
    Broken {
        /// Its place in the group's log.
        index: u64,
        /// Which.
        broken: Broken,
    },
}

/// How a plane is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaneStatus {
    /// This node.
    pub node: PeerName,
    /// Its broker; `None` until it is registered for the first time.
    pub broker: Option<BrokerNumber>,
    /// Who leads, as far as this node knows.
    pub leader: Option<PeerName>,
    /// The other members, as a leader knows them; empty elsewhere.
    pub peers: Vec<PlanePeer>,
    /// How long ago each broker said that it lives, by name, as a leader knows it; empty
    /// elsewhere. Of the leader itself there is no word.
    pub heard: Vec<(Box<str>, Duration)>,
    /// The group.
    pub group: Status,
    /// Version of the metadata.
    pub version: MetaVersion,
    /// [`PlaneOutput::Ready`] was told.
    pub ready: bool,
    /// Median of the last commands that were proposed here while this node led: from the
    /// turn that proposed one until the turn that knew it to be decided. `None` until there
    /// were enough of them.
    pub commit: Option<Duration>,
    /// Requests that are not answered yet.
    pub requests: usize,
    /// Those who follow the changes.
    pub watchers: usize,
}

/// What the logs of a plane have and did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlaneLogs {
    /// That of the group: the metadata.
    pub group: LogStats,
    /// That of the audit.
    pub audit: LogStats,
}

/// Another member, as the leader knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanePeer {
    /// The node; `None` of one whose name is not known.
    pub name: Option<PeerName>,
    /// Its number in the group.
    pub member: MemberId,
    /// Whether it votes.
    pub voter: bool,
    /// Up to here its log is the leader's.
    pub matched: u64,
    /// Entries that it lacks.
    pub lag: u64,
    /// Whether it was heard within the last election timeout or two.
    pub active: bool,
}
