//! Options that streams, queues and caches share.

use super::Said;
use crate::admin::draft::Draft;
use crate::admin::units;
use crate::value;

/// When a record is acknowledged.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum AckArg {
    /// When the leader of its partition has it
    Leader,
    /// When a majority of the copies have it
    Quorum,
}

/// What happens to a subscriber that falls behind.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum OverflowArg {
    /// Publishers wait for it
    Block,
    /// The oldest records are skipped for it, and it is told
    DropOldest,
    /// The newest records are skipped for it, and it is told
    DropNewest,
    /// It is cut off
    Disconnect,
}

impl OverflowArg {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::DropOldest => "drop_oldest",
            Self::DropNewest => "drop_newest",
            Self::Disconnect => "disconnect",
        }
    }
}

/// How many parts, and where they are.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Spread {
    /// How many partitions; the same key is always in the same one [default: the cluster's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    partitions: Option<u16>,
    /// Copies of each partition [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    replicas: Option<u8>,
    /// All of it on this broker [default: spread over all]
    #[arg(long, value_name = "BROKER", value_parser = value::segment)]
    pinned: Option<String>,
    /// Memory of each partition, like 16MiB [default: the node's]
    #[arg(long, value_name = "BYTES", value_parser = value::bytes)]
    ring_bytes: Option<u64>,
}

impl Said for Spread {
    fn say(&self, draft: &mut Draft) {
        draft
            .set("spec.shards", self.partitions)
            .set("spec.replication_factor", self.replicas)
            .set("spec.ring_bytes", self.ring_bytes)
            .set("placement.pinned", self.pinned.as_deref());
    }
}

/// When a record is acknowledged, as an option.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Ack {
    /// When a record is acknowledged [default: leader]
    #[arg(long, value_enum)]
    ack: Option<AckArg>,
}

impl Said for Ack {
    fn say(&self, draft: &mut Draft) {
        let ack = self.ack.map(|ack| match ack {
            AckArg::Leader => "leader",
            AckArg::Quorum => "quorum",
        });
        draft.set("spec.ack_policy", ack);
    }
}

/// How much is kept.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Kept {
    /// Longest a record is kept, like 7d or 90m, or none
    #[arg(long, value_name = "TIME", value_parser = units::time)]
    retention: Option<u64>,
    /// Most bytes each partition keeps on disk, like 10GiB, or none
    #[arg(long, value_name = "BYTES", value_parser = units::bytes)]
    retention_bytes: Option<u64>,
}

impl Said for Kept {
    fn say(&self, draft: &mut Draft) {
        draft
            .set("spec.retention_ms", self.retention)
            .set("spec.retention_bytes", self.retention_bytes);
    }
}

/// How large one may be.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Size {
    /// Largest record, message or value, like 64KiB
    #[arg(long, value_name = "BYTES", value_parser = value::bytes)]
    max_record_bytes: Option<u64>,
}

impl Said for Size {
    fn say(&self, draft: &mut Draft) {
        draft.set("spec.max_record_bytes", self.max_record_bytes);
    }
}

/// `durable` or `ephemeral`.
pub(super) const fn durability(durable: bool) -> &'static str {
    if durable { "durable" } else { "ephemeral" }
}
