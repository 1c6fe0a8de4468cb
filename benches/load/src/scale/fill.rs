//! A cache that is written to long after it is full.

use std::time::{Duration, Instant};

use pinion_cli::bench::measure::{BenchError, Driver, Span, closed_loop};
use pinion_cli::bench::rpc::Random;
use pinion_cli::bench::target::{PATIENCE, open, unexpected};
use pinion_client::native::{LinkId, NativeClient, SubmitError};
use pinion_types::{PartitionId, ResourceKind};
use pinion_wire::message::{
    CacheInfo, CacheSet, CacheStatus, Condition, Handle, Reply, Request, Spec,
};

use super::ask::Submit;
use super::drivers::{Ask, Asker};
use super::stage::{Stage, Started, mib, slope};

pub(super) const NOTE: &str = "Values of 16 to 4,096 bytes, every key new, 256 SETs in flight. Written until \
     the cache gives way, then twice its budget more, and from there for as long as `--fill-minutes` says, or \
     until `--minutes-max` is over; only in that last part memory is looked at, once a second. The slope is that of the line of least \
     squares through all its points.";

/// Times its budget that is written over it before memory is looked at.
const OVER: u64 = 2;

/// Most the resident memory may grow while the cache is full, % of the budget:
/// what an allocator's pages may wander, and no more.
const GROWTH_MAX: f64 = 2.0;

/// Most the resident memory may exceed what the node had before and the
/// budget, % of the budget. Values of all sizes leave gaps between them.
const EXCESS_MAX: f64 = 25.0;

const VALUE_MIN: usize = 16;
const VALUE_MAX: usize = 4096;

const DEPTH: u32 = 256;

/// Kept of the scenario's time for its end: one slice and the last look.
const END_TIME: Duration = Duration::from_secs(2);

/// Most of the minutes asked for that may be missing: a look at memory.
const MISSING_MAX_MIN: f64 = 0.1;

/// Between two looks at memory.
const SLICE: Span = Span {
    warmup: Duration::ZERO,
    measured: Duration::from_secs(1),
};

/// Between two looks while the cache is filled.
const FILL_SLICE: Span = Span {
    warmup: Duration::ZERO,
    measured: Duration::from_millis(100),
};

const CACHE: &str = "full";

/// Writes keys that were never there before.
struct Fill {
    next: u64,
    value: Vec<u8>,
    random: Random,
    /// Bytes of values sent.
    bytes: u64,
}

impl Ask for Fill {
    fn ask(&mut self, handle: Handle, submit: &mut Submit<'_>) -> Result<u32, SubmitError> {
        let len = VALUE_MIN + self.random.below(VALUE_MAX + 1 - VALUE_MIN);
        let correlation = submit(&Request::CacheSet(CacheSet {
            handle,
            condition: Condition::Always,
            ttl_ms: 0,
            key: &self.next.to_le_bytes(),
            value: &self.value[..len],
        }))?;
        self.next += 1;
        self.bytes += len as u64;
        Ok(correlation)
    }

    fn is_good(&self, reply: &Reply<'_>) -> bool {
        matches!(reply, Reply::CacheStored(_))
    }
}

