//! Consumers of queues, which do all a consumer can do.

use std::collections::{BTreeMap, VecDeque};

use pinion_simkit::SimRng;
use pinion_types::{Outcome, SubscriptionId};
use pinion_wire::message::{
    Credit, GroupAction, QueueAck, QueueExtend, QueueGroup, QueueMessages, QueueNack, QueueRelease,
    QueueSubscribe, QueueTake, Reply, Request, Token, TokenList,
};

use super::super::client::{Client, Message};
use super::super::truth::{GroupName, Moment, PlayerId, Reservation, Truth};
use super::{Place, Time, disk, value_in};
use crate::Violation;

/// Messages a worker holds.
const HELD_MAX: usize = 12;
/// Reservations end this much earlier for the oracle than for the client: the
/// client counts from when it heard of them.
const LEASE_SLACK: u64 = 2_000_000_000;
/// A queue that gave nothing for so long has nothing: delays and backoffs are
/// shorter.
const DRY_AFTER: u64 = 60_000_000_000;

#[derive(Clone, Debug)]
struct Held {
    id: u64,
    token: Token,
    attempt: u16,
}

#[derive(Debug)]
enum Settling {
    Ack(Vec<Held>),
    Nack(Vec<Held>),
    /// With the time at which it was asked.
    Extend(Vec<Held>, u64),
    Other,
}
/// Takes messages and does all a consumer can do with them.
#[derive(Debug, Default)]
pub(crate) struct Worker {
    /// Is given messages instead of asking for them.
    pushed: bool,
    /// At the end: takes and acknowledges everything.
    sweeping: bool,
    group: GroupName,
    /// Asks for its group to be made before it takes anything.
    makes_group: bool,
    making: Option<u32>,
    lease_ms: u32,
    held: VecDeque<Held>,
    takes: BTreeMap<u32, u64>,
    settling: BTreeMap<u32, Settling>,
    subscribed: bool,
    retired: bool,
    /// When a take last gave something, and last gave nothing.
    some_at: u64,
    none_at: u64,
}

impl Worker {
    pub(crate) fn new(rng: &mut SimRng, group: GroupName) -> Self {
        Self {
            group,
            makes_group: rng.coin(),
            pushed: rng.one_in(3),
            lease_ms: 5_000 + u32::try_from(rng.below(20_000)).expect("small"),
            ..Self::default()
        }
    }

    /// One that is given nothing without asking, of a group that others make.
    pub(super) fn taking(rng: &mut SimRng, group: GroupName) -> Self {
        Self {
            makes_group: false,
            pushed: false,
            ..Self::new(rng, group)
        }
    }

    /// One that takes and acknowledges all there is.
    pub(crate) fn sweeper(group: GroupName) -> Self {
        Self {
            group,
            sweeping: true,
            lease_ms: 600_000,
            ..Self::default()
        }
    }

    /// Its connection is gone.
    pub(super) fn lost(&mut self) {
        self.held.clear();
        self.takes.clear();
        self.settling.clear();
        self.making = None;
        self.subscribed = false;
    }

    /// Its group is to be deleted, and with it whatever it has. Gives the takes that
    /// are not answered yet.
    pub(super) fn forget(&mut self) -> Vec<u32> {
        let takes = core::mem::take(&mut self.takes);
        self.lost();
        takes.into_keys().collect()
    }

    /// Its subscription is over.
    pub(super) fn ended(&mut self) {
        self.subscribed = false;
    }

    /// One that wants nothing any more.
    pub(crate) fn retired() -> Self {
        Self {
            retired: true,
            ..Self::default()
        }
    }

    /// Whether nothing came for so long that nothing can come.
    pub(crate) fn is_dry(&self) -> bool {
        let idle = self.held.is_empty() && self.settling.is_empty();
        idle && self.none_at > self.some_at + DRY_AFTER
    }

