//! The state and how a command changes it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pinion_types::{ResourceId, WallMs};
use xxhash_rust::xxh64::xxh64;

use crate::apply::{self, Made};
use crate::broker::Broker;
use crate::command::Envelope;
use crate::draft::{Draft, Staged};
use crate::error::MetaError;
use crate::format;
use crate::ids::{BrokerNumber, MemberNumber, MetaVersion, RowId, TenantNumber};
use crate::invariants::{self, Broken};
use crate::limits::{PRINCIPAL_BYTES_MAX, STATE_BYTES_MAX};
use crate::member::Member;
use crate::name;
use crate::object::{Body, Meta, Object, ObjectKey};
use crate::place::Board;
use crate::requests::{Requests, Row};
use crate::resource::{Move, ResourceSpec, Seat, Strategy};
use crate::settings::Settings;
use crate::tenant::{DEFAULT_TENANT, DEFAULT_TENANT_NUMBER, Tenant, TenantQuotas};
use crate::usage::{Scope, Usage, charges};
use crate::watch::{Changes, History, ResnapshotRequired};

/// Numbers to give out next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) tenant: TenantNumber,
    pub(crate) resource: ResourceId,
    pub(crate) broker: BrokerNumber,
    pub(crate) row: RowId,
    pub(crate) member: MemberNumber,
    /// Resources from before there was metadata are taken over up to here; 0: none ever.
    pub(crate) imported: ResourceId,
}

/// An object and what it adds to the whole.
#[derive(Clone, Debug)]
struct Entry {
    object: Arc<Object>,
    /// Hash of its archive.
    digest: u64,
    /// Bytes of its archive.
    bytes: u64,
}

impl Entry {
    fn new(object: Object) -> Self {
        let archive = format::object_archive(&object);
        Self {
            object: Arc::new(object),
            digest: xxh64(&archive, 0),
            bytes: archive.len() as u64,
        }
    }
}

/// When there is something to do about an object. Keys in reverse: resources
/// before namespaces before tenants.
type Due = (WallMs, Reverse<ObjectKey>);

fn due(object: &Object) -> Option<Due> {
    let at = match &object.body {
        Body::SigningKeys(keys) => keys.due()?,
        Body::Revocation(_) => return None,
        _ => object.meta.deleting?.purge_at,
    };
    Some((at, Reverse(object.meta.key.clone())))
}

/// When a revocation is about no token any more.
fn spent(object: &Object) -> Option<(WallMs, ObjectKey)> {
    match &object.body {
        Body::Revocation(revocation) => Some((revocation.until, object.meta.key.clone())),
        _ => None,
    }
}

/// What a leader is to do by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Duty {
    /// Propose [`Command::Purge`](crate::Command::Purge) of this.
    Purge(ObjectKey),
    /// Make a key and propose [`Command::RotateKeys`](crate::Command::RotateKeys).
    RotateKeys {
        /// Whose keys.
        tenant: Box<str>,
        /// The last change of them: to be expected, so that two leaders in a row
        /// do not rotate twice.
        version: MetaVersion,
    },
}

/// What the cluster knows. Owned by one thread; readers get [`Arc`]s of objects.
#[derive(Clone, Debug)]
pub struct Metadata {
    cluster: [u8; 16],
    version: MetaVersion,
    index: u64,
    stamp: WallMs,
    counters: Counters,
    objects: BTreeMap<ObjectKey, Entry>,
    requests: Requests,
    /// Of this replica alone: how it came here, as far as it remembers.
    history: History,
    /// Derived from the objects: what is used in each scope that has anything.
    usage: BTreeMap<Scope, Usage>,
    /// Derived: the key of each broker.
    brokers: BTreeMap<BrokerNumber, ObjectKey>,
    /// Derived: when each deleted object may be purged; what is in an object
    /// comes before it.
    due: BTreeSet<Due>,
    /// Derived: when each revocation may be purged. Apart, because a leader goes by
    /// another clock there.
    spent: BTreeSet<(WallMs, ObjectKey)>,
    /// Derived: sum of the hashes of all objects.
    digest: u64,
    /// Derived: sum of the bytes of all objects.
    bytes: u64,
}

