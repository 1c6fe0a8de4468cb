//! A real node is killed again and again while it works, and nothing that was
//! acknowledged is ever lost, doubled or torn (F1, F8, F17).
//!
//! Streams, append sessions, cursors and queues are under load when SIGKILL
//! comes at a random moment; the node starts again on what it left on the disk,
//! and everything is compared with what clients were told. Some kills hit the
//! node while it recovers, some runs end cleanly, and the number of data cores
//! changes in between. `PINION_CRASH_KILLS` and `PINION_CRASH_SEED` say how
//! often and with which decisions; the moments are the machine's.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::cell::RefCell;
use std::path::Path;
use std::time::{Duration, Instant};

use pinion_client::{
    Client, ConsumeOptions, Cursor, DeadSelection, Event, Message, Offset, PartitionId, Partitions,
    PublisherOptions, Queue, QueueRules, Record, StartFrom, Stream, StreamSpec, SubscribeOptions,
    TakeOptions,
};
use pinion_types::ResourceKind;
use support::Raw;
use support::load::{Ident, Producer, Random, Shadow};
use support::process::{Home, Node};
use support::work::{ATTEMPTS_MAX, Jobs, Verdict};

const PLAIN: &str = "crash/plain";
const KEPT: &str = "crash/kept";
const WORK: &str = "crash/work";

/// Small files, so that rolling, checkpoints, retention and rewriting forward
/// happen between kills.
const CONFIG: &str = "
[storage]
segment_bytes = 4194304
checkpoint_every_bytes = 2097152
";

/// How long a message is reserved by a consumer that forgets it.
const LEASE_SHORT: Duration = Duration::from_millis(150);
/// And by one that does not: longer than any run.
const LEASE_LONG: Duration = Duration::from_secs(60);

/// Longest anything may take of a node that is not killed.
const PATIENCE: Duration = Duration::from_secs(60);

fn plain_spec() -> StreamSpec {
    StreamSpec::durable(2)
}

fn kept_spec() -> StreamSpec {
    StreamSpec {
        retention_bytes: 2 << 20,
        ..StreamSpec::durable(2)
    }
}

fn work_spec() -> StreamSpec {
    StreamSpec {
        queue: QueueRules {
            max_attempts: ATTEMPTS_MAX,
            backoff_min_ms: 1,
            backoff_max_ms: 20,
            ..QueueRules::UNSET
        },
        ..StreamSpec::durable(2)
    }
}

/// A cursor, as far as it was told.
#[derive(Debug, Default)]
struct CursorShadow {
    acked: u64,
    tried: u64,
}

