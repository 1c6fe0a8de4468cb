//! Streams: how many records they have and how fast they go, who reads them, their places
//! for readers, their newest records.

use std::sync::Arc;

use pinion_metadata::{Action, Object};
use pinion_node::views::{PartitionFacts, Question, SubscriptionFacts, View};
use pinion_types::block::records;
use pinion_types::limits::CURSORS_MAX;
use pinion_types::{Offset, PartitionId, ResourceKind, WallMs};
use pinion_wire::message::{CursorList, Fetch, Handle, Reply, Request};
use serde::Serialize;
use utoipa::ToSchema;

use super::ask;
use super::sessions::SessionId;
use super::sums::{Pace, StreamSum, condition_of};
use super::{Address, At, Condition, Listed, Named, RowDeleting, Wanted, check, find, resource};
use crate::Api;
use crate::access::Who;
use crate::error::Failure;
use crate::observer::Told;

const KIND: ResourceKind = ResourceKind::Stream;

/// Subscriptions that one page of a stream tells of. More are counted and not shown.
pub(crate) const SUBSCRIPTIONS_MAX: usize = 1_000;

/// Newest records that are shown of one partition.
#[allow(dead_code, reason = "for pages")]
pub(crate) const NEWEST_MAX: u32 = 32;

/// Bytes of records that are read for showing the newest of one partition.
#[allow(dead_code, reason = "for pages")]
const NEWEST_BYTES: u32 = 256 << 10;

/// How a stream is. What is durable of a durable stream is `offset` to `size_bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct StreamNumbers {
    /// Of the resource, never used again for another.
    pub(crate) id: u64,
    /// What it acknowledges survives a crash.
    pub(crate) durable: bool,
    pub(crate) partitions: u16,
    pub(crate) state: Condition,
    /// One past the last record taken. Of several partitions: all of them added.
    pub(crate) offset: u64,
    /// One past the last record that readers see. Of several partitions: all of them added.
    pub(crate) watermark: u64,
    /// Records that can be read.
    pub(crate) records: u64,
    /// On disk when it is durable, in memory otherwise.
    pub(crate) size_bytes: u64,
    /// Of them, and of what is kept ready, in memory.
    pub(crate) memory_bytes: u64,
    /// Append sessions.
    pub(crate) sessions_active: u64,
    /// Subscriptions.
    pub(crate) subscriptions: u64,
    /// Records taken since the node was started.
    pub(crate) events_total: u64,
    /// Records taken, a second.
    pub(crate) in_per_second: f64,
    /// Records given to subscriptions, a second.
    pub(crate) out_per_second: f64,
    /// Bytes of them.
    pub(crate) out_bytes_per_second: f64,
}

/// A stream in a list.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct StreamRow {
    #[serde(flatten)]
    pub(crate) named: Named,
    #[serde(flatten)]
    pub(crate) numbers: StreamNumbers,
    /// Null of one that is not deleted.
    pub(crate) deleting: Option<RowDeleting>,
}

/// One partition of a stream.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct StreamPartition {
    pub(crate) partition: u16,
    /// Data core of this node that has it.
    pub(crate) core: u16,
    pub(crate) state: Condition,
    /// Oldest offset that can be read.
    pub(crate) first_offset: u64,
    /// One past the last record taken.
    pub(crate) offset: u64,
    /// One past the last record that readers see.
    pub(crate) watermark: u64,
    pub(crate) size_bytes: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) sessions_active: u64,
    pub(crate) subscriptions: u64,
    pub(crate) in_per_second: f64,
    pub(crate) out_per_second: f64,
}

/// Who reads a partition.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct StreamSubscription {
    #[schema(value_type = String)]
    pub(crate) session_id: SessionId,
    /// Its number on that session.
    pub(crate) subscription: u32,
    pub(crate) partition: u16,
    /// First offset that it was not given.
    pub(crate) offset: u64,
    /// Records between that and the watermark.
    pub(crate) lag_records: u64,
    /// Records that it may be given before it grants more.
    pub(crate) credit_records: u64,
}

/// One stream.
pub(crate) struct StreamFacts {
    pub(crate) row: StreamRow,
    /// Those that were used since the node was started, or hold data.
    pub(crate) partitions: Vec<StreamPartition>,
    /// What it was declared to be.
    pub(crate) object: Arc<Object>,
    pub(crate) as_of: At,
}

