//! One partition of a queue: what it holds, what is put, and the changes on
//! their way to the log and back.

use std::collections::VecDeque;

use bytes::Bytes;
use pinion_commitlog::Location;
use pinion_types::block;
use pinion_types::wheel::Wheel;
use pinion_types::{Monotonic, ProducerId, Sequence, WallMs};
use siphasher::sip::SipHasher13;

use crate::op::Op;

use super::bodies::Bodies;
use super::config::{Bound, QueueConfig, QueueError, TIME_MS_MAX};
use super::demand::{Consumer, Names};
use super::group::GroupCounters;
use super::messages::{DeadReason, Ended, Index, NEVER, State};
use super::ops::{self, Head, Item, PutExt};
use super::pool::{List, Pool, Tables, Timer};
use super::producers::Producers;
use super::redrive::RedriveState;
use super::tokens::DoneAcks;

/// Number of an op of this partition, dense from 1 since it was opened. What a
/// request promised holds once [`QueuePartition::committed`] has reached the
/// number its answer names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpNumber(pub u64);

/// One put: a batch of messages with the same delay and time to live.
#[derive(Clone, Debug)]
pub struct Put {
    /// Messages in `records`.
    pub count: u32,
    /// Encoded as [`pinion_types::block`] lays records out. Checked here and
    /// kept as it is, so it should not be a small part of a large buffer.
    pub records: Bytes,
    /// Not delivered before this long after the put.
    pub delay_ms: u64,
    /// Expires this long after the put; 0 = the queue's default.
    pub ttl_ms: u64,
    /// Of an idempotent producer: who, and the sequence of the first message.
    pub producer: Option<(ProducerId, Sequence)>,
}

/// A put is taken; it holds once the op is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PutDone {
    /// Id of its first message; the others follow without a gap.
    pub first: u64,
    /// Messages.
    pub count: u32,
    /// It repeats an earlier put and was not stored again.
    pub duplicate: bool,
    /// Acknowledge when this op is committed.
    pub done_at: OpNumber,
}

#[derive(Debug)]
pub(super) struct PutEffect {
    pub(super) first: u64,
    pub(super) count: u32,
    pub(super) timestamp: WallMs,
    pub(super) delay_ms: u64,
    pub(super) ttl_ms: u64,
    pub(super) due: Monotonic,
    pub(super) expires: Monotonic,
    pub(super) producer: Option<(u64, u64)>,
    pub(super) location: Option<Location>,
    pub(super) body: Bytes,
}

/// One message of an effect about several.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settled {
    pub(super) entry: u32,
    pub(super) attempts: u16,
    pub(super) delay_ms: u64,
    pub(super) tag: u64,
}

/// What all messages of an effect have in common.
#[derive(Clone, Debug)]
pub(super) struct Verdict {
    pub(super) kind: u8,
    pub(super) group: u8,
    pub(super) reason: Option<DeadReason>,
    pub(super) error: Bytes,
    pub(super) timestamp: WallMs,
}

impl Verdict {
    /// Whether messages of both may share an op.
    fn is_like(&self, other: &Self) -> bool {
        self.kind == other.kind
            && self.group == other.group
            && self.reason == other.reason
            && self.timestamp == other.timestamp
            && same_bytes(&self.error, &other.error)
    }
}

/// A change that waits to be durable.
#[derive(Debug)]
pub(super) enum Effect {
    Put(PutEffect),
    Settle(Verdict, Vec<Settled>),
    /// Expired without any group to say so to.
    DropMessage(u64, WallMs),
    /// With the id the group begins with, unless that is the oldest.
    GroupCreate(u8, WallMs, Option<u64>),
    GroupDelete(u8, WallMs),
    /// Where the redrive of a group is.
    Redrive(u8, WallMs, Box<RedriveState>),
}

