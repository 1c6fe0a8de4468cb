//! Every line of the promise about what is durable, beside its controls.
//!
//! It works as [`suite`](crate::suite) does: subjects take turns with a fresh
//! server on one processor and the generator on another, and ratios are formed
//! within a round. Everything that is durable writes to one file system, the
//! one of `--dir`. The disk without a server is the first control
//! ([`disk`](crate::disk)), run on the processor of the servers.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use pinion_cli::bench::machine::{Disturbance, MachineFacts};
use pinion_cli::bench::measure::BenchError;
use serde::Serialize;

use crate::log_session::{DEPTH, Session};
use crate::table::{Bound, Fact, Figure, Line, facts_markdown};
use crate::turns::{self, Marks, Output, Tally, heading};

const MARKS: Marks = Marks {
    begin: "<!-- suite-log:begin -->",
    end: "<!-- suite-log:end -->",
};

/// Compare what is durable with its controls
#[derive(Clone, Debug, Parser)]
pub struct LogArgs {
    /// The node's binary
    #[arg(long, default_value = "target/release/pinion")]
    pub(crate) pinion: PathBuf,
    /// Further argument of `pinion serve`; may be repeated
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub(crate) serve_arg: Vec<String>,
    /// Folder on the disk to be measured; a folder of its own is made in it and
    /// removed [default: beside this binary]
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// Runs of every subject
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: usize,
    /// Seconds measured in each run
    #[arg(long, default_value_t = 2.5)]
    pub(crate) seconds: f64,
    /// Seconds before measuring starts
    #[arg(long, default_value_t = 0.5)]
    pub(crate) warmup: f64,
    /// Three rounds of half a second, 2,000 streams, half a GiB of log: to see that everything works
    #[arg(long)]
    pub(crate) quick: bool,
    /// Only lines whose title contains this
    #[arg(long, value_name = "TEXT")]
    pub(crate) only: Option<String>,
    /// Durable streams of the line about many
    #[arg(long, default_value_t = 100_000)]
    pub(crate) streams: usize,
    /// GiB of log for restarts and cold replay [default: what is free, at most 10]
    #[arg(long, value_name = "GIB")]
    pub(crate) fill: Option<f64>,
    /// KiB of one request of the sequential read control; as the node's cold reads
    #[arg(long, value_name = "KIB", default_value_t = 256)]
    pub(crate) read_kib: usize,
    /// Begin no run after so many minutes
    #[arg(long, default_value_t = 40.0)]
    pub(crate) minutes_max: f64,
    #[command(flatten)]
    output: Output,
}

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Pinion,
    /// Beside itself with more in flight.
    PinionSingle,
    /// Nothing on the disk.
    PinionMemory,
    PinionManyStreams,
    PinionFewStreams,
    PinionReplaying,
    Raw,
    JetStream,
    BeanstalkdSync,
    BeanstalkdMemory,
}

impl Subject {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Pinion => "Pinion, fsync before ack",
            Self::PinionSingle => "Pinion, one in flight",
            Self::PinionMemory => "Pinion, not durable",
            Self::PinionManyStreams => "Pinion, many streams",
            Self::PinionFewStreams => "Pinion, 10 streams",
            Self::PinionReplaying => "Pinion, beside a replay",
            Self::Raw => "raw O_DIRECT",
            Self::JetStream => "JetStream file, **acks before fsync**",
            Self::BeanstalkdSync => "beanstalkd -f0, fsync each",
            Self::BeanstalkdMemory => "beanstalkd, in memory",
        }
    }
}

/// What is asked of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Work {
    Publish { depth: u32 },
    PublishLarge,
    Queue,
    ManyStreams,
    ColdReplay,
    LiveBesideReplay,
}

pub(crate) struct Plan {
    pub(crate) title: &'static str,
    pub(crate) work: Work,
    pub(crate) subjects: &'static [Subject],
    pub(crate) promises: &'static [(Subject, Figure, Bound)],
    pub(crate) note: &'static str,
}

