//! Quotas where requests come in: on the core of their connection.

use std::sync::Arc;

use pinion_types::{
    CoreId, ErrorCode, FactId, FixedMap, FixedSet, Monotonic, Refusal, ResourceId, ResourceName,
};
use pinion_wire::message::Request;

use crate::access::TenantId;
use crate::core::Core;
use crate::mail::ControlMail;
use crate::map::Resource;
use crate::quota::{
    Bucket, CoreReport, QuotaTable, REPORT_EVERY, RateShares, TenantQuota, TenantUse,
};

/// Partitions whose bytes are counted at each report, when a tenant has a storage
/// quota; the others follow. More notices sooner that one is used up, and takes
/// more of a turn.
const SWEEP_PARTITIONS: usize = 1024;

/// What a core keeps for the tenants that have quotas.
#[derive(Debug, Default)]
pub(crate) struct Quotas {
    table: Arc<QuotaTable>,
    meters: FixedMap<TenantId, Meter>,
    /// Connections of this core, of every tenant that has one.
    connections: FixedMap<TenantId, u64>,
    /// Tenants with quotas whose use changed since the last report.
    changed: FixedSet<TenantId>,
    report_due: Option<Monotonic>,
    reported: Option<Monotonic>,
    /// Bytes of durable partitions are counted; from which on.
    sweep: Option<Sweep>,
}

#[derive(Debug, Default)]
struct Sweep {
    next: usize,
    bytes: FixedMap<TenantId, u64>,
}

#[derive(Debug, Default)]
struct Meter {
    publish: Option<Metered>,
    namespaces: FixedMap<Box<str>, Metered>,
    stored: u64,
}

#[derive(Debug)]
struct Metered {
    bucket: Bucket,
    /// Since the last report.
    asked: u64,
}

impl Metered {
    fn refusal(&mut self, now: Monotonic) -> Option<Refusal> {
        let wait = self.bucket.wait(now)?;
        let ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        let refusal = exceeded(self.bucket.limit());
        Some(refusal.after_ms(ms.saturating_add(1)))
    }
}

fn exceeded(limit: u64) -> Refusal {
    Refusal::new(ErrorCode::QuotaExceeded).with(FactId::Limit, limit)
}

/// Records a request adds; `None` for one that no quota is about.
pub(crate) const fn records_of(request: &Request<'_>) -> Option<u32> {
    match request {
        Request::Publish(publish) => Some(publish.record_count),
        Request::AppendStage(stage) => Some(stage.record_count),
        Request::QueuePut(put) => Some(put.record_count),
        _ => None,
    }
}

impl Quotas {
    pub(crate) fn next_deadline(&self) -> Option<Monotonic> {
        self.report_due
    }

    /// Whether what is published there is metered.
    pub(crate) fn concern(&self, tenant: TenantId, name: &ResourceName) -> bool {
        self.table.tenants.get(&tenant).is_some_and(|quota| {
            quota.publish.is_some()
                || quota.storage.is_some()
                || quota.namespaces.contains_key(name.namespace())
        })
    }

    /// One more connection of the tenant, if it may have one.
    pub(crate) fn connect(
        &mut self,
        now: Monotonic,
        core: CoreId,
        tenant: TenantId,
    ) -> Result<(), Refusal> {
        let mine = self.connections.get(&tenant).copied().unwrap_or(0);
        let quota = self.table.tenants.get(&tenant);
        if let Some(quota) = quota.and_then(|quota| quota.connections.as_ref()) {
            let others = quota.cores.iter().enumerate();
            let others = others.filter(|(at, _)| *at != usize::from(core.0));
            let others: u64 = others.map(|(_, count)| count).sum();
            let all = others.saturating_add(mine).saturating_add(quota.elsewhere);
            if all >= quota.limit {
                return Err(exceeded(quota.limit));
            }
        }
        self.connections.insert(tenant, mine + 1);
        self.use_changed(now, tenant);
        Ok(())
    }

