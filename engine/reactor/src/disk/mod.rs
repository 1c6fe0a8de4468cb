//! The disk of a core: it does what the core's logs ask for.
//!
//! Nothing here blocks. A request is a few steps, each one action of
//! [`DiskRing`]; a step that is over starts the next one from
//! [`Disk::poll`]. A write is two: the bytes, then a flush. (`RWF_DSYNC` would be
//! one, but the kernel hands its end to a worker of whichever CPU took the
//! interrupt; where that CPU is busy it waits for the next tick, 4 ms.) Making a
//! file is some sixty, one megabyte of zeros at a time, so that a write never
//! waits behind more than that.
//!
//! Requests of one file begin in their order, except that a write does not
//! wait for reads. Making, shortening and removing run alone in their file.

mod measure;
mod ring;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use pinion_commitlog::{
    BLOCK, BlockBuf, DiskDone, DiskError, DiskOutput, DiskRequest, FileId, LogId, OpId,
};
use slab::Slab;

use crate::pump::CoreStats;
pub(crate) use measure::write_latency;
use ring::{Action, DiskRing, Finished, Gain};

/// Reads in flight; more wait (R11).
///
/// More gives a fast disk more to sort and holds a write up behind more of
/// them.
const READS_IN_FLIGHT_MAX: usize = 16;

/// Files kept open. More spares an `openat` when many old segments are read at
/// the same time, and costs descriptors of the process.
const FILES_OPEN_MAX: usize = 32;

/// Zeros written at once while a file is made.
///
/// Larger makes a file sooner; a commit waits behind one such piece at most.
const ZEROS_BYTES: usize = 1 << 20;

/// Requests that may wait or run. The logs of a core bound what they ask for
/// (one write, 16 reads and a few files each), so reaching this is a fault of
/// theirs, and going on would only fill the memory.
const REQUESTS_MAX: usize = 16 << 10;

/// Completions of one turn before the other phases get theirs.
const COMPLETIONS_PER_TURN_MAX: usize = 256;

/// A step that the kernel refuses for the moment (`EAGAIN`, `EINTR`) is tried
/// this often before it counts as failed.
const ATTEMPTS_MAX: u8 = 16;

/// Longest write time the histogram tells apart.
const LATENCY_MAX: Duration = Duration::from_secs(60);

/// Where a core's logs lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskConfig {
    /// The data directory. It must exist; the folders of logs are made in it.
    pub dir: PathBuf,
}

pub(crate) struct Disk {
    // First, so that it is dropped first: it waits for what is in flight.
    ring: DiskRing,
    root: Rc<OwnedFd>,
    direct: bool,
    files: HashMap<FileId, FileState>,
    /// Of `files` those with a handle.
    files_open: usize,
    jobs: Slab<Job>,
    reads_in_flight: usize,
    /// One entry for every read that found no room, in order of arrival.
    reads_waiting: VecDeque<FileId>,
    /// Waiting or running.
    requests: usize,
    done: VecDeque<DiskDone>,
    /// Counts uses of files, to find the one used least recently.
    uses: u64,
    /// Made with the first file.
    zeros: Option<Rc<BlockBuf>>,
    /// Only the fields of the disk are used.
    stats: CoreStats,
    latency: Histogram<u64>,
}

/// What is known of a file that is open or asked about.
#[derive(Default)]
struct FileState {
    handle: Option<Rc<OwnedFd>>,
    opening: bool,
    /// Reads and writes in flight.
    running: u32,
    /// A request that must be alone is in flight.
    alone: bool,
    /// Not begun, with the time each was asked for.
    queue: VecDeque<(DiskRequest, Instant)>,
    used: u64,
}

impl FileState {
    fn is_idle(&self) -> bool {
        !self.opening && !self.alone && self.running == 0 && self.queue.is_empty()
    }
}

