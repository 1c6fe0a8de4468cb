//! The ring a core sleeps on: readiness of its socket and its next deadline, as
//! completions of one small `io_uring`, announced through one eventfd.
//!
//! glommio offers no public "await readable". It can read an eventfd, and this
//! ring signals one. While the core works the signal is gated off, and with
//! deferred task work the kernel neither interrupts the core nor runs anything
//! for a datagram that arrives: it notes that there is work and goes on.
#![allow(unsafe_code)] // Submitting to a ring is unsafe in every wrapper.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use io_uring::types::{Fd, TimeoutFlags, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

/// Requests the ring can take between two submissions; it never has more than
/// four: two polls, a timer and its change.
const ENTRIES: u32 = 8;

const READABLE: u64 = 1;
const WRITABLE: u64 = 2;
const TIMER: u64 = 3;
const TIMER_CHANGE: u64 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Timer {
    Off,
    /// Fires at this time. It may be earlier than the pump's deadline, never
    /// later: an early wake-up costs a turn, a change costs a request.
    At(Instant),
}

pub(crate) struct WaitRing {
    ring: IoUring,
    /// Own handle, so that the descriptor cannot be reused under the polls.
    socket: OwnedFd,
    readable_armed: bool,
    writable_armed: bool,
    timer: Timer,
}

impl WaitRing {
    /// A ring for this thread, which signals `bell`. Must be made on the thread
    /// that uses it.
    pub(crate) fn new(socket: BorrowedFd<'_>, bell: BorrowedFd<'_>) -> io::Result<Self> {
        let ring = build(ENTRIES)?;
        ring.submitter().register_eventfd(bell.as_raw_fd())?;
        let mut wait = Self {
            ring,
            socket: socket.try_clone_to_owned()?,
            readable_armed: false,
            writable_armed: false,
            timer: Timer::Off,
        };
        wait.close_gate();
        wait.submit(None, false)?;
        Ok(wait)
    }

    /// Arms what the next sleep needs and takes the completions that are due.
    /// True when any of them calls for a turn. The gate must be closed: a
    /// completion taken here shall not also ring the bell.
    pub(crate) fn prepare(
        &mut self,
        deadline: Option<Instant>,
        want_writable: bool,
    ) -> io::Result<bool> {
        let change = deadline.filter(|deadline| match self.timer {
            Timer::Off => true,
            Timer::At(armed) => *deadline < armed,
        });
        let arm_writable = want_writable && !self.writable_armed;
        if !self.readable_armed || arm_writable || change.is_some() || self.has_task_work() {
            self.submit(change, arm_writable)?;
        }
        Ok(self.take_completions())
    }

    /// Lets completions ring the bell from now on. True when the core may sleep;
    /// false when something completed before the gate was open, which rings
    /// nothing.
    pub(crate) fn open_gate(&mut self) -> bool {
        self.ring.completion().enable_eventfd();
        // The kernel notes its work (a locked operation) and then looks at the
        // gate; we open the gate and then look for noted work. The fence orders
        // our two, so one side always sees the other.
        fence(Ordering::SeqCst);
        !self.has_task_work() && self.ring.completion().is_empty()
    }

    pub(crate) fn close_gate(&mut self) {
        self.ring.completion().disable_eventfd();
    }

    fn has_task_work(&mut self) -> bool {
        // Where atomics are not full barriers, the kernel's flag may be seen
        // late: then always ask the kernel itself.
        !cfg!(target_arch = "x86_64") || self.ring.submission().taskrun()
    }

    fn submit(&mut self, timer: Option<Instant>, writable: bool) -> io::Result<()> {
        let socket = Fd(self.socket.as_raw_fd());
        let mut spec = Timespec::new();
        if !self.readable_armed {
            let poll = opcode::PollAdd::new(socket, libc::POLLIN as u32)
                .multi(true)
                .build();
            self.push(&poll.user_data(READABLE))?;
            self.readable_armed = true;
        }
        if writable {
            let poll = opcode::PollAdd::new(socket, libc::POLLOUT as u32).build();
            self.push(&poll.user_data(WRITABLE))?;
            self.writable_armed = true;
        }
        if let Some(deadline) = timer {
            let left = deadline
                .saturating_duration_since(Instant::now())
                .max(Duration::from_nanos(1));
            spec = Timespec::from(left);
            let entry = match self.timer {
                Timer::Off => opcode::Timeout::new(&raw const spec)
                    .build()
                    .user_data(TIMER),
                // A change that worked is no news. One that did not comes too
                // late: the timer's own completion is there.
                Timer::At(_) => opcode::TimeoutUpdate::new(TIMER, &raw const spec)
                    .flags(TimeoutFlags::empty())
                    .build()
                    .flags(squeue::Flags::SKIP_SUCCESS)
                    .user_data(TIMER_CHANGE),
            };
            self.push(&entry)?;
            self.timer = Timer::At(deadline);
        }
        // Also runs deferred task work, which turns noted work into completions.
        let submitted = self.enter();
        // The kernel copied the time while it took the requests.
        let _ = spec;
        submitted
    }

