//! What asks for somebody on this node: gathered once for each look at the data cores,
//! and remembered from one look to the next.

use std::collections::BTreeMap;
use std::sync::Arc;

use pinion_admin_ui::model::Address;
use pinion_commitlog::LogState;
use pinion_metadata::Body;
use pinion_metadata::broker::BrokerStatus;
use pinion_types::{ErrorCode, ResourceId, ResourceKind, WallMs};
use tokio::sync::Mutex;

use super::data::issues::{self, Finding, Seen, Since, What};
use super::data::lately;
use crate::access::Reach;
use crate::observer::Snapshot;
use crate::seen::{Parts, Sign};
use crate::views::{Pick, catalog};
use crate::{Api, metrics, wall};

/// Resources that are told of at one look. A node on which more are unwell has one reason,
/// which is told before them.
const RESOURCES_MAX: usize = 1_000;

/// One for each node.
#[derive(Debug, Default)]
pub(crate) struct Board(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// With when the numbers were taken that it is made of.
    last: Option<(WallMs, Arc<[Seen]>)>,
    since: Since,
    /// Of queues with dead letters: how many there have been, and when the last one came,
    /// if anybody saw it.
    died: BTreeMap<ResourceId, (u64, Option<u64>)>,
}

impl Board {
    /// What was found, on this node and in what it knows of the cluster.
    pub(crate) async fn seen(&self, api: &Api) -> Arc<[Seen]> {
        let mut state = self.0.lock().await;
        // Pages have their numbers from the same look, so what is told is of one moment.
        let snapshot = api.observer.look().await;
        if let Some((of, seen)) = &state.last
            && *of == snapshot.taken_at
        {
            return Arc::clone(seen);
        }
        let now = wall().0;
        let found = state.gather(api, &snapshot, now).await;
        let seen: Arc<[Seen]> = state.since.look(found, now).into();
        state.last = Some((snapshot.taken_at, Arc::clone(&seen)));
        seen
    }
}

impl State {
    async fn gather(&mut self, api: &Api, snapshot: &Snapshot, now: u64) -> Vec<Finding> {
        let mut found = of_plane(api).await;
        found.extend(of_cores(api, snapshot));
        let space = metrics::host(api).await.space;
        found.extend(space.and_then(|(free, size)| issues::of_disk(size, free)));
        let ends = api.certificate_ends;
        found.extend(ends.and_then(|ends| issues::of_certificate(ends.0, now)));
        found.extend(issues::of_throttling(throttled(snapshot)));
        found.extend(self.of_resources(api, snapshot, now).await);
        found
    }

    async fn of_resources(&mut self, api: &Api, snapshot: &Snapshot, now: u64) -> Vec<Finding> {
        let mut signs: BTreeMap<ResourceId, Signs> = BTreeMap::new();
        let any = [Sign::Fenced, Sign::Dead, Sign::Ready, Sign::Behind];
        for (id, parts) in snapshot.seen.with(&any) {
            let one = Signs::of(parts, now);
            if one.asks() && signs.len() < RESOURCES_MAX {
                signs.insert(id, one);
            }
        }
        self.died
            .retain(|id, _| signs.get(id).is_some_and(|one| one.dead > 0));
        for (id, one) in &mut signs {
            if one.dead == 0 {
                continue;
            }
            let (died, last) = self.died.entry(*id).or_insert((one.died, None));
            if one.died > *died {
                (*died, *last) = (one.died, Some(now));
            }
            one.last_dead_ms = last.map(|last| now.saturating_sub(last));
        }
        if signs.is_empty() {
            return Vec::new();
        }
        let Ok(catalog) = api.shelf.catalog(&api.plane).await else {
            // That the plane does not answer is told already.
            return Vec::new();
        };
        let mut found = Vec::new();
        for kind in [
            ResourceKind::Stream,
            ResourceKind::Queue,
            ResourceKind::Cache,
        ] {
            for object in catalog.of(kind, &Reach::All, Pick::default()).iter() {
                let Body::Resource(resource) = &object.body else {
                    continue;
                };
                let Some(one) = signs.get(&resource.id) else {
                    continue;
                };
                let (tenant, namespace, name) = catalog::address(object);
                let address = Address {
                    tenant: tenant.to_owned(),
                    namespace: namespace.to_owned(),
                    name: name.to_owned(),
                };
                let rate = records_per_second(snapshot, resource.id);
                found.extend(one.findings(kind, &address, rate));
            }
        }
        found
    }
}

/// What there is to say of a resource.
#[derive(Clone, Copy, Debug, Default)]
struct Signs {
    fenced: u32,
    first_fenced: u16,
    dead: u64,
    /// Since the node was started.
    died: u64,
    last_dead_ms: Option<u64>,
    ready: u64,
    oldest_ms: u64,
    /// Records that the slowest reader lacks.
    lag: u64,
}

