//! Latency by throughput: a cache read at ten shares of what each subject can
//! give at most.
//!
//! The peak is found first, closed loop. The steps are open loop: requests
//! leave on their schedule, and latency counts from the time each was meant to
//! leave. As everywhere the subjects take turns with a fresh server each. A
//! sweep is one round, for a curve; what is promised is in the other suites.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use pinion_cli::bench::machine::MachineFacts;
use pinion_cli::bench::measure::{BenchError, Driver, Span, closed_loop, open_loop};
use pinion_cli::bench::rpc::{Ask, CacheLoad, Rpc};
use serde::Serialize;

use crate::plot::{self, LoadCurve, LoadPoint};
use crate::redis::Redis;
use crate::server::{self, Certificate, Node, Server};
use crate::suite::node_config;
use crate::table::{Sample, short};
use crate::turns::{
    self, Marks, Output, SERVER_CPU, TRIES_AGAIN_MAX, Tally, Unit, heading, said_of_tries, seconds,
    undisturbed,
};

const TITLE: &str = "Cache GET 100 B by load, 32 connections";

/// Connections of the generator, and requests in flight on each at the peak.
const CONNECTIONS: usize = 32;
const DEPTH: u32 = 16;

/// Requests in flight on a connection that are still recognised when a server
/// falls behind its schedule: some hundred milliseconds at the highest rates.
const BACKLOG: u32 = 1024;

/// Steps to the peak.
const STEPS: u32 = 10;

const LOAD: CacheLoad = CacheLoad {
    keys: 10_000,
    value_bytes: 100,
    get_share: 1.0,
};

const MARKS: Marks = Marks {
    begin: "<!-- suite-sweep:begin -->",
    end: "<!-- suite-sweep:end -->",
};

/// Latency by throughput, beside Redis
#[derive(Clone, Debug, Parser)]
pub struct SweepArgs {
    /// The node's binary
    #[arg(long, default_value = "target/release/pinion")]
    pinion: PathBuf,
    /// Further argument of `pinion serve`; may be repeated
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    serve_arg: Vec<String>,
    /// Seconds measured in each run
    #[arg(long, default_value_t = 2.5)]
    seconds: f64,
    /// Seconds before measuring starts
    #[arg(long, default_value_t = 0.5)]
    warmup: f64,
    /// Half a second each: to see that everything works
    #[arg(long)]
    quick: bool,
    /// Begin no run after so many minutes
    #[arg(long, default_value_t = 8.0)]
    minutes_max: f64,
    #[command(flatten)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Pinion,
    RedisPlain,
    RedisTls,
}

const SUBJECTS: [Subject; 3] = [Subject::Pinion, Subject::RedisPlain, Subject::RedisTls];

