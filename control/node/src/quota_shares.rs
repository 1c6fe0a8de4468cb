//! Divides quotas among cores by what was asked of them: what cores report and
//! what the metadata allows in, a [`QuotaTable`] out.
//!
//! Owned by the control thread; a pure state machine. A rate is divided among the
//! cores of all nodes in proportion to what was asked of each in its last report;
//! none gets less than a quarter of an even share, so that a core of which nothing
//! was asked takes the first requests. So for as long as a report is old, at most
//! a quarter more than the rate is let in, and a burst.

use std::sync::Arc;

use pinion_types::FixedMap;

use crate::access::TenantId;
use crate::quota::{
    ConnectionQuota, CoreReport, QuotaTable, RATE_MAX, RateShares, StorageQuota, TenantQuota,
    TenantUse,
};

/// What the metadata allows a tenant that has a quota. 0 is no quota.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    /// Records a second.
    pub publish_rate: u64,
    /// Connections at a time.
    pub connections: u64,
    /// Bytes that durable resources keep.
    pub storage_bytes: u64,
    /// Records a second of namespaces that have a quota of their own.
    pub namespaces: Vec<(Box<str>, u64)>,
}

impl Allowance {
    fn is_none(&self) -> bool {
        let Self {
            publish_rate,
            connections,
            storage_bytes,
            namespaces,
        } = self;
        *publish_rate == 0
            && *connections == 0
            && *storage_bytes == 0
            && namespaces.iter().all(|(_, rate)| *rate == 0)
    }
}

#[derive(Debug, Default)]
struct Tenant {
    allowance: Allowance,
    /// By core: what it reported last.
    cores: Box<[TenantUse]>,
    /// What other nodes use, added up.
    elsewhere: TenantUse,
}

/// The quotas of a node.
#[derive(Debug)]
pub struct QuotaShares {
    cores: usize,
    tenants: FixedMap<TenantId, Tenant>,
    /// Data cores of other nodes that are up.
    cores_elsewhere: u64,
    revision: u64,
    table: Arc<QuotaTable>,
    changed: bool,
}

impl QuotaShares {
    /// Of a node with that many data cores; no tenant has a quota yet.
    ///
    /// # Panics
    /// With no data core.
    #[must_use]
    pub fn new(data_cores: u16) -> Self {
        assert!(data_cores > 0, "a node has a data core");
        Self {
            cores: usize::from(data_cores),
            tenants: FixedMap::default(),
            cores_elsewhere: 0,
            revision: 0,
            table: Arc::default(),
            changed: false,
        }
    }

    /// What a tenant is allowed from now on; [`Allowance::default`] for one without
    /// quotas, or that is gone.
    pub fn handle_allowance(&mut self, tenant: TenantId, allowance: Allowance) {
        let known = self.tenants.get(&tenant).map(|known| &known.allowance);
        if known == Some(&allowance) || (known.is_none() && allowance.is_none()) {
            return;
        }
        self.changed = true;
        // Also when only numbers change: this is rare.
        self.revision += 1;
        if allowance.is_none() {
            self.tenants.remove(&tenant);
            return;
        }
        let cores = self.cores;
        let known = self.tenants.entry(tenant).or_insert_with(|| Tenant {
            cores: vec![TenantUse::default(); cores].into(),
            ..Tenant::default()
        });
        known.allowance = allowance;
    }

    /// A core says what is used. What it does not name stays as it was.
    ///
    /// # Panics
    /// With a core that this node has not.
    pub fn handle_report(&mut self, report: CoreReport) {
        let at = usize::from(report.core.0);
        assert!(at < self.cores, "no core {at} of {}", self.cores);
        for used in report.tenants {
            // It may have lost its quotas meanwhile.
            if let Some(tenant) = self.tenants.get_mut(&used.tenant) {
                tenant.cores[at] = used;
                self.changed = true;
            }
        }
    }

    /// What other nodes use, added up, by their last beats; and how many data cores
    /// they have. Tenants that are not named use nothing there.
    pub fn handle_elsewhere(&mut self, cores: u64, used: Vec<TenantUse>) {
        self.changed = true;
        self.cores_elsewhere = cores;
        for tenant in self.tenants.values_mut() {
            tenant.elsewhere = TenantUse::default();
        }
        for used in used {
            if let Some(tenant) = self.tenants.get_mut(&used.tenant) {
                tenant.elsewhere = used;
            }
        }
    }

    /// What this node uses, for the other nodes; by tenant.
    #[must_use]
    pub fn used(&self) -> Vec<TenantUse> {
        let mut all: Vec<TenantUse> = self.tenants.iter().map(|(id, one)| one.used(*id)).collect();
        all.sort_unstable_by_key(|one| one.tenant);
        all
    }

