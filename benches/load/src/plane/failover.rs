//! What a node that dies, stops, comes back or has lost everything costs the others.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use pinion_client::{Client, ClientConfig, PublisherOptions, Record};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::PlaneError;
use super::commits::CLIENTS;
use super::http::Http;
use super::nodes::{Cluster, Node, PATIENCE};
use super::report::{Section, Wanted, histogram, record};

/// How often somebody asks after the leader was killed, and how long each is waited for:
/// a request that went to the dead leader is answered by nobody.
const ASK_EVERY: Duration = Duration::from_millis(25);
const ASK_PATIENCE: Duration = Duration::from_secs(1);

/// How long a leader stands still. Longer than an election, so that another leads when it
/// goes on.
const STOPPED: Duration = Duration::from_secs(3);

/// Until another node has done a change: in the middle, and at most.
const DONE_P50_MAX: Duration = Duration::from_secs(1);
const DONE_MAX: Duration = Duration::from_secs(3);

/// The 99th percentile of a publish in the second after a leader was killed, over that in the
/// second before: what the data path has of it. Nothing, but for what two such seconds differ by
/// anyway, which the control says.
const PUBLISH_P99_OVER_MAX: f64 = 1.10;

/// As long as is published before, in the control, and at least from the blow on.
const SPAN: Duration = Duration::from_secs(1);

/// Numbers of changes that nobody else uses.
static NUMBER: AtomicU64 = AtomicU64::new(1 << 48);

/// What is done to the leader.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Blow {
    Kill,
    Stop,
}

/// Kills and stops leaders while somebody publishes at another node.
pub(super) async fn leaders(
    cluster: &Cluster,
    kills: u32,
    stops: u32,
) -> Result<Vec<Section>, PlaneError> {
    let killed = Section::new(
        "A leader is killed",
        "SIGKILL; from then on the two others are asked for a change every 25 ms, and the time counts until the first \
         of them says that one is done. Beside it records of 100 B are published to a stream in memory at a node that \
         lives, one after the other: in a second, in another one to which nothing happens either (the control), and in the one \
         after the signal, or until the change was done where that takes longer. Then the node is started again, and \
         the next round begins when it votes and has everything.",
    );
    let stopped = Section::new(
        "A leader is stopped",
        "The same with SIGSTOP: its connections stay, and nobody is told. It goes on after three seconds and follows.",
    );
    let mut sections = Vec::new();
    for (mut section, blow, times) in [(killed, Blow::Kill, kills), (stopped, Blow::Stop, stops)] {
        if times == 0 {
            continue;
        }
        let mut found = Found::new();
        for _ in 0..times {
            round(cluster, blow, &mut found).await?;
        }
        found.tell(&mut section, blow);
        sections.push(section);
    }
    Ok(sections)
}

/// What all rounds of a blow found.
struct Found {
    /// Until a change was done.
    took: Histogram<u64>,
    /// Publishes in the second before the control.
    before: Histogram<u64>,
    /// And in the control.
    control: Histogram<u64>,
    /// And from the blow on.
    meanwhile: Histogram<u64>,
}

impl Found {
    fn new() -> Self {
        Self {
            took: histogram(),
            before: histogram(),
            control: histogram(),
            meanwhile: histogram(),
        }
    }

    fn tell(&self, section: &mut Section, blow: Blow) {
        let took = &self.took;
        section.bounded("until a change was done", took, (0.5, DONE_P50_MAX));
        section.bounded("the same, longest", took, (1.0, DONE_MAX));
        section.times("publish in the second before", &self.before);
        section.times("publish in the control", &self.control);
        section.times("publish meanwhile", &self.meanwhile);
        let wanted = match blow {
            Blow::Kill => Wanted::AtMost(PUBLISH_P99_OVER_MAX),
            Blow::Stop => Wanted::Nothing,
        };
        let before = &self.before;
        let meanwhile = (&self.meanwhile, before);
        section.p99_over("publish p99, meanwhile over before", meanwhile, wanted);
        let control = (&self.control, before);
        section.p99_over("the same, control over before", control, Wanted::Nothing);
    }
}

async fn round(cluster: &Cluster, blow: Blow, found: &mut Found) -> Result<(), PlaneError> {
    let leader = cluster.leader().await?;
    let others = cluster.others(&leader);
    let load = Load::start(&others[0])?;
    sleep(SPAN).await;
    load.part(&mut found.before);
    sleep(SPAN).await;
    load.part(&mut found.control);
    let began = Instant::now();
    cluster.signal(
        &leader,
        match blow {
            Blow::Kill => "KILL",
            Blow::Stop => "STOP",
        },
    )?;
    until_changed(&others).await?;
    record(&mut found.took, began.elapsed());
    sleep(SPAN.saturating_sub(began.elapsed())).await;
    load.part(&mut found.meanwhile);
    load.end().await?;
    match blow {
        Blow::Kill => {
            cluster.await_end(&leader).await?;
            cluster.start(&leader)?;
        }
        Blow::Stop => {
            sleep(STOPPED.saturating_sub(began.elapsed())).await;
            cluster.signal(&leader, "CONT")?;
        }
    }
    cluster.await_whole().await
}

