//! Handlers, one file for each family of routes. They read a request, ask the plane and
//! show what it said; who may do what was looked at before, but where it depends on a
//! body.

pub(crate) mod api_keys;
pub(crate) mod apply;
pub(crate) mod audit;
pub(crate) mod backup;
pub(crate) mod bootstrap;
pub(crate) mod brokers;
pub(crate) mod domains;
pub(crate) mod health;
pub(crate) mod issuers;
pub(crate) mod keys;
pub(crate) mod metadata;
pub(crate) mod namespaces;
pub(crate) mod placements;
pub(crate) mod plans;
pub(crate) mod probes;
pub(crate) mod raft;
pub(crate) mod rbac;
pub(crate) mod resources;
pub(crate) mod system;
pub(crate) mod tenants;
pub(crate) mod tokens;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pinion_metadata::command::{Delete, DeleteFacts};
use pinion_metadata::limits::PAGE_MAX;
use pinion_metadata::{
    Body, Command, Expect, Filter, ListQuery, MetaCode, MetaVersion, Metadata, Object, ObjectKey,
    ObjectKind, PolicyObject,
};
use pinion_plane::{Consistency, PlaneError, Query, QueryValue};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::call::{Call, Read, Reply, Written, json};
use crate::error::Failure;
use crate::limits::{FILTER_BYTES_MAX, LIST_WAIT, PAGE_DEFAULT};
use crate::observer::Named;
use crate::seen::ResourceLoad;
use crate::views::ask::{broker_name, elsewhere};

/// A page of objects that whoever asks may see, before it is shown.
pub(crate) struct Listed {
    pub(crate) read: Read,
    pub(crate) items: Vec<Arc<Object>>,
    pub(crate) next: Option<ObjectKey>,
}

impl Call {
    /// Objects of these kinds, one after the other, as the query wants them and as far as
    /// `sees` says that whoever asks may know of them. Below something that does not exist
    /// there is not nothing: that is not found, for whoever could see it. Whoever could not
    /// finds nothing below it, whether it exists or not.
    ///
    /// A page is full of rows that are seen, or the last, and goes on after the last row that
    /// it hands out: neither its token nor how many pages there are tells of what is hidden.
    /// So what is hidden is passed over here, however much it is. There is no more of it than
    /// the metadata may have, it is taken a page at a time so that others come between, and
    /// [`LIST_WAIT`] ends it: in a refusal, because a place to go on from would be a hidden
    /// row's.
    pub(crate) async fn list(
        &self,
        kinds: &[ObjectKind],
        under: Option<ObjectKey>,
        sees: impl Fn(&Object) -> bool + Send + Sync,
    ) -> Result<Listed, Failure> {
        let size = self.page_size()?;
        let (filter, deleted) = (self.filter()?, self.flag("deleted")?);
        let mut after = self.page_token()?;
        let mut consistency = self.consistency()?;
        if let Some(parent) = &under
            && !self.who.sees(&policy_object(parent))
        {
            let (read, _) = self.read(Query::Get(parent.clone())).await?;
            return Ok(Listed {
                read,
                items: Vec::new(),
                next: None,
            });
        }
        let until = Instant::now() + LIST_WAIT;
        let mut first = None;
        let mut items: Vec<Arc<Object>> = Vec::new();
        for kind in kinds {
            // One more than the page has says that there is another page.
            let mut limit = size + 1 - items.len();
            while items.len() <= size {
                let query = ListQuery {
                    kind: *kind,
                    under: under.clone(),
                    filter: filter.clone(),
                    deleted,
                    limit: limit.min(PAGE_MAX),
                    after: after.take(),
                };
                let (read, page) = match self.read_as(Query::List(query), consistency).await? {
                    (read, QueryValue::Page(page)) => (read, page),
                    _ => return Err(PlaneError::Failed.into()),
                };
                // This node has what the first read waited for: the rest it has at once.
                consistency = Consistency::Stale;
                first.get_or_insert(read);
                items.extend(page.items.into_iter().filter(|object| sees(object)));
                after = page.next;
                if after.is_none() {
                    break;
                }
                if Instant::now() >= until {
                    return Err(PlaneError::TimedOut.into());
                }
                limit = PAGE_MAX;
            }
        }
        let more = items.len() > size;
        items.truncate(size);
        let last = items.last().filter(|_| more);
        let listed = Listed {
            read: first.ok_or(PlaneError::Failed)?,
            next: last.map(|object| object.meta.key.clone()),
            items,
        };
        if let Some(parent) = under
            && listed.items.is_empty()
        {
            self.get(parent).await?;
        }
        Ok(listed)
    }

