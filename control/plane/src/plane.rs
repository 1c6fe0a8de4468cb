//! The plane: what it is put together from, and the order of a turn.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use pinion_commitlog::{DiskDone, DiskRequest, Files};
use pinion_metadata::{
    Applied, BrokerNumber, Command, Envelope, Expect, MetaError, MetaVersion, Metadata,
};
use pinion_raft_group::{
    Group, MemberId, Notice, Output, PeerMessage, ProposalId, ProposeError, ReadId, Role,
};
use pinion_types::{Monotonic, WallMs};

use crate::clock::Clock;
use crate::duties::{self, Duties};
use crate::hub::{Hub, WatchError, WatchId, Watched};
use crate::limits::{REQUESTS_MAX, WAITING_BYTES_MAX};
use crate::open::{self, Opened, PlaneConfig, PlaneOpenError};
use crate::output::{Halt, PlaneNotice, PlaneOutput, PlaneStatus};
use crate::pending::{Requests, State};
use crate::request::{
    Answer, Consistency, PlaneError, Query, QueryValue, Request, RequestId, Write,
};

/// One node's part of the control plane. One thread owns it.
///
/// A turn is [`Plane::start_turn`], inputs in any number and order, and
/// [`Plane::end_turn`]; then [`Plane::poll_disk`] and [`Plane::poll_output`] are asked
/// until they give `None`. The next turn is due at [`Plane::next_deadline`], or when
/// there is an input.
#[derive(Debug)]
pub struct Plane {
    broker: BrokerNumber,
    group: Group,
    /// `None` while the node is nobody.
    member: Option<MemberId>,
    machine: Option<Metadata>,
    clock: Clock,
    now: Monotonic,
    role: Role,
    leader: Option<MemberId>,
    term: u64,
    requests: Requests,
    proposals: BTreeMap<u64, Proposal>,
    /// Number of the last proposal of this life.
    proposed: u64,
    reads: BTreeMap<ReadId, Reader>,
    last_read: u64,
    /// Whether this node has caught up since it was opened.
    ready: Ready,
    hub: Hub,
    duties: Duties,
    outputs: VecDeque<PlaneOutput>,
    /// Nothing more is taken: the group failed, the plane halted or is sealed.
    closed: Option<PlaneError>,
    /// Nothing more is done, either.
    halted: bool,
}

/// A command in the group's log.
#[derive(Clone, Copy, Debug)]
struct Proposal {
    /// The term in which it was proposed, or an earlier one. An entry of a past life of
    /// this node may have its number, but never its term: who leads anew does so in a
    /// new term.
    term: u64,
    from: Proposer,
}

#[derive(Clone, Copy, Debug)]
enum Proposer {
    Request(RequestId),
    Duty,
}

/// Who waits for a read.
#[derive(Clone, Copy, Debug)]
enum Reader {
    Request(RequestId),
    /// This node, that wants to know when it has caught up.
    Ready,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ready {
    No,
    Asked,
    Yes,
}

/// What became of an attempt to propose.
enum Attempt {
    Proposed(u64),
    /// Nobody leads any more, or soon another does.
    Later,
    Refused(PlaneError),
}

impl Plane {
    pub(crate) fn new(
        broker: BrokerNumber,
        group: Group,
        member: Option<MemberId>,
        machine: Option<Metadata>,
        wall: WallMs,
    ) -> Self {
        Self {
            broker,
            group,
            member,
            machine,
            clock: Clock::new(wall),
            now: Monotonic::ZERO,
            role: Role::Follower,
            leader: None,
            term: 0,
            requests: Requests::default(),
            proposals: BTreeMap::new(),
            proposed: 0,
            reads: BTreeMap::new(),
            last_read: 0,
            ready: Ready::No,
            hub: Hub::default(),
            duties: Duties::default(),
            outputs: VecDeque::new(),
            closed: None,
            halted: false,
        }
    }

    /// Reads the group's log from `files`; nothing is changed by looking. What the
    /// metadata was in its last snapshot is there at once, what was decided since comes
    /// with the first turns; [`PlaneOutput::Ready`] says when that is all.
    ///
    /// # Errors
    /// Why not.
    ///
    /// # Panics
    /// As [`Group::open`].
    pub fn open(
        config: PlaneConfig,
        files: &mut dyn Files,
        wall: WallMs,
    ) -> Result<Opened, PlaneOpenError> {
        open::open(config, files, wall)
    }

