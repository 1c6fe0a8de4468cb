//! Commands of version 1: the structs whose archives they are.

use pinion_types::ResourceId;
use rkyv::{Archive, Deserialize, Serialize};

use super::mirror::{Mirror, mirror};
use super::v1::{
    ApiKey, BrokerFacts, Encryption, Grouping, Issuer, NamespaceQuotas, Policy, QueueSpec,
    ResourceSpec, Seat, StoredKey, TenantQuotas,
};
use super::{FormatError, from_archive, to_archive};
use crate::command::{self, BatchItem, Command, Envelope};
use crate::identity;
use crate::ids::MemberNumber;
use crate::limits::BATCH_COMMANDS_MAX;
use crate::object::ObjectKey;

mirror! {
    /// One entry of the replicated log.
    Sent of Envelope {
        stamp: u64,
        request: [u8; 16],
        origin: u32,
        expect: u64,
        principal: Vec<u8>,
        command: Part,
    }
}

/// A command: its number, and an archive of what it says.
///
/// An archive of its own, so that a command that comes later does not change
/// the bytes of the others.
#[derive(Archive, Serialize, Deserialize)]
pub(crate) struct Part {
    kind: u16,
    body: Vec<u8>,
}

mirror! {
    CreateTenant of command::CreateTenant {
        name: Vec<u8>,
        display_name: Vec<u8>,
        description: Vec<u8>,
        quotas: TenantQuotas,
        encryption: Option<Encryption>,
    }
}

mirror! {
    UpdateTenant of command::UpdateTenant {
        name: Vec<u8>,
        display_name: Option<Vec<u8>>,
        description: Option<Vec<u8>>,
        quotas: Option<TenantQuotas>,
        encryption: Option<Option<Encryption>>,
    }
}

mirror! {
    CreateNamespace of command::CreateNamespace {
        tenant: Vec<u8>,
        name: Vec<u8>,
        description: Vec<u8>,
        quotas: NamespaceQuotas,
    }
}

mirror! {
    UpdateNamespace of command::UpdateNamespace {
        tenant: Vec<u8>,
        name: Vec<u8>,
        description: Option<Vec<u8>>,
        quotas: Option<NamespaceQuotas>,
    }
}

mirror! {
    Declare of command::Declare {
        kind: u8,
        tenant: Vec<u8>,
        namespace: Vec<u8>,
        name: Vec<u8>,
        spec: ResourceSpec,
        seats: Vec<Seat>,
        pinned: Option<u32>,
        create_namespace: bool,
        if_exists: u8,
    }
}

mirror! {
    UpdateResource of command::UpdateResource {
        kind: u8,
        tenant: Vec<u8>,
        namespace: Vec<u8>,
        name: Vec<u8>,
        overflow: Option<u8>,
        max_record_bytes: Option<u32>,
        retention_ms: Option<u64>,
        retention_bytes: Option<u64>,
        queue: Option<QueueSpec>,
    }
}

mirror! {
    Import of command::Import {
        broker: u32,
        from: u64,
        upto: u64,
        next: u64,
        resources: Vec<Imported>,
    }
}

mirror! {
    Imported of command::Imported {
        id: u64,
        tenant: u64,
        kind: u8,
        namespace: Vec<u8>,
        name: Vec<u8>,
        spec: ResourceSpec,
        logs: Vec<u16>,
    }
}

mirror! {
    Rebalance of command::Rebalance {
        key: Vec<u8>,
        strategy: u8,
    }
}

mirror! {
    TransferLeadership of command::TransferLeadership {
        key: Vec<u8>,
        shard: u16,
        to: u32,
    }
}

mirror! {
    DeleteFacts of command::DeleteFacts {
        subscribers: u32,
        durable_bytes: u64,
    }
}

mirror! {
    Delete of command::Delete {
        key: Vec<u8>,
        force: bool,
        grace_ms: u64,
        facts: DeleteFacts,
    }
}

mirror! {
    ConfirmPurged of command::ConfirmPurged {
        broker: u32,
        resources: Vec<u64>,
    }
}

mirror! {
    RegisterBroker of command::RegisterBroker {
        name: Vec<u8>,
        facts: BrokerFacts,
        incarnation: u64,
        gone: Option<u64>,
    }
}

