//! Who uses the data plane while administrators do something beside them.
//!
//! A GET of a cache and a publish take turns on one connection, on a schedule, and latency
//! counts from the moment a request was meant to leave. The thread sleeps in between: on two
//! processors it shares one with the node's control thread and with the administrators, and
//! one that spins would take from them what it measures. It comes before them, as a client
//! does that has a machine of its own.

use std::num::NonZeroU64;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pinion_cli::bench::latency::Latency;
use pinion_cli::bench::measure::{BenchError, SILENCE_MAX, Span};
use pinion_cli::bench::target::{
    PATIENCE, connect_to_owner, one_partition, open_as, records_of, unexpected,
};
use pinion_client::native::{LinkId, NativeClient, NativeConfig, Received, SubmitError};
use pinion_types::{PartitionId, ResourceKind};
use pinion_wire::message::{
    Ack, CacheGet, CacheSet, Condition, Durability, Handle, Publish, Reply, Request, StreamInfo,
};

use super::nanos;

/// Requests a second, half of them GET. More would leave the administrators less of the
/// processor that they share; fewer would need longer rounds for a p99.
pub(super) const RATE: u32 = 4_000;

/// The same where it is there so that there is traffic, and its latency is of no interest.
pub(super) const TRAFFIC: u32 = 500;

/// Bytes of a value and of a record.
const BYTES: usize = 100;

/// The streams that are published to.
const DURABLE: &str = "durable";
const MEMORY: &str = "memory";

/// The one key that is asked for.
const KEY: &[u8] = b"key";

/// Requests that await their answers at once: what a pause of a second leaves behind.
const IN_FLIGHT_MAX: usize = 8_192;

/// Priority of the thread while it measures, as `nice(2)` counts.
const NICE: i32 = -20;

/// The connection and what it asks for.
pub(super) struct DataClient {
    client: NativeClient,
    link: LinkId,
    cache: Handle,
    stream: Handle,
    durability: Durability,
    record: Vec<u8>,
    /// `(correlation, when it was meant to leave)`, at `correlation mod len`.
    stamps: Vec<(u32, u64)>,
    acked: u64,
}

/// What they met in one round.
#[derive(Clone, Debug, Default)]
pub(super) struct Met {
    pub(super) get: Latency,
    pub(super) publish: Latency,
    /// How late requests left.
    pub(super) slip: Latency,
}

impl DataClient {
    /// Connects, stores the key, and declares a stream, durable or in memory.
    ///
    /// # Errors
    /// The node refuses, or does not answer.
    pub(super) fn new(config: NativeConfig, durable: bool) -> Result<Self, BenchError> {
        let mut client = NativeClient::new(config)?;
        let spec = Some(one_partition(durable));
        let stream = if durable { DURABLE } else { MEMORY };
        let (link, opened) = connect_to_owner(&mut client, ResourceKind::Stream, stream, spec)?;
        let spec = Some(one_partition(false));
        let cache = open_as(&mut client, link, ResourceKind::Cache, "beside", spec)?.handle;
        let set = Request::CacheSet(CacheSet {
            handle: cache,
            condition: Condition::Always,
            ttl_ms: 0,
            key: KEY,
            value: &[0x5a; BYTES],
        });
        let stored = client.call(link, &set, PATIENCE, |_| {})?;
        match stored.decode() {
            Ok(Reply::CacheStored(_)) => {}
            other => return Err(unexpected("SET", &other)),
        }
        Ok(Self {
            client,
            link,
            cache,
            stream: opened.handle,
            durability: if durable {
                Durability::Disk
            } else {
                Durability::Memory
            },
            record: records_of(1, &[0x5a; BYTES])?,
            stamps: vec![(0, 0); IN_FLIGHT_MAX],
            acked: 0,
        })
    }

    /// Says goodbye.
    ///
    /// # Errors
    /// The socket failed.
    pub(super) fn close(mut self) -> Result<(), BenchError> {
        Ok(self.client.close_all()?)
    }

    /// Records that were acknowledged.
    pub(super) const fn acked(&self) -> u64 {
        self.acked
    }

    /// Asks for `span`, `rate` times a second.
    ///
    /// # Errors
    /// The node refuses, does not answer, or promises less than it is to.
    pub(super) fn run(&mut self, rate: u32, span: Span) -> Result<Met, BenchError> {
        let first = First::begin();
        self.run_as(&first, rate, span)
    }

