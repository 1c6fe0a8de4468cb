//! Running a request on the core that owns its partition.

use pinion_domains::cache::{self, LeaseOutcome, WatchOptions};
use pinion_domains::stream::{self, PartitionConfig, RecordFilter, SessionError, SubscribeOptions};
use pinion_shard::{PartitionSpec, Slot, Ticket};
use pinion_types::block::Record;
use pinion_types::route::partition_of;
use pinion_types::{ErrorCode, FactId, Offset, PartitionId, Refusal, ResourceKind, SubscriptionId};
use pinion_wire::message::{
    Ack, AppendBegun, AppendStaged, CacheCounter, CacheDeleted, CacheLeased, CacheSetMany,
    CacheStatus, CacheStored, CacheValue, Condition, Durability, FilterBuf, Overflow, PageItem,
    Publish, Published, Reply, Request, Start, StreamStatus, Subscribe, Subscribed,
};
use pinion_wire::reply::{CachePageBuilder, CacheStoredManyBuilder, CacheValuesBuilder};

use crate::core::{Core, answer};
use crate::deliveries::WINDOW_BYTES;
use crate::mail::{LANE_BYTES_HIGH, Origin, Subscriber};
use crate::map::Resource;

/// Entries one scan request looks at. Bounds its work where few keys match.
const SCAN_WORK: u32 = 8192;

/// What became of a request that was not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Executed {
    /// The answer is in the output.
    Replied,
    /// The answer follows.
    Deferred,
    /// The answer is in the output, to be sent when the disk has what it says.
    Held(Ticket),
    /// This request has no answer.
    Silent,
}

/// Partition number and shards of the resource a slot belongs to are facts of
/// the request; the slot itself is all the shard needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) slot: Slot,
    pub(crate) partition: PartitionId,
    pub(crate) shards: u16,
    /// Longest value a cache takes.
    pub(crate) value_bytes_max: u32,
}

impl Target {
    pub(crate) fn new(resource: &Resource, partition: PartitionId, slot: Slot) -> Self {
        Self {
            slot,
            partition,
            shards: resource.spec.shards,
            value_bytes_max: resource.spec.max_record_bytes,
        }
    }
}

#[derive(Debug)]
pub(crate) struct WireFilter(pub(crate) FilterBuf);

impl RecordFilter for WireFilter {
    fn matches(&self, record: &Record<'_>) -> bool {
        self.0.matches(record)
    }
}

impl Core {
    /// Where a partition lies in this core's shard, created on first use.
    pub(crate) fn slot_of(
        &mut self,
        resource: &Resource,
        partition: PartitionId,
    ) -> Result<Slot, Refusal> {
        if self.shard.is_barred(resource.id, partition) {
            // Records of before it was declared, or of a resource that was purged: not
            // to be mixed with new ones.
            return Err(ErrorCode::ResourceClosed.into());
        }
        let slot = match Self::partition_spec(resource) {
            Some(spec) => {
                let log = resource.log(partition);
                let (now, wall) = (self.now, self.wall);
                self.shard
                    .open_partition(resource.id, partition, log, now, wall, || spec)
            }
            None => {
                self.shard
                    .open_cache(resource.id, partition, resource.spec.ring_bytes, self.wall)
            }
        };
        slot.ok_or_else(|| {
            Refusal::new(ErrorCode::LimitReached)
                .with(FactId::Limit, pinion_shard::PARTITIONS_MAX as u64)
        })
    }

    /// What the partitions of a resource are like; `None` for a cache, which
    /// is made from the time of its creation, too.
    pub(crate) fn partition_spec(resource: &Resource) -> Option<PartitionSpec> {
        let spec = &resource.spec;
        match resource.kind {
            ResourceKind::Stream => Some(PartitionSpec::Stream(PartitionConfig {
                durable: resource.is_durable(),
                ring_bytes: spec.ring_bytes,
                max_record_bytes: spec.max_record_bytes,
                retention_ms: (spec.retention_ms > 0).then_some(spec.retention_ms),
                retention_bytes: (spec.retention_bytes > 0).then_some(spec.retention_bytes),
                default_overflow: overflow(spec.overflow),
                ..PartitionConfig::default()
            })),
            ResourceKind::Queue => Some(PartitionSpec::Queue(crate::queues::config(resource))),
            ResourceKind::Cache => None,
        }
    }

