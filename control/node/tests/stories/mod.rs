//! The stories, by theme, and the requests they are told in.

mod access;
mod bad_input;
mod caches;
mod changes;
mod deletion;
mod deletion_histories;
mod drain;
mod durable;
mod handshake;
mod histories;
mod identity;
mod judging;
mod limits;
mod lost;
mod queues;
mod quotas;
mod samples;
mod storage;
mod storm;
mod streams;
mod two_cores;
mod views;

use pinion_types::route::partition_of;
use pinion_types::{Offset, PartitionId, ResourceKind, SubscriptionId};
use pinion_wire::message::{
    Ack, AppendBegin, AppendCommit, AppendRollback, AppendStage, CacheDelete, CacheGet,
    CacheGetMany, CacheIncr, CacheInfo, CacheLease, CacheScan, CacheSet, CacheSetMany, CacheTouch,
    CacheWatch, Condition, Credit, CursorCommit, CursorDelete, CursorGet, CursorList, DeadSelect,
    Fetch, Filter, GroupAction, Handle, Hello, IdList, ItemList, KeyList, MAGIC, Open, Ping,
    Publish, QueueAck, QueueDeadList, QueueDeadPurge, QueueDeadReplay, QueueExtend, QueueGroup,
    QueueInfo, QueueNack, QueuePeek, QueuePut, QueueRelease, QueueSubscribe, QueueTake, QueueWhy,
    Reply, Request, SetItem, Spec, Start, States, StreamInfo, Subscribe, Token, TokenList,
    Unsubscribe,
};
use pinion_wire::opcode;

use crate::harness::{ADMIN, Answer, Got, Id, World, batch};

pub(crate) fn publish<'a>(handle: Handle, partition: u16, records: &'a [u8]) -> Publish<'a> {
    Publish {
        handle,
        partition: PartitionId(partition),
        ack: Ack::Leader,
        producer: None,
        expected_offset: None,
        record_count: u32::try_from(pinion_types::block::records(records).count()).unwrap(),
        records,
    }
}

pub(crate) fn subscribe<'a>(handle: Handle, partition: u16, subscription: u32) -> Subscribe<'a> {
    Subscribe {
        handle,
        partition: PartitionId(partition),
        subscription: SubscriptionId(subscription),
        start: Start::Earliest,
        overflow: None,
        backlog_max: 0,
        credit_records: 1 << 20,
        credit_bytes: 16 << 20,
        filter: Filter::default(),
    }
}

pub(crate) fn fetch<'a>(handle: Handle, partition: u16, from: u64, max_bytes: u32) -> Fetch<'a> {
    Fetch {
        handle,
        partition: PartitionId(partition),
        from: Offset(from),
        max_records: 10_000,
        max_bytes,
        filter: Filter::default(),
    }
}

pub(crate) fn set<'a>(handle: Handle, key: &'a [u8], value: &'a [u8]) -> CacheSet<'a> {
    CacheSet {
        handle,
        condition: Condition::Always,
        ttl_ms: 0,
        key,
        value,
    }
}

pub(crate) fn lease<'a>(handle: Handle, key: &'a [u8], wait_ms: u32) -> CacheLease<'a> {
    CacheLease {
        handle,
        wait_ms,
        lease_ms: 5_000,
        stale_ok: false,
        key,
    }
}

pub(crate) fn watch<'a>(handle: Handle, partition: u16, subscription: u32) -> CacheWatch<'a> {
    CacheWatch {
        handle,
        partition: PartitionId(partition),
        subscription: SubscriptionId(subscription),
        prefix: true,
        with_values: true,
        credit_records: 1000,
        credit_bytes: 1 << 20,
        key: b"",
    }
}

pub(crate) fn unsubscribe(subscription: u32) -> Request<'static> {
    Request::Unsubscribe(Unsubscribe {
        subscription: SubscriptionId(subscription),
    })
}

#[track_caller]
pub(crate) fn published(w: &mut World, id: Id, handle: Handle, partition: u16, values: &[&[u8]]) {
    let records = batch(values);
    let answer = w.call(id, &Request::Publish(publish(handle, partition, &records)));
    assert_eq!(answer.opcode, opcode::PUBLISHED, "{answer:?}");
}

