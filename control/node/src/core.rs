//! The state machine of one data core: connections in, outputs out.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use pinion_auth::spiffe::SpiffeId;
use pinion_session::{Admission, CloseCode, Frame, FrameReader, Phase, negotiate};
use pinion_shard::{Shard, ShardConfig};
use pinion_types::limits::{FRAME_BYTES_MAX, IN_FLIGHT_MAX, TOKEN_BYTES_MAX};
use pinion_types::{
    CoreId, ErrorCode, FactId, FixedSet, Monotonic, Refusal, ResourceId, SessionId, WallMs,
};
use pinion_wire::message::{Reply, Request, Welcome};

use crate::access::AccessTable;
use crate::closing::Purges;
use crate::connection::Connection;
use crate::durable::Held;
use crate::execute::Executed;
use crate::fetches::Fetches;
use crate::identity::Identities;
use crate::judging::Judging;
use crate::lifecycle::Lifecycle;
use crate::mail::{ControlMail, Lanes, Origin};
use crate::map::ShardMap;
use crate::queue_looks::Looks;
use crate::quota_meters::Quotas;
use crate::samples::{Mark, Sample, Samples};
use crate::stats::{CODES, CoreStats, OPCODES, Tally};
use crate::views::Questions;

/// Received bytes that are not whole frames yet, or wait unread, of all
/// connections of a core. Beyond it the connection that asks for more is closed:
/// it is either an attack or a client with far too many large requests half sent.
pub(crate) const HELD_BYTES_MAX: usize = 256 << 20;

/// Bytes of one request stream that may wait unread while its replies are not
/// read. The transport stops reading long before, unless it does not ask
/// [`Core::is_paused`]; then the connection is closed here.
pub(crate) const UNREAD_BYTES_MAX: usize = 4 << 20;

/// Bytes a stream may hold before HELLO was accepted: the longest HELLO with
/// its header. So that nobody without a token can use up [`HELD_BYTES_MAX`].
const HELLO_BYTES_MAX: usize = 12 + 16 + 2 + TOKEN_BYTES_MAX as usize + 256;

/// Unsent replies of one stream above which a value that was fetched elsewhere,
/// or waited for, is answered with `Busy` instead: requests whose answers come
/// later were read before their answers piled up. Higher lets a client that
/// does not read hold more, lower refuses deep pipelines of large reads.
pub const REPLY_BYTES_LATE_MAX: usize = 8 << 20;

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
    /// Bytes the newest records of all durable streams of this core may take in
    /// memory.
    pub tail_bytes_max: u64,
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
    pub(crate) held: Held,
    pub(crate) fetches: Fetches,
    pub(crate) looks: Looks,
    pub(crate) stats: CoreStats,
    pub(crate) samples: Samples,
    pub(crate) tally: Tally,
    pub(crate) now: Monotonic,
    pub(crate) wall: WallMs,
    /// Index is the slot of the transport's connection id.
    pub(crate) connections: Vec<Option<Box<Connection>>>,
    pub(crate) open: usize,
    /// Connections with something to send, each once.
    pub(crate) dirty: VecDeque<u64>,
    pub(crate) mails: Lanes,
    pub(crate) control: VecDeque<ControlMail>,
    pub(crate) control_full: bool,
    pub(crate) closes: VecDeque<(u64, CloseCode)>,
    /// Sum of what the connections' readers hold.
    pub(crate) held_bytes: usize,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) identities: Identities,
    pub(crate) judging: Judging,
    pub(crate) quotas: Quotas,
    pub(crate) purges: Purges,
    pub(crate) questions: Questions,
    /// The backup that the logs are pinned for.
    pub(crate) pinned_for: Option<u64>,
    /// Resources of which partitions stay closed until the next start.
    pub(crate) barred: FixedSet<ResourceId>,
    /// Other cores that are gone.
    pub(crate) lost: Vec<CoreId>,
}

impl Core {
    /// A core without connections or resources.
    #[must_use]
    pub fn new(config: CoreConfig, access: Arc<AccessTable>) -> Self {
        let shard = Shard::new(ShardConfig {
            seed: config.seed,
            tail_bytes_max: config.tail_bytes_max,
        });
        let lanes = Lanes::new(config.data_cores);
        Self {
            config,
            map: ShardMap::default(),
            access,
            shard,
            held: Held::default(),
            fetches: Fetches::default(),
            looks: Looks::default(),
            stats: CoreStats::default(),
            samples: Samples::default(),
            tally: Tally::default(),
            now: Monotonic::ZERO,
            wall: WallMs(0),
            connections: Vec::new(),
            open: 0,
            dirty: VecDeque::new(),
            mails: lanes,
            control_full: false,
            control: VecDeque::new(),
            closes: VecDeque::new(),
            held_bytes: 0,
            lifecycle: Lifecycle::default(),
            identities: Identities::default(),
            judging: Judging::default(),
            quotas: Quotas::default(),
            purges: Purges::default(),
            questions: Questions::default(),
            pinned_for: None,
            barred: FixedSet::default(),
            lost: Vec::new(),
        }
    }

