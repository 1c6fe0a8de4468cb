//! Every line of the promise "speed and size" beside its controls.
//!
//! For each line the subjects take turns, round after round, each with a fresh
//! server process on one processor and the same generating thread on another,
//! so that two figures of a round are seconds apart. What is published is the
//! median and the range over the rounds, and ratios formed within a round.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use pinion_cli::bench::acked::{AckedPublish, Publishes};
use pinion_cli::bench::machine::{Disturbance, MachineFacts};
use pinion_cli::bench::measure::{BenchError, Driver, Run, Span, closed_loop, flood, open_loop};
use pinion_cli::bench::pubsub::{Layout, PubSub};
use pinion_cli::bench::rpc::{Ask, CacheLoad, Rpc};
use pinion_cli::bench::target::one_partition;
use pinion_client::native::NativeConfig;
use pinion_wire::message::Durability;
use serde::Serialize;

use crate::bare::Service;
use crate::bare_load::{Asked, BareLoad};
use crate::echo::{Echo, Waiting};
use crate::handshakes::{CryptoFloor, HANDSHAKES, Handshakes};
use crate::idle::{self, Idle};
use crate::log_session::on_server_cpu;
use crate::memcached::Memcached;
use crate::nats::Nats;
use crate::peak;
use crate::plans::{
    BULK_DEPTH, BULK_RECORD_BYTES, BULK_RECORDS, KEYS, PING_BYTES, PLANS, Plan, Subject,
    VALUE_BYTES, Work,
};
use crate::quinn_echo;
use crate::redis::Redis;
use crate::server::{self, Certificate, Node, Server};
use crate::table::{Figure, Line, Measured};
use crate::turns::{
    self, Marks, Output, SERVER_CPU, TRIES_AGAIN_MAX, Tally, Unit, heading, in_turns,
    said_of_tries, seconds, undisturbed,
};

/// Records in flight to the slowest subscriber of a fan-out: enough to keep the
/// server busy, below every server's own bound for a slow subscriber.
const FANOUT_WINDOW: u64 = 4096;

const MARKS: Marks = Marks {
    begin: "<!-- suite:begin -->",
    end: "<!-- suite:end -->",
};

/// Compare a node with its controls
#[derive(Clone, Debug, Parser)]
pub struct SuiteArgs {
    /// The node's binary
    #[arg(long, default_value = "target/release/pinion")]
    pinion: PathBuf,
    /// Further argument of `pinion serve`; may be repeated
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    serve_arg: Vec<String>,
    /// Runs of every subject
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds measured in each run
    #[arg(long, default_value_t = 2.5)]
    seconds: f64,
    /// Seconds before measuring starts
    #[arg(long, default_value_t = 0.5)]
    warmup: f64,
    /// Three rounds of half a second: to see that everything works
    #[arg(long)]
    quick: bool,
    /// Only lines whose title contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Idle connections of the last line; 0 leaves it out
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// Begin no run after so many minutes
    #[arg(long, default_value_t = 15.0)]
    minutes_max: f64,
    #[command(flatten)]
    output: Output,
}

/// Everything one run of the suite found.
#[derive(Clone, Debug, Serialize)]
pub struct Findings {
    machine: MachineFacts,
    disturbance_before: Disturbance,
    tally: Tally,
    lines: Vec<Line>,
    idle: Option<Idle>,
    minutes: f64,
    cut_short: bool,
}

/// Runs the suite. Exit code 0 when it ran to its end, whether or not every
/// bound was held; 1 when it could not, or when the machine was too busy.
#[must_use]
pub fn run(args: &SuiteArgs) -> ExitCode {
    match try_run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn try_run(args: &SuiteArgs) -> Result<(), BenchError> {
    let (machine, before) = turns::prepare(args.output.force)?;
    let findings = Session::new(args)?.all(machine, before);
    args.output.write_distributions(&findings.lines)?;
    args.output
        .deliver(&findings.markdown(), &findings, findings.tally, MARKS)
}

struct Session<'a> {
    args: &'a SuiteArgs,
    node: Node,
    certificate: Certificate,
    dir: tempfile::TempDir,
    span: Span,
    rounds: usize,
    started: Instant,
    tally: Tally,
}

