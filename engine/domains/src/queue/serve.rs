//! Handing messages out: waiting takes, subscriptions, and which message is
//! next for a group.
//!
//! Next is, the oldest first, what was given back untouched or whose key's turn
//! has come. Then what failed or lost its consumer, as fast as the group's
//! bucket allows, and what nobody has had yet take turns: however much comes
//! back, what is new has every other place. A message whose body is not in
//! memory holds those behind it up until it is.

use bytes::Bytes;
use pinion_types::limits::{CREDIT_BYTES_MAX, CREDIT_RECORDS_MAX};
use pinion_types::{ErrorCode, Monotonic, SessionId, WallMs};

use super::config::{DELIVERY_BYTES_MAX, DELIVERY_MESSAGES_MAX, QueueError, WAIT_MS_MAX};
use super::demand::{ConsumerKey, Gone, Place, PushId, WaiterId, Want};
use super::group::Life;
use super::messages::{Ended, Entry, State};
use super::partition::{QueuePartition, after_ms};
use super::pool::{NIL, Timer};
use super::settle::check_range;
use super::tokens::Token;

/// Messages of others stepped over between two `None`s of
/// [`QueuePartition::poll_delivery`], and in one take. Larger keeps the core
/// for longer in queues with many held back keys.
pub const SCAN_MAX: u32 = 4096;

/// A take that finds its message on the disk, or its group being created,
/// waits at least this long.
const GRACE_MS: u32 = 1000;

/// Requests for messages, once.
#[derive(Clone, Copy, Debug)]
pub struct Take<'a> {
    /// Whose: the messages go back when it ends.
    pub session: SessionId,
    /// Names the take if it has to wait.
    pub waiter: WaiterId,
    /// Consumer group; made if there is none of that name.
    pub group: &'a [u8],
    /// Most messages, at least 1; cut to [`DELIVERY_MESSAGES_MAX`].
    pub max: u32,
    /// Most bytes of records; one message of any size is always given.
    pub max_bytes: u32,
    /// How long to wait for the first.
    pub wait_ms: u32,
    /// How long they are reserved; 0 = the queue's default.
    pub lease_ms: u32,
}

/// A subscription: messages as they become ready, while credit lasts.
#[derive(Clone, Copy, Debug)]
pub struct Subscribe<'a> {
    /// Whose: the messages go back when it ends.
    pub session: SessionId,
    /// Names the subscription.
    pub push: PushId,
    /// Consumer group; made if there is none of that name.
    pub group: &'a [u8],
    /// How long messages are reserved; 0 = the queue's default.
    pub lease_ms: u32,
    /// Most messages it has in flight at a time; 0, and more than the queue
    /// allows a consumer, is the queue's bound.
    pub in_flight_max: u32,
    /// Messages it may be sent. Never exceeded.
    pub credit_records: u32,
    /// Bytes of records it may be sent. The last message may exceed it; the
    /// debt is kept.
    pub credit_bytes: u32,
    /// Bytes its transport takes before any are given back.
    pub window_bytes: u32,
}

/// One message handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Its id in the partition.
    pub id: u64,
    /// Proves the reservation.
    pub token: Token,
    /// 1 on the first attempt.
    pub attempt: u16,
    /// When it was put.
    pub enqueued: WallMs,
    /// Why the attempt before this one failed.
    pub last_error: Option<Bytes>,
    /// Key, headers and value, as [`pinion_types::block`] lays a record out.
    pub record: Bytes,
}

/// What became of a take at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakeOutcome {
    /// The messages are in `out`.
    Taken,
    /// It waits; [`QueuePartition::poll_delivery`] will answer it.
    Waiting,
    /// There is nothing for it and it does not want to wait.
    Empty,
}

/// Something for someone, with its messages in the caller's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// A waiting take has messages.
    Taken(WaiterId),
    /// A waiting take has none and waits no more.
    Nothing(WaiterId, Gone),
    /// A subscription has messages.
    Pushed(PushId),
    /// A subscription is over.
    End(PushId, ErrorCode),
}

