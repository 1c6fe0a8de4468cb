//! The commit log of a member: what is appended to it, and its checkpoints.

use pinion_commitlog::{Log, Lsn, RecordHead, RecordIn};
use pinion_types::{Monotonic, PartitionId, WallMs};
use raft::eraftpb::{Entry, HardState};

use crate::format::{
    EntryBody, HardBody, KIND_ENTRY, KIND_HARD, MemberId, RESOURCE, STATE_SNAPSHOT, STATE_TAIL,
    SnapshotState, TailState,
};
use crate::limits::APPEND_BYTES_MAX;
use crate::storage::{Memory, SnapshotMeta, body, sorted};

/// The log, and what of the promises is in it.
#[derive(Debug)]
pub(crate) struct Wal {
    pub(crate) log: Log,
    /// The newest promises that were appended.
    written: HardBody,
}

impl Wal {
    pub(crate) fn new(log: Log, written: HardBody) -> Self {
        Self { log, written }
    }

    /// A checkpoint holds these promises, so that no record needs to.
    pub(crate) fn set_written(&mut self, written: HardBody) {
        self.written = written;
    }

    /// Appends entries and promises. Promises that only know of more decisions wait
    /// for company: alone they would cost a flush of their own, and a member that
    /// forgets them learns them again.
    ///
    /// `after` is index and term of the entry before them, or of the last one when there
    /// are none.
    pub(crate) fn append(
        &mut self,
        now: Monotonic,
        entries: &[Entry],
        hard: &HardState,
        mut after: (u64, u64),
    ) {
        let hard = HardBody {
            term: hard.term,
            vote: hard.vote,
            commit: hard.commit,
        };
        let promised = (hard.term, hard.vote) != (self.written.term, self.written.vote);
        if entries.is_empty() && !promised {
            return;
        }
        let mut rest = entries;
        loop {
            let (part, others) = rest.split_at(part_len(rest));
            rest = others;
            // Promises are never behind the entries that were taken under them, and
            // decisions are never ahead of the entries that they decide, nor behind what
            // was known when these came: a member must not find a second change of the
            // members in its log and not know that the first one holds.
            let last = part.last().map_or(u64::MAX, |entry| entry.index);
            let commit = hard.commit.min(last);
            self.append_part(now, part, HardBody { commit, ..hard }, after);
            after = part.last().map_or(after, |entry| (entry.index, entry.term));
            if rest.is_empty() {
                return;
            }
        }
    }

    /// Writes down what is known to be decided, for a clean end.
    pub(crate) fn append_decided(&mut self, now: Monotonic, hard: &HardState, after: (u64, u64)) {
        if hard.commit > self.written.commit {
            let commit = hard.commit;
            let hard = HardBody {
                commit,
                ..self.written
            };
            self.append_part(now, &[], hard, after);
        }
    }

    /// One append, so that after a crash all of it is there or nothing.
    fn append_part(
        &mut self,
        now: Monotonic,
        entries: &[Entry],
        hard: HardBody,
        after: (u64, u64),
    ) {
        let of: Vec<EntryBody<'_>> = entries.iter().map(body).collect();
        let heads: Vec<[u8; 32]> = of.iter().map(EntryBody::head).collect();
        let bodies: Vec<[&[u8]; 2]> = of
            .iter()
            .zip(&heads)
            .map(|(of, head)| [&head[..], of.data])
            .collect();
        let hard_bytes = hard.encode(after);
        let hard_body = [&hard_bytes[..]];
        let mut records: Vec<RecordIn<'_>> = entries
            .iter()
            .zip(&bodies)
            .map(|(entry, body)| record(KIND_ENTRY, entry.index, entry.term, body))
            .collect();
        records.push(record(KIND_HARD, hard.commit, hard.term, &hard_body));
        self.log.append(now, &records);
        self.written = hard;
    }

    /// Begins a checkpoint that holds the machine as of `meta` and everything that
    /// `memory` holds, but for the first `covered` entries. Its trailer is written when
    /// all of that is durable.
    pub(crate) fn checkpoint(
        &mut self,
        (cluster, member): ([u8; 16], MemberId),
        meta: &SnapshotMeta,
        machine: &[u8],
        memory: &Memory,
        covered: usize,
    ) {
        let snapshot = SnapshotState {
            cluster,
            member,
            index: meta.index,
            term: meta.term,
            voters: sorted(&meta.conf.voters),
            learners: sorted(&meta.conf.learners),
            machine,
        };
        let hard = HardBody {
            term: memory.hard.term,
            vote: memory.hard.vote,
            commit: memory.hard.commit,
        };
        let (before, entries) = memory.after(covered);
        let tail = TailState {
            before,
            hard,
            entries: entries.map(body).collect(),
        };
        let as_of = self.log.appended();
        self.log.checkpoint_begin();
        for ((partition, domain), state) in [
            (STATE_SNAPSHOT, snapshot.encode()),
            (STATE_TAIL, tail.encode()),
        ] {
            self.log
                .checkpoint_add(RESOURCE, partition, domain, as_of, &state);
        }
        self.log.checkpoint_end();
    }

    /// The last record appended.
    pub(crate) fn appended(&self) -> Lsn {
        self.log.appended()
    }
}

/// How many of `entries` go into one append: at least one, when there is one.
fn part_len(entries: &[Entry]) -> usize {
    let mut bytes = 0;
    let fits = entries.iter().take_while(|entry| {
        let before = bytes;
        bytes += entry.data.len() + 128;
        before <= APPEND_BYTES_MAX
    });
    fits.count()
}

fn record<'a>(kind: u8, first: u64, term: u64, body: &'a [&'a [u8]]) -> RecordIn<'a> {
    #[allow(clippy::cast_possible_truncation)] // The body has all of it.
    let epoch = term as u32;
    let head = RecordHead {
        resource: RESOURCE,
        partition: PartitionId(0),
        kind,
        first,
        count: 0,
        epoch,
        // Commands carry their own time; a member knows none.
        timestamp: WallMs(0),
    };
    RecordIn {
        head,
        ext: &[],
        body,
        retain: false,
    }
}
