//! Resources that are deleted, taken back, and purged; and what nobody declares.

use std::time::Duration;

use pinion_simkit::CrashMode;
use pinion_types::{CoreId, ErrorCode, PartitionId, ResourceKind, SubscriptionId};
use pinion_wire::message::{
    Handle, QueuePut, QueueSubscribe, QueueTake, Reply, Request, Spec, StreamInfo,
};
use pinion_wire::opcode::{self, REQUESTS};

use super::queues::{ack, put, take_in};
use super::{OPEN_SUB, Scene, done, fetch, lease, published, set, subscribe, watch};
use crate::harness::{ADMIN, Got, Id, Setup, World, batch};

const STREAM: ResourceKind = ResourceKind::Stream;
const QUEUE: ResourceKind = ResourceKind::Queue;
const CACHE: ResourceKind = ResourceKind::Cache;

#[track_caller]
fn ended(got: &[Got]) -> u64 {
    let [.., Got::End(end), Got::Fin] = got else {
        panic!("{got:?}")
    };
    assert_eq!(end.error(), Some(ErrorCode::ResourceClosed));
    end.next.0
}

fn try_declare(w: &mut World, id: Id, kind: ResourceKind, name: &str, spec: Spec) -> Handle {
    let answer = w.try_open(id, kind, name, Some(spec));
    match answer.reply() {
        Reply::Opened(opened) => opened.handle,
        other => panic!("{other:?}"),
    }
}

/// Records of a stream's first partition, and its end.
fn read(w: &mut World, id: Id, handle: Handle) -> (Vec<Vec<u8>>, u64) {
    let answer = done(w, id, &Request::Fetch(fetch(handle, 0, 0, 1 << 20)));
    let Reply::Fetched(fetched) = answer.reply() else {
        panic!("{answer:?}")
    };
    let mut records = Vec::new();
    for block in fetched.blocks() {
        let (_, bytes) = block.unwrap();
        let block = pinion_types::block::records(bytes);
        records.extend(block.map(|record| record.unwrap().value.to_vec()));
    }
    (records, fetched.end.0)
}

#[test]
fn what_is_deleted_serves_nobody_until_that_is_taken_back() {
    for far in [false, true] {
        let mut w = World::two();
        let scene = Scene::new(&mut w, 0, ADMIN, far);
        let id = scene.id;
        done(&mut w, id, &Request::CacheWatch(watch(scene.cache, 0, 1)));
        done(&mut w, id, &Request::CacheWatch(watch(scene.cache, 1, 2)));
        let fill = Request::CacheLease(lease(scene.cache, b"k", 10_000));
        done(&mut w, id, &fill);
        let filled = w.send(id, &fill);
        let queue = w.declare(id, QUEUE, "empty", 1);
        let push = Request::QueueSubscribe(QueueSubscribe {
            handle: queue,
            partition: PartitionId(0),
            subscription: SubscriptionId(3),
            lease_ms: 0,
            in_flight_max: 0,
            credit_records: 10,
            credit_bytes: 1 << 20,
            group: "pushed",
        });
        done(&mut w, id, &push);
        let take = Request::QueueTake(QueueTake {
            handle: queue,
            partition: PartitionId(0),
            max_messages: 1,
            max_bytes: 1 << 20,
            wait_ms: 30_000,
            lease_ms: 0,
            group: "",
        });
        let taken = w.send(id, &take);
        w.settle();

        let all = [(STREAM, "s"), (CACHE, "c"), (QUEUE, "empty")];
        let all = all.map(|(kind, name)| w.resource(kind, name));
        for resource in &all {
            w.delete(resource.id);
        }
        assert_eq!(ended(&w.got(id, OPEN_SUB)), 2, "where to resume");
        for subscription in [1, 2, 3] {
            ended(&w.got(id, subscription));
        }
        for waits in [filled, taken] {
            let answer = w.answer(id, waits).expect("told");
            assert_eq!(answer.code(), Some(ErrorCode::ResourceClosed));
        }
        let (at, key) = (scene.partition, scene.key.clone());
        let records = batch(&[b"no"]);
        let publish = Request::Publish(super::publish(scene.stream, at, &records));
        let set = Request::CacheSet(set(scene.cache, &key, b"no"));
        let info = Request::StreamInfo(StreamInfo {
            handle: scene.stream,
            partition: PartitionId(at),
        });
        for request in [&publish, &set, &info, &take, &push] {
            w.assert_refused(id, request, ErrorCode::ResourceClosed);
        }
        // Its name is nobody's, and not free either; a new table of access changes nothing.
        let other = w.client(1, ADMIN);
        let opened = w.try_open(other, STREAM, "s", None);
        assert_eq!(opened.code(), Some(ErrorCode::ResourceClosed));
        w.tell(|| pinion_node::mail::CoreMail::Access(crate::harness::table().into()));
        w.assert_refused(id, &publish, ErrorCode::ResourceClosed);

        for resource in &all {
            w.undelete(resource);
        }
        for request in [&publish, &set, &info] {
            done(&mut w, id, request);
        }
        let again = Request::Subscribe(subscribe(scene.stream, at, OPEN_SUB));
        done(&mut w, id, &again);
        assert_eq!(w.got(id, OPEN_SUB).len(), 3, "two of before and one");
        put(&mut w, id, queue, &[b"work"]);
        assert_eq!(
            take_in(&mut w, id, queue, "", 1).len(),
            1,
            "nobody else has it"
        );
    }
}

