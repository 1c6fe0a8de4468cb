//! Publishing where every publish is acknowledged: what a durable stream costs
//! who waits for it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use pinion_client::native::{LinkId, NativeClient, NativeConfig, Received, SubmitError};
use pinion_types::limits::BATCH_RECORDS_MAX;
use pinion_types::{Outcome, PartitionId, ResourceKind, RetryClass};
use pinion_wire::message::{
    Ack, Durability, Handle, Publish, Reply, Request, Spec, StreamInfo, StreamStatus,
};

use super::measure::{BenchError, Completion, Driver};
use super::target::{PATIENCE, connect_to_owner, records_of, unexpected};

/// Publishes that may await their acknowledgement at once. Replies come in
/// order, so each remembers one stamp.
const IN_FLIGHT_MAX: usize = 4096;

/// What is published.
#[derive(Clone, Debug)]
pub struct Publishes {
    /// Stream under namespace `bench`; its first partition is used.
    pub stream: String,
    /// How it is declared; none takes it as it is or as the node likes.
    pub spec: Option<Spec>,
    /// Bytes of every record's value.
    pub record_bytes: usize,
    /// Records of each publish, 1 to `BATCH_RECORDS_MAX`.
    pub records: u32,
    /// What every acknowledgement must say. A node that promises less is
    /// reported, not measured.
    pub durability: Durability,
}

/// Drives one connection; each submission is one publish, all of them alike.
pub struct AckedPublish {
    client: NativeClient,
    link: LinkId,
    handle: Handle,
    publishes: Publishes,
    batch: Vec<u8>,
    /// `(correlation, stamp)`, at `correlation mod len`.
    stamps: Vec<(u32, u64)>,
    in_flight: usize,
    /// Publishes that were refused without being stored, with the time at which
    /// they may be sent again and their stamp.
    refused: VecDeque<(Instant, u64)>,
    acked: u64,
    refusals: u64,
}

impl AckedPublish {
    /// Connects to the owner of the stream and declares it.
    ///
    /// # Errors
    /// The node refuses, or does not answer, or a batch does not fit a request.
    pub fn new(config: NativeConfig, publishes: Publishes) -> Result<Self, BenchError> {
        if !(1..=BATCH_RECORDS_MAX).contains(&publishes.records) {
            return Err(BenchError::Options(format!(
                "{} records of one publish: 1 to {BATCH_RECORDS_MAX}",
                publishes.records
            )));
        }
        let batch = records_of(publishes.records, &vec![0x5a; publishes.record_bytes])?;
        let mut client = NativeClient::new(config)?;
        let kind = ResourceKind::Stream;
        let (link, opened) =
            connect_to_owner(&mut client, kind, &publishes.stream, publishes.spec)?;
        Ok(Self {
            client,
            link,
            handle: opened.handle,
            publishes,
            batch,
            stamps: vec![(0, 0); IN_FLIGHT_MAX],
            in_flight: 0,
            refused: VecDeque::new(),
            acked: 0,
            refusals: 0,
        })
    }

    /// Records that were acknowledged so far.
    #[must_use]
    pub const fn acked_records(&self) -> u64 {
        self.acked
    }

    /// Publishes that the node was too busy to take and that were sent again.
    #[must_use]
    pub const fn refusals(&self) -> u64 {
        self.refusals
    }

    /// Says goodbye, so that a node that is asked to end need not wait for us.
    ///
    /// # Errors
    /// The socket failed.
    pub fn close(mut self) -> Result<(), BenchError> {
        Ok(self.client.close_all()?)
    }

    /// False: not now.
    fn send(&mut self, stamp: u64) -> Result<bool, BenchError> {
        if self.in_flight == IN_FLIGHT_MAX {
            return Ok(false);
        }
        let request = Request::Publish(Publish {
            handle: self.handle,
            partition: PartitionId(0),
            ack: Ack::Leader,
            producer: None,
            expected_offset: None,
            record_count: self.publishes.records,
            records: &self.batch,
        });
        match self.client.submit(self.link, &request) {
            Ok(correlation) => {
                self.stamps[correlation as usize & (IN_FLIGHT_MAX - 1)] = (correlation, stamp);
                self.in_flight += 1;
                Ok(true)
            }
            Err(SubmitError::InFlight { .. } | SubmitError::Full { .. }) => Ok(false),
            Err(error) => Err(BenchError::Native(error.into())),
        }
    }

    /// What the node knows of the stream. Call it while nothing is in flight.
    ///
    /// # Errors
    /// The node refuses, or does not answer.
    pub fn status(&mut self) -> Result<StreamStatus, BenchError> {
        let request = Request::StreamInfo(StreamInfo {
            handle: self.handle,
            partition: PartitionId(0),
        });
        let reply = self.client.call(self.link, &request, PATIENCE, |_| {})?;
        match reply.decode() {
            Ok(Reply::StreamStatus(status)) => Ok(status),
            other => Err(unexpected("STREAM_INFO", &other)),
        }
    }
}

impl Driver for AckedPublish {
    fn lanes(&self) -> usize {
        1
    }

    fn submit(&mut self, _lane: usize, stamp: u64) -> Result<bool, BenchError> {
        self.send(stamp)
    }

    fn turn(&mut self, done: &mut Vec<Completion>) -> Result<bool, BenchError> {
        let now = Instant::now();
        while let Some(&(due, stamp)) = self.refused.front()
            && due <= now
            && self.send(stamp)?
        {
            self.refused.pop_front();
        }
        let sent = self.client.flush(now)?;
        let Self {
            client,
            publishes,
            stamps,
            in_flight,
            refused,
            acked,
            refusals,
            ..
        } = self;
        let mut fault = None;
        let received = client.poll(now, |received| match received {
            Received::Reply {
                correlation,
                opcode,
                body,
                ..
            } => {
                let reply = Reply::decode(opcode, body);
                let (asked, stamp) = stamps[correlation as usize & (IN_FLIGHT_MAX - 1)];
                match reply {
                    Ok(Reply::Published(published))
                        if asked == correlation && published.durability == publishes.durability =>
                    {
                        *in_flight -= 1;
                        *acked += u64::from(published.record_count);
                        done.push(Completion { lane: 0, stamp });
                    }
                    // As any client would, and the wait counts.
                    Ok(Reply::Error(refusal))
                        if asked == correlation
                            && refusal.outcome == Outcome::NotAdmitted
                            && refusal.retry == RetryClass::RetryAfter =>
                    {
                        *in_flight -= 1;
                        *refusals += 1;
                        let pause = Duration::from_millis(u64::from(refusal.retry_after_ms));
                        refused.push_back((now + pause, stamp));
                    }
                    other => fault = Some(unexpected("PUBLISH", &other)),
                }
            }
            Received::Delivery { .. } => {}
            Received::Closed { .. } => fault = Some(BenchError::Closed { peer: "the node" }),
        })?;
        match fault {
            Some(fault) => Err(fault),
            None => Ok(sent || received),
        }
    }
}
