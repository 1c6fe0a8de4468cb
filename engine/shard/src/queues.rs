//! Queues of a core: who takes from them and who is subscribed.

use pinion_domains::queue::{
    Delivery, Gone, PushId, QueueError, Subscribe, Take, TakeOutcome, Taken, WaiterId,
};
use pinion_types::{ErrorCode, Monotonic, SessionId, WallMs};

use crate::origin::{Origin, Subscriber};
use crate::output::{MessagesFor, ShardOutput};
use crate::shard::{Attached, Kind, Shard, Slot, Waiting};

/// What a take asks for, without who asks.
#[derive(Clone, Copy, Debug)]
pub struct TakeRequest<'a> {
    /// Consumer group; made if there is none of that name.
    pub group: &'a [u8],
    /// Most messages.
    pub max: u32,
    /// Most bytes of records; one message of any size is always given.
    pub max_bytes: u32,
    /// How long to wait for the first, in milliseconds.
    pub wait_ms: u32,
    /// How long they are reserved, in milliseconds; 0 = the queue's default.
    pub lease_ms: u32,
}

/// What a subscription to a queue asks for.
#[derive(Clone, Copy, Debug)]
pub struct QueueSubscription<'a> {
    /// Consumer group; made if there is none of that name.
    pub group: &'a [u8],
    /// How long messages are reserved, in milliseconds; 0 = the queue's default.
    pub lease_ms: u32,
    /// Most messages reserved for it at a time; 0 = the queue's bound.
    pub in_flight_max: u32,
    /// Messages it may be sent.
    pub credit_records: u32,
    /// Bytes of records it may be sent.
    pub credit_bytes: u32,
    /// Bytes its transport takes before any are given back.
    pub window_bytes: u32,
}

impl Shard {
    /// Takes messages for a connection into `out`, or waits for some. With
    /// [`TakeOutcome::Waiting`] the answer comes as [`ShardOutput::Messages`] or
    /// [`ShardOutput::TakeEnded`].
    ///
    /// # Errors
    /// As [`pinion_domains::queue::QueuePartition::take`]; nothing changed.
    pub fn queue_take(
        &mut self,
        now: Monotonic,
        wall: WallMs,
        slot: Slot,
        origin: Origin,
        request: &TakeRequest<'_>,
        out: &mut Vec<Taken>,
    ) -> Result<TakeOutcome, QueueError> {
        let waiter = self.new_waiter();
        let take = Take {
            session: origin.session,
            waiter: WaiterId(waiter),
            group: request.group,
            max: request.max,
            max_bytes: request.max_bytes,
            wait_ms: request.wait_ms,
            lease_ms: request.lease_ms,
        };
        let outcome = self.queue(slot).take(now, wall, &take, out)?;
        self.uses_queue(origin.session, slot);
        if outcome == TakeOutcome::Waiting {
            self.waiting.insert(waiter, Waiting { origin, slot });
            if request.lease_ms != 0 {
                self.take_leases.insert(waiter, request.lease_ms);
            }
        }
        Ok(outcome)
    }

    /// Subscribes a connection to a queue partition.
    ///
    /// # Errors
    /// As [`pinion_domains::queue::QueuePartition::subscribe`]; nothing changed.
    pub fn queue_subscribe(
        &mut self,
        now: Monotonic,
        wall: WallMs,
        slot: Slot,
        to: Subscriber,
        request: &QueueSubscription<'_>,
    ) -> Result<(), QueueError> {
        let key = self.attach(to, slot);
        let subscribe = Subscribe {
            session: to.session,
            push: PushId(key as u64),
            group: request.group,
            lease_ms: request.lease_ms,
            in_flight_max: request.in_flight_max,
            credit_records: request.credit_records,
            credit_bytes: request.credit_bytes,
            window_bytes: request.window_bytes,
        };
        let result = self.queue(slot).subscribe(now, wall, &subscribe);
        self.keep_or_drop(key, to, result.is_ok());
        if result.is_ok() {
            self.subscribers[key].lease_ms = request.lease_ms;
            self.uses_queue(to.session, slot);
        }
        result
    }