impl<'a> Session<'a> {
    fn new(args: &'a SuiteArgs) -> Result<Self, BenchError> {
        let certificate = Certificate::new().map_err(BenchError::io("making a certificate"))?;
        let dir = tempfile::tempdir().map_err(BenchError::io("temporary directory"))?;
        certificate
            .write(dir.path())
            .map_err(BenchError::io("writing the certificate"))?;
        let (rounds, measured) = if args.quick {
            (3, Duration::from_millis(500))
        } else {
            (args.rounds.max(1), seconds("--seconds", args.seconds)?)
        };
        Ok(Self {
            args,
            node: Node {
                binary: args.pinion.clone(),
                arguments: args.serve_arg.clone(),
            },
            certificate,
            dir,
            span: Span {
                warmup: seconds("--warmup", args.warmup)?,
                measured,
            },
            rounds,
            started: Instant::now(),
            tally: Tally::default(),
        })
    }

    fn is_over(&self) -> bool {
        self.started.elapsed().as_secs_f64() > self.args.minutes_max * 60.0
    }

    fn wants(&self, title: &str) -> bool {
        let only = self.args.only.as_deref().unwrap_or_default();
        title.to_lowercase().contains(&only.to_lowercase())
    }

    fn all(mut self, machine: MachineFacts, disturbance_before: Disturbance) -> Findings {
        let mut lines = Vec::new();
        for plan in PLANS {
            if self.wants(plan.title) && !self.is_over() {
                lines.push(self.line(plan));
            }
        }
        let idle = (self.args.connections > 0 && self.wants("idle") && !self.is_over())
            .then(|| self.idle())
            .flatten();
        Findings {
            machine,
            disturbance_before,
            tally: self.tally,
            lines,
            idle,
            minutes: self.started.elapsed().as_secs_f64() / 60.0,
            cut_short: self.is_over(),
        }
    }

    fn line(&mut self, plan: &Plan) -> Line {
        eprintln!("{}", plan.title);
        let rounds = self.rounds;
        // What the kernel takes is a hundredth of a run or two: nothing to a rate.
        let is_of_the_slowest = |promise: &(_, Figure, _)| promise.1.is_of_the_slowest();
        let again = if matches!(plan.work, Work::CacheHalfPeak { .. }) {
            // It makes its own runs again, without looking for the peak each time.
            0
        } else if plan.promises.iter().any(is_of_the_slowest) {
            TRIES_AGAIN_MAX
        } else {
            0
        };
        let columns = in_turns(
            plan.subjects,
            rounds,
            again,
            |subject| subject.name().to_owned(),
            |subject| {
                if self.is_over() {
                    return None;
                }
                let result = self.measure(subject, plan.work);
                self.tally.count(subject.name(), result)
            },
        );
        let title = plan.title.to_owned();
        Line::new(title, columns, plan.promises, Subject::name)
    }

