//! The disk without a server: the control of everything durable.
//!
//! [`RawLog`] writes what a log would write, one group at a time, and waits for
//! `fdatasync` before it calls anything done; [`RawRead`] reads files from
//! front to back. Both go around the page cache (`O_DIRECT`), so that they
//! measure the disk a node has and not the memory of the machine.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use pinion_cli::bench::measure::{BenchError, Completion, Driver};
use pinion_commitlog::{BLOCK, BlockBuf};
use rustix::fs::{Advice, OFlags};

/// Bytes of the file that [`RawLog`] writes round and round, as many as a
/// segment of a node's log. Smaller might fit a cache of the disk.
pub const RAW_LOG_BYTES: u64 = 64 << 20;

/// Bytes written at once while the file is prepared.
const PREPARE_BYTES: usize = 1 << 20;

/// `f_type` of file systems that keep nothing (statfs(2)): tmpfs and ramfs.
const MEMORY_FILE_SYSTEMS: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// A path and why it cannot be measured on.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// It lives in memory, where `fdatasync` costs nothing.
    #[error("{0} is in memory: pass --dir with a folder on a disk")]
    InMemory(PathBuf),
    /// The system says no.
    #[error("{path}: {error}; pass --dir with a folder on a disk")]
    Io {
        /// Where.
        path: PathBuf,
        /// Its answer.
        #[source]
        error: io::Error,
    },
}

/// Whether `dir` is on a disk that takes direct writes.
///
/// # Errors
/// [`PlaceError`], which says what to do.
pub fn check_place(dir: &Path) -> Result<(), PlaceError> {
    let io = |error: io::Error| PlaceError::Io {
        path: dir.to_owned(),
        error,
    };
    let kind = rustix::fs::statfs(dir).map_err(|e| io(e.into()))?.f_type;
    // The type is signed here and unsigned there; the value is the same 32 bits.
    let kind = u64::try_from(kind).unwrap_or(0) & u64::from(u32::MAX);
    if MEMORY_FILE_SYSTEMS.contains(&kind) {
        return Err(PlaceError::InMemory(dir.to_owned()));
    }
    RawLog::create(dir, BLOCK as u64, 256, 1).map_err(io)?;
    Ok(())
}

/// Bytes that may still be written below `dir`.
///
/// # Errors
/// What the system says.
pub fn free_bytes(dir: &Path) -> io::Result<u64> {
    let facts = rustix::fs::statvfs(dir)?;
    Ok(facts.f_bavail.saturating_mul(facts.f_frsize))
}