/// A request between two of its steps, or the opening of a file for others.
struct Job {
    op: Option<OpId>,
    file: FileId,
    asked: Instant,
    kind: Kind,
    attempts: u8,
}

#[derive(Debug)]
enum Kind {
    Open,
    Write,
    Read,
    Create { len: u64, step: CreateStep },
    Truncate { len: u64, step: TruncateStep },
    Remove { step: RemoveStep },
}

#[derive(Debug, Clone, Copy)]
enum CreateStep {
    Make,
    /// The log's first file: its folder is missing.
    MakeFolder,
    SyncRoot,
    MakeAgain,
    Reserve,
    /// Zeros from this byte on are being written.
    Zero(u64),
    SyncFile,
    OpenFolder,
    SyncFolder,
    /// It failed, and the rest of it is being removed.
    Clean(DiskError),
}

#[derive(Debug, Clone, Copy)]
enum TruncateStep {
    Open,
    Shorten,
    Sync,
}

#[derive(Debug, Clone, Copy)]
enum RemoveStep {
    Unlink,
    OpenFolder,
    SyncFolder,
}

/// What follows a step.
enum Next {
    Start(Action),
    Over(Result<DiskOutput, DiskError>),
}

impl Disk {
    /// The disk of a core, on the core's thread. It signals `bell` when a
    /// request is over while the gate is open. Blocks for one small write.
    pub(crate) fn open(config: &DiskConfig, bell: BorrowedFd<'_>) -> io::Result<Self> {
        let root = File::open(&config.dir)?;
        if !root.metadata()?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let direct = takes_direct(&config.dir)?;
        if !direct {
            tracing::warn!(
                dir = %config.dir.display(),
                "the file system refuses O_DIRECT: writes go through the page cache and are flushed one by one"
            );
        }
        let longest = u64::try_from(LATENCY_MAX.as_nanos()).expect("a minute in nanoseconds");
        Ok(Self {
            ring: DiskRing::new(bell)?,
            root: Rc::new(root.into()),
            direct,
            files: HashMap::new(),
            files_open: 0,
            jobs: Slab::new(),
            reads_in_flight: 0,
            reads_waiting: VecDeque::new(),
            requests: 0,
            done: VecDeque::new(),
            uses: 0,
            zeros: None,
            stats: CoreStats::default(),
            latency: Histogram::new_with_bounds(1, longest, 2).expect("bounds that are valid"),
        })
    }

    /// Takes a request. It starts with the next [`submit`](Self::submit).
    ///
    /// # Panics
    /// Beyond [`REQUESTS_MAX`] requests that are not done.
    pub(crate) fn ask(&mut self, now: Instant, request: DiskRequest) {
        assert!(
            self.requests < REQUESTS_MAX,
            "logs bound what they ask the disk for; {} requests are not done",
            self.requests
        );
        self.requests += 1;
        let (_, file) = request.target();
        if matches!(request, DiskRequest::Read { .. })
            && self.reads_in_flight == READS_IN_FLIGHT_MAX
        {
            self.reads_waiting.push_back(file);
        }
        let state = self.files.entry(file).or_default();
        state.queue.push_back((request, now));
        self.advance(file);
    }

    /// Gives the kernel what was asked for since the last time.
    pub(crate) fn submit(&mut self) -> io::Result<()> {
        self.ring.submit()
    }

    /// Takes the completions that are there, and starts the steps that follow
    /// them. Gives the number of steps taken.
    pub(crate) fn poll(
        &mut self,
        now: Instant,
        mut deliver: impl FnMut(DiskDone),
    ) -> io::Result<usize> {
        if self.requests == 0 {
            return Ok(0);
        }
        if self.ring.has_task_work() {
            self.ring.submit()?;
        }
        let mut steps = 0;
        while steps < COMPLETIONS_PER_TURN_MAX
            && let Some(finished) = self.ring.take()
        {
            self.handle_finished(now, finished);
            steps += 1;
        }
        while let Some(done) = self.done.pop_front() {
            deliver(done);
            steps += 1;
        }
        Ok(steps)
    }

