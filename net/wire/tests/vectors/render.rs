//! Messages as JSON, field by field under the names of the document.

use std::collections::BTreeMap;

use pinion_types::block::records;
use pinion_types::{Refusal, block::BlockHeader};
use pinion_wire::message::{CachePage, Condition, Filter, Spec, Start};
use pinion_wire::{Delivery, Reply, Request, opcode};
use serde_json::{Value, json};

/// Text as it is, anything else as hex.
fn bytes(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.chars().all(|c| (' '..='~').contains(&c)) => json!(text),
        _ => json!(format!("{bytes:02x?}")),
    }
}

fn debug(value: impl std::fmt::Debug) -> Value {
    json!(format!("{value:?}"))
}

fn spec(spec: &Spec) -> Value {
    json!({
        "shards": spec.shards,
        "durability": spec.durability,
        "overflow": debug(spec.overflow),
        "max_record_bytes": spec.max_record_bytes,
        "ring_bytes": spec.ring_bytes,
        "retention_ms": spec.retention_ms,
    })
}

fn record_list(encoded: &[u8]) -> Value {
    records(encoded)
        .map(|record| match record {
            Err(error) => debug(error),
            Ok(record) => {
                let headers: Vec<_> = record
                    .headers()
                    .map(|(name, value)| json!([bytes(name), bytes(value)]))
                    .collect();
                json!({
                    "key": bytes(record.key),
                    "headers": headers,
                    "value": bytes(record.value),
                })
            }
        })
        .collect()
}

fn block(header: &BlockHeader, encoded: &[u8]) -> Value {
    json!({
        "first_offset": header.first_offset.0,
        "timestamp_ms": header.timestamp.0,
        "record_count": header.record_count,
        "records": record_list(encoded),
    })
}

fn filter(filter: Filter<'_>) -> Value {
    filter
        .terms()
        .map(|term| {
            json!({
                "op": debug(term.op),
                "name": bytes(term.name),
                "values": term.values.map(bytes).collect::<Vec<_>>(),
            })
        })
        .collect()
}

fn start(start: Start) -> Value {
    match start {
        Start::Offset(offset) => json!(format!("Offset {offset}")),
        Start::Time(time) => json!(format!("Time {}", time.0)),
        bare => debug(bare),
    }
}

fn condition(condition: Condition) -> Value {
    match condition {
        Condition::Version(version) => json!(format!("Version {version}")),
        Condition::Lease(lease) => json!(format!("Lease {lease}")),
        bare => debug(bare),
    }
}

fn named(name: &str, correlation: u32, fields: Value) -> Value {
    let mut all = json!({ "message": name, "correlation": correlation });
    if let (Value::Object(all), Value::Object(fields)) = (&mut all, fields) {
        all.extend(fields);
    }
    all
}

pub(crate) fn request(request: &Request<'_>, correlation: u32) -> Value {
    let name = opcode::lookup(request.opcode()).unwrap().name;
    let fields = match request {
        Request::Hello(m) => json!({
            "magic": bytes(&m.magic),
            "version_min": m.version_min,
            "version_max": m.version_max,
            "capabilities": m.capabilities,
            "token": bytes(m.token),
            "client_name": m.client_name,
        }),
        Request::Ping(m) => json!({ "payload": bytes(m.payload) }),
        Request::Open(m) => json!({
            "kind": debug(m.kind),
            "namespace": m.namespace,
            "name": m.name,
            "spec": m.spec.as_ref().map(spec),
        }),
        Request::Publish(m) => json!({
            "handle": m.handle.0,
            "partition": m.partition.0,
            "ack": debug(m.ack),
            "producer": m.producer.map(|(producer, _)| producer.0),
            "sequence": m.producer.map(|(_, sequence)| sequence.0),
            "expected_offset": m.expected_offset.map(|offset| offset.0),
            "record_count": m.record_count,
            "records": record_list(m.records),
        }),
        Request::Subscribe(m) => json!({
            "handle": m.handle.0,
            "partition": m.partition.0,
            "subscription": m.subscription.0,
            "start": start(m.start),
            "overflow": m.overflow.map(debug),
            "backlog_max": m.backlog_max,
            "credit_records": m.credit_records,
            "credit_bytes": m.credit_bytes,
            "filter": filter(m.filter),
        }),
        Request::Credit(m) => json!({
            "subscription": m.subscription.0,
            "records": m.records,
            "bytes": m.bytes,
        }),
        Request::Unsubscribe(m) => json!({ "subscription": m.subscription.0 }),
        Request::Fetch(m) => json!({
            "handle": m.handle.0,
            "partition": m.partition.0,
            "from": m.from.0,
            "max_records": m.max_records,
            "max_bytes": m.max_bytes,
            "filter": filter(m.filter),
        }),
        Request::AppendBegin(m) => json!({
            "handle": m.handle.0,
            "partition": m.partition.0,
            "exclusive": m.exclusive,
        }),
        Request::AppendStage(m) => json!({
            "session": m.session,
            "record_count": m.record_count,
            "records": record_list(m.records),
        }),
        Request::AppendCommit(m) => json!({
            "session": m.session,
            "expected_offset": m.expected_offset.map(|offset| offset.0),
        }),
        Request::AppendRollback(m) => json!({ "session": m.session }),
        Request::StreamInfo(m) => json!({ "handle": m.handle.0, "partition": m.partition.0 }),
        Request::CacheInfo(m) => json!({ "handle": m.handle.0, "partition": m.partition.0 }),
        cache => cache_request(cache),
    };
    named(name, correlation, fields)
}