    /// Whether whoever asks may know of an object that there is.
    pub(crate) fn sees(&self, object: &Object) -> bool {
        self.who.sees(&policy_object(&object.meta.key))
    }

    fn filter(&self) -> Result<Filter, Failure> {
        let Some(text) = self.param("filter").filter(|text| !text.is_empty()) else {
            return Ok(Filter::All);
        };
        if text.len() > FILTER_BYTES_MAX {
            return Err(Failure::bad(
                "bad_parameter",
                format!("filter: at most {FILTER_BYTES_MAX} bytes are expected"),
            ));
        }
        Ok(match text.strip_prefix("name^=") {
            Some(prefix) => Filter::Prefix(prefix.into()),
            None => Filter::Contains(text.into()),
        })
    }

    pub(crate) fn page_size(&self) -> Result<usize, Failure> {
        match self.number_param("page_size")? {
            None => Ok(PAGE_DEFAULT),
            Some(size) => usize::try_from(size)
                .ok()
                .filter(|size| (1..=PAGE_MAX).contains(size))
                .ok_or_else(|| {
                    Failure::bad(
                        "bad_parameter",
                        format!("page_size: 1 to {PAGE_MAX} is expected"),
                    )
                }),
        }
    }

    /// The key that a page goes on after.
    pub(crate) fn page_token(&self) -> Result<Option<ObjectKey>, Failure> {
        let Some(text) = self.param("page_token").filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let bytes = URL_SAFE_NO_PAD.decode(text).ok();
        let key = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        let key = key.and_then(|key| key.parse().ok());
        key.map(Some).ok_or_else(|| {
            Failure::bad("bad_parameter", "page_token: one of an answer is expected")
        })
    }

    /// Changes an object to what `command` makes of it as it is: only if it still is that,
    /// because what stays is what it was.
    ///
    /// What it is, this node nearly always has. So that is tried first, without the round to
    /// the other nodes that a read of the newest costs; the condition refuses it where this
    /// node was behind, and then it is read.
    pub(crate) async fn change(
        &self,
        key: ObjectKey,
        command: impl Fn(&Object) -> Result<Command, Failure>,
    ) -> Result<Written, Failure> {
        let here = key.clone();
        let near = self.look(move |metadata| metadata.get(&here).cloned());
        if let Some(object) = near.await? {
            let is = Expect::Version(version_of(&object));
            let wanted = matches!(self.expect(), Expect::Any) || self.expect() == is;
            if wanted && let Ok(command) = command(&object) {
                match self.try_write(is, command).await {
                    Err(error) if is_conflict(&error) => {}
                    done => return done.map_err(|error| self.refused(error)),
                }
            }
        }
        let (_, object) = self.get(key).await?;
        let expect = match self.expect() {
            Expect::Any => Expect::Version(version_of(&object)),
            given => given,
        };
        self.write(expect, command(&object)?).await
    }

    /// What is asked of a deletion, and what stands against it.
    pub(crate) async fn delete(&self, key: ObjectKey) -> Result<Written, Failure> {
        let force = self.flag("force")?;
        let grace_ms = self.number_param("grace_ms")?;
        let looked = key.clone();
        let (usual, named, leaders) = self
            .look(move |metadata| {
                let leaders = leaders(metadata, &looked);
                let named = named(metadata, &looked);
                (metadata.settings().grace_ms, named, leaders)
            })
            .await?;
        // Nothing of before is good enough to decide by, and force needs no facts.
        let load = match named {
            Some(named) if !force => {
                self.serves_all(&leaders)?;
                self.load(named).await?
            }
            _ => None,
        };
        let command = Delete {
            key,
            force,
            grace_ms: grace_ms.unwrap_or(usual),
            facts: load.map_or_else(DeleteFacts::default, |load| DeleteFacts {
                subscribers: load.subscribers,
                durable_bytes: load.durable_bytes,
            }),
        };
        self.write(self.expect(), Command::Delete(command)).await
    }

