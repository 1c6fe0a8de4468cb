//! `pinion stream`: what a stream holds.

use pinion_client::PartitionId;
use serde::Serialize;

use crate::connect::ConnectArgs;
use crate::failure::Failure;
use crate::output::Printer;
use crate::value;

/// Looks at streams.
#[derive(Clone, Debug, clap::Args)]
pub struct StreamArgs {
    #[command(flatten)]
    connect: ConnectArgs,
    /// One JSON object per line
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Verb {
    /// Ends, sizes and subscriptions of each partition
    Info {
        /// The stream, NAMESPACE/NAME
        #[arg(value_name = "NS/NAME", value_parser = value::resource)]
        stream: String,
    },
}

#[derive(Serialize)]
struct Partition {
    partition: u16,
    first_available: u64,
    end: u64,
    bytes: u64,
    subscriptions: u32,
}

pub(crate) async fn run(args: &StreamArgs) -> Result<(), Failure> {
    let Verb::Info { stream: name } = &args.verb;
    let client = args.connect.client().await?;
    let stream = client.stream(name).await?;
    let mut printer = Printer::default();
    if !args.json {
        printer.line(
            "PARTITION         FIRST           END       RECORDS         BYTES  SUBSCRIPTIONS",
        );
    }
    for partition in 0..stream.shards() {
        let status = stream.info(PartitionId(partition)).await?;
        let row = Partition {
            partition,
            first_available: status.first_available.0,
            end: status.end.0,
            bytes: status.bytes,
            subscriptions: status.subscriptions,
        };
        if args.json {
            printer.json(&row);
        } else {
            printer.line(format_args!(
                "{:>9}  {:>12}  {:>12}  {:>12}  {:>12}  {:>13}",
                row.partition,
                row.first_available,
                row.end,
                row.end.saturating_sub(row.first_available),
                row.bytes,
                row.subscriptions
            ));
        }
    }
    printer.flush().await?;
    client.close().await;
    Ok(())
}
