//! Opening a member: what its log says, put together and checked.
//!
//! raft-rs panics on a state that cannot be. So nothing is handed to it that was
//! not compared here.

use bytes::Bytes;
use pinion_commitlog::{Files, LogConfig, RecordHead, RecoveryReport, Replay, recover};
use pinion_types::{PartitionId, WallMs};
use raft::Storage;
use raft::eraftpb::{ConfState, Entry, HardState};

use crate::config::{GroupConfig, RAFT_LOG};
use crate::error::OpenError;
use crate::format::{
    EntryBody, FormatError, HardBody, KIND_ENTRY, KIND_HARD, MemberId, RESOURCE, STATE_SNAPSHOT,
    STATE_TAIL, SnapshotState, TailState,
};
use crate::group::Group;
use crate::limits::SEGMENT_BYTES_MIN;
use crate::member::Member;
use crate::storage::{Memory, SnapshotMeta, entry};
use crate::wal::Wal;

/// The part of a segment that is kept for what makes room, once the disk is full.
const RESERVE_SHARE: u64 = 4;

/// What [`Group::open`] found.
#[derive(Debug)]
pub struct Opened {
    /// The member.
    pub group: Group,
    /// Who it is.
    pub found: Found,
    /// Its machine as of some entry, to be restored before anything is applied;
    /// `None` when it is nobody yet, or waits for its first snapshot.
    pub snapshot: Option<(u64, Bytes)>,
    /// What the log's recovery met.
    pub report: RecoveryReport,
}

/// Who a member is, by its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nobody yet: it has promised nothing.
    Empty,
    /// A member.
    Member {
        /// Its number.
        id: MemberId,
        /// Of which cluster.
        cluster: [u8; 16],
        /// Everything up to here was decided when it was written down.
        commit: u64,
    },
}

pub(crate) fn open(
    config: GroupConfig,
    files: &mut dyn Files,
    wall: WallMs,
) -> Result<Opened, OpenError> {
    assert!(
        config.segment_bytes >= SEGMENT_BYTES_MIN,
        "segments of {} bytes do not hold every append",
        config.segment_bytes
    );
    let log_config = LogConfig {
        log: RAFT_LOG,
        store: config.store,
        seed: config.seed,
        segment_bytes: config.segment_bytes,
        // The group says when. Half of what there is, because the log adds to it.
        checkpoint_every_bytes: u64::MAX / 2,
        // What takes away goes on for some hundred entries when the disk is full.
        reserve_bytes: config.segment_bytes / RESERVE_SHARE,
        started: wall,
        ..LogConfig::default()
    };
    let mut story = Story::default();
    let mut failed = None;
    let recovered = recover(files, log_config, &mut |replay| {
        if failed.is_none() {
            failed = story.take(&replay).err();
        }
    })?;
    if let Some(damage) = recovered.report.damage.first() {
        return Err(OpenError::Damaged(damage.clone()));
    }
    if let Some(error) = failed {
        return Err(error);
    }
    let (member, found, snapshot, hard) = match story.end()? {
        None => (None, Found::Empty, None, HardBody::default()),
        Some(past) => {
            let found = Found::Member {
                id: past.id,
                cluster: past.cluster,
                commit: past.memory.hard.commit,
            };
            let index = past.memory.snapshot.index;
            let machine = past.machine.clone();
            let whose = (past.id, past.cluster);
            let member = Member::open(whose, config.seed, past.memory, past.machine);
            let snapshot = (index > 0).then_some((index, machine));
            (Some(member), found, snapshot, past.hard)
        }
    };
    let mut log = recovered.log;
    log.ready();
    Ok(Opened {
        group: Group::new(config, Wal::new(log, hard), member),
        found,
        snapshot,
        report: recovered.report,
    })
}

/// Everything up to now, as it is replayed.
#[derive(Default)]
struct Story {
    snapshot: Option<(SnapshotMeta, [u8; 16], MemberId, Bytes)>,
    tail: Option<((u64, u64), Vec<Entry>)>,
    hard: Option<HardBody>,
    /// Entries after the checkpoint's, in the order in which they were written.
    memory: Option<Memory>,
}

/// A member as its log has it.
struct Past {
    id: MemberId,
    cluster: [u8; 16],
    memory: Memory,
    hard: HardBody,
    machine: Bytes,
}

impl Story {
    fn take(&mut self, replay: &Replay<'_>) -> Result<(), OpenError> {
        match *replay {
            Replay::State {
                partition,
                domain,
                state,
                ..
            } => self
                .take_state((partition, domain), state)
                .map_err(|error| OpenError::State { domain, error }),
            Replay::Record {
                lsn, head, body, ..
            } => self.take_record(lsn.0, head, body),
            // It is in the report.
            Replay::Damage(_) => Ok(()),
        }
    }

