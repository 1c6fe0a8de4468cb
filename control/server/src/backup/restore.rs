//! `pinion restore`: an archive into an empty directory.
//!
//! The archive is read twice: once to see that all of it is as it was written, and once
//! to write it. Only then is anything in the directory believed: a marker stands there
//! from the first byte to the last, and a node does not start beside it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bytes::Bytes;
use clap::Args;
use pinion_backup::{ArchiveError, Discard, FileEntry, METADATA, Manifest, Place, Sink, read};
use pinion_cli::human;
use pinion_cli::progress::Progress;
use pinion_commitlog::{LogConfig, LogId, RecoverError, Replay, recover};
use pinion_raft_group::{Group, GroupConfig, MemberId, OpenError, Output};
use pinion_reactor::statfs_free;
use pinion_reactor::store::{DirLock, FORMAT, Identity, LOCK_FILE, StoreError};
use pinion_types::Monotonic;
use rand::RngExt as _;
use serde::Serialize;

use super::{MASTER_KEY, RESTORING};
use crate::control::boot::{FOLDER, IMPORTED, SEGMENT_BYTES};
use crate::control::disk::execute;
use crate::data_dir::{Logs, is_control, log_name};
use crate::serve::EXIT_FAILED;
use crate::wall_now;

/// Room beside the files: the log of the control plane, and what a node makes at its
/// first start before it has served anybody.
const ROOM_BESIDE: u64 = 16 << 20;

/// Largest metadata that is held in memory, as the group bounds it.
const METADATA_BYTES_MAX: u64 = pinion_raft_group::limits::SNAPSHOT_BYTES_MAX as u64;

/// Puts a backup into an empty directory.
#[derive(Args)]
pub(crate) struct RestoreArgs {
    /// What `pinion backup` wrote
    file: PathBuf,
    /// Where to: a directory that does not exist, or is empty
    #[arg(long, value_name = "DIR", required_unless_present = "check")]
    data_dir: Option<PathBuf>,
    /// Only look whether the backup is whole
    #[arg(long, conflicts_with = "data_dir")]
    check: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestoreError {
    #[error("{}: {source}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("{}: it is no file: it is read twice", .0.display())]
    NoFile(PathBuf),
    #[error("{}: {source}", path.display())]
    Archive { path: PathBuf, source: ArchiveError },
    #[error("{}: it was changed while it was read", .0.display())]
    Changed(PathBuf),
    #[error(
        "{} holds what an interrupted restore has left: empty it, and restore again",
        .0.display()
    )]
    Interrupted(PathBuf),
    #[error("{} is not empty ({found} is there): a backup goes into an empty directory", dir.display())]
    NotEmpty { dir: PathBuf, found: String },
    #[error("{} has room for {free} bytes, and the backup needs {needed}", dir.display())]
    Room {
        dir: PathBuf,
        free: u64,
        needed: u64,
    },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("the log of the control plane cannot be made: {0}")]
    Group(#[from] OpenError),
    #[error("the log of the control plane cannot be made: {0}")]
    GroupDisk(pinion_commitlog::DiskError),
    #[error("{log}: {source}")]
    Log { log: String, source: RecoverError },
    #[error("{log} ends with record {found}, and the backup has it up to {expected}")]
    Cut {
        log: String,
        found: u64,
        expected: u64,
    },
}

#[derive(Serialize)]
struct Done<'a> {
    node: &'a str,
    backup_begun_ms: u64,
    metadata_version: u64,
    logs: usize,
    files: usize,
    bytes: u64,
    secrets: bool,
    data_dir: Option<&'a Path>,
    /// What was damaged when it was backed up.
    damaged: &'a [String],
}

