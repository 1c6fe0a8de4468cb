//! A disk that fails on purpose.
//!
//! It executes the requests of [`pinion_commitlog::disk`] after delays of the
//! seed's choosing and in any order. Every file has two images: what the
//! process sees, and what is durable per sector of 512 bytes. They are the same
//! when a request is done; between its submission and its completion, and after
//! a failure, they are not. [`SimDisk::crash`] forgets the first.
//!
//! A disk is copied cheaply ([`Clone`]): a world that enumerates crash points
//! copies the disk at each, crashes the copy, and goes on with the original.
//!
//! [`SimDisk::violations`] says what the engine did that no disk may be asked
//! to do, whatever the oracles of the world think of the result.

mod crash;
mod fault;
mod image;

use core::ops::Range;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pinion_commitlog::{
    BLOCK, BlockBuf, DiskDone, DiskError, DiskOutput, DiskRequest, FileId, Files, LogId, OpId,
};
use pinion_types::Monotonic;

pub use crash::CrashMode;
pub use fault::{Fault, FaultPlan};
use image::Image;
pub use image::SECTOR;

use crate::{Agenda, SimRng};

/// Kinds of violation kept for the reader; one is a failure already.
const VIOLATIONS_KEPT: usize = 16;

/// How a disk is.
#[derive(Clone, Debug)]
pub struct SimDiskConfig {
    /// Shortest time a request takes.
    pub latency_min: Duration,
    /// Longest time a request takes that is not made slow.
    pub latency_max: Duration,
    /// Bytes all files together may have; a creation or a growing write beyond
    /// fails with [`DiskError::Full`].
    pub capacity: u64,
    /// What goes wrong.
    pub faults: FaultPlan,
}

impl Default for SimDiskConfig {
    fn default() -> Self {
        Self {
            latency_min: Duration::from_micros(20),
            latency_max: Duration::from_micros(200),
            capacity: u64::MAX,
            faults: FaultPlan::default(),
        }
    }
}

/// What was asked of a disk and what became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SimDiskStats {
    /// Requests taken.
    pub submitted: u64,
    /// Requests answered.
    pub done: u64,
    /// Of those, answered with an error.
    pub failed: u64,
    /// Writes taken.
    pub writes: u64,
    /// Reads taken.
    pub reads: u64,
    /// Bytes of writes taken.
    pub bytes_written: u64,
    /// Faults that befell a request.
    pub faults: u64,
}

/// A file as the process sees it and as a crash would leave it.
#[derive(Clone, Debug, Default)]
struct SimFile {
    live: Option<Image>,
    durable: Option<Image>,
    /// What the live image held where the last write of a block changed it.
    prior: BTreeMap<u64, Box<[u8]>>,
    /// When the last write was submitted that is done and durable.
    durable_write: Option<Monotonic>,
}

/// A request in flight.
#[derive(Clone, Debug)]
struct Pending {
    number: u64,
    /// When it was submitted.
    since: Monotonic,
    op: OpId,
    file: FileId,
    job: Job,
    fault: Option<Fault>,
}

#[derive(Clone, Debug)]
enum Job {
    Create { len: u64 },
    Write { offset: u64, data: Arc<BlockBuf> },
    Read { offset: u64, len: u32 },
    Truncate { len: u64 },
    Remove,
}

/// What is in flight, for whoever chooses where to crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// Number of the request, from 1.
    pub number: u64,
    /// Its file.
    pub file: FileId,
    /// Whether it is a write, and of how many sectors.
    pub write_sectors: Option<u32>,
    /// Whether it changes anything when it is done.
    pub changes: bool,
}

/// The disk of one core, or of one log.
#[derive(Clone, Debug)]
pub struct SimDisk {
    config: SimDiskConfig,
    rng: SimRng,
    files: BTreeMap<FileId, SimFile>,
    foreign: BTreeMap<LogId, BTreeSet<String>>,
    agenda: Agenda<Pending>,
    stats: SimDiskStats,
    violations: Vec<String>,
    /// Where writes were meant to land that landed elsewhere.
    strayed: Vec<(FileId, Range<u64>)>,
    /// Blocking reads left until one fails, when one shall.
    recovery_read_fails_after: Option<u64>,
}

