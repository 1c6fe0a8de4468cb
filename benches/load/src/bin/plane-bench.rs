//! `plane-bench`: what the control plane of a cluster does, against one that
//! `scripts/cluster up 3` has started. Run it from the root of the tree.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use pinion_load::plane::{self, PlaneArgs};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: PlaneArgs,
}

fn main() -> ExitCode {
    match plane::run(&Cli::parse().args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("plane-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