    /// A request that another core's connection sent here. It was authorised there.
    pub(crate) fn execute_for_other(
        &mut self,
        origin: Origin,
        resource: &Resource,
        partition: PartitionId,
        number: u64,
        opcode: u8,
        body: &[u8],
    ) {
        let mut frame = Vec::new();
        let request = Request::decode(opcode, body).expect("decoded where it came in");
        let awaited = !request_is_silent(&request);
        let result = self.admit_for_other(origin).and_then(|()| {
            if let Request::Unsubscribe(unsubscribe) = &request {
                return self.end_subscription(origin, unsubscribe.subscription, &mut frame);
            }
            if !self.map.takes(resource.id) {
                return Err(ErrorCode::ResourceClosed.into());
            }
            let slot = self.slot_of(resource, partition)?;
            let target = Target::new(resource, partition, slot);
            self.execute(origin, target, number, &request, &mut frame)
        });
        match result {
            Ok(Executed::Replied | Executed::Silent) => {}
            Ok(Executed::Deferred) => return,
            Ok(Executed::Held(ticket)) => {
                self.hold(ticket, origin, &frame);
                return;
            }
            Err(refusal) => {
                frame.clear();
                answer(&mut frame, origin.correlation, &Reply::Error(refusal));
            }
        }
        self.send_reply(origin, frame, awaited);
    }

    fn admit_for_other(&self, origin: Origin) -> Result<(), Refusal> {
        if self.is_draining() {
            return Err(ErrorCode::Draining.into());
        }
        if self.mails.is_high(origin.session.core) {
            // Its answers are not fetched; more of them would pile up here.
            return Err(Refusal::new(ErrorCode::Busy).with(FactId::Limit, LANE_BYTES_HIGH as u64));
        }
        Ok(())
    }

