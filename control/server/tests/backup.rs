//! A node is backed up while it works and restored elsewhere: what was acknowledged
//! before the backup began is there, byte for byte and in its place, and what is there
//! besides is what came next.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use pinion_client::{
    Client, DeadSelection, FetchOptions, Offset, PartitionId, PutOptions, Queue, QueueRules,
    Record, Stream, StreamSpec, TakeOptions,
};
use support::load::Ident;
use support::mount::Mount;
use support::process::{Home, Node};

const PLAIN: &str = "backup/plain";
const KEPT: &str = "backup/kept";
const WORK: &str = "backup/work";
const IDLE: &str = "backup/idle";

const PARTITIONS: u16 = 2;

/// Small files, so that segments are sealed, removed and rewritten while they are copied,
/// and a backup slow enough for that to happen.
const CONFIG: &str = "
[storage]
segment_bytes = 4194304
checkpoint_every_bytes = 2097152

[backup]
bytes_per_second = 8388608
";

/// Longest that anything may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Pause between two looks at something that another process does.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What a node was asked and said.
#[derive(Clone, Debug, Default)]
struct Told {
    /// Acknowledged records of the streams, by partition and offset.
    plain: BTreeMap<(u16, u64), Ident>,
    kept: BTreeMap<(u16, u64), Ident>,
    /// Acknowledged messages.
    idle: BTreeSet<u64>,
    work: BTreeSet<u64>,
    /// Messages of which it was said that they are done, or cannot be done, and those of
    /// them of which that was acknowledged.
    asked: BTreeSet<u64>,
    done: BTreeSet<u64>,
    dead: BTreeSet<u64>,
    bytes: usize,
}

struct Resources {
    plain: Stream,
    kept: Stream,
    work: Queue,
    idle: Queue,
}

impl Resources {
    async fn open(client: &Client) -> Self {
        let durable = StreamSpec::durable(PARTITIONS);
        let kept = StreamSpec {
            retention_bytes: 1 << 20,
            ..durable
        };
        let work = StreamSpec {
            queue: QueueRules {
                max_attempts: 1,
                ..QueueRules::UNSET
            },
            ..durable
        };
        let resources = Self {
            plain: client.open_stream_with(PLAIN, durable).await.unwrap(),
            kept: client.open_stream_with(KEPT, kept).await.unwrap(),
            work: client.open_queue_with(WORK, work).await.unwrap(),
            idle: client.open_queue_with(IDLE, durable).await.unwrap(),
        };
        // Before anybody takes, so that nothing passes the group by.
        resources.work.create_group("", false).await.unwrap();
        resources.idle.create_group("", false).await.unwrap();
        resources
    }
}

/// Appends batches to a partition, each all or nothing, and notes what was acknowledged.
async fn append(
    stream: &Stream,
    partition: u16,
    told: &RefCell<Told>,
    note: impl Fn(&mut Told) -> &mut BTreeMap<(u16, u64), Ident>,
) {
    for seq in 0.. {
        let batch: Vec<Ident> = Ident::batch(partition.into(), seq * 40, 40).collect();
        let records: Vec<Record> = batch
            .iter()
            .map(|ident| Record::new(ident.payload()))
            .collect();
        let bytes: usize = records.iter().map(|record| record.value.len()).sum();
        let session = stream.begin_append(PartitionId(partition), false).await;
        let mut session = session.unwrap();
        session.stage(&records).await.unwrap();
        let ack = session.commit(None).await.unwrap();
        let mut told = told.borrow_mut();
        told.bytes += bytes;
        for (offset, ident) in (ack.offset.0..).zip(batch) {
            note(&mut told).insert((partition, offset), ident);
        }
    }
}

/// Puts messages, a batch at a time.
async fn put(queue: &Queue, told: &RefCell<Told>, note: impl Fn(&mut Told) -> &mut BTreeSet<u64>) {
    for seq in 0.. {
        let batch: Vec<Ident> = Ident::batch(9, seq * 8, 8).collect();
        let records: Vec<Record> = batch
            .iter()
            .map(|ident| Record::new(ident.payload()))
            .collect();
        for answer in queue.put_batch(&records, PutOptions::default()).await {
            answer.unwrap();
        }
        let mut told = told.borrow_mut();
        note(&mut told).extend(batch.iter().map(|ident| ident.seq));
    }
}

