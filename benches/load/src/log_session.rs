//! One run of [`log_suite`](crate::log_suite): the servers it starts, the folders
//! it prepares, and how each subject does each work.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use pinion_cli::bench::acked::{AckedPublish, Publishes};
use pinion_cli::bench::machine::{Disturbance, MachineFacts, ProcessUse, bound_to};
use pinion_cli::bench::measure::{BenchError, Driver, Run, Span, closed_loop, open_loop};
use pinion_cli::bench::queue::{QueueCycle, QueueLoad};
use pinion_cli::bench::replay::{self, Beside, Replay};
use pinion_cli::bench::target::one_partition;
use pinion_wire::message::Durability;
use tempfile::TempDir;

use crate::beanstalkd::Beanstalkd;
use crate::disk::{RAW_LOG_BYTES, RawLog, RawRead, check_place, free_bytes};
use crate::jetstream::{JetPublish, JetQueue};
use crate::log_suite::{Findings, LogArgs, PLANS, Plan, Subject, Work};
use crate::server::{self, Node, Server};
use crate::started::{
    COLD_STREAM, Filled, STOP_MAX, declare_many, log_bytes, segments, start_timed, stream_name,
};
use crate::suite::admin_config;
use crate::table::{Fact, Line, Measured, Spread};
use crate::turns::{SERVER_CPU, Tally, Unit, in_turns, measure, seconds};

/// Longest start with many streams, seconds.
const MANY_START_MAX_S: f64 = 3.0;
/// Most resident memory with many streams, MiB.
const MANY_RSS_MAX_MIB: f64 = 1024.0;
/// Longest restart after a clean stop, seconds.
const CLEAN_START_MAX_S: f64 = 2.0;
/// Longest restart after SIGKILL, seconds.
const KILLED_START_MAX_S: f64 = 5.0;

/// Log written for the restarts and the cold replay when nothing is asked for
/// and the disk has room.
const FILL_BYTES_MAX: u64 = 10 << 30;

/// Bytes left free on the disk, for segments that are zeroed ahead.
const FREE_BYTES_KEPT: u64 = 4 << 30;

/// Longest time to fill the log; the table says how far it came.
const FILL_MAX: Duration = Duration::from_secs(180);

/// Bytes of a published value.
const RECORD_BYTES: usize = 256;

/// Records of a large batch: as many of 256 bytes as fit a request of 1 MiB
/// with the header of each.
const LARGE_RECORDS: u32 = 3900;

/// Large batches in flight: one is written while the next arrive, and together
/// they stay below the 4 MiB that a partition lets wait for the disk.
const LARGE_DEPTH: u32 = 4;

/// One request of the sequential control.
const LARGE_WRITE_BYTES: usize = 1 << 20;

/// Publishes in flight at JetStream, which takes one record each, for the
/// line of large batches.
const JET_DEPTH: u32 = 4096;

/// Publishes in flight of the line about group commit.
pub(crate) const DEPTH: u32 = 256;

/// Streams of the control of many.
const FEW_STREAMS: usize = 10;

const QUEUE_LOAD: QueueLoad = QueueLoad {
    producers: 32,
    consumers: 32,
    puts: 1,
    take: 100,
    message_bytes: 100,
};

/// Messages of each producer that may be unfinished: a producer waits for its
/// put, not for the consumer, but the queue must not grow without end.
const UNFINISHED: u32 = 16;

/// Live publishes a second while another subscriber replays.
const LIVE_RATE: f64 = 1000.0;

/// One run of the suite.
pub(crate) struct Session<'a> {
    args: &'a LogArgs,
    node: Node,
    /// Removed with everything in it at the end.
    dir: TempDir,
    span: Span,
    rounds: usize,
    streams: usize,
    fill_bytes: u64,
    started: Instant,
    tally: Tally,
    many: Option<ManyStreams>,
    cold: Option<Cold>,
    /// What could not be prepared; it is not tried again for every run.
    unprepared: Vec<&'static str>,
}