#[track_caller]
pub(crate) fn done(w: &mut World, id: Id, request: &Request<'_>) -> Answer {
    let answer = w.call(id, request);
    assert_eq!(answer.code(), None, "{request:?}");
    answer
}

/// A key of a partition.
pub(crate) fn key_in(partition: u16, shards: u16) -> Vec<u8> {
    (0_u32..)
        .map(|i| format!("key{i}").into_bytes())
        .find(|key| partition_of(key, shards) == PartitionId(partition))
        .unwrap()
}

pub(crate) fn values(got: &[Got]) -> Vec<Vec<u8>> {
    got.iter()
        .filter_map(|g| match g {
            Got::Record { value, .. } => Some(value.clone()),
            _ => None,
        })
        .collect()
}

/// A stream, a cache, a durable stream and a queue of two partitions each,
/// opened by a client, with what every request needs to succeed.
pub(crate) struct Scene {
    pub(crate) id: Id,
    pub(crate) stream: Handle,
    pub(crate) cache: Handle,
    pub(crate) durable: Handle,
    pub(crate) queue: Handle,
    pub(crate) partition: u16,
    pub(crate) key: Vec<u8>,
    pub(crate) append: u64,
}

/// The subscription a scene has open.
pub(crate) const OPEN_SUB: u32 = 900;

impl Scene {
    /// `far`: the partition the requests are about lives on another core than
    /// the connection.
    pub(crate) fn new(w: &mut World, core: usize, token: &[u8], far: bool) -> Self {
        let id = w.client(core, token);
        let stream = w.declare(id, ResourceKind::Stream, "s", 2);
        let cache = w.declare(id, ResourceKind::Cache, "c", 2);
        let on = |w: &World, p| w.owner(1, ResourceKind::Stream, "s", p);
        let partition = (0..2).find(|p| (on(w, *p) != core) == far).unwrap();
        // Partitions of stream and cache alternate over the cores, one further
        // for each resource; so do those of the durable stream and the queue.
        let durable = Spec {
            durability: 1,
            ..World::spec(2)
        };
        let opened = |answer: Answer| match answer.reply() {
            Reply::Opened(opened) => opened.handle,
            other => panic!("{other:?}"),
        };
        let stream_kept = opened(w.try_open(id, ResourceKind::Stream, "d", Some(durable)));
        let queue = opened(w.try_open(id, ResourceKind::Queue, "q", Some(durable)));
        let place = |w: &World, p| w.owner(1, ResourceKind::Cache, "c", p);
        let cached = (0..2).find(|p| (place(w, *p) != core) == far).unwrap();
        let records = batch(&[b"work"]);
        let put = QueuePut {
            handle: queue,
            partition: PartitionId(cached),
            producer: None,
            delay_ms: 0,
            ttl_ms: 0,
            record_count: 1,
            records: &records,
        };
        done(w, id, &Request::QueuePut(put));
        let group = QueueGroup {
            handle: queue,
            partition: PartitionId(cached),
            action: GroupAction::CreateEarliest,
            group: "",
        };
        done(w, id, &Request::QueueGroup(group));
        let commit = CursorCommit {
            handle: stream_kept,
            partition: PartitionId(partition),
            offset: Offset(0),
            name: "reader",
        };
        done(w, id, &Request::CursorCommit(commit));
        published(w, id, stream, partition, &[b"one", b"two"]);
        let key = key_in(cached, 2);
        done(w, id, &Request::CacheSet(set(cache, &key, &[0; 8])));
        let begin = Request::AppendBegin(AppendBegin {
            handle: stream,
            partition: PartitionId(partition),
            exclusive: false,
        });
        let answer = done(w, id, &begin);
        let append = match answer.reply() {
            Reply::AppendBegun(begun) => begun.session,
            other => panic!("{other:?}"),
        };
        let records = batch(&[b"staged"]);
        let stage = Request::AppendStage(AppendStage {
            session: append,
            record_count: 1,
            records: &records,
        });
        done(w, id, &stage);
        let sub = subscribe(stream, partition, OPEN_SUB);
        done(w, id, &Request::Subscribe(sub));
        Self {
            id,
            stream,
            cache,
            durable: stream_kept,
            queue,
            partition,
            key,
            append,
        }
    }

