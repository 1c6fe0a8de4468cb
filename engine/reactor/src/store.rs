//! A data directory as a whole: one process at a time uses it ([`DirLock`]),
//! and it says which store it is ([`Identity`]).
//!
//! Everything here blocks and runs before the cores start.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::FileStore;

/// Name of the identity's file.
pub const IDENTITY_FILE: &str = "pinion.store";

/// Name of the lock's file.
pub const LOCK_FILE: &str = "pinion.lock";

/// The format of data directories this build reads and writes.
pub const FORMAT: u32 = 1;

const MAGIC: [u8; 8] = *b"PINSTORE";

/// Length of the identity's file.
const IDENTITY_BYTES: usize = 64;

/// Why a data directory cannot be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it.
    #[error("{} is in use by {}", dir.display(), holder(*pid))]
    InUse {
        /// The data directory.
        dir: PathBuf,
        /// The process, if it could be read.
        pid: Option<u32>,
    },
    /// The file system is mounted read-only.
    #[error("{} is read-only", path.display())]
    ReadOnly {
        /// What was to be written.
        path: PathBuf,
    },
    /// This user may not.
    #[error("{}: permission denied", path.display())]
    Denied {
        /// What was to be read or written.
        path: PathBuf,
    },
    /// The directory, or a part of its path, is not there (any more).
    #[error("{} is not there", path.display())]
    Vanished {
        /// What was looked for.
        path: PathBuf,
    },
    /// Something else lies in the directory's place.
    #[error("{} is not a directory", path.display())]
    NotADirectory {
        /// What was to be a directory.
        path: PathBuf,
    },
    /// No space left for a small file.
    #[error("{}: no space left on the device", path.display())]
    Full {
        /// What was to be written.
        path: PathBuf,
    },
    /// It was written by a newer build.
    #[error("{} has format {found}, this build knows up to {known}", path.display())]
    Future {
        /// The identity's file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest this build knows.
        known: u32,
    },
    /// The identity cannot be read: it is not what was once written.
    #[error("{} is damaged: {what}", path.display())]
    Damaged {
        /// The identity's file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// There are logs, but nothing says whose.
    #[error("{} holds logs but no {IDENTITY_FILE}", dir.display())]
    Nameless {
        /// The data directory.
        dir: PathBuf,
    },
    /// It is there already, so it cannot be made.
    #[error("{} exists already", path.display())]
    Exists {
        /// The identity's file.
        path: PathBuf,
    },
    /// Anything else.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was to be read or written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(
        || "another process".to_owned(),
        |pid| format!("process {pid}"),
    )
}

impl StoreError {
    fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { path },
            io::ErrorKind::PermissionDenied => Self::Denied { path },
            io::ErrorKind::NotFound => Self::Vanished { path },
            io::ErrorKind::NotADirectory => Self::NotADirectory { path },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path },
            _ => Self::Io { path, source },
        }
    }
}

/// A data directory held for this process until dropped. The kernel lets go of
/// it when the process ends, however it ends.
#[derive(Debug)]
pub struct DirLock {
    // Holds the lock; never read.
    _file: File,
}

impl DirLock {
    /// Takes `dir`, which must exist.
    ///
    /// # Errors
    /// [`StoreError::InUse`] names the process that has it.
    pub fn take(dir: &Path) -> Result<Self, StoreError> {
        is_directory(dir)?;
        let path = dir.join(LOCK_FILE);
        let at = || StoreError::at(&path);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(at())?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                // Whoever has it may be writing its number just now.
                let _ = file.read_to_string(&mut text);
                return Err(StoreError::InUse {
                    dir: dir.to_owned(),
                    pid: text.trim().parse().ok(),
                });
            }
            Err(errno) => return Err(at()(errno.into())),
        }
        // The file stays when the lock goes: removing it would let two
        // processes lock two files of one name.
        let written = file
            .set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        match written.map_err(at()) {
            // The lock is what counts; a second process is refused without the
            // number. A node must be able to start on a full disk.
            Ok(()) | Err(StoreError::Full { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(Self { _file: file })
    }
}

/// Which store a data directory is. Written once, never changed.
///
/// The file `pinion.store` has 64 bytes, integers little-endian: magic
/// `PINSTORE`, format u32, flags u32 (0), uuid \[16\], time of making in
/// milliseconds since 1970 u64, 20 bytes of zero, CRC-32C of the 60 bytes before
/// u32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Random; every segment repeats it, so that a file of another store is
    /// noticed.
    pub uuid: [u8; 16],
    /// Format of the directory, at most [`FORMAT`].
    pub format: u32,
    /// When it was made, in milliseconds since 1970.
    pub created_wall_ms: u64,
}