/// One partition of a queue. Owned by one core for its whole life.
///
/// A turn: any number of requests; [`QueuePartition::poll_op`] until `None`,
/// each op appended to the log (or, for an ephemeral queue, committed at
/// once); [`QueuePartition::commit_next`] for each op the log has made
/// durable; then [`QueuePartition::poll_delivery`] until it gives `None`.
#[derive(Debug)]
pub struct QueuePartition {
    pub(super) config: QueueConfig,
    pub(super) t: Tables,
    /// Made when the first timer is armed; an idle queue has none.
    pub(super) wheel: Option<Box<Wheel>>,
    pub(super) index: Index,
    /// Messages in the order in which they became ready.
    pub(super) ready: List,
    /// Messages that wait for the delay of their put.
    pub(super) delayed: u32,
    pub(super) consumers: Pool<Consumer>,
    pub(super) names: Names,
    /// Groups that may have something for someone.
    pub(super) active: VecDeque<u8>,
    pub(super) bodies: Bodies,
    pub(super) producers: Producers,
    pub(super) done_acks: DoneAcks,
    pub(super) secret: SipHasher13,
    pub(super) rng: u64,
    /// Id of the next put's first message.
    pub(super) next_id: u64,
    /// The same, of what is committed.
    pub(super) committed_id: u64,
    /// Bytes of committed messages, and of those on their way.
    pub(super) bytes: u64,
    pub(super) pending_bytes: u64,
    pub(super) pending_messages: u32,
    pub(super) dead: u32,
    /// Groups that exist for the log: open or closing.
    pub(super) group_mask: u64,
    /// Not polled yet.
    pub(super) queued: VecDeque<Effect>,
    polled: VecDeque<Effect>,
    /// Effects of `polled` before this one have their location.
    located: usize,
    numbered: u64,
    committed: u64,
    spare: Vec<Vec<Settled>>,
    /// The latest time seen.
    pub(super) clock: Monotonic,
    pub(super) wall: WallMs,
    /// Replay is over; timers and keys are live.
    pub(super) started: bool,
    pub(super) fenced: bool,
    pub(super) read_only: bool,
    pub(super) stuck: VecDeque<u8>,
    /// What groups that were deleted had counted: the partition has counted it all the same.
    pub(super) gone: GroupCounters,
}

/// Vectors of settled messages kept for reuse.
const SPARE_MAX: usize = 16;

impl QueuePartition {
    /// An empty partition, at work at once. For one whose log has records, use
    /// [`QueuePartition::restore`] or [`QueuePartition::unopened`].
    #[must_use]
    pub fn new(config: QueueConfig, now: Monotonic, wall: WallMs) -> Self {
        let mut queue = Self::unopened(config);
        queue.ready(now, wall);
        queue
    }

    /// An empty partition into which a log will be replayed.
    #[must_use]
    pub fn unopened(config: QueueConfig) -> Self {
        Self {
            config,
            t: Tables {
                messages: Pool::new(),
                entries: Pool::new(),
                demands: Pool::new(),
                records: Pool::new(),
                groups: Vec::new(),
            },
            wheel: None,
            index: Index::default(),
            ready: List::EMPTY,
            delayed: 0,
            consumers: Pool::new(),
            names: Names::default(),
            active: VecDeque::new(),
            bodies: Bodies::new(),
            producers: Producers::default(),
            done_acks: DoneAcks::default(),
            secret: SipHasher13::new(),
            rng: 0,
            next_id: 0,
            committed_id: 0,
            bytes: 0,
            pending_bytes: 0,
            pending_messages: 0,
            dead: 0,
            group_mask: 0,
            queued: VecDeque::new(),
            polled: VecDeque::new(),
            located: 0,
            numbered: 0,
            committed: 0,
            spare: Vec::new(),
            clock: Monotonic::ZERO,
            wall: WallMs(0),
            started: false,
            fenced: false,
            read_only: false,
            stuck: VecDeque::new(),
            gone: GroupCounters::default(),
        }
    }

