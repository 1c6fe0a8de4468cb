//! The log of what was declared: every resource of the node, in the order of
//! its declaration. One record each; the log of a node that restarts gives them
//! back, so that a partition's data finds its name and its core.
//!
//! It is a log like those of the data cores, driven by the control thread. The
//! thread waits for the disk: nobody else waits for it but a client whose OPEN
//! creates something.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use pinion_commitlog::{
    AdmitError, BlockBuf, DiskDone, DiskError, DiskOutput, DiskRequest, FileId, Files, Log,
    LogConfig, LogEvent, LogId, Lsn, RECORD_OVERHEAD, RecordHead, RecordIn, RecoverError, Replay,
};
use pinion_node::declared::{Declared, DeclaredError};
use pinion_reactor::FileStore;
use pinion_types::{Monotonic, PartitionId, WallMs};

/// The log of declarations; beyond every number a data log may have.
pub(crate) const META_LOG: LogId = LogId(u16::MAX);

/// Its only kind of record.
pub(crate) const KIND_DECLARED: u8 = 200;

/// Bytes of its segments: some thousand declarations.
const SEGMENT_BYTES: u64 = 4 << 20;

/// Why the declarations cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MetaError {
    #[error("the log of declarations (log-65535): {0}")]
    Recover(#[from] RecoverError),
    #[error("record {lsn} of the log of declarations: {source}")]
    Record { lsn: u64, source: DeclaredError },
    /// Without it nobody knows whose data the other logs hold (R37).
    #[error(
        "the log of declarations is damaged at byte {offset} of segment {segment}: \
         restore DIR/log-65535 from a backup; the data of the other logs is untouched"
    )]
    Damaged { segment: u64, offset: u64 },
}

/// The log and its disk.
pub(crate) struct MetaLog {
    log: Log,
    disk: BlockingDisk,
    started: Instant,
}

impl MetaLog {
    /// Opens the log below `dir` and gives what was declared, oldest first.
    pub(crate) fn open(
        dir: &Path,
        store: [u8; 16],
        seed: u64,
        wall: WallMs,
    ) -> Result<(Self, Vec<Declared>), MetaError> {
        let mut found = Vec::new();
        let mut failed = None;
        let config = LogConfig {
            segment_bytes: SEGMENT_BYTES,
            // Replaying all of it is quick, and it is never rewritten.
            checkpoint_every_bytes: u64::MAX,
            log: META_LOG,
            store,
            seed,
            started: wall,
            ..LogConfig::default()
        };
        let mut files = FileStore::new(dir);
        let recovered =
            pinion_commitlog::recover(&mut files as &mut dyn Files, config, &mut |replay| {
                if let Replay::Record { lsn, body, .. } = replay {
                    match Declared::decode(body) {
                        Ok(declared) => found.push(declared),
                        Err(source) => {
                            failed.get_or_insert(MetaError::Record { lsn: lsn.0, source });
                        }
                    }
                }
            })?;
        if let Some(error) = failed {
            return Err(error);
        }
        if let Some(damage) = recovered.report.damage.first() {
            return Err(MetaError::Damaged {
                segment: damage.segment,
                offset: damage.offset,
            });
        }
        let mut log = recovered.log;
        log.ready();
        let mut meta = Self {
            log,
            disk: BlockingDisk {
                dir: dir.to_owned(),
            },
            started: Instant::now(),
        };
        meta.turn();
        Ok((meta, found))
    }

