//! The loops that measure. One [`Driver`] per protocol, the same loops for
//! all, so that two figures differ by what is measured and not by how.
//!
//! - [`closed_loop`] keeps a fixed number of requests in flight: the most a
//!   server gives at that depth, and the latency of one request in flight.
//! - [`open_loop`] sends on a schedule whether or not answers come, and counts
//!   latency from the *intended* send time, so a stall is charged to every
//!   request that it delayed (no coordinated omission).
//! - [`flood`] publishes as fast as the slowest of many subscribers reads.

use std::io;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::latency::Latency;
use super::machine::thread_cpu;

/// Longest wait without one answer before a run is given up. Longer hides a
/// dead server from a script; shorter calls a paused machine a failure.
pub const SILENCE_MAX: Duration = Duration::from_secs(5);

/// Longest wait for what is still in flight when a run ends.
const DRAIN_MAX: Duration = Duration::from_secs(2);

/// Why a run ended without a figure.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The kernel refused a call.
    #[error("{what}: {error}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Its answer.
        #[source]
        error: io::Error,
    },
    /// The native client could not go on.
    #[error(transparent)]
    Native(#[from] pinion_client::native::NativeError),
    /// The other side answered what the protocol does not allow here.
    #[error("{peer} answered {answer:?} to {question}")]
    Unexpected {
        /// Who answered.
        peer: &'static str,
        /// What it was asked.
        question: &'static str,
        /// The start of its answer.
        answer: String,
    },
    /// The other side closed the connection.
    #[error("{peer} closed the connection")]
    Closed {
        /// Who.
        peer: &'static str,
    },
    /// Nothing came back for [`SILENCE_MAX`].
    #[error("no answer for {waited:?} with {in_flight} in flight")]
    Silence {
        /// How long nothing came.
        waited: Duration,
        /// How many requests waited.
        in_flight: u64,
    },
    /// The options contradict each other or the server.
    #[error("{0}")]
    Options(String),
}

impl BenchError {
    /// For `map_err`: an I/O error with what was tried.
    pub fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io { what, error }
    }
}

/// One request answered, or one record delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The lane it was submitted on; for deliveries, the subscriber.
    pub lane: u32,
    /// The stamp it was submitted with.
    pub stamp: u64,
}

/// Speaks one protocol over one or more connections (lanes), never blocking.
pub trait Driver {
    /// How many lanes take requests.
    fn lanes(&self) -> usize;

    /// Queues one request on `lane`. `stamp` comes back with its completion.
    /// False: the lane takes no more before the next turn.
    ///
    /// # Errors
    /// The connection is gone.
    fn submit(&mut self, lane: usize, stamp: u64) -> Result<bool, BenchError>;

    /// Sends what is queued, receives what is there, and appends what was
    /// completed to `done`. True when anything moved.
    ///
    /// # Errors
    /// The connection is gone or its peer breaks the protocol.
    fn turn(&mut self, done: &mut Vec<Completion>) -> Result<bool, BenchError>;

    /// How many completions one submission has: one for a request, one per
    /// subscriber for a record.
    fn copies(&self) -> u64 {
        1
    }

    /// Records the peer announced as skipped for this side.
    fn lost(&self) -> u64 {
        0
    }
}

/// What the generator itself did; when it was the bottleneck, the figure
/// says nothing about the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Generator {
    /// Processor time of the generating thread over wall time. A spinning
    /// generator is near 1 by design.
    pub cpu_share: f64,
    /// Share of wall time in turns that moved something. Near 1: the
    /// generator, not the server, is the limit.
    pub busy_share: f64,
    /// Open loop: median of how late requests were submitted, microseconds.
    pub slip_p50_us: f64,
    /// Open loop: 99th percentile of the same.
    pub slip_p99_us: f64,
    /// Open loop: the latest submission.
    pub slip_max_us: f64,
}

