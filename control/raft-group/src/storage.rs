//! The entries in memory, as raft-rs reads them.
//!
//! Everything after the last snapshot is here, and a short tail before it; nothing
//! is read from the disk after the start, so no question waits.

use core::cell::Cell;
use std::collections::VecDeque;

use raft::eraftpb::{ConfState, Entry, EntryType, HardState, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

use crate::format::{EntryBody, MemberChange, MemberId, ProposalId};

/// Bytes of memory that an entry takes beside its command.
const ENTRY_OVERHEAD: u64 = size_of::<Entry>() as u64 + 64;

/// Members as of one entry.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SnapshotMeta {
    pub(crate) index: u64,
    pub(crate) term: u64,
    pub(crate) conf: ConfState,
}

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Memory {
    /// Index and term of the entry before the first one here.
    before: (u64, u64),
    entries: VecDeque<Entry>,
    bytes: u64,
    /// Of the newest snapshot that is durable.
    pub(crate) snapshot: SnapshotMeta,
    pub(crate) hard: HardState,
    /// raft-rs would send a snapshot and there is none that fits.
    wanted: Cell<bool>,
}

impl Memory {
    pub(crate) fn new(before: (u64, u64), snapshot: SnapshotMeta, hard: HardState) -> Self {
        Self {
            before,
            entries: VecDeque::new(),
            bytes: 0,
            snapshot,
            hard,
            wanted: Cell::new(false),
        }
    }

    /// Whether raft-rs asked for a snapshot newer than there is; once.
    pub(crate) fn take_wanted(&self) -> bool {
        self.wanted.take()
    }

    /// A snapshot from another member takes the place of everything.
    pub(crate) fn restore(&mut self, snapshot: SnapshotMeta) {
        self.before = (snapshot.index, snapshot.term);
        self.entries.clear();
        self.bytes = 0;
        self.snapshot = snapshot;
    }

    /// Index and term of the entry before the first one here.
    pub(crate) fn before(&self) -> (u64, u64) {
        self.before
    }

    pub(crate) fn last(&self) -> u64 {
        self.before.0 + self.entries.len() as u64
    }

    /// Index and term of the entry before `index`.
    pub(crate) fn before_entry(&self, index: u64) -> (u64, u64) {
        let before = index.saturating_sub(1);
        let term = self.term(before);
        (before, term.expect("entries continue what is in memory"))
    }

    /// Bytes of memory that the entries take.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Takes entries without gaps. What was there from the first of them on goes: a
    /// leader's word replaces what another leader could not finish (Raft §5.3).
    pub(crate) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else {
            return;
        };
        assert!(
            first.index > self.before.0 && first.index <= self.last() + 1,
            "entry {} does not continue {} to {}",
            first.index,
            self.before.0 + 1,
            self.last()
        );
        while self.last() >= first.index {
            let gone = self.entries.pop_back().expect("it is not empty");
            self.bytes -= weight(&gone);
        }
        for entry in entries {
            assert!(entry.index == self.last() + 1, "entries have no gaps");
            self.bytes += weight(entry);
            self.entries.push_back(entry.clone());
        }
    }

    /// How many of the first entries a snapshot of `index` stands for, when a tail of
    /// so many entries and bytes stays before it.
    pub(crate) fn covered(&self, index: u64, (tail_entries, tail_bytes): (u64, u64)) -> usize {
        let behind = slot(index.saturating_sub(self.before.0)).min(self.entries.len());
        let (mut kept, mut bytes) = (0, 0);
        for entry in self.entries.range(..behind).rev() {
            bytes += weight(entry);
            if kept == tail_entries || bytes > tail_bytes {
                break;
            }
            kept += 1;
        }
        behind - slot(kept)
    }

    /// Index and term of the last of the first `count` entries, and those after it.
    pub(crate) fn after(&self, count: usize) -> ((u64, u64), impl Iterator<Item = &Entry>) {
        let last = count.checked_sub(1).map(|last| &self.entries[last]);
        let before = last.map_or(self.before, |entry| (entry.index, entry.term));
        (before, self.entries.range(count..))
    }

    /// A snapshot is durable that stands for the first `count` entries.
    pub(crate) fn compact(&mut self, snapshot: SnapshotMeta, count: usize) {
        assert!(
            snapshot.index >= self.snapshot.index && snapshot.index <= self.last(),
            "a snapshot of {} after one of {}",
            snapshot.index,
            self.snapshot.index
        );
        for gone in self.entries.drain(..count) {
            self.bytes -= weight(&gone);
            self.before = (gone.index, gone.term);
        }
        self.snapshot = snapshot;
    }
}

