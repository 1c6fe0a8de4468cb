//! What tenants and namespaces may use: what cores are told of it, and what they
//! tell of what is used.
//!
//! A quota is one number for the whole cluster; requests come in on many cores
//! that ask nobody. So each core holds a share of a rate, by what was asked of it
//! lately, and counts what it lets in; `quota_meters.rs` is that half,
//! [`quota_shares`](crate::quota_shares) the half that divides. A tenant without a
//! quota costs a request nothing.

use std::time::Duration;

use pinion_types::{CoreId, FixedMap, Monotonic};

use crate::access::TenantId;

/// How often a core says what is used, while that changes. More often divides a
/// rate sooner by what is asked where; less often costs less.
pub const REPORT_EVERY: Duration = Duration::from_millis(250);

/// How much of a rate may be used at once after a pause. Longer lets larger bursts
/// through, shorter refuses what is uneven though it is within the rate.
pub const BURST: Duration = Duration::from_secs(1);

/// Longest time a refusal tells somebody to wait: what a core may let in changes
/// with what is asked of it.
pub const QUOTA_WAIT_MAX: Duration = Duration::from_secs(5);

/// Most records a second that a quota is held to: a thousand times what a machine
/// takes. A higher quota counts as this one.
pub const RATE_MAX: u64 = 1_000_000_000;

/// What every core of a node is told; immutable.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct QuotaTable {
    /// Changes with the quotas themselves, and not with shares or use: cores then look
    /// at every open handle once.
    pub revision: u64,
    /// Of tenants that have a quota.
    pub tenants: FixedMap<TenantId, TenantQuota>,
}

/// One tenant's quotas as cores hold them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TenantQuota {
    /// Records a second, all namespaces together.
    pub publish: Option<RateShares>,
    /// Records a second of namespaces that have a quota of their own.
    pub namespaces: FixedMap<Box<str>, RateShares>,
    /// Connections at a time.
    pub connections: Option<ConnectionQuota>,
    /// Bytes that durable resources keep.
    pub storage: Option<StorageQuota>,
}

/// A rate and what each core may let in of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateShares {
    /// Records a second in the whole cluster.
    pub limit: u64,
    /// Thousandths of a record a second, by core.
    pub cores: Box<[u64]>,
}

/// How many connections a tenant may have, and has by the last reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionQuota {
    /// In the whole cluster.
    pub limit: u64,
    /// On each core of this node.
    pub cores: Box<[u64]>,
    /// On other nodes.
    pub elsewhere: u64,
}

/// How much a tenant may keep, and whether it keeps that much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StorageQuota {
    /// Bytes in the whole cluster.
    pub limit: u64,
    /// Nothing more is taken for durable resources.
    pub over: bool,
}

/// What a core says of the tenants with quotas whose use changed since its last
/// report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreReport {
    /// Which core.
    pub core: CoreId,
    /// By tenant.
    pub tenants: Vec<TenantUse>,
}

/// What one tenant uses on a core, or on a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TenantUse {
    /// Whose.
    pub tenant: TenantId,
    /// Connections now.
    pub connections: u64,
    /// Records that were to be published since the last report, let in or not.
    pub asked: u64,
    /// The same of namespaces that have a quota of their own.
    pub namespaces: Vec<(Box<str>, u64)>,
    /// Bytes its durable resources keep.
    pub stored: u64,
}

/// A token bucket. It lets in whatever finds it above nothing and takes all of it,
/// if need be into debt: so a batch of any size passes and the rate holds still.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    /// Of the whole quota, for refusals.
    limit: u64,
    /// Thousandths of a record a second.
    rate: u64,
    /// Billionths of a record.
    level: i64,
    at: Monotonic,
}

/// Of [`Bucket::level`].
const RECORD: i64 = 1_000_000_000;

impl Bucket {
    /// A full one.
    pub(crate) fn new(now: Monotonic, limit: u64, rate: u64) -> Self {
        let mut bucket = Self {
            limit,
            rate: 0,
            level: 0,
            at: now,
        };
        bucket.set_rate(now, limit, rate);
        bucket.level = bucket.most();
        bucket
    }

