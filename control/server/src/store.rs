//! The data directory at start: whose it is, what was declared, and what the
//! logs hold.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use pinion_commitlog::{LogConfig, LogId, RecoverError};
use pinion_node::access::AccessTable;
use pinion_node::mail::CoreMail;
use pinion_node::{Core, CoreConfig};
use pinion_reactor::FileStore;
use pinion_reactor::store::{DirLock, FORMAT, Identity, StoreError};
use pinion_shard::OpenedLog;
use pinion_types::WallMs;

use crate::backup::RESTORING;
use crate::config::Config;
use crate::control::boot::BootError;
use crate::control::known::Inventory;
use crate::meta::META_LOG;

/// Why the data directory cannot be used. Nothing that holds data was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("{0}{fix}", fix = fix(.0))]
    Store(#[from] StoreError),
    #[error("{dir} cannot be made: {source}; choose another with --data-dir")]
    Make { dir: PathBuf, source: io::Error },
    #[error("{dir} cannot be read: {source}")]
    List {
        dir: PathBuf,
        source: pinion_commitlog::DiskError,
    },
    #[error(
        "{dir} holds what an interrupted restore has left; empty it and run `pinion restore` again"
    )]
    Restoring { dir: PathBuf },
    #[error(transparent)]
    Boot(#[from] BootError),
    #[error("log {log}: {source}; look with `pinion log verify --data-dir {dir}`")]
    Log {
        log: u16,
        dir: PathBuf,
        source: RecoverError,
    },
}

/// What to do about it, to stand behind the error's own words.
const fn fix(error: &StoreError) -> &'static str {
    match error {
        StoreError::InUse { .. } => "; stop that first, or choose another with --data-dir",
        StoreError::ReadOnly { .. } => "; mount it writable, or choose another with --data-dir",
        StoreError::Denied { .. } => {
            "; let this user read and write it, or choose another with --data-dir"
        }
        StoreError::Vanished { .. } => "; mount or restore it, or choose another with --data-dir",
        StoreError::NotADirectory { .. } => "; choose another with --data-dir",
        StoreError::Full { .. } => "; free some space",
        StoreError::Future { .. } => "; run the later release that wrote it",
        StoreError::Damaged { .. } | StoreError::Nameless { .. } => {
            "; restore that file from a backup: the logs are untouched"
        }
        StoreError::Exists { .. } | StoreError::Io { .. } => "",
    }
}

/// A data directory that is ours.
pub(crate) struct Store {
    pub(crate) dir: PathBuf,
    pub(crate) identity: Identity,
    /// Data logs found, or 0.
    logs: u16,
    /// Held as long as the node runs.
    _lock: DirLock,
}

impl Store {
    /// Takes the directory for this process; makes it on first use.
    pub(crate) fn open(dir: &Path, new_uuid: [u8; 16], wall: WallMs) -> Result<Self, OpenError> {
        make(dir).map_err(|source| OpenError::Make {
            dir: dir.to_owned(),
            source,
        })?;
        let lock = DirLock::take(dir)?;
        if dir.join(RESTORING).symlink_metadata().is_ok() {
            let dir = dir.to_owned();
            return Err(OpenError::Restoring { dir });
        }
        let identity = match Identity::read(dir)? {
            Some(identity) => identity,
            None => {
                let identity = Identity {
                    uuid: new_uuid,
                    format: FORMAT,
                    created_wall_ms: wall.0,
                };
                identity.create(dir)?;
                identity
            }
        };
        let logs = FileStore::new(dir)
            .logs()
            .map_err(|source| OpenError::List {
                dir: dir.to_owned(),
                source,
            })?
            .into_iter()
            .filter(|log| *log != META_LOG)
            .map(|log| log.0 + 1)
            .max()
            .unwrap_or(0);
        Ok(Self {
            dir: dir.to_owned(),
            identity,
            logs,
            _lock: lock,
        })
    }

    /// Logs this node has with `cores` data cores: never fewer than before.
    pub(crate) fn logs(&self, cores: u16) -> u16 {
        self.logs.max(cores)
    }
}

/// Makes the directory and those above it, so that they outlive a power cut
/// before anything in them is acknowledged.
fn make(dir: &Path) -> io::Result<()> {
    let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
    let missing: Vec<&Path> = dir.ancestors().take_while(is_missing).collect();
    fs::create_dir_all(dir)?;
    for made in missing.into_iter().rev() {
        let above = made.parent().filter(|path| !path.as_os_str().is_empty());
        // One that this user may not read is flushed in the system's own time.
        if let Ok(above) = File::open(above.unwrap_or(Path::new("."))) {
            above.sync_all()?;
        }
    }
    Ok(())
}

/// What a core found in its logs.
pub(crate) struct OpenedCore {
    pub(crate) core: Core,
    pub(crate) logs: Vec<(LogId, OpenedLog)>,
}

/// Makes the cores and has each read its logs, all at the same time.
pub(crate) fn open_cores(
    store: &Store,
    config: &Config,
    inventory: &Inventory,
    cores: Vec<(CoreConfig, u64)>,
    access: &Arc<AccessTable>,
    wall: WallMs,
) -> Result<Vec<OpenedCore>, OpenError> {
    let count = u16::try_from(cores.len()).expect("the plan is bounded");
    let total = store.logs(count);
    thread::scope(|scope| {
        let threads: Vec<_> = cores
            .into_iter()
            .map(|(core_config, seed)| {
                scope.spawn(move || {
                    let me = core_config.core.0;
                    let mut core = Core::new(core_config, Arc::clone(access));
                    for (epoch, resource) in &inventory.resources {
                        core.handle_mail(CoreMail::Declared {
                            epoch: *epoch,
                            resource: Arc::clone(resource),
                        });
                    }
                    let epoch = inventory.epoch;
                    for resource in inventory.closed.iter().copied() {
                        core.handle_mail(CoreMail::Closed { epoch, resource });
                    }
                    let mut files = FileStore::new(&store.dir);
                    let mut logs = Vec::new();
                    for number in (me..total).step_by(usize::from(count)) {
                        let log = LogId(number);
                        let log_config = LogConfig {
                            log,
                            store: store.identity.uuid,
                            segment_bytes: config.storage.segment_bytes,
                            checkpoint_every_bytes: config.storage.checkpoint_every_bytes,
                            seed: seed ^ u64::from(number),
                            started: wall,
                            ..LogConfig::default()
                        };
                        let opened = core.open_log(&mut files, log_config).map_err(|source| {
                            OpenError::Log {
                                log: number,
                                dir: store.dir.clone(),
                                source,
                            }
                        })?;
                        logs.push((log, opened));
                    }
                    for resource in inventory.purges.iter().copied() {
                        core.handle_mail(CoreMail::Purge { epoch, resource });
                    }
                    Ok(OpenedCore { core, logs })
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect()
    })
}
