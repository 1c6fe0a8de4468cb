//! What a cluster's control plane does on this machine: how long a change takes beside a
//! bare write to the same disk, how many there are in a second, and how long nobody decides
//! when the leader is killed. Against nodes that `scripts/cluster up 3` has started.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use pinion_client::{Client, ClientConfig, PublisherOptions, Record};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Bytes of a bare write: one block of a log, which is what a small command takes.
const RAW_BYTES: usize = 4096;

/// Bytes of the file that bare writes go to, one after the other.
const RAW_FILE_BYTES: u64 = 16 << 20;

/// Clients that ask without a pause for the rate.
const CLIENTS: usize = 64;

/// How often somebody asks after the leader was killed, and how long each is waited for:
/// a request that went to the dead leader is answered by nobody.
const ASK_EVERY: Duration = Duration::from_millis(50);
const ASK_PATIENCE: Duration = Duration::from_secs(1);

/// Longest time that is told; what takes longer is given up before.
const TOOK_MAX: Duration = Duration::from_secs(60);

/// Longest a cluster may be without a leader before the measurement is given up.
const LEADERLESS_MAX: Duration = Duration::from_secs(30);

/// What is measured.
#[derive(Clone, Debug, clap::Args)]
pub struct PlaneArgs {
    /// The cluster's directory, as `scripts/cluster` made it
    #[arg(long, default_value = "target/cluster")]
    dir: PathBuf,
    /// Changes one after the other, each beside a bare write
    #[arg(long, default_value_t = 1000)]
    commits: u32,
    /// Seconds of 64 clients
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// How often the leader is killed
    #[arg(long, default_value_t = 50)]
    kills: u32,
}

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum PlaneError {
    /// There is no cluster, or its files cannot be read.
    #[error("{path}: {source}; start a cluster with: scripts/cluster up 3")]
    Cluster {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A node or the disk did not do what it must.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A node refused a change.
    #[error("a node answered {status} to a change: {body}")]
    Refused {
        /// The status of HTTP.
        status: u16,
        /// What it said.
        body: String,
    },
    /// Nobody decides any more.
    #[error("nobody leads after {0:?}")]
    Leaderless(Duration),
    /// The publisher failed while a node was killed that it did not use.
    #[error("publishing failed: {0}")]
    Publish(String),
}

fn io(what: &'static str) -> impl Fn(io::Error) -> PlaneError {
    move |source| PlaneError::Io { what, source }
}

/// One node of the cluster.
#[derive(Clone, Debug)]
struct Node {
    name: String,
    address: String,
    ca: Vec<u8>,
    token: String,
}

impl Node {
    fn read_all(dir: &Path) -> Result<Vec<Self>, PlaneError> {
        let cluster = |path: &Path| {
            let path = path.to_owned();
            move |source| PlaneError::Cluster { path, source }
        };
        let mut nodes = Vec::new();
        for entry in fs::read_dir(dir).map_err(cluster(dir))? {
            let file = entry.map_err(cluster(dir))?.path();
            let Some(name) = file.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            let Some(name) = name.strip_suffix(".toml") else {
                continue;
            };
            let text = fs::read_to_string(&file).map_err(cluster(&file))?;
            let listen = text.lines().find_map(|line| line.strip_prefix("listen = "));
            let dev = dir.join(name).join("dev");
            let (ca, token) = (dev.join("ca.pem"), dev.join("admin.token"));
            let secret = fs::read_to_string(&token).map_err(cluster(&token))?;
            nodes.push(Self {
                name: name.to_owned(),
                address: listen.unwrap_or_default().trim_matches('"').to_owned(),
                ca: fs::read(&ca).map_err(cluster(&ca))?,
                token: secret.trim().to_owned(),
            });
        }
        nodes.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(nodes)
    }

    /// A change that is a change each time.
    async fn change(&self, http: &mut Http, client: usize, number: u64) -> Result<(), PlaneError> {
        let path = format!("/v1/tenants/default/namespaces/bench-{client}");
        let body = format!("{{\"description\":\"{number}\"}}");
        let (status, body) = http.ask(self, "PATCH", &path, &body).await?;
        match status {
            200..=299 => Ok(()),
            _ => Err(PlaneError::Refused { status, body }),
        }
    }
}

/// One connection for requests, one after the other (RFC 9112).
struct Http {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Http {
    async fn connect(node: &Node) -> Result<Self, PlaneError> {
        let stream = TcpStream::connect(&node.address).await;
        let stream = stream.map_err(io("connecting to a node"))?;
        stream.set_nodelay(true).map_err(io("a socket"))?;
        let read = Vec::new();
        Ok(Self { stream, read })
    }

    async fn ask(
        &mut self,
        node: &Node,
        method: &str,
        path: &str,
        body: &str,
    ) -> Result<(u16, String), PlaneError> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            node.address,
            node.token,
            body.len(),
        );
        let sent = self.stream.write_all(request.as_bytes()).await;
        sent.map_err(io("asking a node"))?;
        loop {
            if let Some((answer, len)) = whole(&self.read) {
                self.read.drain(..len);
                return Ok(answer);
            }
            let got = self.stream.read_buf(&mut self.read).await;
            if got.map_err(io("hearing a node"))? == 0 {
                let ended = io::Error::from(io::ErrorKind::UnexpectedEof);
                return Err(io("hearing a node")(ended));
            }
        }
    }
}

