//! The member and its log, as its owner drives them.

use std::collections::VecDeque;

use bytes::Bytes;
use pinion_commitlog::{
    AdmitError, DiskDone, DiskRequest, Files, LogEvent, LogStats, RECORD_OVERHEAD,
};
use pinion_types::{Monotonic, WallMs};
use raft::eraftpb::{ConfState, HardState};

use crate::config::GroupConfig;
use crate::error::{ChangeError, OpenError, ProposeError, ReadError, TransferError};
use crate::format::{HardBody, MemberChange, MemberId, ProposalId};
use crate::limits::{APPEND_BYTES_MAX, COMMAND_BYTES_MAX, SNAPSHOT_BYTES_MAX, VOTERS_MAX};
use crate::member::Member;
use crate::open::{self, Opened};
use crate::output::{Notice, Output, Status};
use crate::peer::PeerMessage;
use crate::reads::ReadId;
use crate::storage::{Memory, SnapshotMeta};
use crate::wal::Wal;

/// Index and term of the snapshot with which a group begins. Not 0: a member that
/// joins later has nothing, and must be told apart from one that has this.
const BEGINNING: u64 = 1;

/// One member of the group, with its log. One thread owns it.
///
/// Inputs may come in any number and order; [`Group::end_turn`] ends a turn. After
/// it, [`Group::poll_disk`] and [`Group::poll_output`] are asked until they give
/// `None`. What a turn appended goes to the disk as one write, while the writes
/// before it are still under way at the latest when they are done.
#[derive(Debug)]
pub struct Group {
    config: GroupConfig,
    wal: Wal,
    /// `None` while it is nobody.
    member: Option<Member>,
    outputs: VecDeque<Output>,
    failed: bool,
}

impl Group {
    pub(crate) fn new(config: GroupConfig, wal: Wal, member: Option<Member>) -> Self {
        Self {
            config,
            wal,
            member,
            outputs: VecDeque::new(),
            failed: false,
        }
    }

    /// Reads the group's log from `files`; nothing is changed by looking. `wall` is
    /// written into segments for people.
    ///
    /// # Errors
    /// Why not. The member must not take part in anything then.
    ///
    /// # Panics
    /// When segments are to be smaller than [`crate::limits::SEGMENT_BYTES_MIN`].
    pub fn open(
        config: GroupConfig,
        files: &mut dyn Files,
        wall: WallMs,
    ) -> Result<Opened, OpenError> {
        open::open(config, files, wall)
    }

    /// Begins a new group of which this is one member. Every member of it is given
    /// the same `cluster`, `voters` and `machine`, and its own `id`.
    ///
    /// It takes part when its first checkpoint is durable; a crash before that leaves
    /// nobody behind.
    ///
    /// # Panics
    /// When it is somebody already, when `voters` are none, too many, 0 or twice the
    /// same, or do not have `id` among them, or when `machine` is larger than
    /// [`SNAPSHOT_BYTES_MAX`].
    pub fn bootstrap(
        &mut self,
        id: MemberId,
        cluster: [u8; 16],
        voters: &[MemberId],
        machine: Bytes,
    ) {
        assert!(self.member.is_none(), "it is a member already");
        assert!(machine.len() <= SNAPSHOT_BYTES_MAX, "{}", machine.len());
        let mut ids: Vec<u64> = voters.iter().map(|voter| voter.0).collect();
        ids.sort_unstable();
        ids.dedup();
        assert!(
            ids.len() == voters.len() && ids.len() <= VOTERS_MAX && !ids.contains(&0),
            "{voters:?} are no group"
        );
        assert!(ids.contains(&id.0), "{id:?} is not one of {voters:?}");
        self.begin((id, cluster), ids, (BEGINNING, BEGINNING), machine);
    }

    /// Begins as the only member of a group that was, from a backup of its machine: it
    /// goes on behind entry `index` in a later term than `term`. Whoever else was a member
    /// must not take part any more: it would know of another history.
    ///
    /// It takes part when its first checkpoint is durable, as with [`Group::bootstrap`].
    ///
    /// # Panics
    /// When it is somebody already, when `id`, `index` or `term` is 0, or `machine` is
    /// larger than [`SNAPSHOT_BYTES_MAX`].
    pub fn restore(
        &mut self,
        id: MemberId,
        cluster: [u8; 16],
        (index, term): (u64, u64),
        machine: Bytes,
    ) {
        assert!(self.member.is_none(), "it is a member already");
        assert!(machine.len() <= SNAPSHOT_BYTES_MAX, "{}", machine.len());
        assert!(
            id.0 != 0 && index > 0 && term > 0,
            "{id:?} at {index}, {term}"
        );
        self.begin((id, cluster), vec![id.0], (index, term), machine);
    }

