//! What must hold of every state, looked for in the whole of it.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::MetaError;
use crate::identity::{self, Revoked};
use crate::ids::{BrokerNumber, MetaVersion, RowId};
use crate::limits::{
    API_KEYS_PER_TENANT_MAX, BROKERS_MAX, COUNT_MAX, DUPLICATES_KEPT, ISSUERS_PER_TENANT_MAX,
    NAMESPACES_MAX, OBSERVERS_MAX, POLICIES_MAX, POLICIES_PER_TENANT_MAX, PRINCIPAL_BYTES_MAX,
    RESOURCES_MAX, REVOCATIONS_MAX, SHARDS_TOTAL_MAX, TENANTS_MAX, TOMBSTONES_MAX, TOTAL_BYTES_MAX,
    VOTERS_MAX,
};
use crate::name;
use crate::object::{Body, Deleting, KeyError, Object, ObjectKey};
use crate::rbac::Roles;
use crate::state::Metadata;
use crate::usage::{Scope, Usage, charges};

/// A contradiction in the state: a bug, or a snapshot that says what no state
/// can be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A key breaks the grammar.
    #[error("{key}: {why}")]
    Key {
        /// Which.
        key: ObjectKey,
        /// What is wrong with it.
        why: KeyError,
    },
    /// An object is not of the kind that its key says.
    #[error("{0} is of another kind")]
    Kind(ObjectKey),
    /// What it lives in is not there.
    #[error("{0} lives in nothing")]
    Orphan(ObjectKey),
    /// A field of an object is not as a command could have left it.
    #[error("{0} holds what no command leaves")]
    Field(ObjectKey),
    /// Two objects have one version, or a version is above that of the whole.
    #[error("{key} has version {version}, which another has or nothing can have")]
    Version {
        /// Whose.
        key: ObjectKey,
        /// Which.
        version: MetaVersion,
    },
    /// A number was given out twice, or was not given out yet.
    #[error("{key} has number {number}, which another has or nothing can have")]
    Number {
        /// Whose.
        key: ObjectKey,
        /// Which.
        number: u64,
    },
    /// A resource has no placement.
    #[error("{0} is not placed")]
    Unplaced(ObjectKey),
    /// It speaks of a broker that there is not.
    #[error("{key} speaks of broker {broker}, which there is not")]
    NoBroker {
        /// What.
        key: ObjectKey,
        /// Which broker.
        broker: BrokerNumber,
    },
    /// It is alive, or waits longer, in something that is deleted.
    #[error("{0} outlives what it is in")]
    Outlives(ObjectKey),
    /// Another of its tenant says the same.
    #[error("{0} says what another says")]
    Twice(ObjectKey),
    /// A resource that was purged is there.
    #[error("{0} is there, and the resource too")]
    Unburied(ObjectKey),
    /// The latest changes do not lead to the present version.
    #[error("the latest changes lead to version {newest}")]
    History {
        /// Where they lead.
        newest: MetaVersion,
    },
    /// What is counted is not what is there.
    #[error("the counts of use are not what is there")]
    Usage,
    /// More than there may be, or more than a quota allows.
    #[error("{what}: {count}, allowed are {limit}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there are.
        count: u64,
        /// How many there may be.
        limit: u64,
    },
    /// The table of requests is not in the order of the log, names one twice, or
    /// holds one that is never remembered.
    #[error("the table of requests is wrong at entry {index}")]
    Requests {
        /// Of the entry where it is.
        index: u64,
    },
}

