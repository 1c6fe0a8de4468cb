//! Where things are: brokers, shards, logs, and the group that decides.

use serde::Serialize;

use super::{Address, Fresh, Listing, Share, State, page};

/// A node as the metadata speaks of it.
#[derive(Clone, Debug, Serialize)]
pub struct BrokerRow {
    /// What it is called.
    pub name: String,
    /// Active, draining, down.
    pub state: State,
    /// Where it is reached.
    pub address: String,
    /// Region and zone.
    pub zone: String,
    /// Data cores.
    pub cores: u16,
    /// Shards it leads.
    pub leads: u64,
    /// Shards it has a copy of.
    pub copies: u64,
    /// Time since it was last heard of, milliseconds.
    pub beat_ms: Option<u64>,
    /// Whether this node is it.
    pub this_node: bool,
}

/// Where one shard is.
#[derive(Clone, Debug, Serialize)]
pub struct ShardPlace {
    /// Number of the shard.
    pub shard: u32,
    /// Column, which is the broker's place in [`Placement::columns`].
    pub broker: u16,
    /// Log of that broker, where it leads.
    pub log: Option<u16>,
    /// Whether it leads there.
    pub leads: bool,
}

/// Where the shards of one resource are.
#[derive(Clone, Debug, Serialize)]
pub struct PlacementRow {
    /// `stream`, `queue`, `cache`.
    pub domain: String,
    /// Which.
    pub address: Address,
    /// How it is.
    pub state: State,
    /// In order of shards.
    pub shards: Vec<ShardPlace>,
}

/// Resource, shard, broker, core.
#[derive(Clone, Debug, Serialize)]
pub struct Placement {
    /// How the list was asked for.
    pub list: Listing,
    /// The brokers; none for whoever sees one tenant.
    pub brokers: Vec<BrokerRow>,
    /// What they are worth.
    pub brokers_fresh: Fresh,
    /// Names of the brokers that are columns of the map, at most 16.
    pub columns: Vec<String>,
    /// The resources.
    pub rows: Vec<PlacementRow>,
    /// What they are worth.
    pub fresh: Fresh,
    /// Version of the metadata they are of.
    pub version: u64,
}

page!(Placement, "placement.html", "placement", live: false, |_page| "Placement");

/// One log: that of a data core, of the group, or of the audit.
#[derive(Clone, Debug, Serialize)]
pub struct LogRow {
    /// What it is called.
    pub name: String,
    /// Core that writes it; `None` for the control core.
    pub core: Option<u16>,
    /// How it is.
    pub state: State,
    /// Segments there are.
    pub segments: u64,
    /// Bytes they take.
    pub size_bytes: u64,
    /// Records appended since the node was started.
    pub records: u64,
    /// Writes a second, each with one flush of the device.
    pub commits_per_s: Option<f64>,
    /// Records of one group, half of them below; `None` before the first.
    pub group_p50: Option<u64>,
    /// Latency of a write with its flush, which are timed as one, microseconds, half of them
    /// below; of the group's log, half of the last ones.
    pub commit_p50_us: Option<u64>,
    /// 99 of 100 below.
    pub commit_p99_us: Option<u64>,
    /// The slowest.
    pub commit_max_us: Option<u64>,
    /// Bytes appended and not yet durable.
    pub pending_bytes: u64,
    /// Checkpoints since the node was started.
    pub checkpoints: u64,
    /// Segments removed since the node was started.
    pub removed: u64,
}

/// Logs and the space they take.
#[derive(Clone, Debug, Serialize)]
pub struct Storage {
    /// Space of the disk by what takes it.
    pub space: Vec<Share>,
    /// What the space is worth.
    pub space_fresh: Fresh,
    /// Size of the disk; 0 where it is not known.
    pub disk_bytes: u64,
    /// The logs.
    pub logs: Vec<LogRow>,
    /// What the logs are worth.
    pub fresh: Fresh,
}

page!(Storage, "storage.html", "storage", live: true, |_page| "Storage");

/// One member of the Raft group, as the leader sees it.
#[derive(Clone, Debug, Serialize)]
pub struct MemberRow {
    /// Its number.
    pub member: u64,
    /// Name of its node.
    pub name: String,
    /// Leader, follower, learner, observer.
    pub role: String,
    /// How it is.
    pub state: State,
    /// Last entry it is known to have; only the leader knows.
    pub matched: Option<u64>,
    /// Entries it lacks.
    pub lag_entries: Option<u64>,
    /// Time since it was last heard of, milliseconds.
    pub contact_ms: Option<u64>,
    /// Whether this node is it.
    pub this_node: bool,
}

/// The group that decides on the metadata.
#[derive(Clone, Debug, Serialize)]
pub struct Raft {
    /// How it is.
    pub state: State,
    /// Name of the node that leads, if one does.
    pub leader: Option<String>,
    /// Term.
    pub term: u64,
    /// Last entry that is decided on.
    pub committed: u64,
    /// Last entry that is part of the metadata here.
    pub applied: u64,
    /// Version of the metadata here.
    pub version: u64,
    /// Entries that wait for a majority.
    pub undecided: u64,
    /// Entry of the last snapshot.
    pub snapshot: u64,
    /// Flush of this member's log, microseconds, half of the last ones below.
    pub flush_p50_us: Option<u64>,
    /// What these are worth.
    pub fresh: Fresh,
    /// The members.
    pub members: Vec<MemberRow>,
    /// What they are worth.
    pub members_fresh: Fresh,
}

page!(Raft, "raft.html", "raft", live: true, |_page| "Raft");
