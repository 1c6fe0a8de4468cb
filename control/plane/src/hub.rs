//! Those who follow the changes.
//!
//! A watcher is a position and a credit. It is given every change after its position,
//! in the order of versions, as long as it has credit; what it did not take waits in
//! the metadata's history, and when it is gone from there, or was never there, the
//! watcher is told to begin anew from a snapshot. No change is ever left out or given
//! twice: versions are dense, so either would show.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use pinion_metadata::{Change, MetaVersion, Metadata, ResnapshotRequired};

use crate::limits::{WATCH_CREDIT_MAX, WATCH_SHARED_MAX, WATCHERS_MAX};

/// Names a watcher; never used again in the life of a plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(pub u64);

/// Forms in which changes leave a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// An event of the HTTP interface.
    Json,
    /// A message of the gRPC interface.
    Protobuf,
}

/// A change as watchers get it. All that follow get the same one, so that it is
/// encoded once and not once for each.
#[derive(Debug)]
pub struct Watched {
    /// What changed.
    pub change: Change,
    forms: [OnceLock<Bytes>; 2],
}

/// Why there is no watch, or no more of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// Read a snapshot and follow from its version.
    #[error(transparent)]
    Resnapshot(#[from] ResnapshotRequired),
    /// As many as may follow do already.
    #[error("{limit} follow already")]
    TooMany {
        /// [`WATCHERS_MAX`].
        limit: usize,
    },
    /// This node has not caught up since its start, or is no member.
    #[error("this node is not ready")]
    NotReady,
    /// There is no such watch, or it ended.
    #[error("there is no such watch")]
    Unknown,
}

impl Watched {
    fn new(change: Change) -> Arc<Self> {
        Arc::new(Self {
            change,
            forms: [const { OnceLock::new() }; 2],
        })
    }

    /// The change in one form. The first who asks encodes; all others get its bytes.
    pub fn encoded(&self, form: Form, encode: impl FnOnce(&Change) -> Bytes) -> &Bytes {
        self.forms[form as usize].get_or_init(|| encode(&self.change))
    }
}

#[derive(Debug)]
struct Watcher {
    /// The version up to which it has everything.
    at: MetaVersion,
    /// Changes that it may be given.
    credit: u32,
    /// The owner was told that there is something, and has not found the end of it.
    told: bool,
}

/// Every watcher of one node.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    watchers: BTreeMap<WatchId, Watcher>,
    next: u64,
    /// The latest changes, as far as somebody has not taken them.
    shared: VecDeque<Arc<Watched>>,
    /// Something happened since the owner was last told.
    stirred: bool,
}

impl Hub {
    pub(crate) fn len(&self) -> usize {
        self.watchers.len()
    }

    /// Someone follows from `from` on, at first without credit.
    pub(crate) fn watch(
        &mut self,
        machine: &Metadata,
        from: MetaVersion,
    ) -> Result<WatchId, WatchError> {
        if self.watchers.len() >= WATCHERS_MAX {
            let limit = WATCHERS_MAX;
            return Err(WatchError::TooMany { limit });
        }
        machine.changes_since(from, 0)?;
        self.next += 1;
        let id = WatchId(self.next);
        let watcher = Watcher {
            at: from,
            credit: 0,
            told: false,
        };
        self.watchers.insert(id, watcher);
        Ok(id)
    }

    pub(crate) fn unwatch(&mut self, id: WatchId) {
        self.watchers.remove(&id);
        self.stirred = true;
    }

    /// The watcher can take so many changes more; beyond [`WATCH_CREDIT_MAX`] in all
    /// it is taken for that.
    pub(crate) fn grant(&mut self, id: WatchId, changes: u32) {
        if let Some(watcher) = self.watchers.get_mut(&id) {
            let credit = watcher.credit.saturating_add(changes);
            watcher.credit = credit.min(WATCH_CREDIT_MAX);
            self.stirred = true;
        }
    }

    /// The metadata changed.
    pub(crate) fn push(&mut self, changes: &[Change]) {
        if self.watchers.is_empty() {
            return;
        }
        // Only the last ones would stay.
        let skip = changes.len().saturating_sub(WATCH_SHARED_MAX);
        for change in &changes[skip..] {
            if self.shared.len() == WATCH_SHARED_MAX {
                self.shared.pop_front();
            }
            self.shared.push_back(Watched::new(change.clone()));
        }
        self.stirred = true;
    }

    /// The metadata is another: what was shared is of the one before.
    pub(crate) fn replaced(&mut self) {
        self.shared.clear();
        self.stirred = true;
    }

    /// The next changes for a watcher, at most `limit` and at most its credit; none
    /// when it has all or no credit.
    pub(crate) fn take(
        &mut self,
        machine: &Metadata,
        id: WatchId,
        limit: usize,
    ) -> Result<Vec<Arc<Watched>>, WatchError> {
        let Some(watcher) = self.watchers.get_mut(&id) else {
            return Err(WatchError::Unknown);
        };
        let limit = limit.min(watcher.credit as usize);
        let taken = match next_shared(&self.shared, watcher.at) {
            Some(first) => self.shared.range(first..).take(limit).cloned().collect(),
            None => match machine.changes_since(watcher.at, limit) {
                Ok(changes) => changes.items.into_iter().map(Watched::new).collect(),
                Err(trimmed) => {
                    self.unwatch(id);
                    return Err(trimmed.into());
                }
            },
        };
        let taken: Vec<Arc<Watched>> = taken;
        if let Some(last) = taken.last() {
            watcher.at = last.change.version;
            watcher.credit -= u32::try_from(taken.len()).expect("at most its credit");
        }
        // Without credit the owner is told again when there is some.
        watcher.told = watcher.at < machine.version() && watcher.credit > 0;
        Ok(taken)
    }

    /// Whose owner is to be told now: there is something for it, or its position is
    /// lost and no credit would help.
    pub(crate) fn stirred(&mut self, machine: &Metadata) -> Vec<WatchId> {
        if !core::mem::take(&mut self.stirred) {
            return Vec::new();
        }
        let newest = machine.version();
        let mut oldest = newest;
        let mut ready = Vec::new();
        for (id, watcher) in &mut self.watchers {
            oldest = oldest.min(watcher.at);
            let lost = || machine.changes_since(watcher.at, 0).is_err();
            if !watcher.told && watcher.at < newest && (watcher.credit > 0 || lost()) {
                watcher.told = true;
                ready.push(*id);
            }
        }
        // What everyone has is kept by the metadata alone.
        while let Some(first) = self.shared.front()
            && first.change.version <= oldest
        {
            self.shared.pop_front();
        }
        ready
    }
}

/// Where in `shared` the change after `at` is, if it is there.
fn next_shared(shared: &VecDeque<Arc<Watched>>, at: MetaVersion) -> Option<usize> {
    let first = shared.front()?.change.version.0;
    let ahead = (at.0 + 1).checked_sub(first)?;
    let ahead = usize::try_from(ahead).ok()?;
    (ahead < shared.len()).then_some(ahead)
}
