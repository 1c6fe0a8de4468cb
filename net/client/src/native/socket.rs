//! The UDP socket: never blocks, receives with GRO, sends with GSO.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use bytes::BytesMut;
use quinn_udp::{EcnCodepoint, RecvMeta, Transmit, UdpSocketState};

/// Receive buffers handed to the kernel at once while datagrams keep coming.
/// More amortise the call over more flows; each costs [`BUFFER_BYTES`].
const BUFFERS: usize = 8;

/// Bytes of one receive buffer: the largest batch GRO hands over.
const BUFFER_BYTES: usize = 65_536;

/// Asked of the kernel for each direction; it may give less. Smaller loses
/// bursts of deliveries while the thread is away.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// Datagrams are copied into blocks of this size and split off, so that the
/// allocator is asked once per block, and not even that when everything split
/// off the last block has been dropped.
const ARENA_BYTES: usize = 256 << 10;

/// What GSO and GRO the kernel offers on a fresh socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offload {
    /// Most segments of one send; 1 means no GSO.
    pub gso_segments: usize,
    /// Most segments of one receive; 1 means no GRO.
    pub gro_segments: usize,
}

/// Asks the kernel what GSO and GRO it offers. Answers 1 and 1 when no socket
/// can be opened.
#[must_use]
pub fn offload() -> Offload {
    UdpSocket::bind(("127.0.0.1", 0))
        .and_then(|socket| UdpSocketState::new((&socket).into()))
        .map_or(
            Offload {
                gso_segments: 1,
                gro_segments: 1,
            },
            |state| Offload {
                gso_segments: state.max_gso_segments(),
                gro_segments: state.gro_segments(),
            },
        )
}

/// Where a datagram came from.
pub(super) struct Arrival {
    pub(super) remote: SocketAddr,
    pub(super) local_ip: Option<IpAddr>,
    pub(super) ecn: Option<u8>,
}

/// What became of a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// The kernel has it, or refused it for good: QUIC takes that for a loss.
    Done,
    /// The socket buffer is full; offer the same bytes again.
    WouldBlock,
}

pub(super) struct Socket {
    socket: UdpSocket,
    state: UdpSocketState,
    buffers: Vec<u8>,
    metas: [RecvMeta; BUFFERS],
    arena: BytesMut,
    batch: usize,
}

