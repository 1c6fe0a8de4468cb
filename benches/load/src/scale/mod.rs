//! What a node does when there is much of everything: connections,
//! subscriptions, resources, cached bytes, subscribers, slow consumers,
//! requests beyond its capacity, and deadlines in one millisecond.
//!
//! Each scenario starts a node of its own as a process on the server's
//! processor, drives it from the generator's with the native client, and ends
//! with facts: what was found, the most it may be, and whether that was held.
//! A promise "at least" is told as how much is missing, so that every bound
//! reads the same way. No scenario outlives its named limit.
//!
//! Start reading with `SCENARIOS`, then with any of its files: each says what
//! is done and why its bound is what it is. `stage` is what they stand on;
//! `crowd`, `ask` and `drivers` are who drives the node.

mod ask;
mod connections;
mod crowd;
mod drivers;
mod fanout;
mod fill;
mod overload;
mod resources;
mod slow;
mod stage;
mod storm;
mod subscriptions;

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use pinion_cli::bench::machine::{Disturbance, MachineFacts, OTHERS_SHARE_MAX};
use pinion_cli::bench::measure::BenchError;
use serde::Serialize;

use crate::server::Node;
use crate::table::{Fact, facts_markdown};
use crate::turns::{self, GENERATOR_CPU, Marks, Output, SERVER_CPU, Tally};

pub(crate) use resources::{declare, name as name_of_many};
pub(crate) use stage::Limit;
use stage::{Sizes, Stage};

const MARKS: Marks = Marks {
    begin: "<!-- suite-scale:begin -->",
    end: "<!-- suite-scale:end -->",
};

/// Longest time of one scenario with `--quick`. All eight together stay below
/// three minutes.
const QUICK_MAX: Duration = Duration::from_secs(20);

/// Least time that is left when a scenario begins: in less, none comes to its end.
const LEFT_MIN: Duration = Duration::from_secs(15);

/// See what a node does when there is much of everything
#[derive(Clone, Debug, Parser)]
pub struct ScaleArgs {
    /// The node's binary
    #[arg(long, default_value = "target/release/pinion")]
    pinion: PathBuf,
    /// Further argument of `pinion serve`; may be repeated
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    serve_arg: Vec<String>,
    /// A tenth of everything and at most 20 seconds a scenario: to see that everything works
    #[arg(long)]
    quick: bool,
    /// Only scenarios whose title contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Minutes a full cache is written to
    #[arg(long, default_value_t = 10.0)]
    fill_minutes: f64,
    /// End after so many minutes: what is under way then tells what it has
    #[arg(long, default_value_t = 40.0)]
    minutes_max: f64,
    #[command(flatten)]
    output: Output,
}

