//! Data that is to go: the cores are told, and when all of them have done it, so is
//! the metadata.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use pinion_metadata::command::ConfirmPurged;
use pinion_metadata::limits::CONFIRMED_MAX;
use pinion_metadata::{BrokerNumber, Command, Expect};
use pinion_plane::{Answer, Caller, Request, RequestId, Write};
use pinion_types::{CoreId, ResourceId};

use super::declarations::PRINCIPAL;
use super::driver::Driver;

/// Pause before a confirmation that was refused is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Longest one may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is purged, or told to be.
#[derive(Debug, Default)]
pub(super) struct Purges {
    /// The cores that have not answered. A core that is gone never does: then the next
    /// start asks again.
    waiting: HashMap<ResourceId, BTreeSet<CoreId>>,
    /// Gone from every core.
    done: BTreeSet<ResourceId>,
    /// Those of them that the metadata is being told.
    told: Option<(RequestId, Vec<ResourceId>)>,
    /// After a refusal.
    not_before: Option<Instant>,
}

impl Purges {
    /// The cores `0..cores` are told to purge a resource.
    pub(super) fn begun(&mut self, resource: ResourceId, cores: u16) {
        let cores = (0..cores).map(CoreId).collect();
        self.waiting.insert(resource, cores);
    }

    /// A core has.
    pub(super) fn purged(&mut self, core: CoreId, resource: ResourceId) {
        if let Some(cores) = self.waiting.get_mut(&resource) {
            cores.remove(&core);
            if cores.is_empty() {
                self.waiting.remove(&resource);
                self.done.insert(resource);
            }
        }
    }

    /// Tells the metadata what it may know. Within a turn.
    pub(super) fn confirm(
        &mut self,
        now: Instant,
        broker: BrokerNumber,
        next_id: impl FnOnce() -> RequestId,
        driver: &mut Driver,
    ) {
        let early = self.not_before.is_some_and(|at| now < at);
        if self.done.is_empty() || self.told.is_some() || early {
            return;
        }
        let resources: Vec<_> = self.done.iter().copied().take(CONFIRMED_MAX).collect();
        let id = next_id();
        let write = Write {
            caller: Caller {
                principal: PRINCIPAL.into(),
                request: 0,
                remote: None,
            },
            expect: Expect::Any,
            command: Command::ConfirmPurged(ConfirmPurged {
                broker,
                resources: resources.as_slice().into(),
            }),
            deadline: driver.now() + PATIENCE,
        };
        self.told = Some((id, resources));
        driver.plane.handle_request(id, Request::Write(write));
    }

    /// The plane has answered. Gives the answer back when it is to nobody here.
    pub(super) fn answered(
        &mut self,
        now: Instant,
        id: RequestId,
        answer: Answer,
    ) -> Option<Answer> {
        let Some((_, resources)) = self.told.take_if(|(told, _)| *told == id) else {
            return Some(answer);
        };
        if let Answer::Refused(error) = answer {
            tracing::info!(%error, "the metadata was not told what is purged; trying again");
            self.not_before = Some(now + RETRY);
        } else {
            for resource in resources {
                self.done.remove(&resource);
            }
            self.not_before = None;
        }
        None
    }

    /// When [`Purges::confirm`] has something to do, if nothing else happens.
    pub(super) fn due(&self) -> Option<Instant> {
        self.not_before
            .filter(|_| !self.done.is_empty() && self.told.is_none())
    }
}