#[test]
fn nothing_of_what_is_deleted_changes_by_itself() {
    let mut w = World::one();
    let id = w.client(0, ADMIN);
    let short = Spec {
        retention_ms: 1000,
        ..World::durable()
    };
    let stream = try_declare(&mut w, id, STREAM, "s", short);
    let queue = try_declare(&mut w, id, QUEUE, "q", World::durable());
    published(&mut w, id, stream, 0, &[b"kept"]);
    put(&mut w, id, queue, &[b"kept"]);
    let taken = take_in(&mut w, id, queue, "", 1);
    let all = [w.resource(STREAM, "s"), w.resource(QUEUE, "q")];
    for resource in &all {
        w.delete(resource.id);
    }
    let flushes = w.disks[0].stats();
    for _ in 0..10 {
        w.advance(Duration::from_secs(10));
    }
    assert_eq!(w.disks[0].stats(), flushes, "nothing is written");
    for resource in &all {
        w.undelete(resource);
    }
    assert_eq!(read(&mut w, id, stream).0, [b"kept"]);
    // What was reserved ran out meanwhile; it was not settled.
    w.advance(Duration::from_secs(1));
    let again = take_in(&mut w, id, queue, "", 1);
    assert_eq!((again.len(), again[0].0), (1, taken[0].0));
}

/// A stream and a queue that go, and a stream and a queue that stay; the handle is
/// that of the stream that goes.
fn kept(w: &mut World) -> (Id, Handle) {
    let id = w.client(0, ADMIN);
    let mut both = |kind, name: &str| try_declare(w, id, kind, name, World::durable());
    let (stays, goes) = (both(STREAM, "stays"), both(STREAM, "goes"));
    let (queue_stays, queue_goes) = (both(QUEUE, "qstays"), both(QUEUE, "qgoes"));
    for round in 0..3 {
        for stream in [stays, goes] {
            published(w, id, stream, 0, &[&[round; 100], b"x"]);
        }
        for queue in [queue_stays, queue_goes] {
            put(w, id, queue, &[&[round; 100]]);
        }
    }
    let taken = take_in(w, id, queue_stays, "", 1);
    ack(w, id, queue_stays, &[taken[0].2]);
    (id, goes)
}

