//! What a directory's file system can do, found out by trying.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use pinion_commitlog::{BLOCK, BlockBuf};

/// Whether files in `dir` can be written past the page cache. Writes one block
/// and removes it again; where there is no space for one, what the opening said
/// holds, so that a node can start on a full disk.
///
/// # Errors
/// When a file cannot be made or written there at all.
pub fn takes_direct(dir: &Path) -> io::Result<bool> {
    let try_flags = |flags: i32| {
        with_probe_file(dir, flags, |file| {
            match file.write_all_at(BlockBuf::zeroed(BLOCK).as_slice(), 0) {
                Err(error) if is_full(&error) => Ok(()),
                written => written,
            }
        })
    };
    match try_flags(libc::O_DIRECT) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => try_flags(0).map(|()| false),
        Err(error) => Err(error),
    }
}

fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
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
