//! Writing an archive.

use std::io::{self, Read, Write};

use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use crate::hex;
use crate::manifest::Manifest;
use crate::path::{MANIFEST, Place, SUMS};

/// What tar gives things their places in.
const TAR_BLOCK: u64 = 512;

/// Zeros at the end of a tar.
const TAR_END: u64 = 2 * TAR_BLOCK;

/// Bytes of a SHA-256 in hexadecimal.
const SUM_DIGITS: u64 = 64;

/// An archive about to be written; its length is known.
#[derive(Debug)]
pub struct Archive {
    manifest: Manifest,
    encoded: Vec<u8>,
}

/// Why an archive is not finished. What was written of it is no archive.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A file could not be opened or read.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// A file is shorter than it was.
    #[error("{path} is shorter than it was when the backup began")]
    Short {
        /// Which.
        path: String,
    },
    /// Whoever takes the archive is gone.
    #[error("the archive could not be written: {0}")]
    Out(io::Error),
}

impl Archive {
    /// Of these files.
    ///
    /// # Panics
    /// When the manifest is one that would not be read again: it is made by the node.
    #[must_use]
    pub fn new(manifest: Manifest) -> Self {
        let encoded = manifest.encode();
        let read = Manifest::decode(&encoded);
        assert!(read.is_ok(), "a manifest that is written is read: {read:?}");
        Self { manifest, encoded }
    }

    /// What is in it.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Its length in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let entry = |bytes: u64| TAR_BLOCK + bytes.next_multiple_of(TAR_BLOCK);
        let files = self.manifest.files.iter().map(|file| entry(file.bytes));
        entry(self.encoded.len() as u64) + files.sum::<u64>() + entry(self.sums_bytes()) + TAR_END
    }

    fn sums_bytes(&self) -> u64 {
        let line = |path: &str| SUM_DIGITS + 2 + path.len() as u64 + 1;
        let files = self.manifest.files.iter().map(|file| line(&file.path));
        line(MANIFEST) + files.sum::<u64>()
    }
}

/// Writes the archive to `out`; `open` gives the content of a file by its path, of
/// which as much is taken as the manifest says.
///
/// # Errors
/// [`WriteError`].
pub fn write<R: Read>(
    archive: &Archive,
    out: impl Write,
    mut open: impl FnMut(&str) -> io::Result<R>,
) -> Result<(), WriteError> {
    let mut builder = Builder::new(out);
    let mut sums = String::new();
    let manifest = &archive.manifest;
    let mut note = |sum: [u8; 32], path: &str| {
        sums.push_str(&hex(&sum));
        sums.push_str("  ");
        sums.push_str(path);
        sums.push('\n');
    };
    let seconds = manifest.begun_ms / 1000;
    let header = |path: &str, bytes: u64, mode: u32| {
        let mut header = Header::new_ustar();
        // The paths of a data directory are far shorter than tar's 100 bytes.
        header.set_path(path).map_err(WriteError::Out)?;
        header.set_entry_type(EntryType::Regular);
        header.set_size(bytes);
        header.set_mode(mode);
        header.set_mtime(seconds);
        header.set_uid(0);
        header.set_gid(0);
        header.set_cksum();
        Ok(header)
    };
    let encoded = &archive.encoded[..];
    let first = header(MANIFEST, encoded.len() as u64, 0o640)?;
    builder.append(&first, encoded).map_err(WriteError::Out)?;
    note(Sha256::digest(encoded).into(), MANIFEST);
    for file in &manifest.files {
        let path = &file.path;
        let mode = match Place::of(path) {
            Some(Place::Secret) => 0o600,
            _ => 0o640,
        };
        let failed = |source| WriteError::File {
            path: path.clone(),
            source,
        };
        let mut content = Summed {
            inner: open(path).map_err(failed)?.take(file.bytes),
            digest: Sha256::new(),
            bytes: 0,
            failed: None,
        };
        let head = header(path, file.bytes, mode)?;
        let written = builder.append(&head, &mut content);
        if let Some(source) = content.failed {
            return Err(failed(source));
        }
        written.map_err(WriteError::Out)?;
        if content.bytes != file.bytes {
            return Err(WriteError::Short { path: path.clone() });
        }
        note(content.digest.finalize().into(), path);
    }
    debug_assert_eq!(sums.len() as u64, archive.sums_bytes());
    let last = header(SUMS, sums.len() as u64, 0o640)?;
    builder
        .append(&last, sums.as_bytes())
        .map_err(WriteError::Out)?;
    builder
        .into_inner()
        .and_then(|mut out| out.flush())
        .map_err(WriteError::Out)
}

/// A reader that knows what it has read.
struct Summed<R> {
    inner: R,
    digest: Sha256,
    bytes: u64,
    /// Why it ended early: told apart from what happens to the archive.
    failed: Option<io::Error>,
}

impl<R: Read> Read for Summed<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(into) {
            Ok(count) => {
                self.digest.update(&into[..count]);
                self.bytes += count as u64;
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let kind = error.kind();
                self.failed = Some(error);
                Err(kind.into())
            }
        }
    }
}
