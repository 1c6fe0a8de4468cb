//! What one run prints: for people, or as one JSON object.

use std::fmt;

use serde::Serialize;

use super::latency::Summary;
use super::machine::{Disturbance, MachineFacts};
use super::measure::{Generator, Run};

/// Share of wall time in working turns above which the generator is called the
/// bottleneck.
pub const GENERATOR_BUSY_MAX: f64 = 0.9;

/// Everything that is known about one run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Which benchmark.
    pub bench: String,
    /// Its options as understood.
    pub options: String,
    /// Answers or deliveries counted.
    pub completed: u64,
    /// Seconds in which they were counted.
    pub seconds: f64,
    /// Answers or deliveries per second.
    pub rate: f64,
    /// Records announced as skipped, or requests not answered.
    pub lost: u64,
    /// Their latencies.
    pub latency: Summary,
    /// The generator's self check.
    pub generator: Generator,
    /// What else happened on the machine.
    pub disturbance: Disturbance,
    /// Where it was measured.
    pub machine: MachineFacts,
}

impl Report {
    /// The report of `run`.
    #[must_use]
    pub fn new(
        bench: &str,
        options: &str,
        run: &Run,
        disturbance: Disturbance,
        machine: MachineFacts,
    ) -> Self {
        Self {
            bench: bench.to_owned(),
            options: options.to_owned(),
            completed: run.completed,
            seconds: run.elapsed.as_secs_f64(),
            rate: run.rate(),
            lost: run.lost,
            latency: run.latency.summary(),
            generator: run.generator,
            disturbance,
            machine,
        }
    }

    /// One JSON object in one line.
    ///
    /// # Panics
    /// Never: every field is a number, a string or a list of them.
    #[must_use]
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("numbers, strings and lists have a JSON form")
    }

    /// What a reader must know before believing the figure.
    #[must_use]
    pub fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        if self.generator.busy_share > GENERATOR_BUSY_MAX {
            doubts.push(format!(
                "the generator worked {:.0} % of the time: it may be the limit, not the node",
                self.generator.busy_share * 100.0
            ));
        }
        if self.generator.slip_p99_us > 1000.0 {
            doubts.push(format!(
                "1 % of the requests left more than {:.0} µs late: lower --rate or --pin the generator",
                self.generator.slip_p99_us
            ));
        }
        if self.lost > 0 {
            doubts.push(format!(
                "{} records were skipped or requests not answered",
                self.lost
            ));
        }
        if self.disturbance.steal_share > 0.02 {
            doubts.push(format!(
                "the host took {:.1} % of the processors away",
                self.disturbance.steal_share * 100.0
            ));
        }
        doubts
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let latency = &self.latency;
        writeln!(f, "{}: {}", self.bench, self.machine.line())?;
        writeln!(
            f,
            "  {} in {:.2} s = {:.0} /s",
            self.completed, self.seconds, self.rate
        )?;
        writeln!(
            f,
            "  latency µs: min {:.1}  p50 {:.1}  p90 {:.1}  p99 {:.1}  p99.9 {:.1}  p99.99 {:.1}  max {:.1}",
            latency.min_us,
            latency.p50_us,
            latency.p90_us,
            latency.p99_us,
            latency.p999_us,
            latency.p9999_us,
            latency.max_us
        )?;
        write!(
            f,
            "  generator: {:.0} % CPU, {:.0} % of the time working, slip p99 {:.1} µs, max {:.1} µs",
            self.generator.cpu_share * 100.0,
            self.generator.busy_share * 100.0,
            self.generator.slip_p99_us,
            self.generator.slip_max_us
        )?;
        for doubt in self.doubts() {
            write!(f, "\n  note: {doubt}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::latency::Latency;
    use super::*;

    fn run() -> Run {
        let mut latency = Latency::default();
        latency.record_n(20_000, 100);
        Run {
            completed: 100,
            elapsed: Duration::from_millis(500),
            latency,
            lost: 0,
            generator: Generator::default(),
        }
    }

    #[test]
    fn the_json_has_the_figures_and_the_machine() {
        let report = Report::new(
            "rtt",
            "none",
            &run(),
            Disturbance::default(),
            MachineFacts::read(),
        );
        let json: serde_json::Value = serde_json::from_str(&report.json()).expect("JSON");
        assert_eq!(json["completed"], 100);
        assert_eq!(json["rate"], 200.0);
        assert!(
            json["latency"]["p99_us"]
                .as_f64()
                .is_some_and(|us| (us - 20.0).abs() < 0.1)
        );
        assert!(json["machine"]["kernel"].is_string());
    }

    #[test]
    fn a_figure_that_measures_the_generator_says_so() {
        let mut run = run();
        let quiet = Disturbance::default();
        let report = |run: &Run| Report::new("rtt", "", run, quiet, MachineFacts::read());
        assert_eq!(report(&run).doubts(), [""; 0]);
        run.generator.busy_share = 0.97;
        run.lost = 3;
        let doubts = report(&run).doubts();
        assert!(doubts[0].contains("97 %"), "{doubts:?}");
        assert!(doubts[1].contains("3 records"), "{doubts:?}");
    }
}
