//! The fake node's queues: one group, leases that end only when a test says so.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use pinion_types::block::records;
use pinion_types::{
    Epoch, ErrorCode, FactId, Offset, PartitionId, Refusal, SubscriptionId, WallMs,
};
use pinion_wire::message::{
    DeadItem, DeadItems, DeadPage, DeadReason, DeadSelect, Delivery, Durability, End, Enqueued,
    GroupItem, GroupItems, MessageState, Moved, PeekItem, PeekItems, QueueMessage,
    QueueMessageList, QueueMessages, QueuePage, QueueStatus, Reason, Reasons, Request, Settled,
    SettledList, Subscribed, Token, TokenList, WhyReason,
};
use pinion_wire::{Reply, message::IdList};
use tokio::sync::Mutex;

use super::{Fake, Session, soon};

/// Reservations of the fake, in milliseconds; short, so that a client that
/// keeps messages extends them soon.
pub const LEASE_MS: u32 = 60;
const MAX_ATTEMPTS: u16 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Ready,
    InFlight { token: Token, connection: usize },
    Done,
    Dead,
    Purged,
}

#[derive(Clone, Debug)]
pub struct FakeMessage {
    pub record: Vec<u8>,
    pub state: State,
    /// Failed ones.
    pub attempts: u16,
    pub last_error: String,
    pub extended: u32,
    pub delay_ms: Option<u64>,
}

#[derive(Default)]
pub struct FakeQueue {
    pub messages: Vec<FakeMessage>,
    tokens: u64,
    acked: Vec<Token>,
    expired: Vec<Token>,
    producers: HashMap<u64, (u64, HashMap<u64, u64>)>,
    pub released: u32,
    pub groups: Vec<(String, String)>,
    pub last_group: String,
    pub last_rate: u32,
}

/// A take that waits.
pub struct Waiting {
    partition: PartitionId,
    correlation: u32,
    max: usize,
    wait: Duration,
}

impl FakeQueue {
    fn put(&mut self, record: &[u8]) {
        self.messages.push(FakeMessage {
            record: record.to_vec(),
            state: State::Ready,
            attempts: 0,
            last_error: String::new(),
            extended: 0,
            delay_ms: None,
        });
    }

    /// Reserves at most `max` and gives their indexes.
    fn reserve(&mut self, max: usize, connection: usize) -> Vec<usize> {
        let ready = |i: &usize| self.messages[*i].state == State::Ready;
        let taken: Vec<usize> = (0..self.messages.len()).filter(ready).take(max).collect();
        for index in &taken {
            self.tokens += 1;
            let mut token = [0xab; 16];
            token[..8].copy_from_slice(&self.tokens.to_le_bytes());
            self.messages[*index].state = State::InFlight {
                token: Token(token),
                connection,
            };
        }
        taken
    }

    fn settle(
        &mut self,
        token: Token,
        act: impl FnOnce(&mut FakeMessage),
    ) -> Result<(), ErrorCode> {
        let holds = |m: &&mut FakeMessage| matches!(m.state, State::InFlight { token: t, .. } if t == token);
        match self.messages.iter_mut().find(holds) {
            Some(message) => {
                act(message);
                Ok(())
            }
            None if self.expired.contains(&token) => Err(ErrorCode::TokenExpired),
            None => Err(ErrorCode::InvalidToken),
        }
    }

    fn fail(message: &mut FakeMessage) {
        message.attempts += 1;
        message.state = if message.attempts >= MAX_ATTEMPTS {
            State::Dead
        } else {
            State::Ready
        };
    }

    fn selected(&mut self, select: DeadSelect<'_>, ids: IdList<'_>) -> Vec<&mut FakeMessage> {
        let fits = move |(id, m): &(usize, &mut FakeMessage)| {
            m.state == State::Dead
                && m.last_error.starts_with(select.error_prefix)
                && select.reason.is_none_or(|r| r == DeadReason::Failed)
                && (ids.is_empty() || ids.iter().any(|i| i == *id as u64))
        };
        let found = self.messages.iter_mut().enumerate().filter(fits);
        found.map(|(_, message)| message).collect()
    }
}