    /// True while requests are not done.
    pub(crate) fn is_busy(&self) -> bool {
        self.requests > 0
    }

    /// The last look before sleep, gate closed. True when there is something to
    /// do.
    pub(crate) fn prepare(&mut self) -> io::Result<bool> {
        self.ring.submit()?;
        Ok(self.ring.has_completions())
    }

    /// As [`DiskRing::open_gate`].
    pub(crate) fn open_gate(&mut self) -> bool {
        self.ring.open_gate()
    }

    pub(crate) fn close_gate(&mut self) {
        self.ring.close_gate();
    }

    pub(crate) fn merge_into(&self, stats: &mut CoreStats) {
        stats.disk_writes = self.stats.disk_writes;
        stats.disk_written_bytes = self.stats.disk_written_bytes;
        stats.disk_write_time = self.stats.disk_write_time;
        stats.disk_write_time_max = self.stats.disk_write_time_max;
        stats.disk_reads = self.stats.disk_reads;
        stats.disk_read_bytes = self.stats.disk_read_bytes;
        stats.disk_flushes = self.stats.disk_flushes;
        stats.disk_errors = self.stats.disk_errors;
    }

    pub(crate) fn latency(&self) -> &Histogram<u64> {
        &self.latency
    }

    /// Begins what of `file` can begin.
    fn advance(&mut self, file: FileId) {
        let mut index = 0;
        loop {
            let Some(state) = self.files.get_mut(&file) else {
                return;
            };
            let Some((request, _)) = state.queue.get(index) else {
                break;
            };
            if state.alone {
                return;
            }
            let alone = !matches!(
                request,
                DiskRequest::Write { .. } | DiskRequest::Read { .. }
            );
            if alone {
                if index > 0 || state.running > 0 || state.opening {
                    return;
                }
                state.alone = true;
            } else if matches!(request, DiskRequest::Read { .. })
                && self.reads_in_flight == READS_IN_FLIGHT_MAX
            {
                index += 1;
                continue;
            } else if state.handle.is_none() {
                if !state.opening {
                    state.opening = true;
                    self.open_for_others(file);
                }
                return;
            } else {
                state.running += 1;
            }
            let (request, asked) = state.queue.remove(index).expect("it was looked at");
            self.begin(request, asked);
            if alone {
                return;
            }
        }
        self.forget_if_unknown(file);
    }

    fn forget_if_unknown(&mut self, file: FileId) {
        let known = |state: &FileState| state.handle.is_some() || !state.is_idle();
        if !self.files.get(&file).is_none_or(known) {
            self.files.remove(&file);
        }
    }

    fn open_for_others(&mut self, file: FileId) {
        let job = Job {
            op: None,
            file,
            asked: Instant::now(),
            kind: Kind::Open,
            attempts: 0,
        };
        let token = self.jobs.insert(job);
        let action = self.open_action(file, 0);
        self.ring.start(token, action);
    }

