//! From interleaved samples to medians, spreads, ratios and verdicts.

use std::fmt::Write;

use serde::Serialize;

/// One run of one subject.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Sample {
    /// Median latency, microseconds.
    pub p50_us: f64,
    /// 99th percentile, microseconds.
    pub p99_us: f64,
    /// 99.9th percentile, microseconds.
    pub p999_us: f64,
    /// Operations or deliveries per second.
    pub rate: f64,
    /// Operations or deliveries per second of the server's processor time.
    pub rate_per_core: f64,
    /// Server's processor time over wall time.
    pub server_cpu: f64,
    /// Share of wall time in which the generator had work.
    pub generator_busy: f64,
    /// How late requests left at the 99th percentile (open loop), microseconds.
    pub slip_p99_us: f64,
    /// Share of the machine used by others during the run.
    pub others: f64,
    /// Share of the machine taken by the host during the run.
    pub steal: f64,
    /// Records announced as skipped.
    pub lost: u64,
}

/// Which figure of a sample is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Figure {
    /// Median latency.
    P50,
    /// 99th percentile.
    P99,
    /// Rate with the server on one core.
    Rate,
    /// Rate per second of the server's processor time.
    RatePerCore,
}

impl Figure {
    /// The figure of one sample.
    #[must_use]
    pub const fn of(self, sample: &Sample) -> f64 {
        match self {
            Self::P50 => sample.p50_us,
            Self::P99 => sample.p99_us,
            Self::Rate => sample.rate,
            Self::RatePerCore => sample.rate_per_core,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::P50 => "p50",
            Self::P99 => "p99",
            Self::Rate => "rate",
            Self::RatePerCore => "rate per core",
        }
    }
}

/// The bound on a ratio of the first subject to another.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub enum Bound {
    /// At most so many times the other's.
    AtMost(f64),
    /// At least so many times the other's.
    AtLeast(f64),
    /// Shown for orientation.
    None,
}

/// What a line promises about the first subject and another.
#[derive(Clone, Debug, Serialize)]
pub struct Promise {
    /// The other subject.
    pub against: String,
    /// What is compared.
    pub figure: Figure,
    /// The bound.
    pub bound: Bound,
}

/// All runs of one subject of a line, in the order of the rounds.
#[derive(Clone, Debug, Serialize)]
pub struct Column {
    /// Who.
    pub subject: String,
    /// Its runs; none where a run failed.
    pub samples: Vec<Option<Sample>>,
}

/// One line of the comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// What was done.
    pub title: String,
    /// Who did it; the node is first.
    pub columns: Vec<Column>,
    /// What is promised.
    pub promises: Vec<Promise>,
}

/// Median and range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    /// Median.
    pub median: f64,
    /// Smallest.
    pub low: f64,
    /// Largest.
    pub high: f64,
}

impl Spread {
    /// Of `values`; none of nothing. An even number of values has the mean of
    /// the two in the middle as its median.
    #[must_use]
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (&low, &high) = (values.first()?, values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Self { median, low, high })
    }
}

/// A promise held against the samples.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// What was compared.
    pub what: String,
    /// Ratio of the first subject to the other, round by round.
    pub ratio: Spread,
    /// The bound in words.
    pub bound: String,
    /// Whether the median ratio holds it; none without a bound.
    pub held: Option<bool>,
}

impl Column {
    /// Median and range of one figure over the runs that succeeded.
    #[must_use]
    pub fn spread(&self, figure: impl Fn(&Sample) -> f64) -> Option<Spread> {
        Spread::of(self.samples.iter().flatten().map(figure).collect())
    }
}

impl Line {
    /// Every promise with its ratio. Ratios are formed within a round, since
    /// only runs of the same minute compare.
    #[must_use]
    pub fn verdicts(&self) -> Vec<Verdict> {
        let Some(first) = self.columns.first() else {
            return Vec::new();
        };
        let mut verdicts = Vec::new();
        for promise in &self.promises {
            let Some(other) = self.columns.iter().find(|c| c.subject == promise.against) else {
                continue;
            };
            let ratios = first
                .samples
                .iter()
                .zip(&other.samples)
                .filter_map(|(ours, theirs)| {
                    let (ours, theirs) = (ours.as_ref()?, theirs.as_ref()?);
                    let theirs = promise.figure.of(theirs);
                    (theirs > 0.0).then(|| promise.figure.of(ours) / theirs)
                });
            let Some(ratio) = Spread::of(ratios.collect()) else {
                continue;
            };
            let (bound, held) = match promise.bound {
                Bound::AtMost(most) => (format!("≤ {most}"), Some(ratio.median <= most)),
                Bound::AtLeast(least) => (format!("≥ {least}"), Some(ratio.median >= least)),
                Bound::None => (String::new(), None),
            };
            verdicts.push(Verdict {
                what: format!(
                    "{} / {}, {}",
                    first.subject,
                    other.subject,
                    promise.figure.name()
                ),
                ratio,
                bound,
                held,
            });
        }
        verdicts
    }

