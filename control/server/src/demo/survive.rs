//! The same records through a kill: a durable stream and a work queue on a node
//! in a process of its own, which is killed half way and started again.
//!
//! A publisher, two producers of work, five workers and a subscriber are at it
//! all the time. None is told of the kill: they live through it as any client
//! would. `ledger.rs` is what they wrote down, `audit.rs` judges it.

use std::future::Future;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use pinion_client::{
    BreakerConfig, Client, ConnectError, ConsumeOptions, CoreId, Cursor, Durability, Event,
    Message, Offset, PublishTicket, PublisherOptions, PutOptions, Queue, QueueProducer, QueueRules,
    QueueSpec, Record, RequestError, RetryBudgetConfig, StartFrom, Stream, StreamSpec,
    SubscribeOptions, Subscription, TakeOptions,
};
use pinion_types::{Outcome, PartitionId};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::Sabotage;
use super::audit::{Asked, Evidence, Fate, Reading, Step};
use super::check::{Given, Saw};
use super::child::{ChildNode, Home};
use super::drive::{Credentials, DriveError, SHARDS, doing};
use super::ledger::{Ledger, Moment};
use super::reader::{ROW_HEADER, describe};
use crate::node::Node;

const STREAM: &str = "demo/kept";
const CURSOR: &str = "live";
/// How often the live subscriber says how far it is.
const CURSOR_EVERY: Duration = Duration::from_millis(50);
const QUEUE: &str = "demo/work";
/// Partitions of the queue.
const QUEUE_SHARDS: u16 = 2;
/// How often rows are given out.
const TICK: Duration = Duration::from_millis(10);
/// Rows that may be published and not yet both stored and worked on. It bounds
/// what waits while the node is away.
const BEHIND_MAX: usize = 2_000;
/// Producers of work, workers, and messages a worker takes at once.
const PRODUCERS: usize = 2;
const WORKERS: usize = 4;
const TAKE_MAX: usize = 64;
/// How long a worker's message is reserved: far longer than the demo takes, so
/// that no reservation of theirs runs out.
const LEASE: Duration = Duration::from_secs(60);
/// One message of so many fails at first.
const NACK_ONE_OF: usize = 100;
const NACK_DELAY: Duration = Duration::from_millis(20);
/// Messages the forgetful worker takes at once, how often it does, and when
/// they are taken from it.
const FORGET: u32 = 10;
const FORGET_TIMES: usize = 4;
const FORGET_LEASE: Duration = Duration::from_millis(500);
/// Deliveries a message may fail; never reached here, so that a dead letter is
/// a fault.
const ATTEMPTS_MAX: u16 = 50;
/// How long a client waits for an answer: longer than a restart.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// How often a put that was refused is put again, and after how long.
const PUT_TRIES: usize = 20;
const PUT_PAUSE: Duration = Duration::from_millis(50);
/// How long nothing may happen before the run is given up, and the audit says
/// what is missing.
const STALL_MAX: Duration = Duration::from_secs(10);
/// How long a moment is looked for in which requests of every kind are on the
/// way. It comes within milliseconds.
const IN_FLIGHT_WAIT: Duration = Duration::from_secs(2);
/// How long tasks may take to end once everything is done.
const END_MAX: Duration = Duration::from_secs(15);
/// How often a client asks whether the node is there. A client that only waits
/// sends nothing a node that is new could answer with a reset; without asking it
/// would notice at its next keep-alive, up to 10 s later.
const HEARTBEAT: Duration = Duration::from_millis(100);
/// Acknowledgements one partition's publisher may be ahead of their reader.
const TICKETS_MAX: usize = BEHIND_MAX;