/// raft-rs keeps members in no order.
pub(crate) fn sorted(ids: &[u64]) -> Vec<u64> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids
}

/// Bytes of memory that an entry takes.
pub(crate) fn weight(entry: &Entry) -> u64 {
    (entry.data.len() + entry.context.len()) as u64 + ENTRY_OVERHEAD
}

fn slot(at: u64) -> usize {
    usize::try_from(at).expect("entries in memory are counted by usize")
}

impl Storage for Memory {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(
            self.hard.clone(),
            self.snapshot.conf.clone(),
        ))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.before.0 {
            return Err(StorageError::Compacted.into());
        }
        assert!(
            high <= self.last() + 1,
            "entries to {high} of {}",
            self.last()
        );
        let max_size = max_size.into().unwrap_or(u64::MAX);
        let mut size = 0;
        let (from, to) = (low - self.before.0 - 1, high - self.before.0 - 1);
        let wanted = self.entries.range(slot(from)..slot(to));
        // One is always given, or a large one would never get through.
        let fits = wanted.enumerate().take_while(|(at, entry)| {
            size += weight(entry);
            *at == 0 || size <= max_size
        });
        Ok(fits.map(|(_, entry)| entry.clone()).collect())
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.before.0 {
            return Ok(self.before.1);
        }
        if index < self.before.0 {
            return Err(StorageError::Compacted.into());
        }
        match self.entries.get(slot(index - self.before.0 - 1)) {
            Some(entry) => Ok(entry.term),
            None => Err(StorageError::Unavailable.into()),
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.before.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    /// Says only which one: the machine goes another way.
    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        let conf = &self.snapshot.conf;
        // A member takes none that does not know it.
        let knows = conf.voters.contains(&to) || conf.learners.contains(&to);
        if self.snapshot.index < request_index || !knows {
            self.wanted.set(true);
            return Err(StorageError::SnapshotTemporarilyUnavailable.into());
        }
        let mut snapshot = Snapshot::default();
        let meta = snapshot.mut_metadata();
        (meta.index, meta.term) = (self.snapshot.index, self.snapshot.term);
        meta.set_conf_state(conf.clone());
        Ok(snapshot)
    }
}

// ------------------------------------------------------- entries and their bodies

/// What raft-rs carries for us beside a command: whose it is.
pub(crate) fn context(id: ProposalId) -> [u8; 16] {
    let mut context = [0; 16];
    context[..8].copy_from_slice(&id.member.0.to_le_bytes());
    context[8..].copy_from_slice(&id.number.to_le_bytes());
    context
}

/// The same for an entry that changes the members, and the change. raft-rs keeps its
/// own words for it in such an entry's data; they are neither stored nor sent.
pub(crate) fn change_context(id: ProposalId, change: MemberChange) -> Vec<u8> {
    [context(id), change.encode()].concat()
}

/// The change in such an entry.
pub(crate) fn change(entry: &Entry) -> Option<MemberChange> {
    MemberChange::decode(entry.context.get(16..)?).ok()
}

/// Whose command an entry is.
pub(crate) fn proposal(entry: &Entry) -> Option<ProposalId> {
    let (member, number) = entry.context.split_first_chunk()?;
    Some(ProposalId {
        member: MemberId(u64::from_le_bytes(*member)),
        number: u64::from_le_bytes(*number.first_chunk()?),
    })
}

/// An entry as it is written down.
pub(crate) fn body(entry: &Entry) -> EntryBody<'_> {
    let members = is_change(entry);
    EntryBody {
        term: entry.term,
        proposal: proposal(entry),
        members,
        data: if members {
            entry.context.get(16..).unwrap_or_default()
        } else {
            &entry.data
        },
    }
}

