//! What must hold of every state, looked for in the whole of it.

use std::collections::{BTreeMap, BTreeSet};

use pinion_types::NameError;

use crate::draft::{Scope, Usage, charges};
use crate::ids::{MetaVersion, TenantNumber};
use crate::limits::{COUNT_MAX, DUPLICATES_KEPT, PRINCIPAL_BYTES_MAX};
use crate::name;
use crate::object::{Body, Object, ObjectKey};
use crate::state::Metadata;

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
        why: NameError,
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
        number: TenantNumber,
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
        let version = object.meta.version;
        if version > state.version() || !versions.insert(version) {
            let key = key.clone();
            return Err(Broken::Version { key, version });
        }
        if let Body::Tenant(tenant) = &object.body {
            let number = tenant.number;
            if number >= state.counters().tenant || !numbers.insert(number) {
                let key = key.clone();
                return Err(Broken::Number { key, number });
            }
        }
        for (scope, one) in charges(object) {
            usage.entry(scope).or_default().add(one);
        }
    }
    if usage != *state.usages() {
        return Err(Broken::Usage);
    }
    check_requests(state)
}

/// What can be said of one object and of what it lives in.
fn check_object(state: &Metadata, object: &Object) -> Result<(), Broken> {
    let key = &object.meta.key;
    if let Err(why) = key.check() {
        let key = key.clone();
        return Err(Broken::Key { key, why });
    }
    let parent = key.parent().map(|parent| state.get(&parent));
    let Some(parent) = parent.map_or(Some(None), |parent| parent.map(Some)) else {
        return Err(Broken::Orphan(key.clone()));
    };
    let fields = match (key, &object.body, parent.map(|parent| &parent.body)) {
        (ObjectKey::Tenant(name), Body::Tenant(tenant), None) => {
            let used = state.usage(&Scope::Tenant(name.clone())).namespaces;
            within("namespaces", used, tenant.quotas.max_namespaces)?;
            tenant.check()
        }
        (ObjectKey::Namespace { .. }, Body::Namespace(namespace), Some(Body::Tenant(tenant))) => {
            namespace
                .check()
                .and_then(|()| namespace.quotas.check_below(&tenant.quotas))
        }
        _ => return Err(Broken::Kind(key.clone())),
    };
    let meta = &object.meta;
    let generation = (1..=COUNT_MAX).contains(&meta.generation);
    if fields.is_err() || !generation || meta.updated < meta.created {
        return Err(Broken::Field(key.clone()));
    }
    Ok(())
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
