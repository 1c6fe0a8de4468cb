//! Backups of this node, one at a time: who asked, what is held still, when it is let go.
//!
//! The data cores are asked first and the control plane last: so the metadata knows every
//! resource whose records are in the backup, and no number of a resource is given twice by
//! a restored node. A thread of its own reads the files; what is held is let go when it
//! ends, however it ends.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use pinion_admin_api::{BackupAsk, BackupFront, BackupRefused};
use pinion_commitlog::{PinLimits, Pinned};
use pinion_node::mail::CoreMail;
use pinion_node::pins::{PinOrder, PinnedLogs};
use pinion_plane::PlanePinned;
use pinion_types::CoreId;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::cores::Cores;
use super::driver::Driver;
use crate::backup::copy::{self, CopyError, Job, Origin};
use crate::wall_now;

/// Longest that the cores and the plane may take to hold their logs still. They do it in
/// a turn; longer waits for one that is gone.
const PIN_PATIENCE: Duration = Duration::from_secs(10);

/// How backups are made on this node.
pub(crate) struct BackupConfig {
    pub(crate) origin: Origin,
    /// Longest that one may take.
    pub(crate) hold: Duration,
    /// Bytes per log of files that may wait for it to be removed.
    pub(crate) held_bytes_max: u64,
}

/// What [`Backups::ready`] waits for.
enum News {
    Asked(BackupAsk),
    Ended(u64, Result<u64, CopyError>),
}

/// The backup that is being made.
struct Running {
    number: u64,
    begun: Instant,
    begun_ms: u64,
    stage: Stage,
}

enum Stage {
    /// The logs are being held still.
    Pinning {
        ask: BackupAsk,
        /// Cores that have not answered.
        missing: usize,
        logs: Vec<Pinned>,
    },
    /// The thread is at it.
    Copying,
}

/// See the head of this file.
pub(super) struct Backups {
    front: BackupFront,
    config: BackupConfig,
    news: VecDeque<News>,
    last: u64,
    running: Option<Running>,
    /// From the thread.
    ended: UnboundedReceiver<(u64, Result<u64, CopyError>)>,
    ending: UnboundedSender<(u64, Result<u64, CopyError>)>,
}

impl Backups {
    pub(super) fn new(front: BackupFront, config: BackupConfig) -> Self {
        let (ending, ended) = unbounded_channel();
        Self {
            front,
            config,
            news: VecDeque::new(),
            last: 0,
            running: None,
            ended,
            ending,
        }
    }

    /// Waits until somebody wants a backup or one has ended: [`Backups::turn`] has
    /// something to do. Cancel safe.
    pub(super) async fn ready(&mut self) {
        if !self.news.is_empty() {
            return;
        }
        let news = tokio::select! {
            ask = self.front.asked() => News::Asked(ask),
            Some((number, result)) = self.ended.recv() => News::Ended(number, result),
        };
        self.news.push_back(news);
    }

    /// When [`Backups::turn`] has something to do in any case.
    pub(super) fn due(&self) -> Option<Instant> {
        let running = self.running.as_ref()?;
        matches!(running.stage, Stage::Pinning { .. }).then(|| running.begun + PIN_PATIENCE)
    }

    /// Within a turn of the plane.
    pub(super) fn turn(&mut self, (driver, cores): (&mut Driver, &mut Cores)) {
        while let Some(news) = self.news.pop_front() {
            match news {
                News::Asked(ask) => self.begin(ask, cores),
                News::Ended(number, result) => {
                    if self
                        .running
                        .as_ref()
                        .is_some_and(|one| one.number == number)
                    {
                        self.end(result, (driver, cores));
                    }
                }
            }
        }
        if self.due().is_some_and(|due| due <= Instant::now()) {
            let why = "a core did not answer in time".to_owned();
            self.give_up(BackupRefused::Failed(why), (driver, cores));
        }
    }

