//! Which resource there is and which core owns each of its partitions.

use std::cmp::Reverse;
use std::sync::Arc;

use pinion_commitlog::LogId;
use pinion_types::limits::{RECORD_BYTES_MAX, SHARDS_MAX};
use pinion_types::{
    CoreId, Epoch, ErrorCode, FactId, FixedMap, PartitionId, Refusal, ResourceId, ResourceKind,
    ResourceName,
};
use pinion_wire::message::{Overflow, QueueSpec, Spec};

use crate::access::TenantId;
use crate::declared::Declared;

/// A stream, cache or queue as every core knows it; immutable. When its specification
/// changes there is another one of the same number.
#[derive(Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its number.
    pub id: ResourceId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Stream or cache.
    pub kind: ResourceKind,
    /// Its address.
    pub name: ResourceName,
    /// Its specification with every default filled in.
    pub spec: Spec,
    /// The log each partition belongs to, whether it writes there or not; as
    /// many as `spec.shards`. It stays when the number of cores changes.
    pub logs: Box<[LogId]>,
    /// Owner of each partition; as many as `spec.shards`.
    pub cores: Box<[CoreId]>,
}

impl Resource {
    /// Whether what it acknowledges survives a restart.
    #[must_use]
    pub const fn is_durable(&self) -> bool {
        self.spec.durability > 0
    }

    /// The log `partition` writes to; `None` for what lives in memory only.
    #[must_use]
    pub fn log(&self, partition: PartitionId) -> Option<LogId> {
        if self.is_durable() {
            self.logs.get(usize::from(partition.0)).copied()
        } else {
            None
        }
    }

    /// The core that owns `partition`, if there is such a partition.
    #[must_use]
    pub fn owner(&self, partition: PartitionId) -> Option<CoreId> {
        self.cores.get(usize::from(partition.0)).copied()
    }
}

/// The last map handed to a core. Each reply names the epoch it used.
#[derive(Debug, Default)]
pub struct ShardMap {
    epoch: Epoch,
    by_name: FixedMap<(TenantId, ResourceKind, ResourceName), Arc<Resource>>,
    by_id: FixedMap<ResourceId, Arc<Resource>>,
    /// Deleted, and not purged: nobody finds them.
    closed: FixedMap<ResourceId, Arc<Resource>>,
    /// The highest number it ever had.
    newest: ResourceId,
}

impl ShardMap {
    /// Version of the last change it has seen.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The resource at an address.
    #[must_use]
    pub fn find(
        &self,
        tenant: TenantId,
        kind: ResourceKind,
        name: &ResourceName,
    ) -> Option<&Arc<Resource>> {
        self.by_name.get(&(tenant, kind, name.clone()))
    }

    /// The resource of that number.
    #[must_use]
    pub fn by_id(&self, id: ResourceId) -> Option<&Arc<Resource>> {
        self.by_id.get(&id)
    }

    /// The resource of that number, also when it is deleted: until it is purged it has
    /// what it had.
    #[must_use]
    pub fn kept(&self, id: ResourceId) -> Option<&Arc<Resource>> {
        self.by_id.get(&id).or_else(|| self.closed.get(&id))
    }

    /// Whether requests about the resource are taken. One that is not there counts,
    /// unless it was: its declaration may be on its way.
    #[must_use]
    pub fn takes(&self, id: ResourceId) -> bool {
        self.by_id.contains_key(&id) || id > self.newest
    }

    /// Every resource that is deleted and not purged, in no order.
    pub fn closed(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.closed.values()
    }

