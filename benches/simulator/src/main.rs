//! `pinion-sim`: hunts for counter-examples and says from which seed they come.

#![forbid(unsafe_code)]

use core::time::Duration;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand};
use simulator::campaign::{self, Enough, Failure, Kind, Totals};
use simulator::mutants::{self, Copy, Finding, Mutant, MutantError, Verdict};
use simulator::node::Injection;

/// Simulates the engine on disks that fail on purpose, from seeds.
///
/// Without options it runs the slice that every change runs. Exit code 0: no
/// promise was broken; 1: one was, and its seed is printed, or something that
/// the slice (or the night) promises to try never happened, and it is named.
#[derive(Parser)]
#[command(name = "pinion-sim", version)]
struct Options {
    #[command(subcommand)]
    command: Option<Job>,
    /// Runs this one seed again and prints the hash of what happened.
    #[arg(long, conflicts_with_all = ["seeds", "minutes", "nightly"])]
    seed: Option<u64>,
    /// Runs so many seeds of each kind; of those that try every place of a
    /// workload (crash, rot, fault), unless they are named with `--only`, one
    /// for each hundred.
    #[arg(long)]
    seeds: Option<u64>,
    /// Runs each kind for its share of so many minutes.
    #[arg(long, conflicts_with = "seeds")]
    minutes: Option<u64>,
    /// Runs the volume of a night.
    #[arg(long, conflicts_with_all = ["seeds", "minutes"])]
    nightly: bool,
    /// Only this kind; may be given several times.
    #[arg(long, value_enum)]
    only: Vec<Kind>,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Makes a violation on purpose, in worlds of the kind `node`.
    #[arg(long, value_enum)]
    inject: Option<Injection>,
    /// Steps of a node's world, with `--seed`.
    #[arg(long, default_value_t = simulator::node::STEPS)]
    steps: u64,
    /// Ends a kind after so many seeds that broke a promise.
    #[arg(long, default_value_t = 10)]
    failures_max: usize,
    /// Worker threads; the result does not depend on it.
    #[arg(long)]
    threads: Option<usize>,
}

#[derive(Subcommand)]
enum Job {
    /// Builds the engine with deliberate mistakes and shows which are noticed.
    Mutants {
        /// Where the copy of the tree is built; some gigabytes.
        #[arg(long)]
        folder: PathBuf,
        /// Only these, separated by commas; each is shown with the seed and the
        /// command that find it again.
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
    },
}

/// Share of the mutants that must be noticed, in percent.
const CAUGHT_PERCENT_MIN: usize = 95;

/// A seed of a kind that tries every place of a workload is worth so many of
/// the others.
const SEEDS_PER_ENUMERATION: u64 = 100;

