//! Data directories that are not as the node left them: each is refused with
//! the file's name and what to do, or served without what is damaged; and what
//! was not damaged is as it was, to the byte.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pinion_client::{
    Client, ErrorCode, FetchOptions, Offset, PartitionId, Publisher, PublisherOptions, Record,
    StartFrom, StreamSpec, SubscribeOptions,
};
use support::load::Random;
use support::mount::Mount;
use support::process::Home;
use support::run;

const CONFIG: &str = "
data_cores = [0]
[storage]
segment_bytes = 4194304
checkpoint_every_bytes = 2097152
";

/// In every segment.
const MAIN: &str = "bad/main";
/// In the first segment only.
const EARLY: &str = "bad/early";

const RECORDS: u64 = 220;
const RECORD_BYTES: usize = 48 << 10;
const EARLY_RECORDS: u64 = 20;

/// The exit code when there is no place to write on this machine.
const NO_PLACE: i32 = 78;

fn value(number: u64, len: usize) -> Vec<u8> {
    let mut random = Random(number);
    let mut value = number.to_le_bytes().to_vec();
    while value.len() < len {
        value.extend_from_slice(&random.next().to_le_bytes());
    }
    value.truncate(len);
    value
}

async fn publish(publisher: &Publisher, numbers: std::ops::Range<u64>, len: usize) {
    for number in numbers {
        let record = Record::new(value(number, len));
        drop(publisher.publish(record).await.unwrap());
    }
    publisher.flush().await.unwrap();
}

/// A directory with two streams and several segments, left by a clean stop.
/// Made once, copied by every test.
fn good() -> &'static Path {
    static GOOD: OnceLock<PathBuf> = OnceLock::new();
    GOOD.get_or_init(|| {
        // Nothing drops what is static: the next run takes the place over.
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bad-data-dir");
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        let home = Home::new(&dir, CONFIG, &[]);
        let node = home.start(&[]);
        run(async {
            let client = Client::connect(node.client_config()).await.unwrap();
            for (name, count, len) in [(EARLY, EARLY_RECORDS, 300), (MAIN, RECORDS, RECORD_BYTES)] {
                let spec = StreamSpec::durable(1);
                let stream = client.open_stream_with(name, spec).await.unwrap();
                let publisher = stream.publisher(PublisherOptions::default());
                publish(&publisher, 0..count, len).await;
            }
            client.close().await;
        });
        let ended = node.stop();
        assert_eq!(ended.code, 0, "{}", ended.said);
        dir
    })
}

/// A copy of the good directory.
struct Case {
    dir: tempfile::TempDir,
}

impl Case {
    fn new() -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        copy(&good().join("data"), &dir.path().join("data"));
        Self { dir }
    }

    fn home(&self) -> Home {
        Home::new(self.dir.path(), CONFIG, &[])
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("data").join(name)
    }

    fn segment(&self, number: u64) -> PathBuf {
        self.path(&format!("log-0000/{number:020}.segment"))
    }

    /// Every file of the logs and the store's name, by name.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut dirs = vec![self.dir.path().join("data")];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    dirs.push(path);
                } else if !path.ends_with("pinion.lock") {
                    files.insert(path.clone(), fs::read(path).unwrap());
                }
            }
        }
        files
    }

    /// The node refuses, says all of `words`, and changes nothing.
    fn is_refused(&self, words: &[&str]) {
        let before = self.files();
        let ended = self.home().refused();
        assert_eq!(ended.code, 1, "{}", ended.said);
        for word in words {
            assert!(
                ended.said.contains(word),
                "{word:?} is not in: {}",
                ended.said
            );
        }
        let line = ended.said.lines().last().unwrap();
        assert!(line.starts_with("pinion: "), "one line for people: {line}");
        assert!(!ended.said.contains("panicked"), "{}", ended.said);
        self.holds(&before);
    }

    /// Whatever held data holds it still, to the byte.
    fn holds(&self, before: &BTreeMap<PathBuf, Vec<u8>>) {
        let after = self.files();
        for (path, bytes) in before {
            let is_checkpoint = path.extension().is_some_and(|e| e == "checkpoint");
            // A file that was made ahead has no record yet.
            let is_empty = bytes.iter().skip(4096).all(|byte| *byte == 0);
            if !is_checkpoint && (bytes.len() < 4096 || !is_empty) {
                assert!(after.get(path) == Some(bytes), "{path:?} was changed");
            }
        }
    }

    /// The node serves and says all of `words`. Gives how many records of the
    /// two streams can be read before the first that is refused.
    fn is_served(&self, words: &[&str]) -> (Readable, Readable) {
        let before = self.files();
        let node = self.home().start(&[]);
        let readable = run(async {
            let client = Client::connect(node.client_config()).await.unwrap();
            let main = read(&client, MAIN, RECORDS, RECORD_BYTES).await;
            let early = read(&client, EARLY, EARLY_RECORDS, 300).await;
            client.close().await;
            (main, early)
        });
        // All of it: a line may be on its way while the answer is read already.
        let ended = node.stop();
        assert_eq!(ended.code, 0, "{}", ended.said);
        for word in words {
            let said = &ended.said;
            assert!(said.contains(word), "{word:?} is not in: {said}");
        }
        self.holds(&before);
        readable
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// What a stream still gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readable {
    /// And it takes more.
    All,
    /// But it takes no more: some of what is lost may be its own.
    Closed,
    /// That many from the start; reading on is refused by name, not skipped.
    Fenced(u64),
}