    /// Takes a batch of messages. They are seen by consumers, and the put may
    /// be acknowledged, once its op is committed.
    ///
    /// # Errors
    /// [`QueueError`]; nothing has changed.
    pub fn put(&mut self, now: Monotonic, wall: WallMs, put: Put) -> Result<PutDone, QueueError> {
        self.see(now, wall);
        if self.fenced {
            return Err(QueueError::Fenced);
        }
        self.check_put(&put)?;
        let producer = put.producer.map(|(id, sequence)| (id.0, sequence.0));
        if let Some((id, sequence)) = producer
            && let Some(first) = self.producers.check(id, sequence, put.count)?
        {
            let durable = first < self.committed_id;
            return Ok(PutDone {
                first,
                count: put.count,
                duplicate: true,
                done_at: OpNumber(if durable { 0 } else { self.numbered }),
            });
        }
        self.check_room(&put)?;
        let first = self.next_id;
        self.next_id += u64::from(put.count);
        self.pending_messages += put.count;
        self.pending_bytes += put.records.len() as u64;
        if let Some((id, sequence)) = producer {
            let max = self.config.producers_max;
            let committed = self.committed_id;
            self.producers
                .record(id, sequence, put.count, first, committed, max);
        }
        let ttl_ms = match put.ttl_ms {
            0 => self.config.ttl_ms,
            ttl => ttl,
        };
        self.queue(Effect::Put(PutEffect {
            first,
            count: put.count,
            timestamp: wall,
            delay_ms: put.delay_ms,
            ttl_ms,
            due: after_ms(now, put.delay_ms),
            expires: match ttl_ms {
                0 => NEVER,
                ttl => after_ms(now, ttl),
            },
            producer,
            location: None,
            body: put.records,
        }));
        Ok(PutDone {
            first,
            count: put.count,
            duplicate: false,
            done_at: OpNumber(self.numbered),
        })
    }

    fn check_put(&self, put: &Put) -> Result<(), QueueError> {
        block::check_records(&put.records, put.count)?;
        let limit = self.config.max_record_bytes;
        if put.records.len() > limit as usize + 4 {
            for (_, len, _) in ops::spans(&put.records) {
                if len > limit.saturating_add(4) {
                    return Err(QueueError::RecordTooLarge {
                        len: u64::from(len) - 4,
                        limit,
                    });
                }
            }
        }
        let actual = put.delay_ms.max(put.ttl_ms);
        if actual > TIME_MS_MAX {
            return Err(QueueError::OutOfRange {
                actual,
                limit: TIME_MS_MAX,
            });
        }
        Ok(())
    }

    fn check_room(&self, put: &Put) -> Result<(), QueueError> {
        let full = |bound, limit| Err(QueueError::Full { bound, limit });
        let messages = u64::from(self.t.messages.len()) + u64::from(self.pending_messages);
        let limit = u64::from(self.config.messages_max);
        if messages + u64::from(put.count) > limit {
            return full(Bound::Messages, limit);
        }
        let bytes = self.bytes + self.pending_bytes + put.records.len() as u64;
        if bytes > self.config.bytes_max {
            return full(Bound::Bytes, self.config.bytes_max);
        }
        if self.dead >= self.config.dead_max {
            return full(Bound::Dead, u64::from(self.config.dead_max));
        }
        Ok(())
    }

    /// The next change to be appended to the log, in order. An ephemeral queue's
    /// ops carry nothing and are committed right away by the caller.
    pub fn poll_op(&mut self) -> Option<Op> {
        let effect = self.queued.pop_front()?;
        let op = if self.config.durable {
            self.encode(&effect)
        } else {
            Op {
                kind: kind_of(&effect),
                first: 0,
                count: 0,
                timestamp: WallMs(0),
                ext: Vec::new(),
                body: Bytes::new(),
                retain: false,
                essential: true,
                more: false,
            }
        };
        self.polled.push_back(effect);
        Some(op)
    }

    /// The op polled longest ago that retains its body and has no place yet
    /// lies at `at` now.
    ///
    /// # Panics
    /// When there is none.
    pub fn op_appended(&mut self, at: Location) {
        while let Some(effect) = self.polled.get_mut(self.located) {
            self.located += 1;
            if let Effect::Put(put) = effect {
                put.location = Some(at);
                return;
            }
        }
        panic!("a place was told for an op that retains nothing");
    }

