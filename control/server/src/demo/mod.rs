//! `pinion demo`: nodes in a temporary directory do their whole job on real
//! records, and everything they did is checked against the input.
//!
//! The first part is about what is in memory, on a node in this process.
//! `drive.rs` publishes, reads and expires; `reader.rs` is one subscriber;
//! `check.rs` decides, without node or clock, whether what they saw is right.
//! The second part is about what is on disk, on a node in a process of its own
//! (`child.rs`), which is killed half way. `survive.rs` goes on working,
//! `ledger.rs` is what was seen, `audit.rs` judges it. `report.rs` prints both.
//!
//! Check and audit fail under `--sabotage`, which spoils the run on purpose.

mod audit;
mod check;
mod child;
mod data;
mod drive;
mod ledger;
mod reader;
mod report;
mod survive;

use std::process::ExitCode;
use std::sync::Arc;

use clap::ValueEnum;

use crate::config::{Config, Placement};
use crate::node::{Node, StartError};
use drive::DriveError;

/// Records a second unless told otherwise: the whole demo takes about 20 s.
const RATE: u32 = 2_000;
/// How much faster records are given to the disk than to the subscribers of the
/// first part, one of which is slow on purpose.
const KEPT_RATE: u32 = 2;
/// Bytes of each partition's ring: four times what the data set puts there.
const RING_BYTES: u64 = 4 << 20;
/// Bytes of the cache: far more than 220 airports need, far less than a laptop has.
const CACHE_BYTES: u64 = 8 << 20;

/// How to run it.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// Records a second
    #[arg(long, default_value_t = RATE, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// Only so many of the 20,000 records, at least 5,000, so that the slow subscriber is left behind
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(5_000..=20_000))]
    records: Option<u32>,
    /// Spoil the run to see the checks fail: a self-test of the checker
    #[arg(long, hide = true, value_enum)]
    sabotage: Option<Sabotage>,
}

/// What is spoiled on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Sabotage {
    /// One of the subscribers stops half way.
    KillSubscriber,
    /// One record is published with a flipped bit.
    CorruptRecord,
    /// One record is taken out of what was read after the kill.
    LoseRecord,
    /// One message is given out again after its acknowledgement.
    RepeatMessage,
    /// The log is gone when the node is started again.
    LoseData,
}

/// Why there is nothing to check.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error("cannot make a temporary directory: {0}")]
    Directory(std::io::Error),
    #[error("the node did not start: {0}")]
    Start(#[from] StartError),
    #[error("cannot start the clients' runtime: {0}")]
    Runtime(std::io::Error),
    #[error(transparent)]
    Drive(#[from] DriveError),
}

pub(crate) fn run(args: &DemoArgs) -> ExitCode {
    if let Some(code) = crate::doctor::refuse_unfit_machine(&std::env::temp_dir()) {
        return code;
    }
    match try_run(args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("pinion demo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn try_run(args: &DemoArgs) -> Result<ExitCode, DemoError> {
    let rows = data::flights(args.records.map_or(usize::MAX, |n| n as usize));
    let dir = tempfile::Builder::new()
        .prefix("pinion-demo-")
        .tempdir()
        .map_err(DemoError::Directory)?;
    let mut config = Config {
        listen: ([127, 0, 0, 1], 0).into(),
        data_dir: dir.path().to_owned(),
        dev: true,
        // The clients need the CPUs too.
        placement: Placement::Shared,
        ..Config::default()
    };
    // Nobody administers a demo.
    config.admin.enabled = false;
    config.defaults.stream_ring_bytes = RING_BYTES;
    config.defaults.cache_bytes = CACHE_BYTES;
    let node = Node::start(&config)?;
    report::head(&node, rows.len(), args.rate);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(DemoError::Runtime)?;
    let cpus = survive::cpus_of(&node);
    let kept = Arc::new(rows.clone());
    let driven = drive::drive(&node, &config, rows, args.rate, args.sabotage);
    let driven = runtime.block_on(drive::unless_ended(driven));
    // Also after a failure: a node drains before its directory goes.
    let ending = node.stop();
    let mut run = driven?;
    run.evidence.node_published = ending.stats.published;
    run.evidence.node_failures = ending.failures;
    run.wrong_core = ending.stats.wrong_shard;
    let differences = check::check(&run.evidence);
    report::results(&run, &differences);

    let kept_dir = tempfile::Builder::new()
        .prefix("pinion-demo-kept-")
        .tempdir()
        .map_err(DemoError::Directory)?;
    let rate = args.rate.saturating_mul(KEPT_RATE);
    report::middle(rate);
    let survived = survive::survive(kept_dir.path(), cpus, kept, rate, args.sabotage);
    let survived = runtime.block_on(drive::unless_ended(survived));
    runtime.shutdown_background();
    let survived = survived?;
    let (breaches, causes) = audit::audit(&survived.evidence);
    report::survival(&survived, causes, &breaches);
    Ok(if differences.is_empty() && breaches.is_empty() {
        report::all_right();
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