/// Does most of the work, and cannot do some of it.
async fn consume(queue: &Queue, told: &RefCell<Told>) {
    loop {
        let options = TakeOptions {
            max: 64,
            wait: Duration::from_secs(1),
            ..TakeOptions::default()
        };
        let messages = queue.take(options).await.unwrap();
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for message in messages {
            let ident = Ident::of(&message.value, || format!("message {}", message.id));
            told.borrow_mut().asked.insert(ident.seq);
            let list = if ident.seq.is_multiple_of(5) {
                &mut bad
            } else {
                &mut good
            };
            list.push((message, ident.seq));
        }
        let (messages, seqs): (Vec<_>, Vec<_>) = good.into_iter().unzip();
        for (answer, seq) in queue.ack(&messages).await.into_iter().zip(seqs) {
            answer.unwrap();
            told.borrow_mut().done.insert(seq);
        }
        let (messages, seqs): (Vec<_>, Vec<_>) = bad.into_iter().unzip();
        let answers = queue.nack(&messages, None, "cannot").await;
        for (answer, seq) in answers.into_iter().zip(seqs) {
            answer.unwrap();
            told.borrow_mut().dead.insert(seq);
        }
    }
}

async fn load(resources: &Resources, told: &RefCell<Told>) {
    let Resources {
        plain,
        kept,
        work,
        idle,
    } = resources;
    tokio::join!(
        append(plain, 0, told, |told| &mut told.plain),
        append(plain, 1, told, |told| &mut told.plain),
        append(kept, 0, told, |told| &mut told.kept),
        append(kept, 1, told, |told| &mut told.kept),
        put(work, told, |told| &mut told.work),
        put(idle, told, |told| &mut told.idle),
        consume(work, told),
    );
}

/// Everything of a partition that there is, from its first offset on.
async fn all(stream: &Stream, partition: u16) -> BTreeMap<u64, Ident> {
    let status = stream.info(PartitionId(partition)).await.unwrap();
    let (mut next, end) = (status.first_available.0, status.end.0);
    let mut found = BTreeMap::new();
    while next < end {
        let options = FetchOptions {
            from: Offset(next),
            ..FetchOptions::default()
        };
        let page = stream.fetch(PartitionId(partition), options).await.unwrap();
        for record in page.records {
            assert_eq!(record.offset.0, next, "partition {partition} has a hole");
            let ident = Ident::of(&record.value, || format!("{partition}/{next}"));
            found.insert(next, ident);
            next += 1;
        }
    }
    found
}

/// Every message that is ready, taken and acknowledged, by its number.
async fn ready(queue: &Queue) -> BTreeSet<u64> {
    let mut found = BTreeSet::new();
    loop {
        let options = TakeOptions {
            max: 1024,
            wait: Duration::from_millis(500),
            ..TakeOptions::default()
        };
        let messages = queue.take(options).await.unwrap();
        if messages.is_empty() {
            return found;
        }
        for message in &messages {
            let ident = Ident::of(&message.value, || format!("message {}", message.id));
            assert!(found.insert(ident.seq), "{ident:?} comes twice");
        }
        for answer in queue.ack(&messages).await {
            answer.unwrap();
        }
    }
}

async fn dead(queue: &Queue) -> BTreeSet<u64> {
    let mut pages = queue.dead_letters(DeadSelection::default(), true);
    let mut found = BTreeSet::new();
    while let Some(page) = pages.next_page().await.unwrap() {
        for letter in page {
            assert_eq!(letter.last_error, "cannot");
            let record = letter.record.expect("nothing moves it");
            let ident = Ident::of(&record.value, || format!("dead letter {}", letter.id));
            found.insert(ident.seq);
        }
    }
    found
}