    /// The table for every core, when it differs from the last one. Ask every
    /// [`REPORT_EVERY`](crate::quota::REPORT_EVERY), and after each allowance.
    pub fn poll_table(&mut self) -> Option<Arc<QuotaTable>> {
        if !core::mem::take(&mut self.changed) {
            return None;
        }
        let all_cores = self.cores as u64 + self.cores_elsewhere;
        let tenants = self.tenants.iter();
        let table = QuotaTable {
            revision: self.revision,
            tenants: tenants
                .map(|(id, one)| (*id, one.quota(all_cores)))
                .collect(),
        };
        if table == *self.table {
            return None;
        }
        self.table = Arc::new(table);
        Some(Arc::clone(&self.table))
    }
}

impl Tenant {
    fn quota(&self, all_cores: u64) -> TenantQuota {
        let Allowance {
            publish_rate,
            connections,
            storage_bytes,
            namespaces,
        } = &self.allowance;
        let set = |limit: u64| (limit > 0).then_some(limit);
        let own = namespaces.iter().filter(|(_, rate)| *rate > 0);
        TenantQuota {
            publish: set(*publish_rate)
                .map(|limit| self.divide(limit, all_cores, |used| used.asked)),
            namespaces: own
                .map(|(name, limit)| {
                    let shares = self.divide(*limit, all_cores, |used| used.asked_in(name));
                    (name.clone(), shares)
                })
                .collect(),
            connections: set(*connections).map(|limit| ConnectionQuota {
                limit,
                cores: self.cores.iter().map(|used| used.connections).collect(),
                elsewhere: self.elsewhere.connections,
            }),
            storage: set(*storage_bytes).map(|limit| StorageQuota {
                limit,
                over: self.stored() >= limit,
            }),
        }
    }

    /// What each core of this node may let in of a rate.
    fn divide(&self, limit: u64, all_cores: u64, asked: impl Fn(&TenantUse) -> u64) -> RateShares {
        let rate = 1000 * limit.min(RATE_MAX);
        let even = rate / all_cores;
        let all = self.cores.iter().chain([&self.elsewhere]);
        let sum: u128 = all.map(|used| u128::from(asked(used))).sum();
        let share = |used: &TenantUse| match sum {
            0 => even,
            _ => {
                let part = u128::from(rate) * u128::from(asked(used)) / sum;
                u64::try_from(part).expect("a part of it").max(even / 4)
            }
        };
        RateShares {
            limit,
            cores: self.cores.iter().map(|used| share(used).max(1)).collect(),
        }
    }

    /// Bytes kept on all nodes.
    fn stored(&self) -> u64 {
        let all = self.cores.iter().chain([&self.elsewhere]);
        all.fold(0, |sum, used| sum.saturating_add(used.stored))
    }

    /// What all cores of this node use.
    fn used(&self, tenant: TenantId) -> TenantUse {
        let mut sum = TenantUse {
            tenant,
            ..TenantUse::default()
        };
        for used in &self.cores {
            sum.connections += used.connections;
            sum.asked += used.asked;
            sum.stored += used.stored;
            for (name, asked) in &used.namespaces {
                match sum.namespaces.iter_mut().find(|(known, _)| known == name) {
                    Some((_, all)) => *all += asked,
                    None => sum.namespaces.push((name.clone(), *asked)),
                }
            }
        }
        sum
    }
}

