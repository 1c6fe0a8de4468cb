//! A real file system that fills up (F6): what takes space is refused and says
//! so, what frees it goes on, nothing acknowledged is lost, and when space
//! returns the node takes writes again by itself.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::cell::RefCell;
use std::path::Path;
use std::time::{Duration, Instant};

use pinion_client::{
    Client, DeadSelection, ErrorCode, Outcome, PartitionId, PutOptions, Queue, QueueRules, Record,
    Stream, StreamSpec, TakeOptions,
};
use pinion_types::{Refusal, ResourceKind};
use support::Raw;
use support::load::{Producer, Random, Shadow};
use support::mount::Mount;
use support::process::{Home, Node};

/// Size of the file system.
const DISK_MIB: u32 = 64;
/// What somebody else has on it, and takes away later.
const BALLAST_BYTES: usize = 16 << 20;
/// After that long a node must have noticed that there is space again.
const NOTICED_WITHIN: Duration = Duration::from_secs(2);
/// Longest anything may take.
const PATIENCE: Duration = Duration::from_secs(100);

const CONFIG: &str = "
data_cores = [0]
[storage]
segment_bytes = 4194304
checkpoint_every_bytes = 8388608
";

const PLAIN: &str = "full/plain";
const AGED: &str = "full/aged";
const WORK: &str = "full/work";

/// The file system, or why there is none and the test shows nothing.
fn mounted(dir: &Path) -> Option<Mount> {
    match Mount::tmpfs(&dir.join("disk"), DISK_MIB) {
        Ok(mount) => Some(mount),
        Err(reason) => {
            println!("skipped: {reason}");
            None
        }
    }
}

fn run<T>(story: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(async { tokio::time::timeout(PATIENCE, story).await.expect("hung") })
}

async fn raw(node: &Node) -> Raw {
    let endpoint = support::endpoint_of(&node.ca());
    let mut raw = Raw::connect(&endpoint, node.address).await;
    raw.hello(&node.token()).await;
    raw
}

/// Publishes until the disk is full.
async fn fill(node: &Node, producer: &mut Producer, shadow: &RefCell<Shadow>) -> Refusal {
    let mut random = Random(1);
    let refusal = producer
        .run(&mut raw(node).await, shadow, &mut random, u64::MAX)
        .await
        .expect_err("it has no end but this");
    assert_eq!(refusal.code, ErrorCode::ReadOnly, "{refusal:?}");
    assert_eq!(refusal.outcome, Outcome::NotAdmitted, "nothing happened");
    assert!(refusal.retry_after_ms > 0, "it says when to come back");
    refusal
}

