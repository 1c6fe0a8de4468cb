//! How nodes of a cluster reach each other: `docs/peer-protocol.md`, Connections.
//!
//! A node writes to another on a connection that it dials itself, from the control
//! thread ([`Peers`]), and hears it on one that the other dials, at the door of a data core
//! ([`PeerDoor`]). [`Dialer`](dialer) decides, [`Peers`] touches the socket.

mod credentials;
mod dialer;
mod door;
mod frames;
mod lobby;
#[cfg(test)]
mod tests;

use std::future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use pinion_plane::{PeerName, PlaneMessage};
use pinion_quic::{EndpointError, TransmitMeta};
use tokio::net::{UdpSocket, lookup_host};
use tokio::task::JoinSet;

pub(crate) use credentials::{Credentials, CredentialsError, node_id};
use dialer::Dialer;
pub(crate) use door::PeerDoor;
pub(crate) use lobby::Lobby;

/// Why a connection between nodes is closed.
const CLOSE_NOT_WANTED: u32 = 0;
const CLOSE_STOPPING: u32 = 1;
const CLOSE_NOT_A_NODE: u32 = 2;
const CLOSE_PROTOCOL: u32 = 3;
const CLOSE_REPLACED: u32 = 4;
const CLOSE_TOO_MANY: u32 = 5;

/// The words that go with a code.
fn reason(code: u32) -> &'static str {
    match code {
        CLOSE_STOPPING => "the node stops",
        CLOSE_NOT_A_NODE => "not a node of this cluster",
        CLOSE_PROTOCOL => "not the protocol of peers",
        CLOSE_REPLACED => "a newer connection takes its place",
        CLOSE_TOO_MANY => "too many peers",
        _ => "not wanted any more",
    }
}

/// Datagrams read in one call; the rest is there at the next.
const DATAGRAMS_PER_PUMP: usize = 256;

/// The largest UDP payload.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// Connections to the other nodes, and their socket. Owned by the control thread, inside
/// its runtime: names are looked up on the runtime's blocking threads.
pub(crate) struct Peers {
    dialer: Dialer,
    socket: UdpSocket,
    lookups: JoinSet<Looked>,
    looked: Vec<Looked>,
    /// The datagram that is being sent, and how.
    outgoing: Vec<u8>,
    unsent: Option<TransmitMeta>,
    incoming: Box<[u8]>,
    /// Something was asked for since the last pump.
    asked: bool,
}

struct Looked {
    name: PeerName,
    address: Box<str>,
    found: Option<SocketAddr>,
}

impl Peers {
    /// Speaks from a port of its own at `from`, which is where the node listens: then
    /// others see it where they know it. `seed` must be another one at each start.
    ///
    /// # Errors
    /// There is no socket.
    pub(crate) fn bind(
        credentials: Arc<Credentials>,
        from: IpAddr,
        mtu_max: u16,
        seed: [u8; 32],
    ) -> io::Result<Self> {
        let socket = std::net::UdpSocket::bind((from, 0))?;
        socket.set_nonblocking(true)?;
        let dialer = Dialer::new(credentials, mtu_max, seed);
        let refused = |error: EndpointError| io::Error::new(io::ErrorKind::InvalidInput, error);
        Ok(Self {
            dialer: dialer.map_err(refused)?,
            socket: UdpSocket::from_std(socket)?,
            lookups: JoinSet::new(),
            looked: Vec::new(),
            outgoing: Vec::new(),
            unsent: None,
            incoming: vec![0; DATAGRAM_BYTES_MAX].into(),
            asked: false,
        })
    }

    /// Whom to be connected to from now on: names, and `host:port`.
    pub(crate) fn set(&mut self, peers: &[(PeerName, Box<str>)]) {
        self.dialer.set(Instant::now(), peers);
        self.asked = true;
    }