/// Who reads a stream, slowest first.
pub(crate) struct Readers {
    /// At most [`SUBSCRIPTIONS_MAX`].
    pub(crate) rows: Vec<StreamSubscription>,
    pub(crate) total: usize,
    pub(crate) as_of: At,
}

/// A place kept for a reader.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct CursorFacts {
    pub(crate) name: String,
    pub(crate) partition: u16,
    /// The next one to be read.
    pub(crate) offset: u64,
}

/// A record as it was written. Pages of the dashboard show it.
#[allow(dead_code, reason = "for pages")]
#[derive(Clone, Debug)]
pub(crate) struct RecordFacts {
    pub(crate) partition: u16,
    pub(crate) offset: u64,
    pub(crate) at: WallMs,
    pub(crate) key: Vec<u8>,
    pub(crate) headers: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) value: Vec<u8>,
}

pub(super) fn numbers(told: Told<'_>, object: &Object) -> StreamNumbers {
    let Ok(resource) = resource(object) else {
        return StreamNumbers::of(0, false, 0, Condition::Ok, &Pace::default());
    };
    let pace = Pace::of(told, resource.id, |_| true);
    let state = pace.condition(object.meta.deleting.is_some());
    let spec = &resource.spec;
    StreamNumbers::of(resource.id.0, spec.durable, spec.shards, state, &pace)
}

impl StreamNumbers {
    fn of(
        id: u64,
        durable: bool,
        partitions: u16,
        state: Condition,
        pace: &Pace<StreamSum>,
    ) -> Self {
        let sum = pace.now;
        Self {
            id,
            durable,
            partitions,
            state,
            offset: sum.appended,
            watermark: sum.end,
            records: sum.end.saturating_sub(sum.first),
            size_bytes: if durable {
                sum.durable_bytes
            } else {
                sum.bytes
            },
            memory_bytes: sum.bytes,
            sessions_active: sum.append_sessions,
            subscriptions: sum.subscriptions,
            events_total: sum.records_in,
            in_per_second: pace.rate(|sum| sum.records_in),
            out_per_second: pace.rate(|sum| sum.records_out),
            out_bytes_per_second: pace.rate(|sum| sum.bytes_out),
        }
    }
}

/// Streams that somebody may see.
///
/// # Errors
/// They may see none; the node is not ready.
pub(crate) async fn list(
    api: &Api,
    who: &Who,
    wanted: &Wanted<'_, StreamNumbers>,
) -> Result<Listed<StreamRow>, Failure> {
    super::list(api, who, KIND, wanted, numbers, row).await
}

pub(super) fn row(object: &Object, numbers: StreamNumbers) -> StreamRow {
    StreamRow {
        named: Named::of(object),
        deleting: RowDeleting::of(object),
        numbers,
    }
}

/// One stream.
///
/// # Errors
/// 404 when there is none, or none that they may see.
pub(crate) async fn one(api: &Api, who: &Who, address: &Address) -> Result<StreamFacts, Failure> {
    let found = find(api, who, KIND, address).await?;
    let told = found.sight.told();
    let durable = resource(&found.object)?.spec.durable;
    let mut partitions: Vec<StreamPartition> = told
        .partitions(found.id)
        .iter()
        .map(|facts| {
            let only = |other: &PartitionFacts| other.partition == facts.partition;
            let pace: Pace<StreamSum> = Pace::of(told, found.id, only);
            let numbers = StreamNumbers::of(found.id.0, durable, 1, condition_of(&facts), &pace);
            StreamPartition {
                partition: facts.partition.0,
                core: facts.core.0,
                state: numbers.state,
                first_offset: pace.now.first,
                offset: numbers.offset,
                watermark: numbers.watermark,
                size_bytes: numbers.size_bytes,
                memory_bytes: numbers.memory_bytes,
                sessions_active: numbers.sessions_active,
                subscriptions: numbers.subscriptions,
                in_per_second: numbers.in_per_second,
                out_per_second: numbers.out_per_second,
            }
        })
        .collect();
    partitions.sort_by_key(|one| one.partition);
    Ok(StreamFacts {
        row: row(&found.object, numbers(told, &found.object)),
        partitions,
        as_of: At(told.taken_at),
        object: found.object,
    })
}