pub(crate) fn run(args: &RestoreArgs) -> ExitCode {
    match restore(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pinion: {error}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn restore(args: &RestoreArgs) -> Result<(), RestoreError> {
    let manifest = look(&args.file)?;
    let mut damaged = Vec::new();
    if let Some(dir) = &args.data_dir {
        damaged = put(&args.file, &manifest, dir)?;
    }
    let done = Done {
        node: &manifest.node,
        backup_begun_ms: manifest.begun_ms,
        metadata_version: manifest.metadata.version,
        logs: manifest.logs.len(),
        files: manifest.files.len(),
        bytes: manifest.bytes(),
        secrets: manifest.secrets,
        data_dir: args.data_dir.as_deref(),
        damaged: &damaged,
    };
    if args.json {
        println!("{}", serde_json::to_string(&done).expect("plain data"));
    } else {
        say(&done);
    }
    Ok(())
}

fn say(done: &Done<'_>) {
    println!(
        "backup of {} of {}: {} in {} files, metadata at version {}: whole",
        done.node,
        human::time(done.backup_begun_ms),
        human::bytes(done.bytes),
        done.files,
        done.metadata_version
    );
    let Some(dir) = done.data_dir else {
        return;
    };
    for one in done.damaged {
        println!("was damaged when it was backed up: {one}");
    }
    println!(
        "restored; pinion serve --data-dir {} starts it",
        dir.display()
    );
    if done.secrets && dir.join(MASTER_KEY).exists() {
        println!(
            "the master key is in {}: put it where auth.master_key_file names it",
            dir.join(MASTER_KEY).display()
        );
    }
    if !done.secrets {
        println!(
            "without secrets: the node makes a new certificate, whose ca.pem clients need; \
             tokens are signed again once the master key (auth.master_key_file) is the one of before"
        );
    }
}

/// Reads all of it and keeps nothing.
fn look(path: &Path) -> Result<Manifest, RestoreError> {
    let input = open(path)?;
    read(input, &mut Discard).map_err(|source| RestoreError::Archive {
        path: path.to_owned(),
        source,
    })
}

/// A reader that shows how far it is.
struct Shown {
    file: File,
    progress: Progress,
    bytes: u64,
}

impl Read for Shown {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(into)?;
        self.bytes += count as u64;
        self.progress.set(self.bytes);
        Ok(count)
    }
}

fn open(path: &Path) -> Result<io::BufReader<Shown>, RestoreError> {
    let failed = |source| RestoreError::Open {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let facts = file.metadata().map_err(failed)?;
    if !facts.is_file() {
        return Err(RestoreError::NoFile(path.to_owned()));
    }
    let shown = Shown {
        file,
        progress: Progress::of_bytes(Some(facts.len())),
        bytes: 0,
    };
    Ok(io::BufReader::with_capacity(256 << 10, shown))
}

/// Writes the archive into `dir`. Gives what was damaged when it was backed up. After an
/// error nothing of it is left there.
fn put(archive: &Path, manifest: &Manifest, dir: &Path) -> Result<Vec<String>, RestoreError> {
    let made = !dir.exists();
    make(dir, 0o755)?;
    // Nothing is put into a directory of somebody else's, not even a lock; and of one
    // that a node has open, it is said so.
    if !dir.join(LOCK_FILE).exists() {
        is_empty(dir)?;
    }
    let lock = DirLock::take(dir)?;
    is_empty(dir)?;
    // A failure leaves what was there before, which is nothing.
    let result = has_room(dir, manifest).and_then(|()| fill(archive, manifest, dir));
    if result.is_err() {
        clear(dir);
        drop(lock);
        if made {
            drop(fs::remove_file(dir.join(LOCK_FILE)));
            drop(fs::remove_dir(dir));
        }
    }
    result
}

fn is_empty(dir: &Path) -> Result<(), RestoreError> {
    let failed = |source| RestoreError::Write {
        path: dir.to_owned(),
        source,
    };
    if dir.join(RESTORING).symlink_metadata().is_ok() {
        return Err(RestoreError::Interrupted(dir.to_owned()));
    }
    for entry in fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        // What mkfs makes, and what this command has just made.
        if name != LOCK_FILE && name != "lost+found" {
            return Err(RestoreError::NotEmpty {
                dir: dir.to_owned(),
                found: name.to_string_lossy().into_owned(),
            });
        }
    }
    Ok(())
}

fn has_room(dir: &Path, manifest: &Manifest) -> Result<(), RestoreError> {
    let (free, _) = statfs_free(dir).map_err(|source| RestoreError::Write {
        path: dir.to_owned(),
        source,
    })?;
    let needed = manifest.bytes().saturating_add(ROOM_BESIDE);
    if free < needed {
        let dir = dir.to_owned();
        return Err(RestoreError::Room { dir, free, needed });
    }
    Ok(())
}

/// Takes away what a failed restore made, the marker last.
fn clear(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        let (name, path) = (entry.file_name(), entry.path());
        if name == LOCK_FILE || name == RESTORING || name == "lost+found" {
            continue;
        }
        // What stays is behind the marker, and said so at the next start.
        drop(match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            true => fs::remove_dir_all(path),
            false => fs::remove_file(path),
        });
    }
    drop(fs::remove_file(dir.join(RESTORING)));
}

