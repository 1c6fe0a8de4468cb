//! What can be asked of the metadata.
//!
//! A command says everything that it needs to be applied: who proposes it fills
//! in times, keys and choices, so that every replica comes to the same result.

use pinion_types::{ResourceId, ResourceKind, WallMs};

use crate::broker::BrokerFacts;
use crate::error::MetaError;
use crate::identity::{ApiKey, Issuer, NewKeys, Revoked, StoredKey};
use crate::ids::{BrokerNumber, MemberNumber, MetaVersion, RowId, TenantNumber};
use crate::limits::BATCH_COMMANDS_MAX;
use crate::member::MemberRole;
use crate::object::ObjectKey;
use crate::policy::PolicyObject;
use crate::rbac::{Grouping, Policy};
use crate::resource::{QueueSpec, ResourceSpec, Seat, Strategy};
use crate::subject::Subject;
use crate::tenant::{Encryption, NamespaceQuotas, TenantQuotas};

/// One entry of the replicated log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The proposing leader's time. What is earlier than the last one is taken
    /// for the last one.
    pub stamp: WallMs,
    /// Chosen by the client at random so that a repeat is recognised, or 0.
    pub request: u128,
    /// Who asked, at most [`PRINCIPAL_BYTES_MAX`](crate::limits::PRINCIPAL_BYTES_MAX) bytes.
    pub principal: Box<str>,
    /// The broker that was asked.
    pub origin: BrokerNumber,
    /// What the command's target must be like.
    pub expect: Expect,
    /// What is asked.
    pub command: Command,
}

/// A condition on the object that a command is about ([`Command::target`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expect {
    /// None.
    #[default]
    Any,
    /// There is no such object.
    Absent,
    /// Its last change made this version.
    Version(MetaVersion),
}

/// Everything that can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Makes a tenant.
    CreateTenant(CreateTenant),
    /// Changes a tenant.
    UpdateTenant(UpdateTenant),
    /// Makes a namespace.
    CreateNamespace(CreateNamespace),
    /// Changes a namespace.
    UpdateNamespace(UpdateNamespace),
    /// Makes a resource and places it.
    Declare(Declare),
    /// Changes a resource.
    UpdateResource(UpdateResource),
    /// Takes over resources that a broker declared by itself, before there was metadata.
    Import(Import),
    /// Plans where the shards of a resource are to go.
    Rebalance(Rebalance),
    /// Gives up what is pending of a resource's plan: the resource.
    CancelPlan(ObjectKey),
    /// Plans that another broker leads a shard.
    TransferLeadership(TransferLeadership),
    /// Deletes a tenant, a namespace or a resource, with everything in it.
    Delete(Delete),
    /// Takes back a deletion.
    Undelete(ObjectKey),
    /// Ends what is deleted and whose grace is over; nothing may be in it.
    Purge(ObjectKey),
    /// A broker's word that it has no data of some purged resources.
    ConfirmPurged(ConfirmPurged),
    /// Waits for nobody to confirm that a resource's data is gone.
    ForgetTombstone(ResourceId),
    /// A broker says that it is there.
    RegisterBroker(RegisterBroker),
    /// Nothing more is placed on a broker, or again.
    SetDraining(SetDraining),
    /// A broker does not beat.
    BrokerDown(BrokerDown),
    /// A broker is gone for good: its name.
    RemoveBroker(Box<str>),
    /// A broker is to have a member of the group.
    AddMember(AddMember),
    /// A member is another from now on: its disk is gone.
    ReplaceMember(ReplaceMember),
    /// The group has made of a member something else.
    SetMemberRole(SetMemberRole),
    /// A member is none any more.
    RemoveMember(MemberNumber),
    /// Allows subjects something.
    AddPolicies(AddPolicies),
    /// Allows it no more.
    DeletePolicies(DeleteRules),
    /// Gives subjects roles.
    AddGroupings(AddGroupings),
    /// Takes roles away.
    DeleteGroupings(DeleteRules),
    /// Makes or changes an identity provider.
    PutIssuer(PutIssuer),
    /// Makes an API key.
    CreateApiKey(CreateApiKey),
    /// Takes away an identity provider or an API key, at once.
    Remove(ObjectKey),
    /// Makes the keys that sign a tenant's tokens.
    CreateKeys(CreateKeys),
    /// The next key of a tenant signs from now on.
    RotateKeys(RotateKeys),
    /// A token, or all tokens that somebody has, count no more.
    Revoke(Revoke),
    /// A tenant's first day, once.
    InitializeTenant(InitializeTenant),
    /// Changes settings of the cluster.
    UpdateSettings(UpdateSettings),
    /// All of these in order, or none of them; no batch among them.
    Batch(Box<[BatchItem]>),
    /// Changes nothing; that it was applied says who leads.
    Noop,
}

