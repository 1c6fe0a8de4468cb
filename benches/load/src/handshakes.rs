//! New connections per second, and the cryptography that none can do without.
//!
//! A connection counts when the node has answered its HELLO: then it is of use
//! to somebody. Sessions are not resumed, so every one is a whole handshake. The
//! generator does not check the node's certificate: it would be slower than the
//! node, and what is measured is the node.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use pinion_cli::bench::measure::{BenchError, Completion, Driver};
use pinion_quic::{ClientConfig, ConnectError, Event, StreamId, tls, transport};
use pinion_wire::message::{Hello, Request};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::default_provider;
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::Signer;
use rustls::{DigitallySignedStruct, SignatureScheme};

use crate::quic_socket::QuicSocket;

/// Handshakes under way at once: below the number that turns on Retry.
pub const HANDSHAKES: u32 = 64;

/// Client addresses, each of another prefix: a node limits how fast the
/// addresses of one prefix may connect. Four have room for 8,192 a second.
const PREFIXES: u8 = 4;

/// Bytes that a TLS 1.3 server signs: 64 spaces, the context, a zero, and a
/// SHA-256 digest (RFC 8446 §4.4.3).
const SIGNED_BYTES: usize = 64 + 33 + 1 + 32;

/// Drives connections that are closed as soon as they are welcomed.
pub struct Handshakes {
    sockets: Vec<Member>,
    config: ClientConfig,
    server: SocketAddr,
    hello: Vec<u8>,
    next: usize,
}

struct Member {
    socket: QuicSocket,
    /// By slot of the connection.
    pending: Vec<Option<Pending>>,
    in_flight: usize,
}

#[derive(Clone, Copy)]
struct Pending {
    stamp: u64,
    stream: Option<StreamId>,
}

impl Handshakes {
    /// Binds the sockets. Nothing is sent yet.
    ///
    /// # Errors
    /// A socket cannot be bound.
    pub fn new(server: SocketAddr, token: &[u8]) -> Result<Self, BenchError> {
        let refused = |error: &dyn std::fmt::Display| BenchError::Options(error.to_string());
        let tls = tls::client_config(rustls::RootCertStore::empty());
        let mut tls = (*tls.map_err(|error| refused(&error))?).clone();
        tls.resumption = Resumption::disabled();
        tls.enable_early_data = false;
        tls.dangerous()
            .set_certificate_verifier(Arc::new(Unchecked(default_provider())));
        let config = ClientConfig::new(Arc::new(tls))
            .map_err(|error| refused(&error))?
            .with_mtu_max(transport::MTU_JUMBO);
        let mut hello = Vec::new();
        Request::Hello(Hello {
            magic: *b"PNN1",
            version_min: 1,
            version_max: 1,
            capabilities: 0,
            token: token.trim_ascii(),
            client_name: "handshakes",
        })
        .encode(0, &mut hello)
        .map_err(|error| refused(&error))?;
        let sockets = (1..=PREFIXES).map(|prefix| {
            let local = SocketAddr::from((Ipv4Addr::new(127, 0, prefix, 1), 0));
            Ok(Member {
                socket: QuicSocket::bind(local, [prefix; 32])?,
                pending: Vec::new(),
                in_flight: 0,
            })
        });
        Ok(Self {
            sockets: sockets.collect::<Result<_, BenchError>>()?,
            config,
            server,
            hello,
            next: 0,
        })
    }
}

