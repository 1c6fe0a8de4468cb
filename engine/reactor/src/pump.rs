//! What a data core is made of, seen from the loop that turns it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use hdrhistogram::Histogram;
use pinion_commitlog::{DiskDone, DiskRequest};

use crate::disk::Disk;
use crate::mesh::{Full, MeshEnd, PortId};
use crate::tx::{Sender, SocketWire};

/// Where a datagram came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatagramMeta {
    /// The peer. On a dual-stack socket an IPv4 peer appears in its mapped form
    /// (`::ffff:a.b.c.d`); answer to the same form.
    pub remote: SocketAddr,
    /// The address of this machine which the peer wrote to.
    pub local_ip: Option<IpAddr>,
    /// The two bits of explicit congestion notification (RFC 3168), `0..=3`.
    pub ecn: Option<u8>,
}

/// One datagram, or a train of equal ones, to one peer.
#[derive(Debug, Clone, Copy)]
pub struct Transmit<'a> {
    /// The peer.
    pub destination: SocketAddr,
    /// Address to send from; what [`DatagramMeta::local_ip`] said.
    pub source_ip: Option<IpAddr>,
    /// The two bits of explicit congestion notification (RFC 3168), `0..=3`.
    pub ecn: Option<u8>,
    /// The bytes: one datagram, or several laid end to end.
    pub contents: &'a [u8],
    /// Length of each datagram in `contents` but the last, which may be shorter.
    /// `None` when `contents` is one datagram.
    pub segment_size: Option<usize>,
}

/// What became of a [`Transmit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendOutcome {
    /// The kernel has it.
    Sent,
    /// The socket's buffer is full. Keep it and offer the same transmit next
    /// turn; the core wakes when there is room.
    WouldBlock,
    /// The kernel refused it, for example a probe above the path's MTU. It
    /// counts as lost; what cannot be sent now cannot be sent later either.
    Failed(io::ErrorKind),
}

/// A data core's application: a synchronous state machine turned by
/// [`run_core`](crate::run_core).
///
/// It lives on one core's thread from construction to drop and need not be
/// `Send`. A turn is: datagrams, then mail, then completions of the disk, then
/// [`drive`](Self::drive).
pub trait Pump {
    /// Messages between cores, and between the control thread and a core.
    type Mail: Send + 'static;

    /// Takes one datagram. Called at most some hundred times a turn.
    fn handle_datagram(&mut self, now: Instant, meta: DatagramMeta, data: BytesMut);

    /// Takes one message from another port.
    fn handle_mail(&mut self, now: Instant, from: PortId, mail: Self::Mail);

    /// Takes the answer to one [`Io::disk`]. Each request gets exactly one, in
    /// any order.
    ///
    /// # Panics
    /// Unless implemented: an answer that is lost is a log that waits for ever.
    fn handle_disk(&mut self, now: Instant, done: DiskDone) {
        let _ = now;
        panic!("a pump that asks the disk takes its answers, also {done:?}");
    }

    /// Another port has ended, after a panic or its drain; everything that it sent was
    /// handed over, and what is in its mailbox nobody takes. Each port once.
    fn handle_ended(&mut self, now: Instant, port: PortId) {
        let _ = (now, port);
    }

    /// Fires due timers, runs the application, sends what is to be sent. Called
    /// after the inputs of every turn that had some, when the deadline has come,
    /// and in any case after it did something or met a full socket or mailbox.
    /// True when anything was done: then the core turns again at once instead of
    /// parking. It must bound its own work.
    fn drive(&mut self, now: Instant, io: &mut Io<'_, Self::Mail>) -> bool;

    /// When [`drive`](Self::drive) wants to be called next even if nothing
    /// arrives; `None` when never.
    fn next_deadline(&self) -> Option<Instant>;

    /// True when the core shall leave its loop, after its drain.
    fn finished(&self) -> bool;

    /// A turn took longer than the stall threshold (5 ms by default). Count it;
    /// it has been logged.
    fn handle_stall(&mut self, stall: Stall);
}

/// Part of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Receiving datagrams and [`Pump::handle_datagram`].
    Receive,
    /// [`Pump::handle_mail`].
    Mail,
    /// Completions of the disk and [`Pump::handle_disk`].
    Disk,
    /// [`Pump::drive`], sends and handing requests to the disk included.
    Drive,
}

/// A turn that took too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stall {
    /// The whole turn.
    pub duration: Duration,
    /// The phase which took the largest part of it.
    pub phase: Phase,
    /// That part.
    pub phase_duration: Duration,
}