impl SimDisk {
    /// An empty disk.
    #[must_use]
    pub fn new(config: SimDiskConfig, rng: SimRng) -> Self {
        Self {
            config,
            rng,
            files: BTreeMap::new(),
            foreign: BTreeMap::new(),
            agenda: Agenda::default(),
            stats: SimDiskStats::default(),
            violations: Vec::new(),
            strayed: Vec::new(),
            recovery_read_fails_after: None,
        }
    }

    /// Takes a request. It is done some time after `now`, see
    /// [`SimDisk::next_deadline`] and [`SimDisk::poll_done`].
    pub fn submit(&mut self, now: Monotonic, request: DiskRequest) {
        self.stats.submitted += 1;
        let number = self.stats.submitted;
        let fault = self.config.faults.choose(number, &request, &mut self.rng);
        self.stats.faults += u64::from(fault.is_some());
        let (op, file) = request.target();
        if self
            .agenda
            .iter()
            .any(|p| p.op == op && p.file.log() == file.log())
        {
            self.violation(format!("{op:?} of {file:?} is in flight already"));
        }
        let whole = |n: u64| n.is_multiple_of(BLOCK as u64);
        let (job, aligned) = match request {
            DiskRequest::Create { len, .. } => (Job::Create { len }, whole(len)),
            DiskRequest::Write { offset, data, .. } => {
                self.stats.writes += 1;
                self.stats.bytes_written += data.len() as u64;
                self.check_overwrite(file, offset, &data);
                let aligned = whole(offset) && !data.is_empty();
                let data = Arc::new(data);
                (Job::Write { offset, data }, aligned)
            }
            DiskRequest::Read { offset, len, .. } => {
                self.stats.reads += 1;
                let aligned = whole(offset) && whole(u64::from(len)) && len > 0;
                (Job::Read { offset, len }, aligned)
            }
            DiskRequest::Truncate { len, .. } => (Job::Truncate { len }, whole(len)),
            DiskRequest::Remove { .. } => (Job::Remove, true),
        };
        if !aligned {
            self.violation(format!("{job:?} of {file:?} is not in whole blocks"));
        }
        let latency = self.latency(fault);
        let pending = Pending {
            number,
            since: now,
            op,
            file,
            job,
            fault,
        };
        self.agenda.push(now + latency, pending);
    }

