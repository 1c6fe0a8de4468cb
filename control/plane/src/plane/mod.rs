//! The plane: what it is put together from, and the order of a turn.

mod audits;
mod brokers;
mod forward;
mod joining;
mod nodes;
mod pins;
mod reads;
mod usage;
mod writes;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use pinion_commitlog::{DiskDone, DiskRequest, Files, LogId, Lsn};
use pinion_metadata::{BrokerNumber, Founder, MetaVersion, Metadata};
use pinion_raft_group::{
    Group, MemberId, Notice, Output, PeerMessage, RAFT_LOG, ReadId, Recent, Role, TransferError,
};
use pinion_types::{Monotonic, WallMs};

use crate::audit::{AUDIT_LOG, AuditAsker, AuditEvent, AuditLog, Gather};
use crate::clock::Clock;
use crate::duties::Duties;
use crate::heartbeats::Beats;
use crate::hub::{Hub, WatchError, WatchId, Watched};
use crate::limits::REQUESTS_MAX;
use crate::names::PeerName;
use crate::open::{self, Opened, PlaneConfig, PlaneOpenError};
use crate::output::{Halt, PlaneLogs, PlaneNotice, PlaneOutput, PlanePeer, PlaneStatus};
use crate::peer::PlaneMessage;
use crate::pending::{Requests, State};
use crate::request::{Answer, PlaneError, Request, RequestId};
use crate::usage::Uses;

pub(crate) use nodes::Nodes;
pub use pins::PlanePinned;

/// One node's part of the control plane. One thread owns it.
///
/// A turn is [`Plane::start_turn`], inputs in any number and order, and
/// [`Plane::end_turn`]; then [`Plane::poll_disk`] and [`Plane::poll_output`] are asked
/// until they give `None`. The next turn is due at [`Plane::next_deadline`], or when
/// there is an input.
#[derive(Debug)]
pub struct Plane {
    nodes: Nodes,
    group: Group,
    audit: AuditLog,
    /// A snapshot that waits for the rows of what is in it, up to the given one.
    encoded: Option<(u64, Vec<u8>, Lsn)>,
    /// A backup that waits for rows.
    pinning: Option<pins::Pinning>,
    /// Who waits until the rows up to the given one are durable, oldest first.
    records: VecDeque<(Lsn, RequestId)>,
    /// Queries of the audit log.
    searches: usize,
    /// Queries of the audit logs of all nodes.
    gathers: Vec<Gather>,
    /// Number of the last question to another node for its rows. It begins anywhere.
    last_ask: u64,
    /// Parts that have not ended yet, since they were told to.
    sealing: Option<usize>,
    /// `None` while the node is nobody.
    member: Option<MemberId>,
    machine: Option<Metadata>,
    /// The cluster that it is a member of.
    cluster: Option<[u8; 16]>,
    clock: Clock,
    now: Monotonic,
    role: Role,
    leader: Option<MemberId>,
    term: u64,
    requests: Requests,
    proposals: BTreeMap<u64, Proposal>,
    /// How long those took that were proposed here.
    commits: Recent,
    /// Not before this are commands sent to a leader: there was no connection to it.
    forward_at: Option<Monotonic>,
    /// Number of the last proposal of this life. It begins anywhere, so that no two lives
    /// have the same numbers.
    last_number: u64,
    reads: BTreeMap<ReadId, Reader>,
    last_read: u64,
    /// Whether this node has caught up since it was opened.
    ready: Ready,
    hub: Hub,
    duties: Duties,
    beats: Beats,
    uses: Uses,
    outputs: VecDeque<PlaneOutput>,
    /// Nothing more is taken: the group failed, the plane halted or is sealed.
    closed: Option<PlaneError>,
    /// Nothing more is done, either.
    halted: bool,
}

/// A command in the group's log.
#[derive(Clone, Copy, Debug)]
struct Proposal {
    /// The term in which it was proposed, or an earlier one. An entry of a past life in
    /// which this node led may not have this term: who leads anew does so in a new one.
    term: u64,
    from: Proposer,
    /// The node that it was sent to, if it is not this one.
    to: Option<MemberId>,
    /// The turn that proposed it.
    since: Monotonic,
}

