//! Facts of one core that only its pump knows: of its loop, its disk, its transport, and
//! how long its requests took. All of them are counts since the core started, or gauges
//! where that is said; whoever shows them takes differences.

use core::time::Duration;

use crate::samples::TimedOp;

/// Upper bounds of [`Latency::buckets`] in nanoseconds, six to a power of ten: from
/// 10 µs, below which a turn of a core hides everything, to 10 s.
pub const LATENCY_BOUNDS: [u64; 37] = [
    10_000,
    15_000,
    20_000,
    30_000,
    50_000,
    70_000,
    100_000,
    150_000,
    200_000,
    300_000,
    500_000,
    700_000,
    1_000_000,
    1_500_000,
    2_000_000,
    3_000_000,
    5_000_000,
    7_000_000,
    10_000_000,
    15_000_000,
    20_000_000,
    30_000_000,
    50_000_000,
    70_000_000,
    100_000_000,
    150_000_000,
    200_000_000,
    300_000_000,
    500_000_000,
    700_000_000,
    1_000_000_000,
    1_500_000_000,
    2_000_000_000,
    3_000_000_000,
    5_000_000_000,
    7_000_000_000,
    10_000_000_000,
];

/// Shares of all, in millionths, at which [`Latency::curve`] is told.
pub const LATENCY_QUANTILES: [u32; 12] = [
    0, 250_000, 500_000, 750_000, 900_000, 950_000, 990_000, 995_000, 999_000, 999_900, 999_990,
    1_000_000,
];

/// How long something took, each time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latency {
    /// How often.
    pub count: u64,
    /// All of them together.
    pub sum: Duration,
    /// How often it took at most the bound of that place, and more than the one before;
    /// in the last place, more than any bound.
    pub buckets: [u64; LATENCY_BOUNDS.len() + 1],
    /// Nanoseconds within which that share of [`LATENCY_QUANTILES`] was over, since the
    /// core started, to two digits; what took longer than a minute counts as one. Zeros when
    /// there is nothing yet.
    pub curve: [u64; LATENCY_QUANTILES.len()],
}

/// How long something took, as far as a bucket says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Within {
    /// At most so long.
    AtMost(Duration),
    /// Longer than the last of [`LATENCY_BOUNDS`].
    MoreThan(Duration),
}

impl Default for Latency {
    fn default() -> Self {
        Self {
            count: 0,
            sum: Duration::ZERO,
            buckets: [0; LATENCY_BOUNDS.len() + 1],
            curve: [0; LATENCY_QUANTILES.len()],
        }
    }
}

impl Latency {
    /// The place in [`Latency::buckets`] of what took so many nanoseconds.
    #[must_use]
    pub fn bucket_of(nanos: u64) -> usize {
        LATENCY_BOUNDS.partition_point(|bound| *bound < nanos)
    }

    /// Adds another core's. Curves of two cores have no sum: of each share the slower is
    /// kept, which at least nobody was slower than.
    pub fn add(&mut self, other: &Self) {
        let Self {
            count,
            sum,
            buckets,
            curve,
        } = other;
        self.count += count;
        self.sum += *sum;
        for (mine, more) in self.buckets.iter_mut().zip(buckets) {
            *mine += more;
        }
        for (mine, more) in self.curve.iter_mut().zip(curve) {
            *mine = (*mine).max(*more);
        }
    }