/// What happened, and what it took.
pub(super) struct Survived {
    pub(super) evidence: Evidence,
    pub(super) moment: Moment,
    /// The processes, before and after.
    pub(super) pids: [u32; 2],
    /// From the kill until the node served again.
    pub(super) away: Duration,
    /// What the new process found.
    pub(super) found: String,
    /// From the first record to the last acknowledgement.
    pub(super) took: Duration,
    /// Records and messages that were sent again and stored once.
    pub(super) repeats: u64,
    /// Connections the live subscriber lost and made again.
    pub(super) reconnected: u64,
}

/// Runs it in `dir`, on the CPUs of the node before.
pub(super) async fn survive(
    dir: &Path,
    node: (Option<usize>, usize),
    rows: Arc<Vec<Given>>,
    rate: u32,
    sabotage: Option<Sabotage>,
) -> Result<Survived, DriveError> {
    let home = Home::make(dir, node.0, node.1)?;
    let child = start(&home, ([127, 0, 0, 1], 0).into()).await?;
    let address = child.address;
    let mut scene = Scene::set(&home, address, rows, rate).await?;
    let progress = scene.progress();

    let moment = scene.half_way(&progress).await;
    let (pid, killed) = (child.pid(), Instant::now());
    let cursors_before = scene.ledger.with(|ledger| {
        ledger.step(Step::Killed);
        // What the cursors are after the kill is looked at before they move on.
        ledger.cursors_rest = true;
        ledger.cursors.clone()
    });
    child.kill()?;
    if sabotage == Some(Sabotage::LoseData) {
        home.lose_data()?;
    }
    progress.set_message("killed, starting again");
    // The same address: clients know no other.
    let child = start(&home, address).await?;
    let away = killed.elapsed();
    progress.set_message("");
    let cursors_after = scene.cursors().await?;
    scene.ledger.with(|ledger| ledger.cursors_rest = false);

    scene.finish(&progress).await;
    progress.finish_and_clear();
    let took = scene.began.elapsed();
    let mut survived = Survived {
        evidence: scene.end().await?,
        moment,
        pids: [pid, child.pid()],
        away,
        found: child.found.clone(),
        took,
        repeats: scene.ledger.with(|ledger| ledger.repeats),
        reconnected: scene.ledger.with(|ledger| ledger.reconnected),
    };
    survived.evidence.cursors = cursors_before.into_iter().zip(cursors_after).collect();
    spoil(&mut survived.evidence, sabotage);
    Ok(survived)
}

/// CPUs for the second node: the first data CPU and the control CPU of the first.
pub(super) fn cpus_of(node: &Node) -> (Option<usize>, usize) {
    (node.placement.data.first().copied(), node.placement.control)
}

async fn start(home: &Home, listen: SocketAddr) -> Result<ChildNode, DriveError> {
    let home = home.clone();
    let started = tokio::task::spawn_blocking(move || home.start(listen)).await?;
    Ok(started?)
}

/// Changes what was seen, as a node that fails would have.
fn spoil(evidence: &mut Evidence, sabotage: Option<Sabotage>) {
    match sabotage {
        Some(Sabotage::LoseRecord) => {
            if let Some(reading) = evidence.readings.last_mut() {
                reading.saw.remove(reading.saw.len() / 2);
            }
        }
        Some(Sabotage::RepeatMessage) => {
            let delivered = evidence.steps.iter().find_map(|step| match step {
                Step::Delivered(delivery) => Some(delivery.clone()),
                _ => None,
            });
            evidence.steps.extend(delivered.map(Step::Delivered));
        }
        _ => {}
    }
}

/// Everybody at work.
struct Scene {
    credentials: Credentials,
    rows: Arc<Vec<Given>>,
    ledger: Ledger,
    /// Who asks the node how far it is.
    watcher: Client,
    stream: Stream,
    queue: Queue,
    began: Instant,
    /// Publisher and producers: they end by themselves.
    sources: JoinSet<Result<(), DriveError>>,
    workers: JoinSet<()>,
    stop: watch::Sender<bool>,
    live: JoinHandle<Vec<Saw>>,
    ends: watch::Sender<Option<Vec<u64>>>,
    clients: Vec<Client>,
}

