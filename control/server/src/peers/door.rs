//! Where other nodes come in: a data core's endpoint accepts them, this cuts what they
//! send into frames for the control thread. It never waits for that thread and decodes
//! nothing: a peer is held back by its streams' flow control.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use pinion_plane::PeerName;
use pinion_quic::{ConnId, Endpoint, Event, ReadOutcome, StreamId, tls};

use super::credentials::node_of;
use super::frames::{Cutter, STREAMS, StreamError};
use super::{CLOSE_NOT_A_NODE, CLOSE_PROTOCOL, CLOSE_REPLACED, CLOSE_STOPPING, CLOSE_TOO_MANY};

/// Nodes that one core lets in. A cluster has at most 7 voters and 64 observers.
const GUESTS_MAX: usize = 128;

/// Bytes of frames on their way from one core to the control thread. Eight of the largest
/// frames: less holds snapshots back, more is memory when that thread is busy.
const UNDER_WAY_BYTES_MAX: usize = 8 << 20;

/// Bytes that one turn takes from peers. A snapshot comes at this rate beside clients,
/// who wait for it a fraction of a millisecond.
const BYTES_PER_TURN: usize = 256 << 10;

/// When to look again after the control thread had no room.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// The door of one data core.
#[derive(Debug)]
pub(crate) struct PeerDoor {
    cluster: Arc<str>,
    me: PeerName,
    /// By slot of the connection.
    guests: Vec<Option<Box<Guest>>>,
    names: BTreeMap<PeerName, ConnId>,
    /// Streams that may have bytes, each at most once.
    unread: VecDeque<(ConnId, StreamId)>,
    frames: VecDeque<(PeerName, Bytes)>,
    under_way: Arc<AtomicUsize>,
    look_again: Option<Instant>,
    hung_up: bool,
}

/// One connection of another node.
#[derive(Debug)]
struct Guest {
    conn: ConnId,
    /// `None`: turned away, and its end is awaited.
    name: Option<PeerName>,
    inlets: Vec<Inlet>,
}

#[derive(Debug)]
struct Inlet {
    stream: StreamId,
    cutter: Cutter,
    /// It is among the unread ones.
    queued: bool,
}

/// A frame that is counted while anybody holds it.
struct Counted {
    frame: Bytes,
    under_way: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.frame
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.under_way
            .fetch_sub(self.frame.len(), Ordering::Relaxed);
    }
}

impl PeerDoor {
    /// For nodes of `cluster`; `me` is this one, which does not visit itself.
    pub(crate) fn new(cluster: Arc<str>, me: PeerName) -> Self {
        Self {
            cluster,
            me,
            guests: Vec::new(),
            names: BTreeMap::new(),
            unread: VecDeque::new(),
            frames: VecDeque::new(),
            under_way: Arc::default(),
            look_again: None,
            hung_up: false,
        }
    }

    /// Takes what concerns a node's connection and gives back what does not.
    pub(crate) fn handle_event(
        &mut self,
        now: Instant,
        quic: &mut Endpoint,
        event: Event,
    ) -> Option<Event> {
        let conn = match &event {
            Event::Connected { conn, alpn, .. } if alpn == tls::ALPN_PEER => {
                self.welcome(now, quic, *conn);
                return None;
            }
            Event::Connected { .. } => return Some(event),
            Event::Confirmed { conn }
            | Event::StreamOpened { conn, .. }
            | Event::Readable { conn, .. }
            | Event::Writable { conn, .. }
            | Event::StreamStopped { conn, .. }
            | Event::StreamFinished { conn, .. }
            | Event::StreamReset { conn, .. }
            | Event::StreamsAvailable { conn, .. }
            | Event::Closed { conn, .. } => *conn,
        };
        if self.guest(conn).is_none() {
            return Some(event);
        }
        match event {
            Event::StreamOpened {
                stream,
                bidi: false,
                ..
            } => self.take_stream(conn, stream),
            // The other half of requests is a stream of the node that was asked.
            Event::StreamOpened { .. } => self.close(now, quic, conn, CLOSE_PROTOCOL),
            Event::Readable { stream, .. } => self.queue(conn, stream),
            // A lane lasts as long as its connection.
            Event::StreamReset { .. } => self.close(now, quic, conn, CLOSE_PROTOCOL),
            Event::Closed { reason, .. } => {
                let guest = self.guests[conn.slot as usize].take();
                let name = guest.and_then(|guest| guest.name);
                tracing::debug!(peer = ?name, %reason, "a peer's connection ended");
                if let Some(name) = name
                    && self.names.get(&name) == Some(&conn)
                {
                    self.names.remove(&name);
                }
            }
            _ => {}
        }
        None
    }

