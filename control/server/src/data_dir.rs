//! A data directory looked at from outside, also while a node has it. Nothing
//! in it is changed.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use pinion_commitlog::{DiskError, FileId, Files, LogId};
use pinion_plane::AUDIT_LOG;
use pinion_raft_group::RAFT_LOG;
use pinion_reactor::FileStore;
use pinion_reactor::store::{Identity, LOCK_FILE, StoreError};

use crate::control::boot::FOLDER;
use crate::meta::META_LOG;
use crate::names::Names;

/// Why a data directory cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ViewError {
    #[error("{} is not there; name the data directory with --data-dir", .0.display())]
    Absent(PathBuf),
    #[error("{} cannot be read: {source}", dir.display())]
    Unreadable { dir: PathBuf, source: DiskError },
    #[error("{} has no log {wanted}; it has {there}", dir.display())]
    NoLog {
        dir: PathBuf,
        wanted: u16,
        there: String,
    },
}

/// Who has the directory open.
#[derive(Debug)]
pub(crate) enum Holder {
    Nobody,
    /// A node, and its process when it could be read.
    Process(Option<u32>),
    /// The lock may not be looked at.
    Unknown(io::Error),
}

impl Holder {
    /// Of `dir`.
    pub(crate) fn of(dir: &Path) -> Self {
        let mut lock = match File::open(dir.join(LOCK_FILE)) {
            Ok(lock) => lock,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::Nobody,
            Err(error) => return Self::Unknown(error),
        };
        // Shared, so that two who look do not see each other, and for as long
        // as two system calls take: a node that starts in between is refused.
        match lock.try_lock_shared() {
            Ok(()) => Self::Nobody,
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // Whoever has it may be writing its number just now.
                let _ = lock.read_to_string(&mut text);
                Self::Process(text.trim().parse().ok())
            }
            Err(TryLockError::Error(error)) => Self::Unknown(error),
        }
    }

    /// What to know before believing what is read meanwhile.
    pub(crate) fn remark(&self) -> Option<String> {
        const MEANWHILE: &str =
            "what it writes meanwhile may look torn, damaged or missing: look again before you act";
        match self {
            Self::Nobody => None,
            Self::Process(Some(pid)) => Some(format!("process {pid} has it open; {MEANWHILE}")),
            Self::Process(None) => Some(format!("a node has it open; {MEANWHILE}")),
            Self::Unknown(error) => Some(format!(
                "whether a node has it open is not told ({error}); if one has, {MEANWHILE}"
            )),
        }
    }
}

/// The logs of a data directory, with those of the control plane, which lie in a
/// folder of their own.
#[derive(Debug)]
pub(crate) struct Logs {
    data: FileStore,
    control: FileStore,
}

impl Logs {
    pub(crate) fn new(dir: &Path) -> Self {
        Self {
            data: FileStore::new(dir),
            control: FileStore::new(dir.join(FOLDER)),
        }
    }

    /// The logs that have a folder, in their order.
    fn all(&self) -> Result<Vec<LogId>, DiskError> {
        let mut logs = self.data.logs()?;
        // A directory of an earlier release has none of these.
        match self.control.logs() {
            Ok(control) => logs.extend(control.into_iter().filter(|log| is_control(*log))),
            Err(DiskError::Missing) => {}
            Err(error) => return Err(error),
        }
        logs.sort_unstable();
        Ok(logs)
    }

    fn of(&mut self, log: LogId) -> &mut FileStore {
        if is_control(log) {
            &mut self.control
        } else {
            &mut self.data
        }
    }
}

impl Files for Logs {
    fn list(&mut self, log: LogId) -> Result<(Vec<(FileId, u64)>, Vec<String>), DiskError> {
        self.of(log).list(log)
    }

    fn read(&mut self, file: FileId, offset: u64, into: &mut [u8]) -> Result<usize, DiskError> {
        self.of(file.log()).read(file, offset, into)
    }
}

/// Whether it is a log of the control plane.
pub(crate) fn is_control(log: LogId) -> bool {
    log == RAFT_LOG || log == AUDIT_LOG
}

/// A file's path below the data directory.
pub(crate) fn path_of(file: FileId) -> String {
    if is_control(file.log()) {
        format!("{FOLDER}/{}", file.path())
    } else {
        file.path()
    }
}