/// Everything that clients were told, over all lives of the node.
struct World {
    random: Random,
    plain: [RefCell<Shadow>; 2],
    kept: [RefCell<Shadow>; 2],
    jobs: RefCell<Jobs>,
    cursor: RefCell<CursorShadow>,
    producers: [Producer; 7],
    sessions: u64,
    kills: u64,
    kills_at_start: u64,
    stops: u64,
    read_back: u64,
    slowest_start: Duration,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut jobs = Jobs::default();
        let mut producer = |(source, (kind, name, partition))| {
            if kind == ResourceKind::Queue {
                jobs.producer(source, partition);
            }
            Producer::new(kind, name, partition, source)
        };
        let places = [
            (ResourceKind::Stream, PLAIN, 0),
            (ResourceKind::Stream, PLAIN, 0),
            (ResourceKind::Stream, PLAIN, 1),
            (ResourceKind::Stream, KEPT, 0),
            (ResourceKind::Stream, KEPT, 1),
            (ResourceKind::Queue, WORK, 0),
            (ResourceKind::Queue, WORK, 1),
        ];
        let mut sources = 1..;
        let producers = places.map(|place| producer((sources.next().unwrap(), place)));
        Self {
            random: Random(seed),
            plain: [0, 1].map(|p| RefCell::new(Shadow::new(PLAIN, p, false))),
            kept: [0, 1].map(|p| RefCell::new(Shadow::new(KEPT, p, true))),
            jobs: RefCell::new(jobs),
            cursor: RefCell::default(),
            producers,
            // Beside the producers' numbers.
            sessions: 1 << 32,
            kills: 0,
            kills_at_start: 0,
            stops: 0,
            read_back: 0,
            slowest_start: Duration::ZERO,
        }
    }

    /// Compares what the node has with what was told. `deep` reads all of it.
    async fn compare(&mut self, resources: &Resources, deep: bool) {
        let mut count = 0;
        for shadow in &mut self.plain {
            count += shadow.get_mut().read_back(&resources.plain, deep).await;
        }
        for shadow in &mut self.kept {
            count += shadow.get_mut().read_back(&resources.kept, deep).await;
        }
        count += self.jobs.get_mut().read_back(&resources.work).await;
        let told = self.cursor.get_mut();
        let kept = resources.cursor.get(PartitionId(0)).await.unwrap();
        let kept = kept.map_or(0, |offset| offset.0);
        assert!(
            (told.acked..=told.tried).contains(&kept),
            "the cursor stands at {kept}, but {told:?}"
        );
        (told.acked, told.tried) = (kept, kept);
        self.read_back += count;
    }

    /// One life of a node that serves: compare, load, and the end.
    fn live(&mut self, node: Node, life: Duration, deep: bool, end: End) {
        self.slowest_start = self.slowest_start.max(node.started_in);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let node = runtime.block_on(async {
            let client = Client::connect(node.client_config()).await.unwrap();
            let resources = Resources::open(&client).await;
            let compare = self.compare(&resources, deep);
            tokio::time::timeout(PATIENCE, compare).await.expect("hung");

            let endpoint = support::endpoint_of(&node.ca());
            let mut raws = Vec::new();
            for _ in &self.producers {
                let mut raw = Raw::connect(&endpoint, node.address).await;
                raw.hello(&node.token()).await;
                raws.push(raw);
            }
            let load = self.load(&resources, &mut raws);
            tokio::select! {
                () = load => unreachable!("the load has no end"),
                () = tokio::time::sleep(life) => {}
            }
            match end {
                // Here, with answers on their way that nobody will read.
                End::Kill => {
                    node.kill();
                    None
                }
                End::Stop => Some(node),
            }
        });
        // Ends whatever the clients left running.
        drop(runtime);
        match node {
            None => self.kills += 1,
            Some(node) => {
                let ended = node.stop();
                assert_eq!(ended.code, 0, "{}", ended.said);
                self.stops += 1;
            }
        }
    }

    /// Everything at once, until it is dropped.
    async fn load(&mut self, resources: &Resources, raws: &mut [Raw]) {
        let Self {
            random,
            plain,
            kept,
            jobs,
            cursor,
            producers,
            sessions,
            ..
        } = self;
        let mut fork = || Random(random.next());
        let [r0, r1, r2, r3, r4, r5, r6] = raws else {
            panic!("a connection for each producer");
        };
        let [p0, p1, p2, p3, p4, p5, p6] = producers;
        let mut randoms: [Random; 11] = std::array::from_fn(|_| fork());
        let [a, b, c, d, e, f, g, h, i, j, k] = &mut randoms;
        let without_end = u64::MAX;
        let producing = async {
            tokio::select! {
                answer = p0.run(r0, &plain[0], a, without_end) => answer,
                answer = p1.run(r1, &plain[0], b, without_end) => answer,
                answer = p2.run(r2, &plain[1], c, without_end) => answer,
                answer = p3.run(r3, &kept[0], d, without_end) => answer,
                answer = p4.run(r4, &kept[1], e, without_end) => answer,
                answer = p5.run(r5, jobs, f, without_end) => answer,
                answer = p6.run(r6, jobs, g, without_end) => answer,
            }
        };
        let (newest, older) = (plain[0].borrow().checked(), plain[1].borrow().checked() / 2);
        // Some of it may be gone, which is said by a LAG.
        let retained = kept[0].borrow().checked().saturating_sub(4_000);
        let consuming = async {
            tokio::join!(
                pull(&resources.work, 0, jobs, h),
                pull(&resources.work, 1, jobs, i),
                push(&resources.work, 1, jobs, j),
                append(&resources.plain, &plain[1], sessions, k),
                follow(&resources.plain, &plain[0], newest),
                follow(&resources.plain, &plain[1], older),
                follow(&resources.kept, &kept[0], retained),
                commit(&resources.cursor, &plain[0], cursor),
            )
        };
        tokio::select! {
            answer = producing => panic!("a producer gave up: {answer:?}"),
            _ = consuming => unreachable!("consumers have no end"),
        }
    }

    /// Takes everything that is left, and moves the dead letters.
    fn drain(&self, node: &Node) -> u64 {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let drain = async {
            let client = Client::connect(node.client_config()).await.unwrap();
            let queue = Resources::open(&client).await.work;
            empty(&queue, &self.jobs).await;
            let dead = self.jobs.borrow().finished();
            let selection = DeadSelection::default();
            let mut pages = queue.dead_letters(selection.clone(), true);
            let mut listed = 0;
            while let Some(page) = pages.next_page().await.unwrap() {
                for letter in page {
                    assert!(letter.attempts >= ATTEMPTS_MAX, "{letter:?}");
                    // A record that is on the disk only may be left out.
                    if let Some(record) = letter.record {
                        Ident::of(&record.value, || format!("dead letter {}", letter.id));
                    }
                    listed += 1;
                }
            }
            assert_eq!(listed, dead, "dead letters are complete");
            assert_eq!(queue.replay_dead(&selection, 0).await.unwrap(), dead);
            let mut replayed = 0;
            loop {
                let messages = queue.take(all_there_is()).await.unwrap();
                if messages.is_empty() {
                    break;
                }
                assert!(messages.iter().all(|message| message.attempt == 1));
                replayed += messages.len() as u64;
                for answer in queue.ack(&messages).await {
                    answer.unwrap();
                }
            }
            assert_eq!(replayed, dead, "replayed letters come again");
            for partition in [0, 1] {
                let left = queue.info(PartitionId(partition)).await.unwrap();
                assert_eq!(left.messages, 0, "{left:?}");
            }
            client.close().await;
            dead
        };
        runtime.block_on(async { tokio::time::timeout(PATIENCE, drain).await.expect("hung") })
    }

    fn acked_records(&self) -> u64 {
        self.producers.iter().map(|p| p.acked_records).sum()
    }
}

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Kill,
    Stop,
}