    /// What came since `before`, which was asked of the same core earlier. The curve is
    /// that since the start.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let mut since = self.clone();
        since.count = since.count.saturating_sub(before.count);
        since.sum = since.sum.saturating_sub(before.sum);
        for (mine, less) in since.buckets.iter_mut().zip(&before.buckets) {
            *mine = mine.saturating_sub(*less);
        }
        since
    }

    /// Within which time what is in a bucket was over. That is the bound of the bucket, and so
    /// never better than it was; or the slowest of all since the core started, where that is
    /// known to be below it.
    #[must_use]
    pub fn within(&self, bucket: usize) -> Within {
        let Some(bound) = LATENCY_BOUNDS.get(bucket) else {
            return Within::MoreThan(Duration::from_nanos(
                LATENCY_BOUNDS[LATENCY_BOUNDS.len() - 1],
            ));
        };
        let slowest = self.curve.last().filter(|slowest| **slowest > 0);
        let nanos = slowest.map_or(*bound, |slowest| *slowest.min(bound));
        Within::AtMost(Duration::from_nanos(nanos))
    }

    /// Within which time a share of [`LATENCY_QUANTILES`] was over, since the core started and
    /// not by buckets; `None` without any, and of a share that is not among them.
    #[must_use]
    pub fn since_start(&self, millionths: u32) -> Option<Duration> {
        let at = LATENCY_QUANTILES
            .iter()
            .position(|share| *share == millionths)?;
        (self.count > 0).then(|| Duration::from_nanos(self.curve[at]))
    }

    /// [`Latency::within`] of the bucket in which `share` of all (0 to 1) was over; `None`
    /// without any.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<Within> {
        let all: u64 = self.buckets.iter().sum();
        if all == 0 {
            return None;
        }
        // Exact up to 2^53 requests, which take longer than a node lives.
        let mut left = (all as f64 * share.clamp(0.0, 1.0)).ceil().max(1.0);
        for (at, count) in self.buckets.iter().enumerate() {
            left -= *count as f64;
            if left <= 0.0 {
                return Some(self.within(at));
            }
        }
        None
    }
}

/// What the loop of a core did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoopFacts {
    /// Since the loop began.
    pub running: Duration,
    /// Time in turns that did something. Looking for work does not count.
    pub busy: Duration,
    /// Turns that did something.
    pub turns_busy: u64,
    /// Turns that took too long, by the part of the turn that took most of it: receive,
    /// mail, disk, drive.
    pub stalls: [u64; 4],
    /// The longest of them.
    pub stall_max: Duration,
    /// Mails taken.
    pub mails_received: u64,
    /// Sleeps.
    pub parks: u64,
    /// Short ones among them.
    pub naps: u64,
    /// Datagrams received.
    pub datagrams_received: u64,
    /// Datagrams that the kernel dropped because the core's socket was full; `None` where it
    /// does not tell.
    pub datagrams_dropped: Option<u64>,
    /// Failed receive calls.
    pub receive_errors: u64,
    /// Sends that the kernel took.
    pub transmits_sent: u64,
    /// Sends that met a full socket.
    pub transmits_blocked: u64,
    /// Sends that the kernel refused.
    pub transmits_failed: u64,
}

/// Parts of a turn, in the order of [`LoopFacts::stalls`].
pub const PHASES: [&str; 4] = ["receive", "mail", "disk", "drive"];

/// What the disk of a core did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskFacts {
    /// From asking for a write until it was durable.
    pub write: Latency,
    /// Bytes that became durable.
    pub written_bytes: u64,
    /// Reads.
    pub reads: u64,
    /// Their bytes.
    pub read_bytes: u64,
    /// Flushes besides those of writes: of files made or shortened, and of folders.
    pub flushes: u64,
    /// Requests that failed.
    pub errors: u64,
}

/// What the transport of a core did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuicFacts {
    /// Gauge: connections in any state.
    pub connections: u64,
    /// Gauge: of those, handshakes under way.
    pub handshakes: u64,
    /// Attempts let in.
    pub accepted: u64,
    /// Retry packets sent to addresses that were not proven.
    pub retries_sent: u64,
    /// Attempts refused because the node drains.
    pub refused_draining: u64,
    /// Attempts refused because there were too many connections.
    pub refused_full: u64,
    /// Attempts refused because their network has too many.
    pub refused_prefix: u64,
    /// Attempts left unanswered because too many handshakes were under way.
    pub ignored_handshakes: u64,
    /// Handshakes that failed.
    pub handshakes_failed: u64,
    /// Handshakes that took too long.
    pub handshakes_timed_out: u64,
    /// Datagrams that belonged to nobody.
    pub datagrams_unknown: u64,
    /// Datagrams that came to this core and were another's: handed over, or dropped.
    pub strays: u64,
    /// Of those, dropped because too many waited.
    pub strays_dropped: u64,
    /// Gauge: of those, waiting to be handed over.
    pub strays_waiting: u64,
}

