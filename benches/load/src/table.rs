//! From interleaved samples to medians, spreads, ratios and verdicts.

use std::fmt::Write;

use pinion_cli::bench::latency::Latency;
use serde::Serialize;

use crate::peak::{LimitedBy, Peak};

/// One run of one subject.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Sample {
    /// Median latency, microseconds.
    pub p50_us: f64,
    /// 99th percentile, microseconds.
    pub p99_us: f64,
    /// 99.9th percentile, microseconds.
    pub p999_us: f64,
    /// 99.99th percentile, microseconds.
    pub p9999_us: f64,
    /// Longest latency, microseconds.
    pub max_us: f64,
    /// Operations or deliveries per second.
    pub rate: f64,
    /// Bytes of payload per second; 0 where they are not of interest.
    pub bytes_rate: f64,
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
    /// Share of a processor that the kernel used for ends of its own.
    pub kernel: f64,
    /// Records announced as skipped.
    pub lost: u64,
    /// Of what half was asked, where it was looked for.
    pub peak: Option<Peak>,
}

/// A sample with the distribution behind it.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// Its figures.
    pub sample: Sample,
    /// Every latency.
    pub latency: Latency,
}

impl From<Sample> for Measured {
    /// For what has figures only.
    fn from(sample: Sample) -> Self {
        Self {
            sample,
            latency: Latency::default(),
        }
    }
}

impl AsRef<Sample> for Measured {
    fn as_ref(&self) -> &Sample {
        &self.sample
    }
}

impl AsRef<Self> for Sample {
    fn as_ref(&self) -> &Self {
        self
    }
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
    /// Bytes of payload per second.
    BytesRate,
    /// 99.9th percentile over the median.
    Tail,
}

impl Figure {
    /// Whether a hundredth of a run decides it.
    #[must_use]
    pub const fn is_of_the_slowest(self) -> bool {
        matches!(self, Self::P99 | Self::Tail)
    }

    /// The figure of one sample.
    #[must_use]
    pub const fn of(self, sample: &Sample) -> f64 {
        match self {
            Self::P50 => sample.p50_us,
            Self::P99 => sample.p99_us,
            Self::Tail => sample.p999_us / sample.p50_us,
            Self::Rate => sample.rate,
            Self::RatePerCore => sample.rate_per_core,
            Self::BytesRate => sample.bytes_rate,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::P50 => "p50",
            Self::P99 => "p99",
            Self::Rate => "rate",
            Self::RatePerCore => "rate per core",
            Self::BytesRate => "bytes per second",
            Self::Tail => "p99.9 / p50",
        }
    }
}

/// The bound on the first subject, compared with another in the same round.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub enum Bound {
    /// At most so many times the other's.
    AtMost(f64),
    /// At least so many times the other's.
    AtLeast(f64),
    /// At most so much more than the other's, in the unit of the figure.
    AtMostAbove(f64),
    /// At least so many times the other's, or at least so much by itself.
    AtLeastOr {
        /// Times the other's.
        ratio: f64,
        /// In the unit of the figure.
        absolute: f64,
    },
    /// The first subject's figure is at most this much; nobody else's matters.
    AtMostItself(f64),
    /// Shown for orientation.
    None,
}

impl Bound {
    /// The ratio or, where the bound is on it, the difference or our own figure.
    fn compare(self, ours: f64, theirs: f64) -> f64 {
        match self {
            Self::AtMostAbove(_) => ours - theirs,
            Self::AtMostItself(_) => ours,
            _ => ours / theirs,
        }
    }

