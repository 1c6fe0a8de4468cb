//! Messages as JSON, field by field under the names of the document.

use std::collections::BTreeMap;

use pinion_types::block::{Record, records};
use pinion_types::{Refusal, block::BlockHeader};
use pinion_wire::message::{
    CachePage, Condition, DeadSelect, Filter, MessageState, QueueMessages, Spec, Start, TokenList,
};
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
        "retention_bytes": spec.retention_bytes,
        "queue": {
            "visibility_ms": spec.queue.visibility_ms,
            "max_attempts": spec.queue.max_attempts,
            "ordered_by_key": spec.queue.ordered_by_key,
            "drop_expired": spec.queue.drop_expired,
            "max_in_flight": spec.queue.max_in_flight,
            "consumer_in_flight": spec.queue.consumer_in_flight,
            "backoff_min_ms": spec.queue.backoff_min_ms,
            "backoff_max_ms": spec.queue.backoff_max_ms,
            "messages_max": spec.queue.messages_max,
            "redeliveries_per_s": spec.queue.redeliveries_per_s,
        },
    })
}

fn record(record: &Record<'_>) -> Value {
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

fn record_list(encoded: &[u8]) -> Value {
    records(encoded)
        .map(|found| match found {
            Err(error) => debug(error),
            Ok(found) => record(&found),
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
        Request::CursorCommit(m) => json!({
            "handle": m.handle.0,
            "partition": m.partition.0,
            "offset": m.offset.0,
            "name": m.name,
        }),
        Request::CursorGet(m) => json!({
            "handle": m.handle.0,
            "partition": m.partition.0,
            "name": m.name,
        }),
        Request::CursorList(m) => json!({
            "handle": m.handle.0,
            "partition": m.partition.0,
            "max_items": m.max_items,
            "after": m.after,
        }),
        Request::CursorDelete(m) => json!({
            "handle": m.handle.0,
            "partition": m.partition.0,
            "name": m.name,
        }),
        other if other.opcode() >= opcode::QUEUE_PUT => queue_request(other),
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

fn tokens(tokens: TokenList<'_>) -> Value {
    tokens.iter().map(|token| token.to_string()).collect()
}

fn dead_select(select: DeadSelect<'_>) -> (Value, Value) {
    (
        select.reason.map_or(Value::Null, debug),
        json!(select.error_prefix),
    )
}

fn queue_request(request: &Request<'_>) -> Value {
    match request {
        Request::QueuePut(m) => json!({
            "handle": m.handle.0,
            "partition": m.partition.0,
            "producer": m.producer.map(|(producer, _)| producer.0),
            "sequence": m.producer.map(|(_, sequence)| sequence.0),
            "delay_ms": m.delay_ms,
            "ttl_ms": m.ttl_ms,
            "record_count": m.record_count,
            "records": record_list(m.records),
        }),
        Request::QueueTake(m) => json!({
            "handle": m.handle.0,
            "partition": m.partition.0,
            "max_messages": m.max_messages,
            "max_bytes": m.max_bytes,
            "wait_ms": m.wait_ms,
            "lease_ms": m.lease_ms,
            "group": m.group,
        }),
        Request::QueueAck(m) => json!({
            "handle": m.handle.0,
            "partition": m.partition.0,
            "group": m.group,
            "tokens": tokens(m.tokens),
        }),
        Request::QueueNack(m) => json!({
            "handle": m.handle.0,
            "partition": m.partition.0,
            "delay_ms": m.delay_ms,
            "error": m.error,
            "group": m.group,
            "tokens": tokens(m.tokens),
        }),
        Request::QueueExtend(m) => json!({
            "handle": m.handle.0,
            "partition": m.partition.0,
            "lease_ms": m.lease_ms,
            "group": m.group,
            "tokens": tokens(m.tokens),
        }),
        Request::QueueRelease(m) => json!({
            "handle": m.handle.0,
            "partition": m.partition.0,
            "group": m.group,
            "tokens": tokens(m.tokens),
        }),
        Request::QueuePeek(m) => json!({
            "handle": m.handle.0,
            "partition": m.partition.0,
            "from": m.from,
            "max_items": m.max_items,
            "max_bytes": m.max_bytes,
            "states": MessageState::ALL
                .iter()
                .filter(|state| m.states.contains(**state))
                .map(debug)
                .collect::<Vec<_>>(),
            "bodies": m.bodies,
            "group": m.group,
        }),
        Request::QueueInfo(m) => json!({ "handle": m.handle.0, "partition": m.partition.0 }),
        Request::QueueWhy(m) => json!({
            "handle": m.handle.0,
            "partition": m.partition.0,
            "group": m.group,
        }),
        Request::QueueSubscribe(m) => json!({
            "handle": m.handle.0,
            "partition": m.partition.0,
            "subscription": m.subscription.0,
            "lease_ms": m.lease_ms,
            "in_flight_max": m.in_flight_max,
            "credit_records": m.credit_records,
            "credit_bytes": m.credit_bytes,
            "group": m.group,
        }),
        Request::QueueGroup(m) => json!({
            "handle": m.handle.0,
            "partition": m.partition.0,
            "action": debug(m.action),
            "group": m.group,
        }),
        dead => dead_request(dead),
    }
}

fn dead_request(request: &Request<'_>) -> Value {
    match request {
        Request::QueueDeadList(m) => {
            let (reason, error_prefix) = dead_select(m.select);
            json!({
                "handle": m.handle.0,
                "partition": m.partition.0,
                "from": m.from,
                "max_items": m.max_items,
                "max_bytes": m.max_bytes,
                "bodies": m.bodies,
                "reason": reason,
                "error_prefix": error_prefix,
                "group": m.group,
            })
        }
        Request::QueueDeadReplay(m) => {
            let (reason, error_prefix) = dead_select(m.select);
            json!({
                "handle": m.handle.0,
                "partition": m.partition.0,
                "rate_per_s": m.rate_per_s,
                "reason": reason,
                "error_prefix": error_prefix,
                "group": m.group,
                "ids": m.ids.iter().collect::<Vec<_>>(),
            })
        }
        Request::QueueDeadPurge(m) => {
            let (reason, error_prefix) = dead_select(m.select);
            json!({
                "handle": m.handle.0,
                "partition": m.partition.0,
                "reason": reason,
                "error_prefix": error_prefix,
                "group": m.group,
                "ids": m.ids.iter().collect::<Vec<_>>(),
            })
        }
        other => panic!("{other:?} is not of a queue"),
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
        Reply::Cursor(m) => json!({
            "offset": m.offset.0,
            "durability": debug(m.durability),
        }),
        Reply::CursorPage(m) => json!({
            "more": m.more,
            "cursors": m.items.iter().map(|item| json!({
                "offset": item.offset.0,
                "name": item.name,
            })).collect::<Vec<_>>(),
        }),
        other if other.opcode() >= opcode::ENQUEUED => queue_reply(other),
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

fn messages(m: &QueueMessages<'_>) -> Value {
    json!({
        "lease_ms": m.lease_ms,
        "messages": m.messages.iter().map(|message| json!({
            "id": message.id,
            "token": message.token.to_string(),
            "attempt": message.attempt,
            "enqueued": message.enqueued.0,
            "last_error": message.last_error,
            "record": record(&message.record),
        })).collect::<Vec<_>>(),
    })
}

fn queue_reply(reply: &Reply<'_>) -> Value {
    match reply {
        Reply::Enqueued(m) => json!({
            "partition": m.partition.0,
            "durability": debug(m.durability),
            "duplicate": m.duplicate,
            "first_id": m.first_id,
            "message_count": m.message_count,
            "epoch": m.epoch.0,
        }),
        Reply::Taken(m) => messages(m),
        Reply::Settled(m) => json!({
            "durability": debug(m.durability),
            "results": m
                .results
                .iter()
                .map(|code| code.map_or(0, |code| code as u16))
                .collect::<Vec<_>>(),
        }),
        Reply::QueuePage(m) => json!({
            "next": m.next,
            "items": m.items.iter().map(|item| json!({
                "id": item.id,
                "state": debug(item.state),
                "attempts": item.attempts,
                "enqueued": item.enqueued.0,
                "due": item.due.0,
                "expires": item.expires.0,
                "last_error": item.last_error,
                "record_bytes": item.record_bytes,
                "record": item.record.as_ref().map(record),
            })).collect::<Vec<_>>(),
        }),
        Reply::DeadPage(m) => json!({
            "next": m.next,
            "items": m.items.iter().map(|item| json!({
                "id": item.id,
                "reason": debug(item.reason),
                "attempts": item.attempts,
                "enqueued": item.enqueued.0,
                "died": item.died.0,
                "last_error": item.last_error,
                "record_bytes": item.record_bytes,
                "record": item.record.as_ref().map(record),
            })).collect::<Vec<_>>(),
        }),
        Reply::Moved(m) => json!({
            "messages": m.messages,
            "durability": debug(m.durability),
        }),
        Reply::QueueStatus(m) => json!({
            "next_id": m.next_id,
            "messages": m.messages,
            "bytes": m.bytes,
            "resident_bytes": m.resident_bytes,
            "epoch": m.epoch.0,
            "groups": m.groups.iter().map(|group| json!({
                "name": group.name,
                "ready": group.ready,
                "delayed": group.delayed,
                "in_flight": group.in_flight,
                "dead": group.dead,
                "bytes": group.bytes,
                "oldest_age_ms": group.oldest_age_ms,
                "consumers": group.consumers,
                "waiting": group.waiting,
            })).collect::<Vec<_>>(),
        }),
        Reply::QueueReasons(m) => json!({
            "reasons": m.iter().map(|found| json!({
                "reason": debug(found.reason),
                "messages": found.messages,
                "limit": found.limit,
                "until": found.until.0,
                "consumer": found.consumer,
                "message": found.message,
                "age_ms": found.age_ms,
            })).collect::<Vec<_>>(),
        }),
        other => panic!("{other:?} is not of a queue"),
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
        Delivery::Messages(m) => messages(m),
        Delivery::End(m) => json!({ "code": m.code, "next": m.next.0 }),
    };
    named(names[&delivery.opcode()], correlation, fields)
}
