//! A minimal client of memcached's text protocol: `get` and `set`, pipelined.
//! The protocol is in `doc/protocol.txt` of memcached.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use pinion_cli::bench::measure::{BenchError, Completion, Driver, SILENCE_MAX};
use pinion_cli::bench::rpc::{CacheLoad, Random, key, threshold};

use crate::tcp::{Wire, Wires, decimal, line_end};

/// Requests in flight while keys are stored before a run.
const PRELOAD_DEPTH: usize = 256;

/// What a `set` is answered with.
const STORED: &[u8] = b"STORED";

/// What ends the answer to a `get`.
const END: &[u8] = b"END\r\n";

/// Drives `get` and `set` over plain TCP.
pub struct Memcached {
    wires: Wires,
    stamps: Vec<VecDeque<u64>>,
    gets: Vec<Vec<u8>>,
    sets: Vec<Vec<u8>>,
    get_below: u64,
    random: Random,
}

impl Memcached {
    /// Connects and stores every key.
    ///
    /// # Errors
    /// The server refuses, or does not answer.
    pub fn new(
        address: SocketAddr,
        connections: usize,
        load: &CacheLoad,
    ) -> Result<Self, BenchError> {
        let wires = Wires::connect(address, connections.max(1), None)
            .map_err(BenchError::io("connecting to memcached"))?;
        let value = vec![0x5a; load.value_bytes];
        let keys: Vec<_> = (0..load.keys.max(1)).map(key).collect();
        let mut driver = Self {
            stamps: vec![VecDeque::new(); wires.len()],
            wires,
            gets: keys.iter().map(|key| get(key)).collect(),
            sets: keys.iter().map(|key| set(key, &value)).collect(),
            get_below: threshold(load.get_share),
            random: Random::new(1),
        };
        driver.preload()?;
        Ok(driver)
    }

    fn preload(&mut self) -> Result<(), BenchError> {
        let mut done = Vec::new();
        let mut stored = 0;
        let mut next = 0;
        let mut last = Instant::now();
        while stored < self.sets.len() {
            while next < self.sets.len() && next - stored < PRELOAD_DEPTH {
                self.wires.wire(0).out.extend_from_slice(&self.sets[next]);
                self.stamps[0].push_back(0);
                next += 1;
            }
            if self.turn(&mut done)? {
                last = Instant::now();
            } else if last.elapsed() > SILENCE_MAX {
                return Err(BenchError::Silence {
                    waited: last.elapsed(),
                    in_flight: (next - stored) as u64,
                });
            }
            stored += done.len();
            done.clear();
        }
        Ok(())
    }
}

impl Driver for Memcached {
    fn lanes(&self) -> usize {
        self.wires.len()
    }

    fn submit(&mut self, lane: usize, stamp: u64) -> Result<bool, BenchError> {
        let index = self.random.below(self.gets.len());
        let command = if self.random.next() <= self.get_below {
            &self.gets[index]
        } else {
            &self.sets[index]
        };
        self.wires.wire(lane).out.extend_from_slice(command);
        self.stamps[lane].push_back(stamp);
        Ok(true)
    }

    fn turn(&mut self, done: &mut Vec<Completion>) -> Result<bool, BenchError> {
        let sent = self
            .wires
            .flush()
            .map_err(BenchError::io("sending to memcached"))?;
        let stamps = &mut self.stamps;
        let received = self
            .wires
            .fill(|lane, wire| take_replies(lane, wire, &mut stamps[lane], done))
            .map_err(|Fault(error)| error)?;
        Ok(sent || received)
    }
}

struct Fault(BenchError);

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self(BenchError::io("reading from memcached")(error))
    }
}

fn take_replies(
    lane: usize,
    wire: &mut Wire,
    stamps: &mut VecDeque<u64>,
    done: &mut Vec<Completion>,
) -> Result<(), Fault> {
    let input = wire.input();
    let mut at = 0;
    while let Some(length) = reply_length(&input[at..])? {
        at += length;
        let stamp = stamps
            .pop_front()
            .ok_or_else(|| unexpected(b"a reply too many"))?;
        done.push(Completion {
            lane: u32::try_from(lane).unwrap_or(u32::MAX),
            stamp,
        });
    }
    wire.consume(at);
    Ok(())
}

