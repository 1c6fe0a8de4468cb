//! Resources that are to be otherwise while they serve, and such as are declared over
//! what a log has of before.

use std::time::Duration;

use pinion_node::views::{Question, View};
use pinion_simkit::CrashMode;
use pinion_types::{CoreId, ErrorCode, FactId, PartitionId, ResourceKind};
use pinion_wire::message::{
    Handle, QueueNack, QueuePut, QueueSpec, Reply, Request, Spec, StreamInfo, TokenList,
};

use super::queues::{declare, put, spec, take_in};
use super::{Scene, done, publish, published, set};
use crate::harness::{ADMIN, Id, World, batch};

const STREAM: ResourceKind = ResourceKind::Stream;
const QUEUE: ResourceKind = ResourceKind::Queue;
const CACHE: ResourceKind = ResourceKind::Cache;

/// Where a stream's partition begins and ends.
fn range(w: &mut World, id: Id, handle: Handle) -> (u64, u64) {
    let info = StreamInfo {
        handle,
        partition: PartitionId(0),
    };
    let answer = done(w, id, &Request::StreamInfo(info));
    let Reply::StreamStatus(status) = answer.reply() else {
        panic!("{answer:?}")
    };
    (status.first_available.0, status.end.0)
}

#[test]
fn a_shorter_retention_is_kept_to_without_a_start() {
    let mut w = World::one();
    let id = w.client(0, ADMIN);
    let day = Spec {
        retention_ms: 86_400_000,
        ..World::spec(1)
    };
    w.try_open(id, STREAM, "s", Some(day));
    let stream = w.open(id, STREAM, "s");
    for _ in 0..3 {
        published(&mut w, id, stream, 0, &[b"one"]);
    }
    w.advance(Duration::from_secs(60));
    assert_eq!(range(&mut w, id, stream), (0, 3));
    let is = w.resource(STREAM, "s");
    let short = Spec {
        retention_ms: 5_000,
        ..is.spec
    };
    let is = w.change(is.id, short);
    w.advance(Duration::from_secs(1));
    assert_eq!(range(&mut w, id, stream), (3, 3), "all of it was too old");
    // None at all is a change, too.
    published(&mut w, id, stream, 0, &[b"kept"]);
    let ever = Spec {
        retention_ms: 0,
        ..is.spec
    };
    w.change(is.id, ever);
    w.advance(Duration::from_secs(3600));
    assert_eq!(range(&mut w, id, stream), (3, 4));
}

#[test]
fn fewer_bytes_are_kept_of_a_durable_stream_without_a_start() {
    let mut w = World::one();
    let id = w.client(0, ADMIN);
    w.try_open(id, STREAM, "s", Some(World::durable()));
    let stream = w.open(id, STREAM, "s");
    let large = vec![7; 256 << 10];
    for _ in 0..40 {
        published(&mut w, id, stream, 0, &[&large]);
    }
    w.advance(Duration::from_secs(5));
    assert_eq!(range(&mut w, id, stream), (0, 40));
    let is = w.resource(STREAM, "s");
    let less = Spec {
        retention_bytes: 1 << 20,
        ..is.spec
    };
    w.change(is.id, less);
    w.advance(Duration::from_secs(2));
    let (first, end) = range(&mut w, id, stream);
    assert!(first >= 30 && end == 40, "{first}");
}

