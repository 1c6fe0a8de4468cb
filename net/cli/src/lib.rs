//! Client commands of the `pinion` binary, one file per command.
//!
//! The binary flattens [`ClientCommand`] into its own commands and hands what
//! was asked for to [`run`], which gives the exit code: 0 done, 1 refused or
//! failed, 2 wrong usage. Results go to standard output, as text or with
//! `--json` as one JSON object per line; everything else goes to standard error.
//!
//! It never prints a token, unless to get one is what it was asked, never writes raw control characters to a terminal
//! unless `--raw` asks for it, and never keeps more of its input in memory than
//! a few thousand records.
//!
//! Start reading at [`ClientCommand`], then `publish.rs` and `subscribe.rs`; what administers
//! is in `admin` and speaks HTTPS, everything else QUIC.

#![forbid(unsafe_code)]

mod admin;
mod backup;
pub mod bench;
mod cache;
pub mod completions;
mod confirm;
mod connect;
mod failure;
mod http;
pub mod human;
mod input;
mod output;
pub mod progress;
mod publish;
mod queue;
mod stream;
mod subscribe;
mod value;

use std::process::ExitCode;

pub use admin::AdminArgs;
use failure::Failure;

/// Commands that talk to a running node.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum ClientCommand {
    /// Publish records to a stream
    Pub(publish::PubArgs),
    /// Print records of a stream as they come
    Sub(subscribe::SubArgs),
    /// Make streams, look at them, and move cursors
    Stream(stream::StreamArgs),
    /// Put, take and settle messages, and look at queues
    Queue(queue::QueueArgs),
    /// Read and write a cache
    Cache(cache::CacheArgs),
    /// Ask and tell the control plane: tenants, resources, brokers, rights
    Admin(AdminArgs),
    /// Copy everything that a running node has into a file
    Backup(backup::BackupArgs),
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
        ClientCommand::Queue(args) => block_on(queue::run(args)),
        ClientCommand::Cache(args) => block_on(cache::run(args)),
        ClientCommand::Admin(args) => block_on(admin::run(args)),
        ClientCommand::Backup(args) => block_on(backup::run(args)),
        ClientCommand::Bench(args) => return bench::run(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Runs `pinion admin` and gives what it would have printed, and why it failed if it did:
/// for the tests of whoever it speaks to.
///
/// # Errors
/// What was printed before, and the failure in words.
pub fn administer(args: &AdminArgs) -> Result<String, (String, String)> {
    let mut printer = output::Printer::kept();
    let result = block_on(admin::execute(args, &mut printer));
    match result {
        Ok(()) => Ok(printer.text()),
        Err(failure) => Err((printer.text(), failure.to_string())),
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
            "pinion sub payments/orders --from -10m",
            "pinion sub payments/orders --cursor billing",
            "pinion sub payments/orders --cursor billing --from earliest",
            "pinion stream info payments/orders --json",
            "pinion stream create a/b --durable --retention 7d --retention-bytes 10GiB",
            "pinion stream create a/b --partitions 1 --overflow drop-newest --json",
            "pinion stream cursor list a/b --json",
            "pinion stream cursor get a/b billing",
            "pinion stream cursor set a/b billing --to 17 --partition 3",
            "pinion stream cursor set a/b billing --to earliest",
            "pinion stream cursor delete a/b billing",
            "pinion queue put a/b hello --key k --delay 5s --ttl 7d --header kind=x",
            "pinion queue put a/b --file orders.txt --json",
            "pinion queue put a/b -",
            "pinion queue --server h:1 put a/b hello",
            "pinion queue take a/b --group g --max 10 --wait 5s --lease 1m --ack --json",
            "pinion queue take a/b --hold",
            "pinion queue consume a/b --count 10 --wait 5s --credit 1 --raw",
            "pinion queue ack a/b 0:000102030405060708090a0b0c0d0e0f --group g",
            "pinion queue nack a/b 0:000102030405060708090a0b0c0d0e0f --delay 5s --error why",
            "pinion queue extend a/b 0:000102030405060708090a0b0c0d0e0f --lease 5m",
            "pinion queue release a/b --partition 0 000102030405060708090a0b0c0d0e0f",
            "pinion queue peek a/b --state ready,in-flight --limit 5",
            "pinion queue dlq list a/b --reason lease-expired --json",
            "pinion queue dlq replay a/b --id 0:3 --id 1:4 --rate 100",
            "pinion queue dlq purge a/b --error-prefix boom --yes",
            "pinion queue info a/b",
            "pinion queue why a/b --group g",
            "pinion queue group create a/b audit --from latest",
            "pinion queue group delete a/b audit --yes",
            "pinion queue create a/b --ephemeral --partitions 1 --lease 1m --max-attempts 3",
            "pinion queue create a/b --ordered-by-key --ttl 1d --drop-expired --max-bytes 1GiB",
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
            "pinion admin tenant list --limit 3 --json",
            "pinion admin --server h:1 stream create a/b --durable --wait",
            "pinion admin stream create a/b --durable --wait=10s --ca c --token t",
            "pinion admin apply -f one.yaml two.yaml --dry-run",
            "pinion admin apply --file -",
            "pinion admin watch --from 3 --count 1",
            "pinion admin audit --from 15m --to 2026-01-02T03:04:05Z",
            "pinion backup --out node-1.tar",
            "pinion backup --server h:1 --ca c --token t --out b.tar --with-secrets --json",
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
            "pinion stream create a/b --retention-bytes 1GiB",
            "pinion stream create a/b --partitions 0",
            "pinion stream cursor set a/b billing",
            "pinion queue put a/b hello --file f",
            "pinion queue put a/b hello --delay 11000d",
            "pinion queue take a/b --max 0",
            "pinion queue take a/b --ack --hold",
            "pinion queue ack a/b",
            "pinion queue ack a/b 0:12",
            "pinion queue peek a/b --state lost",
            "pinion queue dlq replay a/b --rate 0",
            "pinion queue extend a/b 0:000102030405060708090a0b0c0d0e0f --lease 13h",
            "pinion cache get a/b",
            "pinion cache set a/b k",
            "pinion cache set a/b k v --if-absent --if-version 3",
            "pinion cache set a/b k v --ttl -1s",
            "pinion cache touch a/b k",
            "pinion cache watch a/b k --prefix p",
            "pinion admin",
            "pinion admin apply",
            "pinion admin tenant create a/b",
            "pinion admin stream create a/b --wait 10s",
            "pinion admin shard rebalance a/b --cancel --dry-run",
            "pinion admin audit --from tomorrow",
            "pinion backup",
        ] {
            let Err(error) = Cli::try_parse_from(line.split(' ')) else {
                panic!("{line} was accepted");
            };
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
