//! How much room a file system has.

use std::io;
use std::path::Path;

use rustix::fs::statvfs;

/// Bytes free for this user, and bytes in all, of the file system that holds
/// `dir`. One system call, which a network file system may make wait: once a
/// second is enough to watch a disk fill up.
///
/// # Errors
/// When `dir` is not there or may not be looked at.
pub fn statfs_free(dir: &Path) -> io::Result<(u64, u64)> {
    let space = statvfs(dir)?;
    let bytes = |blocks: u64| blocks.saturating_mul(space.f_frsize);
    Ok((bytes(space.f_bavail), bytes(space.f_blocks)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_free_is_a_part_of_what_there_is() {
        let (free, total) = statfs_free(Path::new("/")).unwrap();
        assert!(free <= total && total > 0, "{free} of {total}");
        let gone = statfs_free(Path::new("/no/such/place")).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
    }
}
