//! `pinion bench`: figures of a running node, taken by the native client.
//!
//! Start with [`measure`] for the loops and what they promise; [`rpc`] and
//! [`pubsub`] speak to the node; [`machine`] says whether the machine was quiet
//! enough for the figure to mean anything. [`acked`], [`queue`] and [`replay`]
//! measure what is durable.

pub mod acked;
pub mod latency;
pub mod machine;
pub mod measure;
pub mod pubsub;
pub mod queue;
pub mod replay;
pub mod report;
pub mod rpc;
pub mod sdk;
pub mod target;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use pinion_client::native::NativeConfig;
use pinion_wire::message::Durability;

use acked::{AckedPublish, Publishes};
use machine::{MachineFacts, Watch};
use measure::{BenchError, Run, Span, closed_loop, flood, open_loop};
use pubsub::{Layout, PubSub};
use queue::{QueueCycle, QueueLoad};
use replay::Replay;
use report::Report;
use rpc::{Ask, CacheLoad, Rpc};
use target::{TargetArgs, one_partition};

/// Measure a running node
#[derive(Clone, Debug, Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    /// PING: one request and its answer, nothing else
    Rtt(RttArgs),
    /// GET and SET of keys stored before the run
    Cache(CacheArgs),
    /// One publisher, one subscriber: publish to delivery
    Pubsub(PubsubArgs),
    /// One publisher, many subscribers
    Fanout(FanoutArgs),
    /// Publishes that wait for their acknowledgement
    Publish(PublishArgs),
    /// A work queue: put, take, ack
    Queue(QueueArgs),
    /// Read a stream from its beginning
    Replay(ReplayArgs),
}

