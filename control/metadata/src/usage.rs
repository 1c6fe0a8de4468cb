//! What is used: counted where objects are written, so that a quota costs one
//! comparison.

use std::collections::BTreeMap;

use crate::ids::BrokerNumber;
use crate::member::MemberRole;
use crate::object::{Body, Object, ObjectKey};
use crate::resource::Placement;

/// What objects are counted in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// Everything there is.
    Cluster,
    /// A tenant.
    Tenant(Box<str>),
    /// A namespace of a tenant.
    Namespace(Box<str>, Box<str>),
    /// What of a tenant is deleted and not purged.
    DeletedOfTenant(Box<str>),
    /// What of a namespace is deleted and not purged.
    DeletedOfNamespace(Box<str>, Box<str>),
    /// What is on a broker.
    Broker(BrokerNumber),
}

impl Scope {
    /// Where what is deleted of it is counted until it is purged.
    pub(crate) fn deleted(&self) -> Option<Self> {
        match self {
            Self::Tenant(tenant) => Some(Self::DeletedOfTenant(tenant.clone())),
            Self::Namespace(tenant, namespace) => {
                Some(Self::DeletedOfNamespace(tenant.clone(), namespace.clone()))
            }
            _ => None,
        }
    }
}

/// What is used in the cluster, in a tenant, in a namespace or of a broker. What is deleted
/// counts for the cluster, which still keeps it, and by itself for its tenant and its
/// namespace: it is in none of their figures and in all of their quotas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tenants; only the cluster has some.
    pub tenants: u64,
    /// Namespaces.
    pub namespaces: u64,
    /// Resources of every kind together.
    pub resources: u64,
    /// Shards of all resources.
    pub shards: u64,
    /// Bytes of memory that caches ask for.
    pub cache_bytes: u64,
    /// Tombstones; of a broker, those that wait for it.
    pub tombstones: u64,
    /// Brokers; only the cluster has some.
    pub brokers: u64,
    /// Shards that a broker leads.
    pub leads: u64,
    /// Shards that a broker has further copies of.
    pub copies: u64,
    /// Shards that a broker is to take, by plans.
    pub arriving: u64,
    /// Bytes of memory that a broker has promised to shards: that it leads, has copies of or
    /// is to take, deleted and not purged ones too.
    pub memory_bytes: u64,
    /// Policies and groupings.
    pub policies: u64,
    /// Identity providers.
    pub issuers: u64,
    /// API keys.
    pub api_keys: u64,
    /// Revocations.
    pub revocations: u64,
    /// Members on a broker.
    pub members: u64,
    /// Members that vote or will; only the cluster has some.
    pub voters: u64,
    /// Members that follow and never vote; only the cluster has some.
    pub observers: u64,
    /// Bytes on disk that durable resources ask for, of those that name them.
    pub storage_bytes: u64,
}

impl Usage {
    const NONE: Self = Self {
        tenants: 0,
        namespaces: 0,
        resources: 0,
        shards: 0,
        cache_bytes: 0,
        tombstones: 0,
        brokers: 0,
        leads: 0,
        copies: 0,
        arriving: 0,
        memory_bytes: 0,
        policies: 0,
        issuers: 0,
        api_keys: 0,
        revocations: 0,
        members: 0,
        voters: 0,
        observers: 0,
        storage_bytes: 0,
    };

    fn fields(&mut self) -> [&mut u64; 19] {
        [
            &mut self.tenants,
            &mut self.namespaces,
            &mut self.resources,
            &mut self.shards,
            &mut self.cache_bytes,
            &mut self.tombstones,
            &mut self.brokers,
            &mut self.leads,
            &mut self.copies,
            &mut self.arriving,
            &mut self.memory_bytes,
            &mut self.policies,
            &mut self.issuers,
            &mut self.api_keys,
            &mut self.revocations,
            &mut self.members,
            &mut self.voters,
            &mut self.observers,
            &mut self.storage_bytes,
        ]
    }

    /// Saturates: a snapshot that was made up may speak of more than a `u64` can
    /// count, and is refused for it.
    pub(crate) fn add(&mut self, mut other: Self) {
        for (field, more) in self.fields().into_iter().zip(other.fields()) {
            *field = field.saturating_add(*more);
        }
    }

    /// # Panics
    /// When there is less than what goes: the state's counts are wrong.
    pub(crate) fn subtract(&mut self, mut other: Self) {
        for (field, less) in self.fields().into_iter().zip(other.fields()) {
            let left = field.checked_sub(*less);
            *field = left.expect("only what was counted goes");
        }
    }

    pub(crate) fn is_none(&self) -> bool {
        *self == Self::NONE
    }
}

