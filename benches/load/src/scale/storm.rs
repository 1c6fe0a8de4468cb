//! A million keys whose time is over in the same millisecond.

use std::time::{Duration, Instant};

use pinion_cli::bench::measure::{BenchError, Span, open_loop};
use pinion_cli::bench::rpc::{Ask, CacheLoad, Rpc};
use pinion_cli::bench::target::{PATIENCE, open_as, unexpected};
use pinion_client::native::{NativeClient, Received, SubmitError};
use pinion_types::limits::CACHE_MULTI_MAX;
use pinion_types::{PartitionId, ResourceKind};
use pinion_wire::message::{CacheSetMany, CacheStatus, ItemList, Reply, Request, SetItem, Spec};

use super::drivers::{Background, Beside};
use super::fill::Looker;
use super::stage::{Limit, Stage, Started, each, mib, p99_growths};

pub(super) const NOTE: &str = "Values of 100 B, written 512 keys at a time, each time when a whole number of \
     milliseconds is left until the one deadline; one such request is under way at once, and what took longer \
     than a millisecond is written again, so that all deadlines lie within one. Others GET 100 B from another cache, 20,000 a second, open loop: before, and for \
     one second around the deadline. Memory counts as reclaimed when the cache says that it has no entry.";

const VALUE: &[u8] = &[0x5a; 100];

/// Keys of one request: few enough that its round trip stays well below
/// [`SPREAD_MAX`], so that few are written twice.
const PER_REQUEST: usize = 512;

const _: () = assert!(PER_REQUEST <= CACHE_MULTI_MAX as usize);

/// Most by which two deadlines may differ.
const SPREAD_MAX: Duration = Duration::from_millis(1);

/// Bytes the cache may keep: ten times what the keys need, so that no key
/// gives way before its time.
const BUDGET: u64 = 2 << 30;

/// Time from the first key to the deadline. It must be enough to write them
/// all and to measure the others for a while.
const LEAD: Duration = Duration::from_secs(5);

/// How long before the deadline the calm measurement ends.
const ALIGN: Duration = Duration::from_millis(50);

/// Least time the others are measured before.
const CALM_MIN: Duration = Duration::from_millis(500);

/// How long the others are measured around the deadline.
const STORM: Duration = Duration::from_secs(1);

/// Requests a second of the others.
const RATE: f64 = 20_000.0;

/// Requests that may be unanswered when a stall holds them up: the open loop
/// sends on, and an answer to one that was forgotten is a fault.
const LATE_MAX: u32 = 4096;

/// Most the others' p99 may grow in that second.
const P99_RATIO_MAX: f64 = 2.0;

/// Longest time until the memory is reclaimed, seconds.
const RECLAIM_MAX_S: f64 = 1.0;

/// Pause between two questions how many entries are left.
const LOOK_EVERY: Duration = Duration::from_millis(5);

const LOAD: CacheLoad = CacheLoad {
    keys: 1000,
    value_bytes: 100,
    get_share: 1.0,
};

const CACHE: &str = "storm";

