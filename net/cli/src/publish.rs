//! `pinion pub`: records from an argument, a file or standard input.

use std::collections::VecDeque;
use std::io::Read;
use std::path::PathBuf;
use std::pin::pin;

use pinion_client::{
    Bytes, Durability, PublishAck, PublishTicket, Publisher, PublisherOptions, Record, RequestError,
};
use serde::Serialize;

use crate::connect::ConnectArgs;
use crate::failure::Failure;
use crate::input::{Source, read_lines};
use crate::output::Printer;
use crate::progress::Progress;
use crate::value;

/// Records that await their acknowledgement before the input waits too.
const UNSETTLED_MAX: usize = 16_384;
/// Acknowledgements printed before output is written.
const OUTPUT_BYTES: usize = 32 << 10;

/// What to publish and where.
#[derive(Clone, Debug, clap::Args)]
pub struct PubArgs {
    #[command(flatten)]
    connect: ConnectArgs,
    /// The stream, NAMESPACE/NAME
    #[arg(value_name = "NS/NAME", value_parser = value::resource)]
    stream: String,
    /// One record, or `-` for a record per line of standard input (also without VALUE and --file)
    #[arg(allow_hyphen_values = true, conflicts_with = "file")]
    value: Option<String>,
    /// Key of every record: the same key keeps its order, in one partition
    #[arg(long, value_name = "K")]
    key: Option<String>,
    /// A record per line of this file; `-` is standard input
    #[arg(long, value_name = "F")]
    file: Option<PathBuf>,
    /// The file or standard input as one record
    #[arg(long)]
    whole: bool,
    /// Header of every record; repeatable
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = value::pair)]
    headers: Vec<(String, String)>,
    /// Print where each record is, one JSON object per line
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: &PubArgs) -> Result<(), Failure> {
    // Before the connection: a file that is not there needs none.
    let source = Source::of(args.value.as_deref(), args.file.as_deref(), args.whole)?;
    let client = args.connect.client().await?;
    let stream = client.stream(&args.stream).await?;
    let publisher = stream.publisher(PublisherOptions::default());
    let mut job = Job {
        publisher: &publisher,
        args,
        unsettled: VecDeque::new(),
        taken: 0,
        stored: 0,
        last: None,
        printer: Printer::default(),
    };
    let result = match source {
        Source::One(value) => job.take(value).await,
        Source::Lines { input, bytes } => job.take_lines(input, bytes).await,
    };
    // What was taken is settled also when the input failed: its outcome is
    // part of the answer.
    let settled = job.settle_all().await;
    let summary = job.summary();
    job.printer.flush().await?;
    client.close().await;
    let result = settled.and(result);
    if !args.json && (result.is_ok() || job.stored > 0) {
        eprintln!("{summary}");
    }
    result
}

struct Job<'a> {
    publisher: &'a Publisher,
    args: &'a PubArgs,
    /// In the order they were taken, at most `UNSETTLED_MAX`.
    unsettled: VecDeque<PublishTicket>,
    taken: u64,
    stored: u64,
    last: Option<PublishAck>,
    printer: Printer,
}

impl Job<'_> {
    async fn take(&mut self, value: Bytes) -> Result<(), Failure> {
        let mut record = Record::new(value);
        if let Some(key) = &self.args.key {
            record = record.key(key.clone());
        }
        for (name, value) in &self.args.headers {
            record = record.header(name.clone(), value.clone());
        }
        self.taken += 1;
        let ticket = self.publisher.publish(record).await;
        let ticket = ticket.map_err(|error| self.failed(self.taken, error))?;
        self.unsettled.push_back(ticket);
        Ok(())
    }

    async fn take_lines(
        &mut self,
        input: Box<dyn Read + Send>,
        bytes: Option<u64>,
    ) -> Result<(), Failure> {
        let mut lines = read_lines(input);
        let mut progress = Progress::of_bytes(bytes);
        let mut interrupt = pin!(tokio::signal::ctrl_c());
        let mut bytes_taken = 0;
        loop {
            let room = self.unsettled.len() < UNSETTLED_MAX;
            tokio::select! {
                _ = &mut interrupt => {
                    return Err(Failure::Incomplete(format!(
                        "interrupted after {} records",
                        self.taken
                    )));
                }
                line = lines.recv(), if room => {
                    let Some(line) = line else { return Ok(()) };
                    let line = line?;
                    bytes_taken += line.len() as u64 + 1;
                    self.take(line).await?;
                    progress.set(bytes_taken);
                }
                outcome = next_outcome(&mut self.unsettled), if !self.unsettled.is_empty() => {
                    self.settle(outcome)?;
                    if self.printer.len() > OUTPUT_BYTES || self.unsettled.is_empty() {
                        self.printer.flush().await?;
                    }
                }
            }
        }
    }

    async fn settle_all(&mut self) -> Result<(), Failure> {
        let mut result = Ok(());
        while !self.unsettled.is_empty() {
            let outcome = next_outcome(&mut self.unsettled).await;
            result = result.and(self.settle(outcome));
        }
        result
    }

    /// The outcome of the oldest unsettled record.
    fn settle(&mut self, outcome: Result<PublishAck, RequestError>) -> Result<(), Failure> {
        self.unsettled.pop_front();
        let number = self.taken - self.unsettled.len() as u64;
        let ack = outcome.map_err(|error| self.failed(number, error))?;
        self.stored += 1;
        self.last = Some(ack);
        if self.args.json {
            self.printer.json(&Stored {
                partition: ack.partition.0,
                offset: ack.offset.0,
                durability: durability(ack.durability),
                duplicate: ack.duplicate,
            });
        }
        Ok(())
    }

    fn failed(&self, number: u64, source: RequestError) -> Failure {
        Failure::Record {
            number,
            done: self.stored,
            source,
        }
    }

    fn summary(&self) -> String {
        match (self.stored, self.last) {
            (1, Some(ack)) => format!(
                "published to {} partition {} offset {}",
                self.args.stream, ack.partition, ack.offset
            ),
            (stored, _) => format!("published {stored} records to {}", self.args.stream),
        }
    }
}

/// Waits for the oldest record. Cancel-safe: the ticket stays in the queue.
async fn next_outcome(unsettled: &mut VecDeque<PublishTicket>) -> Result<PublishAck, RequestError> {
    unsettled
        .front_mut()
        .expect("asked only when not empty")
        .await
}

#[derive(Serialize)]
struct Stored {
    partition: u16,
    offset: u64,
    durability: &'static str,
    duplicate: bool,
}

/// The word for what an acknowledgement promised.
pub(crate) const fn durability(durability: Durability) -> &'static str {
    match durability {
        Durability::Memory => "memory",
        Durability::Disk => "disk",
        Durability::Quorum => "quorum",
    }
}
