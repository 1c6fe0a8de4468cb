//! The control plane before the cores are there: its logs are read, this node is
//! registered, and what the configuration declares is declared.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pinion_commitlog::{LogId, RecoveryReport};
use pinion_metadata::command::{CreateTenant, UpdateSettings};
use pinion_metadata::tenant::{DEFAULT_TENANT, TenantQuotas};
use pinion_metadata::{BrokerNumber, Command, Expect, Metadata, ObjectKey};
use pinion_node::access::{AccessTable, TenantId};
use pinion_node::declared::Declared;
use pinion_node::map::{Admitted, Directory};
use pinion_plane::{
    AUDIT_LOG, Answer, AuditConfig, Caller, ClusterConfig, NodeFacts, Opened, Plane, PlaneConfig,
    PlaneError, PlaneOpenError, PlaneOutput, Request, Write,
};
use pinion_raft_group::{GroupConfig, RAFT_LOG};
use pinion_reactor::FileStore;
use pinion_types::{Epoch, Refusal, ResourceKind, ResourceName};
use pinion_wire::message::Spec;

use super::access::{Access, Tokens};
use super::declarations::{Declarations, PRINCIPAL};
use super::disk::Disk;
use super::driver::Driver;
use super::known::{Inventory, Known};
use super::network::Network;
use super::{convert, import};
use crate::config::missing_settings;
use crate::meta::{self, MetaError};
use crate::wall_now;

/// The folder of the control plane's logs in a data directory.
pub(crate) const FOLDER: &str = "control";

/// An empty file there: what an earlier release declared is in the metadata, and its
/// log need not be read again. Without it that is done again, and changes nothing.
pub(crate) const IMPORTED: &str = "imported";

/// Longest the plane may take to come to know what was decided before. A disk
/// that is full may keep it from that for longer: then the node serves what it
/// knows.
const READY_PATIENCE: Duration = Duration::from_secs(5);

/// Longest a command may take at the start.
const COMMAND_PATIENCE: Duration = Duration::from_secs(10);

/// Bytes of a segment of the metadata's log. Smaller makes the first start
/// quicker and leaves more of a small disk to data; larger makes new ones rarer.
pub(crate) const SEGMENT_BYTES: u64 = 4 << 20;

/// The same of the audit log.
pub(crate) const AUDIT_SEGMENT_BYTES: u64 = 1 << 20;

/// Why the control plane cannot be opened. Nothing that holds data was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BootError {
    #[error("{} cannot be made: {source}", dir.display())]
    Make { dir: PathBuf, source: io::Error },
    #[error("the disk thread of the control plane: {0}")]
    Thread(io::Error),
    /// Without it nobody knows whose data the other logs hold (R37).
    #[error(
        "the metadata (DIR/control): {0}; \
         restore DIR/control from a backup: the data of the other logs is untouched"
    )]
    Plane(Box<PlaneOpenError>),
    #[error("the control plane has stopped while it was read; see above")]
    Failed,
    #[error("this node could not be registered in the metadata; see above")]
    Unregistered,
    #[error(
        "the resources of an earlier release (DIR/log-65535) do not fit into the metadata: {0}"
    )]
    Import(PlaneError),
    #[error(transparent)]
    Before(#[from] MetaError),
    #[error("DIR/control/imported cannot be made: {0}")]
    Mark(io::Error),
    #[error("a resource of an earlier release (DIR/log-65535) cannot be served: {0}")]
    Imported(Refusal),
    #[error("resource in the configuration: {0}")]
    Resource(Refusal),
    #[error("resource in the configuration cannot be written down: {0}")]
    Declare(PlaneError),
    #[error(
        "what the configuration says for the whole cluster (deletion.grace_ms, heartbeat.*, \
         auth.token_life_s) cannot be written down: {0}"
    )]
    Settings(PlaneError),
}

/// A resource of the configuration.
pub(crate) type Configured = (TenantId, ResourceKind, ResourceName, Spec);

/// What the start needs to know.
pub(crate) struct Boot<'a> {
    /// The data directory.
    pub(crate) dir: &'a Path,
    /// Its identity.
    pub(crate) store: [u8; 16],
    /// Different in every life of the node.
    pub(crate) seed: u64,
    pub(crate) node: NodeFacts,
    /// The cluster it belongs to, and how it reaches the others.
    pub(crate) cluster: Option<(ClusterConfig, Network)>,
    pub(crate) directory: Directory,
    /// As the configuration numbers them.
    pub(crate) tenants: Vec<TenantId>,
    pub(crate) tokens: Tokens,
    pub(crate) resources: Vec<Configured>,
    pub(crate) audit: AuditConfig,
    /// What the configuration says for the whole cluster.
    pub(crate) settings: UpdateSettings,
}