/// What the pump of a core knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PumpFacts {
    /// The loop.
    pub turns: LoopFacts,
    /// The disk; `None` on a core without one.
    pub disk: Option<Box<DiskFacts>>,
    /// The transport.
    pub quic: QuicFacts,
    /// Timed requests, by [`TimedOp::index`]: from the beginning of the turn that read a
    /// request to the end of the one that gave its answer to the socket. What waits in the
    /// kernel before, and the network, are not in it.
    pub requests: Box<[Latency; TimedOp::ALL.len()]>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(nanos: &[u64]) -> Latency {
        let mut latency = Latency::default();
        for one in nanos {
            latency.count += 1;
            latency.sum += Duration::from_nanos(*one);
            latency.buckets[Latency::bucket_of(*one)] += 1;
        }
        latency
    }

    #[test]
    fn bounds_rise_and_belong_to_their_buckets() {
        assert!(LATENCY_BOUNDS.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(Latency::bucket_of(0), 0);
        assert_eq!(Latency::bucket_of(10_000), 0, "at most the bound");
        assert_eq!(Latency::bucket_of(10_001), 1);
        assert_eq!(Latency::bucket_of(u64::MAX), LATENCY_BOUNDS.len());
    }

    #[test]
    fn a_quantile_is_never_better_than_it_was() {
        let latency = of(&[11_000, 12_000, 13_000, 900_000]);
        let at = |share| latency.quantile(share);
        let most = |nanos| Some(Within::AtMost(Duration::from_nanos(nanos)));
        assert_eq!(at(0.5), most(15_000));
        assert_eq!(at(0.75), most(15_000));
        assert_eq!(at(0.76), most(1_000_000));
        assert_eq!(at(1.0), most(1_000_000));
        let slow = of(&[11_000, 10_000_000_001]);
        let more = Some(Within::MoreThan(Duration::from_secs(10)));
        assert_eq!(
            (slow.quantile(0.5), slow.quantile(0.51)),
            (most(15_000), more)
        );
        assert_eq!(Latency::default().quantile(0.5), None);
    }

    #[test]
    fn nothing_is_slower_than_the_slowest_since_the_start() {
        let mut latency = of(&[11_000, 12_000, 910_000]);
        latency.curve = [12_000; LATENCY_QUANTILES.len()];
        latency.curve[LATENCY_QUANTILES.len() - 1] = 920_000;
        let most = |nanos| Some(Within::AtMost(Duration::from_nanos(nanos)));
        assert_eq!(latency.quantile(0.5), most(15_000));
        assert_eq!(latency.quantile(1.0), most(920_000));
        let exact = |share| latency.since_start(share).map(|took| took.as_nanos());
        assert_eq!(
            (exact(500_000), exact(1_000_000)),
            (Some(12_000), Some(920_000))
        );
        assert_eq!(
            (exact(1), Latency::default().since_start(500_000)),
            (None, None)
        );
    }

    #[test]
    fn what_came_since_is_told_alone() {
        let before = of(&[11_000; 99]);
        let mut now = before.clone();
        now.add(&of(&[4_000_000]));
        let since = now.since(&before);
        assert_eq!(since.count, 1);
        assert_eq!(since.sum, Duration::from_millis(4));
        let most = Within::AtMost(Duration::from_millis(5));
        assert_eq!(since.quantile(0.5), Some(most));
    }
}