    /// The oldest op polled and not committed is durable: it shows now.
    ///
    /// # Panics
    /// When there is none: the log and the partition disagree about the order.
    pub fn commit_next(&mut self) {
        let effect = self.polled.pop_front().expect("a polled op is committed");
        self.located = self.located.saturating_sub(1);
        self.committed += 1;
        match effect {
            Effect::Put(put) => {
                self.pending_messages -= put.count;
                self.pending_bytes -= put.body.len() as u64;
                self.apply_put(put);
            }
            Effect::Settle(verdict, mut settled) => {
                for one in settled.drain(..) {
                    let entry = &self.t.entries[one.entry];
                    let (message, due) = (entry.message, entry.at);
                    if verdict.kind == ops::ACK {
                        let max = self.config.done_acks_max;
                        self.done_acks.insert(self.clock, one.tag, max);
                        self.t.group_mut(verdict.group).counters.acked += 1;
                    }
                    self.apply(
                        &verdict,
                        message,
                        Item {
                            id: 0,
                            attempts: one.attempts,
                            delay_ms: one.delay_ms,
                            tag: one.tag,
                        },
                        due,
                    );
                }
                if self.spare.len() < SPARE_MAX {
                    self.spare.push(settled);
                }
            }
            Effect::DropMessage(id, _) => self.apply_drop(id),
            Effect::GroupCreate(group, _, from) => self.apply_group_create(group, from),
            Effect::GroupDelete(group, _) => self.apply_group_delete(group),
            Effect::Redrive(group, _, state) => self.apply_redrive(group, state),
        }
    }

    /// The last op that was committed.
    #[must_use]
    pub const fn committed(&self) -> OpNumber {
        OpNumber(self.committed)
    }

    /// The last op there is.
    #[must_use]
    pub const fn numbered(&self) -> OpNumber {
        OpNumber(self.numbered)
    }

    /// Whether ops wait to be polled.
    #[must_use]
    pub fn has_ops(&self) -> bool {
        !self.queued.is_empty()
    }

    /// Refuses everything from now on: data is damaged or a write has failed.
    /// Waiters and subscriptions are told so.
    pub fn fence(&mut self) {
        self.fenced = true;
        self.end_all_demands();
    }

    /// Whether it was fenced.
    #[must_use]
    pub const fn is_fenced(&self) -> bool {
        self.fenced
    }

    /// The log takes no puts (disk full); only for [`QueuePartition::why`].
    pub fn set_read_only(&mut self, read_only: bool) {
        self.read_only = read_only;
    }

    /// Changes the policies of a queue at work. `durable` and `seed` stay.
    pub fn set_config(&mut self, config: QueueConfig) {
        self.config = QueueConfig {
            durable: self.config.durable,
            seed: self.config.seed,
            ..config
        };
        self.unblock_all();
        self.kick_all();
    }

    /// The policies at work.
    #[must_use]
    pub const fn config(&self) -> &QueueConfig {
        &self.config
    }

    // ---------------------------------------------------------------- queueing

    pub(super) fn see(&mut self, now: Monotonic, wall: WallMs) {
        self.clock = self.clock.max(now);
        self.wall = wall;
    }

    pub(super) fn queue(&mut self, effect: Effect) {
        self.numbered += 1;
        self.queued.push_back(effect);
    }

    /// Takes an entry from whatever state it is in and lets nobody have it
    /// until the op about it is committed. Ops of one kind, group and text that
    /// were not polled yet are one op.
    pub(super) fn settle(&mut self, verdict: Verdict, ended: Ended, settled: Settled) {
        let (group, entry) = (verdict.group, settled.entry);
        self.detach(entry);
        let row = &mut self.t.entries[entry];
        row.state = State::Settling;
        row.ended = ended;
        self.t.group_mut(group).settling += 1;
        if let Some(Effect::Settle(last, list)) = self.queued.back_mut()
            && list.len() < super::BATCH_MAX
            && last.is_like(&verdict)
        {
            list.push(settled);
            return;
        }
        let mut list = self.spare.pop().unwrap_or_default();
        list.push(settled);
        self.queue(Effect::Settle(verdict, list));
    }