pub(crate) fn check(state: &Metadata) -> Result<(), Broken> {
    let mut versions = BTreeSet::new();
    let mut numbers = BTreeSet::new();
    let mut usage: BTreeMap<Scope, Usage> = BTreeMap::new();
    for object in state.objects() {
        let key = &object.meta.key;
        check_object(state, object)?;
        // What was there from the beginning has no version of its own.
        let version = object.meta.version;
        if version != MetaVersion(0) && !versions.insert(version) {
            return Err(Broken::Version {
                key: key.clone(),
                version: object.meta.version,
            });
        }
        if let Some((of, number, _)) = number(state, object)
            && !numbers.insert((of, number))
        {
            let key = key.clone();
            return Err(Broken::Number { key, number });
        }
        if let Body::Resource(resource) = &object.body {
            let tombstone = ObjectKey::Tombstone(resource.id);
            if state.get(&tombstone).is_some() {
                return Err(Broken::Unburied(tombstone));
            }
        }
        let find = |key: &ObjectKey| state.get(key).map(|object| &**object);
        for (scope, one) in charges(object, find) {
            usage.entry(scope).or_default().add(one);
        }
    }
    if usage != *state.usages() {
        return Err(Broken::Usage);
    }
    let used = state.cluster_usage();
    for (what, count, limit) in [
        ("tenants", used.tenants, TENANTS_MAX),
        ("namespaces", used.namespaces, NAMESPACES_MAX),
        ("resources", used.resources, RESOURCES_MAX),
        ("shards", used.shards, SHARDS_TOTAL_MAX),
        ("tombstones", used.tombstones, TOMBSTONES_MAX),
        ("brokers", used.brokers, BROKERS_MAX),
        ("policies and groupings", used.policies, POLICIES_MAX),
        ("revocations", used.revocations, REVOCATIONS_MAX),
        ("members that vote or will", used.voters, VOTERS_MAX),
        ("members that observe", used.observers, OBSERVERS_MAX),
        ("bytes of caches", used.cache_bytes, TOTAL_BYTES_MAX),
        ("bytes on disk", used.storage_bytes, TOTAL_BYTES_MAX),
    ] {
        within(what, count, limit)?;
    }
    let history = state.history();
    if history.newest() != state.version() || history.oldest() > state.version() {
        return Err(Broken::History {
            newest: history.newest(),
        });
    }
    check_rules(state)?;
    check_requests(state)
}

/// No rule is there twice, and no role leads to itself.
fn check_rules(state: &Metadata) -> Result<(), Broken> {
    let mut rules = BTreeSet::new();
    for object in state.objects() {
        let (tenant, _) = object.meta.key.place();
        let rule = match &object.body {
            Body::Policy(policy) => (tenant, Some(policy), None),
            Body::Grouping(grouping) => (tenant, None, Some(grouping)),
            _ => continue,
        };
        if !rules.insert(rule) {
            return Err(Broken::Twice(object.meta.key.clone()));
        }
    }
    let groupings = state.from(&ObjectKey::grouping("", RowId(0)));
    let groupings = groupings.take_while(|object| matches!(object.body, Body::Grouping(_)));
    let groupings: Vec<&Object> = groupings.map(|object| &**object).collect();
    for of_tenant in groupings.chunk_by(|a, b| a.meta.key.place() == b.meta.key.place()) {
        if Roles::of(of_tenant.iter().copied()).check().is_err() {
            return Err(Broken::Field(of_tenant[0].meta.key.clone()));
        }
    }
    Ok(())
}

/// What can be said of the objects of these keys and of what they live in,
/// without looking at the rest.
pub(crate) fn check_touched<'a>(
    state: &Metadata,
    keys: impl Iterator<Item = &'a ObjectKey>,
) -> Result<(), Broken> {
    for key in keys {
        if let Some(object) = state.get(key) {
            check_object(state, object)?;
        }
        let mut above = key.parent();
        while let Some(parent) = above.as_ref().and_then(|key| state.get(key)) {
            check_object(state, parent)?;
            above = parent.meta.key.parent();
        }
    }
    Ok(())
}

/// What an object's number is of, the number, and the one to be given out next.
fn number(state: &Metadata, object: &Object) -> Option<(&'static str, u64, u64)> {
    let counters = state.counters();
    match &object.body {
        Body::Tenant(tenant) => Some(("tenant", tenant.number.0, counters.tenant.0)),
        Body::Resource(resource) => Some(("resource", resource.id.0, counters.resource.0)),
        Body::Broker(broker) => Some(("broker", broker.number.0.into(), counters.broker.0.into())),
        _ => match object.meta.key {
            ObjectKey::Member(number) => Some(("member", number.0, counters.member.0)),
            ObjectKey::Policy { id, .. }
            | ObjectKey::Grouping { id, .. }
            | ObjectKey::ApiKey { id, .. } => Some(("row", id.0, counters.row.0)),
            _ => None,
        },
    }
}