pub(super) fn play(stage: &mut Stage<'_>) -> Result<(), BenchError> {
    let node = stage.start()?;
    let mut others = Rpc::new(node.config()?, 1, LATE_MAX, Ask::Cache(LOAD))?;
    let mut writer = Writer::new(&node)?;
    let mut looker = Looker::new(&node, CACHE)?;
    let keys = stage.sizes.expiring;
    let (mut calms, mut storms) = (Vec::new(), Vec::new());
    let (mut reclaimed, mut spreads) = (Vec::new(), Vec::new());
    let (mut full, mut after) = (Vec::new(), Vec::new());
    for _ in 0..stage.sizes.storms {
        let deadline = Instant::now() + LEAD;
        let spread = writer.write(keys, deadline, &stage.limit)?;
        let status = looker.look()?;
        if status.entries != keys as u64 {
            return Err(BenchError::Options(format!(
                "{} of {keys} keys are there before their time is over",
                status.entries
            )));
        }
        full.push(mib(node.rss()?));
        let left = deadline.saturating_duration_since(Instant::now());
        let Some(measured) = left.checked_sub(ALIGN).filter(|it| *it >= CALM_MIN) else {
            return Err(BenchError::Options(format!(
                "{left:?} before the deadline the keys were only just written"
            )));
        };
        let calm = stage.once("others before", &node, || {
            open_loop(&mut others, RATE, now_for(measured))
        })?;
        let mut watcher = Watcher::new(&mut looker, deadline);
        let storm = stage.once("others in the storm", &node, || {
            let mut driver = Beside {
                driver: &mut others,
                background: &mut watcher,
            };
            open_loop(&mut driver, RATE, now_for(STORM))
        })?;
        let took = watcher.wait(&stage.limit)?;
        after.push(mib(node.rss()?));
        reclaimed.push(took.as_secs_f64());
        spreads.push(spread.as_secs_f64() * 1e3);
        calms.push(calm);
        storms.push(storm);
    }
    stage.held(
        format!("longest difference of {keys} deadlines"),
        "ms",
        spreads,
        SPREAD_MAX.as_secs_f64() * 1e3,
    );
    let growths = p99_growths(&storms, &calms);
    stage.held_beside(
        "others",
        "the storm",
        &calms,
        &storms,
        &growths,
        P99_RATIO_MAX,
    );
    stage.held(
        "requests of others without an answer",
        "",
        each(&storms, |s| s.lost as f64),
        0.0,
    );
    stage.held(
        "from the deadline until no entry is left",
        "s",
        reclaimed,
        RECLAIM_MAX_S,
    );
    stage.told("resident memory before the storm", "MiB", full);
    stage.told("resident memory a second after it", "MiB", after);
    Ok(())
}

const fn now_for(measured: Duration) -> Span {
    Span {
        warmup: Duration::ZERO,
        measured,
    }
}

/// The next moment at which a whole number of milliseconds is left until
/// `deadline`, and that number, which is the life of a key that is sent then.
/// None when it is too late. A life of 0 would be one without end.
fn next_moment(now: Instant, deadline: Instant) -> Option<(Instant, u64)> {
    let left = deadline.checked_duration_since(now)?;
    let ttl_ms = u64::try_from(left.as_millis()).ok().filter(|ms| *ms > 0)?;
    let at = deadline.checked_sub(Duration::from_millis(ttl_ms))?;
    Some((at, ttl_ms))
}

/// Writes the keys.
struct Writer {
    client: NativeClient,
    link: pinion_client::native::LinkId,
    handle: pinion_wire::message::Handle,
    scratch: Vec<u8>,
}

impl Writer {
    fn new(node: &Started) -> Result<Self, BenchError> {
        let mut client = NativeClient::new(node.admin()?)?;
        let link = client.connect(None, PATIENCE)?;
        let spec = Spec {
            ring_bytes: BUDGET,
            ..Spec::ephemeral(1)
        };
        let kind = ResourceKind::Cache;
        let opened = open_as(&mut client, link, kind, CACHE, Some(spec))?;
        Ok(Self {
            client,
            link,
            handle: opened.handle,
            scratch: Vec::new(),
        })
    }

    /// Writes `keys` keys, each to live until `deadline`. Gives by how much two
    /// of their deadlines may differ: a node counts a life from when it takes the
    /// key, which is between a whole millisecond before the deadline and when its
    /// answer came.
    fn write(
        &mut self,
        keys: usize,
        deadline: Instant,
        limit: &Limit,
    ) -> Result<Duration, BenchError> {
        let mut spread = Duration::ZERO;
        let names: Vec<[u8; 8]> = (0..keys as u64).map(u64::to_le_bytes).collect();
        let mut chunks = names.chunks(PER_REQUEST);
        let mut next = chunks.next();
        while let Some(some) = next {
            limit.check(keys)?;
            let (at, ttl_ms) = next_moment(Instant::now(), deadline).ok_or_else(|| {
                BenchError::Options(format!("{LEAD:?} were not enough to write {keys} keys"))
            })?;
            while Instant::now() < at {
                std::hint::spin_loop();
            }
            self.set(some, ttl_ms)?;
            let took = at.elapsed();
            // What took longer is written again, with the life that is left then.
            if took <= SPREAD_MAX {
                spread = spread.max(took);
                next = chunks.next();
            }
        }
        Ok(spread)
    }