impl Member {
    /// Takes what arrived; pushes what was welcomed.
    fn events(
        &mut self,
        now: Instant,
        hello: &[u8],
        done: &mut Vec<Completion>,
    ) -> Result<(), BenchError> {
        let Self {
            socket,
            pending,
            in_flight,
        } = self;
        let quic = &mut socket.endpoint;
        while let Some(event) = quic.poll_event() {
            match event {
                Event::Connected { conn, .. } | Event::StreamsAvailable { conn, bidi: true } => {
                    let Some(Some(entry)) = pending.get_mut(conn.slot as usize) else {
                        continue;
                    };
                    if entry.stream.is_none()
                        && let Some(stream) = quic.open_bi(conn)
                    {
                        entry.stream = Some(stream);
                        // A fresh stream takes more than a HELLO.
                        quic.write(conn, stream, hello);
                    }
                }
                Event::Readable { conn, stream } => {
                    let Some(place) = pending.get_mut(conn.slot as usize) else {
                        continue;
                    };
                    if let Some(entry) = *place
                        && entry.stream == Some(stream)
                    {
                        *place = None;
                        *in_flight -= 1;
                        done.push(Completion {
                            lane: 0,
                            stamp: entry.stamp,
                        });
                        quic.close(now, conn, 0, b"");
                    }
                }
                Event::Closed { conn, reason } => {
                    let place = pending.get_mut(conn.slot as usize);
                    if place.is_some_and(|place| place.take().is_some()) {
                        return Err(BenchError::Unexpected {
                            peer: "the node",
                            question: "a handshake",
                            answer: reason.to_string(),
                        });
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Driver for Handshakes {
    fn lanes(&self) -> usize {
        1
    }

    fn submit(&mut self, _lane: usize, stamp: u64) -> Result<bool, BenchError> {
        let member = &mut self.sockets[self.next];
        let quic = &mut member.socket.endpoint;
        let begun = quic.connect(Instant::now(), &self.config, self.server, "localhost", None);
        let conn = match begun {
            Ok(conn) => conn,
            // Those that were closed are still being drained.
            Err(ConnectError::Full) => return Ok(false),
            Err(error) => return Err(BenchError::Options(error.to_string())),
        };
        let slot = conn.slot as usize;
        if member.pending.len() <= slot {
            member.pending.resize(slot + 1, None);
        }
        member.pending[slot] = Some(Pending {
            stamp,
            stream: None,
        });
        member.in_flight += 1;
        self.next = (self.next + 1) % self.sockets.len();
        Ok(true)
    }

    fn turn(&mut self, done: &mut Vec<Completion>) -> Result<bool, BenchError> {
        let now = Instant::now();
        let mut moved = false;
        for member in &mut self.sockets {
            moved |= member.socket.receive(now)?;
            member.events(now, &self.hello, done)?;
            moved |= member.socket.send(now)?;
        }
        Ok(moved)
    }
}

/// Takes any certificate.
#[derive(Debug)]
struct Unchecked(CryptoProvider);

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Control (g): what a server computes for one full handshake and cannot do
/// without: its share of the key exchange (X25519, which both sides put first)
/// and one signature (ECDSA P-256, as a node's certificate of its own has).
pub struct CryptoFloor {
    group: &'static dyn SupportedKxGroup,
    share: Vec<u8>,
    signer: Box<dyn Signer>,
    due: Vec<u64>,
}

impl CryptoFloor {
    /// Prepares a client's share and the signing key.
    ///
    /// # Errors
    /// The key is not ECDSA P-256.
    pub fn new(key: PrivateKeyDer<'static>) -> Result<Self, BenchError> {
        let refused = |error: rustls::Error| BenchError::Options(error.to_string());
        let provider = default_provider();
        let none = || BenchError::Options("no ECDSA P-256 key".to_owned());
        let group = *provider.kx_groups.first().ok_or_else(none)?;
        let client = group.start().map_err(refused)?;
        let key = provider
            .key_provider
            .load_private_key(key)
            .map_err(refused)?;
        let schemes = [SignatureScheme::ECDSA_NISTP256_SHA256];
        Ok(Self {
            group,
            share: client.pub_key().to_vec(),
            signer: key.choose_scheme(&schemes).ok_or_else(none)?,
            due: Vec::new(),
        })
    }
}

impl Driver for CryptoFloor {
    fn lanes(&self) -> usize {
        1
    }

    fn submit(&mut self, _lane: usize, stamp: u64) -> Result<bool, BenchError> {
        self.due.push(stamp);
        Ok(true)
    }

    fn turn(&mut self, done: &mut Vec<Completion>) -> Result<bool, BenchError> {
        let refused = |error: rustls::Error| BenchError::Options(error.to_string());
        let moved = !self.due.is_empty();
        for stamp in self.due.drain(..) {
            let exchanged = self.group.start_and_complete(&self.share);
            std::hint::black_box(exchanged.map_err(refused)?);
            let signed = self.signer.sign(&[0x20; SIGNED_BYTES]);
            std::hint::black_box(signed.map_err(refused)?);
            done.push(Completion { lane: 0, stamp });
        }
        Ok(moved)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pinion_cli::bench::measure::{Span, closed_loop};

    use super::*;
    use crate::bare::{self, Service};
    use crate::server::{Certificate, free_port, takes_udp};

    const BRIEF: Span = Span {
        warmup: Duration::ZERO,
        measured: Duration::from_millis(100),
    };

    #[test]
    fn the_floor_is_an_exchange_and_a_signature() {
        let certificate = Certificate::new().expect("rcgen works");
        let mut floor = CryptoFloor::new(certificate.key()).expect("a P-256 key");
        assert_eq!(floor.group.name(), rustls::NamedGroup::X25519);
        let run = closed_loop(&mut floor, 1, BRIEF).expect("it computes");
        // A signature and two multiplications take microseconds, not nanoseconds.
        assert!(run.latency.summary().p50_us > 5.0, "nothing was computed");
    }

    #[test]
    fn a_connection_counts_when_its_hello_is_answered() {
        // Whoever echoes answers a HELLO, too.
        let port = free_port().expect("a port is free");
        let certificate = Certificate::new().expect("rcgen works");
        let (chain, key) = (certificate.chain(), certificate.key());
        let life = Duration::from_secs(3);
        let server =
            std::thread::spawn(move || bare::serve(port, Service::Echo, chain, key, None, life));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        while !takes_udp(address) {
            assert!(!server.is_finished(), "the server did not start");
            std::thread::yield_now();
        }
        let mut handshakes = Handshakes::new(address, b"token").expect("sockets are to be had");
        let run = closed_loop(&mut handshakes, 8, BRIEF).expect("handshakes complete");
        assert!(run.completed >= 8, "{}", run.completed);
        server.join().expect("no panic").expect("no error");
    }
}
