//! A QUIC endpoint on a socket of its own, as bare as the native client of a
//! node: never blocking, segments in and out, and nothing that knows frames.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::time::Instant;

use bytes::BytesMut;
use pinion_cli::bench::measure::BenchError;
use pinion_quic::{Endpoint, Outbox, PathMeta, transport};
use quinn_udp::{EcnCodepoint, RecvMeta, Transmit, UdpSocketState};

/// Datagram trains taken in one call. More only makes an empty call dearer.
const BUFFERS: usize = 8;

/// Bytes of one receive buffer: the longest train GRO hands over.
const BUFFER_BYTES: usize = 65_536;

/// Asked of the kernel for each direction, as the native client asks.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// Datagrams are copied into blocks of this size and split off, so that the
/// allocator is asked once per block.
const ARENA_BYTES: usize = 256 << 10;

/// One socket and the connections on it. Belongs to the generating thread.
pub(crate) struct QuicSocket {
    /// What speaks QUIC.
    pub(crate) endpoint: Endpoint,
    socket: UdpSocket,
    state: UdpSocketState,
    buffers: Vec<u8>,
    metas: [RecvMeta; BUFFERS],
    arena: BytesMut,
    batch: usize,
    outbox: Outbox,
}

impl QuicSocket {
    /// Binds `local`. Sockets that speak to one server need different `seed`s:
    /// their connection ids follow from it.
    ///
    /// # Errors
    /// What the kernel answers.
    pub(crate) fn bind(local: SocketAddr, seed: [u8; 32]) -> Result<Self, BenchError> {
        let endpoint = Endpoint::client_with_mtu(seed, transport::MTU_JUMBO)
            .map_err(|error| BenchError::Options(error.to_string()))?;
        let bound = UdpSocket::bind(local).and_then(|socket| {
            let state = UdpSocketState::new((&socket).into())?;
            Ok((socket, state))
        });
        let (socket, state) = bound.map_err(BenchError::io("UDP bind"))?;
        // Refused sizes are not an error: the kernel's maximum is what there is.
        let _ = state.set_recv_buffer_size((&socket).into(), SOCKET_BUFFER_BYTES);
        let _ = state.set_send_buffer_size((&socket).into(), SOCKET_BUFFER_BYTES);
        Ok(Self {
            endpoint,
            socket,
            state,
            buffers: vec![0; BUFFERS * BUFFER_BYTES],
            metas: [RecvMeta::default(); BUFFERS],
            arena: BytesMut::with_capacity(ARENA_BYTES),
            batch: 1,
            outbox: Outbox::default(),
        })
    }

    /// Takes one batch of datagrams and fires due timers. True when there was any.
    ///
    /// # Errors
    /// The socket failed.
    pub(crate) fn receive(&mut self, now: Instant) -> Result<bool, BenchError> {
        let any = self
            .receive_batch(now)
            .map_err(BenchError::io("UDP receive"))?;
        if self.endpoint.next_deadline().is_some_and(|due| due <= now) {
            self.endpoint.handle_timeout(now);
            return Ok(true);
        }
        Ok(any)
    }

    fn receive_batch(&mut self, now: Instant) -> io::Result<bool> {
        // An empty receive is most of what a spinning thread does, and its cost
        // grows with the buffers offered: offer one until one was not enough.
        let mut slices: Vec<IoSliceMut<'_>>;
        let mut single;
        let offered: &mut [IoSliceMut<'_>] = if self.batch == 1 {
            single = [IoSliceMut::new(&mut self.buffers[..BUFFER_BYTES])];
            &mut single
        } else {
            slices = self
                .buffers
                .chunks_mut(BUFFER_BYTES)
                .map(IoSliceMut::new)
                .collect();
            &mut slices
        };
        let metas = &mut self.metas[..offered.len()];
        let received = match self.state.recv((&self.socket).into(), offered, metas) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.batch = 1;
                return Ok(false);
            }
            // A datagram of ours met a closed port: the connection's timers judge that.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(false),
            Err(error) => return Err(error),
        };
        self.batch = if received == self.batch { BUFFERS } else { 1 };
        for index in 0..received {
            let meta = self.metas[index];
            let start = index * BUFFER_BYTES;
            let filled = &self.buffers[start..start + meta.len];
            for datagram in filled.chunks(meta.stride.max(1)) {
                if self.arena.capacity() < datagram.len() {
                    self.arena.reserve(ARENA_BYTES);
                }
                self.arena.extend_from_slice(datagram);
                let path = PathMeta {
                    remote: meta.addr,
                    local_ip: meta.dst_ip,
                    ecn: meta.ecn.map(|ecn| ecn as u8),
                };
                self.endpoint.handle_datagram(now, path, self.arena.split());
            }
        }
        Ok(true)
    }

    /// Sends what the endpoint has to say. True when anything left.
    ///
    /// # Errors
    /// The socket failed.
    pub(crate) fn send(&mut self, now: Instant) -> Result<bool, BenchError> {
        let segments = self.state.max_gso_segments();
        let mut moved = false;
        loop {
            let endpoint = &mut self.endpoint;
            let poll = |buffer: &mut Vec<u8>| endpoint.poll_transmit(now, segments, buffer);
            let Some((meta, contents)) = self.outbox.poll(segments, poll) else {
                return Ok(moved);
            };
            let transmit = Transmit {
                destination: meta.destination,
                ecn: meta.ecn.and_then(EcnCodepoint::from_bits),
                contents,
                // One segment is no batch, and some drivers refuse it as one.
                segment_size: meta.segment_size.filter(|&size| size < contents.len()),
                src_ip: meta.source_ip,
            };
            match self.state.try_send((&self.socket).into(), &transmit) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(moved),
                // Loopback refuses only probes above its MTU: lost, as they may be.
                Err(error) if is_loss(&error) => {}
                Err(error) => return Err(BenchError::io("UDP send")(error)),
            }
            self.outbox.sent();
            moved = true;
        }
    }
}

fn is_loss(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionRefused
        || error.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error())
}