    pub(crate) fn disconnect(&mut self, now: Monotonic, tenant: TenantId) {
        if let Some(count) = self.connections.get_mut(&tenant) {
            *count -= 1;
            if *count == 0 {
                self.connections.remove(&tenant);
            }
            self.use_changed(now, tenant);
        }
    }

    /// Lets in that many records for a resource, or not.
    fn charge(&mut self, now: Monotonic, of: &Resource, records: u32) -> Result<(), Refusal> {
        let Some(meter) = self.meters.get_mut(&of.tenant) else {
            return Ok(());
        };
        let namespace = meter.namespaces.get_mut(of.name.namespace());
        let mut metered: [Option<&mut Metered>; 2] = [meter.publish.as_mut(), namespace];
        let metered_any = metered.iter().any(Option::is_some);
        let mut refused = None;
        for one in metered.iter_mut().flatten() {
            one.asked += u64::from(records);
            refused = refused.or_else(|| one.refusal(now));
        }
        let storage = self.table.tenants.get(&of.tenant).and_then(|t| t.storage);
        if of.is_durable()
            && let Some(storage) = storage.filter(|storage| storage.over)
        {
            refused = Some(exceeded(storage.limit));
        }
        if refused.is_none() {
            for one in metered.into_iter().flatten() {
                one.bucket.take(records);
            }
        }
        if metered_any {
            self.use_changed(now, of.tenant);
        }
        refused.map_or(Ok(()), Err)
    }

    /// A report follows, no sooner than it may.
    fn use_changed(&mut self, now: Monotonic, tenant: TenantId) {
        if self.meters.contains_key(&tenant) {
            self.changed.insert(tenant);
            self.report_soon(now);
        }
    }

    fn report_soon(&mut self, now: Monotonic) {
        if self.report_due.is_none() {
            let due = self.reported.map_or(now, |last| last + REPORT_EVERY);
            self.report_due = Some(due.max(now));
        }
    }

    /// Takes over a new table. `true` when other tenants or namespaces have quotas
    /// than before.
    fn take_table(&mut self, now: Monotonic, core: CoreId, table: Arc<QuotaTable>) -> bool {
        let other = self.table.revision != table.revision;
        self.meters
            .retain(|tenant, _| table.tenants.contains_key(tenant));
        for (tenant, quota) in &table.tenants {
            if !self.meters.contains_key(tenant) {
                // Nobody was told of it while it had no quota.
                self.changed.insert(*tenant);
                self.report_due.get_or_insert(now);
            }
            let meter = self.meters.entry(*tenant).or_default();
            meter.set(now, core, quota);
        }
        let sweeps = table.tenants.values().any(|quota| quota.storage.is_some());
        self.sweep = sweeps.then(|| self.sweep.take().unwrap_or_default());
        self.table = table;
        if sweeps {
            self.report_soon(now);
        }
        other
    }

    /// What changed since the last report, if anything did.
    fn report(&mut self, now: Monotonic, core: CoreId) -> Option<CoreReport> {
        self.report_due = None;
        self.reported = Some(now);
        let mut tenants = Vec::with_capacity(self.changed.len());
        for tenant in core::mem::take(&mut self.changed) {
            let Some(meter) = self.meters.get_mut(&tenant) else {
                continue;
            };
            let take = |one: &mut Metered| core::mem::take(&mut one.asked);
            let namespaces = meter.namespaces.iter_mut();
            let mut namespaces: Vec<_> = namespaces
                .map(|(name, one)| (name.clone(), take(one)))
                .filter(|(_, asked)| *asked > 0)
                .collect();
            namespaces.sort_unstable();
            let asked = meter.publish.as_mut().map_or(0, take);
            if asked > 0 || !namespaces.is_empty() {
                // That nothing more is asked must be told, too.
                self.changed.insert(tenant);
            }
            tenants.push(TenantUse {
                tenant,
                connections: self.connections.get(&tenant).copied().unwrap_or(0),
                asked,
                namespaces,
                stored: meter.stored,
            });
        }
        if !self.changed.is_empty() || self.sweep.is_some() {
            self.report_due = Some(now + REPORT_EVERY);
        }
        tenants.sort_unstable_by_key(|one| one.tenant);
        (!tenants.is_empty()).then_some(CoreReport { core, tenants })
    }
}

