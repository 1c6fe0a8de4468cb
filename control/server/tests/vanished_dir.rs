//! A data directory that goes away or turns read-only under a running node: it
//! says so, acknowledges nothing that a start would not find, serves what needs
//! no disk, and after a start where the data is, nothing acknowledged is lost.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use pinion_client::{
    Cache, Client, ClientConfig, ErrorCode, FetchOptions, Offset, PartitionId, PutOptions, Queue,
    Record, Stream, StreamSpec,
};
use support::mount::Mount;
use support::process::{Home, Node};
use support::run;

const CONFIG: &str = "
data_cores = [0]
[storage]
segment_bytes = 4194304
checkpoint_every_bytes = 2097152
";

const KEPT: &str = "gone/kept";
const WORK: &str = "gone/work";
const LIGHT: &str = "gone/light";
const VALUES: &str = "gone/values";

/// A node must have noticed by then that nothing it writes is where it belongs.
const NOTICED_WITHIN: Duration = Duration::from_secs(5);

/// A client of a node, with one resource of each kind.
struct Life {
    client: Client,
    kept: Stream,
    work: Queue,
    light: Stream,
    values: Cache,
}

impl Life {
    async fn with(config: &ClientConfig) -> Self {
        let client = Client::connect(config.clone()).await.unwrap();
        let durable = StreamSpec::durable(1);
        Self {
            kept: client.open_stream_with(KEPT, durable).await.unwrap(),
            work: client.open_queue_with(WORK, durable).await.unwrap(),
            light: client.stream(LIGHT).await.unwrap(),
            values: client.cache(VALUES).await.unwrap(),
            client,
        }
    }

    /// Publishes record `number`; the code of the refusal otherwise.
    async fn publish(&self, number: u64) -> Result<(), ErrorCode> {
        let publisher = self.kept.publisher(Default::default());
        let record = Record::new(format!("record {number}"));
        let ticket = publisher.publish(record).await.unwrap();
        match ticket.await {
            Ok(ack) => {
                assert_eq!(ack.offset, Offset(number), "in order");
                Ok(())
            }
            Err(error) => Err(error.code().unwrap_or_else(|| panic!("no answer: {error}"))),
        }
    }