    fn begin(
        &mut self,
        whose: (MemberId, [u8; 16]),
        voters: Vec<u64>,
        (index, term): (u64, u64),
        machine: Bytes,
    ) {
        let meta = SnapshotMeta {
            index,
            term,
            conf: ConfState::from((voters, Vec::new())),
        };
        let hard = HardState {
            term,
            commit: index,
            ..HardState::default()
        };
        self.wal.set_written(HardBody {
            term,
            vote: 0,
            commit: index,
        });
        let memory = Memory::new((index, term), meta, hard);
        let (life, wal) = (self.config.seed, &mut self.wal);
        self.member = Some(Member::born(whose, life, memory, machine, wal));
    }

    /// Begins as a member that has nothing and waits for a leader's snapshot: when the
    /// group has `id` added ([`MemberChange::AddLearner`]), it sends one.
    ///
    /// # Panics
    /// When it is somebody already, or `id` is 0.
    pub fn join(&mut self, id: MemberId, cluster: [u8; 16]) {
        assert!(self.member.is_none(), "it is a member already");
        assert!(id.0 != 0, "0 is nobody");
        let memory = Memory::new((0, 0), SnapshotMeta::default(), HardState::default());
        let (life, wal) = (self.config.seed, &mut self.wal);
        self.member = Some(Member::born((id, cluster), life, memory, Bytes::new(), wal));
    }

    // ------------------------------------------------------------------ inputs

    /// The time of [`Group::next_deadline`] has come.
    pub fn handle_timeout(&mut self, now: Monotonic) {
        self.wal.log.handle_timeout(now);
        self.take_events(now);
        if let Some(member) = self.member.as_mut().filter(|_| !self.failed) {
            member.handle_timeout(now, &mut self.outputs);
        }
    }

    /// Another member says something; `from` is who it is by its certificate, not by
    /// what it says.
    pub fn handle_peer(&mut self, now: Monotonic, from: MemberId, message: PeerMessage) {
        let Some(member) = self.member.as_mut().filter(|_| !self.failed) else {
            return;
        };
        match message {
            PeerMessage::Raft(messages) => member.handle_peer(from, messages, &mut self.outputs),
            message => member.handle_transfer(now, from, message, &mut self.outputs),
        }
    }

    /// What was sent to `peer` may not have reached it.
    pub fn handle_unreachable(&mut self, peer: MemberId) {
        if let Some(member) = self.member.as_mut().filter(|_| !self.failed) {
            member.handle_unreachable(peer);
        }
    }

    /// A request of [`Group::poll_disk`] is done.
    pub fn handle_disk_done(&mut self, now: Monotonic, done: DiskDone) {
        self.wal.log.handle_done(now, done);
        self.take_events(now);
    }

    /// Asks that `data` be decided on. [`Output::Apply`] with `id` says that it was,
    /// [`Output::Dropped`] that it never will be, [`Output::Uncertain`] that nobody knows.
    ///
    /// # Errors
    /// It is not taken, and will never be decided on.
    pub fn propose(&mut self, id: ProposalId, data: Bytes) -> Result<(), ProposeError> {
        self.propose_as(id, data, false)
    }

    /// The same of what makes room: on a full disk it takes some that is kept for it.
    ///
    /// # Errors
    /// As [`Group::propose`].
    pub fn propose_essential(&mut self, id: ProposalId, data: Bytes) -> Result<(), ProposeError> {
        self.propose_as(id, data, true)
    }

    fn propose_as(
        &mut self,
        id: ProposalId,
        data: Bytes,
        essential: bool,
    ) -> Result<(), ProposeError> {
        if self.failed {
            return Err(ProposeError::Failed);
        }
        if data.len() > COMMAND_BYTES_MAX {
            let limit = COMMAND_BYTES_MAX;
            return Err(ProposeError::TooLarge { limit });
        }
        let Some(member) = &mut self.member else {
            return Err(ProposeError::NotLeader { leader: None });
        };
        // What this turn gathered is not in the log yet. It goes there in parts, so
        // the log is not asked for more than a part at once.
        let gathered = usize::try_from(member.proposals_bytes()).unwrap_or(usize::MAX);
        let bytes = gathered.saturating_add(data.len()).min(APPEND_BYTES_MAX);
        let bytes = bytes.max(data.len()) + 2 * (RECORD_OVERHEAD + 32);
        match self.wal.log.admit(bytes, essential) {
            Ok(()) => member.propose(id, data),
            Err(AdmitError::ReadOnly) => Err(ProposeError::ReadOnly),
            Err(AdmitError::Backlogged { limit }) => {
                let limit = limit as u64;
                Err(ProposeError::Busy { limit })
            }
            Err(AdmitError::TooLarge { .. } | AdmitError::Failed) => Err(ProposeError::Failed),
        }
    }

    /// Asks that the members be others. [`Output::MembersChanged`] says that they are;
    /// otherwise as with [`Group::propose`]. A new member first listens, and votes when
    /// it has caught up; one that is removed is never added again under its number.
    ///
    /// # Errors
    /// It is not taken, and will never be decided on.
    pub fn propose_members(
        &mut self,
        id: ProposalId,
        change: MemberChange,
    ) -> Result<(), ChangeError> {
        if self.failed {
            return Err(ProposeError::Failed.into());
        }
        match &mut self.member {
            Some(member) => member.propose_members(id, change),
            None => Err(ProposeError::NotLeader { leader: None }.into()),
        }
    }