    /// Reads what peers have sent, as far as there is room for it. True when there was
    /// anything.
    pub(crate) fn read(&mut self, now: Instant, quic: &mut Endpoint) -> bool {
        self.look_again = None;
        let mut bytes = 0;
        let mut worked = false;
        while bytes < BYTES_PER_TURN {
            let Some(&(conn, stream)) = self.unread.front() else {
                break;
            };
            if self.under_way.load(Ordering::Relaxed) >= UNDER_WAY_BYTES_MAX {
                self.look_again = Some(now + LOOK_AGAIN);
                return worked;
            }
            self.unread.pop_front();
            worked = true;
            bytes += self.read_stream(now, quic, conn, stream, BYTES_PER_TURN - bytes);
        }
        worked
    }

    /// The next frame for the control thread.
    pub(crate) fn poll_frame(&mut self) -> Option<(PeerName, Bytes)> {
        self.frames.pop_front()
    }

    /// That thread's box is full: the frame waits.
    pub(crate) fn put_back(&mut self, now: Instant, from: PeerName, frame: Bytes) {
        self.frames.push_front((from, frame));
        self.look_again = Some(now + LOOK_AGAIN);
    }

    #[cfg(test)]
    pub(super) fn under_way(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
    }

    /// When [`read`](Self::read) and [`poll_frame`](Self::poll_frame) are needed although
    /// nothing arrives.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.look_again
    }

    /// Whether a stream has more for the next turn.
    pub(crate) fn has_work(&self) -> bool {
        self.look_again.is_none() && !self.unread.is_empty()
    }

    /// The node stops: the others are told at once, and need not find out. Further calls
    /// do nothing.
    pub(crate) fn hang_up(&mut self, now: Instant, quic: &mut Endpoint) {
        if std::mem::replace(&mut self.hung_up, true) {
            return;
        }
        let guests = self.guests.iter().flatten();
        let conns: Vec<ConnId> = guests.map(|guest| guest.conn).collect();
        for conn in conns {
            self.close(now, quic, conn, CLOSE_STOPPING);
        }
    }

    fn welcome(&mut self, now: Instant, quic: &mut Endpoint, conn: ConnId) {
        let shown = quic.peer_certificates(conn);
        let name = shown.first().and_then(|leaf| node_of(&self.cluster, leaf));
        let verdict = match &name {
            _ if self.hung_up => Err(CLOSE_STOPPING),
            None => Err(CLOSE_NOT_A_NODE),
            Some(name) if *name == self.me => Err(CLOSE_NOT_A_NODE),
            Some(name) if self.names.len() >= GUESTS_MAX && !self.names.contains_key(name) => {
                Err(CLOSE_TOO_MANY)
            }
            Some(name) => Ok(name.clone()),
        };
        let slot = conn.slot as usize;
        if self.guests.len() <= slot {
            self.guests.resize_with(slot + 1, || None);
        }
        self.guests[slot] = Some(Box::new(Guest {
            conn,
            name: verdict.as_ref().ok().cloned(),
            inlets: Vec::new(),
        }));
        match verdict {
            Err(code) => {
                let remote = quic.remote(conn);
                tracing::warn!(peer = ?name, ?remote, code, "a peer is turned away");
                self.close(now, quic, conn, code);
            }
            Ok(name) => {
                // The newer one counts: a node that was started again has forgotten the
                // older, which would go on for as long as its idle timeout.
                if let Some(older) = self.names.insert(name, conn) {
                    self.close(now, quic, older, CLOSE_REPLACED);
                }
                quic.allow_uni_streams(conn, STREAMS);
            }
        }
    }

    fn guest(&mut self, conn: ConnId) -> Option<&mut Guest> {
        let guest = self.guests.get_mut(conn.slot as usize)?.as_deref_mut()?;
        (guest.conn == conn).then_some(guest)
    }

    fn take_stream(&mut self, conn: ConnId, stream: StreamId) {
        let Some(guest) = self.guest(conn) else {
            return;
        };
        // No more than LANES: the transport lets it open no others.
        guest.inlets.push(Inlet {
            stream,
            cutter: Cutter::default(),
            queued: false,
        });
        self.queue(conn, stream);
    }

    fn queue(&mut self, conn: ConnId, stream: StreamId) {
        let inlet = self.guest(conn).and_then(|guest| guest.inlet(stream));
        if let Some(inlet) = inlet
            && !std::mem::replace(&mut inlet.queued, true)
        {
            self.unread.push_back((conn, stream));
        }
    }

    /// Reads up to about `share` bytes of a stream; gives how many it were.
    fn read_stream(
        &mut self,
        now: Instant,
        quic: &mut Endpoint,
        conn: ConnId,
        stream: StreamId,
        share: usize,
    ) -> usize {
        let (frames, under_way) = (&mut self.frames, &self.under_way);
        let guest = self
            .guests
            .get_mut(conn.slot as usize)
            .and_then(Option::as_deref_mut)
            .filter(|guest| guest.conn == conn);
        let Some(Guest {
            name: Some(name),
            inlets,
            ..
        }) = guest
        else {
            return 0;
        };
        let Some(at) = inlets.iter().position(|inlet| inlet.stream == stream) else {
            return 0;
        };
        let Inlet { cutter, queued, .. } = &mut inlets[at];
        *queued = false;
        let was_new = cutter.lane().is_none();
        let mut taken = 0;
        let mut wrong = None;
        let outcome = quic.read_while(conn, stream, |chunk| {
            taken += chunk.len();
            cutter.push(&chunk);
            loop {
                match cutter.poll() {
                    Ok(Some(frame)) => {
                        under_way.fetch_add(frame.len(), Ordering::Relaxed);
                        let under_way = Arc::clone(under_way);
                        let frame = Bytes::from_owner(Counted { frame, under_way });
                        frames.push_back((name.clone(), frame));
                    }
                    Ok(None) => break,
                    Err(error) => {
                        wrong = Some(error);
                        return false;
                    }
                }
            }
            taken < share && under_way.load(Ordering::Relaxed) < UNDER_WAY_BYTES_MAX
        });
        if was_new && let Some(lane) = inlets[at].cutter.lane() {
            let same = |inlet: &&Inlet| inlet.cutter.lane() == Some(lane);
            if inlets.iter().filter(same).count() > 1 {
                wrong = wrong.or(Some(StreamError::LaneTwice));
            }
        }
        match (wrong, outcome) {
            (Some(error), _) => {
                tracing::warn!(peer = %name, %error, "what a peer sends cannot be read");
                self.close(now, quic, conn, CLOSE_PROTOCOL);
            }
            (None, ReadOutcome::Chunk(_)) => self.queue(conn, stream),
            (None, ReadOutcome::Finished | ReadOutcome::Reset(_)) => {
                self.close(now, quic, conn, CLOSE_PROTOCOL);
            }
            (None, ReadOutcome::Blocked | ReadOutcome::Gone) => {}
        }
        taken
    }

    fn close(&mut self, now: Instant, quic: &mut Endpoint, conn: ConnId, code: u32) {
        if let Some(guest) = self.guest(conn) {
            guest.inlets.clear();
        }
        quic.close(now, conn, code, super::reason(code).as_bytes());
    }
}

impl Guest {
    fn inlet(&mut self, stream: StreamId) -> Option<&mut Inlet> {
        self.inlets.iter_mut().find(|inlet| inlet.stream == stream)
    }
}