    fn measure(&self, subject: Subject, work: Work) -> Result<Measured, BenchError> {
        match work {
            Work::Cache {
                connections,
                depth,
                get_share,
            } => self.cache(subject, connections, get_share, &Pattern::Closed { depth }),
            Work::CachePaced { connections, rate } => {
                self.cache(subject, connections, 1.0, &Pattern::Open { rate })
            }
            Work::CacheHalfPeak { connections } => {
                self.cache(subject, connections, 1.0, &Pattern::HalfPeak)
            }
            Work::Ping { depth } => self.ping(subject, depth),
            Work::Bulk => self.bulk(subject),
            Work::Handshakes => self.handshakes(subject),
            Work::Paced { rate } => match subject {
                Subject::Pinion => {
                    let (node, mut driver) = self.pinion_pubsub(1, false)?;
                    self.observe(&node.server, |span| open_loop(&mut driver, rate, span))
                }
                _ => {
                    let server = server::nats(SERVER_CPU).map_err(BenchError::io("NATS"))?;
                    let mut driver = Nats::new(server.address(), 1, false, VALUE_BYTES)?;
                    self.observe(&server, |span| open_loop(&mut driver, rate, span))
                }
            },
            Work::Fanout {
                subscribers,
                shared,
            } => match subject {
                Subject::Pinion => {
                    let (node, mut driver) = self.pinion_pubsub(subscribers, shared)?;
                    self.fanout(&node.server, &mut driver, subscribers)
                }
                _ => {
                    let server = server::nats(SERVER_CPU).map_err(BenchError::io("NATS"))?;
                    let mut driver = Nats::new(server.address(), subscribers, shared, VALUE_BYTES)?;
                    self.fanout(&server, &mut driver, subscribers)
                }
            },
        }
    }

    fn fanout<D: Driver>(
        &self,
        server: &Server,
        driver: &mut D,
        subscribers: usize,
    ) -> Result<Measured, BenchError> {
        self.observe(server, |span| {
            flood(driver, subscribers, FANOUT_WINDOW, span)
        })
    }

    fn cache(
        &self,
        subject: Subject,
        connections: usize,
        get_share: f64,
        pattern: &Pattern,
    ) -> Result<Measured, BenchError> {
        let load = CacheLoad {
            keys: KEYS,
            value_bytes: VALUE_BYTES,
            get_share,
        };
        match subject {
            Subject::Pinion => {
                let node = self.start_node()?;
                let config = node_config(&node.server, node.dir.path())?;
                let remembered = pattern.depth();
                let mut driver = Rpc::new(config, connections, remembered, Ask::Cache(load))?;
                self.observe_pattern(&node.server, &mut driver, pattern)
            }
            Subject::RedisPlain | Subject::RedisTls => {
                let tls = subject == Subject::RedisTls;
                let server = server::redis(SERVER_CPU, tls.then(|| self.dir.path()))
                    .map_err(BenchError::io("Redis"))?;
                let config = self
                    .certificate
                    .client_config()
                    .map_err(BenchError::io("TLS"))?;
                let mut driver =
                    Redis::new(server.address(), tls.then_some(&config), connections, &load)?;
                self.observe_pattern(&server, &mut driver, pattern)
            }
            Subject::Memcached => {
                let server = server::memcached(SERVER_CPU).map_err(BenchError::io("memcached"))?;
                let mut driver = Memcached::new(server.address(), None, connections, &load)?;
                self.observe_pattern(&server, &mut driver, pattern)
            }
            _ => self.echo(subject, VALUE_BYTES, pattern.depth()),
        }
    }

    fn ping(&self, subject: Subject, depth: u32) -> Result<Measured, BenchError> {
        match subject {
            Subject::Pinion => {
                let node = self.start_node()?;
                let config = node_config(&node.server, node.dir.path())?;
                let ask = Ask::Ping { size: PING_BYTES };
                let mut driver = Rpc::new(config, 1, depth, ask)?;
                self.observe(&node.server, |span| closed_loop(&mut driver, depth, span))
            }
            Subject::BareEcho => {
                let server = server::bare(SERVER_CPU, self.dir.path(), Service::Echo)
                    .map_err(BenchError::io("bare QUIC echo"))?;
                let asked = Asked::Ping { size: PING_BYTES };
                let root = self.certificate.root();
                let mut driver = BareLoad::new(server.address(), root, &asked)?;
                self.observe(&server, |span| closed_loop(&mut driver, depth, span))
            }
            _ => self.echo(subject, PING_BYTES, depth),
        }
    }

