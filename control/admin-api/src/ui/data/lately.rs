//! What cores did lately, out of the samples that are taken of them once a second.

use std::collections::VecDeque;

use pinion_admin_ui::model::Series;
use pinion_node::facts::{Latency, Within};

use super::count;
use super::latency::micros;
use crate::observer::{ControlSample, Sample};

/// Seconds of the past that pages show.
pub(crate) const SECONDS: usize = 60;

/// Busy time of a core in thousandths, second by second, the oldest first.
pub(crate) fn busy_permille(samples: &VecDeque<Sample>) -> Vec<u16> {
    let pairs = samples.iter().zip(samples.iter().skip(1));
    let all: Vec<u16> = pairs
        .map(|(before, now)| {
            let busy = now.pump.turns.busy.saturating_sub(before.pump.turns.busy);
            let of = now
                .pump
                .turns
                .running
                .saturating_sub(before.pump.turns.running);
            let permille = (busy.as_micros() * 1_000).checked_div(of.as_micros());
            u16::try_from(permille.unwrap_or(0).min(1_000)).unwrap_or(1_000)
        })
        .collect();
    all[all.len().saturating_sub(SECONDS)..].to_vec()
}

/// The same of the control core.
pub(crate) fn control_permille(samples: &VecDeque<ControlSample>) -> Vec<u16> {
    let pairs = samples.iter().zip(samples.iter().skip(1));
    let all: Vec<u16> = pairs
        .map(|(before, now)| {
            let busy = now.busy.saturating_sub(before.busy).as_micros();
            let of = now.at.saturating_duration_since(before.at).as_micros();
            let permille = (busy * 1_000).checked_div(of).unwrap_or(0).min(1_000);
            u16::try_from(permille).unwrap_or(1_000)
        })
        .collect();
    all[all.len().saturating_sub(SECONDS)..].to_vec()
}

/// Turns of a core that took too long, in the last minute.
pub(crate) fn stalls_of_minute(samples: &VecDeque<Sample>) -> u64 {
    let stalls = |sample: &Sample| sample.pump.turns.stalls.iter().sum::<u64>();
    let begin = samples.len().saturating_sub(SECONDS + 1);
    match (samples.back(), samples.get(begin)) {
        (Some(now), Some(begin)) => stalls(now).saturating_sub(stalls(begin)),
        _ => 0,
    }
}

/// The newest sample of a core, and the one from so many seconds before it; none of those
/// where the core was not sampled for so long.
pub(crate) fn over(
    samples: &VecDeque<Sample>,
    seconds: usize,
) -> Option<(&Sample, Option<&Sample>)> {
    let now = samples.back()?;
    let before = samples
        .len()
        .checked_sub(seconds + 1)
        .and_then(|at| samples.get(at));
    Some((now, before))
}

/// What was measured on all cores together in the last seconds, or since the start where
/// they have not run for so long.
pub(crate) fn measured(
    cores: &[VecDeque<Sample>],
    seconds: usize,
    of: impl Fn(&Sample) -> Option<&Latency>,
) -> Latency {
    let mut all = Latency::default();
    for (now, before) in cores.iter().filter_map(|samples| over(samples, seconds)) {
        let Some(now) = of(now) else {
            continue;
        };
        match before.and_then(&of) {
            Some(before) => all.add(&now.since(before)),
            None => all.add(now),
        }
    }
    all
}

/// Within how many microseconds `share` of what was measured on all cores together was over,
/// second by second: out of what the histograms of two samples grew by. A second in which
/// nothing was measured, or of which a core does not know, has no point.
pub(crate) fn quantiles(
    cores: &[VecDeque<Sample>],
    share: f64,
    of: impl Fn(&Sample) -> Option<&Latency>,
) -> Series {
    let known: Vec<_> = cores.iter().filter(|samples| samples.len() > 1).collect();
    let seconds = known.iter().map(|samples| samples.len() - 1).min();
    let points = (0..seconds.unwrap_or(0).min(SECONDS)).rev().map(|back| {
        let mut all = Latency::default();
        for samples in &known {
            let at = samples.len() - 1 - back;
            let (before, now) = (of(&samples[at - 1])?, of(&samples[at])?);
            all.add(&now.since(before));
        }
        // One beyond what is told apart is drawn at the end of that.
        let (Within::AtMost(time) | Within::MoreThan(time)) = all.quantile(share)?;
        Some(count(micros(time)))
    });
    Series {
        step_ms: 1_000,
        points: points.collect(),
    }
}

/// How fast something was counted on all cores together, second by second. Samples of the
/// cores are put beside each other from the newest on: they are taken together.
pub(crate) fn rates(cores: &[VecDeque<Sample>], of: impl Fn(&Sample) -> u64) -> Series {
    let one = |samples: &VecDeque<Sample>| {
        let pairs = samples.iter().zip(samples.iter().skip(1));
        let rates = pairs.map(|(before, now)| {
            let span = now.at.0.saturating_sub(before.at.0);
            let grown = of(now).checked_sub(of(before))?;
            (span > 0).then(|| count(grown) * 1_000.0 / count(span))
        });
        rates.collect::<Vec<Option<f64>>>()
    };
    beside(cores.iter().map(one).collect())
}

