//! The generator's side of the bare controls. It encodes the same requests and
//! takes the same frames apart as the native client of a node does, so that two
//! figures differ by their servers.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use pinion_cli::bench::measure::{BenchError, Completion, Driver};
use pinion_cli::bench::target::{PATIENCE, records_of};
use pinion_quic::{ClientConfig, ConnId, Event, ReadOutcome, StreamId, WriteOutcome, tls};
use pinion_types::PartitionId;
use pinion_wire::frame::{self, Split};
use pinion_wire::message::{Ack, Handle, Ping, Publish, Request};
use rustls::pki_types::CertificateDer;

use crate::quic_socket::QuicSocket;

/// Unsent bytes above which a submission waits, as with the native client.
const OUT_BYTES_MAX: usize = 1 << 20;

/// Chunks taken from the stream in one turn.
const CHUNKS_PER_READ: usize = 256;

const PEER: &str = "the bare server";

/// What is sent, again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// PING with so many bytes.
    Ping {
        /// Bytes of the payload.
        size: usize,
    },
    /// PUBLISH of so many records.
    Publish {
        /// Records of each.
        records: u32,
        /// Bytes of every record's value.
        record_bytes: usize,
    },
}

impl Asked {
    /// Bytes of one such request with its header.
    ///
    /// # Errors
    /// It does not fit a frame.
    pub fn bytes(&self) -> Result<usize, BenchError> {
        let mut out = Vec::new();
        encode(&self.contents()?, 0, &mut out)?;
        Ok(out.len())
    }

    fn contents(&self) -> Result<Contents, BenchError> {
        match *self {
            Self::Ping { size } => Ok(Contents::Ping(vec![0x5a; size])),
            Self::Publish {
                records,
                record_bytes,
            } => {
                let batch = records_of(records, &vec![0x5a; record_bytes])?;
                Ok(Contents::Publish(records, batch))
            }
        }
    }
}

enum Contents {
    Ping(Vec<u8>),
    Publish(u32, Vec<u8>),
}

fn encode(contents: &Contents, correlation: u32, out: &mut Vec<u8>) -> Result<(), BenchError> {
    let request = match contents {
        Contents::Ping(payload) => Request::Ping(Ping { payload }),
        Contents::Publish(record_count, records) => Request::Publish(Publish {
            handle: Handle::default(),
            partition: PartitionId(0),
            ack: Ack::Leader,
            producer: None,
            expected_offset: None,
            record_count: *record_count,
            records,
        }),
    };
    request
        .encode(correlation, out)
        .map_err(|error| BenchError::Options(error.to_string()))
}

/// Drives one stream of one connection.
pub struct BareLoad {
    socket: QuicSocket,
    conn: ConnId,
    stream: StreamId,
    contents: Contents,
    correlation: u32,
    out: Vec<u8>,
    written: usize,
    blocked: bool,
    /// A frame that is not whole yet.
    carry: Vec<u8>,
    /// Answers come in order.
    stamps: VecDeque<u64>,
}

impl BareLoad {
    /// Connects and opens the stream.
    ///
    /// # Errors
    /// The server is not there.
    pub fn new(
        server: SocketAddr,
        root: CertificateDer<'static>,
        asked: &Asked,
    ) -> Result<Self, BenchError> {
        let refused = |error: &dyn std::fmt::Display| BenchError::Options(error.to_string());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(root).map_err(|error| refused(&error))?;
        let tls = tls::client_config(roots).map_err(|error| refused(&error))?;
        let config = ClientConfig::new(tls)
            .map_err(|error| refused(&error))?
            .with_mtu_max(pinion_quic::transport::MTU_JUMBO);
        let local = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let mut socket = QuicSocket::bind(local, [1; 32])?;
        let started = Instant::now();
        let conn = socket
            .endpoint
            .connect(started, &config, server, "localhost", None)
            .map_err(|error| refused(&error))?;
        let stream = loop {
            let now = Instant::now();
            socket.receive(now)?;
            let mut opened = None;
            while let Some(event) = socket.endpoint.poll_event() {
                match event {
                    Event::Connected { .. } => opened = socket.endpoint.open_bi(conn),
                    Event::Closed { .. } => return Err(BenchError::Closed { peer: PEER }),
                    _ => {}
                }
            }
            socket.send(now)?;
            if let Some(stream) = opened {
                break stream;
            }
            if now.duration_since(started) > PATIENCE {
                return Err(BenchError::Silence {
                    waited: now.duration_since(started),
                    in_flight: 1,
                });
            }
        };
        Ok(Self {
            socket,
            conn,
            stream,
            contents: asked.contents()?,
            correlation: 0,
            out: Vec::new(),
            written: 0,
            blocked: false,
            carry: Vec::new(),
            stamps: VecDeque::new(),
        })
    }

