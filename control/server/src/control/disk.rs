//! The disk of the control plane: threads that may wait for it, so that the control
//! thread never does.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use pinion_commitlog::{BlockBuf, DiskDone, DiskError, DiskOutput, DiskRequest, FileId, LogId};
use pinion_reactor::takes_direct;
use rustix::fs::OFlags;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// A thread for each log, from the side of whoever asks: a flush of the one holds up no
/// write of the other. They end when this is dropped, after what they were given.
///
/// No channel has a bound of its own: a log has a bounded number of requests under way,
/// and each is answered once.
pub(super) struct Disk {
    requests: Vec<(LogId, mpsc::Sender<(Instant, DiskRequest)>)>,
    done: UnboundedReceiver<Finished>,
}

/// A request that is done, and how long it took.
pub(super) struct Finished {
    pub(super) log: LogId,
    pub(super) done: DiskDone,
    /// From when it was given until its thread began with it.
    pub(super) waited: Duration,
    /// What the disk took.
    pub(super) took: Duration,
    /// When it was done.
    pub(super) at: Instant,
}

impl Disk {
    /// For `logs` below `dir`, which exists. Where the file system allows it they are
    /// written past the page cache: a flush then has nothing to look for there.
    pub(super) fn start(dir: &Path, logs: &[LogId]) -> io::Result<Self> {
        let how = if takes_direct(dir)? {
            OFlags::DIRECT
        } else {
            OFlags::empty()
        };
        let how = i32::try_from(how.bits()).expect("a flag of open(2)");
        let (answers, done) = unbounded_channel();
        let mut requests = Vec::new();
        for log in logs.iter().copied() {
            let (sender, asked) = mpsc::channel();
            let (dir, answers) = (dir.to_owned(), answers.clone());
            thread::Builder::new()
                .name(format!("pinion-log-{}", log.0))
                .spawn(move || serve((&dir, how), log, &asked, &answers))?;
            requests.push((log, sender));
        }
        Ok(Self { requests, done })
    }

    /// Requests for one log are done in the order in which they are given.
    ///
    /// # Panics
    /// When it was not started for this log.
    pub(super) fn submit(&mut self, log: LogId, request: DiskRequest) {
        let mut all = self.requests.iter();
        let of = all.find(|(of, _)| *of == log);
        let (_, thread) = of.unwrap_or_else(|| panic!("{log:?} has no thread"));
        // Without the thread nothing is ever done, and nothing acknowledged.
        let _ = thread.send((Instant::now(), request));
    }

    /// The next one that is done. Cancel safe; never, when the threads have ended.
    pub(super) async fn done(&mut self) -> Finished {
        match self.done.recv().await {
            Some(done) => done,
            None => std::future::pending().await,
        }
    }

    /// The same without waiting.
    pub(super) fn try_done(&mut self) -> Option<Finished> {
        self.done.try_recv().ok()
    }
}

fn serve(
    place: (&Path, i32),
    log: LogId,
    asked: &mpsc::Receiver<(Instant, DiskRequest)>,
    answers: &UnboundedSender<Finished>,
) {
    while let Ok((given, request)) = asked.recv() {
        let began = Instant::now();
        let done = execute_as(place, request);
        let at = Instant::now();
        let finished = Finished {
            log,
            done,
            waited: began.duration_since(given),
            took: at.duration_since(began),
            at,
        };
        if answers.send(finished).is_err() {
            break;
        }
    }
}

/// Does one request below `dir` through the page cache, and waits for it.
pub(crate) fn execute(dir: &Path, request: DiskRequest) -> DiskDone {
    execute_as((dir, 0), request)
}

fn execute_as((dir, how): (&Path, i32), request: DiskRequest) -> DiskDone {
    let (op, file) = request.target();
    let path = dir.join(file.path());
    let result = match request {
        DiskRequest::Create { len, .. } => create(&path, len).map(|()| DiskOutput::Done),
        DiskRequest::Write { offset, data, .. } => {
            write(&path, how, offset, &data).map(|()| DiskOutput::Written(data))
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

fn write(path: &Path, how: i32, offset: u64, data: &BlockBuf) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let file = options.write(true).custom_flags(how).open(path)?;
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
