//! One fuzz input is a script of hostile and honest steps against one server endpoint:
//! raw datagrams, real packets with bytes changed on the way, well-sealed Initials with
//! arbitrary frames, time, and an honest client whose stream carries arbitrary bytes.
//! After every step the promises are checked: no panic, and everything bounded.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use bytes::BytesMut;
use pinion_quic::{
    ClientConfig, ClockAnchor, ConnId, CorePlace, Endpoint, Event, Limits, PathMeta, RESPONSES_MAX,
    ReadOutcome, ServerConfig, Steering, StreamId, tls,
};
use rustls::Side;
use rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::quic::{Keys, Version};

const CONNECTIONS_MAX: usize = 24;
const HANDSHAKES_MAX: usize = 12;

/// No honest endpoint has this much to send after one step; an endless loop has.
const TRANSMITS_MAX: usize = 4_000;

struct Identity {
    server: Arc<rustls::ServerConfig>,
    client: Arc<rustls::ClientConfig>,
}

fn identity() -> &'static Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY.get_or_init(|| {
        let made =
            rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("a certificate");
        let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        Identity {
            server: tls::server_config_pem(cert.as_bytes(), key.as_bytes())
                .expect("own certificate"),
            client: tls::client_config_pem(cert.as_bytes()).expect("own root"),
        }
    })
}

/// How far a script got.
pub struct Reached {
    /// Bytes the server read from streams.
    pub stream_bytes: usize,
}

/// Runs one script. Panics when a promise is broken.
pub fn run(script: &[u8]) -> Reached {
    let mut world = World::new();
    let mut script = Script(script);
    // Bounds the work of one input, not what it can reach.
    for _ in 0..64 {
        let Some(step) = script.byte() else { break };
        world.step(step, &mut script);
        world.settle();
    }
    world.finish()
}

struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn word(&mut self) -> usize {
        usize::from(self.byte().unwrap_or(0)) << 8 | usize::from(self.byte().unwrap_or(0))
    }

    fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        head
    }

    /// Changes up to three bytes, or cuts the end off.
    fn damage(&mut self, data: &mut Vec<u8>) {
        let how = self.byte().unwrap_or(0);
        for _ in 0..how & 3 {
            let (at, flip) = (self.word(), self.byte().unwrap_or(1));
            let len = data.len();
            if let Some(byte) = data.get_mut(at % len.max(1)) {
                *byte ^= flip;
            }
        }
        if how & 4 != 0 {
            data.truncate(self.word());
        }
    }
}

struct World {
    now: Instant,
    server: Endpoint,
    client: Endpoint,
    config: ClientConfig,
    client_conn: Option<ConnId>,
    to_server: Vec<Vec<u8>>,
    to_client: Vec<Vec<u8>>,
    stream_bytes: usize,
}

fn server_addr() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 8080))
}

