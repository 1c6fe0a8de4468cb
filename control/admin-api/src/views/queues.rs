//! Queues: what waits in them, who has what, what died, and why nothing is delivered.
//!
//! What a queue counts comes from the snapshot. Messages, dead letters and reasons are asked
//! of the partition itself, which reads what is on the disk only.

mod messages;

use std::sync::Arc;

use pinion_metadata::{Action, Object};
use pinion_node::views::PartitionFacts;
use pinion_types::{ResourceKind, WallMs};
use pinion_wire::message::{Handle, QueueInfo, QueueWhy, Reason, Reply, Request, WhyReason};
use serde::Serialize;
use utoipa::ToSchema;

use super::ask::{self, Seat};
use super::sums::{Pace, QueueSum, condition_of};
use super::{
    Address, At, Condition, Listed, Named, RowDeleting, Wanted, check, find, resource,
    seconds_since,
};
use crate::Api;
use crate::access::Who;
use crate::error::Failure;
use crate::observer::Told;

pub(crate) use messages::{
    DeadLetterRow, InFlightRow, Messages, all_in_flight, dead_letters, in_flight,
};

const KIND: ResourceKind = ResourceKind::Queue;

/// How a queue is. Its messages and dead letters are durable when the queue is, what is in
/// flight and who consumes is live.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct QueueNumbers {
    /// Of the resource, never used again for another.
    pub(crate) id: u64,
    /// What it acknowledges survives a crash.
    pub(crate) durable: bool,
    pub(crate) partitions: u16,
    pub(crate) state: Condition,
    pub(crate) messages_ready: u64,
    /// For a delay, a backoff, or an earlier message of their key.
    pub(crate) messages_delayed: u64,
    pub(crate) messages_inflight: u64,
    pub(crate) messages_dead_lettered: u64,
    /// Ready, delayed, in flight and dead together. What two groups have counts for each.
    pub(crate) messages_total: u64,
    /// How long the oldest that is ready has waited: since it was put, without the delay it
    /// was put with; 0 when none is ready.
    pub(crate) oldest_message_age_seconds: u64,
    /// Bytes of all messages.
    pub(crate) size_bytes: u64,
    /// Subscriptions.
    pub(crate) consumers: u64,
    /// Takes that wait.
    pub(crate) takes_waiting: u64,
    /// Since the node was started, as all that end in `_total` below.
    pub(crate) enqueues_total: u64,
    pub(crate) reserves_total: u64,
    pub(crate) redeliveries_total: u64,
    pub(crate) completes_total: u64,
    pub(crate) releases_total: u64,
    pub(crate) inflight_expired_total: u64,
    pub(crate) dead_letter_transitions_total: u64,
    pub(crate) enqueues_per_second: f64,
    pub(crate) reserves_per_second: f64,
    pub(crate) completes_per_second: f64,
}

/// A queue in a list.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct QueueRow {
    #[serde(flatten)]
    pub(crate) named: Named,
    #[serde(flatten)]
    pub(crate) numbers: QueueNumbers,
    /// Null of one that is not deleted.
    pub(crate) deleting: Option<RowDeleting>,
}

/// One partition of a queue.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct QueuePartition {
    /// The number of the partition.
    pub(crate) family: u16,
    /// Data core of this node that has it.
    pub(crate) core: u16,
    #[serde(flatten)]
    pub(crate) numbers: QueueNumbers,
}

/// One queue.
pub(crate) struct QueueFacts {
    pub(crate) row: QueueRow,
    /// Those that were used since the node was started, or hold data.
    pub(crate) partitions: Vec<QueuePartition>,
    /// What it was declared to be.
    pub(crate) object: Arc<Object>,
    pub(crate) as_of: At,
}

/// A consumer group, over the partitions that were asked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct GroupFacts {
    /// Empty is the default one.
    pub(crate) group: String,
    pub(crate) messages_ready: u64,
    pub(crate) messages_delayed: u64,
    pub(crate) messages_inflight: u64,
    pub(crate) messages_dead_lettered: u64,
    pub(crate) consumers: u64,
    pub(crate) takes_waiting: u64,
    /// How long the oldest that is ready has waited; 0 when none is.
    pub(crate) oldest_message_age_seconds: u64,
}

