//! A minimal client of the Redis protocol (RESP2): GET and SET, pipelined.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use pinion_cli::bench::measure::{BenchError, Completion, Driver, SILENCE_MAX};
use pinion_cli::bench::rpc::{CacheLoad, Random, key, threshold};

use crate::tcp::{Wire, Wires, decimal, line_end};

/// Requests in flight while keys are stored before a run.
const PRELOAD_DEPTH: usize = 256;

/// Drives GET and SET over plain TCP or TLS.
pub struct Redis {
    wires: Wires,
    stamps: Vec<VecDeque<u64>>,
    gets: Vec<Vec<u8>>,
    sets: Vec<Vec<u8>>,
    get_below: u64,
    random: Random,
}

impl Redis {
    /// Connects and stores every key.
    ///
    /// # Errors
    /// The server refuses, or does not answer.
    pub fn new(
        address: SocketAddr,
        tls: Option<&Arc<rustls::ClientConfig>>,
        connections: usize,
        load: &CacheLoad,
    ) -> Result<Self, BenchError> {
        let wires = Wires::connect(address, connections.max(1), tls)
            .map_err(BenchError::io("connecting to Redis"))?;
        let value = vec![0x5a; load.value_bytes];
        let keys: Vec<_> = (0..load.keys.max(1)).map(key).collect();
        let mut driver = Self {
            stamps: vec![VecDeque::new(); wires.len()],
            wires,
            gets: keys.iter().map(|key| command(&[b"GET", key])).collect(),
            sets: keys
                .iter()
                .map(|key| command(&[b"SET", key, &value]))
                .collect(),
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

impl Driver for Redis {
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
            .map_err(BenchError::io("sending to Redis"))?;
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
        Self(BenchError::io("reading from Redis")(error))
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
/// value or OK is a success: every key was stored before the run.
fn reply_length(bytes: &[u8]) -> Result<Option<usize>, Fault> {
    let Some(end) = line_end(bytes) else {
        return Ok(None);
    };
    match bytes.first() {
        Some(b'+') => Ok(Some(end + 2)),
        Some(b'$') => {
            let value = decimal(&bytes[1..end]).ok_or_else(|| unexpected(&bytes[..end]))?;
            let total = end + 2 + value + 2;
            Ok((bytes.len() >= total).then_some(total))
        }
        _ => Err(unexpected(&bytes[..end])),
    }
}

fn unexpected(line: &[u8]) -> Fault {
    Fault(BenchError::Unexpected {
        peer: "Redis",
        question: "GET or SET",
        answer: String::from_utf8_lossy(line).into_owned(),
    })
}

fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_arrays_of_bulk_strings() {
        assert_eq!(command(&[b"GET", b"k"]), b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n");
    }

    #[test]
    fn replies_are_cut_where_they_end() {
        let length = |bytes| reply_length(bytes).map_err(|Fault(error)| error.to_string());
        assert_eq!(length(b"+OK\r\n$1"), Ok(Some(5)));
        assert_eq!(length(b"$3\r\na\rb\r\n"), Ok(Some(9)));
        for cut in 0..9 {
            assert_eq!(length(&b"$3\r\na\rb\r\n"[..cut]), Ok(None), "cut at {cut}");
        }
        assert!(length(b"$-1\r\n").is_err(), "a miss is not a success");
        assert!(length(b"-ERR x\r\n").is_err());
    }
}
