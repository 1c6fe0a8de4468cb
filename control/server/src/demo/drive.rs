//! The demo's clients: one publisher, three subscribers, a keeper of the latest
//! value per key, and an auditor who reads the cache and waits for its end.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use bytes::Bytes;
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use pinion_client::{
    Cache, CacheItem, Client, ClientConfig, ConnectError, ErrorCode, EventKind, Overflow,
    PublishTicket, PublisherOptions, Record, RequestError, StartFrom, Stream, StreamSpec,
    SubscribeError, SubscribeOptions, Subscription, WatchEvent, WatchOptions,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::Sabotage;
use super::check::{CacheSeen, Evidence, Given, Held, Place, Subscriber};
use super::child::ChildError;
use super::reader::{ROW_HEADER, Reader, Schedule, Seen};
use crate::config::Config;
use crate::identity;
use crate::node::Node;

/// Partitions of the stream.
pub(super) const SHARDS: u16 = 4;
const STREAM: &str = "demo/flights";
const CACHE: &str = "demo/latest";
/// Life of a value in the cache: far longer than the demo, so that none ends
/// before it is read.
const LATEST_TTL: Duration = Duration::from_secs(600);
/// Life that every value is given at the end, to see it end.
const SHORT_TTL: Duration = Duration::from_millis(500);
/// How long no value may end, after that, before it counts as never ending.
const EXPIRY_QUIET_MAX: Duration = Duration::from_secs(10);
/// Records the slow subscriber may fall behind in each partition.
const SLOW_BACKLOG: u32 = 200;
/// Records that may be on the way to it in each partition. Few, so that the node
/// notices that it is slow.
const SLOW_CREDIT: u32 = 64;
/// It takes one record of so many that are published.
const SLOW_SHARE: f64 = 4.0;
/// Time between the last preparation and the first record.
const LEAD: Duration = Duration::from_millis(20);
/// Rows the pacer may be ahead of the publisher, and values the reader may be
/// ahead of the keeper.
const AHEAD_MAX: usize = 1024;

/// What happened, and what it took.
pub(super) struct Run {
    pub(super) evidence: Evidence,
    /// Publish to delivery, of the subscribers that keep up, in ns.
    pub(super) latency: Histogram<u64>,
    /// From the first record's time to the last acknowledgement.
    pub(super) publishing: Duration,
    /// Requests that landed on another core than their partition's.
    pub(super) wrong_core: u64,
    /// Airports that were given [`SHORT_TTL`].
    pub(super) keys: usize,
}

/// Why the demo did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum DriveError {
    #[error("cannot read {path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("cannot connect to the demo's node: {0}")]
    Connect(#[from] ConnectError),
    #[error("{doing}: {source}")]
    Request {
        doing: &'static str,
        source: RequestError,
    },
    #[error("watching the cache: {0}")]
    Watch(#[from] SubscribeError),
    #[error("the cache refused {key}: {code:?}")]
    Refused { key: String, code: ErrorCode },
    #[error("cannot start the pacing thread: {0}")]
    Thread(io::Error),
    #[error("a client task panicked")]
    Task(#[from] tokio::task::JoinError),
    #[error(transparent)]
    Child(#[from] ChildError),
    #[error("interrupted")]
    Interrupted,
}

pub(super) fn doing(doing: &'static str) -> impl Fn(RequestError) -> DriveError {
    move |source| DriveError::Request { doing, source }
}

/// Runs a part of the demo unless a signal ends it.
pub(super) async fn unless_ended<T>(
    part: impl Future<Output = Result<T, DriveError>>,
) -> Result<T, DriveError> {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => terminate.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        run = part => run,
        _ = tokio::signal::ctrl_c() => Err(DriveError::Interrupted),
        _ = terminated => Err(DriveError::Interrupted),
    }
}

/// The first part, on the node in this process.
pub(super) async fn drive(
    node: &Node,
    config: &Config,
    rows: Vec<Given>,
    rate: u32,
    sabotage: Option<Sabotage>,
) -> Result<Run, DriveError> {
    let credentials = Credentials::read(node.address.to_string(), &identity::directory(config))?;
    // A client each, as applications of their own would have.
    let publisher = credentials.client("publisher").await?;
    let spec = StreamSpec {
        shards: SHARDS,
        overflow: Overflow::DropOldest,
        ring_bytes: super::RING_BYTES,
        ..StreamSpec::ephemeral(1)
    };
    let stream = publisher.open_stream_with(STREAM, spec).await;
    let stream = stream.map_err(doing("declaring the stream"))?;

    let everything = SubscribeOptions {
        start: StartFrom::Earliest,
        ..SubscribeOptions::default()
    };
    let audit = credentials.subscribe("audit", everything.clone()).await?;
    let board = credentials.subscribe("board", everything.clone()).await?;
    let behind = SubscribeOptions {
        overflow: Some(Overflow::DropOldest),
        backlog_max: SLOW_BACKLOG,
        credit_records: SLOW_CREDIT,
        ..everything
    };
    let slow = credentials.subscribe("slow", behind).await?;
    let cache_client = credentials.client("keeper").await?;
    let cache = cache_client.cache(CACHE).await;
    let cache = cache.map_err(doing("opening the cache"))?;

    let schedule = Schedule {
        start: Instant::now() + LEAD,
        rate,
    };
    let (ends_known, ends) = watch::channel(None);
    let (forward, latest) = mpsc::channel(AHEAD_MAX);
    let keeper = tokio::spawn(keep_latest(cache.clone(), latest));
    let count = rows.len();
    let reader = || Reader {
        schedule,
        ends: ends.clone(),
        pace: None,
        killed_after: None,
        forward: None,
    };
    let audit = audit.start(
        Reader {
            killed_after: (sabotage == Some(Sabotage::KillSubscriber)).then_some(count / 2),
            ..reader()
        },
        count,
    );
    let board = board.start(
        Reader {
            forward: Some(forward),
            ..reader()
        },
        count,
    );
    let slow = slow.start(
        Reader {
            pace: Some(f64::from(rate) / SLOW_SHARE),
            ..reader()
        },
        count,
    );

    let corrupted = (sabotage == Some(Sabotage::CorruptRecord)).then_some(count / 2);
    let places = publish(&stream, &rows, schedule, corrupted).await?;
    let publishing = schedule.start.elapsed();
    let mut ends = vec![0; usize::from(SHARDS)];
    for place in places.iter().flatten() {
        if let Some(end) = ends.get_mut(usize::from(place.partition)) {
            *end = place.offset.saturating_add(1).max(*end);
        }
    }
    // Fails only when every subscriber has ended already.
    let _ = ends_known.send(Some(ends));

    let audit = audit.seen().await?;
    let board = board.seen().await?;
    let slow = slow.seen().await?;
    keeper.await??;
    let keys: BTreeSet<Bytes> = rows.iter().map(|row| row.key.clone()).collect();
    let keys: Vec<Bytes> = keys.into_iter().collect();
    let cache_seen = audit_cache(&cache, &keys).await?;
    cache_client.close().await;
    publisher.close().await;

    let mut latency = audit.latency.clone();
    latency
        .add(&board.latency)
        .expect("histograms of one shape");
    let subscriber = |name, slow, seen: Seen| Subscriber {
        name,
        slow,
        saw: seen.saw,
    };
    Ok(Run {
        evidence: Evidence {
            shards: SHARDS,
            given: rows,
            places,
            subscribers: vec![
                subscriber("audit", false, audit),
                subscriber("board", false, board),
                subscriber("slow", true, slow),
            ],
            cache: cache_seen,
            // Known when the node has ended.
            node_published: 0,
            node_failures: Vec::new(),
        },
        latency,
        publishing,
        wrong_core: 0,
        keys: keys.len(),
    })
}

/// What every client of one of the demo's nodes needs.
pub(super) struct Credentials {
    server: String,
    ca: Vec<u8>,
    token: Vec<u8>,
}

impl Credentials {
    /// What the node at `server` left in `dir`.
    pub(super) fn read(server: String, dir: &Path) -> Result<Self, DriveError> {
        let read = |name: &str| {
            let path = dir.join(name);
            fs::read(&path).map_err(|source| DriveError::File { path, source })
        };
        Ok(Self {
            server,
            ca: read("ca.pem")?,
            token: read("admin.token")?.trim_ascii().to_vec(),
        })
    }

    pub(super) fn config(&self, name: &str) -> ClientConfig {
        ClientConfig::new(self.server.clone())
            .ca_pem(&self.ca)
            .token(&self.token)
            .name(format!("demo-{name}"))
    }

    async fn client(&self, name: &str) -> Result<Client, ConnectError> {
        Client::connect(self.config(name)).await
    }

    async fn subscribe(
        &self,
        name: &str,
        options: SubscribeOptions,
    ) -> Result<Subscribed, DriveError> {
        let client = self.client(name).await?;
        let stream = client.stream(STREAM).await;
        let stream = stream.map_err(doing("opening the stream"))?;
        let subscription = stream.subscribe(options).await;
        Ok(Subscribed {
            subscription: subscription.map_err(doing("subscribing"))?,
            client,
        })
    }
}

/// A subscription that stands, before anything is published.
struct Subscribed {
    client: Client,
    subscription: Subscription,
}

impl Subscribed {
    fn start(self, reader: Reader, rows: usize) -> Reading {
        Reading {
            client: self.client,
            task: tokio::spawn(reader.run(self.subscription, rows)),
        }
    }
}

/// A subscriber at work.
struct Reading {
    client: Client,
    task: JoinHandle<Seen>,
}

impl Reading {
    async fn seen(self) -> Result<Seen, DriveError> {
        let seen = self.task.await?;
        self.client.close().await;
        Ok(seen)
    }
}

/// Publishes every row at its time and waits for every acknowledgement.
async fn publish(
    stream: &Stream,
    rows: &[Given],
    schedule: Schedule,
    corrupted: Option<usize>,
) -> Result<Vec<Result<Place, String>>, DriveError> {
    let mut due = pace(schedule, rows.len())?;
    let publisher = stream.publisher(PublisherOptions::default());
    let progress = ProgressBar::new(rows.len() as u64).with_style(
        ProgressStyle::with_template("{wide_bar} {human_pos}/{human_len} records {eta}")
            .expect("a constant template"),
    );
    // As many as there are rows; each is a reference and a number.
    let mut tickets: Vec<PublishTicket> = Vec::with_capacity(rows.len());
    while let Some(row) = due.recv().await {
        let given = &rows[row];
        let mut value = given.value.clone();
        if corrupted == Some(row) {
            let mut spoiled = value.to_vec();
            spoiled[0] ^= 1;
            value = spoiled.into();
        }
        let record = Record::new(value)
            .key(given.key.clone())
            .header(ROW_HEADER, row.to_string());
        let ticket = publisher.publish(record).await;
        tickets.push(ticket.map_err(doing("publishing"))?);
        progress.set_position(row as u64 + 1);
    }
    progress.finish_and_clear();
    let mut places = Vec::with_capacity(tickets.len());
    for ticket in tickets {
        let place = ticket.await.map(|ack| Place {
            partition: ack.partition.0,
            offset: ack.offset.0,
        });
        places.push(place.map_err(|error| error.to_string()));
    }
    Ok(places)
}

/// Names each row at its time, from a thread of its own: the runtime's timers
/// are coarser than the latencies to be measured.
fn pace(schedule: Schedule, rows: usize) -> Result<mpsc::Receiver<usize>, DriveError> {
    let (sender, receiver) = mpsc::channel(AHEAD_MAX);
    let work = move || {
        for row in 0..rows {
            let due = schedule.due(row);
            let now = Instant::now();
            if due > now {
                thread::sleep(due - now);
            }
            if sender.blocking_send(row).is_err() {
                return;
            }
        }
    };
    thread::Builder::new()
        .name("demo-pacer".to_owned())
        .spawn(work)
        .map_err(DriveError::Thread)?;
    Ok(receiver)
}

/// Keeps the latest value of each key in the cache. What has come since the last
/// write is written at once, the last value of a key standing for those before.
async fn keep_latest(
    cache: Cache,
    mut values: mpsc::Receiver<(Bytes, Bytes)>,
) -> Result<(), DriveError> {
    let mut came = Vec::with_capacity(AHEAD_MAX);
    while values.recv_many(&mut came, AHEAD_MAX).await > 0 {
        let latest: HashMap<Bytes, Bytes> = came.drain(..).collect();
        let items: Vec<CacheItem> = latest
            .into_iter()
            .map(|(key, value)| CacheItem {
                key,
                value,
                ttl: Some(LATEST_TTL),
            })
            .collect();
        let stored = cache.set_many(&items).await;
        let stored = stored.map_err(doing("setting the latest values"))?;
        for (item, result) in items.iter().zip(stored) {
            if let Err(code) = result {
                let key = String::from_utf8_lossy(&item.key).into_owned();
                return Err(DriveError::Refused { key, code });
            }
        }
    }
    Ok(())
}

/// Reads the whole cache twice, by key and by walking it; then gives every value
/// a short life and waits for its end.
async fn audit_cache(cache: &Cache, keys: &[Bytes]) -> Result<CacheSeen, DriveError> {
    let entries = cache.get_many(keys).await;
    let entries = entries.map_err(doing("reading the cache"))?;
    let mut held = BTreeMap::new();
    for (key, entry) in keys.iter().zip(entries) {
        if let Some(entry) = entry {
            let (value, ttl) = (entry.value, entry.ttl);
            held.insert(key.clone(), Held { value, ttl });
        }
    }
    let mut scanned = BTreeSet::new();
    let mut scan = cache.scan("").keys_only();
    while let Some(page) = scan
        .next_page()
        .await
        .map_err(doing("scanning the cache"))?
    {
        scanned.extend(page.into_iter().map(|entry| entry.key));
    }

    let options = WatchOptions {
        with_values: false,
        ..WatchOptions::prefix("")
    };
    let mut watch = cache.watch(options).await;
    let watch = watch.as_mut().map_err(|error| DriveError::Request {
        doing: "watching the cache",
        source: error.clone(),
    })?;
    for key in held.keys() {
        match cache.touch(key, Some(SHORT_TTL)).await {
            Ok(_) => {}
            // It has gone since; the checker misses its end.
            Err(error) if error.code() == Some(ErrorCode::KeyAbsent) => {}
            Err(error) => return Err(doing("shortening the life of values")(error)),
        }
    }
    let mut expired = BTreeSet::new();
    while expired.len() < held.len() {
        let next = tokio::time::timeout(EXPIRY_QUIET_MAX, watch.next()).await;
        let Ok(Some(event)) = next else { break };
        if let WatchEvent::Change {
            kind: EventKind::Expired,
            key,
            ..
        } = event?
        {
            expired.insert(key);
        }
    }
    let entries = cache.get_many(keys).await;
    let entries = entries.map_err(doing("reading the cache again"))?;
    let left = keys.iter().zip(entries);
    let left = left.filter_map(|(key, entry)| entry.map(|_| key.clone()));
    Ok(CacheSeen {
        left: left.collect(),
        held,
        scanned,
        ttl: LATEST_TTL,
        expired,
    })
}
