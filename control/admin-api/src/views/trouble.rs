//! What is wrong, by reason: for who asks why nothing goes on.
//!
//! What the node knows by itself is judged by pure functions. Queues that have
//! messages and hand none out are asked why, a bounded number of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use pinion_commitlog::LogState;
use pinion_metadata::Object;
use pinion_node::views::{PartitionFacts, Question, SubscriptionFacts, View};
use pinion_types::{CoreId, PartitionId, ResourceId, ResourceKind};
use serde::Serialize;
use tokio::sync::Mutex;
use utoipa::ToSchema;

use super::ask::{self, Seat};
use super::cluster::{BrokerRow, brokers};
use super::sums::{Pace, QueueSum};
use super::{At, Condition, Gathered, Named, Pick, queues, resource, sums};
use crate::Api;
use crate::access::{Reach, Who};
use crate::error::Failure;
use crate::observer::Snapshot;
use crate::seen::{Parts, Sign};

/// Issues of one answer. Further ones are counted.
pub(crate) const ISSUES_MAX: usize = 200;

/// Issues that are kept for all who ask.
const KEPT_MAX: usize = 10_000;

/// Resources that are judged before whoever else runs on the control thread has its turn.
const JUDGED_AT_ONCE: usize = 1_024;

/// Of a resource: the word for the disk being full.
const DISK_FULL: &str = "read_only";

/// Partitions of queues that are asked why for one answer.
const ASKED_MAX: usize = 32;

/// Pages of subscriptions that are looked through on one core for one answer.
const PAGES_MAX: usize = 16;

/// Records behind from which on a subscription without credit is slow: what a consumer that
/// works in batches has open is far less.
pub(crate) const SLOW_RECORDS: u64 = 10_000;

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Severity {
    /// Somebody must act.
    Bad,
    /// Somebody should look.
    Warn,
    /// Worth knowing.
    Info,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Issue {
    /// A stable word.
    pub(crate) code: &'static str,
    pub(crate) severity: Severity,
    /// In a sentence.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) advice: &'static str,
    /// `stream`, `queue` or `cache`, if it is about one.
    pub(crate) kind: Option<&'static str>,
    pub(crate) realm: Option<String>,
    pub(crate) area: Option<String>,
    pub(crate) resource: Option<String>,
    /// The partition, if it is about one.
    pub(crate) family: Option<u16>,
    /// How many there are of what the message speaks of; 0 where nothing is counted.
    pub(crate) count: u64,
}

impl Issue {
    fn new(
        code: &'static str,
        severity: Severity,
        message: impl Into<String>,
        advice: &'static str,
    ) -> Self {
        Self {
            code,
            severity,
            message: message.into(),
            advice,
            kind: None,
            realm: None,
            area: None,
            resource: None,
            family: None,
            count: 0,
        }
    }

    fn about(mut self, kind: ResourceKind, object: &Object) -> Self {
        let named = Named::of(object);
        self.kind = Some(kind.scheme());
        self.realm = Some(named.realm);
        self.area = Some(named.area);
        self.resource = Some(named.resource);
        self
    }

    const fn in_partition(mut self, family: u16) -> Self {
        self.family = Some(family);
        self
    }

    const fn counting(mut self, count: u64) -> Self {
        self.count = count;
        self
    }
}

/// What is wrong, worst first.
pub(crate) struct Trouble {
    /// At most [`ISSUES_MAX`].
    pub(crate) issues: Vec<Issue>,
    pub(crate) total: usize,
    pub(crate) as_of: At,
}

/// What was found at the last look at the cores: everybody's.
#[derive(Debug, Default)]
pub(crate) struct Found(Mutex<Option<Kept>>);

#[derive(Clone, Debug)]
struct Kept {
    snapshot: Arc<Snapshot>,
    issues: Arc<Vec<Issue>>,
}

impl Found {
    /// Whoever asks within the same second, or while it is gathered, is told the same.
    async fn issues(&self, api: &Api, all: &Gathered) -> Result<Arc<Vec<Issue>>, Failure> {
        let mut kept = self.0.lock().await;
        if let Some(kept) = &*kept
            && Arc::ptr_eq(&kept.snapshot, &all.snapshot)
        {
            return Ok(kept.issues.clone());
        }
        let issues = Arc::new(gather(api, all).await?);
        *kept = Some(Kept {
            snapshot: all.snapshot.clone(),
            issues: issues.clone(),
        });
        Ok(issues)
    }
}

/// What is wrong, among what somebody may see: of one tenant, or of all.
///
/// # Errors
/// They may see nothing; the node has no metadata yet.
pub(crate) async fn all(api: &Api, who: &Who, realm: Option<&str>) -> Result<Trouble, Failure> {
    let all = Gathered::of(api, who).await?;
    let found = api.trouble.issues(api, &all).await?;
    let issues = found
        .iter()
        .filter(|issue| is_for(issue, &all.reach, realm));
    let total = issues.clone().count();
    Ok(Trouble {
        issues: issues.take(ISSUES_MAX).cloned().collect(),
        total,
        as_of: all.as_of(),
    })
}

/// Whether somebody is told of it. What is the node's is for who sees all, and says there
/// what otherwise is said of each resource.
fn is_for(issue: &Issue, reach: &Reach, realm: Option<&str>) -> bool {
    match &issue.realm {
        None => *reach == Reach::All && realm.is_none(),
        Some(of) => {
            let told_once = issue.code == DISK_FULL && *reach == Reach::All;
            reach.covers(of) && realm.is_none_or(|realm| realm == of) && !told_once
        }
    }
}

/// Everything, worst first; at most [`KEPT_MAX`].
async fn gather(api: &Api, all: &Gathered) -> Result<Vec<Issue>, Failure> {
    let status = api.plane.status().await?;
    let named = |name: pinion_plane::PeerName| name.to_string();
    let silent: Vec<String> = status
        .peers
        .iter()
        .filter(|peer| !peer.active)
        .filter_map(|peer| peer.name.clone().map(named))
        .collect();
    let brokers = brokers(api).await?;
    let mut issues = of_cluster(status.leader.is_some(), &silent, &brokers);
    issues.extend(of_node(&all.snapshot));
    issues.extend(of_resources(all).await);
    issues.extend(slow(api, all).await?);
    issues.extend(undelivered(api, all).await);
    issues.sort_by(|a, b| a.severity.cmp(&b.severity).then(b.count.cmp(&a.count)));
    issues.truncate(KEPT_MAX);
    Ok(issues)
}

/// Everybody's resources of a kind with any of these signs, in the order of their names.
fn with<'a>(all: &'a Gathered, kind: ResourceKind, any: &[Sign]) -> impl Iterator<Item = Used<'a>> {
    // In order. Most of many are well, and nobody looks up what those are called.
    let ids: Vec<ResourceId> = all.snapshot.seen.with(any).map(|(id, _)| id).collect();
    let picked = all.catalog.of(kind, &Reach::All, Pick::default());
    let places = if ids.is_empty() { 0 } else { picked.len() };
    (0..places).filter_map(move |at| {
        let object = picked.get(at)?;
        let id = resource(object).ok()?.id;
        ids.binary_search(&id).ok()?;
        let parts = all.snapshot.partitions(id);
        Some(Used { object, id, parts })
    })
}