impl Scene {
    async fn set(
        home: &Home,
        address: SocketAddr,
        rows: Arc<Vec<Given>>,
        rate: u32,
    ) -> Result<Self, DriveError> {
        let credentials = Credentials::read(address.to_string(), &home.credentials())?;
        let watcher = connect(&credentials, "watcher").await?;
        let spec = StreamSpec::durable(SHARDS);
        let stream = watcher.open_stream_with(STREAM, spec).await;
        let stream = stream.map_err(doing("declaring the durable stream"))?;
        let queue = watcher.open_queue_with(QUEUE, queue_spec()).await;
        let queue = queue.map_err(doing("declaring the queue"))?;

        let ledger = Ledger::new(rows.len(), SHARDS);
        let (stop, stopped) = watch::channel(false);
        let (ends, ends_known) = watch::channel(None);
        let mut clients = Vec::new();

        let client = connect(&credentials, "live").await?;
        let live = subscribe(&client).await?;
        let cursor = client.stream(STREAM).await.and_then(|s| s.cursor(CURSOR));
        let cursor = cursor.map_err(doing("opening the cursor"))?;
        tokio::spawn(mark(cursor, ledger.clone()));
        let live = tokio::spawn(read(live, ends_known, ledger.clone(), true));
        clients.push(client);

        let mut workers = JoinSet::new();
        for _ in 0..WORKERS {
            let client = connect(&credentials, "worker").await?;
            let queue = client.open_queue_with(QUEUE, queue_spec()).await;
            let worker = Worker {
                queue: queue.map_err(doing("opening the queue"))?,
                client: client.clone(),
                ledger: ledger.clone(),
            };
            workers.spawn(worker.work(stopped.clone()));
            clients.push(client);
        }
        let client = connect(&credentials, "forgetful").await?;
        let forgetful = client.open_queue_with(QUEUE, queue_spec()).await;
        let forgetful = Worker {
            queue: forgetful.map_err(doing("opening the queue"))?,
            client: client.clone(),
            ledger: ledger.clone(),
        };
        workers.spawn(until(stopped, forgetful.forget(rows.len())));
        clients.push(client);

        let mut sources = JoinSet::new();
        let (puts, ranges) = mpsc::channel(PRODUCERS);
        let ranges = Arc::new(Mutex::new(ranges));
        for _ in 0..PRODUCERS {
            let client = connect(&credentials, "producer").await?;
            let queue = client.open_queue_with(QUEUE, queue_spec()).await;
            let queue = queue.map_err(doing("opening the queue"))?;
            let (ranges, rows) = (Arc::clone(&ranges), Arc::clone(&rows));
            sources.spawn(put(queue.producer(), ranges, rows, ledger.clone()));
            clients.push(client);
        }
        let client = connect(&credentials, "publisher").await?;
        let published = client.open_stream_with(STREAM, spec).await;
        let published = published.map_err(doing("opening the durable stream"))?;
        sources.spawn(publish(
            published,
            Arc::clone(&rows),
            ledger.clone(),
            rate,
            puts,
        ));
        clients.push(client);
        Ok(Self {
            credentials,
            rows,
            ledger,
            watcher,
            stream,
            queue,
            began: Instant::now(),
            sources,
            workers,
            stop,
            live,
            ends,
            clients,
        })
    }

    fn progress(&self) -> ProgressBar {
        ProgressBar::new(self.rows.len() as u64).with_style(
            ProgressStyle::with_template(
                "{wide_bar} {human_pos}/{human_len} kept and done {msg} {eta}",
            )
            .expect("a constant template"),
        )
    }

