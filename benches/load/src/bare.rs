//! Controls (e) and (f): the node's own reactor and QUIC endpoint with nothing
//! behind them. What they reach is what a node could reach if sessions, access
//! checks and domains cost nothing.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use pinion_quic::{
    ClockAnchor, ConnId, CorePlace, Endpoint, Event, Outbox, PathMeta, ReadOutcome, ServerConfig,
    Steering, StreamId, WriteOutcome, tls, transport,
};
use pinion_reactor::{
    BytesMut, CoreConfig, DatagramMeta, GroupOptions, Io, MAILBOX_CAPACITY_DEFAULT, PortId, Pump,
    SendOutcome, SpinPolicy, Stall, Transmit, bind_group, mesh, run_core,
};
use pinion_wire::message::{Ping, Reply};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Sends of one turn, as a node has it.
const TRANSMITS_PER_TURN: usize = 128;

/// Datagrams of one segmented send, as a node has it.
const SEGMENTS_MAX: usize = 16;

/// How often glommio passes through its rings under load, as a node has it.
const REACTOR_PASS_EVERY: Duration = Duration::from_millis(1);

/// Chunks taken from a stream before what they ask for is written.
const CHUNKS_PER_READ: usize = 256;

/// Connection ids and address tokens of a server that lives for one run.
const SEED: [u8; 32] = [0xba; 32];

/// What is done with the bytes of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// They go back.
    Echo,
    /// They are dropped; every `message` bytes one small frame goes back.
    Sink {
        /// Bytes of one message.
        message: usize,
    },
}

/// Serves on `cpu` until `life` is over.
///
/// # Errors
/// The certificate is not usable, the port is taken, or the machine cannot run
/// a node either.
pub fn serve(
    port: u16,
    service: Service,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    cpu: Option<usize>,
    life: Duration,
) -> io::Result<()> {
    let started = Instant::now();
    let tls = tls::server_config(chain, key).map_err(io::Error::other)?;
    let clock = ClockAnchor {
        monotonic: started,
        wall: SystemTime::now(),
    };
    let config = ServerConfig::new(tls, SEED, clock).with_mtu_max(transport::MTU_JUMBO);
    let place = CorePlace {
        steering: Steering::from_seed(SEED, 1).map_err(io::Error::other)?,
        core: 0,
    };
    let endpoint = Endpoint::server(&config, place, SEED).map_err(io::Error::other)?;
    let answer = answer()?;
    let (mut ends, _control) = mesh(1, MAILBOX_CAPACITY_DEFAULT)?;
    let end = ends.pop().expect("a mesh of one core has its end");
    let reactor = CoreConfig {
        cpu,
        spin: SpinPolicy::DEDICATED,
        reactor_pass_every: REACTOR_PASS_EVERY,
        ..CoreConfig::new(0)
    };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let group = bind_group(address, 1, None, GroupOptions::default()).map_err(io::Error::other)?;
    let core = run_core(reactor, group.socket(0)?, end, move || BarePump {
        quic: endpoint,
        service,
        answer,
        outbox: Outbox::default(),
        flows: Vec::new(),
        end: started + life,
        finished: false,
    })?;
    core.join().map_err(io::Error::other)
}

/// What a sink says: a frame, so that the generator takes both apart alike.
fn answer() -> io::Result<Bytes> {
    let mut frame = Vec::new();
    Reply::Pong(Ping { payload: &[0; 8] })
        .encode(0, &mut frame)
        .map_err(io::Error::other)?;
    Ok(frame.into())
}

/// One stream.
struct Flow {
    conn: ConnId,
    stream: StreamId,
    /// Bytes of a message not yet whole.
    begun: usize,
    /// What goes back and was not taken yet.
    waiting: Vec<Bytes>,
}

impl Flow {
    fn take(&mut self, service: Service, answer: &Bytes, chunk: Bytes) {
        match service {
            Service::Echo => self.waiting.push(chunk),
            Service::Sink { message } => {
                self.begun += chunk.len();
                while self.begun >= message.max(1) {
                    self.begun -= message.max(1);
                    self.waiting.push(answer.clone());
                }
            }
        }
    }

    /// True when nothing waits any more.
    fn flush(&mut self, quic: &mut Endpoint) -> bool {
        while !self.waiting.is_empty() {
            match quic.write_chunks(self.conn, self.stream, &mut self.waiting) {
                WriteOutcome::Written(_) => self.waiting.retain(|chunk| !chunk.is_empty()),
                WriteOutcome::Blocked => return false,
                WriteOutcome::Stopped(_) | WriteOutcome::Gone => self.waiting.clear(),
            }
        }
        true
    }
}

struct BarePump {
    quic: Endpoint,
    service: Service,
    answer: Bytes,
    outbox: Outbox,
    /// One or a few, so that looking for one costs nothing.
    flows: Vec<Flow>,
    end: Instant,
    finished: bool,
}

