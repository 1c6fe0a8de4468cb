//! What the demo prints.

use std::fmt::Display;

use hdrhistogram::Histogram;

use super::audit::{Breach, Causes};
use super::check::{Difference, Saw, Subscriber};
use super::drive::{Run, SHARDS};
use super::survive::Survived;
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
    wrong(differences);
}

/// Before the second part.
pub(super) fn middle(rate: u32) {
    println!(
        "  on disk      the same flights, {} a second, into a durable stream and a work queue; half way their node gets SIGKILL",
        grouped(u64::from(rate))
    );
}

/// After the second part.
pub(super) fn survival(survived: &Survived, causes: Causes, breaches: &[Breach]) {
    let evidence = &survived.evidence;
    let number = |number: usize| grouped(number as u64);
    let moment = &survived.moment;
    println!(
        "  killed       process {} with {} records and {} messages acknowledged; {} publishes, {} puts and {} messages of work in flight",
        survived.pids[0],
        number(moment.stored),
        number(moment.done),
        number(moment.publishing),
        number(moment.putting),
        number(moment.working),
    );
    println!(
        "  restarted    process {} serves the same directory after {:.2} s: {}",
        survived.pids[1],
        survived.away.as_secs_f64(),
        survived.found
    );
    println!(
        "  kept         {} records acknowledged on disk in {:.1} s; {} sent again and stored once",
        number(evidence.places.iter().flatten().count()),
        survived.took.as_secs_f64(),
        grouped(survived.repeats),
    );
    for reading in &evidence.readings {
        let records = |saw: &&Saw| matches!(saw, Saw::Record { .. });
        let records = number(reading.saw.iter().filter(records).count());
        let how = match reading.name {
            "live" => format!(
                "subscribed before the kill, {} partitions connected again; its cursor, acknowledged after {} records, stood after {}",
                survived.reconnected,
                grouped(
                    evidence
                        .cursors
                        .iter()
                        .filter_map(|(acked, _)| *acked)
                        .sum()
                ),
                grouped(
                    evidence
                        .cursors
                        .iter()
                        .filter_map(|(_, found)| *found)
                        .sum()
                ),
            ),
            _ => "from the beginning, after the kill".to_owned(),
        };
        println!("  {:<12} {records} records {how}", reading.name);
    }
    let put = evidence.messages.iter().flatten().count();
    println!(
        "  work         {} messages put and finished once; came again: {} failed, {} ran out of time, {} in flight at the kill; {} finished although their answer was lost",
        number(put),
        grouped(causes.nack),
        grouped(causes.expiry),
        grouped(causes.kill),
        grouped(causes.answers_lost),
    );
    wrong(breaches);
}

/// At the very end.
pub(super) fn all_right() {
    println!(
        "  all right    every count, the order of every key, every skip announced, every cached value; nothing acknowledged was lost, nothing came twice without a cause"
    );
}

fn wrong(differences: &[impl Display]) {
    if differences.is_empty() {
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
