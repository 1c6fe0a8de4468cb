//! The `pinion` binary: configuration, boot order, CPU placement, pump, drain.
//!
//! It joins rooms and decides nothing itself. Start reading at [`node`] for
//! the boot order and [`pump`] for what a data core does each turn.

#![forbid(unsafe_code)]

mod config;
mod control;
mod identity;
mod node;
mod pump;
mod serve;
mod token;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Streams and cache on pinned cores, over one QUIC connection.
#[derive(Parser)]
#[command(name = "pinion", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a node
    Serve(config::Flags),
    /// Make a bearer token and the configuration lines that grant it
    Token(token::TokenArgs),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(flags) => serve::run(&flags),
        Command::Token(args) => token::run(&args),
    }
}
