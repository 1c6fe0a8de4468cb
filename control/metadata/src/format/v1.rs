//! Snapshots of version 1: the structs whose archives they are, of numbers, texts
//! as bytes, and lists. The order of fields is the order of the document.

use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};

use super::mirror::{Mirror, mirror};
use super::{FormatError, from_archive, to_archive};
use crate::broker;
use crate::identity;
use crate::member;
use crate::object::{self, Body, Object, ObjectKey};
use crate::rbac;
use crate::requests::Row;
use crate::resource;
use crate::settings;
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
        row: u64,
        member: u64,
        imported: u64,
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
    Policy as Policy,
    Grouping as Grouping,
    Issuer as Issuer,
    ApiKey as ApiKey,
    SigningKeys as SigningKeys,
    Revocation as Revocation,
    Bootstrap as Bootstrap,
    Member as Member,
    Settings as Settings,
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

mirror! {
    Policy of rbac::Policy {
        subject: Vec<u8>,
        action: Vec<u8>,
        object: Vec<u8>,
    }
}

mirror! {
    Grouping of rbac::Grouping {
        member: Vec<u8>,
        role: Vec<u8>,
    }
}

mirror! {
    Issuer of identity::Issuer {
        audiences: Vec<Vec<u8>>,
        keys: KeySource,
        algorithms: Vec<u8>,
        subject_claim: Vec<u8>,
        groups_claim: Option<Vec<u8>>,
        clock_skew_s: u16,
    }
}

/// Which document an address is of, and the address.
#[derive(Archive, Serialize, Deserialize)]
pub(crate) struct KeySource {
    document: u8,
    url: Vec<u8>,
}

impl Mirror<KeySource> for identity::KeySource {
    fn store(&self) -> KeySource {
        let (document, url) = match self {
            Self::Discovery(url) => (0, url.store()),
            Self::Jwks(url) => (1, url.store()),
        };
        KeySource { document, url }
    }

    fn load(plain: KeySource) -> Result<Self, FormatError> {
        let url = Mirror::load(plain.url)?;
        match plain.document {
            0 => Ok(Self::Discovery(url)),
            1 => Ok(Self::Jwks(url)),
            other => Err(FormatError::Field {
                field: "document",
                value: other.into(),
            }),
        }
    }
}

mirror! {
    ApiKey of identity::ApiKey {
        name: Vec<u8>,
        prefix: [u8; 8],
        digest: [u8; 32],
        subject: Vec<u8>,
        expires: Option<u64>,
    }
}

mirror! {
    StoredKey of identity::StoredKey {
        public: [u8; 32],
        sealed: [u8; 68],
    }
}

mirror! {
    RetiredKey of identity::RetiredKey {
        key: StoredKey,
        until: u64,
    }
}

mirror! {
    SigningKeys of identity::SigningKeys {
        current: StoredKey,
        next: StoredKey,
        previous: Option<RetiredKey>,
        rotate_every_ms: u64,
        rotated: u64,
    }
}

mirror! {
    Revocation of identity::Revocation {
        issued_before: Option<u64>,
        until: u64,
    }
}

mirror! {
    Bootstrap of identity::Bootstrap {
        done: u64,
    }
}

mirror! {
    Member of member::Member {
        broker: u32,
        role: u8,
        address: Vec<u8>,
        store: [u8; 16],
    }
}

mirror! {
    Settings of settings::Settings {
        heartbeat_ms: u32,
        missed: u16,
        grace_ms: u64,
        token_life_s: u32,
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