    /// From now on it fills at another rate. What it holds stays, as far as it
    /// could have been let in at that rate.
    pub(crate) fn set_rate(&mut self, now: Monotonic, limit: u64, rate: u64) {
        self.fill(now);
        self.limit = limit;
        self.rate = rate.clamp(1, 1000 * RATE_MAX);
        self.level = self.level.min(self.most());
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    fn most(&self) -> i64 {
        gain(self.rate, BURST)
    }

    fn fill(&mut self, now: Monotonic) {
        let passed = now.since(self.at);
        self.at = now;
        let gained = self.level.saturating_add(gain(self.rate, passed));
        self.level = gained.min(self.most().max(self.level));
    }

    /// Until when nothing is let in; `None` when something is.
    pub(crate) fn wait(&mut self, now: Monotonic) -> Option<Duration> {
        self.fill(now);
        if self.level > 0 {
            return None;
        }
        let lacks = self.level.unsigned_abs() + 1;
        // A thousandth of a record a second is a billionth in a millisecond and a
        // thousand of them in a second.
        let nanos = u128::from(lacks) * 1000 / u128::from(self.rate) + 1;
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        Some(Duration::from_nanos(nanos).min(QUOTA_WAIT_MAX))
    }

    pub(crate) fn take(&mut self, records: u32) {
        self.level = self.level.saturating_sub(i64::from(records) * RECORD);
    }
}

/// What a rate gives in a time, in billionths of a record; at most what fits.
fn gain(rate: u64, time: Duration) -> i64 {
    // rate / 1000 records a second × nanoseconds / 10⁹ × 10⁹ billionths.
    let billionths = u128::from(rate) * time.as_nanos() / 1000;
    i64::try_from(billionths).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records let in by somebody who sends batches whenever the bucket says.
    fn let_in(rate: u64, batch: u32, millis: u64) -> u64 {
        let mut bucket = Bucket::new(Monotonic::ZERO, rate, 1000 * rate);
        let mut now = Monotonic::ZERO;
        let mut sum = 0;
        while now < Monotonic::from_millis(millis) {
            match bucket.wait(now) {
                None => {
                    bucket.take(batch);
                    sum += u64::from(batch);
                }
                Some(wait) => {
                    assert!(wait > Duration::ZERO);
                    now = now + wait;
                }
            }
        }
        sum
    }

    #[test]
    fn a_rate_holds_whatever_the_size_of_the_batches() {
        for (rate, batch) in [(1, 1), (10, 1), (10, 7), (1000, 1), (1000, 5000), (1, 100)] {
            let sum = let_in(rate, batch, 100_000);
            // A burst at the start and a debt at the end.
            let most = 101 * rate + u64::from(batch);
            assert!(sum <= most, "{rate}/s in {batch}s let {sum} in");
            assert!(sum >= 100 * rate, "{rate}/s in {batch}s let {sum} in");
        }
    }

    #[test]
    fn a_pause_saves_up_a_burst_and_no_more() {
        let mut bucket = Bucket::new(Monotonic::ZERO, 10, 10_000);
        let mut now = Monotonic::from_millis(1_000_000);
        let mut sum = 0;
        while bucket.wait(now).is_none() {
            bucket.take(1);
            sum += 1;
        }
        assert_eq!(sum, 10);
        assert_eq!(bucket.wait(now), Some(Duration::from_nanos(1)));
        bucket.take(5);
        let wait = bucket.wait(now).expect("in debt");
        assert_eq!(wait.as_millis(), 500);
        now = now + wait;
        assert_eq!(bucket.wait(now), None);
    }

    #[test]
    fn a_lower_rate_takes_back_what_it_could_not_have_saved_up() {
        let mut now = Monotonic::ZERO;
        let mut bucket = Bucket::new(now, 1000, 1_000_000);
        bucket.set_rate(now, 1000, 1000);
        bucket.take(2);
        let wait = bucket.wait(now).expect("in debt");
        assert_eq!(wait.as_millis(), 1000);
        // A debt outlives the change to a higher one, and is paid sooner.
        bucket.set_rate(now, 1000, 1_000_000);
        now = now + Duration::from_millis(2);
        assert_eq!(bucket.wait(now), None);
    }

    #[test]
    fn the_extremes_of_a_rate_do_not_overflow() {
        for rate in [0, 1, u64::MAX] {
            let mut bucket = Bucket::new(Monotonic::ZERO, rate, rate);
            for _ in 0..4 {
                bucket.take(u32::MAX);
            }
            let wait = bucket.wait(Monotonic::from_millis(1));
            assert_eq!(wait, Some(QUOTA_WAIT_MAX), "{rate}");
            let paid = bucket.wait(Monotonic(u64::MAX)).is_none();
            assert_eq!(paid, rate == u64::MAX, "{rate}");
        }
    }
}
