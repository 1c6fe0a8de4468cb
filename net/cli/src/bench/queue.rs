//! A work queue from end to end: put, take, ack, with producers and consumers
//! on connections of their own.

use std::time::Instant;

use pinion_client::native::{LinkId, NativeClient, NativeConfig, Received, SubmitError};
use pinion_types::block::Record;
use pinion_types::{PartitionId, ResourceKind};
use pinion_wire::message::{
    Durability, Handle, QueueAck, QueueMessages, QueuePut, QueueTake, Reply, Request, Settled,
    Spec, Token, TokenList,
};

use super::measure::{BenchError, Completion, Driver};
use super::target::{PATIENCE, connect_to_owner, open_as, unexpected};

/// Least bytes of a message: who put it, and its stamp.
pub const MESSAGE_BYTES_MIN: usize = 12;

/// Longest wait of one take. An empty queue is asked again after it.
const WAIT_MS: u32 = 1000;

/// Most bytes of one take.
const TAKE_BYTES: u32 = 512 << 10;

/// How producers and consumers work; the same for every server measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueLoad {
    /// Producers, each on its own connection.
    pub producers: usize,
    /// Consumers, each on its own connection.
    pub consumers: usize,
    /// Puts of one producer that may await their answer.
    pub puts: u32,
    /// Most messages of one take, where the protocol takes more than one.
    pub take: u32,
    /// Bytes of every message, at least [`MESSAGE_BYTES_MIN`].
    pub message_bytes: usize,
}

/// Writes into a message which producer put it and with which stamp.
///
/// # Panics
/// When `value` is shorter than [`MESSAGE_BYTES_MIN`] or there are 2^32 lanes.
pub fn write_origin(value: &mut [u8], lane: usize, stamp: u64) {
    let lane = u32::try_from(lane).expect("fewer lanes than 2^32");
    value[..8].copy_from_slice(&stamp.to_le_bytes());
    value[8..MESSAGE_BYTES_MIN].copy_from_slice(&lane.to_le_bytes());
}

/// The lane and the stamp that [`write_origin`] wrote; none in a message that
/// is too short.
#[must_use]
pub fn read_origin(value: &[u8]) -> Option<(u32, u64)> {
    let (stamp, rest) = value.split_first_chunk()?;
    let lane = rest.first_chunk()?;
    Some((u32::from_le_bytes(*lane), u64::from_le_bytes(*stamp)))
}

/// Drives a queue. Lane `p` is producer `p`; what it submits is completed when
/// the consumer that had it was told that its ack is in force.
///
/// A consumer asks for more as soon as it has something; it acknowledges a
/// whole take at once and has one ack in flight.
pub struct QueueCycle {
    client: NativeClient,
    producers: Vec<Producer>,
    consumers: Vec<Consumer>,
    load: QueueLoad,
    durability: Durability,
    value: Vec<u8>,
    record: Vec<u8>,
    scratch: Vec<u8>,
    /// Consumers that may have something to say.
    due: Vec<usize>,
}

struct Producer {
    link: LinkId,
    handle: Handle,
    in_flight: u32,
}

struct Consumer {
    link: LinkId,
    handle: Handle,
    /// A take waits for its answer.
    taking: bool,
    held: Batch,
    acking: Batch,
}

/// Messages of one take.
#[derive(Default)]
struct Batch {
    tokens: Vec<Token>,
    origins: Vec<(u32, u64)>,
}

impl Batch {
    fn clear(&mut self) {
        self.tokens.clear();
        self.origins.clear();
    }
}

impl QueueCycle {
    /// Connects and declares the queue as `spec` says; every answer must
    /// promise as much as it.
    ///
    /// # Errors
    /// The node refuses, or does not answer.
    pub fn new(
        config: NativeConfig,
        queue: &str,
        spec: Spec,
        load: &QueueLoad,
    ) -> Result<Self, BenchError> {
        let mut client = NativeClient::new(config)?;
        let kind = ResourceKind::Queue;
        let spec = Some(spec);
        let (first, opened) = connect_to_owner(&mut client, kind, queue, spec)?;
        let core = opened.cores.first().copied().unwrap_or(0);
        let mut ends = vec![(first, opened.handle)];
        while ends.len() < load.producers.max(1) + load.consumers {
            let link = client.connect(Some(core), PATIENCE)?;
            let opened = open_as(&mut client, link, kind, queue, spec)?;
            ends.push((link, opened.handle));
        }
        let consumers: Vec<Consumer> = ends
            .split_off(load.producers.max(1))
            .into_iter()
            .map(|(link, handle)| Consumer {
                link,
                handle,
                taking: false,
                held: Batch::default(),
                acking: Batch::default(),
            })
            .collect();
        Ok(Self {
            client,
            producers: ends
                .into_iter()
                .map(|(link, handle)| Producer {
                    link,
                    handle,
                    in_flight: 0,
                })
                .collect(),
            due: (0..consumers.len()).collect(),
            consumers,
            durability: if spec.is_some_and(|spec| spec.durability > 0) {
                Durability::Disk
            } else {
                Durability::Memory
            },
            value: vec![0x5a; load.message_bytes.max(MESSAGE_BYTES_MIN)],
            record: Vec::new(),
            scratch: Vec::new(),
            load: load.clone(),
        })
    }