    /// A turn begins: the time of everything that follows until the next one.
    pub fn start_turn(&mut self, now: Monotonic, wall: WallMs) {
        debug_assert!(now >= self.now, "the monotonic clock went back");
        self.now = now;
        self.wall = wall;
        self.samples.arrived = now;
        self.mails.start_turn();
        self.control_full = false;
        self.start_hellos();
    }

    /// What was counted so far.
    #[must_use]
    pub fn stats(&self) -> CoreStats {
        self.stats
    }

    /// Requests by opcode, and refusals by code.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// What is read in this turn came in at `at`, which is not after the time of the
    /// turn. To be told after [`Core::start_turn`]; without it that is the time.
    pub fn arrived(&mut self, at: Monotonic) {
        self.samples.arrived = at;
    }

    /// A request that was timed and is answered now. To be asked for when the turn's
    /// answers are on their way.
    pub fn poll_sample(&mut self) -> Option<Sample> {
        self.samples.poll()
    }

    pub(crate) fn count_refused(&mut self, code: ErrorCode) {
        self.count_refused_with(code as u16);
    }

    pub(crate) fn count_refused_with(&mut self, code: u16) {
        self.stats.refused += 1;
        self.tally.refusals[usize::from(code) % CODES] += 1;
    }

    /// Connections open now.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.open
    }

    /// When [`Core::handle_timeout`] wants to be called.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Monotonic> {
        [
            self.shard.next_deadline(),
            self.lifecycle.next_deadline(),
            self.identities.next_deadline(),
            self.quotas.next_deadline(),
            self.purges.next_deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Whether another turn would bring more although nothing new came. Mails
    /// that found a full box count: nobody tells when it has room again.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.shard.has_work()
            || !self.dirty.is_empty()
            || !self.mails.is_empty()
            || !self.control.is_empty()
            || self.hellos_wait()
            || self.judging.is_going()
            || self.questions_wait()
    }

    /// Bytes received and not worked off yet, of all connections.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Timers of the shard and of connections: HELLO that did not come, credentials
    /// that are over, reports, purges that found no room.
    pub fn handle_timeout(&mut self) {
        self.shard.handle_timeout(self.now, self.wall);
        self.close_silent();
        self.judge_due();
        self.report_use();
        self.purge_again();
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
        let before = self.connections[slot].replace(Box::new(Connection::new(id, self.now)));
        assert!(before.is_none(), "slot {slot} of {conn:#x} was in use");
        self.open += 1;
        self.expect_hello(conn);
        if self.is_draining() {
            self.close(conn, CloseCode::Draining);
        }
    }

    /// What the certificate says that the connection was made with, after TLS has
    /// checked who signed it. To be told before any bytes of a stream; a HELLO
    /// without a token goes by it.
    pub fn handle_identity(&mut self, conn: u64, workload: SpiffeId) {
        if let Some(connection) = self.connection(conn) {
            connection.workload = Some(Box::new(workload));
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
        } else {
            // While draining it is finished at once.
            self.touch(conn);
        }
    }

    /// Whether the stream's bytes are to be left where they are, because its
    /// replies wait unread.
    #[must_use]
    pub fn is_paused(&mut self, conn: u64, stream: u64) -> bool {
        self.connection(conn)
            .and_then(|connection| connection.session.stream(stream))
            .is_some_and(|state| state.paused)
    }

    /// Bytes of a request stream, in order.
    pub fn handle_stream_data(&mut self, conn: u64, stream: u64, chunk: Bytes) -> Feed {
        let Some(connection) = self.connection(conn) else {
            return Feed::More;
        };
        if matches!(connection.session.phase, Phase::Closing(_)) {
            // Nobody looks at it any more.
            return Feed::More;
        }
        let Some(state) = connection.session.stream(stream) else {
            return Feed::More;
        };
        let len = chunk.len();
        state.reader.push(chunk);
        let unread = state.paused.then(|| state.reader.held_len());
        self.held_bytes += len;
        if let Some(unread) = unread {
            if unread > UNREAD_BYTES_MAX || self.held_bytes > HELD_BYTES_MAX {
                self.close(conn, CloseCode::Limit);
            }
            return Feed::Paused;
        }
        self.run(conn, stream)
    }

    /// Goes on with a stream that was paused, before more of it is read.
    pub fn handle_resumed(&mut self, conn: u64, stream: u64) -> Feed {
        self.run(conn, stream)
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
            let held = state.reader.held_len();
            connection.session.close_stream(stream);
            self.held_bytes -= held;
            self.touch(conn);
        } else if connection.leaving.is_some() {
            // Finished here before; no acknowledgement will come.
            self.handle_stream_acknowledged(conn);
        }
    }

    /// Takes frames off the reader until it runs dry, replies pile up, or the
    /// conversation ends. Reader and replies are out of the connection
    /// meanwhile, so that a request can change anything else.
    fn run(&mut self, conn: u64, stream: u64) -> Feed {
        if self.hello_must_wait(conn, stream) {
            return Feed::Paused;
        }
        // Before any request: a table that came is in force although not everybody
        // was judged by it yet.
        self.judge_if_behind(conn);
        let Some(connection) = self.connection(conn) else {
            return Feed::More;
        };
        let Some(state) = connection.session.stream(stream) else {
            return Feed::More;
        };
        let mut reader = core::mem::take(&mut state.reader);
        let mut replies = core::mem::take(&mut state.replies);
        self.held_bytes -= reader.held_len();
        let before = self.stats.requests;
        let mut paused = false;
        let mut fetched = 0;
        loop {
            if replies.is_high() {
                paused = true;
                break;
            }
            if fetched == 0 {
                fetched = self.fetch_ahead(conn, &reader);
            }
            fetched -= 1;
            // In pieces that fit registers: a frame that has an address stalls the
            // processor for as long as the rest of a PING takes, see `whole_frame`.
            let (opcode, correlation, body) = match reader.whole_frame() {
                Some(Frame { header, body }) => (header.opcode, header.correlation, body),
                None => match reader.next_frame() {
                    Ok(Some(Frame { header, body })) => (header.opcode, header.correlation, body),
                    Ok(None) => {
                        if reader.held_len() > HELLO_BYTES_MAX && !self.is_ready(conn) {
                            let refusal = Refusal::new(ErrorCode::FrameTooLarge)
                                .with(FactId::Limit, HELLO_BYTES_MAX as u64);
                            answer(replies.tail(), 0, &Reply::Error(refusal));
                            self.break_off(conn);
                            reader = FrameReader::default();
                        }
                        break;
                    }
                    Err(error) => {
                        self.count_refused(error.refusal().code);
                        answer(replies.tail(), 0, &Reply::Error(error.refusal()));
                        self.break_off(conn);
                        reader = FrameReader::default();
                        break;
                    }
                },
            };
            if !self.handle_frame(conn, stream, opcode, correlation, body, replies.tail()) {
                reader = FrameReader::default();
                break;
            }
        }
        let held = reader.held_len();
        self.held_bytes += held;
        if self.held_bytes > HELD_BYTES_MAX && held > 0 {
            self.close(conn, CloseCode::Limit);
        }
        let (received, now) = (self.stats.requests - before, self.now);
        // Nothing a request does takes the stream away or answers behind its back.
        let connection = self.connection(conn).expect("a request closes no stream");
        connection.counts.received += received;
        connection.counts.heard_at = now;
        let state = connection.session.stream(stream);
        let state = state.expect("a request closes no stream");
        debug_assert!(state.replies.is_empty(), "replies were taken out above");
        state.reader = reader;
        state.replies = replies;
        state.paused = paused;
        self.touch(conn);
        if paused { Feed::Paused } else { Feed::More }
    }

    /// One frame. `false` when nothing after it is to be looked at.
    fn handle_frame(
        &mut self,
        conn: u64,
        stream: u64,
        opcode: u8,
        correlation: u32,
        body: &[u8],
        out: &mut Vec<u8>,
    ) -> bool {
        self.stats.requests += 1;
        // By reference: moving it out of the result reads back in wide pieces what
        // was just written in small ones, and that stalls.
        let decoded = Request::decode(opcode, body);
        let request = match &decoded {
            Ok(request) => request,
            Err(error) => {
                self.count_refused(error.refusal().code);
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
        self.tally.requests[usize::from(opcode) % OPCODES] += 1;
        let Some(connection) = self.connection(conn) else {
            return false;
        };
        match (connection.session.phase, request) {
            (Phase::Closing(_), _) => false,
            (Phase::AwaitingHello, Request::Hello(hello)) => {
                let verdict = negotiate(hello)
                    .and_then(|agreed| self.authenticate(conn, hello.token).map(|()| agreed));
                match verdict {
                    Ok(agreed) => {
                        self.stats.sessions += 1;
                        let welcome = self.welcome(agreed);
                        answer(out, correlation, &Reply::Welcome(welcome));
                        true
                    }
                    Err(refusal) => {
                        self.count_refused(refusal.code);
                        answer(out, correlation, &Reply::Error(refusal));
                        match refusal.code {
                            ErrorCode::Unauthenticated => {
                                self.stats.unauthenticated += 1;
                                self.close(conn, CloseCode::Unauthenticated);
                            }
                            ErrorCode::QuotaExceeded => self.close(conn, CloseCode::Limit),
                            _ => self.break_off(conn),
                        }
                        false
                    }
                }
            }
            (Phase::AwaitingHello, _) | (Phase::Ready, Request::Hello(_)) => {
                self.count_refused(ErrorCode::WrongOrder);
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
                self.handle_request(conn, origin, body, request, out);
                true
            }
        }
    }

    fn handle_request(
        &mut self,
        conn: u64,
        origin: Origin,
        body: &[u8],
        request: &Request<'_>,
        out: &mut Vec<u8>,
    ) {
        if let Request::Credit(credit) = request {
            // Never answered, so neither its correlation id nor anything else
            // about it may be refused.
            if !self.is_early(conn, origin.stream) {
                self.credit(conn, credit);
            }
            return;
        }
        // Few are timed, and those are told apart by one comparison.
        let mark = if self.stats.requests >= self.samples.next {
            self.samples.begin(self.stats.requests, request)
        } else {
            Mark::NONE
        };
        let start = out.len();
        let executed = self
            .admit(conn, origin, request)
            .and_then(|()| self.dispatch(conn, origin, body, request, out));
        match executed {
            Ok(Executed::Replied) => self.samples.end(mark),
            Ok(Executed::Silent) => {
                let connection = self.connection(conn).expect("the caller found it");
                connection.counts.unanswered += 1;
            }
            Ok(executed @ (Executed::Deferred | Executed::Held(_))) => {
                if let Executed::Held(ticket) = executed {
                    self.hold(ticket, origin, &out[start..]);
                    out.truncate(start);
                }
                let connection = self.connection(conn).expect("the caller found it");
                let in_flight = &mut connection.session.in_flight;
                in_flight.defer(origin.correlation, mark.0);
                if let Some(state) = connection.session.stream(origin.stream) {
                    state.owed += 1;
                }
            }
            Err(refusal) => {
                self.count_refused(refusal.code);
                out.truncate(start);
                answer(out, origin.correlation, &Reply::Error(refusal));
                self.samples.end(mark);
            }
        }
    }

    /// What is checked before it matters what a request means.
    fn admit(&mut self, conn: u64, origin: Origin, request: &Request<'_>) -> Result<(), Refusal> {
        if self.is_draining() {
            return Err(ErrorCode::Draining.into());
        }
        let connection = self.connection(conn).expect("the caller found it");
        if let Some(code) = connection.leaving {
            // END and the close say the same.
            return Err(left_for(code).into());
        }
        match connection.session.in_flight.admit(origin.correlation) {
            Admission::Admitted => {}
            Admission::Duplicate => return Err(ErrorCode::DuplicateRequest.into()),
            Admission::Full => {
                return Err(Refusal::new(ErrorCode::LimitReached)
                    .with(FactId::Limit, u64::from(IN_FLIGHT_MAX)));
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

    fn is_early(&mut self, conn: u64, stream: u64) -> bool {
        self.connection(conn)
            .and_then(|connection| connection.session.stream(stream))
            .is_some_and(|state| state.early)
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
}

/// What somebody is told whose connection is to be closed with `code`.
pub(crate) const fn left_for(code: CloseCode) -> ErrorCode {
    match code {
        CloseCode::Administrator => ErrorCode::EndedByOperator,
        CloseCode::Draining => ErrorCode::Draining,
        _ => ErrorCode::Unauthenticated,
    }
}

/// The low half of a transport connection id is its slot.
pub(crate) fn slot_of(conn: u64) -> usize {
    (conn & 0xffff_ffff) as usize
}

/// Appends a reply. Replies built here fit a frame by construction.
pub(crate) fn answer(out: &mut Vec<u8>, correlation: u32, reply: &Reply<'_>) {
    reply
        .encode(correlation, out)
        .expect("a reply of the node fits a frame");
}
