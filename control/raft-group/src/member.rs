//! One member: raft-rs, and what must happen around it in which order.

mod proposals;
mod snapshots;

use core::cmp::Reverse;
use core::fmt;
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use pinion_commitlog::Lsn;
use pinion_types::Monotonic;
use raft::eraftpb::{Entry, Message, MessageType};
use raft::{Config, INVALID_ID, RawNode, SnapshotStatus, StateRole};

use crate::config::GroupConfig;
use crate::error::{ReadError, TransferError};
use crate::format::{MemberId, ProposalId};
use crate::health::Health;
use crate::limits::{
    APPLY_BYTES_MAX, ELECTION_STEP_TICKS, ELECTION_TICKS, ENTRIES_BYTES_MAX, HEARTBEAT_TICKS,
    MESSAGE_BYTES_MAX, MESSAGES_IN_FLIGHT_MAX, READS_MAX, SLOW_ELECTION_TICKS, TICK, TICKS_AT_ONCE,
    TRANSFER_LAG_MAX, UNFLUSHED_MAX, VOTERS_MAX,
};
use crate::output::{Notice, Output, PeerStatus, Role, Status};
use crate::peer::{PeerMessage, RaftMessage, frames};
use crate::reads::{ReadId, Reads};
use crate::storage::{Memory, SnapshotMeta, change, is_change, proposal, sorted, weight};
use crate::transfer::{Incoming, Outgoings};
use crate::wal::Wal;

use proposals::conf_change;

/// Ticks without a leader's word after which the first voter asks to be elected: one
/// more than after which the others would vote for it, because their ticks are not
/// its.
const FIRST_ELECTION_TICKS: usize = ELECTION_TICKS + 1;
const LAST_ELECTION_TICKS: usize = FIRST_ELECTION_TICKS + ELECTION_STEP_TICKS * VOTERS_MAX;
const LAST_SLOW_ELECTION_TICKS: usize = LAST_ELECTION_TICKS + SLOW_ELECTION_TICKS;

/// A member of a group, from its first checkpoint on.
pub(crate) struct Member {
    id: MemberId,
    cluster: [u8; 16],
    raw: RawNode<Memory>,
    /// Readies that were appended, oldest first.
    unflushed: VecDeque<Unflushed>,
    /// The newest term that is durable.
    durable_term: u64,
    /// Everything up to here was given to the machine.
    applied: u64,
    /// Proposals of this member that were in its log and are not known to have come to
    /// nothing, by index and term.
    proposals: BTreeMap<(u64, u64), Proposal>,
    proposals_bytes: u64,
    reads: Reads,
    health: Health,
    /// When the next tick is due; `None` while nobody is there to keep time with.
    next_tick: Option<Monotonic>,
    /// What was told last.
    told: (Role, Option<MemberId>, u64),
    snapshot: Snapshot,
    /// The machine in the newest snapshot that is durable: kept, so that a member that
    /// needs it need not wait for another one.
    machine: Bytes,
    outgoing: Outgoings,
    incoming: Incoming,
    /// The machine of a snapshot that raft-rs was told of, and its index.
    arrived: Option<(u64, Bytes)>,
    /// Members to which raft-rs sends a snapshot, and the term.
    to_send: Vec<(MemberId, u64)>,
    /// Index at which a snapshot was last asked for, and the bytes applied since.
    asked: u64,
    asked_bytes: u64,
}

struct Proposal {
    id: ProposalId,
    bytes: u64,
    /// The owner was told that nobody knows.
    uncertain: bool,
}

/// A ready of raft-rs on its way to the disk.
struct Unflushed {
    number: u64,
    /// The last record that it rests on.
    lsn: Lsn,
    term: u64,
    /// The last entry of it, or before it.
    last: u64,
    /// When it was appended; `None` when it put nothing into the log.
    since: Option<Monotonic>,
    /// What may be said when that is durable.
    messages: Vec<Message>,
}

