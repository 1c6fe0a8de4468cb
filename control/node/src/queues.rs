//! Running a queue's requests on the core that owns its partition.

use pinion_domains::queue::{Put, QueueConfig, QueueError, TakeOutcome, Taken, Token, TokenResult};
use pinion_shard::{MessagesFor, QueueSubscription, TakeRequest};
use pinion_types::limits::FRAME_BYTES_MAX;
use pinion_types::{ErrorCode, Offset, Refusal};
use pinion_wire::message::{
    self, Enqueued, GroupAction, QueueGroup, QueuePut, QueueSubscribe, QueueTake, Reply, Request,
    TokenList,
};
use pinion_wire::reply::{SettledBuilder, TakenBuilder};

use crate::core::{Core, answer};
use crate::deliveries::WINDOW_BYTES;
use crate::execute::{Executed, Target};
use crate::mail::{Origin, Piece, Subscriber};
use crate::map::Resource;

/// What a message takes of a frame beside its record, at most: the fixed fields
/// and the longest error text.
const MESSAGE_OVERHEAD: usize = TakenBuilder::MESSAGE_HEAD_BYTES + u8::MAX as usize;

/// Bytes a token adds to an op, roughly: what an ack asks of the log.
const TOKEN_OP_BYTES: usize = 32;

/// What the partitions of a queue are like.
pub(crate) fn config(resource: &Resource) -> QueueConfig {
    let spec = &resource.spec;
    let queue = &spec.queue;
    QueueConfig {
        durable: resource.is_durable(),
        messages_max: queue.messages_max,
        bytes_max: spec.retention_bytes,
        resident_bytes_max: spec.ring_bytes,
        max_record_bytes: spec.max_record_bytes,
        lease_ms: queue.visibility_ms,
        max_attempts: queue.max_attempts,
        max_in_flight: queue.max_in_flight,
        consumer_in_flight: queue.consumer_in_flight,
        backoff_min_ms: queue.backoff_min_ms,
        backoff_max_ms: queue.backoff_max_ms,
        redelivery_per_sec: queue.redeliveries_per_s,
        ordered_by_key: queue.ordered_by_key,
        dead_letter_expired: !queue.drop_expired,
        ttl_ms: spec.retention_ms,
        ..QueueConfig::default()
    }
}

impl Core {
    /// A request about a queue; `None` when it is about something else.
    pub(crate) fn execute_queue(
        &mut self,
        origin: Origin,
        target: Target,
        number: u64,
        request: &Request<'_>,
        out: &mut Vec<u8>,
    ) -> Option<Result<Executed, Refusal>> {
        Some(match request {
            Request::QueuePut(put) => self.queue_put(origin, target, put, out),
            Request::QueueTake(take) => self.queue_take(origin, target, take, out),
            Request::QueueAck(ack) => {
                self.queue_settle(origin, target, ack.tokens, out, |queue, now, wall, t, r| {
                    queue.ack(now, wall, t, r).map(|_| ())
                })
            }
            Request::QueueNack(nack) => {
                let (delay, error) = (nack.delay_ms, nack.error.as_bytes());
                self.queue_settle(
                    origin,
                    target,
                    nack.tokens,
                    out,
                    |queue, now, wall, t, r| queue.nack(now, wall, t, delay, error, r).map(|_| ()),
                )
            }
            Request::QueueExtend(extend) => {
                let lease_ms = extend.lease_ms;
                self.queue_settle(
                    origin,
                    target,
                    extend.tokens,
                    out,
                    |queue, now, wall, t, r| {
                        let lease_ms = match lease_ms {
                            0 => queue.config().lease_ms,
                            given => given,
                        };
                        queue.extend(now, wall, t, lease_ms, r)
                    },
                )
            }
            Request::QueueRelease(release) => self.queue_settle(
                origin,
                target,
                release.tokens,
                out,
                |queue, now, wall, t, r| queue.release(now, wall, t, r),
            ),
            Request::QueueSubscribe(subscribe) => {
                self.queue_subscribe(origin, target, number, subscribe, out)
            }
            Request::QueueGroup(group) => self.queue_group(origin, target, group, out),
            _ => return self.execute_queue_view(origin, target, request, out),
        })
    }