/// The lines of the promise, in its order. Restarts, start and memory are
/// facts of their own.
pub(crate) const PLANS: &[Plan] = &[
    Plan {
        title: "Durable publish 256 B, one in flight",
        work: Work::Publish { depth: 1 },
        subjects: &[Subject::Pinion, Subject::Raw, Subject::JetStream],
        promises: &[
            (Subject::Raw, Figure::P50, Bound::AtMostAbove(60.0)),
            (Subject::Raw, Figure::P99, Bound::AtMost(2.0)),
            (Subject::JetStream, Figure::P50, Bound::None),
        ],
        note: "Raw: one block written and `fdatasync`, with no network in between.",
    },
    Plan {
        title: "Durable publish 256 B, 256 in flight",
        work: Work::Publish { depth: DEPTH },
        subjects: &[
            Subject::Pinion,
            Subject::PinionSingle,
            Subject::Raw,
            Subject::JetStream,
        ],
        promises: &[
            (Subject::PinionSingle, Figure::Rate, Bound::AtLeast(100.0)),
            (Subject::Raw, Figure::Rate, Bound::None),
            (Subject::JetStream, Figure::Rate, Bound::AtLeast(1.0)),
        ],
        note: "Raw: all 256 in one write and one `fdatasync`.",
    },
    Plan {
        title: "Durable publish, large batches of 256 B records",
        work: Work::PublishLarge,
        subjects: &[
            Subject::Pinion,
            Subject::PinionMemory,
            Subject::Raw,
            Subject::JetStream,
        ],
        promises: &[
            (Subject::Raw, Figure::BytesRate, Bound::AtLeast(0.7)),
            (Subject::PinionMemory, Figure::BytesRate, Bound::None),
            (Subject::JetStream, Figure::Rate, Bound::None),
        ],
        note: "Pinion: 3,900 records a publish, 4 in flight; values count as bytes, headers do not. \
               Raw: 1 MiB written and `fdatasync`, one after the other, over and over into \
               zeros that were written before. JetStream: 4,096 publishes of \
               one record in flight. Times are those of a whole publish.",
    },
    Plan {
        title: "Queue put, take, ack, 100 B, durable, 32 producers and 32 consumers",
        work: Work::Queue,
        subjects: &[Subject::Pinion, Subject::BeanstalkdSync, Subject::JetStream],
        promises: &[
            (Subject::BeanstalkdSync, Figure::Rate, Bound::AtLeast(10.0)),
            (Subject::JetStream, Figure::Rate, Bound::AtLeast(1.0)),
        ],
        note: "Every client has its own connection; Pinion's come from one socket, so that their datagrams \
               go together. A producer waits for the answer to its put and has at \
               most 16 messages unfinished; a message is done when its consumer was told that the ack is in \
               force, and times count from its put. Takes of up to 100 where the protocol has them; \
               beanstalkd reserves one, and asks for the next in the same write as it deletes. JetStream's \
               acks are confirmed.",
    },
    Plan {
        title: "Queue put, take, ack, 100 B, not durable, 32 producers and 32 consumers",
        work: Work::Queue,
        subjects: &[Subject::PinionMemory, Subject::BeanstalkdMemory],
        promises: &[(Subject::BeanstalkdMemory, Figure::Rate, Bound::AtLeast(3.0))],
        note: "As above, in memory.",
    },
    Plan {
        title: "Durable publish 256 B to one of many streams, one in flight",
        work: Work::ManyStreams,
        subjects: &[Subject::PinionManyStreams, Subject::PinionFewStreams],
        promises: &[(Subject::PinionFewStreams, Figure::P99, Bound::AtMost(1.5))],
        note: "Each stream holds a record; the node was started anew on them.",
    },
    Plan {
        title: "Cold replay of a durable stream",
        work: Work::ColdReplay,
        subjects: &[Subject::Pinion, Subject::Raw],
        promises: &[(
            Subject::Raw,
            Figure::BytesRate,
            Bound::AtLeastOr {
                ratio: 0.7,
                absolute: 1e9,
            },
        )],
        note: "The node was started anew on the log. Per second are bytes of records. Raw: its segments read \
               from front to back with O_DIRECT, one request at a time.",
    },
    Plan {
        title: "Live durable publish 256 B beside a cold replay, 1,000 a second",
        work: Work::LiveBesideReplay,
        subjects: &[Subject::PinionReplaying, Subject::Pinion],
        promises: &[(Subject::Pinion, Figure::P99, Bound::AtMost(2.0))],
        note: "One thread generates the publishes and takes in the replay: where its slip is large, the p99 \
               is partly its own.",
    },
];

/// Everything one run of the suite found.
#[derive(Clone, Debug, Serialize)]
pub struct Findings {
    pub(crate) machine: MachineFacts,
    pub(crate) disturbance_before: Disturbance,
    pub(crate) tally: Tally,
    pub(crate) lines: Vec<(Line, &'static str)>,
    pub(crate) many: Vec<Fact>,
    pub(crate) restarts: Vec<Fact>,
    pub(crate) minutes: f64,
    pub(crate) cut_short: bool,
}

/// Runs the suite. Exit code 0 when it ran to its end, whether or not every
/// bound was held; 1 when it could not, or when the machine was too busy.
#[must_use]
pub fn run(args: &LogArgs) -> ExitCode {
    match try_run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn try_run(args: &LogArgs) -> Result<(), BenchError> {
    let session = Session::new(args)?;
    let (machine, before) = turns::prepare(args.output.force)?;
    let findings = session.all(machine, before);
    args.output
        .write_distributions(findings.lines.iter().map(|(line, _)| line))?;
    args.output
        .deliver(&findings.markdown(), &findings, findings.tally, MARKS)
}

impl Findings {
    /// The whole report as Markdown.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut out = heading(&self.machine, self.tally, self.minutes, self.cut_short);
        for (line, note) in &self.lines {
            out.push('\n');
            out.push_str(&line.markdown());
            out.push('\n');
            out.push_str(note);
            out.push('\n');
        }
        for (title, facts) in [("Many streams", &self.many), ("Restart", &self.restarts)] {
            if !facts.is_empty() {
                out.push('\n');
                out.push_str(&facts_markdown(title, facts));
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_promise_names_a_subject_of_its_line_and_a_node_comes_first() {
        for plan in PLANS {
            let first = plan.subjects.first().expect("a subject");
            assert!(first.name().starts_with("Pinion"), "{}", plan.title);
            for (against, ..) in plan.promises {
                assert!(plan.subjects[1..].contains(against), "{}", plan.title);
            }
        }
    }
}
