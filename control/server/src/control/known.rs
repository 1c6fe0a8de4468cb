//! What this node makes of the metadata: the resources that its cores serve.

use std::collections::HashMap;
use std::sync::Arc;

use pinion_metadata::{
    Body, BrokerNumber, Change, ChangeKind, Metadata, Object, ObjectKey, TenantNumber,
};
use pinion_node::access::TenantId;
use pinion_node::declared::Declared;
use pinion_node::mail::CoreMail;
use pinion_node::map::{Directory, Resource};
use pinion_types::{Epoch, ResourceId, ResourceKind, ResourceName};

use super::convert;

/// The directory of this node, kept to the metadata.
pub(super) struct Known {
    pub(super) directory: Directory,
    /// This node.
    pub(super) broker: BrokerNumber,
    tenants: HashMap<Box<str>, TenantNumber>,
    names: HashMap<TenantNumber, Box<str>>,
}

/// What every core is to be told, and of which version of the metadata.
pub(super) enum News {
    /// A resource exists.
    Declared(Epoch, Arc<Resource>),
    /// It has another specification.
    Changed(Epoch, Arc<Resource>),
    /// It is deleted, and that may be taken back.
    Closed(Epoch, ResourceId),
    /// That was taken back.
    Reopened(Epoch, Arc<Resource>),
    /// It is gone for good, with its data.
    Purge(Epoch, ResourceId),
}

/// What the cores are to know before they serve.
pub(crate) struct Inventory {
    /// Every resource, in the order of epochs.
    pub(crate) resources: Vec<(Epoch, Arc<Resource>)>,
    /// Those of them that are deleted, which are told then, before logs are opened.
    pub(crate) closed: Vec<ResourceId>,
    /// Those whose data is to go, which are told when logs are open.
    pub(crate) purges: Vec<ResourceId>,
    /// Of what is closed and what is purged.
    pub(crate) epoch: Epoch,
}

impl News {
    pub(super) fn mail(&self) -> CoreMail {
        match self {
            Self::Declared(epoch, resource) => CoreMail::Declared {
                epoch: *epoch,
                resource: Arc::clone(resource),
            },
            Self::Changed(epoch, resource) => CoreMail::Changed {
                epoch: *epoch,
                resource: Arc::clone(resource),
            },
            Self::Closed(epoch, resource) => CoreMail::Closed {
                epoch: *epoch,
                resource: *resource,
            },
            Self::Reopened(epoch, resource) => CoreMail::Reopened {
                epoch: *epoch,
                resource: Arc::clone(resource),
            },
            Self::Purge(epoch, resource) => CoreMail::Purge {
                epoch: *epoch,
                resource: *resource,
            },
        }
    }
}

impl Known {
    pub(super) fn new(directory: Directory, broker: BrokerNumber) -> Self {
        Self {
            directory,
            broker,
            tenants: HashMap::new(),
            names: HashMap::new(),
        }
    }

    /// Takes in all of it, before the cores are opened.
    pub(super) fn read(&mut self, metadata: &Metadata) -> Inventory {
        let (mut found, mut closed, mut purges) = (Vec::new(), Vec::new(), Vec::new());
        for object in metadata.objects() {
            match &object.body {
                Body::Tenant(tenant) => self.name(&object.meta.key, Some(tenant.number)),
                // Keys of resources are before those of placements.
                Body::Placement(_) => {
                    let resource = object.meta.key.parent();
                    let resource = resource.and_then(|key| metadata.get(&key));
                    if let Some(resource) = resource
                        && let Some(declared) = self.declared(resource, object)
                    {
                        let version = resource.meta.version.max(object.meta.version);
                        if resource.meta.deleting.is_some() {
                            closed.push(declared.id);
                        }
                        found.push((Epoch(version.0), declared));
                    }
                }
                Body::Tombstone(_) => purges.extend(self.to_purge(object)),
                _ => {}
            }
        }
        // Data moves from core to core when the number of cores changes, so what is
        // told first has the same place as ever.
        found.sort_by_key(|(_, declared)| declared.id);
        let found = found.into_iter();
        let restore = |(epoch, declared)| (epoch, self.directory.restore(declared));
        let mut resources: Vec<_> = found.map(restore).collect();
        resources.sort_by_key(|(epoch, _)| *epoch);
        let epoch = Epoch(metadata.version().0);
        for id in &closed {
            self.directory.close(epoch, *id);
        }
        self.tell_overfull();
        Inventory {
            resources,
            closed,
            purges,
            epoch,
        }
    }