fn fill(archive: &Path, manifest: &Manifest, dir: &Path) -> Result<Vec<String>, RestoreError> {
    let store = manifest.store().expect("the manifest was checked");
    let cluster = manifest.cluster().expect("the manifest was checked");
    let marker = dir.join(RESTORING);
    create(&marker, 0o640).and_then(|mut file| {
        let text = format!("of {}\n", archive.display());
        let written = file.write_all(text.as_bytes());
        written.and_then(|()| file.sync_all()).map_err(at(&marker))
    })?;
    sync(dir)?;
    let mut writer = Writer {
        dir,
        file: None,
        metadata: Vec::new(),
        into_metadata: false,
    };
    make(&dir.join(FOLDER), 0o755)?;
    for log in &manifest.logs {
        make(&dir.join(folder(LogId(log.log))), 0o755)?;
    }
    let again = read(open(archive)?, &mut writer).map_err(|source| match source {
        // It says which file.
        ArchiveError::Sink(source) => RestoreError::Write {
            path: dir.to_owned(),
            source,
        },
        source => RestoreError::Archive {
            path: archive.to_owned(),
            source,
        },
    })?;
    if again != *manifest {
        return Err(RestoreError::Changed(archive.to_owned()));
    }
    let metadata = std::mem::take(&mut writer.metadata);
    found_group(dir, (store, cluster), manifest, metadata.into())?;
    create(&dir.join(FOLDER).join(IMPORTED), 0o644)?;
    let identity = Identity {
        uuid: store,
        format: FORMAT,
        created_wall_ms: manifest.store_created_ms,
    };
    identity.create(dir)?;
    let damaged = compare(dir, store, manifest)?;
    for log in &manifest.logs {
        sync(&dir.join(folder(LogId(log.log))))?;
    }
    for own in [FOLDER, "tls", "dev", "secrets"] {
        let own = dir.join(own);
        if own.is_dir() {
            sync(&own)?;
        }
    }
    sync(dir)?;
    // From here on it is a data directory.
    fs::remove_file(&marker).map_err(at(&marker))?;
    sync(dir)?;
    if let Some(above) = dir.parent().filter(|above| !above.as_os_str().is_empty()) {
        // One that this user may not read is flushed in the system's own time.
        drop(sync(above));
    }
    Ok(damaged)
}

/// The folder of a log below the data directory.
fn folder(log: LogId) -> String {
    let name = format!("log-{:04}", log.0);
    if is_control(log) {
        return format!("{FOLDER}/{name}");
    }
    name
}

