//! Configuration: defaults, then a TOML file, then `PINION_*` variables, then
//! flags; each overrides what came before. A key nobody knows is an error.

mod cluster;
mod dashboard;
#[cfg(test)]
mod documented;
mod kept;
mod principals;
mod resources;
#[cfg(test)]
mod said;
mod sections;
mod settings;
mod tls;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::control::access::Tokens;
use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use pinion_node::access::{Principal, TenantId, TokenDigest};
use pinion_node::map::SpecDefaults;
use pinion_types::{ResourceKind, ResourceName};
use pinion_wire::message::Spec;
use serde::{Deserialize, Serialize};

pub(crate) use cluster::Cluster;
pub(crate) use dashboard::{Dashboard, Oidc};
pub(crate) use kept::{Audit, Deletion};
pub(crate) use principals::Token;
pub(crate) use resources::Declared;
pub(crate) use sections::{Admin, Auth, Backup, Defaults, Limits, Storage};
pub(crate) use settings::{Heartbeat, missing as missing_settings};
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
    pub(crate) heartbeat: Heartbeat,
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
            heartbeat: Heartbeat::default(),
            deletion: Deletion::default(),
            audit: Audit::default(),
            token: Vec::new(),
            resource: Vec::new(),
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

/// A wait longer than this counts as idle, and an idle core does not spin.
const SPIN_US_MAX: u64 = 1000;

/// Variables with secrets of the node. They are no keys: whatever shows the configuration,
/// or says what is wrong with it, never had them.
const SECRET_VARIABLES: &[&str] = &["auth__master_key"];

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
                    .ignore(SECRET_VARIABLES)
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
        self.heartbeat.check()?;
        self.auth.check()?;
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
        self.storage.check()?;
        self.backup.check()
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

#[cfg(test)]
#[allow(clippy::result_large_err)] // figment's closure signature
mod tests {
    use super::*;
    use figment::Jail;
    use pinion_wire::message::Overflow;

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
    fn a_secret_of_a_variable_is_in_no_configuration_and_in_no_file() {
        Jail::expect_with(|jail| {
            let key = "0123456789abcdef".repeat(4);
            jail.set_env("PINION_AUTH__MASTER_KEY", &key);
            let config = Config::load(&flags(None)).expect("no key, and not refused");
            let shown = serde_json::to_string(&config).expect("shown");
            assert!(!shown.contains(&key) && !format!("{config:?}").contains(&key));
            // Nor does it count where nobody looks for it: files are kept and copied.
            jail.create_file("p.toml", &format!("[auth]\nmaster_key = '{key}'\n"))?;
            let error = Config::load(&flags(Some("p.toml"))).expect_err("unknown key");
            assert!(error.to_string().contains("master_key"), "{error}");
            assert!(!error.to_string().contains(&key), "{error}");
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