#[track_caller]
fn stayed(w: &mut World, id: Id) {
    let stream = w.open(id, STREAM, "stays");
    assert_eq!(read(w, id, stream).1, 6);
    let queue = w.open(id, QUEUE, "qstays");
    let ids: Vec<u64> = take_in(w, id, queue, "", 10)
        .iter()
        .map(|one| one.0)
        .collect();
    assert_eq!(ids, [1, 2]);
}

#[test]
fn a_purge_holds_over_every_crash_once_it_is_reported() {
    for mode in [CrashMode::DropUnsynced, CrashMode::Clean] {
        let mut w = World::one();
        let (id, goes) = kept(&mut w);
        let gone = [w.resource(STREAM, "goes"), w.resource(QUEUE, "qgoes")];
        // Deleted, and the node crashes: nothing is lost by that.
        for resource in &gone {
            w.delete(resource.id);
        }
        w.assert_refused(
            id,
            &Request::Fetch(fetch(goes, 0, 0, 1024)),
            ErrorCode::ResourceClosed,
        );
        w.crash(mode);
        let id = w.client(0, ADMIN);
        let answer = w.try_open(id, STREAM, "goes", None);
        assert_eq!(answer.code(), Some(ErrorCode::ResourceClosed));
        w.undelete(&gone[0]);
        let stream = w.open(id, STREAM, "goes");
        assert_eq!(read(&mut w, id, stream).1, 6);

        // Purged, and told so only when the disk has it.
        for resource in &gone {
            w.purge(resource.id);
        }
        w.settle();
        let told: Vec<_> = gone.iter().map(|one| (CoreId(0), one.id)).collect();
        assert_eq!(w.purged, told);
        w.assert_refused(
            id,
            &Request::Fetch(fetch(stream, 0, 0, 1024)),
            ErrorCode::ResourceClosed,
        );
        // Asked for again, it is so already.
        w.purge(gone[0].id);
        w.settle();
        assert_eq!(w.purged.len(), 3);
        for _ in 0..2 {
            w.crash(mode);
            let id = w.client(0, ADMIN);
            stayed(&mut w, id);
            assert_eq!(w.orphans, 0, "nothing of it is found");
        }
        // Metadata that is older than the purge does not mix old and new.
        w.find_metadata(gone[0].id);
        w.crash(mode);
        let id = w.client(0, ADMIN);
        let stream = w.open(id, STREAM, "goes");
        let publish = batch(&[b"new"]);
        let publish = Request::Publish(super::publish(stream, 0, &publish));
        w.assert_refused(id, &publish, ErrorCode::ResourceClosed);
    }
}

#[test]
fn a_purge_that_was_not_reported_is_made_again_or_was_made() {
    let mut w = World::new(Setup {
        disk_latency: Duration::from_millis(5),
        ..Setup::default()
    });
    let id = w.client(0, ADMIN);
    let spec = World::durable();
    w.send(
        id,
        &Request::Open(pinion_wire::message::Open {
            kind: STREAM,
            namespace: "n",
            name: "goes",
            spec: Some(spec),
        }),
    );
    wait(&mut w);
    let stream = w.open(id, STREAM, "goes");
    let records = batch(&[b"gone"]);
    let published = w.send(id, &Request::Publish(super::publish(stream, 0, &records)));
    wait(&mut w);
    assert_eq!(w.answer(id, published).expect("on the disk").code(), None);
    let gone = w.resource(STREAM, "goes");
    w.purge(gone.id);
    w.settle();
    assert!(w.purged.is_empty(), "the disk has not got it");
    w.crash(CrashMode::DropUnsynced);
    assert_eq!(w.orphans, 1, "what nobody declares is kept");
    // The metadata has its tombstone and asks again.
    w.purge(gone.id);
    wait(&mut w);
    assert_eq!(w.purged, [(CoreId(0), gone.id)]);
    w.crash(CrashMode::DropUnsynced);
    assert_eq!(w.orphans, 0);
}

/// Until a disk that takes its time has nothing more to do.
fn wait(w: &mut World) {
    for _ in 0..20 {
        w.advance(Duration::from_millis(5));
    }
}

