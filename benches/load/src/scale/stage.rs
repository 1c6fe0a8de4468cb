//! What every scenario stands on: its node, its limit of time, its sizes, and
//! the facts it has found so far.

use std::time::{Duration, Instant};

use pinion_cli::bench::machine::{OTHERS_SHARE_MAX, ProcessUse, Watch};
use pinion_cli::bench::measure::{BenchError, Run, Span};
use pinion_client::native::NativeConfig;
use tempfile::TempDir;

use crate::server::{Node, Server};
use crate::suite::{admin_config, node_config};
use crate::table::{Fact, Sample, Spread};
use crate::turns::{SERVER_CPU, Tally, Unit, observe};

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// Connections that say nothing.
    pub(super) idle: usize,
    /// Connections that ask.
    pub(super) active: usize,
    /// Subscriptions on one node.
    pub(super) subscriptions: usize,
    /// Streams and queues, half of each.
    pub(super) resources: usize,
    /// Budget of the cache that is filled, in bytes.
    pub(super) cache_bytes: u64,
    /// How long a full cache is written to.
    pub(super) fill: Duration,
    /// Nodes that are measured for every number of subscribers of a fan-out.
    pub(super) fan_rounds: usize,
    /// Slow consumers, and as many that are not.
    pub(super) slow: usize,
    /// How long more is asked than the node can do.
    pub(super) overload: Duration,
    /// Keys whose time is over in the same millisecond.
    pub(super) expiring: usize,
    /// How often that happens.
    pub(super) storms: usize,
    /// Measurements whose median is the fact.
    pub(super) rounds: usize,
    /// Of each measurement.
    pub(super) span: Span,
}

impl Sizes {
    /// What is promised.
    pub(super) const FULL: Self = Self {
        idle: 10_000,
        active: 1000,
        subscriptions: 100_000,
        resources: 100_000,
        cache_bytes: 256 << 20,
        fill: Duration::from_secs(600),
        fan_rounds: 3,
        slow: 1000,
        overload: Duration::from_secs(60),
        expiring: 1_000_000,
        storms: 5,
        rounds: 5,
        span: Span {
            warmup: Duration::from_millis(500),
            measured: Duration::from_millis(2500),
        },
    };

    /// To see that everything works.
    pub(super) const QUICK: Self = Self {
        idle: 1000,
        active: 100,
        subscriptions: 10_000,
        resources: 10_000,
        cache_bytes: 64 << 20,
        fill: Duration::from_secs(5),
        fan_rounds: 1,
        slow: 100,
        overload: Duration::from_secs(5),
        expiring: 100_000,
        storms: 2,
        rounds: 2,
        span: Span {
            warmup: Duration::from_millis(200),
            measured: Duration::from_millis(500),
        },
    };
}

/// A node of the scenario's own. Dropping it ends it.
pub(super) struct Started {
    // Dropped in this order: the node ends before its directory goes.
    pub(super) server: Server,
    dir: TempDir,
}

impl Started {
    /// How a client reaches it.
    pub(super) fn config(&self) -> Result<NativeConfig, BenchError> {
        node_config(&self.server, self.dir.path())
    }

    /// How someone reaches it who may declare what a resource is like.
    pub(super) fn admin(&self) -> Result<NativeConfig, BenchError> {
        admin_config(&self.server, self.dir.path())
    }

    /// Resident memory in bytes. A node that is gone, killed for its memory for
    /// example, is an error.
    pub(super) fn rss(&self) -> Result<f64, BenchError> {
        match ProcessUse::of(self.server.pid()) {
            #[allow(clippy::cast_precision_loss, reason = "bytes far below 2^53")]
            Some(found) if found.rss_bytes > 0 => Ok(found.rss_bytes as f64),
            _ => Err(BenchError::Closed { peer: "the node" }),
        }
    }
}

/// A moment after which a scenario goes no further.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    started: Instant,
    longest: Duration,
}

impl Limit {
    pub(crate) fn new(longest: Duration) -> Self {
        Self {
            started: Instant::now(),
            longest,
        }
    }

    /// What is left of it.
    pub(super) fn left(&self) -> Duration {
        self.longest.saturating_sub(self.started.elapsed())
    }

