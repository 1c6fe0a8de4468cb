//! One data core's pump: datagrams to the QUIC endpoint, stream bytes to the
//! node's `Core`, and what both want done to the socket and the mailboxes. It
//! decides nothing; it carries.

mod facts;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use pinion_auth::spiffe::SpiffeId;
use pinion_commitlog::DiskDone;
use pinion_node::mail::{ControlMail, CoreMail};
use pinion_node::{Core, Feed, Output};
use pinion_plane::PeerName;
use pinion_quic::{ConnId, Endpoint, Event, Outbox, PathMeta, ReadOutcome, StreamId, WriteOutcome};
use pinion_reactor::{
    BytesMut, DatagramMeta, Full, Io, PortId, Pump, SendOutcome, Stall, Transmit,
};
use pinion_types::{CoreId, Monotonic, WallMs};

use crate::meters::Meters;
use crate::peers::PeerDoor;

/// Sends of one turn. More favours bulk, fewer lets arrivals be looked at sooner.
const TRANSMITS_PER_TURN: usize = 128;

/// Bytes of one turn's sends. A publish that waits for the disk takes a few turns,
/// and each of them may be one in which a replay is sent: more delays it by as
/// much, less makes a replay look at the socket and the disk more often than its
/// bytes are worth.
const TRANSMIT_BYTES_PER_TURN: usize = 128 << 10;

/// Datagrams of one segmented send. Measured: 10 already gives all of the gain
/// over single sends, and longer trains only make others wait.
const SEGMENTS_MAX: usize = 16;

/// Strays that may wait for other cores' boxes; more are dropped, as a network
/// may drop any datagram.
const STRAYS_WAITING_MAX: usize = 4096;

/// How long a drained core keeps sending closes before it leaves its loop.
const CLOSE_LINGER: Duration = Duration::from_millis(100);

/// What travels between the ports of a node.
#[derive(Debug)]
pub(crate) enum Mail {
    /// For a core's state machine.
    Core(CoreMail),
    /// For the control thread.
    Control(ControlMail),
    /// A datagram that arrived at the wrong core (R17).
    Stray(Box<Stray>),
    /// For the control thread: one whole frame of another node, not looked into. Bounded
    /// in bytes by the door it came through, until it is dropped.
    Peer { from: PeerName, frame: Bytes },
}

/// A datagram on its way to the core that owns its connection.
#[derive(Debug)]
pub(crate) struct Stray {
    remote: SocketAddr,
    local_ip: Option<IpAddr>,
    ecn: Option<u8>,
    data: BytesMut,
}

/// How long the wall clock is reckoned from the monotonic one before it is read
/// again. Longer notices later that somebody has set it, shorter reads it more often
/// than its unit changes.
const WALL_EVERY: Duration = Duration::from_millis(1);

/// The wall clock, read once in [`WALL_EVERY`].
#[derive(Clone, Copy, Debug)]
struct Wall {
    /// When it was read.
    read_at: Instant,
    /// What it said, since 1970.
    said: Duration,
}

impl Wall {
    fn read(now: Instant) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            read_at: now,
            said: since.unwrap_or(Duration::ZERO),
        }
    }

    fn at(&mut self, now: Instant) -> WallMs {
        let mut since = now.saturating_duration_since(self.read_at);
        if since >= WALL_EVERY {
            *self = Self::read(now);
            since = Duration::ZERO;
        }
        WallMs(u64::try_from((self.said + since).as_millis()).unwrap_or(0))
    }
}

/// The pump of one data core.
pub(crate) struct NodePump {
    core: Core,
    quic: Endpoint,
    /// Where other nodes come in, when this one belongs to a cluster.
    door: Option<PeerDoor>,
    /// Clients may show certificates.
    asks_clients: bool,
    me: u16,
    control: PortId,
    started: Instant,
    wall: Wall,
    /// Streams with bytes to be read, each at most once.
    readable: VecDeque<(ConnId, StreamId)>,
    strays: VecDeque<(u16, Box<Stray>)>,
    /// When the first datagram of this turn was taken.
    arrived: Option<Instant>,
    meters: Meters,
    outbox: Outbox,
    drain_timeout: Duration,
    drain_deadline: Option<Instant>,
    /// When the drained core may leave.
    leave_at: Option<Instant>,
    finished: bool,
}

