//! Ten thousand connections that say nothing, and a thousand that ask.

use std::time::Duration;

use pinion_cli::bench::measure::{BenchError, Driver, Span, open_loop};
use pinion_cli::bench::rpc::{Ask, CacheLoad, Rpc};

use crate::idle::CONNECTION_BYTES_MAX;

use super::crowd::Crowd;
use super::drivers::{Beside, Group};
use super::stage::{Stage, Started, count, each, mib, p99_ratios};

pub(super) const NOTE: &str = "The active connections are those of four or more sockets and send GETs of 100 B \
     by turns, in an open loop; first alone, then beside the idle ones, whose keep-alives the same thread \
     answers.";

/// Connections of one socket of the active ones.
const PER_SOCKET: usize = 250;

/// Requests a second over all active connections: a tenth of what one core does,
/// so that the p99 is that of the work, not of a queue.
const RATE: f64 = 20_000.0;

/// Requests of one connection that may be unanswered when a stall holds them up:
/// the open loop sends on, and an answer to one that was forgotten is a fault.
const LATE_MAX: u32 = 64;

/// How long both go on before they are measured.
const SETTLE: Duration = Duration::from_secs(2);

/// Most the p99 of the active connections may grow when the idle ones come.
const P99_RATIO_MAX: f64 = 1.5;

const LOAD: CacheLoad = CacheLoad {
    keys: 1000,
    value_bytes: 100,
    get_share: 1.0,
};

pub(super) fn play(stage: &mut Stage<'_>) -> Result<(), BenchError> {
    let node = stage.start()?;
    let mut active = connect_active(stage.sizes.active, &node)?;
    let alone = stage.rounds("active alone", &node, |span| {
        open_loop(&mut active, RATE, span)
    })?;
    let before = node.rss()?;
    let idle = stage.sizes.idle;
    let mut crowd = Crowd::connect(&node.config()?, idle, &stage.limit, || {
        active.turn(&mut Vec::new()).map(drop)
    })?;
    let grown = node.rss()? - before;
    // What connecting leaves behind (path probes, acknowledgements) comes to an
    // end before anything is measured.
    let settling = Span {
        warmup: Duration::ZERO,
        measured: SETTLE,
    };
    open_loop(
        &mut Beside {
            driver: &mut active,
            background: &mut crowd,
        },
        RATE,
        settling,
    )?;
    let both = stage.rounds("active beside idle", &node, |span| {
        let mut driver = Beside {
            driver: &mut active,
            background: &mut crowd,
        };
        open_loop(&mut driver, RATE, span)
    })?;
    crowd.turn()?;
    stage.held(
        format!("idle connections lost, of {idle}"),
        "",
        vec![count(idle - crowd.alive())],
        0.0,
    );
    stage.held(
        "resident memory per idle connection",
        "KiB",
        vec![grown / count(idle) / 1024.0],
        CONNECTION_BYTES_MAX / 1024.0,
    );
    let who = format!("{} active connections", stage.sizes.active);
    let growths = p99_ratios(&both, &alone)?;
    stage.held_beside(
        &who,
        "the idle ones",
        &alone,
        &both,
        &growths,
        P99_RATIO_MAX,
    );
    stage.held(
        "requests without an answer",
        "",
        each(&both, |s| s.lost as f64),
        0.0,
    );
    stage.told(
        "processor share with both",
        "%",
        each(&both, |s| s.server_cpu * 100.0),
    );
    stage.told("resident memory with both", "MiB", vec![mib(node.rss()?)]);
    Ok(())
}

fn connect_active(connections: usize, node: &Started) -> Result<Group<Rpc>, BenchError> {
    let mut drivers = Vec::new();
    let mut left = connections;
    while left > 0 {
        let few = left.min(PER_SOCKET);
        left -= few;
        drivers.push(Rpc::new(node.config()?, few, LATE_MAX, Ask::Cache(LOAD))?);
    }
    Ok(Group::new(drivers))
}
