//! Worlds that hunt for counter-examples: a log alone on a disk that fails on
//! purpose ([`log`]), and a whole node with its clients ([`node`]), each from one
//! seed, each with a model that says what must be true.
//!
//! Nothing here is part of a server. The engine is driven through its public
//! interface only, and never built differently for it. `pinion-sim --help` says
//! how to run a campaign; start reading at [`log`].

#![forbid(unsafe_code)]

pub mod campaign;
pub mod log;
pub mod mutants;
pub mod node;
pub mod plane;

use core::fmt;

use pinion_commitlog::DiskRequest;
use pinion_simkit::Trace;

/// An oracle's finding: the engine broke a promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What was promised and what was seen.
    pub what: String,
    /// The last things that happened before, oldest first.
    pub events: Vec<String>,
    /// Hash of everything that happened until then, when it was traced.
    pub hash: Option<u64>,
}

impl Violation {
    /// A finding.
    #[must_use]
    pub fn new(what: String) -> Self {
        Self {
            what,
            events: Vec::new(),
            hash: None,
        }
    }

    /// The same finding with where it was made.
    #[must_use]
    pub fn within(self, place: impl fmt::Display) -> Self {
        Self {
            what: format!("{place}: {}", self.what),
            ..self
        }
    }

    /// The same finding with what happened before, unless it has that already.
    #[must_use]
    pub fn after(mut self, trace: &Trace) -> Self {
        if self.events.is_empty() {
            self.events = trace.last().map(ToString::to_string).collect();
            self.hash = Some(trace.hash());
        }
        self
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl core::error::Error for Violation {}

/// Returns a [`Violation`] unless the promise holds.
macro_rules! promise {
    ($holds:expr, $($what:tt)+) => {
        if !$holds {
            return Err($crate::Violation::new(format!($($what)+)));
        }
    };
}
pub(crate) use promise;

/// What a request wants, for a trace.
pub(crate) fn what(request: &DiskRequest) -> &'static str {
    match request {
        DiskRequest::Create { .. } => "create",
        DiskRequest::Write { .. } => "write",
        DiskRequest::Read { .. } => "read",
        DiskRequest::Truncate { .. } => "truncate",
        DiskRequest::Remove { .. } => "remove",
    }
}