impl Meter {
    fn set(&mut self, now: Monotonic, core: CoreId, quota: &TenantQuota) {
        let share = |rate: &RateShares| {
            let share = rate.cores.get(usize::from(core.0));
            (rate.limit, share.copied().unwrap_or(0))
        };
        let fresh = |(limit, rate)| Metered {
            bucket: Bucket::new(now, limit, rate),
            asked: 0,
        };
        match (&mut self.publish, quota.publish.as_ref().map(share)) {
            (publish, None) => *publish = None,
            (Some(one), Some((limit, rate))) => one.bucket.set_rate(now, limit, rate),
            (publish, Some(rate)) => *publish = Some(fresh(rate)),
        }
        self.namespaces
            .retain(|name, _| quota.namespaces.contains_key(name));
        for (name, rate) in &quota.namespaces {
            let (limit, rate) = share(rate);
            match self.namespaces.get_mut(name) {
                Some(one) => one.bucket.set_rate(now, limit, rate),
                None => {
                    self.namespaces.insert(name.clone(), fresh((limit, rate)));
                }
            }
        }
    }
}

impl Core {
    /// Quotas, or this core's share of them, have changed.
    pub(crate) fn handle_quotas(&mut self, table: Arc<QuotaTable>) {
        let (now, core) = (self.now, self.config.core);
        if !self.quotas.take_table(now, core, table) {
            return;
        }
        for connection in self.connections.iter_mut().flatten() {
            for handle in &mut connection.handles {
                let of = &handle.resource;
                handle.metered = self.quotas.concern(of.tenant, &of.name);
            }
        }
    }

    /// Lets a request about a metered resource in, or not.
    pub(crate) fn charge(
        &mut self,
        resource: &Resource,
        request: &Request<'_>,
    ) -> Result<(), Refusal> {
        let Some(records) = records_of(request) else {
            return Ok(());
        };
        self.quotas.charge(self.now, resource, records)
    }

    /// Says what is used, when it is time.
    pub(crate) fn report_use(&mut self) {
        if self.quotas.report_due.is_none_or(|due| due > self.now) {
            return;
        }
        self.sweep_storage();
        if let Some(report) = self.quotas.report(self.now, self.config.core) {
            self.control
                .push_back(ControlMail::Report(Box::new(report)));
        }
    }

    /// Counts the bytes of some more durable partitions.
    fn sweep_storage(&mut self) {
        let Some(mut sweep) = self.quotas.sweep.take() else {
            return;
        };
        let meters = &self.quotas.meters;
        // What is deleted has its room until it is purged.
        let tenant_of = |id: ResourceId| self.map.kept(id).map(|resource| resource.tenant);
        for (resource, bytes) in self.shard.stored(sweep.next, SWEEP_PARTITIONS) {
            if let Some(tenant) = tenant_of(resource)
                && meters.contains_key(&tenant)
            {
                *sweep.bytes.entry(tenant).or_default() += bytes;
            }
        }
        sweep.next += SWEEP_PARTITIONS;
        if sweep.next >= self.shard.partitions() {
            sweep.next = 0;
            let counted = core::mem::take(&mut sweep.bytes);
            for (tenant, meter) in &mut self.quotas.meters {
                let bytes = counted.get(tenant).copied().unwrap_or(0);
                if meter.stored != bytes {
                    meter.stored = bytes;
                    self.quotas.changed.insert(*tenant);
                }
            }
        }
        self.quotas.sweep = Some(sweep);
    }
}
