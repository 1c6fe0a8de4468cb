//! beanstalkd: put, reserve and delete, as bare as the other clients.

use std::io::Write;
use std::net::SocketAddr;

use pinion_cli::bench::measure::{BenchError, Completion, Driver};
use pinion_cli::bench::queue::{QueueLoad, read_origin, write_origin};

use crate::tcp::{Fault, Wire, Wires, decimal, line_end, refusal};

/// Seconds a reservation lasts: longer than any run.
const TIME_TO_RUN_S: u32 = 600;

/// Producers and consumers, each on a connection of its own. Lane `p` is
/// producer `p`; what it submits is completed when the consumer that had it was
/// told that it is deleted.
///
/// A consumer asks for its next message in the same write as it deletes the
/// one it has, which is the most the protocol offers.
pub struct Beanstalkd {
    wires: Wires,
    load: QueueLoad,
    value: Vec<u8>,
    puts: Vec<u32>,
    /// Lane and stamp of the message each consumer is deleting.
    deleting: Vec<Option<(u32, u64)>>,
}

impl Beanstalkd {
    /// Connects; every consumer waits for its first message.
    ///
    /// # Errors
    /// The server is not there.
    pub fn new(address: SocketAddr, load: &QueueLoad) -> Result<Self, BenchError> {
        let mut wires = Wires::connect(address, load.producers + load.consumers, None)
            .map_err(BenchError::io("connecting to beanstalkd"))?;
        for consumer in 0..load.consumers {
            let wire = wires.wire(load.producers + consumer);
            wire.out.extend_from_slice(b"reserve\r\n");
        }
        Ok(Self {
            wires,
            value: vec![0x5a; load.message_bytes],
            puts: vec![0; load.producers],
            deleting: vec![None; load.consumers],
            load: load.clone(),
        })
    }
}

impl Driver for Beanstalkd {
    fn lanes(&self) -> usize {
        self.load.producers
    }

    fn submit(&mut self, lane: usize, stamp: u64) -> Result<bool, BenchError> {
        if self.puts[lane] >= self.load.puts {
            return Ok(false);
        }
        self.puts[lane] += 1;
        write_origin(&mut self.value, lane, stamp);
        let out = &mut self.wires.wire(lane).out;
        // Writing to memory does not fail.
        let _ = write!(out, "put 1 0 {TIME_TO_RUN_S} {}\r\n", self.value.len());
        out.extend_from_slice(&self.value);
        out.extend_from_slice(b"\r\n");
        Ok(true)
    }

    fn turn(&mut self, done: &mut Vec<Completion>) -> Result<bool, BenchError> {
        let Self {
            wires,
            load,
            puts,
            deleting,
            ..
        } = self;
        wires.turn(|index, wire| match index.checked_sub(load.producers) {
            None => take(wire, |answer, _| match answer {
                Answer::Inserted => {
                    puts[index] -= 1;
                    Ok(())
                }
                _ => Err(unexpected("put", b"another answer")),
            }),
            Some(consumer) => take(wire, |answer, out| match answer {
                Answer::Reserved { id, body } => {
                    let origin = read_origin(body).ok_or_else(|| unexpected("reserve", body))?;
                    deleting[consumer] = Some(origin);
                    out.extend_from_slice(b"delete ");
                    out.extend_from_slice(id);
                    out.extend_from_slice(b"\r\nreserve\r\n");
                    Ok(())
                }
                Answer::Deleted => {
                    let (lane, stamp) = deleting[consumer]
                        .take()
                        .ok_or_else(|| unexpected("delete", b"DELETED twice"))?;
                    done.push(Completion { lane, stamp });
                    Ok(())
                }
                Answer::Inserted => Err(unexpected("reserve", b"INSERTED")),
            }),
        })
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Answer<'a> {
    Inserted,
    Reserved { id: &'a [u8], body: &'a [u8] },
    Deleted,
}

/// Takes every whole answer off the wire; what `visit` appends is queued.
fn take(
    wire: &mut Wire,
    mut visit: impl FnMut(Answer<'_>, &mut Vec<u8>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    wire.take_each(|input, out| match answer(input)? {
        Some((answer, length)) => visit(answer, out).map(|()| Some(length)),
        None => Ok(None),
    })
}

/// The answer at the front and its bytes; none while it is incomplete.
fn answer(bytes: &[u8]) -> Result<Option<(Answer<'_>, usize)>, Fault> {
    let Some(end) = line_end(bytes) else {
        return Ok(None);
    };
    let line = &bytes[..end];
    let whole = end + 2;
    if let Some(rest) = line.strip_prefix(b"RESERVED ") {
        let mut words = rest.split(|&b| b == b' ');
        let id = words.next().unwrap_or_default();
        let Some(length) = words.next().and_then(decimal) else {
            return Err(unexpected("reserve", line));
        };
        return Ok(bytes.get(whole..whole + length + 2).map(|body| {
            let body = &body[..length];
            (Answer::Reserved { id, body }, whole + length + 2)
        }));
    }
    match line {
        b"DELETED" => Ok(Some((Answer::Deleted, whole))),
        line if line.starts_with(b"INSERTED ") => Ok(Some((Answer::Inserted, whole))),
        _ => Err(unexpected("put, reserve or delete", line)),
    }
}

fn unexpected(question: &'static str, answer: &[u8]) -> Fault {
    refusal("beanstalkd", question, answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_cut_where_they_end() {
        let parse = |bytes| answer(bytes).map_err(|Fault(error)| error.to_string());
        let bytes = b"RESERVED 17 4\r\na\r\nb\r\nDELETED\r\nINSERTED 3\r\n";
        let body = b"a\r\nb".as_slice();
        let reserved = Answer::Reserved { id: b"17", body };
        assert_eq!(parse(bytes), Ok(Some((reserved, 21))));
        for cut in 0..21 {
            assert_eq!(parse(&bytes[..cut]), Ok(None), "cut at {cut}");
        }
        assert_eq!(parse(&bytes[21..]), Ok(Some((Answer::Deleted, 9))));
        assert_eq!(parse(&bytes[30..]), Ok(Some((Answer::Inserted, 12))));
        assert!(parse(b"OUT_OF_MEMORY\r\n").is_err());
        assert!(parse(b"DEADLINE_SOON\r\n").is_err());
    }
}