async fn read(client: &Client, name: &str, count: u64, len: usize) -> Readable {
    let stream = client.stream(name).await.unwrap();
    let mut next = 0;
    while next < count {
        let options = FetchOptions {
            from: Offset(next),
            ..FetchOptions::default()
        };
        let page = match stream.fetch(PartitionId(0), options).await {
            Ok(page) => page,
            Err(error) => {
                assert_eq!(error.code(), Some(ErrorCode::PartitionFenced), "{error}");
                let refused = stream.publisher(PublisherOptions::default());
                let ticket = refused.publish(Record::new("more")).await.unwrap();
                let error = ticket.await.unwrap_err();
                assert_eq!(error.code(), Some(ErrorCode::PartitionFenced), "{error}");
                return Readable::Fenced(next);
            }
        };
        assert_eq!(page.first_available, Offset(0), "{name}: nothing is gone");
        assert!(!page.records.is_empty(), "{name}: nothing at {next}");
        for record in page.records {
            assert_eq!(record.offset, Offset(next), "{name}");
            assert!(record.value == value(next, len), "{name}: other bytes");
            next += 1;
        }
    }
    let publisher = stream.publisher(PublisherOptions::default());
    let ticket = publisher.publish(Record::new("more")).await.unwrap();
    match ticket.await {
        Ok(ack) => {
            assert_eq!(ack.offset, Offset(count));
            Readable::All
        }
        Err(error) => {
            assert_eq!(error.code(), Some(ErrorCode::PartitionFenced), "{error}");
            Readable::Closed
        }
    }
}

fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

#[test]
fn an_undamaged_copy_is_served_whole() {
    let case = Case::new();
    // Otherwise the other tests show little.
    assert!(fs::metadata(case.segment(3)).is_ok(), "several segments");
    assert_eq!(case.is_served(&[]), (Readable::All, Readable::All));
}

#[test]
fn a_store_file_that_is_not_ours_is_refused() {
    let damaged = ["pinion.store is damaged", "backup"];
    for change in [
        (|bytes| bytes.clear()) as fn(&mut Vec<u8>),
        |bytes| bytes.truncate(63),
        |bytes| bytes[0] ^= 1,
        |bytes| bytes[20] ^= 0x80,
        |bytes| bytes.extend_from_slice(b"more"),
    ] {
        let case = Case::new();
        edit(&case.path("pinion.store"), change);
        case.is_refused(&damaged);
    }
}

#[test]
fn a_store_of_a_later_release_is_refused() {
    let case = Case::new();
    edit(&case.path("pinion.store"), |bytes| {
        bytes[8] = 9;
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
    });
    case.is_refused(&["pinion.store has format 9", "later release"]);
}

#[test]
fn logs_without_a_store_file_are_refused() {
    let case = Case::new();
    fs::remove_file(case.path("pinion.store")).unwrap();
    case.is_refused(&["no pinion.store", "backup"]);
}

/// The identity of another directory, made by another node.
fn other_store(change: impl FnOnce(&Path)) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let home = Home::new(dir.path(), CONFIG, &[]);
    let node = home.start(&[]);
    run(async {
        let client = Client::connect(node.client_config()).await.unwrap();
        let spec = StreamSpec::durable(1);
        let stream = client.open_stream_with("other/stream", spec).await.unwrap();
        let publisher = stream.publisher(PublisherOptions::default());
        publish(&publisher, 0..120, RECORD_BYTES).await;
        client.close().await;
    });
    assert_eq!(node.stop().code, 0);
    change(&home.data);
}

#[test]
fn files_of_another_store_are_refused() {
    other_store(|other| {
        let case = Case::new();
        fs::copy(other.join("pinion.store"), case.path("pinion.store")).unwrap();
        case.is_refused(&["belongs to another store", "log-65534"]);
        let case = Case::new();
        let name = "log-0000/00000000000000000001.segment";
        fs::copy(other.join(name), case.path(name)).unwrap();
        case.is_refused(&["belongs to another store", name]);
    });
}