    /// When the next request is done.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Monotonic> {
        self.agenda.next_deadline()
    }

    /// Finishes one of the requests that are due, any of them.
    pub fn poll_done(&mut self, now: Monotonic) -> Option<DiskDone> {
        let pending = self.agenda.pop(now, &mut self.rng)?;
        self.stats.done += 1;
        let (op, file) = (pending.op, pending.file);
        let result = match pending.fault {
            Some(Fault::Fails(error)) => {
                self.leave_of_failed(&pending);
                Err(error)
            }
            _ => self.execute(pending),
        };
        self.stats.failed += u64::from(result.is_err());
        Some(DiskDone { op, file, result })
    }

    /// What is in flight, in the order in which it was submitted.
    pub fn in_flight(&self) -> impl Iterator<Item = InFlight> {
        self.agenda.iter().map(|pending| InFlight {
            number: pending.number,
            file: pending.file,
            write_sectors: match &pending.job {
                Job::Write { data, .. } => u32::try_from(data.len() / SECTOR).ok(),
                _ => None,
            },
            changes: !matches!(pending.job, Job::Read { .. }),
        })
    }

    /// What was asked and what became of it.
    #[must_use]
    pub fn stats(&self) -> SimDiskStats {
        self.stats
    }

    /// What no disk may be asked: one id twice at a time, part of a block, or
    /// bytes over bytes that were written before.
    #[must_use]
    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    /// What goes wrong from now on; numbers of requests go on counting.
    pub fn set_faults(&mut self, faults: FaultPlan) {
        self.config.faults = faults;
    }

    /// How many bytes all files may have from now on.
    pub fn set_capacity(&mut self, bytes: u64) {
        self.config.capacity = bytes;
    }

    /// Bytes all files have now.
    #[must_use]
    pub fn used(&self) -> u64 {
        let live = self.files.values().filter_map(|file| file.live.as_ref());
        live.map(Image::len).sum()
    }

    /// The blocking read after the next `reads` of them fails, once.
    pub fn fail_recovery_read(&mut self, reads: u64) {
        self.recovery_read_fails_after = Some(reads);
    }

    // ---- mischief at rest --------------------------------------------------

    /// Every file with its length.
    pub fn files(&self) -> impl Iterator<Item = (FileId, u64)> {
        let live = |file: &SimFile| file.live.as_ref().map(Image::len);
        self.files
            .iter()
            .filter_map(move |(id, file)| live(file).map(|len| (*id, len)))
    }

    /// When the last write of a file was submitted that is done and really durable;
    /// `None` when there was none.
    #[must_use]
    pub fn last_durable_write(&self, file: FileId) -> Option<Monotonic> {
        self.files.get(&file)?.durable_write
    }

    /// The bytes that writes were meant for which landed elsewhere, oldest first.
    pub fn strayed(&self) -> impl Iterator<Item = (FileId, Range<u64>)> + '_ {
        self.strayed.iter().cloned()
    }

    /// All bytes of a file; `None` when it is not there.
    #[must_use]
    pub fn bytes(&self, file: FileId) -> Option<Vec<u8>> {
        let image = self.files.get(&file)?.live.as_ref()?;
        let mut bytes = vec![0; usize::try_from(image.len()).expect("a simulated file is small")];
        image.read(0, &mut bytes);
        Some(bytes)
    }

    /// Puts a file there, durable, whatever was there before.
    pub fn put(&mut self, file: FileId, bytes: &[u8]) {
        let mut image = Image::default();
        image.write(0, bytes);
        let state = SimFile {
            live: Some(image.clone()),
            durable: Some(image),
            prior: BTreeMap::new(),
            durable_write: None,
        };
        self.files.insert(file, state);
    }

    /// Takes a file away, durably; false when it is not there.
    pub fn take_away(&mut self, file: FileId) -> bool {
        self.files.remove(&file).is_some()
    }

    /// Turns one bit over, at rest; bit 0 is the lowest of byte 0.
    ///
    /// # Panics
    /// When the file is not there or ends before.
    pub fn flip(&mut self, file: FileId, bit: u64) {
        let state = self.files.get_mut(&file).expect("the file is there");
        for image in [&mut state.live, &mut state.durable].into_iter().flatten() {
            assert!(bit / 8 < image.len(), "bit {bit} of {file:?}");
            image.flip(bit);
        }
    }

    /// Puts a name into a log's folder that no log gives.
    pub fn put_foreign(&mut self, log: LogId, name: &str) {
        self.foreign.entry(log).or_default().insert(name.to_owned());
    }

    // ---- inside ------------------------------------------------------------

    fn latency(&mut self, fault: Option<Fault>) -> Duration {
        let nanos = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
        let min = nanos(self.config.latency_min);
        let max = nanos(self.config.latency_max).max(min);
        let base = Duration::from_nanos(self.rng.between(min, max));
        match fault {
            Some(Fault::Slow(by)) => base + by,
            _ => base,
        }
    }

    fn execute(&mut self, pending: Pending) -> Result<DiskOutput, DiskError> {
        let used = self.used();
        let room = self.config.capacity.saturating_sub(used);
        let state = self.files.entry(pending.file).or_default();
        match pending.job {
            Job::Create { len } => {
                if state.live.is_some() {
                    return Err(DiskError::Exists);
                }
                if len > room {
                    // Nothing of the name is left, or what there was room for.
                    if self.rng.coin() {
                        let blocks = self.rng.between(0, room / BLOCK as u64);
                        state.live = Some(Image::zeroed(blocks * BLOCK as u64));
                        state.durable.clone_from(&state.live);
                    }
                    return Err(DiskError::Full);
                }
                let image = Image::zeroed(len);
                state.live = Some(image.clone());
                state.durable = Some(image);
                Ok(DiskOutput::Done)
            }
            Job::Write { offset, data } => {
                let bytes = data.as_slice();
                let live = state.live.as_mut().ok_or(DiskError::Missing)?;
                let end = offset + bytes.len() as u64;
                if end.saturating_sub(live.len()) > room {
                    return Err(DiskError::Full);
                }
                let at = match pending.fault {
                    Some(Fault::WrittenElsewhere(blocks)) => {
                        let at = elsewhere(offset, blocks, live.len());
                        if at != offset {
                            self.strayed.push((pending.file, offset..end));
                        }
                        at
                    }
                    _ => offset,
                };
                for (block, _) in bytes.chunks(BLOCK).enumerate() {
                    let place = at + (block * BLOCK) as u64;
                    let mut before = vec![0; BLOCK];
                    live.read(place, &mut before);
                    state.prior.insert(place, before.into());
                }
                live.write(at, bytes);
                if pending.fault != Some(Fault::NotDurable)
                    && let Some(durable) = &mut state.durable
                {
                    durable.write(at, bytes);
                    state.durable_write = state.durable_write.max(Some(pending.since));
                }
                Ok(DiskOutput::Written(crash::unshare(data)))
            }
            Job::Read { offset, len } => {
                let live = state.live.as_ref().ok_or(DiskError::Missing)?;
                let at = match pending.fault {
                    Some(Fault::ReadElsewhere(blocks)) => elsewhere(offset, blocks, live.len()),
                    _ => offset,
                };
                let len = usize::try_from(len).expect("u32 fits");
                let mut data = BlockBuf::zeroed(len);
                let read = live.read(at, data.as_mut_slice());
                data.set_len(read / BLOCK * BLOCK);
                let bytes = data.as_mut_slice();
                match pending.fault {
                    Some(Fault::ReadStale) => {
                        for (place, before) in state.prior.range(at..at + bytes.len() as u64) {
                            let from = usize::try_from(place - at).expect("within the read");
                            bytes[from..from + BLOCK].copy_from_slice(before);
                        }
                    }
                    Some(Fault::ReadFlipped) if !bytes.is_empty() => {
                        let bit = self.rng.index(8 * bytes.len());
                        bytes[bit / 8] ^= 1 << (bit % 8);
                    }
                    _ => {}
                }
                Ok(DiskOutput::Data(data))
            }
            Job::Truncate { len } => {
                for image in [&mut state.live, &mut state.durable] {
                    let image = image.as_mut().ok_or(DiskError::Missing)?;
                    if len < image.len() {
                        image.set_len(len);
                    }
                }
                Ok(DiskOutput::Done)
            }
            Job::Remove => {
                self.files.remove(&pending.file);
                Ok(DiskOutput::Done)
            }
        }
    }

    /// A byte that was written is never written again: a committed block shares
    /// nothing with a later write.
    fn check_overwrite(&mut self, file: FileId, offset: u64, data: &BlockBuf) {
        let durable = self.files.get(&file).and_then(|f| f.durable.as_ref());
        if durable.is_some_and(|image| !image.is_zero(offset, data.len())) {
            let len = data.len();
            self.violation(format!(
                "{len} bytes over written ones at {offset} of {file:?}"
            ));
        }
    }

    fn violation(&mut self, what: String) {
        if self.violations.len() < VIOLATIONS_KEPT {
            self.violations.push(what);
        }
    }
}

