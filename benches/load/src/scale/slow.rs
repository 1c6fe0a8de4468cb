//! Half of the consumers stop asking for more.

use pinion_cli::bench::measure::{BenchError, Driver, open_loop};
use pinion_cli::bench::pubsub::{Layout, PubSub};
use pinion_cli::bench::target::{PATIENCE, open, unexpected};
use pinion_client::native::{LinkId, NativeClient};
use pinion_types::{PartitionId, ResourceKind, SubscriptionId};
use pinion_wire::message::{Filter, Handle, Overflow, Reply, Request, Start, Subscribe};

use crate::table::Sample;

use super::crowd::Crowd;
use super::drivers::Beside;
use super::stage::{Stage, count, each, p99_growths};

pub(super) const NOTE: &str = "Every consumer has its own connection and its own subscription to the same \
     stream; 50 records of 100 B a second, open loop, publish to delivery. The slow ones take a few records \
     and grant no more, while their connections go on answering; then as many records are published again. \
     The others are measured alone first, on the same node; every round has a new one.";

/// Records a second. A thousand consumers make a packet each of every one.
const RATE: f64 = 50.0;

const RECORD_BYTES: usize = 100;

/// Records a slow consumer takes, ever.
const CREDIT_RECORDS: u32 = 4;
const CREDIT_BYTES: u32 = 1 << 20;

/// Most the others' p99 may grow.
const P99_RATIO_MAX: f64 = 1.2;

const STREAM: &str = "crowded";

pub(super) fn play(stage: &mut Stage<'_>) -> Result<(), BenchError> {
    let consumers = stage.sizes.slow;
    let mut rounds = Vec::new();
    for _ in 0..stage.sizes.rounds {
        rounds.push(round(stage, consumers)?);
    }
    let of = |figure: fn(&Round) -> f64| rounds.iter().map(figure).collect::<Vec<f64>>();
    stage.held(
        "slow consumers that lost their connection",
        "",
        of(|round| count(round.gone)),
        0.0,
    );
    // Else they were not slow, and the figures below say nothing.
    stage.held(
        format!("records a slow consumer was given beyond the {CREDIT_RECORDS} it asked for"),
        "",
        of(|round| round.each_took - f64::from(CREDIT_RECORDS)),
        0.0,
    );
    stage.held(
        "of those it asked for, not given",
        "",
        of(|round| f64::from(CREDIT_RECORDS) - round.each_took),
        0.0,
    );
    let of = |sample: fn(&Round) -> Sample| rounds.iter().map(sample).collect::<Vec<_>>();
    let (alone, both) = (of(|round| round.alone), of(|round| round.both));
    stage.held_beside(
        &format!("{consumers} others"),
        &format!("{consumers} slow ones"),
        &alone,
        &both,
        &p99_growths(&both, &alone),
        P99_RATIO_MAX,
    );
    stage.held(
        "records the others lost",
        "",
        each(&both, |sample| sample.lost as f64),
        0.0,
    );
    stage.told(
        "late sends of the generator, p99",
        "µs",
        each(&both, |sample| sample.slip_p99_us),
    );
    Ok(())
}

struct Round {
    /// The others by themselves, then with the slow ones.
    alone: Sample,
    both: Sample,
    /// Slow consumers without a connection at the end.
    gone: usize,
    /// Records of a slow consumer, the mean of all.
    each_took: f64,
}

/// On a node of its own: once consumers are slow, nobody is alone there again.
fn round(stage: &mut Stage<'_>, consumers: usize) -> Result<Round, BenchError> {
    let node = stage.start()?;
    let mut others = PubSub::new(
        node.config()?,
        Layout {
            stream: STREAM.to_owned(),
            subscribers: consumers,
            shared: false,
            record_bytes: RECORD_BYTES,
            batch: 1,
            acked: false,
        },
    )?;
    let span = stage.sizes.span;
    let alone = stage.once("others alone", &node, || open_loop(&mut others, RATE, span))?;
    let mut slow = Crowd::connect(&node.config()?, consumers, &stage.limit, || {
        others.turn(&mut Vec::new()).map(drop)
    })?;
    slow.each_link(|client, link, _| subscribe(client, link))?;
    let both = stage.once("others beside slow ones", &node, || {
        let mut driver = Beside {
            driver: &mut others,
            background: &mut slow,
        };
        open_loop(&mut driver, RATE, span)
    })?;
    slow.turn()?;
    Ok(Round {
        alone,
        both,
        gone: consumers - slow.alive(),
        each_took: slow.records() as f64 / count(consumers),
    })
}

fn subscribe(client: &mut NativeClient, link: LinkId) -> Result<(), BenchError> {
    let handle: Handle = open(client, link, ResourceKind::Stream, STREAM)?.handle;
    let request = Request::Subscribe(Subscribe {
        handle,
        partition: PartitionId(0),
        subscription: SubscriptionId(0),
        start: Start::Latest,
        overflow: Some(Overflow::DropOldest),
        backlog_max: 0,
        credit_records: CREDIT_RECORDS,
        credit_bytes: CREDIT_BYTES,
        filter: Filter::default(),
    });
    let reply = client.call(link, &request, PATIENCE, |_| {})?;
    match reply.decode() {
        Ok(Reply::Subscribed(_)) => Ok(()),
        other => Err(unexpected("SUBSCRIBE", &other)),
    }
}
