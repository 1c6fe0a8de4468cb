//! A minimal client of the NATS protocol: one publisher, many subscribers.

use std::net::SocketAddr;
use std::time::Instant;

use pinion_cli::bench::measure::{BenchError, Completion, Driver, SILENCE_MAX};
use pinion_cli::bench::pubsub::RECORD_BYTES_MIN;

use crate::tcp::{Fault, Wire, Wires, decimal, line_end, refusal};

/// What a client says first; the PONG that comes back says it was taken.
pub(crate) const CONNECT: &[u8] = b"CONNECT {\"verbose\":false,\"pedantic\":false,\"tls_required\":false,\"lang\":\"bench\",\"version\":\"0\",\"protocol\":1}\r\nPING\r\n";
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

    fn await_pongs(&mut self, wanted: usize) -> Result<(), BenchError> {
        await_pongs(&mut self.wires, wanted)
    }
}

/// Waits until the server has answered `wanted` PINGs. A PONG answers everything
/// that was sent before its PING. Messages that come meanwhile are dropped.
pub(crate) fn await_pongs(wires: &mut Wires, mut wanted: usize) -> Result<(), BenchError> {
    let started = Instant::now();
    while wanted > 0 {
        let mut pongs = 0;
        wires.turn(|_, wire| take(wire, &mut pongs, |_, _| Ok(())))?;
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
        let mut pongs = 0;
        self.wires.turn(|_, wire| {
            take(wire, &mut pongs, |message, _| {
                let stamp = message.payload.first_chunk::<RECORD_BYTES_MIN>();
                let (Ok(lane), Some(stamp)) = (u32::try_from(message.sid), stamp) else {
                    return Err(unexpected(message.payload));
                };
                done.push(Completion {
                    lane,
                    stamp: u64::from_le_bytes(*stamp),
                });
                Ok(())
            })
        })
    }
}

/// One message of a subscription.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    pub(crate) subject: &'a [u8],
    /// As the subscription was numbered.
    pub(crate) sid: usize,
    /// Where an answer is expected; empty is nowhere.
    pub(crate) reply: &'a [u8],
    pub(crate) payload: &'a [u8],
}

/// One operation of the server.
#[derive(Debug, PartialEq, Eq)]
enum Operation<'a> {
    Message(Message<'a>),
    Ping,
    Pong,
    Other,
}

/// Takes every whole operation off the wire and answers PINGs. `visit` may
/// append what it has to say; it is queued behind them.
pub(crate) fn take(
    wire: &mut Wire,
    pongs: &mut usize,
    mut visit: impl FnMut(&Message<'_>, &mut Vec<u8>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    wire.take_each(|input, out| {
        let Some((operation, length)) = operation(input)? else {
            return Ok(None);
        };
        match operation {
            Operation::Message(message) => visit(&message, out)?,
            Operation::Ping => out.extend_from_slice(b"PONG\r\n"),
            Operation::Pong => *pongs += 1,
            Operation::Other => {}
        }
        Ok(Some(length))
    })
}

/// The operation at the front and its bytes; none while it is incomplete.
fn operation(bytes: &[u8]) -> Result<Option<(Operation<'_>, usize)>, Fault> {
    let Some(end) = line_end(bytes) else {
        return Ok(None);
    };
    let line = &bytes[..end];
    let whole = end + 2;
    if let Some(rest) = line.strip_prefix(b"MSG ") {
        // MSG subject sid [reply-to] bytes
        let mut words = rest.split(|&b| b == b' ');
        let subject = words.next().unwrap_or_default();
        let sid = words.next().and_then(decimal);
        let third = words.next().unwrap_or_default();
        let (reply, length) = match words.next() {
            None => (b"".as_slice(), decimal(third)),
            Some(fourth) => (third, decimal(fourth)),
        };
        let (Some(sid), Some(length)) = (sid, length) else {
            return Err(unexpected(line));
        };
        let Some(payload) = bytes.get(whole..whole + length + 2) else {
            return Ok(None);
        };
        let message = Message {
            subject,
            sid,
            reply,
            payload: &payload[..length],
        };
        return Ok(Some((Operation::Message(message), whole + length + 2)));
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

pub(crate) fn unexpected(line: &[u8]) -> Fault {
    refusal("NATS", "PUB or SUB", line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_where_they_end_and_carry_what_they_were_sent_with() {
        let mut bytes = b"MSG bench 42 10\r\n".to_vec();
        bytes.extend_from_slice(&7_u64.to_le_bytes());
        bytes.extend_from_slice(b"\r\n\r\nPING\r\n");
        let parse = |bytes| operation(bytes).map_err(|Fault(error)| error.to_string());
        let message = Message {
            subject: b"bench",
            sid: 42,
            reply: b"",
            payload: b"\x07\0\0\0\0\0\0\0\r\n",
        };
        assert_eq!(parse(&bytes), Ok(Some((Operation::Message(message), 29))));
        for cut in 0..29 {
            assert_eq!(parse(&bytes[..cut]), Ok(None), "cut at {cut}");
        }
        assert_eq!(parse(&bytes[29..]), Ok(Some((Operation::Ping, 6))));
        assert!(parse(b"-ERR 'Slow Consumer'\r\n").is_err());
        assert!(parse(b"MSG bench x 8\r\n").is_err());
    }

    #[test]
    fn a_message_may_name_where_its_answer_goes() {
        let answered = operation(b"MSG work 1 $JS.ACK.W.c.1 0\r\n\r\n");
        let Ok(Some((Operation::Message(message), 30))) = answered else {
            panic!("a whole message");
        };
        assert_eq!(message.reply, b"$JS.ACK.W.c.1");
        assert_eq!(message.payload, b"");
    }
}