/// Two folders of nodes with streams, prepared once.
struct ManyStreams {
    many: TempDir,
    few: TempDir,
    start_s: Vec<f64>,
    rss_mib: Vec<f64>,
}

/// The folder of a node with a long log.
struct Cold {
    dir: TempDir,
    filled: Filled,
}

impl<'a> Session<'a> {
    /// Makes a folder on the disk and looks at it.
    ///
    /// # Errors
    /// The folder is no good, or an option is not.
    pub(crate) fn new(args: &'a LogArgs) -> Result<Self, BenchError> {
        let place = match &args.dir {
            Some(dir) => dir.clone(),
            None => {
                let here =
                    std::env::current_exe().map_err(BenchError::io("finding this binary"))?;
                here.parent().map(PathBuf::from).unwrap_or_default()
            }
        };
        let dir = tempfile::Builder::new()
            .prefix("suite-log-")
            .tempdir_in(&place)
            .map_err(BenchError::io("--dir"))?;
        check_place(dir.path()).map_err(|error| BenchError::Options(error.to_string()))?;
        let (rounds, measured, streams) = if args.quick {
            (3, Duration::from_millis(500), args.streams.min(2000))
        } else {
            let measured = seconds("--seconds", args.seconds)?;
            (args.rounds.max(1), measured, args.streams)
        };
        let free = free_bytes(dir.path()).map_err(BenchError::io("--dir"))?;
        Ok(Self {
            args,
            node: Node {
                binary: args.pinion.clone(),
                arguments: args.serve_arg.clone(),
            },
            dir,
            span: Span {
                warmup: seconds("--warmup", args.warmup)?,
                measured,
            },
            rounds,
            streams,
            fill_bytes: fill_bytes(args, free)?,
            started: Instant::now(),
            tally: Tally::default(),
            many: None,
            cold: None,
            unprepared: Vec::new(),
        })
    }

    fn is_over(&self) -> bool {
        self.started.elapsed().as_secs_f64() > self.args.minutes_max * 60.0
    }

    fn wants(&self, title: &str) -> bool {
        let only = self.args.only.as_deref().unwrap_or_default();
        title.to_lowercase().contains(&only.to_lowercase())
    }

    /// Measures every line that is wanted while there is time.
    pub(crate) fn all(
        mut self,
        machine: MachineFacts,
        disturbance_before: Disturbance,
    ) -> Findings {
        let mut lines = Vec::new();
        for plan in PLANS {
            if self.wants(plan.title) && !self.is_over() {
                lines.push((self.line(plan), plan.note));
            }
        }
        let restarts = if self.wants("restart") && !self.is_over() {
            self.restarts()
        } else {
            Vec::new()
        };
        Findings {
            machine,
            disturbance_before,
            tally: self.tally,
            lines,
            many: self.many_facts(),
            restarts,
            minutes: self.started.elapsed().as_secs_f64() / 60.0,
            cut_short: self.is_over(),
        }
    }

