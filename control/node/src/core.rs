//! The state machine of one data core: connections in, outputs out.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use pinion_session::{Admission, CloseCode, Frame, FrameReader, Phase, ReplyBuffer, negotiate};
use pinion_shard::{Shard, ShardConfig};
use pinion_types::limits::{FRAME_BYTES_MAX, IN_FLIGHT_MAX};
use pinion_types::{
    CoreId, ErrorCode, FactId, Monotonic, Refusal, SessionId, SubscriptionId, WallMs,
};
use pinion_wire::message::{Reply, Request, Welcome};
use pinion_wire::opcode;

use crate::access::{AccessTable, TokenDigest};
use crate::connection::{Connection, Identity};
use crate::execute::Executed;
use crate::mail::{ControlMail, CoreMail, Lanes, Origin};
use crate::map::ShardMap;
use crate::stats::CoreStats;

/// Bytes of half-received frames all connections of a core may hold. Beyond it
/// the connection that asks for more is closed: it is either an attack or a
/// client with far too many large requests half sent.
pub const PARTIAL_BYTES_MAX: usize = 256 << 20;

/// Mails that may wait for other cores' boxes before requests for other cores
/// are refused with `Busy`.
pub const MAILS_WAITING_MAX: usize = 65_536;

/// What a core is told once.
#[derive(Clone, Debug)]
pub struct CoreConfig {
    /// Which core this is.
    pub core: CoreId,
    /// How many there are.
    pub data_cores: u16,
    /// Changes at every start of the node; given to clients.
    pub node_id: u64,
    /// Keys of the connection-id steering; given to authenticated clients.
    pub steering: (u32, u32),
    /// Whether a resource is created on first use (`--dev`).
    pub create_on_first_use: bool,
    /// Random words for the shard's keyed hashes.
    pub seed: [u64; 2],
}

/// Whether a stream wants more bytes now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feed {
    /// Yes, as they come.
    More,
    /// Not before [`Output::Resume`](crate::Output::Resume): replies wait unread.
    Paused,
}

/// One data core's decisions.
#[derive(Debug)]
pub struct Core {
    pub(crate) config: CoreConfig,
    pub(crate) map: ShardMap,
    pub(crate) access: Arc<AccessTable>,
    pub(crate) shard: Shard,
    pub(crate) stats: CoreStats,
    pub(crate) now: Monotonic,
    pub(crate) wall: WallMs,
    /// Index is the slot of the transport's connection id.
    connections: Vec<Option<Box<Connection>>>,
    open: usize,
    /// Connections with something to send, each once.
    pub(crate) dirty: VecDeque<u64>,
    pub(crate) mails: Lanes,
    pub(crate) control: VecDeque<ControlMail>,
    pub(crate) control_full: bool,
    pub(crate) closes: VecDeque<(u64, CloseCode)>,
    partial_bytes: usize,
    draining: bool,
}

impl Core {
    /// A core without connections or resources.
    #[must_use]
    pub fn new(config: CoreConfig, access: Arc<AccessTable>) -> Self {
        let shard = Shard::new(ShardConfig { seed: config.seed });
        let lanes = Lanes::new(config.data_cores);
        Self {
            config,
            map: ShardMap::default(),
            access,
            shard,
            stats: CoreStats::default(),
            now: Monotonic::ZERO,
            wall: WallMs(0),
            connections: Vec::new(),
            open: 0,
            dirty: VecDeque::new(),
            mails: lanes,
            control_full: false,
            control: VecDeque::new(),
            closes: VecDeque::new(),
            partial_bytes: 0,
            draining: false,
        }
    }

    /// A turn begins: the time of everything that follows until the next one.
    pub fn start_turn(&mut self, now: Monotonic, wall: WallMs) {
        debug_assert!(now >= self.now, "the monotonic clock went back");
        self.now = now;
        self.wall = wall;
        self.mails.start_turn();
        self.control_full = false;
    }

    /// What was counted so far.
    #[must_use]
    pub fn stats(&self) -> CoreStats {
        self.stats
    }

