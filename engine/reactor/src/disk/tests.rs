//! Real files on a real disk, without a core around it.
#![allow(clippy::unwrap_used)]

mod faults;

use super::*;
use std::env;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use pinion_commitlog::{BLOCK, Background, Files, LogId};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{SeekFrom, seek};
use tempfile::TempDir;

use crate::FileStore;
use files::FILES_OPEN_MAX;
use ring::Support;

const MIB: u64 = 1 << 20;

struct Rig {
    disk: Disk,
    dir: PathBuf,
    asked: u64,
    /// Removed last.
    place: Option<TempDir>,
}

fn open(dir: &Path) -> Disk {
    let bell = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
    let config = DiskConfig {
        dir: dir.to_owned(),
    };
    Disk::open(&config, bell.as_fd()).unwrap()
}

fn rig_at(dir: &Path) -> Rig {
    Rig {
        disk: open(dir),
        dir: dir.to_owned(),
        asked: 0,
        place: None,
    }
}

/// `/tmp` may be memory; `/var/tmp` outlives a reboot.
fn rig() -> Rig {
    let place = tempfile::tempdir_in("/var/tmp").unwrap();
    let mut rig = rig_at(place.path());
    rig.place = Some(place);
    rig
}

fn segment(number: u64) -> FileId {
    let log = LogId(3);
    FileId::Segment { log, number }
}

fn pattern(len: usize, seed: u8) -> BlockBuf {
    let mut data = BlockBuf::zeroed(len);
    for (at, byte) in data.as_mut_slice().iter_mut().enumerate() {
        *byte = seed.wrapping_add(u8::try_from(at / BLOCK % 251).unwrap());
    }
    data
}

impl Rig {
    fn op(&mut self) -> OpId {
        self.asked += 1;
        OpId(self.asked)
    }

    fn create(&mut self, file: FileId, len: u64) -> DiskRequest {
        let op = self.op();
        DiskRequest::Create {
            op,
            file,
            len,
            background: Background::Written,
        }
    }

    fn write(&mut self, file: FileId, offset: u64, data: BlockBuf) -> DiskRequest {
        let op = self.op();
        DiskRequest::Write {
            op,
            file,
            offset,
            data,
        }
    }

    fn read(&mut self, file: FileId, offset: u64, len: u32) -> DiskRequest {
        let op = self.op();
        DiskRequest::Read {
            op,
            file,
            offset,
            len,
        }
    }

    fn truncate(&mut self, file: FileId, len: u64) -> DiskRequest {
        let op = self.op();
        DiskRequest::Truncate { op, file, len }
    }

    fn remove(&mut self, file: FileId) -> DiskRequest {
        let op = self.op();
        DiskRequest::Remove { op, file }
    }

    /// Asks and waits for all answers, which come by the number of the request.
    fn all(&mut self, requests: Vec<DiskRequest>) -> Vec<Result<DiskOutput, DiskError>> {
        let mut answers: HashMap<OpId, Option<DiskDone>> = HashMap::new();
        let order: Vec<OpId> = requests.iter().map(|request| request.target().0).collect();
        for request in requests {
            answers.insert(request.target().0, None);
            self.disk.ask(Instant::now(), request);
        }
        while answers.values().any(Option::is_none) {
            self.disk.submit().unwrap();
            self.disk.ring.wait().unwrap();
            let take = |done: DiskDone| {
                let before = answers.get_mut(&done.op).expect("asked for").replace(done);
                assert!(before.is_none(), "answered twice: {before:?}");
            };
            self.disk.poll(Instant::now(), take).unwrap();
        }
        assert_eq!(self.disk.requests, 0);
        let mut answer = |op| answers.remove(&op).unwrap().unwrap().result;
        order.into_iter().map(&mut answer).collect()
    }

    fn one(&mut self, request: DiskRequest) -> Result<DiskOutput, DiskError> {
        self.all(vec![request]).remove(0)
    }

    fn created(&mut self, file: FileId, len: u64) {
        let request = self.create(file, len);
        done(self.one(request));
    }

    fn written(&mut self, file: FileId, offset: u64, data: BlockBuf) {
        let request = self.write(file, offset, data);
        assert!(matches!(self.one(request), Ok(DiskOutput::Written(_))));
    }

