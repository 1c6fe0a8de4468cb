//! Reading an archive: nothing of it is believed before it was compared.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

use sha2::{Digest, Sha256};
use tar::{Entry, EntryType};

use crate::hex;
use crate::manifest::{FileEntry, MANIFEST_BYTES_MAX, Manifest, ManifestError};
use crate::path::{MANIFEST, SUMS};

/// Bytes of a file that are handed on at once.
const PIECE_BYTES: usize = 256 << 10;

/// Who takes the files of an archive.
pub trait Sink {
    /// What is in it; the first thing that is told.
    ///
    /// # Errors
    /// It is not wanted: reading ends with [`ArchiveError::Sink`].
    fn begin(&mut self, manifest: &Manifest) -> io::Result<()>;

    /// A file begins.
    ///
    /// # Errors
    /// Likewise.
    fn file(&mut self, file: &FileEntry) -> io::Result<()>;

    /// Its next bytes.
    ///
    /// # Errors
    /// Likewise.
    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// It is complete.
    ///
    /// # Errors
    /// Likewise.
    fn end(&mut self) -> io::Result<()>;
}

/// A sink that keeps nothing: for looking whether an archive is whole.
#[derive(Clone, Copy, Debug, Default)]
pub struct Discard;

impl Sink for Discard {
    fn begin(&mut self, _manifest: &Manifest) -> io::Result<()> {
        Ok(())
    }
    fn file(&mut self, _file: &FileEntry) -> io::Result<()> {
        Ok(())
    }
    fn bytes(&mut self, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }
    fn end(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Why an archive is refused.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It could not be read.
    #[error("the backup cannot be read: {0}")]
    Io(io::Error),
    /// It is no backup of a node.
    #[error("this is no backup of Pinion: {what}")]
    Foreign {
        /// What gives it away.
        what: &'static str,
    },
    /// Its first entry.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// It ends before its end: it was cut off.
    #[error("the backup is cut off: it ends {place}")]
    Truncated {
        /// Where, in words.
        place: String,
    },
    /// An entry is not the one that comes next.
    #[error("the backup is not as it was written: '{expected}' comes next, and '{found}' is there")]
    Entry {
        /// What the manifest says.
        expected: String,
        /// What is there, made printable.
        found: String,
    },
    /// A checksum does not fit.
    #[error("the backup is damaged: the checksum of '{path}' does not fit")]
    Checksum {
        /// Of which entry.
        path: String,
    },
    /// Something follows the last entry.
    #[error("the backup is not as it was written: something follows its last entry")]
    Trailing,
    /// Whoever takes the files could not.
    #[error(transparent)]
    Sink(io::Error),
}

/// Reads a whole archive and hands its files to `sink` as they come. `Ok` says that all
/// of it is as it was written; before that nothing that the sink was given is certain.
///
/// # Errors
/// [`ArchiveError`].
pub fn read(input: impl Read, sink: &mut dyn Sink) -> Result<Manifest, ArchiveError> {
    let ended = Rc::new(Cell::new(false));
    let mut archive = tar::Archive::new(Watched {
        inner: input,
        ended: Rc::clone(&ended),
    });
    // Raw: entries that change the meaning of others, as tars with long names have
    // them, are entries that nobody expects here.
    let entries = archive.entries().map_err(ArchiveError::Io)?;
    let mut entries = entries.raw(true);
    let mut next = |expected: &str, place: &dyn Fn() -> String| match entries.next() {
        Some(Ok(entry)) => Ok(entry),
        None => Err(ArchiveError::Truncated { place: place() }),
        // What tar says of it does not tell an end from anything else.
        Some(Err(_)) if ended.get() => Err(ArchiveError::Truncated { place: place() }),
        Some(Err(_)) if expected == MANIFEST => Err(ArchiveError::Foreign {
            what: "it is no tar",
        }),
        Some(Err(error)) => Err(broken(error, expected)),
    };

    let mut first = next(MANIFEST, &|| "before its first entry".to_owned())?;
    if name(&first) != MANIFEST.as_bytes() || first.header().entry_type() != EntryType::Regular {
        return Err(ArchiveError::Foreign {
            what: "its first entry is no manifest",
        });
    }
    if first.size() > MANIFEST_BYTES_MAX {
        return Err(ArchiveError::Foreign {
            what: "its manifest is longer than one can be",
        });
    }
    let size = first.size();
    let encoded = whole(&mut first, size, MANIFEST)?;
    drop(first);
    let manifest = Manifest::decode(&encoded)?;
    sink.begin(&manifest).map_err(ArchiveError::Sink)?;

    let mut expected = String::new();
    let mut note = |sum: &[u8], path: &str| {
        expected.push_str(&hex(sum));
        expected.push_str("  ");
        expected.push_str(path);
        expected.push('\n');
    };
    note(&Sha256::digest(&encoded), MANIFEST);
    let mut piece = vec![0; PIECE_BYTES];
    for file in &manifest.files {
        let mut entry = next(&file.path, &|| format!("before {}", file.path))?;
        is_next(&entry, &file.path, file.bytes)?;
        sink.file(file).map_err(ArchiveError::Sink)?;
        let (mut digest, mut left) = (Sha256::new(), file.bytes);
        while left > 0 {
            let want = usize::try_from(left)
                .unwrap_or(PIECE_BYTES)
                .min(PIECE_BYTES);
            let count = match entry.read(&mut piece[..want]) {
                Ok(0) => return Err(cut_in(&file.path)),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(broken(error, &file.path)),
            };
            digest.update(&piece[..count]);
            sink.bytes(&piece[..count]).map_err(ArchiveError::Sink)?;
            left -= count as u64;
        }
        sink.end().map_err(ArchiveError::Sink)?;
        note(&digest.finalize(), &file.path);
    }

    let mut last = next(SUMS, &|| "before its checksums".to_owned())?;
    is_next(&last, SUMS, expected.len() as u64)?;
    let sums = whole(&mut last, expected.len() as u64, SUMS)?;
    drop(last);
    if sums != expected.as_bytes() {
        return Err(ArchiveError::Checksum {
            path: first_wrong(&sums, &expected),
        });
    }
    match entries.next() {
        None => {}
        Some(Ok(_)) => return Err(ArchiveError::Trailing),
        Some(Err(error)) => return Err(broken(error, "its end")),
    }
    Ok(manifest)
}

/// A reader that remembers that it came to its end.
struct Watched<R> {
    inner: R,
    ended: Rc<Cell<bool>>,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(into)?;
        self.ended.set(count == 0 && !into.is_empty());
        Ok(count)
    }
}

