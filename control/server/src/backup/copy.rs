//! The thread that makes an archive while the node serves.

use std::fs::{self, File};
use std::io::{self, Cursor, Read, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use pinion_admin_api::{BackupRefused, BackupStream};
use pinion_backup::{
    Archive, FORMAT, FileEntry, LogEntry, METADATA, Manifest, Metadata, Place, WriteError, hex,
    write,
};
use pinion_commitlog::Pinned;
use pinion_plane::PlanePinned;
use pinion_reactor::BulkFile;
use pinion_reactor::store::Identity;
use tokio::sync::{mpsc, oneshot};

use super::{MASTER_KEY, OWN_FILES};
use crate::data_dir::path_of;

/// Bytes of the archive that are handed on at once.
const PIECE_BYTES: usize = 256 << 10;

/// Pieces that wait for whoever takes the archive. More smooths a network that comes and
/// goes, and holds more memory.
const PIECES_AHEAD: usize = 8;

/// Where the node's files are, and how fast they are read.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) dir: PathBuf,
    pub(crate) identity: Identity,
    pub(crate) node: String,
    /// `tls` or `dev`.
    pub(crate) own: &'static str,
    /// What `auth.master_key_file` names.
    pub(crate) master_key: Option<PathBuf>,
    /// Bytes a second that are read at most; 0: as fast as it goes.
    pub(crate) bytes_per_second: u64,
}

/// Everything that one backup is made of.
pub(crate) struct Job {
    pub(crate) origin: Origin,
    pub(crate) begun_ms: u64,
    pub(crate) secrets: bool,
    /// Of the data cores, ascending by log.
    pub(crate) logs: Vec<Pinned>,
    pub(crate) plane: Box<PlanePinned>,
    pub(crate) answer: oneshot::Sender<Result<BackupStream, BackupRefused>>,
}

/// How a backup ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CopyError {
    #[error("the audit log cannot be held still: {0}")]
    Audit(pinion_commitlog::PinRefused),
    #[error("{path}: {source}")]
    Look { path: String, source: io::Error },
    #[error("{path} is shorter than what is durable in it")]
    Short { path: String },
    #[error("whoever asked for it is gone")]
    Gone,
    #[error(
        "{0} was removed meanwhile: the backup took longer, or held more, than backup.* allows, or the disk was full"
    )]
    Released(String),
    #[error(transparent)]
    Write(WriteError),
}

/// Begins to copy on a thread of its own; `ended` is called there with how it ended and
/// how many bytes the archive has.
pub(crate) fn start(
    job: Job,
    ended: impl FnOnce(Result<u64, CopyError>) + Send + 'static,
) -> io::Result<()> {
    thread::Builder::new()
        .name("pinion-backup".to_owned())
        .spawn(move || ended(run(job)))?;
    Ok(())
}

fn run(job: Job) -> Result<u64, CopyError> {
    let Job { answer, .. } = job;
    let source = Source {
        metadata: Bytes::from(job.plane.source.encode()),
        place: job.origin,
    };
    let manifest = match manifest(&source, (job.begun_ms, job.secrets), &job.logs, &job.plane) {
        Ok(manifest) => manifest,
        Err(error) => {
            // Whoever asked may be gone.
            let _ = answer.send(Err(BackupRefused::Failed(error.to_string())));
            return Err(error);
        }
    };
    let name = format!("pinion-{}-{}.tar", manifest.node, manifest.begun_ms / 1000);
    let archive = Archive::new(manifest);
    let (sender, pieces) = mpsc::channel(PIECES_AHEAD);
    let stream = BackupStream {
        bytes: archive.bytes(),
        name,
        pieces,
    };
    if answer.send(Ok(stream)).is_err() {
        return Err(CopyError::Gone);
    }
    let out = Pieces {
        sender,
        piece: BytesMut::with_capacity(PIECE_BYTES),
        pace: Pace::new(source.place.bytes_per_second),
    };
    match write(&archive, out, |path| source.open(path)) {
        Ok(()) => Ok(archive.bytes()),
        Err(WriteError::Out(_)) => Err(CopyError::Gone),
        Err(WriteError::File { path, source }) if source.kind() == io::ErrorKind::NotFound => {
            Err(CopyError::Released(path))
        }
        Err(error) => Err(CopyError::Write(error)),
    }
}

/// What the archive's files are read from.
struct Source {
    place: Origin,
    metadata: Bytes,
}

