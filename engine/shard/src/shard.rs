//! The partitions of one core and who hangs on them.

use std::collections::{BTreeSet, VecDeque};

use pinion_commitlog::LogId;
use pinion_domains::cache::{
    CacheConfig, CacheError, CachePartition, LeaseOutcome, WaiterId, WatchId, WatchOptions,
};
use pinion_domains::op::Op;
use pinion_domains::queue::{PushId, QueuePartition, Taken};
use pinion_domains::stream::{
    Delivery, Partition, SessionError, Start, SubKey, SubscribeError, SubscribeOptions, Subscribed,
};
use pinion_types::{
    ErrorCode, FixedMap, Monotonic, Offset, PartitionId, ResourceId, SessionId, SubscriptionId,
    Version, WallMs,
};
use slab::Slab;

use crate::durable::{Logs, PartitionSpec};
use crate::origin::{Origin, Subscriber};
use crate::output::{LateAnswer, ShardOutput};

/// Partitions one core may own. Each costs a map entry and, once used, what it
/// keeps in memory.
pub const PARTITIONS_MAX: usize = 1 << 18;

/// What a shard is told once.
#[derive(Clone, Copy, Debug)]
pub struct ShardConfig {
    /// Random words for keyed hashes, so that nobody outside can choose collisions.
    pub seed: [u64; 2],
    /// Bytes the committed tails of all durable streams may hold in memory.
    /// More lets more subscribers be served without reading the disk.
    pub tail_bytes_max: u64,
}

/// Place of a partition in its shard; stays valid for the shard's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u32);

impl Slot {
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }

    pub(crate) fn from_index(index: usize) -> Self {
        Self(u32::try_from(index).expect("bounded by PARTITIONS_MAX"))
    }
}

#[derive(Debug)]
pub(crate) enum Kind {
    Stream(Box<Partition>),
    Cache(Box<CachePartition>),
    Queue(Box<QueuePartition>),
}