    /// Begins a new cluster of which this node is one member. Every one of them is given
    /// the same `cluster`, chosen at random, and `voters`, and its own `id`. A node alone
    /// is a group of one.
    ///
    /// # Panics
    /// When the node is somebody already, or `voters` are no group with `id` in it.
    pub fn bootstrap(&mut self, id: MemberId, cluster: [u8; 16], voters: &[MemberId]) {
        assert!(self.member.is_none(), "the node is a member already");
        let machine = Metadata::genesis(cluster);
        let bytes = machine.snapshot().encode();
        self.group.bootstrap(id, cluster, voters, bytes.into());
        self.member = Some(id);
        self.machine = Some(machine);
    }

    // ------------------------------------------------------------------ inputs

    /// A turn begins. `now` does not go back; `wall` may.
    pub fn start_turn(&mut self, now: Monotonic, wall: WallMs) {
        assert!(now >= self.now, "{now:?} is before {:?}", self.now);
        self.now = now;
        self.clock.set(wall);
    }

    /// The time of [`Plane::next_deadline`] has come.
    pub fn handle_timeout(&mut self) {
        if !self.halted {
            self.group.handle_timeout(self.now);
        }
    }

    /// A request of [`Plane::poll_disk`] is done.
    pub fn handle_disk_done(&mut self, done: DiskDone) {
        if !self.halted {
            self.group.handle_disk_done(self.now, done);
        }
    }

    /// Another member says something; `from` is who it is by its certificate, not by
    /// what it says.
    pub fn handle_peer(&mut self, from: MemberId, message: PeerMessage) {
        if !self.halted {
            self.group.handle_peer(self.now, from, message);
        }
    }

    /// What was sent to `peer` may not have reached it.
    pub fn handle_unreachable(&mut self, peer: MemberId) {
        if !self.halted {
            self.group.handle_unreachable(peer);
        }
    }

    /// Answers [`PlaneOutput::Encode`].
    pub fn handle_encoded(&mut self, index: u64, bytes: Vec<u8>) {
        if !self.halted {
            self.group.snapshot_ready(index, bytes.into());
        }
    }

    /// Takes a request. It is answered by an output, perhaps at once.
    ///
    /// # Panics
    /// When a request of this id is not answered yet.
    pub fn handle_request(&mut self, id: RequestId, request: Request) {
        assert!(!self.requests.contains(id), "{id:?} is not answered yet");
        let taken = match request {
            Request::Write(write) => self.take_write(id, write),
            Request::Read {
                query,
                consistency,
                deadline,
            } => self.take_read(id, query, consistency, deadline),
        };
        if let Err(error) = taken {
            self.refuse(id, error);
        }
    }

    /// Someone follows the changes from version `from` on; [`Plane::watch_credit`] says
    /// how many at a time. `cluster` is where that version was read, if it is known.
    ///
    /// # Errors
    /// A version that this node cannot go on from, or has not reached, or of another
    /// cluster: [`WatchError::Resnapshot`].
    pub fn watch(
        &mut self,
        cluster: Option<[u8; 16]>,
        from: MetaVersion,
    ) -> Result<WatchId, WatchError> {
        let Some(machine) = self.machine.as_ref().filter(|_| self.ready == Ready::Yes) else {
            return Err(WatchError::NotReady);
        };
        // A version of another cluster is a number without a meaning here.
        let of_another = cluster.is_some_and(|cluster| cluster != machine.cluster());
        let from = if of_another {
            MetaVersion(u64::MAX)
        } else {
            from
        };
        self.hub.watch(machine, from)
    }

    /// The watcher can take so many changes more.
    pub fn watch_credit(&mut self, id: WatchId, changes: u32) {
        self.hub.grant(id, changes);
    }

    /// The next changes for a watcher, at most `limit`; none when it has all of them, or
    /// no credit.
    ///
    /// # Errors
    /// [`WatchError::Resnapshot`]: what comes next is not known any more, and the watch
    /// has ended; [`WatchError::Unknown`] of a watch that has ended.
    pub fn poll_watch(
        &mut self,
        id: WatchId,
        limit: usize,
    ) -> Result<Vec<Arc<Watched>>, WatchError> {
        let machine = self.machine.as_ref().ok_or(WatchError::NotReady)?;
        self.hub.take(machine, id, limit)
    }

