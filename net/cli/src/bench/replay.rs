//! Reading a stream from its beginning as fast as the node gives it, alone or
//! beside something else.

use std::time::{Duration, Instant};

use pinion_client::native::{LinkId, NativeClient, NativeConfig, Received, SubmitError};
use pinion_types::limits::{CREDIT_BYTES_MAX, CREDIT_RECORDS_MAX};
use pinion_types::{Offset, PartitionId, ResourceKind, SubscriptionId};
use pinion_wire::message::{
    Credit, Delivery, Filter, Handle, Reply, Request, Start, Subscribe, Unsubscribe,
};

use super::latency::Latency;
use super::machine::thread_cpu;
use super::measure::{BenchError, Completion, Driver, Generator, Run, SILENCE_MAX, Span};
use super::target::{PATIENCE, connect_to_owner, unexpected};

/// End of a stream before the node has said it.
const NOT_KNOWN: Offset = Offset(u64::MAX);

/// One subscription that starts at the oldest record, and again from there
/// when it has reached the end. Belongs to the thread that drives it.
pub struct Replay {
    client: NativeClient,
    link: LinkId,
    handle: Handle,
    subscription: SubscriptionId,
    /// Offset after the last record there was when the subscription began.
    end: Offset,
    /// Offset after the last record that came.
    next: Offset,
    owed_records: u32,
    owed_bytes: u32,
    credit_due: bool,
    bytes: u64,
    lost: u64,
}

impl Replay {
    /// Connects to the owner of `stream` and subscribes from its beginning.
    ///
    /// # Errors
    /// The node refuses, or does not answer, or the stream is empty.
    pub fn new(config: NativeConfig, stream: &str) -> Result<Self, BenchError> {
        let mut client = NativeClient::new(config)?;
        let (link, opened) = connect_to_owner(&mut client, ResourceKind::Stream, stream, None)?;
        let mut replay = Self {
            client,
            link,
            handle: opened.handle,
            subscription: SubscriptionId(1),
            end: NOT_KNOWN,
            owed_records: 0,
            owed_bytes: 0,
            credit_due: false,
            next: Offset(0),
            bytes: 0,
            lost: 0,
        };
        // Records may come with the answer, so the answer is not waited for alone.
        let request = from_the_beginning(replay.handle, replay.subscription);
        replay
            .client
            .submit(link, &request)
            .map_err(|error| BenchError::Native(error.into()))?;
        let started = Instant::now();
        while replay.end == NOT_KNOWN {
            replay.turn()?;
            if started.elapsed() > PATIENCE {
                return Err(BenchError::Silence {
                    waited: started.elapsed(),
                    in_flight: 1,
                });
            }
        }
        if replay.end == Offset(0) {
            return Err(BenchError::Options(format!("{stream} is empty")));
        }
        Ok(replay)
    }

    /// Bytes of records that came so far, without the headers of blocks.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Records announced as skipped.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lost
    }

    /// Says goodbye, so that a node that is asked to end need not wait for us.
    ///
    /// # Errors
    /// The socket failed.
    pub fn close(mut self) -> Result<(), BenchError> {
        Ok(self.client.close_all()?)
    }

    /// Sends what is due and takes at most one batch of datagrams. True when
    /// anything moved.
    ///
    /// # Errors
    /// The node ends the subscription or the connection.
    pub fn turn(&mut self) -> Result<bool, BenchError> {
        self.speak()?;
        let now = Instant::now();
        let sent = self.client.flush(now)?;
        let Self {
            client,
            subscription: current,
            end,
            owed_records,
            owed_bytes,
            credit_due,
            next,
            bytes,
            lost,
            ..
        } = self;
        let mut fault = None;
        let received = client.poll(now, |received| match received {
            // What was under way when the subscription was given up.
            Received::Delivery { subscription, .. } if subscription != *current => {}
            Received::Delivery { opcode, body, .. } => match Delivery::decode(opcode, body) {
                Ok(Delivery::Records(header, block)) => {
                    *bytes += block.len() as u64;
                    *owed_records += header.record_count;
                    *owed_bytes = owed_bytes
                        .saturating_add(u32::try_from(header.block_len()).unwrap_or(u32::MAX));
                    *credit_due = *owed_bytes >= CREDIT_BYTES_MAX / 4
                        || *owed_records >= CREDIT_RECORDS_MAX / 4;
                    *next = Offset(header.first_offset.0 + u64::from(header.record_count));
                }
                Ok(Delivery::Lag(lag)) => *lost += lag.count,
                Ok(Delivery::Head(_)) => {}
                other => fault = Some(unexpected("SUBSCRIBE", &other)),
            },
            Received::Reply { opcode, body, .. } => match Reply::decode(opcode, body) {
                Ok(Reply::Subscribed(subscribed)) => *end = subscribed.end,
                Ok(Reply::Done) => {}
                other => fault = Some(unexpected("SUBSCRIBE", &other)),
            },
            Received::Closed { .. } => fault = Some(BenchError::Closed { peer: "the node" }),
        })?;
        match fault {
            Some(fault) => Err(fault),
            None => Ok(sent || received),
        }
    }

    /// Gives used credit back, or begins anew.
    fn speak(&mut self) -> Result<(), BenchError> {
        if self.next >= self.end {
            let again = SubscriptionId(self.subscription.0.wrapping_add(1));
            let stop = Request::Unsubscribe(Unsubscribe {
                subscription: self.subscription,
            });
            if !self.submit(&stop)? || !self.submit(&from_the_beginning(self.handle, again))? {
                return Err(BenchError::Options(
                    "no room for two small requests".to_owned(),
                ));
            }
            self.subscription = again;
            self.next = Offset(0);
            self.end = NOT_KNOWN;
            self.owed_records = 0;
            self.owed_bytes = 0;
            self.credit_due = false;
        } else if self.credit_due {
            let credit = Request::Credit(Credit {
                subscription: self.subscription,
                records: self.owed_records,
                bytes: self.owed_bytes,
            });
            if self.submit(&credit)? {
                self.owed_records = 0;
                self.owed_bytes = 0;
                self.credit_due = false;
            }
        }
        Ok(())
    }

    fn submit(&mut self, request: &Request<'_>) -> Result<bool, BenchError> {
        match self.client.submit(self.link, request) {
            Ok(_) => Ok(true),
            Err(SubmitError::InFlight { .. } | SubmitError::Full { .. }) => Ok(false),
            Err(error) => Err(BenchError::Native(error.into())),
        }
    }
}

