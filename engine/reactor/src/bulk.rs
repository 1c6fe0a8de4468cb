//! Reading a file of a log from its beginning to some place, beside whoever writes it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use pinion_commitlog::BlockBuf;

/// Bytes read at once. Larger makes fewer calls, smaller lets the log's own reads and
/// writes pass sooner.
const PIECE_BYTES: usize = 256 << 10;

/// A file that is read past the page cache, where the file system allows that: the log
/// writes it directly, and pages that are being read when it does would make its flush
/// fail. It blocks: not for a core that serves.
#[derive(Debug)]
pub struct BulkFile {
    file: File,
    piece: BlockBuf,
    /// Byte of the file where `piece` begins.
    at: u64,
    /// Bytes of `piece` that were read, and those of them that were given.
    filled: usize,
    given: usize,
}

impl BulkFile {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// What the system said.
    pub fn open(path: &Path) -> io::Result<Self> {
        let direct = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECT)
            .open(path);
        let file = match direct {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => File::open(path)?,
            opened => opened?,
        };
        Ok(Self {
            file,
            piece: BlockBuf::zeroed(PIECE_BYTES),
            at: 0,
            filled: 0,
            given: 0,
        })
    }
}

impl Read for BulkFile {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.given == self.filled {
            self.at += self.filled as u64;
            self.given = 0;
            self.filled = self.file.read_at(self.piece.as_mut_slice(), self.at)?;
        }
        let rest = &self.piece.as_slice()[self.given..self.filled];
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        self.given += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_is_read_whole_in_pieces_of_any_size() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("file");
        let content: Vec<u8> = (0_u32..700_000).map(|at| (at % 251) as u8).collect();
        std::fs::write(&path, &content).unwrap();
        for step in [1_000, 4_096, 700_001] {
            let mut file = BulkFile::open(&path).unwrap();
            let (mut read, mut into) = (Vec::new(), vec![0; step]);
            loop {
                match file.read(&mut into).unwrap() {
                    0 => break,
                    count => read.extend_from_slice(&into[..count]),
                }
            }
            assert_eq!(read, content, "{step}");
        }
        let gone = BulkFile::open(&place.path().join("gone")).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
    }
}
