//! The structs whose archives are version 1 of the format: numbers, texts as
//! bytes, lists. The order of fields is the order of the document.

use pinion_types::ResourceId;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};

use super::mirror::{Mirror, mirror};
use super::{FormatError, from_archive, to_archive};
use crate::broker;
use crate::command::{self, BatchItem, Command, Envelope};
use crate::object::{self, Body, Object, ObjectKey};
use crate::requests::Row;
use crate::resource;
use crate::state;
use crate::tenant;

// ------------------------------------------------------------------------ parts

mirror! {
    TenantQuotas of tenant::TenantQuotas {
        max_namespaces: u64,
        max_streams: u64,
        max_publish_rate: u64,
        max_storage_bytes: u64,
        max_connections: u64,
        max_cache_memory_bytes: u64,
        max_policies: u64,
    }
}

mirror! {
    Encryption of tenant::Encryption {
        key_id: Vec<u8>,
        rotation_period_ms: u64,
    }
}

mirror! {
    NamespaceQuotas of tenant::NamespaceQuotas {
        max_streams: u64,
        max_publish_rate: u64,
    }
}

mirror! {
    QueueSpec of resource::QueueSpec {
        visibility_ms: u32,
        max_attempts: u16,
        ordered_by_key: bool,
        drop_expired: bool,
        max_in_flight: u32,
        consumer_in_flight: u32,
        backoff_min_ms: u32,
        backoff_max_ms: u32,
        messages_max: u32,
        redeliveries_per_s: u32,
    }
}

mirror! {
    ResourceSpec of resource::ResourceSpec {
        shards: u16,
        durable: bool,
        overflow: u8,
        max_record_bytes: u32,
        ring_bytes: u64,
        retention_ms: u64,
        retention_bytes: u64,
        replication_factor: u8,
        ack: u8,
        queue: Option<QueueSpec>,
    }
}

mirror! {
    Seat of resource::Seat {
        leader: u32,
        replicas: Vec<u32>,
        log: u16,
    }
}

mirror! {
    Shard of resource::Shard {
        seat: Seat,
        epoch: u64,
    }
}

mirror! {
    Move of resource::Move {
        shard: u16,
        from: u32,
        to: u32,
        status: u8,
    }
}

mirror! {
    MovePlan of resource::MovePlan {
        strategy: Option<u8>,
        requested: u64,
        moves: Vec<Move>,
    }
}

mirror! {
    Label of broker::Label {
        name: Vec<u8>,
        value: Vec<u8>,
    }
}

mirror! {
    Capacity of broker::Capacity {
        max_shards: u32,
        max_connections: u32,
        cores: u16,
        logs: u16,
        memory_per_core: u64,
    }
}

mirror! {
    BrokerFacts of broker::BrokerFacts {
        address: Vec<u8>,
        region: Vec<u8>,
        zone: Vec<u8>,
        labels: Vec<Label>,
        capacity: Capacity,
    }
}

mirror! {
    Counters of state::Counters {
        tenant: u64,
        resource: u64,
        broker: u32,
    }
}

mirror! {
    Request of Row {
        request: [u8; 16],
        principal: Vec<u8>,
        index: u64,
        version: u64,
        key: Option<Vec<u8>>,
    }
}

// ---------------------------------------------------------------------- objects

/// What every object has, but for its key.
#[derive(Archive, Serialize, Deserialize)]
pub(crate) struct Meta {
    created: u64,
    updated: u64,
    version: u64,
    generation: u64,
    deleting: Option<Deleting>,
}

mirror! {
    Deleting of object::Deleting {
        since: u64,
        purge_at: u64,
        cause: u64,
        forced: bool,
    }
}

impl Meta {
    fn store(meta: &object::Meta) -> Self {
        Self {
            created: meta.created.0,
            updated: meta.updated.0,
            version: meta.version.0,
            generation: meta.generation,
            deleting: meta.deleting.store(),
        }
    }