    pub(super) fn act(
        &mut self,
        client: &mut Client,
        rng: &mut SimRng,
        time: Time,
        place: Place,
        more: bool,
        truth: &mut Truth,
    ) {
        if self.retired {
            return;
        }
        if self.some_at == 0 {
            self.some_at = time.world;
        }
        let Place {
            handle, partition, ..
        } = place;
        if self.makes_group && more {
            if self.making.is_none() {
                let make = QueueGroup {
                    handle,
                    partition,
                    action: GroupAction::CreateEarliest,
                    group: self.group,
                };
                self.making = Some(client.send(&Request::QueueGroup(make)));
            }
            return;
        }
        if self.pushed && !self.sweeping {
            if !self.subscribed && more {
                self.subscribed = true;
                client.send(&Request::QueueSubscribe(QueueSubscribe {
                    handle,
                    partition,
                    subscription: SubscriptionId(1),
                    lease_ms: self.lease_ms,
                    in_flight_max: 0,
                    credit_records: 4,
                    credit_bytes: 1 << 16,
                    group: self.group,
                }));
            } else if self.held.len() < HELD_MAX && more {
                let credit = Credit {
                    subscription: SubscriptionId(1),
                    records: 2,
                    bytes: 1 << 13,
                };
                client.send(&Request::Credit(credit));
            }
        } else if self.takes.is_empty() && self.held.len() < HELD_MAX && (more || self.sweeping) {
            let wait = if self.sweeping { 0 } else { rng.below(3_000) };
            let asked = client.send(&Request::QueueTake(QueueTake {
                handle,
                partition,
                max_messages: u32::try_from(rng.between(1, 5)).expect("small"),
                max_bytes: 1 << 16,
                wait_ms: u32::try_from(wait).expect("small"),
                lease_ms: self.lease_ms,
                group: self.group,
            }));
            self.takes.insert(asked, time.world);
        }
        if self.held.is_empty() {
            return;
        }
        let (queue, group) = (truth.queue(place.key), self.group);
        let choice = if self.sweeping { 0 } else { rng.below(14) };
        let count = 1 + rng.index(self.held.len());
        let some: Vec<Held> = match choice {
            0..=9 => self.held.drain(..count).collect(),
            _ => self.held.iter().take(count).cloned().collect(),
        };
        let mut scratch = Vec::new();
        let given = some.iter().map(|held| held.token);
        let tokens = TokenList::build(&mut scratch, given).expect("few tokens");
        match choice {
            0..=6 => {
                some.iter()
                    .for_each(|held| queue.ack_sent(group, held.id, place.player));
                let asked = client.send(&Request::QueueAck(QueueAck {
                    handle,
                    partition,
                    group: self.group,
                    tokens,
                }));
                self.settling.insert(asked, Settling::Ack(some));
            }
            7..=8 => {
                some.iter()
                    .for_each(|held| queue.nack_sent(group, held.id, place.player));
                let asked = client.send(&Request::QueueNack(QueueNack {
                    handle,
                    partition,
                    delay_ms: rng.coin().then(|| rng.below(5_000)),
                    error: "it did not work",
                    group: self.group,
                    tokens,
                }));
                self.settling.insert(asked, Settling::Nack(some));
            }
            9 => {
                some.iter()
                    .for_each(|held| queue.released(group, held.id, place.player));
                let asked = client.send(&Request::QueueRelease(QueueRelease {
                    handle,
                    partition,
                    group: self.group,
                    tokens,
                }));
                self.settling.insert(asked, Settling::Other);
            }
            10..=11 => {
                let asked = client.send(&Request::QueueExtend(QueueExtend {
                    handle,
                    partition,
                    lease_ms: self.lease_ms,
                    group: self.group,
                    tokens,
                }));
                let extend = Settling::Extend(some, time.world);
                self.settling.insert(asked, extend);
            }
            // Forgets them: their reservations run out.
            _ if rng.one_in(4) => self.held.clear(),
            _ => {}
        }
    }