    fn begin(&mut self, request: DiskRequest, asked: Instant) {
        let (op, file) = request.target();
        let (kind, action) = match request {
            DiskRequest::Write { offset, data, .. } => {
                let file = self.handle(file);
                let from = 0;
                let action = Action::Write {
                    file,
                    offset,
                    data,
                    from,
                };
                (Kind::Write, action)
            }
            DiskRequest::Read { offset, len, .. } => {
                self.reads_in_flight += 1;
                let action = Action::Read {
                    file: self.handle(file),
                    offset,
                    // The buffer leaves with the answer, so there is none to use
                    // again; a read from the disk costs many times more.
                    data: BlockBuf::zeroed(len as usize),
                    from: 0,
                };
                (Kind::Read, action)
            }
            DiskRequest::Create { len, .. } => {
                let step = CreateStep::Make;
                let action = self.open_action(file, libc::O_CREAT | libc::O_EXCL);
                (Kind::Create { len, step }, action)
            }
            DiskRequest::Truncate { len, .. } => match self.files[&file].handle.clone() {
                Some(handle) => {
                    let step = TruncateStep::Shorten;
                    (
                        Kind::Truncate { len, step },
                        Action::Shorten { file: handle, len },
                    )
                }
                None => {
                    let step = TruncateStep::Open;
                    (Kind::Truncate { len, step }, self.open_action(file, 0))
                }
            },
            DiskRequest::Remove { .. } => {
                // Closed first: the last one to let go of a removed file frees
                // its blocks, and that shall be the kernel's worker.
                self.set_handle(file, None);
                let step = RemoveStep::Unlink;
                (Kind::Remove { step }, self.unlink_action(file))
            }
        };
        let token = self.jobs.insert(Job {
            op: Some(op),
            file,
            asked,
            kind,
            attempts: 0,
        });
        self.ring.start(token, action);
    }

    fn handle_finished(&mut self, now: Instant, finished: Finished) {
        let Finished {
            token,
            action,
            result,
        } = finished;
        let job = &mut self.jobs[token];
        if let Err(libc::EAGAIN | libc::EINTR) = result
            && job.attempts < ATTEMPTS_MAX
            // A flush that did not succeed is never tried again: a second one
            // might succeed without what the first one lost.
            && !matches!(action, Action::Flush { .. })
        {
            job.attempts += 1;
            self.ring.start(token, action);
            return;
        }
        job.attempts = 0;
        let file = job.file;
        let next = match job.kind {
            Kind::Open => {
                self.jobs.remove(token);
                self.handle_opened(file, result);
                self.advance(file);
                return;
            }
            Kind::Write => after_write(action, result),
            Kind::Read => after_read(action, result),
            Kind::Create { len, step } => self.after_create(token, len, step, result),
            Kind::Truncate { len, step } => self.after_truncate(token, len, step, result),
            Kind::Remove { step } => self.after_remove(token, step, result),
        };
        match next {
            Next::Start(action) => self.ring.start(token, action),
            Next::Over(result) => self.finish(now, token, result),
        }
    }

    fn handle_opened(&mut self, file: FileId, result: Result<Gain, i32>) {
        let opened = opened(result);
        let state = self.files.get_mut(&file).expect("it is being opened");
        state.opening = false;
        match opened {
            Ok(handle) => self.set_handle(file, Some(handle)),
            Err(error) => {
                // Whoever waited for it, up to one that must be alone, which
                // may make it.
                while let Some((DiskRequest::Write { op, .. } | DiskRequest::Read { op, .. }, _)) =
                    state.queue.front()
                {
                    let op = *op;
                    state.queue.pop_front();
                    self.requests -= 1;
                    self.stats.disk_errors += 1;
                    self.done.push_back(DiskDone {
                        op,
                        file,
                        result: Err(error),
                    });
                }
            }
        }
    }

