//! One member: raft-rs, and what must happen around it in which order.

use core::fmt;
use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use pinion_commitlog::Lsn;
use pinion_types::Monotonic;
use raft::eraftpb::{Entry, Message, MessageType};
use raft::{Config, RawNode, StateRole};

use crate::config::GroupConfig;
use crate::error::ProposeError;
use crate::format::{MemberId, ProposalId};
use crate::limits::{
    APPLY_BYTES_MAX, ENTRIES_BYTES_MAX, PROPOSALS_BYTES_MAX, PROPOSALS_MAX, SNAPSHOT_BYTES_MAX,
};
use crate::output::{Notice, Output, Role, Status};
use crate::storage::{Memory, SnapshotMeta, context, proposal, weight};
use crate::wal::Wal;

/// A member of a group, from its first checkpoint on.
pub(crate) struct Member {
    id: MemberId,
    cluster: [u8; 16],
    raw: RawNode<Memory>,
    /// Readies that were appended, with the last record of each, oldest first.
    unflushed: VecDeque<(u64, Lsn)>,
    /// Everything up to here was given to the machine.
    applied: u64,
    /// Proposals of this member in its log, by index.
    proposals: BTreeMap<u64, Proposal>,
    proposals_bytes: u64,
    /// What was told last.
    told: (Role, Option<MemberId>, u64),
    snapshot: Snapshot,
    /// Index at which a snapshot was last asked for, and the bytes applied since.
    asked: u64,
    asked_bytes: u64,
}

struct Proposal {
    id: ProposalId,
    bytes: u64,
}

/// How far the next snapshot is.
enum Snapshot {
    /// The last one is durable.
    Durable,
    /// The last one did not become durable.
    Due,
    /// The owner was asked for it.
    Wanted(SnapshotMeta),
    /// It is on its way to the disk.
    Writing(SnapshotMeta),
    /// It is the member's birth: until it is durable there is no member.
    Birth(Bytes),
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("id", &self.id)
            .field("told", &self.told)
            .field("applied", &self.applied)
            .finish_non_exhaustive()
    }
}

