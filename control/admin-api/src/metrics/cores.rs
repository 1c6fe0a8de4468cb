//! What the data cores of this node say.

use core::time::Duration;

use pinion_commitlog::LogState;
use pinion_node::TimedOp;
use pinion_node::facts::{CoreFacts, LATENCY_BOUNDS, Latency, LogFacts, PHASES};
use pinion_node::stats::{CoreStats, Tally};
use pinion_types::ErrorCode;

use super::catalogue as of;
use super::family::{Def, Families, Sizes};
use super::ratio;
use crate::observer::Snapshot;

/// All families of the cores of a snapshot.
pub(crate) fn put(families: &mut Families, snapshot: &Snapshot) {
    let cores = &snapshot.cores;
    for core in cores.iter() {
        put_core(families, core);
    }
    put_connections(families, snapshot);
    put_disks(families, snapshot);
    for log in cores.iter().flat_map(|core| &core.logs) {
        put_log(families, log);
    }
    let logs = snapshot.counted().flat_map(|core| &core.logs);
    families.put(&of::GROUP_RECORDS, &[], groups(logs));
    let mut stats = CoreStats::default();
    let mut tally = Tally::default();
    for core in snapshot.counted() {
        stats.add(&core.stats);
        tally.add(&core.tally);
    }
    put_requests(families, &stats, &tally);
    for op in TimedOp::ALL {
        let mut latency = Latency::default();
        for core in snapshot.counted() {
            latency.add(&core.pump.requests[op.index()]);
        }
        families.put(&of::MESSAGE_LATENCY, &[op.name()], sizes(&latency));
    }
    let barred: u64 = cores.iter().map(|core| core.barred).sum();
    families.put(&of::BARRED, &[], barred);
    put_between(families, snapshot, &stats);
}

/// What is told of two moments.
fn put_between(families: &mut Families, snapshot: &Snapshot, stats: &CoreStats) {
    let Some(before) = snapshot.before.as_deref() else {
        return;
    };
    let mut earlier = CoreStats::default();
    let mut busy = Vec::new();
    for core in before.counted() {
        earlier.add(&core.stats);
    }
    for core in before.cores.iter() {
        let now = snapshot.cores.iter().find(|now| now.core == core.core);
        busy.extend(now.map(|now| now.pump.turns.busy.saturating_sub(core.pump.turns.busy)));
    }
    let wrong = stats.wrong_shard.saturating_sub(earlier.wrong_shard);
    let all = stats.requests.saturating_sub(earlier.requests);
    families.put_some(&of::WRONG_SHARD_RATIO, &[], ratio(wrong, all));
    families.put_some(&of::CORE_SKEW, &[], skew(&busy));
}

/// The longest by the mean; `None` when all are nothing.
fn skew(busy: &[Duration]) -> Option<f64> {
    let longest = busy.iter().max()?.as_secs_f64();
    let all: Duration = busy.iter().sum();
    // As many as cores, of which there are few.
    let mean = all.as_secs_f64() / busy.len() as f64;
    (mean > 0.0).then(|| longest / mean)
}