    /// Lets every consumer that has something to say say it.
    fn consume(&mut self) -> Result<(), BenchError> {
        while let Some(&index) = self.due.last() {
            let consumer = &mut self.consumers[index];
            if consumer.acking.tokens.is_empty() && !consumer.held.tokens.is_empty() {
                std::mem::swap(&mut consumer.held, &mut consumer.acking);
                let tokens = consumer.acking.tokens.iter().copied();
                let request = Request::QueueAck(QueueAck {
                    handle: consumer.handle,
                    partition: PartitionId(0),
                    group: "",
                    tokens: TokenList::build(&mut self.scratch, tokens)
                        .map_err(|error| BenchError::Options(format!("ack: {error}")))?,
                });
                if !submit(&mut self.client, consumer.link, &request)? {
                    std::mem::swap(&mut consumer.held, &mut consumer.acking);
                    return Ok(());
                }
            }
            if !consumer.taking && consumer.held.tokens.is_empty() {
                let request = Request::QueueTake(QueueTake {
                    handle: consumer.handle,
                    partition: PartitionId(0),
                    max_messages: self.load.take,
                    max_bytes: TAKE_BYTES,
                    wait_ms: WAIT_MS,
                    lease_ms: 0,
                    group: "",
                });
                if !submit(&mut self.client, consumer.link, &request)? {
                    return Ok(());
                }
                consumer.taking = true;
            }
            self.due.pop();
        }
        Ok(())
    }
}

/// False: not now.
fn submit(
    client: &mut NativeClient,
    link: LinkId,
    request: &Request<'_>,
) -> Result<bool, BenchError> {
    match client.submit(link, request) {
        Ok(_) => Ok(true),
        Err(SubmitError::InFlight { .. } | SubmitError::Full { .. }) => Ok(false),
        Err(error) => Err(BenchError::Native(error.into())),
    }
}

impl Consumer {
    fn take(&mut self, taken: QueueMessages<'_>) -> Result<(), BenchError> {
        self.taking = false;
        for message in taken.messages {
            let origin = read_origin(message.record.value)
                .ok_or_else(|| unexpected("QUEUE_TAKE", &"a short message"))?;
            self.held.tokens.push(message.token);
            self.held.origins.push(origin);
        }
        Ok(())
    }

    fn settle(
        &mut self,
        settled: Settled<'_>,
        done: &mut Vec<Completion>,
    ) -> Result<(), BenchError> {
        let refused = settled.results.iter().find(Option::is_some);
        if refused.is_some() || usize::from(settled.results.len()) != self.acking.origins.len() {
            return Err(unexpected("QUEUE_ACK", &settled));
        }
        let origins = self.acking.origins.iter();
        done.extend(origins.map(|&(lane, stamp)| Completion { lane, stamp }));
        self.acking.clear();
        Ok(())
    }
}

impl Driver for QueueCycle {
    fn lanes(&self) -> usize {
        self.producers.len()
    }

    fn submit(&mut self, lane: usize, stamp: u64) -> Result<bool, BenchError> {
        let producer = &mut self.producers[lane];
        if producer.in_flight >= self.load.puts {
            return Ok(false);
        }
        write_origin(&mut self.value, lane, stamp);
        let record = Record {
            key: b"",
            headers: b"",
            value: &self.value,
        };
        self.record.clear();
        record.encode(&mut self.record).map_err(|error| {
            BenchError::Options(format!("--size {}: {error}", self.value.len()))
        })?;
        let request = Request::QueuePut(QueuePut {
            handle: producer.handle,
            partition: PartitionId(0),
            producer: None,
            delay_ms: 0,
            ttl_ms: 0,
            record_count: 1,
            records: &self.record,
        });
        let taken = submit(&mut self.client, producer.link, &request)?;
        producer.in_flight += u32::from(taken);
        Ok(taken)
    }

    fn turn(&mut self, done: &mut Vec<Completion>) -> Result<bool, BenchError> {
        self.consume()?;
        let now = Instant::now();
        let sent = self.client.flush(now)?;
        let Self {
            client,
            producers,
            consumers,
            durability,
            due,
            ..
        } = self;
        let mut fault = None;
        let received = client.poll(now, |received| {
            let handled = match received {
                Received::Reply {
                    link, opcode, body, ..
                } => match Reply::decode(opcode, body) {
                    Ok(Reply::Enqueued(put)) if put.durability == *durability => {
                        match producers.iter_mut().find(|end| end.link == link) {
                            Some(producer) => {
                                producer.in_flight -= 1;
                                Ok(())
                            }
                            None => Err(unexpected("a consumer's request", &put)),
                        }
                    }
                    Ok(reply @ (Reply::Taken(_) | Reply::Settled(_))) => {
                        // Connections are few, so the search is short.
                        match consumers.iter().position(|end| end.link == link) {
                            Some(index) => {
                                if due.last() != Some(&index) {
                                    due.push(index);
                                }
                                match reply {
                                    Reply::Taken(taken) => consumers[index].take(taken),
                                    Reply::Settled(settled)
                                        if settled.durability == *durability =>
                                    {
                                        consumers[index].settle(settled, done)
                                    }
                                    other => Err(unexpected("QUEUE_ACK", &other)),
                                }
                            }
                            None => Err(unexpected("QUEUE_PUT", &reply)),
                        }
                    }
                    other => Err(unexpected("a queue", &other)),
                },
                Received::Delivery { .. } => Ok(()),
                Received::Closed { .. } => Err(BenchError::Closed { peer: "the node" }),
            };
            if let Err(error) = handled {
                fault = Some(error);
            }
        })?;
        match fault {
            Some(fault) => Err(fault),
            None => Ok(sent || received),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_who_put_it_and_when() {
        let mut value = [0; 20];
        write_origin(&mut value, 31, u64::MAX - 5);
        assert_eq!(read_origin(&value), Some((31, u64::MAX - 5)));
        assert_eq!(read_origin(&value[..MESSAGE_BYTES_MIN - 1]), None);
    }
}