impl Command {
    /// Whether it takes away: what is to be done also when there is hardly room to write it
    /// down, because it makes some, or ends what somebody may do.
    #[must_use]
    pub fn takes_away(&self) -> bool {
        match self {
            Self::Delete(_)
            | Self::Purge(_)
            | Self::ConfirmPurged(_)
            | Self::ForgetTombstone(_)
            | Self::RemoveBroker(_)
            | Self::RemoveMember(_)
            | Self::DeletePolicies(_)
            | Self::DeleteGroupings(_)
            | Self::Remove(_)
            | Self::Revoke(_) => true,
            Self::Batch(items) => items.iter().all(|item| item.command.takes_away()),
            _ => false,
        }
    }

    /// The object that the command is about; [`Envelope::expect`] speaks of it.
    #[must_use]
    pub fn target(&self) -> Option<ObjectKey> {
        match self {
            Self::CreateTenant(CreateTenant { name, .. })
            | Self::UpdateTenant(UpdateTenant { name, .. }) => Some(ObjectKey::tenant(name)),
            Self::CreateNamespace(CreateNamespace { tenant, name, .. })
            | Self::UpdateNamespace(UpdateNamespace { tenant, name, .. }) => {
                Some(ObjectKey::namespace(tenant, name))
            }
            Self::Declare(Declare {
                kind,
                tenant,
                namespace,
                name,
                ..
            })
            | Self::UpdateResource(UpdateResource {
                kind,
                tenant,
                namespace,
                name,
                ..
            }) => Some(ObjectKey::resource(*kind, tenant, namespace, name)),
            Self::Rebalance(Rebalance { key, .. })
            | Self::CancelPlan(key)
            | Self::TransferLeadership(TransferLeadership { key, .. }) => key.placed(),
            Self::Delete(Delete { key, .. }) | Self::Undelete(key) | Self::Purge(key) => {
                Some(key.clone())
            }
            Self::RegisterBroker(RegisterBroker { name, .. })
            | Self::SetDraining(SetDraining { name, .. })
            | Self::BrokerDown(BrokerDown { name, .. })
            | Self::RemoveBroker(name) => Some(ObjectKey::broker(name)),
            Self::ForgetTombstone(resource) => Some(ObjectKey::Tombstone(*resource)),
            Self::ReplaceMember(ReplaceMember { member, .. })
            | Self::SetMemberRole(SetMemberRole { member, .. })
            | Self::RemoveMember(member) => Some(ObjectKey::Member(*member)),
            Self::PutIssuer(PutIssuer { tenant, issuer, .. }) => {
                Some(ObjectKey::issuer(tenant, issuer))
            }
            Self::Remove(key) => Some(key.clone()),
            Self::CreateKeys(CreateKeys { tenant, .. })
            | Self::RotateKeys(RotateKeys { tenant, .. }) => Some(ObjectKey::signing_keys(tenant)),
            Self::Revoke(Revoke { tenant, what, .. }) => {
                Some(ObjectKey::revocation(tenant, what.clone()))
            }
            Self::InitializeTenant(InitializeTenant { tenant, .. }) => {
                Some(ObjectKey::bootstrap(tenant))
            }
            Self::UpdateSettings(_) => Some(ObjectKey::Settings),
            Self::CreateApiKey(_)
            | Self::Import(_)
            | Self::AddMember(_)
            | Self::AddPolicies(_)
            | Self::DeletePolicies(_)
            | Self::AddGroupings(_)
            | Self::DeleteGroupings(_)
            | Self::ConfirmPurged(_)
            | Self::Batch(_)
            | Self::Noop => None,
        }
    }