fn client_addr() -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 1], 5000))
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        let clock = ClockAnchor {
            monotonic: now,
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
        };
        let mut config = ServerConfig::new(Arc::clone(&identity().server), [1; 32], clock);
        config.limits = Limits {
            connections_max: CONNECTIONS_MAX,
            handshakes_max: HANDSHAKES_MAX,
            retry_above: 6,
            prefixes_max: 16,
            ..Limits::default()
        };
        let place = CorePlace {
            steering: Steering::new(7, 9, 2).expect("odd"),
            core: 0,
        };
        Self {
            now,
            server: Endpoint::server(&config, place, [2; 32]).expect("valid configuration"),
            client: Endpoint::client([3; 32]).expect("valid configuration"),
            config: ClientConfig::new(Arc::clone(&identity().client)).expect("valid configuration"),
            client_conn: None,
            to_server: Vec::new(),
            to_client: Vec::new(),
            stream_bytes: 0,
        }
    }

    fn step(&mut self, step: u8, script: &mut Script<'_>) {
        match step % 8 {
            0 => {
                let len = script.word() % 2_000;
                let data = script.bytes(len).to_vec();
                self.receive(from(step), &data);
            }
            1 => {
                // A stranger's real Initial, damaged.
                let mut stranger = Endpoint::client([step; 32]).expect("valid configuration");
                let mut buf = Vec::new();
                let _ = stranger.connect(self.now, &self.config, server_addr(), "localhost", None);
                while stranger.poll_transmit(self.now, 1, &mut buf).is_some() {
                    let mut data = buf.clone();
                    script.damage(&mut data);
                    self.receive(from(step), &data);
                }
            }
            2 => {
                let len = script.word() % 1_100;
                let data = sealed_initial(
                    script.bytes(8),
                    script.byte().unwrap_or(0),
                    script.bytes(len),
                );
                self.receive(from(step), &data);
            }
            3 => {
                self.now += Duration::from_millis(script.word() as u64);
                self.server.handle_timeout(self.now);
                self.client.handle_timeout(self.now);
            }
            4 => {
                if self.client_conn.is_none() {
                    self.client_conn = self
                        .client
                        .connect(self.now, &self.config, server_addr(), "localhost", None)
                        .ok();
                }
            }
            5 => self.exchange(script),
            6 => {
                // Honest packets, arbitrary contents: what the session will have to read.
                let Some(conn) = self.client_conn else { return };
                let stream = match script.byte() {
                    Some(n) if n & 1 == 0 => self.client.open_bi(conn),
                    n => Some(StreamId(u64::from(n.unwrap_or(0)))),
                };
                let Some(stream) = stream else { return };
                let len = script.word() % 3_000;
                let data = script.bytes(len);
                self.client.write(conn, stream, data);
                match script.byte().unwrap_or(0) % 6 {
                    0 => drop(self.client.finish(conn, stream)),
                    1 => drop(self.client.reset(conn, stream, 5)),
                    2 => drop(self.client.stop(conn, stream, 6)),
                    3 => self.client.close(self.now, conn, 7, data),
                    _ => {}
                }
            }
            _ => {
                // The honest client's last datagrams again, damaged, from anywhere.
                for mut data in self.to_server.clone() {
                    script.damage(&mut data);
                    self.receive(from(script.byte().unwrap_or(0)), &data);
                }
            }
        }
    }

    /// A few turns between the server and the honest client, over a bad wire.
    fn exchange(&mut self, script: &mut Script<'_>) {
        let turns = script.byte().unwrap_or(1) % 8;
        for _ in 0..turns {
            for mut data in std::mem::take(&mut self.to_server) {
                script.damage(&mut data);
                self.receive(client_addr(), &data);
            }
            self.settle();
            for mut data in std::mem::take(&mut self.to_client) {
                script.damage(&mut data);
                let meta = PathMeta {
                    remote: server_addr(),
                    local_ip: None,
                    ecn: None,
                };
                self.client
                    .handle_datagram(self.now, meta, BytesMut::from(&data[..]));
            }
            self.settle();
        }
    }

    fn receive(&mut self, remote: SocketAddr, data: &[u8]) {
        let _ = self.server.owner(data);
        let meta = PathMeta {
            remote,
            local_ip: None,
            ecn: Some(data.len() as u8 & 3),
        };
        self.server
            .handle_datagram(self.now, meta, BytesMut::from(data));
    }

    /// What a driver does every turn, and the promises.
    fn settle(&mut self) {
        let mut events = Vec::new();
        while let Some(event) = self.server.poll_event() {
            events.push(event);
            assert!(
                events.len() <= 4 * CONNECTIONS_MAX * 64,
                "events without end: {:?}",
                events.last()
            );
        }
        for event in events {
            if let Event::StreamOpened { conn, stream, .. } | Event::Readable { conn, stream } =
                event
            {
                while let ReadOutcome::Chunk(bytes) = self.server.read(conn, stream) {
                    assert!(!bytes.is_empty());
                    self.stream_bytes += bytes.len();
                    let _ = self.server.write(conn, stream, &bytes);
                }
            }
        }
        while let Some(event) = self.client.poll_event() {
            if let Event::Closed { .. } = event {
                self.client_conn = None;
            }
        }
        let mut buf = Vec::new();
        for sent in 0.. {
            let Some(meta) = self.server.poll_transmit(self.now, 64, &mut buf) else {
                break;
            };
            assert!(sent < TRANSMITS_MAX, "transmits without end");
            assert_eq!(meta.len, buf.len());
            assert!(meta.len <= 65_507);
            if meta.destination == client_addr() && self.to_client.len() < 64 {
                self.to_client.extend(
                    buf.chunks(meta.segment_size.unwrap_or(meta.len))
                        .map(<[u8]>::to_vec),
                );
            }
        }
        while self.client.poll_transmit(self.now, 1, &mut buf).is_some() {
            if self.to_server.len() < 64 {
                self.to_server.push(buf.clone());
            }
        }
        let stats = self.server.stats();
        assert!(stats.connections <= CONNECTIONS_MAX, "{stats:?}");
        assert!(
            stats.handshakes <= HANDSHAKES_MAX && stats.handshakes <= stats.connections,
            "{stats:?}"
        );
        assert!(
            stats.responses_dropped <= stats.datagrams_received,
            "{stats:?}"
        );
        const { assert!(RESPONSES_MAX <= 4096) };
    }

    /// Left alone, the server forgets everybody.
    fn finish(mut self) -> Reached {
        for _ in 0..400 {
            let Some(at) = self.server.next_deadline() else {
                break;
            };
            self.now = self.now.max(at);
            self.server.handle_timeout(self.now);
            self.settle();
        }
        let stats = self.server.stats();
        assert_eq!((stats.connections, stats.handshakes), (0, 0), "{stats:?}");
        assert!(self.server.is_idle());
        Reached {
            stream_bytes: self.stream_bytes,
        }
    }
}