/// A resource that somebody has used.
struct Used<'a> {
    object: &'a Object,
    id: ResourceId,
    parts: Parts<'a>,
}

/// What is wrong with the group and the brokers.
fn of_cluster(has_leader: bool, silent: &[String], brokers: &[BrokerRow]) -> Vec<Issue> {
    let mut issues = Vec::new();
    if !has_leader {
        issues.push(Issue::new(
            "no_leader",
            Severity::Bad,
            "Nobody leads the control plane: nothing can be declared or changed.",
            "Start the members that are down: more than half of the voters must speak to each other.",
        ));
    }
    for name in silent {
        issues.push(Issue::new(
            "member_silent",
            Severity::Warn,
            format!("The member {name} of the control plane does not answer."),
            "Look whether that node runs and whether its port can be reached.",
        ));
    }
    for broker in brokers.iter().filter(|broker| broker.status == "down") {
        let shards = broker.shards_led;
        issues.push(
            Issue::new(
                "broker_down",
                Severity::Bad,
                format!(
                    "The broker {} is down; it leads {shards} shards.",
                    broker.name
                ),
                "Start it again, or remove it when it is gone for good.",
            )
            .counting(shards),
        );
    }
    issues
}

/// What is wrong with the cores of this node and their logs.
fn of_node(snapshot: &Snapshot) -> Vec<Issue> {
    let mut issues = Vec::new();
    for core in snapshot.missing.iter() {
        issues.push(Issue::new(
            "core_silent",
            Severity::Bad,
            format!("Data core {} does not answer.", core.0),
            "Look at the log of the node for stalls; start it again if it stays so.",
        ));
    }
    for core in snapshot.cores.iter() {
        for log in &core.logs {
            let number = log.log.0;
            match log.stats.state {
                LogState::ReadOnly => issues.push(Issue::new(
                    "disk_read_only",
                    Severity::Bad,
                    format!("Log {number} takes only what frees space: the disk is full."),
                    "Free space on the volume of the data directory, or shorten retention.",
                )),
                LogState::Failed => issues.push(Issue::new(
                    "log_failed",
                    Severity::Bad,
                    format!("A write to log {number} failed: its partitions are closed."),
                    "Look at the disk, then start the node again; see pinion doctor.",
                )),
                LogState::Running | LogState::Sealed => {}
            }
        }
        if core.barred > 0 {
            issues.push(
                Issue::new(
                    "data_of_before",
                    Severity::Warn,
                    format!(
                        "{} partitions of core {} stay closed: a log has records of before under their number.",
                        core.barred, core.core.0
                    ),
                    "Start the node again: they are opened with what the log has.",
                )
                .counting(core.barred),
            );
        }
    }
    issues
}