    /// The line as Markdown: a table of subjects and a table of ratios.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut out = format!("### {}\n\n", self.title);
        out.push_str("| subject | p50 µs | p99 µs | p99.9 µs | per second | server CPU | per core-second | generator busy | slip p99 µs |\n");
        out.push_str("|---|---|---|---|---|---|---|---|---|\n");
        for column in &self.columns {
            let cell = |figure: fn(&Sample) -> f64, digits: usize| {
                column.spread(figure).map_or_else(
                    || "failed".to_owned(),
                    |s| {
                        format!(
                            "{:.digits$} ({:.digits$}–{:.digits$})",
                            s.median, s.low, s.high
                        )
                    },
                )
            };
            let rate = |figure: fn(&Sample) -> f64| {
                column.spread(figure).map_or_else(
                    || "failed".to_owned(),
                    |s| format!("{} ({}–{})", short(s.median), short(s.low), short(s.high)),
                )
            };
            let percent = |figure: fn(&Sample) -> f64| {
                column
                    .spread(figure)
                    .map_or_else(String::new, |s| format!("{:.0} %", s.median * 100.0))
            };
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                column.subject,
                cell(|s| s.p50_us, 1),
                cell(|s| s.p99_us, 1),
                cell(|s| s.p999_us, 0),
                rate(|s| s.rate),
                percent(|s| s.server_cpu),
                rate(|s| s.rate_per_core),
                percent(|s| s.generator_busy),
                column
                    .spread(|s| s.slip_p99_us)
                    .map_or_else(String::new, |s| format!("{:.1}", s.median)),
            );
        }
        let verdicts = self.verdicts();
        if !verdicts.is_empty() {
            out.push_str(
                "\n| ratio, same round | median (range) | wanted | |\n|---|---|---|---|\n",
            );
        }
        for verdict in verdicts {
            let held = match verdict.held {
                Some(true) => "held",
                Some(false) => "**missed**",
                None => "",
            };
            let _ = writeln!(
                out,
                "| {} | {:.2} ({:.2}–{:.2}) | {} | {held} |",
                verdict.what,
                verdict.ratio.median,
                verdict.ratio.low,
                verdict.ratio.high,
                verdict.bound
            );
        }
        let lost: u64 = self
            .columns
            .iter()
            .flat_map(|c| c.samples.iter().flatten())
            .map(|s| s.lost)
            .sum();
        if lost > 0 {
            let _ = writeln!(out, "\n{lost} records were announced as skipped.");
        }
        out
    }
}

/// A rate in at most four characters of digits: 1.24 M, 340 k, 57.
#[must_use]
pub fn short(rate: f64) -> String {
    match rate {
        r if r >= 1e6 => format!("{:.2} M", r / 1e6),
        r if r >= 1e4 => format!("{:.0} k", r / 1e3),
        r if r >= 1e3 => format!("{:.1} k", r / 1e3),
        r => format!("{r:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(subject: &str, p50: &[f64]) -> Column {
        Column {
            subject: subject.to_owned(),
            samples: p50
                .iter()
                .map(|&p50_us| {
                    (p50_us > 0.0).then_some(Sample {
                        p50_us,
                        ..Sample::default()
                    })
                })
                .collect(),
        }
    }

    fn line(bound: Bound) -> Line {
        Line {
            title: "GET".to_owned(),
            // The machine slows down twofold half way: round by round the ratio stays 2.
            columns: vec![
                column("pinion", &[20.0, 20.0, 40.0, 40.0, 0.0]),
                column("echo", &[10.0, 10.0, 20.0, 20.0, 10.0]),
            ],
            promises: vec![Promise {
                against: "echo".to_owned(),
                figure: Figure::P50,
                bound,
            }],
        }
    }

    #[test]
    fn ratios_compare_runs_of_the_same_round_only() {
        let verdicts = line(Bound::AtMost(2.5)).verdicts();
        let whole = Spread {
            median: 2.0,
            low: 2.0,
            high: 2.0,
        };
        assert_eq!(verdicts[0].ratio, whole);
        assert_eq!(verdicts[0].held, Some(true));
    }

    #[test]
    fn a_missed_bound_is_not_hidden() {
        let line = line(Bound::AtMost(1.5));
        assert_eq!(line.verdicts()[0].held, Some(false));
        assert!(line.markdown().contains("**missed**"));
    }

    #[test]
    fn a_failed_run_leaves_the_others_standing() {
        let text = line(Bound::None).markdown();
        assert!(text.contains("| pinion | 30.0 (20.0–40.0) |"), "{text}");
    }

    #[test]
    fn medians_of_even_and_odd_counts() {
        let median = |values: &[f64]| Spread::of(values.to_vec()).map(|s| s.median);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn rates_are_readable() {
        assert_eq!(short(1_240_000.0), "1.24 M");
        assert_eq!(short(340_400.0), "340 k");
        assert_eq!(short(57.2), "57");
    }
}
