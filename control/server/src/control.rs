//! The control thread: what is decided once for the whole node.
//!
//! It owns the directory of resources and answers the data cores, which never
//! wait for it. It ends the node when a signal asks for it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pinion_commitlog::AdmitError;
use pinion_node::declared::Declared;
use pinion_node::mail::{ControlMail, CoreMail, Origin, StorageNotice};
use pinion_node::map::{Directory, Resource};
use pinion_node::stats::CoreStats;
use pinion_reactor::{ControlEnd, CoreHandle, Full, PortId};
use pinion_types::{Epoch, ErrorCode, Refusal, WallMs};

use crate::meta::MetaLog;
use crate::pump::Mail;

/// Longest the thread waits for mail before it looks at signals and cores.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Mails handled before what they declared is flushed. More makes a crowd of
/// declarations quicker and the first of them slower.
const DECLARATIONS_PER_FLUSH: usize = 1024;

/// An answer that waits for the log of declarations.
struct Undurable {
    origin: Origin,
    epoch: Epoch,
    new: bool,
    result: Result<Arc<Resource>, Refusal>,
}

/// How the node ended.
#[derive(Debug)]
pub(crate) struct Ending {
    /// Summed over the cores that drained.
    pub(crate) stats: CoreStats,
    /// What went wrong with cores that ended otherwise.
    pub(crate) failures: Vec<String>,
}

/// The control thread's state.
pub(crate) struct Control {
    end: ControlEnd<Mail>,
    directory: Directory,
    meta: MetaLog,
    /// Declared, but not yet durable: who asked, and what they will be told.
    undurable: Vec<Undurable>,
    cores: Vec<Option<CoreHandle>>,
    /// Mails a core's box had no room for, in order.
    waiting: Vec<VecDeque<CoreMail>>,
    stats: CoreStats,
    failures: Vec<String>,
}

impl Control {
    /// `directory` holds what the cores know already.
    pub(crate) fn new(
        end: ControlEnd<Mail>,
        directory: Directory,
        meta: MetaLog,
        cores: Vec<CoreHandle>,
    ) -> Self {
        let waiting = cores.iter().map(|_| VecDeque::new()).collect();
        Self {
            end,
            directory,
            meta,
            undurable: Vec::new(),
            cores: cores.into_iter().map(Some).collect(),
            waiting,
            stats: CoreStats::default(),
            failures: Vec::new(),
        }
    }

    /// Serves the cores until `stop` is set and they have drained, or until
    /// `drain_timeout` and a little more has passed since.
    pub(crate) fn run(mut self, stop: &AtomicBool, drain_timeout: Duration) -> Ending {
        let mut give_up = None;
        loop {
            if stop.load(Ordering::Relaxed) && give_up.is_none() {
                give_up = Some(Instant::now() + drain_timeout + Duration::from_secs(2));
                self.tell_everyone(|| CoreMail::Drain);
            }
            if let Some((_, mail)) = self.end.recv_timeout(LOOK_EVERY) {
                self.handle(mail);
                // One flush for everything that is declared at the same time.
                for _ in 0..DECLARATIONS_PER_FLUSH {
                    let Some((_, mail)) = self.end.try_recv() else {
                        break;
                    };
                    self.handle(mail);
                }
                self.make_durable();
            }
            self.post();
            self.look_after_cores();
            if self.cores.iter().all(Option::is_none) {
                break;
            }
            if give_up.is_some_and(|at| Instant::now() >= at) {
                self.failures
                    .push("a core did not drain in time; leaving it".to_owned());
                break;
            }
        }
        self.meta.seal();
        Ending {
            stats: self.stats,
            failures: self.failures,
        }
    }

