//! Configuration: defaults, then a TOML file, then `PINION_*` variables, then
//! flags; each overrides what came before. A key nobody knows is an error.

mod cluster;
mod dashboard;
#[cfg(test)]
mod documented;
mod kept;
mod tls;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::control::access::Tokens;
use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use pinion_node::access::{Grant, Permissions, Principal, Scope, TenantId, TokenDigest};
use pinion_node::map::SpecDefaults;
use pinion_types::{ResourceKind, ResourceName};
use pinion_wire::message::{Overflow, QueueSpec, Spec};
use serde::{Deserialize, Serialize};

pub(crate) use cluster::Cluster;
pub(crate) use dashboard::{Dashboard, Oidc};
pub(crate) use kept::{Audit, Deletion};
pub(crate) use tls::Tls;

/// Everything `pinion serve` can be told.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Address and port, UDP. `--dev` takes loopback only.
    pub(crate) listen: SocketAddr,
    /// Where certificates and (later) data live.
    pub(crate) data_dir: PathBuf,
    /// `auto`, or the CPUs of the data cores.
    pub(crate) data_cores: CoreList,
    /// `auto`, or the CPU of the control core.
    pub(crate) control_core: CoreChoice,
    /// How the CPUs are shared with others; decides how long a core spins.
    pub(crate) placement: Placement,
    /// Longest a data core looks for work before it sleeps, in µs; without it
    /// `placement` decides. A fractional CPU quota never spins.
    pub(crate) spin_us: Option<u64>,
    /// How datagrams find their core.
    pub(crate) steering: SteeringMode,
    /// Loopback only, tokens minted, resources created on first use.
    pub(crate) dev: bool,
    /// Longest a drain may take before connections are closed as they are, in ms.
    pub(crate) drain_timeout_ms: u64,
    /// Bytes all rings and caches may promise together; 0 = half of what the
    /// cgroup or the machine has.
    pub(crate) memory_bytes: u64,
    pub(crate) tls: Tls,
    pub(crate) cluster: Option<Cluster>,
    pub(crate) limits: Limits,
    pub(crate) defaults: Defaults,
    pub(crate) storage: Storage,
    pub(crate) backup: Backup,
    pub(crate) admin: Admin,
    pub(crate) auth: Auth,
    pub(crate) dashboard: Dashboard,
    pub(crate) deletion: Deletion,
    pub(crate) audit: Audit,
    pub(crate) token: Vec<Token>,
    pub(crate) resource: Vec<Declared>,
}

/// CPUs of the data cores.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum CoreList {
    List(Vec<usize>),
    /// Only `auto`, or numbers with commas, as flags and variables give them.
    Word(String),
    One(usize),
}

impl CoreList {
    /// The CPUs, or `None` for `auto`.
    pub(crate) fn cpus(&self) -> Result<Option<Vec<usize>>, ConfigError> {
        let word = match self {
            Self::List(list) => return Ok(Some(list.clone())),
            Self::One(cpu) => return Ok(Some(vec![*cpu])),
            Self::Word(word) => word,
        };
        if word == "auto" {
            return Ok(None);
        }
        word.split(',')
            .map(|part| part.trim().parse())
            .collect::<Result<Vec<usize>, _>>()
            .map(Some)
            .map_err(|_| ConfigError::Value {
                key: "data_cores",
                value: word.clone(),
                expected: "'auto' or CPU numbers like 0,1",
            })
    }
}

/// CPU of the control core.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum CoreChoice {
    Cpu(usize),
    Word(String),
}

impl CoreChoice {
    /// The CPU, or `None` for `auto`.
    pub(crate) fn cpu(&self) -> Result<Option<usize>, ConfigError> {
        match self {
            Self::Cpu(cpu) => Ok(Some(*cpu)),
            Self::Word(word) if word == "auto" => Ok(None),
            Self::Word(word) => word.parse().map(Some).map_err(|_| ConfigError::Value {
                key: "control_core",
                value: word.clone(),
                expected: "'auto' or a CPU number",
            }),
        }
    }
}