    /// Waits until half of the rows are stored and worked on, and then for a
    /// moment at which requests of every kind are on the way.
    async fn half_way(&self, progress: &ProgressBar) -> Moment {
        let half = self.rows.len() / 2;
        while self.ledger.with(|ledger| ledger.both()) < half && !self.is_stalled() {
            progress.set_position(self.ledger.with(|ledger| ledger.both()) as u64);
            sleep(TICK).await;
        }
        let until = Instant::now() + IN_FLIGHT_WAIT;
        loop {
            let moment = self.ledger.with(|ledger| ledger.moment());
            if moment.all_on_the_way() || Instant::now() > until {
                return moment;
            }
            // No timer is as fine as the moments looked for.
            tokio::task::yield_now().await;
        }
    }

    /// Waits until everything is acknowledged and the queue is empty, or nothing
    /// happens any more.
    async fn finish(&mut self, progress: &ProgressBar) {
        while !(self.ledger.with(|ledger| ledger.is_answered()) && self.is_empty().await) {
            if self.is_stalled() {
                let what = format!("nothing happened for {STALL_MAX:?}: given up");
                self.ledger.with(|ledger| ledger.trouble(what));
                return;
            }
            progress.set_position(self.ledger.with(|ledger| ledger.both()) as u64);
            sleep(TICK).await;
        }
    }

    fn is_stalled(&self) -> bool {
        self.ledger.with(|ledger| ledger.quiet_for()) > STALL_MAX
    }

    async fn is_empty(&self) -> bool {
        matches!(self.left().await, Ok((0, _)))
    }

    /// Where the live subscriber's cursor stands in each partition.
    async fn cursors(&self) -> Result<Vec<Option<u64>>, DriveError> {
        let cursor = self.stream.cursor(CURSOR);
        let cursor = cursor.map_err(doing("opening the cursor"))?;
        let mut places = Vec::new();
        for partition in 0..SHARDS {
            let place = cursor.get(PartitionId(partition)).await;
            let place = place.map_err(doing("reading the cursor"))?;
            places.push(place.map(|offset| offset.0));
        }
        Ok(places)
    }

    /// Messages and dead letters the queue has.
    async fn left(&self) -> Result<(u64, u64), RequestError> {
        let (mut left, mut dead) = (0, 0);
        for partition in 0..QUEUE_SHARDS {
            let counts = self.queue.info(PartitionId(partition)).await?;
            left += counts.messages;
            dead += counts.groups.iter().map(|group| group.dead).sum::<u64>();
        }
        Ok((left, dead))
    }

    /// Ends everybody, reads the whole stream again from the disk, and gives
    /// what there is to check.
    async fn end(&mut self) -> Result<Evidence, DriveError> {
        let _ = self.stop.send(true);
        let mut ends = Vec::new();
        for partition in 0..SHARDS {
            let status = self.stream.info(PartitionId(partition)).await;
            ends.push(status.map_err(doing("asking for the stream's end"))?.end.0);
        }
        // It fails only when the live subscriber has ended already.
        let _ = self.ends.send(Some(ends.clone()));
        let ended = async {
            while let Some(source) = self.sources.join_next().await {
                source??;
            }
            while let Some(worker) = self.workers.join_next().await {
                worker?;
            }
            Ok::<(), DriveError>(())
        };
        match timeout(END_MAX, ended).await {
            Ok(ended) => ended?,
            Err(_) => self.ledger.with(|ledger| {
                ledger.trouble("clients were still waiting for answers at the end".to_owned());
            }),
        }
        self.sources.abort_all();
        self.workers.abort_all();

        // A client that has seen nothing yet, and a node whose memory is new
        // since the kill: what it reads comes from the disk.
        let client = connect(&self.credentials, "reread").await?;
        let (again, ends_known) = watch::channel(Some(ends.clone()));
        let reread = subscribe(&client).await?;
        let reread = read(reread, ends_known, self.ledger.clone(), false).await;
        drop(again);
        client.close().await;
        let reading = |name, saw| Reading { name, saw };
        let live = (&mut self.live).await?;
        let readings = vec![reading("live", live), reading("reread", reread)];
        let (left, dead) = self.left().await.map_err(doing("counting what is left"))?;
        for client in self.clients.drain(..) {
            client.close().await;
        }
        self.watcher.close().await;
        Ok(self.ledger.with(|ledger| Evidence {
            shards: SHARDS,
            given: self.rows.to_vec(),
            places: ledger.places(),
            ends,
            readings,
            messages: ledger.messages(),
            // Known since the kill.
            cursors: Vec::new(),
            steps: ledger.steps(),
            left,
            dead,
            troubles: ledger.troubles(),
        }))
    }
}