/// Why a group of a partition is given nothing.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct WhyFacts {
    pub(crate) family: u16,
    /// Empty is the default one.
    pub(crate) group: String,
    /// A stable word; `delivering` when nothing is kept back.
    pub(crate) code: &'static str,
    /// In a sentence.
    pub(crate) message: &'static str,
    /// How many messages it keeps back.
    pub(crate) messages: u64,
    /// The bound that was reached; 0 without one.
    pub(crate) limit: u64,
    /// When it ends by itself.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) until: Option<At>,
    /// The oldest message that is in the way; 0 without one.
    pub(crate) message_id: u64,
    /// For how long that one is reserved already.
    pub(crate) age_seconds: u64,
}

impl QueueNumbers {
    fn of(
        id: u64,
        durable: bool,
        partitions: u16,
        state: Condition,
        pace: &Pace<QueueSum>,
        now: WallMs,
    ) -> Self {
        let sum = pace.now;
        Self {
            id,
            durable,
            partitions,
            state,
            messages_ready: sum.ready,
            messages_delayed: sum.delayed,
            messages_inflight: sum.in_flight,
            messages_dead_lettered: sum.dead,
            messages_total: sum.ready + sum.delayed + sum.in_flight + sum.dead,
            oldest_message_age_seconds: sum.oldest.map_or(0, |oldest| seconds_since(oldest, now)),
            size_bytes: sum.bytes,
            consumers: sum.consumers,
            takes_waiting: sum.waiting,
            enqueues_total: sum.put,
            reserves_total: sum.delivered,
            redeliveries_total: sum.redelivered,
            completes_total: sum.acked,
            releases_total: sum.nacked,
            inflight_expired_total: sum.lapsed,
            dead_letter_transitions_total: sum.died,
            enqueues_per_second: pace.rate(|sum| sum.put),
            reserves_per_second: pace.rate(|sum| sum.delivered),
            completes_per_second: pace.rate(|sum| sum.acked),
        }
    }
}

fn numbers(told: Told<'_>, object: &Object, family: Option<u16>) -> QueueNumbers {
    let now = told.taken_at;
    let Ok(resource) = resource(object) else {
        return QueueNumbers::of(0, false, 0, Condition::Ok, &Pace::default(), now);
    };
    let only = |facts: &PartitionFacts| family.is_none_or(|only| facts.partition.0 == only);
    let pace = Pace::of(told, resource.id, only);
    let state = pace.condition(object.meta.deleting.is_some());
    let spec = &resource.spec;
    QueueNumbers::of(resource.id.0, spec.durable, spec.shards, state, &pace, now)
}

/// Queues that somebody may see; of one partition of each, if `family` says so.
///
/// # Errors
/// They may see none; the node is not ready.
pub(crate) async fn list(
    api: &Api,
    who: &Who,
    family: Option<u16>,
    wanted: &Wanted<'_, QueueNumbers>,
) -> Result<Listed<QueueRow>, Failure> {
    let numbers = |told: Told<'_>, object: &Object| numbers(told, object, family);
    super::list(api, who, KIND, wanted, numbers, row).await
}

fn row(object: &Object, numbers: QueueNumbers) -> QueueRow {
    QueueRow {
        named: Named::of(object),
        deleting: RowDeleting::of(object),
        numbers,
    }
}

/// One queue; its numbers are those of one partition, if `family` says so.
///
/// # Errors
/// 404 when there is none, or none that they may see, or no such partition.
pub(crate) async fn one(
    api: &Api,
    who: &Who,
    address: &Address,
    family: Option<u16>,
) -> Result<QueueFacts, Failure> {
    let found = find(api, who, KIND, address).await?;
    let told = found.sight.told();
    let spec = &resource(&found.object)?.spec;
    if family.is_some_and(|family| family >= spec.shards) {
        return Err(Failure::not_found());
    }
    let partition = |facts: PartitionFacts| {
        let only = |other: &PartitionFacts| other.partition == facts.partition;
        let pace = Pace::of(told, found.id, only);
        let (id, now) = (found.id.0, told.taken_at);
        let state = condition_of(&facts);
        QueuePartition {
            family: facts.partition.0,
            core: facts.core.0,
            numbers: QueueNumbers::of(id, spec.durable, 1, state, &pace, now),
        }
    };
    let wanted = |facts: &PartitionFacts| family.is_none_or(|only| facts.partition.0 == only);
    let facts = told.partitions(found.id).iter().filter(wanted);
    let mut partitions: Vec<QueuePartition> = facts.map(partition).collect();
    partitions.sort_by_key(|one| one.family);
    Ok(QueueFacts {
        row: row(&found.object, numbers(told, &found.object, family)),
        partitions,
        as_of: At(told.taken_at),
        object: found.object,
    })
}