/// How the CPUs are shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Placement {
    Auto,
    Dedicated,
    Shared,
}

/// How datagrams find their core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SteeringMode {
    /// A kernel program where it is allowed, else forwarding between cores.
    Auto,
    /// Forwarding between cores only.
    Forward,
}

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

/// One bearer token, as its SHA-256.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Token {
    pub(crate) name: String,
    pub(crate) sha256: String,
    #[serde(default = "first_tenant")]
    pub(crate) tenant: u64,
    /// Whether its holder may do everything that administrators can, in every tenant.
    #[serde(default)]
    pub(crate) operator: bool,
    pub(crate) grants: Vec<GrantText>,
}

/// One grant as people write it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GrantText {
    pub(crate) permissions: Vec<PermissionWord>,
    pub(crate) kind: Option<KindWord>,
    #[serde(default = "anything")]
    pub(crate) namespace: String,
    #[serde(default = "anything")]
    pub(crate) name: String,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PermissionWord {
    Read,
    Write,
    Admin,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum KindWord {
    Stream,
    Cache,
    Queue,
}

/// A resource that exists from the start.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Declared {
    pub(crate) kind: KindWord,
    /// `NAMESPACE/NAME`.
    pub(crate) name: String,
    #[serde(default = "first_tenant")]
    pub(crate) tenant: u64,
    #[serde(default)]
    pub(crate) shards: u16,
    /// Per partition; 0 = default.
    #[serde(default)]
    pub(crate) bytes: u64,
    /// Whether it survives a restart; of a queue unless it says otherwise.
    pub(crate) durable: Option<bool>,
    /// Of a queue, the time to live of its messages.
    #[serde(default)]
    pub(crate) retention_ms: u64,
    /// Per partition: what a durable stream keeps, or a queue holds.
    #[serde(default)]
    pub(crate) retention_bytes: u64,
    #[serde(default)]
    pub(crate) queue: QueueOptions,
    #[serde(default)]
    pub(crate) max_record_bytes: u32,
    /// `block` of a durable stream, else `drop_oldest`, unless it says otherwise.
    pub(crate) overflow: Option<OverflowWord>,
}

/// What only a queue has; 0 is the default.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct QueueOptions {
    pub(crate) visibility_ms: u32,
    pub(crate) max_attempts: u16,
    pub(crate) ordered_by_key: bool,
    pub(crate) drop_expired: bool,
    pub(crate) max_in_flight: u32,
    pub(crate) consumer_in_flight: u32,
    pub(crate) backoff_min_ms: u32,
    pub(crate) backoff_max_ms: u32,
    pub(crate) messages_max: u32,
    pub(crate) redeliveries_per_s: u32,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OverflowWord {
    Block,
    DropOldest,
    DropNewest,
    Disconnect,
}

fn first_tenant() -> u64 {
    1
}
fn anything() -> String {
    "**".to_owned()
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            data_dir: PathBuf::from("pinion-data"),
            data_cores: CoreList::Word("auto".into()),
            control_core: CoreChoice::Word("auto".into()),
            placement: Placement::Auto,
            spin_us: None,
            steering: SteeringMode::Auto,
            dev: false,
            drain_timeout_ms: 10_000,
            memory_bytes: 0,
            tls: Tls::default(),
            cluster: None,
            limits: Limits::default(),
            defaults: Defaults::default(),
            storage: Storage::default(),
            backup: Backup::default(),
            admin: Admin::default(),
            auth: Auth::default(),
            dashboard: Dashboard::default(),
            deletion: Deletion::default(),
            audit: Audit::default(),
            token: Vec::new(),
            resource: Vec::new(),
        }
    }
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