/// What became of one envelope.
#[derive(Clone, Debug)]
pub struct Applied {
    /// Version of the metadata afterwards; of a duplicate, the one that the
    /// first left.
    pub version: MetaVersion,
    /// What the proposer is told. Refused: nothing was changed.
    pub result: Result<Outcome, MetaError>,
    /// What changed, in the order of versions, which are dense.
    pub changes: Arc<[Change]>,
    /// The request had been done before; nothing was done now.
    pub duplicate: bool,
    /// A contradiction in what was changed: a bug, here or where the state came
    /// from. Nothing more must be applied.
    pub broken: Option<Broken>,
}

/// What a command gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing to tell.
    None,
    /// The object that it was about, as it is now.
    Object(Arc<Object>),
    /// The policies or groupings that it added or found, one for each that it
    /// names. A repeat of the request is told nothing.
    Rows(Box<[RowId]>),
}

/// One change of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The version it made.
    pub version: MetaVersion,
    /// What happened to the object.
    pub kind: ChangeKind,
    /// Which object.
    pub key: ObjectKey,
    /// The object as it is now; `None` when it is gone.
    pub object: Option<Arc<Object>>,
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It was not there before.
    Create,
    /// It is another than before.
    Update,
    /// It is not there any more.
    Delete,
}

impl Metadata {
    /// The state before the first command: the tenant `default`, at version 0.
    #[must_use]
    pub fn genesis(cluster: [u8; 16]) -> Self {
        let tenant = first(
            ObjectKey::tenant(DEFAULT_TENANT),
            Body::Tenant(Tenant {
                number: DEFAULT_TENANT_NUMBER,
                display_name: Box::default(),
                description: Box::default(),
                quotas: TenantQuotas::default(),
                encryption: None,
            }),
        );
        Self::assemble(Self::first_head(cluster), [tenant], [])
    }

    pub(crate) fn first_head(cluster: [u8; 16]) -> Head {
        Head {
            cluster,
            version: MetaVersion(0),
            index: 0,
            stamp: WallMs(0),
            counters: Counters {
                tenant: TenantNumber(DEFAULT_TENANT_NUMBER.0 + 1),
                resource: ResourceId(1),
                broker: BrokerNumber(1),
                row: RowId(1),
                member: MemberNumber(1),
                imported: ResourceId(0),
            },
        }
    }

    /// A state of these objects, unchecked; what is derived is derived here.
    pub(crate) fn assemble(
        head: Head,
        objects: impl IntoIterator<Item = Object>,
        rows: impl IntoIterator<Item = Row>,
    ) -> Self {
        let mut state = Self {
            cluster: head.cluster,
            version: head.version,
            index: head.index,
            stamp: head.stamp,
            counters: head.counters,
            objects: BTreeMap::new(),
            requests: Requests::default(),
            history: History::from(head.version),
            usage: BTreeMap::new(),
            brokers: BTreeMap::new(),
            due: BTreeSet::new(),
            spent: BTreeSet::new(),
            digest: 0,
            bytes: 0,
        };
        for object in objects {
            // Keys of resources are before those of placements.
            let find = |key: &ObjectKey| state.get(key).map(|object| &**object);
            for (scope, usage) in charges(&object, find) {
                state.usage.entry(scope).or_default().add(usage);
            }
            state.put(Entry::new(object));
        }
        for row in rows {
            state.requests.remember(row);
        }
        state
    }