/// The partitions that are asked, and nothing when there is no such one.
async fn seats(
    api: &Api,
    who: &Who,
    address: &Address,
    family: Option<u16>,
) -> Result<Vec<Seat>, Failure> {
    check(who, Action::AdminRead, &address.tenant)?;
    match family {
        None => ask::seats(api, KIND, address).await,
        Some(family) => Ok(vec![ask::seat(api, KIND, address, family).await?]),
    }
}

/// The groups of one partition.
async fn groups_of(api: &Api, seat: Seat) -> Result<Vec<GroupFacts>, Failure> {
    let asked = Request::QueueInfo(QueueInfo {
        handle: Handle(0),
        partition: seat.partition,
    });
    let answered = ask::request(api, seat, &asked).await?;
    let Reply::QueueStatus(status) = answered.reply()? else {
        return Err(ask::strange());
    };
    let facts = status.groups.iter().map(|group| GroupFacts {
        group: group.name.to_owned(),
        messages_ready: group.ready,
        messages_delayed: group.delayed,
        messages_inflight: group.in_flight,
        messages_dead_lettered: group.dead,
        consumers: group.consumers.into(),
        takes_waiting: group.waiting.into(),
        oldest_message_age_seconds: group.oldest_age_ms / 1_000,
    });
    Ok(facts.collect())
}

/// The names that are asked for: of one group, or of all that the partition has. The
/// default one is there also when nobody has used it.
pub(super) async fn names(
    api: &Api,
    seat: Seat,
    group: Option<&str>,
) -> Result<Vec<String>, Failure> {
    if let Some(group) = group {
        return Ok(vec![group.to_owned()]);
    }
    let groups = groups_of(api, seat).await?.into_iter();
    let mut names: Vec<String> = groups.map(|facts| facts.group).collect();
    if names.is_empty() {
        names.push(String::new());
    }
    names.sort();
    Ok(names)
}

/// The consumer groups of a queue, over all its partitions or of one, by name.
///
/// # Errors
/// 404 when there is no such queue, or none that they may see; 503 when a core does not
/// answer.
pub(crate) async fn groups(
    api: &Api,
    who: &Who,
    address: &Address,
    family: Option<u16>,
) -> Result<Vec<GroupFacts>, Failure> {
    let mut all = std::collections::BTreeMap::<String, GroupFacts>::new();
    for seat in seats(api, who, address, family).await? {
        for facts in groups_of(api, seat).await? {
            let sum = all.entry(facts.group.clone()).or_default();
            sum.messages_ready += facts.messages_ready;
            sum.messages_delayed += facts.messages_delayed;
            sum.messages_inflight += facts.messages_inflight;
            sum.messages_dead_lettered += facts.messages_dead_lettered;
            sum.consumers += facts.consumers;
            sum.takes_waiting += facts.takes_waiting;
            sum.oldest_message_age_seconds = sum
                .oldest_message_age_seconds
                .max(facts.oldest_message_age_seconds);
            sum.group = facts.group;
        }
    }
    Ok(all.into_values().collect())
}

/// Dead letters of one group in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dead {
    pub(crate) family: u16,
    /// Empty is the default one.
    pub(crate) group: String,
    pub(crate) messages: u64,
}

