//! One publisher, more and more subscribers.

use pinion_cli::bench::measure::{BenchError, flood};
use pinion_cli::bench::pubsub::{Layout, PubSub};

use crate::table::Sample;

use super::stage::{Stage, each, median};

pub(super) const NOTE: &str = "Records of 100 B, a connection for every subscriber, as fast as the slowest of \
     them reads. One thread receives for all subscribers: where the generator is busy all the time, it is \
     the limit.";

const SUBSCRIBERS: &[usize] = &[1, 10, 100, 1000];

const RECORD_BYTES: usize = 100;

/// Records in flight to the slowest, times subscribers: bounds what waits in
/// buffers on both sides. An eighth of it leaves two packets for each of a
/// thousand subscribers at a time: they have 14 M deliveries a second then, and
/// 16 M with this. With twice as much it is 13 M, since what is in flight no longer
/// fits the processor's caches.
const COPIES_IN_FLIGHT: usize = 1 << 21;

/// Most and least of what one subscriber has in flight of them. Less than the
/// least would measure round trips.
const WINDOW_MAX: usize = 4096;
const WINDOW_MIN: usize = 256;

/// Most of the deliveries per core-second of 1:10 that 1:1,000 may lose. Every
/// delivery of a record is a packet of its own, encrypted for its connection;
/// what may grow with their number is only what the processor's caches no
/// longer hold.
const LOSS_MAX: f64 = 50.0;

pub(super) fn play(stage: &mut Stage<'_>) -> Result<(), BenchError> {
    let mut per_core = Vec::new();
    for &subscribers in SUBSCRIBERS {
        let mut samples = Vec::new();
        for _ in 0..stage.sizes.fan_rounds {
            samples.push(round(stage, subscribers)?);
        }
        stage.told(
            format!("1:{subscribers}, deliveries a second"),
            "k/s",
            each(&samples, |s| s.rate / 1e3),
        );
        stage.told(
            format!("1:{subscribers}, deliveries per core-second"),
            "k/s",
            each(&samples, |s| s.rate_per_core / 1e3),
        );
        stage.told(
            format!("1:{subscribers}, generator busy"),
            "%",
            each(&samples, |s| s.generator_busy * 100.0),
        );
        stage.held(
            format!("1:{subscribers}, records skipped"),
            "",
            each(&samples, |s| s.lost as f64),
            0.0,
        );
        per_core.push((subscribers, median(&samples, |s| s.rate_per_core)?));
    }
    let of = |wanted| per_core.iter().find(|(n, _)| *n == wanted).map(|(_, r)| *r);
    if let (Some(few), Some(many)) = (of(10), of(1000)) {
        stage.held(
            "deliveries per core-second that 1:1000 loses of 1:10",
            "%",
            vec![lost_share(many, few)],
            LOSS_MAX,
        );
    }
    Ok(())
}

/// On a node and with subscribers of its own: what one run left in flight is
/// not counted as the next one's.
fn round(stage: &mut Stage<'_>, subscribers: usize) -> Result<Sample, BenchError> {
    let node = stage.start()?;
    let mut driver = PubSub::new(
        node.config()?,
        Layout {
            stream: "fan".to_owned(),
            subscribers,
            shared: false,
            record_bytes: RECORD_BYTES,
            batch: 64,
            acked: false,
        },
    )?;
    let span = stage.sizes.span;
    stage.once(&format!("1:{subscribers}"), &node, || {
        flood(&mut driver, subscribers, window(subscribers), span)
    })
}

fn window(subscribers: usize) -> u64 {
    (COPIES_IN_FLIGHT / subscribers.max(1)).clamp(WINDOW_MIN, WINDOW_MAX) as u64
}

/// How much `now` is below `before`, in % of it; below 0 when it is above.
pub(super) fn lost_share(now: f64, before: f64) -> f64 {
    (1.0 - now / before.max(f64::MIN_POSITIVE)) * 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_shrinks_with_subscribers_but_never_to_a_round_trip() {
        let windows: Vec<u64> = SUBSCRIBERS.iter().map(|&n| window(n)).collect();
        assert_eq!(windows, [4096, 4096, 4096, 2097]);
        assert_eq!(window(100_000), 256);
    }

    #[test]
    fn a_loss_is_told_in_percent_of_what_there_was() {
        assert!((lost_share(80.0, 100.0) - 20.0).abs() < 1e-9);
        assert!(lost_share(120.0, 100.0) < 0.0);
    }
}