#[test]
fn open_handles_go_by_what_is_in_force_near_and_far() {
    for far in [false, true] {
        let mut w = World::two();
        let scene = Scene::new(&mut w, 0, ADMIN, far);
        let id = scene.id;
        let records = batch(&[&[1; 600]]);
        let long = Request::Publish(publish(scene.stream, scene.partition, &records));
        let value = [2; 600];
        let large = Request::CacheSet(set(scene.cache, &scene.key, &value));
        done(&mut w, id, &long);
        done(&mut w, id, &large);
        for (kind, name) in [(STREAM, "s"), (CACHE, "c")] {
            let is = w.resource(kind, name);
            let less = Spec {
                max_record_bytes: 500,
                ..is.spec
            };
            w.change(is.id, less);
        }
        for (request, code) in [
            (&long, ErrorCode::RecordTooLarge),
            (&large, ErrorCode::ValueTooLarge),
        ] {
            let refusal = w.refused(id, request);
            assert_eq!(refusal.code, code);
            assert_eq!(refusal.fact(FactId::Limit), Some(500));
        }
        // A handle that is opened now is told of it, and so is who opens again.
        let answer = w.try_open(id, STREAM, "s", None);
        let Reply::Opened(opened) = answer.reply() else {
            panic!("{answer:?}")
        };
        assert_eq!(opened.spec.max_record_bytes, 500);
        // What is deleted meanwhile is otherwise when that is taken back.
        let is = w.resource(STREAM, "s");
        w.delete(is.id);
        let more = Spec {
            max_record_bytes: 1000,
            ..is.spec
        };
        let now = w.change(is.id, more);
        w.undelete(&now);
        done(&mut w, id, &long);
    }
}

#[test]
fn a_queues_policies_change_for_what_is_in_it() {
    let mut w = World::one();
    let id = w.client(0, ADMIN);
    let patient = QueueSpec {
        max_attempts: 10,
        backoff_min_ms: 60_000,
        backoff_max_ms: 60_000,
        ..QueueSpec::UNSET
    };
    let queue = declare(&mut w, id, spec(patient));
    put(&mut w, id, queue, &[b"a", b"b"]);
    let is = w.resource(QUEUE, "q");
    let strict = Spec {
        queue: QueueSpec {
            max_attempts: 1,
            visibility_ms: 1_000,
            messages_max: 2,
            ..is.spec.queue
        },
        ..is.spec
    };
    w.change(is.id, strict);
    // It is full by its new bound.
    let records = batch(&[b"c"]);
    let more = Request::QueuePut(QueuePut {
        handle: queue,
        partition: PartitionId(0),
        producer: None,
        delay_ms: 0,
        ttl_ms: 0,
        record_count: 1,
        records: &records,
    });
    w.assert_refused(id, &more, ErrorCode::QueueFull);
    // One failure is enough now, and a reservation is as long as it is now.
    let taken = take_in(&mut w, id, queue, "", 2);
    let mut scratch = Vec::new();
    let nack = Request::QueueNack(QueueNack {
        handle: queue,
        partition: PartitionId(0),
        delay_ms: None,
        error: "no",
        group: "",
        tokens: TokenList::build(&mut scratch, [taken[0].2]).unwrap(),
    });
    done(&mut w, id, &nack);
    w.advance(Duration::from_millis(1_100));
    let View::Partitions(page) = w.ask(
        0,
        Question::Partitions {
            after: None,
            kind: None,
        },
    ) else {
        panic!("no page")
    };
    let (_, first) = page.iter().next().unwrap();
    let groups = first.queue().unwrap().groups;
    assert_eq!((groups.dead, groups.in_flight), (2, 0), "{groups:?}");
}

#[test]
fn a_resource_over_data_of_before_is_told_to_people() {
    let mut w = World::one();
    let id = w.client(0, ADMIN);
    w.try_open(id, STREAM, "s", Some(World::durable()));
    let stream = w.open(id, STREAM, "s");
    published(&mut w, id, stream, 0, &[b"of before"]);
    let is = w.resource(STREAM, "s");
    w.lose_metadata(is.id);
    w.crash(CrashMode::DropUnsynced);
    assert_eq!(w.orphans, 1);
    w.declare_again(&is);
    assert_eq!(w.barred, [(CoreId(0), is.id, 1)]);
    w.declare_again(&is);
    assert_eq!(w.barred.len(), 1, "once");
    let barred = |w: &mut World| match w.ask(0, Question::Core) {
        View::Core(facts) => facts.barred,
        other => panic!("{other:?}"),
    };
    assert_eq!(barred(&mut w), 1);
    w.find_metadata(is.id);
    w.crash(CrashMode::DropUnsynced);
    assert_eq!(barred(&mut w), 0, "the start serves it");
}
