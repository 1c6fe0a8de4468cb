//! The data directory: may it be written, past the page cache, and for how long.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, StatVfs, access, statvfs};

use super::Finding;

const CHECK: &str = "data directory";

/// Less free space than this, and a node will fail to write its identity or
/// the next thing after it.
const FREE_BYTES_MIN: u64 = 16 << 20;

/// Less than this is a few minutes of a busy log.
const FREE_BYTES_LOW: u64 = 1 << 30;

/// The cheap part: is it a directory, may it be written.
pub(super) fn writable(data_dir: &Path) -> Finding {
    let existing = nearest_existing(data_dir);
    judge_access(data_dir, &existing, try_access(&existing))
}

/// All of it.
pub(super) fn check(data_dir: &Path) -> Vec<Finding> {
    let writable = writable(data_dir);
    if writable.is_fatal() {
        return vec![writable];
    }
    let existing = nearest_existing(data_dir);
    let space = statvfs(&existing).map_err(io::Error::from);
    vec![
        writable,
        judge_direct(try_direct(&existing)),
        judge_space(space.as_ref().map(free_bytes)),
    ]
}

/// `path`, or the directory above it in which it would be made.
fn nearest_existing(path: &Path) -> PathBuf {
    let found = path.ancestors().find(|path| path.exists());
    match found {
        Some(found) if !found.as_os_str().is_empty() => found.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn try_access(existing: &Path) -> io::Result<()> {
    if !fs::metadata(existing)?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    Ok(access(existing, Access::WRITE_OK | Access::EXEC_OK)?)
}

fn judge_access(data_dir: &Path, existing: &Path, tried: io::Result<()>) -> Finding {
    let at = existing.display();
    match tried {
        Ok(()) if data_dir == existing => Finding::ok(CHECK, format!("{at} can be written")),
        Ok(()) => Finding::ok(CHECK, format!("{} can be made in {at}", data_dir.display())),
        Err(error) => Finding::fatal(
            CHECK,
            format!("{} cannot be written: {at}: {error}", data_dir.display()),
            "name another with --data-dir, or give this user the right to write there",
        ),
    }
}

/// Makes a file for direct I/O, and removes it.
fn try_direct(directory: &Path) -> io::Result<()> {
    let path = directory.join(format!(".pinion-probe-{}", std::process::id()));
    let opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .custom_flags(libc::O_DIRECT)
        .open(&path);
    // The file exists even where the file system refuses the flag after
    // creating it; and where it was never made, there is nothing to remove.
    let _ = fs::remove_file(&path);
    opened.map(drop)
}

fn judge_direct(tried: io::Result<()>) -> Finding {
    const CHECK: &str = "direct i/o";
    match tried {
        Ok(()) => Finding::ok(CHECK, "the file system takes O_DIRECT"),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Finding::warn(
            CHECK,
            "the file system refuses O_DIRECT: writes go through the page cache",
            "put the data directory on ext4 or XFS (a volume, not tmpfs or an overlay)",
        ),
        Err(error) => Finding::warn(
            CHECK,
            format!("a file cannot be made: {error}"),
            "name another directory with --data-dir",
        ),
    }
}

fn free_bytes(space: &StatVfs) -> u64 {
    space.f_bavail.saturating_mul(space.f_frsize)
}

fn judge_space(free: Result<u64, &io::Error>) -> Finding {
    const CHECK: &str = "disk space";
    let fix = "free some, or name another directory with --data-dir";
    match free {
        Ok(bytes) => {
            let found = format!("{} MiB free", bytes >> 20);
            if bytes < FREE_BYTES_MIN {
                Finding::fatal(CHECK, found, fix)
            } else if bytes < FREE_BYTES_LOW {
                Finding::warn(CHECK, found, fix)
            } else {
                Finding::ok(CHECK, found)
            }
        }
        Err(error) => Finding::warn(CHECK, format!("not told: {error}"), fix),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::Severity;
    use super::*;

    #[test]
    fn a_directory_yet_to_be_made_is_judged_by_the_one_above_it() {
        let place = tempfile::tempdir().unwrap();
        let wanted = place.path().join("a/b/c");
        assert_eq!(nearest_existing(&wanted), place.path());
        assert_eq!(nearest_existing(Path::new("no-such-thing")), Path::new("."));
        assert_eq!(writable(&wanted).severity, Severity::Ok);
        assert!(!wanted.exists(), "asking makes nothing");
    }

    #[test]
    fn a_file_in_the_place_of_the_directory_is_fatal() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let inside = file.path().join("data");
        for path in [file.path(), &inside] {
            let findings = check(path);
            assert!(findings[0].is_fatal(), "{findings:?}");
            assert!(findings[0].to_string().contains("--data-dir"));
        }
    }

    #[test]
    fn the_probe_leaves_no_file_behind() {
        let place = tempfile::tempdir().unwrap();
        let findings = check(place.path());
        assert_eq!(findings.len(), 3);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_read_only_or_forbidden_directory_is_fatal() {
        for errno in [libc::EROFS, libc::EACCES] {
            let refused = Err(io::Error::from_raw_os_error(errno));
            let finding = judge_access(Path::new("/data"), Path::new("/data"), refused);
            assert!(finding.is_fatal());
        }
    }

    #[test]
    fn space_is_fatal_when_gone_and_a_warning_when_low() {
        assert_eq!(judge_space(Ok(1 << 40)).severity, Severity::Ok);
        assert_eq!(judge_space(Ok(500 << 20)).severity, Severity::Warn);
        assert_eq!(judge_space(Ok(1 << 20)).severity, Severity::Fatal);
    }

    #[test]
    fn a_file_system_without_direct_access_is_a_warning() {
        let refused = judge_direct(Err(io::Error::from_raw_os_error(libc::EINVAL)));
        assert_eq!(refused.severity, Severity::Warn);
        assert!(refused.found.contains("page cache"));
    }
}