/// Asks `others` in turn until one of them has done a change.
async fn until_changed(others: &[Node]) -> Result<(), PlaneError> {
    let began = Instant::now();
    let mut asks = JoinSet::new();
    for turn in 0.. {
        if began.elapsed() > PATIENCE {
            return Err(PlaneError::Leaderless(PATIENCE));
        }
        let node = others[turn % others.len()].clone();
        asks.spawn(async move {
            let change = async {
                let mut http = Http::connect(&node).await?;
                let number = NUMBER.fetch_add(1, Ordering::Relaxed);
                node.change(&mut http, turn % CLIENTS, number).await
            };
            let done = tokio::time::timeout(ASK_PATIENCE, change).await;
            matches!(done, Ok(Ok(())))
        });
        let next = sleep(ASK_EVERY);
        tokio::pin!(next);
        loop {
            tokio::select! {
                Some(done) = asks.join_next() => if done.unwrap_or(false) { return Ok(()) },
                () = &mut next => break,
            }
        }
    }
    Ok(())
}

/// Ends and starts every node once, and lets one lose everything.
pub(super) async fn returns(cluster: &Cluster) -> Result<Section, PlaneError> {
    let mut section = Section::new(
        "A node comes back",
        "Every node once, the leader last. It is told to end (SIGTERM) and started again; the second time counts from its \
         start until it votes and has everything the leader has. A node that has lost its disk is taken back under a new \
         number, once the others have missed it for three heartbeats (15 s); the time counts from its start, too.",
    );
    let (mut ends, mut back) = (histogram(), histogram());
    let leader = cluster.leader().await?;
    let mut nodes = cluster.others(&leader);
    nodes.push(leader);
    for node in &nodes {
        let began = Instant::now();
        cluster.signal(node, "TERM")?;
        cluster.await_end(node).await?;
        record(&mut ends, began.elapsed());
        let began = Instant::now();
        cluster.start(node)?;
        cluster.await_whole().await?;
        record(&mut back, began.elapsed());
    }
    section.times("until it has ended", &ends);
    section.times("from its start until it votes and has everything", &back);
    let mut wiped = histogram();
    let leader = cluster.leader().await?;
    let lost = cluster.others(&leader).remove(0);
    let began = Instant::now();
    cluster.wipe(&lost)?;
    cluster.await_whole().await?;
    record(&mut wiped, began.elapsed());
    section.times("one that lost everything: the same", &wiped);
    Ok(section)
}

/// Records published one after the other, from a thread of its own.
struct Load {
    stop: Arc<AtomicBool>,
    took: Arc<Mutex<VecDeque<Duration>>>,
    task: JoinHandle<Result<(), String>>,
}

impl Load {
    fn start(node: &Node) -> Result<Self, PlaneError> {
        let stop = Arc::new(AtomicBool::new(false));
        let took: Arc<Mutex<VecDeque<Duration>>> = Arc::default();
        let config = ClientConfig::new(node.address.clone())
            .ca_pem(node.ca.clone())
            .token(node.token.clone());
        let (stopped, into) = (Arc::clone(&stop), Arc::clone(&took));
        let name = format!("bench/{}", node.name);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(PlaneError::io("a runtime"))?;
        let task =
            std::thread::spawn(move || runtime.block_on(publish(config, &name, &stopped, &into)));
        Ok(Self { stop, took, task })
    }

    /// What was published since the last part.
    fn part(&self, into: &mut Histogram<u64>) {
        let mut took = self.took.lock().unwrap_or_else(PoisonError::into_inner);
        for one in took.drain(..) {
            record(into, one);
        }
    }

    async fn end(self) -> Result<(), PlaneError> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = tokio::task::spawn_blocking(move || self.task.join()).await;
        match ended {
            Ok(Ok(outcome)) => outcome.map_err(PlaneError::Publish),
            _ => Err(PlaneError::Publish("the publisher panicked".to_owned())),
        }
    }
}

async fn publish(
    config: ClientConfig,
    name: &str,
    stop: &AtomicBool,
    took: &Mutex<VecDeque<Duration>>,
) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Debug| format!("{error:?}");
    let client = Client::connect(config).await;
    let client = client.map_err(|error| text(&error))?;
    // In memory: what is looked for is whether the data path waits for the control plane.
    let stream = client.stream(name).await;
    let publisher = stream
        .map_err(|error| text(&error))?
        .publisher(PublisherOptions::default());
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let ticket = publisher.publish(Record::new(vec![7; 100])).await;
        let done = ticket.map_err(|error| text(&error))?.await;
        done.map_err(|error| text(&error))?;
        let mut took = took.lock().unwrap_or_else(PoisonError::into_inner);
        took.push_back(began.elapsed());
    }
    client.close().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plane::report::markdown;

    /// The rows about ratios, after publishes that took so many milliseconds.
    fn ratios(blow: Blow, [before, control, meanwhile]: [u64; 3]) -> String {
        let mut found = Found::new();
        for (into, ms) in [
            (&mut found.before, before),
            (&mut found.control, control),
            (&mut found.meanwhile, meanwhile),
        ] {
            record(into, Duration::from_millis(ms));
        }
        let mut section = Section::new("Title", "Note.");
        found.tell(&mut section, blow);
        let text = markdown(&[section]);
        let rows = text.lines().filter(|line| line.contains(" over "));
        rows.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn publishes_while_a_leader_is_killed_are_judged_beside_a_control() {
        let missed = "| publish p99, meanwhile over before | 2.00 × | ≤ 1.1 × | **missed** |\n\
                      | the same, control over before | 1.50 × |  |  |";
        assert_eq!(ratios(Blow::Kill, [20, 30, 40]), missed);
        let held = "| publish p99, meanwhile over before | 1.00 × | ≤ 1.1 × | held |\n\
                    | the same, control over before | 1.00 × |  |  |";
        assert_eq!(ratios(Blow::Kill, [20, 20, 20]), held);
        let told = "| publish p99, meanwhile over before | 2.00 × |  |  |\n\
                    | the same, control over before | 1.50 × |  |  |";
        assert_eq!(ratios(Blow::Stop, [20, 30, 40]), told);
    }
}