#[test]
fn what_is_purged_makes_room() {
    let mut w = World::new(Setup {
        segment_bytes: 1 << 20,
        ..Setup::default()
    });
    let id = w.client(0, ADMIN);
    let goes = try_declare(&mut w, id, STREAM, "goes", World::durable());
    let queue = try_declare(&mut w, id, QUEUE, "qgoes", World::durable());
    let large = vec![7; 60_000];
    for _ in 0..100 {
        published(&mut w, id, goes, 0, &[&large]);
        put(&mut w, id, queue, &[&large]);
    }
    let before = disk_bytes(&w);
    assert!(before > 12_000_000, "{before}");
    for (kind, name) in [(STREAM, "goes"), (QUEUE, "qgoes")] {
        let gone = w.resource(kind, name);
        w.purge(gone.id);
    }
    w.settle();
    assert_eq!(w.purged.len(), 2);
    // Segments go when a checkpoint does not need them any more.
    let stays = try_declare(&mut w, id, STREAM, "stays", World::durable());
    for _ in 0..50 {
        published(&mut w, id, stays, 0, &[&large]);
        w.advance(Duration::from_secs(1));
    }
    let after = disk_bytes(&w);
    assert!(after < before, "{after} of {before}");
    w.crash(CrashMode::DropUnsynced);
    assert_eq!(w.orphans, 0);
    let id = w.client(0, ADMIN);
    let stays = w.open(id, STREAM, "stays");
    assert_eq!(read(&mut w, id, stays).1, 50);
}

fn disk_bytes(w: &World) -> u64 {
    let logs = w.cores[0].log_stats();
    logs.map(|(_, stats)| stats.disk_bytes).sum()
}

#[test]
fn what_nobody_declares_is_kept_through_checkpoints_and_serves_nobody() {
    let mut w = World::new(Setup {
        segment_bytes: 1 << 20,
        ..Setup::default()
    });
    kept(&mut w);
    let lost = [w.resource(STREAM, "goes"), w.resource(QUEUE, "qgoes")];
    for resource in &lost {
        w.lose_metadata(resource.id);
    }
    let large = vec![7; 60_000];
    for _ in 0..3 {
        w.crash(CrashMode::DropUnsynced);
        assert_eq!(w.orphans, 2);
        // So much that checkpoints are made and segments go.
        let id = w.client(0, ADMIN);
        let other = World::durable();
        let other = Spec {
            retention_bytes: 1_000_000,
            ..other
        };
        let stream = try_declare(&mut w, id, STREAM, "busy", other);
        for _ in 0..60 {
            published(&mut w, id, stream, 0, &[&large]);
            w.advance(Duration::from_secs(1));
        }
    }
    // Declared while it serves nobody: not before the next start, and never empty.
    let id = w.client(0, ADMIN);
    for resource in &lost {
        w.find_metadata(resource.id);
    }
    let again: Vec<_> = lost.to_vec();
    for resource in &again {
        w.undelete(resource);
    }
    let stream = w.open(id, STREAM, "goes");
    w.assert_refused(
        id,
        &Request::Fetch(fetch(stream, 0, 0, 1024)),
        ErrorCode::ResourceClosed,
    );
    w.crash(CrashMode::DropUnsynced);
    assert_eq!(w.orphans, 0);
    let id = w.client(0, ADMIN);
    stayed(&mut w, id);
    let stream = w.open(id, STREAM, "goes");
    let (records, end) = read(&mut w, id, stream);
    assert_eq!((records.len(), end), (6, 6));
    assert_eq!(records[4], [2; 100]);
    let queue = w.open(id, QUEUE, "qgoes");
    let ids: Vec<u64> = take_in(&mut w, id, queue, "", 10)
        .iter()
        .map(|one| one.0)
        .collect();
    assert_eq!(ids, [0, 1, 2]);
}

