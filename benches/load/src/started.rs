//! Starting nodes on data they already have: how long until a client is
//! served, and what many streams or a long log cost.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use pinion_cli::bench::acked::{AckedPublish, Publishes};
use pinion_cli::bench::measure::{BenchError, Driver, Span, closed_loop};
use pinion_cli::bench::target::{NAMESPACE, PATIENCE, one_partition, records_of, unexpected};
use pinion_client::native::{LinkId, LinkState, NativeClient, Received, SubmitError};
use pinion_types::limits::HANDLES_MAX;
use pinion_types::{PartitionId, ResourceKind};
use pinion_wire::message::{Ack, Durability, Handle, Open, Publish, Reply, Request, Spec};

use crate::disk::{files_below, forget_cached};
use crate::server::{Node, Server};
use crate::suite::admin_config;
use crate::turns::SERVER_CPU;

/// Longest wait for a node to serve its first client.
const SERVE_MAX: Duration = Duration::from_secs(120);

/// Longest wait for a node that was asked to end.
pub const STOP_MAX: Duration = Duration::from_secs(60);

/// Pause between two attempts to connect to a node that starts: the resolution
/// of a measured start. Shorter only costs the node handshakes.
const KNOCK_EVERY: Duration = Duration::from_millis(20);

/// Attempts under way at once; older ones are given up.
const KNOCKS_MAX: usize = 16;

/// Requests in flight while many streams are declared.
const DECLARE_IN_FLIGHT: usize = 256;

/// Longest time to declare many streams.
const DECLARE_MAX: Duration = Duration::from_secs(600);

/// Streams one connection declares: below the handles it may have.
const STREAMS_PER_CONNECTION: usize = 4000;

const _: () = assert!(STREAMS_PER_CONNECTION <= HANDLES_MAX as usize);

/// The stream that holds the long log.
pub const COLD_STREAM: &str = "cold";

/// Bytes of its records. They do not matter to whoever reads blocks.
const COLD_RECORD_BYTES: usize = 1024;

/// Records of one publish into it. A block of them is a quarter of what a node
/// reads at once; a larger one would have to be read whole.
const COLD_RECORDS: u32 = 60;

/// Publishes in flight into it: four of the groups a log writes at once.
const COLD_DEPTH: u32 = 64;

/// Bytes it may keep: more than any disk here has.
const COLD_RETENTION_BYTES: u64 = 1 << 44;

/// The `index`-th of many streams.
#[must_use]
pub fn stream_name(index: usize) -> String {
    format!("many-{index:06}")
}

/// Starts a node on `dir` and gives the time from its first instruction to the
/// first client that was welcomed. What the kernel kept of its files is
/// forgotten first.
///
/// # Errors
/// The node does not start, or serves nobody in time.
pub fn start_timed(node: &Node, dir: &Path) -> Result<(Server, Duration), BenchError> {
    forget_cached(dir).map_err(BenchError::io("forgetting cached files"))?;
    let launched = Instant::now();
    let mut server = node
        .launch(SERVER_CPU, dir)
        .map_err(BenchError::io("starting the node"))?;
    let config = admin_config(&server, dir)?;
    let mut client = NativeClient::new(config)?;
    // A packet that comes before the socket is bound is lost, and is sent again
    // only after a second: so a fresh attempt is made every now and then.
    let mut knocks: Vec<(Instant, LinkId)> = Vec::new();
    loop {
        let now = Instant::now();
        if knocks.last().is_none_or(|(at, _)| now - *at >= KNOCK_EVERY) {
            if knocks.len() == KNOCKS_MAX {
                client.close(knocks.remove(0).1);
            }
            knocks.push((now, client.begin_connect(None)?));
        }
        client.poll(now, |_| {})?;
        client.flush(now)?;
        let welcomed = |(_, link): &(Instant, LinkId)| {
            matches!(client.state(*link), Some(LinkState::Ready(_)))
        };
        if knocks.iter().any(welcomed) {
            let took = launched.elapsed();
            client.close_all()?;
            return Ok((server, took));
        }
        if launched.elapsed() > SERVE_MAX {
            return Err(BenchError::Silence {
                waited: launched.elapsed(),
                in_flight: 1,
            });
        }
        server
            .check_alive()
            .map_err(BenchError::io("starting the node"))?;
        client.wait(Duration::from_millis(1))?;
    }
}