    /// The same, of a thread that comes first for longer than that.
    ///
    /// # Errors
    /// As [`DataClient::run`].
    pub(super) fn run_as(
        &mut self,
        _first: &First,
        rate: u32,
        span: Span,
    ) -> Result<Met, BenchError> {
        let mut met = Met::default();
        let every = Duration::from_secs(1) / rate;
        let (warm, all) = (span.warmup, span.warmup + span.measured);
        let began = Instant::now();
        let (mut sent, mut in_flight, mut heard) = (0_u32, 0_usize, Instant::now());
        loop {
            let now = began.elapsed();
            let mut due = every * sent;
            while due < all && due <= now && in_flight < IN_FLIGHT_MAX {
                if !self.submit(sent, nanos(due))? {
                    break;
                }
                if due >= warm {
                    met.slip.record(nanos(now.saturating_sub(due)));
                }
                (sent, in_flight) = (sent + 1, in_flight + 1);
                due = every * sent;
            }
            let now = Instant::now();
            self.client.flush(now)?;
            let answered = self.take(now, began, nanos(warm), &mut met)?;
            if answered > 0 {
                (in_flight, heard) = (in_flight - answered, now);
                continue;
            }
            if due >= all && in_flight == 0 {
                return Ok(met);
            }
            if in_flight > 0 && heard.elapsed() > SILENCE_MAX {
                return Err(BenchError::Silence {
                    waited: heard.elapsed(),
                    in_flight: in_flight as u64,
                });
            }
            let next = if due < all { due } else { all + SILENCE_MAX };
            self.client.wait(next.saturating_sub(began.elapsed()))?;
        }
    }

    /// False: not now.
    fn submit(&mut self, number: u32, stamp: u64) -> Result<bool, BenchError> {
        let request = if number.is_multiple_of(2) {
            Request::CacheGet(CacheGet {
                handle: self.cache,
                key: KEY,
            })
        } else {
            Request::Publish(Publish {
                handle: self.stream,
                partition: PartitionId(0),
                ack: Ack::Leader,
                producer: None,
                expected_offset: None,
                record_count: 1,
                records: &self.record,
            })
        };
        match self.client.submit(self.link, &request) {
            Ok(correlation) => {
                self.stamps[correlation as usize & (IN_FLIGHT_MAX - 1)] = (correlation, stamp);
                Ok(true)
            }
            Err(SubmitError::InFlight { .. } | SubmitError::Full { .. }) => Ok(false),
            Err(error) => Err(BenchError::Native(error.into())),
        }
    }

    /// How many answers there are; those to what was meant to leave after `warm` count.
    fn take(
        &mut self,
        now: Instant,
        began: Instant,
        warm: u64,
        met: &mut Met,
    ) -> Result<usize, BenchError> {
        let Self {
            client,
            stamps,
            durability,
            acked,
            ..
        } = self;
        let (mut answered, mut fault) = (0, None);
        client.poll(now, |received| match received {
            Received::Reply {
                correlation,
                opcode,
                body,
                ..
            } => {
                let (asked, stamp) = stamps[correlation as usize & (IN_FLIGHT_MAX - 1)];
                let into = match Reply::decode(opcode, body) {
                    Ok(Reply::CacheValue(_)) if asked == correlation => &mut met.get,
                    Ok(Reply::Published(published))
                        if asked == correlation && published.durability == *durability =>
                    {
                        *acked += 1;
                        &mut met.publish
                    }
                    other => {
                        fault = Some(unexpected("GET or PUBLISH", &other));
                        return;
                    }
                };
                answered += 1;
                if stamp >= warm {
                    into.record(nanos(began.elapsed()).saturating_sub(stamp));
                }
            }
            Received::Delivery { .. } => {}
            Received::Closed { .. } => fault = Some(BenchError::Closed { peer: "the node" }),
        })?;
        match fault {
            Some(fault) => Err(fault),
            None => Ok(answered),
        }
    }
}

/// Records that the durable stream has from its beginning on.
///
/// # Errors
/// The node refuses, or does not answer, or the beginning is gone.
pub(super) fn stored(config: NativeConfig) -> Result<u64, BenchError> {
    let mut client = NativeClient::new(config)?;
    let (link, opened) = connect_to_owner(&mut client, ResourceKind::Stream, DURABLE, None)?;
    let asked = Request::StreamInfo(StreamInfo {
        handle: opened.handle,
        partition: PartitionId(0),
    });
    let reply = client.call(link, &asked, PATIENCE, |_| {})?;
    match reply.decode() {
        Ok(Reply::StreamStatus(status)) if status.first_available.0 == 0 => Ok(status.end.0),
        other => Err(unexpected("STREAM_INFO", &other)),
    }
}

/// While it lives its thread comes before others and wakes when it says. Where the system
/// does not allow it the thread is one of many, and "left late" says so.
pub(super) struct First(());

impl First {
    /// Two programs are started for it: once for all that a thread does.
    pub(super) fn begin() -> Self {
        let _ = rustix::process::setpriority_process(None, NICE);
        // With that alone the control thread keeps the processor for up to a slice of time
        // when a request is due: so, where it is allowed, in real time.
        schedule(["--fifo", "1"]);
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        Self(())
    }
}

impl Drop for First {
    fn drop(&mut self) {
        schedule(["--other", "0"]);
        let _ = rustix::process::setpriority_process(None, 0);
        let _ = rustix::thread::set_current_timer_slack(None);
    }
}

/// How this thread gets its turns, if chrt(1) is there and may say so.
fn schedule([policy, priority]: [&str; 2]) {
    let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
    let mut chrt = Command::new("chrt");
    chrt.args([policy, "--pid", priority, &thread]);
    let _ = chrt.stdout(Stdio::null()).stderr(Stdio::null()).status();
}