impl Fake {
    /// Waits until `seen` holds; it is looked at after every change.
    pub async fn until(&self, seen: impl Fn(&[FakeQueue]) -> bool) {
        let mut changes = self.appended.subscribe();
        soon(async {
            while !seen(&self.node().queues) {
                changes.changed().await.unwrap();
            }
        })
        .await;
    }

    /// Ends every reservation, as their time would.
    pub fn expire(&self) {
        for queue in &mut self.node().queues {
            for message in &mut queue.messages {
                if let State::InFlight { token, .. } = message.state {
                    queue.expired.push(token);
                    FakeQueue::fail(message);
                }
            }
        }
        self.appended.send_modify(|count| *count += 1);
    }

    /// Values of all messages in a state, by partition.
    pub fn queued(&self, wanted: impl Fn(State) -> bool) -> Vec<String> {
        let node = self.node();
        let messages = node.queues.iter().flat_map(|queue| &queue.messages);
        messages
            .filter(|message| wanted(message.state))
            .map(|message| {
                let record = records(&message.record).next().unwrap().unwrap();
                String::from_utf8(record.value.to_vec()).unwrap()
            })
            .collect()
    }
}

/// A frame of messages, already reserved.
fn pack<'m>(queue: &'m FakeQueue, taken: &[usize], scratch: &'m mut Vec<u8>) -> QueueMessages<'m> {
    let messages = taken.iter().map(|index| {
        let message = &queue.messages[*index];
        let State::InFlight { token, .. } = message.state else {
            panic!("reserved just now")
        };
        QueueMessage {
            id: *index as u64,
            token,
            attempt: message.attempts + 1,
            enqueued: WallMs(7),
            last_error: &message.last_error,
            record: records(&message.record).next().unwrap().unwrap(),
        }
    });
    QueueMessages {
        lease_ms: LEASE_MS,
        messages: QueueMessageList::build(scratch, messages).unwrap(),
    }
}

impl Session {
    fn id(&self) -> usize {
        self.connection.stable_id()
    }

    fn changed(&self) {
        self.appended.send_modify(|count| *count += 1);
    }

    /// What a closed connection had reserved is ready again.
    pub(super) async fn release_at_the_end(self: Arc<Self>) {
        self.connection.closed().await;
        for queue in &mut self.node.lock().unwrap().queues {
            for message in &mut queue.messages {
                if matches!(message.state, State::InFlight { connection, .. } if connection == self.id())
                {
                    message.state = State::Ready;
                }
            }
        }
        self.changed();
    }

