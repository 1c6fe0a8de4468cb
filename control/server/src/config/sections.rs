//! Tables of the configuration that are numbers and switches: what a core admits, what
//! resources get, how the disk is used, and the administrators' door.

use std::net::SocketAddr;
use std::path::PathBuf;

use pinion_node::map::SpecDefaults;
use serde::{Deserialize, Serialize};

use super::ConfigError;

/// What a core admits.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    /// Connections of one core.
    pub(crate) connections_max: u32,
    /// Handshakes one core runs at once.
    pub(crate) handshakes_max: u32,
    /// Handshakes in progress above which an unproven address must prove itself.
    pub(crate) retry_above: u32,
    /// Handshakes an address prefix (/24, /56) may begin at once.
    pub(crate) prefix_burst: u32,
    /// Handshakes a second it may begin after that.
    pub(crate) prefix_rate: u32,
}

/// What a resource gets where its specification says nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Defaults {
    pub(crate) stream_shards: u16,
    pub(crate) stream_ring_bytes: u64,
    pub(crate) stream_tail_bytes: u64,
    pub(crate) queue_memory_bytes: u64,
    pub(crate) cache_bytes: u64,
}

/// A segment holds at least a few of the largest groups.
const SEGMENT_BYTES_MIN: u64 = 4 << 20;
/// A byte's place in its segment is kept in 32 bits.
const SEGMENT_BYTES_MAX: u64 = 1 << 30;

/// How the logs use the disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Storage {
    /// Bytes of one segment; written full of zeros before it is used.
    pub(crate) segment_bytes: u64,
    /// Bytes of log after which the state of all partitions is written down, so
    /// that a start reads no more than about this.
    pub(crate) checkpoint_every_bytes: u64,
}

/// Shortest and longest time that may be given to a backup, in seconds. What it holds
/// back is not removed meanwhile.
const BACKUP_S_MIN: u64 = 60;
const BACKUP_S_MAX: u64 = 7 * 24 * 3600;

/// How a backup uses the disk while the node serves.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Backup {
    /// Bytes a second that it reads at most; 0: as fast as it goes.
    pub(crate) bytes_per_second: u64,
    /// Longest that it may take, in seconds.
    pub(crate) time_max_s: u64,
    /// Bytes of each log that may wait for it to be removed. Beyond it the backup is
    /// given up.
    pub(crate) held_bytes_max: u64,
}

impl Default for Backup {
    fn default() -> Self {
        Self {
            bytes_per_second: 128 << 20,
            time_max_s: 12 * 3600,
            held_bytes_max: 16 << 30,
        }
    }
}

/// The administrators' door: HTTP on the TCP port of the same number.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Admin {
    /// Whether there is one.
    pub(crate) enabled: bool,
    /// Clients on this machine may do without TLS; with `--dev` they may in any case.
    pub(crate) cleartext_on_loopback: bool,
    /// Requests of one principal in a second, twice as many at once; 0: as many as come.
    pub(crate) reads_per_second: u32,
    /// The same of requests that change something.
    pub(crate) writes_per_second: u32,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            enabled: true,
            cleartext_on_loopback: false,
            reads_per_second: 200,
            writes_per_second: 100,
        }
    }
}

/// Who is believed, and what tokens are signed with.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Auth {
    /// The key that seals the keys of tenants: 64 hexadecimal digits, the same on every
    /// node of a cluster. Without one no token is issued.
    pub(crate) master_key_file: Option<PathBuf>,
    /// Seconds that a token lives. It is one for the whole cluster, as the heartbeat is.
    pub(crate) token_life_s: Option<u32>,
    /// PEM of who vouches for identity providers; otherwise who the system trusts does.
    pub(crate) idp_ca: Option<PathBuf>,
    /// Ranges of addresses, besides public ones, that identity providers may have.
    pub(crate) allow_addresses: Vec<String>,
    /// Whether identity providers may be asked without TLS.
    pub(crate) allow_http: bool,
    /// TCP address of the listener of tenants' first days.
    pub(crate) bootstrap_listen: Option<SocketAddr>,
    /// Its secret.
    pub(crate) bootstrap_token_file: Option<PathBuf>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 20_000,
            handshakes_max: 2_000,
            retry_above: 200,
            prefix_burst: 4_096,
            prefix_rate: 2_048,
        }
    }
}

impl Default for Defaults {
    fn default() -> Self {
        let defaults = SpecDefaults::default();
        Self {
            stream_shards: defaults.stream_shards,
            stream_ring_bytes: defaults.stream_ring_bytes,
            stream_tail_bytes: defaults.stream_tail_bytes,
            queue_memory_bytes: defaults.queue_memory_bytes,
            cache_bytes: defaults.cache_bytes,
        }
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            checkpoint_every_bytes: 256 << 20,
        }
    }
}

impl Storage {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let segment = self.segment_bytes;
        if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&segment)
            || !segment.is_multiple_of(pinion_commitlog::BLOCK as u64)
        {
            return Err(ConfigError::Value {
                key: "storage.segment_bytes",
                value: segment.to_string(),
                expected: "a multiple of 4096 from 4194304 (4 MiB) to 1073741824 (1 GiB)",
            });
        }
        Ok(())
    }
}

impl Backup {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let time = self.time_max_s;
        if !(BACKUP_S_MIN..=BACKUP_S_MAX).contains(&time) {
            return Err(ConfigError::Value {
                key: "backup.time_max_s",
                value: time.to_string(),
                expected: "60 (a minute) to 604800 (a week)",
            });
        }
        Ok(())
    }
}
