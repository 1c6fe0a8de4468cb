//! Who waits for messages: which list a demand is in, and the consumers that
//! stand behind demands and reservations.

use pinion_types::{ErrorCode, SessionId};

use super::config::{Bound, LEASE_MS_MAX, QueueError};
use super::demand::{ConsumerKey, Gone, Place, Want};
use super::group::Life;
use super::partition::QueuePartition;
use super::pool::{List, Timer};
use super::settle::check_range;

impl QueuePartition {
    pub(super) fn lease(&self, lease_ms: u32) -> Result<u32, QueueError> {
        check_range(u64::from(lease_ms), u64::from(LEASE_MS_MAX))?;
        Ok(match lease_ms {
            0 => self.config.lease_ms,
            given => given,
        })
    }

    pub(super) fn group_for(&mut self, name: &[u8]) -> Result<u8, QueueError> {
        match self.find_group(name) {
            Some(group) if self.t.group(group).life == Life::Closing => {
                Err(QueueError::UnknownGroup)
            }
            Some(group) => Ok(group),
            None => self.new_group(self.wall, name, None),
        }
    }

    pub(super) fn consumer(&mut self, key: ConsumerKey) -> Result<u32, QueueError> {
        if let Some(consumer) = self.names.consumers.get(&key) {
            return Ok(*consumer);
        }
        if self.consumers.len() >= self.config.consumers_max {
            return Err(QueueError::TooMany {
                bound: Bound::Consumers,
                limit: self.config.consumers_max,
            });
        }
        let consumer = self.consumers.alloc();
        let row = &mut self.consumers[consumer];
        row.key = Some(key);
        row.reservations = List::EMPTY;
        row.blocked = List::EMPTY;
        row.demands.clear();
        row.in_flight_max = 0;
        self.names.consumers.insert(key, consumer);
        self.t.group_mut(key.group).consumers += 1;
        Ok(consumer)
    }

    /// Messages a consumer may have in flight: what it asked for, and never
    /// more than the queue allows each.
    pub(super) fn may_hold(&self, consumer: u32) -> u32 {
        let limit = self.config.consumer_in_flight;
        match self.consumers[consumer].in_flight_max {
            0 => limit,
            asked => asked.min(limit),
        }
    }

    pub(super) fn check_waiters(&self) -> Result<(), QueueError> {
        let told = self.names.timed_out.len() + self.names.ended.len();
        if self.t.demands.len() as usize + told >= self.config.waiters_max as usize {
            return Err(QueueError::TooMany {
                bound: Bound::Waiters,
                limit: self.config.waiters_max,
            });
        }
        Ok(())
    }

    pub(super) fn demand(&mut self, want: Want, consumer: u32, lease_ms: u32) -> u32 {
        let demand = self.t.demands.alloc();
        let row = &mut self.t.demands[demand];
        row.want = want;
        row.consumer = consumer;
        row.lease_ms = lease_ms;
        row.place = Place::Starved;
        self.consumers[consumer].demands.push(demand);
        let group = self.group_of(consumer);
        self.t.group_mut(group).demands += 1;
        demand
    }

    fn session_of(&self, consumer: u32) -> SessionId {
        let key = self.consumers[consumer].key;
        key.expect("a consumer in use has a name").session
    }

    fn group_of(&self, consumer: u32) -> u8 {
        let key = self.consumers[consumer].key;
        key.expect("a consumer in use has a name").group
    }

    /// Puts a demand that is in no list where it belongs.
    pub(super) fn settle_demand(&mut self, demand: u32) {
        let row = &mut self.t.demands[demand];
        let can_take = match row.want {
            Want::Waiter { .. } => true,
            Want::Push {
                credit_records,
                credit_bytes,
                window,
                ..
            } => credit_records > 0 && credit_bytes > 0 && window > 0,
        };
        if !can_take {
            row.place = Place::Starved;
            return;
        }
        row.place = Place::Hungry;
        let group = self.group_of(self.t.demands[demand].consumer);
        let row = self.t.groups[usize::from(group)]
            .as_mut()
            .expect("a group in use exists");
        row.hungry.push_back(&mut self.t.demands, demand);
        self.kick(group);
    }

    /// Takes a demand out of its list.
    pub(super) fn unplace(&mut self, demand: u32) {
        let row = &mut self.t.demands[demand];
        let (place, consumer) = (row.place, row.consumer);
        row.place = Place::Starved;
        match place {
            Place::Hungry => {
                let group = self.group_of(consumer);
                let row = self.t.groups[usize::from(group)]
                    .as_mut()
                    .expect("a group in use exists");
                row.hungry.remove(&mut self.t.demands, demand);
            }
            Place::Blocked => self.consumers[consumer]
                .blocked
                .remove(&mut self.t.demands, demand),
            Place::Starved => {}
        }
    }

    pub(super) fn block(&mut self, _group: u8, demand: u32, consumer: u32) {
        self.unplace(demand);
        self.t.demands[demand].place = Place::Blocked;
        self.consumers[consumer]
            .blocked
            .push_back(&mut self.t.demands, demand);
    }

    /// A consumer has one message less in flight.
    pub(super) fn unblock(&mut self, group: u8, consumer: u32) {
        while let Some(demand) = self.consumers[consumer]
            .blocked
            .pop_front(&mut self.t.demands)
        {
            self.t.demands[demand].place = Place::Starved;
            self.settle_demand(demand);
        }
        self.drop_if_idle(consumer);
        self.kick(group);
    }

