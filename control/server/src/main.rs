//! The `pinion` binary: configuration, boot order, CPU placement, pump, drain.
//!
//! It joins rooms and decides nothing itself. Start reading at [`node`] for
//! the boot order and [`pump`] for what a data core does each turn.

#![forbid(unsafe_code)]

mod backup;
mod cert;
mod cluster;
mod config;
mod control;
mod data_dir;
mod demo;
mod doctor;
mod identity;
mod issuing;
mod log;
mod logins;
mod meta;
mod meters;
mod names;
mod node;
mod peers;
mod pump;
mod serve;
mod store;
mod token;

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{CommandFactory, Parser, Subcommand};
use pinion_types::WallMs;

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
    /// Run a node in a temporary directory on real records and check everything it does
    Demo(demo::DemoArgs),
    /// Say what this machine allows, and how to give what it lacks
    Doctor(doctor::DoctorArgs),
    /// Look at the logs in a data directory: list, verify, dump
    Log(log::LogArgs),
    /// Put a backup into an empty directory
    Restore(backup::restore::RestoreArgs),
    /// Make a bearer token and the configuration lines that grant it
    Token(token::TokenArgs),
    /// Make certificates for nodes of a cluster and for clients
    Cert(cert::CertArgs),
    /// Print what a shell needs to complete these commands
    Completions(pinion_cli::completions::CompletionsArgs),
    #[command(flatten)]
    Client(pinion_cli::ClientCommand),
}

/// The wall clock; 0 before 1970.
fn wall_now() -> WallMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    WallMs(since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0)))
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(flags) => serve::run(&flags),
        Command::Demo(args) => demo::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Log(args) => log::run(&args),
        Command::Restore(args) => backup::restore::run(&args),
        Command::Token(args) => token::run(&args),
        Command::Cert(args) => cert::run(&args),
        Command::Completions(args) => pinion_cli::completions::run(&args, Cli::command()),
        Command::Client(command) => pinion_cli::run(&command),
    }
}