#[test]
fn a_purge_outlives_the_checkpoints_as_long_as_records_of_it_lie_around() {
    let mut w = World::new(Setup {
        segment_bytes: 1 << 20,
        ..Setup::default()
    });
    let (id, _) = kept(&mut w);
    let gone = w.resource(STREAM, "goes");
    w.purge(gone.id);
    let large = vec![7; 60_000];
    let stays = w.open(id, STREAM, "stays");
    // Its records share a segment with others, and checkpoints go by.
    for _ in 0..40 {
        published(&mut w, id, stays, 0, &[&large]);
        w.advance(Duration::from_secs(1));
    }
    assert_eq!(w.purged, [(CoreId(0), gone.id)]);
    w.crash(CrashMode::DropUnsynced);
    assert_eq!(w.orphans, 0);
    w.find_metadata(gone.id);
    w.crash(CrashMode::DropUnsynced);
    let id = w.client(0, ADMIN);
    let stream = w.open(id, STREAM, "goes");
    let fetch = Request::Fetch(fetch(stream, 0, 0, 1024));
    w.assert_refused(id, &fetch, ErrorCode::ResourceClosed);
}

#[test]
fn what_is_under_way_when_its_resource_is_purged_is_answered() {
    let mut w = World::new(Setup {
        disk_latency: Duration::from_millis(5),
        ..Setup::default()
    });
    let id = w.client(0, ADMIN);
    let stream = try_declare(&mut w, id, STREAM, "goes", World::durable());
    let queue = try_declare(&mut w, id, QUEUE, "qgoes", World::durable());
    let records = batch(&[b"gone"]);
    let publish = Request::Publish(super::publish(stream, 0, &records));
    let put = Request::QueuePut(QueuePut {
        handle: queue,
        partition: PartitionId(0),
        producer: None,
        delay_ms: 0,
        ttl_ms: 0,
        record_count: 1,
        records: &records,
    });
    let asked = [w.send(id, &publish), w.send(id, &put)];
    w.settle();
    for (kind, name) in [(STREAM, "goes"), (QUEUE, "qgoes")] {
        let gone = w.resource(kind, name);
        w.purge(gone.id);
    }
    w.settle();
    for asked in asked {
        assert!(w.answer(id, asked).is_none(), "the disk has not got it");
    }
    wait(&mut w);
    // They were written, and then they were gone.
    for asked in asked {
        let answer = w.answer(id, asked).expect("answered");
        assert_eq!(answer.code(), None);
    }
    assert_eq!(w.purged.len(), 2);
    for request in [&publish, &put] {
        let asked = w.send(id, request);
        w.settle();
        let answer = w.answer(id, asked).expect("answered");
        assert_eq!(answer.code(), Some(ErrorCode::ResourceClosed));
    }
}

#[test]
fn every_request_about_a_deleted_resource_says_so() {
    for far in [false, true] {
        for entry in REQUESTS {
            let mut w = World::two();
            let scene = Scene::new(&mut w, 0, ADMIN, far);
            for (kind, name) in [(STREAM, "s"), (CACHE, "c"), (STREAM, "d"), (QUEUE, "q")] {
                let resource = w.resource(kind, name);
                w.delete(resource.id);
            }
            let about_none = [
                opcode::HELLO,
                opcode::PING,
                opcode::OPEN,
                opcode::CREDIT,
                opcode::UNSUBSCRIBE,
            ];
            if about_none.contains(&entry.opcode) {
                continue;
            }
            let stream = w.clients[scene.id].first_stream();
            w.send_bytes(scene.id, stream, &scene.sample(entry.opcode, 7777));
            w.settle();
            let answer = w.answer(scene.id, 7777).expect("answered");
            let code = answer.code();
            assert_eq!(
                code,
                Some(ErrorCode::ResourceClosed),
                "{}, far {far}",
                entry.name
            );
            assert_eq!(w.closed(scene.id), None);
        }
    }
}