    fn take_state(&mut self, name: (PartitionId, u8), state: &[u8]) -> Result<(), FormatError> {
        if name == STATE_SNAPSHOT {
            let state = SnapshotState::decode(state)?;
            let meta = SnapshotMeta {
                index: state.index,
                term: state.term,
                conf: ConfState::from((state.voters, state.learners)),
            };
            let machine = Bytes::copy_from_slice(state.machine);
            self.snapshot = Some((meta, state.cluster, state.member, machine));
        } else if name == STATE_TAIL {
            let state = TailState::decode(state)?;
            let indexes = state.before.0 + 1..;
            let entries = indexes.zip(&state.entries);
            let entries = entries.map(|(at, body)| entry(at, body)).collect();
            self.tail = Some((state.before, entries));
            self.hard = Some(state.hard);
        } else {
            return Err(FormatError::Field { name: "domain" });
        }
        Ok(())
    }

    fn take_record(&mut self, lsn: u64, head: RecordHead, body: &[u8]) -> Result<(), OpenError> {
        let field = |name| OpenError::Record {
            lsn,
            error: FormatError::Field { name },
        };
        let of_record = |error| OpenError::Record { lsn, error };
        if head.resource != RESOURCE || head.partition != PartitionId(0) {
            return Err(field("resource"));
        }
        let term = match head.kind {
            KIND_ENTRY => {
                let body = EntryBody::decode(body).map_err(of_record)?;
                self.take_entry(entry(head.first, &body))?;
                body.term
            }
            KIND_HARD => {
                let (hard, after) = HardBody::decode(body).map_err(of_record)?;
                self.compare(after)?;
                if head.first != hard.commit {
                    return Err(field("first"));
                }
                self.hard = Some(hard);
                hard.term
            }
            kind => return Err(OpenError::Kind { lsn, kind }),
        };
        if u64::from(head.epoch) != term & u64::from(u32::MAX) {
            return Err(field("epoch"));
        }
        Ok(())
    }

    fn take_entry(&mut self, entry: Entry) -> Result<(), OpenError> {
        let memory = self.memory()?;
        let (before, last) = (memory.before().0, memory.last());
        if entry.index > last + 1 {
            return Err(OpenError::Gap {
                expected: last + 1,
                found: entry.index,
            });
        }
        if entry.index <= before {
            // What is decided is never written again.
            return Err(OpenError::Inconsistent {
                what: "an entry's index",
                value: entry.index,
                limit: before,
            });
        }
        memory.append(&[entry]);
        Ok(())
    }

    /// Compares the history that an append continues with the one that is here. After a
    /// snapshot from the leader they differ when its checkpoint is gone and the one before
    /// it is read: its entries may never have been decided on.
    fn compare(&mut self, (index, term): (u64, u64)) -> Result<(), OpenError> {
        let has = self.memory()?.term(index).unwrap_or(0);
        if has != term {
            return Err(OpenError::AnotherHistory { index, term, has });
        }
        Ok(())
    }

    /// The entries of the checkpoint and those that were read since.
    fn memory(&mut self) -> Result<&mut Memory, OpenError> {
        if self.memory.is_none() {
            let (Some((meta, ..)), Some((before, entries))) = (&self.snapshot, self.tail.take())
            else {
                return Err(OpenError::NoCheckpoint);
            };
            let mut memory = Memory::new(before, meta.clone(), HardState::default());
            memory.append(&entries);
            self.memory = Some(memory);
        }
        self.memory.as_mut().ok_or(OpenError::NoCheckpoint)
    }

    /// Puts it together; `None` when there was nothing.
    fn end(mut self) -> Result<Option<Past>, OpenError> {
        let nothing = self.snapshot.is_none() && self.tail.is_none();
        if nothing && self.hard.is_none() && self.memory.is_none() {
            return Ok(None);
        }
        self.memory()?;
        let (Some((meta, cluster, id, machine)), Some(mut memory), Some(hard)) =
            (self.snapshot, self.memory, self.hard)
        else {
            return Err(OpenError::NoCheckpoint);
        };
        let at_most = |what, value, limit| {
            if value > limit {
                return Err(OpenError::Inconsistent { what, value, limit });
            }
            Ok(())
        };
        let last = memory.last();
        at_most("the first entry", memory.before().0, meta.index)?;
        at_most("the snapshot", meta.index, last)?;
        at_most("the commit", hard.commit, last)?;
        let mut term = memory.before().1;
        let places = memory.iter().map(|entry| (entry.index, entry.term));
        for (index, next_term) in core::iter::once(memory.before()).chain(places) {
            at_most("an earlier entry's term", term, next_term)?;
            term = next_term;
            if index == meta.index {
                at_most("the snapshot's term", meta.term, term)?;
                at_most("the term of its entry", term, meta.term)?;
            }
        }
        at_most("the last entry's term", term, hard.term)?;
        memory.hard = HardState {
            term: hard.term,
            vote: hard.vote,
            // A snapshot is of what is decided.
            commit: hard.commit.max(meta.index),
            ..HardState::default()
        };
        Ok(Some(Past {
            id,
            cluster,
            memory,
            hard,
            machine,
        }))
    }
}
