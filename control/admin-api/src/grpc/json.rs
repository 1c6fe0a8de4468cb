//! Messages as bodies of the HTTP interface, and its answers as messages.

use serde_json::{Map, Value, json};
use tonic::Status;

use super::proto;
use super::status::status;
use crate::model::parse_time;

/// A call that is wrong before it could become a request.
pub(crate) fn bad(code: &str, message: &str) -> Status {
    status(axum::http::StatusCode::BAD_REQUEST, code, message)
}

/// A field of an answer: nothing where it is missing, which the field's type then says.
fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().into()
}

fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_default()
}

fn small(value: &Value, name: &str) -> u32 {
    u32::try_from(number(value, name)).unwrap_or(u32::MAX)
}

/// What a stream is to be like, without what is left to the server.
pub(crate) fn spec_body(spec: &proto::StreamSpec) -> Result<Value, Status> {
    let mut body = Map::new();
    let mut set = |name: &str, value: u64| {
        if value != 0 {
            body.insert(name.into(), value.into());
        }
    };
    set("shards", spec.shards.into());
    set("replication_factor", spec.replication_factor.into());
    set("max_record_bytes", spec.max_record_bytes.into());
    set("ring_bytes", spec.ring_bytes);
    if let Some(retention) = &spec.retention {
        set("retention_ms", retention.time_ms);
        set("retention_bytes", retention.size_bytes);
    }
    let unknown = |field: &str| {
        bad(
            "bad_spec",
            &format!("{field} has a value that is not known"),
        )
    };
    let words = [
        (
            "durability",
            match proto::Durability::try_from(spec.durability) {
                Ok(proto::Durability::Unspecified) => None,
                Ok(proto::Durability::Ephemeral) => Some("ephemeral"),
                Ok(proto::Durability::Durable) => Some("durable"),
                Err(_) => return Err(unknown("durability")),
            },
        ),
        (
            "ack_policy",
            match proto::AckPolicy::try_from(spec.ack_policy) {
                Ok(proto::AckPolicy::Unspecified) => None,
                Ok(proto::AckPolicy::LeaderOnly) => Some("leader"),
                Ok(proto::AckPolicy::Quorum) => Some("quorum"),
                Err(_) => return Err(unknown("ack_policy")),
            },
        ),
        (
            "overflow",
            match proto::Overflow::try_from(spec.overflow) {
                Ok(proto::Overflow::Unspecified) => None,
                Ok(proto::Overflow::Block) => Some("block"),
                Ok(proto::Overflow::DropOldest) => Some("drop_oldest"),
                Ok(proto::Overflow::DropNewest) => Some("drop_newest"),
                Ok(proto::Overflow::Disconnect) => Some("disconnect"),
                Err(_) => return Err(unknown("overflow")),
            },
        ),
    ];
    for (name, word) in words {
        if let Some(word) = word {
            body.insert(name.into(), word.into());
        }
    }
    Ok(Value::Object(body))
}

fn spec(value: &Value) -> proto::StreamSpec {
    let durability = match value["durability"].as_str() {
        Some("durable") => proto::Durability::Durable,
        Some("ephemeral") => proto::Durability::Ephemeral,
        _ => proto::Durability::Unspecified,
    };
    let ack = match value["ack_policy"].as_str() {
        Some("leader") => proto::AckPolicy::LeaderOnly,
        Some("quorum") => proto::AckPolicy::Quorum,
        _ => proto::AckPolicy::Unspecified,
    };
    let overflow = match value["overflow"].as_str() {
        Some("block") => proto::Overflow::Block,
        Some("drop_oldest") => proto::Overflow::DropOldest,
        Some("drop_newest") => proto::Overflow::DropNewest,
        Some("disconnect") => proto::Overflow::Disconnect,
        _ => proto::Overflow::Unspecified,
    };
    proto::StreamSpec {
        shards: small(value, "shards"),
        retention: Some(proto::RetentionPolicy {
            time_ms: number(value, "retention_ms"),
            size_bytes: number(value, "retention_bytes"),
        }),
        durability: durability.into(),
        replication_factor: small(value, "replication_factor"),
        ack_policy: ack.into(),
        overflow: overflow.into(),
        max_record_bytes: small(value, "max_record_bytes"),
        ring_bytes: number(value, "ring_bytes"),
    }
}

/// A row of a list, or one stream.
pub(crate) fn stream(value: &Value) -> proto::StreamInfo {
    let metrics = &value["metrics"];
    let purge_at = value["deleting"]["purge_at"].as_str().and_then(parse_time);
    proto::StreamInfo {
        name: text(value, "name"),
        spec: Some(spec(&value["spec"])),
        metrics: metrics.is_object().then(|| proto::StreamMetrics {
            subscribers: number(metrics, "subscribers"),
            bytes: number(metrics, "bytes"),
            records: number(metrics, "records"),
        }),
        purge_at_ms: purge_at.map_or(0, |at| at.0),
        version: number(value, "version"),
    }
}

