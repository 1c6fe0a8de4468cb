//! What a node tells of itself at `/metrics`: how long its requests took on the data core,
//! for how long that worked, and how often it was held up.

use std::collections::BTreeMap;

use pinion_cli::bench::measure::BenchError;

use super::https::Https;

const LATENCY: &str = "pinion_message_latency_seconds_bucket";
const BUSY: &str = "pinion_core_busy_seconds_total";
const STALLS: &str = "pinion_core_stalls_total";

/// Counters at one moment, or what they grew by.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    /// Requests within each bound, cumulative, by operation; bounds in microseconds.
    latency: BTreeMap<String, Vec<(f64, f64)>>,
    /// Time in which data cores worked.
    pub(super) busy_seconds: f64,
    /// Turns longer than 5 ms.
    pub(super) stalls: f64,
}

impl Told {
    /// As the node tells it now, without the series of single resources.
    ///
    /// # Errors
    /// The node does not answer.
    pub(super) fn read(operator: &mut Https) -> Result<Self, BenchError> {
        let asked = operator.get("/metrics?resources=0")?;
        Ok(Self::parse(&String::from_utf8_lossy(&asked.answer.body)))
    }

    fn parse(text: &str) -> Self {
        let mut told = Self::default();
        for line in text.lines() {
            let Some((series, value)) = line.rsplit_once(' ') else {
                continue;
            };
            let Ok(value) = value.parse::<f64>() else {
                continue;
            };
            let name = series.split('{').next().unwrap_or_default();
            match name {
                LATENCY => {
                    if let (Some(op), Some(le)) = (label(series, "op"), label(series, "le"))
                        && let Ok(le) = le.parse::<f64>()
                    {
                        let into = told.latency.entry(op.to_owned()).or_default();
                        into.push((le * 1e6, value));
                    }
                }
                BUSY => told.busy_seconds += value,
                STALLS => told.stalls += value,
                _ => {}
            }
        }
        told
    }

    /// What it grew by since `before`.
    pub(super) fn since(&self, before: &Self) -> Self {
        let mut grown = self.clone();
        grown.busy_seconds -= before.busy_seconds;
        grown.stalls -= before.stalls;
        for (op, buckets) in &mut grown.latency {
            let then = before.latency.get(op).map_or(&[][..], |all| all);
            for (at, (_, count)) in buckets.iter_mut().enumerate() {
                *count -= then.get(at).map_or(0.0, |(_, count)| *count);
            }
        }
        grown
    }

    /// Adds what another round told.
    pub(super) fn add(&mut self, other: &Self) {
        self.busy_seconds += other.busy_seconds;
        self.stalls += other.stalls;
        for (op, buckets) in &other.latency {
            let into = self.latency.entry(op.clone()).or_default();
            if into.is_empty() {
                into.clone_from(buckets);
                continue;
            }
            for ((_, count), (_, more)) in into.iter_mut().zip(buckets) {
                *count += more;
            }
        }
    }

    /// A quantile of an operation in microseconds, as if the requests of a bucket were
    /// spread evenly in it; none where nothing was timed.
    pub(super) fn quantile_us(&self, op: &str, quantile: f64) -> Option<f64> {
        let buckets = self.latency.get(op)?;
        let all = buckets.last()?.1;
        let wanted = all * quantile;
        let (mut from, mut below) = (0.0, 0.0);
        for &(to, within) in buckets {
            if within >= wanted && within > below {
                // The last bucket has no end.
                let to = if to.is_finite() { to } else { from };
                return Some(from + (to - from) * (wanted - below) / (within - below));
            }
            (from, below) = (to, within);
        }
        None
    }
}

/// The value of a label, which has no character that is escaped.
fn label<'a>(series: &'a str, name: &str) -> Option<&'a str> {
    let begin = series.find(&format!("{name}=\""))? + name.len() + 2;
    series[begin..].split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "\
# TYPE pinion_message_latency_seconds histogram
pinion_message_latency_seconds_bucket{op=\"PING\",le=\"0.00001\"} 10
pinion_message_latency_seconds_bucket{op=\"PING\",le=\"0.00002\"} 10
pinion_message_latency_seconds_bucket{op=\"PING\",le=\"+Inf\"} 10
pinion_core_busy_seconds_total{core=\"0\"} 1.5
pinion_core_stalls_total{core=\"0\",phase=\"disk\"} 2
";
    const AFTER: &str = "\
pinion_message_latency_seconds_bucket{op=\"PING\",le=\"0.00001\"} 60
pinion_message_latency_seconds_bucket{op=\"PING\",le=\"0.00002\"} 110
pinion_message_latency_seconds_bucket{op=\"PING\",le=\"+Inf\"} 110
pinion_core_busy_seconds_total{core=\"0\"} 2.5
pinion_core_stalls_total{core=\"0\",phase=\"disk\"} 2
pinion_core_stalls_total{core=\"0\",phase=\"mail\"} 1
";

    #[test]
    fn what_grew_between_two_readings_is_told() {
        let grown = Told::parse(AFTER).since(&Told::parse(BEFORE));
        assert!((grown.busy_seconds - 1.0).abs() < 1e-9);
        assert!((grown.stalls - 1.0).abs() < 1e-9);
        // 100 requests, half of them within 10 µs and all within 20.
        let at = |quantile| {
            grown
                .quantile_us("PING", quantile)
                .expect("some were timed")
        };
        assert!((at(0.25) - 5.0).abs() < 1e-6, "{}", at(0.25));
        assert!((at(0.75) - 15.0).abs() < 1e-6, "{}", at(0.75));
        assert_eq!(grown.quantile_us("PUBLISH", 0.5), None);
        let mut twice = grown.clone();
        twice.add(&grown);
        assert_eq!(
            twice.quantile_us("PING", 0.75),
            grown.quantile_us("PING", 0.75)
        );
        assert!((twice.stalls - 2.0).abs() < 1e-9);
    }
}
