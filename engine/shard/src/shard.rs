//! The partitions of one core and who hangs on them.

use std::collections::{BTreeSet, VecDeque};

use pinion_domains::cache::{
    CacheConfig, CacheError, CachePartition, LeaseOutcome, WaiterId, WatchId, WatchOptions,
};
use pinion_domains::stream::{
    Delivery, Partition, PartitionConfig, SessionError, SubKey, SubscribeError, SubscribeOptions,
    Subscribed,
};
use pinion_types::{
    ErrorCode, FixedMap, Monotonic, Offset, PartitionId, ResourceId, SessionId, SubscriptionId,
    Version, WallMs,
};
use slab::Slab;

use crate::origin::{Origin, Subscriber};
use crate::output::{LateAnswer, ShardOutput};

/// Partitions one core may own. Each costs a map entry and, once used, its ring.
pub const PARTITIONS_MAX: usize = 100_000;

/// What a shard is told once.
#[derive(Clone, Copy, Debug)]
pub struct ShardConfig {
    /// Random words for keyed hashes, so that nobody outside can choose collisions.
    pub seed: [u64; 2],
}

/// Place of a partition in its shard; stays valid for the shard's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u32);

#[derive(Debug)]
enum Kind {
    Stream(Box<Partition>),
    Cache(Box<CachePartition>),
}

#[derive(Debug)]
struct Owned {
    kind: Kind,
    /// In `active`.
    active: bool,
    /// As it stands in `deadlines`.
    deadline: Option<Monotonic>,
}

/// A subscription or watch: the partition knows it by its index.
#[derive(Debug)]
struct Attached {
    to: Subscriber,
    slot: Slot,
}

/// What a connection has in this shard, to be undone when it goes.
#[derive(Debug, Default)]
struct Belongings {
    subscriptions: FixedMap<SubscriptionId, usize>,
    /// The connection's number of an append session → where and which it is.
    appends: FixedMap<u64, (Slot, u64)>,
    /// Caches it has leases or waits in.
    caches: Vec<Slot>,
    /// The owner number partitions know it by.
    owner: u64,
}

/// Everything one data core owns.
#[derive(Debug)]
pub struct Shard {
    config: ShardConfig,
    partitions: Vec<Owned>,
    index: FixedMap<(ResourceId, PartitionId), Slot>,
    subscribers: Slab<Attached>,
    /// Requests that wait for a filler, by waiter number.
    waiting: FixedMap<u64, Origin>,
    next_waiter: u64,
    sessions: FixedMap<SessionId, Belongings>,
    next_owner: u64,
    /// Partitions that were touched and may have something to say.
    active: VecDeque<Slot>,
    /// How many of `active` are still to be asked in this turn.
    turn: usize,
    deadlines: BTreeSet<(Monotonic, Slot)>,
    ready: VecDeque<ShardOutput>,
    draining: bool,
}

impl Shard {
    /// A shard without partitions.
    #[must_use]
    pub fn new(config: ShardConfig) -> Self {
        Self {
            config,
            partitions: Vec::new(),
            index: FixedMap::default(),
            subscribers: Slab::new(),
            waiting: FixedMap::default(),
            next_waiter: 0,
            sessions: FixedMap::default(),
            next_owner: 1,
            active: VecDeque::new(),
            turn: 0,
            deadlines: BTreeSet::new(),
            ready: VecDeque::new(),
            draining: false,
        }
    }

    /// Partitions owned.
    #[must_use]
    pub fn partitions(&self) -> usize {
        self.partitions.len()
    }

    /// The slot of a stream partition, creating it on first use. `None` when
    /// the shard is full.
    pub fn open_stream(
        &mut self,
        resource: ResourceId,
        partition: PartitionId,
        config: impl FnOnce() -> PartitionConfig,
    ) -> Option<Slot> {
        self.open((resource, partition), |_| {
            Kind::Stream(Box::new(Partition::new(config())))
        })
    }

    /// The slot of a cache partition with `budget_bytes`, creating it on first
    /// use. `wall` lifts its versions above those of an earlier life.
    pub fn open_cache(
        &mut self,
        resource: ResourceId,
        partition: PartitionId,
        budget_bytes: u64,
        wall: WallMs,
    ) -> Option<Slot> {
        self.open((resource, partition), |seed| {
            let mut config = CacheConfig::new(budget_bytes, seed);
            // 2^20 versions a millisecond: a restart never gives a version
            // that the life before could have given.
            config.first_version = Version(wall.0.max(1) << 20);
            Kind::Cache(Box::new(CachePartition::new(&config)))
        })
    }