/// The queue: failed work comes back soon.
fn queue_spec() -> QueueSpec {
    QueueSpec {
        queue: QueueRules {
            max_attempts: ATTEMPTS_MAX,
            backoff_min_ms: 20,
            backoff_max_ms: 200,
            ..QueueRules::UNSET
        },
        ..QueueSpec::durable(QUEUE_SHARDS)
    }
}

/// A client that waits out a restart instead of giving up.
async fn connect(credentials: &Credentials, name: &str) -> Result<Client, ConnectError> {
    let config = credentials
        .config(name)
        .request_timeout(ANSWER_MAX)
        .retry_budget(RetryBudgetConfig {
            ratio: 1.0,
            burst: 1_000,
            per_second: 100.0,
        })
        .breaker(BreakerConfig {
            failures: 1_000,
            ..BreakerConfig::default()
        });
    let client = Client::connect(config).await?;
    tokio::spawn(heartbeat(client.clone()));
    Ok(client)
}

/// Asks until the client is closed.
async fn heartbeat(client: Client) {
    loop {
        sleep(HEARTBEAT).await;
        if let Err(RequestError::Closed | RequestError::NotConnected(ConnectError::Closed)) =
            client.ping(CoreId(0)).await
        {
            return;
        }
    }
}

async fn subscribe(client: &Client) -> Result<Subscription, DriveError> {
    let stream = client
        .open_stream_with(STREAM, StreamSpec::durable(SHARDS))
        .await;
    let stream = stream.map_err(doing("opening the durable stream"))?;
    let options = SubscribeOptions {
        start: StartFrom::Earliest,
        ..SubscribeOptions::default()
    };
    let subscription = stream.subscribe(options).await;
    subscription.map_err(doing("subscribing to the durable stream"))
}

fn record(given: &Given, row: usize) -> Record {
    Record::new(given.value.clone())
        .key(given.key.clone())
        .header(ROW_HEADER, row.to_string())
}

/// Publishes every row and hands it on to the producers of work, at `rate`, as
/// long as what comes of it keeps up.
async fn publish(
    stream: Stream,
    rows: Arc<Vec<Given>>,
    ledger: Ledger,
    rate: u32,
    puts: mpsc::Sender<Range<usize>>,
) -> Result<(), DriveError> {
    let publisher = stream.publisher(PublisherOptions::default());
    // The tickets of a partition come true in order, those of two do not.
    let mut waiting = JoinSet::new();
    let mut lanes = Vec::new();
    for _ in 0..stream.shards() {
        let (lane, tickets) = mpsc::channel(TICKETS_MAX);
        waiting.spawn(collect(tickets, ledger.clone()));
        lanes.push(lane);
    }
    let ticks_per_s = usize::try_from(1_000 / TICK.as_millis()).expect("a small constant");
    let per_tick = (rate as usize / ticks_per_s).max(1);
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for first in (0..rows.len()).step_by(per_tick) {
        tick.tick().await;
        while ledger.with(|ledger| ledger.behind(first)) > BEHIND_MAX {
            sleep(TICK).await;
        }
        let range = first..rows.len().min(first + per_tick);
        for row in range.clone() {
            let given = &rows[row];
            let ticket = publisher.publish(record(given, row)).await;
            let ticket = ticket.map_err(doing("publishing to the durable stream"))?;
            ledger.with(|ledger| ledger.publishing += 1);
            let lane = &lanes[usize::from(stream.partition_of(&given.key).0)];
            // It fails when the demo has ended.
            if lane.send((row, ticket)).await.is_err() {
                return Ok(());
            }
        }
        if puts.send(range).await.is_err() {
            return Ok(());
        }
    }
    drop((puts, lanes));
    while let Some(ended) = waiting.join_next().await {
        ended?;
    }
    Ok(())
}