/// What one run measured.
#[derive(Clone, Debug)]
pub struct Run {
    /// Answers or deliveries counted after the warm-up.
    pub completed: u64,
    /// Wall time in which they were counted.
    pub elapsed: Duration,
    /// Their latencies.
    pub latency: Latency,
    /// Records announced as skipped, or requests of an open loop not answered
    /// soon after its end.
    pub lost: u64,
    /// The generator's self check.
    pub generator: Generator,
}

impl Run {
    /// Answers or deliveries per second.
    #[must_use]
    #[allow(
        clippy::cast_precision_loss,
        reason = "counts of one run are far below 2^53"
    )]
    pub fn rate(&self) -> f64 {
        self.completed as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// How long a run takes.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// Ignored at the start: connections, caches and branch predictors settle.
    pub warmup: Duration,
    /// Measured.
    pub measured: Duration,
}

/// Keeps `depth` requests in flight on every lane.
///
/// # Errors
/// What the driver answers, or [`BenchError::Silence`].
pub fn closed_loop<D: Driver>(driver: &mut D, depth: u32, span: Span) -> Result<Run, BenchError> {
    let mut clock = Clock::start(span);
    let lanes = driver.lanes();
    let mut owed = vec![depth; lanes];
    let mut in_flight = 0_u64;
    let mut done = Vec::with_capacity(lanes * depth as usize);
    let mut now = clock.now();
    while !clock.finished(now) {
        for (lane, owed) in owed.iter_mut().enumerate() {
            while *owed > 0 && driver.submit(lane, now)? {
                *owed -= 1;
                in_flight += 1;
            }
        }
        let moved = driver.turn(&mut done)?;
        now = clock.turn(moved, !done.is_empty(), in_flight)?;
        in_flight -= done.len() as u64;
        for completion in done.drain(..) {
            owed[completion.lane as usize] += 1;
            clock.count(now.saturating_sub(completion.stamp));
        }
    }
    let run = clock.finish(now, driver.lost(), in_flight)?;
    drain(driver, in_flight)?;
    Ok(run)
}

/// Submits one request every `1 / rate` seconds, lane after lane, and counts
/// every one whose intended time lies after the warm-up, however late it left.
///
/// # Errors
/// What the driver answers, or [`BenchError::Silence`].
pub fn open_loop<D: Driver>(driver: &mut D, rate: f64, span: Span) -> Result<Run, BenchError> {
    let mut clock = Clock::start(span);
    let warm = nanos(span.warmup);
    let end = warm + nanos(span.measured);
    let give_up = end + nanos(DRAIN_MAX);
    let mut pace = Pace::new(rate);
    let mut slip = Latency::default();
    let lanes = driver.lanes();
    let mut lane = 0;
    let mut owed = 0_u64;
    let mut done = Vec::with_capacity(4096);
    let mut now = clock.now();
    // A stall at the end must be charged as well: everything intended before the
    // end is sent and waited for.
    while (owed > 0 || pace.intended() < end) && now < give_up {
        while pace.intended() <= now.min(end - 1) {
            let intended = pace.intended();
            if !driver.submit(lane, intended)? {
                break;
            }
            if intended >= warm {
                slip.record(now - intended);
            }
            pace.advance();
            owed += driver.copies();
            lane = if lane + 1 == lanes { 0 } else { lane + 1 };
        }
        let moved = driver.turn(&mut done)?;
        now = clock.turn(moved, !done.is_empty(), owed)?;
        owed = owed.saturating_sub(done.len() as u64);
        for completion in done.drain(..) {
            if completion.stamp >= warm {
                clock.completed += 1;
                clock.latency.record(now.saturating_sub(completion.stamp));
            }
        }
    }
    let lost = driver.lost().max(owed);
    clock.measured_from = warm;
    let mut run = clock.finish(now.max(end), lost, owed)?;
    let slip = slip.summary();
    run.generator.slip_p50_us = slip.p50_us;
    run.generator.slip_p99_us = slip.p99_us;
    run.generator.slip_max_us = slip.max_us;
    Ok(run)
}