impl Subject {
    const fn name(self) -> &'static str {
        match self {
            Self::Pinion => "Pinion",
            Self::RedisPlain => "Redis plaintext",
            Self::RedisTls => "Redis TLS",
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Load {
    /// As many as it answers with [`DEPTH`] in flight on every connection.
    Peak,
    /// So many a second.
    At(f64),
}

/// One rate of one subject.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// Share of its peak that was asked.
    pub share: f64,
    /// Requests per second that were asked.
    pub asked: f64,
    /// What was found.
    pub sample: Sample,
}

/// All rates of one subject.
#[derive(Clone, Debug, Serialize)]
pub struct Climb {
    /// Who.
    pub subject: &'static str,
    /// The most it answered in a second, closed loop; none when that run failed.
    pub peak: Option<f64>,
    /// In the order of their rates. A run that failed is left out.
    pub steps: Vec<Step>,
}

/// Everything one sweep found.
#[derive(Clone, Debug, Serialize)]
pub struct Findings {
    machine: MachineFacts,
    tally: Tally,
    climbs: Vec<Climb>,
    minutes: f64,
    cut_short: bool,
}

/// Runs the sweep. Exit code 0 when it ran to its end; 1 when it could not, or when the machine was too busy.
#[must_use]
pub fn run(args: &SweepArgs) -> ExitCode {
    match try_run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn try_run(args: &SweepArgs) -> Result<(), BenchError> {
    let session = Session::new(args)?;
    let (machine, _) = turns::prepare(args.output.force)?;
    let findings = session.all(machine);
    if let Some(svg) = findings.chart() {
        args.output.write_plot(TITLE, &svg)?;
    }
    args.output
        .deliver(&findings.markdown(), &findings, findings.tally, MARKS)
}

struct Session<'a> {
    args: &'a SweepArgs,
    node: Node,
    certificate: Certificate,
    dir: tempfile::TempDir,
    span: Span,
    started: Instant,
    tally: Tally,
}

impl<'a> Session<'a> {
    fn new(args: &'a SweepArgs) -> Result<Self, BenchError> {
        let certificate = Certificate::new().map_err(BenchError::io("making a certificate"))?;
        let dir = tempfile::tempdir().map_err(BenchError::io("temporary directory"))?;
        certificate
            .write(dir.path())
            .map_err(BenchError::io("writing the certificate"))?;
        let measured = if args.quick {
            Duration::from_millis(500)
        } else {
            seconds("--seconds", args.seconds)?
        };
        Ok(Self {
            args,
            node: Node {
                binary: args.pinion.clone(),
                arguments: args.serve_arg.clone(),
            },
            certificate,
            dir,
            span: Span {
                warmup: seconds("--warmup", args.warmup)?,
                measured,
            },
            started: Instant::now(),
            tally: Tally::default(),
        })
    }

    fn is_over(&self) -> bool {
        self.started.elapsed().as_secs_f64() > self.args.minutes_max * 60.0
    }

    fn all(mut self, machine: MachineFacts) -> Findings {
        eprintln!("{TITLE}");
        let mut climbs = Vec::new();
        for subject in SUBJECTS {
            climbs.push(Climb {
                subject: subject.name(),
                peak: self.count(subject, Load::Peak).map(|sample| sample.rate),
                steps: Vec::new(),
            });
        }
        for step in 1..=STEPS {
            let share = f64::from(step) / f64::from(STEPS);
            for (subject, climb) in SUBJECTS.into_iter().zip(&mut climbs) {
                let Some(asked) = climb.peak.map(|peak| peak * share) else {
                    continue;
                };
                if let Some(sample) = self.count(subject, Load::At(asked)) {
                    climb.steps.push(Step {
                        share,
                        asked,
                        sample,
                    });
                }
            }
        }
        Findings {
            machine,
            tally: self.tally,
            climbs,
            minutes: self.started.elapsed().as_secs_f64() / 60.0,
            cut_short: self.is_over(),
        }
    }

    fn count(&mut self, subject: Subject, load: Load) -> Option<Sample> {
        undisturbed(TRIES_AGAIN_MAX, || {
            if self.is_over() {
                return None;
            }
            let result = self.measure(subject, load);
            self.tally.count(subject.name(), result)
        })
    }

    fn measure(&self, subject: Subject, load: Load) -> Result<Sample, BenchError> {
        match subject {
            Subject::Pinion => {
                let dir = tempfile::tempdir().map_err(BenchError::io("temporary directory"))?;
                // Ends before its directory goes.
                let node = self
                    .node
                    .start(SERVER_CPU, dir.path())
                    .map_err(BenchError::io("starting the node"))?;
                let config = node_config(&node, dir.path())?;
                let mut driver = Rpc::new(config, CONNECTIONS, BACKLOG, Ask::Cache(LOAD))?;
                self.drive(&node, &mut driver, load)
            }
            Subject::RedisPlain | Subject::RedisTls => {
                let tls = subject == Subject::RedisTls;
                let server = server::redis(SERVER_CPU, tls.then(|| self.dir.path()))
                    .map_err(BenchError::io("Redis"))?;
                let config = self
                    .certificate
                    .client_config()
                    .map_err(BenchError::io("TLS"))?;
                let mut driver =
                    Redis::new(server.address(), tls.then_some(&config), CONNECTIONS, &LOAD)?;
                self.drive(&server, &mut driver, load)
            }
        }
    }

