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
//!
//! `steps.rs` has the steps of each request, `files.rs` the open files, `ring.rs`
//! the kernel.

mod files;
mod measure;
mod place;
mod probe;
mod ring;
mod steps;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use pinion_commitlog::{
    BLOCK, BlockBuf, DiskDone, DiskError, DiskOutput, DiskRequest, FileId, OpId,
};
use slab::Slab;

use crate::pump::CoreStats;
use files::{FileState, opened};
pub(crate) use files::{disk_error, folder_name};
pub(crate) use measure::write_latency;
use place::Place;
pub use probe::takes_direct;
use ring::{Action, DiskRing, Finished, Gain};
use steps::{CreateStep, Kind, Next, RemoveStep, TruncateStep, after_read, after_write};

/// Reads in flight; more wait (R11).
///
/// More gives a fast disk more to sort and holds a write up behind more of
/// them.
const READS_IN_FLIGHT_MAX: usize = 16;

/// Requests that may wait or run. The logs of a core bound what they ask for
/// (one write, 16 reads and a few files each), so reaching this is a fault of
/// theirs, and going on would only fill the memory.
const REQUESTS_MAX: usize = 16 << 10;

/// Completions of one turn before the other phases get theirs.
const COMPLETIONS_PER_TURN_MAX: usize = 256;

/// A step that the kernel refuses for the moment (`EAGAIN`, `EINTR`), and a
/// write that moves less than a block, is tried this often before it counts as
/// failed.
const ATTEMPTS_MAX: u8 = 16;

/// Least time between two looks at where the data directory is.
///
/// Less notices sooner that it was moved away, and costs a system call for more
/// of the writes; an idle disk is not looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

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
    place: Place,
    /// When it was last looked at.
    looked: Option<Instant>,
    /// The error of the last write or making that failed, so that people are
    /// told once of what is tried again and again.
    told: Option<DiskError>,
    direct: bool,
    files: HashMap<FileId, FileState>,
    /// Of `files` those with a handle.
    files_open: usize,
    jobs: Slab<Job>,
    reads_in_flight: usize,
    /// Files with reads that found no room, each once, in the order of the
    /// first one.
    reads_waiting: VecDeque<FileId>,
    /// Waiting or running.
    requests: usize,
    done: VecDeque<DiskDone>,
    /// Counts uses of files, to find the one used least recently.
    uses: u64,
    /// Made with the first file.
    zeros: Option<Rc<BlockBuf>>,
    /// Writes that are not durable yet.
    commits_in_flight: usize,
    /// Pieces of zeros that wait for the end of a commit, at most one for each
    /// file being made.
    zeros_waiting: Vec<(usize, Action)>,
    /// Only the fields of the disk are used.
    stats: CoreStats,
    latency: Histogram<u64>,
}

/// A request between two of its steps, or the opening of a file for others.
struct Job {
    op: Option<OpId>,
    file: FileId,
    asked: Instant,
    kind: Kind,
    attempts: u8,
}

impl Disk {
    /// The disk of a core, on the core's thread. It signals `bell` when a
    /// request is over while the gate is open. Blocks for one small write and
    /// one flush.
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
        // A process that was killed may have made a log's folder and not flushed
        // its name: what is in there would be gone with the power.
        root.sync_all()?;
        let longest = u64::try_from(LATENCY_MAX.as_nanos()).expect("a minute in nanoseconds");
        Ok(Self {
            ring: DiskRing::new(bell)?,
            place: Place::of(&config.dir, &root)?,
            looked: None,
            told: None,
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
            commits_in_flight: 0,
            zeros_waiting: Vec::new(),
            stats: CoreStats {
                disk_flushes: 1,
                ..CoreStats::default()
            },
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
                // Whenever it is passed over, not only when it arrives: its file
                // may have been closed, or alone with another request, when there
                // was room.
                if !state.waits {
                    state.waits = true;
                    self.reads_waiting.push_back(file);
                }
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
                self.commits_in_flight += 1;
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
            DiskRequest::Create {
                len, background, ..
            } => {
                let step = CreateStep::Make;
                let action = self.open_action(file, libc::O_CREAT | libc::O_EXCL);
                let kind = Kind::Create {
                    len,
                    background,
                    step,
                };
                (kind, action)
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
        let again = match (&action, &result) {
            (action, Err(libc::EAGAIN | libc::EINTR)) => !action.is_flush(),
            // The next try says why it was so short.
            (Action::Write { .. } | Action::Zero { .. }, Ok(Gain::Count(count))) => *count < BLOCK,
            _ => false,
        };
        if again && job.attempts < ATTEMPTS_MAX {
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
            Kind::Write => {
                let result = self.still_there(now, file, &action, result);
                after_write(action, result)
            }
            Kind::Read => after_read(action, result),
            Kind::Create {
                len,
                background,
                step,
            } => self.after_create(token, (len, background), step, result),
            Kind::Truncate { len, step } => self.after_truncate(token, len, step, result),
            Kind::Remove { step } => self.after_remove(token, step, result),
        };
        match next {
            Next::Start(action) => self.start(token, action),
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

    /// The request is over: says so, and lets others begin.
    fn finish(&mut self, now: Instant, token: usize, result: Result<DiskOutput, DiskError>) {
        let job = self.jobs.remove(token);
        let state = self.files.get_mut(&job.file).expect("it has a request");
        match (&job.kind, &result) {
            (Kind::Write | Kind::Read, _) => state.running -= 1,
            _ => state.alone = false,
        }
        let mut written = 0;
        match &result {
            Ok(DiskOutput::Written(data)) => {
                written = data.len();
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
        self.tell(&job, &result);
        self.requests -= 1;
        self.done.push_back(DiskDone {
            op: job.op.expect("only an opening has no name"),
            file: job.file,
            result,
        });
        if matches!(job.kind, Kind::Write) {
            self.commit_over(written);
        }
        if matches!(job.kind, Kind::Read) {
            self.reads_in_flight -= 1;
            while self.reads_in_flight < READS_IN_FLIGHT_MAX
                && let Some(file) = self.reads_waiting.pop_front()
            {
                if let Some(state) = self.files.get_mut(&file) {
                    state.waits = false;
                }
                self.advance(file);
            }
        }
        self.advance(job.file);
        self.close_surplus();
    }
}
