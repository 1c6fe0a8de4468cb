//! Who hangs on the partitions: subscriptions, watches, append sessions, leases
//! and waiting requests of connections, and how they end.

use pinion_domains::cache::{CacheError, LeaseOutcome, WaiterId, WatchId, WatchOptions};
use pinion_domains::queue::PushId;
use pinion_domains::stream::{
    SessionError, Start, SubKey, SubscribeError, SubscribeOptions, Subscribed,
};
use pinion_types::{
    CoreId, ErrorCode, FixedMap, Monotonic, Offset, SessionId, SubscriptionId, Version, WallMs,
};

use super::{Kind, Shard, Slot};
use crate::origin::{Origin, Subscriber};

/// A subscription or watch: the partition knows it by its index.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attached {
    pub(crate) to: Subscriber,
    /// What a subscription to a queue asked for; 0 = the queue's default.
    pub(crate) lease_ms: u32,
    pub(crate) slot: Slot,
}

/// A request that waits for something in a partition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    pub(crate) origin: Origin,
    pub(crate) slot: Slot,
}

/// What a connection has in this shard, to be undone when it goes.
#[derive(Debug, Default)]
pub(crate) struct Belongings {
    pub(super) subscriptions: FixedMap<SubscriptionId, usize>,
    /// The connection's number of an append session → where and which it is.
    appends: FixedMap<u64, (Slot, u64)>,
    /// Caches it has leases or waits in.
    caches: Vec<Slot>,
    /// Queues it has reservations or waits in.
    pub(crate) queues: Vec<Slot>,
    /// The owner number partitions know it by.
    owner: u64,
}

impl Shard {
    /// Subscribes a connection to a stream partition.
    ///
    /// # Errors
    /// As [`Partition::subscribe`](pinion_domains::stream::Partition::subscribe);
    /// nothing changed.
    pub fn subscribe(
        &mut self,
        slot: Slot,
        to: Subscriber,
        mut options: SubscribeOptions,
    ) -> Result<Subscribed, SubscribeError> {
        if let Start::Time(time) = options.start
            && let Some(hint) = self.seek_time(slot, time)
        {
            options.start = Start::TimeFrom { time, hint };
        }
        let key = self.attach(to, slot);
        let result = self.stream(slot).subscribe(SubKey(key as u64), options);
        self.keep_or_drop(key, to, result.is_ok());
        result
    }

    /// Watches a key or prefix of a cache partition for a connection.
    ///
    /// # Errors
    /// As [`CachePartition::watch`](pinion_domains::cache::CachePartition::watch);
    /// nothing changed.
    pub fn watch(
        &mut self,
        slot: Slot,
        to: Subscriber,
        options: &WatchOptions<'_>,
    ) -> Result<Version, CacheError> {
        let key = self.attach(to, slot);
        let result = self.cache(slot).watch(WatchId(key as u64), options);
        self.keep_or_drop(key, to, result.is_ok());
        result
    }

    pub(crate) fn attach(&mut self, to: Subscriber, slot: Slot) -> usize {
        self.subscribers.insert(Attached {
            to,
            lease_ms: 0,
            slot,
        })
    }

    pub(crate) fn keep_or_drop(&mut self, key: usize, to: Subscriber, keep: bool) {
        if keep {
            let before = self
                .belongings(to.session)
                .subscriptions
                .insert(to.subscription, key);
            assert!(before.is_none(), "{to:?} is subscribed twice");
        } else {
            self.subscribers.remove(key);
        }
    }

    /// A partition has ended a subscription by itself.
    pub(crate) fn forget_subscriber(&mut self, key: usize) -> Subscriber {
        let to = self.subscribers.remove(key).to;
        if let Some(belongings) = self.sessions.get_mut(&to.session) {
            belongings.subscriptions.remove(&to.subscription);
        }
        to
    }

    fn subscriber(
        &self,
        session: SessionId,
        subscription: SubscriptionId,
    ) -> Option<(usize, Slot)> {
        let key = *self
            .sessions
            .get(&session)?
            .subscriptions
            .get(&subscription)?;
        Some((key, self.subscribers[key].slot))
    }