    /// What carries messages of `size` bytes back and nothing else.
    fn echo(&self, subject: Subject, size: usize, depth: u32) -> Result<Measured, BenchError> {
        match subject {
            Subject::UdpSpin | Subject::UdpBlock => {
                let waiting = if subject == Subject::UdpSpin {
                    Waiting::Spin
                } else {
                    Waiting::Block
                };
                let server =
                    server::udp_echo(SERVER_CPU, waiting).map_err(BenchError::io("UDP echo"))?;
                let mut driver = Echo::new(server.address(), waiting, size)?;
                self.observe(&server, |span| closed_loop(&mut driver, 1, span))
            }
            Subject::Quinn => {
                let server = server::quinn_echo(SERVER_CPU, self.dir.path())
                    .map_err(BenchError::io("quinn echo"))?;
                let depth = depth as usize;
                let root = self.certificate.root();
                self.observe(&server, |span| {
                    quinn_echo::measure(server.address(), root, size, depth, span)
                })
            }
            _ => Err(BenchError::Options(format!(
                "{} is no echo",
                subject.name()
            ))),
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "bytes of one publish")]
    fn bulk(&self, subject: Subject) -> Result<Measured, BenchError> {
        let unit = Unit {
            records: f64::from(BULK_RECORDS),
            bytes: f64::from(BULK_RECORDS) * BULK_RECORD_BYTES as f64,
        };
        if subject == Subject::Pinion {
            let node = self.start_node()?;
            let config = admin_config(&node.server, node.dir.path())?;
            let publishes = Publishes {
                stream: "bulk".to_owned(),
                spec: Some(one_partition(false)),
                record_bytes: BULK_RECORD_BYTES,
                records: BULK_RECORDS,
                durability: Durability::Memory,
            };
            let mut driver = AckedPublish::new(config, publishes)?;
            return turns::measure(&[node.server.pid()], unit, || {
                closed_loop(&mut driver, BULK_DEPTH, self.span)
            });
        }
        let asked = Asked::Publish {
            records: BULK_RECORDS,
            record_bytes: BULK_RECORD_BYTES,
        };
        let message = asked.bytes()?;
        let server = server::bare(SERVER_CPU, self.dir.path(), Service::Sink { message })
            .map_err(BenchError::io("bare QUIC sink"))?;
        let mut driver = BareLoad::new(server.address(), self.certificate.root(), &asked)?;
        turns::measure(&[server.pid()], unit, || {
            closed_loop(&mut driver, BULK_DEPTH, self.span)
        })
    }

    fn handshakes(&self, subject: Subject) -> Result<Measured, BenchError> {
        if subject == Subject::CryptoFloor {
            let mut floor = CryptoFloor::new(self.certificate.key())?;
            return on_server_cpu(|| {
                turns::measure(&[], Unit::ONE, || closed_loop(&mut floor, 1, self.span))
            });
        }
        let node = self.start_node()?;
        let token = fs::read(node.dir.path().join("dev/client.token"))
            .map_err(BenchError::io("reading the node's files"))?;
        let mut driver = Handshakes::new(node.server.address(), &token)?;
        self.observe(&node.server, |span| {
            closed_loop(&mut driver, HANDSHAKES, span)
        })
    }

    fn start_node(&self) -> Result<StartedNode, BenchError> {
        let dir = tempfile::tempdir().map_err(BenchError::io("temporary directory"))?;
        let server = self
            .node
            .start(SERVER_CPU, dir.path())
            .map_err(BenchError::io("starting the node"))?;
        Ok(StartedNode { server, dir })
    }

    fn pinion_pubsub(
        &self,
        subscribers: usize,
        shared: bool,
    ) -> Result<(StartedNode, PubSub), BenchError> {
        let node = self.start_node()?;
        let config = node_config(&node.server, node.dir.path())?;
        let driver = PubSub::new(
            config,
            Layout {
                stream: "suite".to_owned(),
                subscribers,
                shared,
                record_bytes: VALUE_BYTES,
                batch: 64,
                acked: false,
            },
        )?;
        Ok((node, driver))
    }

