//! The drivers of what is durable against a node that keeps count.

#![allow(clippy::unwrap_used, reason = "a test")]

mod fake_node;

use std::sync::atomic::Ordering;
use std::time::Duration;

use fake_node::{FakeNode, STREAM_RECORDS, VALUE_BYTES};
use pinion_cli::bench::acked::{AckedPublish, Publishes};
use pinion_cli::bench::measure::{BenchError, Span, closed_loop, open_loop};
use pinion_cli::bench::queue::{QueueCycle, QueueLoad};
use pinion_cli::bench::replay::{self, Beside, Replay};
use pinion_cli::bench::target::one_partition;
use pinion_types::block::RECORD_HEADER_BYTES;
use pinion_wire::message::Durability;

const SPAN: Span = Span {
    warmup: Duration::from_millis(20),
    measured: Duration::from_millis(200),
};

fn publishes(records: u32) -> Publishes {
    Publishes {
        stream: "s".to_owned(),
        spec: Some(one_partition(true)),
        record_bytes: 256,
        records,
        durability: Durability::Disk,
    }
}

#[test]
fn publishes_are_completed_by_their_acknowledgements_and_refused_ones_are_sent_again() {
    let node = FakeNode::start(Durability::Disk);
    let mut driver = AckedPublish::new(node.config(), publishes(10)).expect("a node");
    let run = closed_loop(&mut driver, 16, SPAN).expect("answers");
    assert!(run.completed > 16, "{}", run.completed);
    assert!(driver.acked_records() >= run.completed * 10);
    // Two of three are taken; nothing was given up.
    let sent = node.seen.publishes.load(Ordering::Relaxed);
    assert!(driver.refusals() >= sent / 3, "{sent} sent");
    assert_eq!(driver.acked_records(), (sent - driver.refusals()) * 10);
    assert_eq!(driver.status().expect("an answer").end.0, STREAM_RECORDS);
}

#[test]
fn an_acknowledgement_from_memory_is_no_figure_of_a_durable_stream() {
    let node = FakeNode::start(Durability::Memory);
    let mut driver = AckedPublish::new(node.config(), publishes(1)).expect("a node");
    let refused = closed_loop(&mut driver, 1, SPAN).expect_err("a weaker promise");
    assert!(
        matches!(refused, BenchError::Unexpected { .. }),
        "{refused}"
    );
}

#[test]
fn every_message_of_a_cycle_is_put_once_and_acknowledged_once() {
    let node = FakeNode::start(Durability::Disk);
    let load = QueueLoad {
        producers: 4,
        consumers: 3,
        puts: 1,
        take: 5,
        message_bytes: 100,
    };
    let spec = one_partition(true);
    let mut driver = QueueCycle::new(node.config(), "q", spec, &load).expect("a node");
    let run = closed_loop(&mut driver, 8, SPAN).expect("answers");
    assert!(run.completed > 32, "{}", run.completed);
    // The loop ended with everything that was in flight drained.
    let (puts, acks) = (
        node.seen.puts.load(Ordering::Relaxed),
        node.seen.acks.load(Ordering::Relaxed),
    );
    assert_eq!(puts, acks);
    assert!(acks >= run.completed, "{acks} acks");
    assert_eq!(node.seen.bad_acks.load(Ordering::Relaxed), 0);
}

#[test]
fn a_queue_that_answers_from_memory_is_no_figure_of_a_durable_one() {
    let node = FakeNode::start(Durability::Memory);
    let load = QueueLoad {
        producers: 1,
        consumers: 1,
        puts: 1,
        take: 1,
        message_bytes: 12,
    };
    let mut driver =
        QueueCycle::new(node.config(), "q", one_partition(true), &load).expect("a node");
    assert!(closed_loop(&mut driver, 1, SPAN).is_err());
    let node = FakeNode::start(Durability::Memory);
    let mut driver =
        QueueCycle::new(node.config(), "q", one_partition(false), &load).expect("a node");
    closed_loop(&mut driver, 1, SPAN).expect("that is what was asked for");
}

#[test]
fn a_replay_begins_again_at_the_end_and_counts_bytes_of_records() {
    let node = FakeNode::start(Durability::Disk);
    let mut replay = Replay::new(node.config(), "s").expect("a node");
    let run = replay::read(&mut replay, SPAN).expect("records");
    let whole = STREAM_RECORDS * (VALUE_BYTES + RECORD_HEADER_BYTES) as u64;
    assert!(run.completed > whole, "{} bytes", run.completed);
    assert!(node.seen.subscriptions.load(Ordering::Relaxed) > 1);
    assert_eq!(replay.bytes() % (whole / STREAM_RECORDS), 0);
    assert_eq!((replay.lost(), run.lost), (0, 0));
}

#[test]
fn publishes_on_a_schedule_go_on_beside_a_replay() {
    let node = FakeNode::start(Durability::Disk);
    let mut replay = Replay::new(node.config(), "s").expect("a node");
    let mut both = Beside {
        driver: AckedPublish::new(node.config(), publishes(1)).expect("a node"),
        replay: Some(&mut replay),
    };
    let run = open_loop(&mut both, 200.0, SPAN).expect("answers");
    // 220 ms at 200 a second are 44; those of the warm-up do not count.
    assert_eq!((run.completed, run.lost), (40, 0));
    assert!(replay.bytes() > 0);
}