    pub(super) fn act_on_queue(
        self: &Arc<Self>,
        request: &Request<'_>,
        correlation: u32,
        out: &mut Vec<u8>,
    ) {
        let mut node = self.node.lock().unwrap();
        let queues = &mut node.queues;
        let mut scratch = Vec::new();
        let reply = match *request {
            Request::QueuePut(put) => {
                pinion_types::block::check_records(put.records, put.record_count).unwrap();
                let queue = &mut queues[usize::from(put.partition.0)];
                let first_id = queue.messages.len() as u64;
                let known = put.producer.map(|(id, sequence)| {
                    let (next, stored) = queue.producers.entry(id.0).or_default();
                    match stored.get(&sequence.0) {
                        Some(original) => Ok(Some(*original)),
                        None if sequence.0 != *next => Err(*next),
                        None => {
                            *next += u64::from(put.record_count);
                            stored.insert(sequence.0, first_id);
                            Ok(None)
                        }
                    }
                });
                let enqueued = |first_id, duplicate| {
                    Reply::Enqueued(Enqueued {
                        partition: put.partition,
                        durability: Durability::Memory,
                        duplicate,
                        first_id,
                        message_count: put.record_count,
                        epoch: Epoch(1),
                    })
                };
                match known {
                    Some(Err(expected)) => {
                        let gap = Refusal::new(ErrorCode::SequenceGap);
                        Reply::Error(gap.with(FactId::Expected, expected))
                    }
                    Some(Ok(Some(original))) => enqueued(original, true),
                    Some(Ok(None)) | None => {
                        let mut rest = put.records;
                        while !rest.is_empty() {
                            let mut walk = records(rest);
                            walk.next();
                            let record = &rest[..rest.len() - walk.rest().len()];
                            queue.put(record);
                            queue.messages.last_mut().unwrap().delay_ms =
                                Some(put.delay_ms).filter(|ms| *ms > 0);
                            rest = walk.rest();
                        }
                        self.changed();
                        enqueued(first_id, false)
                    }
                }
            }
            Request::QueueTake(take) => {
                let queue = &mut queues[usize::from(take.partition.0)];
                take.group.clone_into(&mut queue.last_group);
                self.changed();
                let max = take.max_messages as usize;
                let taken = queue.reserve(max, self.id());
                if taken.is_empty() && take.wait_ms > 0 {
                    self.deferred.lock().unwrap().push(Waiting {
                        partition: take.partition,
                        correlation,
                        max,
                        wait: Duration::from_millis(u64::from(take.wait_ms)),
                    });
                    return;
                }
                Reply::Taken(pack(queue, &taken, &mut scratch))
            }
            Request::QueueAck(ack) => {
                let queue = &mut queues[usize::from(ack.partition.0)];
                return self.settled(ack.tokens, correlation, out, |token| {
                    if queue.acked.contains(&token) {
                        return Ok(());
                    }
                    queue.settle(token, |message| message.state = State::Done)?;
                    queue.acked.push(token);
                    Ok(())
                });
            }
            Request::QueueNack(nack) => {
                let queue = &mut queues[usize::from(nack.partition.0)];
                return self.settled(nack.tokens, correlation, out, |token| {
                    queue.settle(token, |message| {
                        nack.error.clone_into(&mut message.last_error);
                        message.delay_ms = nack.delay_ms;
                        FakeQueue::fail(message);
                    })
                });
            }
            Request::QueueExtend(extend) => {
                let queue = &mut queues[usize::from(extend.partition.0)];
                return self.settled(extend.tokens, correlation, out, |token| {
                    queue.settle(token, |message| message.extended += 1)
                });
            }
            Request::QueueRelease(release) => {
                let queue = &mut queues[usize::from(release.partition.0)];
                return self.settled(release.tokens, correlation, out, |token| {
                    queue.released += 1;
                    queue.settle(token, |message| message.state = State::Ready)
                });
            }
            // Two to a page, whatever was asked for.
            Request::QueuePeek(peek) => {
                let queue = &queues[usize::from(peek.partition.0)];
                let state = |message: &FakeMessage| match message.state {
                    State::Ready => Some(MessageState::Ready),
                    State::InFlight { .. } => Some(MessageState::InFlight),
                    State::Dead => Some(MessageState::Dead),
                    State::Done | State::Purged => None,
                };
                let from = usize::try_from(peek.from).unwrap();
                let all = queue.messages.iter().enumerate().skip(from);
                let all: Vec<_> = all
                    .filter_map(|(id, m)| Some((id, m, state(m)?)))
                    .filter(|(_, _, state)| peek.states.contains(*state))
                    .collect();
                let items = all.iter().take(2).map(|(id, message, state)| PeekItem {
                    id: *id as u64,
                    state: *state,
                    attempts: message.attempts,
                    enqueued: WallMs(7),
                    due: WallMs(0),
                    expires: WallMs(9),
                    last_error: &message.last_error,
                    record_bytes: u32::try_from(message.record.len()).unwrap(),
                    record: records(&message.record)
                        .next()
                        .filter(|_| peek.bodies)
                        .map(Result::unwrap),
                });
                Reply::QueuePage(QueuePage {
                    next: all.get(2).map_or(0, |(id, ..)| *id as u64),
                    items: PeekItems::build(&mut scratch, items).unwrap(),
                })
            }
            Request::QueueDeadList(list) => {
                let queue = &mut queues[usize::from(list.partition.0)];
                let dead: Vec<_> = queue
                    .messages
                    .iter()
                    .enumerate()
                    .filter(|(id, message)| {
                        *id as u64 >= list.from
                            && message.state == State::Dead
                            && message.last_error.starts_with(list.select.error_prefix)
                    })
                    .collect();
                let items = dead.iter().take(2).map(|(id, message)| DeadItem {
                    id: *id as u64,
                    reason: DeadReason::Failed,
                    attempts: message.attempts,
                    enqueued: WallMs(7),
                    died: WallMs(8),
                    last_error: &message.last_error,
                    record_bytes: u32::try_from(message.record.len()).unwrap(),
                    record: records(&message.record)
                        .next()
                        .filter(|_| list.bodies)
                        .map(Result::unwrap),
                });
                Reply::DeadPage(DeadPage {
                    next: dead.get(2).map_or(0, |(id, _)| *id as u64),
                    items: DeadItems::build(&mut scratch, items).unwrap(),
                })
            }
            Request::QueueDeadReplay(replay) => {
                let queue = &mut queues[usize::from(replay.partition.0)];
                queue.last_rate = replay.rate_per_s;
                let dead = queue.selected(replay.select, replay.ids);
                let messages = dead.len() as u64;
                for message in dead {
                    message.state = State::Ready;
                    message.attempts = 0;
                }
                self.changed();
                Reply::Moved(Moved {
                    messages,
                    durability: Durability::Memory,
                })
            }
            Request::QueueDeadPurge(purge) => {
                let queue = &mut queues[usize::from(purge.partition.0)];
                let dead = queue.selected(purge.select, purge.ids);
                let messages = dead.len() as u64;
                for message in dead {
                    message.state = State::Purged;
                }
                Reply::Moved(Moved {
                    messages,
                    durability: Durability::Memory,
                })
            }
            Request::QueueInfo(info) => {
                let queue = &queues[usize::from(info.partition.0)];
                let count = |wanted: fn(State) -> bool| {
                    queue.messages.iter().filter(|m| wanted(m.state)).count() as u64
                };
                let group = GroupItem {
                    name: "",
                    ready: count(|s| s == State::Ready),
                    delayed: 0,
                    in_flight: count(|s| matches!(s, State::InFlight { .. })),
                    dead: count(|s| s == State::Dead),
                    bytes: 0,
                    oldest_age_ms: 5,
                    consumers: 0,
                    waiting: 0,
                };
                Reply::QueueStatus(QueueStatus {
                    next_id: queue.messages.len() as u64,
                    messages: count(|s| s != State::Done),
                    bytes: 0,
                    resident_bytes: 0,
                    epoch: Epoch(1),
                    groups: GroupItems::build(&mut scratch, [group]).unwrap(),
                })
            }
            Request::QueueWhy(_) => {
                let reason = Reason {
                    limit: 1,
                    ..Reason::new(WhyReason::GroupInFlight)
                };
                Reply::QueueReasons(Reasons::build(&mut scratch, [reason]).unwrap())
            }
            Request::QueueGroup(group) => {
                let queue = &mut queues[usize::from(group.partition.0)];
                let action = format!("{:?}", group.action);
                queue.groups.push((group.group.to_owned(), action));
                Reply::Done
            }
            Request::QueueSubscribe(subscribe) => {
                let id = subscribe.subscription;
                let queue = &mut queues[usize::from(subscribe.partition.0)];
                subscribe.group.clone_into(&mut queue.last_group);
                let end = queue.messages.len() as u64;
                let credit = (
                    subscribe.credit_records.into(),
                    subscribe.credit_bytes.into(),
                );
                self.credits.lock().unwrap().insert(id.0, credit);
                tokio::spawn(Arc::clone(self).feed(id.0, subscribe.partition));
                Reply::Subscribed(Subscribed {
                    subscription: id,
                    next: Offset(0),
                    end: Offset(end),
                    epoch: Epoch(1),
                })
            }
            _ => Reply::Error(Refusal::new(ErrorCode::Unsupported)),
        };
        reply.encode(correlation, out).unwrap();
    }