#[test]
fn segments_that_changed_names_are_refused() {
    let case = Case::new();
    let (one, two) = (case.segment(1), case.segment(2));
    let aside = case.path("aside");
    fs::rename(&one, &aside).unwrap();
    fs::rename(&two, &one).unwrap();
    fs::rename(&aside, &two).unwrap();
    case.is_refused(&[".segment says that it is file"]);
}

#[test]
fn a_segment_of_a_later_release_is_refused() {
    let case = Case::new();
    edit(&case.segment(2), |bytes| {
        bytes[8] = 9;
        let crc = crc32c::crc32c(&bytes[..508]);
        bytes[508..512].copy_from_slice(&crc.to_le_bytes());
    });
    case.is_refused(&["00000000000000000002.segment: format version 9, this release knows"]);
}

/// The stream in the damaged segment is fenced and says so. The other, whose
/// records are elsewhere, is untouched where it can be told whose are lost, and
/// can be read in any case.
fn fences(damage: impl FnOnce(&Case), words: &[&str], named: bool) {
    let case = Case::new();
    damage(&case);
    let (main, other) = case.is_served(words);
    match main {
        Readable::Fenced(count) => assert!(count < RECORDS, "{count}"),
        other => panic!("damage went unnoticed: {other:?}"),
    }
    let expected = if named {
        Readable::All
    } else {
        Readable::Closed
    };
    assert_eq!(other, expected, "the other stream");
}

#[test]
fn a_flipped_bit_in_a_record_fences_its_stream_alone() {
    let damage = |case: &Case| {
        edit(&case.segment(2), |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 4;
        });
    };
    let words = ["segment 00000000000000000002", "not what was written"];
    fences(damage, &words, true);
}

#[test]
fn a_segment_cut_in_half_fences_what_was_in_it() {
    let damage = |case: &Case| {
        edit(&case.segment(2), |bytes| {
            bytes.truncate(bytes.len() / 2 / 4096 * 4096);
        });
    };
    fences(damage, &["segment 00000000000000000002"], false);
}

#[test]
fn an_empty_segment_fences_what_was_in_it() {
    let damage = |case: &Case| edit(&case.segment(2), Vec::clear);
    fences(damage, &["segment 00000000000000000002"], false);
}

#[test]
fn a_vanished_segment_is_missed() {
    let damage = |case: &Case| fs::remove_file(case.segment(2)).unwrap();
    fences(damage, &["segment 00000000000000000002", "missing"], false);
}

#[test]
fn a_segment_of_garbage_fences_what_was_in_it() {
    let damage = |case: &Case| {
        edit(&case.segment(2), |bytes| {
            let mut random = Random(5);
            bytes
                .iter_mut()
                .for_each(|byte| *byte = random.next().to_le_bytes()[0]);
        });
    };
    fences(damage, &["segment 00000000000000000002"], false);
}

#[test]
fn a_damaged_checkpoint_costs_time_and_nothing_else() {
    let case = Case::new();
    let mut changed = 0;
    for (path, _) in case.files() {
        if path.extension().is_some_and(|e| e == "checkpoint") {
            edit(&path, |bytes| {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
            });
            changed += 1;
            break;
        }
    }
    assert_eq!(changed, 1, "there is a checkpoint");
    assert_eq!(case.is_served(&[]), (Readable::All, Readable::All));
}

#[test]
fn damaged_metadata_is_refused() {
    let case = Case::new();
    let name = "control/log-65534/00000000000000000001.segment";
    edit(&case.path(name), |bytes| bytes[4096 + 100] ^= 1);
    case.is_refused(&["log-65534", "restore DIR/control from a backup"]);
}

#[test]
fn a_damaged_audit_log_costs_rows_and_nothing_else() {
    let case = Case::new();
    let name = "control/log-65533/00000000000000000001.segment";
    edit(&case.path(name), |bytes| bytes[4096 + 100] ^= 1);
    let served = case.is_served(&["log 65533"]);
    assert_eq!(served, (Readable::All, Readable::All));
}

#[test]
fn files_nobody_knows_are_left_alone() {
    let case = Case::new();
    let stray = case.path("log-0000/notes.txt");
    fs::write(&stray, "remember the milk").unwrap();
    let served = case.is_served(&["notes.txt", "left alone"]);
    assert_eq!(served, (Readable::All, Readable::All));
    assert_eq!(fs::read_to_string(&stray).unwrap(), "remember the milk");
}