impl NodePump {
    pub(crate) fn new(
        core: Core,
        quic: Endpoint,
        (door, asks_clients): (Option<PeerDoor>, bool),
        me: u16,
        control: PortId,
        started: Instant,
        drain_timeout: Duration,
    ) -> Self {
        Self {
            core,
            quic,
            door,
            asks_clients,
            me,
            control,
            started,
            wall: Wall::read(started),
            readable: VecDeque::new(),
            strays: VecDeque::new(),
            arrived: None,
            meters: Meters::new(started),
            outbox: Outbox::default(),
            drain_timeout,
            drain_deadline: None,
            leave_at: None,
            finished: false,
        }
    }

    fn monotonic(&self, now: Instant) -> Monotonic {
        let elapsed = now.saturating_duration_since(self.started).as_nanos();
        Monotonic(u64::try_from(elapsed).unwrap_or(u64::MAX))
    }

    fn instant(&self, at: Monotonic) -> Instant {
        self.started + Duration::from_nanos(at.0)
    }

    fn start_turn(&mut self, now: Instant) {
        self.core.start_turn(self.monotonic(now), self.wall.at(now));
    }

    /// Everything the endpoint has to tell. True when there was anything.
    fn take_events(&mut self, now: Instant) -> bool {
        let mut worked = false;
        while let Some(event) = self.quic.poll_event() {
            worked = true;
            let event = match &mut self.door {
                Some(door) => door.handle_event(now, &mut self.quic, event),
                None => Some(event),
            };
            let Some(event) = event else { continue };
            match event {
                Event::Connected { conn, .. } => {
                    self.core.handle_connected(conn.to_u64());
                    if self.asks_clients {
                        self.identify(conn);
                    }
                }
                Event::Confirmed { .. } => {}
                Event::StreamOpened {
                    conn,
                    stream,
                    bidi,
                    early,
                } => {
                    self.core
                        .handle_stream_opened(conn.to_u64(), stream.0, bidi, early);
                    self.read(conn, stream);
                }
                Event::Readable { conn, stream } => self.read(conn, stream),
                Event::Writable { conn, stream } => {
                    self.core.handle_writable(conn.to_u64(), stream.0);
                }
                Event::StreamStopped { conn, stream, code }
                | Event::StreamReset { conn, stream, code } => {
                    self.core.handle_stream_lost(conn.to_u64(), stream.0);
                    // Our half goes, too, so that the client may open another
                    // (RFC 9000 §3.5); a half that is gone already is fine.
                    let code = u32::try_from(code).unwrap_or(0);
                    let _ = self.quic.reset(conn, stream, code);
                }
                Event::StreamFinished { conn, .. } => {
                    self.core.handle_stream_acknowledged(conn.to_u64());
                }
                Event::StreamsAvailable { conn, bidi: false } => {
                    self.core.handle_streams_available(conn.to_u64());
                }
                Event::StreamsAvailable { .. } => {}
                Event::Closed { conn, reason } => {
                    tracing::debug!(core = self.me, conn = conn.to_u64(), %reason, "closed");
                    self.core.handle_closed(conn.to_u64());
                }
            }
        }
        worked
    }

    /// Tells the core who a client is by its certificate. One whose certificate names nobody
    /// is a client without one: it may show a token. Early data comes without a certificate,
    /// since no session of who showed one is resumed.
    fn identify(&mut self, conn: ConnId) {
        let shown = self.quic.peer_certificates(conn);
        let Some(leaf) = shown.first() else { return };
        match SpiffeId::of_certificate(leaf) {
            Ok(workload) => self.core.handle_identity(conn.to_u64(), workload),
            Err(error) => {
                tracing::debug!(core = self.me, conn = conn.to_u64(), %error, "a certificate of nobody");
            }
        }
    }