fn name<'a, R: Read>(entry: &'a Entry<'_, R>) -> std::borrow::Cow<'a, [u8]> {
    entry.path_bytes()
}

fn is_next<R: Read>(entry: &Entry<'_, R>, path: &str, bytes: u64) -> Result<(), ArchiveError> {
    let found = name(entry);
    let plain = entry.header().entry_type() == EntryType::Regular;
    if found == path.as_bytes() && plain && entry.size() == bytes {
        return Ok(());
    }
    let (found, size) = (String::from_utf8_lossy(&found), entry.size());
    Err(ArchiveError::Entry {
        expected: format!("{path} ({bytes} bytes)"),
        found: format!("{} ({size} bytes)", found.escape_debug()),
    })
}

fn whole<R: Read>(
    entry: &mut Entry<'_, R>,
    bytes: u64,
    path: &str,
) -> Result<Vec<u8>, ArchiveError> {
    let mut content = Vec::new();
    // It grows with what comes, not with what the header promises.
    let read = entry.take(bytes).read_to_end(&mut content);
    read.map_err(|error| broken(error, path))?;
    if content.len() as u64 == bytes {
        return Ok(content);
    }
    Err(cut_in(path))
}

/// The first line that is another than it should be.
fn first_wrong(sums: &[u8], expected: &str) -> String {
    let lines = sums.split(|byte| *byte == b'\n');
    let wrong = expected
        .lines()
        .zip(lines)
        .find(|(right, line)| right.as_bytes() != *line);
    let path = wrong.and_then(|(right, _)| right.split_once("  "));
    path.map_or(SUMS, |(_, path)| path).to_owned()
}

fn cut_in(path: &str) -> ArchiveError {
    ArchiveError::Truncated {
        place: format!("in {path}"),
    }
}

fn broken(error: io::Error, path: &str) -> ArchiveError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => cut_in(path),
        // What tar says of a header that is none.
        io::ErrorKind::Other | io::ErrorKind::InvalidData => ArchiveError::Entry {
            expected: path.to_owned(),
            found: error.to_string(),
        },
        _ => ArchiveError::Io(error),
    }
}