    fn now(&self) -> Monotonic {
        let nanos = self.started.elapsed().as_nanos();
        Monotonic(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Writes declarations down; they are durable when this returns.
    ///
    /// # Errors
    /// `AdmitError::ReadOnly` while the disk is full; `Failed` for good after a
    /// failed write. Nothing was promised then.
    pub(crate) fn declare(
        &mut self,
        declared: &[Declared],
        wall: WallMs,
    ) -> Result<(), AdmitError> {
        // A full disk refuses nothing to a node that starts with what it had.
        if declared.is_empty() {
            return Ok(());
        }
        let now = self.now();
        if self.log.next_deadline().is_some_and(|due| due <= now) {
            self.log.handle_timeout(now);
            self.turn();
        }
        let bodies: Vec<Vec<u8>> = declared.iter().map(Declared::encode).collect();
        let bytes = bodies.iter().map(|body| body.len() + RECORD_OVERHEAD).sum();
        // All or none: what is refused must not become durable after all.
        self.log.admit(bytes, false)?;
        let mut last = Lsn(0);
        for (one, body) in declared.iter().zip(&bodies) {
            let head = RecordHead {
                resource: one.id,
                partition: PartitionId(0),
                kind: KIND_DECLARED,
                first: one.id.0,
                count: 0,
                epoch: 0,
                timestamp: wall,
            };
            last = self
                .log
                .append(
                    now,
                    &[RecordIn {
                        head,
                        ext: &[],
                        body: &[body],
                        retain: false,
                    }],
                )
                .last;
        }
        self.turn();
        if self.log.committed() >= last {
            Ok(())
        } else {
            Err(AdmitError::Failed)
        }
    }

    /// Ends the log cleanly, so that the next start reads a footer.
    pub(crate) fn seal(&mut self) {
        self.log.seal();
        self.turn();
    }

    /// Does what the log wants until it wants nothing more.
    fn turn(&mut self) {
        let now = self.now();
        self.log.end_turn(now);
        while let Some(request) = self.log.poll_request() {
            let done = self.disk.execute(request);
            self.log.handle_done(now, done);
            self.log.end_turn(now);
        }
        while let Some(event) = self.log.poll_event() {
            match event {
                LogEvent::Failed { error } => {
                    tracing::error!(%error, "the log of declarations takes no more: a write failed");
                }
                LogEvent::ReadOnly(true) => {
                    tracing::warn!("no space for declarations; trying again each second");
                }
                _ => {}
            }
        }
    }
}

/// The disk of a thread that may wait for it.
struct BlockingDisk {
    dir: PathBuf,
}

impl BlockingDisk {
    fn execute(&self, request: DiskRequest) -> DiskDone {
        let (op, file) = request.target();
        let path = self.dir.join(file.path());
        let result = match request {
            DiskRequest::Create { len, .. } => create(&path, len).map(|()| DiskOutput::Done),
            DiskRequest::Write { offset, data, .. } => {
                write(&path, offset, &data).map(|()| DiskOutput::Written(data))
            }
            DiskRequest::Read { offset, len, .. } => {
                read(&path, offset, len as usize).map(DiskOutput::Data)
            }
            DiskRequest::Truncate { len, .. } => truncate(&path, len).map(|()| DiskOutput::Done),
            DiskRequest::Remove { .. } => remove(&path).map(|()| DiskOutput::Done),
        };
        DiskDone {
            op,
            file,
            result: result.map_err(|error| disk_error(&error, file)),
        }
    }
}

fn create(path: &Path, len: u64) -> io::Result<()> {
    let folder = path.parent().expect("a file of a log lies in its folder");
    if !folder.is_dir() {
        // And nothing above it: a data directory that went is not made anew.
        fs::create_dir(folder)?;
        if let Some(above) = folder.parent() {
            File::open(above)?.sync_all()?;
        }
    }
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    let zeros = vec![0; 64 << 10];
    let mut left = len;
    while left > 0 {
        let piece = usize::try_from(left.min(zeros.len() as u64)).expect("at most 64 KiB");
        file.write_all(&zeros[..piece])?;
        left -= piece as u64;
    }
    file.sync_all()?;
    File::open(folder)?.sync_all()
}

fn write(path: &Path, offset: u64, data: &BlockBuf) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    file.write_all_at(data.as_slice(), offset)?;
    file.sync_data()
}

fn read(path: &Path, offset: u64, len: usize) -> io::Result<BlockBuf> {
    let file = File::open(path)?;
    let mut buffer = BlockBuf::zeroed(len);
    let mut filled = 0;
    while filled < len {
        match file.read_at(&mut buffer.as_mut_slice()[filled..], offset + filled as u64)? {
            0 => break,
            n => filled += n,
        }
    }
    buffer.set_len(filled - filled % pinion_commitlog::BLOCK);
    Ok(buffer)
}

fn truncate(path: &Path, len: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(len)?;
    file.sync_all()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let folder = path.parent().expect("a file of a log lies in its folder");
    File::open(folder)?.sync_all()
}

fn disk_error(error: &io::Error, file: FileId) -> DiskError {
    tracing::warn!(%error, ?file, "disk");
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DiskError::Full,
        io::ErrorKind::NotFound => DiskError::Missing,
        io::ErrorKind::AlreadyExists => DiskError::Exists,
        _ => DiskError::Io {
            errno: error.raw_os_error().unwrap_or(0),
        },
    }
}