    /// Says which cores have promised more than they have: the node has less memory
    /// than it had, or more was declared than it has.
    fn tell_overfull(&self) {
        for over in self.directory.overfull() {
            let largest = &over.largest;
            tracing::warn!(
                core = %over.core,
                promised_bytes = over.promised,
                memory_bytes = over.memory,
                tenant = self.tenant(largest.tenant).unwrap_or_default(),
                kind = %largest.kind,
                resource = %largest.name,
                asked_bytes = over.asked,
                "a core has promised more memory than it has, most of it to this resource: all is \
                 served, and nothing more is declared there until some of it is deleted and purged; \
                 give the node more memory (memory_bytes), or delete with force and no grace"
            );
        }
    }

    /// Takes in one resource that was declared just now, before the cores are
    /// opened; `None` for what other nodes serve.
    pub(super) fn find(
        &mut self,
        metadata: &Metadata,
        (kind, tenant, name): (ResourceKind, &str, &ResourceName),
    ) -> Option<(Epoch, Arc<Resource>)> {
        let (namespace, name) = (name.namespace(), name.name());
        let resource = metadata.get(&ObjectKey::resource(kind, tenant, namespace, name))?;
        let placement = metadata.get(&ObjectKey::placement(kind, tenant, namespace, name))?;
        let declared = self.declared(resource, placement)?;
        let epoch = Epoch(resource.meta.version.max(placement.meta.version).0);
        Some((epoch, self.directory.insert(epoch, declared)))
    }

    /// Takes in the metadata anew, when how it came there is not known.
    pub(super) fn reread(&mut self, metadata: &Metadata) -> Vec<News> {
        let (mut found, mut changed, mut purges) = (Vec::new(), Vec::new(), Vec::new());
        (self.tenants, self.names) = (HashMap::new(), HashMap::new());
        for object in metadata.objects() {
            match &object.body {
                Body::Tenant(tenant) => self.name(&object.meta.key, Some(tenant.number)),
                Body::Placement(_) => {
                    let of = object.meta.key.parent();
                    let Some(resource) = of.and_then(|key| metadata.get(&key)) else {
                        continue;
                    };
                    let Some(declared) = self.declared(resource, object) else {
                        continue;
                    };
                    changed.push((declared.id, Arc::clone(resource)));
                    let map = self.directory.map();
                    let known = map.by_id(declared.id).is_some()
                        || map.closed().any(|one| one.id == declared.id);
                    if !known {
                        let version = resource.meta.version.max(object.meta.version);
                        found.push((Epoch(version.0), declared));
                    }
                }
                Body::Tombstone(_) => purges.extend(self.to_purge(object)),
                _ => {}
            }
        }
        // What is not known here was made after all that is.
        found.sort_by_key(|(epoch, _)| *epoch);
        let mut news = Vec::new();
        for (epoch, declared) in found {
            let resource = self.directory.insert(epoch, declared);
            news.push(News::Declared(epoch, resource));
        }
        let epoch = Epoch(metadata.version().0);
        for (id, resource) in changed {
            news.extend(self.changed(epoch, &resource, id));
        }
        for id in purges {
            self.directory.purge(epoch, id);
            news.push(News::Purge(epoch, id));
        }
        news
    }

