//! Where other nodes come in before there are cores. A node of a cluster has to hear the
//! others to learn what its cores are to serve; so until then the control thread
//! answers at the node's own sockets. What begins here ends here: the others dial again.

use std::future;
use std::io;
use std::net::UdpSocket as StdSocket;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use pinion_plane::PeerName;
use pinion_quic::{Endpoint, Event, PathMeta, TransmitMeta};
use pinion_session::CloseCode;
use tokio::net::UdpSocket;

use super::door::PeerDoor;
use super::{CLOSE_REPLACED, DATAGRAM_BYTES_MAX, DATAGRAMS_PER_PUMP, reason};

/// The sockets of a node's cores, while none of them runs.
pub(crate) struct Lobby {
    quic: Endpoint,
    door: PeerDoor,
    sockets: Vec<UdpSocket>,
    incoming: Box<[u8]>,
    outgoing: Vec<u8>,
    unsent: Option<TransmitMeta>,
}

impl Lobby {
    /// Listens at all of `sockets`; which of them the kernel gives a datagram to is its
    /// matter. `quic` is an endpoint of the first core. Within a runtime.
    ///
    /// # Errors
    /// The runtime does not take the sockets.
    pub(crate) fn new(quic: Endpoint, door: PeerDoor, sockets: Vec<StdSocket>) -> io::Result<Self> {
        let sockets = sockets.into_iter().map(|socket| {
            socket.set_nonblocking(true)?;
            UdpSocket::from_std(socket)
        });
        Ok(Self {
            quic,
            door,
            sockets: sockets.collect::<io::Result<_>>()?,
            incoming: vec![0; DATAGRAM_BYTES_MAX].into(),
            outgoing: Vec::new(),
            unsent: None,
        })
    }

    /// Returns when [`pump`](Self::pump) has something to do. Cancel safe.
    pub(crate) async fn ready(&self) {
        let deadlines = [self.quic.next_deadline(), self.door.next_deadline()];
        let deadline = deadlines.into_iter().flatten().min();
        let timer = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => future::pending().await,
            }
        };
        if self.door.has_work() {
            return;
        }
        let any = future::poll_fn(|context| {
            let ready = |socket: &UdpSocket| socket.poll_recv_ready(context).is_ready();
            if self.sockets.iter().any(ready) {
                std::task::Poll::Ready(())
            } else {
                std::task::Poll::Pending
            }
        });
        let blocked = self.unsent.is_some();
        tokio::select! {
            () = any => {}
            _ = self.sockets[0].writable(), if blocked => {}
            () = timer => {}
        }
    }

    /// Reads what has come, does what is due, sends what waits.
    pub(crate) fn pump(&mut self, now: Instant) {
        for socket in &self.sockets {
            for _ in 0..DATAGRAMS_PER_PUMP {
                match socket.try_recv_from(&mut self.incoming) {
                    Ok((len, remote)) => {
                        let meta = PathMeta {
                            remote,
                            local_ip: None,
                            ecn: None,
                        };
                        let data = BytesMut::from(&self.incoming[..len]);
                        self.quic.handle_datagram(now, meta, data);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // About a datagram that was sent: its connection finds out by itself.
                    Err(_) => {}
                }
            }
        }
        if self.quic.next_deadline().is_some_and(|at| at <= now) {
            self.quic.handle_timeout(now);
        }
        while let Some(event) = self.quic.poll_event() {
            if let Some(Event::Connected { conn, .. }) =
                self.door.handle_event(now, &mut self.quic, event)
            {
                // A client is too early: it comes again.
                let code = CloseCode::Draining;
                let words = b"the node starts";
                self.quic.close(now, conn, code as u32, words);
            }
        }
        self.door.read(now, &mut self.quic);
        self.transmit(now);
    }

    /// The next frame of another node.
    pub(crate) fn poll_frame(&mut self) -> Option<(PeerName, Bytes)> {
        self.door.poll_frame()
    }

    /// Makes room for the cores.
    pub(crate) fn close(mut self, now: Instant) {
        let words = reason(CLOSE_REPLACED).as_bytes();
        self.quic.close_all(now, CLOSE_REPLACED, words);
        self.transmit(now);
    }

    fn transmit(&mut self, now: Instant) {
        loop {
            if self.unsent.is_none() {
                self.unsent = self.quic.poll_transmit(now, 1, &mut self.outgoing);
            }
            let Some(meta) = &self.unsent else { return };
            match self.sockets[0].try_send_to(&self.outgoing, meta.destination) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // What the kernel refuses counts as lost on the way.
                Ok(_) | Err(_) => self.unsent = None,
            }
        }
    }
}
