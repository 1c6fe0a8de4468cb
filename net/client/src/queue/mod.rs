//! A queue: put, take, settle. Looking at it is in `admin`.

mod admin;
mod consumer;
mod keeper;
mod message;
mod producer;

use std::sync::Arc;
use std::time::Duration;

use pinion_types::limits::{
    BATCH_RECORDS_MAX, FRAME_BYTES_MAX, QUEUE_LEASE_MS_MAX, QUEUE_TAKE_MAX, QUEUE_TIME_MS_MAX,
    QUEUE_TOKENS_MAX, QUEUE_WAIT_MS_MAX,
};
use pinion_types::route::partition_of;
use pinion_types::{ErrorCode, PartitionId, ProducerId, Refusal, Sequence};
use pinion_wire::message::{
    Durability, QueueAck, QueueExtend, QueueNack, QueuePut, QueueRelease, QueueTake, Spec, Token,
    TokenList,
};
use pinion_wire::{Reply, Request};
use tokio::sync::mpsc;

use crate::error::RequestError;
use crate::node::Node;
use crate::record::Record;
use crate::request::Class;
use crate::resource::Resource;
use crate::subscriber::Partitions;

pub use admin::{
    DeadLetter, DeadLetters, DeadSelection, GroupCounts, Peek, PeekOptions, PeekedMessage,
    QueueCounts,
};
pub use consumer::{ConsumeOptions, Consumer};
pub(crate) use keeper::Keeper;
pub use message::Message;
pub use producer::QueueProducer;

/// How to put a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PutOptions {
    /// Not given out before this has passed; at most ten years.
    pub delay: Duration,
    /// Its life, at most ten years; `None` is the queue's.
    pub ttl: Option<Duration>,
}

/// Where a message is and how durably.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PutAck {
    /// The partition it is in.
    pub partition: PartitionId,
    /// Its number there.
    pub id: u64,
    /// What was reached before the node answered.
    pub durability: Durability,
    /// The node had it already from an earlier attempt.
    pub duplicate: bool,
}

/// How to [`take`](Queue::take).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakeOptions {
    /// The consumer group; empty is the default one.
    pub group: String,
    /// Where from. Messages of one call are all of one partition.
    pub partitions: Partitions,
    /// Most messages, 1 to 1,024.
    pub max: u32,
    /// Most bytes; one message comes however large it is.
    pub max_bytes: u32,
    /// Longest wait for the first message, at most 30 s.
    pub wait: Duration,
    /// How long they are reserved, at most 12 hours; `None` is the queue's.
    pub lease: Option<Duration>,
}

impl Default for TakeOptions {
    fn default() -> Self {
        Self {
            group: String::new(),
            partitions: Partitions::All,
            max: 1,
            max_bytes: 512 << 10,
            wait: Duration::ZERO,
            lease: None,
        }
    }
}

/// What is said of a reservation.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Settle<'a> {
    Ack,
    Nack {
        delay_ms: Option<u64>,
        error: &'a str,
    },
    Extend {
        lease_ms: u32,
    },
    Release,
}

impl Settle<'_> {
    /// An ack sent again is answered as before, an extension changes nothing
    /// that a second one would not. A nack or release that was done makes the
    /// token void, so a repeat could not tell.
    const fn class(self) -> Class {
        match self {
            Self::Ack => Class::Idempotent,
            Self::Extend { .. } => Class::Read,
            Self::Nack { .. } | Self::Release => Class::Write,
        }
    }
}

/// A queue on the node. Cheap to clone.
///
/// ```no_run
/// use std::time::Duration;
/// use pinion_client::{Client, ClientConfig, PutOptions, Record, TakeOptions};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::connect(ClientConfig::from_env_or_dev()?).await?;
/// let queue = client.queue("mail/out").await?;
/// queue.put(Record::new("to ana"), PutOptions::default()).await?;
/// let options = TakeOptions { wait: Duration::from_secs(5), ..Default::default() };
/// for message in queue.take(options).await? {
///     println!("{:?}, attempt {}", message.value, message.attempt);
///     message.ack().await?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Queue {
    node: Arc<Node>,
    resource: Arc<Resource>,
    spec: Spec,
}

impl Queue {
    pub(crate) const fn new(node: Arc<Node>, resource: Arc<Resource>, spec: Spec) -> Self {
        Self {
            node,
            resource,
            spec,
        }
    }

