//! Why a command was refused. The state is unchanged in every case.

use core::fmt;

use pinion_types::{NameError, WallMs};

use crate::command::Expect;
use crate::ids::{BrokerNumber, MemberNumber, MetaVersion};
use crate::object::ObjectKey;
use crate::policy::PolicyObject;

/// Why a command was refused, with the facts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetaError {
    /// A name breaks the grammar.
    #[error("the name of the {what}: {why}")]
    BadName {
        /// Whose name.
        what: NameOf,
        /// What is wrong with it.
        why: NameError,
    },
    /// A field is out of its range; of a text, its length in bytes.
    #[error("{field} is {actual}, allowed are {min} to {max}")]
    BadSpec {
        /// Which field.
        field: &'static str,
        /// What it is.
        actual: u64,
        /// Least allowed.
        min: u64,
        /// Most allowed.
        max: u64,
    },
    /// A text has a control character.
    #[error("{field} has a control character at byte {position}")]
    BadText {
        /// Which field.
        field: &'static str,
        /// Where.
        position: usize,
    },
    /// A placement names a broker twice for one shard.
    #[error("broker {0} is named twice for one shard")]
    BrokerTwice(BrokerNumber),
    /// Not `host:port`.
    #[error("`{address}` is no host and port")]
    BadAddress {
        /// What it is.
        address: Box<str>,
    },
    /// Labels are in the order of their names, each once.
    #[error("label {at} is not after the one before it")]
    LabelOrder {
        /// Which, counted from 0.
        at: usize,
    },
    /// Not an address of the web, or too long.
    #[error("`{url}` is no address, or too long")]
    BadUrl {
        /// What it is.
        url: Box<str>,
    },
    /// No algorithm, or not in order, each once.
    #[error("algorithms are at least one, in order, each once")]
    BadAlgorithms,
    /// A tenant is initialised once.
    #[error("the tenant {tenant} was initialised before")]
    AlreadyInitialized {
        /// Which.
        tenant: Box<str>,
    },
    /// A policy is over objects of its own tenant.
    #[error("{object} is not in the tenant")]
    OutsideTenant {
        /// What it is over.
        object: PolicyObject,
    },
    /// Who asks may not grant or take away anything there.
    #[error("{object} is outside of the scope of who asks")]
    OutsideScope {
        /// Where it reaches.
        object: PolicyObject,
    },
    /// A role leads to itself, or over too many others.
    #[error("from the role {role}, more than {limit} roles are in a row, or it leads to itself")]
    RoleCycle {
        /// Where it begins.
        role: Box<str>,
        /// Most roles in a row.
        limit: usize,
    },
    /// Deleting is for tenants, namespaces and resources.
    #[error("{0} is nothing that is deleted")]
    NotDeletable(ObjectKey),
    /// A batch has no commands, too many, or a batch in it.
    #[error("a batch has 1 to {limit} commands, and no batch among them")]
    BadBatch {
        /// Most commands.
        limit: usize,
    },
    /// A quota is set above the one of the tenant.
    #[error("the quota {quota} is {wanted}, the tenant has {limit}")]
    QuotaAboveParent {
        /// Which quota.
        quota: Quota,
        /// What was asked for the namespace.
        wanted: u64,
        /// What the tenant has.
        limit: u64,
    },
    /// There is no such object.
    #[error("there is no {0}")]
    NotFound(ObjectKey),
    /// There is such an object already.
    #[error("{0} exists")]
    Exists(ObjectKey),
    /// The object was deleted; it can be taken back until its grace is over.
    #[error("{0} was deleted, and can be taken back for now")]
    Deleting(ObjectKey),
    /// The object was not deleted.
    #[error("{0} was not deleted")]
    NotDeleting(ObjectKey),
    /// What the object is in was deleted: take that back first.
    #[error("{0} was deleted: take it back first")]
    ParentDeleting(ObjectKey),
    /// A broker of this name lives: stop it, or wait until it is found to be down.
    #[error("a broker of this name lives, as incarnation {incarnation:#x}")]
    BrokerAlive {
        /// The one that lives.
        incarnation: u64,
    },
    /// The broker has started again since: look again.
    #[error("the broker is incarnation {incarnation:#x} now")]
    OtherIncarnation {
        /// The present one.
        incarnation: u64,
    },
    /// The broker serves: drain it, or wait until it is found to be down.
    #[error("{0} is neither drained nor down")]
    StillActive(ObjectKey),
    /// Shards are on the broker, or are to come: move them first.
    #[error("the broker leads {leads} shards, has copies of {copies}, and {arriving} are to come")]
    StillLeading {
        /// Shards that it leads.
        leads: u64,
        /// Shards that it has copies of.
        copies: u64,
        /// Moves of pending plans that go to it.
        arriving: u64,
    },
    /// Nothing of a plan is still to be done.
    #[error("{0} has no plan that is pending")]
    NoPlan(ObjectKey),
    /// A plan is not done yet: cancel it, or wait.
    #[error("{0} has a plan that is pending")]
    PlanPending(ObjectKey),
    /// No broker takes anything, or too few do.
    #[error("there is no active broker with room")]
    NoBroker,
    /// Only who has a copy of a shard can lead it.
    #[error("broker {0} has no copy of the shard")]
    NotAReplica(BrokerNumber),
    /// The broker has a member already: replace that one.
    #[error("broker {0} has a member")]
    MemberExists(BrokerNumber),
    /// A member of the group is on the broker: remove that first.
    #[error("a member of the group is on {0}")]
    StillMember(ObjectKey),
    /// A broker that nothing can be placed on.
    #[error("broker {0} is down, or there is none")]
    BrokerUnavailable(BrokerNumber),
    /// Somebody reads it.
    #[error("{count} subscribers read it")]
    HasSubscribers {
        /// How many.
        count: u32,
    },
    /// It has durable data.
    #[error("it has {bytes} bytes of durable data")]
    HasData {
        /// How many.
        bytes: u64,
    },
    /// There is something in it.
    #[error("{inside} objects are in it")]
    NotEmpty {
        /// How many.
        inside: u64,
    },
    /// Only what is forced goes without grace.
    #[error("a deletion without grace must be forced")]
    GraceRequired,
    /// Its grace is not over.
    #[error("its grace ends at {} ms", .purge_at.0)]
    TooEarly {
        /// When it is.
        purge_at: WallMs,
    },
    /// One command of a batch was refused, and so none was done.
    #[error("command {at} of the batch: {error}")]
    Batch {
        /// Which, counted from 0.
        at: usize,
        /// Why.
        error: Box<MetaError>,
    },
    /// The target is not what was expected of it: read it and decide again.
    #[error("expected {expected:?}, found {found:?}")]
    VersionConflict {
        /// What was asked for.
        expected: Expect,
        /// The version of its last change; `None` if there is no such object.
        found: Option<MetaVersion>,
    },
    /// The resource exists and is to be like something else.
    #[error("{0} exists with another specification")]
    SpecConflict(ObjectKey),
    /// The field cannot be changed once the resource exists.
    #[error("{field} cannot be changed")]
    ImmutableField {
        /// Which field.
        field: &'static str,
    },
    /// The cluster holds as many of these as it can.
    #[error("the cluster has {limit} {what}, which is the most")]
    LimitReached {
        /// What there are too many of.
        what: &'static str,
        /// How many there may be.
        limit: u64,
    },
    /// A broker has not so much memory to promise: ask for less, or purge something, or
    /// give it more. `broker` is the one that was chosen; without it no broker has.
    #[error("{} not the memory for a partition of {bytes} bytes", match broker {
        Some(broker) => format!("broker {broker} has"),
        None => "the brokers have".into(),
    })]
    NoMemory {
        /// What each partition is promised.
        bytes: u64,
        /// Who has not so much.
        broker: Option<BrokerNumber>,
    },
    /// The tenant or namespace may have no more.
    #[error("the quota {quota} is {limit}, and {used} are used, deleted and not purged ones too")]
    QuotaExceeded {
        /// Which quota.
        quota: Quota,
        /// What it is.
        limit: u64,
        /// What is used of it, with what is deleted and not purged.
        used: u64,
    },
    /// A quota was to become smaller than what is used.
    #[error(
        "the quota {quota} cannot be {wanted}: {used} are used, deleted and not purged ones too"
    )]
    QuotaBelowUse {
        /// Which quota.
        quota: Quota,
        /// What it was to be.
        wanted: u64,
        /// What is used of it, with what is deleted and not purged.
        used: u64,
    },
    /// Nobody else votes: without this member nothing would ever be decided again.
    #[error("member {0} is the only one that votes: let another vote first")]
    LastVoter(MemberNumber),
    /// The command has too many bytes for one entry of the replicated log.
    #[error("the command has {bytes} bytes, the most is {limit}")]
    TooLarge {
        /// How many it has.
        bytes: usize,
        /// How many it may have.
        limit: usize,
    },
}