fn pinion(words: &[&str], node: Option<&Node>, home: &Home) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pinion"));
    command.args(words);
    if let Some(node) = node {
        let dev = home.data.join("dev");
        command
            .args(["--server", &node.address.to_string()])
            .arg("--ca")
            .arg(dev.join("ca.pem"))
            .arg("--token")
            .arg(dev.join("admin.token"));
    }
    for (name, _) in std::env::vars() {
        if name.starts_with("PINION_") {
            command.env_remove(name);
        }
    }
    command
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

fn backup(node: &Node, home: &Home, out: &Path) -> Command {
    let mut command = pinion(&["backup", "--json", "--out"], None, home);
    command.arg(out);
    let asked = pinion(&[], Some(node), home);
    command.args(asked.get_args());
    command
}

fn restore(file: &Path, dir: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pinion"));
    command.arg("restore").arg(file).arg("--data-dir").arg(dir);
    command.output().unwrap()
}

fn refused(file: &Path, dir: &Path, why: &str) {
    let before = listing(dir);
    let output = restore(file, dir);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(why), "{said}");
    assert_eq!(listing(dir), before, "nothing is left: {said}");
}

/// Names in a directory, but for its lock.
fn listing(dir: &Path) -> Option<BTreeSet<PathBuf>> {
    let entries = std::fs::read_dir(dir).ok()?;
    let names = entries.map(|entry| entry.unwrap().path());
    Some(
        names
            .filter(|path| !path.ends_with("pinion.lock"))
            .collect(),
    )
}