    fn set(&mut self, keys: &[[u8; 8]], ttl_ms: u64) -> Result<(), BenchError> {
        let items = keys.iter().map(|key| SetItem {
            ttl_ms,
            key,
            value: VALUE,
        });
        let items = ItemList::build(&mut self.scratch, items)
            .map_err(|error| BenchError::Native(SubmitError::Encode(error).into()))?;
        let request = Request::CacheSetMany(CacheSetMany {
            handle: self.handle,
            partition: PartitionId(0),
            items,
        });
        let reply = self.client.call(self.link, &request, PATIENCE, |_| {})?;
        match reply.decode() {
            Ok(Reply::CacheStoredMany(stored))
                if stored.iter().all(|item| item.error.is_none()) =>
            {
                Ok(())
            }
            other => Err(unexpected("CACHE_SET_MANY", &other)),
        }
    }
}

/// Asks now and then how many entries are left, and notes when none is.
struct Watcher<'a> {
    looker: &'a mut Looker,
    deadline: Instant,
    asked: Option<Instant>,
    waiting: bool,
    empty: Option<Instant>,
}

impl<'a> Watcher<'a> {
    const fn new(looker: &'a mut Looker, deadline: Instant) -> Self {
        Self {
            looker,
            deadline,
            asked: None,
            waiting: false,
            empty: None,
        }
    }

    /// Goes on asking until none is left; gives how long it took.
    fn wait(mut self, limit: &Limit) -> Result<Duration, BenchError> {
        loop {
            if let Some(empty) = self.empty {
                return Ok(empty.saturating_duration_since(self.deadline));
            }
            limit.check(1)?;
            self.attend()?;
        }
    }
}

impl Background for Watcher<'_> {
    fn attend(&mut self) -> Result<(), BenchError> {
        let now = Instant::now();
        let is_time = self
            .asked
            .is_none_or(|at| now.duration_since(at) >= LOOK_EVERY);
        if self.empty.is_some() || (!self.waiting && !is_time) {
            return Ok(());
        }
        let (client, link, question) = self.looker.parts();
        if !self.waiting {
            client
                .submit(link, &question)
                .map_err(|error| BenchError::Native(error.into()))?;
            self.asked = Some(now);
            self.waiting = true;
        }
        client.flush(now)?;
        let mut status: Option<CacheStatus> = None;
        let mut fault = None;
        client.poll(now, |received| match received {
            Received::Reply { opcode, body, .. } => match Reply::decode(opcode, body) {
                Ok(Reply::CacheStatus(found)) => status = Some(found),
                other => fault = Some(unexpected("CACHE_INFO", &other)),
            },
            Received::Delivery { .. } => {}
            Received::Closed { .. } => fault = Some(BenchError::Closed { peer: "the node" }),
        })?;
        if let Some(fault) = fault {
            return Err(fault);
        }
        if let Some(status) = status {
            self.waiting = false;
            if status.entries == 0 {
                self.empty = Some(Instant::now());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_sent_when_a_whole_number_of_milliseconds_is_left_to_it() {
        let now = Instant::now();
        let deadline = now + Duration::from_millis(100);
        assert_eq!(next_moment(now, deadline), Some((now, 100)));
        for microseconds in [1, 500, 1000] {
            let later = now + Duration::from_micros(microseconds);
            let whole = now + Duration::from_millis(1);
            assert_eq!(next_moment(later, deadline), Some((whole, 99)));
        }
        // A time to live of 0 would be one without end.
        let last = deadline - Duration::from_millis(1);
        assert_eq!(next_moment(last, deadline), Some((last, 1)));
        assert_eq!(next_moment(last + Duration::from_micros(1), deadline), None);
        assert_eq!(
            next_moment(deadline + Duration::from_nanos(1), deadline),
            None
        );
    }
}
