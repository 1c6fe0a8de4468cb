//! Publish and deliver: one publisher, any number of subscribers.

use std::time::Instant;

use pinion_client::native::{LinkId, NativeClient, NativeConfig, Received, SubmitError};
use pinion_types::block::{Record, records};
use pinion_types::limits::{CREDIT_BYTES_MAX, CREDIT_RECORDS_MAX};
use pinion_types::{PartitionId, ResourceKind, SubscriptionId};
use pinion_wire::message::{
    Ack, Credit, Delivery, Filter, Handle, Overflow, Publish, Reply, Request, Start, Subscribe,
};
use pinion_wire::opcode;

use super::measure::{BenchError, Completion, Driver};
use super::target::{PATIENCE, connect_to_owner, open, unexpected};

/// Least bytes of a record: its stamp.
pub const RECORD_BYTES_MIN: usize = 8;

/// How publisher and subscribers are laid out.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Stream under namespace `bench`.
    pub stream: String,
    /// How many subscribers.
    pub subscribers: usize,
    /// All subscriptions on one connection instead of one connection each.
    pub shared: bool,
    /// Bytes of every record's value, at least [`RECORD_BYTES_MIN`].
    pub record_bytes: usize,
    /// Most records of one publish. Only records that are due in the same turn
    /// share one; none waits for company.
    pub batch: u32,
    /// Whether the publisher asks for acknowledgements.
    pub acked: bool,
}

struct Subscription {
    link: LinkId,
    owed_records: u32,
    owed_bytes: u32,
    queued: bool,
}

/// Drives one publisher and its subscribers over native connections.
pub struct PubSub {
    client: NativeClient,
    publisher: LinkId,
    handle: Handle,
    layout: Layout,
    value: Vec<u8>,
    batch: Vec<u8>,
    batched: u32,
    subscriptions: Vec<Subscription>,
    credit_due: Vec<u32>,
    lost: u64,
}

impl PubSub {
    /// Connects, opens the stream and subscribes from its end.
    ///
    /// # Errors
    /// The node refuses, or does not answer.
    pub fn new(config: NativeConfig, layout: Layout) -> Result<Self, BenchError> {
        let mut client = NativeClient::new(config)?;
        // Everything happens in partition 0: land where it lives.
        let (publisher, opened) =
            connect_to_owner(&mut client, ResourceKind::Stream, &layout.stream, None)?;
        let core = opened.cores.first().copied().unwrap_or(0);
        let mut subscriptions = Vec::with_capacity(layout.subscribers);
        let mut shared = None;
        for lane in 0..layout.subscribers {
            let (link, handle) = match shared {
                Some(ready) => ready,
                None => {
                    let link = client.connect(Some(core), PATIENCE)?;
                    let opened = open(&mut client, link, ResourceKind::Stream, &layout.stream)?;
                    (link, opened.handle)
                }
            };
            if layout.shared {
                shared = Some((link, handle));
            }
            subscribe(&mut client, link, handle, lane)?;
            subscriptions.push(Subscription {
                link,
                owed_records: 0,
                owed_bytes: 0,
                queued: false,
            });
        }
        Ok(Self {
            client,
            publisher,
            handle: opened.handle,
            value: vec![0x5a; layout.record_bytes.max(RECORD_BYTES_MIN)],
            batch: Vec::new(),
            batched: 0,
            subscriptions,
            credit_due: Vec::new(),
            lost: 0,
            layout,
        })
    }

    /// Sends the batch that has been gathered. False: not now.
    fn publish(&mut self) -> Result<bool, BenchError> {
        if self.batched == 0 {
            return Ok(true);
        }
        let request = Request::Publish(Publish {
            handle: self.handle,
            partition: PartitionId(0),
            ack: if self.layout.acked {
                Ack::Leader
            } else {
                Ack::None
            },
            producer: None,
            expected_offset: None,
            record_count: self.batched,
            records: &self.batch,
        });
        match self.client.submit(self.publisher, &request) {
            Ok(_) => {
                self.batch.clear();
                self.batched = 0;
                Ok(true)
            }
            Err(SubmitError::InFlight { .. } | SubmitError::Full { .. }) => Ok(false),
            Err(error) => Err(BenchError::Native(error.into())),
        }
    }