    /// Connections open now.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.open
    }

    /// When [`Core::handle_timeout`] wants to be called.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Monotonic> {
        self.shard.next_deadline()
    }

    /// Timers of the shard.
    pub fn handle_timeout(&mut self) {
        self.shard.handle_timeout(self.now);
    }

    /// A connection is established; it must say HELLO first.
    pub fn handle_connected(&mut self, conn: u64) {
        let slot = slot_of(conn);
        if self.connections.len() <= slot {
            self.connections.resize_with(slot + 1, || None);
        }
        let id = SessionId {
            core: self.config.core,
            token: conn,
        };
        let before = self.connections[slot].replace(Box::new(Connection::new(id)));
        assert!(before.is_none(), "slot {slot} of {conn:#x} was in use");
        self.open += 1;
        if self.draining {
            self.close(conn, CloseCode::Draining);
        }
    }

    /// The transport says the connection is gone.
    pub fn handle_closed(&mut self, conn: u64) {
        self.forget(conn);
    }

    /// The client opened a stream. Unidirectional ones are not part of the protocol.
    pub fn handle_stream_opened(&mut self, conn: u64, stream: u64, bidi: bool, early: bool) {
        let Some(connection) = self.connection(conn) else {
            return;
        };
        if !bidi {
            self.break_off(conn);
        } else if !connection.session.open_stream(stream, early) {
            self.close(conn, CloseCode::Limit);
        }
    }

    /// Bytes of a request stream, in order.
    pub fn handle_stream_data(&mut self, conn: u64, stream: u64, chunk: Bytes) -> Feed {
        let Some(state) = self.connection(conn).and_then(|c| c.session.stream(stream)) else {
            return Feed::More;
        };
        let mut reader = core::mem::take(&mut state.reader);
        let replies = core::mem::take(&mut state.replies);
        self.partial_bytes -= reader.partial_len();
        reader.push(chunk);
        self.run(conn, stream, reader, replies)
    }

    /// Goes on with a stream that was paused, before more of it is read.
    pub fn handle_resumed(&mut self, conn: u64, stream: u64) -> Feed {
        let Some(state) = self.connection(conn).and_then(|c| c.session.stream(stream)) else {
            return Feed::More;
        };
        let reader = core::mem::take(&mut state.reader);
        let replies = core::mem::take(&mut state.replies);
        self.partial_bytes -= reader.partial_len();
        self.run(conn, stream, reader, replies)
    }

    /// The client sends no more on this stream.
    pub fn handle_stream_finished(&mut self, conn: u64, stream: u64) {
        if let Some(state) = self.connection(conn).and_then(|c| c.session.stream(stream)) {
            state.finished = true;
            self.touch(conn);
        }
    }

    /// The stream is of no use any more: the client reset it or stopped reading
    /// it. Replies on it are dropped; a subscription on it ends.
    pub fn handle_stream_lost(&mut self, conn: u64, stream: u64) {
        let Some(connection) = self.connection(conn) else {
            return;
        };
        if let Some(id) = connection.delivery_streams.remove(&stream) {
            self.drop_subscription(conn, id);
        } else if let Some(state) = connection.session.stream(stream) {
            let partial = state.reader.partial_len();
            connection.session.close_stream(stream);
            self.partial_bytes -= partial;
        }
    }

    /// Takes frames off the reader until it runs dry, replies pile up, or the
    /// conversation ends. Reader and replies are out of the connection
    /// meanwhile, so that a request can change anything else.
    fn run(
        &mut self,
        conn: u64,
        stream: u64,
        mut reader: FrameReader,
        mut replies: ReplyBuffer,
    ) -> Feed {
        let mut paused = false;
        loop {
            if replies.is_high() {
                paused = true;
                break;
            }
            match reader.next_frame() {
                Ok(Some(frame)) => {
                    if !self.handle_frame(conn, stream, &frame, replies.tail()) {
                        break;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    answer(replies.tail(), 0, &Reply::Error(error.refusal()));
                    self.break_off(conn);
                    break;
                }
            }
        }
        self.partial_bytes += reader.partial_len();
        if self.partial_bytes > PARTIAL_BYTES_MAX && reader.partial_len() > 0 {
            self.close(conn, CloseCode::Limit);
        }
        let partial = reader.partial_len();
        match self.connection(conn).and_then(|c| c.session.stream(stream)) {
            Some(state) => {
                state.reader = reader;
                // A reply that came from elsewhere meanwhile goes behind.
                if !state.replies.is_empty() {
                    replies.tail().extend_from_slice(state.replies.pending());
                }
                state.replies = replies;
                state.paused = paused;
            }
            None => self.partial_bytes -= partial,
        }
        self.touch(conn);
        if paused { Feed::Paused } else { Feed::More }
    }

    /// One frame. `false` when nothing after it is to be looked at.
    fn handle_frame(
        &mut self,
        conn: u64,
        stream: u64,
        frame: &Frame<'_>,
        out: &mut Vec<u8>,
    ) -> bool {
        self.stats.requests += 1;
        let correlation = frame.header.correlation;
        let request = match Request::decode(frame.header.opcode, frame.body) {
            Ok(request) => request,
            Err(error) => {
                self.stats.refused += 1;
                answer(out, correlation, &Reply::Error(error.refusal()));
                if error.is_fatal() {
                    self.break_off(conn);
                    return false;
                }
                // Before HELLO was accepted nobody is owed a conversation.
                return self.is_ready(conn) || {
                    self.break_off(conn);
                    false
                };
            }
        };
        let Some(connection) = self.connection(conn) else {
            return false;
        };
        match (connection.session.phase, &request) {
            (Phase::Closing(_), _) => false,
            (Phase::AwaitingHello, Request::Hello(hello)) => {
                let verdict = negotiate(hello).and_then(|agreed| {
                    let digest = TokenDigest::of(hello.token);
                    self.authenticate(conn, digest).map(|()| agreed)
                });
                match verdict {
                    Ok(agreed) => {
                        self.stats.sessions += 1;
                        let welcome = self.welcome(agreed);
                        answer(out, correlation, &Reply::Welcome(welcome));
                        true
                    }
                    Err(refusal) => {
                        self.stats.refused += 1;
                        answer(out, correlation, &Reply::Error(refusal));
                        if refusal.code == ErrorCode::Unauthenticated {
                            self.stats.unauthenticated += 1;
                            self.close(conn, CloseCode::Unauthenticated);
                        } else {
                            self.break_off(conn);
                        }
                        false
                    }
                }
            }
            (Phase::AwaitingHello, _) | (Phase::Ready, Request::Hello(_)) => {
                self.stats.refused += 1;
                let refusal = Refusal::new(ErrorCode::WrongOrder);
                answer(out, correlation, &Reply::Error(refusal));
                self.break_off(conn);
                false
            }
            (Phase::Ready, _) => {
                let origin = Origin {
                    session: connection.id,
                    stream,
                    correlation,
                };
                self.handle_request(conn, origin, frame, &request, out);
                true
            }
        }
    }

    fn handle_request(
        &mut self,
        conn: u64,
        origin: Origin,
        frame: &Frame<'_>,
        request: &Request<'_>,
        out: &mut Vec<u8>,
    ) {
        let start = out.len();
        let executed = self
            .admit(conn, origin, request)
            .and_then(|()| self.dispatch(conn, origin, frame, request, out));
        match executed {
            Ok(Executed::Replied | Executed::Silent) => {}
            Ok(Executed::Deferred) => {
                if let Some(connection) = self.connection(conn) {
                    connection.session.in_flight.defer(origin.correlation);
                }
            }
            Err(refusal) => {
                self.stats.refused += 1;
                out.truncate(start);
                answer(out, origin.correlation, &Reply::Error(refusal));
            }
        }
    }

    /// What is checked before it matters what a request means.
    fn admit(&mut self, conn: u64, origin: Origin, request: &Request<'_>) -> Result<(), Refusal> {
        if self.draining {
            return Err(ErrorCode::Draining.into());
        }
        let connection = self.connection(conn).expect("the caller found it");
        match connection.session.in_flight.admit(origin.correlation) {
            Admission::Admitted => {}
            Admission::Duplicate => return Err(ErrorCode::DuplicateRequest.into()),
            Admission::Full => {
                return Err(
                    Refusal::new(ErrorCode::Busy).with(FactId::Limit, u64::from(IN_FLIGHT_MAX))
                );
            }
        }
        let early = connection
            .session
            .stream(origin.stream)
            .is_some_and(|stream| stream.early);
        if early && !request.is_idempotent() {
            return Err(ErrorCode::TooEarly.into());
        }
        Ok(())
    }

    fn authenticate(&mut self, conn: u64, digest: TokenDigest) -> Result<(), Refusal> {
        let principal = self
            .access
            .authenticate(&digest)
            .ok_or(ErrorCode::Unauthenticated)?;
        let tenant = self.access.principal(principal).tenant;
        let connection = self.connection(conn).expect("the caller found it");
        connection.identity = Some(Identity {
            principal,
            tenant,
            digest,
        });
        connection.session.phase = Phase::Ready;
        Ok(())
    }

    fn welcome(&self, agreed: pinion_session::Negotiated) -> Welcome {
        Welcome {
            version: agreed.version,
            capabilities: agreed.capabilities,
            epoch: self.map.epoch(),
            core: self.config.core.0,
            data_cores: self.config.data_cores,
            steering_k0: self.config.steering.0,
            steering_k1: self.config.steering.1,
            in_flight_max: IN_FLIGHT_MAX,
            frame_bytes_max: FRAME_BYTES_MAX,
            node_id: self.config.node_id,
            server_time: self.wall,
        }
    }

    /// Something from another core or the control thread.
    pub fn handle_mail(&mut self, mail: CoreMail) {
        match mail {
            CoreMail::Request {
                origin,
                resource,
                append,
                opcode,
                body,
            } => self.execute_for_other(origin, &resource, append, opcode, &body),
            CoreMail::Reply { origin, frame } => self.handle_late_reply(origin, &frame),
            CoreMail::Deliver {
                session,
                subscription,
                chunk,
                charge,
                end,
            } => self.deliver(session.token, subscription, chunk, charge, end),
            CoreMail::Credit {
                session,
                subscription,
                records,
                bytes,
            } => self.shard.credit(session, subscription, records, bytes),
            CoreMail::Window {
                session,
                subscription,
                bytes,
            } => self.shard.window(session, subscription, bytes),
            CoreMail::Unsubscribe {
                session,
                subscription,
            } => {
                self.shard.unsubscribe(session, subscription);
            }
            CoreMail::SessionGone { session } => self.shard.end_session(self.now, session),
            CoreMail::Declared { epoch, resource } => self.map.insert(epoch, resource),
            CoreMail::DeclareDone { origin, result } => self.handle_declared(origin, result),
            CoreMail::Access(table) => self.handle_access(table),
            CoreMail::Drain => self.drain(),
        }
    }

    /// A reply that was not ready when its request ran.
    pub(crate) fn handle_late_reply(&mut self, origin: Origin, frame: &[u8]) {
        let conn = origin.session.token;
        let Some(connection) = self.connection(conn) else {
            return;
        };
        if !connection.session.in_flight.settle(origin.correlation) {
            return;
        }
        if let Some(state) = connection.session.stream(origin.stream) {
            state.replies.tail().extend_from_slice(frame);
        }
        if let Some(provisional) = connection.provisional.remove(&origin.correlation)
            && frame.get(OPCODE_AT) == Some(&opcode::ERROR)
        {
            self.undo(conn, &provisional);
        }
        self.touch(conn);
    }

    /// The same for a reply that still has to be encoded.
    pub(crate) fn reply_late(&mut self, origin: Origin, reply: &Reply<'_>) {
        let mut frame = Vec::new();
        answer(&mut frame, origin.correlation, reply);
        if origin.session.core == self.config.core {
            self.handle_late_reply(origin, &frame);
        } else {
            self.post(origin.session.core, CoreMail::Reply { origin, frame });
        }
    }

    /// Revocation and new grants act on live connections: a principal that is
    /// gone loses its connection, the others get their handles judged again.
    fn handle_access(&mut self, table: Arc<AccessTable>) {
        self.access = table;
        let mut lost = Vec::new();
        for connection in self.connections.iter_mut().flatten() {
            let Some(identity) = &mut connection.identity else {
                continue;
            };
            match self.access.authenticate(&identity.digest) {
                Some(principal) if self.access.principal(principal).tenant == identity.tenant => {
                    identity.principal = principal;
                    for handle in &mut connection.handles {
                        let resource = &handle.resource;
                        handle.permissions =
                            self.access
                                .permissions(principal, resource.kind, &resource.name);
                    }
                }
                _ => lost.push(connection.id.token),
            }
        }
        for conn in lost {
            self.close(conn, CloseCode::Unauthenticated);
        }
    }

    /// Takes no more requests, tells every subscription where it stands, and
    /// closes each connection once the client has what was sent.
    fn drain(&mut self) {
        if self.draining {
            return;
        }
        self.draining = true;
        self.shard.drain();
        let conns: Vec<u64> = self
            .connections
            .iter()
            .flatten()
            .map(|connection| connection.id.token)
            .collect();
        for conn in conns {
            let connection = self.connection(conn).expect("listed just now");
            if connection.session.phase == Phase::Ready {
                connection.unacknowledged = Some(0);
                self.touch(conn);
            } else {
                self.close(conn, CloseCode::Draining);
            }
        }
    }

    /// The time for draining is over: what is left is closed as it is.
    pub fn drain_overdue(&mut self) {
        let conns: Vec<u64> = self
            .connections
            .iter()
            .flatten()
            .map(|connection| connection.id.token)
            .collect();
        for conn in conns {
            self.close(conn, CloseCode::Draining);
        }
    }

    /// Whether a drain has begun and no connection is left.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.draining && self.open == 0
    }

    /// The connection broke the protocol.
    pub(crate) fn break_off(&mut self, conn: u64) {
        self.stats.protocol_errors += 1;
        self.close(conn, CloseCode::Protocol);
    }

    pub(crate) fn close(&mut self, conn: u64, code: CloseCode) {
        if let Some(connection) = self.connection(conn) {
            connection.close_after_flush(code);
            self.touch(conn);
        }
    }

    fn is_ready(&mut self, conn: u64) -> bool {
        self.connection(conn)
            .is_some_and(|connection| connection.session.phase == Phase::Ready)
    }

    pub(crate) fn connection(&mut self, conn: u64) -> Option<&mut Connection> {
        self.connections
            .get_mut(slot_of(conn))?
            .as_deref_mut()
            .filter(|connection| connection.id.token == conn)
    }

    /// The connection may have something to send.
    pub(crate) fn touch(&mut self, conn: u64) {
        if let Some(connection) = self.connection(conn)
            && !connection.queued
        {
            connection.queued = true;
            self.dirty.push_back(conn);
        }
    }

    /// Drops everything that lived by the connection (domains.md §0): its
    /// subscriptions, append sessions and waiting requests, here and elsewhere.
    pub(crate) fn forget(&mut self, conn: u64) {
        if self.connection(conn).is_none() {
            return;
        }
        let connection = self.connections[slot_of(conn)]
            .take()
            .expect("found just now");
        self.open -= 1;
        self.partial_bytes -= connection.session.partial_len();
        let session = connection.id;
        self.shard.end_session(self.now, session);
        if connection.went_elsewhere {
            for core in 0..self.config.data_cores {
                if core != self.config.core.0 {
                    self.post(CoreId(core), CoreMail::SessionGone { session });
                }
            }
        }
    }

    /// Puts a mail into the queue to another core.
    pub(crate) fn post(&mut self, to: CoreId, mail: CoreMail) {
        debug_assert_ne!(to, self.config.core, "mail to oneself");
        self.mails.push(to, mail);
    }

    /// The box of `to` was full: the mail goes first in the next turn.
    pub fn mail_refused(&mut self, to: CoreId, mail: CoreMail) {
        self.stats.mail_waits += 1;
        self.mails.refused(to, mail);
    }

    /// The control thread's box was full: the mail goes first in the next turn.
    pub fn control_refused(&mut self, mail: ControlMail) {
        self.stats.mail_waits += 1;
        self.control.push_front(mail);
        self.control_full = true;
    }

    /// Gives transport window back to the partition that feeds a subscription.
    pub(crate) fn give_window(
        &mut self,
        session: SessionId,
        subscription: SubscriptionId,
        owner: CoreId,
        bytes: u32,
    ) {
        if bytes == 0 {
            return;
        }
        if owner == self.config.core {
            self.shard.window(session, subscription, bytes);
        } else {
            self.post(
                owner,
                CoreMail::Window {
                    session,
                    subscription,
                    bytes,
                },
            );
        }
    }
}

/// Where the opcode stands in a frame.
const OPCODE_AT: usize = 4;

/// The low half of a transport connection id is its slot.
fn slot_of(conn: u64) -> usize {
    (conn & 0xffff_ffff) as usize
}

/// Appends a reply. Replies built here fit a frame by construction.
pub(crate) fn answer(out: &mut Vec<u8>, correlation: u32, reply: &Reply<'_>) {
    reply
        .encode(correlation, out)
        .expect("a reply of the node fits a frame");
}