/// A plane that has caught up, and what the cores are to know.
pub(crate) struct Booted {
    pub(super) driver: Driver,
    pub(super) known: Known,
    pub(super) declarations: Declarations,
    pub(super) access: Access,
    pub(crate) inventory: Inventory,
    /// What the recovery of the plane's logs met.
    pub(crate) reports: [(LogId, RecoveryReport); 2],
}

impl Booted {
    /// Who may do what, for cores that begin.
    pub(crate) fn access(&self) -> Arc<AccessTable> {
        self.access.table()
    }

    /// The tenant that the configuration has under a number; 0, which is nobody's,
    /// while there is none.
    fn tenant(&self, configured: TenantId) -> TenantId {
        let name = tenant_name(configured);
        self.known.tenant_id(&name).unwrap_or(TenantId(0))
    }
}

/// What a tenant is called that a configuration knows by a number.
pub(super) fn tenant_name(configured: TenantId) -> Box<str> {
    match configured.0 {
        1 => DEFAULT_TENANT.into(),
        number => format!("tenant-{number}").into(),
    }
}

impl Boot<'_> {
    /// Opens the plane and brings it up to date. Within the runtime that the
    /// control thread goes on with.
    ///
    /// # Errors
    /// Why the node cannot start.
    pub(crate) async fn run(self) -> Result<Booted, BootError> {
        let folder = self.dir.join(FOLDER);
        make(&folder).map_err(|source| BootError::Make {
            dir: folder.clone(),
            source,
        })?;
        let (cluster, network) = self.cluster.unzip();
        let config = PlaneConfig {
            node: self.node,
            cluster,
            group: GroupConfig {
                store: self.store,
                seed: self.seed,
                segment_bytes: SEGMENT_BYTES,
                ..GroupConfig::default()
            },
            audit: self.audit,
        };
        let mut files = FileStore::new(&folder);
        let opened = Plane::open(config, &mut files, wall_now())
            .map_err(|error| BootError::Plane(Box::new(error)))?;
        let Opened {
            plane,
            report,
            audit_report,
            ..
        } = opened;
        let disk = Disk::start(&folder, &[RAFT_LOG, AUDIT_LOG]).map_err(BootError::Thread)?;
        let mut start = Start {
            driver: Driver::new(plane, disk, network),
            declarations: Declarations::default(),
            outputs: VecDeque::new(),
        };
        let is_ready = start.catch_up().await;
        let broker = start.driver.plane.broker().ok_or(BootError::Unregistered)?;
        let mut known = Known::new(self.directory, broker);
        if is_ready && !folder.join(IMPORTED).exists() {
            let before = meta::read(self.dir, self.store)?;
            start.import(before, broker, &known.directory).await?;
            File::create(folder.join(IMPORTED)).map_err(BootError::Mark)?;
        }
        if is_ready {
            start.make_tenants(&self.tenants).await?;
            start.set_settings(self.settings).await?;
        }
        let inventory = known.read(start.metadata()?);
        let access = Access::new(self.tokens, start.metadata()?, &known);
        let mut booted = Booted {
            access,
            driver: start.driver,
            known,
            declarations: start.declarations,
            inventory,
            reports: [(RAFT_LOG, report), (AUDIT_LOG, audit_report)],
        };
        if is_ready {
            booted.declare(self.resources).await?;
        } else if !self.resources.is_empty() {
            tracing::warn!(
                "resources of the configuration that are not there are declared at the next start"
            );
        }
        booted.driver.leave_lobby();
        Ok(booted)
    }
}

/// A plane on its way.
struct Start {
    driver: Driver,
    declarations: Declarations,
    outputs: VecDeque<PlaneOutput>,
}

impl Start {
    fn metadata(&self) -> Result<&Metadata, BootError> {
        self.driver.plane.metadata().ok_or(BootError::Failed)
    }

    /// Until everything is known that was decided before. False: the node goes on
    /// with what it knows.
    async fn catch_up(&mut self) -> bool {
        while tokio::time::timeout(READY_PATIENCE, self.ready())
            .await
            .is_err()
        {
            // Whoever nobody knows yet has nothing to serve.
            if self.driver.is_alone() || self.driver.plane.broker().is_some() {
                tracing::warn!(
                    "the control plane has not caught up; the node serves the resources that it knows"
                );
                return false;
            }
            tracing::warn!("waiting for the other nodes of the cluster");
        }
        true
    }