impl Identity {
    /// The identity of `dir`; `None` when the directory is there and holds
    /// neither an identity nor logs.
    ///
    /// # Errors
    /// [`StoreError`], which see.
    pub fn read(dir: &Path) -> Result<Option<Self>, StoreError> {
        is_directory(dir)?;
        let path = dir.join(IDENTITY_FILE);
        let at = || StoreError::at(&path);
        let mut bytes = Vec::with_capacity(IDENTITY_BYTES + 1);
        match File::open(&path) {
            Ok(file) => {
                // One more than it may have, which is enough to see that.
                let mut file = file.take(IDENTITY_BYTES as u64 + 1);
                file.read_to_end(&mut bytes).map_err(at())?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let logs = FileStore::new(dir).logs();
                return match logs {
                    Ok(logs) if logs.is_empty() => Ok(None),
                    _ => Err(StoreError::Nameless {
                        dir: dir.to_owned(),
                    }),
                };
            }
            Err(error) => return Err(at()(error)),
        }
        match decode(&bytes) {
            Ok(identity) if identity.format > FORMAT => Err(StoreError::Future {
                path,
                found: identity.format,
                known: FORMAT,
            }),
            Ok(identity) => Ok(Some(identity)),
            Err(what) => Err(StoreError::Damaged { path, what }),
        }
    }