    /// Of what others serve nobody here knows who reads it and what it keeps.
    fn serves_all(&self, leaders: &[Box<str>]) -> Result<(), Failure> {
        let node = &self.api.node;
        let Some(other) = leaders.iter().find(|leader| *leader != node) else {
            return Ok(());
        };
        Err(match leaders {
            [_] => elsewhere(other),
            // No node could say it of all of them.
            _ => Failure::new(
                StatusCode::MISDIRECTED_REQUEST,
                "elsewhere",
                "several nodes serve this, and none knows what the others have: it is deleted \
                 with force alone",
            )
            .with("broker", &**other)
            .with(
                "brokers",
                leaders.iter().map(|one| &**one).collect::<Vec<_>>(),
            ),
        })
    }

    /// What the data cores of this node say of a resource now.
    async fn load(&self, named: Named) -> Result<Option<ResourceLoad>, Failure> {
        let now = self.api.observer.fresh(named).await;
        let now = now.map_err(|_| Failure::core_silent())?;
        Ok(now.told().load(named.0))
    }
}

/// Brokers that serve partitions of a resource, each once.
fn leaders(metadata: &Metadata, key: &ObjectKey) -> Vec<Box<str>> {
    let ObjectKey::Resource {
        kind,
        tenant,
        namespace,
        name,
    } = key
    else {
        return Vec::new();
    };
    let placed = ObjectKey::placement(*kind, tenant, namespace, name);
    let Some(Body::Placement(placement)) = metadata.get(&placed).map(|object| &object.body) else {
        return Vec::new();
    };
    let seats = placement.shards.iter().map(|shard| shard.seat.leader);
    let leaders: BTreeSet<_> = seats.collect();
    let name = |leader| broker_name(metadata, leader).into();
    leaders.into_iter().map(name).collect()
}

fn named(metadata: &Metadata, key: &ObjectKey) -> Option<Named> {
    resource_named(metadata.get(key)?)
}

/// A resource as it is looked at; `None` of anything else.
pub(crate) fn resource_named(object: &Object) -> Option<Named> {
    match &object.body {
        Body::Resource(resource) => Some((resource.id, resource.spec.shards)),
        _ => None,
    }
}

/// A page: the rows under their name, where it goes on, and of which version it is.
pub(crate) fn page(
    name: &str,
    read: Read,
    rows: impl Serialize,
    next: Option<&ObjectKey>,
) -> Reply {
    let mut body = Map::new();
    body.insert(name.into(), serde_json::to_value(rows).unwrap_or_default());
    let token = next.map(|key| URL_SAFE_NO_PAD.encode(key.to_string()));
    body.insert(
        "next_page_token".into(),
        token.map_or(Value::Null, Value::String),
    );
    body.insert("version".into(), read.version.0.into());
    Ok(read.mark(json(StatusCode::OK, &body)?))
}

/// An object of the metadata that there is, of another kind than its key says.
pub(crate) fn other_kind() -> Failure {
    PlaneError::Failed.into()
}

/// The version of an answer's object.
pub(crate) fn version_of(object: &Object) -> MetaVersion {
    object.meta.version
}

/// Whether the object was not what it was taken for.
fn is_conflict(error: &PlaneError) -> bool {
    matches!(error, PlaneError::Meta(error) if error.code() == MetaCode::VersionConflict)
}

/// What a right on an object would have to be on.
pub(crate) fn policy_object(key: &ObjectKey) -> PolicyObject {
    match key {
        ObjectKey::Namespace { tenant, name } => crate::access::namespace(tenant, name),
        ObjectKey::Resource {
            kind,
            tenant,
            namespace,
            name,
        }
        | ObjectKey::Placement {
            kind,
            tenant,
            namespace,
            name,
        } => PolicyObject::Resource {
            kind: (*kind).into(),
            tenant: tenant.clone(),
            namespace: namespace.clone(),
            name: pinion_metadata::Part::Exactly(name.clone()),
        },
        ObjectKey::Tenant(tenant) => PolicyObject::Tenant(tenant.clone()),
        _ => PolicyObject::Cluster,
    }
}
