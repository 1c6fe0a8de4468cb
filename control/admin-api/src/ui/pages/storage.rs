//! Logs, how long their writes take, and the space that they need.

use core::time::Duration;

use pinion_admin_ui::model::{Kind, Level, LogRow, Share, State, Storage};
use pinion_commitlog::{LogState, LogStats};
use pinion_node::facts::{CoreFacts, LogFacts};

use super::resources::fresh;
use crate::error::Failure;
use crate::metrics;
use crate::observer::Snapshot;
use crate::ui::context::{PageContext, Shown};
use crate::ui::data::latency::micros;
use crate::views::At;

/// `/ui/storage`
pub(super) async fn page(context: &PageContext) -> Result<Shown, Failure> {
    context.sees_cluster()?;
    let api = &context.api;
    let snapshot = api.observer.look().await;
    let space = metrics::host(api).await.space;
    let logs = snapshot.cores.iter().flat_map(|core| {
        let row = |log| row(&snapshot, core, log);
        core.logs.iter().map(row)
    });
    let mut logs: Vec<LogRow> = logs.collect();
    let bytes = |logs: &[LogRow]| logs.iter().map(|log| log.size_bytes).sum::<u64>();
    let data = bytes(&logs);
    logs.extend(control(context).await);
    let ours = bytes(&logs);
    let (free, size) = space.unwrap_or_default();
    let mut parts = vec![
        share("logs of the data cores", data),
        share("logs of the control plane", ours - data),
    ];
    if size > 0 {
        let others = size.saturating_sub(free).saturating_sub(ours);
        parts.push(share("others on this disk", others));
    }
    Ok(Storage {
        space: parts,
        space_fresh: fresh(context, Kind::Durable, At(snapshot.taken_at)),
        disk_bytes: size,
        logs,
        fresh: fresh(context, Kind::Mixed, At(snapshot.taken_at)),
    }
    .into())
}

fn share(name: &str, amount: u64) -> Share {
    Share {
        name: name.to_owned(),
        amount,
        kind: None,
    }
}

/// The logs of the control plane. Where it does not answer, the overview says so, and what
/// the data cores have is shown without them.
async fn control(context: &PageContext) -> Vec<LogRow> {
    let plane = &context.api.plane;
    let (Ok(logs), Ok(status)) = (plane.logs().await, plane.status().await) else {
        return Vec::new();
    };
    let row = |name: &str, stats: &LogStats, commit: Option<Duration>| LogRow {
        name: name.to_owned(),
        core: None,
        commit_p50_us: commit.map(micros),
        ..of_stats(stats)
    };
    vec![
        // What its last writes took is known of the group's alone.
        row("metadata", &logs.group, status.group.flush),
        row("audit", &logs.audit, None),
    ]
}

/// What a log itself says; how long its writes took is known elsewhere.
fn of_stats(stats: &LogStats) -> LogRow {
    LogRow {
        name: String::new(),
        core: None,
        state: state(stats.state),
        segments: stats.segments as u64,
        size_bytes: stats.disk_bytes,
        records: stats.records,
        commits_per_s: None,
        group_p50: group_p50(&stats.groups_by_records),
        commit_p50_us: None,
        commit_p99_us: None,
        commit_max_us: None,
        pending_bytes: stats.pending_bytes as u64,
        checkpoints: stats.checkpoints,
        removed: stats.removed,
    }
}

fn row(snapshot: &Snapshot, core: &CoreFacts, log: &LogFacts) -> LogRow {
    let stats = &log.stats;
    let before = snapshot.before.as_deref().and_then(|before| {
        let mut logs = before.cores.iter().flat_map(|core| &core.logs);
        logs.find(|one| one.log == log.log)
    });
    let commits = before.and_then(|before| snapshot.per_second(stats.writes, before.stats.writes));
    // The disk is measured by core: with one log on it, that is the log's.
    let write = core.pump.disk.as_ref().map(|disk| &disk.write);
    let within = |share| write.and_then(|write| write.since_start(share)).map(micros);
    LogRow {
        name: format!("log-{}", log.log.0),
        core: Some(core.core.0),
        commits_per_s: commits,
        commit_p50_us: within(500_000),
        commit_p99_us: within(990_000),
        commit_max_us: within(1_000_000),
        ..of_stats(stats)
    }
}

fn state(state: LogState) -> State {
    let (level, text) = match state {
        LogState::Running => (Level::Ok, "running"),
        LogState::ReadOnly => (Level::Bad, "disk full"),
        LogState::Failed => (Level::Bad, "failed"),
        LogState::Sealed => (Level::Info, "sealed"),
    };
    State {
        level,
        text: text.to_owned(),
    }
}

/// Records that half of the groups have at most, out of counts of groups by powers of two;
/// `None` before the first group.
fn group_p50(by_records: &[u64]) -> Option<u64> {
    let all: u64 = by_records.iter().sum();
    let mut left = all.div_ceil(2);
    if all == 0 {
        return None;
    }
    for (power, count) in by_records.iter().enumerate() {
        left = left.saturating_sub(*count);
        if left == 0 {
            return Some(1 << power);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_groups_are_at_most_as_large() {
        assert_eq!(group_p50(&[0; 12]), None);
        assert_eq!(group_p50(&[5, 0, 0]), Some(1));
        assert_eq!(group_p50(&[1, 1, 1]), Some(2));
        assert_eq!(group_p50(&[1, 0, 0, 3]), Some(8));
    }
}