    fn cached(&self) -> PartitionId {
        partition_of(&self.key, 2)
    }

    /// A request with this opcode that succeeds in this scene. A new opcode
    /// without a row here fails every test that walks the table.
    pub(crate) fn sample(&self, code: u8, correlation: u32) -> Vec<u8> {
        let mut out = Vec::new();
        let records = batch(&[b"a record", b"another"]);
        let (mut keys, mut items) = (Vec::new(), Vec::new());
        let partition = PartitionId(self.partition);
        let key = &self.key[..];
        let (handle, cache) = (self.stream, self.cache);
        let (durable, queue) = (self.durable, self.queue);
        let worked = self.cached();
        let mut scratch = Vec::new();
        // Of no reservation: the request succeeds, and says so of its token.
        let tokens = TokenList::build(&mut scratch, [Token([7; 16])]).unwrap();
        let mut no_ids = Vec::new();
        let ids = IdList::build(&mut no_ids, []).unwrap();
        let select = DeadSelect::default();
        let request = match code {
            opcode::HELLO => Request::Hello(Hello {
                magic: MAGIC,
                version_min: 1,
                version_max: 1,
                capabilities: 0,
                token: ADMIN,
                client_name: "sample",
            }),
            opcode::PING => Request::Ping(Ping { payload: b"ping" }),
            opcode::OPEN => Request::Open(Open {
                kind: ResourceKind::Stream,
                namespace: "n",
                name: "s",
                spec: None,
            }),
            opcode::PUBLISH => Request::Publish(publish(handle, self.partition, &records)),
            opcode::SUBSCRIBE => Request::Subscribe(subscribe(handle, self.partition, 901)),
            opcode::CREDIT => Request::Credit(Credit {
                subscription: SubscriptionId(OPEN_SUB),
                records: 1,
                bytes: 1,
            }),
            opcode::UNSUBSCRIBE => unsubscribe(OPEN_SUB),
            opcode::FETCH => Request::Fetch(fetch(handle, self.partition, 0, 1000)),
            opcode::APPEND_BEGIN => Request::AppendBegin(AppendBegin {
                handle,
                partition,
                exclusive: false,
            }),
            opcode::APPEND_STAGE => Request::AppendStage(AppendStage {
                session: self.append,
                record_count: 2,
                records: &records,
            }),
            opcode::APPEND_COMMIT => Request::AppendCommit(AppendCommit {
                session: self.append,
                expected_offset: None,
            }),
            opcode::APPEND_ROLLBACK => Request::AppendRollback(AppendRollback {
                session: self.append,
            }),
            opcode::STREAM_INFO => Request::StreamInfo(StreamInfo { handle, partition }),
            opcode::CACHE_GET => Request::CacheGet(CacheGet { handle: cache, key }),
            opcode::CACHE_SET => Request::CacheSet(set(cache, key, b"12345678")),
            opcode::CACHE_DELETE => Request::CacheDelete(CacheDelete {
                handle: cache,
                condition: Condition::Always,
                key,
            }),
            opcode::CACHE_TOUCH => Request::CacheTouch(CacheTouch {
                handle: cache,
                ttl_ms: 60_000,
                key,
            }),
            opcode::CACHE_INCR => Request::CacheIncr(CacheIncr {
                handle: cache,
                delta: 5,
                initial: 0,
                ttl_ms: 0,
                key,
            }),
            opcode::CACHE_GET_MANY => Request::CacheGetMany(CacheGetMany {
                handle: cache,
                partition: self.cached(),
                keys: KeyList::build(&mut keys, [key]).unwrap(),
            }),
            opcode::CACHE_SET_MANY => Request::CacheSetMany(CacheSetMany {
                handle: cache,
                partition: self.cached(),
                items: ItemList::build(
                    &mut items,
                    [SetItem {
                        ttl_ms: 0,
                        key,
                        value: b"v",
                    }],
                )
                .unwrap(),
            }),
            opcode::CACHE_SCAN => Request::CacheScan(CacheScan {
                handle: cache,
                partition: self.cached(),
                cursor: 0,
                max_items: 10,
                max_bytes: 1000,
                keys_only: false,
                prefix: b"",
            }),
            opcode::CACHE_LEASE => Request::CacheLease(lease(cache, key, 10)),
            opcode::CACHE_WATCH => Request::CacheWatch(watch(cache, self.cached().0, 902)),
            opcode::CACHE_INFO => Request::CacheInfo(CacheInfo {
                handle: cache,
                partition: self.cached(),
            }),
            opcode::CURSOR_COMMIT => Request::CursorCommit(CursorCommit {
                handle: durable,
                partition,
                offset: Offset(0),
                name: "reader",
            }),
            opcode::CURSOR_GET => Request::CursorGet(CursorGet {
                handle: durable,
                partition,
                name: "reader",
            }),
            opcode::CURSOR_LIST => Request::CursorList(CursorList {
                handle: durable,
                partition,
                max_items: 10,
                after: "",
            }),
            opcode::CURSOR_DELETE => Request::CursorDelete(CursorDelete {
                handle: durable,
                partition,
                name: "reader",
            }),
            opcode::QUEUE_PUT => Request::QueuePut(QueuePut {
                handle: queue,
                partition: worked,
                producer: None,
                delay_ms: 0,
                ttl_ms: 0,
                record_count: 2,
                records: &records,
            }),
            opcode::QUEUE_TAKE => Request::QueueTake(QueueTake {
                handle: queue,
                partition: worked,
                max_messages: 1,
                max_bytes: 1000,
                wait_ms: 0,
                lease_ms: 0,
                group: "",
            }),
            opcode::QUEUE_ACK => Request::QueueAck(QueueAck {
                handle: queue,
                partition: worked,
                group: "",
                tokens,
            }),
            opcode::QUEUE_NACK => Request::QueueNack(QueueNack {
                handle: queue,
                partition: worked,
                delay_ms: None,
                error: "why",
                group: "",
                tokens,
            }),
            opcode::QUEUE_EXTEND => Request::QueueExtend(QueueExtend {
                handle: queue,
                partition: worked,
                lease_ms: 1000,
                group: "",
                tokens,
            }),
            opcode::QUEUE_RELEASE => Request::QueueRelease(QueueRelease {
                handle: queue,
                partition: worked,
                group: "",
                tokens,
            }),
            opcode::QUEUE_PEEK => Request::QueuePeek(QueuePeek {
                handle: queue,
                partition: worked,
                from: 0,
                max_items: 10,
                max_bytes: 1000,
                states: States::ALL,
                bodies: true,
                group: "",
            }),
            opcode::QUEUE_DEAD_LIST => Request::QueueDeadList(QueueDeadList {
                handle: queue,
                partition: worked,
                from: 0,
                max_items: 10,
                max_bytes: 1000,
                bodies: true,
                select,
                group: "",
            }),
            opcode::QUEUE_DEAD_REPLAY => Request::QueueDeadReplay(QueueDeadReplay {
                handle: queue,
                partition: worked,
                rate_per_s: 0,
                select,
                group: "",
                ids,
            }),
            opcode::QUEUE_DEAD_PURGE => Request::QueueDeadPurge(QueueDeadPurge {
                handle: queue,
                partition: worked,
                select,
                group: "",
                ids,
            }),
            opcode::QUEUE_INFO => Request::QueueInfo(QueueInfo {
                handle: queue,
                partition: worked,
            }),
            opcode::QUEUE_WHY => Request::QueueWhy(QueueWhy {
                handle: queue,
                partition: worked,
                group: "",
            }),
            opcode::QUEUE_SUBSCRIBE => Request::QueueSubscribe(QueueSubscribe {
                handle: queue,
                partition: worked,
                subscription: SubscriptionId(903),
                lease_ms: 0,
                in_flight_max: 0,
                credit_records: 1,
                credit_bytes: 1000,
                group: "",
            }),
            opcode::QUEUE_GROUP => Request::QueueGroup(QueueGroup {
                handle: queue,
                partition: worked,
                action: GroupAction::CreateEarliest,
                group: "another",
            }),
            other => panic!("opcode {other:#04x} has no row here"),
        };
        assert_eq!(request.opcode(), code);
        request.encode(correlation, &mut out).unwrap();
        out
    }
}