    /// Applies the entry at `index` of the replicated log.
    ///
    /// # Panics
    /// When `index` is not above the last one: entries are applied in order, once.
    pub fn apply(&mut self, index: u64, envelope: &Envelope) -> Applied {
        assert!(
            index > self.index,
            "entries are applied in order: {index} after {}",
            self.index
        );
        self.index = index;
        // The leader promises times that do not go back; a leader whose clock
        // does must not make them.
        self.stamp = self.stamp.max(envelope.stamp);
        if let Some(row) = self.requests.find(envelope.request, &envelope.principal) {
            return Applied {
                version: row.version,
                result: Ok(self.outcome(row.key.as_ref())),
                changes: Arc::new([]),
                duplicate: true,
                broken: None,
            };
        }
        let (result, changes) = match self.decide(envelope) {
            Ok((made, staged)) => {
                let changes = self.commit(staged);
                let (key, outcome) = match made {
                    Made::Nothing => (None, Outcome::None),
                    Made::Object(key) => {
                        let outcome = self.outcome(Some(&key));
                        (Some(key), outcome)
                    }
                    Made::Rows(ids) => (None, Outcome::Rows(ids)),
                };
                if envelope.request != 0 {
                    self.requests.remember(Row {
                        request: envelope.request,
                        principal: envelope.principal.clone(),
                        index,
                        version: self.version,
                        key,
                    });
                }
                (Ok(outcome), changes)
            }
            Err(error) => (Err(error), Vec::new()),
        };
        let touched = changes.iter().map(|change: &Change| &change.key);
        let broken = invariants::check_touched(self, touched).err();
        Applied {
            version: self.version,
            result,
            changes: changes.into(),
            duplicate: false,
            broken,
        }
    }

    /// What the command would do, without doing it.
    fn decide(&self, envelope: &Envelope) -> Result<(Made, Prepared), MetaError> {
        name::text("principal", &envelope.principal, PRINCIPAL_BYTES_MAX)?;
        let mut draft = Draft::new(self, self.stamp);
        apply::check_expect(&draft, envelope.expect, &envelope.command)?;
        let made = apply::run(&mut draft, &envelope.command)?;
        let prepared = self.prepare(draft.finish())?;
        Ok((made, prepared))
    }

    /// Gives versions, and sees that a snapshot can still be made afterwards.
    fn prepare(&self, staged: Staged) -> Result<Prepared, MetaError> {
        let (mut version, mut bytes) = (self.version, self.bytes);
        let mut entries = Vec::with_capacity(staged.changed.len());
        for (key, object) in staged.changed {
            let old = self.objects.get(&key).map(|old| old.bytes);
            // Made and taken away by one batch: it never was.
            if object.is_none() && old.is_none() {
                continue;
            }
            version.0 += 1;
            let entry = object.map(|mut object| {
                object.meta.version = version;
                Entry::new(object)
            });
            bytes += entry.as_ref().map_or(0, |entry| entry.bytes);
            bytes -= old.unwrap_or(0);
            entries.push((key, entry));
        }
        if bytes > STATE_BYTES_MAX && bytes > self.bytes {
            return Err(MetaError::LimitReached {
                what: "bytes of objects",
                limit: STATE_BYTES_MAX,
            });
        }
        Ok(Prepared {
            entries,
            usage: staged.usage,
            counters: staged.counters,
        })
    }

    fn commit(&mut self, prepared: Prepared) -> Vec<Change> {
        self.counters = prepared.counters;
        for (scope, usage) in prepared.usage {
            if usage.is_none() {
                self.usage.remove(&scope);
            } else {
                self.usage.insert(scope, usage);
            }
        }
        let mut changes = Vec::with_capacity(prepared.entries.len());
        for (key, entry) in prepared.entries {
            self.version.0 += 1;
            let bytes = entry.as_ref().map_or(0, |entry| entry.bytes);
            let object = entry.as_ref().map(|entry| entry.object.clone());
            let old = match entry {
                Some(entry) => self.put(entry),
                None => self.take(&key),
            };
            let kind = match (&object, old) {
                (None, _) => ChangeKind::Delete,
                (Some(_), true) => ChangeKind::Update,
                (Some(_), false) => ChangeKind::Create,
            };
            let change = Change {
                version: self.version,
                kind,
                key,
                object,
            };
            self.history.push(change.clone(), bytes);
            changes.push(change);
        }
        changes
    }

    /// Whether there was one before.
    fn put(&mut self, entry: Entry) -> bool {
        let key = entry.object.meta.key.clone();
        let old = self.take(&key);
        self.digest = self.digest.wrapping_add(entry.digest);
        self.bytes += entry.bytes;
        self.due.extend(due(&entry.object));
        self.spent.extend(spent(&entry.object));
        if let Some(broker) = entry.object.broker() {
            self.brokers.insert(broker.number, key.clone());
        }
        self.objects.insert(key, entry);
        old
    }