fn volume(options: &Options, kind: Kind, kinds: u64) -> Enough {
    if let Some(seeds) = options.seeds {
        let everywhere = matches!(kind, Kind::Crash | Kind::Rot | Kind::Fault);
        let share = if everywhere && options.only.is_empty() {
            SEEDS_PER_ENUMERATION
        } else {
            1
        };
        return Enough::Seeds(seeds.div_ceil(share));
    }
    if let Some(minutes) = options.minutes {
        return Enough::Time(Duration::from_secs(60 * minutes) / u32::try_from(kinds).unwrap_or(1));
    }
    // docs: requirements of the fault matrix, per change and per night.
    match (kind, options.nightly) {
        (Kind::Crash, false) => Enough::CrashPoints(2_000),
        (Kind::Crash, true) => Enough::CrashPoints(250_000),
        (Kind::Rot, false) => Enough::Flips(10_000),
        (Kind::Rot, true) => Enough::Flips(1_000_000),
        (Kind::Fault, false) => Enough::Sites(400),
        (Kind::Fault, true) => Enough::Sites(100_000),
        // Those of a single node come on top.
        (Kind::Plane, false) => Enough::Groups(500),
        (_, false) => Enough::Seeds(200),
        (_, true) => Enough::Seeds(20_000),
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    if let Some(Job::Mutants { folder, only }) = &options.command {
        return run_mutants(folder, only).unwrap_or_else(|error| {
            eprintln!("pinion-sim: {error}");
            ExitCode::from(1)
        });
    }
    let kinds = if options.only.is_empty() {
        Kind::ALL.to_vec()
    } else {
        options.only.clone()
    };
    if let Some(seed) = options.seed {
        return again(&kinds, seed, &options);
    }
    let threads = options.threads.unwrap_or_else(|| {
        let cpus = std::thread::available_parallelism();
        cpus.map_or(1, core::num::NonZero::get)
    });
    let mut totals = Totals::default();
    let mut failures = Vec::new();
    for kind in &kinds {
        let started = Instant::now();
        let enough = volume(&options, *kind, kinds.len() as u64);
        let (covered, found) = campaign::run(
            *kind,
            options.first,
            enough,
            threads,
            options.failures_max,
            options.inject,
        );
        let took = started.elapsed().as_secs_f64();
        let violations = found.len();
        println!(
            "{kind:?}: {} seeds, {violations} violations, {took:.1} s",
            covered.seeds
        );
        totals.add(&covered);
        failures.extend(found);
    }
    println!("\ncovered\n{totals}");
    // Who asks for fewer seeds, or makes violations, need not meet everything.
    let whole = options.seeds.is_none() && options.minutes.is_none() && options.inject.is_none();
    let never = if whole && failures.is_empty() {
        totals.never_met(&kinds)
    } else {
        Vec::new()
    };
    for name in &never {
        println!("never met: {name}");
    }
    let code = report(&failures);
    if never.is_empty() {
        code
    } else {
        ExitCode::from(1)
    }
}

fn again(kinds: &[Kind], seed: u64, options: &Options) -> ExitCode {
    let mut failures = Vec::new();
    for kind in kinds {
        match campaign::run_seed(*kind, seed, options.steps, options.inject) {
            Ok(outcome) => println!("{kind:?} seed {seed}: hash {:016x}", outcome.hash),
            Err(failure) => failures.push(failure),
        }
    }
    report(&failures)
}

fn report(failures: &[Failure]) -> ExitCode {
    for failure in failures {
        println!("{failure}\n");
    }
    println!("violations: {}", failures.len());
    ExitCode::from(u8::from(!failures.is_empty()))
}

/// Shows what was found, and that its seed finds the same again, twice.
fn show_again(copy: &Copy, mutant: &Mutant, found: &Finding) -> Result<(), MutantError> {
    println!("        {}", found.what);
    println!("        again: {}", copy.command(mutant, found));
    let (first, second) = (copy.again(mutant, found)?, copy.again(mutant, found)?);
    let same = first == second && first.what == found.what;
    let hash = first.hash.as_deref().unwrap_or("none: the engine panicked");
    println!("        twice the same: {same}, hash {hash}");
    if same {
        Ok(())
    } else {
        Err(MutantError::Broken("a seed does not find the same again"))
    }
}

fn run_mutants(folder: &Path, only: &[String]) -> Result<ExitCode, MutantError> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = mutants::read_all(&here.join("mutants"))?;
    for name in only {
        if all.iter().all(|mutant| mutant.name != *name) {
            return Err(MutantError::Unknown(name.clone()));
        }
    }
    all.retain(|mutant| only.is_empty() || only.contains(&mutant.name));
    let copy = Copy::build(&here.join("../.."), folder, &all)?;
    let mut noticed = 0;
    let mut fine_without: Vec<&[String]> = Vec::new();
    for mutant in &all {
        // A campaign that fails by itself would notice everything.
        if !fine_without.contains(&&mutant.options[..]) {
            if copy.run(mutant, false)?.0 != Verdict::Missed {
                return Err(MutantError::Broken("a campaign fails without a mutant"));
            }
            fine_without.push(&mutant.options);
        }
        let started = Instant::now();
        let (verdict, finding) = copy.run(mutant, true)?;
        noticed += usize::from(verdict != Verdict::Missed);
        let took = started.elapsed().as_secs_f64();
        let verdict = format!("{verdict:?}").to_lowercase();
        println!(
            "{verdict:<7} {took:6.1} s  {:<32} {}",
            mutant.name, mutant.why
        );
        if !only.is_empty()
            && let Some(found) = finding
        {
            show_again(&copy, mutant, &found)?;
        }
    }
    println!("\nmutants: {} of {} noticed", noticed, all.len());
    let enough = 100 * noticed >= CAUGHT_PERCENT_MIN * all.len();
    Ok(ExitCode::from(u8::from(!enough)))
}