    const fn comparison(self) -> &'static str {
        match self {
            Self::AtMostAbove(_) => "−",
            _ => "/",
        }
    }

    fn words(self) -> String {
        match self {
            Self::AtMost(most) | Self::AtMostItself(most) => format!("≤ {most}"),
            Self::AtLeast(least) => format!("≥ {least}"),
            Self::AtMostAbove(most) => format!("≤ +{most} µs"),
            Self::AtLeastOr { ratio, absolute } => {
                format!("≥ {ratio}, or ≥ {} by itself", short(absolute))
            }
            Self::None => String::new(),
        }
    }

    /// Whether the median comparison, or our own median, holds it.
    fn held(self, median: f64, ours: f64) -> Option<bool> {
        match self {
            Self::AtMost(most) | Self::AtMostAbove(most) | Self::AtMostItself(most) => {
                Some(median <= most)
            }
            Self::AtLeast(least) => Some(median >= least),
            Self::AtLeastOr { ratio, absolute } => Some(median >= ratio || ours >= absolute),
            Self::None => None,
        }
    }
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
    /// The latencies of all of them together.
    #[serde(skip)]
    pub latency: Latency,
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

    /// As tables show it: median (lowest–highest).
    fn text(&self, digits: usize) -> String {
        format!(
            "{:.digits$} ({:.digits$}–{:.digits$})",
            self.median, self.low, self.high
        )
    }
}

/// One figure that stands by itself, found several times.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fact {
    /// What was found.
    pub what: String,
    /// Its unit.
    pub unit: &'static str,
    /// Median and range; none when no round found it.
    pub found: Option<Spread>,
    /// Most it may be in its median; none is for orientation.
    pub at_most: Option<f64>,
}

impl Fact {
    /// Whether the bound is held. What was not found holds nothing.
    #[must_use]
    pub fn held(&self) -> Option<bool> {
        let most = self.at_most?;
        Some(self.found.is_some_and(|found| found.median <= most))
    }
}

/// Facts as one Markdown table.
#[must_use]
pub fn facts_markdown(title: &str, facts: &[Fact]) -> String {
    let mut out = format!("### {title}\n\n| what | found | wanted | |\n|---|---|---|---|\n");
    for fact in facts {
        let found = fact.found.map_or_else(
            || "failed".to_owned(),
            |found| format!("{} {}", found.text(2), fact.unit),
        );
        let wanted = fact
            .at_most
            .map(|most| format!("≤ {most} {}", fact.unit))
            .unwrap_or_default();
        let _ = writeln!(
            out,
            "| {} | {found} | {wanted} | {} |",
            fact.what,
            held_word(fact.held())
        );
    }
    out
}

const fn held_word(held: Option<bool>) -> &'static str {
    match held {
        Some(true) => "held",
        Some(false) => "**missed**",
        None => "",
    }
}

/// A promise held against the samples.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// What was compared.
    pub what: String,
    /// Ratio of the first subject to the other, round by round; the difference
    /// where the bound is on it.
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

    fn peaks(&self) -> Vec<Peak> {
        let samples = self.samples.iter().flatten();
        samples.filter_map(|sample| sample.peak).collect()
    }

    /// For the name of a figure: whose peak it was half of, if it was not the server's.
    fn said_of_generator(&self) -> &'static str {
        let peaks = self.peaks();
        let by = |limit| peaks.iter().filter(|peak| peak.limit == limit).count();
        if by(LimitedBy::Generator) * 2 > peaks.len() {
            " at half of what the generator can ask"
        } else {
            ""
        }
    }

    /// A paragraph about the peaks that were found; nothing where none was looked for.
    fn said_of_peak(&self) -> String {
        let peaks = self.peaks();
        let Some(found) = Spread::of(peaks.iter().map(|peak| peak.rate).collect()) else {
            return String::new();
        };
        let by = |limit| peaks.iter().filter(|peak| peak.limit == limit).count();
        format!(
            "\n{}: the most that was asked on a schedule without falling behind {} ({}–{}) a second; \
             a higher rate was too much for the server {} times, for the generator {} times, and was not tried {} times.\n",
            self.subject,
            short(found.median),
            short(found.low),
            short(found.high),
            by(LimitedBy::Server),
            by(LimitedBy::Generator),
            by(LimitedBy::Search),
        )
    }
}

