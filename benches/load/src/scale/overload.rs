//! Twice as many requests as the node can answer, and what comes after.

use std::time::{Duration, Instant};

use pinion_cli::bench::latency::Latency;
use pinion_cli::bench::measure::{BenchError, Completion, Driver, SILENCE_MAX, closed_loop};
use pinion_client::native::SubmitError;
use pinion_types::PartitionId;
use pinion_wire::message::{CacheSetMany, Handle, ItemList, Reply, Request, SetItem, Spec};

use crate::table::Spread;

use super::ask::Submit;
use super::drivers::{Ask, Asker};
use super::fanout::lost_share;
use super::stage::{Limit, Stage, each};

pub(super) const NOTE: &str = "A request is a CACHE_SET_MANY of 64 keys, so that it costs the node far more than \
     the generator; eight connections. The peak is the best round with 64 in flight on each. Then twice as many are \
     due a second, whatever comes back: one that finds its connection with as much in flight as the node \
     allows is turned away and counts as not done. Good is what was answered within a second of when it was \
     due. After that half of the peak is asked: the node has recovered at the first tenth of a second \
     whose p99 is at most twice what it was before, as is the middle one of the five that begin with it.";

const CONNECTIONS: usize = 8;

/// Keys of one request.
const ITEMS: u64 = 64;

/// Distinct keys, all of which fit the cache.
const KEYS: u64 = 65_536;

const VALUE: &[u8] = &[0x5a; 32];

/// Requests in flight on each connection at the peak.
const DEPTH: u32 = 64;

/// What is due, over the peak.
const FACTOR: f64 = 2.0;

/// Least of what is due that must really be offered, in % of it, for the
/// figure to be one of overload; told as what is missing.
const NOT_OFFERED_MAX: f64 = 5.0;

/// An answer that comes later is of no use to who asked.
const GOOD_WITHIN: Duration = Duration::from_secs(1);

/// Most of the peak that may be lost while overloaded, %.
const GOODPUT_LOSS_MAX: f64 = 20.0;

/// Most by which good answers may exceed the peak, %: more says that others held
/// the node down while the peak was looked for.
const GOODPUT_GAIN_MAX: f64 = 20.0;

/// Longest time until requests are answered as before, seconds.
const RECOVERY_MAX_S: f64 = 5.0;

/// How long it is looked for.
const RECOVERY_WATCH: Duration = Duration::from_secs(8);

const OVERLOAD_WINDOW: Duration = Duration::from_secs(1);
const CALM_WINDOW: Duration = Duration::from_millis(100);

/// How long half of the peak is asked before.
const CALM: Duration = Duration::from_secs(2);

/// Windows whose middle p99 is compared, so that one hiccup of the machine
/// neither hides a recovery nor makes one.
const CALM_WINDOWS: usize = 5;

/// Most of that p99 over the one before.
const CALM_RATIO: f64 = 2.0;

/// Requests due that are submitted before what came back is looked at.
const BURST_MAX: usize = 256;

struct SetMany {
    next: u64,
    scratch: Vec<u8>,
    keys: Vec<[u8; 16]>,
}

impl Ask for SetMany {
    fn ask(&mut self, handle: Handle, submit: &mut Submit<'_>) -> Result<u32, SubmitError> {
        for (index, key) in (0..).zip(&mut self.keys) {
            let number = (self.next + index) % KEYS;
            key[..8].copy_from_slice(&number.to_le_bytes());
        }
        let items = self.keys.iter().map(|key| SetItem {
            ttl_ms: 0,
            key,
            value: VALUE,
        });
        let items = ItemList::build(&mut self.scratch, items).map_err(SubmitError::Encode)?;
        let correlation = submit(&Request::CacheSetMany(CacheSetMany {
            handle,
            partition: PartitionId(0),
            items,
        }))?;
        self.next = (self.next + ITEMS) % KEYS;
        Ok(correlation)
    }

    fn is_good(&self, reply: &Reply<'_>) -> bool {
        match reply {
            Reply::CacheStoredMany(stored) => {
                u64::from(stored.len()) == ITEMS && stored.iter().all(|item| item.error.is_none())
            }
            _ => false,
        }
    }
}