    /// Whether there was one.
    fn take(&mut self, key: &ObjectKey) -> bool {
        let Some(old) = self.objects.remove(key) else {
            return false;
        };
        self.digest = self.digest.wrapping_sub(old.digest);
        self.bytes -= old.bytes;
        if let Some(due) = due(&old.object) {
            self.due.remove(&due);
        }
        if let Some(spent) = spent(&old.object) {
            self.spent.remove(&spent);
        }
        if let Some(broker) = old.object.broker() {
            self.brokers.remove(&broker.number);
        }
        true
    }

    fn outcome(&self, key: Option<&ObjectKey>) -> Outcome {
        let object = key.and_then(|key| self.get(key));
        object.map_or(Outcome::None, |object| Outcome::Object(object.clone()))
    }

    /// Version of the whole: how many changes led here.
    #[must_use]
    pub fn version(&self) -> MetaVersion {
        self.version
    }

    /// The last entry of the replicated log that was applied; 0 before the first.
    #[must_use]
    pub fn applied_index(&self) -> u64 {
        self.index
    }

    /// The latest stamp. A leader stamps nothing earlier.
    #[must_use]
    pub fn last_stamp(&self) -> WallMs {
        self.stamp
    }

    /// The cluster this is of, chosen at random when it was formed.
    #[must_use]
    pub fn cluster(&self) -> [u8; 16] {
        self.cluster
    }

    /// The object under `key`.
    #[must_use]
    pub fn get(&self, key: &ObjectKey) -> Option<&Arc<Object>> {
        self.objects.get(key).map(|entry| &entry.object)
    }

    /// The settings of the cluster.
    #[must_use]
    pub fn settings(&self) -> Settings {
        match self.get(&ObjectKey::Settings).map(|object| &object.body) {
            Some(Body::Settings(settings)) => *settings,
            _ => Settings::default(),
        }
    }

    /// The broker of this number.
    #[must_use]
    pub fn broker(&self, number: BrokerNumber) -> Option<&Arc<Object>> {
        self.get(self.brokers.get(&number)?)
    }

    /// Every broker and its name, in the order of names.
    pub fn brokers(&self) -> impl Iterator<Item = (&str, &Broker)> {
        let objects = self.from(&ObjectKey::broker(""));
        objects.map_while(|object| match (&object.meta.key, &object.body) {
            (ObjectKey::Broker(name), Body::Broker(broker)) => Some((&**name, broker)),
            _ => None,
        })
    }

    /// Every member and its number, ascending.
    pub fn members(&self) -> impl Iterator<Item = (MemberNumber, &Member)> {
        let objects = self.from(&ObjectKey::Member(MemberNumber(0)));
        objects.map_while(|object| match (&object.meta.key, &object.body) {
            (ObjectKey::Member(number), Body::Member(member)) => Some((*number, member)),
            _ => None,
        })
    }

    /// How far resources from before there was metadata are taken over
    /// ([`command::Import`](crate::command::Import)): everything below this number. `None`:
    /// none ever was. When it is the import's `next`, all is done.
    #[must_use]
    pub fn imported(&self) -> Option<ResourceId> {
        let imported = self.counters.imported;
        (imported != ResourceId(0)).then_some(imported)
    }

    /// The number that the next member will have: no member had it, or one above it.
    #[must_use]
    pub fn next_member(&self) -> MemberNumber {
        self.counters.member
    }

    /// Every object, in the order of keys.
    pub fn objects(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.objects.values().map(|entry| &entry.object)
    }