    /// Resources that are not deleted.
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Every resource that is not deleted, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.by_name.values()
    }

    /// Takes one declared resource over, or one whose deletion was taken back.
    ///
    /// # Panics
    /// When the epoch goes back. One change may be about several resources.
    pub fn insert(&mut self, epoch: Epoch, resource: Arc<Resource>) {
        self.advance(epoch);
        let key = (resource.tenant, resource.kind, resource.name.clone());
        self.newest = self.newest.max(resource.id);
        self.closed.remove(&resource.id);
        self.by_id.insert(resource.id, Arc::clone(&resource));
        self.by_name.insert(key, resource);
    }

    /// A resource is like this from now on, deleted or not. False when there is none of
    /// that number.
    ///
    /// # Panics
    /// When the epoch goes back.
    pub fn change(&mut self, epoch: Epoch, resource: Arc<Resource>) -> bool {
        self.advance(epoch);
        if let Some(closed) = self.closed.get_mut(&resource.id) {
            *closed = resource;
            return true;
        }
        let known = self.by_id.contains_key(&resource.id);
        if known {
            self.insert(epoch, resource);
        }
        known
    }

    /// A resource is deleted; it is kept among the closed ones. `None` when there is
    /// none of that number.
    ///
    /// # Panics
    /// When the epoch goes back.
    pub fn remove(&mut self, epoch: Epoch, id: ResourceId) -> Option<Arc<Resource>> {
        self.advance(epoch);
        let resource = self.take(id)?;
        self.closed.insert(id, Arc::clone(&resource));
        Some(resource)
    }

    /// A resource is purged. `None` when there is none of that number, closed or not.
    ///
    /// # Panics
    /// When the epoch goes back.
    pub fn purge(&mut self, epoch: Epoch, id: ResourceId) -> Option<Arc<Resource>> {
        self.advance(epoch);
        self.newest = self.newest.max(id);
        self.take(id).or_else(|| self.closed.remove(&id))
    }

    fn take(&mut self, id: ResourceId) -> Option<Arc<Resource>> {
        let resource = self.by_id.remove(&id)?;
        let key = (resource.tenant, resource.kind, resource.name.clone());
        // The name may be another's by now.
        if self.by_name.get(&key).is_some_and(|named| named.id == id) {
            self.by_name.remove(&key);
        }
        Some(resource)
    }

    fn advance(&mut self, epoch: Epoch) {
        assert!(epoch >= self.epoch, "{epoch} after {}", self.epoch);
        self.epoch = epoch;
    }
}

/// What a resource gets where its specification says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecDefaults {
    /// Partitions of a stream.
    pub stream_shards: u16,
    /// Bytes of each stream partition's ring.
    pub stream_ring_bytes: u64,
    /// Bytes of the newest records each partition of a durable stream keeps in
    /// memory while it is busy.
    pub stream_tail_bytes: u64,
    /// Bytes of messages each partition of a queue keeps in memory.
    pub queue_memory_bytes: u64,
    /// Byte budget of a whole cache, divided among its partitions.
    pub cache_bytes: u64,
}

impl Default for SpecDefaults {
    fn default() -> Self {
        Self {
            stream_shards: 4,
            stream_ring_bytes: 16 << 20,
            stream_tail_bytes: 4 << 20,
            queue_memory_bytes: 64 << 20,
            cache_bytes: 256 << 20,
        }
    }
}

/// Resources one node may have. Each costs every core a map entry.
pub const RESOURCES_MAX: usize = 131_072;

/// What a partition counts that keeps its data in a log: its table entries and
/// a small tail. Tails that are busy share a budget of their core.
const DURABLE_PARTITION_BYTES: u64 = 4 << 10;

/// Smallest ring: below this a single large record would push everything else out.
const RING_BYTES_MIN: u64 = 64 << 10;

/// Smallest partition of a kind. A cache raises less to this by itself, and
/// what it then uses would not have been counted.
const fn partition_bytes_min(kind: ResourceKind) -> u64 {
    match kind {
        ResourceKind::Stream | ResourceKind::Queue => RING_BYTES_MIN,
        ResourceKind::Cache => pinion_domains::cache::BUDGET_BYTES_MIN,
    }
}