/// What the load works on.
struct Resources {
    plain: Stream,
    kept: Stream,
    work: Queue,
    cursor: Cursor,
}

impl Resources {
    async fn open(client: &Client) -> Self {
        let plain = client.open_stream_with(PLAIN, plain_spec()).await.unwrap();
        let work = client.open_queue_with(WORK, work_spec()).await.unwrap();
        // Before anybody takes, so that it can be looked at.
        work.create_group("", false).await.unwrap();
        Self {
            kept: client.open_stream_with(KEPT, kept_spec()).await.unwrap(),
            work,
            cursor: plain.cursor("crash").unwrap(),
            plain,
        }
    }
}

/// Reads a partition from `from` on. It has no hole, and what it shows stays.
async fn follow(stream: &Stream, shadow: &RefCell<Shadow>, from: u64) {
    let (partition, trims) = (shadow.borrow().partition(), shadow.borrow().trims());
    let options = SubscribeOptions {
        partitions: Partitions::One(partition),
        start: StartFrom::Offset(Offset(from)),
        ..SubscribeOptions::default()
    };
    let mut subscription = stream.subscribe(options).await.unwrap();
    let mut next = from;
    loop {
        match subscription.next().await {
            Some(Ok(Event::Record(record))) => {
                assert_eq!(record.offset.0, next, "{partition}: hole or duplicate");
                let ident = Ident::of(&record.value, || format!("delivery of {next}"));
                shadow.borrow_mut().learn(next, ident, "a subscription");
                next += 1;
            }
            Some(Ok(Event::Lag { from, to, .. })) if trims => {
                assert_eq!(from.0, next, "{partition}: what was skipped is named");
                next = to.0;
            }
            other => panic!("{partition}: unexpected {other:?}"),
        }
    }
}

/// Appends whole batches, and takes some back.
async fn append(stream: &Stream, shadow: &RefCell<Shadow>, sources: &mut u64, random: &mut Random) {
    let partition = shadow.borrow().partition();
    loop {
        let source = *sources;
        *sources += 1;
        let whole = 2 + u16::try_from(random.below(30)).unwrap();
        let batch: Vec<Record> = Ident::batch(source, 0, whole)
            .map(|ident| Record::new(ident.payload()))
            .collect();
        let mut session = stream.begin_append(partition, false).await.unwrap();
        let (first, second) = batch.split_at(usize::from(whole / 2));
        session.stage(first).await.unwrap();
        session.stage(second).await.unwrap();
        if random.chance(20) {
            shadow.borrow_mut().rolled_back(source);
            session.rollback().await.unwrap();
            continue;
        }
        let ack = session.commit(None).await.unwrap();
        for (offset, ident) in (ack.offset.0..).zip(Ident::batch(source, 0, whole)) {
            shadow.borrow_mut().learn(offset, ident, "a commit");
        }
    }
}