/// Submits on lane 0 while the slowest of `subscribers` is less than `window`
/// behind; counts deliveries of all subscribers.
///
/// # Errors
/// What the driver answers, or [`BenchError::Silence`].
pub fn flood<D: Driver>(
    driver: &mut D,
    subscribers: usize,
    window: u64,
    span: Span,
) -> Result<Run, BenchError> {
    let mut clock = Clock::start(span);
    let mut received = vec![0_u64; subscribers];
    let mut slowest = 0;
    let mut submitted = 0_u64;
    let lost_before = driver.lost();
    let mut done = Vec::with_capacity(1 << 16);
    let mut now = clock.now();
    while !clock.finished(now) {
        if submitted - slowest >= window {
            slowest = received.iter().copied().min().unwrap_or(0);
        }
        // Refill in halves: a publish per delivery would make every packet small.
        if submitted - slowest <= window / 2 {
            while submitted - slowest < window && driver.submit(0, now)? {
                submitted += 1;
            }
        }
        let moved = driver.turn(&mut done)?;
        now = clock.turn(moved, !done.is_empty(), submitted - slowest)?;
        for completion in done.drain(..) {
            received[completion.lane as usize] += 1;
            clock.count(now.saturating_sub(completion.stamp));
        }
        if submitted - slowest > window / 2 {
            slowest = received.iter().copied().min().unwrap_or(0);
        }
    }
    let lost = driver.lost() - lost_before;
    let copies = submitted * subscribers as u64;
    let missing = copies.saturating_sub(received.iter().sum::<u64>() + lost);
    let run = clock.finish(now, lost, submitted - slowest)?;
    drain(driver, missing)?;
    Ok(run)
}

/// Lets what is in flight come back, uncounted, so that the next run on the
/// same connections starts clean.
fn drain<D: Driver>(driver: &mut D, mut in_flight: u64) -> Result<(), BenchError> {
    let give_up = Instant::now() + DRAIN_MAX;
    let mut done = Vec::new();
    while in_flight > 0 && Instant::now() < give_up {
        driver.turn(&mut done)?;
        in_flight = in_flight.saturating_sub(done.len() as u64);
        done.clear();
    }
    Ok(())
}

/// Intended send times: `start + n / rate`, computed from `n` so that no
/// rounding error adds up.
#[derive(Debug)]
struct Pace {
    interval_ns: f64,
    sent: u64,
}

impl Pace {
    fn new(rate: f64) -> Self {
        Self {
            interval_ns: 1e9 / rate.max(1e-3),
            sent: 0,
        }
    }

    /// The intended time of the next request.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "nanoseconds of one run are far below 2^53"
    )]
    fn intended(&self) -> u64 {
        (self.sent as f64 * self.interval_ns) as u64
    }

    fn advance(&mut self) {
        self.sent += 1;
    }
}

/// Time of one run in nanoseconds since its start, the warm-up, the silence
/// limit and the generator's self check.
struct Clock {
    origin: Instant,
    span: Span,
    warm_ns: u64,
    end_ns: u64,
    last: u64,
    last_answer: u64,
    busy_ns: u64,
    warm: bool,
    measuring: bool,
    cpu_before: Duration,
    measured_from: u64,
    completed: u64,
    latency: Latency,
}

impl Clock {
    fn start(span: Span) -> Self {
        let warm_ns = nanos(span.warmup);
        Self {
            origin: Instant::now(),
            span,
            warm_ns,
            end_ns: warm_ns + nanos(span.measured),
            last: 0,
            last_answer: 0,
            busy_ns: 0,
            warm: span.warmup.is_zero(),
            measuring: span.warmup.is_zero(),
            cpu_before: thread_cpu(),
            measured_from: 0,
            completed: 0,
            latency: Latency::default(),
        }
    }

    fn now(&self) -> u64 {
        nanos(self.origin.elapsed())
    }

    fn finished(&self, now: u64) -> bool {
        now >= self.end_ns
    }

