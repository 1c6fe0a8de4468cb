//! What `/metrics` takes, and what reading it every second costs the data plane.

use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, Instant};

use pinion_cli::bench::latency::Latency;
use pinion_cli::bench::measure::BenchError;

use super::beside::{self, Background, Count, Load};
use super::data::DataClient;
use super::pages::CONTROL;
use super::{Found, Stage};

pub(super) const NOTE: &str = "As many queues as streams, one partition each, each with a record. The time is that of the client over one connection with TLS; each reading \
     is more than a second after the one before, so that the data core is asked for all partitions each time. \
     \"Told again\" is a reading within the same second, which asks nobody. Beside the data plane it is read once a second by one client.";

const TIME_MAX_MS: f64 = 20.0;
const GROWTH_MAX: f64 = 1.05;

/// From one reading to the next.
const EVERY: Duration = Duration::from_secs(1);

/// More than that: nothing is told from before.
const LATER: Duration = Duration::from_millis(1_050);

/// How often a thread that waits looks whether it is to end.
const LOOK_EVERY: Duration = Duration::from_millis(10);

const PATH: &str = "/metrics";

pub(super) fn play(stage: &Stage<'_>, found: &mut Found) -> Result<(), BenchError> {
    let place = stage.start()?;
    stage.declare(&place, 2 * stage.sizes.streams)?;
    let mut operator = place.operator()?;
    let (mut fresh, mut again, mut control) =
        (Latency::default(), Latency::default(), Latency::default());
    let mut bytes = 0;
    for _ in 0..stage.sizes.scrapes {
        sleep(LATER);
        let asked = operator.get(PATH)?;
        bytes = asked.bytes;
        fresh.record(super::nanos(asked.took));
        again.record(super::nanos(operator.get(PATH)?.took));
        control.record(super::nanos(operator.get(CONTROL)?.took));
    }
    let ms = |of: &Latency| (of.summary().p50_us / 1e3, of.summary().max_us / 1e3);
    let scrapes = stage.sizes.scrapes;
    let (p50, max) = ms(&fresh);
    found.held(
        format!("{PATH}, p50 of {scrapes}"),
        "ms",
        vec![p50],
        TIME_MAX_MS,
    );
    found.held("the longest of them", "ms", vec![max], TIME_MAX_MS);
    let (p50, max) = ms(&again);
    found.told("told again, p50", "ms", vec![p50]);
    found.told("told again, longest", "ms", vec![max]);
    let (p50, max) = ms(&control);
    found.told(format!("{CONTROL}: the control, p50"), "ms", vec![p50]);
    found.told("its longest", "ms", vec![max]);
    found.told("its bytes", "kB", vec![super::count(bytes as u64) / 1e3]);
    // Not before: one that says nothing for as long as that took is closed.
    let mut data = DataClient::new(place.config()?, false)?;
    let mut loads = [Load {
        name: "a reading every second",
        at_most: Some(GROWTH_MAX),
        asks: true,
        begin: Box::new(|| {
            let mut background = Background::new();
            let mut operator = place.operator()?;
            background.spawn(move |stop| {
                let mut count = Count::default();
                let mut due = Instant::now();
                while !stop.load(Ordering::Relaxed) {
                    if Instant::now() < due {
                        sleep(LOOK_EVERY);
                        continue;
                    }
                    due += EVERY;
                    operator.get(PATH)?;
                    count.done += 1;
                }
                Ok(count)
            });
            Ok(background)
        }),
    }];
    beside::in_turns(&place, &mut data, stage.sizes.rounds, &mut loads, found)
}