mirror! {
    SetDraining of command::SetDraining {
        name: Vec<u8>,
        draining: bool,
    }
}

mirror! {
    BrokerDown of command::BrokerDown {
        name: Vec<u8>,
        incarnation: u64,
    }
}

mirror! {
    AddMember of command::AddMember {
        broker: u32,
        observer: bool,
        address: Vec<u8>,
        store: [u8; 16],
    }
}

mirror! {
    ReplaceMember of command::ReplaceMember {
        member: u64,
        address: Vec<u8>,
        store: [u8; 16],
    }
}

mirror! {
    SetMemberRole of command::SetMemberRole {
        member: u64,
        role: u8,
    }
}

/// A command that says nothing but which member.
#[derive(Archive, Serialize, Deserialize)]
pub(crate) struct OfMember {
    member: u64,
}

impl Mirror<OfMember> for MemberNumber {
    fn store(&self) -> OfMember {
        OfMember { member: self.0 }
    }

    fn load(plain: OfMember) -> Result<Self, FormatError> {
        Mirror::load(plain.member)
    }
}

mirror! {
    AddPolicies of command::AddPolicies {
        tenant: Vec<u8>,
        scope: Vec<Vec<u8>>,
        policies: Vec<Policy>,
    }
}

mirror! {
    AddGroupings of command::AddGroupings {
        tenant: Vec<u8>,
        scope: Vec<Vec<u8>>,
        groupings: Vec<Grouping>,
    }
}

mirror! {
    DeleteRules of command::DeleteRules {
        tenant: Vec<u8>,
        scope: Vec<Vec<u8>>,
        ids: Vec<u64>,
    }
}

mirror! {
    PutIssuer of command::PutIssuer {
        tenant: Vec<u8>,
        issuer: Vec<u8>,
        rules: Issuer,
    }
}

mirror! {
    CreateApiKey of command::CreateApiKey {
        tenant: Vec<u8>,
        scope: Vec<Vec<u8>>,
        key: ApiKey,
    }
}

mirror! {
    NewKeys of identity::NewKeys {
        current: StoredKey,
        next: StoredKey,
        rotate_every_ms: u64,
    }
}

mirror! {
    CreateKeys of command::CreateKeys {
        tenant: Vec<u8>,
        keys: NewKeys,
    }
}

mirror! {
    RotateKeys of command::RotateKeys {
        tenant: Vec<u8>,
        next: StoredKey,
    }
}

mirror! {
    Revoke of command::Revoke {
        tenant: Vec<u8>,
        what: Vec<u8>,
        at: u64,
    }
}

mirror! {
    NamedIssuer of command::NamedIssuer {
        issuer: Vec<u8>,
        rules: Issuer,
    }
}

mirror! {
    InitializeTenant of command::InitializeTenant {
        tenant: Vec<u8>,
        display_name: Vec<u8>,
        issuers: Vec<NamedIssuer>,
        admins: Vec<Vec<u8>>,
        keys: NewKeys,
    }
}

mirror! {
    UpdateSettings of command::UpdateSettings {
        heartbeat_ms: Option<u32>,
        missed: Option<u16>,
        grace_ms: Option<u64>,
        token_life_s: Option<u32>,
    }
}

/// A command that says nothing but a name.
#[derive(Archive, Serialize, Deserialize)]
pub(crate) struct OfName {
    name: Vec<u8>,
}

impl Mirror<OfName> for Box<str> {
    fn store(&self) -> OfName {
        OfName { name: self.store() }
    }

    fn load(plain: OfName) -> Result<Self, FormatError> {
        Mirror::load(plain.name)
    }
}

/// A command that says nothing but which object.
#[derive(Archive, Serialize, Deserialize)]
pub(crate) struct OfObject {
    key: Vec<u8>,
}

impl Mirror<OfObject> for ObjectKey {
    fn store(&self) -> OfObject {
        OfObject { key: self.store() }
    }

    fn load(plain: OfObject) -> Result<Self, FormatError> {
        Mirror::load(plain.key)
    }
}

/// A command that says nothing but which resource.
#[derive(Archive, Serialize, Deserialize)]
pub(crate) struct OfResource {
    resource: u64,
}