impl Source {
    fn open(&self, path: &str) -> io::Result<Box<dyn Read>> {
        if path == METADATA {
            return Ok(Box::new(Cursor::new(self.metadata.clone())));
        }
        if path == MASTER_KEY
            && let Some(key) = &self.place.master_key
        {
            return Ok(Box::new(File::open(key)?));
        }
        let at = self.place.dir.join(path);
        match Place::of(path) {
            Some(Place::Log(_)) => Ok(Box::new(BulkFile::open(&at)?)),
            _ => Ok(Box::new(File::open(&at)?)),
        }
    }

    fn bytes(&self, path: &str) -> Result<u64, CopyError> {
        let failed = |source| CopyError::Look {
            path: path.to_owned(),
            source,
        };
        let at = match &self.place.master_key {
            Some(key) if path == MASTER_KEY => key.clone(),
            _ => self.place.dir.join(path),
        };
        Ok(fs::metadata(at).map_err(failed)?.len())
    }
}

fn manifest(
    source: &Source,
    (begun_ms, secrets): (u64, bool),
    logs: &[Pinned],
    plane: &PlanePinned,
) -> Result<Manifest, CopyError> {
    let audit = plane
        .audit
        .as_ref()
        .map_err(|error| CopyError::Audit(*error))?;
    let (mut entries, mut files) = (Vec::new(), Vec::new());
    for log in logs.iter().chain([audit]) {
        entries.push(LogEntry {
            log: log.log.0,
            upto: log.upto.0,
        });
        for file in &log.files {
            let path = path_of(file.file);
            let there = source.bytes(&path)?;
            let bytes = file.len.unwrap_or(there);
            if bytes > there {
                return Err(CopyError::Short { path });
            }
            files.push(FileEntry { path, bytes });
        }
    }
    files.push(FileEntry {
        path: METADATA.to_owned(),
        bytes: source.metadata.len() as u64,
    });
    if secrets {
        for file in own_files(&source.place) {
            let bytes = source.bytes(&file)?;
            files.push(FileEntry { path: file, bytes });
        }
    }
    let place = &source.place;
    Ok(Manifest {
        format: FORMAT,
        pinion: env!("CARGO_PKG_VERSION").to_owned(),
        node: place.node.clone(),
        store: hex(&place.identity.uuid),
        store_created_ms: place.identity.created_wall_ms,
        begun_ms,
        secrets,
        metadata: Metadata {
            cluster: hex(&plane.cluster),
            member: plane.member.0,
            index: plane.index,
            term: plane.term,
            version: plane.version.0,
        },
        logs: entries,
        files,
    })
}

/// The node's own files that are there.
fn own_files(place: &Origin) -> Vec<String> {
    let own = OWN_FILES.iter().map(|file| format!("{}/{file}", place.own));
    let there = |path: &String| Place::of(path).is_some() && is_file(&place.dir, path);
    let mut files: Vec<String> = own.filter(there).collect();
    if place.master_key.is_some() {
        files.push(MASTER_KEY.to_owned());
    }
    files
}

fn is_file(dir: &Path, path: &str) -> bool {
    dir.join(path).is_file()
}

/// Hands on what is written, piece by piece, and no faster than it may.
struct Pieces {
    sender: mpsc::Sender<Bytes>,
    piece: BytesMut,
    pace: Pace,
}

impl Pieces {
    fn send(&mut self) -> io::Result<()> {
        let piece = self.piece.split().freeze();
        self.pace.wait(piece.len());
        // Waits while whoever takes it is behind; an error when nobody does any more.
        let sent = self.sender.blocking_send(piece);
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = PIECE_BYTES - self.piece.len();
        let taken = room.min(bytes.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() == PIECE_BYTES {
            self.send()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        self.send()
    }
}

/// Keeps to a rate by waiting.
struct Pace {
    bytes_per_second: u64,
    /// When the bytes so far may have been read.
    due: Instant,
}

impl Pace {
    fn new(bytes_per_second: u64) -> Self {
        Self {
            bytes_per_second,
            due: Instant::now(),
        }
    }

    fn wait(&mut self, bytes: usize) {
        if self.bytes_per_second == 0 {
            return;
        }
        let now = Instant::now();
        // What was not used while nobody took anything is not made up for.
        self.due = self.due.max(now);
        let nanos = (bytes as u128 * 1_000_000_000) / u128::from(self.bytes_per_second);
        self.due += Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        thread::sleep(self.due.saturating_duration_since(now));
    }
}
