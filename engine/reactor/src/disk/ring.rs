//! The ring a core's disk requests go through, and what it owns meanwhile.
//!
//! It is a second ring beside the one the core sleeps on, with the same bell:
//! on a shared ring every datagram that arrives while a write is in flight
//! would look like news of the disk, and cost a system call to find out
//! (`docs/decisions/0010-disk-ring.md` has the numbers).
//!
//! The interface is safe because an [`Action`] owns everything the kernel may
//! touch, the ring owns the action until its completion was taken, and nothing
//! but a completion ends an action: dropping the ring waits.
#![allow(unsafe_code)] // Submitting to a ring is unsafe in every wrapper.

use std::collections::VecDeque;
use std::ffi::CString;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::atomic::{Ordering, fence};
use std::thread;

use io_uring::types::{Fd, FsyncFlags};
use io_uring::{IoUring, Probe, opcode, squeue};
use pinion_commitlog::BlockBuf;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{AtFlags, Mode, ftruncate, mkdirat, unlinkat};
use slab::Slab;

/// Actions the kernel has at a time; the rest waits here. Memory is about 100
/// bytes an entry.
///
/// The kernel holds twice as many completions, so that none is ever left over:
/// one that finds no room is given out by a later system call only, and a core
/// that sleeps makes none.
const ENTRIES: u32 = 64;

/// Of [`ENTRIES`] those that only writes of a log and their flushes may have.
///
/// A trim removes hundreds of files at once: fewer make commits wait for the
/// removals, more leave less to a start that makes and removes many files.
const ENTRIES_FOR_WRITES: u32 = 24;

/// Access of a log's files: the node's user, and its group for the backup.
const FILE_MODE: u32 = 0o640;

/// Access of a log's folder.
const FOLDER_MODE: u32 = 0o750;

/// One thing for the kernel to do, with all that it touches.
#[derive(Debug)]
pub(super) enum Action {
    /// Open `path` below `folder`.
    Open {
        folder: Rc<OwnedFd>,
        path: CString,
        flags: i32,
    },
    /// Make the folder `path` below `folder`.
    MakeFolder { folder: Rc<OwnedFd>, path: CString },
    /// Remove the file `path` below `folder`.
    Unlink { folder: Rc<OwnedFd>, path: CString },
    /// Make what was written from `data` durable; carries the buffer on.
    Flush { file: Rc<OwnedFd>, data: BlockBuf },
    /// Write `data[from..]`, durable after the next flush.
    Write {
        file: Rc<OwnedFd>,
        offset: u64,
        data: BlockBuf,
        from: usize,
    },
    /// Write the first `len` bytes of `zeros`, durable after the next sync.
    Zero {
        file: Rc<OwnedFd>,
        offset: u64,
        zeros: Rc<BlockBuf>,
        len: usize,
    },
    /// Read into `data[from..]`.
    Read {
        file: Rc<OwnedFd>,
        offset: u64,
        data: BlockBuf,
        from: usize,
    },
    /// Reserve `len` bytes without changing the file's length.
    Reserve { file: Rc<OwnedFd>, len: u64 },
    /// Set the file's length.
    Shorten { file: Rc<OwnedFd>, len: u64 },
    /// Make content and length durable.
    Sync { file: Rc<OwnedFd> },
}

impl Action {
    /// What a commit waits for.
    fn is_write(&self) -> bool {
        matches!(self, Self::Write { .. } | Self::Flush { .. })
    }

    /// Whether it makes something durable. One that failed must not be tried
    /// again: the second might succeed without what the first one lost.
    pub(super) fn is_flush(&self) -> bool {
        matches!(self, Self::Flush { .. } | Self::Sync { .. })
    }
}

/// What an action gave.
#[derive(Debug)]
pub(super) enum Gain {
    /// Bytes moved, or 0 where there are none to move.
    Count(usize),
    /// What [`Action::Open`] opened.
    Opened(OwnedFd),
}

/// An action that is over.
#[derive(Debug)]
pub(super) struct Finished {
    /// What [`DiskRing::start`] was given.
    pub(super) token: usize,
    pub(super) action: Action,
    /// What it gave, or the system's error number.
    pub(super) result: Result<Gain, i32>,
}

/// What the kernel's rings know to do; what they do not is done by a thread.
#[derive(Debug, Clone, Copy)]
pub(super) struct Support {
    shorten: bool,
    folders: bool,
    unlink: bool,
    threads: bool,
}

