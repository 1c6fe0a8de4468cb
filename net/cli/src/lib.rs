//! Client commands of the `pinion` binary, one file per command.
//!
//! The binary flattens [`ClientCommand`] into its own commands and hands what
//! was asked for to [`run`], which gives the exit code: 0 done, 1 refused or
//! failed, 2 wrong usage. Results go to standard output, as text or with
//! `--json` as one JSON object per line; everything else goes to standard error.
//!
//! It never prints a token, never writes raw control characters to a terminal
//! unless `--raw` asks for it, and never keeps more of its input in memory than
//! a few thousand records.
//!
//! Start reading at [`ClientCommand`], then `publish.rs` and `subscribe.rs`.

#![forbid(unsafe_code)]

pub mod bench;
mod cache;
pub mod completions;
mod connect;
mod failure;
mod output;
mod publish;
mod stream;
mod subscribe;
mod value;

use std::process::ExitCode;

use failure::Failure;

/// Commands that talk to a running node.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum ClientCommand {
    /// Publish records to a stream
    Pub(publish::PubArgs),
    /// Print records of a stream as they come
    Sub(subscribe::SubArgs),
    /// Look at streams
    Stream(stream::StreamArgs),
    /// Read and write a cache
    Cache(cache::CacheArgs),
    /// Measure a running node
    Bench(bench::BenchArgs),
}

/// Runs a command and says on standard error what went wrong and what to do.
#[must_use]
pub fn run(command: &ClientCommand) -> ExitCode {
    let result = match command {
        ClientCommand::Pub(args) => block_on(publish::run(args)),
        ClientCommand::Sub(args) => block_on(subscribe::run(args)),
        ClientCommand::Stream(args) => block_on(stream::run(args)),
        ClientCommand::Cache(args) => block_on(cache::run(args)),
        ClientCommand::Bench(args) => return bench::run(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn block_on(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Failure::io("start the runtime", source))?;
    let result = runtime.block_on(work);
    // A thread that waits for input or for a full pipe must not keep the
    // process: its work is over either way.
    runtime.shutdown_background();
    result
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Parser)]
    #[command(name = "pinion")]
    struct Cli {
        #[command(subcommand)]
        command: ClientCommand,
    }

    #[test]
    fn the_commands_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_the_contract_names_is_understood() {
        for line in [
            "pinion pub payments/orders hello",
            "pinion pub payments/orders --key k --file orders.txt",
            "pinion pub payments/orders --key k --file -",
            "pinion pub payments/orders --key k -",
            "pinion pub payments/orders --header kind=wind --whole --file x --json",
            "pinion sub payments/orders --from earliest --count 1 --json",
            "pinion sub payments/orders --from latest",
            "pinion sub payments/orders --from 17 --partition 3",
            "pinion sub payments/orders --from 2026-01-02T03:04:05Z --raw",
            "pinion sub payments/orders --from 15m --where kind=wind --wait 10s --long",
            "pinion stream info payments/orders --json",
            "pinion cache get a/b k --server h:1 --ca c --token t",
            "pinion cache --server h:1 get a/b k1 k2 --raw",
            "pinion cache set a/b k v --ttl 90s --if-absent",
            "pinion cache set a/b k --file f --if-version 3",
            "pinion cache set a/b k -7",
            "pinion cache del a/b k1 k2",
            "pinion cache touch a/b k --ttl 1h30m",
            "pinion cache touch a/b k --forever",
            "pinion cache incr a/b k --by -2 --initial 10",
            "pinion cache scan a/b user. --keys-only --limit 10 --json",
            "pinion cache watch a/b --prefix user. --count 2",
            "pinion cache info a/b",
            "pinion bench rtt --seconds 1",
        ] {
            if let Err(error) = Cli::try_parse_from(line.split(' ')) {
                panic!("{line}: {error}");
            }
        }
    }

    #[test]
    fn what_makes_no_sense_is_a_usage_error() {
        for line in [
            "pinion pub orders hello",
            "pinion pub a/b hello --file f",
            "pinion pub a/b hello --header nothing",
            "pinion sub a/b --from yesterday",
            "pinion sub a/b --count 0",
            "pinion sub a/b --raw --json",
            "pinion cache get a/b",
            "pinion cache set a/b k",
            "pinion cache set a/b k v --if-absent --if-version 3",
            "pinion cache set a/b k v --ttl -1s",
            "pinion cache touch a/b k",
            "pinion cache watch a/b k --prefix p",
        ] {
            let Err(error) = Cli::try_parse_from(line.split(' ')) else {
                panic!("{line} was accepted");
            };
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
