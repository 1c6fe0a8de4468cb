//! Latencies as curves and as numbers.

use core::time::Duration;

use pinion_admin_ui::model::{Curve, CurvePoint, LatencyRow};
use pinion_node::facts::{LATENCY_BOUNDS, Latency};

/// One in so many millionths is all of it.
const ALL: u32 = 1_000_000;

/// Latency over percentile, out of buckets: nobody was slower than the curve says.
pub(crate) fn curve(name: &str, latency: &Latency) -> Curve {
    let all: u64 = latency.buckets.iter().sum();
    let mut points: Vec<CurvePoint> = Vec::new();
    let mut until = 0_u64;
    for (at, count) in latency.buckets.iter().enumerate() {
        if *count == 0 {
            continue;
        }
        let latency_us = bound(at) / 1_000;
        let mut add = |part: u64| {
            let share = u128::from(part) * u128::from(ALL) / u128::from(all);
            points.push(CurvePoint {
                at_millionths: u32::try_from(share).unwrap_or(ALL),
                latency_us,
            });
        };
        // A bucket is a step: it begins where the one before ended.
        add(until);
        until += count;
        add(until);
    }
    Curve {
        name: name.to_owned(),
        points,
    }
}

fn bound(bucket: usize) -> u64 {
    LATENCY_BOUNDS[bucket.min(LATENCY_BOUNDS.len() - 1)]
}

/// The numbers that people ask for; `None` where nothing was measured.
pub(crate) fn row(name: &str, latency: &Latency) -> Option<LatencyRow> {
    let at = |share| latency.quantile(share).map(micros);
    Some(LatencyRow {
        name: name.to_owned(),
        samples: latency.count,
        p50_us: at(0.5)?,
        p90_us: at(0.9)?,
        p99_us: at(0.99)?,
        p999_us: at(0.999)?,
        max_us: at(1.0)?,
    })
}

/// Whole microseconds of a latency.
pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(nanos: &[u64]) -> Latency {
        let mut latency = Latency::default();
        for one in nanos {
            latency.count += 1;
            latency.buckets[Latency::bucket_of(*one)] += 1;
        }
        latency
    }

    #[test]
    fn a_curve_of_buckets_rises_in_steps_from_the_fastest_to_the_slowest() {
        let points = curve("Publish", &of(&[11_000, 12_000, 13_000, 900_000])).points;
        let pairs: Vec<(u32, u64)> = points
            .iter()
            .map(|point| (point.at_millionths, point.latency_us))
            .collect();
        assert_eq!(
            pairs,
            [(0, 15), (750_000, 15), (750_000, 1_000), (ALL, 1_000)]
        );
        assert!(curve("Publish", &of(&[])).points.is_empty());
    }

    #[test]
    fn a_row_is_of_something_that_was_measured() {
        assert!(row("Publish", &of(&[])).is_none());
        let row = row("Publish", &of(&[11_000; 99])).expect("there is something");
        assert_eq!((row.samples, row.p50_us, row.max_us), (99, 15, 15));
    }
}
