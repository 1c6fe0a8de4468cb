//! `admin-bench`: what administrators wait for, and what they cost those who use the data.
//! Run it from the root of the tree, or as `scripts/admin-figures`. With a hidden subcommand
//! it is also the guard that ends nodes whose measurement has died.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use pinion_load::admin::{self, AdminArgs};
use pinion_load::server;

#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    args: AdminArgs,
}

#[derive(Subcommand)]
enum Role {
    /// Ends a process when standard input ends
    #[command(hide = true)]
    Guard {
        /// The process
        pid: u32,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.role {
        None => admin::run(&cli.args),
        Some(Role::Guard { pid }) => match server::guard(pid) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("admin-bench: {error}");
                ExitCode::FAILURE
            }
        },
    }
}
