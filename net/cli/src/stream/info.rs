//! `pinion stream info`.

use pinion_client::{Client, PartitionId};
use serde::Serialize;

use super::Context;
use super::create::words;
use crate::failure::Failure;
use crate::human::{Align, Table};
use crate::value;

const TABLE: Table = Table(&[
    ("PARTITION", 9, Align::Right),
    ("FIRST", 12, Align::Right),
    ("END", 12, Align::Right),
    ("RECORDS", 12, Align::Right),
    ("BYTES", 12, Align::Right),
    ("SUBSCRIPTIONS", 13, Align::Right),
]);

/// Which stream.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct InfoArgs {
    /// The stream, NAMESPACE/NAME
    #[arg(value_name = "NS/NAME", value_parser = value::resource)]
    stream: String,
}

#[derive(Serialize)]
struct Partition {
    partition: u16,
    first_available: u64,
    end: u64,
    bytes: u64,
    subscriptions: u32,
    durable: bool,
}

impl InfoArgs {
    pub(super) async fn run(&self, context: &mut Context, client: &Client) -> Result<(), Failure> {
        let stream = client.stream(&self.stream).await?;
        let printer = &mut context.printer;
        if !context.json {
            printer.line(format_args!("{}: {}", self.stream, words(&stream.spec())));
            printer.line(TABLE.head());
        }
        for partition in 0..stream.shards() {
            let status = stream.info(PartitionId(partition)).await?;
            let row = Partition {
                partition,
                first_available: status.first_available.0,
                end: status.end.0,
                bytes: status.bytes,
                subscriptions: status.subscriptions,
                durable: stream.spec().durability > 0,
            };
            if context.json {
                printer.json(&row);
            } else {
                printer.line(TABLE.row(&[
                    row.partition.to_string(),
                    row.first_available.to_string(),
                    row.end.to_string(),
                    row.end.saturating_sub(row.first_available).to_string(),
                    row.bytes.to_string(),
                    row.subscriptions.to_string(),
                ]));
            }
        }
        Ok(())
    }
}
