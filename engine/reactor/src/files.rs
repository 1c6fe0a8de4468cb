//! A log's files as recovery and the tools for people read them.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use pinion_commitlog::{DiskError, FileId, Files, LogId};

use crate::disk::{disk_error, folder_name};

/// The files below a data directory. It only reads, through the page cache, and
/// blocks: not for a core that serves.
#[derive(Debug)]
pub struct FileStore {
    dir: PathBuf,
    /// Recovery reads a file in many pieces before it comes to the next.
    open: Option<(FileId, File)>,
}

impl FileStore {
    /// Of the data directory `dir`. Nothing is read yet.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            open: None,
        }
    }

    /// The data directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The logs that have a folder, in their order.
    ///
    /// # Errors
    /// What the disk said; [`DiskError::Missing`] without a data directory.
    pub fn logs(&self) -> Result<Vec<LogId>, DiskError> {
        let mut logs = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(from_io)? {
            let entry = entry.map_err(from_io)?;
            let name = entry.file_name();
            let number = name
                .to_str()
                .and_then(|name| name.strip_prefix("log-"))
                .and_then(|number| number.parse().ok());
            // Only the one spelling that a log gives its folder.
            logs.extend(
                number
                    .map(LogId)
                    .filter(|log| name == *folder_name(*log) && entry.path().is_dir()),
            );
        }
        logs.sort_unstable();
        Ok(logs)
    }

    fn file(&mut self, id: FileId) -> Result<&File, DiskError> {
        let open = match self.open.take() {
            Some((other, file)) if other == id => (id, file),
            _ => (id, File::open(self.dir.join(id.path())).map_err(from_io)?),
        };
        Ok(&self.open.insert(open).1)
    }
}

impl Files for FileStore {
    /// As [`Files::list`]; a log without a folder has no files.
    fn list(&mut self, log: LogId) -> Result<(Vec<(FileId, u64)>, Vec<String>), DiskError> {
        // What is listed may have been removed and made again.
        self.open = None;
        let (mut files, mut foreign) = (Vec::new(), Vec::new());
        let entries = match fs::read_dir(self.dir.join(folder_name(log))) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((files, foreign)),
            entries => entries.map_err(from_io)?,
        };
        for entry in entries {
            let entry = entry.map_err(from_io)?;
            let name = entry.file_name();
            let metadata = entry.metadata().map_err(from_io)?;
            let id = name.to_str().and_then(|name| FileId::from_name(log, name));
            match id.filter(|_| metadata.is_file()) {
                Some(id) => files.push((id, metadata.len())),
                None => foreign.push(name.to_string_lossy().into_owned()),
            }
        }
        Ok((files, foreign))
    }

    fn read(&mut self, file: FileId, offset: u64, into: &mut [u8]) -> Result<usize, DiskError> {
        let file = self.file(file)?;
        let mut filled = 0;
        while filled < into.len() {
            match file.read_at(&mut into[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(from_io(error)),
            }
        }
        Ok(filled)
    }
}

#[allow(clippy::needless_pass_by_value)] // The shape `map_err` wants.
fn from_io(error: io::Error) -> DiskError {
    disk_error(error.raw_os_error().unwrap_or(libc::EIO))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const FIRST: FileId = FileId::Segment {
        log: LogId(2),
        number: 1,
    };

    #[test]
    fn files_of_a_log_are_told_from_what_lies_beside_them() {
        let place = tempfile::tempdir().unwrap();
        let mut store = FileStore::new(place.path());
        assert_eq!(store.list(LogId(2)).unwrap(), (vec![], vec![]));
        assert_eq!(store.logs().unwrap(), []);
        for folder in ["log-0002", "log-0010", "log-3", "log-00004", "other"] {
            fs::create_dir(place.path().join(folder)).unwrap();
        }
        fs::write(place.path().join("log-0007"), "a file").unwrap();
        fs::write(place.path().join(FIRST.path()), [7; 5000]).unwrap();
        fs::write(place.path().join("log-0002/notes"), "").unwrap();
        assert_eq!(store.logs().unwrap(), [LogId(2), LogId(10)]);
        let (files, foreign) = store.list(LogId(2)).unwrap();
        assert_eq!(files, [(FIRST, 5000)]);
        assert_eq!(foreign, ["notes"]);
    }

    #[test]
    fn a_read_is_short_only_at_the_end_and_a_missing_file_is_named_so() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("log-0002")).unwrap();
        fs::write(place.path().join(FIRST.path()), [7; 5000]).unwrap();
        let mut store = FileStore::new(place.path());
        let mut into = [0; 3000];
        assert_eq!(store.read(FIRST, 1, &mut into), Ok(3000));
        assert_eq!(store.read(FIRST, 4000, &mut into), Ok(1000));
        assert_eq!(store.read(FIRST, 6000, &mut into), Ok(0));
        fs::remove_file(place.path().join(FIRST.path())).unwrap();
        store.list(LogId(2)).unwrap();
        assert_eq!(store.read(FIRST, 0, &mut into), Err(DiskError::Missing));
        let nowhere = FileStore::new(place.path().join("none"));
        assert_eq!(nowhere.logs(), Err(DiskError::Missing));
    }
}