    /// The client grants a subscription more. Unknown ones are ignored: the
    /// grant may cross the end of the subscription.
    pub fn credit(
        &mut self,
        session: SessionId,
        subscription: SubscriptionId,
        records: u32,
        bytes: u32,
    ) {
        if let Some((key, slot)) = self.subscriber(session, subscription) {
            self.touch(slot);
            match &mut self.partitions[slot.0 as usize].kind {
                Kind::Stream(stream) => {
                    stream.credit(SubKey(key as u64), records, bytes);
                }
                Kind::Cache(cache) => {
                    cache.watch_credit(WatchId(key as u64), records, bytes);
                }
                Kind::Queue(queue) => {
                    queue.credit(PushId(key as u64), records, bytes);
                }
            }
        }
    }

    /// The transport took `bytes` of a subscription's deliveries.
    pub fn window(&mut self, session: SessionId, subscription: SubscriptionId, bytes: u32) {
        if let Some((key, slot)) = self.subscriber(session, subscription) {
            self.touch(slot);
            match &mut self.partitions[slot.0 as usize].kind {
                Kind::Stream(stream) => {
                    stream.window(SubKey(key as u64), u64::from(bytes));
                }
                Kind::Cache(cache) => {
                    cache.watch_window(WatchId(key as u64), bytes);
                }
                Kind::Queue(queue) => {
                    queue.window(PushId(key as u64), u64::from(bytes));
                }
            }
        }
    }

    /// Ends a subscription or watch; gives whose it was and where to resume,
    /// `None` when it is not known.
    pub fn unsubscribe(
        &mut self,
        session: SessionId,
        subscription: SubscriptionId,
    ) -> Option<(Subscriber, Offset)> {
        let key = self
            .sessions
            .get_mut(&session)?
            .subscriptions
            .remove(&subscription)?;
        Some(self.detach(key))
    }

    pub(super) fn detach(&mut self, key: usize) -> (Subscriber, Offset) {
        let Attached { to, slot, .. } = self.subscribers.remove(key);
        // A blocking subscriber that went may let publishers on.
        self.touch(slot);
        let next = match &mut self.partitions[slot.0 as usize].kind {
            Kind::Stream(stream) => stream
                .unsubscribe(SubKey(key as u64))
                .unwrap_or(Offset::ZERO),
            Kind::Cache(cache) => cache
                .unwatch(WatchId(key as u64))
                .map_or(Offset::ZERO, |version| Offset(version.0)),
            Kind::Queue(queue) => {
                queue.unsubscribe(PushId(key as u64));
                Offset::ZERO
            }
        };
        (to, next)
    }

    /// Opens an append session under the connection's own number `append`.
    ///
    /// # Errors
    /// As [`Partition::begin`](pinion_domains::stream::Partition::begin).
    pub fn append_begin(
        &mut self,
        now: Monotonic,
        slot: Slot,
        session: SessionId,
        append: u64,
        exclusive: bool,
    ) -> Result<(), SessionError> {
        let owner = self.belongings(session).owner;
        let id = self.stream(slot).begin(now, owner, exclusive)?;
        self.belongings(session).appends.insert(append, (slot, id));
        Ok(())
    }

    /// The partition, owner and number behind a connection's append session.
    #[must_use]
    pub fn append_session(&self, session: SessionId, append: u64) -> Option<(Slot, u64, u64)> {
        let belongings = self.sessions.get(&session)?;
        let (slot, id) = *belongings.appends.get(&append)?;
        Some((slot, belongings.owner, id))
    }

    /// Forgets an append session that was committed or rolled back.
    pub fn append_end(&mut self, session: SessionId, append: u64) {
        if let Some(belongings) = self.sessions.get_mut(&session) {
            belongings.appends.remove(&append);
        }
    }