    fn line(&mut self, plan: &Plan) -> Line {
        eprintln!("{}", plan.title);
        let rounds = self.rounds;
        let columns = in_turns(
            plan.subjects,
            rounds,
            // The kernel's threads write what is measured.
            0,
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

    fn measure(&mut self, subject: Subject, work: Work) -> Result<Measured, BenchError> {
        match work {
            Work::Publish { depth } => self.publish(subject, depth),
            Work::PublishLarge => self.publish_large(subject),
            Work::Queue => self.queue(subject),
            Work::ManyStreams => self.many_streams(subject),
            Work::ColdReplay => self.cold_replay(subject),
            Work::LiveBesideReplay => self.live(subject),
        }
    }

    fn publish(&self, subject: Subject, depth: u32) -> Result<Measured, BenchError> {
        let unit = Unit {
            records: 1.0,
            bytes: 256.0,
        };
        match subject {
            Subject::Raw => self.raw_log(RECORD_BYTES, depth, unit),
            Subject::JetStream => self.jet_publish(depth),
            _ => {
                let depth = match subject {
                    Subject::PinionSingle => 1,
                    _ => depth,
                };
                let node = self.start_node()?;
                let mut driver = node.publisher(publishes("single", 1))?;
                node.observe(unit, || closed_loop(&mut driver, depth, self.span))
            }
        }
    }

    fn publish_large(&self, subject: Subject) -> Result<Measured, BenchError> {
        match subject {
            Subject::Raw => {
                let unit = Unit {
                    records: 1.0,
                    bytes: LARGE_WRITE_BYTES as f64,
                };
                self.raw_log(LARGE_WRITE_BYTES, 1, unit)
            }
            Subject::JetStream => self.jet_publish(JET_DEPTH),
            _ => {
                let unit = Unit {
                    records: f64::from(LARGE_RECORDS),
                    bytes: f64::from(LARGE_RECORDS) * 256.0,
                };
                let node = self.start_node()?;
                let mut publishes = publishes("large", LARGE_RECORDS);
                if subject == Subject::PinionMemory {
                    publishes.spec = Some(one_partition(false));
                    publishes.durability = Durability::Memory;
                }
                let mut driver = node.publisher(publishes)?;
                node.observe(unit, || closed_loop(&mut driver, LARGE_DEPTH, self.span))
            }
        }
    }

    /// Groups of up to `depth` records, on the processor of the servers.
    fn raw_log(&self, record_bytes: usize, depth: u32, unit: Unit) -> Result<Measured, BenchError> {
        let group = depth as usize;
        let mut log = RawLog::create(self.dir.path(), RAW_LOG_BYTES, record_bytes, group)
            .map_err(BenchError::io("raw log"))?;
        on_server_cpu(|| measure(&[], unit, || closed_loop(&mut log, depth, self.span)))
    }

    fn jet_publish(&self, depth: u32) -> Result<Measured, BenchError> {
        let unit = Unit {
            records: 1.0,
            bytes: 256.0,
        };
        let dir = self.folder()?;
        let server =
            server::jetstream(SERVER_CPU, dir.path()).map_err(BenchError::io("JetStream"))?;
        let mut driver = JetPublish::new(server.address(), RECORD_BYTES)?;
        measure(&[server.pid()], unit, || {
            closed_loop(&mut driver, depth, self.span)
        })
    }

    fn queue(&self, subject: Subject) -> Result<Measured, BenchError> {
        let load = &QUEUE_LOAD;
        let dir = self.folder()?;
        match subject {
            Subject::Pinion | Subject::PinionMemory => {
                let node = self.start_node()?;
                let spec = one_partition(subject == Subject::Pinion);
                let config = admin_config(&node.server, node.dir.path())?;
                let mut driver = QueueCycle::new(config, "work", spec, load)?;
                node.observe(Unit::ONE, || self.cycles(&mut driver))
            }
            Subject::JetStream => {
                let server = server::jetstream(SERVER_CPU, dir.path())
                    .map_err(BenchError::io("JetStream"))?;
                let mut driver = JetQueue::new(server.address(), load)?;
                measure(&[server.pid()], Unit::ONE, || self.cycles(&mut driver))
            }
            _ => {
                let binlog = (subject == Subject::BeanstalkdSync).then(|| dir.path());
                let server =
                    server::beanstalkd(SERVER_CPU, binlog).map_err(BenchError::io("beanstalkd"))?;
                let mut driver = Beanstalkd::new(server.address(), load)?;
                measure(&[server.pid()], Unit::ONE, || self.cycles(&mut driver))
            }
        }
    }

    fn cycles<D: Driver>(&self, driver: &mut D) -> Result<Run, BenchError> {
        closed_loop(driver, UNFINISHED, self.span)
    }

    /// Prepares `what` with `make`, unless that has failed before.
    fn prepared<T>(
        &mut self,
        what: &'static str,
        make: impl FnOnce(&Self) -> Result<T, BenchError>,
    ) -> Result<T, BenchError> {
        if self.unprepared.contains(&what) {
            return Err(BenchError::Options(format!("{what} could not be prepared")));
        }
        let made = make(self);
        if made.is_err() {
            self.unprepared.push(what);
        }
        made
    }

    fn declare_streams(&self) -> Result<ManyStreams, BenchError> {
        eprintln!("  declaring {} streams", self.streams);
        let (many, few) = (self.folder()?, self.folder()?);
        declare_many(&self.node, many.path(), self.streams)?;
        declare_many(&self.node, few.path(), FEW_STREAMS)?;
        Ok(ManyStreams {
            many,
            few,
            start_s: Vec::new(),
            rss_mib: Vec::new(),
        })
    }

    fn many_streams(&mut self, subject: Subject) -> Result<Measured, BenchError> {
        let mut prepared = match self.many.take() {
            Some(prepared) => prepared,
            None => self.prepared("many streams", Self::declare_streams)?,
        };
        let sample = self.publish_to_one(&mut prepared, subject);
        self.many = Some(prepared);
        sample
    }

    fn publish_to_one(
        &self,
        prepared: &mut ManyStreams,
        subject: Subject,
    ) -> Result<Measured, BenchError> {
        let (dir, count) = match subject {
            Subject::PinionManyStreams => (&prepared.many, self.streams),
            _ => (&prepared.few, FEW_STREAMS),
        };
        let (server, took) = start_timed(&self.node, dir.path())?;
        let config = admin_config(&server, dir.path())?;
        let publishes = Publishes {
            // Neither the first nor the last.
            stream: stream_name(count / 2),
            spec: None,
            record_bytes: RECORD_BYTES,
            records: 1,
            durability: Durability::Disk,
        };
        let mut driver = AckedPublish::new(config, publishes)?;
        let sample = measure(&[server.pid()], Unit::ONE, || {
            closed_loop(&mut driver, 1, self.span)
        })?;
        driver.close()?;
        if subject == Subject::PinionManyStreams {
            let usage = ProcessUse::of(server.pid());
            let bytes = usage.ok_or(BenchError::Closed { peer: "the node" })?;
            prepared.start_s.push(took.as_secs_f64());
            prepared.rss_mib.push(mib(bytes.rss_bytes));
        }
        server
            .stop(STOP_MAX)
            .map_err(BenchError::io("stopping the node"))?;
        Ok(sample)
    }

    /// Start and memory with many streams, as the runs of that line found them.
    fn many_facts(&self) -> Vec<Fact> {
        let Some(many) = &self.many else {
            return Vec::new();
        };
        vec![
            Fact {
                what: format!("start with {} durable streams", self.streams),
                unit: "s",
                found: Spread::of(many.start_s.clone()),
                at_most: Some(MANY_START_MAX_S),
            },
            Fact {
                what: format!("resident memory with {} durable streams", self.streams),
                unit: "MiB",
                found: Spread::of(many.rss_mib.clone()),
                at_most: Some(MANY_RSS_MAX_MIB),
            },
        ]
    }

    /// The folder with the long log, filled once and stopped cleanly.
    fn cold(&mut self) -> Result<&mut Cold, BenchError> {
        let cold = match self.cold.take() {
            Some(cold) => cold,
            None => self.prepared("a long log", Self::fill)?,
        };
        Ok(self.cold.insert(cold))
    }

    fn fill(&self) -> Result<Cold, BenchError> {
        let dir = self.folder()?;
        eprintln!("  filling {:.1} GiB of log", gib(self.fill_bytes));
        let server = self
            .node
            .start(SERVER_CPU, dir.path())
            .map_err(BenchError::io("starting the node"))?;
        let mut filled = Filled::default();
        filled.fill(&server, dir.path(), self.fill_bytes, FILL_MAX)?;
        server
            .stop(STOP_MAX)
            .map_err(BenchError::io("stopping the node"))?;
        Ok(Cold { dir, filled })
    }

    fn cold_replay(&mut self, subject: Subject) -> Result<Measured, BenchError> {
        let (span, node) = (self.span, self.node.clone());
        let request = self.args.read_kib << 10;
        let cold = self.cold()?;
        let dir = cold.dir.path();
        #[allow(clippy::cast_precision_loss, reason = "a request is below 2^53 bytes")]
        let unit = |bytes: usize| Unit {
            records: bytes as f64,
            bytes: bytes as f64,
        };
        if subject == Subject::Raw {
            let files = segments(dir).map_err(BenchError::io("listing segments"))?;
            let mut reader =
                RawRead::open(&files, request).map_err(BenchError::io("opening segments"))?;
            return on_server_cpu(|| {
                measure(&[], unit(request), || closed_loop(&mut reader, 1, span))
            });
        }
        let (server, _) = start_timed(&node, dir)?;
        let mut replay = Replay::new(admin_config(&server, dir)?, COLD_STREAM)?;
        let sample = measure(&[server.pid()], unit(1), || replay::read(&mut replay, span))?;
        replay.close()?;
        server
            .stop(STOP_MAX)
            .map_err(BenchError::io("stopping the node"))?;
        Ok(sample)
    }

    fn live(&mut self, subject: Subject) -> Result<Measured, BenchError> {
        let (span, node) = (self.span, self.node.clone());
        let cold = self.cold()?;
        let dir = cold.dir.path();
        let (server, _) = start_timed(&node, dir)?;
        let publishes = publishes("live", 1);
        let driver = AckedPublish::new(admin_config(&server, dir)?, publishes)?;
        let mut replay = match subject {
            Subject::PinionReplaying => {
                Some(Replay::new(admin_config(&server, dir)?, COLD_STREAM)?)
            }
            _ => None,
        };
        let mut driver = Beside {
            driver,
            replay: replay.as_mut(),
        };
        let sample = measure(&[server.pid()], Unit::ONE, || {
            open_loop(&mut driver, LIVE_RATE, span)
        })?;
        driver.driver.close()?;
        replay.map_or(Ok(()), Replay::close)?;
        server
            .stop(STOP_MAX)
            .map_err(BenchError::io("stopping the node"))?;
        Ok(sample)
    }

    /// Restarts a node with a long log, in turns after a clean stop and after
    /// SIGKILL under load.
    fn restarts(&mut self) -> Vec<Fact> {
        eprintln!("Restart with a long log");
        let (mut clean, mut killed, mut stops) = (Vec::new(), Vec::new(), Vec::new());
        let mut bytes = 0;
        for _ in 0..self.rounds {
            if self.is_over() {
                break;
            }
            let node = self.node.clone();
            let result = self.cold().and_then(|cold| {
                let dir = cold.dir.path();
                let (server, took) = start_timed(&node, dir)?;
                clean.push(took.as_secs_f64());
                cold.filled.check(&server, dir)?;
                cold.filled.kill_under_load(server, dir)?;
                bytes = log_bytes(dir).map_err(BenchError::io("listing segments"))?;
                let (server, took) = start_timed(&node, dir)?;
                killed.push(took.as_secs_f64());
                cold.filled.check(&server, dir)?;
                let took = server
                    .stop(STOP_MAX)
                    .map_err(BenchError::io("stopping the node"))?;
                stops.push(took.as_secs_f64());
                Ok(())
            });
            if let Err(error) = result {
                eprintln!("  failed: {error}");
                // A node that lost something, or its log, is not started again.
                clean.clear();
                killed.clear();
                break;
            }
            eprintln!("  clean {clean:.2?} s, after SIGKILL {killed:.2?} s");
        }
        let log = format!("{:.1} GiB of log", gib(bytes));
        let fact = |what: &str, found: Vec<f64>, at_most| Fact {
            what: format!("{what}, {log}"),
            unit: "s",
            found: Spread::of(found),
            at_most,
        };
        vec![
            fact("restart after a clean stop", clean, Some(CLEAN_START_MAX_S)),
            fact("restart after SIGKILL", killed, Some(KILLED_START_MAX_S)),
            fact("clean stop", stops, None),
        ]
    }

    /// A fresh folder on the disk that is measured.
    fn folder(&self) -> Result<TempDir, BenchError> {
        tempfile::tempdir_in(self.dir.path()).map_err(BenchError::io("--dir"))
    }

    fn start_node(&self) -> Result<StartedNode, BenchError> {
        let dir = self.folder()?;
        let server = self
            .node
            .start(SERVER_CPU, dir.path())
            .map_err(BenchError::io("starting the node"))?;
        Ok(StartedNode { server, dir })
    }
}

struct StartedNode {
    // Dropped in this order: the node ends before its directory goes.
    server: Server,
    dir: TempDir,
}

impl StartedNode {
    fn publisher(&self, publishes: Publishes) -> Result<AckedPublish, BenchError> {
        let config = admin_config(&self.server, self.dir.path())?;
        AckedPublish::new(config, publishes)
    }

    fn observe(
        &self,
        unit: Unit,
        run: impl FnOnce() -> Result<Run, BenchError>,
    ) -> Result<Measured, BenchError> {
        measure(&[self.server.pid()], unit, run)
    }
}

fn publishes(stream: &str, records: u32) -> Publishes {
    Publishes {
        stream: stream.to_owned(),
        spec: Some(one_partition(true)),
        record_bytes: RECORD_BYTES,
        records,
        durability: Durability::Disk,
    }
}

/// What has no server of its own is measured where the servers are.
pub(crate) fn on_server_cpu(
    run: impl FnOnce() -> Result<Measured, BenchError>,
) -> Result<Measured, BenchError> {
    bound_to(&[SERVER_CPU], || Ok(run())).map_err(BenchError::io("binding the control"))?
}

/// How much log is written for the lines that need a long one.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "the cast saturates; nobody asks for 2^53 bytes"
)]
fn fill_bytes(args: &LogArgs, free: u64) -> Result<u64, BenchError> {
    let room = free.saturating_sub(FREE_BYTES_KEPT);
    match args.fill {
        None if args.quick => Ok(room.min(512 << 20)),
        None => Ok(room.min(FILL_BYTES_MAX)),
        Some(gib) if gib > 0.0 && gib * f64::from(1 << 30) <= room as f64 => {
            Ok((gib * f64::from(1 << 30)) as u64)
        }
        Some(gib) => Err(BenchError::Options(format!(
            "--fill {gib}: there is room for {:.1} GiB",
            self::gib(room)
        ))),
    }
}