    /// Reservations made for the connection go back when it ends.
    fn uses_queue(&mut self, session: SessionId, slot: Slot) {
        let queues = &mut self.belongings(session).queues;
        if !queues.contains(&slot) {
            queues.push(slot);
        }
    }

    /// Gives back the buffer of [`ShardOutput::Messages`], to be used again.
    pub fn recycle(&mut self, mut messages: Vec<Taken>) {
        messages.clear();
        self.taken = messages;
    }

    /// Messages of [`ShardOutput::Messages`] that nobody was given, because nobody may have
    /// them any more: they are ready again, their attempts as they were. Nothing happens to
    /// those that are somebody else's by now.
    pub fn give_back(&mut self, now: Monotonic, wall: WallMs, slot: Slot, messages: &[Taken]) {
        let Kind::Queue(queue) = &mut self.partitions[slot.index()].kind else {
            return;
        };
        let tokens: Vec<_> = messages.iter().map(|one| one.token).collect();
        let mut results = Vec::new();
        // Of a queue that is fenced nobody can take them either.
        let _ = queue.release(now, wall, &tokens, &mut results);
        self.touch(slot);
    }

    /// The next thing a queue has for anyone.
    pub(crate) fn poll_queue(
        &mut self,
        now: Monotonic,
        wall: WallMs,
        slot: Slot,
    ) -> Option<ShardOutput> {
        let Kind::Queue(queue) = &mut self.partitions[slot.index()].kind else {
            return None;
        };
        let default = queue.config().lease_ms;
        let or_default = |asked: u32| if asked == 0 { default } else { asked };
        let mut messages = core::mem::take(&mut self.taken);
        loop {
            let Some(delivery) = queue.poll_delivery(now, wall, &mut messages) else {
                self.taken = messages;
                return None;
            };
            let (to, lease_ms) = match delivery {
                Delivery::Taken(waiter) => match self.waiting.remove(&waiter.0) {
                    Some(Waiting { origin, .. }) => {
                        let asked = self.take_leases.remove(&waiter.0).unwrap_or(0);
                        (MessagesFor::Take(origin), or_default(asked))
                    }
                    None => {
                        // Whoever waited was told that the node is shutting
                        // down: the messages go back untouched.
                        let tokens: Vec<_> = messages.drain(..).map(|one| one.token).collect();
                        let mut results = Vec::new();
                        // Each token was made just now, so none can fail.
                        let _ = queue.release(now, wall, &tokens, &mut results);
                        continue;
                    }
                },
                Delivery::Nothing(waiter, gone) => {
                    self.take_leases.remove(&waiter.0);
                    let Some(Waiting { origin, .. }) = self.waiting.remove(&waiter.0) else {
                        continue;
                    };
                    self.taken = messages;
                    let refusal = match gone {
                        Gone::TimedOut => None,
                        Gone::GroupDeleted => Some(ErrorCode::UnknownGroup.into()),
                        Gone::Fenced => Some(ErrorCode::PartitionFenced.into()),
                        Gone::Closed => Some(ErrorCode::Draining.into()),
                    };
                    return Some(ShardOutput::TakeEnded { origin, refusal });
                }
                Delivery::Pushed(push) => {
                    let key = usize::try_from(push.0).expect("a slab index");
                    let Attached { to, lease_ms, .. } = self.subscribers[key];
                    (MessagesFor::Subscription(to), or_default(lease_ms))
                }
                Delivery::End(push, code) => {
                    self.taken = messages;
                    let key = usize::try_from(push.0).expect("a slab index");
                    let to = self.forget_subscriber(key);
                    return Some(ShardOutput::QueueEnd { to, code });
                }
            };
            return Some(ShardOutput::Messages {
                to,
                slot,
                lease_ms,
                messages,
            });
        }
    }
}