impl Support {
    /// Nothing but opening, reading, writing and syncing.
    #[cfg(test)]
    pub(super) const LEAST: Self = Self {
        shorten: false,
        folders: false,
        unlink: false,
        threads: true,
    };

    /// And this process may not have another thread.
    #[cfg(test)]
    pub(super) const NO_THREADS: Self = Self {
        threads: false,
        ..Self::LEAST
    };

    fn of(ring: &IoUring) -> Self {
        let mut probe = Probe::new();
        // A kernel that does not answer knows none of them.
        let _ = ring.submitter().register_probe(&mut probe);
        Self {
            shorten: probe.is_supported(opcode::Ftruncate::CODE),
            folders: probe.is_supported(opcode::MkDirAt::CODE),
            unlink: probe.is_supported(opcode::UnlinkAt::CODE),
            threads: true,
        }
    }
}

/// The answer of a thread, on its way: the ring reads the eventfd.
#[derive(Debug)]
struct Answer {
    event: OwnedFd,
    /// Eight bytes: an error number plus one.
    value: Vec<u8>,
}

#[derive(Debug)]
struct Flight {
    token: usize,
    action: Action,
    answer: Option<Answer>,
}

pub(super) struct DiskRing {
    ring: IoUring,
    support: Support,
    /// What the kernel has and what waits for it, by the user data of its
    /// request.
    flights: Slab<Flight>,
    /// Keys of flights the kernel has no room for yet, in their order; writes
    /// and flushes before all others.
    waiting: VecDeque<usize>,
    /// Of `waiting` the writes and flushes, which come first.
    writes_waiting: usize,
    /// What was done without the kernel's rings.
    done_here: Vec<Finished>,
}

impl DiskRing {
    /// A ring for this thread, which signals `bell`, gate closed. Must be made
    /// on the thread that uses it.
    pub(super) fn new(bell: BorrowedFd<'_>) -> io::Result<Self> {
        let ring = crate::ring::build(ENTRIES)?;
        ring.submitter().register_eventfd(bell.as_raw_fd())?;
        let mut disk = Self {
            support: Support::of(&ring),
            ring,
            flights: Slab::with_capacity(ENTRIES as usize),
            waiting: VecDeque::new(),
            writes_waiting: 0,
            done_here: Vec::new(),
        };
        disk.close_gate();
        Ok(disk)
    }

    #[cfg(test)]
    pub(super) fn in_kernel(&self) -> usize {
        self.flights.len() - self.waiting.len()
    }

    #[cfg(test)]
    pub(super) fn limit_to(&mut self, support: Support) {
        self.support = support;
    }

    /// Hands `action` to the kernel with the next [`submit`](Self::submit). It
    /// comes back from [`take`](Self::take) with `token`, whatever happens.
    pub(super) fn start(&mut self, token: usize, action: Action) {
        let by_thread = match &action {
            Action::Shorten { .. } => !self.support.shorten,
            Action::MakeFolder { .. } => !self.support.folders,
            Action::Unlink { .. } => !self.support.unlink,
            _ => false,
        };
        let answer = if by_thread {
            // Where no thread can be had, the core waits itself: a length that
            // cannot be set would close the log.
            let threaded = self.support.threads.then(|| on_thread(&action));
            let Some(Ok(answer)) = threaded else {
                let result = blocking(&action).map(|()| Gain::Count(0));
                self.done_here.push(Finished {
                    token,
                    action,
                    result: result.map_err(rustix::io::Errno::raw_os_error),
                });
                return;
            };
            Some(answer)
        } else {
            None
        };
        let is_write = action.is_write();
        let key = self.flights.insert(Flight {
            token,
            action,
            answer,
        });
        if is_write {
            self.waiting.insert(self.writes_waiting, key);
            self.writes_waiting += 1;
        } else {
            self.waiting.push_back(key);
        }
        self.fill();
    }

    /// Gives the kernel's queue what it has room for.
    fn fill(&mut self) {
        while let Some(&key) = self.waiting.front() {
            let is_write = self.writes_waiting > 0;
            let kept = if is_write { 0 } else { ENTRIES_FOR_WRITES };
            let in_kernel = self.flights.len() - self.waiting.len();
            if in_kernel >= (ENTRIES - kept) as usize {
                return;
            }
            let entry = entry(&mut self.flights[key]).user_data(key as u64);
            self.push(&entry);
            self.waiting.pop_front();
            self.writes_waiting -= usize::from(is_write);
        }
    }

