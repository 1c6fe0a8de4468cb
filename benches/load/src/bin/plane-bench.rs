//! `plane-bench`: what the control plane of a cluster does, against one that
//! `scripts/cluster up 3` has started; `plane-bench figures`: all that is promised, against
//! clusters of its own. Run it from the root of the tree, or as `scripts/cluster figures`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use pinion_load::plane::{self, FiguresArgs, PlaneArgs};

#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    task: Option<Task>,
    #[command(flatten)]
    args: PlaneArgs,
}

#[derive(Subcommand)]
enum Task {
    /// Measure everything that is promised, against new clusters
    Figures(FiguresArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match &cli.task {
        None => plane::run(&cli.args),
        Some(Task::Figures(args)) => plane::figures(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("plane-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
