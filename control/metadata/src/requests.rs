//! The table of requests: a client that repeats one because it heard nothing is
//! told what the first one did, and nothing is done twice.
//!
//! Only what was done is remembered. A refused command changed nothing, so its
//! repeat may be decided anew; and a flood of refusals cannot push out what
//! others may still ask for.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::format;
use crate::ids::MetaVersion;
use crate::limits::DUPLICATES_KEPT;
use crate::object::ObjectKey;

/// A request that was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// What the client chose; not 0.
    pub(crate) request: u128,
    /// Who asked: another's request of the same number is another request.
    pub(crate) principal: Box<str>,
    /// Where in the replicated log it was.
    pub(crate) index: u64,
    /// The version that it left.
    pub(crate) version: MetaVersion,
    /// The object that was its outcome.
    pub(crate) key: Option<ObjectKey>,
}

/// The latest [`DUPLICATES_KEPT`] requests, in the order of the replicated log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Requests {
    rows: VecDeque<Arc<Row>>,
    by_request: BTreeMap<(u128, Box<str>), Arc<Row>>,
    digest: u64,
}

impl Requests {
    pub(crate) fn find(&self, request: u128, principal: &str) -> Option<&Row> {
        // The key of the map owns its text, and most envelopes are no repeats of
        // anything: the first part decides without an allocation.
        self.by_request
            .range((request, Box::default())..)
            .take_while(|((number, _), _)| *number == request)
            .find(|((_, whose), _)| &**whose == principal)
            .map(|(_, row)| &**row)
    }

    /// Remembers what [`find`](Self::find) did not know.
    pub(crate) fn remember(&mut self, row: Row) {
        if self.rows.len() == DUPLICATES_KEPT
            && let Some(oldest) = self.rows.pop_front()
        {
            self.digest = self.digest.wrapping_sub(format::row_digest(&oldest));
            self.by_request
                .remove(&(oldest.request, oldest.principal.clone()));
        }
        self.digest = self.digest.wrapping_add(format::row_digest(&row));
        let row = Arc::new(row);
        self.by_request
            .insert((row.request, row.principal.clone()), row.clone());
        self.rows.push_back(row);
    }

    /// Oldest first.
    pub(crate) fn rows(&self) -> impl ExactSizeIterator<Item = &Arc<Row>> {
        self.rows.iter()
    }

    /// How many different ones there are; as many as rows, or the table is broken.
    pub(crate) fn distinct(&self) -> usize {
        self.by_request.len()
    }

    /// A hash of all rows.
    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }
}