/// Bytes of the whole reply at the front; none while it is incomplete. Only a
/// value or STORED is a success: every key was stored before the run.
fn reply_length(bytes: &[u8]) -> Result<Option<usize>, Fault> {
    let Some(line) = line_end(bytes) else {
        return Ok(None);
    };
    let head = &bytes[..line];
    if head == STORED {
        return Ok(Some(line + 2));
    }
    // VALUE <key> <flags> <bytes>
    let size = head
        .strip_prefix(b"VALUE ")
        .and_then(|rest| rest.rsplit(|&byte| byte == b' ').next())
        .and_then(decimal)
        .ok_or_else(|| unexpected(head))?;
    let value_end = line + 2 + size;
    let total = value_end + 2 + END.len();
    if bytes.len() < total {
        return Ok(None);
    }
    // A count of bytes that is wrong would shift every reply after it.
    let tail = &bytes[value_end..total];
    if tail.strip_prefix(b"\r\n") == Some(END) {
        Ok(Some(total))
    } else {
        Err(unexpected(tail))
    }
}

fn unexpected(line: &[u8]) -> Fault {
    Fault(BenchError::Unexpected {
        peer: "memcached",
        question: "get or set",
        answer: String::from_utf8_lossy(line).into_owned(),
    })
}

fn get(key: &[u8]) -> Vec<u8> {
    [b"get ", key, b"\r\n"].concat()
}

/// With no flags, and no time after which it goes.
fn set(key: &[u8], value: &[u8]) -> Vec<u8> {
    let size = value.len().to_string();
    [
        b"set ",
        key,
        b" 0 0 ",
        size.as_bytes(),
        b"\r\n",
        value,
        b"\r\n",
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::time::Duration;

    use pinion_cli::bench::measure::{Span, closed_loop};

    use super::*;

    #[test]
    fn commands_name_key_size_and_value() {
        assert_eq!(get(b"k"), b"get k\r\n");
        assert_eq!(set(b"k", b"abc"), b"set k 0 0 3\r\nabc\r\n");
    }

    #[test]
    fn replies_are_cut_where_they_end() {
        let length = |bytes| reply_length(bytes).map_err(|Fault(error)| error.to_string());
        assert_eq!(length(b"STORED\r\nVA"), Ok(Some(8)));
        // The value holds a line end and what looks like an end.
        let value = b"VALUE k 0 7\r\nEND\r\nab\r\nEND\r\n";
        assert_eq!(length(value), Ok(Some(value.len())));
        for cut in 0..value.len() {
            assert_eq!(length(&value[..cut]), Ok(None), "cut at {cut}");
        }
        assert!(length(b"END\r\n").is_err(), "a miss is not a success");
        assert!(length(b"SERVER_ERROR out of memory\r\n").is_err());
        assert!(length(b"VALUE k 0 x\r\n").is_err());
        assert!(
            length(b"VALUE k 0 1\r\nab\r\nEND\r\n").is_err(),
            "a wrong size"
        );
    }

    /// Answers one client as memcached would, every value being three bytes.
    fn answer(listener: &TcpListener) {
        let (mut socket, _) = listener.accept().expect("a client");
        let mut input = Vec::new();
        let mut chunk = [0; 4096];
        while let Ok(bytes @ 1..) = socket.read(&mut chunk) {
            input.extend_from_slice(&chunk[..bytes]);
            let mut out = Vec::new();
            while let Some(line) = line_end(&input) {
                let head = String::from_utf8(input[..line].to_vec()).expect("text");
                let words: Vec<_> = head.split(' ').collect();
                let mut used = line + 2;
                if words[0] == "set" {
                    used += words[4].parse::<usize>().expect("a size") + 2;
                    if input.len() < used {
                        break;
                    }
                    out.extend_from_slice(b"STORED\r\n");
                } else {
                    out.extend_from_slice(
                        format!("VALUE {} 0 3\r\nabc\r\nEND\r\n", words[1]).as_bytes(),
                    );
                }
                input.drain(..used);
            }
            if socket.write_all(&out).is_err() {
                return;
            }
        }
    }

    #[test]
    fn every_key_is_stored_first_and_every_request_answered_once() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("bind");
        let address = listener.local_addr().expect("bound");
        let server = std::thread::spawn(move || answer(&listener));
        let load = CacheLoad {
            keys: 600,
            value_bytes: 3,
            get_share: 0.5,
        };
        let mut driver = Memcached::new(address, 1, &load).expect("stored");
        assert!(driver.stamps[0].is_empty(), "nothing is left of the stores");
        let span = Span {
            warmup: Duration::from_millis(5),
            measured: Duration::from_millis(50),
        };
        let run = closed_loop(&mut driver, 16, span).expect("answers");
        assert!(run.completed > 16, "{}", run.completed);
        assert!(driver.stamps[0].is_empty(), "all were answered");
        drop(driver);
        server.join().expect("the server ends with its client");
    }
}