/// What can be said of one object and of what it lives in.
fn check_object(state: &Metadata, object: &Object) -> Result<(), Broken> {
    let key = &object.meta.key;
    if let Err(why) = key.check() {
        let key = key.clone();
        return Err(Broken::Key { key, why });
    }
    let meta = &object.meta;
    if meta.version > state.version() {
        let (key, version) = (key.clone(), meta.version);
        return Err(Broken::Version { key, version });
    }
    if let Some((_, number, next)) = number(state, object)
        && number >= next
    {
        let key = key.clone();
        return Err(Broken::Number { key, number });
    }
    if let Some(deleting) = &meta.deleting {
        check_deleting(state, object, deleting)?;
    }
    check_brokers(state, object)?;
    let alive_in_deleted = || {
        let parent = key.parent().and_then(|parent| state.get(&parent));
        key.is_deletable() && parent.is_some_and(|parent| parent.meta.deleting.is_some())
    };
    if meta.deleting.is_none() && alive_in_deleted() {
        return Err(Broken::Outlives(key.clone()));
    }
    let generation = (1..=COUNT_MAX).contains(&meta.generation);
    if check_body(state, object)?.is_err() || !generation || meta.updated < meta.created {
        return Err(Broken::Field(key.clone()));
    }
    Ok(())
}

/// Whoever has data, or is waited for, is there.
fn check_brokers(state: &Metadata, object: &Object) -> Result<(), Broken> {
    let missing = |numbers: &[BrokerNumber]| {
        let unknown = |number: &&BrokerNumber| state.broker(**number).is_none();
        numbers.iter().find(unknown).copied()
    };
    let missing = match &object.body {
        Body::Placement(placement) => missing(&placement.brokers()).or_else(|| {
            let arriving: Vec<BrokerNumber> = placement.arriving().collect();
            missing(&arriving)
        }),
        Body::Tombstone(tombstone) => missing(&tombstone.pending),
        Body::Member(member) => missing(&[member.broker]),
        _ => None,
    };
    match missing {
        Some(broker) => Err(Broken::NoBroker {
            key: object.meta.key.clone(),
            broker,
        }),
        None => Ok(()),
    }
}

/// What is deleted goes after what is in it and not before its grace is over.
fn check_deleting(state: &Metadata, object: &Object, deleting: &Deleting) -> Result<(), Broken> {
    let key = &object.meta.key;
    let caused = deleting.cause <= state.applied_index();
    if !key.is_deletable() || !caused || deleting.purge_at < deleting.since {
        return Err(Broken::Field(key.clone()));
    }
    let parent = key.parent().and_then(|parent| state.get(&parent));
    let parent = parent.and_then(|parent| parent.meta.deleting);
    if parent.is_some_and(|parent| parent.purge_at < deleting.purge_at) {
        return Err(Broken::Outlives(key.clone()));
    }
    Ok(())
}