/// A data directory and what it says of itself.
pub(crate) struct View {
    pub(crate) dir: PathBuf,
    pub(crate) files: Logs,
    /// Those to look at, those of the control plane last.
    pub(crate) logs: Vec<LogId>,
    pub(crate) names: Names,
    pub(crate) holder: Holder,
    /// `None`: nothing durable was ever there.
    pub(crate) identity: Result<Option<Identity>, StoreError>,
}

impl View {
    /// Of `dir`; of one log or all.
    ///
    /// # Errors
    /// There is no such directory, or no such log in it.
    pub(crate) fn open(dir: &Path, only: Option<u16>) -> Result<Self, ViewError> {
        let mut files = Logs::new(dir);
        let mut logs = files.all().map_err(|source| match source {
            DiskError::Missing => ViewError::Absent(dir.to_owned()),
            source => ViewError::Unreadable {
                dir: dir.to_owned(),
                source,
            },
        })?;
        if let Some(wanted) = only {
            if !logs.contains(&LogId(wanted)) {
                let there: Vec<String> = logs.iter().map(|log| log.0.to_string()).collect();
                return Err(ViewError::NoLog {
                    dir: dir.to_owned(),
                    wanted,
                    there: match &there[..] {
                        [] => "none".to_owned(),
                        there => there.join(", "),
                    },
                });
            }
            logs.retain(|log| log.0 == wanted);
        }
        let identity = Identity::read(dir);
        let known = identity.as_ref().ok().and_then(Option::as_ref);
        let store = known.map(|identity| identity.uuid);
        Ok(Self {
            dir: dir.to_owned(),
            names: Names::read(&mut files, store),
            files,
            logs,
            holder: Holder::of(dir),
            identity,
        })
    }

    /// The store its files must belong to, when that is known.
    pub(crate) fn store(&self) -> Option<[u8; 16]> {
        let identity = self.identity.as_ref().ok()?.as_ref()?;
        Some(identity.uuid)
    }

    /// Bytes of every file to be looked at; what cannot be listed counts nothing.
    pub(crate) fn bytes(&mut self) -> u64 {
        let files = &mut self.files;
        let listed = self.logs.iter().filter_map(|log| files.list(*log).ok());
        listed
            .flat_map(|(files, _)| files)
            .map(|(_, len)| len)
            .sum()
    }
}

/// What the log is called.
pub(crate) fn log_name(log: LogId) -> String {
    match log {
        RAFT_LOG => format!("log {} (metadata)", log.0),
        AUDIT_LOG => format!("log {} (audit)", log.0),
        META_LOG => format!("log {} (declarations)", log.0),
        log => format!("log {}", log.0),
    }
}

/// `Files` that tell how much was read, for a progress bar.
pub(crate) struct Watched<'a> {
    pub(crate) files: &'a mut Logs,
    pub(crate) progress: &'a mut dyn FnMut(u64),
}

impl Files for Watched<'_> {
    fn list(&mut self, log: LogId) -> Result<(Vec<(FileId, u64)>, Vec<String>), DiskError> {
        self.files.list(log)
    }

    fn read(&mut self, file: FileId, offset: u64, into: &mut [u8]) -> Result<usize, DiskError> {
        let read = self.files.read(file, offset, into)?;
        (self.progress)(read as u64);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use pinion_reactor::store::DirLock;

    use super::*;

    #[test]
    fn who_has_a_directory_open_is_seen_and_not_disturbed() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Holder::of(dir.path()), Holder::Nobody));
        let lock = DirLock::take(dir.path()).unwrap();
        let us = Some(std::process::id());
        assert!(matches!(Holder::of(dir.path()), Holder::Process(pid) if pid == us));
        drop(lock);
        assert!(matches!(Holder::of(dir.path()), Holder::Nobody));
        DirLock::take(dir.path()).unwrap();
    }

    #[test]
    fn a_directory_without_the_log_asked_for_says_which_it_has() {
        let dir = tempfile::tempdir().unwrap();
        let no_log = |only| match View::open(dir.path(), Some(only)) {
            Ok(_) => panic!("there is no log {only}"),
            Err(error) => error.to_string(),
        };
        assert!(no_log(3).ends_with("has no log 3; it has none"));
        std::fs::create_dir(dir.path().join("log-0002")).unwrap();
        assert!(no_log(3).ends_with("it has 2"));
        let gone = View::open(&dir.path().join("gone"), None).err().unwrap();
        assert!(gone.to_string().contains("--data-dir"), "{gone}");
    }
}
