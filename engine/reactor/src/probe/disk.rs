//! The data directory: may it be written, past the page cache, how fast, and for
//! how long.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hdrhistogram::Histogram;
use rustix::fs::{Access, access, statfs};

use super::Finding;
use crate::disk::{takes_direct, write_latency};
use crate::statfs_free;

const CHECK: &str = "data directory";

/// Less free space than this, and a node will fail to write its identity or
/// the next thing after it.
const FREE_BYTES_MIN: u64 = 16 << 20;

/// Less than this is a few minutes of a busy log.
const FREE_BYTES_LOW: u64 = 1 << 30;

/// Writes over which the disk is judged. More tell more of its slow ones and
/// hold the doctor up: a tenth of a second on a hard disk.
const LATENCY_WRITES: u16 = 50;

/// A durable write that takes longer is felt by every client that waits for
/// one: a rotating disk, or a virtual one behind a network.
const LATENCY_P50_HIGH: Duration = Duration::from_millis(5);

/// One write in a hundred above this makes a node's own time limits the next
/// thing to fail.
const LATENCY_P99_HIGH: Duration = Duration::from_millis(50);

/// File systems by the number `statfs` gives (linux/magic.h), and whether a log
/// is at home there.
const FILE_SYSTEMS: [(u64, &str, Home); 14] = [
    (0xef53, "ext4", Home::Good),
    (0x5846_5342, "XFS", Home::Good),
    (0x9123_683e, "btrfs", Home::Slow),
    (0x2fc1_2fc1, "ZFS", Home::Slow),
    (0xf2f5_2010, "F2FS", Home::Slow),
    (0xca45_1a4e, "bcachefs", Home::Slow),
    (0x794c_7630, "overlay", Home::Slow),
    (0x0102_1994, "tmpfs", Home::Memory),
    (0x8584_58f6, "ramfs", Home::Memory),
    (0x6969, "NFS", Home::Remote),
    (0xff53_4d42, "CIFS", Home::Remote),
    (0xfe53_4d42, "SMB", Home::Remote),
    (0x0102_1997, "9P", Home::Remote),
    (0x6573_5546, "FUSE", Home::Remote),
];