    fn encode(&self, effect: &Effect) -> Op {
        let op = |kind, timestamp, ext| Op {
            kind,
            first: 0,
            count: 0,
            timestamp,
            ext,
            body: Bytes::new(),
            retain: false,
            essential: !matches!(kind, ops::GROUP_CREATE | ops::GROUP_LATEST),
            more: false,
        };
        match effect {
            Effect::Put(put) => Op {
                first: put.first,
                count: put.count,
                body: put.body.clone(),
                retain: true,
                essential: false,
                ..op(
                    ops::PUT,
                    put.timestamp,
                    PutExt {
                        delay_ms: put.delay_ms,
                        ttl_ms: put.ttl_ms,
                        producer: put.producer,
                    }
                    .encode(),
                )
            },
            Effect::Settle(verdict, settled) => {
                let head = Head {
                    kind: verdict.kind,
                    group: verdict.group,
                    reason: verdict.reason,
                    error: &verdict.error,
                };
                let items = settled.iter().map(|one| Item {
                    id: self.id_of(one.entry),
                    attempts: one.attempts,
                    delay_ms: one.delay_ms,
                    tag: one.tag,
                });
                op(verdict.kind, verdict.timestamp, ops::encode(&head, items))
            }
            Effect::DropMessage(id, timestamp) => {
                let head = Head {
                    kind: ops::DROP,
                    group: ops::ALL_GROUPS,
                    reason: None,
                    error: b"",
                };
                let item = Item {
                    id: *id,
                    ..Item::default()
                };
                op(
                    ops::DROP,
                    *timestamp,
                    ops::encode(&head, [item].into_iter()),
                )
            }
            Effect::GroupCreate(group, timestamp, from) => {
                let mut ext = vec![*group];
                if let Some(from) = from {
                    ext.extend_from_slice(&from.to_le_bytes());
                }
                ext.extend_from_slice(&self.t.group(*group).name);
                op(kind_of(effect), *timestamp, ext)
            }
            Effect::GroupDelete(group, timestamp) => {
                op(ops::GROUP_DELETE, *timestamp, vec![*group])
            }
            Effect::Redrive(group, timestamp, state) => {
                let mut ext = vec![*group];
                state.encode(&mut ext);
                op(ops::REDRIVE, *timestamp, ext)
            }
        }
    }

    pub(super) fn id_of(&self, entry: u32) -> u64 {
        self.t.messages[self.t.entries[entry].message].id
    }

    // ------------------------------------------------------------------ timers

    pub(super) fn arm(&mut self, timer: Timer, deadline: Monotonic) {
        if deadline == NEVER {
            return;
        }
        let wheel = self.wheel.get_or_insert_with(|| Box::new(Wheel::new()));
        wheel.cancel(&mut self.t, timer.index());
        wheel.insert(&mut self.t, timer.index(), deadline);
    }

    pub(super) fn disarm(&mut self, timer: Timer) {
        if let Some(wheel) = &mut self.wheel {
            wheel.cancel(&mut self.t, timer.index());
        }
    }
}

/// Equality that asks no `memcmp` about nothing: comparing no bytes at the
/// dangling pointer of an empty slice costs glibc's vector code a fault assist
/// of about 100 ns.
pub(super) fn same_bytes(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && (a.is_empty() || a == b)
}

/// Numbers of the set bits.
pub(super) fn bits(mut mask: u64) -> impl Iterator<Item = u8> {
    core::iter::from_fn(move || {
        if mask == 0 {
            return None;
        }
        #[allow(clippy::cast_possible_truncation)] // below 64
        let bit = mask.trailing_zeros() as u8;
        mask &= mask - 1;
        Some(bit)
    })
}

pub(super) fn after_ms(now: Monotonic, ms: u64) -> Monotonic {
    now + core::time::Duration::from_millis(ms)
}

const fn kind_of(effect: &Effect) -> u8 {
    match effect {
        Effect::Put(_) => ops::PUT,
        Effect::Settle(verdict, _) => verdict.kind,
        Effect::DropMessage(..) => ops::DROP,
        Effect::GroupCreate(_, _, None) => ops::GROUP_CREATE,
        Effect::GroupCreate(_, _, Some(_)) => ops::GROUP_LATEST,
        Effect::GroupDelete(..) => ops::GROUP_DELETE,
        Effect::Redrive(..) => ops::REDRIVE,
    }
}