impl Member {
    /// A member that goes on from its log.
    pub(crate) fn open(id: MemberId, cluster: [u8; 16], memory: Memory) -> Self {
        let applied = memory.snapshot.index;
        let config = Config {
            id: id.0,
            applied,
            max_committed_size_per_ready: APPLY_BYTES_MAX,
            ..Config::default()
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let raw = RawNode::new(&config, memory, &logger)
            .expect("the settings are constants and the state was checked");
        Self {
            id,
            cluster,
            raw,
            unflushed: VecDeque::new(),
            applied,
            proposals: BTreeMap::new(),
            proposals_bytes: 0,
            told: (Role::Follower, None, 0),
            snapshot: Snapshot::Durable,
            asked: applied,
            asked_bytes: 0,
        }
    }

    /// A new member. It is one when its first checkpoint is durable; before that it
    /// has promised nothing, and after a crash it is nobody again.
    pub(crate) fn born(
        id: MemberId,
        cluster: [u8; 16],
        memory: Memory,
        machine: Bytes,
        wal: &mut Wal,
    ) -> Self {
        let mut member = Self::open(id, cluster, memory);
        member.snapshot = Snapshot::Birth(machine);
        member.write_checkpoint(wal);
        member
    }

    // ------------------------------------------------------------------- turns

    /// Does what the inputs since the last turn led to.
    pub(crate) fn turn(
        &mut self,
        now: Monotonic,
        config: &GroupConfig,
        wal: &mut Wal,
        out: &mut VecDeque<Output>,
    ) {
        if matches!(self.snapshot, Snapshot::Birth(_)) {
            return;
        }
        let mut campaigned = false;
        loop {
            while self.raw.has_ready() {
                self.one_ready(now, wal, out);
            }
            if campaigned || !self.may_lead_alone() {
                break;
            }
            // Nobody else could be elected, so there is nothing to wait for.
            campaigned = true;
            if self.raw.campaign().is_err() {
                break;
            }
        }
        self.want_snapshot(config, out);
    }

    fn one_ready(&mut self, now: Monotonic, wal: &mut Wal, out: &mut VecDeque<Output>) {
        let mut ready = self.raw.ready();
        // raft-rs reads from here what it has given away.
        let memory = self.raw.mut_store();
        if let Some(hard) = ready.hs() {
            memory.hard = hard.clone();
        }
        memory.append(ready.entries());
        wal.append(now, ready.entries(), &memory.hard);
        // One without records waits for those before it, too: what it says was
        // decided with them in mind.
        self.unflushed.push_back((ready.number(), wal.appended()));
        self.tell_role(out);
        for entry in ready.take_committed_entries() {
            self.apply(entry, out);
        }
        self.raw.advance_append_async(ready);
        self.raw.advance_apply_to(self.applied);
        self.handle_flushed(wal.log.committed());
    }

    /// Everything up to `committed` is durable.
    pub(crate) fn handle_flushed(&mut self, committed: Lsn) {
        let mut flushed = None;
        while let Some(&(number, lsn)) = self.unflushed.front()
            && lsn <= committed
        {
            self.unflushed.pop_front();
            flushed = Some(number);
        }
        if let Some(number) = flushed {
            self.raw.on_persist_ready(number);
        }
    }

    fn apply(&mut self, entry: Entry, out: &mut VecDeque<Output>) {
        assert!(
            entry.index == self.applied + 1,
            "entry {} is applied after {}",
            entry.index,
            self.applied
        );
        self.applied = entry.index;
        self.asked_bytes += weight(&entry);
        if let Some(proposal) = self.proposals.remove(&entry.index) {
            self.proposals_bytes -= proposal.bytes;
        }
        // Without a proposal it is the empty entry with which a leader begins.
        if let Some(id) = proposal(&entry) {
            out.push_back(Output::Apply {
                index: entry.index,
                term: entry.term,
                id,
                data: entry.data,
            });
        }
    }

    fn may_lead_alone(&self) -> bool {
        let raft = &self.raw.raft;
        raft.state != StateRole::Leader
            && raft.promotable()
            && raft.prs().is_singleton()
            && self.applied == raft.raft_log.committed
            // A leader's own entries are durable before it leads: raft-rs relies on it.
            && self.unflushed.is_empty()
    }

    fn role(&self) -> (Role, Option<MemberId>, u64) {
        let raft = &self.raw.raft;
        let role = match raft.state {
            StateRole::Follower => Role::Follower,
            StateRole::PreCandidate => Role::PreCandidate,
            StateRole::Candidate => Role::Candidate,
            StateRole::Leader => Role::Leader,
        };
        let leader = (raft.leader_id != 0).then_some(MemberId(raft.leader_id));
        (role, leader, raft.term)
    }

    fn tell_role(&mut self, out: &mut VecDeque<Output>) {
        let is = self.role();
        if is != self.told {
            self.told = is;
            let (role, leader, term) = is;
            out.push_back(Output::Role { role, leader, term });
        }
    }

    // --------------------------------------------------------------- proposals

    /// Takes a command into the log.
    pub(crate) fn propose(&mut self, id: ProposalId, data: Bytes) -> Result<(), ProposeError> {
        let (role, leader, _) = self.role();
        if role != Role::Leader {
            return Err(ProposeError::NotLeader { leader });
        }
        if self.proposals.len() >= PROPOSALS_MAX {
            let limit = PROPOSALS_MAX as u64;
            return Err(ProposeError::Busy { limit });
        }
        let bytes = data.len() as u64;
        if self.proposals_bytes + bytes > PROPOSALS_BYTES_MAX {
            let limit = PROPOSALS_BYTES_MAX;
            return Err(ProposeError::Busy { limit });
        }
        if self.raw.store().bytes() > ENTRIES_BYTES_MAX {
            let limit = ENTRIES_BYTES_MAX;
            return Err(ProposeError::Busy { limit });
        }
        let entry = Entry {
            context: context(id).to_vec().into(),
            data,
            ..Entry::default()
        };
        let mut message = Message {
            from: self.id.0,
            entries: vec![entry].into(),
            ..Message::default()
        };
        message.set_msg_type(MessageType::MsgPropose);
        if self.raw.step(message).is_err() {
            return Err(ProposeError::NotLeader { leader: None });
        }
        let index = self.raw.raft.raft_log.last_index();
        self.proposals_bytes += bytes;
        self.proposals.insert(index, Proposal { id, bytes });
        Ok(())
    }

    /// Bytes of proposals that are not applied yet.
    pub(crate) fn proposals_bytes(&self) -> u64 {
        self.proposals_bytes
    }

    /// The log failed: nobody will know what became of the proposals.
    pub(crate) fn fail(&mut self, out: &mut VecDeque<Output>) {
        for proposal in core::mem::take(&mut self.proposals).into_values() {
            out.push_back(Output::Uncertain { id: proposal.id });
        }
        self.proposals_bytes = 0;
        let (role, leader, term) = (Role::Follower, None, self.role().2);
        if self.told != (role, leader, term) {
            self.told = (role, leader, term);
            out.push_back(Output::Role { role, leader, term });
        }
    }

    // --------------------------------------------------------------- snapshots

    fn want_snapshot(&mut self, config: &GroupConfig, out: &mut VecDeque<Output>) {
        let due = match self.snapshot {
            Snapshot::Due => true,
            Snapshot::Durable => {
                self.applied - self.asked >= config.snapshot_every_entries
                    || self.asked_bytes >= config.snapshot_every_bytes
            }
            _ => false,
        };
        if !due || self.applied == self.raw.store().snapshot.index {
            return;
        }
        let raft = &self.raw.raft;
        let term = raft.raft_log.term(self.applied);
        self.snapshot = Snapshot::Wanted(SnapshotMeta {
            index: self.applied,
            term: term.expect("what was just applied is in memory"),
            conf: raft.prs().conf().to_conf_state(),
        });
        (self.asked, self.asked_bytes) = (self.applied, 0);
        out.push_back(Output::WantSnapshot {
            index: self.applied,
        });
    }

    /// The machine as it was at `index`; ignored when it was not asked for.
    pub(crate) fn snapshot_ready(
        &mut self,
        index: u64,
        machine: &[u8],
        config: &GroupConfig,
        wal: &mut Wal,
        out: &mut VecDeque<Output>,
    ) {
        let meta = match &self.snapshot {
            Snapshot::Wanted(meta) if meta.index == index => meta.clone(),
            _ => return,
        };
        if machine.len() > SNAPSHOT_BYTES_MAX {
            // The log takes it for one that was never begun; it is asked for again
            // after as many entries more.
            out.push_back(Output::Notice(Notice::SnapshotTooLarge {
                bytes: machine.len(),
                limit: SNAPSHOT_BYTES_MAX,
            }));
            self.snapshot = Snapshot::Durable;
            return;
        }
        let memory = self.raw.store();
        let covered = memory.covered(index, (config.tail_entries, config.tail_bytes));
        wal.checkpoint((self.cluster, self.id), &meta, machine, memory, covered);
        self.snapshot = Snapshot::Writing(meta);
    }

    fn write_checkpoint(&mut self, wal: &mut Wal) {
        if let Snapshot::Birth(machine) = &self.snapshot {
            let memory = self.raw.store();
            let whose = (self.cluster, self.id);
            wal.checkpoint(whose, &memory.snapshot, machine, memory, 0);
        }
    }

    /// The checkpoint is durable.
    pub(crate) fn checkpoint_done(&mut self, config: &GroupConfig) {
        let done = core::mem::replace(&mut self.snapshot, Snapshot::Durable);
        if let Snapshot::Writing(meta) = done {
            let memory = self.raw.mut_store();
            let covered = memory.covered(meta.index, (config.tail_entries, config.tail_bytes));
            memory.compact(meta, covered);
        }
    }

    /// The last checkpoint came to nothing, and the log can take another one.
    pub(crate) fn checkpoint_failed(&mut self, wal: &mut Wal) {
        match self.snapshot {
            Snapshot::Writing(_) => self.snapshot = Snapshot::Due,
            Snapshot::Birth(_) => self.write_checkpoint(wal),
            Snapshot::Durable | Snapshot::Due | Snapshot::Wanted(_) => {}
        }
    }

    // ------------------------------------------------------------------- other

    /// Writes down what is known to be decided.
    pub(crate) fn append_decided(&mut self, now: Monotonic, wal: &mut Wal) {
        if !matches!(self.snapshot, Snapshot::Birth(_)) {
            wal.append_decided(now, &self.raw.store().hard);
        }
    }

    pub(crate) fn status(&self) -> Status {
        let (role, leader, term) = self.told;
        let memory = self.raw.store();
        Status {
            id: Some(self.id),
            role,
            leader,
            term,
            commit: self.raw.raft.raft_log.committed,
            applied: self.applied,
            first: memory.before().0 + 1,
            last: memory.last(),
            snapshot: memory.snapshot.index,
            entries_bytes: memory.bytes(),
            proposals: self.proposals.len(),
        }
    }
}