    /// How many partitions there are.
    #[must_use]
    pub const fn shards(&self) -> u16 {
        self.spec.shards
    }

    /// The specification in force.
    #[must_use]
    pub const fn spec(&self) -> Spec {
        self.spec
    }

    /// The partition of messages with this key.
    #[must_use]
    pub fn partition_of(&self, key: &[u8]) -> PartitionId {
        partition_of(key, self.spec.shards)
    }

    /// Puts one message. When the connection is lost before the answer, the
    /// outcome is unknown; a [`producer`](Self::producer) knows.
    ///
    /// # Errors
    /// `QueueFull` when the partition holds as much as it may.
    pub async fn put(&self, record: Record, options: PutOptions) -> Result<PutAck, RequestError> {
        let mut acks = self.put_batch(&[record], options).await;
        acks.pop().expect("one answer for each record")
    }

    /// Puts many messages, those of one partition in as few requests as they
    /// fit, each of which is stored as a whole or not at all. Messages without
    /// a key go to one partition together. Gives what became of each.
    pub async fn put_batch(
        &self,
        records: &[Record],
        options: PutOptions,
    ) -> Vec<Result<PutAck, RequestError>> {
        let mut results = vec![Err(RequestError::Closed); records.len()];
        for chunk in self.chunks(records, &mut results) {
            let put = self.put_chunk(&chunk, options, None).await;
            chunk.report(&put, &mut results);
        }
        results
    }

    /// A producer, whose puts are stored once even when they are sent again.
    #[must_use]
    pub fn producer(&self) -> QueueProducer {
        QueueProducer::new(self.clone())
    }