#[derive(Clone, Copy, Debug)]
enum Proposer {
    Request(RequestId),
    Duty,
    /// This node, that registers its broker.
    Registration,
    /// This leader, for a node that wants to join.
    Join,
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
    /// It has, and its broker is to be registered.
    Caught,
    Yes,
}

impl Plane {
    pub(crate) fn new(
        nodes: Nodes,
        (group, audit): (Group, AuditLog),
        (member, cluster, machine): (Option<MemberId>, Option<[u8; 16]>, Option<Metadata>),
        (wall, seed): (WallMs, u64),
    ) -> Self {
        let mut plane = Self {
            nodes,
            group,
            audit,
            encoded: None,
            pinning: None,
            records: VecDeque::new(),
            searches: 0,
            gathers: Vec::new(),
            last_ask: first_number(seed),
            sealing: None,
            member,
            machine,
            cluster,
            clock: Clock::new(wall),
            now: Monotonic::ZERO,
            role: Role::Follower,
            leader: None,
            term: 0,
            requests: Requests::default(),
            proposals: BTreeMap::new(),
            commits: Recent::default(),
            forward_at: None,
            last_number: first_number(seed),
            reads: BTreeMap::new(),
            last_read: 0,
            ready: Ready::No,
            hub: Hub::default(),
            duties: Duties::default(),
            beats: Beats::default(),
            uses: Uses::default(),
            outputs: VecDeque::new(),
            closed: None,
            halted: false,
        };
        plane.update_names();
        plane
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

    /// Begins a new cluster that `founders` begin together; this node is one of them.
    /// Every one of them is given the same `cluster` and `founders`.
    ///
    /// # Panics
    /// When the node is somebody already, or the founders are none, or this node is not
    /// one of them.
    pub fn bootstrap(&mut self, cluster: [u8; 16], founders: &[Founder]) {
        assert!(self.member.is_none(), "the node is a member already");
        let machine = Metadata::founded(cluster, founders);
        let machine = machine.unwrap_or_else(|error| panic!("{founders:?}: {error}"));
        let number = |at: usize| MemberId(at as u64 + 1);
        let me = self.nodes.facts.name.as_str();
        let place = founders.iter().position(|founder| *founder.name == *me);
        let id = number(place.expect("the node is one of the founders"));
        let voters: Vec<MemberId> = (0..founders.len()).map(number).collect();
        let bytes = machine.snapshot().encode();
        self.group.bootstrap(id, cluster, &voters, bytes.into());
        self.member = Some(id);
        self.machine = Some(machine);
        self.update_names();
    }

    // ------------------------------------------------------------------ inputs

    /// A turn begins. `now` does not go back; `wall` may.
    pub fn start_turn(&mut self, now: Monotonic, wall: WallMs) {
        assert!(now >= self.now, "{now:?} is before {:?}", self.now);
        self.now = now;
        self.clock.set(now, wall);
    }

    /// The time of [`Plane::next_deadline`] has come.
    pub fn handle_timeout(&mut self) {
        self.audit.handle_timeout(self.now);
        if !self.halted {
            self.group.handle_timeout(self.now);
        }
    }

    /// A request that [`Plane::poll_disk`] gave for `log` is done.
    pub fn handle_disk_done(&mut self, log: LogId, done: DiskDone) {
        if log == AUDIT_LOG {
            self.audit.handle_done(self.now, done);
        } else if !self.halted {
            self.group.handle_disk_done(self.now, done);
        }
    }

    /// Another node says something; `from` is who it is by its certificate, not by
    /// what it says.
    pub fn handle_peer(&mut self, from: &PeerName, message: PlaneMessage) {
        if self.halted {
            return;
        }
        match message {
            PlaneMessage::Raft(message) => self.take_raft(from, message),
            PlaneMessage::Forward(forward) => self.take_forward(from, &forward),
            PlaneMessage::Returned(returned) => self.take_returned(returned),
            PlaneMessage::Meet(meet) => self.take_meet(from, &meet),
            PlaneMessage::Join(join) => self.take_join(from, &join),
            PlaneMessage::JoinAnswer(answer) => self.take_join_answer(&answer),
            PlaneMessage::Beat(beat) => self.take_beat(&beat),
            PlaneMessage::Usage(usage) => self.take_usage(from, usage),
            PlaneMessage::AuditAsk(ask) => self.take_audit_ask(from, ask),
            PlaneMessage::AuditSaid(said) => self.take_audit_said(from, said),
        }
    }

    /// What was sent to `peer` may not have reached it.
    pub fn handle_unreachable(&mut self, peer: &PeerName) {
        if !self.halted {
            let members: Vec<MemberId> = self.nodes.names.members(peer).collect();
            for member in &members {
                self.group.handle_unreachable(*member);
            }
            self.hurry(|to| members.contains(&to));
            self.lose_gathers(peer);
        }
    }

    /// A message of [`PlaneOutput::Send`] was dropped: it left in no part, and never will.
    /// A command in it is sent again while somebody waits for it; a question for rows of the
    /// audit log is not.
    pub fn handle_unsent(&mut self, message: &PlaneMessage) {
        match message {
            PlaneMessage::Forward(forward) => self.take_back(forward),
            PlaneMessage::AuditAsk(ask) => self.unsent_gathers(ask),
            _ => {}
        }
    }

    fn take_raft(&mut self, from: &PeerName, message: PeerMessage) {
        let names = &mut self.nodes.names;
        let speaker = match message.sender() {
            Some(claimed) => names.speaker(from, claimed, &self.nodes.conf),
            None => names.member(from),
        };
        if let Some(member) = speaker {
            self.group.handle_peer(self.now, member, message);
        }
    }

    /// Answers [`PlaneOutput::Encode`].
    pub fn handle_encoded(&mut self, index: u64, bytes: Vec<u8>) {
        // When it is durable, nobody applies what is in it again.
        self.encoded = Some((index, bytes, self.audit.appended()));
        self.give_snapshot();
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
            Request::Record { row, deadline } => self.take_record(id, row, deadline),
            Request::Audit { query, deadline } => self.take_search(id, query, deadline),
            Request::AuditEverywhere { wanted, deadline } => {
                self.take_everywhere(id, *wanted, deadline)
            }
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
    /// logs are written out. [`PlaneOutput::Sealed`] follows, once, however often it is
    /// asked for.
    pub fn seal(&mut self) {
        if self.sealing.is_some() {
            return;
        }
        self.sealing = Some(1 + usize::from(!self.halted));
        if !self.halted {
            self.group.seal(self.now);
        }
        self.audit.seal();
        self.close(PlaneError::NotReady);
    }

    // -------------------------------------------------------------------- turns

    /// Ends a turn: what was taken goes to the log, what is decided to the metadata.
    pub fn end_turn(&mut self) {
        self.begin();
        self.see_guests_off();
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
        self.audit.end_turn(self.now, self.clock.wall());
        while let Some(event) = self.audit.poll_event() {
            self.take_audit(event);
        }
        self.answer_recorded();
        self.end_gathers();
        self.give_snapshot();
        self.give_pinned();
        // Last, so that what was decided by now is not taken for unknown.
        while let Some(id) = self.requests.expired(self.now) {
            self.give_up(id, PlaneError::TimedOut);
        }
        self.share_usage();
        if let Some(machine) = &self.machine {
            for id in self.hub.stirred(machine) {
                self.outputs.push_back(PlaneOutput::WatchReady { id });
            }
        }
    }

    fn take_output(&mut self, output: Output) {
        match output {
            Output::Send { to, message } => self.send(to, PlaneMessage::Raft(message)),
            Output::Apply {
                index,
                term,
                id,
                data,
            } => self.apply(index, term, id, &data),
            Output::Dropped { id } => self.dropped(id),
            // A client may still hear what became of its request before its deadline;
            // nobody waits for a duty, it is due again if it was not done.
            Output::Uncertain { id } => {
                let ours = Some(id.member) == self.member;
                let proposal = self.proposals.get(&id.number).filter(|_| ours);
                match proposal.map(|one| one.from) {
                    Some(Proposer::Duty | Proposer::Join) => {
                        self.proposals.remove(&id.number);
                        self.duties.ended();
                    }
                    Some(Proposer::Registration) => {
                        self.proposals.remove(&id.number);
                        self.not_registered(None);
                    }
                    Some(Proposer::Request(_)) | None => {}
                }
            }
            Output::Read { id, .. } => match self.reads.remove(&id) {
                Some(Reader::Request(request)) => self.answer_read(request),
                Some(Reader::Ready) => self.caught_up(),
                None => {}
            },
            Output::ReadFailed { id } => match self.reads.remove(&id) {
                Some(Reader::Request(request)) => self.refuse(request, PlaneError::NO_LEADER),
                Some(Reader::Ready) => self.ready = Ready::No,
                None => {}
            },
            Output::Role { role, leader, term } => {
                (self.role, self.leader, self.term) = (role, leader, term);
                self.forward_at = None;
                self.hurry(|to| Some(to) != leader);
                self.follow_leader();
                let leader = leader.and_then(|leader| self.nodes.names.name(leader).cloned());
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
            Output::MembersChanged { .. } => self.update_names(),
            Output::Notice(notice) => {
                let failed = matches!(notice, Notice::Failed(_));
                self.notice(PlaneNotice::Group(notice));
                if failed {
                    self.close(PlaneError::Failed);
                }
            }
            Output::Sealed => self.sealed(),
        }
    }

    /// The metadata is another from now on: this node was too far behind.
    fn restore(&mut self, index: u64, machine: &[u8]) {
        let cluster = self.cluster;
        let restored = match Metadata::restore(machine) {
            Ok(restored) => restored,
            Err(error) => return self.halt(Halt::Snapshot { index, error }),
        };
        if cluster != Some(restored.cluster()) || restored.applied_index() > index {
            return self.halt(Halt::Contradiction { index });
        }
        let version = restored.version();
        self.audit.skipped(restored.applied_index());
        self.machine = Some(restored);
        self.update_names();
        self.uses.brokers_changed();
        self.hub.replaced();
        self.outputs.push_back(PlaneOutput::Replaced { version });
    }

    /// Gives the group what is to be proposed or asked; whether there was anything.
    fn give(&mut self) -> bool {
        if self.closed.is_some() || self.machine.is_none() {
            return false;
        }
        let given = self.give_waiting()
            | self.give_duties()
            | self.give_members()
            | self.give_beats()
            | self.give_registration();
        self.ask_ready() | given
    }

    /// Gives the group the snapshot that waits, when the rows of what is in it are
    /// durable: then nobody needs to apply that again to write them.
    fn give_snapshot(&mut self) {
        if self.halted {
            return;
        }
        let ready = |(_, _, rows): &mut (u64, Vec<u8>, Lsn)| self.audit.is_durable(*rows);
        if let Some((index, bytes, _)) = self.encoded.take_if(ready) {
            self.group.snapshot_ready(index, bytes.into());
        }
    }

    fn take_audit(&mut self, event: AuditEvent) {
        match event {
            AuditEvent::Failed(error) => self.notice(PlaneNotice::AuditFailed(error)),
            AuditEvent::ReadOnly(full) => self.notice(PlaneNotice::AuditFull(full)),
            AuditEvent::Damaged(damage) => self.notice(PlaneNotice::AuditDamaged(damage)),
            AuditEvent::Found(asker, page) => self.found(asker, page),
            AuditEvent::Sealed => self.sealed(),
        }
    }

    fn sealed(&mut self) {
        let Some(left) = &mut self.sealing else {
            return;
        };
        *left -= 1;
        if *left == 0 {
            self.outputs.push_back(PlaneOutput::Sealed);
        }
    }

    /// Whether it leads and knows everything that leaders before it decided.
    fn leads(&self) -> bool {
        self.role == Role::Leader && self.ready == Ready::Yes
    }

    // ------------------------------------------------------------------ answers

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
            State::Proposed(number, _) => {
                self.proposals.remove(&number);
            }
            State::Recording => self.records.retain(|(_, of)| *of != id),
            State::Searching => self.forget_search(&AuditAsker::Request(id)),
            State::Gathering => self.forget_search(&AuditAsker::Everywhere(id)),
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

    /// Says something to a member. One of which nobody knows the name is not reached.
    fn send(&mut self, to: MemberId, message: PlaneMessage) {
        if let Some(to) = self.nodes.names.name(to).cloned() {
            self.tell(to, message);
        }
    }

    fn tell(&mut self, to: PeerName, message: PlaneMessage) {
        self.outputs.push_back(PlaneOutput::Send { to, message });
    }

    fn notice(&mut self, notice: PlaneNotice) {
        self.outputs.push_back(PlaneOutput::Notice(notice));
    }

    // ------------------------------------------------------------------ outputs

    /// The next thing to do or know.
    pub fn poll_output(&mut self) -> Option<PlaneOutput> {
        self.outputs.pop_front()
    }

    /// The next thing the disk must do, and for which log. Asked until it gives `None`
    /// after every turn, and after [`Plane::handle_encoded`].
    pub fn poll_disk(&mut self) -> Option<(LogId, DiskRequest)> {
        if let Some(request) = self.audit.poll_request() {
            return Some((AUDIT_LOG, request));
        }
        if self.halted {
            return None;
        }
        self.group.poll_disk().map(|request| (RAFT_LOG, request))
    }

    /// When the next turn is due if nothing happens; `None` while only inputs can lead to
    /// anything.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Monotonic> {
        let audit = self.audit.next_deadline();
        if self.halted {
            // Rows are written all the same, and whoever waits for one gives up in time.
            return audit.into_iter().chain(self.requests.next_deadline()).min();
        }
        let machine = self.machine.as_ref().filter(|_| self.leads());
        let duties =
            machine.and_then(|machine| self.duties.next_deadline(self.now, &self.clock, machine));
        let group = self.group.next_deadline();
        let nodes = self
            .nodes_deadline()
            .into_iter()
            .chain(self.joining_deadline());
        let nodes = nodes.chain(self.beats_deadline());
        let nodes = nodes.chain(self.usage_deadline());
        let nodes = nodes.chain(self.gathers_deadline());
        let requests = self.requests.next_deadline();
        let requests = requests.into_iter().chain(self.forward_deadline());
        let group = group.into_iter().chain(audit);
        group.chain(requests).chain(duties).chain(nodes).min()
    }

    /// The metadata as this node has it; `None` while the node is nobody.
    #[must_use]
    pub fn metadata(&self) -> Option<&Metadata> {
        self.machine.as_ref()
    }

    fn version(&self) -> MetaVersion {
        let machine = self.machine.as_ref();
        machine.map(Metadata::version).unwrap_or_default()
    }

    /// This node's broker; `None` until it is registered for the first time.
    #[must_use]
    pub fn broker(&self) -> Option<BrokerNumber> {
        self.nodes.broker
    }

    /// Gives the lead to another node. [`PlaneOutput::Role`] says when it has it; when that
    /// does not work within an election timeout, this node goes on leading.
    ///
    /// # Errors
    /// It is not tried: this node does not lead, or the other cannot.
    pub fn transfer(&mut self, to: &PeerName) -> Result<(), TransferError> {
        if self.halted {
            return Err(TransferError::NotLeader);
        }
        match self.nodes.names.member(to) {
            Some(member) => self.group.transfer(member),
            None if self.role == Role::Leader => Err(TransferError::UnknownMember),
            None => Err(TransferError::NotLeader),
        }
    }

    /// What its logs have and did: that of the group, and that of the audit.
    #[must_use]
    pub fn logs(&self) -> PlaneLogs {
        PlaneLogs {
            group: self.group.log(),
            audit: self.audit.stats(),
        }
    }

    /// How it is.
    #[must_use]
    pub fn status(&self) -> PlaneStatus {
        let group = self.group.status();
        let name = |member| self.nodes.names.name(member).cloned();
        let peers = group.peers.iter().map(|peer| PlanePeer {
            name: name(peer.id),
            member: peer.id,
            voter: peer.voter,
            matched: peer.matched,
            lag: group.last.saturating_sub(peer.matched),
            active: peer.active,
        });
        let heard = self.beats.ages(self.now);
        let heard = heard.map(|(name, age)| (name.into(), age));
        PlaneStatus {
            node: self.nodes.facts.name.clone(),
            broker: self.nodes.broker,
            leader: group.leader.and_then(name),
            peers: peers.collect(),
            heard: heard.collect(),
            group,
            version: self
                .machine
                .as_ref()
                .map(Metadata::version)
                .unwrap_or_default(),
            ready: self.ready == Ready::Yes,
            commit: self.commits.median(),
            requests: self.requests.len(),
            watchers: self.hub.len(),
        }
    }
}

/// The number before a life's first proposal. Lives have different seeds, and so, but for
/// one chance in 2³², numbers that are far apart.
fn first_number(seed: u64) -> u64 {
    // The finalizer of SplitMix64: seeds that are close give numbers that are not.
    let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)) & !u64::from(u32::MAX)
}