    fn queue_put(
        &mut self,
        origin: Origin,
        target: Target,
        put: &QueuePut<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Executed, Refusal> {
        self.shard.admit(target.slot, put.records.len(), false)?;
        let done = self.shard.queue(target.slot).put(
            self.now,
            self.wall,
            Put {
                count: put.record_count,
                // A copy of its own: it stays for as long as the messages do.
                records: bytes::Bytes::copy_from_slice(put.records),
                delay_ms: put.delay_ms,
                ttl_ms: put.ttl_ms,
                producer: put.producer,
            },
        )?;
        let reply = Reply::Enqueued(Enqueued {
            partition: target.partition,
            durability: self.durability(target.slot),
            duplicate: done.duplicate,
            first_id: done.first,
            message_count: done.count,
            epoch: self.map.epoch(),
        });
        answer(out, origin.correlation, &reply);
        if !done.duplicate {
            self.stats.enqueued += u64::from(done.count);
        }
        Ok(self.when_durable(target))
    }

    /// The answer is in the output; it goes out when everything the partition
    /// has changed so far is durable.
    pub(crate) fn when_durable(&mut self, target: Target) -> Executed {
        let ticket = self.shard.take_ops(self.now, target.slot);
        ticket
            .or_else(|| self.shard.unsettled(target.slot))
            .map_or(Executed::Replied, Executed::Held)
    }

    fn queue_take(
        &mut self,
        origin: Origin,
        target: Target,
        take: &QueueTake<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Executed, Refusal> {
        let mut taken = Vec::new();
        let outcome = self.shard.queue_take(
            self.now,
            self.wall,
            target.slot,
            origin,
            &TakeRequest {
                group: take.group.as_bytes(),
                max: take.max_messages,
                max_bytes: bytes_within_frame(take.max_messages, take.max_bytes),
                wait_ms: take.wait_ms,
                lease_ms: take.lease_ms,
            },
            &mut taken,
        )?;
        // The first take of a group makes it.
        self.shard.take_ops(self.now, target.slot);
        match outcome {
            TakeOutcome::Waiting => Ok(Executed::Deferred),
            TakeOutcome::Taken | TakeOutcome::Empty => {
                let lease_ms = match take.lease_ms {
                    0 => self.shard.queue(target.slot).config().lease_ms,
                    given => given,
                };
                let builder = TakenBuilder::new(out, origin.correlation, lease_ms);
                self.stats.taken += taken.len() as u64;
                write_messages(builder, &taken);
                Ok(Executed::Replied)
            }
        }
    }

    fn queue_settle(
        &mut self,
        origin: Origin,
        target: Target,
        tokens: TokenList<'_>,
        out: &mut Vec<u8>,
        change: impl FnOnce(
            &mut pinion_domains::queue::QueuePartition,
            pinion_types::Monotonic,
            pinion_types::WallMs,
            &[Token],
            &mut Vec<TokenResult>,
        ) -> Result<(), QueueError>,
    ) -> Result<Executed, Refusal> {
        let tokens: Vec<Token> = tokens
            .iter()
            .map(|token| Token::from_bytes(token.0))
            .collect();
        self.shard
            .admit(target.slot, tokens.len() * TOKEN_OP_BYTES, true)?;
        let mut results = Vec::with_capacity(tokens.len());
        let queue = self.shard.queue(target.slot);
        change(queue, self.now, self.wall, &tokens, &mut results)?;
        let mut settled = SettledBuilder::new(out, origin.correlation);
        for result in results {
            let fits = settled.push(match result {
                TokenResult::Done => Ok(()),
                TokenResult::Invalid => Err(ErrorCode::InvalidToken),
                TokenResult::Expired => Err(ErrorCode::TokenExpired),
            });
            assert!(fits, "as many results as tokens fit a frame");
        }
        settled.finish(self.durability(target.slot));
        Ok(self.when_durable(target))
    }

    fn queue_subscribe(
        &mut self,
        origin: Origin,
        target: Target,
        number: u64,
        subscribe: &QueueSubscribe<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Executed, Refusal> {
        self.shard.queue_subscribe(
            self.now,
            self.wall,
            target.slot,
            Subscriber {
                session: origin.session,
                subscription: subscribe.subscription,
                number,
            },
            &QueueSubscription {
                group: subscribe.group.as_bytes(),
                lease_ms: subscribe.lease_ms,
                in_flight_max: subscribe.in_flight_max,
                credit_records: subscribe.credit_records,
                credit_bytes: subscribe.credit_bytes,
                window_bytes: WINDOW_BYTES,
            },
        )?;
        self.shard.take_ops(self.now, target.slot);
        let queue = self.shard.queue(target.slot);
        let reply = Reply::Subscribed(message::Subscribed {
            subscription: subscribe.subscription,
            next: Offset(queue.oldest_undone(subscribe.group.as_bytes())),
            end: Offset(queue.queue_counts().next_id),
            epoch: self.map.epoch(),
        });
        answer(out, origin.correlation, &reply);
        Ok(Executed::Replied)
    }

    fn queue_group(
        &mut self,
        origin: Origin,
        target: Target,
        group: &QueueGroup<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Executed, Refusal> {
        let delete = group.action == GroupAction::Delete;
        self.shard.admit(target.slot, group.group.len(), delete)?;
        let wall = self.wall;
        let name = group.group.as_bytes();
        let queue = self.shard.queue(target.slot);
        match group.action {
            GroupAction::CreateEarliest => queue.create_group(wall, name)?,
            GroupAction::CreateLatest => queue.create_group_latest(wall, name)?,
            GroupAction::Delete => queue.delete_group(wall, name)?,
        };
        answer(out, origin.correlation, &Reply::Done);
        Ok(self.when_durable(target))
    }

    /// Messages for somebody who waited or is subscribed.
    pub(crate) fn send_messages(&mut self, to: MessagesFor, lease_ms: u32, messages: &[Taken]) {
        self.stats.taken += messages.len() as u64;
        match to {
            MessagesFor::Take(origin) => {
                let mut frame = Vec::new();
                let builder = TakenBuilder::new(&mut frame, origin.correlation, lease_ms);
                write_messages(builder, messages);
                self.answer_late(origin, &frame);
            }
            MessagesFor::Subscription(subscriber) => {
                let mut frame = Vec::new();
                write_messages(TakenBuilder::delivery(&mut frame, lease_ms), messages);
                let charge: usize = messages.iter().map(|one| one.record.len()).sum();
                let charge = u32::try_from(charge).expect("a delivery fits u32");
                self.send(subscriber, Piece::Frames, frame.into(), charge);
            }
        }
    }
}

/// Most bytes of records of a take, so that its answer fits a frame whatever
/// their error texts. A single message always fits.
fn bytes_within_frame(messages: u32, asked: u32) -> u32 {
    let overhead = 64 + messages as usize * MESSAGE_OVERHEAD;
    let room = (FRAME_BYTES_MAX as usize).saturating_sub(overhead);
    asked.min(u32::try_from(room).expect("less than a frame"))
}

fn write_messages(mut builder: TakenBuilder<'_>, messages: &[Taken]) {
    for one in messages {
        let error = one.last_error.as_deref().unwrap_or_default();
        let fits = builder.push_encoded(
            one.id,
            message::Token(one.token.to_bytes()),
            one.attempt,
            one.enqueued,
            core::str::from_utf8(error).unwrap_or_default(),
            &one.record,
        );
        assert!(fits, "what was taken was bounded by the frame");
    }
    builder.finish();
}
