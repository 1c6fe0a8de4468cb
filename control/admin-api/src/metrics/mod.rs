//! Metrics: what a node tells whoever watches it, as families that are then written as
//! text or shown on a page.
//!
//! [`gather`] puts them together from what the [observer](crate::observer) last heard of
//! the data cores, from the control plane, the process and its machine. `catalogue.rs` has
//! all names; start reading there. Series of single resources are bounded
//! ([`RESOURCES_TOLD_MAX`]), everything else is by core, log, kind, operation or code.

mod catalogue;
mod cores;
pub(crate) mod family;
mod host;
mod process;
mod resources;
mod text;
#[cfg(test)]
mod text_tests;
#[cfg(test)]
mod values_tests;

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use pinion_metadata::{Body, Metadata, ObjectKey};
use pinion_plane::PlaneStatus;
use pinion_raft_group::Role;
use pinion_types::{ResourceId, WallMs};

pub(crate) use catalogue::CATALOGUE;
pub(crate) use family::{Families, Family, Sample, Value};
pub use host::{Host, HostFacts};
pub(crate) use process::{ProcessFacts, thread_cpu};
pub(crate) use resources::{KINDS, Named, Resources, Sum, traffic};

use crate::call::{Call, Reply};
use crate::limits::{HOST_LOOK_EVERY, RESOURCES_TOLD_MAX};
use crate::observer::Snapshot;
use crate::rest::probes;
use crate::{Api, wall};
use catalogue as of;
use text::Format;

/// Everything that families are made of.
pub(crate) struct Gathered<'a> {
    pub(crate) node: &'a str,
    pub(crate) now: WallMs,
    /// When the node began to serve administrators, by the wall clock.
    pub(crate) began: WallMs,
    pub(crate) uptime: Duration,
    pub(crate) ready: bool,
    pub(crate) process: ProcessFacts,
    pub(crate) host: HostFacts,
    pub(crate) snapshot: &'a Snapshot,
    /// For how long each core has said nothing.
    pub(crate) silent: &'a [Duration],
    /// How long the control core has worked; `None` where that is not known.
    pub(crate) control_busy: Option<Duration>,
    pub(crate) resources: &'a Resources<'a>,
    pub(crate) names: &'a BTreeMap<ResourceId, Named>,
    /// `None` when the plane does not answer.
    pub(crate) plane: Option<&'a PlaneStatus>,
}

/// All families that have something to tell, in the order of the catalogue.
pub(crate) fn families(gathered: &Gathered<'_>) -> Vec<Family> {
    let mut all = Families::default();
    put_node(&mut all, gathered);
    cores::put(&mut all, gathered.snapshot);
    gathered.resources.put(&mut all, gathered.names);
    if let Some(status) = gathered.plane {
        put_plane(&mut all, status);
    }
    let mut all = all.into_vec();
    let place = |def| CATALOGUE.iter().position(|one| core::ptr::eq(*one, def));
    all.sort_by_key(|family| place(family.def));
    all
}

fn put_node(all: &mut Families, gathered: &Gathered<'_>) {
    let version = env!("CARGO_PKG_VERSION");
    all.put(&of::BUILD_INFO, &[version, gathered.node], 1_u64);
    all.put(&of::UPTIME, &[], gathered.uptime);
    all.put(&of::READY, &[], gathered.ready);
    let began = Duration::from_millis(gathered.began.0);
    all.put(&of::PROCESS_START, &[], began);
    let process = &gathered.process;
    all.put_some(&of::PROCESS_CPU, &[], process.cpu);
    all.put_some(&of::PROCESS_RESIDENT, &[], process.resident_bytes);
    all.put_some(&of::PROCESS_VIRTUAL, &[], process.virtual_bytes);
    all.put_some(&of::PROCESS_THREADS, &[], process.threads);
    all.put_some(&of::PROCESS_FILES, &[], process.open_files);
    all.put_some(&of::PROCESS_FILES_MAX, &[], process.files_max);
    all.put_some(&of::CPU_THROTTLED, &[], gathered.host.throttled);
    all.put_some(
        &of::STORAGE_FREE,
        &[],
        gathered.host.space.map(|space| space.0),
    );
    all.put_some(
        &of::STORAGE_SIZE,
        &[],
        gathered.host.space.map(|space| space.1),
    );
    let age = gathered.now.0.saturating_sub(gathered.snapshot.taken_at.0);
    all.put(&of::FACTS_AGE, &[], Duration::from_millis(age));
    all.put(&of::FACTS_TOOK, &[], gathered.snapshot.took);
    all.put(&of::CORES, &[], gathered.silent.len());
    all.put_some(&of::CORE_BUSY, &["control"], gathered.control_busy);
    for (core, silent) in gathered.silent.iter().enumerate() {
        all.put(&of::CORE_SILENT, &[&core.to_string()], *silent);
    }
}