    /// Takes in what one command changed; gives what every core is to be told.
    pub(super) fn take(&mut self, metadata: &Metadata, changes: &[Change]) -> Vec<News> {
        let mut news = Vec::new();
        for change in changes {
            let Some(object) = &change.object else {
                if matches!(change.key, ObjectKey::Tenant(_)) {
                    self.name(&change.key, None);
                }
                continue;
            };
            match &object.body {
                Body::Tenant(tenant) => self.name(&change.key, Some(tenant.number)),
                Body::Placement(_) if change.kind == ChangeKind::Create => {
                    // Both come into being by one command.
                    let of = object.meta.key.parent();
                    let with = |one: &&Change| Some(&one.key) == of.as_ref();
                    let resource = changes.iter().find(with);
                    let resource = resource.and_then(|one| one.object.as_ref());
                    let now = of.as_ref().and_then(|key| metadata.get(key));
                    if let Some(resource) = resource.or(now)
                        && let Some(declared) = self.declared(resource, object)
                    {
                        let epoch = Epoch(change.version.0);
                        let resource = self.directory.insert(epoch, declared);
                        news.push(News::Declared(epoch, resource));
                    }
                }
                Body::Resource(resource) if change.kind == ChangeKind::Update => {
                    let epoch = Epoch(change.version.0);
                    news.extend(self.changed(epoch, object, resource.id));
                }
                Body::Tombstone(_) if change.kind == ChangeKind::Create => {
                    if let Some(id) = self.to_purge(object) {
                        let epoch = Epoch(change.version.0);
                        self.directory.purge(epoch, id);
                        news.push(News::Purge(epoch, id));
                    }
                }
                _ => {}
            }
        }
        news
    }

    /// A resource of this node is otherwise, deleted, or that was taken back.
    fn changed(&mut self, epoch: Epoch, object: &Object, id: ResourceId) -> Vec<News> {
        let mut news = Vec::new();
        if let Body::Resource(resource) = &object.body {
            let spec = convert::to_wire(&resource.spec);
            let changed = self.directory.change(epoch, id, spec);
            news.extend(changed.map(|resource| News::Changed(epoch, resource)));
        }
        if object.meta.deleting.is_none() {
            let reopened = self.directory.reopen(epoch, id);
            news.extend(reopened.map(|resource| News::Reopened(epoch, resource)));
        } else if self.directory.map().by_id(id).is_some() {
            let closed = self.directory.close(epoch, id);
            news.extend(closed.map(|_| News::Closed(epoch, id)));
        }
        news
    }

    /// The resource whose data is to go from here: only because a tombstone that names
    /// this node says so.
    fn to_purge(&self, tombstone: &Object) -> Option<ResourceId> {
        match (&tombstone.meta.key, &tombstone.body) {
            (ObjectKey::Tombstone(id), Body::Tombstone(tombstone)) => {
                tombstone.pending.contains(&self.broker).then_some(*id)
            }
            _ => None,
        }
    }

    /// Who serves a resource that is not this node's.
    pub(super) fn elsewhere(
        &self,
        metadata: &Metadata,
        (tenant, kind, name): (TenantId, ResourceKind, &ResourceName),
    ) -> Option<BrokerNumber> {
        let tenant = self.tenant(tenant)?;
        let key = ObjectKey::placement(kind, tenant, name.namespace(), name.name());
        let Body::Placement(placement) = &metadata.get(&key)?.body else {
            return None;
        };
        let mut leaders = placement.shards.iter().map(|shard| shard.seat.leader);
        leaders.find(|leader| *leader != self.broker)
    }

    /// The name of a tenant.
    pub(super) fn tenant(&self, id: TenantId) -> Option<&str> {
        self.names.get(&TenantNumber(id.0)).map(|name| &**name)
    }

    /// The number of a tenant.
    pub(super) fn tenant_id(&self, name: &str) -> Option<TenantId> {
        self.tenants.get(name).map(|number| TenantId(number.0))
    }

    fn name(&mut self, key: &ObjectKey, number: Option<TenantNumber>) {
        let ObjectKey::Tenant(name) = key else {
            return;
        };
        if let Some(number) = number {
            self.tenants.insert(name.clone(), number);
            self.names.insert(number, name.clone());
        } else if let Some(number) = self.tenants.remove(name) {
            self.names.remove(&number);
        }
    }

    /// `None` for what other nodes serve.
    fn declared(&self, resource: &Object, placement: &Object) -> Option<Declared> {
        let (Body::Resource(body), Body::Placement(placement)) = (&resource.body, &placement.body)
        else {
            return None;
        };
        let ObjectKey::Resource {
            kind,
            tenant,
            namespace,
            name,
        } = &resource.meta.key
        else {
            return None;
        };
        // The metadata's grammar of names is this one.
        let name = ResourceName::new(namespace, name).ok()?;
        let tenant = *self.tenants.get(tenant)?;
        convert::declared(tenant, (*kind, name), body, placement, self.broker)
    }
}