    /// Gives the credit back that deliveries have used up to half.
    fn renew_credit(&mut self) -> Result<(), BenchError> {
        while let Some(&lane) = self.credit_due.last() {
            let subscription = &mut self.subscriptions[lane as usize];
            let request = Request::Credit(Credit {
                subscription: SubscriptionId(lane),
                records: subscription.owed_records,
                bytes: subscription.owed_bytes,
            });
            match self.client.submit(subscription.link, &request) {
                Ok(_) => {
                    subscription.owed_records = 0;
                    subscription.owed_bytes = 0;
                    subscription.queued = false;
                    self.credit_due.pop();
                }
                Err(SubmitError::Full { .. }) => return Ok(()),
                Err(error) => return Err(BenchError::Native(error.into())),
            }
        }
        Ok(())
    }
}

fn subscribe(
    client: &mut NativeClient,
    link: LinkId,
    handle: Handle,
    lane: usize,
) -> Result<(), BenchError> {
    let id = u32::try_from(lane)
        .map_err(|_| BenchError::Options(format!("{lane} subscribers are too many")))?;
    let request = Request::Subscribe(Subscribe {
        handle,
        partition: PartitionId(0),
        subscription: SubscriptionId(id),
        start: Start::Latest,
        overflow: Some(Overflow::DropOldest),
        backlog_max: 0,
        credit_records: CREDIT_RECORDS_MAX,
        credit_bytes: CREDIT_BYTES_MAX,
        filter: Filter::default(),
    });
    let reply = client.call(link, &request, PATIENCE, |_| {})?;
    match reply.decode() {
        Ok(Reply::Subscribed(_)) => Ok(()),
        other => Err(unexpected("SUBSCRIBE", &other)),
    }
}

impl Driver for PubSub {
    fn lanes(&self) -> usize {
        1
    }

    fn submit(&mut self, _lane: usize, stamp: u64) -> Result<bool, BenchError> {
        if self.batched >= self.layout.batch.max(1) && !self.publish()? {
            return Ok(false);
        }
        self.value[..RECORD_BYTES_MIN].copy_from_slice(&stamp.to_le_bytes());
        let record = Record {
            key: b"",
            headers: b"",
            value: &self.value,
        };
        record.encode(&mut self.batch).map_err(|error| {
            BenchError::Options(format!("--size {}: {error}", self.value.len()))
        })?;
        self.batched += 1;
        Ok(true)
    }

    fn turn(&mut self, done: &mut Vec<Completion>) -> Result<bool, BenchError> {
        self.publish()?;
        self.renew_credit()?;
        let now = Instant::now();
        let sent = self.client.flush(now)?;
        let Self {
            client,
            subscriptions,
            credit_due,
            lost,
            ..
        } = self;
        let mut fault = None;
        let received = client.poll(now, |received| match received {
            Received::Delivery {
                subscription,
                opcode,
                body,
                ..
            } => {
                let lane = subscription.0;
                let Some(entry) = subscriptions.get_mut(lane as usize) else {
                    return;
                };
                match Delivery::decode(opcode, body) {
                    Ok(Delivery::Records(header, bytes)) => {
                        for record in records(bytes) {
                            match record.map(|r| r.value.first_chunk::<RECORD_BYTES_MIN>()) {
                                Ok(Some(stamp)) => done.push(Completion {
                                    lane,
                                    stamp: u64::from_le_bytes(*stamp),
                                }),
                                _ => fault = Some(unexpected("SUBSCRIBE", &"a short record")),
                            }
                        }
                        entry.owed_records += header.record_count;
                        entry.owed_bytes = entry
                            .owed_bytes
                            .saturating_add(u32::try_from(header.block_len()).unwrap_or(u32::MAX));
                        let used = entry.owed_records >= CREDIT_RECORDS_MAX / 2
                            || entry.owed_bytes >= CREDIT_BYTES_MAX / 2;
                        if used && !entry.queued {
                            entry.queued = true;
                            credit_due.push(lane);
                        }
                    }
                    Ok(Delivery::Lag(lag)) => *lost += lag.count,
                    other => fault = Some(unexpected("SUBSCRIBE", &other)),
                }
            }
            Received::Reply { opcode, body, .. } => {
                if opcode != opcode::PUBLISHED {
                    fault = Some(unexpected("PUBLISH", &Reply::decode(opcode, body)));
                }
            }
            Received::Closed { .. } => fault = Some(BenchError::Closed { peer: "the node" }),
        })?;
        match fault {
            Some(fault) => Err(fault),
            None => Ok(sent || received),
        }
    }

    fn copies(&self) -> u64 {
        self.subscriptions.len() as u64
    }

    fn lost(&self) -> u64 {
        self.lost
    }
}
