//! The archive of a backup: what is in it, written and read as a stream.
//!
//! It is a tar whose first entry says what follows and whose last one has the SHA-256
//! of everything before, so that its length is known before its first byte and its end
//! proves the rest. This crate decides what an archive may say and what may be believed
//! of one; it opens no file, and takes a path only when it is one of those that a data
//! directory has. `docs/backup-format.md` is this crate in words.
//!
//! Start reading at [`Manifest`], then [`write()`] and [`read()`].

#![forbid(unsafe_code)]

mod manifest;
mod path;
mod read;
mod write;

pub use manifest::{
    FORMAT, FileEntry, LogEntry, MANIFEST_BYTES_MAX, Manifest, ManifestError, Metadata,
};
pub use path::{MANIFEST, METADATA, Place, SUMS};
pub use read::{ArchiveError, Discard, Sink, read};
pub use write::{Archive, WriteError, write};

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use core::fmt::Write as _;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a string takes all");
    }
    text
}

/// Sixteen bytes from 32 lower-case hexadecimal digits.
#[must_use]
pub fn unhex16(text: &str) -> Option<[u8; 16]> {
    let digits = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if text.len() != 32 || !text.bytes().all(digits) {
        return None;
    }
    Some(u128::from_str_radix(text, 16).ok()?.to_be_bytes())
}