    /// Nobody follows there any more.
    pub fn unwatch(&mut self, id: WatchId) {
        self.hub.unwatch(id);
    }

    /// Ends cleanly: what waits is refused, what is under way has an unknown outcome, the
    /// log is written out. [`PlaneOutput::Sealed`] follows.
    pub fn seal(&mut self) {
        if !self.halted {
            self.group.seal(self.now);
        }
        self.close(PlaneError::NotReady);
    }

    // -------------------------------------------------------------------- turns

    /// Ends a turn: what was taken goes to the log, what is decided to the metadata.
    pub fn end_turn(&mut self) {
        while !self.halted {
            self.group.end_turn(self.now);
            while !self.halted
                && let Some(output) = self.group.poll_output()
            {
                self.take_output(output);
            }
            // What it led to may be given to the group in the same turn, and so to the
            // same write.
            if !self.give() {
                break;
            }
        }
        // Last, so that what was decided by now is not taken for unknown.
        while let Some(id) = self.requests.expired(self.now) {
            self.give_up(id, PlaneError::TimedOut);
        }
        if let Some(machine) = &self.machine {
            for id in self.hub.stirred(machine) {
                self.outputs.push_back(PlaneOutput::WatchReady { id });
            }
        }
    }

    fn take_output(&mut self, output: Output) {
        match output {
            Output::Send { to, message } => {
                self.outputs.push_back(PlaneOutput::Send { to, message });
            }
            Output::Apply {
                index,
                term,
                id,
                data,
            } => self.apply(index, term, id, &data),
            Output::Dropped { id } => match self.take_proposal(id, None) {
                Some(Proposer::Request(request)) => self.refuse(request, PlaneError::NO_LEADER),
                Some(Proposer::Duty) => self.duties.ended(),
                None => {}
            },
            // A client may still hear what became of its request before its deadline;
            // nobody waits for a duty, it is due again if it was not done.
            Output::Uncertain { id } => {
                if let Some(Proposal {
                    from: Proposer::Duty,
                    ..
                }) = self.proposals.get(&id.number)
                {
                    self.proposals.remove(&id.number);
                    self.duties.ended();
                }
            }
            Output::Read { id, .. } => match self.reads.remove(&id) {
                Some(Reader::Request(request)) => self.answer_read(request),
                Some(Reader::Ready) => {
                    self.ready = Ready::Yes;
                    self.outputs.push_back(PlaneOutput::Ready);
                }
                None => {}
            },
            Output::ReadFailed { id } => match self.reads.remove(&id) {
                Some(Reader::Request(request)) => self.refuse(request, PlaneError::NO_LEADER),
                Some(Reader::Ready) => self.ready = Ready::No,
                None => {}
            },
            Output::Role { role, leader, term } => {
                (self.role, self.leader, self.term) = (role, leader, term);
                self.outputs
                    .push_back(PlaneOutput::Role { role, leader, term });
            }
            Output::WantSnapshot { index } => {
                if let Some(machine) = &self.machine {
                    let source = machine.snapshot();
                    self.outputs
                        .push_back(PlaneOutput::Encode { index, source });
                }
            }
            Output::Restore { index, machine } => self.restore(index, &machine),
            Output::MembersChanged {
                voters, learners, ..
            } => self
                .outputs
                .push_back(PlaneOutput::Members { voters, learners }),
            Output::Notice(notice) => {
                let failed = matches!(notice, Notice::Failed(_));
                self.notice(PlaneNotice::Group(notice));
                if failed {
                    self.close(PlaneError::Failed);
                }
            }
            Output::Sealed => self.outputs.push_back(PlaneOutput::Sealed),
        }
    }

    /// The metadata is another from now on: this node was too far behind.
    fn restore(&mut self, index: u64, machine: &[u8]) {
        let cluster = self.machine.as_ref().map(Metadata::cluster);
        let restored = match Metadata::restore(machine) {
            Ok(restored) => restored,
            Err(error) => return self.halt(Halt::Snapshot { index, error }),
        };
        if cluster != Some(restored.cluster()) || restored.applied_index() > index {
            return self.halt(Halt::Contradiction { index });
        }
        let version = restored.version();
        self.machine = Some(restored);
        self.hub.replaced();
        self.outputs.push_back(PlaneOutput::Replaced { version });
    }

