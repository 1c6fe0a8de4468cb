//! A minimal client of the NATS protocol: one publisher, many subscribers.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use pinion_cli::bench::measure::{BenchError, Completion, Driver, SILENCE_MAX};
use pinion_cli::bench::pubsub::RECORD_BYTES_MIN;

use crate::tcp::{Wire, Wires, decimal, line_end};

const CONNECT: &[u8] = b"CONNECT {\"verbose\":false,\"pedantic\":false,\"tls_required\":false,\"lang\":\"bench\",\"version\":\"0\",\"protocol\":1}\r\nPING\r\n";
const SUBJECT: &str = "bench";

/// Unsent bytes above which the publisher waits, as the native client does.
const OUT_BYTES_MAX: usize = 1 << 20;

/// Drives one publisher (connection 0) and its subscribers.
pub struct Nats {
    wires: Wires,
    head: Vec<u8>,
    value: Vec<u8>,
}

impl Nats {
    /// Connects and subscribes; with `shared` all subscriptions are on one
    /// connection.
    ///
    /// # Errors
    /// The server refuses, or does not answer.
    pub fn new(
        address: SocketAddr,
        subscribers: usize,
        shared: bool,
        record_bytes: usize,
    ) -> Result<Self, BenchError> {
        let connections = if shared { 2 } else { 1 + subscribers };
        let wires = Wires::connect(address, connections, None)
            .map_err(BenchError::io("connecting to NATS"))?;
        let value = vec![0x5a; record_bytes.max(RECORD_BYTES_MIN)];
        let mut driver = Self {
            wires,
            head: format!("PUB {SUBJECT} {}\r\n", value.len()).into_bytes(),
            value,
        };
        for lane in 0..connections {
            driver.wires.wire(lane).out.extend_from_slice(CONNECT);
        }
        driver.await_pongs(connections)?;
        for lane in 0..subscribers {
            let wire = if shared { 1 } else { 1 + lane };
            let line = format!("SUB {SUBJECT} {lane}\r\n");
            driver
                .wires
                .wire(wire)
                .out
                .extend_from_slice(line.as_bytes());
        }
        for lane in 1..connections {
            driver.wires.wire(lane).out.extend_from_slice(b"PING\r\n");
        }
        driver.await_pongs(connections - 1)?;
        Ok(driver)
    }

    /// A PONG answers everything that was sent before its PING.
    fn await_pongs(&mut self, mut wanted: usize) -> Result<(), BenchError> {
        let started = Instant::now();
        while wanted > 0 {
            self.wires
                .flush()
                .map_err(BenchError::io("sending to NATS"))?;
            let mut pongs = 0;
            self.wires
                .fill(|_, wire| take(wire, |_, _| {}, &mut pongs))
                .map_err(|Fault(error)| error)?;
            wanted = wanted.saturating_sub(pongs);
            if started.elapsed() > SILENCE_MAX {
                return Err(BenchError::Silence {
                    waited: started.elapsed(),
                    in_flight: wanted as u64,
                });
            }
        }
        Ok(())
    }
}

impl Driver for Nats {
    fn lanes(&self) -> usize {
        1
    }

    fn submit(&mut self, _lane: usize, stamp: u64) -> Result<bool, BenchError> {
        self.value[..RECORD_BYTES_MIN].copy_from_slice(&stamp.to_le_bytes());
        let publisher = self.wires.wire(0);
        if publisher.unsent() > OUT_BYTES_MAX {
            return Ok(false);
        }
        publisher.out.extend_from_slice(&self.head);
        publisher.out.extend_from_slice(&self.value);
        publisher.out.extend_from_slice(b"\r\n");
        Ok(true)
    }

