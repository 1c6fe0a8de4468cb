//! What administrators wait for, and what they cost those who use the data: pages, metrics,
//! lists with a hundred thousand rows, a flood, a backup, and clients that drip.
//!
//! Each section starts a node of its own, whose data core has one processor and whose
//! control thread has the other, which it shares with whoever asks. `place` is that node,
//! `https` an administrator, `data` who uses the data plane, `beside` how the one is
//! measured beside the other; every other file is a section that says what is done and why
//! its bound is what it is. Start reading with `SECTIONS`.

mod backup;
mod beside;
mod data;
mod drip;
mod flood;
mod https;
mod lists;
mod node_side;
mod pages;
mod place;
mod scrape;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pinion_cli::bench::machine::{MachineFacts, OTHERS_SHARE_MAX};
use pinion_cli::bench::measure::{BenchError, Span};
use pinion_client::native::NativeClient;

use crate::scale::{Limit, declare};
use crate::server::Node;
use crate::table::{Fact, Spread, facts_markdown};
use crate::turns::{self, GENERATOR_CPU, Marks, SERVER_CPU};
use beside::{Background, Count, Rounds};
use data::{DataClient, First, RATE, TRAFFIC};
use place::Place;

/// What is measured of administrators.
#[derive(Clone, Debug, clap::Args)]
pub struct AdminArgs {
    /// The node's binary
    #[arg(long, default_value = "target/release/pinion")]
    bin: PathBuf,
    /// A directory on a disk, for the nodes
    #[arg(long, default_value = "target")]
    dir: PathBuf,
    /// A part of everything, in at most two minutes: to see that everything works
    #[arg(long)]
    quick: bool,
    /// Only sections whose title contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Write the tables between the marks of this Markdown file
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "docs/benchmarks.md")]
    publish: Option<PathBuf>,
    /// Measure and publish although the machine is busy
    #[arg(long)]
    force: bool,
}

/// Where the tables go.
const MARKS: Marks = Marks {
    begin: "<!-- suite-admin:begin -->",
    end: "<!-- suite-admin:end -->",
};

/// Longest time to declare what a section needs.
const DECLARE_MAX: Duration = Duration::from_secs(120);

/// Share of disturbed rounds above which nothing is published.
const DISTURBED_MAX: f64 = 0.25;

/// How long traffic goes on before it looks whether it is to end.
const MOMENT: Span = Span {
    warmup: Duration::ZERO,
    measured: Duration::from_millis(200),
};

/// How much of everything.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    /// Streams and queues, half of each, where there are to be some.
    few: usize,
    /// Streams of a reading of the metrics.
    streams: usize,
    /// Streams and queues, half of each, of lists.
    resources: usize,
    /// Requests for each page.
    requests: usize,
    /// Readings of the metrics.
    scrapes: usize,
    /// Requests for each list a second after anything else, and at once.
    later: usize,
    soon: usize,
    /// Looks of others while many drip.
    looks: usize,
    /// Bytes that are there when a backup is made.
    backup_bytes: u64,
    rounds: Rounds,
    long_rounds: Rounds,
}

const fn rounds(count: usize, measured_ms: u64) -> Rounds {
    Rounds {
        count,
        span: Span {
            warmup: Duration::from_millis(200),
            measured: Duration::from_millis(measured_ms),
        },
    }
}

const WHOLE: Sizes = Sizes {
    few: 2_000,
    streams: 10_000,
    resources: 100_000,
    requests: 200,
    scrapes: 30,
    later: 5,
    soon: 40,
    looks: 100,
    backup_bytes: 1 << 30,
    rounds: rounds(15, 2_000),
    long_rounds: rounds(3, 6_000),
};

const QUICK: Sizes = Sizes {
    few: 200,
    streams: 1_000,
    resources: 10_000,
    requests: 20,
    scrapes: 3,
    later: 1,
    soon: 5,
    looks: 20,
    backup_bytes: 64 << 20,
    rounds: rounds(2, 1_000),
    long_rounds: rounds(2, 1_000),
};

