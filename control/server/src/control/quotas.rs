//! Quotas of tenants: what the metadata allows, divided among the cores by what they
//! report.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use pinion_metadata::{Body, Change, Metadata, Object, ObjectKey, TenantNumber};
use pinion_node::access::TenantId;
use pinion_node::quota::{CoreReport, QuotaTable, REPORT_EVERY, TenantUse};
use pinion_node::quota_shares::{Allowance, QuotaShares};
use pinion_plane::UseRow;

/// What is allowed to one tenant.
#[derive(Debug, Default)]
struct Allowed {
    number: Option<TenantNumber>,
    publish_rate: u64,
    connections: u64,
    storage_bytes: u64,
    /// Rates of namespaces that have one.
    namespaces: BTreeMap<Box<str>, u64>,
}

/// The quotas of this node, kept to the metadata.
#[derive(Debug)]
pub(super) struct Quotas {
    shares: QuotaShares,
    tenants: BTreeMap<Box<str>, Allowed>,
    /// When the cores get a table, if it is another.
    due: Option<Instant>,
    /// A core has said what is used since the others were told, or a tenant's quotas are
    /// others.
    is_reported: bool,
    /// What was told last of the other nodes: data cores, and what is used.
    elsewhere: (u64, Vec<TenantUse>),
    /// The shares have still to go by that.
    is_stale: bool,
}

/// What one tenant uses, as nodes tell each other.
fn rows(used: TenantUse) -> impl Iterator<Item = UseRow> {
    let tenant = TenantNumber(used.tenant.0);
    let whole = UseRow {
        tenant,
        namespace: Box::default(),
        asked: used.asked,
        connections: used.connections,
        stored: used.stored,
    };
    let namespaces = used.namespaces.into_iter();
    let namespaces = namespaces.map(move |(namespace, asked)| UseRow {
        tenant,
        namespace,
        asked,
        ..UseRow::default()
    });
    std::iter::once(whole).chain(namespaces)
}

impl Quotas {
    /// Of a node with that many data cores, at least one.
    pub(super) fn new(data_cores: u16) -> Self {
        Self {
            shares: QuotaShares::new(data_cores),
            tenants: BTreeMap::new(),
            due: None,
            is_reported: false,
            elsewhere: (0, Vec::new()),
            is_stale: false,
        }
    }

    /// Takes in all of the metadata, in place of what was.
    pub(super) fn read(&mut self, now: Instant, metadata: &Metadata) {
        for gone in std::mem::take(&mut self.tenants).into_values() {
            if let Some(number) = gone.number {
                self.shares
                    .handle_allowance(TenantId(number.0), Allowance::default());
            }
        }
        for object in metadata.objects() {
            if let Some(tenant) = self.note(&object.meta.key, Some(object)) {
                self.allow(now, &tenant);
            }
        }
    }

    /// Takes in what has changed.
    pub(super) fn take(&mut self, now: Instant, changes: &[Change]) {
        for change in changes {
            if let Some(tenant) = self.note(&change.key, change.object.as_deref()) {
                self.allow(now, &tenant);
                if change.object.is_none() && change.key == ObjectKey::tenant(&tenant) {
                    self.tenants.remove(&tenant);
                }
            }
        }
    }

    /// Notes what an object says of quotas; gives the tenant that it is about.
    fn note(&mut self, key: &ObjectKey, object: Option<&Object>) -> Option<Box<str>> {
        match key {
            ObjectKey::Tenant(name) => {
                let allowed = self.tenants.entry(name.clone()).or_default();
                let body = object.map(|object| &object.body);
                if let Some(Body::Tenant(tenant)) = body {
                    allowed.number = Some(tenant.number);
                    allowed.publish_rate = tenant.quotas.max_publish_rate;
                    allowed.connections = tenant.quotas.max_connections;
                    allowed.storage_bytes = tenant.quotas.max_storage_bytes;
                } else {
                    (allowed.publish_rate, allowed.connections) = (0, 0);
                    allowed.storage_bytes = 0;
                }
                Some(name.clone())
            }
            ObjectKey::Namespace { tenant, name } => {
                let allowed = self.tenants.entry(tenant.clone()).or_default();
                let rate = match object.map(|object| &object.body) {
                    Some(Body::Namespace(namespace)) => namespace.quotas.max_publish_rate,
                    _ => 0,
                };
                if rate == 0 {
                    allowed.namespaces.remove(name)?;
                } else {
                    allowed.namespaces.insert(name.clone(), rate);
                }
                Some(tenant.clone())
            }
            _ => None,
        }
    }

    fn allow(&mut self, now: Instant, tenant: &str) {
        let Some(allowed) = self.tenants.get(tenant) else {
            return;
        };
        let Some(number) = allowed.number else {
            return;
        };
        let namespaces = allowed.namespaces.iter();
        let allowance = Allowance {
            publish_rate: allowed.publish_rate,
            connections: allowed.connections,
            storage_bytes: allowed.storage_bytes,
            namespaces: namespaces
                .map(|(name, rate)| (name.clone(), *rate))
                .collect(),
        };
        self.shares.handle_allowance(TenantId(number.0), allowance);
        // What is used of a quota elsewhere may be told before the quota is.
        self.is_stale = true;
        self.due = Some(now);
        self.is_reported = true;
    }

    /// A core says what is used.
    pub(super) fn report(&mut self, now: Instant, report: CoreReport) {
        self.shares.handle_report(report);
        self.is_reported = true;
        self.due.get_or_insert(now + REPORT_EVERY);
    }

    /// When [`Quotas::poll`] may have something.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// What the other nodes use, and how many data cores they have.
    pub(super) fn elsewhere(&mut self, now: Instant, cores: u64, used: Vec<UseRow>) {
        let mut tenants: BTreeMap<TenantId, TenantUse> = BTreeMap::new();
        for row in used {
            let id = TenantId(row.tenant.0);
            let tenant = tenants.entry(id).or_insert_with(|| TenantUse {
                tenant: id,
                ..TenantUse::default()
            });
            if row.namespace.is_empty() {
                tenant.asked = row.asked;
                tenant.connections = row.connections;
                tenant.stored = row.stored;
            } else {
                tenant.namespaces.push((row.namespace, row.asked));
            }
        }
        self.elsewhere = (cores, tenants.into_values().collect());
        self.is_stale = true;
        self.due = Some(now);
    }

    /// What is used here, when it may be otherwise: for the other nodes.
    pub(super) fn poll_used(&mut self) -> Option<Vec<UseRow>> {
        std::mem::take(&mut self.is_reported).then(|| {
            let used = self.shares.used();
            used.into_iter().flat_map(rows).collect()
        })
    }

    /// A table that the cores have not.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Arc<QuotaTable>> {
        self.due.take_if(|due| *due <= now)?;
        if std::mem::take(&mut self.is_stale) {
            let (cores, used) = &self.elsewhere;
            self.shares.handle_elsewhere(*cores, used.clone());
        }
        self.shares.poll_table()
    }
}