    /// Runs one request against its partition. On error `out` may hold part of
    /// a reply; the caller takes it out.
    pub(crate) fn execute(
        &mut self,
        origin: Origin,
        target: Target,
        number: u64,
        request: &Request<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Executed, Refusal> {
        let (now, wall) = (self.now, self.wall);
        let slot = target.slot;
        let correlation = origin.correlation;
        let reply = match request {
            // The hot path first: a read copies the value straight into the
            // connection's output.
            Request::CacheGet(get) => match self.shard.cache(slot).get(now, get.key) {
                Some(entry) => Reply::CacheValue(value(&entry, false)),
                None => Reply::CacheMiss,
            },
            Request::CacheSet(set) => {
                check_value(set.value, target)?;
                let version = self.shard.cache(slot).set(
                    now,
                    set.key,
                    set.value,
                    set.ttl_ms,
                    condition(set.condition),
                )?;
                Reply::CacheStored(CacheStored { version })
            }
            Request::Publish(publish) => {
                return self.publish(origin, target, publish, out);
            }
            Request::CacheDelete(delete) => {
                let deleted =
                    self.shard
                        .cache(slot)
                        .delete(now, delete.key, condition(delete.condition))?;
                Reply::CacheDeleted(CacheDeleted {
                    existed: deleted.existed,
                    version: deleted.version,
                })
            }
            Request::CacheTouch(touch) => {
                let version = self.shard.cache(slot).touch(now, touch.key, touch.ttl_ms)?;
                Reply::CacheStored(CacheStored { version })
            }
            Request::CacheIncr(incr) => {
                let (value, version) = self.shard.cache(slot).incr(
                    now,
                    incr.key,
                    incr.delta,
                    incr.initial,
                    incr.ttl_ms,
                )?;
                Reply::CacheCounter(CacheCounter { value, version })
            }
            Request::CacheGetMany(many) => {
                let cache = self.shard.cache(slot);
                let mut values = CacheValuesBuilder::new(out, correlation);
                for key in many.keys.iter() {
                    check_partition(key, target)?;
                    let fits = match cache.get(now, key) {
                        Some(entry) => values.hit(entry.version, entry.ttl_ms, entry.value),
                        None => values.miss(),
                    };
                    if !fits {
                        break;
                    }
                }
                values.finish();
                return Ok(Executed::Replied);
            }
            Request::CacheSetMany(many) => {
                self.set_many(correlation, target, many, out)?;
                return Ok(Executed::Replied);
            }
            Request::CacheScan(scan) => {
                let cache = self.shard.cache(slot);
                let mut page = CachePageBuilder::new(out, correlation);
                let mut bytes = 0_u64;
                let cursor = cache.scan(
                    now,
                    scan.prefix,
                    scan.cursor,
                    scan.max_items,
                    SCAN_WORK,
                    |key, entry| {
                        let value = if scan.keys_only { &[][..] } else { entry.value };
                        let size = (key.len() + value.len()) as u64;
                        if bytes > 0 && bytes + size > u64::from(scan.max_bytes) {
                            return false;
                        }
                        bytes += size.max(1);
                        page.push(PageItem {
                            version: entry.version,
                            ttl_ms: entry.ttl_ms,
                            key,
                            value,
                        })
                    },
                );
                page.finish(cursor);
                return Ok(Executed::Replied);
            }
            Request::CacheLease(lease) => {
                let waits = self.shard.get_or_lease(
                    now,
                    slot,
                    origin,
                    lease.key,
                    lease.wait_ms,
                    lease.lease_ms,
                    lease.stale_ok,
                    |outcome| {
                        let reply = match outcome {
                            LeaseOutcome::Value(entry) => Reply::CacheValue(value(&entry, false)),
                            LeaseOutcome::Stale(entry) => Reply::CacheValue(value(&entry, true)),
                            LeaseOutcome::Lease { token, lease_ms } => {
                                Reply::CacheLeased(CacheLeased {
                                    lease: token,
                                    lease_ms,
                                })
                            }
                            LeaseOutcome::Waiting => unreachable!("answered by a wakeup"),
                        };
                        answer(out, correlation, &reply);
                    },
                )?;
                return Ok(if waits {
                    Executed::Deferred
                } else {
                    Executed::Replied
                });
            }
            Request::CacheWatch(watch) => {
                if !watch.prefix {
                    check_partition(watch.key, target)?;
                }
                let version = self.shard.watch(
                    slot,
                    Subscriber {
                        session: origin.session,
                        subscription: watch.subscription,
                        number,
                    },
                    &WatchOptions {
                        key: watch.key,
                        prefix: watch.prefix,
                        with_values: watch.with_values,
                        credit_records: watch.credit_records,
                        credit_bytes: watch.credit_bytes,
                        window_bytes: WINDOW_BYTES,
                    },
                )?;
                let at = Offset(version.0);
                self.subscribed(watch.subscription, at, at)
            }
            Request::CacheInfo(_) => {
                let stats = self.shard.cache(slot).stats();
                Reply::CacheStatus(CacheStatus {
                    entries: stats.entries,
                    bytes: stats.bytes,
                    budget: stats.budget,
                    hits: stats.hits,
                    misses: stats.misses,
                    evictions: stats.evictions,
                    expirations: stats.expirations,
                })
            }
            Request::Subscribe(subscribe) => self.subscribe(origin, slot, number, subscribe)?,
            Request::Fetch(fetch) => {
                return self.fetch(origin, slot, fetch, out);
            }
            Request::StreamInfo(_) => {
                let epoch = self.map.epoch();
                let stream = self.shard.stream(slot);
                Reply::StreamStatus(StreamStatus {
                    first_available: stream.first_available(),
                    end: stream.end(),
                    bytes: stream.bytes(),
                    subscriptions: u32::try_from(stream.subscriptions())
                        .expect("bounded by subscribers_max"),
                    epoch,
                })
            }
            Request::AppendBegin(begin) => {
                self.shard
                    .append_begin(now, slot, origin.session, number, begin.exclusive)?;
                Reply::AppendBegun(AppendBegun { session: number })
            }
            Request::AppendStage(stage) => {
                let (slot, owner, id) = self.append_of(origin, number)?;
                let staged = self.shard.stream(slot).stage(
                    now,
                    owner,
                    id,
                    stage.record_count,
                    stage.records,
                );
                let totals = self.append_used(origin, number, false, staged)?;
                Reply::AppendStaged(AppendStaged {
                    records: totals.records,
                    bytes: totals.bytes,
                })
            }
            Request::AppendCommit(commit) => {
                let (slot, owner, id) = self.append_of(origin, number)?;
                let staged = self.shard.stream(slot).staged_bytes(now, owner, id);
                self.shard.admit(slot, staged, false)?;
                let appended =
                    self.shard
                        .stream(slot)
                        .commit(now, wall, owner, id, commit.expected_offset);
                let appended = self.append_used(origin, number, true, appended)?;
                self.stats.published += u64::from(appended.record_count);
                let ticket = self.shard.take_ops(now, slot);
                let reply = self.published(target, &appended);
                answer(out, correlation, &reply);
                return Ok(ticket.map_or(Executed::Replied, Executed::Held));
            }
            Request::AppendRollback(_) => {
                let (slot, owner, id) = self.append_of(origin, number)?;
                let done = self.shard.stream(slot).rollback(owner, id);
                self.append_used(origin, number, true, done)?;
                Reply::Done
            }
            Request::Hello(_)
            | Request::Ping(_)
            | Request::Open(_)
            | Request::Credit(_)
            | Request::Unsubscribe(_) => unreachable!("handled by the connection's core"),
            _ => {
                return self
                    .execute_queue(origin, target, number, request, out)
                    .or_else(|| self.execute_cursor(origin, target, request, out))
                    .expect("every request has its room");
            }
        };
        answer(out, correlation, &reply);
        Ok(Executed::Replied)
    }

    fn append_of(&self, origin: Origin, append: u64) -> Result<(Slot, u64, u64), Refusal> {
        self.shard
            .append_session(origin.session, append)
            .ok_or_else(|| ErrorCode::SessionUnknown.into())
    }

    /// An append session is over when a request that ends it succeeded, or when
    /// its partition has given it up. A commit that was refused leaves it open:
    /// it can be committed again or rolled back.
    fn append_used<T>(
        &mut self,
        origin: Origin,
        append: u64,
        last: bool,
        result: Result<T, SessionError>,
    ) -> Result<T, Refusal> {
        let over = match &result {
            Ok(_) => last,
            Err(error) => matches!(error, SessionError::Unknown),
        };
        if over {
            self.shard.append_end(origin.session, append);
        }
        Ok(result?)
    }

    fn publish(
        &mut self,
        origin: Origin,
        target: Target,
        publish: &Publish<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Executed, Refusal> {
        if publish.ack == Ack::Quorum {
            // One replica is no quorum; a weaker ack must not pass for it.
            return Err(ErrorCode::AckUnavailable.into());
        }
        let slot = target.slot;
        self.shard.admit(slot, publish.records.len(), false)?;
        let appended = self.shard.stream(slot).append(
            self.now,
            self.wall,
            &stream::Append {
                producer: publish.producer,
                expected_offset: publish.expected_offset,
                record_count: publish.record_count,
                records: publish.records,
            },
        )?;
        let mut ticket = self.shard.take_ops(self.now, slot);
        if appended.duplicate {
            // What it repeats may not have reached the disk yet.
            ticket = self.shard.behind(slot);
        } else {
            self.stats.published += u64::from(appended.record_count);
        }
        if publish.ack == Ack::None {
            return Ok(Executed::Silent);
        }
        let reply = self.published(target, &appended);
        answer(out, origin.correlation, &reply);
        Ok(ticket.map_or(Executed::Replied, Executed::Held))
    }

    fn published(&self, target: Target, appended: &stream::Appended) -> Reply<'static> {
        Reply::Published(Published {
            partition: target.partition,
            durability: self.durability(target.slot),
            duplicate: appended.duplicate,
            first_offset: appended.first_offset,
            record_count: appended.record_count,
            epoch: self.map.epoch(),
        })
    }

    /// What an acknowledgement of the partition at `slot` says.
    pub(crate) fn durability(&self, slot: Slot) -> Durability {
        if self.shard.is_durable(slot) {
            Durability::Disk
        } else {
            Durability::Memory
        }
    }

    fn subscribe(
        &mut self,
        origin: Origin,
        slot: Slot,
        number: u64,
        subscribe: &Subscribe<'_>,
    ) -> Result<Reply<'static>, Refusal> {
        let filter: Option<Box<dyn RecordFilter>> = if subscribe.filter.is_empty() {
            None
        } else {
            Some(Box::new(WireFilter(subscribe.filter.into())))
        };
        let standing = self.shard.subscribe(
            slot,
            Subscriber {
                session: origin.session,
                subscription: subscribe.subscription,
                number,
            },
            SubscribeOptions {
                start: match subscribe.start {
                    Start::Earliest => stream::Start::Earliest,
                    Start::Latest => stream::Start::Latest,
                    Start::Offset(offset) => stream::Start::Offset(offset),
                    Start::Time(time) => stream::Start::Time(time),
                },
                overflow: subscribe.overflow.map(overflow),
                backlog_max: subscribe.backlog_max,
                credit_records: subscribe.credit_records,
                credit_bytes: subscribe.credit_bytes,
                window_bytes: WINDOW_BYTES,
                filter,
            },
        )?;
        Ok(self.subscribed(subscribe.subscription, standing.next, standing.end))
    }