/// How much there was of something on all cores together.
pub(crate) fn gauges(cores: &[VecDeque<Sample>], of: impl Fn(&Sample) -> u64) -> Series {
    let one = |samples: &VecDeque<Sample>| {
        let all = samples.iter().map(|sample| Some(count(of(sample))));
        all.collect::<Vec<Option<f64>>>()
    };
    beside(cores.iter().map(one).collect())
}

/// Adds cores up from the end. What one of them does not know nobody knows.
fn beside(cores: Vec<Vec<Option<f64>>>) -> Series {
    let cores: Vec<_> = cores.into_iter().filter(|one| !one.is_empty()).collect();
    let length = cores.iter().map(Vec::len).min().unwrap_or(0).min(SECONDS);
    let points = (0..length).rev().map(|back| {
        let mut sum = Some(0.0);
        for core in &cores {
            let point = core[core.len() - 1 - back];
            sum = sum.zip(point).map(|(sum, point)| sum + point);
        }
        sum
    });
    Series {
        step_ms: 1_000,
        points: points.collect(),
    }
}

/// The newest point of a series.
pub(crate) fn newest(series: &Series) -> Option<f64> {
    series.points.last().copied().flatten()
}

#[cfg(test)]
mod tests {
    use core::time::Duration;
    use std::sync::Arc;
    use std::time::Instant;

    use pinion_node::TimedOp;
    use pinion_node::facts::PumpFacts;
    use pinion_node::stats::CoreStats;
    use pinion_types::WallMs;

    use super::*;

    #[test]
    fn the_control_core_is_as_busy_as_its_thread_had_a_processor() {
        let begun = Instant::now();
        let ms = Duration::from_millis;
        let sample = |at, busy| ControlSample {
            at: begun + ms(at),
            busy: ms(busy),
        };
        let samples = [
            (0, 70),
            (1_000, 320),
            (3_000, 320),
            (4_000, 1_420),
            (4_000, 1_420),
        ];
        let samples = samples.map(|(at, busy)| sample(at, busy)).into();
        assert_eq!(control_permille(&samples), [250, 0, 1_000, 0]);
        let many = (0..100).map(|at| sample(at * 1_000, at)).collect();
        assert_eq!(control_permille(&many).len(), SECONDS);
        assert!(control_permille(&VecDeque::new()).is_empty());
    }

    /// A sample of a core that timed these publishes until then, in microseconds.
    fn timed(second: u64, micros: &[u64]) -> Sample {
        let mut pump = PumpFacts::default();
        let publish = &mut pump.requests[TimedOp::Publish.index()];
        for one in micros {
            publish.count += 1;
            publish.buckets[Latency::bucket_of(one * 1_000)] += 1;
        }
        Sample {
            at: WallMs(second * 1_000),
            stats: CoreStats::default(),
            connections: 0,
            held_bytes: 0,
            partitions: 0,
            subscriptions: 0,
            mails_waiting: 0,
            logs_read_only: 0,
            pump: Arc::new(pump),
        }
    }

    #[test]
    fn latency_is_that_of_each_second_on_all_cores() {
        let of: fn(&Sample) -> Option<&Latency> =
            |sample| Some(&sample.pump.requests[TimedOp::Publish.index()]);
        let one = [
            timed(0, &[900_000]),
            timed(1, &[900_000, 140]),
            timed(2, &[900_000, 140]),
            timed(3, &[900_000, 140, 40]),
        ];
        let other = [timed(2, &[]), timed(3, &[1_900])];
        let series = quantiles(&[one.clone().into()], 0.99, of);
        // Slow before the first sample is no slow second; a second without any is a gap.
        assert_eq!(bits(&series.points), bits(&[Some(150.0), None, Some(50.0)]));
        assert_eq!(series.step_ms, 1_000);
        // Together the slower core says it, for the seconds that both know.
        let both = [one.into(), other.into(), VecDeque::new()];
        assert_eq!(
            bits(&quantiles(&both, 0.99, of).points),
            bits(&[Some(2_000.0)])
        );
        assert_eq!(bits(&quantiles(&both, 0.5, of).points), bits(&[Some(50.0)]));
        assert!(quantiles(&[], 0.99, of).points.is_empty());
        let many: VecDeque<Sample> = (0..100).map(|at| timed(at, &[])).collect();
        assert_eq!(quantiles(&[many], 0.99, of).points.len(), SECONDS);
    }

    fn points(cores: Vec<Vec<Option<f64>>>) -> Vec<Option<u64>> {
        let bits = |point: &Option<f64>| point.map(f64::to_bits);
        beside(cores).points.iter().map(bits).collect()
    }

    fn bits(points: &[Option<f64>]) -> Vec<Option<u64>> {
        points.iter().map(|point| point.map(f64::to_bits)).collect()
    }

    #[test]
    fn cores_are_added_from_their_newest_second() {
        let young = vec![Some(10.0), Some(20.0)];
        let old = vec![Some(9.0), Some(1.0), Some(2.0)];
        let gap = vec![Some(1.0), None, Some(3.0)];
        assert_eq!(
            points(vec![young.clone(), old.clone()]),
            bits(&[Some(11.0), Some(22.0)])
        );
        assert_eq!(points(vec![young, gap, old]), bits(&[None, Some(25.0)]));
        assert!(points(vec![Vec::new()]).is_empty());
        let long = vec![Some(1.0); 300];
        assert_eq!(points(vec![long]).len(), SECONDS);
    }
}
