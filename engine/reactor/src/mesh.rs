//! Mailboxes between the ports of a node: every data core, and the control
//! thread.
//!
//! Each ordered pair of ports has one single-producer single-consumer ring, so
//! no two threads ever write the same index. A ring is bounded; a full one is
//! the sender's to handle.
//!
//! Sleep and wake. A port that wants to sleep says so (`sleeping = true`),
//! passes a sequentially consistent fence, and looks at its rings once more. A
//! sender pushes, passes the same fence, and looks at `sleeping`. Whatever the
//! order, either the sleeper sees the mail or the sender sees the sleeper: with
//! both fences in one total order, whichever comes second sees the other's
//! write. A port that does not sleep costs its senders one shared read and no
//! system call.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::time::{Duration, Instant};

use ringbuf::traits::{Consumer, Observer, Producer, Split};
use ringbuf::{HeapCons, HeapProd, HeapRb};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

/// A mailbox capacity that suits small mails: 1024 of 64 bytes are 64 KiB per
/// ordered pair of ports.
///
/// Larger absorbs longer bursts before senders see [`Full`]; memory is
/// `ports × (ports − 1) × capacity × size_of::<Mail>()`.
pub const MAILBOX_CAPACITY_DEFAULT: usize = 1024;

/// Most data cores of a mesh.
const CORES_MAX: usize = pinion_types::limits::DATA_CORES_MAX as usize;

/// Address of a port: data core `i` is `PortId(i)`; of `n` data cores, the
/// control thread is `PortId(n)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(pub u16);

impl PortId {
    fn of(index: usize) -> Self {
        Self(u16::try_from(index).expect("DATA_CORES_MAX + 1 fits a u16"))
    }

    /// As an index into a table of ports.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// The mailbox has no room; the mail comes back. Nothing was delivered.
#[derive(Clone, PartialEq, Eq)]
pub struct Full<M>(pub M);

impl<M> fmt::Debug for Full<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Full(..)")
    }
}

/// Joins `data_cores` cores and one control thread, each ordered pair by a
/// mailbox of `capacity` mails.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] for no cores, more than
/// [`pinion_types::limits::DATA_CORES_MAX`], or a capacity
/// of 0; otherwise what the kernel said to `eventfd`.
pub fn mesh<M>(data_cores: usize, capacity: usize) -> io::Result<(Vec<MeshEnd<M>>, ControlEnd<M>)> {
    if data_cores == 0 || data_cores > CORES_MAX || capacity == 0 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("a mesh of {data_cores} cores with mailboxes of {capacity}"),
        ));
    }
    let ports = data_cores + 1;
    let bells = (0..ports)
        .map(|port| Bell::new(port == data_cores).map(Arc::new))
        .collect::<io::Result<Vec<_>>>()?;
    let ended = Arc::new(AtomicUsize::new(0));
    let mut ends: Vec<MeshEnd<M>> = bells
        .iter()
        .enumerate()
        .map(|(port, bell)| MeshEnd {
            port: PortId::of(port),
            bell: Arc::clone(bell),
            outlets: Vec::with_capacity(ports),
            inlets: Vec::with_capacity(ports - 1),
            first: 0,
            ended: Arc::clone(&ended),
            told: vec![false; ports].into(),
            told_count: 0,
        })
        .collect();
    for from in 0..ports {
        for (to, bell) in bells.iter().enumerate() {
            if from == to {
                ends[from].outlets.push(None);
                continue;
            }
            let (mails, box_) = HeapRb::new(capacity).split();
            ends[from].outlets.push(Some(Outlet {
                mails,
                bell: Arc::clone(bell),
            }));
            ends[to].inlets.push(Inlet {
                from: PortId::of(from),
                mails: box_,
            });
        }
    }
    let control = ends.pop().expect("a mesh has at least two ports");
    Ok((ends, ControlEnd { end: control }))
}

/// Wakes one sleeping port. Shared by the port and everyone who sends to it.
///
/// On its own cache lines: senders read `sleeping` after every mail, so it must
/// not share a line with anything that is written often.
#[repr(align(128))]
#[derive(Debug)]
struct Bell {
    sleeping: AtomicBool,
    eventfd: OwnedFd,
}

impl Bell {
    fn new(nonblocking: bool) -> io::Result<Self> {
        // The ring's read of a core's eventfd must wait in the kernel, and for a
        // non-blocking file it would fail with EAGAIN at once. The control
        // thread polls first and must never be held by a read.
        let flags = if nonblocking {
            EventfdFlags::NONBLOCK
        } else {
            EventfdFlags::empty()
        };
        let eventfd = eventfd(0, flags | EventfdFlags::CLOEXEC)?;
        Ok(Self {
            sleeping: AtomicBool::new(false),
            eventfd,
        })
    }