/// Flags of `pinion serve`; what is absent overrides nothing.
#[derive(Clone, Debug, Default, Serialize, clap::Args)]
pub(crate) struct Flags {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub(crate) config: Option<PathBuf>,
    /// Address and UDP port to listen on [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) listen: Option<SocketAddr>,
    /// Directory for certificates, tokens and data [default: pinion-data]
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data_dir: Option<PathBuf>,
    /// CPUs of the data cores: auto, or a list like 0,1 [default: auto]
    #[arg(long, value_name = "LIST|auto")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data_cores: Option<String>,
    /// CPU of the control core: auto, or a number [default: auto]
    #[arg(long, value_name = "N|auto")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) control_core: Option<String>,
    /// How datagrams find their core: auto (kernel program, else forwarding) or forward
    #[arg(long, value_name = "auto|forward")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) steering: Option<String>,
    /// Are the CPUs ours alone? auto, dedicated or shared; decides how long a core spins
    #[arg(long, value_name = "auto|dedicated|shared")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) placement: Option<String>,
    /// Development mode: loopback only, mints tokens, creates resources on first use
    #[arg(long)]
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) dev: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_false(value: &bool) -> bool {
    !*value
}

/// What is wrong with the configuration, and what to write instead.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("{0}")]
    Read(Box<figment::Error>),
    #[error("configuration file {0} does not exist: check --config")]
    NoFile(PathBuf),
    #[error("{key} = '{value}': expected {expected}")]
    Value {
        key: &'static str,
        value: String,
        expected: &'static str,
    },
    #[error(
        "--dev gives its tokens to everyone who can read {data_dir}, so it listens on loopback only, not on {listen}: drop --dev, or listen on 127.0.0.1"
    )]
    DevNotLoopback {
        listen: SocketAddr,
        data_dir: PathBuf,
    },
    #[error("tls.cert and tls.key go together: give both or neither")]
    HalfTls,
    #[error(
        "tls.client_ca and [[tls.client]] go together: the one says whose signature counts, the other whose \
         the workloads of a trust domain are"
    )]
    HalfClients,
    #[error("[[resource]] {name}: {source}")]
    ResourceName {
        name: String,
        source: pinion_types::NameError,
    },
}

/// A segment holds at least a few of the largest groups.
const SEGMENT_BYTES_MIN: u64 = 4 << 20;
/// A byte's place in its segment is kept in 32 bits.
const SEGMENT_BYTES_MAX: u64 = 1 << 30;

/// A wait longer than this counts as idle, and an idle core does not spin.
const SPIN_US_MAX: u64 = 1000;

/// Variables of the client commands; they share the prefix and are not ours.
const CLIENT_VARIABLES: &[&str] = &[
    "server",
    "ca",
    "token",
    "client_cert",
    "client_key",
    "tenant",
    "log",
];

impl Config {
    /// Reads file, variables and flags.
    pub(crate) fn load(flags: &Flags) -> Result<Self, ConfigError> {
        let mut figment = Figment::from(Serialized::defaults(Self::default()));
        if let Some(file) = &flags.config {
            if !Path::new(file).is_file() {
                return Err(ConfigError::NoFile(file.clone()));
            }
            figment = figment.merge(Toml::file_exact(file));
        }
        let config: Self = figment
            .merge(
                Env::prefixed("PINION_")
                    .ignore(CLIENT_VARIABLES)
                    .split("__"),
            )
            .merge(Serialized::defaults(flags))
            .extract()
            .map_err(|error| ConfigError::Read(Box::new(error)))?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        if self.dev && !self.listen.ip().is_loopback() {
            return Err(ConfigError::DevNotLoopback {
                listen: self.listen,
                data_dir: self.data_dir.clone(),
            });
        }
        self.tls.check()?;
        self.deletion.check()?;
        self.audit.check()?;
        if let Some(spin) = self.spin_us.filter(|spin| *spin > SPIN_US_MAX) {
            return Err(ConfigError::Value {
                key: "spin_us",
                value: spin.to_string(),
                expected: "microseconds from 0 to 1000",
            });
        }
        self.data_cores.cpus()?;
        self.control_core.cpu()?;
        self.principals()?;
        self.resources()?;
        if let Some(cluster) = &self.cluster {
            cluster.check()?;
        }
        self.check_storage()
    }

