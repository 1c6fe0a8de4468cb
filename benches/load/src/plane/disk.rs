//! The disk without a cluster: what a change is held against.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pinion_commitlog::{BLOCK, BlockBuf};
use rustix::fs::OFlags;

use super::PlaneError;

/// Bytes of the file that bare writes go to, one after the other.
const RAW_FILE_BYTES: u64 = 16 << 20;

/// A file of zeros that is written over block by block, as a log's segment is.
pub(super) struct Raw {
    file: File,
    path: PathBuf,
    block: BlockBuf,
    next: u64,
}

impl Raw {
    /// Past the page cache when `direct`, as the nodes write their logs.
    pub(super) fn create(dir: &Path, name: &str, direct: bool) -> Result<Self, PlaneError> {
        let failed = PlaneError::io("a file for bare writes");
        let path = dir.join(name);
        let mut options = OpenOptions::new();
        options.create(true).truncate(true).write(true);
        let zeros = vec![0; 1 << 20];
        let filled = options.open(&path).and_then(|file| {
            for at in (0..RAW_FILE_BYTES).step_by(zeros.len()) {
                file.write_all_at(&zeros, at)?;
            }
            file.sync_all()
        });
        filled.map_err(&failed)?;
        let how = if direct {
            OFlags::DIRECT
        } else {
            OFlags::empty()
        };
        let how = i32::try_from(how.bits()).expect("a flag of open(2)");
        let mut options = OpenOptions::new();
        let file = options.write(true).custom_flags(how).open(&path);
        let mut block = BlockBuf::zeroed(BLOCK);
        block.as_mut_slice().fill(7);
        Ok(Self {
            file: file.map_err(&failed)?,
            path,
            block,
            next: 0,
        })
    }

    /// One block, until the disk has it.
    pub(super) fn write(&mut self) -> Result<Duration, PlaneError> {
        let at = self.next % RAW_FILE_BYTES;
        self.next += BLOCK as u64;
        let began = Instant::now();
        let written = self.file.write_all_at(self.block.as_slice(), at);
        let done = written.and_then(|()| self.file.sync_data());
        done.map_err(PlaneError::io("a bare write"))?;
        Ok(began.elapsed())
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // What cannot be removed is in nobody's way.
        let _ = fs::remove_file(&self.path);
    }
}

/// Three of them that write at the same time: the nodes of a cluster on one disk.
pub(super) struct Three {
    begin: Vec<Sender<()>>,
    took: Receiver<Result<Duration, PlaneError>>,
    threads: Vec<JoinHandle<()>>,
}

impl Three {
    pub(super) fn start(dir: &Path) -> Result<Self, PlaneError> {
        let (done, took) = channel();
        let (mut begin, mut threads) = (Vec::new(), Vec::new());
        for number in 0..3 {
            let mut raw = Raw::create(dir, &format!("raw-writes-{number}"), true)?;
            let (sender, asked) = channel();
            let done = done.clone();
            begin.push(sender);
            threads.push(thread::spawn(move || {
                while let Ok(()) = asked.recv() {
                    if done.send(raw.write()).is_err() {
                        return;
                    }
                }
            }));
        }
        Ok(Self {
            begin,
            took,
            threads,
        })
    }

    /// One block each; what the second of them took: then two of three have it.
    pub(super) fn write(&self) -> Result<Duration, PlaneError> {
        for begin in &self.begin {
            // One that has ended says why below.
            let _ = begin.send(());
        }
        let mut all = Vec::new();
        for _ in &self.begin {
            let took = self.took.recv().map_err(|_| PlaneError::Io {
                what: "bare writes",
                source: std::io::ErrorKind::BrokenPipe.into(),
            })?;
            all.push(took?);
        }
        all.sort_unstable();
        Ok(all[1])
    }
}

impl Drop for Three {
    fn drop(&mut self) {
        self.begin.clear();
        for thread in self.threads.drain(..) {
            // It has said what went wrong.
            let _ = thread.join();
        }
    }
}