/// Counters of one core since it started. Read from inside the core.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CoreStats {
    /// Turns that did something.
    pub turns_busy: u64,
    /// Time spent in turns that did something: the core's load. An idle spin
    /// does not count.
    pub busy: Duration,
    /// Datagrams received.
    pub datagrams_received: u64,
    /// Failed receive calls, other than "nothing there".
    pub receive_errors: u64,
    /// Mails taken.
    pub mails_received: u64,
    /// Sleeps, naps among them.
    pub parks: u64,
    /// Short sleeps of one system call, between work that keeps coming.
    pub naps: u64,
    /// Turns longer than the stall threshold.
    pub stalls: u64,
    /// Transmits the kernel took.
    pub transmits_sent: u64,
    /// Transmits that met a full socket buffer.
    pub transmits_blocked: u64,
    /// Transmits the kernel refused.
    pub transmits_failed: u64,
    /// Trains that had to be sent one datagram at a time.
    pub trains_split: u64,
    /// Writes that became durable.
    pub disk_writes: u64,
    /// Their bytes.
    pub disk_written_bytes: u64,
    /// Time from asking to durable, of all of them together;
    /// [`Io::disk_latency`] has the distribution.
    pub disk_write_time: Duration,
    /// The slowest of them.
    pub disk_write_time_max: Duration,
    /// Reads that were answered.
    pub disk_reads: u64,
    /// Their bytes.
    pub disk_read_bytes: u64,
    /// Flushes beside the writes: of files made or shortened, and of folders.
    pub disk_flushes: u64,
    /// Requests that failed, of every kind.
    pub disk_errors: u64,
}

/// What a [`Pump`] may do to the world during [`Pump::drive`].
pub struct Io<'a, M> {
    /// With the time at which the turn's drive began.
    pub(crate) disk: Option<(&'a mut Disk, Instant)>,
    pub(crate) sender: &'a mut Sender<SocketWire>,
    pub(crate) mesh: &'a mut MeshEnd<M>,
    pub(crate) stats: &'a CoreStats,
    pub(crate) blocked: &'a mut bool,
    pub(crate) mail_refused: &'a mut bool,
}

impl<M> Io<'_, M> {
    /// Sends now. A train goes to the kernel in one call where segmentation
    /// offload works, and one datagram at a time where it does not (R18).
    pub fn send(&mut self, transmit: &Transmit<'_>) -> SendOutcome {
        let outcome = self.sender.send(transmit);
        if outcome == SendOutcome::WouldBlock {
            *self.blocked = true;
        }
        outcome
    }

    /// Most datagrams of one train; 1 where segmentation offload is off.
    ///
    /// The kernel also limits a train to 65,507 bytes: clamp to that divided by
    /// the path's MTU. A longer train is sent one datagram at a time.
    #[must_use]
    pub fn gso_segments_max(&self) -> usize {
        self.sender.segments_max()
    }

    /// Puts `mail` into the mailbox of `to` and wakes it if it sleeps.
    ///
    /// # Errors
    /// [`Full`] gives the mail back. Keep it and try next turn (the core turns
    /// again within 100 µs), or refuse the request behind it.
    ///
    /// # Panics
    /// When `to` is this core or does not exist.
    pub fn try_mail(&mut self, to: PortId, mail: M) -> Result<(), Full<M>> {
        let sent = self.mesh.try_send(to, mail);
        if sent.is_err() {
            *self.mail_refused = true;
        }
        sent
    }

    /// True when `to` has ended and will never take mail again.
    #[must_use]
    pub fn is_gone(&self, to: PortId) -> bool {
        self.mesh.is_gone(to)
    }

    /// This core's port.
    #[must_use]
    pub fn port(&self) -> PortId {
        self.mesh.port()
    }

    /// Asks the disk of this core. It begins when the drive is over; the answer
    /// comes by [`Pump::handle_disk`], also after a failure, and at once when
    /// the core sleeps. A request cannot be taken back.
    ///
    /// Requests of one file begin in order, but a write does not wait for reads.
    /// At most 16 reads are in flight; more wait.
    ///
    /// # Panics
    /// On a core without a disk ([`CoreConfig::disk`](crate::CoreConfig::disk)),
    /// and beyond 16,384 requests that are not done, which no log asks for.
    pub fn disk(&mut self, request: DiskRequest) {
        let (disk, now) = self
            .disk
            .as_mut()
            .expect("only a core with a data directory has logs");
        disk.ask(*now, request);
    }

    /// Nanoseconds from asking for a write to its being durable, to two digits;
    /// `None` on a core without a disk.
    #[must_use]
    pub fn disk_latency(&self) -> Option<&Histogram<u64>> {
        self.disk.as_ref().map(|(disk, _)| disk.latency())
    }

    /// The counters up to the previous turn, those of sends and the disk up to
    /// now.
    #[must_use]
    pub fn stats(&self) -> CoreStats {
        let mut stats = self.sender.merge_into(*self.stats);
        if let Some((disk, _)) = &self.disk {
            disk.merge_into(&mut stats);
        }
        stats
    }

    /// Datagrams the kernel dropped because this core's socket buffer was full,
    /// since the socket was opened (wraps at 2³²). `None` where the kernel does
    /// not tell. One system call: ask once a second, not once a turn.
    #[must_use]
    pub fn receive_drops(&self) -> Option<u32> {
        self.sender.wire().receive_drops()
    }
}
