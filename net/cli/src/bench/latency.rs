//! Latencies of one run: recorded in nanoseconds, reported as percentiles.

use std::io::{self, Write};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longest latency told apart from longer ones. Raising it costs a few KiB per
/// histogram; what is longer is counted as this long.
pub const LATENCY_MAX: Duration = Duration::from_secs(60);

/// Significant decimal digits kept. Three bound the error to 0.1 %.
const SIGNIFICANT_DIGITS: u8 = 3;

/// A histogram of nanoseconds. Recording never allocates.
#[derive(Clone, Debug)]
pub struct Latency {
    histogram: Histogram<u64>,
}

impl Default for Latency {
    fn default() -> Self {
        let highest = u64::try_from(LATENCY_MAX.as_nanos()).expect("a minute in ns fits u64");
        let histogram = Histogram::new_with_bounds(1, highest, SIGNIFICANT_DIGITS)
            .expect("the bounds are constants that the histogram accepts");
        Self { histogram }
    }
}

impl Latency {
    /// Counts one latency of `ns` nanoseconds.
    pub fn record(&mut self, ns: u64) {
        self.histogram.saturating_record(ns.max(1));
    }

    /// Counts `count` equal latencies.
    pub fn record_n(&mut self, ns: u64, count: u64) {
        self.histogram.saturating_record_n(ns.max(1), count);
    }

    /// Adds what `other` has counted.
    pub fn add(&mut self, other: &Self) {
        self.histogram
            .add(&other.histogram)
            .expect("both histograms have the same constant bounds");
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.histogram.reset();
    }

    /// The percentiles people ask for.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let at = |quantile| micros(self.histogram.value_at_quantile(quantile));
        if self.histogram.is_empty() {
            return Summary::default();
        }
        Summary {
            count: self.histogram.len(),
            min_us: micros(self.histogram.min()),
            mean_us: self.histogram.mean() / 1000.0,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            p9999_us: at(0.9999),
            max_us: micros(self.histogram.max()),
        }
    }

    /// Writes the percentile distribution in the text form that
    /// `HdrHistogram` plotters read (`.hgrm`), values in microseconds.
    ///
    /// # Errors
    /// What `out` answers.
    pub fn write_hgrm(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(
            out,
            "{:>12} {:>14} {:>10} {:>14}\n",
            "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
        )?;
        let mut total = 0;
        for step in self.histogram.iter_quantiles(5) {
            total += step.count_since_last_iteration();
            let quantile = step.quantile_iterated_to();
            let value = micros(step.value_iterated_to());
            write!(out, "{value:>12.3} {quantile:>14.12} {total:>10}")?;
            if quantile < 1.0 {
                writeln!(out, " {:>14.2}", 1.0 / (1.0 - quantile))?;
            } else {
                writeln!(out)?;
            }
        }
        writeln!(
            out,
            "#[Mean    = {:>12.3}, StdDeviation   = {:>12.3}]",
            self.histogram.mean() / 1000.0,
            self.histogram.stdev() / 1000.0
        )?;
        writeln!(
            out,
            "#[Max     = {:>12.3}, Total count    = {:>12}]",
            micros(self.histogram.max()),
            self.histogram.len()
        )?;
        writeln!(
            out,
            "#[Buckets = {:>12}, SubBuckets     = {:>12}]",
            self.histogram.buckets(),
            self.histogram.distinct_values()
        )
    }
}

/// Percentiles of one run, in microseconds. All zero when nothing was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// How many were counted.
    pub count: u64,
    /// Shortest.
    pub min_us: f64,
    /// Arithmetic mean.
    pub mean_us: f64,
    /// Median.
    pub p50_us: f64,
    /// 90th percentile.
    pub p90_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// 99.9th percentile.
    pub p999_us: f64,
    /// 99.99th percentile.
    pub p9999_us: f64,
    /// Longest.
    pub max_us: f64,
}

#[allow(
    clippy::cast_precision_loss,
    reason = "a latency below 2^53 ns is exact, and a minute is far below"
)]
fn micros(ns: u64) -> f64 {
    ns as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_values_given() {
        let mut latency = Latency::default();
        for us in 1..=1000_u64 {
            latency.record(us * 1000);
        }
        let summary = latency.summary();
        assert_eq!(summary.count, 1000);
        assert!((summary.p50_us - 500.0).abs() < 1.0, "{summary:?}");
        assert!((summary.p99_us - 990.0).abs() < 1.5, "{summary:?}");
        assert!((summary.max_us - 1000.0).abs() < 1.5, "{summary:?}");
    }

    #[test]
    fn what_is_longer_than_the_bound_is_counted_at_the_bound() {
        let mut latency = Latency::default();
        latency.record(u64::MAX);
        let summary = latency.summary();
        assert_eq!(summary.count, 1);
        assert!(summary.max_us > 59_000_000.0, "{summary:?}");
    }

    #[test]
    fn the_text_form_ends_with_the_total_count() {
        let mut latency = Latency::default();
        latency.record_n(5_000, 7);
        let mut text = Vec::new();
        latency.write_hgrm(&mut text).expect("a Vec takes it");
        let text = String::from_utf8(text).expect("ascii");
        let total = text
            .lines()
            .find(|line| line.contains("Total count"))
            .expect("the footer is there");
        assert!(total.ends_with("           7]"), "{total}");
        assert!(text.lines().nth(2).is_some_and(|l| l.contains("5.0")));
    }

    #[test]
    fn an_empty_run_reports_zeros() {
        assert_eq!(Latency::default().summary(), Summary::default());
    }
}
