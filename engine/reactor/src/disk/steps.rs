//! The steps of a request: what follows when one of them is over.

use std::rc::Rc;

use pinion_commitlog::{BLOCK, Background, DiskError, DiskOutput};

use super::Disk;
use super::files::{disk_error, folder_path, opened};
use super::ring::{Action, Gain};

#[derive(Debug)]
pub(super) enum Kind {
    Open,
    Write,
    Read,
    Create {
        len: u64,
        background: Background,
        step: CreateStep,
    },
    Truncate {
        len: u64,
        step: TruncateStep,
    },
    Remove {
        step: RemoveStep,
    },
}

#[derive(Debug, Clone, Copy)]
pub(super) enum CreateStep {
    Make,
    /// The log's first file: its folder is missing.
    MakeFolder,
    SyncRoot,
    MakeAgain,
    Reserve,
    /// The length is being set: what was reserved reads as zero.
    Extend,
    /// Zeros from this byte on are being written.
    Zero(u64),
    SyncFile,
    OpenFolder,
    SyncFolder,
    /// It failed, and the rest of it is being removed.
    Clean(DiskError),
}

#[derive(Debug, Clone, Copy)]
pub(super) enum TruncateStep {
    Open,
    Shorten,
    Sync,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum RemoveStep {
    Unlink,
    OpenFolder,
    SyncFolder,
}

/// What follows a step.
pub(super) enum Next {
    Start(Action),
    Over(Result<DiskOutput, DiskError>),
}

impl Disk {
    pub(super) fn after_create(
        &mut self,
        token: usize,
        (len, background): (u64, Background),
        step: CreateStep,
        result: Result<Gain, i32>,
    ) -> Next {
        use CreateStep::{
            Clean, Extend, Make, MakeAgain, MakeFolder, OpenFolder, Reserve, SyncFile, SyncFolder,
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
            (Reserve, Ok(_)) if background == Background::Reserved => {
                let file = self.handle(file);
                (Extend, Action::Shorten { file, len })
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
            (Extend, Ok(_)) => {
                let file = self.handle(file);
                (SyncFile, Action::Sync { file })
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
            (Reserve | Extend | Zero(_) | SyncFile | OpenFolder | SyncFolder, failed) => {
                let error = disk_error(failed.err().unwrap_or(libc::EIO));
                self.set_handle(file, None);
                (Clean(error), self.unlink_action(file))
            }
        };
        self.jobs[token].kind = Kind::Create {
            len,
            background,
            step,
        };
        Next::Start(action)
    }

    pub(super) fn after_truncate(
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

    pub(super) fn after_remove(
        &mut self,
        token: usize,
        step: RemoveStep,
        result: Result<Gain, i32>,
    ) -> Next {
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
}

pub(super) fn after_write(action: Action, result: Result<Gain, i32>) -> Next {
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

pub(super) fn after_read(action: Action, result: Result<Gain, i32>) -> Next {
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
    // Less than a block is the end of the file. After more than one the rest is
    // asked for again: what stopped the read may have been an error.
    if from >= data.len() || count < BLOCK {
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