impl TenantUse {
    fn asked_in(&self, namespace: &str) -> u64 {
        let named = self
            .namespaces
            .iter()
            .find(|(name, _)| &**name == namespace);
        named.map_or(0, |(_, asked)| *asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pinion_types::CoreId;

    const TENANT: TenantId = TenantId(7);

    fn used(asked: u64) -> TenantUse {
        TenantUse {
            tenant: TENANT,
            asked,
            ..TenantUse::default()
        }
    }

    fn report(shares: &mut QuotaShares, core: u16, used: TenantUse) {
        shares.handle_report(CoreReport {
            core: CoreId(core),
            tenants: vec![used],
        });
    }

    fn rate(shares: &mut QuotaShares) -> Vec<u64> {
        let table = shares.poll_table().expect("a table");
        let publish = table.tenants[&TENANT].publish.as_ref();
        publish.expect("a rate").cores.to_vec()
    }

    fn of_rate(publish_rate: u64) -> Allowance {
        Allowance {
            publish_rate,
            ..Allowance::default()
        }
    }

    #[test]
    fn a_rate_goes_where_it_is_asked_for_and_nobody_is_left_without() {
        let mut shares = QuotaShares::new(4);
        shares.handle_allowance(TENANT, of_rate(100));
        assert_eq!(rate(&mut shares), [25_000; 4]);
        report(&mut shares, 1, used(30));
        assert_eq!(rate(&mut shares), [6_250, 100_000, 6_250, 6_250]);
        report(&mut shares, 2, used(10));
        assert_eq!(rate(&mut shares), [6_250, 75_000, 25_000, 6_250]);
        // The other node's cores have their part of it.
        shares.handle_elsewhere(4, vec![used(40)]);
        assert_eq!(rate(&mut shares), [3_125, 37_500, 12_500, 3_125]);
        report(&mut shares, 1, used(0));
        report(&mut shares, 2, used(0));
        shares.handle_elsewhere(4, Vec::new());
        assert_eq!(rate(&mut shares), [12_500; 4]);
        assert_eq!(shares.poll_table(), None, "nothing changed");
    }

    #[test]
    fn whatever_is_asked_no_more_than_a_quarter_beyond_the_rate_is_given_out() {
        let mut shares = QuotaShares::new(3);
        for limit in [1, 7, 1000, u64::MAX] {
            shares.handle_allowance(TENANT, of_rate(limit));
            for asked in [[0, 0, 1], [1, 1, 1], [u64::MAX / 4, 0, 1], [5, 0, 0]] {
                for (core, asked) in (0..).zip(asked) {
                    report(&mut shares, core, used(asked));
                }
                let given: u64 = rate(&mut shares).iter().sum();
                let whole = 1000 * limit.min(RATE_MAX);
                assert!(given <= whole + whole / 4 + 3, "{given} of {whole}");
                assert!(given + 3 >= whole, "{given} of {whole}");
            }
        }
    }

    /// What the cores of three nodes of two cores each may let in together, when they were
    /// asked for this and each node has heard `heard` of the others.
    fn over_nodes(limit: u64, asked: [[u64; 2]; 3], heard: bool) -> u64 {
        let mut nodes = [(); 3].map(|()| QuotaShares::new(2));
        for (shares, asked) in nodes.iter_mut().zip(asked) {
            shares.handle_allowance(TENANT, of_rate(limit));
            report(shares, 0, used(asked[0]));
            report(shares, 1, used(asked[1]));
        }
        let said: Vec<u64> = nodes.iter().map(|one| one.used()[0].asked).collect();
        let given = nodes.iter_mut().enumerate().map(|(at, shares)| {
            let others = said.iter().enumerate().filter(|(other, _)| *other != at);
            let asked = others.map(|(_, asked)| asked).sum();
            let elsewhere = if heard { vec![used(asked)] } else { Vec::new() };
            shares.handle_elsewhere(4, elsewhere);
            rate(shares).iter().sum::<u64>()
        });
        given.sum()
    }

    #[test]
    fn nodes_that_hear_each_other_give_out_no_more_than_a_quarter_beyond_the_rate() {
        for limit in [1, 7, 1000, RATE_MAX] {
            let whole = 1000 * limit;
            for asked in [
                [[0, 0], [0, 0], [0, 0]],
                [[9, 0], [0, 0], [0, 0]],
                [[5, 5], [5, 5], [5, 5]],
                [[1, 90], [7, 0], [0, 400]],
            ] {
                let given = over_nodes(limit, asked, true);
                assert!(
                    given <= whole + whole / 4 + 6,
                    "{given} of {whole}: {asked:?}"
                );
                assert!(given + 6 >= whole, "{given} of {whole}: {asked:?}");
            }
            // Before they have heard, each takes what it is asked for all that there is.
            let apart = over_nodes(limit, [[5, 5], [5, 5], [5, 5]], false);
            assert!(apart <= 3 * whole, "{apart} of {whole}");
        }
    }

    #[test]
    fn use_adds_up_over_cores_and_nodes() {
        let mut shares = QuotaShares::new(2);
        let allowance = Allowance {
            connections: 5,
            storage_bytes: 100,
            namespaces: vec![("a".into(), 10), ("b".into(), 0)],
            ..Allowance::default()
        };
        shares.handle_allowance(TENANT, allowance.clone());
        let one = TenantUse {
            connections: 2,
            stored: 40,
            namespaces: vec![("a".into(), 4)],
            ..used(0)
        };
        report(&mut shares, 0, one.clone());
        let table = shares.poll_table().expect("a table");
        let quota = &table.tenants[&TENANT];
        let connections = quota.connections.as_ref().expect("a quota");
        assert_eq!(
            (&*connections.cores, connections.elsewhere),
            (&[2, 0][..], 0)
        );
        assert_eq!(quota.publish, None);
        assert_eq!(quota.namespaces.len(), 1, "b has none");
        assert!(!quota.storage.expect("a quota").over);
        report(&mut shares, 1, one.clone());
        shares.handle_elsewhere(2, vec![one]);
        let table = shares.poll_table().expect("a table");
        let quota = &table.tenants[&TENANT];
        let connections = quota.connections.as_ref().expect("a quota");
        assert_eq!(
            (&*connections.cores, connections.elsewhere),
            (&[2, 2][..], 2)
        );
        assert!(quota.storage.expect("a quota").over);
        let sum = TenantUse {
            connections: 4,
            stored: 80,
            namespaces: vec![("a".into(), 8)],
            ..used(0)
        };
        assert_eq!(shares.used(), [sum]);

        // The same again is no news; no quota is none.
        shares.handle_allowance(TENANT, allowance);
        assert_eq!(shares.poll_table(), None);
        shares.handle_allowance(TENANT, Allowance::default());
        let table = shares.poll_table().expect("a table");
        assert!(table.tenants.is_empty());
        report(&mut shares, 0, used(9));
        assert_eq!(shares.poll_table(), None);
    }
}