/// Where a queue has dead letters, by partition and group, as its cores have them now.
///
/// # Errors
/// As [`groups`].
pub(crate) async fn dead(api: &Api, who: &Who, address: &Address) -> Result<Vec<Dead>, Failure> {
    let mut all = Vec::new();
    for seat in seats(api, who, address, None).await? {
        let groups = groups_of(api, seat).await?.into_iter();
        let of = |facts: GroupFacts| Dead {
            family: seat.partition.0,
            group: facts.group,
            messages: facts.messages_dead_lettered,
        };
        all.extend(groups.map(of).filter(|dead| dead.messages > 0));
    }
    all.sort_by(|a, b| (a.family, &a.group).cmp(&(b.family, &b.group)));
    Ok(all)
}

/// Why each group of each partition is given nothing, or that it is given what there is.
///
/// # Errors
/// As [`groups`].
pub(crate) async fn why(
    api: &Api,
    who: &Who,
    address: &Address,
    (family, group): (Option<u16>, Option<&str>),
) -> Result<Vec<WhyFacts>, Failure> {
    let mut all = Vec::new();
    for seat in seats(api, who, address, family).await? {
        for group in names(api, seat, group).await? {
            all.extend(why_of(api, seat, &group).await?);
        }
    }
    Ok(all)
}

/// Why one group of one partition is given nothing.
pub(super) async fn why_of(api: &Api, seat: Seat, group: &str) -> Result<Vec<WhyFacts>, Failure> {
    let asked = Request::QueueWhy(QueueWhy {
        handle: Handle(0),
        partition: seat.partition,
        group,
    });
    let answered = ask::request(api, seat, &asked).await?;
    let Reply::QueueReasons(reasons) = answered.reply()? else {
        return Err(ask::strange());
    };
    let mut all: Vec<WhyFacts> = reasons
        .iter()
        .map(|reason| explain(seat.partition.0, group, &reason))
        .collect();
    if all.is_empty() {
        all.push(WhyFacts {
            family: seat.partition.0,
            group: group.to_owned(),
            code: "delivering",
            message: "Nothing is kept back.",
            messages: 0,
            limit: 0,
            until: None,
            message_id: 0,
            age_seconds: 0,
        });
    }
    Ok(all)
}

fn explain(family: u16, group: &str, reason: &Reason) -> WhyFacts {
    let (code, message) = words(reason.reason);
    WhyFacts {
        family,
        group: group.to_owned(),
        code,
        message,
        messages: reason.messages,
        limit: reason.limit,
        until: (reason.until != WallMs(0)).then_some(At(reason.until)),
        message_id: reason.message,
        age_seconds: reason.age_ms / 1_000,
    }
}

/// The stable word of a reason, and a sentence.
pub(crate) const fn words(reason: WhyReason) -> (&'static str, &'static str) {
    match reason {
        WhyReason::Empty => ("empty", "There is no message."),
        WhyReason::Delayed => ("delayed", "Messages wait for the delay they were put with."),
        WhyReason::Backoff => ("backoff", "Messages that failed wait for their backoff."),
        WhyReason::GroupInFlight => (
            "group_in_flight",
            "The group has as many messages reserved as it may: finish some, or raise max_in_flight.",
        ),
        WhyReason::ConsumerInFlight => (
            "consumer_in_flight",
            "A consumer has as many messages reserved as it may: it does not finish them.",
        ),
        WhyReason::RateLimited => (
            "rate_limited",
            "Messages that failed are given again at a bounded rate.",
        ),
        WhyReason::KeyBlocked => (
            "key_blocked",
            "An earlier message of the same key is not finished.",
        ),
        WhyReason::NoConsumers => ("no_consumers", "Nobody asks for messages."),
        WhyReason::NoCredit => (
            "no_credit",
            "No subscription grants credit: its consumers do not keep up.",
        ),
        WhyReason::Loading => ("loading", "Messages are being read from the disk."),
        WhyReason::ReadOnly => ("read_only", "The disk is full: free space."),
        WhyReason::Fenced => (
            "fenced",
            "Data of the partition is damaged, or a write of it failed: see pinion doctor.",
        ),
        WhyReason::AllInFlight => ("all_in_flight", "Consumers have all there is."),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_reason_has_a_word_of_its_own() {
        let words: BTreeSet<&str> = WhyReason::ALL.iter().map(|one| words(*one).0).collect();
        assert_eq!(words.len(), WhyReason::ALL.len());
        assert!(!words.contains("delivering"));
    }
}