    /// Reserves messages, oldest first within a partition; none when the wait
    /// was over. Dropped while waiting, what is reserved meanwhile is released.
    ///
    /// # Errors
    /// As every request; repeating it is safe.
    pub async fn take(&self, options: TakeOptions) -> Result<Vec<Message>, RequestError> {
        let partitions = options.partitions.list(self.spec.shards);
        // Whatever is not handed to the caller is given back by the keeper.
        let keeper = Keeper::start(self.clone(), &options.group, Duration::ZERO);
        let ask = |partition, wait| take_from(Arc::clone(&keeper), partition, wait, &options);
        let mut rest = &partitions[..];
        if let [_, _, ..] = rest {
            let first = usize::try_from(self.node.random_u64() % partitions.len() as u64)
                .expect("less than the number of partitions");
            for i in 0..partitions.len() {
                let partition = partitions[(first + i) % partitions.len()];
                let taken = detached(ask(partition, Duration::ZERO)).await?;
                if !taken.is_empty() {
                    return Ok(message::given(taken));
                }
            }
            if options.wait.is_zero() {
                rest = &[];
            }
        }
        let (sender, mut answers) = mpsc::channel(rest.len().max(1));
        for partition in rest {
            let taken = ask(*partition, options.wait);
            let sender = sender.clone();
            // An error means that nobody waits: dropping the messages gives
            // them back.
            tokio::spawn(async move { sender.send(taken.await).await.is_ok() });
        }
        drop(sender);
        let mut failed = None;
        while let Some(answer) = answers.recv().await {
            match answer {
                Ok(taken) if !taken.is_empty() => return Ok(message::given(taken)),
                Ok(_) => {}
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(Vec::new()), Err)
    }

    /// Reserves and delivers messages as they become ready, and keeps them
    /// reserved while they are worked on.
    ///
    /// # Errors
    /// The node refused, or could not be reached in the time of a request.
    pub async fn consume(&self, options: ConsumeOptions) -> Result<Consumer, RequestError> {
        Consumer::open(self, options).await
    }

    /// Work on these is done. Gives what became of each.
    pub async fn ack(&self, messages: &[Message]) -> Vec<Result<(), RequestError>> {
        self.settle_messages(messages, Settle::Ack).await
    }

    /// Work on these failed, for the reason `error` (cut to 255 bytes): each
    /// comes again after `delay`, or after the queue's backoff, or becomes a
    /// dead letter. Gives what became of each.
    pub async fn nack(
        &self,
        messages: &[Message],
        delay: Option<Duration>,
        error: &str,
    ) -> Vec<Result<(), RequestError>> {
        let how = Settle::Nack {
            delay_ms: delay.map(time_ms),
            error: cut(error),
        };
        self.settle_messages(messages, how).await
    }

    /// Work on these goes on: they stay reserved for `lease` from now. Gives
    /// what became of each.
    pub async fn extend(
        &self,
        messages: &[Message],
        lease: Duration,
    ) -> Vec<Result<(), RequestError>> {
        let lease_ms = lease_ms(Some(lease));
        self.settle_messages(messages, Settle::Extend { lease_ms })
            .await
    }

    /// Work on these was not begun: they are ready again at once, and no
    /// attempt counts. Gives what became of each.
    pub async fn release(&self, messages: &[Message]) -> Vec<Result<(), RequestError>> {
        self.settle_messages(messages, Settle::Release).await
    }

    /// [`ack`](Self::ack) for who kept the tokens of one partition only.
    ///
    /// # Errors
    /// A request failed as a whole; those before it have done their part.
    pub async fn ack_tokens(
        &self,
        partition: PartitionId,
        group: &str,
        tokens: &[Token],
    ) -> Result<Vec<Result<(), ErrorCode>>, RequestError> {
        self.settle(partition, group, tokens, Settle::Ack).await
    }

    /// [`nack`](Self::nack) for who kept the tokens of one partition only.
    ///
    /// # Errors
    /// A request failed as a whole; those before it have done their part.
    pub async fn nack_tokens(
        &self,
        partition: PartitionId,
        group: &str,
        tokens: &[Token],
        delay: Option<Duration>,
        error: &str,
    ) -> Result<Vec<Result<(), ErrorCode>>, RequestError> {
        let how = Settle::Nack {
            delay_ms: delay.map(time_ms),
            error: cut(error),
        };
        self.settle(partition, group, tokens, how).await
    }

    /// [`extend`](Self::extend) for who kept the tokens of one partition only;
    /// without a `lease`, for as long as the queue reserves.
    ///
    /// # Errors
    /// A request failed as a whole; those before it have done their part.
    pub async fn extend_tokens(
        &self,
        partition: PartitionId,
        group: &str,
        tokens: &[Token],
        lease: Option<Duration>,
    ) -> Result<Vec<Result<(), ErrorCode>>, RequestError> {
        let lease_ms = lease_ms(lease);
        self.settle(partition, group, tokens, Settle::Extend { lease_ms })
            .await
    }

    /// [`release`](Self::release) for who kept the tokens of one partition only.
    ///
    /// # Errors
    /// A request failed as a whole; those before it have done their part.
    pub async fn release_tokens(
        &self,
        partition: PartitionId,
        group: &str,
        tokens: &[Token],
    ) -> Result<Vec<Result<(), ErrorCode>>, RequestError> {
        self.settle(partition, group, tokens, Settle::Release).await
    }

    async fn settle_messages(
        &self,
        messages: &[Message],
        how: Settle<'_>,
    ) -> Vec<Result<(), RequestError>> {
        let mut results = vec![Err(RequestError::Closed); messages.len()];
        let mut indexes: Vec<usize> = (0..messages.len()).collect();
        let place = |index: &usize| {
            let message = &messages[*index];
            (message.partition, message.group())
        };
        indexes.sort_by_key(place);
        for same in indexes.chunk_by(|a, b| place(a) == place(b)) {
            let (partition, group) = place(&same[0]);
            for some in same.chunks(usize::from(QUEUE_TOKENS_MAX)) {
                let tokens: Vec<Token> = some.iter().map(|i| messages[*i].token()).collect();
                let settled = self.settle(partition, group, &tokens, how).await;
                for (place, index) in some.iter().enumerate() {
                    let result = match &settled {
                        Ok(codes) => codes[place].map_err(refused),
                        Err(error) => Err(error.clone()),
                    };
                    messages[*index].settled(how, &result);
                    results[*index] = result;
                }
            }
        }
        results
    }

    /// Settles tokens of one partition and group.
    pub(crate) async fn settle(
        &self,
        partition: PartitionId,
        group: &str,
        tokens: &[Token],
        how: Settle<'_>,
    ) -> Result<Vec<Result<(), ErrorCode>>, RequestError> {
        let mut results = Vec::with_capacity(tokens.len());
        for some in tokens.chunks(usize::from(QUEUE_TOKENS_MAX)) {
            let mut scratch = Vec::new();
            let tokens = TokenList::build(&mut scratch, some.iter().copied())?;
            let build = |handle| match how {
                Settle::Ack => Request::QueueAck(QueueAck {
                    handle,
                    partition,
                    group,
                    tokens,
                }),
                Settle::Nack { delay_ms, error } => Request::QueueNack(QueueNack {
                    handle,
                    partition,
                    delay_ms,
                    error,
                    group,
                    tokens,
                }),
                Settle::Extend { lease_ms } => Request::QueueExtend(QueueExtend {
                    handle,
                    partition,
                    lease_ms,
                    group,
                    tokens,
                }),
                Settle::Release => Request::QueueRelease(QueueRelease {
                    handle,
                    partition,
                    group,
                    tokens,
                }),
            };
            let read = |_: &_, reply: Reply<'_>| match reply {
                Reply::Settled(settled) if usize::from(settled.results.len()) == some.len() => {
                    let code = |code: Option<ErrorCode>| code.map_or(Ok(()), Err);
                    Some(settled.results.iter().map(code).collect::<Vec<_>>())
                }
                _ => None,
            };
            let settled = self
                .node
                .request(&self.resource, partition, how.class(), build, read)
                .await?;
            results.extend(settled);
        }
        Ok(results)
    }