    fn check_storage(&self) -> Result<(), ConfigError> {
        let segment = self.storage.segment_bytes;
        if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&segment)
            || !segment.is_multiple_of(pinion_commitlog::BLOCK as u64)
        {
            return Err(ConfigError::Value {
                key: "storage.segment_bytes",
                value: segment.to_string(),
                expected: "a multiple of 4096 from 4194304 (4 MiB) to 1073741824 (1 GiB)",
            });
        }
        let time = self.backup.time_max_s;
        if !(BACKUP_S_MIN..=BACKUP_S_MAX).contains(&time) {
            return Err(ConfigError::Value {
                key: "backup.time_max_s",
                value: time.to_string(),
                expected: "60 (a minute) to 604800 (a week)",
            });
        }
        Ok(())
    }

    /// Longest a drain may take.
    pub(crate) fn drain_timeout(&self) -> Duration {
        Duration::from_millis(self.drain_timeout_ms)
    }

    /// Defaults of resources.
    pub(crate) fn spec_defaults(&self) -> SpecDefaults {
        SpecDefaults {
            stream_shards: self.defaults.stream_shards.max(1),
            stream_ring_bytes: self.defaults.stream_ring_bytes,
            stream_tail_bytes: self.defaults.stream_tail_bytes,
            queue_memory_bytes: self.defaults.queue_memory_bytes,
            cache_bytes: self.defaults.cache_bytes,
        }
    }

    /// The `[[token]]` tables, compiled.
    pub(crate) fn principals(&self) -> Result<Vec<(TokenDigest, Principal)>, ConfigError> {
        self.token.iter().map(Token::compile).collect()
    }

    /// The `[[token]]` tables, with those that run the cluster.
    pub(crate) fn tokens(&self) -> Result<Tokens, ConfigError> {
        let principals = self.principals()?;
        let pairs = self.token.iter().zip(&principals);
        let operators = pairs.filter(|(token, _)| token.operator);
        Ok(Tokens {
            operators: operators.map(|(_, (digest, _))| *digest).collect(),
            principals,
            domains: self.tls.domains(),
            operator_workloads: self.tls.operators(),
        })
    }

    /// Every tenant that a table names, each once.
    pub(crate) fn tenants(&self) -> Vec<TenantId> {
        let of_tokens = self.token.iter().map(|token| token.tenant);
        let of_resources = self.resource.iter().map(|resource| resource.tenant);
        let all: BTreeSet<u64> = of_tokens.chain(of_resources).collect();
        all.into_iter().map(TenantId).collect()
    }

    /// The `[[resource]]` tables, compiled.
    pub(crate) fn resources(
        &self,
    ) -> Result<Vec<(TenantId, ResourceKind, ResourceName, Spec)>, ConfigError> {
        self.resource.iter().map(Declared::compile).collect()
    }
}

impl Token {
    fn compile(&self) -> Result<(TokenDigest, Principal), ConfigError> {
        let digest = parse_digest(&self.sha256).ok_or_else(|| ConfigError::Value {
            key: "token.sha256",
            value: self.sha256.clone(),
            expected: "64 hexadecimal digits; `pinion token` prints a token and its digest",
        })?;
        let grants = self
            .grants
            .iter()
            .map(GrantText::compile)
            .collect::<Result<_, _>>()?;
        let principal = Principal {
            name: self.name.clone(),
            tenant: TenantId(self.tenant),
            grants,
        };
        Ok((digest, principal))
    }
}

fn parse_digest(text: &str) -> Option<TokenDigest> {
    let text = text.as_bytes();
    let mut digest = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(text.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = u8::try_from(high * 16 + low).ok()?;
    }
    Some(TokenDigest(digest))
}

impl GrantText {
    fn compile(&self) -> Result<Grant, ConfigError> {
        let scope = |key, text: &String| {
            Scope::parse(text).map_err(|_| ConfigError::Value {
                key,
                value: text.clone(),
                expected: "'**', 'a/b' or 'a/b/**'",
            })
        };
        let permissions = self
            .permissions
            .iter()
            .fold(Permissions::NONE, |all, word| {
                all.and(match word {
                    PermissionWord::Read => Permissions::READ,
                    PermissionWord::Write => Permissions::WRITE,
                    PermissionWord::Admin => Permissions::ADMIN,
                })
            });
        Ok(Grant {
            permissions,
            kind: self.kind.map(KindWord::kind),
            namespace: scope("token.grants.namespace", &self.namespace)?,
            name: scope("token.grants.name", &self.name)?,
        })
    }
}