    pub(super) fn answered(
        &mut self,
        number: u32,
        reply: &Reply<'_>,
        time: Time,
        key: (usize, u16),
        me: PlayerId,
        truth: &mut Truth,
    ) -> Result<(), Violation> {
        if self.making == Some(number) {
            self.making = None;
            if matches!(reply, Reply::Done) {
                self.makes_group = false;
                truth.queue(key).group_is_open(self.group);
            }
            return Ok(());
        }
        if let Some(since) = self.takes.remove(&number) {
            if let Reply::Taken(taken) = reply {
                return self.took(taken, since, time, key, me, truth);
            }
            return Ok(());
        }
        let Some(settling) = self.settling.remove(&number) else {
            if matches!(reply, Reply::Error(_)) {
                self.subscribed = false;
            }
            return Ok(());
        };
        let (queue, group) = (truth.queue(key), self.group);
        let Reply::Settled(settled) = reply else {
            // Nothing happened, or nobody knows.
            let nothing = matches!(reply, Reply::Error(r) if r.outcome == Outcome::NotAdmitted);
            match settling {
                Settling::Ack(some) if nothing => {
                    some.iter()
                        .for_each(|held| queue.ack_refused(group, held.id, me));
                    self.held.extend(some);
                }
                Settling::Ack(some) => {
                    some.iter()
                        .for_each(|held| queue.ack_unknown(group, held.id, me));
                }
                _ => {}
            }
            return Ok(());
        };
        match settling {
            Settling::Ack(some) => {
                disk(settled.durability)?;
                for (held, result) in some.iter().zip(settled.results.iter()) {
                    match result {
                        None => {
                            queue.ack_done(group, held.id, time.world);
                        }
                        Some(_) => queue.ack_refused(group, held.id, me),
                    }
                }
            }
            Settling::Nack(some) => {
                for (held, result) in some.iter().zip(settled.results.iter()) {
                    if result.is_none() {
                        queue.nack_done(group, held.id, held.attempt);
                    }
                }
            }
            Settling::Extend(some, since) => {
                let lease = u64::from(self.lease_ms) * 1_000_000;
                let until = (since + lease).saturating_sub(LEASE_SLACK);
                for (held, result) in some.iter().zip(settled.results.iter()) {
                    if result.is_none() {
                        queue.extended(group, held.id, me, until);
                    }
                }
            }
            Settling::Other => {}
        }
        Ok(())
    }

    fn took(
        &mut self,
        taken: &QueueMessages<'_>,
        since: u64,
        time: Time,
        key: (usize, u16),
        me: PlayerId,
        truth: &mut Truth,
    ) -> Result<(), Violation> {
        let mut any = false;
        for message in taken.messages.iter() {
            any = true;
            let message = Message {
                id: message.id,
                token: message.token,
                attempt: message.attempt,
                lease_ms: taken.lease_ms,
                value: message.record.value.to_vec(),
            };
            self.hold(&message, since, time, key, me, truth)?;
        }
        if any {
            self.some_at = time.world;
        } else {
            self.none_at = time.world;
        }
        Ok(())
    }

    /// A message is this worker's until its reservation, which began after
    /// `since`, runs out.
    pub(super) fn hold(
        &mut self,
        message: &Message,
        since: u64,
        time: Time,
        key: (usize, u16),
        me: PlayerId,
        truth: &mut Truth,
    ) -> Result<(), Violation> {
        truth.counts.taken += 1;
        let value = value_in(&message.value)?;
        let lease = u64::from(message.lease_ms) * 1_000_000;
        let given = Reservation {
            player: me,
            until: (since + lease).saturating_sub(LEASE_SLACK),
            attempt: message.attempt,
        };
        // What is pushed may have been on its way for a while.
        let asked = self.pushed && !self.sweeping;
        let moment = Moment {
            since: since.saturating_sub(if asked { LEASE_SLACK } else { 0 }),
            now: time.world,
            jumps: time.jumps,
        };
        let queue = truth.queue(key);
        queue.delivered(self.group, (message.id, value), moment, given)?;
        self.held.push_back(Held {
            id: message.id,
            token: message.token,
            attempt: message.attempt,
        });
        Ok(())
    }
}
