//! Whether the data is still where a start will look for it.
//!
//! Open files outlive their names: a node whose data directory was deleted, moved
//! away or unmounted could write on for ever, into files that nobody finds again.
//! So before a write counts as durable, its file must still have a name, and the
//! directory must still be the one at its path.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

use pinion_commitlog::{DiskError, DiskOutput, FileId};
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use super::ring::{Action, Gain};
use super::{Disk, Job, Kind, LOOK_EVERY};

/// Never asks a server: what the kernel knows will do.
const FLAGS: AtFlags = AtFlags::STATX_DONT_SYNC;

/// Which directory lay at the path when it was opened.
#[derive(Debug)]
pub(super) struct Place {
    dir: PathBuf,
    /// Device, in two parts, and number.
    identity: (u32, u32, u64),
}

impl Place {
    pub(super) fn of(dir: &Path, root: &File) -> io::Result<Self> {
        Ok(Self {
            dir: dir.to_owned(),
            identity: identity(root, c"", AtFlags::EMPTY_PATH)?,
        })
    }

    /// False when nothing lies at the path, or something else. Where the system
    /// does not say (a folder above may not be searched any more), it is
    /// believed to be there.
    fn is_there(&self) -> bool {
        match identity(CWD, self.dir.as_path(), AtFlags::empty()) {
            Ok(found) => found == self.identity,
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => false,
            Err(_) => true,
        }
    }
}

fn identity(
    at: impl AsFd,
    path: impl rustix::path::Arg,
    flags: AtFlags,
) -> rustix::io::Result<(u32, u32, u64)> {
    let found = statx(at, path, FLAGS | flags, StatxFlags::INO)?;
    Ok((found.stx_dev_major, found.stx_dev_minor, found.stx_ino))
}

/// False when the file has no name left. Where the system does not say, it is
/// believed to have one.
fn has_name(file: &OwnedFd) -> bool {
    let found = statx(file, c"", FLAGS | AtFlags::EMPTY_PATH, StatxFlags::NLINK);
    found.is_ok_and(|found| found.stx_nlink > 0) || found.is_err()
}

impl Disk {
    /// After a flush that succeeded: an error when what it made durable is not
    /// where it will be looked for.
    pub(super) fn still_there(
        &mut self,
        now: Instant,
        file: FileId,
        action: &Action,
        result: Result<Gain, i32>,
    ) -> Result<Gain, i32> {
        let (Action::Flush { file: handle, .. }, Ok(_)) = (action, &result) else {
            return result;
        };
        if !has_name(handle) {
            tracing::error!(
                dir = %self.place.dir.display(),
                file = file.path(),
                "a file that is being written was deleted: nothing more is acknowledged from it"
            );
            return Err(libc::ENOENT);
        }
        if self.looked.is_none_or(|at| now - at >= LOOK_EVERY) {
            if !self.place.is_there() {
                tracing::error!(
                    dir = %self.place.dir.display(),
                    "the data directory is not at its place any more: it was moved, deleted or \
                     unmounted. Nothing more is acknowledged. Bring it back and start the node \
                     again, or start it where it is now"
                );
                return Err(libc::ENOENT);
            }
            self.looked = Some(now);
        }
        result
    }

    /// Says to people what a log only counts. A full disk is the log's to tell.
    pub(super) fn tell(&mut self, job: &Job, result: &Result<DiskOutput, DiskError>) {
        if matches!(job.kind, Kind::Open | Kind::Read) {
            return;
        }
        let Err(error) = result else {
            // A file that is made is the first thing that works again.
            if matches!(job.kind, Kind::Create { .. }) {
                self.told = None;
            }
            return;
        };
        if self.told.replace(*error) == Some(*error) {
            return;
        }
        if let DiskError::Io { errno } = *error {
            tracing::error!(
                dir = %self.place.dir.display(),
                file = job.file.path(),
                error = %io::Error::from_raw_os_error(errno),
                "the disk refuses a change"
            );
        }
    }
}