    /// Writes the identity of `dir`, so that after a crash it is whole or not
    /// there. The directory must exist and be locked.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when it has one; otherwise [`StoreError`].
    pub fn create(&self, dir: &Path) -> Result<(), StoreError> {
        is_directory(dir)?;
        let path = dir.join(IDENTITY_FILE);
        match fs::symlink_metadata(&path) {
            Ok(_) => return Err(StoreError::Exists { path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(StoreError::at(&path)(error)),
        }
        // Left behind by a crash, it is written anew.
        let draft = dir.join(format!("{IDENTITY_FILE}.tmp"));
        let write = || {
            let mut file = File::create(&draft)?;
            file.write_all(&encode(self))?;
            // Content before name before folder: at no moment is there a named
            // file without its content.
            file.sync_all()?;
            fs::rename(&draft, &path)?;
            File::open(dir)?.sync_all()
        };
        write().map_err(StoreError::at(&path))
    }
}

fn encode(identity: &Identity) -> [u8; IDENTITY_BYTES] {
    let mut bytes = [0; IDENTITY_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&identity.format.to_le_bytes());
    bytes[16..32].copy_from_slice(&identity.uuid);
    bytes[32..40].copy_from_slice(&identity.created_wall_ms.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..60]);
    bytes[60..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Result<Identity, &'static str> {
    let bytes: &[u8; IDENTITY_BYTES] = bytes.try_into().map_err(|_| "it is not 64 bytes long")?;
    let word = |at: usize| u32::from_le_bytes(*bytes[at..].first_chunk().expect("within 64"));
    if bytes[..8] != MAGIC {
        return Err("it does not begin as one");
    }
    if word(60) != crc32c::crc32c(&bytes[..60]) {
        return Err("its checksum does not fit");
    }
    let format = word(8);
    // What a newer format puts into these is its own matter.
    if format <= FORMAT && (format == 0 || word(12) != 0 || bytes[40..60] != [0; 20]) {
        return Err("it has bits this format does not have");
    }
    Ok(Identity {
        uuid: *bytes[16..].first_chunk().expect("within 64"),
        format,
        created_wall_ms: u64::from_le_bytes(*bytes[32..].first_chunk().expect("within 64")),
    })
}

fn is_directory(dir: &Path) -> Result<(), StoreError> {
    let metadata = fs::metadata(dir).map_err(StoreError::at(dir))?;
    if metadata.is_dir() {
        Ok(())
    } else {
        Err(StoreError::NotADirectory {
            path: dir.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const OURS: Identity = Identity {
        uuid: *b"0123456789abcdef",
        format: 1,
        created_wall_ms: 0x0102_0304_0506,
    };

    #[test]
    fn a_store_is_known_again_and_never_renamed() {
        let place = tempfile::tempdir().unwrap();
        assert_eq!(Identity::read(place.path()).unwrap(), None);
        fs::write(place.path().join("pinion.store.tmp"), "of a crash").unwrap();
        OURS.create(place.path()).unwrap();
        assert_eq!(Identity::read(place.path()).unwrap(), Some(OURS));
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
        let again = OURS.create(place.path()).unwrap_err();
        assert!(matches!(again, StoreError::Exists { .. }));
    }

    #[test]
    fn the_bytes_of_an_identity_are_what_the_document_says() {
        let bytes = encode(&OURS);
        assert_eq!(&bytes[..16], b"PINSTORE\x01\0\0\0\0\0\0\0");
        assert_eq!(&bytes[16..32], b"0123456789abcdef");
        assert_eq!(&bytes[32..40], &[6, 5, 4, 3, 2, 1, 0, 0]);
        assert_eq!(bytes[40..60], [0; 20]);
        // CRC-32C of the above, by another implementation.
        assert_eq!(&bytes[60..], &[0x8c, 0xc1, 0xa2, 0xc0]);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let good = encode(&OURS);
        for bit in 0..good.len() * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            decode(&bad).unwrap_err();
        }
        decode(&good[..63]).unwrap_err();
        decode(&[&good[..], &[0]].concat()).unwrap_err();
    }

    #[test]
    fn unknown_bits_and_a_future_format_are_refused_in_words() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join(IDENTITY_FILE);
        let sealed = |at: usize, value: u8| {
            let mut bytes = encode(&OURS);
            bytes[at] = value;
            let crc = crc32c::crc32c(&bytes[..60]);
            bytes[60..].copy_from_slice(&crc.to_le_bytes());
            fs::write(&path, bytes).unwrap();
            Identity::read(place.path()).unwrap_err().to_string()
        };
        assert!(sealed(8, 9).ends_with("pinion.store has format 9, this build knows up to 1"));
        for at in [12, 59] {
            assert!(sealed(at, 1).contains("damaged: it has bits"));
        }
        assert!(sealed(8, 0).contains("damaged"));
    }

    #[test]
    fn a_directory_that_is_none_or_gone_or_nameless_is_told_apart() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("file");
        fs::write(&file, "").unwrap();
        for path in [&file, &file.join("below")] {
            for error in [
                Identity::read(path).unwrap_err(),
                DirLock::take(path).unwrap_err(),
                OURS.create(path).unwrap_err(),
            ] {
                assert!(matches!(error, StoreError::NotADirectory { .. }), "{error}");
            }
        }
        let gone = Identity::read(&place.path().join("gone")).unwrap_err();
        assert!(matches!(gone, StoreError::Vanished { .. }), "{gone}");
        fs::create_dir(place.path().join("log-0000")).unwrap();
        let nameless = Identity::read(place.path()).unwrap_err();
        assert!(
            nameless
                .to_string()
                .contains("holds logs but no pinion.store")
        );
    }

    #[test]
    fn what_the_system_says_has_a_name() {
        let named = |errno| {
            let path = Path::new("/data");
            StoreError::at(path)(io::Error::from_raw_os_error(errno)).to_string()
        };
        assert_eq!(named(libc::EROFS), "/data is read-only");
        assert_eq!(named(libc::EACCES), "/data: permission denied");
        assert_eq!(named(libc::ENOENT), "/data is not there");
        assert_eq!(named(libc::ENOSPC), "/data: no space left on the device");
        assert!(named(libc::EIO).starts_with("/data: "));
    }

    #[test]
    fn a_second_process_is_refused_by_the_number_of_the_first() {
        let place = tempfile::tempdir().unwrap();
        let lock = DirLock::take(place.path()).unwrap();
        let refused = DirLock::take(place.path()).unwrap_err().to_string();
        let us = format!("is in use by process {}", std::process::id());
        assert!(refused.ends_with(&us), "{refused}");
        drop(lock);
        DirLock::take(place.path()).unwrap();
    }
}
