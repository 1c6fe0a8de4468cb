//! Logs and the space they take. Those of the data cores; the control plane's own are in
//! `/v1/raft`.

use pinion_commitlog::LogState;
use pinion_node::views::LogFacts;
use serde::Serialize;
use utoipa::ToSchema;

use super::At;
use crate::Api;
use crate::access::Who;
use crate::error::Failure;

/// One log of a data core.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct LogRow {
    pub(crate) log: u16,
    /// Data core that writes it.
    pub(crate) core: u16,
    /// `running`, `read_only` (the disk is full), `failed` (a write failed: closed until the
    /// node was started again) or `sealed`.
    pub(crate) state: &'static str,
    pub(crate) segments: u64,
    /// Of its files.
    pub(crate) disk_bytes: u64,
    /// Appended and not yet durable.
    pub(crate) pending_bytes: u64,
    pub(crate) reads_pending: u64,
    /// Since the node was started, as all that end in `_total`.
    pub(crate) records_total: u64,
    pub(crate) record_bytes_total: u64,
    /// Flushes of the device.
    pub(crate) writes_total: u64,
    /// Groups of records that shared a flush.
    pub(crate) groups_total: u64,
    pub(crate) reads_total: u64,
    pub(crate) read_bytes_total: u64,
    pub(crate) checkpoints_total: u64,
    /// Records written again so that their segment can go.
    pub(crate) carried_total: u64,
    pub(crate) segments_removed_total: u64,
}

/// The logs of this node.
pub(crate) struct StorageFacts {
    /// By number.
    pub(crate) logs: Vec<LogRow>,
    pub(crate) as_of: At,
}

impl LogRow {
    fn of(core: u16, facts: &LogFacts) -> Self {
        let stats = &facts.stats;
        Self {
            log: facts.log.0,
            core,
            state: word(stats.state),
            segments: stats.segments as u64,
            disk_bytes: stats.disk_bytes,
            pending_bytes: stats.pending_bytes as u64,
            reads_pending: stats.reads_pending as u64,
            records_total: stats.records,
            record_bytes_total: stats.bytes,
            writes_total: stats.writes,
            groups_total: stats.groups,
            reads_total: stats.reads,
            read_bytes_total: stats.read_bytes,
            checkpoints_total: stats.checkpoints,
            carried_total: stats.carried,
            segments_removed_total: stats.removed,
        }
    }
}

/// The word of a log's state.
pub(crate) const fn word(state: LogState) -> &'static str {
    match state {
        LogState::Running => "running",
        LogState::ReadOnly => "read_only",
        LogState::Failed => "failed",
        LogState::Sealed => "sealed",
    }
}

/// The logs of this node. Who may see them may see the cluster.
///
/// # Errors
/// They may not.
pub(crate) async fn facts(api: &Api, who: &Who) -> Result<StorageFacts, Failure> {
    let cluster = pinion_metadata::PolicyObject::Cluster;
    who.check(pinion_metadata::Action::AdminRead, &cluster)?;
    let snapshot = api.observer.look().await;
    let of_core = |core: &pinion_node::views::CoreFacts| {
        let logs = core.logs.iter();
        logs.map(|log| LogRow::of(core.core.0, log))
            .collect::<Vec<_>>()
    };
    let mut logs: Vec<LogRow> = snapshot.cores.iter().flat_map(of_core).collect();
    logs.sort_by_key(|row| row.log);
    Ok(StorageFacts {
        logs,
        as_of: At(snapshot.taken_at),
    })
}
