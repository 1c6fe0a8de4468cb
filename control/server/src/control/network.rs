//! The plane and the other nodes: what it says goes to [`Peers`]; what they say comes from
//! the cores' doors, and before there are cores from the [`Lobby`].

use std::time::Instant;

use bytes::Bytes;
use pinion_plane::{PeerName, Plane, PlaneMessage};

use crate::peers::{Lobby, Peers};

/// Frames of the lobby that one turn takes.
const FRAMES_PER_TURN: usize = 1024;

/// How this node reaches the others of its cluster.
pub(crate) struct Network {
    peers: Peers,
    lobby: Option<Lobby>,
}

impl Network {
    pub(crate) fn new(peers: Peers, lobby: Lobby) -> Self {
        Self {
            peers,
            lobby: Some(lobby),
        }
    }

    /// Returns when a turn is needed. Cancel safe.
    pub(super) async fn ready(&mut self) {
        match &self.lobby {
            Some(lobby) => tokio::select! {
                () = self.peers.ready() => {}
                () = lobby.ready() => {}
            },
            None => self.peers.ready().await,
        }
    }

    /// What has happened since the last turn, to the plane.
    pub(super) fn begin(&mut self, plane: &mut Plane) {
        let now = Instant::now();
        if let Some(lobby) = &mut self.lobby {
            lobby.pump(now);
            for _ in 0..FRAMES_PER_TURN {
                let Some((from, frame)) = lobby.poll_frame() else {
                    break;
                };
                take_frame(&mut self.peers, plane, &from, &frame);
            }
        }
        self.peers.pump(now);
        while let Some(name) = self.peers.poll_unreachable() {
            plane.handle_unreachable(&name);
        }
    }

    /// A frame that came through the door of a core.
    pub(super) fn take_frame(&mut self, plane: &mut Plane, from: &PeerName, frame: &Bytes) {
        take_frame(&mut self.peers, plane, from, frame);
    }

    /// Whether it is on its way, as far as anybody knows.
    pub(super) fn send(&mut self, to: &PeerName, message: &PlaneMessage) -> bool {
        self.peers.send(to, message)
    }

    pub(super) fn set(&mut self, peers: &[(PeerName, Box<str>)]) {
        self.peers.set(peers);
    }

    /// What the plane said in this turn leaves.
    pub(super) fn finish(&mut self) {
        self.peers.pump(Instant::now());
    }

    /// The cores take over the node's sockets.
    pub(super) fn leave_lobby(&mut self) {
        if let Some(lobby) = self.lobby.take() {
            lobby.close(Instant::now());
        }
    }

    /// The node ends.
    pub(super) fn close(&mut self) {
        self.leave_lobby();
        self.peers.close(Instant::now());
    }
}

fn take_frame(peers: &mut Peers, plane: &mut Plane, from: &PeerName, frame: &[u8]) {
    peers.heard(Instant::now(), from);
    match PlaneMessage::decode(frame) {
        Ok(message) => plane.handle_peer(from, message),
        // Its head was good, or the door had closed the connection: another release, or
        // bytes that a network has changed, which TLS rules out.
        Err(error) => tracing::warn!(peer = %from, %error, "a peer's frame cannot be read"),
    }
}
