//! The data cores as the control thread sees them: a lane of mail to each, and
//! how each ended.

use std::collections::VecDeque;

use pinion_node::mail::CoreMail;
use pinion_node::stats::CoreStats;
use pinion_reactor::{ControlEnd, CoreHandle, Full, PortId};
use pinion_types::CoreId;

use super::Ending;
use crate::pump::Mail;

/// The node's data cores.
pub(super) struct Cores {
    handles: Vec<Option<CoreHandle>>,
    /// Mails a core's box had no room for, in order.
    waiting: Vec<VecDeque<CoreMail>>,
    stats: CoreStats,
    failures: Vec<String>,
}

impl Cores {
    pub(super) fn new(handles: Vec<CoreHandle>) -> Self {
        Self {
            waiting: handles.iter().map(|_| VecDeque::new()).collect(),
            handles: handles.into_iter().map(Some).collect(),
            stats: CoreStats::default(),
            failures: Vec::new(),
        }
    }

    /// How many there were at the start.
    pub(super) fn count(&self) -> u16 {
        u16::try_from(self.handles.len()).expect("bounded by DATA_CORES_MAX")
    }

    /// For one core. [`Cores::post`] sends it.
    pub(super) fn tell(&mut self, core: CoreId, mail: CoreMail) {
        self.waiting[usize::from(core.0)].push_back(mail);
    }

    /// For every core, each behind what it was told before.
    pub(super) fn tell_everyone(&mut self, mail: impl Fn() -> CoreMail) {
        for lane in &mut self.waiting {
            lane.push_back(mail());
        }
    }

    /// Puts into the boxes what they have room for.
    pub(super) fn post(&mut self, end: &mut ControlEnd<Mail>) {
        for (core, lane) in self.waiting.iter_mut().enumerate() {
            if self.handles[core].is_none() {
                lane.clear();
                continue;
            }
            let port = PortId(u16::try_from(core).expect("bounded by DATA_CORES_MAX"));
            while let Some(mail) = lane.pop_front() {
                if let Err(Full(Mail::Core(mail))) = end.try_send(port, Mail::Core(mail)) {
                    lane.push_front(mail);
                    break;
                }
            }
        }
    }

    /// A core that panicked takes only its own connections and partitions with
    /// it; the node says so and goes on with the others.
    /// Tells `gone` which have ended since it last looked.
    pub(super) fn look(&mut self, mut gone: impl FnMut(CoreId)) {
        for (core, slot) in (0..).zip(&mut self.handles) {
            if slot.as_ref().is_some_and(CoreHandle::is_finished)
                && let Some(handle) = slot.take()
            {
                gone(CoreId(core));
                if let Err(error) = handle.join() {
                    tracing::error!(%error, "a data core ended");
                    self.failures.push(error.to_string());
                }
            }
        }
    }

    /// For one core, unless it has ended.
    pub(super) fn ask(&mut self, core: CoreId, mail: CoreMail) -> bool {
        let there = self.handles.get(usize::from(core.0));
        let there = there.is_some_and(Option::is_some);
        if there {
            self.tell(core, mail);
        }
        there
    }

    /// What a core counted that has drained.
    pub(super) fn drained(&mut self, stats: &CoreStats) {
        self.stats.add(stats);
    }

    pub(super) fn failed(&mut self, failure: String) {
        self.failures.push(failure);
    }

    /// Whether all of them have ended.
    pub(super) fn are_gone(&self) -> bool {
        self.handles.iter().all(Option::is_none)
    }

    pub(super) fn ending(self) -> Ending {
        Ending {
            stats: self.stats,
            failures: self.failures,
        }
    }
}