/// Makes the log of the group of one that goes on where the backup was taken.
fn found_group(
    dir: &Path,
    (store, cluster): ([u8; 16], [u8; 16]),
    manifest: &Manifest,
    metadata: Bytes,
) -> Result<(), RestoreError> {
    let control = dir.join(FOLDER);
    let config = GroupConfig {
        store,
        seed: rand::rng().random(),
        segment_bytes: SEGMENT_BYTES,
        ..GroupConfig::default()
    };
    let mut files = Logs::new(dir);
    let mut group = Group::open(config, &mut files, wall_now())?.group;
    let of = &manifest.metadata;
    group.restore(MemberId(of.member), cluster, (of.index, of.term), metadata);
    let now = Monotonic::ZERO;
    for step in 0..2 {
        while let Some(request) = group.poll_disk() {
            let done = execute(&control, request);
            if let Err(error) = &done.result {
                return Err(RestoreError::GroupDisk(*error));
            }
            group.handle_disk_done(now, done);
        }
        if step == 0 {
            group.seal(now);
        }
    }
    let ended = |output| matches!(output, Output::Sealed);
    let sealed = std::iter::from_fn(|| group.poll_output()).any(ended);
    assert!(sealed, "a group with nothing left to write is sealed");
    Ok(())
}

/// Opens every log as a start would, and compares where it ends. Gives what is damaged:
/// it was so when it was backed up, because its checksums fit.
fn compare(dir: &Path, store: [u8; 16], manifest: &Manifest) -> Result<Vec<String>, RestoreError> {
    let mut files = Logs::new(dir);
    let mut damaged = Vec::new();
    for entry in &manifest.logs {
        let log = LogId(entry.log);
        let config = LogConfig {
            log,
            store,
            ..LogConfig::default()
        };
        let name = log_name(log);
        let recovered = recover(&mut files, config, &mut |_: Replay<'_>| {}).map_err(|source| {
            RestoreError::Log {
                log: name.clone(),
                source,
            }
        })?;
        let harm = &recovered.report.damage;
        damaged.extend(harm.iter().map(|one| format!("{name}: {one}")));
        let found = recovered.log.committed().0;
        if found != entry.upto && harm.is_empty() {
            return Err(RestoreError::Cut {
                log: name,
                found,
                expected: entry.upto,
            });
        }
    }
    Ok(damaged)
}

/// Writes files as they come.
struct Writer<'a> {
    dir: &'a Path,
    file: Option<(PathBuf, File)>,
    metadata: Vec<u8>,
    into_metadata: bool,
}

impl Sink for Writer<'_> {
    fn begin(&mut self, _manifest: &Manifest) -> io::Result<()> {
        Ok(())
    }

    fn file(&mut self, file: &FileEntry) -> io::Result<()> {
        self.into_metadata = file.path == METADATA;
        if self.into_metadata {
            if file.bytes > METADATA_BYTES_MAX {
                return Err(io::Error::other("the metadata is larger than a node takes"));
            }
            return Ok(());
        }
        let secret = matches!(Place::of(&file.path), Some(Place::Secret));
        let path = self.dir.join(&file.path);
        if let Some(folder) = path.parent()
            && !folder.is_dir()
        {
            make(folder, 0o700).map_err(io::Error::other)?;
        }
        let mode = if secret { 0o600 } else { 0o644 };
        let opened = create(&path, mode).map_err(io::Error::other)?;
        self.file = Some((path, opened));
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.into_metadata {
            self.metadata.extend_from_slice(bytes);
            return Ok(());
        }
        let (path, file) = self.file.as_mut().expect("a file begins before its bytes");
        file.write_all(bytes).map_err(named(path))
    }

    fn end(&mut self) -> io::Result<()> {
        match self.file.take() {
            Some((path, file)) => file.sync_all().map_err(named(&path)),
            None => Ok(()),
        }
    }
}

/// With the path in it, and of the same kind.
fn named(path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> RestoreError {
    let path = path.to_owned();
    move |source| RestoreError::Write { path, source }
}

fn create(path: &Path, mode: u32) -> Result<File, RestoreError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(mode);
    options.open(path).map_err(at(path))
}

fn make(dir: &Path, mode: u32) -> Result<(), RestoreError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(mode);
    builder.create(dir).map_err(at(dir))
}

fn sync(dir: &Path) -> Result<(), RestoreError> {
    File::open(dir)
        .and_then(|folder| folder.sync_all())
        .map_err(at(dir))
}