    fn open(
        &mut self,
        key: (ResourceId, PartitionId),
        make: impl FnOnce([u64; 2]) -> Kind,
    ) -> Option<Slot> {
        if let Some(&slot) = self.index.get(&key) {
            return Some(slot);
        }
        if self.partitions.len() >= PARTITIONS_MAX {
            return None;
        }
        let slot = Slot(u32::try_from(self.partitions.len()).expect("bounded above"));
        self.partitions.push(Owned {
            kind: make(self.config.seed),
            active: false,
            deadline: None,
        });
        self.index.insert(key, slot);
        Some(slot)
    }

    /// The stream partition at `slot`; it will be sealed and asked for
    /// deliveries at the end of the turn.
    ///
    /// # Panics
    /// When a cache lies there: resources never change their kind.
    pub fn stream(&mut self, slot: Slot) -> &mut Partition {
        self.touch(slot);
        self.stream_untouched(slot)
    }

    /// The cache partition at `slot`; it will be asked for events at the end
    /// of the turn.
    ///
    /// # Panics
    /// When a stream lies there: resources never change their kind.
    pub fn cache(&mut self, slot: Slot) -> &mut CachePartition {
        self.touch(slot);
        match &mut self.partitions[slot.0 as usize].kind {
            Kind::Cache(cache) => cache,
            Kind::Stream(_) => unreachable!("slot {slot:?} is a stream"),
        }
    }

    fn stream_untouched(&mut self, slot: Slot) -> &mut Partition {
        match &mut self.partitions[slot.0 as usize].kind {
            Kind::Stream(stream) => stream,
            Kind::Cache(_) => unreachable!("slot {slot:?} is a cache"),
        }
    }

    fn touch(&mut self, slot: Slot) {
        let owned = &mut self.partitions[slot.0 as usize];
        if !owned.active {
            owned.active = true;
            self.active.push_back(slot);
        }
    }

    fn belongings(&mut self, session: SessionId) -> &mut Belongings {
        self.sessions.entry(session).or_insert_with(|| {
            let owner = self.next_owner;
            self.next_owner += 1;
            Belongings {
                owner,
                ..Belongings::default()
            }
        })
    }

    /// Subscribes a connection to a stream partition.
    ///
    /// # Errors
    /// As [`Partition::subscribe`]; nothing changed.
    pub fn subscribe(
        &mut self,
        slot: Slot,
        to: Subscriber,
        options: SubscribeOptions,
    ) -> Result<Subscribed, SubscribeError> {
        let key = self.subscribers.insert(Attached { to, slot });
        let result = self.stream(slot).subscribe(SubKey(key as u64), options);
        self.keep_or_drop(key, to, result.is_ok());
        result
    }

    /// Watches a key or prefix of a cache partition for a connection.
    ///
    /// # Errors
    /// As [`CachePartition::watch`]; nothing changed.
    pub fn watch(
        &mut self,
        slot: Slot,
        to: Subscriber,
        options: &WatchOptions<'_>,
    ) -> Result<Version, CacheError> {
        let key = self.subscribers.insert(Attached { to, slot });
        let result = self.cache(slot).watch(WatchId(key as u64), options);
        self.keep_or_drop(key, to, result.is_ok());
        result
    }

    fn keep_or_drop(&mut self, key: usize, to: Subscriber, keep: bool) {
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

    fn detach(&mut self, key: usize) -> (Subscriber, Offset) {
        let Attached { to, slot } = self.subscribers.remove(key);
        // A blocking subscriber that went may let publishers on.
        self.touch(slot);
        let next = match &mut self.partitions[slot.0 as usize].kind {
            Kind::Stream(stream) => stream
                .unsubscribe(SubKey(key as u64))
                .unwrap_or(Offset::ZERO),
            Kind::Cache(cache) => cache
                .unwatch(WatchId(key as u64))
                .map_or(Offset::ZERO, |version| Offset(version.0)),
        };
        (to, next)
    }

    /// Opens an append session under the connection's own number `append`.
    ///
    /// # Errors
    /// As [`Partition::begin`].
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
    /// answer comes as [`ShardOutput::Wakeup`].
    ///
    /// # Errors
    /// As [`CachePartition::get_or_lease`].
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
        // Never reused: a wakeup of a waiter that is gone finds nobody.
        let waiter = self.next_waiter;
        self.next_waiter += 1;
        let cache = match &mut self.partitions[slot.0 as usize].kind {
            Kind::Cache(cache) => cache,
            Kind::Stream(_) => unreachable!("slot {slot:?} is a stream"),
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
            self.waiting.insert(waiter, origin);
        }
        self.touch(slot);
        Ok(waits)
    }