fn cache_request(request: &Request<'_>) -> Value {
    match request {
        Request::CacheGet(m) => json!({ "handle": m.handle.0, "key": bytes(m.key) }),
        Request::CacheSet(m) => json!({
            "handle": m.handle.0,
            "condition": condition(m.condition),
            "ttl_ms": m.ttl_ms,
            "key": bytes(m.key),
            "value": bytes(m.value),
        }),
        Request::CacheDelete(m) => json!({
            "handle": m.handle.0,
            "condition": condition(m.condition),
            "key": bytes(m.key),
        }),
        Request::CacheTouch(m) => json!({
            "handle": m.handle.0,
            "ttl_ms": m.ttl_ms,
            "key": bytes(m.key),
        }),
        Request::CacheIncr(m) => json!({
            "handle": m.handle.0,
            "delta": m.delta,
            "initial": m.initial,
            "ttl_ms": m.ttl_ms,
            "key": bytes(m.key),
        }),
        Request::CacheGetMany(m) => json!({
            "handle": m.handle.0,
            "partition": m.partition.0,
            "keys": m.keys.iter().map(bytes).collect::<Vec<_>>(),
        }),
        Request::CacheSetMany(m) => json!({
            "handle": m.handle.0,
            "partition": m.partition.0,
            "items": m.items.iter().map(|item| json!({
                "ttl_ms": item.ttl_ms,
                "key": bytes(item.key),
                "value": bytes(item.value),
            })).collect::<Vec<_>>(),
        }),
        Request::CacheScan(m) => json!({
            "handle": m.handle.0,
            "partition": m.partition.0,
            "cursor": m.cursor,
            "max_items": m.max_items,
            "max_bytes": m.max_bytes,
            "keys_only": m.keys_only,
            "prefix": bytes(m.prefix),
        }),
        Request::CacheLease(m) => json!({
            "handle": m.handle.0,
            "wait_ms": m.wait_ms,
            "lease_ms": m.lease_ms,
            "stale_ok": m.stale_ok,
            "key": bytes(m.key),
        }),
        Request::CacheWatch(m) => json!({
            "handle": m.handle.0,
            "partition": m.partition.0,
            "subscription": m.subscription.0,
            "prefix": m.prefix,
            "with_values": m.with_values,
            "credit_records": m.credit_records,
            "credit_bytes": m.credit_bytes,
            "key": bytes(m.key),
        }),
        other => panic!("{other:?} is not of a cache"),
    }
}

