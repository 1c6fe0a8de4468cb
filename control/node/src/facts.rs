//! What a data core says of itself: its counters, what waits in it, its logs, and what
//! the pump around it has counted.

mod pump;

use pinion_commitlog::{LogId, LogStats};
pub use pinion_shard::Retired;
use pinion_types::{CoreId, Epoch};

use crate::stats::{CoreStats, Tally};

pub use pump::{
    DiskFacts, LATENCY_BOUNDS, LATENCY_QUANTILES, Latency, LoopFacts, PHASES, PumpFacts, QuicFacts,
    Within,
};

/// One data core as it is at this moment. Bounded in size.
#[derive(Clone, Debug, Default)]
pub struct CoreFacts {
    /// Which core.
    pub core: CoreId,
    /// What it has counted since it started.
    pub stats: CoreStats,
    /// Requests by opcode, and refusals by code.
    pub tally: Box<Tally>,
    /// Connections at this moment, those before HELLO included.
    pub connections: u64,
    /// Bytes received and not worked off yet, of all connections.
    pub held_bytes: u64,
    /// Version of the last change of the metadata that it has seen.
    pub epoch: Epoch,
    /// Resources that it knows and that are not deleted.
    pub resources: u64,
    /// Partitions that are open here; those that were purged since the start count, too.
    pub partitions: u64,
    /// Subscriptions and watches to its partitions.
    pub subscriptions: u64,
    /// Resources of which partitions stay closed until the next start, because a log
    /// holds records of before under the same number.
    pub barred: u64,
    /// Mails for other cores that wait here.
    pub mails_waiting: u64,
    /// Bytes of them, roughly.
    pub mail_bytes: u64,
    /// Mails for the control thread that wait here.
    pub control_waiting: u64,
    /// Questions that wait for their turn.
    pub questions_waiting: u64,
    /// Reads of streams that wait for the disk.
    pub fetches_waiting: u64,
    /// Pages of messages that wait for the disk.
    pub looks_waiting: u64,
    /// What partitions that are gone had counted.
    pub retired: Retired,
    /// Its logs.
    pub logs: Vec<LogFacts>,
    /// What the pump has counted; filled in by it.
    pub pump: PumpFacts,
}

/// One log of a core.
#[derive(Clone, Copy, Debug)]
pub struct LogFacts {
    /// Which.
    pub log: LogId,
    /// What it has counted and holds.
    pub stats: LogStats,
}