    /// Fails when the time is up; `missing` is what is still waited for.
    pub(super) fn check(&self, missing: usize) -> Result<(), BenchError> {
        let waited = self.started.elapsed();
        if waited <= self.longest {
            return Ok(());
        }
        Err(BenchError::Silence {
            waited,
            in_flight: missing as u64,
        })
    }
}

/// Where one scenario is played.
pub(super) struct Stage<'a> {
    node: &'a Node,
    pub(super) sizes: Sizes,
    pub(super) limit: Limit,
    pub(super) facts: Vec<Fact>,
    tally: &'a mut Tally,
}

impl<'a> Stage<'a> {
    pub(super) fn new(
        node: &'a Node,
        sizes: Sizes,
        longest: Duration,
        tally: &'a mut Tally,
    ) -> Self {
        Self {
            node,
            sizes,
            limit: Limit::new(longest),
            facts: Vec::new(),
            tally,
        }
    }

    /// Starts a node of the scenario's own.
    pub(super) fn start(&self) -> Result<Started, BenchError> {
        let dir = tempfile::tempdir().map_err(BenchError::io("temporary directory"))?;
        let server = self
            .node
            .start(SERVER_CPU, dir.path())
            .map_err(BenchError::io("starting the node"))?;
        Ok(Started { server, dir })
    }

    /// Measures `rounds` times; each run is told on standard error.
    pub(super) fn rounds(
        &mut self,
        who: &str,
        node: &Started,
        mut measure: impl FnMut(Span) -> Result<Run, BenchError>,
    ) -> Result<Vec<Sample>, BenchError> {
        let mut samples = Vec::new();
        for _ in 0..self.sizes.rounds {
            let span = self.sizes.span;
            samples.push(self.once(who, node, || measure(span))?);
        }
        Ok(samples)
    }

    /// Measures once.
    pub(super) fn once(
        &mut self,
        who: &str,
        node: &Started,
        measure: impl FnOnce() -> Result<Run, BenchError>,
    ) -> Result<Sample, BenchError> {
        self.limit.check(1)?;
        let sample = observe(&[node.server.pid()], Unit::ONE, measure)?;
        self.tally.count(who, Ok(sample));
        Ok(sample)
    }

    /// Does something that is no run of the common loops, and counts whether
    /// others disturbed it.
    pub(super) fn watched<T>(
        &mut self,
        node: &Started,
        what: impl FnOnce() -> Result<T, BenchError>,
    ) -> Result<T, BenchError> {
        let watch = Watch::start(&[node.server.pid()]);
        let found = what()?;
        self.tally.runs += 1;
        self.tally.disturbed += usize::from(watch.stop().others_share > OTHERS_SHARE_MAX);
        Ok(found)
    }

    /// A fact with its bound.
    pub(super) fn held(
        &mut self,
        what: impl Into<String>,
        unit: &'static str,
        found: Vec<f64>,
        at_most: f64,
    ) {
        self.fact(what.into(), unit, found, Some(at_most));
    }

    /// A fact for orientation.
    pub(super) fn told(&mut self, what: impl Into<String>, unit: &'static str, found: Vec<f64>) {
        self.fact(what.into(), unit, found, None);
    }

    /// The p99 of `who`, alone and beside `others`, and how much it may grow.
    pub(super) fn held_beside(
        &mut self,
        who: &str,
        others: &str,
        alone: &[Sample],
        both: &[Sample],
        growths: &[f64],
        at_most: f64,
    ) {
        let p99 = |samples| each(samples, |sample| sample.p99_us);
        self.told(format!("p99 of {who} alone"), "µs", p99(alone));
        self.told(format!("p99 of them beside {others}"), "µs", p99(both));
        self.held(
            "that p99 over the one alone",
            "×",
            growths.to_vec(),
            at_most,
        );
    }

    fn fact(&mut self, what: String, unit: &'static str, found: Vec<f64>, at_most: Option<f64>) {
        self.facts.push(Fact {
            what,
            unit,
            found: Spread::of(found),
            at_most,
        });
    }
}

/// One figure of every sample.
pub(super) fn each(samples: &[Sample], figure: impl Fn(&Sample) -> f64) -> Vec<f64> {
    samples.iter().map(figure).collect()
}

