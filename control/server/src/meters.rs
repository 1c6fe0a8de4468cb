//! What a pump counts by itself, and everything it knows, told as facts.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use pinion_node::facts::{
    DiskFacts, LATENCY_QUANTILES, Latency, LoopFacts, PHASES, PumpFacts, QuicFacts,
};
use pinion_node::{Sample, TimedOp};
use pinion_quic::Stats;
use pinion_reactor::{CoreStats, Io, Phase, Stall};
use pinion_types::Monotonic;

/// Longest request time that histograms tell apart.
const LATENCY_MAX: Duration = Duration::from_secs(60);

/// How long something took each time, to two digits.
struct Recorder {
    times: Histogram<u64>,
    sum: Duration,
}

impl Recorder {
    fn new() -> Self {
        let longest = nanos(LATENCY_MAX);
        Self {
            times: Histogram::new_with_bounds(1, longest, 2).expect("bounds that are valid"),
            sum: Duration::ZERO,
        }
    }

    fn record(&mut self, took: Duration) {
        self.times.saturating_record(nanos(took));
        self.sum += took;
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A histogram as facts.
fn latency(times: &Histogram<u64>, sum: Duration) -> Latency {
    let mut latency = Latency {
        count: times.len(),
        sum,
        ..Latency::default()
    };
    for one in times.iter_recorded() {
        let at = Latency::bucket_of(one.value_iterated_to());
        latency.buckets[at] += one.count_since_last_iteration();
    }
    if !times.is_empty() {
        for (nanos, share) in latency.curve.iter_mut().zip(LATENCY_QUANTILES) {
            *nanos = times.value_at_quantile(f64::from(share) / 1e6);
        }
    }
    latency
}

/// What one pump counts.
pub(crate) struct Meters {
    began: Instant,
    /// By [`TimedOp::index`].
    requests: Box<[Recorder; TimedOp::ALL.len()]>,
    stalls: [u64; PHASES.len()],
    stall_max: Duration,
    /// Datagrams that were another core's.
    pub(crate) strays: u64,
    /// Of those, dropped because too many waited.
    pub(crate) strays_dropped: u64,
}

impl Meters {
    pub(crate) fn new(began: Instant) -> Self {
        Self {
            began,
            requests: Box::new(std::array::from_fn(|_| Recorder::new())),
            stalls: [0; PHASES.len()],
            stall_max: Duration::ZERO,
            strays: 0,
            strays_dropped: 0,
        }
    }

    /// A timed request is answered; `now` is on the clock that it came in by.
    pub(crate) fn answered(&mut self, sample: Sample, now: Monotonic) {
        self.requests[sample.op.index()].record(now.since(sample.since));
    }

    pub(crate) fn stalled(&mut self, stall: &Stall) {
        let at = match stall.phase {
            Phase::Receive => 0,
            Phase::Mail => 1,
            Phase::Disk => 2,
            Phase::Drive => 3,
        };
        self.stalls[at] += 1;
        self.stall_max = self.stall_max.max(stall.duration);
    }

    /// Everything that the pump knows; `strays` of them wait to be handed over. Costs some
    /// tens of microseconds: at most a few times a second.
    pub(crate) fn facts<M>(
        &self,
        now: Instant,
        io: &Io<'_, M>,
        quic: &Stats,
        strays: usize,
    ) -> PumpFacts {
        let stats = io.stats();
        let disk = io.disk_latency().map(|times| Box::new(disk(times, &stats)));
        let mut requests = Box::new(std::array::from_fn(|_| Latency::default()));
        for (facts, recorder) in requests.iter_mut().zip(self.requests.iter()) {
            *facts = latency(&recorder.times, recorder.sum);
        }
        PumpFacts {
            turns: LoopFacts {
                running: now.saturating_duration_since(self.began),
                busy: stats.busy,
                turns_busy: stats.turns_busy,
                stalls: self.stalls,
                stall_max: self.stall_max,
                mails_received: stats.mails_received,
                parks: stats.parks,
                naps: stats.naps,
                datagrams_received: stats.datagrams_received,
                datagrams_dropped: io.receive_drops().map(u64::from),
                receive_errors: stats.receive_errors,
                transmits_sent: stats.transmits_sent,
                transmits_blocked: stats.transmits_blocked,
                transmits_failed: stats.transmits_failed,
            },
            disk,
            quic: self.transport(quic, strays),
            requests,
        }
    }

    fn transport(&self, quic: &Stats, waiting: usize) -> QuicFacts {
        QuicFacts {
            connections: quic.connections as u64,
            handshakes: quic.handshakes as u64,
            accepted: quic.accepted,
            retries_sent: quic.retries_sent,
            refused_draining: quic.refused_draining,
            refused_full: quic.refused_full,
            refused_prefix: quic.refused_prefix,
            ignored_handshakes: quic.ignored_handshakes,
            handshakes_failed: quic.handshakes_failed,
            handshakes_timed_out: quic.handshakes_timed_out,
            datagrams_unknown: quic.datagrams_dropped,
            // Those that the pump did not see for what they are, too.
            strays: self.strays + quic.strays,
            strays_dropped: self.strays_dropped,
            strays_waiting: waiting as u64,
        }
    }
}

fn disk(times: &Histogram<u64>, stats: &CoreStats) -> DiskFacts {
    DiskFacts {
        write: latency(times, stats.disk_write_time),
        written_bytes: stats.disk_written_bytes,
        reads: stats.disk_reads,
        read_bytes: stats.disk_read_bytes,
        flushes: stats.disk_flushes,
        errors: stats.disk_errors,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_recorded_is_told_by_bucket_and_share() {
        let mut recorder = Recorder::new();
        for micros in 1..=1000 {
            recorder.record(Duration::from_micros(micros));
        }
        let told = latency(&recorder.times, recorder.sum);
        assert_eq!(told.count, 1000);
        assert_eq!(told.buckets.iter().sum::<u64>(), 1000);
        assert_eq!(told.sum, Duration::from_micros(500_500));
        let near = |nanos: u64, micros: u64| {
            let off = nanos.abs_diff(micros * 1000);
            assert!(
                off * 50 <= nanos,
                "{nanos} ns is not {micros} us to two digits"
            );
        };
        near(told.curve[2], 500);
        near(told.curve[6], 990);
        near(told.curve[11], 1000);
        // Two digits may put what is near a bound into the next bucket.
        let slow: u64 = told.buckets[Latency::bucket_of(700_001)..].iter().sum();
        assert!((290..=310).contains(&slow), "{slow}");
        assert_eq!(
            latency(&Recorder::new().times, Duration::ZERO),
            Latency::default()
        );
    }

    #[test]
    fn stalls_are_counted_by_what_took_longest() {
        let mut meters = Meters::new(Instant::now());
        for (phase, ms) in [(Phase::Disk, 6), (Phase::Drive, 9), (Phase::Drive, 7)] {
            meters.stalled(&Stall {
                duration: Duration::from_millis(ms),
                phase,
                phase_duration: Duration::from_millis(ms),
            });
        }
        assert_eq!(meters.stalls, [0, 0, 1, 2]);
        assert_eq!(meters.stall_max, Duration::from_millis(9));
    }
}