/// A whole answer at the beginning, and its length.
fn whole(read: &[u8]) -> Option<((u16, String), usize)> {
    let head = read.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&read[..head])
        .ok()?
        .to_ascii_lowercase();
    let status = text.split(' ').nth(1)?.parse().ok()?;
    let field = |line: &str| line.strip_prefix("content-length:")?.trim().parse().ok();
    let len: usize = text.lines().find_map(field).unwrap_or(0);
    let body = read.get(head..head + len)?;
    Some((
        (status, String::from_utf8_lossy(body).into_owned()),
        head + len,
    ))
}

/// Measures, and prints a line for each figure.
///
/// # Errors
/// [`PlaneError`]: nothing is left but the namespaces `bench-*`.
pub fn run(args: &PlaneArgs) -> Result<(), PlaneError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(io("a runtime"))?;
    runtime.block_on(async {
        let nodes = Node::read_all(&args.dir)?;
        prepare(&nodes[0]).await?;
        commits(&nodes, args).await?;
        rate(&nodes, args).await?;
        if args.kills > 0 {
            kills(&nodes, args).await?;
        }
        Ok(())
    })
}

async fn prepare(node: &Node) -> Result<(), PlaneError> {
    let mut http = Http::connect(node).await?;
    for client in 0..CLIENTS {
        let body = format!("{{\"name\":\"bench-{client}\"}}");
        let path = "/v1/tenants/default/namespaces";
        let (status, body) = http.ask(node, "POST", path, &body).await?;
        // There from an earlier run.
        if status != 201 && status != 409 {
            return Err(PlaneError::Refused { status, body });
        }
    }
    Ok(())
}

/// Changes and bare writes take turns, so that both meet the same disk.
async fn commits(nodes: &[Node], args: &PlaneArgs) -> Result<(), PlaneError> {
    let file = Raw::create(&args.dir)?;
    let leader = leader(nodes, args)?;
    let mut http = Http::connect(&leader).await?;
    let (mut raw, mut commit) = (histogram(), histogram());
    for number in 0..u64::from(args.commits) {
        record(&mut raw, file.write(number)?);
        let began = Instant::now();
        leader.change(&mut http, 0, number).await?;
        record(&mut commit, began.elapsed());
    }
    line("write + fdatasync of 4 KiB", &raw);
    line("change committed, asked at the leader", &commit);
    let ratio = commit.value_at_quantile(0.5) as f64 / raw.value_at_quantile(0.5) as f64;
    println!("  p50 is {ratio:.1} times that of the bare write");
    Ok(())
}