    /// Ends a turn: gives the time, and counts the turn as busy if it moved.
    fn turn(&mut self, moved: bool, answered: bool, in_flight: u64) -> Result<u64, BenchError> {
        let now = self.now();
        if moved {
            self.busy_ns += now - self.last;
        }
        if answered || in_flight == 0 {
            self.last_answer = now;
        } else if now - self.last_answer > nanos(SILENCE_MAX) {
            return Err(BenchError::Silence {
                waited: Duration::from_nanos(now - self.last_answer),
                in_flight,
            });
        }
        self.last = now;
        // What the turn that ends the warm-up completed was begun before it: the
        // first turn that counts is the next one.
        if self.warm {
            self.measuring = true;
        } else if now >= self.warm_ns {
            self.warm = true;
            self.measured_from = now;
            self.end_ns = now + nanos(self.span.measured);
            self.busy_ns = 0;
            self.cpu_before = thread_cpu();
        }
        Ok(now)
    }

    fn count(&mut self, latency_ns: u64) {
        if self.measuring {
            self.completed += 1;
            self.latency.record(latency_ns);
        }
    }

    #[allow(
        clippy::cast_precision_loss,
        reason = "nanoseconds of one run are far below 2^53"
    )]
    fn finish(self, now: u64, lost: u64, in_flight: u64) -> Result<Run, BenchError> {
        if self.completed == 0 {
            // A run without one answer is a fault to be told, not a rate of zero.
            return Err(BenchError::Silence {
                waited: Duration::from_nanos(now - self.last_answer),
                in_flight,
            });
        }
        let elapsed = Duration::from_nanos(now - self.measured_from);
        let wall = elapsed.as_secs_f64().max(1e-9);
        Ok(Run {
            completed: self.completed,
            elapsed,
            latency: self.latency,
            lost,
            generator: Generator {
                cpu_share: (thread_cpu().saturating_sub(self.cpu_before)).as_secs_f64() / wall,
                busy_share: self.busy_ns as f64 / 1e9 / wall,
                ..Generator::default()
            },
        })
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    const BRIEF: Span = Span {
        warmup: Duration::from_millis(2),
        measured: Duration::from_millis(20),
    };

    /// Answers every request on the turn after it was taken; stalls once, for
    /// as long as it is told.
    struct Echo {
        lanes: usize,
        queued: VecDeque<Completion>,
        in_flight_max: usize,
        stall_at_turn: Option<(u64, Duration)>,
        turns: u64,
        copies: u32,
        /// Most that is answered on one turn.
        per_turn: usize,
        stamps: Vec<u64>,
    }

    impl Echo {
        fn new(lanes: usize) -> Self {
            Self {
                lanes,
                queued: VecDeque::new(),
                in_flight_max: 0,
                stall_at_turn: None,
                turns: 0,
                copies: 1,
                per_turn: usize::MAX,
                stamps: Vec::new(),
            }
        }
    }

    impl Driver for Echo {
        fn lanes(&self) -> usize {
            self.lanes
        }

        fn submit(&mut self, lane: usize, stamp: u64) -> Result<bool, BenchError> {
            let lane = u32::try_from(lane).expect("few lanes");
            self.stamps.push(stamp);
            self.queued.push_back(Completion { lane, stamp });
            self.in_flight_max = self.in_flight_max.max(self.queued.len());
            Ok(true)
        }

        fn turn(&mut self, done: &mut Vec<Completion>) -> Result<bool, BenchError> {
            self.turns += 1;
            if let Some((turn, stall)) = self.stall_at_turn
                && self.turns == turn
            {
                let until = Instant::now() + stall;
                while Instant::now() < until {
                    std::hint::spin_loop();
                }
            }
            let moved = !self.queued.is_empty();
            let answered = self.queued.len().min(self.per_turn);
            for completion in self.queued.drain(..answered) {
                for copy in 0..self.copies {
                    done.push(Completion {
                        lane: completion.lane + copy,
                        ..completion
                    });
                }
            }
            Ok(moved)
        }
    }

    #[test]
    fn the_closed_loop_keeps_exactly_the_depth_in_flight() {
        let mut echo = Echo::new(3);
        let run = closed_loop(&mut echo, 4, BRIEF).expect("the echo answers");
        assert_eq!(echo.in_flight_max, 12);
        assert!(run.completed > 0);
        assert_eq!(run.latency.summary().count, run.completed);
        assert!(run.elapsed >= BRIEF.measured, "{:?}", run.elapsed);
    }

    #[test]
    fn the_open_loop_charges_a_stall_to_every_request_it_delayed() {
        // 100 k/s for 20 ms with one stall of at least 10 ms: the 500 requests that
        // were intended in its first half waited 5 ms or more. A generator that
        // counted from the actual send would report microseconds.
        for stalled_turn in [1, 2] {
            let mut echo = Echo::new(1);
            echo.stall_at_turn = Some((stalled_turn, Duration::from_millis(10)));
            let span = Span {
                warmup: Duration::ZERO,
                measured: Duration::from_millis(20),
            };
            let run = open_loop(&mut echo, 100_000.0, span).expect("the echo answers");
            let summary = run.latency.summary();
            assert_eq!((run.completed, run.lost), (2000, 0));
            assert!(summary.p90_us > 5_000.0, "{summary:?}");
            assert!(run.generator.slip_max_us > 9_000.0, "{:?}", run.generator);
        }
    }

    #[test]
    fn a_stall_that_outlasts_the_run_is_still_charged() {
        let mut echo = Echo::new(1);
        echo.stall_at_turn = Some((2, Duration::from_millis(60)));
        let run = open_loop(&mut echo, 100_000.0, BRIEF).expect("the echo answers");
        assert_eq!(run.completed, 2000);
        assert!(run.latency.summary().p50_us > 30_000.0);
    }

    #[test]
    fn the_open_loop_sends_every_request_of_its_schedule_once() {
        let mut echo = Echo::new(2);
        echo.stall_at_turn = Some((5, Duration::from_millis(3)));
        open_loop(&mut echo, 50_000.0, BRIEF).expect("the echo answers");
        let scheduled: Vec<u64> = (0..).map(|n| n * 20_000).take(echo.stamps.len()).collect();
        assert!(echo.stamps.len() > 1);
        assert_eq!(echo.stamps, scheduled);
    }

    #[test]
    fn the_flood_counts_every_subscriber_and_never_passes_its_window() {
        let mut echo = Echo::new(1);
        echo.copies = 5;
        let run = flood(&mut echo, 5, 8, BRIEF).expect("the echo answers");
        assert!(echo.in_flight_max <= 8, "{}", echo.in_flight_max);
        assert_eq!(run.completed % 5, 0);
    }

    #[test]
    fn a_flood_leaves_nothing_behind_for_the_next_one() {
        let mut echo = Echo::new(1);
        echo.copies = 5;
        echo.per_turn = 1;
        flood(&mut echo, 5, 8, BRIEF).expect("the echo answers");
        assert!(echo.in_flight_max > 1, "{}", echo.in_flight_max);
        assert_eq!(echo.queued, [], "in flight when the time was up");
    }

    #[test]
    fn a_run_without_one_answer_is_an_error() {
        let mut echo = Echo::new(1);
        echo.copies = 0;
        let closed = closed_loop(&mut echo, 1, BRIEF);
        assert!(matches!(closed, Err(BenchError::Silence { .. })));
        let flooded = flood(&mut echo, 1, 4, BRIEF);
        assert!(matches!(flooded, Err(BenchError::Silence { .. })));
    }

    #[test]
    fn intended_times_do_not_drift() {
        let mut pace = Pace::new(3.0);
        for _ in 0..3_000_000 {
            pace.advance();
        }
        assert_eq!(pace.intended(), 1_000_000 * 1_000_000_000);
    }
}