/// Whose name is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameOf {
    /// A tenant's: one segment in lower case.
    Tenant,
    /// A namespace's: one segment.
    Namespace,
    /// A resource's, with its namespace.
    Resource,
    /// A broker's: one segment in lower case.
    Broker,
    /// A role's: one segment.
    Role,
}

impl fmt::Display for NameOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tenant => "tenant",
            Self::Namespace => "namespace",
            Self::Resource => "resource",
            Self::Broker => "broker",
            Self::Role => "role",
        })
    }
}

/// A quota, by the name it has in requests and answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quota {
    /// `max_namespaces`
    Namespaces,
    /// `max_streams`
    Streams,
    /// `max_publish_rate`
    PublishRate,
    /// `max_storage_bytes`
    Storage,
    /// `max_cache_memory_bytes`
    CacheMemory,
    /// `max_policies`
    Policies,
}

impl Quota {
    /// Its name in requests and answers.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Namespaces => "max_namespaces",
            Self::Streams => "max_streams",
            Self::PublishRate => "max_publish_rate",
            Self::Storage => "max_storage_bytes",
            Self::CacheMemory => "max_cache_memory_bytes",
            Self::Policies => "max_policies",
        }
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

macro_rules! codes {
    ($($name:ident = $number:literal $text:literal,)*) => {
        /// Stable number and word of a refusal. Never reused, never renumbered.
        ///
        /// 1xx: the request is wrong; 2xx: something is absent or present;
        /// 3xx: it conflicts with what is; 4xx: it is not safe now; 5xx: limits.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum MetaCode {
            $(#[doc = concat!("[`MetaError::", stringify!($name), "`]")] $name = $number,)*
        }

        impl MetaCode {
            /// Every code, for tables and tests.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The word that APIs show.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }

        impl MetaError {
            /// The stable code.
            #[must_use]
            pub const fn code(&self) -> MetaCode {
                match self { $(Self::$name { .. } => MetaCode::$name,)* }
            }
        }
    };
}

codes! {
    BadName = 101 "bad_name",
    BadSpec = 102 "bad_spec",
    BadAddress = 103 "bad_address",
    BadUrl = 104 "bad_url",
    OutsideTenant = 108 "outside_tenant",
    OutsideScope = 109 "outside_scope",
    QuotaAboveParent = 110 "quota_above_parent",
    BadAlgorithms = 111 "bad_algorithm",
    BadText = 112 "bad_text",
    BrokerTwice = 113 "broker_twice",
    NotDeletable = 114 "not_deletable",
    BadBatch = 115 "bad_batch",
    LabelOrder = 116 "label_order",
    NotFound = 201 "not_found",
    Exists = 202 "exists",
    Deleting = 203 "deleting",
    NotDeleting = 204 "not_deleting",
    NoPlan = 205 "no_plan",
    NoBroker = 206 "no_broker",
    MemberExists = 207 "member_exists",
    AlreadyInitialized = 208 "already_initialized",
    VersionConflict = 301 "version_conflict",
    SpecConflict = 302 "spec_conflict",
    ImmutableField = 303 "immutable_field",
    PlanPending = 304 "plan_pending",
    RoleCycle = 306 "role_cycle",
    BrokerAlive = 307 "broker_alive",
    ParentDeleting = 308 "parent_deleting",
    OtherIncarnation = 309 "other_incarnation",
    HasSubscribers = 401 "has_subscribers",
    HasData = 402 "has_data",
    NotEmpty = 403 "not_empty",
    GraceRequired = 404 "grace_required",
    TooEarly = 405 "too_early",
    StillLeading = 406 "still_leading",
    StillMember = 407 "still_member",
    BrokerUnavailable = 408 "broker_unavailable",
    NotAReplica = 409 "not_a_replica",
    StillActive = 410 "still_active",
    LastVoter = 411 "last_voter",
    LimitReached = 501 "limit_reached",
    QuotaExceeded = 502 "quota_exceeded",
    QuotaBelowUse = 503 "quota_below_use",
    TooLarge = 504 "too_large",
    NoMemory = 505 "no_memory",
    Batch = 510 "batch",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_words_are_unique() {
        for (at, code) in MetaCode::ALL.iter().enumerate() {
            for other in &MetaCode::ALL[at + 1..] {
                assert_ne!(*code as u16, *other as u16);
                assert_ne!(code.text(), other.text());
            }
        }
    }
}