/// The inner result is what the fields are; the outer, where the object is.
fn check_body(state: &Metadata, object: &Object) -> Result<Result<(), MetaError>, Broken> {
    let key = &object.meta.key;
    let parent = key.parent().map(|parent| state.get(&parent));
    let Some(parent) = parent.map_or(Some(None), |parent| parent.map(Some)) else {
        return Err(Broken::Orphan(key.clone()));
    };
    Ok(
        match (key, &object.body, parent.map(|parent| &parent.body)) {
            (ObjectKey::Tenant(name), Body::Tenant(tenant), None) => {
                let (used, quotas) = (state.tenant_usage(name), &tenant.quotas);
                within("namespaces", used.namespaces, quotas.max_namespaces)?;
                within("resources", used.resources, quotas.max_streams)?;
                within(
                    "bytes on disk",
                    used.storage_bytes,
                    quotas.max_storage_bytes,
                )?;
                let most = quotas.max_cache_memory_bytes;
                within("bytes of caches", used.cache_bytes, most)?;
                let most = quotas.max_policies;
                within("policies and groupings", used.policies, most)?;
                within(
                    "policies and groupings of a tenant",
                    used.policies,
                    POLICIES_PER_TENANT_MAX,
                )?;
                within("issuers", used.issuers, ISSUERS_PER_TENANT_MAX)?;
                within("API keys", used.api_keys, API_KEYS_PER_TENANT_MAX)?;
                tenant.check()
            }
            (
                ObjectKey::Namespace { tenant: of, name },
                Body::Namespace(namespace),
                Some(Body::Tenant(tenant)),
            ) => {
                let (used, quotas) = (state.namespace_usage(of, name), &namespace.quotas);
                within("resources", used.resources, quotas.max_streams)?;
                // Its tenant may be given less while it is deleted.
                match object.meta.deleting {
                    Some(_) => namespace.check(),
                    None => namespace
                        .check()
                        .and_then(|()| quotas.check_below(&tenant.quotas)),
                }
            }
            (
                ObjectKey::Resource {
                    kind,
                    tenant,
                    namespace,
                    name,
                },
                Body::Resource(resource),
                Some(Body::Namespace(_)),
            ) => {
                let placement = ObjectKey::placement(*kind, tenant, namespace, name);
                if state.get(&placement).is_none() {
                    return Err(Broken::Unplaced(key.clone()));
                }
                resource.spec.check(*kind)
            }
            (ObjectKey::Placement { .. }, Body::Placement(placement), Some(Body::Resource(of))) => {
                // What is deleted goes nowhere.
                let deleted = key.parent().and_then(|key| state.get(&key)?.meta.deleting);
                if placement.resource != of.id
                    || (deleted.is_some() && placement.plan.is_some())
                    || placement.shards.iter().any(|shard| shard.epoch == 0)
                {
                    return Err(Broken::Field(key.clone()));
                }
                placement.check(&of.spec)
            }
            (ObjectKey::Tombstone(id), Body::Tombstone(tombstone), None) => {
                let (of, pending) = (&tombstone.of, &tombstone.pending);
                let resource = matches!(of, ObjectKey::Resource { .. }) && of.check().is_ok();
                let in_order = pending.is_sorted_by(|a, b| a < b) && !pending.is_empty();
                if !resource || !in_order || *id >= state.counters().resource {
                    return Err(Broken::Field(key.clone()));
                }
                Ok(())
            }
            (ObjectKey::Broker(_), Body::Broker(broker), None) => {
                let used = state.broker_usage(broker.number);
                within("members of a broker", used.members, 1)?;
                broker.facts.check()
            }
            (ObjectKey::Member(_), Body::Member(member), None) => member.check(),
            (ObjectKey::Policy { tenant, .. }, Body::Policy(policy), Some(Body::Tenant(_))) => {
                policy.check(tenant)
            }
            (ObjectKey::Grouping { .. }, Body::Grouping(grouping), Some(Body::Tenant(_))) => {
                grouping.check()
            }
            (ObjectKey::Issuer { .. }, Body::Issuer(issuer), Some(Body::Tenant(_))) => {
                issuer.check()
            }
            (ObjectKey::ApiKey { .. }, Body::ApiKey(one), Some(Body::Tenant(_))) => one.check(),
            (ObjectKey::SigningKeys(_), Body::SigningKeys(keys), Some(Body::Tenant(_))) => {
                identity::check_rotation(keys.rotate_every_ms)
            }
            (
                ObjectKey::Revocation { what, .. },
                Body::Revocation(revocation),
                Some(Body::Tenant(_)),
            ) => {
                let of_subject = matches!(what, Revoked::Subject(_));
                if revocation.issued_before.is_some() != of_subject {
                    return Err(Broken::Field(key.clone()));
                }
                Ok(())
            }
            (ObjectKey::Bootstrap(_), Body::Bootstrap(_), None) => Ok(()),
            (ObjectKey::Settings, Body::Settings(settings), None) => settings.check(),
            _ => return Err(Broken::Kind(key.clone())),
        },
    )
}

fn within(what: &'static str, count: u64, limit: u64) -> Result<(), Broken> {
    if limit != 0 && count > limit {
        return Err(Broken::TooMany { what, count, limit });
    }
    Ok(())
}

fn check_requests(state: &Metadata) -> Result<(), Broken> {
    let requests = state.requests();
    let count = requests.rows().len();
    if count > DUPLICATES_KEPT {
        return Err(Broken::TooMany {
            what: "remembered requests",
            count: count as u64,
            limit: DUPLICATES_KEPT as u64,
        });
    }
    let mut last = 0;
    for row in requests.rows() {
        let index = row.index;
        let in_order = index > last && index <= state.applied_index();
        let principal = name::text("principal", &row.principal, PRINCIPAL_BYTES_MAX);
        if !in_order || row.version > state.version() || row.request == 0 || principal.is_err() {
            return Err(Broken::Requests { index });
        }
        last = index;
    }
    if requests.distinct() != count {
        return Err(Broken::Requests { index: last });
    }
    Ok(())
}