    fn settled(
        &self,
        tokens: TokenList<'_>,
        correlation: u32,
        out: &mut Vec<u8>,
        mut settle: impl FnMut(Token) -> Result<(), ErrorCode>,
    ) {
        let mut scratch = Vec::new();
        let results = tokens.iter().map(|token| settle(token).err());
        let reply = Reply::Settled(Settled {
            durability: Durability::Memory,
            results: SettledList::build(&mut scratch, results).unwrap(),
        });
        reply.encode(correlation, out).unwrap();
        self.changed();
    }

    pub(super) async fn take_later(
        self: Arc<Self>,
        waiting: Waiting,
        send: Arc<Mutex<quinn::SendStream>>,
    ) {
        let mut appended = self.appended.subscribe();
        let over = tokio::time::sleep(waiting.wait);
        let mut over = std::pin::pin!(over);
        let mut ended = false;
        loop {
            let mut out = Vec::new();
            {
                let mut node = self.node.lock().unwrap();
                let queue = &mut node.queues[usize::from(waiting.partition.0)];
                let taken = queue.reserve(waiting.max, self.id());
                if ended || !taken.is_empty() {
                    let mut scratch = Vec::new();
                    let reply = Reply::Taken(pack(queue, &taken, &mut scratch));
                    reply.encode(waiting.correlation, &mut out).unwrap();
                }
            }
            if !out.is_empty() {
                let _ = send.lock().await.write_all(&out).await;
                return;
            }
            tokio::select! {
                _ = appended.changed() => {}
                () = &mut over => ended = true,
                _ = self.connection.closed() => return,
            }
        }
    }

