//! Latencies as curves and as numbers.

use core::time::Duration;

use pinion_admin_ui::model::{Curve, CurvePoint, LatencyRow, Quantity};
use pinion_node::facts::{Latency, Within};

/// One in so many millionths is all of it.
const ALL: u32 = 1_000_000;

/// How exact numbers out of buckets are.
pub(crate) const EXACT: &str = "Times are counted in steps, six to a power of ten between 10 µs \
    and 10 s. A number is the upper end of its step, or the slowest since the start of the node \
    where that is less: never too short, and at most two thirds too long. What took longer than \
    10 s is only known to have.";

/// Latency over percentile, out of buckets: nobody was slower than the curve says, but for
/// those above the last bucket, of which it says that there are some.
pub(crate) fn curve(name: &str, latency: &Latency) -> Curve {
    let all: u64 = latency.buckets.iter().sum();
    let mut points: Vec<CurvePoint> = Vec::new();
    let (mut until, mut is_over) = (0_u64, false);
    for (at, count) in latency.buckets.iter().enumerate() {
        if *count == 0 {
            continue;
        }
        let within = latency.within(at);
        let (Within::AtMost(time) | Within::MoreThan(time)) = within;
        is_over = matches!(within, Within::MoreThan(_));
        let latency_us = micros(time);
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
        is_over,
    }
}

/// The numbers that people ask for; `None` where nothing was measured.
pub(crate) fn row(name: &str, latency: &Latency) -> Option<LatencyRow> {
    let at = |share| latency.quantile(share).map(quantity);
    Some(LatencyRow {
        name: name.to_owned(),
        samples: latency.count,
        p50: at(0.5)?,
        p90: at(0.9)?,
        p99: at(0.99)?,
        p999: at(0.999)?,
        max: at(1.0)?,
    })
}

/// As it is shown.
pub(crate) fn quantity(within: Within) -> Quantity {
    match within {
        Within::AtMost(time) => Quantity::Micros(micros(time)),
        Within::MoreThan(time) => Quantity::OverMicros(micros(time)),
    }
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
        assert_eq!(row.samples, 99);
        for time in [&row.p50, &row.max] {
            assert!(matches!(time, Quantity::Micros(15)), "{time:?}");
        }
    }

    #[test]
    fn what_is_above_all_buckets_is_told_as_that() {
        let latency = of(&[11_000, 45_000_000_000]);
        let row = row("Publish", &latency).expect("there is something");
        assert!(matches!(row.p50, Quantity::Micros(15)), "{row:?}");
        assert!(
            matches!(row.max, Quantity::OverMicros(10_000_000)),
            "{row:?}"
        );
        let drawn = curve("Publish", &latency);
        let last = drawn.points.last().expect("there are some");
        assert_eq!((drawn.is_over, last.latency_us), (true, 10_000_000));
        assert!(!curve("Publish", &of(&[10_000_000_000])).is_over);
    }
}