impl KindWord {
    fn kind(self) -> ResourceKind {
        match self {
            Self::Stream => ResourceKind::Stream,
            Self::Cache => ResourceKind::Cache,
            Self::Queue => ResourceKind::Queue,
        }
    }
}

impl Declared {
    fn compile(&self) -> Result<(TenantId, ResourceKind, ResourceName, Spec), ConfigError> {
        let name = ResourceName::parse(&self.name).map_err(|source| ConfigError::ResourceName {
            name: self.name.clone(),
            source,
        })?;
        let is_queue = self.kind.kind() == ResourceKind::Queue;
        let queue = QueueSpec {
            visibility_ms: self.queue.visibility_ms,
            max_attempts: self.queue.max_attempts,
            ordered_by_key: self.queue.ordered_by_key,
            drop_expired: self.queue.drop_expired,
            max_in_flight: self.queue.max_in_flight,
            consumer_in_flight: self.queue.consumer_in_flight,
            backoff_min_ms: self.queue.backoff_min_ms,
            backoff_max_ms: self.queue.backoff_max_ms,
            messages_max: self.queue.messages_max,
            redeliveries_per_s: self.queue.redeliveries_per_s,
        };
        if !is_queue && queue != QueueSpec::UNSET {
            return Err(ConfigError::Value {
                key: "resource.queue",
                value: self.name.clone(),
                expected: "kind = 'queue' beside it",
            });
        }
        let durable = self.durable.unwrap_or(is_queue);
        let overflow = match self.kind {
            KindWord::Stream if durable => OverflowWord::Block,
            _ => OverflowWord::DropOldest,
        };
        let spec = Spec {
            shards: self.shards,
            durability: u8::from(durable),
            ring_bytes: self.bytes,
            retention_ms: self.retention_ms,
            retention_bytes: self.retention_bytes,
            queue,
            max_record_bytes: self.max_record_bytes,
            overflow: match self.overflow.unwrap_or(overflow) {
                OverflowWord::Block => Overflow::Block,
                OverflowWord::DropOldest => Overflow::DropOldest,
                OverflowWord::DropNewest => Overflow::DropNewest,
                OverflowWord::Disconnect => Overflow::Disconnect,
            },
        };
        Ok((TenantId(self.tenant), self.kind.kind(), name, spec))
    }
}

#[cfg(test)]
#[allow(clippy::result_large_err)] // figment's closure signature
mod tests {
    use super::*;
    use figment::Jail;

    fn flags(config: Option<&str>) -> Flags {
        Flags {
            config: config.map(PathBuf::from),
            ..Flags::default()
        }
    }

    #[test]
    fn flags_override_variables_which_override_the_file() {
        Jail::expect_with(|jail| {
            jail.create_file(
                "p.toml",
                "drain_timeout_ms = 1\nmemory_bytes = 1\nlisten = '127.0.0.1:1'\n[limits]\nretry_above = 7\n",
            )?;
            jail.set_env("PINION_MEMORY_BYTES", "2");
            jail.set_env("PINION_LISTEN", "127.0.0.1:2");
            jail.set_env("PINION_LIMITS__HANDSHAKES_MAX", "9");
            jail.set_env("PINION_SERVER", "ignored: a client variable");
            let mut flags = flags(Some("p.toml"));
            flags.listen = Some("127.0.0.1:3".parse().expect("address"));
            let config = Config::load(&flags).expect("valid");
            assert_eq!(config.drain_timeout_ms, 1);
            assert_eq!(config.memory_bytes, 2);
            assert_eq!(config.listen.port(), 3);
            assert_eq!(config.limits.retry_above, 7);
            assert_eq!(config.limits.handshakes_max, 9);
            Ok(())
        });
    }