#[test]
fn a_directory_in_use_is_refused_with_the_number_of_its_user() {
    let case = Case::new();
    let node = case.home().start(&[]);
    let ended = case.home().refused();
    assert_eq!(ended.code, 1);
    let user = format!("is in use by process {}", node.pid());
    assert!(ended.said.contains(&user), "{}", ended.said);
    // And its user never noticed.
    let early = run(async {
        let client = Client::connect(node.client_config()).await.unwrap();
        read(&client, EARLY, EARLY_RECORDS, 300).await
    });
    assert_eq!(early, Readable::All);
    assert_eq!(node.stop().code, 0);
}

#[test]
fn a_file_in_the_directorys_place_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::new(dir.path(), CONFIG, &[]);
    fs::write(&home.data, "not a directory").unwrap();
    let below = Home::new(dir.path(), CONFIG, &[]).with_data(&home.data.join("below"));
    for home in [&home, &below] {
        let ended = home.refused();
        assert_eq!(ended.code, NO_PLACE, "{}", ended.said);
        assert!(
            ended.said.contains("data") && ended.said.contains("--data-dir"),
            "{}",
            ended.said
        );
    }
    assert_eq!(fs::read_to_string(&home.data).unwrap(), "not a directory");
}

#[test]
fn a_read_only_directory_is_refused() {
    let case = Case::new();
    let place = case.dir.path().join("read-only");
    let mount = match Mount::read_only(&place, case.dir.path()) {
        Ok(mount) => mount,
        Err(reason) => {
            println!("skipped: {reason}");
            return;
        }
    };
    let before = case.files();
    let home = Home::new(case.dir.path(), CONFIG, &[]).in_mount(&mount, "data");
    let ended = home.refused();
    assert_eq!(ended.code, NO_PLACE, "{}", ended.said);
    assert!(ended.said.contains("Read-only"), "{}", ended.said);
    assert!(ended.said.contains("read-only/data"), "{}", ended.said);
    assert!(before == case.files());
    // Where it may be made, but not here.
    let ended = Home::new(case.dir.path(), CONFIG, &[])
        .in_mount(&mount, "new")
        .refused();
    assert_eq!(ended.code, NO_PLACE, "{}", ended.said);
    assert!(ended.said.contains("--data-dir"), "{}", ended.said);
}

/// A node whose clock was an hour ahead wrote, and its clock was set right.
#[test]
fn a_clock_set_back_by_an_hour_loses_nothing() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    // No checkpoint, so that the log alone says what there is.
    let config = "data_cores = [0]\n[storage]\nsegment_bytes = 4194304\n";
    let home = Home::new(dir.path(), config, &[]);
    let spec = StreamSpec {
        // Less than the hour: what is from the future must not make what
        // comes after it look old.
        retention_ms: 30 * 60 * 1000,
        ..StreamSpec::durable(1)
    };
    let node = home.start(&[]);
    run(async {
        let client = Client::connect(node.client_config()).await.unwrap();
        let stream = client.open_stream_with(MAIN, spec).await.unwrap();
        publish(&stream.publisher(PublisherOptions::default()), 0..10, 100).await;
    });
    node.kill();

    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let ahead = since + Duration::from_secs(3600);
    let ahead = u64::try_from(ahead.as_millis()).unwrap();
    let forged = support::forge::append_at(
        &home.data,
        4 << 20,
        pinion_types::WallMs(ahead),
        &value(10, 100),
    );
    assert_eq!(forged, Offset(10));

    for life in 0..3_u64 {
        let node = home.start(&[]);
        run(async {
            let client = Client::connect(node.client_config()).await.unwrap();
            let stream = client.stream(MAIN).await.unwrap();
            let (old, new) = (11 + life * 5, 11 + life * 5 + 5);
            let publisher = stream.publisher(PublisherOptions::default());
            publish(&publisher, old..new, 100).await;
            let page = stream
                .fetch(PartitionId(0), FetchOptions::default())
                .await
                .unwrap();
            assert_eq!((page.first_available, page.end), (Offset(0), Offset(new)));
            let mut newest = 0;
            for (number, record) in (0..).zip(&page.records) {
                assert_eq!(record.offset, Offset(number));
                assert!(record.value == value(number, 100));
                // Time of a stream does not go back, or reading by time would
                // skip records.
                assert!(record.timestamp_ms >= newest, "{number}");
                newest = record.timestamp_ms;
            }
            let mut by_time = stream
                .subscribe(SubscribeOptions {
                    start: StartFrom::Time(ahead),
                    ..SubscribeOptions::default()
                })
                .await
                .unwrap();
            let first = by_time.next().await.unwrap().unwrap();
            let pinion_client::Event::Record(first) = first else {
                panic!("unexpected {first:?}");
            };
            assert_eq!(first.offset, forged);
        });
        if life == 1 {
            assert_eq!(node.stop().code, 0);
        } else {
            node.kill();
        }
    }
}