    fn after_create(
        &mut self,
        token: usize,
        len: u64,
        step: CreateStep,
        result: Result<Gain, i32>,
    ) -> Next {
        use CreateStep::{
            Clean, Make, MakeAgain, MakeFolder, OpenFolder, Reserve, SyncFile, SyncFolder,
            SyncRoot, Zero,
        };
        let file = self.jobs[token].file;
        let (step, action) = match (step, result) {
            (Make, Err(libc::ENOENT)) => {
                let action = Action::MakeFolder {
                    folder: Rc::clone(&self.root),
                    path: folder_path(file.log()),
                };
                (MakeFolder, action)
            }
            // Of two cores that make the same folder one is late.
            (MakeFolder, Ok(_) | Err(libc::EEXIST)) => (
                SyncRoot,
                Action::Sync {
                    file: Rc::clone(&self.root),
                },
            ),
            (SyncRoot, Ok(_)) => {
                self.stats.disk_flushes += 1;
                let make = self.open_action(file, libc::O_CREAT | libc::O_EXCL);
                (MakeAgain, make)
            }
            // The file is not ours, or not there: nothing to clean up.
            (Make | MakeFolder | SyncRoot | MakeAgain, Err(errno)) => {
                return Next::Over(Err(disk_error(errno)));
            }
            (Make | MakeAgain, made) => {
                let handle = match opened(made) {
                    Ok(handle) => handle,
                    Err(error) => return Next::Over(Err(error)),
                };
                self.set_handle(file, Some(handle));
                let file = self.handle(file);
                if len == 0 {
                    (SyncFile, Action::Sync { file })
                } else {
                    // Says at once that the disk is full, and keeps the file in
                    // one piece. The length stays 0, so that a file whose zeros
                    // were never written is a shorter one.
                    (Reserve, Action::Reserve { file, len })
                }
            }
            // Some file systems cannot reserve.
            (Reserve, Ok(_) | Err(libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL)) => {
                (Zero(0), self.zero_action(file, 0, len))
            }
            (Zero(at), Ok(Gain::Count(count))) if count >= BLOCK => {
                let at = at + (count / BLOCK * BLOCK) as u64;
                if at < len {
                    (Zero(at), self.zero_action(file, at, len))
                } else {
                    let file = self.handle(file);
                    (SyncFile, Action::Sync { file })
                }
            }
            // Content before name: after a crash, a file that is named in the
            // folder for good is whole.
            (SyncFile, Ok(_)) => {
                self.stats.disk_flushes += 1;
                (OpenFolder, self.folder_action(file))
            }
            (OpenFolder, Ok(Gain::Opened(folder))) => {
                let file = Rc::new(folder);
                (SyncFolder, Action::Sync { file })
            }
            (SyncFolder, Ok(_)) => {
                self.stats.disk_flushes += 1;
                return Next::Over(Ok(DiskOutput::Done));
            }
            // Whether it could be removed or not, it is not what was asked for.
            (Clean(error), _) => return Next::Over(Err(error)),
            (Reserve | Zero(_) | SyncFile | OpenFolder | SyncFolder, failed) => {
                let error = disk_error(failed.err().unwrap_or(libc::EIO));
                self.set_handle(file, None);
                (Clean(error), self.unlink_action(file))
            }
        };
        self.jobs[token].kind = Kind::Create { len, step };
        Next::Start(action)
    }

    fn after_truncate(
        &mut self,
        token: usize,
        len: u64,
        step: TruncateStep,
        result: Result<Gain, i32>,
    ) -> Next {
        let file = self.jobs[token].file;
        let (step, action) = match (step, result) {
            (_, Err(errno)) => return Next::Over(Err(disk_error(errno))),
            (TruncateStep::Open, result) => {
                let handle = match opened(result) {
                    Ok(handle) => handle,
                    Err(error) => return Next::Over(Err(error)),
                };
                self.set_handle(file, Some(handle));
                let file = self.handle(file);
                (TruncateStep::Shorten, Action::Shorten { file, len })
            }
            (TruncateStep::Shorten, Ok(_)) => {
                let file = self.handle(file);
                (TruncateStep::Sync, Action::Sync { file })
            }
            (TruncateStep::Sync, Ok(_)) => {
                self.stats.disk_flushes += 1;
                return Next::Over(Ok(DiskOutput::Done));
            }
        };
        self.jobs[token].kind = Kind::Truncate { len, step };
        Next::Start(action)
    }