    /// Cuts a batch by partition and by what fits a frame. Records that no node
    /// would take are reported and left out.
    fn chunks(
        &self,
        records: &[Record],
        results: &mut [Result<PutAck, RequestError>],
    ) -> Vec<Chunk> {
        let shards = u64::from(self.spec.shards);
        let unkeyed = u16::try_from(self.node.random_u64() % shards).map(PartitionId);
        let unkeyed = unkeyed.expect("less than the number of partitions");
        let mut done = Vec::new();
        let mut open: Vec<Option<Chunk>> = vec![None; usize::from(self.spec.shards)];
        for (index, record) in records.iter().enumerate() {
            if let Err(error) = record.check() {
                results[index] = Err(error);
                continue;
            }
            let partition = match record.key_bytes() {
                [] => unkeyed,
                key => self.partition_of(key),
            };
            let slot = &mut open[usize::from(partition.0)];
            if slot.as_ref().is_some_and(|chunk| !chunk.takes(record)) {
                done.extend(slot.take());
            }
            slot.get_or_insert_with(|| Chunk::new(partition))
                .push(index, record);
        }
        done.extend(open.into_iter().flatten());
        done
    }

    /// One request. Gives the id of the first message.
    async fn put_chunk(
        &self,
        chunk: &Chunk,
        options: PutOptions,
        producer: Option<(ProducerId, Sequence)>,
    ) -> Result<PutAck, RequestError> {
        let record_count = u32::try_from(chunk.indexes.len()).expect("at most BATCH_RECORDS_MAX");
        let partition = chunk.partition;
        let build = |handle| {
            Request::QueuePut(QueuePut {
                handle,
                partition,
                producer,
                delay_ms: time_ms(options.delay),
                // A life of less than a millisecond is one: 0 is the queue's.
                ttl_ms: options.ttl.map_or(0, |ttl| time_ms(ttl).max(1)),
                record_count,
                records: &chunk.bytes,
            })
        };
        let read = |_: &_, reply: Reply<'_>| match reply {
            Reply::Enqueued(put) => Some(PutAck {
                partition: put.partition,
                id: put.first_id,
                durability: put.durability,
                duplicate: put.duplicate,
            }),
            _ => None,
        };
        let class = match producer {
            Some(_) => Class::Idempotent,
            None => Class::Write,
        };
        self.node
            .request(&self.resource, partition, class, build, read)
            .await
    }
}

/// Messages of one request.
#[derive(Clone, Debug)]
struct Chunk {
    partition: PartitionId,
    /// Where in the caller's batch they are.
    indexes: Vec<usize>,
    bytes: Vec<u8>,
}

/// Bytes of QUEUE_PUT before its records, at most.
const PUT_HEAD: usize = 64;

impl Chunk {
    const fn new(partition: PartitionId) -> Self {
        Self {
            partition,
            indexes: Vec::new(),
            bytes: Vec::new(),
        }
    }

    fn takes(&self, record: &Record) -> bool {
        self.indexes.len() < BATCH_RECORDS_MAX as usize
            && PUT_HEAD + self.bytes.len() + record.encoded_len() <= FRAME_BYTES_MAX as usize
    }