/// What a file system means to a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Home {
    /// Overwrites in place.
    Good,
    /// Copies on write, or has another file system below: every write changes
    /// its own records, too.
    Slow,
    /// Gone with the power.
    Memory,
    /// Whether a flush reaches a disk is for others to decide.
    Remote,
}

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
    let magic = statfs(&existing).map_err(io::Error::from);
    // The field is signed and of another width on some architectures.
    #[allow(clippy::cast_sign_loss, clippy::unnecessary_cast)]
    let magic = magic.map(|found| found.f_type as u64 & 0xffff_ffff);
    let direct = takes_direct(&existing);
    let latency = match &direct {
        Ok(direct) => write_latency(&existing, *direct, LATENCY_WRITES),
        Err(error) => Err(error.kind().into()),
    };
    vec![
        writable,
        judge_file_system(magic),
        judge_direct(direct),
        judge_latency(latency),
        judge_space(statfs_free(&existing)),
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

fn judge_file_system(magic: io::Result<u64>) -> Finding {
    const CHECK: &str = "file system";
    let fix = "put the data directory on ext4 or XFS on a disk of this machine";
    let magic = match magic {
        Ok(magic) => magic,
        Err(error) => return Finding::warn(CHECK, format!("not told: {error}"), fix),
    };
    let known = FILE_SYSTEMS.iter().find(|(number, ..)| *number == magic);
    let Some((_, name, home)) = known else {
        return Finding::ok(CHECK, format!("{magic:#x}, which this build does not know"));
    };
    let meaning = match home {
        Home::Good => return Finding::ok(CHECK, *name),
        Home::Slow => "writing costs more than on a file system that overwrites in place",
        Home::Memory => "what is written there is lost with the power",
        Home::Remote => "whether a write that is done is durable is not for this machine to know",
    };
    Finding::warn(CHECK, format!("{name}: {meaning}"), fix)
}

fn judge_direct(tried: io::Result<bool>) -> Finding {
    const CHECK: &str = "direct i/o";
    match tried {
        Ok(true) => Finding::ok(CHECK, "the file system takes O_DIRECT"),
        Ok(false) => Finding::warn(
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

fn judge_latency(times: io::Result<Histogram<u64>>) -> Finding {
    const CHECK: &str = "disk latency";
    let times = match times {
        Ok(times) => times,
        Err(error) => {
            let found = format!("not measured: {error}");
            return Finding::warn(CHECK, found, "see the other findings");
        }
    };
    let at = |quantile| Duration::from_nanos(times.value_at_quantile(quantile));
    let (p50, p99) = (at(0.5), at(0.99));
    let found = format!(
        "a durable write of 4 KiB takes {} µs at p50, {} µs at p99 of {}",
        p50.as_micros(),
        p99.as_micros(),
        times.len()
    );
    if p50 > LATENCY_P50_HIGH || p99 > LATENCY_P99_HIGH {
        let fix =
            "put the data directory on a solid-state disk of this machine, alone if it can be";
        return Finding::warn(CHECK, found, fix);
    }
    Finding::ok(CHECK, found)
}

fn judge_space(space: io::Result<(u64, u64)>) -> Finding {
    const CHECK: &str = "disk space";
    let fix = "free some, or name another directory with --data-dir";
    match space {
        Ok((free, total)) => {
            let found = format!("{} of {} MiB free", free >> 20, total >> 20);
            if free < FREE_BYTES_MIN {
                Finding::fatal(CHECK, found, fix)
            } else if free < FREE_BYTES_LOW {
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
        assert_eq!(findings.len(), 5);
        let measured = |finding: &Finding| finding.found.ends_with("at p99 of 50");
        assert!(findings.iter().any(measured), "{findings:#?}");
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
        let severity = |free| judge_space(Ok((free, 1 << 41))).severity;
        assert_eq!(severity(1 << 40), Severity::Ok);
        assert_eq!(severity(500 << 20), Severity::Warn);
        assert_eq!(severity(1 << 20), Severity::Fatal);
    }

    #[test]
    fn a_file_system_without_direct_access_is_a_warning() {
        let refused = judge_direct(Ok(false));
        assert_eq!(refused.severity, Severity::Warn);
        assert!(refused.found.contains("page cache"));
        assert_eq!(judge_direct(Ok(true)).severity, Severity::Ok);
    }

    #[test]
    fn a_file_system_that_cannot_promise_durability_is_a_warning() {
        let found = |magic| judge_file_system(Ok(magic));
        assert_eq!(found(0xef53).severity, Severity::Ok);
        assert_eq!(found(0x1234).severity, Severity::Ok, "unknown is no fault");
        for (magic, word) in [(0x0102_1994, "power"), (0x6969, "durable")] {
            assert_eq!(found(magic).severity, Severity::Warn);
            assert!(found(magic).found.contains(word));
        }
    }

    #[test]
    fn a_slow_disk_is_a_warning_with_its_numbers() {
        let judge = |fast: u64, slow: u64| {
            let mut times = Histogram::new(2).unwrap();
            times.record_n(fast, 98).unwrap();
            times.record_n(slow, 2).unwrap();
            judge_latency(Ok(times))
        };
        assert_eq!(judge(90_000, 2_000_000).severity, Severity::Ok);
        assert_eq!(judge(90_000, 80_000_000).severity, Severity::Warn);
        let rotating = judge(8_000_000, 9_000_000);
        assert_eq!(rotating.severity, Severity::Warn);
        assert!(rotating.found.contains("of 100"), "{rotating}");
        let failed = judge_latency(Err(io::ErrorKind::Other.into()));
        assert!(failed.found.contains("not measured"));
    }
}
