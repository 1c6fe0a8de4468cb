//! Request and reply over native connections: PING and the cache.

use pinion_client::native::{LinkId, NativeClient, NativeConfig, Received, SubmitError};
use pinion_types::{ResourceKind, route};
use pinion_wire::message::{CacheGet, CacheSet, Condition, Handle, Ping, Reply, Request};
use pinion_wire::opcode;

use std::time::Instant;

use super::measure::{BenchError, Completion, Driver};
use super::target::{connect_spread, open, unexpected};

/// Stamps remembered per request in flight: replies may overtake each other by
/// this factor before one is no longer recognised.
const STAMPS_PER_DEPTH: usize = 8;

/// What each request asks.
#[derive(Clone, Debug)]
pub enum Ask {
    /// PING with so many bytes.
    Ping {
        /// Bytes of the payload.
        size: usize,
    },
    /// GET and SET of keys chosen at random.
    Cache(CacheLoad),
}

/// A cache workload.
#[derive(Clone, Debug)]
pub struct CacheLoad {
    /// Distinct keys, all stored before the run.
    pub keys: usize,
    /// Bytes of every value.
    pub value_bytes: usize,
    /// Share of GETs, 0 to 1; the rest are SETs.
    pub get_share: f64,
}

/// The `index`-th key, the same for every server measured.
#[must_use]
pub fn key(index: usize) -> Vec<u8> {
    format!("bench:{index:010}").into_bytes()
}

/// A small, fast generator of 64-bit numbers (xorshift64*, Vigna 2016), so that
/// choosing a key costs a nanosecond and every run asks the same keys.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator with its own sequence for every `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`.
    #[allow(clippy::cast_possible_truncation, reason = "below bound, a usize")]
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }
}

/// Turns a share from 0 to 1 into a threshold for [`Random::next`].
#[must_use]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, which is what a share of 1 means"
)]
pub fn threshold(share: f64) -> u64 {
    (share.clamp(0.0, 1.0) * 18_446_744_073_709_551_616.0) as u64
}

struct Lane {
    link: LinkId,
    handle: Handle,
    /// Indexes of the keys whose partition lives where this connection landed.
    keys: Vec<u32>,
    /// `(correlation, stamp)`, at `correlation mod len`.
    stamps: Vec<(u32, u64)>,
}

/// Drives PING or the cache over native connections.
pub struct Rpc {
    client: NativeClient,
    lanes: Vec<Lane>,
    ask: Ask,
    payload: Vec<u8>,
    keys: Vec<Vec<u8>>,
    get_below: u64,
    random: Random,
}

impl Rpc {
    /// Connects `connections` times and, for the cache, stores every key.
    ///
    /// # Errors
    /// The node refuses, or does not answer.
    pub fn new(
        config: NativeConfig,
        connections: usize,
        depth: u32,
        ask: Ask,
    ) -> Result<Self, BenchError> {
        let mut client = NativeClient::new(config)?;
        let links = connect_spread(&mut client, connections.max(1))?;
        let stamps = (depth.max(1) as usize * STAMPS_PER_DEPTH).next_power_of_two();
        let mut lanes: Vec<Lane> = links
            .into_iter()
            .map(|link| Lane {
                link,
                handle: Handle::default(),
                keys: Vec::new(),
                stamps: vec![(0, 0); stamps],
            })
            .collect();
        let (payload, keys, get_below) = match &ask {
            Ask::Ping { size } => (vec![0x5a; *size], Vec::new(), 0),
            Ask::Cache(load) => {
                let keys: Vec<_> = (0..load.keys.max(1)).map(key).collect();
                let value = vec![0x5a; load.value_bytes];
                open_cache(&mut client, &mut lanes, &keys)?;
                preload(&mut client, &lanes[0], &keys, &value)?;
                (value, keys, threshold(load.get_share))
            }
        };
        Ok(Self {
            client,
            lanes,
            ask,
            payload,
            keys,
            get_below,
            random: Random::new(1),
        })
    }
}

/// Opens the cache on every connection and gives each the keys of its core.
fn open_cache(
    client: &mut NativeClient,
    lanes: &mut [Lane],
    keys: &[Vec<u8>],
) -> Result<(), BenchError> {
    for lane in lanes {
        let opened = open(client, lane.link, ResourceKind::Cache, "cache")?;
        let landed = client.welcome(lane.link).map_or(0, |w| w.core);
        let shards = opened.shards();
        let core_of = |key: &[u8]| {
            let partition = route::partition_of(key, shards);
            opened.cores.get(usize::from(partition.0)).copied()
        };
        lane.handle = opened.handle;
        lane.keys = (0..)
            .zip(keys)
            .filter(|(_, key)| core_of(key) == Some(landed))
            .map(|(index, _)| index)
            .collect();
        // A core without a partition serves this connection by mailbox: any key will do.
        if lane.keys.is_empty() {
            lane.keys = (0..).zip(keys).map(|(index, _)| index).collect();
        }
    }
    Ok(())
}

