//! How long a change takes, and how many there are in a second.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use super::PlaneError;
use super::disk::{Raw, Three};
use super::http::Http;
use super::nodes::{Cluster, Node};
use super::report::{Section, Wanted, histogram, record};

/// Clients that ask without a pause for the rate.
pub(super) const CLIENTS: usize = 64;

/// The decision on a change may take so many times a bare write.
const RATIO_MAX: f64 = 3.0;
/// Changes a second that [`CLIENTS`] must get.
const RATE_MIN: f64 = 2_000.0;

/// Decisions whose median a node tells: `FLUSHES_KEPT` of control/raft-group.
const DECISIONS: u64 = 32;

/// From one reading of the metrics to the next: a node lets one principal read them ten times
/// a second.
const READ_EVERY: Duration = Duration::from_millis(110);

impl Node {
    /// Median of the last decisions, as a node that leads tells it.
    async fn decision(&self, http: &mut Http) -> Result<Duration, PlaneError> {
        let body = http.ask(self, "GET", "/metrics", "").await?.good()?;
        let text = String::from_utf8_lossy(&body);
        let told = text
            .lines()
            .find_map(|line| line.strip_prefix("pinion_raft_commit_seconds "));
        let seconds: Option<f64> = told.and_then(|told| told.trim().parse().ok());
        let took = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        took.ok_or_else(|| PlaneError::Unreadable {
            body: "no pinion_raft_commit_seconds in /metrics".to_owned(),
        })
    }

    /// A change that is a change each time.
    pub(super) async fn change(
        &self,
        http: &mut Http,
        client: usize,
        number: u64,
    ) -> Result<(), PlaneError> {
        let path = format!("/v1/tenants/default/namespaces/bench-{client}");
        let body = format!("{{\"description\":\"{number}\"}}");
        let answer = http.ask(self, "PATCH", &path, &body).await?;
        answer.good().map(drop)
    }
}

/// Something to change, for every client.
pub(super) async fn prepare(cluster: &Cluster) -> Result<(), PlaneError> {
    let node = cluster.leader().await?;
    let mut http = Http::connect(&node).await?;
    for client in 0..CLIENTS {
        let body = format!("{{\"name\":\"bench-{client}\"}}");
        let path = "/v1/tenants/default/namespaces";
        let answer = http.ask(&node, "POST", path, &body).await?;
        // There from an earlier run.
        if answer.status != 409 {
            answer.good()?;
        }
    }
    Ok(())
}

/// Changes and bare writes take turns, so that all meet the same disk.
pub(super) async fn latency(cluster: &Cluster, commits: u32) -> Result<Section, PlaneError> {
    let mut section = Section::new(
        "A change, one client",
        "A client of the leader changes a namespace, one request after the other. What is held against the disk is the decision: \
         from the turn of the leader that proposes the change until the turn that knows that two of three have it on their \
         disks, as `pinion_raft_commit_seconds` tells it, the median of every 32; the rest of what the client waits for is HTTP, \
         authorisation and JSON. Between two changes the disk is written by itself: \
         4 KiB and `fdatasync`, into a file that is full of zeros; through the page cache, past it (`O_DIRECT`, as the nodes \
         write their logs), and past it by three threads at once, of which the second counts: a change is \
         decided when two of three nodes have it, and here all three share one disk.",
    );
    let dir = cluster.dir();
    let mut cached = Raw::create(dir, "raw-cached", false)?;
    let mut direct = Raw::create(dir, "raw-direct", true)?;
    let three = Three::start(dir)?;
    let leader = cluster.leader().await?;
    let mut http = Http::connect(&leader).await?;
    let mut found: [Histogram<u64>; 5] = std::array::from_fn(|_| histogram());
    let mut read_at = Instant::now();
    for number in 0..u64::from(commits) {
        record(&mut found[0], cached.write()?);
        record(&mut found[1], direct.write()?);
        record(&mut found[2], three.write()?);
        let began = Instant::now();
        leader.change(&mut http, 0, number).await?;
        record(&mut found[3], began.elapsed());
        if number % DECISIONS == DECISIONS - 1 {
            tokio::time::sleep(READ_EVERY.saturating_sub(read_at.elapsed())).await;
            read_at = Instant::now();
            record(&mut found[4], leader.decision(&mut http).await?);
        }
    }
    let [cached, direct, three, change, decision] = &found;
    section.times("write + fdatasync through the page cache", cached);
    section.times("the same past it", direct);
    section.times("the same past it, three at once: the second", three);
    section.times("a change, asked at the leader", change);
    let p50 = |of: &Histogram<u64>| Duration::from_micros(of.value_at_quantile(0.5).max(1));
    section.times("its decision: medians of 32 each", decision);
    let ratio = |of, to| p50(of).as_secs_f64() / p50(to).as_secs_f64();
    for (what, of) in [("decision", decision), ("change", change)] {
        let most = match what {
            "decision" => Wanted::AtMost(RATIO_MAX),
            _ => Wanted::Nothing,
        };
        let of_write = |to| ratio(of, to);
        section.figure(
            &format!("p50 of a {what} / that of the bare write"),
            of_write(cached),
            "",
            most,
        );
        section.figure(
            "/ past the page cache",
            of_write(direct),
            "",
            Wanted::Nothing,
        );
        section.figure("/ three at once", of_write(three), "", Wanted::Nothing);
    }
    Ok(section)
}

/// Many clients of the leader, none of which pauses.
pub(super) async fn rate(cluster: &Cluster, seconds: u64) -> Result<Section, PlaneError> {
    let mut section = Section::new(
        "Changes, 64 clients",
        "Each asks the leader for the next change when it has the answer to the last one. Clients and all three nodes \
         share this machine's processors.",
    );
    let leader = cluster.leader().await?;
    let began = Instant::now();
    let until = began + Duration::from_secs(seconds);
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let leader = leader.clone();
        clients.spawn(async move {
            let mut http = Http::connect(&leader).await?;
            let mut took = histogram();
            let mut number = 1 << 32;
            while Instant::now() < until {
                let began = Instant::now();
                leader.change(&mut http, client, number).await?;
                record(&mut took, began.elapsed());
                number += 1;
            }
            Ok(took)
        });
    }
    let mut all = histogram();
    for took in clients.join_all().await {
        let took: Result<Histogram<u64>, PlaneError> = took;
        all.add(&took?).expect("made alike");
    }
    #[allow(clippy::cast_precision_loss)] // a count
    let rate = all.len() as f64 / began.elapsed().as_secs_f64();
    section.figure("changes", rate, "/s", Wanted::AtLeast(RATE_MIN));
    section.times("each", &all);
    Ok(section)
}