async fn rate(nodes: &[Node], args: &PlaneArgs) -> Result<(), PlaneError> {
    let leader = leader(nodes, args)?;
    let until = Instant::now() + Duration::from_secs(args.seconds);
    let began = Instant::now();
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
        let took: Histogram<u64> = took?;
        all.add(&took).expect("made alike");
    }
    let rate = all.len() as f64 / began.elapsed().as_secs_f64();
    println!("{CLIENTS} clients: {rate:.0} changes a second");
    line("  each", &all);
    Ok(())
}

/// Kills the leader again and again, asks the others until one of them has done a change,
/// and publishes at one of them meanwhile.
async fn kills(nodes: &[Node], args: &PlaneArgs) -> Result<(), PlaneError> {
    let (mut took, mut quiet, mut meanwhile) = (histogram(), histogram(), histogram());
    let number = Arc::new(AtomicU64::new(1 << 48));
    for _ in 0..args.kills {
        let leader = leader(nodes, args)?;
        let others: Vec<Node> = nodes
            .iter()
            .filter(|node| node.name != leader.name)
            .cloned()
            .collect();
        let load = Load::start(&others[0]).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        load.part(&mut quiet);
        let pid = args.dir.join(format!("{}.pid", leader.name));
        let pid = fs::read_to_string(&pid).map_err(io("the leader's process id"))?;
        let began = Instant::now();
        let killed = Command::new("kill").args(["-KILL", pid.trim()]).status();
        killed.map_err(io("kill"))?;
        let mut asks = JoinSet::new();
        let mut turn = 0;
        loop {
            if began.elapsed() > LEADERLESS_MAX {
                return Err(PlaneError::Leaderless(LEADERLESS_MAX));
            }
            let (node, number) = (others[turn % others.len()].clone(), Arc::clone(&number));
            turn += 1;
            asks.spawn(async move {
                let number = number.fetch_add(1, Ordering::Relaxed);
                let change = async {
                    let mut http = Http::connect(&node).await?;
                    node.change(&mut http, turn % CLIENTS, number).await
                };
                let done = tokio::time::timeout(ASK_PATIENCE, change).await;
                matches!(done, Ok(Ok(())))
            });
            let next = tokio::time::sleep(ASK_EVERY);
            tokio::pin!(next);
            let done = loop {
                tokio::select! {
                    Some(done) = asks.join_next() => if done.unwrap_or(false) { break true },
                    () = &mut next => break false,
                }
            };
            if done {
                break;
            }
        }
        record(&mut took, began.elapsed());
        load.part(&mut meanwhile);
        load.end().await?;
        let again = Command::new("scripts/cluster")
            .args(["start", &leader.name])
            .env("PINION_CLUSTER_DIR", &args.dir)
            .status();
        again.map_err(io("scripts/cluster start"))?;
    }
    line("leader killed: until a change was done", &took);
    line("publish in the second before", &quiet);
    line("publish meanwhile, at another node", &meanwhile);
    Ok(())
}

/// Records published one after the other.
struct Load {
    stop: Arc<AtomicBool>,
    took: Arc<std::sync::Mutex<VecDeque<Duration>>>,
    task: std::thread::JoinHandle<Result<(), String>>,
}

impl Load {
    async fn start(node: &Node) -> Result<Self, PlaneError> {
        let stop = Arc::new(AtomicBool::new(false));
        let took: Arc<std::sync::Mutex<VecDeque<Duration>>> = Arc::default();
        let config = ClientConfig::new(node.address.clone())
            .ca_pem(node.ca.clone())
            .token(node.token.clone());
        let (stopped, into) = (Arc::clone(&stop), Arc::clone(&took));
        let name = format!("bench/{}", node.name);
        let task = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let runtime = runtime.map_err(|error| error.to_string())?;
            runtime.block_on(publish(config, &name, &stopped, &into))
        });
        Ok(Self { stop, took, task })
    }

    /// What was published since the last part.
    fn part(&self, into: &mut Histogram<u64>) {
        let mut took = self.took.lock().expect("nobody panics with it");
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
    took: &std::sync::Mutex<VecDeque<Duration>>,
) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Debug| format!("{error:?}");
    let client = Client::connect(config)
        .await
        .map_err(|error| text(&error))?;
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
        let took = &mut *took.lock().map_err(|error| text(&error))?;
        took.push_back(began.elapsed());
    }
    client.close().await;
    Ok(())
}