/// The median of one figure; an error when there is no sample.
pub(super) fn median(
    samples: &[Sample],
    figure: impl Fn(&Sample) -> f64,
) -> Result<f64, BenchError> {
    Spread::of(each(samples, figure))
        .map(|spread| spread.median)
        .ok_or_else(|| BenchError::Options("nothing was measured".to_owned()))
}

/// Each p99 of `with` over the median p99 of `without`: what something beside
/// them costs those who have nothing to do with it.
pub(super) fn p99_ratios(with: &[Sample], without: &[Sample]) -> Result<Vec<f64>, BenchError> {
    let alone = median(without, |sample| sample.p99_us)?.max(f64::MIN_POSITIVE);
    Ok(each(with, |sample| sample.p99_us / alone))
}

/// The p99 of every round with something beside it over that of the same round
/// without: only what was measured within seconds of each other compares.
pub(super) fn p99_growths(with: &[Sample], without: &[Sample]) -> Vec<f64> {
    let pairs = with.iter().zip(without);
    pairs
        .map(|(with, without)| with.p99_us / without.p99_us.max(f64::MIN_POSITIVE))
        .collect()
}

/// MiB of bytes.
pub(super) fn mib(bytes: f64) -> f64 {
    bytes / f64::from(1 << 20)
}

/// A count as tables take it.
#[allow(clippy::cast_precision_loss, reason = "counts far below 2^53")]
pub(super) const fn count(count: usize) -> f64 {
    count as f64
}

/// The line through `points` (x, y) that is nearest in the sense of least
/// squares: how much y grows for each x. None for fewer than two different x.
pub(super) fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let n = count(points.len());
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
    let (x_mean, y_mean) = (mean(|p| p.0), mean(|p| p.1));
    let (mut above, mut below) = (0.0, 0.0);
    for (x, y) in points {
        above += (x - x_mean) * (y - y_mean);
        below += (x - x_mean) * (x - x_mean);
    }
    (below > 0.0).then(|| above / below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_of_a_noisy_line_is_that_of_the_line() {
        let noisy: Vec<(f64, f64)> = (0..100)
            .map(|x| (f64::from(x), 7.0 + 0.5 * f64::from(x) + f64::from(x % 2)))
            .collect();
        let found = slope(&noisy).expect("many points");
        assert!((found - 0.5).abs() < 0.01, "{found}");
        assert_eq!(slope(&[]), None);
        assert_eq!(slope(&[(1.0, 2.0), (1.0, 3.0)]), None);
    }

    #[test]
    fn a_ratio_is_formed_with_the_median_of_those_who_were_alone_or_within_its_round() {
        let sample = |p99_us| Sample {
            p99_us,
            ..Sample::default()
        };
        let alone = [10.0, 20.0, 90.0].map(sample);
        let ratios = p99_ratios(&[30.0, 40.0].map(sample), &alone).expect("samples");
        assert_eq!(ratios, [1.5, 2.0]);
        assert!(p99_ratios(&alone, &[]).is_err());
        let both = [30.0, 10.0, 90.0].map(sample);
        assert_eq!(p99_growths(&both, &alone), [3.0, 0.5, 1.0]);
    }

    #[test]
    fn a_limit_that_has_passed_names_what_is_missing() {
        assert!(Limit::new(Duration::from_secs(3600)).check(3).is_ok());
        let over = Limit {
            started: Instant::now(),
            longest: Duration::ZERO,
        };
        while over.started.elapsed().is_zero() {}
        let error = over.check(3).expect_err("no time at all");
        assert!(
            matches!(error, BenchError::Silence { in_flight: 3, .. }),
            "{error}"
        );
    }

    #[test]
    fn a_bound_is_held_by_the_median() {
        let node = Node {
            binary: "/nonexistent".into(),
            arguments: Vec::new(),
        };
        let mut tally = Tally::default();
        let mut stage = Stage::new(&node, Sizes::QUICK, Duration::ZERO, &mut tally);
        stage.held("low", "%", vec![1.0, 2.0, 9.0], 2.0);
        stage.held("high", "%", vec![1.0, 3.0, 3.0], 2.0);
        stage.held("nothing", "%", Vec::new(), 2.0);
        stage.told("anything", "s", vec![1e9]);
        let held: Vec<_> = stage.facts.iter().map(Fact::held).collect();
        assert_eq!(held, [Some(true), Some(false), Some(false), None]);
    }
}