impl Line {
    /// What the runs of `columns` come to, with what is promised against whom.
    #[must_use]
    pub fn new<S: Copy>(
        title: String,
        columns: Vec<Column>,
        promises: &[(S, Figure, Bound)],
        name: impl Fn(S) -> &'static str,
    ) -> Self {
        let promise = |&(against, figure, bound)| Promise {
            against: name(against).to_owned(),
            figure,
            bound,
        };
        Self {
            title,
            columns,
            promises: promises.iter().map(promise).collect(),
        }
    }

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
            let pairs: Vec<(f64, f64)> = first
                .samples
                .iter()
                .zip(&other.samples)
                .filter_map(|(ours, theirs)| {
                    let figure = |sample: &Sample| promise.figure.of(sample);
                    let (ours, theirs) = (figure(ours.as_ref()?), figure(theirs.as_ref()?));
                    (theirs > 0.0).then_some((ours, theirs))
                })
                .collect();
            let bound = promise.bound;
            let compared = pairs.iter().map(|&(a, b)| bound.compare(a, b)).collect();
            let ours = Spread::of(pairs.iter().map(|&(ours, _)| ours).collect());
            let (Some(ratio), Some(ours)) = (Spread::of(compared), ours) else {
                continue;
            };
            verdicts.push(Verdict {
                what: match bound {
                    Bound::AtMostItself(_) => format!(
                        "{}, {}{}",
                        first.subject,
                        promise.figure.name(),
                        first.said_of_generator()
                    ),
                    _ => format!(
                        "{} {} {}, {}",
                        first.subject,
                        bound.comparison(),
                        other.subject,
                        promise.figure.name()
                    ),
                },
                ratio,
                bound: bound.words(),
                held: bound.held(ratio.median, ours.median),
            });
        }
        verdicts
    }

    /// The line as Markdown: a table of subjects and a table of ratios.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut out = format!("### {}\n\n", self.title);
        let samples = || self.columns.iter().flat_map(|c| c.samples.iter().flatten());
        let bytes = samples().any(|sample| sample.bytes_rate > 0.0);
        let (head, rule) = if bytes { (" MB/s |", "---|") } else { ("", "") };
        let _ = writeln!(
            out,
            "| subject | p50 µs | p99 µs | p99.9 µs | per second |{head} server CPU | per core-second | generator busy | slip p99 µs |"
        );
        let _ = writeln!(out, "|---|---|---|---|---|{rule}---|---|---|---|");
        for column in &self.columns {
            let cell = |figure: fn(&Sample) -> f64, digits: usize| {
                column.spread(figure).map_or_else(
                    || "failed".to_owned(),
                    |s| match s.high {
                        // Nothing was timed.
                        0.0 => "–".to_owned(),
                        _ => s.text(digits),
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
            let megabytes = if bytes {
                format!(" {} |", cell(|s| s.bytes_rate / 1e6, 1))
            } else {
                String::new()
            };
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} | {} |{megabytes} {} | {} | {} | {} |",
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
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} |",
                verdict.what,
                verdict.ratio.text(2),
                verdict.bound,
                held_word(verdict.held)
            );
        }
        for column in &self.columns {
            out.push_str(&column.said_of_peak());
        }
        let lost: u64 = samples().map(|s| s.lost).sum();
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
        r if r >= 1e9 => format!("{:.2} G", r / 1e9),
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
            latency: Latency::default(),
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
    fn a_difference_is_bounded_in_its_own_unit() {
        // 10, 10, 20 and 20 µs above the control: the median is 15.
        let verdict = &line(Bound::AtMostAbove(14.0)).verdicts()[0];
        assert_eq!((verdict.ratio.median, verdict.held), (15.0, Some(false)));
        assert_eq!(verdict.bound, "≤ +14 µs");
        assert!(verdict.what.contains('−'), "{}", verdict.what);
        let held = line(Bound::AtMostAbove(15.0)).verdicts()[0].held;
        assert_eq!(held, Some(true));
    }

    #[test]
    fn a_bound_on_one_subject_looks_at_no_other() {
        let mut line = line(Bound::AtMostItself(10.0));
        line.promises[0].against = "pinion".to_owned();
        line.promises[0].figure = Figure::Tail;
        // Medians of 20 and 40 µs: the tails are 5, 5, 15 and 15 times as long.
        for (sample, times) in line.columns[0]
            .samples
            .iter_mut()
            .zip([5.0, 5.0, 15.0, 15.0])
        {
            let sample = sample.as_mut().expect("four runs");
            sample.p999_us = sample.p50_us * times;
        }
        let verdict = &line.verdicts()[0];
        assert_eq!((verdict.ratio.median, verdict.held), (10.0, Some(true)));
        assert_eq!(verdict.what, "pinion, p99.9 / p50");
        line.promises[0].bound = Bound::AtMostItself(9.9);
        assert_eq!(line.verdicts()[0].held, Some(false));
    }

    #[test]
    fn a_row_says_when_its_peak_is_the_generators() {
        let mut line = line(Bound::AtMostItself(10.0));
        line.promises[0].against = "pinion".to_owned();
        assert!(
            !line.markdown().contains("on a schedule"),
            "none was looked for"
        );
        let mut limits = [
            LimitedBy::Generator,
            LimitedBy::Generator,
            LimitedBy::Server,
        ]
        .iter();
        for sample in line.columns[0].samples.iter_mut().flatten() {
            sample.peak = limits.next().map(|&limit| Peak {
                rate: 120_000.0,
                limit,
            });
        }
        let text = line.markdown();
        assert!(
            text.contains("pinion, p50 at half of what the generator can ask |"),
            "{text}"
        );
        assert!(
            text.contains("pinion: the most that was asked on a schedule"),
            "{text}"
        );
        assert!(text.contains("120 k (120 k–120 k) a second"), "{text}");
        assert!(
            text.contains("server 1 times, for the generator 2 times"),
            "{text}"
        );
        // Of as many for the server it is said of neither.
        let first = line.columns[0].samples.iter_mut().flatten().next();
        first.expect("a run").peak = Some(Peak {
            rate: 1.0,
            limit: LimitedBy::Server,
        });
        assert_eq!(line.verdicts()[0].what, "pinion, p50");
    }

    #[test]
    fn one_of_two_bounds_is_enough() {
        // The ratio is 2, our own median 30.
        let held = |ratio, absolute| line(Bound::AtLeastOr { ratio, absolute }).verdicts()[0].held;
        assert_eq!(held(2.0, 1e9), Some(true));
        assert_eq!(held(3.0, 30.0), Some(true));
        assert_eq!(held(3.0, 31.0), Some(false));
    }

    #[test]
    fn bytes_have_a_column_where_there_are_any() {
        let mut line = line(Bound::None);
        assert!(!line.markdown().contains("MB/s"));
        for sample in line.columns[0].samples.iter_mut().flatten() {
            sample.bytes_rate = 12e6;
        }
        let text = line.markdown();
        let bars = |start: &str| {
            let row = text.lines().find(|l| l.starts_with(start)).expect("a row");
            row.matches('|').count()
        };
        assert_eq!(bars("| subject"), bars("| pinion |"), "{text}");
        assert_eq!(bars("| subject"), bars("|---"), "{text}");
        assert!(text.contains("| 12.0 (12.0–12.0) |"), "{text}");
    }

    #[test]
    fn a_fact_nobody_found_holds_nothing() {
        let mut fact = Fact {
            what: "start".to_owned(),
            unit: "s",
            found: Spread::of(vec![1.0, 2.5, 9.0]),
            at_most: Some(2.5),
        };
        assert_eq!(fact.held(), Some(true));
        fact.found = None;
        assert_eq!(fact.held(), Some(false));
        let text = facts_markdown("Start", &[fact]);
        assert!(
            text.contains("| start | failed | ≤ 2.5 s | **missed** |"),
            "{text}"
        );
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
        assert_eq!(short(1e9), "1.00 G");
        assert_eq!(short(340_400.0), "340 k");
        assert_eq!(short(57.2), "57");
    }
}