    fn wake_sleeper(&self) {
        fence(Ordering::SeqCst);
        // The plain read keeps the line shared while the peer is awake.
        if self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::AcqRel) {
            // It can only fail when the counter is at its top, and then the
            // peer has 2⁶⁴ − 2 wake-ups waiting for it.
            let _ = rustix::io::write(&self.eventfd, &1_u64.to_ne_bytes());
        }
    }

    fn announce_sleep(&self) {
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    fn rise(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }
}

struct Outlet<M> {
    mails: HeapProd<M>,
    bell: Arc<Bell>,
}

struct Inlet<M> {
    from: PortId,
    mails: HeapCons<M>,
}

/// One port's side of the mesh. A data core owns it.
pub struct MeshEnd<M> {
    port: PortId,
    bell: Arc<Bell>,
    /// By port; `None` at the own one.
    outlets: Vec<Option<Outlet<M>>>,
    inlets: Vec<Inlet<M>>,
    /// Inlet to look at first in the next turn.
    first: usize,
    /// How many ports have ended. Written when one does and never otherwise, so that
    /// looking costs a read of a line that all cores share.
    ended: Arc<AtomicUsize>,
    /// Those that [`MeshEnd::take_ended`] gave, by port.
    told: Box<[bool]>,
    told_count: usize,
}

/// Whoever sleeps learns that this port has ended, however that came.
impl<M> Drop for MeshEnd<M> {
    fn drop(&mut self) {
        // Before it is counted: whoever sees the count finds it gone.
        self.inlets.clear();
        self.ended.fetch_add(1, Ordering::Release);
        for outlet in self.outlets.iter().flatten() {
            outlet.bell.wake_sleeper();
        }
    }
}

impl<M> fmt::Debug for MeshEnd<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeshEnd")
            .field("port", &self.port)
            .field("ports", &self.outlets.len())
            .finish_non_exhaustive()
    }
}

impl<M> MeshEnd<M> {
    /// This port.
    #[must_use]
    pub fn port(&self) -> PortId {
        self.port
    }

    /// The control thread's port.
    #[must_use]
    pub fn control_port(&self) -> PortId {
        PortId::of(self.outlets.len() - 1)
    }

    /// Puts `mail` into the mailbox of `to` and wakes it if it sleeps.
    ///
    /// # Errors
    /// [`Full`] gives the mail back.
    ///
    /// # Panics
    /// When `to` is this port or does not exist.
    pub fn try_send(&mut self, to: PortId, mail: M) -> Result<(), Full<M>> {
        let outlet = self.outlets.get_mut(to.index()).and_then(Option::as_mut);
        let Some(outlet) = outlet else {
            panic!("{:?} has no mailbox towards {to:?}", self.port)
        };
        outlet.mails.try_push(mail).map_err(Full)?;
        outlet.bell.wake_sleeper();
        Ok(())
    }

    /// Takes one mail, if there is one.
    pub fn try_recv(&mut self) -> Option<(PortId, M)> {
        let count = self.inlets.len();
        for step in 0..count {
            let at = (self.first + step) % count;
            let inlet = &mut self.inlets[at];
            if let Some(mail) = inlet.mails.try_pop() {
                self.first = (at + 1) % count;
                return Some((inlet.from, mail));
            }
        }
        None
    }

    /// Hands at most `limit` mails to `take`, or one per peer if that is more,
    /// in equal shares, so that one loud peer does not silence the others.
    pub(crate) fn drain(&mut self, limit: usize, mut take: impl FnMut(PortId, M)) -> usize {
        let count = self.inlets.len();
        let share = (limit / count).max(1);
        let mut taken = 0;
        for step in 0..count {
            let inlet = &mut self.inlets[(self.first + step) % count];
            for mail in inlet.mails.pop_iter().take(share) {
                take(inlet.from, mail);
                taken += 1;
            }
        }
        self.first = (self.first + 1) % count;
        taken
    }

    /// True when `to` has ended; its mailbox is never emptied again.
    #[must_use]
    pub fn is_gone(&self, to: PortId) -> bool {
        let outlet = self.outlets.get(to.index()).and_then(Option::as_ref);
        outlet.is_none_or(|outlet| !outlet.mails.read_is_held())
    }

    /// A port that has ended and of which every mail was taken; each once.
    pub(crate) fn take_ended(&mut self) -> Option<PortId> {
        if self.knows_ended() {
            return None;
        }
        let is_over = |inlet: &&Inlet<M>| {
            let (from, mails) = (inlet.from, &inlet.mails);
            // In this order: what it sent it sent before it ended.
            !self.told[from.index()] && self.is_gone(from) && mails.is_empty()
        };
        let over = self.inlets.iter().find(is_over)?.from;
        self.told[over.index()] = true;
        self.told_count += 1;
        Some(over)
    }