    /// The bound of what a consumer may have in flight has changed.
    pub(super) fn unblock_all(&mut self) {
        let consumers = self.names.consumers.iter();
        let consumers: Vec<(u8, u32)> = consumers.map(|(key, c)| (key.group, *c)).collect();
        for (group, consumer) in consumers {
            self.unblock(group, consumer);
        }
    }

    pub(super) fn remove_demand(&mut self, demand: u32) {
        self.unplace(demand);
        self.disarm(Timer::Demand(demand));
        let row = &self.t.demands[demand];
        let consumer = row.consumer;
        match row.want {
            Want::Waiter { id, .. } => {
                self.names.waiters.remove(&id);
            }
            Want::Push { id, .. } => {
                self.names.pushes.remove(&id);
            }
        }
        let group = self.group_of(consumer);
        self.t.group_mut(group).demands -= 1;
        let demands = &mut self.consumers[consumer].demands;
        let at = demands.iter().position(|d| *d == demand);
        demands.swap_remove(at.expect("a consumer knows its demands"));
        self.t.demands.free(demand);
    }

    /// The patience of a waiter is over.
    pub(super) fn demand_due(&mut self, demand: u32) {
        if let Want::Waiter { id, .. } = self.t.demands[demand].want {
            let session = self.session_of(self.t.demands[demand].consumer);
            self.remove_demand(demand);
            self.names
                .timed_out
                .push_back((id, Gone::TimedOut, session));
        }
    }

    /// A subscription's consumer goes with its last reservation once it has
    /// ended; a session's stays until the session ends.
    pub(super) fn drop_if_idle(&mut self, consumer: u32) {
        let row = &self.consumers[consumer];
        if let Some(key) = row.key
            && key.push.is_some()
            && row.demands.is_empty()
            && row.reservations.is_empty()
        {
            self.drop_consumer(key, consumer);
        }
    }

    fn drop_consumer(&mut self, key: ConsumerKey, consumer: u32) {
        self.names.consumers.remove(&key);
        self.consumers[consumer].key = None;
        self.consumers.free(consumer);
        self.t.group_mut(key.group).consumers -= 1;
    }

    pub(super) fn next_consumer_of(&self, session: SessionId) -> Option<(ConsumerKey, u32)> {
        let first = ConsumerKey {
            session,
            push: None,
            group: 0,
        };
        let (key, consumer) = self.names.consumers.range(first..).next()?;
        (key.session == session).then_some((*key, *consumer))
    }

    /// Ends a consumer without a word to it: its session has gone.
    pub(super) fn end_consumer(&mut self, key: ConsumerKey, consumer: u32) {
        while let Some(demand) = self.consumers[consumer].demands.last().copied() {
            self.remove_demand(demand);
        }
        if key.push.is_some() && self.consumers[consumer].reservations.is_empty() {
            self.drop_consumer(key, consumer);
            return;
        }
        self.return_all(consumer);
        // A subscription's consumer went with its last reservation.
        if self.names.consumers.get(&key) == Some(&consumer) {
            self.drop_consumer(key, consumer);
        }
    }

    /// Ends and tells every waiter and subscription of a group that goes.
    pub(super) fn end_demands_of(&mut self, group: u8) {
        let code = ErrorCode::UnknownGroup;
        self.tell_demands(|key| key.group == group, Gone::GroupDeleted, code);
    }

    /// The same for all, when the partition is fenced.
    pub(super) fn end_all_demands(&mut self) {
        self.tell_demands(|_| true, Gone::Fenced, ErrorCode::PartitionFenced);
    }

    /// Ends every subscription with `code` and every waiting take, for a
    /// partition that goes away; the ends come out of
    /// [`QueuePartition::poll_delivery`].
    pub fn end_subscriptions(&mut self, code: ErrorCode) {
        self.tell_demands(|_| true, Gone::Closed, code);
    }

    fn tell_demands(&mut self, of: impl Fn(&ConsumerKey) -> bool, gone: Gone, code: ErrorCode) {
        let consumers = self.names.consumers.iter();
        let consumers: Vec<u32> = consumers
            .filter(|(key, _)| of(key))
            .map(|(_, consumer)| *consumer)
            .collect();
        for consumer in consumers {
            while let Some(demand) = self.consumers[consumer].demands.last().copied() {
                let want = self.t.demands[demand].want;
                let session = self.session_of(consumer);
                self.remove_demand(demand);
                match want {
                    Want::Waiter { id, .. } => {
                        self.names.timed_out.push_back((id, gone, session));
                    }
                    Want::Push { id, .. } => self.names.ended.push_back((id, code, session)),
                }
            }
            self.drop_if_idle(consumer);
        }
    }

    /// Forgets the consumers of a group whose entries are gone.
    pub(super) fn drop_consumers_of(&mut self, group: u8) {
        let consumers = self.names.consumers.iter();
        let consumers: Vec<(ConsumerKey, u32)> = consumers
            .filter(|(key, _)| key.group == group)
            .map(|(key, consumer)| (*key, *consumer))
            .collect();
        for (key, consumer) in consumers {
            self.drop_consumer(key, consumer);
        }
    }

    /// Something may have become possible in a group.
    pub(super) fn kick(&mut self, group: u8) {
        if !self.started || self.fenced {
            return;
        }
        let row = self.t.group_mut(group);
        if row.life == Life::Open && !row.active && !row.hungry.is_empty() {
            row.active = true;
            self.active.push_back(group);
        }
    }

    pub(super) fn kick_all(&mut self) {
        for group in self.groups() {
            self.kick(group);
        }
    }
}