/// Declares `count` durable streams on a fresh node in `dir`, publishes one
/// record to each, and stops it cleanly.
///
/// # Errors
/// The node refuses, or does not end.
pub fn declare_many(node: &Node, dir: &Path, count: usize) -> Result<(), BenchError> {
    let server = node
        .start(SERVER_CPU, dir)
        .map_err(BenchError::io("starting the node"))?;
    let mut client = NativeClient::new(admin_config(&server, dir)?)?;
    let started = Instant::now();
    let names: Vec<String> = (0..count).map(stream_name).collect();
    for names in names.chunks(STREAMS_PER_CONNECTION) {
        let link = client.connect(None, PATIENCE)?;
        declare(&mut client, link, names, started)?;
        client.close(link);
    }
    client.close_all()?;
    server
        .stop(STOP_MAX)
        .map_err(BenchError::io("stopping the node"))?;
    Ok(())
}

/// Opens every one of `names` over one connection and publishes to it as soon
/// as it is open.
fn declare(
    client: &mut NativeClient,
    link: LinkId,
    names: &[String],
    started: Instant,
) -> Result<(), BenchError> {
    let record = records_of(1, b"one")?;
    let spec = Some(one_partition(true));
    let (mut opened, mut next, mut stored, mut in_flight) = (Vec::new(), 0, 0, 0);
    while stored < names.len() {
        while in_flight < DECLARE_IN_FLIGHT {
            let publish = opened.last().map(|&handle| publish_one(handle, &record));
            let (request, is_publish) = match (publish, names.get(next)) {
                (Some(publish), _) => (publish, true),
                (None, Some(name)) => (open_stream(name, spec), false),
                (None, None) => break,
            };
            match client.submit(link, &request) {
                Ok(_) if is_publish => {
                    opened.pop();
                }
                Ok(_) => next += 1,
                Err(SubmitError::InFlight { .. } | SubmitError::Full { .. }) => break,
                Err(error) => return Err(BenchError::Native(error.into())),
            }
            in_flight += 1;
        }
        let now = Instant::now();
        client.flush(now)?;
        let mut fault = None;
        client.poll(now, |received| match received {
            Received::Reply { opcode, body, .. } => {
                in_flight -= 1;
                match Reply::decode(opcode, body) {
                    Ok(Reply::Opened(reply)) => opened.push(reply.handle),
                    Ok(Reply::Published(_)) => stored += 1,
                    other => fault = Some(unexpected("OPEN or PUBLISH", &other)),
                }
            }
            Received::Delivery { .. } => {}
            Received::Closed { .. } => fault = Some(BenchError::Closed { peer: "the node" }),
        })?;
        if let Some(fault) = fault {
            return Err(fault);
        }
        if now - started > DECLARE_MAX {
            return Err(BenchError::Silence {
                waited: now - started,
                in_flight: (names.len() - stored) as u64,
            });
        }
        client.wait(Duration::from_millis(1))?;
    }
    Ok(())
}

const fn publish_one(handle: Handle, record: &[u8]) -> Request<'_> {
    Request::Publish(Publish {
        handle,
        partition: PartitionId(0),
        ack: Ack::Leader,
        producer: None,
        expected_offset: None,
        record_count: 1,
        records: record,
    })
}

const fn open_stream(name: &str, spec: Option<Spec>) -> Request<'_> {
    Request::Open(Open {
        kind: ResourceKind::Stream,
        namespace: NAMESPACE,
        name,
        spec,
    })
}

/// What the log of [`COLD_STREAM`] holds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filled {
    /// Records that were acknowledged.
    pub records: u64,
}

/// Bytes of the log files below a node's folder.
///
/// # Errors
/// What the disk says.
pub fn log_bytes(dir: &Path) -> io::Result<u64> {
    Ok(segments(dir)?.iter().map(|(_, len)| len).sum())
}