impl Signs {
    fn of(parts: Parts<'_>, now: u64) -> Self {
        let mut signs = Self::default();
        for facts in parts.iter() {
            if facts.fenced {
                if signs.fenced == 0 {
                    signs.first_fenced = facts.partition.0;
                }
                signs.fenced += 1;
            }
            if let Some(stream) = facts.stream() {
                signs.lag = signs.lag.max(stream.lag_max);
            }
            if let Some(queue) = facts.queue() {
                let groups = &queue.groups;
                signs.dead += groups.dead;
                signs.died += groups.counters.dead;
                signs.ready += groups.ready;
                // A message that is delayed, dead or worked on is old without anybody's fault,
                // and counts as none.
                let age = groups
                    .oldest
                    .map_or(0, |oldest| now.saturating_sub(oldest.0));
                signs.oldest_ms = signs.oldest_ms.max(age);
            }
        }
        signs
    }

    /// Whether it asks for somebody to find out what it is called.
    fn asks(&self) -> bool {
        self.fenced > 0
            || self.dead > 0
            || (self.ready > 0 && self.oldest_ms >= issues::OLDEST_MS)
            || self.lag >= issues::LAG_RECORDS
    }

    fn findings(
        &self,
        kind: ResourceKind,
        address: &Address,
        in_per_s: f64,
    ) -> impl Iterator<Item = Finding> {
        let what = match kind {
            ResourceKind::Stream => What::Stream,
            ResourceKind::Queue => What::Queue,
            ResourceKind::Cache => What::Cache,
        };
        let fenced = (self.fenced > 0).then(|| Finding::Fenced {
            what,
            address: address.clone(),
            partitions: self.fenced,
            first: self.first_fenced.into(),
        });
        [
            fenced,
            issues::of_dead(address, self.dead, self.last_dead_ms),
            issues::of_oldest(address, self.oldest_ms, self.ready),
            issues::of_lag(address, self.lag, in_per_s),
        ]
        .into_iter()
        .flatten()
    }
}

/// Of the group and the brokers.
async fn of_plane(api: &Api) -> Vec<Finding> {
    let mut found = Vec::new();
    let Ok(status) = api.plane.status().await else {
        return vec![Finding::PlaneSilent];
    };
    if status.leader.is_none() {
        found.push(Finding::NoLeader);
    }
    for peer in &status.peers {
        let name = match &peer.name {
            Some(name) => name.to_string(),
            None => peer.member.0.to_string(),
        };
        found.extend(issues::of_member(&name, peer.active, peer.lag));
    }
    let brokers = api.plane.look(|metadata| {
        let unwell = metadata.brokers().filter_map(|(name, broker)| {
            let name = name.to_owned();
            match broker.status() {
                BrokerStatus::Active => None,
                BrokerStatus::Draining => Some(Finding::BrokerDraining { name }),
                BrokerStatus::Down => Some(Finding::BrokerDown { name }),
            }
        });
        unwell.collect::<Vec<_>>()
    });
    found.extend(brokers.await.ok().flatten().unwrap_or_default());
    found
}

/// Of the cores of this node and their logs.
fn of_cores(api: &Api, snapshot: &Snapshot) -> Vec<Finding> {
    let mut found = Vec::new();
    for (core, silent) in (0_u16..).zip(api.observer.silent()) {
        let age = u64::try_from(silent.as_millis()).unwrap_or(u64::MAX);
        found.extend(issues::of_silence(core, Some(age)));
    }
    let history = api.observer.history();
    for (core, samples) in (0_u16..).zip(&history.cores) {
        found.extend(issues::of_busy(core, &lately::busy_permille(samples)));
        found.extend(issues::of_stalls(core, lately::stalls_of_minute(samples)));
    }
    for core in snapshot.cores.iter() {
        for log in &core.logs {
            let number = log.log.0;
            match log.stats.state {
                LogState::ReadOnly => found.push(Finding::ReadOnly { log: number }),
                LogState::Failed => found.push(Finding::LogFailed { log: number }),
                LogState::Running | LogState::Sealed => {}
            }
        }
        if core.barred > 0 {
            found.push(Finding::OldData {
                core: core.core.0,
                partitions: core.barred,
            });
        }
    }
    found
}

/// Requests a second that quotas refused between the last two snapshots.
fn throttled(snapshot: &Snapshot) -> f64 {
    let count = |snapshot: &Snapshot| {
        let code = ErrorCode::QuotaExceeded as u16;
        let of_core = |tally: &pinion_node::stats::Tally| {
            tally
                .by_code()
                .find(|(one, _)| *one == code)
                .map_or(0, |(_, count)| count)
        };
        snapshot
            .cores
            .iter()
            .map(|core| of_core(&core.tally))
            .sum::<u64>()
    };
    let before = snapshot.before.as_deref().map(count);
    before
        .and_then(|before| snapshot.per_second(count(snapshot), before))
        .unwrap_or(0.0)
}

/// Records that came into a stream, a second, between the last two snapshots.
fn records_per_second(snapshot: &Snapshot, id: ResourceId) -> f64 {
    let count = |snapshot: &Snapshot| {
        let parts = snapshot.partitions(id).iter();
        parts
            .filter_map(|facts| Some(facts.stream()?.records_in))
            .sum::<u64>()
    };
    let before = snapshot.before.as_deref().map(count);
    before
        .and_then(|before| snapshot.per_second(count(snapshot), before))
        .unwrap_or(0.0)
}
