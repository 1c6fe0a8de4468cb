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
use pinion_types::{Epoch, Refusal, ResourceKind, ResourceName};

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
}

impl News {
    pub(super) fn mail(&self) -> CoreMail {
        match self {
            Self::Declared(epoch, resource) => CoreMail::Declared {
                epoch: *epoch,
                resource: Arc::clone(resource),
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

    /// Takes in all of it, before the cores are opened. Gives the resources that
    /// this node serves, in the order of their epochs.
    ///
    /// # Errors
    /// `LimitReached` when one does not fit any more: the node has less memory now.
    pub(super) fn read(
        &mut self,
        metadata: &Metadata,
    ) -> Result<Vec<(Epoch, Arc<Resource>)>, Refusal> {
        let mut found = Vec::new();
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
                        found.push((Epoch(version.0), declared));
                    }
                }
                _ => {}
            }
        }
        // Data moves from core to core when the number of cores changes, so what is
        // told first has the same place as ever.
        found.sort_by_key(|(_, declared)| declared.id);
        let mut resources = Vec::with_capacity(found.len());
        for (epoch, declared) in found {
            resources.push((epoch, self.directory.restore(declared)?));
        }
        resources.sort_by_key(|(epoch, _)| *epoch);
        Ok(resources)
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
        let mut found = Vec::new();
        (self.tenants, self.names) = (HashMap::new(), HashMap::new());
        for object in metadata.objects() {
            match &object.body {
                Body::Tenant(tenant) => self.name(&object.meta.key, Some(tenant.number)),
                Body::Placement(_) => {
                    let of = object.meta.key.parent();
                    if let Some(resource) = of.and_then(|key| metadata.get(&key))
                        && let Some(declared) = self.declared(resource, object)
                        && self.directory.map().by_id(declared.id).is_none()
                    {
                        let version = resource.meta.version.max(object.meta.version);
                        found.push((Epoch(version.0), declared));
                    }
                }
                _ => {}
            }
        }
        // What is not known here was made after all that is.
        found.sort_by_key(|(epoch, _)| *epoch);
        let directory = &mut self.directory;
        let news = found.into_iter().map(|(epoch, declared)| {
            let resource = directory.insert(epoch, declared);
            News::Declared(epoch, resource)
        });
        news.collect()
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
                _ => {}
            }
        }
        news
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