#[allow(clippy::cast_precision_loss, reason = "bytes far below 2^53")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn gib(bytes: u64) -> f64 {
    mib(bytes) / 1024.0
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use pinion_types::block::RECORD_HEADER_BYTES;
    use pinion_types::limits::RECORD_BYTES_MAX;

    use super::*;

    #[test]
    fn a_large_batch_fits_a_request() {
        let record = RECORD_BYTES + RECORD_HEADER_BYTES;
        assert!(record * LARGE_RECORDS as usize <= RECORD_BYTES_MAX as usize);
    }

    #[test]
    fn no_more_log_is_filled_than_the_disk_has_room_for() {
        let args = |line: &[&str]| {
            LogArgs::try_parse_from([&["log"], line].concat()).expect("clap takes it")
        };
        let free = FREE_BYTES_KEPT + (3 << 30);
        let bytes = |line: &[&str]| fill_bytes(&args(line), free).ok();
        assert_eq!(bytes(&[]), Some(3 << 30));
        assert_eq!(bytes(&["--quick"]), Some(512 << 20));
        assert_eq!(bytes(&["--fill", "1.5"]), Some(3 << 29));
        assert_eq!(bytes(&["--fill", "3.5"]), None);
        assert_eq!(bytes(&["--fill=-1"]), None);
        assert_eq!(fill_bytes(&args(&[]), 1 << 40).ok(), Some(FILL_BYTES_MAX));
        assert_eq!(fill_bytes(&args(&[]), 5).ok(), Some(0));
    }
}