/// Why no (more) messages were given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    Enough,
    Empty,
    GroupFull,
    ConsumerFull,
    RateLimited,
    Loading,
    Budget,
}

enum Pick {
    Entry(u32),
    Fresh(u32),
    None(Stop),
}

impl QueuePartition {
    /// Takes messages, or waits for some. They are appended to `out`.
    ///
    /// # Errors
    /// [`QueueError`]; no message was taken. A group it named first may be
    /// there from now on.
    pub fn take(
        &mut self,
        now: Monotonic,
        wall: WallMs,
        take: &Take<'_>,
        out: &mut Vec<Taken>,
    ) -> Result<TakeOutcome, QueueError> {
        self.see(now, wall);
        if self.fenced {
            return Err(QueueError::Fenced);
        }
        check_range(u64::from(take.wait_ms), u64::from(WAIT_MS_MAX))?;
        if self.names.waiters.contains_key(&take.waiter) {
            return Err(QueueError::DuplicateId);
        }
        let lease_ms = self.lease(take.lease_ms)?;
        let group = self.group_for(take.group)?;
        let consumer = self.consumer(ConsumerKey {
            session: take.session,
            push: None,
            group,
        })?;
        let max = take.max.clamp(1, DELIVERY_MESSAGES_MAX);
        let row = self.t.group(group);
        let mut wait_ms = take.wait_ms;
        if row.life == Life::Creating {
            wait_ms = wait_ms.max(GRACE_MS);
        } else if row.hungry.is_empty() {
            let mut scan = SCAN_MAX;
            let (stop, taken) = self.serve(
                group,
                consumer,
                max,
                take.max_bytes,
                lease_ms,
                &mut scan,
                out,
            );
            if taken > 0 {
                return Ok(TakeOutcome::Taken);
            }
            if matches!(stop, Stop::Loading | Stop::Budget) {
                wait_ms = wait_ms.max(GRACE_MS);
            }
        } else if row.active {
            // Others came first and are about to be served; its turn comes in
            // this turn, whether it wants to wait or not.
            wait_ms = wait_ms.max(1);
        }
        if wait_ms == 0 {
            return Ok(TakeOutcome::Empty);
        }
        self.check_waiters()?;
        let want = Want::Waiter {
            id: take.waiter,
            max,
            max_bytes: take.max_bytes,
        };
        let demand = self.demand(want, consumer, lease_ms);
        self.names.waiters.insert(take.waiter, demand);
        self.arm(Timer::Demand(demand), after_ms(now, u64::from(wait_ms)));
        self.settle_demand(demand);
        Ok(TakeOutcome::Waiting)
    }

    /// Forgets a waiting take without an answer. False if it does not wait.
    pub fn cancel(&mut self, waiter: WaiterId) -> bool {
        let Some(demand) = self.names.waiters.get(&waiter).copied() else {
            let told = self.names.timed_out.len();
            self.names.timed_out.retain(|(id, ..)| *id != waiter);
            return self.names.timed_out.len() < told;
        };
        self.remove_demand(demand);
        true
    }

    /// Adds a subscription.
    ///
    /// # Errors
    /// [`QueueError`]; there is no subscription. A group it named first may be
    /// there from now on.
    pub fn subscribe(
        &mut self,
        now: Monotonic,
        wall: WallMs,
        subscribe: &Subscribe<'_>,
    ) -> Result<(), QueueError> {
        self.see(now, wall);
        if self.fenced {
            return Err(QueueError::Fenced);
        }
        let ending = self.names.ended.iter().any(|e| e.0 == subscribe.push);
        if ending || self.names.pushes.contains_key(&subscribe.push) {
            return Err(QueueError::DuplicateId);
        }
        let lease_ms = self.lease(subscribe.lease_ms)?;
        self.check_waiters()?;
        let group = self.group_for(subscribe.group)?;
        let consumer = self.consumer(ConsumerKey {
            session: subscribe.session,
            push: Some(subscribe.push),
            group,
        })?;
        self.consumers[consumer].in_flight_max = subscribe.in_flight_max;
        let want = Want::Push {
            id: subscribe.push,
            credit_records: subscribe.credit_records.min(CREDIT_RECORDS_MAX),
            credit_bytes: i64::from(subscribe.credit_bytes.min(CREDIT_BYTES_MAX)),
            window: i64::from(subscribe.window_bytes),
        };
        let demand = self.demand(want, consumer, lease_ms);
        self.names.pushes.insert(subscribe.push, demand);
        self.settle_demand(demand);
        Ok(())
    }

