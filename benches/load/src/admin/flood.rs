//! What a flood of requests to the administrators' door costs the data plane.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use pinion_cli::bench::measure::BenchError;
use pinion_cli::bench::target::NAMESPACE;

use super::beside::{self, Background, Count, Load};
use super::data::DataClient;
use super::https::{Body, Https};
use super::place::{Door, TENANT};
use super::{Found, Stage};

pub(super) const NOTE: &str = "1,000 requests a second on a schedule over eight connections with TLS: lists, one stream, figures of the node. \
     Either eight principals ask 125 each, below the 200 that one may ask, and all are answered; or one principal asks for all and is refused \
     (429) beyond its rate. \"Work that asks nothing\" is a loop on the processor of the control thread: what it costs the data core is what the machine takes \
     when its other processor works, whoever has it. Where fewer are done than asked, the processor that the control thread shares with these clients had no more to give.";

const GROWTH_MAX: f64 = 1.10;

/// Requests a second, in all.
const RATE: u32 = 1_000;

/// Connections they come over, and principals that ask.
const CONNECTIONS: u32 = 8;

/// What the work that asks nothing goes over: more than the first cache of a processor.
const WORK_BYTES: usize = 256 << 10;

/// Longest pause before looking whether to end.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What is asked for, one after the other.
fn paths() -> [String; 5] {
    let stream = crate::scale::name_of_many(0);
    [
        "/api/v1/stats".to_owned(),
        "/api/v1/stream/streams?limit=20".to_owned(),
        "/api/v1/queue/queues?limit=20&offset=200".to_owned(),
        format!("/api/v1/stream/realms/{TENANT}/areas/{NAMESPACE}/resources/{stream}"),
        format!("/v1/tenants/{TENANT}/namespaces/{NAMESPACE}/streams?page_size=20"),
    ]
}

pub(super) fn play(stage: &Stage<'_>, found: &mut Found) -> Result<(), BenchError> {
    let place = stage.start()?;
    stage.declare(&place, stage.sizes.few)?;
    let mut data = DataClient::new(place.config()?, false)?;
    let keys = place.lookers(CONNECTIONS as usize)?;
    let one = vec![keys[0].clone(); keys.len()];
    let door = &place.door;
    let flood = |name, keys: Vec<String>| Load {
        name,
        at_most: Some(GROWTH_MAX),
        asks: true,
        begin: Box::new(move || begin(door, &keys)),
    };
    let mut loads = [
        flood("eight principals", keys),
        flood("one principal", one),
        Load {
            name: "work that asks nothing",
            at_most: None,
            asks: false,
            begin: Box::new(|| Ok(work())),
        },
    ];
    beside::in_turns(&place, &mut data, stage.sizes.rounds, &mut loads, found)
}

/// Works in the processor's caches alone, until it is told to end.
fn work() -> Background {
    let mut background = Background::new();
    background.spawn(|stop| {
        let mut some = vec![1_u64; WORK_BYTES / size_of::<u64>()];
        while !stop.load(Ordering::Relaxed) {
            let mut sum = 0_u64;
            for one in &mut some {
                *one = one.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                sum ^= *one;
            }
            core::hint::black_box(sum);
        }
        Ok(Count::default())
    });
    background
}

fn begin(door: &Door, keys: &[String]) -> Result<Background, BenchError> {
    let mut background = Background::new();
    let paths: Arc<[String]> = Arc::new(paths());
    for key in keys {
        let mut client = Https::showing(door, key)?;
        let paths = paths.clone();
        background.spawn(move |stop| ask(&mut client, &paths, stop));
    }
    Ok(background)
}

fn ask(client: &mut Https, paths: &[String], stop: &AtomicBool) -> Result<Count, BenchError> {
    let every = Duration::from_secs(1) * CONNECTIONS / RATE;
    let mut count = Count::default();
    let mut due = Instant::now();
    for path in paths.iter().cycle() {
        while Instant::now() < due {
            if stop.load(Ordering::Relaxed) {
                return Ok(count);
            }
            sleep(
                due.saturating_duration_since(Instant::now())
                    .min(LOOK_EVERY),
            );
        }
        if stop.load(Ordering::Relaxed) {
            return Ok(count);
        }
        // What could not be asked in time is asked at once.
        due += every;
        let asked = client.ask("GET", path, Body::None)?;
        match asked.answer.status {
            200 => count.done += 1,
            429 => count.refused += 1,
            status => {
                return Err(BenchError::Options(format!(
                    "the node answered {status} to {path}"
                )));
            }
        }
    }
    Ok(count)
}
