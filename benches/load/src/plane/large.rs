//! Much of everything in the metadata, and many who follow it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::http::Http;
use super::nodes::{Cluster, Node};
use super::report::{Section, Wanted, histogram, record};
use super::{PlaneError, Sizes};

const SNAPSHOT_MAX_MIB: f64 = 64.0;
const SNAPSHOT_MAX_S: f64 = 2.0;
const MEMORY_MAX_MIB: f64 = 512.0;
const WATCHED_MAX: Duration = Duration::from_millis(100);

/// Streams that are declared in one request.
const BATCH: usize = 200;

/// Snapshots that are read.
const SNAPSHOTS: usize = 5;

/// Longest until a watcher must have been told.
const TOLD_MAX: Duration = Duration::from_secs(10);

/// A broker says so often that it lives.
const BEAT_EVERY: Duration = Duration::from_secs(5);

/// Fills the metadata, reads it whole, and lets many follow it.
pub(super) async fn play(cluster: &Cluster, sizes: &Sizes) -> Result<Section, PlaneError> {
    let mut section = Section::new(
        "Much of everything",
        "Brokers that do not exist are registered and say every 5 s that they live; streams of 4 shards are declared through the \
         leader, 200 in a batch. A snapshot is the whole answer of `/v1/metadata/snapshot`; as it is sent \
         to other nodes it is a row of `pinion-micro`. Memory is what the \
         leader's process takes in all, and by how much it grew. Watchers (SSE) follow on all three nodes; the time \
         counts from a change's answer until they are told, and one that was told before the answer counts as 0.",
    );
    let leader = cluster.leader().await?;
    let before = cluster.resident(&leader)?;
    let mut http = Http::connect(&leader).await?;
    for broker in 0..sizes.brokers {
        let body = json!({
            "name": format!("b{broker}"),
            "address": format!("b{broker}.example:7420"),
            "incarnation": "1",
            "capacity": {"max_shards": 10_000, "max_connections": 1_000},
        });
        let body = body.to_string();
        let made = http.ask(&leader, "POST", "/v1/brokers", &body).await?;
        made.good()?;
    }
    let brokers = sizes.brokers;
    let beating = tokio::spawn(beat(leader.clone(), brokers));
    for (path, body) in [
        ("/v1/tenants", json!({"name": "large"})),
        ("/v1/tenants/large/namespaces", json!({"name": "all"})),
    ] {
        let made = http.ask(&leader, "POST", path, &body.to_string()).await?;
        made.good()?;
    }
    let began = Instant::now();
    for first in (0..sizes.streams).step_by(BATCH) {
        let last = sizes.streams.min(first + BATCH);
        let objects: Vec<Value> = (first..last).map(stream).collect();
        let body = json!({"objects": objects}).to_string();
        let made = http.ask(&leader, "POST", "/v1/apply", &body).await?;
        made.good()?;
    }
    let what = format!("making {} streams and {brokers} brokers", sizes.streams);
    let took = began.elapsed().as_secs_f64();
    section.figure(&what, took, "s", Wanted::Nothing);
    let (mut slowest, mut bytes) = (0.0_f64, 0);
    for _ in 0..SNAPSHOTS {
        let asked = Instant::now();
        let answer = http
            .ask(&leader, "GET", "/v1/metadata/snapshot", "")
            .await?;
        bytes = answer.good()?.len() as u64;
        slowest = slowest.max(asked.elapsed().as_secs_f64());
    }
    let most = Wanted::AtMost;
    section.figure(
        "its snapshot as JSON",
        mib(bytes),
        "MiB",
        most(SNAPSHOT_MAX_MIB),
    );
    let what = format!("until it was read, slowest of {SNAPSHOTS}");
    section.figure(&what, slowest, "s", most(SNAPSHOT_MAX_S));
    let after = cluster.resident(&leader)?;
    section.figure(
        "memory of the leader",
        mib(after),
        "MiB",
        most(MEMORY_MAX_MIB),
    );
    let grown = mib(after.saturating_sub(before));
    section.figure("more than before", grown, "MiB", Wanted::Nothing);
    watch(cluster, sizes, &mut section).await?;
    beating.abort();
    Ok(section)
}

#[allow(clippy::cast_precision_loss)] // bytes far below 2^53
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn stream(number: usize) -> Value {
    json!({
        "apiVersion": "pinion.io/v1",
        "kind": "Stream",
        "metadata": {"tenant": "large", "namespace": "all", "name": format!("s{number}")},
        "spec": {"shards": 4, "durability": "durable"},
    })
}

/// What brokers say while nobody looks. When it fails they count as down, which changes
/// nothing that is measured here.
async fn beat(leader: Node, brokers: usize) {
    let Ok(mut http) = Http::connect(&leader).await else {
        return;
    };
    loop {
        for broker in 0..brokers {
            let path = format!("/v1/brokers/b{broker}/health");
            if http.ask(&leader, "POST", &path, "{}").await.is_err() {
                return;
            }
        }
        sleep(BEAT_EVERY).await;
    }
}

async fn watch(cluster: &Cluster, sizes: &Sizes, section: &mut Section) -> Result<(), PlaneError> {
    let leader = cluster.leader().await?;
    let status = leader.raft().await?;
    let path = format!("/v1/metadata/watch?from_version={}", status["version"]);
    let (told, mut tells) = unbounded_channel();
    let mut watchers = JoinSet::new();
    for watcher in 0..sizes.watchers {
        let node = &cluster.nodes[watcher % cluster.nodes.len()];
        let http = Http::connect(node).await?;
        let mut events = http.follow(node, &path).await?;
        let (told, changes) = (told.clone(), sizes.followed);
        watchers.spawn(async move {
            for change in 0..changes {
                let at = events.await_text(&text(change)).await?;
                // Who counts may have given up.
                let _ = told.send((change, at));
            }
            Ok::<(), PlaneError>(())
        });
    }
    let mut http = Http::connect(&leader).await?;
    let (mut each, mut last) = (histogram(), histogram());
    for change in 0..sizes.followed {
        let body = json!({"description": text(change)}).to_string();
        let answer = http
            .ask(&leader, "PATCH", "/v1/tenants/large", &body)
            .await?;
        let answered = Instant::now();
        answer.good()?;
        let took = all_told(&mut tells, change, sizes.watchers, answered).await?;
        took.iter().for_each(|took| record(&mut each, *took));
        record(&mut last, took.into_iter().max().unwrap_or_default());
    }
    let what = format!("each of {} watchers is told of a change", sizes.watchers);
    section.bounded(&what, &each, (0.99, WATCHED_MAX));
    section.bounded("the last of them", &last, (0.99, WATCHED_MAX));
    Ok(())
}

async fn all_told(
    tells: &mut UnboundedReceiver<(usize, Instant)>,
    change: usize,
    watchers: usize,
    answered: Instant,
) -> Result<Vec<Duration>, PlaneError> {
    let mut took = Vec::with_capacity(watchers);
    while took.len() < watchers {
        let next = timeout(TOLD_MAX, tells.recv()).await;
        let Ok(Some((of, at))) = next else {
            return Err(PlaneError::Untold {
                told: took.len(),
                watchers,
            });
        };
        if of == change {
            took.push(at.saturating_duration_since(answered));
        }
    }
    Ok(took)
}

fn text(change: usize) -> String {
    format!("told-{change}-told")
}