/// One question.
struct Section {
    title: &'static str,
    /// How the figures came about.
    note: &'static str,
    play: fn(&Stage<'_>, &mut Found) -> Result<(), BenchError>,
}

/// All of them, in the order in which they are played.
const SECTIONS: [Section; 6] = [
    Section {
        title: "Pages of the dashboard",
        note: pages::NOTE,
        play: pages::play,
    },
    Section {
        title: "Metrics",
        note: scrape::NOTE,
        play: scrape::play,
    },
    Section {
        title: "A flood of administrators",
        note: flood::NOTE,
        play: flood::play,
    },
    Section {
        title: "Lists",
        note: lists::NOTE,
        play: lists::play,
    },
    Section {
        title: "A backup under load",
        note: backup::NOTE,
        play: backup::play,
    },
    Section {
        title: "Clients that drip",
        note: drip::NOTE,
        play: drip::play,
    },
];

/// What a section found so far.
#[derive(Debug, Default)]
struct Found {
    facts: Vec<Fact>,
    /// Rounds beside each other, and those in which others used the machine.
    runs: usize,
    disturbed: usize,
}

impl Found {
    fn fact(
        &mut self,
        what: impl Into<String>,
        unit: &'static str,
        found: Vec<f64>,
        at_most: Option<f64>,
    ) {
        self.facts.push(Fact {
            what: what.into(),
            unit,
            found: Spread::of(found),
            at_most,
        });
    }

    /// A figure with its bound.
    fn held(&mut self, what: impl Into<String>, unit: &'static str, found: Vec<f64>, at_most: f64) {
        self.fact(what, unit, found, Some(at_most));
    }

    /// A figure for orientation.
    fn told(&mut self, what: impl Into<String>, unit: &'static str, found: Vec<f64>) {
        self.fact(what, unit, found, None);
    }
}

/// What every section stands on.
struct Stage<'a> {
    node: &'a Node,
    dir: &'a Path,
    sizes: Sizes,
}

impl Stage<'_> {
    fn start(&self) -> Result<Place, BenchError> {
        Place::start(self.node, self.dir)
    }

    const fn node(&self) -> &Node {
        self.node
    }

    fn bin(&self) -> PathBuf {
        self.node.binary.clone()
    }

    const fn dir(&self) -> &Path {
        self.dir
    }

    /// Declares `count` streams and queues, half of each, with something in each.
    fn declare(&self, place: &Place, count: usize) -> Result<(), BenchError> {
        let mut client = NativeClient::new(place.config()?)?;
        declare(&mut client, 0..count, &Limit::new(DECLARE_MAX))?;
        Ok(client.close_all()?)
    }

    /// Somebody who uses the data until they are told to end. What they use is there.
    fn traffic(&self, place: &Place) -> Result<Background, BenchError> {
        let config = place.config()?;
        DataClient::new(config.clone(), false)?.close()?;
        let mut background = Background::new();
        background.spawn(move |stop| {
            let mut data = DataClient::new(config, false)?;
            let first = First::begin();
            while !stop.load(Ordering::Relaxed) {
                data.run_as(&first, TRAFFIC, MOMENT)?;
            }
            Ok(Count {
                done: data.acked(),
                refused: 0,
            })
        });
        Ok(background)
    }
}

/// What one section found.
struct Played {
    section: &'static Section,
    found: Found,
    failed: Option<String>,
    seconds: f64,
}

