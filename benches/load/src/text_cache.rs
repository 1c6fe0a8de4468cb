//! One driver for the caches that are spoken to in text: GET and SET,
//! pipelined, over TCP or TLS. What a request and its reply look like is a
//! [`Dialect`].

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use pinion_cli::bench::measure::{BenchError, Completion, Driver, SILENCE_MAX};
use pinion_cli::bench::rpc::{CacheLoad, Random, key, threshold};

use crate::tcp::{Fault, Wire, Wires, refusal};

/// Requests in flight while keys are stored before a run.
const PRELOAD_DEPTH: usize = 256;

/// How one server is spoken to.
pub trait Dialect {
    /// Its name, as faults tell it.
    const PEER: &'static str;

    /// The request for the value of `key`.
    fn get(key: &[u8]) -> Vec<u8>;

    /// The request to store `value` under `key`, without an end of its life.
    fn set(key: &[u8], value: &[u8]) -> Vec<u8>;

    /// Bytes of the whole reply at the front; none while it is incomplete. Only
    /// a value, or the word that it was stored, is a success: every key is
    /// stored before a run.
    ///
    /// # Errors
    /// The line that is neither.
    fn reply_length(bytes: &[u8]) -> Result<Option<usize>, &[u8]>;
}

/// Drives GET and SET in the dialect `D`; a lane is a connection.
pub struct TextCache<D> {
    wires: Wires,
    stamps: Vec<VecDeque<u64>>,
    gets: Vec<Vec<u8>>,
    sets: Vec<Vec<u8>>,
    get_below: u64,
    random: Random,
    dialect: PhantomData<D>,
}

impl<D: Dialect> TextCache<D> {
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
            .map_err(BenchError::io("connecting"))?;
        let value = vec![0x5a; load.value_bytes];
        let keys: Vec<_> = (0..load.keys.max(1)).map(key).collect();
        let mut driver = Self {
            stamps: vec![VecDeque::new(); wires.len()],
            wires,
            gets: keys.iter().map(|key| D::get(key)).collect(),
            sets: keys.iter().map(|key| D::set(key, &value)).collect(),
            get_below: threshold(load.get_share),
            random: Random::new(1),
            dialect: PhantomData,
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

impl<D: Dialect> Driver for TextCache<D> {
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
        let stamps = &mut self.stamps;
        self.wires
            .turn(|lane, wire| take_replies::<D>(lane, wire, &mut stamps[lane], done))
    }
}

fn take_replies<D: Dialect>(
    lane: usize,
    wire: &mut Wire,
    stamps: &mut VecDeque<u64>,
    done: &mut Vec<Completion>,
) -> Result<(), Fault> {
    let unexpected = |line: &[u8]| refusal(D::PEER, "GET or SET", line);
    wire.take_each(|input, _| {
        let Some(length) = D::reply_length(input).map_err(unexpected)? else {
            return Ok(None);
        };
        let stamp = stamps
            .pop_front()
            .ok_or_else(|| unexpected(b"a reply too many"))?;
        done.push(Completion {
            lane: u32::try_from(lane).unwrap_or(u32::MAX),
            stamp,
        });
        Ok(Some(length))
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::time::Duration;

    use pinion_cli::bench::measure::{Span, closed_loop};

    use super::*;

    /// A request is `g` or `s`, its reply `+`; anything else is none.
    struct Toy;

    impl Dialect for Toy {
        const PEER: &'static str = "a toy";

        fn get(_: &[u8]) -> Vec<u8> {
            b"g".to_vec()
        }

        fn set(_: &[u8], _: &[u8]) -> Vec<u8> {
            b"s".to_vec()
        }

        fn reply_length(bytes: &[u8]) -> Result<Option<usize>, &[u8]> {
            match bytes {
                [] => Ok(None),
                [b'+', ..] => Ok(Some(1)),
                other => Err(other),
            }
        }
    }

    /// Answers one client; gives how often it was asked to store and to read.
    /// The answer to read number `wrong_at` is another one.
    fn answer(listener: &TcpListener, wrong_at: usize) -> (usize, usize) {
        let (mut socket, _) = listener.accept().expect("a client");
        let (mut stores, mut reads) = (0, 0);
        let mut chunk = [0; 4096];
        while let Ok(bytes @ 1..) = socket.read(&mut chunk) {
            let mut out = Vec::new();
            for byte in &chunk[..bytes] {
                *(if *byte == b's' {
                    &mut stores
                } else {
                    &mut reads
                }) += 1;
                out.push(if reads == wrong_at { b'-' } else { b'+' });
            }
            if socket.write_all(&out).is_err() {
                break;
            }
        }
        (stores, reads)
    }

    const BRIEF: Span = Span {
        warmup: Duration::from_millis(5),
        measured: Duration::from_millis(50),
    };

    fn load(keys: usize, get_share: f64) -> CacheLoad {
        CacheLoad {
            keys,
            value_bytes: 3,
            get_share,
        }
    }

    #[test]
    fn every_key_is_stored_first_and_every_request_answered_once() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("bind");
        let address = listener.local_addr().expect("bound");
        let server = std::thread::spawn(move || answer(&listener, usize::MAX));
        let mut driver = TextCache::<Toy>::new(address, None, 1, &load(600, 1.0)).expect("stored");
        assert!(driver.stamps[0].is_empty(), "nothing is left of the stores");
        let run = closed_loop(&mut driver, 16, BRIEF).expect("answers");
        assert!(run.completed > 16, "{}", run.completed);
        assert!(driver.stamps[0].is_empty(), "all were answered");
        drop(driver);
        let (stores, reads) = server.join().expect("the server ends with its client");
        assert_eq!(stores, 600, "reads alone do not store");
        assert!(reads as u64 >= run.completed, "{reads}");
    }

    #[test]
    fn another_answer_ends_the_run_and_is_told() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("bind");
        let address = listener.local_addr().expect("bound");
        let server = std::thread::spawn(move || answer(&listener, 40));
        let mut driver = TextCache::<Toy>::new(address, None, 1, &load(1, 1.0)).expect("stored");
        let error = closed_loop(&mut driver, 16, BRIEF).expect_err("a wrong answer");
        assert!(
            matches!(&error, BenchError::Unexpected { peer: "a toy", answer, .. } if answer.starts_with('-')),
            "{error}"
        );
        drop(driver);
        server.join().expect("the server ends with its client");
    }
}