    fn after_remove(&mut self, token: usize, step: RemoveStep, result: Result<Gain, i32>) -> Next {
        let file = self.jobs[token].file;
        let (step, action) = match (step, result) {
            // Also after "not there": an earlier removal may not be durable.
            (RemoveStep::Unlink, Ok(_) | Err(libc::ENOENT)) => {
                (RemoveStep::OpenFolder, self.folder_action(file))
            }
            // Without its folder the file is not there.
            (RemoveStep::OpenFolder, Err(libc::ENOENT)) => {
                return Next::Over(Ok(DiskOutput::Done));
            }
            (_, Err(errno)) => return Next::Over(Err(disk_error(errno))),
            (RemoveStep::SyncFolder, Ok(_)) => {
                self.stats.disk_flushes += 1;
                return Next::Over(Ok(DiskOutput::Done));
            }
            (RemoveStep::OpenFolder, Ok(Gain::Opened(folder))) => {
                let file = Rc::new(folder);
                (RemoveStep::SyncFolder, Action::Sync { file })
            }
            (step, Ok(gain)) => unreachable!("{step:?} gave {gain:?}"),
        };
        self.jobs[token].kind = Kind::Remove { step };
        Next::Start(action)
    }

    /// The request is over: says so, and lets others begin.
    fn finish(&mut self, now: Instant, token: usize, result: Result<DiskOutput, DiskError>) {
        let job = self.jobs.remove(token);
        let state = self.files.get_mut(&job.file).expect("it has a request");
        match (&job.kind, &result) {
            (Kind::Write | Kind::Read, _) => state.running -= 1,
            _ => state.alone = false,
        }
        match &result {
            Ok(DiskOutput::Written(data)) => {
                let took = now.saturating_duration_since(job.asked);
                self.stats.disk_writes += 1;
                self.stats.disk_written_bytes += data.len() as u64;
                self.stats.disk_write_time += took;
                self.stats.disk_write_time_max = self.stats.disk_write_time_max.max(took);
                let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
                self.latency.saturating_record(nanos);
            }
            Ok(DiskOutput::Data(data)) => {
                self.stats.disk_reads += 1;
                self.stats.disk_read_bytes += data.len() as u64;
            }
            Ok(DiskOutput::Done) => {}
            Err(_) => self.stats.disk_errors += 1,
        }
        self.requests -= 1;
        self.done.push_back(DiskDone {
            op: job.op.expect("only an opening has no name"),
            file: job.file,
            result,
        });
        if matches!(job.kind, Kind::Read) {
            self.reads_in_flight -= 1;
            while self.reads_in_flight < READS_IN_FLIGHT_MAX
                && let Some(file) = self.reads_waiting.pop_front()
            {
                self.advance(file);
            }
        }
        self.advance(job.file);
        self.close_surplus();
    }

    /// The open file.
    fn handle(&mut self, file: FileId) -> Rc<OwnedFd> {
        self.uses += 1;
        let state = self.files.get_mut(&file).expect("it has a request");
        state.used = self.uses;
        Rc::clone(state.handle.as_ref().expect("it was opened"))
    }

    /// Keeps an open file, or closes it.
    fn set_handle(&mut self, file: FileId, handle: Option<OwnedFd>) {
        let state = self.files.get_mut(&file).expect("it has a request");
        self.files_open += usize::from(handle.is_some());
        self.files_open -= usize::from(state.handle.is_some());
        state.handle = handle.map(Rc::new);
    }