    fn push(&mut self, index: usize, record: &Record) {
        self.indexes.push(index);
        record.encode(&mut self.bytes);
    }

    /// Tells each message what became of all of them.
    fn report(
        &self,
        put: &Result<PutAck, RequestError>,
        results: &mut [Result<PutAck, RequestError>],
    ) {
        for (place, index) in self.indexes.iter().enumerate() {
            results[*index] = put.clone().map(|first| PutAck {
                id: first.id + place as u64,
                ..first
            });
        }
    }
}

/// Takes from one partition. Dropped messages are given back by the keeper.
fn take_from(
    keeper: Arc<Keeper>,
    partition: PartitionId,
    wait: Duration,
    options: &TakeOptions,
) -> impl Future<Output = Result<Vec<Message>, RequestError>> + Send + use<> {
    let max_messages = options.max.clamp(1, QUEUE_TAKE_MAX);
    let max_bytes = options.max_bytes;
    let wait_ms = millis_u32(wait).min(QUEUE_WAIT_MS_MAX);
    let lease_ms = lease_ms(options.lease);
    async move {
        let queue = keeper.queue();
        let build = |handle| {
            Request::QueueTake(QueueTake {
                handle,
                partition,
                max_messages,
                max_bytes,
                wait_ms,
                lease_ms,
                group: keeper.group(),
            })
        };
        // The node may take all of the wait before it answers.
        let after = queue.node.config.request_timeout + Duration::from_millis(u64::from(wait_ms));
        // What an answer that was lost had reserved is released with its
        // connection, so asking again takes nothing twice.
        queue
            .node
            .request_within(
                after,
                &queue.resource,
                partition,
                Class::Read,
                build,
                |frame, reply| match reply {
                    Reply::Taken(taken) => {
                        Some(keeper.unpack(partition, frame, taken, &Arc::default()))
                    }
                    _ => None,
                },
            )
            .await
    }
}

/// Runs to its end even when the caller goes away, so that what an answer
/// brings is known, and given back.
async fn detached(
    taken: impl Future<Output = Result<Vec<Message>, RequestError>> + Send + 'static,
) -> Result<Vec<Message>, RequestError> {
    tokio::spawn(taken)
        .await
        .unwrap_or(Err(RequestError::Closed))
}

const fn refused(code: ErrorCode) -> RequestError {
    RequestError::Refused(Refusal::new(code))
}

fn millis_u32(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// A reservation of less than a millisecond is one: 0 is the queue's.
fn lease_ms(lease: Option<Duration>) -> u32 {
    lease.map_or(0, |lease| millis_u32(lease).clamp(1, QUEUE_LEASE_MS_MAX))
}

fn time_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis())
        .unwrap_or(u64::MAX)
        .min(QUEUE_TIME_MS_MAX)
}

/// As much of an error text as is kept.
fn cut(error: &str) -> &str {
    let mut end = error
        .len()
        .min(usize::from(pinion_types::limits::QUEUE_ERROR_BYTES_MAX));
    while !error.is_char_boundary(end) {
        end -= 1;
    }
    &error[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_text_is_cut_between_characters() {
        assert_eq!(cut("short"), "short");
        assert_eq!(cut(&"é".repeat(200)).len(), 254);
    }

    #[test]
    fn times_stay_within_what_a_queue_takes_and_a_tiny_lease_is_not_the_default() {
        assert_eq!(lease_ms(None), 0);
        assert_eq!(lease_ms(Some(Duration::ZERO)), 1);
        assert_eq!(lease_ms(Some(Duration::MAX)), QUEUE_LEASE_MS_MAX);
        assert_eq!(time_ms(Duration::MAX), QUEUE_TIME_MS_MAX);
    }

    #[test]
    fn a_chunk_is_full_before_its_frame_is() {
        let mut chunk = Chunk::new(PartitionId(0));
        let half = Record::new(vec![0; FRAME_BYTES_MAX as usize / 2]);
        assert!(chunk.takes(&half));
        chunk.push(0, &half);
        assert!(!chunk.takes(&half));
        let mut many = Chunk::new(PartitionId(0));
        for i in 0..BATCH_RECORDS_MAX as usize {
            many.push(i, &Record::new(""));
        }
        assert!(!many.takes(&Record::new("")));
    }
}