    /// Every object from `first` on, in the order of keys.
    pub(crate) fn from<'s>(
        &'s self,
        first: &ObjectKey,
    ) -> impl Iterator<Item = &'s Arc<Object>> + use<'s> {
        self.objects.range(first..).map(|(_, entry)| &entry.object)
    }

    /// At most `limit` changes after version `from`, or the word that they are
    /// not known any more, or not yet: a version that this replica has not
    /// reached is never waited for, as it may be another cluster's.
    ///
    /// # Errors
    /// [`ResnapshotRequired`].
    pub fn changes_since(
        &self,
        from: MetaVersion,
        limit: usize,
    ) -> Result<Changes, ResnapshotRequired> {
        self.history.since(from, limit)
    }

    /// What a leader is to do at `wall`, at most `limit` of it, in an order in which
    /// it can be done; but for [`Metadata::spent`]. The same again until it is done: a
    /// purge of a tenant with much to it takes several.
    #[must_use]
    pub fn due(&self, wall: WallMs, limit: usize) -> Vec<Duty> {
        let due = self.due.iter().take_while(|(at, _)| *at <= wall);
        let duty = |(_, Reverse(key)): &Due| match key {
            ObjectKey::SigningKeys(tenant) => Duty::RotateKeys {
                tenant: tenant.clone(),
                version: self
                    .get(key)
                    .map_or(MetaVersion(0), |keys| keys.meta.version),
            },
            key => Duty::Purge(key.clone()),
        };
        due.take(limit).map(duty).collect()
    }

    /// Revocations to purge at `wall`, at most `limit` of them: no token is left that they
    /// are about. A token that was revoked counts again without its revocation, so `wall` is
    /// to be a time that has come for certain, and not only the latest that anybody stamped.
    #[must_use]
    pub fn spent(&self, wall: WallMs, limit: usize) -> Vec<Duty> {
        let spent = self.spent.iter().take_while(|(at, _)| *at <= wall);
        let duty = |(_, key): &(WallMs, ObjectKey)| Duty::Purge(key.clone());
        spent.take(limit).map(duty).collect()
    }

    /// When the first revocation will be spent.
    #[must_use]
    pub fn next_spent(&self) -> Option<WallMs> {
        self.spent.first().map(|(at, _)| *at)
    }

    /// When there will be something to do, if nothing else happens; but for
    /// [`Metadata::next_spent`].
    #[must_use]
    pub fn next_due(&self) -> Option<WallMs> {
        self.due.first().map(|(at, _)| *at)
    }

    /// What a tenant uses, without what is deleted; nothing, if there is none.
    #[must_use]
    pub fn tenant_usage(&self, tenant: &str) -> Usage {
        self.usage(&Scope::Tenant(tenant.into()))
    }

    /// What counts for the quotas of a tenant: what it uses, and what is deleted and not
    /// purged.
    #[must_use]
    pub fn tenant_kept(&self, tenant: &str) -> Usage {
        self.kept(&Scope::Tenant(tenant.into()))
    }

    /// What a namespace uses, without what is deleted; nothing, if there is none.
    #[must_use]
    pub fn namespace_usage(&self, tenant: &str, namespace: &str) -> Usage {
        self.usage(&Scope::Namespace(tenant.into(), namespace.into()))
    }

    /// What counts for the quotas of a namespace: what it uses, and what is deleted and
    /// not purged.
    #[must_use]
    pub fn namespace_kept(&self, tenant: &str, namespace: &str) -> Usage {
        self.kept(&Scope::Namespace(tenant.into(), namespace.into()))
    }

    /// Seats for a new resource: all led by `pinned`, or spread over active
    /// brokers. With fewer copies where there are fewer brokers.
    ///
    /// # Errors
    /// [`MetaError::NoBroker`]: no broker is active and has room;
    /// [`MetaError::NoMemory`]: all that have room want the memory for it;
    /// [`MetaError::BrokerUnavailable`]: there is none of that number.
    pub fn place(
        &self,
        spec: &ResourceSpec,
        pinned: Option<BrokerNumber>,
    ) -> Result<Box<[Seat]>, MetaError> {
        let place = |bytes| {
            let brokers = self.brokers.values().filter_map(|key| self.get(key));
            let brokers = brokers.filter_map(|object| object.broker());
            let used = |number| self.broker_usage(number);
            let mut board = Board::new(brokers, used, bytes);
            board.place(spec.shards, spec.replication_factor, pinned)
        };
        let bytes = spec.partition_memory();
        place(Some(bytes)).ok_or_else(|| match pinned {
            Some(broker) => MetaError::BrokerUnavailable(broker),
            None if place(None).is_some() => MetaError::NoMemory {
                bytes,
                broker: None,
            },
            None => MetaError::NoBroker,
        })
    }

    /// Where the shards of a resource would go, without planning it.
    ///
    /// # Errors
    /// [`MetaError::NotFound`], [`MetaError::NoBroker`].
    pub fn plan(&self, key: &ObjectKey, strategy: Strategy) -> Result<Box<[Move]>, MetaError> {
        let placed = key.placed().and_then(|key| self.get(&key));
        match placed.map(|object| &object.body) {
            Some(Body::Placement(placement)) => {
                Draft::new(self, self.stamp).plan(key, placement, strategy)
            }
            _ => Err(MetaError::NotFound(key.clone())),
        }
    }

    /// What is on a broker.
    #[must_use]
    pub fn broker_usage(&self, broker: BrokerNumber) -> Usage {
        self.usage(&Scope::Broker(broker))
    }

    /// What all tenants together use.
    #[must_use]
    pub fn cluster_usage(&self) -> Usage {
        self.usage(&Scope::Cluster)
    }

    /// A hash of all that a snapshot holds: replicas that applied the same
    /// entries have the same. Not made to withstand someone who looks for
    /// collisions.
    #[must_use]
    pub fn state_hash(&self) -> u64 {
        let Counters {
            tenant,
            resource,
            broker,
            row,
            member,
            imported,
        } = self.counters;
        let mut head = Vec::with_capacity(104);
        head.extend(self.cluster);
        for part in [
            self.version.0,
            self.index,
            self.stamp.0,
            tenant.0,
            resource.0,
            broker.0.into(),
            row.0,
            member.0,
            imported.0,
            self.digest,
            self.requests.digest(),
        ] {
            head.extend(part.to_le_bytes());
        }
        xxh64(&head, 0)
    }

    /// What a snapshot is made of. Costs one [`Arc`] per object and remembered
    /// request; [`SnapshotSource::encode`] costs the rest, wherever it is called.
    #[must_use]
    pub fn snapshot(&self) -> SnapshotSource {
        SnapshotSource {
            head: self.head(),
            objects: self.objects().cloned().collect(),
            rows: self.requests.rows().cloned().collect(),
        }
    }

    /// Looks for contradictions in the whole state. Takes as long as the state is
    /// large: for tests, simulations and what was restored.
    ///
    /// # Errors
    /// The first contradiction.
    pub fn check(&self) -> Result<(), Broken> {
        invariants::check(self)
    }

    pub(crate) fn head(&self) -> Head {
        Head {
            cluster: self.cluster,
            version: self.version,
            index: self.index,
            stamp: self.stamp,
            counters: self.counters,
        }
    }

    pub(crate) fn counters(&self) -> Counters {
        self.counters
    }

    pub(crate) fn usage(&self, scope: &Scope) -> Usage {
        self.usage.get(scope).copied().unwrap_or_default()
    }

    fn kept(&self, scope: &Scope) -> Usage {
        Draft::new(self, self.stamp).kept(scope).0
    }

    pub(crate) fn usages(&self) -> &BTreeMap<Scope, Usage> {
        &self.usage
    }

    pub(crate) fn history(&self) -> &History {
        &self.history
    }

    pub(crate) fn requests(&self) -> &Requests {
        &self.requests
    }
}

/// An object that is there from the beginning.
pub(crate) fn first(key: ObjectKey, body: Body) -> Object {
    Object {
        meta: Meta {
            key,
            created: WallMs(0),
            updated: WallMs(0),
            version: MetaVersion(0),
            generation: 1,
            deleting: None,
        },
        body,
    }
}

/// A command's effect, with versions and archives.
struct Prepared {
    entries: Vec<(ObjectKey, Option<Entry>)>,
    usage: BTreeMap<Scope, Usage>,
    counters: Counters,
}

/// The state without its objects and requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) cluster: [u8; 16],
    pub(crate) version: MetaVersion,
    pub(crate) index: u64,
    pub(crate) stamp: WallMs,
    pub(crate) counters: Counters,
}

/// The state at one version, to be encoded when and where there is time for it.
#[derive(Clone, Debug)]
pub struct SnapshotSource {
    pub(crate) head: Head,
    pub(crate) objects: Vec<Arc<Object>>,
    pub(crate) rows: Vec<Arc<Row>>,
}

impl SnapshotSource {
    /// The version of the state that this is of.
    #[must_use]
    pub fn version(&self) -> MetaVersion {
        self.head.version
    }
}