    /// Feeds the core from a stream until either has enough.
    fn read(&mut self, conn: ConnId, stream: StreamId) {
        let key = conn.to_u64();
        // Replies wait unread: the client's further requests stay with the
        // transport, whose flow control holds the client back.
        if self.core.is_paused(key, stream.0) {
            return;
        }
        let core = &mut self.core;
        let outcome = self.quic.read_while(conn, stream, |chunk| {
            core.handle_stream_data(key, stream.0, chunk) == Feed::More
        });
        match outcome {
            ReadOutcome::Finished => self.core.handle_stream_finished(key, stream.0),
            ReadOutcome::Reset(_) => self.core.handle_stream_lost(key, stream.0),
            // After a chunk the core has paused the stream.
            ReadOutcome::Chunk(_) | ReadOutcome::Blocked | ReadOutcome::Gone => {}
        }
    }

    /// Does what the core wants done.
    fn flush(&mut self, now: Instant, io: &mut Io<'_, Mail>) {
        while let Some(output) = self.core.poll_output() {
            match output {
                Output::Write {
                    conn,
                    stream,
                    bytes,
                } => {
                    let offered = bytes.len();
                    let id = ConnId::from_u64(conn);
                    let outcome = self.quic.write(id, StreamId(stream), bytes);
                    self.written(conn, stream, offered, outcome);
                }
                Output::WriteChunks {
                    conn,
                    stream,
                    chunks,
                } => {
                    let offered = chunks.iter().map(Bytes::len).sum();
                    let id = ConnId::from_u64(conn);
                    let outcome = self.quic.write_chunks(id, StreamId(stream), chunks);
                    self.written(conn, stream, offered, outcome);
                }
                Output::OpenUni { conn, subscription } => {
                    let stream = self.quic.open_uni(ConnId::from_u64(conn));
                    self.core
                        .handle_opened(conn, subscription, stream.map(|stream| stream.0));
                }
                Output::Finish { conn, stream } => {
                    // Gone already is as good as finished.
                    let _ = self.quic.finish(ConnId::from_u64(conn), StreamId(stream));
                }
                Output::Resume { conn, stream } => {
                    if self.core.handle_resumed(conn, stream) == Feed::More {
                        self.readable
                            .push_back((ConnId::from_u64(conn), StreamId(stream)));
                    }
                }
                Output::Close { conn, code } => {
                    self.quic.close(
                        now,
                        ConnId::from_u64(conn),
                        code as u32,
                        code.reason().as_bytes(),
                    );
                }
                Output::Mail { to, mail } => {
                    if let Err(Full(Mail::Core(mail))) = io.try_mail(PortId(to.0), Mail::Core(mail))
                    {
                        self.core.mail_refused(to, mail);
                    }
                }
                Output::Disk(request) => io.disk(request),
                Output::Control(mut mail) => {
                    match &mut mail {
                        ControlMail::View { view, .. } => self.complete(now, io, view),
                        ControlMail::Declare { origin, remote, .. } => {
                            *remote = self.quic.remote(ConnId::from_u64(origin.session.token));
                        }
                        _ => {}
                    }
                    if let Err(Full(Mail::Control(mail))) =
                        io.try_mail(self.control, Mail::Control(mail))
                    {
                        self.core.control_refused(mail);
                    }
                }
            }
        }
    }

    fn written(&mut self, conn: u64, stream: u64, offered: usize, outcome: WriteOutcome) {
        match outcome {
            WriteOutcome::Written(taken) => {
                // A short write does not say that the next one blocks; offering
                // the rest again does, once.
                self.core.handle_written(conn, stream, taken, false);
                debug_assert!(taken <= offered);
            }
            WriteOutcome::Blocked => self.core.handle_written(conn, stream, 0, true),
            WriteOutcome::Stopped(_) | WriteOutcome::Gone => {
                self.core.handle_stream_lost(conn, stream);
            }
        }
    }