impl Unflushed {
    /// A later one that rests on the same record.
    fn add(&mut self, later: Self) {
        (self.number, self.term, self.last) = (later.number, later.term, later.last);
        self.messages.extend(later.messages);
    }
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
    Writing(SnapshotMeta, Bytes),
    /// It is the member's birth: until it is durable there is no member.
    Birth,
    /// It came from the leader and is on its way to the disk: until it is durable the
    /// member knows of nothing else.
    Installing(Installing),
}

struct Installing {
    ready: u64,
    term: u64,
    messages: Vec<Message>,
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
    pub(crate) fn open(
        (id, cluster): (MemberId, [u8; 16]),
        life: u64,
        memory: Memory,
        machine: Bytes,
    ) -> Self {
        let (applied, durable_term) = (memory.snapshot.index, memory.hard.term);
        let config = Config {
            id: id.0,
            applied,
            max_committed_size_per_ready: APPLY_BYTES_MAX,
            heartbeat_tick: HEARTBEAT_TICKS,
            election_tick: ELECTION_TICKS,
            min_election_tick: FIRST_ELECTION_TICKS,
            max_election_tick: LAST_SLOW_ELECTION_TICKS + 1,
            pre_vote: true,
            check_quorum: true,
            // raft-rs 0.7 adds entries to a message that has none without a look at where
            // that message stands (`is_continuous_ents`). After a refused append they are
            // earlier ones, the follower takes them for what comes after, and says that
            // it has what it has not. Frames put messages together anyway.
            batch_append: false,
            max_size_per_msg: MESSAGE_BYTES_MAX,
            max_inflight_msgs: MESSAGES_IN_FLIGHT_MAX,
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
            durable_term,
            applied,
            proposals: BTreeMap::new(),
            proposals_bytes: 0,
            reads: Reads::new(id, life),
            health: Health::default(),
            next_tick: None,
            told: (Role::Follower, None, 0),
            snapshot: Snapshot::Durable,
            machine,
            outgoing: Outgoings::default(),
            incoming: Incoming::default(),
            arrived: None,
            to_send: Vec::new(),
            asked: applied,
            asked_bytes: 0,
        }
    }