    /// Whether [`Self::take_ended`] has given every port that ended. To be asked between
    /// [`Self::prepare_sleep`] and the sleep: one that ends after that rings.
    pub(crate) fn knows_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire) == self.told_count
    }

    /// Says that this port is about to sleep. True when it may; false when mail
    /// came in the meantime, and then it must not. Either way [`Self::rise`]
    /// comes after.
    pub(crate) fn prepare_sleep(&self) -> bool {
        self.bell.announce_sleep();
        self.inlets.iter().all(|inlet| inlet.mails.is_empty())
    }

    /// Says that this port is awake: nobody needs to wake it.
    pub(crate) fn rise(&self) {
        self.bell.rise();
    }

    /// Becomes readable when mail arrives during sleep. Blocking.
    pub(crate) fn eventfd(&self) -> BorrowedFd<'_> {
        self.bell.eventfd.as_fd()
    }
}

/// The control thread's side of the mesh; usable from any plain thread, or from
/// a runtime that can wait for a file descriptor ([`AsFd`]).
#[derive(Debug)]
pub struct ControlEnd<M> {
    end: MeshEnd<M>,
}

impl<M> ControlEnd<M> {
    /// The control thread's port.
    #[must_use]
    pub fn port(&self) -> PortId {
        self.end.port
    }

    /// Puts `mail` into the mailbox of `to` and wakes it if it sleeps.
    ///
    /// # Errors
    /// [`Full`] gives the mail back.
    ///
    /// # Panics
    /// When `to` is the control port or does not exist.
    pub fn try_send(&mut self, to: PortId, mail: M) -> Result<(), Full<M>> {
        self.end.try_send(to, mail)
    }

    /// True when core `to` has ended.
    #[must_use]
    pub fn is_gone(&self, to: PortId) -> bool {
        self.end.is_gone(to)
    }

    /// Takes one mail, if there is one. Does not wait.
    pub fn try_recv(&mut self) -> Option<(PortId, M)> {
        self.end.try_recv()
    }

    /// Takes one mail, waiting up to `timeout` for it. `None` when none came.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Option<(PortId, M)> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(mail) = self.end.try_recv() {
                return Some(mail);
            }
            if self.prepare_wait() {
                let left = deadline.saturating_duration_since(Instant::now());
                // An interrupted or failed wait is a short one: the loop looks
                // at the mailboxes and the clock again.
                let _ = poll(
                    &mut [PollFd::new(&self.end.bell.eventfd, PollFlags::IN)],
                    Some(&timespec(left)),
                );
            }
            self.finish_wait();
            if Instant::now() >= deadline {
                return self.end.try_recv();
            }
        }
    }

    /// For a runtime that waits on [`AsFd`] itself: announces the sleep. True
    /// when it may wait; false when there is mail already. Call
    /// [`finish_wait`](Self::finish_wait) afterwards in both cases.
    #[must_use]
    pub fn prepare_wait(&self) -> bool {
        self.end.prepare_sleep()
    }

    /// Ends what [`prepare_wait`](Self::prepare_wait) began and makes the
    /// descriptor unreadable again.
    pub fn finish_wait(&self) {
        self.end.rise();
        // Non-blocking: EAGAIN says that nobody rang, which is as good.
        let _ = rustix::io::read(&self.end.bell.eventfd, &mut [0_u8; 8]);
    }
}