    /// Gives the group what is to be proposed or asked; whether there was anything.
    fn give(&mut self) -> bool {
        if self.closed.is_some() || self.machine.is_none() {
            return false;
        }
        let given = self.give_waiting() | self.give_duties();
        self.ask_ready() | given
    }

    fn give_waiting(&mut self) -> bool {
        let mut given = false;
        while let Some(id) = self.requests.first_waiting() {
            let elsewhere = self.leader.filter(|leader| Some(*leader) != self.member);
            if let Some(leader) = elsewhere {
                self.refuse(id, PlaneError::NotLeader { leader });
                continue;
            }
            if self.role != Role::Leader {
                break;
            }
            let Some((deadline, State::Waiting(mut envelope, bytes))) = self.requests.remove(id)
            else {
                break;
            };
            if deadline <= self.now {
                self.refuse(id, PlaneError::TimedOut);
                continue;
            }
            match self.propose(&mut envelope, Proposer::Request(id)) {
                Attempt::Proposed(number) => {
                    let state = State::Proposed(number);
                    self.requests.insert(id, deadline, state);
                    given = true;
                }
                Attempt::Refused(error) => self.refuse(id, error),
                Attempt::Later => {
                    let state = State::Waiting(envelope, bytes);
                    self.requests.put_back(id, deadline, state);
                    break;
                }
            }
        }
        given
    }

    fn give_duties(&mut self) -> bool {
        let Some(machine) = self.machine.as_ref().filter(|_| self.leads()) else {
            return false;
        };
        let commands = self.duties.due(self.now, &self.clock, machine);
        let mut given = false;
        for command in commands {
            let mut envelope = self.envelope(duties::PRINCIPAL.into(), command);
            match self.propose(&mut envelope, Proposer::Duty) {
                Attempt::Proposed(_) => {
                    self.duties.proposed();
                    given = true;
                }
                Attempt::Later | Attempt::Refused(_) => {
                    self.duties.refused(self.now);
                    break;
                }
            }
        }
        given
    }

    /// A read that sees everything decided before it: when it can be answered, this node
    /// has caught up with what was decided before it was opened.
    fn ask_ready(&mut self) -> bool {
        if self.ready != Ready::No {
            return false;
        }
        let id = self.next_read();
        if self.group.read(self.now, id).is_err() {
            return false;
        }
        self.reads.insert(id, Reader::Ready);
        self.ready = Ready::Asked;
        true
    }

    /// Whether it leads and knows everything that leaders before it decided.
    fn leads(&self) -> bool {
        self.role == Role::Leader && self.ready == Ready::Yes
    }

    // ------------------------------------------------------------------- writes

    fn take_write(&mut self, id: RequestId, write: Write) -> Result<(), PlaneError> {
        let Write {
            caller,
            expect,
            command,
            deadline,
        } = write;
        self.takes(deadline)?;
        let mut envelope = Envelope {
            request: caller.request,
            expect,
            ..self.envelope(caller.principal, command)
        };
        if self.role == Role::Leader {
            match self.propose(&mut envelope, Proposer::Request(id)) {
                Attempt::Proposed(number) => {
                    let state = State::Proposed(number);
                    self.requests.insert(id, deadline, state);
                    return Ok(());
                }
                Attempt::Refused(error) => return Err(error),
                Attempt::Later => {}
            }
        }
        let bytes = envelope.encode()?.len();
        if self.requests.waiting_bytes() + bytes > WAITING_BYTES_MAX {
            let limit = WAITING_BYTES_MAX as u64;
            return Err(PlaneError::Busy { limit });
        }
        let state = State::Waiting(Box::new(envelope), bytes);
        self.requests.insert(id, deadline, state);
        Ok(())
    }

    /// Whether a request can be taken at all.
    fn takes(&self, deadline: Monotonic) -> Result<(), PlaneError> {
        if let Some(closed) = &self.closed {
            return Err(closed.clone());
        }
        if self.machine.is_none() {
            return Err(PlaneError::NotReady);
        }
        if deadline <= self.now {
            return Err(PlaneError::TimedOut);
        }
        if self.requests.len() >= REQUESTS_MAX {
            let limit = REQUESTS_MAX as u64;
            return Err(PlaneError::Busy { limit });
        }
        Ok(())
    }

