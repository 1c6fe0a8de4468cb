//! From what the shard has to say to bytes on subscriptions' streams.

use bytes::Bytes;
use pinion_commitlog::LogId;
use pinion_domains::cache::WatchEvent;
use pinion_domains::stream::Delivery;
use pinion_shard::{LateAnswer, MessagesFor, ShardOutput, Subscriber};
use pinion_types::{ErrorCode, Offset, Refusal, SubscriptionId};
use pinion_wire::message::{self, CacheLeased, CacheValue, End, Lag, LagReason, Reply};
use pinion_wire::reply::TakenBuilder;
use pinion_wire::{FrameHeader, opcode};

use crate::core::{Core, answer};
use crate::mail::{ControlMail, CoreMail, Piece, StorageNotice};

/// Bytes of one subscription that may wait for the transport, wherever the
/// connection lives. Larger keeps fast subscribers of a far core busier; it
/// also is what a client that stops reading can pin of the ring's memory.
pub(crate) const WINDOW_BYTES: u32 = 256 << 10;

impl Core {
    /// Ends the turn: what was appended becomes visible and goes out. Call
    /// after all inputs, before [`Core::poll_output`].
    pub fn end_turn(&mut self) {
        self.take_question();
        self.judge_some();
        self.shard.end_turn(self.now);
        while let Some(output) = self.shard.poll_output(self.now, self.wall) {
            self.route(output);
        }
        if self.may_seal() {
            self.shard.seal_logs();
        }
        self.shard.finish_turn(self.now);
    }

    fn route(&mut self, output: ShardOutput) {
        match output {
            ShardOutput::Delivery { to, delivery } => match delivery {
                Delivery::Records { bytes, records, .. } => {
                    self.stats.delivered += u64::from(records);
                    // Whole blocks, encoded once when they were appended and
                    // shared by everyone who gets them.
                    let charge = u32::try_from(bytes.len()).expect("a delivery fits u32");
                    self.send(to, Piece::Frames, bytes, charge);
                }
                Delivery::Lag(lag) => {
                    let notice = message::Delivery::Lag(Lag {
                        reason: LagReason::from_u8(lag.reason as u8)
                            .expect("the domain uses the wire's numbers"),
                        from: lag.from,
                        to: lag.to,
                        count: lag.count,
                    });
                    self.send(to, Piece::Frames, encode(&notice), 0);
                }
                Delivery::End { code, next } => {
                    self.send_end(to, Some(code), next);
                }
            },
            ShardOutput::Watch { to, event } => {
                let charge = event.window_bytes();
                match event {
                    WatchEvent::Change { encoded, .. } => {
                        self.send(to, Piece::Event, encoded, charge);
                    }
                    WatchEvent::Lag(lag) => {
                        let notice = message::Delivery::Lag(Lag {
                            reason: LagReason::WatchBuffer,
                            from: Offset(lag.from.0),
                            to: Offset(lag.to.0),
                            count: lag.count,
                        });
                        self.send(to, Piece::Frames, encode(&notice), charge);
                    }
                }
            }
            // Who has left waits for nothing any more.
            ShardOutput::Wakeup { origin, .. } if self.has_left(origin.session) => {}
            ShardOutput::Wakeup { origin, answer } => match answer {
                LateAnswer::Value {
                    version,
                    ttl_ms,
                    value,
                } => {
                    let reply = Reply::CacheValue(CacheValue {
                        version,
                        ttl_ms,
                        stale: false,
                        value: &value,
                    });
                    self.reply_late(origin, &reply);
                }
                LateAnswer::Lease { token, lease_ms } => {
                    let reply = Reply::CacheLeased(CacheLeased {
                        lease: token,
                        lease_ms,
                    });
                    self.reply_late(origin, &reply);
                }
                LateAnswer::TimedOut => {
                    let refusal = Refusal::new(ErrorCode::TimedOut);
                    self.reply_late(origin, &Reply::Error(refusal));
                }
                LateAnswer::Miss => self.reply_late(origin, &Reply::CacheMiss),
            },
            ShardOutput::Ended { origin, code } => {
                let refusal = Refusal::new(code);
                self.reply_late(origin, &Reply::Error(refusal));
            }
            ShardOutput::Messages {
                to,
                slot,
                lease_ms,
                messages,
            } => {
                match to {
                    // It was withdrawn after they were reserved for it.
                    MessagesFor::Subscription(one) if self.is_withdrawn(one) => {
                        self.shard.give_back(self.now, self.wall, slot, &messages);
                    }
                    to => self.send_messages(to, lease_ms, &messages),
                }
                self.shard.recycle(messages);
            }
            ShardOutput::TakeEnded { origin, refusal } => {
                let mut frame = Vec::new();
                match refusal {
                    Some(refusal) => {
                        answer(&mut frame, origin.correlation, &Reply::Error(refusal));
                    }
                    None => {
                        TakenBuilder::new(&mut frame, origin.correlation, 0).finish();
                    }
                }
                self.answer_late(origin, &frame);
            }
            ShardOutput::QueueEnd { to, code } => self.send_end(to, Some(code), Offset::ZERO),
            ShardOutput::Committed(ticket) => self.answer_committed(ticket),
            ShardOutput::LogFailed { log, error } => {
                self.answer_failed(log);
                self.notice(log, StorageNotice::Failed(error));
            }
            ShardOutput::ReadOnly { log, read_only } => {
                self.notice(log, StorageNotice::ReadOnly(read_only));
            }
            ShardOutput::Damaged { log, damage } => {
                self.stats.damage_found += 1;
                self.notice(log, StorageNotice::Damaged(damage));
            }
            ShardOutput::ReadReturned { slot } => self.retry_fetches(slot),
            ShardOutput::Looked { look, place, body } => self.looked(look, place, body),
        }
    }