#[derive(Clone, Debug, Args)]
struct Common {
    #[command(flatten)]
    target: TargetArgs,
    /// Seconds measured
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Seconds before measuring starts
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,
    /// Bind the generating thread to this processor; give it one of its own, it spins
    #[arg(long, value_name = "CPU")]
    pin: Option<usize>,
    /// Use the SDK on tokio instead of the native client: one connection per data core
    #[arg(long)]
    sdk: bool,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
    /// Write the latency distribution here, for HdrHistogram plotters
    #[arg(long, value_name = "FILE")]
    hgrm: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
struct Load {
    /// Connections, spread over the data cores
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// Requests in flight on each connection
    #[arg(long, default_value_t = 1, conflicts_with = "rate")]
    depth: u32,
    /// Open loop: requests a second over all connections; latency counts from the intended send time
    #[arg(long)]
    rate: Option<f64>,
}

#[derive(Clone, Debug, Args)]
struct RttArgs {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    load: Load,
    /// Bytes of each PING
    #[arg(long, default_value_t = 64)]
    size: usize,
}

#[derive(Clone, Debug, Args)]
struct CacheArgs {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    load: Load,
    /// Bytes of each value
    #[arg(long, default_value_t = 100)]
    size: usize,
    /// Distinct keys, stored before the run
    #[arg(long, default_value_t = 10_000)]
    keys: usize,
    /// Share of GETs, 0 to 1; the rest are SETs
    #[arg(long, default_value_t = 1.0)]
    get_share: f64,
}

#[derive(Clone, Debug, Args)]
struct PubsubArgs {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    publish: Publishing,
    /// Records a second; latency counts from the intended send time
    #[arg(long, default_value_t = 10_000.0, conflicts_with = "max")]
    rate: f64,
    /// As many records as the subscriber takes
    #[arg(long)]
    max: bool,
}

#[derive(Clone, Debug, Args)]
struct FanoutArgs {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    publish: Publishing,
    /// Subscribers
    #[arg(long, default_value_t = 100)]
    subscribers: usize,
    /// All subscriptions on one connection instead of one connection each
    #[arg(long)]
    shared: bool,
    /// Records a second [default: as many as the slowest subscriber takes]
    #[arg(long)]
    rate: Option<f64>,
}

#[derive(Clone, Debug, Args)]
struct Publishing {
    /// Stream under namespace bench
    #[arg(long, default_value = "pubsub")]
    stream: String,
    /// Bytes of each record's value
    #[arg(long, default_value_t = 100)]
    size: usize,
    /// Most records of one publish; none waits for company
    #[arg(long, default_value_t = 64)]
    batch: u32,
    /// Records in flight to the slowest subscriber when there is no rate
    #[arg(long, default_value_t = 4096)]
    window: u64,
    /// Ask for an acknowledgement of every publish
    #[arg(long)]
    acked: bool,
}

#[derive(Clone, Debug, Args)]
struct PublishArgs {
    #[command(flatten)]
    common: Common,
    /// Stream under namespace bench; its first partition is used
    #[arg(long, default_value = "publish")]
    stream: String,
    /// Declare the stream durable: an acknowledged record survives a crash
    #[arg(long)]
    durable: bool,
    /// Publishes in flight
    #[arg(long, default_value_t = 1, conflicts_with = "rate")]
    depth: u32,
    /// Open loop: publishes a second; latency counts from the intended send time
    #[arg(long)]
    rate: Option<f64>,
    /// Records of each publish
    #[arg(long, default_value_t = 1)]
    records: u32,
    /// Bytes of each record's value
    #[arg(long, default_value_t = 256)]
    size: usize,
}

#[derive(Clone, Debug, Args)]
struct QueueArgs {
    #[command(flatten)]
    common: Common,
    /// Queue under namespace bench; its first partition is used
    #[arg(long, default_value = "queue")]
    queue: String,
    /// Declare the queue durable: puts and acks survive a crash
    #[arg(long)]
    durable: bool,
    /// Producers, each on its own connection
    #[arg(long, default_value_t = 32)]
    producers: usize,
    /// Consumers, each on its own connection
    #[arg(long, default_value_t = 32)]
    consumers: usize,
    /// Puts of one producer that may await their answer
    #[arg(long, default_value_t = 1)]
    puts: u32,
    /// Messages of one producer that may be unfinished
    #[arg(long, default_value_t = 16)]
    unfinished: u32,
    /// Most messages of one take
    #[arg(long, default_value_t = 100)]
    take: u32,
    /// Bytes of each message
    #[arg(long, default_value_t = 100)]
    size: usize,
}

#[derive(Clone, Debug, Args)]
struct ReplayArgs {
    #[command(flatten)]
    common: Common,
    /// Stream under namespace bench; its first partition is read
    #[arg(long, default_value = "publish")]
    stream: String,
}

/// Runs one benchmark and prints its report. Exit code 0, or 1 with the reason
/// on standard error.
#[must_use]
pub fn run(args: &BenchArgs) -> ExitCode {
    match try_run(&args.what) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn try_run(what: &What) -> Result<(), BenchError> {
    let common = match what {
        What::Rtt(args) => &args.common,
        What::Cache(args) => &args.common,
        What::Pubsub(args) => &args.common,
        What::Fanout(args) => &args.common,
        What::Publish(args) => &args.common,
        What::Queue(args) => &args.common,
        What::Replay(args) => &args.common,
    };
    // Before pinning, which leaves one processor to be seen.
    let facts = MachineFacts::read();
    if let Some(cpu) = common.pin {
        machine::pin_thread(cpu).map_err(BenchError::io("--pin"))?;
    }
    let span = common.span()?;
    let watch = Watch::start(&[]);
    let (name, run) = match what {
        What::Rtt(args) => ("rtt", args.run(span)?),
        What::Cache(args) => ("cache", args.run(span)?),
        What::Pubsub(args) => ("pubsub", args.run(span)?),
        What::Fanout(args) => ("fanout", args.run(span)?),
        What::Publish(args) => ("publish", args.run(span)?),
        What::Queue(args) => ("queue", args.run(span)?),
        What::Replay(args) => ("replay (bytes)", args.run(span)?),
    };
    if let Some(path) = &common.hgrm {
        let mut file = std::fs::File::create(path).map_err(BenchError::io("--hgrm"))?;
        run.latency
            .write_hgrm(&mut file)
            .map_err(BenchError::io("--hgrm"))?;
    }
    // The node's own work counts as another's here: it is another process.
    let report = Report::new(name, &format!("{what:?}"), &run, watch.stop(), facts);
    if common.json {
        println!("{}", report.json());
    } else {
        println!("{report}");
    }
    Ok(())
}

impl Common {
    /// For what only the native client measures.
    fn native(&self) -> Result<NativeConfig, BenchError> {
        if self.sdk {
            return Err(BenchError::Options(
                "no --sdk here: leave it out".to_owned(),
            ));
        }
        self.target.config()
    }

    fn span(&self) -> Result<Span, BenchError> {
        let seconds = |option: &str, value: f64| {
            Duration::try_from_secs_f64(value)
                .map_err(|_| BenchError::Options(format!("{option} {value} is no time")))
        };
        Ok(Span {
            warmup: seconds("--warmup", self.warmup)?,
            measured: seconds("--seconds", self.seconds)?,
        })
    }
}

impl Load {
    fn run(&self, common: &Common, ask: Ask, span: Span) -> Result<Run, BenchError> {
        if common.sdk {
            return match self.rate {
                None => sdk::closed(common.target.sdk_config()?, &ask, self.depth, span),
                Some(_) => Err(BenchError::Options(
                    "--sdk takes --rate with pubsub only: leave one of them out".to_owned(),
                )),
            };
        }
        // With a rate nothing bounds the depth but the node; remember that many.
        let depth = if self.rate.is_some() {
            1024
        } else {
            self.depth.max(1)
        };
        let mut driver = Rpc::new(common.target.config()?, self.connections, depth, ask)?;
        match self.rate {
            Some(rate) => open_loop(&mut driver, rate, span),
            None => closed_loop(&mut driver, depth, span),
        }
    }
}

impl RttArgs {
    fn run(&self, span: Span) -> Result<Run, BenchError> {
        let ask = Ask::Ping { size: self.size };
        self.load.run(&self.common, ask, span)
    }
}

impl CacheArgs {
    fn run(&self, span: Span) -> Result<Run, BenchError> {
        let ask = Ask::Cache(CacheLoad {
            keys: self.keys,
            value_bytes: self.size,
            get_share: self.get_share,
        });
        self.load.run(&self.common, ask, span)
    }
}

impl Publishing {
    fn driver(
        &self,
        common: &Common,
        subscribers: usize,
        shared: bool,
    ) -> Result<PubSub, BenchError> {
        PubSub::new(
            common.target.config()?,
            Layout {
                stream: self.stream.clone(),
                subscribers: subscribers.max(1),
                shared,
                record_bytes: self.size,
                batch: self.batch,
                acked: self.acked,
            },
        )
    }
}

impl PubsubArgs {
    fn run(&self, span: Span) -> Result<Run, BenchError> {
        if self.common.sdk {
            let config = self.common.target.sdk_config()?;
            let Publishing {
                stream,
                size,
                acked,
                ..
            } = &self.publish;
            return sdk::paced(config, stream, *size, self.rate, *acked, span);
        }
        let mut driver = self.publish.driver(&self.common, 1, false)?;
        if self.max {
            flood(&mut driver, 1, self.publish.window, span)
        } else {
            open_loop(&mut driver, self.rate, span)
        }
    }
}

impl FanoutArgs {
    fn run(&self, span: Span) -> Result<Run, BenchError> {
        if self.common.sdk {
            return Err(BenchError::Options(
                "fanout has no --sdk: use pubsub --sdk".to_owned(),
            ));
        }
        let subscribers = self.subscribers.max(1);
        let mut driver = self
            .publish
            .driver(&self.common, subscribers, self.shared)?;
        match self.rate {
            Some(rate) => open_loop(&mut driver, rate, span),
            None => flood(&mut driver, subscribers, self.publish.window, span),
        }
    }
}

impl PublishArgs {
    fn run(&self, span: Span) -> Result<Run, BenchError> {
        let mut driver = AckedPublish::new(
            self.common.native()?,
            Publishes {
                stream: self.stream.clone(),
                spec: Some(one_partition(self.durable)),
                record_bytes: self.size,
                records: self.records,
                durability: if self.durable {
                    Durability::Disk
                } else {
                    Durability::Memory
                },
            },
        )?;
        match self.rate {
            Some(rate) => open_loop(&mut driver, rate, span),
            None => closed_loop(&mut driver, self.depth.max(1), span),
        }
    }
}

impl QueueArgs {
    fn run(&self, span: Span) -> Result<Run, BenchError> {
        let load = QueueLoad {
            producers: self.producers.max(1),
            consumers: self.consumers.max(1),
            puts: self.puts.max(1),
            take: self.take,
            message_bytes: self.size,
        };
        let spec = one_partition(self.durable);
        let mut driver = QueueCycle::new(self.common.native()?, &self.queue, spec, &load)?;
        closed_loop(&mut driver, self.unfinished.max(1), span)
    }
}

impl ReplayArgs {
    fn run(&self, span: Span) -> Result<Run, BenchError> {
        let mut replay = Replay::new(self.common.native()?, &self.stream)?;
        replay::read(&mut replay, span)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        bench: BenchArgs,
    }

    #[test]
    fn every_documented_option_is_understood() {
        for line in [
            "b rtt --server [::1]:1 --connections 2 --depth 3 --size 64 --seconds 1 --warmup 0.1 --pin 1 --json --hgrm f",
            "b cache --rate 1000 --get-share 0.5 --keys 10 --size 1000 --ca a --token t --server-name n",
            "b rtt --sdk --depth 4",
            "b pubsub --sdk --rate 10",
            "b pubsub --rate 10 --size 100 --batch 1 --acked --stream s",
            "b pubsub --max --window 10",
            "b fanout --subscribers 3 --shared --rate 5",
            "b publish --durable --depth 256 --records 10 --size 256 --stream s",
            "b publish --rate 1000",
            "b queue --durable --producers 3 --consumers 4 --puts 2 --unfinished 5 --take 6 --queue q",
            "b replay --stream s",
        ] {
            if let Err(error) = Cli::try_parse_from(line.split(' ')) {
                panic!("{line}: {error}");
            }
        }
    }

    #[test]
    fn a_rate_and_a_depth_contradict_each_other() {
        assert!(Cli::try_parse_from(["b", "rtt", "--rate", "5", "--depth", "2"]).is_err());
        assert!(Cli::try_parse_from(["b", "pubsub", "--rate", "5", "--max"]).is_err());
        assert!(Cli::try_parse_from(["b", "publish", "--rate", "5", "--depth", "2"]).is_err());
    }

    #[test]
    fn a_time_that_is_none_is_refused() {
        let parsed = Cli::try_parse_from(["b", "rtt", "--seconds=-1"]).expect("clap takes it");
        let What::Rtt(args) = &parsed.bench.what else {
            panic!("rtt was asked for");
        };
        assert!(args.common.span().is_err());
    }
}