    /// Gives the kernel what was started, and runs the deferred work that turns
    /// finished requests into completions. Costs nothing when there is neither.
    pub(super) fn submit(&mut self) -> io::Result<()> {
        if !self.has_task_work() && self.ring.submission().is_empty() {
            return Ok(());
        }
        self.enter(0)
    }

    /// The next action that is over; in no order.
    pub(super) fn take(&mut self) -> Option<Finished> {
        if let Some(finished) = self.done_here.pop() {
            return Some(finished);
        }
        let completion = self.ring.completion().next()?;
        let key = usize::try_from(completion.user_data()).expect("user data is a key of the slab");
        let Flight {
            token,
            action,
            answer,
        } = self.flights.remove(key);
        self.fill();
        let mut result = completion.result();
        if let Some(answer) = answer
            && result > 0
        {
            let value = answer.value.first_chunk().expect("eight bytes");
            // Whatever is no error number of ours cannot have been written.
            result = 1 - i32::try_from(u64::from_ne_bytes(*value)).unwrap_or(libc::EIO);
        }
        let result = match (usize::try_from(result), &action) {
            (Err(_), _) => Err(-result),
            (Ok(_), Action::Open { .. }) => {
                // SAFETY: a finished open gives a new descriptor of ours, and
                // its completion is taken once.
                Ok(Gain::Opened(unsafe { OwnedFd::from_raw_fd(result) }))
            }
            (Ok(count), _) => Ok(Gain::Count(count)),
        };
        Some(Finished {
            token,
            action,
            result,
        })
    }

    /// True when [`take`](Self::take) would give something.
    pub(super) fn has_completions(&mut self) -> bool {
        !self.done_here.is_empty() || !self.ring.completion().is_empty()
    }

    /// True when [`submit`](Self::submit) may bring completions: one load.
    pub(super) fn has_task_work(&mut self) -> bool {
        // Where atomics are not full barriers, the kernel's flag may be seen
        // late: then ask the kernel itself while there is something to ask for.
        let unsure = !cfg!(target_arch = "x86_64") && !self.flights.is_empty();
        unsure || self.ring.submission().taskrun()
    }

    /// Lets completions ring the bell from now on. True when the core may sleep;
    /// false when something is to be done first, which rings nothing.
    pub(super) fn open_gate(&mut self) -> bool {
        self.ring.completion().enable_eventfd();
        // The same handshake as the wait ring's: we open the gate and then look
        // for noted work, the kernel notes its work and then looks at the gate.
        fence(Ordering::SeqCst);
        let submitted = self.ring.submission().is_empty();
        submitted && !self.has_task_work() && !self.has_completions()
    }

    pub(super) fn close_gate(&mut self) {
        self.ring.completion().disable_eventfd();
    }

    /// Waits until at least one action is over, if any is in flight.
    pub(super) fn wait(&mut self) -> io::Result<()> {
        if self.flights.is_empty() || self.has_completions() {
            return Ok(());
        }
        self.enter(1)
    }