    /// Refused when a key that it names breaks the grammar: its text would not be read as the
    /// same key, or as none.
    pub(crate) fn check_keys(&self) -> Result<(), MetaError> {
        match self {
            Self::Rebalance(Rebalance { key, .. })
            | Self::CancelPlan(key)
            | Self::TransferLeadership(TransferLeadership { key, .. })
            | Self::Delete(Delete { key, .. })
            | Self::Undelete(key)
            | Self::Purge(key)
            | Self::Remove(key) => key.well_formed(),
            Self::Batch(items) => {
                for (at, item) in items.iter().enumerate() {
                    item.command
                        .check_keys()
                        .map_err(|error| MetaError::Batch {
                            at,
                            error: Box::new(error),
                        })?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Refused when it is a batch that is none: a batch within a batch would be
    /// read to any depth.
    pub(crate) fn check_batch(&self) -> Result<(), MetaError> {
        let Self::Batch(items) = self else {
            return Ok(());
        };
        let nested = |item: &BatchItem| matches!(item.command, Self::Batch(_));
        if items.is_empty() || items.len() > BATCH_COMMANDS_MAX || items.iter().any(nested) {
            return Err(MetaError::BadBatch {
                limit: BATCH_COMMANDS_MAX,
            });
        }
        Ok(())
    }
}

/// Makes a tenant, which gets the next number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateTenant {
    /// One segment in lower case.
    pub name: Box<str>,
    /// For tables.
    pub display_name: Box<str>,
    /// For people.
    pub description: Box<str>,
    /// What it may use.
    pub quotas: TenantQuotas,
    /// The key its data is to be encrypted with.
    pub encryption: Option<Encryption>,
}

/// Changes what is given of a tenant; what is `None` stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateTenant {
    /// Which.
    pub name: Box<str>,
    /// For tables.
    pub display_name: Option<Box<str>>,
    /// For people.
    pub description: Option<Box<str>>,
    /// All quotas together; none may be below what is used.
    pub quotas: Option<TenantQuotas>,
    /// `Some(None)` takes the key away.
    pub encryption: Option<Option<Encryption>>,
}

/// Makes a namespace in a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateNamespace {
    /// Whose it is.
    pub tenant: Box<str>,
    /// One segment.
    pub name: Box<str>,
    /// For people.
    pub description: Box<str>,
    /// What it may use.
    pub quotas: NamespaceQuotas,
}

/// Changes what is given of a namespace; what is `None` stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateNamespace {
    /// Whose it is.
    pub tenant: Box<str>,
    /// Which.
    pub name: Box<str>,
    /// For people.
    pub description: Option<Box<str>>,
    /// All quotas together.
    pub quotas: Option<NamespaceQuotas>,
}

/// Makes a resource, which gets the next number, and places it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declare {
    /// What it is.
    pub kind: ResourceKind,
    /// Whose it is.
    pub tenant: Box<str>,
    /// Where it is.
    pub namespace: Box<str>,
    /// Segments joined by `/`.
    pub name: Box<str>,
    /// What it is to be like.
    pub spec: ResourceSpec,
    /// Where each shard is to be.
    pub seats: Box<[Seat]>,
    /// The broker that is to have all of it; seats name it then.
    pub pinned: Option<BrokerNumber>,
    /// Makes the namespace too if there is none.
    pub create_namespace: bool,
    /// What if there is such a resource.
    pub if_exists: IfExists,
}

/// What becomes of a declaration of what exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum IfExists {
    /// Done if it is to be like this one, and where that one is.
    Same = 0,
    /// Refused.
    Refuse = 1,
}

/// Changes what is given of a resource; what is `None` stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateResource {
    /// What it is.
    pub kind: ResourceKind,
    /// Whose it is.
    pub tenant: Box<str>,
    /// Where it is.
    pub namespace: Box<str>,
    /// Which.
    pub name: Box<str>,
    /// For subscribers that ask for none.
    pub overflow: Option<u8>,
    /// Largest record or value.
    pub max_record_bytes: Option<u32>,
    /// Longest a record is kept.
    pub retention_ms: Option<u64>,
    /// Bytes that are kept.
    pub retention_bytes: Option<u64>,
    /// All that only a queue has; whether it is ordered by key stays.
    pub queue: Option<QueueSpec>,
}

