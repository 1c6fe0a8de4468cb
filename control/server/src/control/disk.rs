//! The disk of the control plane: a thread that may wait for it, so that the
//! control thread never does.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use pinion_commitlog::{BlockBuf, DiskDone, DiskError, DiskOutput, DiskRequest, FileId, LogId};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// The thread, from the side of whoever asks. It ends when this is dropped, after
/// what it was given.
///
/// Neither channel has a bound of its own: a log has a bounded number of requests
/// under way, and each is answered once.
pub(super) struct Disk {
    requests: mpsc::Sender<(LogId, DiskRequest)>,
    done: UnboundedReceiver<(LogId, DiskDone)>,
}

impl Disk {
    /// For the logs below `dir`, which exists.
    pub(super) fn start(dir: &Path) -> io::Result<Self> {
        let (requests, asked) = mpsc::channel();
        let (answers, done) = unbounded_channel();
        let dir = dir.to_owned();
        thread::Builder::new()
            .name("pinion-control-disk".to_owned())
            .spawn(move || serve(&dir, &asked, &answers))?;
        Ok(Self { requests, done })
    }

    /// Requests are done in the order in which they are given.
    pub(super) fn submit(&mut self, log: LogId, request: DiskRequest) {
        // Without the thread nothing is ever done, and nothing acknowledged.
        let _ = self.requests.send((log, request));
    }

    /// The next one that is done. Cancel safe; never, when the thread has ended.
    pub(super) async fn done(&mut self) -> (LogId, DiskDone) {
        match self.done.recv().await {
            Some(done) => done,
            None => std::future::pending().await,
        }
    }

    /// The same without waiting.
    pub(super) fn try_done(&mut self) -> Option<(LogId, DiskDone)> {
        self.done.try_recv().ok()
    }
}

fn serve(
    dir: &Path,
    asked: &mpsc::Receiver<(LogId, DiskRequest)>,
    answers: &UnboundedSender<(LogId, DiskDone)>,
) {
    while let Ok((log, request)) = asked.recv() {
        if answers.send((log, execute(dir, request))).is_err() {
            break;
        }
    }
}

/// Does one request below `dir`, and waits for it.
pub(crate) fn execute(dir: &Path, request: DiskRequest) -> DiskDone {
    let (op, file) = request.target();
    let path = dir.join(file.path());
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
