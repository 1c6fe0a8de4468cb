//! `pinion queue put`.

use std::io::Read;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use pinion_client::{Bytes, PutAck, PutOptions, Queue, QueueProducer, Record, RequestError};
use serde::Serialize;
use tokio::sync::mpsc;

use super::Context;
use crate::failure::Failure;
use crate::input::{Source, read_lines};
use crate::progress::Progress;
use crate::publish::durability;
use crate::value;

/// Messages put at once. More share one write of the node's disk; each may be
/// 1 MiB, and all of them are in memory.
const BATCH: usize = 256;

/// What to put and where.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct PutArgs {
    /// The queue, NAMESPACE/NAME
    #[arg(value_name = "NS/NAME", value_parser = value::resource)]
    queue: String,
    /// One message, or `-` for a message per line of standard input (also without VALUE and --file)
    #[arg(allow_hyphen_values = true, conflicts_with = "file")]
    value: Option<String>,
    /// Key of every message: the same key keeps its order, in one partition
    #[arg(long, value_name = "K")]
    key: Option<String>,
    /// Not given out before this has passed, like 90s or 7d
    #[arg(long, value_name = "TIME", value_parser = value::message_time)]
    delay: Option<Duration>,
    /// A dead letter, or gone, when nobody had it by then [default: the queue's]
    #[arg(long, value_name = "TIME", value_parser = value::message_time)]
    ttl: Option<Duration>,
    /// Header of every message; repeatable
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = value::pair)]
    headers: Vec<(String, String)>,
    /// A message per line of this file; `-` is standard input
    #[arg(long, value_name = "F")]
    file: Option<PathBuf>,
    /// The file or standard input as one message
    #[arg(long)]
    whole: bool,
}

#[derive(Serialize)]
struct Stored {
    partition: u16,
    id: u64,
    durability: &'static str,
    duplicate: bool,
}

struct Job<'a> {
    args: &'a PutArgs,
    producer: QueueProducer,
    context: &'a mut Context,
    taken: u64,
    stored: u64,
    last: Option<PutAck>,
}

impl PutArgs {
    pub(super) fn queue(&self) -> &str {
        &self.queue
    }

    pub(super) fn source(&self) -> Result<Source, Failure> {
        Source::of(self.value.as_deref(), self.file.as_deref(), self.whole)
    }

    pub(super) async fn run(
        &self,
        context: &mut Context,
        queue: &Queue,
        source: Source,
    ) -> Result<(), Failure> {
        let mut job = Job {
            args: self,
            producer: queue.producer(),
            context,
            taken: 0,
            stored: 0,
            last: None,
        };
        let result = match source {
            Source::One(value) => job.put(vec![value]).await,
            Source::Lines { input, bytes } => job.put_lines(input, bytes).await,
        };
        if !job.context.json && (result.is_ok() || job.stored > 0) {
            eprintln!("{}", job.summary());
        }
        result
    }

    fn record(&self, value: Bytes) -> Record {
        let mut record = Record::new(value);
        if let Some(key) = &self.key {
            record = record.key(key.clone());
        }
        for (name, value) in &self.headers {
            record = record.header(name.clone(), value.clone());
        }
        record
    }
}

impl Job<'_> {
    async fn put_lines(
        &mut self,
        input: Box<dyn Read + Send>,
        bytes: Option<u64>,
    ) -> Result<(), Failure> {
        let mut lines = read_lines(input);
        let mut progress = Progress::of_bytes(bytes);
        let mut interrupt = pin!(tokio::signal::ctrl_c());
        let mut bytes_taken = 0;
        loop {
            let (batch, failed) = tokio::select! {
                _ = &mut interrupt => {
                    let done = self.stored;
                    return Err(Failure::Incomplete(format!("interrupted after {done} messages")));
                }
                batch = next_batch(&mut lines) => batch,
            };
            let ended = batch.is_empty();
            bytes_taken += batch.iter().map(|line| line.len() as u64 + 1).sum::<u64>();
            self.put(batch).await?;
            progress.set(bytes_taken);
            match failed {
                Some(error) => return Err(error),
                None if ended => return Ok(()),
                None => {}
            }
        }
    }

    async fn put(&mut self, values: Vec<Bytes>) -> Result<(), Failure> {
        let records: Vec<Record> = values.into_iter().map(|v| self.args.record(v)).collect();
        let options = PutOptions {
            delay: self.args.delay.unwrap_or_default(),
            ttl: self.args.ttl,
        };
        let first = self.taken + 1;
        self.taken += records.len() as u64;
        let mut failed: Option<(u64, RequestError)> = None;
        for (number, put) in (first..).zip(self.producer.put_batch(&records, options).await) {
            match put {
                Ok(ack) => self.stored(ack),
                Err(error) => {
                    failed.get_or_insert((number, error));
                }
            }
        }
        self.context.printer.flush().await?;
        match failed {
            None => Ok(()),
            Some((number, source)) => Err(Failure::Message {
                number,
                stored: self.stored,
                source,
            }),
        }
    }

    fn stored(&mut self, ack: PutAck) {
        self.stored += 1;
        self.last = Some(ack);
        if self.context.json {
            self.context.printer.json(&Stored {
                partition: ack.partition.0,
                id: ack.id,
                durability: durability(ack.durability),
                duplicate: ack.duplicate,
            });
        }
    }

    fn summary(&self) -> String {
        let queue = &self.args.queue;
        match (self.stored, self.last) {
            (1, Some(ack)) => format!(
                "put into {queue} partition {} as {} ({})",
                ack.partition,
                ack.id,
                durability(ack.durability)
            ),
            (stored, Some(ack)) => {
                let kept = durability(ack.durability);
                format!("put {stored} messages into {queue} ({kept})")
            }
            (_, None) => format!("put nothing into {queue}"),
        }
    }
}

/// Lines that are there, at least one before the end, and what ended them.
async fn next_batch(
    lines: &mut mpsc::Receiver<Result<Bytes, Failure>>,
) -> (Vec<Bytes>, Option<Failure>) {
    let mut batch = Vec::new();
    let mut next = lines.recv().await;
    loop {
        match next {
            None => return (batch, None),
            Some(Err(error)) => return (batch, Some(error)),
            Some(Ok(line)) => batch.push(line),
        }
        if batch.len() == BATCH {
            return (batch, None);
        }
        next = match lines.try_recv() {
            Ok(line) => Some(line),
            Err(_) => return (batch, None),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_that_are_there_go_together_and_an_error_comes_after_them() {
        let (sender, mut lines) = mpsc::channel(8);
        for text in ["a", "b"] {
            sender.send(Ok(Bytes::from(text))).await.expect("room");
        }
        let failure = Failure::LineTooLong { line: 3, limit: 1 };
        sender.send(Err(failure)).await.expect("room");
        drop(sender);
        let (batch, failed) = next_batch(&mut lines).await;
        assert_eq!(batch, ["a", "b"]);
        assert!(matches!(failed, Some(Failure::LineTooLong { line: 3, .. })));
        let (batch, failed) = next_batch(&mut lines).await;
        assert!(batch.is_empty() && failed.is_none(), "the end");
    }
}