/// Takes over resources that a broker declared by itself, before there was metadata. They
/// keep their numbers, which their data is stored under, and lie where they are.
///
/// What one command cannot hold comes in pieces, which follow each other: each begins where
/// the one before ended. A piece that comes again changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// Where the data is.
    pub broker: BrokerNumber,
    /// [`Import::upto`] of the piece before; 0 of the first, which is taken only while no
    /// resource was ever declared otherwise.
    pub from: ResourceId,
    /// Every number from `from` to below this one is in this piece, or has no resource.
    pub upto: ResourceId,
    /// Above every number that was ever given out there; the last piece ends here. It is the
    /// same in all of them.
    pub next: ResourceId,
    /// At most [`IMPORTED_MAX`](crate::limits::IMPORTED_MAX), by number, ascending.
    pub resources: Box<[Imported]>,
}

/// A resource as it was declared before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// Its number.
    pub id: ResourceId,
    /// Whose it is. A tenant that there is not is made, and named after its number.
    pub tenant: TenantNumber,
    /// What it is.
    pub kind: ResourceKind,
    /// Where it is. A namespace that there is not is made.
    pub namespace: Box<str>,
    /// Segments joined by `/`.
    pub name: Box<str>,
    /// What it is like, complete.
    pub spec: ResourceSpec,
    /// The log of each shard.
    pub logs: Box<[u16]>,
}

/// Plans where the shards of a resource are to go. Where all of them should stay
/// there is no plan. What is pinned to a broker stays there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebalance {
    /// The resource.
    pub key: ObjectKey,
    /// What is wanted.
    pub strategy: Strategy,
}

/// Plans that another broker leads a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferLeadership {
    /// The resource.
    pub key: ObjectKey,
    /// Which of its shards.
    pub shard: u16,
    /// Who is to lead; it has a copy.
    pub to: BrokerNumber,
}

/// Deletes a tenant, a namespace or a resource, with everything in it. It can be
/// taken back until the grace is over; then it is purged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delete {
    /// Which.
    pub key: ObjectKey,
    /// In spite of what is in it, who reads it and what data it has.
    pub force: bool,
    /// Milliseconds until it may be purged; 0 only with `force`, at most
    /// [`GRACE_MS_MAX`](crate::limits::GRACE_MS_MAX).
    pub grace_ms: u64,
    /// What the proposer found out about a resource.
    pub facts: DeleteFacts,
}

/// What stands against deleting a resource, as measured by who proposes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeleteFacts {
    /// Subscribers on all brokers.
    pub subscribers: u32,
    /// Bytes of durable data on all brokers.
    pub durable_bytes: u64,
}

/// A broker has no data of these resources any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfirmPurged {
    /// Which broker.
    pub broker: BrokerNumber,
    /// Of which; at most [`CONFIRMED_MAX`](crate::limits::CONFIRMED_MAX).
    pub resources: Box<[ResourceId]>,
}

/// A broker says that it is there, in a new life of its process or in the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisterBroker {
    /// One segment in lower case.
    pub name: Box<str>,
    /// What it says of itself; takes the place of what it said before.
    pub facts: BrokerFacts,
    /// The life of its process, drawn at random at its start.
    pub incarnation: u64,
    /// The incarnation that the proposer knows to live no more, if any: another
    /// one that is not down is never replaced.
    pub gone: Option<u64>,
}

/// Nothing more is placed on a broker, or again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetDraining {
    /// Which broker.
    pub name: Box<str>,
    /// Whether it drains.
    pub draining: bool,
}

/// A broker does not beat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerDown {
    /// Which broker.
    pub name: Box<str>,
    /// Which life of it was missed.
    pub incarnation: u64,
}

/// A broker is to have a member of the group, which gets the next number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddMember {
    /// Which broker; it has none yet.
    pub broker: BrokerNumber,
    /// It is to follow and never to vote.
    pub observer: bool,
    /// Where other members reach it: `host:port`.
    pub address: Box<str>,
    /// The data directory that it is in: a node whose directory is another one has lost
    /// what this member knew.
    pub store: [u8; 16],
}

/// A member is another from now on, with the next number: what it knew is gone,
/// and it must not vote twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplaceMember {
    /// The one that is gone.
    pub member: MemberNumber,
    /// Where other members reach the new one.
    pub address: Box<str>,
    /// Its data directory.
    pub store: [u8; 16],
}