    /// Asks when the machine may be read so that it holds everything decided before
    /// now: on a leader and on a follower alike. [`Output::Read`] or
    /// [`Output::ReadFailed`] answers.
    ///
    /// # Errors
    /// It is not taken and will not be answered.
    pub fn read(&mut self, now: Monotonic, id: ReadId) -> Result<(), ReadError> {
        match &mut self.member {
            Some(member) if !self.failed => member.read(now, id),
            _ => Err(ReadError::NotReady),
        }
    }

    /// Gives the lead to another member. Nothing is proposed meanwhile; when it has not
    /// worked within an election timeout, this member goes on leading.
    ///
    /// # Errors
    /// It is not tried.
    pub fn transfer(&mut self, to: MemberId) -> Result<(), TransferError> {
        match &mut self.member {
            Some(member) if !self.failed => member.transfer(to),
            _ => Err(TransferError::NotLeader),
        }
    }

    /// Answers [`Output::WantSnapshot`]: the machine as it was then. What was not
    /// asked for is ignored.
    pub fn snapshot_ready(&mut self, index: u64, machine: Bytes) {
        if self.failed {
            return;
        }
        if let Some(member) = &mut self.member {
            member.snapshot_ready(
                index,
                machine,
                &self.config,
                &mut self.wal,
                &mut self.outputs,
            );
        }
    }

    /// Writes down what there is and ends the log cleanly, so that the next start
    /// need not look for a torn end. [`Output::Sealed`] follows; nothing is taken any
    /// more.
    pub fn seal(&mut self, now: Monotonic) {
        if let Some(member) = self.member.as_mut().filter(|_| !self.failed) {
            member.append_decided(now, &mut self.wal);
        }
        self.wal.log.seal();
        // What happens from now on would not be written.
        self.failed = true;
        if let Some(member) = &mut self.member {
            member.fail(&mut self.outputs);
        }
        self.take_events(now);
    }

    /// Ends a turn: what was taken goes to the log, what is decided to the outputs.
    pub fn end_turn(&mut self, now: Monotonic) {
        if let Some(member) = self.member.as_mut().filter(|_| !self.failed) {
            member.turn(now, &self.config, &mut self.wal, &mut self.outputs);
        }
        self.wal.log.end_turn(now);
        self.take_events(now);
    }

    fn take_events(&mut self, now: Monotonic) {
        while let Some(event) = self.wal.log.poll_event() {
            match event {
                LogEvent::Failed { error } => {
                    self.failed = true;
                    self.outputs
                        .push_back(Output::Notice(Notice::Failed(error)));
                    if let Some(member) = &mut self.member {
                        member.fail(&mut self.outputs);
                    }
                }
                LogEvent::ReadOnly(full) => self
                    .outputs
                    .push_back(Output::Notice(Notice::ReadOnly(full))),
                LogEvent::Damaged(damage) => self
                    .outputs
                    .push_back(Output::Notice(Notice::Damaged(damage))),
                LogEvent::Sealed => self.outputs.push_back(Output::Sealed),
                LogEvent::CheckpointDone => {
                    if let Some(member) = &mut self.member {
                        member.checkpoint_done(&self.config, &mut self.outputs);
                    }
                }
                // The log never asks of its own accord: the last one came to nothing.
                LogEvent::CheckpointWanted => {
                    if let Some(member) = self.member.as_mut().filter(|_| !self.failed) {
                        member.checkpoint_failed(&mut self.wal);
                    }
                }
                // Asked for below; and nothing here is read or retained.
                LogEvent::Committed { .. }
                | LogEvent::StreamRead { .. }
                | LogEvent::RecordRead { .. }
                | LogEvent::Relocated { .. } => {}
            }
        }
        if let Some(member) = self.member.as_mut().filter(|_| !self.failed) {
            member.handle_flushed(now, self.wal.log.committed(), &mut self.outputs);
        }
    }

    // ----------------------------------------------------------------- outputs

    /// The next thing to do or know.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The next thing the disk must do.
    pub fn poll_disk(&mut self) -> Option<DiskRequest> {
        self.wal.log.poll_request()
    }

    /// When [`Group::handle_timeout`] wants to be called; `None` while only inputs
    /// can lead to anything.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Monotonic> {
        let member = self.member.as_ref().and_then(Member::next_deadline);
        member.into_iter().chain(self.wal.log.next_deadline()).min()
    }

    /// What its log has and did.
    #[must_use]
    pub fn log(&self) -> LogStats {
        self.wal.log.stats()
    }

    /// How it is.
    #[must_use]
    pub fn status(&self) -> Status {
        self.member
            .as_ref()
            .map_or_else(Status::default, Member::status)
    }
}