async fn collect(mut tickets: mpsc::Receiver<(usize, PublishTicket)>, ledger: Ledger) {
    while let Some((row, ticket)) = tickets.recv().await {
        let ack = ticket.await;
        ledger.with(|ledger| ledger.published(row, ack));
    }
}

/// Puts rows as work. What was refused is put again, under its old sequence.
async fn put(
    producer: QueueProducer,
    ranges: Arc<Mutex<mpsc::Receiver<Range<usize>>>>,
    rows: Arc<Vec<Given>>,
    ledger: Ledger,
) -> Result<(), DriveError> {
    loop {
        let range = ranges.lock().await.recv().await;
        let Some(range) = range else { return Ok(()) };
        let mut waiting: Vec<usize> = range.collect();
        ledger.with(|ledger| ledger.putting += waiting.len());
        for tries in 1..=PUT_TRIES {
            let records: Vec<Record> = waiting
                .iter()
                .map(|row| record(&rows[*row], *row))
                .collect();
            let acks = producer.put_batch(&records, PutOptions::default()).await;
            let mut refused = Vec::new();
            for (row, ack) in waiting.into_iter().zip(acks) {
                let again = |error: &RequestError| error.outcome() == Outcome::NotAdmitted;
                if tries < PUT_TRIES && ack.as_ref().is_err_and(again) {
                    refused.push(row);
                } else {
                    ledger.with(|ledger| ledger.put(row, ack));
                }
            }
            waiting = refused;
            if waiting.is_empty() {
                break;
            }
            sleep(PUT_PAUSE).await;
        }
    }
}

/// One worker with a connection of its own.
struct Worker {
    client: Client,
    queue: Queue,
    ledger: Ledger,
}

impl Worker {
    /// Takes what comes; acknowledges it, but for some of it, at first.
    async fn work(self, mut stop: watch::Receiver<bool>) {
        let options = ConsumeOptions {
            lease: Some(LEASE),
            ..ConsumeOptions::default()
        };
        let mut consumer = match self.queue.consume(options).await {
            Ok(consumer) => consumer,
            Err(error) => {
                return self
                    .ledger
                    .with(|ledger| ledger.trouble(format!("a worker did not begin: {error}")));
            }
        };
        loop {
            let batch = tokio::select! {
                biased;
                // An error means that the demo has ended.
                _ = stop.wait_for(|stop| *stop) => return,
                batch = consumer.next_batch(TAKE_MAX) => batch,
            };
            match batch {
                Some(Ok(messages)) => self.settle(messages).await,
                Some(Err(error)) => {
                    return self
                        .ledger
                        .with(|ledger| ledger.trouble(format!("a worker ended: {error}")));
                }
                None => return,
            }
        }
    }

    async fn settle(&self, messages: Vec<Message>) {
        let (mut ack, mut acked) = (Vec::new(), Vec::new());
        let (mut nack, mut nacked) = (Vec::new(), Vec::new());
        for message in messages {
            let (delivery, row) = self.note(&message);
            let fails =
                message.attempt == 1 && row.is_some_and(|row| row % NACK_ONE_OF == NACK_ONE_OF / 2);
            if fails {
                nack.push(message);
                nacked.push(delivery);
            } else {
                ack.push(message);
                acked.push(delivery);
            }
        }
        let (acks, nacks) = tokio::join!(
            self.queue.ack(&ack),
            self.queue.nack(&nack, Some(NACK_DELAY), "on purpose")
        );
        self.ledger.with(|ledger| {
            for (delivery, answer) in acked.into_iter().zip(acks) {
                ledger.settled(delivery, Asked::Ack, answer);
            }
            for (delivery, answer) in nacked.into_iter().zip(nacks) {
                ledger.settled(delivery, Asked::Nack, answer);
            }
        });
    }