/// Decides what a node can take and where on it that lives, and knows what
/// there is. Owned by the control thread; a pure state machine.
///
/// Who decides for a whole cluster asks [`Directory::admit`], and says what
/// came of it with [`Directory::settle`]. Where nobody else decides,
/// [`Directory::declare`] does both.
#[derive(Debug)]
pub struct Directory {
    map: ShardMap,
    data_cores: u16,
    logs: u16,
    memory_per_core: u64,
    committed: Box<[u64]>,
    defaults: SpecDefaults,
    /// What the next resource's place goes by; its number, when it is given here.
    next_id: u64,
    /// Admitted and not settled.
    drafts: usize,
}

/// What [`Directory::admit`] found.
#[derive(Debug)]
pub enum Admitted {
    /// The resource is there, and like this.
    Exists(Arc<Resource>),
    /// It is not; this is what it would be. The node has put aside what it takes,
    /// until it is settled.
    New(Draft),
}

/// A resource that is to be: everything but its number.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "what it takes is put aside until it is settled"]
pub struct Draft {
    /// Whose it is.
    pub tenant: TenantId,
    /// What it is.
    pub kind: ResourceKind,
    /// Its address.
    pub name: ResourceName,
    /// Its specification, complete.
    pub spec: Spec,
    /// The log of each partition.
    pub logs: Box<[LogId]>,
}

/// A core that has promised more memory than it has. It serves on, and nothing more is
/// admitted there until enough of it is purged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overfull {
    /// Which core.
    pub core: CoreId,
    /// Bytes that it has promised.
    pub promised: u64,
    /// Bytes that it may promise.
    pub memory: u64,
    /// What was promised most of them.
    pub largest: Arc<Resource>,
    /// How many that is.
    pub asked: u64,
}

impl Directory {
    /// An empty directory of a node with `data_cores` cores that may promise
    /// `memory_per_core` bytes of rings and caches each.
    ///
    /// # Panics
    /// With no data core.
    #[must_use]
    pub fn new(data_cores: u16, memory_per_core: u64, defaults: SpecDefaults) -> Self {
        assert!(data_cores > 0, "a node has a data core");
        Self {
            map: ShardMap::default(),
            data_cores,
            logs: data_cores,
            memory_per_core,
            committed: vec![0; usize::from(data_cores)].into(),
            defaults,
            next_id: 1,
            drafts: 0,
        }
    }

    /// The same over `logs` logs, when an earlier life of the node had more
    /// cores than this one. Log `l` belongs to core `l mod data_cores`.
    ///
    /// # Panics
    /// With fewer logs than cores: a core without a log takes nothing durable.
    #[must_use]
    pub fn with_logs(mut self, logs: u16) -> Self {
        assert!(logs >= self.data_cores, "each core has a log");
        self.logs = logs;
        self
    }

    /// Takes back what an earlier life declared, before anything new is; also what no
    /// longer fits, because a node that does not start serves nobody. Memory is used as
    /// data comes, not as it is promised. See [`Directory::overfull`].
    pub fn restore(&mut self, declared: Declared) -> Arc<Resource> {
        let epoch = Epoch(self.map.epoch.0 + 1);
        self.insert(epoch, declared)
    }

    /// The cores that have promised more than they have, in their order, each with what
    /// has the most of it. Looks at every resource when there is such a core.
    #[must_use]
    pub fn overfull(&self) -> Vec<Overfull> {
        let over = |(core, promised): (u16, &u64)| {
            (*promised > self.memory_per_core).then(|| self.overfull_core(CoreId(core)))
        };
        let found: Vec<_> = (0..).zip(&self.committed).filter_map(over).collect();
        found.into_iter().flatten().collect()
    }