    /// Ends a subscription. What it has reserved stays so, to be acknowledged
    /// or to run out. False if it is not known.
    pub fn unsubscribe(&mut self, push: PushId) -> bool {
        let Some(demand) = self.names.pushes.get(&push).copied() else {
            // Over already: nobody is left to be told, and its name may be
            // somebody else's soon.
            self.names.ended.retain(|(id, ..)| *id != push);
            return false;
        };
        let consumer = self.t.demands[demand].consumer;
        self.remove_demand(demand);
        self.drop_if_idle(consumer);
        true
    }

    /// Grants a subscription more; what would exceed the limits of credit is
    /// cut off. False if it is not known.
    pub fn credit(&mut self, push: PushId, records: u32, bytes: u32) -> bool {
        self.allow(push, |r, b, _| {
            *r = r.saturating_add(records).min(CREDIT_RECORDS_MAX);
            *b = (*b + i64::from(bytes)).min(i64::from(CREDIT_BYTES_MAX));
        })
    }

    /// The transport gives back `bytes` of what it was handed. False if the
    /// subscription is not known.
    pub fn window(&mut self, push: PushId, bytes: u64) -> bool {
        self.allow(push, |_, _, window| {
            *window = window.saturating_add(i64::try_from(bytes).unwrap_or(i64::MAX));
        })
    }

    fn allow(&mut self, push: PushId, add: impl FnOnce(&mut u32, &mut i64, &mut i64)) -> bool {
        let Some(demand) = self.names.pushes.get(&push).copied() else {
            return false;
        };
        let row = &mut self.t.demands[demand];
        if let Want::Push {
            credit_records,
            credit_bytes,
            window,
            ..
        } = &mut row.want
        {
            add(credit_records, credit_bytes, window);
        }
        if row.place == Place::Starved {
            self.settle_demand(demand);
        }
        true
    }

    /// The next thing for anyone, in turns among groups and among those who
    /// wait in one; messages are appended to `out`. `None` says there is
    /// nothing, or, with [`QueuePartition::has_work`], that there is more in
    /// the next turn.
    pub fn poll_delivery(
        &mut self,
        now: Monotonic,
        wall: WallMs,
        out: &mut Vec<Taken>,
    ) -> Option<Delivery> {
        self.see(now, wall);
        if let Some((waiter, gone, _)) = self.names.timed_out.pop_front() {
            return Some(Delivery::Nothing(waiter, gone));
        }
        if let Some((push, code, _)) = self.names.ended.pop_front() {
            return Some(Delivery::End(push, code));
        }
        let mut scan = SCAN_MAX;
        while let Some(group) = self.active.front().copied() {
            let demand = self.t.group(group).hungry.head;
            if demand == NIL {
                self.rest(group);
                continue;
            }
            let row = &self.t.demands[demand];
            let (want, consumer, lease_ms) = (row.want, row.consumer, row.lease_ms);
            let (max, max_bytes) = match want {
                Want::Waiter { max, max_bytes, .. } => (max, max_bytes),
                Want::Push {
                    credit_records,
                    credit_bytes,
                    window,
                    ..
                } => {
                    let bytes = u32::try_from(credit_bytes.min(window)).unwrap_or(u32::MAX);
                    (
                        credit_records.min(DELIVERY_MESSAGES_MAX),
                        bytes.min(DELIVERY_BYTES_MAX),
                    )
                }
            };
            let before = out.len();
            let (stop, taken) =
                self.serve(group, consumer, max, max_bytes, lease_ms, &mut scan, out);
            if taken > 0 {
                self.active.rotate_left(1);
                return Some(self.served_demand(demand, want, &out[before..]));
            }
            match stop {
                Stop::ConsumerFull => self.block(group, demand, consumer),
                Stop::Budget => return None,
                _ => self.rest(group),
            }
        }
        None
    }