    fn write(&mut self) -> Result<(), BenchError> {
        while !self.blocked && self.written < self.out.len() {
            let rest = &self.out[self.written..];
            match self.socket.endpoint.write(self.conn, self.stream, rest) {
                WriteOutcome::Written(bytes) => self.written += bytes,
                WriteOutcome::Blocked => self.blocked = true,
                WriteOutcome::Stopped(_) | WriteOutcome::Gone => {
                    return Err(BenchError::Closed { peer: PEER });
                }
            }
        }
        if self.written == self.out.len() {
            self.out.clear();
            self.written = 0;
        } else if self.written > OUT_BYTES_MAX {
            self.out.drain(..self.written);
            self.written = 0;
        }
        Ok(())
    }

    fn read(&mut self, done: &mut Vec<Completion>) -> Result<(), BenchError> {
        let Self {
            socket,
            conn,
            stream,
            carry,
            stamps,
            ..
        } = self;
        loop {
            let mut fault = None;
            let outcome = socket
                .endpoint
                .read_with(*conn, *stream, CHUNKS_PER_READ, |chunk| {
                    if fault.is_none() {
                        fault = take_frames(carry, &chunk, || {
                            if let Some(stamp) = stamps.pop_front() {
                                done.push(Completion { lane: 0, stamp });
                            }
                        })
                        .err();
                    }
                });
            if let Some(error) = fault {
                return Err(error);
            }
            match outcome {
                ReadOutcome::Chunk(_) => {}
                ReadOutcome::Blocked => return Ok(()),
                ReadOutcome::Finished | ReadOutcome::Reset(_) | ReadOutcome::Gone => {
                    return Err(BenchError::Closed { peer: PEER });
                }
            }
        }
    }
}

/// Counts the frames that `chunk` completes. One that crosses chunks is copied.
fn take_frames(
    carry: &mut Vec<u8>,
    chunk: &[u8],
    mut each: impl FnMut(),
) -> Result<(), BenchError> {
    let joined = !carry.is_empty();
    if joined {
        carry.extend_from_slice(chunk);
    }
    let bytes = if joined { carry.as_slice() } else { chunk };
    let mut at = 0;
    loop {
        match frame::split(&bytes[at..]) {
            Ok(Split::Frame { consumed, .. }) => {
                at += consumed;
                each();
            }
            Ok(Split::NeedMore(_)) => break,
            Err(error) => {
                return Err(BenchError::Unexpected {
                    peer: PEER,
                    question: "a request",
                    answer: error.to_string(),
                });
            }
        }
    }
    if joined {
        carry.drain(..at);
    } else {
        carry.extend_from_slice(&chunk[at..]);
    }
    Ok(())
}

impl Driver for BareLoad {
    fn lanes(&self) -> usize {
        1
    }

    fn submit(&mut self, _lane: usize, stamp: u64) -> Result<bool, BenchError> {
        if self.out.len() - self.written > OUT_BYTES_MAX {
            return Ok(false);
        }
        encode(&self.contents, self.correlation, &mut self.out)?;
        self.correlation = self.correlation.wrapping_add(1);
        self.stamps.push_back(stamp);
        Ok(true)
    }

    fn turn(&mut self, done: &mut Vec<Completion>) -> Result<bool, BenchError> {
        let now = Instant::now();
        self.write()?;
        let sent = self.socket.send(now)?;
        let received = self.socket.receive(now)?;
        let mut readable = false;
        while let Some(event) = self.socket.endpoint.poll_event() {
            match event {
                Event::Readable { .. } => readable = true,
                Event::Writable { .. } => self.blocked = false,
                Event::Closed { .. } => return Err(BenchError::Closed { peer: PEER }),
                _ => {}
            }
        }
        if readable {
            self.read(done)?;
        }
        Ok(sent || received)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_counted_however_they_are_cut() {
        let mut bytes = Vec::new();
        for size in [0, 1, 64] {
            let contents = Asked::Ping { size }.contents().expect("small");
            encode(&contents, 7, &mut bytes).expect("small");
        }
        for cut in 1..=bytes.len() {
            let mut carry = Vec::new();
            let mut count = 0;
            for chunk in bytes.chunks(cut) {
                take_frames(&mut carry, chunk, || count += 1).expect("well formed");
            }
            assert_eq!((count, carry.len()), (3, 0), "in {cut}s");
        }
    }

    #[test]
    fn what_is_no_frame_is_an_error() {
        let mut carry = Vec::new();
        assert!(take_frames(&mut carry, &[0xff; 12], || {}).is_err());
    }
}