/// One of a few networks, loopback among them.
fn from(pick: u8) -> SocketAddr {
    match pick >> 4 {
        0 => client_addr(),
        1 => SocketAddr::from(([127, 0, 0, 1], 1)),
        n => SocketAddr::from(([203, 0, n, 5], 9)),
    }
}

/// An Initial whose protection is right and whose frames are whatever was given, so
/// that the bytes reach the frame parser (RFC 9001 §5.2: the keys are public).
fn sealed_initial(id: &[u8], packet_number: u8, frames: &[u8]) -> Vec<u8> {
    let mut dcid = [0x11; 8];
    dcid[..id.len()].copy_from_slice(id);
    let suite = TLS13_AES_128_GCM_SHA256.tls13().expect("a TLS 1.3 suite");
    let keys = Keys::initial(
        Version::V1,
        suite,
        suite.quic.expect("a QUIC suite"),
        &dcid,
        Side::Client,
    );

    let mut frames = frames.to_vec();
    frames.resize(1_160, 0); // PADDING up to the smallest datagram allowed
    let length = 1 + frames.len() + 16;
    let mut packet = vec![0xc0, 0, 0, 0, 1, 8];
    packet.extend_from_slice(&dcid);
    packet.extend_from_slice(&[0, 0]); // no source id, no token
    packet.extend_from_slice(&(0x4000 | length as u16).to_be_bytes());
    let number_at = packet.len();
    packet.push(packet_number);
    let tag = keys
        .local
        .packet
        .encrypt_in_place(u64::from(packet_number), &packet, &mut frames)
        .expect("short");
    packet.extend_from_slice(&frames);
    packet.extend_from_slice(tag.as_ref());
    let sample = packet[number_at + 4..number_at + 20].to_vec();
    let (head, tail) = packet.split_at_mut(number_at);
    keys.local
        .header
        .encrypt_in_place(&sample, &mut head[0], &mut tail[..1])
        .expect("a whole sample");
    packet
}