    /// Closes files nobody uses while there are too many, the one used least
    /// recently first.
    fn close_surplus(&mut self) {
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

    fn open_action(&self, file: FileId, more_flags: i32) -> Action {
        let direct = if self.direct { libc::O_DIRECT } else { 0 };
        Action::Open {
            folder: Rc::clone(&self.root),
            path: c_path(file.path()),
            flags: libc::O_RDWR | direct | more_flags,
        }
    }

    fn unlink_action(&self, file: FileId) -> Action {
        Action::Unlink {
            folder: Rc::clone(&self.root),
            path: c_path(file.path()),
        }
    }

    fn folder_action(&self, file: FileId) -> Action {
        Action::Open {
            folder: Rc::clone(&self.root),
            path: folder_path(file.log()),
            flags: libc::O_RDONLY | libc::O_DIRECTORY,
        }
    }

    fn zero_action(&mut self, file: FileId, at: u64, len: u64) -> Action {
        let zeros = self
            .zeros
            .get_or_insert_with(|| Rc::new(BlockBuf::zeroed(ZEROS_BYTES)));
        let zeros = Rc::clone(zeros);
        let left = usize::try_from(len - at).unwrap_or(usize::MAX);
        Action::Zero {
            file: self.handle(file),
            offset: at,
            zeros,
            len: left.min(ZEROS_BYTES),
        }
    }
}

fn after_write(action: Action, result: Result<Gain, i32>) -> Next {
    let (file, offset, data, from) = match action {
        Action::Write {
            file,
            offset,
            data,
            from,
        } => (file, offset, data, from),
        Action::Flush { data, .. } => {
            return Next::Over(match result {
                Ok(_) => Ok(DiskOutput::Written(data)),
                Err(errno) => Err(disk_error(errno)),
            });
        }
        other => unreachable!("a write is written and flushed, not {other:?}"),
    };
    let Ok(Gain::Count(count)) = result else {
        return Next::Over(Err(disk_error(result.err().unwrap_or(libc::EIO))));
    };
    // What is left is written again from the last whole block on: direct I/O
    // takes nothing else, and it is the same bytes.
    let from = from + count / BLOCK * BLOCK;
    if from >= data.len() {
        Next::Start(Action::Flush { file, data })
    } else if count < BLOCK {
        Next::Over(Err(DiskError::Io { errno: libc::EIO }))
    } else {
        Next::Start(Action::Write {
            file,
            offset,
            data,
            from,
        })
    }
}

fn after_read(action: Action, result: Result<Gain, i32>) -> Next {
    let Action::Read {
        file,
        offset,
        mut data,
        from,
    } = action
    else {
        unreachable!("a read is one action, not {action:?}")
    };
    let Ok(Gain::Count(count)) = result else {
        return Next::Over(Err(disk_error(result.err().unwrap_or(libc::EIO))));
    };
    let from = from + count / BLOCK * BLOCK;
    // Less than a block, or a part of one, is the end of the file.
    if from >= data.len() || count < BLOCK || !count.is_multiple_of(BLOCK) {
        data.set_len(from.min(data.len()));
        return Next::Over(Ok(DiskOutput::Data(data)));
    }
    Next::Start(Action::Read {
        file,
        offset,
        data,
        from,
    })
}

fn opened(result: Result<Gain, i32>) -> Result<OwnedFd, DiskError> {
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

fn folder_path(log: LogId) -> CString {
    c_path(folder_name(log))
}

fn c_path(path: String) -> CString {
    CString::new(path).expect("names of logs hold no zero byte")
}

/// Whether files in `dir` can be written past the page cache. Writes one block
/// and removes it again.
///
/// # Errors
/// When a file cannot be made or written there at all.
pub(crate) fn takes_direct(dir: &Path) -> io::Result<bool> {
    let try_flags = |flags: i32| {
        with_probe_file(dir, flags, |file| {
            file.write_all_at(BlockBuf::zeroed(BLOCK).as_slice(), 0)
        })
    };
    match try_flags(libc::O_DIRECT) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => try_flags(0).map(|()| false),
        Err(error) => Err(error),
    }
}

/// Makes a file in `dir`, uses it and removes it.
pub(crate) fn with_probe_file<T>(
    dir: &Path,
    flags: i32,
    use_it: impl FnOnce(&File) -> io::Result<T>,
) -> io::Result<T> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let path = dir.join(format!(".pinion-probe-{}-{count}", process::id()));
    let used = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .custom_flags(flags)
        .open(&path)
        .and_then(|file| use_it(&file));
    // The file exists even where the file system refuses a flag after creating
    // it; and where it was never made, there is nothing to remove.
    let _ = fs::remove_file(&path);
    used
}
