//! What goes wrong, and when.

use core::time::Duration;
use std::collections::BTreeMap;

use pinion_commitlog::{DiskError, DiskRequest};

use crate::SimRng;

/// One thing that goes wrong with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails. What a failed write, truncation or creation left on the disk
    /// is the seed's to choose; a process that reads back what it failed to
    /// write may see it although it is not durable (Rebello et al., "Can
    /// Applications Recover from fsync Failures?", ATC 2020).
    Fails(DiskError),
    /// It takes so much longer.
    Slow(Duration),
    /// A write is answered as durable and is not: it is lost at the next crash.
    /// No engine can see that before; it may only never make it worse.
    NotDurable,
    /// A write lands that many blocks away within its file and is answered as
    /// done.
    WrittenElsewhere(i64),
    /// A read gives the bytes that many blocks away.
    ReadElsewhere(i64),
    /// A read gives what was there before the last write.
    ReadStale,
    /// A read gives one bit wrong, once.
    ReadFlipped,
}

impl Fault {
    /// Whether it can befall such a request.
    #[must_use]
    pub fn applies(self, request: &DiskRequest) -> bool {
        match self {
            Self::Fails(_) | Self::Slow(_) => true,
            Self::NotDurable | Self::WrittenElsewhere(_) => {
                matches!(request, DiskRequest::Write { .. })
            }
            Self::ReadElsewhere(_) | Self::ReadStale | Self::ReadFlipped => {
                matches!(request, DiskRequest::Read { .. })
            }
        }
    }

    /// Whether acknowledged data may be gone after it, in a way that nobody can
    /// notice who has only this disk.
    #[must_use]
    pub const fn is_a_lie(self) -> bool {
        matches!(self, Self::NotDurable)
    }
}

/// Which requests go wrong.
#[derive(Clone, Debug, Default)]
pub struct FaultPlan {
    /// By number of the request, the first one being 1.
    pub at: BTreeMap<u64, Fault>,
    /// Once in so many requests that it can befall, at random.
    pub often: Vec<(Fault, u64)>,
}

impl FaultPlan {
    /// One fault, at one request.
    #[must_use]
    pub fn once(number: u64, fault: Fault) -> Self {
        Self {
            at: BTreeMap::from([(number, fault)]),
            often: Vec::new(),
        }
    }

    pub(super) fn choose(
        &mut self,
        number: u64,
        request: &DiskRequest,
        rng: &mut SimRng,
    ) -> Option<Fault> {
        if let Some(fault) = self.at.remove(&number)
            && fault.applies(request)
        {
            return Some(fault);
        }
        self.often
            .iter()
            .find(|(fault, n)| fault.applies(request) && rng.one_in(*n))
            .map(|(fault, _)| *fault)
    }
}