/// Commits a cursor at what was acknowledged so far.
async fn commit(cursor: &Cursor, shadow: &RefCell<Shadow>, told: &RefCell<CursorShadow>) {
    loop {
        let end = shadow.borrow().end();
        told.borrow_mut().tried = end;
        cursor.commit(PartitionId(0), Offset(end)).await.unwrap();
        told.borrow_mut().acked = end;
    }
}

/// Takes, and does everything a consumer may.
async fn pull(queue: &Queue, partition: u16, jobs: &RefCell<Jobs>, random: &mut Random) {
    let mut silent = Vec::new();
    loop {
        let forgets = random.chance(8);
        let lease = if forgets { LEASE_SHORT } else { LEASE_LONG };
        let options = TakeOptions {
            partitions: Partitions::One(PartitionId(partition)),
            max: 1 + u32::try_from(random.below(12)).unwrap(),
            wait: Duration::from_millis(200),
            lease: Some(lease),
            ..TakeOptions::default()
        };
        if forgets {
            jobs.borrow_mut().asks_briefly(partition);
        }
        let asked = Instant::now();
        let taken = queue.take(options).await.unwrap();
        if forgets {
            jobs.borrow_mut().answered_briefly(partition);
        }
        let (mut done, mut failed, mut given_back) = (Vec::new(), Vec::new(), Vec::new());
        for message in taken {
            let Some(ident) = jobs.borrow_mut().delivered(&message, asked, lease) else {
                continue;
            };
            let verdict = if forgets {
                Verdict::Lapse
            } else if ident.hash().is_multiple_of(128) {
                // Nobody can do this one.
                Verdict::Nack
            } else {
                match random.below(100) {
                    0..80 => Verdict::Ack,
                    80..88 => Verdict::Nack,
                    88..96 => Verdict::Release,
                    _ => Verdict::Hold,
                }
            };
            let delivery = jobs.borrow_mut().says(ident, verdict);
            let list = match verdict {
                Verdict::Ack => &mut done,
                Verdict::Nack => &mut failed,
                Verdict::Release => &mut given_back,
                Verdict::Lapse | Verdict::Hold => &mut silent,
            };
            list.push((message, (ident, (verdict, delivery))));
        }
        settle(queue, jobs, done).await;
        settle(queue, jobs, failed).await;
        settle(queue, jobs, given_back).await;
    }
}

type Judged = (Message, (Ident, (Verdict, u32)));

async fn settle(queue: &Queue, jobs: &RefCell<Jobs>, judged: Vec<Judged>) {
    let (messages, judged): (Vec<_>, Vec<_>) = judged.into_iter().unzip();
    let Some((_, (verdict, _))) = judged.first() else {
        return;
    };
    let answers = match verdict {
        Verdict::Ack => queue.ack(&messages).await,
        Verdict::Nack => queue.nack(&messages, None, "cannot").await,
        _ => queue.release(&messages).await,
    };
    for ((ident, said), answer) in judged.into_iter().zip(&answers) {
        answer.as_ref().unwrap();
        jobs.borrow_mut().heard(ident, said, answer);
    }
}

/// Is sent messages and acknowledges them.
async fn push(queue: &Queue, partition: u16, jobs: &RefCell<Jobs>, random: &mut Random) {
    let options = ConsumeOptions {
        partitions: Partitions::One(PartitionId(partition)),
        credit_records: 8,
        lease: Some(LEASE_LONG),
        ..ConsumeOptions::default()
    };
    let mut consumer = queue.consume(options).await.unwrap();
    loop {
        let batch = consumer.next_batch(8).await.unwrap().unwrap();
        let judge = |message: Message| {
            let mut jobs = jobs.borrow_mut();
            let ident = jobs
                .delivered(&message, Instant::now(), LEASE_LONG)
                .expect("the lease is long");
            let poison = ident.hash().is_multiple_of(128) || random.chance(5);
            let verdict = if poison { Verdict::Nack } else { Verdict::Ack };
            let said = (verdict, jobs.says(ident, verdict));
            (message, (ident, said))
        };
        let judged = batch.into_iter().map(judge);
        let (done, failed): (Vec<_>, Vec<_>) =
            judged.partition(|(_, (_, (verdict, _)))| *verdict == Verdict::Ack);
        settle(queue, jobs, done).await;
        settle(queue, jobs, failed).await;
    }
}

fn all_there_is() -> TakeOptions {
    TakeOptions {
        max: 1024,
        // Longer than the longest backoff.
        wait: Duration::from_millis(250),
        lease: Some(LEASE_LONG),
        ..TakeOptions::default()
    }
}

