//! The control thread: what is decided once for the whole node.
//!
//! It owns the directory of resources and answers the data cores, which never
//! wait for it. It ends the node when a signal asks for it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pinion_node::mail::{ControlMail, CoreMail};
use pinion_node::map::Directory;
use pinion_node::stats::CoreStats;
use pinion_reactor::{ControlEnd, CoreHandle, Full, PortId};

use crate::pump::Mail;

/// Longest the thread waits for mail before it looks at signals and cores.
const LOOK_EVERY: Duration = Duration::from_millis(50);

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
    cores: Vec<Option<CoreHandle>>,
    /// Mails a core's box had no room for, in order.
    waiting: Vec<VecDeque<CoreMail>>,
    stats: CoreStats,
    failures: Vec<String>,
}

impl Control {
    pub(crate) fn new(end: ControlEnd<Mail>, directory: Directory, cores: Vec<CoreHandle>) -> Self {
        let waiting = cores.iter().map(|_| VecDeque::new()).collect();
        let mut control = Self {
            end,
            directory,
            cores: cores.into_iter().map(Some).collect(),
            waiting,
            stats: CoreStats::default(),
            failures: Vec::new(),
        };
        // What the configuration declares is known before the first client is.
        let mut declared: Vec<_> = control.directory.map().iter().map(Arc::clone).collect();
        declared.sort_by_key(|resource| resource.id);
        for resource in declared {
            let epoch = pinion_types::Epoch(resource.id.0);
            control.tell_everyone(|| CoreMail::Declared {
                epoch,
                resource: Arc::clone(&resource),
            });
        }
        control
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
                while let Some((_, mail)) = self.end.try_recv() {
                    self.handle(mail);
                }
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
                if let Ok((resource, true)) = &result {
                    tracing::info!(%kind, %name, shards = resource.spec.shards, "declared");
                    let epoch = self.directory.map().epoch();
                    self.tell_everyone(|| CoreMail::Declared {
                        epoch,
                        resource: Arc::clone(resource),
                    });
                }
                // Behind the declaration on the same lane, so the core knows
                // the resource when its client does.
                self.waiting[usize::from(origin.session.core.0)].push_back(CoreMail::DeclareDone {
                    origin,
                    result: result.map(|(resource, _)| resource),
                });
            }
            Mail::Control(ControlMail::Drained { core, stats }) => {
                tracing::debug!(%core, ?stats, "drained");
                self.stats.add(&stats);
            }
            Mail::Core(mail) => unreachable!("{mail:?} is for a core"),
            Mail::Stray(_) => unreachable!("strays go to cores"),
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