    fn enter(&self, want: usize) -> io::Result<()> {
        loop {
            match self.ring.submit_and_wait(want) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Completions must be taken first, or memory is short for the
                // moment. What was not taken stays in the queue, and keeps the
                // core awake until it is.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EAGAIN)) => {
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: the entry was made by `entry` from a flight in `flights`.
        // Descriptors, paths and memory it points to are owned by that flight:
        // paths and buffers are heap blocks that do not move when their owner
        // does, nobody else can reach them, and the flight leaves `flights` only
        // in `take`, when the kernel is done with it. `drop` waits for the rest.
        let pushed = unsafe { self.ring.submission().push(entry) };
        pushed.expect("the queue has a place for each action the kernel may have");
    }
}

impl Drop for DiskRing {
    fn drop(&mut self) {
        // The kernel never saw these.
        self.writes_waiting = 0;
        for key in self.waiting.drain(..) {
            self.flights.remove(key);
        }
        while !self.flights.is_empty() {
            if self.wait().is_err() {
                // Nothing more can be learnt, and the kernel may write into
                // what it was given at any time: it keeps it.
                tracing::error!(
                    requests = self.flights.len(),
                    "disk requests are left behind with their memory"
                );
                mem::forget(mem::take(&mut self.flights));
                return;
            }
            while self.take().is_some() {}
        }
    }
}

/// The request for a flight. It points into the flight.
fn entry(flight: &mut Flight) -> squeue::Entry {
    let fd = |file: &Rc<OwnedFd>| Fd(file.as_raw_fd());
    let length = |len: usize| u32::try_from(len).expect("a buffer of a request is below 4 GiB");
    if let Some(answer) = &mut flight.answer {
        let event = Fd(answer.event.as_raw_fd());
        return opcode::Read::new(event, answer.value.as_mut_ptr(), 8).build();
    }
    match &mut flight.action {
        Action::Open {
            folder,
            path,
            flags,
        } => opcode::OpenAt::new(fd(folder), path.as_ptr())
            .flags(*flags | libc::O_CLOEXEC)
            .mode(FILE_MODE)
            .build(),
        Action::MakeFolder { folder, path } => opcode::MkDirAt::new(fd(folder), path.as_ptr())
            .mode(FOLDER_MODE)
            .build(),
        Action::Unlink { folder, path } => opcode::UnlinkAt::new(fd(folder), path.as_ptr()).build(),
        Action::Write {
            file,
            offset,
            data,
            from,
        } => {
            let rest = &data.as_slice()[*from..];
            opcode::Write::new(fd(file), rest.as_ptr(), length(rest.len()))
                .offset(*offset + *from as u64)
                .build()
        }
        Action::Flush { file, .. } => opcode::Fsync::new(fd(file))
            .flags(FsyncFlags::DATASYNC)
            .build(),
        Action::Zero {
            file,
            offset,
            zeros,
            len,
        } => {
            let piece = &zeros.as_slice()[..*len];
            opcode::Write::new(fd(file), piece.as_ptr(), length(piece.len()))
                .offset(*offset)
                .build()
        }
        Action::Read {
            file,
            offset,
            data,
            from,
        } => {
            let rest = &mut data.as_mut_slice()[*from..];
            opcode::Read::new(fd(file), rest.as_mut_ptr(), length(rest.len()))
                .offset(*offset + *from as u64)
                .build()
        }
        Action::Reserve { file, len } => opcode::Fallocate::new(fd(file), *len)
            .mode(libc::FALLOC_FL_KEEP_SIZE)
            .build(),
        Action::Shorten { file, len } => opcode::Ftruncate::new(fd(file), *len).build(),
        Action::Sync { file } => opcode::Fsync::new(fd(file))
            .flags(FsyncFlags::empty())
            .build(),
    }
}

/// Does at once what this kernel's rings cannot.
fn blocking(action: &Action) -> rustix::io::Result<()> {
    match action {
        Action::Shorten { file, len } => ftruncate(file, *len),
        Action::MakeFolder { folder, path } => {
            mkdirat(folder, path, Mode::from_raw_mode(FOLDER_MODE))
        }
        Action::Unlink { folder, path } => unlinkat(folder, path, AtFlags::empty()),
        other => unreachable!("every kernel's rings can do {other:?}"),
    }
}

/// Has a thread of its own do what this kernel's rings cannot. These are rare:
/// one folder in a log's life, one length and one removal per segment.
fn on_thread(action: &Action) -> io::Result<Answer> {
    let target = |fd: &Rc<OwnedFd>| fd.try_clone();
    let work: Box<dyn FnOnce() -> rustix::io::Result<()> + Send> = match action {
        Action::Shorten { file, len } => {
            let (file, len) = (target(file)?, *len);
            Box::new(move || ftruncate(file, len))
        }
        Action::MakeFolder { folder, path } => {
            let (folder, path) = (target(folder)?, path.clone());
            Box::new(move || mkdirat(folder, path, Mode::from_raw_mode(FOLDER_MODE)))
        }
        Action::Unlink { folder, path } => {
            let (folder, path) = (target(folder)?, path.clone());
            Box::new(move || unlinkat(folder, path, AtFlags::empty()))
        }
        other => unreachable!("every kernel's rings can do {other:?}"),
    };
    // Blocking, so that the ring's read of it waits in the kernel.
    let event = eventfd(0, EventfdFlags::CLOEXEC)?;
    let answer = event.try_clone()?;
    thread::Builder::new()
        .name("pinion-disk".to_owned())
        .spawn(move || {
            let errno = work().err().map_or(0, rustix::io::Errno::raw_os_error);
            let value = u64::from(errno.unsigned_abs()) + 1;
            // An eventfd nobody wrote before takes any such value.
            let _ = rustix::io::write(&answer, &value.to_ne_bytes());
        })?;
    Ok(Answer {
        event,
        value: vec![0; 8],
    })
}