impl Socket {
    pub(super) fn bind(local: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(local)?;
        // Sets O_NONBLOCK, GRO, ECN and packet information as the kernel has them.
        let state = UdpSocketState::new((&socket).into())?;
        // Refused sizes are not an error: the kernel's maximum is what there is.
        let _ = state.set_recv_buffer_size((&socket).into(), SOCKET_BUFFER_BYTES);
        let _ = state.set_send_buffer_size((&socket).into(), SOCKET_BUFFER_BYTES);
        Ok(Self {
            socket,
            state,
            buffers: vec![0; BUFFERS * BUFFER_BYTES],
            metas: [RecvMeta::default(); BUFFERS],
            arena: BytesMut::with_capacity(ARENA_BYTES),
            batch: 1,
        })
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    pub(super) fn gso_segments_max(&self) -> usize {
        self.state.max_gso_segments()
    }

    /// Receives once and hands over every datagram. False: nothing was there.
    pub(super) fn receive(&mut self, mut each: impl FnMut(Arrival, BytesMut)) -> io::Result<bool> {
        // An empty receive is most of what a spinning thread does, and its cost
        // grows with the buffers offered: offer one until one was not enough.
        let (first, rest) = self.buffers.split_at_mut(BUFFER_BYTES);
        let (second, rest) = rest.split_at_mut(BUFFER_BYTES);
        let (third, rest) = rest.split_at_mut(BUFFER_BYTES);
        let (fourth, rest) = rest.split_at_mut(BUFFER_BYTES);
        let (fifth, rest) = rest.split_at_mut(BUFFER_BYTES);
        let (sixth, rest) = rest.split_at_mut(BUFFER_BYTES);
        let (seventh, eighth) = rest.split_at_mut(BUFFER_BYTES);
        let mut slices =
            [first, second, third, fourth, fifth, sixth, seventh, eighth].map(IoSliceMut::new);
        let received = match self.state.recv(
            (&self.socket).into(),
            &mut slices[..self.batch],
            &mut self.metas[..self.batch],
        ) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.batch = 1;
                return Ok(false);
            }
            // A datagram of ours met a closed port: the connection's own timers judge that.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(false),
            Err(error) => return Err(error),
        };
        self.batch = if received == self.batch {
            BUFFERS
        } else {
            received.max(1)
        };
        for index in 0..received {
            let meta = self.metas[index];
            let start = index * BUFFER_BYTES;
            let filled = &self.buffers[start..start + meta.len];
            for datagram in filled.chunks(meta.stride.max(1)) {
                if self.arena.capacity() < datagram.len() {
                    self.arena.reserve(ARENA_BYTES.max(datagram.len()));
                }
                self.arena.extend_from_slice(datagram);
                let arrival = Arrival {
                    remote: meta.addr,
                    local_ip: meta.dst_ip,
                    ecn: meta.ecn.map(|ecn| ecn as u8),
                };
                each(arrival, self.arena.split());
            }
        }
        Ok(true)
    }

    /// Sends one datagram, or several of `segment_size` bytes (the last may be
    /// shorter).
    pub(super) fn send(
        &self,
        destination: SocketAddr,
        source_ip: Option<IpAddr>,
        ecn: Option<u8>,
        contents: &[u8],
        segment_size: Option<usize>,
    ) -> io::Result<Sent> {
        let transmit = Transmit {
            destination,
            ecn: ecn.and_then(EcnCodepoint::from_bits),
            contents,
            // One segment is no batch, and some drivers refuse it as one.
            segment_size: segment_size.filter(|&size| size < contents.len()),
            src_ip: source_ip,
        };
        let error = match self.state.try_send((&self.socket).into(), &transmit) {
            Ok(()) => return Ok(Sent::Done),
            Err(error) => error,
        };
        match error.kind() {
            io::ErrorKind::WouldBlock => Ok(Sent::WouldBlock),
            io::ErrorKind::ConnectionRefused => Ok(Sent::Done),
            _ => match transmit.segment_size {
                // The device refused the batch (quinn-udp has now turned GSO off):
                // send its segments one by one rather than lose them all.
                Some(size) => {
                    for contents in contents.chunks(size) {
                        let single = Transmit {
                            contents,
                            segment_size: None,
                            ..transmit.clone()
                        };
                        // What fails here is a lost datagram, which QUIC repairs.
                        let _ = self.state.try_send((&self.socket).into(), &single);
                    }
                    Ok(Sent::Done)
                }
                None if is_loss(&error) => Ok(Sent::Done),
                None => Err(error),
            },
        }
    }

    /// Sleeps until a datagram is there or `timeout` has passed.
    pub(super) fn wait(&self, timeout: Duration) -> io::Result<()> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Errors that concern one datagram or a path that may heal.
fn is_loss(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::InvalidInput
    ) || error.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn received(socket: &mut Socket, count: usize) -> Vec<Bytes> {
        let mut all = Vec::new();
        while all.len() < count {
            socket.wait(Duration::from_secs(5)).expect("poll works");
            let any = socket
                .receive(|_, datagram| all.push(datagram.freeze()))
                .expect("loopback");
            assert!(any || all.len() >= count, "{} of {count} came", all.len());
        }
        all
    }

    #[test]
    fn a_batch_arrives_as_the_datagrams_it_was_made_of() {
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut to = Socket::bind(local).expect("bind");
        let from = Socket::bind(local).expect("bind");
        let batch: Vec<u8> = (0..10_u8).flat_map(|i| vec![i; 100]).collect();
        let contents = &batch[..950];
        let sent = from
            .send(
                to.local_addr().expect("bound"),
                None,
                None,
                contents,
                Some(100),
            )
            .expect("loopback");
        assert_eq!(sent, Sent::Done);
        let datagrams = received(&mut to, 10);
        for (i, datagram) in (0_u8..).zip(&datagrams) {
            let length = if i == 9 { 50 } else { 100 };
            assert_eq!(&datagram[..], &vec![i; length][..]);
        }
    }

    #[test]
    fn nothing_there_is_not_an_error() {
        let mut socket = Socket::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("bind");
        let any = socket.receive(|_, _| {}).expect("loopback");
        assert!(!any);
        socket.wait(Duration::from_millis(1)).expect("poll works");
    }
}