    fn overfull_core(&self, core: CoreId) -> Option<Overfull> {
        let asked = |resource: &Arc<Resource>| {
            let here = resource.cores.iter().filter(|one| **one == core).count() as u64;
            memory_of(resource.kind, &resource.spec).saturating_mul(here)
        };
        let all = self.map.iter().chain(self.map.closed());
        // Of equal ones the oldest.
        let largest = all.max_by_key(|resource| (asked(resource), Reverse(resource.id)))?;
        Some(Overfull {
            core,
            promised: self.committed[usize::from(core.0)],
            memory: self.memory_per_core,
            asked: asked(largest),
            largest: Arc::clone(largest),
        })
    }

    /// Takes in what was decided elsewhere, also what is more than the node may
    /// promise: then nothing more is admitted. `epoch` is above the map's.
    pub fn insert(&mut self, epoch: Epoch, declared: Declared) -> Arc<Resource> {
        self.committed = self.load_with(&declared.logs, declared.kind, &declared.spec);
        let cores = declared.logs.iter().map(|log| self.core_of(*log)).collect();
        let resource = Arc::new(Resource {
            id: declared.id,
            tenant: declared.tenant,
            kind: declared.kind,
            name: declared.name,
            spec: declared.spec,
            logs: declared.logs,
            cores,
        });
        self.next_id = self.next_id.max(declared.id.0 + 1);
        self.map.insert(epoch, Arc::clone(&resource));
        resource
    }

    /// The specification of a resource was changed elsewhere, deleted or not. Gives what
    /// it is now, unless there is none of that number or it was like that before.
    pub fn change(&mut self, epoch: Epoch, id: ResourceId, spec: Spec) -> Option<Arc<Resource>> {
        let known = self.map.kept(id)?;
        if known.spec == spec {
            return None;
        }
        let known = Arc::clone(known);
        self.release(known.kind, &known.spec, &known.logs);
        self.committed = self.load_with(&known.logs, known.kind, &spec);
        let resource = Arc::new(Resource {
            id,
            tenant: known.tenant,
            kind: known.kind,
            name: known.name.clone(),
            spec,
            logs: known.logs.clone(),
            cores: known.cores.clone(),
        });
        self.map.change(epoch, Arc::clone(&resource));
        Some(resource)
    }

    /// A resource is deleted; what it takes stays put aside, because the deletion may
    /// be taken back. Gives it, unless there is none of that number.
    pub fn close(&mut self, epoch: Epoch, id: ResourceId) -> Option<Arc<Resource>> {
        self.map.remove(epoch, id)
    }

    /// The deletion of a resource was taken back. Gives it, unless none of that number
    /// is closed.
    pub fn reopen(&mut self, epoch: Epoch, id: ResourceId) -> Option<Arc<Resource>> {
        let resource = Arc::clone(self.map.closed.get(&id)?);
        self.map.insert(epoch, Arc::clone(&resource));
        Some(resource)
    }

    /// A resource is gone for good, and what it took is free.
    pub fn purge(&mut self, epoch: Epoch, id: ResourceId) {
        if let Some(resource) = self.map.purge(epoch, id) {
            self.release(resource.kind, &resource.spec, &resource.logs);
        }
    }

    /// What became of a draft is known, and in the map if it was made: what was put
    /// aside for it is free.
    pub fn settle(&mut self, draft: &Draft) {
        self.release(draft.kind, &draft.spec, &draft.logs);
        self.drafts -= 1;
    }

    fn release(&mut self, kind: ResourceKind, spec: &Spec, logs: &[LogId]) {
        let bytes = memory_of(kind, spec);
        for log in logs {
            let core = usize::from(self.core_of(*log).0);
            self.committed[core] = self.committed[core].saturating_sub(bytes);
        }
    }

    fn core_of(&self, log: LogId) -> CoreId {
        CoreId(log.0 % self.data_cores)
    }

    /// The map as it stands.
    #[must_use]
    pub fn map(&self) -> &ShardMap {
        &self.map
    }