    /// The connection is gone (domains.md §0): its subscriptions, append
    /// sessions, leases and waiting requests go with it.
    pub fn end_session(&mut self, now: Monotonic, session: SessionId) {
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
        self.waiting.retain(|_, origin| origin.session != session);
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
                Kind::Cache(_) => {}
            }
        }
        let watches: Vec<usize> = self
            .subscribers
            .iter()
            .filter(|(_, s)| matches!(self.partitions[s.slot.0 as usize].kind, Kind::Cache(_)))
            .map(|(key, _)| key)
            .collect();
        for key in watches {
            let (to, next) = self.detach(key);
            if let Some(belongings) = self.sessions.get_mut(&to.session) {
                belongings.subscriptions.remove(&to.subscription);
            }
            self.ready.push_back(ShardOutput::Delivery {
                to,
                delivery: Delivery::End {
                    code: ErrorCode::Draining,
                    next,
                },
            });
        }
        for (_, origin) in self.waiting.drain() {
            self.ready.push_back(ShardOutput::Draining { origin });
        }
    }

    /// Fires every due timer of every partition; bounded by what they allow
    /// themselves per call.
    pub fn handle_timeout(&mut self, now: Monotonic) {
        while let Some(&(due, slot)) = self.deadlines.first() {
            if due > now {
                break;
            }
            self.deadlines.pop_first();
            let owned = &mut self.partitions[slot.0 as usize];
            owned.deadline = None;
            match &mut owned.kind {
                Kind::Stream(stream) => stream.handle_timeout(now),
                Kind::Cache(cache) => cache.handle_timeout(now),
            }
            // `end_turn` finds its next deadline.
            self.touch(slot);
        }
    }

    /// When [`Shard::handle_timeout`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Monotonic> {
        self.deadlines.first().map(|(due, _)| *due)
    }

    /// Whether another turn would bring more although nothing new came.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.active.is_empty() || !self.ready.is_empty()
    }

    /// Makes this turn's appends visible. Deliveries follow from
    /// [`Shard::poll_output`].
    pub fn end_turn(&mut self) {
        self.turn = self.active.len();
        for i in 0..self.turn {
            let owned = &mut self.partitions[self.active[i].0 as usize];
            if let Kind::Stream(stream) = &mut owned.kind {
                stream.seal();
            }
        }
    }

    /// The next thing for a connection, until `None` ends the turn.
    pub fn poll_output(&mut self, now: Monotonic) -> Option<ShardOutput> {
        if let Some(output) = self.ready.pop_front() {
            return Some(output);
        }
        while self.turn > 0 {
            let slot = *self.active.front().expect("`turn` counts its front part");
            if let Some(output) = self.poll_partition(now, slot) {
                return Some(output);
            }
            self.turn -= 1;
            self.active.pop_front();
            self.settle(slot);
        }
        None
    }

    fn poll_partition(&mut self, now: Monotonic, slot: Slot) -> Option<ShardOutput> {
        match &mut self.partitions[slot.0 as usize].kind {
            Kind::Stream(stream) => {
                let (key, delivery) = stream.poll_delivery()?;
                let key = usize::try_from(key.0).expect("a slab index");
                let to = self.subscribers[key].to;
                if let Delivery::End { .. } = delivery {
                    self.subscribers.remove(key);
                    if let Some(belongings) = self.sessions.get_mut(&to.session) {
                        belongings.subscriptions.remove(&to.subscription);
                    }
                }
                Some(ShardOutput::Delivery { to, delivery })
            }
            Kind::Cache(cache) => {
                while let Some((waiter, wakeup)) = cache.poll_wakeup(now) {
                    // Gone when the connection went first.
                    if let Some(origin) = self.waiting.remove(&waiter.0) {
                        let answer = LateAnswer::from(wakeup);
                        return Some(ShardOutput::Wakeup { origin, answer });
                    }
                }
                let (key, event) = cache.poll_event()?;
                let key = usize::try_from(key.0).expect("a slab index");
                let to = self.subscribers[key].to;
                Some(ShardOutput::Watch { to, event })
            }
        }
    }

    /// The partition has nothing more to say in this turn.
    fn settle(&mut self, slot: Slot) {
        let owned = &mut self.partitions[slot.0 as usize];
        let (deadline, more) = match &owned.kind {
            Kind::Stream(stream) => (stream.next_deadline(), stream.has_work()),
            Kind::Cache(cache) => (cache.next_deadline(), false),
        };
        if deadline != owned.deadline {
            if let Some(old) = owned.deadline {
                self.deadlines.remove(&(old, slot));
            }
            if let Some(new) = deadline {
                self.deadlines.insert((new, slot));
            }
            owned.deadline = deadline;
        }
        owned.active = more;
        if more {
            self.active.push_back(slot);
        }
    }
}
