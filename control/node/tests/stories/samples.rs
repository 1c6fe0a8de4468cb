//! What a core counts and times of requests.

use std::time::Duration;

use pinion_node::{Sample, TimedOp};
use pinion_types::ErrorCode;
use pinion_wire::message::{CacheGet, QueueTake, QueueWhy, Request};
use pinion_wire::opcode;

use super::queues::{declare, put};
use super::{done, publish};
use crate::harness::{ADMIN, World, batch};

fn samples(w: &mut World) -> Vec<Sample> {
    let cores = w.cores.iter_mut();
    cores
        .flat_map(|core| std::iter::from_fn(|| core.poll_sample()))
        .collect()
}

#[test]
fn a_request_is_timed_until_the_disk_or_another_core_has_answered() {
    for far in [false, true] {
        let mut w = World::two();
        let scene = super::Scene::new(&mut w, 0, ADMIN, far);
        samples(&mut w);
        let records = batch(&[b"a"]);
        let mut timed = 0;
        for _ in 0..1000 {
            let begun = w.now;
            let wanted = publish(scene.durable, scene.partition, &records);
            let asked = w.send(scene.id, &Request::Publish(wanted));
            w.core_turn(0);
            assert_eq!(samples(&mut w), [], "neither has answered yet");
            w.now = w.now + Duration::from_millis(3);
            w.settle();
            w.answer(scene.id, asked).unwrap();
            for sample in samples(&mut w) {
                assert_eq!((sample.op, sample.since), (TimedOp::Publish, begun));
                timed += 1;
            }
        }
        // One of 64, at uneven distances.
        assert!((5..40).contains(&timed), "far {far}: {timed}");
    }
}

#[test]
fn a_take_that_waits_because_it_asked_to_is_not_timed() {
    let mut w = World::one();
    let id = w.client(0, ADMIN);
    let queue = declare(&mut w, id, World::durable());
    samples(&mut w);
    let take = |wait_ms| {
        Request::QueueTake(QueueTake {
            handle: queue,
            partition: pinion_types::PartitionId(0),
            max_messages: 1,
            max_bytes: 1000,
            wait_ms,
            lease_ms: 0,
            group: "",
        })
    };
    for _ in 0..300 {
        let asked = w.send(id, &take(1000));
        w.settle();
        put(&mut w, id, queue, &[b"a"]);
        w.answer(id, asked).unwrap();
    }
    let puts = samples(&mut w);
    assert!(puts.iter().all(|sample| sample.op == TimedOp::QueuePut));
    for _ in 0..300 {
        done(&mut w, id, &take(0));
    }
    let at_once = samples(&mut w);
    assert!(!at_once.is_empty());
    assert!(at_once.iter().all(|sample| sample.op == TimedOp::QueueTake));
}

#[test]
fn requests_are_counted_by_name_and_refusals_by_code_where_they_came_in() {
    for far in [false, true] {
        let mut w = World::two();
        let scene = super::Scene::new(&mut w, 0, ADMIN, far);
        let before = w.cores[0].tally().clone();
        for _ in 0..3 {
            let get = CacheGet {
                handle: scene.cache,
                key: &scene.key,
            };
            done(&mut w, scene.id, &Request::CacheGet(get));
        }
        let refused = w.stats().refused;
        let nobody = QueueWhy {
            handle: scene.queue,
            partition: pinion_types::PartitionId(scene.partition),
            group: "nobody",
        };
        let answer = w.call(scene.id, &Request::QueueWhy(nobody));
        assert_eq!(answer.code(), Some(ErrorCode::UnknownGroup), "far {far}");
        let tally = w.cores[0].tally();
        let grown = |all: fn(&pinion_node::stats::Tally) -> &[u64], at: usize| {
            all(tally)[at] - all(&before)[at]
        };
        assert_eq!(grown(|t| &t.requests, opcode::CACHE_GET.into()), 3);
        assert_eq!(grown(|t| &t.requests, opcode::QUEUE_WHY.into()), 1);
        let code = ErrorCode::UnknownGroup as usize;
        assert_eq!(grown(|t| &t.refusals, code), 1, "far {far}");
        assert_eq!(w.stats().refused - refused, 1, "far {far}");
        assert_eq!(w.cores[1].tally().refusals[code], 0, "counted once");
    }
}