/// Who leads, as `scripts/cluster` finds out.
fn leader(nodes: &[Node], args: &PlaneArgs) -> Result<Node, PlaneError> {
    let until = Instant::now() + LEADERLESS_MAX;
    loop {
        let status = Command::new("scripts/cluster")
            .arg("status")
            .env("PINION_CLUSTER_DIR", &args.dir)
            .output()
            .map_err(io("scripts/cluster status"))?;
        let text = String::from_utf8_lossy(&status.stdout).into_owned();
        let found = text.lines().find(|line| line.contains(", leads"));
        let name = found.and_then(|line| line.split_whitespace().next());
        let node = name.and_then(|name| nodes.iter().find(|node| node.name == name));
        if let Some(node) = node {
            return Ok(node.clone());
        }
        if Instant::now() > until {
            return Err(PlaneError::Leaderless(LEADERLESS_MAX));
        }
        std::thread::sleep(ASK_EVERY);
    }
}

/// A file of zeros that is written over block by block, as a log's segment is.
struct Raw {
    file: File,
    path: PathBuf,
}

impl Raw {
    fn create(dir: &Path) -> Result<Self, PlaneError> {
        let path = dir.join("raw-writes");
        let mut options = OpenOptions::new();
        let file = options.create(true).truncate(true).write(true).open(&path);
        let file = file.map_err(io("a file for bare writes"))?;
        let zeros = vec![0; 1 << 20];
        for at in (0..RAW_FILE_BYTES).step_by(zeros.len()) {
            file.write_all_at(&zeros, at).map_err(io("a bare write"))?;
        }
        file.sync_all().map_err(io("a bare write"))?;
        Ok(Self { file, path })
    }

    fn write(&self, number: u64) -> Result<Duration, PlaneError> {
        let began = Instant::now();
        let block = [7; RAW_BYTES];
        let at = number * RAW_BYTES as u64 % RAW_FILE_BYTES;
        let written = self.file.write_all_at(&block, at);
        written.map_err(io("a bare write"))?;
        self.file.sync_data().map_err(io("a bare write"))?;
        Ok(began.elapsed())
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // What cannot be removed is in nobody's way.
        let _ = fs::remove_file(&self.path);
    }
}

/// Of microseconds up to [`TOOK_MAX`]. One that grows by itself does not when what is
/// too long is taken for its longest.
fn histogram() -> Histogram<u64> {
    let most = u64::try_from(TOOK_MAX.as_micros()).unwrap_or(u64::MAX);
    Histogram::new_with_bounds(1, most, 3).expect("three digits")
}

fn record(into: &mut Histogram<u64>, took: Duration) {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    into.saturating_record(micros);
}

#[allow(clippy::cast_precision_loss)] // microseconds of a measurement
fn line(what: &str, found: &Histogram<u64>) {
    let at = |quantile| found.value_at_quantile(quantile) as f64 / 1000.0;
    println!(
        "{what}: p50 {:.3} ms, p99 {:.3} ms, max {:.3} ms ({} of them)",
        at(0.5),
        at(0.99),
        found.max() as f64 / 1000.0,
        found.len()
    );
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{histogram, record, whole};

    #[test]
    fn what_took_seconds_is_told_as_seconds() {
        let mut found = histogram();
        record(&mut found, Duration::from_micros(100));
        record(&mut found, Duration::from_secs(5));
        assert!(found.max() >= 5_000_000, "{}", found.max());
    }

    #[test]
    fn an_answer_is_whole_when_its_body_is() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1";
        let (found, len) = whole(answer).expect("whole");
        assert_eq!(found, (200, "hello".to_owned()));
        assert_eq!(&answer[len..], b"HTTP/1.1");
        assert_eq!(whole(&answer[..len - 1]), None);
        assert_eq!(whole(b"HTTP/1.1 200 OK\r\n"), None);
    }
}