    /// Finds or creates a resource. The flag says whether it is new, in which
    /// case every core must be told.
    ///
    /// # Errors
    /// As [`Directory::admit`].
    pub fn declare(
        &mut self,
        tenant: TenantId,
        kind: ResourceKind,
        name: &ResourceName,
        spec: Option<Spec>,
    ) -> Result<(Arc<Resource>, bool), Refusal> {
        let id = ResourceId(self.next_id);
        let draft = match self.admit(tenant, kind, name, spec)? {
            Admitted::Exists(resource) => return Ok((resource, false)),
            Admitted::New(draft) => draft,
        };
        self.settle(&draft);
        let declared = Declared {
            id,
            tenant,
            kind,
            name: draft.name,
            spec: draft.spec,
            logs: draft.logs,
        };
        let epoch = Epoch(self.map.epoch.0 + 1);
        Ok((self.insert(epoch, declared), true))
    }

    /// Finds a resource, or says what it would be and puts aside what that takes.
    ///
    /// # Errors
    /// `SpecConflict` when it exists otherwise; `Unsupported` for durability
    /// this node has not; `BadArgument` out of range; `LimitReached` when the
    /// node has no room for it. Nothing changed.
    pub fn admit(
        &mut self,
        tenant: TenantId,
        kind: ResourceKind,
        name: &ResourceName,
        spec: Option<Spec>,
    ) -> Result<Admitted, Refusal> {
        let wanted = spec.map(|spec| self.complete(kind, spec)).transpose()?;
        if let Some(existing) = self.map.find(tenant, kind, name) {
            return match wanted {
                Some(wanted) if wanted != existing.spec => Err(ErrorCode::SpecConflict.into()),
                _ => Ok(Admitted::Exists(Arc::clone(existing))),
            };
        }
        let spec = match wanted {
            Some(spec) => spec,
            None => {
                // Work that somebody handed over is not lost unless asked for.
                let durability = u8::from(kind == ResourceKind::Queue);
                let spec = Spec {
                    durability,
                    ..EMPTY_SPEC
                };
                self.complete(kind, spec)?
            }
        };
        if self.map.by_name.len() + self.drafts >= RESOURCES_MAX {
            return Err(
                Refusal::new(ErrorCode::LimitReached).with(FactId::Limit, RESOURCES_MAX as u64)
            );
        }
        let logs = self.place(&spec);
        let load = self.load_with(&logs, kind, &spec);
        self.check_load(&load)?;
        self.committed = load;
        self.next_id += 1;
        self.drafts += 1;
        Ok(Admitted::New(Draft {
            tenant,
            kind,
            name: name.clone(),
            spec,
            logs,
        }))
    }

    /// Partitions go round the logs, starting one further for each resource,
    /// so that many resources of one shard spread as well as one of many.
    fn place(&self, spec: &Spec) -> Box<[LogId]> {
        (0..u64::from(spec.shards))
            .map(|partition| {
                let log = (self.next_id + partition) % u64::from(self.logs);
                LogId(u16::try_from(log).expect("a remainder of a u16"))
            })
            .collect()
    }

    /// Bytes promised on each core with one more resource.
    fn load_with(&self, logs: &[LogId], kind: ResourceKind, spec: &Spec) -> Box<[u64]> {
        let each = memory_of(kind, spec);
        let mut load = self.committed.clone();
        for log in logs {
            let bytes = &mut load[usize::from(self.core_of(*log).0)];
            *bytes = bytes.saturating_add(each);
        }
        load
    }

    /// Refused where a core would promise more than it has, and more than before.
    fn check_load(&self, load: &[u64]) -> Result<(), Refusal> {
        for (core, (bytes, before)) in load.iter().zip(&self.committed).enumerate() {
            if *bytes > self.memory_per_core && bytes > before {
                return Err(Refusal::new(ErrorCode::LimitReached)
                    .with(FactId::Limit, self.memory_per_core)
                    .with(FactId::Core, core as u64));
            }
        }
        Ok(())
    }

