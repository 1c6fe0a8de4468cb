//! From which number on something is worth an issue.

use pinion_admin_ui::model::Address;

use super::Finding;

/// How long a queue that got a dead letter counts as one that gets them, milliseconds.
pub(crate) const GROWING_MS: u64 = 5 * 60_000;

/// Busy time above which a core is short of time, in thousandths. What arrives together
/// then waits: at 90 % a queue of random arrivals is ten times as long as at 50 %.
pub(crate) const BUSY_PERMILLE: u64 = 900;

/// Seconds in a row that a core must be so busy. One busy second is work.
pub(crate) const BUSY_SECONDS: usize = 10;

/// Time without an answer after which a core is told of: it was asked every second.
pub(crate) const SILENT_MS: u64 = 3_000;

/// The same, after which nothing it owns can be thought to be served.
pub(crate) const SILENT_BAD_MS: u64 = 10_000;

/// Long turns of one core within a minute that are told of. A checkpoint or a page fault
/// now and then makes one.
pub(crate) const STALLS_MINUTE: u64 = 5;

/// Age of the oldest message that is to be taken, from which a queue is told of.
pub(crate) const OLDEST_MS: u64 = 60_000;

/// The same, from which it is worse.
pub(crate) const OLDEST_BAD_MS: u64 = 900_000;

/// Records that a reader has not been sent, from which it is slow, where it is also
/// [`LAG_SECONDS`] behind.
pub(crate) const LAG_RECORDS: u64 = 10_000;

/// How many seconds of what comes in a slow reader has not been sent. A stream with a
/// million records a second has readers ten thousand behind that are as quick as can be.
pub(crate) const LAG_SECONDS: f64 = 10.0;

/// Time before the end of a certificate at which somebody should renew it, milliseconds.
pub(crate) const CERTIFICATE_MS: u64 = 14 * DAY_MS;

/// The same, when it cannot wait.
pub(crate) const CERTIFICATE_BAD_MS: u64 = 2 * DAY_MS;

/// Share of the disk in use that is told of, in thousandths.
pub(crate) const DISK_PERMILLE: u64 = 850;

/// The same, when it cannot wait: a full disk makes a node read-only.
pub(crate) const DISK_BAD_PERMILLE: u64 = 950;

/// Entries that a member of the group lacks from which it is behind.
pub(crate) const MEMBER_LAG: u64 = 10_000;

/// Requests a second that a quota refuses, from which it is told of.
pub(crate) const THROTTLED_PER_S: f64 = 1.0;

const DAY_MS: u64 = 86_400_000;

/// A core that was heard of `age_ms` ago.
pub(crate) fn of_silence(core: u16, age_ms: Option<u64>) -> Option<Finding> {
    let silent = age_ms.is_none_or(|age| age >= SILENT_MS);
    silent.then_some(Finding::CoreSilent {
        core,
        for_ms: age_ms,
    })
}

/// A core with these busy times, one a second, oldest first.
pub(crate) fn of_busy(core: u16, permille: &[u16]) -> Option<Finding> {
    let last = permille.get(permille.len().checked_sub(BUSY_SECONDS)?..)?;
    let busy = last.iter().all(|one| u64::from(*one) >= BUSY_PERMILLE);
    let sum: u64 = last.iter().map(|one| u64::from(*one)).sum();
    busy.then_some(Finding::CoreBusy {
        core,
        permille: sum / BUSY_SECONDS as u64,
    })
}

/// A core with so many long turns in the last minute.
pub(crate) fn of_stalls(core: u16, stalls: u64) -> Option<Finding> {
    (stalls >= STALLS_MINUTE).then_some(Finding::Stalls { core, stalls })
}

/// A disk.
pub(crate) fn of_disk(size_bytes: u64, free_bytes: u64) -> Option<Finding> {
    let used = size_bytes.saturating_sub(free_bytes);
    let used_permille = permille_of(used, size_bytes)?;
    (used_permille >= DISK_PERMILLE).then_some(Finding::DiskFilling {
        used_permille,
        free_bytes,
    })
}

/// A certificate that ends at a time.
pub(crate) fn of_certificate(ends_unix_ms: u64, now_unix_ms: u64) -> Option<Finding> {
    let in_ms = ends_unix_ms.saturating_sub(now_unix_ms);
    (in_ms <= CERTIFICATE_MS).then_some(Finding::CertificateEnds { in_ms })
}

/// A queue with so many dead letters, that got the last of them so long ago, if anybody saw
/// it.
pub(crate) fn of_dead(address: &Address, dead: u64, last_ms: Option<u64>) -> Option<Finding> {
    (dead > 0).then(|| Finding::DeadLetters {
        address: address.clone(),
        dead,
        growing: last_ms.is_some_and(|last| last < GROWING_MS),
    })
}

/// A queue whose oldest message to be taken has that age.
pub(crate) fn of_oldest(address: &Address, oldest_ms: u64, ready: u64) -> Option<Finding> {
    (ready > 0 && oldest_ms >= OLDEST_MS).then(|| Finding::Oldest {
        address: address.clone(),
        oldest_ms,
        ready,
    })
}

/// A stream whose slowest reader lacks so many records, of so many that come a second.
pub(crate) fn of_lag(address: &Address, lag_records: u64, in_per_s: f64) -> Option<Finding> {
    #[expect(clippy::cast_precision_loss, reason = "a threshold, not an account")]
    let behind = lag_records as f64 >= in_per_s * LAG_SECONDS;
    (lag_records >= LAG_RECORDS && behind).then(|| Finding::SlowReader {
        address: address.clone(),
        lag_records,
    })
}

/// A member of the group, as the leader knows it.
pub(crate) fn of_member(name: &str, active: bool, lag_entries: u64) -> Option<Finding> {
    let name = name.to_owned();
    if !active {
        return Some(Finding::MemberSilent { name });
    }
    (lag_entries >= MEMBER_LAG).then_some(Finding::MemberBehind {
        name,
        entries: lag_entries,
    })
}

/// Quotas that refuse so many requests a second.
pub(crate) fn of_throttling(per_s: f64) -> Option<Finding> {
    (per_s >= THROTTLED_PER_S).then_some(Finding::Throttled { per_s })
}

/// A part of a whole, in thousandths; `None` of nothing.
fn permille_of(part: u64, whole: u64) -> Option<u64> {
    let permille = (u128::from(part) * 1000).checked_div(u128::from(whole))?;
    u64::try_from(permille).ok()
}