    /// Cancel safe.
    async fn ready(&mut self) {
        self.driver.begin(None);
        loop {
            self.driver.finish(&mut self.outputs);
            self.driver.flush();
            let ready = |output: &PlaneOutput| matches!(output, PlaneOutput::Ready);
            if self.outputs.drain(..).any(|output| ready(&output)) {
                return;
            }
            let happened = self.driver.happened().await;
            self.driver.begin(Some(happened));
        }
    }

    /// Takes over what an earlier release declared, once. A start that was cut
    /// short goes on where it ended.
    async fn import(
        &mut self,
        before: Vec<Declared>,
        broker: BrokerNumber,
        directory: &Directory,
    ) -> Result<(), BootError> {
        let pieces = import::pieces(before, broker, directory).map_err(BootError::Imported)?;
        let done = self.metadata()?.imported();
        for piece in pieces {
            if done.is_none_or(|done| done < piece.upto) {
                let command = Command::Import(piece);
                ask(&mut self.driver, &mut self.declarations, command)
                    .await
                    .map_err(BootError::Import)?;
            }
        }
        Ok(())
    }

    /// What the configuration names by number has a name.
    async fn make_tenants(&mut self, configured: &[TenantId]) -> Result<(), BootError> {
        for tenant in configured {
            let name = tenant_name(*tenant);
            if self.metadata()?.get(&ObjectKey::tenant(&name)).is_some() {
                continue;
            }
            let command = Command::CreateTenant(CreateTenant {
                name,
                display_name: Box::default(),
                description: Box::default(),
                quotas: TenantQuotas::default(),
                encryption: None,
            });
            ask(&mut self.driver, &mut self.declarations, command)
                .await
                .map_err(BootError::Declare)?;
        }
        Ok(())
    }

    /// What the configuration says holds for the whole cluster.
    async fn set_settings(&mut self, said: UpdateSettings) -> Result<(), BootError> {
        let now = self.metadata()?.settings();
        let Some(missing) = missing_settings(said, &now) else {
            return Ok(());
        };
        let command = Command::UpdateSettings(missing);
        ask(&mut self.driver, &mut self.declarations, command)
            .await
            .map_err(BootError::Settings)
    }
}

impl Booted {
    /// Declares what the configuration has and the metadata has not.
    async fn declare(&mut self, configured: Vec<Configured>) -> Result<(), BootError> {
        for (tenant, kind, name, spec) in configured {
            let tenant = self.tenant(tenant);
            let directory = &mut self.known.directory;
            let draft = match directory
                .admit(tenant, kind, &name, Some(spec))
                .map_err(BootError::Resource)?
            {
                Admitted::Exists(_) => continue,
                Admitted::New(draft) => draft,
            };
            let of: Box<str> = self.known.tenant(tenant).unwrap_or_default().into();
            let command = Command::Declare(convert::declare(&draft, &of, self.known.broker));
            let answer = ask(&mut self.driver, &mut self.declarations, command).await;
            self.known.directory.settle(&draft);
            answer.map_err(BootError::Declare)?;
            let metadata = self.driver.plane.metadata().ok_or(BootError::Failed)?;
            if let Some(declared) = self.known.find(metadata, (kind, &of, &name)) {
                self.inventory.resources.push(declared);
                self.inventory.epoch = Epoch(metadata.version().0);
            }
        }
        Ok(())
    }
}

/// Asks the plane for a change and waits for what becomes of it.
async fn ask(
    driver: &mut Driver,
    declarations: &mut Declarations,
    command: Command,
) -> Result<(), PlaneError> {
    let id = declarations.next_id();
    let write = Write {
        caller: Caller {
            principal: PRINCIPAL.into(),
            request: 0,
            remote: None,
        },
        expect: Expect::Any,
        command,
        deadline: driver.now() + COMMAND_PATIENCE,
    };
    driver.begin(None);
    driver.plane.handle_request(id, Request::Write(write));
    let mut outputs = VecDeque::new();
    loop {
        driver.finish(&mut outputs);
        driver.flush();
        for output in outputs.drain(..) {
            match output {
                PlaneOutput::Answer { id: of, answer } if of == id => {
                    return match answer {
                        Answer::Refused(error) => Err(error),
                        _ => Ok(()),
                    };
                }
                // What changed is read from the metadata.
                _ => {}
            }
        }
        let happened = driver.happened().await;
        driver.begin(Some(happened));
    }
}

/// Makes the folder, so that it outlives a power cut before anything in it is
/// acknowledged.
fn make(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    fs::create_dir(folder)?;
    match folder.parent() {
        Some(above) => File::open(above)?.sync_all(),
        None => Ok(()),
    }
}
