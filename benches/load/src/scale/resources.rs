//! A hundred thousand streams and queues on one node.

use std::time::Instant;

use pinion_cli::bench::acked::{AckedPublish, Publishes};
use pinion_cli::bench::measure::{BenchError, closed_loop};
use pinion_cli::bench::target::{NAMESPACE, PATIENCE, records_of, unexpected};
use pinion_client::native::{LinkId, NativeClient};
use pinion_types::limits::HANDLES_MAX;
use pinion_types::{PartitionId, ResourceKind};
use pinion_wire::message::{
    Ack, Durability, Handle, Open, Publish, QueuePut, Reply, Request, Spec,
};

use super::ask::ask_all;
use super::stage::{Limit, Stage, each, mib, p99_ratios};

pub(super) const NOTE: &str = "Every other one is a queue; each has one partition in memory and one record or \
     message. Those with a log are measured by `suite log`. The publishes are of 256 B, one in flight, to a \
     stream in the middle: first when there are ten, then when there are all.";

/// Resources one connection declares: below the handles it may have.
const PER_CONNECTION: usize = 4000;

const _: () = assert!(PER_CONNECTION <= HANDLES_MAX as usize);

/// Resources of the control.
const FEW: usize = 10;

/// Bytes each may keep: the least there is, so that the memory a node promises
/// (half of the machine's) is enough for all.
const RING_BYTES: u64 = 64 << 10;

/// Most resident memory with all of them, MiB: what `suite log` allows for as
/// many streams with a log.
const RSS_MAX_MIB: f64 = 1024.0;

/// Most the p99 of a publish may grow with their number.
const P99_RATIO_MAX: f64 = 1.5;

const SPEC: Spec = Spec {
    ring_bytes: RING_BYTES,
    ..Spec::ephemeral(1)
};

pub(super) fn play(stage: &mut Stage<'_>) -> Result<(), BenchError> {
    let node = stage.start()?;
    let total = stage.sizes.resources;
    let limit = stage.limit;
    let mut client = NativeClient::new(node.admin()?)?;
    declare(&mut client, 0..FEW, &limit)?;
    let mut few = publisher(node.admin()?, FEW / 2)?;
    let alone = stage.rounds("with ten", &node, |span| closed_loop(&mut few, 1, span))?;
    let started = Instant::now();
    declare(&mut client, FEW..total, &limit)?;
    let took = started.elapsed().as_secs_f64();
    let mut many = publisher(node.admin()?, total / 2)?;
    let all = stage.rounds("with all", &node, |span| closed_loop(&mut many, 1, span))?;
    stage.told(
        format!("time to declare {total} and put something in each"),
        "s",
        vec![took],
    );
    stage.held(
        "resident memory with all",
        "MiB",
        vec![mib(node.rss()?)],
        RSS_MAX_MIB,
    );
    stage.told(
        "p99 of a publish with ten",
        "µs",
        each(&alone, |s| s.p99_us),
    );
    stage.held(
        "p99 of a publish with all over that",
        "×",
        p99_ratios(&all, &alone)?,
        P99_RATIO_MAX,
    );
    Ok(())
}

const fn kind(index: usize) -> ResourceKind {
    if index.is_multiple_of(2) {
        ResourceKind::Stream
    } else {
        ResourceKind::Queue
    }
}

/// What the one of this index is called.
pub(crate) fn name(index: usize) -> String {
    format!("one-of-many-{index:06}")
}

/// A publisher into the first stream at or after `index`.
fn publisher(
    config: pinion_client::native::NativeConfig,
    index: usize,
) -> Result<AckedPublish, BenchError> {
    AckedPublish::new(
        config,
        Publishes {
            stream: name(index.next_multiple_of(2)),
            spec: None,
            record_bytes: 256,
            records: 1,
            durability: Durability::Memory,
        },
    )
}

/// Declares those of `range`, and puts one record or message into each.
///
/// # Errors
/// The node refuses, or does not answer within `limit`.
pub(crate) fn declare(
    client: &mut NativeClient,
    range: std::ops::Range<usize>,
    limit: &Limit,
) -> Result<(), BenchError> {
    let mut start = range.start;
    while start < range.end {
        let end = range.end.min(start + PER_CONNECTION);
        let link = client.connect(None, PATIENCE)?;
        let handles = open(client, link, start..end, limit)?;
        put(client, link, start, &handles, limit)?;
        client.close(link);
        client.flush(Instant::now())?;
        start = end;
    }
    Ok(())
}

fn open(
    client: &mut NativeClient,
    link: LinkId,
    range: std::ops::Range<usize>,
    limit: &Limit,
) -> Result<Vec<Handle>, BenchError> {
    let first = range.start;
    let mut handles = vec![Handle::default(); range.len()];
    ask_all(
        client,
        link,
        range.len(),
        limit,
        |index, submit| {
            submit(&Request::Open(Open {
                kind: kind(first + index),
                namespace: NAMESPACE,
                name: &name(first + index),
                spec: Some(SPEC),
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

/// One record into each stream, one message into each queue.
fn put(
    client: &mut NativeClient,
    link: LinkId,
    first: usize,
    handles: &[Handle],
    limit: &Limit,
) -> Result<(), BenchError> {
    let record = records_of(1, b"one")?;
    ask_all(
        client,
        link,
        handles.len(),
        limit,
        |index, submit| match kind(first + index) {
            ResourceKind::Queue => submit(&Request::QueuePut(QueuePut {
                handle: handles[index],
                partition: PartitionId(0),
                producer: None,
                delay_ms: 0,
                ttl_ms: 0,
                record_count: 1,
                records: &record,
            })),
            _ => submit(&Request::Publish(Publish {
                handle: handles[index],
                partition: PartitionId(0),
                ack: Ack::Leader,
                producer: None,
                expected_offset: None,
                record_count: 1,
                records: &record,
            })),
        },
        |_, reply| match reply {
            Reply::Published(_) | Reply::Enqueued(_) => Ok(()),
            other => Err(unexpected("PUBLISH or QUEUE_PUT", other)),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_published_to_is_a_stream() {
        for total in [FEW, 10_000, 10_002, 100_000] {
            let chosen = (total / 2).next_multiple_of(2);
            assert_eq!(kind(chosen), ResourceKind::Stream);
            assert!(chosen < total, "{chosen} of {total}");
        }
    }
}