    /// Reads a key or decides who fills it. With [`LeaseOutcome::Waiting`] the
    /// answer comes as [`ShardOutput::Wakeup`](crate::ShardOutput::Wakeup).
    ///
    /// # Errors
    /// As [`CachePartition::get_or_lease`](pinion_domains::cache::CachePartition::get_or_lease).
    #[allow(clippy::too_many_arguments)] // one request's fields, passed on as they are
    pub fn get_or_lease(
        &mut self,
        now: Monotonic,
        slot: Slot,
        origin: Origin,
        key: &[u8],
        wait_ms: u32,
        lease_ms: u32,
        stale_ok: bool,
        answer: impl FnOnce(LeaseOutcome<'_>),
    ) -> Result<bool, CacheError> {
        let belongings = self.belongings(origin.session);
        if !belongings.caches.contains(&slot) {
            belongings.caches.push(slot);
        }
        let waiter = self.new_waiter();
        let cache = match &mut self.partitions[slot.0 as usize].kind {
            Kind::Cache(cache) => cache,
            Kind::Stream(_) | Kind::Queue(_) => unreachable!("slot {slot:?} is no cache"),
        };
        let outcome = cache.get_or_lease(
            now,
            origin.session,
            WaiterId(waiter),
            key,
            wait_ms,
            lease_ms,
            stale_ok,
        );
        let waits = match outcome? {
            LeaseOutcome::Waiting => true,
            decided => {
                answer(decided);
                false
            }
        };
        if waits {
            self.waiting.insert(waiter, Waiting { origin, slot });
        }
        self.touch(slot);
        Ok(waits)
    }

    /// Never reused: a wakeup of a waiter that is gone finds nobody.
    pub(crate) fn new_waiter(&mut self) -> u64 {
        let waiter = self.next_waiter;
        self.next_waiter += 1;
        waiter
    }

    pub(crate) fn belongings(&mut self, session: SessionId) -> &mut Belongings {
        self.sessions.entry(session).or_insert_with(|| {
            let owner = self.next_owner;
            self.next_owner += 1;
            Belongings {
                owner,
                ..Belongings::default()
            }
        })
    }

    /// A core is gone, and all connections that it had: each of them as in
    /// [`Shard::end_session`].
    pub fn end_sessions_of(&mut self, now: Monotonic, wall: WallMs, core: CoreId) {
        let of_it = self.sessions.keys().filter(|session| session.core == core);
        for session in of_it.copied().collect::<Vec<SessionId>>() {
            self.end_session(now, wall, session);
        }
    }

    /// The connection is gone (domains.md §0): its subscriptions, append
    /// sessions, leases and waiting requests go with it.
    pub fn end_session(&mut self, now: Monotonic, wall: WallMs, session: SessionId) {
        let Some(belongings) = self.sessions.remove(&session) else {
            return;
        };
        for key in belongings.subscriptions.into_values() {
            self.detach(key);
        }
        for (slot, _) in belongings.appends.into_values() {
            self.stream(slot).abort_owner(belongings.owner);
        }
        for slot in belongings.caches {
            self.cache(slot).abort_owner(now, session);
        }
        for slot in belongings.queues {
            self.queue(slot).session_ended(now, wall, session);
        }
        let leases = &mut self.take_leases;
        self.waiting.retain(|waiter, waiting| {
            let stays = waiting.origin.session != session;
            if !stays {
                leases.remove(waiter);
            }
            stays
        });
    }

    /// Ends every subscription and wait, because the node is shutting down.
    pub fn drain(&mut self) {
        if self.draining {
            return;
        }
        self.draining = true;
        for slot in 0..self.partitions.len() {
            let slot = Slot(u32::try_from(slot).expect("bounded by PARTITIONS_MAX"));
            self.touch(slot);
            match &mut self.partitions[slot.0 as usize].kind {
                Kind::Stream(stream) => stream.end_subscriptions(ErrorCode::Draining),
                Kind::Cache(_) | Kind::Queue(_) => {}
            }
        }
        let watches: Vec<usize> = self
            .subscribers
            .iter()
            .filter(|(_, s)| !matches!(self.partitions[s.slot.0 as usize].kind, Kind::Stream(_)))
            .map(|(key, _)| key)
            .collect();
        for key in watches {
            self.end_attached(key, ErrorCode::Draining);
        }
        let waiting: Vec<u64> = self.waiting.keys().copied().collect();
        for waiter in waiting {
            self.end_waiting(waiter, ErrorCode::Draining);
        }
    }
}