/// Measures, prints, and writes down what was found where that is asked for. Exit code 0
/// when each section came to its end, whether or not every bound was held; 1 when one did
/// not, or when the machine was too busy.
#[must_use]
pub fn run(args: &AdminArgs) -> ExitCode {
    match try_run(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("admin-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn try_run(args: &AdminArgs) -> Result<bool, BenchError> {
    let (machine, _) = turns::prepare(args.force)?;
    let node = Node {
        binary: args.bin.clone(),
        arguments: Vec::new(),
    };
    std::fs::create_dir_all(&args.dir).map_err(BenchError::io("--dir"))?;
    let stage = Stage {
        node: &node,
        dir: &args.dir,
        sizes: if args.quick { QUICK } else { WHOLE },
    };
    let began = Instant::now();
    let wanted = args.only.as_deref().unwrap_or_default().to_lowercase();
    let mut played = Vec::new();
    for section in &SECTIONS {
        if section.title.to_lowercase().contains(&wanted) {
            eprintln!("{}", section.title);
            played.push(play(section, &stage));
        }
    }
    let text = markdown(&machine, &played, began.elapsed(), args.quick);
    println!("{text}");
    let whole = played.iter().all(|one| one.failed.is_none());
    if let Some(path) = &args.publish {
        if !whole || args.only.is_some() {
            return Err(BenchError::Options(
                "not published: not every section came to its end".to_owned(),
            ));
        }
        let (runs, disturbed) = disturbed(&played);
        if disturbed > runs * DISTURBED_MAX && !args.force {
            return Err(BenchError::Options(format!(
                "{disturbed} of {runs} rounds were disturbed: not published; run again, or pass --force"
            )));
        }
        turns::publish(path, &text, MARKS).map_err(BenchError::io("--publish"))?;
    }
    Ok(whole)
}

fn play(section: &'static Section, stage: &Stage<'_>) -> Played {
    let began = Instant::now();
    let mut found = Found::default();
    let failed = (section.play)(stage, &mut found).err();
    let failed = failed.map(|error| error.to_string());
    if let Some(failed) = &failed {
        eprintln!("  failed: {failed}");
    }
    Played {
        section,
        found,
        failed,
        seconds: began.elapsed().as_secs_f64(),
    }
}

fn disturbed(played: &[Played]) -> (f64, f64) {
    let sum = |of: fn(&Found) -> usize| played.iter().map(|one| of(&one.found)).sum::<usize>();
    let (runs, disturbed) = (sum(|found| found.runs), sum(|found| found.disturbed));
    (count(runs as u64), count(disturbed as u64))
}

fn markdown(machine: &MachineFacts, played: &[Played], took: Duration, quick: bool) -> String {
    let (runs, disturbed) = disturbed(played);
    let mut out = format!(
        "Machine: {}.\n\nThe node's data core on CPU {SERVER_CPU}, its control thread and all clients on CPU {GENERATOR_CPU}, loopback. Median (lowest–highest) where there is more than \
         one round; {disturbed} of {runs} rounds while other processes used more than {:.0} % of the machine; {:.1} minutes in all.\n",
        machine.line(),
        OTHERS_SHARE_MAX * 100.0,
        took.as_secs_f64() / 60.0,
    );
    let _ = writeln!(
        out,
        "\nBeside what administrators do, {} GETs of a cache and as many publishes a second are made on one connection, on a schedule, 100 B each. Their client shares a processor with the \
         control thread and the administrators, and has the first turn on it (in real time, where chrt may say so), as if it had its own: otherwise its p99 would be that of a processor that others have. \
         The node's own histogram, which has one request in 64 and buckets a factor of 1.5 apart, tells of the data core alone; of it all rounds count together.",
        RATE / 2,
    );
    if quick {
        out.push_str("\nWith `--quick`: a part of everything, for moments only.\n");
    }
    for one in played {
        out.push('\n');
        out.push_str(&facts_markdown(one.section.title, &one.found.facts));
        if let Some(failed) = &one.failed {
            let _ = writeln!(out, "\n**It did not come to its end**: {failed}.");
        }
        let _ = writeln!(out, "\n{} {:.0} s.", one.section.note, one.seconds);
    }
    out
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A count as tables take it.
#[allow(clippy::cast_precision_loss, reason = "counts far below 2^53")]
const fn count(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_that_failed_says_so_and_keeps_what_it_found() {
        static FAILS: Section = Section {
            title: "One that fails",
            note: "A note.",
            play: |_, found| {
                found.runs = 4;
                found.disturbed = 1;
                found.held("a fact", "ms", vec![3.0], 2.0);
                Err(BenchError::Closed { peer: "the node" })
            },
        };
        let node = Node {
            binary: "/nonexistent".into(),
            arguments: Vec::new(),
        };
        let stage = Stage {
            node: &node,
            dir: Path::new("/nonexistent"),
            sizes: QUICK,
        };
        let played = [play(&FAILS, &stage)];
        assert_eq!(disturbed(&played), (4.0, 1.0));
        let page = markdown(&MachineFacts::read(), &played, Duration::ZERO, true);
        assert!(page.contains("| a fact | 3.00 (3.00–3.00) ms | ≤ 2 ms | **missed** |"));
        assert!(page.contains("did not come to its end**: the node closed the connection."));
    }
}