/// Takes and acknowledges until nothing comes any more.
async fn empty(queue: &Queue, jobs: &RefCell<Jobs>) {
    loop {
        let asked = Instant::now();
        let messages = queue.take(all_there_is()).await.unwrap();
        if messages.is_empty() {
            return;
        }
        let judged = messages.into_iter().map(|message| {
            let mut jobs = jobs.borrow_mut();
            let ident = jobs
                .delivered(&message, asked, LEASE_LONG)
                .expect("the lease is long");
            let said = (Verdict::Ack, jobs.says(ident, Verdict::Ack));
            (message, (ident, said))
        });
        settle(queue, jobs, judged.collect()).await;
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// On a real disk, if the build is: beside what cargo builds.
fn disk() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// Nodes that are killed side by side, each with its own data and its own clients.
const WORLDS: u64 = 4;

/// The CPUs of the next life's data cores. Logs move between cores when there
/// are fewer or more.
fn cores(random: &mut Random) -> &'static str {
    let several = std::thread::available_parallelism().is_ok_and(|n| n.get() > 1);
    if several && random.chance(75) {
        "0,1"
    } else {
        "0"
    }
}

fn newest_segment(data: &Path) -> u64 {
    let names = std::fs::read_dir(data.join("log-0000")).unwrap();
    let number = |name: String| name.strip_suffix(".segment")?.parse().ok();
    names
        .filter_map(|entry| number(entry.unwrap().file_name().into_string().unwrap()))
        .max()
        .unwrap()
}

/// What became of one world, for the sum of all of them.
#[derive(Debug, Default)]
struct Tally {
    kills: u64,
    kills_at_start: u64,
    stops: u64,
    acked_records: u64,
    read_back: u64,
    repeats: u64,
    unacked_found: u64,
    put: u64,
    delivered: u64,
    redelivered: u64,
    acked: u64,
    dead: u64,
    segments: u64,
    trimmed: bool,
    slowest_start: Duration,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.kills += other.kills;
        self.kills_at_start += other.kills_at_start;
        self.stops += other.stops;
        self.acked_records += other.acked_records;
        self.read_back += other.read_back;
        self.repeats += other.repeats;
        self.unacked_found += other.unacked_found;
        self.put += other.put;
        self.delivered += other.delivered;
        self.redelivered += other.redelivered;
        self.acked += other.acked;
        self.dead += other.dead;
        self.segments += other.segments;
        self.trimmed |= other.trimmed;
        self.slowest_start = self.slowest_start.max(other.slowest_start);
    }
}

/// One node, killed `kills` times and more.
fn killed_again_and_again(kills: u64, seed: u64) -> Tally {
    let dir = disk();
    let home = Home::new(dir.path(), CONFIG, &[]);
    let mut world = World::new(seed);
    let mut lives = 0_u64;
    while world.kills < kills {
        lives += 1;
        let cores = ["--data-cores", cores(&mut world.random)];
        // Twice in a row and more: before it has recovered from the last one.
        while lives > 1 && world.random.chance(12) {
            let process = home.spawn(&cores);
            let usual = u64::try_from(world.slowest_start.as_micros()).unwrap();
            let life = Duration::from_micros(world.random.below(usual));
            std::thread::sleep(life);
            process.kill();
            world.kills += 1;
            world.kills_at_start += 1;
        }
        let life = Duration::from_millis(match lives % 10 {
            // Long enough for retention, which looks once a second.
            0 => 1_500,
            _ => 10 + world.random.below(250),
        });
        let end = if world.random.chance(8) {
            End::Stop
        } else {
            End::Kill
        };
        let node = home.start(&cores);
        world.live(node, life, lives.is_multiple_of(40), end);
    }
    let node = home.start(&[]);
    world.live(node, Duration::ZERO, true, End::Kill);
    let node = home.start(&[]);
    let dead = world.drain(&node);
    let ended = node.stop();
    assert_eq!(ended.code, 0, "{}", ended.said);

    let jobs = world.jobs.borrow();
    Tally {
        kills: world.kills,
        kills_at_start: world.kills_at_start,
        stops: world.stops,
        acked_records: world.acked_records(),
        read_back: world.read_back,
        repeats: world.producers.iter().map(|p| p.repeats).sum(),
        unacked_found: world.producers.iter().map(|p| p.unacked_found).sum(),
        put: jobs.put,
        delivered: jobs.delivered,
        redelivered: jobs.redelivered,
        acked: jobs.acked,
        dead,
        segments: newest_segment(&home.data),
        trimmed: world.kept[0].borrow().trimmed(),
        slowest_start: world.slowest_start,
    }
}