    fn subscribed(
        &self,
        subscription: SubscriptionId,
        next: Offset,
        end: Offset,
    ) -> Reply<'static> {
        Reply::Subscribed(Subscribed {
            subscription,
            next,
            end,
            epoch: self.map.epoch(),
        })
    }

    /// Ends a subscription on the core that owns its partition: the END frame
    /// goes on its stream, DONE answers the request.
    pub(crate) fn end_subscription(
        &mut self,
        origin: Origin,
        id: SubscriptionId,
        out: &mut Vec<u8>,
    ) -> Result<Executed, Refusal> {
        let (to, next) = self
            .shard
            .unsubscribe(origin.session, id)
            .ok_or(ErrorCode::UnknownSubscription)?;
        self.send_end(to, None, next);
        answer(out, origin.correlation, &Reply::Done);
        Ok(Executed::Replied)
    }

    fn set_many(
        &mut self,
        correlation: u32,
        target: Target,
        many: &CacheSetMany<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        // All keys first: a key of another partition refuses the whole request
        // before anything is written.
        for item in many.items.iter() {
            check_partition(item.key, target)?;
        }
        let now = self.now;
        let cache = self.shard.cache(target.slot);
        let mut stored = CacheStoredManyBuilder::new(out, correlation);
        for item in many.items.iter() {
            let result = check_value(item.value, target).and_then(|()| {
                let always = cache::Condition::Always;
                Ok(cache.set(now, item.key, item.value, item.ttl_ms, always)?)
            });
            let result = result.map_err(|refusal| refusal.code);
            let fits = stored.push(result);
            assert!(fits, "an answer is shorter than its item");
        }
        stored.finish();
        Ok(())
    }
}