    #[test]
    fn unknown_keys_are_refused_wherever_they_stand() {
        Jail::expect_with(|jail| {
            jail.create_file("p.toml", "drain_timeout = 1\n")?;
            let error = Config::load(&flags(Some("p.toml"))).expect_err("unknown key");
            assert!(error.to_string().contains("drain_timeout"), "{error}");
            jail.create_file("p.toml", "[limits]\nfoo = 1\n")?;
            assert!(Config::load(&flags(Some("p.toml"))).is_err());
            jail.set_env("PINION_DARIN", "1");
            assert!(Config::load(&flags(None)).is_err());
            Ok(())
        });
    }

    #[test]
    fn a_spin_is_left_to_the_placement_or_within_its_bound() {
        Jail::expect_with(|jail| {
            let none = Config::load(&flags(None)).expect("valid");
            assert_eq!(none.spin_us, None);
            jail.set_env("PINION_SPIN_US", "1000");
            let longest = Config::load(&flags(None)).expect("valid");
            assert_eq!(longest.spin_us, Some(SPIN_US_MAX));
            jail.set_env("PINION_SPIN_US", "1001");
            let error = Config::load(&flags(None)).expect_err("too long");
            assert!(error.to_string().contains("spin_us"), "{error}");
            Ok(())
        });
    }

    #[test]
    fn a_token_is_compiled_from_its_digest() {
        Jail::expect_with(|jail| {
            let digest = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
            jail.create_file(
                "p.toml",
                &format!(
                    "[[token]]\nname = 'ops'\nsha256 = '{digest}'\ngrants = [{{ permissions = ['read'], namespace = 'a' }}]\n"
                ),
            )?;
            let config = Config::load(&flags(Some("p.toml"))).expect("valid");
            let principals = config.principals().expect("valid");
            assert_eq!(principals[0].0, TokenDigest::of(b"secret"));
            assert_eq!(principals[0].1.tenant, TenantId(1));
            jail.create_file(
                "p.toml",
                "[[token]]\nname = 'ops'\nsha256 = 'secret'\ngrants = []\n",
            )?;
            let error = Config::load(&flags(Some("p.toml"))).expect_err("not a digest");
            assert!(error.to_string().contains("pinion token"), "{error}");
            Ok(())
        });
    }

    #[test]
    fn nothing_of_a_durable_stream_is_skipped_unless_it_says_so() {
        let of = |table: &str| {
            let mut declared = None;
            Jail::expect_with(|jail| {
                jail.create_file("p.toml", &format!("[[resource]]\nname = 'a/b'\n{table}"))?;
                let config = Config::load(&flags(Some("p.toml"))).expect("valid");
                declared = config.resources().expect("valid").pop();
                Ok(())
            });
            declared.expect("one").3.overflow
        };
        assert_eq!(of("kind = 'stream'\ndurable = true"), Overflow::Block);
        assert_eq!(of("kind = 'stream'"), Overflow::DropOldest);
        assert_eq!(of("kind = 'queue'"), Overflow::DropOldest);
        let said = "kind = 'stream'\ndurable = true\noverflow = 'disconnect'";
        assert_eq!(of(said), Overflow::Disconnect);
    }

    #[test]
    fn dev_mode_listens_on_loopback_only() {
        let flags = Flags {
            dev: true,
            listen: Some("0.0.0.0:8080".parse().expect("address")),
            ..Flags::default()
        };
        let error = Config::load(&flags).expect_err("not loopback");
        assert!(matches!(error, ConfigError::DevNotLoopback { .. }));
    }

    #[test]
    fn core_lists_are_words_numbers_or_lists() {
        assert_eq!(CoreList::Word("auto".into()).cpus().expect("auto"), None);
        let list = CoreList::Word("0, 2".into()).cpus().expect("list");
        assert_eq!(list, Some(vec![0, 2]));
        assert!(CoreList::Word("x".into()).cpus().is_err());
        assert_eq!(CoreChoice::Word("1".into()).cpu().expect("one"), Some(1));
    }
}