    /// Delivers what is ready while there is credit.
    async fn feed(self: Arc<Self>, id: u32, partition: PartitionId) {
        let Ok(mut send) = self.connection.open_uni().await else {
            return;
        };
        let mut out = Vec::new();
        Delivery::Head(SubscriptionId(id)).encode(&mut out).unwrap();
        let mut appended = self.appended.subscribe();
        loop {
            if send.write_all(&out).await.is_err() {
                return;
            }
            out.clear();
            let topped = self.topped.notified();
            let mut topped = std::pin::pin!(topped);
            topped.as_mut().enable();
            appended.borrow_and_update();
            let credit = self.credits.lock().unwrap().get(&id).copied();
            let Some((records, bytes)) = credit else {
                let end = Delivery::End(End {
                    code: 0,
                    next: Offset(0),
                });
                end.encode(&mut out).unwrap();
                let _ = send.write_all(&out).await;
                let _ = send.finish();
                return;
            };
            if records > 0 && bytes > 0 {
                let mut node = self.node.lock().unwrap();
                let queue = &mut node.queues[usize::from(partition.0)];
                let max = usize::try_from(records.min(3)).unwrap();
                let taken = queue.reserve(max, self.id());
                if !taken.is_empty() {
                    let size: usize = taken.iter().map(|i| queue.messages[*i].record.len()).sum();
                    let mut scratch = Vec::new();
                    let messages = pack(queue, &taken, &mut scratch);
                    Delivery::Messages(messages).encode(&mut out).unwrap();
                    let mut credits = self.credits.lock().unwrap();
                    if let Some((records, bytes)) = credits.get_mut(&id) {
                        *records -= i64::try_from(taken.len()).unwrap();
                        *bytes -= i64::try_from(size).unwrap();
                    }
                    continue;
                }
            }
            tokio::select! {
                () = topped => {}
                _ = appended.changed() => {}
                _ = self.connection.closed() => return,
                _ = send.stopped() => return,
            }
        }
    }
}
