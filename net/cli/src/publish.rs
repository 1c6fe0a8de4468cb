//! `pinion pub`: records from an argument, a file or standard input.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal as _, Read};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use pinion_client::{
    Bytes, Durability, PublishAck, PublishTicket, Publisher, PublisherOptions, Record, RequestError,
};
use pinion_types::limits::RECORD_BYTES_MAX;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::connect::ConnectArgs;
use crate::failure::Failure;
use crate::output::Printer;
use crate::value;

/// Longest line or file that is taken for one record. Key and headers share the
/// node's limit with it; the node's own check says so when they are too much.
const INPUT_BYTES_MAX: usize = RECORD_BYTES_MAX as usize;
/// Lines read ahead of the publisher. More hides a slow disk; each may be 1 MiB.
const LINES_AHEAD: usize = 64;
/// Records that await their acknowledgement before the input waits too.
const UNSETTLED_MAX: usize = 16_384;
/// Work shorter than this shows no progress bar.
const PROGRESS_AFTER: Duration = Duration::from_millis(500);
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

/// What is published.
enum Source {
    One(Bytes),
    Lines {
        input: Box<dyn Read + Send>,
        /// Bytes in all, where the source knows.
        bytes: Option<u64>,
    },
}

pub(crate) async fn run(args: &PubArgs) -> Result<(), Failure> {
    // Before the connection: a file that is not there needs none.
    let source = args.source()?;
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
        let mut progress = Progress::new(bytes);
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

const fn durability(durability: Durability) -> &'static str {
    match durability {
        Durability::Memory => "memory",
        Durability::Disk => "disk",
        Durability::Quorum => "quorum",
    }
}

impl PubArgs {
    fn source(&self) -> Result<Source, Failure> {
        match (self.value.as_deref(), self.file.as_deref()) {
            (Some(value), _) if value != "-" => {
                Ok(Source::One(Bytes::copy_from_slice(value.as_bytes())))
            }
            (_, Some(path)) if path != Path::new("-") => {
                let doing = || format!("read {}", path.display());
                let file = File::open(path).map_err(|error| Failure::io(doing(), error))?;
                let bytes = file.metadata().ok().map(|meta| meta.len());
                self.read(Box::new(file), bytes, doing())
            }
            (None, None) if io::stdin().is_terminal() => {
                eprintln!("a record per line; end with Ctrl-D");
                self.read(
                    Box::new(io::stdin()),
                    None,
                    "read standard input".to_owned(),
                )
            }
            _ => self.read(
                Box::new(io::stdin()),
                None,
                "read standard input".to_owned(),
            ),
        }
    }

    fn read(
        &self,
        mut input: Box<dyn Read + Send>,
        bytes: Option<u64>,
        doing: String,
    ) -> Result<Source, Failure> {
        if !self.whole {
            return Ok(Source::Lines { input, bytes });
        }
        let mut whole = Vec::new();
        let limit = INPUT_BYTES_MAX as u64 + 1;
        input
            .by_ref()
            .take(limit)
            .read_to_end(&mut whole)
            .map_err(|error| Failure::io(doing, error))?;
        if whole.len() > INPUT_BYTES_MAX {
            return Err(Failure::Request(RequestError::TooLarge {
                what: "the input, as one record,",
                len: whole.len(),
                limit: INPUT_BYTES_MAX,
            }));
        }
        Ok(Source::One(whole.into()))
    }
}

/// Reads lines on a thread of its own, because a read of standard input cannot
/// be given up. The channel's bound holds it back.
fn read_lines(input: Box<dyn Read + Send>) -> mpsc::Receiver<Result<Bytes, Failure>> {
    let (sender, receiver) = mpsc::channel(LINES_AHEAD);
    thread::spawn(move || {
        let mut reader = BufReader::with_capacity(64 << 10, input);
        let mut number = 0;
        loop {
            number += 1;
            let line = match next_line(&mut reader, number) {
                Ok(Some(line)) => Ok(line),
                Ok(None) => return,
                Err(error) => Err(error),
            };
            let last = line.is_err();
            if sender.blocking_send(line).is_err() || last {
                return;
            }
        }
    });
    receiver
}

fn next_line(reader: &mut impl BufRead, number: u64) -> Result<Option<Bytes>, Failure> {
    let mut line = Vec::new();
    reader
        .by_ref()
        .take(INPUT_BYTES_MAX as u64 + 1)
        .read_until(b'\n', &mut line)
        .map_err(|error| Failure::io("read the input", error))?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() > INPUT_BYTES_MAX {
        return Err(Failure::LineTooLong {
            line: number,
            limit: INPUT_BYTES_MAX,
        });
    }
    Ok(Some(line.into()))
}

/// A bar on standard error once the work has lasted a moment; none when that
/// is no terminal or nobody knows how much there is.
struct Progress {
    started: Instant,
    total: Option<u64>,
    bar: Option<ProgressBar>,
}

impl Progress {
    fn new(total: Option<u64>) -> Self {
        Self {
            started: Instant::now(),
            total: total.filter(|_| io::stderr().is_terminal()),
            bar: None,
        }
    }

    fn set(&mut self, bytes: u64) {
        let Some(total) = self.total else { return };
        if self.bar.is_none() && self.started.elapsed() > PROGRESS_AFTER {
            let bar = ProgressBar::new(total);
            let style = ProgressStyle::with_template(
                "{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
            );
            bar.set_style(style.expect("a constant template"));
            self.bar = Some(bar);
        }
        if let Some(bar) = &self.bar {
            bar.set_position(bytes.min(total));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: &[u8]) -> Vec<Result<Bytes, Failure>> {
        let mut reader = input;
        let mut lines = Vec::new();
        while let Some(line) = next_line(&mut reader, lines.len() as u64 + 1).transpose() {
            let failed = line.is_err();
            lines.push(line);
            if failed {
                break;
            }
        }
        lines
    }

    #[test]
    fn every_line_is_a_record_also_an_empty_one_and_one_without_an_end() {
        let got: Vec<Bytes> = lines(b"one\n\n\xff\r\nlast")
            .into_iter()
            .map(|line| line.expect("short"))
            .collect();
        assert_eq!(got, [&b"one"[..], b"", b"\xff\r", b"last"]);
        assert!(lines(b"").is_empty());
    }

    #[test]
    fn a_line_over_the_limit_is_named_and_not_held_in_memory() {
        let mut input = vec![b'x'; INPUT_BYTES_MAX];
        input.push(b'\n');
        assert!(lines(&input).iter().all(Result::is_ok));
        input.insert(0, b'x');
        input.splice(0..0, *b"first\n");
        let got = lines(&input);
        assert!(matches!(got[1], Err(Failure::LineTooLong { line: 2, .. })));
    }
}