    /// Sends until there is nothing to send, the socket is full, or the turn
    /// has sent its share. True when anything was sent.
    fn transmit(&mut self, now: Instant, io: &mut Io<'_, Mail>) -> bool {
        let segments = io.gso_segments_max().min(SEGMENTS_MAX);
        let mut bytes = 0;
        for sent in 0..TRANSMITS_PER_TURN {
            if bytes >= TRANSMIT_BYTES_PER_TURN {
                return true;
            }
            let quic = &mut self.quic;
            let poll = |buffer: &mut Vec<u8>| quic.poll_transmit(now, segments, buffer);
            let Some((meta, contents)) = self.outbox.poll(segments, poll) else {
                return sent > 0;
            };
            bytes += meta.len;
            let outcome = io.send(&Transmit {
                destination: meta.destination,
                source_ip: meta.source_ip,
                ecn: meta.ecn,
                contents,
                segment_size: meta.segment_size,
            });
            match outcome {
                // What the kernel refused counts as lost on the way.
                SendOutcome::Sent | SendOutcome::Failed(_) => self.outbox.sent(),
                SendOutcome::WouldBlock => return sent > 0,
            }
        }
        true
    }

    /// Passes on what other nodes sent. True when there was anything.
    fn take_frames(&mut self, now: Instant, io: &mut Io<'_, Mail>) -> bool {
        let Some(door) = &mut self.door else {
            return false;
        };
        let worked = door.read(now, &mut self.quic);
        while let Some((from, frame)) = door.poll_frame() {
            let mail = Mail::Peer { from, frame };
            if let Err(Full(Mail::Peer { from, frame })) = io.try_mail(self.control, mail) {
                door.put_back(now, from, frame);
                break;
            }
        }
        worked
    }

    /// Takes the times of requests whose answers are on their way.
    fn take_samples(&mut self) {
        let mut now = None;
        while let Some(sample) = self.core.poll_sample() {
            let now = *now.get_or_insert_with(|| self.monotonic(Instant::now()));
            self.meters.answered(sample, now);
        }
    }

    fn forward_strays(&mut self, io: &mut Io<'_, Mail>) {
        for _ in 0..self.strays.len() {
            let Some((core, stray)) = self.strays.pop_front() else {
                return;
            };
            if let Err(Full(Mail::Stray(stray))) = io.try_mail(PortId(core), Mail::Stray(stray)) {
                self.strays.push_back((core, stray));
            }
        }
    }

    fn advance_drain(&mut self, now: Instant, io: &mut Io<'_, Mail>) {
        let Some(deadline) = self.drain_deadline else {
            return;
        };
        if !self.core.is_drained() {
            if now >= deadline {
                self.core.drain_overdue();
                self.flush(now, io);
            }
            return;
        }
        if let Some(door) = &mut self.door {
            door.hang_up(now, &mut self.quic);
        }
        let leave_at = *self.leave_at.get_or_insert(now + CLOSE_LINGER);
        if self.quic.is_idle() || now >= leave_at {
            let report = ControlMail::Drained {
                core: CoreId(self.me),
                stats: Box::new(self.core.stats()),
            };
            // The box has room once the control thread has looked; until then
            // the core turns on.
            self.finished = io.try_mail(self.control, Mail::Control(report)).is_ok();
        }
    }
}

impl Pump for NodePump {
    type Mail = Mail;

    fn handle_datagram(&mut self, now: Instant, meta: DatagramMeta, data: BytesMut) {
        self.arrived = Some(now);
        match self.quic.owner(&data) {
            Some(owner) if owner != self.me => {
                self.meters.strays += 1;
                if self.strays.len() >= STRAYS_WAITING_MAX {
                    self.meters.strays_dropped += 1;
                    return;
                }
                let stray = Stray {
                    remote: meta.remote,
                    local_ip: meta.local_ip,
                    ecn: meta.ecn,
                    data,
                };
                self.strays.push_back((owner, Box::new(stray)));
            }
            _ => {
                let path = PathMeta {
                    remote: meta.remote,
                    local_ip: meta.local_ip,
                    ecn: meta.ecn,
                };
                self.quic.handle_datagram(now, path, data);
            }
        }
    }