    fn drive<D: Driver>(
        &self,
        server: &Server,
        driver: &mut D,
        load: Load,
    ) -> Result<Sample, BenchError> {
        turns::observe(&[server.pid()], Unit::ONE, || match load {
            Load::Peak => closed_loop(driver, DEPTH, self.span),
            Load::At(rate) => open_loop(driver, rate, self.span),
        })
    }
}

impl Findings {
    /// The whole report as Markdown.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut out = heading(&self.machine, self.tally, self.minutes, self.cut_short);
        out.push_str(&said_of_tries());
        out.push_str(&climbs_markdown(&self.climbs));
        out
    }

    fn chart(&self) -> Option<String> {
        let curves: Vec<LoadCurve> = self.climbs.iter().map(Climb::curve).collect();
        match plot::by_load(TITLE, &curves) {
            Ok(svg) => Some(svg),
            Err(error) => {
                // The figures stand without it.
                eprintln!("no plot: {error}");
                None
            }
        }
    }
}

impl Climb {
    fn curve(&self) -> LoadCurve {
        let point = |step: &Step| LoadPoint {
            rate: step.sample.rate,
            p50_us: step.sample.p50_us,
            p99_us: step.sample.p99_us,
        };
        LoadCurve {
            name: self.subject.to_owned(),
            points: self.steps.iter().map(point).collect(),
        }
    }
}

fn climbs_markdown(climbs: &[Climb]) -> String {
    let mut out = format!(
        "\n### {TITLE}\n\n\
         | subject | share of its peak | asked per second | answered | p50 µs | p99 µs | p99.9 µs | generator busy | slip p99 µs |\n\
         |---|---|---|---|---|---|---|---|---|\n"
    );
    for climb in climbs {
        let Some(peak) = climb.peak else {
            let _ = writeln!(out, "| {} | failed | | | | | | | |", climb.subject);
            continue;
        };
        for Step {
            share,
            asked,
            sample,
        } in &climb.steps
        {
            let _ = writeln!(
                out,
                "| {} | {:.0} % of {} | {} | {} | {:.1} | {:.1} | {:.0} | {:.0} % | {:.1} |",
                climb.subject,
                share * 100.0,
                short(peak),
                short(*asked),
                short(sample.rate),
                sample.p50_us,
                sample.p99_us,
                sample.p999_us,
                sample.generator_busy * 100.0,
                sample.slip_p99_us,
            );
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn climb(peak: Option<f64>, rates: &[f64]) -> Climb {
        Climb {
            subject: "ours",
            peak,
            steps: rates
                .iter()
                .map(|&rate| Step {
                    share: 0.5,
                    asked: rate * 2.0,
                    sample: Sample {
                        p50_us: 10.0,
                        p99_us: 40.0,
                        rate,
                        ..Sample::default()
                    },
                })
                .collect(),
        }
    }

    #[test]
    fn a_curve_is_drawn_at_what_was_answered_not_at_what_was_asked() {
        let curve = climb(Some(1e6), &[1e5, 2e5]).curve();
        let rates: Vec<f64> = curve.points.iter().map(|p| p.rate).collect();
        assert_eq!(rates, [1e5, 2e5]);
    }

    #[test]
    fn every_row_has_the_columns_of_its_head() {
        let text = climbs_markdown(&[climb(Some(1e6), &[1e5]), climb(None, &[])]);
        let bars = |line: &str| line.matches('|').count();
        let rows: Vec<_> = text.lines().filter(|l| l.starts_with('|')).collect();
        assert_eq!(rows.len(), 4, "{text}");
        assert!(rows.iter().all(|row| bars(row) == bars(rows[0])), "{text}");
        assert!(
            rows[2].contains("50 % of 1.00 M | 200 k | 100 k | 10.0 | 40.0"),
            "{text}"
        );
        assert!(rows[3].contains("failed"), "{text}");
    }

    #[test]
    fn the_subjects_fit_one_chart() {
        let curves: Vec<_> = SUBJECTS
            .iter()
            .map(|_| climb(Some(1e6), &[1e5]).curve())
            .collect();
        assert!(plot::by_load(TITLE, &curves).is_ok());
    }
}