    /// A new member. It is one when its first checkpoint is durable; before that it
    /// has promised nothing, and after a crash it is nobody again.
    pub(crate) fn born(
        whose: (MemberId, [u8; 16]),
        life: u64,
        memory: Memory,
        machine: Bytes,
        wal: &mut Wal,
    ) -> Self {
        let mut member = Self::open(whose, life, memory, machine);
        member.snapshot = Snapshot::Birth;
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
        let mut campaigned = false;
        loop {
            while self.takes_part() && self.raw.has_ready() {
                self.one_ready(now, wal, out);
            }
            if !self.takes_part() {
                return;
            }
            if self.may_ask()
                && let Some(question) = self.reads.next_question(now)
            {
                self.raw.read_index(question.to_vec());
                continue;
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
        // Alone, or waiting to be told of others, there is nobody to keep time with. A new
        // member hears a leader before it knows the others; without time it would hold
        // to that leader for ever and vote for nobody else.
        let raft = &self.raw.raft;
        let mut members = raft.prs().iter();
        let alone = raft.leader_id == 0 || raft.leader_id == self.id.0;
        if alone && members.all(|(id, _)| *id == self.id.0) {
            self.next_tick = None;
        } else if self.next_tick.is_none() {
            self.next_tick = Some(now + TICK);
        }
    }

    fn one_ready(&mut self, now: Monotonic, wal: &mut Wal, out: &mut VecDeque<Output>) {
        let mut ready = self.raw.ready();
        if !ready.snapshot().is_empty() {
            return self.install(ready, wal, out);
        }
        // A leader's entries go to the others while they go to its own disk (Raft
        // thesis §10.2.1), if its term is there. That of the only voter is not yet: its
        // vote is all that it needs, and a crash may take that back. It would win the same
        // term again, and those who listen to it would have entries of both.
        let mut later = ready.take_messages();
        if self.raw.raft.term == self.durable_term {
            self.send(core::mem::take(&mut later), out);
        }
        // raft-rs reads from here what it has given away.
        let memory = self.raw.mut_store();
        if let Some(hard) = ready.hs() {
            memory.hard = hard.clone();
        }
        memory.append(ready.entries());
        let (last, before) = (memory.last(), wal.appended());
        let first = ready
            .entries()
            .first()
            .map_or(last + 1, |entry| entry.index);
        wal.append(
            now,
            ready.entries(),
            &memory.hard,
            memory.before_entry(first),
        );
        let since = (wal.appended() > before).then_some(now);
        let (at_once, answers) = self.split(ready.take_persisted_messages());
        self.send(at_once, out);
        later.extend(answers);
        // One without records waits for those before it, too. A repeated append is
        // answered by such a one: sent at once, the answer would acknowledge entries
        // that are still on their way to the disk.
        let unflushed = Unflushed {
            number: ready.number(),
            lsn: wal.appended(),
            term: self.raw.raft.term,
            last,
            since,
            messages: later,
        };
        match self.unflushed.back_mut() {
            // Both become durable by the same record.
            Some(with) if with.lsn == unflushed.lsn => with.add(unflushed),
            _ => self.unflushed.push_back(unflushed),
        }
        self.tell_role(out);
        for answer in ready.take_read_states() {
            self.reads.handle_answer(&answer.request_ctx, answer.index);
        }
        for entry in ready.take_committed_entries() {
            self.apply(entry, out);
        }
        self.raw.advance_append_async(ready);
        self.raw.advance_apply_to(self.applied);
        self.reads.handle_applied(self.applied, out);
        self.handle_flushed(now, wal.log.committed(), out);
        self.begin_transfers(now, out);
    }

    /// Everything up to `committed` is durable.
    pub(crate) fn handle_flushed(
        &mut self,
        now: Monotonic,
        committed: Lsn,
        out: &mut VecDeque<Output>,
    ) {
        let durable = |unflushed: &Unflushed| unflushed.lsn <= committed;
        let count = self.unflushed.iter().take_while(|one| durable(one)).count();
        let flushed: Vec<Unflushed> = self.unflushed.drain(..count).collect();
        if let Some(last) = flushed.last() {
            // Terms never fall, and a snapshot that was installed may have passed these.
            self.durable_term = self.durable_term.max(last.term);
            self.raw.on_persist_ready(last.number);
        }
        // One write flushed them all; the first of them waited longest.
        if let Some(since) = flushed.iter().find_map(|one| one.since) {
            self.health.note(now.since(since));
        }
        let messages = flushed.into_iter().flat_map(|one| one.messages);
        self.send(messages, out);
    }

    /// What a follower may say at once, and what must be durable first. That it hears
    /// its leader is true whatever is on its disk, if only the term is there; it is said
    /// while a slow disk writes, or two slow disks of three would depose a leader.
    fn split(&self, messages: Vec<Message>) -> (Vec<Message>, Vec<Message>) {
        let at_once = |message: &Message| {
            message.get_msg_type() == MessageType::MsgHeartbeatResponse
                && message.term == self.durable_term
        };
        messages.into_iter().partition(at_once)
    }

    /// Gives messages to the owner, those to one member together.
    fn send(&mut self, messages: impl IntoIterator<Item = Message>, out: &mut VecDeque<Output>) {
        let mut of: BTreeMap<u64, Vec<Message>> = BTreeMap::new();
        for message in messages {
            // A question that raft-rs would pass on is not heard anywhere: who asks it
            // asks again.
            if message.get_msg_type() == MessageType::MsgSnapshot {
                self.to_send.push((MemberId(message.to), message.term));
            } else if message.from == self.id.0 {
                of.entry(message.to).or_default().push(message);
            }
        }
        for (to, messages) in of {
            for frame in frames(messages) {
                let (to, message) = (MemberId(to), PeerMessage::Raft(frame));
                out.push_back(Output::Send { to, message });
            }
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
        while let Some(first) = self.proposals.first_entry()
            && first.key().0 <= entry.index
        {
            let ((_, term), proposal) = first.remove_entry();
            self.proposals_bytes -= proposal.bytes;
            // Another entry has its place for good. Before this one was decided on it
            // could have come back: overwritten here is not forgotten everywhere (Raft
            // §5.4.2).
            if term != entry.term {
                out.push_back(Output::Dropped { id: proposal.id });
            }
        }
        // Without a proposal it is the empty entry with which a leader begins.
        let Some(id) = proposal(&entry) else {
            return;
        };
        if is_change(&entry) {
            self.apply_change(&entry, id, out);
        } else {
            out.push_back(Output::Apply {
                index: entry.index,
                term: entry.term,
                id,
                data: entry.data,
            });
        }
    }

    fn apply_change(&mut self, entry: &Entry, id: ProposalId, out: &mut VecDeque<Output>) {
        let change = change(entry).expect("what is in the log was checked on its way there");
        let conf = self
            .raw
            .apply_conf_change(&conf_change(change))
            .expect("the leader compared it with the members, and one follows the other");
        // One that does not lead was removed, and leads by the time it hears of it: raft-rs
        // leaves it the lead, alone with the only voter as if it were that one, and looks for
        // its progress, which is gone, when its next entry is durable.
        let raft = &mut self.raw.raft;
        if raft.state == StateRole::Leader && !conf.voters.contains(&self.id.0) {
            let term = raft.term;
            raft.become_follower(term, INVALID_ID);
        }
        out.push_back(Output::MembersChanged {
            index: entry.index,
            id,
            voters: members(&conf.voters),
            learners: members(&conf.learners),
        });
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
        if is == self.told {
            return;
        }
        let (role, leader, term) = is;
        if self.told.0 == Role::Leader && (role, term) != (Role::Leader, self.told.2) {
            self.doubt(out);
            self.outgoing.clear();
        }
        if (leader, term) != (self.told.1, self.told.2) {
            self.reads.ask_again();
        }
        self.told = is;
        out.push_back(Output::Role { role, leader, term });
    }

    /// Nobody knows what becomes of the proposals.
    fn doubt(&mut self, out: &mut VecDeque<Output>) {
        for proposal in self.proposals.values_mut().filter(|one| !one.uncertain) {
            proposal.uncertain = true;
            out.push_back(Output::Uncertain { id: proposal.id });
        }
    }

    // ------------------------------------------------------------ others and time

    /// Another member says something.
    pub(crate) fn handle_peer(
        &mut self,
        from: MemberId,
        messages: Vec<RaftMessage>,
        out: &mut VecDeque<Output>,
    ) {
        if !self.takes_part() {
            return;
        }
        for RaftMessage(message) in messages {
            if message.from != from.0 || message.to != self.id.0 {
                continue;
            }
            if message.get_msg_type() == MessageType::MsgAppend && self.is_full() {
                continue;
            }
            // raft-rs stops the process over these, and so one member with a wrong
            // disk would stop them all.
            if message.term >= self.raw.raft.term
                && let Some((claims, last)) = self.contradiction(&message)
            {
                out.push_back(Output::Notice(Notice::Contradiction { from, claims, last }));
                continue;
            }
            // What raft-rs does not take is of an older term or membership.
            let _ = self.raw.step(message);
        }
    }

    /// Whether the disk is so far behind that no more entries are taken: to their leader they
    /// are lost on the way, and it sends them again. It gives one more for each heartbeat
    /// that is answered, and a disk that is full or hangs answers those.
    fn is_full(&self) -> bool {
        let answers = self.unflushed.back().map_or(0, |last| last.messages.len());
        self.raw.store().bytes() > ENTRIES_BYTES_MAX
            || self.unflushed.len() >= UNFLUSHED_MAX
            || answers >= UNFLUSHED_MAX
    }

    /// What a message claims that cannot be, and the last entry that it can be said of.
    fn contradiction(&self, message: &Message) -> Option<(u64, u64)> {
        let log = &self.raw.raft.raft_log;
        let last = log.last_index();
        match message.get_msg_type() {
            MessageType::MsgHeartbeat => (message.commit > last).then_some((message.commit, last)),
            // Only a leader listens to it. One that led and was started again may hear of
            // entries that it gave to others and lost itself.
            MessageType::MsgAppendResponse
                if !message.reject && self.raw.raft.state == StateRole::Leader =>
            {
                (message.index > last).then_some((message.index, last))
            }
            // What is decided here is in every later leader's log, and terms never fall
            // along it (Raft §5.4).
            MessageType::MsgAppend => {
                let decided = log.committed;
                let older = message.index >= decided
                    && log.term(decided).is_ok_and(|term| message.log_term < term);
                older.then_some((message.index, decided))
            }
            _ => None,
        }
    }

    /// What was sent to a member may not have reached it.
    pub(crate) fn handle_unreachable(&mut self, peer: MemberId) {
        if self.outgoing.handle_unreachable(peer) {
            self.raw.report_snapshot(peer.0, SnapshotStatus::Failure);
        }
        self.raw.report_unreachable(peer.0);
    }

    pub(crate) fn handle_timeout(&mut self, now: Monotonic, out: &mut VecDeque<Output>) {
        self.reads.handle_timeout(now, out);
        if !self.takes_part() {
            return;
        }
        let (again, failed) = self.outgoing.handle_timeout(now);
        for (to, message) in again {
            out.push_back(Output::Send { to, message });
        }
        for to in failed {
            self.raw.report_snapshot(to.0, SnapshotStatus::Failure);
        }
        for _ in 0..TICKS_AT_ONCE {
            let Some(due) = self.next_tick.filter(|due| *due <= now) else {
                return;
            };
            self.tick(now, out);
            self.next_tick = Some(due + TICK);
        }
        if self.next_tick.is_some_and(|due| due <= now) {
            self.next_tick = Some(now + TICK);
        }
    }

    fn tick(&mut self, now: Monotonic, out: &mut VecDeque<Output>) {
        self.look_at_the_disk(now, out);
        // raft-rs draws this at random at every change of role, and looks at it in a
        // tick only. Set before each, it is what it is here: the same in every run, and
        // different for every voter.
        let voters = self.raw.raft.prs().conf().to_conf_state().voters;
        let rank = voters.iter().filter(|id| **id < self.id.0).count();
        let mut ticks = FIRST_ELECTION_TICKS + ELECTION_STEP_TICKS * rank;
        if self.health.is_slow(now) {
            ticks += SLOW_ELECTION_TICKS;
        }
        let raft = &mut self.raw.raft;
        raft.set_randomized_election_timeout(ticks.min(LAST_SLOW_ELECTION_TICKS));
        self.raw.tick();
    }

    /// Gives the lead away when this member's disk is too slow for it, to a voter that
    /// has acknowledged what this disk has not: its disk is faster.
    fn look_at_the_disk(&mut self, now: Monotonic, out: &mut VecDeque<Output>) {
        let Some(oldest) = self.unflushed.iter().find(|one| one.since.is_some()) else {
            return;
        };
        let waited = oldest
            .since
            .map_or(Duration::ZERO, |since| now.since(since));
        let last = oldest.last;
        let slow = self.health.judge(now, waited);
        if !slow || self.raw.raft.state != StateRole::Leader {
            return;
        }
        let prs = self.raw.raft.prs();
        let best = prs
            .iter()
            .filter(|(id, progress)| {
                **id != self.id.0
                    && progress.recent_active
                    && progress.matched >= last
                    && !prs.conf().learners().contains(id)
            })
            // The lowest number of the best, so that a run can be repeated.
            .max_by_key(|(id, progress)| (progress.matched, Reverse(**id)))
            .map(|(id, _)| MemberId(*id));
        let Some(to) = best.filter(|_| self.raw.raft.lead_transferee.is_none()) else {
            return;
        };
        if self.health.may_hand_over(now) && self.transfer(to).is_ok() {
            out.push_back(Output::Notice(Notice::HandOver { to, waited }));
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Monotonic> {
        let ours = [self.next_tick, self.outgoing.next_deadline()];
        let ours = ours.into_iter().flatten().filter(|_| self.takes_part());
        ours.chain(self.reads.next_deadline()).min()
    }

    /// Asks when the machine may be read.
    pub(crate) fn read(&mut self, now: Monotonic, id: ReadId) -> Result<(), ReadError> {
        if matches!(self.snapshot, Snapshot::Birth) {
            return Err(ReadError::NotReady);
        }
        if self.reads.take(now, id) {
            return Ok(());
        }
        let limit = READS_MAX;
        Err(ReadError::Busy { limit })
    }

    /// Whether raft-rs would take a question: otherwise it drops it without a word.
    fn may_ask(&self) -> bool {
        let raft = &self.raw.raft;
        match raft.state {
            StateRole::Leader => raft.commit_to_current_term(),
            _ => raft.leader_id != 0,
        }
    }

    /// By how much a member is behind that has everything up to `matched`; `None` when it
    /// is near enough to be counted on. One that needs a snapshot is not, however few
    /// entries there are.
    fn behind(&self, matched: u64) -> Option<u64> {
        let by = self.raw.raft.raft_log.last_index().saturating_sub(matched);
        let needs_snapshot = matched < self.raw.store().before().0;
        (needs_snapshot || by > TRANSFER_LAG_MAX).then_some(by)
    }

    /// Gives the lead to another member.
    pub(crate) fn transfer(&mut self, to: MemberId) -> Result<(), TransferError> {
        let raft = &self.raw.raft;
        if raft.state != StateRole::Leader {
            return Err(TransferError::NotLeader);
        }
        if to == self.id {
            return Ok(());
        }
        let Some(progress) = raft.prs().get(to.0) else {
            return Err(TransferError::UnknownMember);
        };
        if raft.prs().conf().learners().contains(&to.0) {
            return Err(TransferError::NotVoter);
        }
        if let Some(by) = self.behind(progress.matched) {
            return Err(TransferError::Lagging { by });
        }
        if raft.lead_transferee.is_some() {
            return Err(TransferError::Busy);
        }
        self.raw.transfer_leader(to.0);
        Ok(())
    }

    /// Whether what it says is on its disk.
    fn takes_part(&self) -> bool {
        !matches!(self.snapshot, Snapshot::Birth | Snapshot::Installing(_))
    }

    // ------------------------------------------------------------------- other

    /// The log failed: nobody will know what became of the proposals.
    pub(crate) fn fail(&mut self, out: &mut VecDeque<Output>) {
        self.doubt(out);
        self.reads.fail(out);
        self.next_tick = None;
        let (role, leader, term) = (Role::Follower, None, self.role().2);
        if self.told != (role, leader, term) {
            self.told = (role, leader, term);
            out.push_back(Output::Role { role, leader, term });
        }
    }

    /// Writes down what is known to be decided.
    pub(crate) fn append_decided(&mut self, now: Monotonic, wal: &mut Wal) {
        if self.takes_part() {
            let memory = self.raw.store();
            wal.append_decided(now, &memory.hard, memory.before_entry(memory.last() + 1));
        }
    }

    pub(crate) fn status(&self) -> Status {
        let (role, leader, term) = self.told;
        let memory = self.raw.store();
        let raft = &self.raw.raft;
        let conf = raft.prs().conf().to_conf_state();
        Status {
            id: Some(self.id),
            role,
            leader,
            term,
            vote: (raft.term, (raft.vote != 0).then_some(MemberId(raft.vote))),
            commit: raft.raft_log.committed,
            applied: self.applied,
            first: memory.before().0 + 1,
            last: memory.last(),
            snapshot: memory.snapshot.index,
            entries_bytes: memory.bytes(),
            proposals: self.proposals.len(),
            voters: members(&conf.voters),
            learners: members(&conf.learners),
            flush: self.health.median(),
            peers: self.peers(),
        }
    }

    fn peers(&self) -> Vec<PeerStatus> {
        let prs = self.raw.raft.prs();
        if self.told.0 != Role::Leader {
            return Vec::new();
        }
        let others = prs.iter().filter(|(id, _)| **id != self.id.0);
        let mut peers: Vec<PeerStatus> = others
            .map(|(id, progress)| PeerStatus {
                id: MemberId(*id),
                voter: !prs.conf().learners().contains(id),
                matched: progress.matched,
                active: progress.recent_active,
            })
            .collect();
        peers.sort_unstable_by_key(|peer| peer.id);
        peers
    }
}

fn members(ids: &[u64]) -> Vec<MemberId> {
    sorted(ids).into_iter().map(MemberId).collect()
}