fn put_plane(all: &mut Families, status: &PlaneStatus) {
    let group = &status.group;
    for (role, name) in [
        (Role::Leader, "leader"),
        (Role::Follower, "follower"),
        (Role::Candidate, "candidate"),
        (Role::PreCandidate, "pre_candidate"),
    ] {
        all.put(&of::RAFT_ROLE, &[name], group.role == role);
    }
    all.put(&of::RAFT_LEADER, &[], group.leader.is_some());
    all.put(&of::RAFT_TERM, &[], group.term);
    all.put(&of::RAFT_COMMIT, &[], group.commit);
    all.put(&of::RAFT_APPLIED, &[], group.applied);
    all.put(&of::RAFT_LAST, &[], group.last);
    all.put(&of::RAFT_SNAPSHOT, &[], group.snapshot);
    all.put_some(&of::RAFT_FLUSH, &[], group.flush);
    all.put_some(&of::RAFT_DECISION, &[], status.commit);
    all.put(&of::RAFT_PROPOSALS, &[], group.proposals);
    all.put(&of::RAFT_MEMBERS, &["voter"], group.voters.len());
    all.put(&of::RAFT_MEMBERS, &["learner"], group.learners.len());
    for peer in &status.peers {
        let name = match &peer.name {
            Some(name) => name.to_string(),
            None => peer.member.0.to_string(),
        };
        all.put(&of::RAFT_PEER_LAG, &[&name], peer.lag);
        all.put(&of::RAFT_PEER_ACTIVE, &[&name], peer.active);
    }
    all.put(&of::METADATA_VERSION, &[], status.version.0);
    all.put(&of::PLANE_REQUESTS, &[], status.requests);
    all.put(&of::PLANE_WATCHERS, &[], status.watchers);
}

/// A part of a whole; `None` of nothing.
pub(crate) fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// What is kept between two gatherings.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// Names of resources that were told lately, or that they have none any more: a number
    /// never gets another one.
    names: Mutex<BTreeMap<ResourceId, Option<Named>>>,
    /// The machine, and when it was looked at.
    host: Mutex<Option<(Instant, HostFacts)>>,
}

/// All families of this node as it is now, with series of at most `resources` resources.
pub(crate) async fn gather(api: &Api, resources: usize) -> Vec<Family> {
    let snapshot = api.observer.snapshot().await;
    let told = Resources::of(&snapshot, resources.min(RESOURCES_TOLD_MAX));
    let names = names(api, told.shown()).await;
    let plane = api.plane.status().await.ok();
    let standing = probes::look(api, plane.as_ref());
    let host = host(api).await;
    let gathered = Gathered {
        node: &api.node,
        now: wall(),
        began: api.begun_at,
        uptime: api.uptime(),
        ready: standing.is_ready(),
        process: process::look(),
        host,
        snapshot: &snapshot,
        silent: &api.observer.silent(),
        control_busy: api.observer.history().control.back().map(|last| last.busy),
        resources: &told,
        names: &names,
        plane: plane.as_ref(),
    };
    families(&gathered)
}

/// The names of these resources, as far as the metadata of this node has them.
async fn names(api: &Api, wanted: &[ResourceId]) -> BTreeMap<ResourceId, Named> {
    let lock = || {
        api.metrics
            .names
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    };
    let mut known = {
        let mut kept = lock();
        kept.retain(|id, _| wanted.contains(id));
        kept.clone()
    };
    let unknown: Vec<ResourceId> = wanted
        .iter()
        .copied()
        .filter(|id| !known.contains_key(id))
        .collect();
    if !unknown.is_empty() {
        let looked = api.plane.look(move |metadata| find(metadata, unknown));
        if let Ok(Some(found)) = looked.await {
            known.extend(found);
            lock().clone_from(&known);
        }
    }
    let named = |(id, named): (ResourceId, Option<Named>)| Some((id, named?));
    known.into_iter().filter_map(named).collect()
}

/// By going through all of them: the metadata is in the order of names.
fn find(metadata: &Metadata, wanted: Vec<ResourceId>) -> BTreeMap<ResourceId, Option<Named>> {
    let mut left = wanted.len();
    let mut found: BTreeMap<_, _> = wanted.into_iter().map(|id| (id, None)).collect();
    for object in metadata.objects() {
        if let ObjectKey::Resource {
            tenant,
            namespace,
            name,
            ..
        } = &object.meta.key
            && let Body::Resource(resource) = &object.body
            && let Some(named) = found.get_mut(&resource.id)
        {
            *named = Some(Named {
                tenant: tenant.clone(),
                namespace: namespace.clone(),
                name: name.clone(),
            });
            left -= 1;
            if left == 0 {
                break;
            }
        }
    }
    found
}

/// The machine, looked at not long ago. The look may wait for a file system, so it is not
/// on this thread.
pub(crate) async fn host(api: &Api) -> HostFacts {
    let lock = || {
        api.metrics
            .host
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    };
    let fresh = |(at, _): &(Instant, HostFacts)| at.elapsed() < HOST_LOOK_EVERY;
    if let Some((_, facts)) = lock().filter(fresh) {
        return facts;
    }
    let host = api.host.clone();
    let looked = tokio::task::spawn_blocking(move || host.look());
    let facts = looked.await.unwrap_or_default();
    *lock() = Some((Instant::now(), facts));
    facts
}

/// `GET /metrics`
pub(crate) async fn metrics(call: Call) -> Reply {
    let resources = call.number_param("resources")?;
    let resources = resources.map_or(RESOURCES_TOLD_MAX, |wanted| {
        usize::try_from(wanted).unwrap_or(RESOURCES_TOLD_MAX)
    });
    let format = Format::accepted(&call.header_list(&ACCEPT));
    let families = gather(&call.api, resources).await;
    let mut response = Response::new(axum::body::Body::from(text::render(&families, format)));
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static(format.content_type()),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
