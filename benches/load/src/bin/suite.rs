//! `suite`: a node beside its controls; `suite log`: what is durable; `suite scale`: much of everything. With
//! hidden subcommands it is also the echo servers and the guard that ends servers whose suite has died.

#![forbid(unsafe_code)]

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use pinion_load::bare::{self, Service};
use pinion_load::echo::{self, Waiting};
use pinion_load::log_suite::{self, LogArgs};
use pinion_load::quinn_echo;
use pinion_load::scale::{self, ScaleArgs};
use pinion_load::server::{self, Certificate, LIFE_MAX};
use pinion_load::suite::{self, SuiteArgs};
use pinion_load::sweep::{self, SweepArgs};

#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    suite: SuiteArgs,
}

#[derive(Subcommand)]
enum Role {
    /// Compare what is durable with its controls
    Log(LogArgs),
    /// See what a node does when there is much of everything
    Scale(ScaleArgs),
    /// Latency by throughput, beside Redis
    Sweep(SweepArgs),
    /// An echo server on a loopback port
    #[command(hide = true)]
    Echo(EchoArgs),
    /// Ends a process when standard input ends
    #[command(hide = true)]
    Guard {
        /// The process
        pid: u32,
    },
}

#[derive(Args)]
struct EchoArgs {
    mode: Mode,
    port: u16,
    /// Directory of cert.pem and key.pem, for what speaks QUIC
    dir: Option<PathBuf>,
    /// Processor of the bare server
    #[arg(long)]
    cpu: Option<usize>,
    /// Bytes of each message to a sink
    #[arg(long, default_value_t = 1)]
    message: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum Mode {
    UdpBlock,
    UdpSpin,
    Quinn,
    Bare,
    BareSink,
}

/// As the node's binary has it: the bare servers are measured beside it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let served = match &cli.role {
        None => return suite::run(&cli.suite),
        Some(Role::Log(args)) => return log_suite::run(args),
        Some(Role::Scale(args)) => return scale::run(args),
        Some(Role::Sweep(args)) => return sweep::run(args),
        Some(Role::Echo(args)) => serve(args),
        Some(Role::Guard { pid }) => server::guard(*pid),
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(args: &EchoArgs) -> io::Result<()> {
    let service = match args.mode {
        Mode::UdpBlock => return echo::serve(args.port, Waiting::Block, LIFE_MAX),
        Mode::UdpSpin => return echo::serve(args.port, Waiting::Spin, LIFE_MAX),
        Mode::Quinn => None,
        Mode::Bare => Some(Service::Echo),
        Mode::BareSink => Some(Service::Sink {
            message: args.message,
        }),
    };
    let dir = args
        .dir
        .as_deref()
        .ok_or_else(|| io::Error::other("QUIC needs the directory of its certificate"))?;
    let (chain, key) = Certificate::read(dir)?;
    match service {
        None => quinn_echo::serve(args.port, chain, key, LIFE_MAX),
        Some(service) => bare::serve(args.port, service, chain, key, args.cpu, LIFE_MAX),
    }
}