fn put_core(families: &mut Families, facts: &CoreFacts) {
    let name = facts.core.0.to_string();
    let core = &[name.as_str()];
    let turns = &facts.pump.turns;
    families.put(&of::CORE_BUSY, core, turns.busy);
    families.put(&of::CORE_TURNS, core, turns.turns_busy);
    for (phase, count) in PHASES.iter().zip(turns.stalls) {
        families.put(&of::CORE_STALLS, &[&name, phase], count);
    }
    families.put(&of::CORE_STALL_MAX, core, turns.stall_max);
    families.put(&of::CORE_SLEEPS, core, turns.parks);
    families.put(&of::CORE_MAILS, core, turns.mails_received);
    families.put(
        &of::CORE_MAILBOX,
        core,
        facts.mails_waiting + facts.control_waiting,
    );
    families.put(&of::CORE_MAILBOX_BYTES, core, facts.mail_bytes);
    families.put(&of::CORE_MAIL_WAITS, core, facts.stats.mail_waits);
    families.put(&of::CORE_HELD, core, facts.held_bytes);
    families.put(&of::CORE_CONNECTIONS, core, facts.connections);
    families.put(&of::DATAGRAMS, core, turns.datagrams_received);
    families.put_some(&of::DATAGRAMS_DROPPED, core, turns.datagrams_dropped);
    for (outcome, count) in [
        ("sent", turns.transmits_sent),
        ("blocked", turns.transmits_blocked),
        ("failed", turns.transmits_failed),
    ] {
        families.put(&of::TRANSMITS, &[&name, outcome], count);
    }
    families.put(&of::QUIC_STRAY, core, facts.pump.quic.strays);
    families.put(
        &of::QUIC_STRAY_DROPPED,
        core,
        facts.pump.quic.strays_dropped,
    );
    if let Some(disk) = &facts.pump.disk {
        families.put(&of::DISK_WRITTEN, core, disk.written_bytes);
        families.put(&of::DISK_READS, core, disk.reads);
        families.put(&of::DISK_READ, core, disk.read_bytes);
        families.put(&of::DISK_FLUSHES, core, disk.flushes);
        families.put(&of::DISK_ERRORS, core, disk.errors);
    }
}

fn put_connections(families: &mut Families, snapshot: &Snapshot) {
    let is = || snapshot.cores.iter().map(|core| &core.pump.quic);
    let quic = || snapshot.counted().map(|core| &core.pump.quic);
    let mut put = |def: &'static Def, labels: &[&str], count: u64| {
        families.put(def, labels, count);
    };
    put(&of::CONNECTIONS, &[], is().map(|q| q.connections).sum());
    put(&of::HANDSHAKES, &[], is().map(|q| q.handshakes).sum());
    put(
        &of::HANDSHAKES_ACCEPTED,
        &[],
        quic().map(|q| q.accepted).sum(),
    );
    let refused = &of::HANDSHAKES_REFUSED;
    put(
        refused,
        &["draining"],
        quic().map(|q| q.refused_draining).sum(),
    );
    put(refused, &["full"], quic().map(|q| q.refused_full).sum());
    put(refused, &["prefix"], quic().map(|q| q.refused_prefix).sum());
    put(
        refused,
        &["unanswered"],
        quic().map(|q| q.ignored_handshakes).sum(),
    );
    let failed = &of::HANDSHAKES_FAILED;
    put(
        failed,
        &["failed"],
        quic().map(|q| q.handshakes_failed).sum(),
    );
    put(
        failed,
        &["timed_out"],
        quic().map(|q| q.handshakes_timed_out).sum(),
    );
    put(&of::QUIC_RETRIES, &[], quic().map(|q| q.retries_sent).sum());
    put(
        &of::QUIC_UNKNOWN,
        &[],
        quic().map(|q| q.datagrams_unknown).sum(),
    );
}

fn put_requests(families: &mut Families, stats: &CoreStats, tally: &Tally) {
    for (name, count) in tally.by_name() {
        families.put(&of::REQUESTS, &[&name.to_ascii_lowercase()], count);
    }
    for (number, count) in tally.by_code() {
        families.put(&of::REFUSALS, &[&code_name(number)], count);
    }
    for (def, count) in [
        (&of::SESSIONS, stats.sessions),
        (&of::UNAUTHENTICATED, stats.unauthenticated),
        (&of::PROTOCOL_ERRORS, stats.protocol_errors),
        (&of::WRONG_SHARD, stats.wrong_shard),
        (&of::MESSAGES_RECEIVED, stats.published + stats.enqueued),
        (&of::MESSAGES_SENT, stats.delivered + stats.taken),
        (&of::DELIVERED_BYTES, stats.delivered_bytes),
        (&of::DAMAGE, stats.damage_found),
    ] {
        families.put(def, &[], count);
    }
}