/// Another block of a file that is `len` bytes long.
fn elsewhere(offset: u64, blocks: i64, len: u64) -> u64 {
    let moved = offset.saturating_add_signed(blocks.saturating_mul(BLOCK as i64));
    let last = (len / BLOCK as u64).saturating_sub(1) * BLOCK as u64;
    moved.min(last)
}

impl Files for SimDisk {
    fn list(&mut self, log: LogId) -> Result<(Vec<(FileId, u64)>, Vec<String>), DiskError> {
        let files = SimDisk::files(self).filter(|(id, _)| id.log() == log);
        let mut files: Vec<_> = files.collect();
        // In any order, so in one of the seed's.
        for last in (1..files.len()).rev() {
            files.swap(last, self.rng.index(last + 1));
        }
        let foreign = self.foreign.get(&log).into_iter().flatten();
        Ok((files, foreign.cloned().collect()))
    }

    fn read(&mut self, file: FileId, offset: u64, into: &mut [u8]) -> Result<usize, DiskError> {
        match &mut self.recovery_read_fails_after {
            Some(0) => {
                self.recovery_read_fails_after = None;
                return Err(DiskError::Io { errno: 5 });
            }
            Some(left) => *left -= 1,
            None => {}
        }
        let state = self.files.get(&file).and_then(|file| file.live.as_ref());
        Ok(state.ok_or(DiskError::Missing)?.read(offset, into))
    }
}
