//! Objects of every kind, as snapshots and watches show them. Nothing secret: of a key
//! its public half, of an API key what people tell it apart by.

use pinion_metadata::member::MemberRole;
use pinion_metadata::resource::Placement;
use pinion_metadata::{Body, Change, ChangeKind, Object, ObjectKey};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{Broker, Namespace, Resource, Tenant, time};

/// One change.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Event {
    /// The version that it made; versions are dense.
    version: u64,
    /// `create`, `update` or `delete`.
    #[serde(rename = "type")]
    change: &'static str,
    /// What the object is.
    kind: String,
    /// What it is called.
    key: String,
    /// As it is now; null when it is gone.
    object: Option<Value>,
}

/// One object of a snapshot.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ObjectView {
    kind: String,
    key: String,
    object: Value,
}

impl Event {
    pub(crate) fn of(change: &Change) -> Self {
        let key = change.key.to_string();
        Self {
            version: change.version.0,
            change: match change.kind {
                ChangeKind::Create => "create",
                ChangeKind::Update => "update",
                ChangeKind::Delete => "delete",
            },
            kind: kind(&key),
            key,
            object: change.object.as_ref().map(|object| body(object)),
        }
    }
}

impl ObjectView {
    pub(crate) fn of(object: &Object) -> Self {
        let key = object.meta.key.to_string();
        Self {
            kind: kind(&key),
            key,
            object: body(object),
        }
    }
}

/// The first part of a key.
fn kind(key: &str) -> String {
    key.split('/').next().unwrap_or(key).to_owned()
}

fn value(object: Option<impl Serialize>) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}

fn body(object: &Object) -> Value {
    let mut body = match &object.body {
        Body::Tenant(_) => value(Tenant::of(object)),
        Body::Namespace(_) => value(Namespace::of(object)),
        Body::Resource(_) => value(Resource::of(object)),
        Body::Broker(_) => value(Broker::of(object, None)),
        Body::Placement(placement) => of_placement(placement),
        Body::Tombstone(tombstone) => json!({
            "of": tombstone.of.to_string(),
            "purged": time(tombstone.purged),
            "pending": tombstone.pending.iter().map(|broker| broker.0).collect::<Vec<_>>(),
        }),
        Body::Policy(policy) => json!({
            "subject": policy.subject.as_str(),
            "action": policy.action.to_string(),
            "object": policy.object.to_string(),
        }),
        Body::Grouping(grouping) => json!({
            "member": grouping.member.as_str(),
            "role": grouping.role,
        }),
        Body::Issuer(issuer) => json!({
            "audiences": issuer.audiences,
            "keys_url": issuer.keys.url(),
            "algorithms": issuer.algorithms.iter().map(|one| one.text()).collect::<Vec<_>>(),
            "subject_claim": issuer.subject_claim,
            "groups_claim": issuer.groups_claim,
            "clock_skew_s": issuer.clock_skew_s,
        }),
        Body::ApiKey(key) => json!({
            "name": key.name,
            "prefix": String::from_utf8_lossy(&key.prefix),
            "subject": key.subject.as_str(),
            "expires": key.expires.map(time),
        }),
        Body::SigningKeys(keys) => json!({
            "current": hex(&keys.current.public),
            "next": hex(&keys.next.public),
            "previous": keys.previous.as_ref().map(|retired| json!({
                "key": hex(&retired.key.public),
                "until": time(retired.until),
            })),
            "rotate_every_ms": keys.rotate_every_ms,
            "rotated": time(keys.rotated),
        }),
        Body::Revocation(revocation) => json!({
            "issued_before": revocation.issued_before.map(time),
            "until": time(revocation.until),
        }),
        Body::Bootstrap(bootstrap) => json!({ "done": time(bootstrap.done) }),
        Body::Member(member) => json!({
            "broker_number": member.broker.0,
            "role": match member.role {
                MemberRole::Joining => "joining",
                MemberRole::Voter => "voter",
                MemberRole::Observer => "observer",
            },
            "address": member.address,
        }),
        Body::Settings(settings) => json!({
            "heartbeat_ms": settings.heartbeat_ms,
            "missed": settings.missed,
            "grace_ms": settings.grace_ms,
            "token_life_s": settings.token_life_s,
        }),
    };
    if let Value::Object(fields) = &mut body {
        let version = || object.meta.version.0.into();
        fields.entry("version").or_insert_with(version);
        if let ObjectKey::Policy { id, .. }
        | ObjectKey::Grouping { id, .. }
        | ObjectKey::ApiKey { id, .. } = &object.meta.key
        {
            fields.insert("id".into(), id.0.into());
        }
    }
    body
}

/// By the numbers of brokers: their names are in objects of their own.
fn of_placement(placement: &Placement) -> Value {
    let shards = placement.shards.iter().map(|shard| {
        let replicas = shard.seat.replicas.iter().map(|replica| replica.0);
        json!({
            "leader": shard.seat.leader.0,
            "replicas": replicas.collect::<Vec<_>>(),
            "log": shard.seat.log,
            "epoch": shard.epoch,
        })
    });
    let plan = placement.plan.as_ref().map(|plan| {
        let moves = plan.moves.iter();
        let moves =
            moves.map(|one| json!({ "shard": one.shard, "from": one.from.0, "to": one.to.0 }));
        json!({ "pending": plan.is_pending(), "moves": moves.collect::<Vec<_>>() })
    });
    json!({
        "resource_id": placement.resource.0,
        "pinned": placement.pinned.map(|broker| broker.0),
        "shards": shards.collect::<Vec<_>>(),
        "plan": plan,
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