/// `QuotaExceeded` is `quota_exceeded`.
fn code_name(number: u16) -> String {
    let Some(code) = ErrorCode::from_u16(number) else {
        return number.to_string();
    };
    let mut name = String::new();
    for char in format!("{code:?}").chars() {
        if char.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(char.to_ascii_lowercase());
    }
    name
}

fn put_disks(families: &mut Families, snapshot: &Snapshot) {
    let mut writes = Latency::default();
    let disks = snapshot
        .counted()
        .filter_map(|core| core.pump.disk.as_deref());
    for disk in disks {
        writes.add(&disk.write);
    }
    families.put(&of::DISK_WRITE, &[], sizes(&writes));
}

fn put_log(families: &mut Families, facts: &LogFacts) {
    let name = facts.log.0.to_string();
    let log = &[name.as_str()];
    let stats = &facts.stats;
    families.put(&of::LOG_RECORDS, log, stats.records);
    families.put(&of::LOG_BYTES, log, stats.bytes);
    families.put(&of::LOG_PENDING, log, stats.pending_bytes);
    families.put(&of::LOG_READS_PENDING, log, stats.reads_pending);
    families.put(&of::LOG_SEGMENTS, log, stats.segments);
    families.put(&of::LOG_DISK, log, stats.disk_bytes);
    families.put(&of::LOG_REMOVED, log, stats.removed);
    families.put(&of::LOG_CARRIED, log, stats.carried);
    families.put(&of::LOG_CHECKPOINTS, log, stats.checkpoints);
    families.put(&of::LOG_READ_ONLY, log, stats.state == LogState::ReadOnly);
    families.put(&of::LOG_FAILED, log, stats.state == LogState::Failed);
}

/// Group commits of all logs by their records.
fn groups<'a>(logs: impl Iterator<Item = &'a LogFacts>) -> Sizes {
    let mut each = [0; pinion_commitlog::GROUP_SIZES];
    let mut records = 0;
    for log in logs {
        for (mine, more) in each.iter_mut().zip(log.stats.groups_by_records) {
            *mine += more;
        }
        records += log.stats.committed_records;
    }
    let bounds = (0..each.len() - 1).map(|power| f64::from(1_u32 << power));
    let sum = records as f64;
    Sizes::new(bounds, &each, sum)
}

/// A histogram of times.
pub(crate) fn sizes(latency: &Latency) -> Sizes {
    let bounds = LATENCY_BOUNDS.iter().map(|nanos| *nanos as f64 / 1e9);
    Sizes::new(bounds, &latency.buckets, latency.sum.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pinion_commitlog::{LogId, LogStats};

    #[test]
    fn codes_are_told_in_words() {
        assert_eq!(code_name(ErrorCode::QuotaExceeded as u16), "quota_exceeded");
        assert_eq!(code_name(ErrorCode::NotACounter as u16), "not_a_counter");
        assert_eq!(code_name(9_999), "9999");
    }

    #[test]
    fn skew_is_the_longest_by_the_mean() {
        let ms = |times: &[u64]| {
            times
                .iter()
                .map(|ms| Duration::from_millis(*ms))
                .collect::<Vec<_>>()
        };
        assert_eq!(skew(&ms(&[10, 30])), Some(1.5));
        assert_eq!(skew(&ms(&[20])), Some(1.0));
        assert_eq!(skew(&ms(&[0, 0])), None);
        assert_eq!(skew(&[]), None);
    }

    #[test]
    fn groups_of_all_logs_are_one_histogram() {
        let mut stats = LogStats {
            committed_records: 9,
            ..LogStats::default()
        };
        stats.groups_by_records[0] = 1;
        stats.groups_by_records[3] = 1;
        let log = LogFacts {
            log: LogId(0),
            stats,
        };
        let sizes = groups([log, log].iter());
        assert_eq!(sizes.buckets[0], (1.0, 2));
        assert_eq!(sizes.buckets[2], (4.0, 2));
        assert_eq!(sizes.buckets[3], (8.0, 4));
        assert_eq!(sizes.buckets.len(), 11);
        assert_eq!((sizes.count, sizes.sum), (4, 18.0));
    }
}
