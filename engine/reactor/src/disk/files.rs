//! The files of the logs: which are open, and the actions that name them.

use std::collections::VecDeque;
use std::ffi::CString;
use std::mem;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Instant;

use pinion_commitlog::{BlockBuf, DiskError, DiskRequest, FileId, LogId};

use super::Disk;
use super::ring::{Action, Gain};
use super::steps::Kind;

/// Files kept open. More spares an `openat` when many old segments are read at
/// the same time, and costs descriptors of the process.
pub(super) const FILES_OPEN_MAX: usize = 32;

/// Zeros written at once while a file is made, at most.
///
/// Larger makes a file sooner; a commit waits behind one such piece at most, and
/// its flush for the disk to have taken it in.
const ZEROS_BYTES: usize = 1 << 20;

/// Zeros written at once while nothing is committed: a commit that begins now
/// waits behind them.
const ZEROS_BYTES_ALONE: usize = 256 << 10;

/// Zeros written after each commit while commits follow each other, at least.
///
/// Larger delays the next commit by more, smaller delays more of them a little.
/// With 256 publishes of 256 B in flight the p99 was 1.6 to 2.1 ms with pieces of
/// a MiB one straight after the other, and is 0.6 to 0.9 ms with these.
const ZEROS_BYTES_BESIDE: usize = 128 << 10;

/// Zeros for each byte committed meanwhile, so that the next segment is ready
/// before this one is full, however much is written.
const ZEROS_FOR_COMMITTED: usize = 2;

/// Bytes of the next piece of zeros behind a commit of `committed` bytes.
fn zeros_beside(committed: usize) -> usize {
    committed
        .saturating_mul(ZEROS_FOR_COMMITTED)
        .clamp(ZEROS_BYTES_BESIDE, ZEROS_BYTES)
}

/// What is known of a file that is open or asked about.
#[derive(Default)]
pub(super) struct FileState {
    pub(super) handle: Option<Rc<OwnedFd>>,
    pub(super) opening: bool,
    /// In the queue of reads that wait for room.
    pub(super) waits: bool,
    /// Reads and writes in flight.
    pub(super) running: u32,
    /// A request that must be alone is in flight.
    pub(super) alone: bool,
    /// Not begun, with the time each was asked for.
    pub(super) queue: VecDeque<(DiskRequest, Instant)>,
    pub(super) used: u64,
}

impl FileState {
    pub(super) fn is_idle(&self) -> bool {
        !self.opening && !self.alone && self.running == 0 && self.queue.is_empty()
    }
}

impl Disk {
    /// The open file.
    pub(super) fn handle(&mut self, file: FileId) -> Rc<OwnedFd> {
        self.uses += 1;
        let state = self.files.get_mut(&file).expect("it has a request");
        state.used = self.uses;
        Rc::clone(state.handle.as_ref().expect("it was opened"))
    }

    /// Keeps an open file, or closes it.
    pub(super) fn set_handle(&mut self, file: FileId, handle: Option<OwnedFd>) {
        let state = self.files.get_mut(&file).expect("it has a request");
        self.files_open += usize::from(handle.is_some());
        self.files_open -= usize::from(state.handle.is_some());
        state.handle = handle.map(Rc::new);
    }

    /// Closes files nobody uses while there are too many, the one used least
    /// recently first.
    pub(super) fn close_surplus(&mut self) {
        while self.files_open > FILES_OPEN_MAX {
            let idle = self.files.iter().filter(|(_, state)| state.is_idle());
            let oldest = idle
                .min_by_key(|(_, state)| state.used)
                .map(|(file, _)| *file);
            let Some(oldest) = oldest else {
                return;
            };
            self.files.remove(&oldest);
            self.files_open -= 1;
        }
    }

    pub(super) fn forget_if_unknown(&mut self, file: FileId) {
        let known = |state: &FileState| state.handle.is_some() || !state.is_idle();
        if !self.files.get(&file).is_none_or(known) {
            self.files.remove(&file);
        }
    }

    pub(super) fn open_action(&self, file: FileId, more_flags: i32) -> Action {
        let direct = if self.direct { libc::O_DIRECT } else { 0 };
        Action::Open {
            folder: Rc::clone(&self.root),
            path: c_path(file.path()),
            flags: libc::O_RDWR | direct | more_flags,
        }
    }

    pub(super) fn unlink_action(&self, file: FileId) -> Action {
        Action::Unlink {
            folder: Rc::clone(&self.root),
            path: c_path(file.path()),
        }
    }

    pub(super) fn folder_action(&self, file: FileId) -> Action {
        Action::Open {
            folder: Rc::clone(&self.root),
            path: folder_path(file.log()),
            flags: libc::O_RDONLY | libc::O_DIRECTORY,
        }
    }

    pub(super) fn zero_action(&mut self, file: FileId, at: u64, len: u64) -> Action {
        let zeros = self
            .zeros
            .get_or_insert_with(|| Rc::new(BlockBuf::zeroed(ZEROS_BYTES)));
        let zeros = Rc::clone(zeros);
        let left = usize::try_from(len - at).unwrap_or(usize::MAX);
        Action::Zero {
            file: self.handle(file),
            offset: at,
            zeros,
            len: left.min(ZEROS_BYTES_ALONE),
        }
    }

    /// Starts what follows a step. Zeros wait while commits are under way, for
    /// the end of one.
    pub(super) fn start(&mut self, token: usize, action: Action) {
        if matches!(action, Action::Zero { .. }) && self.commits_in_flight > 0 {
            self.zeros_waiting.push((token, action));
        } else {
            self.ring.start(token, action);
        }
    }

    /// A commit of `bytes` is over, well or not: zeros that waited for it go on.
    pub(super) fn commit_over(&mut self, bytes: usize) {
        self.commits_in_flight -= 1;
        for (token, mut action) in mem::take(&mut self.zeros_waiting) {
            if let Action::Zero { offset, len, .. } = &mut action
                && let Kind::Create { len: whole, .. } = self.jobs[token].kind
            {
                let left = usize::try_from(whole - *offset).unwrap_or(usize::MAX);
                *len = left.min(zeros_beside(bytes));
            }
            self.ring.start(token, action);
        }
    }
}

pub(super) fn opened(result: Result<Gain, i32>) -> Result<OwnedFd, DiskError> {
    match result {
        Ok(Gain::Opened(handle)) => Ok(handle),
        Ok(Gain::Count(_)) => unreachable!("an open gives a file"),
        Err(errno) => Err(disk_error(errno)),
    }
}

/// What an error number says to a log.
pub(crate) fn disk_error(errno: i32) -> DiskError {
    match errno {
        libc::ENOSPC | libc::EDQUOT => DiskError::Full,
        libc::ENOENT => DiskError::Missing,
        libc::EEXIST => DiskError::Exists,
        errno => DiskError::Io { errno },
    }
}

/// A log's folder below the data directory.
pub(crate) fn folder_name(log: LogId) -> String {
    format!("log-{:04}", log.0)
}

pub(super) fn folder_path(log: LogId) -> CString {
    c_path(folder_name(log))
}

fn c_path(path: String) -> CString {
    CString::new(path).expect("names of logs hold no zero byte")
}