impl Mirror<OfResource> for ResourceId {
    fn store(&self) -> OfResource {
        OfResource { resource: self.0 }
    }

    fn load(plain: OfResource) -> Result<Self, FormatError> {
        Mirror::load(plain.resource)
    }
}

#[derive(Archive, Serialize, Deserialize)]
pub(crate) struct Batch {
    items: Vec<Item>,
}

#[derive(Archive, Serialize, Deserialize)]
pub(crate) struct Item {
    expect: u64,
    command: Part,
}

impl Mirror<Batch> for Box<[BatchItem]> {
    fn store(&self) -> Batch {
        let item = |item: &BatchItem| Item {
            expect: item.expect.store(),
            command: item.command.store(),
        };
        Batch {
            items: self.iter().map(item).collect(),
        }
    }

    fn load(plain: Batch) -> Result<Self, FormatError> {
        let item = |item: Item| {
            // Refused before it is read, or a few bytes a level would be a
            // stack of any height.
            if item.command.kind == BATCH {
                return Err(FormatError::Field {
                    field: "command of a batch",
                    value: BATCH.into(),
                });
            }
            Ok(BatchItem {
                expect: Mirror::load(item.expect)?,
                command: Mirror::load(item.command)?,
            })
        };
        let count = plain.items.len();
        if !(1..=BATCH_COMMANDS_MAX).contains(&count) {
            return Err(FormatError::Field {
                field: "commands of a batch",
                value: count as u64,
            });
        }
        plain.items.into_iter().map(item).collect()
    }
}

/// The stable numbers of commands, never used again for another, and what each
/// is stored as.
macro_rules! commands {
    ($($kind:literal $name:ident as $plain:ident,)*) => {
        impl Mirror<Part> for Command {
            fn store(&self) -> Part {
                match self {
                    Self::Noop => Part { kind: NOOP, body: Vec::new() },
                    $(Self::$name(command) => {
                        let plain: $plain = command.store();
                        Part { kind: $kind, body: to_archive(&plain).into_vec() }
                    })*
                }
            }

            fn load(plain: Part) -> Result<Self, FormatError> {
                match plain.kind {
                    NOOP if plain.body.is_empty() => Ok(Self::Noop),
                    $($kind => {
                        let plain: $plain = from_archive(stringify!($name), &plain.body)?;
                        Ok(Self::$name(Mirror::load(plain)?))
                    })*
                    kind => Err(FormatError::Field { field: "command", value: kind.into() }),
                }
            }
        }
    };
}

/// The command without a body.
const NOOP: u16 = 1;
/// The command that is several.
const BATCH: u16 = 2;

commands! {
    2 Batch as Batch,
    10 CreateTenant as CreateTenant,
    11 UpdateTenant as UpdateTenant,
    20 CreateNamespace as CreateNamespace,
    21 UpdateNamespace as UpdateNamespace,
    30 Declare as Declare,
    31 UpdateResource as UpdateResource,
    32 Rebalance as Rebalance,
    33 CancelPlan as OfObject,
    34 TransferLeadership as TransferLeadership,
    35 Import as Import,
    40 Delete as Delete,
    41 Undelete as OfObject,
    42 Purge as OfObject,
    43 ConfirmPurged as ConfirmPurged,
    44 ForgetTombstone as OfResource,
    50 RegisterBroker as RegisterBroker,
    51 SetDraining as SetDraining,
    52 BrokerDown as BrokerDown,
    53 RemoveBroker as OfName,
    54 AddMember as AddMember,
    55 ReplaceMember as ReplaceMember,
    56 SetMemberRole as SetMemberRole,
    57 RemoveMember as OfMember,
    60 AddPolicies as AddPolicies,
    61 DeletePolicies as DeleteRules,
    62 AddGroupings as AddGroupings,
    63 DeleteGroupings as DeleteRules,
    70 PutIssuer as PutIssuer,
    71 CreateApiKey as CreateApiKey,
    72 Remove as OfObject,
    73 CreateKeys as CreateKeys,
    74 RotateKeys as RotateKeys,
    75 Revoke as Revoke,
    76 InitializeTenant as InitializeTenant,
    80 UpdateSettings as UpdateSettings,
}