pub(super) fn play(stage: &mut Stage<'_>) -> Result<(), BenchError> {
    let node = stage.start()?;
    let ask = SetMany {
        next: 0,
        scratch: Vec::new(),
        keys: vec![[0; 16]; usize::try_from(ITEMS).unwrap_or(0)],
    };
    let spec = Spec::ephemeral(1);
    let mut driver = Asker::new(node.admin()?, CONNECTIONS, "overloaded", spec, ask)?;
    let peaks = stage.rounds("peak", &node, |span| closed_loop(&mut driver, DEPTH, span))?;
    // The best of them: twice of a rate that others held down would be no overload.
    let peak = each(&peaks, |sample| sample.rate)
        .into_iter()
        .fold(0.0, f64::max);

    driver.tolerate_refusals();
    let mut pacer = Pacer::new(stage.limit);
    let overload = stage.sizes.overload;
    let (before, during, after) = stage.watched(&node, || {
        let before = pacer.pace(&mut driver, peak / 2.0, CALM, CALM_WINDOW)?;
        let during = pacer.pace(&mut driver, peak * FACTOR, overload, OVERLOAD_WINDOW)?;
        let after = pacer.pace(&mut driver, peak / 2.0, RECOVERY_WATCH, CALM_WINDOW)?;
        Ok((before, during, after))
    })?;

    let p99s = |windows: &[Window]| -> Vec<f64> {
        let p99 = |window: &Window| window.latency.summary().p99_us;
        windows.iter().map(p99).collect()
    };
    let calm = Spread::of(p99s(&before)).map_or(0.0, |spread| spread.median);
    let seconds = OVERLOAD_WINDOW.as_secs_f64();
    let per_second = |of: fn(&Window) -> u64| -> Vec<f64> {
        let rate = |window: &Window| of(window) as f64 / seconds;
        during.iter().map(rate).collect()
    };
    let due = peak * FACTOR;
    stage.told(
        "requests a second with 64 in flight on each connection",
        "/s",
        each(&peaks, |sample| sample.rate),
    );
    stage.told("the best of them, the peak", "/s", vec![peak]);
    stage.held(
        "not offered of what was due, while overloaded",
        "%",
        per_second(|window| window.offered)
            .into_iter()
            .map(|offered| lost_share(offered, due))
            .collect(),
        NOT_OFFERED_MAX,
    );
    stage.told(
        "turned away, while overloaded",
        "/s",
        per_second(|window| window.turned_away),
    );
    stage.told("refused by the node", "", vec![driver.refused() as f64]);
    stage.held(
        format!(
            "good answers a second below the peak, in {} s",
            overload.as_secs()
        ),
        "%",
        per_second(|window| window.good)
            .into_iter()
            .map(|good| lost_share(good, peak))
            .collect(),
        GOODPUT_LOSS_MAX,
    );
    // Else the peak was none, and twice of it no overload.
    stage.held(
        "good answers a second above the peak",
        "%",
        per_second(|window| window.good)
            .into_iter()
            .map(|good| -lost_share(good, peak))
            .collect(),
        GOODPUT_GAIN_MAX,
    );
    stage.told(
        "p99 while overloaded",
        "ms",
        p99s(&during).iter().map(|us| us / 1e3).collect(),
    );
    stage.told("p99 at half of the peak, before", "µs", vec![calm]);
    let recovered = recovered_after(&p99s(&after), calm * CALM_RATIO);
    let windows = recovered.unwrap_or(after.len());
    stage.held(
        match recovered {
            Some(_) => "time to recover",
            None => "time to recover: not within",
        },
        "s",
        vec![windows as f64 * CALM_WINDOW.as_secs_f64()],
        RECOVERY_MAX_S,
    );
    Ok(())
}

/// The first calm window (p99 at most `p99_max`) of [`CALM_WINDOWS`] in a row
/// whose middle p99 is calm as well. A window without an answer has a p99 of 0 and is not calm.
fn recovered_after(p99s: &[f64], p99_max: f64) -> Option<usize> {
    let silent = |p99: &f64| if *p99 > 0.0 { *p99 } else { f64::INFINITY };
    p99s.windows(CALM_WINDOWS).position(|some| {
        let some: Vec<f64> = some.iter().map(silent).collect();
        some[0] <= p99_max && Spread::of(some).is_some_and(|spread| spread.median <= p99_max)
    })
}

/// What happened in one piece of time.
#[derive(Clone, Debug, Default)]
struct Window {
    /// Requests that were due and were submitted or turned away.
    offered: u64,
    /// Those for which there was no room.
    turned_away: u64,
    /// Answered within [`GOOD_WITHIN`] of when they were due.
    good: u64,
    /// Of all answers that came in it, from when they were due.
    latency: Latency,
}

/// Asks at a rate, one rate after the other without a pause between them.
struct Pacer {
    origin: Instant,
    limit: Limit,
    last_answer: u64,
}

impl Pacer {
    fn new(limit: Limit) -> Self {
        Self {
            origin: Instant::now(),
            limit,
            last_answer: 0,
        }
    }

    fn now(&self) -> u64 {
        nanos(self.origin.elapsed())
    }