    /// Publishes from `first` on until it is refused; gives how many records are
    /// acknowledged then.
    async fn publish_until_refused(&self, first: u64) -> u64 {
        let began = Instant::now();
        let mut acked = first;
        loop {
            match self.publish(acked).await {
                Ok(()) => acked += 1,
                Err(code) => {
                    let expected = [ErrorCode::DurabilityFailed, ErrorCode::PartitionFenced];
                    assert!(expected.contains(&code), "{code:?}");
                    return acked;
                }
            }
            assert!(began.elapsed() < NOTICED_WITHIN, "nothing was noticed");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What needs no disk is served; what does is refused, and stays so.
    async fn serves_what_needs_no_disk(&self, acked: u64) {
        for _ in 0..3 {
            assert_eq!(
                self.publish(acked).await,
                Err(ErrorCode::PartitionFenced),
                "it does not come back by itself"
            );
        }
        let put = self.work.put(Record::new("job"), PutOptions::default());
        assert!(put.await.is_err(), "a queue is in the same log");
        let new = StreamSpec::durable(1);
        let declared = self.client.open_stream_with("gone/new", new).await;
        assert!(declared.is_err(), "nobody could read its declaration");
        let publisher = self.light.publisher(Default::default());
        for _ in 0..3 {
            let ticket = publisher.publish(Record::new("light")).await.unwrap();
            ticket.await.unwrap();
        }
        self.values.set("key", "value").await.unwrap();
        let value = self.values.get("key").await.unwrap().unwrap();
        assert_eq!(value.value.as_ref(), b"value");
    }

    /// Every one of `acked` records is there, in its place. What was refused
    /// with an unknown outcome may follow.
    async fn has(&self, acked: u64) {
        let mut next = 0;
        while next < acked {
            let options = FetchOptions {
                from: Offset(next),
                ..FetchOptions::default()
            };
            let page = self.kept.fetch(PartitionId(0), options).await.unwrap();
            assert!(!page.records.is_empty(), "{next} of {acked} records");
            for record in page.records {
                assert_eq!(record.offset, Offset(next));
                assert_eq!(record.value, format!("record {next}").as_bytes());
                next += 1;
            }
        }
    }
}

/// Some acknowledged records and one job before anything happens.
async fn begin(life: &Life) -> u64 {
    for number in 0..50 {
        life.publish(number).await.unwrap();
    }
    let put = life.work.put(Record::new("job"), PutOptions::default());
    put.await.unwrap();
    50
}

fn says(node: &mut Node, words: &[&str]) {
    let began = Instant::now();
    while !words.iter().all(|word| node.said().contains(word)) {
        assert!(
            began.elapsed() < NOTICED_WITHIN,
            "{words:?} are not in: {}",
            node.said()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(!node.said().contains("panicked"), "{}", node.said());
}

/// The node is up, its directory at `home`; `act` makes it go. Gives how many
/// records are acknowledged.
fn loses(node: &mut Node, act: impl FnOnce(), words: &[&str]) -> u64 {
    let config = node.client_config();
    let acked = run(async {
        let life = Life::with(&config).await;
        let acked = begin(&life).await;
        act();
        let acked = life.publish_until_refused(acked).await;
        life.serves_what_needs_no_disk(acked).await;
        life.client.close().await;
        acked
    });
    says(node, words);
    acked
}

/// A start where the data is finds all of it and goes on.
fn is_found(home: &Home, acked: u64) {
    let node = home.start(&[]);
    run(async {
        let life = Life::with(&node.client_config()).await;
        life.has(acked).await;
        let info = life.work.info(PartitionId(0)).await.unwrap();
        assert!(info.messages >= 1, "the job");
        let publisher = life.kept.publisher(Default::default());
        let ticket = publisher.publish(Record::new("more")).await.unwrap();
        assert!(ticket.await.unwrap().offset >= Offset(acked));
        life.client.close().await;
    });
    assert_eq!(node.stop().code, 0);
}

#[test]
fn a_deleted_directory_ends_acknowledgements_at_once() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let home = Home::new(dir.path(), CONFIG, &[]);
    let mut node = home.start(&[]);
    let config = node.client_config();
    run(async {
        let life = Life::with(&config).await;
        let acked = begin(&life).await;
        fs::remove_dir_all(&home.data).unwrap();
        let after = life.publish_until_refused(acked).await;
        assert_eq!(after, acked, "not one: nobody would find it");
        life.serves_what_needs_no_disk(acked).await;
        life.client.close().await;
    });
    says(&mut node, &["was deleted", "log takes no more"]);
    let ended = node.stop();
    assert!(!ended.said.contains("panicked"), "{}", ended.said);
    assert!(!home.data.join("log-0000").exists(), "nothing is made anew");
}

#[test]
fn a_directory_that_is_moved_away_is_missed_and_holds_what_was_acknowledged() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let home = Home::new(dir.path(), CONFIG, &[]);
    let away = dir.path().join("away");
    let mut node = home.start(&[]);
    let acked = loses(
        &mut node,
        || fs::rename(&home.data, &away).unwrap(),
        &["not at its place any more", "log takes no more"],
    );
    let ended = node.stop();
    assert!(!ended.said.contains("panicked"), "{}", ended.said);
    assert!(!home.data.exists(), "nothing is made anew in its place");
    // Where it is now, and then where it was.
    is_found(&Home::new(dir.path(), CONFIG, &[]).with_data(&away), acked);
    fs::rename(&away, &home.data).unwrap();
    is_found(&home, acked);
}

/// An ext4 file system with the node's data, or why there is none.
fn mounted(dir: &std::path::Path) -> Option<Mount> {
    match Mount::ext4(&dir.join("disk"), &dir.join("image"), 64) {
        Ok(mount) => Some(mount),
        Err(reason) => {
            println!("skipped: {reason}");
            None
        }
    }
}

#[test]
fn an_unmounted_directory_is_missed_and_holds_what_was_acknowledged() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let Some(mount) = mounted(dir.path()) else {
        return;
    };
    let home = Home::new(dir.path(), CONFIG, &[]).in_mount(&mount, "data");
    let mut node = home.start(&[]);
    let acked = loses(
        &mut node,
        || drop(mount.shell("umount -l \"$0\"")),
        &["not at its place any more", "log takes no more"],
    );
    node.kill();
    let empty = fs::read_dir(mount.seen()).unwrap().count();
    assert_eq!(
        empty, 0,
        "nothing is made in the place where it was mounted"
    );
    mount.shell(&format!(
        "mount -o loop '{}' \"$0\"",
        dir.path().join("image").display()
    ));
    is_found(&home, acked);
}

#[test]
fn a_file_system_that_turns_read_only_closes_the_log_and_loses_nothing() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let Some(mount) = mounted(dir.path()) else {
        return;
    };
    mount.shell("mount -o remount,errors=remount-ro \"$0\"");
    let device = mount.device.clone().unwrap();
    let home = Home::new(dir.path(), CONFIG, &[]).in_mount(&mount, "data");
    let mut node = home.start(&[]);
    // What ext4 does when it meets an error of its own.
    let trigger = format!("/sys/fs/ext4/{device}/trigger_fs_error");
    let acked = loses(
        &mut node,
        || fs::write(&trigger, "pinion").unwrap(),
        &["Read-only file system", "log takes no more"],
    );
    node.kill();
    let image = dir.path().join("image");
    mount.shell("umount \"$0\"");
    let checked = Command::new("e2fsck").arg("-fp").arg(&image).status();
    // 1: errors were there and are corrected.
    assert!(checked.unwrap().code().unwrap() <= 1);
    mount.shell(&format!("mount -o loop '{}' \"$0\"", image.display()));
    is_found(&home, acked);
}
