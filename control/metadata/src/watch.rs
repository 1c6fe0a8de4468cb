//! The latest changes, for those who have followed from some version on.
//!
//! It is memory of one replica and no part of the state: one that was restored
//! has less of it than the others, and says so.

use std::collections::VecDeque;

use crate::ids::MetaVersion;
use crate::limits::{WATCH_BYTES_KEPT, WATCH_CHANGES_KEPT};
use crate::state::Change;

/// Changes in a row, the last of which made the present version.
#[derive(Clone, Debug)]
pub(crate) struct History {
    changes: VecDeque<(Change, u64)>,
    /// Sum of the second parts.
    bytes: u64,
    /// The version that the last change made.
    newest: MetaVersion,
}

/// Changes in a row after a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// In the order of versions, which are dense.
    pub items: Vec<Change>,
    /// The version up to which these are all: the last one's, or the one that
    /// was asked with if there are none. Ask with it the next time.
    pub version: MetaVersion,
}

/// There is no way from the version asked for to the present one: it was too
/// long ago, or it is of a future that this replica has not seen and perhaps
/// never will. Read a snapshot and follow from its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("changes are kept from version {oldest} to {newest}: read a snapshot")]
pub struct ResnapshotRequired {
    /// The oldest version from which changes are known.
    pub oldest: MetaVersion,
    /// The present version.
    pub newest: MetaVersion,
}

impl History {
    /// Nothing is known of how it came to `newest`.
    pub(crate) fn from(newest: MetaVersion) -> Self {
        Self {
            changes: VecDeque::new(),
            bytes: 0,
            newest,
        }
    }

    /// Adds the next change, of an object of `bytes`.
    ///
    /// # Panics
    /// When it is not the next: versions are dense.
    pub(crate) fn push(&mut self, change: Change, bytes: u64) {
        assert!(
            change.version.0 == self.newest.0 + 1,
            "{} comes after {}",
            change.version,
            self.newest
        );
        self.newest = change.version;
        self.changes.push_back((change, bytes));
        self.bytes += bytes;
        while self.changes.len() > WATCH_CHANGES_KEPT || self.bytes > WATCH_BYTES_KEPT {
            let Some((_, bytes)) = self.changes.pop_front() else {
                break;
            };
            self.bytes -= bytes;
        }
    }

    /// At most `limit` changes after `from`.
    pub(crate) fn since(
        &self,
        from: MetaVersion,
        limit: usize,
    ) -> Result<Changes, ResnapshotRequired> {
        let (oldest, newest) = (self.oldest(), self.newest);
        if from < oldest || from > newest {
            return Err(ResnapshotRequired { oldest, newest });
        }
        let behind = usize::try_from(newest.0 - from.0).unwrap_or(usize::MAX);
        let first = self.changes.len().saturating_sub(behind);
        let changes = self.changes.range(first..).take(limit);
        let items: Vec<Change> = changes.map(|(change, _)| change.clone()).collect();
        let version = items.last().map_or(from, |change| change.version);
        Ok(Changes { items, version })
    }

    /// The oldest version from which changes are known.
    pub(crate) fn oldest(&self) -> MetaVersion {
        MetaVersion(self.newest.0 - self.changes.len() as u64)
    }

    pub(crate) fn newest(&self) -> MetaVersion {
        self.newest
    }
}