    /// Measures, watching the server's processor time and everyone else's.
    fn observe(
        &self,
        server: &Server,
        measure: impl FnOnce(Span) -> Result<Run, BenchError>,
    ) -> Result<Measured, BenchError> {
        turns::measure(&[server.pid()], Unit::ONE, || measure(self.span))
    }

    fn observe_pattern<D: Driver>(
        &self,
        server: &Server,
        driver: &mut D,
        pattern: &Pattern,
    ) -> Result<Measured, BenchError> {
        match *pattern {
            Pattern::Closed { depth } => {
                self.observe(server, |span| closed_loop(driver, depth, span))
            }
            Pattern::Open { rate } => self.observe(server, |span| open_loop(driver, rate, span)),
            Pattern::HalfPeak => {
                let peak = peak::find(driver)?;
                let half = peak.rate / 2.0;
                // A run that is made again is half of the same peak: no search is.
                let mut failed = None;
                let measured = undisturbed(TRIES_AGAIN_MAX, || {
                    self.observe(server, |span| open_loop(driver, half, span))
                        .map_err(|error| failed = Some(error))
                        .ok()
                });
                match (measured, failed) {
                    (Some(mut measured), _) => {
                        measured.sample.peak = Some(peak);
                        Ok(measured)
                    }
                    (None, Some(error)) => Err(error),
                    (None, None) => Err(BenchError::Options("nothing was measured".to_owned())),
                }
            }
        }
    }

    fn idle(&self) -> Option<Idle> {
        eprintln!("Idle node, then {} idle connections", self.args.connections);
        let watch = if self.args.quick {
            Duration::from_secs(2)
        } else {
            Duration::from_secs(10)
        };
        let measured = tempfile::tempdir()
            .map_err(BenchError::io("temporary directory"))
            .and_then(|dir| idle::measure(&self.node, dir.path(), self.args.connections, watch));
        match measured {
            Ok(idle) => Some(idle),
            Err(error) => {
                eprintln!("  failed: {error}");
                None
            }
        }
    }
}

/// How requests follow each other.
enum Pattern {
    /// So many in flight on every connection.
    Closed { depth: u32 },
    /// So many a second over all of them.
    Open { rate: f64 },
    /// Half as many a second as can be asked, found just before.
    HalfPeak,
}

impl Pattern {
    /// Requests of one connection to be remembered. On a schedule nothing bounds
    /// them but the server.
    const fn depth(&self) -> u32 {
        match *self {
            Self::Closed { depth } => depth,
            Self::Open { .. } | Self::HalfPeak => 1024,
        }
    }
}

struct StartedNode {
    // Dropped in this order: the node ends before its directory goes.
    server: Server,
    dir: tempfile::TempDir,
}

/// How to reach a node that [`Node::start`] started with `dir`.
///
/// # Errors
/// The node has not written its files.
pub fn node_config(server: &Server, dir: &Path) -> Result<NativeConfig, BenchError> {
    config_with(server, dir, "client.token")
}

/// The same as someone who may declare what a resource is like.
///
/// # Errors
/// The node has not written its files.
pub fn admin_config(server: &Server, dir: &Path) -> Result<NativeConfig, BenchError> {
    config_with(server, dir, "admin.token")
}

fn config_with(server: &Server, dir: &Path, token: &str) -> Result<NativeConfig, BenchError> {
    let read = |name: &str| {
        fs::read(dir.join("dev").join(name)).map_err(BenchError::io("reading the node's files"))
    };
    let address: SocketAddr = server.address();
    Ok(NativeConfig::new(
        address,
        "localhost",
        &read("ca.pem")?,
        &read(token)?,
    ))
}

impl Findings {
    /// The whole report as Markdown.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut out = heading(&self.machine, self.tally, self.minutes, self.cut_short);
        out.push_str(&said_of_tries());
        for line in &self.lines {
            out.push('\n');
            out.push_str(&line.markdown());
        }
        if let Some(idle) = &self.idle {
            out.push('\n');
            out.push_str(&idle.markdown());
        }
        out
    }
}
