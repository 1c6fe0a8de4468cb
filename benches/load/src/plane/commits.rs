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

/// A change may take so many times a bare write.
const RATIO_MAX: f64 = 3.0;
/// Changes a second that [`CLIENTS`] must get.
const RATE_MIN: f64 = 2_000.0;

impl Node {
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
        "A client of the leader changes a namespace, one request after the other. Between two changes the disk is written by itself: \
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
    let mut found: [Histogram<u64>; 4] = std::array::from_fn(|_| histogram());
    for number in 0..u64::from(commits) {
        record(&mut found[0], cached.write()?);
        record(&mut found[1], direct.write()?);
        record(&mut found[2], three.write()?);
        let began = Instant::now();
        leader.change(&mut http, 0, number).await?;
        record(&mut found[3], began.elapsed());
    }
    let [cached, direct, three, change] = &found;
    section.times("write + fdatasync through the page cache", cached);
    section.times("the same past it", direct);
    section.times("the same past it, three at once: the second", three);
    section.times("a change, asked at the leader", change);
    let p50 = |of: &Histogram<u64>| Duration::from_micros(of.value_at_quantile(0.5).max(1));
    let ratio = |of| p50(change).as_secs_f64() / p50(of).as_secs_f64();
    let most = Wanted::AtMost(RATIO_MAX);
    section.figure("its p50 / that of the bare write", ratio(cached), "", most);
    section.figure("/ past the page cache", ratio(direct), "", Wanted::Nothing);
    section.figure("/ three at once", ratio(three), "", Wanted::Nothing);
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