    /// Submits `rate` requests a second for `length`, lane after lane, whether
    /// or not answers come; what finds no room is turned away.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "nanoseconds of one run are far below 2^53"
    )]
    fn pace<D: Driver>(
        &mut self,
        driver: &mut D,
        rate: f64,
        length: Duration,
        window: Duration,
    ) -> Result<Vec<Window>, BenchError> {
        let start = self.now();
        let (length, width) = (nanos(length), nanos(window).max(1));
        let mut windows = vec![Window::default(); length.div_ceil(width).max(1) as usize];
        let interval = 1e9 / rate.max(1e-3);
        let mut done: Vec<Completion> = Vec::new();
        let (mut due_count, mut lane) = (0_u64, 0);
        let mut now = start;
        self.last_answer = now;
        while now - start < length {
            let at = ((now - start) / width) as usize;
            for _ in 0..BURST_MAX {
                let due = start + (due_count as f64 * interval) as u64;
                if due > now {
                    break;
                }
                windows[at].offered += 1;
                windows[at].turned_away += u64::from(!driver.submit(lane, due)?);
                due_count += 1;
                lane = (lane + 1) % driver.lanes().max(1);
            }
            driver.turn(&mut done)?;
            now = self.now();
            let at = (((now - start) / width) as usize).min(windows.len() - 1);
            if !done.is_empty() {
                self.last_answer = now;
            } else if now - self.last_answer > nanos(SILENCE_MAX) {
                return Err(BenchError::Silence {
                    waited: SILENCE_MAX,
                    in_flight: due_count,
                });
            }
            for completion in done.drain(..) {
                let latency = now.saturating_sub(completion.stamp);
                windows[at].latency.record(latency);
                windows[at].good += u64::from(latency <= nanos(GOOD_WITHIN));
            }
        }
        self.limit.check(1)?;
        Ok(windows)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Answers `rate` requests a second and has room for `room`.
    struct Busy {
        queue: VecDeque<Completion>,
        room: usize,
        interval: Duration,
        next: Instant,
    }

    impl Driver for Busy {
        fn lanes(&self) -> usize {
            2
        }

        fn submit(&mut self, lane: usize, stamp: u64) -> Result<bool, BenchError> {
            if self.queue.len() == self.room {
                return Ok(false);
            }
            if self.queue.is_empty() {
                self.next = self.next.max(Instant::now());
            }
            let lane = u32::try_from(lane).expect("two lanes");
            self.queue.push_back(Completion { lane, stamp });
            Ok(true)
        }

        fn turn(&mut self, done: &mut Vec<Completion>) -> Result<bool, BenchError> {
            let now = Instant::now();
            let before = done.len();
            while self.next <= now
                && let Some(completion) = self.queue.pop_front()
            {
                self.next += self.interval;
                done.push(completion);
            }
            Ok(done.len() > before)
        }
    }

    #[test]
    fn what_finds_no_room_is_turned_away_and_the_schedule_goes_on() {
        let mut busy = Busy {
            queue: VecDeque::new(),
            room: 8,
            interval: Duration::from_micros(100),
            next: Instant::now(),
        };
        let mut pacer = Pacer::new(Limit::new(Duration::from_secs(3600)));
        let (length, width) = (Duration::from_millis(100), Duration::from_millis(50));
        // Twice of what it can do.
        let windows = pacer
            .pace(&mut busy, 20_000.0, length, width)
            .expect("answers");
        assert_eq!(windows.len(), 2);
        let total = |of: fn(&Window) -> u64| windows.iter().map(of).sum::<u64>();
        let (offered, away, good) = (
            total(|w| w.offered),
            total(|w| w.turned_away),
            total(|w| w.good),
        );
        assert!(offered <= 2000, "{offered}");
        assert!(away > 0 && away < offered, "{away} of {offered}");
        assert!(good > 0 && good <= offered - away, "{good}");
        assert!(good <= 1001, "{good} of at most a thousand");
    }

    #[test]
    fn a_recovery_needs_most_of_half_a_second_and_silence_is_none() {
        let p99s = [90.0, 90.0, 5.0, 90.0, 4.0, 5.0, 4.0, 90.0, 5.0];
        assert_eq!(recovered_after(&p99s, 10.0), Some(2));
        assert_eq!(recovered_after(&p99s[..6], 10.0), None);
        assert_eq!(recovered_after(&[0.0; 9], 10.0), None);
        assert_eq!(recovered_after(&[5.0; 4], 10.0), None);
    }

    #[test]
    fn a_request_that_is_turned_away_does_not_move_the_keys() {
        let mut ask = SetMany {
            next: KEYS - 1,
            scratch: Vec::new(),
            keys: vec![[0; 16]; 64],
        };
        let refused = ask.ask(Handle::default(), &mut |_| {
            Err(SubmitError::InFlight { limit: 1 })
        });
        assert!(refused.is_err());
        assert_eq!(ask.next, KEYS - 1);
        let mut keys = Vec::new();
        ask.ask(Handle::default(), &mut |request| {
            if let Request::CacheSetMany(many) = request {
                keys = many.items.iter().map(|item| item.key.to_vec()).collect();
            }
            Ok(1)
        })
        .expect("taken");
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 64);
        assert_eq!(ask.next, ITEMS - 1);
    }
}