    fn bytes(&mut self, file: FileId, offset: u64, len: u32) -> Vec<u8> {
        let request = self.read(file, offset, len);
        data(self.one(request))
    }

    fn len(&self, file: FileId) -> u64 {
        fs::metadata(self.dir.join(file.path())).unwrap().len()
    }
}

#[allow(clippy::needless_pass_by_value)] // The shape `for_each` wants.
fn done(result: Result<DiskOutput, DiskError>) {
    assert!(matches!(result, Ok(DiskOutput::Done)), "{result:?}");
}

fn data(result: Result<DiskOutput, DiskError>) -> Vec<u8> {
    match result {
        Ok(DiskOutput::Data(data)) => data.as_slice().to_vec(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_was_written_is_read_by_this_core_the_next_one_and_recovery() {
    for direct in [true, false] {
        let mut rig = rig();
        rig.disk.direct &= direct;
        let (file, text) = (segment(1), pattern(3 * BLOCK, 1));
        rig.created(file, 4 * MIB);
        let request = rig.write(file, 8192, text.clone());
        match rig.one(request) {
            Ok(DiskOutput::Written(back)) => assert_eq!(back.as_slice(), text.as_slice()),
            other => panic!("{other:?}"),
        }
        assert_eq!(rig.bytes(file, 8192, 3 * 4096), text.as_slice());
        assert_eq!(rig.bytes(file, 0, 8192), [0; 8192], "what was not written");
        rig.disk = open(&rig.dir);
        assert_eq!(rig.bytes(file, 8192, 3 * 4096), text.as_slice());
        let mut found = vec![0; 3 * BLOCK];
        let mut recovery = FileStore::new(&rig.dir);
        assert_eq!(recovery.read(file, 8192, &mut found), Ok(found.len()));
        assert_eq!(found, text.as_slice());
        assert_eq!(recovery.list(LogId(3)).unwrap().0, [(file, 4 * MIB)]);
    }
}

#[test]
fn a_new_file_is_zeros_that_were_really_written() {
    let mut rig = rig();
    let (file, len) = (segment(1), 3 * MIB + 8192);
    rig.created(file, len);
    let opened = File::open(rig.dir.join(file.path())).unwrap();
    // Reserved space that nobody wrote counts as a hole.
    assert_eq!(seek(&opened, SeekFrom::Hole(0)).unwrap(), len);
    let metadata = opened.metadata().unwrap();
    assert!(metadata.blocks() * 512 >= len);
    assert_eq!(
        fs::read(rig.dir.join(file.path())).unwrap(),
        vec![0; usize::try_from(len).unwrap()]
    );
    // At the start; the folder's folder, the file, the folder.
    assert_eq!(rig.disk.stats.disk_flushes, 1 + 3);
}

#[test]
fn while_commits_follow_each_other_zeros_take_turns_with_them() {
    let len = 4 * MIB;
    for (committed, pieces) in [(BLOCK, 32), (256 << 10, 8), (4 << 20, 4)] {
        let mut rig = rig();
        let request = rig.create(segment(1), len);
        // A commit that is under way until it is said to be over.
        rig.disk.commits_in_flight = 1;
        rig.disk.ask(Instant::now(), request);
        let (mut answer, mut turns) = (None, 0);
        while answer.is_none() {
            rig.disk.submit().unwrap();
            rig.disk.ring.wait().unwrap();
            let take = |done: DiskDone| answer = Some(done.result);
            rig.disk.poll(Instant::now(), take).unwrap();
            if !rig.disk.zeros_waiting.is_empty() {
                assert_eq!(rig.disk.ring.in_kernel(), 0, "nothing but the commit");
                rig.disk.commit_over(committed);
                rig.disk.commits_in_flight = 1;
                turns += 1;
            }
        }
        done(answer.unwrap());
        assert_eq!(turns, pieces, "behind commits of {committed} bytes");
        let content = fs::read(rig.dir.join(segment(1).path())).unwrap();
        assert_eq!(content, vec![0; usize::try_from(len).unwrap()]);
    }
}

#[test]
fn a_file_that_is_only_reserved_has_its_space_and_reads_as_zeros() {
    for direct in [true, false] {
        let mut rig = rig();
        rig.disk.direct &= direct;
        let (file, len) = (segment(1), 3 * MIB + 8192);
        let op = rig.op();
        done(rig.one(DiskRequest::Create {
            op,
            file,
            len,
            background: Background::Reserved,
        }));
        let opened = File::open(rig.dir.join(file.path())).unwrap();
        let metadata = opened.metadata().unwrap();
        assert!(metadata.len() == len && metadata.blocks() * 512 >= len);
        assert_eq!(
            seek(&opened, SeekFrom::Hole(0)).unwrap(),
            0,
            "nothing was written"
        );
        assert_eq!(rig.disk.stats.disk_flushes, 1 + 3);
        let text = pattern(300 * BLOCK, 1);
        rig.written(file, MIB, text.clone());
        rig.disk = open(&rig.dir);
        assert_eq!(rig.bytes(file, MIB, 300 * 4096), text.as_slice());
        assert_eq!(rig.bytes(file, 0, 1 << 20), vec![0; 1 << 20]);
        let behind = rig.bytes(file, MIB + 300 * 4096, 2 << 20);
        assert_eq!(behind, vec![0; behind.len()]);
    }
}

#[test]
fn a_file_that_is_there_is_not_made_and_not_touched() {
    let mut rig = rig();
    let file = segment(1);
    rig.created(file, 8192);
    rig.written(file, 0, pattern(BLOCK, 9));
    let again = rig.create(file, 4096);
    assert_eq!(rig.one(again).unwrap_err(), DiskError::Exists);
    assert_eq!(rig.len(file), 8192);
    assert_eq!(rig.bytes(file, 0, 4096), pattern(BLOCK, 9).as_slice());
    assert_eq!(rig.disk.stats.disk_errors, 1);
}

#[test]
fn what_is_missing_is_named_so_and_removing_it_is_done() {
    let mut rig = rig();
    for folder in [false, true] {
        if folder {
            rig.created(segment(7), 0);
        }
        let requests = vec![
            rig.read(segment(1), 0, 4096),
            rig.write(segment(1), 0, pattern(BLOCK, 1)),
            rig.truncate(segment(1), 0),
            rig.read(segment(1), 0, 4096),
        ];
        for result in rig.all(requests) {
            assert_eq!(result.unwrap_err(), DiskError::Missing);
        }
        let remove = rig.remove(segment(1));
        done(rig.one(remove));
    }
    assert_eq!(rig.disk.files.len(), 1, "only the one that is open is kept");
}

#[test]
fn a_file_shrinks_grows_and_goes_also_where_the_ring_cannot_do_it() {
    for least in [None, Some(Support::LEAST), Some(Support::NO_THREADS)] {
        let mut rig = rig();
        if let Some(least) = least {
            rig.disk.ring.limit_to(least);
        }
        let file = segment(1);
        rig.created(file, 4 * MIB);
        let shorten = rig.truncate(file, 8192);
        done(rig.one(shorten));
        assert_eq!(rig.len(file), 8192);
        rig.written(file, 8192, pattern(2 * BLOCK, 5));
        assert_eq!(rig.len(file), 16384);
        // Short at the end of the file, empty behind it.
        assert_eq!(
            rig.bytes(file, 8192, 65536),
            pattern(2 * BLOCK, 5).as_slice()
        );
        assert_eq!(rig.bytes(file, 16384, 4096), [0_u8; 0]);
        // The first request for a file may be any.
        rig.disk = open(&rig.dir);
        if let Some(least) = least {
            rig.disk.ring.limit_to(least);
        }
        let requests = vec![rig.truncate(file, 4096), rig.remove(file)];
        rig.all(requests).into_iter().for_each(done);
        assert_eq!(FileStore::new(&rig.dir).list(LogId(3)).unwrap().0, []);
        let again = rig.create(file, 4096);
        done(rig.one(again));
    }
}

#[test]
fn a_failed_thread_gives_its_error_like_the_ring() {
    for least in [None, Some(Support::LEAST), Some(Support::NO_THREADS)] {
        let mut rig = rig();
        if let Some(least) = least {
            rig.disk.ring.limit_to(least);
        }
        fs::create_dir_all(rig.dir.join(segment(1).path())).unwrap();
        let requests = vec![rig.remove(segment(1)), rig.read(segment(1), 0, 4096)];
        for result in rig.all(requests) {
            let errno = libc::EISDIR;
            assert_eq!(result.unwrap_err(), DiskError::Io { errno });
        }
    }
}

#[test]
fn at_most_sixteen_reads_are_in_flight_and_a_write_passes_those_that_wait() {
    let mut rig = rig();
    let file = segment(1);
    rig.created(file, MIB);
    rig.written(file, 0, pattern(40 * BLOCK, 3));
    let reads: Vec<_> = (0..40).map(|at| rig.read(file, at * 4096, 4096)).collect();
    let write = rig.write(file, 40 * 4096, pattern(BLOCK, 77));
    let now = Instant::now();
    let order: Vec<OpId> = reads.iter().map(|read| read.target().0).collect();
    for request in reads {
        rig.disk.ask(now, request);
    }
    rig.disk.ask(now, write);
    let count = |disk: &Disk, wanted: fn(&Kind) -> bool| {
        disk.jobs
            .iter()
            .filter(|(_, job)| wanted(&job.kind))
            .count()
    };
    assert_eq!(count(&rig.disk, |kind| matches!(kind, Kind::Read)), 16);
    assert_eq!(count(&rig.disk, |kind| matches!(kind, Kind::Write)), 1);
    let mut answers = HashMap::new();
    while rig.disk.requests > 0 {
        rig.disk.submit().unwrap();
        rig.disk.ring.wait().unwrap();
        rig.disk
            .poll(now, |done| {
                answers.insert(done.op, done.result);
            })
            .unwrap();
        assert!(rig.disk.reads_in_flight <= READS_IN_FLIGHT_MAX);
    }
    for (at, op) in order.iter().enumerate() {
        let read = data(answers.remove(op).unwrap());
        assert_eq!(read, [3 + u8::try_from(at).unwrap(); BLOCK]);
    }
    assert_eq!(answers.len(), 1, "the write");
    assert_eq!(rig.disk.stats.disk_reads, 40);
}

#[test]
fn a_removal_waits_for_the_reads_before_it_and_holds_up_what_comes_after() {
    let mut rig = rig();
    let file = segment(1);
    rig.created(file, MIB);
    rig.written(file, 0, pattern(BLOCK, 3));
    let mut requests: Vec<_> = (0..40).map(|_| rig.read(file, 0, 4096)).collect();
    requests.push(rig.remove(file));
    requests.push(rig.read(file, 0, 4096));
    requests.push(rig.create(file, 4096));
    requests.push(rig.read(file, 0, 4096));
    let mut answers = rig.all(requests);
    assert_eq!(data(answers.pop().unwrap()), [0; BLOCK], "the new file");
    done(answers.pop().unwrap());
    assert_eq!(answers.pop().unwrap().unwrap_err(), DiskError::Missing);
    done(answers.pop().unwrap());
    for answer in answers {
        assert_eq!(data(answer), [3; BLOCK]);
    }
}

#[test]
fn many_files_are_used_with_few_open() {
    let mut rig = rig();
    let count = FILES_OPEN_MAX as u64 + 20;
    let requests = (1..=count).map(|n| rig.create(segment(n), 4096)).collect();
    rig.all(requests).into_iter().for_each(done);
    for round in 0..2 {
        for number in 1..=count {
            let seed = u8::try_from(number + round).unwrap();
            rig.written(segment(number), 0, pattern(BLOCK, seed));
            assert!(rig.disk.files.len() <= FILES_OPEN_MAX);
            assert_eq!(rig.disk.files.len(), rig.disk.files_open);
            assert_eq!(rig.bytes(segment(number), 0, 4096), [seed; BLOCK]);
        }
    }
}

#[test]
fn dropping_the_disk_waits_for_what_the_kernel_has() {
    let mut rig = rig();
    let len = 512_usize << 10;
    let files: Vec<_> = (1..=24).map(segment).collect();
    let requests = files
        .iter()
        .map(|file| rig.create(*file, len as u64))
        .collect();
    rig.all(requests).into_iter().for_each(done);
    for (seed, file) in files.iter().enumerate() {
        let text = pattern(len, u8::try_from(seed).unwrap());
        let write = rig.write(*file, 0, text);
        rig.disk.ask(Instant::now(), write);
    }
    rig.disk.submit().unwrap();
    let fresh = open(&rig.dir);
    drop(std::mem::replace(&mut rig.disk, fresh));
    for (seed, file) in files.iter().enumerate() {
        let text = pattern(len, u8::try_from(seed).unwrap());
        let found = fs::read(rig.dir.join(file.path())).unwrap();
        assert!(found == text.as_slice(), "{file:?} is not whole");
    }
}

#[test]
fn a_data_directory_must_be_one() {
    let bell = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
    let refuse = |dir: PathBuf| {
        let opened = Disk::open(&DiskConfig { dir }, bell.as_fd());
        opened.err().expect("refused").kind()
    };
    assert_eq!(refuse("/no/such/place".into()), io::ErrorKind::NotFound);
    let file = tempfile::NamedTempFile::new().unwrap();
    assert_eq!(refuse(file.path().to_owned()), io::ErrorKind::NotADirectory);
}

#[test]
fn errors_of_the_system_keep_their_meaning() {
    assert_eq!(disk_error(libc::ENOSPC), DiskError::Full);
    assert_eq!(disk_error(libc::EDQUOT), DiskError::Full);
    assert_eq!(disk_error(libc::EIO), DiskError::Io { errno: libc::EIO });
}

const FULL_DISK: &str = "PINION_TEST_FULL_DISK";

#[test]
fn a_full_disk_is_told_and_leaves_nothing_half_made() {
    if let Some(dir) = env::var_os(FULL_DISK) {
        return on_a_full_disk(Path::new(&dir));
    }
    // In a child of its own, as the mount must not outlive it and a process of
    // many threads cannot have a namespace of its own.
    let place = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=3m tmpfs \"$1\" || exit 77
        exec \"$2\" --exact --nocapture disk::tests::a_full_disk_is_told_and_leaves_nothing_half_made";
    let child = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", script, "sh"])
        .arg(place.path())
        .arg(env::current_exe().unwrap())
        .env(FULL_DISK, place.path())
        .output();
    let skip = |why: &str| println!("skipped: no small file system can be mounted: {why}");
    match child {
        Err(error) => skip(&error.to_string()),
        Ok(child) => {
            let text = String::from_utf8_lossy(&child.stdout).into_owned();
            let errors = String::from_utf8_lossy(&child.stderr).into_owned();
            if text.contains("1 passed") {
                assert!(child.status.success(), "{text}{errors}");
            } else if text.contains("running") {
                panic!("{text}{errors}");
            } else {
                skip(&errors);
            }
        }
    }
}

fn on_a_full_disk(dir: &Path) {
    let mut rig = rig_at(dir);
    rig.created(segment(1), MIB);
    let large = rig.create(segment(2), 16 * MIB);
    assert_eq!(rig.one(large).unwrap_err(), DiskError::Full);
    let (files, _) = FileStore::new(dir).list(LogId(3)).unwrap();
    assert_eq!(files, [(segment(1), MIB)], "the rest of it was removed");
    // Its space is free again.
    rig.created(segment(3), MIB);
    let grow = rig.write(segment(3), MIB, pattern(2 << 20, 1));
    assert_eq!(rig.one(grow).unwrap_err(), DiskError::Full);
    rig.written(segment(1), 0, pattern(1 << 20, 1));
    let (free, total) = crate::statfs_free(dir).unwrap();
    assert!(free < MIB && total == 3 * MIB, "{free} of {total}");
    // Not one block is free, and yet a node can start.
    fs::write(dir.join(crate::store::LOCK_FILE), "").unwrap();
    fs::write(dir.join("rest"), vec![1; 4 << 20]).unwrap_err();
    assert_eq!(crate::statfs_free(dir).unwrap().0, 0);
    let lock = crate::store::DirLock::take(dir).unwrap();
    crate::store::DirLock::take(dir).unwrap_err();
    drop(lock);
    rig.disk = open(dir);
    rig.written(segment(1), 0, pattern(BLOCK, 2));
}