/// A slow subscriber is treated as the stream says; a durable one lets it wait.
fn from_the_beginning(handle: Handle, subscription: SubscriptionId) -> Request<'static> {
    Request::Subscribe(Subscribe {
        handle,
        partition: PartitionId(0),
        subscription,
        start: Start::Earliest,
        overflow: None,
        backlog_max: 0,
        credit_records: CREDIT_RECORDS_MAX,
        credit_bytes: CREDIT_BYTES_MAX,
        filter: Filter::default(),
    })
}

/// Reads for `span`. A completion is one byte of records, and nothing is timed.
///
/// # Errors
/// What the node answers, or [`BenchError::Silence`].
#[allow(
    clippy::cast_precision_loss,
    reason = "nanoseconds of one run are far below 2^53"
)]
pub fn read(replay: &mut Replay, span: Span) -> Result<Run, BenchError> {
    let started = Instant::now();
    let (mut from, mut from_bytes, mut cpu) = (started, replay.bytes, thread_cpu());
    let (mut warm, mut busy) = (span.warmup.is_zero(), Duration::ZERO);
    let (mut last, mut last_moved) = (started, started);
    loop {
        let moved = replay.turn()?;
        let now = Instant::now();
        if moved {
            busy += now - last;
            last_moved = now;
        } else if now - last_moved > SILENCE_MAX {
            return Err(BenchError::Silence {
                waited: now - last_moved,
                in_flight: 1,
            });
        }
        last = now;
        if !warm && now - started >= span.warmup {
            warm = true;
            busy = Duration::ZERO;
            (from, from_bytes, cpu) = (now, replay.bytes, thread_cpu());
        }
        if warm && now - from >= span.measured {
            let wall = (now - from).as_secs_f64();
            return Ok(Run {
                completed: replay.bytes - from_bytes,
                elapsed: now - from,
                latency: Latency::default(),
                lost: replay.lost,
                generator: Generator {
                    cpu_share: (thread_cpu().saturating_sub(cpu)).as_secs_f64() / wall,
                    busy_share: busy.as_secs_f64() / wall,
                    ..Generator::default()
                },
            });
        }
    }
}

/// Another driver, with a replay going on beside it in the same thread.
pub struct Beside<'a, D> {
    /// What is measured.
    pub driver: D,
    /// What disturbs it; none for the control.
    pub replay: Option<&'a mut Replay>,
}

impl<D: Driver> Driver for Beside<'_, D> {
    fn lanes(&self) -> usize {
        self.driver.lanes()
    }

    fn submit(&mut self, lane: usize, stamp: u64) -> Result<bool, BenchError> {
        self.driver.submit(lane, stamp)
    }

    fn turn(&mut self, done: &mut Vec<Completion>) -> Result<bool, BenchError> {
        let mut moved = self.driver.turn(done)?;
        if let Some(replay) = &mut self.replay {
            moved |= replay.turn()?;
        }
        Ok(moved)
    }

    fn lost(&self) -> u64 {
        let replayed = self.replay.as_ref().map_or(0, |replay| replay.lost());
        self.driver.lost() + replayed
    }
}