    fn handle_mail(&mut self, now: Instant, _from: PortId, mail: Mail) {
        match mail {
            Mail::Stray(stray) => {
                let path = PathMeta {
                    remote: stray.remote,
                    local_ip: stray.local_ip,
                    ecn: stray.ecn,
                };
                self.quic.handle_datagram(now, path, stray.data);
            }
            Mail::Core(mail) => {
                self.start_turn(now);
                if matches!(mail, CoreMail::Drain) {
                    self.quic.refuse_new(true);
                    self.drain_deadline.get_or_insert(now + self.drain_timeout);
                }
                self.core.handle_mail(mail);
            }
            Mail::Control(_) | Mail::Peer { .. } => {
                unreachable!("{mail:?} is for the control thread")
            }
        }
    }

    fn handle_ended(&mut self, now: Instant, port: PortId) {
        // Without the control thread the node ends, and says so itself.
        if port != self.control {
            self.start_turn(now);
            self.core.handle_core_lost(CoreId(port.0));
        }
    }

    fn handle_disk(&mut self, now: Instant, done: DiskDone) {
        self.start_turn(now);
        self.core.handle_disk_done(done);
    }

    fn drive(&mut self, now: Instant, io: &mut Io<'_, Mail>) -> bool {
        self.start_turn(now);
        if let Some(at) = self.arrived.take() {
            let at = self.monotonic(at);
            self.core.arrived(at);
        }
        if self.quic.next_deadline().is_some_and(|at| at <= now) {
            self.quic.handle_timeout(now);
        }
        let monotonic = self.monotonic(now);
        if self.core.next_deadline().is_some_and(|at| at <= monotonic) {
            self.core.handle_timeout();
        }
        // The application is fed before anything is sent, so that what it has
        // to say shares packets with acknowledgements and with itself.
        let mut worked = self.take_events(now);
        worked |= self.take_frames(now, io);
        while let Some((conn, stream)) = self.readable.pop_front() {
            worked = true;
            self.read(conn, stream);
        }
        self.core.end_turn();
        self.flush(now, io);
        self.advance_drain(now, io);
        worked |= self.transmit(now, io);
        self.forward_strays(io);
        self.take_samples();
        let door_has_work = self.door.as_ref().is_some_and(PeerDoor::has_work);
        worked || self.core.has_work() || !self.readable.is_empty() || door_has_work
    }

    fn next_deadline(&self) -> Option<Instant> {
        let core = self.core.next_deadline().map(|at| self.instant(at));
        [
            self.quic.next_deadline(),
            self.door.as_ref().and_then(PeerDoor::next_deadline),
            core,
            self.drain_deadline,
            self.leave_at,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn finished(&self) -> bool {
        self.finished
    }

    fn handle_stall(&mut self, stall: Stall) {
        self.meters.stalled(&stall);
        tracing::debug!(core = self.me, ?stall, "stall");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_is_reckoned_for_a_moment_and_then_read_again() {
        let read_at = Instant::now();
        let said = Duration::from_micros(5_000_400);
        let mut wall = Wall { read_at, said };
        assert_eq!(wall.at(read_at), WallMs(5000));
        assert_eq!(wall.at(read_at + WALL_EVERY / 2), WallMs(5000));
        assert_eq!(wall.at(read_at + WALL_EVERY * 7 / 10), WallMs(5001));
        assert_eq!(wall.read_at, read_at, "not read yet");
        let now = read_at + WALL_EVERY;
        assert!(wall.at(now) > WallMs(1_000_000_000_000), "this century");
        assert_eq!(wall.read_at, now);
    }
}