    fn turn(&mut self, done: &mut Vec<Completion>) -> Result<bool, BenchError> {
        let sent = self
            .wires
            .flush()
            .map_err(BenchError::io("sending to NATS"))?;
        let mut pongs = 0;
        let received = self
            .wires
            .fill(|_, wire| {
                take(
                    wire,
                    |lane, stamp| done.push(Completion { lane, stamp }),
                    &mut pongs,
                )
            })
            .map_err(|Fault(error)| error)?;
        Ok(sent || received)
    }
}

struct Fault(BenchError);

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self(BenchError::io("reading from NATS")(error))
    }
}

/// One operation of the server.
#[derive(Debug, PartialEq, Eq)]
enum Operation {
    Message { lane: u32, stamp: u64 },
    Ping,
    Pong,
    Other,
}

/// Takes every whole operation off the wire and answers PINGs.
fn take(
    wire: &mut Wire,
    mut delivered: impl FnMut(u32, u64),
    pongs: &mut usize,
) -> Result<(), Fault> {
    let mut at = 0;
    let mut pings = 0;
    let input = wire.input();
    while let Some((operation, length)) = operation(&input[at..])? {
        at += length;
        match operation {
            Operation::Message { lane, stamp } => delivered(lane, stamp),
            Operation::Ping => pings += 1,
            Operation::Pong => *pongs += 1,
            Operation::Other => {}
        }
    }
    wire.consume(at);
    for _ in 0..pings {
        wire.out.extend_from_slice(b"PONG\r\n");
    }
    Ok(())
}

/// The operation at the front and its bytes; none while it is incomplete.
fn operation(bytes: &[u8]) -> Result<Option<(Operation, usize)>, Fault> {
    let Some(end) = line_end(bytes) else {
        return Ok(None);
    };
    let line = &bytes[..end];
    let whole = end + 2;
    if let Some(rest) = line.strip_prefix(b"MSG ") {
        // MSG subject sid [reply-to] bytes
        let mut words = rest.split(|&b| b == b' ').skip(1);
        let lane = words.next().and_then(decimal);
        let length = words.last().and_then(decimal);
        let (Some(lane), Some(length)) = (lane, length) else {
            return Err(unexpected(line));
        };
        let Some(payload) = bytes.get(whole..whole + length + 2) else {
            return Ok(None);
        };
        let stamp = payload[..length].first_chunk::<RECORD_BYTES_MIN>();
        let (Ok(lane), Some(stamp)) = (u32::try_from(lane), stamp) else {
            return Err(unexpected(line));
        };
        let stamp = u64::from_le_bytes(*stamp);
        return Ok(Some((
            Operation::Message { lane, stamp },
            whole + length + 2,
        )));
    }
    let operation = match line {
        b"PING" => Operation::Ping,
        b"PONG" => Operation::Pong,
        b"+OK" => Operation::Other,
        info if info.starts_with(b"INFO ") => Operation::Other,
        _ => return Err(unexpected(line)),
    };
    Ok(Some((operation, whole)))
}

fn unexpected(line: &[u8]) -> Fault {
    Fault(BenchError::Unexpected {
        peer: "NATS",
        question: "PUB or SUB",
        answer: String::from_utf8_lossy(line).into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_where_they_end_and_carry_lane_and_stamp() {
        let mut bytes = b"MSG bench 42 10\r\n".to_vec();
        bytes.extend_from_slice(&7_u64.to_le_bytes());
        bytes.extend_from_slice(b"\r\n\r\nPING\r\n");
        let parse = |bytes: &[u8]| operation(bytes).map_err(|Fault(error)| error.to_string());
        let whole = Operation::Message { lane: 42, stamp: 7 };
        assert_eq!(parse(&bytes), Ok(Some((whole, 29))));
        for cut in 0..29 {
            assert_eq!(parse(&bytes[..cut]), Ok(None), "cut at {cut}");
        }
        assert_eq!(parse(&bytes[29..]), Ok(Some((Operation::Ping, 6))));
        assert!(parse(b"-ERR 'Slow Consumer'\r\n").is_err());
        assert!(parse(b"MSG bench x 8\r\n").is_err());
    }
}
