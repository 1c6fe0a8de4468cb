//! What the demo prints.

use hdrhistogram::Histogram;

use super::check::{Difference, Saw, Subscriber};
use super::drive::{Run, SHARDS};
use crate::node::Node;

/// Differences printed; the rest are counted.
const DIFFERENCES_MAX: usize = 20;

/// Before the work.
pub(super) fn head(node: &Node, rows: usize, rate: u32) {
    println!(
        "pinion demo: {} flights of early 2001, {} a second, into {SHARDS} partitions by airport",
        grouped(rows as u64),
        grouped(u64::from(rate)),
    );
    println!(
        "  node         {} on data CPU {:?}, control CPU {}, in a temporary directory",
        node.address, node.placement.data, node.placement.control
    );
}

/// After the work.
pub(super) fn results(run: &Run, differences: &[Difference]) {
    let evidence = &run.evidence;
    let acknowledged = evidence.places.iter().flatten().count() as u64;
    println!(
        "  published    {} records acknowledged in {:.1} s, {} sent to the wrong core",
        grouped(acknowledged),
        run.publishing.as_secs_f64(),
        run.wrong_core
    );
    for subscriber in &evidence.subscribers {
        println!("  {:<12} {}", subscriber.name, tally(subscriber));
    }
    println!("  latency      {}", latency(&run.latency));
    let cache = &evidence.cache;
    println!(
        "  cache        {} of {} airports held; {} ended when their time was over, {} could still be read",
        cache.held.len(),
        run.keys,
        cache.expired.len(),
        cache.left.len()
    );
    if differences.is_empty() {
        println!(
            "  all right    every count, the order of every key, every skip announced, every cached value"
        );
        return;
    }
    println!(
        "  WRONG        {} differences:",
        grouped(differences.len() as u64)
    );
    for difference in differences.iter().take(DIFFERENCES_MAX) {
        println!("    {difference}");
    }
    if let Some(more) = differences.len().checked_sub(DIFFERENCES_MAX + 1) {
        println!("    and {} more", grouped(more as u64 + 1));
    }
}

fn tally(subscriber: &Subscriber) -> String {
    let (mut records, mut skipped, mut lags) = (0_u64, 0, 0_u64);
    for saw in &subscriber.saw {
        match saw {
            Saw::Record { .. } => records += 1,
            Saw::Lag { count, .. } => {
                skipped += count;
                lags += 1;
            }
            Saw::Other(_) => {}
        }
    }
    if lags == 0 {
        return format!("{} records", grouped(records));
    }
    format!(
        "{} records + {} announced as skipped in {} notices = {} (slow on purpose)",
        grouped(records),
        grouped(skipped),
        grouped(lags),
        grouped(records + skipped)
    )
}

fn latency(histogram: &Histogram<u64>) -> String {
    #[allow(clippy::cast_precision_loss)] // at most a minute in ns
    let ms = |ns: u64| format!("{:.2} ms", ns as f64 / 1e6);
    let at = |quantile| ms(histogram.value_at_quantile(quantile));
    format!(
        "publish to delivery p50 {}, p90 {}, p99 {}, p99.9 {}, max {} (audit and board, from the intended time)",
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        ms(histogram.max())
    )
}

/// 20000 as 20,000.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(grouped(12_345_678), "12,345,678");
    }
}