/// What is wrong with resources, by what their partitions say.
async fn of_resources(all: &Gathered) -> Vec<Issue> {
    let mut issues = Vec::new();
    for kind in [
        ResourceKind::Stream,
        ResourceKind::Queue,
        ResourceKind::Cache,
    ] {
        let any = [Sign::Fenced, Sign::ReadOnly, Sign::Dead];
        for (at, one) in with(all, kind, &any).enumerate() {
            if at % JUDGED_AT_ONCE == JUDGED_AT_ONCE - 1 {
                tokio::task::yield_now().await;
            }
            let are = |condition| {
                let of = one.parts.iter();
                of.filter(|facts| sums::condition_of(facts) == condition)
                    .count() as u64
            };
            let fenced = are(Condition::Fenced);
            if fenced > 0 {
                issues.push(
                    Issue::new(
                        "partition_fenced",
                        Severity::Bad,
                        format!(
                            "{fenced} partitions are closed for damaged data or a failed write."
                        ),
                        "See pinion doctor; start the node again when the disk is well.",
                    )
                    .about(kind, one.object)
                    .counting(fenced),
                );
            }
            let full = are(Condition::ReadOnly);
            if full > 0 {
                issues.push(
                    Issue::new(
                        DISK_FULL,
                        Severity::Bad,
                        format!("{full} partitions take nothing: the disk is full."),
                        "Whoever runs the node has to free space.",
                    )
                    .about(kind, one.object)
                    .counting(full),
                );
            }
            if kind == ResourceKind::Queue {
                issues.extend(letters(all, &one));
            }
        }
    }
    issues
}

/// That there are dead letters, and whether more come.
fn letters(all: &Gathered, one: &Used<'_>) -> Option<Issue> {
    let queues = one.parts.iter();
    let dead = queues.filter_map(|facts| Some(facts.queue()?.groups.dead));
    let dead: u64 = dead.sum();
    // Most of many have none, and cost no more than that.
    if dead == 0 {
        return None;
    }
    let pace: Pace<QueueSum> = Pace::of(all.snapshot.told(), one.id, |_| true);
    let (severity, more) = if pace.rate(|sum| sum.died) > 0.0 {
        (Severity::Warn, ", and more are coming")
    } else {
        (Severity::Info, "")
    };
    let issue = Issue::new(
        "dead_letters",
        severity,
        format!("There are {dead} dead letters{more}."),
        "Look at what their consumers said, then replay or delete them.",
    );
    Some(issue.about(ResourceKind::Queue, one.object).counting(dead))
}