async fn until(mut is: impl FnMut() -> bool) {
    let wait = async {
        while !is() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("hung");
}

/// Waits for a process without holding up the load.
async fn finished(child: Child) -> Output {
    let waiting = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .expect("hung")
        .unwrap()
}

fn spawn(mut command: Command) -> Child {
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// A backup under load: one whose client is killed, one that is refused beside it, one
/// that is made. Gives what had been acknowledged when the last one was asked for.
async fn back_up(node: &Node, home: &Home, told: &RefCell<Told>, file: &Path) -> Told {
    until(|| told.borrow().bytes > 12 << 20 && told.borrow().dead.len() > 50).await;
    let gone = file.with_extension("gone");
    let part = gone.with_extension("gone.part");
    let mut first = spawn(backup(node, home, &gone));
    let has_begun = || part.metadata().is_ok_and(|part| part.len() > 0);
    until(has_begun).await;
    let second = finished(spawn(backup(node, home, file))).await;
    assert_eq!(second.status.code(), Some(1), "{}", said(&second));
    assert!(said(&second).contains("one at a time"), "{}", said(&second));
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(!gone.exists() && !file.exists());
    // The node notices that nobody takes it any more, and lets go.
    loop {
        let before = told.borrow().clone();
        let made = finished(spawn(backup(node, home, file))).await;
        if made.status.success() {
            return before;
        }
        assert!(said(&made).contains("one at a time"), "{}", said(&made));
    }
}

/// What must be true of a restored node.
async fn compare(node: &Node, before: &Told, after: &Told) {
    let client = Client::connect(node.client_config()).await.unwrap();
    let resources = Resources::open(&client).await;
    let mut read = 0;
    for partition in 0..PARTITIONS {
        let found = all(&resources.plain, partition).await;
        let of = |told: &BTreeMap<(u16, u64), Ident>| -> BTreeMap<u64, Ident> {
            let range = told.range((partition, 0)..=(partition, u64::MAX));
            range
                .map(|((_, offset), ident)| (*offset, *ident))
                .collect()
        };
        for (offset, ident) in of(&before.plain) {
            assert_eq!(found.get(&offset), Some(&ident), "{partition}/{offset}");
        }
        // Besides, it has what was acknowledged later, from the first of it on, and at
        // most one batch that nobody was told of.
        let later = of(&after.plain);
        for (offset, ident) in &found {
            let known = later.get(offset).is_none_or(|told| told == ident);
            assert!(known, "{partition}/{offset}");
        }
        assert!(found.len() <= later.len() + 40);
        let last = found.values().next_back().unwrap();
        assert_eq!(last.place + 1, last.whole, "no batch is there by half");
        read += found.len();

        let kept = all(&resources.kept, partition).await;
        let (later, end) = (of(&after.kept), of(&before.kept));
        assert!(kept.keys().next_back() >= end.keys().next_back());
        assert!(
            kept.iter()
                .all(|(at, is)| later.get(at).is_none_or(|told| told == is))
        );
    }
    assert!(read > 1_000, "{read}");

    let found = ready(&resources.idle).await;
    assert!(
        before.idle.is_subset(&found),
        "every message that was put is there"
    );
    let newest = after.idle.last().unwrap() + 8;
    assert!(*found.last().unwrap() <= newest, "and none that nobody put");

    let (letters, found) = (dead(&resources.work).await, ready(&resources.work).await);
    assert!(before.dead.is_subset(&letters), "what was dead is dead");
    assert!(
        before.done.is_disjoint(&found),
        "what was done is not done again"
    );
    assert!(before.done.is_disjoint(&letters) && letters.is_disjoint(&found));
    let left = before.work.difference(&after.asked);
    let mut there = left.filter(|seq| !found.contains(seq) && !letters.contains(seq));
    assert_eq!(there.next(), None, "what nobody settled is there");
    assert!(letters.iter().all(|seq| seq.is_multiple_of(5)));

    // And it works.
    let batch: Vec<Record> = (0..10).map(|_| Record::new("more")).collect();
    for answer in resources
        .idle
        .put_batch(&batch, PutOptions::default())
        .await
    {
        answer.unwrap();
    }
    let client_late = client
        .open_stream_with("backup/late", StreamSpec::durable(1))
        .await;
    assert_eq!(
        all(&client_late.unwrap(), 0).await.len(),
        0,
        "a new resource is empty"
    );
    client.close().await;
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// On a real disk, if the build is.
fn disk() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

#[test]
fn a_backup_under_load_restores_record_for_record() {
    let dir = disk();
    let home = Home::new(dir.path(), CONFIG, &[]).with_log("info");
    let mut node = home.start(&[]);
    let file = dir.path().join("backup.tar");
    let (before, after) = runtime().block_on(async {
        let client = Client::connect(node.client_config()).await.unwrap();
        let resources = Resources::open(&client).await;
        let told = RefCell::new(Told::default());
        let before = tokio::select! {
            () = load(&resources, &told) => unreachable!("the load has no end"),
            before = back_up(&node, &home, &told, &file) => before,
        };
        (before, told.into_inner())
    });
    assert!(
        node.said().contains("a backup was given up"),
        "{}",
        node.said()
    );
    assert!(node.said().contains("a backup was made"), "{}", node.said());

    // Not into what somebody has open, nor into what is not empty, nor what is cut off.
    refused(&file, &home.data, "is in use by process");
    let busy = dir.path().join("busy");
    std::fs::create_dir(&busy).unwrap();
    std::fs::write(busy.join("notes"), "mine").unwrap();
    refused(&file, &busy, "is not empty (notes is there)");
    let ended = node.stop();
    assert_eq!(ended.code, 0, "{}", ended.said);
    let bytes = std::fs::read(&file).unwrap();
    let bad = dir.path().join("bad.tar");
    let nowhere = dir.path().join("nowhere");
    std::fs::write(&bad, &bytes[..bytes.len() / 2]).unwrap();
    refused(&bad, &nowhere, "the backup is cut off");
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 1;
    std::fs::write(&bad, &flipped).unwrap();
    refused(&bad, &nowhere, "the checksum of");
    drop((bytes, flipped));

    // A restore that somebody cut short is not taken for one.
    let half = dir.path().join("half");
    std::fs::create_dir(&half).unwrap();
    std::fs::write(half.join("pinion.restoring"), "").unwrap();
    refused(&file, &half, "an interrupted restore");
    let half = Home::new(dir.path(), CONFIG, &[]).with_data(&half);
    let ended = half.refused();
    assert!(
        ended.said.contains("an interrupted restore"),
        "{}",
        ended.said
    );

    let again = Home::new(dir.path(), CONFIG, &[]).with_data(&dir.path().join("again"));
    let output = restore(&file, &again.data);
    assert!(output.status.success(), "{}", said(&output));
    let node = again.start(&[]);
    runtime().block_on(async {
        let compare = compare(&node, &before, &after);
        tokio::time::timeout(PATIENCE, compare).await.expect("hung");
    });
    let rows = pinion(&["admin", "audit", "--json"], Some(&node), &again);
    let rows = { rows }.output().unwrap();
    assert!(said(&rows).contains("\"backup\""), "{}", said(&rows));
    let ended = node.stop();
    assert_eq!(ended.code, 0, "{}", ended.said);
    let verify = Command::new(env!("CARGO_BIN_EXE_pinion"))
        .args(["log", "verify", "--data-dir"])
        .arg(&again.data)
        .output()
        .unwrap();
    assert!(verify.status.success(), "{}", said(&verify));
}

#[test]
fn keys_and_tokens_are_in_a_backup_only_when_that_is_asked_for() {
    let dir = disk();
    let home = Home::new(dir.path(), "", &[]);
    let node = home.start(&[]);
    let (plain, secret) = (dir.path().join("plain.tar"), dir.path().join("secret.tar"));
    let output = backup(&node, &home, &plain).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let output = backup(&node, &home, &secret)
        .arg("--with-secrets")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    // A file that is there is not written over.
    let output = backup(&node, &home, &plain).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    node.stop();
    let token = std::fs::read(home.data.join("dev/admin.token")).unwrap();
    for (file, has) in [(&plain, false), (&secret, true)] {
        let bytes = std::fs::read(file).unwrap();
        let found = bytes.windows(token.len()).any(|part| part == token);
        assert_eq!(found, has, "{}", file.display());
        let again = dir.path().join(if has { "with" } else { "without" });
        let again = Home::new(dir.path(), "", &[]).with_data(&again);
        let output = restore(file, &again.data);
        assert!(output.status.success(), "{}", said(&output));
        let node = again.start(&[]);
        assert_eq!(node.token().as_bytes() == token.trim_ascii(), has);
        node.stop();
    }
}

#[test]
fn a_restore_that_finds_no_room_leaves_nothing() {
    let dir = disk();
    let mount = match Mount::tmpfs(&dir.path().join("disk"), 64) {
        Ok(mount) => mount,
        Err(why) => return eprintln!("skipped: {why}"),
    };
    let home = Home::new(dir.path(), "", &[]);
    let node = home.start(&[]);
    let file = dir.path().join("backup.tar");
    let output = backup(&node, &home, &file).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    node.stop();
    let words = mount.enter();
    let restore = |to: &Path| {
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg(env!("CARGO_BIN_EXE_pinion"));
        command.arg("restore").arg(&file).arg("--data-dir").arg(to);
        let output = command.output().unwrap();
        (output.status.code(), said(&output))
    };
    // Bytes enough, and in the middle no more files: what was written is taken away.
    mount.shell("mount -o remount,nr_inodes=7 \"$0\"");
    let (code, why) = restore(&mount.dir().join("half"));
    assert_eq!(code, Some(1), "{why}");
    assert!(why.to_lowercase().contains("no space left on"), "{why}");
    assert_eq!(listing(&mount.seen()), Some(BTreeSet::new()), "{why}");
    // Too few bytes, which is seen before.
    mount.shell("mount -o remount,nr_inodes=1000,size=8m \"$0\"");
    let (code, why) = restore(mount.dir());
    assert_eq!(code, Some(1), "{why}");
    assert!(why.contains("has room for"), "{why}");
    assert_eq!(listing(&mount.seen()), Some(BTreeSet::new()), "{why}");
    mount.shell("mount -o remount,size=64m \"$0\"");
    let (code, why) = restore(mount.dir());
    assert_eq!(code, Some(0), "{why}");
}