impl<M> AsFd for ControlEnd<M> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.end.bell.eventfd.as_fd()
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_ordered_pair_of_ports_has_its_own_mailbox() {
        let (mut cores, mut control) = mesh::<(u16, u16)>(3, 4).unwrap();
        for from in 0..3_u16 {
            for to in (0..4_u16).filter(|to| *to != from) {
                cores[usize::from(from)]
                    .try_send(PortId(to), (from, to))
                    .unwrap();
            }
        }
        (0..3).for_each(|to| control.try_send(PortId(to), (3, to)).unwrap());
        for (port, end) in cores.iter_mut().enumerate() {
            let mut senders = Vec::new();
            while let Some((from, mail)) = end.try_recv() {
                assert_eq!(mail, (from.0, u16::try_from(port).unwrap()));
                senders.push(from.index());
            }
            let expected: Vec<_> = (0..4).filter(|from| *from != port).collect();
            senders.sort_unstable();
            assert_eq!(senders, expected);
        }
        assert_eq!(std::iter::from_fn(|| control.try_recv()).count(), 3);
    }

    #[test]
    fn a_full_mailbox_gives_the_mail_back_and_takes_it_after_a_read() {
        let (mut cores, mut control) = mesh::<u32>(1, 2).unwrap();
        control.try_send(PortId(0), 1).unwrap();
        control.try_send(PortId(0), 2).unwrap();
        assert_eq!(control.try_send(PortId(0), 3), Err(Full(3)));
        assert_eq!(cores[0].try_recv(), Some((PortId(1), 1)));
        control.try_send(PortId(0), 3).unwrap();
    }

    #[test]
    fn a_loud_peer_gets_no_more_than_its_share_of_a_turn() {
        let (mut cores, mut control) = mesh::<&str>(2, 64).unwrap();
        let (first, second) = cores.split_at_mut(1);
        (0..50).for_each(|_| control.try_send(PortId(0), "loud").unwrap());
        second[0].try_send(PortId(0), "quiet").unwrap();
        let mut seen = Vec::new();
        let taken = first[0].drain(16, |_, mail| seen.push(mail));
        assert_eq!(
            (taken, seen.iter().filter(|mail| **mail == "quiet").count()),
            (9, 1)
        );
    }

    #[test]
    fn a_port_that_ended_is_reported_as_gone() {
        let (mut cores, control) = mesh::<u32>(2, 2).unwrap();
        assert!(!control.is_gone(PortId(1)));
        drop(cores.pop());
        assert!(control.is_gone(PortId(1)));
        assert!(!control.is_gone(PortId(0)));
    }

    #[test]
    fn a_port_that_ended_is_told_once_after_its_last_mail_and_wakes_whoever_sleeps() {
        let (mut cores, control) = mesh::<u64>(3, 4).unwrap();
        let mut gone = cores.pop().unwrap();
        let mut other = cores.pop().unwrap();
        let mut first = cores.pop().unwrap();
        gone.try_send(PortId(0), 7).unwrap();
        assert!(first.take_ended().is_none() && other.prepare_sleep() && other.knows_ended());
        drop(gone);
        // It did not know when it went to sleep: the bell has rung.
        rustix::io::read(other.eventfd(), &mut [0_u8; 8]).unwrap();
        assert_eq!(other.take_ended(), Some(PortId(2)));
        assert_eq!(first.take_ended(), None, "its mail waits");
        assert!(!first.knows_ended());
        assert_eq!(first.try_recv(), Some((PortId(2), 7)));
        assert_eq!(first.take_ended(), Some(PortId(2)));
        assert_eq!(first.take_ended(), None);
        drop(control);
        assert_eq!(first.take_ended(), Some(PortId(3)));
        assert!(first.knows_ended());
    }

    #[test]
    fn a_wait_without_mail_ends_at_its_timeout() {
        let (_cores, mut control) = mesh::<u32>(1, 2).unwrap();
        assert_eq!(control.recv_timeout(Duration::from_millis(1)), None);
    }

    #[test]
    fn nonsense_sizes_are_refused() {
        assert!(mesh::<u32>(0, 4).is_err());
        assert!(mesh::<u32>(2, 0).is_err());
        assert!(mesh::<u32>(CORES_MAX + 1, 1).is_err());
    }

    /// Blocks on the eventfd as a parked core does.
    fn sleep_until_mail(end: &mut MeshEnd<u64>) -> u64 {
        loop {
            if let Some((_, mail)) = end.try_recv() {
                return mail;
            }
            if end.prepare_sleep() {
                rustix::io::read(end.eventfd(), &mut [0_u8; 8]).unwrap();
            }
            end.rise();
        }
    }

    #[test]
    fn no_wake_up_is_lost_between_two_threads_that_sleep_after_every_mail() {
        // Strict ping-pong: one lost wake-up hangs both threads for ever, and
        // each of the mails races a sender against a peer going to sleep.
        const ROUNDS: u64 = 30_000;
        let (mut cores, _control) = mesh::<u64>(2, 1).unwrap();
        let mut second = cores.pop().unwrap();
        let mut first = cores.pop().unwrap();
        let echo = std::thread::spawn(move || {
            for _ in 0..ROUNDS {
                let mail = sleep_until_mail(&mut second);
                second.try_send(PortId(0), mail + 1).unwrap();
            }
        });
        for round in 0..ROUNDS {
            first.try_send(PortId(1), round).unwrap();
            assert_eq!(sleep_until_mail(&mut first), round + 1);
        }
        echo.join().unwrap();
    }

    #[test]
    fn a_stream_of_mail_to_a_plain_thread_arrives_whole_and_in_order() {
        const MAILS: u64 = 100_000;
        let (mut cores, mut control) = mesh::<u64>(1, 64).unwrap();
        let mut core = cores.pop().unwrap();
        let sender = std::thread::spawn(move || {
            for mail in 0..MAILS {
                let mut next = mail;
                while let Err(Full(back)) = core.try_send(PortId(1), next) {
                    next = back;
                    std::thread::yield_now();
                }
            }
        });
        for expected in 0..MAILS {
            let (_, mail) = control
                .recv_timeout(Duration::from_secs(60))
                .expect("a lost wake-up");
            assert_eq!(mail, expected);
        }
        sender.join().unwrap();
    }
}