/// The segments below a node's folder, oldest first, with their lengths.
///
/// # Errors
/// What the disk says.
pub fn segments(dir: &Path) -> io::Result<Vec<(std::path::PathBuf, u64)>> {
    let mut files = files_below(dir)?;
    files.retain(|(path, _)| path.extension().is_some_and(|kind| kind == "segment"));
    Ok(files)
}

/// A publisher into [`COLD_STREAM`].
///
/// # Errors
/// The node refuses, or does not answer.
pub fn cold_publisher(server: &Server, dir: &Path) -> Result<AckedPublish, BenchError> {
    let mut spec = one_partition(true);
    spec.retention_bytes = COLD_RETENTION_BYTES;
    AckedPublish::new(
        admin_config(server, dir)?,
        Publishes {
            stream: COLD_STREAM.to_owned(),
            spec: Some(spec),
            record_bytes: COLD_RECORD_BYTES,
            records: COLD_RECORDS,
            durability: Durability::Disk,
        },
    )
}

impl Filled {
    /// Publishes until `bytes` of values are stored or `longest` has passed.
    ///
    /// # Errors
    /// The node refuses, or does not answer.
    pub fn fill(
        &mut self,
        server: &Server,
        dir: &Path,
        bytes: u64,
        longest: Duration,
    ) -> Result<(), BenchError> {
        let mut publisher = cold_publisher(server, dir)?;
        let slice = Span {
            warmup: Duration::ZERO,
            measured: Duration::from_secs(1),
        };
        let started = Instant::now();
        let each = COLD_RECORD_BYTES as u64;
        while publisher.acked_records() * each < bytes && started.elapsed() < longest {
            closed_loop(&mut publisher, COLD_DEPTH, slice)?;
        }
        self.records += publisher.acked_records();
        publisher.close()
    }

    /// Publishes for a moment and kills the node (SIGKILL) with publishes in
    /// flight, so that it leaves a tail nobody sealed.
    ///
    /// # Errors
    /// The node refuses, or does not answer.
    pub fn kill_under_load(&mut self, server: Server, dir: &Path) -> Result<(), BenchError> {
        let mut publisher = cold_publisher(&server, dir)?;
        let slice = Span {
            warmup: Duration::ZERO,
            measured: Duration::from_secs(1),
        };
        closed_loop(&mut publisher, COLD_DEPTH, slice)?;
        let mut done = Vec::new();
        for _ in 0..COLD_DEPTH {
            publisher.submit(0, 0)?;
        }
        publisher.turn(&mut done)?;
        // Dropping is SIGKILL. Some of what is in flight may have been stored.
        drop(server);
        self.records += publisher.acked_records();
        Ok(())
    }

    /// Whether everything acknowledged is there: a restart that lost something
    /// is no figure.
    ///
    /// # Errors
    /// Something is missing.
    pub fn check(&self, server: &Server, dir: &Path) -> Result<(), BenchError> {
        let mut publisher = cold_publisher(server, dir)?;
        let status = publisher.status()?;
        publisher.close()?;
        if status.first_available.0 == 0 && status.end.0 >= self.records {
            return Ok(());
        }
        Err(BenchError::Options(format!(
            "{} records were acknowledged, offsets {} to {} are there after the restart",
            self.records, status.first_available.0, status.end.0
        )))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_cold_publish_fits_a_quarter_of_a_cold_read() {
        let record = COLD_RECORD_BYTES + pinion_types::block::RECORD_HEADER_BYTES;
        assert!(record * COLD_RECORDS as usize <= 64 << 10);
    }

    #[test]
    fn only_segments_are_counted_as_log() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let log = dir.path().join("log-0000");
        fs::create_dir(&log).expect("created");
        for (name, bytes) in [
            ("00000000000000000001.segment", 10),
            ("00000000000000000002.segment", 5),
            ("00000000000000000001.checkpoint", 100),
        ] {
            fs::write(log.join(name), vec![0; bytes]).expect("written");
        }
        assert_eq!(log_bytes(dir.path()).expect("listed"), 15);
        let first = &segments(dir.path()).expect("listed")[0].0;
        assert!(first.ends_with("log-0000/00000000000000000001.segment"));
    }
}