    /// A specification with every default of this node filled in, and nothing in
    /// fields that say nothing of its kind.
    ///
    /// # Errors
    /// `Unsupported`, `BadArgument`.
    pub fn complete(&self, kind: ResourceKind, mut spec: Spec) -> Result<Spec, Refusal> {
        if spec.durability != 0 && kind == ResourceKind::Cache {
            return Err(Refusal::new(ErrorCode::Unsupported)
                .with(FactId::Actual, u64::from(spec.durability)));
        }
        if spec.shards == 0 {
            spec.shards = match kind {
                ResourceKind::Stream => self.defaults.stream_shards,
                // One each, so that work is found with one question per core.
                ResourceKind::Cache | ResourceKind::Queue => self.data_cores,
            };
        }
        if spec.shards > SHARDS_MAX {
            return Err(out_of_range(u64::from(spec.shards), u64::from(SHARDS_MAX)));
        }
        if spec.ring_bytes == 0 {
            spec.ring_bytes = match kind {
                ResourceKind::Stream if spec.durability > 0 => self.defaults.stream_tail_bytes,
                ResourceKind::Stream => self.defaults.stream_ring_bytes,
                ResourceKind::Queue => self.defaults.queue_memory_bytes,
                ResourceKind::Cache => self.defaults.cache_bytes / u64::from(spec.shards),
            }
            .max(partition_bytes_min(kind));
        }
        let min = partition_bytes_min(kind);
        if spec.ring_bytes < min {
            return Err(Refusal::new(ErrorCode::BadArgument).with(FactId::Min, min));
        }
        if spec.max_record_bytes == 0 {
            spec.max_record_bytes = RECORD_BYTES_MAX;
        }
        if spec.max_record_bytes > RECORD_BYTES_MAX {
            return Err(out_of_range(
                u64::from(spec.max_record_bytes),
                u64::from(RECORD_BYTES_MAX),
            ));
        }
        match kind {
            ResourceKind::Queue => complete_queue(&mut spec)?,
            ResourceKind::Stream => spec.queue = QueueSpec::UNSET,
            ResourceKind::Cache => {
                spec.queue = QueueSpec::UNSET;
                (spec.retention_ms, spec.retention_bytes) = (0, 0);
            }
        }
        Ok(spec)
    }
}

/// Fills in what a queue's specification leaves open.
fn complete_queue(spec: &mut Spec) -> Result<(), Refusal> {
    let or = |value: &mut u32, default: u32| {
        if *value == 0 {
            *value = default;
        }
    };
    let queue = &mut spec.queue;
    or(&mut queue.visibility_ms, 30_000);
    if queue.max_attempts == 0 {
        queue.max_attempts = 5;
    }
    or(&mut queue.max_in_flight, 65_536);
    or(&mut queue.consumer_in_flight, 4_096);
    or(&mut queue.backoff_min_ms, 100);
    or(&mut queue.backoff_max_ms, 60_000);
    or(&mut queue.messages_max, 1_000_000);
    or(&mut queue.redeliveries_per_s, 10_000);
    if queue.backoff_min_ms > queue.backoff_max_ms {
        return Err(out_of_range(
            u64::from(queue.backoff_min_ms),
            u64::from(queue.backoff_max_ms),
        ));
    }
    if spec.retention_bytes == 0 {
        // A queue in memory holds what its memory holds.
        spec.retention_bytes = if spec.durability > 0 {
            QUEUE_BYTES_DEFAULT
        } else {
            spec.ring_bytes
        };
    }
    Ok(())
}

/// Bytes of messages a partition of a durable queue holds before a put is
/// refused. More lets a queue whose consumers are gone fill more of the disk.
const QUEUE_BYTES_DEFAULT: u64 = 1 << 30;

/// Bytes of memory one partition of a resource may promise; the metadata counts the same.
#[must_use]
pub fn memory_of(kind: ResourceKind, spec: &Spec) -> u64 {
    match kind {
        // The log has the rest.
        ResourceKind::Stream if spec.durability > 0 => DURABLE_PARTITION_BYTES,
        ResourceKind::Stream | ResourceKind::Cache | ResourceKind::Queue => spec.ring_bytes,
    }
}