pub(crate) fn reply(reply: &Reply<'_>, correlation: u32) -> Value {
    let names: BTreeMap<_, _> = opcode::REPLIES.iter().copied().collect();
    let fields = match reply {
        Reply::Welcome(m) => json!({
            "version": m.version,
            "capabilities": m.capabilities,
            "epoch": m.epoch.0,
            "core": m.core,
            "data_cores": m.data_cores,
            "steering_k0": m.steering_k0,
            "steering_k1": m.steering_k1,
            "in_flight_max": m.in_flight_max,
            "frame_bytes_max": m.frame_bytes_max,
            "node_id": m.node_id,
            "server_time": m.server_time.0,
        }),
        Reply::Pong(m) => json!({ "payload": bytes(m.payload) }),
        Reply::Opened(m) => json!({
            "handle": m.handle.0,
            "resource": m.resource.0,
            "epoch": m.epoch.0,
            "spec": spec(&m.spec),
            "cores": m.cores.iter().collect::<Vec<_>>(),
        }),
        Reply::Published(m) => json!({
            "partition": m.partition.0,
            "durability": debug(m.durability),
            "duplicate": m.duplicate,
            "first_offset": m.first_offset.0,
            "record_count": m.record_count,
            "epoch": m.epoch.0,
        }),
        Reply::Subscribed(m) => json!({
            "subscription": m.subscription.0,
            "next": m.next.0,
            "end": m.end.0,
            "epoch": m.epoch.0,
        }),
        Reply::Done | Reply::CacheMiss => json!({}),
        Reply::Fetched(m) => json!({
            "next": m.next.0,
            "end": m.end.0,
            "first_available": m.first_available.0,
            "blocks": m.blocks().map(|found| match found {
                Ok((header, encoded)) => block(&header, encoded),
                Err(error) => debug(error),
            }).collect::<Vec<_>>(),
        }),
        Reply::AppendBegun(m) => json!({ "session": m.session }),
        Reply::AppendStaged(m) => json!({ "records": m.records, "bytes": m.bytes }),
        Reply::StreamStatus(m) => json!({
            "first_available": m.first_available.0,
            "end": m.end.0,
            "bytes": m.bytes,
            "subscriptions": m.subscriptions,
            "epoch": m.epoch.0,
        }),
        Reply::Error(refusal) => error(refusal),
        cache => cache_reply(cache),
    };
    named(names[&reply.opcode()], correlation, fields)
}

fn cache_reply(reply: &Reply<'_>) -> Value {
    match reply {
        Reply::CacheValue(m) => json!({
            "version": m.version.0,
            "ttl_ms": m.ttl_ms,
            "stale": m.stale,
            "value": bytes(m.value),
        }),
        Reply::CacheStored(m) => json!({ "version": m.version.0 }),
        Reply::CacheDeleted(m) => json!({ "existed": m.existed, "version": m.version.0 }),
        Reply::CacheCounter(m) => json!({ "value": m.value, "version": m.version.0 }),
        Reply::CacheValues(m) => json!({
            "answers": m.iter().map(|answer| answer.map(|found| json!({
                "version": found.version.0,
                "ttl_ms": found.ttl_ms,
                "value": bytes(found.value),
            }))).collect::<Vec<_>>(),
        }),
        Reply::CacheStoredMany(m) => json!({
            "results": m.iter().map(|item| json!({
                "code": item.error.map_or(0, |code| code as u16),
                "version": item.version.0,
            })).collect::<Vec<_>>(),
        }),
        Reply::CachePage(CachePage { cursor, items }) => json!({
            "cursor": cursor,
            "items": items.iter().map(|item| json!({
                "version": item.version.0,
                "ttl_ms": item.ttl_ms,
                "key": bytes(item.key),
                "value": bytes(item.value),
            })).collect::<Vec<_>>(),
        }),
        Reply::CacheLeased(m) => json!({ "lease": m.lease, "lease_ms": m.lease_ms }),
        Reply::CacheStatus(m) => json!({
            "entries": m.entries,
            "bytes": m.bytes,
            "budget": m.budget,
            "hits": m.hits,
            "misses": m.misses,
            "evictions": m.evictions,
            "expirations": m.expirations,
        }),
        other => panic!("{other:?} is not of a cache"),
    }
}

fn error(refusal: &Refusal) -> Value {
    json!({
        "code": refusal.code as u16,
        "retry": debug(refusal.retry),
        "outcome": debug(refusal.outcome),
        "retry_after_ms": refusal.retry_after_ms,
        "facts": refusal
            .facts()
            .map(|fact| json!([debug(fact.id), fact.value]))
            .collect::<Vec<_>>(),
    })
}

pub(crate) fn delivery(delivery: &Delivery<'_>, correlation: u32) -> Value {
    let names: BTreeMap<_, _> = opcode::DELIVERIES.iter().copied().collect();
    let fields = match delivery {
        Delivery::Head(subscription) => json!({ "subscription": subscription.0 }),
        Delivery::Records(header, encoded) => block(header, encoded),
        Delivery::Lag(m) => json!({
            "reason": debug(m.reason),
            "from": m.from.0,
            "to": m.to.0,
            "count": m.count,
        }),
        Delivery::Events(events) => json!({
            "events": events.iter().map(|event| json!({
                "kind": debug(event.kind),
                "version": event.version.0,
                "key": bytes(event.key),
                "value": event.value.map(bytes),
            })).collect::<Vec<_>>(),
        }),
        Delivery::End(m) => json!({ "code": m.code, "next": m.next.0 }),
    };
    named(names[&delivery.opcode()], correlation, fields)
}