/// Where an object is counted, and as what. `find` finds the resource of a placement,
/// which is there as long as the placement: what its partitions take never changes.
pub(crate) fn charges<'a>(
    object: &Object,
    find: impl Fn(&ObjectKey) -> Option<&'a Object>,
) -> Vec<(Scope, Usage)> {
    let charges = match &object.body {
        Body::Placement(placement) => {
            let of = object.meta.key.parent().and_then(|key| find(&key));
            return placed(placement, of);
        }
        _ => charges_alive(object),
    };
    if object.meta.deleting.is_none() {
        return charges;
    }
    let deleted = |(scope, usage): (Scope, Usage)| match scope {
        Scope::Cluster => Some((scope, usage)),
        other => other.deleted().map(|scope| (scope, usage)),
    };
    charges.into_iter().filter_map(deleted).collect()
}

/// What brokers have of a placement. It is not deleted with its resource, but purged.
fn placed(placement: &Placement, of: Option<&Object>) -> Vec<(Scope, Usage)> {
    let memory_bytes = match of.map(|object| &object.body) {
        Some(Body::Resource(resource)) => resource.spec.partition_memory(),
        // Nothing has such a placement; a check of the state finds it.
        _ => 0,
    };
    let one = Usage {
        memory_bytes,
        ..Usage::NONE
    };
    let mut brokers: BTreeMap<BrokerNumber, Usage> = BTreeMap::new();
    let mut add = |broker: BrokerNumber, usage: Usage| {
        brokers.entry(broker).or_default().add(usage);
    };
    for shard in &placement.shards {
        add(shard.seat.leader, Usage { leads: 1, ..one });
        for replica in &shard.seat.replicas {
            add(*replica, Usage { copies: 1, ..one });
        }
    }
    for broker in placement.arriving() {
        add(broker, Usage { arriving: 1, ..one });
    }
    let of_broker = |(number, usage)| (Scope::Broker(number), usage);
    brokers.into_iter().map(of_broker).collect()
}

fn charges_alive(object: &Object) -> Vec<(Scope, Usage)> {
    let of_tenant = |tenant: &str| Scope::Tenant(tenant.into());
    match (&object.meta.key, &object.body) {
        (ObjectKey::Tenant(_), _) => {
            let usage = Usage {
                tenants: 1,
                ..Usage::NONE
            };
            vec![(Scope::Cluster, usage)]
        }
        (ObjectKey::Namespace { tenant, .. }, _) => {
            let usage = Usage {
                namespaces: 1,
                ..Usage::NONE
            };
            vec![(Scope::Cluster, usage), (of_tenant(tenant), usage)]
        }
        (
            ObjectKey::Resource {
                kind,
                tenant,
                namespace,
                ..
            },
            Body::Resource(resource),
        ) => {
            let usage = Usage {
                resources: 1,
                shards: resource.spec.shards.into(),
                cache_bytes: resource.spec.cache_bytes(*kind),
                storage_bytes: resource.spec.storage_bytes(),
                ..Usage::NONE
            };
            let of_namespace = Scope::Namespace(tenant.clone(), namespace.clone());
            vec![
                (Scope::Cluster, usage),
                (of_tenant(tenant), usage),
                (of_namespace, usage),
            ]
        }
        (_, Body::Tombstone(tombstone)) => {
            let usage = Usage {
                tombstones: 1,
                ..Usage::NONE
            };
            let brokers = tombstone.pending.iter().map(|one| Scope::Broker(*one));
            let scopes = brokers.chain([Scope::Cluster]);
            scopes.map(|scope| (scope, usage)).collect()
        }
        (_, Body::Broker(_)) => {
            let usage = Usage {
                brokers: 1,
                ..Usage::NONE
            };
            vec![(Scope::Cluster, usage)]
        }
        (
            ObjectKey::Policy { tenant, .. } | ObjectKey::Grouping { tenant, .. },
            Body::Policy(_) | Body::Grouping(_),
        ) => {
            let usage = Usage {
                policies: 1,
                ..Usage::NONE
            };
            vec![(Scope::Cluster, usage), (of_tenant(tenant), usage)]
        }
        (ObjectKey::Issuer { tenant, .. }, _) => {
            let usage = Usage {
                issuers: 1,
                ..Usage::NONE
            };
            vec![(Scope::Cluster, usage), (of_tenant(tenant), usage)]
        }
        (ObjectKey::ApiKey { tenant, .. }, _) => {
            let usage = Usage {
                api_keys: 1,
                ..Usage::NONE
            };
            vec![(Scope::Cluster, usage), (of_tenant(tenant), usage)]
        }
        (ObjectKey::Revocation { tenant, .. }, _) => {
            let usage = Usage {
                revocations: 1,
                ..Usage::NONE
            };
            vec![(Scope::Cluster, usage), (of_tenant(tenant), usage)]
        }
        (_, Body::Member(member)) => {
            let of_broker = Usage {
                members: 1,
                ..Usage::NONE
            };
            let observes = member.role == MemberRole::Observer;
            let of_all = Usage {
                voters: u64::from(!observes),
                observers: u64::from(observes),
                ..Usage::NONE
            };
            vec![
                (Scope::Broker(member.broker), of_broker),
                (Scope::Cluster, of_all),
            ]
        }
        // Of the others nothing is counted; a body of another kind than its key is found by its check.
        _ => Vec::new(),
    }
}