    fn handle(&mut self, mail: Mail) {
        match mail {
            Mail::Control(ControlMail::Declare {
                origin,
                tenant,
                kind,
                name,
                spec,
            }) => {
                let result = self.directory.declare(tenant, kind, &name, spec);
                let new = matches!(&result, Ok((_, true)));
                if new {
                    tracing::info!(%kind, %name, "declared");
                }
                self.undurable.push(Undurable {
                    origin,
                    epoch: self.directory.map().epoch(),
                    new,
                    result: result.map(|(resource, _)| resource),
                });
            }
            Mail::Control(ControlMail::Storage { log, notice }) => match notice {
                StorageNotice::Failed(error) => tracing::error!(
                    log = log.0,
                    %error,
                    "a write failed: the log takes no more; what was not acknowledged is unknown. \
                     Check the disk and start the node again"
                ),
                StorageNotice::ReadOnly(true) => tracing::warn!(
                    log = log.0,
                    "the disk is full: only what frees space is taken; trying again each second"
                ),
                StorageNotice::ReadOnly(false) => {
                    tracing::info!(log = log.0, "the disk has room again");
                }
                StorageNotice::Damaged(damage) => tracing::error!(
                    log = log.0,
                    %damage,
                    "committed data is damaged: its partitions are closed. \
                     `pinion doctor --data-dir` names them"
                ),
            },
            Mail::Control(ControlMail::Drained { core, stats }) => {
                tracing::debug!(%core, ?stats, "drained");
                self.stats.add(&stats);
            }
            Mail::Core(mail) => unreachable!("{mail:?} is for a core"),
            Mail::Stray(_) => unreachable!("strays go to cores"),
        }
    }

    /// Writes down what is new, then tells the cores, then who asked.
    fn make_durable(&mut self) {
        let undurable = std::mem::take(&mut self.undurable);
        let declared: Vec<Declared> = undurable
            .iter()
            .filter(|one| one.new)
            .filter_map(|one| one.result.as_deref().ok().map(Declared::from))
            .collect();
        let written = if declared.is_empty() {
            Ok(())
        } else {
            let wall = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0));
            self.meta.declare(&declared, WallMs(wall))
        };
        let refusal = written.err().map(|error| match error {
            AdmitError::ReadOnly => Refusal::from(ErrorCode::ReadOnly),
            AdmitError::Backlogged { .. } => Refusal::from(ErrorCode::LogBacklogged),
            AdmitError::Failed | AdmitError::TooLarge { .. } => {
                Refusal::from(ErrorCode::DurabilityFailed)
            }
        });
        // An answer about something new, given to a second client of the same
        // flush, is refused with it.
        let refused: Vec<_> = match refusal {
            None => Vec::new(),
            Some(_) => declared.iter().map(|one| one.id).collect(),
        };
        for one in undurable {
            let mut result = one.result;
            if let (Some(refusal), Ok(resource)) = (refusal, &result)
                && refused.contains(&resource.id)
            {
                if one.new {
                    self.directory.undo(resource);
                }
                result = Err(refusal);
            }
            if one.new
                && let Ok(resource) = &result
            {
                self.tell_everyone(|| CoreMail::Declared {
                    epoch: one.epoch,
                    resource: Arc::clone(resource),
                });
            }
            // Behind the declaration on the same lane, so the core knows the
            // resource when its client does.
            let core = usize::from(one.origin.session.core.0);
            self.waiting[core].push_back(CoreMail::DeclareDone {
                origin: one.origin,
                result,
            });
        }
    }

    fn tell_everyone(&mut self, mail: impl Fn() -> CoreMail) {
        for lane in &mut self.waiting {
            lane.push_back(mail());
        }
        self.post();
    }

    fn post(&mut self) {
        for (core, lane) in self.waiting.iter_mut().enumerate() {
            if self.cores[core].is_none() {
                lane.clear();
                continue;
            }
            let port = PortId(u16::try_from(core).expect("bounded by DATA_CORES_MAX"));
            while let Some(mail) = lane.pop_front() {
                if let Err(Full(Mail::Core(mail))) = self.end.try_send(port, Mail::Core(mail)) {
                    lane.push_front(mail);
                    break;
                }
            }
        }
    }

    /// A core that panicked takes only its own connections and partitions with
    /// it; the node says so and goes on with the others.
    fn look_after_cores(&mut self) {
        for slot in &mut self.cores {
            if slot.as_ref().is_some_and(CoreHandle::is_finished)
                && let Some(handle) = slot.take()
                && let Err(error) = handle.join()
            {
                tracing::error!(%error, "a data core ended");
                self.failures.push(error.to_string());
            }
        }
    }
}
