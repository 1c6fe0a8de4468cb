//! A hundred thousand subscriptions on one node.

use std::time::Instant;

use pinion_cli::bench::measure::{BenchError, Driver, open_loop};
use pinion_cli::bench::rpc::{Ask, CacheLoad, Rpc};
use pinion_cli::bench::target::{NAMESPACE, PATIENCE, records_of, unexpected};
use pinion_client::native::{LinkId, NativeClient};
use pinion_types::limits::SUBSCRIPTIONS_MAX;
use pinion_types::{PartitionId, ResourceKind, SubscriptionId};
use pinion_wire::message::{
    Ack, Filter, Handle, Open, Publish, Reply, Request, Spec, Start, Subscribe,
};

use super::ask::ask_all;
use super::crowd::Crowd;
use super::drivers::Beside;
use super::stage::{Limit, Stage, count, each, mib, p99_ratios};

pub(super) const NOTE: &str = "A hundred streams; every connection has a thousand subscriptions, ten to each \
     stream, and each of them a QUIC stream of its own. Then one record is published to every stream, and \
     the time runs until the last subscription has its copy. The requests beside them are GETs of 100 B on \
     another connection, 10,000 a second.";

/// Subscriptions of one connection.
const PER_CONNECTION: usize = 1000;

const _: () = assert!(PER_CONNECTION <= SUBSCRIPTIONS_MAX as usize);

/// Streams they are spread over.
const STREAMS: usize = 100;

/// Records a subscription may be sent: more than are published here, so that
/// no credit need be renewed.
const CREDIT_RECORDS: u32 = 1000;
const CREDIT_BYTES: u32 = 1 << 20;

/// Most resident memory of a subscription, KiB: its entry, its QUIC stream and
/// what that has in flight, and its share of the connection. A node with 16 GiB
/// then has room for a million, and half of it for data.
const KIB_MAX: f64 = 8.0;

/// Requests a second beside them.
const RATE: f64 = 10_000.0;

/// Requests that may be unanswered when a stall holds them up: the open loop
/// sends on, and an answer to one that was forgotten is a fault.
const LATE_MAX: u32 = 4096;

/// Most the p99 of others may grow beside silent subscriptions.
const P99_RATIO_MAX: f64 = 1.5;

const LOAD: CacheLoad = CacheLoad {
    keys: 1000,
    value_bytes: 100,
    get_share: 1.0,
};

pub(super) fn play(stage: &mut Stage<'_>) -> Result<(), BenchError> {
    let node = stage.start()?;
    let mut others = Rpc::new(node.config()?, 1, LATE_MAX, Ask::Cache(LOAD))?;
    let alone = stage.rounds("others alone", &node, |span| {
        open_loop(&mut others, RATE, span)
    })?;
    let limit = stage.limit;
    let mut client = NativeClient::new(node.admin()?)?;
    let link = client.connect(None, PATIENCE)?;
    let handles = open_streams(&mut client, link, &limit)?;

    let before = node.rss()?;
    let total = stage.sizes.subscriptions;
    let started = Instant::now();
    let config = node.admin()?;
    let connections = total.div_ceil(PER_CONNECTION);
    let mut crowd = Crowd::connect(&config, connections, &limit, || {
        others.turn(&mut Vec::new()).map(drop)
    })?;
    let mut subscribed = 0;
    crowd.each_link(|client, link, _| {
        let here = (total - subscribed).min(PER_CONNECTION);
        subscribed += here;
        subscribe_all(client, link, here, &limit)
    })?;
    let took = started.elapsed().as_secs_f64();
    let both = stage.rounds("others beside them", &node, |span| {
        let mut driver = Beside {
            driver: &mut others,
            background: &mut crowd,
        };
        open_loop(&mut driver, RATE, span)
    })?;
    let silent = node.rss()? - before;

    let mut delivered_in = Vec::new();
    let mut missing = Vec::new();
    for _ in 0..stage.sizes.rounds {
        let wanted = crowd.records() + total as u64;
        let started = Instant::now();
        stage.watched(&node, || {
            publish_to_each(&mut client, link, &handles, &limit)?;
            while crowd.records() + crowd.skipped() < wanted {
                crowd.turn()?;
                client.poll(Instant::now(), |_| {})?;
                limit.check(usize::try_from(wanted - crowd.records()).unwrap_or(usize::MAX))?;
            }
            Ok(())
        })?;
        delivered_in.push(started.elapsed().as_secs_f64() * 1e3);
        missing.push(crowd.skipped() as f64);
    }
    stage.told(
        format!("time to connect and subscribe {total} times"),
        "s",
        vec![took],
    );
    let delivered = node.rss()? - before;
    let each_kib = |bytes: f64| vec![bytes / count(total) / 1024.0];
    stage.told(
        "resident memory per subscription, before its first record",
        "KiB",
        each_kib(silent),
    );
    stage.held(
        "the same when each has been sent some",
        "KiB",
        each_kib(delivered),
        KIB_MAX,
    );
    stage.told("resident memory of the node", "MiB", vec![mib(node.rss()?)]);
    stage.held("records that were skipped", "", missing, 0.0);
    stage.told(
        "one record to every subscription, to the last",
        "ms",
        delivered_in,
    );
    stage.told("p99 of others alone", "µs", each(&alone, |s| s.p99_us));
    stage.held(
        "p99 of others beside silent subscriptions over that",
        "×",
        p99_ratios(&both, &alone)?,
        P99_RATIO_MAX,
    );
    Ok(())
}

