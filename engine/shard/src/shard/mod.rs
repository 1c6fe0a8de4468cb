//! The partitions of one core and who hangs on them.

mod attached;
mod closing;
mod facts;
mod turn;

use std::collections::{BTreeSet, VecDeque};

use pinion_commitlog::LogId;
use pinion_domains::cache::{CacheConfig, CachePartition};
use pinion_domains::op::Op;
use pinion_domains::queue::{QueuePartition, Taken};
use pinion_domains::stream::Partition;
use pinion_types::{
    FixedMap, Monotonic, Offset, PartitionId, ResourceId, ResourceKind, SessionId, Version, WallMs,
};
use slab::Slab;

use crate::durable::{Logs, PartitionSpec};
use crate::output::ShardOutput;
use attached::Belongings;
pub(crate) use attached::{Attached, Waiting};
pub use closing::Standing;
pub use facts::{
    PartitionDetail, PartitionFacts, QueueFacts, Retired, StreamFacts, SubscriptionFacts,
};

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
    pub(crate) const fn resource(&self) -> ResourceKind {
        match self {
            Self::Stream(_) => ResourceKind::Stream,
            Self::Cache(_) => ResourceKind::Cache,
            Self::Queue(_) => ResourceKind::Queue,
        }
    }

    pub(crate) fn poll_op(&mut self) -> Option<Op> {
        match self {
            Self::Stream(stream) => stream.poll_op(),
            Self::Queue(queue) => queue.poll_op(),
            Self::Cache(_) => None,
        }
    }

    /// The offset or id of what comes next. A cache counts its changes itself.
    pub(crate) fn end(&self) -> u64 {
        match self {
            Self::Stream(stream) => stream.appended_end().0,
            Self::Queue(queue) => queue.queue_counts().next_id,
            Self::Cache(_) => 0,
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
    /// Whether it is served.
    pub(crate) standing: Standing,
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
    /// Its end when this life began: what came after is counted by the difference.
    pub(crate) begun: u64,
    /// Records given to subscriptions to a stream.
    out_records: u64,
    /// Bytes of them.
    out_bytes: u64,
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
    pub(crate) waiting: FixedMap<u64, Waiting>,
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
    retired: Retired,
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
            retired: Retired::default(),
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
        let retention = retention_of(spec);
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

    /// A resource of `shards` partitions is to be like `spec` from now on, as far as
    /// partitions at work can be changed: what they hold stays. Caches have nothing here
    /// that changes.
    pub fn change_resource(&mut self, resource: ResourceId, shards: u16, spec: &PartitionSpec) {
        let slots: Vec<Slot> = self.slots_of(resource, shards).collect();
        for slot in slots {
            let owned = &mut self.partitions[slot.index()];
            if !matches!(owned.standing, Standing::Served | Standing::Closed) {
                continue;
            }
            match (&mut owned.kind, spec) {
                (Kind::Stream(stream), PartitionSpec::Stream(config)) => {
                    stream.set_config(config);
                    owned.retention = retention_of(spec);
                }
                (Kind::Queue(queue), PartitionSpec::Queue(config)) => queue.set_config(*config),
                _ => continue,
            }
            if self.partitions[slot.index()].retention != (None, None) {
                self.watch_retention();
            }
            // `end_turn` finds its next deadline, and what may be delivered now.
            self.touch(slot);
        }
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
        let kind = make(self.config.seed);
        self.partitions.push(Owned {
            begun: kind.end(),
            out_records: 0,
            out_bytes: 0,
            kind,
            key,
            log,
            fenced: false,
            standing: Standing::Served,
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

    /// The cache partition at `slot`, to look at and not to change; `None` when
    /// something else lies there.
    #[must_use]
    pub fn cache_at(&self, slot: Slot) -> Option<&CachePartition> {
        match &self.partitions[slot.0 as usize].kind {
            Kind::Cache(cache) => Some(cache),
            Kind::Stream(_) | Kind::Queue(_) => None,
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
}

/// What the log keeps of a partition: longest age in milliseconds and most bytes.
fn retention_of(spec: &PartitionSpec) -> (Option<u64>, Option<u64>) {
    match spec {
        PartitionSpec::Stream(config) if config.durable => {
            (config.retention_ms, config.retention_bytes)
        }
        PartitionSpec::Stream(_) | PartitionSpec::Queue(_) => (None, None),
    }
}

/// Randomness of one partition out of the shard's.
fn mix(seed: [u64; 2], resource: ResourceId, partition: PartitionId) -> u64 {
    let mut z = seed[0] ^ resource.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(partition.0);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31) ^ seed[1]
}