/// A specification that leaves everything to the node.
pub const EMPTY_SPEC: Spec = Spec {
    shards: 0,
    durability: 0,
    overflow: Overflow::DropOldest,
    max_record_bytes: 0,
    ring_bytes: 0,
    retention_ms: 0,
    retention_bytes: 0,
    queue: QueueSpec::UNSET,
};

fn out_of_range(actual: u64, max: u64) -> Refusal {
    Refusal::new(ErrorCode::BadArgument)
        .with(FactId::Actual, actual)
        .with(FactId::Max, max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ResourceName {
        ResourceName::parse(text).expect("name")
    }

    fn directory(memory_per_core: u64) -> Directory {
        Directory::new(2, memory_per_core, SpecDefaults::default())
    }

    #[test]
    fn the_same_address_is_the_same_resource_and_tenants_never_meet() {
        let mut directory = directory(u64::MAX);
        let tenant = TenantId(1);
        let (first, new) = directory
            .declare(tenant, ResourceKind::Stream, &name("a/b"), None)
            .expect("room");
        assert!(new);
        let (again, new) = directory
            .declare(tenant, ResourceKind::Stream, &name("a/b"), None)
            .expect("exists");
        assert!(!new && again.id == first.id);
        assert_eq!(directory.map().epoch(), Epoch(1));
        let (other, new) = directory
            .declare(TenantId(2), ResourceKind::Stream, &name("a/b"), None)
            .expect("room");
        assert!(new && other.id != first.id);
        let (cache, _) = directory
            .declare(tenant, ResourceKind::Cache, &name("a/b"), None)
            .expect("room");
        assert_eq!(cache.spec.shards, 2, "a cache has a shard per core");
    }

    #[test]
    fn what_no_longer_fits_is_taken_back_and_named() {
        let declared = |id, shards, ring_bytes| Declared {
            id: ResourceId(id),
            tenant: TenantId(1),
            kind: ResourceKind::Stream,
            name: name(&format!("n/s{id}")),
            spec: Spec {
                shards,
                ring_bytes,
                ..EMPTY_SPEC
            },
            // Over both cores, from the first on.
            logs: (0..shards).map(|at| LogId(at % 2)).collect(),
        };
        let mut directory = directory(32 << 20);
        directory.restore(declared(1, 2, 20 << 20));
        assert_eq!(directory.overfull(), []);
        let huge = directory.restore(declared(2, 1, 1 << 44));
        directory.restore(declared(3, 2, 1 << 20));
        assert_eq!(directory.map().len(), 3, "all of it is served");
        let named = [Overfull {
            core: CoreId(0),
            promised: (21 << 20) + (1 << 44),
            memory: 32 << 20,
            largest: huge,
            asked: 1 << 44,
        }];
        assert_eq!(directory.overfull(), named);

        // Nothing more is admitted there, and elsewhere something is.
        let two = Spec {
            shards: 2,
            ring_bytes: 1 << 20,
            ..EMPTY_SPEC
        };
        let stream = ResourceKind::Stream;
        let full = directory.declare(TenantId(1), stream, &name("n/x"), Some(two));
        assert_eq!(full.expect_err("over").code, ErrorCode::LimitReached);
        let one = Spec { shards: 1, ..two };
        directory.next_id = 1;
        directory
            .declare(TenantId(1), stream, &name("n/y"), Some(one))
            .expect("room on the other core");

        // What is deleted may come back, and counts until it is purged.
        let epoch = Epoch(9);
        directory.close(epoch, ResourceId(2));
        assert_eq!(directory.overfull(), named);
        directory.purge(epoch, ResourceId(2));
        assert_eq!(directory.overfull(), []);
        directory
            .declare(TenantId(1), stream, &name("n/x"), Some(two))
            .expect("room");
    }

    #[test]
    fn partitions_spread_over_the_cores() {
        let mut directory = directory(u64::MAX);
        let mut per_core = [0; 2];
        for i in 0..10 {
            let spec = Spec {
                shards: 1,
                ..EMPTY_SPEC
            };
            let (resource, _) = directory
                .declare(
                    TenantId(1),
                    ResourceKind::Stream,
                    &name(&format!("n/s{i}")),
                    Some(spec),
                )
                .expect("room");
            per_core[usize::from(resource.owner(PartitionId(0)).expect("exists").0)] += 1;
            assert_eq!(resource.owner(PartitionId(1)), None);
        }
        assert_eq!(per_core, [5, 5]);
    }

    #[test]
    fn a_cache_is_counted_with_what_it_really_takes() {
        let mut directory = directory(u64::MAX);
        let small = Spec {
            shards: 1,
            ring_bytes: 64 << 10,
            ..EMPTY_SPEC
        };
        let mut declare = |kind| {
            directory
                .declare(TenantId(1), kind, &name("a/b"), Some(small))
                .map(|(resource, _)| resource.spec.ring_bytes)
        };
        assert_eq!(declare(ResourceKind::Stream), Ok(64 << 10));
        let refusal = declare(ResourceKind::Cache).expect_err("too small");
        assert_eq!(refusal.fact(FactId::Min), Some(128 << 10));
    }

    #[test]
    fn what_cannot_be_given_is_refused_and_changes_nothing() {
        let mut directory = directory(32 << 20);
        let durable = Spec {
            durability: 1,
            ..EMPTY_SPEC
        };
        let cache = directory.declare(
            TenantId(1),
            ResourceKind::Cache,
            &name("a/b"),
            Some(durable),
        );
        assert_eq!(cache.expect_err("no log").code, ErrorCode::Unsupported);
        let mut refused = |spec: Spec| {
            directory
                .declare(TenantId(1), ResourceKind::Stream, &name("a/b"), Some(spec))
                .expect_err("refused")
                .code
        };
        let wide = Spec {
            shards: 2000,
            ..EMPTY_SPEC
        };
        assert_eq!(refused(wide), ErrorCode::BadArgument);
        let huge = Spec {
            ring_bytes: 1 << 30,
            ..EMPTY_SPEC
        };
        assert_eq!(refused(huge), ErrorCode::LimitReached);
        let tiny = Spec {
            ring_bytes: 1,
            ..EMPTY_SPEC
        };
        assert_eq!(refused(tiny), ErrorCode::BadArgument);
        assert_eq!(directory.map().epoch(), Epoch(0));

        let two = Spec {
            shards: 2,
            ring_bytes: 20 << 20,
            ..EMPTY_SPEC
        };
        let stream = ResourceKind::Stream;
        let draft = match directory.admit(TenantId(1), stream, &name("a/d"), Some(two)) {
            Ok(Admitted::New(draft)) => draft,
            other => panic!("20 of 32 MiB on each core: {other:?}"),
        };
        let full = directory.declare(TenantId(1), stream, &name("a/b"), Some(two));
        assert_eq!(full.expect_err("put aside").code, ErrorCode::LimitReached);
        directory.settle(&draft);
        directory
            .declare(TenantId(1), stream, &name("a/b"), Some(two))
            .expect("20 of 32 MiB on each core");
        let full = directory.declare(TenantId(1), stream, &name("a/c"), Some(two));
        assert_eq!(full.expect_err("40 of 32").code, ErrorCode::LimitReached);
        let other = Spec {
            shards: 1,
            ..EMPTY_SPEC
        };
        let conflict = directory.declare(TenantId(1), stream, &name("a/b"), Some(other));
        assert_eq!(
            conflict.expect_err("2 shards").code,
            ErrorCode::SpecConflict
        );
    }
}