    /// Tells the control thread, which tells people.
    fn notice(&mut self, log: LogId, notice: StorageNotice) {
        self.control.push_back(ControlMail::Storage { log, notice });
    }

    /// The last frame of a subscription's stream.
    pub(crate) fn send_end(&mut self, to: Subscriber, code: Option<ErrorCode>, next: Offset) {
        self.send(to, Piece::End, end_frame(code, next), 0);
    }

    /// Sends bytes to a subscription wherever its connection lives.
    pub(crate) fn send(&mut self, to: Subscriber, piece: Piece, chunk: Bytes, charge: u32) {
        if to.session.core == self.config.core {
            self.deliver(to, piece, chunk, charge);
        } else {
            self.post(
                to.session.core,
                CoreMail::Deliver {
                    to,
                    piece,
                    chunk,
                    charge,
                },
            );
        }
    }

    /// Queues bytes for a subscription of a connection that lives here. Bytes
    /// for a former use of the id are dropped.
    pub(crate) fn deliver(&mut self, to: Subscriber, piece: Piece, chunk: Bytes, charge: u32) {
        let conn = to.session.token;
        let id = to.subscription;
        // May end the subscription; then nothing follows its END.
        self.judge_if_behind(conn);
        let Some(connection) = self.connection(conn) else {
            return;
        };
        let Some(subscription) = connection.subscriptions.get(&id) else {
            return;
        };
        if subscription.number != to.number {
            return;
        }
        let chunk = match subscription.withdrawn {
            None => chunk,
            // Where the partition stands is not where to resume: what it gave last may not
            // have gone out.
            Some(code) if piece == Piece::End => end_frame(Some(code), Offset::ZERO),
            Some(_) => return,
        };
        if piece == Piece::Event {
            let head = events_head(chunk.len());
            connection.session.deliver(id, head, 0);
        }
        if connection.session.deliver(id, chunk, charge) {
            let end = piece == Piece::End;
            connection.counts.delivered += u64::from(charge > 0 || end);
            if end && let Some(queue) = connection.session.deliveries(id) {
                queue.end();
            }
            connection.mark_ready(id);
            self.touch(conn);
        }
    }

    /// Whether a subscription of this core's connections may have nothing more, by the newest
    /// table.
    fn is_withdrawn(&mut self, to: Subscriber) -> bool {
        if to.session.core != self.config.core {
            return false;
        }
        self.judge_if_behind(to.session.token);
        self.connection(to.session.token)
            .and_then(|connection| connection.subscriptions.get(&to.subscription))
            .is_some_and(|one| one.number == to.number && one.withdrawn.is_some())
    }

    /// Ends a subscription that has lost its right: nothing goes out to it any more but END
    /// with `code`, whatever is on its way.
    pub(crate) fn revoke_subscription(&mut self, conn: u64, id: SubscriptionId, code: ErrorCode) {
        let Some(connection) = self.connection(conn) else {
            return;
        };
        if let Some(subscription) = connection.subscriptions.get_mut(&id) {
            subscription.withdrawn.get_or_insert(code);
            self.withdraw_subscription(conn, id, code);
        }
    }

    /// Ends a subscription from the side of its connection, which stays: END
    /// with `code` tells the client.
    pub(crate) fn withdraw_subscription(&mut self, conn: u64, id: SubscriptionId, code: ErrorCode) {
        let Some(connection) = self.connection(conn) else {
            return;
        };
        let Some(subscription) = connection.subscriptions.get(&id) else {
            return;
        };
        let (session, owner) = (connection.id, subscription.core);
        if owner == self.config.core {
            if let Some((to, next)) = self.shard.unsubscribe(session, id) {
                self.send_end(to, Some(code), next);
            }
        } else {
            self.post(
                owner,
                CoreMail::Unsubscribe {
                    session,
                    subscription: id,
                    code: Some(code),
                },
            );
        }
    }

    /// The client stopped reading a subscription's stream: the subscription ends.
    pub(crate) fn drop_subscription(&mut self, conn: u64, id: SubscriptionId) {
        let Some(connection) = self.connection(conn) else {
            return;
        };
        connection.session.drop_subscription(id);
        let Some(subscription) = connection.subscriptions.remove(&id) else {
            return;
        };
        let session = connection.id;
        if subscription.core == self.config.core {
            self.shard.unsubscribe(session, id);
        } else if !self.is_draining() {
            self.post(
                subscription.core,
                CoreMail::Unsubscribe {
                    session,
                    subscription: id,
                    code: None,
                },
            );
        }
    }
}

fn end_frame(code: Option<ErrorCode>, next: Offset) -> Bytes {
    encode(&message::Delivery::End(End {
        code: code.map_or(0, |code| code as u16),
        next,
    }))
}

/// EVENTS with one event: the frame's head, then the event as the cache
/// encoded it once for every watch.
fn events_head(event_len: usize) -> Bytes {
    let header = FrameHeader {
        length: u32::try_from(event_len + 2).expect("an event fits a frame"),
        opcode: opcode::EVENTS,
        flags: 0,
        correlation: 0,
    };
    let mut head = Vec::with_capacity(14);
    head.extend_from_slice(&header.encode());
    head.extend_from_slice(&1_u16.to_le_bytes());
    head.into()
}

/// Notices are small and rare beside records: one allocation each.
pub(crate) fn encode(delivery: &message::Delivery<'_>) -> Bytes {
    let mut out = Vec::with_capacity(64);
    delivery
        .encode(&mut out)
        .expect("a notice of the node fits a frame");
    out.into()
}