/// An entry as it was written down.
pub(crate) fn entry(index: u64, body: &EntryBody<'_>) -> Entry {
    let mut entry = Entry {
        index,
        term: body.term,
        ..Entry::default()
    };
    let mut said = body
        .proposal
        .map_or_else(Vec::new, |id| context(id).to_vec());
    if body.members {
        said.extend(body.data);
        entry.set_entry_type(EntryType::EntryConfChangeV2);
    } else {
        entry.data = body.data.to_vec().into();
    }
    entry.context = said.into();
    entry
}

/// Whether an entry changes who the members are.
pub(crate) fn is_change(entry: &Entry) -> bool {
    entry.get_entry_type() != EntryType::EntryNormal
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn entries(first: u64, term: u64, count: u64) -> Vec<Entry> {
        let body = EntryBody {
            term,
            proposal: None,
            members: false,
            data: &[],
        };
        (first..first + count).map(|at| entry(at, &body)).collect()
    }

    fn memory() -> Memory {
        let mut memory = Memory::new((4, 1), SnapshotMeta::default(), HardState::default());
        memory.append(&entries(5, 1, 10));
        memory
    }

    fn read(memory: &Memory, low: u64, high: u64, max: Option<u64>) -> raft::Result<Vec<u64>> {
        let found = memory.entries(low, high, max, GetEntriesContext::empty(false))?;
        Ok(found.iter().map(|entry| entry.index).collect())
    }

    #[test]
    fn a_new_leaders_entries_replace_what_was_there_from_their_place_on() {
        let mut memory = memory();
        memory.append(&entries(8, 3, 2));
        assert_eq!((memory.last(), memory.bytes()), (9, 5 * ENTRY_OVERHEAD));
        let terms: Vec<u64> = (4..=9).map(|at| memory.term(at).unwrap()).collect();
        assert_eq!(terms, [1, 1, 1, 1, 3, 3]);
        assert_eq!(memory.term(10), Err(StorageError::Unavailable.into()));
        assert_eq!(memory.term(3), Err(StorageError::Compacted.into()));
    }

    #[test]
    fn a_range_is_cut_by_its_size_and_never_empty() {
        let memory = memory();
        assert_eq!(read(&memory, 5, 9, None).unwrap(), [5, 6, 7, 8]);
        assert_eq!(read(&memory, 6, 9, Some(0)).unwrap(), [6]);
        let two = Some(2 * ENTRY_OVERHEAD);
        assert_eq!(read(&memory, 6, 15, two).unwrap(), [6, 7]);
        assert!(read(&memory, 4, 9, None).is_err());
    }

    #[test]
    fn a_tail_stays_behind_a_snapshot_within_both_of_its_bounds() {
        for (entries, bytes, first) in [
            (3, u64::MAX, 10),
            (100, 2 * ENTRY_OVERHEAD, 11),
            (0, u64::MAX, 13),
            (100, u64::MAX, 5),
        ] {
            let mut memory = memory();
            let snapshot = SnapshotMeta {
                index: 12,
                term: 1,
                ..SnapshotMeta::default()
            };
            let covered = memory.covered(12, (entries, bytes));
            let (before, rest) = memory.after(covered);
            assert_eq!((before.0, rest.count()), (first - 1, slot(15 - first)));
            memory.compact(snapshot, covered);
            assert_eq!(memory.first_index(), Ok(first));
            assert_eq!(memory.term(first - 1), Ok(1), "the one before is known");
            assert_eq!(memory.bytes(), (15 - first) * ENTRY_OVERHEAD);
        }
    }

    #[test]
    fn an_entry_comes_back_from_its_body() {
        let id = ProposalId {
            member: MemberId(3),
            number: 77,
        };
        let body = EntryBody {
            term: 9,
            proposal: Some(id),
            members: false,
            data: b"command",
        };
        let normal = entry(12, &body);
        assert_eq!(super::body(&normal), body);
        assert_eq!((normal.index, proposal(&normal)), (12, Some(id)));
        let promote = MemberChange::Promote(MemberId(4));
        let data = promote.encode();
        let body = EntryBody {
            members: true,
            data: &data,
            ..body
        };
        let members = entry(13, &body);
        assert_eq!(super::body(&members), body);
        assert_eq!(proposal(&members), Some(id));
        assert_eq!(change(&members), Some(promote));
        assert!(is_change(&members) && !is_change(&normal));
    }
}