    fn begin(&mut self, ask: BackupAsk, cores: &mut Cores) {
        if self.running.is_some() {
            // Whoever asked may be gone, here and below.
            let _ = ask.answer.send(Err(BackupRefused::Busy));
            return;
        }
        self.last += 1;
        let order = PinOrder {
            backup: self.last,
            hold: self.config.hold,
            held_bytes_max: self.config.held_bytes_max,
        };
        tracing::info!(secrets = ask.secrets, "a backup begins");
        self.running = Some(Running {
            number: self.last,
            begun: Instant::now(),
            begun_ms: wall_now().0,
            stage: Stage::Pinning {
                ask,
                missing: cores.count().into(),
                logs: Vec::new(),
            },
        });
        cores.tell_everyone(|| CoreMail::Pin(order));
    }

    /// A core has answered.
    pub(super) fn core_pinned(
        &mut self,
        (core, backup): (CoreId, u64),
        of_core: PinnedLogs,
        (driver, cores): (&mut Driver, &mut Cores),
    ) {
        let limits = PinLimits {
            until: driver.now() + self.config.hold,
            held_bytes_max: self.config.held_bytes_max,
        };
        let Some(running) = self.running.as_mut().filter(|one| one.number == backup) else {
            // It was given up, and the core told so.
            return;
        };
        let Stage::Pinning { missing, logs, .. } = &mut running.stage else {
            return;
        };
        match of_core {
            Ok(more) => logs.extend(more),
            Err(error) => {
                let why = format!("core {core}: {error}");
                return self.give_up(BackupRefused::Failed(why), (driver, cores));
            }
        }
        *missing -= 1;
        if *missing == 0 && !driver.plane.pin(limits) {
            self.give_up(BackupRefused::NotReady, (driver, cores));
        }
    }

    /// The control plane has answered: everything is held still.
    pub(super) fn plane_pinned(
        &mut self,
        plane: Box<PlanePinned>,
        (driver, cores): (&mut Driver, &mut Cores),
    ) {
        let asked = |one: &&mut Running| matches!(one.stage, Stage::Pinning { missing: 0, .. });
        let Some(running) = self.running.as_mut().filter(asked) else {
            // Of one that was given up.
            driver.plane.unpin();
            return;
        };
        let stage = std::mem::replace(&mut running.stage, Stage::Copying);
        let Stage::Pinning { ask, mut logs, .. } = stage else {
            return;
        };
        logs.sort_unstable_by_key(|log| log.log);
        let job = Job {
            origin: self.config.origin.clone(),
            begun_ms: running.begun_ms,
            secrets: ask.secrets,
            logs,
            plane,
            answer: ask.answer,
        };
        let (number, ending) = (running.number, self.ending.clone());
        let started = copy::start(job, move |result| {
            // The node has ended, and with it what was held.
            let _ = ending.send((number, result));
        });
        if let Err(error) = started {
            tracing::error!(%error, "the thread of a backup cannot be started");
            self.let_go((driver, cores));
        }
    }

    fn end(&mut self, result: Result<u64, CopyError>, with: (&mut Driver, &mut Cores)) {
        let took = self.running.as_ref().map(|one| one.begun.elapsed());
        match result {
            Ok(bytes) => tracing::info!(bytes, ?took, "a backup was made"),
            Err(error) => tracing::warn!(%error, ?took, "a backup was given up"),
        }
        self.let_go(with);
    }

    fn give_up(&mut self, why: BackupRefused, with: (&mut Driver, &mut Cores)) {
        tracing::warn!(?why, "a backup was given up");
        if let Some(running) = self.let_go(with)
            && let Stage::Pinning { ask, .. } = running.stage
        {
            let _ = ask.answer.send(Err(why));
        }
    }

    /// Nothing is held any more.
    fn let_go(&mut self, (driver, cores): (&mut Driver, &mut Cores)) -> Option<Running> {
        let running = self.running.take()?;
        let backup = running.number;
        cores.tell_everyone(|| CoreMail::Unpin { backup });
        driver.plane.unpin();
        Some(running)
    }
}
