//! A short sleep in one system call, for a core that expects work soon.
//!
//! Parking through glommio costs a dozen system calls and two rings, because it
//! lets glommio's own tasks run on. A core whose waits are short passes through
//! glommio's rings often enough as it is; between those passes it sleeps in
//! `ppoll` on the socket and the bell. Level-triggered: what arrived before the
//! call ends it at once, so nothing has to be ordered against it but the mail
//! and the disk, which announce themselves by the bell.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Longest nap. Longer saves wake-ups of a core that waits about a millisecond,
/// and delays glommio's tasks by as much; a core that found nothing for so long
/// is idle and parks.
pub(crate) const NAP_MAX: Duration = Duration::from_millis(1);

/// What a core naps on.
pub(crate) struct Nap {
    /// Own handle, so that the descriptor cannot be reused meanwhile.
    socket: OwnedFd,
}

impl Nap {
    pub(crate) fn new(socket: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self {
            socket: socket.try_clone_to_owned()?,
        })
    }

    /// Sleeps until a datagram is there, the bell rings, the socket has room
    /// (when `want_writable`), or `longest` is over. Silences the bell.
    pub(crate) fn sleep(
        &self,
        bell: BorrowedFd<'_>,
        longest: Duration,
        want_writable: bool,
    ) -> io::Result<()> {
        let mut wanted = PollFlags::IN;
        if want_writable {
            wanted |= PollFlags::OUT;
        }
        let longest = longest.min(NAP_MAX);
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(longest.subsec_nanos()),
        };
        let mut events = [
            PollFd::from_borrowed_fd(self.socket.as_fd(), wanted),
            PollFd::from_borrowed_fd(bell, PollFlags::IN),
        ];
        match poll(&mut events, Some(&timeout)) {
            // An interrupted nap is a short one.
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if events[1].revents().contains(PollFlags::IN) {
            // Blocking, but it has been rung, and nobody else reads it.
            rustix::io::read(bell, &mut [0_u8; 8])?;
        }
        Ok(())
    }
}

// `tv_sec` is zero above.
const _: () = assert!(NAP_MAX.as_secs() == 0);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rustix::event::{EventfdFlags, eventfd};
    use std::net::UdpSocket;
    use std::time::Instant;

    fn is_rung(bell: &OwnedFd) -> bool {
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut [PollFd::new(bell, PollFlags::IN)], Some(&now)).unwrap() == 1
    }

    fn setup() -> (Nap, OwnedFd, UdpSocket) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let bell = eventfd(0, EventfdFlags::empty()).unwrap();
        (Nap::new(socket.as_fd()).unwrap(), bell, socket)
    }

    /// Shortest of some naps: longer ones were held up by others.
    fn shortest(mut nap: impl FnMut()) -> Duration {
        let time = |_| {
            let start = Instant::now();
            nap();
            start.elapsed()
        };
        (0..20).map(time).min().unwrap()
    }

    #[test]
    fn nothing_lets_a_nap_last_as_long_as_was_asked() {
        let (nap, bell, _socket) = setup();
        let asked = Duration::from_micros(300);
        let took = shortest(|| nap.sleep(bell.as_fd(), asked, false).unwrap());
        assert!(took >= asked, "{took:?}");
        let took = shortest(|| nap.sleep(bell.as_fd(), NAP_MAX * 1000, false).unwrap());
        assert!(took >= NAP_MAX && took < NAP_MAX * 100, "{took:?}");
    }

    #[test]
    fn the_bell_a_datagram_and_room_to_send_each_end_a_nap() {
        let (nap, bell, socket) = setup();
        let rung = shortest(|| {
            rustix::io::write(&bell, &1_u64.to_ne_bytes()).unwrap();
            nap.sleep(bell.as_fd(), NAP_MAX, false).unwrap();
            assert!(!is_rung(&bell), "it is silent afterwards");
        });
        let room = shortest(|| nap.sleep(bell.as_fd(), NAP_MAX, true).unwrap());
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(b"1", socket.local_addr().unwrap()).unwrap();
        let datagram = shortest(|| nap.sleep(bell.as_fd(), NAP_MAX, false).unwrap());
        for took in [rung, room, datagram] {
            assert!(took < NAP_MAX / 2, "{took:?}");
        }
    }
}