    fn propose(&mut self, envelope: &mut Envelope, from: Proposer) -> Attempt {
        let (Some(machine), Some(member)) = (&self.machine, self.member) else {
            return Attempt::Refused(PlaneError::NotReady);
        };
        let (stamp, ahead) = self.clock.stamp(machine.last_stamp());
        if let Some(by_ms) = ahead {
            self.notice(PlaneNotice::ClockBehind { by_ms });
        }
        envelope.stamp = stamp;
        let bytes = match envelope.encode() {
            Ok(bytes) => bytes,
            Err(error) => return Attempt::Refused(error.into()),
        };
        // What replicas cannot read stops them all. So it is read here first.
        if let Err(error) = Envelope::decode(&bytes) {
            return Attempt::Refused(PlaneError::Malformed(error));
        }
        let number = self.proposed + 1;
        let id = ProposalId { member, number };
        let length = bytes.len();
        match self.group.propose(id, bytes.into()) {
            Ok(()) => {
                self.proposed = number;
                let term = self.term;
                self.proposals.insert(number, Proposal { term, from });
                Attempt::Proposed(number)
            }
            Err(ProposeError::NotLeader { .. } | ProposeError::Transferring) => Attempt::Later,
            Err(ProposeError::Busy { limit }) => Attempt::Refused(PlaneError::Busy { limit }),
            Err(ProposeError::TooLarge { limit }) => {
                let error = MetaError::TooLarge {
                    bytes: length,
                    limit,
                };
                Attempt::Refused(error.into())
            }
            Err(ProposeError::ReadOnly) => Attempt::Refused(PlaneError::ReadOnly),
            Err(ProposeError::Failed) => Attempt::Refused(PlaneError::Failed),
        }
    }

    /// Stamped when it is proposed.
    fn envelope(&self, principal: Box<str>, command: Command) -> Envelope {
        Envelope {
            stamp: WallMs(0),
            request: 0,
            principal,
            origin: self.broker,
            expect: Expect::Any,
            command,
        }
    }

    /// Who waits for a proposal. `term` is the one of the entry, if there is one.
    fn take_proposal(&mut self, id: ProposalId, term: Option<u64>) -> Option<Proposer> {
        let ours = Some(id.member) == self.member;
        let proposal = self.proposals.get(&id.number).filter(|_| ours)?;
        if term.is_some_and(|term| term < proposal.term) {
            return None;
        }
        self.proposals.remove(&id.number).map(|one| one.from)
    }

    fn apply(&mut self, index: u64, term: u64, id: ProposalId, data: &[u8]) {
        let from = self.take_proposal(id, Some(term));
        let Some(machine) = &mut self.machine else {
            return;
        };
        let envelope = match Envelope::decode(data) {
            Ok(envelope) => envelope,
            Err(error) => return self.halt(Halt::Entry { index, error }),
        };
        let Applied {
            version,
            result,
            changes,
            duplicate: repeat,
            broken,
        } = machine.apply(index, &envelope);
        if let Some(broken) = broken {
            return self.halt(Halt::Broken { index, broken });
        }
        if !changes.is_empty() {
            self.hub.push(&changes);
            self.outputs.push_back(PlaneOutput::Changes(changes));
        }
        match from {
            Some(Proposer::Request(request)) => {
                let answer = match result {
                    Ok(outcome) => Answer::Written {
                        version,
                        outcome,
                        repeat,
                    },
                    Err(error) => Answer::Refused(error.into()),
                };
                self.answer(request, answer);
            }
            Some(Proposer::Duty) => {
                self.duties.ended();
                if result.is_err() {
                    self.duties.refused(self.now);
                }
            }
            None => {}
        }
    }

    // -------------------------------------------------------------------- reads

    fn take_read(
        &mut self,
        id: RequestId,
        query: Query,
        consistency: Consistency,
        deadline: Monotonic,
    ) -> Result<(), PlaneError> {
        if consistency == Consistency::Stale && !self.halted {
            let answer = self.read(&query, true);
            self.answer(id, answer);
            return Ok(());
        }
        self.takes(deadline)?;
        let read = self.next_read();
        match self.group.read(self.now, read) {
            Ok(()) => {
                self.reads.insert(read, Reader::Request(id));
                let state = State::Asked(read, query);
                self.requests.insert(id, deadline, state);
                Ok(())
            }
            Err(pinion_raft_group::ReadError::NotReady) => Err(PlaneError::NotReady),
            Err(pinion_raft_group::ReadError::Busy { limit }) => {
                let limit = limit as u64;
                Err(PlaneError::Busy { limit })
            }
        }
    }