/// The group has made of a member something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetMemberRole {
    /// Which.
    pub member: MemberNumber,
    /// What it is now.
    pub role: MemberRole,
}

/// Allows subjects something. A policy that there is stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddPolicies {
    /// Whose policies.
    pub tenant: Box<str>,
    /// Where who asks may grant, as the proposer found out; at most
    /// [`SCOPE_MAX`](crate::limits::SCOPE_MAX) objects.
    pub scope: Box<[PolicyObject]>,
    /// 1 to [`ROWS_MAX`](crate::limits::ROWS_MAX), each inside of the scope.
    pub policies: Box<[Policy]>,
}

/// Gives subjects roles. A grouping that there is stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddGroupings {
    /// Whose groupings.
    pub tenant: Box<str>,
    /// Where who asks may grant: all that a role has must be inside of it.
    pub scope: Box<[PolicyObject]>,
    /// 1 to [`ROWS_MAX`](crate::limits::ROWS_MAX).
    pub groupings: Box<[Grouping]>,
}

/// Takes policies, or groupings, away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteRules {
    /// Whose.
    pub tenant: Box<str>,
    /// Where who asks may grant; what goes must be inside of it.
    pub scope: Box<[PolicyObject]>,
    /// 1 to [`ROWS_MAX`](crate::limits::ROWS_MAX), each of which there is.
    pub ids: Box<[RowId]>,
}

/// Makes or changes an identity provider of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutIssuer {
    /// Who believes it.
    pub tenant: Box<str>,
    /// As tokens name it: an address without query, at most
    /// [`ISSUER_BYTES_MAX`](crate::limits::ISSUER_BYTES_MAX) bytes.
    pub issuer: Box<str>,
    /// Takes the place of all that was said of it before.
    pub rules: Issuer,
}

/// Makes an API key of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateApiKey {
    /// Whose.
    pub tenant: Box<str>,
    /// Where who asks may give roles: all that the key's subject may do must be inside of
    /// it, because whoever has the key may do that.
    pub scope: Box<[PolicyObject]>,
    /// What is kept of it.
    pub key: ApiKey,
}

/// Makes the keys that sign a tenant's tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateKeys {
    /// Whose.
    pub tenant: Box<str>,
    /// Made by the proposer.
    pub keys: NewKeys,
}

/// The next key of a tenant signs from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RotateKeys {
    /// Whose.
    pub tenant: Box<str>,
    /// The one after it, made by the proposer.
    pub next: StoredKey,
}

/// A token, or all tokens that somebody has, count no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoke {
    /// Whose tokens.
    pub tenant: Box<str>,
    /// Which.
    pub what: Revoked,
    /// Of a token, when it ends; of a subject, up to when tokens were issued that
    /// count no more, which is now at most.
    pub at: WallMs,
}

/// A tenant's first day: the tenant if there is none, who is believed, who
/// administers, and what signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitializeTenant {
    /// Which.
    pub tenant: Box<str>,
    /// For tables; of a tenant that there is, it stays.
    pub display_name: Box<str>,
    /// At most [`ISSUERS_PER_TENANT_MAX`](crate::limits::ISSUERS_PER_TENANT_MAX).
    pub issuers: Box<[NamedIssuer]>,
    /// 1 to [`ADMINS_MAX`](crate::limits::ADMINS_MAX).
    pub admins: Box<[Subject]>,
    /// For a tenant that has none.
    pub keys: NewKeys,
}

/// An identity provider and how tokens name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedIssuer {
    /// Its `iss`.
    pub issuer: Box<str>,
    /// What else is to be known of it.
    pub rules: Issuer,
}

/// Changes what is given of the settings; what is `None` stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpdateSettings {
    /// Milliseconds between two beats of a broker.
    pub heartbeat_ms: Option<u32>,
    /// Beats in a row after whose absence a broker is down.
    pub missed: Option<u16>,
    /// Milliseconds from a deletion to its purge.
    pub grace_ms: Option<u64>,
    /// Seconds that a token lives.
    pub token_life_s: Option<u32>,
}

/// One command of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchItem {
    /// What its target must be like when its turn comes.
    pub expect: Expect,
    /// What is asked.
    pub command: Command,
}