/// Stores every key over one connection, as many in flight as the node takes.
fn preload(
    client: &mut NativeClient,
    lane: &Lane,
    keys: &[Vec<u8>],
    value: &[u8],
) -> Result<(), BenchError> {
    let started = Instant::now();
    let mut next = 0;
    let mut stored = 0;
    let mut refused = None;
    while stored < keys.len() {
        while let Some(key) = keys.get(next) {
            let request = Request::CacheSet(CacheSet {
                handle: lane.handle,
                condition: Condition::Always,
                ttl_ms: 0,
                key,
                value,
            });
            match client.submit(lane.link, &request) {
                Ok(_) => next += 1,
                Err(SubmitError::InFlight { .. } | SubmitError::Full { .. }) => break,
                Err(error) => return Err(BenchError::Native(error.into())),
            }
        }
        let now = Instant::now();
        client.flush(now)?;
        client.poll(now, |received| match received {
            Received::Reply {
                opcode: opcode::CACHE_STORED,
                ..
            } => stored += 1,
            Received::Reply { opcode, body, .. } => {
                refused = Some(unexpected("SET", &Reply::decode(opcode, body)));
            }
            Received::Delivery { .. } => {}
            Received::Closed { .. } => refused = Some(BenchError::Closed { peer: "the node" }),
        })?;
        if let Some(refused) = refused {
            return Err(refused);
        }
        if now.duration_since(started) > super::target::PATIENCE {
            return Err(BenchError::Silence {
                waited: now.duration_since(started),
                in_flight: (next - stored) as u64,
            });
        }
    }
    Ok(())
}

impl Driver for Rpc {
    fn lanes(&self) -> usize {
        self.lanes.len()
    }

    fn submit(&mut self, lane: usize, stamp: u64) -> Result<bool, BenchError> {
        let lane = &mut self.lanes[lane];
        let request = match &self.ask {
            Ask::Ping { .. } => Request::Ping(Ping {
                payload: &self.payload,
            }),
            Ask::Cache(_) => {
                let index = lane.keys[self.random.below(lane.keys.len())];
                let key = &self.keys[index as usize];
                let handle = lane.handle;
                if self.random.next() <= self.get_below {
                    Request::CacheGet(CacheGet { handle, key })
                } else {
                    Request::CacheSet(CacheSet {
                        handle,
                        condition: Condition::Always,
                        ttl_ms: 0,
                        key,
                        value: &self.payload,
                    })
                }
            }
        };
        match self.client.submit(lane.link, &request) {
            Ok(correlation) => {
                let slot = correlation as usize & (lane.stamps.len() - 1);
                lane.stamps[slot] = (correlation, stamp);
                Ok(true)
            }
            Err(SubmitError::InFlight { .. } | SubmitError::Full { .. }) => Ok(false),
            Err(error) => Err(BenchError::Native(error.into())),
        }
    }

    fn turn(&mut self, done: &mut Vec<Completion>) -> Result<bool, BenchError> {
        let now = Instant::now();
        let sent = self.client.flush(now)?;
        let Self { client, lanes, .. } = self;
        let mut fault = None;
        let received = client.poll(now, |received| match received {
            Received::Reply {
                link,
                correlation,
                opcode,
                body,
            } => {
                // Connections are few and replies come in runs, so the search is short.
                let found = (0_u32..)
                    .zip(lanes.iter())
                    .find(|(_, lane)| lane.link == link);
                let Some((index, lane)) = found else { return };
                let (asked, stamp) = lane.stamps[correlation as usize & (lane.stamps.len() - 1)];
                if asked != correlation || !is_success(opcode) {
                    fault = Some(unexpected("a request", &Reply::decode(opcode, body)));
                    return;
                }
                done.push(Completion { lane: index, stamp });
            }
            Received::Delivery { .. } => {}
            Received::Closed { .. } => fault = Some(BenchError::Closed { peer: "the node" }),
        })?;
        match fault {
            Some(fault) => Err(fault),
            None => Ok(sent || received),
        }
    }
}

/// A miss is no success: every key was stored before the run.
const fn is_success(code: u8) -> bool {
    matches!(
        code,
        opcode::PONG | opcode::CACHE_VALUE | opcode::CACHE_STORED
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_thresholds_that_random_numbers_meet_as_often() {
        let mut random = Random::new(7);
        for share in [0.0, 0.25, 0.9, 1.0] {
            let below = threshold(share);
            let hits = (0..100_000).filter(|_| random.next() <= below).count();
            let expected = share * 100_000.0;
            #[allow(clippy::cast_precision_loss, reason = "a small count")]
            let off = (hits as f64 - expected).abs();
            assert!(off < 1000.0, "{share}: {hits}");
        }
    }

    #[test]
    fn random_numbers_stay_below_their_bound_and_reach_all_of_it() {
        let mut random = Random::new(3);
        let mut seen = [false; 7];
        for _ in 0..1000 {
            seen[random.below(7)] = true;
        }
        assert_eq!(seen, [true; 7]);
    }
}