    fn next_read(&mut self) -> ReadId {
        self.last_read += 1;
        ReadId(self.last_read)
    }

    fn answer_read(&mut self, id: RequestId) {
        if let Some((_, State::Asked(_, query))) = self.requests.remove(id) {
            let answer = self.read(&query, false);
            self.answer(id, answer);
        }
    }

    fn read(&self, query: &Query, stale: bool) -> Answer {
        let Some(machine) = &self.machine else {
            return Answer::Refused(PlaneError::NotReady);
        };
        let value = match query {
            Query::Get(key) => QueryValue::Object(machine.get(key).cloned()),
            Query::List(list) => QueryValue::Page(machine.list(list)),
            Query::Snapshot => QueryValue::Snapshot(machine.snapshot()),
        };
        Answer::Read {
            version: machine.version(),
            stale,
            value,
        }
    }

    // ------------------------------------------------------------------ answers

    fn answer(&mut self, id: RequestId, answer: Answer) {
        self.requests.remove(id);
        self.outputs.push_back(PlaneOutput::Answer { id, answer });
    }

    fn refuse(&mut self, id: RequestId, error: PlaneError) {
        self.answer(id, Answer::Refused(error));
    }

    /// Answers a request of which nothing better will be known.
    fn give_up(&mut self, id: RequestId, why: PlaneError) {
        let Some((_, state)) = self.requests.remove(id) else {
            return;
        };
        let error = match &state {
            // Since it came nobody has led; that says more than the time.
            State::Waiting(..) if why == PlaneError::TimedOut => PlaneError::NO_LEADER,
            state => state.given_up(why),
        };
        match state {
            State::Waiting(..) => {}
            State::Proposed(number) => {
                self.proposals.remove(&number);
            }
            State::Asked(read, _) => {
                self.reads.remove(&read);
            }
        }
        self.refuse(id, error);
    }

    /// Nothing more is taken, and what waits is answered.
    fn close(&mut self, why: PlaneError) {
        while let Some(id) = self.requests.first() {
            self.give_up(id, why.clone());
        }
        self.closed.get_or_insert(why);
    }

    fn halt(&mut self, halt: Halt) {
        self.halted = true;
        self.notice(PlaneNotice::Halted(halt));
        self.close(PlaneError::Failed);
    }

    fn notice(&mut self, notice: PlaneNotice) {
        self.outputs.push_back(PlaneOutput::Notice(notice));
    }

    // ------------------------------------------------------------------ outputs

    /// The next thing to do or know.
    pub fn poll_output(&mut self) -> Option<PlaneOutput> {
        self.outputs.pop_front()
    }

    /// The next thing the disk must do.
    pub fn poll_disk(&mut self) -> Option<DiskRequest> {
        if self.halted {
            return None;
        }
        self.group.poll_disk()
    }

    /// When the next turn is due if nothing happens; `None` while only inputs can lead to
    /// anything.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Monotonic> {
        if self.halted {
            return None;
        }
        let machine = self.machine.as_ref().filter(|_| self.leads());
        let duties =
            machine.and_then(|machine| self.duties.next_deadline(self.now, &self.clock, machine));
        let group = self.group.next_deadline();
        let requests = self.requests.next_deadline();
        group.into_iter().chain(requests).chain(duties).min()
    }

    /// The metadata as this node has it; `None` while the node is nobody.
    #[must_use]
    pub fn metadata(&self) -> Option<&Metadata> {
        self.machine.as_ref()
    }

    /// How it is.
    #[must_use]
    pub fn status(&self) -> PlaneStatus {
        PlaneStatus {
            group: self.group.status(),
            version: self
                .machine
                .as_ref()
                .map(Metadata::version)
                .unwrap_or_default(),
            ready: self.ready == Ready::Yes,
            requests: self.requests.len(),
            watchers: self.hub.len(),
        }
    }
}