    /// Whether [`QueuePartition::poll_delivery`] may have more to give now.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.active.is_empty() || !self.names.timed_out.is_empty() || !self.names.ended.is_empty()
    }

    fn rest(&mut self, group: u8) {
        self.active.pop_front();
        self.t.group_mut(group).active = false;
    }

    fn served_demand(&mut self, demand: u32, want: Want, taken: &[Taken]) -> Delivery {
        match want {
            Want::Waiter { id, .. } => {
                self.remove_demand(demand);
                Delivery::Taken(id)
            }
            Want::Push { id, .. } => {
                let bytes: usize = taken.iter().map(|one| one.record.len()).sum();
                let bytes = i64::try_from(bytes).expect("a delivery fits i64");
                let records = u32::try_from(taken.len()).expect("bounded by the credit");
                if let Want::Push {
                    credit_records,
                    credit_bytes,
                    window,
                    ..
                } = &mut self.t.demands[demand].want
                {
                    *credit_records -= records;
                    *credit_bytes -= bytes;
                    *window -= bytes;
                }
                self.unplace(demand);
                self.settle_demand(demand);
                Delivery::Pushed(id)
            }
        }
    }

    // ----------------------------------------------------------------- picking

    #[allow(clippy::too_many_arguments)] // one call's worth of a take's fields
    fn serve(
        &mut self,
        group: u8,
        consumer: u32,
        max: u32,
        max_bytes: u32,
        lease_ms: u32,
        scan: &mut u32,
        out: &mut Vec<Taken>,
    ) -> (Stop, u32) {
        let (mut taken, mut bytes) = (0, 0_u64);
        let may_hold = self.may_hold(consumer);
        let stop = loop {
            if taken == max {
                break Stop::Enough;
            }
            let row = self.t.group(group);
            if row.in_flight + row.settling >= self.config.max_in_flight {
                break Stop::GroupFull;
            }
            if self.consumers[consumer].reservations.len >= may_hold {
                break Stop::ConsumerFull;
            }
            let pick = self.pick(group, scan);
            let message = match pick {
                Pick::Entry(entry) => self.t.entries[entry].message,
                Pick::Fresh(message) => message,
                Pick::None(stop) => break stop,
            };
            let row = &self.t.messages[message];
            if self.t.records[row.record].body.is_none() {
                self.want_body(message);
                self.t.group_mut(group).loading = true;
                break Stop::Loading;
            }
            bytes += u64::from(row.len);
            if taken > 0 && bytes > u64::from(max_bytes) {
                break Stop::Enough;
            }
            let entry = match pick {
                Pick::Entry(entry) => entry,
                _ => self.begin_fresh(message, group),
            };
            let one = self.reserve(entry, consumer, lease_ms);
            out.push(one);
            taken += 1;
        };
        if taken > 0 {
            let clock = self.clock;
            let row = self.t.group_mut(group);
            row.progress = clock;
            row.stuck_told = false;
            row.loading = false;
        }
        (stop, taken)
    }

    fn pick(&mut self, group: u8, scan: &mut u32) -> Pick {
        loop {
            if *scan == 0 {
                return Pick::None(Stop::Budget);
            }
            let row = self.t.group(group);
            if let Some((_, entry)) = row.front.first_key_value() {
                let entry = *entry;
                if self.expired_entry(entry, scan) {
                    continue;
                }
                return Pick::Entry(entry);
            }
            let (returned, none) = self.next_returned(group);
            if let Some(entry) = returned
                && !self.t.group(group).fresh_next
            {
                if self.expired_entry(entry, scan) {
                    continue;
                }
                return Pick::Entry(entry);
            }
            let row = self.t.group(group);
            let message = match row.after {
                NIL => self.ready.head,
                after => self.t.messages[after].link.next,
            };
            if message == NIL {
                let Some(entry) = returned else {
                    return Pick::None(none);
                };
                if self.expired_entry(entry, scan) {
                    continue;
                }
                return Pick::Entry(entry);
            }
            if self.steps_over(message, group) {
                *scan -= 1;
                self.t.group_mut(group).after = message;
                continue;
            }
            return Pick::Fresh(message);
        }
    }

    /// What comes again next, if the group's bucket allows it now; otherwise
    /// why there is none.
    fn next_returned(&mut self, group: u8) -> (Option<u32>, Stop) {
        let row = self.t.group(group);
        let Some((_, entry)) = row.returned.first_key_value() else {
            return (None, Stop::Empty);
        };
        let entry = *entry;
        let (rate, burst) = (self.config.redelivery_per_sec, self.config.redelivery_burst);
        let next = row.bucket.next(rate, burst);
        if next <= self.clock {
            return (Some(entry), Stop::Empty);
        }
        self.arm(Timer::Refill(group), next);
        (None, Stop::RateLimited)
    }

    /// Whether the next message of the ready order is none for the group, or
    /// not now; it is dealt with in that case.
    fn steps_over(&mut self, message: u32, group: u8) -> bool {
        let row = &self.t.messages[message];
        if row.touched & (1 << group) != 0 {
            return true;
        }
        if self.t.records[row.record].expires <= self.clock {
            self.expire_in(message, group);
            return true;
        }
        let key = row.key;
        if self.config.ordered_by_key && key != 0 && self.t.group(group).keys.contains_key(&key) {
            let entry = self.new_entry(message, group);
            let turn = self.claim_key(entry);
            assert!(!turn, "a key that has an owner gives no turn");
            return true;
        }
        false
    }

    fn expired_entry(&mut self, entry: u32, scan: &mut u32) -> bool {
        let row = &self.t.entries[entry];
        let record = self.t.messages[row.message].record;
        if self.t.records[record].expires > self.clock || is_replayed(row) {
            return false;
        }
        *scan -= 1;
        self.expire_in(row.message, row.group);
        true
    }

    fn begin_fresh(&mut self, message: u32, group: u8) -> u32 {
        let entry = self.new_entry(message, group);
        let turn = self.claim_key(entry);
        assert!(turn, "a fresh message whose key has an owner is parked");
        let row = self.t.group_mut(group);
        row.after = message;
        row.fresh_next = false;
        entry
    }

    fn reserve(&mut self, entry: u32, consumer: u32, lease_ms: u32) -> Taken {
        if self.t.entries[entry].state == State::Returned {
            let rate = self.config.redelivery_per_sec;
            let clock = self.clock;
            let group = self.t.entries[entry].group;
            let row = self.t.group_mut(group);
            row.bucket.take(clock, rate);
            row.fresh_next = true;
        }
        self.detach(entry);
        let clock = self.clock;
        let row = &mut self.t.entries[entry];
        row.state = State::InFlight;
        row.ended = Ended::No;
        row.at = clock;
        row.consumer = consumer;
        row.generation = row.generation.wrapping_add(1);
        let (message, group, generation) = (row.message, row.group, row.generation);
        let attempt = row.attempts.saturating_add(1);
        let last_error = row.error().cloned();
        self.consumers[consumer]
            .reservations
            .push_back(&mut self.t.entries, entry);
        self.arm(Timer::Entry(entry), after_ms(clock, u64::from(lease_ms)));
        let row = self.t.group_mut(group);
        row.in_flight += 1;
        row.counters.delivered += 1;
        row.counters.redelivered += u64::from(attempt > 1);
        let token = Token::sign(&self.secret, entry, generation);
        let row = &self.t.messages[message];
        let (id, pos, len, record) = (row.id, row.pos as usize, row.len as usize, row.record);
        let put = &self.t.records[record];
        let enqueued = put.timestamp;
        let body = put.body.as_ref().expect("only what is resident is served");
        let bytes = body.slice(pos..pos + len);
        self.served(record);
        Taken {
            id,
            token,
            attempt,
            enqueued,
            last_error,
            record: bytes,
        }
    }
}

pub(super) fn is_replayed(entry: &Entry) -> bool {
    entry.trouble.as_ref().is_some_and(|t| t.replayed)
}