/// Subscriptions that are far behind and grant nothing.
async fn slow(api: &Api, all: &Gathered) -> Result<Vec<Issue>, Failure> {
    let mut slow: BTreeMap<ResourceId, (u64, u64)> = BTreeMap::new();
    let mut note = |one: &SubscriptionFacts| {
        let grants_nothing = one.credit_records.is_none_or(|credit| credit == 0);
        if one.behind >= SLOW_RECORDS && grants_nothing {
            let (count, behind) = slow.entry(one.resource).or_default();
            *count += 1;
            *behind = (*behind).max(one.behind);
        }
    };
    for core in (0..api.observer.cores().cores()).map(CoreId) {
        let mut after = None;
        for _ in 0..PAGES_MAX {
            let asked = Question::Subscriptions {
                after,
                resource: None,
            };
            let page = match ask::question(api, core, asked).await {
                Ok(View::Subscriptions(page)) => page,
                Ok(_) => return Err(ask::strange()),
                // That a core does not answer is told already.
                Err(_) => break,
            };
            page.items.iter().for_each(&mut note);
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
    }
    if slow.is_empty() {
        return Ok(Vec::new());
    }
    let told = with(all, ResourceKind::Stream, &[Sign::Behind]).filter_map(|one| {
        let (count, behind) = slow.get(&one.id)?;
        let issue = Issue::new(
            "slow_subscriber",
            Severity::Warn,
            format!(
                "{count} subscriptions grant no credit; the slowest is {behind} records behind."
            ),
            "Look at the clients of these sessions: they do not take what they are given.",
        );
        Some(
            issue
                .about(ResourceKind::Stream, one.object)
                .counting(*behind),
        )
    });
    Ok(told.collect())
}

/// Queues that have messages and hand none out, and why.
async fn undelivered(api: &Api, all: &Gathered) -> Vec<Issue> {
    let mut issues = Vec::new();
    let mut asked = 0;
    for one in with(all, ResourceKind::Queue, &[Sign::Ready]) {
        for facts in one.parts.iter() {
            let partition = facts.partition;
            let only = |other: &PartitionFacts| other.partition == partition;
            let pace: Pace<QueueSum> = Pace::of(all.snapshot.told(), one.id, only);
            let waits = pace.now.ready > 0 && pace.rate(|sum| sum.delivered) <= 0.0;
            if !waits || facts.fenced {
                continue;
            }
            if asked == ASKED_MAX {
                return issues;
            }
            asked += 1;
            let seat = Seat {
                id: one.id,
                partition,
                core: facts.core,
            };
            issues.extend(reasons(api, one.object, seat).await);
        }
    }
    issues
}

async fn reasons(api: &Api, object: &Object, seat: Seat) -> Vec<Issue> {
    let PartitionId(family) = seat.partition;
    let Ok(names) = queues::names(api, seat, None).await else {
        return Vec::new();
    };
    let mut issues = Vec::new();
    for group in names {
        // Deleted meanwhile: then there is nothing to say.
        let whys = queues::why_of(api, seat, &group).await.unwrap_or_default();
        for why in whys {
            let severity = match why.code {
                "delivering" | "empty" | "all_in_flight" | "loading" => continue,
                "fenced" | "read_only" => Severity::Bad,
                "delayed" | "backoff" | "rate_limited" => Severity::Info,
                _ => Severity::Warn,
            };
            let of = match group.as_str() {
                "" => String::new(),
                group => format!("Group {group}: "),
            };
            issues.push(
                Issue::new(
                    why.code,
                    severity,
                    format!("{of}{}", why.message),
                    "See …/why of the queue for the message in the way and when it ends.",
                )
                .about(ResourceKind::Queue, object)
                .in_partition(family)
                .counting(why.messages),
            );
        }
    }
    issues
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker(status: &'static str) -> BrokerRow {
        BrokerRow {
            name: "two".into(),
            address: "two:1".into(),
            region: String::new(),
            zone: String::new(),
            status,
            cores: 1,
            shards_led: 3,
            shard_copies: 0,
        }
    }

    #[test]
    fn a_cluster_that_is_well_has_no_issue() {
        assert_eq!(
            of_cluster(true, &[], &[broker("active"), broker("draining")]),
            []
        );
    }

    #[test]
    fn everybody_is_told_of_what_is_theirs() {
        let node = Issue::new("disk_read_only", Severity::Bad, "", "");
        let of = |code| Issue {
            realm: Some("acme".into()),
            ..Issue::new(code, Severity::Bad, "", "")
        };
        let own = Reach::Tenant("acme".into());
        let other = Reach::Tenant("other".into());
        assert!(is_for(&node, &Reach::All, None));
        assert!(!is_for(&node, &Reach::All, Some("acme")) && !is_for(&node, &own, None));
        let fenced = of("partition_fenced");
        assert!(is_for(&fenced, &Reach::All, None) && is_for(&fenced, &own, None));
        assert!(!is_for(&fenced, &other, None) && !is_for(&fenced, &Reach::All, Some("x")));
        // Who sees the logs is told once.
        let full = of(DISK_FULL);
        assert!(is_for(&full, &own, None) && !is_for(&full, &Reach::All, None));
    }

    #[test]
    fn who_leads_nobody_and_who_is_silent_is_told() {
        let issues = of_cluster(false, &["three".to_owned()], &[broker("down")]);
        let told: Vec<_> = issues
            .iter()
            .map(|one| (one.code, one.severity, one.count))
            .collect();
        assert_eq!(
            told,
            [
                ("no_leader", Severity::Bad, 0),
                ("member_silent", Severity::Warn, 0),
                ("broker_down", Severity::Bad, 3)
            ]
        );
        assert!(issues[1].message.contains("three"));
    }
}