#[test]
fn nothing_acknowledged_is_lost_however_often_the_node_is_killed() {
    let (kills, seed) = (
        number("PINION_CRASH_KILLS", 100),
        number("PINION_CRASH_SEED", 1),
    );
    eprintln!("seed={seed}");
    // A node that starts, or that one waits for, leaves the processors to others.
    let worlds: Vec<_> = (0..WORLDS)
        .map(|i| {
            std::thread::spawn(move || killed_again_and_again(kills.div_ceil(WORLDS), seed + i))
        })
        .collect();
    let mut sum = Tally::default();
    for world in worlds {
        sum.add(&world.join().unwrap());
    }
    println!(
        "nodes={WORLDS} kills={} ({} while it started) clean stops={} acked records={} \
         read back={} repeats={} unacknowledged batches found stored={} queue messages={} \
         delivered={} again={} acked={} dead letters={} segments={} slowest start={} ms",
        sum.kills,
        sum.kills_at_start,
        sum.stops,
        sum.acked_records,
        sum.read_back,
        sum.repeats,
        sum.unacked_found,
        sum.put,
        sum.delivered,
        sum.redelivered,
        sum.acked,
        sum.dead,
        sum.segments,
        sum.slowest_start.as_millis(),
    );
    if kills >= 50 {
        // Otherwise it did not test what it says.
        assert!(sum.acked > 0 && sum.redelivered > 0 && sum.dead > 0);
        assert!(sum.repeats > 0 && sum.kills_at_start > 0 && sum.stops > 0);
        assert!(sum.segments > kills / 4, "the logs rolled");
        assert!(sum.trimmed, "retention took nothing away");
    }
}

/// The SDK's own publisher, which lives through a kill: what it could not know
/// it sends again, and each record is stored once.
#[test]
fn a_publisher_that_outlives_its_node_stores_each_record_once() {
    let dir = disk();
    let port = {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.local_addr().unwrap().port()
    };
    let listen = format!("127.0.0.1:{port}");
    let home = Home::new(dir.path(), CONFIG, &["--listen", &listen]);
    let node = home.start(&[]);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let story = async {
        let client = Client::connect(node.client_config()).await.unwrap();
        let stream = client.open_stream_with(PLAIN, plain_spec()).await.unwrap();
        let publisher = stream.publisher(PublisherOptions::default());
        const COUNT: u32 = 600;
        let mut tickets = Vec::new();
        let mut node = Some(node);
        for i in 0..COUNT {
            if i == COUNT / 2 {
                node.take().unwrap().kill();
                node = Some(home.start(&[]));
            }
            let record = Record::new(i.to_le_bytes().to_vec()).key((i % 7).to_le_bytes().to_vec());
            tickets.push(publisher.publish(record).await.unwrap());
            tokio::task::yield_now().await;
        }
        let mut places = std::collections::BTreeMap::new();
        for (i, ticket) in (0..).zip(tickets) {
            let ack = ticket.await.unwrap();
            assert_eq!(places.insert((ack.partition, ack.offset), i), None);
        }
        for partition in [0, 1].map(PartitionId) {
            let page = stream.fetch(partition, Default::default()).await.unwrap();
            let expected = places.range((partition, Offset(0))..=(partition, Offset(u64::MAX)));
            let expected: Vec<u32> = expected.map(|(_, i)| *i).collect();
            let stored: Vec<u32> = page
                .records
                .iter()
                .map(|record| u32::from_le_bytes(record.value[..].try_into().unwrap()))
                .collect();
            assert_eq!(stored, expected, "each once, in order");
        }
        client.close().await;
        node.take().unwrap().stop()
    };
    let ended =
        runtime.block_on(async { tokio::time::timeout(PATIENCE, story).await.expect("hung") });
    assert_eq!(ended.code, 0, "{}", ended.said);
}

/// The kernel takes the sockets of a killed node back a moment after its process has ended.
#[test]
fn a_port_that_is_given_back_in_time_is_waited_for() {
    let dir = disk();
    let holder = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let listen = holder.local_addr().unwrap().to_string();
    let home = Home::new(dir.path(), CONFIG, &["--listen", &listen]);
    let given_back = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(800));
        drop(holder);
    });
    let node = home.start(&[]);
    given_back.join().unwrap();
    assert_eq!(node.address.to_string(), listen);
    assert_eq!(node.stop().code, 0);
}