/// Every file below `dir` with its length.
///
/// # Errors
/// What the system says.
pub fn files_below(dir: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
    let mut files = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let facts = entry.metadata()?;
            if facts.is_dir() {
                folders.push(entry.path());
            } else if facts.is_file() {
                files.push((entry.path(), facts.len()));
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Asks the kernel to forget what it keeps of the files below `dir`, so that a
/// restart reads them from the disk.
///
/// # Errors
/// What the system says.
pub fn forget_cached(dir: &Path) -> io::Result<()> {
    for (path, _) in files_below(dir)? {
        rustix::fs::fadvise(File::open(path)?, 0, None, Advice::DontNeed)?;
    }
    Ok(())
}

fn open_direct(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let direct = i32::try_from(OFlags::DIRECT.bits())
        .map_err(|_| io::Error::from(io::ErrorKind::Unsupported))?;
    options.custom_flags(direct).open(path)
}

/// Writes groups of records: the smallest whole blocks that hold them, into a
/// file that was written before (so that no write changes its size or its
/// extents), then `fdatasync`.
///
/// As a [`Driver`] it is the fastest log there could be: whatever is queued is
/// one group, and all of it is answered when the disk has it.
pub struct RawLog {
    file: File,
    path: PathBuf,
    buffer: BlockBuf,
    at: u64,
    file_bytes: u64,
    record_bytes: usize,
    stamps: Vec<u64>,
    group_max: usize,
}

impl RawLog {
    /// Prepares a file of `file_bytes` in `dir` for groups of at most
    /// `group_max` records of `record_bytes`. It goes away with this.
    ///
    /// # Errors
    /// What the disk says; `Unsupported` or `InvalidInput` where it takes no
    /// direct writes.
    ///
    /// # Panics
    /// When a group would be larger than the file.
    pub fn create(
        dir: &Path,
        file_bytes: u64,
        record_bytes: usize,
        group_max: usize,
    ) -> io::Result<Self> {
        let group = (record_bytes * group_max).next_multiple_of(BLOCK);
        assert!(
            file_bytes.is_multiple_of(BLOCK as u64) && group as u64 <= file_bytes,
            "a group of {group} bytes in a file of {file_bytes}"
        );
        let path = dir.join(format!("raw-{}.bytes", std::process::id()));
        let file = open_direct(
            &path,
            OpenOptions::new().write(true).create(true).truncate(true),
        )?;
        let log = Self {
            file,
            path,
            buffer: BlockBuf::zeroed(group),
            at: 0,
            file_bytes,
            record_bytes,
            stamps: Vec::with_capacity(group_max),
            group_max,
        };
        log.prepare()?;
        let mut log = log;
        log.buffer.as_mut_slice().fill(0x5a);
        Ok(log)
    }

    fn prepare(&self) -> io::Result<()> {
        let zeros = BlockBuf::zeroed(PREPARE_BYTES);
        let mut at = 0;
        while at < self.file_bytes {
            let left = usize::try_from(self.file_bytes - at).unwrap_or(usize::MAX);
            let piece = &zeros.as_slice()[..left.min(PREPARE_BYTES)];
            self.file.write_all_at(piece, at)?;
            at += piece.len() as u64;
        }
        self.file.sync_all()
    }

    fn write_group(&mut self) -> io::Result<()> {
        let bytes = (self.stamps.len() * self.record_bytes).next_multiple_of(BLOCK);
        if self.at + bytes as u64 > self.file_bytes {
            self.at = 0;
        }
        self.file
            .write_all_at(&self.buffer.as_slice()[..bytes], self.at)?;
        self.file.sync_data()?;
        self.at += bytes as u64;
        Ok(())
    }
}

impl Drop for RawLog {
    fn drop(&mut self) {
        // The folder is removed as a whole when this fails.
        let _ = fs::remove_file(&self.path);
    }
}

impl Driver for RawLog {
    fn lanes(&self) -> usize {
        1
    }

    fn submit(&mut self, _lane: usize, stamp: u64) -> Result<bool, BenchError> {
        if self.stamps.len() == self.group_max {
            return Ok(false);
        }
        self.stamps.push(stamp);
        Ok(true)
    }

    fn turn(&mut self, done: &mut Vec<Completion>) -> Result<bool, BenchError> {
        if self.stamps.is_empty() {
            return Ok(false);
        }
        self.write_group().map_err(BenchError::io("raw write"))?;
        let stamps = self.stamps.drain(..);
        done.extend(stamps.map(|stamp| Completion { lane: 0, stamp }));
        Ok(true)
    }
}

/// Reads files from front to back, round and round, one request at a time.
pub struct RawRead {
    files: Vec<(File, u64)>,
    file: usize,
    at: u64,
    buffer: BlockBuf,
    stamp: Option<u64>,
}

impl RawRead {
    /// Opens those of `files` that hold at least one request of
    /// `request_bytes`, whole blocks.
    ///
    /// # Errors
    /// A file cannot be opened, or none is long enough.
    pub fn open(files: &[(PathBuf, u64)], request_bytes: usize) -> io::Result<Self> {
        let files = files
            .iter()
            .filter(|(_, len)| *len >= request_bytes as u64)
            .map(|(path, len)| Ok((open_direct(path, OpenOptions::new().read(true))?, *len)))
            .collect::<io::Result<Vec<_>>>()?;
        if files.is_empty() {
            return Err(io::Error::other("no file is as long as one request"));
        }
        Ok(Self {
            files,
            file: 0,
            at: 0,
            buffer: BlockBuf::zeroed(request_bytes),
            stamp: None,
        })
    }
}

impl Driver for RawRead {
    fn lanes(&self) -> usize {
        1
    }

    fn submit(&mut self, _lane: usize, stamp: u64) -> Result<bool, BenchError> {
        Ok(self.stamp.replace(stamp).is_none())
    }

    fn turn(&mut self, done: &mut Vec<Completion>) -> Result<bool, BenchError> {
        let Some(stamp) = self.stamp.take() else {
            return Ok(false);
        };
        let bytes = self.buffer.len() as u64;
        // What is left of a file and shorter than a request is not read.
        if self.at + bytes > self.files[self.file].1 {
            self.file = (self.file + 1) % self.files.len();
            self.at = 0;
        }
        self.files[self.file]
            .0
            .read_exact_at(self.buffer.as_mut_slice(), self.at)
            .map_err(BenchError::io("raw read"))?;
        self.at += bytes;
        done.push(Completion { lane: 0, stamp });
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pinion_cli::bench::measure::{Span, closed_loop};

    use super::*;

    /// A folder on a disk: the one this test was built in.
    fn on_disk() -> tempfile::TempDir {
        let here = std::env::current_exe().expect("a test has a path");
        let here = here.parent().expect("in a folder");
        tempfile::tempdir_in(here).expect("writable")
    }

    const BRIEF: Span = Span {
        warmup: Duration::ZERO,
        measured: Duration::from_millis(20),
    };

    #[test]
    fn a_folder_in_memory_is_refused_and_one_on_a_disk_is_not() {
        check_place(on_disk().path()).expect("a disk");
        let memory = Path::new("/dev/shm");
        if memory.is_dir() {
            let refused = check_place(memory).expect_err("tmpfs");
            assert!(refused.to_string().contains("--dir"), "{refused}");
        }
    }

    #[test]
    fn a_group_is_whole_blocks_and_wraps_within_its_file() {
        let dir = on_disk();
        let bytes = 4 * BLOCK as u64;
        let mut log = RawLog::create(dir.path(), bytes, 256, 17).expect("a disk");
        let mut done = Vec::new();
        for (queued, at) in [(1, 1), (16, 2), (17, 4), (1, 1)] {
            for stamp in 0..queued {
                assert!(log.submit(0, stamp).expect("there is room"));
            }
            assert!(log.turn(&mut done).expect("written"));
            assert_eq!(log.at, at * BLOCK as u64, "{queued} records");
            assert_eq!(done.drain(..).count() as u64, queued);
        }
        for stamp in 0..17 {
            assert!(log.submit(0, stamp).expect("there is room"));
        }
        assert!(!log.submit(0, 17).expect("full, not broken"));
        let length = fs::metadata(&log.path).expect("it is there").len();
        assert_eq!(length, bytes, "no write made the file longer");
        let path = log.path.clone();
        drop(log);
        assert!(!path.exists());
    }

    #[test]
    fn files_are_read_in_order_and_from_the_front_again() {
        let dir = on_disk();
        let request = 2 * BLOCK;
        for (name, blocks, byte) in [("a", 5, 1_u8), ("b", 2, 2), ("c", 1, 3)] {
            fs::write(dir.path().join(name), vec![byte; blocks * BLOCK]).expect("written");
        }
        let files = files_below(dir.path()).expect("listed");
        assert_eq!(files.len(), 3);
        let mut reader = RawRead::open(&files, request).expect("two are long enough");
        let mut done = Vec::new();
        let seen: Vec<u8> = (0..4)
            .map(|stamp| {
                assert!(reader.submit(0, stamp).expect("idle"));
                assert!(!reader.submit(0, stamp).expect("busy, not broken"));
                reader.turn(&mut done).expect("read");
                reader.buffer.as_slice()[request - 1]
            })
            .collect();
        assert_eq!(seen, [1, 1, 2, 1]);
        forget_cached(dir.path()).expect("advice is taken");
    }

    #[test]
    fn the_raw_log_runs_in_the_loop_of_the_servers() {
        let dir = on_disk();
        let mut log = RawLog::create(dir.path(), 1 << 20, 256, 8).expect("a disk");
        let run = closed_loop(&mut log, 8, BRIEF).expect("the disk answers");
        assert_eq!(run.completed % 8, 0);
        assert!(free_bytes(dir.path()).expect("known") > 0);
    }
}
