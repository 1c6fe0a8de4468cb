//! Boot order of a node, and its end.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use pinion_admin_api::{ApiConfig, Cleartext, Host, HostFacts, Rate, SpecDefaults, backup_front};
use pinion_commitlog::{LogId, RecoveryReport};
use pinion_metadata::broker::Capacity;
use pinion_node::CoreConfig;
use pinion_node::map::Directory;
use pinion_plane::{NodeFacts, PeerName};
use pinion_quic::{
    ClockAnchor, CorePlace, Endpoint, EndpointError, ServerConfig, Steering, tls, transport,
};
use pinion_reactor::{
    BindError, CoreConfig as ReactorConfig, DiskConfig, GroupOptions, MAILBOX_CAPACITY_DEFAULT,
    Placement, PlacementError, PlacementMode, SpinPolicy, UdpGroup, bind_group, cpu, mesh,
    run_core, statfs_free,
};
use pinion_types::CoreId;
use rand::RngExt;
use rustls::RootCertStore;

use crate::backup::copy::Origin;
use crate::cert;
use crate::cluster::{ClusterError, Place};
use crate::config::{self, Cluster, Config, ConfigError, SteeringMode};
use crate::control::admin;
use crate::control::backups::BackupConfig;
use crate::control::boot::Boot;
use crate::control::{Control, Ending};
use crate::identity::{self, Identity, IdentityError};
use crate::issuing::{self, IssuingError};
use crate::logins::{self, LoginsError};
use crate::pump::NodePump;
use crate::store::{OpenError, OpenedCore, Store, open_cores};
use crate::wall_now;

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Placement(#[from] PlacementError),
    #[error("{0}; choose another with --listen, or stop what has it (ss -ulpn)")]
    Bind(#[from] BindError),
    #[error(
        "TCP {address} is in use by another process; choose another with --listen, stop what has it (ss -ltnp), \
         or do without the admin API: admin.enabled = false"
    )]
    AdminInUse { address: SocketAddr },
    #[error("TCP {address} for the admin API: {source}")]
    Admin {
        address: SocketAddr,
        source: io::Error,
    },
    #[error(transparent)]
    Issuing(#[from] IssuingError),
    #[error(transparent)]
    Logins(#[from] LoginsError),
    #[error("certificate: {0}; see tls.cert and tls.key")]
    Tls(#[from] tls::TlsError),
    #[error("{0}; see tls.client_ca")]
    Door(#[from] tls::DoorError),
    #[error("{0}")]
    Quic(#[from] EndpointError),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error(transparent)]
    Data(#[from] OpenError),
    #[error("{what}: {source}")]
    System {
        what: &'static str,
        source: io::Error,
    },
}

/// How often glommio passes through its rings under load. One pass costs about
/// ten system calls; the disk has a ring of its own, so only timers of the
/// executor itself are served by it.
const REACTOR_PASS_EVERY: Duration = Duration::from_millis(1);

/// The part of a core's memory that the tails of durable streams may take. A
/// smaller share leaves more to rings and caches and sends more readers to the
/// disk.
const TAILS_SHARE: u64 = 4;

/// Shards that a node says it takes: as many as a cluster may have. What bounds
/// them is memory, which each node counts itself.
const SHARDS_PER_NODE_MAX: u32 = 1 << 20;

/// What a node is called that belongs to no cluster.
const NODE: &str = "node-1";

/// A node at work.
pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    /// Administrators are served on the same port, by TCP.
    pub(crate) has_admin: bool,
    pub(crate) steered: bool,
    pub(crate) placement: Placement,
    /// What clients trust; `None` with the operator's own certificate.
    pub(crate) ca_path: Option<PathBuf>,
    pub(crate) warnings: Vec<String>,
    pub(crate) socket_buffers: pinion_reactor::BufferReport,
    pub(crate) found: Findings,
    stop: Arc<AtomicBool>,
    control: JoinHandle<Ending>,
}

impl Node {
    /// Starts a node and returns once its cores take datagrams.
    pub(crate) fn start(config: &Config) -> Result<Self, StartError> {
        let usable = cpu::usable().map_err(|source| StartError::System {
            what: "reading which CPUs this process may use",
            source,
        })?;
        let placement = Placement::plan(
            &usable,
            config.data_cores.cpus()?.as_deref(),
            config.control_core.cpu()?,
        )?;
        let cores = u16::try_from(placement.data.len()).expect("the plan is bounded");

        let identity = identity::load(config)?;
        let issuing = issuing::load(config)?;
        let logins = logins::load(config)?;
        let mut tokens = config.tokens()?;
        if config.dev {
            let principals = identity::dev_principals(config)?;
            tokens.operators.push(principals[0].0);
            tokens.principals.extend(principals);
        }

        let mut random = rand::rng();
        let wall = wall_now();
        let store = Store::open(&config.data_dir, random.random(), wall)?;

        let steering = Steering::from_seed(random.random(), cores).map_err(EndpointError::from)?;
        let node_id = random.random();
        let node_secret = identity::secret(config)?;
        let started = Instant::now();
        let tls =
            tls::server_config_pem(identity.chain_pem.as_bytes(), identity.key_pem.as_bytes())?;
        let clock = ClockAnchor {
            monotonic: started,
            wall: SystemTime::now(),
        };
        let mut quic =
            ServerConfig::new(tls, node_secret, clock).with_mtu_max(mtu_for(config.listen));
        let place = config.cluster.as_ref().map(Place::load).transpose()?;
        let mut doors = place.as_ref().map(Place::doors).transpose()?;
        let client_roots = identity::client_roots(config)?;
        if let Some(roots) = &client_roots {
            let with_peers = doors.unwrap_or_default();
            doors = Some(with_peers.with_clients(roots.clone())?);
        }
        quic.doors = doors.map(Arc::new);
        quic.limits.connections_max = config.limits.connections_max as usize;
        quic.limits.handshakes_max = config.limits.handshakes_max as usize;
        quic.limits.retry_above = config.limits.retry_above as usize;
        quic.limits.prefix_burst = config.limits.prefix_burst;
        quic.limits.prefix_rate = config.limits.prefix_rate;

        let keys = pinion_reactor::Steering {
            k0: steering.k0(),
            k1: steering.k1(),
        };
        let options = GroupOptions {
            attach_steering: config.steering == SteeringMode::Auto,
            ..GroupOptions::default()
        };
        let (group, door) = bind(config, cores, &keys, options)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(|source| StartError::System {
                what: "making the control thread's runtime",
                source,
            })?;
        let cluster = match &place {
            None => None,
            Some(place) => {
                let first = CorePlace { steering, core: 0 };
                let lobby = Endpoint::server(&quic, first, random.random())?;
                let sockets = (0..usize::from(cores)).map(|index| group.socket(index));
                let sockets = sockets.collect::<io::Result<_>>();
                let sockets = sockets.map_err(ClusterError::Socket)?;
                let (from, mtu_max) = (config.listen.ip(), mtu_for(config.listen));
                let _runtime = runtime.enter();
                let network = place.network(from, mtu_max, random.random(), (lobby, sockets))?;
                Some((place.config.clone(), network))
            }
        };
        let of = |field: fn(&Cluster) -> &String| {
            let value = config.cluster.as_ref().map(field);
            value.map_or_else(Box::default, |value| value.as_str().into())
        };
        let alone = PeerName::new(NODE).expect("it follows the grammar");
        let logs = store.logs(cores);
        let memory = memory_per_core(config, cores);
        let boot = Boot {
            dir: &config.data_dir,
            store: store.identity.uuid,
            seed: random.random(),
            node: NodeFacts {
                name: place.as_ref().map_or(alone, |place| place.node().clone()),
                address: place
                    .as_ref()
                    .and_then(|place| place.address.clone())
                    .unwrap_or_else(|| group.local_addr.to_string().into()),
                region: of(|cluster| &cluster.region),
                zone: of(|cluster| &cluster.zone),
                labels: Box::default(),
                capacity: Capacity {
                    max_shards: SHARDS_PER_NODE_MAX,
                    max_connections: config.limits.connections_max.saturating_mul(cores.into()),
                    cores,
                    logs,
                    // 0 would be that it does not say.
                    memory_per_core: memory.max(1),
                },
                incarnation: random.random_range(1..=u64::MAX),
            },
            cluster,
            directory: Directory::new(cores, memory, config.spec_defaults()).with_logs(logs),
            tenants: config.tenants(),
            tokens,
            resources: config.resources()?,
            audit: config.audit.plane(),
            settings: config.settings(),
        };
        let booted = runtime.block_on(boot.run()).map_err(OpenError::Boot)?;
        let access = booted.access();
        let (ends, control_end) =
            mesh(usize::from(cores), MAILBOX_CAPACITY_DEFAULT).map_err(|source| {
                StartError::System {
                    what: "making the mailboxes between cores",
                    source,
                }
            })?;
        let mode = match config.placement {
            config::Placement::Auto => PlacementMode::Auto,
            config::Placement::Dedicated => PlacementMode::Dedicated,
            config::Placement::Shared => PlacementMode::Shared,
        };
        let spin = match (placement.spin(mode, &usable), config.spin_us) {
            // A fractional quota: whatever was asked, spinning spends it.
            (SpinPolicy::OFF, _) => SpinPolicy::OFF,
            (_, Some(us)) => SpinPolicy::up_to(Duration::from_micros(us)),
            (spin, None) => spin,
        };
        let control_port = control_end.port();
        let core_configs = (0..cores)
            .map(|me| {
                let core = CoreConfig {
                    core: CoreId(me),
                    data_cores: cores,
                    node_id,
                    steering: (keys.k0, keys.k1),
                    create_on_first_use: config.dev,
                    seed: random.random(),
                    tail_bytes_max: memory / TAILS_SHARE,
                };
                (core, random.random())
            })
            .collect();
        let opened = open_cores(
            &store,
            config,
            &booted.inventory,
            core_configs,
            &access,
            wall,
        )?;
        let mut found = Findings::of(&opened);
        for (log, report) in &booted.reports {
            found.add(*log, report);
        }
        let mut handles = Vec::new();
        for ((index, end), opened) in ends.into_iter().enumerate().zip(opened) {
            let me = u16::try_from(index).expect("the plan is bounded");
            let core_place = CorePlace { steering, core: me };
            let endpoint = Endpoint::server(&quic, core_place, random.random())?;
            let doors = (place.as_ref().map(Place::door), client_roots.is_some());
            let core = opened.core;
            let drain_timeout = config.drain_timeout();
            let reactor = ReactorConfig {
                cpu: Some(placement.data[index]),
                spin,
                reactor_pass_every: REACTOR_PASS_EVERY,
                disk: Some(DiskConfig {
                    dir: config.data_dir.clone(),
                }),
                ..ReactorConfig::new(index)
            };
            let socket = group.socket(index).map_err(|source| StartError::System {
                what: "opening the core's socket",
                source,
            })?;
            let handle = run_core(reactor, socket, end, move || {
                NodePump::new(
                    core,
                    endpoint,
                    doors,
                    me,
                    control_port,
                    started,
                    drain_timeout,
                )
            })
            .map_err(|source| StartError::System {
                what: "starting a data core (try `pinion doctor`)",
                source,
            })?;
            handles.push(handle);
        }

        let issues = issuing.identity;
        let (backup, backups) = backup_front();
        let name = place.as_ref().map_or(NODE, |place| place.node().as_str());
        let backup_config = backup_config(config, name, &store);
        let admin = match door {
            Some(listener) => {
                let shows = (&identity, client_roots);
                let api = admin_config(config, listener, shows, (name, cores))?;
                let api = ApiConfig {
                    identity: issues.clone(),
                    logins,
                    bootstrap: issuing.bootstrap,
                    backup,
                    ..api
                };
                Some((api, issuing.driver))
            }
            None => None,
        };
        let has_admin = admin.is_some();
        let stop = Arc::new(AtomicBool::new(false));
        let control = {
            let stop = Arc::clone(&stop);
            let drain_timeout = config.drain_timeout();
            let cpu = placement.control;
            let (address, steered, buffers) = (group.local_addr, group.steered, group.buffers);
            let thread = thread::Builder::new()
                .name("pinion-control".to_owned())
                .spawn(move || {
                    if let Err(error) = cpu::pin_current_thread(cpu) {
                        tracing::warn!(cpu, %error, "the control thread is not pinned");
                    }
                    // The group's sockets stay open, in their order, as long as
                    // any core runs: the kernel steers by position.
                    let _group = group;
                    // And nobody else may have the directory.
                    let _store = store;
                    let control = Control::new(booted, issues, handles, (backups, backup_config));
                    runtime.block_on(control.serve(control_end, admin, &stop, drain_timeout))
                })
                .map_err(|source| StartError::System {
                    what: "starting the control thread",
                    source,
                })?;
            (thread, address, steered, buffers)
        };
        let (control, address, steered, socket_buffers) = control;
        Ok(Self {
            address,
            has_admin,
            steered,
            placement,
            ca_path: identity.ca_path,
            warnings: usable.warnings(),
            socket_buffers,
            found,
            stop,
            control,
        })
    }

    /// What a signal handler sets to end the node.
    pub(crate) fn stop_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// Drains and ends the node.
    pub(crate) fn stop(self) -> Ending {
        self.stop.store(true, Ordering::Relaxed);
        self.wait()
    }

    /// Waits until the node has ended.
    pub(crate) fn wait(self) -> Ending {
        self.control.join().unwrap_or_else(|_| Ending {
            stats: pinion_node::stats::CoreStats::default(),
            failures: vec!["the control thread panicked".to_owned()],
        })
    }
}

/// What the start found in the logs, for the operator.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings {
    /// Segments and bytes of them.
    pub(crate) segments: usize,
    pub(crate) bytes: u64,
    pub(crate) records_replayed: u64,
    /// What is wrong or was cut, one sentence each.
    pub(crate) remarks: Vec<String>,
}

impl Findings {
    fn of(cores: &[OpenedCore]) -> Self {
        let mut found = Self::default();
        for (log, opened) in cores.iter().flat_map(|core| &core.logs) {
            let report = &opened.report;
            found.segments += report.segments;
            found.bytes += report.bytes;
            found.records_replayed += report.records_replayed;
            found.add(*log, report);
            if opened.fenced > 0 {
                found.remarks.push(format!(
                    "log {}: {} partitions are closed because data of theirs is damaged; \
                     `pinion doctor --data-dir` names it",
                    log.0, opened.fenced
                ));
            }
            for one in &opened.senseless {
                found.remarks.push(format!(
                    "log {}: record {} of resource {}, partition {} makes no sense: {}; the partition is closed",
                    log.0, one.lsn.0, one.resource, one.partition, one.reason
                ));
            }
            if opened.orphans > 0 {
                found.remarks.push(format!(
                    "log {}: {} partitions belong to no declared resource; their data is kept",
                    log.0, opened.orphans
                ));
            }
        }
        found
    }

    /// What the recovery of one log met.
    fn add(&mut self, log: LogId, report: &RecoveryReport) {
        if let Some(torn) = &report.torn {
            self.remarks.push(format!(
                "log {}: {} bytes at {} of segment {} were never finished and never acknowledged: cut off",
                log.0, torn.bytes, torn.offset, torn.segment
            ));
        }
        for damage in &report.damage {
            self.remarks.push(format!("log {}: {damage}", log.0));
        }
        for name in &report.foreign {
            self.remarks.push(format!(
                "log {}: {name} is not a file of a log; left alone",
                log.0
            ));
        }
    }
}

/// Tries to find a port that is free for UDP and TCP, where any will do.
const PORTS_TRIED: u32 = 64;

/// How long a named port that is in use is tried again. A node that was killed gives its
/// sockets back when the kernel has taken its rings apart, a moment after the process has
/// ended and was waited for; nothing tells when.
const PORT_PATIENCE: Duration = Duration::from_secs(3);

/// Between two tries.
const PORT_AGAIN: Duration = Duration::from_millis(20);

/// The sockets of the cores, and with an admin API the same port for TCP, as soon as
/// whoever had them is gone.
fn bind(
    config: &Config,
    cores: u16,
    keys: &pinion_reactor::Steering,
    options: GroupOptions,
) -> Result<(UdpGroup, Option<TcpListener>), StartError> {
    let began = Instant::now();
    loop {
        let bound = bind_now(config, cores, keys, options);
        let in_use = matches!(
            &bound,
            Err(StartError::Bind(BindError::InUse { .. }) | StartError::AdminInUse { .. })
        );
        if !in_use || config.listen.port() == 0 || began.elapsed() >= PORT_PATIENCE {
            return bound;
        }
        thread::sleep(PORT_AGAIN);
    }
}

fn bind_now(
    config: &Config,
    cores: u16,
    keys: &pinion_reactor::Steering,
    options: GroupOptions,
) -> Result<(UdpGroup, Option<TcpListener>), StartError> {
    let mut tried = 0;
    loop {
        tried += 1;
        let group = bind_group(config.listen, usize::from(cores), Some(keys), options)?;
        if !config.admin.enabled {
            return Ok((group, None));
        }
        let address = group.local_addr;
        match admin::bind(address) {
            Ok(listener) => return Ok((group, Some(listener))),
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                if config.listen.port() != 0 || tried == PORTS_TRIED {
                    return Err(StartError::AdminInUse { address });
                }
            }
            Err(source) => return Err(StartError::Admin { address, source }),
        }
    }
}

/// What administrators are served with.
fn admin_config(
    config: &Config,
    listener: TcpListener,
    (identity, client_roots): (&Identity, Option<RootCertStore>),
    (node, cores): (&str, u16),
) -> Result<ApiConfig, StartError> {
    let tls = tls::server_config_pem(identity.chain_pem.as_bytes(), identity.key_pem.as_bytes())?;
    let mut tls = match client_roots {
        Some(roots) => tls::with_client_roots(&tls, roots)?,
        None => (*tls).clone(),
    };
    // What may be replayed is nothing that changes anything.
    tls.max_early_data_size = 0;
    let specs = config.spec_defaults();
    let defaults = SpecDefaults {
        stream_shards: specs.stream_shards,
        data_cores: cores,
        stream_ring_bytes: specs.stream_ring_bytes,
        stream_tail_bytes: specs.stream_tail_bytes,
        queue_memory_bytes: specs.queue_memory_bytes,
        cache_bytes: specs.cache_bytes,
        ..SpecDefaults::default()
    };
    let rate = |per_second: u32| Rate {
        per_second,
        burst: per_second.saturating_mul(2).max(1),
    };
    let dir = config.data_dir.clone();
    Ok(ApiConfig {
        host: Host::new(move || HostFacts {
            space: statfs_free(&dir).ok(),
            throttled: cpu::throttled(),
        }),
        reads: rate(config.admin.reads_per_second),
        writes: rate(config.admin.writes_per_second),
        tls: Some(Arc::new(tls)),
        certificate_until: cert::until(&identity.chain_pem).map(Into::into),
        cleartext: if config.dev || config.admin.cleartext_on_loopback {
            Cleartext::Loopback
        } else {
            Cleartext::Never
        },
        node: node.into(),
        defaults,
        ..ApiConfig::new(listener)
    })
}

/// How backups of this node are made.
fn backup_config(config: &Config, node: &str, store: &Store) -> BackupConfig {
    BackupConfig {
        origin: Origin {
            dir: store.dir.clone(),
            identity: store.identity,
            node: node.to_owned(),
            own: if config.dev { "dev" } else { "tls" },
            master_key: config.auth.master_key_file.clone(),
            bytes_per_second: config.backup.bytes_per_second,
        },
        hold: Duration::from_secs(config.backup.time_max_s),
        held_bytes_max: config.backup.held_bytes_max,
    }
}

/// Loopback takes large packets, so that fewer carry the same bytes.
fn mtu_for(listen: SocketAddr) -> u16 {
    if listen.ip().is_loopback() {
        transport::MTU_JUMBO
    } else {
        transport::MTU_ETHERNET
    }
}

/// Bytes of rings and caches one core may promise.
fn memory_per_core(config: &Config, cores: u16) -> u64 {
    let total = if config.memory_bytes > 0 {
        config.memory_bytes
    } else {
        // The other half is for connections, the transport and the system.
        usable_memory() / 2
    };
    total / u64::from(cores)
}

/// The smaller of the cgroup's limit and the machine's memory; 1 GiB when
/// neither can be read.
fn usable_memory() -> u64 {
    let machine = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
            let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
            Some(kib * 1024)
        })
        .unwrap_or(1 << 30);
    match cpu::memory_limit() {
        Some(limit) => machine.min(limit),
        None => machine,
    }
}