#[allow(clippy::cast_precision_loss, reason = "bytes far below 2^53")]
pub(super) fn play(stage: &mut Stage<'_>) -> Result<(), BenchError> {
    let node = stage.start()?;
    let budget = stage.sizes.cache_bytes;
    let spec = Spec {
        ring_bytes: budget,
        ..Spec::ephemeral(1)
    };
    let fill = Fill {
        next: 0,
        value: vec![0x5a; VALUE_MAX],
        random: Random::new(1),
        bytes: 0,
    };
    let mut driver = Asker::new(node.admin()?, 1, CACHE, spec, fill)?;
    let mut looker = Looker::new(&node, CACHE)?;
    let before = node.rss()?;

    let started = Instant::now();
    while looker.look()?.evictions == 0 {
        closed_loop(&mut driver, DEPTH, FILL_SLICE)?;
        stage.limit.check(1)?;
    }
    let filled_in = started.elapsed().as_secs_f64();
    let full = driver.ask.bytes;
    while driver.ask.bytes < full + OVER * budget {
        closed_loop(&mut driver, DEPTH, FILL_SLICE)?;
        stage.limit.check(1)?;
    }

    // What is left when the time is limited; the table says how much it was.
    let fill = stage.limit.left().saturating_sub(END_TIME);
    let fill = stage.sizes.fill.min(fill);
    let started = Instant::now();
    let (mut points, mut samples, mut of_budget) = (Vec::new(), Vec::new(), Vec::new());
    while started.elapsed() < fill {
        samples.push(stage.once("full", &node, || closed_loop(&mut driver, DEPTH, SLICE))?);
        let status = looker.look()?;
        of_budget.push(status.bytes as f64 / status.budget as f64 * 100.0);
        points.push((started.elapsed().as_secs_f64() / 60.0, mib(node.rss()?)));
        if driver.lost() > 0 {
            return Err(BenchError::Closed { peer: "the node" });
        }
    }
    report(stage, before, filled_in, &points);
    let most = of_budget.into_iter().fold(0.0, f64::max);
    stage.held(
        "most bytes of the cache, of its budget",
        "%",
        vec![most],
        100.0,
    );
    stage.told(
        "SETs a second, full",
        "/s",
        samples.iter().map(|sample| sample.rate).collect(),
    );
    stage.told(
        "p99 of a SET, full",
        "µs",
        samples.iter().map(|sample| sample.p99_us).collect(),
    );
    stage.told(
        "values written over the budget",
        "×",
        vec![(driver.ask.bytes - full) as f64 / budget as f64],
    );
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "bytes far below 2^53")]
fn report(stage: &mut Stage<'_>, before: f64, filled_in: f64, points: &[(f64, f64)]) {
    let budget = mib(stage.sizes.cache_bytes as f64);
    let minutes = points.last().map_or(0.0, |(minute, _)| *minute);
    let most = points.iter().map(|(_, rss)| *rss).fold(0.0, f64::max);
    let slope = slope(points);
    stage.told("time until the cache gave way", "s", vec![filled_in]);
    stage.told("minutes it was written to after that", "min", vec![minutes]);
    let wanted = stage.sizes.fill.as_secs_f64() / 60.0;
    stage.held(
        "minutes missing of those it was to be",
        "min",
        vec![(wanted - minutes).max(0.0)],
        MISSING_MAX_MIN,
    );
    stage.told(
        "resident memory meanwhile",
        "MiB",
        points.iter().map(|(_, rss)| *rss).collect(),
    );
    stage.told("its slope", "MiB/min", slope.into_iter().collect());
    stage.held(
        "its growth (slope × time), of the budget",
        "%",
        slope
            .map(|slope| slope * minutes / budget * 100.0)
            .into_iter()
            .collect(),
        GROWTH_MAX,
    );
    stage.held(
        "most of it above an empty node and the budget, of the budget",
        "%",
        vec![(most - mib(before) - budget) / budget * 100.0],
        EXCESS_MAX,
    );
}

/// Looks at the first partition of a cache.
pub(super) struct Looker {
    client: NativeClient,
    link: LinkId,
    handle: Handle,
}

impl Looker {
    pub(super) fn new(node: &Started, cache: &str) -> Result<Self, BenchError> {
        let mut client = NativeClient::new(node.admin()?)?;
        let link = client.connect(None, PATIENCE)?;
        let handle = open(&mut client, link, ResourceKind::Cache, cache)?.handle;
        Ok(Self {
            client,
            link,
            handle,
        })
    }

    /// Waits for the answer.
    pub(super) fn look(&mut self) -> Result<CacheStatus, BenchError> {
        let request = self.question();
        let reply = self.client.call(self.link, &request, PATIENCE, |_| {})?;
        match reply.decode() {
            Ok(Reply::CacheStatus(status)) => Ok(status),
            other => Err(unexpected("CACHE_INFO", &other)),
        }
    }

    /// For those who may not wait: the client, its connection and what to ask.
    pub(super) fn parts(&mut self) -> (&mut NativeClient, LinkId, Request<'static>) {
        let question = self.question();
        (&mut self.client, self.link, question)
    }

    const fn question(&self) -> Request<'static> {
        Request::CacheInfo(CacheInfo {
            handle: self.handle,
            partition: PartitionId(0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_busy_node_did_not_take_is_offered_again_under_the_same_key() {
        let mut fill = Fill {
            next: 9,
            value: vec![0; VALUE_MAX],
            random: Random::new(1),
            bytes: 0,
        };
        let full = fill.ask(Handle::default(), &mut |_| {
            Err(SubmitError::Full { limit: 1 })
        });
        assert!(full.is_err());
        assert_eq!((fill.next, fill.bytes), (9, 0));
        for _ in 0..1000 {
            let mut taken = None;
            fill.ask(Handle::default(), &mut |request| {
                if let Request::CacheSet(set) = request {
                    taken = Some((set.key.to_vec(), set.value.len()));
                }
                Ok(1)
            })
            .expect("taken");
            let (key, len) = taken.expect("a SET");
            assert_eq!(key, (fill.next - 1).to_le_bytes());
            assert!((VALUE_MIN..=VALUE_MAX).contains(&len), "{len}");
        }
    }
}