/// Tries until a batch is taken. Gives how long that took.
async fn taken_again(node: &Node, producer: &mut Producer, shadow: &RefCell<Shadow>) -> Duration {
    let began = Instant::now();
    let mut random = Random(2);
    let mut raw = raw(node).await;
    while let Err(refusal) = producer.run(&mut raw, shadow, &mut random, 1).await {
        assert_eq!(refusal.code, ErrorCode::ReadOnly, "{refusal:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    began.elapsed()
}

fn work_spec() -> StreamSpec {
    StreamSpec {
        queue: QueueRules {
            max_attempts: 1,
            ..QueueRules::UNSET
        },
        ..StreamSpec::durable(1)
    }
}

struct Resources {
    client: Client,
    plain: Stream,
    work: Queue,
}

impl Resources {
    async fn open(node: &Node) -> Self {
        let client = Client::connect(node.client_config()).await.unwrap();
        let plain = StreamSpec::durable(1);
        Self {
            plain: client.open_stream_with(PLAIN, plain).await.unwrap(),
            work: client.open_queue_with(WORK, work_spec()).await.unwrap(),
            client,
        }
    }
}

#[test]
fn a_full_disk_refuses_what_takes_space_loses_nothing_and_recovers_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mount) = mounted(dir.path()) else {
        return;
    };
    let ballast = mount.seen().join("ballast");
    std::fs::write(&ballast, vec![1; BALLAST_BYTES]).unwrap();
    let home = Home::new(dir.path(), CONFIG, &[]).in_mount(&mount, "data");
    let mut producer = Producer::new(ResourceKind::Stream, PLAIN, 0, 7);
    let mut shadow = RefCell::new(Shadow::new(PLAIN, 0, false));

    let node = home.start(&[]);
    run(async {
        let resources = Resources::open(&node).await;
        let work = &resources.work;
        let jobs: Vec<_> = (0..60).map(|i| Record::new(format!("job {i}"))).collect();
        for ack in work.put_batch(&jobs, PutOptions::default()).await {
            ack.unwrap();
        }
        let refusal = fill(&node, &mut producer, &shadow).await;
        println!(
            "full after {} acknowledged records: {refusal}",
            producer.acked_records
        );

        // Whatever was acknowledged is there and can be read.
        shadow.get_mut().read_back(&resources.plain, true).await;
        // What takes space is refused, with nothing done.
        let put = work.put(Record::new("more"), PutOptions::default()).await;
        assert_eq!(put.unwrap_err().outcome(), Outcome::NotAdmitted);
        // What frees it goes on: acks, nacks into dead letters, purges.
        let taken = take(work, 40).await;
        for answer in work.ack(&taken[..20]).await {
            answer.unwrap();
        }
        for answer in work.nack(&taken[20..30], None, "cannot").await {
            answer.unwrap();
        }
        let dead = DeadSelection::default();
        assert_eq!(work.purge_dead(&dead).await.unwrap(), 10);
        let counts = work.info(PartitionId(0)).await.unwrap();
        assert_eq!((counts.messages, counts.groups[0].in_flight), (30, 10));
    });
    // A crash while the disk is full: the node comes back, still full.
    node.kill();
    let node = home.start(&[]);
    run(async {
        let resources = Resources::open(&node).await;
        shadow.get_mut().read_back(&resources.plain, true).await;
        let counts = resources.work.info(PartitionId(0)).await.unwrap();
        assert_eq!((counts.messages, counts.groups[0].in_flight), (30, 0));
        fill(&node, &mut producer, &shadow).await;
        shadow.get_mut().read_back(&resources.plain, false).await;
        for answer in resources.work.ack(&take(&resources.work, 5).await).await {
            answer.unwrap();
        }

        std::fs::remove_file(&ballast).unwrap();
        let noticed = taken_again(&node, &mut producer, &shadow).await;
        println!("takes writes again {} ms later", noticed.as_millis());
        assert!(noticed <= NOTICED_WITHIN, "{noticed:?}");
        resources
            .work
            .put(Record::new("more"), PutOptions::default())
            .await
            .unwrap();
        // And fills up again.
        let before = producer.acked_records;
        fill(&node, &mut producer, &shadow).await;
        assert!(producer.acked_records > before);
        shadow.get_mut().read_back(&resources.plain, true).await;
        resources.client.close().await;
    });
    let ended = node.stop();
    assert_eq!(ended.code, 0, "a full node stops cleanly: {}", ended.said);
    let node = home.start(&[]);
    run(async {
        let resources = Resources::open(&node).await;
        shadow.get_mut().read_back(&resources.plain, true).await;
        let left = resources.work.info(PartitionId(0)).await.unwrap();
        assert_eq!(left.messages, 26);
    });
}

async fn take(work: &Queue, max: u32) -> Vec<pinion_client::Message> {
    let taken = work
        .take(TakeOptions {
            max,
            wait: Duration::from_secs(5),
            ..TakeOptions::default()
        })
        .await
        .unwrap();
    assert_eq!(taken.len(), max as usize);
    taken
}

#[test]
fn retention_frees_a_full_disk_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mount) = mounted(dir.path()) else {
        return;
    };
    let home = Home::new(dir.path(), CONFIG, &[]).in_mount(&mount, "data");
    let node = home.start(&[]);
    let mut producer = Producer::new(ResourceKind::Stream, AGED, 0, 9);
    let mut shadow = RefCell::new(Shadow::new(AGED, 0, true));
    // Longer than filling takes, so that the disk is full before anything ages.
    let aged = StreamSpec {
        retention_ms: 20_000,
        ..StreamSpec::durable(1)
    };
    run(async {
        let client = Client::connect(node.client_config()).await.unwrap();
        let stream = client.open_stream_with(AGED, aged).await.unwrap();
        let began = Instant::now();
        fill(&node, &mut producer, &shadow).await;
        shadow.get_mut().read_back(&stream, false).await;
        println!("full after {} ms", began.elapsed().as_millis());
        let waited = taken_again(&node, &mut producer, &shadow).await;
        println!("retention made room {} ms later", waited.as_millis());
        shadow.get_mut().read_back(&stream, true).await;
        assert!(shadow.borrow().trimmed(), "something aged");
        client.close().await;
    });
    assert_eq!(node.stop().code, 0);
}