fn check_partition(key: &[u8], target: Target) -> Result<(), Refusal> {
    let actual = partition_of(key, target.shards);
    if actual == target.partition {
        Ok(())
    } else {
        Err(Refusal::new(ErrorCode::WrongPartition)
            .with(FactId::Limit, u64::from(target.shards))
            .with(FactId::Expected, u64::from(actual.0)))
    }
}

/// The cache's own limit; the largest of any cache is checked further in.
fn check_value(value: &[u8], target: Target) -> Result<(), Refusal> {
    if value.len() <= target.value_bytes_max as usize {
        Ok(())
    } else {
        Err(Refusal::new(ErrorCode::ValueTooLarge)
            .with(FactId::Limit, u64::from(target.value_bytes_max)))
    }
}

/// A publish that asks for no answer gets one only when it is refused.
pub(crate) fn request_is_silent(request: &Request<'_>) -> bool {
    matches!(request, Request::Publish(publish) if publish.ack == Ack::None)
}

fn value<'a>(entry: &cache::Entry<'a>, stale: bool) -> CacheValue<'a> {
    CacheValue {
        version: entry.version,
        ttl_ms: entry.ttl_ms,
        stale,
        value: entry.value,
    }
}

fn condition(condition: Condition) -> cache::Condition {
    match condition {
        Condition::Always => cache::Condition::Always,
        Condition::Absent => cache::Condition::Absent,
        Condition::Version(version) => cache::Condition::Version(version),
        Condition::Lease(token) => cache::Condition::Lease(token),
    }
}

fn overflow(overflow: Overflow) -> stream::Overflow {
    match overflow {
        Overflow::Block => stream::Overflow::Block,
        Overflow::DropOldest => stream::Overflow::DropOldest,
        Overflow::DropNewest => stream::Overflow::DropNewest,
        Overflow::Disconnect => stream::Overflow::Disconnect,
    }
}