/// Who reads a stream at this moment, slowest first.
///
/// # Errors
/// 404 when there is no such stream, or none that they may see; 503 when a core does not
/// answer.
pub(crate) async fn readers(api: &Api, who: &Who, address: &Address) -> Result<Readers, Failure> {
    check(who, Action::AdminRead, &address.tenant)?;
    let seats = ask::seats(api, KIND, address).await?;
    let mut cores: Vec<_> = seats.iter().map(|seat| seat.core).collect();
    cores.sort_unstable();
    cores.dedup();
    let Some(resource) = seats.first().map(|seat| seat.id) else {
        return Err(Failure::not_found());
    };
    let mut all: Vec<SubscriptionFacts> = Vec::new();
    for core in cores {
        let mut after = None;
        loop {
            let asked = Question::Subscriptions {
                after,
                resource: Some(resource),
            };
            let View::Subscriptions(page) = ask::question(api, core, asked).await? else {
                return Err(ask::strange());
            };
            all.extend(page.items);
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
    }
    all.sort_by_key(|one| core::cmp::Reverse(one.behind));
    let total = all.len();
    let rows = all.iter().take(SUBSCRIPTIONS_MAX);
    let rows = rows.map(|one| StreamSubscription {
        session_id: SessionId::of(one.to.session),
        subscription: one.to.subscription.0,
        partition: one.partition.0,
        offset: one.next.unwrap_or_default().0,
        lag_records: one.behind,
        credit_records: one.credit_records.unwrap_or_default(),
    });
    Ok(Readers {
        rows: rows.collect(),
        total,
        as_of: At(crate::wall()),
    })
}

/// Places kept for readers, by partition and name.
///
/// # Errors
/// As [`readers`].
pub(crate) async fn cursors(
    api: &Api,
    who: &Who,
    address: &Address,
) -> Result<Vec<CursorFacts>, Failure> {
    check(who, Action::AdminRead, &address.tenant)?;
    let mut all = Vec::new();
    for seat in ask::seats(api, KIND, address).await? {
        let asked = Request::CursorList(CursorList {
            handle: Handle(0),
            partition: seat.partition,
            max_items: CURSORS_MAX,
            after: "",
        });
        let answered = ask::request(api, seat, &asked).await?;
        let Reply::CursorPage(page) = answered.reply()? else {
            return Err(ask::strange());
        };
        all.extend(page.items.iter().map(|one| CursorFacts {
            name: one.name.to_owned(),
            partition: seat.partition.0,
            offset: one.offset.0,
        }));
    }
    Ok(all)
}

/// The newest records of one partition, newest first; `count` is at most [`NEWEST_MAX`].
///
/// # Errors
/// As [`readers`], and 404 when there is no such partition.
#[allow(dead_code, reason = "for pages")]
pub(crate) async fn newest(
    api: &Api,
    who: &Who,
    address: &Address,
    (partition, count): (u16, u32),
) -> Result<Vec<RecordFacts>, Failure> {
    check(who, Action::AdminRead, &address.tenant)?;
    let seat = ask::seat(api, KIND, address, partition).await?;
    let sight = api.observer.look_at(&[(seat.id, partition + 1)]).await;
    let mut own = sight.told().partitions(seat.id).iter();
    let end = own.find(|facts| facts.partition == PartitionId(partition));
    let end = end.and_then(|facts| Some(facts.stream()?.end.0));
    let end = end.unwrap_or(0);
    let from = end.saturating_sub(count.min(NEWEST_MAX).into());
    let asked = Request::Fetch(Fetch {
        handle: Handle(0),
        partition: seat.partition,
        from: Offset(from),
        max_records: count.min(NEWEST_MAX),
        max_bytes: NEWEST_BYTES,
        filter: pinion_wire::message::Filter::everything(),
    });
    let answered = ask::request(api, seat, &asked).await?;
    let Reply::Fetched(fetched) = answered.reply()? else {
        return Err(ask::strange());
    };
    let mut all = Vec::new();
    for block in fetched.blocks() {
        let (header, bytes) = block.map_err(|_| ask::strange())?;
        for (record, offset) in records(bytes).zip(header.first_offset.0..) {
            let record = record.map_err(|_| ask::strange())?;
            let pair = |(name, value): (&[u8], &[u8])| (name.to_vec(), value.to_vec());
            all.push(RecordFacts {
                partition,
                offset,
                at: header.timestamp,
                key: record.key.to_vec(),
                headers: record.headers().map(pair).collect(),
                value: record.value.to_vec(),
            });
        }
    }
    // A block is answered whole: what is before the first one wanted comes with it.
    all.retain(|record| record.offset >= from);
    all.reverse();
    Ok(all)
}