    fn load(self, key: ObjectKey) -> Result<object::Meta, FormatError> {
        Ok(object::Meta {
            key,
            created: Mirror::load(self.created)?,
            updated: Mirror::load(self.updated)?,
            version: Mirror::load(self.version)?,
            generation: self.generation,
            deleting: Mirror::load(self.deleting)?,
        })
    }
}

/// An object: its key, and its body as an archive of its own, so that a kind that
/// comes later does not change the bytes of the others.
#[derive(Archive, Serialize, Deserialize)]
pub(crate) struct Stored {
    key: Vec<u8>,
    meta: Meta,
    body: Vec<u8>,
}

impl Mirror<Stored> for Object {
    fn store(&self) -> Stored {
        Stored {
            key: self.meta.key.store(),
            meta: Meta::store(&self.meta),
            body: store_body(&self.body).into_vec(),
        }
    }

    fn load(plain: Stored) -> Result<Self, FormatError> {
        let key = Mirror::load(plain.key)?;
        let body = load_body(&key, &plain.body)?;
        let meta = plain.meta.load(key)?;
        Ok(Self { meta, body })
    }
}

/// What the body of each kind of object is stored as; the key says which.
macro_rules! bodies {
    ($($name:ident as $plain:ident,)*) => {
        fn store_body(body: &Body) -> AlignedVec {
            match body {
                $(Body::$name(body) => {
                    let plain: $plain = body.store();
                    to_archive(&plain)
                })*
            }
        }

        fn load_body(key: &ObjectKey, bytes: &[u8]) -> Result<Body, FormatError> {
            match key {
                $(ObjectKey::$name { .. } => {
                    let plain: $plain = from_archive(stringify!($name), bytes)?;
                    Ok(Body::$name(Mirror::load(plain)?))
                })*
            }
        }
    };
}

bodies! {
    Tenant as Tenant,
    Namespace as Namespace,
    Resource as Resource,
    Placement as Placement,
    Tombstone as Tombstone,
    Broker as Broker,
}

mirror! {
    Tenant of tenant::Tenant {
        number: u64,
        display_name: Vec<u8>,
        description: Vec<u8>,
        quotas: TenantQuotas,
        encryption: Option<Encryption>,
    }
}

mirror! {
    Namespace of tenant::Namespace {
        description: Vec<u8>,
        quotas: NamespaceQuotas,
    }
}

mirror! {
    Resource of resource::Resource {
        id: u64,
        spec: ResourceSpec,
    }
}

mirror! {
    Placement of resource::Placement {
        resource: u64,
        pinned: Option<u32>,
        shards: Vec<Shard>,
        plan: Option<MovePlan>,
    }
}

mirror! {
    Tombstone of object::Tombstone {
        of: Vec<u8>,
        purged: u64,
        pending: Vec<u32>,
    }
}

mirror! {
    Broker of broker::Broker {
        number: u32,
        facts: BrokerFacts,
        incarnation: u64,
        registered: u64,
        draining: bool,
        down: Option<u64>,
    }
}

// --------------------------------------------------------------------- snapshot

/// The whole state; objects in the order of keys.
#[derive(Archive, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    pub(crate) cluster: [u8; 16],
    pub(crate) version: u64,
    pub(crate) index: u64,
    pub(crate) stamp: u64,
    pub(crate) counters: Counters,
    pub(crate) objects: Vec<Stored>,
    pub(crate) requests: Vec<Request>,
}

// --------------------------------------------------------------------- commands

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
    40 Delete as Delete,
    41 Undelete as OfObject,
    42 Purge as OfObject,
    43 ConfirmPurged as ConfirmPurged,
    44 ForgetTombstone as OfResource,
    50 RegisterBroker as RegisterBroker,
    51 SetDraining as SetDraining,
    52 BrokerDown as BrokerDown,
    53 RemoveBroker as OfName,
}