/// The page after which a list goes on.
pub(crate) fn next_page(value: &Value) -> String {
    text(value, "next_page_token")
}

pub(crate) fn rows(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The moves of a plan.
pub(crate) fn moves(plan: &Value) -> Vec<proto::ShardMove> {
    let one = |value: &Value| {
        let status = match value["status"].as_str() {
            Some("cancelled") => proto::MoveStatus::MoveCancelled,
            _ => proto::MoveStatus::MovePending,
        };
        proto::ShardMove {
            shard_id: small(value, "shard"),
            from_broker: text(value, "from"),
            to_broker: text(value, "to"),
            status: status.into(),
        }
    };
    rows(&plan["moves"]).map(one).collect()
}

pub(crate) fn strategy(number: i32) -> Result<&'static str, Status> {
    match proto::RebalanceStrategy::try_from(number) {
        Ok(proto::RebalanceStrategy::Balanced) => Ok("balanced"),
        Ok(proto::RebalanceStrategy::MinimizeMovement) => Ok("minimize_movement"),
        Ok(proto::RebalanceStrategy::LocalityAware) => Ok("locality_aware"),
        Err(_) => Err(bad("bad_spec", "there is no such strategy")),
    }
}

/// A broker that says that it is there.
pub(crate) fn register_body(request: &proto::RegisterBrokerRequest) -> Value {
    let capacity = request.capacity.unwrap_or_default();
    let at_least_one = |count: u32| count.max(1);
    json!({
        "name": request.broker_id,
        "address": request.address,
        "region": request.region,
        "zone": request.availability_zone,
        "labels": request.metadata,
        "capacity": {
            "max_shards": capacity.max_shards,
            "max_connections": capacity.max_connections,
            "cores": at_least_one(capacity.cores),
            "logs": at_least_one(capacity.logs),
            "memory_per_core": capacity.memory_per_core,
        },
        // Beyond what a number of JSON holds everywhere.
        "incarnation": request.incarnation.to_string(),
    })
}

pub(crate) fn broker(value: &Value) -> proto::Broker {
    let capacity = &value["capacity"];
    let labels = value["labels"].as_object().into_iter().flatten();
    let labels = labels.map(|(name, value)| {
        let value = value.as_str().unwrap_or_default();
        (name.clone(), value.to_owned())
    });
    proto::Broker {
        name: text(value, "name"),
        address: text(value, "address"),
        region: text(value, "region"),
        availability_zone: text(value, "zone"),
        capacity: Some(proto::BrokerCapacity {
            max_shards: small(capacity, "max_shards"),
            max_connections: small(capacity, "max_connections"),
            cores: small(capacity, "cores"),
            logs: small(capacity, "logs"),
            memory_per_core: number(capacity, "memory_per_core"),
        }),
        status: broker_status(&value["status"]).into(),
        labels: labels.collect(),
        number: small(value, "number"),
        incarnation: text(value, "incarnation").parse().unwrap_or_default(),
        version: number(value, "version"),
    }
}

pub(crate) fn broker_status(word: &Value) -> proto::BrokerStatus {
    match word.as_str() {
        Some("draining") => proto::BrokerStatus::Draining,
        Some("down") => proto::BrokerStatus::Down,
        _ => proto::BrokerStatus::Active,
    }
}

/// A report of a broker.
pub(crate) fn health_body(request: &proto::ReportHealthRequest) -> Value {
    let status = request.status.clone().unwrap_or_default();
    let metrics = request.metrics.unwrap_or_default();
    let shards = request.shard_status.iter().map(|shard| {
        json!({
            "stream_id": shard.stream_id,
            "shard": shard.shard_id,
            "leader": shard.leader,
            "offset": shard.offset,
        })
    });
    json!({
        "incarnation": request.incarnation.to_string(),
        "healthy": status.healthy,
        "message": status.message,
        "uptime_seconds": status.uptime_seconds,
        "metrics": {
            "connections": metrics.connections,
            "memory_bytes": metrics.memory_bytes,
            "disk_bytes": metrics.disk_bytes,
            "records_per_second": metrics.records_per_second,
        },
        "shards": shards.collect::<Vec<_>>(),
    })
}

pub(crate) fn health(value: &Value) -> proto::ReportHealthResponse {
    proto::ReportHealthResponse {
        next_ms: small(value, "next_ms"),
        status: broker_status(&value["status"]).into(),
    }
}