    /// Takes some now and then and forgets about them, before the kill and
    /// after it.
    async fn forget(self, rows: usize) {
        for time in 0..FORGET_TIMES {
            let from = rows * (time + 1) / (FORGET_TIMES + 2);
            while self.ledger.with(|ledger| ledger.both()) < from {
                sleep(TICK).await;
            }
            let options = TakeOptions {
                max: FORGET,
                wait: FORGET_LEASE,
                lease: Some(FORGET_LEASE),
                ..TakeOptions::default()
            };
            // Without an answer nothing was taken from anybody.
            for message in self.queue.take(options).await.unwrap_or_default() {
                let (delivery, _) = self.note(&message);
                self.ledger.with(|ledger| ledger.fate(delivery, Fate::Left));
            }
        }
    }

    fn note(&self, message: &Message) -> (usize, Option<usize>) {
        let after_kill = self.client.stats().reconnects > 0;
        self.ledger
            .with(|ledger| ledger.delivered(message, after_kill))
    }
}

/// Runs it to its end or to the end of the demo.
async fn until(mut stop: watch::Receiver<bool>, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

/// Keeps the cursor where the live subscriber is, until the client is closed.
async fn mark(cursor: Cursor, ledger: Ledger) {
    loop {
        sleep(CURSOR_EVERY).await;
        for partition in 0..SHARDS {
            let index = usize::from(partition);
            let next = ledger.with(|ledger| {
                let (next, marked) = (ledger.live[index], ledger.cursors[index]);
                (!ledger.cursors_rest && marked != Some(next)).then_some(next)
            });
            let Some(next) = next else { continue };
            match cursor.commit(PartitionId(partition), Offset(next)).await {
                Ok(Durability::Disk) => {
                    ledger.with(|ledger| ledger.cursors[index] = Some(next));
                }
                Err(RequestError::Closed) => return,
                // Not acknowledged, so nothing is promised of it.
                Ok(_) | Err(_) => {}
            }
        }
    }
}

/// Reads from the beginning to the ends, once they are known.
async fn read(
    mut subscription: Subscription,
    mut ends: watch::Receiver<Option<Vec<u64>>>,
    ledger: Ledger,
    live: bool,
) -> Vec<Saw> {
    let mut saw = Vec::new();
    let mut next = vec![0_u64; usize::from(SHARDS)];
    loop {
        let known = ends.borrow().clone();
        if known
            .as_ref()
            .is_some_and(|ends| next.iter().zip(ends).all(|(next, end)| next >= end))
        {
            return saw;
        }
        let quiet = async {
            match known {
                Some(_) => sleep(STALL_MAX).await,
                None => std::future::pending().await,
            }
        };
        let event = tokio::select! {
            event = subscription.next() => event,
            changed = ends.changed() => match changed {
                Ok(()) => continue,
                // The demo itself has failed.
                Err(_) => return saw,
            },
            () = quiet => return saw,
        };
        match event {
            // What a lost connection is to a durable stream: nothing.
            Some(Ok(Event::Reconnected { resumed: true, .. })) => {
                ledger.with(|ledger| ledger.reconnected += 1);
            }
            Some(Ok(event)) => {
                if let Event::Record(record) = &event
                    && let Some(next) = next.get_mut(usize::from(record.partition.0))
                {
                    *next = (*next).max(record.offset.0.saturating_add(1));
                    if live {
                        let index = usize::from(record.partition.0);
                        ledger.with(|ledger| ledger.live[index] = *next);
                    }
                }
                saw.push(describe(&event));
            }
            Some(Err(error)) => {
                saw.push(Saw::Other(error.to_string()));
                return saw;
            }
            None => return saw,
        }
    }
}