/// One thing there is much of.
struct Scenario {
    title: &'static str,
    /// How the figures came about, below their table.
    note: &'static str,
    /// Longest time; for who asks for `--fill-minutes`, besides that.
    longest: Duration,
    /// Whether it goes on for as long as `--fill-minutes` says.
    fills: bool,
    play: fn(&mut Stage<'_>) -> Result<(), BenchError>,
}

impl Scenario {
    fn longest(&self, quick: bool, sizes: &Sizes) -> Duration {
        match (quick, self.fills) {
            (true, _) => QUICK_MAX,
            (false, true) => self.longest + sizes.fill,
            (false, false) => self.longest,
        }
    }
}

/// All of them, in the order in which they are played: what takes as long as it
/// is given is last, so that `--minutes-max` takes from that alone.
const SCENARIOS: &[Scenario] = &[
    Scenario {
        title: "Connections: many idle, some active",
        note: connections::NOTE,
        longest: Duration::from_secs(240),
        fills: false,
        play: connections::play,
    },
    Scenario {
        title: "Subscriptions on one node",
        note: subscriptions::NOTE,
        longest: Duration::from_secs(240),
        fills: false,
        play: subscriptions::play,
    },
    Scenario {
        title: "Streams and queues",
        note: resources::NOTE,
        longest: Duration::from_secs(360),
        fills: false,
        play: resources::play,
    },
    Scenario {
        title: "Fan-out",
        note: fanout::NOTE,
        longest: Duration::from_secs(180),
        fills: false,
        play: fanout::play,
    },
    Scenario {
        title: "Slow consumers",
        note: slow::NOTE,
        longest: Duration::from_secs(120),
        fills: false,
        play: slow::play,
    },
    Scenario {
        title: "Overload",
        note: overload::NOTE,
        longest: Duration::from_secs(150),
        fills: false,
        play: overload::play,
    },
    Scenario {
        title: "Expiry storm",
        note: storm::NOTE,
        longest: Duration::from_secs(120),
        fills: false,
        play: storm::play,
    },
    Scenario {
        title: "A cache filled over its budget",
        note: fill::NOTE,
        longest: Duration::from_secs(60),
        fills: true,
        play: fill::play,
    },
];

/// What one scenario found.
#[derive(Clone, Debug, Serialize)]
struct Played {
    title: &'static str,
    facts: Vec<Fact>,
    note: &'static str,
    /// Why it did not come to its end; what it found before stands above.
    failed: Option<String>,
    seconds: f64,
}

/// Everything one run found.
#[derive(Clone, Debug, Serialize)]
struct Findings {
    machine: MachineFacts,
    disturbance_before: Disturbance,
    tally: Tally,
    quick: bool,
    scenarios: Vec<Played>,
    minutes: f64,
    cut_short: bool,
}

/// Plays the scenarios. Exit code 0 when each came to its end, whether or not
/// every bound was held; 1 when one did not, or when the machine was too busy.
#[must_use]
pub fn run(args: &ScaleArgs) -> ExitCode {
    match try_run(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn try_run(args: &ScaleArgs) -> Result<bool, BenchError> {
    let fill = turns::seconds("--fill-minutes", args.fill_minutes * 60.0)?;
    let sizes = if args.quick {
        Sizes::QUICK
    } else {
        Sizes {
            fill,
            ..Sizes::FULL
        }
    };
    let (machine, disturbance_before) = turns::prepare(args.output.force)?;
    let node = Node {
        binary: args.pinion.clone(),
        arguments: args.serve_arg.clone(),
    };
    let started = Instant::now();
    let time = Limit::new(turns::seconds("--minutes-max", args.minutes_max * 60.0)?);
    let mut tally = Tally::default();
    let mut scenarios = Vec::new();
    let mut cut_short = false;
    for scenario in SCENARIOS {
        if !wants(args.only.as_deref(), scenario.title) {
            continue;
        }
        if time.left() < LEFT_MIN {
            cut_short = true;
            break;
        }
        let longest = scenario.longest(args.quick, &sizes).min(time.left());
        let mut stage = Stage::new(&node, sizes, longest, &mut tally);
        scenarios.push(play(scenario, &mut stage));
    }
    let findings = Findings {
        machine,
        disturbance_before,
        tally,
        quick: args.quick,
        scenarios,
        minutes: started.elapsed().as_secs_f64() / 60.0,
        cut_short,
    };
    args.output
        .deliver(&findings.markdown(), &findings, findings.tally, MARKS)?;
    Ok(findings.scenarios.iter().all(|it| it.failed.is_none()))
}

fn play(scenario: &Scenario, stage: &mut Stage<'_>) -> Played {
    eprintln!("{}", scenario.title);
    let started = Instant::now();
    let failed = (scenario.play)(stage).err().map(|error| error.to_string());
    if let Some(failed) = &failed {
        eprintln!("  failed: {failed}");
    }
    Played {
        title: scenario.title,
        facts: std::mem::take(&mut stage.facts),
        note: scenario.note,
        failed,
        seconds: started.elapsed().as_secs_f64(),
    }
}

fn wants(only: Option<&str>, title: &str) -> bool {
    let only = only.unwrap_or_default().to_lowercase();
    title.to_lowercase().contains(&only)
}

impl Findings {
    fn markdown(&self) -> String {
        let mut out = format!(
            "Machine: {}.\n\nServer on CPU {SERVER_CPU}, generator on CPU {GENERATOR_CPU}, loopback. Median \
             (lowest–highest); {} runs in {:.1} minutes, {} of them while other processes used more than \
             {:.0} % of the machine.\n",
            self.machine.line(),
            self.tally.runs,
            self.minutes,
            self.tally.disturbed,
            OTHERS_SHARE_MAX * 100.0,
        );
        if self.cut_short {
            out.push_str("\nThe time was up before every scenario was played.\n");
        }
        if self.quick {
            out.push_str("\nWith `--quick`: a tenth of everything, for moments only.\n");
        }
        for played in &self.scenarios {
            out.push('\n');
            out.push_str(&facts_markdown(played.title, &played.facts));
            if let Some(failed) = &played.failed {
                let _ = writeln!(out, "\n**It did not come to its end**: {failed}.");
            }
            let _ = writeln!(out, "\n{} {:.0} s.", played.note, played.seconds);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_is_chosen_by_any_part_of_its_title_in_any_case() {
        let chosen = |only| {
            let titles = SCENARIOS.iter().map(|scenario| scenario.title);
            titles.filter(|title| wants(only, title)).count()
        };
        assert_eq!(chosen(None), SCENARIOS.len());
        assert_eq!(chosen(Some("STORM")), 1);
        assert_eq!(chosen(Some("no such thing")), 0);
    }

    #[test]
    fn only_who_fills_a_cache_is_given_the_minutes_for_it_and_is_last() {
        let longest = |scenario: &Scenario, quick| scenario.longest(quick, &Sizes::FULL);
        let (last, others) = SCENARIOS.split_last().expect("many");
        assert_eq!(longest(last, false), last.longest + Sizes::FULL.fill);
        for scenario in others {
            assert_eq!(
                longest(scenario, false),
                scenario.longest,
                "{}",
                scenario.title
            );
        }
        assert!(SCENARIOS.iter().all(|it| longest(it, true) == QUICK_MAX));
    }

    #[test]
    fn a_scenario_that_fails_keeps_what_it_found_and_says_why() {
        let node = Node {
            binary: "/nonexistent".into(),
            arguments: Vec::new(),
        };
        let mut tally = Tally::default();
        let mut stage = Stage::new(&node, Sizes::QUICK, QUICK_MAX, &mut tally);
        let scenario = Scenario {
            title: "one that fails",
            note: "A note.",
            longest: QUICK_MAX,
            fills: false,
            play: |stage| {
                stage.held("a fact", "µs", vec![3.0], 2.0);
                Err(BenchError::Closed { peer: "the node" })
            },
        };
        let played = play(&scenario, &mut stage);
        assert_eq!(played.facts.len(), 1);
        let findings = Findings {
            machine: MachineFacts::read(),
            disturbance_before: Disturbance::default(),
            tally,
            quick: true,
            scenarios: vec![played],
            minutes: 1.0,
            cut_short: false,
        };
        let page = findings.markdown();
        assert!(page.contains("| a fact | 3.00 (3.00–3.00) µs | ≤ 2 µs | **missed** |"));
        assert!(page.contains("did not come to its end**: the node closed the connection."));
    }
}