    /// Queues a message; it leaves with the next pump. Without a connection, or when too
    /// much waits already, it is dropped, and the answer is false: whoever sends it repeats
    /// it or gives it up.
    pub(crate) fn send(&mut self, to: &PeerName, message: &PlaneMessage) -> bool {
        self.asked = true;
        self.dialer.send(to, message)
    }

    /// Something came from a node: if this one waits before it dials that one again, it
    /// need not for long.
    pub(crate) fn heard(&mut self, now: Instant, from: &PeerName) {
        self.dialer.heard(now, from);
    }

    /// A node that did not get all that was sent to it. Once for each loss.
    pub(crate) fn poll_unreachable(&mut self) -> Option<PeerName> {
        self.dialer.poll_lost()
    }

    /// Returns when [`pump`](Self::pump) has something to do. Cancel safe.
    pub(crate) async fn ready(&mut self) {
        if self.asked || !self.looked.is_empty() || self.dialer.has_work() {
            return;
        }
        let deadline = self.dialer.next_deadline();
        let timer = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => future::pending().await,
            }
        };
        let blocked = self.unsent.is_some();
        tokio::select! {
            // An error is met again by whoever reads.
            _ = self.socket.readable() => {}
            _ = self.socket.writable(), if blocked => {}
            Some(looked) = self.lookups.join_next(), if !self.lookups.is_empty() => {
                // It neither panics nor is it ended by anybody.
                self.looked.extend(looked.ok());
            }
            () = timer => {}
        }
    }

    /// Reads what has come, does what is due, sends what waits.
    pub(crate) fn pump(&mut self, now: Instant) {
        self.asked = false;
        while let Some(Ok(looked)) = self.lookups.try_join_next() {
            self.looked.push(looked);
        }
        for Looked {
            name,
            address,
            found,
        } in self.looked.drain(..)
        {
            self.dialer.handle_address(now, &name, &address, found);
        }
        for _ in 0..DATAGRAMS_PER_PUMP {
            match self.socket.try_recv_from(&mut self.incoming) {
                Ok((len, from)) => self
                    .dialer
                    .handle_datagram(now, from, &self.incoming[..len]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // An ICMP message about an earlier datagram: the connection finds out by itself.
                Err(_) => {}
            }
        }
        self.dialer.turn(now);
        while let Some((name, address)) = self.dialer.poll_lookup(now) {
            let is_v6 = self.socket.local_addr().is_ok_and(|own| own.is_ipv6());
            self.lookups.spawn(async move {
                let found = match lookup_host(&*address).await {
                    Ok(mut all) => all.find_map(|one| reachable(one, is_v6)),
                    Err(error) => {
                        tracing::warn!(peer = %name, %address, %error, "cannot find a peer's address");
                        None
                    }
                };
                Looked {
                    name,
                    address,
                    found,
                }
            });
        }
        self.transmit(now);
    }

    /// Tells the others that this node stops, as far as the socket takes it at once.
    pub(crate) fn close(&mut self, now: Instant) {
        self.dialer.close(now);
        self.transmit(now);
    }

    fn transmit(&mut self, now: Instant) {
        loop {
            if self.unsent.is_none() {
                self.unsent = self.dialer.poll_transmit(now, &mut self.outgoing);
            }
            let Some(meta) = &self.unsent else { return };
            let sent = self.socket.try_send_to(&self.outgoing, meta.destination);
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // What the kernel refuses counts as lost on the way.
                Ok(_) | Err(_) => self.unsent = None,
            }
        }
    }
}

/// An address as a socket of this family takes it. One that speaks IPv6 speaks IPv4 by
/// mapped addresses (RFC 4291 §2.5.5.2).
fn reachable(address: SocketAddr, is_v6: bool) -> Option<SocketAddr> {
    match address {
        SocketAddr::V4(v4) if is_v6 => {
            Some((IpAddr::from(v4.ip().to_ipv6_mapped()), v4.port()).into())
        }
        SocketAddr::V6(_) if !is_v6 => None,
        same => Some(same),
    }
}