impl BarePump {
    fn serve(&mut self, conn: ConnId, stream: StreamId) {
        let known = self
            .flows
            .iter()
            .position(|flow| flow.conn == conn && flow.stream == stream);
        let index = known.unwrap_or_else(|| {
            self.flows.push(Flow {
                conn,
                stream,
                begun: 0,
                waiting: Vec::new(),
            });
            self.flows.len() - 1
        });
        let Self {
            quic,
            service,
            answer,
            flows,
            ..
        } = self;
        let flow = &mut flows[index];
        // What does not leave holds further bytes with the transport, whose flow
        // control holds the client.
        while flow.flush(quic) {
            let outcome = quic.read_with(conn, stream, CHUNKS_PER_READ, |chunk| {
                flow.take(*service, answer, chunk);
            });
            match outcome {
                ReadOutcome::Chunk(_) => {}
                ReadOutcome::Blocked => {
                    flow.flush(quic);
                    return;
                }
                ReadOutcome::Finished | ReadOutcome::Reset(_) | ReadOutcome::Gone => {
                    flow.flush(quic);
                    // Gone already is as good as finished.
                    let _ = quic.finish(conn, stream);
                    flows.swap_remove(index);
                    return;
                }
            }
        }
    }

    fn transmit(&mut self, now: Instant, io: &mut Io<'_, Infallible>) -> bool {
        let segments = io.gso_segments_max().min(SEGMENTS_MAX);
        for sent in 0..TRANSMITS_PER_TURN {
            let quic = &mut self.quic;
            let poll = |buffer: &mut Vec<u8>| quic.poll_transmit(now, segments, buffer);
            let Some((meta, contents)) = self.outbox.poll(segments, poll) else {
                return sent > 0;
            };
            let outcome = io.send(&Transmit {
                destination: meta.destination,
                source_ip: meta.source_ip,
                ecn: meta.ecn,
                contents,
                segment_size: meta.segment_size,
            });
            match outcome {
                SendOutcome::Sent | SendOutcome::Failed(_) => self.outbox.sent(),
                SendOutcome::WouldBlock => return sent > 0,
            }
        }
        true
    }
}

impl Pump for BarePump {
    type Mail = Infallible;

    fn handle_datagram(&mut self, now: Instant, meta: DatagramMeta, data: BytesMut) {
        let path = PathMeta {
            remote: meta.remote,
            local_ip: meta.local_ip,
            ecn: meta.ecn,
        };
        self.quic.handle_datagram(now, path, data);
    }

    fn handle_mail(&mut self, _now: Instant, _from: PortId, mail: Infallible) {
        match mail {}
    }

    fn drive(&mut self, now: Instant, io: &mut Io<'_, Infallible>) -> bool {
        self.finished = now >= self.end;
        if self.quic.next_deadline().is_some_and(|at| at <= now) {
            self.quic.handle_timeout(now);
        }
        let mut worked = false;
        while let Some(event) = self.quic.poll_event() {
            worked = true;
            match event {
                Event::StreamOpened { conn, stream, .. }
                | Event::Readable { conn, stream }
                | Event::Writable { conn, stream } => self.serve(conn, stream),
                Event::Closed { conn, .. } => self.flows.retain(|flow| flow.conn != conn),
                _ => {}
            }
        }
        self.transmit(now, io) || worked
    }

    fn next_deadline(&self) -> Option<Instant> {
        let quic = self.quic.next_deadline();
        Some(quic.map_or(self.end, |at| at.min(self.end)))
    }

    fn finished(&self) -> bool {
        self.finished
    }

    fn handle_stall(&mut self, _stall: Stall) {}
}

#[cfg(test)]
mod tests {
    use pinion_cli::bench::measure::{Span, closed_loop};

    use super::*;
    use crate::bare_load::{Asked, BareLoad};
    use crate::server::{Certificate, free_port, takes_udp};

    /// Serves `asked` for a moment; gives how many came back.
    fn run(asked: &Asked, service: Service, depth: u32) -> u64 {
        let port = free_port().expect("a port is free");
        let certificate = Certificate::new().expect("rcgen works");
        let (chain, key) = (certificate.chain(), certificate.key());
        let life = Duration::from_secs(3);
        let server = std::thread::spawn(move || serve(port, service, chain, key, None, life));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        while !takes_udp(address) {
            assert!(!server.is_finished(), "the server did not start");
            std::thread::yield_now();
        }
        let mut load = BareLoad::new(address, certificate.root(), asked).expect("it connects");
        let span = Span {
            warmup: Duration::ZERO,
            measured: Duration::from_millis(500),
        };
        let run = closed_loop(&mut load, depth, span).expect("answers come");
        assert_eq!(run.latency.summary().count, run.completed);
        server.join().expect("no panic").expect("no error");
        run.completed
    }

    #[test]
    fn requests_come_back_whole_from_a_bare_echo() {
        assert!(run(&Asked::Ping { size: 64 }, Service::Echo, 8) >= 8);
    }

    #[test]
    fn a_bare_sink_answers_every_publish_once() {
        let asked = Asked::Publish {
            records: 2,
            record_bytes: 16 << 10,
        };
        let message = asked.bytes().expect("it fits a frame");
        assert!(message > 2 * (16 << 10));
        assert!(run(&asked, Service::Sink { message }, 4) >= 4);
    }

    #[test]
    fn a_sink_counts_messages_over_the_borders_of_chunks() {
        let answer = answer().expect("it fits a frame");
        let mut flow = Flow {
            conn: ConnId::from_u64(0),
            stream: StreamId(0),
            begun: 0,
            waiting: Vec::new(),
        };
        let mut counts = Vec::new();
        for length in [99, 1, 250, 50] {
            let chunk = Bytes::from(vec![0; length]);
            flow.take(Service::Sink { message: 100 }, &answer, chunk);
            counts.push(flow.waiting.len());
        }
        assert_eq!(counts, [0, 1, 3, 4]);
    }
}