impl Kind {
    pub(crate) fn poll_op(&mut self) -> Option<Op> {
        match self {
            Self::Stream(stream) => stream.poll_op(),
            Self::Queue(queue) => queue.poll_op(),
            Self::Cache(_) => None,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Owned {
    pub(crate) kind: Kind,
    pub(crate) key: (ResourceId, PartitionId),
    /// The log it writes to; `None` for what lives in memory only.
    pub(crate) log: Option<LogId>,
    /// Closed for good, by damage or a failed write.
    pub(crate) fenced: bool,
    /// Longest age in milliseconds and most bytes of what it keeps in the log.
    pub(crate) retention: (Option<u64>, Option<u64>),
    /// In `active`.
    active: bool,
    /// As it stands in `deadlines`.
    deadline: Option<Monotonic>,
    /// Bytes its committed tail holds in memory, as counted in `tails`.
    tail_bytes: u64,
    /// In the queue of `tails`.
    in_tails: bool,
    /// First offset the log was told of.
    pub(crate) told_first: Offset,
}

/// A subscription or watch: the partition knows it by its index.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attached {
    pub(crate) to: Subscriber,
    /// What a subscription to a queue asked for; 0 = the queue's default.
    pub(crate) lease_ms: u32,
    slot: Slot,
}

/// What a connection has in this shard, to be undone when it goes.
#[derive(Debug, Default)]
pub(crate) struct Belongings {
    subscriptions: FixedMap<SubscriptionId, usize>,
    /// The connection's number of an append session → where and which it is.
    appends: FixedMap<u64, (Slot, u64)>,
    /// Caches it has leases or waits in.
    caches: Vec<Slot>,
    /// Queues it has reservations or waits in.
    pub(crate) queues: Vec<Slot>,
    /// The owner number partitions know it by.
    owner: u64,
}

/// Everything one data core owns.
#[derive(Debug)]
pub struct Shard {
    config: ShardConfig,
    pub(crate) partitions: Vec<Owned>,
    pub(crate) index: FixedMap<(ResourceId, PartitionId), Slot>,
    pub(crate) logs: Logs,
    pub(crate) subscribers: Slab<Attached>,
    /// Requests that wait for a filler, by waiter number.
    pub(crate) waiting: FixedMap<u64, Origin>,
    /// What waiting takes asked for beside the queue's default, by waiter number.
    pub(crate) take_leases: FixedMap<u64, u32>,
    /// Buffer of messages on their way out.
    pub(crate) taken: Vec<Taken>,
    next_waiter: u64,
    sessions: FixedMap<SessionId, Belongings>,
    next_owner: u64,
    /// Partitions that were touched and may have something to say.
    active: VecDeque<Slot>,
    /// How many of `active` are still to be asked in this turn.
    turn: usize,
    deadlines: BTreeSet<(Monotonic, Slot)>,
    pub(crate) ready: VecDeque<ShardOutput>,
    draining: bool,
    /// Durable streams with a tail in memory, the longest idle first.
    tails: VecDeque<Slot>,
    tail_bytes: u64,
}

impl Shard {
    /// A shard without partitions.
    #[must_use]
    pub fn new(config: ShardConfig) -> Self {
        Self {
            config,
            partitions: Vec::new(),
            index: FixedMap::default(),
            logs: Logs::default(),
            subscribers: Slab::new(),
            waiting: FixedMap::default(),
            take_leases: FixedMap::default(),
            taken: Vec::new(),
            next_waiter: 0,
            sessions: FixedMap::default(),
            next_owner: 1,
            active: VecDeque::new(),
            turn: 0,
            deadlines: BTreeSet::new(),
            ready: VecDeque::new(),
            draining: false,
            tails: VecDeque::new(),
            tail_bytes: 0,
        }
    }

    /// Partitions owned.
    #[must_use]
    pub fn partitions(&self) -> usize {
        self.partitions.len()
    }

    /// The slot of a partition, creating it on first use; `log` is the one it
    /// writes to, `None` for what lives in memory only. `None` when the shard is
    /// full.
    ///
    /// # Panics
    /// When the log is not open here: the caller routes partitions to logs.
    pub fn open_partition(
        &mut self,
        resource: ResourceId,
        partition: PartitionId,
        log: Option<LogId>,
        now: Monotonic,
        wall: WallMs,
        spec: impl FnOnce() -> PartitionSpec,
    ) -> Option<Slot> {
        if let Some(&slot) = self.index.get(&(resource, partition)) {
            return Some(slot);
        }
        let fenced = log.is_some_and(|log| self.log_is_fenced(log));
        let born = Some((now, wall));
        let slot = self.open_spec(resource, partition, log, &spec(), born)?;
        if fenced {
            self.fence(slot);
        }
        Some(slot)
    }

    /// With the time when it begins empty, without when a log will be folded
    /// into it.
    pub(crate) fn open_spec(
        &mut self,
        resource: ResourceId,
        partition: PartitionId,
        log: Option<LogId>,
        spec: &PartitionSpec,
        born: Option<(Monotonic, WallMs)>,
    ) -> Option<Slot> {
        let retention = match spec {
            PartitionSpec::Stream(config) if config.durable => {
                (config.retention_ms, config.retention_bytes)
            }
            PartitionSpec::Stream(_) | PartitionSpec::Queue(_) => (None, None),
        };
        let slot = self.open((resource, partition), log, |seed| match spec {
            PartitionSpec::Stream(config) => Kind::Stream(Box::new(Partition::new(*config))),
            PartitionSpec::Queue(config) => {
                let mut config = *config;
                config.seed ^= mix(seed, resource, partition);
                Kind::Queue(Box::new(match born {
                    Some((now, wall)) => QueuePartition::new(config, now, wall),
                    None => QueuePartition::unopened(config),
                }))
            }
        })?;
        if retention != (None, None) {
            self.partitions[slot.index()].retention = retention;
            self.watch_retention();
        }
        Some(slot)
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
        self.open((resource, partition), None, |seed| {
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
        log: Option<LogId>,
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
            key,
            log,
            fenced: false,
            retention: (None, None),
            active: false,
            deadline: None,
            tail_bytes: 0,
            in_tails: false,
            told_first: Offset::ZERO,
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
            Kind::Stream(_) | Kind::Queue(_) => unreachable!("slot {slot:?} is no cache"),
        }
    }

    /// The queue partition at `slot`; it will be asked for deliveries at the
    /// end of the turn.
    ///
    /// # Panics
    /// When something else lies there: resources never change their kind.
    pub fn queue(&mut self, slot: Slot) -> &mut QueuePartition {
        self.touch(slot);
        match &mut self.partitions[slot.0 as usize].kind {
            Kind::Queue(queue) => queue,
            Kind::Stream(_) | Kind::Cache(_) => unreachable!("slot {slot:?} is no queue"),
        }
    }

    fn stream_untouched(&mut self, slot: Slot) -> &mut Partition {
        match &mut self.partitions[slot.0 as usize].kind {
            Kind::Stream(stream) => stream,
            Kind::Cache(_) | Kind::Queue(_) => unreachable!("slot {slot:?} is no stream"),
        }
    }

    pub(crate) fn touch(&mut self, slot: Slot) {
        let owned = &mut self.partitions[slot.0 as usize];
        if !owned.active {
            owned.active = true;
            self.active.push_back(slot);
        }
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

    /// Subscribes a connection to a stream partition.
    ///
    /// # Errors
    /// As [`Partition::subscribe`]; nothing changed.
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
    /// As [`CachePartition::watch`]; nothing changed.
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

    /// A partition has ended a subscription by itself.
    pub(crate) fn forget_subscriber(&mut self, key: usize) -> Subscriber {
        let to = self.subscribers.remove(key).to;
        if let Some(belongings) = self.sessions.get_mut(&to.session) {
            belongings.subscriptions.remove(&to.subscription);
        }
        to
    }

    /// Never reused: a wakeup of a waiter that is gone finds nobody.
    pub(crate) fn new_waiter(&mut self) -> u64 {
        let waiter = self.next_waiter;
        self.next_waiter += 1;
        waiter
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

    fn detach(&mut self, key: usize) -> (Subscriber, Offset) {
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
            self.waiting.insert(waiter, origin);
        }
        self.touch(slot);
        Ok(waits)
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
        self.waiting.retain(|waiter, origin| {
            let stays = origin.session != session;
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
    pub fn handle_timeout(&mut self, now: Monotonic, wall: WallMs) {
        self.logs_timeout(now, wall);
        while let Some(&(due, slot)) = self.deadlines.first() {
            if due > now {
                break;
            }
            self.deadlines.pop_first();
            if let Some(later) = self.timers_wait(now, slot) {
                self.deadlines.insert((later, slot));
                self.partitions[slot.index()].deadline = Some(later);
                continue;
            }
            let owned = &mut self.partitions[slot.0 as usize];
            owned.deadline = None;
            match &mut owned.kind {
                Kind::Stream(stream) => stream.handle_timeout(now),
                Kind::Cache(cache) => cache.handle_timeout(now),
                Kind::Queue(queue) => queue.handle_timeout(now, wall),
            }
            // `end_turn` finds its next deadline.
            self.touch(slot);
        }
    }

    /// When [`Shard::handle_timeout`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Monotonic> {
        let partitions = self.deadlines.first().map(|(due, _)| *due);
        [partitions, self.logs_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether another turn would bring more although nothing new came.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.active.is_empty() || !self.ready.is_empty() || self.logs_have_work()
    }

    /// Makes this turn's appends visible, as far as they are committed, and
    /// writes what timers changed. Deliveries follow from [`Shard::poll_output`],
    /// and [`Shard::finish_turn`] after them.
    pub fn end_turn(&mut self, now: Monotonic) {
        self.turn = self.active.len();
        for i in 0..self.turn {
            let slot = self.active[i];
            if let Kind::Stream(stream) = &mut self.partitions[slot.index()].kind {
                stream.seal();
            }
            self.take_ops(now, slot);
        }
    }

    /// The next thing for a connection, until `None` ends the turn.
    pub fn poll_output(&mut self, now: Monotonic, wall: WallMs) -> Option<ShardOutput> {
        if let Some(output) = self.ready.pop_front() {
            return Some(output);
        }
        while self.turn > 0 {
            let slot = *self.active.front().expect("`turn` counts its front part");
            if let Some(output) = self.poll_partition(now, wall, slot) {
                return Some(output);
            }
            self.turn -= 1;
            self.active.pop_front();
            self.take_ops(now, slot);
            self.take_reads(now, slot);
            self.settle(slot);
        }
        None
    }

    fn poll_partition(&mut self, now: Monotonic, wall: WallMs, slot: Slot) -> Option<ShardOutput> {
        if let Kind::Queue(_) = &self.partitions[slot.index()].kind {
            return self.poll_queue(now, wall, slot);
        }
        match &mut self.partitions[slot.0 as usize].kind {
            Kind::Stream(stream) => {
                let (key, delivery) = stream.poll_delivery()?;
                let key = usize::try_from(key.0).expect("a slab index");
                let to = match delivery {
                    Delivery::End { .. } => self.forget_subscriber(key),
                    Delivery::Records { .. } | Delivery::Lag(_) => self.subscribers[key].to,
                };
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
            Kind::Queue(_) => unreachable!("asked above"),
        }
    }

    /// Keeps the tails of durable streams within their budget: what is on the
    /// disk can be read again. The longest idle go first.
    fn count_tail(&mut self, slot: Slot) {
        let owned = &mut self.partitions[slot.index()];
        let (Kind::Stream(stream), Some(_)) = (&owned.kind, owned.log) else {
            return;
        };
        let bytes = stream.memory();
        self.tail_bytes = self.tail_bytes - owned.tail_bytes + bytes;
        owned.tail_bytes = bytes;
        if !owned.in_tails && bytes > 0 {
            owned.in_tails = true;
            self.tails.push_back(slot);
        }
        let mut left = self.tails.len();
        while self.tail_bytes > self.config.tail_bytes_max && left > 0 {
            left -= 1;
            let Some(idle) = self.tails.pop_front() else {
                return;
            };
            if idle == slot {
                // In use at this moment: the next one.
                self.tails.push_back(idle);
                continue;
            }
            let owned = &mut self.partitions[idle.index()];
            let Kind::Stream(stream) = &mut owned.kind else {
                continue;
            };
            stream.evict_committed(0);
            let bytes = stream.memory();
            self.tail_bytes = self.tail_bytes - owned.tail_bytes + bytes;
            owned.tail_bytes = bytes;
            if bytes > 0 {
                self.tails.push_back(idle);
            } else {
                owned.in_tails = false;
            }
        }
    }

    /// The partition has nothing more to say in this turn.
    fn settle(&mut self, slot: Slot) {
        self.tell_first(slot);
        self.count_tail(slot);
        let owned = &mut self.partitions[slot.0 as usize];
        let (deadline, more) = match &owned.kind {
            Kind::Stream(stream) => (stream.next_deadline(), stream.has_work()),
            Kind::Cache(cache) => (cache.next_deadline(), false),
            Kind::Queue(queue) => (queue.next_deadline(), queue.has_work()),
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

/// Randomness of one partition out of the shard's.
fn mix(seed: [u64; 2], resource: ResourceId, partition: PartitionId) -> u64 {
    let mut z = seed[0] ^ resource.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(partition.0);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31) ^ seed[1]
}