    fn enter(&self) -> io::Result<()> {
        loop {
            match self.ring.submit() {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Completions must be taken first; the caller does that next.
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: the descriptors in the entry are owned by `self` and outlive
        // the ring's use of them; the time a timer entry points to lives in
        // `submit`'s frame until the kernel has copied it, which it does in the
        // same call (no SQPOLL, and SUBMIT_ALL is not needed as entries of ours
        // are never refused at submission). No entry holds another pointer.
        let pushed = unsafe { self.ring.submission().push(entry) };
        pushed.map_err(|_| io::Error::other("the wait ring's submission queue is full"))
    }

    fn take_completions(&mut self) -> bool {
        let mut any = false;
        for completion in self.ring.completion() {
            match completion.user_data() {
                READABLE => {
                    self.readable_armed = cqueue::more(completion.flags());
                    any = true;
                }
                WRITABLE => {
                    self.writable_armed = false;
                    any = true;
                }
                TIMER => {
                    self.timer = Timer::Off;
                    any = true;
                }
                _ => {}
            }
        }
        any
    }
}

/// The best ring of `entries` this kernel offers. All of them keep the same
/// promises; the first one spares the core an interrupt per datagram.
pub(crate) fn build(entries: u32) -> io::Result<IoUring> {
    let deferred = IoUring::builder()
        .dontfork()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .build(entries);
    match deferred {
        // Before Linux 6.1.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            IoUring::builder().dontfork().build(entries)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    fn rang(bell: &OwnedFd, wait: Duration) -> bool {
        let wait = rustix::event::Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap(),
            tv_nsec: i64::from(wait.subsec_nanos()),
        };
        let rang = poll(&mut [PollFd::new(bell, PollFlags::IN)], Some(&wait)).unwrap() == 1;
        if rang {
            rustix::io::read(bell, &mut [0; 8]).unwrap();
        }
        rang
    }

    const LONG: Duration = Duration::from_secs(20);

    fn setup() -> (WaitRing, OwnedFd, UdpSocket, UdpSocket) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(socket.local_addr().unwrap()).unwrap();
        let bell = eventfd(0, EventfdFlags::empty()).unwrap();
        let ring = WaitRing::new(socket.as_fd(), bell.as_fd()).unwrap();
        (ring, bell, socket, client)
    }

    #[test]
    fn the_bell_is_silent_while_the_gate_is_closed_and_rings_when_it_is_open() {
        let (mut ring, bell, socket, client) = setup();
        client.send(b"1").unwrap();
        assert!(!rang(&bell, Duration::ZERO), "gate closed");
        assert!(
            ring.prepare(None, false).unwrap(),
            "the datagram is a reason for a turn"
        );
        socket.recv(&mut [0; 8]).unwrap();
        assert!(!ring.prepare(None, false).unwrap());
        assert!(ring.open_gate());
        assert!(
            !rang(&bell, Duration::ZERO),
            "nothing to ring for, not even its own completions"
        );
        client.send(b"2").unwrap();
        assert!(rang(&bell, LONG));
    }

    #[test]
    fn a_datagram_between_the_last_look_and_the_gate_forbids_sleep() {
        let (mut ring, _bell, _socket, client) = setup();
        assert!(!ring.prepare(None, false).unwrap());
        client.send(b"1").unwrap();
        assert!(!ring.open_gate());
    }

    #[test]
    fn an_earlier_deadline_replaces_a_later_one() {
        let (mut ring, bell, ..) = setup();
        let now = Instant::now();
        ring.prepare(Some(now + LONG * 100), false).unwrap();
        ring.prepare(Some(now + Duration::from_millis(2)), false)
            .unwrap();
        assert!(ring.open_gate());
        assert!(rang(&bell, LONG));
        assert!(now.elapsed() >= Duration::from_millis(2));
        ring.close_gate();
        assert!(
            ring.prepare(None, false).unwrap(),
            "the timer is a reason for a turn"
        );
        assert!(!ring.prepare(None, false).unwrap(), "once");
    }

    #[test]
    fn a_timer_can_be_armed_again_after_it_fired() {
        let (mut ring, bell, ..) = setup();
        for _ in 0..3 {
            let armed = ring
                .prepare(Some(Instant::now() + Duration::from_millis(1)), false)
                .unwrap();
            assert!(armed || !ring.open_gate() || rang(&bell, LONG));
            ring.close_gate();
            ring.prepare(None, false).unwrap();
            assert_eq!(ring.timer, Timer::Off);
        }
    }

    #[test]
    fn room_in_the_send_buffer_is_a_reason_for_a_turn() {
        let (mut ring, ..) = setup();
        assert!(ring.prepare(None, true).unwrap(), "an idle socket has room");
        assert!(!ring.prepare(None, false).unwrap());
    }
}