fn stream_name(index: usize) -> String {
    format!("topic-{index:03}")
}

/// Opens every stream on one connection; they are declared by whoever is first.
fn open_streams(
    client: &mut NativeClient,
    link: LinkId,
    limit: &Limit,
) -> Result<Vec<Handle>, BenchError> {
    let mut handles = vec![Handle::default(); STREAMS];
    let spec = Some(Spec::ephemeral(1));
    ask_all(
        client,
        link,
        STREAMS,
        limit,
        |index, submit| {
            submit(&Request::Open(Open {
                kind: ResourceKind::Stream,
                namespace: NAMESPACE,
                name: &stream_name(index),
                spec,
            }))
        },
        |index, reply| match reply {
            Reply::Opened(opened) => {
                handles[index] = opened.handle;
                Ok(())
            }
            other => Err(unexpected("OPEN", other)),
        },
    )?;
    Ok(handles)
}

fn subscribe_all(
    client: &mut NativeClient,
    link: LinkId,
    here: usize,
    limit: &Limit,
) -> Result<(), BenchError> {
    let handles = open_streams(client, link, limit)?;
    ask_all(
        client,
        link,
        here,
        limit,
        |index, submit| {
            submit(&Request::Subscribe(Subscribe {
                handle: handles[index % STREAMS],
                partition: PartitionId(0),
                subscription: SubscriptionId(u32::try_from(index).unwrap_or(u32::MAX)),
                start: Start::Latest,
                overflow: None,
                backlog_max: 0,
                credit_records: CREDIT_RECORDS,
                credit_bytes: CREDIT_BYTES,
                filter: Filter::default(),
            }))
        },
        |_, reply| match reply {
            Reply::Subscribed(_) => Ok(()),
            other => Err(unexpected("SUBSCRIBE", other)),
        },
    )
}

fn publish_to_each(
    client: &mut NativeClient,
    link: LinkId,
    handles: &[Handle],
    limit: &Limit,
) -> Result<(), BenchError> {
    let record = records_of(1, &[0x5a; 100])?;
    ask_all(
        client,
        link,
        handles.len(),
        limit,
        |index, submit| {
            submit(&Request::Publish(Publish {
                handle: handles[index],
                partition: PartitionId(0),
                ack: Ack::Leader,
                producer: None,
                expected_offset: None,
                record_count: 1,
                records: &record,
            }))
        },
        |_, reply| match reply {
            Reply::Published(_) => Ok(()),
            other => Err(unexpected("PUBLISH", other)),
        },
    )
}
